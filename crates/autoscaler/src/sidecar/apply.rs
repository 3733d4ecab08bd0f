//! A plan carried out: drains that Ray accepts, then one JSON patch.
//!
//! Whatever fails here is not tried again: the next tick looks at what is there then.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt, stream};
use mobula_api::PodView;
use mobula_gcs::{self as gcs, DrainOutcome, DrainReason};
use mobula_planner::{DrainKind, GroupPlan, Plan};
use tokio::time::Instant;

use super::{
    Context, KubeAction, LoopState,
    collect::Collected,
    due::Due,
    removal::{self, Unit},
    tick::Planned,
};
use crate::{
    explain,
    kube_access::KubeError,
    metrics::{own, ray},
    object_store::{self, Endpoint},
    pace::BackoffLimits,
    patch::{self, Notes, Parts, ReplicasPatch},
};

/// Most replicas that are drained at once.
const DRAIN_CONCURRENCY: usize = 32;
/// How long a replica is left alone that Ray did not let go.
const DRAIN_BACKOFF: BackoffLimits = BackoffLimits { first: Duration::from_secs(1), most: Duration::from_secs(30) };

/// How long a reply that shows no Ray in a pod is reason enough to delete it without asking.
const ABSENCE_HOLDS: Duration = Duration::from_secs(3);
const OTHER_HEAD: &str = "another head answers now than the one that was asked about it";

/// A pod whose Ray node accepted a drain and that is not yet named for deletion.
#[derive(Clone, Debug, Default)]
pub(super) struct Drained {
    pub group: String,
    pub node_ids: BTreeSet<String>,
}

/// What became of a plan.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The plan as far as it was carried out: without what was held back or refused.
    pub plan: Plan,
    /// What the patch would change, if there was one.
    pub tried: Option<Parts>,
    /// Why the API server did not accept the patch.
    pub error: Option<KubeError>,
    /// Why nothing was deleted or changed.
    pub held: Option<String>,
    /// How soon to try again, if not at the usual pace.
    pub retry_after: Option<Duration>,
}

impl Applied {
    /// What was changed.
    pub(super) fn accepted(&self) -> Option<Parts> {
        self.tried.filter(|_| self.error.is_none())
    }

    pub(super) fn result(&self) -> &'static str {
        match &self.error {
            Some(error) if error.kind.is_stale_plan() => "stale",
            Some(_) => "failed",
            None if self.tried.is_some() => "changed",
            None if self.held.is_some() => "held",
            None => "idle",
        }
    }
}

pub(super) async fn apply(
    context: &Context,
    state: &mut LoopState,
    collected: &Collected,
    planned: &Planned,
    mut due: Due,
) -> Applied {
    let (parts, held) = (due.parts, due.held.take());
    let sound = planned.sound.as_ref().unwrap_or(&planned.plan);
    if !parts.growth && !parts.removals {
        return Applied { plan: Plan::clone(sound), held, ..Applied::default() };
    }
    let (deletions, kept) = removals(context, state, collected, sound, due).await;
    let plan = removal::keep(sound, &kept);
    let pods = collected.observation.pods.as_deref().unwrap_or_default();
    let notes = Notes {
        explain: Some(explain::annotation(&plan, planned.snapshot.now_ms)),
        gangs: gangs_note(state, planned, &plan, pods, parts),
    };
    let patch = patch::replicas_patch(&planned.cluster, &planned.snapshot, &plan, pods, &deletions, parts, &notes);
    let Some(ReplicasPatch { patch, parts }) = patch else {
        return Applied { plan, held, ..Applied::default() };
    };
    let started = Instant::now();
    match context.kube.patch_cluster(&patch).await {
        Ok(cluster) => {
            context.metrics.observe(&own::KUBE_SECONDS, vec![("call", "patch_cluster".into())], started.elapsed());
            context.metrics.observe(&own::REACTION_SECONDS, Vec::new(), collected.replied.elapsed());
            context.cluster.put(cluster);
            state.kube_backoffs.succeed_where(|(action, _)| is_proven(*action, parts));
            state.drained.retain(|pod, _| !deletions.contains(pod));
            count_accepted(context, planned, &plan, parts, &deletions);
            log_accepted(&plan, parts, &deletions, collected);
            Applied { plan, tried: Some(parts), held, ..Applied::default() }
        }
        Err(error) => {
            let retry_after = refused(context, state, parts, &error);
            Applied { plan, tried: Some(parts), error: Some(error), held, retry_after }
        }
    }
}

