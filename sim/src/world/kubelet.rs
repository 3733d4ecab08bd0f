//! Kubelets: from a bound pod to running containers, and to its end.
//!
//! Assumptions: a kubelet sees a binding at once. All images of a pod are pulled together, once a node; init containers end together;
//! containers start at once. A worker's init container that waits for the GCS ends when the head's GCS answers, looked at every
//! second. A pod that is deleted ends after `pods.stop`, its Ray node as soon as the deletion is there (SIGTERM). Containers
//! that end are started again after 1 s, or 10 s, 20 s, … up to 5 min where they failed, unless `restartPolicy` is Never.

use serde_json::{Value, json};

use super::placing::set_condition;
use super::pod::Stage;
use super::{Event, Key, Step, World};
use crate::chance::{Spread, happens};
use crate::span::Span;

/// Init container by which KubeRay's workers wait for the GCS.
const WAIT_FOR_GCS: &str = "wait-gcs-ready";
const LOOK_AGAIN: Span = Span::from_s(1);
const RESTART_AFTER: Span = Span::from_s(1);
/// Exit code of a container that was killed.
const KILLED: i64 = 137;
const FIRST_BACK_OFF_S: u64 = 10;
const LAST_BACK_OFF_S: u64 = 300;
/// How much longer a slow pull takes.
const SLOW_PULL: u64 = 10;

impl World {
    pub(super) fn plan(&mut self, key: &Key, step: Step, after: Span) {
        let Some(uid) = self.pods.get(key).map(|pod| pod.uid.clone()) else { return };
        let at_us = self.clock.now_us().saturating_add(after.as_us());
        self.queue.push(at_us, Event::Pod { key: key.clone(), uid, step });
    }

    /// A draw for one thing that happens to a pod.
    fn draw(&self, spread: &Spread, purpose: &str, key: &Key) -> Span {
        let restarts = self.pods.get(key).map_or(0, |pod| pod.restarts);
        spread.draw(&mut self.chance(purpose, &format!("{key}/{restarts}")))
    }

    /// A pod was bound.
    pub(super) fn begin_pod(&mut self, key: &Key, node: &str) {
        let Some(pod) = self.pods.get(key) else { return };
        let has_images = self.nodes.get(node).is_some_and(|node| pod.images.is_subset(&node.images));
        let names = pod.containers.clone();
        let pull = if has_images { Span::ZERO } else { self.draw(&self.scenario.pods.pull, "pull", key) };
        let pull = if self.pulls_slowly { Span::from_us(pull.as_us().saturating_mul(SLOW_PULL)) } else { pull };
        self.edit_pod(key, |pod| {
            pod["spec"]["nodeName"] = json!(node);
            if let Some(status) = pod["status"].as_object_mut() {
                status.remove("nominatedNodeName");
            }
            set_condition(pod, json!({"type": "PodScheduled", "status": "True"}));
            let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
            pod["status"]["containerStatuses"] = statuses(&names, &waiting, false);
        });
        self.plan(key, Step::Pulled, pull);
    }

    pub(super) fn step(&mut self, key: &Key, step: Step) {
        let Some(pod) = self.pods.get(key) else { return };
        match (step, pod.stage) {
            (Step::Pulled, Stage::Pulling) if !pod.is_leaving => self.pulled(key),
            (Step::Initialised, Stage::Init) if !pod.is_leaving => self.initialised(key),
            (Step::Register, Stage::Starting) if !pod.is_leaving => self.register(key),
            (Step::Restart, Stage::Ended) if !pod.is_leaving => self.start(key),
            (Step::Bury, _) => self.bury_ray(key),
            (Step::Unready, Stage::Registered) if !self.has_ray(key) => self.edit_pod(key, |pod| set_ready(pod, false)),
            (Step::Kill, Stage::Registered) if !self.has_ray(key) => self.end_container(key, KILLED, "Error"),
            (Step::Finish, _) if !pod.is_stuck => {
                let _ = self.vigil.by_world(|| self.server.finish_pod(&key.namespace, &key.name));
            }
            // Overtaken by a deletion or a failure.
            _ => {}
        }
    }

    fn pulled(&mut self, key: &Key) {
        let Some(pod) = self.pods.get_mut(key) else { return };
        pod.stage = Stage::Init;
        let (images, init) = (pod.images.clone(), pod.init_containers.clone());
        if let Some(node) = pod.node.as_ref().and_then(|name| self.nodes.get_mut(name)) {
            node.images.extend(images);
        }
        if init.is_empty() {
            self.start(key);
            return;
        }
        self.edit_pod(key, |pod| {
            pod["status"]["initContainerStatuses"] = statuses(&init, &json!({"running": {}}), false);
        });
        let init = self.draw(&self.scenario.pods.init, "init", key);
        self.plan(key, Step::Initialised, init);
    }

