//! Schemas of the Kubernetes types that users write into ours: pod templates, Services, rules.
//!
//! They come from `kubernetes.json`, which a test derives from the OpenAPI of a real kube-apiserver. Known fields are
//! typed, as in KubeRay's definitions; unknown ones are kept (but for [`SETTLED`]), so that a field of a Kubernetes newer than this file reaches
//! the pods. Descriptions are left out, and words are not enumerated: both are Kubernetes' to say.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::{Schema, map, quantity};

/// Types that stand in many places and have not changed in years. To keep unknown fields in them too would make the largest
/// definitions too large for `kubectl apply`; in them, as everywhere under KubeRay, unknown fields are dropped.
const SETTLED: [&str; 14] = [
    "apis.meta.v1.LabelSelector",
    "apis.meta.v1.LabelSelectorRequirement",
    "core.v1.ConfigMapKeySelector",
    "core.v1.ExecAction",
    "core.v1.HTTPGetAction",
    "core.v1.HTTPHeader",
    "core.v1.KeyToPath",
    "core.v1.LocalObjectReference",
    "core.v1.NodeSelectorRequirement",
    "core.v1.ObjectFieldSelector",
    "core.v1.ResourceFieldSelector",
    "core.v1.SELinuxOptions",
    "core.v1.SecretKeySelector",
    "core.v1.TCPSocketAction",
];

/// Name of a type → its schema, in which `$ref` names others.
static TYPES: LazyLock<Map<String, Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("kubernetes.json")).unwrap_or_default());

/// A type of Kubernetes, for example `core.v1.PodTemplateSpec`.
pub(crate) fn kube(name: &str) -> Schema {
    match name {
        "api.resource.Quantity" => quantity(),
        "util.intstr.IntOrString" => {
            let either = json!([{"type": "integer"}, {"type": "string"}]);
            Schema::from_map(Map::new()).with("anyOf", either).with("x-kubernetes-int-or-string", true)
        }
        "apis.meta.v1.ObjectMeta" => embedded_metadata(),
        "apis.meta.v1.Time" => super::time(),
        name => match TYPES.get(name) {
            Some(found) => Schema::from_map(whole(name, found)),
            // A test resolves every name.
            None => super::open(),
        },
    }
}

/// What of metadata has a meaning inside another object. Here nothing unknown is kept: the rest is the API server's.
fn embedded_metadata() -> Schema {
    let text = || Schema::of_type("string").into_value();
    let texts = || map(Schema::of_type("string")).into_value();
    let list = super::list(Schema::of_type("string")).into_value();
    let fields =
        json!({"annotations": texts(), "finalizers": list, "labels": texts(), "name": text(), "namespace": text()});
    Schema::of_type("object").with("properties", fields)
}

/// A type with all that it refers to, and whether it keeps what is unknown.
fn whole(name: &str, schema: &Value) -> Map<String, Value> {
    let mut whole = expanded(schema);
    if whole.contains_key("properties") && !SETTLED.contains(&name) {
        whole.insert("x-kubernetes-preserve-unknown-fields".to_owned(), Value::Bool(true));
    }
    whole
}

/// A schema with the types that it refers to in place.
fn expanded(schema: &Value) -> Map<String, Value> {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return kube(name).json;
    }
    let mut expanded = Map::new();
    for (key, value) in schema.as_object().into_iter().flatten() {
        let value = match key.as_str() {
            "items" | "additionalProperties" => Value::Object(self::expanded(value)),
            "properties" => {
                let fields = value.as_object().into_iter().flatten();
                fields.map(|(name, field)| (name.clone(), Value::Object(self::expanded(field)))).collect()
            }
            _ => value.clone(),
        };
        expanded.insert(key.clone(), value);
    }
    expanded
}

/// Names that something refers to and nothing explains.
#[cfg(test)]
pub(crate) fn unresolved() -> Vec<String> {
    fn references(schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    TYPES.values().for_each(|schema| references(schema, &mut found));
    let built_in = ["api.resource.Quantity", "util.intstr.IntOrString", "apis.meta.v1.ObjectMeta", "apis.meta.v1.Time"];
    found.retain(|name| !TYPES.contains_key(name) && !built_in.contains(&name.as_str()));
    found
}
