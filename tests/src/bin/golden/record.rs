//! One recording: what was created for an input, the status when all had settled, and what was said.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::{names, normal, text};

/// What an operator made of one input.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    objects: Vec<Value>,
    status: Value,
    events: Vec<Value>,
}

impl Recording {
    /// From the bodies of creating requests, the RayCluster as it is, and the Events of its namespace.
    pub fn new(namespace: &str, bodies: Vec<Value>, cluster: &Value, events: &[Value]) -> Recording {
        let is_event = |body: &Value| body["kind"] == "Event";
        let mut objects: Vec<Value> = bodies.into_iter().filter(|body| !is_event(body)).map(without_noise).collect();
        let stem = |object: &Value| Some(object["metadata"]["generateName"].as_str()?.to_owned());
        let stems: BTreeSet<String> = objects.iter().filter_map(stem).collect();
        let stems: Vec<String> = stems.into_iter().collect();
        names::number(&mut objects);
        let uid = text(cluster, "/metadata/uid");
        objects.iter_mut().for_each(|object| names::hide(object, namespace, uid));
        objects.sort_by_key(id);
        let mut status = cluster.get("status").cloned().unwrap_or_else(|| json!({}));
        // A Service without an address of its own is said to have the head's.
        let is_headless = status["head"]["serviceIP"] == status["head"]["podIP"];
        if let Some(address) = status.pointer_mut("/head/serviceIP") {
            *address = json!(if is_headless { "POD_IP" } else { "CLUSTER_IP" });
        }
        names::hide(&mut status, namespace, uid);
        settle(&mut status, &stems);
        let said = |event: &Value| {
            let message = names::without_ends(text(event, "/message"), &stems).replace(namespace, "NAMESPACE");
            json!({"message": message, "on": event["involvedObject"]["kind"], "reason": event["reason"], "type": event["type"]})
        };
        let mut events: Vec<Value> =
            events.iter().filter(|it| it["involvedObject"]["kind"] == "RayCluster").map(said).collect();
        events.sort_by_key(Value::to_string);
        Recording { objects, status, events }
    }

    /// Reads a recording.
    pub fn read(text: &str) -> Result<Recording> {
        let mut value: Value = serde_json::from_str(text)?;
        let mut list = |key: &str| {
            let list = value.get_mut(key).and_then(Value::as_array_mut).map(std::mem::take);
            list.with_context(|| format!("{key}: must be a list"))
        };
        Ok(Recording { objects: list("objects")?, events: list("events")?, status: value["status"].take() })
    }

    /// As it stands in a file: a line for each object and Event.
    pub fn to_text(&self) -> String {
        let list = |items: &[Value]| items.iter().map(Value::to_string).collect::<Vec<_>>().join(",\n");
        let (objects, events) = (list(&self.objects), list(&self.events));
        format!("{{\n\"objects\": [\n{objects}\n],\n\"status\": {},\n\"events\": [\n{events}\n]\n}}\n", self.status)
    }

    /// Where `other` is not the same, in words.
    pub fn differences(&self, other: &Recording) -> Vec<String> {
        let (known, new) = (by_id(&self.objects), by_id(&other.objects));
        let mut differences = Vec::new();
        for name in known.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let both = (known.get(name).unwrap_or(&Value::Null), new.get(name).unwrap_or(&Value::Null));
            compare(name, both.0, both.1, &mut differences);
        }
        let status = |recording: &Recording| {
            let mut status = recording.status.clone();
            settle(&mut status, &[]);
            status
        };
        compare("status", &status(self), &status(other), &mut differences);
        // How often something is said, and to whom it comes first, is a matter of time.
        let said = |recording: &Recording| recording.events.iter().map(Value::to_string).collect::<BTreeSet<_>>();
        let (known, new) = (said(self), said(other));
        differences.extend(known.difference(&new).map(|event| format!("no longer said: {event}")));
        differences.extend(new.difference(&known).map(|event| format!("newly said: {event}")));
        differences
    }
}

fn id(object: &Value) -> String {
    format!("{}/{}", text(object, "/kind"), text(object, "/metadata/name"))
}

fn by_id(objects: &[Value]) -> BTreeMap<String, Value> {
    objects.iter().map(|object| (id(object), normal::normalised(object.clone()))).collect()
}

/// What a request has and nobody has asked for.
fn without_noise(mut object: Value) -> Value {
    if let Some(object) = object.as_object_mut() {
        if ["Pod", "Service", "Ingress"].iter().any(|kind| object.get("kind") == Some(&json!(kind))) {
            object.remove("status");
        }
        if object.get("status").and_then(Value::as_object).is_some_and(|it| it.values().all(Value::is_null)) {
            object.remove("status");
        }
        for value in object.get_mut("data").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
            *value = json!("RANDOM");
        }
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            // Another name of `serviceAccountName`.
            spec.remove("serviceAccount");
        }
        object.get_mut("metadata").and_then(Value::as_object_mut).map(|metadata| metadata.remove("creationTimestamp"));
    }
    object
}

fn settle(status: &mut Value, stems: &[String]) {
    if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
        conditions.sort_by_key(|condition| text(condition, "/type").to_owned());
    }
    for time in
        status.get_mut("stateTransitionTimes").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut)
    {
        *time = json!("TIME");
    }
    if let Some(name) = status.pointer_mut("/head/podName") {
        *name = json!(names::without_ends(name.as_str().unwrap_or_default(), stems));
    }
    for port in status.get_mut("endpoints").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        if port.as_str().and_then(|port| port.parse::<u16>().ok()).is_some_and(|port| port >= 30_000) {
            *port = json!("NODE_PORT");
        }
    }
}

fn compare(path: &str, known: &Value, new: &Value, differences: &mut Vec<String>) {
    match (known, new) {
        (Value::Object(left), Value::Object(right)) => {
            for key in left.keys().chain(right.keys()).collect::<BTreeSet<_>>() {
                let both = (left.get(key).unwrap_or(&Value::Null), right.get(key).unwrap_or(&Value::Null));
                compare(&format!("{path}.{key}"), both.0, both.1, differences);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (at, (left, right)) in left.iter().zip(right).enumerate() {
                compare(&format!("{path}[{at}]"), left, right, differences);
            }
        }
        _ if known == new => {}
        _ => differences.push(format!("{path}: recorded {known}, now {new}")),
    }
}
