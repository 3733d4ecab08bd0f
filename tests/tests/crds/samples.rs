//! KubeRay's samples, as a real kube-apiserver stores them under KubeRay's definitions and under ours.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mobula_api::{Kind, RayCluster, RayCronJob, RayJob, RayService};
use mobula_tests::apiserver::{ApiServer, post};
use mobula_tests::{parts, wait};
use serde_json::{Value, json};

use crate::kuberay;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const NAMESPACE: &str = "samples";
/// How long the server may take to serve a changed definition, on a busy machine.
const CHANGE_LIMIT: Duration = Duration::from_secs(60);

/// A sample, by its file and its place in it.
type Samples = BTreeMap<(PathBuf, usize), (Kind, Value)>;

pub async fn run() -> Result<()> {
    let samples = samples(&parts::kuberay_samples()?)?;
    for kind in Kind::ALL {
        ensure!(samples.values().any(|(other, _)| *other == kind), "no sample of {kind:?}");
    }
    let client = ApiServer::shared().await?.admin_client().await?;
    post(&client, "/api/v1/namespaces", &json!({"metadata": {"name": NAMESPACE}})).await?;
    // The server starts with KubeRay's RayCluster; the rest is created here.
    for kind in [Kind::RayJob, Kind::RayService, Kind::RayCronJob] {
        post(&client, DEFINITIONS, &kuberay(kind)?).await?;
    }
    for kind in Kind::ALL {
        served(&client, kind, "").await?;
    }
    let theirs = stored(&client, &samples).await?;
    for kind in Kind::ALL {
        replace(&client, kind).await?;
        served(&client, kind, "Made").await?;
    }
    let ours = stored(&client, &samples).await?;
    let mut lost = Vec::new();
    for (place, their) in &theirs {
        let our = ours.get(place).context("a sample is missing")?;
        if their != our {
            lost.push(format!("{} ({}): {}", place.0.display(), place.1, first_difference("", their, our)));
        }
    }
    ensure!(lost.is_empty(), "stored otherwise under our definitions:\n{}", lost.join("\n"));
    eprintln!("{} samples are stored alike", ours.len());
    read_and_written(&ours)?;
    filled_in_alike(&samples, &ours)?;
    refused_alike(&client).await?;
    nulls_are_dropped_alike(&client).await?;
    newer_fields_survive(&client).await
}

/// The defaults that `mobula lint` fills in are those of the server, and in what the server accepts it finds nothing to refuse.
fn filled_in_alike(samples: &Samples, stored: &BTreeMap<(PathBuf, usize), Value>) -> Result<()> {
    for (place, (kind, sample)) in samples {
        let mut filled = sample.clone();
        kind.fill_in_defaults(&mut filled);
        let misfits = kind.misfits(&filled);
        ensure!(misfits.iter().all(|misfit| misfit.is_unknown), "{}: {misfits:?}", place.0.display());
        let spec = &stored.get(place).context("a sample is missing")?["spec"];
        let difference = first_difference("spec", spec, &filled["spec"]);
        ensure!(*spec == filled["spec"], "{} ({}): {difference}", place.0.display(), place.1);
    }
    Ok(())
}

/// A cluster with this in its one group, under our definitions.
fn cluster(group: &Value) -> Value {
    let template = json!({"spec": {"containers": [{"name": "ray", "image": "i"}]}});
    let mut worker = json!({"groupName": "w", "template": template});
    if let (Some(worker), Some(group)) = (worker.as_object_mut(), group.as_object()) {
        worker.extend(group.clone());
    }
    json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "c", "namespace": NAMESPACE},
        "spec": {"headGroupSpec": {"template": template}, "workerGroupSpecs": [worker]},
    })
}

async fn create(client: &kube::Client, version: &str, object: &Value, dry: bool) -> Result<Value, kube::Error> {
    let query = if dry { "?dryRun=All" } else { "" };
    let path = format!("/apis/ray.io/{version}/namespaces/{NAMESPACE}/rayclusters{query}");
    let request = http::Request::post(path).header("content-type", "application/json").body(object.to_string().into());
    client.request(request.map_err(kube::Error::HttpError)?).await
}

