//! Where bundles of one shape fit, kept up to date while gangs are placed.
//!
//! Hosts that are alike ([`super::stocks`]) hold the same: what an index knows, it knows of stocks; which hosts a stock has at
//! present is kept once for all shapes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Range;

use super::board::Board;
use super::host_set::HostSet;
use super::stocks::{State, StockId};
use super::world::{Column, HostId, Shape, ShapeId, World};

/// More bundles of a shape on one host than this make no difference.
const MAX_SLOTS: i64 = 1 << 20;
/// The stock of a host that is not there.
const NOWHERE: StockId = StockId::MAX;

/// How much hosts are wanted, less from field to field.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    /// Position among the alternatives of the label selectors.
    pub rank: u8,
    /// Whether they have accelerators that the shape does not need.
    pub is_misuse: bool,
    /// Whether Ray does not run there yet.
    pub is_coming: bool,
}

/// Hosts that follow one another and hold as many bundles each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidates {
    pub hosts: Range<HostId>,
    /// Bundles that one of them holds.
    pub slots: u32,
}

/// The hosts of each stock.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    /// How much of the board's list of touched hosts is worked in.
    synced: usize,
    /// By host: its stock when it was looked at last.
    stock: Vec<StockId>,
    /// By stock: its hosts.
    hosts: Vec<HostSet>,
    /// Stocks that got a first host, in this order.
    woken: Vec<StockId>,
}

impl Members {
    /// The hosts that are there.
    pub fn new(board: &Board<'_>) -> Self {
        let hosts = &board.world.hosts;
        let mut members = Members { synced: board.touched.len(), stock: hosts.stock.clone(), ..Members::default() };
        let mut first = 0;
        for alike in hosts.stock.chunk_by(|a, b| a == b) {
            let end = first + alike.len() as HostId;
            members.enter(alike[0], first..end);
            first = end;
        }
        members
    }

    /// Works in what has happened to hosts since.
    pub fn sync(&mut self, board: &Board<'_>) {
        for touched in &board.touched[self.synced..] {
            let end = touched.end as usize;
            if end > self.stock.len() {
                self.stock.resize(end, NOWHERE);
            }
            let now = |at: usize| board.world.hosts.stock.get(at).copied().unwrap_or(NOWHERE);
            let mut at = touched.start as usize;
            while at < end {
                let change = (self.stock[at], now(at));
                let alike = (at..end).take_while(|at| (self.stock[*at], now(*at)) == change).count();
                self.stock[at..at + alike].fill(change.1);
                self.change(change, at as HostId..(at + alike) as HostId);
                at += alike;
            }
        }
        self.synced = board.touched.len();
    }

    /// Hosts of one stock become hosts of another one.
    fn change(&mut self, (before, now): (StockId, StockId), hosts: Range<HostId>) {
        if before == now {
            return;
        }
        if let Some(set) = self.hosts.get_mut(before as usize) {
            set.remove(&hosts);
        }
        if now != NOWHERE {
            self.enter(now, hosts);
        }
    }

    fn enter(&mut self, stock: StockId, hosts: Range<HostId>) {
        if stock as usize >= self.hosts.len() {
            self.hosts.resize_with(stock as usize + 1, HostSet::default);
        }
        let set = &mut self.hosts[stock as usize];
        if set.is_empty() {
            self.woken.push(stock);
        }
        set.insert(hosts);
    }

    fn of(&self, stock: StockId) -> &HostSet {
        &self.hosts[stock as usize]
    }
}

/// Stocks, in ascending order, by how many bundles each of their hosts holds. Some may have lost all of their hosts.
type Buckets = BTreeMap<u32, Vec<StockId>>;

/// Stocks by how many bundles of one shape each of their hosts holds.
#[derive(Clone, Debug)]
pub(super) struct SlotIndex {
    shape: ShapeId,
    /// How many of the stocks that got a first host are worked in.
    synced: usize,
    /// By how much they are wanted, the most wanted first.
    levels: BTreeMap<Wanted, Buckets>,
}

impl SlotIndex {
    /// An index that knows of no stock yet.
    pub fn new(shape: ShapeId) -> Self {
        SlotIndex { shape, synced: 0, levels: BTreeMap::new() }
    }

    /// Works in the stocks that have hosts since. (One that has lost them again is woken when it gets others.)
    pub fn sync(&mut self, world: &World<'_>, members: &Members) {
        let (shape, stocks) = (&world.shapes[self.shape as usize], &world.hosts.stocks);
        for stock in members.woken[self.synced..].iter().copied().filter(|stock| !members.of(*stock).is_empty()) {
            let slots = stocks.slots(stock, shape);
            if slots > 0
                && let (slots @ 1.., wanted) = wanted_slots(world, shape, stock, slots)
            {
                enter(self.levels.entry(wanted).or_default().entry(slots).or_default(), stock);
            }
        }
        self.synced = members.woken.len();
    }

    /// How much the hosts are wanted that may hold any, the most wanted first.
    pub fn wanted(&self) -> Vec<Wanted> {
        self.levels.keys().copied().collect()
    }

