//! What the operator must never do to pods: make one that nobody owns, a second head, more than the most replicas, or delete one that
//! nobody has chosen.
//!
//! A pod that lives may be deleted if a scaler has named it, if it has ended, if its node is gone, or if there are more of its group
//! than were asked for within the last minutes (the operator may have looked at what is no longer so).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mobula_api::{RayCluster, keys};
use mobula_apiserver::Changed;
use serde_json::Value;

/// So long what was asked for still excuses a deletion: the longest outage of a soak and more.
const MEMORY_US: u64 = 600_000_000;

/// RayClusters and their pods as they are written.
#[derive(Default)]
pub(super) struct Pods {
    clusters: BTreeMap<String, Cluster>,
    /// Pods that live and are not on their way out, by uid of the cluster and group.
    active: BTreeMap<(String, String), BTreeSet<String>>,
    nodes: BTreeSet<String>,
}

#[derive(Default)]
struct Cluster {
    /// Of the spec that was looked at last.
    generation: Option<i64>,
    is_leaving: bool,
    named: BTreeSet<String>,
    groups: BTreeMap<String, Group>,
}

#[derive(Default)]
struct Group {
    most: u64,
    hosts: u64,
    /// Pods that were asked for, and since when.
    asked: VecDeque<(u64, u64)>,
}

impl Group {
    fn ask(&mut self, now_us: u64, pods: u64) {
        if self.asked.back().is_none_or(|(_, last)| *last != pods) {
            self.asked.push_back((now_us, pods));
        }
    }

    fn fewest(&mut self, now_us: u64) -> u64 {
        while self.asked.get(1).is_some_and(|(since_us, _)| since_us + MEMORY_US < now_us) {
            self.asked.pop_front();
        }
        self.asked.iter().map(|(_, pods)| *pods).min().unwrap_or(0)
    }
}

fn label<'a>(pod: &'a Value, key: &str) -> &'a str {
    pod["metadata"]["labels"][key].as_str().unwrap_or_default()
}

fn is_leaving(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

fn has_ended(pod: &Value) -> bool {
    ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase)
}

/// The uid of the RayCluster that controls a pod.
fn owner(pod: &Value) -> &str {
    let owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let mut clusters = owners.filter(|owner| owner["kind"] == "RayCluster" && owner["controller"] == true);
    clusters.next().and_then(|owner| owner["uid"].as_str()).unwrap_or_default()
}

impl Pods {
    /// What is broken by a change.
    pub(super) fn see(&mut self, changed: &Changed<'_>, now_us: u64, is_world: bool) -> Option<String> {
        match changed.kind.plural.as_str() {
            "rayclusters" => self.see_cluster(changed, now_us),
            "nodes" => {
                match changed.after {
                    Some(_) => self.nodes.insert(changed.name.to_owned()),
                    None => self.nodes.remove(changed.name),
                };
                None
            }
            "pods" => self.see_pod(changed, now_us, is_world),
            _ => None,
        }
    }

    fn see_cluster(&mut self, changed: &Changed<'_>, now_us: u64) -> Option<String> {
        let object = changed.after.or(changed.before)?;
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let Some(after) = changed.after else {
            self.clusters.remove(&uid);
            return None;
        };
        let cluster = self.clusters.entry(uid).or_default();
        cluster.is_leaving = is_leaving(after);
        let generation = after["metadata"]["generation"].as_i64();
        if std::mem::replace(&mut cluster.generation, generation) == generation && generation.is_some() {
            return None;
        }
        let Ok(read) = RayCluster::from_value(after.clone()) else { return None };
        for shape in read.group_shapes().unwrap_or_default() {
            let group = cluster.groups.entry(shape.name).or_default();
            group.hosts = u64::from(shape.num_of_hosts.max(1));
            group.most = u64::from(shape.max_replicas) * group.hosts;
        }
        for spec in after["spec"]["workerGroupSpecs"].as_array().into_iter().flatten() {
            let named = spec["scaleStrategy"]["workersToDelete"].as_array().into_iter().flatten();
            cluster.named.extend(named.filter_map(Value::as_str).map(str::to_owned));
            let Some(group) = cluster.groups.get_mut(spec["groupName"].as_str().unwrap_or_default()) else { continue };
            let replicas = spec["replicas"].as_u64().unwrap_or(0);
            group.ask(now_us, replicas.saturating_mul(group.hosts));
        }
        None
    }

    fn see_pod(&mut self, changed: &Changed<'_>, now_us: u64, is_world: bool) -> Option<String> {
        let pod = changed.after.or(changed.before)?;
        if label(pod, keys::CLUSTER).is_empty() {
            return None;
        }
        let uid = owner(pod).to_owned();
        let is_head = label(pod, keys::NODE_TYPE) == keys::NODE_TYPE_HEAD;
        let group = if is_head { keys::HEAD_GROUP } else { label(pod, keys::GROUP) }.to_owned();
        let active = self.active.entry((uid.clone(), group.clone())).or_default();
        let was_active = active.contains(changed.name);
        let is_active = changed.after.is_some_and(|pod| !is_leaving(pod) && !has_ended(pod));
        let count = active.len() as u64;
        if is_active {
            active.insert(changed.name.to_owned());
        } else {
            active.remove(changed.name);
        }
        if changed.before.is_none() && uid.is_empty() {
            return Some("a pod that no RayCluster controls was made".to_owned());
        }
        let goes = was_active && !is_active && !changed.after.is_some_and(has_ended);
        if goes && !is_world && !changed.before.is_some_and(has_ended) {
            return self.unasked(&uid, &group, changed.name, changed.before?, (count, now_us));
        }
        if changed.before.is_some() {
            return None;
        }
        let Some(cluster) = self.clusters.get(&uid) else {
            return Some("a pod was made for a RayCluster that is not there".to_owned());
        };
        let most = if is_head { 1 } else { cluster.groups.get(&group)?.most };
        let now = self.active.get(&(uid, group.clone())).map_or(0, BTreeSet::len) as u64;
        (now > most).then(|| format!("group {group} has {now} pods, and {most} at most"))
    }

    /// Why a pod that lives must not be deleted.
    fn unasked(
        &mut self,
        uid: &str,
        group: &str,
        name: &str,
        pod: &Value,
        (count, now_us): (u64, u64),
    ) -> Option<String> {
        let cluster = self.clusters.get_mut(uid).filter(|cluster| !cluster.is_leaving)?;
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if cluster.named.contains(name) || (!node.is_empty() && !self.nodes.contains(node)) {
            return None;
        }
        let fewest = match cluster.groups.get_mut(group) {
            Some(known) if group != keys::HEAD_GROUP => known.fewest(now_us),
            _ => 1,
        };
        (count <= fewest).then(|| format!("it was deleted, and nobody asked for that ({count} of {fewest} of {group})"))
    }
}
