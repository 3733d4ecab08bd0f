//! Clusters and demand of any size, the same on every machine: what the GCS would say, and the RayCluster it belongs to.

use mobula_gcs::{
    BundleSelector, ClusterState, GangRequest, LabelConstraint, LabelMap, LabelOperator, LabelSelector, NodeState,
    NodeStatus, PlacementConstraint, RequestByCount, ResourceMap, ResourceRequest,
};
use serde_json::{Value, json};

use crate::random::Random;

const GIB: f64 = 1_073_741_824.0;

/// Most shapes that pending tasks and actors have.
const MAX_SHAPES: u64 = 200;
/// Bundles of each placement group.
const BUNDLES: u64 = 8;
/// Nodes of one rack.
const NODES_PER_RACK: usize = 16;

/// A worker group of the made-up cluster.
struct Group {
    name: &'static str,
    cpu: f64,
    memory_gib: f64,
    gpu: f64,
    rdma: f64,
    /// `ray.io/accelerator-type` and Ray's `accelerator_type:` resource.
    accelerator: Option<&'static str>,
    /// Share of the nodes in percent.
    share: usize,
}

const GROUPS: [Group; 5] = [
    Group { name: "cpu", cpu: 16.0, memory_gib: 64.0, gpu: 0.0, rdma: 0.0, accelerator: None, share: 40 },
    Group { name: "cpu-big", cpu: 64.0, memory_gib: 512.0, gpu: 0.0, rdma: 0.0, accelerator: None, share: 15 },
    Group { name: "l4", cpu: 32.0, memory_gib: 128.0, gpu: 4.0, rdma: 0.0, accelerator: Some("L4"), share: 15 },
    Group { name: "h200", cpu: 96.0, memory_gib: 1024.0, gpu: 8.0, rdma: 8.0, accelerator: Some("H200"), share: 20 },
    Group { name: "a10g", cpu: 8.0, memory_gib: 32.0, gpu: 1.0, rdma: 0.0, accelerator: Some("A10G"), share: 10 },
];

/// How large a problem is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pending tasks and actors; one placement group of 8 bundles is pending for each 500 of them.
    pub pending: u64,
    /// Worker nodes that run, most of them partly used.
    pub nodes: usize,
}

impl std::fmt::Display for Size {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} pending, {} nodes", self.pending, self.nodes)
    }
}

/// The sizes of which results are kept.
pub const SIZES: [Size; 9] = {
    const fn size(pending: u64, nodes: usize) -> Size {
        Size { pending, nodes }
    }
    [
        size(10, 10),
        size(10, 1_000),
        size(10, 10_000),
        size(1_000, 10),
        size(1_000, 1_000),
        size(1_000, 10_000),
        size(100_000, 10),
        size(100_000, 1_000),
        size(100_000, 10_000),
    ]
};

/// What the GCS says of a cluster of that size: nodes first used up at random, then demand of many shapes.
pub fn cluster_state(size: Size) -> ClusterState {
    let mut random = Random(0x5eed ^ size.pending.rotate_left(32) ^ size.nodes as u64);
    let mut nodes = vec![head()];
    nodes.extend((0..size.nodes).map(|index| node(index, &mut random)));
    ClusterState {
        version: 1,
        session_name: "session_2026-01-01_00-00-00_000000_1".to_owned(),
        nodes: nodes.into(),
        pending: pending(size.pending, &mut random),
        gangs: (0..size.pending / 500).map(|index| gang(index, &mut random)).collect(),
        constraints: Vec::new(),
    }
}

/// The RayCluster whose groups the nodes of [`cluster_state`] belong to, with room for ten times as many and at least
/// 1,000 more of each group.
pub fn raycluster(size: Size) -> Value {
    let counts = group_counts(size.nodes);
    let groups: Vec<Value> = GROUPS
        .iter()
        .zip(counts)
        .map(|(group, count)| {
            json!({
                "groupName": group.name,
                "replicas": count,
                "minReplicas": 0,
                "maxReplicas": count * 10 + 1_000,
                "rayStartParams": start_params(group),
                "labels": labels(group),
                "template": {"spec": {"containers": [{
                    "name": "ray-worker",
                    "image": "rayproject/ray:2.60.0",
                    "resources": {"limits": limits(group)},
                }]}},
            })
        })
        .collect();
    json!({
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "bench", "namespace": "default", "uid": "b", "resourceVersion": "1", "generation": 1},
        "spec": {
            "rayVersion": "2.60.0",
            "enableInTreeAutoscaling": true,
            "autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": 60},
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0"},
                "template": {"spec": {"containers": [{
                    "name": "ray-head",
                    "image": "rayproject/ray:2.60.0",
                    "resources": {"limits": {"cpu": "4", "memory": "16Gi"}},
                }]}},
            },
            "workerGroupSpecs": groups,
        },
    })
}

