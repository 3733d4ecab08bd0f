//! Children that follow the spec: the Role (KubeRay never touches it again), network policies, the claim of the GCS, gangs
//! (KubeRay never touches those of scheduler-plugins again), and the Ingress as of 1.7. Whatever others have added to them
//! stays.

use std::sync::Arc;

use mobula_api::{Compat, FieldError, Quantity};
use serde_json::{Value, json};

use super::{super::pass::Growth, Pass};
use crate::frame::{
    decision::{Action, Step},
    kind,
    world::Child,
};

/// What is to be done about a child that is there but is not as it should be.
pub(super) fn step(pass: &mut Pass<'_>, part: &str, there: &Arc<Child>, wanted: &Value) -> Option<Step> {
    let mended = |changes: &dyn Fn(&mut Value) -> bool| {
        let mut body = there.body.clone();
        changes(&mut body).then_some(body)
    };
    let (body, said) = match there.kind.kind {
        "Role" => (mended(&|body| rules(pass, body, wanted)), None),
        "Ingress" if pass.config.compat >= Compat::V1_7 => (mended(&|body| ingress(body, wanted)), Some(INGRESS)),
        "NetworkPolicy" => (mended(&|body| policy(body, wanted)), Some(POLICY)),
        "PodGroup" => (mended(&|body| gang(body, wanted)), None),
        "PersistentVolumeClaim" => return claim(pass, part, there, wanted),
        _ => return None,
    };
    let mut body = body?;
    // Pods that come before their gang is as large are placed without the others. All else goes on.
    let is_gang = there.kind.kind == "PodGroup";
    let grows_from = if is_gang { grows_from(&there.body, &body) } else { None };
    let may = pass.may_try(part);
    body["apiVersion"] = json!(there.kind.api_version());
    body["kind"] = json!(there.kind.kind);
    let step = may.then(|| Step::new(part, Action::Replace { kind: there.kind, body }));
    let step = step.map(|step| match is_gang {
        true => step.complains("FailedToUpdatePodGroup", "Update", "Failed to update PodGroup"),
        false => step,
    });
    if let Some(covers) = grows_from {
        pass.gang_is_small = Some(Growth { covers, step: step.map(Step::blocking) });
        return None;
    }
    let step = step?;
    Some(match said {
        Some([done, done_text, failed, failed_text]) => {
            step.says(done, "Update", done_text).complains(failed, "Update", failed_text)
        }
        None => step,
    })
}

const INGRESS: [&str; 4] = ["UpdatedIngress", "Updated ingress", "FailedToUpdateIngress", "Failed to update ingress"];
const POLICY: [&str; 4] =
    ["UpdatedNetworkPolicy", "Updated NetworkPolicy", "FailedToUpdateNetworkPolicy", "Failed to update NetworkPolicy"];

/// Adds the rules that are missing, and withdraws what the operator gave and gives no more. True if that changes it.
fn rules(pass: &Pass<'_>, body: &mut Value, wanted: &Value) -> bool {
    let none = Vec::new();
    let wanted = wanted["rules"].as_array().unwrap_or(&none);
    let given = pass.children.wide_rules();
    let there = body["rules"].as_array().cloned().unwrap_or_default();
    let stays = |rule: &&Value| wanted.contains(rule) || !given.contains(rule);
    let mut rules: Vec<Value> = there.iter().filter(stays).cloned().collect();
    rules.extend(wanted.iter().filter(|rule| !there.contains(rule)).cloned());
    let changes = rules != there;
    body["rules"] = Value::Array(rules);
    changes
}

fn ingress(body: &mut Value, wanted: &Value) -> bool {
    let mut spec = wanted["spec"].clone();
    if spec["ingressClassName"].is_null() && !body["spec"]["ingressClassName"].is_null() {
        // An admission plugin has chosen it.
        spec["ingressClassName"] = body["spec"]["ingressClassName"].clone();
    }
    let changes = body["spec"] != spec;
    body["spec"] = spec;
    // Others, a controller of Ingresses among them, have labels and annotations of their own there.
    let labels = merge(body, wanted, "labels");
    let annotations = merge(body, wanted, "annotations");
    changes || labels || annotations
}

/// A gang is as large as the plan says. Queue, priority and topology stay as they were made, as with KubeRay; and so does the
/// template in a Workload, which only new gangs are made from. True if that changes it.
fn gang(body: &mut Value, wanted: &Value) -> bool {
    let mut changes = false;
    for (parent, field) in
        [("/spec", "minMember"), ("/spec", "minResources"), ("/spec/schedulingPolicy/gang", "minCount")]
    {
        let Some(new) = wanted.pointer(parent).and_then(|parent| parent.get(field)) else { continue };
        if let Some(there) = body.pointer_mut(parent).and_then(Value::as_object_mut)
            && !there.get(field).is_some_and(|old| is_as_much(old, new))
        {
            there.insert(field.to_owned(), new.clone());
            changes = true;
        }
    }
    changes
}

