//! Placing one gang, whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::Rules;
use super::apart;
use super::board::{Board, Deal, Mark};
use super::cover::launch;
use super::demand::{GangWork, Part, Together};
use super::pools::Pool;
use super::slots::{Candidates, Members, SlotIndex, Wanted, slots_of, slots_when_grown};
use super::world::{HostId, ShapeId, World, need};

/// What of a gang found no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Short {
    /// The shape for which there was no room.
    pub shape: ShapeId,
    /// Bundles that are not on hosts that are there, by shape.
    pub left: Vec<(ShapeId, u32)>,
}

impl Short {
    /// Bundles that are not on hosts that are there.
    pub fn count(&self) -> u32 {
        self.left.iter().map(|(_, count)| *count).fold(0, u32::saturating_add)
    }
}

/// Where bundles fit, by shape.
pub(super) struct Indices {
    /// `None`: there is no index, each host is looked at.
    members: Option<Members>,
    shapes: BTreeMap<ShapeId, SlotIndex>,
    /// What was looked at to match bundles with hosts.
    looks: usize,
}

impl Indices {
    /// An index, made when it is asked for, of each shape.
    pub fn new(board: &Board<'_>, gangs: &[GangWork<'_>]) -> Self {
        Indices { members: (!gangs.is_empty()).then(|| Members::new(board)), shapes: BTreeMap::new(), looks: 0 }
    }

    /// No index at all.
    pub fn none() -> Self {
        Indices { members: None, shapes: BTreeMap::new(), looks: 0 }
    }

    /// The index of a shape, up to date.
    fn of(&mut self, board: &Board<'_>, shape: ShapeId) -> Option<ShapeIndex<'_>> {
        let mut index = ShapeIndex {
            members: self.members.as_mut()?,
            slots: self.shapes.entry(shape).or_insert_with(|| SlotIndex::new(shape)),
        };
        index.sync(board);
        Some(index)
    }
}

/// The index of one shape.
struct ShapeIndex<'i> {
    members: &'i mut Members,
    slots: &'i mut SlotIndex,
}

impl ShapeIndex<'_> {
    fn sync(&mut self, board: &Board<'_>) {
        self.members.sync(board);
        self.slots.sync(&board.world, self.members);
    }
}

/// Places all bundles of a gang within a pool and returns what the launches cost. If that can't be done, the board is as
/// before.
pub(super) fn place(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    work: &GangWork<'_>,
    pool: &Pool,
    indices: &mut Indices,
) -> Result<f64, Short> {
    let needs_none = |part: &Part| !board.world.shapes[part.shape as usize].is_scarce;
    let clean = rules.clean().filter(|_| work.parts.iter().any(needs_none));
    let placed = clean.and_then(|clean| attempt(board, &clean, work, pool, indices).ok());
    placed.map_or_else(|| attempt(board, rules, work, pool, indices), Ok)
}

/// Where a gang is tried: a pool, and what has been launched there for it.
#[derive(Copy, Clone)]
pub(super) struct Site<'p> {
    pub pool: &'p Pool,
    /// Hosts from this number on are launched for the gang.
    first_new: HostId,
}

impl Site<'_> {
    /// The hosts that its bundles may use, of so many.
    pub fn hosts(&self, len: usize) -> impl Iterator<Item = HostId> {
        let first_new = self.first_new;
        let present = self.pool.hosts(len).filter(move |host| *host < first_new);
        present.chain(first_new..len as HostId)
    }

    /// What is left of the room for new hosts.
    pub fn room(&self, room: u32, world: &World<'_>) -> u32 {
        let launched = world.hosts.len() as HostId - self.first_new;
        if room == u32::MAX { room } else { room.saturating_sub(launched) }
    }
}

fn attempt(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    work: &GangWork<'_>,
    pool: &Pool,
    indices: &mut Indices,
) -> Result<f64, Short> {
    let mark = board.mark();
    let first = part_by_part(board, rules, work, pool, indices);
    let new_hosts = board.world.hosts.len() - mark.hosts();
    if work.together != Together::Apart || work.parts.len() == 1 || (first.is_ok() && new_hosts == 0) {
        return first;
    }
    // One part may have taken the hosts that another one needs.
    board.back_to(&mark);
    let site = Site { pool, first_new: mark.hosts() as HostId };
    let joint = apart::place(board, rules, work, site, &mut indices.looks);
    let joint_hosts = board.world.hosts.len() - mark.hosts();
    match (first, joint) {
        (Err(_), Ok(cost)) => Ok(cost),
        (Ok(before), Ok(cost)) if (cost, joint_hosts) < (before, new_hosts) => Ok(cost),
        (first, joint) => {
            board.back_to(&mark);
            match (first, joint) {
                (Err(_), Err(Some(short))) | (Err(short), _) => Err(short),
                (Ok(_), _) => part_by_part(board, rules, work, pool, indices),
            }
        }
    }
}

