//! The children that are no pods: made once, and kept up to date where KubeRay's users wait for it.

use std::sync::Arc;

use mobula_api::{FieldError, Gate, keys};
use serde_json::Value;

use super::{orphans, pass::Pass};
use crate::frame::{
    decision::{Action, Foreign, Step},
    kind::{self, Kind},
    world::Child,
};

mod mend;

/// How long it is believed that an object exists that is not watched, in ms.
const LOOK_UP_LASTS_MS: i64 = 600_000;
const SECRET_LASTS_MS: i64 = 60_000;

/// What is said about a kind: as parts are called, or begin where each object is one, in sentences, reasons of creation and its failure.
struct Terms {
    kind: &'static str,
    part: &'static str,
    text: &'static str,
    created: &'static str,
    failed: &'static str,
}

const TERMS: [Terms; 8] = [
    terms("Service", SERVICE, "service", "CreatedService", "FailedToCreateService"),
    terms(
        "ServiceAccount",
        "service-account",
        "service account",
        "CreatedServiceAccount",
        "FailedToCreateServiceAccount",
    ),
    terms("Role", "role", "role", "CreatedRole", "FailedToCreateRole"),
    terms("RoleBinding", "role-binding", "role binding", "CreatedRoleBinding", "FailedToCreateRoleBinding"),
    terms("Ingress", "ingress", "ingress", "CreatedIngress", "FailedToCreateIngress"),
    terms("Route", "route", "route", "CreatedRoute", "FailedToCreateRoute"),
    terms("PersistentVolumeClaim", "pvc", "PVC", "CreatedPVC", "FailedToCreatePVC"),
    terms("NetworkPolicy", NETWORK_POLICY, "NetworkPolicy", "CreatedNetworkPolicy", "FailedToCreateNetworkPolicy"),
];

const fn terms(
    kind: &'static str,
    part: &'static str,
    text: &'static str,
    created: &'static str,
    failed: &'static str,
) -> Terms {
    Terms { kind, part, text, created, failed }
}

/// Makes what is missing and mends what has to follow the spec.
pub(super) fn make(pass: &mut Pass<'_>) {
    let children = pass.children;
    let token = pass.observed.token;
    let policies = children.network_policies();
    let unwanted = unwanted_policies(pass, &policies);
    let way_in = if pass.config.routes { "route" } else { "ingress" };
    let serve_service = match children.serve_service() {
        // As KubeRay, which looks at the ports only where there is no such Service yet.
        Err(_) if has_serve_service(pass) => Ok(None),
        service => service,
    };
    let wanted: [(&str, Result<Vec<Value>, FieldError>); 10] = [
        ("service-account", children.service_account().map(list)),
        ("role", children.role().map(list)),
        ("role-binding", children.role_binding().map(list)),
        (way_in, children.ingress().map(list)),
        ("secret", Ok(list(children.auth_secret(&token)))),
        // Each a part of its own: one that is refused, or can't be made, holds up no other.
        ("service/head", children.head_service().map(list)),
        ("service/headless", children.headless_service().map(list)),
        (SERVE_SERVICE, serve_service.map(list)),
        ("pvc", Ok(list(children.gcs_pvc()))),
        (NETWORK_POLICY, Ok(policies)),
    ];
    let (mut steps, mut bindings) = (Vec::new(), Vec::new());
    for (part, objects) in wanted {
        match objects {
            Ok(objects) => {
                let batch = if part == "role-binding" { &mut bindings } else { &mut steps };
                for object in objects {
                    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                    let part = if part == NETWORK_POLICY { policy_part(name) } else { part.to_owned() };
                    batch.extend(one(pass, &part, object));
                }
            }
            Err(error) => fault(pass, part, error),
        }
    }
    steps.extend(unwanted);
    pass.decision.then(steps);
    // Of all but cluster administrators, the API server takes a RoleBinding only once its Role is there: it compares what
    // the Role allows with what we may do.
    pass.decision.then(bindings);
}

/// Whether the Service of Serve is there.
fn has_serve_service(pass: &Pass<'_>) -> bool {
    let name = format!("{}-serve-svc", pass.observed.cluster.metadata.name);
    pass.observed.children.iter().any(|child| child.kind == &kind::SERVICE && child.key.name == name)
}

/// Pods need these parts: without its account the head pod would be refused, without its Secret it would not start, and
/// without its gang a pod would not be placed with the others. Of a cluster that runs the others have their places: it goes on,
/// and what it loses is made anew, if its gang was taken away, or is asked for only since it runs.
fn is_needed(pass: &Pass<'_>, part: &str) -> bool {
    ["service-account", "secret"].contains(&part) || (part == GANG && !pass.runs())
}

