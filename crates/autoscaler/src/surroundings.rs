//! What Kubernetes says around the RayCluster, where RBAC permits, for people: quotas that hold groups back, nodes that are in
//! trouble. What is decided by is in [`crate::hosts`] and [`crate::quotas`].

use std::collections::{BTreeMap, BTreeSet};

use mobula_api::{PodView, Quantity, RayCluster};
use serde_json::Value;

use crate::pod_needs::{self, Quantities, quantities};

/// Why pods of these groups, which are asked for, may not appear: quotas that one more pod of the group would break.
pub fn quota_notes(quotas: &Value, cluster: &RayCluster, waiting_groups: &BTreeSet<&str>) -> Vec<String> {
    let mut notes = Vec::new();
    for group in cluster.spec.worker_group_specs.iter().filter(|g| waiting_groups.contains(g.group_name.as_str())) {
        let needs = needs_of_pod(&group.template);
        for quota in items(quotas) {
            let name = quota.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            for (resource, hard) in quantities(quota.pointer("/status/hard")) {
                let used = quantities(quota.pointer("/status/used")).get(&resource).copied().unwrap_or_default();
                let free = (hard.as_f64() - used.as_f64()).max(0.0);
                let Some(need) = needs.get(&resource).filter(|need| need.as_f64() > free) else { continue };
                notes.push(format!(
                    "group {}: ResourceQuota {name} leaves no room for one more pod: {resource} {used} of {hard} is used, \
                     and a pod needs {need}",
                    group.group_name
                ));
            }
        }
    }
    notes
}

/// What one pod of a template counts against a quota, by the names that quotas use.
fn needs_of_pod(template: &Value) -> Quantities {
    let mut needs = Quantities::new();
    let one: Quantity = "1".parse().unwrap_or_default();
    for name in ["pods", "count/pods"] {
        needs.insert(name.to_owned(), one);
    }
    for (resource, amount) in pod_needs::requests(template) {
        needs.insert(format!("requests.{resource}"), amount);
        if resource == "cpu" || resource == "memory" {
            needs.insert(resource, amount);
        }
    }
    for (resource, amount) in pod_needs::limits(template) {
        needs.insert(format!("limits.{resource}"), amount);
    }
    needs
}

/// The items of a list as the API server sends it.
pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.get("items").and_then(Value::as_array).into_iter().flatten()
}

/// Pods on Kubernetes nodes in trouble. Asked for are only nodes with own pods: most are no matter of ours.
pub fn node_notes(troubles: impl Fn(&str) -> Vec<String>, pods: &[PodView]) -> Vec<String> {
    let mut on_nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for pod in pods {
        if let Some(node) = &pod.node_name {
            on_nodes.entry(node).or_default().push(&pod.name);
        }
    }
    let note = |(name, on_it): (&str, Vec<&str>)| {
        let troubles = troubles(name);
        (!troubles.is_empty()).then(|| format!("Kubernetes node {name} {}: {}", troubles.join(", "), on_it.join(", ")))
    };
    on_nodes.into_iter().filter_map(note).collect()
}

/// What is wrong with the node of this name in a list as the API server sends it.
pub fn troubles_in(nodes: &Value) -> impl Fn(&str) -> Vec<String> {
    let by_name: BTreeMap<&str, &Value> = items(nodes).map(|node| (text(node, "/metadata/name"), node)).collect();
    move |name| by_name.get(name).map(|node| troubles_of(node)).unwrap_or_default()
}

/// What is wrong with a Kubernetes node, as the ends of sentences that begin with its name.
pub fn troubles_of(node: &Value) -> Vec<String> {
    let mut troubles = Vec::new();
    if node.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string) {
        troubles.push("is being deleted".to_owned());
    }
    if node.pointer("/spec/unschedulable").and_then(Value::as_bool) == Some(true) {
        troubles.push("is cordoned".to_owned());
    }
    for taint in list(node, "/spec/taints") {
        let text = |key: &str| taint.get(key).and_then(Value::as_str).unwrap_or_default();
        // Taints that users put on (GPU nodes, say) say nothing of health.
        if text("key").starts_with("node.kubernetes.io/") && text("key") != "node.kubernetes.io/unschedulable" {
            troubles.push(format!("has taint {}:{}", text("key"), text("effect")));
        }
    }
    for condition in list(node, "/status/conditions") {
        let text = |key: &str| condition.get(key).and_then(Value::as_str).unwrap_or_default();
        let healthy = if text("type") == "Ready" { "True" } else { "False" };
        let known = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];
        if known.contains(&text("type")) && text("status") != healthy {
            troubles.push(format!("has condition {}={}", text("type"), text("status")));
        }
    }
    troubles
}

/// The text at this place; empty if there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at this place; empty if there is none.
pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster() -> RayCluster {
        RayCluster::from_value(json!({
            "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "a"},
            "spec": {
                "headGroupSpec": {"template": {"spec": {"containers": [{"name": "h"}]}}},
                "workerGroupSpecs": [{
                    "groupName": "gpu",
                    "template": {"spec": {"containers": [{"name": "w", "resources": {
                        "limits": {"cpu": "4", "nvidia.com/gpu": "8"}, "requests": {"cpu": "2"},
                    }}]}},
                }],
            },
        }))
        .unwrap()
    }

    fn quota(hard: &Value, used: &Value) -> Value {
        json!({"items": [{"metadata": {"name": "q"}, "status": {"hard": hard, "used": used}}]})
    }

    #[test]
    fn a_quota_with_too_little_left_is_named_with_what_is_needed() {
        let quotas = quota(&json!({"requests.nvidia.com/gpu": "10"}), &json!({"requests.nvidia.com/gpu": "8"}));
        let notes = quota_notes(&quotas, &cluster(), &BTreeSet::from(["gpu"]));
        assert_eq!(
            notes,
            [
                "group gpu: ResourceQuota q leaves no room for one more pod: requests.nvidia.com/gpu 8 of 10 is used, and a \
              pod needs 8"
            ]
        );
    }

    #[test]
    fn requests_count_where_they_are_given_and_limits_elsewhere() {
        let quotas = quota(&json!({"cpu": "2", "limits.cpu": "3", "pods": "1"}), &json!({}));
        let notes = quota_notes(&quotas, &cluster(), &BTreeSet::from(["gpu"]));
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("limits.cpu 0 of 3"), "{notes:?}");
    }

    #[test]
    fn a_group_that_waits_for_nothing_is_not_mentioned() {
        let quotas = quota(&json!({"pods": "0"}), &json!({}));
        assert!(quota_notes(&quotas, &cluster(), &BTreeSet::new()).is_empty());
    }

    #[test]
    fn pods_on_a_node_in_trouble_are_named() {
        let nodes = json!({"items": [
            {"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown", "message": "silent"}]}},
            {"metadata": {"name": "n2"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
        ]});
        let on = |name: &str, node: &str| PodView {
            node_name: Some(node.into()),
            ..PodView { name: name.into(), ..PodView::default() }
        };
        assert_eq!(
            node_notes(troubles_in(&nodes), &[on("a", "n1"), on("b", "n2"), on("c", "unknown")]),
            ["Kubernetes node n1 has condition Ready=Unknown: a"]
        );
    }
}
