//! Invariants that every plan keeps, whatever policy made it: an independent check, run before a plan is applied.
//!
//! A plan that says where served demand runs is checked against that too: capacity, labels, whole gangs, domains, fabrics, quotas.

mod dynamic;
mod fabrics;
mod gangs;
mod moves;
mod nearness;
mod places;

pub use dynamic::{apply, idempotence, monotonicity};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::roster::{Row, roster};
use crate::{
    DrainKind, Gang, GroupPlan, Host, MAX_LAUNCHES, Node, NodePhase, NodeType, Plan, Request, Snapshot, Terminate,
    TerminateCause, UnmetKind,
};

/// How bad a broken invariant is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Odd, but applying the plan does no harm.
    Warning,
    /// The plan must not be applied.
    Error,
}

/// One broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// How bad it is.
    pub severity: Severity,
    /// Name of the invariant.
    pub rule: &'static str,
    /// What it is broken by, for people.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

/// Checks `plan` against `snapshot`. Empty: the plan may be applied.
pub fn lint(snapshot: &Snapshot, plan: &Plan) -> Vec<Violation> {
    let mut check = Check::new(snapshot, plan);
    check.groups();
    check.launches();
    check.cluster_maximum();
    check.terminations();
    check.replicas();
    check.resizes();
    check.moves();
    check.unmet();
    if !plan.placements.is_empty() || !plan.gangs.is_empty() {
        let places = check.places();
        check.rooms(&places);
        check.served(&places);
        check.gangs(&places);
        check.quotas();
    }
    check.violations
}

/// Most violations of one rule that are listed: a plan that is wrong all over is wrong for the same reason.
const MOST_OF_A_RULE: u32 = 20;

struct Check<'a> {
    snapshot: &'a Snapshot,
    plan: &'a Plan,
    groups: BTreeMap<&'a str, &'a NodeType>,
    /// The nodes of the snapshot at a glance.
    roster: Vec<Row>,
    /// By group name: its pods that exist and stay.
    kept: BTreeMap<&'a str, Kept<'a>>,
    /// By pod, where the plan names some.
    nodes: BTreeMap<&'a str, &'a Node>,
    ended: BTreeSet<&'a str>,
    found: BTreeMap<&'static str, u32>,
    violations: Vec<Violation>,
}

