//! Nodes, pods and RayClusters, in the words of gang admission.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mobula_api::{PodRole, RayCluster, WorkerGroupSpec};
use mobula_planner::{Amount, Resources, admission::Place};

use super::{
    DOMAIN, admits,
    divide::{Planned, Share, Size, divide},
    whole::Whole,
};
use crate::{
    config::Config,
    frame::{
        capacity::{NodeRecord, Pending},
        gang_pod::{Admission, GangPod, HOSTNAME},
        neighbours::{Taken, must_be_near_others},
        pod::Pod,
        store::Key,
        world::{ANYWHERE, CapacityView, Cluster, GangMember, World},
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
    /// Its worker group.
    pub(super) group: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) created_ms: i64,
    /// Replica and host.
    pub(super) place: (u32, u32),
    /// The node that it is bound or, as `is_bound` says, only pinned to, by index.
    pub(super) node: Option<usize>,
    pub(super) is_bound: bool,
    /// It runs: it may do work.
    pub(super) is_running: bool,
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
    /// How many pods there should be.
    pub(super) expected: u32,
    /// It must be in one domain of this level.
    pub(super) level: Option<usize>,
    /// The RayCluster asks for a level that there is not.
    pub(super) unknown_level: Option<String>,
    /// The head pod of its RayCluster has a node, or may have to wait for other pods.
    pub(super) has_head: bool,
    /// What is known of gangs of its RayCluster that have been whole.
    pub(super) whole: Arc<Whole>,
    /// What of it is written on the RayCluster.
    pub(super) written: Arc<Whole>,
    /// Its pods that are there to stay, in the order of their places.
    pub(super) members: Vec<Member>,
}

impl Gang {
    /// Whether the pods that were admitted together, as those of `gang`, have been whole at some time.
    pub(super) fn has_been_whole(&self, gang: &str, admission: &Admission) -> bool {
        self.whole.has(gang, admission)
    }
}

/// A RayCluster as it is there to be written on.
#[derive(Clone, Debug, Default)]
pub(super) struct Owner {
    pub(super) uid: String,
    pub(super) resource_version: String,
}

/// All that gang admission looks at.
#[derive(Clone, Debug, Default)]
pub(super) struct Sight {
    pub(super) nodes: Vec<Node>,
    pub(super) gangs: Vec<Gang>,
    /// The RayClusters that have gangs.
    pub(super) owners: BTreeMap<Key, Owner>,
    /// Pods that wait for the scheduler, which may put them on any node that they may use.
    pub(super) pending: Vec<Pending>,
    /// Gated pods of no gang, with their namespaces: they may be lifted all the same.
    pub(super) strays: Vec<(String, Member)>,
}

