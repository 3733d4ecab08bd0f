//! The same demand on cheaper hosts: what is launched for tasks and gangs is packed once more, all of it together.
//!
//! Gangs are placed one after the other and tasks after them, which says what can be served within all limits. What that
//! costs is looked at here: everything that may as well be elsewhere becomes one problem for [`crate::packing`], together
//! with what is free on hosts that are there anyway. Its answer is taken if it serves the same and is cheaper.

use std::collections::BTreeMap;

use super::Rules;
use super::board::{Board, Deal, Put};
use super::demand::{GangWork, Together};
use super::lots::{Level, Lot, Owner, PresentClass, Purchase, Way, level_of};
use super::tasks::in_filling_order;
use super::world::{HostId, ShapeId};
use crate::DemandRef;
use crate::packing::{self, ColumnPool, Packing, Pattern};

/// Most classes of present hosts that are packed anew; where there are more, what is on them stays as it is.
const MAX_PRESENT_CLASSES: usize = 48;
/// Most pieces of a kind on one host: beyond, demand is so fine that packing it anew gains nothing and takes for ever.
const MAX_TAKEN: i64 = 100_000;
/// Most lots that are packed anew.
const MAX_LOTS: usize = 1_000;
/// Most lots and bins of a problem that is improved in every tick.
const MAX_SMALL: usize = 100;
/// Work that is spent on such a problem in every tick: mostly less than a millisecond.
const TICK_WORK: u64 = 5_000;
/// What using a present host costs, in parts of the cheapest launch: it only chooses between them.
const PRESENT: f64 = 1e-9;

/// What came of it.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Repacked {
    /// Serving what was packed costs at least so much.
    pub lower_bound: f64,
    /// Whether `lower_bound` is proven, for all demand that may be elsewhere.
    pub is_proven: bool,
    /// Work that was spent.
    pub work: u64,
}

/// Gangs that may be elsewhere, by index in the snapshot, with the groups that they may use (`None`: anything).
pub(super) type FluidGangs<'g, 'a> = BTreeMap<u32, (&'g GangWork<'a>, Option<Vec<bool>>)>;

/// Packs anew what may be elsewhere, if that is cheaper. `fixed` says which launched hosts stay.
pub(super) fn repack(board: &mut Board<'_>, rules: &Rules<'_>, fixed: &[bool], gangs: &FluidGangs<'_, '_>) -> Repacked {
    let is_launched =
        |host: HostId| !fixed.get(host as usize).copied().unwrap_or(true) && host as usize >= board.world.present;
    if !board.puts.iter().any(|put| is_launched(put.host)) {
        return Repacked { is_proven: true, ..Repacked::default() };
    }
    if board.puts.iter().any(|put| put.taken > MAX_TAKEN) {
        return Repacked::default();
    }
    // What may be on any host may change places with what is on present hosts, too.
    let is_free = |put: &Put| match put.demand {
        DemandRef::Class(_) => true,
        DemandRef::Gang { gang, .. } => matches!(gangs.get(&gang), Some((_, None))),
    };
    let (free, rest): (Vec<Put>, Vec<Put>) = board.puts.iter().partition(|put| is_free(put));
    let mut trial = board.clone();
    let before = trial.release(fixed, &rest, &free, rules);
    let present = present_classes(&trial, rules);
    if let Some(present) = present {
        let (launched, kept): (Vec<Put>, Vec<Put>) = rest.iter().partition(|put| is_launched(put.host));
        trial.puts = kept;
        let fluid: Vec<Put> = free.into_iter().chain(launched).collect();
        let is_everything = rest.is_empty();
        let repacked = repack_on(board, trial, rules, &fluid, gangs, present, before);
        return Repacked { is_proven: repacked.is_proven && is_everything, ..repacked };
    }
    let (launched, kept): (Vec<Put>, Vec<Put>) = board.puts.iter().partition(|put| is_launched(put.host));
    let mut trial = board.clone();
    let before = trial.release(fixed, &kept, &[], rules);
    let repacked = repack_on(board, trial, rules, &launched, gangs, Vec::new(), before);
    Repacked { is_proven: false, ..repacked }
}

