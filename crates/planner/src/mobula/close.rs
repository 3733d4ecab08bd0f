//! Gangs with accelerators over several hosts come near each other where that costs nothing: on hosts of one domain, the
//! narrowest in which they fit, of several the one that they fill best.
//!
//! Ray itself places a gang without locality wherever it fits. So this decides what is launched and which idle hosts are
//! kept, not where Ray puts the gang among more hosts than it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::Rules;
use super::board::{Mark, Put};
use super::decide::Draft;
use super::demand::{GangWork, Part, Together};
use super::gangs::{self, Short};
use super::pools::{Map, NewHosts, Pool};
use super::slots::slots_of;
use super::world::{HostId, Origin};
use crate::topology::{DomainId, GroupDomain};
use crate::{DemandRef, NodePhase};

/// Most hosts that one plan looks at for this, counted again for each gang and level: the oldest gangs come first.
pub(super) const MAX_LOOKS: usize = 200_000;
/// Most domains of a level in which a gang is tried.
const MAX_TRIED: usize = 4;

/// How little hosts are wanted.
#[derive(Copy, Clone, Debug)]
struct Reluctance {
    /// The last alternative of the label selectors that they match.
    rank: u8,
    /// The lowest priority of a group of which something is launched.
    priority: i32,
    /// How much is placed where Ray does not run yet.
    coming: u64,
}

impl Reluctance {
    fn is_no_worse_than(self, other: Reluctance) -> bool {
        self.rank <= other.rank && self.priority >= other.priority && self.coming <= other.coming
    }
}

/// The levels at which a gang may be drawn closer, from broad to narrow.
fn levels(map: &Map<'_>, work: &GangWork<'_>) -> Range<usize> {
    let broadest = work.near.required.and_then(|required| required.level).map_or(0, |required| required + 1);
    let all = map.topology.levels().len();
    broadest..work.near.preferred.map_or(all, |preferred| preferred + 1)
}

impl<'a> Draft<'a> {
    /// Moves a gang, which was placed in `pool` since `mark`, to a narrower domain if that is no dearer and takes no hosts
    /// that are wanted less. Returns where it is then, if it was moved.
    pub(super) fn draw_closer(
        &mut self,
        rules: &Rules<'_>,
        map: &Map<'a>,
        work: &GangWork<'a>,
        pool: &Pool,
        (mark, cost): (&Mark, f64),
    ) -> Result<Option<Pool>, Short> {
        if levels(map, work).is_empty() {
            return Ok(None);
        }
        let shapes = &self.board.world.shapes;
        let wanted = work.near.preferred;
        let counts = |part: &&Part| wanted.is_some() || shapes[part.shape as usize].is_scarce;
        let hardest = work.parts.iter().filter(counts).max_by_key(|part| part.count);
        let Some(part) = hardest.filter(|_| wanted.is_some() || pool.domains.is_empty()) else { return Ok(None) };
        let used: BTreeSet<HostId> = self.board.puts[mark.puts()..].iter().flat_map(Put::range).collect();
        if used.len() < 2 {
            return Ok(None);
        }
        let new_hosts = self.board.world.hosts.len() - mark.hosts();
        let before = self.reluctance(mark);
        for level in levels(map, work).rev() {
            let of = |host: &HostId| self.labelled_domain(map, level, *host);
            let mut domains = used.iter().map(of);
            if domains.next().flatten().is_some_and(|first| domains.all(|domain| domain == Some(first))) {
                return Ok(None);
            }
            let is_known = map.topology.domains(level).next().is_some();
            if !is_known || !map.topology.levels()[level].is_nested || self.looks > MAX_LOOKS {
                continue;
            }
            self.board.back_to(mark);
            let new = NewHosts::of(&self.board);
            for domain in self.candidates(map, level, work, part, pool, cost > 0.0) {
                let close = map.domain_of(&self.board, &new, work, (level, domain), &mut self.sites).and(pool);
                let Ok(closer) = gangs::place(&mut self.board, rules, work, &close, &mut self.indices) else {
                    continue;
                };
                let is_cheap = closer <= cost && self.board.world.hosts.len() - mark.hosts() <= new_hosts;
                if is_cheap && self.reluctance(mark).is_no_worse_than(before) {
                    return Ok(Some(close));
                }
                self.board.back_to(mark);
            }
            gangs::place(&mut self.board, rules, work, pool, &mut self.indices)?;
        }
        Ok(None)
    }

