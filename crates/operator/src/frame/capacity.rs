//! What nodes offer, and what pods hold of it: slim records of all nodes and all pods that are bound to one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mobula_api::{
    keys,
    node::{self, Taint},
    pod_needs,
};
use mobula_planner::{Amount, Labels, Resources};
use serde_json::Value;

use super::{
    gang_pod::{GANG, GangPod, requests},
    kind::{self, Kind},
    neighbours::{Apart, Taken, labels},
    store::Key,
    time,
};

/// A node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeRecord {
    /// Labels.
    pub labels: Arc<Labels>,
    /// What it offers to pods.
    pub total: Arc<Resources>,
    /// Taints that a pod must tolerate.
    pub taints: Vec<Taint>,
    /// Why it is no target for any pod.
    pub unfit: Option<String>,
}

/// What a pod holds.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    node: String,
    requests: Arc<Resources>,
    /// Its labels, if it is a pod of Ray: others may have to be apart from it.
    labels: Option<Arc<Labels>>,
    /// It is there whatever else is: every node has it.
    is_fixed: bool,
}

/// A pod that waits for the scheduler.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// What it asks for.
    pub pod: Arc<GangPod>,
    /// Unix time in ms since which it does.
    pub since_ms: i64,
}

/// All nodes, and what is held of them.
#[derive(Debug, Default)]
pub struct Capacity {
    nodes: BTreeMap<String, NodeRecord>,
    held: BTreeMap<Key, Held>,
    /// Pods of Ray that wait for the scheduler alone, and belong to no gang: they will hold something soon.
    pending: BTreeMap<Key, Pending>,
    used: BTreeMap<String, Resources>,
    /// What is used by pods that are there even if the node is empty.
    fixed: BTreeMap<String, Resources>,
    /// Pods of a kind request the same: they share it.
    shared: BTreeSet<Arc<Resources>>,
    /// What a listing under way has brought.
    listed: BTreeSet<Key>,
}

fn key(value: &Value) -> Key {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    Key::new(text("/metadata/namespace"), text("/metadata/name"))
}

impl Capacity {
    /// The nodes, by name, with what they offer beside the pods that every node has, and what is free of each.
    pub fn nodes(&self) -> impl Iterator<Item = (&String, NodeRecord, Resources)> {
        self.nodes.iter().map(|(name, record)| {
            let without = |used: &BTreeMap<String, Resources>| {
                let mut left = (*record.total).clone();
                used.get(name).inspect(|used| change(&mut left, used, -1));
                left
            };
            let empty = NodeRecord { total: Arc::new(without(&self.fixed)), ..record.clone() };
            (name, empty, without(&self.used))
        })
    }

    /// The node that a pod holds capacity of, as far as its watch has told.
    pub fn node_of(&self, pod: &Key) -> Option<&str> {
        self.held.get(pod).map(|held| held.node.as_str())
    }

    /// Pods of Ray that wait for the scheduler alone, and belong to no gang.
    pub fn pending(&self) -> impl Iterator<Item = &Pending> {
        self.pending.values()
    }

    /// The nodes on which there are pods of Ray that others must be apart from, by the names of these conditions.
    pub fn taken(&self, apart: &BTreeSet<&Apart>) -> Taken {
        let nodes = |apart: &Apart| {
            let fits = |(key, held): &(&Key, &Held)| {
                held.labels.as_ref().is_some_and(|labels| apart.fits(&key.namespace, labels))
            };
            self.held.iter().filter(fits).map(|(_, held)| held.node.clone()).collect()
        };
        apart.iter().map(|apart| (apart.name.clone(), nodes(apart))).collect()
    }

    /// A watch says that there is `value`. True if that changes what is free.
    pub fn apply(&mut self, kind: &'static Kind, value: &Value) -> bool {
        if kind != &kind::NODE {
            return self.pod(value);
        }
        let name = key(value).name;
        let labels = value.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
        let labels: Labels =
            labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
        let offered = pod_needs::quantities(value.pointer("/status/allocatable")).into_iter();
        let amount = |quantity: mobula_api::Quantity| Amount::from_f64(quantity.as_f64()).unwrap_or_default();
        let total = self.share(offered.map(|(name, quantity)| (name, amount(quantity))).collect());
        let (unfit, taints) = node::fitness(value);
        let record = NodeRecord { labels: Arc::new(labels), total, taints, unfit };
        let before = self.nodes.insert(name, record.clone());
        before != Some(record)
    }

    fn pod(&mut self, value: &Value) -> bool {
        let node = value.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
        let phase = value.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
        let key = key(value);
        if node.is_empty() || ["Succeeded", "Failed"].contains(&phase) {
            let is_less = self.free(&key);
            if let Some(pod) = waiting(value) {
                self.pending.insert(key, Pending { pod: pod.into(), since_ms: waits_since_ms(value) });
            }
            return is_less;
        }
        let is_rays = value["metadata"]["labels"][keys::CLUSTER].is_string();
        let labels = is_rays.then(|| Arc::new(labels(value)));
        let held =
            Held { node: node.to_owned(), requests: self.share(requests(value)), labels, is_fixed: is_fixed(value) };
        if self.held.get(&key) == Some(&held) {
            return false;
        }
        self.free(&key);
        change(self.used.entry(held.node.clone()).or_default(), &held.requests, 1);
        if held.is_fixed {
            change(self.fixed.entry(held.node.clone()).or_default(), &held.requests, 1);
        }
        self.held.insert(key, held);
        true
    }

