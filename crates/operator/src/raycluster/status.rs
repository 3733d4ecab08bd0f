//! The status: what there is, compared with what is written; only differences are written.

use std::{collections::BTreeMap, sync::Arc};

use mobula_api::{InvalidReason, PendingClass, PodRole, WorkerGroupSpec};
use serde_json::{Map, Value, json};

use super::{
    classify::{Standing, standing},
    conditions::{self, Conditions},
    pass::{Pass, group_part},
    suspend::{self, State},
    totals,
};
use crate::frame::{
    condition, controller::EXTENSION, decision::StatusWrite, outcome::Class, pod::Pod, time, world::GangWait,
};

/// The first status waits so long, in ms, unless it says that something has come to an end or has failed: most clusters need
/// no other.
const FIRST_AFTER_MS: i64 = 5_000;
/// A status that says only how things get on lets other requests go before it for so long after the one before, or after the
/// first look at the RayCluster, in ms.
const YIELDS_FOR_MS: i64 = 15_000;
/// What changes on the way (counts, how a head gets on) is written so long after the write before, in ms. What others wait
/// for is written at once: states, conditions, failures, and that all workers are ready.
const COUNTS_AFTER_MS: i64 = 20_000;
/// The condition of a RayCluster that nothing can be done about before it is mended. KubeRay says that in Events only.
const INVALID: &str = "Invalid";

/// Says what the status should be, if that is not what is written.
pub(super) fn write(pass: &mut Pass<'_>, state: State) {
    let cluster = pass.observed.cluster;
    say_waits(pass);
    let mut conditions = Conditions::of(&cluster.status, pass.now_ms);
    let heads = pass.heads();
    let head = heads.iter().find(|(_, standing)| *standing == Standing::Active).or(heads.first()).map(|(pod, _)| pod);
    let pods: Vec<&Arc<Pod>> = pass.observed.pods.iter().filter(|pod| pod.role != PodRole::Other).collect();
    let totals = totals::of(cluster);
    let all_run = pods.iter().all(|pod| pod.is_running() && pod.ready.as_ref().is_none_or(|it| it.status != "False"));
    let expected = usize::try_from(totals.wanted).unwrap_or(usize::MAX).saturating_add(1);
    let all_are_ready = pods.len() >= expected && pods.iter().all(|pod| pod.is_ready());
    let has_pods = !pods.is_empty() || !pass.observed.orphans.is_empty();
    conditions::suspension(&mut conditions, state, has_pods);
    conditions::head(&mut conditions, head);
    conditions::provisioned(&mut conditions, all_are_ready, state);
    conditions::failure(&mut conditions, pass);
    conditions::gangs(&mut conditions, pass);
    conditions.remove(INVALID);
    let has_failed = conditions.is_true("ReplicaFailure");

    let workers = || pods.iter().filter(|pod| pod.role == PodRole::Worker);
    let mut status = cluster.status.as_object().cloned().unwrap_or_default();
    set_count(&mut status, "desiredWorkerReplicas", totals.wanted);
    set_count(&mut status, "minWorkerReplicas", totals.least);
    set_count(&mut status, "maxWorkerReplicas", totals.most);
    set_count(&mut status, "readyWorkerReplicas", count(workers().filter(|pod| pod.is_ready())));
    set_count(&mut status, "availableWorkerReplicas", count(workers().filter(|pod| pod.is_running())));
    let amounts = [
        ("desiredCPU", totals.cpu),
        ("desiredMemory", totals.memory),
        ("desiredGPU", totals.gpu),
        ("desiredTPU", totals.tpu),
    ];
    status.extend(amounts.map(|(name, quantity)| (name.to_owned(), json!(quantity.to_string()))));
    set_head(pass, &mut status, head);
    let is_suspended = suspend::is_wanted(cluster) && !has_pods;
    if is_suspended {
        set_state(&mut status, "suspended", pass.now_ms);
    } else if state == State::Off && !has_failed && pods.len() == expected && all_run && !pods.is_empty() {
        status.remove("reason");
        set_state(&mut status, "ready", pass.now_ms);
    }
    if !pass.observed.memory.status_is_pruned {
        status.insert(EXTENSION.to_owned(), groups(pass));
    }
    status.insert("conditions".to_owned(), conditions.into_value());
    status.insert("observedGeneration".to_owned(), json!(cluster.metadata.generation));
    pace(pass, status);
}

