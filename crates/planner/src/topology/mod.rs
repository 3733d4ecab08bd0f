//! Where nodes and groups are: domains of the topology, and fabrics in which nodes reach each other by RDMA.
//!
//! [`Topology`] is built once a plan. Places with the same value of a level's label are in one domain; domains of the
//! snapshot's levels lie within each other from broad to narrow. A place without the label is a domain of its own, its
//! *leaf*: the Kubernetes node where that is known, else the Ray node. What is not known is never shared.
//!
//! What tells a label value, the first that has one counts:
//! 1. Ray's labels of the node; for nodes to come those that its group declares or that are expected of it,
//! 2. the labels of its Kubernetes node, where that may be read,
//! 3. the node selector of its group: pods of the group run nowhere else.
//!
//! At a level by which a gang asks for one domain (`Level::ray_label`), Ray's GCS compares that one Ray label and nothing
//! else. So there a node on which Ray runs has the value of this label or none, and of a group whose running nodes all lack
//! it, new nodes are taken to lack it too.

mod fabric;
mod level;
mod nearness;
mod rdma;
mod room;
mod sharing;
mod sight;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::sync::OnceLock;

pub(crate) use fabric::has_accelerator;
pub use fabric::{FabricId, Fabrics};
pub use level::Level;
pub use nearness::{Near, Required, level_named};
pub use rdma::is_rdma_resource;
pub use room::{DomainRoom, GroupDomain};
pub use sharing::Tally;
pub(crate) use sharing::{gpu_steps, gpu_steps_of_hosts};

use crate::roster::{Row, roster};
use crate::{Gang, GangStrategy, Host, LabelOperator, NodePhase, Snapshot};
use room::Rooms;
use sight::{NONE, Sight, runs_ray};
use tree::{ROOT, Tree};

/// What Ray calls the label that nodes with bundles of a placement group carry, up to the id.
pub(crate) const GANG_LABEL_PREFIX: &str = "_PG_";

/// A domain: a labelled one, or the leaf of one place. Comparable within one [`Topology`] only.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainId(u32);

/// Where nodes and groups are. Indices are those of the snapshot; one beyond its end is nowhere known.
#[derive(Debug)]
pub struct Topology<'a> {
    snapshot: &'a Snapshot,
    levels: Vec<Level>,
    sight: Sight<'a>,
    tree: Tree<'a>,
    /// For each row of [`Sight::values`] the domain at each level.
    domains: Vec<u32>,
    rooms: Rooms,
    group_domains: Vec<OnceLock<GroupDomain>>,
    tallies: OnceLock<Vec<Tally>>,
    holders: OnceLock<BTreeMap<&'a str, Vec<usize>>>,
}

impl<'a> Topology<'a> {
    /// Reads the labels of all places. Whatever concerns the free room on Kubernetes nodes is found out when it is asked for.
    pub fn new(snapshot: &'a Snapshot) -> Self {
        Topology::of(snapshot, &roster(snapshot))
    }

    /// The same where it is known what there is to be seen of the nodes at a glance.
    pub(crate) fn of(snapshot: &'a Snapshot, roster: &[Row]) -> Self {
        let levels = level::levels(snapshot);
        let sight = sight::read(snapshot, roster, &levels);
        let (tree, domains) = Tree::build(&levels, &sight);
        let cells = levels.len().saturating_mul(snapshot.node_types.len());
        Topology {
            rooms: Rooms::new(snapshot.node_types.len()),
            group_domains: (0..cells).map(|_| OnceLock::new()).collect(),
            tallies: OnceLock::new(),
            holders: OnceLock::new(),
            snapshot,
            levels,
            sight,
            tree,
            domains,
        }
    }

    /// The snapshot's levels from broad to narrow, then those that only gangs name.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The level by which a gang's locality asks for one domain of this label; else a level that has the label among its keys.
    pub fn level_of_label(&self, label: &str) -> Option<usize> {
        let asked = self.levels.iter().position(|level| level.ray_label.as_deref() == Some(label));
        asked.or_else(|| self.levels.iter().position(|level| level.keys.iter().any(|key| key == label)))
    }