/// How many pods began together before, if more are to.
fn grows_from(old: &Value, new: &Value) -> Option<usize> {
    let least = |body: &Value, pointer: &str| body.pointer(pointer).and_then(Value::as_u64);
    let pointer = ["/spec/minMember", "/spec/schedulingPolicy/gang/minCount"]
        .into_iter()
        .find(|pointer| least(new, pointer) > least(old, pointer))?;
    Some(least(old, pointer).map_or(0, |pods| usize::try_from(pods).unwrap_or(usize::MAX)))
}

/// Whether two counts, or two maps of quantities, are the same.
fn is_as_much(old: &Value, new: &Value) -> bool {
    let amount =
        |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned).parse::<Quantity>().ok();
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            old.len() == new.len()
                && new.iter().all(|(key, new)| old.get(key).is_some_and(|old| amount(old) == amount(new)))
        }
        _ => old == new,
    }
}

fn policy(body: &mut Value, wanted: &Value) -> bool {
    let changes = as_served(&body["spec"]) != as_served(&wanted["spec"]);
    body["spec"] = wanted["spec"].clone();
    merge(body, wanted, "labels") || changes
}

/// Sets what the operator wants in a map of the metadata, and leaves the rest. True if that changes it.
fn merge(body: &mut Value, wanted: &Value, map: &str) -> bool {
    let mut changes = false;
    for (key, value) in wanted["metadata"][map].as_object().into_iter().flatten() {
        if body["metadata"][map][key] != *value {
            body["metadata"][map][key] = value.clone();
            changes = true;
        }
    }
    changes
}

/// A policy's spec as the API server gives it back: ports have a protocol, and empty lists are left out.
fn as_served(spec: &Value) -> Value {
    match spec {
        Value::Object(object) => {
            let is_said = |value: &Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
            let members = object.iter().filter(|(_, value)| is_said(value));
            let mut served: Value = members.map(|(key, value)| (key.clone(), as_served(value))).collect();
            for port in served.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                if port.is_object() && port["protocol"].is_null() {
                    port["protocol"] = json!("TCP");
                }
            }
            served
        }
        Value::Array(list) => list.iter().map(as_served).collect(),
        scalar => scalar.clone(),
    }
}

/// A claim keeps what it was made with; whether it goes with the cluster can be changed.
fn claim(pass: &mut Pass<'_>, part: &str, there: &Arc<Child>, wanted: &Value) -> Option<Step> {
    for error in drift(&there.body["spec"], &wanted["spec"], &there.key.name) {
        pass.say_state("FailedToCreatePVC", "Update", format!("{}: {error}", pass.name()));
        pass.faults.push((part.to_owned(), error));
    }
    let uid = pass.observed.cluster.metadata.uid.as_str();
    let owners = |body: &Value| body["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    let mut list = owners(&there.body);
    list.retain(|owner| owner["uid"] != uid);
    list.extend(owners(wanted));
    if list == owners(&there.body) || !pass.may_try(part) {
        return None;
    }
    let patch = json!({"metadata": {"resourceVersion": there.resource_version, "ownerReferences": list}});
    let action = Action::Patch { kind: &kind::PERSISTENT_VOLUME_CLAIM, name: there.key.name.clone(), patch };
    let step = Step::new(part, action);
    Some(step.complains("FailedToCreatePVC", "Update", "Failed to update PVC"))
}

/// What a claim has otherwise than the spec says.
fn drift(there: &Value, wanted: &Value, name: &str) -> Vec<FieldError> {
    let size = "/resources/requests/storage";
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let same = |old: &Value, new: &Value| {
        let amount = |value: &Value| text(value).parse::<Quantity>().ok();
        old == new || (amount(old).is_some() && amount(old) == amount(new))
    };
    let fields = [("size", size), ("storageClassName", "/storageClassName"), ("accessModes", "/accessModes")];
    let differs = |(field, pointer): (&str, &str)| {
        let new = wanted.pointer(pointer).filter(|new| !new.is_null())?;
        let old = there.pointer(pointer).unwrap_or(&Value::Null);
        let problem = format!(
            "PersistentVolumeClaim {name} has {}, and keeps it: change the claim by hand, or name another one in claimName",
            text(old)
        );
        let field = format!("spec.gcsFaultToleranceOptions.storage.{field}");
        (!same(old, new)).then(|| FieldError::new(field, text(new), problem))
    };
    fields.into_iter().filter_map(differs).collect()
}
