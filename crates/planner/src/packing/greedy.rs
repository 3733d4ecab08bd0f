//! The tick's plan: fill the host that gives most for its price, buy as many alike as the counts allow, again.

use std::collections::VecDeque;

use super::bound::{Mixture, whole_bound};
use super::duals::Range;
use super::model::{Model, how_many};
use super::{Packing, Pattern, Problem};

/// Packs by several greedy orders and keeps the best.
///
/// Total: what finds no place is in [`Packing::left`]. The work doesn't depend on the counts.
pub fn greedy(problem: &Problem) -> Packing {
    pack_whole(&Model::new(problem))
}

/// What [`greedy`] and [`super::lower_bound`] say, which have to look at the same.
pub fn greedy_with_bound(problem: &Problem) -> (Packing, f64) {
    let model = Model::new(problem);
    (pack_whole(&model), whole_bound(&model))
}

fn pack_whole(model: &Model<'_>) -> Packing {
    let problem = model.problem;
    let counts: Vec<u64> = problem.items.iter().map(|item| item.count).collect();
    let shelf = Shelf::full(model);
    let mixture = Mixture::new(model, &counts, &Range::full(model));
    let mut packing = pack(model, &counts, &shelf, Some(&mixture.duals.items));
    // Where there are few classes, the last hosts weigh most, and another opinion costs little.
    if !is_large(model) {
        let plain = pack(model, &counts, &shelf, None);
        if plain.is_better_than(&packing, problem) {
            packing = plain;
        }
    }
    packing.normalise();
    packing
}

/// Packs `counts` into what `shelf` still offers; `left` says what of `counts` found no place. `worths` of the items steer
/// what is bought, where they are known; else an item is worth its price alone.
pub(super) fn pack(model: &Model<'_>, counts: &[u64], shelf: &Shelf, worths: Option<&[f64]>) -> Packing {
    let mut tilt = Tilt::none(model);
    let mut best: Option<Packing> = None;
    // Each further round is only for limits that bind: it keeps scarce bins for the items that have no other.
    let rounds = if is_large(model) { 3 } else { 8 };
    for _ in 0..rounds {
        for style in [Style::LargestFirst, Style::DearestFirst, Style::CallersOrder] {
            let is_bound = best.as_ref().is_some_and(|best| is_short(model, best));
            if style == Style::CallersOrder && !is_bound {
                continue;
            }
            let mut packing = Run::new(model, counts, shelf, &tilt, style, worths).finish();
            move_to_cheaper(model, shelf, &mut packing);
            tilt.learn(model, shelf, &packing);
            if best.as_ref().is_none_or(|best| packing.is_better_than(best, model.problem)) {
                best = Some(packing);
            }
        }
        if best.as_ref().is_none_or(|best| !is_short(model, best)) {
            break;
        }
    }
    best.unwrap_or_else(|| Packing { patterns: Vec::new(), left: counts.to_vec() })
}

/// Whether each pass over bins and items counts in the time of a tick.
fn is_large(model: &Model<'_>) -> bool {
    model.bins() * model.items() > 2_000
}

/// Whether something is left that a bin could hold.
fn is_short(model: &Model<'_>, packing: &Packing) -> bool {
    let mut left = packing.left.iter().enumerate().filter(|&(_, &count)| count > 0);
    left.any(|(item, _)| (0..model.bins()).any(|bin| model.fit(bin, item) > 0))
}

/// What can still be bought, and which hosts are bought but empty.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    /// Replicas of each bin that can be bought.
    pub replicas: Vec<u64>,
    /// Hosts of each bin that came with a replica and hold nothing yet.
    pub spare: Vec<u64>,
    /// Hosts that can be bought over all bins.
    pub hosts: u64,
}

impl Shelf {
    pub fn full(model: &Model<'_>) -> Shelf {
        let bins = &model.problem.bins;
        let hosts = model.problem.most_hosts;
        Shelf { replicas: bins.iter().map(|bin| bin.most).collect(), spare: vec![0; bins.len()], hosts }
    }

