//! What the world hears of the API server.
//!
//! Assumptions: scheduler, kubelets and controllers hear of changes at once; their latencies are modelled where they act. The garbage
//! collector goes round half a second after a deletion.

use std::sync::Arc;

use mobula_apiserver::{ApiServer, Changed};
use mobula_planner::Labels;
use serde_json::Value;

use super::{Event, Key, Pod, World, pod::texts};
use crate::clock::VirtualClock;
use crate::inbox::{Inbox, News};
use crate::log::EventLog;
use crate::span::Span;

const COLLECT_AFTER: Span = Span::from_ms(500);

/// What became of an object, as far as the world looks at it.
#[derive(Debug)]
pub enum Change {
    /// A pod was created.
    PodMade(Key, Box<Value>),
    /// A pod was changed: its uid, whether it is gated, whether it is on its way out, and its node selector, if it was gated
    /// until then: only of such pods it may change.
    PodChanged(Key, String, bool, bool, Option<Labels>),
    /// A pod is gone.
    PodGone(Key, String),
    /// An object that may own others, or be owned, is being deleted or gone.
    Deletion,
    /// A PriorityClass was created: name, value, whether it may preempt.
    Priority(String, i64, bool),
}

/// From now on, everything that is written is logged, and what the world looks at is put into `inbox`.
pub fn observe(server: &ApiServer, inbox: &Inbox, log: &EventLog, clock: VirtualClock) {
    let (inbox, log) = (inbox.clone(), log.clone());
    server.observe(move |changed| {
        let kind = if changed.after.is_some() { "" } else { " gone" };
        let object = if changed.namespace.is_empty() {
            changed.name.to_owned()
        } else {
            format!("{}/{}", changed.namespace, changed.name)
        };
        log.note(clock.now_us(), &format!("{}{kind}", changed.kind.plural), &object, Some(changed.version));
        for change in read(changed) {
            inbox.put(News::Changed(change));
        }
    });
}

fn read(changed: &Changed<'_>) -> Vec<Change> {
    let key = || Key { namespace: changed.namespace.to_owned(), name: changed.name.to_owned() };
    let uid = |value: &Value| value["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let is_leaving = |value: &Value| value.pointer("/metadata/deletionTimestamp").is_some();
    let mut changes = Vec::new();
    match (changed.kind.plural.as_str(), changed.before, changed.after) {
        ("pods", None, Some(pod)) => changes.push(Change::PodMade(key(), Box::new(pod.clone()))),
        ("pods", Some(before), Some(pod)) => {
            let is_gated = |pod: &Value| {
                let gates = pod.pointer("/spec/schedulingGates").and_then(Value::as_array);
                gates.is_some_and(|gates| !gates.is_empty())
            };
            let selector = is_gated(before).then(|| texts(pod.pointer("/spec/nodeSelector")));
            changes.push(Change::PodChanged(key(), uid(pod), is_gated(pod), is_leaving(pod), selector));
        }
        ("pods", Some(pod), None) => changes.push(Change::PodGone(key(), uid(pod))),
        ("priorityclasses", None, Some(class)) => {
            let may_preempt = class["preemptionPolicy"] != "Never";
            changes.push(Change::Priority(changed.name.to_owned(), class["value"].as_i64().unwrap_or(0), may_preempt));
        }
        _ => {}
    }
    let ends = changed.after.is_none_or(is_leaving);
    if ends && !["events", "leases", "nodes"].contains(&changed.kind.plural.as_str()) {
        changes.push(Change::Deletion);
    }
    changes
}

impl World {
    /// Creates what the scenario says is there.
    pub(super) fn begin_objects(&mut self) -> Result<(), String> {
        self.begin_quotas()?;
        let scenario = self.scenario.clone();
        let mut objects: Vec<&Value> = scenario.objects.iter().map(|object| &object.value).collect();
        // Namespaces and classes must be there before those who name them.
        objects.sort_by_key(|object| match object["kind"].as_str().unwrap_or_default() {
            "Namespace" => 0,
            "RayCluster" => 2,
            _ => 1,
        });
        let mut namespaces: Vec<&str> = objects.iter().filter_map(|o| o["metadata"]["namespace"].as_str()).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        for name in namespaces {
            let is_written = objects.iter().any(|o| o["kind"] == "Namespace" && o["metadata"]["name"] == name);
            if !is_written && self.server.get("namespaces", "", name).is_none() {
                let namespace = serde_json::json!({"metadata": {"name": name}});
                self.server.create("namespaces", namespace).map_err(|refusal| refusal.to_string())?;
            }
        }
        for object in objects {
            let kind = object["kind"].as_str().unwrap_or_default();
            let resource = match kind {
                "PriorityClass" => "priorityclasses".to_owned(),
                kind => format!("{}s", kind.to_lowercase()),
            };
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            self.server
                .create(&resource, object.clone())
                .map_err(|refusal| format!("{kind} {name}: the API server refuses it: {refusal}"))?;
        }
        Ok(())
    }

    pub(super) fn object_changed(&mut self, change: Change) {
        let now_us = self.clock.now_us();
        match change {
            Change::PodMade(key, pod) => self.pod_made(key, &pod),
            Change::PodChanged(key, uid, is_gated, is_leaving, selector) => {
                self.pod_changed(&key, &uid, is_gated, is_leaving, selector);
            }
            Change::PodGone(key, uid) => self.pod_gone(&key, &uid),
            Change::Deletion => {
                if !self.is_collection_planned {
                    self.is_collection_planned = true;
                    self.queue.push(now_us + COLLECT_AFTER.as_us(), Event::Collect);
                }
            }
            Change::Priority(name, value, may_preempt) => {
                self.priorities.insert(name, (value, may_preempt));
            }
        }
    }

    fn pod_made(&mut self, key: Key, value: &Value) {
        let number = self.next_pod;
        self.next_pod += 1;
        let pod = Pod::read(value, number, &self.priorities);
        self.measures.pods_made += 1;
        self.note_shape(&pod.spec);
        if pod.waits_for_a_node() {
            self.wait(&key, &pod);
        }
        self.pods.insert(key, pod);
    }

    fn pod_changed(&mut self, key: &Key, uid: &str, is_gated: bool, is_leaving: bool, selector: Option<Labels>) {
        let Some(pod) = self.pods.get_mut(key).filter(|pod| pod.uid == uid) else { return };
        if let Some(selector) = selector.filter(|selector| *selector != pod.spec.node_selector) {
            Arc::make_mut(&mut pod.spec).node_selector = selector;
        }
        let was_gated = std::mem::replace(&mut pod.is_gated, is_gated);
        let was_leaving = std::mem::replace(&mut pod.is_leaving, is_leaving);
        if was_gated && pod.waits_for_a_node() {
            let pod = pod.clone();
            self.wait(key, &pod);
        }
        if is_leaving && !was_leaving {
            self.pod_leaves(key);
        }
    }

    fn pod_gone(&mut self, key: &Key, uid: &str) {
        if self.pods.get(key).is_none_or(|pod| pod.uid != uid) {
            return;
        }
        self.end_ray(key, true);
        let Some(pod) = self.pods.remove(key) else { return };
        self.waiting.remove(&Self::waiting_key(key, &pod));
        if let Some(node) = pod.node.as_ref().and_then(|name| self.nodes.get_mut(name)) {
            node.give_back(key, &pod.spec.requests, self.clock.now_us());
            self.count_stranded();
            self.plan_scheduling();
            self.plan_scan();
        }
    }
}
