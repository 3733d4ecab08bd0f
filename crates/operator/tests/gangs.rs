//! Gang admission over an API server in virtual time: a scheduler that binds one pod after another, nodes of a few GPUs,
//! faults, crashes. No node is ever given to more than it holds, and no gang stays in part.
#![allow(clippy::unwrap_used, reason = "it is a test")]

mod bench;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bench::{Process, cluster, condition, run, server};
use mobula_apiserver::{ApiServer, Asked, Connection, Outcome, Refusal, Verb, Verdict};
use mobula_operator::config::{Config, GangMode};
use serde_json::{Value, json};
use tokio::time::sleep;

const SEEDS: std::ops::Range<u64> = 0..2;
/// Longer than a gang may be in part: its time to be bound, and a back-off.
const PARTIAL_S: u64 = 90;

#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn node(server: &ApiServer, name: &str, rack: &str, gpus: i64) {
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": rack}},
        "status": {"allocatable": {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": gpus},
                   "conditions": [{"type": "Ready", "status": "True"}]},
    });
    server.create("nodes", node).unwrap();
}

fn gpu_cluster(server: &ApiServer, name: &str, replicas: i64) {
    let mut object = cluster(name, replicas, 1);
    object["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] =
        json!(8);
    server.create("rayclusters", object).unwrap();
}

fn is_gated(pod: &Value) -> bool {
    pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty())
}

/// kube-scheduler binds no pod that is being deleted.
fn is_leaving(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string()
}

fn gpus(pod: &Value) -> i64 {
    let limits = &pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"];
    limits.as_i64().or_else(|| limits.as_str().and_then(|text| text.parse().ok())).unwrap_or(0)
}

/// Binds one pod: the first that is not gated and fits. What is pinned goes nowhere else.
fn schedule(server: &ApiServer, nodes: &[(&str, i64)]) {
    let mut used: BTreeMap<String, i64> = BTreeMap::new();
    let mut pending = Vec::new();
    server.each("pods", "", |pod| match pod["spec"]["nodeName"].as_str() {
        Some(node) => *used.entry(node.to_owned()).or_default() += gpus(pod),
        None if !is_gated(pod) && !is_leaving(pod) => pending.push(pod.clone()),
        None => {}
    });
    for pod in pending {
        let pinned = pod["spec"]["nodeSelector"]["kubernetes.io/hostname"].as_str();
        let fits = |(name, most): &&(&str, i64)| {
            pinned.is_none_or(|pinned| pinned == *name) && used.get(*name).copied().unwrap_or(0) + gpus(&pod) <= *most
        };
        if let Some((node, _)) = nodes.iter().find(fits) {
            let name = pod["metadata"]["name"].as_str().unwrap();
            server
                .edit("pods", "default", name, |pod| {
                    run(pod);
                    pod["spec"]["nodeName"] = json!(node);
                })
                .unwrap();
            return;
        }
    }
}

