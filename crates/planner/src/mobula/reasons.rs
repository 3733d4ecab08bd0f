//! Why demand found no place: what comes nearest, and what would make it fit.

use std::collections::BTreeSet;

use super::advice::{self, Takes};
use super::decide::{Decision, GangFate, RunningWork};
use super::demand::{Class, GangWork, Together};
use super::gangs::Short;
use super::limits::Closed;
use super::world::{Column, Shape, ShapeId, World};
use crate::topology::Required;
use crate::{Memory, Node, NodePhase, Resources, UnmetCause, words};

/// Most groups that one reason names.
const MAX_GROUPS: usize = 3;

/// Why tasks or actors of a class found no place.
pub(super) fn of_class(decision: &Decision<'_>, memory: &Memory, class: &Class) -> (UnmetCause, String) {
    let holders = Holders::of(&decision.board.world, class.shape);
    if holders.groups.is_empty() {
        return holders.nobody(&decision.board.world, class.shape);
    }
    closed(decision, memory, class.shape, &holders.groups, None)
}

/// Why a gang found no place.
pub(super) fn of_gang(
    decision: &Decision<'_>,
    memory: &Memory,
    work: &GangWork<'_>,
    fate: &GangFate,
) -> (UnmetCause, String) {
    let world = &decision.board.world;
    // A bundle that nothing can hold says more than one that is short of room.
    for part in &work.parts {
        let holders = Holders::of(world, part.shape);
        if holders.groups.is_empty() {
            let (cause, text) = holders.nobody(world, part.shape);
            let what = if work.together == Together::One { "all of its bundles together" } else { "a bundle" };
            return (cause, format!("{what} {}: {text}", shape_text(world, part.shape)));
        }
    }
    if let Some(Required { level: None, name, group }) = work.near.required {
        let levels: Vec<String> = world.snapshot.topology.iter().map(|level| level.name.clone()).collect();
        let levels = if levels.is_empty() { "has none".to_owned() } else { format!("has {}", words::list(&levels)) };
        let text =
            format!("group {group} requires one {name} for it, which is no level of the topology: that {levels}");
        return (UnmetCause::Limit, text);
    }
    let Some(short) = &fate.short else {
        let condition = if fate.condition.is_empty() { "in one place" } else { &fate.condition };
        let holders = work.parts.iter().flat_map(|part| Holders::of(world, part.shape).groups);
        let lacks_rdma = lacks_rdma(world, fate, &holders.collect());
        return (
            UnmetCause::Limit,
            format!("it has to be {condition}, and no group or node is known to be in such a place{lacks_rdma}"),
        );
    };
    let total: u32 = work.parts.iter().map(|part| part.count).sum();
    let what = match work.together {
        Together::One => "all bundles on one host find no place".to_owned(),
        _ => format!("{} of {total} bundles find no place", short.count()),
    };
    let near = fate.nearest.as_ref().map_or(String::new(), |domain| format!(" in {domain}, which comes nearest"));
    let condition =
        if fate.condition.is_empty() { String::new() } else { format!(" (it has to be {})", fate.condition) };
    let Holders { groups, .. } = Holders::of(world, short.shape);
    let is_there =
        |group: &usize| fate.rooms.as_ref().is_none_or(|rooms| rooms.get(*group).is_some_and(|room| *room > 0));
    let (there, elsewhere): (Vec<usize>, Vec<usize>) = groups.into_iter().partition(is_there);
    let takes = fate.takes.clone().unwrap_or_else(|| {
        let holds_all = |group: &&usize| advice::holds_all(world, short, **group, decision.keep_gpu_clean);
        let each = |group: &usize| (advice::replicas(world, work, short, *group), *group);
        there.iter().filter(holds_all).map(each).min().into_iter().collect()
    });
    let hosts: u64 = takes.iter().map(|(replicas, group)| replicas * u64::from(world.groups[*group].hosts)).sum();
    let hosts = i64::try_from(hosts).unwrap_or(i64::MAX);
    let most_hosts = fate.most_new_hosts.map(i64::from).filter(|most| hosts > *most);
    let (cause, mut why) = match most_hosts {
        _ if there.is_empty() => (UnmetCause::Limit, "no group is known to grow there".to_owned()),
        Some(most) => (UnmetCause::Limit, too_few_hosts(fate, most, hosts)),
        None => match room_there(decision, work, short, &there, fate.rooms.as_deref()) {
            Some(text) => (UnmetCause::Limit, text),
            None => closed(decision, memory, short.shape, &there, Some(work)),
        },
    };
    why += &lacks_rdma(world, fate, &elsewhere.into_iter().collect());
    // No number of replicas makes a domain larger.
    let takes = if most_hosts.is_none() { takes } else { Vec::new() };
    let more = |(at, (replicas, group)): (usize, &Takes)| {
        let more = if at == 0 { words::counted(*replicas, "more replica") } else { replicas.to_string() };
        format!("{more} of {}", world.groups[*group].spec.name)
    };
    let more: Vec<String> = takes.iter().enumerate().map(more).collect();
    let more = if more.is_empty() { String::new() } else { format!("; it takes {}", words::list(&more)) };
    let later = match fate.work {
        RunningWork::MakesRoom => ", or that work which runs now has ended",
        RunningWork::MakesNone => "",
        RunningWork::NotAsked => ", or that room is left by older gangs, which wait for work that runs now",
    };
    (cause, format!("{what}{near}{condition}: {why}{more}{later}; nothing is started for a part of it"))
}

