//! What must be there whether or not anybody waits for it: minimum replicas, and what `request_resources` asks for.

use super::Rules;
use super::board::Board;
use super::demand::{Class, Hardness};
use super::lots::{Lot, Owner, PresentClass, Purchase, Way, levels_of, open_groups};
use super::repack::{Fluid, FluidGangs, present_classes, repack};
use super::squeeze::squeeze;
use super::tasks;
use super::world::{Origin, need};
use crate::DemandClass;
use crate::census::Census;
use crate::packing::greedy;

/// Launches what groups lack of their minimum. Returns by group how many replicas that were.
pub(super) fn minima(board: &mut Board<'_>, census: &[Census<'_>]) -> Vec<u64> {
    let mut launched = Vec::new();
    for (at, census) in census.iter().enumerate().take(board.world.groups.len()) {
        let spec = board.world.groups[at].spec;
        let kept = census.kept.replicas(spec);
        let lacks = u64::from(spec.min_replicas.min(spec.max_replicas).saturating_sub(kept));
        let replicas = lacks.min(board.limits.floor_room(&board.world, at));
        if replicas > 0 {
            board.launch(at, replicas);
        }
        launched.push(replicas);
    }
    launched
}

/// A call of `request_resources`, and what the cluster can't hold of it.
pub(super) struct Lacking {
    /// Index into the snapshot's constraints.
    pub at: usize,
    pub classes: Vec<Class>,
}

/// What `request_resources` led to.
#[derive(Default)]
pub(super) struct Reserved {
    /// What the cluster can't hold.
    pub lacking: Vec<Lacking>,
    /// By group: replicas that were launched for it.
    pub launched: Vec<u64>,
}

/// Launches hosts so that the cluster, were it empty, could hold each call of `request_resources` as a whole, and keeps the
/// hosts that this takes.
pub(super) fn constraints(board: &mut Board<'_>, rules: &Rules<'_>) -> Reserved {
    let snapshot = board.world.snapshot;
    let mut reserved = Reserved { launched: vec![0; board.world.groups.len()], ..Reserved::default() };
    for (at, constraint) in snapshot.constraints.iter().enumerate() {
        // What is lacking is said in the words of the board that stays.
        let asked = hardest_first(board, &constraint.requests);
        let empty = match held(board, rules, &asked) {
            Ok(empty) => empty,
            // All at once or not at all: half of it would stay for nothing.
            Err(classes) => {
                reserved.lacking.push(Lacking { at, classes });
                continue;
            }
        };
        let present = board.world.hosts.len();
        empty.world.grown.keys().for_each(|host| board.grow(*host));
        for (host, needed) in empty.world.hosts.needed.iter().enumerate().take(present) {
            if *needed & need::TASKS != 0 {
                board.world.hosts.needed[host] |= need::CONSTRAINT;
            }
        }
        for (group, replicas) in launched_since(&empty, present).into_iter().enumerate() {
            if replicas > 0 {
                let first = board.launch(group, replicas) as usize;
                board.world.hosts.needed[first..].fill(need::CONSTRAINT);
                reserved.launched[group] += replicas;
            }
        }
    }
    reserved
}

/// The requests of a call, the hardest to place first: the order in which they are listed must not matter.
fn hardest_first<'a>(board: &mut Board<'a>, requests: &'a [DemandClass]) -> Vec<Class> {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by(|a, b| requests[*a].request.cmp(&requests[*b].request));
    let class = |at: usize| {
        let DemandClass { request, count } = &requests[at];
        Class { at: at as u32, shape: board.world.shape(request), count: *count }
    };
    let mut classes: Vec<Class> = order.into_iter().map(class).collect();
    let hardness = Hardness::new(&board.world);
    classes.sort_by_cached_key(|class| std::cmp::Reverse(hardness.of(&board.world, class.shape)));
    classes
}

