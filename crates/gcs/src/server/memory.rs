//! A GCS that holds what a test tells it, remembers what it is told, and fails when asked to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{FutureExt, ready};

use super::{Gcs, Refusal, Reply, Verdict, reply};
use crate::types::{
    AutoscalingState, ClusterConfig, ClusterState, DrainOutcome, DrainReason, JobInfo, LegacyDemand, NodeInfo,
    NodeState, NodeStatus, PlacementGroupInfo, RequestByCount, ResourceMap,
};

/// A drain that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Hex.
    pub node_id: String,
    /// Why.
    pub reason: DrainReason,
    /// Words for people.
    pub message: String,
    /// Unix ms.
    pub deadline_ms: Option<u64>,
    /// What was answered.
    pub outcome: DrainOutcome,
}

/// A way to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Never answer.
    Hang,
    /// Answer so much later.
    Slow(Duration),
    /// Answer with bytes that are no message.
    Garbage,
    /// Answer with these bytes: a message cut short, a capture, …
    Bytes(Bytes),
    /// `UNAUTHENTICATED`, as for a wrong token.
    Unauthenticated,
    /// `UNAVAILABLE`.
    Unavailable,
    /// Another status.
    Refuse(Refusal),
    /// Break the connection.
    Disconnect,
}

impl Fault {
    fn verdict(self) -> Verdict {
        match self {
            Fault::Hang => Verdict::Hang,
            Fault::Slow(delay) => Verdict::AnswerAfter(delay),
            Fault::Garbage => Verdict::Bytes(Bytes::from_static(&[0xff; 32])),
            Fault::Bytes(bytes) => Verdict::Bytes(bytes),
            Fault::Unauthenticated => Verdict::Refuse(Refusal::Unauthenticated(
                "InvalidAuthToken: Authentication token is missing or incorrect".into(),
            )),
            Fault::Unavailable => Verdict::Refuse(Refusal::Unavailable("scripted".into())),
            Fault::Refuse(refusal) => Verdict::Refuse(refusal),
            Fault::Disconnect => Verdict::Disconnect,
        }
    }
}

struct Script {
    method: Option<String>,
    times: usize,
    fault: Fault,
}

#[derive(Default)]
struct Inner {
    heads: u64,
    token: Option<String>,
    state: ClusterState,
    report: AutoscalingState,
    reports: Vec<AutoscalingState>,
    configs: Vec<ClusterConfig>,
    drains: Vec<Drain>,
    stopped: Vec<String>,
    kv: BTreeMap<(String, String), Vec<u8>>,
    nodes: Option<Vec<NodeInfo>>,
    jobs: Vec<JobInfo>,
    groups: Vec<PlacementGroupInfo>,
    legacy: LegacyDemand,
    scripts: Vec<Script>,
    calls: BTreeMap<String, usize>,
}

/// An in-memory [`Gcs`]. It drains, stops and keeps reports as a real one does; clones share everything.
#[derive(Clone)]
pub struct MemoryGcs {
    inner: Arc<Mutex<Inner>>,
}

impl Default for MemoryGcs {
    fn default() -> Self {
        MemoryGcs::new(ClusterState::default())
    }
}

