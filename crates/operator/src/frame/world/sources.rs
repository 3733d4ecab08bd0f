//! What is watched.

use mobula_api::keys;
use serde_json::Value;

use crate::frame::kind::{self, Kind};

/// What is watched: one kind, by labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Kind.
    pub kind: &'static Kind,
    /// Label selector; empty: all.
    pub selector: &'static str,
}

impl Source {
    /// It tells what nodes offer and what pods hold, whoever's they are: of the whole cluster, and kept as slim records.
    pub(super) fn is_capacity(&self) -> bool {
        self.kind == &kind::NODE || (self.kind == &kind::POD && self.selector.is_empty())
    }

    /// Nothing waits for it: its kind may not be installed.
    pub(in crate::frame) fn is_optional(&self) -> bool {
        ["PodGroup", "Workload"].contains(&self.kind.kind)
    }

    /// Whether it selects the object: by labels that are there, are not there, or have a value.
    pub(super) fn admits(&self, value: &Value) -> bool {
        let label = |key: &str| value.pointer("/metadata/labels").and_then(|labels| labels.get(key)?.as_str());
        let holds = |term: &str| match (term.strip_prefix('!'), term.split_once('=')) {
            (Some(key), _) => label(key).is_none(),
            (None, Some((key, wanted))) => label(key) == Some(wanted),
            (None, None) => term.is_empty() || label(term).is_some(),
        };
        self.selector.split(',').all(holds)
    }

    /// Whether an object belongs to other people, of a kind that is watched whole because KubeRay gives it no label. Of those
    /// there may be very many, and nothing of them is kept.
    pub(super) fn is_others(&self, value: &Value) -> bool {
        let is_of_ray =
            |owner: &Value| owner["apiVersion"].as_str().is_some_and(|version| version.starts_with("ray.io/"));
        let owners = value.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        let is_child = self.kind != &kind::RAY_CLUSTER && !self.is_capacity();
        self.selector.is_empty() && is_child && !owners.into_iter().flatten().any(is_of_ray)
    }
}

/// What the RayCluster reconciler needs to see.
pub static RAY_CLUSTER_SOURCES: &[Source] = &[
    Source { kind: &kind::RAY_CLUSTER, selector: "" },
    Source { kind: &kind::POD, selector: "ray.io/node-type in (head,worker,redis-cleanup)" },
    Source { kind: &kind::SERVICE, selector: keys::CLUSTER },
    // No label names the cluster of the Service for Serve, nor of that by which the hosts of a replica find each other.
    Source { kind: &kind::SERVICE, selector: "ray.io/originated-from-crd=RayCluster,!ray.io/cluster" },
    Source { kind: &kind::SERVICE, selector: "ray.io/headless-worker-svc,!ray.io/cluster" },
    Source { kind: &kind::SECRET, selector: keys::CLUSTER },
    Source { kind: &kind::SERVICE_ACCOUNT, selector: keys::CLUSTER },
    Source { kind: &kind::ROLE, selector: keys::CLUSTER },
    Source { kind: &kind::ROLE_BINDING, selector: keys::CLUSTER },
    Source { kind: &kind::INGRESS, selector: keys::CLUSTER },
    Source { kind: &kind::JOB, selector: "app.kubernetes.io/created-by=kuberay-operator" },
];
