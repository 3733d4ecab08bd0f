//! Which nodes end: outdated ones, those above a maximum, and idle ones.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{Cluster, Fate, NodeId};
use super::state::Ledger;
use crate::{Memory, NodePhase, TerminateCause};

/// Why a node that has been idle for too long stays nevertheless.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum KeptFor {
    /// Pending tasks, actors or gangs fit there.
    Demand,
    /// `request_resources` needs it.
    Constraint,
    /// The group would fall below its minimum.
    Floor,
    /// Other pods of its replica can't go.
    Replica,
    /// Its group gets new nodes.
    Launch,
}

/// Ends nodes whose group is gone or whose launch configuration changed.
pub(super) fn end_outdated(cluster: &mut Cluster<'_>) {
    let snapshot = cluster.input.snapshot;
    if !snapshot.settings.terminate_outdated {
        return;
    }
    for at in 0..cluster.nodes.len() {
        let wanted = cluster.group_of(at as NodeId).map(|group| group.spec.launch_config_hash.as_deref());
        let node = &mut cluster.nodes[at];
        let made_with = node.observed.and_then(|at| snapshot.nodes.get(at as usize)?.launch_config_hash.as_deref());
        let outdated = match wanted {
            None => true,
            Some(None | Some("")) => false,
            Some(hash) => hash != made_with,
        };
        if outdated && !node.exempt && node.fate == Fate::Stay {
            node.fate = Fate::End(TerminateCause::Outdated);
        }
    }
}

/// Ends what a group has above its maximum. Sorts the nodes by group.
pub(super) fn end_above_group_maximum(cluster: &mut Cluster<'_>) {
    let mut ending = Vec::new();
    let mut by_group: Vec<(Option<u16>, Vec<NodeId>)> = Vec::new();
    for &id in &cluster.order {
        let node = &cluster.nodes[id as usize];
        if matches!(node.fate, Fate::End(_)) {
            ending.push(id);
        } else if let Some((_, nodes)) = by_group.iter_mut().find(|(group, _)| *group == node.group) {
            nodes.push(id);
        } else {
            by_group.push((node.group, vec![id]));
        }
    }
    let mut staying = Vec::new();
    for (group, nodes) in by_group {
        let most = group.and_then(|group| cluster.groups.get(usize::from(group))).map_or(u64::MAX, |group| group.max);
        let excess = (nodes.len() as u64).saturating_sub(most);
        let (end, stay) = select(cluster, nodes, excess, TerminateCause::MaxPerGroup);
        ending.extend(end);
        staying.extend(stay);
    }
    ending.extend(staying);
    cluster.order = ending;
}

/// Ends what the cluster has above its maximum.
pub(super) fn end_above_cluster_maximum(cluster: &mut Cluster<'_>) {
    let Some(most) = cluster.input.snapshot.settings.max_nodes.filter(|most| *most > 0) else {
        return;
    };
    let is_ending = |id: &NodeId| matches!(cluster.nodes[*id as usize].fate, Fate::End(_));
    let (mut order, nodes): (Vec<NodeId>, Vec<NodeId>) = cluster.order.iter().partition(|id| is_ending(id));
    let excess = (nodes.len() as u64).saturating_sub(u64::from(most));
    if excess == 0 {
        return;
    }
    let (end, stay) = select(cluster, nodes, excess, TerminateCause::MaxNodes);
    order.extend(end);
    order.extend(stay);
    cluster.order = order;
}

