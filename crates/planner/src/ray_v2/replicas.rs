//! From pods to replicas: what is launched and ended is whole replicas, and no faster than the settings allow.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{Cluster, Fate, Input, NodeId};
use super::ending::KeptFor;
use super::schedule::{Decision, decide};
use super::tables::Work;
use crate::census::{Replicas, census, replicas};
use crate::roster::roster;
use crate::{MAX_LAUNCHES, Memory, Snapshot, TerminateCause, UpscalingMode};

/// Decides so that every group gets whole replicas.
///
/// The scheduler thinks in pods. Where it takes a part of a replica, the rest comes with it and may hold other requests: so it
/// is asked again with the whole replica given.
pub(super) fn decide_in_replicas<'a>(
    snapshot: &'a Snapshot,
    memory: &'a Memory,
    given_up: &'a [bool],
    work: &'a Work<'a>,
) -> Decision<'a> {
    // Every round gives more pods to some group. Normally the second round changes nothing.
    const ROUNDS: usize = 16;
    let mut launch_anyway = vec![0; snapshot.node_types.len()];
    let mut round = 1;
    loop {
        let input = Input { snapshot, memory, given_up, launch_anyway: launch_anyway.clone(), leave_out: None };
        let decision = decide(input, work);
        if round == ROUNDS || !complete_replicas(&decision, &mut launch_anyway) {
            return decision;
        }
        round += 1;
    }
}

/// Raises `launch_anyway` to whole replicas; says whether that changed anything.
fn complete_replicas(decision: &Decision<'_>, launch_anyway: &mut [u32]) -> bool {
    let cluster = &decision.cluster;
    let mut launched = vec![0_u64; cluster.groups.len()];
    for group in decision.launched().filter_map(|id| cluster.nodes[id as usize].group) {
        launched[usize::from(group)] += 1;
    }
    let pods = cluster.count(true);
    let mut changed = false;
    for (at, group) in cluster.groups.iter().enumerate() {
        let whole = launched[at].next_multiple_of(u64::from(group.hosts));
        if whole > launched[at] && pods[at] + whole - launched[at] <= group.max {
            launch_anyway[at] = whole as u32;
            changed = true;
        }
    }
    changed
}

/// Positions in the snapshot of the nodes that end.
fn ending(cluster: &Cluster<'_>) -> BTreeSet<usize> {
    let given_up = cluster.input.given_up.iter().enumerate().filter(|(_, given_up)| **given_up).map(|(at, _)| at);
    let ends = cluster.nodes.iter().filter(|node| matches!(node.fate, Fate::End(_)));
    given_up.chain(ends.filter_map(|node| node.observed.map(|at| at as usize))).collect()
}

/// Holds back launches that would exceed the rate, the last ones first. Returns the groups concerned and why.
pub(super) fn hold_back(decision: &mut Decision<'_>) -> BTreeMap<u16, String> {
    let snapshot = decision.cluster.input.snapshot;
    let settings = &snapshot.settings;
    let conservative = settings.upscaling_mode == UpscalingMode::Conservative;
    if !conservative && settings.max_in_flight.is_none() {
        return BTreeMap::new();
    }
    let mut launches: BTreeMap<u16, Vec<NodeId>> = BTreeMap::new();
    for id in decision.launched() {
        if let Some(group) = decision.cluster.nodes[id as usize].group {
            launches.entry(group).or_default().push(id);
        }
    }
    let ending = ending(&decision.cluster);
    let census = census(snapshot, &roster(snapshot), |at| ending.contains(&at));
    let mut in_flight: u64 = census.iter().map(|pods| pods.kept.count - pods.running.count).sum();
    let mut held_back = BTreeMap::new();
    for (group, nodes) in launches {
        let spec = decision.cluster.groups[usize::from(group)].spec;
        let hosts = u64::from(spec.num_of_hosts.max(1));
        let pods = &census[usize::from(group)];
        let (kept, running) = (pods.kept.replicas(spec), pods.running.count / hosts);
        let on_the_way = u64::from(kept).saturating_sub(running);
        let mut most = u64::MAX;
        let mut reason = String::new();
        if conservative {
            most = u64::max(running, 1).saturating_sub(on_the_way);
            reason = format!("upscaling mode Conservative: {running} running, {on_the_way} on their way already");
        }
        if let Some(limit) = settings.max_in_flight.map(u64::from) {
            // A replica that is larger than the limit may come alone, or it would never come.
            let fits = limit.saturating_sub(in_flight) / hosts;
            let fits = if fits == 0 && in_flight == 0 { 1 } else { fits };
            if fits < most {
                most = fits;
                reason = format!("at most {limit} pods may be on their way at once, {in_flight} are");
            }
        }
        let below_floor = u64::from(spec.min_replicas.saturating_sub(kept));
        let go = (u64::max(most, below_floor).saturating_mul(hosts)).min(nodes.len() as u64);
        in_flight += go;
        for &id in nodes.iter().skip(go as usize) {
            decision.cluster.nodes[id as usize].fate = Fate::HoldBack;
            held_back.entry(group).or_insert_with(|| reason.clone());
        }
    }
    held_back
}

/// Adds the groups of which one plan may not launch as many pods as are wanted.
pub(super) fn note_cut(decision: &Decision<'_>, held_back: &mut BTreeMap<u16, String>) {
    for group in &decision.cut {
        held_back.entry(*group).or_insert_with(|| format!("at most {MAX_LAUNCHES} pods are launched at once"));
    }
}

/// Replicas of every worker group, in the order of the snapshot.
pub(super) fn count(decision: &Decision<'_>) -> Vec<Replicas> {
    let cluster = &decision.cluster;
    let snapshot = cluster.input.snapshot;
    let ending = ending(cluster);
    let census = census(snapshot, &roster(snapshot), |at| ending.contains(&at));
    let mut launched = vec![0_u64; cluster.groups.len()];
    for group in decision.launched().filter_map(|id| cluster.nodes[id as usize].group) {
        launched[usize::from(group)] += 1;
    }
    let specs = cluster.groups.iter().map(|group| group.spec).zip(&census).zip(launched);
    specs.map(|((spec, pods), launched)| replicas(pods, spec, launched)).collect()
}

/// Lets idle nodes stay in groups that get new ones, or one would be made in the place of the other for ever.
pub(super) fn keep_idle_where_launching(decision: &mut Decision<'_>) {
    let launching: BTreeSet<u16> =
        decision.launched().filter_map(|id| decision.cluster.nodes[id as usize].group).collect();
    for (id, node) in (0..).zip(&mut decision.cluster.nodes) {
        let launching = node.group.is_some_and(|group| launching.contains(&group));
        if launching && node.fate == Fate::End(TerminateCause::Idle) {
            node.fate = Fate::Stay;
            decision.kept.push((id, KeptFor::Launch));
        }
    }
}
