//! Ray's order of business, counted in pods.

use super::cluster::{Cluster, Fate, Input, NodeId, Wants};
use super::ending::{self, KeptFor};
use super::pass::Pass;
use super::tables::{Run, Work};
use crate::Memory;

/// Everything that was decided, in pods.
pub(super) struct Decision<'a> {
    pub cluster: Cluster<'a>,
    /// Positions in the snapshot and counts of the tasks that found no place.
    pub tasks_left: Vec<(u32, u64)>,
    /// Positions of the gangs that found no place.
    pub gangs_left: Vec<u32>,
    /// Positions of the constraints that can't be met.
    pub constraints_left: Vec<u32>,
    /// Nodes that one might expect to go.
    pub kept: Vec<(NodeId, KeptFor)>,
    pub memory: Memory,
}

/// Decides on `work`, the requests of `input.snapshot`.
pub(super) fn decide<'a>(input: Input<'a>, work: &'a Work<'a>) -> Decision<'a> {
    let mut memory = input.memory.clone();
    let pending_can_end = input.snapshot.settings.pending_idle_timeout_ms.is_some();
    let mut cluster = Cluster::new(input, &work.tables);
    ending::end_outdated(&mut cluster);
    launch_floors(&mut cluster);
    ending::end_above_group_maximum(&mut cluster);
    ending::end_above_cluster_maximum(&mut cluster);

    let mut constraints_left = Vec::new();
    for (at, runs) in (0..).zip(&work.constraints) {
        if !place_all(&mut cluster, runs, Wants::Constraint) {
            constraints_left.push(at);
        }
    }
    let gangs_left = place_gangs(&mut cluster, &work.gangs);
    let tasks = Pass::find(&mut cluster, &work.tasks, Wants::Task);
    let tasks_left = tasks.left.iter().filter(|run| run.count > 0).map(|run| (run.origin, run.count)).collect();
    tasks.apply(&mut cluster);

    if pending_can_end {
        ending::note_unneeded(&mut cluster, &mut memory);
    }
    let kept = ending::end_idle(&mut cluster, &mut memory);
    Decision { cluster, tasks_left, gangs_left, constraints_left, kept, memory }
}

/// Brings every group to its minimum. New nodes come first in the order.
fn launch_floors(cluster: &mut Cluster<'_>) {
    let counts = cluster.count(false);
    let mut order = Vec::new();
    for (at, count) in counts.into_iter().enumerate() {
        let group = &cluster.groups[at];
        let below = group.min.saturating_sub(count);
        let anyway = cluster.input.launch_anyway.get(at).copied().map_or(0, u64::from);
        let state = group.fresh;
        for _ in 0..below.max(anyway) {
            order.push(cluster.launch(at as u16, state));
        }
    }
    order.append(&mut cluster.order);
    cluster.order = order;
}

/// Places all of `runs`, or changes nothing.
fn place_all(cluster: &mut Cluster<'_>, runs: &[Run], wants: Wants) -> bool {
    let pass = Pass::find(cluster, runs, wants);
    let complete = pass.is_complete();
    if complete {
        pass.apply(cluster);
    }
    complete
}

/// Places gangs, those with the most placement constraints first, then the largest. Returns those that found no place.
fn place_gangs(cluster: &mut Cluster<'_>, gangs: &[Vec<Run>]) -> Vec<u32> {
    let snapshot = cluster.input.snapshot;
    let size = |at: &usize| {
        snapshot.gangs.get(*at).map(|gang| {
            let constraints: usize = gang.bundles.iter().map(|bundle| bundle.placement.len()).sum();
            (constraints, gang.bundles.len())
        })
    };
    let mut order: Vec<usize> = (0..gangs.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(size(at)));
    order.retain(|at| !place_all(cluster, &gangs[*at], Wants::Gang));
    order.into_iter().map(|at| at as u32).collect()
}

impl Decision<'_> {
    /// Nodes that are to be launched, in the order in which they were chosen within each group.
    pub fn launched(&self) -> impl Iterator<Item = NodeId> {
        let nodes = (0..).zip(&self.cluster.nodes);
        nodes.filter(|(_, node)| node.fate == Fate::Launch).map(|(id, _)| id)
    }
}
