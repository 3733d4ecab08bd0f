//! Pods and Ray nodes, matched with each other, become the planner's nodes.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use mobula_api::{PodRole, PodView, keys};
use mobula_gcs as gcs;
use mobula_planner::{Amount, Labels, Node, NodePhase, NodeType, Resources};

use super::replicas::{Member, complete, fresh_node};
use super::{Observation, RAY_NODE_ID_LABEL, Warnings, pending, resize};

/// Resource that only the head has.
const HEAD_RESOURCE: &str = "node:__internal_head__";
/// Every node has one resource `node:<its address>`. Where nobody asks for one by name, all of them are called so, and nodes
/// that are alike share one list. (Leaving it out would change scores: it counts as a resource that is never used.)
const ANY_NODE_RESOURCE: &str = "node:<ip>";
/// Names that start so are not of the form `node:<address>`.
const INTERNAL_NODE_RESOURCE: &str = "node:__internal";
/// Ray node label of the TPU slice that the node is a host of.
const TPU_SLICE_LABEL: &str = "ray.io/tpu-slice-name";

/// What is kept of that which differs from node to node, because somebody asks for it.
#[derive(Copy, Clone, Debug)]
pub(super) struct Keep {
    /// The label with the node's id.
    pub(super) node_id: bool,
    /// The name of the resource that stands for the node's address.
    pub(super) node_address: bool,
}

/// All instances: the head, the groups in the order of the RayCluster, then Ray nodes that nobody manages.
pub(super) fn translate(
    observation: &Observation,
    groups: &[NodeType],
    keep: Keep,
    warnings: &mut Warnings,
) -> Vec<Node> {
    let ray = RayNodes::index(&observation.state, warnings);
    let reader = NodeReader {
        observation,
        groups: groups.iter().enumerate().map(|(index, group)| (group.name.as_str(), index)).collect(),
        named: named_for_deletion(observation),
        keep,
        labels: BTreeMap::new(),
        resources: BTreeMap::new(),
        warnings,
    };
    let mut nodes = reader.read(groups, &ray);
    pending::mark_requested(&observation.cluster, &mut nodes);
    nodes
}

/// Pods that are to be deleted already.
fn named_for_deletion(observation: &Observation) -> BTreeSet<&str> {
    let groups = &observation.cluster.spec.worker_group_specs;
    let strategies = groups.iter().filter_map(|group| group.scale_strategy.as_ref());
    strategies.flat_map(|strategy| &strategy.workers_to_delete).map(String::as_str).collect()
}

/// Ray's nodes by the pod that they say they run in. (Hashed: they are only looked up, and there are many.)
struct RayNodes<'a> {
    live: HashMap<&'a str, &'a gcs::NodeState>,
    all_dead: &'a [Arc<gcs::NodeState>],
    /// Only made when somebody asks: mostly every pod's node lives, and the dead are many.
    dead: OnceCell<HashMap<&'a str, Vec<&'a gcs::NodeState>>>,
    /// Live nodes without an instance id.
    unnamed: Vec<&'a gcs::NodeState>,
}

impl<'a> RayNodes<'a> {
    fn index(state: &'a gcs::ClusterState, warnings: &mut Warnings) -> Self {
        let all_dead = state.nodes.dead();
        let mut nodes = RayNodes { live: HashMap::new(), all_dead, dead: OnceCell::new(), unnamed: Vec::new() };
        for node in state.nodes.living() {
            let id = node.instance_id.as_str();
            if id.is_empty() {
                nodes.unnamed.push(node);
                continue;
            }
            let Some(other) = nodes.live.insert(id, node) else { continue };
            // Ray was restarted in its pod, and the GCS has not yet noticed that the older node is gone.
            warnings.push(format!("pod {id} has two live Ray nodes, {} and {}", other.node_id, node.node_id));
            if freshness(other) < freshness(node) {
                nodes.live.insert(id, other);
            }
        }
        nodes
    }

