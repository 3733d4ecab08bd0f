//! Percentiles of a few hundred measurements.

use std::fmt;
use std::time::Duration;

/// Measured durations.
#[derive(Clone, Debug, Default)]
pub struct Durations {
    sorted: Vec<Duration>,
}

impl Durations {
    /// The share `quantile` (0 to 1) of the measurements is at most the result; zero without measurements.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let rank = (quantile * self.sorted.len() as f64).ceil() as usize;
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }
}

impl FromIterator<Duration> for Durations {
    fn from_iter<I: IntoIterator<Item = Duration>>(durations: I) -> Self {
        let mut sorted: Vec<Duration> = durations.into_iter().collect();
        sorted.sort();
        Durations { sorted }
    }
}

impl fmt::Display for Durations {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |quantile| self.quantile(quantile).as_secs_f64() * 1e3;
        write!(out, "{:.1} | {:.1} | {:.1} | {}", ms(0.5), ms(0.99), ms(1.0), self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(values: impl IntoIterator<Item = u64>) -> Durations {
        values.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn quantiles_of_a_hundred() {
        let durations = milliseconds((1..=100).rev());
        assert_eq!(durations.quantile(0.5), Duration::from_millis(50));
        assert_eq!(durations.quantile(0.99), Duration::from_millis(99));
        assert_eq!(durations.quantile(1.0), Duration::from_millis(100));
        assert_eq!(durations.quantile(0.0), Duration::from_millis(1));
    }

    #[test]
    fn one_and_none() {
        assert_eq!(milliseconds([7]).quantile(0.5), Duration::from_millis(7));
        assert_eq!(milliseconds([]).quantile(0.5), Duration::ZERO);
        assert_eq!(milliseconds([7]).to_string(), "7.0 | 7.0 | 7.0 | 1");
    }
}
