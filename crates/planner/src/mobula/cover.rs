//! What is launched for equal bundles of a gang, as cheaply as can be seen.

use std::collections::BTreeSet;

use super::Rules;
use super::board::Board;
use super::demand::{GangWork, Together};
use super::gangs::Site;
use super::lots::Level;
use super::slots::Candidates;
use super::world::{ShapeId, World};

/// Hosts that were launched for a part.
pub(super) struct Launched {
    pub cost: f64,
    pub hosts: Vec<Candidates>,
}

/// A group that could be launched.
#[derive(Copy, Clone, Debug)]
pub(super) struct Choice {
    pub group: usize,
    /// Position among the alternatives of the label selectors.
    pub rank: u8,
    /// Bundles that one host holds.
    pub slots: u32,
    /// Hosts in a replica.
    pub hosts: u32,
    /// Bundles that a replica holds.
    pub in_replica: u64,
    /// Cost of a replica.
    pub cost: f64,
    /// Replicas that may be launched.
    pub room: u64,
}

impl Choice {
    /// How good it is by labels, then by the user's priority of groups.
    pub fn level(&self, world: &World<'_>) -> Level {
        (self.rank, -i64::from(world.groups[self.group].spec.priority))
    }
}

/// Launches what holds `left` more bundles, as cheaply as can be seen. `None`: there is no room for it; part of it may be launched.
pub(super) fn launch(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    work: &GangWork<'_>,
    shape: ShapeId,
    left: u32,
    site: Site<'_>,
) -> Option<Launched> {
    let mark = board.mark();
    launch_by(board, rules, work, (shape, left), (site, Preference::InTurn)).or_else(|| {
        // What is preferred may have taken from a quota what others would have made more of.
        let is_shared = board.world.hosts.len() > mark.hosts();
        board.back_to(&mark);
        is_shared.then(|| launch_by(board, rules, work, (shape, left), (site, Preference::Together)))?
    })
}

/// How levels of preference are opened: what labels say, then the user's priority of groups.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Preference {
    /// The better ones are used up before a worse one is opened for the rest.
    InTurn,
    /// A worse one is opened together with the better ones, all as equals.
    Together,
}

