//! Where a gang may be: everywhere, or within one domain, or within one fabric.

use std::collections::{BTreeMap, BTreeSet};

use super::board::Board;
use super::demand::{GangWork, Part, Together};
use super::rooms::{self, Slots};
use super::world::{HostId, Origin};
use crate::roster::Row;
use crate::topology::{DomainId, FabricId, Fabrics, GroupDomain, Topology, gpu_steps, gpu_steps_of_hosts};
use crate::{FabricWish, GangStrategy, PendingCause};

/// Hosts that a gang may use, and groups that may be launched for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    /// In ascending order; `None`: all.
    hosts: Option<Vec<HostId>>,
    /// By group: most hosts that may be launched; `None`: no limit of the pool's own.
    groups: Option<Vec<u32>>,
    /// Most hosts that may be launched altogether; `None`: no limit of the pool's own.
    pub most_new_hosts: Option<u32>,
    /// Most hosts that such a place can ever have for the gang; `None`: not known.
    pub most_hosts: Option<u32>,
    /// The domains that it lies in, and what people call it.
    pub domains: Vec<DomainId>,
    pub domain: Option<String>,
    /// The fabric that it is, as people say it.
    pub fabric: Option<String>,
    /// What is launched may as well be other groups that [`Pool::has_group`]: nothing but the group says where a host comes up.
    pub is_fluid: bool,
}

impl Pool {
    /// Everything.
    pub fn everywhere() -> Self {
        Pool { is_fluid: true, ..Pool::default() }
    }

    /// Whether it is everything.
    pub fn is_everywhere(&self) -> bool {
        self.hosts.is_none() && self.groups.is_none() && self.most_new_hosts.is_none()
    }

    /// Whether nothing can be there.
    fn is_empty(&self) -> bool {
        let has_hosts = self.hosts.as_ref().is_none_or(|hosts| !hosts.is_empty());
        !has_hosts && self.groups.as_ref().is_some_and(|groups| groups.iter().all(|room| *room == 0))
    }

    /// The hosts in it, of so many.
    pub fn hosts(&self, len: usize) -> impl Iterator<Item = HostId> {
        let all = if self.hosts.is_none() { 0..len as HostId } else { 0..0 };
        all.chain(self.hosts.iter().flatten().copied())
    }

    /// Whether a host is in it.
    pub fn has_host(&self, host: HostId) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.binary_search(&host).is_ok())
    }

    /// Whether a group may be launched in it.
    pub fn has_group(&self, group: usize) -> bool {
        self.room(group) > 0
    }

    /// Most hosts of a group that may be launched in it.
    pub fn room(&self, group: usize) -> u32 {
        self.groups.as_ref().map_or(u32::MAX, |groups| groups.get(group).copied().unwrap_or(0))
    }

    /// By group: most hosts that may be launched; `None`: no limit of the pool's own.
    pub fn rooms(&self) -> Option<&[u32]> {
        self.groups.as_deref()
    }

    /// By group: whether it may be launched; `None`: all.
    pub fn group_mask(&self) -> Option<Vec<bool>> {
        Some(self.groups.as_ref()?.iter().map(|room| *room > 0).collect())
    }

    /// The same, but as many hosts of these groups may be launched as one likes, if any.
    pub fn without_limits(&self, groups: &[usize]) -> Pool {
        let mut pool = Pool { most_new_hosts: None, ..self.clone() };
        let rooms = pool.groups.iter_mut().flatten().enumerate();
        rooms.filter(|(at, room)| **room > 0 && groups.contains(at)).for_each(|(_, room)| *room = u32::MAX);
        pool
    }

    /// What is in both.
    pub fn and(&self, other: &Pool) -> Pool {
        let both = |a: &Option<Vec<HostId>>, b: &Option<Vec<HostId>>| match (a, b) {
            (Some(a), Some(b)) => Some(a.iter().copied().filter(|host| b.binary_search(host).is_ok()).collect()),
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        };
        let groups = match (&self.groups, &other.groups) {
            (Some(a), Some(b)) => Some(a.iter().zip(b).map(|(a, b)| *a.min(b)).collect()),
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        };
        Pool {
            hosts: both(&self.hosts, &other.hosts),
            groups,
            most_new_hosts: self.most_new_hosts.into_iter().chain(other.most_new_hosts).min(),
            most_hosts: self.most_hosts.into_iter().chain(other.most_hosts).min(),
            domains: self.domains.iter().chain(&other.domains).copied().collect(),
            domain: self.domain.clone().or(other.domain.clone()),
            fabric: self.fabric.clone().or(other.fabric.clone()),
            is_fluid: self.is_fluid && other.is_fluid && self.most_new_hosts.is_none(),
        }
    }
}

