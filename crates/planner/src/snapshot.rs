//! What was observed, in the planner's words. Immutable, serialisable, complete.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Amount, Hosts, Labels, Nodes, Resources};

/// Everything a policy may look at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Unix time of the observation in ms.
    pub now_ms: i64,
    /// What it was observed from.
    pub versions: Versions,
    /// Settings of the whole cluster.
    pub settings: Settings,
    /// The head (if known) and the worker groups in the order of the RayCluster.
    pub node_types: Vec<NodeType>,
    /// Every instance that exists or was asked for and is not gone: running, pending, requested, draining.
    pub nodes: Nodes,
    /// Pending tasks and actors: one entry a distinct request.
    pub demand: Vec<DemandClass>,
    /// Placement groups that are not (wholly) placed.
    pub gangs: Vec<Gang>,
    /// What `request_resources` wants the cluster as a whole to be able to hold.
    pub constraints: Vec<Constraint>,
    /// Levels of the topology, from broad to narrow; empty: only what Ray asks for by label is obeyed.
    pub topology: Vec<TopologyLevel>,
    /// Kubernetes nodes, where they may be read; empty: unknown.
    pub hosts: Hosts,
    /// Quotas that cap what may be launched.
    pub quotas: Vec<Quota>,
}

impl Snapshot {
    /// Whether nodes and hosts are in the order in which policy `mobula` looks at them; if not, it sorts a copy.
    pub fn is_in_order(&self) -> bool {
        crate::mobula::order::read(self).1
    }
}

/// One level of the topology: nodes with the same value of the label are in one domain, and a node without it is a domain of
/// its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopologyLevel {
    /// What people call it (`zone`, `fabric`, `accelerator`, `rack`, `host`).
    pub name: String,
    /// Label keys that name the domain, the first that a node has counts.
    pub keys: Vec<String>,
    /// Nodes of one domain reach each other by RDMA, other nodes do not.
    pub is_fabric: bool,
    /// Most hosts of one gang in one domain (an NVL72 rack has 18); `None`: no limit beyond what is there.
    pub max_hosts: Option<u32>,
}

/// A Kubernetes node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Arc<Labels>,
    /// What is free of it now for pods, in Kubernetes' resource names (`cpu` in cores, `memory` in bytes).
    pub free: Arc<Resources>,
    /// Why it is no target (cordoned, not ready, tainted as unhealthy or about to go); `None`: it is one.
    pub unfit: Option<String>,
}

/// What of a quota is still free. Amounts in Kubernetes' resource names, as [`GroupFacts::pod_requests`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quota {
    /// Who says so, for people (`ResourceQuota team-a`, `ElasticQuotaTree root/team-a`, `file`).
    pub source: String,
    /// Groups it applies to; empty: all.
    pub groups: Vec<String>,
    /// What may still be created, by resource name; `pods` counts pods. A name that is absent is not limited. Pods that are
    /// asked for already ([`NodePhase::Requested`]) are taken off.
    pub free: Resources,
}

/// How capacity is paid for.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CapacityType {
    /// Paid for already.
    Reserved,
    /// By the hour, kept as long as wanted.
    #[default]
    OnDemand,
    /// By the hour, may be taken away.
    Spot,
}

/// A way in which the pods of a group may get their Kubernetes nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Offering {
    /// Price of one pod (host) an hour; at least 0, in whatever currency all prices are.
    pub price_per_hour: f64,
    /// How it is paid for.
    pub capacity_type: CapacityType,
    /// Zone, where it matters.
    pub zone: Option<String>,
}

/// Whether pods of a group must, should or need not reach each other by RDMA when they serve one gang.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FabricWish {
    /// One fabric or not at all.
    Required,
    /// One fabric where that is possible.
    Preferred,
}

/// Why a pod is not a Ray node yet.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PendingCause {
    /// The API server refuses to create it (ResourceQuota, webhook, 403).
    QuotaRefused,
    /// Held back by scheduling gates: a queue or a gang decides. Not slow: waiting.
    Gated,
    /// The scheduler finds no Kubernetes node for it, and nobody is known to bring one.
    Unschedulable,
    /// Waits for a Kubernetes node that is on its way, or for the scheduler's first word.
    Provisioning,
    /// Images are being pulled, volumes mounted.
    Pulling,
    /// Its containers start; Ray has not registered it yet.
    Registering,
}

