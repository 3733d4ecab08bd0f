//! What a user asks for: the world, the manifests, the work, what goes wrong. Everything is checked before anything runs, and
//! what can't be done is refused by name.

mod check;
mod faults;
mod read;
mod recurrence;
mod refuse;
mod trace;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use mobula_traces::jobs::Job;
use serde::Deserialize;
use serde_json::Value;

pub use check::find_cluster;
pub use faults::{Fault, FaultKind};
pub use read::{BadScenario, Files};
pub use recurrence::Recurrence;
pub use trace::{QueueOrder, Trace};
pub use work::{Bundles, Gang, Step, Strategy, Tasks, What};

use crate::chance::Spread;
use crate::span::Span;

/// A commented scenario to start from.
pub const TEMPLATE: &str = include_str!("../../scenarios/first-steps.yaml");

/// A value, and where in the file it is.
pub type At<T> = serde_saphyr::Spanned<T>;

/// A scenario. Defaults are those of a small cluster on a calm day.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a sentence.
    #[serde(default)]
    pub about: String,
    /// How long is simulated.
    pub horizon: Span,
    /// The seeds that are run.
    #[serde(default = "default_seeds")]
    pub seeds: Vec<u64>,
    /// The policies that are run.
    #[serde(default = "default_policies")]
    pub policies: Vec<At<String>>,
    /// Files of manifests, relative to the scenario.
    #[serde(default)]
    pub manifests: Vec<At<String>>,
    /// Manifests that are written here.
    #[serde(default)]
    pub objects: Vec<At<Value>>,
    /// Kinds of Kubernetes nodes.
    pub nodes: Vec<At<NodePool>>,
    /// Who adds and removes nodes.
    #[serde(default)]
    pub provisioner: Provisioner,
    /// How pods are placed.
    #[serde(default)]
    pub scheduler: Scheduler,
    /// How pods start.
    #[serde(default)]
    pub pods: Pods,
    /// How Ray behaves.
    #[serde(default)]
    pub ray: Ray,
    /// The operator.
    #[serde(default)]
    pub operator: OperatorSettings,
    /// The sidecars.
    #[serde(default)]
    pub sidecar: SidecarSettings,
    /// The way to the API server.
    #[serde(default)]
    pub network: Network,
    /// What is to be done.
    #[serde(default)]
    pub work: Vec<At<Step>>,
    /// Work from a trace.
    #[serde(default)]
    pub trace: Option<At<Trace>>,
    /// The jobs of the trace, in order of arrival.
    #[serde(skip)]
    pub jobs: Arc<Vec<Job>>,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<At<Fault>>,
}

impl Scenario {
    /// After this time nothing new comes, and nothing goes wrong.
    pub fn last_planned(&self) -> Span {
        let work = self.work.iter().map(|step| step.value.recurrence().last());
        let faults = self.faults.iter().map(|fault| {
            let fault = &fault.value;
            fault.recurrence().last().plus(fault.lasts.unwrap_or_default())
        });
        let jobs = self.jobs.last().map(|job| Span::from_ms(job.arrival_ms));
        work.chain(jobs).chain(faults).max().unwrap_or_default()
    }
}

fn default_seeds() -> Vec<u64> {
    vec![1]
}

fn default_policies() -> Vec<At<String>> {
    vec![At::new("mobula".to_owned(), serde_saphyr::Location::UNKNOWN, serde_saphyr::Location::UNKNOWN)]
}

/// Kubernetes nodes that are alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NodePool {
    /// Name; nodes are called `NAME-0`, `NAME-1`, ….
    pub name: String,
    /// How many there are from the beginning; they never go.
    #[serde(default)]
    pub count: u32,
    /// Most nodes that the provisioner may have beside them.
    #[serde(default)]
    pub most: u32,
    /// What one node has for pods: `cpu`, `memory`, `nvidia.com/gpu`, ….
    pub capacity: BTreeMap<String, Value>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Labels that differ from node to node: node i has the value number i modulo their count.
    #[serde(default)]
    pub spread_labels: BTreeMap<String, Vec<String>>,
    /// Labels that a number of nodes in a row share: `{nvidia.com/gpu.clique: 18}`.
    #[serde(default)]
    pub block_labels: BTreeMap<String, u32>,
    /// Taints: `{key, value, effect}`.
    #[serde(default)]
    pub taints: Vec<Taint>,
    /// Price of a node an hour.
    #[serde(default)]
    pub price_per_hour: f64,
    /// From the provisioner's order to a ready node.
    #[serde(default = "default_latency")]
    pub latency: Spread,
    /// Probability that an order is answered by "no capacity".
    #[serde(default)]
    pub stock_out: f64,
    /// Life of a spot node; none: it is not taken away.
    #[serde(default)]
    pub spot_life: Option<Spread>,
}

fn default_latency() -> Spread {
    Spread::Constant(Span::from_s(60))
}

