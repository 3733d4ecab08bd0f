//! Room for what found no place, among what may be elsewhere.
//!
//! Demand is placed one piece after the other. Where room is scarce, what came first may be where only something that found no
//! place could have been: a task in the one group that has a label, a gang spread over what the next one needs. So all that
//! may be elsewhere is packed once more together with what is left. A host that does not exist, dearer than all others, stands
//! in for the place that a piece has not: to pack cheaply then means to serve as much as possible. What is served stays
//! served.

use std::collections::BTreeMap;

use super::Rules;
use super::board::{Board, Deal, Put};
use super::decide::{Draft, GangFate, fix_replicas, fluid};
use super::demand::{Class, GangWork, Part, Together};
use super::lots::{Lot, Owner, PresentClass, Purchase, Way, levels_of, open_groups};
use super::pools::{Map, Places, Pool};
use super::repack::{Fluid, Ground, Lifted, MAX_SMALL, MAX_TAKEN, Sorted, lift};
use super::world::{ShapeId, World};
use crate::DemandRef;
use crate::packing::{self, Bin, ColumnPool, Packing, Pattern, Problem};

/// Work that is spent: about a millisecond, and the same whatever may be spent on cost, which must not change what is served.
const WORK: u64 = 10_000;
/// Most tasks that may lose their place to a gang; where there are more, it takes room from none of them.
const MAX_DISPLACED: u64 = 10_000;
/// A place that is missing is dearer by so much than the dearest replica.
const DEARER: f64 = 100.0;
/// Most hosts of a cluster in which it is tried at all.
const MAX_HOSTS: usize = 20_000;
/// Most gangs that are looked at.
const MAX_SQUEEZED: usize = 4;

impl<'a> Draft<'a> {
    /// Finds places for what has none among what may be elsewhere; returns whether more is served then. Gangs that have to be
    /// in a domain or a fabric are left out: what is packed knows of those only where they are.
    pub(super) fn squeeze(&mut self, rules: &Rules<'_>, map: &Map<'a>) -> bool {
        let (mut serves_more, mut looks) = (false, 0);
        // What a gang in vain looked like: another one that is the same would look in vain, too.
        let mut vain: Vec<(Together, Vec<(ShapeId, u32)>)> = Vec::new();
        let kinds = self.classes.len() + self.board.world.groups.len();
        if self.board.world.hosts.len() > MAX_HOSTS || kinds > MAX_SMALL {
            return false;
        }
        // What was launched last may be packed anew like the rest.
        self.fixed.resize(self.board.world.hosts.len(), false);
        for at in 0..self.gangs.len() {
            if looks == MAX_SQUEEZED || !self.is_free_to_move(at) {
                continue;
            }
            let work = &self.gangs[at];
            let looks_like = (work.together, work.parts.iter().map(|part| (part.shape, part.count)).collect());
            if vain.contains(&looks_like) {
                continue;
            }
            looks += 1;
            if !self.may_be_anywhere(map, at) {
                continue;
            }
            let work = &self.gangs[at];
            let fluid = fluid(&self.fixed, &self.gangs, &self.fluid, None);
            if squeeze(&mut self.board, rules, &fluid, &mut self.classes, Some(work)) {
                let fate = &mut self.fates[work.at as usize];
                *fate =
                    GangFate { is_placed: true, condition: std::mem::take(&mut fate.condition), ..GangFate::default() };
                self.fixed.resize(self.board.world.hosts.len(), false);
                let puts = || self.board.puts.iter().filter(|put| is_of(put, work.at));
                if self.is_at_one_level(puts()) {
                    self.fluid.insert(work.at, None);
                } else {
                    puts().for_each(|put| fix_replicas(&self.board.world, put, &mut self.fixed));
                }
                serves_more = true;
                vain.clear();
            } else {
                vain.push(looks_like);
            }
        }
        if self.unserved().2 > 0 {
            let fluid = fluid(&self.fixed, &self.gangs, &self.fluid, None);
            serves_more |= squeeze(&mut self.board, rules, &fluid, &mut self.classes, None);
            self.fixed.resize(self.board.world.hosts.len(), false);
        }
        serves_more
    }

