//! Carries decisions out. It is left no choice: what to do, in which order and what it means is in the [`Decision`].

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use kube::Client;
use mobula_api::keys;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{
    decision::{Action, Decision, Foreign, StatusWrite, Step},
    kind::{self, Kind},
    metrics::Metrics,
    outcome::{Class, Outcome, Problem},
    pace::Pace,
    pod::{self, SLOT},
    read::Json,
    store::Key,
    time::Clock,
    turns::{MOST_SLOW, Rank, Turn, Turns},
    world::World,
};

/// Requests of one custom resource that are on their way at once.
const MOST_OF_ONE: usize = 8;
/// Requests of all custom resources that are on their way at once, but for those that take long. Whoever waits is served in the
/// order in which the work on its custom resource began, and each has a few in the row: nobody can fill it.
pub const MOST_OF_ALL: usize = 16;
/// How long is waited for an answer by those whose requests go first: they decide for many, of whom one may be slow. It is more
/// than a turn: until then others could be the reason.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long until what was not waited for is tried again, in ms.
const ASK_AGAIN_AFTER_MS: i64 = 5_000;
/// How long an answer may take.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Carries decisions out.
#[derive(Clone)]
pub struct Executor {
    client: Client,
    world: Arc<World>,
    metrics: Arc<Metrics>,
    clock: Clock,
    turns: Arc<Turns>,
    pace: Option<Arc<Pace>>,
    leads: watch::Receiver<bool>,
}

/// What came of a status write.
#[derive(Clone, Debug, PartialEq)]
pub enum StatusOutcome {
    /// Written. The server kept what is named here, or dropped it.
    Written {
        /// The status as the server has it now.
        status: Value,
    },
    /// The custom resource is gone.
    Gone,
    /// It failed.
    Failed(Problem),
    /// Not tried: the leadership has ended.
    Skipped,
}

impl Executor {
    /// An executor that acts while `leads` is true. `turns`: requests at once. `pace`: requests a second, if they are limited.
    pub fn new(
        client: Client,
        world: Arc<World>,
        metrics: Arc<Metrics>,
        clock: Clock,
        turns: Arc<Turns>,
        pace: Option<Pace>,
        leads: watch::Receiver<bool>,
    ) -> Self {
        Executor { client, world, metrics, clock, turns, pace: pace.map(Arc::new), leads }
    }

    /// Whether requests wait for their turn.
    pub fn is_busy(&self) -> bool {
        self.turns.is_busy()
    }

    /// Does the steps of `decision` in the namespace of `key`, and says what came of each, in their order.
    pub async fn execute(&self, key: &Key, decision: &Decision) -> Vec<Outcome> {
        let rank = if decision.goes_first { Rank::First } else { Rank::Since(Instant::now()) };
        let mut outcomes = Vec::new();
        let failed = Mutex::new(BTreeSet::new());
        let mut is_blocked = false;
        for batch in &decision.batches {
            if is_blocked {
                outcomes.resize(outcomes.len() + batch.len(), Outcome::Skipped);
                continue;
            }
            let done = self.batch(key, batch, &failed, rank).await;
            let mut pairs = batch.iter().zip(&done);
            is_blocked = pairs.any(|(step, outcome)| step.is_blocking && !outcome.is_done());
            outcomes.extend(done);
        }
        outcomes
    }