/// Places that are as good as each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Tier {
    /// To be compared with each other, the best is taken.
    pub pools: Vec<Pool>,
    /// Why these are worse than those of the tier before, for people.
    pub drawback: &'static str,
}

/// The places that a gang may choose from.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// The first one in which some pool can hold the gang is taken.
    pub tiers: Vec<Tier>,
    /// What all of the pools have in common, for people; empty if there is nothing to say.
    pub condition: String,
}

/// Present hosts by domain and by fabric, found out once.
#[derive(Debug, Default)]
pub(super) struct Sites {
    /// Hosts that this plan launches for gangs in a domain, and in those within it.
    launched: BTreeMap<DomainId, u32>,
    domains: BTreeMap<usize, BTreeMap<DomainId, Vec<HostId>>>,
    fabrics: Option<BTreeMap<FabricId, Vec<HostId>>>,
    slots: Slots,
    /// Domains without room for a gang count as places for it, too.
    pub with_full: bool,
}

impl Sites {
    fn launched_in(&self, domain: DomainId) -> u32 {
        self.launched.get(&domain).copied().unwrap_or(0)
    }

    /// Present hosts of each domain of a level.
    fn domains(&mut self, map: &Map<'_>, board: &Board<'_>, level: usize) -> &BTreeMap<DomainId, Vec<HostId>> {
        self.domains.entry(level).or_insert_with(|| {
            let mut domains: BTreeMap<DomainId, Vec<HostId>> = BTreeMap::new();
            // A pod on its way may come up in any domain with room for it: as many as have room there count as being there.
            let mut coming: BTreeMap<(DomainId, usize), u32> = BTreeMap::new();
            for (host, node) in present_nodes(board) {
                let group = map.topology.group_of_node(node).filter(|_| !map.topology.is_placed(node));
                let Some((group, GroupDomain::OneOf(rooms))) =
                    group.map(|group| (group, map.topology.of_group(level, group)))
                else {
                    domains.entry(map.topology.of_node(level, node)).or_default().push(host);
                    continue;
                };
                for room in rooms {
                    let coming = coming.entry((room.domain, group)).or_default();
                    if *coming < room.room {
                        *coming += 1;
                        domains.entry(room.domain).or_default().push(host);
                    }
                }
            }
            domains
        })
    }

    /// Present hosts of each fabric.
    fn fabrics(&mut self, map: &Map<'_>, board: &Board<'_>) -> &BTreeMap<FabricId, Vec<HostId>> {
        self.fabrics.get_or_insert_with(|| {
            let mut fabrics: BTreeMap<FabricId, Vec<HostId>> = BTreeMap::new();
            for (host, node) in present_nodes(board) {
                if let Some(fabric) = map.fabrics.node(node) {
                    fabrics.entry(fabric).or_default().push(host);
                }
            }
            fabrics
        })
    }
}

/// What is in one of these and one of those.
fn both(these: &[Pool], those: &[Pool]) -> Vec<Pool> {
    let pairs = these.iter().flat_map(|one| those.iter().map(move |other| one.and(other)));
    pairs.filter(|pool| !pool.is_empty()).collect()
}

/// Hosts that are nodes of the snapshot, with their index there.
fn present_nodes(board: &Board<'_>) -> impl Iterator<Item = (HostId, usize)> {
    (0..).zip(&board.world.hosts.origin).filter_map(|(host, origin)| match origin {
        Origin::Node(node) => Some((host, *node as usize)),
        Origin::New { .. } => None,
    })
}

/// Hosts that the plan launches, by group: found out once for all domains that a gang is tried in.
#[derive(Debug)]
pub(super) struct NewHosts(Vec<Vec<HostId>>);

