//! The conditions of a RayCluster, as KubeRay has them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    pass::{ALL_PODS, HEAD, Pass},
    suspend::State,
};
use crate::frame::{
    condition,
    controller::STATUS_PART,
    outcome::{Class, Failure},
    pod::Pod,
    time,
    world::GangWait,
};

/// Conditions of a status that is being written.
pub(super) struct Conditions {
    list: Vec<Value>,
    now_ms: i64,
}

impl Conditions {
    /// The conditions that there are.
    pub(super) fn of(status: &Value, now_ms: i64) -> Self {
        Conditions { list: condition::all(status).to_vec(), now_ms }
    }

    /// As they are written.
    pub(super) fn into_value(self) -> Value {
        Value::Array(self.list)
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        condition::is_true(&self.list, name)
    }

    fn has(&self, name: &str) -> bool {
        self.list.iter().any(|condition| condition["type"] == name)
    }

    /// Sets a condition; the time of its transition only if its status changes.
    pub(super) fn set(&mut self, name: &str, is_true: Option<bool>, reason: &str, message: &str) {
        let status = is_true.map_or("Unknown", |is_true| if is_true { "True" } else { "False" });
        let message = message.get(..message.floor_char_boundary(MOST_MESSAGE_BYTES)).unwrap_or_default();
        let known = self.list.iter_mut().find(|condition| condition["type"] == name);
        let since = known.as_ref().filter(|condition| condition["status"] == status);
        let since = since.map_or_else(|| json!(time::rfc3339(self.now_ms)), |it| it["lastTransitionTime"].clone());
        let condition =
            json!({"type": name, "status": status, "reason": reason, "message": message, "lastTransitionTime": since});
        match known {
            Some(known) => *known = condition,
            None => self.list.push(condition),
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.list.retain(|condition| condition["type"] != name);
    }
}

/// Longest message that the API server takes, in bytes.
const MOST_MESSAGE_BYTES: usize = 32_768;

/// Whether the head pod is ready, in the words of the pod.
pub(super) fn head(conditions: &mut Conditions, head: Option<&Arc<Pod>>) {
    let name = "HeadPodReady";
    let Some(pod) = head else { return conditions.set(name, Some(false), "HeadPodNotFound", "Head Pod not found") };
    let Some(ready) = &pod.ready else { return conditions.set(name, Some(false), "Unknown", "") };
    let reason = |otherwise: &str| if ready.reason.is_empty() { otherwise.to_owned() } else { ready.reason.clone() };
    match ready.status.as_str() {
        "True" => conditions.set(name, Some(true), &reason("HeadPodRunningAndReady"), &ready.message),
        "False" => {
            let waiting = pod.first_not_running.as_ref().filter(|_| ready.reason == "ContainersNotReady");
            match waiting {
                Some((why, words)) if !why.is_empty() => conditions.set(name, Some(false), why, words),
                _ => conditions.set(name, Some(false), &reason("Unknown"), &ready.message),
            }
        }
        _ => conditions.set(name, None, &reason("Unknown"), &ready.message),
    }
}

/// Suspending, Suspended and Provisioned follow each other.
pub(super) fn suspension(conditions: &mut Conditions, state: State, has_pods: bool) {
    let (suspending, suspended) = ("RayClusterSuspending", "RayClusterSuspended");
    match state {
        State::Asked => conditions.set(suspending, Some(true), suspending, ""),
        State::Suspending if !has_pods => {
            conditions.set(
                "RayClusterProvisioned",
                Some(false),
                "RayClusterPodsProvisioning",
                "RayCluster has been suspended",
            );
            conditions.set(suspending, Some(false), suspending, "");
            conditions.set(suspended, Some(true), suspended, "");
        }
        State::Suspending | State::Suspended => {}
        State::Off => {
            conditions.set(suspending, Some(false), suspending, "");
            conditions.set(suspended, Some(false), suspended, "");
        }
    }
}

/// Provisioned is latched: true since all pods were ready for the first time.
pub(super) fn provisioned(conditions: &mut Conditions, all_are_ready: bool, state: State) {
    let name = "RayClusterProvisioned";
    if state == State::Off && all_are_ready && !conditions.is_true(name) {
        let message = "All Ray Pods are ready for the first time";
        conditions.set(name, Some(true), "AllPodRunningAndReadyFirstTime", message);
    } else if !conditions.has(name) || (state == State::Off && !conditions.is_true(name)) {
        let message = "RayCluster Pods are being provisioned for first time";
        conditions.set(name, Some(false), "RayClusterPodsProvisioning", message);
    }
}

/// Whether gangs wait, which, and why. Only where Mobula admits them.
pub(super) fn gangs(conditions: &mut Conditions, pass: &Pass<'_>) {
    let name = "GangsAdmitted";
    let waits = pass.observed.waits;
    if !crate::gangs::admits(pass.observed.cluster, pass.config) {
        return conditions.remove(name);
    }
    let gated = |gang: &Arc<crate::frame::gang_pod::GangPod>| gang.is_gated;
    let is_any_gated = pass.observed.pods.iter().filter_map(|pod| pod.gang.as_ref()).any(gated);
    if waits.is_empty() {
        return match is_any_gated {
            // Not looked at yet: it is not known whether any has to wait.
            true if conditions.has(name) => {}
            true => conditions.set(name, Some(false), "Waiting", ""),
            false => conditions.set(name, Some(true), "Whole", ""),
        };
    }
    let said = GangWait::listed(waits, "; ", |wait| format!("gang {}: {}", wait.gang, wait.reason));
    conditions.set(name, Some(false), "Waiting", &said);
}

/// What can't be made, and why. Visible at once.
pub(super) fn failure(conditions: &mut Conditions, pass: &Pass<'_>) {
    let name = "ReplicaFailure";
    let faults = pass.faults.iter().map(|(part, error)| (reason(part, "create"), error.to_string()));
    let failures = pass.observed.memory.failures.keys().filter_map(|part| failure_of(pass, part).map(|it| (part, it)));
    let failures = failures.map(|(part, failure)| (reason(part, failure.verb), failure.problem.message.clone()));
    let mut all: Vec<(&str, String)> = faults.chain(failures).collect();
    all.sort_by_key(|(reason, _)| ORDER.iter().position(|known| known == reason));
    all.dedup();
    match all.first() {
        Some((reason, _)) => conditions.set(name, Some(true), reason, &told(&all)),
        None => conditions.remove(name),
    }
}

/// Most failures that a condition tells.
const MOST_TOLD: usize = 20;

/// Failures as KubeRay tells one: reason and message on a line each. A reason is not repeated.
fn told(failures: &[(&str, String)]) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut last = "";
    for (reason, message) in failures.iter().take(MOST_TOLD) {
        if *reason != last {
            lines.push(reason);
        }
        last = reason;
        lines.push(message);
    }
    let more = failures.len().saturating_sub(MOST_TOLD);
    let lines = lines.join("\n");
    if more > 0 { format!("{lines}\nand {more} more") } else { lines }
}

