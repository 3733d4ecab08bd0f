//! RDMA: the hosts of a gang that is to be in one fabric reach each other, and none of them falls back to TCP.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Check;
use crate::topology::is_rdma_resource;
use crate::{Amount, Gang, NodeType, Resources, Target};

impl Check<'_> {
    /// A gang over several hosts that asks for RDMA by name is said to be in one fabric; and where that is said of a gang, all
    /// hosts that it gets have RDMA and are in that fabric, as far as it is known before they are there. Where what is left of
    /// a gang runs was decided by Ray, which knows no fabrics: that is no fault of the plan.
    pub(super) fn fabric(
        &mut self,
        gang: &Gang,
        said: Option<&str>,
        hosts: &[Target],
        members: &BTreeMap<&str, Vec<u32>>,
    ) {
        let label = format!("_PG_{}", gang.id);
        let present = members.get(label.as_str()).map_or(0, Vec::len);
        let Some(said) = said else {
            if hosts.len() + present > 1 && asks_for_device(gang) {
                let text = format!("gang {} asks for RDMA, and is in no one fabric", gang.id);
                self.error("one-fabric", text);
            }
            return;
        };
        for host in hosts {
            if !self.has_rdma(*host) {
                let text = format!("{} has no RDMA, gang {} is to be in {said}", self.target_name(*host), gang.id);
                self.error("one-fabric", text);
            } else if !self.is_in_fabric(*host, said) {
                let text = format!("{} is not in {said}, where gang {} is to be", self.target_name(*host), gang.id);
                self.error("one-fabric", text);
            }
        }
    }

    fn group_of(&self, host: Target) -> Option<&NodeType> {
        match host {
            Target::Node(at) => self.groups.get(&*self.snapshot.nodes.get(at as usize)?.group).copied(),
            Target::New { group, .. } => self.snapshot.node_types.get(group as usize),
        }
    }

    fn has_rdma(&self, host: Target) -> bool {
        let of_group = |group: &NodeType| has_device(&group.facts.extended_resources) || has_device(&group.resources);
        let by_itself = match host {
            Target::Node(at) => self.snapshot.nodes.get(at as usize).is_some_and(|node| has_device(&node.total)),
            Target::New { .. } => false,
        };
        by_itself || self.group_of(host).is_some_and(of_group)
    }

    /// Whether a host is where `said` says: `label=value` of a level that is a fabric, or `group name`.
    fn is_in_fabric(&self, host: Target, said: &str) -> bool {
        if let Some(name) = said.strip_prefix("group ") {
            return self.group_of(host).is_some_and(|group| group.name == name);
        }
        let Some((key, value)) = said.split_once('=') else { return true };
        let mut levels = self.snapshot.topology.iter();
        let level = levels.find(|level| level.is_fabric && level.keys.iter().any(|known| known == key));
        match level.and_then(|level| self.domain(host, level)) {
            Some(domain) => domain == value,
            None => level.is_some() && self.is_coming(host),
        }
    }
}

/// Bundles of a gang mostly share their resources, which are looked at once.
fn asks_for_device(gang: &Gang) -> bool {
    let mut kinds = gang.bundles.chunk_by(|a, b| Arc::ptr_eq(&a.resources, &b.resources));
    kinds.any(|alike| alike.first().is_some_and(|bundle| has_device(&bundle.resources)))
}

fn has_device(resources: &Resources) -> bool {
    resources.iter().any(|(name, amount)| *amount > Amount::ZERO && is_rdma_resource(name))
}