/// What the server refuses, `mobula lint` refuses, and names the same field.
async fn refused_alike(client: &kube::Client) -> Result<()> {
    let container = |change: Value| json!({"template": {"spec": {"containers": [change]}}});
    let cases = [
        (json!({"replicas": "1"}), "replicas"),
        (json!({"replicas": 1_i64 << 40}), "replicas"),
        (json!({"rayStartParams": {"num-cpus": 4}}), "num-cpus"),
        (json!({"groupName": null}), "groupName"),
        (container(json!({"name": "a", "env": [{"name": "A"}, {"name": "A"}]})), "env[1]"),
        (container(json!({"name": "a", "resources": {"limits": {"memory": "2 Gi"}}})), "memory"),
        (container(json!({"name": "a", "resources": {"limits": {"memory": true}}})), "memory"),
        (container(json!({"image": "i"})), "name"),
        (container(json!({"name": "a", "ports": [{"containerPort": 1}, {"containerPort": 1}]})), "ports[1]"),
    ];
    for (group, field) in cases {
        let mut object = cluster(&group);
        let refusal = match create(client, "v1", &object, true).await {
            Ok(stored) => bail!("{group} is accepted: {stored}"),
            Err(error) => error.to_string(),
        };
        Kind::RayCluster.fill_in_defaults(&mut object);
        let misfits = Kind::RayCluster.misfits(&object);
        ensure!(misfits.iter().any(|misfit| !misfit.is_unknown), "{group} is refused: {refusal}");
        let names = misfits.iter().any(|misfit| misfit.error.field.contains(field)) && refusal.contains(field);
        ensure!(names, "{field}: the server says {refusal}, we say {misfits:?}");
    }
    Ok(())
}

/// Null says nothing, to the server as to us.
async fn nulls_are_dropped_alike(client: &kube::Client) -> Result<()> {
    let limits = json!({"cpu": "1", "nvidia.com/gpu": null});
    let env = json!([{"name": "A", "value": null}]);
    let container = json!({"name": "a", "image": null, "env": env, "resources": {"limits": limits}});
    let template =
        json!({"metadata": {"labels": {"a": null}}, "spec": {"containers": [container], "nodeSelector": null}});
    let group = json!({"replicas": null, "scaleStrategy": null, "rayStartParams": {"a": null}, "template": template});
    let mut object = cluster(&group);
    let stored = create(client, "v1", &object, true).await?;
    Kind::RayCluster.fill_in_defaults(&mut object);
    let difference = first_difference("spec", &stored["spec"], &object["spec"]);
    ensure!(stored["spec"] == object["spec"], "{difference}");
    Ok(())
}

/// Fields of a Kubernetes that nobody knows yet are kept in pod templates and nowhere else, also by way of the old version.
async fn newer_fields_survive(client: &kube::Client) -> Result<()> {
    let container = json!({"name": "ray", "image": "i", "future": {"a": [1, null]}, "ports": [{"containerPort": 1}]});
    let pod = json!({"future": true, "containers": [container]});
    let object = cluster(&json!({"priority": 3, "future": 1, "template": {"spec": pod}}));
    let stored = create(client, "v1", &object, false).await?;
    let group = &stored["spec"]["workerGroupSpecs"][0];
    ensure!(group.get("future").is_none(), "a field that no RayCluster has is kept: {group}");
    let pod = &group["template"]["spec"];
    ensure!(
        pod["future"] == true && pod["containers"][0]["future"]["a"][0] == 1,
        "a field of a newer pod is lost: {pod}"
    );
    let path = |version: &str| format!("/apis/ray.io/{version}/namespaces/{NAMESPACE}/rayclusters/c");
    let old: Value = client.request(http::Request::get(path("v1alpha1")).body(Vec::new())?).await?;
    ensure!(old["spec"] == stored["spec"], "v1alpha1: {}", first_difference("spec", &stored["spec"], &old["spec"]));
    let put = http::Request::put(path("v1alpha1")).header("content-type", "application/json");
    let _: Value = client.request(put.body(old.to_string().into_bytes())?).await.context("v1alpha1 is refused")?;
    let again: Value = client.request(http::Request::get(path("v1")).body(Vec::new())?).await?;
    ensure!(
        again["spec"] == stored["spec"],
        "by v1alpha1: {}",
        first_difference("spec", &stored["spec"], &again["spec"])
    );
    Ok(())
}

/// Every object of a kind of ray.io in the manifests below a folder.
fn samples(folder: &Path) -> Result<Samples> {
    let mut samples = Samples::new();
    for entry in fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            samples.extend(self::samples(&path)?);
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        // As kubectl reads: 0777 is octal.
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(&text, options)
            .with_context(|| format!("{} is not YAML", path.display()))?;
        for (index, document) in documents.into_iter().enumerate() {
            let is_ours = document["apiVersion"] == "ray.io/v1";
            if let Some(kind) = document["kind"].as_str().filter(|_| is_ours).and_then(Kind::named) {
                samples.insert((path.clone(), index), (kind, document));
            }
        }
    }
    Ok(samples)
}

