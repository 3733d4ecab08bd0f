//! What the GCS says and is told, in plain Rust: no protobuf type leaves this crate.
//!
//! Resource amounts are Ray's doubles. Maps are ordered. Node and cluster ids are the lower-case hex that everything
//! user-visible prints. Field meanings: Ray's `autoscaler.proto` and `gcs_service.proto` of 2.60.

use std::collections::BTreeMap;
use std::sync::Arc;

mod nodes;

pub use nodes::Nodes;

/// Resource name → amount.
pub type ResourceMap = BTreeMap<String, f64>;
/// Label key → value.
pub type LabelMap = BTreeMap<String, String>;

/// The answer to `GetClusterResourceState`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterState {
    /// Counts calls, not changes; restarts with the GCS.
    pub version: i64,
    /// `session_<date>_<time>_<usec>_<pid>`; changes when the head restarts.
    pub session_name: String,
    /// Live, draining and (cached) dead nodes.
    pub nodes: Nodes,
    /// Pending tasks and actors.
    pub pending: Vec<RequestByCount>,
    /// Pending placement groups.
    pub gangs: Vec<GangRequest>,
    /// `request_resources`: one list of counted requests an entry; an entry may be empty (= no constraint).
    pub constraints: Vec<Vec<RequestByCount>>,
}

/// Status of a node; values this version does not know read as `Unspecified`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeStatus {
    /// Not said, or not known to this version.
    #[default]
    Unspecified,
    /// Alive and in use.
    Running,
    /// Gone.
    Dead,
    /// Alive and idle.
    Idle,
    /// Accepted a drain.
    Draining,
}

/// One Ray node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeState {
    /// 56 hex digits.
    pub node_id: String,
    /// `RAY_CLOUD_INSTANCE_ID` of the node: the pod name under KubeRay; empty: nobody manages it.
    pub instance_id: String,
    /// Group name (`RAY_NODE_TYPE_NAME`).
    pub node_type: String,
    /// A resource that is used up is absent.
    pub available: Arc<ResourceMap>,
    /// Everything it has.
    pub total: Arc<ResourceMap>,
    /// `_PG_<hex>` for each placement group with a bundle here.
    pub dynamic_labels: LabelMap,
    /// Static labels.
    pub labels: Arc<LabelMap>,
    /// Status.
    pub status: NodeStatus,
    /// Only for idle nodes; grows between the GCS's own polls.
    pub idle_ms: i64,
    /// IP address.
    pub ip: String,
    /// Instance type name (empty under KubeRay).
    pub instance_type: String,
    /// What keeps it busy, for people; not cleared reliably.
    pub activity: Vec<String>,
}

/// Identical requests, counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestByCount {
    /// The request.
    pub request: ResourceRequest,
    /// How many; negative counts are kept as they came.
    pub count: i64,
}

/// What one task, actor or bundle needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceRequest {
    /// Amounts.
    pub resources: ResourceMap,
    /// Affinity and anti-affinity to the own placement group.
    pub placement: Vec<PlacementConstraint>,
    /// Alternatives in order of preference.
    pub selectors: Vec<LabelSelector>,
}

/// One entry of `placement_constraints`. Both or none may be set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlacementConstraint {
    /// Label name and value to keep away from.
    pub anti_affinity: Option<(String, String)>,
    /// Label name and value to be together with.
    pub affinity: Option<(String, String)>,
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSelector {
    /// Conditions as they came (not canonical).
    pub constraints: Vec<LabelConstraint>,
}

/// Comparison of a label.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum LabelOperator {
    /// Not said, or not known to this version.
    #[default]
    Unspecified,
    /// In the list.
    In,
    /// Not in the list, or absent.
    NotIn,
}

/// One condition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelConstraint {
    /// Label key.
    pub key: String,
    /// Comparison.
    pub operator: LabelOperator,
    /// Values as they came.
    pub values: Vec<String>,
}

/// Ray's placement strategies.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum PlacementStrategy {
    /// On few nodes.
    #[default]
    Pack,
    /// On many nodes.
    Spread,
    /// On one node.
    StrictPack,
    /// Each bundle on a node of its own.
    StrictSpread,
}

/// A pending placement group. May be empty (a group in transition): skip it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GangRequest {
    /// Bundles without selectors (legacy list).
    pub requests: Vec<ResourceRequest>,
    /// `<pgid hex>:<STRATEGY>|<STATE>`.
    pub details: String,
    /// Bundles with selectors; exactly one entry in 2.60.
    pub bundle_selectors: Vec<BundleSelector>,
}

/// One way to place a gang.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BundleSelector {
    /// Bundles.
    pub requests: Vec<ResourceRequest>,
    /// All in one domain of a label.
    pub locality: Option<LocalityRequirement>,
}

