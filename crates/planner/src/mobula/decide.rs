//! The order of business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::advice::{self, Takes};
use super::asked::Asked;
use super::board::{Board, Mark, Put};
use super::choose::Choosing;
use super::demand::{self, Class, GangWork, Together};
use super::floors::{self, Lacking};
use super::gangs::{self, Indices, Short};
use super::limits::Limits;
use super::pools::{Map, Places, Pool, Sites, Tier};
use super::price::Prices;
use super::repack::{self, Fluid, Reach, Repacked};
use super::world::{HostId, Origin, World};
use super::{Rules, over_maximum, pending, shrink, tasks, waiting};
use crate::census::{Census, census};
use crate::given_up::{self, GivenUp};
use crate::packing::Problem;
use crate::roster::Row;
use crate::topology::DomainId;
use crate::{FabricWish, Memory, NodePhase, PolicyOptions, Snapshot, TerminateCause};

/// Most launched hosts times classes of tasks for which it is tried to serve more within the limits.
pub(super) const MAX_RETRIED: usize = 20_000;
/// Most times that what is launched is packed anew because more could be served.
const MAX_ROUNDS: usize = 2;

/// What becomes of a gang.
#[derive(Clone, Debug, Default)]
pub(super) struct GangFate {
    pub is_placed: bool,
    pub domain: Option<String>,
    pub fabric: Option<String>,
    /// What is not as it should be, for people.
    pub drawback: String,
    /// What all places of it had to be, for people.
    pub condition: String,
    /// What found no place, in the place where most of it did.
    pub short: Option<Short>,
    /// What it would take to serve it; `None`: that was not asked, for enough older gangs wait.
    pub takes: Option<Vec<Takes>>,
    /// The domain where most of it found a place.
    pub nearest: Option<String>,
    /// By group: most hosts that can be launched where most of it found a place; `None`: the place has no limit of its own.
    pub rooms: Option<Vec<u32>>,
    /// Most hosts that may be launched where most of it found a place; `None`: the place has no limit of its own.
    pub most_new_hosts: Option<u32>,
    /// Most hosts that such a place can ever have for it.
    pub most_hosts: Option<u32>,
    /// By group: whether it is no candidate because it has no RDMA.
    pub lacks_rdma: Vec<bool>,
    pub work: RunningWork,
}

/// Whether a gang that found no place could be whole once what runs now has ended.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum RunningWork {
    MakesRoom,
    #[default]
    MakesNone,
    /// Enough older gangs wait, of which that was asked.
    NotAsked,
}

/// Everything that was decided.
pub(super) struct Decision<'a> {
    pub snapshot: &'a Snapshot,
    pub board: Board<'a>,
    pub prices: Prices,
    /// Requests without accelerators never go to groups with accelerators.
    pub keep_gpu_clean: bool,
    /// Tasks and actors with the counts that found no place.
    pub classes: Vec<Class>,
    pub gangs: Vec<GangWork<'a>>,
    /// By index in the snapshot.
    pub fates: Vec<GangFate>,
    pub lacking: Vec<Lacking>,
    /// By group: replicas that are launched for its minimum.
    pub floors: Vec<u64>,
    /// By group: replicas that are launched for `request_resources`.
    pub reserved: Vec<u64>,
    pub given_up: GivenUp<'a>,
    pub shrink: shrink::Shrink,
    pub repacked: Repacked,
    /// Pods by group, those that are given up left aside.
    pub census: Vec<Census<'a>>,
    /// The nodes of the snapshot at a glance.
    pub roster: &'a [Row],
    /// What is launched for minima costs so much.
    pub fixed_cost: f64,
}

