//! What is seen of each place (a node, a Kubernetes node, a new pod of a group): its label value at each level.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::level::Level;
use crate::quick_hash;
use crate::roster::Row;
use crate::{LabelOperator, Labels, Node, NodePhase, Snapshot};

/// No value, no domain, no machine.
pub(super) const NONE: u32 = u32::MAX;
/// The label of a Kubernetes node that is as good as its name.
const HOSTNAME: &str = "kubernetes.io/hostname";

type Index<K> = quick_hash::Index<K, u32>;

/// What is seen of all places.
#[derive(Debug, Default)]
pub(super) struct Sight<'a> {
    /// For each level the text of each value.
    pub(super) texts: Vec<Vec<&'a str>>,
    /// For each level and value: which of the level's keys it was met under first.
    pub(super) keys: Vec<Vec<usize>>,
    /// For each level the values that a gang's locality names; there may be no place with them.
    pub(super) named: Vec<Vec<u32>>,
    /// A row for each kind of place: the value at each level, [`NONE`] without the label.
    pub(super) values: Vec<u32>,
    /// The row of each node.
    pub(super) of_node: Vec<u32>,
    /// The row of each Kubernetes node.
    pub(super) of_host: Vec<u32>,
    /// The row of a new pod of each group.
    pub(super) of_group: Vec<u32>,
    /// The machine of each node, where known: those of [`Snapshot::hosts`] come first, in their order.
    pub(super) machine_of_node: Vec<u32>,
    /// How many machines are known.
    pub(super) machines: u32,
    /// The group of each node, where there is one of that name.
    pub(super) group_of_node: Vec<u32>,
    /// For each group and level (row by row): nodes of the group run and lack the label that Ray compares, so that new ones
    /// will lack it too, wherever they are.
    lacks_ray_label: Vec<bool>,
}

impl Sight<'_> {
    /// Whether new nodes of the group will lack the label that Ray compares at this level.
    pub(super) fn lacks_ray_label(&self, levels: usize, level: usize, group: usize) -> bool {
        self.lacks_ray_label.get(group * levels + level).copied().unwrap_or(false)
    }
}

/// Whether Ray runs on it, so that its Ray labels are known.
pub(super) fn runs_ray(node: &Node) -> bool {
    node.ray_node_id.is_some() || node.phase == NodePhase::Running
}

/// Whose labels they are.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Owner {
    Ray,
    Kubernetes,
}

/// What is known of one place: rows of values, 0 (which is empty) where nothing is.
#[derive(Copy, Clone, Default, PartialEq, Eq)]
struct Spot {
    ray: u32,
    host: u32,
    /// Group whose template says more; [`NONE`]: nothing does.
    group: u32,
    is_host_known: bool,
    runs_ray: bool,
}

impl Hash for Spot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.ray) << 32 | u64::from(self.host));
        state.write_u64(u64::from(self.group) << 2 | u64::from(self.is_host_known) << 1 | u64::from(self.runs_ray));
    }
}

struct Reader<'a, 'b> {
    levels: &'b [Level],
    ids: Vec<Index<&'a str>>,
    sight: Sight<'a>,
    /// Values as they were read; row 0 is empty.
    rows: Vec<u32>,
    row_of: [Index<usize>; 2],
    /// For each level: what the value of a Kubernetes label is called in Ray's.
    called: Vec<Vec<u32>>,
    /// For each group: rows of its Ray labels and of its node selector.
    group_rows: Vec<(u32, u32)>,
}

/// By node: its group, where there is one of that name.
fn groups_of_nodes(snapshot: &Snapshot, roster: &[Row]) -> Vec<u32> {
    let groups = snapshot.node_types.len();
    roster.iter().map(|row| if row.group() < groups { row.group } else { NONE }).collect()
}

