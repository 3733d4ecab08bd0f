//! kube-scheduler itself: `scheduling.k8s.io/v1beta1`, where it is served.

use serde_json::{Value, json};

use super::super::{Children, draft::PodDraft};
use super::{GANG_ENABLED, GangMembers, size};

/// Name of the one template of the Workload.
const TEMPLATE: &str = "cluster";

/// The Workload and its PodGroup, if the RayCluster asks for a gang.
pub(super) fn objects(children: &Children<'_>, members: &GangMembers) -> Vec<Value> {
    if !is_gang(children) {
        return Vec::new();
    }
    let cluster = &children.cluster.metadata.name;
    let labels = json!({ "ray.io/cluster": cluster });
    let policy = json!({ "gang": { "minCount": size(members) } });
    let workload = json!({
        "apiVersion": "scheduling.k8s.io/v1beta1",
        "kind": "Workload",
        "metadata": children.metadata(cluster, labels.clone()),
        "spec": {
            "controllerRef": { "apiGroup": "ray.io", "kind": "RayCluster", "name": cluster },
            "podGroupTemplates": [{ "name": TEMPLATE, "schedulingPolicy": policy }],
        },
    });
    let pod_group = json!({
        "apiVersion": "scheduling.k8s.io/v1beta1",
        "kind": "PodGroup",
        "metadata": children.metadata(&group_name(children), labels),
        "spec": {
            "workloadRef": { "workloadName": cluster, "templateName": TEMPLATE },
            "schedulingPolicy": policy,
        },
    });
    vec![workload, pod_group]
}

pub(super) fn mark(children: &Children<'_>, pod: &mut PodDraft) {
    if is_gang(children) {
        pod.set_spec("schedulerName", "default-scheduler");
        pod.set_spec("schedulingGroup", json!({ "podGroupName": group_name(children) }));
    }
}

fn is_gang(children: &Children<'_>) -> bool {
    children.label(GANG_ENABLED).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn group_name(children: &Children<'_>) -> String {
    format!("{}-{TEMPLATE}", children.cluster.metadata.name)
}
