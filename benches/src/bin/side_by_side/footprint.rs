//! What the autoscalers cost: memory, CPU time and requests to the API server, idle and on a large cluster.
//!
//! Idle: a real head, no demand. Large: 1,000 nodes registered by RPC, each with its pod, and 5,000 tasks in 50 shapes from a
//! Python driver, for which a second group may grow to 20 replicas.

use std::time::Duration;

use anyhow::{Context, Result};
use mobula_benches::process;
use mobula_benches::stage::{Autoscaler, HEAD_POD, Peer, Stage, mobula};
use mobula_gcs::{NodeInfo, registrar};
use mobula_tests::driver::Driver;
use mobula_tests::parts;
use mobula_tests::ray::{NodeSpec, Ray};
use mobula_tests::raycluster::Group;
use serde_json::json;

const NODES: u32 = 1_000;
const SHAPES: u32 = 50;
const TASKS_PER_SHAPE: usize = 100;
const WORKERS: &str = "workers";
/// Before anything is measured, the autoscaler gets so long to settle.
const SETTLE: Duration = Duration::from_secs(20);

/// Prints the table; each line is measured over `span`.
pub async fn run(span: Duration) -> Result<()> {
    println!(
        "release binary: {} bytes; load at the start: {}\n",
        std::fs::metadata(mobula()?)?.len(),
        process::load()?
    );
    println!(
        "| autoscaler | cluster | resident MiB | peak MiB | CPU s a minute | requests to the API server a minute |"
    );
    println!("|---|---|---|---|---|---|");
    for peer in [Peer::Mobula, Peer::Ray] {
        both_clusters(peer, span).await.with_context(|| peer.to_string())?;
    }
    Ok(())
}

async fn both_clusters(peer: Peer, span: Duration) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let head = NodeSpec { instance_id: HEAD_POD.into(), group: "headgroup".into(), ..NodeSpec::default() };
    let ray = Ray::start(parts::ray(parts::RAY)?, head, Vec::new(), scratch.path()).await?;
    let workers = Group::cpu(WORKERS, 16, 2 * NODES).with_gpu(8);
    let groups = [workers, Group::cpu("burst", 8, 20).with_custom("burst", 8)];
    let name = format!("footprint-{}", if peer == Peer::Mobula { "mobula" } else { "ray" });
    let stage = Stage::new(&name, &groups, ray.gcs_port()).await?;
    let autoscaler = Autoscaler::start(peer, &stage, &ray.gcs_address(), scratch.path()).await?;
    report(peer, "idle, head only", &autoscaler, &stage, span).await?;

    let pod = |index: u32| format!("bench-{WORKERS}-worker-{index:05}");
    stage.create_pods(WORKERS, (0..NODES).map(pod)).await?;
    let gcs = ray.client()?;
    for index in 0..NODES {
        let node = groups[0].node(&pod(index));
        let info = NodeInfo {
            node_id: format!("{:056x}", index + 1),
            address: "127.0.0.1".into(),
            alive: true,
            instance_id: node.instance_id,
            node_type: node.group,
            resources_total: node.resources,
            ..NodeInfo::default()
        };
        registrar::register_node(&gcs, &info).await?;
    }
    let mut driver = Driver::start(&ray, "driver", scratch.path()).await?;
    for shape in 0..SHAPES {
        // No registered node has this resource, so that Ray sends no task to one: there is no raylet behind it.
        let need = json!({"num_cpus": 0.1 * f64::from(shape + 1), "resources": {"burst": 1}});
        driver.tasks(&format!("shape-{shape}"), TASKS_PER_SHAPE, need).await?;
    }
    report(peer, "1,000 nodes, 5,000 tasks in 50 shapes", &autoscaler, &stage, span).await
}

async fn report(peer: Peer, what: &str, autoscaler: &Autoscaler, stage: &Stage, span: Duration) -> Result<()> {
    tokio::time::sleep(SETTLE).await;
    let pid = autoscaler.process.id();
    let requests = || -> Result<usize> { Ok(stage.namespace.audit()?.values().sum()) };
    let (cpu_s, before) = (process::cpu_seconds(pid)?, requests()?);
    tokio::time::sleep(span).await;
    let memory = process::memory(pid)?;
    let a_minute = 60.0 / span.as_secs_f64();
    println!(
        "| {peer} | {what} | {:.1} | {:.1} | {:.2} | {:.0} |",
        memory.resident_bytes as f64 / 1_048_576.0,
        memory.peak_bytes as f64 / 1_048_576.0,
        (process::cpu_seconds(pid)? - cpu_s) * a_minute,
        (requests()? - before) as f64 * a_minute,
    );
    Ok(())
}
