//! In-place resize: what the user allows, where a pod stands, what the kubelet says could be had.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

use mobula_api::{
    FieldError, GroupShape, IpprStatus, PodView, ResizeBounds, ResizeProgress, ResizeResource, group_shapes_from_value,
};
use serde_json::{Value, json};

const ANNOTATION: &str = "metadata.annotations[\"ray.io/ippr\"]";

fn head_and_small(ippr: &str, small: &Value) -> Result<Vec<GroupShape>, FieldError> {
    let resources = json!({"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}});
    let policy = json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
    let head = json!({"template": {"spec": {"containers": [{"resources": resources, "resizePolicy": policy}]}}});
    let mut group = json!({"groupName": "small"});
    group.as_object_mut().unwrap().extend(small.as_object().unwrap().clone());
    group_shapes_from_value(json!({
        "metadata": {"name": "c", "annotations": {"ray.io/ippr": ippr}},
        "spec": {"headGroupSpec": head, "workerGroupSpecs": [group]},
    }))
}

fn container(more: &Value) -> Value {
    let mut container = json!({"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}});
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"template": {"spec": {"containers": [container]}}})
}

fn wish(group: &str, max_cpu: &Value, max_memory: &Value, timeout: &Value) -> String {
    let wish = json!({"max-cpu": max_cpu, "max-memory": max_memory, "resize-timeout": timeout});
    json!({"groups": {group: wish}}).to_string()
}

#[test]
fn bounds_come_from_annotation_and_template() {
    let ippr = json!({"groups": {
        "headgroup": {"max-cpu": "4", "max-memory": "8Gi", "resize-timeout": 300},
        "small": {"max-cpu": 2.5, "max-memory": 4_294_967_296_i64, "resize-timeout": 120, "note": "kept out"},
        "gone": {"max-cpu": "1", "max-memory": "1Gi", "resize-timeout": 1},
    }});
    let shapes = head_and_small(&ippr.to_string(), &container(&json!({}))).unwrap();
    let gi = f64::from(1 << 30);
    let head =
        ResizeBounds { max_cpu: 4.0, max_memory: 8.0 * gi, min_cpu: 2.0, min_memory: 4.0 * gi, timeout_ms: 300_000 };
    let small = ResizeBounds { max_cpu: 2.5, max_memory: 4.0 * gi, min_cpu: 0.5, min_memory: gi, timeout_ms: 120_000 };
    assert_eq!(shapes.into_iter().map(|s| s.resize).collect::<Vec<_>>(), [Some(head), Some(small)]);
}

#[test]
fn no_wish_means_no_resize() {
    for ippr in ["", "{}", "{\"groups\": {}}", &wish("gone", &json!(1), &json!(1), &json!(1))] {
        let shapes = head_and_small(ippr, &container(&json!({}))).unwrap();
        assert!(shapes.iter().all(|shape| shape.resize.is_none()), "{ippr}");
    }
}

#[test]
fn a_wish_that_can_not_be_read_is_named() {
    let (cpu, memory, timeout) = (json!("4"), json!("8Gi"), json!(300));
    let refused = [
        ("nonsense".to_owned(), format!("{ANNOTATION}: nonsense: must be JSON")),
        ("[]".to_owned(), format!("{ANNOTATION}: […]: must be an object")),
        ("{\"groups\": 5}".to_owned(), format!("{ANNOTATION}.groups: 5: must be an object")),
        (
            "{\"groups\": {\"gone\": {\"max-cpu\": 1}}}".to_owned(),
            format!("{ANNOTATION}.groups.gone[\"resize-timeout\"]: is required"),
        ),
        (
            wish("small", &json!("many"), &memory, &timeout),
            format!("{ANNOTATION}.groups.small[\"max-cpu\"]: many: is not a quantity"),
        ),
        (
            wish("small", &cpu, &json!(true), &timeout),
            format!("{ANNOTATION}.groups.small[\"max-memory\"]: true: is not a quantity"),
        ),
        (
            wish("small", &cpu, &memory, &json!("300")),
            format!("{ANNOTATION}.groups.small[\"resize-timeout\"]: 300: must be an integer"),
        ),
        (
            wish("small", &cpu, &memory, &json!(-1)),
            format!("{ANNOTATION}.groups.small[\"resize-timeout\"]: -1: must be from 0"),
        ),
        (
            wish("small", &json!("250m"), &memory, &timeout),
            format!(
                "{ANNOTATION}.groups.small[\"max-cpu\"]: 250m: must be at least what the pod template of small has (500m)"
            ),
        ),
    ];
    for (ippr, expected) in refused {
        let error = head_and_small(&ippr, &container(&json!({}))).unwrap_err().to_string();
        assert!(error.starts_with(&expected), "{error}\nnot {expected}");
    }
}

#[test]
fn a_group_that_can_not_be_resized_is_named() {
    let ippr = wish("small", &json!("4"), &json!("8Gi"), &json!(300));
    let group = "spec.workerGroupSpecs[0]";
    let resources = |resources: Value| container(&json!({"resources": resources}));
    let policy =
        |policy: &str| container(&json!({"resizePolicy": [{"resourceName": "memory", "restartPolicy": policy}]}));
    let mut params = container(&json!({}));
    params["rayStartParams"] = json!({"num-cpus": "1"});
    let refused = [
        (params, format!("{group}.rayStartParams[\"num-cpus\"]: 1: can't be set for a group that is resized in place")),
        (
            resources(json!({"limits": {"cpu": "1", "memory": "1Gi"}})),
            format!("{group}.template.spec.containers[0].resources.requests.cpu: is required"),
        ),
        (
            resources(json!({"requests": {"cpu": "1"}})),
            format!("{group}.template.spec.containers[0].resources.requests.memory: is required"),
        ),
        (
            policy("RestartContainer"),
            format!(
                "{group}.template.spec.containers[0].resizePolicy[0].restartPolicy: RestartContainer: must be NotRequired"
            ),
        ),
    ];
    for (small, expected) in refused {
        let error = head_and_small(&ippr, &small).unwrap_err().to_string();
        assert!(error.starts_with(&expected), "{error}\nnot {expected}");
    }
    assert!(head_and_small(&ippr, &policy("NotRequired")).is_ok());
}

/// A pod of 1 to 4 CPU and 2 to 8 Gi, with a side-car that requests 500m and 1Gi, and these conditions.
fn pod(conditions: &Value) -> PodView {
    let resources = json!({"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "4", "memory": "8Gi"}});
    let side_car = json!({"requests": {"cpu": "500m", "memory": "1Gi"}});
    PodView::from_value(&json!({
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "ray", "resources": resources}, {"name": "side-car"}]},
        "status": {
            "conditions": conditions,
            "containerStatuses": [{"name": "ray", "resources": resources}, {"name": "side-car", "resources": side_car}],
        },
    }))
    .unwrap()
}

fn condition(kind: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": reason, "message": message})
}

#[test]
fn conditions_tell_where_a_resize_stands() {
    let cases = [
        (condition("PodResizePending", "Deferred", "m"), Some(ResizeProgress::Deferred)),
        (condition("PodResizePending", "Infeasible", "m"), Some(ResizeProgress::Infeasible)),
        (condition("PodResizePending", "Later", "m"), Some(ResizeProgress::Pending)),
        (condition("PodResizeInProgress", "", "m"), Some(ResizeProgress::InProgress)),
        (condition("PodResizeInProgress", "Error", "m"), Some(ResizeProgress::Error)),
        (json!({"type": "PodResizePending", "status": "False", "reason": "Deferred"}), None),
        (condition("Ready", "", "m"), None),
    ];
    for (condition, expected) in cases {
        let resize = pod(&json!([{"type": "Ready", "status": "False"}, condition])).resize;
        assert_eq!(resize.as_ref().map(|r| r.progress), expected, "{condition}");
        assert!(resize.is_none_or(|r| r.message == "m"));
    }
}

#[test]
fn the_kubelets_refusal_tells_what_could_be_had() {
    let node = "Node didn't have enough";
    let cases = [
        // 9 - 5 are free, the side-car has 0.5 of them, the limit exceeds the request by 3.
        (
            "Deferred",
            format!("{node} resource: cpu, requested: 8000, used: 5000, capacity: 9000"),
            Some((ResizeResource::Cpu, "6500m")),
        ),
        (
            "Deferred",
            format!("{node} resource: memory, requested: 15032385536, used: 6442450944, capacity: 10737418240"),
            Some((ResizeResource::Memory, "9Gi")),
        ),
        (
            "Infeasible",
            format!("{node} capacity: cpu, requested: 8000, capacity: 2000"),
            Some((ResizeResource::Cpu, "4500m")),
        ),
        (
            "Infeasible",
            format!("resize: {node} capacity: memory, requested: 8, capacity: 1073741824, and more"),
            Some((ResizeResource::Memory, "6Gi")),
        ),
        (
            "Deferred",
            format!("{node} resource: cpu, requested: 1, used: 9000, capacity: 1000"),
            Some((ResizeResource::Cpu, "-5500m")),
        ),
        ("Infeasible", format!("{node} resource: cpu, requested: 8000, used: 5000, capacity: 9000"), None),
        ("Deferred", format!("{node} resource: gpu, requested: 1, used: 1, capacity: 1"), None),
        ("Deferred", format!("{node} resource: cpu, requested: x, used: 1, capacity: 1"), None),
        ("Deferred", format!("{node} resource: cpu, requested: 99999999999999999999, used: 1, capacity: 1"), None),
        ("Deferred", format!("{node} resource: cpu"), None),
        ("Deferred", String::new(), None),
        ("Later", format!("{node} resource: cpu, requested: 8000, used: 5000, capacity: 9000"), None),
    ];
    for (reason, message, expected) in cases {
        let suggestion = pod(&json!([condition("PodResizePending", reason, &message)])).resize_suggestion();
        let expected = expected.map(|(resource, max)| (resource, max.parse().unwrap()));
        assert_eq!(suggestion.map(|s| (s.resource, s.max)), expected, "{reason}: {message}");
    }
}

#[test]
fn the_status_annotation_is_ray_s() {
    let status = IpprStatus {
        raylet_id: Some("ab12".into()),
        resizing_at_s: Some(1_795_255_589),
        suggested_max_cpu: Some(6.5),
        suggested_max_memory: Some(9_663_676_416),
        ..IpprStatus::default()
    };
    let expected = json!({
        "raylet-id": "ab12",
        "resizing-at": 1_795_255_589,
        "suggested-max-cpu": 6.5,
        "suggested-max-memory": 9_663_676_416_i64,
        "last-failed-at": null,
        "last-failed-reason": null,
    });
    let text = status.to_annotation();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    let pod = |annotation: &str| {
        let metadata = json!({"name": "p", "annotations": {"ray.io/ippr-status": annotation}});
        PodView::from_value(&json!({"metadata": metadata})).unwrap().ippr_status()
    };
    assert_eq!(pod(&text).unwrap(), Some(status));
    assert_eq!(pod("{\"raylet-id\": \"ab12\"}").unwrap().unwrap().raylet_id.as_deref(), Some("ab12"));
    assert_eq!(pod("").unwrap(), None);
    let error = pod("[1, 2").unwrap_err();
    assert_eq!((error.field.as_str(), error.value.as_str()), ("metadata.annotations[\"ray.io/ippr-status\"]", "[1, 2"));
}
