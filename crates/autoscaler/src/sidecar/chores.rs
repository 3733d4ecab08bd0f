//! What is due now and then, off the path from demand to patch: ages of placement groups, the job table, resizes, and making
//! ourselves known to a new head. None may keep the next tick waiting for long: each has a limit, and one that has
//! reached it is left out for a while.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::join_all;
use mobula_api::{PodView, RayCluster};
use mobula_planner::NodePhase;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    Context, LoopState, TickError,
    nodes::{self, Around},
    start,
    tick::Done,
};
use crate::{
    idle_termination::{self, Decision},
    kube_access::{KubeAccess, KubeError, KubeErrorKind},
    kube_events::{self, Regarding},
    metrics::own,
    pace::{BackoffLimits, Backoffs},
    prices::Refreshed,
    quotas::{Reading, Source, workloads_of},
    rbac::{self, OptionalKind, Permission},
    resize, surroundings,
    topology::DescribedTopology,
};

/// How often the job table and the table of placement groups are read, where they are needed at all.
const TABLE_INTERVAL: Duration = Duration::from_secs(5);
/// How often quotas and nodes are read.
const SURROUNDINGS_INTERVAL: Duration = Duration::from_secs(30);
/// How often the price file is looked at.
const PRICES_INTERVAL: Duration = Duration::from_secs(5);
/// Most time that one chore may take.
const CHORE_LIMIT: Duration = Duration::from_secs(3);
/// Limit of one request to the API server in a chore: the request itself fails before the chore does.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);
/// How long a chore is left out that has reached its limit.
const CHORE_BACKOFF: BackoffLimits = BackoffLimits { first: Duration::from_secs(10), most: Duration::from_secs(60) };
/// How long access reviews that failed are left alone.
const REVIEW_BACKOFF: BackoffLimits = BackoffLimits { first: Duration::from_secs(2), most: Duration::from_secs(60) };
/// Back-off of ticks that fail.
const TICK_BACKOFF: BackoffLimits = BackoffLimits { first: Duration::from_millis(250), most: Duration::from_secs(10) };

/// Everything that is done after a tick, in this order.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Chore {
    Announce,
    GangAges,
    IdleTermination,
    Resize,
    Permissions,
    Surroundings,
    Prices,
    Events,
}

impl Chore {
    const ALL: [Chore; 8] = [
        Chore::Announce,
        Chore::GangAges,
        Chore::IdleTermination,
        Chore::Resize,
        Chore::Permissions,
        Chore::Surroundings,
        Chore::Prices,
        Chore::Events,
    ];

    /// Name in metrics and logs.
    fn as_str(self) -> &'static str {
        match self {
            Chore::Announce => "announce",
            Chore::GangAges => "gang_ages",
            Chore::IdleTermination => "idle_termination",
            Chore::Resize => "resize",
            Chore::Permissions => "permissions",
            Chore::Surroundings => "surroundings",
            Chore::Prices => "prices",
            Chore::Events => "events",
        }
    }

    async fn run(self, context: &Context, state: &mut LoopState, done: &Done) {
        match self {
            Chore::Announce => announce(context, state, done).await,
            Chore::GangAges => read_gang_ages(context, state, done).await,
            Chore::IdleTermination => end_unused_cluster(context, state, done).await,
            Chore::Resize => resize_pods(context, state, done).await,
            Chore::Permissions => ask_permissions(context, state).await,
            Chore::Surroundings => look_around(context, state, done).await,
            Chore::Prices => read_prices(context, state).await,
            Chore::Events => send_events(context, state, done).await,
        }
    }
}

/// When chores were done last.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    gangs_read: Option<Instant>,
    jobs_read: Option<Instant>,
    failures: Backoffs<(&'static str, &'static str)>,
    /// The last failure that was logged, and how often it has come since.
    last_failure: Option<String>,
    refused_idle: Option<String>,
    surroundings_read: Option<Instant>,
    prices_read: Option<Instant>,
    notes: Vec<String>,
    suspend_backoffs: Backoffs<KubeErrorKind>,
    event_backoffs: Backoffs<KubeErrorKind>,
    resize_backoffs: Backoffs<&'static str>,
    review_backoffs: Backoffs<()>,
    /// Chores that reached their limit.
    slow: Backoffs<Chore>,
}