/// `; group cpu has no RDMA`, for some of these groups where that is why they are no candidates.
fn lacks_rdma(world: &World<'_>, fate: &GangFate, groups: &BTreeSet<usize>) -> String {
    let lacks = groups.iter().filter(|group| fate.lacks_rdma.get(**group) == Some(&true)).take(MAX_GROUPS);
    lacks.map(|group| format!("; group {} has no RDMA", world.groups[*group].spec.name)).collect()
}

/// That a domain may have no more hosts for a gang than so many, and it needs so many; if no such domain may, what can be done
/// about it.
fn too_few_hosts(fate: &GangFate, most_new: i64, needed: i64) -> String {
    let more = match most_new {
        0 => "there may be no more hosts there".to_owned(),
        _ => format!("there may be only {} there", words::counted(most_new as u64, "more host")),
    };
    match fate.most_hosts.map(i64::from) {
        Some(most) if needed > most => {
            format!(
                "{more}; no such place ever has more than {most}, and it takes {needed}: ask for parts of at most {most}"
            )
        }
        _ => more,
    }
}

/// That Kubernetes nodes have too little room for a gang in the place where it must be, if nothing else keeps groups from
/// growing there.
fn room_there(
    decision: &Decision<'_>,
    work: &GangWork<'_>,
    short: &Short,
    groups: &[usize],
    rooms: Option<&[u32]>,
) -> Option<String> {
    let (world, limits) = (&decision.board.world, &decision.board.limits);
    let lacks_room = |group: &usize| {
        let room = rooms?.get(*group).copied().filter(|room| *room != u32::MAX)?;
        let replicas = advice::replicas(world, work, short, *group);
        let hosts = world.groups[*group].hosts;
        let is_short = u64::from(room / hosts) < replicas && limits.room(world, *group) > u64::from(room / hosts);
        let name = &world.groups[*group].spec.name;
        let more = words::counted(u64::from(room), "more pod");
        is_short
            .then(|| format!("group {name} could hold it, but Kubernetes nodes there have room for only {more} of it"))
    };
    let texts: Vec<String> = groups.iter().take(MAX_GROUPS).map(lacks_room).collect::<Option<_>>()?;
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// What keeps groups that could hold a shape from being launched.
fn closed(
    decision: &Decision<'_>,
    memory: &Memory,
    shape: ShapeId,
    groups: &[usize],
    asks: Option<&GangWork<'_>>,
) -> (UnmetCause, String) {
    let world = &decision.board.world;
    // What is kept for the gang that asks is no reason why it can't have it; what is kept for another one is.
    let limits = match asks {
        Some(work) => &decision.board.limits.without_kept(world, Some(work.at)),
        None => &decision.board.limits,
    };
    let all = limits.without_kept(world, None);
    let keeper = limits.keeps_for().and_then(|gang| world.snapshot.gangs.get(gang as usize));
    let mut texts = Vec::new();
    let mut waits = false;
    for &group in groups {
        let spec = world.groups[group].spec;
        let kept = all.room(world, group).saturating_sub(limits.room(world, group));
        if let Some(gang) = keeper.filter(|_| kept > 0) {
            waits = true;
            let (kept, gang) = (words::counted(kept, "more replica"), words::gang(gang));
            texts.push(format!("group {} could hold it, but {kept} of it can be launched only for {gang}", spec.name));
            continue;
        }
        let why = match limits.closed(world, group, memory) {
            Some(closed) => {
                waits |= matches!(closed, Closed::Blocked(..))
                    || (closed == Closed::AtOnce && world.groups[group].launched > 0);
                closed.text(world, spec)
            }
            None if decision.keep_gpu_clean && is_misuse(world, shape, group) => {
                "is kept for work that needs its accelerators".to_owned()
            }
            None => limits.room_text(world, group),
        };
        texts.push(format!("group {} could hold it, but {why}", spec.name));
    }
    let more = texts.len().saturating_sub(MAX_GROUPS);
    texts.truncate(MAX_GROUPS);
    if more > 0 {
        texts.push(format!("so do {}", words::counted(more as u64, "other group")));
    }
    (if waits { UnmetCause::Waiting } else { UnmetCause::Limit }, texts.join("; "))
}

/// Whether a group has accelerators that a shape does not need.
fn is_misuse(world: &World<'_>, shape: ShapeId, group: usize) -> bool {
    world.groups[group].is_scarce && !world.shapes[shape as usize].is_scarce
}

/// Who could hold a shape if nothing else were there.
struct Holders<'a> {
    groups: Vec<usize>,
    node: Option<&'a Node>,
}

