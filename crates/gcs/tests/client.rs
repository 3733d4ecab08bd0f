//! The client against our own server over loopback: every call, and every way to fail.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, dead_code)] // a test talks to the real network

mod support;

use std::time::Duration;

use bytes::Bytes;
use mobula_gcs::server::{Drain, Fault, MemoryGcs, Refusal, duplex_channel};
use mobula_gcs::{
    AutoscalingState, Client, ClusterConfig, ClusterState, DrainOutcome, DrainReason, Error, GangRequest, JobInfo,
    LegacyDemand, NodeGroupConfig, NodeInfo, NodeState, NodeStatus, PlacementGroupInfo, RequestByCount, ResourceMap,
    ResourceRequest, wire,
};
use support::{client, hasty, start, start_at};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn id(digit: char) -> String {
    digit.to_string().repeat(56)
}

fn node(digit: char, status: NodeStatus) -> NodeState {
    NodeState {
        node_id: id(digit),
        instance_id: format!("pod-{digit}"),
        node_type: "cpu-group".into(),
        total: cpus(4.0).into(),
        available: cpus(4.0).into(),
        status,
        ..NodeState::default()
    }
}

fn cpus(amount: f64) -> ResourceMap {
    ResourceMap::from([("CPU".to_owned(), amount)])
}

fn task(count: i64) -> RequestByCount {
    RequestByCount { request: ResourceRequest { resources: cpus(1.0), ..ResourceRequest::default() }, count }
}

fn cluster() -> ClusterState {
    let nodes =
        ['a', 'b', 'c'].map(|digit| node(digit, if digit == 'a' { NodeStatus::Idle } else { NodeStatus::Running }));
    let nodes = nodes.into_iter().collect();
    ClusterState { session_name: "session_x".into(), nodes, pending: vec![task(3)], ..ClusterState::default() }
}

#[tokio::test]
async fn observation_keeps_the_reply_as_sent() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let observed = client(&[server.endpoint()]).cluster_state().await.unwrap();
    assert_eq!(observed.state, gcs.state());
    assert_eq!(wire::decode_cluster_state(&observed.wire.unwrap()).unwrap(), observed.state);
    assert!(observed.took > Duration::ZERO);
}

#[tokio::test]
async fn report_comes_back_in_the_status() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    let state = AutoscalingState { version: 7, infeasible_requests: vec![task(1).request], ..Default::default() };
    client.report_autoscaling_state(&state).await.unwrap();
    client.report_autoscaling_state(&AutoscalingState { version: 6, ..Default::default() }).await.unwrap();
    let (reported, seen) = client.cluster_status().await.unwrap();
    assert_eq!(reported, state);
    assert_eq!(seen.nodes.len(), 3);
    assert_eq!(gcs.reports().len(), 2);
}

#[tokio::test]
async fn config_and_constraint_arrive() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    let group = NodeGroupConfig { name: "g".into(), max_count: -1, ..Default::default() };
    let config = ClusterConfig { groups: vec![group] };
    client.report_cluster_config(&config).await.unwrap();
    client.request_resources(&[task(2)]).await.unwrap();
    assert_eq!(gcs.configs(), [config]);
    assert_eq!(client.cluster_state().await.unwrap().state.constraints, [vec![task(2)]]);
}

