//! RayClusters that a real KubeRay has made are taken over and given back: no pod is restarted.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use mobula_tests::process::Process;
use mobula_tests::wait;
use serde_json::{Value, json};

use crate::{
    ALONE,
    case::{Case, LIMIT, is_ready, raycluster},
};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const WORKERS: u32 = 3;

/// A real KubeRay, which is ready.
pub async fn kuberay(case: &Case, name: &str) -> Result<Process> {
    let mut command = mobula_tests::kuberay::command(&case.server.kubeconfig("kuberay")?)?;
    mobula_tests::kuberay::start(name, &mut command, case.directory(), LIMIT).await
}

/// uid and restarts of each pod.
async fn pods(case: &Case) -> Result<BTreeMap<String, (String, i64)>> {
    let pods = case.list("/api/v1/namespaces/kuberay/pods").await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let restarts = |pod: &Value| {
        let containers = pod["status"]["containerStatuses"].as_array().map_or(&[][..], Vec::as_slice);
        containers.iter().filter_map(|it| it["restartCount"].as_i64()).sum()
    };
    Ok(pods
        .iter()
        .map(|pod| (text(&pod["metadata"]["name"]), (text(&pod["metadata"]["uid"]), restarts(pod))))
        .collect())
}

async fn until_all_ready(case: &Case, workers: u32) -> Result<()> {
    for name in NAMES {
        let look = async || Ok(case.cluster(name).await?["status"].take());
        let is_right = |status: &Value| is_ready(status) && status["readyWorkerReplicas"] == workers;
        wait::until(&format!("{name} ready with {workers} workers"), LIMIT, look, is_right).await?;
    }
    Ok(())
}

/// Whoever works now makes one more worker of each RayCluster, and leaves all others as they are.
async fn one_more(case: &Case, workers: u32) -> Result<()> {
    let before = pods(case).await?;
    for name in NAMES {
        case.scale(name, workers).await?;
    }
    until_all_ready(case, workers).await?;
    let kept = async || {
        let after = pods(case).await?;
        let same = before.iter().filter(|(name, pod)| after.get(*name) == Some(pod)).count();
        Ok((same, after.len()))
    };
    let expected = (before.len(), before.len() + NAMES.len());
    let what = format!("{} pods untouched, {} in all", expected.0, expected.1);
    wait::throughout(&what, Duration::from_secs(2), kept, |seen| *seen == expected).await?;
    ensure!(case.nodes.deleted("kuberay").is_empty(), "deleted: {:?}", case.nodes.deleted("kuberay"));
    Ok(())
}

async fn run() -> Result<()> {
    let (case, _) = Case::start_controlled("kuberay").await?;
    let theirs = kuberay(&case, "kuberay-first").await?;
    for (n, name) in NAMES.into_iter().enumerate() {
        let mut cluster = raycluster(name, WORKERS, WORKERS + 2, n.is_multiple_of(2));
        if n == 3 {
            cluster["spec"]["headGroupSpec"]["serviceType"] = json!("NodePort");
            cluster["spec"]["authOptions"] = json!({"mode": "token"});
        }
        case.create("kuberay", &cluster).await?;
    }
    until_all_ready(&case, WORKERS).await?;
    drop(theirs);
    let operator = case.operator("kuberay-taken-over", &[ALONE]).await?;
    one_more(&case, WORKERS + 1).await?;
    drop(operator);
    let theirs = kuberay(&case, "kuberay-again").await?;
    one_more(&case, WORKERS + 2).await?;
    eprintln!("{} RayClusters of KubeRay's taken over and given back; no pod was restarted or deleted", NAMES.len());
    drop(theirs);
    let request = http::Request::delete("/apis/ray.io/v1/namespaces/kuberay/rayclusters").body(Vec::new())?;
    let _: Value = case.admin.request(request).await?;
    wait::until("no pod left", LIMIT, async || Ok(pods(&case).await?.len()), |left| *left == 0).await?;
    case.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_of_kuberay_are_taken_over_and_given_back() {
    run().await.unwrap();
}