impl NewHosts {
    /// Those that are launched by now.
    pub fn of(board: &Board<'_>) -> Self {
        let world = &board.world;
        let mut by_group = vec![Vec::new(); world.groups.len()];
        for host in world.present..world.hosts.len() {
            by_group[world.hosts.group[host] as usize].push(host as HostId);
        }
        NewHosts(by_group)
    }

    /// Those of the groups that `is_in` takes, in ascending order.
    fn within(&self, is_in: impl Fn(usize) -> bool) -> Vec<HostId> {
        let groups = self.0.iter().enumerate().filter(|(group, hosts)| !hosts.is_empty() && is_in(*group));
        let mut hosts: Vec<HostId> = groups.flat_map(|(_, hosts)| hosts).copied().collect();
        hosts.sort_unstable();
        hosts
    }
}

/// Where nodes and groups are.
pub(super) struct Map<'a> {
    pub topology: Topology<'a>,
    pub fabrics: Fabrics,
}

impl<'a> Map<'a> {
    /// Reads the snapshot.
    pub fn new(snapshot: &'a crate::Snapshot, roster: &[Row]) -> Self {
        let topology = Topology::of(snapshot, roster);
        let fabrics = Fabrics::new(snapshot, &topology);
        Map { topology, fabrics }
    }

    /// The places of a gang: one domain where its locality or a group asks for it, one fabric where RDMA is wanted.
    pub fn places(&self, board: &Board<'_>, work: &GangWork<'_>, sites: &mut Sites) -> Places {
        let fabrics = self.fabric_pools(board, work, sites);
        let domains = self.domain_pools(board, work, sites);
        let is_local = domains.is_some();
        let mut conditions = Vec::new();
        let mut pools = domains.map(|(label, domains)| {
            conditions.push(format!("in one domain of {label}"));
            domains
        });
        if let Some((required, domains)) = self.required_pools(board, work, sites) {
            conditions.push(required);
            pools = Some(pools.map_or_else(|| domains.clone(), |pools| both(&pools, &domains)));
        }
        let anywhere = pools.clone().unwrap_or_else(|| vec![Pool::everywhere()]);
        let within = || pools.as_ref().map_or_else(|| fabrics.clone(), |pools| both(pools, &fabrics));
        let tier = |pools: Vec<Pool>| Tier { pools, drawback: "" };
        let tiers = match work.fabric {
            Some(FabricWish::Required) => {
                let what = if conditions.is_empty() { "on nodes of one fabric (RDMA)" } else { "of one fabric (RDMA)" };
                conditions.push(what.to_owned());
                vec![tier(within())]
            }
            // Whoever is in one domain of accelerators is close enough; what RDMA adds is not asked for by name.
            Some(FabricWish::Preferred) if !fabrics.is_empty() && !is_local => {
                let drawback = "no one fabric can hold it: without RDMA between all of its nodes it falls back to TCP";
                vec![tier(within()), Tier { pools: anywhere, drawback }]
            }
            _ => vec![tier(anywhere)],
        };
        let condition = if conditions.is_empty() { String::new() } else { format!("all {}", conditions.join(" and ")) };
        Places { tiers, condition }
    }

    /// One domain of the level that a group requires, and that condition for people.
    fn required_pools(&self, board: &Board<'_>, work: &GangWork<'_>, sites: &mut Sites) -> Option<(String, Vec<Pool>)> {
        let required = work.near.required?;
        let condition = format!("in one {}, as group {} requires", required.name, required.group);
        let Some(level) = required.level else { return Some((condition, Vec::new())) };
        let bound = self.topology.bound_domain(level, work.gang);
        if bound.is_none() && !self.topology.holders(work.gang).is_empty() {
            // What is left of it is in several domains: no choice makes them one again.
            return None;
        }
        let domains = bound.map_or_else(|| self.roomy_domains(board, work, level, sites), |domain| vec![domain]);
        let new = NewHosts::of(board);
        let pools = domains.into_iter().map(|domain| self.domain_of(board, &new, work, (level, domain), sites));
        Some((condition, pools.collect()))
    }

