//! Which object is worked on when: takes changes and wake-ups, reconciles a bounded number of objects at once. Those that were
//! worked on before do not wait for new ones: what has begun ends soon, however many come.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep},
};
use tracing::Instrument as _;

use super::{
    decision::{Decision, Notice, StatusWrite, Step},
    executor::{Executor, StatusOutcome},
    kind::Kind,
    metrics::Metrics,
    notices::{self, Outbox, Regarding},
    outcome::{Memory, Outcome},
    queue::{Lane, Queue},
    time::Clock,
    world::{Target, World},
};

/// Events that come so close together are one, in ms.
const SETTLE_MS: i64 = 10;
/// A status that yields is looked at again after so long, in ms.
const YIELDS_FOR_MS: i64 = 500;
/// How long what is under way may take once we are to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Observes and decides about the objects of one kind. Pure: what it sees is in the world and in its memory.
pub trait Reconciler: Send + Sync + 'static {
    /// The kind.
    fn kind(&self) -> &'static Kind;
    /// What Events and metrics call it.
    fn name(&self) -> &'static str;
    /// What is to be done about `target` now; `None`: there is no such object (any more). What is remembered may be of an
    /// earlier object of that name: see [`Memory::of`].
    fn reconcile(&self, world: &World, target: &Target, memory: &Memory, now_ms: i64) -> Option<Reconciled>;
}

/// A decision and what it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Reconciled {
    /// Unique id of the object.
    pub uid: String,
    /// Generation of the object.
    pub generation: i64,
    /// What is to be done.
    pub decision: Decision,
}

/// Works through what has changed.
pub struct Controller {
    shared: Arc<Shared>,
    concurrency: usize,
    changes: mpsc::UnboundedReceiver<Target>,
}

struct Shared {
    world: Arc<World>,
    executor: Executor,
    reconcilers: Vec<Arc<dyn Reconciler>>,
    clock: Clock,
    metrics: Arc<Metrics>,
    outbox: Outbox,
    memories: Mutex<BTreeMap<Target, Memory>>,
}

/// When an object is to be looked at again.
type Again = Option<i64>;

impl Controller {
    /// A controller for `reconcilers` that works on `concurrency` new objects at once, and on as many others.
    #[allow(clippy::too_many_arguments)] // Each is one part of the outside world, named at the one place that wires them.
    pub fn new(
        world: Arc<World>,
        changes: mpsc::UnboundedReceiver<Target>,
        executor: Executor,
        reconcilers: Vec<Arc<dyn Reconciler>>,
        clock: Clock,
        metrics: Arc<Metrics>,
        outbox: Outbox,
        concurrency: usize,
    ) -> Self {
        let memories = Mutex::default();
        let shared = Shared { world, executor, reconcilers, clock, metrics, outbox, memories };
        Controller { shared: Arc::new(shared), concurrency: concurrency.max(1), changes }
    }

    /// Works while `leads` is true, until `stop` is. What is under way then is ended properly.
    pub async fn run(mut self, mut leads: watch::Receiver<bool>, mut stop: watch::Receiver<bool>) {
        let mut queue = Queue::<Target>::default();
        let mut running: JoinSet<(Target, Again)> = JoinSet::new();
        let mut is_started = false;
        while !*stop.borrow() {
            if !is_started && *leads.borrow() && self.shared.world.is_synced() {
                is_started = true;
                let now_ms = (self.shared.clock)();
                for target in self.shared.world.targets() {
                    queue.add(&target, now_ms, self.shared.lane(&target));
                }
            }
            let now_ms = (self.shared.clock)();
            let has_room = |queue: &Queue<Target>, lane| is_started && queue.working(lane) < self.concurrency;
            for lane in Lane::BOTH {
                while has_room(&queue, lane)
                    && let Some((target, due_ms)) = queue.take(lane, now_ms)
                {
                    self.shared.waited(&target, now_ms.saturating_sub(due_ms));
                    running.spawn(self.shared.clone().work(target));
                }
            }
            self.shared.depths(&queue, now_ms);
            let next_due_ms = Lane::BOTH.into_iter().filter(|lane| has_room(&queue, *lane));
            let next_due_ms = next_due_ms.filter_map(|lane| queue.next_due_ms(lane)).min();
            let wait_ms = next_due_ms.map_or(i64::MAX, |due_ms| due_ms.saturating_sub(now_ms).max(1));
            let wait = if is_started { wait_ms.min(60_000) } else { 50 };
            tokio::select! {
                biased;
                told = stop.changed() => {
                    if told.is_err() {
                        break;
                    }
                }
                told = leads.changed() => {
                    if told.is_err() || (is_started && !*leads.borrow()) {
                        break;
                    }
                }
                Some(ended) = running.join_next() => {
                    if let Ok((target, again)) = ended {
                        queue.done(&target);
                        if let Some(at_ms) = again {
                            queue.add(&target, at_ms, self.shared.lane(&target));
                        }
                    }
                }
                Some(target) = self.changes.recv() => {
                    if is_started {
                        // It may have been waited for since `now_ms`.
                        let at_ms = (self.shared.clock)().saturating_add(SETTLE_MS);
                        queue.add(&target, at_ms, self.shared.lane(&target));
                    }
                }
                () = sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(0))) => {}
            }
        }
        let rest = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_LIMIT, rest).await.is_err() {
            tracing::warn!("stopped with work under way: the next leader will see what was done");
        }
    }
}

