//! Watching.

use anyhow::Result;
use serde_json::{Value, json};

use super::Session;
use super::cases::{widget, widgets};

const MAPS: &str = "/api/v1/namespaces/{ns}/configmaps";

fn map(name: &str, app: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": app}}})
}

pub(super) async fn changes(s: &mut Session) -> Result<()> {
    let widgets = widgets();
    let list = s.get(&widgets).await?;
    let version = list.version();
    s.call(&version, "LISTED");
    let mut watch =
        s.watch(&format!("{widgets}?watch=true&resourceVersion={version}&allowWatchBookmarks=true")).await?;
    let mut held = widget("a", &json!({"x": 1}));
    held["metadata"]["finalizers"] = json!(["example.com/one"]);
    s.post(&widgets, &held).await?;
    s.merge(&format!("{widgets}/a"), &json!({"spec": {"x": 2}})).await?;
    s.merge(&format!("{widgets}/a"), &json!({"spec": {"x": 2}})).await?;
    s.merge(&format!("{widgets}/a/status"), &json!({"status": {"y": 1}})).await?;
    s.delete(&format!("{widgets}/a"), &Value::Null).await?;
    s.merge(&format!("{widgets}/a"), &json!({"metadata": {"finalizers": null}})).await?;
    s.post(&widgets, &widget("b", &json!({}))).await?;
    s.delete(&format!("{widgets}/b"), &Value::Null).await?;
    s.events(&mut watch, 7).await?;
    drop(watch);
    let mut again = s.watch(&format!("{widgets}?watch=true&resourceVersion={version}")).await?;
    s.events(&mut again, 7).await?;
    let pods = "/api/v1/namespaces/{ns}/pods";
    let mut loose = s.watch(&format!("{pods}?watch=true")).await?;
    s.post(pods, &json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})).await?;
    s.delete(&format!("{pods}/p"), &Value::Null).await?;
    s.events(&mut loose, 3).await
}

pub(super) async fn selectors(s: &mut Session) -> Result<()> {
    let version = s.post(MAPS, &map("a", "x")).await?.version();
    s.call(&version, "MADE");
    let since = format!("{MAPS}?watch=true&resourceVersion={version}");
    let mut by_label = s.watch(&format!("{since}&labelSelector=app=x")).await?;
    let mut by_name = s.watch(&format!("{since}&fieldSelector=metadata.name=b")).await?;
    s.merge(&format!("{MAPS}/a"), &json!({"metadata": {"labels": {"app": "y"}}, "data": {"k": "1"}})).await?;
    s.merge(&format!("{MAPS}/a"), &json!({"data": {"k": "2"}})).await?;
    s.post(MAPS, &map("b", "x")).await?;
    s.merge(&format!("{MAPS}/a"), &json!({"metadata": {"labels": {"app": "x"}}})).await?;
    s.merge(&format!("{MAPS}/b"), &json!({"data": {"k": "3"}})).await?;
    s.delete(&format!("{MAPS}/b"), &Value::Null).await?;
    s.delete(&format!("{MAPS}/a"), &Value::Null).await?;
    s.events(&mut by_label, 6).await?;
    s.events(&mut by_name, 3).await
}

pub(super) async fn beginnings(s: &mut Session) -> Result<()> {
    let widgets = widgets();
    s.post(&widgets, &widget("a", &json!({}))).await?;
    s.post(&widgets, &widget("b", &json!({}))).await?;
    for query in ["", "&resourceVersion=0"] {
        let mut watch = s.watch(&format!("{widgets}?watch=true{query}")).await?;
        s.events(&mut watch, 2).await?;
    }
    let streamed = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = s.watch(&format!("{widgets}?watch=true&{streamed}")).await?;
    s.post(&widgets, &widget("c", &json!({}))).await?;
    s.events(&mut watch, 4).await?;
    s.get(&format!("{widgets}?watch=true&sendInitialEvents=true")).await?;
    s.get(&format!("{widgets}?watch=true&resourceVersionMatch=NotOlderThan&resourceVersion=1")).await?;
    s.get(&format!("{widgets}?watch=true&resourceVersion=abc")).await?;
    s.get(&format!("{widgets}?watch=true&labelSelector=a%20b")).await?;
    let mut short = s.watch(&format!("{widgets}?watch=true&resourceVersion=0&timeoutSeconds=1")).await?;
    s.events(&mut short, 4).await
}