/// Places one part after the other, the hardest first. If that can't be done, the board is as before.
fn part_by_part(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    work: &GangWork<'_>,
    pool: &Pool,
    indices: &mut Indices,
) -> Result<f64, Short> {
    let mark = board.mark();
    let mut taken = BTreeSet::new();
    let site = Site { pool, first_new: board.world.hosts.len() as HostId };
    let mut cost = 0.0;
    for part in &work.parts {
        let mut deal = Deal::new(work, part);
        let mut left = fill_there(board, rules, work, part, site, (indices, &mut deal, &mut taken));
        if left > 0 {
            let Some(launched) = launch(board, rules, work, part.shape, left, site) else {
                board.back_to(&mark);
                let left = match work.parts.len() {
                    1 => vec![(part.shape, left)],
                    _ => all_left(board, rules, work, pool, indices),
                };
                return Err(Short { shape: part.shape, left });
            };
            cost += launched.cost;
            left = fill_new(board, work, left, &launched.hosts, &mut deal, &mut taken);
        }
        debug_assert_eq!(left, 0, "what was launched holds what it was launched for");
    }
    Ok(cost)
}

/// What of all parts, by shape, is not on hosts that are there if nothing is launched. The board is as before.
fn all_left(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    work: &GangWork<'_>,
    pool: &Pool,
    indices: &mut Indices,
) -> Vec<(ShapeId, u32)> {
    let mark = board.mark();
    let mut taken = BTreeSet::new();
    let site = Site { pool, first_new: board.world.hosts.len() as HostId };
    let mut left = |part: &Part| {
        let mut deal = Deal::new(work, part);
        (part.shape, fill_there(board, rules, work, part, site, (indices, &mut deal, &mut taken)))
    };
    let all = work.parts.iter().map(&mut left).filter(|(_, left)| *left > 0).collect();
    board.back_to(&mark);
    all
}

/// Puts as many bundles of a part as possible on hosts that are there, on their way, or launched already. Returns how many are left.
fn fill_there(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    work: &GangWork<'_>,
    part: &Part,
    site: Site<'_>,
    (indices, deal, taken): (&mut Indices, &mut Deal, &mut BTreeSet<HostId>),
) -> u32 {
    // A gang that lost hosts has bundles on others still, which only a look at each host tells.
    let is_indexed = site.pool.is_everywhere() && !work.gang.rescheduling;
    let index = if is_indexed { indices.of(board, part.shape) } else { None };
    let left = match index {
        Some(index) => fill_by_index(board, rules, work, part, index, deal, taken),
        None => fill_present(board, rules, work, part, site, deal, taken),
    };
    if left > 0 { fill_grown(board, rules, work, part, (site, left), deal, taken) } else { 0 }
}

/// Notes that a gang needs the hosts on which something was put since `mark`.
pub(super) fn keep(board: &mut Board<'_>, mark: &Mark) {
    for put in &board.puts[mark.puts()..] {
        board.world.hosts.keep(put.range(), need::GANG);
    }
}

/// Puts as many bundles as possible on hosts that an index knows. Returns how many are left.
fn fill_by_index(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    work: &GangWork<'_>,
    part: &Part,
    mut index: ShapeIndex<'_>,
    deal: &mut Deal,
    taken: &mut BTreeSet<HostId>,
) -> u32 {
    let mut left = part.count;
    for wanted in index.slots.wanted() {
        if wanted.is_misuse && rules.keep_gpu_clean {
            continue;
        }
        if matches!(work.together, Together::Few | Together::One) {
            while left > 0 {
                let Some(fit) = index.slots.best_fit(index.members, wanted, left) else { break };
                left -= put_fit(board, &fit, left, deal);
                index.sync(board);
            }
            continue;
        }
        let level = index.slots.hosts(index.members, wanted, left, taken);
        let shares = match work.together {
            Together::Apart => level.into_iter().map(|alike| (alike.hosts, 1)).collect(),
            _ => many(&level, left),
        };
        left -= share_out(board, work, &shares, deal, taken);
        if left == 0 {
            break;
        }
    }
    left
}

