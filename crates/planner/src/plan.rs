//! What should change, and why: a value that is complete before anything is done.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Amount, Gang, Request, Resources, Versions};

/// Most pods that one plan launches.
///
/// A tick has to end, and a plan has to fit into memory, whatever counts it was made from: tasks, `request_resources` and
/// minima are numbers that anybody can write. What is beyond is left to later ticks, which find these pods on their way.
pub const MAX_LAUNCHES: u64 = 20_000;

/// The decision of one tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// Name of the policy that made it.
    pub policy: String,
    /// What it was made from.
    pub versions: Versions,
    /// Replicas of every worker group before and after.
    pub groups: BTreeMap<String, GroupPlan>,
    /// Whole replicas to start, beyond those that were already asked for: at most [`MAX_LAUNCHES`] pods.
    pub launch: Vec<Launch>,
    /// Instances to end. Every pod of a multi-host replica has an entry of its own.
    pub terminate: Vec<Terminate>,
    /// Pods to resize in place.
    pub resize: Vec<Resize>,
    /// Nodes that could be drained because others have room for all that they run: proposals, which nobody carries out. Empty
    /// unless they are asked for.
    pub moves: Vec<Move>,
    /// Demand that this plan does not serve.
    pub unmet: Vec<Unmet>,
    /// Reasons for what is done and for what is not.
    pub explain: Vec<Reason>,
    /// Where each piece of served demand is meant to run, for checks; empty for policies that don't say. Ray itself decides
    /// where work runs. Not a part of recordings: it follows from the rest, and is large.
    #[serde(skip)]
    pub placements: Vec<Placement>,
    /// What becomes of each placement group, in the order of the snapshot; empty for policies that don't say.
    pub gangs: Vec<GangPlan>,
    /// What the launches cost, and the least that they could; `None` for policies that don't say.
    pub cost: Option<Cost>,
}

/// Identical pieces of demand on one node.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// What.
    pub demand: DemandRef,
    /// Where.
    pub target: Target,
    /// How many.
    pub count: u64,
}

/// A piece of the snapshot's demand.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DemandRef {
    /// Index into [`crate::Snapshot::demand`].
    Class(u32),
    /// Bundles `first_bundle..first_bundle + count` of a gang (equal ones), where `count` is that of the placement.
    Gang {
        /// Index into [`crate::Snapshot::gangs`].
        gang: u32,
        /// Index into its bundles.
        first_bundle: u32,
    },
}

/// A node that exists, is on its way, or is launched by the plan.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Index into [`crate::Snapshot::nodes`].
    Node(u32),
    /// A node that the plan launches.
    New {
        /// Index into [`crate::Snapshot::node_types`].
        group: u32,
        /// Which of the replicas that the plan launches for this group.
        replica: u32,
        /// Which host of the replica.
        host: u32,
    },
}

/// What becomes of a placement group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GangPlan {
    /// Placement group id in hex.
    pub id: String,
    /// Whether all of its bundles have a place.
    pub served: bool,
    /// Groups of which something is launched for it, with the hosts it takes of each.
    pub new_hosts: BTreeMap<String, u32>,
    /// Hosts that exist or are on their way and that it takes.
    pub present_hosts: u32,
    /// The one domain it is kept in, as `label=value`, if it is kept in one.
    pub domain: Option<String>,
    /// The one fabric (RDMA) it is kept in, if it is kept in one.
    pub fabric: Option<String>,
    /// What it waits for, or why it can't be served; empty if it is served by what is there.
    pub reason: String,
}

/// What the launches of a plan cost.
#[derive(Copy, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// Whether the numbers are prices an hour; without prices they are scarcity, comparable only within one plan.
    pub is_priced: bool,
    /// What is launched costs so much, apart from hosts at an unknown price.
    pub launched_per_hour: f64,
    /// Hosts that are launched at an unknown price, where others have one.
    pub unpriced_hosts: u64,
    /// Serving the same demand by launches, with the labels and groups that are preferred, costs at least so much; `None`: no bound
    /// was looked for, or some group has no price.
    pub lower_bound_per_hour: Option<f64>,
    /// Whether the bound is proven.
    pub is_proven: bool,
    /// Work that was spent on improving the plan (pivots, columns, search nodes).
    pub work: u64,
}

