//! The snapshot in dense numbers: resources are columns, requests are shapes, nodes are hosts.
//!
//! Amounts are exact integers. Each column is divided by the greatest common divisor of what is asked for; capacities are
//! rounded down, which loses nothing, because no sum of requests lies between.

use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use super::asked::Asked;
use super::hosts::Hosts;
use super::resize::Headroom;
use super::stocks::{State, StockId, Stocks, Traits};
use crate::quick_hash::Index;
use crate::roster::{Row, address};
use crate::{
    Amount, LabelConstraint, LabelSelector, Labels, Node, NodePhase, NodeType, Request, Resources, Snapshot, Target,
    words,
};

/// Names with this prefix are resources of which a node that does not list them has 1.
const IMPLICIT_PREFIX: &str = "node:__internal_implicit_resource_";
/// Resources that every node has: work that asks for nothing else is kept off nodes that have more.
const COMMON: [&str; 4] = ["CPU", "memory", "object_store_memory", "node:__internal_head__"];

/// Number of a resource that some request names, in name order.
pub(super) type Column = u16;
/// Number of a distinct request.
pub(super) type ShapeId = u32;
/// Number of a host: first the nodes of the snapshot that count, then what the plan launches.
pub(super) type HostId = u32;

/// What distinguishes one request from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// Positive amounts in column order.
    pub needs: Vec<(Column, i64)>,
    /// Selectors that must all be satisfied (more than one only for bundles that share a host).
    pub selectors: Vec<u32>,
    /// Asks for something that not every node has.
    pub is_scarce: bool,
}

/// Where a host comes from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Index into the snapshot's nodes.
    Node(u32),
    /// Launched by the plan: which replica of its group, which host of it.
    New {
        /// Counted from 0 for each group.
        replica: u32,
        /// Which host of the replica.
        host: u32,
    },
}

impl Origin {
    /// What the host is in a plan; a launched one is of this replica of its group.
    pub fn target(self, group: u32, replica: u32) -> Target {
        match self {
            Origin::Node(node) => Target::Node(node),
            Origin::New { host, .. } => Target::New { group, replica, host },
        }
    }
}

/// What a host is kept for, as bits.
pub(super) mod need {
    /// Tasks or actors.
    pub const TASKS: u8 = 1;
    /// A gang.
    pub const GANG: u8 = 2;
    /// `request_resources`.
    pub const CONSTRAINT: u8 = 4;
    /// A gang that waits for running work to end; nothing is put there for it yet.
    pub const HELD: u8 = 8;
}

/// The values of the labels that requests ask for, in the order of [`World::keys`]: hosts that differ in others are alike.
type Kind<'a> = Vec<Option<&'a str>>;

/// What one more pod of a group would be.
#[derive(Clone, Debug)]
pub(super) struct Group<'a> {
    /// As observed.
    pub spec: &'a NodeType,
    /// By column: what one host has.
    pub total: Vec<i64>,
    /// Its labels.
    pub kind: u32,
    /// Hosts in a replica.
    pub hosts: u32,
    /// It has scarce resources.
    pub is_scarce: bool,
    /// The first group whose hosts hold the same.
    pub like: usize,
    /// Replicas that the plan launches so far.
    pub launched: u32,
}

/// The snapshot in dense numbers.
#[derive(Clone, Debug)]
pub(super) struct World<'a> {
    pub snapshot: &'a Snapshot,
    /// Names of the columns.
    pub resources: Arc<Vec<&'a str>>,
    /// By column: how many 1/10,000 units one step is.
    pub steps: Arc<Vec<i64>>,
    /// By column: whether not every node has it.
    scarce: Arc<Vec<bool>>,
    /// Label keys that requests ask for, sorted.
    keys: Arc<Vec<&'a str>>,
    // Boards are copied for trials, what was read is shared by all of them.
    pub shapes: Arc<Vec<Shape>>,
    shape_ids: Arc<Index<Shape, ShapeId>>,
    selectors: Arc<Vec<&'a [LabelSelector]>>,
    selector_ids: Arc<BTreeMap<&'a [LabelSelector], u32>>,
    /// By selector, then by kind: position of the first alternative that matches; `u8::MAX` for none.
    ranks: Arc<Vec<Vec<u8>>>,
    kinds: Arc<Vec<Kind<'a>>>,
    pub groups: Vec<Group<'a>>,
    pub hosts: Hosts,
    /// Hosts below this number are nodes of the snapshot.
    pub present: usize,
    /// By present host: what it was before anything was put there.
    pub first_stock: Arc<Vec<StockId>>,
    /// Hosts that could grow in place.
    pub headroom: Headroom,
    /// Hosts that are to grow in place: that much is free of them already.
    pub grown: Headroom,
}

