//! The same demand on cheaper hosts: what is launched for tasks and gangs is packed once more, all of it together.
//!
//! Gangs are placed one after the other and tasks after them, which says what can be served within all limits. What that
//! costs is looked at here: everything that may as well be elsewhere becomes one problem for [`crate::packing`], together
//! with what is free on hosts that are there anyway. Its answer is taken if it serves the same and is cheaper.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Rules;
use super::board::{Board, Deal, Loose, Put};
use super::demand::{GangWork, Together};
use super::limits::Limits;
use super::lots::{Level, Lot, Owner, PresentClass, Purchase, Way, levels_of, open_groups};
use super::stocks::Traits;
use super::tasks::{Alike, in_filling_order};
use super::world::{HostId, ShapeId, World};
use crate::DemandRef;
use crate::packing::{self, ColumnPool, Item, Packing, Pattern, Problem};
use crate::quick_hash::Index;

/// Most classes of present hosts that are packed anew; where there are more, what is on them stays as it is.
const MAX_PRESENT_CLASSES: usize = 48;
/// Most pieces of a kind on one host: beyond, demand is so fine that packing it anew gains nothing and takes for ever.
pub(super) const MAX_TAKEN: i64 = 100_000;
/// Most lots that are packed anew.
const MAX_LOTS: usize = 1_000;
/// Most lots and bins of a problem that is improved in every tick.
pub(super) const MAX_SMALL: usize = 100;
/// Work that is spent on such a problem in every tick: mostly less than a millisecond.
const TICK_WORK: u64 = 5_000;
/// What using a present host costs, in parts of the cheapest launch: it only chooses between them.
const PRESENT: f64 = 1e-9;

/// The class of a present host that is in none.
const NO_CLASS: usize = usize::MAX;

/// What came of it.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Repacked {
    /// Serving what was packed costs at least so much.
    pub lower_bound: f64,
    /// Whether `lower_bound` is proven, for all demand that may be elsewhere.
    pub is_proven: bool,
    /// Work that was spent.
    pub work: u64,
}

/// Gangs that may be elsewhere, by index in the snapshot, with what they may use (`None`: anything).
pub(super) type FluidGangs<'g, 'a> = BTreeMap<u32, (&'g GangWork<'a>, Option<&'g Reach>)>;

/// What a gang may use that is bound to a domain or a fabric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// By group: whether it may be launched.
    pub groups: Vec<bool>,
    /// Hosts that are there, or launched for what must be there.
    pub hosts: Vec<HostId>,
}

/// What may be packed anew.
pub(super) struct Fluid<'g, 'a> {
    /// By host: launched, and to stay as it is.
    pub fixed: &'g [bool],
    pub gangs: FluidGangs<'g, 'a>,
    /// What was launched for tasks, all together: the same is not packed twice.
    pub packed: Option<&'g Problem>,
}

/// Packs anew what may be elsewhere, if that is cheaper.
pub(super) fn repack<'a>(board: &mut Board<'a>, rules: &Rules<'_>, of: &Fluid<'_, '_>) -> Repacked {
    let Fluid { fixed, gangs, .. } = of;
    let is_launched =
        |host: HostId| !fixed.get(host as usize).copied().unwrap_or(true) && host as usize >= board.world.present;
    if !board.puts.iter().any(|put| is_launched(put.host)) {
        return Repacked { is_proven: true, ..Repacked::default() };
    }
    if board.puts.iter().any(|put| put.taken > MAX_TAKEN) {
        return Repacked::default();
    }
    let loose = board.loose(fixed);
    let costs = board.count(&loose).into_iter().zip(&rules.prices.cost);
    let before = costs.map(|(hosts, cost)| cost * hosts as f64).sum();
    if let Some(Lifted { board: trial, fluid, present }) = lift(board, rules, of) {
        // A gang that is kept in a place might be cheaper in another one.
        let is_anywhere = |put: &Put| DemandOwner::of(put.demand).reach(gangs).is_none();
        let is_everything = trial.puts.is_empty() && fluid.iter().all(is_anywhere);
        let ground = Ground { limits: trial.limits.clone(), present, before, is_wasteful: true, is_kept_clean: true };
        let repacked = repack_on(board, |_| trial, rules, (of, &fluid), ground);
        return Repacked { is_proven: repacked.is_proven && is_everything, ..repacked };
    }
    let (launched, kept): (Vec<Put>, Vec<Put>) = board.puts.iter().partition(|put| is_launched(put.host));
    let is_wasteful = has_unused(board, &loose);
    let ground =
        Ground { limits: board.limits_without(&loose), present: Vec::new(), before, is_wasteful, is_kept_clean: true };
    let trial = |board: &Board<'a>| {
        let mut trial = board.copy();
        trial.release(&loose, kept, &[]);
        trial
    };
    let repacked = repack_on(board, trial, rules, (of, &launched), ground);
    Repacked { is_proven: false, ..repacked }
}

