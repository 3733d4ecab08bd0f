//! Where pods are on their way to being Ray nodes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

use mobula_api::{PendingClass, PodRole, PodView};
use serde_json::{Value, json};

/// A worker pod with this status, bound to a node if `bound`.
fn pod(bound: bool, status: &Value) -> PodView {
    let mut pod = json!({
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "ray-worker"}, {"name": "side-car"}]},
        "status": status,
    });
    if bound {
        pod["spec"]["nodeName"] = json!("n1");
    }
    PodView::from_value(&pod).unwrap()
}

fn class(bound: bool, status: &Value) -> (PendingClass, String) {
    let pod = pod(bound, status);
    (pod.pending_class, pod.pending_message)
}

fn waiting(name: &str, reason: &str, message: &str) -> Value {
    json!({"name": name, "state": {"waiting": {"reason": reason, "message": message}}})
}

fn running(name: &str) -> Value {
    json!({"name": name, "state": {"running": {"startedAt": "2026-11-21T10:06:29Z"}}})
}

#[test]
fn a_running_worker_is_seen_whole() {
    let value = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "c-mh-worker-abcde",
            "uid": "u1",
            "resourceVersion": "42",
            "creationTimestamp": "2026-11-21T10:06:29Z",
            "deletionTimestamp": "2026-11-21T11:00:00Z",
            "labels": {
                "ray.io/cluster": "c",
                "ray.io/group": "mh",
                "ray.io/node-type": "worker",
                "ray.io/worker-group-replica-name": "mh-xyzzy",
            },
            "annotations": {"a": "b"},
        },
        "spec": {
            "nodeName": "n1",
            "containers": [
                {"name": "ray-worker", "resources": {"limits": {"cpu": "4", "memory": "8Gi"}, "requests": {"cpu": "1"}}},
                {"name": "side-car"},
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.7",
            "containerStatuses": [
                {"name": "a-side-car", "state": {"running": {}}, "resources": {"requests": {"cpu": "100m", "memory": "1Mi"}}},
                {"name": "ray-worker", "state": {"running": {}}, "resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}},
            ],
        },
    });
    let pod = PodView::from_value(&value).unwrap();
    assert_eq!((pod.name.as_str(), pod.uid.as_str(), pod.resource_version.as_str()), ("c-mh-worker-abcde", "u1", "42"));
    assert_eq!((pod.cluster.as_str(), pod.group.as_str(), pod.role), ("c", "mh", PodRole::Worker));
    assert_eq!((pod.terminating, pod.phase.as_str(), pod.created_ms), (true, "Running", Some(1_795_255_589_000)));
    assert_eq!(pod.replica.as_deref(), Some("mh-xyzzy"));
    assert_eq!((pod.ip.as_deref(), pod.node_name.as_deref()), (Some("10.0.0.7"), Some("n1")));
    assert_eq!((pod.pending_class, pod.pending_message.as_str()), (PendingClass::Running, ""));
    assert!(pod.ray_container.running);
    assert_eq!(pod.ray_container.wanted.cpu(), Some("4".parse().unwrap()));
    assert_eq!(pod.ray_container.wanted.cpu_gap(), Some("3".parse().unwrap()));
    assert_eq!(pod.ray_container.wanted.memory_gap(), None);
    assert_eq!(pod.ray_container.actual.cpu(), Some("2".parse().unwrap()));
    assert_eq!(pod.other_cpu_requests, "100m".parse().unwrap());
    assert_eq!(pod.annotations["a"], "b");
    let again: PodView = serde_json::from_value(serde_json::to_value(&pod).unwrap()).unwrap();
    assert_eq!(again, pod);
}

#[test]
fn only_head_and_worker_pods_are_ray_nodes() {
    for (node_type, role) in
        [("head", PodRole::Head), ("worker", PodRole::Worker), ("redis-cleanup", PodRole::Other), ("", PodRole::Other)]
    {
        let pod = json!({"metadata": {"name": "p", "labels": {"ray.io/node-type": node_type}}});
        assert_eq!(PodView::from_value(&pod).unwrap().role, role);
    }
}