    /// The hosts that hold at least `least` bundles, and as few as possible beyond; else those that hold the most. Of equal ones
    /// the first, and those that follow it.
    pub fn best_fit(&mut self, members: &Members, wanted: Wanted, least: u32) -> Option<Candidates> {
        let buckets = self.levels.get_mut(&wanted)?;
        let mut empty = Vec::new();
        let mut first = |(slots, stocks): (&u32, &mut Vec<StockId>)| {
            // Those that lost their hosts are woken again when they get some.
            stocks.retain(|stock| !members.of(*stock).is_empty());
            let firsts = stocks.iter().filter_map(|stock| members.of(*stock).first());
            let found = firsts.min_by_key(|hosts| hosts.start);
            if found.is_none() {
                empty.push(*slots);
            }
            Some(Candidates { hosts: found?, slots: *slots })
        };
        let enough = buckets.range_mut(least..).find_map(&mut first);
        let found = enough.or_else(|| buckets.range_mut(..least).rev().find_map(&mut first));
        for slots in empty {
            buckets.remove(&slots);
        }
        found
    }

    /// Up to `most` different hosts, those that hold the fewest bundles first.
    pub fn hosts(&mut self, members: &Members, wanted: Wanted, most: u32, taken: &BTreeSet<HostId>) -> Vec<Candidates> {
        let mut found: Vec<Candidates> = Vec::new();
        let mut left = most;
        for (slots, stocks) in self.levels.get_mut(&wanted).into_iter().flatten() {
            if left == 0 {
                break;
            }
            stocks.retain(|stock| !members.of(*stock).is_empty());
            let mut queues: Vec<_> = stocks.iter().map(|stock| members.of(*stock).ranges()).collect();
            let mut next: BinaryHeap<Reverse<(HostId, HostId, usize)>> = BinaryHeap::with_capacity(queues.len());
            let entry = |hosts: Range<HostId>, at: usize| Reverse((hosts.start, hosts.end, at));
            let firsts = queues.iter_mut().enumerate();
            next.extend(firsts.filter_map(|(at, queue)| Some(entry(queue.next()?, at))));
            while left > 0 {
                let Some(Reverse((first, end, at))) = next.pop() else { break };
                next.extend(queues[at].next().map(|hosts| entry(hosts, at)));
                for mut hosts in without(first..end, taken) {
                    hosts.end = hosts.end.min(hosts.start.saturating_add(left));
                    left -= hosts.len() as u32;
                    if !hosts.is_empty() {
                        found.push(Candidates { hosts, slots: *slots });
                    }
                }
            }
        }
        found
    }
}

/// Enters a stock once. Mostly it was met after all others.
fn enter(stocks: &mut Vec<StockId>, stock: StockId) {
    match stocks.last() {
        Some(last) if *last >= stock => {
            if let Err(at) = stocks.binary_search(&stock) {
                stocks.insert(at, stock);
            }
        }
        _ => stocks.push(stock),
    }
}

/// Those of some hosts that are not taken.
fn without(hosts: Range<HostId>, taken: &BTreeSet<HostId>) -> impl Iterator<Item = Range<HostId>> {
    let end = hosts.end;
    let mut start = hosts.start;
    let gaps = taken.range(hosts).copied().chain([end]);
    gaps.map(move |gap| std::mem::replace(&mut start, gap + 1)..gap)
}

/// How many bundles of a shape a host holds, and how much it is wanted for them; 0 for a host that is not there any more.
pub(super) fn slots_of(world: &World<'_>, shape: ShapeId, host: HostId) -> (u32, Wanted) {
    match world.hosts.stock.get(host as usize) {
        Some(stock) if !world.hosts.is_given_up[host as usize] => slots_of_stock(world, shape, *stock),
        _ => (0, Wanted::default()),
    }
}

/// The same of a host that has grown in place as far as it can.
pub(super) fn slots_when_grown(world: &World<'_>, shape: ShapeId, host: HostId) -> (u32, Wanted) {
    let Some(more) = world.headroom.get(&host) else { return slots_of(world, shape, host) };
    let of = &world.shapes[shape as usize];
    let stock = world.hosts.stock[host as usize];
    let free = world.hosts.stocks.free(stock);
    let grown = |(column, amount): &(Column, i64)| {
        let more = more.iter().find(|(other, _)| other == column).map_or(0, |(_, more)| *more);
        (free[usize::from(*column)] + more) / amount
    };
    let slots = of.needs.iter().map(grown).min().unwrap_or(MAX_SLOTS);
    wanted_slots(world, of, stock, slots)
}

fn slots_of_stock(world: &World<'_>, shape: ShapeId, stock: StockId) -> (u32, Wanted) {
    let shape = &world.shapes[shape as usize];
    wanted_slots(world, shape, stock, world.hosts.stocks.slots(stock, shape))
}

/// So many slots, if its labels let a shape onto a stock, and how much it is wanted there.
fn wanted_slots(world: &World<'_>, shape: &Shape, stock: StockId, slots: i64) -> (u32, Wanted) {
    let nothing = (0, Wanted::default());
    let slots = slots.min(MAX_SLOTS);
    if slots <= 0 {
        return nothing;
    }
    let traits = world.hosts.stocks.traits(stock);
    let Some(rank) = world.rank(shape, traits.kind) else { return nothing };
    let is_misuse = traits.is_scarce && !shape.is_scarce;
    (slots as u32, Wanted { rank, is_misuse, is_coming: traits.state >= State::Coming })
}
