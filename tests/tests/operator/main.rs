//! `mobula operator` as a process against a real kube-apiserver with Mobula's own definitions, and with exactly the rights
//! that `deploy/rbac/operator.yaml` gives.
//!
//! In this file no controller-manager runs: nothing is garbage-collected; scheduler and kubelets are stood in for. The cases
//! of `controlled`, `gangs`, `redis` and `kuberay` have all that, and share a control plane.
#![allow(clippy::disallowed_methods)] // tests measure time
#![allow(clippy::unwrap_used)] // what the cases share fails them as they fail themselves

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mobula_tests::wait;
use serde_json::{Value, json};

mod case;
mod controlled;
mod gangs;
mod kuberay;
mod peer;
mod redis;
mod webhook;

use case::{Case, GROUP, LIMIT, condition, difference, is_ready, raycluster};

/// For cases that are not about leading.
const ALONE: &str = "--enable-leader-election=false";

/// The longest that a standby may take to lead once the leader has given the Lease up. It looks every two seconds; that it
/// is slow for once must not fail, that it waits for the Lease to run out (13 s at least) must.
const TAKE_OVER: Duration = Duration::from_secs(12);
/// The longest until what counts for others is told: less than it takes until counts are written (20 s).
const TOLD: Duration = Duration::from_secs(15);