    /// A dead node that may have run in this very pod, whatever order the GCS lists them in: one whose address is the pod's comes first.
    fn dead(&self, pod: &PodView) -> Option<&'a gcs::NodeState> {
        let by_pod = self.dead.get_or_init(|| {
            let mut by_pod: HashMap<&str, Vec<&gcs::NodeState>> = HashMap::new();
            for node in self.all_dead.iter().filter(|node| !node.instance_id.is_empty()) {
                by_pod.entry(&node.instance_id).or_default().push(node);
            }
            by_pod
        });
        let of_name = by_pod.get(pod.name.as_str())?.iter().copied();
        let has_its_address = |dead: &gcs::NodeState| pod.ip.as_deref() == Some(dead.ip.as_str());
        of_name.filter(|dead| may_have_run(pod, dead)).max_by_key(|dead| (has_its_address(dead), dead.node_id.as_str()))
    }

    /// Live nodes with an instance id, one an id, in the order of the reply.
    fn named(&self, state: &'a gcs::ClusterState) -> impl Iterator<Item = &'a gcs::NodeState> {
        let chosen = |node: &&gcs::NodeState| {
            self.live.get(node.instance_id.as_str()).is_some_and(|live| std::ptr::eq(*live, *node))
        };
        state.nodes.living().iter().map(|node| &**node).filter(chosen)
    }
}

/// Whether this dead node may have run in this very pod. Names of pods come again; an earlier one had another address, and a pod
/// without an address has run nothing yet. Where the addresses can't be compared it may.
fn may_have_run(pod: &PodView, dead: &gcs::NodeState) -> bool {
    let said = dead.ip.as_str();
    let is_loopback = said.starts_with("127.") || said == "::1";
    let is_v6 = |address: &str| address.contains(':');
    match pod.ip.as_deref() {
        _ if said.is_empty() || is_loopback => true,
        Some(ip) => ip == said || is_v6(ip) != is_v6(said),
        None => false,
    }
}

/// Smaller is more likely the node that runs now: a node that is gone does nothing, and its idle time goes on growing.
fn freshness(node: &gcs::NodeState) -> (bool, i64) {
    (node.status != gcs::NodeStatus::Running, node.idle_ms)
}

struct NodeReader<'a> {
    observation: &'a Observation,
    groups: BTreeMap<&'a str, usize>,
    named: BTreeSet<&'a str>,
    keep: Keep,
    /// Equal labels are one.
    labels: BTreeMap<Vec<(&'a str, &'a str)>, Arc<Labels>>,
    /// Equal resources are one; amounts by their bits.
    resources: BTreeMap<Vec<(&'a str, u64)>, Arc<Resources>>,
    warnings: &'a mut Warnings,
}

impl<'a> NodeReader<'a> {
    fn read(mut self, groups: &'a [NodeType], ray: &RayNodes<'a>) -> Vec<Node> {
        let mut members: Vec<Vec<Member>> = groups.iter().map(|_| Vec::new()).collect();
        let mut unmanaged = Vec::new();
        let pods = self.observation.pods.as_deref();
        let mut seen: HashSet<&str> = HashSet::new();
        for pod in pods.unwrap_or_default().iter().filter(|pod| pod.role != PodRole::Other) {
            seen.insert(&pod.name);
            // The operator does not count such pods either: it replaces them.
            if pod.terminating || matches!(pod.phase.as_str(), "Failed" | "Succeeded") {
                continue;
            }
            let live = ray.live.get(pod.name.as_str()).copied();
            match (self.group_of_pod(pod, groups), live) {
                (Some(index), _) => {
                    let dead = if live.is_some() { None } else { ray.dead(pod) };
                    members[index].push(self.pod_member(&groups[index], pod, live, dead));
                }
                (None, Some(node)) => unmanaged.push(self.unmanaged(node)),
                (None, None) => {
                    self.warnings
                        .push(format!("pod {}: the RayCluster has no group {:?}: ignored", pod.name, pod.group));
                }
            }
        }
        for node in ray.named(&self.observation.state).filter(|node| !seen.contains(node.instance_id.as_str())) {
            match self.group_of_ray_node(node, groups) {
                Some(index) => members[index].push(self.podless_member(&groups[index], node, pods.is_some())),
                None => unmanaged.push(self.unmanaged(node)),
            }
        }
        unmanaged.extend(ray.unnamed.iter().map(|node| match self.group_of_ray_node(node, groups) {
            Some(index) if groups[index].is_head => self.podless_member(&groups[index], node, false).node,
            _ => self.unmanaged(node),
        }));
        unmanaged.sort_by(|a, b| a.ray_node_id.cmp(&b.ray_node_id));
        let managed = groups.iter().zip(members).flat_map(|(group, members)| complete(group, members));
        managed.chain(unmanaged).collect()
    }

