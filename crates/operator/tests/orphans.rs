//! What a RayCluster has left behind that was deleted without what belonged to it, and what users have made before it came.
#![allow(clippy::unwrap_used, reason = "it is a test")]

mod bench;

use std::{collections::BTreeMap, time::Duration};

use bench::{Process, cluster, condition, kubelet, said, scaled, seconds, server};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, PropagationPolicy},
    core::{ApiResource, GroupVersionKind},
};
use mobula_apiserver::{ApiServer, End, Refusal, Rule, Verb};
use mobula_operator::config::Config;
use serde_json::{Value, json};

/// Deletes `a` and leaves all that belongs to it.
async fn delete_alone(server: &ApiServer, process: &Process) {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("ray.io", "v1", "RayCluster"));
    let client = process.connection.client("default");
    let clusters: Api<DynamicObject> = Api::namespaced_with(client, "default", &kind);
    let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    let _ = clusters.delete("a", &params).await.unwrap();
    let _ = server.settle();
}

/// uid and owner of each object of a kind.
fn owned(server: &ApiServer, plural: &str) -> BTreeMap<String, (String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entry = |object: Value| {
        let metadata = &object["metadata"];
        let owner = text(&metadata["ownerReferences"][0]["uid"]);
        (text(&metadata["name"]), (text(&metadata["uid"]), owner))
    };
    server.list(plural, "default").into_iter().map(entry).collect()
}

fn uids(owned: &BTreeMap<String, (String, String)>) -> Vec<(&String, &String)> {
    owned.iter().map(|(name, (uid, _))| (name, uid)).collect()
}

