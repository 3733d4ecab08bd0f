//! A price file that may change: a mounted ConfigMap, whose files are links that are swapped all at once.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::Prices;

/// Largest price file, in bytes. A ConfigMap holds less.
const MOST_BYTES: usize = 1 << 20;

/// The prices in a file, and how far the file as it is now can be used.
#[derive(Debug)]
pub struct PriceFile {
    path: PathBuf,
    /// What was read last; `None`: nothing yet.
    seen: Option<Vec<u8>>,
    prices: Prices,
    problem: Option<String>,
}

/// What reading a price file again came to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// It is as it was.
    Unchanged,
    /// It has new prices.
    Changed,
    /// It can't be used, for a reason that is new: the older prices stay.
    Refused,
}

impl PriceFile {
    /// A file that has not been read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        PriceFile { path: path.into(), seen: None, prices: Prices::default(), problem: None }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The newest prices that could be used.
    pub fn prices(&self) -> &Prices {
        &self.prices
    }

    /// Why the file as it is now can't be used, with its name; `None`: it can.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Takes in what was read from the file just now.
    pub fn refresh(&mut self, read: io::Result<Vec<u8>>) -> Refreshed {
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(error) => {
                // Once it can be read again it is new, whatever it holds.
                self.seen = None;
                return self.refuse(&error.to_string());
            }
        };
        if self.seen.as_ref() == Some(&bytes) {
            return Refreshed::Unchanged;
        }
        let parsed = parse(&bytes);
        self.seen = Some(bytes);
        match parsed {
            Ok(prices) => {
                self.problem = None;
                self.prices = prices;
                Refreshed::Changed
            }
            Err(problem) => self.refuse(&problem),
        }
    }

    fn refuse(&mut self, problem: &str) -> Refreshed {
        let problem = format!("{}: {problem}", self.path.display());
        if self.problem.as_ref() == Some(&problem) {
            return Refreshed::Unchanged;
        }
        self.problem = Some(problem);
        Refreshed::Refused
    }
}

fn parse(bytes: &[u8]) -> Result<Prices, String> {
    if bytes.len() > MOST_BYTES {
        return Err(format!("{} bytes: must be at most {MOST_BYTES}", bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
    Prices::from_text(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<Vec<u8>> {
        Ok(text.as_bytes().to_vec())
    }

    #[test]
    fn a_file_that_does_not_change_is_read_once() {
        let mut file = PriceFile::new("prices");
        assert_eq!(file.refresh(read("a: 1")), Refreshed::Changed);
        assert_eq!(file.refresh(read("a: 1")), Refreshed::Unchanged);
        assert_eq!(file.refresh(read("a: 2")), Refreshed::Changed);
        assert_eq!(file.prices(), &Prices::from_text("a: 2").unwrap());
    }

    #[test]
    fn a_bad_new_file_keeps_the_old_prices_and_is_told_once() {
        let mut file = PriceFile::new("prices");
        file.refresh(read("a: 1"));
        assert_eq!(file.refresh(read("a: -1")), Refreshed::Refused);
        assert_eq!(file.refresh(read("a: -1")), Refreshed::Unchanged);
        assert_eq!(file.prices(), &Prices::from_text("a: 1").unwrap());
        assert!(file.problem().unwrap().starts_with("prices: a: -1: must be"), "{:?}", file.problem());
        assert_eq!(file.refresh(read("a: 1")), Refreshed::Changed);
        assert_eq!(file.problem(), None);
    }

    #[test]
    fn a_file_that_is_gone_for_a_while_counts_again_when_it_is_back() {
        let gone = || Err(io::Error::from(io::ErrorKind::NotFound));
        let mut file = PriceFile::new("prices");
        file.refresh(read("a: 1"));
        assert_eq!(file.refresh(gone()), Refreshed::Refused);
        assert_eq!(file.refresh(gone()), Refreshed::Unchanged);
        assert!(file.problem().is_some());
        assert_eq!(file.prices(), &Prices::from_text("a: 1").unwrap());
        assert_eq!(file.refresh(read("a: 1")), Refreshed::Changed);
        assert_eq!(file.problem(), None);
    }

    #[test]
    fn a_file_that_is_no_text_or_too_long_is_refused() {
        let mut file = PriceFile::new("prices");
        assert_eq!(file.refresh(Ok(vec![0xff])), Refreshed::Refused);
        assert_eq!(file.refresh(Ok(vec![b' '; MOST_BYTES + 1])), Refreshed::Refused);
    }
}
