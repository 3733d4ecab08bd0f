//! The one log of a run: everything that happened, in order. Its hash is the run's fingerprint.
//!
//! A line is `virtual time in µs, sequence number, kind, object, resourceVersion` with spaces between; `-` where there is none.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::digest::{Context, SHA256};

/// So many lines are kept for messages of failure.
const TAIL_LINES: usize = 20;
/// More than this in one virtual moment is a model that does not converge.
const MOST_IN_A_MOMENT: u64 = 2_000_000;

/// Where whole logs go.
pub type Sink = Box<dyn io::Write + Send>;

/// Clones share everything.
#[derive(Clone)]
pub struct EventLog(Arc<Mutex<Inner>>);

struct Inner {
    hash: Context,
    sink: Option<Sink>,
    sink_error: Option<io::Error>,
    tail: VecDeque<String>,
    sequence: u64,
    moment: (u64, u64),
}

impl EventLog {
    /// An empty log; whole lines go to `sink`, too.
    pub fn new(sink: Option<Sink>) -> EventLog {
        let inner = Inner {
            hash: Context::new(&SHA256),
            sink,
            sink_error: None,
            tail: VecDeque::with_capacity(TAIL_LINES),
            sequence: 0,
            moment: (0, 0),
        };
        EventLog(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened to an object.
    pub fn note(&self, at_us: u64, kind: &str, object: &str, version: Option<u64>) {
        let mut inner = self.lock();
        inner.sequence += 1;
        let mut line = String::with_capacity(64);
        let _ = match version {
            Some(version) => writeln!(line, "{at_us} {} {kind} {object} {version}", inner.sequence),
            None => writeln!(line, "{at_us} {} {kind} {object} -", inner.sequence),
        };
        inner.hash.update(line.as_bytes());
        if let Some(sink) = &mut inner.sink
            && let Err(error) = sink.write_all(line.as_bytes())
        {
            inner.sink = None;
            inner.sink_error = Some(error);
        }
        inner.moment = match inner.moment {
            (moment, count) if moment == at_us => (moment, count + 1),
            _ => (at_us, 1),
        };
        if inner.tail.len() == TAIL_LINES {
            inner.tail.pop_front();
        }
        line.pop();
        inner.tail.push_back(line);
    }

    /// How many lines there are.
    pub fn lines(&self) -> u64 {
        self.lock().sequence
    }

    /// Whether so much happens in one moment that time will never go on.
    pub fn is_stuck(&self) -> bool {
        self.lock().moment.1 > MOST_IN_A_MOMENT
    }

    /// The last lines, oldest first.
    pub fn tail(&self) -> Vec<String> {
        self.lock().tail.iter().cloned().collect()
    }

    /// The fingerprint so far: SHA-256 of all lines in hex.
    pub fn hash(&self) -> String {
        let digest = self.lock().hash.clone().finish();
        digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// Writes what is still held back, and says what went wrong with writing.
    ///
    /// # Errors
    /// The first error of the sink.
    pub fn finish(&self) -> io::Result<()> {
        let mut inner = self.lock();
        if let Some(error) = inner.sink_error.take() {
            return Err(error);
        }
        inner.sink.as_mut().map_or(Ok(()), io::Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_all_lines_and_the_tail_is_short() {
        let (log, other) = (EventLog::new(None), EventLog::new(None));
        for number in 0..30 {
            log.note(number, "pods", "default/a", Some(number));
            other.note(number, "pods", "default/a", Some(number));
        }
        assert_eq!(log.hash(), other.hash());
        assert_eq!((log.lines(), log.tail().len()), (30, TAIL_LINES));
        assert_eq!(log.tail()[19], "29 30 pods default/a 29");
        other.note(30, "pods", "default/a", None);
        assert_ne!(log.hash(), other.hash());
    }
}
