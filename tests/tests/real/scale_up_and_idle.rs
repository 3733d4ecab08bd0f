//! A Python program asks, raylets appear, the work finishes, the nodes go idle, the replicas go back to the minimum.

use std::collections::BTreeSet;

use mobula_tests::parts;
use mobula_tests::raycluster::Group;
use mobula_tests::world::{NODE_LIMIT, Setup, World};
use serde_json::json;

use crate::{PAST_IDLE, REACTION, is_mobula};

#[tokio::test(flavor = "multi_thread")]
async fn pending_tasks_scale_two_groups_and_only_idle_nodes_go() {
    // Without a resource of its own the work of the small nodes would sometimes run on the GPU node, if that joins first.
    let groups = vec![Group::cpu("small", 1, 3).with_custom("slot", 1), Group::cpu("gpu", 2, 3).with_gpu(4)];
    let mut world = World::start(Setup::new("two-groups", groups)).await.unwrap();
    let mut driver = world.driver().await.unwrap();

    driver.tasks("cpu-work", 2, json!({"CPU": 1, "resources": {"slot": 1}})).await.unwrap();
    driver.tasks("gpu-work", 1, json!({"CPU": 2, "GPU": 4})).await.unwrap();
    world.until_replicas(&[("small", 2), ("gpu", 1)], REACTION).await.unwrap();
    world.until_workers(&[("small", 2), ("gpu", 1)], NODE_LIMIT).await.unwrap();

    // The GPU work ends; its node goes, while work runs elsewhere and those nodes are not touched.
    driver.finish("gpu-work", NODE_LIMIT).await.unwrap();
    world.until_replicas(&[("small", 2), ("gpu", 0)], REACTION).await.unwrap();
    world.until_workers(&[("small", 2), ("gpu", 0)], REACTION).await.unwrap();
    world.replicas_stay(&[("small", 2), ("gpu", 0)], PAST_IDLE).await.unwrap();

    let nodes: BTreeSet<String> = driver.finish("cpu-work", NODE_LIMIT).await.unwrap().into_iter().collect();
    assert_eq!(nodes.len(), 2, "each task ran on a node of its own, to its end");
    world.until_replicas(&[("small", 0), ("gpu", 0)], REACTION).await.unwrap();
    world.until_pods(0, REACTION).await.unwrap();
    let journal = world.operator.journal();
    assert_eq!((journal.most("small"), journal.most("gpu")), (2, 1), "never more than was needed");
    assert_eq!(journal.replaced, BTreeSet::new(), "no drained node was replaced");
    let steps = journal.steps("small");
    let top = steps.iter().position(|n| *n == 2).unwrap();
    assert!(steps[..=top].is_sorted() && steps[top..].is_sorted_by(|a, b| a >= b), "up, then down: {steps:?}");
    world.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_ray_scales_up_and_down_too() {
    if !is_mobula() {
        eprintln!("not run: the autoscaler of Ray {} can't be told where the GCS is", parts::OLD_RAY);
        return;
    }
    let setup = Setup { ray: parts::OLD_RAY, ..Setup::new("old-ray", vec![Group::cpu("small", 1, 3)]) };
    let mut world = World::start(setup).await.unwrap();
    let mut driver = world.driver().await.unwrap();
    driver.tasks("work", 2, json!({"CPU": 1})).await.unwrap();
    world.until_replicas(&[("small", 2)], REACTION).await.unwrap();
    driver.finish("work", NODE_LIMIT).await.unwrap();
    world.until_replicas(&[("small", 0)], REACTION).await.unwrap();
    world.until_pods(0, REACTION).await.unwrap();
    world.finish().await.unwrap();
}