    async fn batch(&self, key: &Key, batch: &[Step], failed: &Mutex<BTreeSet<String>>, rank: Rank) -> Vec<Outcome> {
        let most = if rank == Rank::First { MOST_OF_ALL } else { MOST_OF_ONE };
        let mut outcomes = vec![Outcome::Skipped; batch.len()];
        let mut waiting = batch.iter().enumerate();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < most
                && let Some((number, step)) = waiting.next()
            {
                running.push(async move { (number, self.step(key, step, failed, rank).await) });
            }
            match running.next().await {
                Some((number, outcome)) => {
                    if let Some(place) = outcomes.get_mut(number) {
                        *place = outcome;
                    }
                }
                None => return outcomes,
            }
        }
    }

    /// Does one step, unless another one of its part has failed: a quota that refuses one pod refuses the next as well.
    async fn step(&self, key: &Key, step: &Step, failed: &Mutex<BTreeSet<String>>, rank: Rank) -> Outcome {
        let has_failed = || failed.lock().unwrap_or_else(PoisonError::into_inner).contains(&step.part);
        if has_failed() {
            return Outcome::Skipped;
        }
        let Some(turn) = self.turns.take(rank).await else { return Outcome::Skipped };
        if has_failed() || !*self.leads.borrow() {
            return Outcome::Skipped;
        }
        let elsewhere = step.namespace.as_ref().map(|namespace| Key::new(namespace.clone(), key.name.clone()));
        let key = elsewhere.as_ref().unwrap_or(key);
        let outcome = match rank {
            Rank::First => self.soon(key, step, turn).await,
            _ => turn.used_for(self.action(key, step)).await,
        };
        if let Outcome::Failed(problem) | Outcome::Late(problem) = &outcome {
            self.metrics.failure(problem.class.as_str());
            tracing::info!(
                part = step.part,
                verb = step.action.verb(),
                kind = step.action.kind().kind,
                name = step.action.name(),
                class = problem.class.as_str(),
                problem = problem.message,
                "a step failed"
            );
            // That one object is another by now says nothing of the others.
            if step.only_at.is_none() || problem.class != Class::Conflict {
                failed.lock().unwrap_or_else(PoisonError::into_inner).insert(step.part.clone());
            }
        }
        outcome
    }

    /// Does one step, and waits for its answer for a while only. It goes on without us, and what comes of it the world learns.
    async fn soon(&self, key: &Key, step: &Step, turn: Turn) -> Outcome {
        let (executor, of, step_of) = (self.clone(), key.clone(), step.clone());
        let mut request = Box::pin(async move { turn.used_for(executor.action(&of, &step_of)).await });
        // That we are slow ourselves says nothing of the answer.
        let paced = self.pace.as_ref().map_or(Duration::ZERO, |pace| pace.time_for(MOST_OF_ALL + MOST_SLOW));
        match tokio::time::timeout(PATIENCE.saturating_add(paced), &mut request).await {
            Ok(outcome) => outcome,
            Err(_) => {
                tokio::spawn(request);
                if let Action::Patch { kind, name, patch } = &step.action
                    && *kind == &kind::POD
                {
                    self.world.pod_unanswered(&Key::new(key.namespace.clone(), name.clone()), patch);
                }
                let message = "there is no answer yet".to_owned();
                let retry_after_ms = Some(ASK_AGAIN_AFTER_MS);
                Outcome::Late(Problem { class: Class::Unavailable, message, retry_after_ms })
            }
        }
    }

    async fn action(&self, key: &Key, step: &Step) -> Outcome {
        match &step.action {
            Action::Create { kind, body, foreign } => self.create(key, kind, body, *foreign).await,
            Action::Delete { kind, name, uid } => self.delete(key, kind, name, uid, step.only_at.as_deref()).await,
            Action::Patch { kind, name, patch } => self.patch(key, kind, name, patch).await,
            Action::Adopt { kind, name, patch } => self.adopt(key, kind, name, patch).await,
            Action::Replace { kind, body } => self.replace(key, kind, body).await,
            Action::LookUp { kind, name } => self.look_up(key, kind, name).await,
        }
    }

    async fn request(
        &self,
        verb: &'static str,
        kind: &Kind,
        request: http::request::Builder,
        body: &Value,
    ) -> Result<Value, kube::Error> {
        if let Some(pace) = &self.pace {
            pace.wait().await;
        }
        let bytes = if body.is_null() { Ok(Vec::new()) } else { serde_json::to_vec(body) };
        let bytes = bytes.map_err(kube::Error::SerdeError)?;
        let request = request.body(bytes).map_err(kube::Error::HttpError)?;
        let answer = tokio::time::timeout(REQUEST_LIMIT, self.client.request::<Json>(request)).await;
        let answer = answer.unwrap_or_else(|_| {
            let late = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within 30 s");
            Err(kube::Error::Service(late.into()))
        });
        self.metrics.request(verb, kind, code(&answer));
        answer.map(|Json(object)| object)
    }

    async fn create(&self, key: &Key, kind: &'static Kind, body: &Value, foreign: Foreign) -> Outcome {
        let request = json_request(http::Request::post(kind.path(&key.namespace)));
        match self.request("create", kind, request, body).await {
            Ok(created) => {
                match kind == &kind::POD {
                    true => self.world.pod_answered(&created, true),
                    false => self.world.learn(kind, "", created),
                }
                Outcome::Done
            }
            Err(error) if status_reason(&error) == Some("AlreadyExists") => {
                self.exists_already(key, kind, body, foreign).await
            }
            Err(error) if is_unserved(&error) => {
                let problem = problem(&error);
                // In the server's own words nothing says what it is that it does not know.
                let message = format!("the server has no {} of {}: {}", kind.kind, kind.api_version(), problem.message);
                Outcome::Failed(Problem { message, ..problem })
            }
            Err(error) => Outcome::Failed(problem(&error)),
        }
    }

    /// An object of the name exists. If it is the one that was to be created, somebody (we before a restart, another
    /// leader, a request whose answer was lost) has done it already.
    async fn exists_already(&self, key: &Key, kind: &'static Kind, body: &Value, foreign: Foreign) -> Outcome {
        let name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let path = format!("{}/{name}", kind.path(&key.namespace));
        let there = match self.request("get", kind, http::Request::get(path), &Value::Null).await {
            Ok(there) => there,
            Err(error) => return Outcome::Failed(problem(&error)),
        };
        let slot = |object: &Value| object["metadata"]["annotations"][SLOT].as_str().map(str::to_owned);
        let is_ours = pod::controller(body).is_some_and(|uid| owners(&there).iter().any(|owner| owner["uid"] == uid));
        // A claim that outlives its cluster has no owner.
        let is_nobodys = owners(body).is_empty() && owners(&there).is_empty();
        if !(is_ours || is_nobodys) {
            if ADOPTED.contains(&kind) && is_left_over(&there, body) {
                let version = &there["metadata"]["resourceVersion"];
                let patch = json!({"metadata": {"resourceVersion": version, "ownerReferences": owners(body)}});
                return match self.adopt(key, kind, name, &patch).await {
                    Outcome::Done => Outcome::AlreadySo,
                    other => other,
                };
            }
            let fails = |class, why: &str| {
                let message = format!("{} {name} exists and belongs to {why}", kind.kind);
                Outcome::Failed(Problem { class, message, retry_after_ms: None })
            };
            return match foreign {
                _ if is_of_predecessor(&there, body) => {
                    fails(Class::Conflict, "an object of the same name that is gone")
                }
                Foreign::Accepted => Outcome::Found(true),
                Foreign::Refused => fails(Class::Taken, "something else"),
            };
        }
        if kind == &kind::POD && slot(&there) != slot(body) {
            self.another_place(key, &there, body);
            let message = format!("the name {name} is taken by another place of the group");
            return Outcome::Failed(Problem { class: Class::Conflict, message, retry_after_ms: None });
        }
        self.world.learn(kind, "", there);
        Outcome::AlreadySo
    }

    /// What an earlier RayCluster of the owner's name has left behind becomes the owner's. Watches may lag: an owner that is being
    /// deleted, and leaves behind what it has, must not be given it back.
    async fn adopt(&self, key: &Key, kind: &'static Kind, name: &str, patch: &Value) -> Outcome {
        let path = format!("{}/{}", kind::RAY_CLUSTER.path(&key.namespace), key.name);
        match self.request("get", &kind::RAY_CLUSTER, http::Request::get(path), &Value::Null).await {
            Ok(owner) if pod::controller(patch) != owner["metadata"]["uid"].as_str() || is_going(&owner) => {
                let message = format!("the owner of {} {name} is another one by now, or is being deleted", kind.kind);
                Outcome::Failed(Problem { class: Class::Conflict, message, retry_after_ms: None })
            }
            Ok(_) => self.patch(key, kind, name, patch).await,
            Err(error) => Outcome::Failed(problem(&error)),
        }
    }

    /// Two places have hashed to one name: the later one tries its next incarnation.
    fn another_place(&self, key: &Key, there: &Value, body: &Value) {
        let Ok(wanted) = pod::Pod::read(body) else { return };
        if let (Some(place), Some(owner)) = (wanted.place, pod::controller(there)) {
            self.world.name_is_taken(key, owner, &wanted.group, place);
        }
    }

    async fn delete(&self, key: &Key, kind: &'static Kind, name: &str, uid: &str, only_at: Option<&str>) -> Outcome {
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid},
                                 "propagationPolicy": "Background"});
        if let Some(version) = only_at {
            options["preconditions"]["resourceVersion"] = json!(version);
        }
        let request = json_request(http::Request::delete(format!("{}/{name}", kind.path(&key.namespace))));
        let key = Key::new(key.namespace.clone(), name);
        match self.request("delete", kind, request, &options).await {
            Ok(answer) => {
                if answer.pointer("/metadata/deletionTimestamp").is_some() {
                    self.world.deletion_accepted(&key, uid, (self.clock)());
                } else {
                    self.world.is_gone(kind, &key, uid);
                }
                Outcome::Done
            }
            // It is gone, or another one has its name now.
            Err(error) if is_not_found(&error, &key.name) || is_another(&error) => {
                self.world.is_gone(kind, &key, uid);
                Outcome::AlreadySo
            }
            Err(error) => Outcome::Failed(problem(&error)),
        }
    }

    async fn patch(&self, key: &Key, kind: &'static Kind, name: &str, patch: &Value) -> Outcome {
        let request = merge_request(format!("{}/{name}", kind.path(&key.namespace)));
        match self.request("patch", kind, request, patch).await {
            Ok(answer) => {
                let base = patch.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
                if kind == &kind::POD {
                    self.world.pod_answered(&answer, false);
                } else if !base.is_empty() {
                    self.world.learn(kind, base, answer);
                }
                Outcome::Done
            }
            // It is gone, or another one has its name now.
            Err(error) if is_not_found(&error, name) || is_another(&error) => {
                if let Some(uid) = patch.pointer("/metadata/uid").and_then(Value::as_str) {
                    self.world.is_gone(kind, &Key::new(key.namespace.clone(), name), uid);
                }
                Outcome::AlreadySo
            }
            Err(error) => {
                let problem = problem(&error);
                if kind == &kind::POD && problem.class == Class::Unavailable {
                    self.world.pod_unanswered(&Key::new(key.namespace.clone(), name), patch);
                }
                Outcome::Failed(problem)
            }
        }
    }

    async fn replace(&self, key: &Key, kind: &'static Kind, body: &Value) -> Outcome {
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let path = format!("{}/{}", kind.path(&key.namespace), text("/metadata/name"));
        match self.request("update", kind, json_request(http::Request::put(path)), body).await {
            Ok(answer) => {
                self.world.learn(kind, text("/metadata/resourceVersion"), answer);
                Outcome::Done
            }
            Err(error) => Outcome::Failed(problem(&error)),
        }
    }

    async fn look_up(&self, key: &Key, kind: &'static Kind, name: &str) -> Outcome {
        let path = format!("{}/{name}", kind.path(&key.namespace));
        match self.request("get", kind, http::Request::get(path), &Value::Null).await {
            Ok(_) => Outcome::Found(true),
            Err(error) if is_not_found(&error, name) => Outcome::Found(false),
            Err(error) => Outcome::Failed(problem(&error)),
        }
    }

    /// Writes a status: whoever waits for it waits no longer than must be.
    pub async fn write_status(&self, kind: &'static Kind, key: &Key, write: &StatusWrite) -> StatusOutcome {
        let Some(turn) = self.turns.take(Rank::First).await else { return StatusOutcome::Skipped };
        if !*self.leads.borrow() {
            return StatusOutcome::Skipped;
        }
        let patch = json!({"metadata": {"resourceVersion": write.resource_version}, "status": write.patch});
        let path = format!("{}/{}/status", kind.path(&key.namespace), key.name);
        match turn.used_for(self.request("patch", kind, merge_request(path), &patch)).await {
            Ok(answer) => {
                let status = answer["status"].clone();
                self.world.learn(kind, &write.resource_version, answer);
                StatusOutcome::Written { status }
            }
            Err(error) if is_not_found(&error, &key.name) => StatusOutcome::Gone,
            // A conflict among them: it was made for another version than the server has.
            Err(error) => StatusOutcome::Failed(problem(&error)),
        }
    }
}