    /// Takes `hosts` of `bin`, spare ones first, then whole replicas.
    pub fn take(&mut self, model: &Model<'_>, bin: usize, hosts: u64) {
        let unit = model.problem.bins[bin].hosts();
        let spare = self.spare[bin].min(hosts);
        self.spare[bin] -= spare;
        let replicas = (hosts - spare).div_ceil(unit);
        let bought = replicas.saturating_mul(unit);
        self.spare[bin] += bought - (hosts - spare);
        if self.replicas[bin] != u64::MAX {
            self.replicas[bin] = self.replicas[bin].saturating_sub(replicas);
        }
        if self.hosts != u64::MAX {
            self.hosts = self.hosts.saturating_sub(bought);
        }
    }

    /// How many replicas of `bin` can be bought now.
    pub fn replicas_of(&self, model: &Model<'_>, bin: usize) -> u64 {
        self.replicas[bin].min(self.hosts / model.problem.bins[bin].hosts())
    }
}

/// So many items of which nothing is left are passed over before they are taken out.
const MANY_USED_UP: usize = 16;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Style {
    /// Into each host the items with the largest share of any resource first.
    LargestFirst,
    /// Into each host the items first that are worth most for the room they take.
    DearestFirst,
    /// The first item in the caller's order that is not served yet decides what is bought.
    CallersOrder,
}

/// Added prices of bins whose limits bind, and the weight of items that they left: learnt from one run for the next.
struct Tilt {
    bins: Vec<f64>,
    weights: Vec<f64>,
}

impl Tilt {
    fn none(model: &Model<'_>) -> Tilt {
        Tilt { bins: vec![0.0; model.bins()], weights: vec![1.0; model.items()] }
    }

    fn learn(&mut self, model: &Model<'_>, shelf: &Shelf, packing: &Packing) {
        if !is_short(model, packing) {
            return;
        }
        let mut rest = shelf.clone();
        for (bin, hosts) in packing.hosts(model.problem).into_iter().enumerate() {
            rest.take(model, bin, hosts);
        }
        let mean = model.prices.iter().sum::<f64>() / model.bins().max(1) as f64;
        let step = if mean > 0.0 { mean } else { 1.0 };
        for (item, &left) in packing.left.iter().enumerate() {
            if left > 0 {
                self.weights[item] *= 3.0;
            }
        }
        for bin in 0..model.bins() {
            let is_wanted = packing.left.iter().enumerate().any(|(item, &left)| left > 0 && model.fit(bin, item) > 0);
            if is_wanted && rest.replicas_of(model, bin) == 0 {
                self.bins[bin] += step;
            }
        }
    }
}

/// What one replica, or the spare hosts of one, would hold.
struct Fill {
    /// Hosts that are filled alike, and how many.
    hosts: Vec<(Vec<(usize, u32)>, u64)>,
    /// How many of each item, over all of them.
    items: Vec<(usize, u64)>,
    /// Value of the items for the price.
    score: f64,
}

struct Run<'a> {
    model: &'a Model<'a>,
    counts: Vec<u64>,
    shelf: Shelf,
    style: Style,
    /// Prices as this run sees them: tilted, and never 0.
    prices: Vec<f64>,
    /// What a piece of each item is worth: its price when it is bought for alone.
    values: Vec<f64>,
    /// Items in this run's order, by kind of bin; those of which nothing is left are taken out now and then.
    candidates: Vec<Vec<usize>>,
    /// Items of which nothing is left; and how many these were when they were taken out, by kind of bin.
    used_up: usize,
    used_up_before: Vec<usize>,
    /// By kind of bin: the least that any of its items takes of each resource; a host with less is full.
    least: Vec<Vec<i64>>,
    patterns: Vec<Pattern>,
    free: Vec<i64>,
}