impl<'a> World<'a> {
    /// Reads the snapshot; nodes for which `counts` says no are left out.
    pub fn new(snapshot: &'a Snapshot, asked: &Asked<'a>, roster: &[Row], counts: impl Fn(usize, Row) -> bool) -> Self {
        let Asked { resources, steps, keys, .. } = asked;
        let mut world = World {
            snapshot,
            hosts: Hosts { stocks: Stocks::new(resources.len()), ..Hosts::default() },
            resources: resources.clone().into(),
            steps: steps.clone().into(),
            scarce: Arc::new(resources.iter().map(|name| is_scarce(name)).collect()),
            keys: keys.clone().into(),
            shapes: Arc::default(),
            shape_ids: Arc::default(),
            selectors: vec![&[][..]].into(),
            selector_ids: BTreeMap::from([(&[][..], 0)]).into(),
            ranks: vec![Vec::new()].into(),
            kinds: Arc::default(),
            groups: Vec::new(),
            present: 0,
            first_stock: Arc::default(),
            headroom: Headroom::new(),
            grown: Headroom::new(),
        };
        let mut kinds = Kinds::default();
        for spec in &snapshot.node_types {
            let mut total = world.amounts(&spec.resources);
            if let Some(bounds) = spec.resize {
                // A pod that is launched can be resized once it runs.
                let most = world.columns(bounds.max_cpu, bounds.max_memory);
                most.into_iter().for_each(|(column, most)| raise(&mut total, column, most));
            }
            let kind = world.kind(&spec.labels, &spec.facts.expected_labels, &mut kinds);
            let (hosts, is_scarce) = (spec.num_of_hosts.max(1), is_scarce_host(&spec.resources));
            let is_like = |other: &Group<'_>| other.kind == kind && other.total == total;
            let like = world.groups.iter().position(is_like).unwrap_or(world.groups.len());
            world.groups.push(Group { spec, total, kind, hosts, is_scarce, like, launched: 0 });
        }
        world.read_nodes(roster, counts, &mut kinds);
        world.present = world.hosts.len();
        world.first_stock = world.hosts.stock.clone().into();
        world
    }

    fn read_nodes(&mut self, roster: &[Row], counts: impl Fn(usize, Row) -> bool, kinds: &mut Kinds<'a>) {
        let snapshot = self.snapshot;
        // Equal nodes share their maps: each is read once.
        let mut scarce: Index<*const Resources, bool> = Index::default();
        let mut known = Lately::default();
        let mut free = Vec::new();
        let mut read: Vec<(StockId, u32)> = Vec::with_capacity(roster.len());
        // Nodes that follow one another are mostly alike, but for what is free of them.
        let mut last: Option<(u32, bool)> = None;
        for (at, row) in (0_u32..).zip(roster) {
            last = last.filter(|_| row.is_like_before);
            let place = at as usize;
            if !counts(place, *row) {
                continue;
            }
            let (kind, is_scarce) = *last.get_or_insert_with(|| {
                let node = &snapshot.nodes[place];
                let is_scarce = *scarce.entry(Arc::as_ptr(&node.total)).or_insert_with(|| is_scarce_host(&node.total));
                (self.kind(&node.labels, &node.dynamic_labels, kinds), is_scarce)
            });
            let traits = Traits { kind, is_scarce, state: state(*row) };
            debug_assert_eq!(row.free, address(&snapshot.nodes[place]), "the roster is of another snapshot");
            let stock = known.get_or_read((row.free, traits.bits()), || {
                self.read_amounts(&snapshot.nodes[place].available, &mut free);
                self.hosts.stocks.intern(&free, traits)
            });
            read.push((stock, at));
        }
        self.push_nodes(roster, &read);
    }

