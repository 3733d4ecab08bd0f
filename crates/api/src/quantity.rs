//! Kubernetes quantities, exactly.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// An amount as Kubernetes writes it: `4`, `500m`, `1.5Gi`, `2e3`.
///
/// Kept in billionths of a unit, the finest that Kubernetes knows; anything finer is rounded away from zero, as Kubernetes
/// does. Comparison is by amount: `1Gi` equals `1024Mi`.
#[derive(Copy, Clone, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// The family of suffixes that a quantity was written with, and is printed with.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Format {
    /// `Ki`, `Mi`, …
    Binary,
    /// `m`, `k`, `M`, …, or none.
    Decimal,
    /// `e3`, `E-6`.
    Exponent,
}

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the form `<number><suffix>`.
    #[error(
        "is not a quantity: write a number with one of the suffixes n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei, or none"
    )]
    Malformed,
    /// Beyond 2^63 - 1 units, or dozens of digits long.
    #[error("is out of range: a Kubernetes quantity is at most 9223372036854775807")]
    OutOfRange,
}

const NANOS_PER_UNIT: i128 = 1_000_000_000;
const MOST_NANOS: i128 = i64::MAX as i128 * NANOS_PER_UNIT;
/// Decimal places of a nano.
const NANO_PLACES: i32 = 9;
const BINARY_SUFFIXES: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// Decimal suffixes with their power of ten.
const DECIMAL_SUFFIXES: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::Decimal };

    /// Whole units.
    pub const fn from_units(units: i64) -> Self {
        Quantity { nanos: units as i128 * NANOS_PER_UNIT, format: Format::Decimal }
    }

    /// Thousandths of a unit.
    pub const fn from_millis(millis: i64) -> Self {
        Quantity { nanos: millis as i128 * (NANOS_PER_UNIT / 1_000), format: Format::Decimal }
    }

    /// From a JSON string or number.
    ///
    /// # Errors
    /// Anything that is no quantity.
    pub fn from_json(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(text) => text.parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(QuantityError::Malformed),
        }
    }

    /// In units, rounded up (away from zero), as Ray rounds resources: `500m` is 1.
    pub fn ceil_units(self) -> i64 {
        let whole = self.nanos / NANOS_PER_UNIT;
        let rest = (self.nanos % NANOS_PER_UNIT).signum();
        (whole + rest).clamp(i64::MIN as i128, i64::MAX as i128) as i64
    }

    /// In units, cut towards zero.
    pub fn trunc_units(self) -> i64 {
        (self.nanos / NANOS_PER_UNIT).clamp(i64::MIN as i128, i64::MAX as i128) as i64
    }

    /// In units, the nearest double.
    pub fn as_f64(self) -> f64 {
        let whole = (self.nanos / NANOS_PER_UNIT) as f64;
        if self.nanos % NANOS_PER_UNIT == 0 { whole } else { self.nanos as f64 / NANOS_PER_UNIT as f64 }
    }

    /// Whether it is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// The sum, printed as `self` would be; `None` if it is too large.
    pub fn checked_add(self, other: Quantity) -> Option<Quantity> {
        Some(self.nanos + other.nanos).filter(|n| n.abs() <= MOST_NANOS).map(|nanos| Quantity { nanos, ..self })
    }

    /// As much `times` over, printed as `self` would be; `None` if it is too large.
    pub fn checked_mul(self, times: u32) -> Option<Quantity> {
        let nanos = self.nanos.checked_mul(times.into()).filter(|n| n.abs() <= MOST_NANOS);
        nanos.map(|nanos| Quantity { nanos, ..self })
    }

    /// The difference, printed as `self` would be; `None` if it is too large.
    pub fn checked_sub(self, other: Quantity) -> Option<Quantity> {
        Some(self.nanos - other.nanos).filter(|n| n.abs() <= MOST_NANOS).map(|nanos| Quantity { nanos, ..self })
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let end = unsigned.bytes().position(|b| !b.is_ascii_digit() && b != b'.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || whole.len() + fraction.len() == 0 {
            return Err(QuantityError::Malformed);
        }
        let (format, unit) = unit_of(suffix)?;
        let fraction = fraction.trim_end_matches('0');
        let digits = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() {
            return Ok(Quantity { nanos: 0, format });
        }
        let mantissa: i128 = digits.parse().map_err(|_| QuantityError::OutOfRange)?;
        let places = i32::try_from(fraction.len()).map_err(|_| QuantityError::OutOfRange)?;
        let nanos = scaled(mantissa, Unit { power: unit.power + NANO_PLACES - places, ..unit })?;
        Ok(Quantity { nanos: if text.starts_with('-') { -nanos } else { nanos }, format })
    }
}

