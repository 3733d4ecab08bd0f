//! The flight recorder: a bounded ring of observations and the plans made from them.
//!
//! ```text
//! recording = segment*            (a file may hold several; a directory holds one a file, in order of their names)
//! segment   = "MOBULA1 <version of the program>\n" frame*
//! frame     = length of the rest (4 bytes, little endian), zstd of: length of the JSON (4 bytes), JSON, reply of the GCS
//! ```
//! Two ticks differ little, so each frame is compressed against the one before it in its segment (zstd's prefix). The
//! oldest are dropped by whole segments. A frame that is torn (a crash, a full disk) or damaged ends its segment, and reading
//! goes on with the next one.
//!
//! A tick that saw and planned what the one before did is only counted. Every [`MOST_SILENCE_MS`] one is stored all the same,
//! because idle times go on.

mod compare;
mod frame;
mod read;
mod segment;

use std::{
    collections::VecDeque,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

pub use compare::{Comparison, Difference, Step, TickDifferences};
pub use frame::{Frame, Replayed};
pub use read::{Frames, Recording};

use segment::SegmentWriter;

/// A tick is stored at least so often, in ms, even if nothing changes.
pub const MOST_SILENCE_MS: i64 = 10_000;
/// A recording is cut in so many segments: the part of it that is dropped at a time.
const SEGMENTS: u64 = 8;
/// Extension of segments on disk.
const EXTENSION: &str = "mobula";

/// Where frames are kept, and how much of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecorderConfig {
    /// Directory for a recording on disk; `None`: in memory.
    pub directory: Option<PathBuf>,
    /// Most bytes kept; 0: nothing is recorded.
    pub limit_bytes: u64,
    /// Most frames kept.
    pub limit_frames: u64,
}

impl Default for RecorderConfig {
    fn default() -> Self {
        RecorderConfig { directory: None, limit_bytes: 4 << 20, limit_frames: 100_000 }
    }
}

/// Why a recording can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The file system said no. Retryable.
    #[error("{path}: {error}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is no recording. Not retryable.
    #[error("{name}: not a recording of Mobula (it does not start with `MOBULA`)")]
    Foreign {
        /// File.
        name: String,
    },
    /// It was written in a form that this version does not know. Not retryable.
    #[error(
        "{name}: recorded in format {format} by {program:?}; this version reads format {FORMAT}: use a newer mobula"
    )]
    Newer {
        /// File.
        name: String,
        /// Its format.
        format: u32,
        /// Version of the program that wrote it.
        program: String,
    },
    /// There is nothing in the place where a recording should be. Not retryable.
    #[error("{name}: no recording there (no <number>.{EXTENSION} file){}", named(others))]
    Nothing {
        /// Directory.
        name: String,
        /// Files in it that may be recordings of their own.
        others: Vec<String>,
    },
    /// The rest of a segment can't be read; what comes before and after it can. Not retryable.
    #[error("{name}, byte {offset}: {problem}: the frames that follow it in this segment are left out")]
    Damaged {
        /// File.
        name: String,
        /// Where in it.
        offset: usize,
        /// What is wrong.
        problem: String,
    },
    /// One frame alone is more than may be kept. Not retryable.
    #[error("a tick takes {bytes} bytes, and only {limit_bytes} may be recorded: raise the limit")]
    TooLarge {
        /// Size of the frame.
        bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
}

/// The format that this version writes and reads.
pub const FORMAT: u32 = 1;

fn io_error(path: &Path, error: io::Error) -> RecorderError {
    RecorderError::Io { path: path.to_owned(), error }
}

/// Keeps the last frames.
#[derive(Debug)]
pub struct Recorder {
    config: RecorderConfig,
    state: Mutex<Ring>,
}

/// The segments that are kept, the oldest first; the last is being written.
#[derive(Debug, Default)]
struct Ring {
    segments: VecDeque<Segment>,
    writer: Option<SegmentWriter>,
    /// The last frame that was stored.
    last: Option<Frame>,
    ticks: u64,
    next_segment: u64,
}

#[derive(Debug)]
struct Segment {
    store: Store,
    bytes: u64,
    frames: u64,
}

#[derive(Debug)]
enum Store {
    Memory(Vec<u8>),
    File(PathBuf),
}