/// Decides. What must be remembered is written to `memory`. `roster` is what there is to be seen of the nodes at a glance.
pub(super) fn decide<'a>(
    snapshot: &'a Snapshot,
    roster: &'a [Row],
    options: &PolicyOptions,
    memory: &mut Memory,
) -> Decision<'a> {
    let prices = Prices::new(snapshot);
    let rules = Rules {
        prices: &prices,
        keep_gpu_clean: options.keep_gpu_clean,
        conserve_gpu_nodes: snapshot.settings.conserve_gpu_nodes,
        improve_work: options.improve_work,
    };
    let map = Map::new(snapshot, roster);
    // For how long a pod may be pending depends on what it waits for: see `pending`.
    let mut given_up = given_up::find(snapshot, roster, None);
    pending::correct_times(memory, snapshot.now_ms);
    let late = pending::find(snapshot, roster, &given_up.nodes, memory);
    pending::forget(snapshot, roster, memory);
    over_maximum::find(snapshot, roster, &mut given_up);
    let mut draft = Draft::new(snapshot, &rules, &map, roster, &given_up.nodes, memory, Start::default());
    for (group, late) in &late {
        if pending::is_borne(memory, group, snapshot.now_ms) {
            continue;
        }
        let mut units = late.units(snapshot);
        units.truncate(draft.above_minimum(roster[late.nodes[0]].group()));
        let mut blocked = memory.clone();
        pending::block(&mut blocked, group, late.cause, snapshot.now_ms);
        // Pods that do not come are given up as far as that costs nobody their place: what they were for goes elsewhere.
        let attempt = |tried: usize| {
            let mut out = given_up.nodes.clone();
            units[..tried].iter().flatten().for_each(|at| out[*at] = true);
            let other = Draft::new(snapshot, &rules, &map, roster, &out, &blocked, Start::default());
            (other.unserved() <= draft.unserved()).then_some((other, out))
        };
        let (mut given, mut too_many, mut tried) = (0, units.len() + 1, units.len());
        let mut chosen = None;
        while tried > given {
            match attempt(tried) {
                Some(better) => (given, chosen) = (tried, Some(better)),
                None => too_many = tried,
            }
            // Mostly all of them can be given up, or none.
            tried = if given == 0 && too_many > 2 { 1 } else { given.midpoint(too_many) };
        }
        // Where they have to be waited for, nothing more is launched of a group that does not deliver, if others can stand in.
        let launches = draft.launches(roster[late.nodes[0]].group());
        if chosen.is_none() && launches {
            chosen = attempt(0);
        }
        let is_left = given < units.len();
        let Some((other, out)) = chosen else {
            pending::bear(memory, group, launches, snapshot.now_ms);
            continue;
        };
        for at in units[..given].iter().flatten() {
            given_up.ends.push((*at, TerminateCause::AllocationTimeout, late.text.clone()));
        }
        (draft, given_up.nodes, *memory) = (other, out, blocked);
        if is_left {
            pending::bear(memory, group, false, snapshot.now_ms);
        }
    }
    // Only where something is reserved, it matters what it cost at first.
    let at_first = if draft.reserves() { draft.cost(&rules) } else { 0.0 };
    let (mut repacked, mut fixed_cost) = draft.finish(&rules);
    let again = |start: Start<'_>| Draft::new(snapshot, &rules, &map, roster, &given_up.nodes, memory, start);
    let last = || again(Start { reserving: Reserving::Last, ..Start::default() });
    let better = reserving_last(&draft, at_first, &rules, last);
    let better = better.or_else(|| draft.seen_again(&rules, |launched| again(Start { launched, ..Start::default() })));
    let frugal = || again(Start { choosing: Choosing::AsIfLaunched, ..Start::default() });
    let better = better.or_else(|| draft.chosen_otherwise(&rules, frugal));
    let exchanged = || again(Start { exchanges: true, ..Start::default() });
    let better = better.or_else(|| draft.exchanged(&rules, exchanged));
    let better = better.or_else(|| draft.packed_instead(&rules, |packed| again(Start { packed, ..Start::default() })));
    if let Some(better) = better {
        (draft, repacked, fixed_cost) = better;
    }
    if draft.squeeze(&rules, &map) {
        (repacked, fixed_cost) = draft.repack(&rules);
    }
    draft.say_how_near(&map);
    let shrink = shrink::shrink(&draft.board, &map, &given_up, &draft.census, roster, memory);
    Decision {
        snapshot,
        census: draft.census,
        roster,
        board: draft.board,
        classes: draft.classes,
        gangs: draft.gangs,
        fates: draft.fates,
        lacking: draft.lacking,
        floors: draft.floors,
        reserved: draft.reserved,
        prices,
        keep_gpu_clean: options.keep_gpu_clean,
        given_up,
        shrink,
        repacked,
        fixed_cost,
    }
}

