//! One run: a scenario, a policy, a seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mobula_apiserver::{ApiServer, Clock, Ids, Kind, Settings};
use mobula_planner::PolicyOptions;

use crate::chance::stream;
use crate::clock::{START_UNIX_MS, VirtualClock};
use crate::log::{EventLog, Sink};
use crate::scenario::Scenario;
use crate::summary::Summary;
use crate::vigil::Vigil;
use crate::world::{Answers, Flow, SidecarPlan, Wishes, World};

/// How far a run is, for who looks on from another thread.
#[derive(Debug, Default)]
pub struct Progress {
    /// Virtual time in µs.
    pub at_us: AtomicU64,
    /// Turns of the world.
    pub turns: AtomicU64,
}

/// What one run is given.
pub struct Order {
    /// What is simulated.
    pub scenario: Arc<Scenario>,
    /// Name of the policy.
    pub policy: String,
    /// The seed.
    pub seed: u64,
    /// Where the whole log goes.
    pub sink: Option<Sink>,
    /// Called within the run as soon as its clock goes, for what must follow it beneath the run.
    pub begins: fn(VirtualClock),
    /// Who looks on.
    pub progress: Arc<Progress>,
    /// What else is asked for.
    pub wishes: Wishes,
    /// Look at the invariants in every turn, and at the end that nothing is left over.
    pub is_soak: bool,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The numbers.
    pub summary: Summary,
    /// The fingerprint of everything that happened.
    pub hash: String,
    /// What else was asked for.
    pub answers: Answers,
}

/// Why a run has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The world can't be set up.
    #[error("the world can't be set up: {0}")]
    SetUp(String),
    /// A policy of this name is not known.
    #[error("policy {0}: unknown")]
    Policy(String),
    /// Time does not go on.
    #[error("{at}: so much happens at once that time never goes on; last events:\n  {}", .tail.join("\n  "))]
    Stuck {
        /// The virtual time.
        at: String,
        /// The last lines of the log.
        tail: Vec<String>,
    },
    /// Something is as it must never be.
    #[error("{at}: {what}; last events:\n  {}", .tail.join("\n  "))]
    Broken {
        /// The virtual time.
        at: String,
        /// What.
        what: String,
        /// The last lines of the log.
        tail: Vec<String>,
    },
    /// The series can't be written.
    #[error("the series can't be written: {0}")]
    Series(String),
    /// The log can't be written.
    #[error("the log can't be written: {0}")]
    Log(String),
}

/// Runs it on a thread of its own, which must be fresh: hashes of the standard library and of others are seeded once a thread.
///
/// # Errors
/// If the world can't be set up, or time does not go on.
pub fn run(order: Order) -> Result<Outcome, Failure> {
    // Jitter of back-offs in dependencies.
    fastrand::seed(order.seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| Failure::SetUp(error.to_string()))?;
    runtime.block_on(Box::pin(history(order)))
}

async fn history(order: Order) -> Result<Outcome, Failure> {
    let Order { scenario, policy, seed, sink, begins, progress, wishes, is_soak } = order;
    let clock = VirtualClock::start();
    begins(clock);
    let log = EventLog::new(sink);
    let server = ApiServer::new(Settings {
        kinds: Kind::without_add_ons(),
        clock: Clock::starting_at(START_UNIX_MS),
        ids: Ids::seeded(stream(seed, "uid", "").draw()),
        ..Settings::default()
    });
    let options = PolicyOptions { improve_work: scenario.sidecar.improve_work, ..PolicyOptions::default() };
    let named = mobula_planner::policy(&policy, &options).ok_or_else(|| Failure::Policy(policy.clone()))?;
    let vigil = Vigil::default();
    let named = if is_soak {
        vigil.watch(&server, clock);
        vigil.over(named)
    } else {
        named
    };
    let plan = SidecarPlan { policy: named, options };
    let (horizon_us, last_us) = (scenario.horizon.as_us(), scenario.last_planned().as_us());
    let mut world = World::new(scenario.clone(), seed, server, clock, log.clone(), plan);
    world.vigil = vigil;
    world.wish(wishes);
    world.begin().map_err(Failure::SetUp)?;
    let ended = world
        .run(horizon_us, |world| {
            let now_us = world.clock.now_us();
            progress.at_us.store(now_us, Ordering::Relaxed);
            progress.turns.fetch_add(1, Ordering::Relaxed);
            if world.log.is_stuck() {
                let at = crate::span::Span::from_us(now_us).to_string();
                return Err(Failure::Stuck { at, tail: world.log.tail() });
            }
            match is_soak.then(|| world.violation()).flatten() {
                Some(violation) => Err(broken(world, violation)),
                // A soak has nothing more to show once all is done.
                None if is_soak && now_us > last_us && world.leftover().is_none() => Ok(Flow::End),
                None => Ok(Flow::GoOn),
            }
        })
        .await;
    ended?;
    if let Some(leftover) = world.leftover().filter(|_| is_soak) {
        return Err(broken(&world, leftover));
    }
    world.finish();
    log.finish().map_err(|error| Failure::Log(error.to_string()))?;
    let hash = log.hash();
    let summary = Summary::of(&world.measures, &policy, seed, scenario.horizon, &hash, log.lines());
    let answers = world.take_answers();
    match &answers.series_error {
        Some(error) => Err(Failure::Series(error.clone())),
        None => Ok(Outcome { summary, hash, answers }),
    }
}

fn broken(world: &World, what: String) -> Failure {
    let at = crate::span::Span::from_us(world.clock.now_us()).to_string();
    Failure::Broken { at, what, tail: world.log.tail() }
}
