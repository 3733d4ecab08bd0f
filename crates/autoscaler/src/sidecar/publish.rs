//! What others are told of a tick: the GCS (hence `ray status`), metrics, events, `/explain`, the flight recorder.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mobula_api::{PendingClass, PodView};
use mobula_gcs::AutoscalingState;
use mobula_planner::{Amount, NodePhase, Plan, Snapshot, UnmetCause, UnmetKind};
use serde_json::Value;
use tokio::time::Instant;

use super::{Context, LoopState, Mode, apply::Applied, collect::Collected, guard::Hold, tick::Planned};
use crate::{
    events::{self, Severity},
    http::Decision,
    legacy,
    metrics::{LabelPairs, own, ray},
    prices::PriceFile,
    rbac::Permission,
    recorder::Frame,
    report::{self, FailedInstance, PendingPod},
    snapshot::{self, demand::is_of_placed_gang},
};

/// An unchanged report is repeated after this time: a restarted GCS has forgotten it.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// How long a failure is shown after it is over, and how many are.
const FAILED_SHOWN_MS: i64 = 600_000;
const MOST_FAILED: usize = 20;
/// Most warnings of one tick that are logged.
const MOST_LOGGED: usize = 10;
const NOTHING_TO_DO: &str = "nothing to do";

/// What was told last, and when.
#[derive(Debug, Default)]
pub(super) struct Published {
    version: i64,
    report: Option<(AutoscalingState, Instant)>,
    warnings: Vec<String>,
    failure_transition: Option<String>,
}

impl Published {
    /// Whether the GCS has taken a report.
    pub(super) fn has_reported(&self) -> bool {
        self.report.is_some()
    }
}

pub(super) async fn publish(
    context: &Context,
    state: &mut LoopState,
    collected: &Collected,
    planned: &Planned,
    applied: &Applied,
) {
    note_failures(context, state, collected, planned, applied);
    let warnings = say_warnings(state, planned, context);
    gauges(context, collected.hold.as_ref(), planned, applied);
    tell_ray(context, state, collected, planned, applied).await;
    write_events(state, context, planned, applied);
    context.board.decided(Decision {
        snapshot: planned.snapshot.clone(),
        plan: applied.plan.clone(),
        outcome: outcome(applied),
        warnings,
        confirmed_ms: planned.snapshot.now_ms,
    });
    record(context, collected, planned, &outcome(applied));
}

/// A turn in which nothing has happened: what was told stands, and is told again where it may have been forgotten.
pub(super) async fn still(context: &Context, state: &mut LoopState, collected: &Collected, planned: &Planned) {
    let warnings = say_warnings(state, planned, context);
    repeat_report(context, state, collected).await;
    context.board.confirmed(collected.observation.now_ms, warnings);
    record(context, collected, planned, NOTHING_TO_DO);
}

/// Replicas that can't be had: the operator says so in a condition, the API server by refusing the patch.
fn note_failures(
    context: &Context,
    state: &mut LoopState,
    collected: &Collected,
    planned: &Planned,
    applied: &Applied,
) {
    let now_ms = planned.snapshot.now_ms;
    state.failed.retain(|failed| now_ms - failed.failed_ms < FAILED_SHOWN_MS);
    let condition = replica_failure(&collected.cluster);
    if let Some((transition, reason)) = &condition
        && state.published.failure_transition.as_ref() != Some(transition)
    {
        let groups: Vec<&str> = groups_with_missing_pods(&planned.snapshot);
        tracing::warn!(reason, groups = groups.join(", "), "the operator can't create pods");
        for group in groups {
            context.metrics.add(&ray::FAILED_CREATE_NODES, Vec::new(), 1);
            let (started_ms, failed_ms) = (now_ms, now_ms);
            state.failed.push(FailedInstance { group: group.into(), reason: reason.clone(), started_ms, failed_ms });
        }
    }
    state.published.failure_transition = condition.map(|(transition, _)| transition);
    if let Some(error) = applied.error.as_ref().filter(|error| !error.kind.is_stale_plan())
        && applied.tried.is_some_and(|parts| parts.growth)
    {
        for launch in &applied.plan.launch {
            let (started_ms, failed_ms) = (now_ms, now_ms);
            let group = launch.group.clone();
            state.failed.push(FailedInstance { group, reason: error.to_string(), started_ms, failed_ms });
        }
    }
    let surplus = state.failed.len().saturating_sub(MOST_FAILED);
    state.failed.drain(..surplus);
}

