//! Gang admission over an API server in virtual time: a scheduler that binds one pod after another, nodes of a few GPUs,
//! faults, crashes. No node is ever given to more than it holds, and no gang stays in part.
#![allow(clippy::unwrap_used, reason = "it is a test")]

mod bench;
#[path = "gangs/history.rs"]
mod history;
#[path = "gangs/nodes.rs"]
mod nodes;
#[path = "gangs/slow.rs"]
mod slow;

use std::time::Duration;

use bench::{Process, cluster, condition, run, server};
use mobula_apiserver::{ApiServer, Refusal, Verb};
use mobula_operator::config::{Config, GangMode};
use nodes::{gpu_cluster, gpu_cluster_with, gpus, is_gated, is_leaving, kubelet, kubelet_with, node, pull_for};
use serde_json::{Value, json};
use tokio::time::sleep;

const SEEDS: std::ops::Range<u64> = 0..2;

/// Worker pods of a RayCluster: gated, and bound.
fn workers(server: &ApiServer, name: &str) -> (usize, usize) {
    let (mut gated, mut bound) = (0, 0);
    server.each("pods", "", |pod| {
        let labels = &pod["metadata"]["labels"];
        if labels["ray.io/cluster"] == name && labels["ray.io/node-type"] == "worker" {
            gated += usize::from(is_gated(pod));
            bound += usize::from(pod["spec"]["nodeName"].is_string());
        }
    });
    (gated, bound)
}

/// A server with nodes of one zone, whose kubelet and scheduler run, and an operator.
fn started(nodes: &'static [(&'static str, i64)]) -> (ApiServer, Process) {
    started_with(nodes, config())
}

fn started_with(nodes: &'static [(&'static str, i64)], config: Config) -> (ApiServer, Process) {
    let server = server(1);
    nodes.iter().for_each(|(name, gpus)| node(&server, name, "z", *gpus));
    kubelet(&server, nodes);
    let process = Process::start(server.connect(), config, "p");
    (server, process)
}

fn config() -> Config {
    let mut config = Config::default();
    config.gangs.mode = GangMode::All;
    config.process.qps = 0.0;
    config
}

async fn until(what: impl Fn() -> bool, seconds: u64) -> bool {
    for _ in 0..seconds * 2 {
        if what() {
            return true;
        }
        sleep(Duration::from_millis(500)).await;
    }
    what()
}

fn in_virtual_time<T: Send + 'static>(history: impl Future<Output = T> + Send + 'static) -> T {
    let ended = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(history)
    });
    ended.join().unwrap()
}

#[test]
fn of_two_gangs_that_fit_alone_and_not_together_one_runs_and_the_other_waits_wholly() {
    in_virtual_time(async {
        let (server, process) = started(&[("a", 8), ("b", 8), ("c", 8)]);
        gpu_cluster(&server, "x", 2);
        gpu_cluster(&server, "y", 2);
        sleep(Duration::from_secs(30)).await;
        let mut states = [workers(&server, "x"), workers(&server, "y")];
        let runs = if states[0].1 == 2 { ("x", "y") } else { ("y", "x") };
        states.sort_unstable();
        assert_eq!(states, [(0, 2), (2, 0)]);
        let admitted = condition(&server, runs.1, "GangsAdmitted").unwrap();
        assert_eq!(admitted, ("False".into(), "Waiting".into(), "gang w: 1 of 2 pods fit on the nodes now".into()));
        assert_eq!(condition(&server, runs.0, "GangsAdmitted").unwrap().0, "True");
        let waiting = server.get("rayclusters", "default", runs.1).unwrap();
        assert_eq!(waiting["status"]["workerGroups"][0]["message"], "gang w: 1 of 2 pods fit on the nodes now");
        server
            .edit("rayclusters", "default", runs.0, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(0))
            .unwrap();
        assert!(until(|| workers(&server, runs.1) == (0, 2), 30).await, "{:?}", workers(&server, runs.1));
        process.crash();
    });
}