/// For how long a pod may be pending for each cause before its group counts as blocked. In ms; `None`: for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Patience {
    /// [`PendingCause::QuotaRefused`]
    pub quota_refused_ms: Option<i64>,
    /// [`PendingCause::Gated`]
    pub gated_ms: Option<i64>,
    /// [`PendingCause::Unschedulable`]
    pub unschedulable_ms: Option<i64>,
    /// [`PendingCause::Provisioning`]
    pub provisioning_ms: Option<i64>,
    /// [`PendingCause::Pulling`]
    pub pulling_ms: Option<i64>,
    /// [`PendingCause::Registering`]
    pub registering_ms: Option<i64>,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            quota_refused_ms: Some(30_000),
            gated_ms: None,
            unschedulable_ms: Some(300_000),
            provisioning_ms: Some(900_000),
            pulling_ms: Some(1_800_000),
            registering_ms: Some(900_000),
        }
    }
}

impl Patience {
    /// The patience for one cause, in ms; `None`: endless.
    pub fn for_cause_ms(&self, cause: PendingCause) -> Option<i64> {
        match cause {
            PendingCause::QuotaRefused => self.quota_refused_ms,
            PendingCause::Gated => self.gated_ms,
            PendingCause::Unschedulable => self.unschedulable_ms,
            PendingCause::Provisioning => self.provisioning_ms,
            PendingCause::Pulling => self.pulling_ms,
            PendingCause::Registering => self.registering_ms,
        }
    }
}

/// The versions a snapshot was made from; a plan carries them on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Versions {
    /// Ray's session name; it changes when the head restarts.
    pub session_name: String,
    /// The counter in the GCS reply (counts calls, not changes).
    pub cluster_state_version: i64,
    /// `metadata.resourceVersion` of the RayCluster.
    pub raycluster_resource_version: String,
    /// `metadata.generation` of the RayCluster.
    pub raycluster_generation: i64,
}

/// How fast the cluster may grow.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpscalingMode {
    /// Not rate-limited.
    #[default]
    Default,
    /// An alias of `Default`.
    Aggressive,
    /// Pending pods of a group are at most as many as its running ones (at least one).
    Conservative,
}

/// Settings of the whole cluster. Durations in ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Idle time after which a worker is removed; `None`: never. Groups may override it.
    pub idle_timeout_ms: Option<i64>,
    /// How fast the cluster may grow.
    pub upscaling_mode: UpscalingMode,
    /// Most nodes of the whole cluster, head included; `None`: no limit beyond the groups' own.
    pub max_nodes: Option<u32>,
    /// Most pods that may be on their way (requested or pending) at once; `None`: no limit (Ray's own is 10). For policy `mobula`,
    /// those that are pending for longer than is borne count for their own group only.
    pub max_in_flight: Option<u32>,
    /// End pods whose group is gone or whose launch configuration changed (never on Kubernetes, where the operator does it).
    pub terminate_outdated: bool,
    /// Keep requests without GPU off GPU nodes where another node will do.
    pub conserve_gpu_nodes: bool,
    /// Time after which a pending pod that nothing needs is given up; `None`: never.
    pub pending_idle_timeout_ms: Option<i64>,
    /// A pod that has not become a Ray node after this time is given up and its group counts as unavailable; 0: never. Policy
    /// `mobula` takes it for pods of which nobody knows what they wait for, and `patience` for all others.
    pub allocation_timeout_ms: i64,
    /// Time after which a group that failed counts as fully available again.
    pub availability_recovery_ms: i64,
    /// For how long pods may be pending before another group is tried (policy `mobula`).
    pub patience: Patience,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            idle_timeout_ms: Some(60_000),
            upscaling_mode: UpscalingMode::Default,
            max_nodes: None,
            max_in_flight: None,
            terminate_outdated: false,
            conserve_gpu_nodes: true,
            pending_idle_timeout_ms: None,
            allocation_timeout_ms: 3_600_000,
            availability_recovery_ms: 600_000,
            patience: Patience::default(),
        }
    }
}

impl Settings {
    /// The allocation time-out in ms; `None`: never.
    pub fn most_pending_ms(&self) -> Option<i64> {
        Some(self.allocation_timeout_ms).filter(|most_ms| *most_ms > 0)
    }
}

/// A worker group (or the head): what one more of its pods would be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeType {
    /// Group name; the head's is `headgroup`.
    pub name: String,
    /// Whether this is the head, which is never launched or terminated.
    pub is_head: bool,
    /// What one pod brings, in Ray's resources.
    pub resources: Arc<Resources>,
    /// Ray node labels that one pod brings.
    pub labels: Arc<Labels>,
    /// Pods in a replica, at least 1.
    pub num_of_hosts: u32,
    /// Fewest replicas.
    pub min_replicas: u32,
    /// Most replicas.
    pub max_replicas: u32,
    /// Replicas that the RayCluster asks for now.
    pub requested_replicas: u32,
    /// The group's own idle time-out in ms; `None`: the cluster's.
    pub idle_timeout_ms: Option<i64>,
    /// Higher is preferred.
    pub priority: i32,
    /// A suspended group has no pods and gets none.
    pub suspended: bool,
    /// How far pods of this group may be resized in place.
    pub resize: Option<ResizeSpec>,
    /// Changes when a pod made now would differ from the older ones; `None`: not checked.
    pub launch_config_hash: Option<String>,
    /// What Kubernetes will do beyond what Ray is told.
    pub facts: GroupFacts,
    /// Ways to get capacity, with prices; empty: no price is known.
    pub offerings: Vec<Offering>,
}

