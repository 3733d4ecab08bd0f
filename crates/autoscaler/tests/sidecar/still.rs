//! Turns in which nothing has happened: they cost little, and miss nothing.

use http::Method;
use mobula_gcs::server::Fault as GcsFault;
use mobula_planner::RayV2;

use super::support::{World, busy_node, idle_node, kube::Fault, node_id, tasks};

fn ticks(world: &World) -> f64 {
    world.metric("mobula_ticks_total{result=\"idle\"}")
}

/// The idle node of these worlds has been so for so long.
fn set_idle(world: &World, idle_ms: i64) {
    world.gcs.change_state(|state| {
        state.nodes.change(&node_id("w0"), |node| node.idle_ms = idle_ms);
    });
}

/// One idle and one busy worker, to which nothing has happened for a while.
async fn at_rest() -> World {
    let world = World::with_nodes(vec![idle_node("w0", "cpu", 1_000), busy_node("w1", "cpu")]);
    world.pass(20.0).await;
    world
}

#[tokio::test(start_paused = true)]
async fn nothing_is_worked_out_again_while_nothing_happens() {
    let world = at_rest().await;
    let (planned, ticked) = (world.plans(), ticks(&world));
    for idle_ms in [5_000, 20_000, 59_000] {
        set_idle(&world, idle_ms);
        world.pass(10.0).await;
    }
    assert_eq!(world.plans(), planned);
    assert!(ticks(&world) > ticked + 20.0, "{} {ticked}", ticks(&world));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_goes_when_it_has_been_idle_for_too_long() {
    let world = at_rest().await;
    // In small steps: the patience of the first turn is used up by all of them together.
    for idle_ms in (5_000..60_000).step_by(5_000) {
        set_idle(&world, idle_ms);
        world.pass(1.0).await;
    }
    assert_eq!(world.gcs.drains().len(), 0);
    set_idle(&world, 60_001);
    world.until("scale-down", |w| w.kube.workers_to_delete(0) == ["w0"]).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_idle_anew_has_its_whole_time_again() {
    let world = at_rest().await;
    for idle_ms in [55_000, 100, 55_000] {
        set_idle(&world, idle_ms);
        world.pass(5.0).await;
    }
    assert_eq!(world.gcs.drains().len(), 0);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn demand_is_seen_at_once() {
    let world = at_rest().await;
    let planned = world.plans();
    world.gcs.change_state(|state| state.pending = tasks(4.0, 3));
    world.until("scale-up", |w| w.kube.patches().len() == 1).await;
    assert!(world.plans() > planned);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn another_raycluster_is_seen_at_once() {
    let world = at_rest().await;
    set_idle(&world, 5_000);
    world.pass(5.0).await;
    world.kube.change_cluster(|cluster| cluster["spec"]["autoscalerOptions"]["idleTimeoutSeconds"] = 4.into());
    world.until("scale-down", |w| w.kube.workers_to_delete(0) == ["w0"]).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_patch_that_is_refused_is_tried_again() {
    let world = at_rest().await;
    world.kube.fail(Method::PATCH, "rayclusters", 2, Fault::Status(500, "etcd is away"));
    world.gcs.change_state(|state| state.pending = tasks(4.0, 3));
    world.until("scale-up", |w| w.kube.replicas(0) + 2 * w.kube.replicas(1) > 2).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_report_is_repeated_and_the_explanation_confirmed() {
    let world = at_rest().await;
    let explained = || world.board.last_decision().unwrap().to_json();
    let (before, reports) = (explained(), world.gcs.reports().len());
    world.pass(30.0).await;
    let (after, told) = (explained(), world.gcs.reports());
    assert_eq!(after["at_ms"], before["at_ms"], "when it was made");
    assert!(after["confirmed_ms"].as_i64() >= before["confirmed_ms"].as_i64().map(|ms| ms + 29_000), "{after}");
    assert!((5..=7).contains(&(told.len() - reports)), "{}", told.len() - reports);
    assert!(told.windows(2).all(|pair| {
        pair[0].version < pair[1].version
            && pair[0].last_seen_cluster_state_version < pair[1].last_seen_cluster_state_version
    }));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_report_that_was_not_taken_is_told_until_it_is() {
    let world = World::with_nodes(vec![idle_node("w0", "cpu", 1_000), busy_node("w1", "cpu")]);
    world.gcs.change_state(|state| state.pending = tasks(1e6, 1));
    let says_never = |w: &World| w.gcs.reports().last().is_some_and(|it| !it.infeasible_requests.is_empty());
    world.until("a report of what never fits", says_never).await;
    // The demand goes, and the report of that is lost.
    world.gcs.fail(Some("ReportAutoscalingState"), 1, GcsFault::Garbage);
    world.gcs.change_state(|state| state.pending.clear());
    world.pass(30.0).await;
    let told = world.gcs.reports();
    assert!(told.last().is_some_and(|it| it.infeasible_requests.is_empty()), "{:?}", told.last());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn recordings_of_it_replay_to_the_same_plans() {
    let world = at_rest().await;
    for idle_ms in [5_000, 30_000, 61_000] {
        set_idle(&world, idle_ms);
        world.pass(10.0).await;
    }
    let frames = world.frames_that_replay(&RayV2);
    assert!(frames.iter().any(|frame| frame.outcome.contains("patched")));
    assert!(frames.iter().filter(|frame| frame.outcome == "nothing to do").count() > 1);
    world.end().await;
}
