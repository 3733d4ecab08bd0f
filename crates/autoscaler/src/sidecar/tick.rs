//! One turn: observe, plan, check, carry out, tell.

use std::{sync::Arc, time::Duration};

use mobula_api::RayCluster;
use mobula_planner::{Memory, Plan, Severity, Snapshot};
use serde_json::Value;
use tokio::time::Instant;
use tracing::Instrument;

use super::{
    Context, LoopState, TickError, apply,
    collect::{self, Collected},
    due::Due,
    publish,
    sound_part::sound_part,
};
use crate::{
    metrics::own,
    pace::Pace,
    snapshot::{Built, SnapshotOptions},
};

/// A plan and what it was made from.
pub(super) struct Planned {
    pub snapshot: Arc<Snapshot>,
    pub warnings: Vec<String>,
    /// The options that the snapshot was made with.
    pub options: SnapshotOptions,
    /// What the policy remembered before.
    pub memory_before: Memory,
    /// What it remembers afterwards.
    pub memory_after: Memory,
    /// What the policy said.
    pub plan: Arc<Plan>,
    /// What of it may be carried out: all of it, unless it breaks an invariant; `None`: nothing.
    pub sound: Option<Arc<Plan>>,
    /// The RayCluster that the plan was made from.
    pub cluster: Arc<RayCluster>,
    /// Broken invariants that forbid the plan as a whole.
    pub violations: Vec<String>,
}

/// What a turn comes to.
pub(super) struct Done {
    /// `idle`, `changed`, `held`, `stale` or `failed`.
    pub result: &'static str,
    /// When the next poll may start.
    pub next_poll: Instant,
    pub collected: Collected,
    pub planned: Planned,
    /// See [`mobula_planner::Cache::patience_ms`].
    pub patience_ms: Option<i64>,
}

pub(super) async fn tick(context: &Context, state: &mut LoopState) -> Result<Done, TickError> {
    let span = tracing::info_span!(
        "tick",
        cluster = %context.config.cluster,
        session = tracing::field::Empty,
        state_version = tracing::field::Empty,
        resource_version = tracing::field::Empty,
        generation = tracing::field::Empty,
    );
    turn(context, state).instrument(span).await
}

async fn turn(context: &Context, state: &mut LoopState) -> Result<Done, TickError> {
    let started = Instant::now();
    let mut collected = collect::collect(context, state).await?;
    phase(context, "collect", started);
    let still = state.still.take().and_then(|still| Some((still.patience_left_ms(state, &collected)?, still.planned)));
    if let Some((patience_ms, planned)) = still {
        say_versions(&collected);
        publish::still(context, state, &collected, &planned).await;
        let next_poll = next_poll(&context.config.pace, &collected, None);
        return Ok(Done { result: "idle", next_poll, collected, planned, patience_ms: Some(patience_ms) });
    }
    state.kube_backoffs.forget_untried();
    let mut planned = plan(context, state, &collected)?;
    let mut due = Due::new(state, &collected, &planned);
    if !context.cluster.is_watched() && due.changes_something {
        let fresh = collect::current_cluster(context, state, Duration::ZERO).await?;
        if !Arc::ptr_eq(&fresh, &collected.cluster) && version(&fresh) != version(&collected.cluster) {
            collected.observation.cluster = collect::parse(state, &fresh)?;
            collected.cluster = fresh;
            planned = plan(context, state, &collected)?;
            due = Due::new(state, &collected, &planned);
        }
    }
    say_versions(&collected);
    let started = Instant::now();
    context.applying.send_replace(true);
    let applied = apply::apply(context, state, &collected, &planned, due).await;
    context.applying.send_replace(false);
    phase(context, "apply", started);
    let started = Instant::now();
    publish::publish(context, state, &collected, &planned, &applied).await;
    phase(context, "report", started);
    let next_poll = next_poll(&context.config.pace, &collected, applied.retry_after);
    let patience_ms = state.cache.patience_ms(&planned.snapshot);
    Ok(Done { result: applied.result(), next_poll, collected, planned, patience_ms })
}

/// Says in the tick's span what it was made from.
fn say_versions(collected: &Collected) {
    let (state, cluster) = (&collected.observation.state, &collected.observation.cluster.metadata);
    tracing::Span::current()
        .record("session", &state.session_name)
        .record("state_version", state.version)
        .record("resource_version", &cluster.resource_version)
        .record("generation", cluster.generation);
}

/// A plan that was overtaken is made anew as soon as its back-off (`retry_after`) allows, but never faster than the pace.
fn next_poll(pace: &Pace, collected: &Collected, retry_after: Option<Duration>) -> Instant {
    let by_pace = collected.replied + pace.next_poll(collected.took);
    by_pace.max(Instant::now() + retry_after.unwrap_or_default())
}

fn plan(context: &Context, state: &mut LoopState, collected: &Collected) -> Result<Planned, TickError> {
    let started = Instant::now();
    let Built { mut snapshot, warnings } = state.kept.build(&collected.observation, &state.options)?;
    state.cache.share(&mut snapshot);
    let snapshot = Arc::new(snapshot);
    phase(context, "snapshot", started);
    let started = Instant::now();
    let memory_before = state.memory.clone();
    let (plan, memory_after) = state.cache.plan(&*context.config.policy, &snapshot, &memory_before);
    phase(context, "plan", started);
    let started = Instant::now();
    let mut violations = Vec::new();
    for violation in state.cache.violations() {
        tracing::error!(rule = violation.rule, severity = ?violation.severity, "{violation}");
        context.metrics.add(&own::PLAN_VIOLATIONS, vec![("rule", violation.rule.into())], 1);
        if violation.severity == Severity::Error {
            violations.push(violation.to_string());
        }
    }
    let sound = if violations.is_empty() {
        state.memory = memory_after.clone();
        Some(Arc::clone(&plan))
    } else {
        let sound = sound_part(&*context.config.policy, &snapshot, (&memory_before, &memory_after), &plan);
        sound.map(|(plan, memory)| {
            state.memory = memory;
            Arc::new(plan)
        })
    };
    phase(context, "lint", started);
    let cluster = Arc::clone(&collected.observation.cluster);
    let options = state.options.clone();
    Ok(Planned { snapshot, warnings, options, memory_before, memory_after, plan, sound, cluster, violations })
}

fn version(cluster: &Value) -> Option<&str> {
    cluster["metadata"]["resourceVersion"].as_str()
}

fn phase(context: &Context, name: &'static str, started: Instant) {
    context.metrics.observe(&own::TICK_PHASE_SECONDS, vec![("phase", name.into())], started.elapsed());
}
