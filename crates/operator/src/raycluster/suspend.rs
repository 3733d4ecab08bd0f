//! Suspension: asked for, under way, done. The conditions say which, so that a suspension that has begun is ended even if
//! the wish for it is taken back meanwhile.

use serde_json::Value;

use super::pass::{ALL_PODS, Pass};
use crate::frame::{
    decision::{Action, Notice, Step},
    kind,
};

/// Where a suspension stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not suspended, and not asked to be.
    Off,
    /// It is asked for; the conditions do not say so yet.
    Asked,
    /// All pods go.
    Suspending,
    /// There are none, and none is made.
    Suspended,
}

/// Whether a condition is true, as the status has it.
pub(super) fn is_true(status: &Value, name: &str) -> bool {
    let mut conditions = status.get("conditions").and_then(Value::as_array).into_iter().flatten();
    conditions.any(|condition| condition["type"] == name && condition["status"] == "True")
}

/// Where the suspension stands.
pub(super) fn state(pass: &Pass<'_>) -> State {
    let status = &pass.observed.cluster.status;
    let wanted = pass.observed.cluster.spec.suspend == Some(true);
    if is_true(status, "RayClusterSuspending") {
        State::Suspending
    } else if is_true(status, "RayClusterSuspended") {
        // Taking the field away says the same as `false`.
        if wanted { State::Suspended } else { State::Off }
    } else if wanted {
        State::Asked
    } else {
        State::Off
    }
}

/// Deletes every pod of the cluster.
pub(super) fn delete_pods(pass: &mut Pass<'_>) {
    let is_first = !pass.observed.memory.said.contains_key(DELETED);
    let steps = deletions(pass);
    if is_first && (!steps.is_empty() || pass.observed.pods.is_empty()) {
        let message = format!("Deleted Pods for RayCluster {} due to suspension", pass.name());
        pass.decision.notices.push(Notice { is_warning: false, reason: DELETED, action: "Delete", message });
    }
    if pass.may_try(ALL_PODS) {
        pass.decision.then(steps);
    }
}

const DELETED: &str = "DeletedPod";

/// A deletion for every pod whose deletion was not asked for yet.
pub(super) fn deletions(pass: &Pass<'_>) -> Vec<Step> {
    let present = pass.observed.pods.iter().filter(|pod| pod.deletion_ms.is_none());
    let step = |pod: &std::sync::Arc<crate::frame::pod::Pod>| {
        let action = Action::Delete { kind: &kind::POD, name: pod.name.clone(), uid: pod.uid.clone() };
        let step = Step::new(ALL_PODS, action);
        step.complains("FailedToDeletePodCollection", "Delete", "Failed to delete Pods")
    };
    present.map(step).collect()
}
