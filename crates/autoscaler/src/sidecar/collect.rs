//! One observation.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mobula_api::{PodView, RayCluster};
use mobula_gcs::{ClusterState, NodeState, NodeStatus};
use serde_json::Value;
use tokio::time::Instant;

use super::{Context, KubeAction, LoopState, Mode, TickError, chores, guard::Hold};
use crate::{
    kube_access::KubeErrorKind,
    legacy,
    metrics::own,
    snapshot::{Observation, Surroundings},
};

/// How old a RayCluster, or the list of its pods, may be that can't be read again just now.
const STALE_LIMIT: Duration = Duration::from_secs(120);

/// Everything that one tick has seen.
pub(super) struct Collected {
    pub observation: Observation,
    /// The RayCluster as it was read.
    pub cluster: Arc<Value>,
    /// The GCS reply as it came; `None` if what was planned from differs from it.
    wire: Option<Bytes>,
    /// When the GCS reply was there.
    pub replied: Instant,
    /// How long the GCS took for all that was asked of it.
    pub took: Duration,
    /// How often another head had answered when this was seen.
    pub head_changes: u64,
    /// Why nothing may be deleted now.
    pub hold: Option<Hold>,
}

impl Collected {
    /// The GCS's state that was planned from, as bytes of a reply.
    pub(super) fn wire(&self) -> Bytes {
        let encoded = || mobula_gcs::wire::encode_cluster_state(&self.observation.state).into();
        self.wire.clone().unwrap_or_else(encoded)
    }
}

/// A RayCluster and the object it was parsed from.
pub(super) struct ParsedCluster {
    raw: Arc<Value>,
    parsed: Arc<RayCluster>,
}

pub(super) async fn collect(context: &Context, state: &mut LoopState) -> Result<Collected, TickError> {
    // The RayCluster first: nothing slow may come between the GCS's reply and the plan.
    let cluster = current_cluster(context, state, context.config.cluster_refresh).await?;
    let pods = context.pods.pods().ok_or(TickError::PodsUnknown)?;
    if let Some(interrupted) = context.pods.interrupted_for().filter(|interrupted| *interrupted >= STALE_LIMIT) {
        return Err(TickError::PodsStale(interrupted));
    }
    if state.permissions.sees_surroundings() {
        let known = parse(state, &cluster)?;
        Box::pin(chores::first_look(context, state, &known, &pods)).await;
    }
    let observed = match observe_gcs(context, state).await {
        Ok(observed) => observed,
        Err(error) => {
            let head_restarted = matches!(error, TickError::Gcs(mobula_gcs::Error::HeadRestarted));
            state.guard.failed(head_restarted);
            state.announced &= !head_restarted;
            return Err(error);
        }
    };
    let ObservedGcs { state: mut gcs_state, wire, took, replied, head_changes } = observed;
    context.metrics.set_session_name(&gcs_state.session_name);
    let hold = state.guard.check(&gcs_state, &pods);
    let now_ms = context.clock.now_unix_ms();
    let session_since_ms = note_session(state, &gcs_state.session_name, now_ms);
    forget_settled_drains(state, &gcs_state, &pods);
    mark_drained(state, &mut gcs_state);
    let is_as_sent = state.mode == Mode::V2 && state.drained.is_empty();
    let parsed = parse(state, &cluster)?;
    if parsed.metadata.extra.contains_key("deletionTimestamp") {
        return Err(TickError::Deleting);
    }
    let quotas = state.quotas.values().flat_map(|reading| reading.now(&parsed, &pods)).collect();
    let observation = Observation {
        now_ms,
        state: gcs_state,
        cluster: parsed,
        pods: Some(pods),
        object_store_bytes: state.object_store_bytes.clone(),
        gang_created_ms: state.gang_created_ms.clone(),
        session_since_ms: Some(session_since_ms),
        surroundings: Surroundings { kube_nodes: state.kube_nodes.clone(), quotas },
    };
    Ok(Collected { observation, cluster, wire: wire.filter(|_| is_as_sent), replied, took, head_changes, hold })
}

struct ObservedGcs {
    state: ClusterState,
    wire: Option<Bytes>,
    took: Duration,
    replied: Instant,
    head_changes: u64,
}

