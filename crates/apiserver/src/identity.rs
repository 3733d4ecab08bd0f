//! Where the server takes time and chance from: values that are passed in.

use std::fmt::Write as _;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

/// The alphabet of generated names: no vowels, hence no words.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;

/// The time that objects are stamped with.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// A clock that asks `now_unix_ms`.
    pub fn new(now_unix_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now_unix_ms))
    }

    /// A clock that shows `start_unix_ms` now and follows `tokio::time`, which a simulation can pause.
    pub fn starting_at(start_unix_ms: i64) -> Clock {
        let start = Instant::now();
        Clock::new(move || {
            let elapsed_ms = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
            start_unix_ms.saturating_add(elapsed_ms)
        })
    }

    /// Now, and so many seconds, as `metadata` has it: RFC 3339 in whole seconds.
    pub(crate) fn stamp_after_s(&self, seconds: i64) -> String {
        let unix_s = (self.0)().div_euclid(1000).saturating_add(seconds);
        Timestamp::from_second(unix_s).unwrap_or(Timestamp::MAX).to_string()
    }
}

/// `stamp` moved by so many seconds; itself if it is no time.
pub(crate) fn moved_by_s(stamp: &str, seconds: i64) -> String {
    let moved = stamp
        .parse::<Timestamp>()
        .ok()
        .and_then(|time| Timestamp::from_second(time.as_second().saturating_add(seconds)).ok());
    moved.map_or_else(|| stamp.to_owned(), |time| time.to_string())
}

/// Draws UIDs and the suffixes of generated names. The same seed gives the same sequence.
#[derive(Clone, Debug)]
pub struct Ids {
    state: u64,
}

impl Ids {
    /// Ids of this seed.
    pub fn seeded(seed: u64) -> Ids {
        Ids { state: seed }
    }

    /// SplitMix64, written out so that no update of a library changes a recorded history.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn uid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        let mut uid = String::with_capacity(36);
        // Version 4, variant 1: what parsers of UUIDs expect.
        let _ = write!(
            uid,
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | (low >> 48) & 0x3fff,
            low & 0xffff_ffff_ffff
        );
        uid
    }

    pub(crate) fn suffix(&mut self) -> String {
        let mut drawn = self.next();
        let mut suffix = String::with_capacity(SUFFIX_LENGTH);
        for _ in 0..SUFFIX_LENGTH {
            let letters = SUFFIX_ALPHABET.len() as u64;
            let letter = usize::try_from(drawn % letters).unwrap_or(0);
            suffix.push(char::from(SUFFIX_ALPHABET[letter]));
            drawn /= letters;
        }
        suffix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let draw = |seed| {
            let mut ids = Ids::seeded(seed);
            [ids.uid(), ids.suffix(), ids.uid(), ids.suffix()]
        };
        assert_eq!(draw(1), draw(1));
        let [uid, suffix, other_uid, other_suffix] = draw(1);
        assert_ne!(uid, other_uid);
        assert_ne!(suffix, other_suffix);
        assert_eq!((uid.len(), suffix.len()), (36, 5));
        assert_eq!(&uid[14..15], "4");
    }

    #[test]
    fn stamps_are_whole_seconds() {
        let clock = Clock::new(|| 1_700_000_000_999);
        assert_eq!(clock.stamp_after_s(0), "2023-11-14T22:13:20Z");
        assert_eq!(clock.stamp_after_s(30), "2023-11-14T22:13:50Z");
        assert_eq!(moved_by_s("2023-11-14T22:13:50Z", -30), "2023-11-14T22:13:20Z");
        assert_eq!(moved_by_s("yesterday", 1), "yesterday");
    }
}
