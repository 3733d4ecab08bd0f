use json_patch::PatchError;
use mobula_planner::{DrainKind, GangPlan, Node, Terminate, TerminateCause};

use super::*;

/// A RayCluster of the worker groups `cpu` and `gpu`; `merge` goes into `gpu`, which has 2 of at most 5 replicas.
fn cluster(merge: &Value) -> RayCluster {
    let template = json!({"spec": {"containers": [{"name": "ray", "resources": {"limits": {"cpu": "1"}}}]}});
    let group = |name: &str| {
        json!({
            "groupName": name, "replicas": 2, "minReplicas": 0, "maxReplicas": 5, "rayStartParams": {},
            "scaleStrategy": {}, "template": template,
        })
    };
    let mut gpu = group("gpu");
    for (key, value) in merge.as_object().unwrap() {
        match value {
            Value::Null => drop(gpu.as_object_mut().unwrap().remove(key)),
            value => gpu[key] = value.clone(),
        }
    }
    let value = json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster",
        "metadata": {"name": "a", "resourceVersion": "7", "annotations": {"mine": "kept"}},
        "spec": {
            "headGroupSpec": {"rayStartParams": {}, "template": template},
            "workerGroupSpecs": [group("cpu"), gpu],
        },
    });
    RayCluster::from_value(value).unwrap()
}

fn pod(name: &str, replica: Option<&str>) -> PodView {
    PodView {
        name: name.to_owned(),
        group: "gpu".to_owned(),
        replica: replica.map(str::to_owned),
        ..PodView::default()
    }
}

