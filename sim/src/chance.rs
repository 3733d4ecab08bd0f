//! Chance: one seed, and a stream of its own for each purpose and each thing, so that what is drawn for one never moves
//! what is drawn for another.

use mobula_traces::Seeded;
use serde::Deserialize;
use serde_json::Value;

use crate::span::Span;

/// The generator of a run for this purpose and this thing.
pub fn stream(seed: u64, purpose: &str, thing: &str) -> Seeded {
    Seeded::new(seed).child(number(purpose)).child(number(thing))
}

/// FNV-1a: any function of the text will do, as long as it never changes.
fn number(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Evenly between 0 and 1, never 0.
pub fn unit(chance: &mut Seeded) -> f64 {
    ((chance.draw() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
}

/// Whether something of this probability happens.
pub fn happens(chance: &mut Seeded, probability: f64) -> bool {
    probability > 0.0 && unit(chance) <= probability
}

/// A distribution of times.
#[derive(Copy, Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub enum Spread {
    /// Always the same.
    Constant(Span),
    /// Evenly between two.
    Uniform(Span, Span),
    /// Memoryless, with this mean: the gaps of a Poisson process.
    Exponential(Span),
    /// Whose logarithm is normal.
    LogNormal {
        /// Half are below.
        median: Span,
        /// 99 of 100 are below.
        p99: Span,
    },
    /// A heavy tail.
    Pareto {
        /// The shortest.
        least: Span,
        /// How fast the tail falls; above 1, or there is no mean.
        shape: f64,
    },
}

/// The 99th percentile of the standard normal distribution.
const NORMAL_P99: f64 = 2.326_347_874_040_841;

impl Spread {
    /// One draw.
    pub fn draw(&self, chance: &mut Seeded) -> Span {
        match *self {
            Spread::Constant(span) => span,
            Spread::Uniform(low, high) => {
                let width = high.as_f64_s() - low.as_f64_s();
                Span::from_f64_s(low.as_f64_s() + width * unit(chance))
            }
            Spread::Exponential(mean) => Span::from_f64_s(-unit(chance).ln() * mean.as_f64_s()),
            Spread::LogNormal { median, p99 } => {
                let sigma = (p99.as_f64_s() / median.as_f64_s()).ln() / NORMAL_P99;
                Span::from_f64_s(median.as_f64_s() * (sigma * normal(chance)).exp())
            }
            Spread::Pareto { least, shape } => Span::from_f64_s(least.as_f64_s() * unit(chance).powf(-1.0 / shape)),
        }
    }

    /// The mean, in seconds.
    pub fn mean_s(&self) -> f64 {
        match *self {
            Spread::Constant(span) | Spread::Exponential(span) => span.as_f64_s(),
            Spread::Uniform(low, high) => f64::midpoint(low.as_f64_s(), high.as_f64_s()),
            Spread::LogNormal { median, p99 } => {
                let sigma = (p99.as_f64_s() / median.as_f64_s()).ln() / NORMAL_P99;
                median.as_f64_s() * (sigma * sigma / 2.0).exp()
            }
            Spread::Pareto { least, shape } => least.as_f64_s() * shape / (shape - 1.0),
        }
    }
}

/// Standard normal, by Box and Muller.
fn normal(chance: &mut Seeded) -> f64 {
    let (radius, angle) = (unit(chance), unit(chance));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

const FORMS: &str = "must be a time such as 90s, or one of {uniform: [LOW, HIGH]}, {exponential: MEAN}, \
                     {lognormal: {median: TIME, p99: TIME}}, {pareto: {least: TIME, shape: NUMBER}}";

impl TryFrom<Value> for Spread {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let bad = || format!("{value}: {FORMS}");
        let Value::Object(map) = &value else { return Ok(Spread::Constant(Span::read(&value)?)) };
        let (Some((name, form)), 1) = (map.iter().next(), map.len()) else { return Err(bad()) };
        let part = |key: &str| Span::read(form.get(key).ok_or_else(bad)?);
        let spread = match name.as_str() {
            "uniform" => match form.as_array().map(Vec::as_slice) {
                Some([low, high]) => Spread::Uniform(Span::read(low)?, Span::read(high)?),
                _ => return Err(bad()),
            },
            "exponential" => Spread::Exponential(Span::read(form)?),
            "lognormal" => Spread::LogNormal { median: part("median")?, p99: part("p99")? },
            "pareto" => Spread::Pareto {
                least: part("least")?,
                shape: form.get("shape").and_then(Value::as_f64).ok_or_else(bad)?,
            },
            _ => return Err(bad()),
        };
        match spread {
            Spread::Uniform(low, high) if low > high => Err(format!("{value}: the second must not be below the first")),
            Spread::LogNormal { median, p99 } if median.is_zero() || p99 < median => {
                Err(format!("{value}: median must be above 0, and p99 not below it"))
            }
            Spread::Pareto { shape, .. } if shape <= 1.0 => Err(format!("{value}: shape must be above 1")),
            spread => Ok(spread),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spread(value: Value) -> Spread {
        Spread::try_from(value).unwrap()
    }

    #[test]
    fn draws_have_the_mean_that_is_said() {
        for form in [
            json!("30s"),
            json!({"uniform": ["10s", "50s"]}),
            json!({"exponential": "30s"}),
            json!({"lognormal": {"median": "30s", "p99": "2m"}}),
            json!({"pareto": {"least": "10s", "shape": 3.0}}),
        ] {
            let (spread, mut chance) = (spread(form.clone()), stream(1, "test", "a"));
            let sum: f64 = (0..20_000).map(|_| spread.draw(&mut chance).as_f64_s()).sum();
            let mean = sum / 20_000.0;
            assert!((mean / spread.mean_s() - 1.0).abs() < 0.05, "{form}: {mean} {}", spread.mean_s());
        }
    }

    #[test]
    fn streams_do_not_move_each_other() {
        let mut other = stream(1, "pull", "b");
        other.draw();
        assert_eq!(stream(1, "pull", "a").draw(), stream(1, "pull", "a").draw());
        assert_ne!(stream(1, "pull", "a").draw(), stream(1, "init", "a").draw());
        assert_ne!(stream(1, "pull", "a").draw(), stream(2, "pull", "a").draw());
    }

    #[test]
    fn what_is_no_distribution_says_what_one_is() {
        for bad in [json!({"gauss": "1s"}), json!({"uniform": ["1s"]}), json!([1]), json!({})] {
            assert!(Spread::try_from(bad.clone()).unwrap_err().contains("must be a time"), "{bad}");
        }
        assert!(Spread::try_from(json!({"uniform": ["2s", "1s"]})).is_err());
        assert!(Spread::try_from(json!({"pareto": {"least": "1s", "shape": 1.0}})).is_err());
    }
}
