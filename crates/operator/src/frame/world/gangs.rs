//! What gang admission sees of the world, and what it tells it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mobula_planner::Resources;
use serde_json::Value;

use super::{Source, Target, World, indexed, target, trim};
use crate::frame::{capacity::NodeRecord, kind, pod::Pod, store::Key};

/// What gang admission needs to see beside it.
pub static CAPACITY_SOURCES: &[Source] =
    &[Source { kind: &kind::NODE, selector: "" }, Source { kind: &kind::POD, selector: "" }];

/// The one target of gang admission: it looks at all gangs at once.
pub fn admission_target() -> Target {
    Target { kind: &kind::NODE, key: Key::default() }
}

/// A gang that waits, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GangWait {
    /// Name of the gang.
    pub gang: String,
    /// The group of its pods.
    pub group: String,
    /// Pods that wait.
    pub pods: u32,
    /// Why.
    pub reason: String,
}

/// Where what is free has changed, gangs are looked at again.
pub(super) fn changed_capacity(has_changed: bool) -> Vec<Target> {
    has_changed.then(admission_target).into_iter().collect()
}

/// A pod of a gang.
#[derive(Clone, Debug, PartialEq)]
pub struct GangMember {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The node on which it is counted in what is free.
    pub counted_on: Option<String>,
}

impl World {
    /// The answer to a write of ours to a pod that was made for whatever version there was.
    pub fn learn_newer(&self, mut value: Value) {
        trim(&mut value);
        self.with(|inner| {
            let change = indexed(&value).and_then(|pod| inner.pods.learn_newer(pod));
            change.map(|change| inner.pod_changed(&change)).unwrap_or_default()
        });
    }

    /// Whether gang admission sees what it needs.
    pub(super) fn admits(&self) -> bool {
        self.sources.iter().any(Source::is_capacity)
    }

    /// All nodes with what is free of them, and all pods of gangs.
    pub fn capacity(&self) -> (Vec<(String, NodeRecord, Resources)>, Vec<GangMember>) {
        let inner = self.lock();
        let members: Vec<GangMember> = inner
            .pods
            .iter()
            .filter(|(_, indexed)| indexed.pod.gang.is_some())
            .map(|(key, indexed)| GangMember {
                pod: indexed.pod.clone(),
                counted_on: inner.capacity.node_of(key).map(str::to_owned),
            })
            .collect();
        // Where no gang is, nothing is copied.
        let nodes = inner.capacity.nodes().take(if members.is_empty() { 0 } else { usize::MAX });
        (nodes.map(|(name, record, free)| (name.clone(), record.clone(), free)).collect(), members)
    }

    /// Which gangs wait, by RayCluster: those of which something else is said than before are looked at again.
    pub fn gangs_wait(&self, waits: BTreeMap<Key, Vec<GangWait>>) {
        self.with(|inner| {
            let keys: BTreeSet<&Key> = inner.waits.keys().chain(waits.keys()).collect();
            let is_news = |key: &&&Key| inner.waits.get(**key) != waits.get(**key);
            let changed = keys.iter().filter(is_news).map(|key| target((*key).clone())).collect();
            inner.waits = waits;
            changed
        });
    }
}