#[tokio::test]
async fn drain_is_the_raylets_decision() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    let idle = DrainReason::IdleTermination;
    assert_eq!(client.drain_node(&id('a'), idle, "idle", Some(9)).await.unwrap(), DrainOutcome::Accepted);
    let DrainOutcome::Rejected(words) = client.drain_node(&id('b'), idle, "idle", None).await.unwrap() else {
        panic!("a busy node left")
    };
    assert!(words.contains("no longer idle"));
    assert_eq!(client.drain_node(&id('b'), DrainReason::Preemption, "", None).await.unwrap(), DrainOutcome::Accepted);
    assert_eq!(client.drain_node(&id('f'), idle, "", None).await.unwrap(), DrainOutcome::Accepted);
    let status: Vec<_> = gcs.state().nodes.iter().map(|node| node.status).collect();
    assert_eq!(status, [NodeStatus::Draining, NodeStatus::Running, NodeStatus::Dead]);
    let first = &gcs.drains()[0];
    assert_eq!((first.message.as_str(), first.deadline_ms), ("idle", Some(9)));
    let Drain { reason, deadline_ms, .. } = &gcs.drains()[2];
    assert_eq!((*reason, *deadline_ms), (DrainReason::Preemption, None));
}

#[tokio::test]
async fn deadline_beyond_the_wires_range_stays_a_deadline() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    client.drain_node(&id('a'), DrainReason::Preemption, "", Some(u64::MAX)).await.unwrap();
    assert_eq!(gcs.drains()[0].deadline_ms, Some(i64::MAX as u64));
}

#[tokio::test]
async fn bad_ids_never_leave() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    let drained = client.drain_node("12345", DrainReason::Preemption, "", None).await;
    assert!(matches!(drained, Err(Error::Id(_))));
    assert!(matches!(client.stop_nodes(&[id('a'), String::new()]).await, Err(Error::Id(_))));
    assert!(matches!(client.resize_node("zz", &cpus(1.0)).await, Err(Error::Id(_))));
    assert_eq!((gcs.calls("DrainNode"), gcs.calls("ResizeRayletResourceInstances")), (0, 0));
}

#[tokio::test]
async fn stop_and_resize() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    client.stop_nodes(&[id('a'), id('b')]).await.unwrap();
    assert_eq!(gcs.stopped(), [id('a'), id('b')]);
    assert_eq!(client.resize_node(&id('c'), &cpus(6.0)).await.unwrap(), cpus(6.0));
    assert_eq!(*gcs.state().nodes.living()[0].available, cpus(6.0));
    let error = client.resize_node(&id('9'), &cpus(6.0)).await.unwrap_err();
    assert_eq!(error.to_string(), "ResizeRayletResourceInstances: ABORTED: Disconnected");
}

#[tokio::test]
async fn key_value_store() {
    let gcs = MemoryGcs::default();
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    assert_eq!(client.kv_get("__autoscaler", "__autoscaler_v2_enabled").await.unwrap(), Some(b"1".to_vec()));
    assert_eq!(client.kv_get("a", "k").await.unwrap(), None);
    assert!(client.kv_put("a", "k", b"1", false).await.unwrap());
    assert!(!client.kv_put("a", "k", b"2", false).await.unwrap());
    assert_eq!(client.kv_get("a", "k").await.unwrap(), Some(b"1".to_vec()));
    assert!(!client.kv_put("a", "k", b"", true).await.unwrap());
    assert_eq!(client.kv_get("a", "k").await.unwrap(), Some(vec![]));
    assert_eq!(client.kv_keys("a", "").await.unwrap(), ["k"]);
}

#[tokio::test]
async fn tables() {
    let gcs = MemoryGcs::default();
    let worker = NodeInfo { node_id: id('1'), alive: true, metrics_export_port: 8080, ..NodeInfo::default() };
    let dead_head = NodeInfo { node_id: id('2'), is_head: true, ..NodeInfo::default() };
    let head = NodeInfo { node_id: id('3'), alive: true, temp_dir: "/tmp/ray".into(), ..dead_head.clone() };
    let nodes = vec![worker, dead_head, head.clone()];
    let job = JobInfo { job_id: "01000000".into(), is_dead: true, namespace: "n".into(), end_time_ms: 5 };
    let group = PlacementGroupInfo { id: "ab".into(), created_ms: 3, ..PlacementGroupInfo::default() };
    gcs.set_nodes(nodes.clone());
    gcs.set_jobs(vec![job.clone()]);
    gcs.set_placement_groups(vec![group.clone()]);
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    assert_eq!(client.nodes().await.unwrap(), nodes);
    assert_eq!(client.head().await.unwrap(), Some(head));
    assert_eq!(client.jobs().await.unwrap(), [job]);
    assert_eq!(client.placement_groups().await.unwrap(), [group]);
    assert_eq!(client.ray_version().await.unwrap(), "2.60.0");
    assert!(client.is_serving().await.unwrap());
}

