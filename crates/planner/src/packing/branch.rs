//! Branching on how many replicas of a bin are bought: the bound of fractions of hosts is loose where one dear host more
//! or less makes the difference, and each branch closes that gap from one side.

use super::duals::Range;
use super::improve::Improvement;
use super::relaxation::Relaxation;

/// Packings that keep to `ranges`, none of which costs less than `bound`.
struct Node {
    ranges: Vec<Range>,
    bound: f64,
}

/// Raises the bound of `state`, and finds better packings on the way, until it is proven or half of the work is spent.
pub(super) fn branch(state: &mut Improvement<'_>, root: &Relaxation<'_>) {
    /// More rows make each node too dear to see many.
    const MOST_ROWS: usize = 120;
    if state.is_done() || state.work.is_out() || root.simplex.rows() > MOST_ROWS {
        return;
    }
    let keep = state.work.rest() / 2;
    let mut fillings = root.columns.clone();
    let mut open = children(root, root.proven.bound);
    // The least bound of what was given up.
    let mut given_up = if open.is_empty() { root.proven.bound } else { f64::INFINITY };
    while state.work.rest() > keep && !state.is_done() {
        let lowest = (0..open.len()).min_by(|&a, &b| open[a].bound.total_cmp(&open[b].bound).then(a.cmp(&b)));
        let Some(node) = lowest.map(|index| open.swap_remove(index)) else { break };
        state.raise_bound(node.bound.min(given_up).min(state.cost));
        if node.bound >= given_up || state.is_done() {
            open.push(node);
            break;
        }
        let mut relaxation = Relaxation::new(state.model, state.served, node.ranges.clone());
        for (bin, items) in &fillings {
            relaxation.add(*bin, items);
        }
        let known = relaxation.columns.len();
        let mut part = state.work.share(state.work.rest() - keep);
        relaxation.solve(state.cost - state.step * 0.5, &mut part);
        state.work.spend(part.spent());
        fillings.extend(relaxation.columns[known..].iter().filter(|filling| !filling.1.is_empty()).cloned());
        let bound = relaxation.proven.bound.max(node.bound);
        if state.is_closed(bound) {
            continue;
        }
        if part.is_out() {
            open.push(Node { bound, ..node });
            break;
        }
        state.dive(&relaxation, 1.0, 20);
        let children = children(&relaxation, bound);
        if children.is_empty() && !state.search(&relaxation, 8) {
            given_up = given_up.min(bound);
        }
        open.extend(children);
    }
    let lowest = open.iter().map(|node| node.bound).fold(given_up, f64::min);
    state.raise_bound(lowest.min(state.cost));
}

/// The two ways to make the most undecided number of replicas whole; empty if all are.
fn children(relaxation: &Relaxation<'_>, bound: f64) -> Vec<Node> {
    let model = relaxation.model;
    let mut best: Option<(f64, usize, u64)> = None;
    for (bin, replicas) in relaxation.replicas().into_iter().enumerate() {
        let part = replicas - (replicas + 1e-6).floor();
        if part < 1e-6 {
            continue;
        }
        let price = model.prices[bin] * model.problem.bins[bin].hosts() as f64;
        let weight = part.min(1.0 - part) * price;
        if best.is_none_or(|(most, ..)| weight > most) {
            best = Some((weight, bin, replicas.floor() as u64));
        }
    }
    let Some((_, bin, replicas)) = best else { return Vec::new() };
    let unit = model.problem.bins[bin].hosts();
    let (mut fewer, mut more) = (relaxation.ranges.clone(), relaxation.ranges.clone());
    fewer[bin].most = fewer[bin].most.min(replicas * unit);
    more[bin].least = more[bin].least.max((replicas + 1) * unit);
    let nodes = [fewer, more].into_iter().map(|ranges| Node { ranges, bound });
    nodes.collect()
}
