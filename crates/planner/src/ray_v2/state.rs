//! What a node has left, as values that are shared by all nodes in the same state.
//!
//! Most nodes of a large cluster are alike, so every distinct state is kept once, under a number. What a node would take of
//! the waiting requests depends on its state alone, and is worked out once a state.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::tables::{Class, Kinds, ResourceId, Run, Tables, has_kind};
use crate::{LabelSelector, Resources};

/// Number of a node state.
pub(super) type StateId = u32;

/// No such slot.
const NO_SLOT: u16 = u16::MAX;

/// A resource that a node does not list.
const UNLISTED: f64 = f64::NAN;

/// Which bookkeeping a request is placed in. Ray keeps two for every node.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Ledger {
    /// Tasks, actors and gangs take from what is free.
    Demand = 0,
    /// `request_resources` takes from the total.
    Constraint = 1,
}

/// What a node is, beside its amounts.
pub(super) struct NodeSpec<'n> {
    /// Position of its group among the node types; `None`: of no group that we know.
    pub group: Option<u16>,
    /// The head, which only ever stands for itself.
    pub head: bool,
    /// Ray runs there.
    pub running: bool,
    /// Everything it has.
    pub total: &'n Resources,
    /// What is free.
    pub free: &'n Resources,
}

/// What many states have in common.
#[derive(PartialEq, Eq, Hash)]
struct LayoutKey {
    group: Option<u16>,
    head: bool,
    running: bool,
    gpu: bool,
    /// Resources that the node has, no request names, and nobody uses: they count when utilisation is averaged.
    unused: u32,
    /// Number of slots.
    slots: usize,
    /// Resources of the first slots. The others are for resources that are in use, but that no request names.
    named: Vec<ResourceId>,
}

struct Layout {
    key: Rc<LayoutKey>,
    /// Slot of each resource.
    slot_of: Vec<u16>,
}

/// What was placed on a node so far, as far as scores depend on it.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Placed {
    /// How well the first request that has a label selector liked the node; 0: there is none yet.
    label_rank: u32,
    names_gpu: bool,
    kinds: Kinds,
    any: bool,
}

/// A distinct state.
struct State {
    layout: u32,
    labels: u32,
    total: Rc<[f64]>,
    free: [Rc<[f64]>; 2],
    placed: [Rc<Placed>; 2],
    /// Numbers, a ledger each, shared by the states that Ray does not tell apart when it compares candidates.
    visible: [u32; 2],
}

/// How well a node uses its resources; larger is better, the first difference decides.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub(super) struct Score {
    pub labels: u32,
    pub keeps_gpu_free: bool,
    pub kinds: u32,
    pub least_utilisation: f64,
    pub mean_utilisation: f64,
}

/// What a node in some state would take of the waiting requests.
pub(super) struct Fill {
    /// Position of the run, and how many of it.
    pub taken: Vec<(u32, u64)>,
    pub score: Score,
    /// The state afterwards.
    pub after: StateId,
}

/// All node states and label sets met so far.
pub(super) struct States<'a> {
    tables: &'a Tables<'a>,
    keep_gpu_free: bool,
    layouts: Vec<Rc<Layout>>,
    layout_ids: HashMap<Rc<LayoutKey>, u32>,
    label_sets: Vec<Rc<BTreeMap<&'a str, &'a str>>>,
    label_ids: HashMap<Rc<BTreeMap<&'a str, &'a str>>, u32>,
    states: Vec<State>,
    state_ids: HashMap<Vec<u64>, StateId>,
    visible_ids: HashMap<Vec<u64>, u32>,
    label_ranks: HashMap<(u32, u32), u32>,
}

impl<'a> States<'a> {
    pub fn new(tables: &'a Tables<'a>, keep_gpu_free: bool) -> Self {
        States {
            tables,
            keep_gpu_free,
            layouts: Vec::new(),
            layout_ids: HashMap::new(),
            label_sets: Vec::new(),
            label_ids: HashMap::new(),
            states: Vec::new(),
            state_ids: HashMap::new(),
            visible_ids: HashMap::new(),
            label_ranks: HashMap::new(),
        }
    }

