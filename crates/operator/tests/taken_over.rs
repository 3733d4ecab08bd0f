//! What a real KubeRay has made of every recorded RayCluster is taken over: no pod is deleted, and none is made that is not
//! asked for.
#![allow(clippy::unwrap_used, reason = "it is a test")]

mod bench;

use std::collections::BTreeMap;

use bench::{
    Process, kubelet,
    recorded::{config, inputs, manifest, recording},
    seconds, server,
};
use mobula_apiserver::{ApiServer, Verb};
use mobula_operator::frame::kind;
use serde_json::{Value, json};

/// The world as KubeRay has left it, and the name of the RayCluster. `None` if it made nothing.
async fn left(input: &str) -> Option<(ApiServer, String)> {
    let server = server(1);
    kubelet(&server);
    let cluster = server.create("rayclusters", manifest(input)?).ok()?;
    let uid = cluster["metadata"]["uid"].as_str().unwrap();
    let recording = recording(input).replace("NAMESPACE", "default").replace("\"UID\"", &json!(uid).to_string());
    // Names have small letters only.
    let recorded: Value = serde_json::from_str(&recording.replace("RAND-", "rand-")).unwrap();
    let objects = recorded["objects"].as_array().filter(|objects| !objects.is_empty())?;
    for object in objects {
        let text = |key: &str| object[key].as_str().unwrap();
        let kind = kind::Kind::of(text("apiVersion"), text("kind")).unwrap();
        let dot = if kind.group.is_empty() { "" } else { "." };
        server.create(&format!("{}{dot}{}", kind.plural, kind.group), object.clone()).unwrap();
    }
    seconds(2).await;
    let name = cluster["metadata"]["name"].as_str().unwrap().to_owned();
    Some((server, name))
}

/// uid of each pod.
fn pods(server: &ApiServer) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pods = server.list("pods", "default");
    pods.iter().map(|pod| (text(&pod["metadata"]["name"]), text(&pod["metadata"]["uid"]))).collect()
}

fn edit(server: &ApiServer, name: &str, change: impl Fn(&mut Value)) {
    let change = |cluster: &mut Value| {
        change(cluster);
        cluster["metadata"]["generation"] = json!(cluster["metadata"]["generation"].as_i64().unwrap_or(1) + 1);
    };
    server.edit("rayclusters", "default", name, change).unwrap();
}

/// Whether KubeRay left something, and what is wrong with what becomes of it.
async fn taken_over(input: &str) -> Option<Vec<String>> {
    let (server, name) = left(input).await?;
    let mut wrong = Vec::new();
    let before = pods(&server);
    let process = Process::start(server.connect(), config(input), "a");
    seconds(90).await;
    let changed = [Verb::Create, Verb::Delete].map(|verb| process.connection.count(verb, "pods"));
    if changed != [0, 0] || pods(&server) != before {
        wrong.push(format!("{input}: {changed:?} pods were made and deleted"));
    }
    let groups = process.connection.counts().into_iter().filter(|((_, what), _)| what.starts_with("podgroups"));
    let groups: Vec<Verb> = groups.map(|((verb, _), _)| verb).filter(|verb| *verb != Verb::List).collect();
    if groups.iter().any(|verb| *verb != Verb::Watch) {
        wrong.push(format!("{input}: its PodGroup was written: {groups:?}"));
    }
    let recorded: Value = serde_json::from_str(&recording(input)).unwrap();
    let state = server.get("rayclusters", "default", &name).unwrap()["status"]["state"].clone();
    // Of two groups of one name KubeRay says nothing.
    if state != recorded["status"]["state"] && input != "x-bad-dupgroup" {
        wrong.push(format!("{input}: it is {state}"));
    }
    process.end().await;
    Some(wrong)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(future)
}

#[test]
fn no_pod_that_kuberay_made_is_deleted_or_made_again() {
    let outcomes: Vec<Vec<String>> = inputs().iter().filter_map(|input| run(taken_over(input))).collect();
    assert!(outcomes.len() >= 50, "only {} that KubeRay made something of", outcomes.len());
    assert_eq!(outcomes.concat(), [""; 0]);
}

/// What was left of an input, and an operator that has taken it over.
async fn over(input: &str) -> (ApiServer, Process, BTreeMap<String, String>) {
    let (server, name) = left(input).await.unwrap();
    assert_eq!(name, input);
    let process = Process::start(server.connect(), config(input), "a");
    seconds(30).await;
    let pods = pods(&server);
    (server, process, pods)
}

/// How many pods of `before` are there, and how many others.
fn kept_and_new(server: &ApiServer, before: &BTreeMap<String, String>) -> (usize, usize) {
    let after = pods(server);
    let kept = after.iter().filter(|(name, uid)| before.get(*name) == Some(uid)).count();
    (kept, after.len() - kept)
}

#[tokio::test(start_paused = true)]
async fn replicas_of_several_hosts_that_kuberay_made_stay_whole() {
    let (server, process, before) = over("x-numhosts").await;
    let replicas = |replicas: u64| {
        edit(&server, "x-numhosts", |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(replicas));
    };
    assert_eq!(before.len(), 7, "a head, two replicas of three hosts");
    replicas(3);
    seconds(10).await;
    assert_eq!(kept_and_new(&server, &before), (7, 3));
    // A host is gone: the others of its replica go, too.
    server.delete("pods", "default", "x-numhosts-tpu-worker-rand-004").unwrap();
    seconds(10).await;
    assert_eq!(kept_and_new(&server, &before), (4, 6));
    let left = |number: u32| pods(&server).contains_key(&format!("x-numhosts-tpu-worker-rand-00{number}"));
    assert_eq!([0, 1, 2, 3, 4, 5].map(left), [true, true, true, false, false, false]);
    replicas(1);
    seconds(10).await;
    assert_eq!(pods(&server).len(), 4);
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_kuberay_made_is_recreated_once_its_spec_changes() {
    let (server, process, before) = over("x-upgrade").await;
    assert_eq!(kept_and_new(&server, &before), (2, 0));
    edit(&server, "x-upgrade", |it| {
        it["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["image"] = json!("ray:2");
    });
    seconds(20).await;
    assert_eq!(kept_and_new(&server, &before), (0, 2));
    process.end().await;
}
