//! What passes over all nodes look at, read once and kept close together: the nodes themselves lie scattered in memory.

use crate::quick_hash::Index;
use crate::{Node, NodePhase, Snapshot};

/// A node at a glance.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
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
    let none = snapshot.node_types.len() as u32;
    let numbers: Index<&str, u32> = (0..).zip(&snapshot.node_types).map(|(at, group)| (&*group.name, at)).collect();
    // Nodes of a group mostly follow one another.
    let mut last: Option<(&str, u32)> = None;
    let mut number = |node: &'_ Node| match last {
        Some((group, number)) if group == node.group => number,
        _ => numbers.get_key_value(node.group.as_str()).map_or(none, |(group, number)| {
            last = Some((group, *number));
            *number
        }),
    };
    let row = |node: &'_ Node| Row {
        group: number(node),
        phase: node.phase,
        is_head: node.is_head,
        is_unmanaged: node.instance_id.is_empty(),
        is_named: node.replica.is_some(),
        is_idle: node.idle_ms.is_some(),
    };
    snapshot.nodes.iter().map(row).collect()
}