    fn group_of_pod(&self, pod: &PodView, groups: &[NodeType]) -> Option<usize> {
        match pod.role {
            PodRole::Head => groups.iter().position(|group| group.is_head),
            PodRole::Worker => self.groups.get(pod.group.as_str()).copied().filter(|index| !groups[*index].is_head),
            PodRole::Other => None,
        }
    }

    fn group_of_ray_node(&self, node: &gcs::NodeState, groups: &[NodeType]) -> Option<usize> {
        if node.total.contains_key(HEAD_RESOURCE) {
            return groups.iter().position(|group| group.is_head);
        }
        self.groups.get(type_name(node)).copied()
    }

    /// An instance that has a pod.
    fn pod_member(
        &mut self,
        group: &NodeType,
        pod: &PodView,
        live: Option<&'a gcs::NodeState>,
        dead: Option<&'a gcs::NodeState>,
    ) -> Member {
        let named = !group.is_head && self.named.contains(pod.name.as_str());
        let mut node = match live {
            Some(live) => self.running(live),
            None => fresh_node(group),
        };
        node.phase = match live {
            _ if named => NodePhase::Leaving,
            Some(live) => phase_of(live, group),
            None if dead.is_some() && !group.is_head => NodePhase::Stopped,
            None => NodePhase::Pending,
        };
        if live.is_none() {
            node.ray_node_id = dead.map(|dead| dead.node_id.clone());
            node.pending_since_ms = self.pending_since_ms(pod);
            node.pending_cause = (node.phase == NodePhase::Pending).then(|| pending::cause(pod));
        }
        node.host.clone_from(&pod.node_name);
        node.instance_id = pod.name.as_str().into();
        node.is_head = group.is_head;
        node.replica = pod.replica.clone().or(node.replica);
        let now_ms = self.observation.now_ms;
        node.resize = group.resize.and_then(|bounds| resize::translate(pod, bounds.timeout_ms, now_ms, self.warnings));
        Member { node, created_ms: pod.created_ms, counted: !named }
    }

    /// A pod can't have been waiting for longer than the head is there.
    fn pending_since_ms(&self, pod: &PodView) -> Option<i64> {
        pod.created_ms.max(self.observation.session_since_ms)
    }

    /// A live Ray node without a pod. Where pods are known, its pod is gone, and it will be, too.
    fn podless_member(&mut self, group: &NodeType, live: &'a gcs::NodeState, pods_known: bool) -> Member {
        let named = !group.is_head && self.named.contains(live.instance_id.as_str());
        let gone = pods_known && !group.is_head;
        if gone {
            self.warnings.push(format!(
                "Ray node {}: its pod {} does not exist: neither capacity nor counted",
                live.node_id, live.instance_id
            ));
        }
        let phase = if named || gone { NodePhase::Leaving } else { phase_of(live, group) };
        let node = Node {
            instance_id: live.instance_id.as_str().into(),
            group: group.name.as_str().into(),
            is_head: group.is_head,
            phase,
            ..self.running(live)
        };
        Member { node, created_ms: None, counted: !named && !gone }
    }

