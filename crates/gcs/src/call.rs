//! How a call is made: which endpoint, with which metadata, how often, for how long.

mod classify;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::time::{Instant, sleep, timeout};
use tonic::Request;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tracing::debug;

use self::classify::Failure;
use crate::auth::TokenCache;
use crate::codec::Raw;
use crate::config::{Config, ConfigError, Deadlines, check_endpoint};
use crate::connect;
use crate::convert;
use crate::error::Error;
use crate::id::hex;
use crate::method::{Method, short_name};
use crate::proto::node_info_gcs_service::GET_CLUSTER_ID;
use crate::proto::{self, autoscaler as pb, autoscaler::autoscaler_state_service as autoscaler};
use crate::server::{Front, SharedGcs, Told};
use crate::tls::TlsFiles;
use crate::types::ClusterState;
use crate::wire;

/// Metadata key of the cluster id, on both sides of the wire.
pub(crate) const CLUSTER_ID_KEY: &str = "ray_cluster_id";
/// Metadata key of the token, on both sides of the wire.
pub(crate) const AUTHORIZATION_KEY: &str = "authorization";

/// Pauses between rounds over all endpoints: 50 ms doubled up to 1 s. The deadline bounds them as a whole.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Rounds over all endpoints.
const ROUNDS: u32 = 6;

/// Whether a call that may have reached the GCS may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Twice is as good as once.
    Safe,
    /// Only when nothing was sent.
    Unsafe,
}

/// A reply, decoded, with its bytes.
pub(crate) struct Answer<Reply> {
    pub reply: Reply,
    pub wire: Bytes,
    pub endpoint: String,
}

/// The state that all clones of a client share.
pub(crate) struct Caller {
    links: Vec<Link>,
    /// Index of the endpoint to try first.
    preferred: AtomicUsize,
    tokens: TokenCache,
    /// The head that answers; its id is fetched by whoever needs it first.
    head: tokio::sync::Mutex<Option<Head>>,
    head_changes: AtomicU64,
    pub deadlines: Deadlines,
    max_message_bytes: usize,
}

/// What tells one head from another.
struct Head {
    cluster_id: Vec<u8>,
    /// Seen with the first state.
    session: Option<String>,
}

/// One call under way.
struct Progress {
    until: Instant,
    /// Index of the endpoint that is being asked.
    asking: AtomicUsize,
}

/// How a GCS is reached.
#[derive(Clone)]
enum Way {
    /// Over HTTP/2.
    Channel(Channel),
    /// It is in this process.
    Within(Front),
}

struct Link {
    endpoint: String,
    way: Mutex<Way>,
    /// How to dial again; `None` for a channel that was given.
    redial: Option<(Option<TlsFiles>, Duration)>,
}

impl Caller {
    pub fn new(config: Config) -> Result<Caller, ConfigError> {
        if config.endpoints.is_empty() {
            return Err(ConfigError::NoEndpoint);
        }
        let mut links = vec![];
        for endpoint in config.endpoints {
            check_endpoint(&endpoint)?;
            let redial = (config.tls.clone(), config.deadlines.connect);
            let channel = connect::channel(&endpoint, redial.0.clone(), redial.1)?;
            links.push(Link { endpoint, way: Mutex::new(Way::Channel(channel)), redial: Some(redial) });
        }
        Ok(Caller::over(links, TokenCache::new(config.auth), config.deadlines, config.max_message_bytes))
    }

    pub fn from_channel(channel: Channel) -> Caller {
        Caller::by("given channel", Way::Channel(channel))
    }

    pub fn of_process(gcs: SharedGcs) -> Caller {
        Caller::by("this process", Way::Within(Front::new(gcs)))
    }

    fn by(endpoint: &str, way: Way) -> Caller {
        let plain = Config::plain(vec![]);
        let link = Link { endpoint: endpoint.to_owned(), way: Mutex::new(way), redial: None };
        Caller::over(vec![link], TokenCache::new(plain.auth), plain.deadlines, plain.max_message_bytes)
    }

    fn over(links: Vec<Link>, tokens: TokenCache, deadlines: Deadlines, max_message_bytes: usize) -> Caller {
        Caller {
            links,
            preferred: AtomicUsize::new(0),
            tokens,
            head: tokio::sync::Mutex::new(None),
            head_changes: AtomicU64::new(0),
            deadlines,
            max_message_bytes,
        }
    }

    /// How often another head was found to answer.
    pub fn head_changes(&self) -> u64 {
        self.head_changes.load(Ordering::Acquire)
    }

