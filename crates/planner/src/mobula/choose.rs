//! Which of several places a gang takes.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::Rules;
use super::board::{Mark, Put};
use super::decide::{Draft, MAX_RETRIED};
use super::demand::GangWork;
use super::gangs::{self, Short};
use super::pools::Pool;
use super::repack::Repacked;
use super::world::HostId;

/// Which of several places a gang takes, if it costs the same in all of them.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Choosing {
    /// Where it takes the least of hosts with accelerators that it does not need.
    #[default]
    Clean,
    /// Where it would cost the least if hosts that are on their way were launched only now: those of a dear place may be there
    /// for others, which would need new ones.
    AsIfLaunched,
}

impl<'a> Draft<'a> {
    /// The pool in which the gang costs the least; of equal ones the one where it takes the least of hosts with accelerators that
    /// it does not need, then the one where most of it can start at once, then the one that it leaves the least room in. If there
    /// is none, the one where the least of it finds no place.
    pub(super) fn best(
        &mut self,
        rules: &Rules<'_>,
        work: &GangWork<'a>,
        pools: &[Pool],
    ) -> Result<usize, Option<usize>> {
        let mark = self.board.mark();
        let mut best: Option<([f64; 2], [u64; 5])> = None;
        let mut nearest: Option<(Short, usize)> = None;
        for (at, pool) in pools.iter().enumerate() {
            match gangs::place(&mut self.board, rules, work, pool, &mut self.indices) {
                Ok(cost) => {
                    let new_hosts = (self.board.world.hosts.len() - mark.hosts()) as u64;
                    let (puts, world) = (&self.board.puts[mark.puts()..], &self.board.world);
                    let count = |counts: &dyn Fn(&Put) -> bool| -> u64 {
                        puts.iter().filter(|put| counts(put)).map(Put::pieces).sum()
                    };
                    let misused = count(&|put| {
                        world.hosts.traits(put.host).is_scarce && !world.shapes[put.shape as usize].is_scarce
                    });
                    let coming = count(&|put| world.is_coming(put.host));
                    let as_if_launched = match self.choosing {
                        Choosing::Clean => 0.0,
                        Choosing::AsIfLaunched => self.cost_of_coming(rules, &mark),
                    };
                    let key = ([cost, as_if_launched], [new_hosts, misused, coming, self.spare(work, pool), at as u64]);
                    self.board.back_to(&mark);
                    self.could_choose |= coming > 0 && best.is_some_and(|(best, _)| best[0] == cost);
                    let compare = |best: ([f64; 2], [u64; 5])| {
                        let costs = key.0.iter().zip(&best.0).map(|(a, b)| a.total_cmp(b));
                        costs.fold(Ordering::Equal, Ordering::then).then(key.1.cmp(&best.1))
                    };
                    if best.is_none_or(|best| compare(best).is_lt()) {
                        best = Some(key);
                    }
                }
                Err(short) if nearest.as_ref().is_none_or(|(other, _)| short.count() < other.count()) => {
                    nearest = Some((short, at));
                }
                Err(_) => {}
            }
        }
        if let Some((_, [.., at])) = best {
            return Ok(at as usize);
        }
        let nearest_at = nearest.as_ref().map(|(_, at)| *at);
        if let Some((short, at)) = nearest {
            let fate = &mut self.fates[work.at as usize];
            fate.short = Some(short);
            fate.rooms = pools[at].rooms().map(<[u32]>::to_vec);
            fate.most_new_hosts = pools[at].most_new_hosts;
            fate.most_hosts = pools[at].most_hosts;
            fate.nearest = pools[at].domain.clone().or(pools[at].fabric.clone());
        }
        Err(nearest_at)
    }

    /// What the hosts would cost that are on their way, and on which something was put since `mark`.
    fn cost_of_coming(&self, rules: &Rules<'_>, mark: &Mark) -> f64 {
        let world = &self.board.world;
        let used: BTreeSet<HostId> = self.board.puts[mark.puts()..].iter().flat_map(Put::range).collect();
        let coming = used.into_iter().filter(|host| world.node(*host).is_some() && world.is_coming(*host));
        let group = |host: HostId| world.hosts.group[host as usize] as usize;
        coming.filter_map(|host| rules.prices.cost.get(group(host))).sum()
    }

    /// How many more of the hardest bundles the hosts of a pool hold.
    fn spare(&self, work: &GangWork<'_>, pool: &Pool) -> u64 {
        let world = &self.board.world;
        let Some(part) = work.parts.first() else { return 0 };
        let shape = &world.shapes[part.shape as usize];
        pool.hosts(world.hosts.len())
            .map(|host| world.hosts.slots(shape, host).max(0) as u64)
            .fold(0, u64::saturating_add)
    }

    /// A draft in which gangs choose their places otherwise (made by `again`), if that costs less and serves as much.
    ///
    /// A gang that would cost nothing in several places takes one of them, and what comes after it has to do with the rest. This
    /// is what keeps a gang, in the tick after, from taking hosts that were launched for tasks while its own are on their way.
    pub(super) fn chosen_otherwise(
        &self,
        rules: &Rules<'_>,
        again: impl FnOnce() -> Draft<'a>,
    ) -> Option<(Draft<'a>, Repacked, f64)> {
        let hosts = self.board.world.hosts.len() - self.board.world.present;
        let is_small = hosts * self.classes.len().max(1) <= MAX_RETRIED;
        if !self.could_choose || hosts == 0 || !is_small {
            return None;
        }
        let mut other = again();
        let (repacked, fixed_cost) = other.finish(rules);
        let is_cheaper = other.cost(rules) < self.cost(rules) * (1.0 - 1e-9);
        (is_cheaper && other.unserved() <= self.unserved()).then_some((other, repacked, fixed_cost))
    }
}