/// A board without what may be elsewhere.
pub(super) struct Lifted<'a> {
    pub board: Board<'a>,
    /// What may be elsewhere.
    pub fluid: Vec<Put>,
    pub present: Vec<PresentClass>,
}

/// Takes off a board what may be elsewhere, which may then change places with what is on present hosts, too; `None`: there are
/// too many classes of hosts for that.
pub(super) fn lift<'a>(board: &Board<'a>, rules: &Rules<'_>, of: &Fluid<'_, '_>) -> Option<Lifted<'a>> {
    let Fluid { fixed, gangs, .. } = of;
    let is_launched =
        |host: HostId| !fixed.get(host as usize).copied().unwrap_or(true) && host as usize >= board.world.present;
    let is_free = |put: &Put| match put.demand {
        DemandRef::Class(_) => true,
        DemandRef::Gang { gang, .. } => gangs.contains_key(&gang),
    };
    if has_many_classes(board, is_free) {
        return None;
    }
    let (free, rest): (Vec<Put>, Vec<Put>) = board.puts.iter().partition(|put| is_free(put));
    let (launched, kept): (Vec<Put>, Vec<Put>) = rest.iter().partition(|put| is_launched(put.host));
    let mut trial = board.copy();
    trial.release(&board.loose(fixed), rest, &free);
    let present = present_classes(&trial, rules)?;
    trial.puts = kept;
    Some(Lifted { board: trial, fluid: free.into_iter().chain(launched).collect(), present })
}

/// Whether present hosts are surely of too many classes, without what is free to go elsewhere.
fn has_many_classes(board: &Board<'_>, is_free: impl Fn(&Put) -> bool) -> bool {
    let world = &board.world;
    if world.present <= MAX_PRESENT_CLASSES {
        return false;
    }
    // Of hosts from which nothing else is taken, it is known what they will be.
    let mut is_open = vec![true; world.hosts.len()];
    let taken = board.puts.iter().filter(|put| !is_free(put)).flat_map(Put::range);
    taken.chain(world.grown.keys().copied()).for_each(|host| is_open[host as usize] = false);
    let mut is_known = vec![false; world.hosts.stocks.len()];
    let mut classes = 0;
    for (stock, _) in world.first_stock.iter().zip(is_open).filter(|(_, is_open)| *is_open) {
        let is_new = !std::mem::replace(&mut is_known[*stock as usize], true);
        classes += usize::from(is_new && world.hosts.stocks.free(*stock).iter().any(|amount| *amount > 0));
    }
    classes > MAX_PRESENT_CLASSES
}

/// Whether some of these hosts hold nothing.
fn has_unused(board: &Board<'_>, hosts: &[Loose]) -> bool {
    let mut is_used = vec![false; board.world.hosts.len()];
    board.puts.iter().for_each(|put| is_used[put.host as usize..(put.host + put.hosts) as usize].fill(true));
    hosts.iter().any(|(_, hosts)| is_used[hosts.start as usize..hosts.end as usize].contains(&false))
}

/// On what is packed anew.
pub(super) struct Ground {
    /// What may be launched.
    pub limits: Limits,
    pub present: Vec<PresentClass>,
    /// What the launches cost as they are.
    pub before: f64,
    /// Some of what is launched holds nothing.
    pub is_wasteful: bool,
    /// Without prices, what is clean of accelerators now stays so.
    pub is_kept_clean: bool,
}

