//! Making a packing cheaper, and saying how far from the optimum it may still be.

use std::collections::BTreeMap;

use super::bound::quick_bound;
use super::branch::branch;
use super::duals::{Duals, Range};
use super::exact::{Ground, search};
use super::greedy::{Shelf, greedy};
use super::model::Model;
use super::relaxation::Relaxation;
use super::rounding::dive;
use super::work::Work;
use super::{Packing, Pattern, Problem, check};

/// What [`improve`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Improved {
    /// Serves what the start serves and costs no more.
    pub packing: Packing,
    /// No packing that serves the same costs less.
    pub lower_bound: f64,
    /// Whether the packing is proven to cost no more than any other that serves the same.
    pub is_proven: bool,
    /// Work that was spent: search nodes, pivots and priced columns, the latter two by the numbers they touch.
    pub work: u64,
}

/// Fillings that were good before, kept from tick to tick so that the next solve starts near its end. They are kept by
/// the sizes of what they hold, so bins and items may come, go and change places.
///
/// The pool is an input like any other: the same problem, start, work and pool give the same packing and the same pool.
/// Another pool may lead to another packing of about the same cost; whoever must plan the same warm and cold passes an
/// empty one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnPool {
    /// Fillings, as sizes and how many of each, by the capacity of their bin.
    fillings: BTreeMap<Vec<i64>, Vec<SizedFilling>>,
}

/// Sizes of what a host holds, and how many of each.
type SizedFilling = Vec<(Vec<i64>, u32)>;

impl ColumnPool {
    /// Fillings that are kept; more would cost more than they save.
    const MOST: usize = 2_000;

    fn save(&mut self, problem: &Problem, relaxation: &Relaxation<'_>) {
        self.fillings.clear();
        for (bin, items) in relaxation.best_columns(Self::MOST) {
            let sized = items.iter().map(|&(item, count)| (problem.items[item].size.clone(), count));
            self.fillings.entry(problem.bins[bin].capacity.clone()).or_default().push(sized.collect());
        }
    }

    fn load(&self, problem: &Problem, relaxation: &mut Relaxation<'_>) {
        let mut by_size: BTreeMap<&[i64], Vec<usize>> = BTreeMap::new();
        for (index, item) in problem.items.iter().enumerate() {
            by_size.entry(&item.size).or_default().push(index);
        }
        for (bin, kind) in problem.bins.iter().enumerate() {
            for filling in self.fillings.get(&kind.capacity).into_iter().flatten() {
                let found = filling.iter().map(|(size, count)| {
                    let mut alike = by_size.get(size.as_slice()).into_iter().flatten();
                    let holds = |item: &&usize| relaxation.model.fit(bin, **item) >= *count;
                    alike.find(holds).map(|&item| (item, *count))
                });
                if let Some(items) = found.collect::<Option<Vec<(usize, u32)>>>() {
                    relaxation.add(bin, &items);
                }
            }
        }
    }
}

/// Makes `start` cheaper within `work`. It serves what `start` serves: the same pieces are left.
///
/// A start that [`check`] refuses is replaced by [`greedy`]'s. `work` 0 only adds the bound. A unit of work takes about
/// 100 ns of one core whatever the problem; 5,000 units bring most of what can be gained where there are few classes.
pub fn improve(problem: &Problem, start: &Packing, work: u64, pool: &mut ColumnPool) -> Improved {
    let mut best = if check(problem, start).is_ok() { start.clone() } else { greedy(problem) };
    best.normalise();
    let model = Model::new(problem);
    let left = best.left.clone();
    let served: Vec<u64> = problem.items.iter().zip(&left).map(|(item, &left)| item.count - left).collect();
    best.left = vec![0; left.len()];
    let mut state = Improvement {
        model: &model,
        served: &served,
        cost: best.cost(problem),
        bound: quick_bound(&model, &served),
        step: 0.0,
        best,
        work: Work::new(work),
    };
    state.step = step(&model, state.cost);
    state.run(pool);
    let Improvement { mut best, cost, bound, work, step, .. } = state;
    best.left = left;
    let is_proven = cost <= bound + step * 0.5;
    Improved { packing: best, lower_bound: bound.min(cost), is_proven, work: work.spent() }
}

