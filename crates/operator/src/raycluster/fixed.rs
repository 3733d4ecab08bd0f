//! The children that are no pods: made once, and kept up to date where KubeRay's users wait for it.

use std::sync::Arc;

use mobula_api::{Compat, FieldError};
use serde_json::{Value, json};

use super::pass::Pass;
use crate::frame::{
    decision::{Action, Foreign, Step},
    kind::{self, Kind},
    world::Child,
};

/// How long it is believed that an object exists that is not watched, in ms.
const LOOK_UP_LASTS_MS: i64 = 600_000;

/// What is said about a kind: as parts are called, in sentences, reasons of creation and its failure.
struct Terms {
    part: &'static str,
    text: &'static str,
    created: &'static str,
    failed: &'static str,
}

fn terms(kind: &Kind) -> Option<Terms> {
    let terms = |part, text, created, failed| Some(Terms { part, text, created, failed });
    match kind.kind {
        "Service" => terms("service", "service", "CreatedService", "FailedToCreateService"),
        "ServiceAccount" => {
            terms("service-account", "service account", "CreatedServiceAccount", "FailedToCreateServiceAccount")
        }
        "Role" => terms("role", "role", "CreatedRole", "FailedToCreateRole"),
        "RoleBinding" => terms("role-binding", "role binding", "CreatedRoleBinding", "FailedToCreateRoleBinding"),
        "Ingress" => terms("ingress", "ingress", "CreatedIngress", "FailedToCreateIngress"),
        "Route" => terms("route", "route", "CreatedRoute", "FailedToCreateRoute"),
        "PersistentVolumeClaim" => terms("pvc", "PVC", "CreatedPVC", "FailedToCreatePVC"),
        "NetworkPolicy" => {
            terms("network-policy", "NetworkPolicy", "CreatedNetworkPolicy", "FailedToCreateNetworkPolicy")
        }
        _ => None,
    }
}

/// Makes what is missing and mends what has to follow the spec.
pub(super) fn make(pass: &mut Pass<'_>) {
    let children = pass.children;
    let token = pass.observed.token;
    let wanted: [(&str, Result<Vec<Value>, FieldError>); 9] = [
        ("service-account", children.service_account().map(list)),
        ("role", children.role().map(list)),
        ("role-binding", children.role_binding().map(list)),
        ("ingress", children.ingress().map(list)),
        ("secret", Ok(list(children.auth_secret(&token)))),
        ("service", services(pass)),
        ("pvc", Ok(list(children.gcs_pvc()))),
        ("network-policy", Ok(children.network_policies())),
        ("route", Ok(Vec::new())),
    ];
    let (mut steps, mut bindings) = (Vec::new(), Vec::new());
    for (part, objects) in wanted {
        match objects {
            Ok(objects) => {
                let batch = if part == "role-binding" { &mut bindings } else { &mut steps };
                batch.extend(objects.into_iter().filter_map(|object| one(pass, part, object)));
            }
            Err(error) => pass.faults.push((part.to_owned(), error)),
        }
    }
    pass.decision.then(steps);
    // Of all but cluster administrators, the API server takes a RoleBinding only once its Role is there: it compares what
    // the Role allows with what we may do.
    pass.decision.then(bindings);
}

fn list(object: Option<Value>) -> Vec<Value> {
    object.into_iter().collect()
}

fn services(pass: &Pass<'_>) -> Result<Vec<Value>, FieldError> {
    let services = [pass.children.head_service()?, pass.children.headless_service()?, pass.children.serve_service()?];
    Ok(services.into_iter().flatten().collect())
}

/// The gangs, for schedulers that want to be told. The place where pods of a gang that Mobula itself admits would be gated.
pub(super) fn gangs(pass: &mut Pass<'_>) {
    let objects = pass.children.gang_members().and_then(|members| pass.children.pod_groups(&members));
    match objects {
        Ok(objects) => {
            let steps =
                objects.into_iter().filter_map(|object| one(pass, "gang", object)).map(Step::blocking).collect();
            pass.decision.then(steps);
        }
        Err(error) => pass.faults.push(("gang".to_owned(), error)),
    }
}

/// What is to be done about one child.
fn one(pass: &mut Pass<'_>, part: &str, object: Value) -> Option<Step> {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    let kind = Kind::of(text("apiVersion"), text("kind"))?;
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let there = pass.observed.children.iter().find(|child| child.kind == kind && child.key.name == name);
    if let Some(there) = there.cloned() {
        return mend(pass, part, &there, &object);
    }
    if exists_unwatched(pass, kind, &name) || has_other_name(pass, kind, &object) || !pass.may_try(part) {
        return None;
    }
    let is_account = [&kind::SERVICE_ACCOUNT, &kind::ROLE, &kind::ROLE_BINDING].contains(&kind);
    let foreign = if is_account { Foreign::Accepted } else { Foreign::Refused };
    let mut step = Step::new(part, Action::Create { kind, body: object, foreign });
    if let Some(terms) = terms(kind) {
        debug_assert_eq!(terms.part, part);
        step = step.says(terms.created, "Create", format!("Created {}", terms.text)).complains(
            terms.failed,
            "Create",
            format!("Failed to create {}", terms.text),
        );
    }
    // Without its account the head pod would be refused; without its Secret it would not start.
    Some(if [&kind::SERVICE_ACCOUNT, &kind::SECRET].contains(&kind) { step.blocking() } else { step })
}

