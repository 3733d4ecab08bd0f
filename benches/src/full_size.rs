//! Problems for the planner at the size of a large platform, and those of public complaints.

use std::collections::BTreeSet;
use std::sync::Arc;

use mobula_planner::{DemandClass, Gang, GangStrategy, Labels, Locality, Node, NodeType, Request, Resources, Snapshot};

use crate::random::Random;
use crate::shapes::{NOW_MS, gang, group, labelled, node, pinned, request, with_cpu};

const GIB: i64 = 1 << 30;
const ACCELERATOR: &str = "ray.io/accelerator-type";
const RACK: &str = "ray.io/gpu-domain";

/// How much of everything there is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Pending tasks and actors.
    pub requests: u64,
    /// Shapes that they have.
    pub shapes: u64,
    /// Pending placement groups.
    pub gangs: usize,
    /// Most bundles of one of them; most have far fewer.
    pub max_bundles: u64,
    /// Worker groups.
    pub groups: usize,
    /// Nodes that run; one in ten is idle, one in ten full.
    pub nodes: usize,
}

/// The problem that Mobula is to plan within 5 ms.
pub const FULL_SIZE: Mix =
    Mix { requests: 100_000, shapes: 200, gangs: 1_000, max_bundles: 512, groups: 50, nodes: 10_000 };

/// Kinds of hosts: name, thousandths an hour, CPU, GiB, GPUs.
const KINDS: [(&str, u64, i64, i64, i64); 10] = [
    ("general", 770, 16, 64, 0),
    ("l4", 800, 8, 32, 1),
    ("compute", 680, 16, 32, 0),
    ("h100", 98_300, 192, 2_048, 8),
    ("memory", 1_010, 16, 128, 0),
    ("a100", 32_800, 96, 1_152, 8),
    ("l4-x4", 4_000, 48, 192, 4),
    ("general-big", 3_080, 64, 256, 0),
    ("a10g", 1_210, 16, 64, 1),
    ("compute-big", 2_720, 64, 128, 0),
];

/// A mixture of everything; the same on every machine, and nodes in the order in which the sidecar observes them.
pub fn mix(mix: Mix, seed: u64) -> Snapshot {
    let mut random = Random(seed ^ 0x00f0_11f5);
    let mut snapshot = Snapshot { now_ms: NOW_MS, ..Snapshot::default() };
    snapshot.node_types = (0..mix.groups).map(|number| host_group(number, &mut random)).collect();
    let mut nodes = Vec::new();
    for number in 0..mix.nodes {
        let at = random.below(mix.groups as u64) as usize;
        let used = match random.below(10) {
            0 => 0,
            1 => 10,
            tenths => tenths,
        };
        let group = &mut snapshot.node_types[at];
        group.requested_replicas += 1;
        nodes.push((at, node(group, number, used)));
    }
    nodes.sort_by_key(|(group, _)| *group);
    snapshot.nodes = nodes.into_iter().map(|(_, node)| node).collect();
    share_what_is_equal(&mut snapshot);
    let shapes = mix.shapes.min(mix.requests);
    for index in 0..shapes {
        let count = mix.requests / shapes + u64::from(index < mix.requests % shapes);
        let mut request = shape(index, &mut random);
        while snapshot.demand.iter().any(|class| class.request == request) {
            request = shape(index, &mut random);
        }
        snapshot.demand.push(DemandClass { request, count });
    }
    for number in 0..mix.gangs {
        let gang = training(number, mix.max_bundles, &mut random);
        snapshot.gangs.push(gang);
    }
    snapshot
}

/// As the sidecar reads them: equal maps are one, and the nodes of a group share its name.
fn share_what_is_equal(snapshot: &mut Snapshot) {
    let mut amounts: BTreeSet<Arc<Resources>> = BTreeSet::new();
    let mut labels: BTreeSet<Arc<Labels>> = BTreeSet::new();
    let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
    for node in &mut snapshot.nodes {
        share(&mut amounts, &mut node.total);
        share(&mut amounts, &mut node.available);
        share(&mut labels, &mut node.labels);
        share(&mut labels, &mut node.dynamic_labels);
        share(&mut names, &mut node.group);
    }
}