impl Schedule {
    /// Notes a failed tick: says it once, and returns how long to wait.
    pub(super) fn failed(&mut self, source: &'static str, kind: &'static str, error: &TickError) -> Duration {
        let wait = self.failures.fail((source, kind), TICK_BACKOFF, None);
        let text = format!("{source} {kind}");
        if self.last_failure.as_ref() == Some(&text) {
            tracing::debug!(%error, wait_ms = wait.as_millis() as u64, "no plan");
        } else {
            tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "no plan: nothing is changed");
            self.last_failure = Some(text);
        }
        wait
    }

    fn succeeded(&mut self) {
        self.failures = Backoffs::new();
        if let Some(failure) = self.last_failure.take() {
            tracing::info!(after = failure, "planning again");
        }
    }

    fn is_due(at: Option<Instant>, interval: Duration) -> bool {
        at.is_none_or(|at| at.elapsed() >= interval)
    }

    /// What is odd about the surroundings.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }
}

pub(super) async fn after_tick(context: &Context, state: &mut LoopState, done: &Done) {
    state.chores.succeeded();
    for chore in Chore::ALL {
        if state.chores.slow.blocked(|slow| *slow == chore).is_some() {
            continue;
        }
        if tokio::time::timeout(CHORE_LIMIT, chore.run(context, state, done)).await.is_ok() {
            state.chores.slow.succeed_where(|slow| *slow == chore);
            continue;
        }
        let wait = state.chores.slow.fail(chore, CHORE_BACKOFF, None);
        if chore == Chore::IdleTermination {
            // Nobody has seen whether the cluster is in use.
            state.idle.start_over();
        }
        context.metrics.add(&own::ERRORS, vec![("source", "chore".into()), ("kind", chore.as_str().into())], 1);
        tracing::warn!(chore = chore.as_str(), wait_ms = wait.as_millis() as u64, "took too long: scaling goes first");
    }
}

/// Requests of chores to the API server.
fn kube(context: &Context) -> KubeAccess {
    context.kube.within(REQUEST_LIMIT)
}

/// Asks what this account may do before the first tick, so that also that one is told to Kubernetes where that is allowed.
pub(super) async fn first_review(context: &Context, state: &mut LoopState) {
    // One that takes too long is gone on with after the first tick.
    let _ = tokio::time::timeout(CHORE_LIMIT, ask_permissions(context, state)).await;
}

/// Asks what this account may do, until there is an answer to everything.
async fn ask_permissions(context: &Context, state: &mut LoopState) {
    if state.permissions.is_known() || state.chores.review_backoffs.blocked(|()| true).is_some() {
        return;
    }
    let answer = rbac::review(&kube(context), &mut state.permissions).await;
    if let Err(error) = answer {
        let wait = state.chores.review_backoffs.fail((), REVIEW_BACKOFF, error.retry_after);
        context.metrics.add(&own::ERRORS, vec![("source", "kube".into()), ("kind", error.kind.as_str().into())], 1);
        tracing::warn!(
            %error,
            wait_ms = wait.as_millis() as u64,
            "no answer to which optional permissions there are: doing without them until it is asked again"
        );
        return;
    }
    let missing: Vec<&str> = state.permissions.missing().map(Permission::as_str).collect();
    for name in &missing {
        context.metrics.set(&own::MISSING_PERMISSIONS, vec![("permission", (*name).into())], 1.0);
    }
    if !missing.is_empty() {
        tracing::info!(
            missing = missing.join(", "),
            "optional permissions that this account does not have; see deploy/rbac/sidecar-extra.yaml"
        );
    }
}