impl<'a> Run<'a> {
    fn new(
        model: &'a Model<'a>,
        counts: &[u64],
        shelf: &Shelf,
        tilt: &Tilt,
        style: Style,
        worths: Option<&[f64]>,
    ) -> Run<'a> {
        let dearest = model.prices.iter().fold(0.0_f64, |most, &price| most.max(price));
        let least = if dearest > 0.0 { dearest * 1e-9 } else { 1.0 };
        let prices: Vec<f64> =
            model.prices.iter().zip(&tilt.bins).map(|(&price, tilt)| (price + tilt).max(least)).collect();
        let mut values = values(model, counts, &prices, least);
        if let Some(worths) = worths {
            for (value, worth) in values.iter_mut().zip(worths) {
                *value = worth.max(*value * 1e-3);
            }
        }
        for (value, weight) in values.iter_mut().zip(&tilt.weights) {
            *value *= weight;
        }
        let order = order(model, counts, &values, style);
        let holdable = |bins: &Vec<usize>| {
            let row = model.row(bins[0]);
            let mut items = Vec::with_capacity(order.len());
            items.extend(order.iter().copied().filter(|&item| row[item] > 0));
            items
        };
        let candidates: Vec<Vec<usize>> = model.kinds.iter().map(holdable).collect();
        let least = candidates.iter().map(|items| model.least(items)).collect();
        let (counts, shelf) = (counts.to_vec(), shelf.clone());
        Run {
            model,
            counts,
            shelf,
            style,
            prices,
            values,
            candidates,
            used_up: 0,
            used_up_before: vec![0; model.kinds.len()],
            least,
            patterns: Vec::new(),
            free: Vec::new(),
        }
    }

    fn finish(mut self) -> Packing {
        match self.style {
            Style::LargestFirst | Style::DearestFirst => self.by_score(),
            Style::CallersOrder => self.by_caller(),
        }
        Packing { patterns: self.patterns, left: self.counts }
    }

    /// Buys the best fill of all bins until nothing more can be placed. A fill stays as it is until one of its items runs
    /// short, so only the fill that looks best is ever made anew: its score can only have fallen.
    fn by_score(&mut self) {
        let mut queues = self.queues();
        let mut fills: Vec<Option<Fill>> = queues.iter_mut().map(|queue| self.next_fill(queue)).collect();
        loop {
            let mut best: Option<(f64, usize, usize)> = None;
            for (at, (queue, fill)) in queues.iter().zip(&fills).enumerate() {
                if let (Some(bin), Some(fill)) = (queue.front(), fill)
                    && best.is_none_or(|(score, other, _)| fill.score > score || (fill.score == score && *bin < other))
                {
                    best = Some((fill.score, *bin, at));
                }
            }
            let Some((_, bin, at)) = best else { return };
            // Spare hosts are gone once bought: the next fill of this bin is one of a whole replica.
            let is_spare = self.shelf.spare[bin] > 0;
            let bought = fills[at].as_ref().is_some_and(|fill| self.buy(bin, fill));
            // Once bought as often as it can be, it is only good for hosts that came with it and hold nothing.
            if !bought || is_spare || self.shelf.spare[bin] == 0 {
                fills[at] = self.next_fill(&mut queues[at]);
            }
        }
    }

    /// Bins in the order in which they are bought. Of single hosts of one kind the dearer are not looked at while there are
    /// cheaper ones; replicas of several hosts are looked at one by one, because some may have hosts to spare.
    fn queues(&self) -> Vec<VecDeque<usize>> {
        let mut queues = Vec::with_capacity(self.model.bins());
        for bins in &self.model.kinds {
            if self.model.problem.bins[bins[0]].hosts() > 1 {
                queues.extend(bins.iter().map(|bin| VecDeque::from([*bin])));
                continue;
            }
            let mut bins = bins.clone();
            bins.sort_by(|a, b| self.prices[*a].total_cmp(&self.prices[*b]));
            queues.push(bins.into());
        }
        queues
    }

    /// What a unit of the first bin would hold of which there are any left; those before it are taken out.
    fn next_fill(&mut self, queue: &mut VecDeque<usize>) -> Option<Fill> {
        while queue.front().is_some_and(|bin| self.units(*bin).0 == 0) {
            queue.pop_front();
        }
        self.fill(*queue.front()?, None)
    }

    /// Serves items one by one in the caller's order; what else fits on the hosts bought comes along in the same order.
    fn by_caller(&mut self) {
        const LOOK_AT: usize = 4;
        for item in 0..self.model.items() {
            while self.counts[item] > 0 {
                let mut bins: Vec<(f64, usize)> = (0..self.model.bins())
                    .filter(|&bin| self.model.fit(bin, item) > 0 && self.units(bin).0 > 0)
                    .map(|bin| (self.price_of_unit(bin) / f64::from(self.model.fit(bin, item)), bin))
                    .collect();
                bins.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                let mut best: Option<(Fill, usize)> = None;
                for (_, bin) in bins.into_iter().take(LOOK_AT) {
                    if let Some(fill) = self.fill(bin, Some(item))
                        && best.as_ref().is_none_or(|(best, _)| fill.score > best.score)
                    {
                        best = Some((fill, bin));
                    }
                }
                let Some((fill, bin)) = best else { break };
                if !self.buy(bin, &fill) {
                    break;
                }
            }
        }
    }

    /// How many units of a bin there are, and the hosts of one: the spare hosts together, or a replica.
    fn units(&self, bin: usize) -> (u64, u64) {
        match self.shelf.spare[bin] {
            0 => (self.shelf.replicas_of(self.model, bin), self.model.problem.bins[bin].hosts()),
            spare => (1, spare),
        }
    }

    fn price_of_unit(&self, bin: usize) -> f64 {
        let hosts = self.model.problem.bins[bin].hosts() as f64;
        if self.shelf.spare[bin] > 0 { self.prices[bin] * 1e-9 } else { self.prices[bin] * hosts }
    }

    /// Fills one unit of `bin`, `first` before all others; `None` if nothing goes in, or there is none to buy.
    fn fill(&mut self, bin: usize, first: Option<usize>) -> Option<Fill> {
        let (units, hosts) = self.units(bin);
        if units == 0 {
            return None;
        }
        let kind = self.model.kind_of[bin];
        let mut candidates = std::mem::take(&mut self.candidates[kind]);
        if self.used_up > self.used_up_before[kind] + MANY_USED_UP {
            candidates.retain(|&item| self.counts[item] > 0);
            self.used_up_before[kind] = self.used_up;
        }
        let mut fill = Fill { hosts: Vec::with_capacity(1), items: Vec::new(), score: 0.0 };
        let mut open = hosts;
        while open > 0 {
            let items = self.fill_host(bin, first, &candidates);
            if items.is_empty() {
                break;
            }
            let times = items.iter().map(|&(item, count)| self.counts[item] / u64::from(count)).min().unwrap_or(1);
            let times = times.min(open);
            fill.items.reserve(items.len());
            for &(item, count) in &items {
                let taken = u64::from(count) * times;
                self.counts[item] -= taken;
                fill.items.push((item, taken));
            }
            fill.hosts.push((items, times));
            open -= times;
        }
        self.candidates[kind] = candidates;
        for &(item, taken) in &fill.items {
            self.counts[item] += taken;
            fill.score += self.values[item] * taken as f64;
        }
        if fill.hosts.len() > 1 {
            fill.items = summed(fill.items);
        }
        fill.score /= self.price_of_unit(bin);
        (!fill.items.is_empty()).then_some(fill)
    }

    /// Fills one host with what there is, in the order of `candidates`.
    fn fill_host(&mut self, bin: usize, first: Option<usize>, candidates: &[usize]) -> Vec<(usize, u32)> {
        self.free.clear();
        self.free.extend_from_slice(self.model.capacity(bin));
        let mut items = Vec::with_capacity(8);
        let mut is_full = first.is_some_and(|first| self.take(bin, first, &mut items));
        let first = first.filter(|_| !items.is_empty());
        let mut rest = candidates.iter();
        while let (false, Some(&item)) = (is_full, rest.next()) {
            // Most of them have no room in what others have left.
            let has_room = self.model.size(item).iter().zip(&self.free).all(|(size, free)| size <= free);
            if has_room && first != Some(item) {
                is_full = self.take(bin, item, &mut items);
            }
        }
        items
    }

    /// Puts as many of an item into what is free of a host as there are and have room. Returns whether the host is full.
    fn take(&mut self, bin: usize, item: usize, items: &mut Vec<(usize, u32)>) -> bool {
        let most = u64::from(self.model.problem.items[item].most_per_bin).min(self.counts[item]) as u32;
        let size = self.model.size(item);
        let count = if most == 0 { 0 } else { how_many(&self.free, size, most) };
        if count == 0 {
            return false;
        }
        for (free, size) in self.free.iter_mut().zip(size) {
            *free -= size * i64::from(count);
        }
        items.push((item, count));
        self.free.iter().zip(&self.least[self.model.kind_of[bin]]).any(|(free, least)| free < least)
    }

    /// Buys `fill` as often as counts and limits allow; `false` if they don't allow it once.
    fn buy(&mut self, bin: usize, fill: &Fill) -> bool {
        let (units, hosts) = self.units(bin);
        let enough = fill.items.iter().map(|&(item, count)| self.counts[item] / count).min().unwrap_or(0);
        let times = enough.min(units);
        let used: u64 = fill.hosts.iter().map(|(_, hosts)| hosts).sum();
        if times == 0 || used > hosts {
            return false;
        }
        for &(item, count) in &fill.items {
            self.counts[item] -= count * times;
            self.used_up += usize::from(self.counts[item] == 0);
        }
        for (items, hosts) in &fill.hosts {
            let hosts = hosts.saturating_mul(times);
            self.patterns.push(Pattern { bin, items: items.clone(), times: hosts });
        }
        self.shelf.take(self.model, bin, hosts.saturating_mul(times));
        true
    }
}