/// A part can't be made because of what the spec says.
fn fault(pass: &mut Pass<'_>, part: &str, error: FieldError) {
    pass.lacks_needed |= part == GANG || is_needed(pass, part);
    match TERMS.iter().find(|terms| terms.part == first_word(part)) {
        Some(terms) => pass.fault(part, terms.failed, &format!("Failed to create {}", terms.text), error),
        None => pass.fault(part, "InvalidRayClusterSpec", &format!("Failed to create {part}"), error),
    }
}

fn list(object: Option<Value>) -> Vec<Value> {
    object.into_iter().collect()
}

/// The gangs, for schedulers that want to be told. The place where pods of a gang that Mobula itself admits would be gated.
pub(super) fn gangs(pass: &mut Pass<'_>) {
    if pass.config.batch_scheduler.is_none() {
        return;
    }
    match pass.children.pod_groups(&pass.children.gang_members()) {
        Ok(objects) => {
            let steps = objects.into_iter().filter_map(|object| one(pass, GANG, object)).collect();
            pass.decision.then(steps);
        }
        Err(error) => fault(pass, GANG, error),
    }
}

/// The part that gangs are.
const GANG: &str = "gang";
/// What the parts begin with that Services are.
const SERVICE: &str = "service";
/// The part that the Service for Serve is.
const SERVE_SERVICE: &str = "service/serve";
/// What the parts begin with that network policies are.
const NETWORK_POLICY: &str = "network-policy";

/// The part that the network policy of this name is.
fn policy_part(name: &str) -> String {
    format!("{NETWORK_POLICY}/{name}")
}

/// What is common to the parts that are objects of one kind.
fn first_word(part: &str) -> &str {
    part.split('/').next().unwrap_or_default()
}

/// What is to be done about one child.
fn one(pass: &mut Pass<'_>, part: &str, object: Value) -> Option<Step> {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    let Some(kind) = Kind::of(text("apiVersion"), text("kind")) else {
        let named = format!("{} {}", text("apiVersion"), text("kind"));
        fault(pass, part, FieldError::new("kind", named, "is made by no part of this operator: that is a fault in it"));
        return None;
    };
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let there = pass.observed.children.iter().find(|child| child.kind == kind && child.key.name == name);
    if let Some(there) = there.cloned() {
        // What users have made stays as it is; a claim is kept up to date whoever owns it.
        let is_ours = !there.owner.is_empty() || kind == &kind::PERSISTENT_VOLUME_CLAIM;
        let adopted = orphans::adopt_child(pass, part, &there);
        return adopted.or_else(|| is_ours.then(|| mend::step(pass, part, &there, &object)).flatten());
    }
    if exists_unwatched(pass, kind, &name) || has_other_name(pass, kind, &object) {
        return None;
    }
    let is_needed = is_needed(pass, part);
    let may = if is_needed { pass.may_try_needed(part) } else { pass.may_try(part) };
    if !may {
        return None;
    }
    // Whoever made them: accounts, the token, which users may bring from a store of their own, and ways in.
    let will_do =
        [&kind::SERVICE_ACCOUNT, &kind::ROLE, &kind::ROLE_BINDING, &kind::SECRET, &kind::INGRESS, &kind::ROUTE];
    let will_do = will_do.contains(&kind) || part == SERVE_SERVICE;
    let foreign = if will_do { Foreign::Accepted } else { Foreign::Refused };
    let mut step = Step::new(part, Action::Create { kind, body: object, foreign });
    if let Some(terms) = TERMS.iter().find(|terms| terms.kind == kind.kind) {
        debug_assert_eq!(terms.part, first_word(part));
        step = step.says(terms.created, "Create", format!("Created {}", terms.text)).complains(
            terms.failed,
            "Create",
            format!("Failed to create {}", terms.text),
        );
    }
    if part == GANG {
        // Of these only what is wrong is said, as pods wait for them.
        step = step.complains("FailedToCreatePodGroup", "Create", format!("Failed to create {}", kind.kind));
    }
    if kind == &kind::NETWORK_POLICY {
        step = step.collides("NetworkPolicyNameCollision", "Create", "Failed to create NetworkPolicy");
    }
    // A gang comes before pods also where they can do without: once it can be made, they belong to it.
    Some(if is_needed || part == GANG { step.blocking() } else { step })
}