/// A draft for which it is looked at last what `request_resources` lacks, if that serves as much and is cheaper: what it asks for
/// may be what tasks and gangs get anyway. `at_first` is what the draft cost before it was packed anew: what is not cheaper then
/// is not looked at any further.
fn reserving_last<'a>(
    draft: &Draft<'a>,
    at_first: f64,
    rules: &Rules<'_>,
    again: impl FnOnce() -> Draft<'a>,
) -> Option<(Draft<'a>, Repacked, f64)> {
    if !draft.reserves() || !draft.board.puts.iter().any(|put| draft.is_new(put.host)) {
        return None;
    }
    let mut other = again();
    let mut peek = other.board.clone();
    floors::constraints(&mut peek, rules);
    if cost(&peek, rules) >= at_first * (1.0 - 1e-9) {
        return None;
    }
    let (repacked, fixed_cost) = other.finish(rules);
    other.reserve(rules);
    let is_cheaper = other.cost(rules) < draft.cost(rules) * (1.0 - 1e-9);
    (is_cheaper && other.unserved() <= draft.unserved()).then_some((other, repacked, fixed_cost))
}

/// What a draft starts from.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Start<'s> {
    reserving: Reserving,
    choosing: Choosing,
    /// SPREAD gangs, by index in the snapshot and in order, that go over as few hosts as PACK ones.
    packed: &'s [u32],
    /// By group: replicas that are launched before anything has its place.
    launched: &'s [u64],
    /// Gangs of several kinds of bundles that must be apart are placed once more when all gangs are placed.
    exchanges: bool,
}

/// When it is looked at what `request_resources` lacks.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
enum Reserving {
    /// Before anything else, so that nothing else takes the room for it.
    #[default]
    First,
    /// When everything else has its place, so that nothing is launched for it that is launched anyway.
    Last,
}

/// A plan without what is only about its cost.
pub(super) struct Draft<'a> {
    pub board: Board<'a>,
    pub classes: Vec<Class>,
    pub gangs: Vec<GangWork<'a>>,
    pub fates: Vec<GangFate>,
    /// By gang in the order of the snapshot, those that may be packed anew: what they may use.
    pub fluid: BTreeMap<u32, Option<Arc<Reach>>>,
    reaches: BTreeMap<(Vec<DomainId>, Option<String>), Arc<Reach>>,
    lacking: Vec<Lacking>,
    floors: Vec<u64>,
    reserved: Vec<u64>,
    /// By host: launched, and to stay as it is.
    pub fixed: Vec<bool>,
    /// Hosts that are there or launched for what must be there: they come first.
    standing: usize,
    pub indices: Indices,
    pub sites: Sites,
    census: Vec<Census<'a>>,
    /// What was packed to be launched for tasks.
    packed: Option<Problem>,
    pub choosing: Choosing,
    /// Whether some gang could choose among places, one of which had hosts on their way.
    pub could_choose: bool,
    /// Gangs that may be placed once more, by index in the snapshot.
    pub mixed: BTreeSet<u32>,
    /// Hosts from this number on are launched for tasks and gangs.
    pub first_free: usize,
    /// Gangs that were looked at because they found no place.
    waiting: usize,
    /// Hosts that were looked at to bring gangs closer together.
    pub looks: usize,
}

/// What everything that is launched costs.
pub(super) fn cost(board: &Board<'_>, rules: &Rules<'_>) -> f64 {
    let hosts = &board.world.hosts;
    let launched = (board.world.present..hosts.len()).filter(|host| !hosts.is_given_up[*host]);
    launched.map(|host| rules.prices.cost[hosts.group[host] as usize]).sum()
}

/// Marks all hosts of the replicas of launched hosts.
pub(super) fn fix_replicas(world: &World<'_>, put: &Put, fixed: &mut [bool]) {
    for at in put.range().map(|host| host as usize) {
        let Origin::New { host: number, .. } = world.hosts.origin[at] else { return };
        let first = at - number as usize;
        let replica = world.groups[world.hosts.group[at] as usize].hosts as usize;
        fixed[first..first + replica].fill(true);
    }
}

