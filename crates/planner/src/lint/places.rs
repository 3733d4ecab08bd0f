//! Where a plan puts served demand: every place exists, is wide enough, and has the labels that are asked for.

use std::collections::BTreeMap;

use super::{Check, pods};
use crate::census::{Census, census};
use crate::quick_hash::Index;
use crate::{
    Amount, DemandRef, LabelConstraint, LabelOperator, Node, NodePhase, NodeType, Placement, PlacementConstraint,
    Request, Resources, Target, UnmetKind,
};

/// Resources that every node has one of, although none lists them.
const IMPLICIT: &str = "node:__internal_implicit_resource_";

/// A placement of which everything that it refers to exists.
#[derive(Copy, Clone)]
pub(super) struct Place<'a> {
    /// Number of the target.
    site: u32,
    pub target: Target,
    pub demand: DemandRef,
    pub request: &'a Request,
    pub count: u64,
}

/// What one piece of demand takes, by number of the resource.
type Takes = Vec<(usize, i128)>;

/// What there is room for.
struct Rooms<'a> {
    /// Names of the resources.
    named: &'a [&'a str],
    /// By how much nodes grow in place.
    growth: BTreeMap<(u32, &'static str), i128>,
    /// What lists of resources hold, by number of the resource: nodes that are alike share them.
    known: Index<(*const Resources, usize), i128>,
}

impl<'a> Rooms<'a> {
    /// How much of a resource is listed, in steps.
    fn of(&mut self, has: &'a Resources, resource: usize) -> i128 {
        let name = self.named[resource];
        let unlisted = || if name.starts_with(IMPLICIT) { Amount::from_units(1) } else { Amount::ZERO };
        let steps = || i128::from(has.get(name).copied().unwrap_or_else(unlisted).steps());
        *self.known.entry((std::ptr::from_ref(has), resource)).or_insert_with(steps)
    }
}

/// Those of one site stand together, in their order.
fn by_site<'a>(places: &[Place<'a>], sites: usize) -> Vec<Place<'a>> {
    let mut next = vec![0; sites];
    for place in places {
        next[place.site as usize] += 1;
    }
    let mut before = 0;
    for count in &mut next {
        before += std::mem::replace(count, before);
    }
    let mut sorted = places.to_vec();
    for place in places {
        let at = &mut next[place.site as usize];
        sorted[*at] = *place;
        *at += 1;
    }
    sorted
}

impl<'a> Check<'a> {
    /// The placements that refer to something; those at one target stand together.
    pub(super) fn places(&mut self) -> Vec<Place<'a>> {
        let launched = self.launched_replicas();
        let plan = self.plan;
        let mut places = Vec::with_capacity(plan.placements.len());
        // Targets in the order in which they are met, and what is wrong with each.
        let mut sites: Index<Target, (u32, Option<&'static str>)> = Index::default();
        sites.reserve(plan.placements.len().min(self.snapshot.nodes.len()));
        for placement in &plan.placements {
            let next = sites.len() as u32;
            let find = || (next, self.target_fault(placement.target, &launched));
            let (site, fault) = *sites.entry(placement.target).or_insert_with(find);
            match (self.request(placement), fault) {
                (_, Some(fault)) => self.error("placement-target", format!("{placement:?}: {fault}")),
                (None, _) => {
                    self.error("placement-demand", format!("{placement:?} is of nothing that was asked for"));
                }
                (Some(request), None) => {
                    let Placement { target, demand, count } = *placement;
                    places.push(Place { site, target, demand, request, count });
                }
            }
        }
        by_site(&places, sites.len())
    }

    /// Replicas of each node type that are new: launched, or made anew in place of those that end.
    fn launched_replicas(&self) -> Vec<u32> {
        let ends = |at: usize| self.ended.contains(&*self.snapshot.nodes[at].instance_id);
        let census = census(self.snapshot, &self.roster, ends);
        let mut by_name: BTreeMap<&str, u32> = BTreeMap::new();
        for launch in &self.plan.launch {
            let replicas = by_name.entry(&launch.group).or_default();
            *replicas = replicas.saturating_add(launch.replicas);
        }
        let of = |(group, pods): (&NodeType, &Census<'_>)| {
            if group.is_head {
                return 0;
            }
            let kept = pods.kept.replicas(group);
            let anew = self.plan.groups.get(&group.name).map_or(0, |plan| plan.desired.saturating_sub(kept));
            anew.max(by_name.get(group.name.as_str()).copied().unwrap_or(0))
        };
        self.snapshot.node_types.iter().zip(&census).map(of).collect()
    }

