//! The scheduler's answer in pods, to compare it with Ray's own.

use std::collections::BTreeMap;

use super::cluster::{Fate, Input, Resizing};
use super::fill::ScoreEntry;
use super::schedule::{Decision, decide};
use super::tables::Work;
use crate::{Memory, NodePhase, Snapshot, TerminateCause};

/// What Ray's scheduler would answer to the same snapshot, counted in pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Group → pods to launch.
    pub launch: BTreeMap<String, u64>,
    /// Instance → why it ends.
    pub terminate: BTreeMap<String, TerminateCause>,
    /// Instance → CPU and memory (bytes) that it is to be resized to.
    pub resize: BTreeMap<String, (f64, f64)>,
    /// Position in [`Snapshot::demand`] → how many of the class found no place.
    pub tasks_left: BTreeMap<usize, u64>,
    /// Positions in [`Snapshot::gangs`] of those that found no place, in the order in which they were tried.
    pub gangs_left: Vec<usize>,
    /// Positions in [`Snapshot::constraints`] of those that can't be met.
    pub constraints_left: Vec<usize>,
    /// What is remembered: see [`Memory::pending_unneeded_since_ms`].
    pub pending_unneeded_since_ms: BTreeMap<String, Vec<i64>>,
}

/// Decides as Ray's scheduler does: pod by pod, without limits on the rate, tasks in the snapshot's order.
pub fn schedule(snapshot: &Snapshot, memory: &Memory) -> Outcome {
    schedule_without(None, snapshot, memory)
}

/// The same with one entry of the comparison of candidates left out: shows what that entry is good for.
pub fn schedule_without(leave_out: Option<ScoreEntry>, snapshot: &Snapshot, memory: &Memory) -> Outcome {
    let task_order: Vec<usize> = (0..snapshot.demand.len()).collect();
    let work = Work::new(snapshot, &task_order);
    let input = Input { snapshot, memory, given_up: &[], launch_anyway: Vec::new(), leave_out };
    Outcome::from(decide(input, &work))
}

impl From<Decision<'_>> for Outcome {
    fn from(decision: Decision<'_>) -> Self {
        let mut outcome = Outcome {
            tasks_left: BTreeMap::new(),
            gangs_left: decision.gangs_left.iter().map(|left| left.at as usize).collect(),
            constraints_left: decision.constraints_left.iter().map(|left| left.at as usize).collect(),
            pending_unneeded_since_ms: decision.memory.pending_unneeded_since_ms,
            ..Outcome::default()
        };
        for (at, count) in &decision.tasks_left {
            let left = outcome.tasks_left.entry(*at as usize).or_default();
            *left = left.saturating_add(*count);
        }
        let cluster = &decision.cluster;
        let snapshot = cluster.input.snapshot;
        for node in &cluster.nodes {
            let group = node.group.and_then(|group| snapshot.node_types.get(usize::from(group)));
            if let (Fate::Launch, Some(group)) = (node.fate, group) {
                *outcome.launch.entry(group.name.clone()).or_default() += 1;
            }
            let Some(observed) = node.observed.and_then(|at| snapshot.nodes.get(at as usize)) else {
                continue;
            };
            if let Fate::End(cause) = node.fate {
                outcome.terminate.insert(observed.instance_id.to_string(), cause);
            }
            if let (Resizing::Asked(cpu, memory), NodePhase::Running) = (node.resizing, node.phase) {
                outcome.resize.insert(observed.instance_id.to_string(), (cpu, memory));
            }
        }
        outcome
    }
}
