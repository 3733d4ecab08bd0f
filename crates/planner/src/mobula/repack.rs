//! The same demand on cheaper hosts: what is launched for tasks and gangs is packed once more, all of it together.
//!
//! Gangs are placed one after the other and tasks after them, which says what can be served within all limits. What that
//! costs is looked at here: everything that is put on launched hosts, and that may as well be put on others, becomes one
//! problem for [`crate::packing`]. Its answer is taken if it serves the same and is cheaper.

use std::collections::BTreeMap;

use super::Rules;
use super::board::{Board, Deal, Put};
use super::demand::{GangWork, Together};
use super::lots::{Lot, Owner, Purchase, Way, level_of};
use super::world::ShapeId;
use crate::DemandRef;
use crate::packing::{self, ColumnPool, Packing, Pattern};

/// What came of it.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Repacked {
    /// Serving what was packed costs at least so much.
    pub lower_bound: f64,
    /// What was packed costs so much now.
    pub cost: f64,
    /// Whether `lower_bound` is proven.
    pub is_proven: bool,
    /// Work that was spent.
    pub work: u64,
}

/// Packs anew what is on launched hosts, if that is cheaper. `fixed` says which hosts stay as they are; `gangs` are by index
/// in the snapshot, those that may be moved with the groups that they may use.
pub(super) fn repack(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    fixed: &[bool],
    gangs: &BTreeMap<u32, (&GangWork<'_>, Option<Vec<bool>>)>,
) -> Repacked {
    let is_fluid = |put: &Put| !fixed.get(put.host as usize).copied().unwrap_or(true);
    let (fluid, kept): (Vec<Put>, Vec<Put>) = board.puts.iter().partition(|put| is_fluid(put));
    if fluid.is_empty() {
        return Repacked { is_proven: true, ..Repacked::default() };
    }
    let mut trial = board.clone();
    let released = trial.release(fixed, &kept);
    let before: f64 = released
        .iter()
        .enumerate()
        .map(|(at, replicas)| rules.prices.cost[at] * (*replicas * u64::from(board.world.groups[at].hosts)) as f64)
        .sum();
    let sorted = Sorted::new(board, &trial, rules, &fluid, gangs);
    let (start, lots) = (sorted.packing, sorted.lots);
    let mut purchase = Purchase::new(&trial, rules, lots);
    let mut best = packing::greedy(&purchase.problem);
    let is_whole = |packing: &Packing| packing.left.iter().all(|left| *left == 0);
    if !is_whole(&best) || best.cost(&purchase.problem) > start.cost(&purchase.problem) {
        best = start;
    }
    let mut result = Repacked { lower_bound: packing::lower_bound(&purchase.problem), ..Repacked::default() };
    if rules.improve_work > 0 {
        let mut pool = ColumnPool::default();
        let improved = packing::improve(&purchase.problem, &best, rules.improve_work, &mut pool);
        result.lower_bound = result.lower_bound.max(improved.lower_bound);
        result.is_proven = improved.is_proven;
        result.work = improved.work;
        if is_whole(&improved.packing) {
            best = improved.packing;
        }
    }
    let (cost, complete) = purchase.carry_out(&mut trial, rules, &best);
    result.cost = before;
    // Checked again in integers: a packing that does not hold is never carried out.
    if complete && cost < before && packing::check(&purchase.problem, &best).is_ok() {
        *board = trial;
        result.cost = cost;
    }
    result
}

/// Demand on fluid hosts in lots, and how it is packed now.
struct Sorted {
    lots: Vec<Lot>,
    packing: Packing,
}

/// What makes demand alike: shape, groups, how many on a host, and for gangs with bundles apart the size.
type LotKey = (ShapeId, Vec<bool>, u32);

impl Sorted {
    fn new(
        board: &Board<'_>,
        trial: &Board<'_>,
        rules: &Rules<'_>,
        fluid: &[Put],
        gangs: &BTreeMap<u32, (&GangWork<'_>, Option<Vec<bool>>)>,
    ) -> Self {
        // Pieces of one owner and one shape belong together.
        let mut pieces: BTreeMap<(DemandOwner, ShapeId, usize), Vec<&Put>> = BTreeMap::new();
        for put in fluid {
            let group = board.world.hosts.group[put.host as usize] as usize;
            pieces.entry((DemandOwner::of(put.demand), put.shape, group)).or_default().push(put);
        }
        let mut lots: Vec<Lot> = Vec::new();
        let mut lot_of: BTreeMap<LotKey, usize> = BTreeMap::new();
        let mut patterns: BTreeMap<u32, BTreeMap<usize, u32>> = BTreeMap::new();
        for ((owner, shape, group), puts) in pieces {
            let groups = allowed(trial, rules, shape, group, owner.pool(gangs));
            let taken: u64 = puts.iter().map(|put| put.taken.max(0) as u64).sum();
            let (owner, apart) = owner.into_lot_owner(gangs, shape, &puts, taken);
            let most = if apart { taken as u32 } else { u32::MAX };
            let at = *lot_of.entry((shape, groups.clone(), most)).or_insert_with(|| {
                let way = if apart { Way::RoundRobin } else { Way::InTurn };
                lots.push(Lot { shape, most_per_host: u32::MAX, groups, owners: Vec::new(), count: 0, way });
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
            *times.entry((group, items.into_iter().collect())).or_default() += 1;
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

    /// Groups that it may use, if not all.
    fn pool<'p>(self, gangs: &'p BTreeMap<u32, (&GangWork<'_>, Option<Vec<bool>>)>) -> Option<&'p [bool]> {
        match self {
            DemandOwner::Class(_) => None,
            DemandOwner::Gang(at) => gangs.get(&at).and_then(|(_, groups)| groups.as_deref()),
        }
    }

    /// As owner of a lot, and whether its bundles must be apart.
    fn into_lot_owner(
        self,
        gangs: &BTreeMap<u32, (&GangWork<'_>, Option<Vec<bool>>)>,
        shape: ShapeId,
        puts: &[&Put],
        taken: u64,
    ) -> (Owner, bool) {
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

/// By group: whether it may hold demand that is on a host of `group` now. Levels of preference stay as they are.
fn allowed(trial: &Board<'_>, rules: &Rules<'_>, shape: ShapeId, group: usize, pool: Option<&[bool]>) -> Vec<bool> {
    let level = level_of(trial, rules, shape, group);
    let groups = 0..trial.world.groups.len();
    let may = |other: usize| pool.is_none_or(|pool| pool.get(other).copied().unwrap_or(false));
    groups.map(|other| other == group || (may(other) && level_of(trial, rules, shape, other) == level)).collect()
}
