use std::sync::Arc;

use mobula_planner::{Amount, TopologyLevel, admission::Place};
use serde_json::json;

use super::{
    Decided,
    decide::decide,
    observe::{Gang, Member, Node, Sight},
};
use crate::{
    config::GangConfig,
    frame::{
        capacity::NodeRecord,
        decision::Action,
        gang_pod::{ADMITTED, Admission, GANG, GATE, GangPod, HOSTNAME},
        outcome::Memory,
        store::Key,
    },
};

fn config() -> GangConfig {
    let rack = TopologyLevel { name: "rack".into(), keys: vec!["rack".into()], ..TopologyLevel::default() };
    GangConfig { levels: vec![rack], ..GangConfig::default() }
}

fn node(name: &str, gpus: i64) -> Node {
    let labels: mobula_planner::Labels =
        [(HOSTNAME.to_owned(), name.to_owned()), ("rack".to_owned(), "r".to_owned())].into();
    let total: mobula_planner::Resources =
        [("gpu".to_owned(), Amount::from_units(gpus)), ("pods".to_owned(), Amount::from_units(100))].into();
    let record = NodeRecord { labels: Arc::new(labels), total: Arc::new(total.clone()), ..NodeRecord::default() };
    let place = Place { name: name.into(), labels: record.labels.clone(), total: record.total.clone(), free: total };
    Node { place, record }
}

/// A pod of `gpus`; `lifted`: by this admission, and bound to this node.
fn member(number: u32, gpus: i64, lifted: Option<(Admission, Option<usize>)>) -> Member {
    let mut pod = json!({
        "metadata": {"annotations": {GANG: "w"}},
        "spec": {"schedulingGates": [{"name": "other"}, {"name": GATE}],
                 "containers": [{"resources": {"requests": {"gpu": gpus}}}]},
    });
    if let Some((admission, _)) = lifted {
        pod["metadata"]["annotations"][ADMITTED] = json!(admission.to_text());
        pod["spec"]["schedulingGates"] = json!([]);
    }
    let node = lifted.and_then(|(_, node)| node);
    Member {
        name: format!("p{number}"),
        uid: format!("u{number}"),
        created_ms: 1_000,
        place: (number, 0),
        node,
        is_bound: node.is_some(),
        pod: Arc::new(GangPod::read(&pod).unwrap()),
    }
}

fn gang(name: &str, expected: u32, members: Vec<Member>) -> Gang {
    Gang {
        cluster: Key::new("ns", name),
        name: "w".into(),
        group: "w".into(),
        expected,
        level: None,
        unknown_level: None,
        members,
    }
}

fn patches(decided: &Decided) -> Vec<(&str, &serde_json::Value)> {
    let patches = decided.decision.steps().filter_map(|step| match &step.action {
        Action::Patch { name, patch, .. } => Some((name.as_str(), patch)),
        _ => None,
    });
    patches.collect()
}

fn deletions(decided: &Decided) -> Vec<&str> {
    let steps = decided.decision.steps().filter(|step| matches!(step.action, Action::Delete { .. }));
    steps.map(|step| step.action.name()).collect()
}

fn reason(decided: &Decided, name: &str) -> String {
    decided.waits[&Key::new("ns", name)][0].reason.clone()
}

const HALF: Admission = Admission { pods: 4, youngest_ms: 1_000, at_ms: 5_000 };

#[test]
fn a_gang_that_fits_is_lifted_whole_and_pinned() {
    let gated = |count| (0..count).map(|number| member(number, 4, None)).collect::<Vec<_>>();
    let sight =
        Sight { nodes: vec![node("a", 8), node("b", 8)], gangs: vec![gang("x", 4, gated(4)), gang("y", 2, gated(2))] };
    let decided = decide(&sight, &config(), &Memory::default(), 5_000);
    let lifted = patches(&decided);
    assert_eq!(lifted.len(), 4);
    let hosts: Vec<&serde_json::Value> =
        lifted.iter().map(|(_, patch)| &patch["spec"]["nodeSelector"][HOSTNAME]).collect();
    assert_eq!(hosts, ["a", "a", "b", "b"]);
    assert_eq!(
        lifted[0].1,
        &json!({
            "metadata": {"uid": "u0", "annotations": {ADMITTED: "4.1000.5000"}},
            "spec": {"nodeSelector": {HOSTNAME: "a", "rack": "r"}, "schedulingGates": [{"name": "other"}]},
        })
    );
    assert_eq!(decided.begun_after_ms, [4_000]);
    assert_eq!(reason(&decided, "y"), "0 of 2 pods fit on the nodes now");
    assert_eq!(decided.decision.wake_at_ms, Some(65_000), "looks whether the scheduler has bound it");
}

