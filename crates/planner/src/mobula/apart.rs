//! Bundles of several kinds, each on a host of its own.
//!
//! Taken kind by kind, one kind may take the very hosts that only another one could do with. So all kinds are matched with all
//! hosts at once: those that are there first, then those that can grow, and for the rest those that could be launched.

use std::collections::BTreeMap;

use super::Rules;
use super::board::{Board, Deal};
use super::cover::choices;
use super::demand::GangWork;
use super::gangs::{Short, Site, own_label, put_shares};
use super::lots::Level;
use super::matching::{Bin, Matching, Weight, matching};
use super::slots::{slots_of, slots_when_grown};
use super::stocks::StockId;
use super::world::HostId;
use crate::quick_hash::Index;

/// Most kinds of bundles that are matched at once.
const MAX_KINDS: usize = 16;
/// Most hosts and arcs that are looked at for one plan; the oldest gangs come first.
pub(super) const MAX_LOOKS: usize = 300_000;
/// Most times that fewer replicas of a group are tried.
const MAX_FEWER: usize = 32;
/// Most times that it is matched again because limits are shared by groups.
const MAX_SHARED: usize = 8;
/// The price of the dearest host, in steps in which prices are compared.
const STEPS: f64 = (1_u64 << 53) as f64 * (1_u64 << 20) as f64;

/// How one bundle is on a host of some kind.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    is_grown: bool,
    /// How little the host is wanted: label rank, accelerators that are not needed, Ray not running yet.
    reluctance: i128,
    /// How many more bundles it could hold, roughly: larger ones are left for others.
    size: u32,
}

/// By kind of bundle: how it is on a host; `None`: it does not fit.
type Fits = Vec<Option<Fit>>;

/// Where the hosts of a bin come from.
#[derive(Clone, Debug)]
enum Source {
    There(Vec<HostId>),
    Group {
        group: usize,
        /// Hosts in a replica.
        hosts: u32,
        /// Cost of a replica.
        cost: f64,
    },
}

/// What the bundles of a gang are matched with.
struct Ground {
    counts: Vec<u32>,
    bins: Vec<Bin>,
    sources: Vec<Source>,
    most_new_hosts: u32,
}

/// A matching, and what must be launched for it.
struct Found {
    matching: Matching,
    /// How bad it is: whether there are too many new hosts, what it weighs but for money, then cost and hosts in whole replicas.
    key: (bool, [i128; 3], f64, u64),
}

/// Places all bundles and returns what the launches cost. If that can't be done, it is said what is short of hosts (`None`:
/// nothing was found out), and the board is to be taken back.
pub(super) fn place(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    work: &GangWork<'_>,
    site: Site<'_>,
    looks: &mut usize,
) -> Result<f64, Option<Short>> {
    if work.parts.len() > MAX_KINDS || *looks > MAX_LOOKS {
        return Err(None);
    }
    let mut ground = Ground::new(board, rules, work, site);
    *looks += board.world.hosts.len();
    let mark = board.mark();
    for _ in 0..MAX_SHARED {
        if *looks > MAX_LOOKS {
            break;
        }
        let found = ground.best(looks).map_err(|matching| matching.map(|it| ground.short(work, &it)))?;
        if let Some((cost, new_hosts)) = ground.launch(board, &found.matching) {
            ground.put(board, work, found.matching, new_hosts);
            return Ok(cost);
        }
        board.back_to(&mark);
    }
    Err(None)
}

impl Ground {
    fn new(board: &Board<'_>, rules: &Rules<'_>, work: &GangWork<'_>, site: Site<'_>) -> Self {
        let mut ground = Ground {
            counts: work.parts.iter().map(|part| part.count).collect(),
            bins: Vec::new(),
            sources: Vec::new(),
            most_new_hosts: site.pool.most_new_hosts.unwrap_or(u32::MAX),
        };
        ground.add_hosts(board, rules, work, site);
        ground.add_groups(board, rules, work, site);
        ground
    }

