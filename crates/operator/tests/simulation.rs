//! Operators, their executor and the API server in virtual time, under faults that a seed chooses: slow and broken
//! connections, stale caches, cut watches, conflicts, refusals, lost answers, pods that fail or are deleted, edits in
//! flight, crashes, two operators that both think they lead. After every write the invariants are checked.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test reads its seed from the environment")]

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

/// Seeds that every test run tries. One that failed goes here.
const SEEDS: std::ops::Range<u64> = 0..4;
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

/// A connection on which things go wrong.
fn bad_connection(server: &ApiServer, seed: u64) -> Connection {
    let mut dice = Dice(seed);
    server.connect().with_faults(move |asked: &Asked| {
        let ms = |dice: &mut Dice, most: u64| Duration::from_millis(dice.roll(most));
        let is_write = ![Verb::Get, Verb::List, Verb::Watch].contains(&asked.verb);
        let outcome = match dice.roll(100) {
            0..3 => Outcome::Refuse(Refusal::of_code(500, "etcdserver: leader changed")),
            3..5 => Outcome::Refuse(Refusal::too_many_requests(1)),
            5..7 if is_write => Outcome::Refuse(Refusal::of_code(409, "the object has been modified")),
            7..9 => Outcome::Lose,
            9..12 => Outcome::LoseAnswer,
            _ => Outcome::Serve,
        };
        Verdict {
            request_latency: ms(&mut dice, 30),
            answer_latency: ms(&mut dice, 30),
            watch_lag: ms(&mut dice, 400),
            outcome,
        }
    })
}

/// What must never be, found after a write.
fn violation(pods: &[Value], both_lead: bool) -> Option<String> {
    let mut heads: BTreeMap<&str, u64> = BTreeMap::new();
    let mut workers: BTreeMap<&str, u64> = BTreeMap::new();
    for pod in pods {
        let cluster = pod["metadata"]["labels"]["ray.io/cluster"].as_str().unwrap_or_default();
        if pod["metadata"]["ownerReferences"][0]["uid"].as_str().is_none_or(str::is_empty) {
            return Some(format!("an orphan: {}", pod["metadata"]["name"]));
        }
        let counts = if pod["metadata"]["labels"]["ray.io/node-type"] == "head" { &mut heads } else { &mut workers };
        *counts.entry(cluster).or_default() += 1;
    }
    if let Some((cluster, count)) = heads.iter().find(|(_, count)| **count > 1) {
        return Some(format!("{count} heads of {cluster}"));
    }
    // Without an election, two operators may disagree for a moment about which places were used before: then one pod too
    // many may come for each place. It never does with one.
    let excess = if both_lead { 2 } else { 1 };
    let most = |cluster: &str| excess * if cluster == "m" { MOST * 2 } else { MOST };
    let over = workers.iter().find(|(cluster, count)| **count > most(cluster));
    over.map(|(cluster, count)| format!("{count} workers of {cluster}"))
}

/// Keeps the first violation.
fn watch_over(server: &ApiServer, both_lead: bool) -> Arc<Mutex<Option<String>>> {
    let found = Arc::new(Mutex::new(None));
    let first = found.clone();
    server
        .admit("pods", move |review| {
            if review.asked.verb == Verb::Create {
                let mut all: Vec<Value> = review.siblings("default").cloned().collect();
                all.push(review.object.clone());
                let mut first = first.lock().unwrap();
                if first.is_none() {
                    *first = violation(&all, both_lead);
                }
            }
            Ok(())
        })
        .unwrap();
    found
}

fn two_clusters(server: &ApiServer) {
    for (name, hosts) in [("a", 1), ("m", 2)] {
        let mut cluster = cluster(name, 4, hosts);
        cluster["spec"]["workerGroupSpecs"][0]["maxReplicas"] = json!(MOST);
        server.create("rayclusters", cluster).unwrap();
    }
}

