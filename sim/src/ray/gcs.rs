//! The GCS of one head: what the sidecar asks, answered from the runtime.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mobula_gcs::server::{Gcs, Refusal, Reply, Verdict, reply};
use mobula_gcs::{
    AutoscalingState, BundleSelector, ClusterState, DrainOutcome, DrainReason, GangRequest, JobInfo, LabelConstraint,
    LabelOperator, LabelSelector, LegacyDemand, LocalityRequirement, NodeInfo, PlacementConstraint, PlacementGroupInfo,
    PlacementStrategy, RequestByCount, ResourceMap, ResourceRequest,
};
use mobula_planner::{Amount, Resources};
use mobula_traces::Seeded;

use super::shown::GROUP_LABEL;
use super::{Group, Left, Needs, RayNode, Runtime};
use crate::chance::Spread;
use crate::clock::{START_UNIX_MS, VirtualClock};
use crate::inbox::{Inbox, News};
use crate::scenario::Strategy;
use crate::world::Key;

/// Who a head is.
#[derive(Clone, Debug)]
pub struct HeadIdentity {
    /// The RayCluster.
    pub cluster: Key,
    /// 56 hex digits.
    pub cluster_id: String,
    /// Ray's session.
    pub session: String,
    /// Ray's version.
    pub ray_version: String,
    /// Whether it was started for autoscaler v2.
    pub is_v2: bool,
}

/// How a GCS fails.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum GcsFault {
    /// It answers nobody.
    Hang,
    /// It answers with bytes that are no message.
    Garbage,
}

/// The GCS of one life of a head.
pub struct Head {
    /// The Ray that it knows.
    pub runtime: Arc<Mutex<Runtime>>,
    identity: HeadIdentity,
    clock: VirtualClock,
    inbox: Inbox,
    state: Mutex<HeadState>,
}

struct HeadState {
    is_up: bool,
    fault: Option<GcsFault>,
    version: i64,
    report: AutoscalingState,
    keys: BTreeMap<(String, String), Vec<u8>>,
    latency: (Spread, Seeded),
    calls: u64,
}

const V2_KEY: (&str, &str) = ("__autoscaler", "__autoscaler_v2_enabled");

impl Head {
    /// A GCS that does not answer yet.
    pub fn new(
        identity: HeadIdentity,
        runtime: Arc<Mutex<Runtime>>,
        clock: VirtualClock,
        inbox: Inbox,
        latency: (Spread, Seeded),
    ) -> Head {
        let own = |text: (&str, &str)| (text.0.to_owned(), text.1.to_owned());
        let is_v2 = if identity.is_v2 { b"1".to_vec() } else { b"0".to_vec() };
        let keys = [(own(V2_KEY), is_v2), (own(("session", "session_name")), identity.session.clone().into_bytes())];
        let state = HeadState {
            is_up: false,
            fault: None,
            version: 0,
            report: AutoscalingState::default(),
            keys: keys.into_iter().collect(),
            latency,
            calls: 0,
        };
        Head { runtime, identity, clock, inbox, state: Mutex::new(state) }
    }

    /// Answers from now on, or no longer.
    pub fn set_up(&self, is_up: bool) {
        self.state().is_up = is_up;
    }

    /// Fails in this way from now on, or no longer.
    pub fn set_fault(&self, fault: Option<GcsFault>) {
        self.state().fault = fault;
    }

    /// How many calls have come.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    fn state(&self) -> MutexGuard<'_, HeadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runtime(&self) -> MutexGuard<'_, Runtime> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runtime as it is now: what was due has ended.
    fn up_to_date(&self) -> (MutexGuard<'_, Runtime>, u64) {
        let now_us = self.clock.now_us();
        let mut runtime = self.runtime();
        runtime.advance(now_us);
        runtime.see(now_us);
        (runtime, now_us)
    }

    fn tell(&self, left: impl IntoIterator<Item = Left>) {
        let cluster = &self.identity.cluster;
        for Left { pod } in left {
            self.inbox.put(News::Left { cluster: cluster.clone(), pod });
        }
        self.inbox.put(News::RayChanged(cluster.clone()));
    }
}

impl Gcs for Head {
    fn cluster_id(&self) -> String {
        self.identity.cluster_id.clone()
    }

