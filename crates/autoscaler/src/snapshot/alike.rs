//! Whether two observations say the same at different times.

use std::sync::Arc;

use mobula_gcs::{ClusterState, NodeState};

use super::{Observation, Surroundings};

impl Observation {
    /// Equal but for the clock, counters, how long nodes have been idle, and words that nobody reads.
    pub(crate) fn is_like(&self, other: &Observation) -> bool {
        let Observation {
            now_ms: _,
            state,
            cluster,
            pods,
            object_store_bytes,
            gang_created_ms,
            session_since_ms,
            surroundings: Surroundings { kube_nodes, quotas },
        } = self;
        let are_same_pods = match (pods, &other.pods) {
            (Some(pods), Some(others)) => Arc::ptr_eq(pods, others) || pods == others,
            (pods, others) => pods.is_none() && others.is_none(),
        };
        *object_store_bytes == other.object_store_bytes
            && *gang_created_ms == other.gang_created_ms
            && *session_since_ms == other.session_since_ms
            && *quotas == other.surroundings.quotas
            && same_state(state, &other.state)
            // From one tick to the next mostly the very same objects.
            && are_same_pods
            && is_same(cluster, &other.cluster)
            && is_same(kube_nodes, &other.surroundings.kube_nodes)
    }
}

fn is_same<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

fn same_state(a: &ClusterState, b: &ClusterState) -> bool {
    let ClusterState { version: _, session_name, nodes, pending, gangs, constraints } = a;
    *session_name == b.session_name
        && *pending == b.pending
        && *gangs == b.gangs
        && *constraints == b.constraints
        && are_same_nodes(nodes.living(), b.nodes.living())
        && are_same_nodes(nodes.dead(), b.nodes.dead())
}

fn are_same_nodes(a: &[Arc<NodeState>], b: &[Arc<NodeState>]) -> bool {
    let is_one_list = std::ptr::eq(a, b);
    is_one_list || a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b) || same_node(a, b))
}

/// Equal, but for how long it has been idle.
fn same_node(a: &NodeState, b: &NodeState) -> bool {
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
        activity: _,
    } = a;
    *node_id == b.node_id
        && *status == b.status
        && is_same(available, &b.available)
        && *dynamic_labels == b.dynamic_labels
        && is_same(total, &b.total)
        && is_same(labels, &b.labels)
        && *instance_id == b.instance_id
        && *node_type == b.node_type
        && *ip == b.ip
        && *instance_type == b.instance_type
}