/// All bundles on nodes that share one value of a label.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocalityRequirement {
    /// Label name.
    pub label: String,
    /// How; 2.60 sends STRICT_PACK only.
    pub strategy: PlacementStrategy,
    /// Restriction to a domain already chosen.
    pub selector: LabelSelector,
}

/// What `ReportAutoscalingState` tells the GCS, hence `ray status` and the dashboard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AutoscalingState {
    /// The cluster state version it was made from.
    pub last_seen_cluster_state_version: i64,
    /// Must grow over the whole life of the head, also across restarts of ours: start from the time.
    pub version: i64,
    /// Instances asked for, not yet there. `ray status` counts entries, not `count`: one an instance.
    pub pending_instance_requests: Vec<PendingInstanceRequest>,
    /// Requests that no group could ever hold. GCS may cancel tasks of these shapes.
    pub infeasible_requests: Vec<ResourceRequest>,
    /// Gangs that no groups could ever hold.
    pub infeasible_gangs: Vec<GangRequest>,
    /// Constraints that no groups could ever hold.
    pub infeasible_constraints: Vec<Vec<RequestByCount>>,
    /// Instances that exist and do not run Ray yet.
    pub pending_instances: Vec<PendingInstance>,
    /// Instances that could not be had.
    pub failed_instance_requests: Vec<FailedInstanceRequest>,
}

/// See [`AutoscalingState::pending_instance_requests`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PendingInstanceRequest {
    /// Group name.
    pub node_type: String,
    /// 1.
    pub count: i32,
    /// Unix seconds.
    pub request_ts_s: i64,
}

/// See [`AutoscalingState::pending_instances`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PendingInstance {
    /// Group name.
    pub node_type: String,
    /// Pod name.
    pub instance_id: String,
    /// Address, if known.
    pub ip: String,
    /// State, for people.
    pub details: String,
}

/// See [`AutoscalingState::failed_instance_requests`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FailedInstanceRequest {
    /// Group name.
    pub node_type: String,
    /// 1.
    pub count: i32,
    /// Why.
    pub reason: String,
    /// Unix seconds.
    pub start_ts_s: i64,
    /// Unix seconds.
    pub failed_ts_s: i64,
}

/// Why a node is drained. (The wire's third value, 0, aborts the raylet and can't be expressed.)
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DrainReason {
    /// Only if it is idle: the raylet decides.
    IdleTermination,
    /// It will go away whatever it does.
    Preemption,
}

/// What the raylet said to a drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrainOutcome {
    /// It will leave (or is gone already).
    Accepted,
    /// It stays; its words.
    Rejected(String),
}

/// A node of the node table (`GetAllNodeInfo`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeInfo {
    /// 56 hex digits.
    pub node_id: String,
    /// IP address.
    pub address: String,
    /// Port of its metrics endpoint (Prometheus text at `/metrics`); 0: none.
    pub metrics_export_port: i32,
    /// Whether it is alive.
    pub alive: bool,
    /// Whether it is the head.
    pub is_head: bool,
    /// Pod name.
    pub instance_id: String,
    /// Group name.
    pub node_type: String,
    /// Everything it has.
    pub resources_total: ResourceMap,
    /// Static labels.
    pub labels: LabelMap,
    /// Session directory on the node (`/tmp/ray/session_…`), where the GCS gives it.
    pub session_dir: String,
    /// Directory above the session directories, where the GCS gives it.
    pub temp_dir: String,
}

/// A job of the job table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobInfo {
    /// Job id in hex.
    pub job_id: String,
    /// Whether it has ended.
    pub is_dead: bool,
    /// Ray namespace of the driver.
    pub namespace: String,
    /// Unix ms; 0: not ended.
    pub end_time_ms: u64,
}

/// A placement group of the table: what the demand hides about a gang.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlacementGroupInfo {
    /// Hex id.
    pub id: String,
    /// Name given by the user.
    pub name: String,
    /// Owning job id in hex.
    pub job_id: String,
    /// Unix ms.
    pub created_ms: i64,
    /// Label → domain chosen.
    pub topology_assignments: LabelMap,
}

/// v1 heads: the demand as `GetAllResourceUsage` and the key-value store give it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LegacyDemand {
    /// Pending tasks and actors.
    pub pending: Vec<RequestByCount>,
    /// Pending placement groups, in the form of [`GangRequest`].
    pub gangs: Vec<GangRequest>,
    /// `request_resources`, in the form of [`ClusterState::constraints`].
    pub constraints: Vec<Vec<RequestByCount>>,
}

/// Form of `ReportClusterConfig`, which tells Ray Data and others how far the cluster can grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterConfig {
    /// One entry a group.
    pub groups: Vec<NodeGroupConfig>,
}

/// A group in [`ClusterConfig`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeGroupConfig {
    /// Group name.
    pub name: String,
    /// Whole units of each resource of one node.
    pub resources: BTreeMap<String, u64>,
    /// Fewest nodes.
    pub min_count: u32,
    /// Most nodes; -1: no limit.
    pub max_count: i32,
}
