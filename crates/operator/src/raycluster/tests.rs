//! What is decided, by table.

use std::{collections::BTreeMap, sync::Arc};

use mobula_api::{Gate, PodRole, RayCluster};
use serde_json::{Value, json};

use super::{Observed, decide};
use crate::{
    config::{BatchScheduler, Config},
    frame::{
        decision::{Action, Decision},
        outcome::{Class, Memory, Problem},
        pod::{Place, Pod, Ready},
    },
};

const NOW_MS: i64 = 1_800_000_000_000;

fn cluster(spec: &Value) -> RayCluster {
    let template = json!({"spec": {"containers": [{"name": "ray", "image": "ray"}]}});
    let mut cluster = json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster",
        "metadata": {"name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "7", "generation": 2,
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "headGroupSpec": {"template": template},
            "workerGroupSpecs": [{"groupName": "w", "template": template, "replicas": 3, "minReplicas": 0,
                                  "maxReplicas": 4}],
        },
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        if key == "group" {
            for (key, value) in value.as_object().into_iter().flatten() {
                cluster["spec"]["workerGroupSpecs"][0][key] = value.clone();
            }
        } else {
            cluster["spec"][key] = value.clone();
        }
    }
    RayCluster::from_value(cluster).unwrap()
}

fn pod(name: &str, role: PodRole, replica: u32) -> Pod {
    Pod {
        name: name.into(),
        uid: format!("uid-{name}"),
        namespace: "ns".into(),
        owner: "u".into(),
        group: if role == PodRole::Head { "headgroup" } else { "w" }.into(),
        role,
        phase: "Running".into(),
        ready: Some(Ready { status: "True".into(), ..Ready::default() }),
        node: "n".into(),
        created_ms: NOW_MS - 600_000,
        place: Some(Place { replica, host: 0, incarnation: 0 }),
        ..Pod::default()
    }
}

/// A head and workers `w0`, `w1`, …, changed by `change`.
fn pods(workers: u32, change: impl Fn(&mut Pod)) -> Vec<Arc<Pod>> {
    let workers = (0..workers).map(|number| pod(&format!("w{number}"), PodRole::Worker, number));
    let all = std::iter::once(pod("head", PodRole::Head, 0)).chain(workers);
    all.map(|mut pod| {
        change(&mut pod);
        Arc::new(pod)
    })
    .collect()
}

fn decided(cluster: &RayCluster, pods: &[Arc<Pod>], memory: &Memory) -> Decision {
    let observed = Observed { pods, ..Observed::alone(cluster, memory) };
    let decision = decide(&observed, &Config::default(), NOW_MS);
    assert_eq!(decision, decide(&observed, &Config::default(), NOW_MS), "the same again");
    decision
}

#[test]
fn without_the_gate_replicas_of_several_hosts_are_single_pods() {
    let mut config = Config::default();
    config.gates.set(Gate::RayMultiHostIndexing, false);
    let memory = Memory::default();
    for (workers, deleted, created) in [(0, 0, Some(6)), (6, 0, None), (7, 1, None)] {
        let cluster = cluster(&json!({"group": {"numOfHosts": 2}}));
        let pods = pods(workers, |_| {});
        let observed = Observed { pods: &pods, ..Observed::alone(&cluster, &memory) };
        let decision = decide(&observed, &config, NOW_MS);
        let (gone, made) = on_pods(&decision);
        assert_eq!((gone.len(), made.get("group/w").copied()), (deleted, created), "with {workers}");
    }
}

/// Names of deleted pods, and groups of created ones with their number.
fn on_pods(decision: &Decision) -> (Vec<&str>, BTreeMap<String, usize>) {
    let (mut deleted, mut created) = (Vec::new(), BTreeMap::new());
    for step in decision.steps().filter(|step| step.action.kind().kind == "Pod") {
        match &step.action {
            Action::Delete { name, uid, .. } => {
                assert_eq!(uid, &format!("uid-{name}"), "exactly this pod");
                deleted.push(name.as_str());
            }
            Action::Create { .. } => *created.entry(step.part.clone()).or_default() += 1,
            _ => {}
        }
    }
    deleted.sort_unstable();
    (deleted, created)
}