/// A taint of a node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    #[serde(default)]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// Who adds and removes nodes.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Provisioner {
    /// Whose habits it has.
    pub like: ProvisionerKind,
    /// How often it looks at pods that wait. Default: 10 s for the cluster-autoscaler, 1 s for Karpenter.
    pub scan: Option<Span>,
    /// How long a node must have been empty before it goes. Default: 10 min and 30 s.
    pub empty_for: Option<Span>,
    /// How long a pool is left alone that had no capacity. Default: 5 min and 3 min.
    pub back_off: Option<Span>,
}

impl Default for Provisioner {
    fn default() -> Self {
        Provisioner { like: ProvisionerKind::ClusterAutoscaler, scan: None, empty_for: None, back_off: None }
    }
}

/// Whose habits a provisioner has.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProvisionerKind {
    /// Kubernetes' cluster-autoscaler.
    ClusterAutoscaler,
    /// Karpenter.
    Karpenter,
}

/// How pods are placed.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Scheduler {
    /// From a pod that could be placed to its being bound.
    pub latency: Span,
    /// Which of the nodes that fit is taken.
    pub score: Score,
}

impl Default for Scheduler {
    fn default() -> Self {
        Scheduler { latency: Span::from_ms(20), score: Score::LeastAllocated }
    }
}

/// Which of the nodes that fit is taken.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// The emptiest, kube-scheduler's default.
    LeastAllocated,
    /// The fullest.
    MostAllocated,
}

/// How pods start and end.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Pods {
    /// Pulling an image that the node does not have.
    pub pull: Spread,
    /// All init containers together.
    pub init: Spread,
    /// From started containers to a registered Ray node (of the head: to a GCS that answers).
    pub register: Spread,
    /// From a deletion to the end of the pod.
    pub stop: Spread,
    /// Probability that a worker's Ray container fails instead of registering.
    pub fail: f64,
}

impl Default for Pods {
    fn default() -> Self {
        Pods {
            pull: Spread::LogNormal { median: Span::from_s(20), p99: Span::from_s(90) },
            init: Spread::Constant(Span::from_s(1)),
            register: Spread::Uniform(Span::from_s(3), Span::from_s(6)),
            stop: Spread::Uniform(Span::from_s(1), Span::from_s(3)),
            fail: 0.0,
        }
    }
}

/// How Ray behaves.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Ray {
    /// How often the GCS asks raylets for their load: so old its picture of tasks and resources may be.
    pub poll: Span,
    /// From a registered Ray node to its first worker processes: what is placed on it before begins then.
    pub workers: Spread,
    /// From the end of a raylet that does not say goodbye to the GCS calling it dead.
    pub death_after: Span,
    /// How long a call of the GCS takes.
    pub latency: Spread,
}

impl Default for Ray {
    fn default() -> Self {
        Ray {
            poll: Span::from_s(1),
            workers: Spread::Constant(Span::ZERO),
            death_after: Span::from_ms(12_500),
            latency: Spread::Constant(Span::from_ms(1)),
        }
    }
}

/// The operator.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct OperatorSettings {
    /// Whose gangs wait until they fit as a whole: `off`, `annotated` or `all`.
    pub gang_admission: GangAdmission,
}

/// Whose gangs wait until they fit as a whole.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GangAdmission {
    /// Nobody's.
    #[default]
    Off,
    /// Those of RayClusters that are annotated so.
    Annotated,
    /// All.
    All,
}

/// The sidecars.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SidecarSettings {
    /// Shortest time between two polls.
    pub interval: Span,
    /// Whether the Role allows what Mobula can use beyond KubeRay's stock Role.
    pub wide_role: bool,
    /// Most pods on their way at once.
    pub max_in_flight: Option<u32>,
    /// Work a tick on making plans cheaper (policy `mobula`).
    pub improve_work: u64,
    /// A preset of topology levels.
    pub topology: Option<At<String>>,
    /// Price of one pod an hour by group, as the file of `--prices` has it.
    pub prices: Option<At<Value>>,
}

impl Default for SidecarSettings {
    fn default() -> Self {
        SidecarSettings {
            interval: Span::from_s(1),
            wide_role: true,
            max_in_flight: None,
            improve_work: 0,
            topology: None,
            prices: None,
        }
    }
}

/// The way to the API server.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Network {
    /// A request and its answer.
    pub latency: Spread,
    /// Probability that a request is answered by an error of the server.
    pub errors: f64,
    /// Probability that a connection breaks, half before and half after the server has done what is asked.
    pub losses: f64,
    /// How long events of a watch are on their way.
    pub watch_lag: Spread,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            latency: Spread::Uniform(Span::from_ms(2), Span::from_ms(8)),
            errors: 0.0,
            losses: 0.0,
            watch_lag: Spread::Constant(Span::ZERO),
        }
    }
}
