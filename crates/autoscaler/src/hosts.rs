//! Kubernetes nodes, as far as the planner looks at them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use mobula_api::node::{Taint, tolerates};
use mobula_planner::{Amount, Labels, Resources};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::pod_needs::{amounts, quantities, requests, take};
use crate::surroundings::{items, text};

/// A Kubernetes node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubeNode {
    /// Name.
    pub name: String,
    /// Labels, those that were kept.
    pub labels: Arc<Labels>,
    /// What pods of this RayCluster may take of it, as far as is known: what the kubelet offers, less what pods of others are
    /// known to take. Where these may not be read, it is more than there really is.
    pub offered: Arc<Resources>,
    /// Why it is no target for any pod.
    pub unfit: Option<String>,
    /// Taints that keep pods off it which do not tolerate them, and that say nothing of its health.
    pub taints: Vec<Taint>,
}

/// Labels of Ray, which are always kept.
const RAY_LABELS: &str = "ray.io/";

/// Whether a label is Ray's or among these.
pub(crate) fn keeps(keys: &BTreeSet<String>) -> impl Fn(&str) -> bool {
    |key| key.starts_with(RAY_LABELS) || keys.contains(key)
}

/// Reads a list of nodes as the API server sends it. Labels are kept where `keeps` says so.
pub fn read(nodes: &Value, keeps: impl Fn(&str) -> bool) -> Vec<KubeNode> {
    let mut shared: BTreeSet<Arc<Resources>> = BTreeSet::new();
    items(nodes)
        .filter(|node| !text(node, "/metadata/name").is_empty())
        .map(|node| read_one(node, &keeps, &mut shared))
        .collect()
}

/// Reads a node. `shared`: what nodes offer, so that those of one kind share it.
pub(crate) fn read_one(node: &Value, keeps: &impl Fn(&str) -> bool, shared: &mut BTreeSet<Arc<Resources>>) -> KubeNode {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    let labels = labels.filter(|(key, _)| keeps(key));
    let labels: Labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    let offered = amounts(&quantities(node.pointer("/status/allocatable")));
    // Nodes of one kind offer the same: they share it.
    let offered = match shared.get(&offered) {
        Some(known) => Arc::clone(known),
        None => {
            let new = Arc::new(offered);
            shared.insert(Arc::clone(&new));
            new
        }
    };
    let (unfit, taints) = mobula_api::node::fitness(node);
    KubeNode { name: text(node, "/metadata/name").to_owned(), labels: Arc::new(labels), offered, unfit, taints }
}

/// Takes off what pods that are not of this RayCluster take of the nodes they are on. `pods`: as the API server sends them.
pub fn take_others(nodes: &mut [KubeNode], pods: &[Value]) {
    let mut taken: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    let runs = |pod: &&Value| !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    for pod in pods.iter().filter(runs) {
        taken.entry(text(pod, "/spec/nodeName")).or_default().push(pod);
    }
    for node in nodes {
        let Some(pods) = taken.get(node.name.as_str()) else { continue };
        let offered = Arc::make_mut(&mut node.offered);
        for pod in pods {
            let mut needs = amounts(&requests(pod));
            needs.insert("pods".to_owned(), Amount::from_units(1));
            take(offered, &needs, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(merge: &Value) -> Value {
        let mut node = json!({
            "metadata": {"name": "n", "labels": {"kept": "a", "left": "b"}}, "spec": {},
            "status": {"allocatable": {"cpu": "7910m", "memory": "1Gi", "pods": "110"},
                "conditions": [{"type": "Ready", "status": "True"}]},
        });
        json_patch::merge(&mut node, merge);
        node
    }

    fn read_one(merge: &Value) -> KubeNode {
        let nodes = read(&json!({"items": [node(merge)]}), |key| key == "kept");
        nodes.into_iter().next().unwrap()
    }

    fn tainted(key: &str, effect: &str) -> KubeNode {
        read_one(&json!({"spec": {"taints": [{"key": key, "effect": effect, "value": "v"}]}}))
    }

    #[test]
    fn a_healthy_node_offers_what_it_has() {
        let read = read_one(&json!({}));
        assert_eq!((read.name.as_str(), read.unfit, read.taints), ("n", None, Vec::new()));
        assert_eq!(*read.labels, Labels::from([("kept".to_owned(), "a".to_owned())]));
        assert_eq!(read.offered["cpu"], Amount::from_f64(7.91).unwrap());
        assert_eq!(read.offered["pods"], Amount::from_units(110));
    }

    #[test]
    fn a_node_that_is_not_ready_cordoned_or_going_is_no_target() {
        let cases = [
            (
                json!({"spec": {"unschedulable": true, "taints": [
                {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}}),
                "is cordoned",
            ),
            (json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), "is being deleted"),
            (
                json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}),
                "has condition Ready=Unknown",
            ),
        ];
        for (merge, expected) in cases {
            assert_eq!(read_one(&merge).unfit.as_deref(), Some(expected));
        }
    }

    #[test]
    fn taints_of_nodes_that_are_ill_or_going_make_them_unfit() {
        for key in [
            "node.kubernetes.io/unreachable",
            "node.kubernetes.io/unschedulable",
            "karpenter.sh/disrupted",
            "ToBeDeletedByClusterAutoscaler",
            "example.com/gpu-unhealthy",
            "example.com/maintenance",
        ] {
            let read = tainted(key, "NoSchedule");
            assert_eq!(read.unfit, Some(format!("has taint {key}:NoSchedule")));
            assert_eq!(read.taints, []);
        }
    }

    #[test]
    fn an_ordinary_taint_is_kept_for_those_who_tolerate_it_and_a_soft_one_is_none() {
        for key in ["nvidia.com/gpu", "node-role.kubernetes.io/control-plane", "team"] {
            let read = tainted(key, "NoSchedule");
            assert_eq!(read.unfit, None, "{key}");
            assert_eq!(read.taints.len(), 1);
        }
        let candidate = tainted("DeletionCandidateOfClusterAutoscaler", "PreferNoSchedule");
        assert_eq!((candidate.unfit, candidate.taints), (None, Vec::new()));
    }

    #[test]
    fn tolerations_match_by_key_value_and_effect() {
        let taint = Taint { key: "k".into(), value: "v".into(), effect: "NoSchedule".into() };
        for (toleration, expected) in [
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "operator": "Equal", "value": "other"}), false),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "other", "operator": "Exists"}), false),
        ] {
            assert_eq!(tolerates(std::slice::from_ref(&toleration), &taint), expected, "{toleration}");
        }
    }

    #[test]
    fn what_pods_of_others_take_is_not_offered() {
        let pod = |node: &str, phase: &str| {
            json!({"spec": {"nodeName": node, "containers": [{"resources": {"requests": {"cpu": 2}}}]},
                "status": {"phase": phase}})
        };
        let mut nodes = vec![read_one(&json!({}))];
        take_others(&mut nodes, &[pod("n", "Running"), pod("n", "Succeeded"), pod("m", "Running"), json!({})]);
        assert_eq!(nodes[0].offered["cpu"], Amount::from_f64(5.91).unwrap());
        assert_eq!(nodes[0].offered["pods"], Amount::from_units(109));
    }

    #[test]
    fn nonsense_is_left_out() {
        assert_eq!(read(&json!({"items": [3, {}, {"metadata": {"name": 7}}]}), |_| true), []);
        assert_eq!(read(&json!([]), |_| true), []);
    }
}
