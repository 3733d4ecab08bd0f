//! One order of nodes, whatever order they were observed in: which of two equal nodes is taken must not depend on it.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::roster::{Row, roster, roster_with};
use crate::{Node, NodePhase, Plan, Snapshot, Target};

/// A snapshot with its nodes by group and name.
pub(super) struct Ordered<'a> {
    pub snapshot: Cow<'a, Snapshot>,
    /// Its nodes at a glance.
    pub roster: Vec<Row>,
    /// By node: where it was observed; empty: all are where they were.
    was: Vec<u32>,
}

impl<'a> Ordered<'a> {
    /// What is observed in this order already is not copied.
    pub fn new(snapshot: &'a Snapshot) -> Self {
        let nodes = &snapshot.nodes;
        let (rows, is_in_order) = read(snapshot);
        if is_in_order {
            return Ordered { snapshot: Cow::Borrowed(snapshot), roster: rows, was: Vec::new() };
        }
        let compare = |a: usize, b: usize| compare((rows[a], &nodes[a]), (rows[b], &nodes[b]));
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by(|a, b| compare(*a, *b));
        let mut ordered = snapshot.clone();
        ordered.nodes = nodes.in_order(&order);
        ordered.hosts.sort_by(|a, b| a.name.cmp(&b.name));
        Ordered {
            roster: roster(&ordered),
            snapshot: Cow::Owned(ordered),
            was: order.into_iter().map(|at| at as u32).collect(),
        }
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

/// The nodes at a glance, and whether policy `mobula` can plan with the snapshot as it is.
pub(crate) fn read(snapshot: &Snapshot) -> (Vec<Row>, bool) {
    let mut last: Option<(Row, &Node)> = None;
    let mut is_in_order = snapshot.hosts.are_in_order();
    let rows = roster_with(snapshot, |row, node| {
        is_in_order = is_in_order && last.replace((row, node)).is_none_or(|last| compare(last, (row, node)).is_le());
    });
    (rows, is_in_order)
}

/// Nodes come by group in the order of the RayCluster; of a group those that are there first, by replica and name, then pods
/// that are only asked for, by number; at the end Ray nodes that nobody manages.
fn compare((of_a, a): (Row, &Node), (of_b, b): (Row, &Node)) -> Ordering {
    match (of_a.is_unmanaged, of_b.is_unmanaged) {
        (true, true) => return a.ray_node_id.cmp(&b.ray_node_id),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let is_requested = |row: Row| row.phase == NodePhase::Requested;
    let is_before = (of_a.group, is_requested(of_a)).cmp(&(of_b.group, is_requested(of_b)));
    is_before.then_with(|| match is_requested(of_a) {
        // Their names end in a number.
        true => a.instance_id.len().cmp(&b.instance_id.len()).then_with(|| a.instance_id.cmp(&b.instance_id)),
        false if !of_a.is_named && !of_b.is_named => a.instance_id.cmp(&b.instance_id),
        false => a.replica.cmp(&b.replica).then_with(|| a.instance_id.cmp(&b.instance_id)),
    })
}
