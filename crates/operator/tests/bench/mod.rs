//! The operator over an API server in memory, in paused time, with a stand-in for scheduler and kubelet.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "each test program uses its own part; it is a test, and may read its seeds from the environment"
)]

pub mod recorded;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use mobula_apiserver::{ApiServer, Connection, Kind, Settings};
use mobula_operator::{
    config::Config,
    frame::{metrics::Metrics, time::following_clock, world::World},
    operator::{Ended, Operator, Surroundings},
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

/// When the world begins: 2026-01-01T00:00:00Z.
pub const START_MS: i64 = 1_767_225_600_000;

/// The seeds that a test tries: those of the environment, `7` or `0..200`, or else `usual`.
pub fn seeds(usual: std::ops::Range<u64>) -> Vec<u64> {
    let Ok(said) = std::env::var("MOBULA_SIM_SEED") else { return usual.collect() };
    match said.split_once("..") {
        Some((first, end)) => (first.parse().unwrap()..end.parse().unwrap()).collect(),
        None => vec![said.parse().unwrap()],
    }
}

/// An API server that knows RayClusters and what belongs to them.
pub fn server(seed: u64) -> ApiServer {
    let mut kinds = Kind::built_in();
    if !kinds.iter().any(|kind| kind.kind == "RayCluster") {
        kinds.push(Kind::custom("ray.io", "v1", "RayCluster"));
    }
    for (group, version, kind) in
        [("scheduling.volcano.sh", "v1beta1", "PodGroup"), ("scheduling.x-k8s.io", "v1alpha1", "PodGroup")]
    {
        if !kinds.iter().any(|known| known.group == group && known.kind == kind) {
            kinds.push(Kind::custom(group, version, kind));
        }
    }
    ApiServer::new(Settings { kinds, ids: mobula_apiserver::Ids::seeded(seed), ..Settings::default() })
}

/// A running operator.
pub struct Process {
    pub connection: Connection,
    pub stop: watch::Sender<bool>,
    pub metrics: Arc<Metrics>,
    pub world: Arc<World>,
    pub task: JoinHandle<Ended>,
}

impl Process {
    /// Starts one as `identity` over a connection of its own.
    pub fn start(connection: Connection, config: Config, identity: &str) -> Process {
        let (stop, stopped) = watch::channel(false);
        let surroundings = Surroundings {
            client: connection.client("default"),
            lease: None,
            clock: following_clock(START_MS + 1),
            random: Arc::new(|| [7; 32]),
            identity: identity.to_owned(),
            lease_namespace: "kube-system".to_owned(),
            instance: String::new(),
        };
        let operator = Operator::new(config, surroundings);
        let (metrics, world) = (operator.metrics.clone(), operator.world.clone());
        Process { connection, stop, metrics, world, task: tokio::spawn(operator.run(stopped)) }
    }

    /// Ends it in good order.
    pub async fn end(self) -> Ended {
        let _ = self.stop.send(true);
        self.task.await.unwrap()
    }

    /// As if the machine lost power.
    pub fn crash(self) {
        self.task.abort();
    }
}

/// An API server with a kubelet, and an operator that has just been started.
pub fn started(config: Config) -> (ApiServer, Arc<Mutex<Nodes>>, Process) {
    let server = server(1);
    let nodes = kubelet(&server);
    let process = Process::start(server.connect(), config, "a");
    (server, nodes, process)
}

pub async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

/// Changes the RayCluster `a`.
pub fn edit(server: &ApiServer, change: impl Fn(&mut Value)) {
    server.edit("rayclusters", "default", "a", change).unwrap();
}

/// What the stand-in kubelet knows.
#[derive(Default)]
pub struct Nodes {
    /// Pods on nodes that do not answer: they never end. By name.
    pub dead: BTreeSet<String>,
    /// Pods that no node takes. By name.
    pub unschedulable: BTreeSet<String>,
    /// Pods are left pending.
    pub paused: bool,
}

/// Makes pods run and end.
pub fn kubelet(server: &ApiServer) -> Arc<Mutex<Nodes>> {
    let nodes = Arc::new(Mutex::new(Nodes::default()));
    let (server, shared) = (server.clone(), nodes.clone());
    tokio::spawn(async move {
        loop {
            turn(&server, &shared);
            sleep(Duration::from_millis(20)).await;
        }
    });
    nodes
}

fn turn(server: &ApiServer, nodes: &Mutex<Nodes>) {
    let nodes = nodes.lock().unwrap();
    let (mut ending, mut starting) = (Vec::new(), Vec::new());
    server.each("pods", "", |pod| {
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let key = (text("/metadata/namespace").to_owned(), text("/metadata/name").to_owned());
        if nodes.dead.contains(&key.1) {
        } else if pod.pointer("/metadata/deletionTimestamp").is_some() {
            ending.push(key);
        } else if ["", "Pending"].contains(&text("/status/phase"))
            && !nodes.paused
            && !nodes.unschedulable.contains(&key.1)
        {
            starting.push(key);
        }
    });
    for (namespace, name) in ending {
        server.finish_pod(&namespace, &name).unwrap();
    }
    for (namespace, name) in starting {
        server.edit("pods", &namespace, &name, run).unwrap();
    }
}

/// Lets every worker fail within a second of its start, for as long as the task is not aborted.
pub fn failing(server: &ApiServer) -> JoinHandle<()> {
    let server = server.clone();
    let fail = |pod: &mut Value| {
        if pod["status"]["phase"] == "Running" {
            pod["status"]["phase"] = json!("Failed");
        }
    };
    tokio::spawn(async move {
        loop {
            seconds(1).await;
            for name in pods(&server, "worker") {
                server.edit("pods", "default", &name, fail).unwrap();
            }
        }
    })
}

/// What a pod looks like that runs.
pub fn run(pod: &mut Value) {
    pod["spec"]["nodeName"] = json!("node-1");
    let container = |container: &Value| {
        json!({"name": container["name"], "ready": true, "image": container["image"],
               "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}})
    };
    let containers: Vec<Value> = pod["spec"]["containers"].as_array().unwrap().iter().map(container).collect();
    pod["status"] = json!({
        "phase": "Running", "podIP": "10.0.0.1", "containerStatuses": containers,
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    });
}

/// A RayCluster of one group.
pub fn cluster(name: &str, replicas: i64, hosts: i64) -> Value {
    let pod = |name: &str| json!({"spec": {"containers": [{"name": name, "image": "ray", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}});
    json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "rayVersion": "2.52.0",
            "headGroupSpec": {"rayStartParams": {}, "template": pod("ray-head")},
            "workerGroupSpecs": [{
                "groupName": "w", "replicas": replicas, "minReplicas": 0, "maxReplicas": 1000, "numOfHosts": hosts,
                "rayStartParams": {}, "template": pod("ray-worker"),
            }],
        },
    })
}

/// Names of the pods of a role that are not on their way out.
pub fn pods(server: &ApiServer, role: &str) -> Vec<String> {
    labelled(server, "ray.io/node-type", role)
}

/// Names of the pods of a group that are not on their way out.
pub fn of_group(server: &ApiServer, group: &str) -> Vec<String> {
    labelled(server, "ray.io/group", group)
}

fn labelled(server: &ApiServer, label: &str, value: &str) -> Vec<String> {
    let mut names = Vec::new();
    server.each("pods", "", |pod| {
        let is_leaving = pod.pointer("/metadata/deletionTimestamp").is_some();
        if pod["metadata"]["labels"][label] == value && !is_leaving {
            names.push(pod["metadata"]["name"].as_str().unwrap().to_owned());
        }
    });
    names
}

/// A condition of a RayCluster: status, reason, message.
pub fn condition(server: &ApiServer, name: &str, condition: &str) -> Option<(String, String, String)> {
    let cluster = server.get("rayclusters", "default", name)?;
    let conditions = cluster["status"]["conditions"].as_array()?.clone();
    let found = conditions.into_iter().find(|it| it["type"] == condition)?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

/// How often an Event of a reason was said.
pub fn said(server: &ApiServer, reason: &str) -> u64 {
    let events = server.list("events", "default");
    let count = |event: &Value| event["count"].as_u64().unwrap_or(1);
    events.iter().filter(|event| event["reason"] == reason).map(count).sum()
}

/// A RayCluster with an autoscaler, whose head needs an account.
pub fn scaled(name: &str) -> Value {
    let mut scaled = cluster(name, 1, 1);
    scaled["spec"]["enableInTreeAutoscaling"] = json!(true);
    scaled
}

/// Pods of a phase that are not on their way out.
pub fn in_phase(server: &ApiServer, phase: &str) -> usize {
    let mut count = 0;
    server.each("pods", "", |pod| {
        let is_leaving = pod.pointer("/metadata/deletionTimestamp").is_some();
        count += usize::from(pod["status"]["phase"] == phase && !is_leaving);
    });
    count
}