/// Quotas and nodes, where this account may read them.
async fn look_around(context: &Context, state: &mut LoopState, done: &Done) {
    if !Schedule::is_due(state.chores.surroundings_read, SURROUNDINGS_INTERVAL) {
        return;
    }
    let requested = done.planned.snapshot.nodes.iter().filter(|node| node.phase == NodePhase::Requested);
    let waiting = requested.map(|node| &*node.group).collect();
    let pods = done.collected.observation.pods.as_deref().unwrap_or_default();
    let gangs = done.planned.snapshot.gangs.iter().filter_map(|gang| gang.locality.as_ref());
    let asked = gangs.map(|locality| locality.label.as_str()).collect();
    read_surroundings(context, state, &Around { cluster: &done.planned.cluster, pods, waiting, asked }).await;
}

/// Reads quotas and nodes before the first plan, which they may keep from asking for too much.
pub(super) async fn first_look(context: &Context, state: &mut LoopState, cluster: &RayCluster, pods: &[PodView]) {
    if state.chores.surroundings_read.is_some() {
        return;
    }
    let around = Around { cluster, pods, waiting: BTreeSet::new(), asked: BTreeSet::new() };
    let looked = tokio::time::timeout(CHORE_LIMIT, read_surroundings(context, state, &around)).await;
    if looked.is_err() {
        tracing::warn!(limit_s = CHORE_LIMIT.as_secs(), "quotas and nodes could not be read before the first plan");
    }
}

async fn read_surroundings(context: &Context, state: &mut LoopState, around: &Around<'_>) {
    state.chores.surroundings_read = Some(Instant::now());
    let kube = kube(context);
    let kinds: Vec<(Permission, OptionalKind)> = state.permissions.optional_kinds().collect();
    // Side by side, and each with its own limit: a kind that is slow must not cost what the others say.
    let of_cluster = workloads_of(around.cluster);
    let selector = |kind: OptionalKind| of_cluster.as_deref().filter(|_| kind.kind == Source::Workload.kind());
    let optional =
        kinds.iter().map(|(_, kind)| tokio::time::timeout(REQUEST_LIMIT, kube.list_optional(*kind, selector(*kind))));
    // A watch stands in for the list while it goes.
    let lists_nodes =
        state.permissions.has(Permission::ListNodes) && context.nodes.ask(&nodes::label_keys(state, around)).is_none();
    let (optional, quotas, listed) = tokio::join!(
        join_all(optional),
        async { if state.permissions.has(Permission::ListQuotas) { Some(kube.list_quotas().await) } else { None } },
        async { if lists_nodes { Some(kube.list_nodes().await) } else { None } },
    );
    let mut notes = Vec::new();
    if let Some(quotas) = quotas
        && let Some(quotas) = allowed(context, state, Permission::ListQuotas, quotas)
    {
        notes.extend(surroundings::quota_notes(&quotas, around.cluster, &around.waiting));
        let objects: Vec<&Value> = surroundings::items(&quotas).collect();
        read_quotas(state, Source::ResourceQuota, &objects, around, &mut notes);
    }
    for ((permission, kind), answer) in kinds.into_iter().zip(optional) {
        match answer {
            Ok(answer) => {
                let objects = allowed(context, state, permission, answer);
                read_optional_kind(state, (permission, kind), objects, around, &mut notes);
            }
            Err(_) => notes.push(format!("{} could not be read within {} s", kind.kind, REQUEST_LIMIT.as_secs())),
        }
    }
    let described = describe_topology(context, state, &mut notes);
    if let Some(listed) = listed {
        let listed = allowed(context, state, Permission::ListNodes, listed);
        nodes::read_nodes(context, state, around, (Some(listed.as_ref()), &described), &mut notes);
    } else if state.permissions.has(Permission::ListNodes)
        && !nodes::read_nodes(context, state, around, (None, &described), &mut notes)
    {
        state.chores.surroundings_read = None;
    }
    if described.has_hypernodes() && !state.permissions.has(Permission::ListNodes) {
        notes.push(
            "HyperNodes say nothing here: Kubernetes nodes are not known (the Role does not allow to list them)"
                .to_owned(),
        );
    }
    // What may not be read any more is not known any more.
    if !state.permissions.has(Permission::ListQuotas) {
        state.quotas.remove(&Source::ResourceQuota);
    }
    if !state.permissions.has(Permission::ListNodes) {
        (state.kube_nodes, state.nodes_made_of) = (Arc::default(), None);
    }
    state.chores.notes = notes;
}

