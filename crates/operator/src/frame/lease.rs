//! Leader election by a Lease, as Kubernetes' own library does it, so that KubeRay and Mobula exclude each other.

use std::{sync::Arc, time::Duration};

use kube::Client;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    kind::{self},
    metrics::Metrics,
    time::{self, Clock},
};

/// Name of the Lease: KubeRay's.
pub const NAME: &str = "ray-operator-leader";
/// A leader that has not renewed for so long has lost it, as seen by others.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long stops by itself: well before others take over.
const RENEW_LIMIT: Duration = Duration::from_secs(10);
/// Time between two tries.
const RETRY: Duration = Duration::from_secs(2);

/// Tries to lead, and says whether it does.
pub struct Election {
    client: Client,
    clock: Clock,
    metrics: Arc<Metrics>,
    namespace: String,
    identity: String,
    leads: watch::Sender<bool>,
    /// What another holder last wrote, and when we first saw it: clocks of different machines are not compared.
    seen: Option<(Value, Instant)>,
    renewed: Option<Instant>,
}

/// What one look at the Lease came to.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Held,
    Others,
    Unknown,
}

impl Election {
    /// An election in `namespace` as `identity`, and whether it is won.
    pub fn new(
        client: Client,
        clock: Clock,
        metrics: Arc<Metrics>,
        namespace: String,
        identity: String,
    ) -> (Self, watch::Receiver<bool>) {
        let (leads, receiver) = watch::channel(false);
        (Election { client, clock, metrics, namespace, identity, leads, seen: None, renewed: None }, receiver)
    }

    /// Tries until `stop` is true; then gives the Lease up. A leadership that is lost is not tried for again: what was
    /// begun with it must not go on, so the process ends and starts anew.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let began = Instant::now();
            // Whatever takes its time, the leadership ends in time.
            let limit = self.lead_ends().unwrap_or(began + RENEW_LIMIT).min(began + RENEW_LIMIT / 2);
            let turn = timeout_at(limit, self.turn()).await.unwrap_or(Turn::Unknown);
            self.take(&turn, began);
            if self.was_lost() {
                self.set(false);
                tracing::warn!("the leadership is lost");
                return;
            }
            let retry = Instant::now() + RETRY;
            tokio::select! {
                biased;
                _ = stop.changed() => {}
                () = sleep_until(self.lead_ends().unwrap_or(retry).min(retry)) => {}
            }
        }
        if *self.leads.borrow() {
            self.set(false);
            self.give_up().await;
        }
    }

    /// Takes in what a turn that began at `began` came to. Others count from when the Lease was written, which was not
    /// before that.
    fn take(&mut self, turn: &Turn, began: Instant) {
        match turn {
            Turn::Held => {
                self.renewed = Some(began);
                self.set(true);
            }
            Turn::Others if self.renewed.is_some() => self.renewed = Instant::now().checked_sub(RENEW_LIMIT),
            Turn::Others | Turn::Unknown => {}
        }
    }

    /// When the leadership ends unless it is renewed; `None`: there is none.
    fn lead_ends(&self) -> Option<Instant> {
        self.renewed.filter(|_| *self.leads.borrow()).map(|at| at + RENEW_LIMIT)
    }

    fn was_lost(&self) -> bool {
        *self.leads.borrow() && self.lead_ends().is_none_or(|at| Instant::now() >= at)
    }

    fn set(&self, leads: bool) {
        let changed = self.leads.send_if_modified(|value| std::mem::replace(value, leads) != leads);
        if changed {
            tracing::info!(leads, identity = self.identity, "leadership");
        }
        self.metrics.leads(leads);
    }

    fn path(&self) -> String {
        kind::LEASE.path(&self.namespace)
    }

    async fn turn(&mut self) -> Turn {
        let lease = match self.client.request::<Value>(get(&format!("{}/{NAME}", self.path()))).await {
            Ok(lease) => lease,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let body = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                                  "metadata": {"name": NAME, "namespace": self.namespace}, "spec": self.spec(0, true)});
                return self.write(http::Request::post(self.path()), &body).await;
            }
            Err(error) => {
                tracing::warn!(%error, "the Lease can't be read");
                return Turn::Unknown;
            }
        };
        let holder = lease.pointer("/spec/holderIdentity").and_then(Value::as_str).unwrap_or_default();
        if !holder.is_empty() && holder != self.identity && !self.is_expired(&lease) {
            return Turn::Others;
        }
        let is_ours = holder == self.identity;
        let transitions = lease.pointer("/spec/leaseTransitions").and_then(Value::as_i64).unwrap_or(0);
        let mut body = lease;
        let acquired = body["spec"]["acquireTime"].take();
        body["spec"] = self.spec(if is_ours { transitions } else { transitions.saturating_add(1) }, !is_ours);
        if is_ours {
            body["spec"]["acquireTime"] = acquired;
        }
        self.write(http::Request::put(format!("{}/{NAME}", self.path())), &body).await
    }

    /// Whether another holder has not renewed for as long as it promised to, by our own clock.
    fn is_expired(&mut self, lease: &Value) -> bool {
        let spec = &lease["spec"];
        if self.seen.as_ref().is_none_or(|(seen, _)| seen != spec) {
            self.seen = Some((spec.clone(), Instant::now()));
        }
        let promised = spec["leaseDurationSeconds"].as_u64().map_or(DURATION, Duration::from_secs);
        self.seen.as_ref().is_some_and(|(_, since)| since.elapsed() >= promised)
    }

    fn spec(&self, transitions: i64, acquires: bool) -> Value {
        let now = time::rfc3339_micro((self.clock)());
        let mut spec = json!({"holderIdentity": self.identity, "leaseDurationSeconds": DURATION.as_secs(),
                              "renewTime": now, "leaseTransitions": transitions});
        if acquires {
            spec["acquireTime"] = json!(now);
        }
        spec
    }

    async fn write(&self, request: http::request::Builder, body: &Value) -> Turn {
        let request = request.header(http::header::CONTENT_TYPE, "application/json");
        let Ok(request) = request.body(body.to_string().into_bytes()) else { return Turn::Unknown };
        match self.client.request::<Value>(request).await {
            Ok(_) => Turn::Held,
            Err(kube::Error::Api(status)) if status.code == 409 => Turn::Unknown,
            Err(error) => {
                tracing::warn!(%error, "the Lease can't be written");
                Turn::Unknown
            }
        }
    }

    /// Lets the next one lead at once.
    async fn give_up(&self) {
        let Ok(mut lease) = self.client.request::<Value>(get(&format!("{}/{NAME}", self.path()))).await else { return };
        if lease["spec"]["holderIdentity"] == json!(self.identity) {
            lease["spec"]["holderIdentity"] = json!("");
            lease["spec"]["leaseDurationSeconds"] = json!(1);
            let _ = self.write(http::Request::put(format!("{}/{NAME}", self.path())), &lease).await;
        }
    }
}

fn get(path: &str) -> http::Request<Vec<u8>> {
    let mut request = http::Request::new(Vec::new());
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
    request
}
