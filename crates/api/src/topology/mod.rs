//! Objects of other schedulers that describe the topology: Kueue's and KAI's Topology, Grove's ClusterTopologyBinding,
//! Volcano's HyperNodes.

mod hypernode;
mod levels;

pub use hypernode::{HyperNode, HyperNodeMember, LabelCondition, MemberKind, MemberSelector};
pub use levels::{TopologyKey, TopologyLevels};

use serde_json::Value;

use crate::FieldError;
use crate::at::At;

/// An object that describes the topology, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopologyObject {
    /// Label keys from broad to narrow.
    Levels(TopologyLevels),
    /// One domain by its members.
    HyperNode(HyperNode),
}

/// API group and kind of what [`TopologyObject::from_value`] reads. The version does not matter: the fields are the same in
/// all that are known.
const KINDS: [(&str, &str); 5] = [
    ("kueue.x-k8s.io", "Topology"),
    ("kai.scheduler", "Topology"),
    ("grove.io", "ClusterTopologyBinding"),
    ("grove.io", "ClusterTopology"),
    ("topology.volcano.sh", "HyperNode"),
];

impl TopologyObject {
    /// Whether a document is of a kind that can be read, or a list of such.
    pub fn is_one(document: &Value) -> bool {
        match list_items(document) {
            Some(items) => !items.is_empty() && items.iter().all(Self::is_one),
            None => group_and_kind(document).is_some_and(|found| KINDS.contains(&found)),
        }
    }

    /// Reads one object.
    pub fn from_value(object: &Value) -> Result<Self, FieldError> {
        read(&At::root(object))
    }

    /// Reads one object, a list as kubectl prints it, or an array.
    pub fn all_from_value(document: &Value) -> Result<Vec<Self>, FieldError> {
        let root = At::root(document);
        match (document.is_array(), list_items(document).is_some()) {
            (true, _) => root.items()?.iter().map(read).collect(),
            (false, true) => root.require("items")?.items()?.iter().map(read).collect(),
            (false, false) => Ok(vec![read(&root)?]),
        }
    }
}

fn list_items(document: &Value) -> Option<&Vec<Value>> {
    document.as_array().or_else(|| document.get("items")?.as_array())
}

fn group_and_kind(object: &Value) -> Option<(&str, &str)> {
    let (group, _) = object.get("apiVersion")?.as_str()?.split_once('/')?;
    Some((group, object.get("kind")?.as_str()?))
}

fn read(at: &At<'_>) -> Result<TopologyObject, FieldError> {
    at.object()?;
    match group_and_kind(at.value()) {
        Some(("kueue.x-k8s.io" | "kai.scheduler", "Topology")) => levels::topology(at).map(TopologyObject::Levels),
        Some(("grove.io", "ClusterTopologyBinding" | "ClusterTopology")) => {
            levels::grove(at).map(TopologyObject::Levels)
        }
        Some(("topology.volcano.sh", "HyperNode")) => hypernode::read(at).map(TopologyObject::HyperNode),
        _ => {
            let known: Vec<String> = KINDS.iter().map(|(group, kind)| format!("{kind} ({group})")).collect();
            let problem = format!("must be one of {}", known.join(", "));
            let said = |key: &str| at.value().get(key).and_then(Value::as_str).unwrap_or_default();
            let found = format!("{} {}", said("apiVersion"), said("kind"));
            Err(FieldError::new(crate::at::member(&at.path(), "kind"), found.trim(), problem))
        }
    }
}

/// `metadata.name`, which error messages and domains are told apart by.
fn name(at: &At<'_>) -> Result<String, FieldError> {
    let name = at.require("metadata")?.require("name")?;
    match name.str()? {
        "" => Err(name.error("must not be empty")),
        text => Ok(text.to_owned()),
    }
}