    /// Says of gangs that prefer to be in one domain of a level how near they came, now that everything has its place.
    pub(super) fn say_how_near(&mut self, map: &Map<'a>) {
        let prefers = |work: &&GangWork<'_>| work.near.preferred.is_some() && self.fates[work.at as usize].is_placed;
        let mut hosts: BTreeMap<u32, BTreeSet<HostId>> =
            self.gangs.iter().filter(prefers).map(|work| (work.at, BTreeSet::new())).collect();
        if hosts.is_empty() {
            return;
        }
        for put in &self.board.puts {
            if let DemandRef::Gang { gang, .. } = put.demand
                && let Some(hosts) = hosts.get_mut(&gang)
            {
                hosts.extend(put.range());
            }
        }
        for work in &self.gangs {
            let (Some(wanted), Some(hosts)) = (work.near.preferred, hosts.get(&work.at)) else { continue };
            let one = |level: usize| {
                let mut domains = hosts.iter().map(|host| self.labelled_domain(map, level, *host));
                let first = domains.next()??;
                domains.all(|domain| domain == Some(first)).then_some((level, first))
            };
            let reached = levels(map, work).rev().find_map(one);
            let name = |level: usize| map.topology.levels().get(level).map_or("", |level| level.name.as_str());
            let fate = &mut self.fates[work.at as usize];
            fate.domain = reached.and_then(|(_, domain)| map.topology.label_value(domain)).or(fate.domain.take());
            let is_near = hosts.len() < 2 || reached.is_some_and(|(level, _)| level == wanted);
            if !is_near && fate.drawback.is_empty() {
                let or_wider =
                    if reached.is_none() && levels(map, work).len() > 1 { ", nor a wider place," } else { "" };
                fate.drawback = format!("no one {}{or_wider} is known to hold it at this cost", name(wanted));
            }
        }
    }

    /// How little the hosts are wanted on which something was placed since `mark`.
    fn reluctance(&self, mark: &Mark) -> Reluctance {
        let world = &self.board.world;
        let mut all = Reluctance { rank: 0, priority: i32::MAX, coming: 0 };
        for put in &self.board.puts[mark.puts()..] {
            let rank = world.rank(&world.shapes[put.shape as usize], world.hosts.traits(put.host).kind);
            all.rank = all.rank.max(rank.unwrap_or(u8::MAX));
            match world.node(put.host) {
                Some(node) => all.coming += u64::from(node.phase != NodePhase::Running) * put.all_taken(),
                None => {
                    let group = &world.groups[world.hosts.group[put.host as usize] as usize];
                    all.priority = all.priority.min(group.spec.priority);
                }
            }
        }
        all
    }

    /// Domains in which the hosts that are there could hold all bundles of a part, those first that it fills best; and if
    /// something has to be launched, those in which some group comes up for sure.
    fn candidates(
        &mut self,
        map: &Map<'a>,
        level: usize,
        work: &GangWork<'a>,
        part: &Part,
        pool: &Pool,
        launches: bool,
    ) -> Vec<DomainId> {
        let world = &self.board.world;
        let mut room: BTreeMap<DomainId, u64> = BTreeMap::new();
        for host in pool.hosts(world.hosts.len()) {
            self.looks += 1;
            let (slots, _) = slots_of(world, part.shape, host);
            if slots > 0
                && let Some(domain) = self.labelled_domain(map, level, host)
            {
                let slots = if work.together == Together::Apart { 1 } else { slots };
                *room.entry(domain).or_default() += u64::from(slots);
            }
        }
        let enough = room.iter().filter(|(_, room)| **room >= u64::from(part.count));
        let mut best: Vec<(u64, DomainId)> = enough.map(|(domain, room)| (*room, *domain)).collect();
        best.sort_unstable();
        let mut domains: Vec<DomainId> = best.into_iter().map(|(_, domain)| domain).take(MAX_TRIED).collect();
        if launches {
            let groups = (0..world.groups.len()).filter(|group| pool.has_group(*group));
            let pinned = groups.filter_map(|group| match map.topology.of_group(level, group) {
                GroupDomain::Pinned(domain) => Some(*domain),
                GroupDomain::OneOf(_) | GroupDomain::Own => None,
            });
            let pinned: BTreeSet<DomainId> = pinned.filter(|domain| !domains.contains(domain)).collect();
            // Where some of it can be already, less is launched.
            let mut pinned: Vec<DomainId> = pinned.into_iter().collect();
            pinned.sort_by_key(|domain| std::cmp::Reverse(room.get(domain).copied().unwrap_or(0)));
            domains.extend(pinned.into_iter().take(MAX_TRIED));
        }
        domains
    }

    /// The domain that a label names in which a host is, as far as that is known before it is there.
    fn labelled_domain(&self, map: &Map<'a>, level: usize, host: HostId) -> Option<DomainId> {
        let hosts = &self.board.world.hosts;
        let domain = match hosts.origin[host as usize] {
            Origin::Node(node) => map.topology.of_node(level, node as usize),
            Origin::New { .. } => match map.topology.of_group(level, hosts.group[host as usize] as usize) {
                GroupDomain::Pinned(domain) => *domain,
                GroupDomain::OneOf(_) | GroupDomain::Own => return None,
            },
        };
        Some(domain).filter(|domain| map.topology.is_labelled(*domain))
    }
}
