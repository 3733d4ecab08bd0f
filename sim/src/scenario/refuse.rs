//! What a manifest may say and nobody here acts on: refused by name, because a silent difference is worse than an error.

use serde_json::Value;

/// Fields of a pod's spec that would change where or how it runs. Beneath a list every element is looked at.
const POD_FIELDS: [(&str, &str); 12] = [
    ("affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution", "preferences between pods are not scored"),
    (
        "affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution",
        "preferences between pods are not scored",
    ),
    ("affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[].namespaceSelector", "name `namespaces`"),
    (
        "affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[].namespaceSelector",
        "name `namespaces`",
    ),
    ("topologySpreadConstraints[].minDomains", "the spread does not look at it"),
    ("topologySpreadConstraints[].matchLabelKeys", "name the labels in `labelSelector`"),
    ("topologySpreadConstraints[].nodeAffinityPolicy", "the spread does not look at it"),
    ("topologySpreadConstraints[].nodeTaintsPolicy", "the spread does not look at it"),
    ("overhead", "pods have no overhead here"),
    ("runtimeClassName", "there are no runtime classes, and so no overhead of one"),
    ("resourceClaims", "devices are resources of nodes here, such as nvidia.com/gpu"),
    ("nodeName", "pods are placed by the scheduler here"),
];

/// Quotas of these count what is there only in the simulation of pods.
fn is_of_pods(resource: &str) -> bool {
    let bare = resource.strip_prefix("requests.").or_else(|| resource.strip_prefix("limits.")).unwrap_or(resource);
    ["cpu", "memory", "ephemeral-storage", "pods", "count/pods"].contains(&bare)
        || bare.starts_with("hugepages-")
        || (bare != resource && bare.contains('/'))
}

/// The field that can't be taken, and why, if there is one.
pub(super) fn refuse(object: &Value) -> Option<(String, String)> {
    match object["kind"].as_str().unwrap_or_default() {
        "RayCluster" => refuse_cluster(&object["spec"]),
        "ResourceQuota" => refuse_quota(&object["spec"]),
        _ => None,
    }
}

fn refuse_quota(spec: &Value) -> Option<(String, String)> {
    for field in ["scopes", "scopeSelector"] {
        if is_said(&spec[field]) {
            return Some((
                format!("spec.{field}"),
                "is not simulated: quotas count all pods of their namespace".into(),
            ));
        }
    }
    let hard = spec["hard"].as_object().into_iter().flatten();
    let other = hard.map(|(name, _)| name).find(|name| !is_of_pods(name))?;
    Some((format!("spec.hard.{other}"), "is not simulated: only what pods take is counted".into()))
}

fn refuse_cluster(spec: &Value) -> Option<(String, String)> {
    let workers = spec["workerGroupSpecs"].as_array().into_iter().flatten().enumerate();
    let workers = workers.map(|(index, group)| (format!("spec.workerGroupSpecs[{index}]"), group));
    let mut groups = std::iter::once(("spec.headGroupSpec".to_owned(), &spec["headGroupSpec"])).chain(workers);
    groups.find_map(|(path, group)| {
        let (field, why) = refuse_pod(&group["template"]["spec"])?;
        Some((format!("{path}.template.spec.{field}"), why))
    })
}

fn refuse_pod(spec: &Value) -> Option<(String, String)> {
    let scheduler = spec["schedulerName"].as_str().unwrap_or("default-scheduler");
    if scheduler != "default-scheduler" {
        return Some(("schedulerName".into(), format!("{scheduler}: is not simulated: only default-scheduler is")));
    }
    let volumes = spec["volumes"].as_array().into_iter().flatten().enumerate();
    for (index, volume) in volumes {
        for field in ["persistentVolumeClaim", "ephemeral"] {
            if is_said(&volume[field]) {
                let why = "is not simulated: volumes bind no pod to a node here".to_owned();
                return Some((format!("volumes[{index}].{field}"), why));
            }
        }
    }
    let found = POD_FIELDS.iter().find_map(|(path, why)| Some((find(spec, path)?, why)));
    found.map(|(field, why)| (field, format!("is not simulated: {why}")))
}

/// Where the field of this path is said.
fn find(value: &Value, path: &str) -> Option<String> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let Some(name) = first.strip_suffix("[]") else {
        let inner = &value[first];
        return match rest {
            Some(rest) => find(inner, rest).map(|found| format!("{first}.{found}")),
            None => is_said(inner).then(|| first.to_owned()),
        };
    };
    let elements = value[name].as_array().into_iter().flatten().enumerate();
    elements.into_iter().find_map(|(index, element)| {
        let found = find(element, rest?)?;
        Some(format!("{name}[{index}].{found}"))
    })
}

fn is_said(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_simulated_is_found_by_name() {
        let cluster = |spec: Value| {
            let template = json!({"template": {"spec": spec}});
            refuse(&json!({"kind": "RayCluster", "spec": {"headGroupSpec": {}, "workerGroupSpecs": [{}, template]}}))
        };
        let field = |spec: Value| cluster(spec).map(|(field, _)| field).unwrap_or_default();
        let base = "spec.workerGroupSpecs[1].template.spec";
        assert_eq!(field(json!({"schedulerName": "volcano"})), format!("{base}.schedulerName"));
        assert_eq!(field(json!({"overhead": {"cpu": "1"}})), format!("{base}.overhead"));
        let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1}, {"minDomains": 2}]});
        assert_eq!(field(spread), format!("{base}.topologySpreadConstraints[1].minDomains"));
        let volume = json!({"volumes": [{"emptyDir": {}}, {"persistentVolumeClaim": {"claimName": "a"}}]});
        assert_eq!(field(volume), format!("{base}.volumes[1].persistentVolumeClaim"));
        assert_eq!(cluster(json!({"schedulerName": "default-scheduler", "volumes": [{"emptyDir": {}}]})), None);
        let quota = |spec: Value| refuse(&json!({"kind": "ResourceQuota", "spec": spec})).map(|(field, _)| field);
        assert_eq!(quota(json!({"hard": {"services": "2"}})).as_deref(), Some("spec.hard.services"));
        assert_eq!(quota(json!({"hard": {"pods": "2"}, "scopes": ["BestEffort"]})).as_deref(), Some("spec.scopes"));
        assert_eq!(quota(json!({"hard": {"requests.nvidia.com/gpu": 4, "limits.cpu": 2, "memory": "1Gi"}})), None);
    }
}