    /// Makes hosts of nodes. Those that are alike follow one another: what is decided of them is mostly the same.
    fn push_nodes(&mut self, roster: &[Row], read: &[(StockId, u32)]) {
        let hosts = &mut self.hosts;
        // By stock: where its next host goes.
        let mut next = vec![0_usize; hosts.stocks.len() + 1];
        read.iter().for_each(|(stock, _)| next[*stock as usize + 1] += 1);
        (1..next.len()).for_each(|stock| next[stock] += next[stock - 1]);
        let len = read.len();
        (hosts.stock, hosts.group) = (vec![0; len], vec![u32::MAX; len]);
        (hosts.origin, hosts.needed, hosts.is_given_up) = (vec![Origin::Node(0); len], vec![0; len], vec![false; len]);
        for (stock, at) in read {
            let next = &mut next[*stock as usize];
            let row = roster[*at as usize];
            if row.group() < self.groups.len() {
                hosts.group[*next] = row.group;
            }
            (hosts.stock[*next], hosts.origin[*next]) = (*stock, Origin::Node(*at));
            *next += 1;
        }
        if self.groups.iter().any(|group| group.spec.resize.is_some()) {
            self.note_growth_of_all();
        }
    }

    fn note_growth_of_all(&mut self) {
        for host in 0..self.hosts.len() as HostId {
            let group = self.groups.get(self.hosts.group[host as usize] as usize).map(|group| group.spec);
            if let (Some(spec), Some(node)) = (group.filter(|spec| spec.resize.is_some()), self.node(host)) {
                self.note_growth(host, spec, node, &node.available);
            }
        }
    }

