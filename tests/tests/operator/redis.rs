//! The end of a RayCluster whose GCS keeps its state in Redis, which is real, as Ray is: the Job that the operator makes runs
//! as it says. A kubelet is stood in for: its two pods are processes of this machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mobula_tests::process::{Process, free_port};
use mobula_tests::redis::Redis;
use mobula_tests::{kubelet, parts, wait};
use serde_json::{Value, json};

use crate::{
    ALONE,
    case::{Case, LIMIT, raycluster},
};

const PASSWORD: &str = "not-a-secret";
/// The node of which this program is the kubelet.
const HOST: &str = "host";
/// What another RayCluster keeps in the same Redis.
const OTHERS: &str = "RAYother@KV";
const CLUSTER: &str = "/apis/ray.io/v1/namespaces/redis/rayclusters/a";
const PODS: &str = "/api/v1/namespaces/redis/pods";

fn cluster(redis: &Redis, directory: &Path) -> Result<Value> {
    let mut cluster = raycluster("a", 0, 1, false);
    cluster["spec"]["gcsFaultToleranceOptions"] =
        json!({"redisAddress": format!("127.0.0.1:{}", redis.port), "redisPassword": {"value": PASSWORD}});
    let head = &mut cluster["spec"]["headGroupSpec"];
    head["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": HOST});
    // It shares its network with everything on this machine.
    head["rayStartParams"] = json!({
        "node-ip-address": "127.0.0.1", "port": free_port()?.to_string(), "include-dashboard": "false",
        "ray-client-server-port": free_port()?.to_string(), "metrics-export-port": free_port()?.to_string(),
        "dashboard-agent-listen-port": free_port()?.to_string(), "min-worker-port": "0", "max-worker-port": "0",
        "object-store-memory": "80000000", "temp-dir": directory.join("ray").display().to_string(),
    });
    Ok(cluster)
}

/// Waits until the scheduler has given a pod of this node type to the host.
async fn until_scheduled(case: &Case, node_type: &str) -> Result<Value> {
    let path = format!("{PODS}?labelSelector=ray.io%2Fnode-type%3D{node_type}");
    let mut found = Value::Null;
    let look = async || Ok(case.list(&path).await?.first().cloned().unwrap_or_default());
    wait::until(&format!("a {node_type} pod on the host"), LIMIT, look, |pod| {
        found = pod.clone();
        pod["spec"]["nodeName"] == HOST
    })
    .await?;
    Ok(found)
}

/// Starts a pod's first container as a process, with the cached Ray in place of its image.
fn start(case: &Case, name: &str, pod: &Value) -> Result<Process> {
    let container = &pod["spec"]["containers"][0];
    let words = |field: &str| container[field].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut words = words("command").chain(words("args"));
    let ray = parts::ray(parts::RAY)?;
    let path = format!("{}:{}", ray.bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(words.next().context("a container without a command")?);
    command.args(words).envs(environment(pod)).env("PATH", path).env("HOME", case.directory());
    Process::start(name, command.env("RAY_USAGE_STATS_ENABLED", "0").current_dir(case.directory()), case.directory())
}

/// What a pod's first container is told in so many words.
fn environment(pod: &Value) -> BTreeMap<&str, &str> {
    let entries = pod["spec"]["containers"][0]["env"].as_array().map_or(&[][..], Vec::as_slice);
    entries.iter().filter_map(|entry| Some((entry["name"].as_str()?, entry["value"].as_str()?))).collect()
}

async fn until_success(mut process: Process) -> Result<()> {
    let ended = async || Ok(process.ended());
    wait::until("the container's end", LIMIT, ended, Option::is_some).await?;
    ensure!(process.ended().is_some_and(|status| status.success()), "it failed:\n{}", process.tail(30));
    Ok(())
}

async fn set_phase(case: &Case, pod: &Value, phase: &str) -> Result<()> {
    let name = pod["metadata"]["name"].as_str().context("a pod without a name")?;
    let request = http::Request::patch(format!("{PODS}/{name}/status"))
        .header("content-type", "application/merge-patch+json")
        .body(serde_json::to_vec(&json!({"status": {"phase": phase}}))?)?;
    let _: Value = case.admin.request(request).await.context("could not set the pod's phase")?;
    Ok(())
}

async fn run() -> Result<()> {
    let (case, plane) = Case::start_controlled("redis").await?;
    plane.node_of_our_own(HOST).await?;
    let redis = Redis::start(PASSWORD, case.directory()).await?;
    redis.ask(&["HSET", OTHERS, "kept", "1"])?;
    let _operator = case.operator("redis", &[ALONE]).await?;
    case.create("redis", &cluster(&redis, case.directory())?).await?;

    // The head runs as its pod says.
    let pod = until_scheduled(&case, "head").await?;
    let storage =
        environment(&pod).get("RAY_external_storage_namespace").context("no namespace of its storage")?.to_string();
    let mut head = start(&case, "head", &pod)?;
    let log = async || {
        head.must_run()?;
        Ok(head.log().contains("Ray runtime started"))
    };
    wait::until("the head runs", LIMIT, log, |runs| *runs).await?;
    kubelet::run(&case.admin, PODS, &pod).await?;
    let of_cluster = |keys: &[String]| keys.iter().filter(|key| key.contains(&storage)).count();
    let keys = async || redis.keys();
    wait::until("Redis holds the state", LIMIT, keys, |keys: &Vec<String>| of_cluster(keys) > 0).await?;
    let held = of_cluster(&redis.keys()?);

    // The RayCluster stays until the head has ended and Redis is clean.
    case.delete(CLUSTER).await?;
    let dying = async || Ok(case.list(PODS).await?.iter().any(|pod| pod["metadata"]["deletionTimestamp"].is_string()));
    wait::until("the head is to go", LIMIT, dying, |is_dying| *is_dying).await?;
    ensure!(case.list("/apis/batch/v1/namespaces/redis/jobs").await?.is_empty(), "a Job while the head may write");
    drop(head);
    let name = pod["metadata"]["name"].as_str().context("a head without a name")?;
    case.delete(&format!("{PODS}/{name}?gracePeriodSeconds=0")).await?;
    let cleanup = until_scheduled(&case, "redis-cleanup").await?;
    ensure!(of_cluster(&redis.keys()?) == held, "Redis was touched before the Job ran");
    case.get(CLUSTER).await.context("the RayCluster went before Redis was clean")?;
    until_success(start(&case, "cleanup", &cleanup)?).await?;
    ensure!(redis.keys()? == [OTHERS], "Redis still holds {:?}", redis.keys()?);
    set_phase(&case, &cleanup, "Succeeded").await?;
    let gone = async || Ok(case.get(CLUSTER).await.is_err());
    let took = wait::until("the RayCluster gone", LIMIT, gone, |is_gone| *is_gone).await?;
    eprintln!("{held} keys of the GCS cleaned up; the RayCluster gone {:.2} s after the Job", took.as_secs_f64());
    plane.remove_node(HOST).await?;
    wait::until("no pod left", LIMIT, async || Ok(case.list(PODS).await?.len()), |left| *left == 0).await?;
    case.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_cleaned_up_before_the_cluster_goes() {
    run().await.unwrap();
}