/// Marks at least `excess` pods for their end, whole replicas each, and returns (those that end, those that stay).
fn select(
    cluster: &mut Cluster<'_>,
    nodes: Vec<NodeId>,
    excess: u64,
    cause: TerminateCause,
) -> (Vec<NodeId>, Vec<NodeId>) {
    if excess == 0 {
        return (Vec::new(), nodes);
    }
    let sorted = in_ending_order(cluster, nodes);
    let (exempt, able): (Vec<NodeId>, Vec<NodeId>) =
        sorted.into_iter().partition(|id| cluster.nodes[*id as usize].exempt);
    let replicas = Replicas::of(cluster, &able);
    let mut ends = Vec::new();
    for replica in replicas.whole(cluster, &able) {
        if ends.len() as u64 >= excess {
            break;
        }
        ends.extend(replica);
    }
    for &id in &ends {
        cluster.nodes[id as usize].fate = Fate::End(cause);
    }
    let is_ending = |id: &NodeId| matches!(cluster.nodes[*id as usize].fate, Fate::End(_));
    let stay = able.into_iter().filter(|id| !is_ending(id)).chain(exempt).collect();
    (ends, stay)
}

/// Sorts nodes: those go first in which Ray does not run, then the longest idle, then the least used.
fn in_ending_order(cluster: &Cluster<'_>, nodes: Vec<NodeId>) -> Vec<NodeId> {
    let key = |id: &NodeId| {
        let node = &cluster.nodes[*id as usize];
        (node.phase == NodePhase::Running, Reverse(node.idle_ms), cluster.states.mean_use(node.state))
    };
    let mut keyed: Vec<_> = nodes.into_iter().map(|id| (key(&id), id)).collect();
    keyed.sort_by(|(a, _), (b, _)| (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| a.2.total_cmp(&b.2)));
    keyed.into_iter().map(|(_, id)| id).collect()
}

/// Says since when pending nodes have not been needed, and counts that as idleness. Pending nodes of a group stand for each
/// other, so the times are the group's: the longest go to the first nodes.
pub(super) fn note_unneeded(cluster: &mut Cluster<'_>, memory: &mut Memory) {
    let now_ms = cluster.input.snapshot.now_ms;
    let mut since_ms: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for &id in &cluster.order {
        let node = &cluster.nodes[id as usize];
        let unneeded = node.fate == Fate::Stay && !node.exempt && !cluster.is_needed(id);
        let (true, NodePhase::Pending, Some(group)) = (unneeded, node.phase, cluster.group_of(id)) else {
            continue;
        };
        let name = &group.spec.name;
        let times = since_ms.entry(name.clone()).or_default();
        let known = memory.pending_unneeded_since_ms.get(name).and_then(|times_before| times_before.get(times.len()));
        let since = known.copied().unwrap_or(now_ms);
        times.push(since);
        cluster.nodes[id as usize].idle_ms = now_ms.saturating_sub(since);
    }
    memory.pending_unneeded_since_ms = since_ms;
}

/// Ends nodes that have been idle for too long and that nothing needs. Says which others one might expect to go.
pub(super) fn end_idle(cluster: &mut Cluster<'_>, memory: &mut Memory) -> Vec<(NodeId, KeptFor)> {
    let mut kept = Vec::new();
    let mut able = Vec::new();
    for id in in_ending_order(cluster, cluster.order.clone()) {
        let node = &cluster.nodes[id as usize];
        if node.fate != Fate::Stay || node.exempt || idle_timeout_ms(cluster, id).is_none_or(|ms| node.idle_ms <= ms) {
            continue;
        }
        if cluster.states.is_needed(node.state, Ledger::Demand) {
            kept.push((id, KeptFor::Demand));
        } else if cluster.states.is_needed(node.state, Ledger::Constraint) {
            kept.push((id, KeptFor::Constraint));
        } else {
            able.push(id);
        }
    }
    let replicas = Replicas::of(cluster, &cluster.order);
    let mut counts = replicas.count(cluster);
    let mut in_whole = BTreeSet::new();
    for replica in replicas.whole(cluster, &able) {
        in_whole.extend(replica.iter().copied());
        let Some(group) = replica.first().and_then(|id| cluster.nodes[*id as usize].group).map(usize::from) else {
            continue;
        };
        if counts[group] <= u64::from(cluster.groups[group].floor()) {
            kept.extend(replica.iter().map(|id| (*id, KeptFor::Floor)));
            continue;
        }
        counts[group] -= 1;
        for id in replica {
            end_one_idle(cluster, id, memory);
        }
    }
    kept.extend(able.into_iter().filter(|id| !in_whole.contains(id)).map(|id| (id, KeptFor::Replica)));
    kept
}

