//! Events: at most one a reason and reconcile, with names and counts; and their way to the API server.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use kube::Client;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use super::{
    decision::{Notice, Step, Words},
    executor::REQUEST_LIMIT,
    hash,
    kind::{self, Kind},
    metrics::Metrics,
    outcome::{Class, Outcome},
    store::Key,
    time::{self, Clock},
    turns::{Rank, Turns},
};

/// Most names that one Event lists.
pub const MOST_NAMES: usize = 10;
/// Longest message that the API server takes, in bytes.
const MOST_MESSAGE_BYTES: usize = 1_024;
/// Most Events that wait to be sent.
const MOST_WAITING: usize = 4_096;
/// If more wait, they go beside other requests, which they else let go before them.
const MANY_WAITING: usize = 2_048;
/// How long an Event lets other requests go before it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Events that are remembered, to count a repetition instead of saying it anew.
const MOST_REMEMBERED: usize = 4_096;
/// After this time a repetition is said anew, in ms: the API server forgets Events after an hour.
const REMEMBERED_MS: i64 = 600_000;

/// The Events of steps that were tried: one a reason, listing names and count. `namespace`: where they were done.
pub fn of_steps<'a>(namespace: &str, tried: impl Iterator<Item = (&'a Step, &'a Outcome)>) -> Vec<Notice> {
    let mut said: Vec<(&Words, bool, Vec<&str>, Option<&str>)> = Vec::new();
    for (step, outcome) in tried {
        let (words, problem) = match outcome {
            Outcome::Done => (&step.success, None),
            Outcome::Failed(problem) if problem.class == Class::Taken && step.taken.is_some() => {
                (&step.taken, Some(problem.message.as_str()))
            }
            // It has changed meanwhile, and may not be meant any more.
            Outcome::Failed(problem) if problem.class == Class::Conflict && step.only_at.is_some() => continue,
            Outcome::Failed(problem) => (&step.failure, Some(problem.message.as_str())),
            Outcome::AlreadySo | Outcome::Found(_) | Outcome::Skipped | Outcome::Late(_) => continue,
        };
        let Some(words) = words else { continue };
        match said.iter_mut().find(|(known, ..)| known.reason == words.reason && known.text == words.text) {
            Some((_, _, names, _)) => names.push(step.action.name()),
            None => said.push((words, problem.is_some(), vec![step.action.name()], problem)),
        }
    }
    let notice = |(words, is_warning, names, problem): (&Words, bool, Vec<&str>, Option<&str>)| Notice {
        is_warning,
        reason: words.reason,
        action: words.action,
        message: sentence(&words.text, namespace, &names, problem),
    };
    said.into_iter().map(notice).collect()
}

/// `Created worker Pod ns/a`, or `Created worker Pod ns/a, ns/b and 3 more (5)`.
fn sentence(text: &str, namespace: &str, names: &[&str], problem: Option<&str>) -> String {
    let listed: Vec<String> = names.iter().take(MOST_NAMES).map(|name| format!("{namespace}/{name}")).collect();
    let mut sentence = format!("{text} {}", listed.join(", "));
    if names.len() > MOST_NAMES {
        sentence.push_str(&format!(" and {} more", names.len() - MOST_NAMES));
    }
    if names.len() > 1 {
        sentence.push_str(&format!(" ({} in all)", names.len()));
    }
    if let Some(problem) = problem {
        sentence.push_str(&format!(", {problem}"));
    }
    sentence
}

/// Whom an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Regarding {
    /// Kind.
    pub kind: &'static Kind,
    /// Namespace and name.
    pub key: Key,
    /// Unique id.
    pub uid: String,
}

/// Which API Events are written with.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// core/v1, as KubeRay 1.6.
    Core,
    /// events.k8s.io/v1, as KubeRay 1.7.
    Events,
}