fn repack_on<'a>(
    board: &mut Board<'a>,
    mut trial: Board<'a>,
    rules: &Rules<'_>,
    fluid: &[Put],
    gangs: &FluidGangs<'_, '_>,
    present: Vec<PresentClass>,
    before: f64,
) -> Repacked {
    let Sorted { lots, packing: start } = Sorted::new(board, &trial, rules, fluid, gangs, &present);
    if lots.len() > MAX_LOTS {
        return Repacked::default();
    }
    let mut purchase = Purchase::new(&trial, rules, lots, present);
    let is_whole = |packing: &Packing| packing.left.iter().all(|left| *left == 0);
    let mut best = packing::greedy(&purchase.problem);
    let starts_well = packing::check(&purchase.problem, &start).is_ok();
    let start_is_better = !is_whole(&best) || start.cost(&purchase.problem) < best.cost(&purchase.problem);
    if starts_well && start_is_better {
        best = start;
    }
    // Every bound that packing gives holds; how near the plan is to it, is another question.
    let lower_bound = packing::lower_bound(&purchase.problem);
    let mut result = Repacked { lower_bound, is_proven: is_whole(&best), work: 0 };
    let is_small = purchase.lots.len() + purchase.problem.bins.len() <= MAX_SMALL;
    let work = if is_small { rules.improve_work.max(TICK_WORK) } else { rules.improve_work };
    if work > 0 && is_whole(&best) {
        let mut pool = ColumnPool::default();
        let improved = packing::improve(&purchase.problem, &best, work, &mut pool);
        result.lower_bound = result.lower_bound.max(improved.lower_bound);
        result.work = improved.work;
        if is_whole(&improved.packing) {
            best = improved.packing;
        }
    }
    let (cost, complete) = purchase.carry_out(&mut trial, rules, &best);
    // Checked again in integers: a packing that does not hold is never carried out.
    if complete && is_whole(&best) && cost < before && packing::check(&purchase.problem, &best).is_ok() {
        *board = trial;
    }
    result
}

/// Hosts that are there anyway and have something free, in classes; `None` if there are too many.
fn present_classes(trial: &Board<'_>, rules: &Rules<'_>) -> Option<Vec<PresentClass>> {
    let world = &trial.world;
    let cheapest = rules.prices.cost.iter().copied().filter(|cost| *cost > 0.0).fold(f64::MAX, f64::min);
    let cheapest = if cheapest == f64::MAX { 0.0 } else { cheapest };
    let mut classes: Vec<PresentClass> = Vec::new();
    let mut class_of: BTreeMap<(u8, bool, u32, Vec<i64>), usize> = BTreeMap::new();
    for (state, host) in in_filling_order(world) {
        let at = host as usize;
        if world.hosts.is_given_up[at] || world.hosts.free.iter().all(|column| column[at] <= 0) {
            continue;
        }
        let free: Vec<i64> = world.hosts.free.iter().map(|column| column[at]).collect();
        let (kind, is_scarce) = (world.hosts.kind[at], world.hosts.is_scarce[at]);
        let next = classes.len();
        let class = *class_of.entry((state, is_scarce, kind, free.clone())).or_insert(next);
        if class == next {
            if next == MAX_PRESENT_CLASSES {
                return None;
            }
            let cost = cheapest * PRESENT * f64::from(1 + state + if is_scarce { 4 } else { 0 });
            classes.push(PresentClass { kind, is_scarce, free, cost, hosts: Vec::new() });
        }
        classes[class].hosts.push(host);
    }
    Some(classes)
}

/// Demand that may be elsewhere in lots, and how it is packed now.
struct Sorted {
    lots: Vec<Lot>,
    packing: Packing,
}

/// What makes demand alike: shape, bins, and for gangs with bundles apart the size.
type LotKey = (ShapeId, Vec<bool>, u32);

