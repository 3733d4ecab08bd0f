//! How many pods of a group fit on Kubernetes nodes as they are now.

use std::sync::OnceLock;

use super::DomainId;
use super::sight::{NONE, Sight};
use crate::{Amount, GroupFacts, Host, Resources, Snapshot};

/// What Kubernetes calls the number of pods that a node may hold.
const PODS: &str = "pods";

/// Where a new pod of a group would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupDomain {
    /// Always there: its labels or its node selector say so.
    Pinned(DomainId),
    /// Wherever Kubernetes nodes have room: the domains with such nodes, in the order of their ids, at least one. Pods beyond
    /// that room need Kubernetes nodes that do not exist yet, and come up who knows where.
    OneOf(Vec<DomainRoom>),
    /// Not known: each new pod is a domain of its own.
    Own,
}

/// Room for pods of a group in a domain, on Kubernetes nodes as they are now.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct DomainRoom {
    /// Where.
    pub domain: DomainId,
    /// How many pods fit.
    pub room: u32,
    /// How many of the Kubernetes nodes with room hold no pod of this cluster.
    pub whole_free_hosts: u32,
}

/// Room on one Kubernetes node.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct HostRoom {
    /// Index into [`Snapshot::hosts`].
    pub(super) host: usize,
    pub(super) pods: u32,
    /// No pod of this cluster is on it.
    pub(super) is_whole: bool,
}

/// Rooms of groups, found out when they are asked for.
#[derive(Debug)]
pub(super) struct Rooms {
    groups: Vec<OnceLock<Vec<HostRoom>>>,
    is_taken: OnceLock<Vec<bool>>,
}

impl Rooms {
    pub(super) fn new(groups: usize) -> Self {
        Rooms { groups: (0..groups).map(|_| OnceLock::new()).collect(), is_taken: OnceLock::new() }
    }

    pub(super) fn of_group(&self, snapshot: &Snapshot, sight: &Sight<'_>, group: usize) -> &[HostRoom] {
        // Groups whose pods need the same find the same room.
        let Some(facts) = snapshot.node_types.get(group).map(|group| &group.facts) else { return &[] };
        let needs_same =
            |other: &GroupFacts| other.node_selector == facts.node_selector && other.pod_requests == facts.pod_requests;
        let first = snapshot.node_types.iter().position(|other| needs_same(&other.facts)).unwrap_or(group);
        self.groups.get(first).map_or(&[], |cell| cell.get_or_init(|| self.find(snapshot, sight, facts)))
    }

    fn find(&self, snapshot: &Snapshot, sight: &Sight<'_>, facts: &GroupFacts) -> Vec<HostRoom> {
        if facts.pod_requests.is_empty() {
            return Vec::new();
        }
        let is_taken = self.is_taken.get_or_init(|| {
            let mut is_taken = vec![false; snapshot.hosts.len()];
            for machine in sight.machine_of_node.iter().filter(|machine| **machine != NONE) {
                if let Some(is_taken) = is_taken.get_mut(*machine as usize) {
                    *is_taken = true;
                }
            }
            is_taken
        });
        let selects = |host: &Host| {
            facts.node_selector.iter().all(|(key, value)| host.labels.get(key).is_some_and(|v| v == value))
        };
        let fit = snapshot.hosts.iter().enumerate().filter(|(_, host)| host.unfit.is_none() && selects(host));
        let room = |(at, host): (usize, &Host)| HostRoom {
            host: at,
            pods: fitting(&host.free, &facts.pod_requests),
            is_whole: is_taken.get(at) == Some(&false),
        };
        fit.map(room).filter(|room| room.pods > 0).collect()
    }
}

/// How many pods with these requests fit into what is free.
fn fitting(free: &Resources, requests: &Resources) -> u32 {
    let amount = |name: &str| free.get(name).copied().unwrap_or_default().steps().max(0);
    let of_resource = |(name, request): (&String, &Amount)| amount(name).checked_div(request.steps().max(0));
    // A request for nothing limits nothing.
    let by_requests = requests.iter().filter_map(of_resource).min();
    let by_count = free.contains_key(PODS).then(|| amount(PODS) / Amount::STEPS_PER_UNIT);
    let pods = by_requests.into_iter().chain(by_count.filter(|_| by_requests.is_some())).min().unwrap_or(0);
    u32::try_from(pods).unwrap_or(u32::MAX)
}
