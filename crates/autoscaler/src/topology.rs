//! What other schedulers say of the topology, for a snapshot: their label keys become levels, their HyperNodes levels and
//! labels of Kubernetes nodes.

mod hypernodes;
#[cfg(test)]
mod tests;

use mobula_api::{FieldError, TopologyKey, TopologyObject};
use mobula_planner::{Host, TopologyLevel};
use serde_json::Value;

use crate::hosts::KubeNode;
use hypernodes::HyperNodes;

/// Nothing is narrower than a host.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Levels that are broader than any network.
const BROADEST: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// A topology as Kueue, KAI, Grove or Volcano describe it.
#[derive(Debug, Default)]
pub struct DescribedTopology {
    /// Name of the object and its levels, one a list.
    lists: Vec<(String, Vec<TopologyKey>)>,
    hypernodes: HyperNodes,
}

impl DescribedTopology {
    /// Whether a document is an object (or a list of objects) that can be read.
    pub fn is_one(document: &Value) -> bool {
        TopologyObject::is_one(document)
    }

    /// Reads Topologies of Kueue and KAI, ClusterTopologyBindings of Grove and HyperNodes of Volcano: objects, lists as kubectl
    /// prints them, or arrays.
    pub fn from_documents(documents: &[Value]) -> Result<Self, FieldError> {
        let mut lists = Vec::new();
        let mut hypernodes = Vec::new();
        for document in documents {
            for object in TopologyObject::all_from_value(document)? {
                match object {
                    TopologyObject::Levels(levels) => lists.push((levels.name, levels.levels)),
                    TopologyObject::HyperNode(hypernode) => hypernodes.push(hypernode),
                }
            }
        }
        Ok(DescribedTopology { lists, hypernodes: HyperNodes::new(hypernodes)? })
    }

    /// Whether some of it is HyperNodes, which say of each Kubernetes node where it is.
    pub fn has_hypernodes(&self) -> bool {
        self.hypernodes.levels().next().is_some()
    }

    /// Adds what is described to levels that are there already; gives what could not be used, for people.
    ///
    /// A label key that a level has stays where it is; others become levels of their own, in the order in which they are
    /// described. HyperNodes become one level a tier, all of them fabrics: see [`DescribedTopology::label_nodes`].
    pub fn add_levels(&self, levels: &mut Vec<TopologyLevel>) -> Vec<String> {
        let mut notes = Vec::new();
        for (name, keys) in &self.lists {
            add_levels(levels, name, keys, &mut notes);
        }
        let after = |level: &TopologyLevel| level.keys.iter().any(|key| BROADEST.contains(&key.as_str()));
        let at = levels.iter().rposition(after).map_or(0, |last| last.saturating_add(1));
        let tiers = self.hypernodes.levels();
        let tiers = tiers.map(|level| TopologyLevel { name: free_name(levels, &level), ..level });
        let tiers: Vec<TopologyLevel> = tiers.collect();
        levels.splice(at..at, tiers);
        notes
    }

    /// Labels Kubernetes nodes with the HyperNodes in which they are; gives what could not be used, for people.
    pub fn label_nodes(&self, nodes: &mut [KubeNode]) -> Vec<String> {
        let mut notes = Vec::new();
        let host = |node: &KubeNode| Host { name: node.name.clone(), labels: node.labels.clone(), ..Host::default() };
        let mut hosts: Vec<Host> = if self.has_hypernodes() { nodes.iter().map(host).collect() } else { Vec::new() };
        self.hypernodes.label(&mut hosts, &mut notes);
        for (node, host) in nodes.iter_mut().zip(hosts) {
            node.labels = host.labels;
        }
        notes
    }

    /// Labels of Kubernetes nodes by which HyperNodes choose their members.
    pub fn label_keys(&self) -> impl Iterator<Item = &str> {
        self.hypernodes.label_keys()
    }
}

/// Adds the keys that no level has, each before the next one that a level has; the rest at the end, before the hosts.
fn add_levels(levels: &mut Vec<TopologyLevel>, topology: &str, keys: &[TopologyKey], notes: &mut Vec<String>) {
    let position = |levels: &[TopologyLevel], key: &str| {
        levels.iter().position(|level| level.keys.iter().any(|known| known == key))
    };
    let mut last: Option<(usize, &str)> = None;
    for key in keys {
        let Some(at) = position(levels, &key.key) else { continue };
        match last {
            Some((before, broader)) if at < before => notes.push(format!(
                "topology {topology} says that {} is narrower than {broader}, the levels in use say the opposite: they count",
                key.key
            )),
            _ => last = Some((at, &key.key)),
        }
    }
    for (number, key) in keys.iter().enumerate() {
        if position(levels, &key.key).is_some() {
            continue;
        }
        let later = keys.iter().skip(number.saturating_add(1));
        let next = later.filter_map(|later| position(levels, &later.key)).next();
        let host = position(levels, HOSTNAME).filter(|at| at.saturating_add(1) == levels.len() && key.key != HOSTNAME);
        let level = TopologyLevel { name: key.name.clone(), keys: vec![key.key.clone()], ..TopologyLevel::default() };
        let level = TopologyLevel { name: free_name(levels, &level), ..level };
        levels.insert(next.or(host).unwrap_or(levels.len()), level);
    }
}

/// The name of a level that is to be added; its label key if another level has that name already.
fn free_name(levels: &[TopologyLevel], level: &TopologyLevel) -> String {
    let is_taken = levels.iter().any(|other| other.name == level.name);
    let key = level.keys.first().filter(|_| is_taken || level.name.is_empty());
    key.unwrap_or(&level.name).clone()
}
