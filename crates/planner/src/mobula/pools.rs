//! Where a gang may be: everywhere, or within one domain, or within one fabric.

use std::collections::BTreeMap;

use super::board::Board;
use super::demand::{GangWork, Together};
use super::world::{HostId, Origin};
use crate::topology::{DomainId, FabricId, Fabrics, GroupDomain, Topology};
use crate::{FabricWish, GangStrategy};

/// Hosts that a gang may use, and groups that may be launched for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    /// In ascending order; `None`: all.
    hosts: Option<Vec<HostId>>,
    /// By group: most hosts that may be launched; `None`: no limit of the pool's own.
    groups: Option<Vec<u32>>,
    /// Most hosts that may be launched altogether; `None`: no limit of the pool's own.
    pub most_new_hosts: Option<u32>,
    /// The domain that it is, and as people say it.
    pub domain_id: Option<DomainId>,
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
            most_new_hosts: self.most_new_hosts.or(other.most_new_hosts),
            domain_id: self.domain_id.or(other.domain_id),
            domain: self.domain.clone().or(other.domain.clone()),
            fabric: self.fabric.clone().or(other.fabric.clone()),
            is_fluid: self.is_fluid && other.is_fluid && self.most_new_hosts.is_none(),
        }
    }
}

/// The places that a gang may choose from.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// To be compared with each other, the best is taken.
    pub pools: Vec<Pool>,
    /// To be taken if none of them can hold the gang.
    pub otherwise: Option<Pool>,
    /// Why `otherwise` is worse, for people.
    pub drawback: &'static str,
    /// What all of the pools have in common, for people; empty if there is nothing to say.
    pub condition: String,
}

/// Present hosts by domain and by fabric, found out once.
#[derive(Debug, Default)]
pub(super) struct Sites {
    /// Hosts that this plan launches for gangs of a domain.
    pub launched: BTreeMap<DomainId, u32>,
    domains: BTreeMap<usize, BTreeMap<DomainId, Vec<HostId>>>,
    fabrics: Option<BTreeMap<FabricId, Vec<HostId>>>,
}

impl Sites {
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

/// Hosts that are nodes of the snapshot, with their index there.
fn present_nodes(board: &Board<'_>) -> impl Iterator<Item = (HostId, usize)> {
    (0..).zip(&board.world.hosts.origin).filter_map(|(host, origin)| match origin {
        Origin::Node(node) => Some((host, *node as usize)),
        Origin::New { .. } => None,
    })
}

/// Hosts that the plan launches, with their group.
fn new_hosts(board: &Board<'_>) -> impl Iterator<Item = (HostId, usize)> {
    let world = &board.world;
    (world.present..world.hosts.len()).map(|host| (host as HostId, world.hosts.group[host] as usize))
}

/// Where nodes and groups are.
pub(super) struct Map<'a> {
    pub topology: Topology<'a>,
    pub fabrics: Fabrics,
}

impl<'a> Map<'a> {
    /// Reads the snapshot.
    pub fn new(snapshot: &'a crate::Snapshot) -> Self {
        let topology = Topology::new(snapshot);
        let fabrics = Fabrics::new(snapshot, &topology);
        Map { topology, fabrics }
    }

    /// The places of a gang: one domain where its locality asks for it, one fabric where RDMA is wanted.
    pub fn places(&self, board: &Board<'_>, work: &GangWork<'_>, sites: &mut Sites) -> Places {
        let fabrics = self.fabric_pools(board, work, sites);
        let Some((label, domains)) = self.domain_pools(board, work, sites) else {
            return match (work.fabric, fabrics.is_empty()) {
                (None, _) | (Some(FabricWish::Preferred), true) => {
                    Places { otherwise: Some(Pool::everywhere()), ..Places::default() }
                }
                (Some(FabricWish::Preferred), false) => Places {
                    pools: fabrics,
                    otherwise: Some(Pool::everywhere()),
                    drawback: "no one fabric can hold it: without RDMA between all of its nodes it falls back to TCP",
                    condition: String::new(),
                },
                (Some(FabricWish::Required), _) => Places {
                    pools: fabrics,
                    condition: "all on nodes of one fabric (RDMA)".to_owned(),
                    ..Places::default()
                },
            };
        };
        let condition = format!("all in one domain of {label}");
        let both = || -> Vec<Pool> {
            domains.iter().flat_map(|domain| fabrics.iter().map(|fabric| domain.and(fabric))).collect()
        };
        match work.fabric {
            Some(FabricWish::Required) => {
                let condition = format!("{condition} and of one fabric (RDMA)");
                Places { pools: both(), condition, ..Places::default() }
            }
            // Whoever is in one domain of accelerators is close enough; what RDMA adds is not asked for by name.
            _ => Places { pools: domains, condition, ..Places::default() },
        }
    }