/// Puts bundles on the first of these hosts, of which no others hold more if they don't hold all that are left; and on those
/// that follow, as long as that would be chosen again. Returns how many that are.
fn put_fit(board: &mut Board<'_>, fit: &Candidates, left: u32, deal: &mut Deal) -> u32 {
    let Candidates { hosts, slots } = fit;
    let world = &board.world;
    let alike = hosts.clone().skip(1).take_while(|host| world.are_one_kind(host - 1, *host));
    let wanted = ((left - 1) / slots).max(1);
    let most = 1 + alike.take(wanted as usize - 1).count() as u32;
    let count = (*slots).min(left);
    deal.put(board, hosts.start..hosts.start + most, count);
    most * count
}

/// So many bundles on each of these hosts.
pub(super) type Share = (Range<HostId>, u32);

/// Puts bundles on hosts, and notes which ones are taken. Returns how many that are.
fn share_out(
    board: &mut Board<'_>,
    work: &GangWork<'_>,
    shares: &[Share],
    deal: &mut Deal,
    taken: &mut BTreeSet<HostId>,
) -> u32 {
    put_shares(board, shares, deal);
    // Bundles of another shape look for other hosts.
    if work.together == Together::Apart && work.parts.len() > 1 {
        taken.extend(shares.iter().flat_map(|(hosts, _)| hosts.clone()));
    }
    shares.iter().map(|(hosts, count)| hosts.len() as u32 * count).sum()
}

/// Puts bundles on hosts.
pub(super) fn put_shares(board: &mut Board<'_>, shares: &[Share], deal: &mut Deal) {
    // Hosts of one kind that follow one another get their bundles at once.
    let world = &board.world;
    let mut ranges: Vec<Share> = Vec::with_capacity(shares.len());
    for (hosts, count) in shares {
        for host in hosts.clone() {
            match ranges.last_mut() {
                Some((last, same)) if last.end == host && same == count && world.are_one_kind(host - 1, host) => {
                    last.end += 1;
                }
                _ => ranges.push((host..host + 1, *count)),
            }
        }
    }
    for (hosts, count) in ranges {
        deal.put(board, hosts, count);
    }
}

/// A host that could take some bundles.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    wanted: Wanted,
    /// Bundles that it holds.
    slots: u32,
    host: HostId,
}

/// Puts as many bundles as possible on hosts that are there, on their way, or launched already. Returns how many are left.
fn fill_present(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    work: &GangWork<'_>,
    part: &Part,
    site: Site<'_>,
    deal: &mut Deal,
    taken: &mut BTreeSet<HostId>,
) -> u32 {
    let mut candidates = candidates(board, rules, work, part, site, taken);
    candidates.sort_unstable();
    let mut left = part.count;
    for level in candidates.chunk_by(|a, b| a.wanted == b.wanted) {
        if left == 0 {
            break;
        }
        let alone = |candidate: &Candidate| candidate.host..candidate.host + 1;
        let shares = match work.together {
            Together::Few | Together::One => few(level, left),
            Together::Many => {
                let level =
                    level.iter().map(|candidate| Candidates { hosts: alone(candidate), slots: candidate.slots });
                many(&level.collect::<Vec<_>>(), left)
            }
            Together::Apart => level.iter().take(left as usize).map(|candidate| (alone(candidate), 1)).collect(),
        };
        left -= share_out(board, work, &shares, deal, taken);
    }
    left
}

