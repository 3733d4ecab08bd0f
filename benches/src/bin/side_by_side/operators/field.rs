//! Where both work: a server, what becomes of the RayClusters on it, and a running operator.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, pin_mut, stream};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use mobula_benches::process::{self, Memory};
use mobula_tests::apiserver::{ApiServer, Audited, post};
use mobula_tests::nodes::Nodes;
use mobula_tests::process::Process;
use mobula_tests::{kuberay, parts, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Peer;

/// Where the RayClusters are.
pub const NAMESPACE: &str = "bench";
/// As whom the fewest requests are made.
pub const IDEAL: &str = "ideal";
/// The one group of workers.
pub const GROUP: &str = "small";
/// An operator that has asked for nothing for so long has nothing left to do.
const QUIET: Duration = Duration::from_secs(4);
/// Manifests that are on their way at once.
const CREATED_AT_ONCE: usize = 16;
/// For an operator to start.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A server of its own, with nodes that run every pod.
pub struct Field {
    /// Scheduler and kubelets.
    pub nodes: Nodes,
    /// Speaks for nobody who is measured.
    pub client: Client,
    server: ApiServer,
    seen: Arc<Mutex<Seen>>,
    directory: TempDir,
}

/// What the API server has said of RayClusters so far.
#[derive(Default)]
struct Seen {
    /// When it was first ready.
    ready: BTreeMap<String, Instant>,
    /// Workers that are ready, and when that was said.
    workers: BTreeMap<String, (i64, Instant)>,
}

/// A running operator, and what it had used when it was ready for work.
pub struct Operator {
    peer: Peer,
    process: Process,
    start: Usage,
}

/// What an operator has used.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// CPU time in seconds.
    pub cpu_s: f64,
    /// Requests.
    pub requests: usize,
    /// Memory.
    pub memory: Memory,
}

impl Field {
    /// Starts the server.
    pub async fn start() -> Result<Field> {
        let kinds = ["rayclusters", "rayjobs", "rayservices", "raycronjobs"];
        let definitions = kinds.iter().map(|kind| parts::kuberay_crd(kind)).collect::<Result<Vec<_>>>()?;
        let definitions: Vec<&Path> = definitions.iter().map(PathBuf::as_path).collect();
        let server = ApiServer::start(&definitions).await?;
        let client = server.stand_in_client().await?;
        post(&client, "/api/v1/namespaces", &json!({"metadata": {"name": NAMESPACE}})).await?;
        let nodes = Nodes::start(server.stand_in_client().await?, &[]);
        let seen = Arc::new(Mutex::new(Seen::default()));
        tokio::spawn(watch(server.stand_in_client().await?, seen.clone()));
        let directory = tempfile::tempdir().context("no directory")?;
        Ok(Field { nodes, client, server, seen, directory })
    }

    /// Speaks for the fewest requests.
    pub async fn ideal_client(&self) -> Result<Client> {
        self.server.user_client(IDEAL).await
    }

    /// Starts an operator and waits until it has nothing to do.
    pub async fn operator(&self, peer: Peer, mobula: &Path) -> Result<Operator> {
        let kubeconfig = self.server.kubeconfig(peer.user())?;
        let mut command = match peer {
            Peer::KubeRay => kuberay::command(&kubeconfig)?,
            Peer::Mobula => {
                let mut command = Command::new(mobula);
                command.arg("operator").arg("--kubeconfig").arg(kubeconfig);
                command
            }
        };
        let process = kuberay::start(peer.user(), &mut command, self.directory.path(), START_LIMIT).await?;
        let mut operator = Operator { peer, process, start: Usage::default() };
        self.until_quiet(&mut operator).await?;
        operator.start = self.total(&operator)?;
        Ok(operator)
    }