/// Something happens in the world.
fn happen(server: &ApiServer, dice: &mut Dice) {
    let name = if dice.roll(2) == 0 { "a" } else { "m" };
    let edit = |change: &dyn Fn(&mut Value)| {
        server.edit("rayclusters", "default", name, |it| {
            change(it);
            let generation = it["metadata"]["generation"].as_i64().unwrap_or(1);
            it["metadata"]["generation"] = json!(generation + 1);
        })
    };
    let workers = pods(server, "worker");
    let heads = pods(server, "head");
    let any = |dice: &mut Dice, names: &[String]| names.get(dice.roll(names.len().max(1) as u64) as usize).cloned();
    match dice.roll(20) {
        0..6 => {
            let replicas = dice.roll(MOST + 1);
            edit(&|it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(replicas)).unwrap();
        }
        6..9 => {
            if let Some(worker) = any(dice, &workers) {
                let _ = server.delete("pods", "default", &worker);
            }
        }
        9..11 => {
            if let Some(worker) = any(dice, &workers) {
                let _ = server.edit("pods", "default", &worker, |pod| pod["status"]["phase"] = json!("Failed"));
            }
        }
        11..12 => {
            if let Some(head) = any(dice, &heads) {
                let _ = server.delete("pods", "default", &head);
            }
        }
        12..13 => {
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
                edit(&|it| {
                    it["spec"]["workerGroupSpecs"][0]["scaleStrategy"] =
                        json!({"workersToDelete": [worker, "stranger"]});
                })
                .unwrap();
            }
        }
        _ => {}
    }
}

/// One history. `both_lead`: two operators act at once, without an election.
async fn history(seed: u64, both_lead: bool) -> Result<Vec<(Verb, String, u64)>, String> {
    let server = server(seed);
    kubelet(&server);
    let found = watch_over(&server, both_lead);
    let mut config = Config::default();
    config.process.leader_election = !both_lead;
    config.process.qps = 0.0;
    let mut dice = Dice(seed ^ 0x5eed);
    let mut number = 0;
    let mut start = |dice: &mut Dice| {
        number += 1;
        Process::start(bad_connection(&server, dice.roll(u64::MAX)), config.clone(), &format!("p{number}"))
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
            // One that has lost the lead ends, and is started anew.
            if process.task.is_finished() {
                *process = start(&mut dice);
            }
        }
        happen(&server, &mut dice);
        if let Some(violation) = found.lock().unwrap().clone() {
            return Err(violation);
        }
    }
    for process in &processes {
        process.connection.recover();
    }
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
    // Longer than any back-off.
    for _ in 0..84 {
        sleep(Duration::from_secs(5)).await;
        if counts() == (2, 9, 11) && are_provisioned() {
            break;
        }
    }
    sleep(Duration::from_secs(5)).await;
    let counts = counts();
    if counts != (2, 9, 11) {
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
    let writes = |process: &Process| {
        let counts = process.connection.counts().into_iter();
        let is_write = |verb: Verb, name: &str| {
            ![Verb::Get, Verb::List, Verb::Watch].contains(&verb) && !name.starts_with("leases")
        };
        counts
            .filter(|((verb, name), _)| is_write(*verb, name))
            .map(|((verb, name), count)| (verb, name, count))
            .collect::<Vec<_>>()
    };
    let idle: Vec<_> = processes.iter().flat_map(writes).collect();
    if !idle.is_empty() {
        return Err(format!("written without need: {idle:?}"));
    }
    if let Some(violation) = found.lock().unwrap().clone() {
        return Err(violation);
    }
    processes.into_iter().for_each(Process::crash);
    Ok(vec![(Verb::Create, "version".to_owned(), server.resource_version())])
}

fn run(seed: u64, both_lead: bool) -> Result<Vec<(Verb, String, u64)>, String> {
    let ended = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(history(seed, both_lead))
    });
    ended.join().unwrap()
}

fn seeds() -> Vec<u64> {
    match std::env::var("MOBULA_SIM_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => SEEDS.collect(),
    }
}

fn all(name: &str, both_lead: bool) {
    let mut failures = Vec::new();
    for seed in seeds() {
        if let Err(problem) = run(seed, both_lead) {
            failures.push(format!(
                "{problem}\n  again: MOBULA_SIM_SEED={seed} cargo test -p mobula-operator --test simulation {name}"
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
    assert_eq!(run(1, false), run(1, false));
}
