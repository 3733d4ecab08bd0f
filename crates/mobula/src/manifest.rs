//! A manifest as the API server would take it: what `lint` and `render` both begin with, so that they agree.

use mobula_api::{Fault, FieldError, Kind};
use serde_json::Value;

/// Makes of a manifest what the API server would make of it, and says in what it is not as its definition says.
pub fn prepare(kind: Kind, object: &mut Value) -> Vec<Fault> {
    kind.fill_in_defaults(object);
    let mut faults = version(object);
    let misfits = kind.misfits(object).into_iter();
    let fault = |is_unknown| if is_unknown { Fault::advice } else { Fault::fatal };
    faults.extend(misfits.map(|misfit| fault(misfit.is_unknown)(misfit.error)));
    name_it(object);
    faults
}

fn version(object: &Value) -> Vec<Fault> {
    match object.get("apiVersion").and_then(Value::as_str) {
        Some("ray.io/v1") => Vec::new(),
        Some(old @ "ray.io/v1alpha1") => {
            vec![Fault::advice(FieldError::new("apiVersion", old, "is deprecated: write ray.io/v1"))]
        }
        other => vec![Fault::fatal(FieldError::new("apiVersion", other.unwrap_or_default(), "must be ray.io/v1"))],
    }
}

/// A name as the API server would make one.
fn name_it(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if !metadata.contains_key("name")
        && let Some(prefix) = metadata.get("generateName").and_then(Value::as_str).map(str::to_owned)
    {
        metadata.insert("name".to_owned(), Value::from(prefix + "xxxxx"));
    }
}

#[cfg(test)]
mod tests {
    use mobula_api::{Compat, Gates};
    use mobula_operator::config::Config;
    use serde_json::json;

    use super::*;
    use crate::{lint, render};

    /// A RayCluster that says much.
    const FULL: &str = r#"
apiVersion: ray.io/v1
kind: RayCluster
metadata: {name: full, labels: {ray.io/gang-scheduling-enabled: "true"}, annotations: {ray.io/enable-serve-service: "true"}}
spec:
  rayVersion: 2.56.0
  enableInTreeAutoscaling: true
  autoscalerOptions: {version: v2, image: a, env: [{name: A, value: b}], resources: {limits: {cpu: 1}}}
  authOptions: {mode: token}
  gcsFaultToleranceOptions: {backend: rocksdb, storage: {size: 5Gi, accessModes: [ReadWriteOnce]}}
  historyServerOptions: {collectorOptions: {image: c, env: [{name: STORAGE_BACKEND, value: gcs}, {name: GCS_BUCKET, value: b}]}}
  networkPolicy: {mode: DenyAllIngress, head: {ingressRules: [{ports: [{port: 8265}]}]}, workerGroups: [{groupName: w}]}
  upgradeStrategy: {type: Recreate}
  headServiceAnnotations: {a: b}
  headGroupSpec:
    enableIngress: true
    ingressOptions: {host: a.b}
    serviceType: NodePort
    rayStartParams: {dashboard-port: "9", resources: '"{\"a\": 1}"'}
    headService: {metadata: {name: h, labels: {a: b}}, spec: {ports: [{name: extra, port: 1}]}}
    template:
      metadata: {labels: {a: b}, annotations: {a: b}}
      spec:
        containers:
        - name: ray-head
          image: ray
          command: [a]
          resources: {limits: {cpu: 1, memory: 2Gi, google.com/tpu: 4}, requests: {cpu: 1}}
          ports: [{name: serve, containerPort: 8000}]
          env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
          volumeMounts: [{name: v, mountPath: /v}]
        volumes: [{name: v, emptyDir: {}}]
        initContainers: [{name: i, image: i}]
  workerGroupSpecs:
  - groupName: w
    replicas: 1
    minReplicas: 0
    maxReplicas: 2
    numOfHosts: 2
    priority: 3
    idleTimeoutSeconds: 3
    resources: {CPU: "1"}
    labels: {a: b}
    scaleStrategy: {workersToDelete: [a]}
    template: {spec: {containers: [{name: ray-worker, image: ray, resources: {limits: {cpu: 1}}}], restartPolicy: Never}}
"#;

    /// All places in a document.
    fn places(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Value::Object(members) => members.iter().for_each(|(key, value)| {
                places(value, &format!("{at}/{}", key.replace('/', "~1")), found);
            }),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, item)| places(item, &format!("{at}/{i}"), found));
            }
            _ => {}
        }
    }

    fn config() -> Config {
        let gates = "RayClusterNetworkPolicy=true,RayClusterHistoryServer=true,GCSFaultToleranceEmbeddedStorage=true";
        let compat = Compat::V1_7;
        Config { compat, gates: Gates::parse(gates, compat).unwrap(), ..Config::default() }
    }

    /// What `lint` calls an error, and why `render` refuses.
    fn both(object: &Value) -> (Vec<String>, Option<String>) {
        let config = config();
        let faults = lint::faults(Kind::RayCluster, object.clone(), &config.rules());
        let errors = faults.into_iter().filter(|fault| fault.is_fatal).map(|fault| fault.error.to_string()).collect();
        (errors, render::children("f", object.clone(), "ns", &config).err().map(|error| error.to_string()))
    }

    #[test]
    fn lint_has_an_error_where_render_refuses_and_only_there() {
        let full: Value = serde_saphyr::from_str(FULL).unwrap();
        assert_eq!(both(&full), (Vec::new(), None));
        let mut found = Vec::new();
        places(&full, "", &mut found);
        let trouble = [
            json!(null),
            json!(true),
            json!(-1),
            json!(0),
            json!(200_000),
            json!(i64::MAX),
            json!(1.5),
            json!(""),
            json!("x".repeat(70)),
            json!("$(X)"),
            json!("-1"),
            json!("9999999999999999999Ei"),
            json!([]),
            json!([null]),
            json!([{}]),
            json!({}),
            json!({"a": null}),
        ];
        let own = ["", "/apiVersion", "/kind"];
        let mut wrong = Vec::new();
        for (place, value) in found
            .iter()
            .filter(|place| !own.contains(&place.as_str()))
            .flat_map(|place| trouble.iter().map(move |value| (place, value)))
        {
            let mut object = full.clone();
            *object.pointer_mut(place).unwrap() = value.clone();
            let (errors, refusal) = both(&object);
            if errors.is_empty() != refusal.is_none() {
                wrong.push(format!("{place} = {value}: {errors:?} {refusal:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn a_generated_name_and_nulls_are_taken_as_by_the_api_server() {
        let mut object: Value = serde_saphyr::from_str(FULL).unwrap();
        object["metadata"] = json!({"generateName": "many-", "namespace": null});
        object["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] =
            Value::Null;
        assert_eq!(both(&object), (Vec::new(), None));
        let made = render::children("f", object.clone(), "ns", &config()).unwrap();
        assert!(made.iter().any(|object| object["metadata"]["name"] == "many-xxxxx-w-worker-RAND-000"));
        object["spec"]["managedBy"] = json!("me");
        let (errors, refusal) = both(&object);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(refusal.unwrap().contains("spec.managedBy: me: the managedBy field value must be"));
    }
}