fn json_request(request: http::request::Builder) -> http::request::Builder {
    request.header(http::header::CONTENT_TYPE, "application/json")
}

fn merge_request(path: String) -> http::request::Builder {
    http::Request::patch(path).header(http::header::CONTENT_TYPE, "application/merge-patch+json")
}

/// HTTP status of an answer for the metrics; 0: there was none.
pub(super) fn code<T>(answer: &Result<T, kube::Error>) -> u16 {
    match answer {
        Ok(_) => 200,
        Err(error) => status_code(error).unwrap_or(0),
    }
}

fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Whether the server says that there is no object of this name. A 404 of a proxy, or of a path that is not served, says
/// nothing about the object.
fn is_not_found(error: &kube::Error, name: &str) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let is_named = status.details.as_ref().is_some_and(|details| details.name == name);
    status.code == 404 && status.reason == "NotFound" && is_named
}

/// Whether the server does not know what is asked for: its definition is not installed. One that knows it names what it misses.
fn is_unserved(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.code == 404 && status.details.as_ref().is_none_or(|details| details.name.is_empty())
}

/// Whether a write met another object of that name. A deletion, or a whole object, is refused as a conflict; a patch, for
/// changing what can't be changed. Any other refusal says nothing about the object that was meant.
fn is_another(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let is_of_uid = || {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.field == "metadata.uid")
    };
    match status.code {
        409 => status.message.contains("UID in precondition"),
        422 => status.reason == "Invalid" && is_of_uid(),
        _ => false,
    }
}

