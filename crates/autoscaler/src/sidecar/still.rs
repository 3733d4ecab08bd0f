//! A turn in which nothing has happened: what the last one came to holds on, and is not worked out again.
//!
//! That is so where everything that was observed is equal but for the time, the last turn had nothing to do and is waiting for
//! nothing, and its plan is one for any time ([`mobula_planner::Cache::patience_ms`]). Any doubt makes it an ordinary turn.

use std::{collections::BTreeSet, sync::Arc};

use mobula_gcs::{ClusterState, NodeState, NodeStatus};

use super::{
    KubeAction, LoopState, Mode,
    collect::Collected,
    tick::{Done, Planned},
};
use crate::snapshot::Observation;

/// What the last turn saw and came to.
pub(super) struct Still {
    observation: Observation,
    pub(super) planned: Planned,
    /// For how long nodes may go on being idle, in ms, before the plan is another.
    patience_ms: i64,
}

impl Still {
    /// What a turn came to, if the next one may be the same again.
    pub(super) fn after(state: &LoopState, done: Done) -> Option<Still> {
        let Done { collected, planned, result, patience_ms, .. } = done;
        let is_settled = result == "idle"
            && state.mode == Mode::V2
            && collected.hold.is_none()
            && state.cache.violations().is_empty()
            && are_all_in_pods_of_their_own(&collected.observation.state)
            && state.drained.is_empty()
            && state.failed.is_empty()
            && state.published.has_reported()
            // What was held back is due when its back-off is over. That reads failed says nothing of what is to be changed.
            && !state.kube_backoffs.is_failing(|(action, _)| *action != KubeAction::Get)
            // Whether a resize takes too long, time tells.
            && planned.snapshot.node_types.iter().all(|group| group.resize.is_none());
        let patience_ms = patience_ms.filter(|_| is_settled)?;
        Some(Still { observation: collected.observation, planned, patience_ms })
    }

    /// What of the patience is left if nothing but time has passed; else `None`.
    pub(super) fn patience_left_ms(&self, state: &LoopState, collected: &Collected) -> Option<i64> {
        let is_again = collected.hold.is_none()
            && state.drained.is_empty()
            && self.planned.options == state.options
            && are_surroundings_equal(&self.observation, &collected.observation);
        let waited_ms = is_again.then(|| time_passed_ms(&self.observation.state, &collected.observation.state));
        let left_ms = self.patience_ms.saturating_sub(waited_ms.flatten()?);
        (left_ms >= 0).then_some(left_ms)
    }
}

/// Whether no pod has two living nodes: which of them counts, their idle times may say.
fn are_all_in_pods_of_their_own(state: &ClusterState) -> bool {
    let mut pods = BTreeSet::new();
    let mut living = state.nodes.iter().filter(|node| node.status != NodeStatus::Dead && !node.instance_id.is_empty());
    living.all(|node| pods.insert(node.instance_id.as_str()))
}

/// Whether two observations differ in nothing but the time and the GCS's state.
fn are_surroundings_equal(a: &Observation, b: &Observation) -> bool {
    let Observation {
        now_ms: _,
        state: _,
        cluster,
        pods,
        object_store_bytes,
        gang_created_ms,
        session_since_ms,
        surroundings,
    } = a;
    let are_same_pods = match (pods, &b.pods) {
        (Some(pods), Some(others)) => Arc::ptr_eq(pods, others),
        (pods, others) => pods.is_none() && others.is_none(),
    };
    let (nodes, others) = (&surroundings.kube_nodes, &b.surroundings.kube_nodes);
    Arc::ptr_eq(cluster, &b.cluster)
        && are_same_pods
        && (Arc::ptr_eq(nodes, others) || nodes == others)
        && *session_since_ms == b.session_since_ms
        && *object_store_bytes == b.object_store_bytes
        && *gang_created_ms == b.gang_created_ms
        && surroundings.quotas == b.surroundings.quotas
}

/// For how much longer nodes have been idle, if two states differ in nothing else; `None`: they do.
fn time_passed_ms(a: &ClusterState, b: &ClusterState) -> Option<i64> {
    let ClusterState { version: _, session_name, nodes, pending, gangs, constraints } = a;
    let is_equal = nodes.len() == b.nodes.len()
        && *session_name == b.session_name
        && *pending == b.pending
        && *gangs == b.gangs
        && *constraints == b.constraints
        && nodes.iter().zip(&b.nodes).all(|(node, other)| is_like(node, other));
    let idle_longer_ms = |(node, other): (&NodeState, &NodeState)| other.idle_ms.saturating_sub(node.idle_ms).max(0);
    is_equal.then(|| nodes.iter().zip(&b.nodes).map(idle_longer_ms).max().unwrap_or(0))
}

/// Whether nodes are equal, but for how long they have been idle.
fn is_like(a: &NodeState, b: &NodeState) -> bool {
    let NodeState {
        node_id,
        instance_id,
        node_type,
        available,
        total,
        dynamic_labels,
        labels,
        status,
        idle_ms: _,
        ip,
        instance_type,
        activity,
    } = a;
    *status == b.status
        && *node_id == b.node_id
        && *available == b.available
        && *total == b.total
        && *dynamic_labels == b.dynamic_labels
        && *labels == b.labels
        && *instance_id == b.instance_id
        && *node_type == b.node_type
        && *ip == b.ip
        && *instance_type == b.instance_type
        && *activity == b.activity
}
