//! Pods and Services of RayClusters, as a real kube-apiserver takes them or does not: what `mobula lint` says of them before.

use anyhow::{Context, Result, ensure};
use mobula_api::{Kind, RayCluster, Rules};
use mobula_operator::{config::Config, render};
use mobula_tests::apiserver::{ApiServer, post};
use serde_json::{Value, json};

const NAMESPACE: &str = "objects";

pub async fn run() -> Result<()> {
    let client = ApiServer::shared().await?.admin_client().await?;
    post(&client, "/api/v1/namespaces", &json!({"metadata": {"name": NAMESPACE}})).await?;
    for change in taken() {
        let (advice, refusals) = both(&client, &change).await?;
        ensure!(advice.is_empty() && refusals.is_empty(), "{change}: {advice:?}, {refusals:?}");
    }
    for change in refused() {
        let (advice, refusals) = both(&client, &change).await?;
        ensure!(advice.len() == 1, "{change}: {advice:?}");
        ensure!(!refusals.is_empty(), "{change}: the server takes it, and lint says {advice:?}");
    }
    Ok(())
}

fn head(spec: &Value) -> Value {
    json!({"headGroupSpec": spec})
}

fn head_ports(ports: &Value) -> Value {
    head(&json!({"template": {"spec": {"containers": [{"ports": ports}]}}}))
}

fn head_service(service: &Value) -> Value {
    head(&json!({"headService": service}))
}

fn worker(template: &Value) -> Value {
    json!({"workerGroupSpecs": [{"template": template}]})
}

/// Changes of the spec that leave nothing to complain about.
fn taken() -> Vec<Value> {
    let ports = json!([{"name": "dns", "port": 8265, "protocol": "UDP"}, {"name": "x", "port": 1}]);
    vec![
        json!({}),
        json!({"headServiceAnnotations": {"Example.com/A": "b"}}),
        head(&json!({"serviceType": "NodePort"})),
        head_service(&json!({"metadata": {"name": "own"}, "spec": {"type": "LoadBalancer", "ports": ports}})),
        head_ports(&json!([{"containerPort": 8265}, {"name": "dashboard", "containerPort": 8266}])),
        head(&json!({"template": {"spec": {"containers": [{}, {"name": "autoscaler", "image": "i"}]}}})),
        worker(&json!({"metadata": {"labels": {"a": ""}, "annotations": {"Example.com/A": "b c"}}})),
    ]
}

/// Changes of the spec with which a pod or a Service can't be made.
fn refused() -> Vec<Value> {
    let mount = json!([{"name": "no", "mountPath": "/no"}]);
    vec![
        json!({"enableInTreeAutoscaling": true, "headGroupSpec": {"template": {"spec": {"containers": [{}, {"name": "autoscaler", "image": "i"}]}}}}),
        json!({"enableInTreeAutoscaling": true, "autoscalerOptions": {"volumeMounts": mount}}),
        worker(&json!({"spec": {"initContainers": [{"name": "wait-gcs-ready", "image": "i"}]}})),
        worker(&json!({"spec": {"containers": [{"name": "Ray"}]}})),
        worker(&json!({"spec": {"containers": [{"ports": [{"name": "a-name-too-long-", "containerPort": 1}]}]}})),
        worker(&json!({"spec": {"containers": [{"ports": [{"name": "a--b", "containerPort": 1}]}]}})),
        worker(&json!({"spec": {"containers": [{"ports": [{"name": "80", "containerPort": 1}]}]}})),
        worker(&json!({"spec": {"containers": [{"ports": [{"name": "a", "containerPort": 70_000}]}]}})),
        worker(
            &json!({"spec": {"containers": [{"ports": [{"name": "a", "containerPort": 1}, {"name": "a", "containerPort": 2}]}]}}),
        ),
        worker(&json!({"metadata": {"labels": {"a b": "c"}}})),
        worker(&json!({"metadata": {"labels": {"a": "b c"}}})),
        worker(&json!({"metadata": {"annotations": {"-a": "b"}}})),
        head_ports(&json!([{"name": "http", "containerPort": 8080}])),
        head_ports(&json!([{"name": "a", "containerPort": 53}, {"name": "b", "containerPort": 53, "protocol": "UDP"}])),
        head_service(&json!({"spec": {"ports": [{"name": "dashboard", "port": 1}]}})),
        head_service(&json!({"spec": {"ports": [{"name": "other", "port": 8265}]}})),
        head_service(&json!({"spec": {"ports": [{"port": 1}]}})),
        head_service(&json!({"metadata": {"name": "x".repeat(64)}})),
        head_service(&json!({"metadata": {"name": "1.a"}})),
        head_service(&json!({"metadata": {"labels": {"a b": "c"}}})),
        head_service(&json!({"metadata": {"annotations": {"a b": "c"}}})),
        head_service(&json!({"spec": {"type": "Cluster"}})),
        head(&json!({"serviceType": "ExternalName"})),
        json!({"headServiceAnnotations": {"bad key": "x"}}),
    ]
}

/// What lint says, and what the server says of the pods and Services, of a RayCluster with this in its spec.
async fn both(client: &kube::Client, change: &Value) -> Result<(Vec<String>, Vec<String>)> {
    let template = |name: &str| {
        let limits = json!({"cpu": "1", "memory": "1Gi"});
        json!({"spec": {"containers": [{"name": name, "image": "i", "resources": {"limits": limits}}]}})
    };
    let group = json!({"groupName": "w", "replicas": 1, "template": template("ray-worker")});
    let mut object = json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "c", "namespace": NAMESPACE},
        "spec": {"rayVersion": "2.60.0", "headGroupSpec": {"template": template("ray-head")}, "workerGroupSpecs": [group]},
    });
    merge(object.get_mut("spec").context("there is one")?, change);
    Kind::RayCluster.fill_in_defaults(&mut object);
    let advice = Kind::RayCluster.faults(&object, &Rules::default());
    let made = render::objects(&RayCluster::from_value(object)?, &Config::default())?;
    let mut refusals = Vec::new();
    for made in made.iter().filter(|made| made["kind"] == "Pod" || made["kind"] == "Service") {
        refusals.extend(create(client, made).await?.err().map(|error| error.to_string()));
    }
    Ok((advice.into_iter().map(|fault| fault.error.to_string()).collect(), refusals))
}

/// Would it be created?
async fn create(client: &kube::Client, made: &Value) -> Result<Result<Value, kube::Error>> {
    let mut object = made.clone();
    // What stands for random letters is in capitals.
    let name = made["metadata"]["name"].as_str().unwrap_or_default().replace("RAND", "rand");
    object["metadata"]["name"] = name.into();
    let resource = made["kind"].as_str().unwrap_or_default().to_ascii_lowercase() + "s";
    let path = format!("/api/v1/namespaces/{NAMESPACE}/{resource}?dryRun=All");
    let request = http::Request::post(path).header("content-type", "application/json");
    Ok(client.request(request.body(object.to_string().into_bytes())?).await)
}

/// Lists are merged by index.
fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(change)) => {
            into.resize(into.len().max(change.len()), Value::Null);
            into.iter_mut().zip(change).for_each(|(into, change)| merge(into, change));
        }
        (into, change) => *into = change.clone(),
    }
}
