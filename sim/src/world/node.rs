//! A Kubernetes node.

use std::collections::BTreeSet;

use mobula_autoscaler::pod_needs;
use mobula_planner::{Amount, Labels, Resources};
use serde_json::{Value, json};

use super::Key;
use crate::scenario::{NodePool, Taint};

/// Most pods on a node, where its capacity does not say it (the kubelet's default).
const MOST_PODS: i64 = 110;

/// Names of GPUs among the resources of Kubernetes.
pub(super) const GPUS: [&str; 2] = ["nvidia.com/gpu", "amd.com/gpu"];

/// A node of the world.
#[derive(Clone, Debug)]
pub struct KubeNode {
    /// Name.
    pub name: String,
    /// Index of its pool.
    pub pool: usize,
    /// Labels.
    pub labels: Labels,
    /// Taints.
    pub taints: Vec<Taint>,
    /// What it has for pods.
    pub capacity: Resources,
    /// What of it is free.
    pub free: Resources,
    /// Pods on it.
    pub pods: BTreeSet<Key>,
    /// When it was bought, in µs.
    pub since_us: u64,
    /// Since when it has been empty, in µs.
    pub empty_since_us: Option<u64>,
    /// It was there from the beginning and never goes.
    pub is_fixed: bool,
    /// Images that were pulled.
    pub images: BTreeSet<String>,
}

/// What one node of a pool has for pods.
pub fn capacity(pool: &NodePool) -> Resources {
    let as_json = Value::Object(pool.capacity.clone().into_iter().collect());
    let mut capacity = pod_needs::amounts(&pod_needs::quantities(Some(&as_json)));
    capacity.entry("pods".to_owned()).or_insert(Amount::from_units(MOST_PODS));
    capacity
}

/// Labels of node number `index` of a pool.
pub fn labels(pool: &NodePool, name: &str, index: u32) -> Labels {
    let mut labels = pool.labels.clone();
    for (key, values) in &pool.spread_labels {
        let value = values.get(index as usize % values.len().max(1)).cloned().unwrap_or_default();
        labels.insert(key.clone(), value);
    }
    for (key, size) in &pool.block_labels {
        labels.insert(key.clone(), format!("{}-{}", pool.name, index / (*size).max(1)));
    }
    labels.insert("kubernetes.io/hostname".to_owned(), name.to_owned());
    labels
}

impl KubeNode {
    /// Node number `index` of pool number `number`.
    pub fn new(number: usize, pool: &NodePool, index: u32, now_us: u64, is_fixed: bool) -> KubeNode {
        let name = format!("{}-{index}", pool.name);
        let capacity = capacity(pool);
        KubeNode {
            pool: number,
            labels: labels(pool, &name, index),
            name,
            taints: pool.taints.clone(),
            free: capacity.clone(),
            capacity,
            pods: BTreeSet::new(),
            since_us: now_us,
            empty_since_us: Some(now_us),
            is_fixed,
            images: BTreeSet::new(),
        }
    }

    /// The object.
    pub fn to_value(&self, pool: &NodePool) -> Value {
        let mut capacity: Value = json!(pool.capacity);
        if capacity.get("pods").is_none() {
            capacity["pods"] = json!(MOST_PODS.to_string());
        }
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.name, "labels": self.labels},
            "spec": {"taints": self.taint_values()},
            "status": {
                "capacity": capacity, "allocatable": capacity,
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        })
    }

    /// Its taints as JSON.
    pub fn taint_values(&self) -> Value {
        let taint = |taint: &Taint| json!({"key": taint.key, "value": taint.value, "effect": taint.effect});
        self.taints.iter().map(taint).collect()
    }

    /// How many GPUs it has.
    pub fn gpus(&self) -> f64 {
        gpus(&self.capacity)
    }

    /// How many of its GPUs no pod has.
    pub fn free_gpus(&self) -> f64 {
        gpus(&self.free)
    }

    /// A pod comes.
    pub fn take(&mut self, pod: Key, requests: &Resources) {
        if self.pods.insert(pod) {
            change(&mut self.free, requests, -1);
        }
        self.empty_since_us = None;
    }

    /// A pod is gone.
    pub fn give_back(&mut self, pod: &Key, requests: &Resources, now_us: u64) {
        if self.pods.remove(pod) {
            change(&mut self.free, requests, 1);
        }
        if self.pods.is_empty() {
            self.empty_since_us = Some(now_us);
        }
    }
}

fn gpus(resources: &Resources) -> f64 {
    GPUS.iter().filter_map(|name| resources.get(*name)).map(|amount| amount.as_f64()).sum()
}

/// Adds or takes away. What the node does not have is left out.
pub(super) fn change(free: &mut Resources, requests: &Resources, sign: i64) {
    for (name, amount) in requests {
        if let Some(free) = free.get_mut(name) {
            *free = Amount::from_steps(free.steps().saturating_add(sign.saturating_mul(amount.steps())));
        }
    }
}
