//! What the API server would refuse of the objects that are made.

use serde_json::{Value, json};

use super::{are_advised_about, autoscaled, changed, head, worker};

/// What is wrong with objects that would be made: each manifest breaks one rule.
#[test]
fn what_the_api_server_would_refuse_of_the_objects_is_advised_about() {
    let of_head = "spec.headGroupSpec.template.spec.containers";
    let with = |container: Value| head(&json!({"template": {"spec": {"containers": [container]}}}));
    let ports = |ports: Value| with(json!({"ports": ports}));
    let service = |service: Value| head(&json!({"headService": service}));
    let second = |name: &str| json!({"spec": {"containers": [{}, {"name": name, "image": "i"}]}});
    let long = "x".repeat(64);
    let mut mounts = autoscaled("v2", json!({}));
    mounts["spec"]["autoscalerOptions"]["volumeMounts"] = json!([{"name": "data", "mountPath": "/d"}]);
    let cases = [
        (autoscaled("v2", head(&json!({"template": second("autoscaler")}))), format!("{of_head}[1].name: autoscaler: is the name")),
        (mounts, "spec.autoscalerOptions.volumeMounts[0].name: data: no such volume".into()),
        (
            worker(&json!({"template": {"spec": {"initContainers": [{"name": "wait-gcs-ready", "image": "i"}]}}})),
            "spec.workerGroupSpecs[0].template.spec.initContainers[0].name: wait-gcs-ready: is the name".into(),
        ),
        (head(&json!({"template": second("Side_car")})), format!("{of_head}[1].name: Side_car: no pod can be created")),
        (ports(json!([{"name": "client-and-so-on", "containerPort": 1}])), format!("{of_head}[0].ports[0].name: client-and-so-on: no pod")),
        (ports(json!([{"name": "8080", "containerPort": 1}])), format!("{of_head}[0].ports[0].name: 8080: no pod can be")),
        (ports(json!([{"name": "a", "containerPort": 70_000}])), format!("{of_head}[0].ports[0].containerPort: 70000: must be")),
        (
            worker(&json!({"template": {"spec": {"containers": [{"ports": [{"name": "a", "containerPort": 1}, {"name": "a", "containerPort": 2}]}]}}})),
            "spec.workerGroupSpecs[0].template.spec.containers[0].ports[1].name: a: is the name of".into(),
        ),
        (
            ports(json!([{"name": "http", "containerPort": 8080}])),
            format!("{of_head}[0].ports[0]: http: the head's Service would have the port http 8080 twice and can't be created: \
                     the operator's own is metrics 8080"),
        ),
        (
            ports(json!([{"name": "dns", "containerPort": 53}, {"name": "dns-udp", "containerPort": 53, "protocol": "UDP"}])),
            format!("{of_head}[0].ports[1]: dns-udp: the head's Service would have the port dns-udp 53 twice and can't be \
                     created: {of_head}[0].ports[0] is dns 53"),
        ),
        (
            service(json!({"spec": {"ports": [{"name": "dashboard", "port": 1}]}})),
            "spec.headGroupSpec.headService.spec.ports[0]: dashboard: the head's Service, to which the operator adds the \
             ports of the head, would have the port dashboard 1 twice and can't be created: the operator's own is \
             dashboard 8265: remove one of the two, or change it".into(),
        ),
        (
            service(json!({"spec": {"ports": [{"name": "other", "port": 8265}]}})),
            "spec.headGroupSpec.headService.spec.ports[0]: other: the head's Service, to".into(),
        ),
        (
            service(json!({"spec": {"ports": [{"port": 1}]}})),
            "spec.headGroupSpec.headService.spec.ports[0].name: no Service can be created: every port must have".into(),
        ),
        (service(json!({"metadata": {"name": long}})), format!("spec.headGroupSpec.headService.metadata.name: {long}: no Service")),
        (service(json!({"metadata": {"name": "1.a"}})), "spec.headGroupSpec.headService.metadata.name: 1.a: no Service".into()),
        (service(json!({"metadata": {"labels": {"a b": "c"}}})), "spec.headGroupSpec.headService.metadata.labels: a b: is not a label key".into()),
        (service(json!({"spec": {"type": "Cluster"}})), "spec.headGroupSpec.headService.spec.type: Cluster: no Service".into()),
        (head(&json!({"serviceType": "Nodeport"})), "spec.headGroupSpec.serviceType: Nodeport: no Service can be".into()),
        (
            json!({"spec": {"headServiceAnnotations": {"bad key": "x", "Example.com/fine": "y"}}}),
            "spec.headServiceAnnotations: bad key: is not an annotation key".into(),
        ),
        (
            worker(&json!({"template": {"metadata": {"labels": {"a": "b c"}}}})),
            "spec.workerGroupSpecs[0].template.metadata.labels.a: b c: is not a label value".into(),
        ),
        (
            worker(&json!({"template": {"metadata": {"annotations": {"-a": "b"}}}})),
            "spec.workerGroupSpecs[0].template.metadata.annotations: -a: is not an annotation key".into(),
        ),
    ];
    are_advised_about(cases);
}

#[test]
fn objects_that_the_api_server_takes_are_not_advised_about() {
    let service = json!({
        "metadata": {"name": "own", "annotations": {"Example.com/A": "x"}},
        "spec": {"type": "LoadBalancer", "ports": [{"name": "dns", "port": 8265, "protocol": "UDP"}, {"name": "x", "port": 1}]},
    });
    let ports = json!([{"containerPort": 8265}, {"name": "dashboard", "containerPort": 8266}, {"name": "metrics", "containerPort": 9}]);
    for change in [
        head(&json!({"headService": service})),
        head(
            &json!({"serviceType": "", "template": {"spec": {"containers": [{"ports": ports}, {"name": "autoscaler", "image": "i"}]}}}),
        ),
    ] {
        assert_eq!(changed(&change).advice(), [], "{change}");
    }
}
