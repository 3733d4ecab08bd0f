//! The worker pods: how many there are, and which go.
//!
//! Every pod has a place (replica, host) and an incarnation of it, and its name follows from them. So a creation that is
//! repeated, by us with an old view or by another leader, makes nothing twice.

use std::{collections::BTreeSet, sync::Arc};

use mobula_api::{FieldError, WorkerGroupSpec};
use serde_json::{Value, json};

use super::{
    children::Slot,
    classify::Standing,
    head::mark,
    pass::{Pass, group_part},
};
use crate::{
    frame::{
        decision::{Action, Foreign, Notice, Step},
        kind,
        pod::{Place, Pod},
    },
    gangs, names,
};

mod cover;
mod replicas;

/// A worker pod and what it counts as.
type Worker = (Arc<Pod>, Standing);

/// One worker group in one pass.
struct Group<'a> {
    spec: &'a WorkerGroupSpec,
    part: String,
    /// Wanted replicas, hosts in each, most replicas.
    replicas: u32,
    hosts: u32,
    most: u32,
    pods: Vec<Worker>,
    /// Names that the autoscaler wants to go.
    named: BTreeSet<&'a str>,
}

/// Makes missing pods and deletes surplus ones, each group for itself. Pods that the gang of the cluster does not cover come
/// after it has grown.
pub(super) fn make(pass: &mut Pass<'_>) {
    let mut groups = Vec::new();
    let cluster = pass.observed.cluster;
    for (index, spec) in cluster.spec.worker_group_specs.iter().enumerate() {
        let part = group_part(&spec.group_name);
        let (replicas, hosts) = match pass.children.replicas_and_hosts(index, spec) {
            Ok(counts) => counts,
            Err(error) => {
                fault(pass, &part, error);
                continue;
            }
        };
        let most = spec.max_replicas.map_or(u32::MAX, |most| u32::try_from(most).unwrap_or(0)).max(replicas);
        let unit = pass.children.hosts_of_a_unit(hosts);
        let units = hosts.checked_div(unit).unwrap_or(1);
        let (replicas, hosts, most) = (replicas.saturating_mul(units), unit, most.saturating_mul(units));
        let pods = pass.workers(&spec.group_name);
        let named = spec.scale_strategy.iter().flat_map(|strategy| &strategy.workers_to_delete).map(String::as_str);
        groups.push(Group { spec, part, replicas, hosts, most, pods, named: named.collect() });
    }
    pass.decision.given_up = given_up(pass, &groups);
    let (mut steps, mut creations) = (Vec::new(), Vec::new());
    for group in &groups {
        steps.extend(group.released(pass));
        let of_group = if group.spec.suspend == Some(true) {
            group.suspended(pass)
        } else if group.hosts > 1 {
            group.of_many_hosts(pass)
        } else {
            group.of_one_host(pass)
        };
        let (made, others): (Vec<Step>, Vec<Step>) =
            of_group.into_iter().partition(|step| matches!(step.action, Action::Create { .. }));
        steps.extend(others);
        creations.push(made);
    }
    let Some(growth) = pass.gang_is_small.take() else {
        steps.extend(creations.into_iter().flatten());
        return pass.decision.then(steps);
    };
    let (covered, uncovered) = cover::divide(pass, &groups, creations, growth.covers);
    steps.extend(covered);
    pass.decision.then(steps);
    if let Some(step) = growth.step {
        pass.decision.then(vec![step]);
        pass.decision.then(uncovered);
    }
}

/// Places that broke and are nobody's now, nor to be anybody's.
fn given_up(pass: &Pass<'_>, groups: &[Group<'_>]) -> BTreeSet<String> {
    let mut broken: BTreeSet<&str> = pass.observed.memory.breakages.keys().map(String::as_str).collect();
    broken.retain(|what| what.starts_with(&group_part("")));
    if broken.is_empty() {
        return BTreeSet::new();
    }
    // A group that can't be counted keeps its own.
    for spec in &pass.observed.cluster.spec.worker_group_specs {
        let part = group_part(&spec.group_name);
        let group = groups.iter().find(|group| group.part == part);
        let places: BTreeSet<u32> =
            group.iter().flat_map(|group| &group.pods).filter_map(|(pod, _)| pod.replica()).collect();
        let is_whole = group.is_some_and(|group| {
            let has_place = |(_, standing): &&Worker| matches!(standing, Standing::Active | Standing::Failed);
            let there = group.pods.iter().filter(has_place).filter_map(|(pod, _)| pod.replica());
            there.collect::<BTreeSet<u32>>().len() >= group.replicas as usize
        });
        let is_kept = |what: &str| match what.strip_prefix(part.as_str()) {
            None => false,
            Some("") => true,
            Some(place) => {
                let replica = place.strip_prefix('/').map(str::parse::<u32>);
                replica.is_some_and(|replica| !is_whole || replica.is_ok_and(|replica| places.contains(&replica)))
            }
        };
        broken.retain(|what| !is_kept(what));
    }
    broken.into_iter().map(str::to_owned).collect()
}

