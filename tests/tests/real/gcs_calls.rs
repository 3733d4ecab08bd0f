//! Every call of the client, against a real gcs_server.

use std::collections::BTreeMap;
use std::time::Duration;

use mobula_gcs::{
    AutoscalingState, Client, ClusterConfig, Config, Deadlines, DrainOutcome, DrainReason, NodeGroupConfig, NodeInfo,
    NodeStatus, PendingInstanceRequest, PlacementStrategy, RequestByCount, ResourceMap, ResourceRequest, registrar,
};
use mobula_tests::gcs::{Env, GcsServer};
use mobula_tests::{parts, wait};

/// For what the GCS shows a little later than it answers.
const LIMIT: Duration = Duration::from_secs(30);

fn resources(amounts: &[(&str, f64)]) -> ResourceMap {
    amounts.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect()
}

fn node(number: u8, group: &str) -> NodeInfo {
    NodeInfo {
        node_id: format!("{number:056x}"),
        address: "127.0.0.1".into(),
        alive: true,
        instance_id: format!("pod-{number}"),
        node_type: group.into(),
        resources_total: resources(&[("CPU", 4.0), ("rdma/hca", 8.0)]),
        labels: BTreeMap::from([("rack".to_owned(), "r1".to_owned())]),
        ..NodeInfo::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let ray = parts::ray(parts::RAY).unwrap();
    let server = GcsServer::start(&ray, directory.path(), Env::new()).await.unwrap();
    let gcs = server.client().unwrap();

    assert_eq!(gcs.ray_version().await.unwrap(), parts::RAY);
    assert_eq!(gcs.cluster_id().await.unwrap().len(), 56);
    assert!(gcs.is_serving().await.unwrap());
    assert_eq!(gcs.jobs().await.unwrap(), []);
    assert_eq!(gcs.head().await.unwrap(), None);
    assert_eq!(gcs.legacy_demand().await.unwrap().pending, []);

    // Key-value store: a value stays unless overwritten.
    assert_eq!(gcs.kv_get("ns", "key").await.unwrap(), None);
    assert!(gcs.kv_put("ns", "key", b"one", false).await.unwrap());
    assert!(!gcs.kv_put("ns", "key", b"two", false).await.unwrap());
    assert_eq!(gcs.kv_get("ns", "key").await.unwrap().as_deref(), Some(&b"one"[..]));
    gcs.kv_put("ns", "key", b"two", true).await.unwrap();
    assert_eq!(gcs.kv_get("ns", "key").await.unwrap().as_deref(), Some(&b"two"[..]));
    assert_eq!(gcs.kv_keys("ns", "k").await.unwrap(), ["key"]);
    assert_eq!(gcs.kv_get("__autoscaler", "__autoscaler_v2_enabled").await.unwrap().as_deref(), Some(&b"1"[..]));

    // Nodes and a gang that does not fit.
    registrar::register_node(&gcs, &NodeInfo { is_head: true, ..node(1, "headgroup") }).await.unwrap();
    registrar::register_node(&gcs, &node(2, "cpu-group")).await.unwrap();
    let group = registrar::PlacementGroup {
        id: format!("{:028x}01000000", 7),
        name: "gang".into(),
        strategy: PlacementStrategy::StrictSpread,
        bundles: vec![resources(&[("GPU", 8.0)]); 4],
        ..registrar::PlacementGroup::default()
    };
    registrar::create_placement_group(&gcs, &group).await.unwrap();
    let need = ResourceRequest { resources: resources(&[("CPU", 1.0)]), ..ResourceRequest::default() };
    gcs.request_resources(&[RequestByCount { request: need.clone(), count: 3 }]).await.unwrap();

    let seen = async || {
        let state = gcs.cluster_state().await?.state;
        Ok((state.nodes.len(), state.gangs.len(), state.constraints.len()))
    };
    wait::until("all that was registered", LIMIT, seen, |counts| *counts == (2, 1, 1)).await.unwrap();
    let observed = gcs.cluster_state().await.unwrap();
    let state = &observed.state;
    assert_eq!(mobula_gcs::wire::decode_cluster_state(&observed.wire.unwrap()).unwrap(), *state);
    let cpu_node = state.nodes.iter().find(|node| node.node_type == "cpu-group").unwrap();
    assert_eq!((cpu_node.instance_id.as_str(), cpu_node.total["rdma/hca"]), ("pod-2", 8.0));
    assert_eq!(cpu_node.labels["rack"], "r1");
    let gang = &state.gangs[0];
    assert!(gang.details.contains("STRICT_SPREAD|PENDING"), "{}", gang.details);
    assert_eq!(gang.bundle_selectors[0].requests.len(), 4);
    assert!(gang.bundle_selectors[0].requests[0].placement[0].anti_affinity.is_some());
    assert_eq!((state.constraints[0][0].count, &state.constraints[0][0].request.resources), (3, &need.resources));

    assert_eq!(gcs.nodes().await.unwrap().len(), 2);
    assert_eq!(gcs.head().await.unwrap().unwrap().instance_id, "pod-1");
    let table = gcs.placement_groups().await.unwrap();
    assert_eq!((table[0].name.as_str(), table[0].id.as_str()), ("gang", group.id.as_str()));
    assert!(table[0].created_ms > 0);

    // Reports come back as they were told; older ones are ignored.
    let instance = PendingInstanceRequest { node_type: "cpu-group".into(), count: 1, request_ts_s: 5 };
    let report =
        AutoscalingState { version: 10, pending_instance_requests: vec![instance], ..AutoscalingState::default() };
    gcs.report_autoscaling_state(&report).await.unwrap();
    gcs.report_autoscaling_state(&AutoscalingState { version: 9, ..AutoscalingState::default() }).await.unwrap();
    assert_eq!(gcs.cluster_status().await.unwrap().0, report);
    let config = NodeGroupConfig { name: "cpu-group".into(), max_count: 5, ..NodeGroupConfig::default() };
    gcs.report_cluster_config(&ClusterConfig { groups: vec![config] }).await.unwrap();
    assert!(gcs.kv_get("__autoscaler", "__autoscaler_cluster_config").await.unwrap().is_some());

    // A node that the GCS does not know counts as drained; one without a raylet can't be asked.
    let hasty = Deadlines { node: Duration::from_secs(1), ..Deadlines::default() };
    let hasty = Client::new(Config { deadlines: hasty, ..Config::plain(vec![server.address.clone()]) }).unwrap();
    let unknown = gcs.drain_node(&node(9, "x").node_id, DrainReason::IdleTermination, "test", None).await.unwrap();
    assert_eq!(unknown, DrainOutcome::Accepted);
    assert!(hasty.drain_node(&node(2, "").node_id, DrainReason::IdleTermination, "test", None).await.is_err());
    assert!(hasty.resize_node(&node(2, "").node_id, &resources(&[("CPU", 2.0)])).await.is_err());
    gcs.stop_nodes(&[node(9, "x").node_id]).await.unwrap();
    registrar::unregister_node(&gcs, &node(2, "").node_id).await.unwrap();
    let status = async || {
        let nodes = gcs.cluster_state().await?.state.nodes;
        Ok(nodes.iter().find(|node| node.instance_id == "pod-2").map(|node| node.status))
    };
    wait::until("pod-2 dead", LIMIT, status, |s| *s == Some(NodeStatus::Dead)).await.unwrap();
    registrar::remove_placement_group(&gcs, &group.id).await.unwrap();
    let gangs = async || Ok(gcs.cluster_state().await?.state.gangs);
    wait::until("the gang gone", LIMIT, gangs, Vec::is_empty).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_gcs_at_the_same_address_is_noticed_once_and_then_served_as_usual() {
    let directory = tempfile::tempdir().unwrap();
    let ray = parts::ray(parts::RAY).unwrap();
    let server = GcsServer::start(&ray, directory.path(), Env::new()).await.unwrap();
    let gcs = server.client().unwrap();
    // The counter that must never be sent back is high by now.
    for _ in 0..20 {
        gcs.cluster_state().await.unwrap();
    }
    let first = gcs.cluster_id().await.unwrap();
    let port = server.address.rsplit(':').next().unwrap().parse().unwrap();
    drop(server);
    let _server = GcsServer::start_at(&ray, directory.path(), Env::new(), port).await.unwrap();
    let error = gcs.cluster_state().await.unwrap_err();
    assert!(matches!(error, mobula_gcs::Error::HeadRestarted), "{error:?}");
    assert!(error.is_retryable());
    gcs.cluster_state().await.unwrap();
    assert_ne!(gcs.cluster_id().await.unwrap(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_nodes_fit_into_one_reply() {
    let directory = tempfile::tempdir().unwrap();
    let ray = parts::ray(parts::RAY).unwrap();
    let server = GcsServer::start(&ray, directory.path(), Env::new()).await.unwrap();
    let gcs = server.client().unwrap();
    let long = "x".repeat(5_000);
    for number in 0..1_000_u32 {
        let labels = BTreeMap::from([("note".to_owned(), long.clone())]);
        let info = NodeInfo { node_id: format!("{number:056x}"), labels, ..node(0, "cpu-group") };
        registrar::register_node(&gcs, &info).await.unwrap();
    }
    let seen = async || Ok(gcs.cluster_state().await?.state.nodes.len());
    wait::until("a thousand nodes", LIMIT, seen, |count| *count == 1_000).await.unwrap();
    let observed = gcs.cluster_state().await.unwrap();
    assert!(observed.wire.unwrap().len() > 4 << 20, "the reply should exceed gRPC's default limit of 4 MiB");
}