/// Which pods begin together. Where more replicas are wanted and can't be asked for now, nothing is said of them yet.
fn gangs_note(
    state: &LoopState,
    planned: &Planned,
    plan: &Plan,
    pods: &[PodView],
    parts: Parts,
) -> Option<patch::GangsNote> {
    let mut note = patch::gangs_note(&planned.cluster, &planned.snapshot, plan, pods)?;
    let grows = plan.groups.values().any(GroupPlan::grows);
    let is_blocked = state.kube_backoffs.blocked(|(action, _)| *action == KubeAction::Note).is_some();
    note.is_due &= !is_blocked && (parts.growth || !grows);
    Some(note)
}

/// Drains what must be drained. Returns the pods that may be named for deletion, and which replicas stay and why.
async fn removals(
    context: &Context,
    state: &mut LoopState,
    collected: &Collected,
    plan: &Plan,
    due: Due,
) -> (BTreeSet<String>, Vec<(Unit, String)>) {
    let Due { mut kept, free, to_drain, .. } = due;
    let (to_drain, holders) = without_object_holders(context, state, to_drain).await;
    let drained: Vec<(Unit, Drain)> = stream::iter(to_drain)
        .map(|unit| async move {
            let drain = drain(context, &unit, collected.head_changes).await;
            (unit, drain)
        })
        .buffer_unordered(DRAIN_CONCURRENCY)
        .collect()
        .await;
    let mut deletions = BTreeSet::new();
    match outdated(context, collected) {
        None => deletions.extend(free.iter().flat_map(Unit::pods).map(str::to_owned)),
        Some(why) => kept.extend(free.into_iter().map(|unit| (unit, why.to_owned()))),
    }
    let mut refused = holders;
    for (unit, drain) in drained {
        for (pod, node_id) in &drain.accepted {
            let known = state.drained.entry(pod.clone()).or_default();
            known.group.clone_from(&unit.group);
            known.node_ids.insert(node_id.clone());
        }
        match drain.refused {
            None => deletions.extend(unit.pods().map(str::to_owned)),
            Some(why) => refused.push((unit, why)),
        }
    }
    let wanted: BTreeSet<String> = removal::units(plan).into_iter().map(|unit| unit.name).collect();
    state.refusals.retain(|name, _| wanted.contains(name));
    state.drain_backoffs.succeed_where(|name| !wanted.contains(name));
    for (unit, why) in &refused {
        state.drain_backoffs.fail(unit.name.clone(), DRAIN_BACKOFF, None);
        state.refusals.insert(unit.name.clone(), why.clone());
    }
    kept.extend(refused);
    (deletions, kept)
}

/// Why nobody may rely any more on what was seen not to run in a pod: it may have begun while others were drained.
fn outdated(context: &Context, collected: &Collected) -> Option<&'static str> {
    if context.gcs.head_changes() != collected.head_changes {
        return Some(OTHER_HEAD);
    }
    let is_old = collected.replied.elapsed() >= ABSENCE_HOLDS;
    is_old.then_some(
        "much time has passed since Ray was asked: whether it has begun in it is looked at again in the next tick",
    )
}

/// What Ray said to the drain of a replica.
#[derive(Debug, Default)]
struct Drain {
    /// Pods whose node accepted, with the node's id.
    accepted: Vec<(String, String)>,
    /// Why the replica stays.
    refused: Option<String>,
}