impl<'a> Check<'a> {
    fn new(snapshot: &'a Snapshot, plan: &'a Plan) -> Self {
        let workers = snapshot.node_types.iter().filter(|group| !group.is_head);
        let names_pods = !plan.terminate.is_empty() || !plan.resize.is_empty();
        let named = snapshot.nodes.iter().filter(|_| names_pods);
        let roster = roster(snapshot);
        let ended: BTreeSet<&str> = plan.terminate.iter().map(|end| end.instance_id.as_str()).collect();
        Check {
            snapshot,
            plan,
            groups: workers.map(|group| (group.name.as_str(), group)).collect(),
            kept: kept(snapshot, &roster, &ended),
            roster,
            nodes: named.map(|node| (&*node.instance_id, node)).collect(),
            ended,
            found: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    /// (The snapshot's own index: whoever looks up a host trusts it.)
    fn host(&self, name: &str) -> Option<&'a Host> {
        self.snapshot.hosts.get(self.snapshot.hosts.place_of(name)?)
    }

    fn error(&mut self, rule: &'static str, text: String) {
        self.violation(Severity::Error, rule, text);
    }

    fn warning(&mut self, rule: &'static str, text: String) {
        self.violation(Severity::Warning, rule, text);
    }

    fn violation(&mut self, severity: Severity, rule: &'static str, text: String) {
        let found = self.found.entry(rule).or_default();
        *found += 1;
        if *found <= MOST_OF_A_RULE {
            self.violations.push(Violation { severity, rule, text });
        }
    }

    fn groups(&mut self) {
        for name in self.plan.groups.keys() {
            if !self.groups.contains_key(name.as_str()) {
                self.error("group-exists", format!("{name} is not a worker group"));
            }
        }
        for (name, group) in self.groups.clone() {
            match self.plan.groups.get(name) {
                None => self.error("group-planned", format!("nothing is said of {name}")),
                Some(planned) => self.group(group, planned),
            }
        }
    }

    fn group(&mut self, group: &NodeType, planned: &GroupPlan) {
        let (name, desired) = (&group.name, planned.desired);
        if (planned.min, planned.max, planned.requested)
            != (group.min_replicas, group.max_replicas, group.requested_replicas)
        {
            self.error("group-as-observed", format!("{name} is not as it was observed: {planned:?}"));
        }
        if group.suspended {
            if desired != group.requested_replicas {
                self.error("suspended", format!("{name} is suspended, but is to have {desired} replicas"));
            }
            return;
        }
        let kept = self.replicas_kept(group);
        if desired < kept {
            self.error("desired-covers-kept", format!("{name} keeps {kept} replicas, but is to have {desired}"));
        }
        if desired > group.max_replicas && desired > kept {
            self.error("maximum", format!("{name} is to have {desired} replicas, more than {}", group.max_replicas));
        } else if desired > group.max_replicas {
            self.warning("maximum", format!("{name} keeps {desired} replicas, more than {}", group.max_replicas));
        }
        let floor = group.min_replicas.min(group.max_replicas);
        let capped = self.snapshot.settings.max_nodes.is_some() || self.has_quota(name);
        if desired < floor && !capped && self.minima_in_reach() {
            self.error("minimum", format!("{name} is to have {desired} replicas, fewer than {floor}"));
        }
    }

    /// Whether a quota may keep a group below its minimum.
    fn has_quota(&self, group: &String) -> bool {
        self.snapshot.quotas.iter().any(|quota| quota.groups.is_empty() || quota.groups.contains(group))
    }

    /// Whether one plan may launch everything that the groups lack of their minima.
    fn minima_in_reach(&self) -> bool {
        let groups = self.groups.values().filter(|group| !group.suspended);
        let lacks = groups.map(|group| {
            let floor = group.min_replicas.min(group.max_replicas);
            pods(group, floor.saturating_sub(self.replicas_kept(group)))
        });
        lacks.sum::<u128>() <= u128::from(MAX_LAUNCHES)
    }

    /// Replicas of which some pod exists and stays.
    fn replicas_kept(&self, group: &NodeType) -> u32 {
        let Some(Kept { names, count }) = self.kept.get(group.name.as_str()) else { return 0 };
        let named = if group.num_of_hosts > 1 { names.len() } else { 0 };
        u32::max(named as u32, u32::div_ceil(*count, group.num_of_hosts.max(1)))
    }

    /// The worker group of a node.
    fn group_of_node(&self, node: u32) -> Option<&'a NodeType> {
        let row = self.roster.get(node as usize)?;
        self.snapshot.node_types.get(row.group()).filter(|group| !group.is_head)
    }

    fn launches(&mut self) {
        let mut seen = BTreeSet::new();
        let launched = self.plan.launch.iter().filter_map(|launch| {
            let group = self.groups.get(launch.group.as_str())?;
            Some(pods(group, launch.replicas))
        });
        let launched = launched.sum::<u128>();
        if launched > u128::from(MAX_LAUNCHES) {
            self.error("launch-limit", format!("{launched} pods are launched, more than {MAX_LAUNCHES}"));
        }
        for launch in &self.plan.launch {
            let name = launch.group.as_str();
            if !seen.insert(name) {
                self.error("launch-once", format!("{name} is launched twice"));
            }
            let (Some(group), Some(planned)) = (self.groups.get(name).copied(), self.plan.groups.get(name)) else {
                self.error("launch-group-exists", format!("{name} is not a worker group"));
                continue;
            };
            let more = planned.desired.saturating_sub(planned.requested);
            if launch.replicas == 0 || launch.replicas > more {
                let text = format!("{} replicas of {name} are launched: {planned:?}", launch.replicas);
                self.error("launch-arithmetic", text);
            }
            if group.suspended {
                self.error("suspended", format!("{name} is suspended, but launched"));
            }
            let surplus = |end: &&Terminate| {
                let surplus =
                    matches!(end.cause, TerminateCause::Idle | TerminateCause::MaxPerGroup | TerminateCause::MaxNodes);
                end.group == name && surplus
            };
            if let Some(end) = self.plan.terminate.iter().find(surplus) {
                self.error("launch-or-end", format!("{name} is launched, while {} ends", end.instance_id));
            }
        }
    }

