//! A whole control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, all of them real, and nodes that
//! KWOK pretends. Pods are scheduled, run as far as one can see, and are garbage-collected; no container ever starts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::apiserver::{ApiServer, post};
use crate::process::{self, Process, free_port};
use crate::{parts, wait};

/// How long a node may take to be ready, on a machine that is busy with other things.
const NODE_LIMIT: Duration = Duration::from_secs(60);
/// Nodes that are there from the start.
const NODES: usize = 8;
/// KWOK's own stages: what becomes of a node and of a pod.
const STAGES: [&str; 5] = [
    "node-initialize.yaml",
    "node-heartbeat-with-lease.yaml",
    "pod-ready.yaml",
    "pod-complete.yaml",
    "pod-delete.yaml",
];
/// What becomes of nodes only. Without any stage of pods KWOK takes those that it was built with; this one is about pods of Jobs.
const NODE_STAGES: [&str; 3] = ["node-initialize.yaml", "node-heartbeat-with-lease.yaml", "pod-complete.yaml"];
/// Controllers are to keep up with two hundred RayClusters at once; by default they make 20 requests a second.
const RATE: [&str; 2] = ["--kube-api-qps=1000", "--kube-api-burst=2000"];

/// The running control plane. It outlives the runtime of the case that started it, and so holds no client.
pub struct ControlPlane {
    /// Its API server.
    pub server: ApiServer,
    processes: Mutex<Vec<Process>>,
    directory: PathBuf,
}