    /// A Ray node that is not scaled: its capacity counts.
    fn unmanaged(&mut self, live: &'a gcs::NodeState) -> Node {
        let name = type_name(live);
        if !self.groups.contains_key(name) {
            self.warnings.push(format!(
                "Ray node {} ({}): the RayCluster has no group {name:?}: its capacity counts, it is not scaled",
                live.node_id,
                if live.instance_id.is_empty() { "no pod" } else { live.instance_id.as_str() },
            ));
        }
        let phase = if live.status == gcs::NodeStatus::Draining { NodePhase::Leaving } else { NodePhase::Running };
        // Without an instance id no policy ends it, and nobody counts it as a replica.
        Node { instance_id: Arc::default(), group: name.into(), phase, ..self.running(live) }
    }

    /// What the GCS says of a live node.
    fn running(&mut self, live: &'a gcs::NodeState) -> Node {
        let total = self.resources(&live.total, live, "total_resources");
        let available = self.resources(&live.available, live, "available_resources");
        Node {
            ray_node_id: Some(live.node_id.clone()),
            replica: live.labels.get(TPU_SLICE_LABEL).cloned(),
            total,
            available,
            labels: self.labels(&live.labels),
            dynamic_labels: self.labels(&live.dynamic_labels),
            idle_ms: (live.status == gcs::NodeStatus::Idle).then_some(live.idle_ms.max(0)),
            object_store_bytes: self.observation.object_store_bytes.get(&live.node_id).copied(),
            ..Node::default()
        }
    }

    fn resources(&mut self, wire: &'a gcs::ResourceMap, node: &gcs::NodeState, field: &str) -> Arc<Resources> {
        let entries = wire.iter().map(|(name, amount)| (self.resource_name(name), amount.to_bits()));
        let key: Vec<(&str, u64)> = entries.collect();
        if let Some(shared) = self.resources.get(&key) {
            return Arc::clone(shared);
        }
        let resources = Arc::new(self.amounts(&key, node, field));
        self.resources.insert(key, Arc::clone(&resources));
        resources
    }

    fn resource_name(&self, name: &'a str) -> &'a str {
        let is_address = name.starts_with("node:") && !name.starts_with(INTERNAL_NODE_RESOURCE);
        if is_address && !self.keep.node_address { ANY_NODE_RESOURCE } else { name }
    }

    /// Amounts that can't be planned with are left out. What is over-used counts as used up.
    fn amounts(&mut self, entries: &[(&str, u64)], node: &gcs::NodeState, field: &str) -> Resources {
        let mut resources = Resources::new();
        for (name, bits) in entries {
            let units = f64::from_bits(*bits);
            match Amount::from_f64(units) {
                Some(amount) => drop(resources.insert((*name).to_owned(), amount.max(Amount::ZERO))),
                None => self.warnings.push(format!(
                    "Ray node {}: {field}: {name}: {units} is not an amount that can be planned: left out",
                    node.node_id
                )),
            }
        }
        resources
    }

    fn labels(&mut self, wire: &'a gcs::LabelMap) -> Arc<Labels> {
        let kept = wire.iter().filter(|(key, _)| self.keep.node_id || *key != RAY_NODE_ID_LABEL);
        let key: Vec<(&str, &str)> = kept.map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let shared = self.labels.entry(key).or_insert_with_key(|key| Arc::new(key.iter().map(owned).collect()));
        Arc::clone(shared)
    }
}

fn phase_of(live: &gcs::NodeState, group: &NodeType) -> NodePhase {
    if live.status == gcs::NodeStatus::Draining && !group.is_head { NodePhase::Leaving } else { NodePhase::Running }
}

/// The group that a Ray node says it belongs to.
fn type_name(node: &gcs::NodeState) -> &str {
    match node.labels.get(keys::RAY_NODE_GROUP) {
        Some(group) if node.node_type.is_empty() => group,
        _ => &node.node_type,
    }
}