#[tokio::test]
async fn demand_of_a_v1_head() {
    let gcs = MemoryGcs::default();
    let gang =
        GangRequest { details: "ab01:SPREAD|PENDING".into(), requests: vec![task(1).request], ..Default::default() };
    gcs.set_legacy_demand(LegacyDemand { pending: vec![task(4)], gangs: vec![gang.clone()], constraints: vec![] });
    gcs.set_key("", "autoscaler_resource_request", br#"[{"CPU":1},{"CPU":1}]"#);
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    let demand = client.legacy_demand().await.unwrap();
    assert_eq!(demand.pending, [task(4)]);
    assert_eq!((&demand.gangs[0].details, &demand.gangs[0].requests), (&gang.details, &gang.requests));
    assert_eq!(demand.constraints, [vec![task(2)]]);
    gcs.set_key("", "autoscaler_resource_request", b"not json");
    assert_eq!(client.legacy_demand().await.unwrap_err().kind(), "garbage");
}

#[tokio::test]
async fn reply_far_over_four_mebibytes() {
    let pending = (0..60_000).map(|i| {
        let name = format!("custom-resource-with-a-rather-long-name-{i:0>40}");
        let resources = ResourceMap::from([(name, 1.0)]);
        RequestByCount { request: ResourceRequest { resources, ..Default::default() }, count: 1 }
    });
    let gcs = MemoryGcs::new(ClusterState { pending: pending.collect(), ..ClusterState::default() });
    let server = start(&gcs).await;
    let observed = client(&[server.endpoint()]).cluster_state().await.unwrap();
    let bytes = observed.wire.unwrap().len();
    assert!(bytes > 5 << 20, "{bytes}");
    assert_eq!(observed.state.pending.len(), 60_000);
}

#[tokio::test]
async fn other_head_on_the_same_address() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    let before = client.cluster_id().await.unwrap();
    let observed = client.cluster_state().await.unwrap();
    gcs.restart_head(ClusterState::default());
    assert_eq!(client.cluster_state().await.unwrap_err(), Error::HeadRestarted);
    assert_ne!(observed.head_changes, client.head_changes());
    assert_eq!(client.head_changes(), 1);
    assert!(client.cluster_state().await.unwrap().state.nodes.is_empty());
    assert_eq!(client.head_changes(), 1, "the new session is the same news");
    assert_ne!(client.cluster_id().await.unwrap(), before);
    assert_eq!(client.kv_get("a", "b").await.unwrap(), None);
}

#[tokio::test]
async fn other_session_of_the_same_cluster() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    client.cluster_state().await.unwrap();
    gcs.change_state(|state| state.session_name = "session_y".into());
    assert_eq!(client.cluster_state().await.unwrap_err(), Error::HeadRestarted);
    assert!(Error::HeadRestarted.is_retryable());
    client.cluster_state().await.unwrap();
    assert_eq!(gcs.calls("GetClusterId"), 2);
}

#[tokio::test]
async fn even_the_question_for_the_id_is_refused() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    gcs.fail(Some("GetClusterId"), 1, Fault::Refuse(Refusal::Unauthenticated("WrongClusterID: …".into())));
    assert_eq!(client.cluster_state().await.unwrap_err(), Error::HeadRestarted);
    client.cluster_state().await.unwrap();
}

