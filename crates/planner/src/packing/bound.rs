//! A lower bound that costs a tick next to nothing.

use super::Problem;
use super::model::Model;

/// A bound on the cost of any packing that serves every item that some bin can hold. Where limits leave items, ask with
/// the served counts.
///
/// Each resource for itself: an item pays for its share of the resource at the lowest price among the bins that may hold
/// it, so what a host holds never pays more than the host costs. The resource that yields most counts.
pub fn lower_bound(problem: &Problem) -> f64 {
    let model = Model::new(problem);
    let counts: Vec<u64> = problem.items.iter().map(|item| item.count).collect();
    by_resource(&model, &counts)
}

/// [`lower_bound`] for `counts` instead of the counts of the items, all of which are served.
pub(super) fn by_resource(model: &Model<'_>, counts: &[u64]) -> f64 {
    let mut best = 0.0_f64;
    for resource in 0..model.resources {
        let mut total = 0.0;
        for (item, &count) in counts.iter().enumerate() {
            let size = model.size(item)[resource] as f64;
            let holders = (0..model.bins()).filter(|&bin| model.fit(bin, item) > 0);
            let share = holders.map(|bin| model.prices[bin] * size / model.capacity(bin)[resource].max(1) as f64);
            let least = share.fold(f64::INFINITY, f64::min);
            if least.is_finite() {
                total += least * count as f64;
            }
        }
        best = best.max(total);
    }
    best * (1.0 - 1e-9)
}