/// Sums the counts of equal items.
fn summed(mut items: Vec<(usize, u64)>) -> Vec<(usize, u64)> {
    items.sort_unstable();
    items.dedup_by(|next, first| {
        let is_same = next.0 == first.0;
        if is_same {
            first.1 += next.1;
        }
        is_same
    });
    items
}

/// What a piece of each item is worth: its price alone in the cheapest bin that is not free; 0 if no bin can hold it.
fn values(model: &Model<'_>, counts: &[u64], prices: &[f64], least: f64) -> Vec<f64> {
    let paid: Vec<f64> = prices.iter().map(|&price| if price > least { price } else { f64::INFINITY }).collect();
    let mut values = model.alone(&paid, counts);
    let anyhow = model.alone(prices, counts);
    for (value, anyhow) in values.iter_mut().zip(anyhow) {
        if !value.is_finite() {
            *value = if anyhow.is_finite() { anyhow } else { 0.0 };
        }
    }
    values
}

/// The items that have pieces and a bin, in the order of `style`.
fn order(model: &Model<'_>, counts: &[u64], values: &[f64], style: Style) -> Vec<usize> {
    let mut largest = vec![1_i64; model.resources];
    for bin in 0..model.bins() {
        for (largest, &capacity) in largest.iter_mut().zip(model.capacity(bin)) {
            *largest = (*largest).max(capacity);
        }
    }
    let shares = |item: usize| {
        let sizes = model.size(item).iter().zip(&largest);
        sizes.map(|(&size, &largest)| size as f64 / largest as f64)
    };
    let mut keyed: Vec<(f64, usize)> = (0..model.items())
        .filter(|&item| counts[item] > 0 && values[item] > 0.0)
        .map(|item| match style {
            Style::LargestFirst => (shares(item).fold(0.0, f64::max), item),
            Style::DearestFirst => (values[item] / shares(item).sum::<f64>().max(1e-12), item),
            Style::CallersOrder => (0.0, item),
        })
        .collect();
    keyed.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    keyed.into_iter().map(|(_, item)| item).collect()
}