    /// What the states refer to.
    pub fn tables(&self) -> &'a Tables<'a> {
        self.tables
    }

    /// Number of states so far.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// The state of a node on which nothing has been placed yet. Later labels win.
    pub fn add(&mut self, spec: &NodeSpec<'_>, labels: impl Iterator<Item = (&'a str, &'a str)>) -> StateId {
        let tables = self.tables;
        let amount = |resources: &Resources, name: &str| resources.get(name).map_or(UNLISTED, |amount| amount.as_f64());
        let mut unused = 0;
        let mut others = Vec::new();
        let mut named: Vec<ResourceId> = tables.everywhere.clone();
        for (name, has) in spec.total {
            if let Some(id) = tables.resource(name) {
                named.push(id);
            } else if has.steps() != 0 {
                if spec.free.get(name) == Some(has) {
                    unused += 1;
                } else {
                    others.push((has.as_f64(), amount(spec.free, name)));
                }
            }
        }
        named.extend(spec.free.keys().filter_map(|name| tables.resource(name)));
        named.sort_unstable();
        named.dedup();
        let names = named.iter().map(|&id| tables.resources[usize::from(id)]);
        let amounts = names.map(|name| (amount(spec.total, name), amount(spec.free, name))).chain(others);
        let (total, free): (Vec<f64>, Vec<f64>) = amounts.unzip();
        let gpu = spec.total.get("GPU").is_some_and(|gpu| gpu.steps() > 0);
        let (group, head, running) = (spec.group, spec.head, spec.running);
        let layout = self.layout(LayoutKey { group, head, running, gpu, unused, slots: total.len(), named });
        let labels = labels.filter(|(key, _)| tables.label_keys.contains(key)).collect();
        let labels = self.label_set(labels);
        let nothing = Rc::new(Placed { kinds: tables.no_kinds(), ..Placed::default() });
        let (free, total) = (Rc::from(free), Rc::<[f64]>::from(total));
        let free = [free, total.clone()];
        self.intern(layout, labels, total, free, [nothing.clone(), nothing])
    }

    /// The state after the node's CPU and memory became `cpu` and `memory`: what is free changes by as much.
    pub fn resized(&mut self, state: StateId, cpu: f64, memory: f64) -> StateId {
        let from = &self.states[state as usize];
        let layout = &self.layouts[from.layout as usize];
        let mut total = from.total.to_vec();
        let mut free = from.free.clone().map(|free| free.to_vec());
        for (name, size) in [("CPU", cpu), ("memory", memory)] {
            let Some(slot) = self.tables.resource(name).and_then(|id| slot(layout, id)) else {
                continue;
            };
            let change = size - listed(total[slot], 0.0);
            total[slot] = size.max(0.0);
            for free in &mut free {
                free[slot] = (listed(free[slot], 0.0) + change).max(0.0);
            }
        }
        let (layout, labels, placed) = (from.layout, from.labels, from.placed.clone());
        self.intern(layout, labels, Rc::from(total), free.map(Rc::from), placed)
    }