fn pods(names: &[&str]) -> Vec<PodView> {
    names.iter().map(|name| pod(name, None)).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A plan for `gpu`; `cpu` stays at its two replicas.
fn plan(desired: u32, ends: &[(&str, Option<&str>)]) -> Plan {
    let group = |desired| GroupPlan { current: 2, requested: 2, desired, min: 0, max: 5 };
    let end = |(pod, replica): &(&str, Option<&str>)| Terminate {
        group: "gpu".to_owned(),
        instance_id: (*pod).to_owned(),
        ray_node_id: None,
        replica: replica.map(str::to_owned),
        cause: TerminateCause::Idle,
        reason: "idle".to_owned(),
        drain: DrainKind::IfIdle,
    };
    Plan {
        groups: [("cpu".to_owned(), group(2)), ("gpu".to_owned(), group(desired))].into(),
        terminate: ends.iter().map(end).collect(),
        ..Plan::default()
    }
}

fn patch(cluster: &RayCluster, plan: &Plan, pods: &[PodView], deletions: &[&str]) -> Option<Patch> {
    part_of_patch(cluster, plan, pods, deletions, Parts::ALL).map(|due| due.patch)
}

fn part_of_patch(
    cluster: &RayCluster,
    plan: &Plan,
    pods: &[PodView],
    deletions: &[&str],
    parts: Parts,
) -> Option<ReplicasPatch> {
    replicas_patch(cluster, &Snapshot::default(), plan, pods, &names(deletions), parts, &Notes::default())
}

/// Applies a patch as the API server does: a test for null passes where the member is absent.
fn apply(value: &mut Value, patch: &Patch) -> Result<(), PatchError> {
    let passes = |operation: &PatchOperation| match operation {
        PatchOperation::Test(test) => test.value.is_null() && value.pointer(test.path.as_str()).is_none(),
        _ => false,
    };
    let rest = Patch(patch.0.iter().filter(|operation| !passes(operation)).cloned().collect());
    json_patch::patch(value, &rest)
}

/// `gpu` after the patch.
fn patched(cluster: &RayCluster, patch: &Patch) -> Value {
    let mut value = cluster.to_value();
    apply(&mut value, patch).unwrap();
    value["spec"]["workerGroupSpecs"][1].take()
}

/// Whether the patch is refused once somebody has made `change` to the RayCluster.
fn refused_after(cluster: &RayCluster, patch: &Patch, change: impl FnOnce(&mut Value)) -> bool {
    let mut value = cluster.to_value();
    change(&mut value);
    let before = value.clone();
    let refused = apply(&mut value, patch).is_err();
    assert!(!refused || value == before, "a refused patch changes nothing");
    refused
}

#[test]
fn nothing_to_change_is_no_patch() {
    assert_eq!(patch(&cluster(&json!({})), &plan(2, &[]), &[], &[]), None);
    // Absent replicas mean the minimum, too many the maximum.
    assert_eq!(patch(&cluster(&json!({"replicas": null})), &plan(0, &[]), &[], &[]), None);
    assert_eq!(patch(&cluster(&json!({"replicas": 9})), &plan(5, &[]), &[], &[]), None);
}

#[test]
fn replicas_are_absolute_and_guarded() {
    let cluster = cluster(&json!({}));
    let patch = patch(&cluster, &plan(4, &[]), &[], &[]).unwrap();
    let expected = json!([
        {"op": "test", "path": "/spec/workerGroupSpecs/1/groupName", "value": "gpu"},
        {"op": "test", "path": "/spec/workerGroupSpecs/1/replicas", "value": 2},
        {"op": "test", "path": "/spec/workerGroupSpecs/1/scaleStrategy", "value": {}},
        {"op": "add", "path": "/spec/workerGroupSpecs/1/replicas", "value": 4},
    ]);
    assert_eq!(serde_json::to_value(&patch).unwrap(), expected);
    assert_eq!(patched(&cluster, &patch)["replicas"], 4);
}

#[test]
fn reordered_groups_refuse_the_patch() {
    let cluster = cluster(&json!({}));
    let patch = patch(&cluster, &plan(4, &[]), &[], &[]).unwrap();
    let swap = |value: &mut Value| value["spec"]["workerGroupSpecs"].as_array_mut().unwrap().swap(0, 1);
    assert!(refused_after(&cluster, &patch, swap));
    let remove = |value: &mut Value| drop(value["spec"]["workerGroupSpecs"].as_array_mut().unwrap().remove(0));
    assert!(refused_after(&cluster, &patch, remove));
}

#[test]
fn another_writer_refuses_the_patch() {
    let cluster = cluster(&json!({"scaleStrategy": {"workersToDelete": ["p"]}}));
    let patch = patch(&cluster, &plan(4, &[]), &pods(&["p"]), &[]).unwrap();
    assert!(refused_after(&cluster, &patch, |value| value["spec"]["workerGroupSpecs"][1]["replicas"] = json!(3)));
    assert!(refused_after(&cluster, &patch, |value| {
        value["spec"]["workerGroupSpecs"][1]["scaleStrategy"]["workersToDelete"] = json!(["p", "q"]);
    }));
    assert!(!refused_after(&cluster, &patch, |value| value["metadata"]["resourceVersion"] = json!("8")));
}

#[test]
fn a_member_that_was_absent_refuses_the_patch_once_it_is_there() {
    for absent in ["replicas", "scaleStrategy"] {
        let cluster = cluster(&json!({absent: null}));
        let patch = patch(&cluster, &plan(4, &[]), &[], &[]).unwrap();
        assert_eq!(patched(&cluster, &patch)["replicas"], 4);
        let there = if absent == "replicas" { json!(0) } else { json!({"workersToDelete": ["p"]}) };
        assert!(refused_after(&cluster, &patch, |value| value["spec"]["workerGroupSpecs"][1][absent] = there));
    }
    // The API server compares strings as they are escaped: whole templates are never tested.
    let patch_of_absent = patch(&cluster(&json!({"scaleStrategy": null})), &plan(4, &[]), &[], &[]).unwrap();
    assert!(patch_of_absent.0.iter().all(|operation| operation.path().as_str() != "/spec/workerGroupSpecs/1"));
    // The names may be absent within a strategy that is there.
    let cluster = cluster(&json!({}));
    let patch = patch(&cluster, &plan(4, &[]), &[], &[]).unwrap();
    assert!(refused_after(&cluster, &patch, |value| {
        value["spec"]["workerGroupSpecs"][1]["scaleStrategy"]["workersToDelete"] = json!(["p"]);
    }));
}

#[test]
fn only_pods_whose_drain_was_accepted_are_named_and_the_others_go_on_being_asked_for() {
    let cluster = cluster(&json!({}));
    let plan = plan(0, &[("p", None), ("q", None)]);
    let patch = patch(&cluster, &plan, &pods(&["p", "q"]), &["q"]).unwrap();
    let gpu = patched(&cluster, &patch);
    assert_eq!(gpu["replicas"], 1);
    assert_eq!(gpu["scaleStrategy"], json!({"workersToDelete": ["q"]}));
}

#[test]
fn nothing_accepted_is_no_patch() {
    let plan = plan(0, &[("p", None), ("q", None)]);
    assert_eq!(patch(&cluster(&json!({})), &plan, &pods(&["p", "q"]), &[]), None);
}

#[test]
fn a_pod_that_is_replaced_is_named_at_unchanged_replicas() {
    let cluster = cluster(&json!({"scaleStrategy": null}));
    let patch = patch(&cluster, &plan(2, &[("p", None)]), &pods(&["p", "q"]), &["p"]).unwrap();
    let gpu = patched(&cluster, &patch);
    assert_eq!((&gpu["replicas"], &gpu["scaleStrategy"]), (&json!(2), &json!({"workersToDelete": ["p"]})));
}

#[test]
fn names_of_pods_that_exist_are_kept_and_of_gone_ones_dropped() {
    let strategy = json!({"scaleStrategy": {"workersToDelete": ["gone", "going"], "other": 1}});
    let cluster = cluster(&strategy);
    let mut going = pod("going", None);
    going.terminating = true;
    let patch = patch(&cluster, &plan(1, &[("p", None)]), &[going, pod("p", None)], &["p"]).unwrap();
    assert_eq!(patched(&cluster, &patch)["scaleStrategy"], json!({"workersToDelete": ["going", "p"], "other": 1}));
}

#[test]
fn names_of_gone_pods_are_dropped_from_other_groups_but_are_no_reason_to_write() {
    let cluster = cluster(&json!({"scaleStrategy": {"workersToDelete": ["gone"]}}));
    assert_eq!(patch(&cluster, &plan(2, &[]), &[], &[]), None);
    let mut grown = plan(2, &[]);
    grown.groups.get_mut("cpu").unwrap().desired = 3;
    let patch = patch(&cluster, &grown, &[], &[]).unwrap();
    assert_eq!(patched(&cluster, &patch)["scaleStrategy"], json!({"workersToDelete": []}));
}

#[test]
fn a_multi_host_replica_goes_as_a_whole_or_not_at_all() {
    let cluster = cluster(&json!({"numOfHosts": 2}));
    let hosts = [("a0", Some("a")), ("a1", Some("a")), ("b0", Some("b")), ("b1", Some("b"))];
    let all: Vec<PodView> = hosts.iter().map(|(name, replica)| pod(name, *replica)).collect();
    let half = patch(&cluster, &plan(0, &hosts), &all, &["a0", "a1", "b0"]).unwrap();
    let gpu = patched(&cluster, &half);
    assert_eq!((&gpu["replicas"], &gpu["scaleStrategy"]["workersToDelete"]), (&json!(1), &json!(["a0", "a1"])));
    // A host that came up since the plan was made was never drained.
    assert_eq!(patch(&cluster, &plan(1, &hosts[..1]), &all, &["a0"]), None);
}

#[test]
fn a_draining_pod_that_nobody_named_goes_on_being_asked_for() {
    let leaving = |name: &str| Node {
        instance_id: name.to_owned(),
        group: "gpu".to_owned(),
        phase: NodePhase::Leaving,
        ..Node::default()
    };
    let snapshot = Snapshot { nodes: vec![leaving("p")].into(), ..Snapshot::default() };
    let two = pods(&["p", "q"]);
    let cluster = cluster(&json!({}));
    let patch = |desired| {
        let due =
            replicas_patch(&cluster, &snapshot, &plan(desired, &[]), &two, &names(&[]), Parts::ALL, &Notes::default());
        due.map(|due| due.patch)
    };
    // Of two replicas one is leaving: asking for one is what is written already.
    assert_eq!(patch(1), None);
    // Its replacement starts at once, up to the maximum.
    assert_eq!(patched(&cluster, &patch(2).unwrap())["replicas"], 3);
    assert_eq!(patched(&cluster, &patch(5).unwrap())["replicas"], 5);
}

#[test]
fn a_group_that_the_plan_does_not_know_is_left_alone() {
    let mut unknown = plan(4, &[]);
    unknown.groups.remove("cpu");
    let patch = patch(&cluster(&json!({})), &unknown, &[], &[]).unwrap();
    assert!(patch.0.iter().all(|operation| !operation.path().to_string().contains("/0/")));
}

#[test]
fn a_part_of_a_plan_leaves_the_other_groups_as_they_are_written() {
    let cluster = cluster(&json!({}));
    let mut both = plan(1, &[("p", None)]);
    both.groups.get_mut("cpu").unwrap().desired = 4;
    let part = |growth, removals| {
        let due = part_of_patch(&cluster, &both, &pods(&["p", "q"]), &["p"], Parts { growth, removals }).unwrap();
        let mut value = cluster.to_value();
        apply(&mut value, &due.patch).unwrap();
        let groups = &value["spec"]["workerGroupSpecs"];
        assert_eq!(due.parts, Parts { growth, removals });
        (groups[0]["replicas"].clone(), groups[1]["replicas"].clone(), groups[1]["scaleStrategy"].clone())
    };
    let named = json!({"workersToDelete": ["p"]});
    assert_eq!(part(true, true), (json!(4), json!(1), named.clone()));
    assert_eq!(part(false, true), (json!(2), json!(1), named));
    assert_eq!(part(true, false), (json!(4), json!(2), json!({})));
}

#[test]
fn a_part_that_changes_nothing_is_no_patch() {
    let cluster = cluster(&json!({}));
    let only = |plan: &Plan, growth, removals| part_of_patch(&cluster, plan, &[], &[], Parts { growth, removals });
    assert_eq!(only(&plan(4, &[]), false, true), None);
    assert_eq!(only(&plan(1, &[]), true, false), None);
    assert_eq!(only(&plan(1, &[]), true, true).unwrap().parts, Parts { growth: false, removals: true });
}

#[test]
fn a_pod_can_be_named_while_its_own_group_must_not_grow() {
    let cluster = cluster(&json!({}));
    let grown = plan(4, &[("p", None)]);
    let removals = Parts { growth: false, removals: true };
    let due = part_of_patch(&cluster, &grown, &pods(&["p", "q"]), &["p"], removals).unwrap();
    let gpu = patched(&cluster, &due.patch);
    assert_eq!((&gpu["replicas"], &gpu["scaleStrategy"]), (&json!(2), &json!({"workersToDelete": ["p"]})));
    assert_eq!(due.parts, removals);
}

fn with_text(cluster: &RayCluster, desired: u32) -> Option<Patch> {
    let (snapshot, plan) = (Snapshot::default(), plan(desired, &[]));
    let notes = Notes { explain: Some("why".into()), gangs: Some("{}".into()) };
    replicas_patch(cluster, &snapshot, &plan, &[], &names(&[]), Parts::ALL, &notes).map(|due| due.patch)
}

#[test]
fn the_annotation_is_written_only_with_a_patch_that_is_due() {
    let cluster = cluster(&json!({}));
    let with_text = |desired| with_text(&cluster, desired);
    assert_eq!(with_text(2), None);
    let mut value = cluster.to_value();
    apply(&mut value, &with_text(3).unwrap()).unwrap();
    assert_eq!(
        value["metadata"]["annotations"],
        json!({"mine": "kept", "mobula.dev/explain": "why", "mobula.dev/gangs": "{}"})
    );
}

#[test]
fn annotations_that_somebody_adds_meanwhile_are_not_overwritten() {
    let mut value = cluster(&json!({})).to_value();
    value["metadata"].as_object_mut().unwrap().remove("annotations");
    let cluster = RayCluster::from_value(value).unwrap();
    let patch = with_text(&cluster, 3).unwrap();
    let mut value = cluster.to_value();
    apply(&mut value, &patch).unwrap();
    assert_eq!(value["metadata"]["annotations"], json!({"mobula.dev/explain": "why", "mobula.dev/gangs": "{}"}));
    assert!(refused_after(&cluster, &patch, |value| value["metadata"]["annotations"] = json!({"theirs": "x"})));
}

#[test]
fn gangs_are_named_until_they_have_begun_and_only_with_growth() {
    let gang = |id: &str, hosts: u32| GangPlan {
        id: id.into(),
        new_hosts: if hosts == 0 { BTreeMap::new() } else { [("gpu".to_owned(), hosts)].into() },
        ..GangPlan::default()
    };
    let waiting = |count| Snapshot { gangs: vec![mobula_planner::Gang::default(); count], ..Snapshot::default() };
    let planned = |gangs| Plan { gangs, ..plan(3, &[]) };
    let mut value = cluster(&json!({})).to_value();
    value["metadata"]["annotations"]["mobula.dev/gangs"] = json!(r#"{"old":{"gpu":1},"done":{"gpu":2}}"#);
    let cluster = RayCluster::from_value(value).unwrap();
    let note = |snapshot: &Snapshot, plan: &Plan| gangs_note(&cluster, snapshot, plan);
    let both = planned(vec![gang("new", 4), gang("old", 1), gang("served", 0), gang("", 7)]);
    assert_eq!(note(&waiting(4), &both).unwrap(), r#"{"new":{"gpu":4},"old":{"gpu":2}}"#);
    assert_eq!(note(&waiting(0), &planned(Vec::new())).unwrap(), "{}");
    assert_eq!(note(&waiting(2), &planned(Vec::new())), None, "a policy that does not say");
    let notes = Notes { explain: None, gangs: Some("{}".into()) };
    let (snapshot, fewer) = (Snapshot::default(), plan(1, &[]));
    let shrinks = replicas_patch(&cluster, &snapshot, &fewer, &[], &names(&[]), Parts::ALL, &notes).unwrap();
    assert!(!serde_json::to_string(&shrinks.patch).unwrap().contains("mobula.dev"), "{:?}", shrinks.patch);
}