    fn verdict(&self, _method: &str) -> Verdict {
        let mut state = self.state();
        state.calls += 1;
        match state.fault {
            _ if !state.is_up => Verdict::Refuse(Refusal::Unavailable("connection refused".into())),
            Some(GcsFault::Hang) => Verdict::Hang,
            Some(GcsFault::Garbage) => Verdict::Bytes(Bytes::from_static(&[0xff; 32])),
            None => {
                let (spread, chance) = &mut state.latency;
                let latency = spread.draw(chance).to_duration();
                if latency == Duration::ZERO { Verdict::Answer } else { Verdict::AnswerAfter(latency) }
            }
        }
    }

    fn cluster_state(&self) -> Reply<'_, ClusterState> {
        let (mut runtime, now_us) = self.up_to_date();
        let mut state = runtime.cluster_state(now_us);
        drop(runtime);
        let mut own = self.state();
        own.version += 1;
        state.version = own.version;
        state.session_name.clone_from(&self.identity.session);
        reply(state)
    }

    fn report_autoscaling_state(&self, report: AutoscalingState) -> Reply<'_, ()> {
        let mut state = self.state();
        if report.version >= state.report.version {
            state.report = report;
        }
        reply(())
    }

    fn autoscaling_state(&self) -> Reply<'_, AutoscalingState> {
        reply(self.state().report.clone())
    }

    fn request_resources(&self, requests: Vec<RequestByCount>) -> Reply<'_, ()> {
        let read = |request: RequestByCount| {
            let amount = |(name, units): (String, f64)| Some((name, Amount::from_f64(units)?));
            let resources: Resources = request.request.resources.into_iter().filter_map(amount).collect();
            (Needs { resources, ..Needs::default() }, request.count)
        };
        self.runtime().request_resources(requests.into_iter().map(read).collect());
        reply(())
    }

    fn drain_node(
        &self,
        node_id: String,
        reason: DrainReason,
        _message: String,
        _deadline_ms: Option<u64>,
    ) -> Reply<'_, DrainOutcome> {
        let (mut runtime, now_us) = self.up_to_date();
        let (outcome, left) = runtime.drain(now_us, &node_id, reason);
        drop(runtime);
        self.tell(left);
        reply(outcome)
    }

    fn stop_nodes(&self, node_ids: Vec<String>) -> Reply<'_, ()> {
        let (mut runtime, now_us) = self.up_to_date();
        let left = runtime.stop(now_us, &node_ids);
        drop(runtime);
        self.tell(left);
        reply(())
    }

    fn kv_get(&self, namespace: String, key: String) -> Reply<'_, Option<Vec<u8>>> {
        reply(self.state().keys.get(&(namespace, key)).cloned())
    }

    fn kv_put(&self, namespace: String, key: String, value: Vec<u8>, overwrite: bool) -> Reply<'_, bool> {
        let mut state = self.state();
        let key = (namespace, key);
        let is_new = !state.keys.contains_key(&key);
        if is_new || overwrite {
            state.keys.insert(key, value);
        }
        reply(is_new)
    }

    fn kv_keys(&self, namespace: String, prefix: String) -> Reply<'_, Vec<String>> {
        let state = self.state();
        let keys = state
            .keys
            .keys()
            .filter(|(of, key)| (namespace.is_empty() || *of == namespace) && key.starts_with(&prefix));
        reply(keys.map(|(_, key)| key.clone()).collect())
    }

    fn nodes(&self) -> Reply<'_, Vec<NodeInfo>> {
        reply(self.runtime().nodes.values().map(node_info).collect())
    }

    fn jobs(&self) -> Reply<'_, Vec<JobInfo>> {
        // A driver for whatever is not done.
        let is_busy = self.runtime().is_busy();
        let job = JobInfo { job_id: "01000000".into(), is_dead: false, ..JobInfo::default() };
        reply(is_busy.then_some(job).into_iter().collect())
    }

    fn placement_groups(&self) -> Reply<'_, Vec<PlacementGroupInfo>> {
        reply(self.runtime().groups.values().map(group_info).collect())
    }

    fn legacy_demand(&self) -> Reply<'_, LegacyDemand> {
        let (mut runtime, now_us) = self.up_to_date();
        let ClusterState { pending, gangs, constraints, .. } = runtime.cluster_state(now_us);
        reply(LegacyDemand { pending, gangs, constraints })
    }

    fn ray_version(&self) -> Reply<'_, String> {
        reply(self.identity.ray_version.clone())
    }
}

