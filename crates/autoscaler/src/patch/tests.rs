use json_patch::PatchError;
use mobula_planner::{DrainKind, GangPlan, Placement, Terminate, TerminateCause};

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
        instance_id: name.into(),
        group: "gpu".into(),
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
fn more_busy_pods_than_a_lowered_maximum_allows_are_nothing_to_write() {
    // Five are busy, three are allowed: whatever is written, the operator works towards three.
    let lowered = cluster(&json!({"replicas": 5, "maxReplicas": 3}));
    let mut busy = plan(5, &[]);
    *busy.groups.get_mut("gpu").unwrap() = GroupPlan { current: 5, requested: 3, desired: 5, min: 0, max: 3 };
    assert!(!busy.groups["gpu"].grows());
    assert_eq!(patch(&lowered, &busy, &[], &[]), None);
    // One of them has become idle.
    let mut ends = plan(4, &[("p", None)]);
    *ends.groups.get_mut("gpu").unwrap() = GroupPlan { desired: 4, ..busy.groups["gpu"].clone() };
    let gpu = patched(&lowered, &patch(&lowered, &ends, &pods(&["p", "q"]), &["p"]).unwrap());
    assert_eq!((&gpu["replicas"], &gpu["scaleStrategy"]), (&json!(5), &json!({"workersToDelete": ["p"]})));
}

