//! Demand for new hosts in the words of [`crate::packing`], and its answer as launches and places.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::Rules;
use super::board::{Board, Deal, Put};
use super::demand::Class;
use super::limits::Limits;
use super::runs::Runs;
use super::world::{Group, HostId, ShapeId, World, need};
use crate::DemandRef;
use crate::packing::{Bin, Item, Packing, Problem};

/// Demand that is alike for packing.
#[derive(Clone, Debug)]
pub(super) struct Lot {
    pub shape: ShapeId,
    /// Most of it on one host.
    pub most_per_host: u32,
    /// Which groups may be launched for it, then which classes of present hosts may hold it.
    pub bins: Vec<bool>,
    /// Whose it is. Of gangs whose bundles must be apart, all are of the same size.
    pub owners: Vec<Owner>,
    pub count: u64,
    pub way: Way,
}

/// How the owners of a lot take turns.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// One after the other.
    InTurn,
    /// Round robin: no owner twice on a host that holds at most as many as there are owners.
    RoundRobin,
}

/// Who wants a part of a lot.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    /// Tasks or actors: index into the snapshot's demand, and how many.
    Class(u32, u64),
    /// A gang, and how many places of the lot it takes.
    Gang(Deal, u32),
}

/// Hosts that are there, on their way, or launched for good, and alike for packing.
#[derive(Clone, Debug)]
pub(super) struct PresentClass {
    pub kind: u32,
    pub is_scarce: bool,
    /// By column: what is free.
    pub free: Vec<i64>,
    /// What using one of them costs: nothing to speak of, but what should be left alone costs a little more.
    pub cost: f64,
    /// In the order in which they are used; each range is of one group.
    pub hosts: Runs,
}

/// Lots and what can hold them.
pub(super) struct Purchase {
    pub lots: Vec<Lot>,
    pub problem: Problem,
    present: Vec<PresentClass>,
    /// Bins that are groups.
    groups: usize,
}

impl Purchase {
    /// Groups are bins, their room is what `limits` allow; and so are classes of present hosts.
    pub fn new(
        world: &World<'_>,
        limits: &Limits,
        rules: &Rules<'_>,
        lots: Vec<Lot>,
        present: Vec<PresentClass>,
    ) -> Self {
        let bins = world.groups.iter().enumerate().map(|(at, group)| Bin {
            capacity: group.total.clone(),
            price: rules.prices.cost[at],
            hosts: group.hosts,
            most: limits.room(world, at),
        });
        let present_bins = present.iter().map(|class| Bin {
            capacity: class.free.clone(),
            price: class.cost,
            hosts: 1,
            most: class.hosts.len() as u64,
        });
        let bins: Vec<Bin> = bins.chain(present_bins).collect();
        let of_present: u64 = present.iter().map(|class| class.hosts.len() as u64).sum();
        let items = lots.iter().map(|lot| {
            let mut size = vec![0; world.resources.len()];
            for (column, amount) in &world.shapes[lot.shape as usize].needs {
                size[usize::from(*column)] = *amount;
            }
            Item { size, count: lot.count, bins: lot.bins.clone(), most_per_bin: lot.most_per_host }
        });
        let most_hosts = limits.hosts().saturating_add(of_present);
        let problem = Problem { bins, items: items.collect(), most_hosts };
        Purchase { lots, problem, present, groups: world.groups.len() }
    }

    /// What the launches of a packing cost.
    pub fn cost(&self, packing: &Packing) -> f64 {
        let replicas = packing.replicas(&self.problem);
        let launches = replicas.iter().zip(&self.problem.bins).take(self.groups);
        launches.map(|(replicas, bin)| bin.price * (replicas * u64::from(bin.hosts)) as f64).sum()
    }