fn kubelet(server: &ApiServer, nodes: &'static [(&'static str, i64)]) {
    let server = server.clone();
    tokio::spawn(async move {
        loop {
            let mut ending = Vec::new();
            server.each("pods", "", |pod| {
                if pod.pointer("/metadata/deletionTimestamp").is_some() {
                    ending.push(pod["metadata"]["name"].as_str().unwrap().to_owned());
                }
            });
            for name in ending {
                server.finish_pod("default", &name).unwrap();
            }
            schedule(&server, nodes);
            sleep(Duration::from_millis(100)).await;
        }
    });
}

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
        let server = server(1);
        const NODES: &[(&str, i64)] = &[("a", 8), ("b", 8), ("c", 8)];
        NODES.iter().for_each(|(name, gpus)| node(&server, name, "z", *gpus));
        kubelet(&server, NODES);
        let process = Process::start(server.connect(), config(), "p");
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
        let server = server(1);
        const NODES: &[(&str, i64)] = &[("a", 8), ("b", 8)];
        NODES.iter().for_each(|(name, gpus)| node(&server, name, "z", *gpus));
        kubelet(&server, NODES);
        let process = Process::start(server.connect(), config(), "p");
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
fn a_gang_that_the_plan_names_begins_whole_and_what_it_does_not_name_alone() {
    in_virtual_time(async {
        let server = server(1);
        const NODES: &[(&str, i64)] = &[("a", 8), ("b", 8), ("c", 8)];
        NODES.iter().for_each(|(name, gpus)| node(&server, name, "z", *gpus));
        kubelet(&server, NODES);
        let process = Process::start(server.connect(), config(), "p");
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

fn bad_connection(server: &ApiServer, seed: u64) -> Connection {
    let mut dice = Dice(seed);
    server.connect().with_faults(move |asked: &Asked| {
        let is_write = ![Verb::Get, Verb::List, Verb::Watch].contains(&asked.verb);
        let outcome = match dice.roll(100) {
            0..4 => Outcome::Refuse(Refusal::of_code(500, "etcdserver: leader changed")),
            4..7 if is_write => Outcome::Refuse(Refusal::of_code(409, "the object has been modified")),
            7..10 => Outcome::Lose,
            10..13 => Outcome::LoseAnswer,
            _ => Outcome::Serve,
        };
        Verdict {
            request_latency: Duration::from_millis(dice.roll(30)),
            answer_latency: Duration::from_millis(dice.roll(30)),
            watch_lag: Duration::from_millis(dice.roll(400)),
            outcome,
        }
    })
}

/// A node of which pods hold, or will hold, more GPUs than it has.
fn overcommitted(server: &ApiServer, nodes: &[(&str, i64)]) -> Option<String> {
    let mut pinned: BTreeMap<String, i64> = BTreeMap::new();
    server.each("pods", "", |pod| {
        let host = pod["spec"]["nodeSelector"]["kubernetes.io/hostname"].as_str();
        let holds_or_will = pod["spec"]["nodeName"].is_string() || !is_gated(pod) && !is_leaving(pod);
        if let Some(host) = host.filter(|_| holds_or_will) {
            *pinned.entry(host.to_owned()).or_default() += gpus(pod);
        }
    });
    let over = nodes.iter().find(|(name, most)| pinned.get(*name).copied().unwrap_or(0) > *most);
    over.map(|(name, most)| format!("{name} of {most} GPUs is given to {}", pinned[*name]))
}

/// What there is of pods that were admitted together.
#[derive(Default)]
struct Lifted {
    /// How many there were to be.
    pods: u64,
    bound: u64,
}

fn admissions(server: &ApiServer, cluster: &str) -> BTreeMap<String, Lifted> {
    let mut admissions: BTreeMap<String, Lifted> = BTreeMap::new();
    server.each("pods", "", |pod| {
        let admitted = pod["metadata"]["annotations"]["mobula.dev/gang-admitted"].as_str();
        if let Some(text) = admitted.filter(|_| pod["metadata"]["labels"]["ray.io/cluster"] == cluster) {
            let lifted = admissions.entry(text.to_owned()).or_default();
            lifted.pods = text.split('.').next().unwrap().parse().unwrap();
            lifted.bound += u64::from(pod["spec"]["nodeName"].is_string());
        }
    });
    admissions
}

fn scale(server: &ApiServer, name: &str, replicas: u64) {
    let change = |it: &mut Value| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(replicas);
    server.edit("rayclusters", "default", name, change).unwrap();
}

async fn history(seed: u64) -> Result<(), String> {
    const NODES: &[(&str, i64)] = &[("a", 8), ("b", 8), ("c", 8), ("d", 8), ("e", 8)];
    let server = server(seed);
    NODES.iter().enumerate().for_each(|(at, (name, gpus))| node(&server, name, ["z1", "z2"][at % 2], *gpus));
    kubelet(&server, NODES);
    let mut dice = Dice(seed ^ 0x9e37_79b9);
    let mut number = 0;
    let mut start = |dice: &mut Dice| {
        number += 1;
        Process::start(bad_connection(&server, dice.roll(u64::MAX)), config(), &format!("p{number}"))
    };
    // One leads, the other stands by with a view that may be old.
    let mut processes = [start(&mut dice), start(&mut dice)];
    let names = ["x", "y", "z"];
    for name in names {
        gpu_cluster(&server, name, 3);
    }
    let (mut partial_since, mut whole) = (BTreeMap::new(), BTreeSet::new());
    for turn in 0..240_u64 {
        sleep(Duration::from_millis(500)).await;
        let dies = (dice.roll(40) == 0).then(|| dice.roll(2) as usize);
        for (number, process) in processes.iter_mut().enumerate() {
            if dies == Some(number) || process.task.is_finished() {
                let fresh = start(&mut dice);
                std::mem::replace(process, fresh).crash();
            }
        }
        let name = names[dice.roll(3) as usize];
        match dice.roll(60) {
            0 => {
                let replicas = dice.roll(4);
                scale(&server, name, replicas);
                partial_since.remove(name);
            }
            1 => {
                let pods = bench::pods(&server, "worker");
                if let Some(pod) = pods.get(dice.roll(pods.len().max(1) as u64) as usize) {
                    let _ = server.delete("pods", "default", pod);
                    partial_since.clear();
                }
            }
            _ => {}
        }
        if let Some(problem) = overcommitted(&server, NODES) {
            return Err(problem);
        }
        for name in names {
            // A gang that was never whole is in part because of a crash or a fault, and not for long.
            let lifted = admissions(&server, name);
            whole.extend(lifted.iter().filter(|(_, it)| it.bound >= it.pods).map(|(admission, _)| admission.clone()));
            let replicas =
                server.get("rayclusters", "default", name).unwrap()["spec"]["workerGroupSpecs"][0]["replicas"]
                    .as_u64()
                    .unwrap();
            let is_partial = |(admission, it): &(&String, &Lifted)| {
                !whole.contains(*admission) && it.bound > 0 && it.bound < it.pods.min(replicas)
            };
            match lifted.iter().find(is_partial) {
                None => {
                    partial_since.remove(name);
                }
                Some((admission, it)) if turn - *partial_since.entry(name).or_insert(turn) > PARTIAL_S * 2 => {
                    return Err(format!("{name}: {} of {} pods for {PARTIAL_S} s ({admission})", it.bound, it.pods));
                }
                Some(_) => {}
            }
        }
    }
    for process in &mut processes {
        if process.task.is_finished() {
            *process = start(&mut dice);
        }
        process.connection.recover();
    }
    // One after the other, each runs whole.
    for name in names {
        for other in names {
            let replicas = if other == name { 3 } else { 0 };
            scale(&server, other, replicas);
        }
        let is_whole = || names.iter().all(|other| workers(&server, other) == (0, if *other == name { 3 } else { 0 }));
        for _ in 0..1_800 {
            sleep(Duration::from_millis(500)).await;
            // One whose Lease ran out just before the faults ended has ended, too.
            for process in processes.iter_mut().filter(|process| process.task.is_finished()) {
                *process = start(&mut dice);
                process.connection.recover();
            }
            if is_whole() {
                break;
            }
        }
        if !is_whole() {
            let all: Vec<_> = names.iter().map(|name| (name, workers(&server, name))).collect();
            return Err(format!("{name} does not become whole: {all:?}"));
        }
    }
    processes.into_iter().for_each(Process::crash);
    Ok(())
}

#[test]
fn no_gang_stays_in_part() {
    let problems: Vec<String> = bench::seeds(SEEDS)
        .into_iter()
        .filter_map(|seed| {
            let problem = in_virtual_time(history(seed)).err()?;
            Some(format!("{problem}\n  again: MOBULA_SIM_SEED={seed} cargo test --workspace --test gangs no_gang"))
        })
        .collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}