/// A board on which, were it empty, a call of `request_resources` is held as cheaply as can be found.
///
/// # Errors
/// What can't be held of it.
fn held<'a>(board: &Board<'a>, rules: &Rules<'_>, asked: &[Class]) -> Result<Board<'a>, Vec<Class>> {
    let emptied = || {
        let mut empty = board.copy();
        empty.world.empty_hosts(0..board.world.hosts.len());
        empty
    };
    let (mut empty, mut classes) = (emptied(), asked.to_vec());
    let present = empty.world.hosts.len();
    let packed_last = tasks::serve(&mut empty, rules, &mut classes);
    let is_short = |classes: &[Class]| classes.iter().any(|class| class.count > 0);
    if empty.world.hosts.len() == present && !is_short(&classes) {
        return Ok(empty);
    }
    if let Some(packed) = packed(emptied(), rules, asked, false) {
        return Ok(packed);
    }
    // What is here already stays; the rest is packed like what is launched for tasks.
    let mut fixed = vec![true; present];
    fixed.resize(empty.world.hosts.len(), false);
    if is_short(&classes) {
        let fluid = Fluid { fixed: &fixed, gangs: FluidGangs::new(), packed: None };
        squeeze(&mut empty, rules, &fluid, &mut classes, None);
        fixed.resize(empty.world.hosts.len(), false);
    }
    if is_short(&classes)
        && let Some(packed) = packed(emptied(), rules, asked, true)
    {
        return Ok(packed);
    }
    classes.retain(|class| class.count > 0);
    if !classes.is_empty() {
        return Err(classes);
    }
    let packed = packed_last.as_ref();
    repack(&mut empty, rules, &Fluid { fixed: &fixed, gangs: FluidGangs::new(), packed });
    Ok(empty)
}

/// By group: replicas that are launched, of hosts from this number on.
pub(super) fn launched_since(board: &Board<'_>, first: usize) -> Vec<u64> {
    let hosts = &board.world.hosts;
    let mut launched = vec![0; board.world.groups.len()];
    for host in first..hosts.len() {
        if let (Origin::New { host: 0, .. }, false) = (hosts.origin[host], hosts.is_given_up[host]) {
            launched[hosts.group[host] as usize] += 1;
        }
    }
    launched
}

/// An empty board with a call of `request_resources` on it, if everything can be packed on hosts that are there or launched
/// already, or with more of them if it `may_launch`; `None`: it can't.
///
/// What was launched for a call was packed, and may not be enough if hosts are filled one after the other, in an order that
/// depends on what runs already: more would be launched, or all of it would end because the call can't be served any more.
fn packed<'a>(mut empty: Board<'a>, rules: &Rules<'_>, classes: &[Class], may_launch: bool) -> Option<Board<'a>> {
    let present = present_classes(&empty, rules)?;
    let world = &empty.world;
    let is_open = if may_launch { open_groups(world, &empty.limits) } else { vec![false; world.groups.len()] };
    let lot = |class: &Class| {
        let shape = &world.shapes[class.shape as usize];
        let is_kept_clean = rules.keep_gpu_clean && !shape.is_scarce;
        let may = |class: &PresentClass| !(is_kept_clean && class.is_scarce) && world.rank(shape, class.kind).is_some();
        let levels = levels_of(world, rules, class.shape, &is_open);
        Lot {
            shape: class.shape,
            most_per_host: u32::MAX,
            bins: levels.iter().map(Option::is_some).chain(present.iter().map(may)).collect(),
            owners: vec![Owner::Class(class.at, class.count)],
            count: class.count,
            way: Way::InTurn,
        }
    };
    let lots = classes.iter().map(lot).collect();
    let mut purchase = Purchase::new(world, &empty.limits, rules, lots, present);
    let packing = greedy(&purchase.problem);
    let is_whole = packing.left.iter().all(|left| *left == 0) && purchase.carry_out(&mut empty, rules, &packing).1;
    is_whole.then_some(empty)
}

/// By host: whether it is a launched one.
pub(super) fn is_launched(board: &Board<'_>) -> Vec<bool> {
    board.world.hosts.origin.iter().map(|origin| matches!(origin, Origin::New { .. })).collect()
}
