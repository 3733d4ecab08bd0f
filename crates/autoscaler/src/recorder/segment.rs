//! The bytes of a segment: its first line, and frames that are compressed one against the other.

use std::io::{self, Read, Write};

use bytes::Bytes;
use zstd::zstd_safe::CParameter;

use super::{FORMAT, Frame, RecorderError, frame::StoredFrame};

/// Every segment starts so; the format and the version of the program follow.
pub(super) const MAGIC: &[u8] = b"MOBULA";
/// Longest first line.
const MAX_FIRST_LINE_BYTES: usize = 64;
/// Largest frame, before and after compression: what a hostile file may make us allocate.
pub(super) const MAX_FRAME_BYTES: usize = 256 << 20;
/// Fast, and nearly as small as the higher levels, because most of a frame is in the one before it.
const ZSTD_LEVEL: i32 = 1;
/// zstd looks for repetitions in so many bytes (as a power of two) at least and at most.
const WINDOW_LOG: (u32, u32) = (12, 27);
/// Places that zstd remembers (as a power of two), at most: 1 MiB of memory. The default of the level forgets most of a
/// large previous frame; with this, 1,000 nodes of which each changed a little take 3 kB instead of 70.
const MAX_HASH_LOG: u32 = 18;

fn first_line() -> String {
    format!("MOBULA{FORMAT} {}\n", env!("CARGO_PKG_VERSION"))
}

/// A segment's first line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub format: u32,
    pub program: String,
}

/// Splits the first line off; `None`: this is no segment.
pub(super) fn split_header(bytes: &[u8]) -> Option<(Header, &[u8])> {
    let line_end = bytes.iter().take(MAX_FIRST_LINE_BYTES).position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at_checked(line_end + 1)?;
    let text = std::str::from_utf8(line.strip_prefix(MAGIC)?).ok()?.trim_end();
    let (format, program) = text.split_once(' ')?;
    Some((Header { format: format.parse().ok()?, program: program.to_owned() }, rest))
}

/// Splits four bytes of length and as many bytes off the front; `None` if they are not all there, or are too many.
pub(super) fn split_part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk::<4>()?;
    let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
    (size <= MAX_FRAME_BYTES).then_some(())?;
    rest.split_at_checked(size)
}

/// Whole frames in a segment, without looking into them.
pub(super) fn count_frames(segment: &[u8]) -> u64 {
    let Some((_, mut rest)) = split_header(segment) else { return 0 };
    let mut count = 0;
    while let Some((_, after)) = split_part(rest).filter(|(packed, _)| !packed.is_empty()) {
        count += 1;
        rest = after;
    }
    count
}

/// A frame before compression.
pub(super) fn plain(frame: &Frame) -> Result<Vec<u8>, RecorderError> {
    let json = serde_json::to_vec(&StoredFrame::of(frame)).map_err(io::Error::from).map_err(compression)?;
    let mut plain = Vec::with_capacity(4 + json.len() + frame.wire.len());
    plain.extend_from_slice(&length(json.len())?);
    plain.extend_from_slice(&json);
    plain.extend_from_slice(&frame.wire);
    length(plain.len())?;
    Ok(plain)
}

/// The error is for people.
pub(super) fn parse_plain(plain: &[u8]) -> Result<Frame, String> {
    let (json, wire) = split_part(plain).ok_or("the frame ends too early")?;
    let stored: StoredFrame = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    stored.into_frame(Bytes::copy_from_slice(wire))
}

fn length(bytes: usize) -> Result<[u8; 4], RecorderError> {
    let too_large = || RecorderError::TooLarge { bytes: bytes as u64, limit_bytes: MAX_FRAME_BYTES as u64 };
    u32::try_from(bytes).ok().filter(|_| bytes <= MAX_FRAME_BYTES).map(u32::to_le_bytes).ok_or_else(too_large)
}

fn compression(error: io::Error) -> RecorderError {
    RecorderError::Io { path: "compression of a frame".into(), error }
}

/// Compresses the frames of one segment, each against the one before.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    previous: Vec<u8>,
}

impl SegmentWriter {
    /// Begins a segment; returns its first bytes, the first frame included.
    pub fn begin(plain: Vec<u8>) -> Result<(Self, Vec<u8>), RecorderError> {
        let mut writer = SegmentWriter { previous: Vec::new() };
        let mut bytes = first_line().into_bytes();
        bytes.extend(writer.next(plain)?);
        Ok((writer, bytes))
    }

    /// The bytes of the next frame.
    pub fn next(&mut self, plain: Vec<u8>) -> Result<Vec<u8>, RecorderError> {
        let compressed = compress(&plain, &self.previous).map_err(compression)?;
        let mut packed = length(compressed.len())?.to_vec();
        packed.extend_from_slice(&compressed);
        self.previous = plain;
        Ok(packed)
    }
}

fn compress(plain: &[u8], previous: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), ZSTD_LEVEL, previous)?;
    // The window must reach back over the whole of the previous frame.
    let reach = (plain.len() + previous.len()).max(1).ilog2() + 1;
    let window_log = reach.clamp(WINDOW_LOG.0, WINDOW_LOG.1);
    encoder.window_log(window_log)?;
    encoder.set_parameter(CParameter::HashLog(window_log.min(MAX_HASH_LOG)))?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(plain.len() as u64))?;
    encoder.write_all(plain)?;
    encoder.finish()
}

/// Undoes [`compress`]. The error is for people.
pub(super) fn decompress(packed: &[u8], previous: &[u8]) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        let decoder = zstd::stream::read::Decoder::with_ref_prefix(packed, previous)?;
        let mut plain = Vec::new();
        decoder.single_frame().take(MAX_FRAME_BYTES as u64 + 1).read_to_end(&mut plain)?;
        Ok(plain)
    };
    match read() {
        Ok(plain) if plain.len() > MAX_FRAME_BYTES => Err("the frame is larger than any frame can be".to_owned()),
        Ok(plain) => Ok(plain),
        Err(error) => Err(format!("damaged frame: {error}")),
    }
}
