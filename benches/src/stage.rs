//! A real API server with a RayCluster on it, and an autoscaler that looks after it.

// Measures real time.
#![allow(clippy::disallowed_methods)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use kube::api::{Api, ApiResource, DynamicObject, WatchEvent, WatchParams};
use mobula_tests::apiserver::{ApiServer, Namespace, post};
use mobula_tests::operator;
use mobula_tests::parts;
use mobula_tests::process::{Process, free_port};
use mobula_tests::raycluster::{Group, Options, raycluster};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Name of the RayCluster.
pub const CLUSTER: &str = "bench";
/// Name of its head's pod.
pub const HEAD_POD: &str = "bench-head";

/// Who scales.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// `mobula sidecar`, the release binary beside this program.
    Mobula,
    /// Ray's own `ray kuberay-autoscaler`.
    Ray,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Peer::Mobula => "Mobula",
            Peer::Ray => "Ray 2.60.0",
        })
    }
}

/// The release binary of Mobula, which lies beside this program.
pub fn mobula() -> Result<std::path::PathBuf> {
    let own = std::env::current_exe().context("where this program lies is not known")?;
    let binary = own.with_file_name("mobula");
    ensure!(binary.is_file(), "no {}: run `cargo build --release` first", binary.display());
    Ok(binary)
}

/// A namespace with a RayCluster and its head's pod.
pub struct Stage {
    /// The namespace.
    pub namespace: Namespace,
    replicas: watch::Receiver<(Instant, i64)>,
}

impl Stage {
    /// Makes a namespace of this name; the RayCluster's head has its GCS at `gcs_port`.
    pub async fn new(name: &str, groups: &[Group], gcs_port: u16) -> Result<Stage> {
        let namespace = ApiServer::shared().await?.namespace(name, CLUSTER).await?;
        let options = Options { idle_timeout_s: 3_600, version: "v2", gcs_port };
        let path = format!("/apis/ray.io/v1/namespaces/{name}/rayclusters");
        post(&namespace.admin, &path, &raycluster(CLUSTER, groups, &options)).await?;
        operator::create_head_pod(&namespace.admin, name, CLUSTER, HEAD_POD).await?;
        let replicas = watch_replicas(&namespace).await?;
        Ok(Stage { namespace, replicas })
    }

    /// Creates running pods of a worker group.
    pub async fn create_pods(&self, group: &str, names: impl Iterator<Item = String>) -> Result<()> {
        let path = format!("/api/v1/namespaces/{}/pods", self.namespace.name);
        let admin = &self.namespace.admin;
        let create = async |name: String| -> Result<()> {
            let labels = json!({"ray.io/cluster": CLUSTER, "ray.io/group": group, "ray.io/node-type": "worker"});
            let container = json!({"name": "ray-worker", "image": "rayproject/ray:2.60.0"});
            let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": {"containers": [container]}});
            post(admin, &path, &pod).await?;
            let running = json!({"name": "ray-worker", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}});
            let status = json!({"status": {"phase": "Running", "containerStatuses": [running]}});
            let request = http::Request::patch(format!("{path}/{name}/status"))
                .header("content-type", "application/merge-patch+json")
                .body(serde_json::to_vec(&status)?)?;
            let _: Value = admin.request(request).await?;
            Ok(())
        };
        let outcomes: Vec<Result<()>> = futures::stream::iter(names.map(create)).buffer_unordered(16).collect().await;
        outcomes.into_iter().collect()
    }

    /// Waits until the first group's replicas are at least `wanted`; returns when they were seen to be.
    pub async fn until_replicas(&mut self, wanted: i64, limit: Duration) -> Result<Instant> {
        let seen = tokio::time::timeout(limit, self.replicas.wait_for(|(_, replicas)| *replicas >= wanted)).await;
        let seen = seen.with_context(|| format!("no {wanted} replicas within {} s", limit.as_secs()))?;
        Ok(seen.context("the watch on the RayCluster has ended")?.0)
    }
}

