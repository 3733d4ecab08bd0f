//! A revised simplex over columns that are added as they are found, for the master problem of column generation.
//!
//! minimise cost · x, where the first rows ask for at least, the rest for at most, their right side; x ≥ 0. Dense explicit
//! inverse: there are as many rows as classes of items and limits, a few hundred. Floating point: it steers, it never decides.

use super::work::Work;

/// One column: row and coefficient.
pub(super) type Entries = Vec<(usize, f64)>;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    Column(usize),
    /// What a row has too much (at least) or too little (at most).
    Slack(usize),
    /// What a row still lacks, at a forbidding cost.
    Missing(usize),
}

#[derive(Clone)]
pub(super) struct Simplex {
    /// Rows below this index ask for at least, the others for at most.
    at_least: usize,
    right: Vec<f64>,
    columns: Vec<Entries>,
    costs: Vec<f64>,
    is_basic: Vec<bool>,
    reduced: Vec<f64>,
    forbidding: f64,
    basis: Vec<Variable>,
    /// Row by row.
    inverse: Vec<f64>,
    values: Vec<f64>,
    duals: Vec<f64>,
    direction: Vec<f64>,
}

const ZERO: f64 = 1e-9;

impl Simplex {
    /// Rows with right sides; nothing is served yet, at `forbidding` a unit.
    pub fn new(at_least: &[f64], at_most: &[f64], forbidding: f64) -> Simplex {
        let right: Vec<f64> = at_least.iter().chain(at_most).copied().collect();
        let rows = right.len();
        let mut inverse = vec![0.0; rows * rows];
        for row in 0..rows {
            inverse[row * rows + row] = 1.0;
        }
        let is_first = |row: usize| row < at_least.len();
        Simplex {
            at_least: at_least.len(),
            values: right.clone(),
            right,
            columns: Vec::new(),
            costs: Vec::new(),
            is_basic: Vec::new(),
            reduced: Vec::new(),
            forbidding,
            basis: (0..rows)
                .map(|row| if is_first(row) { Variable::Missing(row) } else { Variable::Slack(row) })
                .collect(),
            inverse,
            duals: (0..rows).map(|row| if is_first(row) { forbidding } else { 0.0 }).collect(),
            direction: vec![0.0; rows],
        }
    }

    pub fn rows(&self) -> usize {
        self.right.len()
    }

    /// Price of one unit of each row: not negative for at least, not positive for at most, once solved.
    pub fn duals(&self) -> &[f64] {
        &self.duals
    }

    /// What using a column once costs above what its rows pay.
    pub fn waste(&self, column: usize) -> f64 {
        self.reduced[column]
    }

    pub fn add(&mut self, entries: Entries, cost: f64) {
        let paid: f64 = entries.iter().map(|&(row, count)| self.duals[row] * count).sum();
        self.reduced.push(cost - paid);
        self.columns.push(entries);
        self.costs.push(cost);
        self.is_basic.push(false);
    }

    fn cost(&self, variable: Variable) -> f64 {
        match variable {
            Variable::Column(column) => self.costs[column],
            Variable::Slack(_) => 0.0,
            Variable::Missing(_) => self.forbidding,
        }
    }

    pub fn objective(&self) -> f64 {
        self.basis.iter().zip(&self.values).map(|(&variable, value)| self.cost(variable) * value).sum()
    }

    /// The columns that are used, and how often.
    pub fn solution(&self) -> Vec<(usize, f64)> {
        let used = self.basis.iter().zip(&self.values).filter_map(|(variable, &value)| match variable {
            Variable::Column(column) if value > ZERO => Some((*column, value)),
            _ => None,
        });
        let mut used: Vec<(usize, f64)> = used.collect();
        used.sort_by_key(|&(column, _)| column);
        used
    }

    /// How the column of a slack in `row` counts.
    fn sign(&self, row: usize) -> f64 {
        if row < self.at_least { -1.0 } else { 1.0 }
    }

    /// Primal simplex; `false` if the work ran out before the optimum of these columns.
    pub fn optimise(&mut self, work: &mut Work) -> bool {
        let scale = self.costs.iter().fold(1e-12_f64, |most, &cost| most.max(cost));
        loop {
            if work.is_out() {
                self.refresh();
                return false;
            }
            let Some((entering, reduced)) = self.entering(scale * ZERO) else { break };
            self.set_direction(entering);
            let Some(row) = self.leaving() else { break };
            self.pivot(row, entering, reduced, work);
        }
        self.refresh();
        true
    }

    fn entering(&self, tolerance: f64) -> Option<(Variable, f64)> {
        let mut best = -tolerance;
        let mut found = None;
        for (column, &reduced) in self.reduced.iter().enumerate() {
            if reduced < best && !self.is_basic[column] {
                best = reduced;
                found = Some(Variable::Column(column));
            }
        }
        for row in 0..self.rows() {
            let reduced = -self.sign(row) * self.duals[row];
            if reduced < best {
                best = reduced;
                found = Some(Variable::Slack(row));
            }
        }
        found.map(|variable| (variable, best))
    }

