//! One case: a real head, a namespace of the real API server, the stand-in for operator and kubelet, and what is tested.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mobula_api::keys;
use mobula_gcs::{AutoscalingState, Client};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::apiserver::{ApiServer, Namespace, post};
use crate::driver::Driver;
use crate::gcs::Env;
use crate::operator::{self, Nodes, Operator};
use crate::ray::{NodeSpec, Ray, Reserved};
use crate::raycluster::{Group, Options, raycluster};
use crate::sidecar::{Autoscaler, Sidecar};
use crate::{parts, wait};

/// Name of the RayCluster, and of the account.
pub const CLUSTER: &str = "a";
/// Name of the head's pod.
const HEAD_POD: &str = "a-head";
/// How long a raylet may take to be there on a busy machine, from the moment that its pod is asked for.
pub const NODE_LIMIT: Duration = Duration::from_secs(90);

/// `idleTimeoutSeconds`, unless a case needs another. Not shorter: a raylet that is starting its first worker for a task
/// counts as idle, and on a busy machine that takes seconds.
pub const IDLE_TIMEOUT_S: u32 = 8;

/// How long the sidecar may take to end after SIGTERM, on a busy machine.
const END_LIMIT: Duration = Duration::from_secs(10);

/// What a case starts with.
pub struct Setup {
    /// Name of the case, which is also that of its namespace: lower-case words with dashes.
    pub name: &'static str,
    /// Worker groups.
    pub groups: Vec<Group>,
    /// `idleTimeoutSeconds`.
    pub idle_timeout_s: u32,
    /// Version of Ray.
    pub ray: &'static str,
    /// `autoscalerOptions.version`, and what the head is told.
    pub version: &'static str,
    /// Whether workers are raylets; else they are only registered at the GCS.
    pub raylets: bool,
    /// Addresses of the nodes, if they had to be known before.
    pub network: Option<Reserved>,
    /// Environment of every Ray process and of the sidecar.
    pub env: Env,
    /// Further environment of the sidecar.
    pub sidecar_env: Env,
}

impl Setup {
    /// Real raylets of the newest Ray, an idle timeout that a test can wait for.
    pub fn new(name: &'static str, groups: Vec<Group>) -> Setup {
        Setup {
            name,
            groups,
            idle_timeout_s: IDLE_TIMEOUT_S,
            ray: parts::RAY,
            version: "v2",
            raylets: true,
            network: None,
            env: Vec::new(),
            sidecar_env: Vec::new(),
        }
    }
}

/// The running case. Everything ends when it is dropped.
pub struct World {
    /// The sidecar. `None` after it was taken away.
    pub sidecar: Option<Sidecar>,
    /// The stand-in for operator and kubelet.
    pub operator: Operator,
    /// The namespace.
    pub namespace: Namespace,
    /// A client of the GCS.
    pub gcs: Client,
    /// The Ray cluster.
    pub ray: Arc<Mutex<Ray>>,
    sidecar_env: Env,
    directory: TempDir,
}

impl World {
    /// Starts everything; the autoscaler that is tested is started last.
    pub async fn start(setup: Setup) -> Result<World> {
        let mut directory = tempfile::Builder::new().prefix("mobula-").tempdir().context("no temporary directory")?;
        let keep = std::env::var_os("MOBULA_TEST_KEEP_LOGS").is_some();
        directory.disable_cleanup(keep);
        let kept = if keep { format!(", logs in {}", directory.path().display()) } else { String::new() };
        let workers = if setup.raylets { "raylets" } else { "workers registered without raylets" };
        eprintln!(
            "case {}: real: Ray {} (head, {workers}), kube-apiserver, etcd; stood in for: operator, kubelet{kept}",
            setup.name, setup.ray
        );
        if Autoscaler::chosen()? == Autoscaler::Mobula {
            parts::mobula()?;
        }
        let mut head = NodeSpec { instance_id: HEAD_POD.into(), group: "headgroup".into(), ..NodeSpec::default() };
        head.resources.insert("CPU".into(), 0.0);
        let mut env = setup.env;
        if setup.version == "v1" {
            env.push(("RAY_enable_autoscaler_v2".into(), "0".into()));
        }
        let part = parts::ray(setup.ray)?;
        let network = setup.network.unwrap_or_default();
        let (ray, server) =
            tokio::try_join!(Ray::start_on(network, part, head, env, directory.path()), ApiServer::shared())?;
        let namespace = server.namespace(setup.name, CLUSTER).await?;
        let options =
            Options { idle_timeout_s: setup.idle_timeout_s, version: setup.version, gcs_port: ray.gcs_port() };
        let path = format!("/apis/ray.io/v1/namespaces/{}/rayclusters", namespace.name);
        post(&namespace.admin, &path, &raycluster(CLUSTER, &setup.groups, &options)).await?;
        operator::create_head_pod(&namespace.admin, &namespace.name, CLUSTER, HEAD_POD).await?;
        let gcs = ray.client()?;
        let ray = Arc::new(Mutex::new(ray));
        let nodes = if setup.raylets { Nodes::Real(ray.clone()) } else { Nodes::Registered(gcs.clone()) };
        let operator = Operator::start(namespace.admin.clone(), &namespace.name, CLUSTER, &setup.groups, nodes);
        let sidecar_env = setup.sidecar_env;
        let mut world = World { sidecar: None, operator, namespace, gcs, ray, sidecar_env, directory };
        world.start_sidecar().await?;
        Ok(world)
    }

