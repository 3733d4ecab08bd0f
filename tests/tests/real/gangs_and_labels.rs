//! Work that must be together, apart, or in a certain place.

use std::collections::{BTreeMap, BTreeSet};

use mobula_tests::raycluster::Group;
use mobula_tests::wait;
use mobula_tests::world::{NODE_LIMIT, Setup, World};
use serde_json::json;

use crate::{PAST_IDLE, REACTION, is_mobula};

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_spread_gang_of_gpu_and_rdma_gets_four_nodes_at_once() {
    let groups = vec![Group::cpu("small", 2, 6), Group::cpu("gpu", 2, 6).with_gpu(8).with_custom("rdma/hca", 8)];
    let mut world = World::start(Setup::new("gang", groups)).await.unwrap();
    let mut driver = world.driver().await.unwrap();
    let bundle = json!({"CPU": 1, "GPU": 8, "rdma/hca": 8});
    driver
        .group("gang", &[bundle.clone(), bundle.clone(), bundle.clone(), bundle], "STRICT_SPREAD", json!({}))
        .await
        .unwrap();
    // Work inside the group is not demand of its own, and never infeasible.
    driver.tasks("inside", 4, json!({"CPU": 1, "GPU": 8, "group": "gang"})).await.unwrap();
    world.until_replicas(&[("small", 0), ("gpu", 4)], REACTION).await.unwrap();

    let nodes = driver.group_nodes("gang", NODE_LIMIT).await.unwrap();
    assert_eq!(nodes.iter().collect::<BTreeSet<_>>().len(), 4, "each bundle on a node of its own: {nodes:?}");
    assert_eq!(driver.finish("inside", NODE_LIMIT).await.unwrap().len(), 4);
    driver.ask(json!({"do": "remove_group", "name": "gang"})).await.unwrap();
    world.until_replicas(&[("gpu", 0)], REACTION).await.unwrap();
    world.until_pods(0, REACTION).await.unwrap();
    let journal = world.operator.journal();
    assert_eq!((journal.most("small"), journal.most("gpu")), (0, 4));
    if is_mobula() {
        assert_eq!(world.reported().await.unwrap().infeasible_requests, []);
    }
    world.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn label_selectors_choose_the_group() {
    let groups = vec![
        Group::cpu("plain", 1, 4),
        Group::cpu("east", 1, 4).with_label("zone", "east").with_label("disk", "ssd"),
        Group::cpu("west", 1, 4).with_label("zone", "west"),
    ];
    let mut world = World::start(Setup::new("labels", groups)).await.unwrap();
    let mut driver = world.driver().await.unwrap();
    driver
        .tasks("in-east", 1, json!({"CPU": 1, "label_selector": {"zone": "in(east,north)", "disk": "ssd"}}))
        .await
        .unwrap();
    driver
        .tasks("not-east", 1, json!({"CPU": 1, "label_selector": {"zone": "!in(east)", "disk": "!ssd", "rack": "!r1"}}))
        .await
        .unwrap();
    let fallback = json!({"CPU": 1, "label_selector": {"zone": "north"}, "fallback_strategy": [{"label_selector": {"zone": "west"}}]});
    driver.tasks("rather-north", 1, fallback).await.unwrap();
    // A label that no group has: no node can be launched for it, and none is.
    driver.tasks("nowhere", 1, json!({"CPU": 1, "label_selector": {"zone": "south"}})).await.unwrap();

    let limit = REACTION;
    let total = |replicas: &BTreeMap<String, i64>| replicas.values().sum::<i64>();
    let look = async || {
        world.sidecar()?;
        world.replicas().await
    };
    wait::until("three replicas", limit, look, |seen| total(seen) == 3 && seen["east"] == 1).await.unwrap();
    assert!(world.replicas().await.unwrap()["west"] >= 1);
    // Ray decides which work runs where: what may be anywhere may take the place that other work needs, for which one more
    // node comes then.
    let mut group_of = BTreeMap::new();
    for (work, allowed) in [("in-east", &["east"][..]), ("rather-north", &["west"]), ("not-east", &["west", "plain"])] {
        let nodes = driver.finish(work, NODE_LIMIT).await.unwrap();
        let look = async || {
            let workers = world.workers().await?;
            let ids = workers.into_iter().flat_map(|(group, ids)| ids.into_keys().map(move |id| (id, group.clone())));
            group_of.extend(ids);
            Ok(group_of.contains_key(&nodes[0]))
        };
        wait::until("the node is known", REACTION, look, |known| *known).await.unwrap();
        let group: &String = &group_of[&nodes[0]];
        assert!(allowed.contains(&group.as_str()), "{work} ran on {group}");
    }
    world.until_pods(0, REACTION).await.unwrap();
    if is_mobula() {
        let never = async || {
            let metrics = world.sidecar()?.metrics().await?;
            let mut lines = metrics.lines().filter(|line| line.starts_with("mobula_unmet_requests{"));
            Ok(lines.find(|line| line.contains("\"never_fits\"")).unwrap_or_default().to_owned())
        };
        wait::until("what no group can hold is said", REACTION, never, |line| line.ends_with(" 1")).await.unwrap();
        // The GCS tells tasks by their resources alone: it might cancel others of the same shape.
        assert_eq!(world.reported().await.unwrap().infeasible_requests, []);
    }
    world.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_four_hosts_come_and_go_whole() {
    let groups = vec![Group::cpu("slice", 1, 2).with_hosts(4).with_custom("chip", 4)];
    let mut world = World::start(Setup::new("four-hosts", groups)).await.unwrap();
    let mut driver = world.driver().await.unwrap();
    let bundle = json!({"CPU": 1, "chip": 4});
    driver
        .group("slice", &[bundle.clone(), bundle.clone(), bundle.clone(), bundle], "STRICT_SPREAD", json!({}))
        .await
        .unwrap();
    world.until_replicas(&[("slice", 1)], REACTION).await.unwrap();
    driver.group_nodes("slice", NODE_LIMIT).await.unwrap();
    driver.ask(json!({"do": "remove_group", "name": "slice"})).await.unwrap();

    // One host is busy: its whole replica stays.
    driver.tasks("one-host", 1, json!({"CPU": 1})).await.unwrap();
    if is_mobula() {
        world.replicas_stay(&[("slice", 1)], PAST_IDLE).await.unwrap();
    }
    driver.finish("one-host", NODE_LIMIT).await.unwrap();
    world.until_replicas(&[("slice", 0)], REACTION).await.unwrap();
    world.until_pods(0, REACTION).await.unwrap();
    let journal = world.operator.journal();
    assert_eq!((journal.most("slice"), journal.deleted.len()), (1, 4));
    world.finish().await.unwrap();
}