struct Case {
    name: &'static str,
    spec: Value,
    pods: Vec<Arc<Pod>>,
    deleted: Vec<&'static str>,
    created: Vec<(&'static str, usize)>,
}

fn cases() -> Vec<Case> {
    let named = |name: &'static str, spec, pods, deleted, created| Case { name, spec, pods, deleted, created };
    let on = |target: &'static str, change: fn(&mut Pod)| {
        move |pod: &mut Pod| {
            if pod.name == target {
                change(pod);
            }
        }
    };
    let pending: fn(&mut Pod) = |pod| {
        pod.phase = "Pending".into();
        pod.ready = None;
        pod.node.clear();
        pod.created_ms -= 1_000;
    };
    let leaving: fn(&mut Pod) = |pod| pod.deletion_ms = Some(NOW_MS + 30_000);
    let lost: fn(&mut Pod) = |pod| pod.deletion_ms = Some(NOW_MS - 61_000);
    let failed: fn(&mut Pod) = |pod| pod.phase = "Failed".into();
    let none = Vec::new;
    let redis = json!({"gcsFaultToleranceOptions": {"redisAddress": "redis:6379"}});
    vec![
        named("nothing is there", json!({}), none(), vec![], vec![("group/w", 3), ("head", 1)]),
        named("all is there", json!({}), pods(3, |_| {}), vec![], vec![]),
        named(
            "too many: the pending one goes, though older",
            json!({"group": {"replicas": 2}}),
            pods(3, on("w0", pending)),
            vec!["w0"],
            vec![],
        ),
        named(
            "too many with an autoscaler: it chooses",
            json!({"enableInTreeAutoscaling": true, "group": {"replicas": 2}}),
            pods(3, |_| {}),
            vec![],
            vec![],
        ),
        named(
            "named ones go, strangers do not",
            json!({"enableInTreeAutoscaling": true, "group": {"replicas": 2, "scaleStrategy": {"workersToDelete": ["w1", "head", "stranger"]}}}),
            pods(3, |_| {}),
            vec!["w1"],
            vec![],
        ),
        named(
            "one on its way out is replaced within the maximum",
            json!({}),
            pods(3, on("w0", leaving)),
            vec![],
            vec![("group/w", 1)],
        ),
        named("but not beyond it", json!({"group": {"maxReplicas": 3}}), pods(3, on("w0", leaving)), vec![], vec![]),
        named(
            "a lost one is replaced at the maximum, too",
            json!({"group": {"maxReplicas": 3}}),
            pods(3, on("w0", lost)),
            vec![],
            vec![("group/w", 1)],
        ),
        named(
            "a failed one is deleted and replaced",
            json!({}),
            pods(3, on("w2", failed)),
            vec!["w2"],
            vec![("group/w", 1)],
        ),
        named("a failed head is deleted first", json!({}), pods(3, on("head", failed)), vec!["head"], vec![]),
        named("a head on its way out is waited for", json!({}), pods(3, on("head", leaving)), vec![], vec![]),
        named("a lost head is replaced", json!({}), pods(3, on("head", lost)), vec![], vec![("head", 1)]),
        named("unless it may still write to Redis", redis, pods(3, on("head", lost)), vec![], vec![]),
        named(
            "a suspended group has none",
            json!({"group": {"suspend": true}}),
            pods(3, |_| {}),
            vec!["w0", "w1", "w2"],
            vec![],
        ),
        named(
            "nothing is deleted before the condition says so",
            json!({"suspend": true}),
            pods(3, |_| {}),
            vec![],
            vec![],
        ),
        named(
            "another's cluster is left alone",
            json!({"managedBy": "kueue.x-k8s.io/multikueue"}),
            none(),
            vec![],
            vec![],
        ),
        named(
            "an invalid cluster is left alone",
            json!({"group": {"minReplicas": 5}}),
            pods(1, |_| {}),
            vec![],
            vec![],
        ),
    ]
}

fn counts() -> Vec<Case> {
    let case = |name: &'static str, spec, pods, deleted, created| Case { name, spec, pods, deleted, created };
    vec![
        case(
            "replicas are brought within their bounds",
            json!({"group": {"replicas": -1, "minReplicas": 2}}),
            pods(0, |_| {}),
            vec![],
            vec![("group/w", 2)],
        ),
        case(
            "of replicas without hosts there is none",
            json!({"group": {"numOfHosts": 0}}),
            pods(1, |_| {}),
            vec!["w0"],
            vec![],
        ),
        case(
            "a group that can't be counted holds up no other part",
            json!({"group": {"numOfHosts": -1}}),
            vec![],
            vec![],
            vec![("head", 1)],
        ),
    ]
}

