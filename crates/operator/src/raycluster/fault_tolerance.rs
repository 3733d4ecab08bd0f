//! The end of a cluster whose GCS kept its state in Redis: a Job frees it before the cluster goes.

use mobula_api::PodRole;
use serde_json::{Value, json};

use super::{
    classify::Standing,
    pass::{ALL_PODS, Pass},
    suspend,
};
use crate::frame::{
    decision::{Action, Foreign, Step},
    kind, time,
    world::Child,
};

/// The finalizer that holds the cluster until then.
pub(super) const FINALIZER: &str = "ray.io/gcs-ft-redis-cleanup-finalizer";
/// Annotation: how long the cluster may be held, in seconds.
const LIMIT: &str = "ray.io/gcs-ft-deletion-timeout";
/// How long the cluster is held at most, in ms.
const LIMIT_MS: i64 = 300_000;
const PART: &str = "redis-cleanup";

/// Puts the finalizer on a cluster that will need it.
pub(super) fn hold(pass: &mut Pass<'_>) {
    let cluster = pass.observed.cluster;
    let is_held = cluster.metadata.finalizers.iter().any(|name| name == FINALIZER);
    if is_held || !pass.config.redis_cleanup || !pass.children.keeps_state_in_redis() {
        return;
    }
    if !pass.may_try_needed(PART) {
        return;
    }
    let mut finalizers = cluster.metadata.finalizers.clone();
    finalizers.push(FINALIZER.to_owned());
    let step = Step::new(PART, finalizers_patch(pass, &finalizers)).blocking();
    pass.decision.then(vec![step]);
}

fn finalizers_patch(pass: &Pass<'_>, finalizers: &[String]) -> Action {
    let metadata = &pass.observed.cluster.metadata;
    let patch = json!({"metadata": {"resourceVersion": metadata.resource_version, "finalizers": finalizers}});
    Action::Patch { kind: &kind::RAY_CLUSTER, name: metadata.name.clone(), patch }
}

/// Brings a cluster that is being deleted to its end. What has no finalizer of ours is the garbage collector's.
pub(super) fn end(pass: &mut Pass<'_>) {
    if !pass.observed.cluster.metadata.finalizers.iter().any(|name| name == FINALIZER) {
        return;
    }
    if !pass.children.keeps_state_in_redis() || !pass.config.redis_cleanup {
        release(pass);
        return;
    }
    let deletion = pass.observed.cluster.metadata.deletion_timestamp.as_deref().and_then(time::parse);
    let limit_ms = limit_ms(pass);
    let until_ms = deletion.map_or(pass.now_ms, |at_ms| at_ms.saturating_add(limit_ms));
    if pass.now_ms >= until_ms {
        // Also if the head pod hangs: KubeRay asks for the time only when it is gone, and waits without end.
        let message = format!(
            "Redis cleanup of RayCluster {} took longer than {} s: the finalizer is removed, Redis may still hold its state",
            pass.name(),
            limit_ms / 1_000
        );
        pass.say_state("ForceDeletedStuckCluster", "Cleanup", message);
        release(pass);
        return;
    }
    pass.decision.wake_at(until_ms);
    let deletions = suspend::deletions(pass);
    if !deletions.is_empty() {
        if pass.may_try(ALL_PODS) {
            pass.decision.then(deletions);
        }
        return;
    }
    // As long as a head may write, there is no use in cleaning.
    let is_left_over = pass.observed.orphans.iter().any(|pod| pod.role == PodRole::Head);
    if is_left_over
        || pass.heads().iter().any(|(pod, standing)| pod.role == PodRole::Head && *standing != Standing::Lost)
    {
        return;
    }
    let job = pass.children.redis_cleanup_job_name();
    let job = pass.observed.children.iter().find(|child| child.kind == &kind::JOB && child.key.name == job);
    match job {
        Some(job) if has_ended(job) => release(pass),
        Some(_) => {}
        None => start_job(pass),
    }
}

fn limit_ms(pass: &Pass<'_>) -> i64 {
    let text = pass.observed.cluster.metadata.annotations.get(LIMIT);
    let seconds = text.and_then(|text| text.trim().parse::<u32>().ok()).filter(|seconds| *seconds > 0);
    seconds.map_or(LIMIT_MS, |seconds| i64::from(seconds) * 1_000)
}

fn has_ended(job: &Child) -> bool {
    let conditions = job.body.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let is_end = |kind: &Value| kind == "Complete" || kind == "Failed" || kind == "FailureTarget";
    conditions.into_iter().any(|condition| is_end(&condition["type"]) && condition["status"] == "True")
}

fn start_job(pass: &mut Pass<'_>) {
    match pass.children.redis_cleanup_job() {
        Ok(body) if pass.may_try(PART) => {
            let action = Action::Create { kind: &kind::JOB, body, foreign: Foreign::Refused };
            let step = Step::new(PART, action).says("CreatedRedisCleanupJob", "Create", "Created Redis cleanup Job");
            let step = step.complains("FailedToCreateRedisCleanupJob", "Create", "Failed to create Redis cleanup Job");
            pass.decision.then(vec![step]);
        }
        Ok(_) => {}
        // No Job can be made of this spec: then nothing is won by waiting.
        Err(error) => {
            pass.say_state("FailedToCreateRedisCleanupJob", "Create", format!("{}: {error}", pass.name()));
            release(pass);
        }
    }
}

fn release(pass: &mut Pass<'_>) {
    if pass.may_try(PART) {
        let finalizers = &pass.observed.cluster.metadata.finalizers;
        let rest: Vec<String> = finalizers.iter().filter(|name| *name != FINALIZER).cloned().collect();
        let step = Step::new(PART, finalizers_patch(pass, &rest));
        pass.decision.then(vec![step]);
    }
}
