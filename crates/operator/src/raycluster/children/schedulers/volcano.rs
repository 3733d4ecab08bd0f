//! Volcano: `scheduling.volcano.sh/v1beta1`.

use mobula_api::{FieldError, keys};
use serde_json::{Map, Value, json};

use super::super::{
    Children,
    draft::{PodDraft, insert_unless_empty},
    env::Origin,
    group::Group,
    resources,
};
use super::{GangMembers, copy_label, size};

/// Labels of a RayCluster.
const QUEUE: &str = "volcano.sh/queue-name";
const PRIORITY_CLASS: &str = "ray.io/priority-class-name";
const TOPOLOGY_MODE: &str = "volcano.sh/network-topology-mode";
const HIGHEST_TIER: &str = "volcano.sh/network-topology-highest-tier-allowed";

/// The gang of a RayCluster; a RayJob has one of its own.
pub(super) fn pod_group(children: &Children<'_>, members: &GangMembers) -> Result<Option<Value>, FieldError> {
    if children.origin() == Origin::Job {
        return Ok(None);
    }
    let labels = &children.cluster.metadata.labels;
    let mut spec = Map::new();
    spec.insert("minMember".to_owned(), json!(size(members)));
    spec.insert("minResources".to_owned(), resources::to_value(&children.gang_resources(members)?));
    insert_unless_empty(&mut spec, "queue", json!(labels.get(QUEUE)));
    insert_unless_empty(&mut spec, "priorityClassName", json!(labels.get(PRIORITY_CLASS)));
    if let Some(mode) = labels.get(TOPOLOGY_MODE) {
        let mut topology = Map::new();
        insert_unless_empty(&mut topology, "mode", json!(mode));
        if let Some(tier) = labels.get(HIGHEST_TIER) {
            let field = format!("metadata.labels[{HIGHEST_TIER:?}]");
            let tier: i64 = tier.parse().map_err(|_| FieldError::new(field, tier, "must be a number"))?;
            topology.insert("highestTierAllowed".to_owned(), json!(tier));
        }
        spec.insert("networkTopology".to_owned(), Value::Object(topology));
    }
    let mut metadata = children.metadata(&group_name(children), Value::Null);
    if let Some(metadata) = metadata.as_object_mut() {
        let mut annotations = children.cluster.metadata.annotations.clone();
        annotations.retain(|key, _| !key.starts_with("mobula.dev/"));
        insert_unless_empty(metadata, "annotations", json!(annotations));
    }
    Ok(Some(json!({
        "apiVersion": "scheduling.volcano.sh/v1beta1",
        "kind": "PodGroup",
        "metadata": metadata,
        "spec": spec,
        "status": { "phase": "Pending" },
    })))
}

pub(super) fn mark(children: &Children<'_>, group: &Group<'_>, pod: &mut PodDraft) {
    pod.set_spec("schedulerName", "volcano");
    copy_label(children, QUEUE, QUEUE, pod);
    copy_label(children, PRIORITY_CLASS, PRIORITY_CLASS, pod);
    pod.annotations.insert(keys::VOLCANO_POD_GROUP.to_owned(), group_name(children));
    pod.annotations.insert("volcano.sh/task-spec".to_owned(), group.name.to_owned());
}

fn group_name(children: &Children<'_>) -> String {
    let job = children.label("ray.io/originated-from-cr-name").filter(|_| children.origin() == Origin::Job);
    format!("ray-{}-pg", job.unwrap_or(&children.cluster.metadata.name))
}
