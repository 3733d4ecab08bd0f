//! Replicas of several hosts: made, counted and deleted whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mobula_api::keys;
use serde_json::json;

use super::{Group, Standing, Worker, dispensable, may_choose};
use crate::{
    frame::{
        decision::{Action, Step},
        kind,
        pod::{Place, Pod, SLOT},
    },
    names,
    raycluster::pass::Pass,
};

/// A replica whose hosts do not all exist after so long, in ms, will not become whole by itself.
const WHOLE_WITHIN_MS: i64 = 60_000;

/// What a replica counts as.
enum State {
    /// All hosts are there.
    Whole,
    /// Hosts are still to be made: these.
    Coming(Vec<Place>),
    /// Some hosts are gone, about to go or have failed: the rest must go, too.
    Broken,
}

impl Group<'_> {
    pub(super) fn of_many_hosts(&self, pass: &mut Pass<'_>) -> Vec<Step> {
        let mut by_name: BTreeMap<&str, Vec<&Worker>> = BTreeMap::new();
        for worker in
            self.pods.iter().filter(|(pod, standing)| !pod.replica_name.is_empty() && *standing != Standing::Lost)
        {
            by_name.entry(worker.0.replica_name.as_str()).or_default().push(worker);
        }
        let (mut steps, adopted) = self.adopt(pass, &by_name.keys().copied().collect());
        let (mut kept, mut coming, mut broken) = (Vec::new(), Vec::new(), Vec::new());
        for (name, hosts) in &by_name {
            let is_named = hosts.iter().any(|(pod, _)| self.named.contains(pod.name.as_str()));
            match self.state(pass, hosts) {
                _ if is_named => steps.extend(self.end(pass, hosts)),
                State::Broken => broken.push(hosts),
                State::Whole => kept.push(hosts),
                State::Coming(places) => {
                    coming.extend(places.into_iter().map(|place| (place, Some((*name).to_owned()))));
                    kept.push(hosts);
                }
            }
        }
        // Those that are being adopted are counted, and are replicas like the others in the next pass.
        let wanted = (self.replicas as usize).saturating_sub(adopted);
        if adopted == 0 && kept.len() > wanted && may_choose(pass) {
            kept.sort_by_key(|hosts| hosts.iter().map(|(pod, _)| dispensable(pod)).max());
            for hosts in kept.iter().take(kept.len() - wanted) {
                coming.retain(|(_, name)| hosts.iter().all(|(pod, _)| Some(&pod.replica_name) != name.as_ref()));
                steps.extend(self.end(pass, hosts));
            }
        }
        let (ends, waiting) = self.broken(pass, &broken, wanted.saturating_sub(kept.len()));
        steps.extend(ends);
        let room = (self.most as usize).saturating_sub(by_name.len() + adopted);
        let missing = wanted.saturating_sub(kept.len() + waiting.len()).min(room);
        // The place of one that goes because it broke is free at once: the next one there is known by it.
        let go: BTreeSet<&str> =
            broken.iter().flat_map(|hosts| hosts.iter().map(|(pod, _)| pod.name.as_str())).collect();
        let stay = self.with(Standing::Active).filter(|pod| !go.contains(pod.name.as_str())).map(|pod| pod.replica());
        let used: BTreeSet<u32> = stay.chain(waiting).flatten().collect();
        steps.extend(self.replicas(pass, missing, coming, &used));
        steps
    }

    /// Makes replicas of pods that belong to none: they were made without the feature gate RayMultiHostIndexing. They go on
    /// running; those that have failed go. The steps, and how many replicas these pods make. `taken`: names of replicas.
    fn adopt(&self, pass: &mut Pass<'_>, taken: &BTreeSet<&str>) -> (Vec<Step>, usize) {
        let strays = || self.pods.iter().filter(|(pod, _)| pod.replica_name.is_empty());
        let of = |wanted: Standing| strays().filter(move |(_, standing)| *standing == wanted).map(|(pod, _)| pod);
        let mut steps: Vec<Step> = of(Standing::Failed).map(|pod| self.deletion(pod, true)).collect();
        if !steps.is_empty() && !pass.may_try(&self.part) {
            steps.clear();
        }
        let mut hosts: Vec<&Arc<Pod>> = of(Standing::Active).collect();
        hosts.sort_by_key(|pod| (pod.created_ms, &pod.name));
        let leaving = of(Standing::Leaving).count();
        let made = (hosts.len() + leaving).div_ceil((self.hosts as usize).max(1));
        if hosts.is_empty() || !pass.may_try(&self.part) {
            return (steps, made);
        }
        let used: BTreeSet<u32> = self
            .pods
            .iter()
            .filter(|(pod, _)| !pod.replica_name.is_empty())
            .filter_map(|(pod, _)| pod.replica())
            .collect();
        let mut free = (0..u32::MAX).filter(|replica| !used.contains(replica));
        for hosts in hosts.chunks((self.hosts as usize).max(1)) {
            let Some(replica) = free.next() else { break };
            let mut incarnation = self.incarnation(pass, replica);
            let uid = &pass.observed.cluster.metadata.uid;
            let mut name = names::replica_name(uid, &self.spec.group_name, replica, incarnation);
            while taken.contains(name.as_str()) {
                incarnation = incarnation.saturating_add(1);
                name = names::replica_name(uid, &self.spec.group_name, replica, incarnation);
            }
            let places = (0..).map(|host| Place { replica, host, incarnation });
            steps.extend(hosts.iter().zip(places).map(|(pod, place)| self.adoption(pod, place, &name)));
        }
        (steps, made)
    }

    fn adoption(&self, pod: &Pod, place: Place, replica_name: &str) -> Step {
        let labels = json!({
            keys::REPLICA_INDEX: place.replica.to_string(),
            keys::REPLICA_NAME: replica_name,
            keys::REPLICA_HOST_INDEX: place.host.to_string(),
        });
        let annotations = json!({ SLOT: place.to_text() });
        let metadata = json!({"resourceVersion": pod.resource_version, "uid": pod.uid, "labels": labels, "annotations": annotations});
        let action = Action::Patch { kind: &kind::POD, name: pod.name.clone(), patch: json!({ "metadata": metadata }) };
        Step::new(self.part.clone(), action)
    }

    fn state(&self, pass: &mut Pass<'_>, hosts: &[&Worker]) -> State {
        if hosts.iter().any(|(_, standing)| *standing == Standing::Failed) {
            return State::Broken;
        }
        let active: Vec<&Arc<Pod>> =
            hosts.iter().filter(|(_, standing)| *standing == Standing::Active).map(|(pod, _)| pod).collect();
        if active.len() < hosts.len() {
            return State::Broken;
        }
        if active.len() >= self.hosts as usize {
            return State::Whole;
        }
        let Some(place) = active.iter().find_map(|pod| pod.place) else { return State::Broken };
        let retired = pass.observed.incarnations.get(&(self.spec.group_name.clone(), place.replica));
        let youngest_ms = active.iter().map(|pod| pod.created_ms).max().unwrap_or(0);
        let until_ms = youngest_ms.saturating_add(WHOLE_WITHIN_MS);
        // Either a host was there and is gone, or nobody has made it for too long.
        if retired.is_some_and(|next| *next > place.incarnation) || pass.now_ms >= until_ms {
            return State::Broken;
        }
        pass.decision.wake_at(until_ms);
        let is_there = |host: u32| active.iter().any(|pod| pod.place.is_some_and(|place| place.host == host));
        State::Coming((0..self.hosts).filter(|host| !is_there(*host)).map(|host| Place { host, ..place }).collect())
    }

    /// Deletes what is left of a replica.
    fn end(&self, pass: &mut Pass<'_>, hosts: &[&Worker]) -> Vec<Step> {
        let present = hosts.iter().filter(|(pod, _)| pod.deletion_ms.is_none());
        let steps: Vec<Step> = present.map(|(pod, _)| self.deletion(pod, false)).collect();
        if !steps.is_empty() && pass.may_try(&self.part) { steps } else { Vec::new() }
    }

    /// Deletes what is left of broken replicas, and says which fail again and again, and wait. Of those the hosts that have
    /// failed stay for so long, and nothing is made in their place. `free`: replicas that are wanted beside those that are whole.
    fn broken(&self, pass: &mut Pass<'_>, broken: &[&Vec<&Worker>], free: usize) -> (Vec<Step>, Vec<Option<u32>>) {
        let (mut steps, mut waiting) = (Vec::new(), Vec::new());
        for hosts in broken {
            let (failed, others): (Vec<&Worker>, Vec<&Worker>) =
                hosts.iter().partition(|(_, standing)| *standing == Standing::Failed);
            if !pass.replaces_nothing {
                steps.extend(self.end(pass, &others));
            }
            let is_replaced = waiting.len() < free;
            if is_replaced && failed.iter().any(|(pod, _)| !pass.may_replace_pod(&self.place_of(pod), pod)) {
                waiting.push(failed.first().and_then(|(pod, _)| pod.replica()));
            } else if !failed.is_empty() && pass.may_try(&self.part) {
                let deletion = |(pod, _): &&Worker| self.deletion(pod, is_replaced && !pass.has_lasted(pod));
                steps.extend(failed.iter().map(deletion));
            }
        }
        (steps, waiting)
    }

    /// Makes hosts that are missing of replicas under way, and `missing` new replicas at the lowest places that are not `used`.
    fn replicas(
        &self,
        pass: &mut Pass<'_>,
        missing: usize,
        coming: Vec<(Place, Option<String>)>,
        used: &BTreeSet<u32>,
    ) -> Vec<Step> {
        if (missing == 0 && coming.is_empty()) || !pass.may_try(&self.part) {
            return Vec::new();
        }
        let mut places = coming;
        let has_failed = pass.failure(&self.part).is_some();
        let missing = if has_failed { missing.min(usize::from(places.is_empty())) } else { missing };
        for replica in (0..u32::MAX).filter(|replica| !used.contains(replica)).take(missing) {
            let incarnation = self.incarnation(pass, replica);
            let uid = &pass.observed.cluster.metadata.uid;
            let name = names::replica_name(uid, &self.spec.group_name, replica, incarnation);
            let hosts = (0..self.hosts).map(|host| Place { replica, host, incarnation });
            places.extend(hosts.map(|place| (place, Some(name.clone()))));
        }
        self.made(pass, places)
    }
}
