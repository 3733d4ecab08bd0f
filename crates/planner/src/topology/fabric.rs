//! Fabrics: which nodes reach each other by RDMA.
//!
//! What is assumed, because nothing says it outright:
//! * A group has RDMA if its pods ask for a device ([`super::is_rdma_resource`]) or declare a Ray resource of such a name; a
//!   node has it if its group does or if Ray counts such a resource on it. Devices that a privileged pod reaches without
//!   asking for one are not seen.
//! * Two places are in one fabric if they have the same value at the broadest level marked `is_fabric` at which they have one.
//!   A label value is trusted more than device names: those differ between node pools of one network.
//! * Where no place of a group has such a label, the group is one fabric together with its nodes.
//! * Where some have, a node without it is a fabric of its own. A new pod is in the fabric that the group is pinned to, or
//!   else in the one in which all of the group's Kubernetes nodes with room are, or else in the one of all of its nodes.
//!   Where these disagree, the fabric of new pods is the group's own (see [`Fabrics::is_certain`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{DomainId, GroupDomain, Topology, is_on_one_node, is_rdma_resource};
use crate::quick_hash::Index;
use crate::{
    Amount, FabricWish, Gang, GangStrategy, LabelOperator, LabelSelector, NodeType, Request, Resources, Snapshot,
};

/// Accelerators whose hosts talk to each other by RDMA. (TPU slices have a network of their own.)
const ACCELERATORS: [&str; 4] = ["GPU", "HPU", "NPU", "neuron_cores"];

/// A fabric. Comparable within one [`Fabrics`] only.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FabricId(u32);

/// What makes a fabric.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    Domain(DomainId),
    Group(usize),
}

/// Which groups and nodes have RDMA, and in which fabric they are.
#[derive(Debug)]
pub struct Fabrics {
    names: Vec<String>,
    groups: Vec<Option<FabricId>>,
    nodes: Vec<Option<FabricId>>,
    is_certain: Vec<bool>,
    /// Label keys of the levels that are fabrics.
    keys: Vec<String>,
}

impl Fabrics {
    /// Reads resources and domains.
    pub fn new(snapshot: &Snapshot, topology: &Topology<'_>) -> Fabrics {
        let levels = topology.levels().iter().enumerate().filter(|(_, level)| level.is_fabric);
        let levels: Vec<usize> = levels.map(|(at, _)| at).collect();
        let has_rdma: Vec<bool> = snapshot.node_types.iter().map(group_has_rdma).collect();
        let reader = Reader { snapshot, topology, levels: &levels, has_rdma: &has_rdma };
        let own = reader.domains_of_nodes();
        let mut ids = Ids::default();
        let mut fabrics = Fabrics {
            names: Vec::new(),
            groups: Vec::new(),
            nodes: Vec::new(),
            is_certain: Vec::new(),
            keys: levels
                .iter()
                .filter_map(|at| topology.levels().get(*at))
                .flat_map(|level| level.keys.clone())
                .collect(),
        };
        if !has_rdma.contains(&true) && own.iter().all(Option::is_none) {
            return fabrics;
        }
        let kin = reader.kin(&own);
        let grown: Vec<Grown> = kin.iter().enumerate().map(|(group, kin)| reader.of_group(group, *kin)).collect();
        for (grown, has_rdma) in grown.iter().zip(&has_rdma) {
            fabrics.groups.push(has_rdma.then(|| ids.id(grown.fabric)));
            fabrics.is_certain.push(*has_rdma && grown.is_certain);
        }
        for (node, own) in own.into_iter().enumerate() {
            fabrics.nodes.push(own.map(|own| ids.id(reader.of_node(node, own, &grown))));
        }
        fabrics.names = ids.list.iter().map(|identity| name(snapshot, topology, *identity)).collect();
        fabrics
    }

    /// The fabric of new pods of a group; `None`: it has no RDMA.
    pub fn group(&self, group: usize) -> Option<FabricId> {
        self.groups.get(group).copied().flatten()
    }

    /// Whether new pods of a group surely come up in [`Fabrics::group`]: not where its Kubernetes nodes or its nodes are in
    /// several fabrics.
    pub fn is_certain(&self, group: usize) -> bool {
        self.is_certain.get(group).copied().unwrap_or(false)
    }

    /// The fabric of a node; `None`: it has no RDMA.
    pub fn node(&self, node: usize) -> Option<FabricId> {
        self.nodes.get(node).copied().flatten()
    }

    /// A fabric for people: `fabric.topograph.run/tier-1=spine-4`, or `group h100`.
    pub fn name(&self, id: FabricId) -> String {
        self.names.get(id.0 as usize).cloned().unwrap_or_default()
    }

    /// The one fabric of these nodes; `None` if there are none, if they are in several, or if one has no RDMA.
    pub fn of_nodes(&self, nodes: &[usize]) -> Option<FabricId> {
        let first = self.node(*nodes.first()?)?;
        nodes.iter().all(|node| self.node(*node) == Some(first)).then_some(first)
    }