/// The part that a replica is of its group `part`.
fn place_part(part: &str, replica: u32) -> String {
    format!("{part}/{replica}")
}

/// Pods of the group `part` can't be made because of what the spec says.
fn fault(pass: &mut Pass<'_>, part: &str, error: FieldError) {
    pass.fault(part, FAILED[0], FAILED[1], error);
}

/// Said where a pod can't be made.
const FAILED: [&str; 2] = ["FailedToCreateWorkerPod", "Failed to create worker Pod"];

impl Group<'_> {
    /// Lifts gates that nobody would lift any more, because gang admission was switched off.
    fn released(&self, pass: &mut Pass<'_>) -> Vec<Step> {
        let is_gated = |pod: &&Arc<Pod>| pod.gang.as_ref().is_some_and(|gang| gang.is_gated);
        let gated: Vec<&Arc<Pod>> = self.with(Standing::Active).filter(is_gated).collect();
        if gated.is_empty() || gangs::admits(pass.observed.cluster, pass.config) || !pass.may_try(&self.part) {
            return Vec::new();
        }
        let release = |pod: &&Arc<Pod>| {
            let others = pod.gang.iter().flat_map(|gang| &gang.other_gates).map(|gate| json!({"name": gate}));
            let others: Vec<Value> = others.collect();
            let gates = if others.is_empty() { Value::Null } else { others.into() };
            let patch = json!({"metadata": {"uid": pod.uid}, "spec": {"schedulingGates": gates}});
            Step::new(self.part.clone(), Action::Patch { kind: &kind::POD, name: pod.name.clone(), patch })
        };
        gated.iter().map(release).collect()
    }

    fn with(&self, standing: Standing) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(move |(_, other)| *other == standing).map(|(pod, _)| pod)
    }

    /// All pods of a suspended group go.
    fn suspended(&self, pass: &mut Pass<'_>) -> Vec<Step> {
        let message = format!(
            "Deleted all pods for suspended worker group {} in RayCluster {}",
            self.spec.group_name,
            pass.name()
        );
        let notice = Notice { is_warning: false, reason: "DeletedWorkerPod", action: "Delete", message };
        pass.decision.states.insert(notice);
        let present = self.pods.iter().filter(|(pod, _)| pod.deletion_ms.is_none()).map(|(pod, _)| pod);
        let steps = present.map(|pod| Step { success: None, ..self.deletion(pod, false) }).collect();
        if pass.may_try(&self.part) { steps } else { Vec::new() }
    }

    fn of_one_host(&self, pass: &mut Pass<'_>) -> Vec<Step> {
        let (named, kept): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) =
            self.with(Standing::Active).partition(|pod| self.named.contains(pod.name.as_str()));
        let wanted = self.replicas as usize;
        let (mut deletions, waiting) = self.failed(pass, wanted.saturating_sub(kept.len()));
        deletions.extend(named.iter().map(|pod| self.deletion(pod, false)));
        if kept.len() > wanted && may_choose(pass) {
            let mut kept = kept.clone();
            kept.sort_by(|a, b| dispensable(a).cmp(&dispensable(b)));
            deletions.extend(kept.iter().take(kept.len() - wanted).map(|pod| self.deletion(pod, false)));
        }
        let mut steps = if !deletions.is_empty() && pass.may_try(&self.part) { deletions } else { Vec::new() };
        // Pods on their way out may still hold what they had: together there are never more than the maximum.
        let occupied = self.pods.iter().filter(|(_, standing)| *standing != Standing::Lost).count();
        let room = (self.most as usize).saturating_sub(occupied);
        let missing = wanted.saturating_sub(kept.len() + waiting.len()).min(room);
        steps.extend(self.creations(pass, missing, &waiting));
        steps
    }

    /// Deletions of pods that have failed, at once; and the replicas of those that fail again and again, and wait. Those stay
    /// for so long, and nothing is made in their place. `free`: places that no other pod has; who has none is not replaced, and
    /// need not wait.
    fn failed(&self, pass: &mut Pass<'_>, free: usize) -> (Vec<Step>, Vec<Option<u32>>) {
        let (mut steps, mut waiting) = (Vec::new(), Vec::new());
        for pod in self.with(Standing::Failed) {
            let is_replaced = waiting.len() < free && !self.named.contains(pod.name.as_str());
            if is_replaced && !pass.may_replace_pod(&self.place_of(pod), pod) {
                waiting.push(pod.replica());
            } else {
                steps.push(self.deletion(pod, is_replaced && !pass.has_lasted(pod)));
            }
        }
        (steps, waiting)
    }

    /// What breakage of a pod is kept under: one that breaks again and again is no reason for those at other places to wait.
    fn place_of(&self, pod: &Pod) -> String {
        pod.replica().map_or_else(|| self.part.clone(), |replica| place_part(&self.part, replica))
    }

    fn deletion(&self, pod: &Pod, replaces_broken: bool) -> Step {
        let action = Action::Delete { kind: &kind::POD, name: pod.name.clone(), uid: pod.uid.clone() };
        let step = Step::new(self.part.clone(), action).says("DeletedWorkerPod", "Delete", "Deleted worker Pod");
        let step = step.complains("FailedToDeleteWorkerPod", "Delete", "Failed to delete worker Pod");
        Step { broken: replaces_broken.then(|| self.place_of(pod)), replaces_broken, ..step }
    }

    /// Creations of `missing` replicas of one host, at the lowest free places. Those that wait have theirs.
    fn creations(&self, pass: &mut Pass<'_>, missing: usize, waiting: &[Option<u32>]) -> Vec<Step> {
        if missing == 0 || !pass.may_try(&self.part) {
            return Vec::new();
        }
        // After a failure one pod says whether it is over.
        let missing = if pass.failure(&self.part).is_some() { 1 } else { missing };
        let active = self.with(Standing::Active).map(|pod| pod.replica());
        let used: BTreeSet<u32> = active.chain(waiting.iter().copied()).flatten().collect();
        let free = (0..u32::MAX).filter(|replica| !used.contains(replica)).take(missing);
        let places = free.map(|replica| Place { replica, host: 0, incarnation: self.incarnation(pass, replica) });
        self.made(pass, places.map(|place| (place, None)).collect())
    }

    /// The incarnation of the next pods of a replica: above all that were seen.
    fn incarnation(&self, pass: &Pass<'_>, replica: u32) -> u32 {
        let visible = self.pods.iter().filter_map(|(pod, _)| pod.place).filter(|place| place.replica == replica);
        let next = visible.map(|place| place.incarnation.saturating_add(1)).max().unwrap_or(0);
        let retired = pass.observed.incarnations.get(&(self.spec.group_name.clone(), replica));
        let mut incarnation = next.max(retired.copied().unwrap_or(0));
        // A name that is to be deleted must not come back to life, not even after a restart has forgotten it.
        while (0..self.hosts).any(|host| self.named.contains(self.name(pass, replica, host, incarnation).as_str())) {
            incarnation = incarnation.saturating_add(1);
        }
        incarnation
    }

    fn name(&self, pass: &Pass<'_>, replica: u32, host: u32, incarnation: u32) -> String {
        let prefix = pass.children.worker_pod_prefix(self.spec);
        let uid = &pass.observed.cluster.metadata.uid;
        names::pod_name(&prefix, uid, &self.spec.group_name, replica, host, incarnation)
    }

    /// Creations of pods at `places`, each with the name of its multi-host replica.
    fn made(&self, pass: &mut Pass<'_>, places: Vec<(Place, Option<String>)>) -> Vec<Step> {
        let mut steps = Vec::with_capacity(places.len());
        for (place, replica_name) in places {
            match self.creation(pass, place, replica_name) {
                Ok(step) => steps.push(step),
                Err(error) => {
                    fault(pass, &self.part, error);
                    return Vec::new();
                }
            }
        }
        steps
    }

    fn creation(&self, pass: &Pass<'_>, place: Place, replica_name: Option<String>) -> Result<Step, FieldError> {
        let slot = Slot { replica: place.replica, replica_name, host: place.host };
        let name = self.name(pass, place.replica, place.host, place.incarnation);
        let mut body = pass.children.worker_pod(self.spec, &slot, &name)?;
        mark(&mut body, place);
        let action = Action::Create { kind: &kind::POD, body, foreign: Foreign::Refused };
        let step = Step::new(self.part.clone(), action).says("CreatedWorkerPod", "Create", "Created worker Pod");
        Ok(step.complains(FAILED[0], "Create", FAILED[1]))
    }
}

/// Whether surplus pods may be chosen by the operator: not where an autoscaler names them.
fn may_choose(pass: &Pass<'_>) -> bool {
    !pass.children.is_autoscaled() || pass.config.random_pod_delete
}

/// Order in which surplus pods go: those without a node, those that do not run, those that are not ready, the others; of
/// each the youngest first.
fn dispensable(pod: &Pod) -> (u8, i64, std::cmp::Reverse<Option<u32>>, &str) {
    let progress = match pod {
        pod if pod.is_ready() => 3,
        pod if pod.is_running() => 2,
        pod if !pod.node.is_empty() => 1,
        _ => 0,
    };
    (progress, pod.created_ms.saturating_neg(), std::cmp::Reverse(pod.replica()), &pod.name)
}