    fn domain_pools(&self, board: &Board<'_>, work: &GangWork<'_>, sites: &mut Sites) -> Option<(String, Vec<Pool>)> {
        let locality = work.gang.locality.as_ref().filter(|locality| locality.strategy == GangStrategy::StrictPack)?;
        if work.together == Together::One {
            // One host is one domain.
            return None;
        }
        let level = self.topology.level_of_label(&locality.label)?;
        let bound = self.topology.bound_domain(level, work.gang);
        let domains: Vec<DomainId> = match bound {
            Some(domain) => vec![domain],
            None => self.topology.domains(level).collect(),
        };
        let launched = sites.launched.clone();
        let present = sites.domains(self, board, level);
        let pools = domains.into_iter().map(|domain| {
            let present = present.get(&domain).map_or(&[][..], Vec::as_slice);
            let used = launched.get(&domain).copied().unwrap_or(0);
            self.domain_pool(board, work, level, domain, present, used)
        });
        Some((locality.label.clone(), pools.collect()))
    }

    /// A domain of a level, whatever a gang asks for.
    pub fn domain_of(
        &self,
        board: &Board<'_>,
        work: &GangWork<'_>,
        level: usize,
        domain: DomainId,
        sites: &mut Sites,
    ) -> Pool {
        let used = sites.launched.get(&domain).copied().unwrap_or(0);
        let present = sites.domains(self, board, level).get(&domain).map_or(&[][..], Vec::as_slice);
        self.domain_pool(board, work, level, domain, present, used)
    }

    fn domain_pool(
        &self,
        board: &Board<'_>,
        work: &GangWork<'_>,
        level: usize,
        domain: DomainId,
        present: &[HostId],
        used: u32,
    ) -> Pool {
        let (topology, world) = (&self.topology, &board.world);
        let mut is_fluid = true;
        let mut of_group = |group: usize| match topology.of_group(level, group) {
            GroupDomain::Pinned(pinned) if *pinned == domain => u32::MAX,
            GroupDomain::OneOf(rooms) => {
                let room = rooms.iter().find(|room| room.domain == domain).map_or(0, |room| room.room);
                is_fluid &= room == 0;
                // Pods on their way that count as being here take this room.
                let coming = present.iter().filter(|host| {
                    let is_to_come = |node: u32| !topology.is_placed(node as usize);
                    let origin = world.hosts.origin[**host as usize];
                    world.hosts.group[**host as usize] as usize == group
                        && matches!(origin, Origin::Node(node) if is_to_come(node))
                });
                // So do those that this plan launches for others, whatever their group.
                room.saturating_sub(coming.count() as u32).saturating_sub(used)
            }
            GroupDomain::Pinned(_) | GroupDomain::Own => 0,
        };
        let groups: Vec<u32> = (0..world.groups.len()).map(&mut of_group).collect();
        // A host that is launched where there are several domains may come up in any of them.
        let is_pinned =
            |group: usize| matches!(topology.of_group(level, group), GroupDomain::Pinned(pinned) if *pinned == domain);
        let launched: Vec<HostId> =
            new_hosts(board).filter(|(_, group)| is_pinned(*group)).map(|(host, _)| host).collect();
        let is_scarce = work.parts.iter().any(|part| world.shapes[part.shape as usize].is_scarce);
        let most = topology.levels().get(level).and_then(|level| level.max_hosts).filter(|_| is_scarce);
        Pool {
            most_new_hosts: most.map(|most| most.saturating_sub(topology.hosts_in(domain) + launched.len() as u32)),
            hosts: Some(present.iter().copied().chain(launched).collect()),
            groups: Some(groups),
            domain_id: Some(domain),
            domain: topology.label_value(domain),
            fabric: None,
            is_fluid: is_fluid && most.is_none(),
        }
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
        let pool = |fabric: FabricId| {
            let is_in = |group: usize| {
                let certain = wish == FabricWish::Preferred || self.fabrics.is_certain(group);
                certain && self.fabrics.group(group) == Some(fabric)
            };
            let launched = new_hosts(board).filter(|(_, group)| is_in(*group)).map(|(host, _)| host);
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