    /// What a gang wants.
    ///
    /// Required if a bundle names an RDMA resource or selects by the label of a fabric, or if it is over several hosts with
    /// accelerators and a group that could hold such a bundle says so; preferred if it is over several such hosts.
    pub fn wish<'b>(
        &self,
        snapshot: &Snapshot,
        topology: &Topology<'_>,
        gang: &'b Gang,
        kinds: impl Iterator<Item = &'b Request> + Clone,
    ) -> Option<FabricWish> {
        if is_on_one_node(gang) {
            return None;
        }
        if kinds.clone().any(|bundle| self.asks_for_fabric(bundle)) {
            return Some(FabricWish::Required);
        }
        let requires = |group: &&NodeType| group.facts.fabric == Some(FabricWish::Required);
        let mut requiring = snapshot.node_types.iter().filter(requires).peekable();
        // Where there is no fabric at all, one can only be missed where it is required.
        if self.names.is_empty() && requiring.peek().is_none() {
            return None;
        }
        let kinds: Vec<&Request> = kinds.filter(|bundle| has_accelerator(&bundle.resources)).collect();
        if kinds.is_empty() || !is_over_several_hosts(snapshot, topology, gang) {
            return None;
        }
        let holds = |group: &NodeType| kinds.iter().any(|bundle| could_hold(group, bundle));
        match requiring.any(holds) {
            true => Some(FabricWish::Required),
            false => Some(FabricWish::Preferred).filter(|_| !self.names.is_empty()),
        }
    }

    fn asks_for_fabric(&self, bundle: &Request) -> bool {
        let names_device =
            bundle.resources.iter().any(|(name, amount)| *amount > Amount::ZERO && is_rdma_resource(name));
        let wanted = bundle.selectors.first().map(|selector| &selector.constraints[..]).unwrap_or_default();
        names_device || wanted.iter().any(|c| c.operator == LabelOperator::In && self.keys.contains(&c.key))
    }
}

#[derive(Default)]
struct Ids {
    list: Vec<Identity>,
    index: BTreeMap<Identity, u32>,
}

impl Ids {
    fn id(&mut self, identity: Identity) -> FabricId {
        FabricId(*self.index.entry(identity).or_insert_with(|| {
            self.list.push(identity);
            u32::try_from(self.list.len() - 1).unwrap_or(u32::MAX)
        }))
    }
}

struct Reader<'a, 's> {
    snapshot: &'a Snapshot,
    topology: &'a Topology<'s>,
    /// Those that are fabrics, from broad to narrow.
    levels: &'a [usize],
    has_rdma: &'a [bool],
}

impl Reader<'_, '_> {
    /// For each node: no RDMA, or the labelled domain that is its fabric, as far as there is one.
    fn domains_of_nodes(&self) -> Vec<Option<Option<DomainId>>> {
        // Equal nodes share their map: each is read once.
        let mut known: Index<*const Resources, bool> = Index::default();
        let mut last: Option<(*const Resources, bool)> = None;
        let mut of_node = Vec::with_capacity(self.snapshot.nodes.len());
        let is_any_group = self.has_rdma.contains(&true);
        for (at, node) in self.snapshot.nodes.iter().enumerate() {
            let of_group = || self.topology.group_of_node(at).and_then(|group| self.has_rdma.get(group));
            let by_group = is_any_group && of_group() == Some(&true);
            let total = Arc::as_ptr(&node.total);
            let has_device = match last {
                Some((same, has_device)) if same == total => has_device,
                _ => *known.entry(total).or_insert_with(|| has_device(&node.total)),
            };
            last = Some((total, has_device));
            let by_itself = !by_group && has_device;
            of_node.push((by_group || by_itself).then(|| self.labelled(|level| self.topology.of_node(level, at))));
        }
        of_node
    }

    fn labelled(&self, domain: impl Fn(usize) -> DomainId) -> Option<DomainId> {
        self.levels.iter().map(|level| domain(*level)).find(|domain| self.topology.is_labelled(*domain))
    }

    /// For each group the fabrics of its nodes; `None` twice or more counts as well.
    fn kin(&self, own: &[Option<Option<DomainId>>]) -> Vec<Kin> {
        let mut kin = vec![Kin::default(); self.has_rdma.len()];
        for (at, own) in own.iter().enumerate() {
            let group = self.topology.group_of_node(at).and_then(|group| kin.get_mut(group));
            let (Some(kin), Some(own)) = (group, own) else { continue };
            match (kin.domain, own) {
                (None, Some(domain)) => kin.domain = Some(*domain),
                (Some(known), Some(domain)) if known != *domain => kin.is_mixed = true,
                _ => {}
            }
            // A node to come says nothing: it is where the group's new pods are.
            kin.is_mixed |= own.is_none() && self.topology.is_placed(at) && !self.levels.is_empty();
        }
        // All unlabelled: the group is one fabric.
        kin.iter_mut().filter(|kin| kin.domain.is_none()).for_each(|kin| kin.is_mixed = false);
        kin
    }

