//! What the operator asks of an API server, counted. KubeRay 1.6.2 was measured to send 16 requests for each of many
//! RayClusters of one head and five workers, and 18 for one alone.
#![allow(clippy::unwrap_used, reason = "it is a test")]

mod bench;

use std::{collections::BTreeMap, time::Duration};

use bench::{Process, cluster, condition, kubelet, run, server, started};
use mobula_apiserver::{ApiServer, Asked, Verb, Verdict};
use mobula_operator::config::Config;
use serde_json::{Value, json};
use tokio::time::sleep;

const CLUSTERS: u64 = 20;

/// Requests by verb and resource: of leases and watches there are as many without any RayCluster.
fn requests(process: &Process) -> BTreeMap<(Verb, String), u64> {
    let mut counts = process.connection.counts();
    counts.retain(|(verb, resource), _| ![Verb::List, Verb::Watch].contains(verb) && !resource.starts_with("leases"));
    counts
}

fn are_provisioned(server: &ApiServer) -> bool {
    let is_provisioned = |number| condition(server, &format!("c{number}"), "RayClusterProvisioned");
    (0..CLUSTERS).all(|number| is_provisioned(number).is_some_and(|it| it.0 == "True"))
}

/// Twenty RayClusters from nothing to ready: what was sent for each, in tenths, and all of it.
async fn sent(server: &ApiServer) -> (u64, String) {
    let process = Process::start(server.connect(), Config::default(), "a");
    (0..CLUSTERS).for_each(|number| drop(server.create("rayclusters", cluster(&format!("c{number}"), 5, 1)).unwrap()));
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        if are_provisioned(server) {
            break;
        }
    }
    assert!(are_provisioned(server));
    // What is as it should be is left alone.
    sleep(Duration::from_secs(60)).await;
    let requests = requests(&process);
    process.end().await;
    (requests.values().sum::<u64>() * 10 / CLUSTERS, format!("{requests:?}"))
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_ready_soon_takes_eleven_requests() {
    let server = server(1);
    kubelet(&server);
    let (tenths, all) = sent(&server).await;
    assert_eq!(tenths, 110, "{all}");
}

/// Heads are ready after three seconds or more, and then one worker after the other, two seconds apart: images are pulled.
fn slow_kubelet(server: &ApiServer) {
    let server = server.clone();
    tokio::spawn(async move {
        for turn in 0_u64.. {
            let mut next: BTreeMap<String, String> = BTreeMap::new();
            server.each("pods", "", |pod| {
                let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
                let cluster = text("/metadata/labels/ray.io~1cluster");
                let is_head = text("/metadata/labels/ray.io~1node-type") == "head";
                if text("/status/phase") == "Running" {
                    return;
                }
                // The head comes first in the order of what is next.
                match next.get(&cluster) {
                    Some(known) if !(is_head || text("/metadata/name") < *known) => {}
                    _ => drop(next.insert(cluster, text("/metadata/name"))),
                }
            });
            let heads = bench::pods(&server, "head");
            for (cluster, name) in next {
                let number: u64 = cluster[1..].parse().unwrap();
                let is_due =
                    if heads.contains(&name) { turn >= 3 + number % 5 } else { (turn + number).is_multiple_of(2) };
                if is_due {
                    server.edit("pods", "default", &name, run).unwrap();
                } else {
                    let waiting = json!({"phase": "Pending", "conditions": [
                        {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "being pulled"}]});
                    server.edit("pods", "default", &name, |pod| pod["status"] = waiting.clone()).unwrap();
                }
            }
            sleep(Duration::from_secs(1)).await;
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_comes_slowly_takes_no_more_than_seven_tenths_of_kuberays_requests() {
    let server = server(1);
    slow_kubelet(&server);
    let (tenths, all) = sent(&server).await;
    assert!(tenths <= 126, "{tenths}: {all}");
}

/// Many RayClusters at once, on a server that needs a fifth of a second for every request.
#[tokio::test(start_paused = true)]
async fn on_a_slow_server_what_has_begun_ends_before_all_has_begun() {
    const MANY: usize = 60;
    let server = server(1);
    kubelet(&server);
    let slow = |_: &Asked| Verdict { request_latency: Duration::from_millis(200), ..Verdict::default() };
    let process = Process::start(server.connect().with_faults(slow), Config::default(), "a");
    sleep(Duration::from_secs(5)).await;
    (0..MANY).for_each(|number| drop(server.create("rayclusters", cluster(&format!("c{number}"), 5, 1)).unwrap()));
    let ready = || {
        let is_ready = |number: &usize| {
            server.get("rayclusters", "default", &format!("c{number}")).unwrap()["status"]["state"] == "ready"
        };
        (0..MANY).filter(is_ready).count()
    };
    let (mut ready_at_half, mut events_at_end) = (None, None);
    for _ in 0..120 {
        sleep(Duration::from_millis(100)).await;
        if server.count("pods") >= MANY * 3 {
            ready_at_half.get_or_insert(ready());
        }
        if ready() == MANY {
            events_at_end.get_or_insert(process.connection.count(Verb::Create, "events"));
        }
    }
    assert!(ready_at_half.unwrap() >= MANY / 5, "{ready_at_half:?} are ready when half of all pods are made");
    assert!(events_at_end.unwrap() < 60, "{events_at_end:?} Events were sent before all was ready");
    sleep(Duration::from_secs(40)).await;
    let all = requests(&process);
    assert_eq!(process.connection.count(Verb::Create, "events"), 3 * MANY as u64, "all are sent in the end");
    let statuses = process.connection.count(Verb::Patch, "rayclusters/status");
    assert!(statuses <= MANY as u64 * 11 / 10, "{statuses} statuses: {all:?}");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn counts_wait_and_what_others_wait_for_does_not() {
    let (server, nodes, process) = started(Config::default());
    server.create("rayclusters", cluster("c", 2, 1)).unwrap();
    sleep(Duration::from_secs(2)).await;
    let ready = || server.get("rayclusters", "default", "c").unwrap()["status"]["readyWorkerReplicas"].clone();
    assert_eq!(ready(), json!(2), "all of it is there: that does not wait");
    sleep(Duration::from_secs(30)).await;
    process.connection.reset_counts();
    let scale = |replicas: i64| {
        let change = |it: &mut Value| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(replicas);
        server.edit("rayclusters", "default", "c", change).unwrap();
    };
    nodes.lock().unwrap().paused = true;
    scale(8);
    let mut seen = Vec::new();
    for _ in 0..7 {
        let waiting = bench::pods(&server, "worker")
            .into_iter()
            .find(|name| server.get("pods", "default", name).unwrap()["status"]["phase"] != "Running");
        waiting.into_iter().for_each(|name| drop(server.edit("pods", "default", &name, run).unwrap()));
        sleep(Duration::from_secs(4)).await;
        seen.push(ready());
    }
    // Soon after the change, 20 s later, and when it is whole.
    assert_eq!(seen.last(), Some(&json!(8)));
    let writes = process.connection.count(Verb::Patch, "rayclusters/status");
    assert!((2..=4).contains(&writes), "{writes} writes, {seen:?}");
    process.end().await;
}
