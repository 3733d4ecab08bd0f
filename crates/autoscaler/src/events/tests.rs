use std::sync::Arc;

use mobula_planner::{DemandClass, DrainKind, Launch, Node, NodeType, Request, Terminate};

use super::*;

fn resources(entries: &[(&str, i64)]) -> Arc<Resources> {
    Arc::new(entries.iter().map(|(name, units)| ((*name).to_owned(), Amount::from_units(*units))).collect())
}

fn request(entries: &[(&str, i64)]) -> Request {
    Request { resources: resources(entries), ..Request::default() }
}

fn node(id: &str, phase: NodePhase, entries: &[(&str, i64)]) -> Node {
    Node { instance_id: id.into(), phase, total: resources(entries), ..Node::default() }
}

fn snapshot() -> Snapshot {
    let group = |name: &str, hosts, entries: &[(&str, i64)]| NodeType {
        name: name.into(),
        num_of_hosts: hosts,
        resources: resources(entries),
        ..NodeType::default()
    };
    Snapshot {
        node_types: vec![group("cpu", 1, &[("CPU", 4)]), group("gpu", 2, &[("CPU", 8), ("GPU", 8)])],
        nodes: vec![
            node("head", NodePhase::Running, &[("CPU", 2)]),
            node("a", NodePhase::Running, &[("CPU", 4)]),
            node("b", NodePhase::Pending, &[("CPU", 4)]),
            node("gone", NodePhase::Leaving, &[("CPU", 100), ("TPU", 4)]),
        ]
        .into(),
        ..Snapshot::default()
    }
}

fn terminate(id: &str, cause: TerminateCause) -> Terminate {
    Terminate {
        group: "cpu".into(),
        instance_id: id.into(),
        ray_node_id: None,
        replica: None,
        cause,
        reason: String::new(),
        drain: DrainKind::IfIdle,
    }
}

fn told(plan: &Plan) -> Vec<String> {
    messages(&snapshot(), plan).into_iter().map(|line| line.message).collect()
}

fn unmet(kind: UnmetKind, count: u64, cause: UnmetCause) -> Unmet {
    Unmet { kind, count, cause, reason: "no group has it".into() }
}

#[test]
fn a_plan_without_changes_says_nothing() {
    assert_eq!(messages(&snapshot(), &Plan::default()), []);
}

#[test]
fn replicas_are_told_as_nodes_and_the_new_size_follows() {
    let launch = |group: &str, replicas| Launch { group: group.into(), replicas, ..Launch::default() };
    let plan = Plan { launch: vec![launch("gpu", 3), launch("cpu", 1)], ..Plan::default() };
    assert_eq!(
        told(&plan),
        ["Adding 1 node(s) of type cpu.", "Adding 6 node(s) of type gpu.", "Resized to 62 CPUs, 48 GPUs."]
    );
}

#[test]
fn removals_are_grouped_by_cause() {
    let terminate = vec![terminate("a", TerminateCause::Idle), terminate("b", TerminateCause::MaxPerGroup)];
    assert_eq!(
        told(&Plan { terminate, ..Plan::default() }),
        [
            "Removing 1 nodes of type cpu (idle).",
            "Removing 1 nodes of type cpu (max number of worker nodes per type reached).",
            "Resized to 2 CPUs."
        ]
    );
}

#[test]
fn only_what_can_never_fit_is_warned_of() {
    let gang = Gang {
        details: "ab:STRICT_SPREAD|PENDING".into(),
        bundles: vec![request(&[("GPU", 99)]), request(&[("GPU", 99)]), request(&[("CPU", 1)])],
        ..Gang::default()
    };
    let constraint = Constraint { requests: vec![DemandClass { request: request(&[("TPU", 1)]), count: 4 }] };
    let plan = Plan {
        unmet: vec![
            unmet(UnmetKind::Task(request(&[("CPU", 64), ("x", 1)])), 5, UnmetCause::NeverFits),
            unmet(UnmetKind::Task(request(&[("CPU", 4)])), 9, UnmetCause::Limit),
            unmet(UnmetKind::Gang(gang), 1, UnmetCause::NeverFits),
            unmet(UnmetKind::Constraint(constraint), 1, UnmetCause::NeverFits),
        ],
        ..Plan::default()
    };
    assert_eq!(
        told(&plan),
        [
            "No available node types can fulfill resource requests {'CPU': 64.0, 'x': 1.0}*5: no group has it",
            "No available node types can fulfill placement group requests (detail=ab:STRICT_SPREAD|PENDING) \
             {'CPU': 1.0}*1, {'GPU': 99.0}*2: no group has it",
            "No available node types can fulfill cluster constraint {'TPU': 1.0}*4: no group has it",
        ]
    );
    let lines = messages(&snapshot(), &plan);
    assert!(lines.iter().all(|line| line.severity == Severity::Warning));
    assert_eq!(lines[0].topic, "No available node types can fulfill resource requests {'CPU': 64.0, 'x': 1.0}");
}

#[test]
fn a_flood_of_impossible_shapes_is_cut() {
    let shape = |i: usize| UnmetKind::Task(request(&[(&format!("r{i:03}"), 1)]));
    let plan = Plan {
        unmet: (0..MAX_WARNINGS + 5).map(|i| unmet(shape(i), 1, UnmetCause::NeverFits)).collect(),
        ..Plan::default()
    };
    let told = told(&plan);
    assert_eq!(told.len(), MAX_WARNINGS + 1);
    assert_eq!(told.last().unwrap(), "No available node types can fulfill more requests (5).");
}
