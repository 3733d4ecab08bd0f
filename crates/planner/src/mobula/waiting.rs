//! Gangs that can't be whole now, but could once what runs now has ended.
//!
//! Ray starts such a gang by itself as soon as its last host is free. Until then, though not for ever, the idle hosts that it
//! could use stay: they would be bought again. After a while what must be launched for it is not launched for younger work any more (before,
//! younger work may go first: bounded back-fill), or a large gang might wait for ever.

use super::Rules;
use super::board::Board;
use super::demand::GangWork;
use super::gangs::{self, Indices};
use super::pools::Pool;
use super::slots::slots_of;
use super::world::need;

/// How long idle hosts are kept for a gang that waits for work to end: that work may be a service that never ends.
const HOLD_IDLE_MS: i64 = 1_800_000;
/// How long younger work may take what a gang waits for.
const BACKFILL_MS: i64 = 300_000;
/// Most gangs of one plan that are looked at: the oldest matter most.
pub(super) const MAX_WAITING: usize = 16;

/// Whether the gang waits for work to end only; then what it could use is held for it.
pub(super) fn hold(board: &mut Board<'_>, rules: &Rules<'_>, work: &GangWork<'_>, pools: &[&Pool]) -> bool {
    let before: Vec<u32> = board.world.groups.iter().map(|group| group.launched).collect();
    for pool in pools {
        let mut empty = board.clone();
        // What this plan launches is for others.
        empty.world.empty_hosts(0..board.world.present);
        if gangs::place(&mut empty, rules, work, pool, &mut Indices::none()).is_err() {
            continue;
        }
        let now_ms = board.world.snapshot.now_ms;
        let age_ms = work.gang.created_ms.map(|created_ms| now_ms.saturating_sub(created_ms));
        if age_ms.is_none_or(|age_ms| age_ms <= HOLD_IDLE_MS) {
            hold_idle_hosts(board, work, pool);
        }
        let is_old = age_ms.is_some_and(|age_ms| age_ms > BACKFILL_MS);
        for (at, before) in before.iter().enumerate().filter(|_| is_old) {
            let replicas = empty.world.groups[at].launched.saturating_sub(*before);
            board.limits.keep(&board.world, at, u64::from(replicas), work.at);
        }
        return true;
    }
    false
}

/// Keeps idle hosts of the pool, as many as the gang could use.
fn hold_idle_hosts(board: &mut Board<'_>, work: &GangWork<'_>, pool: &Pool) {
    let world = &mut board.world;
    for part in &work.parts {
        let mut left = part.count;
        for host in pool.hosts(world.hosts.len()) {
            let is_idle = world.node(host).is_some_and(|node| node.idle_ms.is_some());
            let (slots, _) = if is_idle && left > 0 { slots_of(world, part.shape, host) } else { continue };
            if slots > 0 {
                let slots = if work.together == super::demand::Together::Apart { 1 } else { slots };
                left = left.saturating_sub(slots);
                world.hosts.needed[host as usize] |= need::HELD;
            }
        }
    }
}
