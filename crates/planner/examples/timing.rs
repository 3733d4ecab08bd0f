//! How long `ray-v2` takes: a quick look without a benchmark harness.
//!
//! `cargo run --release -p mobula-planner --example timing`
// An example may look at the clock.
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::Instant;

use mobula_planner::{
    Amount, DemandClass, Gang, GangStrategy, Labels, Memory, Node, NodeType, PlacementConstraint, Policy, RayV2,
    Request, Resources, Snapshot,
};

fn resources(amounts: &[(&str, i64)]) -> Arc<Resources> {
    Arc::new(amounts.iter().map(|(name, units)| ((*name).to_owned(), Amount::from_units(*units))).collect())
}

fn request(amounts: &[(&str, i64)]) -> Request {
    Request { resources: resources(amounts), selectors: vec![Default::default()], placement: vec![] }
}

/// `requests` in `shapes` shapes and `gangs` of 8 bundles, on ten groups and `nodes` nodes that are partly in use.
fn snapshot(requests: u64, shapes: u64, nodes: u64, gangs: u64, strategy: GangStrategy) -> Snapshot {
    let groups = (0..10_i64).map(|at| NodeType {
        name: format!("group-{at}"),
        resources: resources(&[("CPU", 4 << (at % 5)), ("memory", 16 << (30 + at % 5)), ("GPU", (at / 5) * 8)]),
        num_of_hosts: 1,
        max_replicas: 100_000,
        ..NodeType::default()
    });
    let node_types: Vec<NodeType> = groups.collect();
    let nodes = (0..nodes).map(|at| {
        let group = &node_types[(at % 10) as usize];
        let mut total = Resources::clone(&group.resources);
        total.insert(format!("node:10.{}.{}.{}", at >> 16, (at >> 8) & 255, at & 255), Amount::from_units(1));
        let mut available = total.clone();
        if let Some(cpu) = available.get_mut("CPU") {
            *cpu = Amount::from_units(cpu.steps() / Amount::STEPS_PER_UNIT * (at as i64 % 5) / 4);
        }
        Node {
            instance_id: format!("{}-{at}", group.name).into(),
            ray_node_id: Some(format!("{at:056x}")),
            group: group.name.as_str().into(),
            total: Arc::new(total),
            available: Arc::new(available),
            labels: Arc::new(Labels::from([("ray.io/node-id".into(), format!("{at:056x}"))])),
            ..Node::default()
        }
    });
    let nodes = nodes.collect();
    let demand = (0..shapes).map(|at| {
        let (cpu, memory, gpu) = (1 + at as i64 % 7, 1 + at as i64 % 31, i64::from(at % 4 == 0));
        DemandClass {
            request: request(&[("CPU", cpu), ("memory", memory << 30), ("GPU", gpu)]),
            count: requests / shapes,
        }
    });
    let gangs = (0..gangs).map(|at| {
        let id = format!("{at:036x}");
        let label = format!("_PG_{id}");
        let mut bundle = request(&[("CPU", 1), ("GPU", 1)]);
        if strategy == GangStrategy::StrictSpread {
            bundle.placement = vec![PlacementConstraint::AntiAffinity { label, value: String::new() }];
        }
        Gang { id, strategy, bundles: vec![bundle; 8], ..Gang::default() }
    });
    Snapshot {
        node_types: node_types.clone(),
        nodes,
        demand: demand.collect(),
        gangs: gangs.collect(),
        ..Snapshot::default()
    }
}

fn main() {
    println!("requests  shapes   nodes   gangs  strategy       best of 3");
    for (requests, shapes, nodes, gangs, strategy) in [
        (1_000, 10, 0, 0, GangStrategy::Pack),
        (1_000, 10, 1_000, 0, GangStrategy::Pack),
        (10_000, 10, 0, 0, GangStrategy::Pack),
        (100_000, 10, 0, 0, GangStrategy::Pack),
        (100_000, 200, 0, 0, GangStrategy::Pack),
        (1_000, 10, 10_000, 0, GangStrategy::Pack),
        (100_000, 10, 10_000, 0, GangStrategy::Pack),
        (100_000, 200, 10_000, 0, GangStrategy::Pack),
        (100_000, 200, 10_000, 1_000, GangStrategy::Pack),
        (100_000, 200, 10_000, 1_000, GangStrategy::StrictSpread),
    ] {
        let snapshot = snapshot(requests, shapes, nodes, gangs, strategy);
        let took = (0..3).map(|_| {
            let start = Instant::now();
            let (plan, _) = RayV2.plan(&snapshot, &Memory::default());
            std::hint::black_box(plan);
            start.elapsed()
        });
        let best = took.min().unwrap_or_default();
        println!("{requests:>8}  {shapes:>6}  {nodes:>6}  {gangs:>6}  {:<13}  {best:>9.2?}", format!("{strategy:?}"));
    }
}