/// Drains all hosts of a replica, one after the other: the first that refuses spares the rest.
///
/// A head accepts the drain of a node that it does not know (yet), so nothing is drained on what another head said.
async fn drain(context: &Context, unit: &Unit, head_changes: u64) -> Drain {
    let mut drain = Drain::default();
    for member in &unit.members {
        let Some(node_id) = &member.ray_node_id else { continue };
        if context.gcs.head_changes() != head_changes {
            drain.refused = Some(OTHER_HEAD.to_owned());
            return drain;
        }
        let started = Instant::now();
        let outcome = match member.drain {
            DrainKind::NotNeeded => continue,
            DrainKind::IfIdle => {
                context.gcs.drain_node(node_id, DrainReason::IdleTermination, &member.reason, None).await
            }
            DrainKind::Stop => {
                context.gcs.stop_nodes(std::slice::from_ref(node_id)).await.map(|()| DrainOutcome::Accepted)
            }
        };
        context.metrics.observe(&own::GCS_SECONDS, vec![("call", "drain".into())], started.elapsed());
        let (result, refused) = said(&outcome);
        context.metrics.add(&own::DRAINS, vec![("result", result.into())], 1);
        match refused {
            None => drain.accepted.push((member.instance_id.clone(), node_id.clone())),
            Some(why) => {
                if outcome.is_err() {
                    context.metrics.add(&ray::DRAIN_NODE_EXCEPTIONS, Vec::new(), 1);
                }
                tracing::info!(pod = member.instance_id, why, "not drained: it stays");
                drain.refused = Some(format!("Ray refused to drain {}: {why}", member.instance_id));
                return drain;
            }
        }
    }
    drain
}

fn said(outcome: &Result<DrainOutcome, gcs::Error>) -> (&'static str, Option<String>) {
    match outcome {
        Ok(DrainOutcome::Accepted) => ("accepted", None),
        Ok(DrainOutcome::Rejected(why)) => ("refused", Some(why.clone())),
        Err(error) => ("failed", Some(error.to_string())),
    }
}

/// Looks what the nodes hold before they are drained; where the user wants so, those that hold objects stay. Returns those to
/// drain, and those that stay with the reason.
async fn without_object_holders(
    context: &Context,
    state: &mut LoopState,
    units: Vec<Unit>,
) -> (Vec<Unit>, Vec<(Unit, String)>) {
    state.object_store_bytes.clear();
    if units.is_empty() {
        return (units, Vec::new());
    }
    let endpoints = endpoints(context, &units).await;
    for (node_id, answer) in object_store::ask_all(endpoints).await {
        match answer {
            Ok(holdings) => {
                let (bytes, running) = (holdings.object_store_bytes, holdings.running_tasks);
                tracing::info!(node_id, bytes, running, "before the drain");
                state.object_store_bytes.insert(node_id, bytes);
            }
            Err(error) => {
                tracing::info!(node_id, %error, "before the drain: what it holds is unknown");
                let labels = vec![("source", "node_metrics".into()), ("kind", "unknown".into())];
                context.metrics.add(&own::ERRORS, labels, 1);
            }
        }
    }
    if !context.config.keep_object_holders {
        return (units, Vec::new());
    }
    let (go, stay): (Vec<Unit>, Vec<Unit>) =
        units.into_iter().partition(|unit| held_bytes(unit, &state.object_store_bytes) == Some(0));
    let with_reason = |unit: Unit| {
        let why = match held_bytes(&unit, &state.object_store_bytes) {
            Some(bytes) => format!("Ray calls it idle, but it holds {bytes} bytes of objects"),
            None => "Ray calls it idle, but what it holds is unknown: its metrics endpoint does not answer".to_owned(),
        };
        (unit, why)
    };
    (go, stay.into_iter().map(with_reason).collect())
}

/// Bytes that a replica holds; `None`: at least one of its nodes did not say.
fn held_bytes(unit: &Unit, known: &BTreeMap<String, u64>) -> Option<u64> {
    unit.members.iter().filter_map(|member| member.ray_node_id.as_ref()).map(|id| known.get(id).copied()).sum()
}

