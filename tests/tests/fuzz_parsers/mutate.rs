//! Small random damage to bytes, text and JSON. The same seed gives the same damage.

use serde_json::Value;

/// SplitMix64: enough to choose where to damage, and the same on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `end` - 1; 0 if `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Numbers that parsers stumble over.
const NUMBERS: [&str; 16] = [
    "0",
    "-1",
    "1e400",
    "NaN",
    "-0",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "0.0001",
    "1e-300",
    "2147483648",
    "1.5",
    "500m",
    "1Ei",
    "00",
    "+1",
];

/// Words that mean something somewhere.
const WORDS: [&str; 12] = [
    "",
    "null",
    "true",
    "\"",
    "\u{0}",
    "\u{fffd}é",
    "headgroup",
    "CPU",
    "__proto__",
    "[]",
    "{}",
    "a-very-long-word-that-nobody-would-use",
];

/// Damages bytes in one place, or in a few; `other` is where foreign pieces come from.
pub fn bytes(random: &mut Random, mut bytes: Vec<u8>, other: &[u8]) -> Vec<u8> {
    let places = if random.below(3) == 0 { 1 + random.below(4) } else { 1 };
    for _ in 0..places {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 if at < bytes.len() => bytes[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            3 if at < end => drop(bytes.drain(at..end)),
            4 if at < end => {
                let piece = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            5 => {
                let from = random.below(other.len());
                let piece = &other[from..(from + random.below(64)).min(other.len())];
                drop(bytes.splice(at..at, piece.iter().copied()));
            }
            6 => drop(bytes.splice(at..at, [0xff; 9])),
            _ => bytes.insert(at, random.below(256) as u8),
        }
    }
    bytes
}

/// Damages text: a number or a word becomes another, or bytes are damaged (and made UTF-8 again).
pub fn text(random: &mut Random, text: &str, other: &str) -> String {
    if random.below(3) == 0 {
        return String::from_utf8_lossy(&bytes(random, text.as_bytes().to_vec(), other.as_bytes())).into_owned();
    }
    let is_word = |c: char| c.is_alphanumeric() || "-+._".contains(c);
    let starts: Vec<usize> = text
        .char_indices()
        .scan(false, |inside, (at, c)| {
            let starts = is_word(c) && !*inside;
            *inside = is_word(c);
            Some((at, starts))
        })
        .filter_map(|(at, starts)| starts.then_some(at))
        .collect();
    if starts.is_empty() {
        return other.to_owned();
    }
    let start = *random.pick(&starts);
    let length = text[start..].find(|c| !is_word(c)).unwrap_or(text.len() - start);
    let instead = if random.below(2) == 0 { random.pick(&NUMBERS) } else { random.pick(&WORDS) };
    format!("{}{instead}{}", &text[..start], &text[start + length..])
}

/// Damages one to three places of a JSON value, anywhere in it.
pub fn json(random: &mut Random, mut value: Value, other: &Value) -> Value {
    for _ in 0..=random.below(3) {
        let target = random.below(count(&value));
        let foreign =
            other.pointer(random.pick::<&str>(&["", "/metadata", "/spec", "/items/0", "/spec/workerGroupSpecs/0"]));
        let foreign = foreign.cloned().unwrap_or_default();
        if let Some(place) = nth(&mut value, &mut { target }) {
            damage(random, place, foreign);
        }
    }
    value
}

fn damage(random: &mut Random, place: &mut Value, foreign: Value) {
    match (random.below(6), &mut *place) {
        (0, Value::Object(fields)) if !fields.is_empty() => {
            let key = fields.keys().nth(random.below(fields.len())).cloned().unwrap_or_default();
            fields.remove(&key);
        }
        (1, Value::Object(fields)) => drop(fields.insert((*random.pick(&WORDS)).to_owned(), foreign)),
        (0 | 1, Value::Array(items)) if !items.is_empty() => {
            let copy = random.pick(items).clone();
            items.push(copy);
        }
        (2, place) => *place = Value::from((*random.pick(&NUMBERS)).to_owned()),
        (3, place) => {
            *place = random.pick(&NUMBERS).parse::<serde_json::Number>().map_or(Value::Null, Value::Number);
        }
        (4, place) => *place = Value::from((*random.pick(&WORDS)).to_owned()),
        (_, place) => {
            *place = random
                .pick(&[Value::Null, Value::Bool(true), serde_json::json!([]), serde_json::json!({}), foreign])
                .clone();
        }
    }
}

/// Values in a value, itself included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

fn nth<'a>(value: &'a mut Value, n: &mut usize) -> Option<&'a mut Value> {
    if *n == 0 {
        return Some(value);
    }
    *n -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, n)),
        Value::Object(fields) => fields.values_mut().find_map(|field| nth(field, n)),
        _ => None,
    }
}
