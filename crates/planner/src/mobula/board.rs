//! What is put where, and taking it back.

use std::ops::Range;

use super::demand::{GangWork, Part, Run};
use super::limits::Limits;
use super::world::{Column, HostId, ShapeId, World, need};
use crate::DemandRef;

/// Identical pieces of demand on hosts of one group that follow one another, the same on each.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Put {
    /// What is on the first host; the bundles of a gang go on from host to host.
    pub demand: DemandRef,
    /// The first host.
    pub host: HostId,
    /// How many hosts.
    pub hosts: u32,
    /// Tasks, or bundles, on each of them.
    pub count: u64,
    pub shape: ShapeId,
    /// How often the shape is taken from each host: once for all bundles of a gang on one host.
    pub taken: i64,
}

impl Put {
    /// The hosts.
    pub fn range(&self) -> Range<HostId> {
        self.host..self.host + self.hosts
    }

    /// Tasks, or bundles, on all hosts.
    pub fn pieces(&self) -> u64 {
        self.count * u64::from(self.hosts)
    }

    /// How often the shape is taken from all hosts.
    pub fn all_taken(&self) -> u64 {
        self.taken.max(0) as u64 * u64::from(self.hosts)
    }

    /// What is on the host at this place.
    pub fn demand_at(&self, place: u32) -> DemandRef {
        match self.demand {
            DemandRef::Class(at) => DemandRef::Class(at),
            DemandRef::Gang { gang, first_bundle } => {
                DemandRef::Gang { gang, first_bundle: first_bundle + place * self.count as u32 }
            }
        }
    }
}

/// Launched hosts of one group that follow one another and may be given up.
pub(super) type Loose = (usize, Range<HostId>);

/// The state of planning: hosts with what is free of them, limits, and everything that found a place.
#[derive(Clone, Debug)]
pub(super) struct Board<'a> {
    pub world: World<'a>,
    pub limits: Limits,
    pub puts: Vec<Put>,
    /// Hosts of which something was taken or given back, and hosts that came or went, in this order.
    pub touched: Vec<Range<HostId>>,
    /// Groups of which something was launched, with the replicas.
    launches: Vec<(usize, u32)>,
}

/// A state to come back to.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    puts: usize,
    hosts: usize,
    launches: usize,
    /// Hosts that were to grow in place.
    grown: Vec<HostId>,
}

impl<'a> Board<'a> {
    /// A board on which nothing is put yet.
    pub fn new(world: World<'a>, limits: Limits) -> Self {
        Board { world, limits, puts: Vec::new(), touched: Vec::new(), launches: Vec::new() }
    }

    /// Puts requests on hosts that have room for them.
    pub fn put(&mut self, put: Put) {
        let World { hosts, shapes, .. } = &mut self.world;
        hosts.take(shapes, put.shape, put.range(), put.taken);
        self.touched.push(put.range());
        self.puts.push(put);
    }

    /// Launches so many replicas; returns the first host.
    pub fn launch(&mut self, group: usize, replicas: u64) -> HostId {
        self.limits.take(&self.world, group, replicas);
        let replicas = u32::try_from(replicas).unwrap_or(u32::MAX);
        let first = self.world.launch(group, replicas);
        self.launches.push((group, replicas));
        self.touched.push(first..self.world.hosts.len() as HostId);
        first
    }

    /// Launches what groups lack of so many replicas, as far as there is room.
    pub fn launch_up_to(&mut self, replicas: &[u64]) {
        for (group, replicas) in replicas.iter().enumerate() {
            let lacks = replicas.saturating_sub(u64::from(self.world.groups[group].launched));
            let lacks = lacks.min(self.limits.room(&self.world, group));
            if lacks > 0 {
                self.launch(group, lacks);
            }
        }
    }

    /// A board on which all is as here; what was put there is not listed.
    pub fn copy(&self) -> Self {
        Board::new(self.world.clone(), self.limits.clone())
    }

    /// Launched hosts that are not fixed, those of one group that follow one another as one range.
    pub fn loose(&self, fixed: &[bool]) -> Vec<Loose> {
        let World { hosts, present, .. } = &self.world;
        // What is beyond the list stays.
        let end = hosts.len().min(fixed.len());
        let is_loose = |host: usize| !fixed[host] && !hosts.is_given_up[host];
        let mut loose: Vec<Loose> = Vec::new();
        let mut first = *present;
        while first < end {
            let group = hosts.group[first];
            let belongs = |host: &usize| is_loose(*host) && hosts.group[*host] == group;
            let next = (first..end).find(|host| !belongs(host)).unwrap_or(end);
            if next > first {
                loose.push((group as usize, first as HostId..next as HostId));
            }
            first = next.max(first + 1);
        }
        loose
    }

    /// The limits if loose hosts were not launched.
    pub fn limits_without(&self, loose: &[Loose]) -> Limits {
        let mut limits = self.limits.clone();
        for (group, count) in self.count(loose).into_iter().enumerate() {
            limits.give_back(&self.world, group, count / u64::from(self.world.groups[group].hosts));
        }
        limits
    }

    /// By group: how many of them there are.
    pub fn count(&self, loose: &[Loose]) -> Vec<u64> {
        let mut hosts = vec![0; self.world.groups.len()];
        loose.iter().for_each(|(group, range)| hosts[*group] += range.len() as u64);
        hosts
    }

