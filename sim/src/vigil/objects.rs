//! What every object keeps: versions grow, identities stay, deletions are not taken back, finalizers are waited for.

use std::collections::BTreeMap;

use mobula_apiserver::Changed;
use serde_json::Value;

/// Metadata that never changes while an object lives.
const FIXED: [&str; 4] = ["uid", "creationTimestamp", "name", "namespace"];

/// What was seen of all objects.
#[derive(Default)]
pub(super) struct Objects {
    version: u64,
    known: BTreeMap<(String, String, String), u64>,
}

impl Objects {
    /// What is broken by a change.
    pub(super) fn see(&mut self, changed: &Changed<'_>) -> Option<String> {
        if changed.version <= self.version {
            return Some(format!("version {} comes after {}", changed.version, self.version));
        }
        self.version = changed.version;
        let key = (changed.kind.plural.clone(), changed.namespace.to_owned(), changed.name.to_owned());
        let version =
            |object: &Value| object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
        let last = match changed.after {
            Some(_) => self.known.insert(key, changed.version),
            None => self.known.remove(&key),
        };
        if changed.before.and_then(version) != last && last.is_some() {
            return Some(format!("it was version {last:?} and changes from another one"));
        }
        match (changed.before, changed.after) {
            (_, Some(after)) if version(after) != Some(changed.version) => {
                Some(format!("version {} bears the number {:?}", changed.version, version(after)))
            }
            (Some(before), Some(after)) => altered(&before["metadata"], &after["metadata"]),
            (Some(before), None) => {
                // The removal of the last finalizer is the removal of the object.
                let held = before["metadata"]["finalizers"].as_array().filter(|list| list.len() > 1);
                held.map(|list| format!("it is gone, and {} finalizers held it", list.len()))
            }
            _ => None,
        }
    }
}

fn altered(before: &Value, after: &Value) -> Option<String> {
    if let Some(field) = FIXED.iter().find(|field| before[**field] != after[**field]) {
        return Some(format!("metadata.{field} changed from {} to {}", before[*field], after[*field]));
    }
    if !before["deletionTimestamp"].is_null() && after["deletionTimestamp"].is_null() {
        return Some("its deletion was taken back".to_owned());
    }
    let generation = |metadata: &Value| metadata["generation"].as_i64().unwrap_or(0);
    (generation(after) < generation(before)).then(|| "its generation fell".to_owned())
}
