//! What gang admission sees of the world, and what it tells it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mobula_planner::Resources;
use serde_json::Value;

use super::{Indexed, Source, Target, World, indexed, target};
use crate::frame::{
    capacity::{NodeRecord, Pending},
    gang_pod::{ADMITTED, HOSTNAME},
    kind,
    neighbours::Taken,
    notices::MOST_NAMES,
    pod::Pod,
    store::{Change, Key},
};

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
    /// The worker groups of its pods.
    pub groups: BTreeSet<String>,
    /// Pods that wait.
    pub pods: u32,
    /// Why.
    pub reason: String,
}

impl GangWait {
    /// What is said of gangs, of the first few of many.
    pub fn listed(waits: &[GangWait], between: &str, say: impl Fn(&GangWait) -> String) -> String {
        let mut said: Vec<String> = waits.iter().take(MOST_NAMES).map(say).collect();
        if waits.len() > MOST_NAMES {
            said.push(format!("and {} more ({} in all)", waits.len() - MOST_NAMES, waits.len()));
        }
        said.join(between)
    }
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
    /// It is gated as far as we know, and it was not us who have written it last: another one may just lift its gate.
    pub is_foreign: bool,
    /// Hosts that it was pinned to by requests whose answers were lost, or [`ANYWHERE`].
    pub perhaps_on: BTreeSet<String>,
}

/// What gang admission decides by.
#[derive(Debug, Default)]
pub struct CapacityView {
    /// All nodes, with what is free of them.
    pub nodes: Vec<(String, NodeRecord, Resources)>,
    /// All pods of gangs.
    pub members: Vec<GangMember>,
    /// Heads, and workers that were made without gang admission.
    pub others: Vec<GangMember>,
    /// Pods of Ray of no gang that wait for the scheduler, of any RayCluster.
    pub pending: Vec<Pending>,
    /// Nodes on which there are pods that others must be apart from.
    pub taken: Taken,
}

/// Stands for the host of a pod that was lifted and not pinned.
pub const ANYWHERE: &str = "";

/// What is certain of the gated pods of gangs.
#[derive(Debug, Default)]
pub(super) struct Certainty {
    /// Those of which the last word is an answer to us. By unique id.
    known: BTreeSet<String>,
    /// Hosts that a lost request may have pinned a pod to. By unique id.
    perhaps_on: BTreeMap<String, BTreeSet<String>>,
}

impl Certainty {
    fn answered(&mut self, uid: &str) {
        self.known.insert(uid.to_owned());
        self.perhaps_on.remove(uid);
    }

    /// A pod that is gone, or whose gate is known to be lifted, is no question any more.
    pub(super) fn changed(&mut self, (before, after): &Change<Indexed>) {
        let Some(before) = before else { return };
        if !after.as_ref().is_some_and(|after| after.pod.uid == before.pod.uid && is_gated(&after.pod)) {
            self.known.remove(&before.pod.uid);
            self.perhaps_on.remove(&before.pod.uid);
        }
    }
}

fn is_gated(pod: &Pod) -> bool {
    pod.gang.as_ref().is_some_and(|gang| gang.is_gated)
}

/// Whether the store has a pod at this version or at a later one, gated.
fn is_seen(known: Option<&Arc<Indexed>>, answer: &Indexed) -> bool {
    let number = |indexed: &Indexed| indexed.pod.resource_version.parse::<u64>().ok();
    known.is_some_and(|known| {
        let is_same = known.pod.resource_version == answer.pod.resource_version;
        let is_later = number(answer).zip(number(known)).is_some_and(|(answer, known)| answer < known);
        known.pod.uid == answer.pod.uid && is_gated(&known.pod) && (is_same || is_later)
    })
}

impl World {
    /// The answer to a write of ours to a pod: it has made a new version. What was asked before of an older one is refused,
    /// if it named it. `is_new`: the write was its creation.
    pub fn pod_answered(&self, value: &Value, is_new: bool) {
        let Some(pod) = indexed(value) else { return };
        self.with(|inner| {
            let learned = if is_new { inner.pods.learn("", pod.clone()) } else { inner.pods.learn_newer(pod.clone()) };
            let targets = learned.map(|change| inner.pod_changed(&change)).unwrap_or_default();
            if is_seen(inner.pods.get(&Key::new(&*pod.pod.namespace, &*pod.pod.name)), &pod) {
                inner.certainty.answered(&pod.pod.uid);
            }
            targets
        });
    }

    /// The answer to a write of ours to a pod of a gang was lost: the write may have been done, or may yet be.
    pub fn pod_unanswered(&self, key: &Key, patch: &Value) {
        let Some(uid) = patch["metadata"]["uid"].as_str() else { return };
        if !patch["metadata"]["annotations"][ADMITTED].is_string() {
            return;
        }
        let host = patch["spec"]["nodeSelector"][HOSTNAME].as_str().unwrap_or(ANYWHERE);
        let mut inner = self.lock();
        if inner.pods.get(key).is_some_and(|known| known.pod.uid == uid && is_gated(&known.pod)) {
            inner.certainty.perhaps_on.entry(uid.to_owned()).or_default().insert(host.to_owned());
        }
    }

    /// All nodes with what is free of them, all pods of gangs, and the pods of Ray that are of none.
    pub fn capacity(&self) -> CapacityView {
        let inner = self.lock();
        let is_any = inner.pods.iter().any(|(_, indexed)| indexed.pod.gang.is_some());
        if !is_any {
            // Where no gang is, nothing is copied.
            return CapacityView::default();
        }
        let member = |(key, indexed): (&Key, &Arc<Indexed>)| GangMember {
            pod: indexed.pod.clone(),
            counted_on: inner.capacity.node_of(key).map(str::to_owned),
            is_foreign: is_gated(&indexed.pod) && !inner.certainty.known.contains(&indexed.pod.uid),
            perhaps_on: inner.certainty.perhaps_on.get(&indexed.pod.uid).cloned().unwrap_or_default(),
        };
        let (members, others): (Vec<GangMember>, _) =
            inner.pods.iter().map(member).partition(|member| member.pod.gang.is_some());
        let gangs = members.iter().filter_map(|member| member.pod.gang.as_ref());
        let taken = inner.capacity.taken(&gangs.flat_map(|gang| &gang.apart).collect());
        let nodes = inner.capacity.nodes();
        CapacityView {
            nodes: nodes.map(|(name, record, free)| (name.clone(), record, free)).collect(),
            members,
            others,
            pending: inner.capacity.pending().cloned().collect(),
            taken,
        }
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
