//! Pods.

use anyhow::Result;
use serde_json::{Value, json};

use super::Session;

const PODS: &str = "/api/v1/namespaces/{ns}/pods";

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn binding(node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"apiVersion": "v1", "kind": "Node", "name": node}})
}

pub(super) async fn life(s: &mut Session) -> Result<()> {
    let mut made = pod("a");
    made["status"] = json!({"phase": "Running", "podIP": "1.2.3.4"});
    s.post(PODS, &made).await?;
    let path = format!("{PODS}/a");
    s.get(&format!("{PODS}?fieldSelector=spec.nodeName=,status.phase=Pending")).await?;
    s.post(&format!("{path}/binding"), &binding("n")).await?;
    s.get(&path).await?;
    s.post(&format!("{path}/binding"), &binding("m")).await?;
    s.post(&format!("{PODS}/missing/binding"), &binding("m")).await?;
    let status = json!({"metadata": {"labels": {"l": "1"}}, "spec": {"priority": 5}, "status": {"phase": "Running", "podIP": "1.2.3.4", "podIPs": [{"ip": "1.2.3.4"}]}});
    s.merge(&format!("{path}/status"), &status).await?;
    s.get(&format!("{PODS}?fieldSelector=spec.nodeName=n,status.phase!=Pending")).await?;
    s.post(
        &format!("{path}/eviction"),
        &json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}}),
    )
    .await?;
    s.get(&path).await?;
    s.post(
        &format!("{PODS}/missing/eviction"),
        &json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "missing"}}),
    )
    .await?;
    Ok(())
}

pub(super) async fn grace(s: &mut Session) -> Result<()> {
    // Without a node nobody has to be waited for.
    s.post(PODS, &pod("loose")).await?;
    s.delete(&format!("{PODS}/loose"), &Value::Null).await?;
    s.get(&format!("{PODS}/loose")).await?;
    s.post(PODS, &pod("a")).await?;
    let path = format!("{PODS}/a");
    s.post(&format!("{path}/binding"), &binding("n")).await?;
    s.delete(&path, &Value::Null).await?;
    s.delete(&path, &Value::Null).await?;
    s.delete(&path, &json!({"gracePeriodSeconds": 60})).await?;
    s.delete(&path, &json!({"gracePeriodSeconds": 5})).await?;
    s.get(&path).await?;
    s.delete(&path, &json!({"gracePeriodSeconds": 0})).await?;
    s.get(&path).await?;
    // With a finalizer even the end of the grace is no end.
    let mut held = pod("held");
    held["metadata"]["finalizers"] = json!(["example.com/one"]);
    s.post(PODS, &held).await?;
    let path = format!("{PODS}/held");
    s.delete(&path, &json!({"gracePeriodSeconds": 0})).await?;
    s.get(&path).await?;
    s.merge(&path, &json!({"metadata": {"finalizers": null}})).await?;
    s.get(&path).await?;
    // What has ended needs no time to end.
    s.post(PODS, &pod("ended")).await?;
    let path = format!("{PODS}/ended");
    s.post(
        &format!("{path}/binding"),
        &json!({"metadata": {"name": "ended"}, "target": {"kind": "Node", "name": "n"}}),
    )
    .await?;
    s.merge(&format!("{path}/status"), &json!({"status": {"phase": "Succeeded"}})).await?;
    s.delete(&path, &Value::Null).await?;
    s.get(&path).await?;
    // Its own grace.
    let mut patient = pod("patient");
    patient["spec"]["nodeName"] = json!("n");
    patient["spec"]["terminationGracePeriodSeconds"] = json!(300);
    s.post(PODS, &patient).await?;
    s.delete(&format!("{PODS}/patient"), &Value::Null).await?;
    s.delete(&format!("{PODS}?fieldSelector=metadata.name=patient"), &json!({"gracePeriodSeconds": 0})).await?;
    Ok(())
}

pub(super) async fn gates(s: &mut Session) -> Result<()> {
    let mut gated = pod("a");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/one"}, {"name": "example.com/two"}]);
    gated["spec"]["nodeSelector"] = json!({"pool": "p"});
    s.post(PODS, &gated).await?;
    let path = format!("{PODS}/a");
    s.post(&format!("{path}/binding"), &binding("n")).await?;
    s.merge(&path, &json!({"spec": {"nodeSelector": {"rack": "r"}}})).await?;
    s.merge(&path, &json!({"spec": {"nodeSelector": {"pool": "q"}}})).await?;
    s.merge(&path, &json!({"spec": {"nodeSelector": {"pool": null}}})).await?;
    s.json_patch(
        &path,
        &json!([{"op": "add", "path": "/spec/schedulingGates/-", "value": {"name": "example.com/three"}}]),
    )
    .await?;
    s.json_patch(&path, &json!([{"op": "remove", "path": "/spec/schedulingGates/1"}])).await?;
    s.json_patch(&path, &json!([{"op": "remove", "path": "/spec/schedulingGates"}, {"op": "add", "path": "/spec/nodeSelector/host", "value": "h"}])).await?;
    s.merge(&path, &json!({"spec": {"nodeSelector": {"host": "i"}}})).await?;
    s.merge(&path, &json!({"spec": {"schedulingGates": [{"name": "example.com/one"}]}})).await?;
    s.post(&format!("{path}/binding"), &binding("n")).await?;
    Ok(())
}

pub(super) async fn what_may_change(s: &mut Session) -> Result<()> {
    let mut sized = pod("a");
    sized["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "1Gi"}});
    s.post(PODS, &sized).await?;
    let path = format!("{PODS}/a");
    s.merge(&path, &json!({"metadata": {"labels": {"x": "y"}, "annotations": {"a": "b c"}}})).await?;
    s.json_patch(&path, &json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "j"}])).await?;
    s.json_patch(&path, &json!([{"op": "replace", "path": "/spec/containers/0/name", "value": "d"}])).await?;
    s.json_patch(&path, &json!([{"op": "add", "path": "/spec/hostNetwork", "value": true}])).await?;
    s.json_patch(&path, &json!([{"op": "add", "path": "/spec/activeDeadlineSeconds", "value": 100}])).await?;
    let bigger = json!([{"op": "replace", "path": "/spec/containers/0/resources/requests/memory", "value": "2Gi"}]);
    s.json_patch(&path, &bigger).await?;
    s.json_patch(&format!("{path}/resize"), &bigger).await?;
    s.json_patch(
        &format!("{path}/resize"),
        &json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "k"}]),
    )
    .await?;
    Ok(())
}
