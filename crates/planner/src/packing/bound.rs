//! A lower bound that costs a tick next to nothing.

use super::Problem;
use super::duals::{Duals, Range};
use super::model::Model;
use super::simplex::Simplex;
use super::work::Work;

/// A bound on the cost of any packing that serves every item that some bin can hold. Where limits leave items, ask with
/// the served counts.
///
/// The better of two. Each resource for itself: an item pays for its share of the resource at the lowest price among the
/// bins that may hold it, so what a host holds never pays more than the host costs. And all resources together, each at
/// one price for all bins: the cheapest mixture of hosts, in fractions, that has as much of everything as the items take.
pub fn lower_bound(problem: &Problem) -> f64 {
    whole_bound(&Model::new(problem))
}

/// [`lower_bound`] of all items that some bin can hold.
pub(super) fn whole_bound(model: &Model<'_>) -> f64 {
    let counts = model.problem.items.iter().enumerate().map(|(item, of)| {
        let is_possible = model.kinds.iter().any(|bins| model.fit(bins[0], item) > 0);
        if is_possible { of.count } else { 0 }
    });
    quick_bound(model, &counts.collect::<Vec<_>>())
}

/// [`lower_bound`] for `counts`, each of which is served.
pub(super) fn quick_bound(model: &Model<'_>, counts: &[u64]) -> f64 {
    let ranges = Range::full(model);
    let mixture = Mixture::new(model, counts, &ranges);
    let scaled = mixture.duals.scaled(model, counts, &ranges, &mixture.worths(model));
    by_resource(model, counts).max(scaled.bound)
}

fn by_resource(model: &Model<'_>, counts: &[u64]) -> f64 {
    let mut totals = vec![0.0; model.resources];
    let mut least = vec![f64::INFINITY; model.resources];
    let priced = |(bin, price): (usize, f64)| {
        // Nothing of a resource that a host doesn't have is used on it.
        let unit = |size: &i64| if *size > 0 { price / *size as f64 } else { f64::INFINITY };
        (bin, model.capacity(bin).iter().map(unit).collect::<Vec<f64>>())
    };
    let bins: Vec<(usize, Vec<f64>)> = model.cheapest(&model.prices).map(priced).collect();
    for (item, &count) in counts.iter().enumerate() {
        least.fill(f64::INFINITY);
        for (_, prices) in bins.iter().filter(|(bin, _)| model.fit(*bin, item) > 0) {
            for (least, &price) in least.iter_mut().zip(prices) {
                *least = least.min(price);
            }
        }
        for ((total, least), &size) in totals.iter_mut().zip(&least).zip(model.size(item)) {
            if size > 0 && least.is_finite() {
                *total += least * size as f64 * count as f64;
            }
        }
    }
    totals.into_iter().fold(0.0, f64::max) * (1.0 - 1e-9)
}

/// The cheapest mixture of hosts in fractions, by its prices.
pub(super) struct Mixture {
    /// Worth of the items and limits; not scaled, so not proven.
    pub duals: Duals,
    /// Price of a unit of each resource.
    pub resources: Vec<f64>,
}

impl Mixture {
    pub fn new(model: &Model<'_>, counts: &[u64], ranges: &[Range]) -> Mixture {
        let mut wanted = vec![0.0; model.resources];
        for (item, &count) in counts.iter().enumerate() {
            for (wanted, &size) in wanted.iter_mut().zip(model.size(item)) {
                *wanted += size as f64 * count as f64;
            }
        }
        let mut largest = vec![1_i64; model.resources];
        for bin in 0..model.bins() {
            for (largest, &capacity) in largest.iter_mut().zip(model.capacity(bin)) {
                *largest = (*largest).max(capacity);
            }
        }
        let at_least: Vec<f64> = wanted.iter().zip(&largest).map(|(wanted, &most)| wanted / most as f64).collect();
        // Where more hosts are allowed than this, their number is no limit.
        let useful = at_least.iter().sum::<f64>() * 1e3 + 1e3;
        let limited: Vec<usize> = (0..model.bins()).filter(|&bin| (ranges[bin].most as f64) < useful).collect();
        let mut at_most: Vec<f64> = limited.iter().map(|&bin| ranges[bin].most as f64).collect();
        let has_limit = (model.problem.most_hosts as f64) < useful;
        at_most.extend(has_limit.then_some(model.problem.most_hosts as f64));
        let dearest = model.prices.iter().fold(0.0_f64, |most, &price| most.max(price));
        let mut simplex = Simplex::new(&at_least, &at_most, if dearest > 0.0 { dearest * 1e3 } else { 1.0 });
        for bin in 0..model.bins() {
            let shares = model.capacity(bin).iter().zip(&largest).enumerate();
            let shares = shares.filter(|(_, (capacity, _))| **capacity > 0);
            let mut entries: Vec<(usize, f64)> =
                shares.map(|(row, (&capacity, &most))| (row, capacity as f64 / most as f64)).collect();
            entries.extend(limited.iter().position(|&limited| limited == bin).map(|row| (at_least.len() + row, 1.0)));
            entries.extend(has_limit.then(|| (at_least.len() + limited.len(), 1.0)));
            simplex.add(entries, model.prices[bin]);
        }
        // A few dozen pivots over a few rows; were there more, the prices would only prove less.
        simplex.optimise(&mut Work::new(10_000));
        let rows = simplex.duals();
        let resources: Vec<f64> = rows.iter().zip(&largest).map(|(row, &most)| row.max(0.0) / most as f64).collect();
        let mut duals = Duals::nothing(model);
        for (item, worth) in duals.items.iter_mut().enumerate() {
            *worth = model.size(item).iter().zip(&resources).map(|(&size, price)| size as f64 * price).sum();
        }
        for (row, &bin) in limited.iter().enumerate() {
            duals.bins[bin] = (-rows[at_least.len() + row]).max(0.0);
        }
        if has_limit {
            duals.hosts = (-rows[at_least.len() + limited.len()]).max(0.0);
        }
        Mixture { duals, resources }
    }

    /// What a whole host of each bin is worth; no filling is worth more.
    fn worths(&self, model: &Model<'_>) -> Vec<f64> {
        let worth = |bin: usize| {
            let priced = model.capacity(bin).iter().zip(&self.resources);
            priced.map(|(&capacity, price)| capacity as f64 * price).sum::<f64>() * (1.0 + 1e-12)
        };
        (0..model.bins()).map(worth).collect()
    }
}