    /// How the basic variables fall as `entering` grows.
    fn set_direction(&mut self, entering: Variable) {
        let rows = self.rows();
        let (inverse, columns) = (&self.inverse, &self.columns);
        let sign = if let Variable::Slack(row) = entering { self.sign(row) } else { 1.0 };
        for (index, direction) in self.direction.iter_mut().enumerate() {
            let line = &inverse[index * rows..(index + 1) * rows];
            *direction = match entering {
                Variable::Column(column) => columns[column].iter().map(|&(row, count)| line[row] * count).sum(),
                Variable::Slack(row) | Variable::Missing(row) => line[row] * sign,
            };
        }
    }

    fn leaving(&self) -> Option<usize> {
        let mut best: Option<(f64, usize)> = None;
        for (row, &direction) in self.direction.iter().enumerate() {
            if direction <= ZERO {
                continue;
            }
            let ratio = self.values[row].max(0.0) / direction;
            let is_better = best.is_none_or(|(least, found)| {
                ratio < least - 1e-12 || (ratio <= least + 1e-12 && direction > self.direction[found])
            });
            if is_better {
                best = Some((best.map_or(ratio, |(least, _)| least.min(ratio)), row));
            }
        }
        best.map(|(_, row)| row)
    }

    /// Dual simplex after the right side has changed; `false` if the rows can't be met with these columns, or work ran out.
    pub fn repair(&mut self, work: &mut Work) -> bool {
        loop {
            let lowest = (0..self.rows()).min_by(|&a, &b| self.values[a].total_cmp(&self.values[b]));
            let Some(row) = lowest.filter(|&row| self.values[row] < -1e-7) else { return true };
            if work.is_out() {
                return false;
            }
            let Some((entering, reduced)) = self.entering_for(row) else { return false };
            self.set_direction(entering);
            if self.direction[row] > -ZERO {
                return false;
            }
            self.pivot(row, entering, reduced, work);
        }
    }

    /// The variable that keeps all reduced costs right when `row` leaves the basis.
    fn entering_for(&self, row: usize) -> Option<(Variable, f64)> {
        let rows = self.rows();
        let line = &self.inverse[row * rows..(row + 1) * rows];
        let mut best: Option<(f64, f64, Variable, f64)> = None;
        let mut look = |variable: Variable, slope: f64, reduced: f64| {
            if slope < -1e-7 {
                let ratio = reduced.max(0.0) / -slope;
                let is_better = best.is_none_or(|(least, steepest, ..)| {
                    ratio < least - 1e-12 || (ratio <= least + 1e-12 && slope < steepest)
                });
                if is_better {
                    best = Some((ratio, slope, variable, reduced));
                }
            }
        };
        for (column, entries) in self.columns.iter().enumerate() {
            if !self.is_basic[column] {
                let slope = entries.iter().map(|&(row, count)| line[row] * count).sum();
                look(Variable::Column(column), slope, self.reduced[column]);
            }
        }
        for (index, &number) in line.iter().enumerate() {
            if !self.basis.contains(&Variable::Slack(index)) {
                look(Variable::Slack(index), self.sign(index) * number, -self.sign(index) * self.duals[index]);
            }
        }
        best.map(|(_, _, variable, reduced)| (variable, reduced))
    }

    /// Exchanges the basic variable of `row` for `entering`, whose direction is set and whose reduced cost is `reduced`.
    fn pivot(&mut self, row: usize, entering: Variable, reduced: f64, work: &mut Work) {
        let rows = self.rows();
        let touched = self.direction.iter().filter(|&&factor| factor != 0.0).count();
        work.spend_numbers(rows * touched + 4 * self.columns.len());
        let pivot = self.direction[row];
        let step = self.values[row] / pivot;
        let (before, rest) = self.inverse.split_at_mut(row * rows);
        let (line, after) = rest.split_at_mut(rows);
        for number in line.iter_mut() {
            *number /= pivot;
        }
        for (index, &factor) in self.direction.iter().enumerate() {
            if index == row || factor == 0.0 {
                continue;
            }
            self.values[index] -= step * factor;
            let other = if index < row {
                &mut before[index * rows..(index + 1) * rows]
            } else {
                &mut after[(index - row - 1) * rows..(index - row) * rows]
            };
            for (number, pivotal) in other.iter_mut().zip(line.iter()) {
                *number -= factor * pivotal;
            }
        }
        self.values[row] = step;
        for (dual, number) in self.duals.iter_mut().zip(line.iter()) {
            *dual += reduced * number;
        }
        for (column, entries) in self.columns.iter().enumerate() {
            let slope: f64 = entries.iter().map(|&(row, count)| line[row] * count).sum();
            self.reduced[column] -= reduced * slope;
        }
        if let Variable::Column(column) = self.basis[row] {
            self.is_basic[column] = false;
        }
        if let Variable::Column(column) = entering {
            self.is_basic[column] = true;
            self.reduced[column] = 0.0;
        }
        self.basis[row] = entering;
    }

