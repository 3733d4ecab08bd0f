//! Stands in for KubeRay's operator (and [`kubelet`] for the kubelet): the pods that a RayCluster asks for become Pod objects and Ray nodes.
//!
//! Like KubeRay it creates what is missing, deletes exactly the pods that `workersToDelete` names (and the other hosts of
//! their replica), and deletes nothing because `replicas` is lower.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::Client;
use mobula_api::keys;
use mobula_gcs::{NodeInfo, registrar};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::apiserver::post;
use crate::kubelet;
use crate::process::Process;
use crate::ray::{NodeSpec, Ray};
use crate::raycluster::Group;

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(100);
/// How long a pod whose Ray node has left stays before it is replaced: an autoscaler that drained it names it meanwhile.
const FAILED_POD_KEPT: Duration = Duration::from_secs(5);
/// How long it waits after the API server refused a pod.
const REFUSED_WAIT: Duration = Duration::from_secs(1);

/// Where the Ray node of a pod runs.
#[derive(Clone)]
pub enum Nodes {
    /// A raylet.
    Real(Arc<tokio::sync::Mutex<Ray>>),
    /// A node that is only registered at this GCS.
    Registered(mobula_gcs::Client),
}

/// What has happened so far.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Replicas of each group whenever they changed.
    pub replicas: Vec<(Instant, BTreeMap<String, i64>)>,
    /// Pods that were deleted because they were named.
    pub deleted: BTreeSet<String>,
    /// Pods that were replaced because their Ray node had ended.
    pub replaced: BTreeSet<String>,
    /// How often the API server refused to create a pod.
    pub refused: u32,
    /// The last thing that went wrong.
    pub error: Option<String>,
}

impl Journal {
    /// The most replicas that a group ever had.
    pub fn most(&self, group: &str) -> i64 {
        self.replicas.iter().filter_map(|(_, replicas)| replicas.get(group)).copied().max().unwrap_or_default()
    }

    /// The replicas of a group, each value once.
    pub fn steps(&self, group: &str) -> Vec<i64> {
        let mut steps: Vec<i64> =
            self.replicas.iter().filter_map(|(_, replicas)| replicas.get(group)).copied().collect();
        steps.dedup();
        steps
    }
}