    fn initialised(&mut self, key: &Key) {
        let Some(pod) = self.pods.get(key) else { return };
        let waits = pod.init_containers.iter().any(|name| name == WAIT_FOR_GCS);
        if waits && !pod.cluster.as_ref().is_some_and(|cluster| self.gcs_answers(cluster)) {
            self.plan(key, Step::Initialised, LOOK_AGAIN);
            return;
        }
        self.start(key);
    }

    /// The containers start, for the first time or again.
    fn start(&mut self, key: &Key) {
        self.next_ip += 1;
        let [_, b, c, d] = self.next_ip.to_be_bytes();
        let Some(pod) = self.pods.get_mut(key) else { return };
        pod.stage = Stage::Starting;
        if pod.ip.is_empty() {
            pod.ip = format!("10.{b}.{c}.{d}");
        }
        let (ip, init, names, restarts) =
            (pod.ip.clone(), pod.init_containers.clone(), pod.containers.clone(), pod.restarts);
        self.edit_pod(key, |pod| {
            let status = &mut pod["status"];
            status["phase"] = json!("Running");
            status["podIP"] = json!(ip);
            if !init.is_empty() {
                let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
                status["initContainerStatuses"] = statuses(&init, &ended, true);
            }
            let mut containers = statuses(&names, &json!({"running": {}}), false);
            containers.as_array_mut().into_iter().flatten().for_each(|c| c["restartCount"] = json!(restarts));
            status["containerStatuses"] = containers;
        });
        self.containers_started(key);
        let register = self.draw(&self.scenario.pods.register, "register", key);
        self.plan(key, Step::Register, register);
    }

    fn register(&mut self, key: &Key) {
        let Some(pod) = self.pods.get(key) else { return };
        let Some(cluster) = pod.cluster.clone() else { return };
        if !pod.is_head {
            if !self.gcs_answers(&cluster) {
                self.plan(key, Step::Register, LOOK_AGAIN);
                return;
            }
            let restarts = pod.restarts;
            if happens(&mut self.chance("fail", &format!("{key}/{restarts}")), self.scenario.pods.fail) {
                self.fail(key);
                return;
            }
        }
        if !self.ray_registers(key, &cluster) {
            self.fail(key);
            return;
        }
        if let Some(pod) = self.pods.get_mut(key) {
            pod.stage = Stage::Registered;
        }
        self.edit_pod(key, |pod| set_ready(pod, true));
    }

    /// The Ray container fails.
    fn fail(&mut self, key: &Key) {
        self.measures.pods_failed += 1;
        self.end_container(key, 1, "Error");
    }

    /// The Ray container has ended: the pod with it, or it is started again.
    pub(super) fn end_container(&mut self, key: &Key, exit_code: i64, reason: &str) {
        let Some(pod) = self.pods.get_mut(key).filter(|pod| !pod.is_leaving && pod.stage >= Stage::Starting) else {
            return;
        };
        pod.stage = Stage::Ended;
        pod.restarts += 1;
        let (never, names, restarts) = (pod.never_restarts, pod.containers.clone(), pod.restarts);
        let ended = json!({"terminated": {"exitCode": exit_code, "reason": reason}});
        let back_off_s = FIRST_BACK_OFF_S.saturating_mul(1 << (restarts - 1).min(5)).min(LAST_BACK_OFF_S);
        self.edit_pod(key, |pod| {
            set_condition(pod, json!({"type": "Ready", "status": "False", "reason": "ContainersNotReady"}));
            let status = &mut pod["status"];
            if never {
                status["phase"] = json!(if exit_code == 0 { "Succeeded" } else { "Failed" });
                status["containerStatuses"] = statuses(&names, &ended, false);
            } else {
                let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
                let state = if exit_code == 0 { &ended } else { &waiting };
                if let Some(first) = status["containerStatuses"].as_array_mut().and_then(|all| all.first_mut()) {
                    first["state"] = state.clone();
                    first["ready"] = json!(false);
                }
            }
        });
        if !never {
            let after = if exit_code == 0 { RESTART_AFTER } else { Span::from_s(back_off_s) };
            self.plan(key, Step::Restart, after);
        }
    }

    /// Its deletion was asked for.
    pub(super) fn pod_leaves(&mut self, key: &Key) {
        self.end_ray(key, true);
        let Some(pod) = self.pods.get(key) else { return };
        self.waiting.remove(&Self::waiting_key(key, pod));
        let stop = self.draw(&self.scenario.pods.stop, "stop", key);
        self.plan(key, Step::Finish, stop);
    }
}

/// The pod is ready, with all its containers, or no longer.
fn set_ready(pod: &mut Value, is_ready: bool) {
    let condition = if is_ready {
        json!({"type": "Ready", "status": "True"})
    } else {
        json!({"type": "Ready", "status": "False", "reason": "ContainersNotReady"})
    };
    set_condition(pod, condition);
    for container in pod["status"]["containerStatuses"].as_array_mut().into_iter().flatten() {
        container["ready"] = json!(is_ready);
    }
}

fn statuses(names: &[String], state: &Value, ready: bool) -> Value {
    names.iter().map(|name| json!({"name": name, "ready": ready, "restartCount": 0, "state": state})).collect()
}
