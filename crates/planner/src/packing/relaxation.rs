//! Column generation: the cheapest mixture of fillings when hosts may be bought in fractions, and the bound it proves.

use std::collections::BTreeSet;

use super::greedy::Shelf;
use super::knapsack::Pricer;
use super::model::Model;
use super::simplex::Simplex;
use super::work::Work;

/// A filling of one host: its bin, and the counts of its items by item.
pub(super) type Filling = (usize, Vec<(usize, u32)>);

/// Prices under which no filling of a bin is worth more than `price + bins + hosts`: whatever serves the items costs at
/// least what they are worth, less what the limits are.
#[derive(Clone, Debug)]
pub(super) struct Duals {
    /// Worth of one piece, by item.
    pub items: Vec<f64>,
    /// Worth of one more host where a limit binds, by bin.
    pub bins: Vec<f64>,
    /// The same for the limit over all bins.
    pub hosts: f64,
    /// The bound they prove for the counts they were made for.
    pub bound: f64,
}

/// The master problem and its columns.
pub(super) struct Relaxation<'a> {
    pub model: &'a Model<'a>,
    pub counts: &'a [u64],
    pub simplex: Simplex,
    pub columns: Vec<Filling>,
    pub pricer: Pricer,
    /// The best that is proven.
    pub proven: Duals,
    rows: Vec<Option<usize>>,
    bin_rows: Vec<Option<usize>>,
    hosts_row: Option<usize>,
    known: BTreeSet<Filling>,
    /// Items that a paid host holds without limit: they are worth nothing.
    is_free: Vec<bool>,
}