impl Shared {
    fn reconciler(&self, target: &Target) -> Option<&Arc<dyn Reconciler>> {
        self.reconcilers.iter().find(|reconciler| reconciler.kind() == target.kind)
    }

    fn waited(&self, target: &Target, waited_ms: i64) {
        if let Some(reconciler) = self.reconciler(target) {
            self.metrics.waited(reconciler.name(), Duration::from_millis(u64::try_from(waited_ms).unwrap_or(0)));
        }
    }

    fn lane(&self, target: &Target) -> Lane {
        let memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        if memories.contains_key(target) { Lane::Begun } else { Lane::New }
    }

    fn depths(&self, queue: &Queue<Target>, now_ms: i64) {
        for reconciler in &self.reconcilers {
            let due = queue.due(now_ms).filter(|target| target.kind == reconciler.kind());
            self.metrics.depth(reconciler.name(), due.count());
        }
    }

    fn memory(&self, target: &Target) -> Memory {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).get(target).cloned().unwrap_or_default()
    }

    /// Changes what is remembered of the object `uid`.
    fn learn<T>(&self, target: &Target, uid: &str, f: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = memories.entry(target.clone()).or_default();
        if memory.uid != uid {
            *memory = memory.of(uid).into_owned();
            self.metrics.forget(&target.key.namespace, &target.key.name);
        }
        memory.since_ms.get_or_insert_with(|| (self.clock)());
        f(memory)
    }

    fn forget(&self, target: &Target) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(target);
        self.metrics.forget(&target.key.namespace, &target.key.name);
    }

    async fn work(self: Arc<Self>, target: Target) -> (Target, Again) {
        let Some(reconciler) = self.reconciler(&target).cloned() else { return (target, None) };
        let span = tracing::info_span!(
            "reconcile",
            controller = reconciler.name(),
            namespace = target.key.namespace,
            name = target.key.name,
            generation = tracing::field::Empty,
        );
        let start = Instant::now();
        let (result, again) = self.reconcile(reconciler.as_ref(), &target).instrument(span).await;
        self.metrics.reconcile(reconciler.name(), result, start.elapsed());
        (target, again)
    }

    async fn reconcile(&self, reconciler: &dyn Reconciler, target: &Target) -> (&'static str, Again) {
        let now_ms = (self.clock)();
        let memory = self.memory(target);
        let Some(reconciled) = reconciler.reconcile(&self.world, target, &memory, now_ms) else {
            self.forget(target);
            return ("success", None);
        };
        tracing::Span::current().record("generation", reconciled.generation);
        let outcomes = self.executor.execute(&target.key, &reconciled.decision).await;
        let now_ms = (self.clock)();
        let mut again = reconciled.decision.wake_at_ms;
        let is_watched = |kind: &Kind| self.world.is_watched(kind);
        let uid = reconciled.uid.as_str();
        let (has_news, new) = self.learn(target, uid, |memory| {
            let new: Vec<Notice> = reconciled.decision.states.difference(&memory.said).cloned().collect();
            (remember(memory, &reconciled, &outcomes, is_watched, now_ms), new)
        });
        let has_failed = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Failed(_)));
        self.say(reconciler, target, &reconciled, &outcomes, new, now_ms);
        if has_news {
            // What was learned by acting is part of the next observation.
            again = Some(now_ms);
        } else if let Some(write) = &reconciled.decision.status {
            let retry = if now_ms < write.yields_until_ms && self.executor.is_busy() {
                Some(now_ms.saturating_add(YIELDS_FOR_MS).min(write.yields_until_ms))
            } else {
                self.write_status(target, uid, write).await
            };
            again = [again, retry].into_iter().flatten().min();
        }
        (if has_failed { "error" } else { "success" }, again)
    }

    async fn write_status(&self, target: &Target, uid: &str, write: &StatusWrite) -> Again {
        let outcome = self.executor.write_status(target.kind, &target.key, write).await;
        if let (StatusOutcome::Written { .. }, Some(after_ms)) = (&outcome, write.provisioned_after_ms) {
            self.metrics.provisioned(&target.key.namespace, &target.key.name, uid, after_ms);
        }
        let now_ms = (self.clock)();
        self.learn(target, uid, |memory| status_came(memory, &write.patch, outcome, now_ms))
    }

    fn say(
        &self,
        reconciler: &dyn Reconciler,
        target: &Target,
        reconciled: &Reconciled,
        outcomes: &[Outcome],
        states: Vec<Notice>,
        now_ms: i64,
    ) {
        let own = Regarding { kind: target.kind, key: target.key.clone(), uid: reconciled.uid.clone() };
        let mut tried: BTreeMap<&Regarding, Vec<(&Step, &Outcome)>> = BTreeMap::new();
        for (step, outcome) in reconciled.decision.steps().zip(outcomes) {
            tried.entry(step.about.as_ref().unwrap_or(&own)).or_default().push((step, outcome));
        }
        let of_steps = tried.into_iter().flat_map(|(about, tried)| {
            let said = notices::of_steps(&about.key.namespace, tried.into_iter());
            said.into_iter().map(move |notice| (about, notice))
        });
        let others = reconciled.decision.notices.iter().cloned().chain(states);
        for (about, notice) in of_steps.chain(others.map(|notice| (&own, notice))) {
            if notice.is_warning {
                tracing::warn!(reason = notice.reason, "{}", notice.message);
            }
            self.outbox.say(about.clone(), reconciler.name(), notice, now_ms);
        }
    }
}

