//! The answer to one review.

use std::collections::BTreeSet;

use kube::core::{
    DynamicObject,
    admission::{AdmissionRequest, AdmissionResponse},
    response::{StatusCause, StatusDetails},
};
use mobula_api::{Fault, Kind, Rules};
use serde_json::Value;

use crate::raycluster::is_managed_elsewhere;

/// Most warnings of an answer; clients show few.
const MOST_WARNINGS: usize = 10;

/// Answers: refused is what the reconciler would refuse, warned of is what would not work.
///
/// What was wrong before an update is only warned of: whoever mends something else, or removes a finalizer, must be able to.
/// An object that is being deleted, and one that another controller manages, is let through.
pub(super) fn review(kind: Kind, request: &AdmissionRequest<DynamicObject>, rules: &Rules) -> AdmissionResponse {
    let mut response = AdmissionResponse::from(request);
    let Some(object) = &request.object else { return response };
    let is_leaving = object.metadata.deletion_timestamp.is_some();
    let managed_by = object.data.pointer("/spec/managedBy").and_then(Value::as_str);
    if is_leaving || is_managed_elsewhere(managed_by) {
        return response;
    }
    let before: BTreeSet<String> = match &request.old_object {
        Some(old) => faults(kind, old, rules).into_iter().map(|fault| fault.error.to_string()).collect(),
        None => BTreeSet::new(),
    };
    // What concerns a part only is no reason to refuse a change of something that works: KubeRay takes it.
    let is_update = request.old_object.is_some();
    let is_refused = |fault: &Fault| {
        fault.is_fatal && !(is_update && fault.is_of_part) && !before.contains(&fault.error.to_string())
    };
    let (refused, warned): (Vec<Fault>, Vec<Fault>) = faults(kind, object, rules).into_iter().partition(is_refused);
    if !warned.is_empty() {
        response.warnings = Some(warned.iter().take(MOST_WARNINGS).map(|fault| fault.error.to_string()).collect());
    }
    if refused.is_empty() { response } else { refuse(response, kind, &request.name, &refused) }
}

fn refuse(response: AdmissionResponse, kind: Kind, name: &str, refused: &[Fault]) -> AdmissionResponse {
    let all = refused.iter().map(|fault| fault.error.to_string()).collect::<Vec<_>>().join("; ");
    let causes = refused.iter().map(|fault| StatusCause {
        reason: "FieldValueInvalid".to_owned(),
        message: format!("{}: {}", fault.error.value, fault.error.problem),
        field: fault.error.field.clone(),
    });
    let details = StatusDetails {
        name: name.to_owned(),
        group: "ray.io".to_owned(),
        kind: kind.as_str().to_owned(),
        uid: String::new(),
        causes: causes.collect(),
        retry_after_seconds: 0,
    };
    let mut response = response.deny(format!("{}.ray.io \"{name}\" is invalid: {all}", kind.as_str()));
    response.result.code = 422;
    response.result.reason = "Invalid".to_owned();
    response.result.details = Some(details);
    response
}

fn faults(kind: Kind, object: &DynamicObject, rules: &Rules) -> Vec<Fault> {
    let mut document = serde_json::to_value(object).unwrap_or_default();
    // The server makes the rest of a generated name.
    if object.metadata.name.is_none()
        && let (Some(prefix), Some(metadata)) =
            (&object.metadata.generate_name, document.get_mut("metadata").and_then(Value::as_object_mut))
    {
        metadata.insert("name".to_owned(), Value::from(format!("{prefix}xxxxx")));
    }
    kind.faults(&document, rules)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(names: &[&str]) -> Value {
        let template = json!({"spec": {"containers": [{"name": "ray", "image": "rayproject/ray:2.60.0"}]}});
        let groups: Vec<Value> = names
            .iter()
            .map(|name| json!({"groupName": name, "minReplicas": 0, "maxReplicas": 3, "rayStartParams": {}, "template": template}))
            .collect();
        json!({
            "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "c", "namespace": "n"},
            "spec": {"headGroupSpec": {"rayStartParams": {}, "template": template}, "workerGroupSpecs": groups},
        })
    }

    fn asked(object: &Value, old: Option<&Value>) -> AdmissionResponse {
        let request = json!({
            "uid": "u", "name": "c", "namespace": "n", "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
            "kind": {"group": "ray.io", "version": "v1", "kind": "RayCluster"},
            "resource": {"group": "ray.io", "version": "v1", "resource": "rayclusters"},
            "userInfo": {}, "object": object, "oldObject": old,
        });
        let request: AdmissionRequest<DynamicObject> = serde_json::from_value(request).unwrap();
        review(Kind::RayCluster, &request, &Rules::default())
    }

    #[test]
    fn what_is_right_is_let_through() {
        let response = asked(&cluster(&["a", "b"]), None);
        assert!(response.allowed, "{}", response.result.message);
        assert_eq!(response.uid, "u");
    }

    #[test]
    fn two_groups_of_one_name_are_refused_with_the_field() {
        let response = asked(&cluster(&["a", "a"]), None);
        assert!(!response.allowed);
        assert_eq!((response.result.code, response.result.reason.as_str()), (422, "Invalid"));
        assert!(
            response.result.message.starts_with("RayCluster.ray.io \"c\" is invalid: "),
            "{}",
            response.result.message
        );
        let causes = response.result.details.unwrap().causes;
        assert_eq!(causes[0].field, "spec.workerGroupSpecs[1].groupName", "{causes:?}");
    }

    #[test]
    fn what_only_a_part_can_not_be_made_of_is_refused_too() {
        let mut part = cluster(&["a", "b"]);
        part["spec"]["workerGroupSpecs"][1]["numOfHosts"] = json!(-1);
        let response = asked(&part, None);
        assert!(!response.allowed && response.result.message.contains("numOfHosts: -1"), "{}", response.result.message);
        // Of what works already, it is warned of.
        let response = asked(&part, Some(&cluster(&["a", "b"])));
        assert!(response.allowed && response.warnings.unwrap()[0].contains("numOfHosts: -1"));
    }

    #[test]
    fn an_old_fault_does_not_forbid_other_changes() {
        let (old, mut new) = (cluster(&["a", "a"]), cluster(&["a", "a"]));
        new["spec"]["workerGroupSpecs"][0]["maxReplicas"] = json!(4);
        let response = asked(&new, Some(&old));
        assert!(response.allowed, "{}", response.result.message);
        assert!(response.warnings.unwrap()[0].contains("groupName"));
        new["spec"]["workerGroupSpecs"][0]["minReplicas"] = json!(9);
        let response = asked(&new, Some(&old));
        assert!(!response.allowed && response.result.message.contains("minReplicas"), "{}", response.result.message);
    }

    #[test]
    fn what_leaves_or_belongs_to_another_controller_is_let_through() {
        let mut leaving = cluster(&["a", "a"]);
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(asked(&leaving, None).allowed);
        let mut other = cluster(&["a", "a"]);
        other["spec"]["managedBy"] = json!("kueue.x-k8s.io/multikueue");
        assert!(asked(&other, None).allowed);
    }
}
