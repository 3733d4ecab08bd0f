//! The one translation from what was observed (GCS, RayCluster, pods) into the planner's words.
//!
//! Total for everything that comes from the GCS or from pods: what makes no sense is left out with a warning, and the rest
//! is planned. Only a RayCluster that can't be understood is an error, because nothing can be decided without it.

mod alike;
pub(crate) mod demand;
mod groups;
mod hosts;
mod nearness;
mod nodes;
mod pending;
mod quotas;
mod replicas;
mod resize;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mobula_api::{ClusterSettings, FieldError, PodView, RayCluster, Upscaling};
use mobula_gcs as gcs;
use mobula_planner::{NodeType, Quota, Settings, Snapshot, TopologyLevel, UpscalingMode, Versions};
use serde::{Deserialize, Serialize};

use crate::hosts::KubeNode;
use crate::prices::Prices;

/// Ray node label whose value differs from node to node.
const RAY_NODE_ID_LABEL: &str = "ray.io/node-id";
/// Most warnings that one snapshot gives; the rest are counted.
const MAX_WARNINGS: usize = 100;

/// Everything that one tick has seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Unix time in ms.
    pub now_ms: i64,
    /// What the GCS said.
    pub state: gcs::ClusterState,
    /// The RayCluster.
    pub cluster: Arc<RayCluster>,
    /// All pods of the RayCluster. `None`: not known; live Ray nodes then stand for pods.
    pub pods: Option<Arc<[PodView]>>,
    /// Ray node id in hex → bytes of primary object copies, of the nodes whose metrics endpoint answered.
    pub object_store_bytes: BTreeMap<String, u64>,
    /// Placement group id in hex → unix time in ms at which it was created, where known.
    pub gang_created_ms: BTreeMap<String, i64>,
    /// Unix time in ms since when the present head is seen. Pods can't have been waiting for it any longer: after a restart
    /// of the head (or of this process) their time-outs start anew.
    pub session_since_ms: Option<i64>,
    /// What Kubernetes says around it.
    pub surroundings: Surroundings,
}

/// What Kubernetes says around a RayCluster, where it may be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Surroundings {
    /// Kubernetes nodes; empty: not known.
    pub kube_nodes: Arc<Vec<KubeNode>>,
    /// What quotas leave to pods beyond those that exist; none: not known, or not limited.
    pub quotas: Vec<Quota>,
}

/// Settings that don't come from the RayCluster. The defaults are Ray's own, but for [`SnapshotOptions::max_in_flight`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotOptions {
    /// Most pods on their way at once; `None`: no limit (Ray's own limit is 10).
    pub max_in_flight: Option<u32>,
    /// Keep requests without GPU off GPU nodes where another node will do.
    pub conserve_gpu_nodes: bool,
    /// Time in ms after which a pending pod that nothing needs is given up; `None`: never.
    pub pending_idle_timeout_ms: Option<i64>,
    /// Time in ms after which a pod that has not become a Ray node is given up.
    pub allocation_timeout_ms: i64,
    /// Time in ms after which a group that failed counts as fully available again.
    pub availability_recovery_ms: i64,
    /// What pods of each group cost.
    pub prices: Prices,
    /// Levels of the topology, from broad to narrow.
    pub topology: Vec<TopologyLevel>,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        let settings = Settings::default();
        SnapshotOptions {
            max_in_flight: settings.max_in_flight,
            conserve_gpu_nodes: settings.conserve_gpu_nodes,
            pending_idle_timeout_ms: settings.pending_idle_timeout_ms,
            allocation_timeout_ms: settings.allocation_timeout_ms,
            availability_recovery_ms: settings.availability_recovery_ms,
            prices: Prices::default(),
            topology: Vec::new(),
        }
    }
}

/// A snapshot, and what was odd about the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// What to plan from.
    pub snapshot: Snapshot,
    /// What was left out or looks wrong, for people.
    pub warnings: Vec<String>,
}

/// Translates one observation.
///
/// # Errors
/// Names the field of the RayCluster that can't be used.
pub fn build(observation: &Observation, options: &SnapshotOptions) -> Result<Built, FieldError> {
    Kept::default().build(observation, options)
}

/// What is kept of one translation for the next one: what the groups bring, as long as RayCluster, prices and topology stay the
/// same, and Kubernetes nodes, as long as the same pods are on them, too. It never changes a snapshot.
#[derive(Debug, Default)]
pub struct Kept(Option<Derived>);

/// What follows from a RayCluster, prices and topology alone, and the last hosts.
#[derive(Debug)]
struct Derived {
    cluster: Arc<RayCluster>,
    prices: Prices,
    topology: Vec<TopologyLevel>,
    settings: ClusterSettings,
    node_types: Vec<NodeType>,
    warnings: Warnings,
    hosts: Option<hosts::Known>,
}