/// Reasons of failures; what matters most first.
const ORDER: [&str; 6] = [
    "FailedDeleteAllPods",
    "FailedDeleteHeadPod",
    "FailedCreateHeadPod",
    "FailedDeleteWorkerPod",
    "FailedCreateWorkerPod",
    "FailedReconcileChild",
];

fn reason(part: &str, verb: &str) -> &'static str {
    match (part, verb) {
        (ALL_PODS, _) => "FailedDeleteAllPods",
        (HEAD, "delete") => "FailedDeleteHeadPod",
        (HEAD, _) => "FailedCreateHeadPod",
        (part, "delete") if part.starts_with("group/") => "FailedDeleteWorkerPod",
        (part, _) if part.starts_with("group/") => "FailedCreateWorkerPod",
        _ => "FailedReconcileChild",
    }
}

/// The failure of a part, if it is worth telling: conflicts mend themselves, and a server that is away for a moment is no
/// news of this cluster.
pub(super) fn failure_of<'a>(pass: &Pass<'a>, part: &str) -> Option<&'a Failure> {
    let failure = pass.observed.memory.failures.get(part)?;
    let is_needed = pass.decision.held.contains(part) || pass.decision.steps().any(|step| step.part == part);
    let is_lasting = match failure.problem.class {
        Class::Refused | Class::Taken | Class::Invalid => true,
        Class::Throttled | Class::Unavailable => failure.attempts >= 3,
        Class::Conflict => failure.attempts >= 8,
    };
    (part != STATUS_PART && is_needed && is_lasting).then_some(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_is_told_as_by_kuberay_and_many_up_to_a_limit() {
        let failure = |number: usize| ("FailedCreateWorkerPod", format!("no {number}"));
        assert_eq!(told(&[failure(1)]), "FailedCreateWorkerPod\nno 1");
        let many: Vec<_> = (0..MOST_TOLD + 5).map(failure).collect();
        let lines = told(&many);
        assert_eq!((lines.lines().count(), lines.lines().last()), (MOST_TOLD + 2, Some("and 5 more")));
    }
}
