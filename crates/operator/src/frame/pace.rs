//! A limit of requests a second, where one is wanted.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Lets so many requests pass a second, and a number of them at once.
pub struct Pace {
    interval: Duration,
    burst: u32,
    /// When the bucket would be empty of debts.
    paid_until: Mutex<Instant>,
}

impl Pace {
    /// `None` where `qps` is no limit (0 or less).
    pub fn new(qps: f64, burst: u32) -> Option<Pace> {
        let interval = (qps > 0.0).then(|| Duration::try_from_secs_f64(1.0 / qps).ok())??;
        Some(Pace { interval, burst: burst.max(1), paid_until: Mutex::new(Instant::now()) })
    }

    /// How long the last of so many requests waits at most that come at once.
    pub fn time_for(&self, requests: usize) -> Duration {
        self.interval.saturating_mul(u32::try_from(requests).unwrap_or(u32::MAX))
    }

    /// Waits for its turn.
    pub async fn wait(&self) {
        let at = {
            let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
            *paid_until = (*paid_until).max(Instant::now()) + self.interval;
            *paid_until - self.interval * self.burst
        };
        tokio::time::sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_the_rest_at_the_pace() {
        let pace = Pace::new(10.0, 5).unwrap();
        let start = Instant::now();
        let mut passed_ms = Vec::new();
        for _ in 0..8 {
            pace.wait().await;
            passed_ms.push(start.elapsed().as_millis());
        }
        assert_eq!(passed_ms, [0, 0, 0, 0, 0, 100, 200, 300]);
        assert_eq!(pace.time_for(8), Duration::from_millis(800));
        assert!(Pace::new(0.0, 5).is_none());
    }
}
