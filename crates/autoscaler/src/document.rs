//! A plan as people and programs read it: the JSON document of `mobula plan`, and a table.

mod table;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};

use mobula_planner::{
    Cost, DemandClass, GangPlan, GangStrategy, GroupPlan, LabelSelector, Move, Node, NodePhase, Plan, Reason, Request,
    Snapshot, Terminate, Unmet, UnmetCause, UnmetKind, Verdict,
};
use serde::Serialize;
use serde_json::{Value, json};

pub use table::table;

/// The document. Field names and their meaning are stable; fields may be added.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Document {
    /// Name of the policy.
    pub policy: String,
    /// Group → whole replicas that would be new: planned ones minus those that exist.
    pub launch: BTreeMap<String, u32>,
    /// Pods that would be ended.
    pub terminate: Vec<TerminateEntry>,
    /// Demand that stays unserved.
    pub infeasible: Vec<InfeasibleEntry>,
    /// Every worker group.
    pub groups: BTreeMap<String, GroupEntry>,
    /// Nodes that could be drained, if they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
    /// What the launches cost; absent where no prices are known or the policy weighs none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostEntry>,
    /// What becomes of each placement group; absent where there is none or the policy doesn't say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gangs: Vec<GangPlan>,
    /// Reasons.
    pub explain: Vec<ExplainEntry>,
}

/// What launches cost an hour, in whatever currency the prices are.
#[derive(Copy, Clone, Debug, PartialEq, Serialize)]
pub struct CostEntry {
    /// All launches of this plan, apart from hosts at an unknown price.
    pub launched_per_hour: f64,
    /// Hosts that are launched at an unknown price.
    #[serde(skip_serializing_if = "is_zero")]
    pub unpriced_hosts: u64,
    /// Serving the same demand, with the labels and groups that are preferred, costs at least so much; absent where some group has
    /// no price.
    pub lower_bound_per_hour: Option<f64>,
    /// Whether that bound is proven.
    pub proven: bool,
    /// By which part of the bound the launches cost more.
    pub gap: Option<f64>,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainEntry {
    /// What it is about: demand, a gang, a group, a node, or the input.
    pub subject: String,
    /// `fits`, `launch`, `terminate`, `resize`, `keep`, `unmet` or `note`.
    pub verdict: &'static str,
    /// Why, in one sentence.
    pub text: String,
}

/// One pod that would be ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TerminateEntry {
    /// Group name.
    pub group: String,
    /// Pod name.
    pub instance_id: String,
    /// Ray node id in hex; null if Ray does not run in it.
    pub ray_node_id: Option<String>,
    /// Why.
    pub reason: String,
}

/// Demand that stays unserved.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InfeasibleEntry {
    /// `task`, `gang` or `constraint`.
    pub kind: &'static str,
    /// Of a task its resources; of a gang the resources of each bundle; of a constraint a list of `{shape, count}`.
    pub shape: Value,
    /// How many of it.
    pub count: u64,
    /// Why, in words.
    pub reason: String,
    /// Why, in one word: `never_fits` (no group could ever hold it), `limit` or `waiting`.
    pub cause: UnmetCause,
    /// Placement group id in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Strategy of the placement group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<GangStrategy>,
    /// Label selectors of the task, in order of preference, as text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub label_selectors: Vec<String>,
}

/// Replicas of one group.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupEntry {
    /// Replicas that exist: have a pod or, where no pods were given, a live Ray node.
    pub current: u32,
    /// Replicas there should be.
    pub desired: u32,
    /// Fewest.
    pub min: u32,
    /// Most.
    pub max: u32,
}

impl Document {
    /// The document of a plan and the snapshot it was made from.
    pub fn new(snapshot: &Snapshot, plan: &Plan) -> Self {
        let groups = plan.groups.iter().map(|(name, group)| (name.clone(), group_entry(group))).collect();
        Document {
            policy: plan.policy.clone(),
            launch: new_replicas(snapshot, plan),
            terminate: plan.terminate.iter().map(terminate_entry).collect(),
            infeasible: plan.unmet.iter().map(infeasible_entry).collect(),
            groups,
            moves: plan.moves.iter().map(move_entry).collect(),
            cost: plan.cost.filter(|cost| cost.is_priced).map(cost_entry),
            gangs: plan.gangs.clone(),
            explain: plan.explain.iter().map(explain_entry).collect(),
        }
    }

    /// Adds what is worth knowing of the input: what was left out of it, what looks odd.
    pub fn note(&mut self, text: impl Into<String>) {
        self.explain.push(ExplainEntry { subject: "input".to_owned(), verdict: "note", text: text.into() });
    }
}

/// The document of a plan as a JSON value (keys in alphabetical order; [`Document`] itself keeps the documented order).
pub fn plan_document(snapshot: &Snapshot, plan: &Plan) -> Value {
    // A document holds strings, integers and finite numbers only: it always has a JSON form.
    serde_json::to_value(Document::new(snapshot, plan)).unwrap_or_default()
}

