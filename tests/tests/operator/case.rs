//! What the cases share: the server with Mobula's own manifests, a namespace, nodes, and operators as processes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::Client;
use mobula_tests::apiserver::{ApiServer, Audited, Namespace, post};
use mobula_tests::control_plane::ControlPlane;
use mobula_tests::nodes::Nodes;
use mobula_tests::process::{Process, free_port};
use mobula_tests::{parts, sidecar, wait};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// Far above what anything here takes, also on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(120);
/// Where the operator lives, as its manifests say.
pub const HOME: &str = "mobula-system";
/// The operator's account.
const ACCOUNT: &str = "mobula-operator";
/// The one worker group.
pub const GROUP: &str = "small";

static TURN: Mutex<()> = Mutex::const_new(());

/// One case. Cases take turns: they share the server, and an operator sees all namespaces.
pub struct Case {
    /// The namespace of its clusters.
    pub namespace: String,
    /// May do anything.
    pub admin: Client,
    /// Stands in for scheduler and kubelets, or only counts pods where these are real.
    pub nodes: Nodes,
    /// The server, with no controllers or with all of them.
    pub server: &'static ApiServer,
    account: Namespace,
    /// What operators had asked for before.
    before: BTreeMap<Audited, usize>,
    directory: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// A running `mobula operator`.
pub struct Operator {
    /// The process.
    pub process: Process,
    port: u16,
}

impl Case {
    /// A namespace of this name, and further ones, on a server without controllers.
    pub async fn start(name: &str, further: &[&str]) -> Result<Case> {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        let turn = TURN.lock().await;
        let server = ApiServer::shared_with(&deploy("crd/ray.io_rayclusters.yaml")).await?;
        let admin = server.admin_client().await?;
        INSTALLED.get_or_try_init(|| install(&admin, &["rbac/operator.yaml", "operator/operator.yaml"])).await?;
        let namespaces: Vec<&str> = std::iter::once(name).chain(further.iter().copied()).collect();
        for namespace in &namespaces {
            post(&admin, "/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await?;
        }
        let nodes = Nodes::start(server.stand_in_client().await?, &namespaces);
        eprintln!("case {name}: real: kube-apiserver, etcd, RBAC; stood in for: scheduler, kubelets");
        Case::new(name, server, admin, nodes, turn).await
    }

    /// A namespace of this name under a whole control plane.
    pub async fn start_controlled(name: &str) -> Result<(Case, &'static ControlPlane)> {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        let turn = TURN.lock().await;
        let kinds = ["rayclusters", "raycronjobs", "rayjobs", "rayservices"];
        let definitions = kinds.map(|kind| deploy(&format!("crd/ray.io_{kind}.yaml")));
        let plane = ControlPlane::shared_with(&definitions.each_ref().map(PathBuf::as_path)).await?;
        let admin = plane.server.admin_client().await?;
        INSTALLED.get_or_try_init(|| install(&admin, &["rbac/operator.yaml"])).await?;
        plane.namespace(name).await?;
        let nodes = Nodes::count(plane.server.stand_in_client().await?, &[name]);
        eprintln!("case {name}: real: kube-apiserver, etcd, RBAC, scheduler, controllers; pretended by KWOK: nodes");
        Ok((Case::new(name, &plane.server, admin, nodes, turn).await?, plane))
    }

    async fn new(
        name: &str,
        server: &'static ApiServer,
        admin: Client,
        nodes: Nodes,
        turn: MutexGuard<'static, ()>,
    ) -> Result<Case> {
        parts::mobula()?;
        let directory = tempfile::Builder::new().prefix("mobula-operator-").tempdir().context("no directory")?;
        let account = server.account(HOME, ACCOUNT).await?;
        let before = account.audit()?;
        Ok(Case { namespace: name.into(), admin, nodes, server, account, before, directory, _turn: turn })
    }

    /// Starts an operator as `name`, for all namespaces, and waits until it is ready.
    pub async fn operator(&self, name: &str, flags: &[&str]) -> Result<Operator> {
        self.operator_with(name, flags, &[]).await
    }

    /// The same, with further environment.
    pub async fn operator_with(&self, name: &str, flags: &[&str], env: &[(&str, &str)]) -> Result<Operator> {
        let port = free_port()?;
        let mut command = Command::new(parts::mobula()?);
        command
            .args(["operator", "--health-probe-bind-address=0", &format!("--metrics-addr=127.0.0.1:{port}")])
            .args(["--log-stdout-encoder=console", "--leader-election-namespace", HOME])
            .args(flags)
            .envs(self.account.credentials.env())
            .envs(env.iter().copied())
            .env("HOSTNAME", name);
        let mut process = Process::start(name, &mut command, self.directory.path())?;
        let ready = async || {
            process.must_run()?;
            Ok(sidecar::page(port, "/readyz").await.unwrap_or_else(|error| error.to_string()))
        };
        wait::until("the operator ready", LIMIT, ready, |text| text == "ok\n").await?;
        Ok(Operator { process, port })
    }

    /// A namespace of the case, to set quotas in.
    pub async fn place(&self, namespace: &str) -> Result<Namespace> {
        self.server.account(namespace, "nobody").await
    }

    /// Creates a RayCluster.
    pub async fn create(&self, namespace: &str, cluster: &Value) -> Result<()> {
        post(&self.admin, &format!("/apis/ray.io/v1/namespaces/{namespace}/rayclusters"), cluster).await
    }

    /// A directory for files of the case.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What is at a path.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let request = http::Request::get(path).body(Vec::new())?;
        self.admin.request(request).await.with_context(|| format!("could not get {path}"))
    }

