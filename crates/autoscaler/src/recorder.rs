//! The flight recorder: a bounded ring of observations and the plans made from them.
//!
//! A recording is [`MAGIC`] and then frames: four bytes of length (little endian) and a zstd stream. A frame holds the
//! header as JSON and, beside it, the GCS reply as it came over the wire. Frames stand on their own, so that the oldest can
//! be dropped and a file that ends in the middle of one (a crash) is read up to there.
//!
//! On disk a recording is a directory of segments, of which the oldest is removed when the limit is reached.

mod frame;

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

pub use frame::Frame;

/// First bytes of a recording.
pub const MAGIC: &[u8; 8] = b"MOBULA1\n";
/// Largest frame that is read back, before and after decompression: what a hostile file may make us allocate.
const MAX_FRAME_BYTES: usize = 1 << 30;
/// A disk recording is cut in so many segments.
const SEGMENTS: u64 = 8;
/// Fastest level: recording must not slow the loop.
const ZSTD_LEVEL: i32 = 1;

/// Where frames are kept, and how many bytes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecorderConfig {
    /// Directory for a recording on disk; `None`: in memory.
    pub directory: Option<PathBuf>,
    /// Most bytes kept; 0: nothing is recorded.
    pub limit_bytes: u64,
}

impl Default for RecorderConfig {
    fn default() -> Self {
        RecorderConfig { directory: None, limit_bytes: 4 << 20 }
    }
}

/// Why a recording can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The file system said no. Retryable.
    #[error("{path}: {source}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a recording, or a damaged one. Not retryable.
    #[error("not a recording of this version: {0}")]
    Format(String),
}

/// Keeps the last frames.
#[derive(Debug)]
pub struct Recorder {
    config: RecorderConfig,
    state: Mutex<RecorderState>,
}

#[derive(Debug, Default)]
struct RecorderState {
    ring: VecDeque<Vec<u8>>,
    ring_bytes: u64,
    segments: VecDeque<(PathBuf, u64)>,
    next_segment: u64,
}

