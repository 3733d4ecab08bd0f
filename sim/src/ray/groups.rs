//! Placement groups: all bundles or none.
//!
//! Assumptions: groups are tried in order of arrival, when the GCS does (`retry.rs`); a bundle goes to the
//! node of which it leaves the largest share free (Ray's scorer), the first that joined among equals. With a locality, the
//! domains are tried in order of their values, and the first that holds the whole group is taken. The work in a group starts
//! when all bundles are placed, and starts again when bundles were lost with their node.

use std::collections::{BTreeMap, BTreeSet};

use mobula_planner::Resources;

use super::retry::{Retry, Trigger};
use super::{Needs, NodeNumber, Notice, Runtime, nodes::fits};
use crate::scenario::Strategy;

/// A group that is asked for.
#[derive(Clone, Debug)]
pub struct GroupWork {
    /// Hex id.
    pub id: String,
    /// How bundles are placed.
    pub strategy: Strategy,
    /// What each bundle needs.
    pub needs: Needs,
    /// How many bundles.
    pub bundles: u32,
    /// Label that all nodes must share.
    pub locality: Option<String>,
    /// How long the work takes, in µs; `None`: for ever.
    pub duration_us: Option<u64>,
}

/// A group.
#[derive(Clone, Debug)]
pub struct Group {
    /// What was asked for.
    pub work: GroupWork,
    /// When, in µs.
    pub arrived_us: u64,
    /// Where each bundle is.
    pub placed: Vec<Option<NodeNumber>>,
    pub(super) was_placed: bool,
    pub(super) end_us: Option<u64>,
    pub(super) retry: Retry,
}

impl Group {
    /// Bundles without a node.
    pub(super) fn missing(&self) -> usize {
        self.placed.iter().filter(|place| place.is_none()).count()
    }
}

impl Runtime {
    /// A group is asked for.
    pub fn submit_group(&mut self, now_us: u64, work: GroupWork) {
        self.before_change(now_us);
        let id = self.next_work;
        self.next_work += 1;
        let placed = vec![None; work.bundles as usize];
        let group =
            Group { work, arrived_us: now_us, placed, was_placed: false, end_us: None, retry: Retry::fresh(now_us) };
        self.groups.insert(id, group);
        self.unplaced.insert(id);
        self.schedule(now_us, Trigger::Event);
    }

    /// Something has changed: groups that wait are tried, now or when the GCS does.
    pub(super) fn place_groups(&mut self, now_us: u64, trigger: Trigger) {
        let ticks = self.ticks;
        let mut tries: BTreeMap<u64, u64> = BTreeMap::new();
        for id in &self.unplaced {
            let Some(group) = self.groups.get_mut(id) else { continue };
            let try_us = if group.was_placed { Some(now_us) } else { group.retry.next_us(now_us, trigger, ticks) };
            tries.extend(try_us.map(|try_us| (*id, try_us)));
        }
        for id in self.in_order(tries.keys().copied()) {
            match tries[&id] {
                try_us if try_us <= now_us => self.try_group(now_us, id),
                try_us => drop(self.group_tries.insert((try_us, id))),
            }
        }
    }

    /// As the GCS tries them: those that have lost bundles, then whoever is due first.
    pub(super) fn in_order(&self, ids: impl Iterator<Item = u64>) -> Vec<u64> {
        let rank = |id: &u64| self.groups.get(id).map(|group| if group.was_placed { 0 } else { group.retry.due_us() });
        let mut ids: Vec<u64> = ids.collect();
        ids.sort_by_key(|id| (rank(id), *id));
        ids
    }

    /// Groups whose tick has come are tried.
    pub(super) fn tick(&mut self, now_us: u64) {
        let later = self.group_tries.split_off(&(now_us.saturating_add(1), 0));
        let due = std::mem::replace(&mut self.group_tries, later);
        let ids: BTreeSet<u64> = due.into_iter().map(|(_, id)| id).collect();
        for id in self.in_order(ids.into_iter()) {
            if self.groups.get(&id).is_some_and(|group| group.retry.due_us() <= now_us) {
                self.try_group(now_us, id);
            }
        }
    }

    /// Places a group, if there is room for all of it.
    pub(super) fn try_group(&mut self, now_us: u64, id: u64) {
        let Some(group) = self.groups.get(&id).filter(|_| self.has_head && self.unplaced.contains(&id)) else { return };
        let Some(places) = self.places_for(group) else {
            let waits_for_node = !self.could_hold(group);
            if let Some(group) = self.groups.get_mut(&id) {
                group.retry.failed(now_us, waits_for_node);
            }
            return;
        };
        self.unplaced.remove(&id);
        let Some(group) = self.groups.get_mut(&id) else { return };
        let mut places = places.into_iter();
        for place in group.placed.iter_mut().filter(|place| place.is_none()) {
            *place = places.next();
            if let Some(node) = place.and_then(|number| self.nodes.get_mut(&number)) {
                node.take(&group.work.needs.resources);
            }
        }
        if !group.was_placed {
            group.was_placed = true;
            self.notices.push(Notice::GangPlaced { waited_us: now_us.saturating_sub(group.arrived_us) });
        }
        group.end_us = group.work.duration_us.map(|duration_us| now_us.saturating_add(duration_us.max(1)));
        self.group_ends.extend(group.end_us.map(|end_us| (end_us, id)));
    }

