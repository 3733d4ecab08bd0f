//! Random planning problems that reach every rule of Ray's scheduler.
//!
//! Amounts are such that sums don't depend on the order of addition (Ray adds in the order of a protobuf map, which changes
//! from process to process), except in requests of one or two resources, where there is only one order.

use std::sync::Arc;

use mobula_planner::{
    Amount, Constraint, DemandClass, Gang, GangStrategy, LabelConstraint, LabelOperator, LabelSelector, Labels, Memory,
    Node, NodePhase, NodeResize, NodeType, PlacementConstraint, Request, ResizeSpec, Resources, Snapshot,
};
use mobula_tests::dice::Dice;

const GIB: i64 = 1 << 30;
const NOW_MS: i64 = 1_760_000_000_000;
const ZONES: [&str; 3] = ["a", "b", "c"];
const MARKETS: [&str; 2] = ["spot", "on-demand"];
const IMPLICIT: &str = "node:__internal_implicit_resource_lease";

/// The problem of this number in the series of `seed`.
pub fn problem(seed: u64, number: u64) -> (Snapshot, Memory) {
    let dice = &mut Dice::new(seed, number);
    let mut snapshot = Snapshot { now_ms: NOW_MS, ..Snapshot::default() };
    settings(dice, &mut snapshot);
    node_types(dice, &mut snapshot);
    gangs(dice, &mut snapshot);
    nodes(dice, &mut snapshot);
    snapshot.demand = demand(dice, 8);
    if dice.one_in(3) {
        let classes = dice.below(4);
        let requests =
            (0..classes).map(|_| DemandClass { request: constraint_request(dice), count: dice.between(1, 6) });
        snapshot.constraints = vec![Constraint { requests: requests.collect() }];
    }
    let memory = memory(dice, &snapshot);
    (snapshot, memory)
}

fn settings(dice: &mut Dice, snapshot: &mut Snapshot) {
    let settings = &mut snapshot.settings;
    settings.idle_timeout_ms = dice.pick(&[Some(60_000), Some(60_000), Some(1_000), None]);
    settings.pending_idle_timeout_ms = dice.pick(&[None, None, Some(30_000)]);
    settings.max_nodes = if dice.one_in(5) { Some(dice.between(1, 8) as u32) } else { None };
    settings.conserve_gpu_nodes = !dice.one_in(4);
    settings.terminate_outdated = dice.one_in(4);
}

fn units(amounts: &[(&str, f64)]) -> Resources {
    amounts.iter().map(|(name, units)| ((*name).to_owned(), Amount::from_f64(*units).unwrap_or_default())).collect()
}

fn node_types(dice: &mut Dice, snapshot: &mut Snapshot) {
    let head = units(&[("CPU", 2.0), ("memory", (8 * GIB) as f64)]);
    snapshot.node_types =
        vec![NodeType { name: "headgroup".into(), is_head: true, resources: Arc::new(head), ..NodeType::default() }];
    for at in 0..dice.between(1, 5) {
        let twin_of = snapshot.node_types.last().filter(|group| !group.is_head).cloned();
        let mut group = match twin_of {
            Some(twin) if dice.one_in(3) => twin,
            _ => group(dice),
        };
        group.name = format!("group-{at}");
        group.priority = dice.pick(&[0, 0, 0, 5, 10]);
        group.min_replicas = dice.pick(&[0, 0, 0, 1, 2]);
        group.max_replicas = group.min_replicas + dice.pick(&[0, 1, 2, 4, 8, 20]);
        group.num_of_hosts = 1;
        group.idle_timeout_ms = dice.pick(&[None, None, Some(5_000), Some(120_000)]);
        group.launch_config_hash = dice.pick(&[None, Some("new".into())]);
        snapshot.node_types.push(group);
    }
}

fn group(dice: &mut Dice) -> NodeType {
    let cpu = dice.pick(&[1.0, 2.0, 3.0, 4.0, 8.0, 16.0, 64.0]);
    let mut amounts = vec![("CPU", cpu)];
    if !dice.one_in(4) {
        amounts.push(("memory", (dice.pick(&[1, 2, 4, 8, 32]) * GIB) as f64 * cpu / 2.0));
    }
    if dice.one_in(3) {
        amounts.push(("GPU", dice.pick(&[1.0, 2.0, 4.0, 8.0])));
        if dice.one_in(2) {
            amounts.push(("rdma/hca", 8.0));
        }
        if dice.one_in(2) {
            amounts.push(("accelerator_type:H100", 1.0));
        }
    }
    if dice.one_in(6) {
        amounts.push(("slot", dice.pick(&[0.3, 1.0, 2.0])));
    }
    if dice.one_in(20) {
        amounts.retain(|(name, _)| *name != "CPU");
    }
    let resize = dice.one_in(6).then(|| ResizeSpec {
        min_cpu: Amount::from_f64(cpu).unwrap_or_default(),
        max_cpu: Amount::from_f64(cpu * dice.pick(&[1.0, 2.0])).unwrap_or_default(),
        min_memory: Amount::from_units(GIB),
        max_memory: Amount::from_units(dice.pick(&[8, 64]) * GIB),
        timeout_ms: 60_000,
    });
    let mut labels = Labels::new();
    if dice.one_in(2) {
        labels.insert("zone".into(), dice.pick(&ZONES).into());
    }
    if dice.one_in(2) {
        labels.insert("market".into(), dice.pick(&MARKETS).into());
    }
    NodeType { resources: Arc::new(units(&amounts)), labels: Arc::new(labels), resize, ..NodeType::default() }
}