    /// The domain of a node.
    ///
    /// A node to come whose Kubernetes node is not known yet and whose group is not pinned is in its own leaf: see
    /// [`Topology::is_placed`].
    pub fn of_node(&self, level: usize, node: usize) -> DomainId {
        match self.labelled(&self.sight.of_node, level, node) {
            Some(domain) => DomainId(domain),
            None => self.leaf_of_node(level, node),
        }
    }

    /// Whether it is settled where the node is: Ray runs on it, or its pod has a Kubernetes node. Of others, only
    /// [`Topology::of_group`] says where they may come up.
    pub fn is_placed(&self, node: usize) -> bool {
        let is_on_machine = self.sight.machine_of_node.get(node).is_some_and(|machine| *machine != NONE);
        is_on_machine || self.snapshot.nodes.get(node).is_some_and(runs_ray)
    }

    /// Whether a node may be planned with: `false` if its Kubernetes node is cordoned, not ready, unhealthy or about to go.
    pub fn is_target(&self, node: usize) -> bool {
        self.host_of_node(node).is_none_or(|host| host.unfit.is_none())
    }

    /// The Kubernetes node on which a node runs, where it may be read.
    pub fn host_of_node(&self, node: usize) -> Option<&'a Host> {
        self.snapshot.hosts.get(*self.sight.machine_of_node.get(node)? as usize)
    }

    /// The group of a node, where the snapshot has one of its name.
    pub fn group_of_node(&self, node: usize) -> Option<usize> {
        self.sight.group_of_node.get(node).filter(|group| **group != NONE).map(|group| *group as usize)
    }

    /// Where a new pod of the group would be.
    pub fn of_group(&self, level: usize, group: usize) -> &GroupDomain {
        let cell = match level < self.levels.len() {
            true => self.group_domains.get(group.saturating_mul(self.levels.len()).saturating_add(level)),
            false => None,
        };
        cell.map_or(&GroupDomain::Own, |cell| cell.get_or_init(|| self.find_group(level, group)))
    }

    fn find_group(&self, level: usize, group: usize) -> GroupDomain {
        if let Some(domain) = self.labelled(&self.sight.of_group, level, group) {
            return GroupDomain::Pinned(DomainId(domain));
        }
        if self.sight.lacks_ray_label(self.levels.len(), level, group) {
            return GroupDomain::Own;
        }
        match self.rooms(level, group) {
            rooms if rooms.is_empty() => GroupDomain::Own,
            rooms => GroupDomain::OneOf(rooms),
        }
    }

    /// The domains in which pods of the group fit on Kubernetes nodes as they are now, in the order of their ids.
    ///
    /// A Kubernetes node counts if it is no trouble, matches the group's node selector and can hold
    /// [`crate::GroupFacts::pod_requests`]. Taints that are no trouble, and pods on their way that have no Kubernetes node
    /// yet, are not looked at. Empty where Kubernetes nodes or the requests of the pods are not known.
    pub fn rooms(&self, level: usize, group: usize) -> Vec<DomainRoom> {
        let mut rooms: Vec<DomainRoom> = Vec::new();
        let mut at_domain = vec![NONE; (self.tree.len() as usize).saturating_add(self.snapshot.hosts.len())];
        for room in self.rooms.of_group(self.snapshot, &self.sight, group) {
            let domain = match self.labelled(&self.sight.of_host, level, room.host) {
                Some(domain) => DomainId(domain),
                None => self.leaf(room.host),
            };
            let Some(at) = at_domain.get_mut(domain.0 as usize) else { continue };
            if *at == NONE {
                *at = u32::try_from(rooms.len()).unwrap_or(NONE);
                rooms.push(DomainRoom { domain, room: 0, whole_free_hosts: 0 });
            }
            let Some(sum) = rooms.get_mut(*at as usize) else { continue };
            sum.room = sum.room.saturating_add(room.pods);
            sum.whole_free_hosts = sum.whole_free_hosts.saturating_add(u32::from(room.is_whole));
        }
        rooms.sort_unstable_by_key(|room| room.domain);
        rooms
    }

    /// The domain that a gang is bound to already: the one that the GCS has chosen, else the one where the nodes are that
    /// hold bundles of it. `None` if it is free to choose, or if its nodes are in several domains.
    pub fn bound_domain(&self, level: usize, gang: &Gang) -> Option<DomainId> {
        self.chosen_domain(level, gang).or_else(|| {
            let mut domains = self.holders(gang).iter().map(|node| self.of_node(level, *node));
            let first = domains.next()?;
            domains.all(|domain| domain == first).then_some(first)
        })
    }

    fn chosen_domain(&self, level: usize, gang: &Gang) -> Option<DomainId> {
        let locality = gang.locality.as_ref()?;
        if self.levels.get(level)?.ray_label.as_deref() != Some(&locality.label) {
            return None;
        }
        let is_choice = |c: &&crate::LabelConstraint| c.key == locality.label && c.operator == LabelOperator::In;
        match &locality.selector.constraints.iter().find(is_choice)?.values[..] {
            [value] => self.domain_of_value(level, value),
            _ => None,
        }
    }

    /// Nodes that hold bundles of the gang and stay (it carries on there once what is missing has been placed).
    pub fn holders(&self, gang: &Gang) -> &[usize] {
        let holders = self.holders.get_or_init(|| {
            let mut holders: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for (at, node) in self.snapshot.nodes.iter().enumerate() {
                if matches!(node.phase, NodePhase::Stopped | NodePhase::Leaving) {
                    continue;
                }
                for id in node.dynamic_labels.keys().filter_map(|label| label.strip_prefix(GANG_LABEL_PREFIX)) {
                    holders.entry(id).or_default().push(at);
                }
            }
            holders
        });
        holders.get(gang.id.as_str()).map_or(&[], Vec::as_slice)
    }

    /// The domain that a label value names at this level; `None` if none or several.
    pub fn domain_of_value(&self, level: usize, value: &str) -> Option<DomainId> {
        let mut domains =
            self.domains(level).filter(|domain| self.tree.domain(domain.0).is_some_and(|d| d.value == value));
        domains.next().filter(|_| domains.next().is_none())
    }

    /// The labelled domains of a level, in the order of their ids.
    pub fn domains(&self, level: usize) -> impl Iterator<Item = DomainId> {
        let is_of_level = move |at: &u32| self.tree.domain(*at).is_some_and(|domain| domain.level == Some(level));
        (0..self.tree.len()).filter(is_of_level).map(DomainId)
    }

    /// Whether it is a domain that a label names, in which there can be more than one Kubernetes node; else it is a leaf.
    pub fn is_labelled(&self, domain: DomainId) -> bool {
        domain.0 < self.tree.len()
    }

    /// The level of a labelled domain.
    pub fn level_of(&self, domain: DomainId) -> Option<usize> {
        self.tree.domain(domain.0)?.level
    }

    /// A labelled domain for people: `ray.io/gpu-domain=d1`, the first key of the level, or the one that Ray compares.
    pub fn label_value(&self, domain: DomainId) -> Option<String> {
        let domain = self.tree.domain(domain.0)?;
        let level = self.levels.get(domain.level?)?;
        let key = level.ray_label.as_ref().or(level.keys.get(domain.key)).unwrap_or(&level.name);
        Some(format!("{key}={}", domain.value))
    }

    /// What is of the cluster in a domain.
    pub fn tally(&self, domain: DomainId) -> Tally {
        if !self.is_labelled(domain) {
            return Tally { hosts: 1, ..Tally::default() };
        }
        self.tallies.get_or_init(|| self.count()).get(domain.0 as usize).copied().unwrap_or_default()
    }

    fn count(&self) -> Vec<Tally> {
        let mut tallies = vec![Tally::default(); self.tree.len() as usize];
        for level in 0..self.levels.len() {
            let mut last_on = vec![NONE; self.sight.machines as usize];
            for (at, node) in self.snapshot.nodes.iter().enumerate() {
                let Some(domain) = self.labelled(&self.sight.of_node, level, at) else { continue };
                let machine = self.sight.machine_of_node.get(at).copied().unwrap_or(NONE);
                let last = last_on.get_mut(machine as usize);
                let is_counted = last.map(|last| std::mem::replace(last, domain)) == Some(domain);
                if matches!(node.phase, NodePhase::Leaving | NodePhase::Stopped) {
                    continue;
                }
                if let Some(tally) = tallies.get_mut(domain as usize) {
                    tally.count(&node.total, is_counted);
                }
            }
        }
        tallies
    }

    /// The domain in which this one lies; `None` if that is everything.
    pub fn parent(&self, domain: DomainId) -> Option<DomainId> {
        let outer = match self.is_labelled(domain) {
            true => self.tree.parent(domain.0),
            false => self.innermost(domain),
        };
        outer.filter(|outer| *outer != ROOT).map(DomainId)
    }

    /// Labelled domains directly within this one; of `None`, the outermost.
    pub fn children(&self, domain: Option<DomainId>) -> Vec<DomainId> {
        self.tree.children(domain.map_or(ROOT, |domain| domain.0)).into_iter().map(DomainId).collect()
    }

    /// The smallest domain that holds all of these; `None` if that is everything, or if there are none.
    pub fn common(&self, domains: impl Iterator<Item = DomainId>) -> Option<DomainId> {
        let outer = |domain: DomainId| match self.is_labelled(domain) {
            true => domain.0,
            false => self.innermost(domain).unwrap_or(ROOT),
        };
        let both = |a: DomainId, b: DomainId| match a == b {
            true => a,
            false => DomainId(self.tree.common(outer(a), outer(b))),
        };
        domains.reduce(both).filter(|domain| domain.0 != ROOT)
    }

    fn labelled(&self, rows: &[u32], level: usize, place: usize) -> Option<u32> {
        if level >= self.levels.len() {
            return None;
        }
        self.domain_in_row(*rows.get(place)?, level)
    }

    fn domain_in_row(&self, row: u32, level: usize) -> Option<u32> {
        let cell = (row as usize).checked_mul(self.levels.len())?.checked_add(level)?;
        self.domains.get(cell).copied().filter(|domain| *domain != NONE)
    }

    /// Leaves are numbered after the labelled domains: machines, then nodes.
    fn leaf(&self, number: usize) -> DomainId {
        DomainId(u32::try_from(number).unwrap_or(NONE).saturating_add(self.tree.len()))
    }

    fn leaf_of_node(&self, level: usize, node: usize) -> DomainId {
        let machine = self.sight.machine_of_node.get(node).copied().filter(|machine| *machine != NONE);
        // Where Ray compares a label, being on one machine makes nothing alike.
        let machine = machine.filter(|_| self.levels.get(level).is_none_or(|level| level.ray_label.is_none()));
        match machine {
            Some(machine) => self.leaf(machine as usize),
            None => self.leaf((self.sight.machines as usize).saturating_add(node)),
        }
    }

    /// The innermost labelled domain around a leaf.
    fn innermost(&self, leaf: DomainId) -> Option<u32> {
        let number = leaf.0.checked_sub(self.tree.len())?;
        let row = match number.checked_sub(self.sight.machines) {
            Some(node) => self.sight.of_node.get(node as usize),
            None => self.sight.of_host.get(number as usize).or_else(|| {
                let node = self.sight.machine_of_node.iter().position(|machine| *machine == number)?;
                self.sight.of_node.get(node)
            }),
        };
        let row = *row?;
        let nested =
            (0..self.levels.len()).rev().filter(|at| self.levels.get(*at).is_some_and(|level| level.is_nested));
        nested.filter_map(|level| self.domain_in_row(row, level)).next()
    }
}

/// Whether all bundles must be on one node.
fn is_on_one_node(gang: &Gang) -> bool {
    gang.strategy == GangStrategy::StrictPack
}
