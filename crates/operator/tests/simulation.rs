//! Operators, their executor and the API server in virtual time, under faults that a seed chooses: slow and broken
//! connections, stale caches, cut watches, conflicts, refusals, lost answers, pods that fail or are deleted, edits in
//! flight, crashes, two operators that both think they lead. After every write the invariants are checked.
#![allow(clippy::unwrap_used, reason = "it is a test")]

mod bench;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bench::{Process, cluster, condition, kubelet, pods, server};
use mobula_apiserver::{ApiServer, Asked, Connection, Outcome, Refusal, Verb, Verdict};
use mobula_operator::config::Config;
use serde_json::{Value, json};
use tokio::time::sleep;

/// Seeds that every test run tries.
const SEEDS: std::ops::Range<u64> = 0..4;
/// Seeds that have failed once.
const FAILED_ONCE: [u64; 2] = [8, 92];
/// Most replicas of the groups.
const MOST: u64 = 8;

/// splitmix64.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % sides
    }
}

/// Everything that was asked for, when, and what became of it. Equal seeds give equal bytes.
type Log = Arc<Mutex<String>>;
/// How a process dies in the middle of what it does.
type Kill = Arc<Mutex<Option<tokio::task::AbortHandle>>>;

/// A connection on which things go wrong. At any write the process may die, before the server has it or after.
fn bad_connection(server: &ApiServer, seed: u64, log: Log, kill: Kill) -> Connection {
    let mut dice = Dice(seed);
    let began = tokio::time::Instant::now();
    server.connect().with_faults(move |asked: &Asked| {
        let ms = |dice: &mut Dice, most: u64| Duration::from_millis(dice.roll(most));
        let is_write = ![Verb::Get, Verb::List, Verb::Watch].contains(&asked.verb);
        let dies = is_write && dice.roll(60) == 0;
        let outcome = match dice.roll(100) {
            roll if dies => {
                if roll < 50 {
                    Outcome::Lose
                } else {
                    Outcome::LoseAnswer
                }
            }
            0..3 => Outcome::Refuse(Refusal::of_code(500, "etcdserver: leader changed")),
            3..5 => Outcome::Refuse(Refusal::too_many_requests(1)),
            5..7 if is_write => Outcome::Refuse(Refusal::of_code(409, "the object has been modified")),
            7..9 => Outcome::Lose,
            9..12 => Outcome::LoseAnswer,
            _ => Outcome::Serve,
        };
        let verdict = Verdict {
            request_latency: ms(&mut dice, 30),
            answer_latency: ms(&mut dice, 30),
            watch_lag: ms(&mut dice, 400),
            outcome,
        };
        log.lock().unwrap().push_str(&format!("{:?} {asked:?} {verdict:?}\n", began.elapsed()));
        if let Some(kill) = kill.lock().unwrap().take_if(|_| dies) {
            let after = verdict.request_latency + Duration::from_millis(1);
            tokio::spawn(async move {
                sleep(after).await;
                kill.abort();
            });
        }
        verdict
    })
}

/// A pod with the labels of a cluster that the cluster does not control.
const STRANGER: &str = "stranger";

/// What must never be, found before a pod is created.
fn violation(pods: &[Value], both_lead: bool) -> Option<String> {
    let mut heads: BTreeMap<&str, u64> = BTreeMap::new();
    let mut workers: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pod["metadata"]["name"] != STRANGER) {
        let cluster = pod["metadata"]["labels"]["ray.io/cluster"].as_str().unwrap_or_default();
        let owner = pod["metadata"]["ownerReferences"][0]["uid"].as_str().unwrap_or_default();
        if owner.is_empty() {
            return Some(format!("an orphan: {}", pod["metadata"]["name"]));
        }
        let count = match pod["metadata"]["labels"]["ray.io/node-type"] == "head" {
            true => heads.entry(owner).or_default(),
            false => workers.entry((owner, cluster)).or_default(),
        };
        *count += 1;
    }
    if let Some((cluster, count)) = heads.iter().find(|(_, count)| **count > 1) {
        return Some(format!("{count} heads of {cluster}"));
    }
    // Without an election, two operators may disagree for a moment about which places were used before: then one pod too
    // many may come for each place. It never does with one.
    let excess = if both_lead { 2 } else { 1 };
    let most = |cluster: &str| excess * if cluster == "m" { MOST * 2 } else { MOST };
    let over = workers.iter().find(|((_, cluster), count)| **count > most(cluster));
    over.map(|((_, cluster), count)| format!("{count} workers of {cluster}"))
}