/// What quotas of one source leave, and what of them can't be read.
fn read_quotas(
    state: &mut LoopState,
    source: Source,
    objects: &[&Value],
    around: &Around<'_>,
    notes: &mut Vec<String>,
) {
    notes.extend(objects.iter().flat_map(|object| source.doubts(object)));
    state.quotas.insert(source, Reading::new(source, objects.iter().copied(), around.cluster, around.pods));
}

/// Quotas and topology of a kind that need not be known to the API server. `None`: they could not be read.
fn read_optional_kind(
    state: &mut LoopState,
    (permission, kind): (Permission, OptionalKind),
    objects: Option<Vec<Value>>,
    around: &Around<'_>,
    notes: &mut Vec<String>,
) {
    let source = Source::ALL.into_iter().find(|source| source.kind() == kind.kind);
    match (objects, source) {
        (Some(objects), Some(source)) => {
            read_quotas(state, source, &objects.iter().collect::<Vec<_>>(), around, notes);
        }
        (Some(objects), None) => drop(state.topology.insert(permission, objects)),
        // What may not be read any more is not known any more.
        (None, source) if !state.permissions.has(permission) => {
            state.topology.remove(&permission);
            source.map(|source| state.quotas.remove(&source));
        }
        (None, _) => {}
    }
}

/// What the objects that were read say of the topology. Their levels come beside those that the user chose, unless that are
/// none; HyperNodes that the user gave stand instead of those that were read.
fn describe_topology(context: &Context, state: &mut LoopState, notes: &mut Vec<String>) -> Arc<DescribedTopology> {
    let given = &context.config.hypernodes;
    let chosen = &context.config.snapshot.topology;
    let mut readable = Vec::new();
    for (permission, objects) in state.topology.iter().filter(|_| !chosen.is_empty()) {
        if *permission == Permission::ListHyperNodes && given.has_hypernodes() {
            continue;
        }
        for object in objects {
            match DescribedTopology::from_documents(std::slice::from_ref(object)) {
                Ok(_) => readable.push(object.clone()),
                Err(error) => notes.push(format!("topology is left out: {error}")),
            }
        }
    }
    let described = DescribedTopology::from_documents(&readable).unwrap_or_default();
    let mut levels = chosen.clone();
    notes.extend(described.add_levels(&mut levels));
    if state.options.topology != levels {
        state.options.topology = levels;
    }
    if given.has_hypernodes() { Arc::clone(given) } else { Arc::new(described) }
}

/// Prices, if the file has changed. One that can't be used is said once, and the older prices stay.
pub(super) async fn read_prices(context: &Context, state: &mut LoopState) {
    let Some(file) = &mut state.prices else { return };
    if !Schedule::is_due(state.chores.prices_read, PRICES_INTERVAL) {
        return;
    }
    state.chores.prices_read = Some(Instant::now());
    match file.refresh(tokio::fs::read(file.path()).await) {
        Refreshed::Unchanged => return,
        Refreshed::Changed => {
            tracing::info!(file = %file.path().display(), groups = file.prices().0.len(), "new prices");
            state.options.prices = file.prices().clone();
        }
        // What is wrong with it is logged with the other oddities of the input.
        Refreshed::Refused => {
            context.metrics.add(&own::ERRORS, vec![("source", "prices".into()), ("kind", "refused".into())], 1);
        }
    }
    context.metrics.set(&own::PRICES_REFUSED, Vec::new(), f64::from(u8::from(file.problem().is_some())));
}

