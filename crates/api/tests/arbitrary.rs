//! No document makes the readers panic, and what they accept they write again.

use mobula_api::{PodView, RayCluster, Rules};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Scalars that tend to be trouble.
fn scalar() -> impl Strategy<Value = Value> {
    let texts = prop::sample::select(vec![
        "",
        "1",
        "-1",
        "500m",
        "8Gi",
        "1e400",
        "9Ei",
        "v1",
        "head",
        "worker",
        "'{\"a\": 1}'",
        "\"",
        "é",
        "2x2x2",
        "2026-11-21T10:06:29Z",
        "Unschedulable",
        "True",
        "PodResizePending",
        "Deferred",
        "ray",
        "metadata.labels['a']",
        "Node didn't have enough resource: cpu, requested: 1, used: 1, capacity: 1",
        "tpu-v4-podslice",
        "{\"groups\": {\"a\": {\"max-cpu\": 1, \"max-memory\": 1, \"resize-timeout\": 1}}}",
    ]);
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        texts.prop_map(Value::from),
        ".*".prop_map(Value::from),
    ]
}

/// Names that the readers look for.
fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "metadata",
        "name",
        "labels",
        "annotations",
        "spec",
        "status",
        "headGroupSpec",
        "workerGroupSpecs",
        "template",
        "containers",
        "resources",
        "limits",
        "requests",
        "cpu",
        "memory",
        "nvidia.com/gpu",
        "google.com/tpu",
        "groupName",
        "rayStartParams",
        "num-cpus",
        "replicas",
        "minReplicas",
        "maxReplicas",
        "numOfHosts",
        "scaleStrategy",
        "nodeSelector",
        "workersToDelete",
        "autoscalerOptions",
        "idleTimeoutSeconds",
        "ray.io/ippr",
        "phase",
        "conditions",
        "type",
        "reason",
        "message",
        "containerStatuses",
        "state",
        "waiting",
        "env",
        "value",
        "valueFrom",
        "creationTimestamp",
        "items",
        "schedulingGates",
        "nodeName",
        "ray.io/group",
        "CPU",
        "GPU",
        "port",
        "cloud.google.com/gke-tpu-topology",
        "RAY_enable_autoscaler_v2",
        "volumeMounts",
        "restartPolicy",
        "x",
    ])
    .prop_map(str::to_owned)
}

fn document() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(8, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((name(), inner), 0..6).prop_map(|all| Value::Object(Map::from_iter(all))),
        ]
    })
}

fn read_as_cluster(document: Value) -> Result<(), TestCaseError> {
    if let Ok(cluster) = RayCluster::from_value(document.clone()) {
        prop_assert_eq!(cluster.to_value(), document);
        let _ = (cluster.settings(), cluster.group_shapes(), cluster.gcs_endpoint(), cluster.ray_version());
        let _ = (cluster.validate(&Rules::default()), cluster.advice());
    }
    Ok(())
}

fn read_as_pods(document: &Value) {
    for pod in PodView::list_from_value(document).into_iter().flatten() {
        let _ = (pod.ippr_status(), pod.resize_suggestion());
    }
}

proptest! {
    #[test]
    fn any_document_is_read_or_refused(document in document()) {
        read_as_pods(&document);
        read_as_cluster(document)?;
    }

    #[test]
    fn any_group_is_derived_or_refused(
        params in document(), resources in document(), pod in document(), replicas in scalar(), ippr in scalar()
    ) {
        let template = json!({"spec": pod});
        let container = json!({"spec": {"containers": [{"name": "ray", "resources": resources, "env": pod}]}});
        for template in [template, container] {
            let group = json!({
                "groupName": "a", "template": template, "rayStartParams": params, "resources": resources,
                "labels": params, "replicas": replicas, "minReplicas": replicas, "numOfHosts": replicas,
            });
            let head = json!({"rayStartParams": {"num-cpus": "0"}, "template": {"spec": {"containers": [{}]}}});
            read_as_cluster(json!({
                "metadata": {"name": "c", "annotations": {"ray.io/ippr": ippr}},
                "spec": {"headGroupSpec": head, "workerGroupSpecs": [group], "autoscalerOptions": resources},
            }))?;
        }
    }

    #[test]
    fn any_pod_is_classified_or_refused(spec in document(), status in document(), metadata in document()) {
        let mut metadata = metadata;
        if let Value::Object(metadata) = &mut metadata {
            metadata.insert("name".into(), json!("p"));
        }
        for metadata in [metadata, json!({"name": "p"})] {
            read_as_pods(&json!({"metadata": metadata, "spec": spec, "status": status}));
        }
    }
}
