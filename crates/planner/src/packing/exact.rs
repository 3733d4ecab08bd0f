//! Branch and bound over fillings: the optimum of small problems, and of small parts of large ones.
//!
//! Host by host: the largest piece that has no place yet goes into one of all fillings that hold it and could hold nothing
//! more. What a branch may still waste is what the best packing costs above the bound; a filling that wastes more is not made.

use std::collections::BTreeMap;

use super::Pattern;
use super::duals::{Duals, Range};
use super::greedy::Shelf;
use super::knapsack::{Room, Rooms};
use super::model::{Model, how_many};
use super::work::Work;

/// What the search ended with.
pub(super) struct Found {
    /// Hosts that serve everything at a cost below the one given, if there are any.
    pub patterns: Option<Vec<Pattern>>,
    /// Whether the search saw everything: no packing is cheaper than the one found, or than the cost given.
    pub is_complete: bool,
}

/// What all searches in one problem share.
pub(super) struct Ground<'a> {
    model: &'a Model<'a>,
    duals: &'a Duals,
    rooms: Vec<Rooms>,
    /// Costs that differ, differ by at least this.
    step: f64,
}

impl<'a> Ground<'a> {
    pub fn new(model: &'a Model<'a>, counts: &[u64], duals: &'a Duals, step: f64, work: &mut Work) -> Ground<'a> {
        let rooms = (0..model.bins()).map(|bin| Rooms::new(model, bin, &duals.items, counts, work)).collect();
        Ground { model, duals, rooms, step }
    }
}

/// Searches for hosts from `shelf` that serve `counts` for less than `below`. Complete it is for packings that buy at
/// least `least` hosts, where the prices count on that.
pub(super) fn search(
    ground: &Ground<'_>,
    counts: &[u64],
    shelf: &Shelf,
    least: &[Range],
    below: f64,
    work: &mut Work,
) -> Found {
    let Ground { model, duals, step, .. } = *ground;
    let mut order: Vec<usize> = (0..model.items()).filter(|&item| counts[item] > 0).collect();
    let share = |item: usize| {
        let fits = (0..model.bins()).map(|bin| model.fit(bin, item)).max().unwrap_or(0);
        (fits, u64::MAX - counts[item])
    };
    order.sort_by_key(|&item| (share(item), item));
    let rooms = ground.rooms.iter().map(|rooms| rooms.only(counts));
    let mut search = Search {
        model,
        duals,
        rooms: rooms.collect(),
        order,
        left: counts.to_vec(),
        shelf: shelf.clone(),
        lacking: (0..model.bins()).map(|bin| least.get(bin).map_or(0.0, |range| range.least as f64)).collect(),
        cost: 0.0,
        below,
        step,
        hosts: Vec::new(),
        best: None,
        seen: BTreeMap::new(),
        is_complete: true,
    };
    search.visit(work);
    Found { patterns: search.best, is_complete: search.is_complete }
}

struct Search<'a> {
    model: &'a Model<'a>,
    duals: &'a Duals,
    rooms: Vec<Rooms>,
    /// Items in the order in which they are served.
    order: Vec<usize>,
    left: Vec<u64>,
    shelf: Shelf,
    /// Hosts that are still to be bought to reach the least, by bin; below 0 beyond it.
    lacking: Vec<f64>,
    cost: f64,
    below: f64,
    step: f64,
    hosts: Vec<(usize, Vec<(usize, u32)>)>,
    best: Option<Vec<Pattern>>,
    /// The least cost at which a state was left behind: what is left to serve, and from what.
    seen: BTreeMap<State, f64>,
    is_complete: bool,
}

/// Most numbers that remembered states may hold together: some 16 MB.
const MOST_SEEN: usize = 2_000_000;

/// What is left to serve, and from what: replicas, spare hosts, hosts over all.
type State = (Vec<u64>, Vec<u64>, Vec<u64>, u64);