async fn send_events(context: &Context, state: &mut LoopState, done: &Done) {
    if state.outbox.is_empty() || state.chores.event_backoffs.blocked(|_| true).is_some() {
        return;
    }
    let regarding = Regarding {
        crd_version: context.config.crd_version.clone(),
        namespace: context.config.namespace.clone(),
        name: context.config.cluster.clone(),
        uid: done.planned.cluster.metadata.uid.clone(),
        instance: context.config.hostname.clone(),
    };
    let kube = kube(context);
    while let Some(line) = state.outbox.take_oldest() {
        let event = kube_events::event(&line, &regarding, done.collected.observation.now_ms);
        let answer = kube.create_event(event).await;
        if let Err(error) = &answer {
            state.chores.event_backoffs.fail(error.kind, error.kind.backoff(), error.retry_after);
        }
        if allowed(context, state, Permission::CreateEvents, answer).is_none() {
            return;
        }
    }
}

/// The answer to a request that takes an optional permission; one that turns out not to hold is not used again.
fn allowed<T>(
    context: &Context,
    state: &mut LoopState,
    permission: Permission,
    answer: Result<T, KubeError>,
) -> Option<T> {
    let error = match answer {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    context.metrics.add(&own::ERRORS, vec![("source", "kube".into()), ("kind", error.kind.as_str().into())], 1);
    if error.kind == KubeErrorKind::Forbidden {
        tracing::warn!(%error, permission = permission.as_str(), "not allowed after all: doing without it");
        context.metrics.set(&own::MISSING_PERMISSIONS, vec![("permission", permission.as_str().into())], 1.0);
        state.permissions.revoke(permission);
    } else {
        tracing::warn!(%error, "an optional request failed: scaling goes on");
    }
    None
}

async fn announce(context: &Context, state: &mut LoopState, done: &Done) {
    if state.announced {
        return;
    }
    let Ok(shapes) = done.planned.cluster.group_shapes() else { return };
    let told = match start::announce(context, &shapes).await {
        Ok(()) => start::read_mode(context).await,
        Err(error) => Err(error),
    };
    match told {
        Ok(mode) => {
            if mode != state.mode {
                state.mode = mode;
                start::say_mode(mode);
            }
            state.announced = true;
        }
        Err(error) => gcs_error(context, "announce", &error),
    }
}

fn gcs_error(context: &Context, what: &'static str, error: &mobula_gcs::Error) {
    tracing::debug!(%error, what, "the GCS did not answer");
    context.metrics.add(&own::ERRORS, vec![("source", "gcs".into()), ("kind", error.kind().into())], 1);
}

/// The demand hides when a gang was created; the table of placement groups says it.
async fn read_gang_ages(context: &Context, state: &mut LoopState, done: &Done) {
    let gangs = &done.planned.snapshot.gangs;
    let pending: BTreeSet<&str> = gangs.iter().map(|gang| gang.id.as_str()).filter(|id| !id.is_empty()).collect();
    state.gang_created_ms.retain(|id, _| pending.contains(id.as_str()));
    let all_known = pending.iter().all(|id| state.gang_created_ms.contains_key(*id));
    if all_known || !Schedule::is_due(state.chores.gangs_read, TABLE_INTERVAL) {
        return;
    }
    state.chores.gangs_read = Some(Instant::now());
    match context.gcs.placement_groups().await {
        Ok(groups) => {
            let wanted = groups.into_iter().filter(|group| pending.contains(group.id.as_str()));
            state.gang_created_ms.extend(wanted.map(|group| (group.id, group.created_ms)));
        }
        Err(error) => gcs_error(context, "placement groups", &error),
    }
}

async fn end_unused_cluster(context: &Context, state: &mut LoopState, done: &Done) {
    if done.collected.hold.is_some() {
        // A head that has just come back may not know all its jobs yet.
        state.idle.start_over();
        return;
    }
    if done.planned.cluster.spec.idle_termination_options.is_none() {
        state.idle.start_over();
        state.chores.refused_idle = None;
        return;
    }
    let Ok(settings) = done.planned.cluster.settings() else { return };
    if !Schedule::is_due(state.chores.jobs_read, TABLE_INTERVAL) {
        return;
    }
    state.chores.jobs_read = Some(Instant::now());
    let jobs = context.gcs.jobs().await.inspect_err(|error| gcs_error(context, "jobs", error)).ok();
    let decision;
    (decision, state.idle) = idle_termination::decide(jobs.as_deref(), &settings, Instant::now(), &state.idle);
    match decision {
        Decision::None => state.chores.refused_idle = None,
        Decision::Refused(message) => {
            if state.chores.refused_idle.as_ref() != Some(&message) {
                tracing::error!("{message}");
                context.metrics.add(
                    &own::ERRORS,
                    vec![("source", "raycluster".into()), ("kind", "idle_delete".into())],
                    1,
                );
                state.chores.refused_idle = Some(message);
            }
        }
        Decision::Suspend => suspend(context, state).await,
    }
}

async fn suspend(context: &Context, state: &mut LoopState) {
    if state.chores.suspend_backoffs.blocked(|_| true).is_some() {
        return;
    }
    match kube(context).merge_patch_cluster(idle_termination::suspend_patch()).await {
        Ok(cluster) => {
            context.cluster.put(cluster);
            tracing::info!("no driver for the time set by idleTerminationOptions: the RayCluster is suspended");
        }
        Err(error) => {
            let wait = state.chores.suspend_backoffs.fail(error.kind, error.kind.backoff(), error.retry_after);
            context.metrics.add(&own::ERRORS, vec![("source", "kube".into()), ("kind", error.kind.as_str().into())], 1);
            tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "the unused RayCluster was not suspended");
        }
    }
}