impl<'a> Draft<'a> {
    fn new(
        snapshot: &'a Snapshot,
        rules: &Rules<'_>,
        map: &Map<'a>,
        roster: &[Row],
        out: &[bool],
        memory: &Memory,
        start: Start<'_>,
    ) -> Self {
        let is_suspended: Vec<bool> = snapshot.node_types.iter().map(|group| group.suspended).chain([false]).collect();
        let counts = |at: usize, row: Row| {
            let is_there = matches!(row.phase, NodePhase::Running | NodePhase::Pending | NodePhase::Requested);
            let gone = out.get(at).copied().unwrap_or(false) || is_suspended[row.group()];
            is_there && !gone && map.topology.is_target(at)
        };
        let asked = Asked::of(snapshot);
        let mut world = World::new(snapshot, &asked, roster, counts);
        let mut gangs = demand::gangs(&mut world, &asked);
        let packed = gangs.iter_mut().filter(|work| start.packed.binary_search(&work.at).is_ok());
        packed.for_each(|work| work.together = Together::Few);
        let mut classes = demand::classes(&mut world);
        for work in &mut gangs {
            work.fabric = map.fabrics.wish(snapshot, &map.topology, work.gang, work.kinds());
        }
        let census = census(snapshot, roster, |at| out.get(at).copied().unwrap_or(false));
        let limits = Limits::new(&world, &census, memory);
        let mut board = Board::new(world, limits);
        let floors = floors::minima(&mut board, &census);
        let reserved = match start.reserving {
            Reserving::First => floors::constraints(&mut board, rules),
            Reserving::Last => floors::Reserved::default(),
        };
        let fixed = floors::is_launched(&board);
        let first_free = fixed.len();
        board.launch_up_to(start.launched);
        let indices = Indices::new(&board, &gangs);
        let mut draft = Draft {
            board,
            classes: Vec::new(),
            gangs: Vec::new(),
            fates: vec![GangFate::default(); snapshot.gangs.len()],
            fluid: BTreeMap::new(),
            reaches: BTreeMap::new(),
            lacking: reserved.lacking,
            floors,
            reserved: reserved.launched,
            standing: fixed.len(),
            fixed,
            indices,
            sites: Sites::default(),
            census,
            packed: None,
            choosing: start.choosing,
            could_choose: false,
            mixed: BTreeSet::new(),
            first_free,
            waiting: 0,
            looks: 0,
        };
        for work in &gangs {
            draft.place_gang(rules, map, work);
        }
        if start.exchanges {
            draft.exchange(rules, &gangs);
        }
        draft.packed = tasks::serve(&mut draft.board, rules, &mut classes);
        (draft.gangs, draft.classes) = (gangs, classes);
        draft.fixed.resize(draft.board.world.hosts.len(), false);
        draft
    }

    /// Packs anew what may be, and serves what this leaves room for. Returns what came of it, and the cost of the minima that
    /// are launched.
    pub fn finish(&mut self, rules: &Rules<'_>) -> (Repacked, f64) {
        let mut finished = self.repack(rules);
        for _ in 0..MAX_ROUNDS {
            // Packed anew, what is served may leave room under a maximum or a quota.
            let (left, hosts) = (self.unserved(), self.board.world.hosts.len());
            if left.2 == 0 {
                break;
            }
            tasks::serve(&mut self.board, rules, &mut self.classes);
            self.serve_the_hardest_first(rules);
            if self.unserved() == left || self.board.world.hosts.len() == hosts {
                break;
            }
            // And what is launched for what has its place only now may be spared.
            self.fixed.resize(self.board.world.hosts.len(), false);
            finished = self.repack(rules);
        }
        finished
    }

    /// Launches what `request_resources` still lacks.
    fn reserve(&mut self, rules: &Rules<'_>) {
        let reserved = floors::constraints(&mut self.board, rules);
        (self.lacking, self.reserved) = (reserved.lacking, reserved.launched);
    }

    /// Whether something is launched for `request_resources`.
    fn reserves(&self) -> bool {
        self.reserved.iter().any(|replicas| *replicas > 0)
    }

    fn is_new(&self, host: HostId) -> bool {
        host as usize >= self.board.world.present
    }

