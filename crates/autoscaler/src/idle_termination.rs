//! Ending a whole cluster that nobody uses: `spec.idleTerminationOptions`.
//!
//! A cluster is in use while a driver is alive. Once the last one has been gone for the time that the user set, the
//! RayCluster is marked (`idleSuspend`) and the operator removes its pods.

use std::time::Duration;

use mobula_gcs::JobInfo;
use tokio::time::Instant;

/// Jobs in namespaces that start so are Ray's own.
const INTERNAL_NAMESPACE_PREFIX: &str = "_ray_internal_";

/// What is remembered between looks: since when no driver has been seen.
#[derive(Debug, Default)]
pub struct IdleWindow {
    unused_since: Option<Instant>,
    last_job_end_ms: u64,
}

impl IdleWindow {
    /// Takes in the job table; `None`: it could not be read, which counts as in use. Returns how long the cluster has been
    /// unused.
    pub fn look(&mut self, jobs: Option<&[JobInfo]>) -> Option<Duration> {
        let Some(jobs) = jobs else {
            self.unused_since = None;
            return None;
        };
        let is_driver = |job: &JobInfo| !job.is_dead && !job.namespace.starts_with(INTERNAL_NAMESPACE_PREFIX);
        // A job that came and went between two looks was a use, too.
        let last_end_ms = jobs.iter().map(|job| job.end_time_ms).max().unwrap_or(0);
        let newer_end = last_end_ms > self.last_job_end_ms;
        self.last_job_end_ms = self.last_job_end_ms.max(last_end_ms);
        if jobs.iter().any(is_driver) {
            self.unused_since = None;
        } else if newer_end || self.unused_since.is_none() {
            self.unused_since = Some(Instant::now());
        }
        self.unused_since.map(|since| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(is_dead: bool, namespace: &str, end_time_ms: u64) -> JobInfo {
        JobInfo { is_dead, namespace: namespace.into(), end_time_ms, ..JobInfo::default() }
    }

    async fn after_s(window: &mut IdleWindow, seconds: u64, jobs: Option<&[JobInfo]>) -> Option<u64> {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        window.look(jobs).map(|unused| unused.as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn counts_from_the_first_look_without_a_driver() {
        let mut window = IdleWindow::default();
        assert_eq!(after_s(&mut window, 5, Some(&[])).await, Some(0));
        assert_eq!(after_s(&mut window, 5, Some(&[])).await, Some(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_living_driver_or_an_unreadable_job_table_starts_it_over() {
        let mut window = IdleWindow::default();
        after_s(&mut window, 1, Some(&[])).await;
        assert_eq!(after_s(&mut window, 9, Some(&[job(false, "user", 0)])).await, None);
        assert_eq!(after_s(&mut window, 9, Some(&[])).await, Some(0));
        assert_eq!(after_s(&mut window, 9, None).await, None);
        assert_eq!(after_s(&mut window, 9, Some(&[])).await, Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_ended_between_two_looks_starts_it_over() {
        let mut window = IdleWindow::default();
        after_s(&mut window, 1, Some(&[job(true, "user", 100)])).await;
        assert_eq!(after_s(&mut window, 9, Some(&[job(true, "user", 100)])).await, Some(9));
        assert_eq!(after_s(&mut window, 9, Some(&[job(true, "user", 100), job(true, "user", 200)])).await, Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn rays_own_jobs_do_not_count_as_use() {
        let mut window = IdleWindow::default();
        after_s(&mut window, 1, Some(&[job(false, "_ray_internal_dashboard", 0)])).await;
        assert_eq!(after_s(&mut window, 9, Some(&[job(false, "_ray_internal_dashboard", 0)])).await, Some(9));
    }
}