    fn domain_pools(&self, board: &Board<'_>, work: &GangWork<'_>, sites: &mut Sites) -> Option<(String, Vec<Pool>)> {
        let locality = work.gang.locality.as_ref().filter(|locality| locality.strategy == GangStrategy::StrictPack)?;
        if work.together == Together::One {
            // One host is one domain.
            return None;
        }
        let level = self.topology.level_of_label(&locality.label)?;
        let bound = self.topology.bound_domain(level, work.gang);
        // Of one whose rest is in several domains, at least what it lost is to be in one.
        let domains: Vec<DomainId> = match bound {
            Some(domain) => vec![domain],
            None => self.roomy_domains(board, work, level, sites),
        };
        let new = NewHosts::of(board);
        let pools = domains.into_iter().map(|domain| self.domain_of(board, &new, work, (level, domain), sites));
        Some((locality.label.clone(), pools.collect()))
    }

    /// The domains of a level that a gang need be tried in.
    fn roomy_domains(&self, board: &Board<'_>, work: &GangWork<'_>, level: usize, sites: &mut Sites) -> Vec<DomainId> {
        let domains = self.topology.domains(level).collect();
        if sites.with_full {
            return domains;
        }
        sites.domains(self, board, level);
        let Sites { domains: hosts, slots, .. } = sites;
        rooms::roomy(&self.topology, board, work, (level, domains), hosts.entry(level).or_default(), slots)
    }

    /// A domain of a level, whatever a gang asks for.
    pub fn domain_of(
        &self,
        board: &Board<'_>,
        new: &NewHosts,
        work: &GangWork<'_>,
        (level, domain): (usize, DomainId),
        sites: &mut Sites,
    ) -> Pool {
        let (topology, world) = (&self.topology, &board.world);
        sites.domains(self, board, level);
        let sites = &*sites;
        let present = sites.domains.get(&level).and_then(|domains| domains.get(&domain));
        let present = present.map_or(&[][..], Vec::as_slice);
        let mut is_fluid = true;
        let mut of_group = |group: usize| match topology.of_group(level, group) {
            GroupDomain::Pinned(pinned) if *pinned == domain => u32::MAX,
            GroupDomain::OneOf(rooms) => {
                let room = rooms.iter().find(|room| room.domain == domain).map_or(0, |room| room.room);
                is_fluid &= room == 0;
                // Pods on their way that count as being here take this room, whatever their group; others than its own only if
                // they look for a place already.
                let coming = present.iter().filter(|host| {
                    let is_own = world.hosts.group[**host as usize] as usize == group;
                    let is_to_come = |node: u32| !topology.is_placed(node as usize);
                    let is_gated = || {
                        let cause = world.node(**host).and_then(|node| node.pending_cause);
                        cause == Some(PendingCause::Gated)
                    };
                    matches!(world.hosts.origin[**host as usize], Origin::Node(node) if is_to_come(node))
                        && (is_own || !is_gated())
                });
                // So do those that this plan launches for others, whatever their group.
                let room = room.saturating_sub(coming.count() as u32);
                room.saturating_sub(sites.launched_in(domain)).min(self.room_around(group, domain, sites))
            }
            GroupDomain::Pinned(_) | GroupDomain::Own => 0,
        };
        let groups: Vec<u32> = (0..world.groups.len()).map(&mut of_group).collect();
        // A host that is launched where there are several domains may come up in any of them.
        let is_pinned =
            |group: usize| matches!(topology.of_group(level, group), GroupDomain::Pinned(pinned) if *pinned == domain);
        let launched = new.within(is_pinned);
        let is_scarce = work.parts.iter().any(|part| world.shapes[part.shape as usize].is_scarce);
        let most = topology.levels().get(level).and_then(|level| level.max_hosts).filter(|_| is_scarce);
        let room = most.map(|most| self.room_of_hosts(board, work, (domain, most), &groups, &launched));
        Pool {
            most_new_hosts: room.map(|(new, _)| new),
            most_hosts: room.map(|(_, all)| all),
            hosts: Some(present.iter().copied().chain(launched).collect()),
            groups: Some(groups),
            domains: vec![domain],
            domain: topology.label_value(domain),
            fabric: None,
            is_fluid: is_fluid && most.is_none(),
        }
    }