    /// What a node in `state` takes of `runs`, first come first served; `None`: nothing.
    pub fn fill(&mut self, state: StateId, ledger: Ledger, runs: &[Run]) -> Option<Fill> {
        let tables = self.tables;
        let from = &self.states[state as usize];
        let layout = self.layouts[from.layout as usize].clone();
        let mut labels = from.labels;
        let mut free = from.free[ledger as usize].to_vec();
        let mut placed = Placed::clone(&from.placed[ledger as usize]);
        let mut taken = Vec::new();
        for (at, run) in (0..).zip(runs).filter(|(_, run)| run.count > 0) {
            let class = &tables.classes[run.class as usize];
            if !has_room(tables, &layout, &free, class) {
                continue;
            }
            let label_rank = self.label_rank(labels, run.class);
            if label_rank == Some(0) || !self.keeps_apart(labels, class) {
                continue;
            }
            let most = if class.apart.is_empty() { run.count } else { 1 };
            let count = take(tables, &layout, &mut free, class, most);
            if !class.apart.is_empty() {
                labels = self.with_labels(labels, &class.apart);
            }
            placed.note(class, label_rank);
            taken.push((at, count));
        }
        if taken.is_empty() {
            return None;
        }
        let from = &self.states[state as usize];
        let (layout_id, total) = (from.layout, from.total.clone());
        let score = score(&layout, &total, &free, &placed, self.keep_gpu_free);
        let (mut frees, mut placeds) = (from.free.clone(), from.placed.clone());
        frees[ledger as usize] = Rc::from(free);
        placeds[ledger as usize] = Rc::new(placed);
        let after = self.intern(layout_id, labels, total, frees, placeds);
        Some(Fill { taken, score, after })
    }

    /// Whether the amounts of any of `runs` are free, labels aside.
    pub fn has_room_for_any(&self, state: StateId, ledger: Ledger, runs: &[Run]) -> bool {
        let state = &self.states[state as usize];
        let layout = &self.layouts[state.layout as usize];
        let free = &state.free[ledger as usize];
        runs.iter().any(|run| has_room(self.tables, layout, free, &self.tables.classes[run.class as usize]))
    }

    /// All that a node in `state` has of `resource`.
    pub fn total(&self, state: StateId, resource: ResourceId) -> f64 {
        let state = &self.states[state as usize];
        let slot = slot(&self.layouts[state.layout as usize], resource);
        slot.map_or(0.0, |slot| listed(state.total[slot], self.tables.unlisted(resource)))
    }

    /// Whether Ray runs on a node in `state`.
    pub fn is_running(&self, state: StateId) -> bool {
        self.layouts[self.states[state as usize].layout as usize].key.running
    }

    /// Whether anything was placed.
    pub fn is_needed(&self, state: StateId, ledger: Ledger) -> bool {
        self.states[state as usize].placed[ledger as usize].any
    }

    /// Number shared by the states that Ray takes for the same candidate. Nodes that run Ray are all different to it.
    pub fn visible(&self, state: StateId, ledger: Ledger) -> u32 {
        self.states[state as usize].visible[ledger as usize]
    }

    /// The share of its resources that is in use, averaged over their kinds.
    pub fn mean_use(&self, state: StateId) -> f64 {
        let state = &self.states[state as usize];
        let layout = &self.layouts[state.layout as usize];
        let free = &state.free[Ledger::Demand as usize];
        let (mut sum, mut kinds) = (0.0, f64::from(layout.key.unused));
        for (&total, &free) in state.total.iter().zip(free.iter()).filter(|(total, _)| **total > 0.0) {
            sum += (total - listed(free, 0.0)) / total;
            kinds += 1.0;
        }
        if kinds > 0.0 { sum / kinds } else { 0.0 }
    }

    /// How much the node likes the class: the number of its selectors minus the position of the first that the labels
    /// satisfy, 0 if none does; `None`: it has no selector.
    fn label_rank(&mut self, labels: u32, class: u32) -> Option<u32> {
        let selectors = self.tables.classes[class as usize].selectors;
        let first = selectors.first()?;
        let count = selectors.len() as u32;
        if first.constraints.is_empty() {
            return Some(count);
        }
        let set = &self.label_sets[labels as usize];
        let rank = self.label_ranks.entry((labels, class)).or_insert_with(|| {
            let fits = |selector: &LabelSelector| selector.is_met_by(|key| set.get(key).copied());
            let satisfied = (0..count).zip(selectors).find(|(_, selector)| fits(selector));
            satisfied.map_or(0, |(at, _)| count - at)
        });
        Some(*rank)
    }

    fn keeps_apart(&self, labels: u32, class: &Class<'_>) -> bool {
        class.apart.is_empty() || {
            let set = &self.label_sets[labels as usize];
            class.apart.iter().all(|(key, value)| set.get(key) != Some(value))
        }
    }