#[test]
fn pods_are_made_and_deleted() {
    for case in cases().into_iter().chain(counts()) {
        let cluster = cluster(&case.spec);
        let decision = decided(&cluster, &case.pods, &Memory::default());
        let created = case.created.iter().map(|(part, count)| ((*part).to_owned(), *count)).collect();
        assert_eq!(on_pods(&decision), (case.deleted, created), "{}", case.name);
    }
}

#[test]
fn a_part_that_failed_waits_and_the_others_go_on() {
    let cluster = cluster(&json!({}));
    let mut memory = Memory::default();
    let problem = Problem { class: Class::Refused, message: "exceeded quota".into(), retry_after_ms: None };
    memory.failed("group/w", "create", problem, 2, NOW_MS);
    let decision = decided(&cluster, &[], &memory);
    assert_eq!(on_pods(&decision).1, BTreeMap::from([("head".to_owned(), 1)]));
    assert!(decision.held.contains("group/w") && decision.wake_at_ms.is_some_and(|at_ms| at_ms > NOW_MS));
    let status = decision.status.expect("visible at once").patch;
    let conditions = status["conditions"].as_array().unwrap();
    let failure = conditions.iter().find(|condition| condition["type"] == "ReplicaFailure").unwrap();
    assert_eq!(failure["message"], "FailedCreateWorkerPod\nexceeded quota");
    // Once it may be tried again, one pod says whether it is over; a spec that has changed is worth a try at once.
    let created = |memory: &Memory| on_pods(&decided(&cluster, &[], memory)).1.get("group/w").copied();
    memory.failures.get_mut("group/w").unwrap().next_try_ms = NOW_MS;
    assert_eq!(created(&memory), Some(1));
    memory.failures.get_mut("group/w").unwrap().generation = 1;
    assert_eq!(created(&memory), Some(3));
}

/// What the condition says of failures, and what is said of group `w`.
fn told(decision: &Decision) -> (String, Value) {
    let status = &decision.status.as_ref().expect("visible at once").patch;
    let conditions = status["conditions"].as_array().unwrap();
    let failure = conditions.iter().find(|condition| condition["type"] == "ReplicaFailure").unwrap();
    (failure["message"].as_str().unwrap().to_owned(), status["workerGroups"][0].clone())
}

#[test]
fn everything_that_fails_is_told() {
    let cluster = cluster(&json!({}));
    let mut memory = Memory::default();
    for (part, message) in [("group/w", "exceeded quota"), ("service/head", "no"), ("head", "no head")] {
        let problem = Problem { class: Class::Refused, message: message.into(), retry_after_ms: None };
        memory.failed(part, "create", problem, 2, NOW_MS);
    }
    let (failure, group) = told(&decided(&cluster, &[], &memory));
    let all = "FailedCreateHeadPod\nno head\nFailedCreateWorkerPod\nexceeded quota\nFailedReconcileChild\nno";
    assert_eq!(failure, all);
    let expected = json!({"groupName": "w", "ready": 0, "pending": {"Refused": 3}, "message": "exceeded quota"});
    assert_eq!(group, expected);
}