    /// Compares the session of a reply with the one before: also a head that keeps its cluster id may be another.
    pub async fn check_session(&self, session: &str) -> Result<(), Error> {
        let mut head = self.head.lock().await;
        match head.as_mut() {
            Some(Head { session: Some(before), .. }) if before != session => {
                *head = None;
                self.head_changes.fetch_add(1, Ordering::AcqRel);
                Err(Error::HeadRestarted)
            }
            Some(known) => {
                known.session = Some(session.to_owned());
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The id of the cluster that answers, 28 bytes.
    pub async fn cluster_id(&self, limit: Duration) -> Result<Vec<u8>, Error> {
        self.within(GET_CLUSTER_ID.path(), limit, async |progress| self.known_cluster(progress).await).await
    }

    /// One call, as a whole within `limit`.
    pub async fn call<Q: Message, R: Message + Default>(
        &self,
        method: Method<Q, R>,
        request: &Q,
        limit: Duration,
        repeat: Repeat,
    ) -> Result<Answer<R>, Error> {
        let body = Bytes::from(request.encode_to_vec());
        self.within(method.path(), limit, async |progress| {
            let cluster = self.known_cluster(progress).await?;
            let (told, endpoint) = self.rounds(method.path(), &body, Some(&cluster), repeat, progress).await?;
            decode(method.path(), wire_of(told), endpoint)
        })
        .await
    }

    /// Nodes and demand, and the reply as it was sent, if it was.
    pub async fn cluster_state(&self, limit: Duration) -> Result<(ClusterState, Option<Bytes>), Error> {
        let method = autoscaler::GET_CLUSTER_RESOURCE_STATE;
        // 0 always: a number above the server's own, such as one from before its restart, aborts it.
        let request = pb::GetClusterResourceStateRequest { last_seen_cluster_resource_state_version: 0 };
        let body = Bytes::from(request.encode_to_vec());
        self.within(method.path(), limit, async |progress| {
            let cluster = self.known_cluster(progress).await?;
            let (told, endpoint) = self.rounds(method.path(), &body, Some(&cluster), Repeat::Safe, progress).await?;
            let wire = match told {
                Told::State(state) => return Ok((*state, None)),
                Told::Wire(wire) => wire,
            };
            let answer: Answer<pb::GetClusterResourceStateReply> = decode(method.path(), wire, endpoint)?;
            let state = required(method, answer.reply.cluster_resource_state, answer.endpoint)?;
            Ok((convert::cluster_state(state), Some(answer.wire)))
        })
        .await
    }

    /// A call that any GCS answers, whichever cluster it serves.
    pub async fn call_any<Q: Message, R: Message + Default>(
        &self,
        method: Method<Q, R>,
        request: &Q,
        limit: Duration,
    ) -> Result<Answer<R>, Error> {
        let body = Bytes::from(request.encode_to_vec());
        self.within(method.path(), limit, async |progress| {
            let (told, endpoint) = self.rounds(method.path(), &body, None, Repeat::Safe, progress).await?;
            decode(method.path(), wire_of(told), endpoint)
        })
        .await
    }

    async fn within<T>(
        &self,
        path: &'static str,
        limit: Duration,
        work: impl AsyncFnOnce(&Progress) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let first = self.preferred.load(Ordering::Relaxed);
        let progress = Progress { until: Instant::now() + limit, asking: AtomicUsize::new(first) };
        match timeout(limit, work(&progress)).await {
            Ok(result) => result,
            Err(_) => {
                let endpoint = self.give_up(progress.asking.into_inner());
                Err(Error::Deadline { method: short_name(path), endpoint, after: limit })
            }
        }
    }

    /// Without keepalive a silent connection looks alive for ever: after a missed deadline it is left, and the next call
    /// begins with another endpoint.
    fn give_up(&self, index: usize) -> String {
        self.preferred.store((index + 1) % self.links.len(), Ordering::Relaxed);
        let Some(link) = self.links.get(index) else { return String::new() };
        if let Some((tls, connect_limit)) = &link.redial
            && let Ok(channel) = connect::channel(&link.endpoint, tls.clone(), *connect_limit)
        {
            *link.lock() = Way::Channel(channel);
        }
        link.endpoint.clone()
    }

    async fn known_cluster(&self, progress: &Progress) -> Result<Vec<u8>, Error> {
        let mut head = self.head.lock().await;
        if let Some(known) = head.as_ref() {
            return Ok(known.cluster_id.clone());
        }
        let path = GET_CLUSTER_ID.path();
        let (told, endpoint) = self.rounds(path, &Bytes::new(), None, Repeat::Safe, progress).await?;
        let answer: Answer<proto::GetClusterIdReply> = decode(path, wire_of(told), endpoint)?;
        check_status(short_name(path), answer.reply.status)?;
        let cluster_id = answer.reply.cluster_id;
        if cluster_id.is_empty() {
            let message = "the reply holds no cluster id".into();
            return Err(Error::Garbage { method: short_name(path), endpoint: answer.endpoint, message });
        }
        *head = Some(Head { cluster_id: cluster_id.clone(), session: None });
        Ok(cluster_id)
    }

    /// Tries the endpoints in order, again and again with growing pauses, as long as it makes sense.
    async fn rounds(
        &self,
        path: &'static str,
        body: &Bytes,
        cluster: Option<&[u8]>,
        repeat: Repeat,
        progress: &Progress,
    ) -> Result<(Told, String), Error> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut pause = FIRST_PAUSE;
        let mut round = 1;
        loop {
            let mut problems = vec![];
            for step in 0..self.links.len() {
                let index = (first + step) % self.links.len();
                let Some(link) = self.links.get(index) else { continue };
                progress.asking.store(index, Ordering::Relaxed);
                match self.with_fresh_token(link, path, body, cluster).await {
                    Ok(reply) => {
                        self.preferred.store(index, Ordering::Relaxed);
                        return Ok((reply, link.endpoint.clone()));
                    }
                    Err(Failure::NotConnected(message)) => problems.push((&link.endpoint, message)),
                    Err(Failure::Broken(message)) if repeat == Repeat::Safe => problems.push((&link.endpoint, message)),
                    Err(Failure::OtherCluster) if cluster.is_some() => return Err(self.drop_head(cluster).await),
                    Err(failure) => return Err(failure.into_error(path, &link.endpoint)),
                }
            }
            debug!(path, round, ?problems, "no endpoint answers");
            // Rather the reason now than a mere deadline later.
            if round == ROUNDS || Instant::now() + pause >= progress.until {
                let problems: Vec<_> = problems.iter().map(|(endpoint, text)| format!("{endpoint}: {text}")).collect();
                return Err(Error::Unavailable { method: short_name(path), message: problems.join("; ") });
            }
            round += 1;
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The id was refused: forget it, unless another call has replaced it meanwhile.
    async fn drop_head(&self, refused: Option<&[u8]>) -> Error {
        let mut head = self.head.lock().await;
        if head.as_ref().map(|known| known.cluster_id.as_slice()) == refused {
            *head = None;
            self.head_changes.fetch_add(1, Ordering::AcqRel);
        }
        Error::HeadRestarted
    }

    /// One attempt, and a second one at once if the token was refused and its file holds another one by now.
    async fn with_fresh_token(
        &self,
        link: &Link,
        path: &'static str,
        body: &Bytes,
        cluster: Option<&[u8]>,
    ) -> Result<Told, Failure> {
        let token = self.token()?;
        match self.attempt(link, path, body.clone(), cluster, token.clone()).await {
            Err(Failure::Unauthenticated(_)) if self.tokens.changed_since(token.as_ref()) => {
                self.attempt(link, path, body.clone(), cluster, self.token()?).await
            }
            result => result,
        }
    }

    fn token(&self) -> Result<Option<MetadataValue<Ascii>>, Failure> {
        self.tokens.header().map_err(|error| Failure::Unauthenticated(error.to_string()))
    }

    async fn attempt(
        &self,
        link: &Link,
        path: &'static str,
        body: Bytes,
        cluster: Option<&[u8]>,
        token: Option<MetadataValue<Ascii>>,
    ) -> Result<Told, Failure> {
        let mut request = Request::new(body);
        if let Some(id) = cluster.and_then(|id| hex(id).parse().ok()) {
            request.metadata_mut().insert(CLUSTER_ID_KEY, id);
        }
        if let Some(token) = token {
            request.metadata_mut().insert(AUTHORIZATION_KEY, token);
        }
        let way = link.lock().clone();
        let channel = match way {
            Way::Channel(channel) => channel,
            Way::Within(front) => {
                let reply = front.ask(path, request).await;
                return reply.map_err(|status| classify::status(&status));
            }
        };
        let mut grpc = Grpc::new(channel)
            .max_decoding_message_size(self.max_message_bytes)
            .max_encoding_message_size(self.max_message_bytes);
        grpc.ready().await.map_err(|error| classify::transport(&error))?;
        let reply = grpc.unary(request, PathAndQuery::from_static(path), Raw).await;
        reply.map(|reply| Told::Wire(reply.into_inner())).map_err(|status| classify::status(&status))
    }
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A reply without the part that it is about is no view of the cluster, least of all an empty one.
pub(crate) fn required<Q, R, T>(method: Method<Q, R>, part: Option<T>, endpoint: String) -> Result<T, Error> {
    part.ok_or_else(|| Error::Garbage {
        method: short_name(method.path()),
        endpoint,
        message: "the reply holds no cluster state".into(),
    })
}

/// An answer as it would be sent.
fn wire_of(told: Told) -> Bytes {
    match told {
        Told::Wire(wire) => wire,
        Told::State(state) => wire::encode_cluster_state(&state).into(),
    }
}

fn decode<R: Message + Default>(path: &'static str, wire: Bytes, endpoint: String) -> Result<Answer<R>, Error> {
    match R::decode(wire.clone()) {
        Ok(reply) => Ok(Answer { reply, wire, endpoint }),
        Err(error) => Err(Error::Garbage {
            method: short_name(path),
            endpoint,
            message: format!("a reply of {} bytes: {error}", wire.len()),
        }),
    }
}

/// Services outside the autoscaler's package answer gRPC's OK and put their status into the reply.
pub(crate) fn check_status(method: &'static str, status: Option<proto::GcsStatus>) -> Result<(), Error> {
    match status {
        Some(status) if status.code != 0 => {
            Err(Error::Status { method, code: format!("GcsStatus {}", status.code), message: status.message })
        }
        _ => Ok(()),
    }
}