    /// Whether a gang has no place, was not compared in several domains or fabrics, and can be packed with others: bundles of
    /// several kinds that have to be apart can't.
    fn is_free_to_move(&self, at: usize) -> bool {
        let work = &self.gangs[at];
        let fate = &self.fates[work.at as usize];
        let is_alike = work.together != Together::Apart || work.parts.len() == 1;
        is_alike && !work.gang.rescheduling && !fate.is_placed && fate.rooms.is_none() && fate.nearest.is_none()
    }

    /// Whether a gang may have any place.
    fn may_be_anywhere(&mut self, map: &Map<'a>, at: usize) -> bool {
        let Places { tiers, .. } = map.places(&self.board, &self.gangs[at], &mut self.sites);
        tiers.first().is_some_and(|tier| tier.pools.iter().any(Pool::is_everywhere))
    }
}

/// Whether this is a part of a gang.
fn is_of(put: &Put, at: u32) -> bool {
    matches!(put.demand, DemandRef::Gang { gang, .. } if gang == at)
}

/// Packs what may be elsewhere together with the tasks that have no place, or with a gang that has none: then tasks may lose
/// theirs, since they come after gangs. `of` says what may be elsewhere. Returns whether more is served now; if not, nothing
/// has changed.
pub(super) fn squeeze(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    of: &Fluid<'_, '_>,
    classes: &mut [Class],
    gang: Option<&GangWork<'_>>,
) -> bool {
    let is_clean = |put: &Put| !board.world.shapes[put.shape as usize].is_scarce;
    let can_be_misplaced = !rules.prices.is_priced && !rules.keep_gpu_clean && board.puts.iter().any(is_clean);
    let mut attempt = |is_kept_clean| squeeze_once(board, rules, (of, is_kept_clean), classes, gang);
    // That work has its place comes before hosts with accelerators being kept for work that needs some.
    attempt(true) || (can_be_misplaced && attempt(false))
}

/// Does that, with what is clean of accelerators staying so or not.
fn squeeze_once(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    (of, is_kept_clean): (&Fluid<'_, '_>, bool),
    classes: &mut [Class],
    gang: Option<&GangWork<'_>>,
) -> bool {
    // What is many kinds of things is not looked at in the time of a tick; nor what is so fine that it would take for ever.
    if board.puts.iter().any(|put| put.taken > MAX_TAKEN) || classes.len() + board.world.groups.len() > MAX_SMALL {
        return false;
    }
    let Some(Lifted { board: mut trial, fluid, present }) = lift(board, rules, of) else { return false };
    if let Some(work) = gang {
        trial.limits = trial.limits.without_kept(&trial.world, Some(work.at));
    }
    let ground = Ground { limits: trial.limits.clone(), present, before: 0.0, is_wasteful: true, is_kept_clean };
    let Sorted { mut lots, placed } = Sorted::new(board, rules, (of, &fluid), &ground);
    let (served, start) = (lots.len(), placed.packing(board, lots.len()));
    let is_open = open_groups(&board.world, &ground.limits);
    let extra = Extra { world: &board.world, rules, is_open, present: &ground.present };
    match gang {
        Some(work) => lots.extend(work.parts.iter().map(|part| extra.part(work, part))),
        None => lots.extend(classes.iter().filter(|class| class.count > 0).map(|class| extra.class(class))),
    }
    // Tasks that nothing can hold for now stay without a place; a gang needs one for each of its bundles.
    let (offered, hopeless): (Vec<Lot>, Vec<Lot>) = lots.drain(served..).partition(|lot| lot.bins.contains(&true));
    let number = served + offered.len() + board.world.groups.len() + ground.present.len();
    if offered.is_empty() || (gang.is_some() && !hopeless.is_empty()) || number > MAX_SMALL {
        return false;
    }
    lots.extend(offered);
    let mut purchase = Purchase::new(&board.world, &ground.limits, rules, lots, ground.present);
    let Some(packing) = pack(&mut purchase, start, served, gang.is_some()) else { return false };
    let (_, is_complete) = purchase.carry_out(&mut trial, rules, &packing);
    let mut left: BTreeMap<u32, u64> = BTreeMap::new();
    for owner in hopeless.iter().chain(&purchase.lots).flat_map(|lot| &lot.owners) {
        match owner {
            Owner::Class(at, count) => *left.entry(*at).or_default() += count,
            Owner::Gang(..) => return false,
        }
    }
    let were_left = classes.iter().map(|class| class.count).fold(0, u64::saturating_add);
    if !is_complete || (gang.is_none() && left.values().copied().fold(0, u64::saturating_add) >= were_left) {
        return false;
    }
    for class in classes {
        let before = if gang.is_some() { class.count } else { 0 };
        class.count = before + left.get(&class.at).copied().unwrap_or(0);
    }
    *board = trial;
    true
}

