//! Which nodes go because nothing needs them.
//!
//! A node goes when Ray has called it idle for longer than its time-out, no demand was planned on it now or a moment ago, and
//! its group keeps its minimum; multi-host replicas go as a whole. Where some of several must stay, those go first that are no
//! target any more, then those whose going frees a whole domain, then the longest idle. Nothing goes from a group that grows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::board::Board;
use super::pools::Map;
use super::world::{Group, Origin, need};
use crate::census::Census;
use crate::given_up::GivenUp;
use crate::roster::{Row, is_any_coming};
use crate::{Memory, Node, NodePhase, NodeType, Snapshot, TerminateCause, words};

/// A node that was needed stays for this long after, or for half of its time-out if that is shorter.
const NEEDED_LATELY_MS: i64 = 30_000;

/// What goes, and what stays although one might expect otherwise.
#[derive(Clone, Debug, Default)]
pub(super) struct Shrink {
    /// Index into the snapshot's nodes, why, and why in words.
    pub ends: Vec<(usize, TerminateCause, String)>,
    /// Index into the snapshot's nodes, and why it stays.
    pub kept: Vec<(usize, String)>,
}

/// Pods that go together or not at all.
struct Unit {
    nodes: Vec<usize>,
    /// Shortest idle time in ms of its nodes.
    idle_ms: i64,
    is_target: bool,
    frees_domain: bool,
}

/// Decides what goes. Remembers which idle nodes were needed, and since when pods on their way have not been.
pub(super) fn shrink(
    board: &Board<'_>,
    map: &Map<'_>,
    given_up: &GivenUp<'_>,
    census: &[Census<'_>],
    roster: &[Row],
    memory: &mut Memory,
) -> Shrink {
    let snapshot = board.world.snapshot;
    let needed = needed(board);
    remember_needed(snapshot, roster, &needed, memory);
    let mut shrink = Shrink::default();
    let mut units: BTreeMap<usize, Vec<Unit>> = BTreeMap::new();
    let may_go = |at: usize, row: &Row| {
        let spec = board.world.groups.get(row.group()).filter(|_| row.is_idle).map(|group| group.spec);
        let most_ms = spec.and_then(|spec| most_idle_ms(snapshot, spec));
        most_ms.is_some_and(|most_ms| is_late(&snapshot.nodes[at], most_ms))
    };
    for (group, nodes) in replicas(board, given_up, roster, may_go) {
        match idle_unit(board, map, group, &nodes, &needed, memory) {
            Idle::Unit(unit) => units.entry(group).or_default().push(unit),
            Idle::Kept(at, why) => shrink.kept.push((at, why)),
            Idle::No => {}
        }
    }
    mark_domains(map, snapshot, &mut units);
    let mut spare = spare(board, census);
    for (group, mut units) in units {
        let spec = board.world.groups[group].spec;
        units.sort_by_key(|unit| (unit.is_target, !unit.frees_domain, -unit.idle_ms, unit.nodes.clone()));
        for unit in units {
            let why = match spare[group] {
                _ if board.world.groups[group].launched > 0 => "its group gets new nodes in the same plan".to_owned(),
                0 => format!("its group keeps at least {}", words::counted(u64::from(spec.min_replicas), "replica")),
                _ => {
                    spare[group] -= 1;
                    shrink.end(snapshot, &unit, spec.idle_timeout_ms);
                    continue;
                }
            };
            shrink.kept.extend(unit.nodes.iter().map(|at| (*at, why.clone())));
        }
    }
    shrink.unneeded_pending(board, given_up, roster, &needed, spare, memory);
    shrink
}

/// By group: replicas that may go before it is at its minimum; none where it grows.
fn spare(board: &Board<'_>, census: &[Census<'_>]) -> Vec<u32> {
    let spare = |(group, census): (&Group<'_>, &Census<'_>)| match group.launched {
        0 => census.kept.replicas(group.spec).saturating_sub(group.spec.min_replicas.min(group.spec.max_replicas)),
        _ => 0,
    };
    board.world.groups.iter().zip(census).map(spare).collect()
}

/// By node of the snapshot: what it is kept for.
pub(super) fn needed(board: &Board<'_>) -> Vec<u8> {
    let mut needed = vec![0; board.world.snapshot.nodes.len()];
    for (host, origin) in board.world.hosts.origin[..board.world.present].iter().enumerate() {
        if let Origin::Node(at) = origin {
            needed[*at as usize] = board.world.hosts.needed[host];
        }
    }
    needed
}