impl Derived {
    fn new(cluster: &Arc<RayCluster>, options: &SnapshotOptions) -> Result<Derived, FieldError> {
        let settings = cluster.settings()?;
        let mut warnings = Warnings::default();
        let SnapshotOptions { prices, topology, .. } = options;
        let node_types = groups::translate(cluster, settings.suspended, (prices, topology), &mut warnings)?;
        let (cluster, prices, topology) = (Arc::clone(cluster), prices.clone(), topology.clone());
        Ok(Derived { cluster, prices, topology, settings, node_types, warnings, hosts: None })
    }

    fn is_of(&self, cluster: &Arc<RayCluster>, options: &SnapshotOptions) -> bool {
        Arc::ptr_eq(&self.cluster, cluster) && self.prices == options.prices && self.topology == options.topology
    }
}

impl Kept {
    /// What [`build()`] says, and mostly sooner.
    ///
    /// # Errors
    /// As [`build()`].
    pub fn build(&mut self, observation: &Observation, options: &SnapshotOptions) -> Result<Built, FieldError> {
        let cluster = &observation.cluster;
        let derived = match self.0.take().filter(|known| known.is_of(cluster, options)) {
            Some(known) => known,
            None => Derived::new(cluster, options)?,
        };
        Ok(translate(observation, options, self.0.insert(derived)))
    }
}

fn translate(observation: &Observation, options: &SnapshotOptions, derived: &mut Derived) -> Built {
    let Derived { settings: cluster_settings, node_types, warnings, hosts, .. } = derived;
    let mut warnings = warnings.clone();
    let demand = demand::translate(&observation.state, &observation.gang_created_ms, &mut warnings);
    let keep = nodes::Keep { node_id: demand.selects_by(RAY_NODE_ID_LABEL), node_address: demand.asks_for("node:") };
    let nodes = nodes::translate(observation, node_types, keep, &mut warnings);
    let hosts = hosts::translate_anew(hosts, observation, node_types);
    let quotas = quotas::translate(&observation.surroundings.quotas, node_types, &nodes);
    let snapshot = Snapshot {
        now_ms: observation.now_ms,
        versions: versions(observation),
        settings: settings(cluster_settings, options),
        node_types: node_types.clone(),
        nodes: nodes.into(),
        demand: demand.tasks,
        gangs: demand.gangs,
        constraints: demand.constraints,
        topology: options.topology.clone(),
        hosts,
        quotas,
    };
    Built { snapshot, warnings: warnings.into_texts() }
}

/// What a snapshot of an observation is made from.
pub(crate) fn versions(observation: &Observation) -> Versions {
    let metadata = &observation.cluster.metadata;
    Versions {
        session_name: observation.state.session_name.clone(),
        cluster_state_version: observation.state.version,
        raycluster_resource_version: metadata.resource_version.clone(),
        raycluster_generation: metadata.generation,
    }
}

fn settings(cluster: &ClusterSettings, options: &SnapshotOptions) -> Settings {
    Settings {
        idle_timeout_ms: Some(cluster.idle_timeout_ms),
        upscaling_mode: match cluster.upscaling {
            Upscaling::Default => UpscalingMode::Default,
            Upscaling::Aggressive => UpscalingMode::Aggressive,
            Upscaling::Conservative => UpscalingMode::Conservative,
        },
        // Ray's own is the sum of the groups' maxima, which the groups keep by themselves.
        max_nodes: None,
        // As Ray does under KubeRay: whoever changes a template decides what becomes of older pods.
        terminate_outdated: false,
        max_in_flight: options.max_in_flight,
        conserve_gpu_nodes: options.conserve_gpu_nodes,
        pending_idle_timeout_ms: options.pending_idle_timeout_ms,
        allocation_timeout_ms: options.allocation_timeout_ms,
        availability_recovery_ms: options.availability_recovery_ms,
        ..Settings::default()
    }
}

/// Warnings, bounded: a flood of bad entries must not become a flood of text.
#[derive(Clone, Debug, Default)]
struct Warnings {
    texts: Vec<String>,
    omitted: usize,
}

impl Warnings {
    fn push(&mut self, text: String) {
        if self.texts.len() < MAX_WARNINGS {
            self.texts.push(text);
        } else {
            self.omitted += 1;
        }
    }

    fn into_texts(mut self) -> Vec<String> {
        if self.omitted > 0 {
            self.texts.push(format!("{} more warnings", self.omitted));
        }
        self.texts
    }
}

/// One shared copy of each distinct value.
#[derive(Debug)]
struct Interner<T>(BTreeSet<Arc<T>>);

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Interner(BTreeSet::new())
    }
}

impl<T: Ord> Interner<T> {
    fn intern(&mut self, value: T) -> Arc<T> {
        if let Some(shared) = self.0.get(&value) {
            return Arc::clone(shared);
        }
        let shared = Arc::new(value);
        self.0.insert(Arc::clone(&shared));
        shared
    }
}

#[cfg(test)]
mod tests;