impl Recorder {
    /// An empty recorder; what an earlier process left in the directory counts towards the limit.
    pub fn new(config: RecorderConfig) -> Result<Self, RecorderError> {
        let mut state = RecorderState::default();
        if let Some(directory) = &config.directory {
            std::fs::create_dir_all(directory).map_err(|source| io_error(directory, source))?;
            for path in segment_paths(directory)? {
                let bytes = std::fs::metadata(&path).map_err(|source| io_error(&path, source))?.len();
                state.next_segment = state.next_segment.max(segment_number(&path).unwrap_or(0) + 1);
                state.segments.push_back((path, bytes));
            }
        }
        Ok(Recorder { config, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, RecorderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything is kept at all.
    pub fn is_on(&self) -> bool {
        self.config.limit_bytes > 0
    }

    /// Keeps a frame, and drops the oldest beyond the limit.
    pub fn record(&self, frame: &Frame) -> Result<(), RecorderError> {
        if !self.is_on() {
            return Ok(());
        }
        let packed = pack(frame)?;
        match &self.config.directory {
            None => self.lock().keep(packed, self.config.limit_bytes),
            Some(directory) => self.lock().append(directory, &packed, self.config.limit_bytes)?,
        }
        Ok(())
    }

    /// Bytes held in memory or on disk.
    pub fn held_bytes(&self) -> u64 {
        let state = self.lock();
        state.ring_bytes + state.segments.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }

    /// The recording in memory, as a file would hold it.
    pub fn bytes(&self) -> Vec<u8> {
        let state = self.lock();
        let mut all = MAGIC.to_vec();
        for frame in &state.ring {
            all.extend_from_slice(frame);
        }
        all
    }
}

impl RecorderState {
    fn keep(&mut self, packed: Vec<u8>, limit_bytes: u64) {
        self.ring_bytes += packed.len() as u64;
        self.ring.push_back(packed);
        // A frame larger than the limit is not kept either: the limit is a promise.
        while self.ring_bytes > limit_bytes
            && let Some(oldest) = self.ring.pop_front()
        {
            self.ring_bytes -= oldest.len() as u64;
        }
    }

    fn append(&mut self, directory: &Path, packed: &[u8], limit_bytes: u64) -> Result<(), RecorderError> {
        let segment_limit = (limit_bytes / SEGMENTS).max(1);
        let is_full = self.segments.back().is_none_or(|(_, bytes)| *bytes >= segment_limit);
        if is_full || self.next_segment == 0 {
            let path = directory.join(format!("{:08}.mobula", self.next_segment));
            self.next_segment += 1;
            write_to(&path, MAGIC)?;
            self.segments.push_back((path, MAGIC.len() as u64));
        }
        if let Some((path, bytes)) = self.segments.back_mut() {
            write_to(path, packed)?;
            *bytes += packed.len() as u64;
        }
        let mut held: u64 = self.segments.iter().map(|(_, bytes)| bytes).sum();
        while held > limit_bytes
            && self.segments.len() > 1
            && let Some((oldest, bytes)) = self.segments.pop_front()
        {
            std::fs::remove_file(&oldest).map_err(|source| io_error(&oldest, source))?;
            held -= bytes;
        }
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

fn io_error(path: &Path, source: io::Error) -> RecorderError {
    RecorderError::Io { path: path.to_owned(), source }
}

fn segment_paths(directory: &Path) -> Result<Vec<PathBuf>, RecorderError> {
    let entries = std::fs::read_dir(directory).map_err(|source| io_error(directory, source))?;
    let mut paths: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| segment_number(path).is_some()).collect();
    paths.sort();
    Ok(paths)
}

fn segment_number(path: &Path) -> Option<u64> {
    (path.extension()? == "mobula").then_some(())?;
    path.file_stem()?.to_str()?.parse().ok()
}

fn pack(frame: &Frame) -> Result<Vec<u8>, RecorderError> {
    let header = serde_json::to_vec(frame).map_err(|error| RecorderError::Format(error.to_string()))?;
    let mut plain = Vec::with_capacity(4 + header.len() + frame.wire.len());
    plain.extend_from_slice(&length(header.len())?);
    plain.extend_from_slice(&header);
    plain.extend_from_slice(&frame.wire);
    let compressed =
        zstd::bulk::compress(&plain, ZSTD_LEVEL).map_err(|error| RecorderError::Format(error.to_string()))?;
    let mut packed = length(compressed.len())?.to_vec();
    packed.extend_from_slice(&compressed);
    Ok(packed)
}

fn length(bytes: usize) -> Result<[u8; 4], RecorderError> {
    u32::try_from(bytes)
        .ok()
        .filter(|_| bytes <= MAX_FRAME_BYTES)
        .map(u32::to_le_bytes)
        .ok_or_else(|| RecorderError::Format(format!("a part of {bytes} bytes is too large")))
}

/// Splits four bytes of length and as many bytes off the front; `None` if they are not all there.
fn take_part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk::<4>()?;
    let size = u32::from_le_bytes(*size) as usize;
    (size <= MAX_FRAME_BYTES).then_some(())?;
    rest.split_at_checked(size)
}

/// Reads all whole frames of a recording held in memory. A last frame that was cut off is left out.
///
/// # Errors
/// If it does not start as a recording does, or a whole frame can't be read.
pub fn read(bytes: &[u8]) -> Result<Vec<Frame>, RecorderError> {
    let mut rest = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| RecorderError::Format("it does not start with MOBULA1".to_owned()))?;
    let mut frames = Vec::new();
    while let Some((packed, after)) = take_part(rest) {
        frames.push(unpack(packed)?);
        rest = after;
    }
    Ok(frames)
}

fn unpack(packed: &[u8]) -> Result<Frame, RecorderError> {
    let damaged = |error: &dyn std::fmt::Display| RecorderError::Format(format!("damaged frame: {error}"));
    let mut plain = Vec::new();
    zstd::stream::read::Decoder::new(packed)
        .and_then(|decoder| decoder.take(MAX_FRAME_BYTES as u64).read_to_end(&mut plain))
        .map_err(|error| damaged(&error))?;
    let (header, wire) = take_part(&plain).ok_or_else(|| damaged(&"it ends too early"))?;
    let mut frame: Frame = serde_json::from_slice(header).map_err(|error| damaged(&error))?;
    frame.wire = Bytes::copy_from_slice(wire);
    Ok(frame)
}

/// Reads a recording: a file, or a directory of segments.
///
/// # Errors
/// If it can't be read, or is not a recording.
pub fn read_path(path: &Path) -> Result<Vec<Frame>, RecorderError> {
    let files = if path.is_dir() { segment_paths(path)? } else { vec![path.to_owned()] };
    let mut frames = Vec::new();
    for file in files {
        let bytes = std::fs::read(&file).map_err(|source| io_error(&file, source))?;
        let read = read(&bytes).map_err(|error| RecorderError::Format(format!("{}: {error}", file.display())))?;
        frames.extend(read);
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(at_ms: i64) -> Frame {
        Frame { at_ms, wire: Bytes::from(vec![7; 1_000]), ..Frame::default() }
    }

    fn times(frames: &[Frame]) -> Vec<i64> {
        frames.iter().map(|frame| frame.at_ms).collect()
    }

    #[test]
    fn what_is_recorded_is_read_back() {
        let recorder = Recorder::new(RecorderConfig::default()).unwrap();
        recorder.record(&frame(1)).unwrap();
        recorder.record(&frame(2)).unwrap();
        let frames = read(&recorder.bytes()).unwrap();
        assert_eq!(frames, [frame(1), frame(2)]);
    }

    #[test]
    fn the_oldest_frames_go_first_and_the_limit_holds() {
        let limit_bytes = 3_000;
        let recorder = Recorder::new(RecorderConfig { directory: None, limit_bytes }).unwrap();
        for at_ms in 0..100 {
            recorder.record(&frame(at_ms)).unwrap();
            assert!(recorder.held_bytes() <= limit_bytes);
        }
        let frames = read(&recorder.bytes()).unwrap();
        assert!(frames.len() > 1);
        assert_eq!(times(&frames).last(), Some(&99));
    }

    #[test]
    fn segments_on_disk_are_rotated_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let config = RecorderConfig { directory: Some(dir.path().to_owned()), limit_bytes: 10_000 };
        for start in [0, 100] {
            let recorder = Recorder::new(config.clone()).unwrap();
            for at_ms in start..start + 100 {
                recorder.record(&frame(at_ms)).unwrap();
            }
            assert!(recorder.held_bytes() <= config.limit_bytes, "{}", recorder.held_bytes());
        }
        let frames = read_path(dir.path()).unwrap();
        assert!(times(&frames).is_sorted());
        assert_eq!(times(&frames).last(), Some(&199));
    }

    #[test]
    fn a_file_that_was_cut_off_is_read_up_to_there() {
        let recorder = Recorder::new(RecorderConfig::default()).unwrap();
        recorder.record(&frame(1)).unwrap();
        recorder.record(&frame(2)).unwrap();
        let mut bytes = recorder.bytes();
        bytes.truncate(bytes.len() - 5);
        assert_eq!(times(&read(&bytes).unwrap()), [1]);
    }

    #[test]
    fn garbage_is_refused() {
        assert!(read(b"garbage").is_err());
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[3, 0, 0, 0, 1, 2, 3]);
        assert!(read(&bytes).is_err());
    }

    #[test]
    fn a_limit_of_zero_turns_it_off() {
        let recorder = Recorder::new(RecorderConfig { directory: None, limit_bytes: 0 }).unwrap();
        recorder.record(&frame(1)).unwrap();
        assert_eq!(recorder.held_bytes(), 0);
    }
}
