//! Ending a whole cluster that nobody uses: `spec.idleTerminationOptions`.
//!
//! A cluster is in use while a driver is alive. Once the last one has been gone for the time that the user set, the
//! RayCluster is marked (`idleSuspend`) and the operator removes its pods. Detached actors do not count as use, as in Ray.
//!
//! The policy `Delete` is refused: it takes the verb `delete` on rayclusters, which KubeRay's Role does not give the
//! autoscaler, and a cluster that was deleted by mistake can't be had back.

use std::time::Duration;

use mobula_api::{ClusterSettings, IdlePolicy};
use mobula_gcs::JobInfo;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Jobs in namespaces that start so are Ray's own.
const INTERNAL_NAMESPACE_PREFIX: &str = "_ray_internal_";

/// What is remembered between looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdleMemory {
    /// Since when no driver has been seen; `None`: one is there, or may be.
    unused_since: Option<Instant>,
    /// The newest end of a job that was ever seen, in Unix ms.
    last_job_end_ms: u64,
}

impl IdleMemory {
    /// Begins to count anew: for a while the cluster was not seen, so somebody may have used it.
    pub fn start_over(&mut self) {
        self.unused_since = None;
    }
}

/// What should be done about the cluster as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is in use, or not unused for long enough, or the user did not ask for this.
    None,
    /// Apply [`suspend_patch`].
    Suspend,
    /// The time has come, but what the user wants can't be done; the message says why and what to do instead. It is the
    /// same in every tick: say it once.
    Refused(String),
}

/// Whether to end the cluster at `now`. `jobs` is the job table; `None`: it could not be read, which counts as in use.
///
/// The time is a monotonic one: a wall clock that jumps must not end a cluster. Call it in every tick that saw the cluster
/// as a whole, and pass on the memory that it returns; after any other tick, and where nothing is configured, call
/// [`IdleMemory::start_over`].
pub fn decide(
    jobs: Option<&[JobInfo]>,
    settings: &ClusterSettings,
    now: Instant,
    memory: &IdleMemory,
) -> (Decision, IdleMemory) {
    let Some(options) = settings.idle_termination.as_ref() else {
        return (Decision::None, IdleMemory { unused_since: None, ..memory.clone() });
    };
    let memory = look(jobs, now, memory);
    let timeout = Duration::from_millis(u64::try_from(options.timeout_ms).unwrap_or(0));
    let is_due = memory.unused_since.is_some_and(|since| now.saturating_duration_since(since) >= timeout);
    let decision = match options.policy {
        _ if !is_due || settings.suspended => Decision::None,
        IdlePolicy::Suspend => Decision::Suspend,
        IdlePolicy::Delete => Decision::Refused(format!(
            "no driver for {} s: the RayCluster should be deleted (spec.idleTerminationOptions.policy: Delete), but the \
             Role of the autoscaler has no verb `delete` on rayclusters: set the policy to Suspend, or delete the cluster",
            timeout.as_secs()
        )),
    };
    (decision, memory)
}

fn look(jobs: Option<&[JobInfo]>, now: Instant, memory: &IdleMemory) -> IdleMemory {
    let Some(jobs) = jobs else {
        return IdleMemory { unused_since: None, ..memory.clone() };
    };
    let users: Vec<&JobInfo> =
        jobs.iter().filter(|job| !job.namespace.starts_with(INTERNAL_NAMESPACE_PREFIX)).collect();
    if users.iter().any(|job| !job.is_dead) {
        return IdleMemory { unused_since: None, ..memory.clone() };
    }
    let last_job_end_ms = users.iter().map(|job| job.end_time_ms).max().unwrap_or(0);
    // A job that came and went between two looks was a use, too.
    let was_used = last_job_end_ms > memory.last_job_end_ms;
    IdleMemory {
        unused_since: memory.unused_since.filter(|_| !was_used).or(Some(now)),
        last_job_end_ms: last_job_end_ms.max(memory.last_job_end_ms),
    }
}

/// The merge patch that has the operator suspend the cluster.
pub fn suspend_patch() -> Value {
    json!({"spec": {"idleSuspend": true}})
}

#[cfg(test)]
mod tests {
    use mobula_api::{IdleTermination, RayCluster};

    use super::*;

    fn job(is_dead: bool, namespace: &str, end_time_ms: u64) -> JobInfo {
        JobInfo { is_dead, namespace: namespace.into(), end_time_ms, ..JobInfo::default() }
    }

