//! How the GCS shows nodes. What it said of a node is kept, and said again while it is still so: from one look to the next little changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mobula_gcs::{NodeState, NodeStatus, Nodes};
use mobula_planner::Resources;

use super::gcs::units;
use super::{NodeNumber, RayNode, Runtime};

/// Before the id of a placement group, in the label of the nodes that it has bundles on.
pub(super) const GROUP_LABEL: &str = "_PG_";

/// What was said of a node that lives.
pub(super) struct Shown {
    /// The very value that `state` says of.
    free: Arc<Resources>,
    state: Arc<NodeState>,
}

impl Shown {
    /// A node that has just registered.
    fn of(node: &RayNode) -> Shown {
        let state = NodeState {
            node_id: node.id.clone(),
            instance_id: node.pod.clone(),
            node_type: node.group.clone(),
            available: units(&node.total, false).into(),
            total: units(&node.total, true).into(),
            labels: Arc::new(node.labels.clone()),
            status: NodeStatus::Running,
            ip: node.ip.clone(),
            ..NodeState::default()
        };
        Shown { free: Arc::clone(&node.total), state: Arc::new(state) }
    }

    fn change(&mut self, free: &Arc<Resources>, status: NodeStatus, groups: &BTreeSet<&str>) {
        let state = Arc::make_mut(&mut self.state);
        if !Arc::ptr_eq(&self.free, free) {
            state.available = units(free, false).into();
            self.free = Arc::clone(free);
        }
        state.status = status;
        state.dynamic_labels = groups.iter().map(|id| (format!("{GROUP_LABEL}{id}"), String::new())).collect();
    }

    /// Whether nothing but how long the node has been idle may be another.
    fn is_of(&self, free: &Arc<Resources>, status: NodeStatus, groups: &BTreeSet<&str>) -> bool {
        let shown = self.state.dynamic_labels.keys().filter_map(|key| key.strip_prefix(GROUP_LABEL));
        Arc::ptr_eq(&self.free, free) && self.state.status == status && shown.eq(groups.iter().copied())
    }
}

impl Runtime {
    /// Nodes as they were at the last poll.
    pub(super) fn node_states(&mut self, now_us: u64) -> Nodes {
        let mut shown = std::mem::take(&mut self.shown);
        let groups = self.groups_by_node();
        let none = BTreeSet::new();
        let living = self.nodes.iter().map(|(number, node)| {
            let groups = groups.get(number).unwrap_or(&none);
            // A node that has joined since the last poll is known as it registered.
            let (free, idle_since_us) = match self.view.nodes.get(number) {
                Some((free, idle_since_us)) => (free, *idle_since_us),
                None => (&node.total, None),
            };
            let idle_ms = idle_since_us.map_or(0, |since_us| now_us.saturating_sub(since_us) / 1_000);
            let (status, idle_ms) = match idle_ms {
                _ if node.draining => (NodeStatus::Draining, 0),
                0 => (NodeStatus::Running, 0),
                _ => (NodeStatus::Idle, i64::try_from(idle_ms).unwrap_or(i64::MAX)),
            };
            let known = shown.entry(*number).or_insert_with(|| Shown::of(node));
            if !known.is_of(free, status, groups) {
                known.change(free, status, groups);
            }
            if known.state.idle_ms != idle_ms {
                Arc::make_mut(&mut known.state).idle_ms = idle_ms;
            }
            Arc::clone(&known.state)
        });
        let nodes = Nodes::new(living.collect(), Arc::clone(&self.dead));
        self.shown = shown;
        nodes
    }

    /// Ids of the groups that have bundles on each node.
    fn groups_by_node(&self) -> BTreeMap<NodeNumber, BTreeSet<&str>> {
        let mut groups: BTreeMap<NodeNumber, BTreeSet<&str>> = BTreeMap::new();
        for group in self.groups.values() {
            for number in group.placed.iter().flatten() {
                groups.entry(*number).or_default().insert(&group.work.id);
            }
        }
        groups
    }
}

/// What is left of a node that is dead.
pub(super) fn dead_state(node: RayNode) -> NodeState {
    let RayNode { id: node_id, pod: instance_id, group: node_type, ip, .. } = node;
    NodeState { node_id, instance_id, node_type, ip, status: NodeStatus::Dead, ..NodeState::default() }
}
