//! From pods to Ray: heads with their GCS, workers that register, and what happens to work when they go.
//!
//! Assumptions: a Ray node brings what its group in the RayCluster says it will (the same derivation as Ray's autoscaler has), and the
//! labels that Ray gives it. A head's GCS answers `pods.register` after the container has started; a new head is a new Ray
//! cluster, and workers of a lost head end and are started again by the kubelet. Where the RayCluster has GCS fault tolerance, its id is
//! kept, raylets wait for the new head however long it takes, and what runs on them goes on; nothing starts meanwhile. A raylet that was
//! drained or stopped ends with 0, which `ray start --block` takes for what was meant: its container goes on without it, until the pod is
//! deleted or the probes have failed for long enough (measured with Ray 2.60).

use std::sync::{Arc, Mutex, PoisonError};

use mobula_api::{GroupShape, RayCluster, keys};
use mobula_planner::{Amount, Resources};

use super::pod::Stage;
use super::sidecar::SidecarProcess;
use super::{Event, Key, Step, World};
use crate::chance::stream;
use crate::ray::{Head, HeadIdentity, Joining, Notice, Runtime};
use crate::span::Span;

/// A RayCluster with its Ray.
pub(super) struct Cluster {
    /// Its Ray, heads come and go.
    pub runtime: Arc<Mutex<Runtime>>,
    /// The head that is there.
    pub head: Option<LiveHead>,
    /// How many heads there were.
    lives: u64,
    planned_us: Option<u64>,
}

/// A head whose containers run.
pub(super) struct LiveHead {
    /// Its pod.
    pub pod: Key,
    /// Its GCS.
    pub gcs: Arc<Head>,
    /// Whether the GCS answers.
    pub is_up: bool,
    /// The sidecar, if it has one.
    pub sidecar: Option<SidecarProcess>,
}

const RAY_VERSION: &str = "2.60.0";
/// From a raylet that has left to a container that is not ready, and to one that is killed: the operator's probes look every 5 s, and fail
/// 10 and 120 times.
const UNREADY_AFTER: Span = Span::from_s(50);
const KILLED_AFTER: Span = Span::from_s(600);

impl World {
    pub(super) fn cluster(&mut self, key: &Key) -> &mut Cluster {
        let (poll_us, seed) = (self.scenario.ray.poll.as_us(), self.seed);
        self.clusters.entry(key.clone()).or_insert_with(|| {
            let phase_us = stream(seed, "poll", &key.to_string()).draw() % poll_us.max(1);
            let runtime = Arc::new(Mutex::new(Runtime::new(poll_us, phase_us)));
            Cluster { runtime, head: None, lives: 0, planned_us: None }
        })
    }

    /// Does something with the Ray of a cluster, and sees to what comes of it.
    pub(super) fn with_ray<T>(&mut self, key: &Key, change: impl FnOnce(&mut Runtime, u64) -> T) -> T {
        let now_us = self.clock.now_us();
        let runtime = self.cluster(key).runtime.clone();
        let result = {
            let mut runtime = runtime.lock().unwrap_or_else(PoisonError::into_inner);
            runtime.advance(now_us);
            change(&mut runtime, now_us)
        };
        self.ray_changed(key);
        result
    }

    /// Takes in what has begun and ended, and plans when to look again.
    pub(super) fn ray_changed(&mut self, key: &Key) {
        let now_us = self.clock.now_us();
        let Some(cluster) = self.clusters.get_mut(key) else { return };
        let mut runtime = cluster.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        let notices = runtime.take_notices();
        let left = runtime.take_left();
        let used = (runtime.used("CPU"), runtime.used("GPU"));
        let next_us = runtime.next_end();
        drop(runtime);
        let planned_us = next_us.filter(|next_us| cluster.planned_us.is_none_or(|planned_us| *next_us < planned_us));
        if let Some(next_us) = planned_us {
            cluster.planned_us = Some(next_us);
            self.queue.push(next_us, Event::Ray(key.clone()));
        }
        self.measures.uses(key, now_us, used);
        for notice in notices {
            self.log.note(now_us, notice_name(&notice), &key.to_string(), None);
            self.measures.hear(&notice);
        }
        for left in left {
            self.ray_left(key, &left.pod);
        }
    }

    pub(super) fn ray_due(&mut self, key: &Key) {
        if let Some(cluster) = self.clusters.get_mut(key) {
            cluster.planned_us = None;
        }
        self.with_ray(key, |_, _| ());
    }