    /// Starts the autoscaler, again if it was there.
    pub async fn start_sidecar(&mut self) -> Result<()> {
        self.sidecar = None;
        let (which, ray) = (Autoscaler::chosen()?, self.ray.lock().await);
        self.sidecar = Some(Sidecar::start(which, &ray, &self.namespace, &self.sidecar_env, self.directory.path())?);
        Ok(())
    }

    /// The sidecar, which must be running.
    pub fn sidecar(&mut self) -> Result<&mut Sidecar> {
        let sidecar = self.sidecar.as_mut().context("the sidecar was taken away")?;
        sidecar.process.must_run()?;
        Ok(sidecar)
    }

    /// Starts a Python program that asks for work.
    pub async fn driver(&self) -> Result<Driver> {
        Driver::start(&*self.ray.lock().await, "driver", self.directory.path()).await
    }

    /// The RayCluster as it is now.
    pub async fn cluster(&self) -> Result<Value> {
        let path = format!("/apis/ray.io/v1/namespaces/{}/rayclusters/{CLUSTER}", self.namespace.name);
        Ok(self.namespace.admin.request(http::Request::get(path).body(Vec::new())?).await?)
    }

    /// Replicas of each group in the RayCluster.
    pub async fn replicas(&self) -> Result<BTreeMap<String, i64>> {
        let cluster = self.cluster().await?;
        let groups = cluster["spec"]["workerGroupSpecs"].as_array().cloned().unwrap_or_default();
        let name = |group: &Value| group["groupName"].as_str().unwrap_or_default().to_owned();
        Ok(groups.iter().map(|group| (name(group), group["replicas"].as_i64().unwrap_or_default())).collect())
    }

    /// Looks for the whole of `span` that replicas stay so.
    pub async fn replicas_stay(&mut self, wanted: &[(&str, i64)], span: Duration) -> Result<()> {
        let right = |seen: &BTreeMap<String, i64>| wanted.iter().all(|(group, n)| seen.get(*group) == Some(n));
        let look = async || {
            self.sidecar()?;
            self.replicas().await
        };
        wait::throughout(&format!("replicas {wanted:?}"), span, look, right).await
    }

    /// Waits until the groups named have these replicas.
    pub async fn until_replicas(&mut self, wanted: &[(&str, i64)], limit: Duration) -> Result<Duration> {
        let what = format!("replicas {wanted:?}");
        let right = |seen: &BTreeMap<String, i64>| wanted.iter().all(|(group, n)| seen.get(*group) == Some(n));
        let look = async || {
            self.sidecar()?;
            self.replicas().await
        };
        wait::until(&what, limit, look, right).await
    }

    /// Waits until so many worker pods exist.
    pub async fn until_pods(&self, wanted: usize, limit: Duration) -> Result<Duration> {
        let selector = format!("{}%3D{CLUSTER},{}%3D{}", keys::CLUSTER, keys::NODE_TYPE, keys::NODE_TYPE_WORKER);
        let path = format!("/api/v1/namespaces/{}/pods?labelSelector={selector}", self.namespace.name);
        let look = async || {
            let list: Value = self.namespace.admin.request(http::Request::get(&path).body(Vec::new())?).await?;
            Ok(list["items"].as_array().map_or(0, Vec::len))
        };
        wait::until(&format!("{wanted} worker pods"), limit, look, |seen| *seen == wanted).await
    }

    /// Living Ray workers of each group: id → pod.
    pub async fn workers(&self) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
        let mut workers: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for node in self.gcs.cluster_state().await?.state.nodes.living() {
            if node.instance_id != HEAD_POD {
                let (group, id, pod) = (node.node_type.clone(), node.node_id.clone(), node.instance_id.clone());
                workers.entry(group).or_default().insert(id, pod);
            }
        }
        Ok(workers)
    }

    /// Waits until the groups named have so many living Ray workers.
    pub async fn until_workers(&mut self, wanted: &[(&str, usize)], limit: Duration) -> Result<Duration> {
        let what = format!("workers {wanted:?}");
        let right = |seen: &BTreeMap<String, BTreeMap<String, String>>| {
            wanted.iter().all(|(group, n)| seen.get(*group).map_or(0, BTreeMap::len) == *n)
        };
        let look = async || {
            self.sidecar()?;
            self.workers().await
        };
        wait::until(&what, limit, look, right).await
    }

    /// What `ray status` would show of us.
    pub async fn reported(&self) -> Result<AutoscalingState> {
        Ok(self.gcs.cluster_status().await?.0)
    }

    /// Ends the case: the sidecar ends cleanly when told to, and was never refused the same thing twice.
    pub async fn finish(mut self) -> Result<()> {
        if Autoscaler::chosen()? == Autoscaler::Mobula {
            let status = self.sidecar()?.process.terminate(END_LIMIT).await?;
            ensure!(status.success(), "the sidecar ended with {status} after SIGTERM");
            self.namespace.must_not_be_refused_twice()?;
        }
        let journal = self.operator.journal();
        ensure!(journal.refused > 0 || journal.error.is_none(), "the operator's stand-in failed: {:?}", journal.error);
        Ok(())
    }

    /// What `ray status` prints.
    pub async fn ray_status(&self, flags: &[&str]) -> Result<String> {
        self.ray.lock().await.status(flags).await
    }
}
