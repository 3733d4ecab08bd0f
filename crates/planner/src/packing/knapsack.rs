//! Pricing: the filling of one host that is worth most at given prices, with a bound on what any filling can be worth.

use super::model::{Model, how_many};
use super::work::Work;

/// A filling and what is known about the best one.
#[derive(Clone, Debug, Default)]
pub(super) struct Priced {
    /// Item and count, by item.
    pub items: Vec<(usize, u32)>,
    pub value: f64,
    /// No filling is worth more.
    pub bound: f64,
}

/// An item as one host sees it.
pub(super) struct Room {
    pub item: usize,
    pub value: f64,
    pub most: u32,
    /// Its size at the prices of the resources: what its room is worth.
    pub room: f64,
}

/// The items that a host may hold, the densest first, and what bounds the worth of any filling with them.
pub(super) struct Rooms {
    pub rooms: Vec<Room>,
    /// What the room of the empty host is worth.
    pub worth: f64,
    /// What the items from an index on are worth above their room.
    above: Vec<f64>,
    /// The densest of the items from an index on, at most 1.
    densest: Vec<f64>,
}

impl Rooms {
    pub fn new(model: &Model<'_>, bin: usize, values: &[f64], counts: &[u64], work: &mut Work) -> Rooms {
        Rooms::priced(model, bin, values, counts, work).0
    }

    /// The same, with the resource prices that it was made from.
    fn priced(model: &Model<'_>, bin: usize, values: &[f64], counts: &[u64], work: &mut Work) -> (Rooms, Vec<f64>) {
        let mut rooms: Vec<Room> = Vec::new();
        for (item, &value) in values.iter().enumerate() {
            let most = most(model, bin, item, counts);
            if most > 0 {
                rooms.push(Room { item, value, most, room: 0.0 });
            }
        }
        let resources = relax(model, bin, &rooms, work);
        let prices = unit_prices(model, bin, &resources);
        for entry in &mut rooms {
            entry.room = room(&prices, model.size(entry.item));
        }
        let density = |entry: &Room| entry.value / entry.room.max(entry.value * 1e-9).max(1e-300);
        rooms.sort_by(|a, b| density(b).total_cmp(&density(a)).then(a.item.cmp(&b.item)));
        let worth = resources.iter().sum();
        (Rooms::sorted(rooms, worth), resources)
    }

    fn sorted(rooms: Vec<Room>, worth: f64) -> Rooms {
        let mut above = vec![0.0; rooms.len() + 1];
        let mut densest = vec![0.0_f64; rooms.len() + 1];
        for (index, entry) in rooms.iter().enumerate().rev() {
            above[index] = above[index + 1] + f64::from(entry.most) * (entry.value - entry.room).max(0.0);
            let density = if entry.room > entry.value { entry.value / entry.room } else { 1.0 };
            densest[index] = densest[index + 1].max(density);
        }
        Rooms { rooms, worth, above, densest }
    }

    /// The same for fewer pieces: those in `counts`.
    pub fn only(&self, counts: &[u64]) -> Rooms {
        let kept = self.rooms.iter().filter(|room| counts[room.item] > 0);
        let kept = kept.map(|room| Room { most: u64::from(room.most).min(counts[room.item]) as u32, ..*room });
        Rooms::sorted(kept.collect(), self.worth)
    }

    /// A bound on the value of a filling that is worth `value` so far, whose free room is worth `worth`, and that takes
    /// nothing more of the items before `from`.
    pub fn bound(&self, from: usize, worth: f64, value: f64) -> f64 {
        (value + self.densest[from] * worth.max(0.0) + self.above[from]) * (1.0 + SAFETY)
    }

    pub fn of(&self, item: usize) -> Option<&Room> {
        self.rooms.iter().find(|room| room.item == item)
    }
}

/// Prices hosts of each bin; remembers the prices of their resources from call to call.
#[derive(Clone)]
pub(super) struct Pricer {
    /// Price of a whole host's resource, by bin and resource. Any that are not negative give a true bound.
    resources: Vec<Vec<f64>>,
}

/// Added to a bound relatively, so that rounding errors can't make it too low.
const SAFETY: f64 = 1e-9;

impl Pricer {
    pub fn new(model: &Model<'_>) -> Pricer {
        Pricer { resources: vec![vec![0.0; model.resources]; model.bins()] }
    }

