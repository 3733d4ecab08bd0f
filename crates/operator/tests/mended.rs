//! What was wrong once, over an API server in paused time: each of these failed before it was mended.
#![allow(clippy::unwrap_used, reason = "it is a test")]

mod bench;

use bench::{Process, cluster, condition, edit, failing, kubelet, pods, seconds, server, started};
use mobula_apiserver::{ApiServer, Refusal, Review, Rule, Verb};
use mobula_operator::config::Config;
use serde_json::{Value, json};

/// A RayCluster with an autoscaler, whose head needs an account.
fn scaled(name: &str) -> Value {
    let mut scaled = cluster(name, 1, 1);
    scaled["spec"]["enableInTreeAutoscaling"] = json!(true);
    scaled
}

fn said(server: &ApiServer, reason: &str) -> u64 {
    let events = server.list("events", "default");
    let count = |event: &Value| event["count"].as_u64().unwrap_or(1);
    events.iter().filter(|event| event["reason"] == reason).map(count).sum()
}

#[tokio::test(start_paused = true)]
async fn pods_wait_for_what_they_need_in_later_passes_too() {
    let server = server(1);
    kubelet(&server);
    server.admit("serviceaccounts", |_| Err(Refusal::new(403, "Forbidden", "no more accounts"))).unwrap();
    let process = Process::start(server.connect(), Config::default(), "a");
    server.create("rayclusters", scaled("a")).unwrap();
    seconds(30).await;
    assert_eq!(server.count("pods"), 0, "the head's account is missing");
    assert!(condition(&server, "a", "ReplicaFailure").unwrap().2.contains("no more accounts"));
    server.admit_all();
    seconds(60).await;
    assert_eq!((pods(&server, "head").len(), condition(&server, "a", "ReplicaFailure")), (1, None));
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_comes_again_under_its_name_gets_what_it_needs() {
    let (server, _, process) = started(Config::default());
    server.create("rayclusters", scaled("a")).unwrap();
    seconds(5).await;
    server.delete("rayclusters", "default", "a").unwrap();
    let uid = server.create("rayclusters", scaled("a")).unwrap()["metadata"]["uid"].clone();
    seconds(2).await;
    server.settle();
    seconds(10).await;
    for resource in ["serviceaccounts", "roles", "rolebindings"] {
        let object = server.get(resource, "default", "a");
        let owner = object.as_ref().map(|object| &object["metadata"]["ownerReferences"][0]["uid"]);
        assert_eq!(owner, Some(&uid), "{resource}");
    }
    assert_eq!((pods(&server, "head").len(), pods(&server, "worker").len()), (1, 1));
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_status_that_always_conflicts_is_tried_ever_more_slowly() {
    let server = server(1);
    kubelet(&server);
    let connection = server.connect();
    let conflict = Refusal::of_code(409, "the object has been modified");
    connection.fail(Rule::on(Verb::Patch, "rayclusters/status").always().refuse(conflict));
    let process = Process::start(connection, Config::default(), "a");
    server.create("rayclusters", cluster("a", 2, 1)).unwrap();
    seconds(30).await;
    let tries = process.connection.count(Verb::Patch, "rayclusters/status");
    assert!((5..=60).contains(&tries), "{tries}");
    process.connection.recover();
    seconds(5).await;
    assert_eq!(server.get("rayclusters", "default", "a").unwrap()["status"]["state"], "ready");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn each_suspension_is_said_once() {
    let (server, _, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 2, 1)).unwrap();
    for times in 1..=2 {
        seconds(5).await;
        edit(&server, |it| it["spec"]["suspend"] = json!(true));
        seconds(20).await;
        assert_eq!((server.count("pods"), said(&server, "DeletedPod")), (0, times));
        edit(&server, |it| it["spec"]["suspend"] = json!(false));
    }
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_invalid_again_is_said_again() {
    let server = server(1);
    let process = Process::start(server.connect(), Config::default(), "a");
    let mut invalid = cluster("a", 2, 1);
    invalid["spec"]["workerGroupSpecs"][0]["maxReplicas"] = json!(3);
    invalid["spec"]["workerGroupSpecs"][0]["minReplicas"] = json!(9);
    server.create("rayclusters", invalid).unwrap();
    for (times, most) in [(1, 3), (1, 9), (2, 3)] {
        edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["maxReplicas"] = json!(most));
        seconds(5).await;
        assert_eq!(said(&server, "InvalidRayClusterSpec"), times, "maxReplicas {most}");
    }
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_cannot_be_read_says_so_and_can_go() {
    let server = server(1);
    let process = Process::start(server.connect(), Config::default(), "a");
    let mut unreadable = cluster("a", 2, 1);
    unreadable["spec"]["workerGroupSpecs"][0]["replicas"] = json!("many");
    unreadable["metadata"]["finalizers"] = json!(["ray.io/gcs-ft-redis-cleanup-finalizer", "example.com/other"]);
    server.create("rayclusters", unreadable).unwrap();
    seconds(5).await;
    let (status, reason, message) = condition(&server, "a", "Invalid").unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "InvalidRayClusterSpec"));
    assert!(message.contains("replicas"), "{message}");
    server.delete("rayclusters", "default", "a").unwrap();
    seconds(5).await;
    let left = server.get("rayclusters", "default", "a").unwrap()["metadata"]["finalizers"].clone();
    assert_eq!(left, json!(["example.com/other"]));
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_between_hosts_that_was_deleted_comes_back() {
    let (server, _, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 1, 2)).unwrap();
    seconds(5).await;
    server.delete("services", "default", "a-headless").unwrap();
    seconds(5).await;
    assert!(server.get("services", "default", "a-headless").is_some());
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_spec_counts_while_the_head_is_down() {
    let (server, nodes, process) = started(Config::default());
    let mut recreated = cluster("a", 2, 1);
    recreated["spec"]["upgradeStrategy"] = json!({"type": "Recreate"});
    server.create("rayclusters", recreated).unwrap();
    seconds(5).await;
    let (head, before) = (pods(&server, "head")[0].clone(), pods(&server, "worker"));
    // The head is on its way out, and takes its time.
    nodes.lock().unwrap().dead.insert(head.clone());
    server.delete("pods", "default", &head).unwrap();
    seconds(1).await;
    edit(&server, |it| {
        it["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["image"] = json!("ray:2");
    });
    seconds(5).await;
    nodes.lock().unwrap().dead.clear();
    seconds(10).await;
    let after = pods(&server, "worker");
    assert_eq!((pods(&server, "head").len(), after.len()), (1, 2));
    assert!(after.iter().all(|name| !before.contains(name)), "{before:?} {after:?}");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_head_with_a_plain_name_is_waited_for() {
    let mut config = Config::default();
    config.pods.plain_head_name = true;
    let (server, nodes, process) = started(config);
    server.create("rayclusters", cluster("a", 1, 1)).unwrap();
    seconds(5).await;
    assert_eq!(pods(&server, "head"), ["a-head"]);
    nodes.lock().unwrap().dead.insert("a-head".to_owned());
    server.delete("pods", "default", "a-head").unwrap();
    process.connection.reset_counts();
    seconds(300).await;
    assert_eq!(process.connection.count(Verb::Create, "pods"), 0);
    nodes.lock().unwrap().dead.clear();
    seconds(5).await;
    assert_eq!(pods(&server, "head"), ["a-head"]);
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn hosts_without_the_name_of_a_replica_are_adopted() {
    let mut config = Config::default();
    config.gates.set(mobula_api::Gate::RayMultiHostIndexing, false);
    let (server, _, first) = started(config);
    server.create("rayclusters", cluster("a", 3, 2)).unwrap();
    seconds(5).await;
    let before = pods(&server, "worker");
    assert_eq!(before.len(), 6);
    first.end().await;
    let second = Process::start(server.connect(), Config::default(), "b");
    seconds(10).await;
    assert_eq!(pods(&server, "worker"), before);
    edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(2));
    seconds(10).await;
    assert_eq!(pods(&server, "worker").len(), 4);
    let mut replicas = std::collections::BTreeMap::<String, usize>::new();
    server.each("pods", "", |pod| {
        if let Some(name) = pod["metadata"]["labels"]["ray.io/worker-group-replica-name"].as_str() {
            *replicas.entry(name.to_owned()).or_default() += 1;
        }
    });
    assert_eq!(replicas.values().copied().collect::<Vec<_>>(), [2, 2]);
    second.end().await;
}

#[tokio::test(start_paused = true)]
async fn network_policies_follow_the_spec() {
    let mut config = Config { compat: mobula_api::Compat::V1_7, ..Config::default() };
    config.gates.set(mobula_api::Gate::RayClusterNetworkPolicy, true);
    let (server, _, process) = started(config);
    let mut guarded = cluster("a", 1, 1);
    guarded["spec"]["networkPolicy"] = json!({"mode": "DenyAll"});
    server.create("rayclusters", guarded).unwrap();
    seconds(5).await;
    let spec = server.get("networkpolicies", "default", "a-head").unwrap()["spec"].clone();
    assert!(server.get("networkpolicies", "default", "a-workers-w").is_some());
    server.edit("networkpolicies", "default", "a-head", |it| it["spec"]["ingress"] = json!([{}])).unwrap();
    seconds(5).await;
    assert_eq!(server.get("networkpolicies", "default", "a-head").unwrap()["spec"], spec, "mended");
    server.delete("networkpolicies", "default", "a-workers-w").unwrap();
    seconds(5).await;
    assert!(server.get("networkpolicies", "default", "a-workers-w").is_some(), "made again");
    process.connection.reset_counts();
    seconds(60).await;
    assert_eq!(process.connection.count(Verb::Update, "networkpolicies"), 0);
    edit(&server, |it| it["spec"]["networkPolicy"] = Value::Null);
    seconds(5).await;
    assert_eq!(server.count("networkpolicies"), 0);
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn rights_that_are_no_longer_given_are_withdrawn() {
    let mut config = Config::default();
    config.autoscaler.image = Some("mobula".to_owned());
    config.autoscaler.wide_role = true;
    let (server, _, wide) = started(config.clone());
    server.create("rayclusters", scaled("a")).unwrap();
    seconds(5).await;
    let rules = || server.get("roles", "default", "a").unwrap()["rules"].as_array().unwrap().clone();
    let own = json!({"apiGroups": ["x"], "resources": ["y"], "verbs": ["z"]});
    server.edit("roles", "default", "a", |role| role["rules"].as_array_mut().unwrap().push(own.clone())).unwrap();
    assert_eq!(rules().len(), 7);
    wide.end().await;
    config.autoscaler.wide_role = false;
    let narrow = Process::start(server.connect(), config, "b");
    seconds(10).await;
    assert_eq!(rules().len(), 4, "{:?}", rules());
    assert!(rules().contains(&own), "the user's own");
    narrow.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_gang_that_the_cluster_owns_without_controlling_it_is_taken_over() {
    let server = server(1);
    kubelet(&server);
    let mut gang = cluster("a", 1, 1);
    gang["metadata"]["labels"] = json!({"ray.io/gang-scheduling-enabled": "true"});
    let uid = server.create("rayclusters", gang).unwrap()["metadata"]["uid"].clone();
    let owner = json!({"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": "a", "uid": uid});
    let group = json!({"apiVersion": "scheduling.x-k8s.io/v1alpha1", "kind": "PodGroup",
                       "metadata": {"name": "a", "namespace": "default", "ownerReferences": [owner]},
                       "spec": {"minMember": 2}});
    server.create("podgroups.scheduling.x-k8s.io", group).unwrap();
    let config = Config { batch_scheduler: "scheduler-plugins".parse().ok(), ..Config::default() };
    let process = Process::start(server.connect(), config, "a");
    seconds(20).await;
    assert_eq!((server.count("pods"), condition(&server, "a", "ReplicaFailure")), (2, None));
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_gang_grows_with_the_plan_that_names_it() {
    for (scheduler, resource, name, count) in [
        ("volcano", "podgroups.scheduling.volcano.sh", "ray-a-pg", "/spec/minMember"),
        ("scheduler-plugins", "podgroups.scheduling.x-k8s.io", "a", "/spec/minMember"),
    ] {
        let config = Config { batch_scheduler: scheduler.parse().ok(), ..Config::default() };
        let (server, _, process) = started(config);
        let mut gang = scaled("a");
        gang["metadata"]["labels"] = json!({"ray.io/gang-scheduling-enabled": "true"});
        server.create("rayclusters", gang).unwrap();
        seconds(5).await;
        let size = || server.get(resource, "default", name).unwrap().pointer(count).cloned();
        let cpus = || server.get(resource, "default", name).unwrap()["spec"]["minResources"]["cpu"].clone();
        assert_eq!((size(), cpus()), (Some(json!(1)), json!("1")), "{scheduler}: minReplicas, as with KubeRay");
        edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(3));
        seconds(5).await;
        assert_eq!(size(), Some(json!(1)), "{scheduler}: no gang is planned");
        edit(&server, |it| {
            it["metadata"]["annotations"] = json!({"mobula.dev/gangs": r#"{"29fd": {"w": 4}}"#});
            it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(7);
        });
        seconds(5).await;
        assert_eq!((size(), cpus()), (Some(json!(8)), json!("8")), "{scheduler}");
        process.connection.reset_counts();
        seconds(60).await;
        let writes = process.connection.counts().into_iter().filter(|((_, what), _)| what.starts_with("podgroups"));
        assert_eq!(writes.map(|((_, what), _)| what).collect::<Vec<_>>(), [""; 0], "{scheduler}: written without need");
        edit(&server, |it| it["metadata"]["annotations"]["mobula.dev/gangs"] = json!("{}"));
        seconds(5).await;
        assert_eq!(size(), Some(json!(1)), "{scheduler}: it has begun");
        process.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_note_on_an_ingress_stays() {
    let config = Config { compat: mobula_api::Compat::V1_7, ..Config::default() };
    let (server, _, process) = started(config);
    let mut open = cluster("a", 1, 1);
    open["spec"]["headGroupSpec"]["enableIngress"] = json!(true);
    open["metadata"]["annotations"] = json!({"example.com/a": "1", "mobula.dev/plan": "1"});
    server.create("rayclusters", open).unwrap();
    seconds(5).await;
    let note = |it: &mut Value| it["metadata"]["annotations"]["example.com/other"] = json!("x");
    server.edit("ingresses", "default", "a-head-ingress", note).unwrap();
    edit(&server, |it| it["metadata"]["annotations"]["example.com/a"] = json!("2"));
    seconds(5).await;
    let ingress = server.get("ingresses", "default", "a-head-ingress").unwrap();
    assert_eq!(ingress["metadata"]["annotations"], json!({"example.com/a": "2", "example.com/other": "x"}));
    process.connection.reset_counts();
    edit(&server, |it| it["metadata"]["annotations"]["mobula.dev/plan"] = json!("2"));
    seconds(5).await;
    assert_eq!(process.connection.count(Verb::Update, "ingresses"), 0);
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_gets_no_answer_stops_before_others_take_over() {
    let server = server(1);
    let process = Process::start(server.connect(), Config::default(), "a");
    seconds(5).await;
    process.connection.fail(Rule::on(Verb::Update, "leases").always().hang());
    seconds(11).await;
    assert!(process.task.is_finished());
    assert_eq!(process.task.await.unwrap(), mobula_operator::operator::Ended::LeadershipLost);
}

#[tokio::test(start_paused = true)]
async fn a_replica_of_too_many_hosts_is_refused_and_stops_nobody() {
    let (server, _, process) = started(Config::default());
    let mut wide = cluster("a", 0, 2_147_483_647);
    let mut other = wide["spec"]["workerGroupSpecs"][0].clone();
    (other["groupName"], other["numOfHosts"], other["replicas"]) = (json!("x"), json!(1), json!(2));
    wide["spec"]["workerGroupSpecs"].as_array_mut().unwrap().push(other);
    server.create("rayclusters", wide).unwrap();
    seconds(5).await;
    assert_eq!(pods(&server, "worker").len(), 2);
    assert!(condition(&server, "a", "ReplicaFailure").unwrap().2.contains("numOfHosts"));
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_came_after_the_first_status_is_told_at_once() {
    let (server, nodes, process) = started(Config::default());
    nodes.lock().unwrap().paused = true;
    let mut faulty = cluster("a", 1, 1);
    faulty["spec"]["workerGroupSpecs"][0]["numOfHosts"] = json!(-1);
    server.create("rayclusters", faulty).unwrap();
    seconds(2).await;
    assert!(condition(&server, "a", "ReplicaFailure").unwrap().2.contains("numOfHosts"), "the first status says so");
    let head = pods(&server, "head").remove(0);
    let status = server.get("rayclusters", "default", "a").unwrap()["status"].clone();
    assert_eq!((&status["head"]["podName"], &status["head"]["serviceName"]), (&json!(head), &json!("a-head-svc")));
    assert_ne!(condition(&server, "a", "HeadPodReady").unwrap().1, "HeadPodNotFound");
    assert_eq!((said(&server, "FailedToCreateWorkerPod"), said(&server, "InvalidRayClusterSpec")), (1, 0));
    process.end().await;
}

/// Pods of a phase that are not on their way out.
fn in_phase(server: &ApiServer, phase: &str) -> usize {
    let mut count = 0;
    server.each("pods", "", |pod| {
        let is_leaving = pod.pointer("/metadata/deletionTimestamp").is_some();
        count += usize::from(pod["status"]["phase"] == phase && !is_leaving);
    });
    count
}

#[tokio::test(start_paused = true)]
async fn workers_that_fail_again_and_again_are_made_ever_more_slowly() {
    for (replicas, hosts) in [(1, 1), (4, 1), (2, 2)] {
        let (server, _, process) = started(Config::default());
        server.create("rayclusters", cluster("a", replicas, hosts)).unwrap();
        seconds(5).await;
        process.connection.reset_counts();
        let failing = failing(&server);
        let mut most_failed = 0;
        for _ in 0..300 {
            seconds(1).await;
            most_failed = most_failed.max(in_phase(&server, "Failed"));
        }
        let (wanted, made) = ((replicas * hosts) as usize, process.connection.count(Verb::Create, "pods"));
        assert!(most_failed <= wanted, "{replicas} of {hosts}: {most_failed} that failed at once");
        // At once, at once, after 10 s, 20 s, 40 s, 80 s, 160 s.
        assert!((4..=7).contains(&(made as usize / wanted)), "{replicas} of {hosts}: {made} made");
        failing.abort();
        // What was the last delay is over.
        seconds(320).await;
        assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (wanted + 1, 0));
        process.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_has_lasted_is_replaced_at_once_however_many_failed_before() {
    let (server, _, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 20, 1)).unwrap();
    seconds(605).await;
    // A node after the other is reclaimed.
    for name in pods(&server, "worker") {
        seconds(30).await;
        server.edit("pods", "default", &name, |pod| pod["status"]["phase"] = json!("Failed")).unwrap();
        seconds(1).await;
        assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (21, 0), "after {name}");
    }
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_fails_again_and_again_holds_up_no_other() {
    let (server, _, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 1, 1)).unwrap();
    seconds(5).await;
    let failing = failing(&server);
    seconds(60).await;
    failing.abort();
    assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (1, 1), "it waits");
    edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(3));
    seconds(1).await;
    assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (3, 1), "two are new");
    edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(2));
    seconds(1).await;
    assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (3, 0), "nobody waits for it any more");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_other_hosts_of_a_replica_that_waits_go_at_once() {
    let (server, _, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 1, 4)).unwrap();
    seconds(5).await;
    let fail_one = || {
        let name = pods(&server, "worker")[0].clone();
        server.edit("pods", "default", &name, |pod| pod["status"]["phase"] = json!("Failed")).unwrap();
    };
    for _ in 0..2 {
        fail_one();
        seconds(1).await;
        assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (5, 0));
    }
    fail_one();
    seconds(1).await;
    assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (1, 1));
    seconds(10).await;
    assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (5, 0));
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn no_worker_comes_before_its_gang_is_as_large() {
    for (scheduler, resource, name) in [
        ("volcano", "podgroups.scheduling.volcano.sh", "ray-a-pg"),
        ("scheduler-plugins", "podgroups.scheduling.x-k8s.io", "a"),
    ] {
        let config = Config { batch_scheduler: scheduler.parse().ok(), ..Config::default() };
        let (server, _, process) = started(config);
        let mut gang = cluster("a", 2, 1);
        gang["metadata"]["labels"] = json!({"ray.io/gang-scheduling-enabled": "true"});
        server.create("rayclusters", gang).unwrap();
        let replicas =
            |replicas: u64| edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(replicas));
        let sizes = || {
            let group = server.get(resource, "default", name).unwrap();
            (pods(&server, "worker").len(), group["spec"]["minMember"].clone())
        };
        seconds(5).await;
        assert_eq!(sizes(), (2, json!(3)), "{scheduler}");
        let server_says = |code, says| Rule::on(Verb::Update, "podgroups").refuse(Refusal::of_code(code, says));
        process.connection.fail(server_says(409, "the object has been modified"));
        let before_its_gang = move |review: &mut Review<'_>| {
            let size = review.objects(resource, "default").next().and_then(|group| group["spec"]["minMember"].as_u64());
            let is_covered =
                review.asked.verb != Verb::Create || size > Some(review.siblings("default").count() as u64);
            if is_covered { Ok(()) } else { Err(Refusal::of_code(422, "comes before its gang")) }
        };
        server.admit("pods", before_its_gang).unwrap();
        replicas(4);
        seconds(5).await;
        assert_eq!(sizes(), (4, json!(5)), "{scheduler}");
        process.connection.fail(server_says(403, "no PodGroup is changed").always());
        replicas(8);
        seconds(60).await;
        assert_eq!(sizes(), (4, json!(5)), "{scheduler}: refused");
        assert!(condition(&server, "a", "ReplicaFailure").unwrap().2.contains("no PodGroup is changed"), "{scheduler}");
        replicas(1);
        seconds(60).await;
        assert_eq!(sizes(), (1, json!(5)), "{scheduler}: what goes waits for nothing");
        process.connection.recover();
        replicas(8);
        seconds(60).await;
        assert_eq!((sizes(), condition(&server, "a", "ReplicaFailure")), ((8, json!(9)), None), "{scheduler}");
        assert_eq!(said(&server, "FailedToCreateWorkerPod"), 0, "{scheduler}: came before its gang");
        process.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_gang_that_may_not_grow_stops_nothing_but_its_growth() {
    let forbidden = || Rule::on(Verb::Update, "podgroups").refuse(Refusal::of_code(403, "no PodGroup is changed"));
    let conflicts = || Rule::on(Verb::Update, "podgroups").refuse(Refusal::of_code(409, "has been modified"));
    for (scheduler, rule) in [("volcano", forbidden()), ("volcano", conflicts()), ("scheduler-plugins", forbidden())] {
        let config = Config { batch_scheduler: scheduler.parse().ok(), ..Config::default() };
        let (server, _, process) = started(config);
        let mut gang = cluster("a", 4, 1);
        gang["metadata"]["labels"] = json!({"ray.io/gang-scheduling-enabled": "true"});
        for (name, hosts) in [("other", 1), ("pairs", 2)] {
            let mut group = gang["spec"]["workerGroupSpecs"][0].clone();
            group["groupName"] = json!(name);
            group["replicas"] = json!(3);
            group["numOfHosts"] = json!(hosts);
            gang["spec"]["workerGroupSpecs"].as_array_mut().unwrap().push(group);
        }
        server.create("rayclusters", gang).unwrap();
        let of = |group: &str| of_group(&server, group);
        let sizes = || (pods(&server, "head").len(), of("w").len(), of("other").len(), of("pairs").len());
        seconds(5).await;
        assert_eq!(sizes(), (1, 4, 3, 6), "{scheduler}");
        process.connection.fail(rule.always());
        edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(8));
        edit(&server, |it| it["spec"]["workerGroupSpecs"][2]["replicas"] = json!(5));
        seconds(60).await;
        assert_eq!(sizes(), (1, 4, 3, 6), "{scheduler}: no pod beyond what the gang covers");
        let fail = |name: &str| {
            server.edit("pods", "default", name, |pod| pod["status"]["phase"] = json!("Failed")).unwrap();
        };
        fail(&of("w")[1]);
        seconds(5).await;
        assert_eq!((sizes(), in_phase(&server, "Failed")), ((1, 4, 3, 6), 0), "{scheduler}: a worker is replaced");
        fail(&of("pairs")[1]);
        seconds(5).await;
        assert_eq!((sizes(), in_phase(&server, "Failed")), ((1, 4, 3, 6), 0), "{scheduler}: a replica is replaced");
        let head = pods(&server, "head").remove(0);
        server.delete("pods", "default", &head).unwrap();
        seconds(5).await;
        assert_eq!((sizes(), in_phase(&server, "Running")), ((1, 4, 3, 6), 14), "{scheduler}: the head comes back");
        let named = of("other")[1].clone();
        edit(&server, |it| {
            let group = &mut it["spec"]["workerGroupSpecs"][1];
            group["replicas"] = json!(2);
            group["scaleStrategy"] = json!({"workersToDelete": [named]});
        });
        seconds(2).await;
        assert!(!of("other").contains(&named), "{scheduler}: what is named goes");
        assert_eq!(of("other").len(), 2, "{scheduler}");
        edit(&server, |it| it["spec"]["workerGroupSpecs"][1]["suspend"] = json!(true));
        seconds(2).await;
        assert_eq!(of("other").len(), 0, "{scheduler}: a group is suspended");
        seconds(60).await;
        assert!(pods(&server, "worker").len() <= 13, "{scheduler}: {:?}", sizes());
        process.connection.recover();
        seconds(60).await;
        assert_eq!(sizes(), (1, 8, 0, 10), "{scheduler}: it may grow");
        process.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn beside_a_gang_that_may_not_grow_losses_are_replaced_and_no_faster_than_elsewhere() {
    let volcano = || Config { batch_scheduler: "volcano".parse().ok(), ..Config::default() };
    let refuse = |process: &Process| {
        let rule = Rule::on(Verb::Update, "podgroups").refuse(Refusal::of_code(403, "no PodGroup is changed"));
        process.connection.fail(rule.always());
    };
    // Of what an autoscaler asks for beyond the least, the gang knows nothing.
    let (server, _, process) = started(volcano());
    let mut elastic = scaled("a");
    elastic["spec"]["workerGroupSpecs"][0]["minReplicas"] = json!(2);
    elastic["spec"]["workerGroupSpecs"][0]["replicas"] = json!(6);
    server.create("rayclusters", elastic).unwrap();
    seconds(5).await;
    assert_eq!(pods(&server, "worker").len(), 6);
    refuse(&process);
    edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["minReplicas"] = json!(4));
    seconds(5).await;
    let lost = pods(&server, "worker").remove(0);
    server.delete("pods", "default", &lost).unwrap();
    seconds(5).await;
    assert_eq!(pods(&server, "worker").len(), 6, "one was lost");
    edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(7));
    seconds(5).await;
    assert_eq!(pods(&server, "worker").len(), 7, "one more is asked for");
    process.end().await;

    let (server, _, process) = started(volcano());
    server.create("rayclusters", cluster("a", 4, 1)).unwrap();
    seconds(5).await;
    refuse(&process);
    edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(8));
    seconds(5).await;
    process.connection.reset_counts();
    let failing = failing(&server);
    for _ in 0..300 {
        seconds(1).await;
        assert!(pods(&server, "worker").len() <= 4);
    }
    failing.abort();
    let made = process.connection.count(Verb::Create, "pods");
    assert!((16..=28).contains(&made), "{made} were made");
    process.end().await;
}

/// Pods of a group that are not on their way out.
fn of_group(server: &ApiServer, group: &str) -> Vec<String> {
    let mut names = Vec::new();
    server.each("pods", "", |pod| {
        let is_leaving = pod.pointer("/metadata/deletionTimestamp").is_some();
        if pod["metadata"]["labels"]["ray.io/group"] == group && !is_leaving {
            names.push(pod["metadata"]["name"].as_str().unwrap().to_owned());
        }
    });
    names
}

#[tokio::test(start_paused = true)]
async fn a_worker_in_a_crash_loop_is_no_reason_for_others_to_wait() {
    for hosts in [1, 2] {
        let (server, _, process) = started(Config::default());
        server.create("rayclusters", cluster("a", 5, hosts)).unwrap();
        seconds(5).await;
        process.connection.reset_counts();
        let fail = |replica: u32| {
            let mut names = Vec::new();
            server.each("pods", "", |pod| {
                let slot = pod["metadata"]["annotations"]["mobula.dev/slot"].as_str().unwrap_or_default();
                let is_there = slot.starts_with(&format!("{replica}.0."));
                let is_worker = pod["metadata"]["labels"]["ray.io/group"] == "w";
                if is_there && is_worker && pod["status"]["phase"] == "Running" {
                    names.push(pod["metadata"]["name"].as_str().unwrap().to_owned());
                }
            });
            for name in &names {
                server.edit("pods", "default", name, |pod| pod["status"]["phase"] = json!("Failed")).unwrap();
            }
        };
        for second in 0..300 {
            fail(1);
            if second == 120 {
                assert_eq!(in_phase(&server, "Failed"), 1, "one waits");
                let before: Vec<String> = pods(&server, "worker");
                fail(3);
                assert_eq!(in_phase(&server, "Failed"), 2);
                seconds(1).await;
                assert_eq!(in_phase(&server, "Failed"), 1, "{hosts} hosts: the other one is replaced at once");
                assert_eq!(in_phase(&server, "Running") as i64, 1 + 4 * hosts, "{hosts} hosts: {before:?}");
            }
            seconds(1).await;
        }
        let made = process.connection.count(Verb::Create, "pods");
        assert!(made <= 8 * hosts as u64, "{hosts} hosts: {made} were made");
        process.end().await;
    }
}

/// A scheduler would take the head and the first workers for a whole gang.
#[tokio::test(start_paused = true)]
async fn a_gang_that_comes_back_larger_has_grown_before_its_first_pod() {
    let config = Config { batch_scheduler: "volcano".parse().ok(), ..Config::default() };
    let (server, _, process) = started(config);
    let mut gang = cluster("a", 2, 1);
    gang["metadata"]["labels"] = json!({"ray.io/gang-scheduling-enabled": "true"});
    server.create("rayclusters", gang).unwrap();
    seconds(5).await;
    edit(&server, |it| it["spec"]["suspend"] = json!(true));
    seconds(60).await;
    assert!(pods(&server, "worker").is_empty());
    let whole = |review: &mut Review<'_>| {
        let group = review.objects("podgroups.scheduling.volcano.sh", "default").next();
        let is_whole = group.is_some_and(|group| group["spec"]["minMember"] == 9);
        if is_whole || review.asked.verb != Verb::Create { Ok(()) } else { Err(Refusal::of_code(422, "too early")) }
    };
    server.admit("pods", whole).unwrap();
    edit(&server, |it| {
        it["spec"]["suspend"] = json!(false);
        it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(8);
    });
    seconds(30).await;
    assert_eq!(pods(&server, "worker").len(), 8);
    assert_eq!((said(&server, "FailedToCreateWorkerPod"), said(&server, "FailedToCreateHeadPod")), (0, 0));
    process.end().await;
}
