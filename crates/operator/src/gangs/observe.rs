//! Nodes, pods and RayClusters, in the words of gang admission.

use std::{collections::BTreeMap, sync::Arc};

use mobula_planner::{Amount, Resources, admission::Place};

use super::{DOMAIN, admits};
use crate::{
    config::Config,
    frame::{
        capacity::NodeRecord,
        gang_pod::{GangPod, HOSTNAME},
        store::Key,
        world::{Cluster, GangMember, World},
    },
    raycluster::{Standing, children::Children, standing},
};

/// A node as a place for pods.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) record: NodeRecord,
}

/// A pod of a gang.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) created_ms: i64,
    /// Replica and host.
    pub(super) place: (u32, u32),
    /// The node that it is bound or, as `is_bound` says, only pinned to, by index.
    pub(super) node: Option<usize>,
    pub(super) is_bound: bool,
    /// It is gated as far as we know, and another one may just lift its gate: it was not us who have written it last.
    pub(super) is_foreign: bool,
    /// The answer to a request that was to lift its gate was lost: it may be lifted.
    pub(super) is_in_doubt: bool,
    pub(super) pod: Arc<GangPod>,
}

/// A gang.
#[derive(Clone, Debug)]
pub(super) struct Gang {
    /// The RayCluster.
    pub(super) cluster: Key,
    /// Its name in the RayCluster.
    pub(super) name: String,
    /// The group of its pods.
    pub(super) group: String,
    /// How many pods there should be.
    pub(super) expected: u32,
    /// It must be in one domain of this level.
    pub(super) level: Option<usize>,
    /// The RayCluster asks for a level that there is not.
    pub(super) unknown_level: Option<String>,
    /// Its pods that are there to stay, in the order of their places.
    pub(super) members: Vec<Member>,
}

/// All that gang admission looks at.
#[derive(Clone, Debug, Default)]
pub(super) struct Sight {
    pub(super) nodes: Vec<Node>,
    pub(super) gangs: Vec<Gang>,
    /// Gated pods whose RayCluster is gone, with their namespaces: another one may have lifted them all the same.
    pub(super) strays: Vec<(String, Member)>,
}

/// Takes what is there out of the world.
pub(super) fn sight(world: &World, config: &Config, now_ms: i64) -> Sight {
    let (nodes, members) = world.capacity();
    let mut nodes: Vec<Node> = nodes
        .into_iter()
        .map(|(name, record, free)| Node {
            place: Place { name, labels: record.labels.clone(), total: record.total.clone(), free },
            record,
        })
        .collect();
    take_what_is_on_its_way(&mut nodes, &members);
    let clusters = world.clusters();
    let mut gangs: BTreeMap<(Key, String), Gang> = BTreeMap::new();
    let mut strays = Vec::new();
    for member in members.iter().filter(|member| standing(&member.pod, now_ms) == Standing::Active) {
        let Some(pod) = &member.pod.gang else { continue };
        let Some(cluster) = clusters.iter().find(|cluster| cluster.uid == member.pod.owner) else {
            strays.push((member.pod.namespace.clone(), self::member(member, pod, &nodes)));
            continue;
        };
        let id = (cluster.key.clone(), pod.gang.clone());
        let gang = match gangs.entry(id) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                let Some(gang) = gang(cluster, pod, config) else {
                    strays.push((member.pod.namespace.clone(), self::member(member, pod, &nodes)));
                    continue;
                };
                new.insert(gang)
            }
        };
        gang.members.push(self::member(member, pod, &nodes));
    }
    let mut gangs: Vec<Gang> = gangs.into_values().collect();
    for gang in &mut gangs {
        gang.members.sort_by(|a, b| (a.place, &a.name).cmp(&(b.place, &b.name)));
    }
    strays.retain(|(_, member)| member.pod.is_gated);
    Sight { nodes, gangs, strays }
}

fn gang(cluster: &Cluster, pod: &GangPod, config: &Config) -> Option<Gang> {
    let object = cluster.object.as_ref().ok().filter(|object| admits(object, config))?;
    let children = Children { cluster: object, config };
    let specs = object.spec.worker_group_specs.iter().enumerate();
    let spec = specs.into_iter().find(|(_, spec)| spec.group_name == pod.gang);
    let is_suspended = object.spec.suspend == Some(true) || object.metadata.deletion_timestamp.is_some();
    let wanted = spec.filter(|(_, spec)| !is_suspended && spec.suspend != Some(true));
    let expected = wanted.and_then(|(index, spec)| children.replicas_and_hosts(index, spec).ok());
    let wish = object.metadata.annotations.get(DOMAIN);
    let is_meant = |wish: &String| config.gangs.levels.iter().position(|it| it.name == *wish || it.keys.contains(wish));
    let level = wish.and_then(is_meant);
    Some(Gang {
        cluster: cluster.key.clone(),
        name: pod.gang.clone(),
        group: pod.gang.clone(),
        expected: expected.map_or(0, |(replicas, hosts)| replicas.saturating_mul(hosts)),
        level,
        unknown_level: wish.filter(|_| level.is_none()).cloned(),
        members: Vec::new(),
    })
}

fn member(member: &GangMember, pod: &Arc<GangPod>, nodes: &[Node]) -> Member {
    let place = member.pod.place.unwrap_or_default();
    Member {
        name: member.pod.name.clone(),
        uid: member.pod.uid.clone(),
        resource_version: member.pod.resource_version.clone(),
        created_ms: member.pod.created_ms,
        place: (place.replica, place.host),
        node: node_of(member, nodes),
        is_bound: !member.pod.node.is_empty(),
        is_foreign: member.is_foreign,
        is_in_doubt: !member.perhaps_on.is_empty(),
        pod: pod.clone(),
    }
}

/// The node that a pod is bound or pinned to.
fn node_of(member: &GangMember, nodes: &[Node]) -> Option<usize> {
    if !member.pod.node.is_empty() {
        return nodes.iter().position(|node| node.place.name == member.pod.node);
    }
    node_of_host(member.pod.gang.as_ref()?.selector.get(HOSTNAME)?, nodes)
}

fn node_of_host(host: &String, nodes: &[Node]) -> Option<usize> {
    nodes.iter().position(|node| node.place.labels.get(HOSTNAME) == Some(host))
}

/// Pods whose gates were lifted hold their places before the watch of all pods has told of it; and those whose gates may
/// have been lifted hold every place that they may have been given.
fn take_what_is_on_its_way(nodes: &mut [Node], members: &[GangMember]) {
    let has_ended = |member: &GangMember| ["Succeeded", "Failed"].contains(&member.pod.phase.as_str());
    for member in members.iter().filter(|member| member.counted_on.is_none() && !has_ended(member)) {
        let Some(pod) = &member.pod.gang else { continue };
        if !pod.is_gated
            && let Some(node) = node_of(member, nodes)
        {
            take(&mut nodes[node].place.free, &pod.requests);
        }
        for host in &member.perhaps_on {
            if let Some(node) = node_of_host(host, nodes) {
                take(&mut nodes[node].place.free, &pod.requests);
            }
        }
    }
}

fn take(free: &mut Resources, requests: &Resources) {
    for (name, amount) in requests {
        let left = free.get(name).copied().unwrap_or_default().steps().saturating_sub(amount.steps());
        free.insert(name.clone(), Amount::from_steps(left));
    }
}