    /// Launches what the packing says, as far as limits go that a packing does not know (quotas), and puts the lots there.
    /// Returns what the launches cost, and whether all of the packing could be launched.
    pub fn carry_out(&mut self, board: &mut Board<'_>, rules: &Rules<'_>, packing: &Packing) -> (f64, bool) {
        let groups = board.world.groups.len();
        let mut hosts = vec![0_u64; groups];
        for pattern in packing.patterns.iter().filter(|pattern| pattern.bin < groups) {
            hosts[pattern.bin] += pattern.times;
        }
        let (mut cost, mut complete) = (0.0, true);
        let mut next: Vec<Runs> = vec![Runs::default(); groups];
        next.extend(self.present.iter().map(|class| class.hosts.clone()));
        for (at, wanted) in hosts.into_iter().enumerate().filter(|(_, wanted)| *wanted > 0) {
            let group_hosts = u64::from(board.world.groups[at].hosts);
            let wanted = wanted.div_ceil(group_hosts);
            let replicas = wanted.min(board.limits.room(&board.world, at));
            complete &= replicas == wanted;
            let first = board.launch(at, replicas);
            cost += rules.prices.cost[at] * (replicas * group_hosts) as f64;
            next[at].push(first..first + (replicas * group_hosts) as HostId, false);
        }
        for pattern in &packing.patterns {
            for hosts in next[pattern.bin].take(pattern.times as usize).ranges() {
                for &(item, count) in &pattern.items {
                    self.lots[item].put(board, hosts.clone(), count);
                }
            }
        }
        (cost, complete)
    }
}

impl Lot {
    /// Puts so many places of the lot on each of these hosts, as far as there are any left.
    fn put(&mut self, board: &mut Board<'_>, mut hosts: Range<HostId>, count: u32) {
        while let (false, Some(first)) = (hosts.is_empty(), self.owners.first_mut()) {
            // As many hosts as the first owner fills alone, or one that several share.
            let filled = match self.way {
                Way::InTurn => (first.wanted() / u64::from(count.max(1))).min(hosts.len() as u64) as u32,
                Way::RoundRobin => 0,
            };
            let end = hosts.start + filled.max(1);
            if filled > 0 {
                first.put(board, self.shape, hosts.start..end, count);
                self.count -= u64::from(count) * u64::from(filled);
                if first.wanted() == 0 {
                    self.owners.remove(0);
                }
            } else {
                self.put_on_one(board, hosts.start..end, count);
            }
            hosts.start = end;
        }
    }

    /// Puts so many places of the lot on one host, for whoever is next.
    fn put_on_one(&mut self, board: &mut Board<'_>, host: Range<HostId>, count: u32) {
        let mut left = u64::from(count).min(self.count);
        self.count -= left;
        while let (1.., Some(first)) = (left, self.owners.first_mut()) {
            let most = if self.way == Way::RoundRobin { 1 } else { left };
            let take = most.min(first.wanted());
            first.put(board, self.shape, host.clone(), take as u32);
            left -= take;
            if first.wanted() == 0 {
                self.owners.remove(0);
            } else if self.way == Way::RoundRobin {
                self.owners.rotate_left(1);
            }
        }
    }
}

impl Owner {
    /// Places that it has still to get.
    fn wanted(&self) -> u64 {
        match self {
            Owner::Class(_, wanted) => *wanted,
            Owner::Gang(_, wanted) => u64::from(*wanted),
        }
    }

    /// Takes so many places on each of these hosts.
    fn put(&mut self, board: &mut Board<'_>, shape: ShapeId, hosts: Range<HostId>, count: u32) {
        let need = match self {
            Owner::Class(at, wanted) => {
                let (demand, host, number) = (DemandRef::Class(*at), hosts.start, hosts.len() as u32);
                let (each, taken) = (u64::from(count), i64::from(count));
                board.put(Put { demand, host, hosts: number, count: each, shape, taken });
                *wanted -= each * u64::from(number);
                need::TASKS
            }
            Owner::Gang(deal, wanted) => {
                deal.put(board, hosts.clone(), count);
                *wanted -= count * hosts.len() as u32;
                need::GANG
            }
        };
        board.world.hosts.keep(hosts, need);
    }
}

