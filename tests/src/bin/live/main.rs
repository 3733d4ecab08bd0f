//! What `cargo xtask live` shows: a real Ray head, a real API server, the sidecar between them, and a Python program that
//! asks for work. Only KubeRay's operator and the kubelet are stood in for: a pod that is asked for becomes a real raylet.
#![allow(clippy::disallowed_methods)] // it measures time

mod timeline;
mod waits;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mobula_tests::driver::Driver;
use mobula_tests::parts;
use mobula_tests::raycluster::Group;
use mobula_tests::world::{NODE_LIMIT, Setup, World};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use timeline::Timeline;
use waits::Waits;

/// Idle time after which a worker goes.
const IDLE_TIMEOUT_S: u32 = 5;
/// How long the sidecar may take to change replicas once there is reason to.
const REACTION_LIMIT: Duration = Duration::from_secs(20);
/// How long idle workers may take to go, beyond the idle timeout: the GCS tells of idleness with some delay.
const GOING_LIMIT: Duration = Duration::from_secs(40);
/// Lines of the sidecar's log that are shown when something failed.
const LOG_LINES: usize = 20;
/// Exit code of a program that was interrupted.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    // Before the clock starts: it may have to wait for another build.
    if let Err(error) = parts::mobula() {
        eprintln!("live: {error:#}");
        return ExitCode::FAILURE;
    }
    let start = Instant::now();
    // Whatever the show started is dropped with it, and with that stopped.
    let ended = tokio::select! {
        ended = show() => Some(ended),
        () = interrupted() => None,
    };
    let (verdict, code) = match ended {
        Some(Ok(())) => ("done".to_owned(), ExitCode::SUCCESS),
        Some(Err(error)) => (format!("failed: {error:#}"), ExitCode::FAILURE),
        None => ("interrupted".to_owned(), ExitCode::from(INTERRUPTED)),
    };
    println!("\nlive: {verdict}; everything stopped after {:.0} s", start.elapsed().as_secs_f64());
    code
}

async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Then the signal ends this program as it ends any other, and what it started with it.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn show() -> Result<()> {
    // Two CPUs and no GPU, or one CPU and two GPUs: each task below fits into one group only.
    let groups = vec![Group::cpu("small", 2, 3).with_min(1), Group::cpu("gpu", 1, 3).with_gpu(2)];
    println!("Two groups of one RayCluster, workers go after {IDLE_TIMEOUT_S} s without work:");
    for group in &groups {
        let size = format!("{} CPU, {} GPU", group.cpu, group.gpu);
        println!("  {:<6} {size}; {} to {} replicas", group.name, group.min, group.max);
    }
    println!("Starting Ray, etcd and the API server; then the sidecar.");
    let names: Vec<&str> = groups.iter().map(|group| group.name).collect();
    let mut world = World::start(Setup { idle_timeout_s: IDLE_TIMEOUT_S, ..Setup::new("live", groups) }).await?;
    let timeline = Timeline::start(&world, names.clone());
    let played = play(&mut world, &timeline).await;
    timeline.stop();
    match played {
        Ok(waits) => {
            println!("\nReplicas of each group:");
            let journal = world.operator.journal();
            for name in names {
                let steps: Vec<String> = journal.steps(name).iter().map(i64::to_string).collect();
                println!("  {name:<6} {}", steps.join(" → "));
            }
            let metrics = world.sidecar()?.metrics().await.context("the sidecar's metrics")?;
            waits.print(&metrics);
            Ok(())
        }
        Err(error) => {
            if let Some(sidecar) = &world.sidecar {
                println!("\nThe end of the sidecar's log:\n{}", sidecar.process.tail(LOG_LINES));
            }
            if let Some(problem) = world.operator.journal().error {
                println!("\nThe stand-in for operator and kubelet: {problem}");
            }
            Err(error)
        }
    }
}

async fn play(world: &mut World, timeline: &Timeline) -> Result<Waits> {
    let mut driver = world.driver().await?;
    world.until_workers(&[("small", 1), ("gpu", 0)], NODE_LIMIT).await?;
    let mut waits = Waits::default();
    tasks(world, &mut driver, timeline, &mut waits).await?;
    placement_group(world, &mut driver, timeline, &mut waits).await?;
    back_to_minimum(world, &mut driver, timeline, &mut waits).await?;
    Ok(waits)
}

async fn tasks(world: &mut World, driver: &mut Driver, timeline: &Timeline, waits: &mut Waits) -> Result<()> {
    timeline.note("the driver submits 2 tasks of 2 CPUs and 1 task of 1 CPU and 1 GPU");
    let submitted = Instant::now();
    driver.tasks("cpu", 2, json!({"CPU": 2})).await?;
    driver.tasks("gpu", 1, json!({"CPU": 1, "GPU": 1})).await?;
    world.until_replicas(&[("small", 2), ("gpu", 1)], REACTION_LIMIT).await?;
    waits.add("tasks submitted → replicas raised", submitted.elapsed());
    timeline.ray_status(world).await?;
    timeline.until_in_use(&[("CPU", 5.0), ("GPU", 1.0)], NODE_LIMIT).await?;
    waits.add("tasks submitted → all are running", submitted.elapsed());
    timeline.note("all tasks are running");
    Ok(())
}

async fn placement_group(world: &mut World, driver: &mut Driver, timeline: &Timeline, waits: &mut Waits) -> Result<()> {
    timeline.note("the driver asks for a placement group: 2 bundles of 1 GPU, STRICT_SPREAD; one GPU is free");
    let asked = Instant::now();
    driver.group("gang", &[json!({"GPU": 1}), json!({"GPU": 1})], "STRICT_SPREAD", json!({})).await?;
    world.until_replicas(&[("small", 2), ("gpu", 2)], REACTION_LIMIT).await?;
    waits.add("placement group asked for → replicas raised", asked.elapsed());
    driver.group_nodes("gang", NODE_LIMIT).await?;
    waits.add("placement group asked for → placed", asked.elapsed());
    timeline.note("the placement group has its nodes");
    timeline.ray_status(world).await
}

async fn back_to_minimum(world: &mut World, driver: &mut Driver, timeline: &Timeline, waits: &mut Waits) -> Result<()> {
    driver.finish("cpu", NODE_LIMIT).await?;
    driver.finish("gpu", NODE_LIMIT).await?;
    driver.ask(json!({"do": "remove_group", "name": "gang"})).await?;
    let finished = Instant::now();
    timeline.note("the tasks have ended, the placement group is removed");
    let limit = Duration::from_secs(u64::from(IDLE_TIMEOUT_S)) + GOING_LIMIT;
    world.until_replicas(&[("small", 1), ("gpu", 0)], limit).await?;
    waits.add("work ended → replicas at the minimum", finished.elapsed());
    world.until_workers(&[("small", 1), ("gpu", 0)], limit).await?;
    timeline.note("back at the minimum");
    timeline.ray_status(world).await
}
