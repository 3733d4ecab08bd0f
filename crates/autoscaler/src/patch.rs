//! One JSON patch that makes a RayCluster ask for what a plan says.
//!
//! The patch is guarded: it tests that each worker group it touches is still the group at that index, with the replicas and
//! the names to delete that the plan was made from. If anybody changed one of them, nothing is changed and a new tick plans
//! anew. All values are absolute, so that applying a patch twice is the same as once.

use std::collections::{BTreeMap, BTreeSet};

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, TestOperation};
use mobula_api::{PlannedGangs, PodView, RayCluster, WorkerGroupSpec, keys};
use mobula_planner::{DemandRef, GroupPlan, Node, NodePhase, Plan, Snapshot, Target};
use serde_json::{Value, json};

/// Which changes a patch may make, or makes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// More replicas.
    pub growth: bool,
    /// Fewer replicas, and names of pods to delete.
    pub removals: bool,
}

impl Parts {
    /// Both.
    pub const ALL: Parts = Parts { growth: true, removals: true };
}

/// What a patch says in annotations of the RayCluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Why ([`keys::EXPLAIN`]).
    pub explain: Option<String>,
    /// Which pods begin together ([`keys::GANGS`]).
    pub gangs: Option<GangsNote>,
}

/// Which pods begin together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GangsNote {
    /// As it stands in the annotation.
    pub text: String,
    /// It is worth a patch of its own: what is written misleads.
    pub is_due: bool,
}

/// Longest note of gangs, in bytes: some two thousand gangs. All annotations of an object together may have 256 KiB.
const MOST_NOTE_BYTES: usize = 128 * 1_024;

/// Which pods begin together once `cluster` has become what `plan` wants: of each gang that still waits, those of its hosts
/// that are yet to run, and those that run and were begun for it. `None`: the policy does not say, or it is written already.
/// Of more gangs than one note can name, those that the plan has first are named.
pub fn gangs_note(cluster: &RayCluster, snapshot: &Snapshot, plan: &Plan, pods: &[PodView]) -> Option<GangsNote> {
    if plan.gangs.len() != snapshot.gangs.len() {
        return None;
    }
    let written = cluster.planned_gangs().ok().flatten();
    let before = written.clone().unwrap_or_default();
    let mut placed = placed_gangs(snapshot, plan, pods);
    let mut gangs = PlannedGangs::new();
    let mut left = MOST_NOTE_BYTES;
    for (at, gang) in (0_u32..).zip(&plan.gangs).filter(|(_, gang)| !gang.id.is_empty()) {
        // Of one of which not all hosts may be launched yet, the plan says no places: it has what it was given so far.
        let hosts = placed.remove(&at).unwrap_or_else(|| {
            let mut hosts = before.get(&gang.id).cloned().unwrap_or_default();
            for (group, new) in &gang.new_hosts {
                let asked = hosts.entry(group.clone()).or_default();
                *asked = asked.saturating_add(*new);
            }
            hosts
        });
        if hosts.is_empty() {
            continue;
        }
        // Each with its colon and comma.
        let bytes = json!(gang.id).to_string().len() + json!(hosts).to_string().len() + 2;
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => break,
        }
        gangs.insert(gang.id.clone(), hosts);
    }
    if written.as_ref() == Some(&gangs) {
        return None;
    }
    // Nobody is written to who does not read it. Numbers matter to gang admission only: where there is none, they fall as
    // pods come up.
    let is_admitted = pods.iter().any(|pod| pod.annotations.contains_key(keys::GANG));
    let is_due = if is_admitted {
        written.is_some() || !gangs.is_empty()
    } else {
        !gangs.keys().eq(before.keys()) && pods.iter().any(is_of_pod_group)
    };
    Some(GangsNote { text: serde_json::to_string(&gangs).ok()?, is_due })
}

/// Whether a scheduler places the pod with others, whose number follows what is planned: Volcano, scheduler-plugins,
/// Kubernetes' own.
fn is_of_pod_group(pod: &PodView) -> bool {
    pod.annotations.contains_key(keys::VOLCANO_POD_GROUP)
        || pod.labels.contains_key(keys::SCHEDULER_PLUGINS_POD_GROUP)
        || pod.scheduling_group.is_some()
}