impl Runtime {
    /// Whether there is work.
    fn is_busy(&self) -> bool {
        !self.running.is_empty() || !self.groups.is_empty() || self.waiting_tasks() > 0
    }

    /// `GetClusterResourceState` without version and session.
    fn cluster_state(&mut self, now_us: u64) -> ClusterState {
        let nodes = self.node_states(now_us);
        let pending = self
            .view
            .waiting
            .iter()
            .map(|(class, count)| RequestByCount { request: request(&self.classes[*class], true), count: *count });
        let constraint = self.constraint.iter().map(|requests| {
            let counted =
                |(needs, count): &(Needs, i64)| RequestByCount { request: request(needs, false), count: *count };
            requests.iter().map(counted).collect()
        });
        ClusterState {
            nodes,
            pending: pending.collect(),
            gangs: self.unplaced.iter().filter_map(|id| self.groups.get(id)).map(gang).collect(),
            constraints: constraint.collect(),
            ..ClusterState::default()
        }
    }
}

pub(super) fn units(resources: &Resources, with_zeros: bool) -> ResourceMap {
    let kept = resources.iter().filter(|(_, amount)| with_zeros || amount.steps() > 0);
    kept.map(|(name, amount)| (name.clone(), amount.as_f64())).collect()
}

fn node_info(node: &RayNode) -> NodeInfo {
    NodeInfo {
        node_id: node.id.clone(),
        address: node.ip.clone(),
        alive: true,
        is_head: node.is_head,
        instance_id: node.pod.clone(),
        node_type: node.group.clone(),
        resources_total: units(&node.total, true),
        labels: node.labels.clone(),
        ..NodeInfo::default()
    }
}

fn group_info(group: &Group) -> PlacementGroupInfo {
    let created_ms = i64::try_from(group.arrived_us / 1_000).unwrap_or(i64::MAX);
    PlacementGroupInfo {
        id: group.work.id.clone(),
        job_id: "01000000".into(),
        created_ms: START_UNIX_MS.saturating_add(created_ms),
        ..PlacementGroupInfo::default()
    }
}

/// A request as the GCS sends it. Tasks without selectors have one that is empty; other requests have none.
fn request(needs: &Needs, is_task: bool) -> ResourceRequest {
    let constraints: Vec<LabelConstraint> = needs
        .labels
        .iter()
        .map(|(key, value)| LabelConstraint {
            key: key.clone(),
            operator: LabelOperator::In,
            values: vec![value.clone()],
        })
        .collect();
    let has_selector = is_task || !constraints.is_empty();
    ResourceRequest {
        resources: units(&needs.resources, true),
        placement: Vec::new(),
        selectors: if has_selector { vec![LabelSelector { constraints }] } else { Vec::new() },
    }
}

fn gang(group: &Group) -> GangRequest {
    let work = &group.work;
    let own = format!("{GROUP_LABEL}{}", work.id);
    let placement = match work.strategy {
        Strategy::StrictPack => Some(PlacementConstraint { affinity: Some((own, String::new())), anti_affinity: None }),
        Strategy::StrictSpread => {
            Some(PlacementConstraint { affinity: None, anti_affinity: Some((own, String::new())) })
        }
        Strategy::Pack | Strategy::Spread => None,
    };
    let bundle = ResourceRequest { placement: placement.into_iter().collect(), ..request(&work.needs, false) };
    let legacy = ResourceRequest { selectors: Vec::new(), ..bundle.clone() };
    let strategy = match work.strategy {
        Strategy::Pack => "PACK",
        Strategy::Spread => "SPREAD",
        Strategy::StrictPack => "STRICT_PACK",
        Strategy::StrictSpread => "STRICT_SPREAD",
    };
    let state = if group.was_placed { "RESCHEDULING" } else { "PENDING" };
    let locality = work.locality.clone().map(|label| LocalityRequirement {
        label,
        strategy: PlacementStrategy::StrictPack,
        selector: LabelSelector::default(),
    });
    GangRequest {
        requests: vec![legacy; group.missing()],
        details: format!("{}:{strategy}|{state}", work.id),
        bundle_selectors: vec![BundleSelector { requests: vec![bundle; group.missing()], locality }],
    }
}
