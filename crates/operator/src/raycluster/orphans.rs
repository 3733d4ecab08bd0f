//! What nobody owns and what bears the cluster's name: an earlier RayCluster of the name was deleted and left it
//! (`kubectl delete --cascade=orphan`), or its owner was taken out by hand.
//!
//! KubeRay finds pods by their labels, and so do Services, whoever owns them. A head beside one that nobody owns would be a
//! second head: so pods are adopted before anything is made.

use std::sync::Arc;

use mobula_api::{PodRole, keys};
use serde_json::{Value, json};

use super::{classify::Standing, pass::Pass};
use crate::frame::{
    decision::{Action, Step},
    kind::{self, Kind},
    pod::Pod,
    world::Child,
};

/// The part that the adoption of pods is.
const ORPHANS: &str = "orphans";

/// Adopts pods. True if some are there, or some still have an owner of this name that is gone: until they are adopted, or end, no
/// pod is made or deleted.
pub(super) fn adopt_pods(pass: &mut Pass<'_>) -> bool {
    let (ending, rest): (Vec<&Arc<Pod>>, Vec<_>) =
        pass.observed.orphans.iter().partition(|pod| pod.deletion_ms.is_some());
    if !rest.is_empty() && pass.may_try(ORPHANS) {
        let steps = rest.iter().map(|pod| {
            let step = adoption(pass, ORPHANS, &kind::POD, &pod.name, &pod.resource_version);
            let step = step.says("AdoptedPod", "Adopt", "Adopted Pod that nobody owned");
            step.complains("FailedToAdoptPod", "Adopt", "Failed to adopt Pod that nobody owns")
        });
        let steps = steps.collect();
        pass.decision.then(steps);
    }
    // As one of our own: one that hangs on a dead node may be replaced, unless it may write to the same store, or has the name.
    let waits_for_lost = pass.children.is_fault_tolerant() || pass.children.head_pod_name().is_some();
    let heads: Vec<&Arc<Pod>> = ending.into_iter().filter(|pod| pod.role == PodRole::Head).collect();
    let is_in_the_way = |standing: Standing| waits_for_lost || standing != Standing::Lost;
    let ends = heads.into_iter().map(|pod| pass.standing(pod)).fold(false, |ends, it| ends | is_in_the_way(it));
    !rest.is_empty() || ends || pass.observed.predecessor_stays
}

/// The adoption of a child that is no pod; `None`: it has an owner, or it is not time yet.
pub(super) fn adopt_child(pass: &mut Pass<'_>, part: &str, child: &Child) -> Option<Step> {
    // What users have made is used as it is, and stays theirs.
    let is_left_over = child.owner.is_empty()
        && child.kind != &kind::PERSISTENT_VOLUME_CLAIM
        && child.body["metadata"]["labels"][keys::CREATED_BY] == keys::CREATED_BY_OPERATOR;
    let is_due = is_left_over && pass.may_try(part);
    is_due.then(|| adoption(pass, part, child.kind, &child.key.name, &child.resource_version))
}

fn adoption(pass: &Pass<'_>, part: &str, kind: &'static Kind, name: &str, resource_version: &str) -> Step {
    let owners = pass.children.metadata(name, Value::Null)["ownerReferences"].take();
    let patch = json!({"metadata": {"resourceVersion": resource_version, "ownerReferences": owners}});
    Step::new(part, Action::Adopt { kind, name: name.to_owned(), patch })
}
