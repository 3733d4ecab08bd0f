//! A real KubeRay on a real API server, which is given all inputs at once, each in a namespace of its own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use kube::Client;
use mobula_tests::apiserver::{ApiServer, post};
use mobula_tests::nodes::Nodes;
use mobula_tests::process::Process;
use mobula_tests::{kuberay, parts, wait};
use serde_json::{Value, json};

use crate::{record::Recording, text};

/// As whom KubeRay speaks: of this user the audit log has the bodies of creating requests.
const USER: &str = "recorded";
/// For KubeRay to start.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Who has written nothing for so long has nothing left to do.
const QUIET: Duration = Duration::from_secs(10);
/// For all to settle.
const SETTLE_LIMIT: Duration = Duration::from_secs(300);

/// Records what KubeRay does with `inputs`, which are folders of `corpus`, when it is told of this batch scheduler.
pub async fn record(scheduler: &str, inputs: &[String], corpus: &Path) -> Result<Vec<(String, Recording)>> {
    let kinds = ["rayclusters", "rayjobs", "rayservices", "raycronjobs"];
    let definitions = kinds.iter().map(|kind| parts::kuberay_crd(kind)).collect::<Result<Vec<_>>>()?;
    let definitions: Vec<&Path> = definitions.iter().map(PathBuf::as_path).collect();
    let server = ApiServer::start(&definitions).await?;
    let client = server.stand_in_client().await?;
    for (group, version) in pod_groups(scheduler)? {
        post(&client, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &pod_group(group, version)).await?;
        until_served(&client, &format!("/apis/{group}/{version}/podgroups")).await?;
    }
    for kind in kinds {
        until_served(&client, &format!("/apis/ray.io/v1/{kind}")).await?;
    }
    let _nodes = Nodes::start(server.stand_in_client().await?, &[]);
    let directory = tempfile::tempdir().context("no directory")?;
    let _operator = start_kuberay(&server, scheduler, directory.path()).await?;
    let namespace = |at: usize| format!("golden-{at:03}");
    for (at, input) in inputs.iter().enumerate() {
        post(&client, "/api/v1/namespaces", &json!({"metadata": {"name": namespace(at)}})).await?;
        let path = corpus.join(input).join("input.yaml");
        let manifests = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        create(&client, &namespace(at), &manifests).await.with_context(|| input.clone())?;
    }
    until_quiet(&server).await?;
    let bodies = server.created()?;
    let mut recordings = Vec::new();
    for (at, input) in inputs.iter().enumerate() {
        let namespace = namespace(at);
        let of_input = bodies.iter().filter(|body| text(body, "/metadata/namespace") == namespace).cloned().collect();
        let clusters = list(&client, &format!("/apis/ray.io/v1/namespaces/{namespace}/rayclusters")).await?;
        let events = list(&client, &format!("/api/v1/namespaces/{namespace}/events")).await?;
        let cluster = clusters.first().unwrap_or(&Value::Null);
        recordings.push((input.clone(), Recording::new(&namespace, of_input, cluster, &events)));
    }
    Ok(recordings)
}

/// What KubeRay calls the scheduler.
fn flag(scheduler: &str) -> &str {
    if scheduler == "kai" { "kai-scheduler" } else { scheduler }
}

/// The kinds of pod groups that the scheduler needs: API groups and versions.
fn pod_groups(scheduler: &str) -> Result<&'static [(&'static str, &'static str)]> {
    Ok(match scheduler {
        "" | "kai" | "yunikorn" => &[],
        "volcano" => &[("scheduling.volcano.sh", "v1beta1")],
        "scheduler-plugins" => &[("scheduling.x-k8s.io", "v1alpha1")],
        other => bail!("no batch scheduler is called {other}: the name of the folder must end in one that KubeRay has"),
    })
}

/// A definition that takes whatever is sent.
fn pod_group(group: &str, version: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("podgroups.{group}"),
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/scheduler-plugins/pull/52"},
        },
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": "PodGroup", "listKind": "PodGroupList", "plural": "podgroups", "singular": "podgroup"},
            "versions": [{
                "name": version, "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}

async fn start_kuberay(server: &ApiServer, scheduler: &str, directory: &Path) -> Result<Process> {
    let mut command = kuberay::command(&server.kubeconfig(USER)?)?;
    if !scheduler.is_empty() {
        command.arg(format!("--batch-scheduler={}", flag(scheduler)));
    }
    kuberay::start("kuberay", &mut command, directory, START_LIMIT).await
}

/// Creates everything in a file of manifests. As kubectl reads: 0777 is octal.
async fn create(client: &Client, namespace: &str, manifests: &str) -> Result<()> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(manifests, options)?;
    for mut object in documents.into_iter().filter(Value::is_object) {
        object["metadata"]["namespace"] = json!(namespace);
        let kind = text(&object, "/kind");
        let plural = format!("{}s", kind.to_lowercase());
        let path = match text(&object, "/apiVersion") {
            "v1" => format!("/api/v1/namespaces/{namespace}/{plural}"),
            group => format!("/apis/{group}/namespaces/{namespace}/{plural}"),
        };
        // What is of no kind that is served here (a queue, a monitor) KubeRay does not look at either.
        if let Err(error) = post(client, &path, &object).await {
            let is_unknown = matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.code == 404);
            if !is_unknown {
                return Err(error.context(format!("{kind} {}", text(&object, "/metadata/name"))));
            }
        }
    }
    Ok(())
}

async fn until_quiet(server: &ApiServer) -> Result<()> {
    let start = Instant::now();
    let mut last = (usize::MAX, Instant::now());
    while last.1.elapsed() < QUIET {
        let is_write = |verb: &str| !["get", "list", "watch"].contains(&verb);
        let requests = server.audit(USER)?;
        let writes = requests.iter().filter(|(it, _)| is_write(&it.verb)).map(|(_, times)| times).sum();
        if writes != last.0 {
            last = (writes, Instant::now());
        }
        // One that can't be carried out is tried for ever.
        if start.elapsed() > SETTLE_LIMIT {
            eprintln!("KubeRay still writes after {} s: recorded as it is", SETTLE_LIMIT.as_secs());
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// Waits until objects of a kind can be listed: KubeRay looks for what is not served yet only once in a while.
async fn until_served(client: &Client, path: &str) -> Result<()> {
    wait::until(path, START_LIMIT, async || Ok(list(client, path).await.is_ok()), |is_served| *is_served)
        .await
        .map(drop)
}

async fn list(client: &Client, path: &str) -> Result<Vec<Value>> {
    let mut list: Value = client.request(http::Request::get(path).body(Vec::new())?).await?;
    Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
}