/// Says once of each gang that it waits: how far it is from fitting is in the status, where it may change.
fn say_waits(pass: &mut Pass<'_>) {
    let waits = pass.observed.waits;
    if waits.is_empty() {
        return;
    }
    let gangs = GangWait::listed(waits, ", ", |wait| format!("{} ({} pods)", wait.gang, wait.pods));
    let message = format!("Gangs of RayCluster {} wait until each fits as a whole: {gangs}", pass.name());
    pass.say_state("GangWaiting", "Admit", message);
}

/// Says in the status that the RayCluster is invalid.
pub(super) fn of_invalid(pass: &mut Pass<'_>, (reason, message): &(InvalidReason, String)) {
    let cluster = pass.observed.cluster;
    let mut conditions = Conditions::of(&cluster.status, pass.now_ms);
    conditions.set(INVALID, Some(true), reason.as_str(), message);
    let mut status = cluster.status.as_object().cloned().unwrap_or_default();
    status.insert("conditions".to_owned(), conditions.into_value());
    pace(pass, status);
}

/// Writes the status if it differs: at once if others wait for it, else not too often.
fn pace(pass: &mut Pass<'_>, mut status: Map<String, Value>) {
    let old = match &pass.observed.cluster.status {
        Value::Object(old) => old.clone(),
        _ => Map::new(),
    };
    if status == old {
        return;
    }
    let memory = pass.observed.memory;
    let mut wait_until_ms = memory.status_written_ms.map_or(0, |at_ms| at_ms.saturating_add(COUNTS_AFTER_MS));
    let is_first = old.get("conditions").is_none();
    if is_first {
        let since_ms = created_ms(pass).unwrap_or(0).max(memory.since_ms.unwrap_or(pass.now_ms));
        wait_until_ms = wait_until_ms.max(since_ms.saturating_add(FIRST_AFTER_MS));
    }
    let is_whole = is_whole(&status) && ready_of(&status) != ready_of(&old);
    let is_news = match is_first {
        true => says_news(&status),
        false => turned(&old) != turned(&status) || is_whole,
    };
    let is_urgent = is_news || (!is_first && head_of(&old) != head_of(&status));
    let failure = pass.observed.memory.failures.get(crate::frame::controller::STATUS_PART);
    if let Some(at_ms) = failure.map(|failure| failure.next_try_ms).filter(|at_ms| pass.now_ms < *at_ms) {
        pass.decision.held.insert(crate::frame::controller::STATUS_PART.to_owned());
        pass.decision.wake_at(at_ms);
        return;
    }
    if !is_urgent && pass.now_ms < wait_until_ms {
        pass.decision.wake_at(wait_until_ms);
        return;
    }
    status.insert("lastUpdateTime".to_owned(), json!(time::rfc3339(pass.now_ms)));
    let (old, status) = (Value::Object(old), Value::Object(status));
    let is_provisioned = |status| condition::is_true(condition::all(status), "RayClusterProvisioned");
    let created_ms = created_ms(pass).filter(|_| !is_provisioned(&old) && is_provisioned(&status));
    let provisioned_after_ms = created_ms.map(|created_ms| pass.now_ms.saturating_sub(created_ms));
    let before_ms = memory.status_written_ms.or(memory.since_ms).unwrap_or(pass.now_ms);
    let yields_until_ms = if is_news { 0 } else { before_ms.saturating_add(YIELDS_FOR_MS) };
    let patch = difference(&old, &status);
    let resource_version = pass.observed.cluster.metadata.resource_version.clone();
    pass.decision.status = Some(StatusWrite { patch, resource_version, yields_until_ms, provisioned_after_ms });
}

/// Unix time in ms at which the RayCluster was created.
fn created_ms(pass: &Pass<'_>) -> Option<i64> {
    let created = pass.observed.cluster.metadata.extra.get("creationTimestamp").and_then(Value::as_str);
    created.and_then(time::parse)
}

