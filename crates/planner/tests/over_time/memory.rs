//! What is remembered from tick to tick, in single situations.

use std::collections::BTreeMap;
use std::sync::Arc;

use mobula_planner::{
    Blocked, LabelConstraint, LabelOperator, LabelSelector, Labels, Memory, Mobula, Node, NodeType, PendingCause, Plan,
    Policy, Snapshot, lint,
};

use super::given::*;

/// The plan, which must be clean; what is to be remembered is.
fn plan_on(snapshot: &Snapshot, memory: &mut Memory) -> Plan {
    let (plan, next) = Mobula::default().plan(snapshot, memory);
    assert_eq!(lint(snapshot, &plan), [], "{plan:#?}");
    *memory = next;
    plan
}

fn pending_for(node: Node, seconds: i64, cause: PendingCause) -> Node {
    Node { pending_since_ms: Some(NOW_MS - seconds * 1000), pending_cause: Some(cause), ..node }
}

/// A cluster that asks for two pods of the group that the user prefers, which are refused, and another group.
fn refused() -> Snapshot {
    let dear = NodeType { priority: 1, ..group("dear", &[("CPU", 4)]) };
    let other = group("other", &[("CPU", 4)]);
    let refused = |at| Node { pending_cause: Some(PendingCause::QuotaRefused), ..requested(&dear, at) };
    let mut snapshot = cluster(&[&dear, &other], vec![refused(0), refused(1)]);
    snapshot.demand = vec![tasks(&[("CPU", 4)], 2)];
    snapshot
}

fn seconds_left(memory: &Memory, snapshot: &Snapshot) -> Option<i64> {
    memory.blocked.get("dear").map(|blocked| (blocked.until_ms - snapshot.now_ms) / 1000)
}

#[test]
fn a_group_is_left_alone_for_longer_only_if_it_fails_again() {
    let mut snapshot = refused();
    let mut memory = Memory::default();
    plan_on(&snapshot, &mut memory);
    // That nothing is asked for any more takes a while to be seen.
    for left_s in [60, 59, 58, 57] {
        snapshot.now_ms = NOW_MS + (31 + 60 - left_s) * 1000;
        assert_eq!(launches(&plan_on(&snapshot, &mut memory)), [("other", 2)]);
        assert_eq!(seconds_left(&memory, &snapshot), Some(left_s));
    }
    assert_eq!(memory.blocked["dear"].times, 1);
    // It is tried again, and refused again.
    snapshot.now_ms += 58_000;
    let asked = std::mem::take(&mut snapshot.nodes);
    snapshot.node_types[0].requested_replicas = 0;
    assert_eq!(launches(&plan_on(&snapshot, &mut memory)), [("dear", 2)]);
    snapshot.nodes = asked;
    snapshot.node_types[0].requested_replicas = 2;
    plan_on(&snapshot, &mut memory);
    snapshot.now_ms += 31_000;
    plan_on(&snapshot, &mut memory);
    assert_eq!(seconds_left(&memory, &snapshot), Some(120));
}

#[test]
fn a_group_that_delivers_again_starts_anew() {
    let mut snapshot = refused();
    let dear = snapshot.node_types[0].clone();
    snapshot.nodes.push(busy(&dear, "old"));
    snapshot.node_types[0].requested_replicas = 3;
    let mut memory = Memory::default();
    plan_on(&snapshot, &mut memory);
    snapshot.now_ms += 31_000;
    plan_on(&snapshot, &mut memory);
    assert_eq!(memory.blocked["dear"].times, 1);
    // What runs already or comes up before it is tried again says nothing.
    snapshot.nodes.retain(|node| node.pending_cause.is_none());
    snapshot.nodes.push(busy(&dear, "late"));
    snapshot.node_types[0].requested_replicas = 2;
    snapshot.now_ms += 59_000;
    plan_on(&snapshot, &mut memory);
    snapshot.now_ms += 2_000;
    assert_eq!(launches(&plan_on(&snapshot, &mut memory)), [("dear", 2)]);
    assert_eq!(memory.blocked["dear"].times, 1);
    snapshot.nodes.push(busy(&dear, "new"));
    snapshot.node_types[0].requested_replicas = 3;
    plan_on(&snapshot, &mut memory);
    assert_eq!(memory.blocked, BTreeMap::new());
}

