//! Kubernetes nodes by watch: what is read of each, not the objects, which hold a hundred labels and all images of a machine.
//!
//! ```text
//! label keys that plans look at ──▶ NodeIndex ──▶ watch_nodes, begun anew where a key is new
//!                    nodes ──watch──▶ NodeIndex ──▶ the chore that looks around
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Api;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher::{self, Event};
use mobula_planner::Resources;
use tokio::sync::watch;

use super::{Watched, follow};
use crate::hosts::{self, KubeNode};
use crate::kube_access::KubeAccess;
use crate::metrics::Metrics;
use crate::surroundings::troubles_of;

/// Offers that are kept to be shared, before those are let go that no node has any more.
const MOST_SHARED: usize = 4_096;

/// The Kubernetes nodes as the watch shows them.
#[derive(Debug)]
pub struct NodeIndex {
    state: Mutex<NodeState>,
    /// Labels that are kept beside Ray's; `None`: nobody has asked for nodes yet.
    keys: watch::Sender<Option<BTreeSet<String>>>,
}

#[derive(Debug, Default)]
struct NodeState {
    nodes: BTreeMap<String, Known>,
    /// What is wrong with those that have troubles, which are few.
    troubles: BTreeMap<String, Vec<String>>,
    /// A list that is being received; it replaces `nodes` when it is complete.
    incoming: Option<BTreeMap<String, Known>>,
    /// A watch keeps them up to date now.
    is_watched: bool,
    /// Grows when something that is kept has changed.
    version: u64,
    /// What nodes offer: those of one kind share it.
    shared: BTreeSet<Arc<Resources>>,
}

/// What is kept of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    node: KubeNode,
    troubles: Vec<String>,
}

impl Default for NodeIndex {
    fn default() -> Self {
        NodeIndex { state: Mutex::default(), keys: watch::Sender::new(None) }
    }
}

impl NodeIndex {
    fn lock(&self) -> MutexGuard<'_, NodeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for nodes with these labels. The version of what is known of them, which grows with each change; `None`: no watch keeps all
    /// of that up to date now, so they must be listed.
    pub fn ask(&self, keys: &BTreeSet<String>) -> Option<u64> {
        let more = |known: &mut Option<BTreeSet<String>>| {
            let is_new = known.as_ref().is_none_or(|known| !keys.is_subset(known));
            if is_new {
                // From now on, until there is a list with these labels.
                self.lock().is_watched = false;
                known.get_or_insert_default().extend(keys.iter().cloned());
            }
            is_new
        };
        self.keys.send_if_modified(more);
        let state = self.lock();
        state.is_watched.then_some(state.version)
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> Vec<KubeNode> {
        self.lock().nodes.values().map(|known| known.node.clone()).collect()
    }

    /// What is wrong with a node.
    pub fn troubles(&self, name: &str) -> Vec<String> {
        self.lock().troubles.get(name).cloned().unwrap_or_default()
    }

    /// Takes in one event of the watch; `None`: the watch is interrupted, so lists must take over until it has listed anew.
    fn apply(&self, keys: &BTreeSet<String>, event: Option<Event<DynamicObject>>) {
        let has_all = self.keys.borrow().as_ref() == Some(keys);
        let mut state = self.lock();
        match event {
            Some(Event::Init) => {
                state.incoming = Some(BTreeMap::new());
                // Labels may have been asked for that the list before had not.
                state.is_watched = false;
            }
            Some(Event::InitApply(node)) => {
                if let Some(known) = state.read(keys, &node) {
                    state.incoming.get_or_insert_default().insert(known.node.name.clone(), known);
                }
            }
            Some(Event::InitDone) => {
                let nodes = state.incoming.take().unwrap_or_default();
                if nodes != state.nodes {
                    let troubled = nodes.iter().filter(|(_, known)| !known.troubles.is_empty());
                    state.troubles = troubled.map(|(name, known)| (name.clone(), known.troubles.clone())).collect();
                    state.nodes = nodes;
                    state.version += 1;
                }
                state.is_watched = has_all;
            }
            Some(Event::Apply(node)) => {
                let Some(known) = state.read(keys, &node) else { return };
                // Kubelets write how they are every few minutes, and mostly nothing of it is news.
                if state.nodes.get(&known.node.name) != Some(&known) {
                    state.set(known);
                    state.version += 1;
                }
            }
            Some(Event::Delete(node)) => {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                state.troubles.remove(name);
                if state.nodes.remove(name).is_some() {
                    state.version += 1;
                }
            }
            None => state.is_watched = false,
        }
    }
}

impl NodeState {
    fn set(&mut self, known: Known) {
        let name = known.node.name.clone();
        if known.troubles.is_empty() {
            self.troubles.remove(&name);
        } else {
            self.troubles.insert(name.clone(), known.troubles.clone());
        }
        self.nodes.insert(name, known);
    }