/// What the world has asked for so far, by which deletions are judged.
#[derive(Default)]
struct Asks {
    /// Fewest replicas of each cluster; none once it was suspended or deleted.
    fewest: BTreeMap<String, u64>,
    /// Pods that were named for deletion, or have failed.
    chosen: std::collections::BTreeSet<String>,
    /// Whoever deletes now is the world itself.
    by_hand: bool,
}

impl Asks {
    fn at_most(&mut self, cluster: &str, replicas: u64) {
        let fewest = self.fewest.entry(cluster.to_owned()).or_insert(replicas);
        *fewest = replicas.min(*fewest);
    }

    /// Why `pod` must not be deleted, if it must not. `active`: pods of its cluster and role that are not on their way out.
    fn forbids(&self, pod: &Value, active: u64) -> Option<String> {
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let name = text("/metadata/name");
        if self.by_hand || pod.pointer("/metadata/deletionTimestamp").is_some() {
            return None;
        }
        if name == STRANGER {
            return Some("the pod of a stranger was deleted".to_owned());
        }
        let cluster = pod["metadata"]["labels"]["ray.io/cluster"].as_str().unwrap_or_default();
        let fewest = self.fewest.get(cluster).copied().unwrap_or(0);
        let is_head = pod["metadata"]["labels"]["ray.io/node-type"] == "head";
        // Of a replica of several hosts all go when one does.
        let least = if is_head { u64::from(fewest > 0) } else { fewest };
        let is_chosen = self.chosen.contains(name) || (cluster == "m" && !is_head);
        (!is_chosen && active <= least).then(|| format!("{name} was deleted, and nobody asked for that"))
    }
}

/// Keeps the first violation.
fn watch_over(server: &ApiServer, both_lead: bool, asks: &Arc<Mutex<Asks>>) -> Arc<Mutex<Option<String>>> {
    let found = Arc::new(Mutex::new(None));
    let (first, asks) = (found.clone(), asks.clone());
    server
        .admit("pods", move |review| {
            let problem = match review.asked.verb {
                Verb::Create => {
                    let mut all: Vec<Value> = review.siblings("default").cloned().collect();
                    all.push(review.object.clone());
                    violation(&all, both_lead)
                }
                Verb::Delete => {
                    let label = |pod: &Value, key: &str| pod["metadata"]["labels"][key].clone();
                    let is_like = |pod: &&Value| {
                        pod.pointer("/metadata/deletionTimestamp").is_none()
                            && pod["metadata"]["name"] != STRANGER
                            && ["ray.io/cluster", "ray.io/node-type"]
                                .iter()
                                .all(|key| label(pod, key) == label(review.object, key))
                    };
                    let active = review.siblings("default").filter(is_like).count() as u64;
                    // Two that both think they lead may each choose, from views that differ.
                    let active = if both_lead { u64::MAX } else { active };
                    asks.lock().unwrap().forbids(review.object, active)
                }
                _ => None,
            };
            let mut first = first.lock().unwrap();
            if first.is_none() {
                *first = problem;
            }
            Ok(())
        })
        .unwrap();
    found
}

fn create(server: &ApiServer, name: &str) {
    let mut cluster = cluster(name, 4, if name == "m" { 2 } else { 1 });
    cluster["spec"]["workerGroupSpecs"][0]["maxReplicas"] = json!(MOST);
    server.create("rayclusters", cluster).unwrap();
}

/// What belongs to nobody any more goes, sooner or later.
fn collect_garbage(server: &ApiServer, asks: &Mutex<Asks>) {
    asks.lock().unwrap().by_hand = true;
    server.settle();
    asks.lock().unwrap().by_hand = false;
}

fn two_clusters(server: &ApiServer) {
    create(server, "a");
    create(server, "m");
    let stranger = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": STRANGER, "namespace": "default",
                     "labels": {"ray.io/cluster": "a", "ray.io/group": "w", "ray.io/node-type": "worker"}},
        "spec": {"containers": [{"name": "ray-worker", "image": "ray"}]},
    });
    server.create("pods", stranger).unwrap();
}