/// Group → planned replicas minus those that exist and stay. What the RayCluster already asks for but nothing shows yet
/// is new, too. Groups without any are left out, and those that are suspended, which have no pods.
pub fn new_replicas(snapshot: &Snapshot, plan: &Plan) -> BTreeMap<String, u32> {
    let mut staying: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let there = |node: &&Node| matches!(node.phase, NodePhase::Running | NodePhase::Pending);
    for node in snapshot.nodes.iter().filter(|node| !node.instance_id.is_empty()).filter(there) {
        staying.entry(&node.group).or_default().insert(node.replica.as_deref().unwrap_or(&node.instance_id));
    }
    for end in &plan.terminate {
        if let Some(replicas) = staying.get_mut(end.group.as_str()) {
            replicas.remove(end.replica.as_ref().unwrap_or(&end.instance_id).as_str());
        }
    }
    let launched = |name: &str, desired: u32| {
        let stay = staying.get(name).map_or(0, |replicas| u32::try_from(replicas.len()).unwrap_or(u32::MAX));
        desired.saturating_sub(stay)
    };
    let suspended: BTreeSet<&str> =
        snapshot.node_types.iter().filter(|group| group.suspended).map(|group| group.name.as_str()).collect();
    let groups = plan.groups.iter().filter(|(name, _)| !suspended.contains(name.as_str()));
    let all = groups.map(|(name, group)| (name.clone(), launched(name, group.desired)));
    all.filter(|(_, replicas)| *replicas > 0).collect()
}

fn group_entry(group: &GroupPlan) -> GroupEntry {
    GroupEntry { current: group.current, desired: group.desired, min: group.min, max: group.max }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// To the millionth: what is beyond is rounding.
fn rounded(amount: f64) -> f64 {
    (amount * 1e6).round() / 1e6
}

fn move_entry(proposed: &Move) -> Move {
    Move { saves_per_hour: proposed.saves_per_hour.map(rounded), ..proposed.clone() }
}

fn cost_entry(cost: Cost) -> CostEntry {
    let bound = cost.lower_bound_per_hour.map(rounded);
    let launched_per_hour = rounded(cost.launched_per_hour);
    let gap = bound.filter(|bound| *bound > 0.0).map(|bound| rounded((launched_per_hour / bound - 1.0).max(0.0)));
    let Cost { unpriced_hosts, is_proven: proven, .. } = cost;
    CostEntry { launched_per_hour, unpriced_hosts, lower_bound_per_hour: bound, proven, gap }
}

fn terminate_entry(end: &Terminate) -> TerminateEntry {
    TerminateEntry {
        group: end.group.clone(),
        instance_id: end.instance_id.clone(),
        ray_node_id: end.ray_node_id.clone(),
        reason: end.reason.clone(),
    }
}

fn infeasible_entry(unmet: &Unmet) -> InfeasibleEntry {
    let entry = InfeasibleEntry {
        kind: "task",
        shape: Value::Null,
        count: unmet.count,
        cause: unmet.cause,
        reason: unmet.reason.clone(),
        id: None,
        strategy: None,
        label_selectors: Vec::new(),
    };
    match &unmet.kind {
        UnmetKind::Task(request) => {
            InfeasibleEntry { shape: shape(request), label_selectors: selector_texts(request), ..entry }
        }
        UnmetKind::Gang(gang) => InfeasibleEntry {
            kind: "gang",
            shape: gang.bundles.iter().map(shape).collect(),
            id: Some(gang.id.clone()),
            strategy: Some(gang.strategy),
            ..entry
        },
        UnmetKind::Constraint(constraint) => {
            let counted = |class: &DemandClass| json!({"count": class.count, "shape": shape(&class.request)});
            InfeasibleEntry { kind: "constraint", shape: constraint.requests.iter().map(counted).collect(), ..entry }
        }
    }
}

fn explain_entry(reason: &Reason) -> ExplainEntry {
    let verdict = match reason.verdict {
        Verdict::Fits => "fits",
        Verdict::Launch => "launch",
        Verdict::Terminate => "terminate",
        Verdict::Resize => "resize",
        Verdict::Keep => "keep",
        Verdict::Unmet => "unmet",
    };
    ExplainEntry { subject: reason.subject.clone(), verdict, text: reason.text.clone() }
}

fn shape(request: &Request) -> Value {
    serde_json::to_value(request.resources.as_ref()).unwrap_or_default()
}

fn selector_texts(request: &Request) -> Vec<String> {
    let conditions = |selector: &LabelSelector| !selector.constraints.is_empty();
    let any = request.selectors.iter().any(conditions);
    request.selectors.iter().filter(|_| any).map(text::selector).collect()
}

#[cfg(test)]
mod tests;