    fn of_group(&self, group: usize, kin: Kin) -> Grown {
        let is_unlabelled = kin.domain.is_none();
        let certain = |domain: DomainId| Grown { fabric: Identity::Domain(domain), is_certain: true, is_unlabelled };
        let mut is_certain = !kin.is_mixed;
        // Without RDMA it is in no fabric, and its room need not be looked for.
        for level in self.levels.iter().filter(|_| self.has_rdma.get(group) == Some(&true)) {
            match self.topology.of_group(*level, group) {
                GroupDomain::Pinned(domain) => return certain(*domain),
                GroupDomain::OneOf(rooms) => match &rooms[..] {
                    [room] if self.topology.is_labelled(room.domain) => return certain(room.domain),
                    rooms => is_certain &= !rooms.iter().any(|room| self.topology.is_labelled(room.domain)),
                },
                GroupDomain::Own => {}
            }
        }
        match kin.domain.filter(|_| is_certain) {
            Some(domain) => certain(domain),
            None => Grown { fabric: Identity::Group(group), is_certain, is_unlabelled },
        }
    }

    fn of_node(&self, node: usize, own: Option<DomainId>, grown: &[Grown]) -> Identity {
        if let Some(domain) = own {
            return Identity::Domain(domain);
        }
        let group = self.topology.group_of_node(node);
        let leaf = || Identity::Domain(self.topology.of_node(self.levels.first().copied().unwrap_or(0), node));
        match group.and_then(|group| Some((group, grown.get(group)?))) {
            Some((_, grown)) if !self.topology.is_placed(node) => grown.fabric,
            Some((group, grown)) if grown.is_unlabelled && grown.fabric == Identity::Group(group) => grown.fabric,
            _ => leaf(),
        }
    }
}

/// Where new pods of a group are.
struct Grown {
    fabric: Identity,
    is_certain: bool,
    /// None of its nodes has a label.
    is_unlabelled: bool,
}

/// What the nodes of a group say of its fabric.
#[derive(Copy, Clone, Debug, Default)]
struct Kin {
    /// The first one that has a label.
    domain: Option<DomainId>,
    /// Not all nodes agree.
    is_mixed: bool,
}

fn name(snapshot: &Snapshot, topology: &Topology<'_>, identity: Identity) -> String {
    match identity {
        Identity::Domain(domain) => {
            topology.label_value(domain).unwrap_or_else(|| "a node without fabric label".to_owned())
        }
        Identity::Group(group) => {
            format!("group {}", snapshot.node_types.get(group).map_or("", |group| group.name.as_str()))
        }
    }
}

fn group_has_rdma(group: &NodeType) -> bool {
    has_device(&group.facts.extended_resources) || has_device(&group.resources)
}

fn has_device(resources: &Resources) -> bool {
    resources.iter().any(|(name, amount)| *amount > Amount::ZERO && is_rdma_resource(name))
}

fn amount(resources: &Resources, name: &str) -> Amount {
    resources.get(name).copied().unwrap_or_default()
}

/// Whether there are accelerators whose hosts talk to each other by RDMA.
pub(crate) fn has_accelerator(resources: &Resources) -> bool {
    ACCELERATORS.iter().any(|name| amount(resources, name) > Amount::ZERO)
}

/// Whether bundles with accelerators can't all be on one host: several are wanted by name, or the largest is too small.
fn is_over_several_hosts(snapshot: &Snapshot, topology: &Topology<'_>, gang: &Gang) -> bool {
    let bundles: Vec<&Request> = gang.bundles.iter().filter(|bundle| has_accelerator(&bundle.resources)).collect();
    // The others are where they were.
    if !topology.holders(gang).is_empty() || gang.rescheduling {
        return true;
    }
    if bundles.len() < 2 || gang.strategy == GangStrategy::StrictSpread {
        return bundles.len() >= 2;
    }
    ACCELERATORS.iter().any(|name| {
        let sum = bundles.iter().fold(0_i64, |sum, b| sum.saturating_add(amount(&b.resources, name).steps()));
        let groups = snapshot.node_types.iter().filter(|group| bundles.iter().any(|b| could_hold(group, b)));
        let most = groups.map(|group| amount(&group.resources, name).steps()).max().unwrap_or(0);
        sum > most && sum > 0
    })
}

/// Whether one empty node of the group could hold the request.
pub(super) fn could_hold(group: &NodeType, request: &Request) -> bool {
    let has = |(name, wanted): (&String, &Amount)| amount(&group.resources, name) >= *wanted;
    let matches = |selector: &LabelSelector| {
        selector.constraints.iter().all(|constraint| {
            let label = group.facts.expected_labels.get(&constraint.key).or_else(|| group.labels.get(&constraint.key));
            match constraint.operator {
                LabelOperator::In => label.is_some_and(|value| constraint.values.contains(value)),
                LabelOperator::NotIn => label.is_none_or(|value| !constraint.values.contains(value)),
                LabelOperator::Unknown => false,
            }
        })
    };
    request.resources.iter().all(has) && (request.selectors.is_empty() || request.selectors.iter().any(matches))
}