/// Whether earlier answers say that it exists, though no watch shows it. That is believed for a while.
fn exists_unwatched(pass: &mut Pass<'_>, kind: &Kind, name: &str) -> bool {
    let known = pass.observed.memory.look_ups.get(&(kind.kind, name.to_owned()));
    let Some((_, at_ms)) = known.filter(|(exists, _)| *exists) else { return false };
    // Without its token no head starts: where others make it, it is looked for sooner.
    let lasts_ms = if kind == &kind::SECRET { SECRET_LASTS_MS } else { LOOK_UP_LASTS_MS };
    let until_ms = at_ms.saturating_add(lasts_ms);
    let is_believed = pass.now_ms < until_ms;
    if is_believed {
        pass.decision.wake_at(until_ms);
    }
    is_believed
}

/// Policies of this cluster that its spec no longer asks for, as long as the operator makes any.
fn unwanted_policies(pass: &mut Pass<'_>, wanted: &[Value]) -> Vec<Step> {
    let is_wanted = |child: &Child| wanted.iter().any(|policy| policy["metadata"]["name"] == child.key.name.as_str());
    let children = pass.observed.children.iter();
    let unwanted: Vec<_> = children.filter(|it| it.kind == &kind::NETWORK_POLICY && !is_wanted(it)).collect();
    if !pass.config.gates.has(Gate::RayClusterNetworkPolicy) {
        return Vec::new();
    }
    let deletion = |child: &Arc<Child>| {
        let part = policy_part(&child.key.name);
        let may = pass.may_try(&part);
        let action = Action::Delete { kind: child.kind, name: child.key.name.clone(), uid: child.uid.clone() };
        let step = Step::new(part, action).says("DeletedNetworkPolicy", "Delete", "Deleted NetworkPolicy");
        may.then(|| step.complains("FailedToDeleteNetworkPolicy", "Delete", "Failed to delete NetworkPolicy"))
    };
    unwanted.into_iter().filter_map(deletion).collect()
}

/// A head Service, or an Ingress, that was made under another name serves: KubeRay finds them by their labels, too.
fn has_other_name(pass: &Pass<'_>, kind: &Kind, object: &Value) -> bool {
    let is_head_service = kind == &kind::SERVICE && object["metadata"]["labels"][keys::NODE_TYPE] == "head";
    let is_way_in = [&kind::INGRESS, &kind::ROUTE].contains(&kind);
    let mut children = pass.observed.children.iter();
    children.any(|child| (is_head_service && child.is_head_service()) || (is_way_in && child.kind == kind))
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
    pass.say_state("AutoscalerServiceAccountNotFound", "Reconcile", message);
    let problem = "must be the name of a ServiceAccount that exists: create it";
    let error = FieldError::new("spec.headGroupSpec.template.spec.serviceAccountName", name, problem);
    pass.faults.push((ACCOUNT.to_owned(), error));
}

/// The part that the account is.
const ACCOUNT: &str = "service-account";
/// How long until a missing account is looked for again, in ms.
const ACCOUNT_RETRY_MS: i64 = 5_000;

#[cfg(test)]
mod tests {
    use mobula_api::RayCluster;
    use serde_json::json;

    use super::*;
    use crate::{config::Config, frame::outcome::Memory, raycluster::Observed};

    #[test]
    fn an_object_of_a_kind_that_nobody_knows_is_a_fault_and_not_a_request() {
        let (cluster, config, memory) = (RayCluster::default(), Config::default(), Memory::default());
        let observed = Observed::alone(&cluster, &memory);
        let mut pass = Pass::new(&observed, &config, 0);
        let object = json!({"apiVersion": "example.com/v1", "kind": "Odd", "metadata": {"name": "a"}});
        assert_eq!(one(&mut pass, GANG, object), None);
        let (part, error) = &pass.faults[0];
        assert_eq!((part.as_str(), pass.lacks_needed), (GANG, true), "no pod is made without its gang");
        let said = "kind: example.com/v1 Odd: is made by no part of this operator: that is a fault in it";
        assert_eq!(error.to_string(), said);
    }

    #[test]
    fn what_was_looked_up_is_believed_for_a_while_and_looked_at_again() {
        let (cluster, config) = (RayCluster::default(), Config::default());
        let mut memory = Memory::default();
        memory.look_ups.insert((kind::JOB.kind, "a".into()), (true, 1_000));
        let observed = Observed::alone(&cluster, &memory);
        let known = |now_ms: i64| {
            let mut pass = Pass::new(&observed, &config, now_ms);
            (exists_unwatched(&mut pass, &kind::JOB, "a"), pass.decision.wake_at_ms)
        };
        assert_eq!(known(2_000), (true, Some(1_000 + LOOK_UP_LASTS_MS)));
        assert_eq!(known(1_000 + LOOK_UP_LASTS_MS), (false, None));
    }
}
