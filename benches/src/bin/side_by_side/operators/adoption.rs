//! RayClusters that KubeRay made are taken over by Mobula and given back: what stays, and everything that is changed.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Peer;
use super::field::{Field, NAMESPACE};
use super::work::{self, Options};

/// The kinds that belong to a RayCluster: plural and root of the path.
const KINDS: [(&str, &str); 7] = [
    ("rayclusters", "/apis/ray.io/v1"),
    ("pods", "/api/v1"),
    ("services", "/api/v1"),
    ("secrets", "/api/v1"),
    ("serviceaccounts", "/api/v1"),
    ("roles", "/apis/rbac.authorization.k8s.io/v1"),
    ("rolebindings", "/apis/rbac.authorization.k8s.io/v1"),
];

/// Objects by kind and name.
type Objects = BTreeMap<(&'static str, String), Value>;

/// Runs it and prints the report.
pub async fn run(options: &Options) -> Result<()> {
    let field = Field::start().await?;
    let mobula = options.mobula()?;
    let mut operator = field.operator(Peer::KubeRay, &mobula).await?;
    work::create(&field, options.adopt).await?;
    field.until_quiet(&mut operator).await?;
    operator.stop().await?;
    println!("\n{} RayClusters that {} made:", options.adopt, Peer::KubeRay);
    let mut before = objects(&field).await?;
    for peer in [Peer::Mobula, Peer::KubeRay] {
        let requests = field.requests(peer)?;
        let operator = field.operator(peer, &mobula).await?;
        let after = objects(&field).await?;
        let (same, all) = same_pods(&before, &after);
        println!("\n- {peer} takes over: {same} of {all} pods are the same and were not restarted");
        for (request, times) in field.requests(peer)? {
            let times = times - requests.get(&request).copied().unwrap_or_default();
            if times > 0 && !["watch", "list", "get"].contains(&request.verb.as_str()) {
                println!("  - {} {} ({}): {times}", request.verb, request.resource, request.code);
            }
        }
        for (change, (times, example)) in changes(&before, &after) {
            println!("  - {change}: {times}, as {example}");
        }
        operator.stop().await?;
        before = after;
    }
    Ok(())
}

async fn objects(field: &Field) -> Result<Objects> {
    let mut objects = Objects::new();
    for (plural, root) in KINDS {
        let path = format!("{root}/namespaces/{NAMESPACE}/{plural}");
        let mut list: Value = field.client.request(http::Request::get(&path).body(Vec::new())?).await.context(path)?;
        for object in list["items"].as_array_mut().map(std::mem::take).unwrap_or_default() {
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            objects.insert((plural, name), object);
        }
    }
    Ok(objects)
}

/// How many pods of `before` are still there and were not restarted, and how many there were.
fn same_pods(before: &Objects, after: &Objects) -> (usize, usize) {
    let pods = || before.iter().filter(|((plural, _), _)| *plural == "pods");
    let restarts = |pod: &Value| pod.pointer("/status/containerStatuses/0/restartCount").and_then(Value::as_i64);
    let is_same = |key: &(&str, String), pod: &Value| {
        after.get(key).is_some_and(|now| {
            now["metadata"]["uid"] == pod["metadata"]["uid"]
                && now["metadata"]["deletionTimestamp"].is_null()
                && restarts(now) == restarts(pod)
        })
    };
    (pods().filter(|(key, pod)| is_same(key, pod)).count(), pods().count())
}

/// Every field that is different: kind and path, how often, and one example.
fn changes(before: &Objects, after: &Objects) -> BTreeMap<String, (usize, String)> {
    let mut changes = BTreeMap::new();
    let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let object = |objects: &Objects| objects.get(key).cloned().unwrap_or_default();
        compare(key.0, &object(before), &object(after), &mut changes);
    }
    changes
}

fn compare(path: &str, before: &Value, after: &Value, changes: &mut BTreeMap<String, (usize, String)>) {
    const UNSAID: [&str; 2] = ["resourceVersion", "managedFields"];
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys.into_iter().filter(|key| !UNSAID.contains(&key.as_str())) {
                compare(&format!("{path}.{key}"), &before[key.as_str()], &after[key.as_str()], changes);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            old.iter().zip(new).for_each(|(old, new)| compare(&format!("{path}[]"), old, new, changes));
        }
        _ if before == after => {}
        _ => {
            let shortened = |value: &Value| value.to_string().chars().take(160).collect::<String>();
            let example = || format!("{} → {}", shortened(before), shortened(after));
            changes.entry(path.to_owned()).or_insert_with(|| (0, example())).0 += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_are_counted_by_kind_and_path() {
        let object = |value: Value, name: &str| (("pods", name.to_owned()), value);
        let before = Objects::from([
            object(json!({"metadata": {"resourceVersion": "1", "uid": "a"}, "spec": {"list": [{"n": 1}]}}), "a"),
            object(json!({"spec": {"list": [{"n": 1}]}}), "b"),
        ]);
        let after = Objects::from([
            object(json!({"metadata": {"resourceVersion": "2", "uid": "a"}, "spec": {"list": [{"n": 2}]}}), "a"),
            object(json!({"spec": {"list": [{"n": 3}]}}), "b"),
        ]);
        let expected = BTreeMap::from([("pods.spec.list[].n".to_owned(), (2, "1 → 2".to_owned()))]);
        assert_eq!(changes(&before, &after), expected);
        assert_eq!(same_pods(&before, &after), (2, 2));
        assert_eq!(same_pods(&before, &Objects::new()), (0, 2));
    }
}