impl MemoryGcs {
    /// A head in v2 mode with this cluster.
    pub fn new(state: ClusterState) -> MemoryGcs {
        let gcs = MemoryGcs { inner: Arc::default() };
        gcs.lock().state = state;
        gcs.start_head();
        gcs
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn start_head(&self) {
        let mut inner = self.lock();
        inner.heads += 1;
        let session = format!("session_{}", inner.heads);
        if inner.state.session_name.is_empty() || inner.heads > 1 {
            inner.state.session_name = session;
        }
        inner.state.version = 0;
        inner.report = AutoscalingState::default();
        inner.kv.clear();
        let session = inner.state.session_name.clone().into_bytes();
        inner.kv.insert(("session".into(), "session_name".into()), session);
        inner.kv.insert(("__autoscaler".into(), "__autoscaler_v2_enabled".into()), b"1".to_vec());
    }

    /// Another head answers: other cluster id, other session, no key, no report, and this cluster.
    pub fn restart_head(&self, state: ClusterState) {
        self.lock().state = state;
        self.start_head();
    }

    /// Replaces the cluster; the session and the version stay.
    pub fn set_state(&self, state: ClusterState) {
        self.change_state(|old| {
            let (version, session_name) = (old.version, old.session_name.clone());
            *old = ClusterState { version, session_name, ..state };
        });
    }

    /// Changes the cluster.
    pub fn change_state(&self, change: impl FnOnce(&mut ClusterState)) {
        change(&mut self.lock().state);
    }

    /// The cluster as it is now.
    pub fn state(&self) -> ClusterState {
        self.lock().state.clone()
    }

    /// From now on every call must carry this token.
    pub fn set_token(&self, token: Option<&str>) {
        self.lock().token = token.map(str::to_owned);
    }

    /// Sets a key.
    pub fn set_key(&self, namespace: &str, key: &str, value: &[u8]) {
        self.lock().kv.insert((namespace.into(), key.into()), value.into());
    }

    /// A key's value.
    pub fn key(&self, namespace: &str, key: &str) -> Option<Vec<u8>> {
        self.lock().kv.get(&(namespace.to_owned(), key.to_owned())).cloned()
    }

    /// Replaces the node table, which otherwise follows from the cluster.
    pub fn set_nodes(&self, nodes: Vec<NodeInfo>) {
        self.lock().nodes = Some(nodes);
    }

    /// Replaces the job table.
    pub fn set_jobs(&self, jobs: Vec<JobInfo>) {
        self.lock().jobs = jobs;
    }

    /// Replaces the table of placement groups.
    pub fn set_placement_groups(&self, groups: Vec<PlacementGroupInfo>) {
        self.lock().groups = groups;
    }

    /// Replaces the demand of a v1 head.
    pub fn set_legacy_demand(&self, demand: LegacyDemand) {
        self.lock().legacy = demand;
    }

    /// The next `times` calls of `method` (`None`: of any) fail so. Several scripts are used up in order.
    pub fn fail(&self, method: Option<&str>, times: usize, fault: Fault) {
        self.lock().scripts.push(Script { method: method.map(str::to_owned), times, fault });
    }

    /// Drops all scripts.
    pub fn recover(&self) {
        self.lock().scripts.clear();
    }

    /// How often `method` was called, failures included.
    pub fn calls(&self, method: &str) -> usize {
        self.lock().calls.get(method).copied().unwrap_or_default()
    }

    /// All reports in the order in which they came, dropped ones included.
    pub fn reports(&self) -> Vec<AutoscalingState> {
        self.lock().reports.clone()
    }

    /// All cluster configurations in the order in which they came.
    pub fn configs(&self) -> Vec<ClusterConfig> {
        self.lock().configs.clone()
    }

    /// All drains in the order in which they came.
    pub fn drains(&self) -> Vec<Drain> {
        self.lock().drains.clone()
    }

    /// All nodes that were stopped, in order.
    pub fn stopped(&self) -> Vec<String> {
        self.lock().stopped.clone()
    }
}

/// What the GCS keeps of a node that is dead.
fn bury(node: &mut NodeState) {
    *node = NodeState {
        node_id: std::mem::take(&mut node.node_id),
        instance_id: std::mem::take(&mut node.instance_id),
        node_type: std::mem::take(&mut node.node_type),
        ip: std::mem::take(&mut node.ip),
        instance_type: std::mem::take(&mut node.instance_type),
        status: NodeStatus::Dead,
        ..NodeState::default()
    };
}

/// The raylet's decision: idle nodes leave at once, busy ones only for a preemption, and then when they are done.
fn drain(node: &mut NodeState, reason: DrainReason) -> DrainOutcome {
    match (node.status, reason) {
        (NodeStatus::Dead | NodeStatus::Draining, _) => {}
        (NodeStatus::Idle, _) => bury(node),
        (NodeStatus::Running | NodeStatus::Unspecified, DrainReason::IdleTermination) => {
            return DrainOutcome::Rejected("The node to be idle terminated is no longer idle.".into());
        }
        (NodeStatus::Running | NodeStatus::Unspecified, DrainReason::Preemption) => node.status = NodeStatus::Draining,
    }
    DrainOutcome::Accepted
}

fn node_info(node: &NodeState) -> NodeInfo {
    NodeInfo {
        node_id: node.node_id.clone(),
        address: node.ip.clone(),
        alive: node.status != NodeStatus::Dead,
        is_head: node.total.contains_key("node:__internal_head__"),
        instance_id: node.instance_id.clone(),
        node_type: node.node_type.clone(),
        resources_total: ResourceMap::clone(&node.total),
        labels: node.labels.as_ref().clone(),
        ..NodeInfo::default()
    }
}

impl Gcs for MemoryGcs {
    fn cluster_id(&self) -> String {
        format!("{:056x}", self.lock().heads)
    }

    fn token(&self) -> Option<String> {
        self.lock().token.clone()
    }

