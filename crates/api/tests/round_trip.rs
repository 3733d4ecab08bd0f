//! What was read is written again, byte for byte.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

use mobula_api::{RayCluster, ScaleStrategy};
use serde_json::{Value, json};

const MANIFESTS: [(&str, &str); 10] = [
    ("autoscaler", include_str!("../testdata/autoscaler.yaml")),
    ("autoscaler_v2", include_str!("../testdata/autoscaler_v2.yaml")),
    ("every_field", include_str!("../testdata/every_field.yaml")),
    ("gcs_in_redis", include_str!("../testdata/gcs_in_redis.yaml")),
    ("labels_and_resources", include_str!("../testdata/labels_and_resources.yaml")),
    ("own_head_service", include_str!("../testdata/own_head_service.yaml")),
    ("ray_start_params", include_str!("../testdata/ray_start_params.yaml")),
    ("replicas_out_of_bounds", include_str!("../testdata/replicas_out_of_bounds.yaml")),
    ("three_groups", include_str!("../testdata/three_groups.yaml")),
    ("tpu_v4_multihost", include_str!("../testdata/tpu_v4_multihost.yaml")),
];

fn manifest(name: &str) -> Value {
    let (_, text) = MANIFESTS.iter().find(|(other, _)| *other == name).unwrap();
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn nothing_is_lost() {
    for (name, _) in MANIFESTS {
        let written = manifest(name);
        let cluster = RayCluster::from_value(written.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(cluster.to_value(), written, "{name}");
        let again: RayCluster = serde_json::from_str(&serde_json::to_string(&cluster).unwrap()).unwrap();
        assert_eq!(again, cluster, "{name}");
    }
}

#[test]
fn every_field_has_its_type() {
    let spec = RayCluster::from_value(manifest("every_field")).unwrap().spec;
    assert_eq!(spec.extra.keys().collect::<Vec<_>>(), ["aFieldOfTheFuture", "headServiceAnnotations", "idleSuspend"]);
    let group = &spec.worker_group_specs[0];
    assert_eq!(group.extra.keys().collect::<Vec<_>>(), ["aGroupFieldOfTheFuture", "rayStartParams", "resources"]);
    assert_eq!(spec.head_group_spec.extra.keys().collect::<Vec<_>>(), ["rayStartParams"]);
    let options = spec.autoscaler_options.unwrap();
    assert_eq!(options.extra.keys().collect::<Vec<_>>(), ["env", "somethingNew"]);
    assert_eq!(
        (options.command.as_slice(), options.args.as_slice()),
        (["/usr/local/bin/mobula".to_owned()].as_slice(), ["sidecar".to_owned()].as_slice())
    );
    for extra in [
        spec.auth_options.unwrap().extra,
        spec.gcs_fault_tolerance_options.unwrap().extra,
        spec.upgrade_strategy.unwrap().extra,
        spec.tls_options.unwrap().extra,
        spec.history_server_options.unwrap().extra,
        spec.head_group_spec.ingress_options.unwrap().extra,
    ] {
        assert!(extra.is_empty(), "{extra:?}");
    }
}

#[test]
fn a_change_is_written_and_the_rest_stays() {
    let mut written = manifest("every_field");
    let mut cluster = RayCluster::from_value(written.clone()).unwrap();
    let group = &mut cluster.spec.worker_group_specs[0];
    group.replicas = Some(3);
    group.ray_start_params.insert("num-cpus".into(), "4".into());
    group.scale_strategy = Some(ScaleStrategy { workers_to_delete: vec!["p".into()], ..ScaleStrategy::default() });
    written["spec"]["workerGroupSpecs"][0]["replicas"] = json!(3);
    written["spec"]["workerGroupSpecs"][0]["rayStartParams"] = json!({"num-cpus": "4"});
    written["spec"]["workerGroupSpecs"][0]["scaleStrategy"] = json!({"workersToDelete": ["p"]});
    assert_eq!(cluster.to_value(), written);
}

#[test]
fn what_can_not_be_read_is_named() {
    let spec = |spec: Value| json!({"metadata": {"name": "c"}, "spec": spec});
    let template = json!({"spec": {"containers": [{}]}});
    let refused = [
        (json!(null), "the document: null: must be an object"),
        (json!({}), "metadata: is required"),
        (json!({"kind": "RayJob"}), "kind: RayJob: must be RayCluster"),
        (json!({"apiVersion": "apps/v1"}), "apiVersion: apps/v1: must be ray.io/v1"),
        (json!({"metadata": {}, "spec": {}}), "metadata.name: is required"),
        (json!({"metadata": {"name": ""}, "spec": {"headGroupSpec": {"template": {}}}}), "metadata.name: is required"),
        (json!({"metadata": {"name": "c"}}), "spec: is required"),
        (spec(json!({})), "spec.headGroupSpec: is required"),
        (spec(json!({"headGroupSpec": {}})), "spec.headGroupSpec.template: is required"),
        (
            spec(json!({"headGroupSpec": {"template": template}, "workerGroupSpecs": {}})),
            "spec.workerGroupSpecs: {…}: must be a list",
        ),
        (
            spec(json!({"headGroupSpec": {"template": template}, "workerGroupSpecs": [{"template": template}]})),
            "spec.workerGroupSpecs[0].groupName: is required",
        ),
        (
            spec(json!({"headGroupSpec": {"template": template, "rayStartParams": {"num-cpus": 4}}})),
            "spec.headGroupSpec.rayStartParams[\"num-cpus\"]: 4: must be a string: put it in quotes",
        ),
        (
            spec(json!({"headGroupSpec": {"template": template}, "suspend": "no"})),
            "spec.suspend: no: must be true or false",
        ),
        (
            spec(json!({"headGroupSpec": {"template": template}, "autoscalerOptions": {"idleTimeoutSeconds": 1.5}})),
            "spec.autoscalerOptions.idleTimeoutSeconds: 1.5: must be an integer",
        ),
    ];
    for (value, expected) in refused {
        assert_eq!(RayCluster::from_value(value).unwrap_err().to_string(), expected);
    }
}

#[test]
fn the_gcs_is_where_ray_start_puts_it() {
    let endpoint = |name: &str| RayCluster::from_value(manifest(name)).unwrap().gcs_endpoint();
    assert_eq!(endpoint("three_groups"), "x-groups3-head-svc.default.svc:6379");
    assert_eq!(endpoint("ray_start_params"), "x-startparams-head-svc.default.svc:6380");
    assert_eq!(endpoint("own_head_service"), "my-head.default.svc:6379");
    assert_eq!(endpoint("every_field"), "own-svc.ml.svc:6379");
}