/// What the server would store of each sample.
async fn stored(client: &kube::Client, samples: &Samples) -> Result<BTreeMap<(PathBuf, usize), Value>> {
    let mut stored = BTreeMap::new();
    for (place, (kind, sample)) in samples {
        let mut sample = sample.clone();
        sample["metadata"]["namespace"] = json!(NAMESPACE);
        let path = format!("/apis/ray.io/v1/namespaces/{NAMESPACE}/{}?dryRun=All", kind.plural());
        let request =
            http::Request::post(path).header("content-type", "application/json").body(serde_json::to_vec(&sample)?)?;
        let answer: Result<Value, _> = client.request(request).await;
        let mut object = answer.with_context(|| format!("{} ({}) is refused", place.0.display(), place.1))?;
        for own in ["uid", "creationTimestamp", "managedFields"] {
            object["metadata"].as_object_mut().context("no metadata")?.remove(own);
        }
        if object["metadata"].get("generateName").is_some() {
            object["metadata"]["name"] = json!("generated");
        }
        stored.insert(place.clone(), object);
    }
    Ok(stored)
}

/// Puts our definition in the place of KubeRay's.
async fn replace(client: &kube::Client, kind: Kind) -> Result<()> {
    let path = format!("{DEFINITIONS}/{}.ray.io", kind.plural());
    let current: Value = client.request(http::Request::get(&path).body(Vec::new())?).await?;
    let mut definition = kind.definition();
    definition["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
    let request =
        http::Request::put(&path).header("content-type", "application/json").body(serde_json::to_vec(&definition)?)?;
    let answer: Value = client.request(request).await.with_context(|| format!("our {kind:?} is refused"))?;
    let structural = answer["status"]["conditions"].as_array().into_iter().flatten();
    if let Some(broken) = structural.into_iter().find(|condition| condition["type"] == "NonStructuralSchema") {
        bail!("our {kind:?} is not structural: {}", broken["message"]);
    }
    Ok(())
}

/// Waits until a kind is served, under KubeRay's definition or, if `ours`, under one that knows the fields of 1.7.
async fn served(client: &kube::Client, kind: Kind, ours: &str) -> Result<()> {
    let template = json!({"spec": {"containers": []}});
    let cluster = json!({"headGroupSpec": {"template": template}, "tlsOptions": {"enabled": false}});
    let spec = match kind {
        Kind::RayCluster => cluster,
        Kind::RayJob => json!({"rayClusterSpec": cluster}),
        Kind::RayService => json!({"rayClusterConfig": cluster}),
        Kind::RayCronJob => json!({"schedule": "@daily", "jobTemplate": {"rayClusterSpec": cluster}}),
    };
    let probe = json!({
        "apiVersion": "ray.io/v1", "kind": kind.as_str(),
        "metadata": {"name": "probe", "namespace": NAMESPACE}, "spec": spec,
    });
    let path = format!("/apis/ray.io/v1/namespaces/{NAMESPACE}/{}?dryRun=All", kind.plural());
    let create = async || {
        let request =
            http::Request::post(&path).header("content-type", "application/json").body(serde_json::to_vec(&probe)?)?;
        let answer = client.request_text(request).await;
        Ok(answer.unwrap_or_else(|error| error.to_string()))
    };
    let knows = |text: &String| text.contains("\"probe\"") && (ours.is_empty() || text.contains("tlsOptions"));
    wait::until(&format!("{kind:?} served"), CHANGE_LIMIT, create, |text| knows(text)).await?;
    Ok(())
}

/// Where two values first differ.
fn first_difference(path: &str, a: &Value, b: &Value) -> String {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let names: std::collections::BTreeSet<&String> = x.keys().chain(y.keys()).collect();
            let differs = names.into_iter().find(|name| x.get(*name) != y.get(*name));
            let null = Value::Null;
            differs.map_or_else(String::new, |name| {
                first_difference(&format!("{path}.{name}"), x.get(name).unwrap_or(&null), y.get(name).unwrap_or(&null))
            })
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            let differs = (0..x.len()).find(|index| x[*index] != y[*index]);
            differs
                .map_or_else(String::new, |index| first_difference(&format!("{path}[{index}]"), &x[index], &y[index]))
        }
        _ => format!("{path}: {a} -> {b}"),
    }
}

/// What the server stores, our types read and write again without loss.
fn read_and_written(stored: &BTreeMap<(PathBuf, usize), Value>) -> Result<()> {
    for (place, object) in stored {
        let written = match object["kind"].as_str().and_then(Kind::named).context("no kind")? {
            Kind::RayCluster => RayCluster::from_value(object.clone()).map(|read| read.to_value()),
            Kind::RayJob => RayJob::from_value(object).map(|read| read.to_value()),
            Kind::RayService => RayService::from_value(object).map(|read| read.to_value()),
            Kind::RayCronJob => RayCronJob::from_value(object).map(|read| read.to_value()),
        };
        let written = written.with_context(|| format!("{} ({})", place.0.display(), place.1))?;
        ensure!(written == *object, "{}: {}", place.0.display(), first_difference("", object, &written));
    }
    Ok(())
}
