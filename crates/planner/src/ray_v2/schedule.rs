//! Ray's order of business, counted in pods.

use std::collections::BTreeSet;

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
    /// Gangs that found no place.
    pub gangs_left: Vec<Left>,
    /// Constraints that can't be met.
    pub constraints_left: Vec<Left>,
    /// Groups of which more is wanted, for their minimum or for tasks, than one plan may launch.
    pub cut: BTreeSet<u16>,
    /// Nodes that one might expect to go.
    pub kept: Vec<(NodeId, KeptFor)>,
    pub memory: Memory,
}

/// A gang or a constraint that found no place.
pub(super) struct Left {
    /// Position in the snapshot.
    pub at: u32,
    pub cut: Cut,
}

/// What could not be launched because one plan launches only so many pods.
#[derive(Clone, Default)]
pub(super) struct Cut {
    pub groups: BTreeSet<u16>,
    /// Nothing else was launched before: a later plan can't do more.
    pub alone: bool,
}

/// Decides on `work`, the requests of `input.snapshot`.
pub(super) fn decide<'a>(input: Input<'a>, work: &'a Work<'a>) -> Decision<'a> {
    let mut memory = input.memory.clone();
    let pending_can_end = input.snapshot.settings.pending_idle_timeout_ms.is_some();
    let mut cluster = Cluster::new(input, &work.tables);
    ending::end_outdated(&mut cluster);
    let mut cut = launch_floors(&mut cluster);
    ending::end_above_group_maximum(&mut cluster);
    ending::end_above_cluster_maximum(&mut cluster);

    let mut constraints_left = Vec::new();
    for (at, runs) in (0..).zip(&work.constraints) {
        constraints_left.extend(place_all(&mut cluster, runs, Wants::Constraint).err().map(|cut| Left { at, cut }));
    }
    let gangs_left = place_gangs(&mut cluster, &work.gangs);
    let tasks = Pass::find(&mut cluster, &work.tasks, Wants::Task);
    let tasks_left = tasks.left.iter().filter(|run| run.count > 0).map(|run| (run.origin, run.count)).collect();
    cut.extend(&tasks.cut);
    tasks.apply(&mut cluster);

    if pending_can_end {
        ending::note_unneeded(&mut cluster, &mut memory);
    }
    let kept = ending::end_idle(&mut cluster, &mut memory);
    Decision { cluster, tasks_left, gangs_left, constraints_left, cut, kept, memory }
}

/// Brings every group to its minimum, as far as one plan may. New nodes come first in the order. Returns the groups that stay
/// below.
fn launch_floors(cluster: &mut Cluster<'_>) -> BTreeSet<u16> {
    let mut cut = BTreeSet::new();
    let counts = cluster.count(false);
    let mut order = Vec::new();
    for (at, count) in counts.into_iter().enumerate() {
        let group = &cluster.groups[at];
        let below = group.min.saturating_sub(count);
        let anyway = cluster.input.launch_anyway.get(at).copied().map_or(0, u64::from);
        let (state, hosts) = (group.fresh, group.hosts);
        for _ in 0..below.max(anyway) {
            if !cluster.budget.take(at as u16, hosts) {
                cut.insert(at as u16);
                break;
            }
            order.push(cluster.launch(at as u16, state));
        }
    }
    order.append(&mut cluster.order);
    cluster.order = order;
    cut
}

/// Places all of `runs`, or changes nothing.
fn place_all(cluster: &mut Cluster<'_>, runs: &[Run], wants: Wants) -> Result<(), Cut> {
    let pass = Pass::find(cluster, runs, wants);
    if !pass.is_complete() {
        return Err(Cut { groups: pass.cut, alone: cluster.budget.is_whole() });
    }
    pass.apply(cluster);
    Ok(())
}

/// Places gangs, those with the most placement constraints first, then the largest. Returns those that found no place.
fn place_gangs(cluster: &mut Cluster<'_>, gangs: &[Vec<Run>]) -> Vec<Left> {
    let snapshot = cluster.input.snapshot;
    let size = |at: &usize| {
        snapshot.gangs.get(*at).map(|gang| {
            let constraints: usize = gang.bundles.iter().map(|bundle| bundle.placement.len()).sum();
            (constraints, gang.bundles.len())
        })
    };
    let mut order: Vec<usize> = (0..gangs.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(size(at)));
    let place = |at: usize| place_all(cluster, &gangs[at], Wants::Gang).err().map(|cut| Left { at: at as u32, cut });
    order.into_iter().filter_map(place).collect()
}

impl Decision<'_> {
    /// Nodes that are to be launched, in the order in which they were chosen within each group.
    pub fn launched(&self) -> impl Iterator<Item = NodeId> {
        let nodes = (0..).zip(&self.cluster.nodes);
        nodes.filter(|(_, node)| node.fate == Fate::Launch).map(|(id, _)| id)
    }
}