/// The running stand-in; it ends, with all nodes, when dropped.
pub struct Operator {
    journal: Arc<Mutex<Journal>>,
    task: JoinHandle<()>,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Operator {
    /// Starts it for the RayCluster `cluster`, whose groups are these.
    pub fn start(client: Client, namespace: &str, cluster: &str, groups: &[Group], nodes: Nodes) -> Operator {
        let journal = Arc::new(Mutex::new(Journal::default()));
        let runtime = Runtime {
            client,
            cluster_path: format!("/apis/ray.io/v1/namespaces/{namespace}/rayclusters/{cluster}"),
            pods_path: format!("/api/v1/namespaces/{namespace}/pods"),
            cluster: cluster.to_owned(),
            groups: groups.iter().map(|group| (group.name.to_owned(), group.clone())).collect(),
            backend: nodes,
            nodes: BTreeMap::new(),
            created: 0,
            wait_until: None,
            journal: journal.clone(),
        };
        Operator { journal, task: tokio::spawn(runtime.run()) }
    }

    /// What has happened so far.
    pub fn journal(&self) -> Journal {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The Ray node of a pod.
enum Node {
    Raylet { process: Process, ended: Option<Instant> },
    Registered { node_id: String },
}

struct Runtime {
    client: Client,
    cluster_path: String,
    pods_path: String,
    cluster: String,
    groups: BTreeMap<String, Group>,
    backend: Nodes,
    nodes: BTreeMap<String, Node>,
    created: u32,
    wait_until: Option<Instant>,
    journal: Arc<Mutex<Journal>>,
}

/// What it needs to know of a pod.
struct Pod {
    name: String,
    group: String,
    replica: Option<String>,
}

impl Pod {
    fn of(object: &Value) -> Pod {
        let label = |key: &str| object["metadata"]["labels"][key].as_str().map(str::to_owned);
        Pod {
            name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            group: label(keys::GROUP).unwrap_or_default(),
            replica: label(keys::REPLICA_NAME),
        }
    }
}

impl Runtime {
    async fn run(mut self) {
        loop {
            if let Err(error) = self.turn().await {
                self.note(|journal| journal.error = Some(format!("{error:#}")));
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    fn note(&self, write: impl FnOnce(&mut Journal)) {
        write(&mut self.journal.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn turn(&mut self) -> Result<()> {
        let cluster = self.get(&self.cluster_path.clone()).await?;
        let objects = self.worker_objects().await?;
        let mut pods: Vec<Pod> = objects.iter().map(Pod::of).collect();
        let specs = cluster["spec"]["workerGroupSpecs"].as_array().cloned().unwrap_or_default();
        self.note_replicas(&specs);
        for spec in &specs {
            let named = strings(&spec["scaleStrategy"]["workersToDelete"]);
            let mut doomed = with_their_replicas(&pods, &named);
            self.note(|journal| journal.deleted.extend(doomed.iter().cloned()));
            let failed = self.failed(&pods, &doomed);
            self.note(|journal| journal.replaced.extend(failed.iter().cloned()));
            doomed.extend(failed);
            for pod in &doomed {
                self.delete(pod).await?;
            }
            pods.retain(|pod| !doomed.contains(&pod.name));
            self.create_missing(spec, &pods).await?;
        }
        for object in objects.iter().filter(|object| pods.iter().any(|pod| pod.name == object["metadata"]["name"])) {
            kubelet::resize(&self.client, &self.pods_path, object).await?;
        }
        Ok(())
    }

    fn note_replicas(&self, specs: &[Value]) {
        let name = |spec: &Value| spec["groupName"].as_str().unwrap_or_default().to_owned();
        let now: BTreeMap<String, i64> = specs.iter().map(|spec| (name(spec), replicas(spec))).collect();
        self.note(|journal| {
            if journal.replicas.last().is_none_or(|(_, last)| *last != now) {
                journal.replicas.push((Instant::now(), now));
            }
        });
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let request = http::Request::get(path).body(Vec::new())?;
        self.client.request(request).await.with_context(|| format!("could not get {path}"))
    }

    async fn worker_objects(&self) -> Result<Vec<Value>> {
        let selector = format!("{}%3D{},{}%3D{}", keys::CLUSTER, self.cluster, keys::NODE_TYPE, keys::NODE_TYPE_WORKER);
        let mut list = self.get(&format!("{}?labelSelector={selector}", self.pods_path)).await?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Pods whose Ray node ended some time ago and that nobody named: their container does not come back.
    fn failed(&mut self, pods: &[Pod], doomed: &BTreeSet<String>) -> BTreeSet<String> {
        let mut failed = BTreeSet::new();
        for pod in pods.iter().filter(|pod| !doomed.contains(&pod.name)) {
            if let Some(Node::Raylet { process, ended }) = self.nodes.get_mut(&pod.name)
                && process.ended().is_some()
                && ended.get_or_insert_with(Instant::now).elapsed() > FAILED_POD_KEPT
            {
                failed.insert(pod.name.clone());
            }
        }
        failed
    }

    async fn delete(&mut self, pod: &str) -> Result<()> {
        if let Some(Node::Registered { node_id }) = self.nodes.remove(pod)
            && let Nodes::Registered(gcs) = &self.backend
        {
            registrar::unregister_node(gcs, &node_id).await?;
        }
        let path = format!("{}/{pod}?gracePeriodSeconds=0", self.pods_path);
        let _: Value = self.client.request(http::Request::delete(path).body(Vec::new())?).await?;
        Ok(())
    }

    async fn create_missing(&mut self, spec: &Value, pods: &[Pod]) -> Result<()> {
        let name = spec["groupName"].as_str().unwrap_or_default();
        let Some(group) = self.groups.get(name).cloned() else { return Ok(()) };
        let there = pods.iter().filter(|pod| pod.group == name).count();
        let missing = usize::try_from(replicas(spec)).unwrap_or_default().saturating_sub(there / group.hosts as usize);
        if self.wait_until.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        for _ in 0..missing {
            self.created += 1;
            for host in 0..group.hosts {
                let pod = format!("{}-{name}-worker-{:05}-{host}", self.cluster, self.created);
                if let Err(error) = self.create(&pod, &group, host).await {
                    self.wait_until = Some(Instant::now() + REFUSED_WAIT);
                    self.note(|journal| journal.refused += 1);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn create(&mut self, pod: &str, group: &Group, host: u32) -> Result<()> {
        let mut object = pod_object(&self.cluster, pod, group.name, keys::NODE_TYPE_WORKER);
        let limits = group.limits();
        object["spec"]["containers"][0]["resources"] = json!({"limits": limits, "requests": limits});
        if group.hosts > 1 {
            object["metadata"]["labels"][keys::REPLICA_NAME] = format!("{}-{:05}", group.name, self.created).into();
            object["metadata"]["labels"][keys::REPLICA_HOST_INDEX] = host.to_string().into();
        }
        post(&self.client, &self.pods_path, &object).await?;
        kubelet::run(&self.client, &self.pods_path, &object).await?;
        let node = self.start_node(&group.node(pod)).await?;
        self.nodes.insert(pod.to_owned(), node);
        Ok(())
    }

    async fn start_node(&self, spec: &NodeSpec) -> Result<Node> {
        match &self.backend {
            Nodes::Real(ray) => Ok(Node::Raylet { process: ray.lock().await.start_node(spec).await?, ended: None }),
            Nodes::Registered(gcs) => {
                let node = registered(spec);
                registrar::register_node(gcs, &node).await?;
                Ok(Node::Registered { node_id: node.node_id })
            }
        }
    }
}

/// What a raylet would say of itself; its id is made from the name of its pod.
fn registered(spec: &NodeSpec) -> NodeInfo {
    let node_id: String =
        spec.instance_id.bytes().rev().chain(std::iter::repeat(0)).take(28).map(|b| format!("{b:02x}")).collect();
    NodeInfo {
        node_id,
        address: "127.0.0.1".into(),
        alive: true,
        instance_id: spec.instance_id.clone(),
        node_type: spec.group.clone(),
        resources_total: spec.resources.clone(),
        labels: spec.labels.clone(),
        ..NodeInfo::default()
    }
}

/// Creates the head's pod object, running.
pub async fn create_head_pod(client: &Client, namespace: &str, cluster: &str, name: &str) -> Result<()> {
    let pods_path = format!("/api/v1/namespaces/{namespace}/pods");
    let object = pod_object(cluster, name, keys::HEAD_GROUP, keys::NODE_TYPE_HEAD);
    post(client, &pods_path, &object).await?;
    kubelet::run(client, &pods_path, &object).await
}

fn pod_object(cluster: &str, name: &str, group: &str, node_type: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {
            keys::CLUSTER: cluster, keys::GROUP: group, keys::NODE_TYPE: node_type, keys::IS_RAY_NODE: "yes",
        }},
        "spec": {"restartPolicy": "Never", "containers": [{"name": format!("ray-{node_type}"), "image": "rayproject/ray"}]},
    })
}

/// As the operator counts them: absent means the minimum, and bounds hold.
fn replicas(spec: &Value) -> i64 {
    let number = |name: &str| spec[name].as_i64();
    let (min, max) = (number("minReplicas").unwrap_or(0), number("maxReplicas").unwrap_or(i64::MAX));
    number("replicas").unwrap_or(min).max(min).min(max)
}

fn strings(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The named pods that exist, and the other hosts of their replicas.
fn with_their_replicas(pods: &[Pod], named: &BTreeSet<String>) -> BTreeSet<String> {
    let is_named = |pod: &&Pod| named.contains(&pod.name);
    let replicas: BTreeSet<&String> = pods.iter().filter(is_named).filter_map(|pod| pod.replica.as_ref()).collect();
    let doomed = pods.iter().filter(|pod| is_named(pod) || pod.replica.as_ref().is_some_and(|r| replicas.contains(r)));
    doomed.map(|pod| pod.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naming_one_host_dooms_its_whole_replica_and_no_other() {
        let pod = |name: &str, replica: Option<&str>| Pod {
            name: name.into(),
            group: "g".into(),
            replica: replica.map(str::to_owned),
        };
        let pods = [pod("a0", Some("a")), pod("a1", Some("a")), pod("b0", Some("b")), pod("single", None)];
        assert_eq!(with_their_replicas(&pods, &strings(&json!(["a1", "gone"]))), strings(&json!(["a0", "a1"])));
        assert_eq!(with_their_replicas(&pods, &strings(&json!(["single"]))), strings(&json!(["single"])));
    }

    #[test]
    fn replicas_are_kept_within_bounds() {
        assert_eq!(replicas(&json!({"replicas": 9, "minReplicas": 0, "maxReplicas": 5})), 5);
        assert_eq!(replicas(&json!({"minReplicas": 2, "maxReplicas": 5})), 2);
        assert_eq!(replicas(&json!({"replicas": 0, "minReplicas": 1})), 1);
    }
}