    /// A bound on the value of any filling, from the resource prices that were good last time.
    pub fn quick_bound(&self, model: &Model<'_>, bin: usize, values: &[f64], counts: &[u64]) -> f64 {
        let prices = unit_prices(model, bin, &self.resources[bin]);
        let mut bound: f64 = self.resources[bin].iter().sum();
        for (item, &value) in values.iter().enumerate() {
            if value > 0.0 {
                let most = most(model, bin, item, counts);
                if most > 0 {
                    bound += f64::from(most) * (value - room(&prices, model.size(item))).max(0.0);
                }
            }
        }
        bound * (1.0 + SAFETY)
    }

    /// The best filling that a search of at most `nodes` nodes finds; the bound holds however far it came.
    pub fn best(
        &mut self,
        model: &Model<'_>,
        bin: usize,
        values: &[f64],
        counts: &[u64],
        nodes: u64,
        work: &mut Work,
    ) -> Priced {
        let (rooms, resources) = Rooms::priced(model, bin, values, counts, work);
        self.resources[bin] = resources;
        let mut search = Search::new(model, &rooms, nodes);
        let mut free = model.capacity(bin).to_vec();
        search.fill(0, &mut free, rooms.worth, 0.0);
        work.spend(search.nodes);
        let mut items = search.best;
        items.sort_unstable();
        let bound = search.best_value.max(search.open) * (1.0 + 2.0 * SAFETY);
        Priced { items, value: search.best_value, bound }
    }
}

/// Most of `item` that a filling for `counts` has any use for.
fn most(model: &Model<'_>, bin: usize, item: usize, counts: &[u64]) -> u32 {
    u64::from(model.fit(bin, item)).min(counts[item]) as u32
}

fn unit_prices(model: &Model<'_>, bin: usize, resources: &[f64]) -> Vec<f64> {
    let pairs = resources.iter().zip(model.capacity(bin));
    pairs.map(|(price, &capacity)| if capacity > 0 { price / capacity as f64 } else { 0.0 }).collect()
}

fn room(prices: &[f64], size: &[i64]) -> f64 {
    prices.iter().zip(size).map(|(price, &size)| price * size as f64).sum()
}

/// Depth-first search over the counts of the items, the densest first, cut by the bound.
struct Search<'a> {
    model: &'a Model<'a>,
    rooms: &'a Rooms,
    nodes: u64,
    limit: u64,
    current: Vec<(usize, u32)>,
    best: Vec<(usize, u32)>,
    best_value: f64,
    /// Bound of what was not searched.
    open: f64,
}