    /// A watch says that `value` is gone. True if that changes what is free.
    pub fn delete(&mut self, kind: &'static Kind, value: &Value) -> bool {
        let key = key(value);
        if kind == &kind::NODE { self.nodes.remove(&key.name).is_some() } else { self.free(&key) }
    }

    fn free(&mut self, key: &Key) -> bool {
        let was_pending = self.pending.remove(key).is_some();
        let Some(held) = self.held.remove(key) else { return was_pending };
        release(&mut self.used, &held);
        if held.is_fixed {
            release(&mut self.fixed, &held);
        }
        true
    }

    fn share(&mut self, resources: Resources) -> Arc<Resources> {
        if let Some(known) = self.shared.get(&resources) {
            return Arc::clone(known);
        }
        let new = Arc::new(resources);
        // What nobody holds any more is dropped before there is too much of it.
        if self.shared.len() >= MOST_SHARED {
            self.shared.retain(|known| Arc::strong_count(known) > 1);
        }
        self.shared.insert(Arc::clone(&new));
        new
    }

    /// A listing begins.
    pub fn listing_begins(&mut self, kind: &'static Kind) {
        let is_node = kind == &kind::NODE;
        self.listed.retain(|key| key.namespace.is_empty() != is_node);
    }

    /// A listing has brought `value`.
    pub fn listed(&mut self, kind: &'static Kind, value: &Value) {
        self.listed.insert(key(value));
        self.apply(kind, value);
    }

    /// The listing is whole: what it did not bring is gone.
    pub fn listing_ends(&mut self, kind: &'static Kind) {
        if kind == &kind::NODE {
            let listed = &self.listed;
            self.nodes.retain(|name, _| listed.contains(&Key::new("", name.clone())));
        } else {
            let known = self.held.keys().chain(self.pending.keys());
            let gone: Vec<Key> = known.filter(|key| !self.listed.contains(*key)).cloned().collect();
            gone.iter().for_each(|key| {
                self.free(key);
            });
        }
        self.listing_begins(kind);
    }
}

fn release(sums: &mut BTreeMap<String, Resources>, held: &Held) {
    if let Some(sum) = sums.get_mut(&held.node) {
        change(sum, &held.requests, -1);
        if sum.values().all(|amount| amount.steps() == 0) {
            sums.remove(&held.node);
        }
    }
}

/// Whether a pod is one of a DaemonSet, or of the node itself.
fn is_fixed(pod: &Value) -> bool {
    let owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let mut controllers = owners.filter(|owner| owner["controller"] == true);
    controllers.any(|owner| owner["kind"] == "DaemonSet" || owner["kind"] == "Node")
}