fn end_one_idle(cluster: &mut Cluster<'_>, id: NodeId, memory: &mut Memory) {
    let node = &mut cluster.nodes[id as usize];
    node.fate = Fate::End(TerminateCause::Idle);
    if node.phase != NodePhase::Pending {
        return;
    }
    // The longest time went to the node that ends: those that stay must not inherit it.
    let name = cluster.group_of(id).map(|group| &group.spec.name);
    if let Some(times) = name.and_then(|name| memory.pending_unneeded_since_ms.get_mut(name)).filter(|t| !t.is_empty())
    {
        times.remove(0);
    }
}

/// How long the node may be idle.
pub(super) fn idle_timeout_ms(cluster: &Cluster<'_>, id: NodeId) -> Option<i64> {
    let settings = &cluster.input.snapshot.settings;
    match cluster.nodes[id as usize].phase {
        NodePhase::Pending => settings.pending_idle_timeout_ms,
        _ => cluster.group_of(id).and_then(|group| group.spec.idle_timeout_ms).or(settings.idle_timeout_ms),
    }
}

/// Which pods go together.
pub(super) struct Replicas<'a> {
    /// Pods of each named multi-host replica.
    named: BTreeMap<(u16, &'a str), usize>,
}

impl<'a> Replicas<'a> {
    /// The replicas that `nodes` make up, those that end left aside.
    pub fn of(cluster: &Cluster<'a>, nodes: &[NodeId]) -> Self {
        let mut named = BTreeMap::new();
        for &id in nodes {
            if !matches!(cluster.nodes[id as usize].fate, Fate::End(_))
                && let Some(key) = name(cluster, id)
            {
                *named.entry(key).or_default() += 1;
            }
        }
        Replicas { named }
    }

    /// The whole replicas among `nodes`, each placed where its last pod stands. Pods of a multi-host group that say not which
    /// replica they belong to are taken together as they come.
    pub fn whole(&self, cluster: &Cluster<'a>, nodes: &[NodeId]) -> Vec<Vec<NodeId>> {
        let mut whole = Vec::new();
        let mut parts: BTreeMap<(u16, &str), Vec<NodeId>> = BTreeMap::new();
        for &id in nodes {
            let hosts = cluster.group_of(id).map_or(1, |group| group.hosts as usize);
            let (Some(group), 2..) = (cluster.nodes[id as usize].group, hosts) else {
                whole.push(vec![id]);
                continue;
            };
            let key = name(cluster, id).unwrap_or((group, ""));
            let part = parts.entry(key).or_default();
            part.push(id);
            if part.len() == self.named.get(&key).copied().unwrap_or(hosts) {
                whole.push(std::mem::take(part));
            }
        }
        whole
    }

    /// Replicas of each group among the nodes of the cluster that don't end.
    pub fn count(&self, cluster: &Cluster<'a>) -> Vec<u64> {
        let mut named = vec![0; cluster.groups.len()];
        for (group, _) in self.named.keys() {
            named[usize::from(*group)] += 1;
        }
        let pods = cluster.count(false);
        let groups = cluster.groups.iter().zip(named).zip(pods);
        groups.map(|((group, named), pods)| u64::max(named, pods.div_ceil(u64::from(group.hosts)))).collect()
    }
}

/// The replica that a pod of a multi-host group says it belongs to.
fn name<'a>(cluster: &Cluster<'a>, id: NodeId) -> Option<(u16, &'a str)> {
    let node = &cluster.nodes[id as usize];
    let group = node.group.filter(|group| cluster.groups[usize::from(*group)].hosts > 1)?;
    let replica = cluster.input.snapshot.nodes.get(node.observed? as usize)?.replica.as_deref()?;
    Some((group, replica)).filter(|(_, replica)| !replica.is_empty())
}