impl ControlPlane {
    /// The one of this test program, with these definitions, started when it is first asked for.
    pub async fn shared_with(definitions: &[&Path]) -> Result<&'static ControlPlane> {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        let plane = SHARED.get_or_try_init(async || ControlPlane::start(definitions).await).await?;
        plane.must_run()?;
        Ok(plane)
    }

    /// Starts one, with nodes for more than a thousand small pods.
    pub async fn start(definitions: &[&Path]) -> Result<ControlPlane> {
        let nodes = (0..NODES).map(|n| (format!("node-{n}"), amounts()));
        ControlPlane::start_with(definitions, &STAGES, &nodes.collect::<Vec<_>>()).await
    }

    /// Starts one with these nodes and what each has; whoever asks for it is the kubelet of their pods.
    pub async fn start_without_kubelets(definitions: &[&Path], nodes: &[(String, Value)]) -> Result<ControlPlane> {
        ControlPlane::start_with(definitions, &NODE_STAGES, nodes).await
    }

    async fn start_with(definitions: &[&Path], stages: &[&str], nodes: &[(String, Value)]) -> Result<ControlPlane> {
        let server = ApiServer::start_with(definitions, &[]).await?;
        let start = std::time::Instant::now();
        let directory = tempfile::Builder::new().prefix("mobula-plane-").tempdir().context("no directory")?.keep();
        // The shared one is never dropped.
        process::remove_at_exit(&directory)?;
        let plane = ControlPlane { server, processes: Mutex::default(), directory };
        plane.run("kube-controller-manager", &mut plane.controllers()?)?;
        plane.run("kube-scheduler", &mut plane.kubernetes("kube-scheduler")?)?;
        plane.run("kwok", &mut plane.kwok(stages)?)?;
        for (name, amounts) in nodes {
            plane.create_node(name, &json!({"pool": "common"}), amounts).await?;
        }
        for (name, _) in nodes {
            plane.until_node_ready(name).await?;
        }
        eprintln!(
            "real parts: kube-controller-manager, kube-scheduler {}; KWOK {} pretends {} nodes; ready after {:.1} s",
            parts::version_of("kube-scheduler")?,
            parts::version_of("kwok")?,
            nodes.len(),
            start.elapsed().as_secs_f64()
        );
        Ok(plane)
    }

    /// Fails if a part has ended.
    pub fn must_run(&self) -> Result<()> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().try_for_each(Process::must_run)
    }

    /// A further node, with these labels, and these devices beside CPUs and memory.
    pub async fn node(&self, name: &str, labels: &Value, devices: &[(&str, u32)]) -> Result<()> {
        let mut amounts = amounts();
        for (device, count) in devices {
            amounts[*device] = json!(count.to_string());
        }
        self.create_node(name, labels, &amounts).await?;
        self.until_node_ready(name).await
    }

    /// A node that KWOK leaves alone: whoever asks for it is its kubelet.
    pub async fn node_of_our_own(&self, name: &str) -> Result<()> {
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {
                "capacity": amounts(), "allocatable": amounts(),
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            },
        });
        post(&self.server.stand_in_client().await?, "/api/v1/nodes", &node).await?;
        self.until_node_ready(name).await
    }

    /// Takes a node away.
    pub async fn remove_node(&self, name: &str) -> Result<()> {
        let request = http::Request::delete(format!("/api/v1/nodes/{name}")).body(Vec::new())?;
        let client = self.server.stand_in_client().await?;
        let _: Value = client.request(request).await.with_context(|| format!("could not delete node {name}"))?;
        Ok(())
    }

    /// A namespace, once pods can be made in it.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        let client = self.server.stand_in_client().await?;
        post(&client, "/api/v1/namespaces", &json!({"metadata": {"name": name}})).await?;
        let path = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        let account = async || Ok(get(&client, &path).await.is_ok());
        wait::until("the namespace's default account", NODE_LIMIT, account, |is_there| *is_there).await.map(drop)
    }

    async fn create_node(&self, name: &str, labels: &Value, amounts: &Value) -> Result<()> {
        let mut metadata =
            json!({"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}});
        for (key, value) in labels.as_object().into_iter().flatten() {
            metadata["labels"][key] = value.clone();
        }
        metadata["annotations"] = json!({"kwok.x-k8s.io/node": "fake"});
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": metadata,
            "status": {"capacity": amounts, "allocatable": amounts},
        });
        post(&self.server.stand_in_client().await?, "/api/v1/nodes", &node).await
    }

    /// Ready, and no longer tainted for not being so: that is what the node controller does.
    async fn until_node_ready(&self, name: &str) -> Result<()> {
        let path = format!("/api/v1/nodes/{name}");
        let client = self.server.stand_in_client().await?;
        let look = async || {
            self.must_run()?;
            get(&client, &path).await
        };
        let is_ready = |node: &Value| {
            let conditions = node["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
            node["spec"]["taints"].is_null()
                && conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        };
        wait::until(&format!("node {name} ready"), NODE_LIMIT, look, is_ready).await.map(drop)
    }

    fn run(&self, name: &str, command: &mut Command) -> Result<()> {
        let process = Process::start(name, command, &self.directory)?;
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).push(process);
        Ok(())
    }

    fn controllers(&self) -> Result<Command> {
        let mut manager = self.kubernetes("kube-controller-manager")?;
        manager.arg(flag("service-account-private-key-file", &self.server.token_key()));
        manager.arg(flag("root-ca-file", self.server.ca_file()));
        Ok(manager)
    }

    /// A part that acts for the cluster and asks the API server who somebody is.
    fn kubernetes(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(parts::program(name)?);
        let kubeconfig = self.kubeconfig()?;
        for name in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
            command.arg(flag(name, &kubeconfig));
        }
        command.args(["--leader-elect=false", "--bind-address=127.0.0.1"]).args(RATE);
        command.arg(format!("--secure-port={}", free_port()?));
        Ok(command)
    }

    fn kwok(&self, stages: &[&str]) -> Result<Command> {
        let part = parts::directory("kwok")?;
        let mut kwok = Command::new(part.join("kwok"));
        kwok.arg(flag("kubeconfig", &self.kubeconfig()?));
        for stage in stages {
            kwok.arg(flag("config", &part.join(stage)));
        }
        // It keeps state and a configuration of the user's own, where it finds a home.
        kwok.args(["--manage-all-nodes=false", "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake"])
            .args(["--node-ip=10.1.0.1", "--cidr=10.2.0.0/16", "--node-lease-duration-seconds=40"])
            .env("HOME", &self.directory);
        Ok(kwok)
    }

    /// None of these shows in what the audit log tells.
    fn kubeconfig(&self) -> Result<PathBuf> {
        self.server.kubeconfig("stand-in")
    }
}

async fn get(client: &kube::Client, path: &str) -> Result<Value> {
    Ok(client.request(http::Request::get(path).body(Vec::new())?).await?)
}

/// What a node has.
fn amounts() -> Value {
    json!({"cpu": "160", "memory": "2Ti", "pods": "500"})
}

fn flag(name: &str, value: &Path) -> String {
    format!("--{name}={}", value.display())
}