/// Reads all labels, each distinct map once. Without levels there is nothing to be read of them.
pub(super) fn read<'a>(snapshot: &'a Snapshot, roster: &[Row], levels: &[Level]) -> Sight<'a> {
    let width = levels.len();
    let mut reader = Reader {
        levels,
        ids: levels.iter().map(|_| Index::default()).collect(),
        sight: Sight {
            texts: vec![Vec::new(); width],
            keys: vec![Vec::new(); width],
            named: vec![Vec::new(); width],
            ..Sight::default()
        },
        rows: vec![NONE; width],
        row_of: Default::default(),
        called: Vec::new(),
        group_rows: Vec::new(),
    };
    reader.groups(snapshot);
    let hosts = reader.machines(snapshot);
    reader.sight.group_of_node = groups_of_nodes(snapshot, roster);
    if levels.is_empty() {
        return reader.sight;
    }
    let spots = reader.spots(snapshot, &hosts);
    reader.evidence(snapshot, &spots);
    reader.called(&spots);
    reader.named(snapshot);
    reader.places(snapshot, &hosts, &spots);
    reader.sight
}

impl<'a> Reader<'a, '_> {
    fn id(&mut self, level: usize, key: usize, text: &'a str) -> u32 {
        // A label without a value says nothing: what is unknown is never shared.
        let Sight { texts, keys, .. } = &mut self.sight;
        let (Some(ids), Some(texts), Some(keys)) = (self.ids.get_mut(level), texts.get_mut(level), keys.get_mut(level))
        else {
            return NONE;
        };
        if text.is_empty() {
            return NONE;
        }
        *ids.entry(text).or_insert_with(|| {
            texts.push(text);
            keys.push(key);
            u32::try_from(texts.len() - 1).unwrap_or(NONE)
        })
    }

    fn row(&mut self, labels: &'a Labels, owner: Owner) -> u32 {
        if labels.is_empty() || self.levels.is_empty() {
            return 0;
        }
        let address = std::ptr::from_ref(labels).addr();
        if let Some(row) = self.row_of[owner as usize].get(&address) {
            return *row;
        }
        let levels = self.levels;
        let values: Vec<u32> = levels
            .iter()
            .enumerate()
            .map(|(at, level)| {
                let met = match (&level.ray_label, owner) {
                    (Some(label), Owner::Ray) => labels.get(label).map(|text| (0, text)),
                    _ => (0..).zip(&level.keys).find_map(|(at, key)| Some((at, labels.get(key)?))),
                };
                met.map_or(NONE, |(key, text)| self.id(at, key, text))
            })
            .collect();
        let row = self.push_row(&values);
        self.row_of[owner as usize].insert(address, row);
        row
    }

    fn push_row(&mut self, values: &[u32]) -> u32 {
        if values.iter().all(|value| *value == NONE) {
            return 0;
        }
        self.rows.extend_from_slice(values);
        u32::try_from((self.rows.len() / self.levels.len().max(1)).saturating_sub(1)).unwrap_or(0)
    }

    fn value(&self, row: u32, level: usize) -> u32 {
        self.rows.get(row as usize * self.levels.len() + level).copied().unwrap_or(NONE)
    }

    fn groups(&mut self, snapshot: &'a Snapshot) {
        for group in &snapshot.node_types {
            let declared = self.row(&group.labels, Owner::Ray);
            let expected = self.row(&group.facts.expected_labels, Owner::Ray);
            let either = |level| match self.value(declared, level) {
                NONE => self.value(expected, level),
                value => value,
            };
            let ray: Vec<u32> = (0..self.levels.len()).map(either).collect();
            let ray = self.push_row(&ray);
            let selector = self.row(&group.facts.node_selector, Owner::Kubernetes);
            self.group_rows.push((ray, selector));
        }
    }

    /// Numbers the machines; gives the row of each.
    fn machines(&mut self, snapshot: &'a Snapshot) -> Vec<u32> {
        // Those that are not listed.
        let mut others: Index<&'a str> = Index::default();
        let mut rows = Vec::with_capacity(snapshot.hosts.len());
        for host in &snapshot.hosts {
            let row = self.row(&host.labels, Owner::Kubernetes);
            rows.push(self.with_hostname(row, &host.name));
        }
        for node in &snapshot.nodes {
            let machine = match node.host.as_deref() {
                None | Some("") => NONE,
                Some(name) => match snapshot.hosts.place_of(name) {
                    Some(place) => u32::try_from(place).unwrap_or(NONE),
                    None => *others.entry(name).or_insert_with(|| {
                        let row = self.with_hostname(0, name);
                        rows.push(row);
                        u32::try_from(rows.len() - 1).unwrap_or(NONE)
                    }),
                },
            };
            self.sight.machine_of_node.push(machine);
        }
        self.sight.machines = u32::try_from(rows.len()).unwrap_or(NONE);
        rows
    }

    /// The row, with the name of the Kubernetes node where a level asks for it and no label says it.
    fn with_hostname(&mut self, row: u32, name: &'a str) -> u32 {
        let key = |level: &Level| level.keys.iter().position(|key| key == HOSTNAME);
        let wanted = |(at, level): (usize, &Level)| Some((at, key(level)?));
        let Some((at, key)) = self.levels.iter().enumerate().find_map(wanted) else { return row };
        if self.value(row, at) != NONE {
            return row;
        }
        let mut values: Vec<u32> = (0..self.levels.len()).map(|level| self.value(row, level)).collect();
        let id = self.id(at, key, name);
        if let Some(value) = values.get_mut(at) {
            *value = id;
        }
        self.push_row(&values)
    }

    fn spots(&mut self, snapshot: &'a Snapshot, hosts: &[u32]) -> Vec<Spot> {
        let listed = snapshot.hosts.len();
        let mut last: Option<(&Arc<Labels>, u32)> = None;
        let mut spots = Vec::with_capacity(snapshot.nodes.len());
        for (node, at) in snapshot.nodes.iter().zip(0_usize..) {
            let group = self.sight.group_of_node.get(at).copied().unwrap_or(NONE);
            let ray = match last {
                Some((labels, row)) if Arc::ptr_eq(labels, &node.labels) => row,
                _ => self.row(&node.labels, Owner::Ray),
            };
            last = Some((&node.labels, ray));
            let machine = self.sight.machine_of_node.get(at).copied().unwrap_or(NONE) as usize;
            let host = hosts.get(machine).copied().unwrap_or(0);
            spots.push(Spot { ray, host, group, is_host_known: machine < listed, runs_ray: runs_ray(node) });
        }
        spots
    }

    /// What nodes that run lack, new ones of the same group will lack.
    fn evidence(&mut self, snapshot: &Snapshot, spots: &[Spot]) {
        let width = self.levels.len();
        let compared = self.levels.iter().enumerate().filter(|(_, level)| level.ray_label.is_some());
        let compared: Vec<usize> = compared.map(|(at, _)| at).collect();
        let mut lacks = vec![false; snapshot.node_types.len() * width];
        for at in compared {
            let mut has = vec![false; snapshot.node_types.len()];
            for spot in spots.iter().filter(|spot| spot.runs_ray) {
                let group = spot.group as usize;
                let is_there = self.value(spot.ray, at) != NONE;
                if let (Some(has), Some(lacks)) = (has.get_mut(group), lacks.get_mut(group * width + at)) {
                    *has |= is_there;
                    *lacks |= !is_there;
                }
            }
            for (group, _) in has.iter().enumerate().filter(|(_, has)| **has) {
                if let Some(lacks) = lacks.get_mut(group * width + at) {
                    *lacks = false;
                }
            }
        }
        self.sight.lacks_ray_label = lacks;
    }

    /// A node whose Ray label and Kubernetes label differ tells what a domain is called in either; two that contradict each
    /// other tell nothing.
    fn called(&mut self, spots: &[Spot]) {
        self.called = self.sight.texts.iter().map(|texts| (0..).take(texts.len()).collect()).collect();
        for spot in spots.iter().filter(|spot| spot.is_host_known && spot.ray != 0 && spot.host != 0) {
            for level in 0..self.levels.len() {
                let (ray, host) = (self.value(spot.ray, level), self.value(spot.host, level));
                if ray == NONE || host == NONE || ray == host {
                    continue;
                }
                let Some(called) = self.called.get_mut(level).and_then(|called| called.get_mut(host as usize)) else {
                    continue;
                };
                *called = if *called == host || *called == ray { ray } else { NONE };
            }
        }
        for called in &mut self.called {
            for (own, other) in (0..).zip(called) {
                if *other == NONE {
                    *other = own;
                }
            }
        }
    }

    fn named(&mut self, snapshot: &'a Snapshot) {
        for locality in snapshot.gangs.iter().filter_map(|gang| gang.locality.as_ref()) {
            let is_its = |level: &Level| level.ray_label.as_deref() == Some(&locality.label);
            let Some(level) = self.levels.iter().position(is_its) else { continue };
            for constraint in &locality.selector.constraints {
                if constraint.operator != LabelOperator::In || constraint.key != locality.label {
                    continue;
                }
                for text in &constraint.values {
                    let id = self.id(level, 0, text);
                    if let Some(named) =
                        self.sight.named.get_mut(level).filter(|named| id != NONE && !named.contains(&id))
                    {
                        named.push(id);
                    }
                }
            }
        }
    }

    fn places(&mut self, snapshot: &Snapshot, hosts: &[u32], spots: &[Spot]) {
        let mut place_of: Index<Spot> = Index::default();
        let mut last: Option<(Spot, u32)> = None;
        let mut place = |reader: &mut Self, spot: Spot| match last {
            Some((known, place)) if known == spot => place,
            _ => {
                let place = *place_of.entry(spot).or_insert_with(|| reader.push_place(spot));
                last = Some((spot, place));
                place
            }
        };
        self.sight.of_node = spots.iter().map(|spot| place(self, *spot)).collect();
        let listed = hosts.iter().take(snapshot.hosts.len());
        let host = |row: &u32| Spot { host: *row, group: NONE, is_host_known: true, ..Spot::default() };
        self.sight.of_host = listed.map(|row| place(self, host(row))).collect();
        let group = |group: usize| Spot { group: u32::try_from(group).unwrap_or(NONE), ..Spot::default() };
        self.sight.of_group = (0..snapshot.node_types.len()).map(|at| place(self, group(at))).collect();
    }

    fn push_place(&mut self, spot: Spot) -> u32 {
        for level in 0..self.levels.len() {
            let value = self.resolve(spot, level);
            self.sight.values.push(value);
        }
        u32::try_from((self.sight.values.len() / self.levels.len().max(1)).saturating_sub(1)).unwrap_or(NONE)
    }

    /// Ray's labels, then what they will be, then the Kubernetes node's, then the node selector.
    fn resolve(&self, spot: Spot, level: usize) -> u32 {
        let ray = self.value(spot.ray, level);
        let is_compared = self.levels.get(level).is_some_and(|level| level.ray_label.is_some());
        if ray != NONE || (is_compared && spot.runs_ray) {
            return ray;
        }
        let (declared, selector) = self.group_rows.get(spot.group as usize).copied().unwrap_or_default();
        if !spot.runs_ray && self.value(declared, level) != NONE {
            return self.value(declared, level);
        }
        if is_compared && self.sight.lacks_ray_label(self.levels.len(), level, spot.group as usize) {
            return NONE;
        }
        let value = self.value(if spot.is_host_known { spot.host } else { selector }, level);
        let value = if value == NONE { self.value(spot.host, level) } else { value };
        self.called.get(level).and_then(|called| called.get(value as usize)).copied().unwrap_or(value)
    }
}
