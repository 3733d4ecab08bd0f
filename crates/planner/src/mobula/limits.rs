//! How much of each group may still be launched.

use super::pending;
use super::world::World;
use crate::census::Census;
use crate::{Amount, MAX_LAUNCHES, Memory, PendingCause, words};

/// What may still be launched, given away in whole replicas.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// By group: replicas up to its own maximum.
    replicas: Vec<u64>,
    /// Pods that this plan may launch.
    pods: u64,
    /// Pods up to the cluster's maximum.
    cluster_pods: u64,
    quotas: Vec<QuotaLeft>,
    /// What is kept for gangs that have waited for long: nobody else gets it.
    kept: Vec<Kept>,
    /// Groups without any limit, and which take nothing from others.
    lifted: Vec<usize>,
}

/// Replicas of one group that are kept for a gang.
#[derive(Copy, Clone, Debug)]
struct Kept {
    /// Index into the snapshot's gangs.
    gang: u32,
    group: usize,
    replicas: u64,
}

/// What is left of one quota.
#[derive(Clone, Debug)]
struct QuotaLeft {
    /// By limited resource: what is left, in 1/10,000 units.
    left: Vec<i64>,
    /// By group: what one replica takes of each; `None`: it is not concerned.
    takes: Vec<Option<Vec<i64>>>,
}

/// Why no more of a group can be launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// Its own maximum of replicas.
    Maximum(u32),
    /// It is suspended.
    Suspended,
    /// What was launched did not come, for this cause if it is known; not tried before this unix time in ms.
    Blocked(i64, Option<PendingCause>),
    /// A replica has more pods than one plan launches, or enough pods are launched.
    AtOnce,
    /// The cluster's maximum of nodes.
    Cluster(u32),
    /// A quota, by index.
    Quota(usize),
}

impl Limits {
    /// What may be launched when nothing is planned yet.
    pub fn new(world: &World<'_>, census: &[Census<'_>], memory: &Memory) -> Self {
        let snapshot = world.snapshot;
        let replicas = world.groups.iter().zip(census).map(|(group, census)| {
            let spec = group.spec;
            let blocked = memory.blocked.get(&spec.name).is_some_and(|blocked| blocked.until_ms > snapshot.now_ms);
            if spec.is_head || spec.suspended || blocked {
                return 0;
            }
            u64::from(spec.max_replicas.saturating_sub(census.kept.replicas(spec)))
        });
        let nodes: u64 = census.iter().map(|census| census.kept.count).sum();
        let others = snapshot.nodes.iter().filter(|node| node.is_head || node.instance_id.is_empty()).count() as u64;
        let most = snapshot.settings.max_nodes.map_or(u64::MAX, u64::from);
        Limits {
            replicas: replicas.collect(),
            pods: MAX_LAUNCHES,
            cluster_pods: most.saturating_sub(nodes + others),
            quotas: snapshot.quotas.iter().map(|quota| QuotaLeft::new(world, quota)).collect(),
            kept: Vec::new(),
            lifted: Vec::new(),
        }
    }

    /// From now on there is no limit to these groups (and to no others): to find out how much they would have to grow. What is
    /// launched of them has to be taken back before that changes again.
    pub fn lift(&mut self, groups: &[usize]) {
        self.lifted = groups.to_vec();
    }

    /// Keeps so many replicas of a group for a gang, as far as there is room for them.
    pub fn keep(&mut self, world: &World<'_>, group: usize, replicas: u64, gang: u32) {
        let replicas = replicas.min(self.room(world, group));
        if replicas > 0 {
            self.take(world, group, replicas);
            self.kept.push(Kept { gang, group, replicas });
        }
    }

    /// What could be launched if nothing were kept: for a gang, what is not kept for others; for `None`, whoever it is kept for.
    pub fn without_kept(&self, world: &World<'_>, gang: Option<u32>) -> Limits {
        let mut limits = self.clone();
        let is_given_back = |kept: &Kept| gang.is_none_or(|gang| kept.gang == gang);
        for kept in self.kept.iter().filter(|kept| is_given_back(kept)) {
            limits.give_back(world, kept.group, kept.replicas);
        }
        limits.kept.retain(|kept| !is_given_back(kept));
        limits
    }

    /// The oldest gang for which something is kept.
    pub fn keeps_for(&self) -> Option<u32> {
        self.kept.first().map(|kept| kept.gang)
    }

    /// Replicas of a group that may still be launched.
    pub fn room(&self, world: &World<'_>, group: usize) -> u64 {
        if self.lifted.contains(&group) {
            return u64::from(u32::MAX);
        }
        let hosts = u64::from(world.groups[group].hosts);
        let by_pods = self.pods.min(self.cluster_pods) / hosts;
        self.replicas[group].min(by_pods).min(self.quota_room(group))
    }

    fn quota_room(&self, group: usize) -> u64 {
        self.quotas.iter().filter_map(|quota| quota.room(group)).min().unwrap_or(u64::MAX)
    }

    /// Replicas of a group that may still be launched for its minimum, whether or not it is left alone.
    pub fn floor_room(&self, world: &World<'_>, group: usize) -> u64 {
        let spec = world.groups[group].spec;
        let pods = if spec.is_head || spec.suspended { 0 } else { self.hosts() };
        (pods / u64::from(world.groups[group].hosts)).min(self.quota_room(group))
    }

    /// Hosts of all groups that may still be launched.
    pub fn hosts(&self) -> u64 {
        self.pods.min(self.cluster_pods)
    }

    /// Takes so many replicas of a group; the caller has asked for [`Limits::room`].
    pub fn take(&mut self, world: &World<'_>, group: usize, replicas: u64) {
        if self.lifted.contains(&group) {
            return;
        }
        let pods = replicas * u64::from(world.groups[group].hosts);
        self.replicas[group] = self.replicas[group].saturating_sub(replicas);
        self.pods = self.pods.saturating_sub(pods);
        self.cluster_pods = self.cluster_pods.saturating_sub(pods);
        for quota in &mut self.quotas {
            quota.take(group, i64::try_from(replicas).unwrap_or(i64::MAX));
        }
    }

    /// Gives back replicas that were taken.
    pub fn give_back(&mut self, world: &World<'_>, group: usize, replicas: u64) {
        if self.lifted.contains(&group) {
            return;
        }
        let pods = replicas * u64::from(world.groups[group].hosts);
        self.replicas[group] += replicas;
        self.pods += pods;
        self.cluster_pods = self.cluster_pods.saturating_add(pods);
        for quota in &mut self.quotas {
            quota.take(group, -i64::try_from(replicas).unwrap_or(i64::MAX));
        }
    }

    /// What keeps a group from growing by more than its room: after "group x could hold it, but".
    pub fn room_text(&self, world: &World<'_>, group: usize) -> String {
        let spec = world.groups[group].spec;
        let room = self.room(world, group);
        let mut more = words::counted(room, "more replica");
        if world.groups[group].launched > 0 {
            more += &format!(" beside the {} that this plan launches", world.groups[group].launched);
        }
        let quota = self.quotas.iter().position(|quota| quota.room(group) == Some(room));
        if room == self.replicas[group] {
            let most = words::counted(u64::from(spec.max_replicas), "replica");
            return format!("may get only {more}: its maximum is {most}");
        }
        if let Some(quota) = quota.and_then(|at| world.snapshot.quotas.get(at)) {
            return format!("may get only {more}: {} has no room for others", quota.source);
        }
        match world.snapshot.settings.max_nodes.filter(|_| self.cluster_pods <= self.pods) {
            Some(most) => format!("may get only {more}: the maximum of the cluster is {most} nodes"),
            None => format!("may get only {more}: at most {MAX_LAUNCHES} pods are launched at once"),
        }
    }

    /// Why no (more) replica of a group can be launched, the most telling reason.
    pub fn closed(&self, world: &World<'_>, group: usize, memory: &Memory) -> Option<Closed> {
        let spec = world.groups[group].spec;
        let hosts = u64::from(world.groups[group].hosts);
        let blocked = memory.blocked.get(&spec.name).filter(|blocked| blocked.until_ms > world.snapshot.now_ms);
        if spec.suspended {
            Some(Closed::Suspended)
        } else if let Some(blocked) = blocked {
            Some(Closed::Blocked(blocked.until_ms, blocked.cause))
        } else if self.replicas[group] == 0 {
            Some(Closed::Maximum(spec.max_replicas))
        } else if self.cluster_pods < hosts {
            Some(Closed::Cluster(world.snapshot.settings.max_nodes.unwrap_or_default()))
        } else if let Some(at) = self.quotas.iter().position(|quota| quota.room(group) == Some(0)) {
            Some(Closed::Quota(at))
        } else {
            (self.pods < hosts).then_some(Closed::AtOnce)
        }
    }
}

