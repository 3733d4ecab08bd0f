//! Where bundles of one shape fit, kept up to date while gangs are placed.
//!
//! Hosts that are alike ([`super::stocks`]) hold the same: what an index knows, it knows of stocks; which hosts a stock has at
//! present is kept once for all shapes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::ops::Bound;

use super::board::Board;
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

/// The hosts of each stock.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    /// How much of the board's list of touched hosts is worked in.
    synced: usize,
    /// By host: its stock when it was looked at last.
    stock: Vec<StockId>,
    /// By stock: its hosts in ascending order. They mostly go from the front and come at the back.
    hosts: Vec<VecDeque<HostId>>,
    /// Stocks that got a first host, in this order.
    woken: Vec<StockId>,
}

impl Members {
    /// The hosts that are there.
    pub fn new(board: &Board<'_>) -> Self {
        let hosts = &board.world.hosts;
        let mut lists: Vec<Vec<HostId>> = vec![Vec::new(); hosts.stocks.len()];
        for (host, stock) in (0..).zip(&hosts.stock) {
            lists[*stock as usize].push(host);
        }
        let woken = (0..).zip(&lists).filter(|(_, list)| !list.is_empty()).map(|(stock, _)| stock).collect();
        let hosts_of = lists.into_iter().map(VecDeque::from).collect();
        Members { synced: board.touched.len(), stock: hosts.stock.clone(), hosts: hosts_of, woken }
    }

    /// Works in what has happened to hosts since.
    pub fn sync(&mut self, board: &Board<'_>) {
        for host in board.touched[self.synced..].iter().cloned().flatten() {
            let at = host as usize;
            let now = board.world.hosts.stock.get(at).copied().unwrap_or(NOWHERE);
            if at >= self.stock.len() {
                self.stock.resize(at + 1, NOWHERE);
            }
            let before = std::mem::replace(&mut self.stock[at], now);
            if before == now {
                continue;
            }
            if let Some(hosts) = self.hosts.get_mut(before as usize) {
                match hosts.front() {
                    Some(first) if *first == host => drop(hosts.pop_front()),
                    _ => drop(hosts.binary_search(&host).map(|at| hosts.remove(at))),
                }
            }
            if now != NOWHERE {
                self.hosts.resize_with(self.hosts.len().max(now as usize + 1), VecDeque::new);
                let hosts = &mut self.hosts[now as usize];
                match hosts.back() {
                    None => {
                        self.woken.push(now);
                        hosts.push_back(host);
                    }
                    Some(last) if *last < host => hosts.push_back(host),
                    Some(_) => drop(hosts.binary_search(&host).map_err(|at| hosts.insert(at, host))),
                }
            }
        }
        self.synced = board.touched.len();
    }

    fn of(&self, stock: StockId) -> &VecDeque<HostId> {
        &self.hosts[stock as usize]
    }
}

/// Stocks by how many bundles of one shape each of their hosts holds.
#[derive(Clone, Debug)]
pub(super) struct SlotIndex {
    shape: ShapeId,
    /// How many of the stocks that got a first host are worked in.
    synced: usize,
    /// Stocks by how much they are wanted and what a host of them holds. Some may have lost all of their hosts.
    buckets: BTreeMap<(Wanted, u32), BTreeSet<StockId>>,
}

impl SlotIndex {
    /// An index that knows of no stock yet.
    pub fn new(shape: ShapeId) -> Self {
        SlotIndex { shape, synced: 0, buckets: BTreeMap::new() }
    }

    /// Works in the stocks that have hosts since. (One that has lost them again is woken when it gets others.)
    pub fn sync(&mut self, world: &World<'_>, members: &Members) {
        for stock in members.woken[self.synced..].iter().filter(|stock| !members.of(**stock).is_empty()) {
            let (slots, wanted) = slots_of_stock(world, self.shape, *stock);
            if slots > 0 {
                self.buckets.entry((wanted, slots)).or_default().insert(*stock);
            }
        }
        self.synced = members.woken.len();
    }

    /// How much the hosts are wanted that hold any, the most wanted first.
    pub fn wanted(&self) -> Vec<Wanted> {
        let mut found = Vec::new();
        let mut next = self.buckets.keys().next();
        while let Some((wanted, _)) = next {
            found.push(*wanted);
            let beyond = (Bound::Excluded((*wanted, u32::MAX)), Bound::Unbounded);
            next = self.buckets.range(beyond).next().map(|(key, _)| key);
        }
        found
    }

    /// The host that holds at least `least` bundles, and as few as possible beyond; else the one that holds the most. Of
    /// equal ones the first.
    pub fn best_fit(&mut self, members: &Members, wanted: Wanted, least: u32) -> Option<(HostId, u32)> {
        let mut empty = Vec::new();
        let first = |(key, stocks): (&(Wanted, u32), &mut BTreeSet<StockId>)| {
            // Those that lost their hosts are woken again when they get some.
            stocks.retain(|stock| !members.of(*stock).is_empty());
            let found = stocks.iter().filter_map(|stock| members.of(*stock).front()).min();
            if found.is_none() {
                empty.push(*key);
            }
            Some((*found?, key.1))
        };
        let mut first = first;
        let enough = self.buckets.range_mut((wanted, least)..=(wanted, u32::MAX)).find_map(&mut first);
        let found = enough.or_else(|| self.buckets.range_mut((wanted, 0)..(wanted, least)).rev().find_map(&mut first));
        for key in empty {
            self.buckets.remove(&key);
        }
        found
    }

    /// Up to `most` different hosts, those that hold the fewest bundles first.
    pub fn hosts(
        &mut self,
        members: &Members,
        wanted: Wanted,
        most: usize,
        taken: &BTreeSet<HostId>,
    ) -> Vec<(HostId, u32)> {
        let mut found: Vec<(HostId, u32)> = Vec::new();
        for ((_, slots), stocks) in self.buckets.range_mut((wanted, 0)..=(wanted, u32::MAX)) {
            if found.len() == most {
                break;
            }
            stocks.retain(|stock| !members.of(*stock).is_empty());
            let mut queues: Vec<_> = stocks.iter().map(|stock| members.of(*stock).iter()).collect();
            let mut next: BinaryHeap<Reverse<(HostId, usize)>> = BinaryHeap::with_capacity(queues.len());
            let firsts = queues.iter_mut().enumerate();
            next.extend(firsts.filter_map(|(at, queue)| Some(Reverse((*queue.next()?, at)))));
            while found.len() < most {
                let Some(Reverse((host, at))) = next.pop() else { break };
                next.extend(queues[at].next().map(|host| Reverse((*host, at))));
                if !taken.contains(&host) {
                    found.push((host, *slots));
                }
            }
        }
        found
    }
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