impl Recorder {
    /// An empty recorder; what an earlier process left in the directory counts towards the limits.
    ///
    /// # Errors
    /// If the directory can't be made or read.
    pub fn new(config: RecorderConfig) -> Result<Self, RecorderError> {
        let mut ring = Ring::default();
        if let Some(directory) = &config.directory {
            std::fs::create_dir_all(directory).map_err(|source| io_error(directory, source))?;
            for path in segment_paths(directory)? {
                let contents = std::fs::read(&path).map_err(|source| io_error(&path, source))?;
                ring.next_segment = ring.next_segment.max(segment_number(&path).unwrap_or(0).saturating_add(1));
                let (bytes, frames) = (contents.len() as u64, segment::count_frames(&contents));
                ring.segments.push_back(Segment { store: Store::File(path), bytes, frames });
            }
        }
        Ok(Recorder { config, state: Mutex::new(ring) })
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything is kept at all.
    pub fn is_on(&self) -> bool {
        self.config.limit_bytes > 0 && self.config.limit_frames > 0
    }

    /// Takes in a tick: stores it, or only counts it if it repeats the last one that was stored. Drops the oldest frames
    /// beyond the limits. `frame.tick` is set here.
    ///
    /// # Errors
    /// If it can't be written. The tick is lost; the next one is tried again.
    pub fn record(&self, mut frame: Frame) -> Result<(), RecorderError> {
        if !self.is_on() {
            return Ok(());
        }
        let mut ring = self.lock();
        frame.tick = ring.ticks;
        ring.ticks += 1;
        if ring.last.as_ref().is_some_and(|last| is_silent(&frame, last)) {
            return Ok(());
        }
        let stored = ring.store(&frame, &self.config);
        match &stored {
            Ok(()) => ring.last = Some(frame),
            // Whatever is in the segment now: the next frame must not build on it.
            Err(_) => ring.writer = None,
        }
        stored
    }

    /// Bytes held in memory or on disk.
    pub fn held_bytes(&self) -> u64 {
        self.lock().held_bytes()
    }

    /// Frames held in memory or on disk.
    pub fn held_frames(&self) -> u64 {
        self.lock().held_frames()
    }

    /// The recording, as a file would hold it.
    ///
    /// # Errors
    /// If it is on disk and can't be read.
    pub fn bytes(&self) -> Result<Vec<u8>, RecorderError> {
        let ring = self.lock();
        let mut all = Vec::new();
        for segment in &ring.segments {
            match &segment.store {
                Store::Memory(bytes) => all.extend_from_slice(bytes),
                Store::File(path) => {
                    all.extend(std::fs::read(path).map_err(|source| io_error(path, source))?);
                }
            }
        }
        Ok(all)
    }
}

/// Whether the tick needs not be stored after `last`.
fn is_silent(frame: &Frame, last: &Frame) -> bool {
    let silence_ms = frame.observation.now_ms.saturating_sub(last.observation.now_ms);
    (0..MOST_SILENCE_MS).contains(&silence_ms) && frame.repeats(last)
}

impl Ring {
    fn held_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    fn held_frames(&self) -> u64 {
        self.segments.iter().map(|segment| segment.frames).sum()
    }

    fn store(&mut self, frame: &Frame, config: &RecorderConfig) -> Result<(), RecorderError> {
        let (segment_bytes, segment_frames) =
            ((config.limit_bytes / SEGMENTS).max(1), (config.limit_frames / SEGMENTS).max(1));
        let is_full = |segment: &Segment| segment.bytes >= segment_bytes || segment.frames >= segment_frames;
        if self.writer.is_some() && self.segments.back().is_some_and(is_full) {
            self.writer = None;
        }
        let plain = segment::plain(frame)?;
        if let Some(writer) = &mut self.writer {
            let packed = writer.next(plain.clone())?;
            self.make_room(packed.len() as u64, config)?;
            // Where one frame is nearly as large as the limit, room was made of the very segment it would have continued.
            if !self.segments.is_empty() {
                return self.append(&packed);
            }
        }
        let (writer, packed) = SegmentWriter::begin(plain)?;
        self.make_room(packed.len() as u64, config)?;
        self.open(&packed, config.directory.as_deref())?;
        self.writer = Some(writer);
        Ok(())
    }

    /// Drops the oldest segments, so that `bytes` and one frame more are within the limits.
    fn make_room(&mut self, bytes: u64, config: &RecorderConfig) -> Result<(), RecorderError> {
        if bytes > config.limit_bytes {
            return Err(RecorderError::TooLarge { bytes, limit_bytes: config.limit_bytes });
        }
        while (self.held_bytes() + bytes > config.limit_bytes || self.held_frames() + 1 > config.limit_frames)
            && let Some(oldest) = self.segments.pop_front()
        {
            if let Store::File(path) = &oldest.store {
                std::fs::remove_file(path).map_err(|source| io_error(path, source))?;
            }
        }
        Ok(())
    }

    fn open(&mut self, packed: &[u8], directory: Option<&Path>) -> Result<(), RecorderError> {
        let store = match directory {
            None => Store::Memory(packed.to_vec()),
            Some(directory) => {
                let path = directory.join(format!("{:08}.{EXTENSION}", self.next_segment));
                self.next_segment += 1;
                write_to(&path, packed)?;
                Store::File(path)
            }
        };
        self.segments.push_back(Segment { store, bytes: packed.len() as u64, frames: 1 });
        Ok(())
    }

    fn append(&mut self, packed: &[u8]) -> Result<(), RecorderError> {
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        match &mut segment.store {
            Store::Memory(bytes) => bytes.extend_from_slice(packed),
            Store::File(path) => write_to(path, packed)?,
        }
        segment.bytes += packed.len() as u64;
        segment.frames += 1;
        Ok(())
    }
}

fn write_to(path: &Path, bytes: &[u8]) -> Result<(), RecorderError> {
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|source| io_error(path, source))
}

fn segment_paths(directory: &Path) -> Result<Vec<PathBuf>, RecorderError> {
    let entries = std::fs::read_dir(directory).map_err(|source| io_error(directory, source))?;
    let mut paths: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| segment_number(path).is_some()).collect();
    paths.sort_by_key(|path| segment_number(path));
    Ok(paths)
}

/// What to name instead of the directory.
fn named(others: &[String]) -> String {
    match others {
        [] => String::new(),
        others => format!("; name one of these files instead: {}", others.join(", ")),
    }
}

/// Files that have the name of a recording, but not that of a segment: the first few.
fn other_files(directory: &Path) -> Vec<String> {
    const MOST: usize = 3;
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let recordings = paths.filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
    let mut names: Vec<String> = recordings.map(|path| path.display().to_string()).collect();
    names.sort();
    names.truncate(MOST);
    names
}

fn segment_number(path: &Path) -> Option<u64> {
    (path.extension()? == EXTENSION).then_some(())?;
    path.file_stem()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests;