    fn add_hosts(&mut self, board: &Board<'_>, rules: &Rules<'_>, work: &GangWork<'_>, site: Site<'_>) {
        let world = &board.world;
        let own_label = own_label(work);
        let all: u32 = self.counts.iter().sum();
        let mut known: Index<StockId, Option<usize>> = Index::default();
        let mut number_of: BTreeMap<Fits, usize> = BTreeMap::new();
        let mut alike: Vec<Vec<HostId>> = Vec::new();
        let mut number = |fits: Fits| {
            let next = number_of.len();
            fits.iter().any(Option::is_some).then(|| *number_of.entry(fits).or_insert(next))
        };
        let fits = |host: HostId| -> Fits {
            let fit = |part: &super::demand::Part| {
                let (now, wanted) = slots_of(world, part.shape, host);
                let (slots, wanted) = if now > 0 { (now, wanted) } else { slots_when_grown(world, part.shape, host) };
                let reluctance =
                    i128::from(wanted.rank) << 2 | i128::from(wanted.is_misuse) << 1 | i128::from(wanted.is_coming);
                let is_open = slots > 0 && !(wanted.is_misuse && rules.keep_gpu_clean);
                is_open.then(|| Fit { is_grown: now == 0, reluctance, size: slots.ilog2() })
            };
            work.parts.iter().map(fit).collect()
        };
        for host in site.hosts(world.hosts.len()) {
            let at = host as usize;
            if world.hosts.is_given_up[at] {
                continue;
            }
            let bin = match world.headroom.contains_key(&host) {
                true => number(fits(host)),
                false => *known.entry(world.hosts.stock[at]).or_insert_with(|| number(fits(host))),
            };
            if let Some(bin) = bin
                && own_label.as_ref().is_none_or(|label| world.label(host, label).is_none())
            {
                alike.resize_with(alike.len().max(bin + 1), Vec::new);
                if alike[bin].len() < all as usize {
                    alike[bin].push(host);
                }
            }
        }
        let mut fits: Vec<(Fits, usize)> = number_of.into_iter().collect();
        fits.retain(|(_, number)| alike.get(*number).is_some_and(|hosts| !hosts.is_empty()));
        for (fits, number) in fits {
            let weight = |fit: Fit| -> Weight { [0, i128::from(fit.is_grown), fit.reluctance, 0, fit.size.into()] };
            let hosts = std::mem::take(&mut alike[number]);
            let weights = fits.into_iter().map(|fit| fit.map(weight)).collect();
            self.bins.push(Bin { weights, hosts: hosts.len() as u32 });
            self.sources.push(Source::There(hosts));
        }
    }

    fn add_groups(&mut self, board: &Board<'_>, rules: &Rules<'_>, work: &GangWork<'_>, site: Site<'_>) {
        let all: u32 = self.counts.iter().sum();
        let by_part = work.parts.iter().map(|part| choices(board, rules, work, part.shape, part.count, site));
        let by_part: Vec<_> = by_part.collect();
        let mut levels: Vec<Level> = by_part.iter().flatten().map(|choice| choice.level(&board.world)).collect();
        levels.sort_unstable();
        levels.dedup();
        let dearest = rules.prices.cost.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let mut bin_of: BTreeMap<usize, usize> = BTreeMap::new();
        for (kind, choice) in by_part.iter().enumerate().flat_map(|(kind, of)| of.iter().map(move |of| (kind, of))) {
            let bin = *bin_of.entry(choice.group).or_insert_with(|| {
                let hosts =
                    choice.room.saturating_mul(choice.hosts.into()).min(all.next_multiple_of(choice.hosts).into());
                self.bins.push(Bin { weights: vec![None; self.counts.len()], hosts: hosts as u32 });
                self.sources.push(Source::Group { group: choice.group, hosts: choice.hosts, cost: choice.cost });
                self.bins.len() - 1
            });
            let level = levels.partition_point(|level| *level < choice.level(&board.world)) as i128;
            let money = (choice.cost / f64::from(choice.hosts) / dearest * STEPS) as i128;
            self.bins[bin].weights[kind] = Some([1, 0, level, money, 0]);
        }
    }