/// Takes in what came of a decision. True if that may change the next decision at once.
fn remember(
    memory: &mut Memory,
    reconciled: &Reconciled,
    outcomes: &[Outcome],
    is_watched: impl Fn(&Kind) -> bool,
    now_ms: i64,
) -> bool {
    let decision = &reconciled.decision;
    let parts: std::collections::BTreeSet<&str> = decision.steps().map(|step| step.part.as_str()).collect();
    // What became of the status is known only after the steps: its failures end with a write that succeeds.
    let is_kept = |part: &str| part == STATUS_PART || parts.contains(part) || decision.held.contains(part);
    memory.failures.retain(|part, _| is_kept(part));
    memory.breakages.retain(|what, breakage| !breakage.is_forgotten(now_ms) && !decision.given_up.contains(what));
    memory.ended.clone_from(&decision.ended);
    memory.said.clone_from(&decision.states);
    let mut failed = std::collections::BTreeMap::new();
    let mut has_news = false;
    for (step, outcome) in decision.steps().zip(outcomes) {
        match outcome {
            Outcome::Failed(problem) | Outcome::Late(problem) => {
                failed.entry(step.part.as_str()).or_insert((step.action.verb(), problem));
            }
            Outcome::Done if step.replaces_broken => {
                memory.broke(step.broken.as_ref().unwrap_or(&step.part), now_ms);
            }
            Outcome::Found(exists) => {
                look_up_came(memory, step, *exists, now_ms);
                has_news = true;
            }
            Outcome::Done | Outcome::AlreadySo if is_creation(step) && !is_watched(step.action.kind()) => {
                look_up_came(memory, step, true, now_ms);
            }
            Outcome::Done | Outcome::AlreadySo | Outcome::Skipped => {}
        }
    }
    for part in parts.iter().filter(|part| !failed.contains_key(*part)) {
        let was_tried =
            decision.steps().zip(outcomes).any(|(s, outcome)| s.part == *part && *outcome != Outcome::Skipped);
        if was_tried && memory.failures.remove(*part).is_some() {
            has_news = true;
        }
    }
    for (part, (verb, problem)) in failed {
        memory.failed(part, verb, problem.clone(), reconciled.generation, now_ms);
        has_news = true;
    }
    has_news
}