/// Replicas of one group. All counts are replicas, not pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupPlan {
    /// Replicas that exist (have a pod or a Ray node) and are not leaving.
    pub current: u32,
    /// Replicas the RayCluster asks for now.
    pub requested: u32,
    /// Replicas there should be. Those that can't go yet count beyond the most, too: see [`Self::asks`].
    pub desired: u32,
    /// Fewest.
    pub min: u32,
    /// Most.
    pub max: u32,
}

impl GroupPlan {
    /// The value to write to `replicas`. More than the most is never asked for: whoever reads it takes it for the most.
    pub fn asks(&self) -> u32 {
        self.desired.min(self.max.max(self.min))
    }

    /// Whether more replicas are to be asked for than now.
    pub fn grows(&self) -> bool {
        self.asks() > self.requested
    }

    /// Whether fewer replicas are to be asked for than now.
    pub fn shrinks(&self) -> bool {
        self.asks() < self.requested
    }
}

/// New replicas of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Launch {
    /// Group name.
    pub group: String,
    /// Whole replicas beyond those requested so far.
    pub replicas: u32,
    /// What they are for, for people.
    pub reason: String,
}

/// Why an instance ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TerminateCause {
    /// Idle for longer than its time-out and not needed.
    Idle,
    /// Its group is gone, or its launch configuration changed.
    Outdated,
    /// More than the group's most.
    MaxPerGroup,
    /// More than the cluster's most.
    MaxNodes,
    /// Its pod never became a Ray node.
    AllocationTimeout,
    /// Ray in it has stopped; the pod is left over.
    RayStopped,
}

/// How Ray is told before the pod goes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainKind {
    /// Only if it is still idle: the raylet decides, and may refuse.
    IfIdle,
    /// At once, whatever it does.
    Stop,
    /// No Ray node there.
    NotNeeded,
}

/// One instance to end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terminate {
    /// Group name.
    pub group: String,
    /// Pod name.
    pub instance_id: String,
    /// Ray node id in hex, if Ray runs in it.
    pub ray_node_id: Option<String>,
    /// Name of its multi-host replica.
    pub replica: Option<String>,
    /// Why.
    pub cause: TerminateCause,
    /// Why, for people.
    pub reason: String,
    /// What Ray is told first.
    pub drain: DrainKind,
}

/// One pod to resize in place, to absolute limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resize {
    /// Pod name.
    pub instance_id: String,
    /// Ray node id in hex.
    pub ray_node_id: Option<String>,
    /// Group name.
    pub group: String,
    /// New CPU limit.
    pub cpu: Amount,
    /// New memory limit in bytes.
    pub memory: Amount,
}

/// A node that could be drained, and the one that has room for all that it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Move {
    /// Group name of both.
    pub group: String,
    /// Pod that could go.
    pub instance_id: String,
    /// Its Ray node id in hex.
    pub ray_node_id: Option<String>,
    /// Pod that has room.
    pub to: String,
    /// What is in use of the node that could go.
    pub resources: Resources,
    /// Its price; `None`: unknown.
    pub saves_per_hour: Option<f64>,
}

/// What kind of demand is not served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnmetKind {
    /// Identical tasks or actors.
    Task(Request),
    /// A whole placement group.
    Gang(Gang),
    /// A `request_resources` call: all its requests.
    Constraint(crate::Constraint),
}

/// Why demand is not served.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnmetCause {
    /// No group could ever hold it, however large: the user must change the request or the groups.
    NeverFits,
    /// A group could hold it, but a limit (group or cluster maximum, upscaling mode, suspension) is in the way.
    Limit,
    /// It is held back until capacity that is on its way arrives.
    Waiting,
}

/// Demand that is not served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unmet {
    /// What.
    pub kind: UnmetKind,
    /// How many of it.
    pub count: u64,
    /// Class of the reason.
    pub cause: UnmetCause,
    /// The reason, for people.
    pub reason: String,
}

/// What was decided of a subject.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Fits on what is there.
    Fits,
    /// Something is launched for it.
    Launch,
    /// Something ends.
    Terminate,
    /// Something is resized.
    Resize,
    /// It stays as it is, although one might expect otherwise.
    Keep,
    /// It is not served.
    Unmet,
}

/// One reason. Logs, Events, metrics, `ray status` and `mobula explain` are renderings of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// What it is about: `demand {CPU: 1} x 5`, `gang <hex>`, `group gpu`, `node <pod>`.
    pub subject: String,
    /// What was decided.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub text: String,
}