#[test]
fn a_lost_pod_of_a_running_gang_gets_its_place_and_gates_go_where_admission_is_switched_off() {
    in_virtual_time(async {
        let (server, process) = started(&[("a", 8), ("b", 8)]);
        gpu_cluster(&server, "x", 2);
        assert!(until(|| workers(&server, "x") == (0, 2), 30).await, "{:?}", workers(&server, "x"));
        let lost = bench::pods(&server, "worker").remove(0);
        server.delete("pods", "default", &lost).unwrap();
        sleep(Duration::from_secs(1)).await;
        assert!(until(|| workers(&server, "x") == (0, 2), 30).await, "{:?}", workers(&server, "x"));
        gpu_cluster(&server, "y", 2);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(workers(&server, "y"), (2, 0));
        let off = |it: &mut Value| it["metadata"]["annotations"] = json!({"mobula.dev/gang-admission": "false"});
        server.edit("rayclusters", "default", "y", off).unwrap();
        assert!(until(|| workers(&server, "y") == (0, 0), 30).await);
        process.crash();
    });
}

#[test]
fn workers_that_were_made_without_admission_count_as_begun() {
    in_virtual_time(async {
        let (server, process) = started_with(&[("a", 8), ("b", 8), ("c", 8)], Config::default());
        gpu_cluster(&server, "x", 2);
        let mut hosts = cluster("h", 1, 2);
        hosts["metadata"]["annotations"] = json!({"mobula.dev/gangs": "{}"});
        server.create("rayclusters", hosts).unwrap();
        let both = |x: (usize, usize), h: (usize, usize)| (workers(&server, "x"), workers(&server, "h")) == (x, h);
        assert!(until(|| both((0, 2), (0, 2)), 30).await, "{:?}", workers(&server, "x"));
        process.crash();
        let process = Process::start(server.connect(), config(), "q");
        sleep(Duration::from_secs(40)).await;
        for name in ["x", "h"] {
            let of_it = bench::pods(&server, "worker").into_iter().find(|pod| pod.starts_with(name)).unwrap();
            server.delete("pods", "default", &of_it).unwrap();
        }
        sleep(Duration::from_secs(1)).await;
        assert!(until(|| both((0, 2), (0, 2)), 30).await, "{:?} {:?}", workers(&server, "x"), workers(&server, "h"));
        let scale = |name: &str, replicas: i64| {
            let change = |it: &mut Value| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(replicas);
            server.edit("rayclusters", "default", name, change).unwrap();
        };
        scale("x", 3);
        scale("h", 2);
        assert!(until(|| both((0, 3), (0, 4)), 30).await, "{:?} {:?}", workers(&server, "x"), workers(&server, "h"));
        process.crash();
    });
}

