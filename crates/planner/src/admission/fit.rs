//! Whether pods fit on nodes, in exact integers.

use std::collections::{BTreeMap, BTreeSet};

use super::{Place, PodClass};
use crate::{
    Amount, Resources,
    packing::{self, Bin, Item, Problem},
};

/// Nodes with what is free of them now.
#[derive(Copy, Clone)]
pub(super) struct Room<'a> {
    pub(super) places: &'a [Place],
    /// By node.
    pub(super) free: &'a [Resources],
    /// Whether the node may be taken, by node.
    pub(super) open: &'a [bool],
}

/// Takes `requests` off what is free.
pub(super) fn take(free: &mut Resources, requests: &Resources) {
    for (name, amount) in requests {
        let left = free.get(name).copied().unwrap_or_default().steps().saturating_sub(amount.steps());
        free.insert(name.clone(), Amount::from_steps(left));
    }
}

/// How many pods of a class one node holds.
pub(super) fn copies(class: &PodClass, node: usize, room: &Room<'_>) -> u32 {
    if !class.may_use.get(node).copied().unwrap_or(false) || !room.open[node] {
        return 0;
    }
    let wanted = class.requests.iter().filter(|(_, amount)| amount.steps() > 0);
    let fits = |(name, amount): (&String, &Amount)| {
        let free = room.free[node].get(name).copied().unwrap_or_default().steps().max(0);
        u32::try_from(free / amount.steps()).unwrap_or(u32::MAX)
    };
    wanted.map(fits).min().unwrap_or(u32::MAX)
}

/// Whether there is enough for each class alone: if not, there is no need to pack.
pub(super) fn may_fit(classes: &[PodClass], nodes: &[usize], room: &Room<'_>) -> bool {
    classes.iter().all(|class| capacity(class, nodes, room) >= u64::from(class.count))
}

/// How many pods of a class the nodes hold.
pub(super) fn capacity(class: &PodClass, nodes: &[usize], room: &Room<'_>) -> u64 {
    nodes.iter().map(|&node| u64::from(copies(class, node, room))).fold(0, u64::saturating_add)
}

/// A node for every pod, by class; `None`: they do not fit together. Nodes of which least is left are filled first.
pub(super) fn pack(classes: &[PodClass], nodes: &[usize], room: &Room<'_>) -> Option<Vec<Vec<usize>>> {
    if !may_fit(classes, nodes, room) {
        return None;
    }
    if let [class] = classes {
        return Some(vec![alike(class, nodes, room)]);
    }
    mixed(classes, nodes, room)
}

/// As [`pack`] with `room`, on few nodes: those first that hold most `now`.
pub(super) fn pack_few(
    classes: &[PodClass],
    nodes: &[usize],
    now: &Room<'_>,
    room: &Room<'_>,
) -> Option<Vec<Vec<usize>>> {
    let holds =
        |node: usize| classes.iter().map(|class| u64::from(copies(class, node, now))).fold(0, u64::saturating_add);
    let mut order: Vec<usize> = nodes.to_vec();
    order.sort_by_cached_key(|&node| (std::cmp::Reverse(holds(node)), &room.places[node].name));
    let mut lacks: Vec<u64> = classes.iter().map(|class| u64::from(class.count)).collect();
    let mut taken = 0;
    while taken < order.len() && lacks.iter().any(|lack| *lack > 0) {
        for (class, lack) in classes.iter().zip(&mut lacks) {
            *lack = lack.saturating_sub(u64::from(copies(class, order[taken], room)));
        }
        taken += 1;
    }
    // Kinds that are enough each alone may not fit together: then more and more nodes are looked at.
    let mut more = 1;
    loop {
        let found = pack(classes, &order[..taken], room);
        if found.is_some() || taken == order.len() {
            return found;
        }
        taken = (taken + more).min(order.len());
        more *= 2;
    }
}

/// Pods that are all alike, as many as fit: how many a node holds does not depend on the others.
pub(super) fn alike(class: &PodClass, nodes: &[usize], room: &Room<'_>) -> Vec<usize> {
    let mut holding: Vec<(u32, &str, usize)> = nodes
        .iter()
        .map(|&node| (copies(class, node, room), room.places[node].name.as_str(), node))
        .filter(|(copies, _, _)| *copies > 0)
        .collect();
    // Nodes that hold few are of little use to others.
    holding.sort_unstable();
    let mut found = Vec::new();
    for (copies, _, node) in holding {
        let missing = (class.count as usize).saturating_sub(found.len());
        found.extend(std::iter::repeat_n(node, missing.min(copies as usize)));
    }
    found
}

/// Pods of several kinds: asked of the packing, with equal nodes as one kind of bin.
fn mixed(classes: &[PodClass], nodes: &[usize], room: &Room<'_>) -> Option<Vec<Vec<usize>>> {
    let names: BTreeSet<&String> = classes.iter().flat_map(|class| class.requests.keys()).collect();
    let steps = |resources: &Resources| -> Vec<i64> {
        names.iter().map(|name| resources.get(*name).copied().unwrap_or_default().steps().max(0)).collect()
    };
    let mut kinds: BTreeMap<(Vec<i64>, Vec<bool>), Vec<usize>> = BTreeMap::new();
    for &node in nodes {
        let may_use: Vec<bool> = classes.iter().map(|class| copies(class, node, room) > 0).collect();
        if may_use.contains(&true) {
            kinds.entry((steps(&room.free[node]), may_use)).or_default().push(node);
        }
    }
    for nodes in kinds.values_mut() {
        nodes.sort_by_key(|&node| &room.places[node].name);
    }
    let bins = kinds.iter().map(|((capacity, _), nodes)| Bin {
        capacity: capacity.clone(),
        price: 1.0,
        hosts: 1,
        most: nodes.len() as u64,
    });
    let items = classes.iter().enumerate().map(|(at, class)| Item {
        size: steps(&class.requests),
        count: u64::from(class.count),
        bins: kinds.keys().map(|(_, may_use)| may_use[at]).collect(),
        most_per_bin: u32::MAX,
    });
    let problem = Problem { bins: bins.collect(), items: items.collect(), most_hosts: u64::MAX };
    let packing = packing::greedy(&problem);
    if packing.left.iter().any(|left| *left > 0) || packing::check(&problem, &packing).is_err() {
        return None;
    }
    let mut bins: Vec<std::vec::IntoIter<usize>> = kinds.into_values().map(Vec::into_iter).collect();
    let mut found = vec![Vec::new(); classes.len()];
    for pattern in &packing.patterns {
        for _ in 0..pattern.times {
            let node = bins[pattern.bin].next()?;
            for &(class, count) in &pattern.items {
                found[class].extend(std::iter::repeat_n(node, count as usize));
            }
        }
    }
    Some(found)
}
