//! What it would take to serve a gang that found no place: found out by trying, so that whoever follows the advice is served.

use super::Rules;
use super::board::Board;
use super::demand::{GangWork, Together};
use super::gangs::{self, Indices, Short};
use super::pools::Pool;
use super::world::World;

/// So many replicas of a group.
pub(super) type Takes = (u64, usize);

/// Most groups that are tried one by one.
const MAX_TRIED: usize = 3;

/// How many more replicas of which groups it takes, beside what the plan launches for others: of one group if that will do. Where
/// no number of replicas would do, there are none. The board is as before.
pub(super) fn takes(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    work: &GangWork<'_>,
    pool: &Pool,
    short: &Short,
    indices: &mut Indices,
) -> Vec<Takes> {
    let world = &board.world;
    let shape = &world.shapes[short.shape as usize];
    let holds = |group: &usize| {
        pool.has_group(*group) && !world.groups[*group].spec.is_head && world.slots_of_group(shape, *group) > 0
    };
    let groups = 0..world.groups.len();
    let all: Vec<usize> = groups.clone().filter(|group| pool.has_group(*group)).collect();
    let mut single: Vec<Takes> =
        groups.filter(holds).map(|group| (replicas(world, work, short, group), group)).collect();
    single.sort_unstable();
    let mut launched = |groups: &[usize]| launched(board, rules, work, pool, groups, indices);
    let one = single.into_iter().take(MAX_TRIED).find_map(|(_, group)| launched(&[group]));
    one.or_else(|| launched(&all)).unwrap_or_default()
}

/// What is launched of some groups, if there is no limit to them; `None`: the gang is not served even so. The board is as before.
fn launched(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    work: &GangWork<'_>,
    pool: &Pool,
    groups: &[usize],
    indices: &mut Indices,
) -> Option<Vec<Takes>> {
    let mark = board.mark();
    let before: Vec<u32> = groups.iter().map(|group| board.world.groups[*group].launched).collect();
    board.limits.lift(groups);
    let placed = gangs::place(board, rules, work, &pool.without_limits(groups), indices);
    let more = |(group, before): (&usize, u32)| (u64::from(board.world.groups[*group].launched - before), *group);
    let takes: Vec<Takes> = groups.iter().zip(before).map(more).filter(|(replicas, _)| *replicas > 0).collect();
    board.back_to(&mark);
    board.limits.lift(&[]);
    (placed.is_ok() && !takes.is_empty()).then_some(takes)
}

/// Replicas of a group that surely hold all bundles that are short of a host and that it can hold.
pub(super) fn replicas(world: &World<'_>, work: &GangWork<'_>, short: &Short, group: usize) -> u64 {
    let of_part = |(shape, count): &(u32, u32)| {
        let slots = world.slots_of_group(&world.shapes[*shape as usize], group);
        let slots = if matches!(work.together, Together::Apart | Together::One) { slots.min(1) } else { slots };
        let slots = u64::try_from(slots).unwrap_or(0);
        if slots == 0 { 0 } else { u64::from(*count).div_ceil(slots) }
    };
    let hosts: u64 = short.left.iter().map(of_part).fold(0, u64::saturating_add);
    hosts.div_ceil(world.groups[group].hosts.into()).max(1)
}

/// Whether a group can hold each of the bundles that are short of a host, with accelerators that they don't need only if that is
/// allowed.
pub(super) fn holds_all(world: &World<'_>, short: &Short, group: usize, keep_gpu_clean: bool) -> bool {
    short.left.iter().all(|(shape, _)| {
        let shape = &world.shapes[*shape as usize];
        let is_kept = keep_gpu_clean && world.groups[group].is_scarce && !shape.is_scarce;
        !is_kept && world.slots_of_group(shape, group) > 0
    })
}