/// With a Service for each replica of several hosts, and one for Serve.
fn with_services() -> Value {
    let mut cluster = cluster("a", 2, 2);
    cluster["metadata"]["annotations"] = json!({"ray.io/enable-serve-service": "true"});
    cluster
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_made_again_goes_on_with_the_pods_that_it_left() {
    let server = server(1);
    kubelet(&server);
    let process = Process::start(server.connect(), Config::default(), "a");
    server.create("rayclusters", with_services()).unwrap();
    seconds(20).await;
    let (pods, services) = (owned(&server, "pods"), owned(&server, "services"));
    assert_eq!((pods.len(), services.is_empty()), (5, false));
    delete_alone(&server, &process).await;
    seconds(20).await;
    let left = owned(&server, "pods");
    assert_eq!(uids(&left), uids(&pods));
    assert!(left.values().all(|(_, owner)| owner.is_empty()), "{left:?}");
    let uid = server.create("rayclusters", with_services()).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    seconds(20).await;
    for (plural, before) in [("pods", pods), ("services", services)] {
        let now = owned(&server, plural);
        assert_eq!(uids(&now), uids(&before), "{plural}");
        assert!(now.values().all(|(_, owner)| *owner == uid), "{plural}: {now:?}");
    }
    assert_eq!(server.get("rayclusters", "default", "a").unwrap()["status"]["state"], "ready");
    assert!(said(&server, "AdoptedPod") > 0);
    // What was adopted is grown and shrunk as ever, and goes with the cluster.
    for (replicas, pods) in [(3, 7), (1, 3)] {
        server
            .edit("rayclusters", "default", "a", |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(replicas))
            .unwrap();
        seconds(20).await;
        assert_eq!(owned(&server, "pods").len(), pods);
    }
    server.delete("rayclusters", "default", "a").unwrap();
    let _ = server.settle();
    seconds(60).await;
    assert_eq!((owned(&server, "pods").len(), owned(&server, "services").len()), (0, 0));
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn no_second_head_comes_while_one_that_nobody_owns_can_not_be_adopted() {
    let server = server(1);
    kubelet(&server);
    let process = Process::start(server.connect(), Config::default(), "a");
    server.create("rayclusters", cluster("a", 1, 1)).unwrap();
    seconds(20).await;
    let before = owned(&server, "pods");
    delete_alone(&server, &process).await;
    seconds(5).await;
    let refusal = Refusal::of_code(403, "pods is forbidden: no");
    process.connection.fail(Rule::on(Verb::Patch, "pods").always().refuse(refusal));
    server.create("rayclusters", cluster("a", 1, 1)).unwrap();
    seconds(60).await;
    assert_eq!(uids(&owned(&server, "pods")), uids(&before));
    let (status, reason, message) = condition(&server, "a", "ReplicaFailure").unwrap();
    assert_eq!((status.as_str(), message.contains("forbidden")), ("True", true), "{reason}: {message}");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_and_a_head_service_that_users_made_are_used_and_stay_theirs() {
    let server = server(1);
    kubelet(&server);
    let metadata = |name: &str| json!({"name": name, "namespace": "default"});
    server
        .create(
            "secrets",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("a"), "data": {"auth_token": "YWJj"}}),
        )
        .unwrap();
    let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("mine"), "spec": {"ports": [{"port": 6379}]}});
    service["metadata"]["labels"] =
        json!({"ray.io/cluster": "a", "ray.io/node-type": "head", "ray.io/identifier": "a-head"});
    server.create("services", service).unwrap();
    let mut cluster = scaled("a");
    cluster["spec"]["authOptions"] = json!({"mode": "token"});
    server.create("rayclusters", cluster).unwrap();
    let process = Process::start(server.connect(), Config::default(), "a");
    seconds(20).await;
    assert_eq!(owned(&server, "pods").len(), 2);
    let status = server.get("rayclusters", "default", "a").unwrap()["status"].clone();
    assert_eq!((&status["state"], &status["head"]["serviceName"]), (&json!("ready"), &json!("mine")));
    for plural in ["secrets", "services"] {
        let there = owned(&server, plural);
        assert_eq!(there.len(), 1, "{there:?}");
        assert!(there.values().all(|(_, owner)| owner.is_empty()), "{there:?}");
    }
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn ways_in_that_users_made_are_used_as_they_are() {
    let server = server(1);
    kubelet(&server);
    let metadata = |name: &str, labels: Value| json!({"name": name, "namespace": "default", "labels": labels});
    let rules = json!([{"host": "mine"}]);
    // One of the name that ours would have, and one of another name that the labels of the cluster lead to.
    for (name, labels) in [("a-head-ingress", json!({})), ("mine", json!({"ray.io/cluster": "b"}))] {
        let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"rules": rules},
                             "metadata": metadata(name, labels)});
        server.create("ingresses.networking.k8s.io", ingress).unwrap();
    }
    let service = json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 8000}]},
                         "metadata": metadata("a-serve-svc", json!({}))});
    server.create("services", service).unwrap();
    for name in ["a", "b"] {
        let mut cluster = cluster(name, 1, 1);
        cluster["metadata"]["annotations"] = json!({"ray.io/enable-serve-service": "true"});
        cluster["spec"]["headGroupSpec"]["enableIngress"] = json!(true);
        server.create("rayclusters", cluster).unwrap();
    }
    let process = Process::start(server.connect(), Config::default(), "a");
    seconds(20).await;
    for name in ["a", "b"] {
        let status = server.get("rayclusters", "default", name).unwrap()["status"].clone();
        assert_eq!(status["state"], "ready", "{name}: {status}");
    }
    let ingresses = server.list("ingresses.networking.k8s.io", "default");
    assert_eq!(ingresses.len(), 2);
    assert!(ingresses.iter().all(|it| it["spec"]["rules"] == rules && it["metadata"]["ownerReferences"].is_null()));
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_given_back_to_an_owner_that_is_leaving() {
    let server = server(1);
    kubelet(&server);
    let connection = server.connect();
    let process = Process::start(connection, Config::default(), "a");
    server.create("rayclusters", cluster("a", 1, 1)).unwrap();
    seconds(20).await;
    let before = owned(&server, "pods");
    // What becomes of pods is seen at once, what becomes of the RayCluster long after.
    process.connection.fail(Rule::on(Verb::Watch, "rayclusters").always().lag(Duration::from_secs(60)));
    server.cut_watches("rayclusters", End::Closed);
    seconds(5).await;
    delete_alone(&server, &process).await;
    seconds(120).await;
    let _ = server.settle();
    let after = owned(&server, "pods");
    assert_eq!(uids(&after), uids(&before));
    assert!(after.values().all(|(_, owner)| owner.is_empty()), "{after:?}");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_still_have_an_owner_that_is_gone_are_waited_for() {
    let server = server(1);
    kubelet(&server);
    let process = Process::start(server.connect(), Config::default(), "a");
    server.create("rayclusters", cluster("a", 1, 4)).unwrap();
    seconds(100).await;
    let before = owned(&server, "pods");
    process.connection.fail(Rule::on(Verb::Watch, "pods").always().lag(Duration::from_secs(20)));
    server.cut_watches("pods", End::Closed);
    seconds(25).await;
    delete_alone(&server, &process).await;
    server.create("rayclusters", cluster("a", 1, 4)).unwrap();
    seconds(120).await;
    let after = owned(&server, "pods");
    assert_eq!(uids(&after), uids(&before));
    assert_eq!(server.get("rayclusters", "default", "a").unwrap()["status"]["state"], "ready");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_comes_back_suspended_is_suspended_once_what_it_left_is_gone() {
    let server = server(1);
    kubelet(&server);
    let process = Process::start(server.connect(), Config::default(), "a");
    server.create("rayclusters", cluster("a", 2, 1)).unwrap();
    seconds(20).await;
    delete_alone(&server, &process).await;
    let refusal = Refusal::of_code(500, "not now");
    process.connection.fail(Rule::on(Verb::Patch, "pods").times(12).refuse(refusal));
    let mut suspended = cluster("a", 2, 1);
    suspended["spec"]["suspend"] = json!(true);
    server.create("rayclusters", suspended).unwrap();
    let mut was_suspended = false;
    for _ in 0..120 {
        seconds(1).await;
        let is_suspended = server.get("rayclusters", "default", "a").unwrap()["status"]["state"] == "suspended";
        assert!(!is_suspended || owned(&server, "pods").is_empty(), "suspended, and pods are there");
        was_suspended |= is_suspended;
    }
    assert!(was_suspended && owned(&server, "pods").is_empty());
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_nobody_owns_and_that_hangs_is_replaced_once_it_is_lost() {
    let server = server(1);
    let nodes = kubelet(&server);
    let process = Process::start(server.connect(), Config::default(), "a");
    let mut labelled = cluster("a", 1, 1);
    // A label of a template may say anything.
    labelled["spec"]["headGroupSpec"]["template"]["metadata"] =
        json!({"labels": {"app.kubernetes.io/created-by": "us"}});
    server.create("rayclusters", labelled.clone()).unwrap();
    seconds(20).await;
    let head = bench::pods(&server, "head")[0].clone();
    delete_alone(&server, &process).await;
    nodes.lock().unwrap().dead.insert(head.clone());
    server.delete("pods", "default", &head).unwrap();
    server.create("rayclusters", labelled).unwrap();
    seconds(60).await;
    assert_eq!(bench::pods(&server, "head"), [""; 0], "it may still run");
    seconds(60).await;
    assert_eq!(bench::pods(&server, "head").len(), 1);
    process.end().await;
}
