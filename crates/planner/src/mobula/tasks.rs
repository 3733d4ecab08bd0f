//! Filling hosts with tasks and actors, and with what `request_resources` asks for.

use super::board::{Board, Put};
use super::demand::Class;
use super::world::{HostId, Hosts, Origin, World, need};
use super::{Rules, lots, resize};
use crate::{DemandRef, NodePhase};

/// Finds places for tasks and actors, on hosts that are there first; the counts of those that found none are left in `classes`.
pub(super) fn serve(board: &mut Board<'_>, rules: &Rules<'_>, classes: &mut [Class]) {
    for rules in rules.clean().iter().chain([rules]) {
        fill(board, rules, classes);
        resize::grow(board, rules, classes);
        lots::launch_for_tasks(board, rules, classes);
    }
}

/// Puts as many tasks and actors as possible on hosts that are there, on their way, or launched already; what is put is
/// subtracted from the counts of `classes`.
///
/// Hosts are filled in an order that leaves what others may need: those without accelerators first, of those the ones that
/// work already, so that idle ones can go.
fn fill(board: &mut Board<'_>, rules: &Rules<'_>, classes: &mut [Class]) {
    let mut open: Vec<HostId> = in_filling_order(&board.world).into_iter().map(|(_, host)| host).collect();
    let floor = Floor::new(&board.world, classes);
    for class in classes {
        let shape = class.shape as usize;
        for rank in 0..board.world.alternatives(&board.world.shapes[shape]) {
            if class.count == 0 {
                break;
            }
            fill_one(board, rules, class, rank, &mut open, &floor);
        }
    }
}

fn fill_one(
    board: &mut Board<'_>,
    rules: &Rules<'_>,
    class: &mut Class,
    rank: u8,
    open: &mut Vec<HostId>,
    floor: &Floor,
) {
    let Board { world, puts, .. } = board;
    let shape = world.shapes[class.shape as usize].clone();
    let is_misuse_allowed = shape.is_scarce || !rules.keep_gpu_clean;
    let mut kept = 0;
    let mut next = 0;
    while next < open.len() && class.count > 0 {
        let host = open[next];
        let at = host as usize;
        next += 1;
        let slots = world.hosts.slots(&shape, host);
        if slots > 0
            && (is_misuse_allowed || !world.hosts.is_scarce[at])
            && world.rank(&shape, world.hosts.kind[at]) == Some(rank)
        {
            let count = class.count.min(slots as u64);
            world.hosts.take(&shape, host, count as i64);
            world.hosts.needed[at] |= need::TASKS;
            class.count -= count;
            puts.push(Put { demand: DemandRef::Class(class.at), host, count, shape: class.shape, taken: count as i64 });
        }
        // What is full for all classes is not looked at again.
        if floor.is_open(&world.hosts, at) {
            open[kept] = host;
            kept += 1;
        }
    }
    open.drain(kept..next);
}

/// Hosts in the order in which they are filled, each with a number that says how much it should be left alone.
pub(super) fn in_filling_order(world: &World<'_>) -> Vec<(u8, HostId)> {
    let nodes = &world.snapshot.nodes;
    let state = |host: HostId| {
        let at = host as usize;
        // What a gang or request_resources keeps anyway is not kept for this.
        if world.hosts.needed[at] != 0 {
            return 0;
        }
        match world.hosts.origin[at] {
            Origin::Node(node) => match nodes.get(node as usize) {
                Some(node) if node.phase == NodePhase::Running && node.idle_ms.is_none() => 0,
                Some(node) if node.phase == NodePhase::Running => 1,
                _ => 2,
            },
            Origin::New { .. } => 3,
        }
    };
    let mut open: Vec<(u8, HostId)> = (0..world.hosts.len() as HostId).map(|host| (state(host), host)).collect();
    open.sort_by_key(|(state, host)| (world.hosts.is_scarce[*host as usize], *state));
    open
}

/// The least that any class asks of the columns that all of them ask for: a host with less is full for all of them.
struct Floor {
    least: Vec<(usize, i64)>,
}

impl Floor {
    fn new(world: &World<'_>, classes: &[Class]) -> Self {
        let mut least: Vec<(usize, i64)> = Vec::new();
        for (number, class) in classes.iter().filter(|class| class.count > 0).enumerate() {
            let needs = &world.shapes[class.shape as usize].needs;
            if number == 0 {
                least = needs.iter().map(|(column, amount)| (usize::from(*column), *amount)).collect();
            }
            least.retain_mut(|(column, least)| match needs.iter().find(|(other, _)| usize::from(*other) == *column) {
                Some((_, amount)) => {
                    *least = (*least).min(*amount);
                    true
                }
                None => false,
            });
        }
        Floor { least }
    }

    fn is_open(&self, hosts: &Hosts, host: usize) -> bool {
        self.least.iter().all(|(column, least)| hosts.free[*column][host] >= *least)
    }
}
