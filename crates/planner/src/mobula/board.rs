//! What is put where, and taking it back.

use super::Rules;
use super::demand::{GangWork, Part, Run};
use super::limits::Limits;
use super::world::{Column, HostId, ShapeId, World, need};
use crate::DemandRef;

/// Identical pieces of demand on one host.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Put {
    pub demand: DemandRef,
    pub host: HostId,
    /// Tasks, or bundles.
    pub count: u64,
    pub shape: ShapeId,
    /// How often the shape is taken from the host: once for all bundles of a gang on one host.
    pub taken: i64,
}

/// The state of planning: hosts with what is free of them, limits, and everything that found a place.
#[derive(Clone, Debug)]
pub(super) struct Board<'a> {
    pub world: World<'a>,
    pub limits: Limits,
    pub puts: Vec<Put>,
    /// Hosts of which something was taken or given back, and hosts that came or went, in this order.
    pub touched: Vec<HostId>,
}

/// A state to come back to.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    puts: usize,
    hosts: usize,
    launched: Vec<u32>,
    limits: Limits,
    /// Hosts that were to grow in place.
    grown: Vec<HostId>,
}

impl<'a> Board<'a> {
    /// Puts `count` requests of a class on a host that has room for them.
    pub fn put(&mut self, put: Put) {
        let World { hosts, shapes, .. } = &mut self.world;
        hosts.take(shapes, put.shape, put.host, put.taken);
        self.touched.push(put.host);
        self.puts.push(put);
    }

    /// Launches so many replicas; returns the first host.
    pub fn launch(&mut self, group: usize, replicas: u64) -> HostId {
        self.limits.take(&self.world, group, replicas);
        let first = self.world.launch(group, u32::try_from(replicas).unwrap_or(u32::MAX));
        self.touched.extend(first..self.world.hosts.len() as HostId);
        first
    }

    /// A board on which all is as here; what was put there is not listed.
    pub fn copy(&self) -> Self {
        Board { world: self.world.clone(), limits: self.limits.clone(), puts: Vec::new(), touched: Vec::new() }
    }

    /// Gives up all launched hosts that are not fixed, and takes `released` from the others; `kept` stays where it is.
    /// Returns what the hosts that were given up cost.
    pub fn release(&mut self, fixed: &[bool], kept: Vec<Put>, released: &[Put], rules: &Rules<'_>) -> f64 {
        let World { hosts, shapes, groups, present, .. } = &mut self.world;
        for put in released {
            hosts.take(shapes, put.shape, put.host, -put.taken);
        }
        let mut given_up = vec![0_u64; groups.len()];
        for host in *present..hosts.len() {
            if !fixed.get(host).copied().unwrap_or(true) && !hosts.is_given_up[host] {
                hosts.give_up(host as HostId);
                if let Some(count) = given_up.get_mut(hosts.group[host] as usize) {
                    *count += 1;
                }
            }
        }
        hosts.needed.iter_mut().for_each(|needed| *needed &= need::CONSTRAINT | need::HELD);
        for put in &kept {
            let reason = if matches!(put.demand, DemandRef::Class(_)) { need::TASKS } else { need::GANG };
            hosts.needed[put.host as usize] |= reason;
        }
        let mut cost = 0.0;
        for (group, count) in given_up.into_iter().enumerate() {
            cost += rules.prices.cost[group] * count as f64;
            self.limits.give_back(&self.world, group, count / u64::from(self.world.groups[group].hosts));
        }
        self.puts = kept;
        cost
    }

    /// The state now.
    pub fn mark(&self) -> Mark {
        Mark {
            puts: self.puts.len(),
            hosts: self.world.hosts.len(),
            launched: self.world.groups.iter().map(|group| group.launched).collect(),
            limits: self.limits.clone(),
            grown: self.world.grown.keys().copied().collect(),
        }
    }

    /// Lets a host grow in place as far as it can.
    pub fn grow(&mut self, host: HostId) {
        if let Some(columns) = self.world.headroom.remove(&host) {
            self.world.hosts.add(host, &columns);
            self.world.grown.insert(host, columns);
            self.touched.push(host);
        }
    }

    /// Takes back that a host grows.
    pub fn shrink_back(&mut self, host: HostId) {
        if let Some(columns) = self.world.grown.remove(&host) {
            let back: Vec<(Column, i64)> = columns.iter().map(|(column, amount)| (*column, -amount)).collect();
            self.world.hosts.add(host, &back);
            self.world.headroom.insert(host, columns);
            self.touched.push(host);
        }
    }

    /// Undoes everything since `mark`.
    pub fn back_to(&mut self, mark: &Mark) {
        for put in self.puts.drain(mark.puts..) {
            let World { hosts, shapes, .. } = &mut self.world;
            hosts.take(shapes, put.shape, put.host, -put.taken);
            self.touched.push(put.host);
        }
        if self.world.grown.len() > mark.grown.len() {
            let grown = self.world.grown.keys().copied().filter(|host| mark.grown.binary_search(host).is_err());
            grown.collect::<Vec<_>>().into_iter().for_each(|host| self.shrink_back(host));
        }
        self.touched.extend(mark.hosts as HostId..self.world.hosts.len() as HostId);
        self.world.hosts.truncate(mark.hosts);
        for (group, launched) in self.world.groups.iter_mut().zip(&mark.launched) {
            group.launched = *launched;
        }
        self.limits.clone_from(&mark.limits);
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
            DemandRef::Gang { first_bundle, .. } => Some(Run { first: first_bundle, count: put.count as u32 }),
            DemandRef::Class(_) => None,
        });
        let mut runs: Vec<Run> = runs.collect();
        runs.sort_unstable_by_key(|run| run.first);
        Deal { gang, shape, is_whole, runs, used: 0, next: 0 }
    }

    /// Puts the next `count` bundles on a host (of a gang that shares a host: all).
    pub fn put(&mut self, board: &mut Board<'_>, host: HostId, count: u32) {
        if self.is_whole {
            let bundles = self.runs.first().map_or(0, |run| u64::from(run.count));
            let demand = DemandRef::Gang { gang: self.gang, first_bundle: 0 };
            return board.put(Put { demand, host, count: bundles, shape: self.shape, taken: 1 });
        }
        let mut left = count;
        while let (1.., Some(run)) = (left, self.runs.get(self.next)) {
            let take = left.min(run.count - self.used);
            let demand = DemandRef::Gang { gang: self.gang, first_bundle: run.first + self.used };
            board.put(Put { demand, host, count: u64::from(take), shape: self.shape, taken: i64::from(take) });
            left -= take;
            self.used += take;
            if self.used == run.count {
                (self.next, self.used) = (self.next + 1, 0);
            }
        }
    }
}
