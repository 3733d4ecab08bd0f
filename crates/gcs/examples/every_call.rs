//! Makes every call once against a running GCS and prints what came back:
//! `cargo run -p mobula-gcs --features registrar --example every_call -- 127.0.0.1:6379`.
//!
//! It registers two fake nodes and a placement group there: not for a cluster that somebody uses.
#![allow(clippy::disallowed_methods)] // a program for people reads its environment

use std::error::Error;

use mobula_gcs::registrar::{self, PlacementGroup};
use mobula_gcs::{
    AutoscalingState, Client, ClusterConfig, Config, DrainReason, NodeGroupConfig, NodeInfo, PendingInstance,
    PlacementStrategy, RequestByCount, ResourceMap, ResourceRequest,
};

fn amounts(items: &[(&str, f64)]) -> ResourceMap {
    items.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect()
}

fn node(digit: &str) -> NodeInfo {
    NodeInfo {
        node_id: digit.repeat(56),
        address: "127.0.0.9".into(),
        alive: true,
        instance_id: format!("worker-{digit}"),
        node_type: "cpu-group".into(),
        resources_total: amounts(&[("CPU", 4.0)]),
        ..NodeInfo::default()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoints: Vec<String> = std::env::args().skip(1).collect();
    let client = Client::new(Config::from_env(endpoints, &|name| std::env::var(name).ok())?)?;

    println!("serving: {}", client.is_serving().await?);
    println!("cluster id: {}", client.cluster_id().await?);
    println!("ray version: {}", client.ray_version().await?);
    keys(&client).await?;
    tables(&client).await?;
    demand(&client).await?;
    report(&client).await?;
    nodes_leave(&client).await?;
    Ok(())
}

async fn keys(client: &Client) -> Result<(), Box<dyn Error>> {
    println!("v2 key: {:?}", client.kv_get("__autoscaler", "__autoscaler_v2_enabled").await?);
    println!("missing key: {:?}", client.kv_get("cluster", "no such key").await?);
    for overwrite in [true, false] {
        println!("put: new: {}", client.kv_put("mobula", "key", b"value", overwrite).await?);
    }
    println!("keys: {:?}", client.kv_keys("mobula", "k").await?);
    Ok(())
}

async fn tables(client: &Client) -> Result<(), Box<dyn Error>> {
    for digit in ["a", "b"] {
        registrar::register_node(client, &node(digit)).await?;
    }
    println!("nodes: {:?}", client.nodes().await?.iter().map(|node| &node.instance_id).collect::<Vec<_>>());
    println!("head: {:?}", client.head().await?.map(|head| head.node_id));
    println!("jobs: {:?}", client.jobs().await?);
    Ok(())
}

async fn demand(client: &Client) -> Result<(), Box<dyn Error>> {
    let group = PlacementGroup {
        id: format!("{}01000000", "c".repeat(28)),
        name: "gang".into(),
        strategy: PlacementStrategy::StrictSpread,
        bundles: vec![amounts(&[("GPU", 8.0)]); 2],
        ..PlacementGroup::default()
    };
    registrar::create_placement_group(client, &group).await?;
    let request = ResourceRequest { resources: amounts(&[("CPU", 1.0)]), ..ResourceRequest::default() };
    client.request_resources(&[RequestByCount { request, count: 3 }]).await?;
    let observed = client.cluster_state().await?;
    println!(
        "state: {} bytes in {:?}: {:?}",
        observed.wire.map_or(0, |wire| wire.len()),
        observed.took,
        observed.state
    );
    println!("placement groups: {:?}", client.placement_groups().await?);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    println!("legacy demand: {:?}", client.legacy_demand().await?);
    registrar::remove_placement_group(client, &group.id).await?;
    println!("gangs after removal: {}", client.cluster_state().await?.state.gangs.len());
    Ok(())
}

async fn report(client: &Client) -> Result<(), Box<dyn Error>> {
    let pending = PendingInstance { node_type: "cpu-group".into(), instance_id: "pod".into(), ..Default::default() };
    let state = AutoscalingState { version: 1_000, pending_instances: vec![pending], ..Default::default() };
    client.report_autoscaling_state(&state).await?;
    let config = NodeGroupConfig { name: "cpu-group".into(), max_count: -1, ..Default::default() };
    client.report_cluster_config(&ClusterConfig { groups: vec![config] }).await?;
    let (reported, seen) = client.cluster_status().await?;
    println!("status: same report: {}, {} nodes", reported == state, seen.nodes.len());
    println!("config key: {:?}", client.kv_get("__autoscaler", "__autoscaler_cluster_config").await?);
    Ok(())
}

async fn nodes_leave(client: &Client) -> Result<(), Box<dyn Error>> {
    registrar::unregister_node(client, &"b".repeat(56)).await?;
    let unknown = "0123456789abcdef".repeat(4)[..56].to_owned();
    for (id, reason) in [(&unknown, DrainReason::IdleTermination), (&"a".repeat(56), DrainReason::Preemption)] {
        println!("drain {}…: {:?}", &id[..4], client.drain_node(id, reason, "example", Some(0)).await);
    }
    println!("resize: {:?}", client.resize_node(&"a".repeat(56), &amounts(&[("CPU", 2.0)])).await);
    client.stop_nodes(&["a".repeat(56)]).await?;
    let alive: Vec<bool> = client.nodes().await?.iter().map(|node| node.alive).collect();
    println!("alive: {alive:?}");
    Ok(())
}