/// Takes what is there out of the world.
/// `known`: gangs that were seen whole, by unique id of their RayCluster.
pub(super) fn sight(world: &World, config: &Config, known: &BTreeMap<String, Whole>, now_ms: i64) -> Sight {
    let CapacityView { nodes, members, others, pending, taken } = world.capacity();
    let mut nodes: Vec<Node> = nodes
        .into_iter()
        .map(|(name, record, free)| Node {
            place: Place { name, labels: record.labels.clone(), total: record.total.clone(), free },
            record,
        })
        .collect();
    let pods = members.iter().filter_map(|member| member.pod.gang.as_ref()).chain(pending.iter().map(|it| &it.pod));
    offer(&mut nodes, pods, &taken);
    take_what_is_on_its_way(&mut nodes, &members);
    let clusters = world.clusters();
    let mut strays: Vec<(String, Member)> = Vec::new();
    let mut of_clusters: BTreeMap<&str, Vec<Member>> = BTreeMap::new();
    // Of a RayCluster that is yet to adopt pods nothing is judged: its gangs are not all that is there of them.
    let is_known = |key: &Key| clusters.iter().any(|cluster| cluster.key == *key);
    let unowned = members.iter().map(|member| &member.pod).chain(others.iter().map(|other| &other.pod));
    let unowned = unowned.filter(|pod| pod.owner.is_empty() && pod.place.is_some());
    let adopting: BTreeSet<Key> =
        unowned.map(|pod| Key::new(pod.namespace.clone(), pod.cluster.clone())).filter(is_known).collect();
    let is_adopting = |pod: &Pod| adopting.contains(&Key::new(pod.namespace.clone(), pod.cluster.clone()));
    for it in members.iter().filter(|member| standing(&member.pod, now_ms) == Standing::Active) {
        let Some(pod) = &it.pod.gang else { continue };
        let member = member(it, pod, &nodes);
        match clusters.iter().any(|cluster| cluster.uid == it.pod.owner) {
            _ if is_adopting(&it.pod) => {}
            true => of_clusters.entry(&it.pod.owner).or_default().push(member),
            false => strays.push((it.pod.namespace.clone(), member)),
        }
    }
    let mut heads: BTreeSet<&str> = BTreeSet::new();
    for it in others.iter().filter(|other| standing(&other.pod, now_ms) == Standing::Active) {
        if it.pod.role == PodRole::Worker
            && let Some(members) = of_clusters.get_mut(it.pod.owner.as_str())
        {
            members.push(settled(it, &nodes));
        }
        if it.pod.role == PodRole::Head && (!it.pod.node.is_empty() || it.counted_on.is_some()) {
            heads.insert(&it.pod.owner);
        }
    }
    let mut gangs: Vec<Gang> = Vec::new();
    let mut owners: BTreeMap<Key, Owner> = BTreeMap::new();
    for cluster in &clusters {
        let Some(members) = of_clusters.remove(cluster.uid.as_str()) else { continue };
        let (of_cluster, rest) = match cluster.object.as_ref().ok().filter(|object| admits(object, config)) {
            Some(object) => self::gangs(cluster, object, members, known.get(&cluster.uid), config),
            None => (Vec::new(), members),
        };
        // One that must be near its workers is bound after them.
        let head_waits = cluster.object.as_ref().is_ok_and(|it| must_be_near_others(&it.spec.head_group_spec.template));
        let has_head = head_waits || heads.contains(cluster.uid.as_str());
        gangs.extend(of_cluster.into_iter().map(|gang| Gang { has_head, ..gang }));
        let owner = Owner { uid: cluster.uid.clone(), resource_version: cluster.resource_version.clone() };
        owners.insert(cluster.key.clone(), owner);
        strays.extend(rest.into_iter().map(|member| (cluster.key.namespace.clone(), member)));
    }
    strays.retain(|(_, member)| member.pod.is_gated);
    let is_anywhere = |it: &&GangMember| it.perhaps_on.contains(ANYWHERE) || is_pending(it);
    let lifted = members.iter().filter(|it| is_anywhere(it) && standing(&it.pod, now_ms) == Standing::Active);
    let lifted = lifted.filter(|it| node_of(it, &nodes).is_none()).filter_map(|it| lifted_pending(it, now_ms));
    let pending = pending.into_iter().chain(lifted).collect();
    Sight { nodes, gangs, owners, strays, pending }
}

/// The gangs of a RayCluster, and its pods that are of none.
fn gangs(
    cluster: &Cluster,
    object: &RayCluster,
    members: Vec<Member>,
    known: Option<&Whole>,
    config: &Config,
) -> (Vec<Gang>, Vec<Member>) {
    // Who is named is about to go: it makes nothing whole.
    let strategies = object.spec.worker_group_specs.iter().filter_map(|spec| spec.scale_strategy.as_ref());
    let named: BTreeSet<&str> = strategies.flat_map(|it| &it.workers_to_delete).map(String::as_str).collect();
    let (named, members): (Vec<_>, Vec<_>) = members.into_iter().partition(|it| named.contains(it.name.as_str()));
    let children = Children { cluster: object, config };
    let is_suspended = object.spec.suspend == Some(true)
        || object.spec.idle_suspend == Some(true)
        || object.metadata.deletion_timestamp.is_some();
    let specs = object.spec.worker_group_specs.iter().enumerate().filter(|_| !is_suspended);
    let size = |(index, spec): (usize, &WorkerGroupSpec)| {
        let (replicas, hosts) = children.replicas_and_hosts(index, spec).ok()?;
        let size = Size { pods: replicas.saturating_mul(hosts), hosts: children.hosts_of_a_unit(hosts) };
        Some((spec.group_name.clone(), size))
    };
    let sizes: BTreeMap<String, Size> = specs.filter_map(size).collect();
    let planned = object.planned_gangs().ok().flatten();
    let written = Arc::new(Whole::read(object));
    let whole = Arc::new((*written).clone().and(known));
    let wish = object.metadata.annotations.get(DOMAIN);
    let is_meant = |wish: &String| config.gangs.levels.iter().position(|it| it.name == *wish || it.keys.contains(wish));
    let level = wish.and_then(is_meant);
    let gang = |Share { name, expected, members }: Share| Gang {
        cluster: cluster.key.clone(),
        name,
        expected,
        level,
        has_head: false,
        unknown_level: wish.filter(|_| level.is_none()).cloned(),
        whole: whole.clone(),
        written: written.clone(),
        members,
    };
    let planned = planned.as_ref().map(|gangs| Planned { gangs, whole: &whole });
    let (shares, rest) = divide(members, &sizes, planned.as_ref());
    (shares.into_iter().map(gang).collect(), rest.into_iter().chain(named).collect())
}