async fn observe_gcs(context: &Context, state: &LoopState) -> Result<ObservedGcs, TickError> {
    let observed = context.gcs.cluster_state().await?;
    context.metrics.observe(&own::GCS_SECONDS, vec![("call", "cluster_state".into())], observed.took);
    let (mut cluster_state, mut took, head_changes) = (observed.state, observed.took, observed.head_changes);
    if state.mode == Mode::V1 {
        let asked = Instant::now();
        let demand = context.gcs.legacy_demand().await?;
        took += asked.elapsed();
        context.metrics.observe(&own::GCS_SECONDS, vec![("call", "legacy_demand".into())], asked.elapsed());
        cluster_state = legacy::cluster_state(cluster_state, demand);
    }
    Ok(ObservedGcs { state: cluster_state, wire: observed.wire, took, replied: Instant::now(), head_changes })
}

/// The RayCluster: from the watch if there is one, else as it was read less than `max_age` ago, else read now. While the
/// API server can't be asked, the last one stands in for a while: patches test what they were made from.
pub(super) async fn current_cluster(
    context: &Context,
    state: &mut LoopState,
    max_age: Duration,
) -> Result<Arc<Value>, TickError> {
    let known = if context.cluster.is_watched() { context.cluster.latest() } else { context.cluster.fresh(max_age) };
    if let Some(cluster) = known {
        return Ok(cluster);
    }
    let usable = context.cluster.usable(STALE_LIMIT);
    if let Some(wait) = state.kube_backoffs.blocked(|(action, _)| *action == KubeAction::Get) {
        return usable.ok_or(TickError::BackingOff(wait));
    }
    let started = Instant::now();
    match context.kube.get_cluster().await {
        Ok(value) => {
            context.metrics.observe(&own::KUBE_SECONDS, vec![("call", "get_cluster".into())], started.elapsed());
            state.kube_backoffs.succeed_where(|(action, _)| *action == KubeAction::Get);
            Ok(context.cluster.put(value))
        }
        Err(error) => {
            let cause = (KubeAction::Get, error.kind);
            state.kube_backoffs.fail(cause, error.kind.backoff(), error.retry_after);
            if error.kind == KubeErrorKind::NotFound {
                context.cluster.clear();
            }
            match usable {
                Some(cluster) if error.kind != KubeErrorKind::NotFound => {
                    tracing::warn!(%error, "going on with the last RayCluster");
                    let labels = vec![("source", "kube".into()), ("kind", error.kind.as_str().into())];
                    context.metrics.add(&own::ERRORS, labels, 1);
                    Ok(cluster)
                }
                _ => Err(error.into()),
            }
        }
    }
}

/// Parses a RayCluster; one that was parsed already is not parsed again.
pub(super) fn parse(state: &mut LoopState, raw: &Arc<Value>) -> Result<Arc<RayCluster>, TickError> {
    if let Some(known) = &state.parsed
        && Arc::ptr_eq(&known.raw, raw)
    {
        return Ok(Arc::clone(&known.parsed));
    }
    let parsed = Arc::new(RayCluster::read_value(raw)?);
    state.parsed = Some(ParsedCluster { raw: raw.clone(), parsed: Arc::clone(&parsed) });
    Ok(parsed)
}

fn note_session(state: &mut LoopState, name: &str, now_ms: i64) -> i64 {
    match &state.session {
        Some((known, since_ms)) if known == name => *since_ms,
        _ => {
            state.session = Some((name.to_owned(), now_ms));
            state.announced = false;
            state.idle.start_over();
            now_ms
        }
    }
}

/// A drain is settled when its pod is on its way out, or when another Ray node lives in the pod: its container was
/// restarted before the pod was named.
fn forget_settled_drains(state: &mut LoopState, gcs_state: &ClusterState, pods: &[PodView]) {
    state.drained.retain(|pod, drained| {
        let exists = pods.iter().any(|known| known.name == *pod && !known.terminating);
        let mut living = gcs_state.nodes.living().iter();
        let reborn = living.any(|node| node.instance_id == *pod && !drained.node_ids.contains(&node.node_id));
        exists && !reborn
    });
}

/// A node that accepted a drain is dead to us, whatever the GCS shows for the moment: so its pod is named again and again
/// until it goes, also if the patch that should have named it was refused.
fn mark_drained(state: &LoopState, gcs_state: &mut ClusterState) {
    for (pod, drained) in &state.drained {
        for node_id in &drained.node_ids {
            let has_died = gcs_state.nodes.change(node_id, |node| node.status = NodeStatus::Dead).is_some();
            if !has_died && !gcs_state.nodes.dead().iter().any(|node| node.node_id == *node_id) {
                gcs_state.nodes.push(NodeState {
                    node_id: node_id.clone(),
                    instance_id: pod.clone(),
                    node_type: drained.group.clone(),
                    status: NodeStatus::Dead,
                    ..NodeState::default()
                });
            }
        }
    }
}