/// Packs anew what is on `puts`; `trial` makes the board on which that is not placed, if it is wanted.
fn repack_on<'a>(
    board: &mut Board<'a>,
    trial: impl FnOnce(&Board<'a>) -> Board<'a>,
    rules: &Rules<'_>,
    (of, puts): (&Fluid<'_, '_>, &[Put]),
    ground: Ground,
) -> Repacked {
    let Sorted { lots, placed } = Sorted::new(board, rules, (of, puts), &ground);
    if lots.len() > MAX_LOTS {
        return Repacked::default();
    }
    let Ground { limits, present, before, is_wasteful, .. } = ground;
    let mut purchase = Purchase::new(&board.world, &limits, rules, lots, present);
    let is_whole = |packing: &Packing| packing.left.iter().all(|left| *left == 0);
    let is_small = purchase.lots.len() + purchase.problem.bins.len() <= MAX_SMALL;
    let work = if is_small { rules.improve_work.max(TICK_WORK) } else { rules.improve_work };
    let is_packed = of.packed.is_some_and(|packed| is_same(packed, &purchase.problem));
    // Every bound that packing gives holds; how near the plan is to it, is another question.
    if is_packed && work == 0 {
        let lower_bound = packing::lower_bound(&purchase.problem);
        return Repacked { lower_bound, is_proven: true, work };
    }
    let (mut best, lower_bound) = packing::greedy_with_bound(&purchase.problem);
    // How it is packed now would change nothing, unless it is improved.
    if work > 0 || is_wasteful || !is_whole(&best) {
        let start = placed.packing(board, purchase.lots.len());
        let start_is_better = !is_whole(&best) || start.cost(&purchase.problem) < best.cost(&purchase.problem);
        if start_is_better && packing::check(&purchase.problem, &start).is_ok() {
            best = start;
        }
    }
    let mut result = Repacked { lower_bound, is_proven: is_whole(&best), work: 0 };
    if work > 0 && is_whole(&best) {
        let mut pool = ColumnPool::default();
        let improved = packing::improve(&purchase.problem, &best, work, &mut pool);
        result.lower_bound = result.lower_bound.max(improved.lower_bound);
        result.work = improved.work;
        if is_whole(&improved.packing) {
            best = improved.packing;
        }
    }
    // Checked again in integers: a packing that does not hold is never carried out.
    let is_wanted = is_whole(&best) && purchase.cost(&best) < before;
    if is_wanted && packing::check(&purchase.problem, &best).is_ok() {
        let mut trial = trial(board);
        let (cost, complete) = purchase.carry_out(&mut trial, rules, &best);
        if complete && cost < before {
            *board = trial;
        }
    }
    result
}

/// Whether two problems are the same but for the order of what is to be placed.
fn is_same(a: &Problem, b: &Problem) -> bool {
    let sorted = |problem: &Problem| {
        let mut items: Vec<Item> = problem.items.clone();
        items.sort_unstable();
        items
    };
    a.bins == b.bins && a.most_hosts == b.most_hosts && a.items.len() == b.items.len() && sorted(a) == sorted(b)
}

/// Hosts that are there anyway and have something free, in classes; `None` if there are too many.
pub(super) fn present_classes(trial: &Board<'_>, rules: &Rules<'_>) -> Option<Vec<PresentClass>> {
    let world = &trial.world;
    let cheapest = rules.prices.cost.iter().copied().filter(|cost| *cost > 0.0).fold(f64::MAX, f64::min);
    let cheapest = if cheapest == f64::MAX { 0.0 } else { cheapest };
    let mut classes: Vec<PresentClass> = Vec::new();
    for Alike { state, stock, hosts } in in_filling_order(world) {
        let (free, traits) = (world.hosts.stocks.free(stock), world.hosts.stocks.traits(stock));
        if free.iter().all(|amount| *amount <= 0) {
            continue;
        }
        if classes.len() == MAX_PRESENT_CLASSES {
            return None;
        }
        let order = f64::from(1 + state as u8 + if traits.is_scarce { 4 } else { 0 });
        let Traits { kind, is_scarce, .. } = traits;
        classes.push(PresentClass { kind, is_scarce, free: free.to_vec(), cost: cheapest * PRESENT * order, hosts });
    }
    Some(classes)
}

