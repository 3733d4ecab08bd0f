//! The GCS's picture of tasks and resources, as old as its last poll of the raylets.
//!
//! Assumptions: all raylets are polled at once (a real GCS does so within some ms), every period; nodes and placement groups are
//! known at once. The picture is only made when somebody looks or before something changes, so an idle cluster costs nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mobula_planner::Resources;

use super::{ClassId, NodeNumber, RayNode, Task};

/// What the GCS knew at its last poll.
pub(super) struct View {
    poll_us: u64,
    phase_us: u64,
    at_us: Option<u64>,
    /// How many of each class wait.
    pub waiting: Vec<(ClassId, i64)>,
    /// What is free, and since when it is idle.
    pub nodes: BTreeMap<NodeNumber, (Arc<Resources>, Option<u64>)>,
}

impl View {
    pub(super) fn new(poll_us: u64, phase_us: u64) -> View {
        let poll_us = poll_us.max(1);
        View { poll_us, phase_us: phase_us % poll_us, at_us: None, waiting: Vec::new(), nodes: BTreeMap::new() }
    }

    /// When the raylets were polled last; `None`: never yet.
    fn last_poll_us(&self, now_us: u64) -> Option<u64> {
        let since = now_us.checked_sub(self.phase_us)?;
        Some(self.phase_us + since / self.poll_us * self.poll_us)
    }

    pub(super) fn is_due(&self, now_us: u64) -> bool {
        self.last_poll_us(now_us).is_some_and(|poll_us| self.at_us.is_none_or(|at_us| at_us < poll_us))
    }

    /// Nothing has changed since the picture was made.
    pub(super) fn stays(&mut self, now_us: u64) {
        self.at_us = self.last_poll_us(now_us);
    }

    pub(super) fn refresh(
        &mut self,
        now_us: u64,
        waiting: &BTreeMap<ClassId, VecDeque<Task>>,
        nodes: &BTreeMap<NodeNumber, RayNode>,
    ) {
        self.at_us = self.last_poll_us(now_us);
        self.waiting.clear();
        let counts = waiting.iter().filter(|(_, tasks)| !tasks.is_empty());
        self.waiting.extend(counts.map(|(class, tasks)| (*class, i64::try_from(tasks.len()).unwrap_or(i64::MAX))));
        self.nodes =
            nodes.iter().map(|(number, node)| (*number, (Arc::clone(&node.free), node.idle_since_us))).collect();
    }
}