fn share<T: Ord + ?Sized>(known: &mut BTreeSet<Arc<T>>, value: &mut Arc<T>) {
    match known.get(value) {
        Some(same) => *value = Arc::clone(same),
        None => drop(known.insert(Arc::clone(value))),
    }
}

/// Each kind in turn, then again at other prices.
fn host_group(number: usize, random: &mut Random) -> NodeType {
    let (name, price, cpu, gib, gpu) = KINDS[number % KINDS.len()];
    let price = price * (900 + random.below(201)) / 1000;
    let amounts = [("CPU", cpu), ("memory", gib * GIB), ("GPU", gpu)];
    let made = group(&format!("{name}-{}", number / KINDS.len()), price, &amounts);
    if gpu > 0 { labelled(made, ACCELERATOR, name) } else { made }
}

fn shape(index: u64, random: &mut Random) -> Request {
    let tenths = 1 + random.below(80) as i64;
    let asked = match index % 10 {
        0 | 1 => request(&[]),
        2..=6 => request(&[("memory", (1 + random.below(24) as i64) * GIB)]),
        7 | 8 => request(&[("GPU", 1)]),
        _ => pinned(request(&[("GPU", 1), ("memory", (8 + random.below(16) as i64) * GIB)]), ACCELERATOR, "l4"),
    };
    with_cpu(asked, tenths)
}

/// Most gangs are small: half of them have up to 8 bundles, one in fifty up to the most.
fn training(number: usize, max_bundles: u64, random: &mut Random) -> Gang {
    let most = match random.below(50) {
        0 => max_bundles,
        1..=8 => max_bundles.min(64),
        9..=24 => max_bundles.min(16),
        _ => max_bundles.min(8),
    };
    let bundles = 1 + random.below(most) as usize;
    let cpu = 1 + random.below(8) as i64;
    match number % 4 {
        0 => gang(number, GangStrategy::Pack, [(request(&[("CPU", cpu), ("GPU", 1)]), bundles)]),
        1 => gang(number, GangStrategy::Spread, [(request(&[("CPU", cpu)]), bundles)]),
        2 => gang(number, GangStrategy::StrictPack, [(request(&[("CPU", cpu), ("GPU", 1)]), bundles.min(8))]),
        _ => gang(number, GangStrategy::StrictSpread, [(request(&[("CPU", cpu)]), bundles)]),
    }
}

/// 10,000 bundles in one placement group, and GPU nodes that are all in use: a decision that took 88.9 s (ray-project/ray#63812).
pub fn ten_thousand_bundles() -> Snapshot {
    let gpu = group("gpu", 32_800, &[("CPU", 96), ("memory", 1_152 * GIB), ("GPU", 8)]);
    let bundles = gang(0, GangStrategy::Pack, [(request(&[("CPU", 4), ("GPU", 1)]), 10_000)]);
    let nodes = (0..100).map(|number| node(&gpu, number, 10)).collect();
    let gpu = NodeType { requested_replicas: 100, ..gpu };
    Snapshot { now_ms: NOW_MS, node_types: vec![gpu], nodes, gangs: vec![bundles], ..Snapshot::default() }
}

/// 13,315 pending tasks of 2 CPUs beside 1,337 nodes: rounds that took 10 to 44 minutes (ray-project/ray PR 64175).
pub fn many_tasks_on_many_nodes() -> Snapshot {
    let cpu = group("cpu", 770, &[("CPU", 16), ("memory", 64 * GIB)]);
    let nodes = (0..1_337).map(|number| node(&cpu, number, number as u64 % 11)).collect();
    let cpu = NodeType { requested_replicas: 1_337, ..cpu };
    let demand = vec![DemandClass { request: request(&[("CPU", 2)]), count: 13_315 }];
    Snapshot { now_ms: NOW_MS, node_types: vec![cpu], nodes, demand, ..Snapshot::default() }
}

