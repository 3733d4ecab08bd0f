//! Lenses on the metadata of an object.

use bytes::Bytes;
use serde_json::{Map, Value, json};

pub(crate) const FOREGROUND: &str = "foregroundDeletion";
pub(crate) const ORPHAN: &str = "orphan";

/// A text of the metadata; empty if it is not there.
pub(crate) fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

pub(crate) fn uid(object: &Value) -> &str {
    meta(object, "uid")
}

pub(crate) fn set_meta(object: &mut Value, field: &str, value: Value) {
    if let Some(metadata) = metadata_mut(object) {
        metadata.insert(field.to_owned(), value);
    }
}

/// As `source` has it: also absent.
pub(crate) fn copy_meta(object: &mut Value, source: &Value, field: &str) {
    match source["metadata"].get(field) {
        Some(value) => set_meta(object, field, value.clone()),
        None => remove_meta(object, field),
    }
}

pub(crate) fn remove_meta(object: &mut Value, field: &str) {
    if let Some(metadata) = metadata_mut(object) {
        metadata.remove(field);
    }
}

/// The metadata, made if it is not there. Nothing if the object is none.
fn metadata_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = object.as_object_mut()?.entry("metadata").or_insert_with(|| json!({}));
    if metadata.is_null() {
        *metadata = json!({});
    }
    metadata.as_object_mut()
}

/// Sets or removes a member of the object.
pub(crate) fn set_part(object: &mut Value, part: &str, value: Option<Value>) {
    if let Some(object) = object.as_object_mut() {
        match value {
            Some(value) => object.insert(part.to_owned(), value),
            None => object.remove(part),
        };
    }
}

pub(crate) fn set_version(object: &mut Value, version: u64) {
    set_meta(object, "resourceVersion", Value::String(version.to_string()));
}

pub(crate) fn version(object: &Value) -> Option<u64> {
    meta(object, "resourceVersion").parse().ok()
}

pub(crate) fn generation(object: &Value) -> Option<i64> {
    object["metadata"]["generation"].as_i64()
}

/// Counts a change of what is wished, where that is counted.
pub(crate) fn bump_generation(object: &mut Value) {
    if let Some(generation) = generation(object) {
        set_meta(object, "generation", json!(generation + 1));
    }
}

pub(crate) fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

pub(crate) fn grace_period_s(object: &Value) -> Option<i64> {
    object["metadata"]["deletionGracePeriodSeconds"].as_i64()
}

pub(crate) fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

pub(crate) fn has_finalizers(object: &Value) -> bool {
    finalizers(object).next().is_some()
}

pub(crate) fn set_finalizers(object: &mut Value, finalizers: Vec<String>) {
    if finalizers.is_empty() {
        remove_meta(object, "finalizers");
    } else {
        set_meta(object, "finalizers", Value::from(finalizers));
    }
}

pub(crate) fn owner_references(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten()
}

pub(crate) fn owner_uids(object: &Value) -> impl Iterator<Item = &str> {
    owner_references(object).filter_map(|owner| owner["uid"].as_str())
}

/// The JSON without `apiVersion` and `kind`, which each way of serving an object adds.
pub(crate) fn bare_bytes(object: &Value) -> Bytes {
    let mut bytes = Vec::with_capacity(512);
    bytes.push(b'{');
    let parts = object.as_object().into_iter().flatten();
    for (name, value) in parts.filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind")) {
        if bytes.len() > 1 {
            bytes.push(b',');
        }
        // Writing JSON into memory can't fail.
        let _ = serde_json::to_writer(&mut bytes, name);
        bytes.push(b':');
        let _ = serde_json::to_writer(&mut bytes, value);
    }
    bytes.push(b'}');
    Bytes::from(bytes)
}
