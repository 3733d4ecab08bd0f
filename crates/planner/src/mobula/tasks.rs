//! Filling hosts with tasks and actors, and with what `request_resources` asks for.

use std::sync::Arc;

use super::board::{Board, Put};
use super::demand::Class;
use super::hosts::Hosts;
use super::runs::Runs;
use super::stocks::{State, StockId};
use super::world::{Column, HostId, World, need};
use super::{Rules, lots, resize};
use crate::DemandRef;
use crate::packing::Problem;

/// Finds places for tasks and actors, on hosts that are there first; the counts of those that found none are left in `classes`.
/// Returns what was packed for launches last.
pub(super) fn serve(board: &mut Board<'_>, rules: &Rules<'_>, classes: &mut [Class]) -> Option<Problem> {
    let mut packed = None;
    for rules in rules.clean().iter().chain([rules]) {
        fill(board, rules, classes);
        resize::grow(board, rules, classes);
        packed = lots::launch_for_tasks(board, rules, classes).or(packed);
    }
    packed
}

/// Puts as many tasks and actors as possible on hosts that are there, on their way, or launched already; what is put is
/// subtracted from the counts of `classes`.
///
/// Hosts are filled in an order that leaves what others may need: those without accelerators first, of those the ones that
/// work already, so that idle ones can go. Hosts that are alike are filled together.
fn fill(board: &mut Board<'_>, rules: &Rules<'_>, classes: &mut [Class]) {
    let floor = Floor::new(&board.world, classes);
    let mut open = in_filling_order(&board.world);
    open.retain(|alike| floor.is_open(&board.world.hosts, alike.stock));
    for class in classes {
        let shape = class.shape as usize;
        for rank in 0..board.world.alternatives(&board.world.shapes[shape]) {
            fill_one(board, rules, class, rank, &mut open, &floor);
        }
    }
}

/// Puts what it can of one class on `open` hosts at one level of its label selectors. What is full then for all classes is
/// not looked at again.
fn fill_one(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    class: &mut Class,
    rank: u8,
    open: &mut Vec<Alike>,
    floor: &Floor,
) {
    let shapes = Arc::clone(&board.world.shapes);
    let shape = &shapes[class.shape as usize];
    let is_misuse_allowed = shape.is_scarce || !rules.keep_gpu_clean;
    let (mut at, mut is_full) = (0, false);
    while let (1.., Some(alike)) = (class.count, open.get_mut(at)) {
        let stocks = &board.world.hosts.stocks;
        let slots = stocks.slots(alike.stock, shape).max(0) as u64;
        let may_hold = || {
            let traits = stocks.traits(alike.stock);
            (is_misuse_allowed || !traits.is_scarce) && board.world.rank(shape, traits.kind) == Some(rank)
        };
        if slots == 0 || !may_hold() {
            at += 1;
            continue;
        }
        // As many hosts as the class fills, or a part of one.
        let (number, count) = match class.count / slots {
            0 => (1, class.count),
            full => (usize::try_from(full).unwrap_or(usize::MAX), slots),
        };
        let hosts = alike.hosts.take(number);
        let filled = Alike { state: alike.state, stock: put(board, class, &hosts, count), hosts };
        if alike.hosts.len() == 0 {
            is_full |= !floor.is_open(&board.world.hosts, filled.stock);
            *alike = filled;
            at += 1;
        } else if floor.is_open(&board.world.hosts, filled.stock) {
            open.insert(at, filled);
            at += 1;
        }
    }
    if is_full {
        open.retain(|alike| floor.is_open(&board.world.hosts, alike.stock));
    }
}

/// Puts so many of a class on each of these hosts, which are alike. Returns what they are then.
fn put(board: &mut Board<'_>, class: &mut Class, hosts: &Runs, count: u64) -> StockId {
    let (demand, shape) = (DemandRef::Class(class.at), class.shape);
    let mut stock = 0;
    for range in hosts.ranges() {
        board.put(Put { demand, host: range.start, hosts: range.len() as u32, count, shape, taken: count as i64 });
        stock = board.world.hosts.stock[range.start as usize];
        board.world.hosts.keep(range, need::TASKS);
    }
    class.count -= count * hosts.len() as u64;
    stock
}

/// Hosts that are alike and should be left alone alike.
#[derive(Clone, Debug)]
pub(super) struct Alike {
    /// How much they should be left alone; what is kept for a gang or `request_resources` anyway is not kept for this.
    pub state: State,
    pub stock: StockId,
    /// Each range is of one group.
    pub hosts: Runs,
}

/// Hosts in the order in which they are filled: those without accelerators first, then by how much they should be left alone,
/// then by their numbers, all that are alike behind the first of them.
pub(super) fn in_filling_order(world: &World<'_>) -> Vec<Alike> {
    let hosts = &world.hosts;
    let mut alike: Vec<Alike> = Vec::new();
    // By stock, for hosts that count as busy and for others.
    let mut known = vec![[usize::MAX; 2]; hosts.stocks.len()];
    // Where a gang waits for its hosts, other work does not come first for that.
    let is_kept = |host: usize| hosts.needed[host] & !need::HELD != 0;
    let sight = |host: usize| (hosts.stock[host], hosts.group[host], hosts.is_given_up[host], is_kept(host));
    let mut end = 0;
    while end < hosts.len() {
        let first = end;
        let (stock, _, is_given_up, is_kept) = sight(first);
        end = (first + 1..hosts.len()).find(|host| sight(*host) != sight(first)).unwrap_or(hosts.len());
        if is_given_up {
            continue;
        }
        let state = if is_kept { State::Busy } else { hosts.stocks.traits(stock).state };
        let at = &mut known[stock as usize][usize::from(state == State::Busy)];
        if *at == usize::MAX {
            *at = alike.len();
            alike.push(Alike { state, stock, hosts: Runs::default() });
        }
        let joins = first > 0 && world.are_one_kind(first as HostId - 1, first as HostId);
        alike[*at].hosts.push(first as HostId..end as HostId, joins);
    }
    alike.sort_by_key(|alike| (hosts.stocks.traits(alike.stock).is_scarce, alike.state));
    alike
}

/// The least that any class asks of the columns that all of them ask for: a host with less is full for all of them.
struct Floor {
    least: Vec<(Column, i64)>,
}

impl Floor {
    fn new(world: &World<'_>, classes: &[Class]) -> Self {
        let mut least: Vec<(Column, i64)> = Vec::new();
        for (number, class) in classes.iter().filter(|class| class.count > 0).enumerate() {
            let needs = &world.shapes[class.shape as usize].needs;
            if number == 0 {
                least.clone_from(needs);
            }
            least.retain_mut(|(column, least)| match needs.iter().find(|(other, _)| other == column) {
                Some((_, amount)) => {
                    *least = (*least).min(*amount);
                    true
                }
                None => false,
            });
        }
        Floor { least }
    }

    fn is_open(&self, hosts: &Hosts, stock: StockId) -> bool {
        let free = hosts.stocks.free(stock);
        self.least.iter().all(|(column, least)| free[usize::from(*column)] >= *least)
    }
}