    /// The node of the snapshot that a host is.
    pub fn node(&self, host: HostId) -> Option<&'a Node> {
        match self.hosts.origin.get(host as usize)? {
            Origin::Node(at) => self.snapshot.nodes.get(*at as usize),
            Origin::New { .. } => None,
        }
    }

    /// Whether what is said of one of two hosts, but for what is free of it, holds for the other: they may be in one range.
    pub fn are_one_kind(&self, a: HostId, b: HostId) -> bool {
        let is_new = |host: HostId| host as usize >= self.present;
        let group = |host: HostId| self.hosts.group[host as usize];
        let stock = |host: HostId| self.hosts.stock[host as usize];
        let are_alike = || stock(a) == stock(b) || self.hosts.traits(a) == self.hosts.traits(b);
        is_new(a) == is_new(b) && group(a) == group(b) && are_alike()
    }

    /// Whether Ray does not run on a host yet.
    pub fn is_coming(&self, host: HostId) -> bool {
        self.node(host).is_none_or(|node| node.phase != NodePhase::Running)
    }

    /// By column: so much there is, rounded down to whole steps.
    pub fn amounts(&self, resources: &Resources) -> Vec<i64> {
        let mut amounts = Vec::with_capacity(self.resources.len());
        self.read_amounts(resources, &mut amounts);
        amounts
    }

    fn read_amounts(&self, resources: &Resources, into: &mut Vec<i64>) {
        // Both are in name order.
        let mut listed = resources.iter().peekable();
        into.clear();
        for (name, step) in self.resources.iter().zip(&*self.steps) {
            while listed.next_if(|(other, _)| other.as_str() < *name).is_some() {}
            let has = listed.next_if(|(other, _)| other.as_str() == *name);
            let has = has.map_or_else(|| unlisted(name), |(_, amount)| *amount);
            into.push(has.steps().max(0) / step);
        }
    }

    /// In units, as people say it.
    pub fn units(&self, column: Column, amount: i64) -> f64 {
        let step = self.steps.get(usize::from(column)).copied().unwrap_or(1);
        Amount::from_steps(amount.saturating_mul(step)).as_f64()
    }

    /// The number of a request.
    pub fn shape(&mut self, request: &'a Request) -> ShapeId {
        let selectors = match self.selector(&request.selectors) {
            0 => Vec::new(),
            selector => vec![selector],
        };
        let needs = self.needs(&request.resources);
        self.intern(needs, selectors)
    }

    /// The number of what several requests ask for together, on one host.
    pub fn shape_of_all(&mut self, requests: &[&'a [Request]]) -> ShapeId {
        let mut sums: Vec<(Column, i64)> = Vec::with_capacity(4);
        let mut selectors: Vec<u32> = Vec::new();
        for alike in requests {
            let count = i64::try_from(alike.len()).unwrap_or(i64::MAX);
            for (column, amount) in self.needs(&alike[0].resources) {
                let amount = amount.saturating_mul(count);
                match sums.iter_mut().find(|(other, _)| *other == column) {
                    Some((_, sum)) => *sum = sum.saturating_add(amount),
                    None => sums.push((column, amount)),
                }
            }
            // Number 0 asks for nothing.
            selectors.extend(Some(self.selector(&alike[0].selectors)).filter(|selector| *selector != 0));
        }
        sums.sort_unstable();
        selectors.sort_unstable();
        selectors.dedup();
        self.intern(sums, selectors)
    }

    fn intern(&mut self, needs: Vec<(Column, i64)>, selectors: Vec<u32>) -> ShapeId {
        let is_scarce = needs.iter().any(|(column, _)| self.scarce.get(usize::from(*column)) == Some(&true));
        let shape = Shape { needs, selectors, is_scarce };
        if let Some(id) = self.shape_ids.get(&shape) {
            return *id;
        }
        let id = self.shapes.len() as ShapeId;
        Arc::make_mut(&mut self.shapes).push(shape.clone());
        Arc::make_mut(&mut self.shape_ids).insert(shape, id);
        id
    }

    fn needs(&self, resources: &Resources) -> Vec<(Column, i64)> {
        let positive = resources.iter().filter(|(_, amount)| **amount > Amount::ZERO);
        let needs = positive.map(|(name, amount)| match self.resources.binary_search(&name.as_str()) {
            Ok(column) => (column as Column, amount.steps() / self.steps[column]),
            // A name beyond the table: more than any host has.
            Err(_) => (0, i64::MAX),
        });
        needs.collect()
    }

    fn selector(&mut self, alternatives: &'a [LabelSelector]) -> u32 {
        if alternatives.first().is_none_or(|first| first.constraints.is_empty()) {
            return 0;
        }
        if let Some(id) = self.selector_ids.get(alternatives) {
            return *id;
        }
        let id = self.selectors.len() as u32;
        let ranks = self.kinds.iter().map(|kind| rank(alternatives, &self.keys, kind)).collect();
        Arc::make_mut(&mut self.selectors).push(alternatives);
        Arc::make_mut(&mut self.selector_ids).insert(alternatives, id);
        Arc::make_mut(&mut self.ranks).push(ranks);
        id
    }

    /// The number of what two maps of labels say, the first before the second.
    fn kind(&mut self, first: &'a Labels, second: &'a Labels, kinds: &mut Kinds<'a>) -> u32 {
        let address = |labels: &Labels| match labels.is_empty() || self.keys.is_empty() {
            true => ptr::null(),
            false => ptr::from_ref(labels),
        };
        let key = (address(first), address(second));
        if let Some(kind) = kinds.by_address.get(&key) {
            return *kind;
        }
        let kind: Kind<'a> =
            self.keys.iter().map(|key| first.get(*key).or_else(|| second.get(*key)).map(String::as_str)).collect();
        let next = self.kinds.len() as u32;
        let number = *kinds.by_values.entry(kind.clone()).or_insert(next);
        if number == next {
            for (alternatives, ranks) in self.selectors.iter().zip(Arc::make_mut(&mut self.ranks)).skip(1) {
                ranks.push(rank(alternatives, &self.keys, &kind));
            }
            Arc::make_mut(&mut self.kinds).push(kind);
        }
        kinds.by_address.insert(key, number);
        number
    }

    /// How far down its list of alternatives a shape must go for labels of this kind; `None`: no alternative matches.
    pub fn rank(&self, shape: &Shape, kind: u32) -> Option<u8> {
        if shape.selectors.is_empty() {
            return Some(0);
        }
        let ranks = shape.selectors.iter().map(|selector| self.ranks[*selector as usize][kind as usize]);
        let worst = ranks.max().unwrap_or(0);
        (worst < u8::MAX).then_some(worst)
    }

    /// Whether labels, looked up by key, satisfy a shape.
    pub fn matches<'l>(&self, shape: &Shape, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        let alternatives = |selector: &u32| self.selectors[*selector as usize];
        shape.selectors.iter().all(|selector| alternatives(selector).iter().any(|one| one.is_met_by(&label)))
    }

    /// What a group lacks of the labels that a shape asks for in the first place, for people.
    pub fn lacked_labels_text(&self, shape: &Shape, group: &NodeType) -> String {
        let label = |key: &str| {
            let expected = group.facts.expected_labels.get(key);
            group.labels.get(key).or(expected).map(String::as_str)
        };
        let lacked = |first: &LabelSelector| {
            let is_met = |constraint: &LabelConstraint| constraint.is_met_by(label(&constraint.key));
            let constraints: Vec<_> =
                first.constraints.iter().filter(|constraint| !is_met(constraint)).cloned().collect();
            (!constraints.is_empty()).then(|| words::selector(&LabelSelector { constraints }))
        };
        let alternatives = shape.selectors.iter().map(|selector| self.selectors[*selector as usize]);
        let unmet = alternatives.filter(|alternatives| !alternatives.iter().any(|one| one.is_met_by(label)));
        let text = |alternatives: &[LabelSelector]| {
            let lacked = lacked(alternatives.first()?)?;
            Some(if alternatives.len() > 1 { format!("{lacked} nor one of the fall-backs") } else { lacked })
        };
        unmet.filter_map(text).collect::<Vec<_>>().join(" and ")
    }

    /// Makes hosts empty: all that they have is free, and what they grow or could grow by comes to that.
    pub fn empty_hosts(&mut self, hosts: Range<usize>) {
        // Equal nodes share their maps: each is read once.
        let mut last: Option<(*const Resources, Traits, StockId)> = None;
        for host in hosts {
            let traits = self.hosts.traits(host as HostId);
            let stock = match self.hosts.origin[host] {
                Origin::Node(at) => {
                    let total = &self.snapshot.nodes[at as usize].total;
                    match last {
                        Some((same, alike, stock)) if same == Arc::as_ptr(total) && alike == traits => stock,
                        _ => {
                            let free = self.amounts(total);
                            let stock = self.hosts.stocks.intern(&free, traits);
                            last = Some((Arc::as_ptr(total), traits, stock));
                            stock
                        }
                    }
                }
                Origin::New { .. } => {
                    let total = &self.groups[self.hosts.group[host] as usize].total;
                    self.hosts.stocks.intern(total, traits)
                }
            };
            self.hosts.stock[host] = stock;
            self.hosts.needed[host] = 0;
            self.grow_again(host as HostId);
        }
    }

    /// Most alternatives that a shape lists.
    pub fn alternatives(&self, shape: &Shape) -> u8 {
        let most = shape.selectors.iter().map(|selector| self.selectors[*selector as usize].len()).max().unwrap_or(1);
        most.min(usize::from(u8::MAX - 1)) as u8
    }

    /// The value of a label of a host.
    pub fn label(&self, host: HostId, key: &str) -> Option<&'a str> {
        let (first, second) = match self.node(host) {
            Some(node) => (&*node.labels, &*node.dynamic_labels),
            None => {
                let spec = self.groups.get(self.hosts.group[host as usize] as usize)?.spec;
                (&*spec.labels, &spec.facts.expected_labels)
            }
        };
        first.get(key).or_else(|| second.get(key)).map(String::as_str)
    }

    /// Requests of `shape` that one new host of a group holds; 0 if its labels don't match.
    pub fn slots_of_group(&self, shape: &Shape, group: usize) -> i64 {
        let group = &self.groups[group];
        if self.rank(shape, group.kind).is_none() {
            return 0;
        }
        let fit = shape.needs.iter().map(|&(column, amount)| group.total[usize::from(column)] / amount);
        fit.min().unwrap_or(i64::MAX)
    }

    /// By group: requests of `shape` that one new host holds; 0 if its labels don't match.
    pub fn slots_of_groups(&self, shape: &Shape) -> Vec<i64> {
        let mut slots: Vec<i64> = Vec::with_capacity(self.groups.len());
        for (at, group) in self.groups.iter().enumerate() {
            slots.push(if group.like < at { slots[group.like] } else { self.slots_of_group(shape, at) });
        }
        slots
    }

    /// Adds the hosts of so many new replicas of a group; returns the first.
    pub fn launch(&mut self, group: usize, replicas: u32) -> HostId {
        let first = self.hosts.len() as HostId;
        let Group { total, kind, hosts, is_scarce, launched, .. } = &mut self.groups[group];
        let traits = Traits { kind: *kind, is_scarce: *is_scarce, state: State::New };
        let stock = self.hosts.stocks.intern(total, traits);
        let new = *launched..*launched + replicas;
        let of_replica = |replica: u32| (0..*hosts).map(move |host| Origin::New { replica, host });
        match *hosts {
            1 => self.hosts.extend(stock, group as u32, new.map(|replica| Origin::New { replica, host: 0 })),
            _ => self.hosts.extend(stock, group as u32, new.flat_map(of_replica)),
        }
        *launched += replicas;
        first
    }
}