fn nodes(dice: &mut Dice, snapshot: &mut Snapshot) {
    if !dice.one_in(10) {
        let mut head = running(dice, &snapshot.node_types[0], snapshot, 0);
        head.is_head = true;
        snapshot.nodes.push(head);
    }
    let workers = if snapshot.node_types.len() > 1 { dice.pick(&[0, 1, 3, 6, 12]) } else { 0 };
    for at in 1..=workers {
        let mut group = snapshot.node_types[dice.between(1, snapshot.node_types.len() as u64 - 1) as usize].clone();
        if snapshot.settings.terminate_outdated && dice.one_in(10) {
            group.name = "gone".into();
        }
        let phase = dice.pick(&[
            NodePhase::Running,
            NodePhase::Running,
            NodePhase::Running,
            NodePhase::Running,
            NodePhase::Pending,
            NodePhase::Pending,
            NodePhase::Requested,
            NodePhase::Leaving,
            NodePhase::Stopped,
        ]);
        let mut node = running(dice, &group, snapshot, at);
        node.phase = phase;
        if phase != NodePhase::Running {
            (node.ray_node_id, node.idle_ms) = (None, None);
        }
        node.launch_config_hash = dice.pick(&[None, Some("new".into()), Some("new".into()), Some("old".into())]);
        node.resize = group.resize.and_then(|bounds| pod_resize(dice, bounds));
        snapshot.nodes.push(node);
    }
}

/// A Ray node, partly in use, of which not quite everything is as its group says.
fn running(dice: &mut Dice, group: &NodeType, snapshot: &Snapshot, at: u64) -> Node {
    let mut total = Resources::clone(&group.resources);
    total.insert(format!("node:10.0.0.{at}"), Amount::from_units(1));
    total.insert("object_store_memory".into(), Amount::from_units(GIB));
    if group.is_head {
        total.insert("node:__internal_head__".into(), Amount::from_units(1));
    }
    if dice.one_in(5) {
        total.remove("memory");
    }
    let idle = dice.one_in(2);
    let mut available = total.clone();
    if !idle {
        for name in ["CPU", "GPU", "memory", "object_store_memory"] {
            let Some(amount) = available.get_mut(name) else { continue };
            *amount = Amount::from_steps(amount.steps() / 4 * dice.below(5) as i64);
            if amount.steps() == 0 {
                available.remove(name);
            }
        }
    }
    let mut labels = Labels::clone(&group.labels);
    labels.insert("ray.io/node-id".into(), format!("{at:056x}"));
    if dice.one_in(8) {
        labels.insert("zone".into(), dice.pick(&ZONES).into());
    }
    let spread = snapshot.gangs.iter().filter(|gang| gang.rescheduling && dice.one_in(2));
    Node {
        instance_id: format!("pod-{at}").into(),
        ray_node_id: Some(format!("{at:056x}")),
        group: group.name.as_str().into(),
        total: Arc::new(total),
        available: Arc::new(available),
        labels: Arc::new(labels),
        dynamic_labels: Arc::new(spread.map(|gang| (format!("_PG_{}", gang.id), String::new())).collect()),
        idle_ms: idle.then(|| dice.pick(&[500, 3_000, 50_000, 61_000, 61_000, 200_000])),
        ..Node::default()
    }
}

fn pod_resize(dice: &mut Dice, bounds: ResizeSpec) -> Option<NodeResize> {
    let in_progress = dice.one_in(4);
    let known = in_progress && !dice.one_in(4);
    let suggested = dice.one_in(4);
    (!dice.one_in(6)).then(|| NodeResize {
        current_cpu: bounds.min_cpu,
        current_memory: bounds.min_memory,
        in_progress,
        desired_cpu: known.then_some(bounds.max_cpu),
        desired_memory: known.then_some(bounds.max_memory),
        suggested_max_cpu: suggested.then_some(Amount::from_units(3)),
        suggested_max_memory: suggested.then_some(Amount::from_units(5 * GIB)),
        failed: dice.one_in(8),
    })
}

fn demand(dice: &mut Dice, most: u64) -> Vec<DemandClass> {
    let flood = if dice.one_in(30) { 150 } else { 0 };
    (0..dice.below(most)).map(|_| DemandClass { request: request(dice), count: dice.between(1, 10) + flood }).collect()
}

fn request(dice: &mut Dice) -> Request {
    Request { resources: Arc::new(amounts(dice)), selectors: selectors(dice), placement: Vec::new() }
}

fn constraint_request(dice: &mut Dice) -> Request {
    let selectors = if dice.one_in(4) { selectors(dice) } else { Vec::new() };
    Request { resources: Arc::new(amounts(dice)), selectors, placement: Vec::new() }
}

