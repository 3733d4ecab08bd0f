//! Gangs with accelerators over several hosts come near each other where that costs nothing: on hosts of one domain, the
//! narrowest in which they fit, of several the one that they fill best.
//!
//! Ray itself places a gang without locality wherever it fits. So this decides what is launched and which idle hosts are
//! kept, not where Ray puts the gang among more hosts than it needs.

use std::collections::{BTreeMap, BTreeSet};

use super::Rules;
use super::board::{Mark, Put};
use super::decide::Draft;
use super::demand::{GangWork, Part, Together};
use super::gangs::{self, Short};
use super::pools::{Map, Pool};
use super::slots::slots_of;
use super::world::{HostId, Origin};
use crate::NodePhase;
use crate::topology::{DomainId, GroupDomain};

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

impl<'a> Draft<'a> {
    /// Moves a gang, which was placed in `pool` since `mark`, to a narrower domain if that is no dearer and takes no hosts
    /// that are wanted less. Returns what its launches cost.
    pub(super) fn draw_closer(
        &mut self,
        rules: &Rules<'_>,
        map: &Map<'a>,
        work: &GangWork<'a>,
        pool: &Pool,
        (mark, cost): (&Mark, f64),
    ) -> Result<f64, Short> {
        let shapes = &self.board.world.shapes;
        let hardest =
            work.parts.iter().filter(|part| shapes[part.shape as usize].is_scarce).max_by_key(|part| part.count);
        let Some(part) = hardest.filter(|_| pool.domain_id.is_none()) else { return Ok(cost) };
        let used: BTreeSet<HostId> = self.board.puts[mark.puts()..].iter().flat_map(Put::range).collect();
        if used.len() < 2 {
            return Ok(cost);
        }
        let new_hosts = self.board.world.hosts.len() - mark.hosts();
        let before = self.reluctance(mark);
        for level in (0..map.topology.levels().len()).rev() {
            let of = |host: &HostId| self.labelled_domain(map, level, *host);
            let mut domains = used.iter().map(of);
            if domains.next().flatten().is_some_and(|first| domains.all(|domain| domain == Some(first))) {
                return Ok(cost);
            }
            let is_known = map.topology.domains(level).next().is_some();
            if !is_known || !map.topology.levels()[level].is_nested || self.looks > MAX_LOOKS {
                continue;
            }
            self.board.back_to(mark);
            for domain in self.candidates(map, level, work, part, pool, cost > 0.0) {
                let close = map.domain_of(&self.board, work, level, domain, &mut self.sites).and(pool);
                let Ok(closer) = gangs::place(&mut self.board, rules, work, &close, &mut self.indices) else {
                    continue;
                };
                let is_cheap = closer <= cost && self.board.world.hosts.len() - mark.hosts() <= new_hosts;
                if is_cheap && self.reluctance(mark).is_no_worse_than(before) {
                    return Ok(closer);
                }
                self.board.back_to(mark);
            }
            gangs::place(&mut self.board, rules, work, pool, &mut self.indices)?;
        }
        Ok(cost)
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
