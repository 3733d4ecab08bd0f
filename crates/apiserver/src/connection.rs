//! A client's way to the server: what it may do, what goes wrong on the way, and what it has asked for.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::faults::{Faults, Outcome, Rule, Script, Verdict};
use crate::refusal::Refusal;
use crate::request::{Asked, Call, Query, Verb};
use crate::state::{Access, Asker, Reply, Shared, lock};
use crate::watch::{End, WatchBody};

/// Who a connection speaks for unless another is named.
const ADMIN: &str = "admin";

/// A tower service under a `kube::Client`. Clones share everything.
#[derive(Clone)]
pub struct Connection {
    shared: Shared,
    id: u64,
    user: Arc<str>,
    access: Option<Access>,
    way: Arc<Mutex<Way>>,
}

/// What happens on the way.
#[derive(Default)]
struct Way {
    script: Script,
    faults: Option<Box<dyn Faults>>,
    counts: BTreeMap<Verb, BTreeMap<String, u64>>,
    record_limit: usize,
    seen: VecDeque<Seen>,
}

/// A request as it came, and how it was answered.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What was asked for.
    pub asked: Asked,
    /// HTTP status of the answer, where there was one.
    pub status: Option<u16>,
    /// `Content-Type` of the request.
    pub content_type: String,
    /// The request's body.
    pub body: Bytes,
    /// When it came.
    pub at: Instant,
}

impl Seen {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// The connection broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection to the API server was lost {when}")]
pub struct Lost {
    when: &'static str,
}

/// An answer's body.
pub struct Answer {
    kind: AnswerKind,
}

enum AnswerKind {
    Whole(Option<Bytes>),
    Watch(WatchBody),
}

impl Connection {
    pub(crate) fn new(shared: Shared, id: u64) -> Connection {
        Connection { shared, id, user: ADMIN.into(), access: None, way: Arc::default() }
    }

    /// The same for this user, who may do only what `access` allows. Access reviews answer by the same rule.
    pub fn with_access(mut self, user: &str, access: impl Fn(&Asked) -> bool + Send + Sync + 'static) -> Connection {
        self.user = user.into();
        self.access = Some(Arc::new(access));
        self
    }

    /// The same with what goes wrong. Rules of [`fail`](Self::fail) come first.
    pub fn with_faults(self, faults: impl Faults + 'static) -> Connection {
        self.way().faults = Some(Box::new(faults));
        self
    }

    /// The same with the last `limit` requests recorded.
    pub fn with_record(self, limit: usize) -> Connection {
        self.way().record_limit = limit;
        self
    }

    /// A client of this connection. Call it inside a tokio runtime.
    pub fn client(&self, namespace: &str) -> kube::Client {
        kube::Client::new(self.clone(), namespace)
    }

    /// From now on this goes wrong too.
    pub fn fail(&self, rule: Rule) {
        self.way().script.rules.push(rule);
    }

    /// Nothing goes wrong any more: rules and faults are gone.
    pub fn recover(&self) {
        let mut way = self.way();
        way.script = Script::default();
        way.faults = None;
    }

    /// Ends this connection's watches of a resource (of all if it is empty). How many.
    pub fn cut_watches(&self, resource: &str, end: End) -> usize {
        let mut state = lock(&self.shared);
        let tables = state.store.tables.iter_mut();
        let meant = tables.filter(|table| resource.is_empty() || table.kind.plural == resource);
        meant.map(|table| table.cut(end, &|connection| connection == self.id)).sum()
    }

    /// Requests so far by verb and resource (`pods`, `pods/status`), those included that went wrong.
    pub fn counts(&self) -> BTreeMap<(Verb, String), u64> {
        let way = self.way();
        let counts = way.counts.iter().flat_map(|(verb, of)| of.iter().map(|(name, n)| ((*verb, name.clone()), *n)));
        counts.collect()
    }

    /// Requests so far of this verb for this resource.
    pub fn count(&self, verb: Verb, resource: &str) -> u64 {
        self.way().counts.get(&verb).and_then(|of| of.get(resource)).copied().unwrap_or(0)
    }

    /// Forgets counts and record.
    pub fn reset_counts(&self) {
        let mut way = self.way();
        way.counts.clear();
        way.seen.clear();
    }