    fn with_labels(&mut self, labels: u32, more: &[(&'a str, &'a str)]) -> u32 {
        let mut set = BTreeMap::clone(&self.label_sets[labels as usize]);
        set.extend(more.iter().copied());
        self.label_set(set)
    }

    fn label_set(&mut self, set: BTreeMap<&'a str, &'a str>) -> u32 {
        if let Some(&id) = self.label_ids.get(&set) {
            return id;
        }
        let (id, set) = (self.label_sets.len() as u32, Rc::new(set));
        self.label_sets.push(set.clone());
        self.label_ids.insert(set, id);
        id
    }

    fn layout(&mut self, key: LayoutKey) -> u32 {
        if let Some(&id) = self.layout_ids.get(&key) {
            return id;
        }
        let mut slot_of = vec![NO_SLOT; self.tables.resources.len()];
        for (slot, &resource) in (0..).zip(&key.named) {
            slot_of[usize::from(resource)] = slot;
        }
        let (id, key) = (self.layouts.len() as u32, Rc::new(key));
        self.layouts.push(Rc::new(Layout { key: key.clone(), slot_of }));
        self.layout_ids.insert(key, id);
        id
    }

    fn intern(
        &mut self,
        layout: u32,
        labels: u32,
        total: Rc<[f64]>,
        free: [Rc<[f64]>; 2],
        placed: [Rc<Placed>; 2],
    ) -> StateId {
        let mut key = vec![u64::from(layout) << 32 | u64::from(labels)];
        key.extend(total.iter().map(|amount| amount.to_bits()));
        let visible_parts = free.clone().map(|free| {
            let mut part = key.clone();
            part.extend(free.iter().map(|amount| amount.to_bits()));
            part
        });
        key.extend(free.iter().flat_map(|free| free.iter().map(|amount| amount.to_bits())));
        for placed in &placed {
            key.push(u64::from(placed.label_rank) << 2 | u64::from(placed.names_gpu) << 1 | u64::from(placed.any));
            key.extend(&placed.kinds);
        }
        if let Some(&id) = self.state_ids.get(&key) {
            return id;
        }
        let id = self.states.len() as StateId;
        let running = self.layouts[layout as usize].key.running;
        let visible = if running {
            let next = self.visible_ids.len() as u32;
            [*self.visible_ids.entry(key.clone()).or_insert(next); 2]
        } else {
            visible_parts.map(|part| {
                let next = self.visible_ids.len() as u32;
                *self.visible_ids.entry(part).or_insert(next)
            })
        };
        self.states.push(State { layout, labels, total, free, placed, visible });
        self.state_ids.insert(key, id);
        id
    }
}

impl Placed {
    fn note(&mut self, class: &Class<'_>, label_rank: Option<u32>) {
        if self.label_rank == 0 {
            self.label_rank = label_rank.unwrap_or(0);
        }
        self.names_gpu |= class.names_gpu;
        self.any = true;
        for (mine, theirs) in self.kinds.iter_mut().zip(&class.kinds) {
            *mine |= theirs;
        }
    }
}

fn listed(amount: f64, otherwise: f64) -> f64 {
    if amount.is_nan() { otherwise } else { amount }
}

fn slot(layout: &Layout, resource: ResourceId) -> Option<usize> {
    let slot = layout.slot_of.get(usize::from(resource)).copied().filter(|slot| *slot != NO_SLOT)?;
    Some(usize::from(slot))
}

fn has_room(tables: &Tables<'_>, layout: &Layout, free: &[f64], class: &Class<'_>) -> bool {
    class.needs.iter().all(|&(resource, amount)| {
        slot(layout, resource).is_some_and(|slot| amount <= listed(free[slot], tables.unlisted(resource)))
    })
}