/// An Event on its way: when it was said, about what, by whom, what, and the time in Unix ms.
type Letter = (Instant, Regarding, &'static str, Notice, i64);

/// Where Events go in.
#[derive(Clone)]
pub struct Outbox {
    sender: mpsc::Sender<Letter>,
}

impl Outbox {
    /// Hands an Event in. If too many wait, it is lost: an Event is never worth waiting for.
    pub fn say(&self, regarding: Regarding, component: &'static str, notice: Notice, now_ms: i64) {
        if self.sender.try_send((Instant::now(), regarding, component, notice, now_ms)).is_err() {
            tracing::debug!("an Event is lost: too many wait");
        }
    }
}

/// Sends what the [`Outbox`] takes in.
pub struct Postman {
    client: Client,
    clock: Clock,
    dialect: Dialect,
    instance: String,
    metrics: Arc<Metrics>,
    turns: Arc<Turns>,
    receiver: mpsc::Receiver<Letter>,
    sent: BTreeMap<(String, &'static str, String), Sent>,
    order: VecDeque<(String, &'static str, String)>,
}

struct Sent {
    name: String,
    count: u32,
    first_ms: i64,
}

/// An outbox, and who empties it. `instance`: the pod that we run in. `turns`: whose requests go before.
pub fn outbox(
    client: Client,
    clock: Clock,
    dialect: Dialect,
    instance: String,
    metrics: Arc<Metrics>,
    turns: Arc<Turns>,
) -> (Outbox, Postman) {
    let (sender, receiver) = mpsc::channel(MOST_WAITING);
    let sent = BTreeMap::new();
    let postman = Postman { client, clock, dialect, instance, metrics, turns, receiver, sent, order: VecDeque::new() };
    (Outbox { sender }, postman)
}

impl Postman {
    /// Sends until every [`Outbox`] is dropped and empty.
    pub async fn run(mut self) {
        while let Some((said, regarding, component, notice, now_ms)) = self.receiver.recv().await {
            // At the end there is no time left to be polite.
            let is_polite = self.receiver.len() < MANY_WAITING && !self.receiver.is_closed();
            let turn = if is_polite { self.turns.take(Rank::Last(said + PATIENCE)).await } else { None };
            self.metrics.event(notice.reason);
            let sent = tokio::time::timeout(REQUEST_LIMIT, self.send(&regarding, component, &notice, now_ms));
            let sent = match turn {
                Some(turn) => turn.used_for(sent).await,
                None => sent.await,
            };
            match sent {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, reason = notice.reason, "an Event is lost"),
                Err(_) => tracing::debug!(reason = notice.reason, "an Event is lost: no answer"),
            }
        }
    }

    fn kind(&self) -> &'static Kind {
        match self.dialect {
            Dialect::Core => &kind::CORE_EVENT,
            Dialect::Events => &kind::EVENT,
        }
    }

    async fn send(
        &mut self,
        regarding: &Regarding,
        component: &'static str,
        notice: &Notice,
        now_ms: i64,
    ) -> Result<(), kube::Error> {
        let kind = self.kind();
        let path = kind.path(&regarding.key.namespace);
        let key = (regarding.uid.clone(), notice.reason, notice.message.clone());
        let known = self.sent.get_mut(&key).filter(|sent| (self.clock)() - sent.first_ms < REMEMBERED_MS);
        if let Some(sent) = known {
            sent.count = sent.count.saturating_add(1);
            let patch = match self.dialect {
                Dialect::Core => json!({"count": sent.count, "lastTimestamp": time::rfc3339(now_ms)}),
                Dialect::Events => {
                    json!({"series": {"count": sent.count, "lastObservedTime": time::rfc3339_micro(now_ms)}})
                }
            };
            let request = http::Request::patch(format!("{path}/{}", sent.name))
                .header(http::header::CONTENT_TYPE, "application/merge-patch+json");
            return self.request("patch", kind, request, &patch).await;
        }
        let name = format!("{}.{:016x}", regarding.key.name, digest(&key, now_ms));
        let body = self.body(&name, regarding, component, notice, now_ms);
        let request = http::Request::post(path).header(http::header::CONTENT_TYPE, "application/json");
        self.request("create", kind, request, &body).await?;
        self.remember(key, Sent { name, count: 1, first_ms: now_ms });
        Ok(())
    }

    async fn request(
        &self,
        verb: &'static str,
        kind: &Kind,
        request: http::request::Builder,
        body: &Value,
    ) -> Result<(), kube::Error> {
        let request = request.body(body.to_string().into_bytes()).map_err(kube::Error::HttpError)?;
        let answer = self.client.request::<serde::de::IgnoredAny>(request).await;
        self.metrics.request(verb, kind, super::executor::code(&answer));
        answer.map(|_| ())
    }

    fn remember(&mut self, key: (String, &'static str, String), sent: Sent) {
        self.order.push_back(key.clone());
        self.sent.insert(key, sent);
        while self.order.len() > MOST_REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.sent.remove(&oldest);
            }
        }
    }

    fn body(&self, name: &str, regarding: &Regarding, component: &'static str, notice: &Notice, now_ms: i64) -> Value {
        let metadata = json!({"name": name, "namespace": regarding.key.namespace});
        let about = json!({
            "apiVersion": regarding.kind.api_version(), "kind": regarding.kind.kind, "uid": regarding.uid,
            "namespace": regarding.key.namespace, "name": regarding.key.name,
        });
        let kind = if notice.is_warning { "Warning" } else { "Normal" };
        let message = shortened(&notice.message);
        match self.dialect {
            Dialect::Core => json!({
                "apiVersion": "v1", "kind": "Event", "metadata": metadata, "involvedObject": about,
                "reason": notice.reason, "message": message, "type": kind, "count": 1,
                "firstTimestamp": time::rfc3339(now_ms), "lastTimestamp": time::rfc3339(now_ms),
                "source": {"component": component}, "reportingComponent": component,
            }),
            Dialect::Events => json!({
                "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": metadata, "regarding": about,
                "reason": notice.reason, "note": message, "type": kind, "action": notice.action,
                "eventTime": time::rfc3339_micro(now_ms), "reportingController": component,
                "reportingInstance": if self.instance.is_empty() { component } else { self.instance.as_str() },
            }),
        }
    }
}

fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MOST_MESSAGE_BYTES)).unwrap_or_default()
}

/// Of what makes an Event the same, and the time at which it was said.
fn digest(key: &(String, &'static str, String), now_ms: i64) -> u64 {
    hash::fnv1a(key.0.bytes().chain(key.1.bytes()).chain(key.2.bytes()).chain(now_ms.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::decision::Action;

    fn step(name: &str) -> Step {
        let body = json!({"metadata": {"name": name}});
        let action = Action::Create { kind: &kind::POD, body, foreign: crate::frame::decision::Foreign::Refused };
        Step::new("group/a", action).says("CreatedWorkerPod", "Create", "Created worker Pod").complains(
            "FailedToCreateWorkerPod",
            "Create",
            "Failed to create worker Pod",
        )
    }

    fn messages(steps: &[Step], outcomes: &[Outcome]) -> Vec<String> {
        of_steps("ns", steps.iter().zip(outcomes)).into_iter().map(|notice| notice.message).collect()
    }

    #[test]
    fn one_event_a_reason_with_names_and_count() {
        let steps: Vec<Step> = (0..12).map(|number| step(&format!("p{number}"))).collect();
        assert_eq!(messages(&steps[..1], &[Outcome::Done]), ["Created worker Pod ns/p0"]);
        let all = messages(&steps, &vec![Outcome::Done; 12]);
        assert_eq!(all.len(), 1);
        assert!(all[0].ends_with("ns/p9 and 2 more (12 in all)"), "{all:?}");
    }

    #[test]
    fn what_was_so_already_is_not_said_and_failures_say_why() {
        use crate::frame::outcome::{Class, Problem};
        let problem = Problem { class: Class::Refused, message: "exceeded quota".into(), retry_after_ms: None };
        let steps = [step("a"), step("b"), step("c")];
        let outcomes = [Outcome::AlreadySo, Outcome::Failed(problem), Outcome::Skipped];
        assert_eq!(messages(&steps, &outcomes), ["Failed to create worker Pod ns/b, exceeded quota"]);
        let conflict = Problem { class: Class::Conflict, message: "changed".into(), retry_after_ms: None };
        let outcomes = [Outcome::Failed(conflict)];
        assert_eq!(messages(&[step("a")], &outcomes), ["Failed to create worker Pod ns/a, changed"]);
        assert!(messages(&[step("a").only_at("7")], &outcomes).is_empty(), "one looks again");
    }
}
