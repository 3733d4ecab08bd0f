//! What holds of the plans of `mobula` one after the other, in a small world that carries them out.

mod given;
#[path = "over_time/memory.rs"]
mod memory;
#[path = "over_time/world.rs"]
mod world;

use std::collections::BTreeSet;

use given::NOW_MS;
use given::random::{demand, mixed_snapshots, near_snapshots};
use mobula_planner::{
    Constraint, DemandClass, Memory, Mobula, NodePhase, Plan, Policy, PolicyOptions, Severity, Snapshot, Terminate,
    TerminateCause, UpscalingMode, Violation, lint,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use world::{Fate, Ways, World};

/// Longest for which a group may be left alone.
const MOST_BACKOFF_MS: i64 = 3_600_000;

/// What happens once, before a tick.
#[derive(Clone, Debug)]
enum Turn {
    Nothing,
    WorkEnds,
    OtherWork(Vec<DemandClass>),
    /// Groups may have so many replicas fewer.
    LowerMaxima(Vec<u32>),
    /// The clock is set back by so much.
    ClockSetBack {
        seconds: i64,
    },
}

#[derive(Clone, Debug)]
struct Story {
    snapshot: Snapshot,
    ways: Ways,
    options: PolicyOptions,
    /// How long after each tick the next one is, in s.
    steps_s: Vec<i64>,
    /// What happens before which tick.
    turn: (usize, Turn),
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        5 => (0..150_i64).prop_map(|seconds| Fate::ComeAfter { seconds }),
        1 => (100..500_i64).prop_map(|seconds| Fate::StuckUntil { seconds }),
        1 => Just(Fate::Stuck),
        1 => Just(Fate::Refused),
    ];
    prop::collection::vec(fate, 3)
}

fn turns() -> impl Strategy<Value = Turn> {
    prop_oneof![
        2 => Just(Turn::Nothing),
        2 => Just(Turn::WorkEnds),
        1 => demand().prop_map(Turn::OtherWork),
        1 => prop::collection::vec(0..5_u32, 3).prop_map(Turn::LowerMaxima),
        1 => (1..100_000_i64).prop_map(|seconds| Turn::ClockSetBack { seconds }),
    ]
}