/// Packs all lots, the first of which are `served` already, as `start` says; `None`: the others find no place. If they are
/// those of a gang, tasks may lose theirs.
fn pack(purchase: &mut Purchase, mut start: Packing, served: usize, is_gang: bool) -> Option<Packing> {
    let Purchase { lots, problem, .. } = purchase;
    let tasks = pieces_of_tasks(lots);
    let is_of_tasks = |lot: &Lot| lot.owners.iter().all(|owner| matches!(owner, Owner::Class(..)));
    let may_lose = |at: usize| at < served && is_gang && tasks <= MAX_DISPLACED && is_of_tasks(&lots[at]);
    if !has_room(problem, may_lose, served, is_gang) {
        return None;
    }
    let (bins, mut steered) = (problem.bins.len(), packing::greedy(problem));
    // More than whatever could be launched for one piece.
    let replicas = problem.bins.iter().map(|bin| bin.price * f64::from(bin.hosts));
    let dearest = replicas.filter(|price| price.is_finite()).fold(0.0, f64::max);
    let missing = if dearest > 0.0 { dearest * DEARER } else { 1.0 };
    start.left.resize(lots.len(), 0);
    for at in (0..lots.len()).filter(|at| *at >= served || may_lose(*at)) {
        // A bundle of a gang weighs more than all tasks.
        let weight = if is_gang && at >= served { tasks as f64 + 1.0 } else { 1.0 };
        let bin = problem.stand_in(at, missing * weight);
        let left_out = steered.left[at];
        let left = if at >= served { problem.items[at].count } else { 0 };
        for (packing, left) in [(&mut start, left), (&mut steered, left_out)] {
            packing.patterns.push(Pattern { bin, items: vec![(at, 1)], times: left });
            packing.left[at] = 0;
        }
    }
    let best = solve(problem, [start, steered]);
    problem.bins.truncate(bins);
    let mut best = best?;
    best.patterns.retain(|pattern| pattern.bin < bins);
    Some(best)
}

/// Whether the sums leave room: for one piece of some task, or for a whole gang. Where everything is full, as it is for as long as
/// work waits for a quota, it is no use to look any further.
fn has_room(problem: &Problem, may_lose: impl Fn(usize) -> bool, served: usize, is_gang: bool) -> bool {
    let resources = problem.items.iter().map(|item| item.size.len()).max().unwrap_or(0);
    let amount = |amounts: &[i64], resource: usize| i128::from(amounts.get(resource).copied().unwrap_or(0).max(0));
    let asked = |at: usize, resource: usize| amount(&problem.items[at].size, resource);
    let mut free: Vec<i128> = Vec::with_capacity(resources);
    for resource in 0..resources {
        let has = problem.bins.iter().map(|bin| {
            let hosts = bin.most.saturating_mul(bin.hosts.into()).min(problem.most_hosts);
            amount(&bin.capacity, resource).saturating_mul(hosts.into())
        });
        let stays = (0..problem.items.len()).filter(|at| if *at < served { !may_lose(*at) } else { is_gang });
        let taken = stays.map(|at| asked(at, resource).saturating_mul(problem.items[at].count.into()));
        free.push(has.fold(0, i128::saturating_add).saturating_sub(taken.fold(0, i128::saturating_add)));
    }
    // However the rest is packed, so many of a piece hosts can hold at most.
    let holds = |at: usize| {
        let item = &problem.items[at];
        let of_bin = |bin: &Bin| {
            let each = (0..resources).filter(|resource| asked(at, *resource) > 0);
            let each = each.map(|resource| amount(&bin.capacity, resource) / asked(at, resource)).min();
            let hosts = bin.most.saturating_mul(bin.hosts.into()).min(problem.most_hosts);
            each.map_or(i128::MAX, |each| each.min(item.most_per_bin.into()).saturating_mul(hosts.into()))
        };
        let open = problem.bins.iter().zip(&item.bins).filter(|(_, is_open)| **is_open);
        open.map(|(bin, _)| of_bin(bin)).fold(0, i128::saturating_add)
    };
    if is_gang && (served..problem.items.len()).any(|at| holds(at) < problem.items[at].count.into()) {
        return false;
    }
    let fits = |at: usize| free.iter().enumerate().all(|(resource, free)| asked(at, resource) <= *free);
    if is_gang { free.iter().all(|free| *free >= 0) } else { (served..problem.items.len()).any(fits) }
}