#[test]
fn what_the_spec_forbids_is_told_of_its_part_and_in_an_event() {
    let mut cluster = cluster(&json!({"group": {"replicas": 200_000, "maxReplicas": 200_000}}));
    cluster.metadata.annotations.insert("ray.io/enable-serve-service".into(), "true".into());
    let ports = json!([{"name": "http", "containerPort": 80}]);
    cluster.spec.head_group_spec.template["spec"]["containers"][0]["ports"] = ports;
    let decision = decided(&cluster, &[], &Memory::default());
    let kinds: Vec<&str> = decision.steps().map(|step| step.action.kind().kind).collect();
    assert_eq!(kinds, ["Service", "Pod"], "the head and its Service");
    let (failure, group) = told(&decision);
    let lines: Vec<&str> = failure.lines().collect();
    let [worker, too_many, child, no_port] = lines[..] else { panic!("{lines:?}") };
    assert_eq!((worker, child), ("FailedCreateWorkerPod", "FailedReconcileChild"));
    assert!(too_many.contains("replicas: 200000") && no_port.contains("enable-serve-service"), "{lines:?}");
    assert_eq!(group["message"], too_many);
    let mut said: Vec<(&str, &str)> = decision.states.iter().map(|it| (it.reason, it.message.as_str())).collect();
    said.sort_unstable();
    let create = ["Failed to create service of RayCluster ns/a, ", "Failed to create worker Pod of RayCluster ns/a, "];
    let expected = [
        ("FailedToCreateService", create[0].to_owned() + no_port),
        ("FailedToCreateWorkerPod", create[1].to_owned() + too_many),
    ];
    assert_eq!(said, expected.iter().map(|(reason, message)| (*reason, message.as_str())).collect::<Vec<_>>());
}

#[test]
fn a_cluster_is_provisioned_once_all_of_it_is_there_and_ready() {
    let cluster = cluster(&json!({}));
    let provisioned = |workers: u32| {
        let status = decided(&cluster, &pods(workers, |_| {}), &Memory::default()).status;
        let conditions = status.map(|status| status.patch["conditions"].as_array().cloned().unwrap_or_default());
        let is_it = |it: &Value| it["type"] == "RayClusterProvisioned" && it["status"] == "True";
        conditions.is_some_and(|conditions| conditions.iter().any(is_it))
    };
    assert_eq!([0, 1, 2, 3].map(provisioned), [false, false, false, true]);
}

#[test]
fn taking_suspend_away_ends_a_suspension() {
    let mut cluster = cluster(&json!({"suspend": true}));
    cluster.status = json!({"conditions": [{"type": "RayClusterSuspended", "status": "True"}]});
    for (suspend, made) in [(Some(true), 0), (None, 4), (Some(false), 4)] {
        cluster.spec.suspend = suspend;
        let (_, created) = on_pods(&decided(&cluster, &[], &Memory::default()));
        assert_eq!(created.values().sum::<usize>(), made, "{suspend:?}");
    }
}

#[test]
fn a_head_that_hangs_does_not_hold_a_deletion_up_for_ever() {
    let mut cluster = cluster(&json!({"gcsFaultToleranceOptions": {"redisAddress": "redis:6379"}}));
    cluster.metadata.finalizers = vec!["ray.io/gcs-ft-redis-cleanup-finalizer".into()];
    let hangs = pods(0, |pod| pod.deletion_ms = Some(NOW_MS - 299_000));
    let patches = |deleted_ms: i64, cluster: &mut RayCluster| {
        cluster.metadata.deletion_timestamp = Some(crate::frame::time::rfc3339(deleted_ms));
        let decision = decided(cluster, &hangs, &Memory::default());
        let is_forced = decision.states.iter().any(|it| it.reason == "ForceDeletedStuckCluster");
        let patches = decision.steps().filter(|step| matches!(step.action, Action::Patch { .. })).count();
        (patches, is_forced)
    };
    assert_eq!(patches(NOW_MS - 299_000, &mut cluster), (0, false));
    assert_eq!(patches(NOW_MS - 300_000, &mut cluster), (1, true), "the finalizer goes");
}

#[test]
fn names_follow_from_places_so_that_a_repeated_creation_makes_nothing_twice() {
    let cluster = cluster(&json!({}));
    let names = |decision: &Decision| -> Vec<String> {
        let steps = decision.steps().filter(|step| step.part == "group/w");
        steps.map(|step| step.action.name().to_owned()).collect()
    };
    let all = names(&decided(&cluster, &[], &Memory::default()));
    // An old view shows only the second pod.
    let mut second = pod(&all[1], PodRole::Worker, 1);
    second.place = Some(Place { replica: 1, host: 0, incarnation: 0 });
    let again = names(&decided(&cluster, &[Arc::new(second)], &Memory::default()));
    assert_eq!(again, [all[0].clone(), all[2].clone()]);
}