/// Nodes of each group, in the order of the RayCluster.
fn group_counts(nodes: usize) -> [usize; GROUPS.len()] {
    let mut counts = [0; GROUPS.len()];
    for index in 0..nodes {
        counts[group_of(index)] += 1;
    }
    counts
}

/// Group of the n-th node: each hundred nodes has the shares of [`GROUPS`], interleaved.
fn group_of(index: usize) -> usize {
    let mut place = index * 37 % 100;
    for (number, group) in GROUPS.iter().enumerate() {
        if place < group.share {
            return number;
        }
        place -= group.share;
    }
    0
}

/// `rayStartParams` of the group: custom resources in the form that KubeRay wants, JSON in quotes with escapes.
fn start_params(group: &Group) -> Value {
    let mut resources = Vec::new();
    if group.rdma > 0.0 {
        resources.push(format!("\\\"rdma/hca\\\": {}", group.rdma));
    }
    if let Some(accelerator) = group.accelerator {
        resources.push(format!("\\\"accelerator_type:{accelerator}\\\": 1"));
    }
    if resources.is_empty() { json!({}) } else { json!({"resources": format!("\"{{{}}}\"", resources.join(", "))}) }
}

/// Ray labels of the group.
fn labels(group: &Group) -> Value {
    group.accelerator.map_or_else(|| json!({}), |accelerator| json!({"ray.io/accelerator-type": accelerator}))
}

fn limits(group: &Group) -> Value {
    let mut limits = json!({"cpu": group.cpu.to_string(), "memory": format!("{}Gi", group.memory_gib)});
    if group.gpu > 0.0 {
        limits["nvidia.com/gpu"] = json!(group.gpu.to_string());
    }
    if group.rdma > 0.0 {
        limits["rdma/hca"] = json!(group.rdma.to_string());
    }
    limits
}

fn head() -> NodeState {
    let total = ResourceMap::from([("memory".to_owned(), 16.0 * GIB), ("node:__internal_head__".to_owned(), 1.0)]);
    NodeState {
        node_id: format!("{:056x}", u64::MAX),
        instance_id: "bench-head".to_owned(),
        node_type: "headgroup".to_owned(),
        available: total.clone().into(),
        total: total.into(),
        status: NodeStatus::Running,
        ip: "10.0.0.1".to_owned(),
        ..NodeState::default()
    }
}

fn node(index: usize, random: &mut Random) -> NodeState {
    let group = &GROUPS[group_of(index)];
    let mut total = ResourceMap::from([("CPU".to_owned(), group.cpu), ("memory".to_owned(), group.memory_gib * GIB)]);
    let mut labels = LabelMap::from([
        ("ray.io/node-group".to_owned(), group.name.to_owned()),
        ("rack".to_owned(), format!("r{}", index / NODES_PER_RACK)),
    ]);
    if group.gpu > 0.0 {
        total.insert("GPU".to_owned(), group.gpu);
    }
    if group.rdma > 0.0 {
        total.insert("rdma/hca".to_owned(), group.rdma);
    }
    if let Some(accelerator) = group.accelerator {
        total.insert(format!("accelerator_type:{accelerator}"), 1.0);
        labels.insert("ray.io/accelerator-type".to_owned(), accelerator.to_owned());
    }
    // One node in ten is idle, one in ten is full, the others are used in part.
    let tenths_used = random.below(10).min(9);
    let mut available = total.clone();
    for (name, amount) in &mut available {
        if !name.starts_with("accelerator_type:") {
            *amount = (*amount * (9 - tenths_used) as f64 / 9.0).floor();
        }
    }
    available.retain(|_, amount| *amount > 0.0);
    let idle = tenths_used == 0;
    NodeState {
        node_id: format!("{index:056x}"),
        instance_id: format!("bench-{}-worker-{index:05}", group.name),
        node_type: group.name.to_owned(),
        available: available.into(),
        total: total.into(),
        labels: labels.into(),
        status: if idle { NodeStatus::Idle } else { NodeStatus::Running },
        idle_ms: if idle { 5_000 } else { 0 },
        ip: format!("10.{}.{}.{}", 1 + index / 65_536, index / 256 % 256, index % 256),
        activity: if idle { Vec::new() } else { vec!["Busy workers on node.".to_owned()] },
        ..NodeState::default()
    }
}

