//! Deleting.

use anyhow::Result;
use serde_json::{Value, json};

use super::Session;
use super::cases::{widget, widgets};

const MAPS: &str = "/api/v1/namespaces/{ns}/configmaps";
const JOBS: &str = "/apis/batch/v1/namespaces/{ns}/jobs";

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

pub(super) async fn preconditions(s: &mut Session) -> Result<()> {
    let first = s.post(MAPS, &map("a")).await?;
    let path = format!("{MAPS}/a");
    let second = s.merge(&path, &json!({"data": {"x": "1"}})).await?;
    s.delete(&path, &json!({"preconditions": {"uid": "other"}})).await?;
    s.delete(&path, &json!({"preconditions": {"resourceVersion": first.version()}})).await?;
    let exactly = json!({"preconditions": {"uid": second.uid(), "resourceVersion": second.version()}});
    s.call(&first.version(), "FIRST");
    s.delete(&path, &exactly).await?;
    s.delete(&path, &exactly).await?;
    s.delete(&path, &json!({"propagationPolicy": "Sideways"})).await?;
    Ok(())
}

pub(super) async fn finalizers(s: &mut Session) -> Result<()> {
    let widgets = widgets();
    let mut held = widget("a", &json!({"x": 1}));
    held["metadata"]["finalizers"] = json!(["example.com/one", "example.com/two"]);
    s.post(&widgets, &held).await?;
    let path = format!("{widgets}/a");
    s.delete(&path, &Value::Null).await?;
    s.delete(&path, &Value::Null).await?;
    s.merge(&path, &json!({"metadata": {"finalizers": ["example.com/one", "example.com/three"]}})).await?;
    s.merge(&path, &json!({"metadata": {"deletionTimestamp": null, "labels": {"still": "here"}}})).await?;
    s.post(&widgets, &widget("a", &json!({}))).await?;
    s.merge(&path, &json!({"metadata": {"finalizers": ["example.com/two"]}})).await?;
    s.merge(&format!("{path}/status"), &json!({"status": {"x": 1}})).await?;
    s.merge(&path, &json!({"metadata": {"finalizers": null}})).await?;
    s.get(&path).await?;
    Ok(())
}

pub(super) async fn propagation(s: &mut Session) -> Result<()> {
    for (name, policy) in [("a", "Foreground"), ("b", "Orphan"), ("c", "Background")] {
        s.post(MAPS, &map(name)).await?;
        let path = format!("{MAPS}/{name}");
        s.delete(&path, &json!({"propagationPolicy": policy})).await?;
        s.get(&path).await?;
    }
    s.delete(&format!("{MAPS}/a"), &json!({"propagationPolicy": "Background"})).await?;
    s.get(&format!("{MAPS}/a")).await?;
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    s.post(JOBS, &json!({"metadata": {"name": "j"}, "spec": {"template": template}})).await?;
    s.delete(&format!("{JOBS}/j"), &Value::Null).await?;
    s.get(&format!("{JOBS}/j")).await?;
    Ok(())
}

pub(super) async fn collections(s: &mut Session) -> Result<()> {
    for (name, app) in [("a", "x"), ("b", "y"), ("c", "x")] {
        s.post(MAPS, &json!({"metadata": {"name": name, "labels": {"app": app}}})).await?;
    }
    s.delete(&format!("{MAPS}?labelSelector=app=x"), &Value::Null).await?;
    s.get(&format!("{MAPS}?labelSelector=app")).await?;
    s.delete(&format!("{MAPS}?labelSelector=app=none"), &Value::Null).await?;
    Ok(())
}

pub(super) async fn dry_runs(s: &mut Session) -> Result<()> {
    s.post(&format!("{MAPS}?dryRun=All"), &map("a")).await?;
    s.get(&format!("{MAPS}/a")).await?;
    s.post(MAPS, &map("a")).await?;
    s.merge(&format!("{MAPS}/a?dryRun=All"), &json!({"data": {"x": "1"}})).await?;
    s.delete(&format!("{MAPS}/a"), &json!({"dryRun": ["All"]})).await?;
    s.get(&format!("{MAPS}/a")).await?;
    Ok(())
}

pub(super) async fn namespaces(s: &mut Session) -> Result<()> {
    s.get("/api/v1/namespaces/{ns}").await?;
    s.post(MAPS, &map("a")).await?;
    s.delete("/api/v1/namespaces/{ns}", &Value::Null).await?;
    s.get("/api/v1/namespaces/{ns}").await?;
    s.post(MAPS, &map("b")).await?;
    s.merge(&format!("{MAPS}/a"), &json!({"data": {"x": "1"}})).await?;
    Ok(())
}