/// Hosts that gangs take and that are not others' already, by gang and worker group.
fn placed_gangs<'a>(snapshot: &Snapshot, plan: &Plan, pods: &'a [PodView]) -> BTreeMap<u32, BTreeMap<String, u32>> {
    let is_begun = |pod: &&PodView| pod.annotations.contains_key(keys::GANG_ADMITTED);
    let gang_of = |pod: &'a PodView| Some((&*pod.name, pod.annotations.get(keys::GANG)?.as_str()));
    let begun: BTreeMap<&str, &str> = pods.iter().filter(is_begun).filter_map(gang_of).collect();
    let mut hosts: BTreeSet<(u32, Target)> = BTreeSet::new();
    let mut placed: BTreeMap<u32, BTreeMap<String, u32>> = BTreeMap::new();
    for placement in &plan.placements {
        let DemandRef::Gang { gang: at, .. } = placement.demand else { continue };
        let taken = placed.entry(at).or_default();
        if !hosts.insert((at, placement.target)) {
            continue;
        }
        let group = match placement.target {
            Target::New { group, .. } => snapshot.node_types.get(group as usize).map(|group| group.name.as_str()),
            Target::Node(node) => {
                let is_of_it = |node: &&Node| {
                    let gang = plan.gangs.get(at as usize).map(|gang| gang.id.as_str());
                    match begun.get(&*node.instance_id) {
                        Some(other) => Some(*other) == gang,
                        None => node.phase != NodePhase::Running,
                    }
                };
                snapshot.nodes.get(node as usize).filter(is_of_it).map(|node| &*node.group)
            }
        };
        if let Some(group) = group {
            *taken.entry(group.to_owned()).or_default() += 1;
        }
    }
    placed
}

/// A patch that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicasPatch {
    /// What to send.
    pub patch: Patch,
    /// What it changes.
    pub parts: Parts,
}

/// The patch that turns `cluster` into what `plan` wants, as far as `parts` allow; `None` if it is so already.
///
/// Without growth, groups that would grow stay as they are written; without removals, groups that would shrink do, and no
/// pod is named. `cluster` is what `snapshot` was built from (its replicas and names to delete are tested for), `pods` are all pods that
/// exist, being deleted or not. Of the instances that the plan ends only those in `deletions` (their drain was accepted)
/// are named, and of a multi-host replica all pods or none; replicas whose end was refused go on being asked for. `notes`
/// become annotations of a patch that is due; that of gangs may be due by itself.
pub fn replicas_patch(
    cluster: &RayCluster,
    snapshot: &Snapshot,
    plan: &Plan,
    pods: &[PodView],
    deletions: &BTreeSet<String>,
    parts: Parts,
    notes: &Notes,
) -> Option<ReplicasPatch> {
    let none = BTreeSet::new();
    let deletions = if parts.removals { deletions } else { &none };
    let facts = Facts { snapshot, plan, pods, deletions };
    let changes: Vec<GroupChange<'_>> = cluster
        .spec
        .worker_group_specs
        .iter()
        .enumerate()
        .filter_map(|(index, spec)| {
            let group = plan.groups.get(&spec.group_name)?;
            Some(GroupChange::new(index, spec, group, &facts).within(parts))
        })
        .collect();
    if !changes.iter().any(GroupChange::is_due) && !notes.gangs.as_ref().is_some_and(|gangs| gangs.is_due) {
        return None;
    }
    let document = cluster.to_value();
    let mut tests = Vec::new();
    let mut adds = Vec::new();
    for change in changes.iter().filter(|change| change.is_due() || change.has_stale_names()) {
        let written = document.pointer(&format!("/spec/workerGroupSpecs/{}", change.index)).unwrap_or(&Value::Null);
        tests.extend(change.tests(written));
        adds.extend(change.adds(written));
    }
    let makes = Parts {
        growth: changes.iter().any(GroupChange::grows),
        removals: changes.iter().any(|change| change.shrinks() || change.names_added),
    };
    let (guards, annotations) = annotate(&document, notes, makes);
    tests.extend(guards);
    adds.extend(annotations);
    tests.extend(adds);
    Some(ReplicasPatch { patch: Patch(tests), parts: makes })
}