    /// A Ray node has left because it was told to. Its container does not end with it.
    pub(super) fn ray_left(&mut self, cluster: &Key, pod: &str) {
        self.log.note(self.clock.now_us(), "ray-left", &format!("{cluster} {pod}"), None);
        self.measures.drained += 1;
        let key = Key { namespace: cluster.namespace.clone(), name: pod.to_owned() };
        self.plan(&key, Step::Unready, UNREADY_AFTER);
        self.plan(&key, Step::Kill, KILLED_AFTER);
    }

    /// Whether the head of a cluster has a GCS that answers.
    pub(super) fn gcs_answers(&self, cluster: &Key) -> bool {
        self.clusters.get(cluster).and_then(|cluster| cluster.head.as_ref()).is_some_and(|head| head.is_up)
    }

    /// The containers of a pod have started.
    pub(super) fn containers_started(&mut self, key: &Key) {
        let Some(pod) = self.pods.get(key).filter(|pod| pod.is_head) else { return };
        let Some(cluster) = pod.cluster.clone() else { return };
        let (is_v2, has_sidecar) = (pod.is_v2, pod.has_sidecar());
        let survives = self.survives_head(&cluster);
        let life = {
            let known = self.cluster(&cluster);
            known.lives += 1;
            known.lives
        };
        let mut ids =
            self.chance("cluster-id", &if survives { cluster.to_string() } else { format!("{cluster}/{life}") });
        let identity = HeadIdentity {
            cluster: cluster.clone(),
            cluster_id: hex(&mut ids),
            session: format!("session_2026-01-01_00-00-00_{life:06}_1"),
            ray_version: RAY_VERSION.to_owned(),
            is_v2,
        };
        let latency = (self.scenario.ray.latency, self.chance("gcs-latency", &format!("{cluster}/{life}")));
        let runtime = self.cluster(&cluster).runtime.clone();
        let gcs = Arc::new(Head::new(identity, runtime, self.clock, self.inbox.clone(), latency));
        let before = self.cluster(&cluster).head.take();
        // The sidecar lives in the same pod and outlives a restart of the Ray container, but its GCS is another one.
        let sidecar = if has_sidecar { self.start_sidecar(&cluster, &gcs, life) } else { None };
        if let Some(before) = before {
            self.count_sidecar(&cluster, before.sidecar);
        }
        self.cluster(&cluster).head = Some(LiveHead { pod: key.clone(), gcs, is_up: false, sidecar });
    }

    /// The Ray node of a pod registers. Whether it can.
    pub(super) fn ray_registers(&mut self, key: &Key, cluster: &Key) -> bool {
        let Some(pod) = self.pods.get(key) else { return false };
        let (group, ip, is_head) = (pod.group.clone(), pod.ip.clone(), pod.is_head);
        let node_labels = pod.node.as_ref().and_then(|name| self.nodes.get(name)).map(|node| node.labels.clone());
        let name = if is_head { keys::HEAD_GROUP.to_owned() } else { group };
        let Some(shape) = self.shape(cluster, &name) else { return false };
        let mut ids = self.chance("node-id", &format!("{key}/{}/{}", pod.uid, pod.restarts));
        let id = hex(&mut ids);
        let mut labels = shape.expected_labels.clone();
        labels.insert("ray.io/node-id".to_owned(), id.clone());
        if let Some(zone) = node_labels.as_ref().and_then(|labels| labels.get("topology.kubernetes.io/zone")) {
            labels.entry("ray.io/availability-zone".to_owned()).or_insert_with(|| zone.clone());
        }
        let amount = |(name, units): (&String, &f64)| Some((name.clone(), Amount::from_f64(*units)?));
        let total: Resources = shape.resources.iter().filter_map(amount).collect();
        let workers = self.scenario.ray.workers.draw(&mut self.chance("workers", &format!("{key}/{}", pod.restarts)));
        let workers_from_us = self.clock.now_us().saturating_add(workers.as_us());
        let joining = Joining { id, pod: key.name.clone(), group: name, ip, total, labels, is_head, workers_from_us };
        if is_head && let Some(head) = &mut self.cluster(cluster).head {
            head.gcs.set_up(true);
            head.is_up = true;
        }
        self.log.note(self.clock.now_us(), "ray-joins", &format!("{cluster} {}", key.name), None);
        self.with_ray(cluster, |ray, now_us| ray.join(now_us, joining));
        true
    }

