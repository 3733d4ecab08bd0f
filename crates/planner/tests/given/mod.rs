//! Snapshots in few words.
#![allow(dead_code)] // every test program uses some of it

pub mod chance;
pub mod exact;
pub mod random;

use std::sync::Arc;

use mobula_planner::{
    Amount, DemandClass, Gang, GangStrategy, Launch, Memory, Node, NodePhase, NodeType, PlacementConstraint, Plan,
    Policy, RayV2, Request, Resources, Snapshot, Unmet, lint,
};

pub const NOW_MS: i64 = 1_760_000_000_000;

pub fn resources(amounts: &[(&str, i64)]) -> Arc<Resources> {
    Arc::new(amounts.iter().map(|(name, units)| ((*name).to_owned(), Amount::from_units(*units))).collect())
}

/// A group of one-host replicas, at most 10 and none asked for.
pub fn group(name: &str, amounts: &[(&str, i64)]) -> NodeType {
    NodeType {
        name: name.into(),
        resources: resources(amounts),
        num_of_hosts: 1,
        max_replicas: 10,
        ..NodeType::default()
    }
}

/// A Ray node of `group` of which nothing is in use.
pub fn free(group: &NodeType, id: &str) -> Node {
    Node {
        instance_id: id.into(),
        ray_node_id: Some(format!("ray-{id}")),
        group: group.name.as_str().into(),
        total: group.resources.clone(),
        available: group.resources.clone(),
        labels: group.labels.clone(),
        ..Node::default()
    }
}

/// A Ray node of which everything is in use.
pub fn busy(group: &NodeType, id: &str) -> Node {
    Node { available: Arc::default(), ..free(group, id) }
}

/// A pod in which Ray does not run yet.
pub fn pending(group: &NodeType, id: &str) -> Node {
    Node { phase: NodePhase::Pending, ray_node_id: None, ..free(group, id) }
}

/// A pod that is asked for, but does not exist.
pub fn requested(group: &NodeType, at: u32) -> Node {
    Node { phase: NodePhase::Requested, ..pending(group, &format!("{}/requested-{at}", group.name)) }
}

pub fn idle(node: Node, seconds: i64) -> Node {
    Node { idle_ms: Some(seconds * 1000), ..node }
}

pub fn of_replica(node: Node, replica: &str) -> Node {
    Node { replica: Some(replica.into()), ..node }
}

pub fn request(amounts: &[(&str, i64)]) -> Request {
    Request { resources: resources(amounts), selectors: vec![Default::default()], placement: vec![] }
}

pub fn tasks(amounts: &[(&str, i64)], count: u64) -> DemandClass {
    DemandClass { request: request(amounts), count }
}

pub fn gang(id: &str, strategy: GangStrategy, amounts: &[(&str, i64)], bundles: usize) -> Gang {
    let (label, value) = (format!("_PG_{id}"), String::new());
    let placement = match strategy {
        GangStrategy::Pack | GangStrategy::Spread => vec![],
        GangStrategy::StrictPack => vec![PlacementConstraint::Affinity { label, value }],
        GangStrategy::StrictSpread => vec![PlacementConstraint::AntiAffinity { label, value }],
    };
    let bundle = Request { placement, ..request(amounts) };
    Gang { id: id.into(), strategy, bundles: vec![bundle; bundles], ..Gang::default() }
}

/// A cluster of worker groups; what the groups ask for is what `nodes` show.
pub fn cluster(groups: &[&NodeType], nodes: Vec<Node>) -> Snapshot {
    let mut snapshot = Snapshot { now_ms: NOW_MS, nodes: nodes.into(), ..Snapshot::default() };
    snapshot.node_types = groups.iter().map(|group| (*group).clone()).collect();
    for group in &mut snapshot.node_types {
        let live = |node: &&Node| *node.group == *group.name && node.phase != NodePhase::Leaving;
        let pods = snapshot.nodes.iter().filter(live).count() as u32;
        group.requested_replicas = pods.div_ceil(group.num_of_hosts).clamp(group.min_replicas, group.max_replicas);
    }
    snapshot
}

/// The plan; it must be clean.
pub fn plan(snapshot: &Snapshot) -> Plan {
    plan_with(snapshot, &Memory::default()).0
}

pub fn plan_with(snapshot: &Snapshot, memory: &Memory) -> (Plan, Memory) {
    let (plan, memory) = RayV2.plan(snapshot, memory);
    assert_eq!(lint(snapshot, &plan), [], "{plan:#?}");
    (plan, memory)
}

/// `[("gpu", 2)]`.
pub fn launches(plan: &Plan) -> Vec<(&str, u32)> {
    plan.launch.iter().map(|launch| (launch.group.as_str(), launch.replicas)).collect()
}

/// What the launches of a plan cost an hour; not a number, if something without price is launched.
pub fn launch_cost(snapshot: &Snapshot, plan: &Plan) -> f64 {
    let of = |launch: &Launch| {
        let group = snapshot.node_types.iter().find(|group| group.name == launch.group);
        let price = group.and_then(|group| Some((group.num_of_hosts, group.offerings.first()?.price_per_hour)));
        price.map_or(f64::NAN, |(hosts, price)| f64::from(launch.replicas * hosts) * price)
    };
    plan.launch.iter().map(of).sum()
}

/// Names of the pods that end.
pub fn ends(plan: &Plan) -> Vec<&str> {
    plan.terminate.iter().map(|end| end.instance_id.as_str()).collect()
}

pub fn only_unmet(plan: &Plan) -> &Unmet {
    assert_eq!(plan.unmet.len(), 1, "{:#?}", plan.unmet);
    &plan.unmet[0]
}

/// Every reason given for a subject.
pub fn reasons<'p>(plan: &'p Plan, subject: &str) -> Vec<&'p str> {
    let reasons = plan.explain.iter().filter(|reason| reason.subject == subject);
    reasons.map(|reason| reason.text.as_str()).collect()
}
