//! Where bundles of one shape fit, kept up to date while gangs are placed.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{HostId, ShapeId, World};

/// More bundles of a shape on one host than this make no difference.
const MAX_SLOTS: i64 = 1 << 20;

/// How much hosts are wanted: position among the alternatives of the label selectors; whether they have accelerators that the
/// shape does not need.
pub(super) type Wanted = (u8, bool);

/// Hosts by how many bundles of one shape they hold.
#[derive(Clone, Debug)]
pub(super) struct SlotIndex {
    shape: ShapeId,
    /// How much of the board's list of touched hosts is worked in.
    synced: usize,
    /// By host: bundles that it holds.
    slots: Vec<u32>,
    /// Hosts by how much they are wanted and what they hold; the next to be used is the last. An entry counts only if it
    /// says of the host what `slots` says.
    buckets: BTreeMap<(Wanted, u32), Vec<HostId>>,
}

impl SlotIndex {
    /// Looks at the hosts of `order`, the first of which is used first; others must have been touched.
    pub fn new(world: &World<'_>, shape: ShapeId, order: &[HostId]) -> Self {
        let slots = vec![0; world.hosts.len()];
        let mut index = SlotIndex { shape, synced: 0, slots, buckets: BTreeMap::new() };
        for host in order.iter().rev() {
            index.refresh(world, *host);
        }
        index
    }

    /// Works in what has happened to hosts since.
    pub fn sync(&mut self, world: &World<'_>, touched: &[HostId]) {
        for host in touched.iter().skip(self.synced) {
            self.refresh(world, *host);
        }
        self.synced = touched.len();
    }

    fn refresh(&mut self, world: &World<'_>, host: HostId) {
        let at = host as usize;
        if at >= self.slots.len() {
            self.slots.resize(world.hosts.len().max(at + 1), 0);
        }
        let (slots, wanted) = slots_of(world, self.shape, host);
        if self.slots[at] != slots {
            self.slots[at] = slots;
            if slots > 0 {
                self.buckets.entry((wanted, slots)).or_default().push(host);
            }
        }
    }

    /// How much the hosts are wanted that hold any, the most wanted first.
    pub fn wanted(&self) -> Vec<Wanted> {
        let wanted: BTreeSet<Wanted> = self.buckets.keys().map(|(wanted, _)| *wanted).collect();
        wanted.into_iter().collect()
    }

    /// The host that holds at least `least` bundles, and as few as possible beyond; else the one that holds the most.
    pub fn best_fit(&mut self, wanted: Wanted, least: u32) -> Option<(HostId, u32)> {
        self.first_from((wanted, least), (wanted, u32::MAX)).or_else(|| self.last_of(wanted))
    }

    fn first_from(&mut self, from: (Wanted, u32), to: (Wanted, u32)) -> Option<(HostId, u32)> {
        let mut empty = Vec::new();
        let mut found = None;
        for (key, hosts) in self.buckets.range_mut(from..=to) {
            found = top(&self.slots, key.1, hosts);
            if found.is_some() {
                break;
            }
            empty.push(*key);
        }
        empty.iter().for_each(|key| drop(self.buckets.remove(key)));
        found
    }

    fn last_of(&mut self, wanted: Wanted) -> Option<(HostId, u32)> {
        let mut empty = Vec::new();
        let mut found = None;
        for (key, hosts) in self.buckets.range_mut((wanted, 0)..=(wanted, u32::MAX)).rev() {
            found = top(&self.slots, key.1, hosts);
            if found.is_some() {
                break;
            }
            empty.push(*key);
        }
        empty.iter().for_each(|key| drop(self.buckets.remove(key)));
        found
    }

    /// Up to `most` different hosts, those that hold the fewest bundles first.
    pub fn hosts(&mut self, wanted: Wanted, most: usize, taken: &BTreeSet<HostId>) -> Vec<(HostId, u32)> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for ((_, slots), hosts) in self.buckets.range_mut((wanted, 0)..=(wanted, u32::MAX)) {
            if found.len() == most {
                break;
            }
            let current = &self.slots;
            hosts.retain(|host| current.get(*host as usize) == Some(slots));
            for &host in hosts.iter().rev() {
                if found.len() == most {
                    break;
                }
                if !taken.contains(&host) && seen.insert(host) {
                    found.push((host, *slots));
                }
            }
        }
        found
    }
}

/// The next host of a bucket; entries that do not count any more are dropped.
fn top(current: &[u32], slots: u32, hosts: &mut Vec<HostId>) -> Option<(HostId, u32)> {
    while let Some(host) = hosts.last() {
        if current.get(*host as usize) == Some(&slots) {
            return Some((*host, slots));
        }
        hosts.pop();
    }
    None
}

/// How many bundles of a shape a host holds, and how much it is wanted for them; 0 for a host that is not there any more.
pub(super) fn slots_of(world: &World<'_>, shape: ShapeId, host: HostId) -> (u32, Wanted) {
    let at = host as usize;
    let nothing = (0, (0, false));
    if at >= world.hosts.len() {
        return nothing;
    }
    let shape = &world.shapes[shape as usize];
    let slots = world.hosts.slots(shape, host).min(MAX_SLOTS);
    if slots <= 0 {
        return nothing;
    }
    let is_misuse = world.hosts.is_scarce[at] && !shape.is_scarce;
    world.rank(shape, world.hosts.kind[at]).map_or(nothing, |rank| (slots as u32, (rank, is_misuse)))
}
