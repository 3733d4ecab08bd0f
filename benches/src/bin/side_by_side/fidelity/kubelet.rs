//! The kubelets of the pretended nodes. The Ray container of a pod is a real `ray start` of a node of its own on this machine, the autoscaler's
//! container is a real `mobula sidecar`; pulls, init containers and stops are slept through, as long as the scenario says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt as _, pin_mut};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use mobula_api::keys;
use mobula_gcs::NodeStatus;
use mobula_tests::apiserver::Credentials;
use mobula_tests::parts;
use mobula_tests::process::Process;
use mobula_tests::ray::{NodeSpec, Ray};
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use super::script::Script;

/// How often is looked whether a raylet has registered.
const LOOK: Duration = Duration::from_millis(20);

/// What became of a pod, in seconds since the scenario began.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// Its group.
    pub group: String,
    /// It was there.
    pub made_s: f64,
    /// It had a node.
    pub bound_s: Option<f64>,
    /// Its containers started.
    pub started_s: Option<f64>,
    /// Its Ray node was in the GCS.
    pub registered_s: Option<f64>,
    /// Its deletion was asked for.
    pub deleted_s: Option<f64>,
    /// It was gone.
    pub gone_s: Option<f64>,
    /// Id of its Ray node.
    pub node_id: String,
    /// Its `ray start --block` ended by itself.
    pub has_ended: bool,
}

/// What all pods share.
pub struct Machine {
    /// What is played.
    pub script: Script,
    /// Speaks for kubelets.
    pub client: Client,
    /// Where logs go.
    pub directory: PathBuf,
    /// Mobula's binary.
    pub mobula: PathBuf,
    /// Who the sidecar is.
    pub credentials: Credentials,
    /// When the scenario began.
    pub began: Instant,
    /// The head, once it runs.
    pub ray: watch::Sender<Option<Arc<Mutex<Ray>>>>,
    /// All pods that there have been.
    pub lives: Lock<BTreeMap<String, Life>>,
    /// What went wrong.
    pub error: Lock<Option<String>>,
    processes: Lock<BTreeMap<String, Vec<Process>>>,
    images: Lock<BTreeSet<String>>,
}

impl Machine {
    /// Nothing runs yet.
    pub fn new(
        script: Script,
        client: Client,
        directory: PathBuf,
        mobula: PathBuf,
        credentials: Credentials,
    ) -> Machine {
        Machine {
            script,
            client,
            directory,
            mobula,
            credentials,
            began: Instant::now(),
            ray: watch::Sender::new(None),
            lives: Lock::default(),
            error: Lock::default(),
            processes: Lock::default(),
            images: Lock::default(),
        }
    }