fn launch_by(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    work: &GangWork<'_>,
    (shape, left): (ShapeId, u32),
    (site, preference): (Site<'_>, Preference),
) -> Option<Launched> {
    let mut launched = Launched { cost: 0.0, hosts: Vec::new() };
    let mut left = u64::from(left);
    while left > 0 {
        for (choice, replicas) in best_cover(board, rules, work, (shape, left as u32), (site, preference))? {
            // Groups share quotas and the cluster's maximum: what one takes, another one may lack.
            let fits = replicas.min(board.limits.room(&board.world, choice.group));
            let first = board.launch(choice.group, fits);
            launched.cost += choice.cost * fits as f64;
            let count = fits as u32 * choice.hosts;
            launched.hosts.push(Candidates { hosts: first..first + count, slots: choice.slots });
            left = left.saturating_sub(fits * choice.in_replica);
            if fits < replicas {
                break;
            }
        }
    }
    Some(launched)
}

/// What to launch for `left` more bundles, each group by itself within its limits, and the first one in any case.
fn best_cover(
    board: &Board<'_>,
    rules: &Rules<'_>,
    work: &GangWork<'_>,
    (shape, left): (ShapeId, u32),
    (site, preference): (Site<'_>, Preference),
) -> Option<Vec<(Choice, u64)>> {
    let most_hosts = site.room(site.pool.most_new_hosts.unwrap_or(u32::MAX), &board.world);
    let choices = choices(board, rules, work, shape, left, site);
    let levels: BTreeSet<Level> = choices.iter().map(|choice| choice.level(&board.world)).collect();
    let open = |is_open: &dyn Fn(Level) -> bool| -> Vec<Choice> {
        choices.iter().filter(|choice| is_open(choice.level(&board.world))).copied().collect()
    };
    let (many, need) = (work.together == Together::Many, u64::from(left));
    let in_turn = || cover_in_turn(levels.iter().map(|level| open(&|other| other == *level)), need, many, most_hosts);
    let together = || levels.iter().find_map(|worst| cover(&open(&|level| level <= *worst), need, many, most_hosts));
    match preference {
        // A domain may hold so few hosts that only those of a worse level hold enough.
        Preference::InTurn => in_turn().or_else(together),
        Preference::Together => together(),
    }
}

/// Replicas of levels of preference, the best first: all that there is of one, and of the next what is left then.
fn cover_in_turn(
    levels: impl Iterator<Item = Vec<Choice>>,
    need: u64,
    many: bool,
    most_hosts: u32,
) -> Option<Vec<(Choice, u64)>> {
    let (mut all, mut left, mut hosts) = (Vec::new(), need, most_hosts);
    for choices in levels {
        if let Some(rest) = cover(&choices, left, many, hosts) {
            all.extend(rest);
            return Some(all);
        }
        for choice in choices {
            let most = left.div_ceil(choice.in_replica).min(u64::from(hosts / choice.hosts));
            let replicas = most.min(choice.room);
            if replicas > 0 {
                all.push((choice, replicas));
                left = left.saturating_sub(replicas * choice.in_replica);
                hosts -= replicas as u32 * choice.hosts;
            }
        }
    }
    (left == 0).then_some(all)
}

/// What could be launched for `left` bundles of a shape.
pub(super) fn choices(
    board: &Board<'_>,
    rules: &Rules<'_>,
    work: &GangWork<'_>,
    shape: ShapeId,
    left: u32,
    site: Site<'_>,
) -> Vec<Choice> {
    let world = &board.world;
    let pool = site.pool;
    let most_hosts = site.room(pool.most_new_hosts.unwrap_or(u32::MAX), world);
    let shape = &world.shapes[shape as usize];
    let mut choices = Vec::new();
    let all_slots = world.slots_of_groups(shape);
    for (at, group) in world.groups.iter().enumerate() {
        let is_misuse = group.is_scarce && !shape.is_scarce;
        if group.spec.is_head || !pool.has_group(at) || (is_misuse && rules.keep_gpu_clean) {
            continue;
        }
        let slots = all_slots[at].min(i64::from(left)).max(0) as u32;
        let room =
            board.limits.room(world, at).min(u64::from(site.room(pool.room(at), world).min(most_hosts) / group.hosts));
        let (Some(rank), 1.., 1..) = (world.rank(shape, group.kind), slots, room) else {
            continue;
        };
        let slots = if matches!(work.together, Together::Apart | Together::One) { 1 } else { slots };
        let in_replica = u64::from(slots) * u64::from(group.hosts);
        let cost = rules.prices.cost[at] * f64::from(group.hosts);
        choices.push(Choice { group: at, rank, slots, hosts: group.hosts, in_replica, cost, room });
    }
    // The best bundle for the money first.
    choices.sort_by(|a, b| (a.cost * b.in_replica as f64).total_cmp(&(b.cost * a.in_replica as f64)));
    choices
}

/// Replicas that together hold `need` bundles, as cheaply as can be seen; `None`: there is not enough room. `choices` are
/// sorted by what a bundle costs. Of equal cost, `many` prefers more hosts, else fewer.
fn cover(choices: &[Choice], need: u64, many: bool, most_hosts: u32) -> Option<Vec<(Choice, u64)>> {
    let mut best = Best { many, most_hosts: u64::from(most_hosts), key: None, filled: 0, last: None };
    // Full replicas of the cheapest first, and what is left by any one group: with none, one, two… groups filled.
    let mut filled: Vec<(Choice, u64)> = Vec::new();
    let (mut cost, mut hosts, mut left) = (0.0, 0, need);
    best.finish(choices, &filled, (cost, hosts, left));
    for choice in choices {
        let full = (left / choice.in_replica).min(choice.room);
        if full > 0 {
            filled.push((*choice, full));
            left -= full * choice.in_replica;
            cost += choice.cost * full as f64;
            hosts += full * u64::from(choice.hosts);
            best.finish(choices, &filled, (cost, hosts, left));
        }
    }
    if best.key.is_some() {
        filled.truncate(best.filled);
        if let Some((last, replicas)) = best.last {
            match filled.iter_mut().find(|(choice, _)| choice.group == last.group) {
                Some((_, count)) => *count += replicas,
                None => filled.push((last, replicas)),
            }
        }
        return Some(filled);
    }
    // Where room is short everywhere: all that there is, one group after the other.
    let (mut all, mut left, mut hosts) = (Vec::new(), need, 0);
    for choice in choices {
        let replicas = left.div_ceil(choice.in_replica).min(choice.room);
        if replicas > 0 {
            all.push((*choice, replicas));
            left = left.saturating_sub(replicas * choice.in_replica);
            hosts += replicas * u64::from(choice.hosts);
        }
    }
    (left == 0 && hosts <= best.most_hosts).then_some(all)
}

/// The best way to finish that was seen.
struct Best {
    many: bool,
    most_hosts: u64,
    /// Its cost and hosts.
    key: Option<(f64, u64)>,
    /// How many groups are filled before.
    filled: usize,
    /// The group that takes the rest, and its replicas.
    last: Option<(Choice, u64)>,
}

impl Best {
    /// Looks at `filled` (with its cost, its hosts, and what it leaves), the rest taken by one group, whichever it is.
    fn finish(&mut self, choices: &[Choice], filled: &[(Choice, u64)], (cost, hosts, left): (f64, u64, u64)) {
        if left == 0 {
            return self.offer(filled.len(), None, (cost, hosts));
        }
        for choice in choices {
            let used =
                filled.iter().find(|(other, _)| other.group == choice.group).map_or(0, |(_, replicas)| *replicas);
            let replicas = left.div_ceil(choice.in_replica);
            if used + replicas <= choice.room {
                let key = (cost + choice.cost * replicas as f64, hosts + replicas * u64::from(choice.hosts));
                self.offer(filled.len(), Some((*choice, replicas)), key);
            }
        }
    }

    fn offer(&mut self, filled: usize, last: Option<(Choice, u64)>, (cost, hosts): (f64, u64)) {
        let is_better = self.key.is_none_or(|(best_cost, best_hosts)| {
            let more_or_fewer = if self.many { best_hosts.cmp(&hosts) } else { hosts.cmp(&best_hosts) };
            cost.total_cmp(&best_cost).then(more_or_fewer).is_lt()
        });
        if hosts <= self.most_hosts && is_better {
            (self.key, self.filled, self.last) = (Some((cost, hosts)), filled, last);
        }
    }
}