#[test]
fn a_gang_whose_pods_are_not_all_made_waits() {
    let sight = Sight { nodes: vec![node("a", 8)], gangs: vec![gang("x", 2, vec![member(0, 1, None)])] };
    let decided = decide(&sight, &config(), &Memory::default(), 5_000);
    assert!(patches(&decided).is_empty());
    assert_eq!(reason(&decided, "x"), "1 of 2 pods exist");
}

#[test]
fn a_gang_that_was_half_lifted_is_lifted_further_by_the_same_admission() {
    let mut members = vec![member(0, 4, Some((HALF, Some(0)))), member(1, 4, Some((HALF, None)))];
    members.extend([member(2, 4, None), member(3, 4, None)]);
    let mut nodes = vec![node("a", 8), node("b", 8)];
    nodes[0].place.free.insert("gpu".into(), Amount::ZERO);
    let sight = Sight { nodes, gangs: vec![gang("x", 4, members)] };
    let decided = decide(&sight, &config(), &Memory::default(), 6_000);
    let lifted = patches(&decided);
    assert_eq!(lifted.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["p2", "p3"]);
    assert!(lifted.iter().all(|(_, patch)| patch["metadata"]["annotations"][ADMITTED] == HALF.to_text()));
    assert!(decided.begun_after_ms.is_empty(), "it has begun before");
}

#[test]
fn a_gang_that_does_not_become_whole_is_given_back() {
    let members = vec![member(0, 4, Some((HALF, Some(0)))), member(1, 4, Some((HALF, None))), member(2, 4, None)];
    let sight = Sight { nodes: vec![node("a", 0)], gangs: vec![gang("x", 4, members)] };
    let decided = decide(&sight, &config(), &Memory::default(), 64_999);
    assert!(deletions(&decided).is_empty());
    assert_eq!(decided.decision.wake_at_ms, Some(65_000));
    let decided = decide(&sight, &config(), &Memory::default(), 65_000);
    assert_eq!(deletions(&decided), ["p0", "p1"]);
    assert_eq!(decided.given_back, 1);
}

#[test]
fn what_a_running_gang_lost_begins_anew_and_what_runs_is_left_alone() {
    let whole = Admission { pods: 2, ..HALF };
    let newcomer = Member { created_ms: 900_000, ..member(1, 4, None) };
    let members = vec![member(0, 4, Some((whole, Some(0)))), newcomer];
    let mut sight = Sight { nodes: vec![node("a", 0)], gangs: vec![gang("x", 2, members)] };
    let decided = decide(&sight, &config(), &Memory::default(), 1_000_000);
    assert!(decided.decision.steps().next().is_none(), "no place for it, and nothing is given back");
    sight.nodes.push(node("b", 4));
    let decided = decide(&sight, &config(), &Memory::default(), 1_000_000);
    assert_eq!(patches(&decided)[0].1["metadata"]["annotations"][ADMITTED], "1.900000.1000000");
}

#[test]
fn a_level_that_does_not_exist_is_said() {
    let mut it = gang("x", 1, vec![member(0, 1, None)]);
    it.unknown_level = Some("row".into());
    let sight = Sight { nodes: vec![node("a", 8)], gangs: vec![it] };
    let decided = decide(&sight, &config(), &Memory::default(), 5_000);
    assert!(reason(&decided, "x").contains("\"row\": mend the annotation mobula.dev/gang-domain"));
    assert!(patches(&decided).is_empty());
}
