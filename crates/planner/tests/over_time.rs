//! What holds of the plans of `mobula` one after the other, in a small world that carries them out.

mod given;
#[path = "over_time/memory.rs"]
mod memory;
#[path = "over_time/world.rs"]
mod world;

use std::collections::BTreeMap;

use given::random::{demand, mixed_snapshots};
use mobula_planner::{
    DemandClass, Memory, Mobula, Plan, Policy, PolicyOptions, Severity, Snapshot, TerminateCause, Violation, lint,
};
use proptest::prelude::*;
use world::{Fate, Ways, World};

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
    (mixed_snapshots(), settings, options, ways, steps, (1..6_usize, turns())).prop_map(
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

/// Groups that are grown, and that lose what nothing needs.
fn moves(plan: &Plan) -> (Vec<&str>, Vec<&str>) {
    let is_spare = |cause| matches!(cause, TerminateCause::Idle | TerminateCause::MaxPerGroup);
    let mut ended: Vec<&str> =
        plan.terminate.iter().filter(|end| is_spare(end.cause)).map(|end| end.group.as_str()).collect();
    ended.sort_unstable();
    ended.dedup();
    (plan.launch.iter().map(|launch| launch.group.as_str()).collect(), ended)
}

fn tell(story: &Story) -> Result<(), String> {
    let policy = Mobula { options: story.options };
    let mut world = World::new(story.snapshot.clone(), story.ways.clone());
    let mut memory = Memory::default();
    // By group: the tick in which something of it ended that nothing needed.
    let mut ended: BTreeMap<String, usize> = BTreeMap::new();
    let mut log = String::new();
    let (mut was_blocked, mut last_turn) = (Vec::new(), 0);
    let delivers = story.ways.fates.iter().all(|fate| matches!(fate, Fate::ComeAfter { .. }));
    for (tick, step_s) in story.steps_s.iter().enumerate() {
        if tick == story.turn.0 {
            ended.clear();
            last_turn = tick;
            take(&mut world, &story.turn.1);
        }
        let snapshot = &world.snapshot;
        let (plan, next) = policy.plan(snapshot, &memory);
        let (grown, spared) = moves(&plan);
        log += &format!("tick {tick} at {} s: ", (snapshot.now_ms - story.snapshot.now_ms) / 1000);
        for launch in &plan.launch {
            log += &format!("launch {} {} ({}); ", launch.replicas, launch.group, launch.reason);
        }
        for end in &plan.terminate {
            log += &format!("end {} {:?}; ", end.instance_id, end.cause);
        }
        for (group, planned) in &plan.groups {
            log += &format!("{group} {}->{} ", planned.requested, planned.desired);
        }
        log += "\n";
        let found = violations(snapshot, &plan);
        if !found.is_empty() {
            return Err(format!("{found:#?}\n{log}"));
        }
        if let Some(both) = grown.iter().find(|group| spared.contains(group)) {
            return Err(format!("{both} is both grown and shrunk\n{log}"));
        }
        for (group, blocked) in &next.blocked {
            let before = memory.blocked.get(group).map_or(0, |before| before.until_ms);
            if blocked.until_ms > before && before > snapshot.now_ms {
                return Err(format!("{group} is left alone for longer although nothing was tried\n{log}"));
            }
            if blocked.until_ms > snapshot.now_ms + 3_600_000 {
                return Err(format!("{group} is left alone for too long\n{log}"));
            }
        }
        let in_force = |memory: &Memory| -> Vec<(String, u32)> {
            let blocked = memory.blocked.iter().filter(|(_, blocked)| blocked.until_ms > snapshot.now_ms);
            blocked.map(|(group, blocked)| (group.clone(), blocked.times)).collect()
        };
        let now = in_force(&next);
        let gave_up = plan.terminate.iter().any(|end| end.cause == TerminateCause::AllocationTimeout);
        if now != was_blocked || gave_up || (tick > 0 && world.has_come) {
            ended.clear();
        }
        was_blocked = now;
        if let Some(group) = grown.iter().find(|group| ended.contains_key(**group)) {
            return Err(format!("{group} is launched again (delivers {delivers})\n{log}"));
        }
        ended.extend(spared.iter().map(|group| ((*group).to_owned(), tick)));
        for end in plan.terminate.iter().filter(|end| end.cause == TerminateCause::Idle) {
            if delivers && world.born.get(&*end.instance_id).is_some_and(|born| *born > last_turn) {
                return Err(format!("{} was launched for nothing\n{log}", end.instance_id));
            }
        }
        memory = next;
        world.go_on(&plan, step_s * 1000, tick);
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
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_one_after_the_other_are_sound(story in stories()) {
        tell(&story).map_err(TestCaseError::fail)?;
    }
}
