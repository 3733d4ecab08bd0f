//! Things that break, and that must neither delete anything nor stop the scaling for good.

use std::time::Duration;

use mobula_gcs::AutoscalingState;
use mobula_tests::raycluster::Group;
use mobula_tests::wait;
use mobula_tests::world::{NODE_LIMIT, Setup, World};
use serde_json::json;

use crate::{REACTION, is_mobula};

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_refused_by_quota_waits_and_comes_when_there_is_room() {
    let mut world = World::start(Setup::new("no-quota", vec![Group::cpu("small", 1, 5)])).await.unwrap();
    // The head and one worker.
    world.namespace.set_pod_quota(2, 1).await.unwrap();
    let mut driver = world.driver().await.unwrap();
    driver.tasks("work", 2, json!({"CPU": 1})).await.unwrap();
    world.until_replicas(&[("small", 2)], REACTION).await.unwrap();
    let refused = async || Ok(world.operator.journal().refused);
    wait::until("a pod refused", REACTION, refused, |times| *times > 0).await.unwrap();
    world.until_workers(&[("small", 1)], NODE_LIMIT).await.unwrap();
    // No flapping, nothing given up, nothing called infeasible: it waits.
    world.replicas_stay(&[("small", 2)], Duration::from_secs(5)).await.unwrap();
    if is_mobula() {
        let reported = async || world.reported().await;
        let is_one_waiting = |report: &AutoscalingState| report.pending_instance_requests.len() == 1;
        wait::until("the report of the refused pod", REACTION, reported, is_one_waiting).await.unwrap();
        assert_eq!(world.reported().await.unwrap().infeasible_requests, []);
    }

    world.namespace.remove_pod_quota().await.unwrap();
    world.until_workers(&[("small", 2)], NODE_LIMIT).await.unwrap();
    driver.finish("work", NODE_LIMIT).await.unwrap();
    world.until_replicas(&[("small", 0)], REACTION).await.unwrap();
    world.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_head_nothing_is_deleted_and_new_demand_is_served() {
    let setup = Setup { idle_timeout_s: 60, ..Setup::new("new-head", vec![Group::cpu("small", 1, 4)]) };
    let mut world = World::start(setup).await.unwrap();
    let mut driver = world.driver().await.unwrap();
    driver.tasks("work", 1, json!({"CPU": 1})).await.unwrap();
    world.until_workers(&[("small", 1)], NODE_LIMIT).await.unwrap();
    drop(driver);

    world.ray.lock().await.kill_head();
    world.replicas_stay(&[("small", 1)], Duration::from_secs(4)).await.unwrap();
    world.ray.lock().await.restart_head().await.unwrap();
    let mut driver = world.driver().await.unwrap();
    driver.tasks("more-work", 2, json!({"CPU": 1})).await.unwrap();
    let replicas = async || {
        world.sidecar()?;
        Ok(world.replicas().await?["small"])
    };
    // The old worker may have joined the new head or not: both are right.
    let took = wait::until("replicas for the new work", REACTION, replicas, |n| *n >= 2).await.unwrap();
    eprintln!("new demand was served {:.1} s after the new head was up", took.as_secs_f64());
    driver.finish("more-work", NODE_LIMIT).await.unwrap();
    if is_mobula() {
        assert_eq!(world.operator.journal().deleted.len(), 0, "nothing was named for deletion");
    }
    world.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_sidecar_goes_on_where_the_old_one_was() {
    let mut world = World::start(Setup::new("new-sidecar", vec![Group::cpu("small", 1, 4)])).await.unwrap();
    let mut driver = world.driver().await.unwrap();
    driver.tasks("work", 1, json!({"CPU": 1})).await.unwrap();
    world.until_workers(&[("small", 1)], NODE_LIMIT).await.unwrap();
    let before = world.reported().await.unwrap().version;
    world.start_sidecar().await.unwrap();
    driver.tasks("more", 1, json!({"CPU": 1})).await.unwrap();
    world.until_replicas(&[("small", 2)], REACTION).await.unwrap();
    if is_mobula() {
        let version = async || Ok(world.reported().await?.version);
        wait::until("the new one's report is taken", REACTION, version, |version| *version > before).await.unwrap();
    }
    driver.finish("work", NODE_LIMIT).await.unwrap();
    driver.finish("more", NODE_LIMIT).await.unwrap();
    world.until_replicas(&[("small", 0)], REACTION).await.unwrap();
    assert_eq!(world.operator.journal().most("small"), 2);
    world.finish().await.unwrap();
}
