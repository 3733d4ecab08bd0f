//! Suspension: asked for, under way, done. The conditions say which, so that a suspension that has begun is ended even if
//! the wish for it is taken back meanwhile.

use mobula_api::RayCluster;

use super::pass::{ALL_PODS, Pass};
use crate::frame::{
    condition,
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

/// Whether the cluster is to have no pods: the user says so, or the autoscaler, because nobody used it.
pub(crate) fn is_wanted(cluster: &RayCluster) -> bool {
    cluster.spec.suspend == Some(true) || cluster.spec.idle_suspend == Some(true)
}

/// Where the suspension stands.
pub(super) fn state(pass: &Pass<'_>) -> State {
    let conditions = condition::all(&pass.observed.cluster.status);
    let wanted = is_wanted(pass.observed.cluster);
    if condition::is_true(conditions, "RayClusterSuspending") {
        State::Suspending
    } else if condition::is_true(conditions, "RayClusterSuspended") {
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
    say(pass);
    let steps = deletions(pass);
    if pass.may_try(ALL_PODS) {
        pass.decision.then(steps);
    }
}

/// Says that the pods go, when that begins; it ends with the suspension.
pub(super) fn say(pass: &mut Pass<'_>) {
    if state(pass) == State::Asked {
        return;
    }
    let message = format!("Deleted Pods for RayCluster {} due to suspension", pass.name());
    let notice = Notice { is_warning: false, reason: "DeletedPod", action: "Delete", message };
    pass.decision.states.insert(notice);
}

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
