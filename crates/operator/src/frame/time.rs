//! Time as a value that is passed in, and times as Kubernetes writes them.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

/// Says what time it is, in Unix ms. Production takes the operating system's, a simulation follows `tokio::time`.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// A clock that shows `start_unix_ms` now and follows `tokio::time`: under a paused runtime it is fully under control.
pub fn following_clock(start_unix_ms: i64) -> Clock {
    let start = tokio::time::Instant::now();
    Arc::new(move || start_unix_ms.saturating_add(i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX)))
}

/// RFC 3339 in whole seconds, as `metav1.Time`.
pub fn rfc3339(unix_ms: i64) -> String {
    Timestamp::from_second(unix_ms.div_euclid(1_000)).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// RFC 3339 with six decimals, as `metav1.MicroTime`.
pub fn rfc3339_micro(unix_ms: i64) -> String {
    format!("{:.6}", Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Unix ms of an RFC 3339 time.
pub fn parse(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_kubernetes_writes_them() {
        let ms = 1_795_255_589_454;
        assert_eq!(rfc3339(ms), "2026-11-21T10:06:29Z");
        assert_eq!(rfc3339_micro(ms), "2026-11-21T10:06:29.454000Z");
        assert_eq!(parse("2026-11-21T10:06:29Z"), Some(ms - 454));
        assert_eq!(parse("yesterday"), None);
    }
}
