//! How long things took.

use std::time::Duration;

/// The sidecar's metric for the time from the end of a GCS reply to the acceptance of the patch made from it.
const REACTION: &str = "mobula_reaction_seconds";

/// Measured waits, in the order in which they ended.
#[derive(Default)]
pub struct Waits(Vec<(&'static str, Duration)>);

impl Waits {
    /// Adds one.
    pub fn add(&mut self, what: &'static str, took: Duration) {
        self.0.push((what, took));
    }

    /// Prints them, and what the sidecar has measured itself.
    pub fn print(&self, metrics: &str) {
        println!("\nMeasured from outside:");
        for (what, took) in &self.0 {
            println!("  {:>6.1} s  {what}", took.as_secs_f64());
        }
        let build = if cfg!(debug_assertions) { " (debug build)" } else { "" };
        println!("By the sidecar{build}, from the GCS reply that a patch was made from to its acceptance:");
        let ms = |quantile: &str| sample(metrics, quantile).map(|seconds| format!("{:>6.1} ms", seconds * 1000.0));
        for (quantile, what) in [("quantile=\"0.5\"", "median"), ("quantile=\"1\"", "slowest")] {
            println!("  {}  {what}", ms(quantile).unwrap_or_else(|| format!("no {REACTION} of {quantile}")));
        }
    }
}

/// The value of the reaction's sample whose labels hold this text.
fn sample(metrics: &str, labels: &str) -> Option<f64> {
    let mut lines = metrics.lines().filter(|line| line.starts_with(REACTION) && line.contains(labels));
    lines.next()?.rsplit_once(' ')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantile_is_found_among_other_metrics() {
        let text = "# HELP mobula_reaction_seconds x\nmobula_tick{quantile=\"0.5\"} 9\n\
                    mobula_reaction_seconds{quantile=\"0.5\"} 0.004\nmobula_reaction_seconds{quantile=\"1\"} 0.01\n";
        assert_eq!(sample(text, "quantile=\"0.5\""), Some(0.004));
        assert_eq!(sample(text, "quantile=\"1\""), Some(0.01));
        assert_eq!(sample(text, "quantile=\"0.99\""), None);
    }
}