struct Facts<'a> {
    snapshot: &'a Snapshot,
    plan: &'a Plan,
    pods: &'a [PodView],
    deletions: &'a BTreeSet<String>,
}

/// What becomes of one worker group.
struct GroupChange<'a> {
    index: usize,
    spec: &'a WorkerGroupSpec,
    /// The replicas that the operator works towards now.
    asked: u32,
    /// The value for `replicas`; `None`: it stays.
    replicas: Option<u32>,
    /// The whole list of names to delete.
    names: Vec<String>,
    /// Whether a name was added to it.
    names_added: bool,
}

impl<'a> GroupChange<'a> {
    fn new(index: usize, spec: &'a WorkerGroupSpec, group: &GroupPlan, facts: &Facts<'_>) -> Self {
        let written = written_names(spec);
        let kept: Vec<String> =
            written.iter().filter(|name| facts.pods.iter().any(|pod| pod.name == **name)).cloned().collect();
        let Ends { accepted, refused_replicas } = ends(&spec.group_name, facts);
        let added: Vec<String> = accepted.into_iter().filter(|name| !kept.contains(name)).collect();
        let names_added = !added.is_empty();
        let names: Vec<String> = kept.into_iter().chain(added).collect();
        // A suspended group has no pods to replace, whatever is leaving.
        let leaving = if spec.suspend == Some(true) { 0 } else { leaving_unnamed(&spec.group_name, &names, facts) };
        let desired = group.desired.saturating_add(refused_replicas).saturating_add(leaving);
        let wanted = GroupPlan { desired, ..group.clone() }.asks();
        let asked = effective_replicas(spec, group);
        GroupChange { index, spec, asked, replicas: (wanted != asked).then_some(wanted), names, names_added }
    }

    /// The change without what must not be changed now.
    fn within(mut self, parts: Parts) -> Self {
        if self.grows() && !parts.growth || self.shrinks() && !parts.removals {
            self.replicas = None;
        }
        self
    }

    fn grows(&self) -> bool {
        self.replicas.is_some_and(|replicas| replicas > self.asked)
    }

    fn shrinks(&self) -> bool {
        self.replicas.is_some_and(|replicas| replicas < self.asked)
    }

    /// Whether there is a reason to write to the RayCluster.
    fn is_due(&self) -> bool {
        self.replicas.is_some() || self.names_added
    }

    /// Whether names of pods that are gone are still listed: they are dropped together with the next change.
    fn has_stale_names(&self) -> bool {
        written_names(self.spec) != self.names
    }

    fn tests(&self, written: &Value) -> Vec<PatchOperation> {
        let as_read = |members: &[&str], value: Option<&Value>| test(self.path(members), or_absent(value));
        let strategy = written.get("scaleStrategy");
        vec![
            as_read(&["groupName"], written.get("groupName")),
            as_read(&["replicas"], written.get("replicas")),
            match strategy.and_then(|strategy| strategy.get("workersToDelete")) {
                Some(names) => as_read(&["scaleStrategy", "workersToDelete"], Some(names)),
                None => as_read(&["scaleStrategy"], strategy),
            },
        ]
    }

    fn adds(&self, written: &Value) -> Vec<PatchOperation> {
        let mut adds: Vec<PatchOperation> =
            self.replicas.iter().map(|replicas| add(self.path(&["replicas"]), json!(replicas))).collect();
        if self.names_added || self.has_stale_names() {
            adds.push(if written.get("scaleStrategy").is_some_and(Value::is_object) {
                add(self.path(&["scaleStrategy", "workersToDelete"]), json!(self.names))
            } else {
                add(self.path(&["scaleStrategy"]), json!({"workersToDelete": self.names}))
            });
        }
        adds
    }

    fn path(&self, members: &[&str]) -> PointerBuf {
        let index = self.index.to_string();
        PointerBuf::from_tokens(["spec", "workerGroupSpecs", &index].into_iter().chain(members.iter().copied()))
    }
}

fn written_names(spec: &WorkerGroupSpec) -> &[String] {
    spec.scale_strategy.as_ref().map_or(&[], |strategy| strategy.workers_to_delete.as_slice())
}

