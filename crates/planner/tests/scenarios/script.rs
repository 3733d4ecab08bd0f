//! The words in which a scenario tells a situation, and how they are read into a snapshot.
//!
//! Times are in seconds, amounts are numbers or have a binary suffix (`64Gi`), and whatever is left out is what one would
//! expect: a free node, one pod a replica, nothing in use.

use std::collections::BTreeMap;
use std::sync::Arc;

use mobula_planner::{
    Amount, CapacityType, Constraint, DemandClass, FabricWish, Gang, GangStrategy, GroupFacts, Host, LabelConstraint,
    LabelOperator, LabelSelector, Labels, Locality, Nearness, NodeType, Offering, PendingCause, PlacementConstraint,
    PolicyOptions, Quota, Request, Resources, Settings, TopologyLevel, UpscalingMode,
};
use serde::Deserialize;

/// A scenario: a situation, what happens next, and the plans that are expected.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What it shows, for people.
    pub shows: String,
    #[serde(default)]
    pub options: PolicyOptions,
    #[serde(default)]
    pub settings: SettingsLine,
    #[serde(default)]
    pub topology: Vec<LevelLine>,
    pub groups: Vec<GroupLine>,
    #[serde(default)]
    pub hosts: Vec<HostLine>,
    #[serde(default)]
    pub nodes: Vec<NodeLine>,
    #[serde(default)]
    pub quotas: Vec<QuotaLine>,
    #[serde(default)]
    pub tasks: Vec<TaskLine>,
    #[serde(default)]
    pub gangs: Vec<GangLine>,
    /// One list of requests a call.
    #[serde(default)]
    pub request_resources: Vec<Vec<TaskLine>>,
    /// What happens after each plan has been carried out.
    #[serde(default)]
    pub then: Vec<Step>,
    /// The expected output: the last entry of the file, because it is rewritten.
    #[serde(default)]
    pub plan: String,
}

/// What happens between two plans. What was launched is pending, what was ended is gone; lists replace those of before.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What happens, for people.
    pub shows: String,
    pub after_s: i64,
    /// Nodes of `group` that are in state `was` (or all of them) become what the line says; at most `count`.
    #[serde(default)]
    pub change: Vec<NodeLine>,
    /// Nodes that are gone, by name. Their pods are asked for still, as the replicas of the RayCluster don't change.
    #[serde(default)]
    pub lost: Vec<String>,
    pub hosts: Option<Vec<HostLine>>,
    pub quotas: Option<Vec<QuotaLine>>,
    pub tasks: Option<Vec<TaskLine>>,
    pub gangs: Option<Vec<GangLine>>,
    pub request_resources: Option<Vec<Vec<TaskLine>>>,
}