#[test]
fn a_suspended_group_asks_for_no_replacement_of_what_is_leaving() {
    let node = Node { instance_id: "p".into(), group: "gpu".into(), phase: NodePhase::Leaving, ..Node::default() };
    let snapshot = Snapshot { nodes: vec![node].into(), ..Snapshot::default() };
    let suspended = cluster(&json!({"suspend": true}));
    let due = |cluster| {
        let (plan, pods) = (plan(2, &[]), pods(&["p"]));
        replicas_patch(cluster, &snapshot, &plan, &pods, &names(&[]), Parts::ALL, &Notes::default())
    };
    assert_eq!(due(&suspended), None);
    assert!(due(&cluster(&json!({}))).is_some(), "of a group that runs, one more is asked for");
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
    let notes = Notes { explain: Some("why".into()), gangs: Some(GangsNote { text: "{}".into(), is_due: false }) };
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

/// A gang of the plan, with the places of its bundles.
fn gang(plan: &mut Plan, id: &str, places: &[Target]) {
    let at = plan.gangs.len() as u32;
    plan.gangs.push(GangPlan { id: id.into(), ..GangPlan::default() });
    let placed = places.iter().zip(0..).map(|(target, first_bundle)| Placement {
        demand: DemandRef::Gang { gang: at, first_bundle },
        target: *target,
        count: 1,
    });
    plan.placements.extend(placed);
}

fn waiting(gangs: usize) -> Snapshot {
    let node = |name: &str, phase| Node { instance_id: name.into(), group: "gpu".into(), phase, ..Node::default() };
    Snapshot {
        gangs: vec![mobula_planner::Gang::default(); gangs],
        node_types: vec![mobula_planner::NodeType { name: "gpu".into(), ..mobula_planner::NodeType::default() }],
        nodes: vec![
            node("own", NodePhase::Running),
            node("other", NodePhase::Running),
            node("pending", NodePhase::Pending),
            node("requested", NodePhase::Requested),
        ]
        .into(),
        ..Snapshot::default()
    }
}

fn with_gangs(written: Option<&str>) -> RayCluster {
    let mut value = cluster(&json!({})).to_value();
    if let Some(written) = written {
        value["metadata"]["annotations"]["mobula.dev/gangs"] = json!(written);
    }
    RayCluster::from_value(value).unwrap()
}

#[test]
fn the_gangs_that_wait_are_said_anew_each_time() {
    let of_gang = |name: &str, gang: &str, is_begun: bool| {
        let admitted = is_begun.then(|| (keys::GANG_ADMITTED.to_owned(), "{}".to_owned()));
        let annotations = [(keys::GANG.to_owned(), gang.to_owned())].into_iter().chain(admitted).collect();
        PodView { name: name.into(), annotations, ..PodView::default() }
    };
    let pods = [of_gang("own", "a", true), of_gang("other", "b", true), of_gang("pending", "gpu", false)];
    let note = |written, plan: &Plan, pods: &[PodView]| {
        let note = gangs_note(&with_gangs(written), &waiting(plan.gangs.len()), plan, pods);
        note.map(|note| (note.text, note.is_due))
    };
    let new = |replica| Target::New { group: 0, replica, host: 0 };
    let mut plan = plan(3, &[]);
    gang(&mut plan, "a", &[Target::Node(0), Target::Node(1), Target::Node(2), new(0), new(0)]);
    gang(&mut plan, "b", &[Target::Node(3), Target::Node(1)]);
    gang(&mut plan, "there", &[Target::Node(0)]);
    gang(&mut plan, "", &[new(1)]);
    // What is gone from the plan disappears; what runs counts where it was begun for the gang; each host counts once.
    let said = r#"{"a":{"gpu":3},"b":{"gpu":2}}"#.to_owned();
    assert_eq!(note(Some(r#"{"gone":{"gpu":2}}"#), &plan, &pods), Some((said.clone(), true)));
    assert_eq!(note(None, &plan, &pods), Some((said.clone(), true)));
    assert_eq!(note(Some(&said), &plan, &pods), None, "it is written");
    assert_eq!(note(Some(r#"{"a":{"gpu":4},"b":{"gpu":2}}"#), &plan, &pods), Some((said.clone(), true)));
    // Nobody admits gangs here: numbers that fall as pods come up are no reason to write.
    let fewer = r#"{"a":{"gpu":2},"b":{"gpu":1}}"#.to_owned();
    assert_eq!(note(Some(r#"{"a":{"gpu":4},"b":{"gpu":2}}"#), &plan, &[]), Some((fewer, false)));
    plan.gangs.clear();
    plan.placements.clear();
    assert_eq!(note(None, &plan, &pods), Some(("{}".to_owned(), false)), "said with growth only");
    let gone = r#"{"a":{"gpu":4}}"#;
    assert_eq!(note(Some(gone), &plan, &pods), Some(("{}".to_owned(), true)));
    assert_eq!(note(Some(gone), &plan, &[]), Some(("{}".to_owned(), false)), "nobody reads it");
    let of_volcano = PodView {
        annotations: [("scheduling.k8s.io/group-name".to_owned(), "ray-a-pg".to_owned())].into(),
        ..PodView::default()
    };
    assert_eq!(note(Some(gone), &plan, &[of_volcano]), Some(("{}".to_owned(), true)));
    let of_kubernetes = PodView { scheduling_group: Some("a-cluster".to_owned()), ..PodView::default() };
    assert_eq!(note(Some(gone), &plan, &[of_kubernetes]), Some(("{}".to_owned(), true)));
    assert_eq!(gangs_note(&with_gangs(None), &waiting(2), &plan, &pods), None, "a policy that does not say");
}

#[test]
fn a_host_that_was_begun_for_another_gang_and_is_not_up_yet_is_not_asked_for_again() {
    let mut plan = plan(3, &[]);
    gang(&mut plan, "a", &[Target::Node(2), Target::New { group: 0, replica: 0, host: 0 }]);
    let annotations = [(keys::GANG, "b"), (keys::GANG_ADMITTED, "{}")];
    let annotations = annotations.map(|(key, text)| (key.to_owned(), text.to_owned())).into();
    let pods = [PodView { name: "pending".into(), annotations, ..PodView::default() }];
    let note = gangs_note(&with_gangs(None), &waiting(1), &plan, &pods).unwrap();
    assert_eq!(note.text, r#"{"a":{"gpu":1}}"#);
}

#[test]
fn a_note_that_would_be_too_long_names_the_gangs_that_the_plan_has_first() {
    let mut plan = plan(3, &[]);
    let name = |number: u32| format!("{}{number:08}", "g".repeat(28));
    for number in (0..4_000_u32).rev() {
        gang(&mut plan, &name(number), &[Target::New { group: 0, replica: number, host: 0 }]);
    }
    let note = gangs_note(&with_gangs(None), &waiting(4_000), &plan, &[]).unwrap().text;
    assert!((130_000..=131_072).contains(&note.len()), "{}", note.len());
    let gangs: PlannedGangs = serde_json::from_str(&note).unwrap();
    assert!(gangs.contains_key(&name(3_999)) && !gangs.contains_key(&name(0)));
}

#[test]
fn a_gang_that_is_launched_bit_by_bit_has_what_it_was_given_so_far() {
    let mut plan = plan(3, &[]);
    plan.gangs.push(GangPlan { id: "a".into(), new_hosts: [("gpu".to_owned(), 2)].into(), ..GangPlan::default() });
    let note = |written| gangs_note(&with_gangs(written), &waiting(1), &plan, &[]).map(|note| note.text);
    assert_eq!(note(Some(r#"{"a":{"gpu":1}}"#)).unwrap(), r#"{"a":{"gpu":3}}"#);
    assert_eq!(note(None).unwrap(), r#"{"a":{"gpu":2}}"#);
}

#[test]
fn the_note_of_gangs_is_written_with_growth_or_where_it_is_due() {
    let cluster = with_gangs(Some("{}"));
    let patch = |desired, is_due| {
        let notes = Notes { explain: None, gangs: Some(GangsNote { text: r#"{"a":{"gpu":1}}"#.into(), is_due }) };
        let plan = plan(desired, &[]);
        replicas_patch(&cluster, &Snapshot::default(), &plan, &[], &names(&[]), Parts::ALL, &notes)
    };
    let says = |desired, is_due| {
        let patch = patch(desired, is_due).unwrap();
        serde_json::to_string(&patch.patch).unwrap().contains("mobula.dev")
    };
    assert_eq!((says(3, false), says(1, false), says(1, true)), (true, false, true));
    assert_eq!(patch(2, false), None, "the replicas are as they should be");
    let alone = patch(2, true).unwrap();
    assert_eq!(alone.parts, Parts { growth: false, removals: false });
    let mut value = cluster.to_value();
    apply(&mut value, &alone.patch).unwrap();
    assert_eq!(value["metadata"]["annotations"]["mobula.dev/gangs"], json!(r#"{"a":{"gpu":1}}"#));
    assert_eq!(value["spec"], cluster.to_value()["spec"]);
}