    /// Waits until the operator has asked for nothing for a while.
    pub async fn until_quiet(&self, operator: &mut Operator) -> Result<()> {
        let mut last = (usize::MAX, Instant::now());
        while last.1.elapsed() < QUIET {
            operator.process.must_run()?;
            let requests = self.total(operator)?.requests;
            if requests != last.0 {
                last = (requests, Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    /// What the operator has used since it was ready for work.
    pub fn usage(&self, operator: &Operator) -> Result<Usage> {
        let mut usage = self.total(operator)?;
        usage.cpu_s -= operator.start.cpu_s;
        usage.requests -= operator.start.requests;
        Ok(usage)
    }

    fn total(&self, operator: &Operator) -> Result<Usage> {
        let pid = operator.process.id();
        let requests = self.requests(operator.peer)?.values().sum();
        Ok(Usage { cpu_s: process::cpu_seconds(pid)?, requests, memory: process::memory(pid)? })
    }

    /// Everything that an operator has asked for.
    pub fn requests(&self, peer: Peer) -> Result<BTreeMap<Audited, usize>> {
        self.requests_of(peer.user())
    }

    /// Everything that a user has asked for.
    pub fn requests_of(&self, user: &str) -> Result<BTreeMap<Audited, usize>> {
        self.server.audit(user)
    }

    /// Creates RayClusters of one head and so many workers; returns when each was sent.
    pub async fn create(&self, names: &[String], workers: u32, most: u32) -> Result<BTreeMap<String, Instant>> {
        let path = format!("/apis/ray.io/v1/namespaces/{NAMESPACE}/rayclusters");
        let create = async |name: String| {
            let sent = Instant::now();
            post(&self.client, &path, &raycluster(&name, workers, most)).await?;
            anyhow::Ok((name, sent))
        };
        stream::iter(names.iter().cloned().map(create)).buffer_unordered(CREATED_AT_ONCE).try_collect().await
    }

    /// Sets the replicas of a RayCluster.
    pub async fn scale(&self, name: &str, replicas: u32) -> Result<()> {
        let patch = json!([{"op": "replace", "path": "/spec/workerGroupSpecs/0/replicas", "value": replicas}]);
        let request = http::Request::patch(format!("/apis/ray.io/v1/namespaces/{NAMESPACE}/rayclusters/{name}"))
            .header("content-type", "application/json-patch+json")
            .body(serde_json::to_vec(&patch)?)?;
        let _: Value = self.client.request(request).await.context("could not patch the RayCluster")?;
        Ok(())
    }

    /// Waits until so many RayClusters have been ready; returns when each was so first.
    pub async fn until_ready(&self, number: usize, limit: Duration) -> Result<BTreeMap<String, Instant>> {
        let look = async || Ok(self.seen(|seen| seen.ready.len()));
        wait::until("all RayClusters ready", limit, look, |ready| *ready == number).await?;
        Ok(self.seen(|seen| seen.ready.clone()))
    }

    /// Waits until the status of a RayCluster tells of so many ready workers, and there are no more pods; returns when that
    /// was so.
    pub async fn until_workers(&self, name: &str, number: i64, limit: Duration) -> Result<Instant> {
        let look = async || Ok(self.seen(|seen| seen.workers.get(name).copied()));
        let is_right = |told: &Option<(i64, Instant)>| {
            let pods = i64::try_from(self.nodes.now(NAMESPACE, GROUP)).unwrap_or(i64::MAX);
            pods == number && told.is_some_and(|(workers, _)| workers == number)
        };
        wait::until("the workers", limit, look, is_right).await?;
        Ok(Instant::now())
    }

    fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Operator {
    /// Ends it as Kubernetes does.
    pub async fn stop(mut self) -> Result<()> {
        let status = self.process.terminate(Duration::from_secs(30)).await?;
        ensure!(status.success(), "{} ended with {status} after SIGTERM", self.peer);
        Ok(())
    }
}

async fn watch(client: Client, seen: Arc<Mutex<Seen>>) {
    let resource = ApiResource {
        group: "ray.io".into(),
        version: "v1".into(),
        api_version: "ray.io/v1".into(),
        kind: "RayCluster".into(),
        plural: "rayclusters".into(),
    };
    let events = watcher(Api::<DynamicObject>::all_with(client, &resource), watcher::Config::default());
    let events = events.default_backoff();
    pin_mut!(events);
    while let Some(event) = events.next().await {
        let Ok(watcher::Event::Apply(cluster) | watcher::Event::InitApply(cluster)) = event else { continue };
        let (name, now, status) = (cluster.name_any(), Instant::now(), &cluster.data["status"]);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if status["state"] == "ready" {
            seen.ready.entry(name.clone()).or_insert(now);
        }
        seen.workers.insert(name, (status["readyWorkerReplicas"].as_i64().unwrap_or_default(), now));
    }
}

/// A RayCluster of one head and so many workers.
pub fn raycluster(name: &str, workers: u32, most: u32) -> Value {
    let template = |container: &str| {
        let amounts = json!({"cpu": "1", "memory": "2Gi"});
        json!({"spec": {"containers": [{
            "name": container, "image": "rayproject/ray:2.60.0", "resources": {"limits": amounts, "requests": amounts},
        }]}})
    };
    json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": name},
        "spec": {
            "rayVersion": "2.60.0",
            "headGroupSpec": {"rayStartParams": {}, "template": template("ray-head")},
            "workerGroupSpecs": [{
                "groupName": GROUP, "replicas": workers, "minReplicas": 0, "maxReplicas": most, "rayStartParams": {},
                "template": template("ray-worker"),
            }],
        },
    })
}