const HEAD_POD_READY: &str = "HeadPodReady";
/// How a head gets on that is there and that nothing is wrong with.
const ON_ITS_WAY: [&str; 4] = ["Unknown", "ContainersNotReady", "ContainerCreating", "PodInitializing"];

/// Whether all workers are ready.
fn is_whole(status: &Map<String, Value>) -> bool {
    ready_of(status) == status.get("desiredWorkerReplicas")
}

fn ready_of(status: &Map<String, Value>) -> Option<&Value> {
    status.get("readyWorkerReplicas")
}

/// A condition as others wait for it: type, status and reason.
type Turn = (Value, Value, Value);

/// What others wait for, but for the head: the state, and conditions.
fn turned(status: &Map<String, Value>) -> Vec<Turn> {
    let state = (status.get("state").cloned().unwrap_or_default(), Value::Null, Value::Null);
    conditions_of(status).filter(|(name, ..)| name != HEAD_POD_READY).chain([state]).collect()
}

/// The head as others wait for it: how it stands, and by which names it is found.
fn head_of(status: &Map<String, Value>) -> (Option<Turn>, [Value; 2]) {
    let names = ["podName", "serviceName"].map(|name| status.get("head").map(|head| head[name].clone()));
    let turn = conditions_of(status).find(|(name, ..)| name == HEAD_POD_READY);
    (turn, names.map(Option::unwrap_or_default))
}

fn conditions_of(status: &Map<String, Value>) -> impl Iterator<Item = Turn> {
    let conditions = status.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let reason = |it: &Value| match it["reason"].as_str() {
        Some(reason) if ON_ITS_WAY.contains(&reason) => Value::Null,
        _ => it["reason"].clone(),
    };
    conditions.map(move |it| (it["type"].clone(), it["status"].clone(), reason(it)))
}

/// Whether a first status says more than that everything is on its way.
fn says_news(status: &Map<String, Value>) -> bool {
    let is_news = |it: &Value| {
        let quiet = [HEAD_POD_READY, "RayClusterSuspended"];
        it["status"] == "True" && !quiet.iter().any(|quiet| it["type"] == *quiet)
    };
    status.get("state").is_some()
        || status.get("conditions").and_then(Value::as_array).into_iter().flatten().any(is_news)
}

/// The merge patch that makes `new` of `old`.
fn difference(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return new.clone() };
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(value)).map(|(key, value)| {
        let value = old.get(key).map_or_else(|| value.clone(), |old| difference(old, value));
        (key.clone(), value)
    });
    Value::Object(gone.chain(changed).collect())
}

fn count<T>(items: impl Iterator<Item = T>) -> i64 {
    i64::try_from(items.count()).unwrap_or(i64::MAX)
}

/// Go leaves zeros out.
fn set_count(status: &mut Map<String, Value>, name: &str, count: i64) {
    if count == 0 {
        status.remove(name);
    } else {
        status.insert(name.to_owned(), json!(count));
    }
}

fn set_text(object: &mut Map<String, Value>, name: &str, text: &str) {
    if text.is_empty() {
        object.remove(name);
    } else {
        object.insert(name.to_owned(), json!(text));
    }
}

fn set_state(status: &mut Map<String, Value>, state: &str, now_ms: i64) {
    if status.get("state").is_some_and(|known| known == state) {
        return;
    }
    status.insert("state".to_owned(), json!(state));
    let times = status.entry("stateTransitionTimes").or_insert_with(|| json!({}));
    times[state] = json!(time::rfc3339(now_ms));
}