async fn resize_pods(context: &Context, state: &mut LoopState, done: &Done) {
    let is_off = done.planned.snapshot.node_types.iter().all(|group| group.resize.is_none());
    if is_off || state.chores.resize_backoffs.blocked(|_| true).is_some() {
        return;
    }
    let Ok(shapes) = done.planned.cluster.group_shapes() else { return };
    // While the GCS shows less than there is, a pod may look free that is not.
    let sound = done.planned.sound.as_ref().filter(|_| done.collected.hold.is_none());
    let wanted = sound.map_or(&[][..], |plan| plan.resize.as_slice());
    let pods = done.collected.observation.pods.as_deref().unwrap_or_default();
    let now_ms = context.clock.now_unix_ms();
    let kube = kube(context);
    let mut all_done = true;
    for action in resize::decide(&shapes, pods, wanted, now_ms) {
        match resize::execute(&action, &kube, &context.gcs).await {
            Ok(()) => {
                tracing::info!(pod = action.pod(), step = action.as_str(), "in-place resize");
                context.metrics.add(&own::RESIZES, vec![("result", "accepted".into())], 1);
            }
            Err(error) => {
                all_done = false;
                let (source, limits, asked) = match &error {
                    resize::ResizeError::Kube(error) => ("kube", error.kind.backoff(), error.retry_after),
                    resize::ResizeError::Gcs { .. } => ("gcs", TICK_BACKOFF, None),
                };
                let wait = state.chores.resize_backoffs.fail(source, limits, asked);
                context.metrics.add(&own::RESIZES, vec![("result", "failed".into())], 1);
                tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "a pod was not resized");
                if !is_about_one_pod(&error) {
                    return;
                }
            }
        }
    }
    if all_done {
        state.chores.resize_backoffs = Backoffs::new();
    }
}

/// Whether the next pod may fare better.
fn is_about_one_pod(error: &resize::ResizeError) -> bool {
    match error {
        resize::ResizeError::Gcs { .. } => true,
        resize::ResizeError::Kube(error) => matches!(
            error.kind,
            KubeErrorKind::NotFound
                | KubeErrorKind::Conflict
                | KubeErrorKind::TestFailed
                | KubeErrorKind::Invalid
                | KubeErrorKind::Gone
        ),
    }
}