/// Puts as many bundles as possible on hosts that can grow in place: that is faster than a new pod, and costs no more.
/// Returns how many are left of so many.
fn fill_grown(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    work: &GangWork<'_>,
    part: &Part,
    (site, mut left): (Site<'_>, u32),
    deal: &mut Deal,
    taken: &mut BTreeSet<HostId>,
) -> u32 {
    let (label, world) = (own_label(work), &board.world);
    let mut hosts: Vec<(Wanted, HostId)> = Vec::new();
    for host in world.headroom.keys().copied().filter(|host| site.pool.has_host(*host) && !taken.contains(host)) {
        let (slots, wanted) = slots_when_grown(world, part.shape, host);
        let is_open = label.as_ref().is_none_or(|label| world.label(host, label).is_none());
        if slots > 0 && is_open && !(wanted.is_misuse && rules.keep_gpu_clean) {
            hosts.push((wanted, host));
        }
    }
    hosts.sort_unstable();
    for (_, host) in hosts {
        if left == 0 {
            break;
        }
        board.grow(host);
        let (slots, _) = slots_of(&board.world, part.shape, host);
        let count = if work.together == Together::Apart { 1 } else { slots.min(left) };
        deal.put(board, host..host + 1, count);
        left -= count;
        if work.together == Together::Apart {
            taken.insert(host);
        }
    }
    left
}

/// A gang that lost hosts still has bundles on others, which must not get a second one where they have to be apart: the label
/// of these.
pub(super) fn own_label(work: &GangWork<'_>) -> Option<String> {
    (work.gang.rescheduling && work.together == Together::Apart).then(|| format!("_PG_{}", work.gang.id))
}

fn candidates(
    board: &Board<'_>,
    rules: &Rules<'_>,
    work: &GangWork<'_>,
    part: &Part,
    site: Site<'_>,
    taken: &BTreeSet<HostId>,
) -> Vec<Candidate> {
    let world = &board.world;
    let own_label = own_label(work);
    let mut candidates = Vec::new();
    for host in site.hosts(world.hosts.len()) {
        let (slots, wanted) = slots_of(world, part.shape, host);
        if slots == 0 || (wanted.is_misuse && rules.keep_gpu_clean) || taken.contains(&host) {
            continue;
        }
        if own_label.as_ref().is_none_or(|label| world.label(host, label).is_none()) {
            candidates.push(Candidate { wanted, slots: slots.min(part.count), host });
        }
    }
    candidates
}

/// As few hosts as possible: the smallest that holds all, else the largest, and so on. `level` is sorted by slots.
fn few(level: &[Candidate], mut left: u32) -> Vec<Share> {
    let mut shares = Vec::new();
    let mut rest = level;
    while left > 0 {
        let fits = rest.partition_point(|candidate| candidate.slots < left);
        let Some(candidate) = rest.get(fits).or(rest.last()) else { break };
        let count = candidate.slots.min(left);
        shares.push((candidate.host..candidate.host + 1, count));
        left -= count;
        // If it held all, this was the last; else it was the largest, which stands at the end.
        rest = &rest[..rest.len() - 1];
    }
    shares
}

/// As many hosts as possible, evenly: one bundle on each in turn, as long as it has room.
fn many(level: &[Candidates], mut left: u32) -> Vec<Share> {
    let mut whole = 0;
    loop {
        let open = level.iter().filter(|alike| alike.slots > whole).map(|alike| alike.hosts.len() as u32).sum::<u32>();
        if open == 0 || open > left {
            break;
        }
        (whole, left) = (whole + 1, left - open);
    }
    let mut shares: Vec<Share> = Vec::with_capacity(level.len() + 1);
    for Candidates { hosts, slots } in level {
        let more = if *slots > whole { left.min(hosts.len() as u32) } else { 0 };
        left -= more;
        let split = hosts.start + more;
        let parts = [(hosts.start..split, whole + 1), (split..hosts.end, whole.min(*slots))];
        shares.extend(parts.into_iter().filter(|(hosts, count)| !hosts.is_empty() && *count > 0));
    }
    shares
}

/// Puts bundles on the hosts that were launched for them. Returns how many are left.
fn fill_new(
    board: &mut Board<'_>,
    work: &GangWork<'_>,
    left: u32,
    hosts: &[Candidates],
    deal: &mut Deal,
    taken: &mut BTreeSet<HostId>,
) -> u32 {
    let shares = if work.together == Together::Many { many(hosts, left) } else { in_turn(hosts, left) };
    left - share_out(board, work, &shares, deal, taken)
}

/// Each host full, one after the other.
fn in_turn(level: &[Candidates], mut left: u32) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::with_capacity(level.len() + 1);
    for Candidates { hosts, slots } in level {
        let full = (left / slots).min(hosts.len() as u32);
        left -= full * slots;
        let split = hosts.start + full;
        let rest = if split < hosts.end { std::mem::take(&mut left) } else { 0 };
        let parts = [(hosts.start..split, *slots), (split..(split + 1).min(hosts.end), rest)];
        shares.extend(parts.into_iter().filter(|(hosts, count)| !hosts.is_empty() && *count > 0));
    }
    shares
}