#[test]
fn a_clock_that_was_set_back_keeps_nothing_for_ever() {
    let mut snapshot = refused();
    let day_ms = 86_400_000;
    let blocked = Blocked { until_ms: NOW_MS + day_ms, times: 1, ..Blocked::default() };
    let late = || BTreeMap::from([("dear".to_owned(), NOW_MS + day_ms)]);
    let mut memory = Memory {
        blocked: [("dear".to_owned(), blocked)].into(),
        borne_until_ms: late(),
        requested_since_ms: late(),
        pending_unneeded_since_ms: [("dear".to_owned(), vec![NOW_MS + day_ms; 2])].into(),
        ..Memory::default()
    };
    plan_on(&snapshot, &mut memory);
    assert_eq!(seconds_left(&memory, &snapshot), Some(300));
    assert_eq!(memory.requested_since_ms["dear"], NOW_MS);
    assert!(memory.borne_until_ms.get("dear").is_none_or(|until_ms| *until_ms <= NOW_MS + 300_000));
    snapshot.demand.clear();
    snapshot.settings.pending_idle_timeout_ms = Some(10_000);
    plan_on(&snapshot, &mut memory);
    snapshot.now_ms += 11_000;
    assert_eq!(plan_on(&snapshot, &mut memory).groups["dear"].desired, 0);
}

#[test]
fn pods_on_their_way_that_the_minimum_takes_stay() {
    let cpu = NodeType { min_replicas: 2, ..group("cpu", &[("CPU", 4)]) };
    let mut snapshot = cluster(&[&cpu], ["a", "b", "c"].map(|name| pending(&cpu, name)).into());
    snapshot.settings.pending_idle_timeout_ms = Some(10_000);
    let mut memory = Memory::default();
    plan_on(&snapshot, &mut memory);
    snapshot.now_ms += 11_000;
    assert_eq!(ends(&plan_on(&snapshot, &mut memory)), ["a"]);
    snapshot.nodes.retain(|node| &*node.instance_id != "a");
    snapshot.node_types[0].requested_replicas = 2;
    snapshot.now_ms += 11_000;
    let plan = plan_on(&snapshot, &mut memory);
    assert_eq!((launches(&plan), ends(&plan)), (vec![], vec![]));
}

#[test]
fn pods_on_their_way_that_are_not_needed_go_each_in_its_time() {
    let cpu = group("cpu", &[("CPU", 4)]);
    let mut snapshot = cluster(&[&cpu], vec![pending(&cpu, "a")]);
    snapshot.settings.pending_idle_timeout_ms = Some(10_000);
    let mut memory = Memory::default();
    plan_on(&snapshot, &mut memory);
    snapshot.now_ms += 8_000;
    snapshot.nodes.push(pending(&cpu, "b"));
    snapshot.node_types[0].requested_replicas = 2;
    plan_on(&snapshot, &mut memory);
    snapshot.now_ms += 3_000;
    assert_eq!(ends(&plan_on(&snapshot, &mut memory)).len(), 1);
}

#[test]
fn pods_on_their_way_stay_while_their_group_grows() {
    let in_zone = |zone: &str| Arc::new(Labels::from([("zone".to_owned(), zone.to_owned())]));
    let cpu = NodeType { labels: in_zone("a"), ..group("cpu", &[("CPU", 4)]) };
    let elsewhere = Node { labels: in_zone("b"), ..pending(&cpu, "elsewhere") };
    let mut snapshot = cluster(&[&cpu], vec![elsewhere]);
    snapshot.settings.pending_idle_timeout_ms = Some(10_000);
    let mut memory = Memory::default();
    plan_on(&snapshot, &mut memory);
    snapshot.now_ms += 11_000;
    let mut wanted = tasks(&[("CPU", 4)], 1);
    let values = vec!["a".to_owned()];
    let constraint = LabelConstraint { key: "zone".to_owned(), operator: LabelOperator::In, values };
    wanted.request.selectors = vec![LabelSelector { constraints: vec![constraint] }];
    snapshot.demand = vec![wanted];
    let plan = plan_on(&snapshot, &mut memory);
    assert_eq!((launches(&plan), ends(&plan)), (vec![("cpu", 1)], vec![]));
}

#[test]
fn late_pods_hold_back_only_their_own_group() {
    let (gpu, cpu) = (group("gpu", &[("GPU", 1)]), group("cpu", &[("CPU", 4)]));
    let stuck = |name: &&str| pending_for(pending(&gpu, name), 400, PendingCause::Unschedulable);
    let mut snapshot = cluster(&[&gpu, &cpu], ["a", "b", "c"].iter().map(stuck).collect());
    snapshot.demand = vec![tasks(&[("GPU", 1)], 4), tasks(&[("CPU", 4)], 4)];
    snapshot.settings.max_in_flight = Some(3);
    assert_eq!(launches(&plan_on(&snapshot, &mut Memory::default())), [("cpu", 3)]);
    // Those that may still come hold back all groups.
    snapshot.settings.patience.unschedulable_ms = Some(500_000);
    assert_eq!(launches(&plan_on(&snapshot, &mut Memory::default())), []);
}
