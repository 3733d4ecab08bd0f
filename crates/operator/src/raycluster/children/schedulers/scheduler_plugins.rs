//! The coscheduling plugin of kube-scheduler: `scheduling.x-k8s.io/v1alpha1`.

use mobula_api::{FieldError, keys};
use serde_json::{Value, json};

use super::super::{Children, draft::PodDraft, resources};
use super::{GangMembers, size};

/// The gang, if the RayCluster asks for one.
pub(super) fn pod_group(children: &Children<'_>, members: &GangMembers) -> Result<Option<Value>, FieldError> {
    if !children.wants_gang() {
        return Ok(None);
    }
    Ok(Some(json!({
        "apiVersion": "scheduling.x-k8s.io/v1alpha1",
        "kind": "PodGroup",
        "metadata": children.metadata(&children.cluster.metadata.name, Value::Null),
        "spec": {
            "minMember": size(members),
            "minResources": resources::to_value(&children.gang_resources(members)?),
        },
    })))
}

pub(super) fn mark(children: &Children<'_>, pod: &mut PodDraft) {
    pod.set_spec("schedulerName", "scheduler-plugins-scheduler");
    if children.wants_gang() {
        pod.labels.insert(keys::SCHEDULER_PLUGINS_POD_GROUP.to_owned(), children.cluster.metadata.name.clone());
    }
}