async fn endpoints(context: &Context, units: &[Unit]) -> Vec<Endpoint> {
    let wanted: BTreeSet<&str> =
        units.iter().flat_map(|unit| &unit.members).filter_map(|member| member.ray_node_id.as_deref()).collect();
    match context.gcs.nodes().await {
        Ok(nodes) => nodes
            .into_iter()
            .filter(|node| node.alive && wanted.contains(node.node_id.as_str()))
            .filter_map(|node| {
                let port = u16::try_from(node.metrics_export_port).ok().filter(|port| *port > 0)?;
                Some(Endpoint { node_id: node.node_id, address: node.address, port })
            })
            .collect(),
        Err(error) => {
            tracing::debug!(%error, "no node table: what the nodes hold is unknown");
            Vec::new()
        }
    }
}

/// Whether a patch of these parts that was accepted shows that this is possible again.
fn is_proven(action: KubeAction, parts: Parts) -> bool {
    match action {
        KubeAction::Get => false,
        KubeAction::Patch => true,
        KubeAction::Grow => parts.growth,
        KubeAction::Remove => parts.removals,
        KubeAction::Note => parts.growth || !parts.removals,
    }
}

/// What to leave alone after a patch of these parts was refused. Of a patch that asked for both, the growth is held to be what
/// was refused: if it is not, the removals are refused next, and then each waits for itself.
fn blamed(parts: Parts, error: &KubeError) -> KubeAction {
    match parts {
        _ if !error.is_about_content() => KubeAction::Patch,
        Parts { growth: true, .. } => KubeAction::Grow,
        Parts { removals: true, .. } => KubeAction::Remove,
        Parts { .. } => KubeAction::Note,
    }
}

/// A patch that was not accepted. Returns how soon to make a new plan, if the plan was only overtaken.
fn refused(context: &Context, state: &mut LoopState, parts: Parts, error: &KubeError) -> Option<Duration> {
    let cause = (blamed(parts, error), error.kind);
    let wait = state.kube_backoffs.fail(cause, error.kind.backoff(), error.retry_after);
    let stale = error.kind.is_stale_plan();
    let result = if stale { "stale" } else { "failed" };
    context.metrics.add(&own::PATCHES, vec![("result", result.into())], 1);
    context.metrics.add(&own::ERRORS, vec![("source", "kube".into()), ("kind", error.kind.as_str().into())], 1);
    if stale {
        tracing::info!(%error, "somebody else changed the RayCluster: planning anew");
        context.cluster.outdate();
        return Some(wait);
    }
    if parts.growth {
        context.metrics.add(&ray::NODE_LAUNCH_EXCEPTIONS, Vec::new(), 1);
    }
    tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "the RayCluster was not patched");
    None
}

fn count_accepted(context: &Context, planned: &Planned, plan: &Plan, parts: Parts, deletions: &BTreeSet<String>) {
    context.metrics.add(&own::PATCHES, vec![("result", "accepted".into())], 1);
    context.metrics.add(&ray::STOPPED_NODES, Vec::new(), deletions.len() as u64);
    if !parts.growth {
        return;
    }
    let hosts = |group: &str| {
        let shape = planned.snapshot.node_types.iter().find(|shape| shape.name == group);
        u64::from(shape.map_or(1, |shape| shape.num_of_hosts.max(1)))
    };
    let started: u64 = plan.launch.iter().map(|launch| u64::from(launch.replicas) * hosts(&launch.group)).sum();
    context.metrics.add(&ray::STARTED_NODES, Vec::new(), started);
}

fn log_accepted(plan: &Plan, parts: Parts, deletions: &BTreeSet<String>, collected: &Collected) {
    let is_changed = |group: &GroupPlan| group.grows() && parts.growth || group.shrinks() && parts.removals;
    let changes: Vec<String> = plan
        .groups
        .iter()
        .filter(|(_, group)| is_changed(group))
        .map(|(name, group)| format!("{name}: {} -> {}", group.requested, group.asks()))
        .collect();
    tracing::info!(
        replicas = changes.join(", "),
        deleted = deletions.len(),
        reaction_ms = collected.replied.elapsed().as_millis() as u64,
        "patched"
    );
}
