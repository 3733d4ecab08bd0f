//! Making a packing cheaper, and saying how far from the optimum it may still be.

use super::bound::by_resource;
use super::greedy::{Shelf, pack};
use super::model::Model;
use super::{Packing, Problem};

/// What [`improve`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Improved {
    /// Serves what the start serves and costs no more.
    pub packing: Packing,
    /// No packing that serves the same costs less.
    pub lower_bound: f64,
    /// Whether the packing is proven to cost no more than any other.
    pub is_proven: bool,
    /// Work that was spent.
    pub work: u64,
}

/// Fillings that were useful before, kept from tick to tick so that the next solve starts near its end.
///
/// The pool is an input like any other: the same problem, start, work and pool give the same packing and the same pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnPool {}

/// Makes `start` cheaper within `work`. It serves what `start` serves: the same pieces are left.
pub fn improve(problem: &Problem, start: &Packing, work: u64, pool: &mut ColumnPool) -> Improved {
    let _ = pool;
    let model = Model::new(problem);
    let served: Vec<u64> =
        problem.items.iter().zip(&start.left).map(|(item, &left)| item.count.saturating_sub(left)).collect();
    let lower_bound = by_resource(&model, &served);
    let mut packing = start.clone();
    if work > 0 {
        let mut again = pack(&model, &served, &Shelf::full(&model));
        if again.left.iter().all(|&left| left == 0) {
            again.left.clone_from(&start.left);
            if again.is_better_than(&packing, problem) {
                packing = again;
            }
        }
    }
    packing.normalise();
    let is_proven = packing.cost(problem) <= lower_bound * (1.0 + 1e-9);
    Improved { packing, lower_bound, is_proven, work: work.min(1) }
}
