//! A sidecar between a GCS and an API server in memory, in virtual time.
#![allow(dead_code)] // each test program uses a part of it

pub mod kube;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mobula_autoscaler::{
    clock::{Clock, FollowingClock},
    http::Board,
    recorder::{Frame, Recording},
    sidecar::{Error, Sidecar, SidecarConfig},
};
use mobula_gcs::{
    Client, ClusterState, NodeState, NodeStatus, RequestByCount, ResourceRequest,
    server::{MemoryGcs, duplex_channel},
};
use mobula_planner::Policy;
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

use self::kube::FakeKube;

/// 2026-01-01.
pub const START_MS: i64 = 1_767_225_600_000;

/// A RayCluster `default/a`: `cpu` (4 CPU, one host) and `slice` (4 CPU on each of two hosts).
pub fn raycluster() -> Value {
    let group = |name: &str, hosts: i64| {
        json!({
            "groupName": name, "replicas": 0, "minReplicas": 0, "maxReplicas": 20, "numOfHosts": hosts,
            "rayStartParams": {}, "scaleStrategy": {},
            "template": {"spec": {"containers": [{"name": "ray-worker", "resources": {"limits": {"cpu": "4", "memory": "8Gi"}}}]}},
        })
    };
    json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster",
        "metadata": {"name": "a", "namespace": "default", "annotations": {}},
        "spec": {
            "enableInTreeAutoscaling": true,
            "autoscalerOptions": {"idleTimeoutSeconds": 60},
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0"},
                "template": {"spec": {"containers": [{"name": "ray-head", "resources": {"limits": {"cpu": "2", "memory": "4Gi"}}}]}},
            },
            "workerGroupSpecs": [group("cpu", 1), group("slice", 2)],
        },
    })
}

pub fn pod(name: &str, group: &str, replica: Option<&str>) -> Value {
    let mut labels = json!({"ray.io/cluster": "a", "ray.io/group": group, "ray.io/node-type": "worker"});
    if let Some(replica) = replica {
        labels["ray.io/worker-group-replica-name"] = json!(replica);
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default", "uid": name, "labels": labels,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"nodeName": "n", "containers": [{"name": "ray-worker", "resources": {"limits": {"cpu": "4", "memory": "8Gi"}}}]},
        "status": {
            "phase": "Running", "podIP": "127.0.0.1",
            "containerStatuses": [{"name": "ray-worker", "ready": true, "state": {"running": {}}}],
        },
    })
}

/// 56 hex digits made from a pod's name.
pub fn node_id(pod: &str) -> String {
    let hex: String = pod.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex:0<56}")[..56].to_owned()
}

pub fn amounts(items: &[(&str, f64)]) -> BTreeMap<String, f64> {
    items.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect()
}

pub fn head() -> NodeState {
    NodeState {
        node_id: node_id("head"),
        instance_id: "head".into(),
        node_type: "headgroup".into(),
        total: amounts(&[("node:__internal_head__", 1.0)]).into(),
        available: amounts(&[("node:__internal_head__", 1.0)]).into(),
        status: NodeStatus::Running,
        ..NodeState::default()
    }
}

pub fn idle_node(pod: &str, group: &str, idle_ms: i64) -> NodeState {
    let resources = amounts(&[("CPU", 4.0), ("memory", 8.0 * 1024.0 * 1024.0 * 1024.0)]);
    NodeState {
        node_id: node_id(pod),
        instance_id: pod.into(),
        node_type: group.into(),
        total: resources.clone().into(),
        available: resources.into(),
        status: NodeStatus::Idle,
        idle_ms,
        ip: "127.0.0.1".into(),
        ..NodeState::default()
    }
}

pub fn busy_node(pod: &str, group: &str) -> NodeState {
    let mut node = idle_node(pod, group, 0);
    node.status = NodeStatus::Running;
    Arc::make_mut(&mut node.available).remove("CPU");
    node
}

/// `count` tasks of so many CPUs.
pub fn tasks(cpus: f64, count: i64) -> Vec<RequestByCount> {
    vec![RequestByCount {
        request: ResourceRequest { resources: amounts(&[("CPU", cpus)]), ..Default::default() },
        count,
    }]
}