    /// What a placement is of: equal bundles, if it is of several.
    fn request(&self, placement: &Placement) -> Option<&'a Request> {
        let count = usize::try_from(placement.count).ok().filter(|count| *count > 0)?;
        match placement.demand {
            DemandRef::Class(class) => Some(&self.snapshot.demand.get(class as usize)?.request),
            DemandRef::Gang { gang, first_bundle } => {
                let first = first_bundle as usize;
                let bundles = &self.snapshot.gangs.get(gang as usize)?.bundles;
                let bundles = bundles.get(first..first.checked_add(count)?)?;
                let first = bundles.first()?;
                bundles.iter().all(|bundle| bundle == first).then_some(first)
            }
        }
    }

    /// Why nothing can be placed there; `None`: it can.
    fn target_fault(&self, target: Target, launched: &[u32]) -> Option<&'static str> {
        match target {
            Target::Node(at) => {
                let Some(node) = self.snapshot.nodes.get(at as usize) else {
                    return Some("there is no such node");
                };
                let suspended = self.group_of_node(at).is_some_and(|group| group.suspended);
                let host = node.host.as_deref().and_then(|name| self.host(name));
                if matches!(node.phase, NodePhase::Leaving | NodePhase::Stopped) {
                    Some("the node is leaving or has stopped")
                } else if host.is_some_and(|host| host.unfit.is_some()) {
                    Some("its Kubernetes node is unfit")
                } else if suspended {
                    Some("its group is suspended")
                } else if !node.instance_id.is_empty() && self.ended.contains(&*node.instance_id) {
                    Some("the plan ends the node")
                } else {
                    None
                }
            }
            Target::New { group, replica, host } => {
                let (Some(of), Some(replicas)) =
                    (self.snapshot.node_types.get(group as usize), launched.get(group as usize))
                else {
                    return Some("there is no such group");
                };
                (replica >= *replicas || host >= of.num_of_hosts.max(1)).then_some("the plan does not launch that host")
            }
        }
    }

    /// No node is given more than it has, and nothing goes where its labels do not let it.
    pub(super) fn rooms(&mut self, places: &[Place<'a>]) {
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        // Equal requests mostly share their resources: what they take is looked up once.
        let mut known: Index<*const Resources, Takes> = Index::default();
        for place in places {
            known.entry(&raw const *place.request.resources).or_insert_with(|| {
                let amounts = place.request.resources.iter().filter(|(_, amount)| amount.steps() > 0);
                let numbered = amounts.map(|(name, amount)| {
                    let next = names.len();
                    (*names.entry(name).or_insert(next), i128::from(amount.steps()))
                });
                numbered.collect()
            });
        }
        let mut named = vec![""; names.len()];
        for (name, at) in names {
            named[at] = name;
        }
        let mut used = vec![0_i128; named.len()];
        let mut rooms = Rooms { named: &named, growth: self.growth(), known: Index::default() };
        for here in places.chunk_by(|a, b| a.site == b.site) {
            let mut touched: Vec<usize> = Vec::new();
            for place in here {
                for (resource, steps) in known.get(&(&raw const *place.request.resources)).into_iter().flatten() {
                    if used[*resource] == 0 {
                        touched.push(*resource);
                    }
                    used[*resource] = used[*resource].saturating_add(steps.saturating_mul(place.count.into()));
                }
                self.labels(place);
            }
            for resource in touched {
                let taken = std::mem::take(&mut used[resource]);
                let room = self.room(here[0].target, resource, &mut rooms);
                if taken > room {
                    let name = named[resource];
                    let (what, steps) = (self.target_name(here[0].target), Amount::STEPS_PER_UNIT);
                    let text = format!("{what} is given {taken} of {name}, but has {room} (in 1/{steps})");
                    self.error("placement-capacity", text);
                }
            }
        }
    }

    /// What is free of a resource where something is placed, in steps.
    fn room(&self, target: Target, resource: usize, rooms: &mut Rooms<'a>) -> i128 {
        let name = rooms.named[resource];
        match target {
            Target::Node(at) => {
                let node = self.snapshot.nodes.get(at as usize);
                let has = node
                    .map_or(0, |node| rooms.of(if is_coming(node) { &node.total } else { &node.available }, resource));
                has + rooms.growth.get(&(at, name)).copied().unwrap_or(0)
            }
            Target::New { group, .. } => {
                let group = self.snapshot.node_types.get(group as usize);
                group.map_or(0, |group| rooms.of(&group.resources, resource).max(resizable(group, name)))
            }
        }
    }

    /// By how much nodes grow in place: what is under way, or what the plan asks for.
    fn growth(&self) -> BTreeMap<(u32, &'static str), i128> {
        let asked: BTreeMap<&str, _> = self.plan.resize.iter().map(|to| (to.instance_id.as_str(), to)).collect();
        let mut growth = BTreeMap::new();
        for (at, node) in (0_u32..).zip(&self.snapshot.nodes) {
            // A pod on its way can be resized once it runs.
            let group = self.snapshot.node_types.get(self.roster[at as usize].group()).filter(|_| is_coming(node));
            if let Some(group) = group.filter(|group| group.resize.is_some()) {
                for name in ["CPU", "memory"] {
                    let has = node.total.get(name).map_or(0, |amount| i128::from(amount.steps()));
                    growth.insert((at, name), (resizable(group, name) - has).max(0));
                }
                continue;
            }
            let Some(pod) = &node.resize else { continue };
            let to = asked.get(&*node.instance_id);
            let under_way = (pod.desired_cpu, pod.desired_memory);
            let under_way = if pod.in_progress { under_way } else { (None, None) };
            let cpu = to.map(|to| to.cpu).or(under_way.0).unwrap_or(pod.current_cpu);
            let memory = to.map(|to| to.memory).or(under_way.1).unwrap_or(pod.current_memory);
            let more = |to: Amount, from: Amount| i128::from(to.steps()) - i128::from(from.steps());
            growth.insert((at, "CPU"), more(cpu, pod.current_cpu));
            growth.insert((at, "memory"), more(memory, pod.current_memory));
        }
        growth
    }

    fn labels(&mut self, place: &Place<'a>) {
        let selectors = &place.request.selectors;
        let matches = |constraint: &LabelConstraint| satisfied(constraint, self.label(place.target, &constraint.key));
        if !selectors.is_empty() && !selectors.iter().any(|selector| selector.constraints.iter().all(matches)) {
            let text = format!("{} has no labels that {:?} asks for", self.target_name(place.target), place.demand);
            self.error("placement-labels", text);
        }
        for constraint in &place.request.placement {
            if let PlacementConstraint::AntiAffinity { label, value } = constraint
                && self.label(place.target, label) == Some(value)
            {
                let text = format!("{} has {label} already, which is to be spread", self.target_name(place.target));
                self.error("placement-spread", text);
            }
        }
    }

    /// Whether it is not known yet which labels there will be.
    pub(super) fn is_coming(&self, target: Target) -> bool {
        match target {
            Target::Node(at) => self.snapshot.nodes.get(at as usize).is_some_and(is_coming),
            Target::New { .. } => true,
        }
    }

    /// The value of a label where something is placed, as far as it is known before it is there.
    pub(super) fn label(&self, target: Target, key: &str) -> Option<&'a str> {
        let of_group = |group: &'a NodeType| group.labels.get(key).or_else(|| group.facts.expected_labels.get(key));
        let value = match target {
            Target::Node(at) => {
                let node = self.snapshot.nodes.get(at as usize)?;
                let expected = || of_group(self.group_of_node(at)?);
                let own = node.dynamic_labels.get(key).or_else(|| node.labels.get(key));
                if is_coming(node) { own.or_else(expected) } else { own }
            }
            Target::New { group, .. } => of_group(self.snapshot.node_types.get(group as usize)?),
        };
        value.map(String::as_str)
    }

    /// A place, for people.
    pub(super) fn target_name(&self, target: Target) -> String {
        match target {
            Target::Node(at) => match self.snapshot.nodes.get(at as usize) {
                Some(node) if node.instance_id.is_empty() => {
                    format!("node {}", node.ray_node_id.as_deref().unwrap_or("?"))
                }
                Some(node) => format!("node {}", node.instance_id),
                None => format!("node number {at}"),
            },
            Target::New { group, replica, host } => {
                let name = self.snapshot.node_types.get(group as usize).map_or("?", |group| &group.name);
                format!("host {host} of new replica {replica} of {name}")
            }
        }
    }

    /// All that was asked for is served or unmet, and no more than that.
    pub(super) fn served(&mut self, places: &[Place<'a>]) {
        let mut placed = vec![0_u128; self.snapshot.demand.len()];
        for place in places {
            if let DemandRef::Class(class) = place.demand {
                placed[class as usize] += u128::from(place.count);
            }
        }
        let mut accounts: BTreeMap<&Request, (u128, u128)> = BTreeMap::new();
        for (class, placed) in self.snapshot.demand.iter().zip(placed) {
            let (asked, settled) = accounts.entry(&class.request).or_default();
            *asked += u128::from(class.count);
            *settled += placed;
        }
        for unmet in &self.plan.unmet {
            if let UnmetKind::Task(request) = &unmet.kind
                && let Some((_, settled)) = accounts.get_mut(request)
            {
                *settled += u128::from(unmet.count);
            }
        }
        for (request, (asked, settled)) in accounts {
            if asked != settled {
                let text = format!("{settled} of {asked} are placed or unmet: {:?}", request.resources);
                self.error("served-or-unmet", text);
            }
        }
    }

    /// What is launched fits into the quotas.
    pub(super) fn quotas(&mut self) {
        let snapshot = self.snapshot;
        for quota in &snapshot.quotas {
            let applies = |name: &String| quota.groups.is_empty() || quota.groups.contains(name);
            for (name, free) in &quota.free {
                let mut launched = 0_i128;
                for launch in self.plan.launch.iter().filter(|launch| applies(&launch.group)) {
                    let Some(group) = self.groups.get(launch.group.as_str()).copied() else { continue };
                    let pod = match name.as_str() {
                        "pods" => Amount::from_units(1),
                        name => group.facts.pod_requests.get(name).copied().unwrap_or_default(),
                    };
                    let pods = pods(group, launch.replicas) as i128;
                    launched = launched.saturating_add(i128::from(pod.steps()).saturating_mul(pods));
                }
                let free = i128::from(free.steps()).max(0);
                if launched > free {
                    let (source, per) = (&quota.source, Amount::STEPS_PER_UNIT);
                    let text = format!("{source} has {free} of {name} left, {launched} is launched (in 1/{per})");
                    self.error("quota", text);
                }
            }
        }
    }
}

/// Whether a node is on its way: all of it will be free.
pub(super) fn is_coming(node: &Node) -> bool {
    matches!(node.phase, NodePhase::Pending | NodePhase::Requested)
}

pub(super) fn satisfied(constraint: &LabelConstraint, value: Option<&str>) -> bool {
    let listed = value.is_some_and(|value| constraint.values.iter().any(|other| other == value));
    match constraint.operator {
        LabelOperator::In => listed,
        LabelOperator::NotIn => !listed,
        LabelOperator::Unknown => false,
    }
}

/// What a pod of the group can be resized to, in 1/10,000 units; 0 where that is not allowed.
fn resizable(group: &NodeType, name: &str) -> i128 {
    let bounds = group.resize.unwrap_or_default();
    match name {
        "CPU" => i128::from(bounds.max_cpu.steps()),
        "memory" => i128::from(bounds.max_memory.steps()),
        _ => 0,
    }
}
