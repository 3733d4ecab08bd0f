//! Drains, as the raylet decides about them.
//!
//! Assumptions: the raylet answers at once (3–7 ms are measured; the call's latency stands for them). A node that leaves because
//! of a drain, or is stopped, is dead at once; its container goes on.

use mobula_gcs::{DrainOutcome, DrainReason};

use super::retry::Trigger;
use super::{NodeNumber, Runtime};

/// A node that has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Pod name.
    pub pod: String,
}

impl Runtime {
    /// `DrainNode`. A node that leaves at once is returned, too.
    pub fn drain(&mut self, now_us: u64, node_id: &str, reason: DrainReason) -> (DrainOutcome, Option<Left>) {
        let Some((number, is_idle, is_head)) = self.find(node_id) else { return (DrainOutcome::Accepted, None) };
        let draining = self.nodes.get(&number).is_some_and(|node| node.draining);
        match reason {
            _ if draining => (DrainOutcome::Accepted, None),
            DrainReason::IdleTermination if !is_idle || is_head => {
                let words = "The node to be idle terminated is no longer idle.";
                (DrainOutcome::Rejected(words.to_owned()), None)
            }
            _ if is_idle => (DrainOutcome::Accepted, self.leave(now_us, number)),
            _ => {
                self.before_change(now_us);
                if let Some(node) = self.nodes.get_mut(&number) {
                    node.draining = true;
                }
                (DrainOutcome::Accepted, None)
            }
        }
    }

    /// `NodeInfoGcsService.DrainNode`: the nodes stop at once.
    pub fn stop(&mut self, now_us: u64, node_ids: &[String]) -> Vec<Left> {
        let numbers: Vec<NodeNumber> =
            node_ids.iter().filter_map(|id| self.find(id)).map(|(number, ..)| number).collect();
        let left = numbers.into_iter().filter_map(|number| self.leave(now_us, number)).collect();
        self.schedule(now_us, Trigger::Tick);
        left
    }

    /// Nodes that were drained while they were busy, and have left since the last call.
    pub fn take_left(&mut self) -> Vec<Left> {
        std::mem::take(&mut self.left)
    }

    /// A draining node leaves once it is idle.
    pub(super) fn leave_if_drained(&mut self, number: NodeNumber, at_us: u64) {
        if self.nodes.get(&number).is_some_and(|node| node.draining && node.uses == 0)
            && let Some(left) = self.leave(at_us, number)
        {
            self.left.push(left);
        }
    }

    fn leave(&mut self, now_us: u64, number: NodeNumber) -> Option<Left> {
        self.before_change(now_us);
        let pod = self.nodes.get(&number)?.pod.clone();
        self.bury(now_us, number);
        Some(Left { pod })
    }

    fn find(&self, node_id: &str) -> Option<(NodeNumber, bool, bool)> {
        let (number, node) = self.nodes.iter().find(|(_, node)| node.id == node_id)?;
        Some((*number, node.uses == 0, node.is_head))
    }
}