fn is_creation(step: &super::decision::Step) -> bool {
    matches!(step.action, super::decision::Action::Create { .. })
}

fn look_up_came(memory: &mut Memory, step: &super::decision::Step, exists: bool, now_ms: i64) {
    let key = (step.action.kind().kind, step.action.name().to_owned());
    memory.look_ups.insert(key, (exists, now_ms));
}

/// Takes in what came of a status write. Returns when to look again.
fn status_came(memory: &mut Memory, patch: &serde_json::Value, outcome: StatusOutcome, now_ms: i64) -> Again {
    match outcome {
        StatusOutcome::Written { status } => {
            memory.status_written_ms = Some(now_ms);
            let is_sent = patch.get(EXTENSION).is_some_and(|value| !value.is_null());
            memory.status_is_pruned |= is_sent && status.get(EXTENSION).is_none();
            memory.failures.remove(STATUS_PART);
            Some(now_ms)
        }
        // The watch will say that it is gone.
        StatusOutcome::Gone => None,
        StatusOutcome::Failed(problem) => {
            memory.failed(STATUS_PART, "patch", problem, 0, now_ms);
            memory.failures.get(STATUS_PART).map(|failure| failure.next_try_ms)
        }
        StatusOutcome::Skipped => None,
    }
}

/// The part that status writes are kept under.
pub const STATUS_PART: &str = "status";
/// The field of a status that is Mobula's own: a definition of the kind that is KubeRay's drops it.
pub const EXTENSION: &str = "workerGroups";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::outcome::{Class, Problem};

    #[test]
    fn the_back_off_of_status_writes_grows() {
        let mut memory = Memory::default();
        let reconciled = Reconciled { uid: "u".into(), generation: 1, decision: Decision::default() };
        for attempts in 1..=4 {
            // The pass that tries again holds nothing.
            remember(&mut memory, &reconciled, &[], |_| true, 0);
            let problem = Problem { class: Class::Unavailable, message: "503".into(), retry_after_ms: None };
            status_came(&mut memory, &serde_json::Value::Null, StatusOutcome::Failed(problem), 0);
            assert_eq!(memory.failures[STATUS_PART].attempts, attempts);
        }
    }

    #[test]
    fn a_status_that_is_outdated_is_retried_ever_later_and_one_of_nothing_is_not() {
        let mut memory = Memory::default();
        let conflict = Problem { class: Class::Conflict, message: "409".into(), retry_after_ms: None };
        let mut come = |outcome| status_came(&mut memory, &serde_json::Value::Null, outcome, 0);
        let retries: Vec<i64> = (0..8).filter_map(|_| come(StatusOutcome::Failed(conflict.clone()))).collect();
        assert!(retries[..6].is_sorted() && retries[0] < 30 && retries[7] >= 1_000, "{retries:?}");
        assert_eq!(come(StatusOutcome::Gone), None);
    }

    #[test]
    fn what_broke_long_ago_is_forgotten() {
        let mut memory = Memory::default();
        let reconciled = Reconciled { uid: "u".into(), generation: 1, decision: Decision::default() };
        memory.broke("gang/ns/x/29fd", 1_000);
        remember(&mut memory, &reconciled, &[], |_| true, 601_000);
        assert_eq!(memory.breakages.len(), 1);
        remember(&mut memory, &reconciled, &[], |_| true, 601_001);
        assert!(memory.breakages.is_empty());
    }

    #[test]
    fn what_another_object_of_the_name_did_is_forgotten() {
        let mut memory = Memory { uid: "a".into(), ..Memory::default() };
        memory.look_ups.insert(("Role", "r".into()), (true, 0));
        assert_eq!(memory.of("a").look_ups.len(), 1);
        assert_eq!(*memory.of("b"), Memory { uid: "b".into(), ..Memory::default() });
    }
}
