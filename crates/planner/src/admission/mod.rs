//! Which gangs of pods may begin on Kubernetes nodes, and where: all pods of a gang find a place at once, or none is taken.
//!
//! Gangs are asked in one order: those that have begun, then by priority, then by age. One that does not fit may be overtaken
//! by others for a while; once it has waited for [`Rules::backfill_ms`], nodes that would hold it are kept free of whoever comes
//! later: no more of them than it needs, those first of which most is free. Unless it would not even fit if all were empty. Every placement is checked in exact integers.

mod domains;
mod fit;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use crate::{Labels, Resources, TopologyLevel};
use domains::Domains;
use fit::Room;

/// A Kubernetes node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Arc<Labels>,
    /// What it offers when it is empty, but for pods that every node has, in Kubernetes' resource names (`cpu` in cores,
    /// `memory` in bytes, `pods`).
    pub total: Arc<Resources>,
    /// What is free of it now.
    pub free: Resources,
}

/// Pods that are alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodClass {
    /// What one of them requests.
    pub requests: Resources,
    /// How many there are.
    pub count: u32,
    /// Which nodes may hold it (selectors, taints, health), by index.
    pub may_use: Vec<bool>,
}

/// Pods that begin together or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodGang {
    /// A name that no other gang has.
    pub id: String,
    /// Higher ones are asked first.
    pub priority: i64,
    /// Unix time in ms since when it waits.
    pub since_ms: i64,
    /// Some of its pods have begun already: nothing goes before the rest of it.
    pub has_begun: bool,
    /// Its pods.
    pub classes: Vec<PodClass>,
    /// It must be in one domain of this level.
    pub level: Option<usize>,
    /// Index of a node in whose domains it must be, as far as `level` says so, or else should be: where the rest of it is.
    pub beside: Option<usize>,
}

/// What holds for all gangs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Levels of the topology, from broad to narrow.
    pub levels: Vec<TopologyLevel>,
    /// Unix time in ms.
    pub now_ms: i64,
    /// How long a gang that does not fit may be overtaken, in ms.
    pub backfill_ms: i64,
}

/// What becomes of a gang.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It may begin.
    Begins {
        /// The node of each pod, by class.
        nodes: Vec<Vec<usize>>,
        /// The domain that holds all of it: the level, and the value of its label. `None`: no level has one that large.
        domain: Option<(usize, String)>,
    },
    /// It waits.
    Waits {
        /// Why, for people.
        reason: String,
        /// It can be overtaken no longer: nodes are kept for it.
        is_reserving: bool,
    },
}

/// Says what becomes of each gang, in their order. `places` may be in any order; the answer does not depend on it beyond the
/// indices.
pub fn admit(places: &[Place], gangs: &[PodGang], rules: &Rules) -> Vec<Verdict> {
    let domains = Domains::new(places, &rules.levels);
    let mut free: Vec<Resources> = places.iter().map(|place| place.free.clone()).collect();
    let mut kept_for: Vec<Option<&str>> = vec![None; places.len()];
    let mut verdicts: BTreeMap<usize, Verdict> = BTreeMap::new();
    let mut order: Vec<usize> = (0..gangs.len()).collect();
    order.sort_by_key(|&at| {
        let gang = &gangs[at];
        (!gang.has_begun, std::cmp::Reverse(gang.priority), gang.since_ms, &gang.id)
    });
    for at in order {
        let gang = &gangs[at];
        let open: Vec<bool> = kept_for.iter().map(Option::is_none).collect();
        let room = Room { places, free: &free, open: &open };
        let verdict = match domains.best(gang, &room) {
            Some((nodes, domain)) => {
                take(&mut free, gang, &nodes);
                Verdict::Begins { nodes, domain }
            }
            None => wait(gang, &domains, &room, &mut kept_for, rules),
        };
        verdicts.insert(at, verdict);
    }
    verdicts.into_values().collect()
}

/// Takes off what is free what pods will hold that wait for the scheduler and for no gang: as many of each class as fit now.
/// It may put them elsewhere; what they take in all is known.
pub fn set_aside(places: &mut [Place], pending: &[PodClass]) {
    let mut free: Vec<Resources> = places.iter_mut().map(|place| std::mem::take(&mut place.free)).collect();
    let open = vec![true; places.len()];
    let all: Vec<usize> = (0..places.len()).collect();
    for class in pending {
        for node in fit::alike(class, &all, &Room { places, free: &free, open: &open }) {
            fit::take(&mut free[node], &class.requests);
        }
    }
    for (place, free) in places.iter_mut().zip(free) {
        place.free = free;
    }
}

fn take(free: &mut [Resources], gang: &PodGang, nodes: &[Vec<usize>]) {
    for (class, nodes) in gang.classes.iter().zip(nodes) {
        for &node in nodes {
            fit::take(&mut free[node], &class.requests);
        }
    }
}

/// Why a gang waits. One that has waited long enough closes nodes that would hold it to whoever comes later.
fn wait<'a>(
    gang: &'a PodGang,
    domains: &Domains<'_>,
    room: &Room<'_>,
    kept_for: &mut [Option<&'a str>],
    rules: &Rules,
) -> Verdict {
    let totals: Vec<Resources> = room.places.iter().map(|place| (*place.total).clone()).collect();
    let all_open = vec![true; room.places.len()];
    let empty = Room { places: room.places, free: &totals, open: &all_open };
    let could_be = domains.best(gang, &empty);
    let reason = reason(gang, domains, room, kept_for, could_be.is_some());
    let is_late = rules.now_ms.saturating_sub(gang.since_ms) >= rules.backfill_ms;
    let is_reserving = could_be.is_some() && (is_late || gang.has_begun);
    if is_reserving {
        let now = Room { open: &all_open, ..*room };
        let beside_others = Room { open: room.open, ..empty };
        let found = domains.would_hold(gang, &now, &beside_others).or_else(|| domains.would_hold(gang, &now, &empty));
        let found = found.or(could_be.map(|(nodes, _)| nodes)).unwrap_or_default();
        for node in found.into_iter().flatten() {
            kept_for[node].get_or_insert(&gang.id);
        }
    }
    Verdict::Waits { reason, is_reserving }
}

fn reason(
    gang: &PodGang,
    domains: &Domains<'_>,
    room: &Room<'_>,
    kept_for: &[Option<&str>],
    could_fit: bool,
) -> String {
    let wanted: u64 = gang.classes.iter().map(|class| u64::from(class.count)).sum();
    let place = gang.level.map_or("on the nodes".to_owned(), |level| format!("in one {}", domains.name(level)));
    let most = domains.most(gang, room);
    if !could_fit {
        return format!("{wanted} pods can't fit {place} together, not even if nothing else ran there");
    }
    // As if no node were kept for another one.
    let all_open = vec![true; room.places.len()];
    let open = Room { places: room.places, free: room.free, open: &all_open };
    if let (true, Some(keeper)) = (domains.best(gang, &open).is_some(), kept_for.iter().flatten().next()) {
        return format!("{wanted} pods wait for their turn: nodes are kept for {keeper}, which has waited longer");
    }
    format!("{most} of {wanted} pods fit {place} now")
}
