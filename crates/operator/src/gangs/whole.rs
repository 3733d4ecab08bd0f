//! Which gangs have been whole: all their pods were bound at one time. Such a gang is never given back, whatever it loses
//! later; one that has not been whole in time lets go of what it holds, as long as none of it runs.
//!
//! What runs is never given back. Ray may have given it work, and what kept the rest from being bound keeps it from that the
//! next time, too: to delete what runs would cost work again and again. So a part of a gang can hold GPUs after all, if
//! something was lost, or taken by others, between the lift and the binding of its last pod, and other pods were quick to
//! start. It is told on the RayCluster, and what it lacks goes before all other gangs: its places are kept for it.
//!
//! Hosts of a replica are units, for to end one is to end all: where one runs, those without a node stay, too, and that is told.
//! But a host that is pinned to a node that is gone will never get one, for a pin can't be taken back: as long as none of its
//! replica runs, all of it is made anew.
//!
//! A deletion is for the version that was looked at, and of a replica those hosts go first that have a node: one that runs by
//! then stays, and so do the others. (Where several have a node, one of them may be gone already when another one starts, and
//! takes it with it.) Two gangs of each of which a part runs can wait for each other.
//!
//! Whether a gang was whole can't be read off the pods once one of them is gone, so it is written on the RayCluster when the last
//! pod is bound. Until then the gang counts as not whole: a crash before the request costs nothing as long as all pods are there,
//! because whoever follows sees them bound and writes it.

use std::collections::{BTreeMap, BTreeSet};

use mobula_api::RayCluster;
use serde_json::json;

use super::{
    Decided,
    decide::may_try_part,
    observe::{Gang, Member, Sight},
};
use crate::frame::{
    decision::{Action, Step},
    gang_pod::Admission,
    kind,
    outcome::Memory,
    store::Key,
};

/// Annotation of a RayCluster: the gangs that have been whole, as JSON: `{"29fd": [1767225600000]}` says that the pods of
/// gang `29fd` that were admitted at that time were. Of a gang of one pod nothing is said.
pub const ANNOTATION: &str = "mobula.dev/gangs-whole";

/// Gangs that have been whole: when they were admitted, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Whole(BTreeMap<String, BTreeSet<i64>>);

impl Whole {
    /// What the RayCluster says. What can't be read says nothing.
    pub(super) fn read(cluster: &RayCluster) -> Whole {
        let text = cluster.metadata.annotations.get(ANNOTATION);
        Whole(text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default())
    }

    pub(super) fn has(&self, gang: &str, admission: &Admission) -> bool {
        self.0.get(gang).is_some_and(|admitted| admitted.contains(&admission.at_ms))
    }

    /// Also what this process has seen.
    pub(super) fn and(mut self, known: Option<&Whole>) -> Whole {
        for (gang, admitted) in known.iter().flat_map(|known| &known.0) {
            self.0.entry(gang.clone()).or_default().extend(admitted);
        }
        self
    }

    #[cfg(test)]
    pub(super) fn of(gang: &str, at_ms: i64) -> Whole {
        Whole([(gang.to_owned(), [at_ms].into())].into())
    }
}

/// Those pods of a gang whose gates were lifted, by the gang that they were admitted as and what they were admitted with. They
/// bear the name that the gang had then: it changes where a plan begins to name gangs, or ceases to.
pub(super) fn admitted(members: &[Member]) -> BTreeMap<(&str, &Admission), Vec<&Member>> {
    let mut admitted: BTreeMap<(&str, &Admission), Vec<&Member>> = BTreeMap::new();
    for member in members.iter().filter(|member| !member.pod.is_gated) {
        if let Some(admission) = &member.pod.admission {
            admitted.entry((member.pod.gang.as_str(), admission)).or_default().push(member);
        }
    }
    admitted
}

/// How many pods of a gang the spec asks for beyond those whose gates were lifted.
pub(super) fn needed(gang: &Gang) -> usize {
    let lifted = gang.members.iter().filter(|member| !member.pod.is_gated).count();
    (gang.expected as usize).saturating_sub(lifted)
}

/// Whether these pods of a gang, admitted together, are whole now: all are bound, and of those that are not there (any more)
/// the spec asks for none.
pub(super) fn is_whole_now(gang: &Gang, admission: &Admission, pods: &[&Member]) -> bool {
    let there = pods.iter().map(|member| member.group.as_str());
    let are_there = admission.lacks(there).values().all(|lack| *lack == 0);
    let has_shrunk = gang.expected > 0 && needed(gang) == 0;
    (are_there || has_shrunk) && pods.iter().all(|member| member.is_bound)
}

/// The part that what is written on a RayCluster is kept under.
pub(super) fn part(cluster: &Key) -> String {
    format!("gangs/{cluster}")
}

/// Writes on each RayCluster which of its gangs have become whole.
pub(super) fn note(decided: &mut Decided, sight: &Sight, memory: &Memory, now_ms: i64) {
    let mut of_clusters: BTreeMap<&Key, (Whole, bool)> = BTreeMap::new();
    for gang in &sight.gangs {
        let (whole, has_news) = of_clusters.entry(&gang.cluster).or_default();
        for ((name, admission), pods) in admitted(&gang.members) {
            let is_known = gang.has_been_whole(name, admission);
            // One pod is always whole, and nothing is left of it when it is gone.
            let is_new = !is_known
                && admission.pods.values().map(|pods| u64::from(*pods)).sum::<u64>() > 1
                && is_whole_now(gang, admission, &pods);
            if is_known || is_new {
                whole.0.entry(name.to_owned()).or_default().insert(admission.at_ms);
            }
            *has_news |= (is_known || is_new) && !gang.written.has(name, admission);
        }
    }
    for (key, (whole, has_news)) in of_clusters.into_iter().filter(|(_, (whole, _))| !whole.0.is_empty()) {
        let Some(owner) = sight.owners.get(key) else { continue };
        // Whoever replaces the RayCluster may erase what is written on it.
        decided.known.insert(owner.uid.clone(), whole.clone());
        if !has_news {
            continue;
        }
        let part = part(key);
        if may_try_part(decided, &part, memory, now_ms) {
            let text = json!(whole.0).to_string();
            let patch = json!({"metadata": {
                "uid": owner.uid, "resourceVersion": owner.resource_version, "annotations": {ANNOTATION: text},
            }});
            let action = Action::Patch { kind: &kind::RAY_CLUSTER, name: key.name.clone(), patch };
            decided.decision.beside([Step::new(part, action).within(key.namespace.clone())]);
        }
    }
}