/// A pod without a node, if it is Ray's, of no gang, and the scheduler is to put it somewhere.
fn waiting(pod: &Value) -> Option<GangPod> {
    let is_gated =
        pod.pointer("/spec/schedulingGates").and_then(Value::as_array).is_some_and(|gates| !gates.is_empty());
    let is_rays = pod["metadata"]["labels"][keys::CLUSTER].is_string();
    let has_ended = ["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default());
    let is_out = pod["metadata"]["deletionTimestamp"].is_string() || has_ended;
    let is_of_gang = pod["metadata"]["annotations"][GANG].is_string();
    (is_rays && !is_gated && !is_out && !is_of_gang).then(|| GangPod::of(String::new(), pod))
}

/// Since when the scheduler has been asked for a node, in Unix ms: since the pod is there, or since the scheduler has last
/// changed its mind.
fn waits_since_ms(pod: &Value) -> i64 {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let changes = conditions.filter(|it| it["type"] == "PodScheduled").map(|it| &it["lastTransitionTime"]);
    let times = changes.chain([&pod["metadata"]["creationTimestamp"]]).filter_map(Value::as_str);
    times.filter_map(time::parse).max().unwrap_or_default()
}

/// Kinds of pods and nodes that are remembered as such.
const MOST_SHARED: usize = 4_096;

/// Adds `amounts`, `sign` times.
fn change(sums: &mut Resources, amounts: &Resources, sign: i64) {
    for (name, amount) in amounts {
        let sum = sums.entry(name.clone()).or_default();
        *sum = Amount::from_steps(sum.steps().saturating_add(amount.steps().saturating_mul(sign)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str) -> Value {
        json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "4", "pods": 10},
               "conditions": [{"type": "Ready", "status": "True"}]}})
    }

    fn pod(name: &str, node: &str, phase: &str) -> Value {
        json!({"metadata": {"namespace": "ns", "name": name}, "status": {"phase": phase},
               "spec": {"nodeName": node, "containers": [{"resources": {"requests": {"cpu": "1500m"}}}]}})
    }

    fn free_cpu(capacity: &Capacity) -> Vec<f64> {
        capacity.nodes().map(|(_, _, free)| free["cpu"].as_f64()).collect()
    }

    #[test]
    fn what_pods_hold_is_not_free() {
        let mut capacity = Capacity::default();
        assert!(capacity.apply(&kind::NODE, &node("n")));
        assert!(!capacity.apply(&kind::NODE, &node("n")), "known");
        assert!(!capacity.apply(&kind::POD, &pod("a", "", "Pending")));
        assert!(capacity.apply(&kind::POD, &pod("a", "n", "Pending")));
        assert!(capacity.apply(&kind::POD, &pod("b", "n", "Running")));
        assert_eq!(free_cpu(&capacity), [1.0]);
        assert!(capacity.apply(&kind::POD, &pod("a", "n", "Succeeded")));
        assert!(capacity.delete(&kind::POD, &pod("b", "n", "Running")));
        assert!(!capacity.delete(&kind::POD, &pod("b", "n", "Running")));
        assert_eq!(free_cpu(&capacity), [4.0]);
        assert!(capacity.used.is_empty());
    }

    #[test]
    fn a_pod_of_ray_that_waits_for_the_scheduler_is_pending() {
        let mut capacity = Capacity::default();
        let head = |node: &str| {
            let mut head = pod("h", node, "Pending");
            head["metadata"]["labels"] = json!({"ray.io/cluster": "x"});
            head
        };
        assert!(!capacity.apply(&kind::POD, &pod("a", "", "Pending")));
        assert!(!capacity.apply(&kind::POD, &head("")));
        let pending = |capacity: &Capacity| -> Vec<(f64, i64)> {
            capacity.pending().map(|it| (it.pod.requests["cpu"].as_f64(), it.since_ms)).collect()
        };
        assert_eq!(pending(&capacity), [(1.5, 0)], "of others it is not known whether they fit");
        let mut looked_at = head("");
        looked_at["metadata"]["creationTimestamp"] = json!("1970-01-01T00:00:02Z");
        looked_at["status"]["conditions"] =
            json!([{"type": "PodScheduled", "status": "False", "lastTransitionTime": "1970-01-01T00:00:07Z"}]);
        capacity.apply(&kind::POD, &looked_at);
        assert_eq!(pending(&capacity), [(1.5, 7_000)], "since the scheduler has said so");
        let mut gated = head("");
        gated["spec"]["schedulingGates"] = json!([{"name": "g"}]);
        let mut leaving = head("");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let mut of_gang = head("");
        of_gang["metadata"]["annotations"] = json!({GANG: "w"});
        for other in [gated, leaving, of_gang, head("n"), pod("h", "", "Failed")] {
            assert!(capacity.apply(&kind::POD, &other), "{other}");
            assert_eq!(capacity.pending().count(), 0, "{other}");
            capacity.apply(&kind::POD, &head(""));
        }
        capacity.listing_begins(&kind::POD);
        capacity.listing_ends(&kind::POD);
        assert_eq!(capacity.pending().count(), 0);
    }

    #[test]
    fn what_every_node_has_is_there_even_if_it_is_empty() {
        let mut capacity = Capacity::default();
        capacity.apply(&kind::NODE, &node("n"));
        let owned = |name: &str, kind: &str| {
            let mut pod = pod(name, "n", "Running");
            pod["metadata"]["ownerReferences"] = json!([{"kind": kind, "controller": true}]);
            pod
        };
        capacity.apply(&kind::POD, &owned("a", "DaemonSet"));
        capacity.apply(&kind::POD, &owned("b", "ReplicaSet"));
        let offered = |capacity: &Capacity| capacity.nodes().next().map(|(_, node, _)| node.total["cpu"].as_f64());
        assert_eq!((offered(&capacity), free_cpu(&capacity)), (Some(2.5), vec![1.0]));
        capacity.delete(&kind::POD, &owned("a", "DaemonSet"));
        assert_eq!((offered(&capacity), free_cpu(&capacity)), (Some(4.0), vec![2.5]));
        assert!(capacity.fixed.is_empty());
    }

    #[test]
    fn a_listing_says_what_is_gone() {
        let mut capacity = Capacity::default();
        capacity.apply(&kind::NODE, &node("n"));
        capacity.apply(&kind::NODE, &node("m"));
        capacity.apply(&kind::POD, &pod("a", "n", "Running"));
        capacity.listing_begins(&kind::NODE);
        capacity.listing_begins(&kind::POD);
        capacity.listed(&kind::NODE, &node("n"));
        capacity.listed(&kind::POD, &pod("b", "n", "Running"));
        capacity.listing_ends(&kind::NODE);
        capacity.listing_ends(&kind::POD);
        assert_eq!(free_cpu(&capacity), [2.5]);
        assert_eq!((capacity.node_of(&Key::new("ns", "a")), capacity.node_of(&Key::new("ns", "b"))), (None, Some("n")));
    }
}
