//! The loop between a GCS and an API server in memory, in virtual time: what it does, and what it must not do.
// A test may fail by panicking; that is what it is for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod ending;
mod permissions;
mod prices;
mod refusals;
mod still;
mod support;
mod surroundings;
mod unsound;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use http::Method;
use mobula_autoscaler::{clock::Clock, recorder::Recording, sidecar::Error};
use mobula_gcs::{JobInfo, LegacyDemand, NodeStatus, server::Fault as GcsFault};
use mobula_planner::RayV2;
use serde_json::json;

use self::support::{
    START_MS, World, busy_node, idle_node,
    kube::{FakeKube, Fault},
    node_id, pod, raycluster, state, tasks,
};

const LONG_IDLE_MS: i64 = 100_000;

fn empty() -> World {
    World::with_nodes(vec![])
}

#[tokio::test(start_paused = true)]
async fn demand_becomes_replicas_in_one_patch() {
    let world = empty();
    world.gcs.change_state(|state| state.pending = tasks(4.0, 3));
    world.until("scale-up", |w| w.kube.replicas(0) + 2 * w.kube.replicas(1) >= 3).await;
    world.pass(5.0).await;
    assert_eq!(world.kube.patches().len(), 1, "{:?}", world.kube.patches());
    let explain = &world.kube.cluster()["metadata"]["annotations"]["mobula.dev/explain"];
    assert!(explain.as_str().is_some_and(|text| text.len() <= 4096));
    assert!(world.metric("mobula_patches_total{result=\"accepted\"}") == 1.0);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_gcs_is_told_what_is_on_its_way() {
    let world = empty();
    world.gcs.change_state(|state| state.pending = tasks(4.0, 1));
    world.until("report", |w| w.gcs.reports().last().is_some_and(|r| r.pending_instance_requests.len() == 1)).await;
    let first = world.gcs.reports()[0].version;
    assert!(first >= START_MS, "{first}");
    assert!(world.gcs.configs().len() == 1);
    assert!(world.gcs.configs()[0].groups.iter().any(|group| group.name == "slice" && group.max_count == 40));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_node_is_drained_and_then_named() {
    let world = World::with_nodes(vec![idle_node("w0", "cpu", LONG_IDLE_MS), busy_node("w1", "cpu")]);
    world.until("scale-down", |w| w.kube.workers_to_delete(0) == ["w0"]).await;
    assert_eq!(world.kube.replicas(0), 1);
    assert_eq!(world.gcs.drains().len(), 1);
    world.pass(5.0).await;
    assert_eq!(world.gcs.drains().len(), 1, "drained once");
    assert_eq!(world.metric("autoscaler_stopped_nodes_total{SessionName=\"session_1\"}"), 1.0);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_became_busy_refuses_the_drain_and_stays() {
    let (kube, gcs) = World::parts(vec![idle_node("w0", "cpu", LONG_IDLE_MS)]);
    // Between the reply that shows it idle and the raylet's answer it gets work.
    gcs.fail(Some("DrainNode"), 1, GcsFault::Slow(Duration::from_millis(500)));
    let world = World::start(kube, gcs);
    world.until("the drain", |w| w.gcs.calls("DrainNode") == 1).await;
    world.gcs.change_state(|old| old.nodes = state(vec![busy_node("w0", "cpu")]).nodes);
    world.until("the refusal", |w| w.metric("mobula_drains_total{result=\"refused\"}") == 1.0).await;
    world.pass(30.0).await;
    assert_eq!(world.kube.patches().len(), 0);
    assert_eq!(world.kube.replicas(0), 1);
    // It is not free: more work needs another node.
    world.gcs.change_state(|state| state.pending = tasks(4.0, 1));
    world.until("scale-up", |w| w.kube.replicas(0) == 2).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_in_which_ray_began_while_another_was_drained_is_not_named() {
    let world = World::with_nodes(vec![busy_node("w0", "cpu"), busy_node("w1", "cpu")]);
    world.pass(5.0).await;
    world.gcs.fail(Some("DrainNode"), 1, GcsFault::Slow(Duration::from_secs(4)));
    let mut stopped = busy_node("w1", "cpu");
    stopped.status = NodeStatus::Dead;
    let nodes = vec![idle_node("w0", "cpu", LONG_IDLE_MS), stopped.clone()];
    world.gcs.change_state(|old| old.nodes = state(nodes).nodes);
    world.until("the drain", |w| w.gcs.calls("DrainNode") == 1).await;
    let mut begun = busy_node("w1", "cpu");
    begun.node_id = node_id("w1 again");
    let nodes = vec![idle_node("w0", "cpu", LONG_IDLE_MS), stopped, begun];
    world.gcs.change_state(|old| old.nodes = state(nodes).nodes);
    world.until("scale-down", |w| !w.kube.workers_to_delete(0).is_empty()).await;
    world.pass(10.0).await;
    assert_eq!(world.kube.workers_to_delete(0), ["w0"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_raylet_that_can_not_be_reached_is_not_deleted() {
    let (kube, gcs) = World::parts(vec![idle_node("w0", "cpu", LONG_IDLE_MS)]);
    gcs.fail(Some("DrainNode"), usize::MAX, GcsFault::Unavailable);
    let world = World::start(kube, gcs);
    world.until("a failed drain", |w| w.metric("mobula_drains_total{result=\"failed\"}") >= 1.0).await;
    world.pass(10.0).await;
    assert_eq!(world.kube.patches().len(), 0);
    world.gcs.recover();
    world.until("scale-down", |w| w.kube.workers_to_delete(0) == ["w0"]).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_of_which_one_host_is_busy_stays_whole() {
    let world = World::with_nodes(vec![idle_node("s-0", "slice", LONG_IDLE_MS), busy_node("s-1", "slice")]);
    world.pass(20.0).await;
    assert_eq!(world.gcs.drains(), []);
    assert_eq!(world.kube.patches().len(), 0);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_replica_goes_with_all_its_hosts() {
    let world =
        World::with_nodes(vec![idle_node("s-0", "slice", LONG_IDLE_MS), idle_node("s-1", "slice", LONG_IDLE_MS)]);
    world.until("scale-down", |w| w.kube.replicas(1) == 0).await;
    assert_eq!(world.kube.workers_to_delete(1), ["s-0", "s-1"]);
    assert_eq!(world.kube.patches().len(), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_is_named_by_a_later_patch_if_the_first_is_refused() {
    let (kube, gcs) = World::parts(vec![idle_node("w0", "cpu", LONG_IDLE_MS)]);
    kube.fail(Method::PATCH, "rayclusters", 1, Fault::Status(500, "etcd is away"));
    let world = World::start(kube, gcs);
    world.until("the drain", |w| w.gcs.drains().len() == 1).await;
    assert_eq!(world.kube.patches().len(), 0);
    // The head forgets the dead node altogether.
    world.gcs.change_state(|state| {
        state.nodes = state.nodes.iter().filter(|node| node.instance_id != "w0").cloned().collect();
    });
    world.until("the pod is named", |w| w.kube.workers_to_delete(0) == ["w0"]).await;
    assert_eq!(world.kube.replicas(0), 0);
    assert_eq!(world.gcs.drains().len(), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_patch_that_was_overtaken_is_planned_anew() {
    let (kube, gcs) = World::parts(vec![]);
    kube.fail(Method::PATCH, "rayclusters", 1, Fault::Status(409, "the object has been modified"));
    let world = World::start(kube, gcs);
    world.gcs.change_state(|state| state.pending = tasks(4.0, 1));
    world.until("scale-up", |w| w.kube.replicas(0) == 1).await;
    assert_eq!(world.metric("mobula_patches_total{result=\"stale\"}"), 1.0);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn somebody_who_changes_replicas_meanwhile_is_not_overwritten() {
    let (kube, gcs) = World::parts(vec![]);
    // The change comes between our read and our patch: the test operation of the patch fails.
    kube.fail(Method::PATCH, "rayclusters", 1, Fault::Status(422, "the server rejected our request"));
    let world = World::start(kube.clone(), gcs);
    world.gcs.change_state(|state| state.pending = tasks(4.0, 1));
    world.until("the refusal", |w| w.metric("mobula_patches_total{result=\"stale\"}") == 1.0).await;
    kube.change_cluster(|cluster| cluster["spec"]["workerGroupSpecs"][0]["replicas"] = json!(5));
    world.pass(10.0).await;
    assert!(world.kube.replicas(0) >= 5);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_until_all_pods_are_back_after_a_head_restart() {
    let world = World::with_nodes(vec![idle_node("w0", "cpu", 1_000), idle_node("w1", "cpu", 1_000)]);
    world.pass(3.0).await;
    world.gcs.restart_head(state(vec![idle_node("w0", "cpu", LONG_IDLE_MS)]));
    world.pass(60.0).await;
    assert_eq!(world.gcs.drains(), []);
    assert_eq!(world.kube.patches().len(), 0);
    assert_eq!(world.metric("mobula_deletions_held{reason=\"head_restart\"}"), 1.0);
    world.gcs.change_state(|state| state.nodes.push(busy_node("w1", "cpu")));
    world.until("scale-down", |w| w.kube.workers_to_delete(0) == ["w0"]).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_while_the_gcs_shows_no_head_but_growth_goes_on() {
    let world = World::with_nodes(vec![idle_node("w0", "cpu", 1_000)]);
    world.pass(3.0).await;
    world.gcs.change_state(|old| old.nodes = vec![idle_node("w0", "cpu", LONG_IDLE_MS)].into());
    world.pass(200.0).await;
    assert_eq!(world.gcs.drains(), []);
    assert_eq!(world.metric("mobula_deletions_held{reason=\"no_head\"}"), 1.0);
    world.gcs.change_state(|state| state.pending = tasks(4.0, 2));
    world.until("scale-up", |w| w.kube.replicas(0) + 2 * w.kube.replicas(1) >= 2).await;
    let whole = vec![idle_node("w0", "cpu", LONG_IDLE_MS)];
    world.gcs.change_state(|old| *old = state(whole));
    world.until("scale-down", |w| w.kube.workers_to_delete(0) == ["w0"]).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn at_the_start_nothing_is_deleted_until_the_pods_have_registered() {
    let (kube, gcs) = World::parts(vec![idle_node("w0", "cpu", LONG_IDLE_MS)]);
    kube.put_pod(pod("w1", "cpu", None));
    kube.change_cluster(|cluster| cluster["spec"]["workerGroupSpecs"][0]["replicas"] = json!(2));
    let world = World::start(kube, gcs);
    world.pass(60.0).await;
    assert_eq!(world.kube.patches().len(), 0);
    world.pass(90.0).await;
    assert!(world.kube.workers_to_delete(0).contains(&"w0".to_owned()), "after the grace time");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_gcs_that_fails_in_any_way_costs_a_metric_and_no_pod() {
    let faults = [
        (GcsFault::Garbage, "garbage"),
        (GcsFault::Hang, "deadline"),
        (GcsFault::Unauthenticated, "unauthenticated"),
        (GcsFault::Unavailable, "unavailable"),
        (GcsFault::Disconnect, "unavailable"),
    ];
    for (fault, kind) in faults {
        let world = World::with_nodes(vec![busy_node("w0", "cpu")]);
        world.pass(2.0).await;
        world.gcs.fail(Some("GetClusterResourceState"), 40, fault.clone());
        let series = format!("mobula_errors_total{{kind=\"{kind}\",source=\"gcs\"}}");
        world.until(&format!("{fault:?}"), |w| w.metric(&series) >= 1.0).await;
        assert!(world.board.not_ready().is_some(), "{fault:?}");
        assert_eq!(world.kube.patches().len(), 0, "{fault:?}");
        world.gcs.recover();
        world.gcs.change_state(|state| state.pending = tasks(4.0, 1));
        world.until(&format!("recovery from {fault:?}"), |w| w.kube.replicas(0) == 2).await;
        assert_eq!(world.kube.workers_to_delete(0), Vec::<String>::new(), "{fault:?}");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_fails_in_any_way_is_asked_less_and_less_and_then_obeyed_again() {
    let faults = [
        (Fault::Status(403, "forbidden"), "forbidden"),
        (Fault::Status(404, "not found"), "not_found"),
        (Fault::Status(429, "slow down"), "throttled"),
        (Fault::Status(500, "broken"), "server"),
        (Fault::Status(410, "gone"), "gone"),
        (Fault::Hang, "timeout"),
    ];
    for (fault, kind) in faults {
        let (kube, gcs) = World::parts(vec![]);
        kube.fail(Method::PATCH, "rayclusters", usize::MAX, fault.clone());
        let world = World::start(kube, gcs);
        world.gcs.change_state(|state| state.pending = tasks(4.0, 1));
        let series = format!("mobula_errors_total{{kind=\"{kind}\",source=\"kube\"}}");
        world.until(&format!("{fault:?}"), |w| w.metric(&series) >= 1.0).await;
        world.pass(50.0).await;
        let tried = world.kube.seen().iter().filter(|seen| seen.method == Method::PATCH).count();
        assert!(tried <= 20, "{fault:?}: {tried} patches in 50 s");
        if kind == "forbidden" {
            assert_eq!(tried, 1, "what got 403 is not tried in a loop");
        }
        world.kube.recover();
        world.until(&format!("recovery from {fault:?}"), |w| w.kube.replicas(0) == 1).await;
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_raycluster_that_can_not_be_read_stops_everything_until_it_can() {
    let (kube, gcs) = World::parts(vec![idle_node("w0", "cpu", LONG_IDLE_MS)]);
    kube.fail(Method::GET, "rayclusters", 3, Fault::Status(404, "not found"));
    let world = World::start(kube, gcs);
    world.until("an error", |w| w.metric("mobula_errors_total{kind=\"not_found\",source=\"kube\"}") >= 1.0).await;
    assert_eq!(world.gcs.drains(), []);
    world.until("recovery", |w| w.kube.workers_to_delete(0) == ["w0"]).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_field_is_named_and_planning_goes_on_once_it_is_mended() {
    let (kube, gcs) = World::parts(vec![]);
    kube.change_cluster(|cluster| cluster["spec"]["workerGroupSpecs"][0]["minReplicas"] = json!(-3));
    let world = World::start(kube.clone(), gcs);
    world.until("an error", |w| w.board.not_ready().is_some_and(|why| why.contains("minReplicas"))).await;
    world.gcs.change_state(|state| state.pending = tasks(4.0, 1));
    world.pass(10.0).await;
    assert_eq!(world.kube.patches().len(), 0);
    kube.change_cluster(|cluster| cluster["spec"]["workerGroupSpecs"][0]["minReplicas"] = json!(0));
    world.until("planning", |w| w.kube.replicas(0) == 1).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_or_expired_watch_is_taken_up_again() {
    let world = empty();
    world.pass(2.0).await;
    world.kube.cut_watches();
    world.pass(5.0).await;
    world.kube.expire_watches();
    world.kube.put_pod(pod("w0", "cpu", None));
    world.pass(30.0).await;
    world.gcs.change_state(|state| state.nodes.push(busy_node("w0", "cpu")));
    world.kube.change_cluster(|cluster| cluster["spec"]["workerGroupSpecs"][0]["replicas"] = json!(1));
    world.pass(10.0).await;
    assert_eq!(world.metric("mobula_current_replicas{group=\"cpu\"}"), 1.0);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_decided_on_pods_that_nobody_has_kept_up_to_date_for_long() {
    let world = World::with_nodes(vec![idle_node("w0", "cpu", 0)]);
    world.pass(5.0).await;
    world.kube.fail(Method::GET, "pods", usize::MAX, Fault::Status(500, "broken"));
    world.kube.cut_watches();
    // For a while what was there will do.
    world.gcs.change_state(|state| state.pending = tasks(4.0, 2));
    world.until("growth", |w| w.kube.replicas(0) == 2).await;
    world.pass(125.0).await;
    assert!(world.board.not_ready().is_some_and(|why| why.contains("watch of pods")), "{:?}", world.board.not_ready());
    assert!(world.metric("mobula_errors_total{kind=\"pods_stale\",source=\"kube\"}") >= 1.0);
    world.gcs.change_state(|state| {
        state.pending.clear();
        state.nodes.change(&node_id("w0"), |node| node.idle_ms = LONG_IDLE_MS);
    });
    world.pass(60.0).await;
    assert_eq!(world.gcs.drains(), []);
    world.kube.recover();
    world.until("removal", |w| w.kube.workers_to_delete(0) == ["w0"]).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn where_lists_work_and_watches_do_not_pods_are_listed_less_and_less() {
    let (kube, gcs) = World::parts(vec![]);
    kube.fail(Method::GET, "watch=true", usize::MAX, Fault::Status(500, "no watches"));
    let world = World::start(kube, gcs);
    world.pass(240.0).await;
    let lists = world.kube.seen().iter().filter(|seen| seen.path.ends_with("/pods") && seen.status == 200).count();
    assert!((2..=20).contains(&lists), "{lists} lists in four minutes");
    world.kube.recover();
    world.pass(120.0).await;
    assert_eq!(world.board.not_ready(), None);
    world.end().await;
}

/// A wall clock that a test sets.
struct JumpingClock(AtomicI64);

impl Clock for JumpingClock {
    fn now_unix_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_deletes_nothing_and_stops_nothing() {
    let (kube, gcs) = World::parts(vec![idle_node("w0", "cpu", 1_000), busy_node("w1", "cpu")]);
    let clock = Arc::new(JumpingClock(AtomicI64::new(START_MS)));
    let world = World::start_with(kube, gcs, clock.clone(), |_| {});
    world.pass(2.0).await;
    for jump in [86_400_000, -2 * 86_400_000, i64::MAX / 2, -START_MS] {
        clock.0.store(START_MS.saturating_add(jump), Ordering::Relaxed);
        world.pass(5.0).await;
    }
    assert_eq!(world.kube.patches().len(), 0);
    let versions: Vec<i64> = world.gcs.reports().iter().map(|report| report.version).collect();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    world.gcs.change_state(|state| state.pending = tasks(4.0, 2));
    world.until("scale-up", |w| w.kube.replicas(0) > 2).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_a_quota_refuses_are_reported_with_the_reason() {
    let world = empty();
    world.gcs.change_state(|state| state.pending = tasks(4.0, 1));
    world.until("scale-up", |w| w.kube.replicas(0) == 1).await;
    world.kube.change_cluster(|cluster| {
        cluster["status"]["conditions"] = json!([{
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreateWorkerPod",
            "message": "pods \"a-cpu-worker-x\" is forbidden: exceeded quota: q",
            "lastTransitionTime": "2026-01-01T00:00:01Z",
        }]);
    });
    let failed = |w: &World| {
        let report = w.gcs.reports().last().cloned().unwrap_or_default();
        report.failed_instance_requests.iter().any(|f| f.node_type == "cpu" && f.reason.contains("exceeded quota"))
    };
    world.until("the failure in the report", failed).await;
    let report = world.gcs.reports().last().cloned().unwrap();
    assert!(report.infeasible_requests.is_empty(), "what waits for quota is not infeasible");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_in_v1_mode_is_served_from_its_own_demand() {
    let (kube, gcs) = World::parts(vec![]);
    gcs.set_key("__autoscaler", "__autoscaler_v2_enabled", b"0");
    gcs.set_legacy_demand(LegacyDemand { pending: tasks(4.0, 2), ..LegacyDemand::default() });
    gcs.set_key("", "autoscaler_resource_request", br#"[{"CPU": 4}, {"CPU": 4}, {"CPU": 4}]"#);
    let world = World::start(kube, gcs);
    world.until("scale-up", |w| w.kube.replicas(0) + 2 * w.kube.replicas(1) >= 3).await;
    world.until("the legacy status", |w| w.gcs.key("", "__autoscaling_status").is_some()).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_pod_that_came_back_is_capacity_again() {
    let (kube, gcs) = World::parts(vec![idle_node("w0", "cpu", LONG_IDLE_MS)]);
    kube.fail(Method::PATCH, "rayclusters", 1, Fault::Status(500, "etcd is away"));
    let world = World::start(kube, gcs);
    world.until("the drain", |w| w.gcs.drains().len() == 1).await;
    // The container was restarted before its pod was named.
    world.gcs.change_state(|state| {
        let mut reborn = busy_node("w0", "cpu");
        reborn.node_id = support::node_id("reborn");
        state.nodes.push(reborn);
    });
    world.pass(30.0).await;
    assert_eq!(world.kube.workers_to_delete(0), Vec::<String>::new());
    assert_eq!(world.kube.replicas(0), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_node_is_never_touched_whatever_else_goes() {
    let mut nodes: Vec<_> = (0..5).map(|n| idle_node(&format!("w{n}"), "cpu", LONG_IDLE_MS)).collect();
    nodes.push(busy_node("busy", "cpu"));
    let world = World::with_nodes(nodes);
    world.until("scale-down", |w| w.kube.replicas(0) == 1).await;
    assert!(!world.kube.workers_to_delete(0).contains(&"busy".to_owned()));
    assert!(world.gcs.drains().iter().all(|drain| drain.node_id != support::node_id("busy")));
    assert!(world.gcs.state().nodes.iter().any(|n| n.instance_id == "busy" && n.status == NodeStatus::Running));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_gcs_is_not_asked_more_often_than_the_pace_allows() {
    let (kube, gcs) = World::parts(vec![]);
    gcs.fail(Some("GetClusterResourceState"), usize::MAX, GcsFault::Slow(Duration::from_millis(100)));
    let world = World::start(kube, gcs);
    world.pass(2.0).await;
    let before = world.gcs.calls("GetClusterResourceState");
    world.pass(50.0).await;
    let polls = world.gcs.calls("GetClusterResourceState") - before;
    assert!((8..=11).contains(&polls), "{polls} polls in 50 s; 50 × 100 ms between two");
    world.end().await;
}

/// Polls in 50 s of a GCS whose answers to `slow` take 100 ms.
async fn polls_in_50_s(world: World, slow: &'static str) -> usize {
    world.gcs.fail(Some(slow), usize::MAX, GcsFault::Slow(Duration::from_millis(100)));
    world.pass(6.0).await;
    let before = world.gcs.calls("GetClusterResourceState");
    world.pass(50.0).await;
    let polls = world.gcs.calls("GetClusterResourceState") - before;
    world.end().await;
    polls
}

#[tokio::test(start_paused = true)]
async fn a_patch_that_is_overtaken_again_and_again_does_not_hurry_the_pace() {
    let (kube, gcs) = World::parts(vec![]);
    kube.fail(Method::PATCH, "rayclusters", usize::MAX, Fault::Status(409, "the object has been modified"));
    let world = World::start(kube, gcs);
    world.gcs.change_state(|state| state.pending = tasks(4.0, 1));
    let polls = polls_in_50_s(world, "GetClusterResourceState").await;
    assert!((8..=11).contains(&polls), "{polls} polls in 50 s; 50 × 100 ms between two");
}

#[tokio::test(start_paused = true)]
async fn in_v1_mode_the_demand_counts_for_the_pace_too() {
    let (kube, gcs) = World::parts(vec![]);
    gcs.set_key("__autoscaler", "__autoscaler_v2_enabled", b"0");
    let polls = polls_in_50_s(World::start(kube, gcs), "GetAllResourceUsage").await;
    assert!((8..=11).contains(&polls), "{polls} polls in 50 s; 50 × 100 ms between two");
}

#[tokio::test(start_paused = true)]
async fn the_metrics_address_is_told_again_to_a_new_head() {
    let (kube, gcs) = World::parts(vec![]);
    let world = World::start_with(kube, gcs, Arc::new(JumpingClock(AtomicI64::new(START_MS))), |config| {
        config.listen = Some(([127, 0, 0, 1], 0).into());
        config.advertised_host = "10.0.0.7".into();
    });
    let told = |w: &World| w.gcs.key("", "AutoscalerMetricsAddress").is_some();
    world.until("the address", told).await;
    world.gcs.restart_head(state(vec![]));
    assert!(!told(&world));
    world.until("the address again", told).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_recorded_plans_the_same_again() {
    let world = empty();
    world.gcs.change_state(|state| state.pending = tasks(4.0, 3));
    world.until("scale-up", |w| !w.kube.patches().is_empty()).await;
    let frames = world.frames_that_replay(&RayV2);
    assert!(frames.iter().any(|frame| frame.outcome.contains("patched")));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn too_old_a_ray_is_refused_with_what_to_do() {
    let error = Error::RayTooOld { found: "2.40.0".into() };
    let text = error.to_string();
    assert!(text.contains("2.40.0") && text.contains("2.47"), "{text}");
}