/// The replicas that the operator works towards now: absent ones and too few mean the minimum, too many the maximum.
fn effective_replicas(spec: &WorkerGroupSpec, group: &GroupPlan) -> u32 {
    let written = spec.replicas.map_or(group.min, |replicas| u32::try_from(replicas.max(0)).unwrap_or(u32::MAX));
    written.max(group.min).min(group.max.max(group.min))
}

struct Ends {
    /// Names of all pods of the replicas that may go.
    accepted: Vec<String>,
    /// Replicas that the plan ends but that stay.
    refused_replicas: u32,
}

/// A replica goes as a whole or not at all.
fn ends(group: &str, facts: &Facts<'_>) -> Ends {
    let mut replicas: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for end in facts.plan.terminate.iter().filter(|end| end.group == group) {
        let replica = end.replica.as_deref().unwrap_or(&end.instance_id);
        replicas.entry(replica).or_default().insert(&end.instance_id);
    }
    let mut ends = Ends { accepted: Vec::new(), refused_replicas: 0 };
    for (replica, mut members) in replicas {
        // Hosts that came up after the plan was made belong to the replica, too.
        let same = facts.pods.iter().filter(|pod| !pod.terminating && pod.replica.as_deref() == Some(replica));
        members.extend(same.filter(|pod| pod.group == group).map(|pod| pod.name.as_str()));
        if members.iter().all(|name| facts.deletions.contains(*name)) {
            ends.accepted.extend(members.into_iter().map(str::to_owned));
        } else {
            ends.refused_replicas = ends.refused_replicas.saturating_add(1);
        }
    }
    ends
}

/// Replicas that are leaving by themselves (draining) and that the operator still counts, because their pods exist and
/// nobody named them: were they not asked for, whatever replaces them would wait until they are gone.
fn leaving_unnamed(group: &str, named: &[String], facts: &Facts<'_>) -> u32 {
    let counted: BTreeSet<&str> = facts
        .pods
        .iter()
        .filter(|pod| !pod.terminating && !named.contains(&pod.name))
        .map(|pod| pod.name.as_str())
        .collect();
    let leaving = facts.snapshot.nodes.iter().filter(|node| {
        node.phase == NodePhase::Leaving && *node.group == *group && counted.contains(&*node.instance_id)
    });
    let replicas: BTreeSet<&str> = leaving.map(|node| node.replica.as_deref().unwrap_or(&node.instance_id)).collect();
    u32::try_from(replicas.len()).unwrap_or(u32::MAX)
}

/// The annotations, and what guards them.
fn annotate(document: &Value, notes: &Notes, makes: Parts) -> (Option<PatchOperation>, Vec<PatchOperation>) {
    let gangs = notes.gangs.as_ref().filter(|gangs| makes.growth || gangs.is_due).map(|gangs| &gangs.text);
    let said = [(keys::EXPLAIN, notes.explain.as_ref()), (keys::GANGS, gangs)];
    let said: BTreeMap<&str, &String> = said.into_iter().filter_map(|(key, text)| Some((key, text?))).collect();
    let annotations = PointerBuf::from_tokens(["metadata", "annotations"]);
    if said.is_empty() {
        return (None, Vec::new());
    }
    if document.pointer("/metadata/annotations").is_some_and(Value::is_object) {
        let path = |key| PointerBuf::from_tokens(["metadata", "annotations", key]);
        return (None, said.into_iter().map(|(key, text)| add(path(key), json!(text))).collect());
    }
    // Annotations that somebody else adds meanwhile must not be overwritten.
    let guard = test(annotations.clone(), or_absent(None));
    (Some(guard), vec![add(annotations, json!(said))])
}

/// What a `test` compares a member with. To the API server, a `test` for null passes where the member is absent; testing the
/// parent as a whole is no way, because it compares strings as they are escaped (`&` is not `\u0026`).
fn or_absent(value: Option<&Value>) -> Value {
    value.cloned().unwrap_or(Value::Null)
}

fn test(path: PointerBuf, value: Value) -> PatchOperation {
    PatchOperation::Test(TestOperation { path, value })
}

fn add(path: PointerBuf, value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path, value })
}

#[cfg(test)]
mod tests;
