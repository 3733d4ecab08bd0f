//! Where limits leave work without a place: what the next tick would find out once all that is launched is there.
//!
//! Gangs come first. One that is looked at when hosts for others are launched already may fit there, and what was launched for
//! it has room for others then. Found out now, it need not be launched in two steps. Where it is known which Kubernetes
//! nodes have room, that is left to the next tick, which sees where the hosts have come up.

use super::board::Put;
use super::decide::{Draft, MAX_RETRIED, fix_replicas};
use super::demand::{Class, GangWork, Together};
use super::floors::launched_since;
use super::repack::Repacked;
use super::world::{Origin, need};
use super::{Rules, tasks};
use crate::DemandRef;

/// Most gangs that are spread again one by one.
const MAX_SPREAD_AGAIN: usize = 4;

impl Draft<'_> {
    /// Where limits leave tasks without a place, those that only few groups can hold may have lost theirs to others: tries what
    /// is launched for tasks again, one class after the other, and takes that if it serves more.
    pub(super) fn serve_the_hardest_first(&mut self, rules: &Rules<'_>) {
        let world = &self.board.world;
        let launched = world.hosts.len() - world.present;
        if launched == 0
            || launched * self.classes.len() > MAX_RETRIED
            || self.classes.iter().all(|class| class.count == 0)
        {
            return;
        }
        let is_retried = |put: &Put| put.host as usize >= world.present && matches!(put.demand, DemandRef::Class(_));
        let (retried, kept): (Vec<Put>, Vec<Put>) = self.board.puts.iter().partition(|put| is_retried(put));
        let mut fixed = self.fixed.clone();
        fixed.resize(world.hosts.len(), false);
        for put in kept.iter().filter(|put| put.host as usize >= world.present) {
            fix_replicas(world, put, &mut fixed);
        }
        let mut trial = self.board.copy();
        let loose = trial.loose(&fixed);
        trial.release(&loose, kept, &retried);
        let mut classes = self.classes.clone();
        for class in &mut classes {
            let given_back = retried.iter().filter(|put| put.demand == DemandRef::Class(class.at)).map(Put::pieces);
            class.count = given_back.fold(class.count, u64::saturating_add);
            tasks::serve(&mut trial, rules, std::slice::from_mut(class));
        }
        let left = |classes: &[Class]| classes.iter().map(|class| class.count).fold(0, u64::saturating_add);
        if left(&classes) < left(&self.classes) {
            (self.board, self.classes) = (trial, classes);
        }
    }

    /// A draft that starts from what this one launches (given by group to `again`), if it serves more and leaves nothing that
    /// is launched empty.
    pub(super) fn seen_again<'a>(
        &self,
        rules: &Rules<'_>,
        again: impl FnOnce(&[u64]) -> Draft<'a>,
    ) -> Option<(Draft<'a>, Repacked, f64)> {
        let launched = launched_since(&self.board, self.board.world.present);
        let hosts = self.board.world.hosts.len() - self.board.world.present;
        let (gangs, _, tasks) = self.unserved();
        let is_short = gangs.contains(&true) || tasks > 0;
        let is_anywhere = self.board.world.snapshot.hosts.is_empty();
        let is_small = hosts * self.classes.len().max(1) <= MAX_RETRIED;
        if !is_short || !is_anywhere || !is_small || self.gangs.is_empty() || hosts == 0 {
            return None;
        }
        let mut other = again(&launched);
        let (repacked, fixed_cost) = other.finish(rules);
        (other.unserved() < self.unserved() && !other.has_empty()).then_some((other, repacked, fixed_cost))
    }

    /// A draft in which some SPREAD gangs go over as few hosts as PACK ones (made by `again`, which is given them), if that serves
    /// more: to spread is worth nobody's place. Those that are in nobody's way are spread, as far as there are few.
    pub(super) fn packed_instead<'a>(
        &self,
        rules: &Rules<'_>,
        again: impl Fn(&[u32]) -> Draft<'a>,
    ) -> Option<(Draft<'a>, Repacked, f64)> {
        let (gangs, _, tasks) = self.unserved();
        let is_short = gangs.contains(&true) || tasks > 0;
        let is_small = self.gangs.len().max(1) * self.board.world.hosts.len() <= MAX_RETRIED;
        let is_spread = |work: &&GangWork<'_>| work.together == Together::Many && work.gang.bundles.len() > 1;
        let mut packed: Vec<u32> = self.gangs.iter().filter(is_spread).map(|work| work.at).collect();
        if !is_short || !is_small || packed.is_empty() {
            return None;
        }
        packed.sort_unstable();
        let draft = |packed: &[u32]| {
            let mut other = again(packed);
            let (repacked, fixed_cost) = other.finish(rules);
            (other, repacked, fixed_cost)
        };
        let mut best = draft(&packed);
        if best.0.unserved() >= self.unserved() {
            return None;
        }
        for gang in packed.clone().into_iter().take(MAX_SPREAD_AGAIN) {
            let fewer: Vec<u32> = packed.iter().copied().filter(|other| *other != gang).collect();
            let other = draft(&fewer);
            if other.0.unserved() <= best.0.unserved() {
                (packed, best) = (fewer, other);
            }
        }
        Some(best)
    }

    /// Whether something is launched that nothing needs.
    fn has_empty(&self) -> bool {
        let hosts = &self.board.world.hosts;
        let mut first_of_replica = 0;
        let mut needed = vec![false; hosts.len()];
        for host in self.board.world.present..hosts.len() {
            if matches!(hosts.origin[host], Origin::New { host: 0, .. }) {
                first_of_replica = host;
            }
            let is_fixed = self.fixed.get(host).copied().unwrap_or(true);
            needed[first_of_replica] |= is_fixed || hosts.is_given_up[host] || hosts.needed[host] & !need::HELD != 0;
        }
        let is_first = |host: &usize| matches!(hosts.origin[*host], Origin::New { host: 0, .. });
        (self.board.world.present..hosts.len()).filter(is_first).any(|host| !needed[host])
    }
}
