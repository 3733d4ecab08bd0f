//! One order of nodes, whatever order they were observed in: which of two equal nodes is taken must not depend on it.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::census::group_numbers;
use crate::{Node, NodePhase, Plan, Snapshot, Target};

/// A snapshot with its nodes by group and name.
pub(super) struct Ordered<'a> {
    pub snapshot: Cow<'a, Snapshot>,
    /// By node: where it was observed; empty: all are where they were.
    was: Vec<u32>,
}

impl<'a> Ordered<'a> {
    /// Nodes come by group in the order of the RayCluster, pods that are only asked for after those that are there, and by
    /// name; Kubernetes nodes by name. What is observed so already is not copied.
    pub fn new(snapshot: &'a Snapshot) -> Self {
        let numbers = group_numbers(snapshot);
        let nodes = &snapshot.nodes;
        let compare = |a: usize, b: usize| numbers[a].cmp(&numbers[b]).then_with(|| by_name(&nodes[a], &nodes[b]));
        let is_in_order = (1..nodes.len()).all(|at| compare(at - 1, at).is_le());
        if is_in_order && snapshot.hosts.is_sorted_by(|a, b| a.name <= b.name) {
            return Ordered { snapshot: Cow::Borrowed(snapshot), was: Vec::new() };
        }
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by(|a, b| compare(*a, *b));
        let mut ordered = snapshot.clone();
        ordered.nodes = order.iter().map(|at| nodes[*at].clone()).collect();
        ordered.hosts.sort_by(|a, b| a.name.cmp(&b.name));
        Ordered { snapshot: Cow::Owned(ordered), was: order.into_iter().map(|at| at as u32).collect() }
    }

    /// Names the nodes of a plan as they were observed.
    pub fn restore(&self, plan: &mut Plan) {
        for placement in &mut plan.placements {
            if let Target::Node(at) = &mut placement.target
                && let Some(was) = self.was.get(*at as usize)
            {
                *at = *was;
            }
        }
    }
}

fn by_name(a: &Node, b: &Node) -> Ordering {
    let key = |node: &'_ Node| (node.phase == NodePhase::Requested, node.instance_id.is_empty());
    key(a).cmp(&key(b)).then_with(|| a.instance_id.cmp(&b.instance_id)).then_with(|| a.ray_node_id.cmp(&b.ray_node_id))
}