/// Demand that may be elsewhere in lots, and where it is now.
pub(super) struct Sorted {
    pub lots: Vec<Lot>,
    pub placed: Placed,
}

/// Where demand is now.
pub(super) struct Placed {
    /// Hosts, the lot that is on them, and how much of it on each.
    lots: Vec<(Range<HostId>, usize, i64)>,
    /// By host: the bin that its class is, of those that are there.
    class_of: Vec<usize>,
}

/// What makes demand alike: shape, bins, and for gangs with bundles apart the size.
type LotKey = (ShapeId, Vec<bool>, u32);

/// What makes pieces of demand belong together; the last says whether they are where they should not be ([`is_misplaced`]).
type PieceKey = (ShapeId, DemandOwner, Option<Level>, bool);

impl Sorted {
    pub fn new(
        board: &Board<'_>,
        rules: &Rules<'_>,
        (of, fluid): (&Fluid<'_, '_>, &[Put]),
        Ground { limits, present, is_kept_clean, .. }: &Ground,
    ) -> Self {
        let (gangs, world) = (&of.gangs, &board.world);
        // Pieces of one owner and one shape belong together; those of tasks by level of preference, so that none of them goes
        // further down than it has to. (A gang is at one level.) Without prices, what is clean of accelerators is told from what
        // is not, so that only what found no other place may be on hosts with them; not where bundles have to be apart, which
        // only works among the pieces of one lot.
        let is_open = open_groups(world, limits);
        let mut levels: Index<ShapeId, Vec<Option<Level>>> = Index::default();
        let mut level = |put: &Put| {
            let is_launched = put.host as usize >= world.present && matches!(put.demand, DemandRef::Class(_));
            let levels = levels.entry(put.shape).or_insert_with(|| levels_of(world, rules, put.shape, &is_open));
            if is_launched { levels[world.hosts.group[put.host as usize] as usize] } else { None }
        };
        let mut number_of: Index<PieceKey, usize> = Index::default();
        let mut pieces: Vec<(PieceKey, Vec<&Put>)> = Vec::new();
        let mut piece_of: Vec<usize> = Vec::with_capacity(fluid.len());
        for put in fluid {
            let owner = DemandOwner::of(put.demand);
            let key = (put.shape, owner, level(put), !owner.is_apart(gangs) && is_misplaced(world, rules, put));
            let number = *number_of.entry(key).or_insert(pieces.len());
            if number == pieces.len() {
                pieces.push((key, Vec::new()));
            }
            pieces[number].1.push(put);
            piece_of.push(number);
        }
        let mut order: Vec<usize> = (0..pieces.len()).collect();
        order.sort_unstable_by_key(|number| pieces[*number].0);
        let groups = world.groups.len();
        let mut class_of = vec![NO_CLASS; world.hosts.len()];
        for (bin, host) in
            (groups..).zip(present).flat_map(|(bin, class)| class.hosts.hosts().map(move |host| (bin, host)))
        {
            class_of[host as usize] = bin;
        }
        let mut within = Within { class_of: &class_of, groups, present, known: BTreeMap::new() };
        let mut lots: Vec<Lot> = Vec::new();
        let mut lot_of: BTreeMap<LotKey, usize> = BTreeMap::new();
        // Most pieces are like one before: what they may use need not be found out again.
        let mut known: Index<(Openness, *const Reach, u32), usize> = Index::default();
        let mut lot_of_piece = vec![0; pieces.len()];
        for number in order {
            let ((shape, owner, ..), puts) = (pieces[number].0, &pieces[number].1);
            let reach = owner.reach(gangs);
            let openness = Openness::of(world, rules, (shape, &levels[&shape]), puts, *is_kept_clean);
            let taken: u64 = puts.iter().map(|put| put.all_taken()).sum();
            let (owner, apart) = owner.into_lot_owner(gangs, shape, puts, taken);
            let size = if apart { taken as u32 } else { u32::MAX };
            let key = (openness, reach.map_or(std::ptr::null(), std::ptr::from_ref), size);
            let at = *known.entry(key).or_insert_with(|| {
                let reach = reach.map(|reach| (reach.groups.as_slice(), within.classes(reach)));
                let bins = openness.bins(world, &levels[&shape], reach, present);
                *lot_of.entry((shape, bins.clone(), size)).or_insert_with(|| {
                    let way = if apart { Way::RoundRobin } else { Way::InTurn };
                    lots.push(Lot { shape, most_per_host: u32::MAX, bins, owners: Vec::new(), count: 0, way });
                    lots.len() - 1
                })
            });
            lots[at].owners.push(owner);
            lots[at].count += taken;
            lot_of_piece[number] = at;
        }
        for lot in lots.iter_mut().filter(|lot| lot.way == Way::RoundRobin) {
            lot.most_per_host = u32::try_from(lot.owners.len()).unwrap_or(u32::MAX);
        }
        let placed = fluid.iter().zip(piece_of).map(|(put, piece)| (put.range(), lot_of_piece[piece], put.taken));
        Sorted { lots, placed: Placed { lots: placed.collect(), class_of } }
    }
}