    fn cluster_maximum(&mut self) {
        let Some(most) = self.snapshot.settings.max_nodes.map(u128::from).filter(|most| *most > 0) else {
            return;
        };
        let planned = self.plan.groups.iter().filter_map(|(name, planned)| {
            let group = self.groups.get(name.as_str()).filter(|group| !group.suspended)?;
            Some(pods(group, planned.desired))
        });
        let others = self.snapshot.nodes.iter().filter(|node| {
            let gone = matches!(node.phase, NodePhase::Leaving | NodePhase::Stopped | NodePhase::Requested);
            !gone && (node.is_head || node.instance_id.is_empty())
        });
        let nodes = planned.sum::<u128>() + others.count() as u128;
        if nodes > most && !self.plan.launch.is_empty() {
            self.error("cluster-maximum", format!("{nodes} nodes are planned, more than {most}"));
        }
    }

    fn terminations(&mut self) {
        let mut seen = BTreeSet::new();
        for end in &self.plan.terminate {
            let id = end.instance_id.as_str();
            if !seen.insert(id) {
                self.error("end-once", format!("{id} ends twice"));
            }
            let Some(node) = self.nodes.get(id).copied().filter(|_| !id.is_empty()) else {
                self.error("end-exists", format!("there is no pod {id:?}"));
                continue;
            };
            if node.is_head {
                self.error("end-no-head", format!("{id} is the head"));
            }
            if matches!(node.phase, NodePhase::Requested | NodePhase::Leaving) {
                self.error("end-exists", format!("{id} is {:?}: there is nothing to end", node.phase));
            }
            if (end.group.as_str(), &end.ray_node_id, &end.replica) != (&*node.group, &node.ray_node_id, &node.replica)
            {
                self.error("end-as-observed", format!("{id} is not as it was observed: {end:?}"));
            }
            self.termination(end, node);
        }
    }

    fn termination(&mut self, end: &Terminate, node: &Node) {
        let (id, running) = (&end.instance_id, node.phase == NodePhase::Running);
        let fits = match (end.drain, end.cause) {
            (DrainKind::NotNeeded, _) => !running,
            (DrainKind::Stop, cause) => running && cause != TerminateCause::Idle,
            (DrainKind::IfIdle, _) => running,
        };
        if !fits {
            self.error("end-drain", format!("{id} is {:?} and ends as {:?} by {:?}", node.phase, end.cause, end.drain));
        }
        if end.cause == TerminateCause::Idle && running {
            let settings = &self.snapshot.settings;
            let group = self.groups.get(&*node.group);
            let most_ms = group.and_then(|group| group.idle_timeout_ms).or(settings.idle_timeout_ms);
            if node.idle_ms.is_none_or(|idle_ms| most_ms.is_none_or(|most_ms| idle_ms <= most_ms)) {
                self.error("end-idle", format!("{id} is not idle for long enough: {:?} ms", node.idle_ms));
            }
        }
    }

    /// Pods of a multi-host replica end together.
    fn replicas(&mut self) {
        let mut replicas: BTreeMap<(&str, Option<&str>), (u32, u32)> = BTreeMap::new();
        for (at, node) in (0..).zip(&self.snapshot.nodes) {
            let exists = matches!(node.phase, NodePhase::Pending | NodePhase::Running | NodePhase::Stopped);
            let several = self.group_of_node(at).is_some_and(|group| group.num_of_hosts > 1);
            if exists && several && !node.instance_id.is_empty() {
                let (ends, stays) = replicas.entry((&node.group, node.replica.as_deref())).or_default();
                *(if self.ended.contains(&*node.instance_id) { ends } else { stays }) += 1;
            }
        }
        for ((group, replica), (ends, stays)) in replicas {
            let hosts = self.groups.get(group).map_or(1, |group| group.num_of_hosts);
            let whole = if replica.is_some() { ends == 0 || stays == 0 } else { stays == 0 || ends % hosts == 0 };
            if !whole {
                let replica = replica.unwrap_or("(unnamed)");
                self.error("whole-replicas", format!("{ends} pods of {group} {replica} end, {stays} stay"));
            }
        }
    }

