//! Server-side apply: the request that `kubectl apply --server-side` makes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiCapabilities, Scope, pinned_kind};
use serde_json::Value;

/// The objects in a YAML file, or in the YAML files of a directory.
pub fn read(path: &Path) -> Result<Vec<Value>> {
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        files = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.sort();
    }
    let mut objects = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("could not read {}", file.display()))?;
        objects.extend(parse(&text).with_context(|| format!("could not read {}", file.display()))?);
    }
    Ok(objects)
}

/// The objects in a YAML text of several documents.
pub fn parse(text: &str) -> Result<Vec<Value>> {
    // The definitions of KubeRay's kinds are larger than what is thought to be harmless.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_events: 50_000_000, max_nodes: 20_000_000, },
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Applies the objects in their order.
pub async fn apply(client: &kube::Client, objects: &[Value]) -> Result<()> {
    for object in objects {
        let path = path(client, object).await?;
        let request = http::Request::patch(format!("{path}?fieldManager=kubectl&fieldValidation=Strict"))
            .header("content-type", "application/apply-patch+yaml")
            .body(serde_json::to_vec(object)?)?;
        let _: Value = client.request(request).await.with_context(|| format!("could not apply {path}"))?;
    }
    Ok(())
}

async fn path(client: &kube::Client, object: &Value) -> Result<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind, name) = (text(&object["apiVersion"]), text(&object["kind"]), text(&object["metadata"]["name"]));
    let (group, number) = version.split_once('/').unwrap_or(("", &version));
    let (resource, ApiCapabilities { scope, .. }) =
        pinned_kind(client, &GroupVersionKind::gvk(group, number, &kind)).await.with_context(|| kind.clone())?;
    let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{version}") };
    let namespace = match (scope, object["metadata"]["namespace"].as_str()) {
        (Scope::Cluster, _) => String::new(),
        (Scope::Namespaced, namespace) => format!("/namespaces/{}", namespace.unwrap_or("default")),
    };
    Ok(format!("{root}{namespace}/{}/{name}", resource.plural))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_documents_are_no_objects() {
        let objects = parse("# only a comment\n---\nkind: A\n---\n---\nkind: B\n").unwrap();
        assert_eq!(objects.iter().map(|object| object["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["A", "B"]);
    }
}
