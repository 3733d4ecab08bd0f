//! What passes over all nodes look at, read once and kept close together: the nodes themselves lie scattered in memory.

use std::sync::Arc;

use crate::quick_hash::Index;
use crate::{Labels, Node, NodePhase, Snapshot};

/// A node at a glance.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Row {
    /// Number of its group; of a node of no group, the number of groups.
    pub group: u32,
    pub phase: NodePhase,
    pub is_head: bool,
    /// A Ray node that nobody manages.
    pub is_unmanaged: bool,
    /// It says to which replica it belongs.
    pub is_named: bool,
    pub is_idle: bool,
    /// It shares the maps that say what it is, but for what is free of it, with the node before it.
    pub is_like_before: bool,
    /// Where what is free of it lies, as long as the snapshot lives unchanged: nodes that share it have the same free.
    pub free: usize,
}

impl Row {
    /// Index of its group, or the number of groups.
    pub fn group(self) -> usize {
        self.group as usize
    }

    /// Whether it is a pod of a worker, there or asked for, and does not leave.
    pub fn is_pod(self) -> bool {
        !self.is_head && !self.is_unmanaged && self.phase != NodePhase::Leaving
    }

    /// Whether Ray does not run on it yet.
    pub fn is_coming(self) -> bool {
        matches!(self.phase, NodePhase::Pending | NodePhase::Requested)
    }
}

/// Whether Ray does not run yet on some of them.
pub(crate) fn is_any_coming(roster: &[Row]) -> bool {
    roster.iter().any(|row| row.is_coming())
}

/// The nodes of a snapshot, in its order.
pub(crate) fn roster(snapshot: &Snapshot) -> Vec<Row> {
    roster_with(snapshot, |_, _| {})
}

/// The same for who has to see every node as well, which lie scattered: in one pass.
pub(crate) fn roster_with<'a>(snapshot: &'a Snapshot, mut see: impl FnMut(Row, &'a Node)) -> Vec<Row> {
    let none = snapshot.node_types.len() as u32;
    let numbers: Index<&str, u32> = (0..).zip(&snapshot.node_types).map(|(at, group)| (&*group.name, at)).collect();
    // Nodes of a group mostly follow one another and share its name, which comparing alone does not look for.
    let mut last: Option<(&Arc<str>, u32)> = None;
    let mut number = |node: &'a Node| match last {
        Some((group, number)) if Arc::ptr_eq(group, &node.group) || *group == node.group => number,
        _ => {
            let number = numbers.get(&*node.group).copied().unwrap_or(none);
            last = Some((&node.group, number));
            number
        }
    };
    let mut before: Option<&Node> = None;
    let row = |node: &'a Node| {
        let row = Row {
            group: number(node),
            phase: node.phase,
            is_head: node.is_head,
            is_unmanaged: node.instance_id.is_empty(),
            is_named: node.replica.is_some(),
            is_idle: node.idle_ms.is_some(),
            is_like_before: before.replace(node).is_some_and(|before| have_the_same(before, node)),
            free: address(node),
        };
        see(row, node);
        row
    };
    snapshot.nodes.iter().map(row).collect()
}

/// Where what is free of a node lies.
pub(crate) fn address(node: &Node) -> usize {
    Arc::as_ptr(&node.available).addr()
}

/// Whether nodes share the maps that say what they are.
fn have_the_same(a: &Node, b: &Node) -> bool {
    let are_same = |a: &Arc<Labels>, b: &Arc<Labels>| Arc::ptr_eq(a, b) || (a.is_empty() && b.is_empty());
    Arc::ptr_eq(&a.total, &b.total) && are_same(&a.labels, &b.labels) && are_same(&a.dynamic_labels, &b.dynamic_labels)
}