/// Something happens in the world.
fn happen(server: &ApiServer, dice: &mut Dice, asks: &Mutex<Asks>) {
    let name = if dice.roll(2) == 0 { "a" } else { "m" };
    let edit = |change: &dyn Fn(&mut Value)| {
        server.edit("rayclusters", "default", name, |it| {
            change(it);
            let generation = it["metadata"]["generation"].as_i64().unwrap_or(1);
            it["metadata"]["generation"] = json!(generation + 1);
        })
    };
    let mut workers = pods(server, "worker");
    workers.retain(|name| name != STRANGER);
    let delete = |name: &str| {
        asks.lock().unwrap().by_hand = true;
        let _ = server.delete("pods", "default", name);
        asks.lock().unwrap().by_hand = false;
    };
    let heads = pods(server, "head");
    let any = |dice: &mut Dice, names: &[String]| names.get(dice.roll(names.len().max(1) as u64) as usize).cloned();
    match dice.roll(20) {
        0..6 => {
            let replicas = dice.roll(MOST + 1);
            asks.lock().unwrap().at_most(name, replicas);
            edit(&|it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(replicas)).unwrap();
        }
        6..9 => {
            if let Some(worker) = any(dice, &workers) {
                delete(&worker);
            }
        }
        9..11 => {
            if let Some(worker) = any(dice, &workers) {
                asks.lock().unwrap().chosen.insert(worker.clone());
                let _ = server.edit("pods", "default", &worker, |pod| pod["status"]["phase"] = json!("Failed"));
            }
        }
        11..12 => {
            if let Some(head) = any(dice, &heads) {
                delete(&head);
            }
        }
        12..13 => {
            asks.lock().unwrap().at_most(name, 0);
            edit(&|it| it["spec"]["suspend"] = json!(it["spec"]["suspend"] != true)).unwrap();
        }
        13..15 => {
            server.cut_watches("", mobula_apiserver::End::Closed);
        }
        15..16 => {
            server.forget_history();
            server.cut_watches("pods", mobula_apiserver::End::Closed);
        }
        16..17 => {
            if let Some(worker) = any(dice, &workers) {
                asks.lock().unwrap().chosen.insert(worker.clone());
                edit(&|it| {
                    it["spec"]["workerGroupSpecs"][0]["scaleStrategy"] = json!({"workersToDelete": [worker, STRANGER]});
                })
                .unwrap();
            }
        }
        17..18 => {
            // Another one of its name, before anything of the old one is gone.
            asks.lock().unwrap().at_most(name, 0);
            server.delete("rayclusters", "default", name).unwrap();
            create(server, name);
        }
        18..20 => collect_garbage(server, asks),
        _ => {}
    }
}

/// What a process has written apart from the Lease, and how often.
fn writes(process: &Process) -> Vec<(Verb, String, u64)> {
    let is_write =
        |verb: Verb, name: &str| ![Verb::Get, Verb::List, Verb::Watch].contains(&verb) && !name.starts_with("leases");
    let counts = process.connection.counts().into_iter();
    let writes = counts.filter(|((verb, name), _)| is_write(*verb, name));
    writes.map(|((verb, name), count)| (verb, name, count)).collect()
}

