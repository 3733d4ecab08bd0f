//! Gang admission with the real scheduler: where there is room for one of two gangs, one runs whole and the other holds nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mobula_tests::wait;
use serde_json::{Value, json};

use crate::{
    ALONE,
    case::{Case, LIMIT, condition, is_ready, raycluster},
};

/// Hosts of a gang, GPUs of each, and what two nodes have together: room for one gang.
const HOSTS: u32 = 4;
const GPUS: u32 = 4;
const GPUS_OF_A_NODE: u32 = 8;

/// A RayCluster whose workers are one gang.
fn gang(name: &str) -> Value {
    let mut cluster = raycluster(name, HOSTS, HOSTS, false);
    cluster["metadata"]["annotations"] = json!({"mobula.dev/gang-admission": "true"});
    let resources = &mut cluster["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"];
    for kind in ["limits", "requests"] {
        resources[kind]["nvidia.com/gpu"] = json!(GPUS.to_string());
    }
    cluster
}

/// How many workers of a RayCluster have a node, and how many are gated.
async fn standing(case: &Case, cluster: &str) -> Result<(usize, usize)> {
    let selector = format!("ray.io%2Fcluster%3D{cluster},ray.io%2Fnode-type%3Dworker");
    let pods = case.list(&format!("/api/v1/namespaces/{}/pods?labelSelector={selector}", case.namespace)).await?;
    let bound = pods.iter().filter(|pod| pod["spec"]["nodeName"].is_string()).count();
    let is_gated = |pod: &&Value| pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
    Ok((bound, pods.iter().filter(is_gated).count()))
}

async fn run() -> Result<()> {
    let (case, plane) = Case::start_controlled("gangs").await?;
    for node in ["gpu-0", "gpu-1"] {
        plane.node(node, &json!({"pool": "gpu"}), &[("nvidia.com/gpu", GPUS_OF_A_NODE)]).await?;
    }
    let _operator = case.operator("gangs", &[ALONE, "--gang-admission=annotated"]).await?;
    for name in ["a", "b"] {
        case.create("gangs", &gang(name)).await?;
    }
    let hosts = HOSTS as usize;
    let both = async || Ok([standing(&case, "a").await?, standing(&case, "b").await?]);
    let (whole, waiting) = ((hosts, 0), (0, hosts));
    let is_right = |seen: &[(usize, usize); 2]| *seen == [whole, waiting] || *seen == [waiting, whole];
    let took = wait::until("one gang whole, the other waiting", LIMIT, both, is_right).await?;
    wait::throughout("one gang whole, the other waiting", Duration::from_secs(2), both, is_right).await?;
    let (first, second) = if standing(&case, "a").await? == whole { ("a", "b") } else { ("b", "a") };
    case.until_status(first, "the first ready", is_ready).await?;
    let is_told = |status: &Value| {
        let admitted = condition(status, "GangsAdmitted");
        let message = admitted["message"].as_str().unwrap_or_default();
        // Until all its pods are made, it says how many are.
        admitted["status"] == "False" && admitted["reason"] == "Waiting" && message.contains("0 of 4 pods fit")
    };
    case.until_status(second, "the wait told", is_told).await?;
    let status = case.cluster(second).await?["status"].take();
    let message = condition(&status, "GangsAdmitted")["message"].as_str().context("no message")?.to_owned();

    case.delete(&format!("/apis/ray.io/v1/namespaces/gangs/rayclusters/{first}")).await?;
    let after = case.until_status(second, "the second ready", is_ready).await?;
    ensure!(standing(&case, second).await? == whole, "the second does not run whole");
    eprintln!(
        "one of two gangs whole after {:.2} s; the other waited (`{message}`), and was ready {:.2} s after the first went",
        took.as_secs_f64(),
        after.as_secs_f64()
    );
    case.delete(&format!("/apis/ray.io/v1/namespaces/gangs/rayclusters/{second}")).await?;
    for node in ["gpu-0", "gpu-1"] {
        plane.remove_node(node).await?;
    }
    case.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_gang_fits_one_runs_whole_and_the_other_holds_nothing() {
    run().await.unwrap();
}
