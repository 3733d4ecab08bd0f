//! Gangs with bundles of several kinds that must be apart share hosts that are launched.
//!
//! Each of them takes hosts that are there, or launched for those before it, without asking what those after it need; and what is
//! launched for them is not packed anew with the rest, which can't tell their kinds apart. So they are placed once more when all
//! gangs are: each by itself, and all of them in other orders.

use std::cmp::Ordering;
use std::iter;

use super::Rules;
use super::board::{Board, Put};
use super::decide::{Draft, GangFate, MAX_RETRIED, cost, fix_replicas};
use super::demand::{GangWork, Together};
use super::gangs::{self, Indices};
use super::pools::Pool;
use super::repack::Repacked;
use super::waiting::MAX_WAITING;
use super::world::Origin;
use crate::DemandRef;

/// Most times that all of them are placed once more.
const MAX_ROUNDS: usize = 2;

impl<'a> Draft<'a> {
    /// Notes a gang that may have to be placed once more, if it is one and its pool is everything.
    pub(super) fn note_mixed(&mut self, work: &GangWork<'_>, pool: &Pool) {
        let is_mixed = work.together == Together::Apart && work.parts.len() > 1;
        if is_mixed && work.fabric.is_none() && !work.gang.rescheduling && pool.is_everywhere() {
            self.mixed.insert(work.at);
        }
    }

    /// A draft in which such gangs are placed once more (made by `again`), if that serves more, or as much and costs less.
    pub(super) fn exchanged(
        &self,
        rules: &Rules<'_>,
        again: impl FnOnce() -> Draft<'a>,
    ) -> Option<(Draft<'a>, Repacked, f64)> {
        let is_small = self.board.world.hosts.len() * self.gangs.len() <= MAX_RETRIED;
        let is_short = |work: &GangWork<'_>| self.mixed.contains(&work.at) && self.needs_more(work);
        if self.gangs.len() < 2 || !is_small || !self.gangs.iter().any(is_short) {
            return None;
        }
        let mut other = again();
        let (repacked, fixed_cost) = other.finish(rules);
        let is_cheaper = other.cost(rules) < self.cost(rules) * (1.0 - 1e-9);
        let is_better = match other.unserved().cmp(&self.unserved()) {
            Ordering::Less => true,
            Ordering::Equal => is_cheaper,
            Ordering::Greater => false,
        };
        is_better.then_some((other, repacked, fixed_cost))
    }

    /// Places these gangs once more, each by itself and all of them in other orders, as long as that serves more or is cheaper.
    pub(super) fn exchange(&mut self, rules: &Rules<'_>, gangs: &[GangWork<'a>]) {
        let mixed: Vec<&GangWork<'a>> = gangs.iter().filter(|work| self.mixed.contains(&work.at)).collect();
        for _ in 0..MAX_ROUNDS {
            let mut is_better = false;
            for work in mixed.iter().filter(|work| self.is_placed(work)).collect::<Vec<_>>() {
                is_better |= self.place_again(rules, &[*work]);
            }
            // Those that found too little room on hosts that are there choose first.
            let (mut placed, waiting): (Vec<_>, Vec<_>) = mixed.iter().copied().partition(|work| self.is_placed(work));
            for work in waiting.into_iter().take(MAX_WAITING) {
                let order: Vec<&GangWork<'a>> = iter::once(work).chain(placed.iter().copied()).collect();
                if self.place_again(rules, &order) {
                    (placed, is_better) = (order, true);
                }
            }
            placed.sort_by_key(|work| !self.needs_more(work));
            is_better |= self.place_again(rules, &placed);
            placed.reverse();
            is_better |= self.place_again(rules, &placed);
            if !is_better {
                return;
            }
        }
    }

    /// Whether a gang has no place, or some on hosts that are launched.
    fn needs_more(&self, work: &GangWork<'_>) -> bool {
        let is_new = |put: &Put| put.host as usize >= self.board.world.present && is_of(put, work);
        !self.is_placed(work) || self.board.puts.iter().any(is_new)
    }

    fn is_placed(&self, work: &GangWork<'_>) -> bool {
        self.fates[work.at as usize].is_placed
    }

    /// Places gangs once more in this order, without what is launched for them alone. Returns whether that serves more,
    /// or is cheaper; else all is as before.
    fn place_again(&mut self, rules: &Rules<'_>, works: &[&GangWork<'a>]) -> bool {
        let world = &self.board.world;
        let is_own = |put: &Put| works.iter().any(|work| is_of(put, work));
        let (own, others): (Vec<Put>, Vec<Put>) = self.board.puts.iter().partition(|put| is_own(put));
        let mut fixed = vec![true; world.hosts.len()];
        for at in own.iter().flat_map(Put::range).map(|host| host as usize) {
            if let Origin::New { host: number, .. } = world.hosts.origin[at] {
                let first = at - number as usize;
                let replica = world.groups[world.hosts.group[at] as usize].hosts as usize;
                fixed[first..first + replica].fill(false);
            }
        }
        fixed[..self.first_free].fill(true);
        others.iter().for_each(|put| fix_replicas(world, put, &mut fixed));
        let loose = self.board.loose(&fixed);
        // A host that is to grow would have to be found again, too.
        let serves_more = works.iter().any(|work| !self.is_placed(work));
        if (loose.is_empty() && !serves_more) || !world.grown.is_empty() {
            return false;
        }
        let mut trial = self.board.copy();
        trial.release(&loose, others, &own);
        for work in works {
            trial.limits = trial.limits.without_kept(&trial.world, Some(work.at));
        }
        let mark = trial.mark();
        let (everywhere, mut indices) = (Pool::everywhere(), Indices::none());
        let mut place = |work: &&GangWork<'a>| gangs::place(&mut trial, rules, work, &everywhere, &mut indices).is_ok();
        let is_cheaper = |trial: &Board<'_>| cost(trial, rules) < cost(&self.board, rules) * (1.0 - 1e-9);
        if !works.iter().all(&mut place) || !(serves_more || is_cheaper(&trial)) {
            return false;
        }
        gangs::keep(&mut trial, &mark);
        (self.board, self.indices) = (trial, Indices::none());
        self.fix(&mark);
        for work in works {
            let fate = &mut self.fates[work.at as usize];
            if !fate.is_placed {
                let condition = std::mem::take(&mut fate.condition);
                *fate = GangFate { is_placed: true, condition, ..GangFate::default() };
            }
        }
        true
    }
}

/// Whether something of a gang was put there.
fn is_of(put: &Put, work: &GangWork<'_>) -> bool {
    matches!(put.demand, DemandRef::Gang { gang, .. } if gang == work.at)
}