/// Launches hosts for tasks and actors that found no place; what found one is subtracted from the counts of `classes`.
/// Returns what was packed last.
pub(super) fn launch_for_tasks(board: &mut Board<'_>, rules: &Rules<'_>, classes: &mut [Class]) -> Option<Problem> {
    let mut packed = None;
    let mut worst = None;
    let mut is_cut = false;
    loop {
        let is_open = open_groups(&board.world, &board.limits);
        let levels_of = |class: &Class| match class.count {
            0 => Vec::new(),
            _ => levels_of(&board.world, rules, class.shape, &is_open),
        };
        let levels: Vec<Vec<Option<Level>>> = classes.iter().map(levels_of).collect();
        // Levels of preference, the best first: what labels say, then the user's priority of groups. A worse level is only
        // opened for what the better ones can't hold; what a quota cut is tried again with what room is left.
        if !is_cut {
            let is_later = |level: &Level| worst.is_none_or(|worst| *level > worst);
            let Some(next) = levels.iter().flatten().flatten().copied().filter(is_later).min() else { return packed };
            worst = Some(next);
        }
        let mut lots = Vec::new();
        for (class, levels) in classes.iter().zip(&levels) {
            let bins: Vec<bool> = levels.iter().map(|level| level.is_some() && *level <= worst).collect();
            if bins.contains(&true) {
                let owners = vec![Owner::Class(class.at, class.count)];
                let (shape, count) = (class.shape, class.count);
                lots.push(Lot { shape, most_per_host: u32::MAX, bins, owners, count, way: Way::InTurn });
            }
        }
        is_cut = false;
        if lots.is_empty() {
            continue;
        }
        let mut purchase = Purchase::new(&board.world, &board.limits, rules, lots, Vec::new());
        let packing = crate::packing::greedy(&purchase.problem);
        let (launched, complete) = purchase.carry_out(board, rules, &packing);
        let left: BTreeMap<u32, u64> = purchase
            .lots
            .iter()
            .flat_map(|lot| &lot.owners)
            .filter_map(|owner| match owner {
                Owner::Class(at, left) => Some((*at, *left)),
                Owner::Gang(..) => None,
            })
            .collect();
        let tried: BTreeSet<ShapeId> = purchase.lots.iter().map(|lot| lot.shape).collect();
        for class in classes.iter_mut().filter(|class| class.count > 0 && tried.contains(&class.shape)) {
            class.count = left.get(&class.at).copied().unwrap_or(0);
        }
        is_cut = !complete && launched > 0.0;
        packed = Some(purchase.problem);
    }
}

/// A level of preference: position among the alternatives of the label selectors, then the user's priority (negative).
pub(super) type Level = (u8, i64);

/// By group: at which level of preference it can be launched for a shape; `None`: it can't.
pub(super) fn levels_of(world: &World<'_>, rules: &Rules<'_>, shape: ShapeId, is_open: &[bool]) -> Vec<Option<Level>> {
    let shape = &world.shapes[shape as usize];
    let is_kept_clean = rules.keep_gpu_clean && !shape.is_scarce;
    let level = |((group, slots), is_open): ((&Group<'_>, i64), &bool)| match *is_open && slots > 0 {
        true if is_kept_clean && group.is_scarce => None,
        true => Some((world.rank(shape, group.kind)?, -i64::from(group.spec.priority))),
        false => None,
    };
    world.groups.iter().zip(world.slots_of_groups(shape)).zip(is_open).map(level).collect()
}

/// By group: whether more of it may be launched.
pub(super) fn open_groups(world: &World<'_>, limits: &Limits) -> Vec<bool> {
    let groups = world.groups.iter().enumerate();
    groups.map(|(at, group)| !group.spec.is_head && limits.room(world, at) > 0).collect()
}