    fn settings_of(idle_termination: Option<IdleTermination>) -> ClusterSettings {
        let head = serde_json::json!({"metadata": {"name": "c"}, "spec": {"headGroupSpec": {"template": {}}}});
        ClusterSettings { idle_termination, ..RayCluster::from_value(head).unwrap().settings().unwrap() }
    }

    fn settings(policy: IdlePolicy) -> ClusterSettings {
        settings_of(Some(IdleTermination { timeout_ms: 10_000, policy }))
    }

    /// Looks at each second of `script` and returns the seconds at which the cluster is to be suspended.
    fn suspended_at(script: &[(u64, Option<Vec<JobInfo>>)]) -> Vec<u64> {
        let start = Instant::now();
        let mut memory = IdleMemory::default();
        let mut suspended = Vec::new();
        for (second, jobs) in script {
            let now = start + Duration::from_secs(*second);
            let decision;
            (decision, memory) = decide(jobs.as_deref(), &settings(IdlePolicy::Suspend), now, &memory);
            if decision == Decision::Suspend {
                suspended.push(*second);
            }
        }
        suspended
    }

    #[test]
    fn counts_from_the_first_look_without_a_driver() {
        let none = || Some(vec![]);
        assert_eq!(suspended_at(&[(100, none()), (109, none()), (110, none())]), [110]);
    }

    #[test]
    fn a_living_driver_or_an_unreadable_job_table_starts_it_over() {
        let none = || Some(vec![]);
        let driver = Some(vec![job(false, "user", 0)]);
        assert_eq!(suspended_at(&[(0, none()), (9, driver), (12, none()), (21, none()), (22, none())]), [22]);
        assert_eq!(suspended_at(&[(0, none()), (9, None), (12, none()), (21, none()), (22, none())]), [22]);
    }

    #[test]
    fn a_job_that_ended_between_two_looks_starts_it_over() {
        let ended = |ms| Some(vec![job(true, "user", ms)]);
        assert_eq!(suspended_at(&[(0, ended(100)), (9, ended(200)), (10, ended(200)), (19, ended(200))]), [19]);
    }

    #[test]
    fn a_newer_end_seen_beside_a_living_driver_does_not_restart_the_window_twice() {
        let both = Some(vec![job(false, "user", 0), job(true, "user", 5)]);
        let ended = || Some(vec![job(true, "user", 5)]);
        assert_eq!(suspended_at(&[(0, both), (1, ended()), (10, ended()), (11, ended())]), [11]);
    }

    #[test]
    fn rays_own_jobs_neither_use_the_cluster_nor_restart_the_window() {
        let own = |end_ms| Some(vec![job(false, "_ray_internal_dashboard", 0), job(true, "_ray_internal_x", end_ms)]);
        assert_eq!(suspended_at(&[(0, own(1)), (5, own(2)), (10, own(3))]), [10]);
    }

    #[test]
    fn delete_is_refused_with_what_to_do_instead() {
        let now = Instant::now();
        let (_, memory) = decide(Some(&[]), &settings(IdlePolicy::Delete), now, &IdleMemory::default());
        let later = now + Duration::from_secs(10);
        match decide(Some(&[]), &settings(IdlePolicy::Delete), later, &memory).0 {
            Decision::Refused(message) => assert!(message.contains("verb `delete`"), "{message}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_done_unless_asked_for_nor_twice() {
        let now = Instant::now();
        let later = now + Duration::from_secs(3600);
        let (off, memory) = decide(Some(&[]), &settings_of(None), now, &IdleMemory::default());
        assert_eq!(off, Decision::None);
        // The time without the option does not count once it is set.
        let (fresh, _) = decide(Some(&[]), &settings(IdlePolicy::Suspend), later, &memory);
        assert_eq!(fresh, Decision::None);
        let (_, memory) = decide(Some(&[]), &settings(IdlePolicy::Suspend), now, &IdleMemory::default());
        let suspended = ClusterSettings { suspended: true, ..settings(IdlePolicy::Suspend) };
        assert_eq!(decide(Some(&[]), &suspended, later, &memory).0, Decision::None);
    }

    #[test]
    fn the_patch_marks_the_cluster_and_nothing_else() {
        assert_eq!(suspend_patch().to_string(), r#"{"spec":{"idleSuspend":true}}"#);
    }
}
