//! A hash that is quick and the same in every run, for tables that are looked up and never walked through.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table that is looked up, never walked through.
pub(crate) type Index<K, V> = HashMap<K, V, BuildHasherDefault<QuickHasher>>;

/// Mixes whole words by multiplication.
#[derive(Default)]
pub(crate) struct QuickHasher(u64);

impl Hasher for QuickHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.write_u64(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.write_u64(u64::from_le_bytes(last));
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_i64(&mut self, word: i64) {
        self.write_u64(word.cast_unsigned());
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

/// The hash of a row of words.
pub(crate) fn of_words(words: &[i64]) -> u64 {
    let mut hasher = QuickHasher::default();
    words.iter().for_each(|word| hasher.write_i64(*word));
    // Tables look at the upper bits, too.
    hasher.finish().wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