fn stories() -> impl Strategy<Value = Story> {
    let settings = (
        prop::option::weighted(0.5, 5..120_i64),
        prop::option::weighted(0.3, 1..12_u32),
        prop::option::weighted(0.7, 5..120_i64),
        prop::option::weighted(0.2, 4..16_u32),
        prop::option::weighted(0.5, 20..200_i64),
    );
    let options = any::<bool>().prop_map(|keep_gpu_clean| PolicyOptions { keep_gpu_clean, ..PolicyOptions::default() });
    let ways = (fates(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let ways = ways.prop_map(|(fates, work_starts, ends_take_a_step, pods_take_a_step, hosts_come_apart)| Ways {
        fates,
        hosts_come_apart,
        work_starts,
        ends_take_a_step,
        pods_take_a_step,
    });
    let steps = prop::collection::vec(5..=61_i64, 6..=12);
    let snapshots = prop_oneof![3 => mixed_snapshots(), 1 => near_snapshots()];
    let constraints = prop::option::weighted(0.3, demand());
    let priorities = prop_oneof![Just(vec![0, 0, 0]), prop::collection::vec(0..3, 3)];
    let snapshots = (snapshots, constraints, priorities).prop_map(|(mut snapshot, constraints, priorities)| {
        let few = |class: DemandClass| DemandClass { count: class.count.min(4), ..class };
        let constraint = |requests: Vec<DemandClass>| Constraint { requests: requests.into_iter().map(few).collect() };
        snapshot.constraints.extend(constraints.map(constraint));
        let groups = snapshot.node_types.iter_mut();
        groups.zip(priorities).for_each(|(group, priority)| group.priority = priority);
        snapshot
    });
    (snapshots, settings, options, ways, steps, (1..6_usize, turns())).prop_map(
        |(mut snapshot, settings, options, ways, steps_s, turn)| {
            let (pending_idle_s, in_flight, idle_s, max_nodes, unschedulable_s) = settings;
            if let Some(seconds) = unschedulable_s {
                snapshot.settings.patience.unschedulable_ms = Some(seconds * 1000);
            }
            snapshot.settings.pending_idle_timeout_ms = pending_idle_s.map(|seconds| seconds * 1000);
            snapshot.settings.max_in_flight = in_flight;
            snapshot.settings.idle_timeout_ms = idle_s.map(|seconds| seconds * 1000);
            snapshot.settings.max_nodes = max_nodes;
            Story { snapshot, ways, options, steps_s, turn }
        },
    )
}

/// What the linter finds, but for what is told of situations that a plan can't help.
fn violations(snapshot: &Snapshot, plan: &Plan) -> Vec<Violation> {
    let is_told = |found: &Violation| {
        found.severity == Severity::Warning && matches!(found.rule, "maximum" | "minimum" | "domain-size")
    };
    lint(snapshot, plan).into_iter().filter(|found| !is_told(found)).collect()
}

/// What is seen of plans one after the other.
struct Watch {
    /// Everything that is launched comes, sooner or later.
    delivers: bool,
    /// Tick of the last turn.
    turned: usize,
    /// Groups of which something ended that nothing needed, since anything happened that could change that.
    ended: BTreeSet<String>,
    /// Groups that are left alone, and for the how-manieth time.
    left_alone: Vec<(String, u32)>,
    /// Plans since anything happened.
    still: usize,
    unserved: u64,
    /// What was done, for people.
    log: String,
}

impl Watch {
    fn new(story: &Story) -> Watch {
        Watch {
            delivers: story.ways.fates.iter().all(|fate| matches!(fate, Fate::ComeAfter { .. })),
            turned: 0,
            ended: BTreeSet::new(),
            left_alone: Vec::new(),
            still: 0,
            unserved: 0,
            log: String::new(),
        }
    }

    fn turn(&mut self, tick: usize) {
        (self.turned, self.still) = (tick, 0);
        self.ended.clear();
    }

    /// What is wrong with the plan.
    fn see(&mut self, world: &World, plan: &Plan, before: &Memory, after: &Memory) -> Result<(), String> {
        let snapshot = &world.snapshot;
        let is_spare = |end: &&Terminate| matches!(end.cause, TerminateCause::Idle | TerminateCause::MaxPerGroup);
        let grown: BTreeSet<&str> = plan.launch.iter().map(|launch| launch.group.as_str()).collect();
        let spared: BTreeSet<&str> = plan.terminate.iter().filter(is_spare).map(|end| end.group.as_str()).collect();
        self.log += &told(snapshot, plan);
        let found = violations(snapshot, plan);
        if !found.is_empty() {
            return Err(format!("{found:#?}"));
        }
        if !grown.is_disjoint(&spared) {
            return Err(format!("{grown:?} are grown, {spared:?} shrunk"));
        }
        back_offs(snapshot.now_ms, before, after)?;
        self.note(world, plan, after);
        let serves_more = self.serves_more(plan);
        let settings = &snapshot.settings;
        let is_slowed = settings.max_in_flight.is_some() || settings.upscaling_mode == UpscalingMode::Conservative;
        // The first of these finds the situation anew, the second what was launched.
        if self.still > 2 && !is_slowed && !grown.is_empty() && !serves_more {
            return Err(format!("{grown:?} are grown although nothing has happened"));
        }
        if let Some(group) = grown.iter().find(|group| self.ended.contains(**group)) {
            return Err(format!("{group} is launched again after it was not needed"));
        }
        self.ended.extend(spared.into_iter().map(str::to_owned));
        let is_new = |end: &&Terminate| world.born.get(&*end.instance_id).is_some_and(|tick| *tick > self.turned);
        let for_nothing = plan.terminate.iter().filter(|end| end.cause == TerminateCause::Idle).find(is_new);
        match for_nothing.filter(|_| self.delivers) {
            Some(end) => Err(format!("{} was launched for nothing", end.instance_id)),
            None => Ok(()),
        }
    }

    /// Notes whether anything has happened that other plans may follow from.
    fn note(&mut self, world: &World, plan: &Plan, after: &Memory) {
        let snapshot = &world.snapshot;
        let in_force = after.blocked.iter().filter(|(_, blocked)| blocked.until_ms > snapshot.now_ms);
        let left_alone: Vec<(String, u32)> = in_force.map(|(group, blocked)| (group.clone(), blocked.times)).collect();
        let gives_up = plan.terminate.iter().any(|end| end.cause == TerminateCause::AllocationTimeout);
        let is_other = gives_up || world.is_other || left_alone != self.left_alone;
        self.left_alone = left_alone;
        if is_other {
            self.ended.clear();
        }
        let is_leaving = snapshot.nodes.iter().any(|node| node.phase == NodePhase::Leaving);
        self.still = if is_other || is_leaving || !plan.terminate.is_empty() { 1 } else { self.still + 1 };
    }

    /// Under maxima, a later look may find places for more.
    fn serves_more(&mut self, plan: &Plan) -> bool {
        let unserved = plan.unmet.iter().map(|unmet| unmet.count).sum();
        unserved < std::mem::replace(&mut self.unserved, unserved)
    }
}

/// A group is left alone for longer only after it has been tried again, and never for ever.
fn back_offs(now_ms: i64, before: &Memory, after: &Memory) -> Result<(), String> {
    for (group, blocked) in &after.blocked {
        let until_ms = before.blocked.get(group).map_or(0, |before| before.until_ms);
        if until_ms > now_ms && blocked.until_ms > until_ms {
            return Err(format!("{group} is left alone for longer although it was not tried"));
        }
        if blocked.until_ms > now_ms + MOST_BACKOFF_MS {
            return Err(format!("{group} is left alone for {} ms", blocked.until_ms - now_ms));
        }
    }
    Ok(())
}

/// What a plan does, in a line.
fn told(snapshot: &Snapshot, plan: &Plan) -> String {
    let launches = plan
        .launch
        .iter()
        .map(|launch| format!("; {} more of {} for {}", launch.replicas, launch.group, launch.reason));
    let ends = plan.terminate.iter().map(|end| format!("; {} ends: {}", end.instance_id, end.reason));
    let unmet = plan.unmet.iter().map(|unmet| format!("; {} unmet: {}", unmet.count, unmet.reason));
    let parts: String = launches.chain(ends).chain(unmet).collect();
    format!("at {} s{parts}\n", (snapshot.now_ms - NOW_MS) / 1000)
}

fn tell(story: &Story) -> Result<(), String> {
    let policy = Mobula { options: story.options };
    let mut world = World::new(story.snapshot.clone(), story.ways.clone());
    let mut memory = Memory::default();
    let mut watch = Watch::new(story);
    for (tick, step_s) in story.steps_s.iter().enumerate() {
        if tick == story.turn.0 {
            watch.turn(tick);
            take(&mut world, &story.turn.1);
        }
        let (plan, next) = policy.plan(&world.snapshot, &memory);
        watch.see(&world, &plan, &memory, &next).map_err(|why| format!("{why}\n{}", watch.log))?;
        memory = next;
        world.go_on(&plan, step_s * 1000);
    }
    Ok(())
}

fn take(world: &mut World, turn: &Turn) {
    let snapshot = &mut world.snapshot;
    match turn {
        Turn::Nothing => {}
        Turn::WorkEnds => world.end_work(),
        Turn::OtherWork(demand) => (snapshot.demand, snapshot.gangs) = (demand.clone(), Vec::new()),
        Turn::LowerMaxima(fewer) => {
            for (group, fewer) in snapshot.node_types.iter_mut().zip(fewer) {
                group.max_replicas = group.max_replicas.saturating_sub(*fewer);
                group.min_replicas = group.min_replicas.min(group.max_replicas);
            }
        }
        Turn::ClockSetBack { seconds } => snapshot.now_ms -= seconds * 1000,
    }
}

proptest! {
    // The same stories in every run: that gangs take what runs first may cost a host, though hardly ever.
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn plans_one_after_the_other_are_sound(story in stories()) {
        tell(&story).map_err(TestCaseError::fail)?;
    }
}