/// The head's pod, Service and ports.
fn set_head(pass: &Pass<'_>, status: &mut Map<String, Value>, pod: Option<&Arc<Pod>>) {
    let services = pass.observed.children.iter().filter(|child| child.is_head_service());
    let service = services.min_by_key(|child| child.owner.is_empty());
    let mut head = Map::new();
    let ip = pod.map_or("", |pod| pod.ip.as_str());
    set_text(&mut head, "podIP", ip);
    set_text(&mut head, "podName", pod.map_or("", |pod| pod.name.as_str()));
    if let Some(service) = service {
        let cluster_ip = service.body["spec"]["clusterIP"].as_str().unwrap_or_default();
        set_text(&mut head, "serviceIP", if cluster_ip == "None" { ip } else { cluster_ip });
        set_text(&mut head, "serviceName", &service.key.name);
        let endpoints = status.entry("endpoints").or_insert_with(|| json!({}));
        for port in service.body["spec"]["ports"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let node_port = port.get("nodePort").filter(|port| port.as_i64().is_some_and(|port| port != 0));
            let target = node_port.or_else(|| port.get("targetPort")).or_else(|| port.get("port"));
            if let (Some(name), Some(target)) = (port["name"].as_str(), target) {
                endpoints[name] = json!(text(target));
            }
        }
    }
    status.insert("head".to_owned(), Value::Object(head));
}

/// What each group has, and why what it lacks is not there.
fn groups(pass: &Pass<'_>) -> Value {
    let group = |spec: &WorkerGroupSpec| {
        let pods = pass.observed.pods.iter().filter(|pod| pod.role == PodRole::Worker && pod.group == spec.group_name);
        let active: Vec<&Arc<Pod>> = pods.filter(|pod| standing(pod, pass.now_ms) == Standing::Active).collect();
        let mut pending: BTreeMap<&str, i64> = BTreeMap::new();
        for pod in active.iter().filter(|pod| !pod.is_ready()) {
            *pending.entry(class(pod)).or_default() += 1;
        }
        let mut object =
            json!({"groupName": spec.group_name, "ready": count(active.iter().filter(|pod| pod.is_ready()))});
        let failure = failure_of(pass, spec);
        if let (Some((class, _)), Ok((replicas, hosts))) = (&failure, spec.replicas_and_hosts("")) {
            let missing = i64::from(replicas) * i64::from(hosts) - count(active.iter());
            if missing > 0 {
                pending.insert(class, missing);
            }
        }
        if !pending.is_empty() {
            object["pending"] = json!(pending);
        }
        let said = active.iter().find(|pod| !pod.is_ready() && !pod.pending_message.is_empty());
        let wait = pass.observed.waits.iter().find(|wait| wait.groups.contains(&spec.group_name));
        if let Some(wait) = wait {
            object["message"] = json!(format!("gang {}: {}", wait.gang, wait.reason));
        } else if let Some((_, message)) = failure {
            object["message"] = json!(message);
        } else if let Some(pod) = said {
            object["message"] = json!(pod.pending_message);
        }
        object
    };
    Value::Array(pass.observed.cluster.spec.worker_group_specs.iter().map(group).collect())
}

/// Longest message about a group, in bytes.
const MOST_MESSAGE_BYTES: usize = 1_024;

/// Why pods of a group are not made or deleted: in one word, and in those of the server or of the fault in the spec.
fn failure_of(pass: &Pass<'_>, spec: &WorkerGroupSpec) -> Option<(&'static str, String)> {
    let part = group_part(&spec.group_name);
    if let Some((_, error)) = pass.faults.iter().find(|(faulty, _)| *faulty == part) {
        return Some(("Invalid", error.to_string()));
    }
    let problem = &conditions::failure_of(pass, &part)?.problem;
    let class = match problem.class {
        Class::Conflict => "Conflict",
        Class::Throttled => "Throttled",
        Class::Unavailable => "Unavailable",
        Class::Refused => "Refused",
        Class::Taken => "Taken",
        Class::Invalid => "Invalid",
    };
    let end = problem.message.floor_char_boundary(MOST_MESSAGE_BYTES);
    Some((class, problem.message.get(..end).unwrap_or_default().to_owned()))
}

/// Why a pod is not ready, in one word.
fn class(pod: &Pod) -> &'static str {
    match pod.pending {
        PendingClass::Gated => "Gated",
        PendingClass::Scheduling => "Scheduling",
        PendingClass::Unschedulable => "Unschedulable",
        PendingClass::Pulling => "Pulling",
        PendingClass::PullFailing => "PullFailing",
        PendingClass::Starting => "Starting",
        PendingClass::Running => "NotReady",
        PendingClass::Failed => "Failing",
    }
}
