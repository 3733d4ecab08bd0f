//! Pods counted in replicas.

use std::collections::BTreeSet;

use crate::quick_hash::Index;
use crate::{GroupPlan, Node, NodePhase, NodeType, Snapshot};

/// Replicas of one group.
pub(crate) struct Replicas {
    pub plan: GroupPlan,
    /// Replicas that are really new.
    pub launch: u32,
}

/// Pods of one group, to be counted in replicas.
#[derive(Clone, Default)]
pub(crate) struct Pods<'a> {
    named: BTreeSet<&'a str>,
    pub count: u64,
}

impl<'a> Pods<'a> {
    fn add(&mut self, node: &'a Node) {
        self.count += 1;
        self.named.extend(node.replica.as_deref());
    }

    /// Pods that don't say to which replica they belong fill up those that lack some.
    pub fn replicas(&self, group: &NodeType) -> u32 {
        let hosts = u64::from(group.num_of_hosts.max(1));
        let named = if hosts > 1 { self.named.len() as u64 } else { 0 };
        u64::max(named, self.count.div_ceil(hosts)) as u32
    }
}

/// Pods of one group by what is known and decided of them.
#[derive(Clone, Default)]
pub(crate) struct Census<'a> {
    /// With a pod or a Ray node.
    pub existing: Pods<'a>,
    /// And those that were asked for.
    pub asked: Pods<'a>,
    /// Of those, the ones that stay.
    pub kept: Pods<'a>,
    /// Of those, the ones in which Ray runs.
    pub running: Pods<'a>,
}

/// By node of the snapshot: the number of its group; for a node of no group, the number of groups.
pub(crate) fn group_numbers(snapshot: &Snapshot) -> Vec<usize> {
    let none = snapshot.node_types.len();
    let numbers: Index<&str, usize> =
        snapshot.node_types.iter().enumerate().map(|(at, group)| (group.name.as_str(), at)).collect();
    // Nodes of a group mostly follow one another.
    let mut last: Option<(&str, usize)> = None;
    let mut number = |node: &'_ Node| match last {
        Some((group, number)) if group == node.group => number,
        _ => numbers.get_key_value(node.group.as_str()).map_or(none, |(group, number)| {
            last = Some((group, *number));
            *number
        }),
    };
    snapshot.nodes.iter().map(&mut number).collect()
}

/// Counts the pods of every group, in the order of the snapshot, and then those of no group. `numbers` are
/// [`group_numbers`], `is_ending` says of a node whether it ends.
pub(crate) fn census<'a>(
    snapshot: &'a Snapshot,
    numbers: &[usize],
    is_ending: impl Fn(usize) -> bool,
) -> Vec<Census<'a>> {
    let mut groups: Vec<Census<'_>> = Vec::new();
    groups.resize_with(snapshot.node_types.len() + 1, Census::default);
    for (at, (node, number)) in snapshot.nodes.iter().zip(numbers).enumerate() {
        if node.is_head || node.instance_id.is_empty() || node.phase == NodePhase::Leaving {
            continue;
        }
        let census = &mut groups[*number];
        census.asked.add(node);
        if node.phase != NodePhase::Requested {
            census.existing.add(node);
        }
        if !is_ending(at) {
            census.kept.add(node);
            if node.phase == NodePhase::Running {
                census.running.add(node);
            }
        }
    }
    groups
}

/// Replicas of one group, of which `launched` more pods are launched.
pub(crate) fn replicas(pods: &Census<'_>, spec: &NodeType, launched: u64) -> Replicas {
    let (current, asked) = (pods.existing.replicas(spec), pods.asked.replicas(spec));
    let kept = pods.kept.replicas(spec);
    let hosts = u64::from(spec.num_of_hosts.max(1));
    let launched = u32::try_from(launched.div_ceil(hosts)).unwrap_or(u32::MAX);
    let desired = kept.max(kept.saturating_add(launched).min(spec.max_replicas));
    // A suspended group has no pods, whatever its number of replicas says: it is left as it is.
    let desired = if spec.suspended { spec.requested_replicas } else { desired };
    let (requested, min, max) = (spec.requested_replicas, spec.min_replicas, spec.max_replicas);
    let launch = desired.saturating_sub(requested.max(asked));
    Replicas { plan: GroupPlan { current, requested, desired, min, max }, launch }
}