#[test]
fn clusters_of_kuberay_are_taken_over_without_a_restart() {
    let cluster = cluster(&json!({"upgradeStrategy": {"type": "Recreate"}}));
    let stamped = |version: String| {
        pods(3, move |pod| {
            if pod.role == PodRole::Head {
                pod.spec_hash = "ANOTHER".into();
                pod.operator_version.clone_from(&version);
            }
        })
    };
    let taken_over = decided(&cluster, &stamped("v1.6.2".into()), &Memory::default());
    assert_eq!(on_pods(&taken_over), (vec![], BTreeMap::new()));
    let patch = taken_over.steps().find_map(|step| match &step.action {
        Action::Patch { name, patch, .. } if name == "head" => Some(patch.clone()),
        _ => None,
    });
    let annotations = &patch.unwrap()["metadata"]["annotations"];
    assert_eq!(annotations["ray.io/kuberay-version"], Config::default().version());
    // Our own stamp with another hash: the spec has changed. The head goes last.
    let changed = decided(&cluster, &stamped(Config::default().version()), &Memory::default());
    assert_eq!(on_pods(&changed).0, ["head", "w0", "w1", "w2"]);
    assert_eq!(changed.batches.last().unwrap()[0].action.name(), "head");
}

#[test]
fn gangs_of_kubernetes_own_scheduler_are_made() {
    let mut cluster = cluster(&json!({}));
    cluster.metadata.labels.insert("ray.io/gang-scheduling-enabled".into(), "true".into());
    let config = Config { batch_scheduler: Some(crate::config::BatchScheduler::Kubernetes), ..Config::default() };
    let memory = Memory::default();
    let observed = Observed::alone(&cluster, &memory);
    let decision = decide(&observed, &config, NOW_MS);
    let made: Vec<&str> = decision.steps().map(|step| step.action.kind().kind).collect();
    for kind in ["Workload", "PodGroup"] {
        assert!(made.contains(&kind), "{kind} is not among {made:?}");
    }
}

#[test]
fn a_role_is_there_before_it_is_bound() {
    let decision = decided(&cluster(&json!({"enableInTreeAutoscaling": true})), &[], &Memory::default());
    let batch = |kind: &str| {
        let is_of = |step: &crate::frame::decision::Step| step.action.kind().kind == kind;
        decision.batches.iter().position(|batch| batch.iter().any(is_of)).unwrap()
    };
    assert!(batch("Role") < batch("RoleBinding"));
    assert!(batch("RoleBinding") < batch("Pod"));
}

#[test]
fn a_scheduler_is_told_of_the_groups_that_can_be_counted() {
    let cluster = cluster(&json!({"group": {"numOfHosts": -1}}));
    let memory = Memory::default();
    for scheduler in [BatchScheduler::Volcano, BatchScheduler::YuniKorn] {
        let config = Config { batch_scheduler: Some(scheduler), ..Config::default() };
        let decision = decide(&Observed::alone(&cluster, &memory), &config, NOW_MS);
        assert_eq!(on_pods(&decision).1.get("head"), Some(&1), "{scheduler:?}");
        let (failure, group) = told(&decision);
        assert!(failure.starts_with("FailedCreateWorkerPod") && failure.contains("numOfHosts: -1"), "{failure}");
        assert!(group["message"].as_str().unwrap().contains("numOfHosts: -1"), "{group}");
    }
}

#[test]
fn how_often_a_place_broke_is_forgotten_once_it_is_gone() {
    let mut memory = Memory::default();
    let places = ["group/w", "group/w/0", "group/w/2", "group/w/3", "group/wide/0", "group/gone/0", "head"];
    places.iter().for_each(|place| memory.broke(place, NOW_MS));
    let given_up = |replicas: u32, there: u32| -> Vec<String> {
        let cluster = cluster(&json!({"group": {"replicas": replicas}}));
        decided(&cluster, &pods(there, |_| {}), &memory).given_up.into_iter().collect()
    };
    assert_eq!(given_up(3, 3), ["group/gone/0", "group/w/3", "group/wide/0"]);
    assert_eq!(given_up(4, 3), ["group/gone/0", "group/wide/0"], "one is to come");
    assert_eq!(given_up(1, 3), ["group/gone/0", "group/w/3", "group/wide/0"], "two are on their way out");
    assert_eq!(given_up(1, 1), ["group/gone/0", "group/w/2", "group/w/3", "group/wide/0"]);
}
