//! Tests of the translation: hand-made observations, and captures of real demand.

mod captures;
mod demand;
mod kept;
mod nodes;
mod properties;
mod replicas;
mod surroundings;

use std::collections::BTreeMap;

use mobula_api::{PodView, RayCluster};
use mobula_gcs as gcs;
use mobula_planner::{Node, Snapshot};
use serde_json::{Value, json};

use super::{Built, Kept, Observation, SnapshotOptions, build};

/// A worker group of one CPU a pod, with `merge`d members.
fn group(name: &str, merge: &Value) -> Value {
    let mut group = json!({
        "groupName": name, "minReplicas": 0, "maxReplicas": 10, "replicas": 0, "rayStartParams": {},
        "template": {"spec": {"containers": [{"name": "ray", "resources": {"limits": {"cpu": "1"}}}]}},
    });
    for (key, value) in merge.as_object().unwrap() {
        group[key] = value.clone();
    }
    group
}

fn cluster(groups: &[Value]) -> RayCluster {
    let template = json!({"spec": {"containers": [{"name": "ray", "resources": {"limits": {"cpu": "2"}}}]}});
    let value = json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "a"},
        "spec": {"headGroupSpec": {"rayStartParams": {}, "template": template}, "workerGroupSpecs": groups},
    });
    RayCluster::from_value(value).unwrap()
}

/// A worker pod that was created at 1,000,000 ms.
fn pod(name: &str, group: &str, merge: &Value) -> PodView {
    let labels = json!({"ray.io/cluster": "a", "ray.io/group": group, "ray.io/node-type": "worker"});
    let mut metadata = json!({"name": name, "labels": labels, "creationTimestamp": "1970-01-01T00:16:40Z"});
    for (key, value) in merge.as_object().unwrap() {
        match value {
            Value::Object(members) => members.iter().for_each(|(k, v)| metadata[key][k] = v.clone()),
            plain => metadata[key] = plain.clone(),
        }
    }
    PodView::from_value(&json!({"metadata": metadata, "spec": {}, "status": {"phase": "Pending"}})).unwrap()
}

/// A running Ray node of one CPU that says it runs in pod `pod`.
fn ray_node(pod: &str, group: &str) -> gcs::NodeState {
    gcs::NodeState {
        node_id: format!("id-of-{pod}"),
        instance_id: pod.to_owned(),
        node_type: group.to_owned(),
        total: resources(&[("CPU", 1.0)]).into(),
        available: resources(&[("CPU", 1.0)]).into(),
        status: gcs::NodeStatus::Running,
        ..gcs::NodeState::default()
    }
}

fn resources(entries: &[(&str, f64)]) -> gcs::ResourceMap {
    entries.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect()
}

fn observation(groups: &[Value], state: gcs::ClusterState, pods: Option<Vec<PodView>>) -> Observation {
    Observation {
        now_ms: 2_000_000,
        state,
        cluster: cluster(groups).into(),
        pods: pods.map(Into::into),
        object_store_bytes: BTreeMap::new(),
        gang_created_ms: BTreeMap::new(),
        session_since_ms: None,
        surroundings: Default::default(),
    }
}

fn built(observation: &Observation) -> Built {
    let built = build(observation, &SnapshotOptions::default()).unwrap();
    assert!(built.snapshot.is_in_order(), "policies need not sort: {:?}", instances(&built.snapshot));
    built
}

/// The snapshot of what must give no warning.
fn clean(observation: &Observation) -> Snapshot {
    let built = built(observation);
    assert_eq!(built.warnings, Vec::<String>::new());
    built.snapshot
}

fn of_nodes(groups: &[Value], nodes: Vec<gcs::NodeState>, pods: Option<Vec<PodView>>) -> Observation {
    observation(groups, gcs::ClusterState { nodes: nodes.into(), ..gcs::ClusterState::default() }, pods)
}

fn node<'a>(snapshot: &'a Snapshot, instance: &str) -> &'a Node {
    snapshot.nodes.iter().find(|node| *node.instance_id == *instance).unwrap()
}

fn instances(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.nodes.iter().map(|node| &*node.instance_id).collect()
}