/// What a suffix is worth: `2^shift × 10^power`.
#[derive(Copy, Clone)]
struct Unit {
    shift: u32,
    power: i32,
}

fn unit_of(suffix: &str) -> Result<(Format, Unit), QuantityError> {
    if let Some(i) = BINARY_SUFFIXES.iter().position(|s| *s == suffix) {
        return Ok((Format::Binary, Unit { shift: 10 * (i as u32 + 1), power: 0 }));
    }
    // Ray reads `K` as `k`, and the `resources` of a group are plain strings that no API server has checked.
    let decimal = if suffix == "K" { "k" } else { suffix };
    if let Some((_, power)) = DECIMAL_SUFFIXES.iter().find(|(s, _)| *s == decimal) {
        return Ok((Format::Decimal, Unit { shift: 0, power: *power }));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Malformed)?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(QuantityError::Malformed);
    }
    let power: i16 = exponent.parse().map_err(|_| QuantityError::OutOfRange)?;
    Ok((Format::Exponent, Unit { shift: 0, power: power.into() }))
}

/// `mantissa × unit`, rounded up, for a mantissa above 0.
fn scaled(mantissa: i128, unit: Unit) -> Result<i128, QuantityError> {
    let factor = |exponent: u32| 10_i128.checked_pow(exponent);
    let mantissa = mantissa.checked_mul(1 << unit.shift).ok_or(QuantityError::OutOfRange)?;
    let nanos = if unit.power >= 0 {
        factor(unit.power.unsigned_abs()).and_then(|f| mantissa.checked_mul(f)).ok_or(QuantityError::OutOfRange)?
    } else {
        // A divisor beyond 128 bits leaves something above 0 and below 1.
        factor(unit.power.unsigned_abs()).map_or(1, |f| mantissa / f + i128::from(mantissa % f != 0))
    };
    if nanos > MOST_NANOS { Err(QuantityError::OutOfRange) } else { Ok(nanos) }
}