    fn read(&mut self, keys: &BTreeSet<String>, node: &DynamicObject) -> Option<Known> {
        if self.shared.len() > MOST_SHARED {
            self.shared.retain(|offer| Arc::strong_count(offer) > 1);
        }
        let node = serde_json::to_value(node).ok()?;
        let read = hosts::read_one(&node, &hosts::keeps(keys), &mut self.shared);
        (!read.name.is_empty()).then(|| Known { node: read, troubles: troubles_of(&node) })
    }
}

/// Feeds the node index until the future is dropped or the API server says that it is not allowed. Begins when somebody asks for nodes, and anew
/// when labels are asked for that were not kept.
pub async fn watch_nodes(kube: KubeAccess, index: Arc<NodeIndex>, metrics: Arc<Metrics>) {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Node"), "nodes");
    let mut asked = index.keys.subscribe();
    // The index holds the other end: it goes after this.
    while let Ok(keys) = asked.wait_for(Option::is_some).await.map(|keys| keys.clone().unwrap_or_default()) {
        let api = Api::<DynamicObject>::all_with(kube.client(), &resource);
        let watched = Watched { action: "watch nodes", optional: true };
        let watched = follow(api, watcher::Config::default(), watched, &metrics, |event| index.apply(&keys, event));
        tokio::select! {
            biased;
            _ = asked.changed() => {}
            () = watched => break,
        }
    }
    // Lists take over.
    *index.lock() = NodeState::default();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, zone: &str, heartbeat: u32) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"zone": zone, "noise": "1"}},
            "status": {
                "allocatable": {"cpu": "4"},
                "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat.to_string()}],
            },
        }))
        .unwrap()
    }

    fn keys(keys: &[&str]) -> BTreeSet<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    /// An index that has seen these events.
    fn after(events: Vec<Event<DynamicObject>>) -> NodeIndex {
        let index = NodeIndex::default();
        assert_eq!(index.ask(&keys(&["zone"])), None, "before the first list");
        events.into_iter().for_each(|event| index.apply(&keys(&["zone"]), Some(event)));
        index
    }

    fn listed() -> Vec<Event<DynamicObject>> {
        vec![Event::Init, Event::InitApply(node("b", "z", 1)), Event::InitApply(node("a", "y", 1)), Event::InitDone]
    }

    #[test]
    fn nodes_are_known_once_they_were_listed_with_the_labels_that_are_kept() {
        let index = after(listed());
        assert_eq!(index.ask(&keys(&["zone"])), Some(1));
        let nodes = index.nodes();
        let labels: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.labels["zone"].as_str())).collect();
        assert_eq!(labels, [("a", "y"), ("b", "z")]);
        assert!(nodes.iter().all(|node| node.labels.len() == 1));
        assert!(Arc::ptr_eq(&nodes[0].offered, &nodes[1].offered));
    }

    #[test]
    fn a_heartbeat_is_no_change_and_a_cordon_is_one() {
        let index = after(listed());
        index.apply(&keys(&["zone"]), Some(Event::Apply(node("a", "y", 2))));
        assert_eq!(index.ask(&keys(&[])), Some(1));
        let mut cordoned = node("a", "y", 3);
        cordoned.data["spec"] = json!({"unschedulable": true});
        index.apply(&keys(&["zone"]), Some(Event::Apply(cordoned)));
        assert_eq!((index.ask(&keys(&[])), index.troubles("a")), (Some(2), vec!["is cordoned".to_owned()]));
        index.apply(&keys(&["zone"]), Some(Event::Delete(node("a", "y", 3))));
        assert_eq!((index.ask(&keys(&[])), index.nodes().len()), (Some(3), 1));
        let again = [Event::Init, Event::InitApply(node("b", "z", 9)), Event::InitDone];
        again.into_iter().for_each(|event| index.apply(&keys(&["zone"]), Some(event)));
        assert_eq!(index.ask(&keys(&[])), Some(3), "a list of the same is no change");
    }

    #[test]
    fn troubles_come_and_go() {
        let cordoned = || {
            let mut node = node("a", "y", 1);
            node.data["spec"] = json!({"unschedulable": true});
            node
        };
        let index = after(listed());
        let apply = |event| index.apply(&keys(&["zone"]), Some(event));
        let relist = |node| [Event::Init, Event::InitApply(node), Event::InitDone].into_iter().for_each(apply);
        assert!(index.troubles("a").is_empty());
        apply(Event::Apply(cordoned()));
        assert_eq!(index.troubles("a"), ["is cordoned"]);
        apply(Event::Apply(node("a", "y", 1)));
        assert!(index.troubles("a").is_empty());
        relist(cordoned());
        assert_eq!((index.troubles("a").len(), index.troubles("b").len()), (1, 0));
        apply(Event::Delete(cordoned()));
        assert!(index.troubles("a").is_empty());
        apply(Event::Apply(cordoned()));
        relist(node("a", "y", 1));
        assert!(index.troubles("a").is_empty());
    }

    #[test]
    fn an_interrupted_watch_and_a_new_label_need_a_list() {
        let index = after(listed());
        assert_eq!(index.ask(&keys(&["zone", "noise"])), None);
        assert_eq!(index.ask(&keys(&["noise"])), None);
        listed().into_iter().for_each(|event| index.apply(&keys(&["zone", "noise"]), Some(event)));
        assert_eq!((index.ask(&keys(&["noise"])), index.nodes()[0].labels.len()), (Some(2), 2));
        index.apply(&keys(&["zone", "noise"]), None);
        assert_eq!(index.ask(&keys(&["noise"])), None);
    }
}