impl<'a> Holders<'a> {
    fn of(world: &World<'a>, shape: ShapeId) -> Self {
        let shape = &world.shapes[shape as usize];
        let fits = |group: &usize| !world.groups[*group].spec.is_head && world.slots_of_group(shape, *group) > 0;
        let groups: Vec<usize> = (0..world.groups.len()).filter(fits).collect();
        let node = if groups.is_empty() { node_for(world, shape) } else { None };
        Holders { groups, node }
    }

    /// The reason where no group could hold it.
    fn nobody(&self, world: &World<'_>, shape: ShapeId) -> (UnmetCause, String) {
        let Some(node) = self.node else {
            return (UnmetCause::NeverFits, nearest(world, &world.shapes[shape as usize]));
        };
        let id = if node.instance_id.is_empty() { "a node that nobody manages" } else { &node.instance_id };
        let state = match node.phase {
            NodePhase::Pending | NodePhase::Requested => "are on their way",
            NodePhase::Leaving => "are leaving",
            NodePhase::Running | NodePhase::Stopped => "are in use",
        };
        let text = format!("only nodes like {id} could hold it, and they {state}; no group can be launched for it");
        (UnmetCause::Waiting, text)
    }
}

/// A node that could hold the shape if it were empty; one that works says more than one that comes or goes.
fn node_for<'a>(world: &World<'a>, shape: &Shape) -> Option<&'a Node> {
    let phases = [NodePhase::Running, NodePhase::Pending, NodePhase::Requested, NodePhase::Leaving];
    let holds = |node: &&Node| {
        let total = world.amounts(&node.total);
        let enough = shape.needs.iter().all(|(column, amount)| total[usize::from(*column)] >= *amount);
        enough && world.matches(shape, |key| node.dynamic_labels.get(key).or(node.labels.get(key)).map(String::as_str))
    };
    let place = |node: &&Node| phases.iter().position(|phase| *phase == node.phase);
    let nodes = world.snapshot.nodes.iter().filter(|node| place(node).is_some()).filter(holds);
    nodes.min_by_key(place)
}

/// The group that comes nearest, and what it lacks.
fn nearest(world: &World<'_>, shape: &Shape) -> String {
    let lacks = world.groups.iter().filter(|group| !group.spec.is_head).map(|group| {
        let mut lacks: Vec<String> = Vec::new();
        let mut short = 0.0;
        for &(column, need) in &shape.needs {
            let has = group.total[usize::from(column)];
            if need > has {
                let (asked, has) = as_observed(world, column, need, &group.spec.resources);
                short += (asked - has) / asked;
                lacks.push(lack(world, column, asked, has));
            }
        }
        if world.rank(shape, group.kind).is_none() {
            short += 1.0;
            lacks.push(format!("no label {}", world.lacked_labels_text(shape, group.spec)));
        }
        (group, lacks, short)
    });
    match lacks.min_by(|a, b| a.1.len().cmp(&b.1.len()).then(a.2.total_cmp(&b.2))) {
        None => "there is no worker group".to_owned(),
        Some((group, lacks, _)) => {
            let name = &group.spec.name;
            format!("no group can ever hold it; the nearest is {name}, which has {}", lacks.join(" and "))
        }
    }
}

/// What is asked for of a resource and what there is of it, in units: the world's own numbers are rounded down.
fn as_observed(world: &World<'_>, column: Column, need: i64, has: &Resources) -> (f64, f64) {
    let name = world.resources.get(usize::from(column)).copied().unwrap_or_default();
    (world.units(column, need), has.get(name).copied().unwrap_or_default().as_f64())
}

fn lack(world: &World<'_>, column: Column, asked: f64, has: f64) -> String {
    let name = world.resources.get(usize::from(column)).copied().unwrap_or_default();
    if has == 0.0 {
        return format!("no {name}");
    }
    format!("{name} {} where {} is asked for", words::amount(name, has), words::amount(name, asked))
}

/// A shape for people.
pub(super) fn shape_text(world: &World<'_>, shape: ShapeId) -> String {
    let needs = world.shapes[shape as usize].needs.iter().map(|&(column, amount)| {
        let name = world.resources.get(usize::from(column)).copied().unwrap_or_default();
        format!("{name}: {}", words::amount(name, world.units(column, amount)))
    });
    format!("{{{}}}", needs.collect::<Vec<_>>().join(", "))
}