impl<'a> Search<'a> {
    fn new(model: &'a Model<'a>, rooms: &'a Rooms, limit: u64) -> Search<'a> {
        let (current, best) = (Vec::new(), Vec::new());
        Search { model, rooms, nodes: 0, limit, current, best, best_value: 0.0, open: 0.0 }
    }

    fn is_hopeless(&self, bound: f64) -> bool {
        bound <= self.best_value * (1.0 + 2.0 * SAFETY)
    }

    /// Chooses counts of the items from `from` on. `worth` is what the free room is worth, `value` what is taken so far.
    fn fill(&mut self, mut from: usize, free: &mut [i64], worth: f64, value: f64) {
        if value > self.best_value {
            self.best_value = value;
            self.best.clone_from(&self.current);
        }
        let mut most = 0;
        while let Some(entry) = self.rooms.rooms.get(from) {
            most = how_many(free, self.model.size(entry.item), entry.most);
            if most > 0 {
                break;
            }
            from += 1;
        }
        let Some(entry) = self.rooms.rooms.get(from) else { return };
        let bound = self.rooms.bound(from, worth, value);
        if self.is_hopeless(bound) {
            return;
        }
        self.nodes += 1;
        if self.nodes > self.limit {
            self.open = self.open.max(bound);
            return;
        }
        let (item, piece, room) = (entry.item, entry.value, entry.room);
        let size = self.model.size(item);
        for count in (0..=most).rev() {
            let value = value + piece * f64::from(count);
            let worth = worth - room * f64::from(count);
            let bound = self.rooms.bound(from + 1, worth, value);
            if self.is_hopeless(bound) {
                // Fewer of an item that is worth its room can only be worse.
                if piece >= room {
                    break;
                }
                continue;
            }
            if self.nodes > self.limit {
                self.open = self.open.max(bound);
                continue;
            }
            take(free, size, i64::from(count));
            if count > 0 {
                self.current.push((item, count));
            }
            self.fill(from + 1, free, worth, value);
            if count > 0 {
                self.current.pop();
            }
            take(free, size, -i64::from(count));
        }
    }
}

fn take(free: &mut [i64], size: &[i64], count: i64) {
    for (free, size) in free.iter_mut().zip(size) {
        *free -= size * count;
    }
}

/// Prices of the resources of one host at the optimum of the filling with fractions allowed: the dual of a small linear
/// program, by a primal simplex with bounded variables.
fn relax(model: &Model<'_>, bin: usize, entries: &[Room], work: &mut Work) -> Vec<f64> {
    let rows = model.resources;
    let inverse: Vec<f64> =
        model.capacity(bin).iter().map(|&capacity| if capacity > 0 { 1.0 / capacity as f64 } else { 0.0 }).collect();
    let shares: Vec<f64> = entries
        .iter()
        .flat_map(|entry| model.size(entry.item).iter().zip(&inverse).map(|(&size, inverse)| size as f64 * inverse))
        .collect();
    let mut state = Relaxed::new(rows, entries, &shares);
    // Far more steps than such a program needs; the prices are of use wherever it stops.
    for _ in 0..200 {
        work.spend_numbers(rows * entries.len());
        if !state.step() {
            break;
        }
    }
    state.prices.iter().map(|price| price.max(0.0)).collect()
}

struct Relaxed<'a> {
    rows: usize,
    entries: &'a [Room],
    shares: &'a [f64],
    inverse: Vec<f64>,
    /// Entry, or entries + row for the free rest of a row.
    basis: Vec<usize>,
    values: Vec<f64>,
    is_basic: Vec<bool>,
    is_full: Vec<bool>,
    prices: Vec<f64>,
    direction: Vec<f64>,
}

