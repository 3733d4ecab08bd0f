//! Kubernetes nodes, with what is free of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use mobula_api::{PodRole, PodView, RayCluster, keys};
use mobula_planner::{Host, Hosts, NodeType};
use serde_json::Value;

use super::Observation;
use crate::hosts::{KubeNode, Taint, tolerates};
use crate::pod_needs::take;
use crate::quotas::with_itself;
use crate::surroundings::list;

/// Pods by Kubernetes node and group.
type Taken<'a> = BTreeMap<(&'a str, &'a str), u64>;

/// What is kept of one translation for the next one of the same groups.
#[derive(Debug)]
pub(super) struct Known {
    kube_nodes: Arc<Vec<KubeNode>>,
    taken: Vec<((String, String), u64)>,
    hosts: Hosts,
}

impl Known {
    fn is_of(&self, kube_nodes: &Arc<Vec<KubeNode>>, taken: &Taken<'_>) -> bool {
        let known = self.taken.iter().map(|((node, group), count)| ((node.as_str(), group.as_str()), *count));
        Arc::ptr_eq(&self.kube_nodes, kube_nodes) && known.eq(taken.iter().map(|(place, count)| (*place, *count)))
    }
}

/// As [`translate`], unless nothing has changed. `known` must be of the same groups.
pub(super) fn translate_anew(known: &mut Option<Known>, observation: &Observation, groups: &[NodeType]) -> Hosts {
    let kube_nodes = &observation.surroundings.kube_nodes;
    let taken = taken(observation.pods.as_deref().unwrap_or_default());
    if let Some(known) = known.as_ref().filter(|known| known.is_of(kube_nodes, &taken)) {
        return known.hosts.clone();
    }
    let hosts = translate(observation, groups, &taken);
    let own = |((node, group), count): (&(&str, &str), &u64)| (((*node).to_owned(), (*group).to_owned()), *count);
    let taken = taken.iter().map(own).collect();
    *known = Some(Known { kube_nodes: Arc::clone(kube_nodes), taken, hosts: hosts.clone() });
    hosts
}

/// All Kubernetes nodes that are known, by name, less what the pods of this RayCluster take of them.
fn translate<'a>(observation: &'a Observation, groups: &'a [NodeType], taken: &Taken<'_>) -> Hosts {
    let needs: BTreeMap<&str, _> =
        groups.iter().map(|group| (group.name.as_str(), with_itself(group.facts.pod_requests.clone()))).collect();
    let mut gates = Gates { groups, tolerations: tolerations(&observation.cluster), known: BTreeMap::new() };
    let host = |node: &'a KubeNode| {
        let mut free = Arc::clone(&node.offered);
        let on_node = taken.range((node.name.as_str(), "")..).take_while(|((name, _), _)| *name == node.name);
        for ((_, group), count) in on_node {
            if let Some(needs) = needs.get(group) {
                take(Arc::make_mut(&mut free), needs, *count);
            }
        }
        Host {
            name: node.name.clone(),
            labels: Arc::clone(&node.labels),
            free,
            unfit: node.unfit.clone().or_else(|| gates.closed(&node.taints)),
        }
    };
    let mut hosts: Vec<Host> = observation.surroundings.kube_nodes.iter().map(host).collect();
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    hosts.into()
}

fn taken(pods: &[PodView]) -> Taken<'_> {
    let mut taken = Taken::new();
    // A pod that is being deleted holds its place until it is gone.
    for pod in pods.iter().filter(|pod| !matches!(pod.phase.as_str(), "Failed" | "Succeeded")) {
        let group = if pod.role == PodRole::Head { keys::HEAD_GROUP } else { pod.group.as_str() };
        if let Some(node) = &pod.node_name {
            *taken.entry((node, group)).or_default() += 1;
        }
    }
    taken
}

fn tolerations(cluster: &RayCluster) -> BTreeMap<&str, &[Value]> {
    let groups = cluster.spec.worker_group_specs.iter();
    groups.map(|group| (group.group_name.as_str(), list(&group.template, "/spec/tolerations"))).collect()
}

/// Who gets past taints.
struct Gates<'a> {
    groups: &'a [NodeType],
    tolerations: BTreeMap<&'a str, &'a [Value]>,
    /// What was found out for sets of taints: many nodes have the same.
    known: BTreeMap<Vec<&'a Taint>, Option<String>>,
}

impl<'a> Gates<'a> {
    /// Why no worker group may be put on nodes with these taints; `None`: some group may.
    fn closed(&mut self, taints: &'a [Taint]) -> Option<String> {
        if taints.is_empty() {
            return None;
        }
        let key: Vec<&Taint> = taints.iter().collect();
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let mut workers = self.groups.iter().filter(|group| !group.is_head);
        let is_open = workers.any(|group| taints.iter().all(|taint| self.lets_in(group, taint)));
        let names: Vec<String> = taints.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect();
        let closed = (!is_open).then(|| format!("has taint {}, which no group tolerates", names.join(", ")));
        self.known.insert(key, closed.clone());
        closed
    }

    fn lets_in(&self, group: &NodeType, taint: &Taint) -> bool {
        // Clusters with dedicated nodes let pods that ask for a device past the taint of its name.
        let asks_for_it = group.facts.pod_requests.contains_key(&taint.key);
        asks_for_it || self.tolerations.get(group.name.as_str()).is_some_and(|own| tolerates(own, taint))
    }
}