/// The requests so far, once none has come for a while.
async fn until_quiet(case: &Case) -> BTreeMap<String, usize> {
    let start = Instant::now();
    let mut last = case.requests().unwrap();
    loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = case.requests().unwrap();
        if difference(&last, &now).is_empty() {
            return now;
        }
        assert!(start.elapsed() < LIMIT, "it does not become quiet: {:?}", difference(&last, &now));
        last = now;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_becomes_ready_with_few_requests() {
    let case = Case::start("ready", &[]).await.unwrap();
    let operator = case.operator("ready", &[ALONE]).await.unwrap();
    let before = case.requests().unwrap();
    case.create("ready", &raycluster("a", 3, 5, true)).await.unwrap();
    let took = case.until_status("a", "ready", is_ready).await.unwrap();
    let status = case.cluster("a").await.unwrap()["status"].take();
    for name in ["HeadPodReady", "RayClusterProvisioned"] {
        assert_eq!(condition(&status, name)["status"], "True", "{name}: {status:#}");
    }
    assert_eq!((&status["readyWorkerReplicas"], &status["observedGeneration"]), (&json!(3), &json!(1)), "{status:#}");
    assert_eq!(case.pods("ready", "head").await.unwrap().len(), 1);
    assert_eq!(case.pods("ready", "worker").await.unwrap().len(), 3);
    case.get("/api/v1/namespaces/ready/services/a-head-svc").await.unwrap();
    case.get("/api/v1/namespaces/ready/serviceaccounts/a").await.unwrap();
    let role = case.get("/apis/rbac.authorization.k8s.io/v1/namespaces/ready/roles/a").await.unwrap();
    let binding = case.get("/apis/rbac.authorization.k8s.io/v1/namespaces/ready/rolebindings/a").await.unwrap();
    assert!(role["rules"].as_array().is_some_and(|rules| rules.len() >= 3), "{role:#}");
    assert_eq!((&binding["roleRef"]["name"], &binding["subjects"][0]["name"]), (&json!("a"), &json!("a")));

    let after = until_quiet(&case).await;
    let made = difference(&before, &after);
    let verbs = operator.verbs().await.unwrap();
    eprintln!("ready after {:.2} s; requests: {made:?}; as it counts itself: {verbs:?}", took.as_secs_f64());
    assert!(!made.keys().any(|request| request.starts_with("list ") || request.starts_with("get ")), "{made:?}");
    let creations = [("pods", 4), ("services", 1), ("serviceaccounts", 1), ("roles", 1), ("rolebindings", 1)];
    for (resource, times) in creations {
        assert_eq!(made.get(&format!("create {resource}")), Some(&times), "{resource}: {made:?}");
    }
    assert!(made.values().sum::<usize>() <= 20, "{made:?}");
    let events = case.get("/api/v1/namespaces/ready/events").await.unwrap();
    let warnings: Vec<_> =
        events["items"].as_array().unwrap().iter().filter(|event| event["type"] != "Normal").collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
    assert!(!verbs.contains_key("list"), "{verbs:?}");
    assert_eq!(difference(&after, &until_quiet(&case).await), difference(&after, &after), "it is quiet afterwards");
    drop(operator);
    case.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_scaled_exactly() {
    let case = Case::start("scale", &[]).await.unwrap();
    let _operator = case.operator("scale", &[ALONE]).await.unwrap();
    case.create("scale", &raycluster("a", 3, 50, false)).await.unwrap();
    case.until_status("a", "ready", is_ready).await.unwrap();
    case.scale("a", 40).await.unwrap();
    let up = case.until_workers(40).await.unwrap();
    case.until_status("a", "40 ready", |status| status["readyWorkerReplicas"] == 40).await.unwrap();

    let mut expected = case.pods("scale", "worker").await.unwrap();
    let doomed = expected.iter().nth(7).unwrap().clone();
    let group = "/spec/workerGroupSpecs/0";
    let named = json!([
        {"op": "replace", "path": format!("{group}/replicas"), "value": 39},
        {"op": "add", "path": format!("{group}/scaleStrategy"), "value": {"workersToDelete": [doomed]}},
    ]);
    case.patch("a", &named).await.unwrap();
    case.until_status("a", "39 ready", |status| status["readyWorkerReplicas"] == 39).await.unwrap();
    expected.remove(&doomed);
    assert_eq!(case.pods("scale", "worker").await.unwrap(), expected, "only {doomed} was to go");

    case.scale("a", 2).await.unwrap();
    let down = case.until_workers(2).await.unwrap();
    case.until_status("a", "2 ready", |status| status["readyWorkerReplicas"] == 2).await.unwrap();
    let left = case.pods("scale", "worker").await.unwrap();
    assert!(left.is_subset(&expected), "{left:?} are not all of the old ones");
    let most = case.nodes.most("scale", GROUP);
    eprintln!("3→40: {:.2} s, 39→2: {:.2} s, most at once: {most}", up.as_secs_f64(), down.as_secs_f64());
    assert_eq!(most, 40);
    case.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_suspended_and_resumed() {
    let case = Case::start("suspend", &[]).await.unwrap();
    let _operator = case.operator("suspend", &[ALONE]).await.unwrap();
    case.create("suspend", &raycluster("a", 3, 5, true)).await.unwrap();
    case.until_status("a", "ready", is_ready).await.unwrap();
    case.patch("a", &json!([{"op": "add", "path": "/spec/suspend", "value": true}])).await.unwrap();
    let down = case.until_status("a", "suspended", |status| status["state"] == "suspended").await.unwrap();
    for node_type in ["head", "worker"] {
        assert_eq!(case.pods("suspend", node_type).await.unwrap().len(), 0, "{node_type}");
    }
    let status = case.cluster("a").await.unwrap()["status"].take();
    assert_eq!(condition(&status, "RayClusterSuspended")["status"], "True", "{status:#}");
    case.get("/api/v1/namespaces/suspend/services/a-head-svc").await.unwrap();
    case.patch("a", &json!([{"op": "replace", "path": "/spec/suspend", "value": false}])).await.unwrap();
    let up = case.until_status("a", "ready again", is_ready).await.unwrap();
    case.until_workers(3).await.unwrap();
    let status = case.cluster("a").await.unwrap()["status"].take();
    assert_eq!(condition(&status, "RayClusterSuspended")["status"], "False", "{status:#}");
    eprintln!("suspended after {:.2} s, ready again after {:.2} s", down.as_secs_f64(), up.as_secs_f64());
    case.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_leaves_nothing_too_much() {
    const WANTED: usize = 60;
    let case = Case::start("killed", &[]).await.unwrap();
    // Slowly, so that it is killed in the middle on a busy machine, too.
    let flags = [ALONE, "--qps=10", "--burst=1"];
    let operator = case.operator("killed-0", &flags).await.unwrap();
    case.create("killed", &raycluster("a", WANTED as u32, WANTED as u32, false)).await.unwrap();
    let workers = async || Ok(case.pods("killed", "worker").await?.len());
    wait::until("some workers", LIMIT, workers, |n| *n >= 15).await.unwrap();
    drop(operator);
    let first = workers().await.unwrap();
    let operator = case.operator("killed-1", &flags).await.unwrap();
    wait::until("more workers", LIMIT, workers, |n| *n >= first + 10).await.unwrap();
    drop(operator);
    let second = workers().await.unwrap();
    assert!(first < WANTED && second < WANTED, "killed too late: {first}, {second}");
    let _operator = case.operator("killed-2", &[ALONE]).await.unwrap();
    case.until_workers(WANTED).await.unwrap();
    case.until_status("a", "ready", is_ready).await.unwrap();
    wait::throughout("60 workers", Duration::from_secs(1), workers, |n| *n == WANTED).await.unwrap();
    let most = case.nodes.most("killed", GROUP);
    eprintln!("killed at {first} and {second} of {WANTED} workers; most at once: {most}");
    assert_eq!((most, case.pods("killed", "head").await.unwrap().len()), (WANTED, 1));
    case.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_operators_one_writes_and_the_other_takes_over() {
    let case = Case::start("lease", &[]).await.unwrap();
    let mut first = case.operator("lease-first", &[]).await.unwrap();
    wait::until("the first leads", LIMIT, async || first.leads().await, |leads| *leads).await.unwrap();
    let second = case.operator("lease-second", &[]).await.unwrap();
    case.create("lease", &raycluster("a", 3, 9, false)).await.unwrap();
    case.until_status("a", "ready", is_ready).await.unwrap();
    assert!(!first.verbs().await.unwrap().is_empty());
    let by_second = second.verbs().await.unwrap();
    assert!(by_second.is_empty(), "the one that does not lead has made requests: {by_second:?}");

    // There is work under way when the leader is told to stop.
    case.scale("a", 9).await.unwrap();
    let start = Instant::now();
    let status = first.process.terminate(LIMIT).await.unwrap();
    assert!(status.success(), "the leader ended with {status} after SIGTERM");
    let ended = start.elapsed();
    wait::until("the second leads", LIMIT, async || second.leads().await, |leads| *leads).await.unwrap();
    let took = start.elapsed();
    case.scale("a", 5).await.unwrap();
    case.until_status("a", "5 ready", |status| status["readyWorkerReplicas"] == 5).await.unwrap();
    case.until_workers(5).await.unwrap();
    let most = case.nodes.most("lease", GROUP);
    eprintln!(
        "the leader ended {:.2} s after SIGTERM, the other led after {:.2} s; most workers at once: {most}",
        ended.as_secs_f64(),
        took.as_secs_f64()
    );
    assert!(took < TAKE_OVER, "{took:?}");
    assert!(most <= 9, "{most}");
    case.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_told_at_once_and_stops_nobody_else() {
    let case = Case::start("quota", &["no-quota"]).await.unwrap();
    let _operator = case.operator("quota", &[ALONE]).await.unwrap();
    let place = case.place("quota").await.unwrap();
    place.set_pod_quota(2, 0).await.unwrap();
    case.create("quota", &raycluster("a", 3, 5, false)).await.unwrap();
    let is_told = |status: &Value| {
        let failure = condition(status, "ReplicaFailure");
        let message = failure["message"].as_str().unwrap_or_default();
        failure["status"] == "True"
            && failure["reason"] == "FailedCreateWorkerPod"
            && message.contains("exceeded quota")
    };
    let told = case.until_status("a", "the quota told", is_told).await.unwrap();
    case.create("no-quota", &raycluster("b", 3, 5, false)).await.unwrap();
    let other = case.until_status_in("no-quota", "b", "the other ready", is_ready).await.unwrap();
    assert_eq!(case.pods("quota", "worker").await.unwrap().len(), 1);
    place.remove_pod_quota().await.unwrap();
    let mended = case.until_status("a", "ready without the quota", is_ready).await.unwrap();
    let status = case.cluster("a").await.unwrap()["status"].take();
    assert!(condition(&status, "ReplicaFailure").is_null(), "{status:#}");
    eprintln!(
        "told after {:.2} s, the other ready after {:.2} s, mended {:.2} s after the quota went",
        told.as_secs_f64(),
        other.as_secs_f64(),
        mended.as_secs_f64()
    );
    assert!(told < TOLD, "{told:?}");
    case.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_cluster_is_told_and_stops_nobody_else() {
    let case = Case::start("invalid", &[]).await.unwrap();
    let _operator = case.operator("invalid", &[ALONE]).await.unwrap();
    let mut twice = raycluster("twice", 1, 5, false);
    let group = twice["spec"]["workerGroupSpecs"][0].clone();
    twice["spec"]["workerGroupSpecs"] = json!([group, group]);
    case.create("invalid", &twice).await.unwrap();
    let is_told = |status: &Value| {
        let invalid = condition(status, "Invalid");
        let message = invalid["message"].as_str().unwrap_or_default();
        invalid["status"] == "True" && invalid["reason"] == "InvalidRayClusterSpec" && message.contains(GROUP)
    };
    let told = case.until_status("twice", "the fault told", is_told).await.unwrap();
    let events = async || {
        let list = case.get("/api/v1/namespaces/invalid/events").await?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    };
    let is_event = |event: &Value| {
        event["reason"] == "InvalidRayClusterSpec"
            && event["type"] == "Warning"
            && event["involvedObject"]["name"] == "twice"
    };
    wait::until("the Event", LIMIT, events, |events: &Vec<Value>| events.iter().any(is_event)).await.unwrap();
    case.create("invalid", &raycluster("good", 1, 5, false)).await.unwrap();
    case.until_status("good", "the other ready", is_ready).await.unwrap();
    let heads = case.pods("invalid", "head").await.unwrap();
    assert!(heads.len() == 1 && heads.iter().all(|name| name.starts_with("good-")), "{heads:?}");
    eprintln!("told after {:.2} s", told.as_secs_f64());
    case.finish().unwrap();
}