impl<'a> Relaxed<'a> {
    fn new(rows: usize, entries: &'a [Room], shares: &'a [f64]) -> Relaxed<'a> {
        let mut inverse = vec![0.0; rows * rows];
        for row in 0..rows {
            inverse[row * rows + row] = 1.0;
        }
        Relaxed {
            rows,
            entries,
            shares,
            inverse,
            basis: (0..rows).map(|row| entries.len() + row).collect(),
            values: vec![1.0; rows],
            is_basic: vec![false; entries.len()],
            is_full: vec![false; entries.len()],
            prices: vec![0.0; rows],
            direction: vec![0.0; rows],
        }
    }

    fn share(&self, entry: usize) -> &[f64] {
        &self.shares[entry * self.rows..(entry + 1) * self.rows]
    }

    fn most(&self, variable: usize) -> f64 {
        self.entries.get(variable).map_or(f64::INFINITY, |entry| f64::from(entry.most))
    }

    /// One step towards the optimum; `false` if it is reached.
    fn step(&mut self) -> bool {
        self.set_prices();
        let Some(entering) = self.entering() else { return false };
        let is_full = self.is_full.get(entering).copied().unwrap_or(false);
        let sign = if is_full { -1.0 } else { 1.0 };
        for row in 0..self.rows {
            let line = &self.inverse[row * self.rows..(row + 1) * self.rows];
            self.direction[row] = sign
                * match entering.checked_sub(self.entries.len()) {
                    Some(free) => line[free],
                    None => line.iter().zip(self.share(entering)).map(|(number, share)| number * share).sum(),
                };
        }
        let mut step = self.most(entering);
        let mut leaving: Option<(usize, bool)> = None;
        for row in 0..self.rows {
            let direction = self.direction[row];
            let (room, to_full) = if direction > 1e-11 {
                (self.values[row].max(0.0) / direction, false)
            } else if direction < -1e-11 {
                ((self.most(self.basis[row]) - self.values[row]).max(0.0) / -direction, true)
            } else {
                continue;
            };
            if room < step {
                step = room;
                leaving = Some((row, to_full));
            }
        }
        if step == f64::INFINITY {
            return false;
        }
        for (value, direction) in self.values.iter_mut().zip(&self.direction) {
            *value -= step * direction;
        }
        match leaving {
            None => self.is_full[entering] = !is_full,
            Some((row, to_full)) => self.exchange(row, to_full, entering, step, sign),
        }
        true
    }

    fn set_prices(&mut self) {
        self.prices.fill(0.0);
        for (row, &variable) in self.basis.iter().enumerate() {
            if let Some(entry) = self.entries.get(variable) {
                let line = &self.inverse[row * self.rows..(row + 1) * self.rows];
                for (price, number) in self.prices.iter_mut().zip(line) {
                    *price += entry.value * number;
                }
            }
        }
    }

    fn entering(&self) -> Option<usize> {
        let mut best = 0.0;
        let mut found = None;
        for (index, entry) in self.entries.iter().enumerate() {
            if self.is_basic[index] {
                continue;
            }
            let room: f64 = self.prices.iter().zip(self.share(index)).map(|(price, share)| price * share).sum();
            let gain = if self.is_full[index] { room - entry.value } else { entry.value - room };
            if gain > best && gain > 1e-9 * entry.value {
                best = gain;
                found = Some(index);
            }
        }
        for (row, &price) in self.prices.iter().enumerate() {
            if -price > best && price < -1e-12 {
                best = -price;
                found = Some(self.entries.len() + row);
            }
        }
        found
    }

    fn exchange(&mut self, row: usize, to_full: bool, entering: usize, step: f64, sign: f64) {
        let rows = self.rows;
        let old = self.basis[row];
        if old < self.entries.len() {
            self.is_basic[old] = false;
            self.is_full[old] = to_full;
        }
        let pivot = self.direction[row] * sign;
        for number in &mut self.inverse[row * rows..(row + 1) * rows] {
            *number /= pivot;
        }
        for other in 0..rows {
            if other != row {
                let factor = self.direction[other] * sign;
                for column in 0..rows {
                    self.inverse[other * rows + column] -= factor * self.inverse[row * rows + column];
                }
            }
        }
        self.values[row] = if sign < 0.0 { self.most(entering) - step } else { step };
        self.basis[row] = entering;
        if entering < self.entries.len() {
            self.is_basic[entering] = true;
            self.is_full[entering] = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packing::tests::middling;

    /// The best value by trying every count of every item.
    fn brute_force(model: &Model<'_>, bin: usize, values: &[f64], counts: &[u64]) -> f64 {
        fn next(model: &Model<'_>, item: usize, free: &mut [i64], most: &[u32], values: &[f64]) -> f64 {
            if item == most.len() {
                return 0.0;
            }
            let mut best = 0.0_f64;
            for count in 0..=how_many(free, model.size(item), most[item]) {
                take(free, model.size(item), i64::from(count));
                best = best.max(values[item] * f64::from(count) + next(model, item + 1, free, most, values));
                take(free, model.size(item), -i64::from(count));
            }
            best
        }
        let most: Vec<u32> = (0..values.len()).map(|item| most(model, bin, item, counts)).collect();
        next(model, 0, &mut model.capacity(bin).to_vec(), &most, values)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn the_best_filling_is_found_and_every_bound_is_true(
            mut problem in middling(),
            values in prop::collection::vec(1_u32..100, 12),
        ) {
            problem.items.truncate(4);
            for item in &mut problem.items {
                item.size.iter_mut().for_each(|size| *size += 12);
                item.count = item.count.min(4);
            }
            let model = Model::new(&problem);
            let counts: Vec<u64> = problem.items.iter().map(|item| item.count).collect();
            let values: Vec<f64> = values.iter().take(counts.len()).map(|&value| f64::from(value)).collect();
            let mut pricer = Pricer::new(&model);
            for bin in 0..model.bins() {
                let best = brute_force(&model, bin, &values, &counts);
                prop_assert!(pricer.quick_bound(&model, bin, &values, &counts) >= best - 1e-9);
                let cut = pricer.best(&model, bin, &values, &counts, 1, &mut Work::new(u64::MAX));
                prop_assert!(cut.bound >= best - 1e-9 && cut.value <= best + 1e-9);
                let full = pricer.best(&model, bin, &values, &counts, u64::MAX, &mut Work::new(u64::MAX));
                prop_assert!((full.value - best).abs() < 1e-6, "{} instead of {best}", full.value);
                prop_assert!(full.bound >= best - 1e-9, "{} below {best}", full.bound);
                prop_assert!(full.bound <= best * (1.0 + 1e-6) + 1e-6, "{} above {best}", full.bound);
                prop_assert!(pricer.quick_bound(&model, bin, &values, &counts) >= best - 1e-9);
            }
        }
    }
}