fn remember_needed(snapshot: &Snapshot, roster: &[Row], needed: &[u8], memory: &mut Memory) {
    let mut known = Vec::new();
    for ((at, row), needed) in roster.iter().enumerate().zip(needed) {
        if row.phase != NodePhase::Running || !row.is_idle || row.is_unmanaged {
            continue;
        }
        let node = &snapshot.nodes[at];
        let before = memory.needed_at_ms.get(&node.instance_id).copied();
        let at_ms = if *needed != 0 { Some(snapshot.now_ms) } else { before };
        // A clock that was set back must not keep a node for ever.
        let lately = |at_ms: &i64| (0..=NEEDED_LATELY_MS).contains(&snapshot.now_ms.saturating_sub(*at_ms));
        if let Some(at_ms) = at_ms.filter(lately) {
            known.push((node.instance_id.clone(), at_ms));
        }
    }
    memory.needed_at_ms = Arc::new(known.into_iter().collect());
}

/// Pods that run or are on their way, by group and replica; of groups with one host a replica, only those that `may_go`.
fn replicas(
    board: &Board<'_>,
    given_up: &GivenUp<'_>,
    roster: &[Row],
    may_go: impl Fn(usize, &Row) -> bool,
) -> Vec<(usize, Vec<usize>)> {
    let snapshot = board.world.snapshot;
    let mut named: BTreeMap<(usize, &str), Vec<usize>> = BTreeMap::new();
    let mut replicas = Vec::new();
    let mut is_single: Vec<bool> = board.world.groups.iter().map(|group| group.spec.num_of_hosts <= 1).collect();
    is_single.push(true);
    for (at, row) in roster.iter().enumerate().filter(|(_, row)| row.is_pod()) {
        let group = row.group();
        if is_single[group] && !may_go(at, row) {
            continue;
        }
        let Some(spec) = board.world.groups.get(group).map(|group| group.spec) else { continue };
        if given_up.nodes.get(at).copied().unwrap_or(false) || spec.is_head || spec.suspended {
            continue;
        }
        match snapshot.nodes[at].replica.as_deref().filter(|_| spec.num_of_hosts > 1) {
            Some(replica) => named.entry((group, replica)).or_default().push(at),
            None if spec.num_of_hosts > 1 => {}
            None => replicas.push((group, vec![at])),
        }
    }
    replicas.extend(named.into_iter().map(|((group, _), nodes)| (group, nodes)));
    replicas
}

/// The time-out of idle nodes of a group in ms; `None`: endless.
fn most_idle_ms(snapshot: &Snapshot, spec: &NodeType) -> Option<i64> {
    spec.idle_timeout_ms.or(snapshot.settings.idle_timeout_ms)
}

fn is_late(node: &Node, most_ms: i64) -> bool {
    node.phase == NodePhase::Running && node.idle_ms.is_some_and(|idle_ms| idle_ms > most_ms)
}

enum Idle {
    /// May go.
    Unit(Unit),
    /// Idle for too long, but stays.
    Kept(usize, String),
    /// Works, or has not been idle for long.
    No,
}

fn idle_unit(board: &Board<'_>, map: &Map<'_>, group: usize, nodes: &[usize], needed: &[u8], memory: &Memory) -> Idle {
    let snapshot = board.world.snapshot;
    let spec = board.world.groups[group].spec;
    let Some(most_ms) = most_idle_ms(snapshot, spec) else { return Idle::No };
    let is_late = |at: &usize| is_late(&snapshot.nodes[*at], most_ms);
    let Some(&first) = nodes.iter().find(|at| is_late(at)) else { return Idle::No };
    if !nodes.iter().all(is_late) {
        return Idle::Kept(first, "other pods of its replica are needed or not idle".to_owned());
    }
    let needs = nodes.iter().map(|at| needed[*at]).fold(0, |all, needed| all | needed);
    let why = if needs & (need::GANG | need::HELD) != 0 {
        "it is held for a gang"
    } else if needs & need::TASKS != 0 {
        "pending work fits on it"
    } else if needs & need::CONSTRAINT != 0 {
        "request_resources needs it"
    } else {
        let lately_ms = NEEDED_LATELY_MS.min(most_ms / 2);
        let is_lately = |at: &usize| {
            let at_ms = memory.needed_at_ms.get(&snapshot.nodes[*at].instance_id);
            at_ms.is_some_and(|at_ms| snapshot.now_ms.saturating_sub(*at_ms) < lately_ms)
        };
        if !nodes.iter().any(is_lately) {
            return Idle::Unit(Unit {
                nodes: nodes.to_vec(),
                idle_ms: nodes.iter().filter_map(|at| snapshot.nodes[*at].idle_ms).min().unwrap_or(0),
                is_target: nodes.iter().all(|at| map.topology.is_target(*at)),
                frees_domain: false,
            });
        }
        "it was needed a moment ago"
    };
    Idle::Kept(first, why.to_owned())
}

