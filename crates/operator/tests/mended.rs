//! What was wrong once, over an API server in paused time: each of these failed before it was mended.
#![allow(clippy::unwrap_used, reason = "it is a test")]

mod bench;

use bench::{Process, cluster, condition, edit, kubelet, pods, said, scaled, seconds, server, started};
use mobula_apiserver::{Refusal, Review, Rule, Verb};
use mobula_operator::config::Config;
use serde_json::{Value, json};

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

/// While the account of the head was in back-off nothing was said of its workers, and after that all of it again.
#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_said_once_whatever_else_waits_for_its_back_off() {
    let server = server(1);
    kubelet(&server);
    server.admit("serviceaccounts", |_| Err(Refusal::new(403, "Forbidden", "no more accounts"))).unwrap();
    let process = Process::start(server.connect(), Config::default(), "a");
    let mut faulty = scaled("a");
    faulty["spec"]["workerGroupSpecs"][0]["replicas"] = json!(200_000);
    faulty["spec"]["workerGroupSpecs"][0]["maxReplicas"] = json!(200_000);
    server.create("rayclusters", faulty).unwrap();
    seconds(10).await;
    for _ in 0..120 {
        seconds(1).await;
        let told = condition(&server, "a", "ReplicaFailure").unwrap().2;
        assert!(told.contains("200000") && told.contains("no more accounts"), "{told}");
    }
    assert_eq!((server.count("pods"), said(&server, "FailedToCreateWorkerPod")), (0, 1));
    // It has changed, and ended, in between.
    edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(1));
    seconds(60).await;
    let told = condition(&server, "a", "ReplicaFailure").unwrap().2;
    assert!(!told.contains("200000"), "{told}");
    edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(200_000));
    seconds(60).await;
    assert_eq!(said(&server, "FailedToCreateWorkerPod"), 2);
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn surplus_workers_go_though_something_that_pods_need_cannot_be_made() {
    let (server, _, process) = started(Config::default());
    let mut stopped = scaled("a");
    stopped["spec"]["workerGroupSpecs"][0]["replicas"] = json!(3);
    server.create("rayclusters", stopped).unwrap();
    seconds(10).await;
    server.delete("serviceaccounts", "default", "a").unwrap();
    server.admit("serviceaccounts", |_| Err(Refusal::new(403, "Forbidden", "no more accounts"))).unwrap();
    seconds(60).await;
    let named = pods(&server, "worker").remove(1);
    edit(&server, |it| {
        let group = &mut it["spec"]["workerGroupSpecs"][0];
        group["replicas"] = json!(2);
        group["scaleStrategy"] = json!({"workersToDelete": [named]});
    });
    seconds(60).await;
    let left = pods(&server, "worker");
    assert!(left.len() == 2 && !left.contains(&named), "{left:?}");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn of_a_replica_that_cannot_be_made_anew_now_the_other_hosts_stay() {
    let (server, _, process) = started(Config::default());
    let mut hosts = scaled("a");
    hosts["spec"]["workerGroupSpecs"][0]["numOfHosts"] = json!(3);
    server.create("rayclusters", hosts).unwrap();
    seconds(10).await;
    server.delete("serviceaccounts", "default", "a").unwrap();
    server.admit("serviceaccounts", |_| Err(Refusal::new(403, "Forbidden", "no more accounts"))).unwrap();
    seconds(60).await;
    let [lost, broken, runs] = &pods(&server, "worker")[..] else { panic!("three hosts") };
    server.delete("pods", "default", lost).unwrap();
    server.edit("pods", "default", broken, |pod| pod["status"]["phase"] = json!("Failed")).unwrap();
    seconds(120).await;
    assert!(pods(&server, "worker").contains(runs), "{:?}", pods(&server, "worker"));
    server.admit_all();
    seconds(120).await;
    let now = pods(&server, "worker");
    assert!(now.len() == 3 && !now.contains(broken) && !now.contains(runs), "{now:?}");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_refused_holds_up_no_other() {
    let server = server(1);
    kubelet(&server);
    let refused = |review: &mut Review<'_>| match review.object["metadata"]["name"].as_str() {
        Some("a-head-svc") => Err(Refusal::new(403, "Forbidden", "no head Services")),
        _ => Ok(()),
    };
    server.admit("services", refused).unwrap();
    let process = Process::start(server.connect(), Config::default(), "a");
    let mut hosts = cluster("a", 1, 2);
    hosts["metadata"]["annotations"] = json!({"ray.io/enable-serve-service": "true"});
    let ports = json!([{"name": "serve", "containerPort": 8000}]);
    hosts["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"] = ports;
    server.create("rayclusters", hosts).unwrap();
    // By then it waits for half a minute between two tries.
    seconds(120).await;
    let services = || server.list("services", "default").len();
    assert_eq!((services(), pods(&server, "worker").len()), (2, 2), "{:?}", server.list("services", "default"));
    for service in server.list("services", "default") {
        server.delete("services", "default", service["metadata"]["name"].as_str().unwrap()).unwrap();
        seconds(2).await;
        assert_eq!(services(), 2, "{}", service["metadata"]["name"]);
    }
    assert!(condition(&server, "a", "ReplicaFailure").unwrap().2.contains("no head Services"));
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
async fn the_name_in_the_template_of_the_head_is_that_of_every_head() {
    let (server, _, process) = started(Config::default());
    let mut named = cluster("a", 1, 1);
    named["spec"]["headGroupSpec"]["template"]["metadata"] = json!({"name": "my-head"});
    named["spec"]["workerGroupSpecs"][0]["template"]["metadata"] = json!({"name": "my-worker"});
    server.create("rayclusters", named).unwrap();
    for _ in 0..2 {
        seconds(10).await;
        assert_eq!(pods(&server, "head"), ["my-head"]);
        assert!(pods(&server, "worker")[0].starts_with("a-w-worker-"));
        server.delete("pods", "default", "my-head").unwrap();
    }
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

#[tokio::test(start_paused = true)]
async fn a_group_without_a_name_is_refused() {
    let (server, _, process) = started(Config::default());
    let mut nameless = cluster("a", 1, 1);
    nameless["spec"]["workerGroupSpecs"][0]["groupName"] = json!("");
    server.create("rayclusters", nameless).unwrap();
    seconds(10).await;
    assert_eq!((server.count("pods"), said(&server, "InvalidRayClusterSpec")), (0, 1));
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn conditions_are_written_whatever_their_gate_says() {
    let mut config = Config::default();
    config.gates.set(mobula_api::Gate::RayClusterStatusConditions, false);
    let (server, _, process) = started(config);
    server.create("rayclusters", cluster("a", 1, 1)).unwrap();
    seconds(10).await;
    assert!(condition(&server, "a", "RayClusterProvisioned").is_some());
    process.end().await;
}