/// The first group's replicas, and when the API server said so, by a watch.
async fn watch_replicas(namespace: &Namespace) -> Result<watch::Receiver<(Instant, i64)>> {
    let resource = ApiResource {
        group: "ray.io".into(),
        version: "v1".into(),
        api_version: "ray.io/v1".into(),
        kind: "RayCluster".into(),
        plural: "rayclusters".into(),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(namespace.admin.clone(), &namespace.name, &resource);
    let (sender, receiver) = watch::channel((Instant::now(), 0));
    // A watch may last 295 s at most; then the next begins where it ended.
    tokio::spawn(async move {
        let mut version = "0".to_owned();
        while let Ok(mut events) = api.watch(&WatchParams::default(), &version).await.map(StreamExt::boxed) {
            while let Some(Ok(event)) = events.next().await {
                if let WatchEvent::Added(cluster) | WatchEvent::Modified(cluster) = event {
                    let now = Instant::now();
                    let replicas = cluster.data.pointer("/spec/workerGroupSpecs/0/replicas").and_then(Value::as_i64);
                    version = cluster.metadata.resource_version.unwrap_or(version);
                    if sender.send((now, replicas.unwrap_or_default())).is_err() {
                        return;
                    }
                }
            }
        }
    });
    Ok(receiver)
}

/// The running autoscaler.
pub struct Autoscaler {
    /// Its process.
    pub process: Process,
    metrics_port: u16,
}

impl Autoscaler {
    /// Starts it, with the account of the stage, and waits until its metrics endpoint answers.
    pub async fn start(peer: Peer, stage: &Stage, gcs_address: &str, directory: &Path) -> Result<Autoscaler> {
        let metrics_port = free_port()?;
        let mut command = match peer {
            Peer::Mobula => {
                let mut command = Command::new(mobula()?);
                command.arg("sidecar");
                command
            }
            Peer::Ray => {
                let bin = parts::ray(parts::RAY)?.bin;
                let mut command = Command::new(bin.join("ray"));
                // It calls `ray` by its name.
                let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
                command.arg("kuberay-autoscaler").env("PATH", path);
                command.env("RAY_AUTH_MODE", "disabled").env("RAY_USAGE_STATS_ENABLED", "0");
                command
            }
        };
        let credentials = &stage.namespace.credentials;
        command
            .args(["--cluster-name", CLUSTER, "--cluster-namespace", &stage.namespace.name])
            .args(["--gcs-address", gcs_address])
            .env("KUBERNETES_SERVICE_HOST", &credentials.host)
            .env("KUBERNETES_SERVICE_PORT_HTTPS", credentials.port.to_string())
            .env("RAY_KUBERAY_CA_CERT_PATH", &credentials.ca_file)
            .env("RAY_KUBERAY_CLIENT_CERT_PATH", &credentials.client.certificate)
            .env("RAY_KUBERAY_CLIENT_KEY_PATH", &credentials.client.key)
            .env("AUTOSCALER_METRIC_PORT", metrics_port.to_string());
        let process = Process::start("autoscaler", &mut command, directory)?;
        let mut autoscaler = Autoscaler { process, metrics_port };
        let start = Instant::now();
        while autoscaler.metrics().await.is_err() {
            autoscaler.process.must_run()?;
            ensure!(start.elapsed() < Duration::from_secs(60), "no metrics; log:\n{}", autoscaler.process.tail(30));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(autoscaler)
    }

    /// What its metrics endpoint says.
    pub async fn metrics(&self) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics_port)).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Value of the first sample whose name and labels begin so.
    pub async fn metric(&self, sample: &str) -> Result<f64> {
        let metrics = self.metrics().await?;
        let line = metrics.lines().find(|line| line.starts_with(sample));
        let value = line.and_then(|line| line.rsplit(' ').next()).with_context(|| format!("no metric {sample}"))?;
        value.parse().with_context(|| format!("{sample} is {value}"))
    }
}