/// Whether earlier answers say that it exists, though no watch shows it.
fn exists_unwatched(pass: &Pass<'_>, kind: &Kind, name: &str) -> bool {
    let is_watched = [&kind::SERVICE, &kind::SECRET, &kind::INGRESS, &kind::JOB].contains(&kind);
    let known = pass.observed.memory.look_ups.get(&(kind.kind, name.to_owned()));
    !is_watched && known.is_some_and(|(exists, at_ms)| *exists && pass.now_ms - at_ms < LOOK_UP_LASTS_MS)
}

/// A head Service that was made under another name serves: KubeRay finds it by its labels, too.
fn has_other_name(pass: &Pass<'_>, kind: &Kind, object: &Value) -> bool {
    let node_type = |object: &Value| object["metadata"]["labels"]["ray.io/node-type"].clone();
    let is_head = node_type(object) == "head";
    kind == &kind::SERVICE
        && is_head
        && pass.observed.children.iter().any(|child| child.kind == kind && node_type(&child.body) == "head")
}

/// Children that follow the spec: the Role (KubeRay never touches it again), and the Ingress as of 1.7.
fn mend(pass: &mut Pass<'_>, part: &str, there: &Arc<Child>, wanted: &Value) -> Option<Step> {
    let mut body = there.body.clone();
    if there.kind == &kind::ROLE {
        let rules = body.get_mut("rules")?.as_array_mut()?;
        let missing: Vec<Value> =
            wanted["rules"].as_array().into_iter().flatten().filter(|rule| !rules.contains(rule)).cloned().collect();
        if missing.is_empty() {
            return None;
        }
        rules.extend(missing);
    } else if there.kind == &kind::INGRESS && pass.config.compat >= Compat::V1_7 {
        let mut spec = wanted["spec"].clone();
        if spec["ingressClassName"].is_null() && !body["spec"]["ingressClassName"].is_null() {
            // An admission plugin has chosen it.
            spec["ingressClassName"] = body["spec"]["ingressClassName"].clone();
        }
        let metadata = &wanted["metadata"];
        let is_so = body["spec"] == spec
            && body["metadata"]["labels"] == metadata["labels"]
            && body["metadata"]["annotations"] == metadata["annotations"];
        if is_so {
            return None;
        }
        body["spec"] = spec;
        body["metadata"]["labels"] = metadata["labels"].clone();
        body["metadata"]["annotations"] = metadata["annotations"].clone();
    } else {
        return None;
    }
    if !pass.may_try(part) {
        return None;
    }
    body["apiVersion"] = json!(there.kind.api_version());
    body["kind"] = json!(there.kind.kind);
    let step = Step::new(part, Action::Replace { kind: there.kind, body });
    Some(match there.kind.kind {
        "Ingress" => step.says("UpdatedIngress", "Update", "Updated ingress").complains(
            "FailedToUpdateIngress",
            "Update",
            "Failed to update ingress",
        ),
        _ => step,
    })
}

/// An account that the user has named must be there: the operator does not make it, and makes nothing without it.
pub(super) fn has_account(pass: &mut Pass<'_>) -> bool {
    let name = pass.children.own_service_account().to_owned();
    if name.is_empty() || !pass.children.is_autoscaled() {
        return true;
    }
    let known = pass.observed.memory.look_ups.get(&(kind::SERVICE_ACCOUNT.kind, name.clone())).copied();
    let age_ms = known.map_or(i64::MAX, |(_, at_ms)| pass.now_ms.saturating_sub(at_ms));
    let exists = known.is_some_and(|(exists, _)| exists);
    if known.is_some() && !exists {
        say_that_it_is_missing(pass, &name);
    }
    let lasts_ms = if exists { LOOK_UP_LASTS_MS } else { ACCOUNT_RETRY_MS };
    if age_ms >= lasts_ms {
        if pass.may_try(ACCOUNT) {
            let action = Action::LookUp { kind: &kind::SERVICE_ACCOUNT, name };
            pass.decision.then(vec![Step::new(ACCOUNT, action)]);
        }
    } else if !exists {
        pass.decision.wake_at(pass.now_ms.saturating_add(lasts_ms - age_ms));
    }
    exists
}

fn say_that_it_is_missing(pass: &mut Pass<'_>, name: &str) {
    let message = format!(
        "Failed to reconcile RayCluster {}. If users specify ServiceAccountName for the head Pod, they need to create a \
         ServiceAccount themselves. However, ServiceAccount {name} is not found. Please create one.",
        pass.name()
    );
    pass.say_once("AutoscalerServiceAccountNotFound", "Reconcile", message);
    let problem = "must be the name of a ServiceAccount that exists: create it";
    let error = FieldError::new("spec.headGroupSpec.template.spec.serviceAccountName", name, problem);
    pass.faults.push((ACCOUNT.to_owned(), error));
}

/// The part that the account is.
const ACCOUNT: &str = "service-account";
/// How long until a missing account is looked for again, in ms.
const ACCOUNT_RETRY_MS: i64 = 5_000;