/// The operator's condition that it could not create pods: what tells one occurrence from the next, and the reason.
fn replica_failure(cluster: &Value) -> Option<(String, String)> {
    let conditions = cluster["status"]["conditions"].as_array()?;
    let condition = conditions.iter().find(|c| c["type"] == "ReplicaFailure" && c["status"] == "True")?;
    let text = |field: &str| condition[field].as_str().unwrap_or_default();
    let reason = format!("{}: {}", text("reason"), text("message"));
    Some((format!("{} {reason}", text("lastTransitionTime")), reason))
}

fn groups_with_missing_pods(snapshot: &Snapshot) -> Vec<&str> {
    let missing = |group: &str| snapshot.nodes.iter().any(|n| n.phase == NodePhase::Requested && *n.group == *group);
    snapshot.node_types.iter().map(|shape| shape.name.as_str()).filter(|name| missing(name)).collect()
}

/// Oddities of the input and its surroundings are said when they appear.
fn say_warnings(state: &mut LoopState, planned: &Planned, context: &Context) -> Vec<String> {
    let notes = planned.warnings.iter().chain(state.chores.notes());
    let refused = state.prices.as_ref().and_then(PriceFile::problem);
    let refused = refused.map(|problem| format!("prices stay as they were: {problem}"));
    let all: Vec<String> = notes.cloned().chain(refused).chain(context.pods.unreadable()).collect();
    let known: BTreeSet<&String> = state.published.warnings.iter().collect();
    let new: Vec<&String> = all.iter().filter(|warning| !known.contains(warning)).collect();
    for warning in new.iter().take(MOST_LOGGED) {
        tracing::warn!("{warning}");
    }
    if new.len() > MOST_LOGGED {
        tracing::warn!("{} more such warnings: see /explain", new.len() - MOST_LOGGED);
    }
    state.published.warnings.clone_from(&all);
    all
}

fn gauges(context: &Context, held: Option<&Hold>, planned: &Planned, applied: &Applied) {
    let metrics = &context.metrics;
    let snapshot = &planned.snapshot;
    let by_group = |phases: &[NodePhase]| -> Vec<(LabelPairs, f64)> {
        let count =
            |group: &str| snapshot.nodes.iter().filter(|n| *n.group == *group && phases.contains(&n.phase)).count();
        snapshot.node_types.iter().map(|s| (vec![("NodeType", s.name.clone().into())], count(&s.name) as f64)).collect()
    };
    metrics.set_all(&ray::PENDING_NODES, by_group(&[NodePhase::Requested, NodePhase::Pending]));
    metrics.set_all(&ray::ACTIVE_NODES, by_group(&[NodePhase::Running]));
    metrics.set_all(&ray::RECENTLY_FAILED_NODES, by_group(&[NodePhase::Leaving, NodePhase::Stopped]));
    metrics.set_all(&ray::CLUSTER_RESOURCES, resources(snapshot, &[NodePhase::Running]));
    metrics.set_all(&ray::PENDING_RESOURCES, resources(snapshot, &[NodePhase::Requested, NodePhase::Pending]));
    let replicas = |value: fn(&mobula_planner::GroupPlan) -> u32| -> Vec<(LabelPairs, f64)> {
        let groups = applied.plan.groups.iter();
        groups.map(|(name, group)| (vec![("group", name.clone().into())], f64::from(value(group)))).collect()
    };
    metrics.set_all(&own::CURRENT_REPLICAS, replicas(|group| group.current));
    metrics.set_all(&own::DESIRED_REPLICAS, replicas(|group| group.desired));
    let tasks: u64 = snapshot.demand.iter().map(|class| class.count).sum();
    let constraints: u64 = snapshot.constraints.iter().flat_map(|c| &c.requests).map(|class| class.count).sum();
    let demand = [("task", tasks), ("gang", snapshot.gangs.len() as u64), ("constraint", constraints)];
    metrics.set_all(&own::DEMAND, demand.map(|(kind, count)| (vec![("kind", kind.into())], count as f64)));
    metrics.set_all(&own::UNMET, unmet(&applied.plan));
    metrics.set_all(&own::DELETIONS_HELD, held.map(|hold| (vec![("reason", hold.as_str().into())], 1.0)));
}