    /// The best that is found. Of replicas of several hosts some may stay empty: then it is tried with fewer of a group.
    ///
    /// # Errors
    /// The matching that is not whole; `None`: none was found with what may still be looked at.
    fn best(&mut self, looks: &mut usize) -> Result<Found, Option<Matching>> {
        let (first, is_whole) = self.match_with(None, looks).ok_or(None)?;
        if !is_whole {
            return Err(Some(first.matching));
        }
        let mut best = first;
        let mut tries = 0;
        while self.has_empty(&best.matching) {
            let mut better: Option<(Found, usize, u32)> = None;
            for (bin, hosts) in self.used_groups(&best.matching) {
                let replicas = best.matching.in_bin(bin).div_ceil(hosts);
                for most in [0, (replicas - 1) * hosts] {
                    if tries == MAX_FEWER {
                        break;
                    }
                    tries += 1;
                    let Some((other, is_whole)) = self.match_with(Some((bin, most)), looks) else { break };
                    let is_better = |than: &Found| other.key < than.key;
                    if is_whole && is_better(&best) && better.as_ref().is_none_or(|(better, ..)| is_better(better)) {
                        better = Some((other, bin, most));
                    }
                }
            }
            let Some((found, bin, most)) = better else { break };
            self.bins[bin].hosts = most;
            best = found;
        }
        if best.key.0 { Err(Some(best.matching)) } else { Ok(best) }
    }

