//! `crates/api/src/schema/kubernetes.json` comes from the OpenAPI that a real kube-apiserver publishes: one type a line,
//! without descriptions, words and what only documents. `MOBULA_REWRITE_GOLDEN=1` writes it anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mobula_tests::apiserver::ApiServer;
use serde_json::{Map, Value, json};

/// What our types refer to. Everything that these refer to comes with them.
const ROOTS: [&str; 11] = [
    "core.v1.EnvFromSource",
    "core.v1.EnvVar",
    "core.v1.EnvVarSource",
    "core.v1.PodTemplateSpec",
    "core.v1.ResourceRequirements",
    "core.v1.SecurityContext",
    "core.v1.Service",
    "core.v1.VolumeMount",
    "networking.v1.IngressTLS",
    "networking.v1.NetworkPolicyEgressRule",
    "networking.v1.NetworkPolicyIngressRule",
];

/// Types that have schemas of their own in definitions.
const BUILT_IN: [&str; 4] =
    ["api.resource.Quantity", "apis.meta.v1.ObjectMeta", "apis.meta.v1.Time", "util.intstr.IntOrString"];

/// What of a schema is structure. Words are left out: a newer Kubernetes has more of them.
const KEPT: [&str; 6] =
    ["type", "format", "required", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"];

pub async fn run() -> Result<()> {
    let client = ApiServer::shared().await?.admin_client().await?;
    let mut published = BTreeMap::new();
    for group in ["api/v1", "apis/networking.k8s.io/v1"] {
        let request = http::Request::get(format!("/openapi/v3/{group}")).body(Vec::new())?;
        let mut document: Value = client.request(request).await.with_context(|| format!("no OpenAPI of {group}"))?;
        let Value::Object(schemas) = document["components"]["schemas"].take() else { continue };
        published.extend(schemas.into_iter().map(|(name, schema)| (short(&name).to_owned(), schema)));
    }
    let derived = text(&reachable(&published)?);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/api/src/schema/kubernetes.json");
    if std::env::var_os("MOBULA_REWRITE_GOLDEN").is_some() {
        fs::write(&file, derived)?;
        return Ok(());
    }
    let kept = fs::read_to_string(&file)?;
    let stale = kept.lines().zip(derived.lines()).find(|(kept, derived)| kept != derived);
    let (name, _) = stale.and_then(|(_, derived)| derived.split_once("\":")).unwrap_or_default();
    ensure!(kept == derived, "{} is stale at {name} (MOBULA_REWRITE_GOLDEN=1 writes it anew)", file.display());
    Ok(())
}

fn text(types: &BTreeMap<String, Value>) -> String {
    let lines: Vec<String> = types.iter().map(|(name, schema)| format!("{}:{schema}", json!(name))).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

fn reachable(published: &BTreeMap<String, Value>) -> Result<BTreeMap<String, Value>> {
    let mut types = BTreeMap::new();
    let mut wanted: Vec<String> = ROOTS.map(str::to_owned).to_vec();
    while let Some(name) = wanted.pop() {
        if types.contains_key(&name) || BUILT_IN.contains(&name.as_str()) {
            continue;
        }
        let schema = published.get(&name).with_context(|| format!("the server publishes no {name}"))?;
        let structure = structure(schema, false, &mut wanted);
        types.insert(name, structure);
    }
    Ok(types)
}

/// `io.k8s.api.core.v1.Pod` is `core.v1.Pod` here.
fn short(name: &str) -> &str {
    let name = name.rsplit('/').next().unwrap_or(name);
    ["io.k8s.apimachinery.pkg.", "io.k8s.api."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

/// The structure of a schema. The names that it refers to are added to `wanted`.
fn structure(schema: &Value, is_required: bool, wanted: &mut Vec<String>) -> Value {
    let reference = schema.pointer("/allOf/0/$ref").or_else(|| schema.get("$ref")).and_then(Value::as_str);
    if let Some(name) = reference.map(short) {
        wanted.push(name.to_owned());
        return json!({"$ref": name});
    }
    let mut kept = Map::new();
    for key in KEPT {
        if let Some(value) = schema.get(key) {
            kept.insert(key.to_owned(), value.clone());
        }
    }
    // What must be written anyway is published with the zero value of Go as its default.
    let says_nothing = |default: &Value| is_required && (*default == "" || *default == 0) || *default == json!({});
    if let Some(default) = schema.get("default").filter(|default| !says_nothing(default)) {
        kept.insert("default".to_owned(), default.clone());
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(key) {
            kept.insert(key.to_owned(), structure(inner, true, wanted));
        }
    }
    if let Some(fields) = schema.get("properties").and_then(Value::as_object) {
        let is_required = |name: &str| schema["required"].as_array().is_some_and(|names| names.contains(&json!(name)));
        let fields: Map<String, Value> =
            fields.iter().map(|(name, field)| (name.clone(), structure(field, is_required(name), wanted))).collect();
        kept.insert("properties".to_owned(), Value::Object(fields));
    }
    Value::Object(kept)
}