/// What nodes in these phases have of each resource. Those that Ray makes up for one node or one placement group are left out:
/// of their names there would be ever more.
fn resources(snapshot: &Snapshot, phases: &[NodePhase]) -> Vec<(LabelPairs, f64)> {
    let is_made_up = |name: &str| name.starts_with("node:") || is_of_placed_gang(name);
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for node in snapshot.nodes.iter().filter(|node| phases.contains(&node.phase)) {
        for (name, amount) in node.total.iter().filter(|(name, _)| !is_made_up(name)) {
            let sum = sums.entry(name).or_default();
            *sum = sum.saturating_add(amount.steps());
        }
    }
    sums.into_iter()
        .map(|(name, sum)| (vec![("resource", name.to_owned().into())], Amount::from_steps(sum).as_f64()))
        .collect()
}

fn unmet(plan: &Plan) -> Vec<(LabelPairs, f64)> {
    let mut counts: BTreeMap<(&'static str, &'static str), u64> = BTreeMap::new();
    for unmet in &plan.unmet {
        let kind = match unmet.kind {
            UnmetKind::Task(_) => "task",
            UnmetKind::Gang(_) => "gang",
            UnmetKind::Constraint(_) => "constraint",
        };
        let cause = match unmet.cause {
            UnmetCause::NeverFits => "never_fits",
            UnmetCause::Limit => "limit",
            UnmetCause::Waiting => "waiting",
        };
        *counts.entry((kind, cause)).or_default() += unmet.count;
    }
    let labels = |(kind, cause): (&'static str, &'static str)| vec![("kind", kind.into()), ("cause", cause.into())];
    counts.into_iter().map(|(key, count)| (labels(key), count as f64)).collect()
}

async fn tell_ray(
    context: &Context,
    state: &mut LoopState,
    collected: &Collected,
    planned: &Planned,
    applied: &Applied,
) {
    let pods = collected.observation.pods.as_deref().unwrap_or_default();
    let pending: BTreeMap<String, PendingPod> = pods
        .iter()
        .map(|pod| (pod.name.clone(), PendingPod { ip: pod.ip.clone().unwrap_or_default(), details: details(pod) }))
        .collect();
    let now_ms = planned.snapshot.now_ms;
    let version = report::next_version(state.published.version, now_ms);
    let is_whole = collected.hold.is_none();
    let report =
        report::autoscaling_state(&planned.snapshot, &applied.plan, version, &pending, &state.failed, is_whole);
    let essence = essence(&report);
    let unchanged =
        state.published.report.as_ref().is_some_and(|(told, at)| *told == essence && at.elapsed() < REPORT_INTERVAL);
    if unchanged {
        return;
    }
    let started = Instant::now();
    let mut answer = context.gcs.report_autoscaling_state(&report).await;
    if state.mode == Mode::V1 && answer.is_ok() {
        let reporter = legacy::Reporter { now_ms, gcs_request_s: 0.0, process_id: context.config.process_id };
        let status = legacy::status(&planned.snapshot, &applied.plan, reporter, &pending, &state.failed);
        let bytes = status.to_string().into_bytes();
        answer = context.gcs.kv_put("", legacy::STATUS_KEY, &bytes, true).await.map(|_| ());
    }
    note_report(context, state, started, answer, (version, essence));
}

/// The last report once more, when it is time: what it says is still so.
async fn repeat_report(context: &Context, state: &mut LoopState, collected: &Collected) {
    let is_due = |(_, told): &&(AutoscalingState, Instant)| told.elapsed() >= REPORT_INTERVAL;
    let Some((essence, _)) = state.published.report.as_ref().filter(is_due) else { return };
    let essence = essence.clone();
    let version = report::next_version(state.published.version, collected.observation.now_ms);
    let last_seen_cluster_state_version = collected.observation.state.version;
    let report = AutoscalingState { version, last_seen_cluster_state_version, ..essence.clone() };
    let started = Instant::now();
    let answer = context.gcs.report_autoscaling_state(&report).await;
    note_report(context, state, started, answer, (version, essence));
}

/// What became of a report.
fn note_report(
    context: &Context,
    state: &mut LoopState,
    started: Instant,
    answer: Result<(), mobula_gcs::Error>,
    (version, essence): (i64, AutoscalingState),
) {
    context.metrics.observe(&own::GCS_SECONDS, vec![("call", "report".into())], started.elapsed());
    state.published.version = version;
    match answer {
        Ok(()) => state.published.report = Some((essence, Instant::now())),
        Err(error) => {
            // Whatever it has taken before, this it has not: it is told again with the next turn, which looks anew.
            state.published.report = None;
            tracing::debug!(%error, "the GCS did not take the report");
            context.metrics.add(&own::ERRORS, vec![("source", "gcs".into()), ("kind", error.kind().into())], 1);
        }
    }
}

