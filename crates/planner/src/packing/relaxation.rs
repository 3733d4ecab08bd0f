//! Column generation: the cheapest mixture of fillings when hosts may be bought in fractions, and the bound it proves.

use std::collections::BTreeSet;

use super::bound::Mixture;
use super::duals::{Duals, Range};
use super::knapsack::Pricer;
use super::model::Model;
use super::rounding::Partial;
use super::simplex::Simplex;
use super::work::Work;

/// A filling of one host: its bin, and the counts of its items by item.
pub(super) type Filling = (usize, Vec<(usize, u32)>);

/// The master problem and its columns.
pub(super) struct Relaxation<'a> {
    pub model: &'a Model<'a>,
    pub counts: &'a [u64],
    pub simplex: Simplex,
    pub columns: Vec<Filling>,
    pub pricer: Pricer,
    /// The best that is proven.
    pub proven: Duals,
    pub ranges: Vec<Range>,
    rows: Vec<Option<usize>>,
    least_rows: Vec<Option<usize>>,
    bin_rows: Vec<Option<usize>>,
    hosts_row: Option<usize>,
    known: BTreeSet<Filling>,
    /// Items that a paid host holds without limit: they are worth nothing.
    is_free: Vec<bool>,
}

impl<'a> Relaxation<'a> {
    /// The problem of serving `counts` with as many hosts of each bin as `ranges` allow.
    pub fn new(model: &'a Model<'a>, counts: &'a [u64], ranges: Vec<Range>) -> Relaxation<'a> {
        let mut at_least = Vec::new();
        let mut row = |wanted: u64| {
            (wanted > 0).then(|| {
                at_least.push(wanted as f64);
                at_least.len() - 1
            })
        };
        let rows: Vec<Option<usize>> = counts.iter().map(|&count| row(count)).collect();
        let least_rows: Vec<Option<usize>> = ranges.iter().map(|range| row(range.least)).collect();
        let mut at_most = Vec::new();
        let mut limit = |most: u64, useful: u64| {
            (most < useful).then(|| {
                at_most.push(most as f64);
                at_least.len() + at_most.len() - 1
            })
        };
        let bin_rows: Vec<Option<usize>> =
            (0..model.bins()).map(|bin| limit(ranges[bin].most, useful_hosts(model, counts, bin))).collect();
        let all = (0..model.bins()).map(|bin| useful_hosts(model, counts, bin)).max().unwrap_or(0);
        let hosts_row = limit(model.problem.most_hosts, all);
        let dearest = model.prices.iter().fold(0.0_f64, |most, &price| most.max(price));
        let is_free = (0..model.items()).map(|item| {
            (0..model.bins()).any(|bin| {
                model.prices[bin] == 0.0
                    && model.fit(bin, item) > 0
                    && model.most_hosts[bin] >= useful_hosts(model, counts, bin)
            })
        });
        let mut relaxation = Relaxation {
            simplex: Simplex::new(&at_least, &at_most, if dearest > 0.0 { dearest * 100.0 } else { 1.0 }),
            columns: Vec::new(),
            pricer: Pricer::new(model),
            proven: Duals::nothing(model),
            ranges,
            least_rows,
            rows,
            bin_rows,
            hosts_row,
            known: BTreeSet::new(),
            is_free: is_free.collect(),
            model,
            counts,
        };
        for bin in 0..model.bins() {
            if relaxation.ranges[bin].least > 0 {
                relaxation.insert((bin, Vec::new()));
            }
        }
        relaxation
    }

    /// Adds a filling, cut to what is asked for; `false` if it is known or empty.
    pub fn add(&mut self, bin: usize, items: &[(usize, u32)]) -> bool {
        let cut = items.iter().map(|&(item, count)| (item, u64::from(count).min(self.counts[item]) as u32));
        let mut items: Vec<(usize, u32)> = cut.filter(|&(_, count)| count > 0).collect();
        items.sort_unstable();
        let filling = (bin, items);
        if filling.1.is_empty() || self.known.contains(&filling) {
            return false;
        }
        self.insert(filling);
        true
    }

    fn insert(&mut self, filling: Filling) {
        let bin = filling.0;
        let mut entries = Vec::with_capacity(filling.1.len() + 3);
        for &(item, count) in &filling.1 {
            entries.extend(self.rows[item].map(|row| (row, f64::from(count))));
        }
        let own = self.least_rows[bin].into_iter().chain(self.bin_rows[bin]).chain(self.hosts_row);
        entries.extend(own.map(|row| (row, 1.0)));
        self.simplex.add(entries, self.model.prices[bin]);
        self.columns.push(filling.clone());
        self.known.insert(filling);
    }

    /// Adds for every item the cheapest host that holds nothing else.
    pub fn add_singles(&mut self) {
        for item in 0..self.model.items() {
            let price = |bin: &usize| self.model.prices[*bin] / f64::from(self.model.fit(*bin, item));
            let holders = (0..self.model.bins()).filter(|&bin| self.model.fit(bin, item) > 0);
            if let Some(bin) = holders.min_by(|a, b| price(a).total_cmp(&price(b))) {
                self.add(bin, &[(item, self.model.fit(bin, item))]);
            }
        }
    }

    /// Proves what a mixture of all hosts in fractions proves. Its prices are near enough to start from.
    pub fn start(&mut self, work: &mut Work) {
        let mixture = Mixture::new(self.model, self.counts, &self.ranges);
        let mut worths = Vec::with_capacity(self.model.bins());
        for bin in 0..self.model.bins() {
            work.spend_numbers(self.model.items() * self.model.resources);
            worths.push(self.pricer.best(self.model, bin, &mixture.duals.items, self.counts, 16, work).bound);
        }
        self.prove(&mixture.duals, &worths);
    }

    /// Generates columns until none is missing, the bound reaches `enough`, or the work is spent.
    pub fn solve(&mut self, enough: f64, work: &mut Work) {
        const MOST_NODES: u64 = 200_000;
        let mut nodes = 64;
        let mut center = (self.proven.bound > 0.0).then(|| self.proven.clone());
        while self.simplex.optimise(work) {
            let cost = self.simplex.objective();
            if cost <= self.proven.bound * (1.0 + 1e-7) || self.proven.bound >= enough {
                return;
            }
            let current = self.current();
            // Prices half way to the best so far swing less, and prove more, than those of the master problem.
            let mut steady = if center.is_some() { 0.5 } else { 0.0 };
            loop {
                let duals = match &center {
                    Some(center) if steady > 0.0 => center.mixed(&current, steady),
                    _ => current.clone(),
                };
                let round = self.price(&duals, &current, nodes, work);
                let Some(round) = round else { return };
                if round.has_better_bound {
                    center = Some(self.proven.clone());
                }
                if round.added > 0 {
                    break;
                }
                if steady > 0.0 {
                    steady = if steady > 0.3 { steady * 0.5 } else { 0.0 };
                } else if round.is_cut_short && nodes < MOST_NODES {
                    nodes *= 8;
                } else {
                    return;
                }
            }
        }
    }

    /// At most `most` of the columns, those first that the prices of the master problem like best.
    pub fn best_columns(&self, most: usize) -> Vec<Filling> {
        let mut order: Vec<usize> = (0..self.columns.len()).collect();
        let waste = |column: usize| self.simplex.waste(column) / self.model.prices[self.columns[column].0].max(1e-12);
        order.sort_by(|&a, &b| waste(a).total_cmp(&waste(b)).then(a.cmp(&b)));
        order.truncate(most);
        order.into_iter().map(|column| self.columns[column].clone()).collect()
    }

    /// The right side of the rows when `partial` is bought already.
    pub fn right(&self, partial: &Partial<'_>) -> Vec<f64> {
        let mut right = vec![0.0; self.simplex.rows()];
        for (row, &left) in self.rows.iter().zip(&partial.left) {
            if let Some(row) = *row {
                right[row] = left as f64;
            }
        }
        for (bin, range) in self.ranges.iter().enumerate() {
            let (paid, spare) = partial.paid(bin);
            if let Some(row) = self.least_rows[bin] {
                right[row] = range.least.saturating_sub(paid) as f64;
            }
            if let Some(row) = self.bin_rows[bin] {
                right[row] = range.most.saturating_sub(paid).saturating_add(spare) as f64;
            }
        }
        if let Some(row) = self.hosts_row {
            let shelf = &partial.shelf;
            right[row] = shelf.spare.iter().fold(shelf.hosts, |sum, &spare| sum.saturating_add(spare)) as f64;
        }
        right
    }

    /// Replicas of each bin that the solution pays for, in fractions.
    pub fn replicas(&self) -> Vec<f64> {
        let mut replicas = vec![0.0; self.model.bins()];
        for (column, times) in self.simplex.solution() {
            let bin = self.columns[column].0;
            replicas[bin] += times / self.model.problem.bins[bin].hosts() as f64;
        }
        replicas
    }

    /// The prices of the master problem.
    fn current(&self) -> Duals {
        let duals = self.simplex.duals();
        let limit = |row: &Option<usize>| row.map_or(0.0, |row| (-duals[row]).max(0.0));
        let items = self.rows.iter().zip(&self.is_free).map(|(row, &is_free)| match row {
            Some(row) if !is_free => duals[*row].max(0.0),
            _ => 0.0,
        });
        Duals {
            items: items.collect(),
            bins: self.bin_rows.iter().map(limit).collect(),
            hosts: limit(&self.hosts_row),
            least: self.least_rows.iter().map(|row| row.map_or(0.0, |row| duals[row].max(0.0))).collect(),
            bound: 0.0,
        }
    }

    /// Looks in every bin for a filling that is worth more than its price; `None` if the work ran out.
    fn price(&mut self, duals: &Duals, current: &Duals, nodes: u64, work: &mut Work) -> Option<Round> {
        let model = self.model;
        let mut round = Round { added: 0, is_cut_short: false, has_better_bound: false };
        let mut worths = vec![0.0; model.bins()];
        for (bin, worth) in worths.iter_mut().enumerate() {
            if work.is_out() {
                return None;
            }
            work.spend_numbers(model.items() * model.resources);
            let allowed = duals.allowed(model, bin);
            *worth = self.pricer.quick_bound(model, bin, &duals.items, self.counts);
            if *worth <= allowed {
                continue;
            }
            let priced = self.pricer.best(model, bin, &duals.items, self.counts, nodes, work);
            *worth = priced.bound;
            round.is_cut_short |= priced.bound > priced.value * (1.0 + 1e-6) && priced.bound > allowed;
            let paid: f64 = priced.items.iter().map(|&(item, count)| current.items[item] * f64::from(count)).sum();
            let price = current.allowed(model, bin);
            if paid > price + model.prices[bin] * 1e-7 + 1e-12 && self.add(bin, &priced.items) {
                round.added += 1;
            }
        }
        round.has_better_bound = self.prove(duals, &worths);
        Some(round)
    }

    /// Makes `duals` keep their promise, given that no filling of a bin is worth more than `worths`; `true` if they prove more.
    fn prove(&mut self, duals: &Duals, worths: &[f64]) -> bool {
        // Rounded up, so that no rounding error below makes a worth too low.
        let worths: Vec<f64> = worths.iter().map(|worth| worth * (1.0 + 1e-12)).collect();
        let scaled = duals.scaled(self.model, self.counts, &self.ranges, &worths);
        let mut raised = duals.clone();
        for (bin, worth) in worths.iter().enumerate() {
            if self.bin_rows[bin].is_some() || self.model.prices[bin] == 0.0 && self.ranges[bin].most != u64::MAX {
                let lacking = worth - raised.allowed(self.model, bin);
                raised.bins[bin] += lacking.max(0.0);
            }
        }
        let raised = raised.scaled(self.model, self.counts, &self.ranges, &worths);
        let best = if raised.bound > scaled.bound { raised } else { scaled };
        let is_better = best.bound > self.proven.bound;
        if is_better {
            self.proven = best;
        }
        is_better
    }
}

/// What a round of pricing brought.
struct Round {
    added: usize,
    is_cut_short: bool,
    has_better_bound: bool,
}

/// More hosts of `bin` than this are of no use, even if each holds one class of items alone.
fn useful_hosts(model: &Model<'_>, counts: &[u64], bin: usize) -> u64 {
    let mut hosts = 0_u64;
    for (item, &count) in counts.iter().enumerate() {
        let fit = u64::from(model.fit(bin, item));
        if fit > 0 {
            hosts = hosts.saturating_add(count.div_ceil(fit));
        }
    }
    hosts
}
