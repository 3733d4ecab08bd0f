//! Shapes of groups: Ray's resources exactly as Ray 2.60.0 derives them, and the facts beside them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

use std::collections::BTreeMap;

use mobula_api::{FieldError, GroupShape, group_shapes_from_value};
use serde::Deserialize;
use serde_json::{Value, json};

/// A group and what Ray derives from it; `None`: Ray refuses it.
#[derive(Deserialize)]
struct Measured {
    situation: String,
    group: Value,
    derived: Option<Derived>,
}

#[derive(Deserialize)]
struct Derived {
    resources: BTreeMap<String, f64>,
    labels: BTreeMap<String, String>,
    min_workers: u32,
    max_workers: u32,
}

fn cluster(groups: &Value) -> Value {
    let head = json!({"rayStartParams": {"num-cpus": "0"}, "template": {"spec": {"containers": [{}]}}});
    json!({"metadata": {"name": "c"}, "spec": {"headGroupSpec": head, "workerGroupSpecs": groups}})
}

fn shape(group: &Value) -> Result<GroupShape, FieldError> {
    let mut worker = json!({"groupName": "g", "minReplicas": 0, "maxReplicas": 3});
    worker.as_object_mut().unwrap().extend(group.as_object().unwrap().clone());
    let mut shapes = group_shapes_from_value(cluster(&json!([worker])))?;
    assert_eq!(shapes.len(), 2);
    assert!(shapes[0].is_head && !shapes[1].is_head);
    Ok(shapes.remove(1))
}

fn refusal(group: &Value) -> String {
    shape(group).unwrap_err().to_string()
}