fn member(member: &GangMember, pod: &Arc<GangPod>, nodes: &[Node]) -> Member {
    let place = member.pod.place.unwrap_or_default();
    Member {
        name: member.pod.name.clone(),
        group: member.pod.group.clone(),
        uid: member.pod.uid.clone(),
        resource_version: member.pod.resource_version.clone(),
        created_ms: member.pod.created_ms,
        place: (place.replica, place.host),
        node: node_of(member, nodes),
        is_bound: !member.pod.node.is_empty(),
        is_running: member.pod.is_running(),
        is_foreign: member.is_foreign,
        is_in_doubt: !member.perhaps_on.is_empty(),
        pod: pod.clone(),
    }
}

/// A worker that was made without gang admission (by KubeRay, or before it was switched on): it counts as one that has begun
/// alone and is whole.
fn settled(it: &GangMember, nodes: &[Node]) -> Member {
    let pod = &it.pod;
    let replica = pod.replica().unwrap_or_default();
    let gang = GangPod::begun_alone(format!("{}/{replica}", pod.group));
    let host = pod.place.map(|place| place.host).or(pod.host_index).unwrap_or_default();
    Member { place: (replica, host), ..member(it, &gang.into(), nodes) }
}

/// Whether a pod waits for the scheduler.
fn is_pending(member: &GangMember) -> bool {
    let is_gated = member.pod.gang.as_ref().is_some_and(|gang| gang.is_gated);
    !is_gated && member.pod.node.is_empty() && member.counted_on.is_none()
}

/// A pod of a gang that waits for the scheduler since its gate was lifted. One of which that is not known may have been lifted
/// just now.
fn lifted_pending(it: &GangMember, now_ms: i64) -> Option<Pending> {
    let pod = it.pod.gang.clone()?;
    let lifted_ms = pod.admission.as_ref().map_or(it.pod.created_ms, |admission| admission.at_ms);
    Some(Pending { since_ms: if it.perhaps_on.is_empty() { lifted_ms } else { now_ms }, pod })
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

/// What pods must not share is there once on every node, unless it is taken. What pods hold by name is known already.
fn offer<'a>(nodes: &mut [Node], pods: impl Iterator<Item = &'a Arc<GangPod>>, taken: &Taken) {
    let names: BTreeSet<String> = pods.flat_map(|pod| pod.exclusive()).cloned().collect();
    if names.is_empty() {
        return;
    }
    let is_taken = |name: &String, node: &str| taken.get(name).is_some_and(|nodes| nodes.contains(node));
    for Node { place, .. } in nodes {
        let mut total = (*place.total).clone();
        for name in &names {
            add(&mut total, name, 1);
            add(&mut place.free, name, i64::from(!is_taken(name, &place.name)));
        }
        place.total = total.into();
    }
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

fn add(amounts: &mut Resources, name: &str, units: i64) {
    let sum = amounts.get(name).copied().unwrap_or_default().steps();
    amounts.insert(name.to_owned(), Amount::from_steps(sum.saturating_add(Amount::from_units(units).steps())));
}

fn take(free: &mut Resources, requests: &Resources) {
    for (name, amount) in requests {
        let left = free.get(name).copied().unwrap_or_default().steps().saturating_sub(amount.steps());
        free.insert(name.clone(), Amount::from_steps(left));
    }
}