    /// Gives up loose hosts, and takes `released` from the others; `kept` stays where it is.
    pub fn release(&mut self, loose: &[Loose], kept: Vec<Put>, released: &[Put]) {
        self.limits = self.limits_without(loose);
        let World { hosts, shapes, .. } = &mut self.world;
        for put in released {
            hosts.take(shapes, put.shape, put.range(), -put.taken);
        }
        loose.iter().for_each(|(_, range)| hosts.give_up(range.clone()));
        hosts.needed.iter_mut().for_each(|needed| *needed &= need::CONSTRAINT | need::HELD);
        for put in &kept {
            let reason = if matches!(put.demand, DemandRef::Class(_)) { need::TASKS } else { need::GANG };
            hosts.keep(put.range(), reason);
        }
        self.puts = kept;
    }

    /// The state now.
    pub fn mark(&self) -> Mark {
        Mark {
            puts: self.puts.len(),
            hosts: self.world.hosts.len(),
            launches: self.launches.len(),
            grown: self.world.grown.keys().copied().collect(),
        }
    }

    /// Lets a host grow in place as far as it can.
    pub fn grow(&mut self, host: HostId) {
        if let Some(columns) = self.world.headroom.remove(&host) {
            self.world.hosts.add(host, &columns);
            self.world.grown.insert(host, columns);
            self.touched.push(host..host + 1);
        }
    }

    /// Takes back that a host grows.
    pub fn shrink_back(&mut self, host: HostId) {
        if let Some(columns) = self.world.grown.remove(&host) {
            let back: Vec<(Column, i64)> = columns.iter().map(|(column, amount)| (*column, -amount)).collect();
            self.world.hosts.add(host, &back);
            self.world.headroom.insert(host, columns);
            self.touched.push(host..host + 1);
        }
    }

    /// Undoes everything since `mark`.
    pub fn back_to(&mut self, mark: &Mark) {
        for put in self.puts.drain(mark.puts..) {
            let World { hosts, shapes, .. } = &mut self.world;
            hosts.take(shapes, put.shape, put.range(), -put.taken);
            self.touched.push(put.range());
        }
        if self.world.grown.len() > mark.grown.len() {
            let grown = self.world.grown.keys().copied().filter(|host| mark.grown.binary_search(host).is_err());
            grown.collect::<Vec<_>>().into_iter().for_each(|host| self.shrink_back(host));
        }
        self.touched.push(mark.hosts as HostId..self.world.hosts.len() as HostId);
        self.world.hosts.truncate(mark.hosts);
        for (group, replicas) in self.launches.drain(mark.launches..) {
            self.world.groups[group].launched -= replicas;
            self.limits.give_back(&self.world, group, u64::from(replicas));
        }
    }
}

impl Mark {
    /// How many pieces of demand had a place.
    pub fn puts(&self) -> usize {
        self.puts
    }

    /// How many hosts there were.
    pub fn hosts(&self) -> usize {
        self.hosts
    }
}

/// Deals out the bundles of one part, in the order in which they are listed.
#[derive(Clone, Debug)]
pub(super) struct Deal {
    gang: u32,
    shape: ShapeId,
    is_whole: bool,
    runs: Vec<Run>,
    /// Bundles of the first run that are dealt already.
    used: u32,
    next: usize,
}

impl Deal {
    /// All bundles of a part.
    pub fn new(work: &GangWork<'_>, part: &Part) -> Self {
        let is_whole = work.together == super::demand::Together::One;
        Deal { gang: work.at, shape: part.shape, is_whole, runs: part.runs.clone(), used: 0, next: 0 }
    }

    /// Bundles of one gang and one shape that have places already, to be dealt again.
    pub fn again(gang: u32, shape: ShapeId, is_whole: bool, puts: &[&Put]) -> Self {
        let runs = puts.iter().filter_map(|put| match put.demand {
            DemandRef::Gang { first_bundle, .. } => Some(Run { first: first_bundle, count: put.pieces() as u32 }),
            DemandRef::Class(_) => None,
        });
        let mut runs: Vec<Run> = runs.collect();
        runs.sort_unstable_by_key(|run| run.first);
        Deal { gang, shape, is_whole, runs, used: 0, next: 0 }
    }

    /// Puts the next `count` bundles on each of these hosts, which are of one group (of a gang that shares a host: all on one).
    pub fn put(&mut self, board: &mut Board<'_>, hosts: Range<HostId>, count: u32) {
        let shape = self.shape;
        if self.is_whole {
            let bundles = self.runs.first().map_or(0, |run| u64::from(run.count));
            let demand = DemandRef::Gang { gang: self.gang, first_bundle: 0 };
            return board.put(Put { demand, host: hosts.start, hosts: 1, count: bundles, shape, taken: 1 });
        }
        let mut host = hosts.start;
        // Bundles that the host lacks still.
        let mut lacks = count;
        while let (true, 1.., Some(run)) = (host < hosts.end, count, self.runs.get(self.next)) {
            let there = run.count - self.used;
            // As many whole hosts as the run has bundles for, or a part of one.
            let whole = if lacks == count { (there / count).min(hosts.end - host) } else { 0 };
            let (filled, each) = if whole > 0 { (whole, count) } else { (1, lacks.min(there)) };
            let demand = DemandRef::Gang { gang: self.gang, first_bundle: run.first + self.used };
            board.put(Put { demand, host, hosts: filled, count: u64::from(each), shape, taken: i64::from(each) });
            if whole > 0 || each == lacks {
                (host, lacks) = (host + filled, count);
            } else {
                lacks -= each;
            }
            self.used += filled * each;
            if self.used == run.count {
                (self.next, self.used) = (self.next + 1, 0);
            }
        }
    }
}