#[tokio::test]
async fn unavailable_is_tried_again() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    client.cluster_id().await.unwrap();
    gcs.fail(Some("GetClusterResourceState"), 2, Fault::Unavailable);
    client.cluster_state().await.unwrap();
    assert_eq!(gcs.calls("GetClusterResourceState"), 3);
    gcs.fail(Some("GetClusterResourceState"), 1, Fault::Disconnect);
    client.cluster_state().await.unwrap();
    assert_eq!(gcs.calls("GetClusterResourceState"), 5);
}

#[tokio::test]
async fn retries_end() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    client.cluster_id().await.unwrap();
    gcs.fail(None, usize::MAX, Fault::Unavailable);
    let error = client.cluster_state().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }) && error.is_retryable(), "{error}");
    assert_eq!(gcs.calls("GetClusterResourceState"), 6);
    gcs.recover();
    client.cluster_state().await.unwrap();
}

#[tokio::test]
async fn what_may_be_done_already_is_not_done_twice() {
    let gcs = MemoryGcs::default();
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    client.cluster_id().await.unwrap();
    gcs.fail(Some("InternalKVPut"), 1, Fault::Disconnect);
    let error = client.kv_put("a", "k", b"v", false).await.unwrap_err();
    assert_eq!((error.kind(), gcs.calls("InternalKVPut")), ("unavailable", 1));
}

#[tokio::test]
async fn refusals_are_final() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    client.cluster_id().await.unwrap();
    gcs.fail(None, 1, Fault::Unauthenticated);
    let error = client.cluster_state().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), ("unauthenticated", false));
    assert_eq!(gcs.calls("GetClusterResourceState"), 1);
    client.cluster_state().await.unwrap();
}

#[tokio::test]
async fn hang_ends_with_the_deadline_and_the_next_call_dials_anew() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let client = hasty(&[server.endpoint()]);
    gcs.fail(Some("GetClusterResourceState"), 1, Fault::Hang);
    let error = client.cluster_state().await.unwrap_err();
    assert_eq!(error.to_string(), format!("GetClusterResourceState: no answer from {} within 400ms", server.address));
    client.cluster_state().await.unwrap();
    gcs.fail(Some("GetClusterResourceState"), 1, Fault::Slow(Duration::from_millis(50)));
    assert!(client.cluster_state().await.unwrap().took >= Duration::from_millis(50));
}

#[tokio::test]
async fn garbage_in_a_frame() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    let whole = wire::encode_cluster_state(&cluster());
    let cut = Bytes::copy_from_slice(&whole[..whole.len() / 2]);
    for fault in [Fault::Garbage, Fault::Bytes(cut), Fault::Bytes(Bytes::new())] {
        gcs.fail(Some("GetClusterResourceState"), 1, fault);
        let error = client.cluster_state().await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), ("garbage", false), "{error}");
    }
    client.cluster_state().await.unwrap();
}

/// Reads a little, answers with `words`, closes.
async fn server_of_words(words: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 64]).await;
            let _ = stream.write_all(words).await;
        }
    });
    address
}

#[tokio::test]
async fn servers_that_are_no_gcs() {
    let http1 = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for words in [&http1[..], &[0xff; 64], b"SSH-2.0-OpenSSH_9.2\r\n", b""] {
        let error = hasty(&[server_of_words(words).await]).cluster_state().await.unwrap_err();
        assert!(["garbage", "unavailable", "deadline"].contains(&error.kind()), "{words:?}: {error:?}");
        assert!(error.to_string().starts_with("GetCluster"), "{error}");
    }
    let error = hasty(&[server_of_words(http1).await]).cluster_state().await.unwrap_err();
    assert_eq!(error.kind(), "garbage", "{error}");
}

#[tokio::test]
async fn silent_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let error = hasty(&[endpoint]).cluster_state().await.unwrap_err();
    assert_eq!(error.kind(), "deadline", "{error}");
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = client(std::slice::from_ref(&endpoint)).cluster_state().await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("GetClusterId: {endpoint}: cannot connect: ")), "{error}");
    assert_eq!(error.kind(), "unavailable");
}