impl Placed {
    /// How all of so many lots are packed now.
    pub fn packing(self, board: &Board<'_>, lots: usize) -> Packing {
        let Placed { lots: placed, class_of } = self;
        let bin_of = |host: HostId| match class_of.get(host as usize) {
            Some(class) if *class != NO_CLASS => *class,
            _ => board.world.hosts.group[host as usize] as usize,
        };
        Packing { left: vec![0; lots], patterns: patterns(placed, bin_of) }
    }
}

/// How hosts are filled now: of each host the lots on it and how much of them.
fn patterns(mut placed: Vec<(Range<HostId>, usize, i64)>, bin_of: impl Fn(HostId) -> usize) -> Vec<Pattern> {
    // From where one of the ranges begins or ends to where the next one does, hosts are filled alike.
    let mut bounds: Vec<HostId> = placed.iter().flat_map(|(hosts, ..)| [hosts.start, hosts.end]).collect();
    bounds.sort_unstable();
    bounds.dedup();
    placed.sort_unstable_by_key(|(hosts, lot, _)| (hosts.start, *lot));
    let mut placed = placed.into_iter().peekable();
    let mut open: Vec<(Range<HostId>, usize, i64)> = Vec::new();
    let mut patterns: Vec<Pattern> = Vec::new();
    for (start, end) in bounds.iter().zip(bounds.iter().skip(1)) {
        open.retain(|(hosts, ..)| hosts.end > *start);
        while let Some(next) = placed.next_if(|(hosts, ..)| hosts.start == *start) {
            open.push(next);
        }
        if open.is_empty() {
            continue;
        }
        let mut items: Vec<(usize, u32)> = open.iter().map(|(_, lot, taken)| (*lot, *taken as u32)).collect();
        items.sort_unstable();
        items.dedup_by(|next, first| {
            first.1 += if next.0 == first.0 { next.1 } else { 0 };
            next.0 == first.0
        });
        for host in *start..*end {
            let bin = bin_of(host);
            match patterns.last_mut() {
                Some(last) if last.bin == bin && last.items == items => last.times += 1,
                _ => patterns.push(Pattern { bin, items: items.clone(), times: 1 }),
            }
        }
    }
    patterns.sort();
    patterns.dedup_by(|next, first| {
        let is_same = next.bin == first.bin && next.items == first.items;
        first.times += if is_same { next.times } else { 0 };
        is_same
    });
    patterns
}

/// Whose a piece of demand is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum DemandOwner {
    Class(u32),
    Gang(u32),
}

impl DemandOwner {
    fn of(demand: DemandRef) -> Self {
        match demand {
            DemandRef::Class(at) => DemandOwner::Class(at),
            DemandRef::Gang { gang, .. } => DemandOwner::Gang(gang),
        }
    }

    /// What it may use; `None`: anything.
    fn reach<'p>(self, gangs: &FluidGangs<'p, '_>) -> Option<&'p Reach> {
        match self {
            DemandOwner::Class(_) => None,
            DemandOwner::Gang(at) => gangs.get(&at).and_then(|(_, reach)| *reach),
        }
    }