/// The least by which two costs differ: the largest price of which all are multiples, if there is one; else next to nothing.
fn step(model: &Model<'_>, cost: f64) -> f64 {
    const PARTS: f64 = 1e6;
    let none = cost * 1e-9;
    let mut unit = 0_u64;
    for (bin, &price) in model.problem.bins.iter().zip(&model.prices) {
        let price = price * bin.hosts() as f64 * PARTS;
        if price >= 1e15 || (price - price.round()).abs() > price * 1e-12 {
            return none;
        }
        unit = gcd(unit, price.round() as u64);
    }
    (unit as f64 / PARTS).max(none)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The best packing and the best bound so far.
pub(super) struct Improvement<'a> {
    pub model: &'a Model<'a>,
    /// What the start serves, and so does the best: `left` of both is nothing of this.
    pub served: &'a [u64],
    best: Packing,
    pub cost: f64,
    pub bound: f64,
    /// Costs that differ, differ by at least this.
    pub step: f64,
    pub work: Work,
}

impl Improvement<'_> {
    /// More classes than this make the linear program too large to be of use.
    const MOST_ROWS: usize = 700;

    fn run(&mut self, pool: &mut ColumnPool) {
        self.raise_bound(self.bound);
        if self.work.is_out() || self.is_done() || self.model.items() + self.model.bins() > Self::MOST_ROWS {
            return;
        }
        let mut relaxation = Relaxation::new(self.model, self.served, Range::full(self.model));
        relaxation.add_singles();
        for pattern in &self.best.patterns {
            relaxation.add(pattern.bin, &pattern.items);
        }
        pool.load(self.model.problem, &mut relaxation);
        let mut part = self.work.share(self.work.rest() / 2);
        relaxation.start(&mut part);
        relaxation.solve(self.cost - self.step * 0.5, &mut part);
        self.work.spend(part.spent());
        self.raise_bound(relaxation.proven.bound);
        for threshold in [0.8, 1.0, 0.5] {
            self.dive(&relaxation, threshold, 3);
        }
        self.search_whole(&relaxation);
        branch(self, &relaxation);
        self.rebuild(&relaxation);
        pool.save(self.model.problem, &relaxation);
    }

    /// Rounds `relaxation` with one part in `parts` of the work that is left.
    pub fn dive(&mut self, relaxation: &Relaxation<'_>, threshold: f64, parts: u64) {
        if self.is_done() || self.work.is_out() {
            return;
        }
        let mut part = self.work.share(self.work.rest() / parts);
        let mut found = Vec::new();
        dive(relaxation, threshold, &mut part, &mut |packing| found.push(packing));
        self.work.spend(part.spent());
        found.into_iter().for_each(|packing| self.offer(packing));
    }

    /// Takes `packing` if it is cheaper.
    pub fn offer(&mut self, packing: Packing) {
        let cost = packing.cost(self.model.problem);
        if cost < self.cost - self.step * 0.5 && check_served(self.model.problem, self.served, &packing) {
            self.best = packing;
            self.cost = cost;
        }
    }

    /// The least cost that there can be from `bound` on.
    fn rounded(&self, bound: f64) -> f64 {
        let is_stepped = self.step > self.cost * 2e-9;
        if is_stepped { (bound / self.step - 1e-6).ceil() * self.step } else { bound }
    }

    pub fn raise_bound(&mut self, bound: f64) {
        self.bound = self.bound.max(self.rounded(bound));
    }

    /// Whether nothing that costs at least `bound` is cheaper than the best.
    pub fn is_closed(&self, bound: f64) -> bool {
        self.cost <= self.rounded(bound) + self.step * 0.5
    }

    pub fn is_done(&self) -> bool {
        self.cost <= self.bound + self.step * 0.5
    }

    /// Searches the whole if it is small, with what `relaxation` proves.
    fn search_whole(&mut self, relaxation: &Relaxation<'_>) {
        if self.search(relaxation, 4) {
            self.bound = self.cost;
        }
    }

    /// Searches all packings that keep to the ranges of `relaxation`, with one part in `parts` of the work that is left;
    /// `true` if none is cheaper than the best.
    pub fn search(&mut self, relaxation: &Relaxation<'_>, parts: u64) -> bool {
        const MOST_HOSTS: u64 = 60;
        let hosts = self.best.patterns.iter().fold(0_u64, |sum, pattern| sum.saturating_add(pattern.times));
        if self.is_done() || self.work.is_out() || hosts > MOST_HOSTS {
            return false;
        }
        let mut part = self.work.share(self.work.rest() / parts);
        let ground = Ground::new(self.model, self.served, &relaxation.proven, self.step, &mut part);
        let shelf = Shelf::full(self.model);
        let found = search(&ground, self.served, &shelf, &relaxation.ranges, self.cost, &mut part);
        self.work.spend(part.spent());
        if let Some(patterns) = found.patterns {
            self.offer(normal(patterns, self.served.len()));
        }
        found.is_complete
    }

    /// Takes a few hosts apart and searches for cheaper ones for what they hold, again and again.
    fn rebuild(&mut self, relaxation: &Relaxation<'_>) {
        const MOST_IN_VAIN: u32 = 400;
        if self.is_done() || self.work.is_out() {
            return;
        }
        let duals = &relaxation.proven;
        let ground = Ground::new(self.model, self.served, duals, self.step, &mut self.work);
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let mut in_vain = 0;
        while !self.work.is_out() && !self.is_done() && in_vain < MOST_IN_VAIN {
            let size = 2 + random.below(5);
            let (kept, counts) = self.take_apart(size, duals, &mut random);
            let mut shelf = Shelf::full(self.model);
            for (bin, hosts) in kept.hosts(self.model.problem).into_iter().enumerate() {
                shelf.take(self.model, bin, hosts);
            }
            let below = self.cost - kept.cost(self.model.problem);
            self.work.spend_numbers(self.model.bins() * self.model.items());
            let mut part = self.work.share(20_000);
            let found = search(&ground, &counts, &shelf, &[], below, &mut part);
            self.work.spend(part.spent());
            in_vain += 1;
            if let Some(patterns) = found.patterns {
                let before = self.cost;
                let patterns = kept.patterns.into_iter().chain(patterns).collect();
                self.offer(normal(patterns, self.served.len()));
                if self.cost < before {
                    in_vain = 0;
                }
            }
        }
    }

    /// The best packing without `size` of its hosts, and what they held. Hosts that waste much are taken more often.
    fn take_apart(&self, size: u64, duals: &Duals, random: &mut Random) -> (Packing, Vec<u64>) {
        let mut kept = self.best.clone();
        let mut counts = vec![0_u64; self.served.len()];
        for _ in 0..size {
            // The most wasteful of two that chance picks.
            let waste = |pattern: &Pattern| {
                let worth: f64 = pattern.items.iter().map(|&(item, count)| duals.items[item] * f64::from(count)).sum();
                self.model.prices[pattern.bin] - worth
            };
            let count = kept.patterns.len() as u64;
            if count == 0 {
                break;
            }
            let (a, b) = (random.below(count) as usize, random.below(count) as usize);
            let chosen = if waste(&kept.patterns[a]) >= waste(&kept.patterns[b]) { a } else { b };
            let pattern = &mut kept.patterns[chosen];
            for &(item, count) in &pattern.items {
                counts[item] += u64::from(count);
            }
            pattern.times -= 1;
            if pattern.times == 0 {
                kept.patterns.swap_remove(chosen);
            }
        }
        (kept, counts)
    }
}

/// Whether `packing` serves exactly `served`, within all limits.
fn check_served(problem: &Problem, served: &[u64], packing: &Packing) -> bool {
    let left = problem.items.iter().zip(served).map(|(item, served)| item.count - served).collect();
    check(problem, &Packing { patterns: packing.patterns.clone(), left }).is_ok()
}

fn normal(patterns: Vec<Pattern>, items: usize) -> Packing {
    let mut packing = Packing { patterns, left: vec![0; items] };
    packing.normalise();
    packing
}

/// A fixed sequence that looks like chance: the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }
}
