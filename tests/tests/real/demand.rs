//! Demand in other forms and sizes, and what users see of it.

use std::time::Duration;

use mobula_gcs::{RequestByCount, ResourceRequest};
use mobula_tests::raycluster::Group;
use mobula_tests::wait;
use mobula_tests::world::{NODE_LIMIT, Setup, World};
use serde_json::json;

use crate::{PAST_IDLE, REACTION, is_mobula};

#[tokio::test(flavor = "multi_thread")]
async fn request_resources_holds_nodes_up_until_it_is_withdrawn() {
    let mut world = World::start(Setup::new("request", vec![Group::cpu("small", 2, 5)])).await.unwrap();
    let mut driver = world.driver().await.unwrap();
    driver.ask(json!({"do": "request", "num_cpus": 4})).await.unwrap();
    world.until_replicas(&[("small", 2)], REACTION).await.unwrap();
    world.until_workers(&[("small", 2)], NODE_LIMIT).await.unwrap();
    // Idle, and for longer than the timeout, but asked for.
    world.replicas_stay(&[("small", 2)], PAST_IDLE).await.unwrap();
    driver.ask(json!({"do": "request", "bundles": [{"CPU": 2}]})).await.unwrap();
    world.until_replicas(&[("small", 1)], REACTION).await.unwrap();
    driver.ask(json!({"do": "request", "num_cpus": 0})).await.unwrap();
    world.until_replicas(&[("small", 0)], REACTION).await.unwrap();
    world.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_replicas_are_asked_for_at_once() {
    let setup = Setup { raylets: false, ..Setup::new("forty", vec![Group::cpu("big", 4, 100)]) };
    let mut world = World::start(setup).await.unwrap();
    let resources = [("CPU".to_owned(), 4.0)].into();
    let request = ResourceRequest { resources, ..ResourceRequest::default() };
    world.gcs.request_resources(&[RequestByCount { request, count: 40 }]).await.unwrap();
    world.until_replicas(&[("big", 40)], Duration::from_secs(60)).await.unwrap();
    world.until_workers(&[("big", 40)], Duration::from_secs(60)).await.unwrap();
    world.replicas_stay(&[("big", 40)], Duration::from_secs(3)).await.unwrap();
    if is_mobula() {
        let steps = world.operator.journal().steps("big");
        assert!(steps.iter().all(|n| [0, 40].contains(n)), "in one step: {steps:?}");
    }
    world.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_ten_thousand_tasks_fills_the_group_and_is_not_called_infeasible() {
    let mut world = World::start(Setup::new("flood", vec![Group::cpu("small", 1, 2)])).await.unwrap();
    let mut driver = world.driver().await.unwrap();
    driver.tasks("flood", 10_000, json!({"CPU": 1})).await.unwrap();
    world.until_replicas(&[("small", 2)], REACTION).await.unwrap();
    world.until_workers(&[("small", 2)], NODE_LIMIT).await.unwrap();
    let pending = async || Ok(world.gcs.cluster_state().await?.state.pending.iter().map(|r| r.count).sum::<i64>());
    wait::until("thousands of pending tasks", REACTION, pending, |count| *count > 5_000).await.unwrap();
    world.replicas_stay(&[("small", 2)], Duration::from_secs(5)).await.unwrap();
    if is_mobula() {
        assert_eq!(
            world.reported().await.unwrap().infeasible_requests,
            [],
            "waiting for the group's maximum is not infeasible"
        );
    }
    assert_eq!(world.operator.journal().most("small"), 2);
    world.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ray_status_shows_what_is_launching_active_and_idle() {
    let groups = vec![Group::cpu("small", 1, 3), Group::cpu("gpu", 1, 3).with_gpu(1)];
    // Whatever time `ray status` takes, the idle node is still there.
    let setup = Setup { idle_timeout_s: 600, ..Setup::new("status", groups) };
    let mut world = World::start(setup).await.unwrap();
    let mut driver = world.driver().await.unwrap();
    driver.tasks("gpu", 1, json!({"CPU": 1, "GPU": 1})).await.unwrap();
    driver.tasks("never", 1, json!({"CPU": 99})).await.unwrap();
    world.until_replicas(&[("gpu", 1)], REACTION).await.unwrap();
    let status = async || world.ray_status(&[]).await;
    let shows_gpu = |text: &String| ["gpu, launching", ": gpu,", "1 gpu"].iter().any(|words| text.contains(words));
    let shows_both = |text: &String| shows_gpu(text) && text.contains("{'CPU': 99.0}");
    wait::until("ray status shows the node and the demand", REACTION, status, shows_both).await.unwrap();

    world.until_workers(&[("gpu", 1)], NODE_LIMIT).await.unwrap();
    driver.finish("gpu", NODE_LIMIT).await.unwrap();
    let status = async || world.ray_status(&["-v"]).await;
    let shows_idle = |text: &String| {
        let idle = text.split("Idle:").nth(1).unwrap_or_default();
        idle.contains("1 gpu") && text.contains("(no pending nodes)")
    };
    wait::until("ray status shows the idle node", REACTION, status, shows_idle).await.unwrap();
    let active = async || {
        let metrics = world.sidecar()?.metrics().await?;
        let mut lines = metrics.lines().filter(|line| line.starts_with("autoscaler_active_nodes{"));
        Ok(lines.find(|line| line.contains("\"gpu\"")).unwrap_or_default().to_owned())
    };
    let is_one = |line: &String| line.ends_with(" 1") || line.ends_with(" 1.0");
    wait::until("the metric of active nodes", REACTION, active, is_one).await.unwrap();
    world.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_in_v1_mode_is_served_too() {
    let setup = Setup { version: "v1", ..Setup::new("v1-mode", vec![Group::cpu("small", 1, 5)]) };
    let mut world = World::start(setup).await.unwrap();
    let mut driver = world.driver().await.unwrap();
    driver.tasks("work", 1, json!({"CPU": 1})).await.unwrap();
    world.until_replicas(&[("small", 1)], REACTION).await.unwrap();
    // In this mode the request goes through the key-value store.
    driver.ask(json!({"do": "request", "num_cpus": 2})).await.unwrap();
    world.until_replicas(&[("small", 2)], REACTION).await.unwrap();
    world.until_workers(&[("small", 2)], NODE_LIMIT).await.unwrap();
    // Busy and idle ones are told apart: "1 small" twice.
    let small = |text: &str| {
        text.lines().filter_map(|line| line.trim().strip_suffix(" small")?.parse::<u32>().ok()).sum::<u32>()
    };
    let status = async || world.ray_status(&[]).await;
    wait::until("ray status shows both nodes", REACTION, status, |text| small(text) == 2).await.unwrap();
    driver.ask(json!({"do": "request", "num_cpus": 0})).await.unwrap();
    driver.finish("work", NODE_LIMIT).await.unwrap();
    world.until_replicas(&[("small", 0)], REACTION).await.unwrap();
    if is_mobula() {
        let log = world.sidecar().unwrap().process.log();
        let advice = log.lines().filter(|line| line.contains("WARN") && line.contains("v2")).count();
        assert_eq!(advice, 1, "v2 is advised once:\n{log}");
    }
    world.finish().await.unwrap();
}