    /// As owner of a lot, and whether its bundles must be apart.
    fn into_lot_owner(self, gangs: &FluidGangs<'_, '_>, shape: ShapeId, puts: &[&Put], taken: u64) -> (Owner, bool) {
        match self {
            DemandOwner::Class(at) => (Owner::Class(at, taken), false),
            DemandOwner::Gang(at) => {
                let together = gangs.get(&at).map(|(work, _)| work.together);
                let deal = Deal::again(at, shape, together == Some(Together::One), puts);
                (Owner::Gang(deal, taken as u32), self.is_apart(gangs))
            }
        }
    }

    /// Whether each piece of it must be on a host of its own.
    fn is_apart(self, gangs: &FluidGangs<'_, '_>) -> bool {
        let DemandOwner::Gang(at) = self else { return false };
        gangs.get(&at).is_some_and(|(work, _)| work.together == Together::Apart)
    }
}

/// Whether this is on hosts with accelerators without need of any, where nothing says what their time is worth.
fn is_misplaced(world: &World<'_>, rules: &Rules<'_>, put: &Put) -> bool {
    !rules.prices.is_priced && !world.shapes[put.shape as usize].is_scarce && world.hosts.traits(put.host).is_scarce
}

/// Which classes of present hosts lie within what gangs may use.
struct Within<'p> {
    /// By host: number of the bin that its class is.
    class_of: &'p [usize],
    /// Bins before those of present hosts.
    groups: usize,
    present: &'p [PresentClass],
    known: BTreeMap<*const Reach, Vec<bool>>,
}

impl Within<'_> {
    /// By class of present hosts: whether all of its hosts are within reach.
    fn classes(&mut self, reach: &Reach) -> &[bool] {
        self.known.entry(std::ptr::from_ref(reach)).or_insert_with(|| {
            let mut hosts = vec![0; self.present.len()];
            let bins = reach.hosts.iter().filter_map(|host| self.class_of.get(*host as usize));
            for bin in bins.filter(|bin| **bin != NO_CLASS) {
                hosts[*bin - self.groups] += 1;
            }
            self.present.iter().zip(hosts).map(|(class, hosts)| class.hosts.len() == hosts).collect()
        })
    }
}

/// How far bins are open to a piece of demand.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
struct Openness {
    shape: ShapeId,
    /// Groups are opened as far down the levels of preference as they are now.
    worst: Option<Level>,
    /// Without prices, what is clean of accelerators now stays so.
    is_clean: bool,
}

impl Openness {
    fn of(
        world: &World<'_>,
        rules: &Rules<'_>,
        (shape, levels): (ShapeId, &[Option<Level>]),
        puts: &[&Put],
        stays_clean: bool,
    ) -> Self {
        let launched = puts.iter().filter(|put| put.host as usize >= world.present);
        let now = launched.filter_map(|put| levels[world.hosts.group[put.host as usize] as usize]).max();
        let worst = now.or(levels.iter().flatten().min().copied());
        let is_misplaced = || puts.iter().any(|put| is_misplaced(world, rules, put));
        let is_kept_clean = || rules.keep_gpu_clean || (stays_clean && !rules.prices.is_priced && !is_misplaced());
        Openness { shape, worst, is_clean: !world.shapes[shape as usize].is_scarce && is_kept_clean() }
    }

    /// By bin: whether it may hold the piece.
    fn bins(
        self,
        world: &World<'_>,
        levels: &[Option<Level>],
        reach: Option<(&[bool], &[bool])>,
        present: &[PresentClass],
    ) -> Vec<bool> {
        let Openness { shape, worst, is_clean } = self;
        let needs = &world.shapes[shape as usize];
        let may = |group: usize| {
            let is_in_pool = reach.is_none_or(|(groups, _)| groups.get(group).copied().unwrap_or(false));
            is_in_pool && !(is_clean && world.groups[group].is_scarce)
        };
        let open = levels.iter().enumerate().map(|(group, level)| level.is_some() && *level <= worst && may(group));
        let is_in_reach = |at: usize| reach.is_none_or(|(_, classes)| classes.get(at).copied().unwrap_or(false));
        let holds = |(at, class): (usize, &PresentClass)| {
            is_in_reach(at) && !(is_clean && class.is_scarce) && world.rank(needs, class.kind).is_some()
        };
        open.chain(present.iter().enumerate().map(holds)).collect()
    }
}