/// Marks the units with which a whole domain of the narrowest level becomes free.
fn mark_domains(map: &Map<'_>, snapshot: &Snapshot, units: &mut BTreeMap<usize, Vec<Unit>>) {
    let going: BTreeSet<usize> = units.values().flatten().flat_map(|unit| unit.nodes.iter().copied()).collect();
    let stays = |at: &usize| {
        let node = &snapshot.nodes[*at];
        !going.contains(at) && !matches!(node.phase, NodePhase::Leaving | NodePhase::Stopped)
    };
    for level in (0..map.topology.levels().len()).rev() {
        let busy: BTreeSet<_> =
            (0..snapshot.nodes.len()).filter(stays).map(|at| map.topology.of_node(level, at)).collect();
        let mut any = false;
        for unit in units.values_mut().flatten() {
            let domains = unit.nodes.iter().map(|at| map.topology.of_node(level, *at));
            let labelled: Vec<_> = domains.filter(|domain| map.topology.is_labelled(*domain)).collect();
            any |= !labelled.is_empty();
            unit.frees_domain |= !labelled.is_empty() && labelled.iter().all(|domain| !busy.contains(domain));
        }
        if any {
            return;
        }
    }
}

impl Shrink {
    fn end(&mut self, snapshot: &Snapshot, unit: &Unit, timeout_ms: Option<i64>) {
        let most_ms = timeout_ms.or(snapshot.settings.idle_timeout_ms).unwrap_or_default();
        for at in &unit.nodes {
            let idle_ms = snapshot.nodes[*at].idle_ms.unwrap_or_default();
            let text = format!("idle for {}, longer than {}", words::seconds(idle_ms), words::seconds(most_ms));
            self.ends.push((*at, TerminateCause::Idle, text));
        }
    }

    /// Gives up pods on their way that nothing has needed for longer than the settings allow, but for what the minimum of their
    /// group takes and where their group grows: what goes would be launched again.
    fn unneeded_pending(
        &mut self,
        board: &Board<'_>,
        given_up: &GivenUp<'_>,
        roster: &[Row],
        needed: &[u8],
        mut spare: Vec<u32>,
        memory: &mut Memory,
    ) {
        let snapshot = board.world.snapshot;
        if !is_any_coming(roster) {
            return memory.pending_unneeded_since_ms.clear();
        }
        let ends: BTreeSet<usize> = self.ends.iter().map(|(at, ..)| *at).collect();
        let mut since_ms: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        let mut counted = vec![0; spare.len()];
        for (group, nodes) in replicas(board, given_up, roster, |_, row| row.is_coming()) {
            let spec = board.world.groups[group].spec;
            if !nodes.iter().all(|at| roster[*at].is_coming() && needed[*at] == 0 && !ends.contains(at)) {
                continue;
            }
            let times = since_ms.entry(spec.name.clone()).or_default();
            let before = memory.pending_unneeded_since_ms.get(&spec.name);
            let since = before.and_then(|times| times.get(counted[group])).copied().unwrap_or(snapshot.now_ms);
            counted[group] += 1;
            let waited_ms = snapshot.now_ms.saturating_sub(since);
            let is_late = snapshot.settings.pending_idle_timeout_ms.is_some_and(|most_ms| waited_ms > most_ms);
            if !is_late || spare[group] == 0 {
                times.push(since);
                continue;
            }
            spare[group] -= 1;
            let text = format!("on its way, but not needed for {}", words::seconds(waited_ms));
            self.ends.extend(nodes.into_iter().map(|at| (at, TerminateCause::Idle, text.clone())));
        }
        memory.pending_unneeded_since_ms = since_ms;
    }
}
