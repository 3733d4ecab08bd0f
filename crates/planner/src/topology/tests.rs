//! Small clusters, and where their nodes are.

mod domains;
mod fabrics;
mod rooms;

use std::sync::Arc;

use crate::{
    Amount, Bundle, Gang, GangStrategy, Host, LabelConstraint, LabelOperator, LabelSelector, Labels, Locality, Node,
    NodePhase, NodeType, Resources, Snapshot, TopologyLevel,
};

const GPU_DOMAIN: &str = "ray.io/gpu-domain";
const CLIQUE: &str = "nvidia.com/gpu.clique";
const BLOCK: &str = "example.com/block";
const RACK: &str = "example.com/rack";

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn amounts(pairs: &[(&str, i64)]) -> Resources {
    pairs.iter().map(|(name, units)| ((*name).to_owned(), Amount::from_units(*units))).collect()
}

fn level(name: &str, keys: &[&str]) -> TopologyLevel {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    TopologyLevel { name: name.to_owned(), keys, ..TopologyLevel::default() }
}

fn fabric(name: &str, keys: &[&str]) -> TopologyLevel {
    TopologyLevel { is_fabric: true, ..level(name, keys) }
}

fn group(name: &str, selector: &[(&str, &str)]) -> NodeType {
    let mut group = NodeType { name: name.to_owned(), num_of_hosts: 1, max_replicas: 100, ..NodeType::default() };
    group.resources = Arc::new(amounts(&[("CPU", 64), ("GPU", 8)]));
    group.facts.node_selector = labels(selector);
    group.facts.pod_requests = amounts(&[("cpu", 60), ("nvidia.com/gpu", 8)]);
    group
}

/// A group whose pods ask for RDMA devices, as users do: in the limits of the pod only.
fn rdma_group(name: &str, selector: &[(&str, &str)]) -> NodeType {
    let mut group = group(name, selector);
    group.facts.extended_resources = amounts(&[("nvidia.com/gpu", 8), ("rdma/hca", 8)]);
    group
}

fn node(group: &str, phase: NodePhase, ray_labels: &[(&str, &str)], host: Option<&str>) -> Node {
    Node {
        group: group.into(),
        phase,
        labels: Arc::new(labels(ray_labels)),
        host: host.map(str::to_owned),
        ..Node::default()
    }
}

fn running(group: &str, ray_labels: &[(&str, &str)], host: Option<&str>) -> Node {
    node(group, NodePhase::Running, ray_labels, host)
}

fn pending(group: &str, host: Option<&str>) -> Node {
    node(group, NodePhase::Pending, &[], host)
}

fn host(name: &str, kube_labels: &[(&str, &str)]) -> Host {
    Host {
        name: name.to_owned(),
        labels: Arc::new(labels(kube_labels)),
        free: Arc::new(amounts(&[("cpu", 100), ("nvidia.com/gpu", 8)])),
        unfit: None,
    }
}

fn gang(bundles: usize, resources: &[(&str, i64)]) -> Gang {
    let bundle = Bundle { resources: Arc::new(amounts(resources)), ..Bundle::default() };
    Gang { id: "a1".to_owned(), bundles: vec![bundle; bundles], ..Gang::default() }
}

/// A gang that wants one domain of this label, of those with these values.
fn local_gang(label: &str, values: &[&str]) -> Gang {
    let constraint = LabelConstraint {
        key: label.to_owned(),
        operator: LabelOperator::In,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let selector = LabelSelector { constraints: if values.is_empty() { vec![] } else { vec![constraint] } };
    let locality = Locality { label: label.to_owned(), strategy: GangStrategy::StrictPack, selector };
    Gang { locality: Some(locality), ..gang(2, &[("GPU", 8)]) }
}

fn snapshot(levels: Vec<TopologyLevel>, node_types: Vec<NodeType>, nodes: Vec<Node>) -> Snapshot {
    Snapshot { topology: levels, node_types, nodes: nodes.into(), ..Snapshot::default() }
}
