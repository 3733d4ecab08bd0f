//! Which instances form a replica, and which replicas are asked for but not there yet.

use std::sync::Arc;

use mobula_planner::{Labels, Node, NodePhase, NodeType};

/// One instance of a group on its way to being a [`Node`].
#[derive(Debug)]
pub(super) struct Member {
    pub(super) node: Node,
    /// Unix time in ms at which its pod was created.
    pub(super) created_ms: Option<i64>,
    /// Whether the operator counts it towards `replicas`: it has a pod that nobody has named for deletion.
    pub(super) counted: bool,
}

/// Names the group of every member, and the replica where a multi-host group has no label for it; adds what the RayCluster asks
/// for beyond what is there.
pub(super) fn complete(group: &NodeType, mut members: Vec<Member>) -> Vec<Node> {
    if group.num_of_hosts > 1 {
        name_replicas(group, &mut members);
    } else {
        members.iter_mut().for_each(|member| member.node.replica = None);
    }
    members.sort_by(|a, b| order(a).cmp(&order(b)));
    let mut nodes = requested(group, &members);
    let mut all: Vec<Node> = members.into_iter().map(|member| member.node).collect();
    all.append(&mut nodes);
    // From now on they share it.
    let name: Arc<str> = group.name.as_str().into();
    all.iter_mut().for_each(|node| node.group = Arc::clone(&name));
    all
}

fn order(member: &Member) -> (Option<&str>, &str) {
    (member.node.replica.as_deref(), &member.node.instance_id)
}

/// Without labels the operator knows no replicas: any `numOfHosts` pods are one. The oldest are put together, and those
/// that are leaving among themselves, so that no replica is half gone.
fn name_replicas(group: &NodeType, members: &mut [Member]) {
    let mut unnamed: Vec<&mut Member> = members.iter_mut().filter(|member| member.node.replica.is_none()).collect();
    unnamed.sort_by(|a, b| age_order(a).cmp(&age_order(b)));
    let hosts = usize::try_from(group.num_of_hosts).unwrap_or(usize::MAX);
    let (leaving, staying): (Vec<_>, Vec<_>) = unnamed.into_iter().partition(|member| is_leaving(member));
    for (kind, mut part) in [("leaving", leaving), ("replica", staying)] {
        for (number, replica) in part.chunks_mut(hosts).enumerate() {
            let name = format!("{}/{kind}-{number}", group.name);
            replica.iter_mut().for_each(|member| member.node.replica = Some(name.clone()));
        }
    }
}

fn is_leaving(member: &Member) -> bool {
    member.node.phase == NodePhase::Leaving
}

fn age_order(member: &Member) -> (i64, &str) {
    (member.created_ms.unwrap_or(i64::MIN), &member.node.instance_id)
}

/// What is asked for and not there: the missing hosts of replicas that are coming up, then whole replicas.
fn requested(group: &NodeType, members: &[Member]) -> Vec<Node> {
    if group.suspended || group.is_head {
        return Vec::new();
    }
    let hosts = u64::from(group.num_of_hosts.max(1));
    // Sorted by replica; a pod without one is a replica by itself.
    let counted: Vec<&Node> = members.iter().filter(|member| member.counted).map(|member| &member.node).collect();
    let replicas = || counted.chunk_by(|a, b| a.replica.is_some() && a.replica == b.replica);
    let mut missing = (u64::from(group.requested_replicas) * hosts).saturating_sub(counted.len() as u64);
    let mut phantoms = Vec::new();
    let is_coming_up = |node: &&Node| matches!(node.phase, NodePhase::Running | NodePhase::Pending);
    for replica in replicas().filter(|replica| replica.iter().all(is_coming_up)) {
        for _ in 0..hosts.saturating_sub(replica.len() as u64).min(missing) {
            phantoms.push(phantom(group, phantoms.len(), replica.first().and_then(|node| node.replica.clone())));
            missing -= 1;
        }
    }
    let whole = u64::from(group.requested_replicas).saturating_sub(replicas().count() as u64).min(missing / hosts);
    for number in 0..whole {
        let replica = (hosts > 1).then(|| format!("{}/requested-replica-{number}", group.name));
        for _ in 0..hosts {
            phantoms.push(phantom(group, phantoms.len(), replica.clone()));
        }
    }
    phantoms
}

fn phantom(group: &NodeType, number: usize, replica: Option<String>) -> Node {
    Node {
        instance_id: format!("{}/requested-{number}", group.name).into(),
        replica,
        phase: NodePhase::Requested,
        ..fresh_node(group)
    }
}

/// A node of this group on which nothing runs yet.
pub(super) fn fresh_node(group: &NodeType) -> Node {
    Node {
        is_head: group.is_head,
        total: Arc::clone(&group.resources),
        available: Arc::clone(&group.resources),
        labels: Arc::clone(&group.labels),
        dynamic_labels: Arc::new(Labels::new()),
        ..Node::default()
    }
}