fn amounts(dice: &mut Dice) -> Resources {
    let cpu = dice.pick(&[0.25, 0.5, 1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 8.0]);
    let memory = (dice.pick(&[1, 2, 3, 8, 16]) * GIB) as f64;
    let gpu = dice.pick(&[0.25, 0.5, 1.0, 1.0, 2.0, 4.0, 8.0]);
    let chosen: Vec<(&str, f64)> = match dice.below(24) {
        0..6 => vec![("CPU", cpu)],
        6..9 => vec![("CPU", cpu), ("memory", memory)],
        9..12 => vec![("CPU", cpu), ("GPU", gpu)],
        12..14 => vec![("GPU", gpu)],
        14 => vec![("CPU", cpu), ("GPU", gpu), ("memory", memory)],
        15 => vec![("CPU", 0.1)],
        16 => vec![("CPU", 0.3), ("slot", 0.1)],
        17 => vec![("GPU", gpu), ("accelerator_type:H100", 0.001)],
        18 => vec![("CPU", cpu), ("GPU", gpu), ("rdma/hca", 1.0)],
        19 => vec![("CPU", cpu), ("GPU", 0.0)],
        20 => vec![(IMPLICIT, dice.pick(&[0.25, 0.5, 1.0]))],
        21 => vec![],
        22 => vec![("CPU", 0.0)],
        _ => vec![("memory", memory), ("nowhere", dice.pick(&[0.0, 1.0]))],
    };
    units(&chosen)
}

/// The three forms in which Ray sends "no selector", conditions, and conditions with alternatives.
fn selectors(dice: &mut Dice) -> Vec<LabelSelector> {
    match dice.below(6) {
        0 => Vec::new(),
        1..4 => vec![LabelSelector::default()],
        4 => vec![selector(dice)],
        _ => (0..dice.between(2, 3)).map(|_| selector(dice)).collect(),
    }
}

fn selector(dice: &mut Dice) -> LabelSelector {
    let mut constraints = Vec::new();
    if !dice.one_in(3) {
        constraints.push(condition(dice, "zone", &ZONES));
    }
    if dice.one_in(2) {
        constraints.push(condition(dice, "market", &MARKETS));
    }
    constraints.sort();
    LabelSelector { constraints }
}

fn condition(dice: &mut Dice, key: &str, values: &[&str]) -> LabelConstraint {
    let mut chosen: Vec<String> = (0..dice.between(1, 2)).map(|_| dice.pick(values).to_owned()).collect();
    chosen.sort();
    chosen.dedup();
    let operators =
        [LabelOperator::In, LabelOperator::In, LabelOperator::In, LabelOperator::NotIn, LabelOperator::NotIn];
    let operator = if dice.one_in(20) { LabelOperator::Unknown } else { dice.pick(&operators) };
    LabelConstraint { key: key.into(), operator, values: chosen }
}

fn gangs(dice: &mut Dice, snapshot: &mut Snapshot) {
    for at in 0..dice.pick(&[0, 0, 1, 2, 4]) {
        let strategy = dice.pick(&[
            GangStrategy::Pack,
            GangStrategy::Spread,
            GangStrategy::StrictPack,
            GangStrategy::StrictSpread,
        ]);
        let (id, label) = (format!("{at:036x}"), format!("_PG_{at:036x}"));
        let placement = match strategy {
            GangStrategy::Pack | GangStrategy::Spread => vec![],
            GangStrategy::StrictPack => vec![PlacementConstraint::Affinity { label, value: String::new() }],
            GangStrategy::StrictSpread => vec![PlacementConstraint::AntiAffinity { label, value: String::new() }],
        };
        let mut bundle = Request { placement, ..request(dice) };
        let mixed = dice.one_in(3);
        let bundles = (0..dice.between(1, 5)).map(|_| {
            if mixed {
                bundle.resources = Arc::new(amounts(dice));
                bundle.selectors = if dice.one_in(2) { selectors(dice) } else { bundle.selectors.clone() };
            }
            bundle.clone()
        });
        let bundles = bundles.collect();
        let rescheduling = dice.one_in(2);
        snapshot.gangs.push(Gang { id, strategy, rescheduling, bundles, ..Gang::default() });
    }
}

fn memory(dice: &mut Dice, snapshot: &Snapshot) -> Memory {
    let mut memory = Memory::default();
    for group in &snapshot.node_types {
        if dice.one_in(4) {
            let ago_ms = dice.pick(&[1_000, 8_000, 60_000, 300_000, 900_000, 1_000_000]);
            memory.allocation_failed_ms.insert(group.name.clone(), NOW_MS - ago_ms);
        }
        if dice.one_in(2) {
            let ago_ms: [i64; 4] = [90_000, 45_000, 30_000, 1_000];
            let times = ago_ms.iter().take(dice.between(1, 4) as usize).map(|ms| NOW_MS - ms).collect();
            memory.pending_unneeded_since_ms.insert(group.name.clone(), times);
        }
    }
    memory
}