    fn verdict(&self, method: &str) -> Verdict {
        let mut inner = self.lock();
        *inner.calls.entry(method.to_owned()).or_default() += 1;
        let fits = |script: &Script| script.times > 0 && script.method.as_deref().is_none_or(|name| name == method);
        let Some(script) = inner.scripts.iter_mut().find(|script| fits(script)) else { return Verdict::Answer };
        script.times -= 1;
        script.fault.clone().verdict()
    }

    fn cluster_state(&self) -> Reply<'_, ClusterState> {
        let mut inner = self.lock();
        inner.state.version += 1;
        reply(inner.state.clone())
    }

    fn report_autoscaling_state(&self, state: AutoscalingState) -> Reply<'_, ()> {
        let mut inner = self.lock();
        inner.reports.push(state.clone());
        if state.version >= inner.report.version {
            inner.report = state;
        }
        reply(())
    }

    fn autoscaling_state(&self) -> Reply<'_, AutoscalingState> {
        reply(self.lock().report.clone())
    }

    fn report_cluster_config(&self, config: ClusterConfig) -> Reply<'_, ()> {
        self.lock().configs.push(config);
        reply(())
    }

    fn request_resources(&self, requests: Vec<RequestByCount>) -> Reply<'_, ()> {
        self.lock().state.constraints = vec![requests];
        reply(())
    }

    fn drain_node(
        &self,
        node_id: String,
        reason: DrainReason,
        message: String,
        deadline_ms: Option<u64>,
    ) -> Reply<'_, DrainOutcome> {
        let mut inner = self.lock();
        // One that is dead, or that nobody knows, has nothing to leave.
        let outcome = inner.state.nodes.change(&node_id, |node| drain(node, reason)).unwrap_or(DrainOutcome::Accepted);
        inner.drains.push(Drain { node_id, reason, message, deadline_ms, outcome: outcome.clone() });
        reply(outcome)
    }

    fn stop_nodes(&self, node_ids: Vec<String>) -> Reply<'_, ()> {
        let mut inner = self.lock();
        for node_id in &node_ids {
            inner.state.nodes.change(node_id, bury);
        }
        inner.stopped.extend(node_ids);
        reply(())
    }

    fn resize_node(&self, node_id: String, resources: ResourceMap) -> Reply<'_, ResourceMap> {
        let mut inner = self.lock();
        let resized = inner.state.nodes.change(&node_id, |node| {
            let (total, available) = (Arc::make_mut(&mut node.total), Arc::make_mut(&mut node.available));
            for (name, amount) in resources {
                let before = total.insert(name.clone(), amount).unwrap_or_default();
                *available.entry(name).or_default() += amount - before;
            }
            total.clone()
        });
        match resized {
            Some(total) => reply(total),
            None => ready(Err(Refusal::Aborted("Disconnected".into()))).boxed(),
        }
    }

    fn kv_get(&self, namespace: String, key: String) -> Reply<'_, Option<Vec<u8>>> {
        reply(self.key(&namespace, &key))
    }

    fn kv_put(&self, namespace: String, key: String, value: Vec<u8>, overwrite: bool) -> Reply<'_, bool> {
        let mut inner = self.lock();
        let is_new = !inner.kv.contains_key(&(namespace.clone(), key.clone()));
        if is_new || overwrite {
            inner.kv.insert((namespace, key), value);
        }
        reply(is_new)
    }

    fn kv_keys(&self, namespace: String, prefix: String) -> Reply<'_, Vec<String>> {
        let inner = self.lock();
        let keys = inner.kv.keys().filter(|(space, key)| {
            // As in a real GCS, the empty namespace is none at all when listing.
            (namespace.is_empty() || *space == namespace) && key.starts_with(&prefix)
        });
        reply(keys.map(|(_, key)| key.clone()).collect())
    }

    fn nodes(&self) -> Reply<'_, Vec<NodeInfo>> {
        let inner = self.lock();
        let nodes = inner.nodes.clone();
        reply(nodes.unwrap_or_else(|| inner.state.nodes.iter().map(|node| node_info(node)).collect()))
    }

    fn jobs(&self) -> Reply<'_, Vec<JobInfo>> {
        reply(self.lock().jobs.clone())
    }

    fn placement_groups(&self) -> Reply<'_, Vec<PlacementGroupInfo>> {
        reply(self.lock().groups.clone())
    }

    fn legacy_demand(&self) -> Reply<'_, LegacyDemand> {
        reply(self.lock().legacy.clone())
    }
}
