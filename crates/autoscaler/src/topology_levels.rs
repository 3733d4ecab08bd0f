//! Levels of the topology, from a file that the user writes.
//!
//! ```yaml
//! # From broad to narrow. Nodes with the same value of the label are in one domain; the first key that a node has counts.
//! - {name: zone, keys: [topology.kubernetes.io/zone]}
//! - {name: fabric, keys: [example.com/rail-group], fabric: true}       # nodes of one domain reach each other by RDMA
//! - {name: rack, keys: [example.com/rack], max_hosts: 18}              # most hosts of one gang in one domain
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use mobula_api::FieldError;
use mobula_planner::{TopologyLevel, topology_presets::preset};
use serde_json::Value;

use crate::topology::DescribedTopology;
use crate::yaml::{self, error};

/// Most levels. Kueue allows 16.
const MOST_LEVELS: usize = 32;

/// A topology that the user chose.
#[derive(Clone, Debug, Default)]
pub struct ChosenTopology {
    /// Levels, from broad to narrow.
    pub levels: Vec<TopologyLevel>,
    /// HyperNodes that say which Kubernetes nodes are in which domains of some of these levels.
    pub hypernodes: Arc<DescribedTopology>,
}

/// Reads the text of a topology file: YAML or JSON. It lists levels; or it holds Topologies of Kueue or KAI,
/// ClusterTopologyBindings of Grove, or HyperNodes of Volcano, whose levels come beside those of the preset `auto`.
///
/// # Errors
/// Says what is no YAML, or names level, field and value that can't be used.
pub fn from_text(text: &str) -> Result<ChosenTopology, FieldError> {
    let documents = yaml::documents(text)?;
    if !documents.is_empty() && documents.iter().all(DescribedTopology::is_one) {
        return described(&documents);
    }
    let levels = levels(&yaml::one_document(text)?)?;
    Ok(ChosenTopology { levels, hypernodes: Arc::default() })
}

fn described(documents: &[Value]) -> Result<ChosenTopology, FieldError> {
    let described = DescribedTopology::from_documents(documents)?;
    let mut levels = preset("auto").unwrap_or_default();
    described.add_levels(&mut levels);
    Ok(ChosenTopology { levels, hypernodes: Arc::new(described) })
}

fn levels(document: &Value) -> Result<Vec<TopologyLevel>, FieldError> {
    let items = document.as_array().filter(|items| items.len() <= MOST_LEVELS);
    let problem = format!("must be a list of at most {MOST_LEVELS} levels, from broad to narrow");
    let items = items.ok_or_else(|| error("", document, &problem))?;
    let mut levels: Vec<TopologyLevel> = Vec::with_capacity(items.len());
    // Names and keys that are taken, and where.
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        let level = level(&format!("[{index}]"), item)?;
        let names = [(format!("[{index}].name"), format!("name {}", level.name), level.name.clone())];
        let keys = level.keys.iter().enumerate();
        let keys = keys.map(|(at, key)| (format!("[{index}].keys[{at}]"), format!("key {key}"), key.clone()));
        for (path, what, value) in names.into_iter().chain(keys) {
            if let Some(other) = taken.insert(what, path.clone()) {
                return Err(FieldError::new(path, value, format!("is that of {other} already")));
            }
        }
        levels.push(level);
    }
    Ok(levels)
}

