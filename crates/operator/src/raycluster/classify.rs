//! What a pod counts as, before anything is counted.

use crate::frame::pod::Pod;

/// What a pod counts as.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It runs, or is on its way to it.
    Active,
    /// It has ended and nothing will start it again: to be deleted.
    Failed,
    /// Its deletion was asked for; it may still hold what it had.
    Leaving,
    /// It should have been gone for a while: its node does not answer. Nothing is to be expected of it.
    Lost,
}

/// A pod that is still there so long after its grace period, in ms, is lost.
pub const LOST_AFTER_MS: i64 = 60_000;

/// What `pod` counts as at `now_ms`.
pub fn standing(pod: &Pod, now_ms: i64) -> Standing {
    match pod.deletion_ms {
        Some(gone_by_ms) if now_ms >= lost_at_ms(gone_by_ms) => Standing::Lost,
        Some(_) => Standing::Leaving,
        None if pod.phase == "Failed" || pod.phase == "Succeeded" => Standing::Failed,
        None if pod.is_running() && pod.ray_has_ended => Standing::Failed,
        None => Standing::Active,
    }
}

/// When a pod that should be gone by `gone_by_ms` counts as lost.
pub fn lost_at_ms(gone_by_ms: i64) -> i64 {
    gone_by_ms.saturating_add(LOST_AFTER_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_should_be_gone_is_lost_after_a_while() {
        let pod = Pod { deletion_ms: Some(30_000), phase: "Running".into(), ..Pod::default() };
        assert_eq!(standing(&pod, 89_999), Standing::Leaving);
        assert_eq!(standing(&pod, 90_000), Standing::Lost);
    }

    #[test]
    fn a_pod_has_failed_when_nothing_will_start_it_again() {
        let pod = |phase: &str, ray_has_ended| Pod { phase: phase.into(), ray_has_ended, ..Pod::default() };
        for (pod, expected) in [
            (pod("Failed", false), Standing::Failed),
            (pod("Succeeded", false), Standing::Failed),
            (pod("Running", true), Standing::Failed),
            (pod("Running", false), Standing::Active),
            (pod("Pending", false), Standing::Active),
            (pod("Unknown", false), Standing::Active),
        ] {
            assert_eq!(standing(&pod, 0), expected, "{pod:?}");
        }
    }
}
