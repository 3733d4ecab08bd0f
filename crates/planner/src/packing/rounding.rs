//! From fractions of hosts to whole ones: dives that fix columns step by step, and greedy packing of what is left.

use super::greedy::{Shelf, pack};
use super::model::{Model, how_many};
use super::relaxation::Relaxation;
use super::work::Work;
use super::{Packing, Pattern};

/// A packing in the making.
#[derive(Clone)]
pub(super) struct Partial<'a> {
    pub model: &'a Model<'a>,
    pub patterns: Vec<Pattern>,
    /// Pieces that still need a place, by item.
    pub left: Vec<u64>,
    pub shelf: Shelf,
}

impl<'a> Partial<'a> {
    pub fn new(model: &'a Model<'a>, counts: &[u64]) -> Partial<'a> {
        Partial { model, patterns: Vec::new(), left: counts.to_vec(), shelf: Shelf::full(model) }
    }

    /// Buys up to `times` hosts filled with `items`, cut to what is left to place and to what can be bought.
    pub fn add(&mut self, bin: usize, items: &[(usize, u32)], mut times: u64) {
        while times > 0 {
            let cut = items.iter().map(|&(item, count)| (item, u64::from(count).min(self.left[item]) as u32));
            let cut: Vec<(usize, u32)> = cut.filter(|&(_, count)| count > 0).collect();
            let alike = cut.iter().map(|&(item, count)| self.left[item] / u64::from(count)).min().unwrap_or(0);
            let alike = alike.min(times).min(self.hosts_of(bin));
            if alike == 0 {
                return;
            }
            for &(item, count) in &cut {
                self.left[item] -= u64::from(count) * alike;
            }
            self.shelf.take(self.model, bin, alike);
            self.patterns.push(Pattern { bin, items: cut, times: alike });
            times -= alike;
        }
    }

    /// Hosts of `bin` that are paid for, and those of them that hold nothing.
    pub fn paid(&self, bin: usize) -> (u64, u64) {
        let hosts = self.patterns.iter().filter(|pattern| pattern.bin == bin).map(|pattern| pattern.times);
        let used = hosts.fold(0, u64::saturating_add);
        (used.saturating_add(self.shelf.spare[bin]), self.shelf.spare[bin])
    }

    /// Hosts of `bin` that can be had.
    fn hosts_of(&self, bin: usize) -> u64 {
        let replicas = self.shelf.replicas_of(self.model, bin);
        self.shelf.spare[bin].saturating_add(replicas.saturating_mul(self.model.problem.bins[bin].hosts()))
    }

    /// Fills room that is left on hosts already bought.
    pub fn top_up(&mut self, work: &mut Work) {
        let mut more = Vec::new();
        for pattern in &mut self.patterns {
            let mut free = self.model.capacity(pattern.bin).to_vec();
            for &(item, count) in &pattern.items {
                take(&mut free, self.model.size(item), count);
            }
            for item in 0..self.left.len() {
                if self.left[item] == 0 || self.model.fit(pattern.bin, item) == 0 {
                    continue;
                }
                let held = pattern.items.iter().find(|held| held.0 == item).map_or(0, |held| held.1);
                let most = u64::from(self.model.problem.items[item].most_per_bin - held).min(self.left[item]) as u32;
                let count = how_many(&free, self.model.size(item), most);
                if count == 0 {
                    continue;
                }
                let times = (self.left[item] / u64::from(count)).min(pattern.times);
                if times < pattern.times {
                    more.push(Pattern { times: pattern.times - times, ..pattern.clone() });
                    pattern.times = times;
                }
                self.left[item] -= u64::from(count) * times;
                take(&mut free, self.model.size(item), count);
                pattern.items.retain(|held| held.0 != item);
                pattern.items.push((item, held + count));
            }
        }
        work.spend_numbers(self.patterns.len() * self.left.len() * 4);
        self.patterns.append(&mut more);
    }

    /// Packs what is left greedily, by the prices of the items alone and by their `worths`; `None` if something finds no
    /// place.
    pub fn finish(mut self, worths: &[f64], work: &mut Work) -> Option<Packing> {
        self.top_up(work);
        work.spend_numbers(self.model.bins() * self.left.len() * 200);
        let plain = pack(self.model, &self.left, &self.shelf, None);
        let steered = pack(self.model, &self.left, &self.shelf, Some(worths));
        let rest = if steered.is_better_than(&plain, self.model.problem) { steered } else { plain };
        if rest.left.iter().any(|&left| left > 0) {
            return None;
        }
        self.patterns.extend(rest.patterns);
        let mut packing = Packing { patterns: self.patterns, left: rest.left };
        packing.normalise();
        Some(packing)
    }
}

fn take(free: &mut [i64], size: &[i64], count: u32) {
    for (free, size) in free.iter_mut().zip(size) {
        *free -= size * i64::from(count);
    }
}

/// Rounds the solution of `relaxation`: whole parts first, then the largest fractions, solving again after each step.
/// Every packing on the way that serves everything goes to `offer`.
pub(super) fn dive(relaxation: &Relaxation<'_>, threshold: f64, work: &mut Work, offer: &mut dyn FnMut(Packing)) {
    let mut simplex = relaxation.simplex.clone();
    let mut partial = Partial::new(relaxation.model, relaxation.counts);
    let worths = &relaxation.proven.items;
    let mut step = 0_usize;
    while !work.is_out() && partial.left.iter().any(|&left| left > 0) {
        let solution = simplex.solution();
        let whole: Vec<(usize, u64)> = solution
            .iter()
            .map(|&(column, times)| (column, (times + 1e-6).floor() as u64))
            .filter(|&(_, times)| times > 0)
            .collect();
        let mut fixed = whole.clone();
        if whole.is_empty() {
            let mut parts = solution.clone();
            parts.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            let chosen = parts.iter().enumerate().filter(|(index, part)| *index == 0 || part.1 > threshold);
            fixed.extend(chosen.map(|(_, &(column, _))| (column, 1)));
        }
        let before = partial.patterns.len();
        for (column, times) in fixed {
            let (bin, items) = &relaxation.columns[column];
            partial.add(*bin, items, times);
        }
        if partial.patterns.len() == before {
            break;
        }
        // The greedy ending costs about as much as a few steps: it is tried at the start and then ever more rarely.
        if step.is_power_of_two() || step == 0 {
            partial.clone().finish(worths, work).into_iter().for_each(&mut *offer);
        }
        step += 1;
        simplex.set_right(&relaxation.right(&partial));
        work.spend_numbers(simplex.rows() * simplex.rows());
        if !simplex.repair(work) {
            break;
        }
    }
    partial.finish(worths, work).into_iter().for_each(offer);
}