    /// Computes values, duals and reduced costs anew, to shed rounding errors.
    fn refresh(&mut self) {
        let rows = self.rows();
        for (value, line) in self.values.iter_mut().zip(self.inverse.chunks_exact(rows.max(1))) {
            *value = line.iter().zip(&self.right).map(|(number, right)| number * right).sum();
        }
        self.duals.fill(0.0);
        for (index, &variable) in self.basis.iter().enumerate() {
            let cost = match variable {
                Variable::Column(column) => self.costs[column],
                Variable::Slack(_) => 0.0,
                Variable::Missing(_) => self.forbidding,
            };
            if cost != 0.0 {
                let line = &self.inverse[index * rows..(index + 1) * rows];
                for (dual, number) in self.duals.iter_mut().zip(line) {
                    *dual += cost * number;
                }
            }
        }
        for (column, entries) in self.columns.iter().enumerate() {
            let paid: f64 = entries.iter().map(|&(row, count)| self.duals[row] * count).sum();
            self.reduced[column] = if self.is_basic[column] { 0.0 } else { self.costs[column] - paid };
        }
    }

    /// Puts a new right side in place; [`Simplex::repair`] makes the solution fit it.
    pub fn set_right(&mut self, right: &[f64]) {
        self.right.copy_from_slice(right);
        self.refresh();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of 3, 5 and 7 cut from rods of 16: the well-known bound is reached by mixing patterns.
    fn rods() -> Simplex {
        let mut simplex = Simplex::new(&[25.0, 20.0, 18.0], &[], 1e4);
        for pattern in [[5.0, 0.0, 0.0], [3.0, 1.0, 0.0], [2.0, 2.0, 0.0], [2.0, 0.0, 1.0], [0.0, 3.0, 0.0]] {
            simplex.add(entries(&pattern), 1.0);
        }
        for pattern in [[1.0, 1.0, 1.0], [0.0, 0.0, 2.0]] {
            simplex.add(entries(&pattern), 1.0);
        }
        simplex
    }

    fn entries(pattern: &[f64]) -> Entries {
        pattern.iter().copied().enumerate().filter(|&(_, count)| count > 0.0).collect()
    }

    fn served(simplex: &Simplex, row: usize) -> f64 {
        let columns = simplex.solution();
        let counts = columns.iter().flat_map(|&(column, times)| {
            simplex.columns[column].iter().filter(move |entry| entry.0 == row).map(move |entry| entry.1 * times)
        });
        counts.sum()
    }

    #[test]
    fn the_optimum_meets_every_row_and_its_duals_pay_exactly_for_it() {
        let mut simplex = rods();
        assert!(simplex.optimise(&mut Work::new(10_000)));
        for (row, least) in [25.0, 20.0, 18.0].into_iter().enumerate() {
            assert!(served(&simplex, row) >= least - 1e-6);
        }
        let paid: f64 = simplex.duals().iter().zip(&simplex.right).map(|(dual, right)| dual * right).sum();
        assert!((paid - simplex.objective()).abs() < 1e-6);
        assert!(simplex.reduced.iter().all(|&reduced| reduced > -1e-6));
    }

    #[test]
    fn a_row_of_at_most_moves_the_rest_to_the_dearer_column() {
        let mut simplex = Simplex::new(&[10.0], &[4.0], 1e4);
        simplex.add(vec![(0, 1.0), (1, 1.0)], 1.0);
        simplex.add(vec![(0, 1.0)], 3.0);
        assert!(simplex.optimise(&mut Work::new(1_000)));
        assert_eq!(simplex.solution(), vec![(0, 4.0), (1, 6.0)]);
        assert_eq!(simplex.duals(), &[3.0, -2.0]);
    }

    #[test]
    fn after_a_changed_right_side_repair_finds_what_solving_anew_finds() {
        let mut simplex = rods();
        assert!(simplex.optimise(&mut Work::new(10_000)));
        for right in [[3.0, 20.0, 18.0], [25.0, 0.0, 1.0], [0.0, 0.0, 7.0]] {
            simplex.set_right(&right);
            assert!(simplex.repair(&mut Work::new(10_000)));
            let mut anew = rods();
            anew.set_right(&right);
            assert!(anew.optimise(&mut Work::new(10_000)));
            assert!((simplex.objective() - anew.objective()).abs() < 1e-6, "{right:?}");
        }
    }

    #[test]
    fn without_work_nothing_is_claimed() {
        assert!(!rods().optimise(&mut Work::new(0)));
    }
}
