//! When to do the next thing: the pace of polls, and a back-off for each cause of failure.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// How often the GCS is asked.
///
/// The GCS answers on its main thread, so the pace follows what an answer costs: with the default factor of 50 we use at
/// most 2 % of that thread (see `max_interval` for the one exception).
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Pace {
    /// Shortest time between the end of one poll and the start of the next.
    pub min_interval: Duration,
    /// The next poll waits at least this many times as long as the last answer took.
    pub cost_factor: f64,
    /// Longest wait, however slow the GCS is: it limits what `cost_factor` asks for.
    ///
    /// The default of 300 s takes effect where an answer took more than 6 s. At the worst (10 s, where a call is given up)
    /// polls then use 3 % of the GCS's main thread instead of 2 %: to be blind for longer would be worse.
    pub max_interval: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { min_interval: Duration::from_millis(200), cost_factor: 50.0, max_interval: Duration::from_secs(300) }
    }
}

impl Pace {
    /// How long to wait after an answer that took `reply`.
    pub fn next_poll(&self, reply: Duration) -> Duration {
        let wait_s = reply.as_secs_f64() * self.cost_factor.max(0.0);
        let wait = Duration::try_from_secs_f64(wait_s).unwrap_or(self.max_interval);
        wait.min(self.max_interval).max(self.min_interval)
    }
}

/// Bounds of an exponential back-off.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct BackoffLimits {
    /// First wait.
    pub first: Duration,
    /// Longest wait.
    pub most: Duration,
}

/// Shortest time after a back-off in which a cause must be tried again to be remembered.
const UNTRIED: Duration = Duration::from_secs(60);

/// Independent back-offs, one a cause: trouble with one thing does not slow another down.
#[derive(Debug)]
pub struct Backoffs<K: Ord> {
    causes: BTreeMap<K, Cause>,
}

#[derive(Copy, Clone, Debug)]
struct Cause {
    wait: Duration,
    not_before: Instant,
}

impl<K: Ord> Default for Backoffs<K> {
    fn default() -> Self {
        Backoffs { causes: BTreeMap::new() }
    }
}

impl<K: Ord> Backoffs<K> {
    /// No cause has failed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a failure: the cause waits twice as long as the last time, within `limits`, and at least `asked` (what the
    /// other side asked for, for example by Retry-After). Returns the wait.
    pub fn fail(&mut self, cause: K, limits: BackoffLimits, asked: Option<Duration>) -> Duration {
        let doubled = self.causes.get(&cause).map_or(limits.first, |c| c.wait.saturating_mul(2));
        let wait = doubled.max(limits.first).min(limits.most);
        let pause = wait.max(asked.unwrap_or_default());
        self.causes.insert(cause, Cause { wait, not_before: Instant::now() + pause });
        pause
    }

    /// Forgets the failures of all causes that `which` names.
    pub fn succeed_where(&mut self, which: impl Fn(&K) -> bool) {
        self.causes.retain(|cause, _| !which(cause));
    }

    /// Forgets causes that might have been tried again for long and were not: nobody wants any more what they refused.
    pub fn forget_untried(&mut self) {
        let now = Instant::now();
        let is_untried = |cause: &Cause| now >= cause.not_before + cause.wait.max(UNTRIED);
        self.causes.retain(|_, cause| !is_untried(cause));
    }

    /// Whether a cause that `which` names has failed and not succeeded since, be its wait over or not.
    pub fn is_failing(&self, which: impl Fn(&K) -> bool) -> bool {
        self.causes.keys().any(which)
    }

    /// How long all causes that `which` names still wait; `None`: none of them does.
    pub fn blocked(&self, which: impl Fn(&K) -> bool) -> Option<Duration> {
        let now = Instant::now();
        let waits = self.causes.iter().filter(|(cause, _)| which(cause));
        waits.map(|(_, cause)| cause.not_before.saturating_duration_since(now)).max().filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BackoffLimits = BackoffLimits { first: Duration::from_secs(1), most: Duration::from_secs(5) };

    #[test]
    fn a_fast_reply_is_polled_at_the_shortest_interval() {
        assert_eq!(Pace::default().next_poll(Duration::from_millis(1)), Duration::from_millis(200));
    }

    #[test]
    fn a_slow_reply_slows_the_pace() {
        assert_eq!(Pace::default().next_poll(Duration::from_millis(10)), Duration::from_millis(500));
    }

    #[test]
    fn a_very_slow_reply_still_costs_at_most_a_fiftieth() {
        assert_eq!(Pace::default().next_poll(Duration::from_secs(6)), Duration::from_secs(300));
    }

    #[test]
    fn a_hanging_gcs_does_not_stop_the_pace() {
        assert_eq!(Pace::default().next_poll(Duration::from_secs(600)), Duration::from_secs(300));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_the_most_and_are_separate_for_each_cause() {
        let mut backoffs = Backoffs::new();
        let waits: Vec<u64> = (0..5).map(|_| backoffs.fail("a", LIMITS, None).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        assert_eq!(backoffs.blocked(|cause| *cause == "a"), Some(Duration::from_secs(5)));
        assert_eq!(backoffs.blocked(|cause| *cause == "b"), None);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(backoffs.blocked(|_| true), None);
        assert!(backoffs.is_failing(|cause| *cause == "a"), "until it succeeds");
        backoffs.succeed_where(|cause| *cause == "a");
        assert!(!backoffs.is_failing(|_| true));
        assert_eq!(backoffs.fail("a", LIMITS, None), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_tries_any_more_is_forgotten() {
        let mut backoffs = Backoffs::new();
        backoffs.fail("a", LIMITS, None);
        for (seconds, is_known) in [(1, true), (59, true), (1, false)] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            backoffs.forget_untried();
            assert_eq!(backoffs.is_failing(|_| true), is_known);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_longer_wait_that_the_server_asks_for_is_kept() {
        let mut backoffs = Backoffs::new();
        assert_eq!(backoffs.fail("a", LIMITS, Some(Duration::from_secs(30))), Duration::from_secs(30));
        assert_eq!(backoffs.blocked(|_| true), Some(Duration::from_secs(30)));
    }
}
