//! Times of the simulation, in µs, and how people write them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

/// A length of time, or a time since the beginning of the simulation.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Value")]
pub struct Span(u64);

const UNITS: [(&str, u64); 6] =
    [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];
/// A thousand years: nothing that is meant takes longer.
const MOST_US: u64 = 1_000 * 366 * 86_400_000_000;

impl Span {
    /// Nothing.
    pub const ZERO: Span = Span(0);

    /// So many µs.
    pub const fn from_us(us: u64) -> Span {
        Span(us)
    }

    /// So many ms.
    pub const fn from_ms(ms: u64) -> Span {
        Span(ms.saturating_mul(1_000))
    }

    /// So many seconds.
    pub const fn from_s(s: u64) -> Span {
        Span(s.saturating_mul(1_000_000))
    }

    /// So many seconds, to the nearest µs; nothing if negative, a thousand years at most.
    pub fn from_f64_s(s: f64) -> Span {
        Span(((s * 1e6).round().max(0.0) as u64).min(MOST_US))
    }

    /// In µs.
    pub const fn as_us(self) -> u64 {
        self.0
    }

    /// In seconds.
    pub fn as_f64_s(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Later by so much.
    pub const fn plus(self, more: Span) -> Span {
        Span(self.0.saturating_add(more.0))
    }

    /// What is left of it after `other`.
    pub const fn minus(self, other: Span) -> Span {
        Span(self.0.saturating_sub(other.0))
    }

    /// For timers.
    pub const fn to_duration(self) -> Duration {
        Duration::from_micros(self.0)
    }

    /// Reads `1h30m`, `250ms`, or a number of seconds.
    ///
    /// # Errors
    /// If it is neither.
    pub fn read(value: &Value) -> Result<Span, String> {
        let bad = || format!("{value}: must be a time such as 90s, 1h30m or 250ms, or a number of seconds");
        let span = match value {
            Value::Number(number) => {
                let seconds = number.as_f64().filter(|seconds| *seconds >= 0.0).ok_or_else(bad)?;
                Span::from_f64_s(seconds)
            }
            Value::String(text) => Span(parse(text).ok_or_else(bad)?),
            _ => return Err(bad()),
        };
        if span.0 > MOST_US { Err(format!("{value}: must be at most a thousand years")) } else { Ok(span) }
    }
}

fn parse(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut sum: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (_, unit_us) = UNITS.iter().find(|(unit, _)| *unit == &rest[..letters])?;
        rest = &rest[letters..];
        sum = sum.checked_add((number * *unit_us as f64).round() as u64)?;
    }
    Some(sum)
}

impl TryFrom<Value> for Span {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        Span::read(&value)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64_s())
    }
}

impl fmt::Display for Span {
    /// Two units at most: what people want to know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, s) = (self.0 / 1_000, self.0 / 1_000_000);
        match s {
            0 if ms == 0 && self.0 > 0 => write!(f, "{} us", self.0),
            0 => write!(f, "{ms} ms"),
            1..60 => write!(f, "{:.1} s", self.as_f64_s()),
            60..3_600 => write!(f, "{} min {:02} s", s / 60, s % 60),
            3_600..86_400 => write!(f, "{} h {:02} min", s / 3_600, s % 3_600 / 60),
            _ => write!(f, "{} d {:02} h", s / 86_400, s % 86_400 / 3_600),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (written, us) in [
            (json!("90s"), 90_000_000),
            (json!("1h30m"), 5_400_000_000),
            (json!("250ms"), 250_000),
            (json!("1.5s"), 1_500_000),
            (json!(2), 2_000_000),
            (json!(0.25), 250_000),
            (json!("0s"), 0),
        ] {
            assert_eq!(Span::read(&written), Ok(Span::from_us(us)), "{written}");
        }
        for bad in [json!("soon"), json!("5"), json!(""), json!("5 s"), json!(-1), json!("9999999d"), json!(null)] {
            assert!(Span::read(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_shown_as_people_read_them() {
        let shown = [0, 250_000, 3_200_000, 125_000_000, 5_400_000_000, 90_000_000_000].map(|us| Span(us).to_string());
        assert_eq!(shown, ["0 ms", "250 ms", "3.2 s", "2 min 05 s", "1 h 30 min", "1 d 01 h"]);
    }
}
