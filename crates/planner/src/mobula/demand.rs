//! What is asked for, in shapes.

use std::collections::BTreeMap;

use super::asked::Asked;
use super::stocks::StockId;
use super::world::{ShapeId, World};
use crate::topology::Near;
use crate::{FabricWish, Gang, GangStrategy, Request};

/// Tasks or actors that are alike.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// Index into the snapshot's demand.
    pub at: u32,
    pub shape: ShapeId,
    pub count: u64,
}

/// Consecutive equal bundles.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub first: u32,
    pub count: u32,
}

/// Equal bundles of a gang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub shape: ShapeId,
    pub runs: Vec<Run>,
    pub count: u32,
}

/// How bundles may share hosts.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Together {
    /// As few hosts as possible (PACK).
    Few,
    /// As many hosts as possible, without paying for one more (SPREAD).
    Many,
    /// All on one host (STRICT_PACK).
    One,
    /// Each on a host of its own (STRICT_SPREAD).
    Apart,
}

/// A placement group.
#[derive(Clone, Debug)]
pub(super) struct GangWork<'a> {
    /// Index into the snapshot's gangs.
    pub at: u32,
    pub gang: &'a Gang,
    /// Of a gang on one host: a single part, the sum of all bundles, whose count is 1.
    pub parts: Vec<Part>,
    pub together: Together,
    pub fabric: Option<FabricWish>,
    pub near: Near<'a>,
}

impl<'a> GangWork<'a> {
    /// A bundle of each kind; some kinds may be met more than once.
    pub fn kinds(&self) -> impl Iterator<Item = &'a Request> + Clone {
        let (bundles, runs) = (&self.gang.bundles, self.parts.iter().flat_map(|part| &part.runs));
        runs.filter_map(|run| bundles.get(run.first as usize))
    }
}

/// Tasks and actors, the hardest to place first.
pub(super) fn classes(world: &mut World<'_>) -> Vec<Class> {
    let demand = &world.snapshot.demand;
    // The order in which the GCS lists requests must not matter.
    let mut order: Vec<usize> = (0..demand.len()).collect();
    order.sort_by(|a, b| demand[*a].request.cmp(&demand[*b].request));
    let class = |at: usize| Class { at: at as u32, shape: world.shape(&demand[at].request), count: demand[at].count };
    let mut classes: Vec<Class> = order.into_iter().map(class).collect();
    let hardness = Hardness::new(world);
    classes.sort_by_cached_key(|class| std::cmp::Reverse(hardness.of(world, class.shape)));
    classes
}

/// Placement groups in the order in which they are served: priority, then age, then id.
pub(super) fn gangs<'a>(world: &mut World<'a>, asked: &Asked<'a>) -> Vec<GangWork<'a>> {
    let gangs = &world.snapshot.gangs;
    // A gang that lost nodes holds others already; one whose age is unknown is taken for the youngest.
    let key = |at: &usize| {
        let gang = &gangs[*at];
        (-i64::from(gang.priority), !gang.rescheduling, gang.created_ms.unwrap_or(i64::MAX), &gang.id, *at)
    };
    let mut order: Vec<usize> = (0..gangs.len()).collect();
    order.sort_by(|a, b| key(a).cmp(&key(b)));
    let speakers = Near::speakers(world.snapshot);
    let mut work = |at: usize| {
        let near = Near::among(&speakers, world.snapshot, &gangs[at]);
        gang_work(world, (at as u32, &gangs[at]), asked.bundles(at), near)
    };
    let mut gangs: Vec<GangWork<'a>> = order.into_iter().map(&mut work).collect();
    let hardness = Hardness::new(world);
    for work in &mut gangs {
        if work.parts.len() > 1 {
            work.parts.sort_by_cached_key(|part| (std::cmp::Reverse(hardness.of(world, part.shape)), part.shape));
        }
    }
    gangs
}

fn gang_work<'a>(
    world: &mut World<'a>,
    (at, gang): (u32, &'a Gang),
    alike: &[&'a [Request]],
    near: Near<'a>,
) -> GangWork<'a> {
    let together = match gang.strategy {
        GangStrategy::Pack => Together::Few,
        GangStrategy::Spread => Together::Many,
        GangStrategy::StrictPack => Together::One,
        GangStrategy::StrictSpread => Together::Apart,
    };
    let count = u32::try_from(gang.bundles.len()).unwrap_or(u32::MAX);
    let parts = if together == Together::One {
        let shape = world.shape_of_all(alike);
        vec![Part { shape, runs: vec![Run { first: 0, count }], count: 1 }]
    } else {
        parts(world, alike)
    };
    GangWork { at, gang, parts, together, fabric: None, near }
}

fn parts<'a>(world: &mut World<'a>, bundles: &[&'a [Request]]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::with_capacity(1);
    let mut part_of: BTreeMap<ShapeId, usize> = BTreeMap::new();
    let mut start = 0;
    for chunk in bundles {
        let run = Run { first: start, count: chunk.len() as u32 };
        start += run.count;
        let shape = world.shape(&chunk[0]);
        let at = *part_of.entry(shape).or_insert_with(|| {
            parts.push(Part { shape, runs: Vec::with_capacity(1), count: 0 });
            parts.len() - 1
        });
        parts[at].runs.push(run);
        parts[at].count += run.count;
    }
    parts
}

/// How hard requests are to place: by the share that they take of the largest host there is.
pub(super) struct Hardness {
    /// By column: the most that any host or group has.
    most: Vec<i64>,
}

impl Hardness {
    /// Looks at every group, and at every host that is there.
    pub fn new(world: &World<'_>) -> Self {
        let stocks = &world.hosts.stocks;
        let of_hosts = (0..stocks.len() as StockId).map(|stock| stocks.free(stock));
        let mut most = vec![1; world.resources.len()];
        for amounts in world.groups.iter().map(|group| &group.total[..]).chain(of_hosts) {
            most.iter_mut().zip(amounts).for_each(|(most, amount)| *most = (*most).max(*amount));
        }
        Hardness { most }
    }

    /// Greater is harder: those for scarce resources, then those that take a greater share of a host, then those that choose
    /// by label.
    pub fn of(&self, world: &World<'_>, shape: ShapeId) -> impl Ord + use<> {
        let shape = &world.shapes[shape as usize];
        let share = shape.needs.iter().map(|(column, amount)| *amount as f64 / self.most[usize::from(*column)] as f64);
        // Positive numbers are in the order of their bits.
        (shape.is_scarce, share.fold(0.0, f64::max).to_bits(), shape.selectors.len())
    }
}