/// Takes the amounts of up to `most` requests out of `free`, knowing that one fits; says how many.
fn take(tables: &Tables<'_>, layout: &Layout, free: &mut [f64], class: &Class<'_>, most: u64) -> u64 {
    if class.needs.is_empty() {
        return most;
    }
    for &(resource, _) in &class.needs {
        if let Some(slot) = slot(layout, resource) {
            free[slot] = listed(free[slot], tables.unlisted(resource));
        }
    }
    if let Some(count) = whole_steps(layout, free, class) {
        let count = count.min(most);
        subtract(layout, free, class, count);
        return count;
    }
    // Rounding makes the last one fit or not, so subtract as Ray does, one by one; beyond a few thousand nobody will mind.
    const ONE_BY_ONE: u64 = 4096;
    let mut count = 0;
    while count < most.min(ONE_BY_ONE) && has_room(tables, layout, free, class) {
        subtract(layout, free, class, 1);
        count += 1;
    }
    if count == ONE_BY_ONE && count < most {
        let fits = class.needs.iter().filter_map(|&(id, need)| slot(layout, id).map(|slot| (free[slot] / need) as u64));
        let more = fits.min().unwrap_or(0).min(most - count);
        subtract(layout, free, class, more);
        count += more;
    }
    count
}

fn subtract(layout: &Layout, free: &mut [f64], class: &Class<'_>, count: u64) {
    for &(resource, amount) in &class.needs {
        if let Some(slot) = slot(layout, resource) {
            free[slot] -= amount * count as f64;
        }
    }
}

/// How many fit, where all amounts are so round that subtracting them one by one loses nothing.
fn whole_steps(layout: &Layout, free: &[f64], class: &Class<'_>) -> Option<u64> {
    const STEPS: f64 = 1024.0;
    const MOST: f64 = (1_u64 << 43) as f64;
    let steps = |amount: f64| {
        let scaled = amount * STEPS;
        ((0.0..MOST).contains(&amount) && scaled.fract() == 0.0).then_some(scaled as u64)
    };
    let mut count = u64::MAX;
    for &(resource, amount) in &class.needs {
        count = count.min(steps(free[slot(layout, resource)?])? / steps(amount)?);
    }
    Some(count)
}

fn score(layout: &Layout, total: &[f64], free: &[f64], placed: &Placed, keep_gpu_free: bool) -> Score {
    let mut kinds = 0;
    let (mut least, mut sum, mut count) = (f64::INFINITY, 0.0, f64::from(layout.key.unused));
    if layout.key.unused > 0 {
        least = 0.0;
    }
    let named = layout.key.named.iter().copied().map(Some).chain(std::iter::repeat(None));
    for ((&total, &free), resource) in total.iter().zip(free).zip(named) {
        if total.is_nan() {
            continue;
        }
        kinds += u32::from(resource.is_some_and(|resource| has_kind(&placed.kinds, resource)));
        if total == 0.0 || free.is_nan() {
            continue;
        }
        let used = total * cube((total - free) / total);
        least = least.min(used);
        sum += used;
        count += 1.0;
    }
    Score {
        labels: placed.label_rank,
        keeps_gpu_free: !keep_gpu_free || !layout.key.gpu || placed.names_gpu,
        kinds,
        least_utilisation: if count > 0.0 { least } else { 0.0 },
        mean_utilisation: if count > 0.0 { sum / count } else { 0.0 },
    }
}

/// `x`³, rounded once: the same on every machine, which the C library's `pow` does not promise.
fn cube(x: f64) -> f64 {
    let square = x * x;
    let lost = x.mul_add(x, -square);
    let high = square * x;
    high + (square.mul_add(x, -high) + lost * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cubes_are_rounded_once() {
        assert_eq!(cube(0.5), 0.125);
        assert_eq!(cube(1.0), 1.0);
        // As exact arithmetic on the double gives them.
        assert_eq!(cube(1.0 / 3.0), 0.037_037_037_037_037_03);
        assert_eq!(cube(0.1), 0.001_000_000_000_000_000_2);
    }
}