pub fn state(nodes: Vec<NodeState>) -> ClusterState {
    let nodes = std::iter::once(head()).chain(nodes).collect();
    ClusterState { session_name: "session_1".into(), nodes, ..ClusterState::default() }
}

/// A running sidecar and its surroundings.
pub struct World {
    pub kube: FakeKube,
    pub gcs: MemoryGcs,
    pub board: Arc<Board>,
    stop: Option<oneshot::Sender<()>>,
    run: JoinHandle<Result<(), Error>>,
}

impl World {
    /// Starts a sidecar over these.
    pub fn start(kube: FakeKube, gcs: MemoryGcs) -> World {
        World::start_with(kube, gcs, Arc::new(FollowingClock::starting_at(START_MS)), |_| {})
    }

    pub fn start_with(
        kube: FakeKube,
        gcs: MemoryGcs,
        clock: Arc<dyn Clock>,
        change: impl FnOnce(&mut SidecarConfig),
    ) -> World {
        let mut config = SidecarConfig::new("default", "a");
        config.ray_events = false;
        change(&mut config);
        let client = Client::from_channel(duplex_channel(Arc::new(gcs.clone())));
        let sidecar = Sidecar::new(config, kube.client(), client, clock).unwrap();
        let board = sidecar.board();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = tokio::spawn(sidecar.run(async move {
            let _ = stopped.await;
        }));
        World { kube, gcs, board, stop: Some(stop), run }
    }

    /// A cluster with these idle or busy nodes, each with its pod; replicas are as many as pods.
    pub fn with_nodes(nodes: Vec<NodeState>) -> World {
        let (kube, gcs) = World::parts(nodes);
        World::start(kube, gcs)
    }

    /// Kubernetes and GCS of a cluster with these nodes.
    pub fn parts(nodes: Vec<NodeState>) -> (FakeKube, MemoryGcs) {
        let mut cluster = raycluster();
        for (index, name, hosts) in [(0, "cpu", 1), (1, "slice", 2)] {
            let count = nodes.iter().filter(|node| node.node_type == name).count();
            cluster["spec"]["workerGroupSpecs"][index]["replicas"] = json!(count / hosts);
        }
        let kube = FakeKube::new(cluster);
        for node in &nodes {
            // Hosts of a slice are named `<replica>-<host>`.
            let replica = node.instance_id.rsplit_once('-').map(|(replica, _)| replica);
            let replica = replica.filter(|_| node.node_type == "slice");
            kube.put_pod(pod(&node.instance_id, &node.node_type, replica));
        }
        (kube, MemoryGcs::new(state(nodes)))
    }

    /// Lets virtual time go on.
    pub async fn pass(&self, seconds: f64) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }

    /// Waits until it is so, or fails after two virtual minutes.
    pub async fn until(&self, what: &str, is_so: impl Fn(&World) -> bool) {
        for _ in 0..1200 {
            if is_so(self) {
                return;
            }
            self.pass(0.1).await;
        }
        panic!(
            "{what}: not within two minutes\n{:#?}\n{}",
            self.kube.seen().iter().rev().take(5).collect::<Vec<_>>(),
            self.board.metrics.render()
        );
    }

    /// How many plans were made.
    pub fn plans(&self) -> f64 {
        self.metric("mobula_tick_phase_seconds_count{phase=\"plan\"}")
    }

    /// What was recorded; planned again with `policy`, each frame must come to the same.
    pub fn frames_that_replay(&self, policy: &dyn Policy) -> Vec<Frame> {
        let recording = Recording::of_bytes("test", self.board.recorder.bytes().unwrap()).unwrap();
        let frames: Vec<Frame> = recording.frames().map(Result::unwrap).collect();
        for frame in &frames {
            let again = frame.replay(policy, &frame.memory).unwrap();
            assert_eq!(serde_json::to_string(&again.plan).unwrap(), serde_json::to_string(&frame.plan).unwrap());
            assert_eq!(again.memory, frame.memory_after);
        }
        frames
    }

    /// Ends the sidecar; it must end well.
    pub async fn end(mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.run.await.unwrap().unwrap();
    }

    /// What the sidecar ends with by itself.
    pub async fn ended(self) -> Result<(), Error> {
        self.run.await.unwrap()
    }

    /// A metric's value by its whole name with labels, as `/metrics` shows it; 0 if it is not there.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.board.metrics.render();
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok()).unwrap_or(0.0)
    }
}