    /// The bins of groups that are used, with the hosts of a replica: those of whose last replica some host stays empty first, then
    /// the dearest, for not all may be tried.
    fn used_groups(&self, matching: &Matching) -> Vec<(usize, u32)> {
        let mut bins: Vec<(bool, f64, usize, u32)> = (0..self.bins.len())
            .filter_map(|bin| match (&self.sources[bin], matching.in_bin(bin)) {
                (Source::Group { hosts, cost, .. }, used) if used > 0 => {
                    Some((used.is_multiple_of(*hosts), *cost, bin, *hosts))
                }
                _ => None,
            })
            .collect();
        bins.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(&b.2)));
        bins.into_iter().map(|(.., bin, hosts)| (bin, hosts)).collect()
    }

    /// A matching, if so many hosts of a bin are used at most, and whether it is whole. `None`: there is too much to look at.
    fn match_with(&mut self, limit: Option<(usize, u32)>, looks: &mut usize) -> Option<(Found, bool)> {
        let before = limit.map(|(bin, most)| (bin, std::mem::replace(&mut self.bins[bin].hosts, most)));
        let left = MAX_LOOKS.saturating_sub(*looks);
        let matching = matching(&self.counts, &self.bins, left);
        if let Some((bin, hosts)) = before {
            self.bins[bin].hosts = hosts;
        }
        let Some(matching) = matching else {
            *looks = MAX_LOOKS + 1;
            return None;
        };
        *looks += matching.work;
        let is_whole = matching.left.iter().all(|left| *left == 0);
        let [new, grown, preference, ..] = matching.weight(&self.bins);
        let cost = self.launches(&matching).map(|(_, _, replicas, cost)| cost * f64::from(replicas)).sum();
        let new_hosts = self.new_hosts(&matching);
        let key = (new_hosts > self.most_new_hosts.into(), [new, grown, preference], cost, new_hosts);
        Some((Found { matching, key }, is_whole))
    }

    /// Of each group that is used: its bin, its number, how many replicas, and what one costs.
    fn launches<'g>(&'g self, matching: &'g Matching) -> impl Iterator<Item = (usize, usize, u32, f64)> + 'g {
        self.sources.iter().enumerate().filter_map(|(bin, source)| match source {
            Source::Group { group, hosts, cost } => {
                let replicas = matching.in_bin(bin).div_ceil(*hosts);
                (replicas > 0).then_some((bin, *group, replicas, *cost))
            }
            Source::There(_) => None,
        })
    }

    fn new_hosts(&self, matching: &Matching) -> u64 {
        let hosts = |bin: usize| match self.sources[bin] {
            Source::Group { hosts, .. } => u64::from(hosts),
            Source::There(_) => 0,
        };
        self.launches(matching).map(|(bin, _, replicas, _)| u64::from(replicas) * hosts(bin)).sum()
    }

    /// Whether some host that would be launched stays empty.
    fn has_empty(&self, matching: &Matching) -> bool {
        let used: u64 = self.launches(matching).map(|(bin, ..)| u64::from(matching.in_bin(bin))).sum();
        self.new_hosts(matching) > used
    }

    /// Launches what is needed; returns what it costs, and the first host of each bin. `None`: groups share a limit, and there
    /// is less room than each of them has alone, which is noted.
    fn launch(&mut self, board: &mut Board<'_>, matching: &Matching) -> Option<(f64, BTreeMap<usize, HostId>)> {
        let launches: Vec<_> = self.launches(matching).collect();
        let (mut sum, mut first) = (0.0, BTreeMap::new());
        for (bin, group, replicas, cost) in launches {
            let room = board.limits.room(&board.world, group);
            if room < u64::from(replicas) {
                self.bins[bin].hosts = room as u32 * board.world.groups[group].hosts;
                return None;
            }
            first.insert(bin, board.launch(group, replicas.into()));
            sum += cost * f64::from(replicas);
        }
        Some((sum, first))
    }

    /// Puts all bundles where they are to be.
    fn put(mut self, board: &mut Board<'_>, work: &GangWork<'_>, matching: Matching, first: BTreeMap<usize, HostId>) {
        for (bin, first) in first {
            self.sources[bin] = Source::There((first..first + self.bins[bin].hosts).collect());
        }
        let mut used = vec![0; self.bins.len()];
        for (kind, (part, of_kind)) in work.parts.iter().zip(matching.bundles).enumerate() {
            let mut deal = Deal::new(work, part);
            let mut hosts: Vec<HostId> = Vec::new();
            for (bin, count) in of_kind.into_iter().enumerate().filter(|(_, count)| *count > 0) {
                let Source::There(all) = &self.sources[bin] else { continue };
                let next = &all[used[bin]..used[bin] + count as usize];
                used[bin] += count as usize;
                if self.bins[bin].weights[kind].is_some_and(|weight| weight[1] > 0) {
                    next.iter().for_each(|host| board.grow(*host));
                }
                hosts.extend(next);
            }
            hosts.sort_unstable();
            let shares: Vec<_> = hosts.into_iter().map(|host| (host..host + 1, 1)).collect();
            put_shares(board, &shares, &mut deal);
        }
    }

    /// What is short of hosts: all that is not on hosts that are there.
    fn short(&self, work: &GangWork<'_>, matching: &Matching) -> Short {
        let is_new = |bin: &usize| matches!(self.sources[*bin], Source::Group { .. });
        let lacks = |kind: usize| -> u32 {
            let new = (0..self.bins.len()).filter(is_new).map(|bin| matching.bundles[kind][bin]);
            matching.left[kind] + new.sum::<u32>()
        };
        let kinds = 0..work.parts.len();
        let left = kinds.clone().map(|kind| (work.parts[kind].shape, lacks(kind))).filter(|(_, count)| *count > 0);
        let without = kinds.max_by_key(|kind| (matching.left[*kind], std::cmp::Reverse(*kind))).unwrap_or(0);
        Short { shape: work.parts[without].shape, left: left.collect() }
    }
}
