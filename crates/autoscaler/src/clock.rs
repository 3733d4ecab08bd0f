//! The wall clock as a value that is passed in.
//!
//! Durations are measured with `tokio::time::Instant`, which neither jumps nor runs backwards. The wall clock is only for
//! what others must read: time stamps in plans, reports, events and recordings.

use tokio::time::Instant;

/// Says what time it is.
pub trait Clock: Send + Sync {
    /// Unix time in ms. It may jump in either direction: never subtract two of its values to get a duration that matters.
    fn now_unix_ms(&self) -> i64;
}

/// A wall clock that starts at a given time and follows `tokio::time`: with a paused runtime it is fully under control.
#[derive(Clone, Debug)]
pub struct FollowingClock {
    start_unix_ms: i64,
    start: Instant,
}

impl FollowingClock {
    /// A clock that shows `start_unix_ms` now.
    pub fn starting_at(start_unix_ms: i64) -> Self {
        FollowingClock { start_unix_ms, start: Instant::now() }
    }
}

impl Clock for FollowingClock {
    fn now_unix_ms(&self) -> i64 {
        let elapsed_ms = i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.start_unix_ms.saturating_add(elapsed_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn follows_the_runtime() {
        let clock = FollowingClock::starting_at(1_000);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.now_unix_ms(), 3_000);
    }
}
