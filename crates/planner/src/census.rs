//! Pods counted in replicas.

use std::collections::BTreeSet;

use crate::roster::Row;
use crate::{GroupPlan, NodePhase, NodeType, Snapshot};

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
    fn add(&mut self, replica: Option<&'a str>) {
        self.count += 1;
        self.named.extend(replica);
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

/// Counts the pods of every group, in the order of the snapshot, and then those of no group. `is_ending` says of a node whether
/// it ends.
pub(crate) fn census<'a>(snapshot: &'a Snapshot, roster: &[Row], is_ending: impl Fn(usize) -> bool) -> Vec<Census<'a>> {
    let mut groups: Vec<Census<'_>> = Vec::new();
    groups.resize_with(snapshot.node_types.len() + 1, Census::default);
    for (at, row) in roster.iter().enumerate().filter(|(_, row)| row.is_pod()) {
        let census = &mut groups[row.group()];
        let replica = if row.is_named { snapshot.nodes[at].replica.as_deref() } else { None };
        census.asked.add(replica);
        if row.phase != NodePhase::Requested {
            census.existing.add(replica);
        }
        if !is_ending(at) {
            census.kept.add(replica);
            if row.phase == NodePhase::Running {
                census.running.add(replica);
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