/// A filling that may come next, and what it wastes.
struct Branch {
    waste: f64,
    bin: usize,
    items: Vec<(usize, u32)>,
}

impl Search<'_> {
    /// What serving the rest costs at least: what it is worth, less what spare hosts and limits are. Below 0 while spare
    /// hosts are worth more than the rest; what they will waste is counted by this too.
    fn rest(&self) -> f64 {
        let worth: f64 = self.order.iter().map(|&item| self.duals.items[item] * self.left[item] as f64).sum();
        let mut given = 0.0;
        for bin in 0..self.model.bins() {
            let spare = self.shelf.spare[bin] as f64;
            given += spare * (self.model.prices[bin] + self.duals.hosts - self.duals.least[bin]);
            given -= self.lacking[bin] * self.duals.least[bin];
            if self.duals.bins[bin] > 0.0 {
                let hosts = self.model.problem.bins[bin].hosts() as f64;
                given += self.duals.bins[bin] * (spare + self.shelf.replicas_of(self.model, bin) as f64 * hosts);
            }
        }
        if self.duals.hosts > 0.0 {
            given += self.duals.hosts * self.shelf.hosts as f64;
        }
        worth * (1.0 - 1e-12) - given
    }

    fn visit(&mut self, work: &mut Work) {
        if work.is_out() {
            self.is_complete = false;
            return;
        }
        work.spend(4);
        let Some(first) = self.order.iter().copied().find(|&item| self.left[item] > 0) else {
            if self.cost < self.below - self.step * 0.5 {
                self.below = self.cost;
                let hosts = self.hosts.iter().map(|(bin, items)| Pattern { bin: *bin, items: items.clone(), times: 1 });
                self.best = Some(hosts.collect());
            }
            return;
        };
        // What may be wasted from here on.
        let waste = self.below - self.step - self.cost - self.rest();
        let is_dear = self.cost > self.below - self.step * 0.5;
        if is_dear || waste < -self.below.abs() * 1e-10 || self.was_seen() {
            return;
        }
        let mut branches = self.branches(first, waste.max(0.0) + self.below.abs() * 1e-10, work);
        // Fillings may be missing from the list.
        if work.is_out() {
            self.is_complete = false;
            return;
        }
        branches.sort_by(|a, b| a.waste.total_cmp(&b.waste).then_with(|| (a.bin, &a.items).cmp(&(b.bin, &b.items))));
        for branch in branches {
            if branch.waste > self.below - self.step - self.cost - self.rest() + self.below.abs() * 1e-10 {
                break;
            }
            self.follow(branch, work);
            if work.is_out() {
                self.is_complete = false;
                return;
            }
        }
    }

    fn was_seen(&mut self) -> bool {
        let shelf = &self.shelf;
        let state = (self.left.clone(), shelf.replicas.clone(), shelf.spare.clone(), shelf.hosts);
        if self.seen.len() * (self.left.len() + 2 * self.rooms.len()) > MOST_SEEN && !self.seen.contains_key(&state) {
            return false;
        }
        let least = self.seen.entry(state).or_insert(f64::INFINITY);
        let is_seen = *least <= self.cost + self.step * 1e-6;
        *least = least.min(self.cost);
        is_seen
    }

    fn follow(&mut self, branch: Branch, work: &mut Work) {
        let bin = branch.bin;
        let before = self.shelf.clone();
        let cost = self.cost;
        let bought = if self.shelf.spare[bin] == 0 { self.model.problem.bins[bin].hosts() as f64 } else { 0.0 };
        self.cost += self.model.prices[bin] * bought;
        self.lacking[bin] -= bought;
        self.shelf.take(self.model, bin, 1);
        for &(item, count) in &branch.items {
            self.left[item] -= u64::from(count);
        }
        self.hosts.push((bin, branch.items));
        self.visit(work);
        if let Some((_, items)) = self.hosts.pop() {
            for (item, count) in items {
                self.left[item] += u64::from(count);
            }
        }
        self.cost = cost;
        self.lacking[bin] += bought;
        self.shelf = before;
    }

    /// The fillings with `first` that waste at most `waste` and could hold nothing more of what is left.
    fn branches(&self, first: usize, waste: f64, work: &mut Work) -> Vec<Branch> {
        let mut branches = Vec::new();
        for bin in 0..self.model.bins() {
            let can_be_had = self.shelf.spare[bin] > 0 || self.shelf.replicas_of(self.model, bin) > 0;
            if !can_be_had || self.model.fit(bin, first) == 0 {
                continue;
            }
            let price = self.duals.allowed(self.model, bin);
            let mut list =
                Listing { search: self, bin, first, price, waste, items: Vec::new(), branches: &mut branches };
            let mut free = self.model.capacity(bin).to_vec();
            let rooms = &self.rooms[bin];
            let most = self.left[first].min(u64::from(self.model.fit(bin, first))) as u32;
            for count in (1..=most).rev() {
                take(&mut free, self.model.size(first), i64::from(count));
                list.items.push((first, count));
                let value = self.duals.items[first] * f64::from(count);
                let worth = rooms.worth - rooms.of(first).map_or(0.0, |room| room.room) * f64::from(count);
                list.fill(0, &mut free, worth, value, work);
                list.items.pop();
                take(&mut free, self.model.size(first), -i64::from(count));
                if work.is_out() {
                    break;
                }
            }
        }
        branches
    }
}