    /// Seconds since the scenario began.
    pub fn now_s(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn note(&self, pod: &str, write: impl FnOnce(&mut Life, f64)) {
        let now_s = self.now_s();
        write(held(&self.lives).entry(pod.to_owned()).or_default(), now_s);
    }
}

/// What a lock holds.
pub fn held<T>(lock: &Lock<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves all pods of the namespace, for ever.
pub async fn run(machine: Arc<Machine>) {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Pod"), "pods");
    let pods = Api::<DynamicObject>::namespaced_with(machine.client.clone(), "default", &resource);
    let events = watcher(pods, watcher::Config::default()).default_backoff();
    pin_mut!(events);
    let mut starting: BTreeMap<String, JoinHandle<()>> = BTreeMap::new();
    let mut ending: BTreeSet<String> = BTreeSet::new();
    while let Some(event) = events.next().await {
        let (pod, is_gone) = match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => (pod, false),
            Ok(watcher::Event::Delete(pod)) => (pod, true),
            _ => continue,
        };
        let name = pod.name_any();
        let group = pod.labels().get(keys::GROUP).cloned().unwrap_or_default();
        let is_new = !held(&machine.lives).contains_key(&name);
        if is_new {
            machine.note(&name, |life, now_s| (life.group, life.made_s) = (group, now_s));
        }
        if is_gone {
            machine.note(&name, |life, now_s| life.gone_s = Some(now_s));
        } else if pod.metadata.deletion_timestamp.is_some() {
            if ending.insert(name.clone()) {
                machine.note(&name, |life, now_s| life.deleted_s = Some(now_s));
                starting.remove(&name).inspect(JoinHandle::abort);
                tokio::spawn(end(machine.clone(), name));
            }
        } else if let Some(node) = pod.data["spec"]["nodeName"].as_str()
            && !starting.contains_key(&name)
        {
            machine.note(&name, |life, now_s| life.bound_s = Some(now_s));
            let (machine, pod, node) = (machine.clone(), pod.clone(), node.to_owned());
            let task = async move {
                if let Err(error) = start(&machine, &pod, &node).await {
                    *held(&machine.error) = Some(format!("pod {}: {error:#}", pod.name_any()));
                }
            };
            starting.insert(name, tokio::spawn(task));
        }
    }
}

/// From a bound pod to a ready one.
async fn start(machine: &Arc<Machine>, pod: &DynamicObject, node: &str) -> Result<()> {
    let name = pod.name_any();
    let containers = |field: &str| pod.data["spec"][field].as_array().cloned().unwrap_or_default();
    let images: Vec<String> = ["initContainers", "containers"]
        .iter()
        .flat_map(|field| containers(field))
        .map(|container| format!("{node} {}", container["image"].as_str().unwrap_or_default()))
        .collect();
    if !images.iter().all(|image| held(&machine.images).contains(image)) {
        tokio::time::sleep(machine.script.pull).await;
        held(&machine.images).extend(images);
    }
    let is_head = pod.labels().get(keys::NODE_TYPE).is_some_and(|kind| kind == keys::NODE_TYPE_HEAD);
    if !containers("initContainers").is_empty() {
        tokio::time::sleep(machine.script.init).await;
        if !is_head {
            machine.ray.subscribe().wait_for(Option::is_some).await?;
        }
    }
    machine.note(&name, |life, now_s| life.started_s = Some(now_s));
    set_status(machine, pod, false).await?;
    let spec = spec(&machine.script, pod)?;
    let ray = if is_head { start_head(machine, spec).await? } else { start_worker(machine, spec).await? };
    let gcs = ray.lock().await.client()?;
    let id = loop {
        let nodes = gcs.cluster_state().await.map(|seen| seen.state.nodes).unwrap_or_default();
        let own = nodes.into_iter().find(|node| node.instance_id == name && node.status != NodeStatus::Dead);
        match own {
            Some(node) => break node.node_id.clone(),
            None => {
                if let Some(raylet) = held(&machine.processes).get_mut(&name).and_then(|all| all.first_mut()) {
                    raylet.must_run()?;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    };
    machine.note(&name, |life, now_s| (life.registered_s, life.node_id) = (Some(now_s), id));
    set_status(machine, pod, true).await?;
    watch_process(machine, &name).await;
    Ok(())
}

/// Notes if `ray start --block` (of the head: the sidecar) ends before anybody has asked for it.
async fn watch_process(machine: &Machine, pod: &str) {
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let has_ended = held(&machine.processes)
            .get_mut(pod)
            .and_then(|all| all.first_mut())
            .is_some_and(|it| it.ended().is_some());
        if has_ended {
            machine.note(pod, |life, _| life.has_ended = true);
            return;
        }
    }
}

/// What `ray start` is told: what the RayCluster says that the group brings.
fn spec(script: &Script, pod: &DynamicObject) -> Result<NodeSpec> {
    let group = pod.labels().get(keys::GROUP).cloned().unwrap_or_default();
    let shape = script.shapes.iter().find(|shape| shape.name == group).with_context(|| format!("no group {group}"))?;
    let mut resources = shape.resources.clone();
    resources.retain(|name, _| !["memory", "object_store_memory"].contains(&name.as_str()));
    Ok(NodeSpec { instance_id: pod.name_any(), group, resources, labels: shape.labels.clone() })
}

async fn start_head(machine: &Arc<Machine>, spec: NodeSpec) -> Result<Arc<Mutex<Ray>>> {
    let pod = spec.instance_id.clone();
    let ray = Ray::start(parts::ray(parts::RAY)?, spec, Vec::new(), &machine.directory).await?;
    let mut sidecar = Command::new(&machine.mobula);
    sidecar
        .args(["sidecar", "--cluster-namespace", "default", "--cluster-name", machine.script.name()])
        .args(["--gcs-address", &ray.gcs_address(), "--metrics-port", "0", "--ray-events", "0"])
        .arg(format!("--min-poll-interval-ms={}", machine.script.interval.as_millis()))
        .envs(machine.credentials.env());
    let sidecar = Process::start("sidecar", &mut sidecar, &machine.directory)?;
    held(&machine.processes).entry(pod).or_default().push(sidecar);
    let ray = Arc::new(Mutex::new(ray));
    machine.ray.send_replace(Some(ray.clone()));
    Ok(ray)
}

async fn start_worker(machine: &Arc<Machine>, spec: NodeSpec) -> Result<Arc<Mutex<Ray>>> {
    let ray = machine.ray.subscribe().wait_for(Option::is_some).await?.clone().context("no head")?;
    let raylet = ray.lock().await.start_node(&spec).await?;
    held(&machine.processes).entry(spec.instance_id).or_default().push(raylet);
    Ok(ray)
}

/// From a deletion to the end of a pod.
async fn end(machine: Arc<Machine>, pod: String) {
    let processes = held(&machine.processes).remove(&pod);
    let ending = tokio::spawn(async move {
        for mut process in processes.into_iter().flatten() {
            // One that does not end is killed where it is dropped.
            let _ = process.terminate(Duration::from_secs(20)).await;
        }
    });
    tokio::time::sleep(machine.script.stop).await;
    let path = format!("/api/v1/namespaces/default/pods/{pod}?gracePeriodSeconds=0");
    if let Ok(request) = http::Request::delete(path).body(Vec::new()) {
        let _ = machine.client.request::<Value>(request).await;
    }
    let _ = ending.await;
}

async fn set_status(machine: &Machine, pod: &DynamicObject, is_ready: bool) -> Result<()> {
    let of = |field: &str, state: Value, is_ready: bool| -> Value {
        let containers = pod.data["spec"][field].as_array().into_iter().flatten();
        let status = |container: &Value| {
            json!({
                "name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0,
                "ready": is_ready, "state": state,
            })
        };
        containers.map(status).collect()
    };
    let text = |is_true: bool| if is_true { "True" } else { "False" };
    let condition = |name: &str, is_true: bool| json!({"type": name, "status": text(is_true)});
    let status = json!({"status": {
        "phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
        "conditions": [
            condition("PodScheduled", true), condition("Initialized", true),
            condition("ContainersReady", is_ready), condition("Ready", is_ready),
        ],
        "initContainerStatuses": of("initContainers", json!({"terminated": {"exitCode": 0, "reason": "Completed"}}), true),
        "containerStatuses": of("containers", json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}), is_ready),
    }});
    let path = format!("/api/v1/namespaces/default/pods/{}/status", pod.name_any());
    let request = http::Request::patch(path)
        .header("content-type", "application/merge-patch+json")
        .body(serde_json::to_vec(&status)?)?;
    let _: Value = machine.client.request(request).await.context("could not set the status")?;
    Ok(())
}
