//! A random history: three clusters, of which one has gangs that a plan names, want more than there is, while connections
//! fail, operators die, pods are deleted and can't be made.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use mobula_apiserver::{ApiServer, Asked, Connection, Outcome, Refusal, Verb, Verdict};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    bench::{self, Process, cluster, server},
    config, gpu_cluster_with, gpus, is_gated, is_leaving, kubelet, node, pull_for, workers,
};

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
        // Some take longer than is waited for.
        let latency = |dice: &mut Dice| Duration::from_millis(dice.roll(30) * if dice.roll(60) == 0 { 300 } else { 1 });
        Verdict {
            request_latency: if is_write { latency(&mut dice) } else { Duration::from_millis(dice.roll(30)) },
            answer_latency: if is_write { latency(&mut dice) } else { Duration::from_millis(dice.roll(30)) },
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
    running: u64,
}

/// By gang and admission.
fn admissions(server: &ApiServer, cluster: &str) -> BTreeMap<String, Lifted> {
    let mut admissions: BTreeMap<String, Lifted> = BTreeMap::new();
    server.each("pods", "", |pod| {
        let annotations = &pod["metadata"]["annotations"];
        let admitted = annotations["mobula.dev/gang-admitted"].as_str();
        if let Some(text) = admitted.filter(|_| pod["metadata"]["labels"]["ray.io/cluster"] == cluster) {
            let key = format!("{} {text}", annotations["mobula.dev/gang"].as_str().unwrap());
            let lifted = admissions.entry(key).or_default();
            let admitted: Value = serde_json::from_str(text).unwrap();
            lifted.pods = admitted["pods"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
            lifted.bound += u64::from(pod["spec"]["nodeName"].is_string());
            lifted.running += u64::from(pod["status"]["phase"] == "Running");
        }
    });
    admissions
}

/// The cluster of which a plan names the gangs, of pods of two groups; in the others the group is the gang.
const NAMED: &str = "z";

/// Asks for so many pods. A plan names as a gang what is new.
fn scale(server: &ApiServer, name: &str, pods: u64) {
    let change = |it: &mut Value| {
        let groups = if name == NAMED { vec![pods / 2, pods - pods / 2] } else { vec![pods] };
        let mut gang = serde_json::Map::new();
        for (at, pods) in groups.into_iter().enumerate() {
            let group = &mut it["spec"]["workerGroupSpecs"][at];
            let new = pods.saturating_sub(group["replicas"].as_u64().unwrap());
            group["replicas"] = json!(pods);
            if new > 0 {
                gang.insert(group["groupName"].as_str().unwrap().to_owned(), json!(new));
            }
        }
        if name == NAMED {
            let number = it["metadata"]["generation"].as_u64().unwrap() + 1;
            it["metadata"]["generation"] = json!(number);
            let gangs = if gang.is_empty() { json!({}) } else { json!({format!("g{number}"): gang}) };
            it["metadata"]["annotations"]["mobula.dev/gangs"] = json!(gangs.to_string());
        }
    };
    server.edit("rayclusters", "default", name, change).unwrap();
}

/// How many pods the cluster asks for.
fn wanted(server: &ApiServer, name: &str) -> u64 {
    let cluster = server.get("rayclusters", "default", name).unwrap();
    let groups = cluster["spec"]["workerGroupSpecs"].as_array().unwrap();
    groups.iter().filter_map(|group| group["replicas"].as_u64()).sum()
}

fn named_cluster(server: &ApiServer) {
    let mut object = cluster(NAMED, 0, 1);
    object["metadata"]["annotations"] = json!({"mobula.dev/gangs": "{}"});
    let groups = object["spec"]["workerGroupSpecs"].as_array_mut().unwrap();
    groups[0]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = json!(8);
    let other = groups[0].clone();
    groups.push(other);
    groups[1]["groupName"] = json!("v");
    server.create("rayclusters", object).unwrap();
    scale(server, NAMED, 3);
}

/// What the world has done lately, by which deletions are judged.
#[derive(Default)]
struct Lately {
    /// When the world last asked for another number of pods of a cluster, or took one away.
    changed: BTreeMap<String, tokio::time::Instant>,
    /// Whoever deletes now is the world itself.
    by_hand: bool,
    /// Pods can't be made.
    is_full: bool,
    /// What must never be.
    violation: Option<String>,
}

/// As long as an operator may act on what was asked for before.
const LATELY: Duration = Duration::from_secs(10);

/// Refuses pods where there is no room for more; finds deletions of what runs, and of what was whole.
fn watch_over(server: &ApiServer) -> Arc<Mutex<Lately>> {
    let lately = Arc::new(Mutex::new(Lately::default()));
    let shared = lately.clone();
    server
        .admit("pods", move |review| {
            let mut lately = shared.lock().unwrap();
            let text = |pointer: &str| review.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let name = text("/metadata/labels/ray.io~1cluster");
            let is_worker = text("/metadata/labels/ray.io~1node-type") == "worker";
            if review.asked.verb == Verb::Create && lately.is_full && is_worker {
                return Err(Refusal::new(403, "Forbidden", "exceeded quota: pods"));
            }
            let is_quiet = lately.changed.get(name).is_none_or(|at| at.elapsed() > LATELY);
            let is_bound = !text("/spec/nodeName").is_empty() && !is_leaving(review.object);
            if review.asked.verb == Verb::Delete && is_worker && is_bound && is_quiet && !lately.by_hand {
                let gang = text("/metadata/annotations/mobula.dev~1gang");
                let admitted = text("/metadata/annotations/mobula.dev~1gang-admitted");
                let at = serde_json::from_str::<Value>(admitted).unwrap_or_default()["at"].clone();
                let cluster = review.objects("rayclusters", "default").find(|it| it["metadata"]["name"] == name);
                let whole = cluster.and_then(|it| it["metadata"]["annotations"]["mobula.dev/gangs-whole"].as_str());
                let whole: Value = serde_json::from_str(whole.unwrap_or("{}")).unwrap();
                // An operator that was away has yet to take away what is asked for no more.
                let group = text("/metadata/labels/ray.io~1group");
                let groups = cluster.and_then(|it| it["spec"]["workerGroupSpecs"].as_array()).into_iter().flatten();
                let wanted: u64 =
                    groups.filter(|it| it["groupName"] == group).filter_map(|it| it["replicas"].as_u64()).sum();
                let is_like = |pod: &&Value| {
                    let labels = &pod["metadata"]["labels"];
                    !is_leaving(pod) && labels["ray.io/cluster"] == name && labels["ray.io/group"] == group
                };
                let is_surplus = review.siblings("default").filter(is_like).count() as u64 > wanted;
                let runs = text("/status/phase") == "Running";
                let was_whole = whole[gang].as_array().is_some_and(|all| all.contains(&at));
                if !is_surplus && (runs || was_whole) {
                    let pod = text("/metadata/name");
                    let problem =
                        format!("{pod} of gang {gang} of {name} is deleted: runs {runs}, was whole {was_whole}");
                    lately.violation.get_or_insert(problem);
                }
            }
            Ok(())
        })
        .unwrap();
    lately
}

/// What is in part for too long, though it was never whole.
#[derive(Default)]
struct Partial {
    since: BTreeMap<&'static str, u64>,
    whole: BTreeSet<String>,
}

impl Partial {
    fn look(&mut self, server: &ApiServer, name: &'static str, turn: u64) -> Result<(), String> {
        // A gang that was never whole is in part because of a crash or a fault, and not for long, unless a part of it runs.
        let lifted = admissions(server, name);
        let is_whole = |it: &Lifted| it.bound >= it.pods;
        self.whole.extend(lifted.iter().filter(|(_, it)| is_whole(it)).map(|(key, _)| format!("{name} {key}")));
        let wanted = wanted(server, name);
        let is_partial = |(key, it): &(&String, &Lifted)| {
            !self.whole.contains(&format!("{name} {key}"))
                && it.bound > 0
                && it.running == 0
                && it.bound < it.pods.min(wanted)
        };
        match lifted.iter().find(is_partial) {
            None => {
                self.since.remove(name);
            }
            Some((key, it)) if turn - *self.since.entry(name).or_insert(turn) > PARTIAL_S * 2 => {
                return Err(format!("{name}: {} of {} pods for {PARTIAL_S} s ({key})", it.bound, it.pods));
            }
            Some(_) => {}
        }
        Ok(())
    }
}

/// Something happens in the world.
fn happen(server: &ApiServer, name: &'static str, dice: &mut Dice, lately: &Mutex<Lately>, partial: &mut Partial) {
    let changed = |name: &str| {
        lately.lock().unwrap().changed.insert(name.to_owned(), tokio::time::Instant::now());
    };
    match dice.roll(60) {
        0 => {
            changed(name);
            scale(server, name, dice.roll(4));
            partial.since.remove(name);
        }
        1 => {
            let pods = bench::pods(server, "worker");
            if let Some(pod) = pods.get(dice.roll(pods.len().max(1) as u64) as usize) {
                lately.lock().unwrap().by_hand = true;
                let _ = server.delete("pods", "default", pod);
                lately.lock().unwrap().by_hand = false;
                partial.since.clear();
            }
        }
        2 => {
            let mut lately = lately.lock().unwrap();
            lately.is_full = !lately.is_full;
        }
        _ => {}
    }
}

pub async fn history(seed: u64) -> Result<(), String> {
    const NODES: &[(&str, i64)] = &[("a", 8), ("b", 8), ("c", 8), ("d", 8), ("e", 8)];
    let server = server(seed);
    NODES.iter().enumerate().for_each(|(at, (name, gpus))| node(&server, name, ["z1", "z2"][at % 2], *gpus));
    kubelet(&server, NODES);
    let lately = watch_over(&server);
    let mut dice = Dice(seed ^ 0x9e37_79b9);
    let mut number = 0;
    let mut start = |dice: &mut Dice| {
        number += 1;
        Process::start(bad_connection(&server, dice.roll(u64::MAX)), config(), &format!("p{number}"))
    };
    // One leads, the other stands by with a view that may be old.
    let mut processes = [start(&mut dice), start(&mut dice)];
    let names = ["x", "y", NAMED];
    // Of one the images are pulled for longer than a gang is given to be bound.
    gpu_cluster_with(&server, "x", 3, |object| pull_for(object, 100));
    gpu_cluster_with(&server, "y", 3, |object| pull_for(object, seed % 50));
    named_cluster(&server);
    let mut partial = Partial::default();
    for turn in 0..300_u64 {
        sleep(Duration::from_millis(500)).await;
        let dies = (dice.roll(40) == 0).then(|| dice.roll(2) as usize);
        for (number, process) in processes.iter_mut().enumerate() {
            if dies == Some(number) || process.task.is_finished() {
                let fresh = start(&mut dice);
                std::mem::replace(process, fresh).crash();
            }
        }
        let name = names[dice.roll(3) as usize];
        happen(&server, name, &mut dice, &lately, &mut partial);
        if let Some(problem) = overcommitted(&server, NODES).or(lately.lock().unwrap().violation.clone()) {
            return Err(problem);
        }
        for name in names {
            partial.look(&server, name, turn)?;
        }
    }
    lately.lock().unwrap().is_full = false;
    for process in &mut processes {
        if process.task.is_finished() {
            *process = start(&mut dice);
        }
        process.connection.recover();
    }
    // One after the other, each runs whole.
    for name in names {
        for other in names {
            lately.lock().unwrap().changed.insert(other.to_owned(), tokio::time::Instant::now());
            scale(&server, other, if other == name { 3 } else { 0 });
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
    match &lately.lock().unwrap().violation {
        Some(problem) => Err(problem.clone()),
        None => Ok(()),
    }
}