impl fmt::Display for Quantity {
    /// Kubernetes' canonical form: no fraction, the largest suffix of its family that needs none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let units = self.nanos / NANOS_PER_UNIT;
        let is_whole = self.nanos % NANOS_PER_UNIT == 0;
        if self.format == Format::Binary && is_whole && units.abs() >= 1024 {
            let level = (units.trailing_zeros() / 10).min(BINARY_SUFFIXES.len() as u32);
            let suffix = (level as usize).checked_sub(1).and_then(|i| BINARY_SUFFIXES.get(i)).copied().unwrap_or("");
            return write!(f, "{}{suffix}", units >> (10 * level));
        }
        let (mut number, mut power) = (self.nanos, -NANO_PLACES);
        while number % 1_000 == 0 && power < 18 {
            number /= 1_000;
            power += 3;
        }
        let suffix = DECIMAL_SUFFIXES.iter().find(|(_, p)| *p == power).map_or("", |(s, _)| *s);
        match self.format {
            Format::Exponent if power != 0 => write!(f, "{number}e{power}"),
            _ => write!(f, "{number}{suffix}"),
        }
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Quantity::ZERO
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Quantity::from_json(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{Quantity, QuantityError};

    fn q(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn every_suffix_has_its_worth() {
        let units = [
            ("1Ki", 1_i64 << 10),
            ("1Mi", 1 << 20),
            ("1Gi", 1 << 30),
            ("1Ti", 1 << 40),
            ("1Pi", 1 << 50),
            ("1Ei", 1 << 60),
            ("1k", 1_000),
            ("1K", 1_000),
            ("1M", 1_000_000),
            ("1G", 1_000_000_000),
            ("1T", 1_000_000_000_000),
            ("1P", 1_000_000_000_000_000),
            ("1E", 1_000_000_000_000_000_000),
            ("1", 1),
            ("1000m", 1),
            ("1000000u", 1),
            ("1000000000n", 1),
            ("1e3", 1_000),
            ("1E3", 1_000),
            ("12E+2", 1_200),
            ("5000e-3", 5),
            ("1.5Gi", 1_610_612_736),
            (".5k", 500),
            ("5.", 5),
            ("+7", 7),
            ("-7", -7),
            ("007", 7),
            ("9223372036854775807", i64::MAX),
        ];
        for (text, expected) in units {
            assert_eq!(q(text), Quantity::from_units(expected), "{text}");
        }
    }

    #[test]
    fn rounds_up_to_whole_units() {
        let ceilings =
            [("500m", 1), ("1500m", 2), ("1n", 1), ("0.1n", 1), ("2", 2), ("0", 0), ("-500m", -1), ("1e-99", 1)];
        for (text, expected) in ceilings {
            assert_eq!(q(text).ceil_units(), expected, "{text}");
        }
        assert_eq!(q("1500m").trunc_units(), 1);
    }

    #[test]
    fn canonical_form_is_kubernetes_own() {
        let printed = [
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1024", "1024"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1000k", "1M"),
            ("1e3", "1e3"),
            ("1024e0", "1024"),
            ("0Gi", "0"),
            ("0.5Ki", "512"),
            ("8Ki", "8Ki"),
            ("1025Ki", "1025Ki"),
            ("-2Gi", "-2Gi"),
            ("0.0005", "500u"),
        ];
        for (text, expected) in printed {
            assert_eq!(q(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        let garbage = [
            "", " ", "x", "1 ", " 1", "1Gb", "1GiB", "1ki", "1gi", "--1", "1.2.3", ".", "1e", "1e+", "1e3Ki", "Gi",
            "NaN", "Infinity", "1_000", "٣", "0x10", "1,5",
        ];
        for text in garbage {
            assert_eq!(text.parse::<Quantity>().unwrap_err(), QuantityError::Malformed, "{text}");
        }
    }

    #[test]
    fn absurd_amounts_are_refused() {
        let long = "9".repeat(10_000);
        for text in ["8Ei", "9223372036854775808", "1e19", "1e30000", "1e99999", "-10E", long.as_str()] {
            assert_eq!(text.parse::<Quantity>().unwrap_err(), QuantityError::OutOfRange, "{text}");
        }
    }

    #[test]
    fn json_numbers_and_strings_are_read_and_nothing_else() {
        assert_eq!(Quantity::from_json(&json!(2)).unwrap(), q("2"));
        assert_eq!(Quantity::from_json(&json!(0.5)).unwrap(), q("500m"));
        assert_eq!(Quantity::from_json(&json!("2Gi")).unwrap(), q("2Gi"));
        for value in [json!(null), json!(true), json!([]), json!({})] {
            assert_eq!(Quantity::from_json(&value).unwrap_err(), QuantityError::Malformed);
        }
    }

    #[test]
    fn sums_print_as_their_first_term() {
        assert_eq!(q("1Gi").checked_add(q("1024")).unwrap().to_string(), "1048577Ki");
        assert_eq!(q("500m").checked_add(q("1Ki")).unwrap().to_string(), "1024500m");
        assert_eq!(q("7Ei").checked_add(q("7Ei")), None);
        assert_eq!(q("1536Mi").checked_mul(4).unwrap().to_string(), "6Gi");
        assert_eq!(q("7Ei").checked_mul(2), None);
        assert_eq!(q("1").checked_sub(q("1500m")).unwrap().to_string(), "-500m");
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC*") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn what_is_printed_reads_back_as_the_same(
            number in "[+-]?[0-9]{1,12}(\\.[0-9]{0,9})?", suffix in "(|n|u|m|k|M|Ki|Mi|Gi|e[0-9]|E-[0-9])"
        ) {
            if let Ok(quantity) = format!("{number}{suffix}").parse::<Quantity>() {
                let printed = quantity.to_string();
                prop_assert_eq!(printed.parse::<Quantity>().unwrap(), quantity);
                prop_assert_eq!(printed.parse::<Quantity>().unwrap().to_string(), printed);
            }
        }

        #[test]
        fn thousandths_round_up_exactly(millis in -1_000_000_000_i64..1_000_000_000) {
            let expected = if millis >= 0 { (millis + 999) / 1_000 } else { (millis - 999) / 1_000 };
            prop_assert_eq!(format!("{millis}m").parse::<Quantity>().unwrap().ceil_units(), expected);
        }
    }
}
