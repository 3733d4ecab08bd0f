//! Which of many domains have room for a gang at all, before it is tried there.

use std::collections::{BTreeMap, BTreeSet};

use super::board::Board;
use super::demand::{GangWork, Together};
use super::stocks::StockId;
use super::world::{HostId, ShapeId, World};
use crate::topology::{DomainId, GroupDomain, Topology};

/// So few domains are all tried.
const FEW: usize = 8;

/// How many bundles of a shape hosts hold: found out once a stock, of which there are far fewer.
#[derive(Debug, Default)]
pub(super) struct Slots {
    by_stock: BTreeMap<ShapeId, Vec<u32>>,
}

impl Slots {
    /// By stock: how many bundles its hosts hold, as far as labels and accelerators allow.
    fn of(&mut self, world: &World<'_>, shape: ShapeId) -> &[u32] {
        let known = self.by_stock.entry(shape).or_default();
        let (of, stocks) = (&world.shapes[shape as usize], &world.hosts.stocks);
        for stock in known.len()..stocks.len() {
            let is_allowed = world.rank(of, stocks.traits(stock as StockId).kind).is_some();
            let slots = if is_allowed { stocks.slots(stock as StockId, of) } else { 0 };
            known.push(u32::try_from(slots.max(0)).unwrap_or(u32::MAX));
        }
        known
    }
}

/// The domains of a level in which a gang may find a place: where something may be launched, and where the hosts that are there
/// have room for it. If there are none, the one with the most room, so that it can be said what is missing.
pub(super) fn roomy(
    topology: &Topology<'_>,
    board: &Board<'_>,
    work: &GangWork<'_>,
    (level, domains): (usize, Vec<DomainId>),
    hosts: &BTreeMap<DomainId, Vec<HostId>>,
    slots: &mut Slots,
) -> Vec<DomainId> {
    // What can grow has more room than is free.
    if domains.len() <= FEW || !board.world.headroom.is_empty() {
        return domains;
    }
    let may_grow = growing(topology, board, level);
    let mut found: Vec<DomainId> = Vec::new();
    let mut fullest: Option<(u64, DomainId)> = None;
    for domain in domains {
        let hosts = hosts.get(&domain).map_or(&[][..], Vec::as_slice);
        let room = room(board, work, hosts, slots);
        if may_grow.contains(&domain) || room == u64::MAX {
            found.push(domain);
        } else if found.is_empty() && fullest.is_none_or(|(most, _)| room > most) {
            fullest = Some((room, domain));
        }
    }
    if found.is_empty() { fullest.into_iter().map(|(_, domain)| domain).collect() } else { found }
}

/// Domains of a level in which some group may be launched, or is.
fn growing(topology: &Topology<'_>, board: &Board<'_>, level: usize) -> BTreeSet<DomainId> {
    let mut domains = BTreeSet::new();
    for group in 0..board.world.groups.len() {
        // What was launched for others may have room.
        if board.limits.room(&board.world, group) == 0 && board.world.groups[group].launched == 0 {
            continue;
        }
        match topology.of_group(level, group) {
            GroupDomain::Pinned(domain) => domains.extend([*domain]),
            GroupDomain::OneOf(rooms) => domains.extend(rooms.iter().map(|room| room.domain)),
            GroupDomain::Own => {}
        }
    }
    domains
}

/// Bundles of the first part that does not fit on hosts for which there is room; `u64::MAX`: all parts fit, each by itself.
fn room(board: &Board<'_>, work: &GangWork<'_>, hosts: &[HostId], slots: &mut Slots) -> u64 {
    for part in &work.parts {
        let of_stock = slots.of(&board.world, part.shape);
        let most = if work.together == Together::Apart { 1 } else { u32::MAX };
        let mut room = 0_u64;
        for host in hosts {
            let slots = of_stock[board.world.hosts.stock[*host as usize] as usize];
            room += u64::from(slots.min(most));
            if room >= u64::from(part.count) {
                break;
            }
        }
        if room < u64::from(part.count) {
            return room;
        }
    }
    u64::MAX
}