/// What the pod template of a group says beyond Ray's own resources: for policies other than `ray-v2`, and for reasons.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupFacts {
    /// Extended resources of the Ray container's limits (for example `nvidia.com/gpu`, `rdma/hca`).
    pub extended_resources: Resources,
    /// `nodeSelector` of the pod template.
    pub node_selector: Labels,
    /// Labels that a started Ray node will have although the group does not declare them (for example `ray.io/node-group`).
    pub expected_labels: Labels,
    /// What one pod takes of quotas and of a Kubernetes node, all containers together, in Kubernetes' resource names.
    pub pod_requests: Resources,
    /// What the user says about RDMA (`mobula.dev/fabric` in the annotations of the pod template); `None`: nothing.
    pub fabric: Option<FabricWish>,
    /// What the user says of how near the hosts of a gang have to be to each other.
    pub nearness: Nearness,
}

/// How near the hosts of a gang have to be, or should be, by levels of the topology: each by its name or by a label key of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Nearness {
    /// All in one domain of this level, or the gang is not started.
    pub required: Option<String>,
    /// All in one domain of this level, else of the next broader one and so on, where that costs nothing.
    pub preferred: Option<String>,
}

/// Bounds of in-place resize.
#[derive(Copy, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResizeSpec {
    /// Largest CPU.
    pub max_cpu: Amount,
    /// Largest memory in bytes.
    pub max_memory: Amount,
    /// Smallest CPU (what the template says).
    pub min_cpu: Amount,
    /// Smallest memory in bytes (what the template says).
    pub min_memory: Amount,
    /// Time after which a resize counts as failed.
    pub timeout_ms: i64,
}

/// Where an instance is on its way from wish to Ray node.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodePhase {
    /// The RayCluster asks for it; no pod exists yet.
    Requested,
    /// A pod exists; Ray does not run in it yet.
    Pending,
    /// A Ray node (busy or idle: see [`Node::idle_ms`]).
    #[default]
    Running,
    /// It accepted a drain, or its pod is named in `workersToDelete`, or its pod is gone: neither capacity nor target, and
    /// not counted in [`crate::GroupPlan::desired`] (who writes `replicas` adds pods that are leaving but not yet named).
    Leaving,
    /// A pod exists, but the Ray node in it is dead: no capacity; to be ended as `RayStopped`, its drain is `NotNeeded`.
    Stopped,
}

/// One instance: a pod, a Ray node, or both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Pod name (Ray's cloud instance id). Empty: a Ray node that nobody manages; its capacity counts, it is never scaled.
    /// Instances in phase `Requested` have a made-up name (`<group>/requested-<n>`).
    pub instance_id: Arc<str>,
    /// Ray node id in hex, once Ray runs.
    pub ray_node_id: Option<String>,
    /// Group name.
    pub group: Arc<str>,
    /// Whether this is the head.
    pub is_head: bool,
    /// Name of the multi-host replica it belongs to; `None` where a replica is one pod.
    pub replica: Option<String>,
    /// Where it is on its way.
    pub phase: NodePhase,
    /// Everything it has.
    pub total: Arc<Resources>,
    /// What is free of it now; a name that is absent is used up.
    pub available: Arc<Resources>,
    /// Static labels.
    pub labels: Arc<Labels>,
    /// Labels that come and go: `_PG_<hex>` for each placement group with a bundle here.
    pub dynamic_labels: Arc<Labels>,
    /// How long it has been idle, in ms; `None`: it is not idle, or nobody knows.
    pub idle_ms: Option<i64>,
    /// Unix time in ms since when it is pending.
    pub pending_since_ms: Option<i64>,
    /// In-place resize of this pod, where its group allows it.
    pub resize: Option<NodeResize>,
    /// The launch configuration it was made with; `None`: not checked.
    pub launch_config_hash: Option<String>,
    /// Primary object copies it holds in bytes, if its metrics endpoint was asked and answered.
    pub object_store_bytes: Option<u64>,
    /// Name of the Kubernetes node it runs on, where known.
    pub host: Option<String>,
    /// Why it is not a Ray node yet; `None` for those that are, or where nothing is known.
    pub pending_cause: Option<PendingCause>,
}

