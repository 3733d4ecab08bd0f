//! Reading a recording back.

use std::path::Path;

use super::{
    FORMAT, Frame, RecorderError, io_error, other_files,
    segment::{MAGIC, decompress, parse_plain, split_header, split_part},
    segment_paths,
};

/// A recording, read from a file, a directory of segments, or memory.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Name and contents of each file.
    files: Vec<(String, Vec<u8>)>,
}

impl Recording {
    /// Reads a file, or all segments of a directory.
    ///
    /// # Errors
    /// If it can't be read, is not a recording, or comes from a newer version. Damage is told by [`Recording::frames`].
    pub fn read(path: &Path) -> Result<Recording, RecorderError> {
        let paths = if path.is_dir() { segment_paths(path)? } else { vec![path.to_owned()] };
        if paths.is_empty() {
            return Err(RecorderError::Nothing { name: path.display().to_string(), others: other_files(path) });
        }
        let read = |path: &std::path::PathBuf| {
            let bytes = std::fs::read(path).map_err(|source| io_error(path, source))?;
            Ok((path.display().to_string(), bytes))
        };
        Self::of_files(paths.iter().map(read).collect::<Result<_, RecorderError>>()?)
    }

    /// A recording held in memory; `name` is for errors.
    ///
    /// # Errors
    /// As [`Recording::read`].
    pub fn of_bytes(name: &str, bytes: Vec<u8>) -> Result<Recording, RecorderError> {
        Self::of_files(vec![(name.to_owned(), bytes)])
    }

    fn of_files(files: Vec<(String, Vec<u8>)>) -> Result<Recording, RecorderError> {
        for (name, bytes) in &files {
            match split_header(bytes) {
                Some((header, _)) if header.format == FORMAT => {}
                Some((header, _)) => {
                    let (name, format) = (name.clone(), header.format);
                    return Err(RecorderError::Newer { name, format, program: header.program });
                }
                // A crash may leave a segment without all of its first line.
                None if files.len() > 1 && MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]) => {}
                None => return Err(RecorderError::Foreign { name: name.clone() }),
            }
        }
        Ok(Recording { files })
    }

    /// The frames, oldest first. A [`RecorderError::Damaged`] among them says that some are missing there.
    pub fn frames(&self) -> Frames<'_> {
        Frames { files: &self.files, file: 0, offset: 0, previous: Vec::new() }
    }
}

/// Iterator over the frames of a [`Recording`].
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    files: &'a [(String, Vec<u8>)],
    file: usize,
    offset: usize,
    previous: Vec<u8>,
}

impl Iterator for Frames<'_> {
    type Item = Result<Frame, RecorderError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (name, bytes) = self.files.get(self.file)?;
            let rest = bytes.get(self.offset..).unwrap_or_default();
            if rest.is_empty() {
                self.file += 1;
                self.offset = 0;
                continue;
            }
            // Segments may follow each other in one file.
            if let Some((_, after)) = split_header(rest).filter(|(header, _)| header.format == FORMAT) {
                self.offset = bytes.len() - after.len();
                self.previous.clear();
                continue;
            }
            return Some(match read_frame(rest, &self.previous) {
                Ok((frame, plain, after)) => {
                    self.offset = bytes.len() - after.len();
                    self.previous = plain;
                    Ok(frame)
                }
                Err(problem) => {
                    let damaged = RecorderError::Damaged { name: name.clone(), offset: self.offset, problem };
                    self.offset += next_segment(rest);
                    Err(damaged)
                }
            });
        }
    }
}

/// The first frame of `rest`, what it was compressed from, and what follows it. The error is for people.
fn read_frame<'a>(rest: &'a [u8], previous: &[u8]) -> Result<(Frame, Vec<u8>, &'a [u8]), String> {
    let (packed, after) =
        split_part(rest).ok_or_else(|| format!("a frame was cut off ({} bytes of it are there)", rest.len()))?;
    let plain = decompress(packed, previous)?;
    let frame = parse_plain(&plain)?;
    Ok((frame, plain, after))
}

/// Where the next segment begins after a damaged one; the end, if there is none.
fn next_segment(rest: &[u8]) -> usize {
    let candidates = rest.windows(MAGIC.len()).enumerate().skip(1).filter(|(_, window)| *window == MAGIC);
    candidates
        .map(|(at, _)| at)
        .find(|at| rest.get(*at..).and_then(split_header).is_some_and(|(header, _)| header.format == FORMAT))
        .unwrap_or(rest.len())
}
