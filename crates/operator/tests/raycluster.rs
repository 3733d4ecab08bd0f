//! The reconciler, its executor and the API server together, in paused time.

mod bench;

use std::time::Duration;

use bench::{Process, cluster, condition, kubelet, pods, server, started};
use mobula_apiserver::{Refusal, Rule, Verb};
use mobula_operator::{config::Config, operator::Ended};
use serde_json::json;
use tokio::time::sleep;

async fn settle() {
    sleep(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_becomes_ready_with_few_requests() {
    let (server, _, process) = started(Config::default());
    sleep(Duration::from_secs(1)).await;
    server.create("rayclusters", cluster("a", 5, 1)).unwrap();
    settle().await;
    assert_eq!((pods(&server, "head").len(), pods(&server, "worker").len()), (1, 5));
    let status = server.get("rayclusters", "default", "a").unwrap()["status"].clone();
    assert_eq!((&status["state"], &status["readyWorkerReplicas"]), (&json!("ready"), &json!(5)), "{status:#}");
    let counts = process.connection.counts();
    let writes: u64 = counts
        .iter()
        .filter(|((verb, name), _)| ![Verb::List, Verb::Watch].contains(verb) && !name.starts_with("leases"))
        .map(|(_, count)| count)
        .sum();
    assert!(writes <= 12, "{counts:?}");
    assert_eq!(process.end().await, Ended::Stopped);
}

#[tokio::test(start_paused = true)]
async fn scaling_down_takes_pending_pods_first_and_names_are_not_used_again() {
    let (server, nodes, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 3, 1)).unwrap();
    settle().await;
    let running = pods(&server, "worker");
    nodes.lock().unwrap().paused = true;
    let replicas = |count: i64| {
        server
            .edit("rayclusters", "default", "a", |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(count))
            .unwrap();
    };
    replicas(6);
    settle().await;
    assert_eq!(pods(&server, "worker").len(), 6);
    replicas(3);
    settle().await;
    assert_eq!(pods(&server, "worker"), running);
    replicas(0);
    settle().await;
    replicas(3);
    nodes.lock().unwrap().paused = false;
    settle().await;
    let now = pods(&server, "worker");
    assert_eq!(now.len(), 3);
    assert!(now.iter().all(|name| !running.contains(name)), "{now:?} {running:?}");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn suspending_deletes_all_pods_and_resuming_makes_them_again() {
    let (server, _, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 2, 1)).unwrap();
    settle().await;
    server.edit("rayclusters", "default", "a", |it| it["spec"]["suspend"] = json!(true)).unwrap();
    settle().await;
    assert_eq!(server.count("pods"), 0);
    assert_eq!(condition(&server, "a", "RayClusterSuspended").unwrap().0, "True");
    assert_eq!(condition(&server, "a", "RayClusterProvisioned").unwrap().0, "False");
    assert_eq!(server.get("rayclusters", "default", "a").unwrap()["status"]["state"], "suspended");
    server.edit("rayclusters", "default", "a", |it| it["spec"]["suspend"] = json!(false)).unwrap();
    settle().await;
    assert_eq!(server.count("pods"), 3);
    assert_eq!(condition(&server, "a", "RayClusterProvisioned").unwrap().0, "True");
    assert_eq!(condition(&server, "a", "RayClusterSuspended").unwrap().0, "False");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_refuses_one_group_is_told_and_holds_nobody_up() {
    let server = server(1);
    kubelet(&server);
    server
        .admit("pods", |review| {
            if review.object["metadata"]["labels"]["ray.io/group"] == "w"
                && review.object["metadata"]["labels"]["ray.io/cluster"] == "a"
            {
                return Err(Refusal::new(403, "Forbidden", "exceeded quota: pods"));
            }
            Ok(())
        })
        .unwrap();
    let process = Process::start(server.connect(), Config::default(), "a");
    let mut two = cluster("a", 50, 1);
    let mut other = two["spec"]["workerGroupSpecs"][0].clone();
    other["groupName"] = json!("x");
    other["replicas"] = json!(2);
    two["spec"]["workerGroupSpecs"].as_array_mut().unwrap().push(other);
    server.create("rayclusters", two).unwrap();
    server.create("rayclusters", cluster("b", 2, 1)).unwrap();
    sleep(Duration::from_secs(2)).await;
    let (status, reason, message) = condition(&server, "a", "ReplicaFailure").unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "FailedCreateWorkerPod"));
    assert!(message.contains("exceeded quota"), "{message}");
    assert_eq!(pods(&server, "worker").len(), 4, "group x and cluster b");
    settle().await;
    assert!(process.connection.count(Verb::Create, "pods") < 40, "refused again and again");
    server.admit_all();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(pods(&server, "worker").len(), 54);
    assert_eq!(condition(&server, "a", "ReplicaFailure"), None);
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_stuck_on_a_dead_node_is_replaced() {
    let (server, nodes, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 2, 1)).unwrap();
    settle().await;
    let all: Vec<String> = pods(&server, "worker").into_iter().chain(pods(&server, "head")).collect();
    nodes.lock().unwrap().dead = all.iter().cloned().collect();
    for name in &all {
        server.delete("pods", "default", name).unwrap();
    }
    sleep(Duration::from_secs(10)).await;
    assert_eq!(
        (pods(&server, "head").len(), pods(&server, "worker").len()),
        (0, 2),
        "workers at once, the head not yet"
    );
    sleep(Duration::from_secs(120)).await;
    assert_eq!((pods(&server, "head").len(), pods(&server, "worker").len()), (1, 2));
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn replicas_of_several_hosts_come_and_go_whole() {
    let (server, nodes, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 3, 4)).unwrap();
    settle().await;
    let before = pods(&server, "worker");
    assert_eq!(before.len(), 12);
    // One host fails: its replica is replaced, the others stay.
    server.edit("pods", "default", &before[0], |pod| pod["status"]["phase"] = json!("Failed")).unwrap();
    settle().await;
    let after = pods(&server, "worker");
    assert_eq!(after.len(), 12);
    assert_eq!(after.iter().filter(|name| before.contains(name)).count(), 8);
    // One of three is taken away whole.
    server.edit("rayclusters", "default", "a", |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(2)).unwrap();
    settle().await;
    let mut replicas = std::collections::BTreeMap::<String, usize>::new();
    server.each("pods", "", |pod| {
        if let Some(name) = pod["metadata"]["labels"]["ray.io/worker-group-replica-name"].as_str() {
            *replicas.entry(name.to_owned()).or_default() += 1;
        }
    });
    assert_eq!(replicas.values().copied().collect::<Vec<_>>(), [4, 4]);
    drop(nodes);
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_invalid_cluster_is_told_so_and_stops_nobody() {
    let (server, _, process) = started(Config::default());
    let mut invalid = cluster("a", 2, 1);
    invalid["spec"]["workerGroupSpecs"][0]["minReplicas"] = json!(9);
    invalid["spec"]["workerGroupSpecs"][0]["maxReplicas"] = json!(3);
    server.create("rayclusters", invalid).unwrap();
    server.create("rayclusters", cluster("b", 2, 1)).unwrap();
    settle().await;
    assert_eq!(pods(&server, "worker").len(), 2);
    assert_eq!(condition(&server, "a", "Invalid").unwrap().1, "InvalidRayClusterSpec");
    let events = server.list("events", "default");
    assert_eq!(events.iter().filter(|it| it["reason"] == "InvalidRayClusterSpec").count(), 1);
    server
        .edit("rayclusters", "default", "a", |it| it["spec"]["workerGroupSpecs"][0]["maxReplicas"] = json!(9))
        .unwrap();
    settle().await;
    assert_eq!(condition(&server, "a", "Invalid"), None);
    assert_eq!(pods(&server, "worker").len(), 11);
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_make_nothing_twice() {
    let server = server(1);
    kubelet(&server);
    let connection = server.connect();
    connection.fail(Rule::on(Verb::Create, "pods").after(1).times(3).lose_answer());
    let process = Process::start(connection, Config::default(), "a");
    server.create("rayclusters", cluster("a", 5, 1)).unwrap();
    sleep(Duration::from_secs(20)).await;
    assert_eq!((pods(&server, "head").len(), pods(&server, "worker").len()), (1, 5));
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_operators_one_leads_and_hands_over() {
    let (server, _, first) = started(Config::default());
    sleep(Duration::from_secs(3)).await;
    let second = Process::start(server.connect(), Config::default(), "b");
    server.create("rayclusters", cluster("a", 2, 1)).unwrap();
    settle().await;
    assert_eq!(second.connection.count(Verb::Create, "pods"), 0);
    assert_eq!(first.end().await, Ended::Stopped);
    server.edit("rayclusters", "default", "a", |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(4)).unwrap();
    settle().await;
    assert_eq!(second.connection.count(Verb::Create, "pods"), 2);
    second.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_role_of_an_older_operator_is_brought_up_to_date() {
    let (server, _, process) = started(Config::default());
    let mut scaled = cluster("a", 1, 1);
    scaled["spec"]["enableInTreeAutoscaling"] = json!(true);
    server.create("rayclusters", scaled).unwrap();
    settle().await;
    let rules = server.get("roles", "default", "a").unwrap()["rules"].clone();
    server
        .edit("roles", "default", "a", |role| {
            role["rules"] = json!([{"apiGroups": ["x"], "resources": ["y"], "verbs": ["z"]}]);
        })
        .unwrap();
    settle().await;
    let mended = server.get("roles", "default", "a").unwrap()["rules"].clone();
    assert_eq!(mended.as_array().unwrap()[1..], rules.as_array().unwrap()[..]);
    process.end().await;
}