impl<'a> Relaxation<'a> {
    pub fn new(model: &'a Model<'a>, counts: &'a [u64]) -> Relaxation<'a> {
        let mut at_least = Vec::new();
        let rows = counts.iter().map(|&count| {
            (count > 0).then(|| {
                at_least.push(count as f64);
                at_least.len() - 1
            })
        });
        let rows: Vec<Option<usize>> = rows.collect();
        let mut at_most = Vec::new();
        let mut limit = |most: u64, useful: u64| {
            (most < useful).then(|| {
                at_most.push(most as f64);
                at_least.len() + at_most.len() - 1
            })
        };
        let bin_rows: Vec<Option<usize>> =
            (0..model.bins()).map(|bin| limit(model.most_hosts[bin], useful_hosts(model, counts, bin))).collect();
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
        Relaxation {
            simplex: Simplex::new(&at_least, &at_most, if dearest > 0.0 { dearest * 100.0 } else { 1.0 }),
            columns: Vec::new(),
            pricer: Pricer::new(model),
            proven: Duals { items: vec![0.0; model.items()], bins: vec![0.0; model.bins()], hosts: 0.0, bound: 0.0 },
            rows,
            bin_rows,
            hosts_row,
            known: BTreeSet::new(),
            is_free: is_free.collect(),
            model,
            counts,
        }
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
        let mut entries = Vec::with_capacity(filling.1.len() + 2);
        for &(item, count) in &filling.1 {
            entries.extend(self.rows[item].map(|row| (row, f64::from(count))));
        }
        entries.extend(self.bin_rows[bin].map(|row| (row, 1.0)));
        entries.extend(self.hosts_row.map(|row| (row, 1.0)));
        self.simplex.add(entries, self.model.prices[bin]);
        self.columns.push(filling.clone());
        self.known.insert(filling);
        true
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

    /// Generates columns until none is missing, the bound reaches `enough`, or the work is spent.
    pub fn solve(&mut self, enough: f64, work: &mut Work) {
        const MOST_NODES: u64 = 200_000;
        let mut nodes = 64;
        let mut center: Option<Duals> = None;
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
                    Some(center) if steady > 0.0 => mixed(center, &current, steady),
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

    /// The right side of the rows when `left` is still to be served from `shelf`.
    pub fn right(&self, left: &[u64], shelf: &Shelf) -> Vec<f64> {
        let mut right = vec![0.0; self.simplex.rows()];
        for (row, &left) in self.rows.iter().zip(left) {
            if let Some(row) = *row {
                right[row] = left as f64;
            }
        }
        for (bin, row) in self.bin_rows.iter().enumerate() {
            if let Some(row) = *row {
                let hosts = shelf.replicas_of(self.model, bin).saturating_mul(self.model.problem.bins[bin].hosts());
                right[row] = shelf.spare[bin].saturating_add(hosts) as f64;
            }
        }
        if let Some(row) = self.hosts_row {
            right[row] = shelf.spare.iter().fold(shelf.hosts, |sum, &spare| sum.saturating_add(spare)) as f64;
        }
        right
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
            let allowed = model.prices[bin] + duals.bins[bin] + duals.hosts;
            *worth = self.pricer.quick_bound(model, bin, &duals.items, self.counts);
            if *worth <= allowed {
                continue;
            }
            let priced = self.pricer.best(model, bin, &duals.items, self.counts, nodes, work);
            *worth = priced.bound;
            round.is_cut_short |= priced.bound > priced.value * (1.0 + 1e-6) && priced.bound > allowed;
            let paid: f64 = priced.items.iter().map(|&(item, count)| current.items[item] * f64::from(count)).sum();
            let price = model.prices[bin] + current.bins[bin] + current.hosts;
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
        let scaled = self.scaled(duals, &worths);
        let mut raised = duals.clone();
        for (bin, worth) in worths.iter().enumerate() {
            if self.bin_rows[bin].is_some() || self.model.prices[bin] == 0.0 && self.model.most_hosts[bin] != u64::MAX {
                raised.bins[bin] = raised.bins[bin].max(worth - self.model.prices[bin] - raised.hosts);
            }
        }
        let raised = self.scaled(&raised, &worths);
        let best = if raised.bound > scaled.bound { raised } else { scaled };
        let is_better = best.bound > self.proven.bound;
        if is_better {
            self.proven = best;
        }
        is_better
    }

    /// Scales prices until no filling is worth more than it may be, and says what they prove.
    fn scaled(&self, duals: &Duals, worths: &[f64]) -> Duals {
        let mut scale = f64::INFINITY;
        for (bin, worth) in worths.iter().enumerate() {
            // What must be covered by the price of the host.
            let excess = worth - duals.bins[bin] - duals.hosts;
            if excess > worth * 1e-15 {
                scale = scale.min(self.model.prices[bin] / excess);
            }
        }
        if scale == f64::INFINITY {
            scale = 0.0;
        }
        let scale = scale * (1.0 - 1e-12);
        let items: Vec<f64> = duals.items.iter().map(|worth| worth * scale).collect();
        let bins: Vec<f64> = duals.bins.iter().map(|worth| worth * scale).collect();
        let hosts = duals.hosts * scale;
        let mut bound: f64 = items.iter().zip(self.counts).map(|(worth, &count)| worth * count as f64).sum();
        let gross = bound;
        for (worth, &most) in bins.iter().zip(&self.model.most_hosts) {
            if *worth > 0.0 {
                bound -= worth * most as f64;
            }
        }
        if hosts > 0.0 {
            bound -= hosts * self.model.problem.most_hosts as f64;
        }
        // Sums of a few hundred products: their rounding errors are far below this.
        Duals { items, bins, hosts, bound: (bound - gross * 1e-10).max(0.0) }
    }
}

/// What a round of pricing brought.
struct Round {
    added: usize,
    is_cut_short: bool,
    has_better_bound: bool,
}

fn mixed(center: &Duals, current: &Duals, part: f64) -> Duals {
    let mix = |center: &f64, current: &f64| center * part + current * (1.0 - part);
    Duals {
        items: center.items.iter().zip(&current.items).map(|(a, b)| mix(a, b)).collect(),
        bins: center.bins.iter().zip(&current.bins).map(|(a, b)| mix(a, b)).collect(),
        hosts: mix(&center.hosts, &current.hosts),
        bound: 0.0,
    }
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
