//! Waiting for something to become so.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(50);

/// Looks until `look` gives a value that `is_right`; returns how long it took. Fails at once if `look` fails, and after
/// `limit`, telling what was seen last.
pub async fn until<T: Debug>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T>,
    mut is_right: impl FnMut(&T) -> bool,
) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let seen = look().await.with_context(|| format!("while waiting for: {what}"))?;
        if is_right(&seen) {
            return Ok(start.elapsed());
        }
        ensure!(start.elapsed() < limit, "after {} s not yet: {what}; last seen: {seen:?}", limit.as_secs());
        tokio::time::sleep(PERIOD).await;
    }
}

/// Looks for the whole of `span`; fails as soon as a value is not right.
pub async fn throughout<T: Debug>(
    what: &str,
    span: Duration,
    mut look: impl AsyncFnMut() -> Result<T>,
    mut is_right: impl FnMut(&T) -> bool,
) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < span {
        let seen = look().await?;
        ensure!(is_right(&seen), "after {:.1} s no longer: {what}; seen: {seen:?}", start.elapsed().as_secs_f64());
        tokio::time::sleep(PERIOD).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_comes_true_ends_the_wait() {
        let mut n = 0;
        let look = async || {
            n += 1;
            Ok(n)
        };
        until("three", Duration::from_secs(5), look, |n| *n == 3).await.unwrap();
    }

    #[tokio::test]
    async fn giving_up_tells_what_was_seen_last() {
        let error = until("never", Duration::ZERO, async || Ok(7), |_| false).await.unwrap_err().to_string();
        assert!(error.contains("never") && error.contains("last seen: 7"), "{error}");
    }

    #[tokio::test]
    async fn a_condition_that_breaks_is_seen() {
        let mut n = 0;
        let look = async || {
            n += 1;
            Ok(n)
        };
        assert!(throughout("small", Duration::from_secs(5), look, |n| *n < 3).await.is_err());
    }
}