#[tokio::test]
async fn second_endpoint_answers() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = closed.local_addr().unwrap().to_string();
    drop(closed);
    client(&[dead.clone(), server.endpoint()]).cluster_state().await.unwrap();
    // One that accepts and never answers costs the first call; the second goes to the other.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = hasty(&[silent.local_addr().unwrap().to_string(), server.endpoint()]);
    assert_eq!(client.cluster_state().await.unwrap_err().kind(), "deadline");
    client.cluster_state().await.unwrap();
    // It is the silent one that is left, not the dead one before it.
    let client = hasty(&[dead, silent.local_addr().unwrap().to_string(), server.endpoint()]);
    let Error::Deadline { endpoint, .. } = client.cluster_state().await.unwrap_err() else { panic!("no deadline") };
    assert_eq!(endpoint, silent.local_addr().unwrap().to_string());
    client.cluster_state().await.unwrap();
}

#[tokio::test]
async fn server_comes_back() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let address = server.endpoint();
    let client = client(std::slice::from_ref(&address));
    client.cluster_state().await.unwrap();
    drop(server);
    tokio::task::yield_now().await;
    let later = async {
        tokio::time::sleep(Duration::from_millis(120)).await;
        start_at(&address, &gcs).await
    };
    let (observed, _server) = tokio::join!(client.cluster_state(), later);
    observed.unwrap();
}

#[tokio::test]
async fn concurrent_first_calls_ask_for_the_id_once() {
    let gcs = MemoryGcs::new(cluster());
    let server = start(&gcs).await;
    let client = client(&[server.endpoint()]);
    let call = || {
        let client = client.clone();
        tokio::spawn(async move { client.cluster_state().await.map(drop) })
    };
    for call in (0..16).map(|_| call()).collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    assert_eq!(gcs.calls("GetClusterId"), 1);
}

#[tokio::test(start_paused = true)]
async fn in_process_without_a_socket_in_virtual_time() {
    let over_http = |gcs: MemoryGcs| Client::from_channel(duplex_channel(std::sync::Arc::new(gcs)));
    let within = |gcs: MemoryGcs| Client::within(std::sync::Arc::new(gcs));
    let mut seen = Vec::new();
    for way in [over_http as fn(MemoryGcs) -> Client, within] {
        let gcs = MemoryGcs::new(cluster());
        let client = way(gcs.clone());
        client.cluster_state().await.unwrap();
        gcs.fail(Some("GetClusterStatus"), 1, Fault::Hang);
        let before = tokio::time::Instant::now();
        assert_eq!(client.cluster_status().await.unwrap_err().kind(), "deadline");
        assert_eq!(before.elapsed().as_secs(), 10);
        client.cluster_status().await.unwrap();
        gcs.fail(Some("GetClusterStatus"), 1, Fault::Garbage);
        assert_eq!(client.cluster_status().await.unwrap_err().kind(), "garbage");
        // A break is only another try.
        gcs.fail(Some("GetClusterStatus"), 1, Fault::Disconnect);
        client.cluster_status().await.unwrap();

        let method = Some("GetClusterResourceState");
        gcs.fail(method, 1, Fault::Hang);
        assert_eq!(client.cluster_state().await.unwrap_err().kind(), "deadline");
        gcs.fail(method, 1, Fault::Garbage);
        assert_eq!(client.cluster_state().await.unwrap_err().kind(), "garbage");
        gcs.fail(method, 1, Fault::Disconnect);
        seen.push(client.cluster_state().await.unwrap());
    }
    // What is handed over is what would have been sent.
    let [over_http, within] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(over_http.state, within.state);
    assert!(!within.state.nodes.is_empty());
    assert_eq!((over_http.wire.is_some(), within.wire.is_some()), (true, false));
}