#[test]
fn a_gang_that_the_plan_names_begins_whole_and_what_it_does_not_name_alone() {
    in_virtual_time(async {
        let (server, process) = started(&[("a", 8), ("b", 8), ("c", 8)]);
        let plan = |text: &str, replicas: i64| {
            server
                .edit("rayclusters", "default", "x", |it| {
                    it["metadata"]["annotations"]["mobula.dev/gangs"] = json!(text);
                    it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(replicas);
                })
                .unwrap();
        };
        let mut object = cluster("x", 0, 1);
        object["metadata"]["annotations"] = json!({});
        object["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] =
            json!(8);
        server.create("rayclusters", object).unwrap();
        // As a whole, the group does not fit.
        plan("{}", 5);
        assert!(until(|| workers(&server, "x") == (2, 3), 10).await, "{:?}", workers(&server, "x"));
        plan("{}", 2);
        assert!(until(|| workers(&server, "x") == (0, 2), 10).await, "{:?}", workers(&server, "x"));
        plan(r#"{"29fd": {"w": 2}}"#, 4);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(workers(&server, "x"), (2, 2), "one of two has a place");
        let admitted = condition(&server, "x", "GangsAdmitted").unwrap();
        assert_eq!(admitted.2, "gang 29fd: 1 of 2 pods fit on the nodes now");
        node(&server, "d", "z", 8);
        const MORE: &[(&str, i64)] = &[("c", 8), ("d", 8)];
        kubelet(&server, MORE);
        assert!(until(|| workers(&server, "x") == (0, 4), 10).await, "{:?}", workers(&server, "x"));
        plan("4", 4);
        sleep(Duration::from_secs(5)).await;
        let said = server.list("events", "default").iter().any(|event| event["reason"] == "InvalidRayClusterMetadata");
        assert!(said, "what can't be read is said");
        assert_eq!(workers(&server, "x"), (0, 4));
        process.crash();
    });
}

/// Names of the workers that are bound.
fn bound(server: &ApiServer) -> Vec<String> {
    let mut names = Vec::new();
    server.each("pods", "", |pod| {
        let is_worker = pod["metadata"]["labels"]["ray.io/node-type"] == "worker";
        if is_worker && pod["spec"]["nodeName"].is_string() && !is_leaving(pod) {
            names.push(pod["metadata"]["name"].as_str().unwrap().to_owned());
        }
    });
    names
}

#[test]
fn a_gang_that_was_whole_keeps_what_runs_whatever_it_loses_and_whoever_leads() {
    in_virtual_time(async {
        let (server, process) = started(&[("a", 8), ("b", 8)]);
        gpu_cluster(&server, "x", 2);
        assert!(until(|| workers(&server, "x") == (0, 2), 30).await, "{:?}", workers(&server, "x"));
        sleep(Duration::from_secs(2)).await;
        let before = process.connection.count(Verb::Patch, "rayclusters");
        assert_eq!(before, 1, "it is written that it is whole, once");
        server.edit("nodes", "", "b", |node| node["spec"]["unschedulable"] = json!(true)).unwrap();
        let (mut lost, mut kept) = (Vec::new(), Vec::new());
        server.each("pods", "", |pod| {
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            match pod["spec"]["nodeSelector"]["kubernetes.io/hostname"].as_str() {
                Some("b") => lost.push(name),
                Some(_) => kept.push(name),
                None => {}
            }
        });
        server.delete("pods", "default", &lost[0]).unwrap();
        sleep(Duration::from_secs(40)).await;
        assert_eq!((workers(&server, "x"), bound(&server)), ((1, 1), kept.clone()));
        // Nor does another operator, which has seen nothing of all that, give it back.
        process.crash();
        let process = Process::start(server.connect(), config(), "q");
        sleep(Duration::from_secs(150)).await;
        assert_eq!((workers(&server, "x"), bound(&server)), ((1, 1), kept.clone()));
        server.edit("nodes", "", "b", |node| node["spec"]["unschedulable"] = json!(false)).unwrap();
        assert!(until(|| workers(&server, "x") == (0, 2), 30).await, "{:?}", workers(&server, "x"));
        assert!(bound(&server).contains(&kept[0]));
        assert_eq!(process.connection.count(Verb::Patch, "rayclusters"), 0, "one pod needs no mark");
        process.crash();
    });
}

#[test]
fn a_gang_whose_mark_is_erased_keeps_what_it_has() {
    in_virtual_time(async {
        let (server, process) = started(&[("a", 8), ("b", 8)]);
        // Its pods never run: only the mark says that it was whole.
        gpu_cluster_with(&server, "x", 2, |object| pull_for(object, 100_000));
        assert!(until(|| workers(&server, "x") == (0, 2), 30).await, "{:?}", workers(&server, "x"));
        sleep(Duration::from_secs(2)).await;
        server.edit("nodes", "", "b", |node| node["spec"]["unschedulable"] = json!(true)).unwrap();
        let on = |host: &str| {
            let mut names = Vec::new();
            server.each("pods", "", |pod| {
                if pod["spec"]["nodeSelector"]["kubernetes.io/hostname"] == host {
                    names.push(pod["metadata"]["name"].as_str().unwrap().to_owned());
                }
            });
            names
        };
        let kept = on("a");
        server.delete("pods", "default", &on("b")[0]).unwrap();
        server.edit("rayclusters", "default", "x", |it| it["metadata"]["annotations"] = json!({})).unwrap();
        sleep(Duration::from_secs(100)).await;
        assert_eq!((workers(&server, "x"), bound(&server)), ((1, 1), kept));
        let object = server.get("rayclusters", "default", "x").unwrap();
        assert!(object["metadata"]["annotations"]["mobula.dev/gangs-whole"].is_string(), "it is written again");
        process.crash();
    });
}

#[test]
fn of_many_gangs_that_wait_a_few_are_named() {
    in_virtual_time(async {
        let (server, process) = started(&[("a", 4)]);
        gpu_cluster_with(&server, "x", 14, |it| it["metadata"]["annotations"] = json!({"mobula.dev/gangs": "{}"}));
        sleep(Duration::from_secs(5)).await;
        let said = condition(&server, "x", "GangsAdmitted").unwrap().2;
        assert!(said.starts_with("gang w/0: ") && said.ends_with("; and 4 more (14 in all)"), "{said}");
        let events = server.list("events", "default");
        let mut waiting = events.iter().filter(|event| event["reason"] == "GangWaiting").map(Value::to_string);
        assert!(waiting.next_back().unwrap().contains("w/9 (1 pods), and 4 more (14 in all)"));
        process.crash();
    });
}

/// A gang of two of which one pod is bound, and the other is taken away and can't be made again; another gang that wants its
/// place. Names of what is bound.
async fn broken_gang(server: &ApiServer, pulls_for: Option<u64>) -> Vec<String> {
    gpu_cluster_with(server, "x", 2, |object| {
        if let Some(seconds) = pulls_for {
            pull_for(object, seconds);
        }
    });
    while workers(server, "x").1 == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    let is_full = |review: &mobula_apiserver::Review<'_>| {
        let is_of_x = review.object["metadata"]["labels"]["ray.io/cluster"] == "x";
        review.asked.verb == Verb::Create && is_of_x
    };
    server
        .admit("pods", move |review| {
            if is_full(review) { Err(Refusal::new(403, "Forbidden", "exceeded quota: pods")) } else { Ok(()) }
        })
        .unwrap();
    let first = bound(server);
    let second = bench::pods(server, "worker").into_iter().find(|name| *name != first[0]).unwrap();
    server.delete("pods", "default", &second).unwrap();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(bound(server), first, "there is time yet");
    gpu_cluster(server, "y", 2);
    first
}

#[test]
fn a_gang_of_which_a_pod_can_no_longer_be_made_lets_go_of_what_it_holds() {
    in_virtual_time(async {
        let (server, process) = started(&[("a", 8), ("b", 8)]);
        broken_gang(&server, Some(300)).await;
        assert!(until(|| workers(&server, "y") == (0, 2), 60).await, "{:?}", workers(&server, "y"));
        assert_eq!(workers(&server, "x"), (0, 0));
        let events = server.list("events", "default");
        let said = events.iter().filter(|event| event["reason"] == "DeletedWorkerPod").filter(|event| {
            let about = if event["regarding"].is_object() { &event["regarding"] } else { &event["involvedObject"] };
            (about["kind"].as_str(), about["name"].as_str()) == (Some("RayCluster"), Some("x"))
        });
        let said: Vec<String> = said.map(|it| format!("{}{}", it["note"], it["message"])).collect();
        assert!(said.len() == 1 && said[0].contains("Gang w was not bound whole in time, deleted"), "{said:?}");
        process.crash();
    });
}

#[test]
fn what_runs_before_its_deletion_arrives_stays() {
    in_virtual_time(async {
        let (server, process) = started(&[("a", 8), ("b", 8)]);
        let slow = mobula_apiserver::Rule::on(Verb::Delete, "pods").delay(Duration::from_secs(20));
        process.connection.fail(slow.always());
        let first = broken_gang(&server, Some(300)).await;
        sleep(Duration::from_secs(40)).await;
        start(&server, &first[0]);
        sleep(Duration::from_secs(200)).await;
        assert_eq!(bound(&server), first);
        // It is asked for again where no answer comes, up to the time at which it runs.
        assert!((1..=4).contains(&process.connection.count(Verb::Delete, "pods")));
        assert_eq!(condition(&server, "x", "GangsAdmitted").unwrap().2, "gang w: 0 of 1 pods exist");
        let said = server.list("events", "default").iter().any(|event| event["reason"] == "FailedToDeleteWorkerPod");
        assert!(!said, "nothing failed");
        process.crash();
    });
}

#[test]
fn what_runs_of_a_gang_that_is_not_whole_stays_and_it_is_said_what_it_lacks() {
    in_virtual_time(async {
        let (server, process) = started(&[("a", 8), ("b", 8)]);
        let first = broken_gang(&server, None).await;
        sleep(Duration::from_secs(200)).await;
        assert_eq!((bound(&server), workers(&server, "y")), (first, (2, 0)));
        assert_eq!(condition(&server, "x", "GangsAdmitted").unwrap().2, "gang w: 0 of 1 pods exist");
        process.crash();
    });
}

#[test]
fn a_host_that_runs_is_not_ended_because_another_one_of_its_replica_has_no_node() {
    in_virtual_time(async {
        const NODES: &[(&str, i64)] = &[("a", 8), ("b", 8), ("c", 8), ("d", 8)];
        let server = server(1);
        NODES.iter().for_each(|(name, gpus)| node(&server, name, "z", *gpus));
        let start = tokio::time::Instant::now();
        kubelet_with(&server, NODES, move |pod| {
            pod["metadata"]["labels"]["ray.io/replica-host-index"] != "3" || start.elapsed() > Duration::from_secs(300)
        });
        let process = Process::start(server.connect(), config(), "p");
        gpu_cluster_with(&server, "x", 1, |object| object["spec"]["workerGroupSpecs"][0]["numOfHosts"] = json!(4));
        assert!(until(|| workers(&server, "x") == (0, 3), 30).await, "{:?}", workers(&server, "x"));
        let before = bound(&server);
        sleep(Duration::from_secs(200)).await;
        assert_eq!((bound(&server), workers(&server, "x")), (before, (0, 3)));
        assert_eq!(process.connection.count(Verb::Delete, "pods"), 0);
        let said = condition(&server, "x", "GangsAdmitted").unwrap().2;
        assert_eq!(said, "gang w: the scheduler finds no node for 1 pods of replicas that have begun");
        assert!(until(|| workers(&server, "x") == (0, 4), 120).await, "{:?}", workers(&server, "x"));
        assert!(until(|| condition(&server, "x", "GangsAdmitted").unwrap().0 == "True", 30).await);
        process.crash();
    });
}

/// Two replicas of two hosts, of which the first runs. Of the second one a host pulls its image, and the other one is pinned to
/// this node: it is taken away before the host is bound.
async fn lost_host(server: &ApiServer) -> String {
    gpu_cluster_with(server, "x", 2, |object| {
        object["spec"]["workerGroupSpecs"][0]["numOfHosts"] = json!(2);
        pull_for(object, 1_000);
    });
    assert!(until(|| workers(server, "x") == (0, 3), 30).await, "{:?}", workers(server, "x"));
    for host in ["0.0.0", "0.1.0"] {
        start(server, &at(server, host).unwrap());
    }
    let pinned = server.get("pods", "default", &at(server, "1.1.0").unwrap()).unwrap();
    let node = pinned["spec"]["nodeSelector"]["kubernetes.io/hostname"].as_str().unwrap();
    server.delete("nodes", "", node).unwrap();
    node.to_owned()
}

/// The worker of a place.
fn at(server: &ApiServer, place: &str) -> Option<String> {
    let is_there = |name: &String| {
        server.get("pods", "default", name).unwrap()["metadata"]["annotations"]["mobula.dev/slot"] == place
    };
    bench::pods(server, "worker").into_iter().find(is_there)
}

/// A pod that is bound begins to run.
fn start(server: &ApiServer, name: &str) {
    let start = |pod: &mut Value| {
        let node = pod["spec"]["nodeName"].clone();
        run(pod);
        pod["spec"]["nodeName"] = node;
    };
    server.edit("pods", "default", name, start).unwrap();
}

const FIVE: &[(&str, i64)] = &[("a", 8), ("b", 8), ("c", 8), ("d", 8), ("e", 8)];

/// A world in which the second host of the second replica is not bound at first.
fn with_a_slow_host() -> (ApiServer, Process) {
    let server = server(1);
    FIVE.iter().for_each(|(name, gpus)| node(&server, name, "z", *gpus));
    kubelet_with(&server, FIVE, |pod| pod["metadata"]["annotations"]["mobula.dev/slot"] != "1.1.0");
    let process = Process::start(server.connect(), config(), "p");
    (server, process)
}

#[test]
fn a_replica_of_which_nothing_runs_and_a_pinned_host_lost_its_node_is_made_anew() {
    in_virtual_time(async {
        let (server, process) = with_a_slow_host();
        let node = lost_host(&server).await;
        let first = [at(&server, "0.0.0"), at(&server, "0.1.0")];
        assert!(until(|| at(&server, "1.1.1").is_some(), 120).await, "{:?}", bench::pods(&server, "worker"));
        assert!(until(|| workers(&server, "x") == (0, 4), 120).await, "{:?}", workers(&server, "x"));
        assert_eq!([at(&server, "0.0.0"), at(&server, "0.1.0")], first, "what runs stays");
        let again = server.get("pods", "default", &at(&server, "1.1.1").unwrap()).unwrap();
        assert_ne!(again["spec"]["nodeName"], node.as_str());
        sleep(Duration::from_secs(200)).await;
        assert_eq!((workers(&server, "x"), process.connection.count(Verb::Delete, "pods") <= 4), ((0, 4), true));
        assert!(until(|| condition(&server, "x", "GangsAdmitted").unwrap().0 == "True", 30).await);
        process.crash();
    });
}

#[test]
fn a_host_that_runs_before_its_deletion_arrives_keeps_its_replica() {
    in_virtual_time(async {
        let (server, process) = with_a_slow_host();
        let slow = mobula_apiserver::Rule::on(Verb::Delete, "pods").delay(Duration::from_secs(20)).always();
        process.connection.fail(slow);
        lost_host(&server).await;
        let before = bench::pods(&server, "worker");
        // It has been asked for by then.
        sleep(Duration::from_secs(65)).await;
        start(&server, &at(&server, "1.0.0").unwrap());
        sleep(Duration::from_secs(200)).await;
        assert_eq!((bench::pods(&server, "worker"), process.connection.count(Verb::Delete, "pods")), (before, 1));
        let said = condition(&server, "x", "GangsAdmitted").unwrap().2;
        assert_eq!(said, "gang w: the scheduler finds no node for 1 pods of replicas that have begun");
        process.crash();
    });
}

#[test]
fn workers_that_must_be_apart_are_given_a_node_each() {
    in_virtual_time(async {
        let (server, process) = started(&[("a", 32), ("b", 32), ("c", 8)]);
        let apart = |object: &mut Value| {
            let term = json!({"topologyKey": "kubernetes.io/hostname",
                              "labelSelector": {"matchLabels": {"ray.io/cluster": "x"}}});
            object["spec"]["workerGroupSpecs"][0]["template"]["spec"]["affinity"] =
                json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        };
        gpu_cluster_with(&server, "x", 2, apart);
        assert!(until(|| workers(&server, "x") == (0, 2), 30).await, "{:?}", workers(&server, "x"));
        let before = bound(&server);
        // The head has the third node, which they must not share either.
        let three = |it: &mut Value| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(3);
        server.edit("rayclusters", "default", "x", three).unwrap();
        sleep(Duration::from_secs(200)).await;
        assert_eq!((bound(&server), workers(&server, "x")), (before, (1, 2)));
        assert_eq!(condition(&server, "x", "GangsAdmitted").unwrap().2, "gang w: 0 of 1 pods fit on the nodes now");
        process.crash();
    });
}

#[test]
fn gangs_do_not_take_the_place_of_heads_that_the_scheduler_has_yet_to_bind() {
    in_virtual_time(async {
        const NODES: &[(&str, i64)] = &[("a", 8), ("b", 8)];
        let server = server(1);
        NODES.iter().for_each(|(name, gpus)| node(&server, name, "z", *gpus));
        let start = tokio::time::Instant::now();
        // No place was found for heads a moment ago: the scheduler tries them again only after a while.
        kubelet_with(&server, NODES, move |pod| {
            pod["metadata"]["labels"]["ray.io/node-type"] != "head" || start.elapsed() > Duration::from_secs(8)
        });
        let process = Process::start(server.connect(), config(), "p");
        for (name, replicas) in [("b", 3), ("c", 1)] {
            let mut object = cluster(name, replicas, 1);
            let gpus = |template: &mut Value| {
                template["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = json!(4);
            };
            gpus(&mut object["spec"]["headGroupSpec"]["template"]);
            gpus(&mut object["spec"]["workerGroupSpecs"][0]["template"]);
            server.create("rayclusters", object).unwrap();
        }
        sleep(Duration::from_secs(5)).await;
        assert_eq!(condition(&server, "b", "GangsAdmitted").unwrap().2, "gang w: the head pod has no node yet");
        sleep(Duration::from_secs(10)).await;
        let mut heads_without_node = 0;
        server.each("pods", "", |pod| {
            let is_head = pod["metadata"]["labels"]["ray.io/node-type"] == "head";
            heads_without_node += usize::from(is_head && !pod["spec"]["nodeName"].is_string());
        });
        assert_eq!((heads_without_node, workers(&server, "b"), workers(&server, "c")), (0, (3, 0), (0, 1)));
        process.crash();
    });
}

#[test]
fn a_head_that_must_be_near_its_workers_comes_after_them() {
    in_virtual_time(async {
        const NODES: &[(&str, i64)] = &[("a", 8), ("b", 8)];
        let server = server(1);
        NODES.iter().for_each(|(name, gpus)| node(&server, name, "z", *gpus));
        kubelet_with(&server, NODES, |pod| pod["metadata"]["labels"]["ray.io/node-type"] != "head");
        let process = Process::start(server.connect(), config(), "p");
        gpu_cluster_with(&server, "x", 2, |object| {
            let term = json!({"topologyKey": "topology.kubernetes.io/zone",
                              "labelSelector": {"matchLabels": {"ray.io/node-type": "worker"}}});
            object["spec"]["headGroupSpec"]["template"]["spec"]["affinity"] =
                json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        });
        assert!(until(|| workers(&server, "x") == (0, 2), 30).await, "{:?}", workers(&server, "x"));
        process.crash();
    });
}

#[test]
fn a_head_that_the_scheduler_can_not_place_holds_back_no_gang_for_ever() {
    in_virtual_time(async {
        const NODES: &[(&str, i64)] = &[("a", 8)];
        let server = server(1);
        NODES.iter().for_each(|(name, gpus)| node(&server, name, "z", *gpus));
        kubelet_with(&server, NODES, |pod| pod["metadata"]["labels"]["ray.io/cluster"] != "h");
        let mut heads = cluster("h", 0, 1);
        heads["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] =
            json!(4);
        server.create("rayclusters", heads).unwrap();
        let process = Process::start(server.connect(), config(), "p");
        gpu_cluster(&server, "x", 1);
        sleep(Duration::from_secs(100)).await;
        assert_eq!(workers(&server, "x"), (1, 0), "it may be bound yet");
        assert_eq!(condition(&server, "x", "GangsAdmitted").unwrap().2, "gang w: 0 of 1 pods fit on the nodes now");
        assert!(until(|| workers(&server, "x") == (0, 1), 240).await, "{:?}", workers(&server, "x"));
        process.crash();
    });
}

#[test]
fn without_names_of_replicas_hosts_begin_alone() {
    in_virtual_time(async {
        let mut config = config();
        config.gates.set(mobula_api::Gate::RayMultiHostIndexing, false);
        let (server, process) = started_with(&[("a", 8), ("b", 8)], config);
        let mut object = cluster("x", 1, 2);
        object["metadata"]["annotations"] = json!({"mobula.dev/gangs": "{}"});
        server.create("rayclusters", object).unwrap();
        assert!(until(|| workers(&server, "x") == (0, 2), 30).await, "{:?}", workers(&server, "x"));
        process.crash();
    });
}

#[test]
fn no_gang_stays_in_part() {
    let problems: Vec<String> = bench::seeds(SEEDS)
        .into_iter()
        .filter_map(|seed| {
            let problem = in_virtual_time(history::history(seed)).err()?;
            Some(format!("{problem}\n  again: MOBULA_SIM_SEED={seed} cargo test --workspace --test gangs no_gang"))
        })
        .collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}