    fn resizes(&mut self) {
        for resize in &self.plan.resize {
            let id = resize.instance_id.as_str();
            let bounds = self.groups.get(resize.group.as_str()).copied();
            let head = self.snapshot.node_types.iter().find(|group| group.name == resize.group);
            let bounds = bounds.or(head).and_then(|group| group.resize);
            let (Some(node), Some(bounds)) = (self.nodes.get(id).copied(), bounds) else {
                self.error("resize-exists", format!("{id} can't be resized"));
                continue;
            };
            let pod = node.resize.clone().unwrap_or_default();
            let sane = resize.cpu <= pod.suggested_max_cpu.unwrap_or(bounds.max_cpu)
                && resize.memory <= pod.suggested_max_memory.unwrap_or(bounds.max_memory);
            if !sane || pod.failed || pod.in_progress || node.phase != NodePhase::Running || self.ended.contains(id) {
                self.error("resize-possible", format!("{id} can't be resized now, or not so far: {resize:?}"));
            }
        }
    }

    /// What is unmet was asked for, no more often than that; a gang is met or unmet as a whole.
    fn unmet(&mut self) {
        let mut asked: BTreeMap<&Request, u128> = BTreeMap::new();
        for class in &self.snapshot.demand {
            *asked.entry(&class.request).or_default() += u128::from(class.count);
        }
        let mut gangs: BTreeMap<&str, Vec<&Gang>> = BTreeMap::new();
        for gang in &self.snapshot.gangs {
            gangs.entry(&gang.id).or_default().push(gang);
        }
        for unmet in &self.plan.unmet {
            let known = match &unmet.kind {
                UnmetKind::Task(request) => {
                    match asked.get_mut(request).filter(|asked| **asked >= unmet.count.into()) {
                        Some(asked) => {
                            *asked -= u128::from(unmet.count);
                            true
                        }
                        None => false,
                    }
                }
                UnmetKind::Gang(gang) => {
                    let same_id = gangs.entry(&gang.id).or_default();
                    let at = same_id.iter().position(|other| *other == gang).filter(|_| unmet.count == 1);
                    at.map(|at| same_id.swap_remove(at)).is_some()
                }
                UnmetKind::Constraint(constraint) => unmet.count == 1 && self.snapshot.constraints.contains(constraint),
            };
            if !known {
                self.error("unmet-asked", format!("{:?} x {} was not asked for", unmet.kind, unmet.count));
            }
            if unmet.reason.is_empty() {
                self.warning("unmet-reason", format!("no reason is given for {:?}", unmet.kind));
            }
        }
    }
}

/// Pods of a group that exist and stay.
#[derive(Default)]
struct Kept<'a> {
    /// The replicas that they name.
    names: BTreeSet<&'a str>,
    count: u32,
}

fn kept<'a>(snapshot: &'a Snapshot, roster: &[Row], ended: &BTreeSet<&str>) -> BTreeMap<&'a str, Kept<'a>> {
    let mut kept: Vec<Kept<'_>> = Vec::new();
    kept.resize_with(snapshot.node_types.len() + 1, Kept::default);
    for (at, row) in roster.iter().enumerate().filter(|(_, row)| row.is_pod() && row.phase != NodePhase::Requested) {
        let node = &snapshot.nodes[at];
        if !ended.contains(&*node.instance_id) {
            kept[row.group()].count += 1;
            kept[row.group()].names.extend(node.replica.as_deref());
        }
    }
    snapshot.node_types.iter().map(|group| group.name.as_str()).zip(kept).collect()
}

/// Pods of so many replicas of a group.
fn pods(group: &NodeType, replicas: u32) -> u128 {
    u128::from(replicas) * u128::from(group.num_of_hosts.max(1))
}
