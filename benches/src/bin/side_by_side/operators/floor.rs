//! The least that makes RayClusters ready, whoever does it: for each one request for its Service, for each of its pods and for its
//! status, with nothing in between that has to be decided. What the API server needs for these no operator can undercut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, pin_mut, stream};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use mobula_tests::apiserver::post;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::task::{AbortHandle, JoinSet};

use super::field::{NAMESPACE, raycluster};

/// What a RayCluster consists of, by its name.
pub type Bodies = BTreeMap<String, Vec<Value>>;

/// Services and pods of RayClusters, as Mobula makes them.
pub async fn bodies(mobula: &Path, names: &[String], workers: u32) -> Result<Bodies> {
    let manifests = names.iter().map(|name| {
        let mut manifest = raycluster(name, workers, workers);
        manifest["metadata"]["namespace"] = json!(NAMESPACE);
        manifest
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": manifests.collect::<Vec<_>>()});
    let mut command = Command::new(mobula);
    command.args(["render", "-f", "-", "-o", "json"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("could not start mobula render")?;
    let mut input = child.stdin.take().context("mobula render has no input")?;
    let write = async move { input.write_all(list.to_string().as_bytes()).await };
    let (written, output) = tokio::join!(write, child.wait_with_output());
    written.context("could not write to mobula render")?;
    let output = output?;
    ensure!(output.status.success(), "mobula render ended with {}", output.status);
    // Names of objects are lowercase.
    let rendered: Value = serde_json::from_str(&String::from_utf8(output.stdout)?.replace("RAND-", "r"))?;
    let mut bodies = Bodies::new();
    for body in rendered["items"].as_array().context("mobula render printed no list")? {
        let owner = body["metadata"]["ownerReferences"][0]["name"].as_str().context("an object without an owner")?;
        bodies.entry(owner.to_owned()).or_default().push(body.clone());
    }
    Ok(bodies)
}

/// Starts making those RayClusters ready that appear, the earliest first, with so many under way at once.
pub fn start(client: Client, bodies: Bodies, most_under_way: usize) -> AbortHandle {
    let work = async move {
        if let Err(error) = run(client, bodies, most_under_way).await {
            eprintln!("the fewest requests: {error:#}");
        }
    };
    tokio::spawn(work).abort_handle()
}

async fn run(client: Client, mut bodies: Bodies, most_under_way: usize) -> Result<()> {
    let pods = |bodies: &[Value]| bodies.iter().filter(|body| body["kind"] == "Pod").count();
    let pods: BTreeMap<String, usize> = bodies.iter().map(|(name, bodies)| (name.clone(), pods(bodies))).collect();
    let mut running: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut waiting, mut under_way, mut tasks) = (VecDeque::new(), 0, JoinSet::new());
    let objects = stream::select(
        objects(client.clone(), &GroupVersionKind::gvk("ray.io", "v1", "RayCluster"), "rayclusters"),
        objects(client.clone(), &GroupVersionKind::gvk("", "v1", "Pod"), "pods"),
    );
    pin_mut!(objects);
    while let Some(object) = objects.next().await {
        while let Some(done) = tasks.try_join_next() {
            done??;
        }
        let name = object.name_any();
        match object.labels().get("ray.io/cluster") {
            Some(cluster) if object.data["status"]["phase"] == "Running" => {
                let running = running.entry(cluster.clone()).or_default();
                if running.insert(name) && Some(&running.len()) == pods.get(cluster) {
                    under_way -= 1;
                    tasks.spawn(say_ready(client.clone(), cluster.clone(), running.len() - 1));
                }
            }
            Some(_) => {}
            None => waiting.extend(bodies.remove(&name).map(|bodies| (object.uid().unwrap_or_default(), bodies))),
        }
        while under_way < most_under_way
            && let Some((uid, bodies)) = waiting.pop_front()
        {
            under_way += 1;
            for mut body in bodies {
                body["metadata"]["ownerReferences"][0]["uid"] = json!(uid);
                tasks.spawn(create(client.clone(), body));
            }
        }
    }
    Ok(())
}

/// Every state of every object of a kind.
fn objects(client: Client, kind: &GroupVersionKind, plural: &str) -> impl stream::Stream<Item = DynamicObject> + use<> {
    let api: Api<DynamicObject> = Api::all_with(client, &ApiResource::from_gvk_with_plural(kind, plural));
    watcher(api, watcher::Config::default()).default_backoff().filter_map(async |event| match event {
        Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => Some(object),
        _ => None,
    })
}

async fn create(client: Client, body: Value) -> Result<()> {
    let plural = if body["kind"] == "Pod" { "pods" } else { "services" };
    post(&client, &format!("/api/v1/namespaces/{NAMESPACE}/{plural}"), &body).await
}

async fn say_ready(client: Client, cluster: String, workers: usize) -> Result<()> {
    let status = json!({"status": {
        "state": "ready", "desiredWorkerReplicas": workers, "readyWorkerReplicas": workers,
        "availableWorkerReplicas": workers,
    }});
    let path = format!("/apis/ray.io/v1/namespaces/{NAMESPACE}/rayclusters/{cluster}/status");
    let request = http::Request::patch(path)
        .header("content-type", "application/merge-patch+json")
        .body(serde_json::to_vec(&status)?)?;
    let _: Value = client.request(request).await.context("could not say that it is ready")?;
    Ok(())
}