    /// What everything that is launched costs.
    pub fn cost(&self, rules: &Rules<'_>) -> f64 {
        cost(&self.board, rules)
    }

    /// Replicas of a group that may go before it is at its minimum.
    fn above_minimum(&self, group: usize) -> usize {
        let Some(spec) = self.board.world.groups.get(group).map(|group| group.spec) else { return usize::MAX };
        self.census[group].kept.replicas(spec).saturating_sub(spec.min_replicas) as usize
    }

    /// Whether more is launched of a group than its minimum takes.
    fn launches(&self, group: usize) -> bool {
        let launched = self.board.world.groups.get(group).map_or(0, |group| u64::from(group.launched));
        launched > self.floors.get(group).copied().unwrap_or(0)
    }

    /// What demand has no place: of gangs, which ones, in the order in which they choose, for one that is older is worth more
    /// than any number of younger ones; then how much of `request_resources`, and how many tasks. Less is better.
    pub fn unserved(&self) -> (Vec<bool>, usize, u64) {
        let gangs = self.gangs.iter().map(|work| !self.fates[work.at as usize].is_placed).collect();
        (gangs, self.lacking.len(), self.classes.iter().map(|class| class.count).fold(0, u64::saturating_add))
    }

    fn place_gang(&mut self, rules: &Rules<'_>, map: &Map<'a>, work: &GangWork<'a>) {
        let Places { tiers, condition } = map.places(&self.board, work, &mut self.sites);
        let fate = &mut self.fates[work.at as usize];
        fate.condition = condition;
        let mut nearest = None;
        let mut choose = |tier: &'_ Tier| match &tier.pools[..] {
            // There is nothing to be compared.
            [pool] if pool.is_everywhere() => Ok(0),
            pools => self.best(rules, work, pools),
        };
        let chosen = tiers.iter().find_map(|tier| match choose(tier) {
            Ok(at) => Some((&tier.pools[at], tier.drawback)),
            Err(at) => {
                nearest = at.map(|at| &tier.pools[at]).or(nearest);
                None
            }
        });
        let Some((pool, drawback)) = chosen else {
            if work.fabric == Some(FabricWish::Required) {
                let groups = 0..self.board.world.groups.len();
                self.fates[work.at as usize].lacks_rdma =
                    groups.map(|group| map.fabrics.group(group).is_none()).collect();
            }
            return self.wait(rules, map, work, nearest);
        };
        let mark = self.board.mark();
        let placed = gangs::place(&mut self.board, rules, work, pool, &mut self.indices);
        match placed.and_then(|cost| self.draw_closer(rules, map, work, pool, (&mark, cost))) {
            Ok(closer) => {
                gangs::keep(&mut self.board, &mark);
                let fate = &mut self.fates[work.at as usize];
                fate.is_placed = true;
                (fate.domain, fate.fabric) = (pool.domain.clone(), pool.fabric.clone());
                fate.drawback = drawback.to_owned();
                self.note_fluid(work, pool, &mark);
                if closer.is_none() {
                    self.note_mixed(work, pool);
                }
                self.note_room(map, closer.as_ref().unwrap_or(pool), &mark);
            }
            Err(short) => {
                self.fates[work.at as usize].short = Some(short);
                self.note_mixed(work, pool);
                self.wait(rules, map, work, Some(pool));
            }
        }
    }

    /// Notes what was launched for a gang in a domain where there is only so much room.
    fn note_room(&mut self, map: &Map<'a>, pool: &Pool, mark: &Mark) {
        let launched = self.board.world.hosts.len() - mark.hosts();
        if launched > 0 {
            map.note_launched(&pool.domains, launched as u32, &mut self.sites);
        }
    }

    /// Finds out what a gang would take that found no place, most of it in `nearest`, and holds what it could use if it waits for
    /// running work to end.
    fn wait(&mut self, rules: &Rules<'_>, map: &Map<'a>, work: &GangWork<'a>, nearest: Option<&Pool>) {
        let fate = &mut self.fates[work.at as usize];
        if self.waiting == waiting::MAX_WAITING {
            fate.work = RunningWork::NotAsked;
            return;
        }
        self.waiting += 1;
        if let (Some(pool), Some(short)) = (nearest, &fate.short) {
            fate.takes = Some(advice::takes(&mut self.board, rules, work, pool, short, &mut self.indices));
        }
        self.sites.with_full = true;
        let Places { tiers, .. } = map.places(&self.board, work, &mut self.sites);
        self.sites.with_full = false;
        let pools: Vec<&Pool> = tiers.iter().flat_map(|tier| &tier.pools).collect();
        if waiting::hold(&mut self.board, rules, work, &pools) {
            fate.work = RunningWork::MakesRoom;
        }
    }

    /// Notes whether what was launched for a gang may be packed anew; what may not stays as it is, in whole replicas.
    fn note_fluid(&mut self, work: &GangWork<'a>, pool: &Pool, mark: &Mark) {
        // Bundles of several shapes that must be apart can't be told apart once they are mixed with others; nor can those
        // that are at several levels of preference.
        let is_alike = work.together != Together::Apart || work.parts.len() == 1;
        // Nor may what a gang lost go where the rest of it is, if all have to be apart.
        let is_alike = is_alike && !(work.together == Together::Apart && work.gang.rescheduling);
        if pool.is_fluid && is_alike && self.is_at_one_level(self.board.puts[mark.puts()..].iter()) {
            let reach = self.reach(pool);
            self.fluid.insert(work.at, reach);
            return;
        }
        self.fix(mark);
    }

    /// What holds something that was put there since `mark` stays as it is, in whole replicas.
    pub fn fix(&mut self, mark: &Mark) {
        self.fixed.resize(self.board.world.hosts.len(), false);
        for put in &self.board.puts[mark.puts()..] {
            fix_replicas(&self.board.world, put, &mut self.fixed);
        }
    }

    /// What a gang may use that is kept in a pool; found out once for each domain and fabric, whose groups are given.
    fn reach(&mut self, pool: &Pool) -> Option<Arc<Reach>> {
        let groups = pool.group_mask()?;
        let standing = self.standing;
        let key = (pool.domains.clone(), pool.fabric.clone());
        let reach = self.reaches.entry(key).or_insert_with(|| {
            let hosts = pool.hosts(standing).filter(|host| (*host as usize) < standing).collect();
            Arc::new(Reach { groups, hosts })
        });
        Some(Arc::clone(reach))
    }

    /// Whether all launches that hold this are as good as each other by labels and by the user's priority of groups.
    pub fn is_at_one_level<'p>(&self, puts: impl Iterator<Item = &'p Put>) -> bool {
        let world = &self.board.world;
        let launched = puts.filter(|put| put.host as usize >= world.present);
        let mut levels = launched.map(|put| {
            let group = &world.groups[world.hosts.group[put.host as usize] as usize];
            (put.shape, world.rank(&world.shapes[put.shape as usize], group.kind), group.spec.priority)
        });
        let Some((shape, rank, priority)) = levels.next() else { return true };
        levels.all(|other| other.2 == priority && (other.0 != shape || other.1 == rank))
    }

    /// Packs anew what may be, and returns what came of it, and the cost of the minima that are launched.
    fn repack(&mut self, rules: &Rules<'_>) -> (Repacked, f64) {
        let groups = self.board.world.groups.iter().zip(&self.floors).enumerate();
        let minima =
            groups.map(|(at, (group, replicas))| rules.prices.cost[at] * (*replicas * u64::from(group.hosts)) as f64);
        let fixed_cost = minima.sum();
        let fluid = fluid(&self.fixed, &self.gangs, &self.fluid, self.packed.as_ref());
        (repack::repack(&mut self.board, rules, &fluid), fixed_cost)
    }
}

/// What may be packed anew. A replica with some bundle that can't move stays, and with it whatever else is on it.
pub(super) fn fluid<'g, 'a>(
    fixed: &'g [bool],
    gangs: &'g [GangWork<'a>],
    may_use: &'g BTreeMap<u32, Option<Arc<Reach>>>,
    packed: Option<&'g Problem>,
) -> Fluid<'g, 'a> {
    let gangs = gangs.iter().filter_map(|work| Some((work.at, (work, may_use.get(&work.at)?.as_deref()))));
    Fluid { fixed, gangs: gangs.collect(), packed }
}
