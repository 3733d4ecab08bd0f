//! Pods that grow where they are.

use mobula_api::keys;
use mobula_tests::raycluster::Group;
use mobula_tests::wait;
use mobula_tests::world::{NODE_LIMIT, Setup, World};
use serde_json::{Value, json};

use crate::REACTION;

/// The only worker pod.
async fn pod(world: &World) -> anyhow::Result<Value> {
    let path = format!("/api/v1/namespaces/{}/pods?labelSelector=ray.io/node-type%3Dworker", world.namespace.name);
    let list: Value = world.namespace.admin.request(http::Request::get(path).body(Vec::new())?).await?;
    Ok(list["items"][0].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_node_grows_in_place_for_work_that_no_new_node_could_take() {
    let group = Group::cpu("growing", 1, 1).with_resize(3, "3G");
    let mut world = World::start(Setup::new("resize", vec![group])).await.unwrap();
    let mut driver = world.driver().await.unwrap();
    driver.tasks("small", 1, json!({"CPU": 1})).await.unwrap();
    world.until_workers(&[("growing", 1)], NODE_LIMIT).await.unwrap();
    assert_eq!(pod(&world).await.unwrap()["spec"]["containers"][0]["resources"]["limits"]["cpu"], "1");

    driver.tasks("large", 1, json!({"CPU": 2})).await.unwrap();
    let totals = async || {
        let nodes = world.gcs.cluster_state().await?.state.nodes;
        let node = nodes.into_iter().find(|node| node.node_type == "growing");
        Ok(node.map(|node| (node.total["CPU"], node.total["memory"])))
    };
    wait::until("Ray sees the larger node", REACTION, totals, |total| *total == Some((3.0, 3e9))).await.unwrap();
    let large = driver.finish("large", NODE_LIMIT).await.unwrap();
    let small = driver.finish("small", NODE_LIMIT).await.unwrap();
    assert_eq!(large, small, "both ran on the one node");

    let resized = async || {
        let pod = pod(&world).await?;
        let status = pod["metadata"]["annotations"][keys::IPPR_STATUS].as_str().unwrap_or("null");
        let resizing: Value = serde_json::from_str::<Value>(status)?["resizing-at"].clone();
        Ok((pod["status"]["containerStatuses"][0]["resources"]["limits"].clone(), resizing))
    };
    let limits = json!({"cpu": "3", "memory": "3G"});
    let is_over = |(seen, resizing): &(Value, Value)| *seen == limits && resizing.is_null();
    wait::until("the resize is over", REACTION, resized, is_over).await.unwrap();
    world.until_replicas(&[("growing", 0)], REACTION).await.unwrap();
    world.until_pods(0, REACTION).await.unwrap();
    assert_eq!(world.operator.journal().most("growing"), 1);
    world.finish().await.unwrap();
}
