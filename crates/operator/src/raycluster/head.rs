//! The head pod: never two of them.

use super::{
    classify::Standing,
    pass::{HEAD, Pass},
};
use crate::{
    frame::{
        condition,
        decision::{Action, Foreign, Step},
        kind,
        pod::{Place, Pod, SLOT},
    },
    names,
};
use mobula_api::{FieldError, keys};
use serde_json::{Value, json};

/// Annotation: a head that is gone after the cluster was provisioned is not made again.
const NO_RESTART: &str = "ray.io/disable-provisioned-head-restart";

/// Said where it can't be made.
const FAILED: [&str; 2] = ["FailedToCreateHeadPod", "Failed to create head Pod"];

/// Makes the head pod, or deletes one that has failed.
pub(super) fn make(pass: &mut Pass<'_>) {
    let heads = pass.heads();
    let with = |standing: Standing| heads.iter().filter(move |(_, other)| *other == standing).map(|(pod, _)| pod);
    let active = with(Standing::Active).count();
    if active > 1 {
        let names: Vec<&str> = with(Standing::Active).map(|pod| pod.name.as_str()).collect();
        let problem = "are all head pods: delete all but one; which one holds the state of the cluster can't be told";
        let error = FieldError::new("head", names.join(", "), problem);
        pass.fault(HEAD, FAILED[0], FAILED[1], error);
        return;
    }
    if active == 1 {
        return;
    }
    let failed: Vec<Step> = with(Standing::Failed).map(|pod| deletion(pod)).collect();
    if !failed.is_empty() {
        if pass.may_try(HEAD) && pass.may_replace(HEAD) {
            pass.decision.then(failed);
        }
        return;
    }
    // A head on a node that does not answer may still write to the same store, and keeps the name that all heads of the
    // cluster have where names have no suffix: then it must be gone for certain.
    let blocks = pass.children.is_fault_tolerant() || pass.children.head_pod_name().is_some();
    let is_in_the_way = with(Standing::Leaving).next().is_some() || (blocks && with(Standing::Lost).next().is_some());
    if is_in_the_way || !may_restart(pass) || !pass.may_try(HEAD) || !pass.may_replace(HEAD) {
        return;
    }
    // The name of a head that is gone is used again: so not even two operators that both think they lead make two of them.
    // Only beside a lost one there is another name.
    let visible = heads.iter().filter_map(|(pod, _)| pod.place).map(|place| place.incarnation.saturating_add(1)).max();
    let incarnation = visible.unwrap_or(0);
    match creation(pass, incarnation) {
        Ok(step) => pass.decision.then(vec![step]),
        Err(error) => pass.fault(HEAD, FAILED[0], FAILED[1], error),
    }
}

fn may_restart(pass: &Pass<'_>) -> bool {
    let forbids = pass.observed.cluster.metadata.annotations.get(NO_RESTART).is_some_and(|value| value == "true");
    let conditions = condition::all(&pass.observed.cluster.status);
    !(forbids && condition::is_true(conditions, "RayClusterProvisioned"))
}

fn creation(pass: &Pass<'_>, incarnation: u32) -> Result<Step, FieldError> {
    let name = pass.children.head_pod_name().unwrap_or_else(|| {
        let uid = &pass.observed.cluster.metadata.uid;
        names::pod_name(&pass.children.head_pod_prefix(), uid, keys::HEAD_GROUP, 0, 0, incarnation)
    });
    let mut body = pass.children.head_pod(&name)?;
    mark(&mut body, Place { replica: 0, host: 0, incarnation });
    let action = Action::Create { kind: &kind::POD, body, foreign: Foreign::Refused };
    let step = Step::new(HEAD, action).says("CreatedHeadPod", "Create", "Created head Pod");
    Ok(step.complains(FAILED[0], "Create", FAILED[1]))
}

/// Writes down what the name of a pod was derived from.
pub(super) fn mark(pod: &mut Value, place: Place) {
    pod["metadata"]["annotations"][SLOT] = json!(place.to_text());
}

fn deletion(pod: &Pod) -> Step {
    let action = Action::Delete { kind: &kind::POD, name: pod.name.clone(), uid: pod.uid.clone() };
    let step = Step::new(HEAD, action).says("DeletedHeadPod", "Delete", "Deleted head Pod");
    let step = step.complains("FailedToDeleteHeadPod", "Delete", "Failed to delete head Pod");
    Step { replaces_broken: true, ..step }
}