fn pending(count: u64, random: &mut Random) -> Vec<RequestByCount> {
    let shapes = count.min(MAX_SHAPES);
    (0..shapes)
        .map(|index| RequestByCount {
            request: shape(index, random),
            // The remainder goes to the first shapes, so that all counts together are `count`.
            count: (count / shapes + u64::from(index < count % shapes)) as i64,
        })
        .collect()
}

/// The n-th shape: half of them plain CPU, a quarter with memory, a fifth with GPUs, some of all with a label selector.
fn shape(index: u64, random: &mut Random) -> ResourceRequest {
    // The thousandths tell any two shapes apart.
    let cpu = (1 + random.below(16)) as f64 * 0.25 + index as f64 * 0.001;
    let mut resources = ResourceMap::from([("CPU".to_owned(), cpu)]);
    match index % 20 {
        0..=9 => {}
        10..=14 => {
            resources.insert("memory".to_owned(), (1 + random.below(32)) as f64 * GIB);
        }
        15..=16 => {
            resources.insert("GPU".to_owned(), 1.0);
        }
        17 => {
            resources.insert("GPU".to_owned(), 0.5);
            resources.insert("accelerator_type:L4".to_owned(), 0.001);
        }
        _ => {
            resources.insert("GPU".to_owned(), 4.0);
        }
    }
    let selectors = if index % 10 == 9 {
        let constraint = LabelConstraint {
            key: "ray.io/accelerator-type".to_owned(),
            operator: if index % 20 == 19 { LabelOperator::In } else { LabelOperator::NotIn },
            values: vec!["H200".to_owned()],
        };
        vec![LabelSelector { constraints: vec![constraint] }]
    } else {
        Vec::new()
    };
    ResourceRequest { resources, selectors, ..ResourceRequest::default() }
}

/// The n-th placement group, with the strategies in turn.
fn gang(index: u64, random: &mut Random) -> GangRequest {
    let id = format!("{index:036x}");
    let strategy = ["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"][(index % 4) as usize];
    let resources = match strategy {
        "STRICT_SPREAD" => {
            ResourceMap::from([("CPU".to_owned(), 8.0), ("GPU".to_owned(), 8.0), ("rdma/hca".to_owned(), 8.0)])
        }
        "STRICT_PACK" => ResourceMap::from([("CPU".to_owned(), 1.0), ("GPU".to_owned(), 1.0)]),
        _ => ResourceMap::from([("CPU".to_owned(), (1 + random.below(8)) as f64)]),
    };
    let label = Some((format!("_PG_{id}"), String::new()));
    let placement = match strategy {
        "STRICT_SPREAD" => vec![PlacementConstraint { anti_affinity: label, affinity: None }],
        "STRICT_PACK" => vec![PlacementConstraint { anti_affinity: None, affinity: label }],
        _ => Vec::new(),
    };
    let bundle = ResourceRequest { resources, placement, selectors: Vec::new() };
    let requests = vec![bundle; BUNDLES as usize];
    GangRequest {
        details: format!("{id}:{strategy}|PENDING"),
        bundle_selectors: vec![BundleSelector { requests: requests.clone(), locality: None }],
        requests,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_they_say() {
        for size in SIZES {
            let state = cluster_state(size);
            assert_eq!(state.nodes.len(), size.nodes + 1);
            assert_eq!(state.pending.iter().map(|entry| entry.count).sum::<i64>(), size.pending as i64);
            assert_eq!(group_counts(size.nodes).iter().sum::<usize>(), size.nodes);
        }
    }

    #[test]
    fn shapes_differ() {
        let state = cluster_state(Size { pending: 100_000, nodes: 10 });
        for (index, entry) in state.pending.iter().enumerate() {
            let twin = state.pending.iter().skip(index + 1).find(|other| other.request == entry.request);
            assert_eq!(twin, None);
        }
        assert_eq!(state.pending.len() as u64, MAX_SHAPES);
    }

    #[test]
    fn nodes_are_idle_full_and_between() {
        let state = cluster_state(Size { pending: 10, nodes: 1_000 });
        let workers = &state.nodes.living()[1..];
        let idle = workers.iter().filter(|node| node.available == node.total).count();
        let full = workers.iter().filter(|node| !node.available.contains_key("CPU")).count();
        assert!((50..200).contains(&idle) && (50..200).contains(&full), "{idle} idle, {full} full");
    }
}
