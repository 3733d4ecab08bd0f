//! Placeholders for what is different in every run: random ends of names, unique ids, namespace, addresses, times.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::text;

/// Length of the end that the API server makes up.
const RANDOM: usize = 5;
const INDEX: &str = "ray.io/worker-group-replica-index";
const HOST: &str = "ray.io/replica-host-index";
const REPLICA: &str = "ray.io/worker-group-replica-name";

/// Gives pods names that end in `RAND-000`, `RAND-001`, … in each group, by replica, host and order of creation.
pub fn number(objects: &mut [Value]) {
    let mut of_stem: BTreeMap<String, Vec<(u64, u64, usize)>> = BTreeMap::new();
    for (at, object) in objects.iter().enumerate() {
        let label = |key: &str| object["metadata"]["labels"][key].as_str().and_then(|text| text.parse().ok());
        let stem = text(object, "/metadata/generateName");
        if !stem.is_empty() {
            let rank = (label(INDEX).unwrap_or(0), label(HOST).unwrap_or(0), at);
            of_stem.entry(stem.to_owned()).or_default().push(rank);
        }
    }
    for (stem, mut ranks) in of_stem {
        ranks.sort_unstable();
        for (number, (.., at)) in ranks.into_iter().enumerate() {
            let Some(metadata) = objects.get_mut(at).and_then(|object| object["metadata"].as_object_mut()) else {
                continue;
            };
            metadata.remove("generateName");
            metadata.insert("name".into(), json!(format!("{stem}RAND-{number:03}")));
            name_replica(metadata);
        }
    }
}

fn name_replica(metadata: &mut Map<String, Value>) {
    let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) else { return };
    let index = labels.get(INDEX).and_then(Value::as_str).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    if let Some(name) = labels.get_mut(REPLICA) {
        let stem = name.as_str().and_then(|name| name.rsplit_once('-')).map(|(stem, _)| stem.to_owned());
        *name = json!(format!("{}-RAND-{index:03}", stem.unwrap_or_default()));
    }
}

/// The text with `RAND` in place of every end that was made up after one of these beginnings of names.
pub fn without_ends(text: &str, stems: &[String]) -> String {
    let mut text = text.to_owned();
    for stem in stems {
        let mut from = 0;
        while let Some(at) = text.get(from..).and_then(|rest| rest.find(stem.as_str())) {
            let end = from + at + stem.len();
            let rest = text.get(end..).unwrap_or_default();
            let is_random = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            // Another name may begin alike, and go on.
            if rest.bytes().take_while(|byte| is_random(byte) || *byte == b'-').count() == RANDOM
                && rest.bytes().take(RANDOM).all(|byte| is_random(&byte))
            {
                text.replace_range(end..end + RANDOM, "RAND");
            }
            from = end;
        }
    }
    text
}

/// Puts placeholders everywhere in an object: for the namespace, and the unique id of the RayCluster.
pub fn hide(value: &mut Value, namespace: &str, uid: &str) {
    match value {
        Value::String(text) => {
            *text = text.replace(namespace, "NAMESPACE");
            if !uid.is_empty() {
                *text = text.replace(uid, "UID");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, namespace, uid)),
        Value::Object(fields) => {
            for (key, item) in fields.iter_mut() {
                match key.as_str() {
                    "uid" if item.is_string() => *item = json!("UID"),
                    "podIP" => *item = json!("POD_IP"),
                    "lastTransitionTime" | "lastUpdateTime" => *item = json!("TIME"),
                    _ => hide(item, namespace, uid),
                }
            }
        }
        _ => {}
    }
}
