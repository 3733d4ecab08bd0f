//! What tells whether pods were made from the spec as it is now (`upgradeStrategy: Recreate`).

use ring::digest::{Context, SHA256};
use serde_json::{Map, Value};

use super::Children;

/// Fields of the spec that no pod is made from.
const NOT_IN_PODS: [&str; 6] =
    ["suspend", "idleSuspend", "idleTerminationOptions", "managedBy", "headServiceAnnotations", "upgradeStrategy"];
/// Fields of the head's group that no pod is made from.
const NOT_IN_HEAD: [&str; 3] = ["serviceType", "enableIngress", "ingressOptions"];
/// Fields of a worker group that no pod is made from: its size, and what the autoscaler reads while it runs.
const NOT_IN_WORKERS: [&str; 7] =
    ["replicas", "minReplicas", "maxReplicas", "scaleStrategy", "suspend", "idleTimeoutSeconds", "priority"];
/// Fields of the autoscaler's options that it reads while it runs.
const NOT_IN_AUTOSCALER: [&str; 2] = ["idleTimeoutSeconds", "upscalingMode"];
/// Fields of a pod template that queueing systems write when they admit it.
const NOT_IN_TEMPLATES: [&str; 2] = ["tolerations", "schedulingGates"];
/// Bytes of the digest that are kept.
const KEPT_BYTES: usize = 16;

impl Children<'_> {
    /// A hash over everything in the spec that pods are made from. It does not depend on the order of keys, nor on fields
    /// that say nothing (`null`, `{}`, `[]`).
    pub fn spec_hash(&self) -> String {
        let mut cluster = self.cluster.to_value();
        let mut spec = cluster.get_mut("spec").map(Value::take).unwrap_or_default();
        if let Some(spec) = spec.as_object_mut() {
            remove(spec, &NOT_IN_PODS);
            if let Some(options) = spec.get_mut("autoscalerOptions").and_then(Value::as_object_mut) {
                remove(options, &NOT_IN_AUTOSCALER);
            }
            if let Some(head) = spec.get_mut("headGroupSpec").and_then(Value::as_object_mut) {
                remove(head, &NOT_IN_HEAD);
                mute_template(head);
            }
            let groups = spec.get_mut("workerGroupSpecs").and_then(Value::as_array_mut);
            for group in groups.into_iter().flatten().filter_map(Value::as_object_mut) {
                remove(group, &NOT_IN_WORKERS);
                // The default, which older API servers did not fill in.
                group.entry("numOfHosts").or_insert(Value::from(1));
                mute_template(group);
            }
        }
        let mut digest = Context::new(&SHA256);
        digest.update(canonical(&spec).unwrap_or_default().as_bytes());
        digest.finish().as_ref().iter().take(KEPT_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }
}

fn mute_template(group: &mut Map<String, Value>) {
    let spec = group.get_mut("template").and_then(|template| template.get_mut("spec")?.as_object_mut());
    if let Some(spec) = spec {
        remove(spec, &NOT_IN_TEMPLATES);
    }
}

fn remove(object: &mut Map<String, Value>, keys: &[&str]) {
    object.retain(|key, _| !keys.contains(&key.as_str()));
}

/// JSON with sorted keys and without what says nothing; `None` if that is everything.
fn canonical(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Object(object) => {
            let mut members: Vec<(&String, String)> =
                object.iter().filter_map(|(key, value)| Some((key, canonical(value)?))).collect();
            members.sort();
            let members: Vec<String> =
                members.into_iter().map(|(key, value)| format!("{}:{value}", Value::from(key.as_str()))).collect();
            (!members.is_empty()).then(|| format!("{{{}}}", members.join(",")))
        }
        Value::Array(list) => {
            let element = |value: &Value| canonical(value).unwrap_or_else(|| "null".to_owned());
            let elements: Vec<String> = list.iter().map(element).collect();
            (!elements.is_empty()).then(|| format!("[{}]", elements.join(",")))
        }
        scalar => Some(scalar.to_string()),
    }
}