/// A report without what changes in every tick.
fn essence(report: &AutoscalingState) -> AutoscalingState {
    let mut essence = AutoscalingState { version: 0, last_seen_cluster_state_version: 0, ..report.clone() };
    for request in &mut essence.pending_instance_requests {
        request.request_ts_s = 0;
    }
    essence
}

fn details(pod: &PodView) -> String {
    let class = match pod.pending_class {
        PendingClass::Gated => "held back by scheduling gates",
        PendingClass::Scheduling => "waiting for the scheduler",
        PendingClass::Unschedulable => "no Kubernetes node fits",
        PendingClass::Pulling => "pulling images",
        PendingClass::PullFailing => "an image can't be pulled",
        PendingClass::Starting => "containers are starting",
        PendingClass::Running => "waiting for Ray to register",
        PendingClass::Failed => "failed",
    };
    if pod.pending_message.is_empty() { class.to_owned() } else { format!("{class}: {}", pod.pending_message) }
}

fn write_events(state: &mut LoopState, context: &Context, planned: &Planned, applied: &Applied) {
    // What was not done is not told as done.
    let mut done = applied.plan.clone();
    if applied.accepted().is_none_or(|parts| !parts.growth) {
        done.launch.clear();
    }
    let mut lines = events::messages(&planned.snapshot, &done);
    lines.retain(|line| applied.accepted().is_some() || line.severity == Severity::Warning);
    if context.config.ray_events {
        state.events.write(&lines, planned.snapshot.now_ms);
    }
    if state.permissions.has(Permission::CreateEvents) {
        state.outbox.push(&lines);
    }
}

fn outcome(applied: &Applied) -> String {
    let mut parts = Vec::new();
    if applied.accepted().is_some() {
        parts.push("the RayCluster was patched".to_owned());
    }
    parts.extend(applied.error.as_ref().map(ToString::to_string));
    parts.extend(applied.held.clone());
    if parts.is_empty() { NOTHING_TO_DO.to_owned() } else { parts.join("; ") }
}

fn record(context: &Context, collected: &Collected, planned: &Planned, outcome: &str) {
    if !context.recorder.is_on() {
        context.metrics.set(&own::RECORDER_BYTES, Vec::new(), 0.0);
        return;
    }
    let frame = Frame {
        tick: 0,
        observation: collected.observation.clone(),
        wire: collected.wire(),
        options: planned.options.clone(),
        policy: context.config.policy.name().to_owned(),
        policy_options: context.config.policy_options,
        memory: planned.memory_before.clone(),
        // A plan that holds on is one of what was seen now.
        plan: Plan { versions: snapshot::versions(&collected.observation), ..Plan::clone(&planned.plan) },
        memory_after: planned.memory_after.clone(),
        outcome: outcome.to_owned(),
    };
    if let Err(error) = context.recorder.record(frame) {
        context.metrics.add(&own::ERRORS, vec![("source", "recorder".into()), ("kind", "write".into())], 1);
        tracing::warn!(%error, "a tick was not recorded");
    }
    context.metrics.set(&own::RECORDER_BYTES, Vec::new(), context.recorder.held_bytes() as f64);
}

#[cfg(test)]
mod tests {
    use mobula_planner::Node;

    use super::*;

    #[test]
    fn resources_of_one_node_or_one_placement_group_are_no_label() {
        let id = "0123456789abcdef0123456789abcdef0100";
        let names = [
            "CPU".to_owned(),
            "my_group_a".to_owned(),
            "node:10.0.0.1".to_owned(),
            format!("CPU_group_{id}"),
            format!("CPU_group_0_{id}"),
            format!("bundle_group_{id}"),
        ];
        let total = names.into_iter().map(|name| (name, Amount::from_units(1))).collect();
        let node = Node { total: std::sync::Arc::new(total), phase: NodePhase::Running, ..Node::default() };
        let snapshot = Snapshot { nodes: vec![node].into(), ..Snapshot::default() };
        let labels = |name: &str| vec![("resource", name.to_owned().into())];
        assert_eq!(resources(&snapshot, &[NodePhase::Running]), [(labels("CPU"), 1.0), (labels("my_group_a"), 1.0)]);
        assert_eq!(resources(&snapshot, &[NodePhase::Pending]), []);
    }
}