fn level(path: &str, item: &Value) -> Result<TopologyLevel, FieldError> {
    let problem = "must be a map with name and keys, and with fabric and max_hosts if you like";
    let members = item.as_object().ok_or_else(|| error(path, item, problem))?;
    let mut level = TopologyLevel::default();
    for (key, value) in members {
        let path = format!("{path}.{key}");
        let wrong = |problem: &str| error(&path, value, problem);
        match key.as_str() {
            "name" => level.name = text(value).ok_or_else(|| wrong("must be what people call the level"))?,
            "keys" => {
                let keys: Option<Vec<String>> = value.as_array().and_then(|keys| keys.iter().map(text).collect());
                let keys = keys.filter(|keys| !keys.is_empty());
                level.keys = keys.ok_or_else(|| wrong("must be a list of label keys, at least one"))?;
            }
            "fabric" => level.is_fabric = value.as_bool().ok_or_else(|| wrong("must be true or false"))?,
            "max_hosts" => {
                let most = value.as_u64().and_then(|most| u32::try_from(most).ok()).filter(|most| *most > 0);
                level.max_hosts = Some(most.ok_or_else(|| wrong("must be a number of hosts, 1 or more"))?);
            }
            _ => return Err(wrong("is not known: must be name, keys, fabric or max_hosts")),
        }
    }
    for (field, is_missing) in [("name", level.name.is_empty()), ("keys", level.keys.is_empty())] {
        if is_missing {
            return Err(FieldError::missing(format!("{path}.{field}"), "is required"));
        }
    }
    Ok(level)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosts::KubeNode;

    #[test]
    fn levels_are_read_in_their_order() {
        let text = "
            - {name: zone, keys: [topology.kubernetes.io/zone]}
            - {name: rail, keys: [a, b], fabric: true}
            - {keys: [c], name: rack, max_hosts: 18, fabric: false}
        ";
        let level = |name: &str, keys: &[&str]| TopologyLevel {
            name: name.to_owned(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            ..TopologyLevel::default()
        };
        let expected = [
            level("zone", &["topology.kubernetes.io/zone"]),
            TopologyLevel { is_fabric: true, ..level("rail", &["a", "b"]) },
            TopologyLevel { max_hosts: Some(18), ..level("rack", &["c"]) },
        ];
        assert_eq!(from_text(text).unwrap().levels, expected);
        assert_eq!(from_text("[]").unwrap().levels, []);
    }

    #[test]
    fn the_label_keys_of_a_kueue_topology_come_beside_the_known_ones() {
        let text = "
            apiVersion: kueue.x-k8s.io/v1beta2
            kind: Topology
            metadata: {name: fleet}
            spec: {levels: [{nodeLabel: example.com/block}, {nodeLabel: example.com/row}, {nodeLabel: kubernetes.io/hostname}]}
        ";
        let levels = from_text(text).unwrap().levels;
        let at = |key: &str| levels.iter().position(|level| level.keys.iter().any(|known| known == key)).unwrap();
        assert!(at("example.com/block") < at("example.com/row"));
        assert!(at("example.com/row") < at("kubernetes.io/hostname"));
        assert!(at("topology.kubernetes.io/zone") < at("example.com/block"));
    }

    #[test]
    fn hypernodes_become_levels_and_label_kubernetes_nodes() {
        let text = "
            apiVersion: topology.volcano.sh/v1alpha1
            kind: HyperNode
            metadata: {name: s0}
            spec: {tier: 1, tierName: leaf, members: [{type: Node, selector: {exactMatch: {name: n0}}}]}
            ---
            apiVersion: topology.volcano.sh/v1alpha1
            kind: HyperNode
            metadata: {name: s1}
            spec: {tier: 1, tierName: leaf, members: [{type: Node, selector: {labelMatch: {matchLabels: {pool: b}}}}]}
        ";
        let chosen = from_text(&text.replace("\n            ", "\n")).unwrap();
        let level = chosen.levels.iter().find(|level| level.name == "leaf").unwrap();
        assert!(level.is_fabric);
        assert_eq!(chosen.hypernodes.label_keys().collect::<Vec<_>>(), ["pool"]);
        let node = |name: &str, pool: &str| KubeNode {
            name: name.to_owned(),
            labels: Arc::new([("pool".to_owned(), pool.to_owned())].into()),
            ..KubeNode::default()
        };
        let mut nodes = [node("n0", "a"), node("n1", "b"), node("n2", "a")];
        assert_eq!(chosen.hypernodes.label_nodes(&mut nodes), [""; 0]);
        let of = |node: &KubeNode| node.labels.get(&level.keys[0]).cloned();
        assert_eq!(nodes.each_ref().map(of), [Some("s0".to_owned()), Some("s1".to_owned()), None]);
    }

    #[test]
    fn what_can_not_be_used_is_named_with_its_place_and_value() {
        let cases = [
            ("zone", "the document: zone: must be a list of at most 32 levels, from broad to narrow"),
            ("[zone]", "[0]: zone: must be a map with name and keys, and with fabric and max_hosts if you like"),
            ("[{name: zone}]", "[0].keys: is required"),
            ("[{keys: [a]}]", "[0].name: is required"),
            ("[{name: zone, keys: a}]", "[0].keys: a: must be a list of label keys, at least one"),
            ("[{name: zone, keys: []}]", "[0].keys: []: must be a list of label keys, at least one"),
            ("[{name: 7, keys: [a]}]", "[0].name: 7: must be what people call the level"),
            ("[{name: a, keys: [a], fabric: 1}]", "[0].fabric: 1: must be true or false"),
            ("[{name: a, keys: [a], max_hosts: 0}]", "[0].max_hosts: 0: must be a number of hosts, 1 or more"),
            (
                "[{name: a, keys: [a], maxHosts: 3}]",
                "[0].maxHosts: 3: is not known: must be name, keys, fabric or max_hosts",
            ),
            ("[{name: a, keys: [k]}, {name: a, keys: [l]}]", "[1].name: a: is that of [0].name already"),
            ("[{name: a, keys: [k]}, {name: b, keys: [l, k]}]", "[1].keys[1]: k: is that of [0].keys[0] already"),
        ];
        for (text, expected) in cases {
            assert_eq!(from_text(text).unwrap_err().to_string(), expected, "{text}");
        }
    }
}