/// What in-place resize can do with one pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeResize {
    /// CPU limit now.
    pub current_cpu: Amount,
    /// Memory limit now, in bytes.
    pub current_memory: Amount,
    /// CPU limit that a resize under way will bring; it is planned with already.
    pub desired_cpu: Option<Amount>,
    /// Memory limit in bytes that a resize under way will bring; it is planned with already.
    pub desired_memory: Option<Amount>,
    /// Largest CPU that can be had on its Kubernetes node, if less than the group's.
    pub suggested_max_cpu: Option<Amount>,
    /// Largest memory in bytes that can be had on its Kubernetes node, if less than the group's.
    pub suggested_max_memory: Option<Amount>,
    /// A resize is under way: nothing new is asked of this pod.
    pub in_progress: bool,
    /// A resize failed for good: this pod is left as it is.
    pub failed: bool,
}

/// How a label must compare.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LabelOperator {
    /// The value is in the list.
    In,
    /// The value is not in the list, or the label is absent.
    NotIn,
    /// An operator this version does not know: never satisfied.
    Unknown,
}

/// One condition on one label. `values` is sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LabelConstraint {
    /// Label key.
    pub key: String,
    /// Comparison.
    pub operator: LabelOperator,
    /// Sorted values.
    pub values: Vec<String>,
}

/// Conditions that must all hold; none: every node matches. Sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LabelSelector {
    /// Sorted conditions.
    pub constraints: Vec<LabelConstraint>,
}

impl LabelConstraint {
    /// Whether a label of this value meets the condition; `None`: there is no such label.
    pub fn is_met_by(&self, value: Option<&str>) -> bool {
        let listed = value.is_some_and(|value| self.values.iter().any(|other| other == value));
        match self.operator {
            LabelOperator::In => listed,
            LabelOperator::NotIn => !listed,
            LabelOperator::Unknown => false,
        }
    }
}

impl LabelSelector {
    /// Whether labels, looked up by key, meet all conditions.
    pub fn is_met_by<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.constraints.iter().all(|constraint| constraint.is_met_by(label(&constraint.key)))
    }
}

/// Ray's affinity of a bundle to the nodes of its own placement group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PlacementConstraint {
    /// On one node with every other request of the same constraint (STRICT_PACK).
    Affinity {
        /// `_PG_<hex>`.
        label: String,
        /// Empty in Ray 2.60.
        value: String,
    },
    /// Not on a node that has this label with this value (STRICT_SPREAD).
    AntiAffinity {
        /// `_PG_<hex>`.
        label: String,
        /// Empty in Ray 2.60.
        value: String,
    },
}

/// What one task, actor or bundle needs of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// Amounts; zero amounts are kept as they came.
    pub resources: Arc<Resources>,
    /// Alternatives in order of preference: the first is the user's, the rest are fall-backs. None, or one without
    /// conditions: every node matches.
    pub selectors: Vec<LabelSelector>,
    /// Placement relative to the own placement group.
    pub placement: Vec<PlacementConstraint>,
}

impl Request {
    /// Whether two ask the nodes for the same; those read from one message usually share their resources.
    pub(crate) fn is_like(&self, other: &Request) -> bool {
        let is_same = Arc::ptr_eq(&self.resources, &other.resources) || self.resources == other.resources;
        is_same && self.selectors == other.selectors
    }
}

/// A bundle is a request within a gang.
pub type Bundle = Request;

/// Identical requests, counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DemandClass {
    /// What each of them needs.
    pub request: Request,
    /// How many.
    pub count: u64,
}

/// Ray's placement strategies.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum GangStrategy {
    /// On as few nodes as possible.
    #[default]
    Pack,
    /// On as many nodes as possible.
    Spread,
    /// On one node.
    StrictPack,
    /// Each bundle on a node of its own.
    StrictSpread,
}

/// All bundles of a gang in one domain of a label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locality {
    /// Label whose value names the domain.
    pub label: String,
    /// How to use the domains; Ray 2.60 sends STRICT_PACK only.
    pub strategy: GangStrategy,
    /// Restriction to a domain already chosen.
    pub selector: LabelSelector,
}

/// A placement group, all or nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gang {
    /// Placement group id in hex; empty if the GCS did not say.
    pub id: String,
    /// Ray's own words (`<hex>:<STRATEGY>|<STATE>`).
    pub details: String,
    /// Strategy.
    pub strategy: GangStrategy,
    /// It was placed and lost nodes; `bundles` lists only what is missing.
    pub rescheduling: bool,
    /// What is to be placed.
    pub bundles: Vec<Bundle>,
    /// One domain for all bundles.
    pub locality: Option<Locality>,
    /// Unix time in ms at which it was created, where known.
    pub created_ms: Option<i64>,
    /// Higher is served first; Ray has none, traces and scenarios do.
    pub priority: i32,
}

/// One call of `request_resources`: the cluster's total must hold all of it at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Constraint {
    /// Requests with counts.
    pub requests: Vec<DemandClass>,
}