    /// Whether Ray thinks that the group could be placed on the nodes that are there, if they were free. It does not look closely.
    fn could_hold(&self, group: &Group) -> bool {
        let is_held = |number: &NodeNumber| group.placed.contains(&Some(*number));
        let mut nodes = self.nodes.iter().filter(|(_, node)| !node.draining && !node.unreachable);
        match group.work.strategy {
            Strategy::StrictSpread => nodes.filter(|(number, _)| !is_held(number)).count() >= group.missing(),
            Strategy::StrictPack => {
                nodes.any(|(_, node)| times(&node.total, &group.work.needs.resources) >= group.missing())
            }
            Strategy::Pack | Strategy::Spread => nodes.next().is_some(),
        }
    }

    /// Nodes for all bundles that have none.
    fn places_for(&self, group: &Group) -> Option<Vec<NodeNumber>> {
        let held: BTreeSet<NodeNumber> = group.placed.iter().flatten().copied().collect();
        let Some(label) = &group.work.locality else { return self.within(group, &held, |_| true) };
        let value = |number: &NodeNumber| self.nodes.get(number).and_then(|node| node.labels.get(label));
        // Bundles that have a node have chosen the domain.
        let chosen = held.iter().find_map(value);
        let domains: BTreeSet<&String> = match chosen {
            Some(chosen) => BTreeSet::from([chosen]),
            None => self.nodes.keys().filter_map(value).collect(),
        };
        domains.into_iter().find_map(|domain| self.within(group, &held, |number| value(&number) == Some(domain)))
    }

    fn within(
        &self,
        group: &Group,
        held: &BTreeSet<NodeNumber>,
        is_allowed: impl Fn(NodeNumber) -> bool,
    ) -> Option<Vec<NodeNumber>> {
        let needs = &group.work.needs;
        let missing = group.missing();
        let mut free: BTreeMap<NodeNumber, Resources> = BTreeMap::new();
        for (number, node) in self.nodes.iter().filter(|(number, _)| is_allowed(**number)) {
            if node.takes(&needs.resources, &needs.labels) {
                free.insert(*number, Resources::clone(&node.free));
            }
        }
        let mut places = Vec::with_capacity(missing);
        match group.work.strategy {
            Strategy::StrictPack => {
                let target = match held.first() {
                    Some(number) => free.get(number).map(|free| (*number, times(free, &needs.resources))),
                    None => free
                        .iter()
                        .map(|(number, free)| (*number, times(free, &needs.resources)))
                        .find(|(_, times)| *times >= missing),
                };
                let (number, _) = target.filter(|(_, times)| *times >= missing)?;
                places.resize(missing, number);
            }
            Strategy::StrictSpread => {
                held.iter().for_each(|number| drop(free.remove(number)));
                for _ in 0..missing {
                    let number = best(&free, &needs.resources)?;
                    free.remove(&number);
                    places.push(number);
                }
            }
            Strategy::Spread => {
                let mut unused = free.clone();
                held.iter().for_each(|number| drop(unused.remove(number)));
                for _ in 0..missing {
                    let number = best(&unused, &needs.resources).or_else(|| best(&free, &needs.resources))?;
                    unused.remove(&number);
                    take(&mut free, number, &needs.resources);
                    places.push(number);
                }
            }
            Strategy::Pack => {
                while places.len() < missing {
                    let number = best(&free, &needs.resources)?;
                    // As many as there is room for before the next node is looked at.
                    while places.len() < missing && fits(&free[&number], &needs.resources) {
                        take(&mut free, number, &needs.resources);
                        places.push(number);
                    }
                }
            }
        }
        Some(places)
    }

    pub(super) fn end_group(&mut self, id: u64, at_us: u64) {
        let Some(group) = self.groups.remove(&id) else { return };
        self.notices.push(Notice::GangDone);
        for number in group.placed.into_iter().flatten() {
            if let Some(node) = self.nodes.get_mut(&number) {
                node.give_back(&group.work.needs.resources, at_us);
            }
            self.leave_if_drained(number, at_us);
        }
    }

    /// Bundles on a node that is lost wait for another one, and the work in the group starts again with them.
    pub(super) fn lose_bundles(&mut self, _now_us: u64, lost: NodeNumber) {
        for (id, group) in &mut self.groups {
            let mut has_lost = false;
            for place in group.placed.iter_mut().filter(|place| **place == Some(lost)) {
                *place = None;
                has_lost = true;
            }
            if has_lost {
                self.unplaced.insert(*id);
                if let Some(end_us) = group.end_us.take() {
                    self.group_ends.remove(&(end_us, *id));
                }
                self.notices.push(Notice::Disrupted);
            }
        }
    }
}

/// How often this fits.
fn times(free: &Resources, needs: &Resources) -> usize {
    let each = needs.iter().filter(|(_, amount)| amount.steps() > 0);
    let each = each.map(|(name, amount)| free.get(name).map_or(0, |free| free.steps() / amount.steps()));
    usize::try_from(each.min().unwrap_or(i64::MAX)).unwrap_or(0)
}

fn take(free: &mut BTreeMap<NodeNumber, Resources>, number: NodeNumber, needs: &Resources) {
    if let Some(free) = free.get_mut(&number) {
        mobula_autoscaler::pod_needs::take(free, needs, 1);
    }
}

/// The node of which the bundle leaves the largest share free.
fn best(free: &BTreeMap<NodeNumber, Resources>, needs: &Resources) -> Option<NodeNumber> {
    let mut best: Option<(f64, NodeNumber)> = None;
    for (number, free) in free.iter().filter(|(_, free)| fits(free, needs)) {
        let share = |(name, amount): (&String, &mobula_planner::Amount)| {
            let free = free.get(name).map_or(0.0, |free| free.as_f64());
            if free > 0.0 { (free - amount.as_f64()) / free } else { 0.0 }
        };
        let score: f64 = needs.iter().map(share).sum();
        if best.is_none_or(|(most, _)| score > most) {
            best = Some((score, *number));
        }
    }
    best.map(|(_, number)| number)
}
