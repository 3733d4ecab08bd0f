//! Stands in for scheduler and kubelets, for every pod of some namespaces: a pod gets a node, runs and is ready; a pod that
//! is to go goes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::Client;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};

use crate::apiserver::post;

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(30);

/// Most pods that were seen at once, those on their way out included: namespace and group → number.
pub type Most = BTreeMap<(String, String), usize>;

/// The running stand-in; it ends when dropped.
pub struct Nodes {
    most: Arc<Mutex<Most>>,
    task: JoinHandle<()>,
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Nodes {
    /// Starts it for these namespaces.
    pub fn start(client: Client, namespaces: &[&str]) -> Nodes {
        let most = Arc::new(Mutex::new(Most::new()));
        let paths: Vec<String> = namespaces.iter().map(|name| format!("/api/v1/namespaces/{name}/pods")).collect();
        let seen = most.clone();
        let task = tokio::spawn(async move {
            loop {
                for path in &paths {
                    if let Err(error) = turn(&client, path, &seen).await {
                        eprintln!("the stand-in for the kubelets: {error:#}");
                    }
                }
                tokio::time::sleep(PERIOD).await;
            }
        });
        Nodes { most, task }
    }

    /// Most pods of a group that were seen at once.
    pub fn most(&self, namespace: &str, group: &str) -> usize {
        let most = self.most.lock().unwrap_or_else(PoisonError::into_inner);
        most.get(&(namespace.to_owned(), group.to_owned())).copied().unwrap_or_default()
    }
}

async fn turn(client: &Client, path: &str, most: &Mutex<Most>) -> Result<()> {
    let list: Value = client.request(http::Request::get(path).body(Vec::new())?).await?;
    let pods = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    count(pods, &mut most.lock().unwrap_or_else(PoisonError::into_inner));
    let mut tasks = JoinSet::new();
    for pod in pods {
        tasks.spawn(serve(client.clone(), path.to_owned(), pod.clone()));
    }
    while let Some(done) = tasks.join_next().await {
        done.context("a task has failed")??;
    }
    Ok(())
}

fn count(pods: &[Value], most: &mut Most) {
    let mut now = Most::new();
    for pod in pods {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &pod["metadata"];
        *now.entry((text(&metadata["namespace"]), text(&metadata["labels"]["ray.io/group"]))).or_default() += 1;
    }
    for (group, number) in now {
        let known = most.entry(group).or_default();
        *known = number.max(*known);
    }
}

async fn serve(client: Client, path: String, pod: Value) -> Result<()> {
    let name = pod["metadata"]["name"].as_str().context("a pod without a name")?;
    let done = if pod["metadata"]["deletionTimestamp"].is_string() {
        let request = http::Request::delete(format!("{path}/{name}?gracePeriodSeconds=0")).body(Vec::new())?;
        client.request::<Value>(request).await.map(|_| ()).map_err(anyhow::Error::from)
    } else if pod["status"]["phase"] != "Running" {
        run(&client, &path, name, &pod).await
    } else {
        Ok(())
    };
    // It may be gone, or on its way out, by now.
    done.or_else(|error| match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
        _ => Err(error),
    })
}

async fn run(client: &Client, path: &str, name: &str, pod: &Value) -> Result<()> {
    if pod["spec"]["nodeName"].is_null() {
        let target = json!({"apiVersion": "v1", "kind": "Node", "name": "node"});
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target});
        post(client, &format!("{path}/{name}/binding"), &binding).await?;
    }
    let containers = pod["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let statuses: Vec<Value> = containers.iter().map(running).collect();
    let ready = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"status": {
        "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": statuses,
        "conditions": [ready("PodScheduled"), ready("Initialized"), ready("ContainersReady"), ready("Ready")],
    }});
    let request = http::Request::patch(format!("{path}/{name}/status"))
        .header("content-type", "application/merge-patch+json")
        .body(serde_json::to_vec(&status)?)?;
    let _: Value = client.request(request).await?;
    Ok(())
}

fn running(container: &Value) -> Value {
    json!({
        "name": container["name"], "image": container["image"], "imageID": "", "ready": true, "started": true,
        "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    })
}