/// The stocks of maps that were read lately, each at its place: what is not found is read again, and is the same stock.
struct Lately(Vec<Option<(MapKey, StockId)>>);

/// The address of a map of what is free, and the traits of the node.
type MapKey = (usize, u64);

impl Default for Lately {
    fn default() -> Self {
        Lately(vec![None; 1 << 10])
    }
}

impl Lately {
    fn get_or_read(&mut self, key: MapKey, read: impl FnOnce() -> StockId) -> StockId {
        let mixed = (key.0 as u64 ^ key.1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = (mixed >> 32) as usize % self.0.len();
        match self.0[place] {
            Some((same, stock)) if same == key => stock,
            _ => self.0[place].insert((key, read())).1,
        }
    }
}

/// Kinds of labels that were met, to be found again.
#[derive(Default)]
struct Kinds<'a> {
    by_address: Index<(*const Labels, *const Labels), u32>,
    by_values: BTreeMap<Kind<'a>, u32>,
}

/// How much a node should be left alone.
fn state(row: Row) -> State {
    match (row.phase, row.is_idle) {
        (NodePhase::Running, false) => State::Busy,
        (NodePhase::Running, true) => State::Idle,
        _ => State::Coming,
    }
}

fn raise(amounts: &mut [i64], column: Column, least: i64) {
    if let Some(amount) = amounts.get_mut(usize::from(column)) {
        *amount = least.max(*amount);
    }
}

fn unlisted(resource: &str) -> Amount {
    if resource.starts_with(IMPLICIT_PREFIX) { Amount::from_units(1) } else { Amount::ZERO }
}

fn rank(alternatives: &[LabelSelector], keys: &[&str], kind: &Kind<'_>) -> u8 {
    let label = |key: &str| keys.binary_search(&key).ok().and_then(|at| kind[at]);
    let first = alternatives.iter().take(usize::from(u8::MAX)).position(|selector| selector.is_met_by(label));
    first.map_or(u8::MAX, |at| at as u8)
}

/// Whether not every node has this resource.
fn is_scarce(resource: &str) -> bool {
    !COMMON.contains(&resource) && !resource.starts_with("node:")
}

/// Whether a node has accelerators, or whatever else is declared to Ray for a purpose.
fn is_scarce_host(resources: &Resources) -> bool {
    resources.iter().any(|(name, amount)| *amount > Amount::ZERO && is_scarce(name))
}