/// One history. `both_lead`: two operators act at once, without an election.
async fn history(seed: u64, both_lead: bool) -> Result<String, String> {
    let server = server(seed);
    kubelet(&server);
    let (asks, log) = (Arc::new(Mutex::new(Asks::default())), Log::default());
    for name in ["a", "m"] {
        asks.lock().unwrap().at_most(name, 4);
    }
    let found = watch_over(&server, both_lead, &asks);
    let mut config = Config::default();
    config.process.leader_election = !both_lead;
    config.process.qps = 0.0;
    let mut dice = Dice(seed ^ 0x5eed);
    let mut number = 0;
    let mut start = |dice: &mut Dice| {
        number += 1;
        let kill = Kill::default();
        let connection = bad_connection(&server, dice.roll(u64::MAX), log.clone(), kill.clone());
        let process = Process::start(connection, config.clone(), &format!("p{number}"));
        *kill.lock().unwrap() = Some(process.task.abort_handle());
        process
    };
    let mut processes = vec![start(&mut dice), start(&mut dice)];
    two_clusters(&server);
    for _ in 0..60 {
        sleep(Duration::from_millis(50 + dice.roll(900))).await;
        if dice.roll(12) == 0 {
            let place = dice.roll(2) as usize;
            let fresh = start(&mut dice);
            std::mem::replace(&mut processes[place], fresh).crash();
        }
        for process in &mut processes {
            // One that has died or lost the lead is started anew.
            if process.task.is_finished() {
                *process = start(&mut dice);
            }
        }
        happen(&server, &mut dice, &asks);
        if let Some(violation) = found.lock().unwrap().clone() {
            return Err(violation);
        }
    }
    for process in &mut processes {
        if process.task.is_finished() {
            *process = start(&mut dice);
        }
        process.connection.recover();
    }
    collect_garbage(&server, &asks);
    for name in ["a", "m"] {
        let change = |it: &mut Value| {
            it["spec"]["suspend"] = json!(false);
            it["spec"]["workerGroupSpecs"][0]["scaleStrategy"] = json!({});
            it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(3);
            it["metadata"]["generation"] = json!(1_000_000);
        };
        server.edit("rayclusters", "default", name, change).unwrap();
    }
    let counts = || (pods(&server, "head").len(), pods(&server, "worker").len(), server.count("pods"));
    let are_provisioned = || {
        ["a", "m"].iter().all(|name| {
            condition(&server, name, "RayClusterProvisioned").is_some_and(|it| it.0 == "True")
                && condition(&server, name, "ReplicaFailure").is_none()
        })
    };
    // Longer than any back-off. A request that was late may still have made something for a cluster that was gone.
    for _ in 0..84 {
        sleep(Duration::from_secs(5)).await;
        collect_garbage(&server, &asks);
        if counts() == (2, 10, 12) && are_provisioned() {
            break;
        }
    }
    // Counts that changed on the way are written after a while.
    sleep(Duration::from_secs(30)).await;
    let counts = counts();
    if counts != (2, 10, 12) {
        return Err(format!("at the end (heads, workers, all) {counts:?}"));
    }
    for name in ["a", "m"] {
        let provisioned = condition(&server, name, "RayClusterProvisioned").map(|it| it.0);
        if provisioned.as_deref() != Some("True") || condition(&server, name, "ReplicaFailure").is_some() {
            let status = server.get("rayclusters", "default", name).unwrap()["status"].clone();
            return Err(format!("{name} is not as it should be: {status}"));
        }
    }
    // What is as it should be is left alone.
    processes.iter().for_each(|process| process.connection.reset_counts());
    sleep(Duration::from_secs(60)).await;
    let idle: Vec<_> = processes.iter().flat_map(writes).collect();
    if !idle.is_empty() {
        return Err(format!("written without need: {idle:?}"));
    }
    crash_loop(&server, &processes, &asks, both_lead).await?;
    if let Some(violation) = found.lock().unwrap().clone() {
        return Err(violation);
    }
    processes.into_iter().for_each(Process::crash);
    for resource in ["rayclusters", "pods", "services", "events"] {
        log.lock().unwrap().push_str(&format!("{:?}\n", server.list(resource, "default")));
    }
    let log = std::mem::take(&mut *log.lock().unwrap());
    Ok(log)
}

/// All workers fail again and again: they are not made again and again.
async fn crash_loop(
    server: &ApiServer,
    processes: &[Process],
    asks: &Mutex<Asks>,
    both_lead: bool,
) -> Result<(), String> {
    asks.lock().unwrap().fewest.clear();
    let failing = bench::failing(server);
    sleep(Duration::from_secs(120)).await;
    failing.abort();
    let made: u64 = processes.iter().map(|process| process.connection.count(Verb::Create, "pods")).sum();
    // Ten workers: at once, at once, after 10 s, 20 s, 40 s, 80 s. With two that lead, only one deletes a pod, and learns
    // from it.
    if made > 60 && !both_lead { Err(format!("{made} workers were made that fail")) } else { Ok(()) }
}

fn run(seed: u64, both_lead: bool) -> Result<String, String> {
    let ended = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(history(seed, both_lead))
    });
    ended.join().unwrap()
}

fn all(name: &str, both_lead: bool) {
    let mut failures = Vec::new();
    for seed in bench::seeds(SEEDS).into_iter().chain(FAILED_ONCE) {
        if let Err(problem) = run(seed, both_lead) {
            failures.push(format!(
                "{problem}\n  again: MOBULA_SIM_SEED={seed} cargo test --workspace --test simulation {name}"
            ));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn one_leads() {
    all("one_leads", false);
}

#[test]
fn both_lead() {
    all("both_lead", true);
}

#[test]
fn a_seed_is_a_history() {
    let (first, second) = (run(1, false).unwrap(), run(1, false).unwrap());
    assert!(first.len() > 10_000, "{} bytes", first.len());
    let differing = first.lines().zip(second.lines()).find(|(a, b)| a != b);
    assert_eq!(differing, None);
    assert_eq!(first.len(), second.len());
}