impl QuotaLeft {
    fn new(world: &World<'_>, quota: &crate::Quota) -> Self {
        let takes = world.groups.iter().map(|group| {
            let spec = group.spec;
            if spec.is_head || !(quota.groups.is_empty() || quota.groups.contains(&spec.name)) {
                return None;
            }
            let hosts = i64::from(group.hosts);
            let one_pod = |name: &String| match name.as_str() {
                "pods" => Amount::from_units(1).steps(),
                _ => spec.facts.pod_requests.get(name).copied().unwrap_or_default().steps(),
            };
            Some(quota.free.keys().map(|name| one_pod(name).saturating_mul(hosts)).collect())
        });
        QuotaLeft { left: quota.free.values().map(|amount| amount.steps()).collect(), takes: takes.collect() }
    }

    fn room(&self, group: usize) -> Option<u64> {
        let takes = self.takes[group].as_ref()?;
        let rooms = self.left.iter().zip(takes).filter(|(_, takes)| **takes > 0);
        rooms.map(|(left, takes)| (left / takes).max(0) as u64).min()
    }

    fn take(&mut self, group: usize, replicas: i64) {
        let Some(takes) = &self.takes[group] else { return };
        for (left, takes) in self.left.iter_mut().zip(takes) {
            *left = left.saturating_sub(takes.saturating_mul(replicas));
        }
    }
}

impl Closed {
    /// Why, after "group x could hold it, but".
    pub fn text(&self, world: &World<'_>, spec: &crate::NodeType) -> String {
        let snapshot = world.snapshot;
        match self {
            Closed::Maximum(most) => format!("is at its maximum of {}", words::counted(u64::from(*most), "replica")),
            Closed::Suspended => "is suspended".to_owned(),
            Closed::Blocked(until_ms, cause) => {
                format!("is {}", pending::left_alone_text(*until_ms, *cause, snapshot.now_ms))
            }
            Closed::AtOnce if u64::from(spec.num_of_hosts) > MAX_LAUNCHES => {
                format!(
                    "has {} pods a replica, and at most {MAX_LAUNCHES} pods are launched at once",
                    spec.num_of_hosts
                )
            }
            Closed::AtOnce => format!("has to wait: at most {MAX_LAUNCHES} pods are launched at once"),
            Closed::Cluster(most) => format!("can't grow: the cluster has reached its maximum of {most} nodes"),
            Closed::Quota(at) => {
                let source = snapshot.quotas.get(*at).map_or("a quota", |quota| &quota.source);
                format!("can't grow: {source} has no room for another replica")
            }
        }
    }
}