impl Sorted {
    fn new(
        board: &Board<'_>,
        trial: &Board<'_>,
        rules: &Rules<'_>,
        fluid: &[Put],
        gangs: &FluidGangs<'_, '_>,
        present: &[PresentClass],
    ) -> Self {
        // Pieces of one owner and one shape belong together; those of tasks by level of preference, so that none of them goes
        // further down than it has to. (A gang is at one level.)
        let level = |put: &Put| {
            let is_launched = put.host as usize >= board.world.present && matches!(put.demand, DemandRef::Class(_));
            let group = board.world.hosts.group[put.host as usize] as usize;
            is_launched.then(|| level_of(trial, rules, put.shape, group)).flatten()
        };
        let mut pieces: BTreeMap<(ShapeId, DemandOwner, Option<Level>), Vec<&Put>> = BTreeMap::new();
        for put in fluid {
            pieces.entry((put.shape, DemandOwner::of(put.demand), level(put))).or_default().push(put);
        }
        let groups = trial.world.groups.len();
        let class_of: BTreeMap<HostId, usize> =
            (groups..).zip(present).flat_map(|(bin, class)| class.hosts.iter().map(move |host| (*host, bin))).collect();
        let mut lots: Vec<Lot> = Vec::new();
        let mut lot_of: BTreeMap<LotKey, usize> = BTreeMap::new();
        let mut patterns: BTreeMap<HostId, BTreeMap<usize, u32>> = BTreeMap::new();
        for ((shape, owner, _), puts) in pieces {
            let bins = allowed(board, trial, rules, shape, &puts, owner.pool(gangs), present);
            let taken: u64 = puts.iter().map(|put| put.taken.max(0) as u64).sum();
            let (owner, apart) = owner.into_lot_owner(gangs, shape, &puts, taken);
            let size = if apart { taken as u32 } else { u32::MAX };
            let at = *lot_of.entry((shape, bins.clone(), size)).or_insert_with(|| {
                let way = if apart { Way::RoundRobin } else { Way::InTurn };
                lots.push(Lot { shape, most_per_host: u32::MAX, bins, owners: Vec::new(), count: 0, way });
                lots.len() - 1
            });
            lots[at].owners.push(owner);
            lots[at].count += taken;
            for put in puts {
                *patterns.entry(put.host).or_default().entry(at).or_default() += put.taken.max(0) as u32;
            }
        }
        for lot in lots.iter_mut().filter(|lot| lot.way == Way::RoundRobin) {
            lot.most_per_host = u32::try_from(lot.owners.len()).unwrap_or(u32::MAX);
        }
        let mut times: BTreeMap<(usize, Vec<(usize, u32)>), u64> = BTreeMap::new();
        for (host, items) in patterns {
            let group = board.world.hosts.group[host as usize] as usize;
            let bin = class_of.get(&host).copied().unwrap_or(group);
            *times.entry((bin, items.into_iter().collect())).or_default() += 1;
        }
        let patterns = times.into_iter().map(|((bin, items), times)| Pattern { bin, items, times }).collect();
        let packing = Packing { patterns, left: vec![0; lots.len()] };
        Sorted { lots, packing }
    }
}

/// Whose a piece of demand is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum DemandOwner {
    Class(u32),
    Gang(u32),
}

impl DemandOwner {
    fn of(demand: DemandRef) -> Self {
        match demand {
            DemandRef::Class(at) => DemandOwner::Class(at),
            DemandRef::Gang { gang, .. } => DemandOwner::Gang(gang),
        }
    }

    /// Groups that it may use; `None`: anything.
    fn pool<'p>(self, gangs: &'p FluidGangs<'_, '_>) -> Option<&'p [bool]> {
        match self {
            DemandOwner::Class(_) => None,
            DemandOwner::Gang(at) => gangs.get(&at).and_then(|(_, groups)| groups.as_deref()),
        }
    }

    /// As owner of a lot, and whether its bundles must be apart.
    fn into_lot_owner(self, gangs: &FluidGangs<'_, '_>, shape: ShapeId, puts: &[&Put], taken: u64) -> (Owner, bool) {
        match self {
            DemandOwner::Class(at) => (Owner::Class(at, taken), false),
            DemandOwner::Gang(at) => {
                let together = gangs.get(&at).map(|(work, _)| work.together);
                let deal = Deal::again(at, shape, together == Some(Together::One), puts);
                (Owner::Gang(deal, taken as u32), together == Some(Together::Apart))
            }
        }
    }
}

/// By bin: whether it may hold a piece of demand. Groups are opened as far down the levels of preference as they are now.
fn allowed(
    board: &Board<'_>,
    trial: &Board<'_>,
    rules: &Rules<'_>,
    shape: ShapeId,
    puts: &[&Put],
    pool: Option<&[bool]>,
    present: &[PresentClass],
) -> Vec<bool> {
    let groups = 0..trial.world.groups.len();
    let levels: Vec<Option<Level>> = groups.map(|group| level_of(trial, rules, shape, group)).collect();
    let launched = puts.iter().filter(|put| put.host as usize >= board.world.present);
    let now = launched.filter_map(|put| levels[board.world.hosts.group[put.host as usize] as usize]).max();
    let worst = now.or(levels.iter().flatten().min().copied());
    // Without prices, what is clean of accelerators now stays so.
    let is_misuse = |put: &&Put| board.world.hosts.is_scarce[put.host as usize];
    let needs = &trial.world.shapes[shape as usize];
    let is_clean =
        !needs.is_scarce && (rules.keep_gpu_clean || (!rules.prices.is_priced && !puts.iter().any(is_misuse)));
    let may = |group: usize| {
        let is_in_pool = pool.is_none_or(|pool| pool.get(group).copied().unwrap_or(false));
        is_in_pool && !(is_clean && trial.world.groups[group].is_scarce)
    };
    let open = levels.iter().enumerate().map(|(group, level)| level.is_some() && *level <= worst && may(group));
    let holds = |class: &PresentClass| {
        pool.is_none() && !(is_clean && class.is_scarce) && trial.world.rank(needs, class.kind).is_some()
    };
    open.chain(present.iter().map(holds)).collect()
}
