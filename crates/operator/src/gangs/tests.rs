use std::sync::Arc;

use mobula_planner::{Amount, TopologyLevel, admission::Place};
use serde_json::json;

use super::{
    Decided,
    decide::decide,
    observe::{Gang, Member, Node, Owner, Sight},
    whole::{self, Whole},
};
use crate::{
    config::GangConfig,
    frame::{
        capacity::{NodeRecord, Pending},
        decision::Action,
        gang_pod::{ADMITTED, Admission, GANG, GATE, GangPod, HOSTNAME, LOOKED_AT},
        kind,
        outcome::{Class, Memory, Problem},
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
pub(super) fn member(number: u32, gpus: i64, lifted: Option<(Admission, Option<usize>)>) -> Member {
    let mut pod = json!({
        "metadata": {"annotations": {GANG: "w"}},
        "spec": {"schedulingGates": [{"name": GATE}],
                 "containers": [{"resources": {"requests": {"gpu": gpus}}}]},
    });
    if let Some((admission, _)) = &lifted {
        pod["metadata"]["annotations"][ADMITTED] = json!(admission.to_text());
        pod["spec"]["schedulingGates"] = json!([]);
    }
    let node = lifted.and_then(|(_, node)| node);
    Member {
        name: format!("p{number}"),
        group: "w".into(),
        uid: format!("u{number}"),
        resource_version: "7".into(),
        created_ms: 1_000,
        place: (number, 0),
        node,
        is_bound: node.is_some(),
        is_running: false,
        is_foreign: false,
        is_in_doubt: false,
        pod: Arc::new(GangPod::read(&pod).unwrap()),
    }
}

fn gang(name: &str, expected: u32, members: Vec<Member>) -> Gang {
    let whole = Arc::default();
    Gang {
        cluster: Key::new("ns", name),
        name: "w".into(),
        expected,
        level: None,
        unknown_level: None,
        has_head: true,
        whole,
        written: Arc::default(),
        members,
    }
}

/// It is written that the pods of this gang that began at 5 s were whole.
fn mark(gang: &mut Gang, name: &str) {
    gang.whole = Whole::of(name, 5_000).into();
    gang.written = gang.whole.clone();
}

/// The gang of `x` on these nodes.
fn sight(nodes: Vec<Node>, gang: Gang) -> Sight {
    let owner = Owner { uid: "x-uid".into(), resource_version: "70".into() };
    let owners = [(gang.cluster.clone(), owner)].into();
    Sight { nodes, gangs: vec![gang], owners, ..Sight::default() }
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

/// What began at 5 s with so many pods.
fn began(pods: u32) -> Admission {
    Admission { at_ms: 5_000, pods: [("w".to_owned(), pods)].into() }
}

/// Pods from `first` on that were admitted with others, of which `bound` are bound to the first node.
fn lifted(first: u32, pods: u32, admission: &Admission, bound: u32) -> Vec<Member> {
    let node = |number| (number < bound).then_some(0);
    (0..pods).map(|number| member(first + number, 4, Some((admission.clone(), node(number))))).collect()
}

#[test]
fn a_gang_that_fits_is_lifted_whole_and_pinned() {
    let gated = |count| (0..count).map(|number| member(number, 4, None)).collect::<Vec<_>>();
    let sight = Sight {
        nodes: vec![node("a", 8), node("b", 8)],
        gangs: vec![gang("x", 4, gated(4)), gang("y", 2, gated(2))],
        ..Sight::default()
    };
    let decided = decide(&sight, &config(), &Memory::default(), 5_000);
    let lifted = patches(&decided);
    assert_eq!(lifted.len(), 4);
    let hosts: Vec<&serde_json::Value> =
        lifted.iter().map(|(_, patch)| &patch["spec"]["nodeSelector"][HOSTNAME]).collect();
    assert_eq!(hosts, ["a", "a", "b", "b"]);
    assert_eq!(
        lifted[0].1,
        &json!({
            "metadata": {"uid": "u0", "resourceVersion": "7", "annotations": {ADMITTED: r#"{"at":5000,"pods":{"w":4}}"#}},
            "spec": {"nodeSelector": {HOSTNAME: "a", "rack": "r"}, "schedulingGates": null},
        })
    );
    assert_eq!(decided.begun_after_ms, [4_000]);
    assert_eq!(reason(&decided, "y"), "0 of 2 pods fit on the nodes now");
    assert_eq!(decided.decision.wake_at_ms, Some(65_000), "looks whether the scheduler has bound it");
}

#[test]
fn a_gang_whose_pods_are_not_all_made_waits() {
    let sight =
        Sight { nodes: vec![node("a", 8)], gangs: vec![gang("x", 2, vec![member(0, 1, None)])], ..Sight::default() };
    let decided = decide(&sight, &config(), &Memory::default(), 5_000);
    assert!(patches(&decided).is_empty());
    assert_eq!(reason(&decided, "x"), "1 of 2 pods exist");
}

#[test]
fn a_gang_that_was_half_lifted_is_lifted_further_by_the_same_admission() {
    let mut members = lifted(0, 2, &began(4), 1);
    members.extend([member(2, 4, None), member(3, 4, None)]);
    let mut nodes = vec![node("a", 8), node("b", 8)];
    nodes[0].place.free.insert("gpu".into(), Amount::ZERO);
    let decided = decide(&sight(nodes, gang("x", 4, members)), &config(), &Memory::default(), 6_000);
    let lifted = patches(&decided);
    assert_eq!(lifted.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["p2", "p3"]);
    assert!(lifted.iter().all(|(_, patch)| patch["metadata"]["annotations"][ADMITTED] == began(4).to_text()));
    assert!(decided.begun_after_ms.is_empty(), "it has begun before");
}

#[test]
fn a_gang_that_is_called_otherwise_by_now_is_finished_and_marked_under_the_name_that_it_had() {
    let named = |member: Member| {
        let mut pod = (*member.pod).clone();
        pod.gang = "29fd".into();
        Member { pod: pod.into(), ..member }
    };
    let mut members: Vec<Member> = lifted(0, 2, &began(3), 2).into_iter().map(named).collect();
    members.push(member(2, 4, None));
    let mut sight = sight(vec![node("a", 0), node("b", 8)], gang("x", 3, members));
    let decided = decide(&sight, &config(), &Memory::default(), 6_000);
    let (name, patch) = patches(&decided)[0];
    assert_eq!((name, &patch["metadata"]["annotations"][GANG]), ("p2", &json!("29fd")));
    sight.gangs[0].members = lifted(0, 3, &began(3), 3).into_iter().map(named).collect();
    let decided = decide(&sight, &config(), &Memory::default(), 6_000);
    assert_eq!(patches(&decided)[0].1["metadata"]["annotations"][whole::ANNOTATION], r#"{"29fd":[5000]}"#);
    mark(&mut sight.gangs[0], "29fd");
    sight.gangs[0].members.pop();
    assert!(deletions(&decide(&sight, &config(), &Memory::default(), 65_000)).is_empty(), "it was whole");
}

#[test]
fn nothing_is_given_back_while_it_is_open_whether_the_mark_arrived() {
    let sight = sight(vec![node("a", 0)], gang("x", 4, lifted(0, 2, &began(4), 2)));
    let mut memory = Memory::default();
    let problem = Problem { class: Class::Unavailable, message: "connection reset".into(), retry_after_ms: None };
    memory.failed("gangs/ns/x", "patch", problem, 0, 65_000);
    let next_ms = memory.failures["gangs/ns/x"].next_try_ms;
    let decided = decide(&sight, &config(), &memory, 65_000);
    assert_eq!((deletions(&decided).len(), decided.decision.wake_at_ms), (0, Some(next_ms)));
    assert_eq!(deletions(&decide(&sight, &config(), &memory, next_ms)), ["p0", "p1"]);
}

#[test]
fn a_gang_that_was_not_whole_in_time_is_given_back() {
    let mut with_rest = lifted(0, 2, &began(4), 1);
    with_rest.push(member(2, 4, None));
    // Its missing pods can't be made: the rest would hold what it has for ever.
    for members in [with_rest, lifted(0, 2, &began(4), 2)] {
        let sight = sight(vec![node("a", 0)], gang("x", 4, members));
        let decided = decide(&sight, &config(), &Memory::default(), 64_999);
        assert!(decided.decision.steps().next().is_none());
        assert_eq!(decided.decision.wake_at_ms, Some(65_000));
        let decided = decide(&sight, &config(), &Memory::default(), 65_000);
        assert_eq!(deletions(&decided), ["p0", "p1"]);
        assert_eq!(decided.given_back, 1);
    }
}

#[test]
fn what_runs_is_never_given_back_and_what_it_lacks_goes_before_all_others() {
    let runs = |member: Member| Member { is_running: member.is_bound, ..member };
    let pods: Vec<Member> = lifted(0, 3, &began(3), 2).into_iter().map(runs).collect();
    let mut sight = sight(vec![node("a", 0), node("b", 4)], gang("x", 3, pods));
    sight.gangs[0].members[1].is_running = false;
    let decided = decide(&sight, &config(), &Memory::default(), 65_000);
    assert_eq!(deletions(&decided), ["p2"], "what has a node keeps it");
    // It is made anew, and the first that is given a place.
    sight.gangs[0].members[2] = Member { created_ms: 66_000, ..member(2, 4, None) };
    sight.gangs.push(gang("old", 1, vec![Member { created_ms: 1, ..member(9, 4, None) }]));
    let decided = decide(&sight, &config(), &Memory::default(), 70_000);
    let lifted = patches(&decided);
    assert_eq!((lifted.len(), lifted[0].0, deletions(&decided).len()), (1, "p2", 0));
    let admitted = json!({"at": 70_000, "pods": {"w": 1}}).to_string();
    assert_eq!(lifted[0].1["metadata"]["annotations"][ADMITTED], admitted, "it has time of its own");
    // While it can't be made, the rest stays and it is said.
    sight.gangs[0].members.pop();
    let decided = decide(&sight, &config(), &Memory::default(), 70_000);
    assert_eq!((reason(&decided, "x").as_str(), deletions(&decided).len()), ("0 of 1 pods exist", 0));
}

#[test]
fn what_a_gang_grows_by_does_not_go_before_others_because_it_lacks_a_pod() {
    let mut pods = lifted(0, 1, &began(2), 1);
    pods[0].is_running = true;
    let mut sight = sight(vec![node("a", 0), node("b", 8)], gang("x", 50, pods));
    sight.gangs[0].members.extend((1..40).map(|number| member(number, 4, None)));
    sight.gangs.push(gang("old", 1, vec![Member { created_ms: 1, ..member(99, 4, None) }]));
    // Were it empty, all would fit on it.
    sight.nodes[1].place.total = node("b", 400).place.total;
    let names = |decided: &Decided| patches(decided).iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
    // Nor does it wait for what the gang grows by.
    assert_eq!(names(&decide(&sight, &config(), &Memory::default(), 70_000)), ["p1", "p99"]);
    sight.gangs[0].members.extend((40..50).map(|number| member(number, 4, None)));
    assert_eq!(names(&decide(&sight, &config(), &Memory::default(), 70_000)), ["p1", "p99"]);
    // It has begun, in the stead of the one that was lost.
    let later = Admission { at_ms: 70_000, pods: [("w".to_owned(), 1)].into() };
    sight.gangs[0].members[1] = member(1, 4, Some((later, Some(0))));
    let decided = decide(&sight, &config(), &Memory::default(), 71_000);
    assert_eq!(
        (names(&decided), reason(&decided, "x").as_str()),
        (vec!["p99".to_owned()], "1 of 48 pods fit on the nodes now")
    );
}

#[test]
fn what_a_gang_lost_twice_goes_before_others_once() {
    let runs = |member: Member| Member { is_running: true, ..member };
    let mut pods: Vec<Member> = lifted(0, 2, &began(4), 2).into_iter().map(runs).collect();
    // Of the two that began in the stead of those that were lost, one was lost again.
    let again = Admission { at_ms: 9_000, pods: [("w".to_owned(), 2)].into() };
    pods.extend(lifted(2, 1, &again, 1).into_iter().map(runs));
    pods.extend((3..7).map(|number| member(number, 4, None)));
    let mut sight = sight(vec![node("a", 0), node("b", 8)], gang("x", 7, pods));
    sight.gangs.push(gang("old", 1, vec![Member { created_ms: 1, ..member(99, 4, None) }]));
    let decided = decide(&sight, &config(), &Memory::default(), 90_000);
    assert_eq!(patches(&decided).iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["p3", "p99"]);
}

#[test]
fn what_a_gang_lacks_is_asked_for_in_whole_replicas() {
    let host = |number: u32, member: Member| Member { place: (number / 2, number % 2), ..member };
    let mut pods: Vec<Member> = (2..4).zip(lifted(2, 2, &began(3), 2)).map(|(number, it)| host(number, it)).collect();
    pods.iter_mut().for_each(|member| member.is_running = true);
    pods.extend([0, 1, 4, 5].map(|number| host(number, member(number, 4, None))));
    let sight = sight(vec![node("a", 0), node("b", 32)], gang("x", 6, pods));
    let decided = decide(&sight, &config(), &Memory::default(), 70_000);
    assert_eq!(patches(&decided).iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["p0", "p1"]);
}

#[test]
fn hosts_of_a_replica_are_given_back_together_or_not_at_all() {
    // Replicas 0 and 1 of two hosts each. Of the first one, a host runs.
    let host = |(number, member): (u32, Member)| Member { place: (number / 2, number % 2), ..member };
    let mut pods: Vec<Member> = (0..).zip(lifted(0, 4, &began(4), 1)).map(host).collect();
    pods[0].is_running = true;
    let mut sight = sight(vec![node("a", 0)], gang("x", 4, pods));
    let decided = decide(&sight, &config(), &Memory::default(), 65_000);
    assert_eq!(deletions(&decided), ["p2", "p3"]);
    // A host that has a node keeps the other one, too.
    sight.gangs[0].members[2].is_bound = true;
    let decided = decide(&sight, &config(), &Memory::default(), 65_000);
    assert_eq!((deletions(&decided).len(), patches(&decided).len()), (0, 0));
    assert_eq!(reason(&decided, "x"), "the scheduler finds no node for 2 pods of replicas that have begun");
    // Whichever gang it is that the running host began with.
    let first = sight.gangs[0].members.remove(0);
    sight.gangs[0].expected = 3;
    sight.gangs.push(Gang { name: "v".into(), ..gang("x", 1, vec![first]) });
    sight.gangs[0].members[1].is_bound = false;
    let decided = decide(&sight, &config(), &Memory::default(), 65_000);
    assert_eq!(deletions(&decided), ["p2", "p3"]);
}

/// A pod that is pinned to this host and not bound.
fn pinned(member: Member, host: &str) -> Member {
    let mut pod: GangPod = (*member.pod).clone();
    pod.selector = [(HOSTNAME.to_owned(), host.to_owned())].into();
    Member { pod: pod.into(), node: None, is_bound: false, ..member }
}

#[test]
fn a_replica_whose_pinned_host_is_gone_is_made_anew_unless_a_host_of_it_runs() {
    // Replicas 0 and 1 of two hosts each. The first one runs; of the second one, a host pulls its image.
    let host = |(number, member): (u32, Member)| Member { place: (number / 2, number % 2), ..member };
    let mut pods: Vec<Member> = (0..).zip(lifted(0, 4, &began(4), 3)).map(host).collect();
    pods[0].is_running = true;
    pods[1].is_running = true;
    pods[3] = Member { node: Some(1), ..pinned(pods[3].clone(), "b") };
    let mut sight = sight(vec![node("a", 0), node("b", 0)], gang("x", 4, pods));
    let at = |sight: &Sight, now_ms| decide(sight, &config(), &Memory::default(), now_ms);
    let decided = at(&sight, 65_000);
    let waits = "the scheduler finds no node for 1 pods of replicas that have begun";
    assert_eq!((deletions(&decided).len(), reason(&decided, "x").as_str()), (0, waits), "its node is there");
    sight.nodes.pop();
    sight.gangs[0].members[3].node = None;
    assert_eq!(deletions(&at(&sight, 64_999)).len(), 0, "it has its time");
    assert_eq!(deletions(&at(&sight, 65_000)), ["p2"], "what has a node goes first");
    // The rest goes with it.
    let host = sight.gangs[0].members.remove(2);
    assert_eq!(deletions(&at(&sight, 65_100)), ["p3"]);
    sight.gangs[0].members.insert(2, Member { is_running: true, ..host });
    let decided = at(&sight, 65_100);
    assert_eq!((deletions(&decided).len(), reason(&decided, "x").as_str()), (0, waits), "it runs: nothing goes");
}

#[test]
fn a_host_that_runs_by_the_time_that_its_replica_is_given_back_keeps_the_others() {
    let host = |(number, member): (u32, Member)| Member { place: (0, number), ..member };
    let pods: Vec<Member> = (0..).zip(lifted(0, 2, &began(2), 1)).map(host).collect();
    let mut sight = sight(vec![node("a", 0)], gang("x", 2, pods));
    let mut memory = Memory::default();
    let decided = decide(&sight, &config(), &memory, 65_000);
    assert_eq!((deletions(&decided), decided.given_back), (vec!["p0"], 1), "the other one waits for the answer");
    memory.broke("gang/ns/x/w", 65_010);
    let first = sight.gangs[0].members.remove(0);
    let decided = decide(&sight, &config(), &memory, 65_020);
    assert_eq!((deletions(&decided), decided.given_back), (vec!["p1"], 0), "it is gone: one gang was given back");
    assert!(decided.decision.steps().all(|step| !step.replaces_broken));
    sight.gangs[0].members.insert(0, Member { is_running: true, ..first });
    assert_eq!(deletions(&decide(&sight, &config(), &Memory::default(), 65_020)).len(), 0, "it was refused");
}

#[test]
fn what_asks_for_more_than_is_known_here_is_not_pinned() {
    let mut members: Vec<Member> = (0..2).map(|number| member(number, 4, None)).collect();
    let mut pod = (*members[1].pod).clone();
    pod.is_schedulers = true;
    members[1].pod = pod.into();
    let mut sight = sight(vec![node("a", 8)], gang("x", 2, members));
    let decided = decide(&sight, &config(), &Memory::default(), 5_000);
    let selectors = |decided: &Decided| -> Vec<serde_json::Value> {
        patches(decided).iter().map(|(_, patch)| patch["spec"]["nodeSelector"].clone()).collect()
    };
    assert_eq!(selectors(&decided), [json!({HOSTNAME: "a", "rack": "r"}), json!(null)]);
    sight.gangs[0].level = Some(0);
    let decided = decide(&sight, &config(), &Memory::default(), 5_000);
    assert_eq!(selectors(&decided)[1], json!({"rack": "r"}), "the domain was asked for");
}

#[test]
fn that_a_gang_was_whole_is_written_on_its_cluster_once() {
    let mut sight = sight(vec![node("a", 8)], gang("x", 2, lifted(0, 2, &began(2), 1)));
    assert!(patches(&decide(&sight, &config(), &Memory::default(), 6_000)).is_empty(), "one is not bound");
    sight.gangs[0].members = lifted(0, 2, &began(2), 2);
    let decided = decide(&sight, &config(), &Memory::default(), 6_000);
    let note = json!({"metadata": {
        "uid": "x-uid", "resourceVersion": "70", "annotations": {whole::ANNOTATION: r#"{"w":[5000]}"#},
    }});
    assert_eq!(patches(&decided), [("x", &note)]);
    let step = decided.decision.steps().next().unwrap();
    assert_eq!((step.action.kind(), step.namespace.as_deref()), (&kind::RAY_CLUSTER, Some("ns")));
    mark(&mut sight.gangs[0], "w");
    assert!(patches(&decide(&sight, &config(), &Memory::default(), 6_000)).is_empty());
    // Of what is gone nothing is kept; one pod is a whole by itself.
    sight.gangs[0].members = lifted(0, 1, &began(1), 1);
    let next = Admission { at_ms: 9_000, ..began(2) };
    sight.gangs[0].members.extend(lifted(1, 2, &next, 2));
    let decided = decide(&sight, &config(), &Memory::default(), 10_000);
    let written = &patches(&decided)[0].1["metadata"]["annotations"][whole::ANNOTATION];
    assert_eq!(written, r#"{"w":[5000,9000]}"#);
    sight.gangs[0].members.remove(0);
    let decided = decide(&sight, &config(), &Memory::default(), 10_000);
    assert_eq!(patches(&decided)[0].1["metadata"]["annotations"][whole::ANNOTATION], r#"{"w":[9000]}"#);
}

#[test]
fn a_mark_that_was_erased_is_written_again() {
    let mut sight = sight(vec![node("a", 8)], gang("x", 2, lifted(0, 2, &began(2), 2)));
    let decided = decide(&sight, &config(), &Memory::default(), 6_000);
    let known = decided.known["x-uid"].clone();
    assert_eq!(known, Whole::of("w", 5_000));
    sight.gangs[0].whole = known.into();
    sight.gangs[0].members.pop();
    let decided = decide(&sight, &config(), &Memory::default(), 65_000);
    assert_eq!(patches(&decided)[0].1["metadata"]["annotations"][whole::ANNOTATION], r#"{"w":[5000]}"#);
    assert!(deletions(&decided).is_empty());
    sight.gangs[0].members.clear();
    assert!(decide(&sight, &config(), &Memory::default(), 65_000).known.is_empty(), "nothing of it is there");
}

#[test]
fn what_was_whole_is_never_given_back_whatever_it_loses() {
    for now_ms in [20_000, 65_000, 1_000_000] {
        let newcomer = Member { created_ms: 20_000, ..member(1, 4, None) };
        let mut members = lifted(0, 1, &began(2), 1);
        members.push(newcomer);
        let mut sight = sight(vec![node("a", 0)], gang("x", 2, members));
        mark(&mut sight.gangs[0], "w");
        let decided = decide(&sight, &config(), &Memory::default(), now_ms);
        assert!(decided.decision.steps().next().is_none(), "no place for it, and nothing is given back");
        sight.nodes.push(node("b", 4));
        let decided = decide(&sight, &config(), &Memory::default(), now_ms);
        let admitted = json!({"at": now_ms, "pods": {"w": 1}}).to_string();
        assert_eq!(patches(&decided)[0].1["metadata"]["annotations"][ADMITTED], admitted, "it begins anew");
    }
}

#[test]
fn a_gang_that_was_made_smaller_is_whole_and_may_grow_again() {
    // Of four, the spec asks for two: these are whole.
    let mut sight = sight(vec![node("a", 8)], gang("x", 2, lifted(0, 2, &began(4), 2)));
    let decided = decide(&sight, &config(), &Memory::default(), 6_000);
    assert_eq!(patches(&decided)[0].1["metadata"]["annotations"][whole::ANNOTATION], r#"{"w":[5000]}"#);
    // It asks for four again, before the gang had to be whole.
    mark(&mut sight.gangs[0], "w");
    sight.gangs[0].expected = 4;
    sight.gangs[0].members.extend([member(2, 4, None), member(3, 4, None)]);
    let decided = decide(&sight, &config(), &Memory::default(), 65_000);
    assert!(deletions(&decided).is_empty());
    let admitted = json!({"at": 65_000, "pods": {"w": 2}}).to_string();
    assert_eq!(patches(&decided)[0].1["metadata"]["annotations"][ADMITTED], admitted);
    // Where it asks for nothing (it is suspended, or can't be read) nothing is whole for that.
    sight.gangs[0] = gang("x", 0, lifted(0, 2, &began(4), 2));
    assert!(patches(&decide(&sight, &config(), &Memory::default(), 6_000)).is_empty());
}

#[test]
fn a_gang_waits_for_its_head_and_leaves_what_other_heads_will_take() {
    let gated = |count| (0..count).map(|number| member(number, 4, None)).collect::<Vec<_>>();
    let mut sight = sight(vec![node("a", 8)], gang("x", 2, gated(2)));
    sight.gangs[0].has_head = false;
    let decided = decide(&sight, &config(), &Memory::default(), 5_000);
    assert_eq!((reason(&decided, "x").as_str(), patches(&decided).len()), ("the head pod has no node yet", 0));
    sight.gangs[0].has_head = true;
    let mut head = (*member(9, 4, None).pod).clone();
    let pending = |pod: &GangPod| vec![Pending { pod: pod.clone().into(), since_ms: 2_000 }];
    sight.pending = pending(&head);
    for now_ms in [5_000, 301_999] {
        let decided = decide(&sight, &config(), &Memory::default(), now_ms);
        assert_eq!(reason(&decided, "x"), "1 of 2 pods fit on the nodes now");
    }
    assert_eq!(decide(&sight, &config(), &Memory::default(), 301_999).decision.wake_at_ms, Some(302_000));
    assert_eq!(patches(&decide(&sight, &config(), &Memory::default(), 302_000)).len(), 2, "it may never be bound");
    head.scheduler = "another".into();
    sight.pending = pending(&head);
    assert_eq!(patches(&decide(&sight, &config(), &Memory::default(), 5_000)).len(), 2, "nobody may bind it");
    let mut own = (*sight.gangs[0].members[0].pod).clone();
    own.scheduler = "another".into();
    sight.gangs[0].members[0].pod = own.into();
    assert!(patches(&decide(&sight, &config(), &Memory::default(), 5_000)).is_empty());
    sight.pending.clear();
    assert_eq!(patches(&decide(&sight, &config(), &Memory::default(), 5_000)).len(), 2);
    // What has begun is finished.
    let mut members = lifted(0, 1, &began(2), 1);
    members.push(member(1, 4, None));
    sight.gangs[0] = Gang { has_head: false, ..gang("x", 2, members) };
    assert_eq!(patches(&decide(&sight, &config(), &Memory::default(), 6_000)).len(), 1);
}

#[test]
fn a_gang_waits_until_only_its_own_gate_is_left() {
    let held = |member: Member| {
        let mut pod = (*member.pod).clone();
        pod.other_gates = vec!["example.com/staged".into()];
        Member { pod: pod.into(), ..member }
    };
    let members = vec![held(member(0, 1, None)), held(member(1, 1, None)), member(2, 1, None)];
    let decided = decide(&sight(vec![node("a", 8)], gang("x", 3, members)), &config(), &Memory::default(), 5_000);
    assert_eq!(
        (reason(&decided, "x").as_str(), patches(&decided).len()),
        ("2 pods wait for gate example.com/staged", 0)
    );
}

#[test]
fn a_level_that_does_not_exist_is_said() {
    let mut it = gang("x", 1, vec![member(0, 1, None)]);
    it.unknown_level = Some("row".into());
    let sight = Sight { nodes: vec![node("a", 8)], gangs: vec![it], ..Sight::default() };
    let decided = decide(&sight, &config(), &Memory::default(), 5_000);
    assert!(reason(&decided, "x").contains("\"row\": mend the annotation mobula.dev/gang-domain"));
    assert!(patches(&decided).is_empty());
}

#[test]
fn a_pod_whose_answer_was_lost_is_looked_at_before_its_gang_goes_on() {
    let mut members: Vec<Member> = (0..2).map(|number| member(number, 4, None)).collect();
    members[1].is_in_doubt = true;
    let sight = Sight { nodes: vec![node("a", 8)], gangs: vec![gang("x", 2, members)], ..Sight::default() };
    let mut memory = Memory { since_ms: Some(0), ..Memory::default() };
    let problem = Problem { class: Class::Unavailable, message: "connection reset".into(), retry_after_ms: None };
    memory.failed("gang/ns/x/w", "patch", problem, 0, 5_000);
    let next_ms = memory.failures["gang/ns/x/w"].next_try_ms;
    let decided = decide(&sight, &config(), &memory, 5_000);
    assert!(patches(&decided).is_empty());
    assert_eq!(decided.decision.wake_at_ms, Some(next_ms));
    assert_eq!(reason(&decided, "x"), "the last try failed and is made again soon: connection reset");
    let decided = decide(&sight, &config(), &memory, next_ms);
    let look = json!({"metadata": {"uid": "u1", "annotations": {LOOKED_AT: next_ms.to_string()}}});
    assert_eq!(patches(&decided), [("p1", &look)]);
}

#[test]
fn a_new_leader_looks_at_what_others_have_made_before_anyone_begins() {
    let mut members: Vec<Member> = (0..2).map(|number| member(number, 4, None)).collect();
    let own = members.clone();
    members.iter_mut().for_each(|member| member.is_foreign = true);
    let stray = Member { is_foreign: true, ..member(9, 4, None) };
    let sight = Sight {
        nodes: vec![node("a", 16)],
        gangs: vec![gang("x", 2, members), gang("y", 2, own)],
        strays: vec![("gone".into(), stray)],
        ..Sight::default()
    };
    let names = |decided: &Decided| patches(decided).iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
    let decided = decide(&sight, &config(), &Memory::default(), 5_000);
    assert_eq!(names(&decided), ["p0", "p1", "p9"]);
    assert!(patches(&decided).iter().all(|(_, patch)| patch["metadata"]["annotations"][LOOKED_AT] == "5000"));
    assert_eq!(reason(&decided, "y"), "3 pods that another operator may have admitted are looked at first");
    assert_eq!(decided.decision.wake_at_ms, Some(35_000));
    let memory = Memory { since_ms: Some(5_000), ..Memory::default() };
    let decided = decide(&sight, &config(), &memory, 35_000);
    assert_eq!(names(&decided), ["p0", "p1", "p0", "p1"], "what others have begun has ended by then");
}

#[test]
fn a_new_leader_looks_at_some_at_a_time() {
    let foreign = |number| Member { is_foreign: true, ..member(number, 4, None) };
    let all = gang("x", 450, (0..450).map(foreign).collect());
    let decided = decide(&sight(vec![node("a", 16)], all), &config(), &Memory::default(), 5_000);
    assert_eq!((patches(&decided).len(), decided.decision.wake_at_ms), (200, Some(5_100)));
}

#[test]
fn a_pod_that_is_made_anew_before_its_gang_is_whole_belongs_to_it() {
    let remade = Member { created_ms: 20_000, ..member(1, 4, None) };
    let mut sight = sight(vec![node("a", 8)], gang("x", 2, lifted(0, 1, &began(2), 1)));
    sight.nodes[0].place.free.insert("gpu".into(), Amount::from_units(4));
    let decided = decide(&sight, &config(), &Memory::default(), 20_000);
    assert_eq!((patches(&decided).len(), decided.decision.wake_at_ms), (0, Some(65_000)), "it will be made");
    sight.gangs[0].members.push(remade);
    let decided = decide(&sight, &config(), &Memory::default(), 20_000);
    assert_eq!(patches(&decided)[0].1["metadata"]["annotations"][ADMITTED], began(2).to_text());
    sight.nodes.clear();
    let decided = decide(&sight, &config(), &Memory::default(), 65_000);
    assert_eq!(deletions(&decided), ["p0"], "no part of a gang stays");
}

#[test]
fn of_a_gang_of_two_groups_the_rest_is_of_the_group_that_lacks_it() {
    let admission = Admission { at_ms: 5_000, pods: [("v".to_owned(), 1), ("w".to_owned(), 1)].into() };
    let mut members = lifted(0, 1, &admission, 1);
    members.push(member(1, 4, None));
    members.push(Member { group: "v".into(), ..member(2, 4, None) });
    let nodes = vec![node("a", 0), node("b", 8)];
    let decided = decide(&sight(nodes, gang("x", 3, members)), &config(), &Memory::default(), 6_000);
    assert_eq!(patches(&decided).iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["p2"]);
}