/// Moves the contents of hosts to the cheapest bin that holds them: the last hosts are often not full.
fn move_to_cheaper(model: &Model<'_>, shelf: &Shelf, packing: &mut Packing) {
    let mut rest = shelf.clone();
    for (bin, hosts) in packing.hosts(model.problem).into_iter().enumerate() {
        rest.take(model, bin, hosts);
    }
    let is_single = |bin: usize| model.problem.bins[bin].hosts() == 1;
    let mut by_price: Vec<usize> = (0..model.bins()).filter(|&bin| is_single(bin)).collect();
    by_price.sort_by(|&a, &b| model.prices[a].total_cmp(&model.prices[b]).then(a.cmp(&b)));
    let mut used = vec![0_i64; model.resources];
    for pattern in &mut packing.patterns {
        if !is_single(pattern.bin) {
            continue;
        }
        used.fill(0);
        for &(item, count) in &pattern.items {
            for (used, size) in used.iter_mut().zip(model.size(item)) {
                *used += size * i64::from(count);
            }
        }
        let cheaper = by_price.iter().take_while(|&&bin| model.prices[bin] < model.prices[pattern.bin]);
        let holds = |bin: usize| {
            used.iter().zip(model.capacity(bin)).all(|(used, capacity)| used <= capacity)
                && pattern.items.iter().all(|&(item, _)| model.fit(bin, item) > 0)
        };
        let found = cheaper.copied().find(|&bin| rest.replicas_of(model, bin) >= pattern.times && holds(bin));
        if let Some(bin) = found {
            rest.take(model, bin, pattern.times);
            pattern.bin = bin;
        }
    }
}