/// The best packing that leaves nothing out, from the best of several starts; `None`: none is known.
fn solve(problem: &Problem, starts: [Packing; 2]) -> Option<Packing> {
    let is_whole = |packing: &Packing| packing.left.iter().all(|left| *left == 0);
    let is_sound = |packing: &Packing| is_whole(packing) && packing::check(problem, packing).is_ok();
    let starts = starts.into_iter().chain([packing::greedy(problem)]).filter(is_sound);
    let start = starts.min_by(|a, b| a.cost(problem).total_cmp(&b.cost(problem)))?;
    Some(packing::improve(problem, &start, WORK, &mut ColumnPool::default()).packing).filter(is_sound)
}

/// Pieces of tasks and actors in these lots.
fn pieces_of_tasks(lots: &[Lot]) -> u64 {
    let of_owner = |owner: &Owner| match owner {
        Owner::Class(_, count) => *count,
        Owner::Gang(..) => 0,
    };
    lots.iter().flat_map(|lot| &lot.owners).map(of_owner).fold(0, u64::saturating_add)
}

/// What has no place yet, as lots that may be wherever anything of them may.
struct Extra<'b, 'a> {
    world: &'b World<'a>,
    rules: &'b Rules<'b>,
    is_open: Vec<bool>,
    present: &'b [PresentClass],
}

impl Extra<'_, '_> {
    fn class(&self, class: &Class) -> Lot {
        Lot {
            shape: class.shape,
            most_per_host: u32::MAX,
            bins: self.bins(class.shape),
            owners: vec![Owner::Class(class.at, class.count)],
            count: class.count,
            way: Way::InTurn,
        }
    }

    fn part(&self, work: &GangWork<'_>, part: &Part) -> Lot {
        let is_apart = work.together == Together::Apart;
        Lot {
            shape: part.shape,
            most_per_host: if is_apart { 1 } else { u32::MAX },
            bins: self.bins(part.shape),
            owners: vec![Owner::Gang(Deal::new(work, part), part.count)],
            count: u64::from(part.count),
            way: if is_apart { Way::RoundRobin } else { Way::InTurn },
        }
    }

    fn bins(&self, shape: ShapeId) -> Vec<bool> {
        let needs = &self.world.shapes[shape as usize];
        let is_kept_clean = self.rules.keep_gpu_clean && !needs.is_scarce;
        let groups = levels_of(self.world, self.rules, shape, &self.is_open).into_iter().map(|level| level.is_some());
        let may =
            |class: &PresentClass| !(is_kept_clean && class.is_scarce) && self.world.rank(needs, class.kind).is_some();
        groups.chain(self.present.iter().map(may)).collect()
    }
}

impl Problem {
    /// Adds a host that does not exist for each piece of an item: what is on one is nowhere. Returns the bin.
    fn stand_in(&mut self, item: usize, price: f64) -> usize {
        let (capacity, most) = (self.items[item].size.clone(), self.items[item].count);
        for (at, other) in self.items.iter_mut().enumerate() {
            other.bins.resize(self.bins.len(), false);
            other.bins.push(at == item);
        }
        self.bins.push(Bin { capacity, price, hosts: 1, most });
        self.most_hosts = self.most_hosts.saturating_add(most);
        self.bins.len() - 1
    }
}
