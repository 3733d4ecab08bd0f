//! Stands in for the kubelet: says of pods what it would say of those that run.

use anyhow::{Context as _, Result};
use kube::Client;
use serde_json::{Value, json};

/// Says that the containers of `pod`, which was just created, run with what they ask for.
///
/// # Errors
/// If the API server does not take it.
pub async fn run(client: &Client, pods_path: &str, pod: &Value) -> Result<()> {
    let containers: Vec<Value> = containers(pod).iter().map(|wanted| running(wanted, &wanted["resources"])).collect();
    set_status(client, pods_path, pod, &json!({"phase": "Running", "containerStatuses": containers})).await
}

/// One step of an in-place resize, if `pod` asks for other resources than it has: first it is under way, with what is
/// requested set aside; then it is done.
///
/// # Errors
/// If the API server does not take it.
pub async fn resize(client: &Client, pods_path: &str, pod: &Value) -> Result<()> {
    let statuses = pod["status"]["containerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let pairs = || containers(pod).iter().zip(statuses);
    if pairs().all(|(wanted, actual)| wanted["resources"] == actual["resources"]) {
        return Ok(());
    }
    let is_under_way = pairs().all(|(wanted, actual)| wanted["resources"]["requests"] == actual["allocatedResources"]);
    let status = if is_under_way {
        let containers: Vec<Value> = pairs().map(|(wanted, _)| running(wanted, &wanted["resources"])).collect();
        json!({"conditions": null, "containerStatuses": containers})
    } else {
        let containers: Vec<Value> = pairs().map(|(wanted, actual)| running(wanted, &actual["resources"])).collect();
        let condition = json!({"type": "PodResizeInProgress", "status": "True"});
        json!({"conditions": [condition], "containerStatuses": containers})
    };
    set_status(client, pods_path, pod, &status).await
}

fn containers(pod: &Value) -> &[Value] {
    pod["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The status of the container `wanted` that runs with `actual`.
fn running(wanted: &Value, actual: &Value) -> Value {
    json!({
        "name": wanted["name"], "ready": true, "restartCount": 0, "image": wanted["image"], "imageID": "",
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        "resources": actual, "allocatedResources": wanted["resources"]["requests"],
    })
}

async fn set_status(client: &Client, pods_path: &str, pod: &Value, status: &Value) -> Result<()> {
    let name = pod["metadata"]["name"].as_str().context("a pod without a name")?;
    let request = http::Request::patch(format!("{pods_path}/{name}/status"))
        .header("content-type", "application/merge-patch+json")
        .body(serde_json::to_vec(&json!({"status": status}))?)?;
    let _: Value = client.request(request).await.with_context(|| format!("could not set the status of {name}"))?;
    Ok(())
}