/// A group with a CPU and `more`.
fn with_cpu(more: &Value) -> Value {
    let mut group = json!({"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "1"}}}]}}});
    group.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    group
}

#[test]
fn every_group_is_derived_as_by_ray() {
    let cases: Vec<Measured> = serde_json::from_str(include_str!("../testdata/groups.json")).unwrap();
    assert!(cases.len() > 50);
    for case in cases {
        match (shape(&case.group), case.derived) {
            (Ok(ours), Some(rays)) => {
                assert_eq!(ours.resources, rays.resources, "{}", case.situation);
                assert_eq!(ours.labels, rays.labels, "{}", case.situation);
                assert_eq!(ours.min_replicas * ours.num_of_hosts, rays.min_workers, "{}", case.situation);
                assert_eq!(ours.max_replicas * ours.num_of_hosts, rays.max_workers, "{}", case.situation);
            }
            (Err(error), None) => assert!(error.field.starts_with("spec.workerGroupSpecs[0]."), "{error}"),
            (ours, rays) => panic!("{}: ours {ours:?}, Ray accepts: {}", case.situation, rays.is_some()),
        }
    }
}

#[test]
fn whole_manifests_are_derived_as_by_ray() {
    let manifests = [
        (
            include_str!("../testdata/autoscaler.yaml"),
            json!({"headgroup": {"CPU": 0.0, "memory": 5_368_709_120.0}, "small-group": {"CPU": 1.0, "memory": 1_073_741_824.0}}),
        ),
        (
            include_str!("../testdata/tpu_v4_multihost.yaml"),
            json!({
                "headgroup": {"CPU": 8.0, "memory": 40e9},
                "tpu-group": {"CPU": 1.0, "TPU": 4.0, "TPU-v4-16-head": 1.0, "memory": 40e9},
            }),
        ),
        (
            include_str!("../testdata/labels_and_resources.yaml"),
            json!({
                "headgroup": {"CPU": 3.0, "memory": 4_294_967_296.0},
                "w": {"CPU": 2.0, "GPU": 1.0, "foo": 5.0, "memory": 2_147_483_648.0},
            }),
        ),
        (
            include_str!("../testdata/three_groups.yaml"),
            json!({
                "headgroup": {"CPU": 1.0, "memory": 2_147_483_648.0},
                "a": {"CPU": 1.0, "memory": 2_147_483_648.0},
                "b": {"CPU": 1.0, "memory": 2_147_483_648.0},
                "c-gpu": {"CPU": 1.0, "GPU": 2.0, "memory": 2_147_483_648.0, "x": 3.0},
            }),
        ),
    ];
    for (text, expected) in manifests {
        let shapes = group_shapes_from_value(serde_saphyr::from_str(text).unwrap()).unwrap();
        let ours: BTreeMap<_, _> = shapes.into_iter().map(|shape| (shape.name, shape.resources)).collect();
        assert_eq!(json!(ours), expected);
    }
}

#[test]
fn replicas_are_asked_for_within_their_bounds() {
    let text = include_str!("../testdata/replicas_out_of_bounds.yaml");
    let shapes = group_shapes_from_value(serde_saphyr::from_str(text).unwrap()).unwrap();
    let requested: Vec<_> = shapes.iter().map(|s| (s.name.as_str(), s.requested_replicas)).collect();
    assert_eq!(requested, [("headgroup", 1), ("a", 3), ("b", 2)]);
    assert_eq!(shape(&with_cpu(&json!({"minReplicas": 2}))).unwrap().requested_replicas, 2);
    assert_eq!(shape(&with_cpu(&json!({"minReplicas": 2, "replicas": -1}))).unwrap().requested_replicas, 2);
}

#[test]
fn absent_counts_are_those_the_api_server_fills_in() {
    let group = json!([with_cpu(&json!({"groupName": "g"}))]);
    let shape = group_shapes_from_value(cluster(&group)).unwrap().remove(1);
    assert_eq!(
        (shape.min_replicas, shape.max_replicas, shape.num_of_hosts, shape.requested_replicas),
        (0, 2_147_483_647, 1, 0)
    );
    assert_eq!((shape.idle_timeout_ms, shape.priority, shape.suspended), (None, 0, false));
}

#[test]
fn settings_of_a_group_are_taken() {
    let group = json!({"idleTimeoutSeconds": 30, "priority": -5, "suspend": true, "numOfHosts": 4, "replicas": 2});
    let shape = shape(&with_cpu(&group)).unwrap();
    assert_eq!((shape.idle_timeout_ms, shape.priority, shape.suspended), (Some(30_000), -5, true));
    assert_eq!((shape.num_of_hosts, shape.requested_replicas), (4, 2));
}

#[test]
fn bad_counts_are_named() {
    let refused = [
        (json!({"minReplicas": -3}), "minReplicas: -3: must be 0 or more"),
        (json!({"maxReplicas": -1}), "maxReplicas: -1: must be 0 or more"),
        (json!({"numOfHosts": 0}), "numOfHosts: 0: must be 1 or more"),
        (json!({"numOfHosts": 2_000_000_000}), "numOfHosts: 2000000000: must be 10000 or less"),
        (
            json!({"replicas": 2_000_000_000, "maxReplicas": 2_147_483_647}),
            "replicas: 2000000000: asks for more than 150000 pods (1 to a replica): lower it",
        ),
        (json!({"maxReplicas": 3_000_000_000_i64}), "maxReplicas: 3000000000: must be at most 2147483647"),
        (json!({"minReplicas": 4}), "minReplicas: 4: must not be more than maxReplicas, which is 3"),
        (json!({"priority": 3_000_000_000_i64}), "priority: 3000000000: must be an integer of 32 bits"),
        (json!({"idleTimeoutSeconds": -1}), "idleTimeoutSeconds: -1: must be from 0 to 2147483647 seconds"),
    ];
    for (group, expected) in refused {
        assert_eq!(refusal(&with_cpu(&group)), format!("spec.workerGroupSpecs[0].{expected}"));
    }
}

#[test]
fn bad_resources_are_named() {
    let container = "spec.workerGroupSpecs[0].template.spec.containers[0].resources";
    let limits = |limits: Value| json!({"template": {"spec": {"containers": [{"resources": {"limits": limits}}]}}});
    let refused = [
        (limits(json!({"cpu": "-1"})), format!("{container}.limits.cpu: -1: must be 0 or more")),
        (
            limits(json!({"cpu": "1E"})),
            format!("{container}.limits.cpu: 1E: is more than a Ray node can have (100000000000000)"),
        ),
        (
            limits(json!({"memory": "1Gi"})),
            format!("{container}.limits.cpu: group g has no CPU: set a CPU limit or request, or num-cpus in rayStartParams"),
        ),
        (limits(json!([])), format!("{container}.limits: […]: must be an object")),
        (json!({"template": {}}), "spec.workerGroupSpecs[0].template.spec: is required".to_owned()),
        (
            json!({"template": {"spec": {"containers": []}}}),
            "spec.workerGroupSpecs[0].template.spec.containers: […]: must hold the Ray container".to_owned(),
        ),
        (
            with_cpu(&json!({"rayStartParams": {"num-cpus": "many"}})),
            "spec.workerGroupSpecs[0].rayStartParams[\"num-cpus\"]: many: must be a whole number from 0 to 100000000000000"
                .to_owned(),
        ),
    ];
    for (group, expected) in refused {
        assert_eq!(refusal(&group), expected);
    }
    let garbage = refusal(&limits(json!({"cpu": "1", "rdma/hca": "x"})));
    assert!(garbage.starts_with(&format!("{container}.limits[\"rdma/hca\"]: x: is not a quantity")), "{garbage}");
    let custom = refusal(&with_cpu(&json!({"rayStartParams": {"resources": "{\"a\": 1}"}})));
    assert!(custom.contains("rayStartParams.resources: {\"a\": 1}: must be a JSON object in quotes"), "{custom}");
}

#[test]
fn bad_labels_are_named() {
    for key in ["", "a b", "-a", "a/", "/a", "a/b/c", "Upper.Case/a", "ä"] {
        let error = refusal(&with_cpu(&json!({"labels": {key: "v"}})));
        assert!(
            error.starts_with("spec.workerGroupSpecs[0].labels: ") && error.contains("is not a label key"),
            "{error}"
        );
    }
    for value in ["a b", "-a", "a_", &"x".repeat(64)] {
        let error = refusal(&with_cpu(&json!({"labels": {"rack": value}})));
        assert!(error.starts_with("spec.workerGroupSpecs[0].labels.rack: "), "{error}");
    }
}

#[test]
fn two_groups_of_one_name_are_refused() {
    let group = |name: &str| with_cpu(&json!({"groupName": name}));
    let refused = group_shapes_from_value(cluster(&json!([group("a"), group("b"), group("a")]))).unwrap_err();
    assert_eq!((refused.field.as_str(), refused.value.as_str()), ("spec.workerGroupSpecs[2].groupName", "a"));
    let refused = group_shapes_from_value(cluster(&json!([group("headgroup")]))).unwrap_err();
    assert_eq!(refused.field, "spec.workerGroupSpecs[0].groupName");
}

#[test]
fn extended_resources_are_kept_beside_what_ray_sees() {
    let resources = json!({
        "limits": {"cpu": "8", "memory": "16G", "nvidia.com/gpu": "8", "rdma/hca": "8", "hugepages-2Mi": "1Gi"},
        "requests": {"cpu": "4", "vendor.example/nic": 2, "ephemeral-storage": "1Gi", "rdma/hca": "8"},
    });
    let spec = json!({"nodeSelector": {"fabric": "ib0"}, "containers": [{"resources": resources}]});
    let shape = shape(&json!({"template": {"spec": spec}})).unwrap();
    assert_eq!(json!(shape.resources), json!({"CPU": 8.0, "GPU": 8.0, "memory": 16e9}));
    assert_eq!(
        json!(shape.extended_resources),
        json!({"nvidia.com/gpu": 8.0, "rdma/hca": 8.0, "vendor.example/nic": 2.0})
    );
    assert_eq!(json!(shape.node_selector), json!({"fabric": "ib0"}));
}

#[test]
fn a_started_node_has_more_labels_than_the_group_declares() {
    let env = json!([
        {"name": "RAY_NODE_MARKET_TYPE", "value": "spot"},
        {"name": "RAY_NODE_ZONE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['topology.kubernetes.io/zone']"}}},
        {"name": "RAY_NODE_REGION", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['region']"}}},
        {"name": "RAY_OVERRIDE_LABELS", "value": "{\"rack\": \"r9\"}"},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]);
    let template = json!({
        "metadata": {"annotations": {"region": "eu"}},
        "spec": {
            "nodeSelector": {"topology.kubernetes.io/zone": "eu-1"},
            "containers": [{"env": env, "resources": {"limits": {"cpu": 1}}}],
        },
    });
    let shape = shape(&json!({"template": template, "labels": {"rack": "r1", "tier": "a"}})).unwrap();
    assert_eq!(json!(shape.labels), json!({"rack": "r1", "tier": "a"}));
    let expected = json!({
        "ray.io/node-group": "g",
        "ray.io/market-type": "spot",
        "ray.io/availability-zone": "eu-1",
        "ray.io/availability-region": "eu",
        "rack": "r9",
        "tier": "a",
    });
    assert_eq!(json!(shape.expected_labels), expected);
}

#[test]
fn labels_of_ray_start_params_are_expected_but_not_planned_with() {
    let shape = shape(&with_cpu(&json!({"rayStartParams": {"labels": "rack=r1, zone=z1"}}))).unwrap();
    assert!(shape.labels.is_empty());
    assert_eq!(json!(shape.expected_labels), json!({"ray.io/node-group": "g", "rack": "r1", "zone": "z1"}));
    assert_eq!(
        shape.warnings,
        ["spec.workerGroupSpecs[0].rayStartParams.labels: rack=r1, zone=z1: is not seen by the autoscaler: write the \
          labels to the group's `labels`"]
    );
}

#[test]
fn a_tpu_slice_tells_its_labels() {
    let text = include_str!("../testdata/tpu_v4_multihost.yaml");
    let shape = group_shapes_from_value(serde_saphyr::from_str(text).unwrap()).unwrap().remove(1);
    let expected = json!({
        "ray.io/node-group": "tpu-group",
        "ray.io/accelerator-type": "TPU-V4",
        "ray.io/tpu-pod-type": "v4-16",
        "ray.io/tpu-topology": "2x2x2",
    });
    assert_eq!(json!(shape.expected_labels), expected);
}

#[test]
fn what_is_probably_a_mistake_is_warned_of() {
    let group = json!({"rayStartParams": {"num-cpus": "1"}, "resources": {"CPU": "2", "gpu": "1"}});
    let warnings = shape(&with_cpu(&group)).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("spec.workerGroupSpecs[0].rayStartParams[\"num-cpus\"]: 1: is overridden"));
    assert!(warnings[1].starts_with("spec.workerGroupSpecs[0].resources.gpu: 1: is a custom resource"));
    let tpu = json!({"resources": {"TPU": "4"}});
    assert!(shape(&with_cpu(&tpu)).unwrap().warnings[0].contains("cloud.google.com/gke-tpu-topology"));
}

#[test]
fn the_example_is_the_cluster_of_the_recorded_demand() {
    let text = include_str!("../../../deploy/examples/raycluster-a.yaml");
    let shapes = group_shapes_from_value(serde_saphyr::from_str(text).unwrap()).unwrap();
    let host = json!({"CPU": 8.0, "GPU": 8.0, "memory": 16e9, "rdma/hca": 8.0});
    let expected = [
        ("headgroup", 1, 1, json!({"CPU": 2.0, "head_marker": 1.0, "memory": 24e9})),
        ("cpu-group", 1, 40, json!({"CPU": 4.0, "memory": 8e9})),
        ("gpu-group", 1, 20, host.clone()),
        ("mh-group", 4, 8, host),
    ];
    assert_eq!(shapes.len(), expected.len());
    for (shape, (name, hosts, most, resources)) in shapes.iter().zip(expected) {
        assert_eq!((shape.name.as_str(), shape.num_of_hosts, shape.max_replicas), (name, hosts, most));
        assert_eq!(json!(shape.resources), resources, "{name}");
        assert_eq!(shape.warnings, [""; 0], "{name}");
    }
}
