//! What a node says of itself on its own metrics endpoint: bytes of objects that live nowhere else, and running tasks.
//!
//! Facts, from a running 2.60 head into which objects were put, spilled, and freed again (2.52 has the same series):
//!
//! | series | shows |
//! |---|---|
//! | `ray_spill_manager_objects_bytes{State="Pinned"}` | primary copies in memory |
//! | `ray_spill_manager_objects_bytes{State="PendingSpill"}` | primary copies on their way to disk |
//! | `ray_object_store_memory{Location="SPILLED"}` | primary copies on disk; falls when they are freed |
//! | `ray_spill_manager_objects_bytes{State="Spilled"}` | all that was ever spilled: never falls, useless here |
//! | `ray_object_store_memory{Location="MMAP_SHM"\|"MMAP_DISK"}` | everything in the store: also copies of others' objects, and of those spilled |
//! | `ray_object_store_memory{Location="WORKER_HEAP"}` | small objects inside workers: no store, they leave with their owner |
//! | `ray_scheduler_tasks{State="Executing"}` | tasks and actor calls that run on the node |
//!
//! The first three are added up (50,000,109 bytes put: so many pinned; 250 MB put into a store of 200 MB: 80 MB pinned and
//! 170 MB spilled). An agent gathers them every 10 s: what it says is up to 10 s old. An answer is about 300 kB.
//!
//! Unreachable means unknown, never empty; so does an answer in which a series is missing or is no amount.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use prometheus_parse::{Sample, Scrape, Value};

/// Most time for one endpoint.
const LIMIT: Duration = Duration::from_secs(1);
/// Largest answer that is read.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Most endpoints asked at once.
const CONCURRENCY: usize = 64;

const STORE: &str = "ray_object_store_memory";
const SPILL: &str = "ray_spill_manager_objects_bytes";
const TASKS: &str = "ray_scheduler_tasks";

/// The metrics endpoint of a Ray node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Ray node id in hex.
    pub node_id: String,
    /// IP address.
    pub address: String,
    /// Port.
    pub port: u16,
}

/// What a node holds.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Bytes of objects whose primary copy it has, in memory or on disk.
    pub object_store_bytes: u64,
    /// Tasks that run on it, if it says so.
    pub running_tasks: Option<u64>,
}

/// Why a node's holdings are unknown. Retryable.
#[derive(Debug, thiserror::Error)]
pub enum HoldingsError {
    /// No answer in time.
    #[error("{0}: no answer within 1 s")]
    Timeout(String),
    /// No connection, or it broke, or the answer is too long.
    #[error("{0}: {1}")]
    Transport(String, String),
    /// An answer that says nothing of the object store.
    #[error("{0}: {1}")]
    Garbage(String, String),
}

/// Asks each endpoint, several at once; who does not answer well within a second is given with the reason.
pub async fn ask_all(endpoints: Vec<Endpoint>) -> BTreeMap<String, Result<Holdings, HoldingsError>> {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(LIMIT));
    let client: HttpClient = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    stream::iter(endpoints)
        .map(|endpoint| {
            let client = &client;
            async move {
                let answer = ask(client, &endpoint).await;
                (endpoint.node_id, answer)
            }
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await
}

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

async fn ask(client: &HttpClient, endpoint: &Endpoint) -> Result<Holdings, HoldingsError> {
    let host =
        if endpoint.address.contains(':') { format!("[{}]", endpoint.address) } else { endpoint.address.clone() };
    let name = format!("http://{host}:{}/metrics", endpoint.port);
    match tokio::time::timeout(LIMIT, get(client, &name)).await {
        Err(_) => Err(HoldingsError::Timeout(name)),
        Ok(Err(problem)) => Err(HoldingsError::Transport(name, problem)),
        Ok(Ok((status, _))) if status != StatusCode::OK => {
            Err(HoldingsError::Garbage(name, format!("HTTP status {status}")))
        }
        Ok(Ok((_, body))) => {
            read_holdings(&String::from_utf8_lossy(&body)).map_err(|problem| HoldingsError::Garbage(name, problem))
        }
    }
}

/// The error is for people.
async fn get(client: &HttpClient, url: &str) -> Result<(StatusCode, Bytes), String> {
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let request = Request::get(uri).body(Empty::new()).map_err(|error| error.to_string())?;
    let response = client.request(request).await.map_err(|error| chain(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|error| chain(&*error))?;
    Ok((status, body.to_bytes()))
}

/// An error with all its causes: the outermost alone says nothing.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Reads the metrics of a Ray node, in Prometheus' text form.
///
/// # Errors
/// If it does not tell what the node holds, for people.
pub fn read_holdings(text: &str) -> Result<Holdings, String> {
    // Only what is needed: the whole is long.
    let wanted = |line: &&str| {
        let line = line.strip_prefix("# TYPE ").unwrap_or(line);
        [STORE, SPILL, TASKS].iter().any(|name| line.starts_with(name))
    };
    // The time of samples does not matter here; this one needs no clock.
    let scrape = Scrape::parse_at(text.lines().filter(wanted).map(|line| Ok(line.to_owned())), Default::default())
        .map_err(|error| format!("not Prometheus text: {error}"))?;
    let sum = |metric: &str, label: &str, values: &[&str]| {
        let matches = |sample: &&Sample| {
            sample.metric == metric && sample.labels.get(label).is_some_and(|value| values.contains(&value))
        };
        total(scrape.samples.iter().filter(matches))
    };
    let spilled = sum(STORE, "Location", &["SPILLED"])?;
    let held = match sum(SPILL, "State", &["Pinned"])? {
        Some(pinned) => Some(pinned.saturating_add(sum(SPILL, "State", &["PendingSpill"])?.unwrap_or(0))),
        // A version without that series: all that is in the store, at most too much.
        None => sum(STORE, "Location", &["MMAP_SHM", "MMAP_DISK"])?,
    };
    let (Some(held), Some(spilled)) = (held, spilled) else {
        return Err(format!("no {SPILL} or {STORE} in it"));
    };
    let object_store_bytes = held.saturating_add(spilled);
    Ok(Holdings { object_store_bytes, running_tasks: sum(TASKS, "State", &["Executing"])? })
}

/// The sum of the samples; `None` if there is none.
fn total<'a>(samples: impl Iterator<Item = &'a Sample>) -> Result<Option<u64>, String> {
    let mut sum: Option<u64> = None;
    for sample in samples {
        match sample.value {
            Value::Gauge(value) | Value::Counter(value) | Value::Untyped(value)
                if value.is_finite() && value >= 0.0 =>
            {
                sum = Some(sum.unwrap_or(0).saturating_add(value as u64));
            }
            _ => return Err(format!("{} is not an amount", sample.metric)),
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests;