    /// How many hosts may be launched for a gang in a domain that has so many hosts at most, and how many it could ever have. Where
    /// pods have GPUs, hosts are worth theirs, since pods with few of them may share one; of groups with different pods, those
    /// with most GPUs are counted with.
    fn room_of_hosts(
        &self,
        board: &Board<'_>,
        work: &GangWork<'_>,
        (domain, most): (DomainId, u32),
        groups: &[u32],
        launched: &[HostId],
    ) -> (u32, u32) {
        let world = &board.world;
        let tally = self.topology.tally(domain);
        let gpus = |group: usize| gpu_steps(&world.groups[group].spec.resources);
        let can_come = || (0..groups.len()).filter(|group| groups[*group] > 0);
        let holds = |group: &usize| {
            let fits = |part: &Part| world.slots_of_group(&world.shapes[part.shape as usize], *group) > 0;
            board.limits.room(world, *group) > 0 && work.parts.iter().any(fits)
        };
        let largest = can_come().filter(holds).map(gpus).max().unwrap_or(0);
        if largest == 0 {
            return (most.saturating_sub(tally.hosts).saturating_sub(launched.len() as u32), most);
        }
        let of_launched = launched.iter().map(|host| gpus(world.hosts.group[*host as usize] as usize));
        let all = gpu_steps_of_hosts(most, can_come().map(gpus).chain([tally.most_gpu_steps]));
        let left = of_launched.fold(all.saturating_sub(tally.gpu_steps), i64::saturating_sub).max(0);
        let pods = |steps: i64| u32::try_from(steps / largest).unwrap_or(u32::MAX);
        (pods(left), pods(all))
    }

    /// The least room that is left to a group in the domains around this one: what is launched somewhere in them may have come
    /// up right here.
    fn room_around(&self, group: usize, domain: DomainId, sites: &Sites) -> u32 {
        if sites.launched.is_empty() {
            return u32::MAX;
        }
        let around = std::iter::successors(self.topology.parent(domain), |outer| self.topology.parent(*outer));
        let rooms = around.filter_map(|outer| match self.topology.of_group(self.topology.level_of(outer)?, group) {
            GroupDomain::OneOf(rooms) => {
                let room = rooms.iter().find(|room| room.domain == outer)?.room;
                Some(room.saturating_sub(sites.launched_in(outer)))
            }
            GroupDomain::Pinned(_) | GroupDomain::Own => None,
        });
        rooms.min().unwrap_or(u32::MAX)
    }

    /// Notes that so many hosts are launched for a gang in these domains.
    pub fn note_launched(&self, domains: &[DomainId], hosts: u32, sites: &mut Sites) {
        let outwards = |inner: &DomainId| std::iter::successors(Some(*inner), |inner| self.topology.parent(*inner));
        let around: BTreeSet<DomainId> = domains.iter().flat_map(outwards).collect();
        around.into_iter().for_each(|domain| *sites.launched.entry(domain).or_default() += hosts);
    }

    fn fabric_pools(&self, board: &Board<'_>, work: &GangWork<'_>, sites: &mut Sites) -> Vec<Pool> {
        let Some(wish) = work.fabric else { return Vec::new() };
        let world = &board.world;
        let present = sites.fabrics(self, board);
        let holders = self.topology.holders(work.gang);
        let bound = self.fabrics.of_nodes(holders);
        if bound.is_none() && !holders.is_empty() && wish == FabricWish::Preferred {
            // What is left of it is in no one fabric: no choice makes it one again.
            return Vec::new();
        }
        let of_groups = (0..world.groups.len()).filter_map(|group| self.fabrics.group(group));
        let mut fabrics: Vec<FabricId> = of_groups.chain(present.keys().copied()).collect();
        fabrics.sort_unstable();
        fabrics.dedup();
        fabrics.retain(|fabric| bound.is_none_or(|bound| bound == *fabric));
        if fabrics.is_empty() {
            return Vec::new();
        }
        let new = NewHosts::of(board);
        let pool = |fabric: FabricId| {
            let is_in = |group: usize| {
                let certain = wish == FabricWish::Preferred || self.fabrics.is_certain(group);
                certain && self.fabrics.group(group) == Some(fabric)
            };
            let launched = new.within(is_in);
            Pool {
                hosts: Some(present.get(&fabric).into_iter().flatten().copied().chain(launched).collect()),
                groups: Some((0..world.groups.len()).map(|group| if is_in(group) { u32::MAX } else { 0 }).collect()),
                fabric: Some(self.fabrics.name(fabric)),
                is_fluid: true,
                ..Pool::default()
            }
        };
        fabrics.into_iter().map(pool).collect()
    }
}