type Amounts = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupLine {
    name: String,
    has: Amounts,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    min: u32,
    #[serde(default = "ten")]
    max: u32,
    /// Pods in a replica.
    #[serde(default = "one")]
    hosts: u32,
    /// Price of a pod an hour.
    price: Option<f64>,
    #[serde(default)]
    capacity: CapacityType,
    #[serde(default)]
    priority: i32,
    idle_timeout_s: Option<i64>,
    #[serde(default)]
    suspended: bool,
    /// Labels that its nodes will have although it does not declare them.
    #[serde(default)]
    expects: Labels,
    /// What a pod requests of Kubernetes.
    #[serde(default)]
    pod: Amounts,
    #[serde(default)]
    node_selector: Labels,
    fabric: Option<FabricWish>,
    /// Level of the topology of which its gangs must have one domain.
    required: Option<String>,
    /// Level of the topology of which its gangs should have one domain.
    preferred: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelLine {
    name: String,
    keys: Vec<String>,
    #[serde(default)]
    is_fabric: bool,
    max_hosts: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostLine {
    names: Vec<String>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    free: Amounts,
    unfit: Option<String>,
}

/// How a node is.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A Ray node that has room.
    #[default]
    Free,
    /// A Ray node of which everything is in use.
    Busy,
    /// A pod in which Ray does not run yet.
    Pending,
    /// Asked for, but there is no pod.
    Requested,
    /// Drained, or named in `workersToDelete`.
    Leaving,
    /// A pod in which Ray has stopped.
    Stopped,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeLine {
    pub group: String,
    /// How many pods; pods of one replica follow each other.
    pub count: Option<usize>,
    /// Where the line changes nodes: those in this state.
    pub was: Option<State>,
    /// Where the line changes nodes: those of these names.
    pub names: Option<Vec<String>>,
    #[serde(default)]
    pub is: State,
    /// What is in use of a free node.
    #[serde(default)]
    pub used: Amounts,
    /// For how long it has been idle; a free node of which nothing is in use has been for 0 s.
    pub idle_s: Option<i64>,
    /// For how long it has been pending.
    #[serde(default)]
    pub pending_s: i64,
    pub cause: Option<PendingCause>,
    #[serde(default)]
    pub labels: Labels,
    /// Placement groups that have bundles there.
    #[serde(default)]
    pub gangs: Vec<String>,
    /// Names of the Kubernetes nodes, one a pod.
    #[serde(default)]
    pub on: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaLine {
    source: String,
    #[serde(default)]
    groups: Vec<String>,
    free: Amounts,
}

/// Tasks, bundles, or a part of what `request_resources` asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskLine {
    needs: Amounts,
    #[serde(default = "one_request")]
    count: u64,
    /// Label → `a, b` (one of them) or `!a, b` (none of them).
    #[serde(default, rename = "where")]
    labels: Labels,
    /// Alternatives to `where`, in order.
    #[serde(default)]
    or_else: Vec<Labels>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GangLine {
    id: String,
    strategy: GangStrategy,
    bundles: Vec<TaskLine>,
    /// The label of which all nodes must have one value.
    one: Option<String>,
    /// How long ago it was created.
    age_s: Option<i64>,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    rescheduling: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsLine {
    idle_timeout_s: Option<i64>,
    #[serde(default)]
    upscaling_mode: UpscalingMode,
    max_nodes: Option<u32>,
    max_in_flight: Option<u32>,
}

fn one() -> u32 {
    1
}

fn one_request() -> u64 {
    1
}

fn ten() -> u32 {
    10
}

/// `1.5`, `64Gi`.
fn amount(text: &str) -> Result<Amount, String> {
    let units = [("Ti", 40), ("Gi", 30), ("Mi", 20)];
    let (number, factor) = units
        .iter()
        .find_map(|(suffix, bits)| Some((text.strip_suffix(suffix)?, (1_u64 << bits) as f64)))
        .unwrap_or((text, 1.0));
    let number: f64 = number.trim().parse().map_err(|_| format!("{text:?} is not an amount"))?;
    Amount::from_f64(number * factor).ok_or_else(|| format!("{text:?} is not an amount"))
}

pub fn resources(amounts: &Amounts) -> Result<Resources, String> {
    amounts.iter().map(|(name, text)| Ok((name.clone(), amount(text)?))).collect()
}

fn selector(labels: &Labels) -> LabelSelector {
    let constraint = |(key, text): (&String, &String)| {
        let (operator, values) = match text.strip_prefix('!') {
            Some(values) => (LabelOperator::NotIn, values),
            None => (LabelOperator::In, text.as_str()),
        };
        let mut values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
        values.sort();
        LabelConstraint { key: key.clone(), operator, values }
    };
    LabelSelector { constraints: labels.iter().map(constraint).collect() }
}

impl TaskLine {
    fn request(&self) -> Result<Request, String> {
        let selectors = std::iter::once(&self.labels).chain(&self.or_else).map(selector).collect();
        Ok(Request { resources: Arc::new(resources(&self.needs)?), selectors, placement: Vec::new() })
    }

    pub fn class(&self) -> Result<DemandClass, String> {
        Ok(DemandClass { request: self.request()?, count: self.count })
    }
}

/// What one call of `request_resources` asks for.
pub fn constraint(lines: &[TaskLine]) -> Result<Constraint, String> {
    Ok(Constraint { requests: lines.iter().map(TaskLine::class).collect::<Result<_, _>>()? })
}

impl GangLine {
    pub fn gang(&self, now_ms: i64) -> Result<Gang, String> {
        let (label, value) = (format!("_PG_{}", self.id), String::new());
        let placement = match self.strategy {
            GangStrategy::Pack | GangStrategy::Spread => None,
            GangStrategy::StrictPack => Some(PlacementConstraint::Affinity { label, value }),
            GangStrategy::StrictSpread => Some(PlacementConstraint::AntiAffinity { label, value }),
        };
        let mut bundles = Vec::new();
        for line in &self.bundles {
            let bundle = Request { placement: placement.iter().cloned().collect(), ..line.request()? };
            bundles.extend(std::iter::repeat_n(bundle, usize::try_from(line.count).unwrap_or(usize::MAX)));
        }
        let locality = |label: &String| Locality {
            label: label.clone(),
            strategy: GangStrategy::StrictPack,
            ..Locality::default()
        };
        Ok(Gang {
            id: self.id.clone(),
            strategy: self.strategy,
            rescheduling: self.rescheduling,
            bundles,
            locality: self.one.as_ref().map(locality),
            created_ms: self.age_s.map(|age_s| now_ms - age_s * 1000),
            priority: self.priority,
            ..Gang::default()
        })
    }
}

impl GroupLine {
    pub fn node_type(&self) -> Result<NodeType, String> {
        let pod = resources(&self.pod)?;
        let extended = pod.iter().filter(|(name, _)| name.contains('/')).map(|(name, amount)| (name.clone(), *amount));
        let offering = |price_per_hour| Offering { price_per_hour, capacity_type: self.capacity, zone: None };
        Ok(NodeType {
            name: self.name.clone(),
            resources: Arc::new(resources(&self.has)?),
            labels: Arc::new(self.labels.clone()),
            num_of_hosts: self.hosts,
            min_replicas: self.min,
            max_replicas: self.max,
            idle_timeout_ms: self.idle_timeout_s.map(|seconds| seconds * 1000),
            priority: self.priority,
            suspended: self.suspended,
            offerings: self.price.map(offering).into_iter().collect(),
            facts: GroupFacts {
                extended_resources: extended.collect(),
                node_selector: self.node_selector.clone(),
                expected_labels: self.expects.clone(),
                pod_requests: pod,
                fabric: self.fabric,
                nearness: Nearness { required: self.required.clone(), preferred: self.preferred.clone() },
            },
            ..NodeType::default()
        })
    }
}

impl HostLine {
    pub fn hosts(&self) -> Result<Vec<Host>, String> {
        let (labels, free) = (Arc::new(self.labels.clone()), Arc::new(resources(&self.free)?));
        let host = |name: &String| Host {
            name: name.clone(),
            labels: labels.clone(),
            free: free.clone(),
            unfit: self.unfit.clone(),
        };
        Ok(self.names.iter().map(host).collect())
    }
}

impl QuotaLine {
    pub fn quota(&self) -> Result<Quota, String> {
        Ok(Quota { source: self.source.clone(), groups: self.groups.clone(), free: resources(&self.free)? })
    }
}

impl LevelLine {
    pub fn level(&self) -> TopologyLevel {
        TopologyLevel {
            name: self.name.clone(),
            keys: self.keys.clone(),
            is_fabric: self.is_fabric,
            max_hosts: self.max_hosts,
        }
    }
}

impl SettingsLine {
    pub fn settings(&self) -> Settings {
        let standard = Settings::default();
        Settings {
            idle_timeout_ms: self.idle_timeout_s.map(|seconds| seconds * 1000).or(standard.idle_timeout_ms),
            upscaling_mode: self.upscaling_mode,
            max_nodes: self.max_nodes,
            max_in_flight: self.max_in_flight,
            ..standard
        }
    }
}