#[test]
fn a_pod_without_a_node_waits_for_gates_or_the_scheduler() {
    let scheduled = |reason: &str, message: &str| {
        json!({"phase": "Pending", "conditions": [
            {"type": "Initialized", "status": "True"},
            {"type": "PodScheduled", "status": "False", "reason": reason, "message": message},
        ]})
    };
    let no_node = "0/9 nodes are available: 9 Insufficient nvidia.com/gpu.";
    let cases = [
        (json!({"phase": "Pending"}), PendingClass::Scheduling, String::new()),
        (json!({}), PendingClass::Scheduling, String::new()),
        (scheduled("Unschedulable", no_node), PendingClass::Unschedulable, format!("Unschedulable: {no_node}")),
        (scheduled("SchedulingGated", ""), PendingClass::Gated, "SchedulingGated".to_owned()),
        (scheduled("SchedulerError", "x"), PendingClass::Scheduling, "SchedulerError: x".to_owned()),
    ];
    for (status, expected, message) in cases {
        assert_eq!(class(false, &status), (expected, message), "{status}");
    }
    let spec = json!({"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}, {"name": "mine"}], "containers": []});
    let gated = PodView::from_value(&json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
    assert_eq!(gated.pending_class, PendingClass::Gated);
    assert_eq!(gated.nominated_node, None);
    let nominated = json!({"metadata": {"name": "p"}, "status": {"nominatedNodeName": "n"}});
    assert_eq!(PodView::from_value(&nominated).unwrap().nominated_node.as_deref(), Some("n"));
    let of_gang = json!({"metadata": {"name": "p"}, "spec": {"schedulingGroup": {"podGroupName": "g"}}});
    assert_eq!(PodView::from_value(&of_gang).unwrap().scheduling_group.as_deref(), Some("g"));
    assert_eq!(gated.pending_message, "scheduling gates: kueue.x-k8s.io/admission, mine");
}

#[test]
fn a_pod_on_a_node_pulls_starts_or_fails() {
    let init_running = json!({"name": "wait-gcs-ready", "state": {"running": {}}});
    let crashed = waiting("ray-worker", "CrashLoopBackOff", "back-off 5m0s");
    let cases = [
        (json!({"phase": "Pending"}), PendingClass::Pulling, ""),
        (
            json!({"containerStatuses": [waiting("ray-worker", "ContainerCreating", "")]}),
            PendingClass::Pulling,
            "ContainerCreating",
        ),
        (
            json!({"containerStatuses": [waiting("ray-worker", "ImagePullBackOff", "no such image")]}),
            PendingClass::PullFailing,
            "ImagePullBackOff: no such image",
        ),
        (
            json!({"initContainerStatuses": [waiting("wait-gcs-ready", "ErrImagePull", "")]}),
            PendingClass::PullFailing,
            "ErrImagePull",
        ),
        (
            json!({
                "initContainerStatuses": [init_running],
                "containerStatuses": [waiting("ray-worker", "PodInitializing", "")],
            }),
            PendingClass::Starting,
            "PodInitializing",
        ),
        (
            json!({"phase": "Running", "containerStatuses": [crashed]}),
            PendingClass::Failed,
            "CrashLoopBackOff: back-off 5m0s",
        ),
        (
            json!({"initContainerStatuses": [waiting("init", "CrashLoopBackOff", "")]}),
            PendingClass::Failed,
            "CrashLoopBackOff",
        ),
        (
            json!({"containerStatuses": [running("ray-worker"), waiting("side-car", "CrashLoopBackOff", "")]}),
            PendingClass::Running,
            "",
        ),
        (
            json!({"containerStatuses": [running("side-car"), waiting("ray-worker", "ContainerCreating", "")]}),
            PendingClass::Starting,
            "ContainerCreating",
        ),
        (
            json!({"containerStatuses": [{"name": "ray-worker", "state": {"terminated": {"reason": "OOMKilled"}}}]}),
            PendingClass::Failed,
            "OOMKilled",
        ),
        (json!({"phase": "Failed", "reason": "Evicted", "message": "disk"}), PendingClass::Failed, "Evicted: disk"),
        (
            json!({
                "phase": "Failed",
                "containerStatuses": [{"name": "ray-worker", "state": {"terminated": {"reason": "Error", "exitCode": 1}}}],
            }),
            PendingClass::Failed,
            "Error",
        ),
        (json!({"phase": "Succeeded"}), PendingClass::Failed, ""),
    ];
    for (status, expected, message) in cases {
        assert_eq!(class(true, &status), (expected, message.to_owned()), "{status}");
    }
}

#[test]
fn lists_of_pods_are_read_in_every_form_kubectl_prints() {
    let one = json!({"kind": "Pod", "metadata": {"name": "p"}});
    for list in
        [json!({"kind": "List", "items": [one]}), json!({"kind": "PodList", "items": [one]}), json!([one]), one.clone()]
    {
        let pods = PodView::list_from_value(&list).unwrap();
        assert_eq!(pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["p"], "{list}");
    }
    assert_eq!(PodView::list_from_value(&json!({"items": []})).unwrap(), []);
}

#[test]
fn what_is_no_pod_is_named() {
    let refused = [
        (json!({}), "metadata: is required"),
        (json!(5), "the document: 5: must be an object"),
        (json!({"kind": "Node", "metadata": {"name": "n"}}), "kind: Node: must be Pod"),
        (json!({"items": [{"metadata": {"name": "p"}}, {"metadata": {}}]}), "items[1].metadata.name: is required"),
        (
            json!([{"metadata": {"name": "p", "creationTimestamp": "yesterday"}}]),
            "[0].metadata.creationTimestamp: yesterday: must be a time like 2026-01-31T12:00:00Z",
        ),
        (
            json!([{"metadata": {"name": "p"}, "spec": {"containers": [{"resources": {"limits": {"cpu": "-1"}}}]}}]),
            "[0].spec.containers[0].resources.limits.cpu: -1: must be 0 or more",
        ),
        (
            json!({"metadata": {"name": "p"}, "status": {"phase": 5}}),
            "status.phase: 5: must be a string: put it in quotes",
        ),
    ];
    for (value, expected) in refused {
        assert_eq!(PodView::list_from_value(&value).unwrap_err().to_string(), expected);
    }
}