/// 10,000 nodes, all in use, and nothing asked for.
pub fn nothing_to_do() -> Snapshot {
    let mut snapshot = mix(Mix { requests: 0, gangs: 0, ..FULL_SIZE }, 1);
    for node in &mut snapshot.nodes {
        (node.idle_ms, node.available) = (None, Arc::default());
    }
    share_what_is_equal(&mut snapshot);
    snapshot
}

/// One in a hundred nodes has changed since the snapshot: it became half free.
pub fn one_percent_changed(snapshot: &Snapshot) -> Snapshot {
    let mut next = snapshot.clone();
    next.now_ms += 1_000;
    for at in (0..next.nodes.len()).step_by(100) {
        if let Some(group) = next.node_types.iter().find(|group| *group.name == *next.nodes[at].group) {
            let half = node(group, at, 5);
            next.nodes[at].available = half.available;
            next.nodes[at].idle_ms = half.idle_ms;
        }
    }
    next
}

/// The same snapshot as it would be read from another reply: nothing of its nodes is shared with the one before.
pub fn read_anew(snapshot: &Snapshot) -> Snapshot {
    let anew = |node: &Node| Node {
        instance_id: (*node.instance_id).into(),
        group: (*node.group).into(),
        total: Arc::new((*node.total).clone()),
        available: Arc::new((*node.available).clone()),
        labels: Arc::new((*node.labels).clone()),
        dynamic_labels: Arc::new((*node.dynamic_labels).clone()),
        ..node.clone()
    };
    let mut snapshot = Snapshot { nodes: snapshot.nodes.iter().map(anew).collect(), ..snapshot.clone() };
    share_what_is_equal(&mut snapshot);
    snapshot
}

/// Pending gangs of the full-size problem that are to be in one GPU domain each, in racks of 18 hosts.
pub fn racks(gangs: usize, nodes: usize) -> Snapshot {
    let gpu = group("gb200", 40_000, &[("CPU", 144), ("GPU", 4)]);
    let nodes: Vec<_> = (0..nodes)
        .map(|number| {
            let rack = labelled(gpu.clone(), RACK, &format!("rack-{}", number / 18));
            node(&rack, number, if number % 3 == 0 { 10 } else { 0 })
        })
        .collect();
    let gangs = (0..gangs).map(|number| {
        let mut made = gang(number, GangStrategy::Pack, [(request(&[("CPU", 8), ("GPU", 4)]), 2 + number % 11)]);
        let (label, strategy) = (RACK.to_owned(), GangStrategy::StrictPack);
        made.locality = Some(Locality { label, strategy, ..Locality::default() });
        made
    });
    let gpu = NodeType { requested_replicas: nodes.len() as u32, ..gpu };
    Snapshot {
        now_ms: NOW_MS,
        gangs: gangs.collect(),
        node_types: vec![gpu],
        nodes: nodes.into(),
        ..Snapshot::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_size_is_what_it_says() {
        let snapshot = mix(FULL_SIZE, 1);
        assert_eq!(snapshot.demand.iter().map(|class| class.count).sum::<u64>(), 100_000);
        assert_eq!((snapshot.gangs.len(), snapshot.node_types.len(), snapshot.nodes.len()), (1_000, 50, 10_000));
        let largest = snapshot.gangs.iter().map(|gang| gang.bundles.len()).max();
        assert!(largest.is_some_and(|bundles| (257..=512).contains(&bundles)), "{largest:?}");
        assert_eq!(snapshot.demand.len(), 200);
        assert!(snapshot.is_in_order());
    }

    #[test]
    fn one_percent_is_one_percent() {
        let before = mix(FULL_SIZE, 1);
        let after = one_percent_changed(&before);
        let changed = before.nodes.iter().zip(&after.nodes).filter(|(before, after)| before != after).count();
        assert!((80..=100).contains(&changed), "{changed} changed");
    }

    #[test]
    fn nothing_to_do_asks_for_nothing() {
        let snapshot = nothing_to_do();
        assert_eq!((snapshot.demand.len(), snapshot.gangs.len(), snapshot.nodes.len()), (0, 0, 10_000));
    }
}
