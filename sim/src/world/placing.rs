//! The scheduler at work: a pass over the pods that wait, bindings, preemption.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::affinity::Placed;
use super::pod::{Pod, PodSpec, Stage};
use super::scheduler::{self, Victim};
use super::{Event, Key, World};

const OWN_NAME: &str = "default-scheduler";

impl World {
    pub(super) fn waiting_key(key: &Key, pod: &Pod) -> (Reverse<i64>, u64, Key) {
        (Reverse(pod.spec.priority), pod.number, key.clone())
    }

    pub(super) fn wait(&mut self, key: &Key, pod: &Pod) {
        if pod.spec.scheduler == OWN_NAME {
            self.waiting.insert(Self::waiting_key(key, pod));
            self.plan_scheduling();
        }
    }

    pub(super) fn plan_scheduling(&mut self) {
        if !self.is_scheduling_planned && !self.waiting.is_empty() {
            self.is_scheduling_planned = true;
            let at_us = self.clock.now_us() + self.scenario.scheduler.latency.as_us();
            self.queue.push(at_us, Event::Schedule);
        }
    }

    /// Pods that wait and that no node takes, as the provisioner sees them.
    pub(super) fn unschedulable(&self) -> Vec<(Key, Arc<PodSpec>)> {
        let waiting = self.waiting.iter().map(|(.., key)| key);
        let pods = waiting.filter_map(|key| Some((key, self.pods.get(key)?)));
        pods.filter(|(_, pod)| pod.is_called_unschedulable && pod.nominated.is_none())
            .map(|(key, pod)| (key.clone(), pod.spec.clone()))
            .collect()
    }

    pub(super) fn schedule(&mut self) {
        self.is_scheduling_planned = false;
        let order: Vec<Key> = self.waiting.iter().map(|(.., key)| key.clone()).collect();
        let mut failed: Vec<(Arc<PodSpec>, String)> = Vec::new();
        let mut new_failures = false;
        for key in order {
            let Some(pod) = self.pods.get(&key).filter(|pod| pod.waits_for_a_node()) else { continue };
            let spec = pod.spec.clone();
            let known = failed.iter().find(|(other, _)| scheduler::ask_alike(other, &spec));
            let answer = match known {
                Some((_, reason)) => Err(reason.clone()),
                None => self.node_for(&key, &spec),
            };
            match answer {
                Ok(node) => self.bind(&key, &node),
                Err(reason) => {
                    if known.is_none() {
                        failed.push((spec.clone(), reason.clone()));
                    }
                    new_failures |= self.call_unschedulable(&key, &reason);
                    self.make_room(&key, &spec);
                }
            }
        }
        if new_failures || !failed.is_empty() {
            self.plan_scan();
        }
    }

    fn node_for(&self, key: &Key, spec: &PodSpec) -> Result<String, String> {
        let placed = self.pods.iter().filter_map(|(key, pod)| {
            let node = self.nodes.get(pod.node.as_ref()?)?;
            Some(Placed { namespace: &key.namespace, spec: &pod.spec, node })
        });
        let reserved = self.reserved(key, spec);
        scheduler::choose(&key.namespace, spec, &self.nodes, &placed, &reserved, self.scenario.scheduler.score)
            .map(str::to_owned)
    }

    /// Room that was made on nodes for others of no lower priority: it is theirs.
    fn reserved(&self, key: &Key, spec: &PodSpec) -> BTreeMap<String, mobula_planner::Resources> {
        let mut reserved: BTreeMap<String, _> = BTreeMap::new();
        for (other, pod) in &self.pods {
            if let Some(node) = pod.nominated.as_ref().filter(|_| other != key && pod.node.is_none())
                && pod.spec.priority >= spec.priority
            {
                add(reserved.entry(node.clone()).or_default(), &pod.spec.requests);
            }
        }
        reserved
    }

    fn bind(&mut self, key: &Key, node: &str) {
        let now_us = self.clock.now_us();
        let Some(pod) = self.pods.get_mut(key) else { return };
        let waiting = Self::waiting_key(key, pod);
        pod.node = Some(node.to_owned());
        pod.nominated = None;
        pod.stage = Stage::Pulling;
        let requests = pod.spec.requests.clone();
        self.waiting.remove(&waiting);
        if let Some(node) = self.nodes.get_mut(node) {
            node.take(key.clone(), &requests);
        }
        self.count_stranded();
        self.log.note(now_us, "bind", &format!("{key} {node}"), None);
        self.begin_pod(key, node);
    }

    /// Says once that no node takes a pod. Whether it is news.
    fn call_unschedulable(&mut self, key: &Key, reason: &str) -> bool {
        let Some(pod) = self.pods.get_mut(key).filter(|pod| !pod.is_called_unschedulable) else { return false };
        pod.is_called_unschedulable = true;
        let condition =
            json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": reason});
        self.edit_pod(key, |pod| set_condition(pod, condition));
        true
    }

    /// Pushes out pods of lower priority where that helps.
    fn make_room(&mut self, key: &Key, spec: &PodSpec) {
        if self.pods.get(key).is_none_or(|pod| pod.nominated.is_some()) {
            return;
        }
        let on_node = |node: &super::KubeNode| {
            let pods = node.pods.iter().filter_map(|key| self.pods.get_key_value(key));
            pods.map(|(key, pod)| {
                let is_leaving = pod.is_leaving || pod.is_victim;
                Victim { key, spec: &pod.spec, number: pod.number, is_leaving }
            })
            .collect()
        };
        let reserved = self.reserved(key, spec);
        let Some((node, victims)) = scheduler::preempt(spec, &self.nodes, &reserved, on_node) else { return };
        let node = node.to_owned();
        if let Some(pod) = self.pods.get_mut(key) {
            pod.nominated = Some(node.clone());
        }
        self.edit_pod(key, |pod| pod["status"]["nominatedNodeName"] = json!(node));
        for victim in victims {
            if let Some(pod) = self.pods.get_mut(&victim) {
                pod.is_victim = true;
            }
            self.log.note(self.clock.now_us(), "preempt", &format!("{victim} for {key}"), None);
            self.measures.preempted += 1;
            self.delete_pod(&victim);
        }
    }

    /// Somebody of the world deletes a pod; one that is gone is left alone.
    pub(super) fn delete_pod(&self, key: &Key) {
        let _ = self.vigil.by_world(|| self.server.delete("pods", &key.namespace, &key.name));
    }

    /// Somebody of the world changes a pod; one that is gone is left alone.
    pub(super) fn edit_pod(&self, key: &Key, change: impl FnOnce(&mut Value)) {
        let _ = self.server.edit("pods", &key.namespace, &key.name, change);
    }
}

fn add(sum: &mut mobula_planner::Resources, more: &mobula_planner::Resources) {
    for (name, amount) in more {
        let sum = sum.entry(name.clone()).or_default();
        *sum = mobula_planner::Amount::from_steps(sum.steps().saturating_add(amount.steps()));
    }
}

/// Puts a condition in the place of the one of its type.
pub(super) fn set_condition(object: &mut Value, condition: Value) {
    let conditions = &mut object["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|known| known["type"] != condition["type"]);
        conditions.push(condition);
    }
}