    /// The Ray node in a pod ends.
    pub(super) fn end_ray(&mut self, key: &Key, says_goodbye: bool) {
        let Some(pod) = self.pods.get(key) else { return };
        let Some(cluster) = pod.cluster.clone() else { return };
        let is_head = self.clusters.get(&cluster).and_then(|it| it.head.as_ref()).is_some_and(|head| head.pod == *key);
        if is_head {
            self.end_head(&cluster);
        } else if pod.stage == Stage::Registered {
            self.with_ray(&cluster, |ray, now_us| ray.lose(now_us, &key.name, says_goodbye));
            if !says_goodbye {
                let uid = self.pods.get(key).map(|pod| pod.uid.clone()).unwrap_or_default();
                let at_us = self.clock.now_us() + self.scenario.ray.death_after.as_us();
                self.queue.push(at_us, Event::Pod { key: key.clone(), uid, step: Step::Bury });
            }
        }
    }

    /// Whether a Ray node runs in a pod.
    pub(super) fn has_ray(&self, key: &Key) -> bool {
        let cluster = self.pods.get(key).and_then(|pod| self.clusters.get(pod.cluster.as_ref()?));
        cluster.is_some_and(|it| it.runtime.lock().unwrap_or_else(PoisonError::into_inner).has_node(&key.name))
    }

    pub(super) fn bury_ray(&mut self, key: &Key) {
        if let Some(cluster) = self.pods.get(key).and_then(|pod| pod.cluster.clone()) {
            self.with_ray(&cluster, |ray, now_us| ray.bury_pod(now_us, &key.name));
        }
    }

    /// The head's containers end: its GCS with them, the sidecar, and in the end all workers' raylets.
    pub(super) fn end_head(&mut self, cluster: &Key) {
        let Some(head) = self.cluster(cluster).head.take() else { return };
        head.gcs.set_up(false);
        self.count_sidecar(cluster, head.sidecar);
        self.measures.gcs_calls += head.gcs.calls();
        self.log.note(self.clock.now_us(), "head-ends", &cluster.to_string(), None);
        if self.survives_head(cluster) {
            self.with_ray(cluster, |ray, now_us| ray.lose_head_only(now_us, &head.pod.name));
            return;
        }
        self.with_ray(cluster, Runtime::lose_head_at);
        let orphans = self.pods.iter().filter(|(key, pod)| {
            pod.cluster.as_ref() == Some(cluster) && **key != head.pod && pod.stage == Stage::Registered
        });
        let orphans: Vec<Key> = orphans.map(|(key, _)| key.clone()).collect();
        // A raylet without its GCS gives up.
        orphans.iter().for_each(|key| self.end_container(key, 1, "Error"));
    }

    /// Whether the workers of a cluster outlive its head.
    fn survives_head(&self, cluster: &Key) -> bool {
        self.ray_cluster(cluster).is_some_and(|it| it.spec.gcs_fault_tolerance_options.is_some())
    }

    fn ray_cluster(&self, key: &Key) -> Option<RayCluster> {
        RayCluster::from_value(self.server.get("rayclusters", &key.namespace, &key.name)?).ok()
    }

    /// What a pod of a group brings.
    fn shape(&self, cluster: &Key, group: &str) -> Option<GroupShape> {
        let shapes = self.ray_cluster(cluster)?.group_shapes().ok()?;
        shapes.into_iter().find(|shape| shape.name == group)
    }

    /// Ends what is still running, so that it is counted.
    pub fn finish(&mut self) {
        let keys: Vec<Key> = self.clusters.keys().cloned().collect();
        for key in keys {
            self.with_ray(&key, |_, _| ());
            if let Some(cluster) = self.clusters.get_mut(&key) {
                let runtime = cluster.runtime.lock().unwrap_or_else(PoisonError::into_inner);
                let (tasks, gangs) = runtime.waiting_since_us();
                drop(runtime);
                let head = cluster.head.take();
                self.measures.unmet(self.clock.now_us(), &tasks, &gangs);
                if let Some(head) = head {
                    self.measures.gcs_calls += head.gcs.calls();
                    self.count_sidecar(&key, head.sidecar);
                }
            }
        }
        self.settle_accounts();
        self.kill_operator();
    }
}

fn notice_name(notice: &Notice) -> &'static str {
    match notice {
        Notice::TaskStarted { .. } => "task-starts",
        Notice::GangPlaced { .. } => "gang-placed",
        Notice::TaskDone => "task-done",
        Notice::GangDone => "gang-done",
        Notice::Disrupted => "work-lost",
    }
}

/// An id of 28 bytes in hex.
fn hex(chance: &mut mobula_traces::Seeded) -> String {
    let mut id: String = (0..4).map(|_| format!("{:016x}", chance.draw())).collect();
    id.truncate(56);
    id
}
