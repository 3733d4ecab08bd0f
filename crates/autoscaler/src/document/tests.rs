use std::sync::Arc;

use mobula_planner::{
    Amount, Constraint, DrainKind, Gang, LabelConstraint, LabelOperator, Node, NodeType, Resources, TerminateCause,
};

use super::*;

fn resources(cpu: i64) -> Arc<Resources> {
    Arc::new([("CPU".to_owned(), Amount::from_units(cpu))].into())
}

fn request(cpu: i64) -> Request {
    Request { resources: resources(cpu), ..Request::default() }
}

fn node(pod: &str, replica: Option<&str>, phase: NodePhase) -> Node {
    Node { instance_id: pod.into(), group: "g".into(), replica: replica.map(str::to_owned), phase, ..Node::default() }
}

fn plan(group: GroupPlan) -> Plan {
    Plan { policy: "ray-v2".to_owned(), groups: [("g".to_owned(), group)].into(), ..Plan::default() }
}

fn end(pod: &str) -> Terminate {
    Terminate {
        group: "g".to_owned(),
        instance_id: pod.to_owned(),
        ray_node_id: Some("ab".to_owned()),
        replica: None,
        cause: TerminateCause::Idle,
        reason: "idle for 61 s".to_owned(),
        drain: DrainKind::IfIdle,
    }
}

fn snapshot(nodes: Vec<Node>) -> Snapshot {
    Snapshot { nodes: nodes.into(), ..Snapshot::default() }
}

#[test]
fn launch_counts_what_nothing_shows_yet() {
    let group = GroupPlan { current: 1, requested: 3, desired: 4, min: 0, max: 9 };
    let nodes = vec![
        node("p", None, NodePhase::Pending),
        node("g/requested-0", None, NodePhase::Requested),
        node("g/requested-1", None, NodePhase::Requested),
    ];
    let document = Document::new(&snapshot(nodes), &plan(group));
    assert_eq!(document.launch, [("g".to_owned(), 3)].into());
    assert_eq!(document.groups["g"], GroupEntry { current: 1, desired: 4, min: 0, max: 9 });
}

#[test]
fn launch_counts_whole_replicas_of_hosts() {
    let group = GroupPlan { current: 1, requested: 1, desired: 2, min: 0, max: 9 };
    let nodes = vec![
        node("a", Some("r1"), NodePhase::Running),
        node("b", Some("r1"), NodePhase::Pending),
        node("g/requested-0", Some("r1"), NodePhase::Requested),
    ];
    assert_eq!(new_replicas(&snapshot(nodes), &plan(group)), [("g".to_owned(), 1)].into());
}

#[test]
fn a_suspended_group_launches_nothing() {
    let group = GroupPlan { current: 0, requested: 2, desired: 2, min: 2, max: 9 };
    let suspended = NodeType { name: "g".to_owned(), suspended: true, ..NodeType::default() };
    let snapshot = Snapshot { node_types: vec![suspended], ..snapshot(Vec::new()) };
    assert_eq!(new_replicas(&snapshot, &plan(group)), BTreeMap::new());
}

#[test]
fn what_ends_or_leaves_is_replaced_by_something_new() {
    let group = GroupPlan { current: 1, requested: 2, desired: 1, min: 0, max: 9 };
    let nodes = vec![node("p", None, NodePhase::Running), node("q", None, NodePhase::Leaving)];
    let ending = Plan { terminate: vec![end("p")], ..plan(group.clone()) };
    assert_eq!(new_replicas(&snapshot(nodes.clone()), &ending), [("g".to_owned(), 1)].into());
    assert_eq!(new_replicas(&snapshot(nodes), &plan(group)), BTreeMap::new());
}

#[test]
fn ray_nodes_that_nobody_manages_are_no_replicas() {
    let group = GroupPlan { current: 0, requested: 0, desired: 1, min: 0, max: 9 };
    let nodes = vec![node("", None, NodePhase::Running)];
    assert_eq!(new_replicas(&snapshot(nodes), &plan(group)), [("g".to_owned(), 1)].into());
}

#[test]
fn the_json_form_is_as_documented() {
    let unmet = |kind, cause| Unmet { kind, count: 2, cause, reason: "because".to_owned() };
    let rack = LabelConstraint { key: "rack".into(), operator: LabelOperator::In, values: vec!["r1".into()] };
    let labelled = Request { selectors: vec![LabelSelector { constraints: vec![rack] }], ..request(1) };
    let gang = Gang { id: "ab".into(), bundles: vec![request(1), request(2)], ..Gang::default() };
    let constraint = Constraint { requests: vec![DemandClass { request: request(3), count: 4 }] };
    let plan = Plan {
        terminate: vec![end("p")],
        unmet: vec![
            unmet(UnmetKind::Task(labelled), UnmetCause::NeverFits),
            unmet(UnmetKind::Gang(gang), UnmetCause::Limit),
            unmet(UnmetKind::Constraint(constraint), UnmetCause::Waiting),
        ],
        explain: vec![Reason { subject: "node p".into(), verdict: Verdict::Terminate, text: "idle".into() }],
        ..plan(GroupPlan { current: 1, requested: 1, desired: 0, min: 0, max: 2 })
    };
    let mut document = Document::new(&snapshot(vec![]), &plan);
    document.note("odd");
    let expected = concat!(
        r#"{"policy":"ray-v2","launch":{},"#,
        r#""terminate":[{"group":"g","instance_id":"p","ray_node_id":"ab","reason":"idle for 61 s"}],"#,
        r#""infeasible":[{"kind":"task","shape":{"CPU":1},"count":2,"reason":"because","cause":"never_fits","#,
        r#""label_selectors":["rack in (r1)"]},"#,
        r#"{"kind":"gang","shape":[{"CPU":1},{"CPU":2}],"count":2,"reason":"because","cause":"limit","id":"ab","#,
        r#""strategy":"PACK"},"#,
        r#"{"kind":"constraint","shape":[{"count":4,"shape":{"CPU":3}}],"count":2,"reason":"because","#,
        r#""cause":"waiting"}],"#,
        r#""groups":{"g":{"current":1,"desired":0,"min":0,"max":2}},"#,
        r#""explain":[{"subject":"node p","verdict":"terminate","text":"idle"},"#,
        r#"{"subject":"input","verdict":"note","text":"odd"}]}"#,
    );
    assert_eq!(serde_json::to_string(&document).unwrap(), expected);
}

#[test]
fn a_long_list_is_cut_in_the_table() {
    let ends: Vec<Terminate> = (0..25).map(|n| end(&format!("pod-{n}"))).collect();
    let plan = Plan { terminate: ends, ..plan(GroupPlan::default()) };
    let table = table(&snapshot(vec![]), &plan, &[]);
    assert!(table.contains("pod-19") && !table.contains("pod-20"), "{table}");
    assert!(table.contains("… and 5 more"), "{table}");
}