    /// The recorded requests, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.way().seen.iter().cloned().collect()
    }

    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self, request: Request<kube::client::Body>) -> Result<Response<Answer>, Lost> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.map_err(|_| Lost { when: "while it was asked" })?;
        let query = Query::read(parts.uri.query().unwrap_or_default());
        let Some(asked) = Asked::read(&parts.method, parts.uri.path(), query.is_watch) else {
            return Ok(refused(&Refusal::method_not_allowed()));
        };
        let header = |name| {
            let value = parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let content_type = header(header::CONTENT_TYPE);
        let call = Call { asked, query, content_type, accept: header(header::ACCEPT), body };
        let came = Instant::now();
        let verdict = self.way().judge(&call.asked);
        if !verdict.request_latency.is_zero() {
            sleep(verdict.request_latency).await;
        }
        let answer = self.outcome(&call, &verdict).await;
        self.way().note(call, came, answer.as_ref().ok().map(|answer| answer.status().as_u16()));
        if !verdict.answer_latency.is_zero() {
            sleep(verdict.answer_latency).await;
        }
        answer
    }

    async fn outcome(&self, call: &Call, verdict: &Verdict) -> Result<Response<Answer>, Lost> {
        match &verdict.outcome {
            Outcome::Serve => Ok(self.answer(call, verdict.watch_lag)),
            Outcome::Refuse(refusal) => Ok(refused(refusal)),
            Outcome::Hang => std::future::pending().await,
            Outcome::Lose => Err(Lost { when: "before it was asked" }),
            Outcome::LoseAnswer => {
                drop(self.answer(call, verdict.watch_lag));
                Err(Lost { when: "before it answered" })
            }
        }
    }

    fn answer(&self, call: &Call, lag: Duration) -> Response<Answer> {
        let asker = Asker { connection: self.id, user: &self.user, access: self.access.as_ref(), lag };
        // The lock ends here: a body that is dropped takes it again.
        let reply = lock(&self.shared).answer(&self.shared, call, &asker);
        match reply {
            Ok(Reply::Whole(code, body)) => whole(code, "application/json", body),
            Ok(Reply::NothingThere) => whole(404, "text/plain", Bytes::from_static(b"404 page not found\n")),
            Ok(Reply::Watch(body)) => {
                let mut response = whole(200, "application/json", Bytes::new());
                response.body_mut().kind = AnswerKind::Watch(body);
                response
            }
            Err(refusal) => refused(&refusal),
        }
    }
}

impl Way {
    fn judge(&mut self, asked: &Asked) -> Verdict {
        let scripted = self.script.judge(asked);
        scripted.or_else(|| self.faults.as_mut().map(|faults| faults.judge(asked))).unwrap_or_default()
    }

    fn note(&mut self, call: Call, at: Instant, status: Option<u16>) {
        let of_verb = self.counts.entry(call.asked.verb).or_default();
        let resource = call.asked.resource_path();
        match of_verb.get_mut(&resource) {
            Some(count) => *count += 1,
            None => {
                of_verb.insert(resource, 1);
            }
        }
        if self.record_limit == 0 {
            return;
        }
        if self.seen.len() == self.record_limit {
            self.seen.pop_front();
        }
        let Call { asked, content_type, body, .. } = call;
        self.seen.push_back(Seen { asked, status, content_type, body, at });
    }
}

impl tower::Service<Request<kube::client::Body>> for Connection {
    type Response = Response<Answer>;
    type Error = Lost;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Lost>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        Box::pin(self.clone().serve(request))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut self.kind {
            AnswerKind::Whole(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            AnswerKind::Watch(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            AnswerKind::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            AnswerKind::Watch(_) => SizeHint::default(),
        }
    }
}

fn whole(code: u16, content_type: &'static str, body: Bytes) -> Response<Answer> {
    let mut response = Response::new(Answer { kind: AnswerKind::Whole(Some(body)) });
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn refused(refusal: &Refusal) -> Response<Answer> {
    let mut response = whole(refusal.code, "application/json", refusal.to_bytes());
    if let Some(seconds) = refusal.retry_after_s() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