/// Lists the fillings of one bin.
struct Listing<'a> {
    search: &'a Search<'a>,
    bin: usize,
    first: usize,
    price: f64,
    waste: f64,
    items: Vec<(usize, u32)>,
    branches: &'a mut Vec<Branch>,
}

impl Listing<'_> {
    fn fill(&mut self, mut from: usize, free: &mut [i64], worth: f64, value: f64, work: &mut Work) {
        let rooms = &self.search.rooms[self.bin];
        let mut found: Option<(&Room, u32)> = None;
        while let Some(room) = rooms.rooms.get(from) {
            let left = u64::from(room.most).min(self.search.left[room.item]) as u32;
            let most =
                if room.item == self.first { 0 } else { how_many(free, self.search.model.size(room.item), left) };
            if most > 0 {
                found = Some((room, most));
                break;
            }
            from += 1;
        }
        if self.price - rooms.bound(from, worth, value) > self.waste {
            return;
        }
        work.spend(1);
        if work.is_out() {
            return;
        }
        let Some((room, most)) = found else {
            if self.is_full(free) {
                let mut items = self.items.clone();
                items.sort_unstable();
                self.branches.push(Branch { waste: self.price - value, bin: self.bin, items });
            }
            return;
        };
        let (item, piece, room) = (room.item, room.value, room.room);
        for count in (0..=most).rev() {
            take(free, self.search.model.size(item), i64::from(count));
            if count > 0 {
                self.items.push((item, count));
            }
            let (worth, value) = (worth - room * f64::from(count), value + piece * f64::from(count));
            self.fill(from + 1, free, worth, value, work);
            if count > 0 {
                self.items.pop();
            }
            take(free, self.search.model.size(item), -i64::from(count));
        }
    }

    /// Whether nothing that is left could still go in.
    fn is_full(&self, free: &[i64]) -> bool {
        let search = self.search;
        !search.order.iter().any(|&item| {
            let fit = u64::from(search.model.fit(self.bin, item)).min(search.left[item]) as u32;
            let held = self.items.iter().find(|held| held.0 == item).map_or(0, |held| held.1);
            fit > held && how_many(free, search.model.size(item), 1) > 0
        })
    }
}

fn take(free: &mut [i64], size: &[i64], count: i64) {
    for (free, size) in free.iter_mut().zip(size) {
        *free -= size * count;
    }
}