    /// Deletes what is at a path.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let request = http::Request::delete(path).body(Vec::new())?;
        let _: Value = self.admin.request(request).await.with_context(|| format!("could not delete {path}"))?;
        Ok(())
    }

    /// A RayCluster of the case's own namespace.
    pub async fn cluster(&self, name: &str) -> Result<Value> {
        self.get(&format!("/apis/ray.io/v1/namespaces/{}/rayclusters/{name}", self.namespace)).await
    }

    /// Changes the spec of a RayCluster by a JSON patch.
    pub async fn patch(&self, name: &str, patch: &Value) -> Result<()> {
        let path = format!("/apis/ray.io/v1/namespaces/{}/rayclusters/{name}", self.namespace);
        let request = http::Request::patch(path)
            .header("content-type", "application/json-patch+json")
            .body(serde_json::to_vec(patch)?)?;
        let _: Value = self.admin.request(request).await.context("could not patch the RayCluster")?;
        Ok(())
    }

    /// Sets the replicas of the worker group.
    pub async fn scale(&self, name: &str, replicas: u32) -> Result<()> {
        let path = "/spec/workerGroupSpecs/0/replicas";
        self.patch(name, &json!([{"op": "replace", "path": path, "value": replicas}])).await
    }

    /// Names of all pods of a namespace with this node type, those on their way out included.
    pub async fn pods(&self, namespace: &str, node_type: &str) -> Result<BTreeSet<String>> {
        let selector = format!("ray.io/node-type%3D{node_type}");
        let pods = self.list(&format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}")).await?;
        Ok(pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).map(str::to_owned).collect())
    }

    /// All objects of a list.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        Ok(self.get(path).await?["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Waits until there are exactly so many workers in the case's own namespace.
    pub async fn until_workers(&self, wanted: usize) -> Result<Duration> {
        let look = async || self.pods(&self.namespace, "worker").await;
        wait::until(&format!("{wanted} workers"), LIMIT, look, |pods| pods.len() == wanted).await
    }

    /// Waits until the status of a RayCluster is right.
    pub async fn until_status(&self, name: &str, what: &str, is_right: fn(&Value) -> bool) -> Result<Duration> {
        self.until_status_in(&self.namespace, name, what, is_right).await
    }

    /// The same, in any namespace.
    pub async fn until_status_in(
        &self,
        namespace: &str,
        name: &str,
        what: &str,
        is_right: fn(&Value) -> bool,
    ) -> Result<Duration> {
        let path = format!("/apis/ray.io/v1/namespaces/{namespace}/rayclusters/{name}");
        let look = async || Ok(self.get(&path).await?["status"].take());
        wait::until(what, LIMIT, look, is_right).await
    }

    /// What operators have asked of the server so far: `verb resource` → times. Watches that were accepted are told as such.
    pub fn requests(&self) -> Result<BTreeMap<String, usize>> {
        let mut requests = BTreeMap::new();
        for (request, times) in self.account.audit()? {
            *requests.entry(format!("{} {}", request.verb, request.resource)).or_default() += times;
        }
        Ok(requests)
    }

    /// Ends the case: the operators' account may do all that they tried. Only pods may be refused, by a quota.
    pub fn finish(self) -> Result<()> {
        let requests = self.account.audit()?;
        ensure!(!requests.is_empty(), "the audit log has no request of the operator");
        let is_quota = |verb: &str, resource: &str| (verb, resource) == ("create", "pods");
        let is_new = |it: &Audited, times: usize| times > self.before.get(it).copied().unwrap_or_default();
        let is_refused = |it: &Audited| it.code == 403 && !is_quota(&it.verb, &it.resource);
        let refused: Vec<_> = requests.iter().filter(|(it, times)| is_refused(it) && is_new(it, **times)).collect();
        ensure!(refused.is_empty(), "the operator was refused: {refused:?}");
        Ok(())
    }
}