fn owners(object: &Value) -> &[Value] {
    object.pointer("/metadata/ownerReferences").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn is_going(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

/// Kinds that are adopted where they were left behind. Of others the operator may not change any, or they will do as they are.
const ADOPTED: [&Kind; 4] = [&kind::SERVICE, &kind::INGRESS, &kind::ROUTE, &kind::NETWORK_POLICY];

/// Whether what is there has no owner and all labels of Ray that `body` has, its cluster's among them: the cluster was deleted
/// and left it behind.
fn is_left_over(there: &Value, body: &Value) -> bool {
    let labels = body.pointer("/metadata/labels").and_then(Value::as_object);
    let is_ours = |key: &str| key.starts_with("ray.io/") || key == keys::CREATED_BY;
    let mut of_ray = labels.into_iter().flatten().filter(|(key, _)| is_ours(key)).peekable();
    owners(there).is_empty()
        && of_ray.peek().is_some()
        && of_ray.all(|(key, value)| there["metadata"]["labels"][key.as_str()] == *value)
}

/// Whether what is there was controlled by an earlier object of the name that the controller of `body` has: the garbage
/// collector will take it away.
fn is_of_predecessor(there: &Value, body: &Value) -> bool {
    let controller = |object| owners(object).iter().find(|owner| owner["controller"] == true);
    let (Some(old), Some(new)) = (controller(there), controller(body)) else { return false };
    old["kind"] == new["kind"] && old["name"] == new["name"]
}

fn status_reason(error: &kube::Error) -> Option<&str> {
    match error {
        kube::Error::Api(status) => Some(status.reason.as_str()),
        _ => None,
    }
}

/// What a failed request means.
fn problem(error: &kube::Error) -> Problem {
    let kube::Error::Api(status) = error else {
        return Problem { class: Class::Unavailable, message: error.to_string(), retry_after_ms: None };
    };
    let class = match status.code {
        409 => Class::Conflict,
        429 => Class::Throttled,
        401 | 403 => Class::Refused,
        // A webhook may answer with any of these; what the server itself finds wrong is 422.
        400 | 422 => Class::Invalid,
        404 => Class::Refused,
        _ => Class::Unavailable,
    };
    let retry_after_s = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    let retry_after_ms = (retry_after_s > 0).then(|| i64::from(retry_after_s) * 1_000);
    Problem { class, message: status.message.clone(), retry_after_ms }
}