impl Operator {
    /// Its metrics: series → value.
    pub async fn metrics(&self) -> Result<BTreeMap<String, f64>> {
        let text = sidecar::page(self.port, "/metrics").await?;
        let series = text.lines().filter_map(|line| line.rsplit_once(' '));
        Ok(series.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// Whether it leads.
    pub async fn leads(&self) -> Result<bool> {
        let metrics = self.metrics().await?;
        Ok(metrics.iter().any(|(name, value)| name.starts_with("leader_election_master_status") && *value == 1.0))
    }

    /// Requests by verb, as it counts them itself.
    pub async fn verbs(&self) -> Result<BTreeMap<String, usize>> {
        let mut verbs = BTreeMap::new();
        for (name, value) in self.metrics().await? {
            let verb = name.strip_prefix("mobula_operator_requests_total{verb=\"").and_then(|it| it.split_once('"'));
            if let Some((verb, _)) = verb {
                *verbs.entry(verb.to_owned()).or_default() += value as usize;
            }
        }
        Ok(verbs)
    }
}

/// What `after` has more than `before`.
pub fn difference(before: &BTreeMap<String, usize>, after: &BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    let more = |(key, n): (&String, &usize)| (key.clone(), n - before.get(key).copied().unwrap_or_default());
    after.iter().map(more).filter(|(_, n)| *n > 0).collect()
}

/// A RayCluster with one group of workers.
pub fn raycluster(name: &str, replicas: u32, max: u32, is_autoscaled: bool) -> Value {
    let template = |container: &str| {
        let resources = json!({"limits": {"cpu": "1", "memory": "2G"}, "requests": {"cpu": "1", "memory": "2G"}});
        json!({"spec": {"containers": [
            {"name": container, "image": "rayproject/ray:2.60.0", "resources": resources},
        ]}})
    };
    json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": name},
        "spec": {
            "rayVersion": "2.60.0", "enableInTreeAutoscaling": is_autoscaled,
            "headGroupSpec": {"rayStartParams": {}, "template": template("ray-head")},
            "workerGroupSpecs": [{
                "groupName": GROUP, "replicas": replicas, "minReplicas": 0, "maxReplicas": max, "rayStartParams": {},
                "template": template("ray-worker"),
            }],
        },
    })
}

/// A condition of a status.
pub fn condition<'a>(status: &'a Value, name: &str) -> &'a Value {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.find(|condition| condition["type"] == name).unwrap_or(&Value::Null)
}

/// Whether a status is that of a RayCluster with all pods ready.
pub fn is_ready(status: &Value) -> bool {
    status["state"] == "ready" && status["readyWorkerReplicas"] == status["desiredWorkerReplicas"]
}

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

/// Creates what these of Mobula's manifests say. A field that Kubernetes does not know is an error.
async fn install(admin: &Client, files: &[&str]) -> Result<()> {
    for file in files {
        let text = std::fs::read_to_string(deploy(file)).with_context(|| format!("could not read {file}"))?;
        for document in text.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(document).with_context(|| format!("{file} is no YAML"))?;
            let version = object["apiVersion"].as_str().unwrap_or_default();
            let root = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
            let plural = format!("{}s", object["kind"].as_str().unwrap_or_default().to_lowercase());
            let place = object["metadata"]["namespace"].as_str().map(|name| format!("/namespaces/{name}"));
            let path = format!("{root}{}/{plural}?fieldValidation=Strict", place.unwrap_or_default());
            post(admin, &path, &object).await?;
        }
    }
    Ok(())
}
