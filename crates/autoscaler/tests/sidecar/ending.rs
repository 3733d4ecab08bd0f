//! Suspending an unused cluster, and the end of the sidecar itself.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_unused_cluster_is_suspended_where_the_user_wants_so() {
    let (kube, gcs) = World::parts(vec![]);
    kube.change_cluster(|cluster| {
        cluster["spec"]["idleTerminationOptions"] = json!({"timeoutSeconds": 30, "policy": "Suspend"});
    });
    gcs.set_jobs(vec![JobInfo { namespace: "user".into(), ..JobInfo::default() }]);
    let world = World::start(kube, gcs);
    world.pass(60.0).await;
    assert_eq!(world.kube.patches().len(), 0);
    world.gcs.set_jobs(vec![JobInfo { namespace: "user".into(), is_dead: true, end_time_ms: 1, ..JobInfo::default() }]);
    world.until("suspension", |w| w.kube.cluster()["spec"]["idleSuspend"] == json!(true)).await;
    world.end().await;
}

/// A cluster without drivers that is to be suspended after 30 s.
fn to_be_suspended(nodes: Vec<mobula_gcs::NodeState>) -> World {
    let (kube, gcs) = World::parts(nodes);
    kube.change_cluster(|cluster| {
        cluster["spec"]["idleTerminationOptions"] = json!({"timeoutSeconds": 30, "policy": "Suspend"});
    });
    World::start(kube, gcs)
}

fn is_suspended(world: &World) -> bool {
    world.kube.cluster()["spec"]["idleSuspend"] == json!(true)
}

#[tokio::test(start_paused = true)]
async fn the_time_in_which_the_gcs_did_not_answer_does_not_count_as_unused() {
    let world = to_be_suspended(vec![]);
    world.pass(20.0).await;
    world.gcs.fail(Some("GetClusterResourceState"), usize::MAX, GcsFault::Unavailable);
    world.pass(60.0).await;
    world.gcs.recover();
    world.pass(25.0).await;
    assert!(!is_suspended(&world));
    world.until("suspension", is_suspended).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_session_is_unused_from_its_own_start() {
    let world = to_be_suspended(vec![]);
    world.pass(25.0).await;
    world.gcs.change_state(|state| state.session_name = "session_2".into());
    world.pass(25.0).await;
    assert!(!is_suspended(&world));
    world.until("suspension", is_suspended).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_of_which_the_gcs_shows_a_part_only_is_not_suspended() {
    let world = to_be_suspended(vec![]);
    world.kube.put_pod(pod("w0", "cpu", None));
    world.pass(3.0).await;
    world.gcs.change_state(|state| state.nodes.push(busy_node("w0", "cpu")));
    world.pass(3.0).await;
    world.gcs.restart_head(state(vec![]));
    world.pass(100.0).await;
    assert_eq!(world.metric("mobula_deletions_held{reason=\"head_restart\"}"), 1.0);
    assert!(!is_suspended(&world));
    world.gcs.change_state(|state| state.nodes.push(busy_node("w0", "cpu")));
    world.pass(25.0).await;
    assert!(!is_suspended(&world));
    world.until("suspension", is_suspended).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_is_told_to_stop_while_it_waits_for_the_gcs_ends_well() {
    let kube = FakeKube::new(raycluster());
    let (_, gcs) = World::parts(vec![]);
    gcs.fail(None, usize::MAX, GcsFault::Unavailable);
    let world = World::start(kube, gcs);
    world.pass(5.0).await;
    assert!(world.board.not_ready().is_some_and(|why| why.contains("waiting for the GCS")));
    world.end().await;
}

/// How long it takes to stop.
async fn time_to_end(world: World) -> Duration {
    let told = tokio::time::Instant::now();
    world.end().await;
    told.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_patch_that_is_under_way_is_finished_before_the_end() {
    let (kube, gcs) = World::parts(vec![]);
    kube.fail(Method::PATCH, "rayclusters", 1, Fault::Slow(Duration::from_secs(4)));
    gcs.change_state(|state| state.pending = tasks(4.0, 1));
    let world = World::start(kube.clone(), gcs);
    world.pass(2.0).await;
    assert_eq!(kube.patches().len(), 0);
    let took = time_to_end(world).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(kube.replicas(0), 1);
}

#[tokio::test(start_paused = true)]
async fn a_patch_that_hangs_holds_up_the_end_for_seconds_only() {
    let (kube, gcs) = World::parts(vec![]);
    kube.fail(Method::PATCH, "rayclusters", 1, Fault::Hang);
    gcs.change_state(|state| state.pending = tasks(4.0, 1));
    let world = World::start(kube, gcs);
    world.pass(2.0).await;
    let took = time_to_end(world).await;
    assert!((Duration::from_secs(4)..Duration::from_secs(6)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_but_a_patch_holds_up_the_end() {
    for method in ["GetClusterResourceState", "ReportAutoscalingState", "ReportClusterConfig"] {
        let (kube, gcs) = World::parts(vec![]);
        gcs.fail(Some(method), usize::MAX, GcsFault::Hang);
        let world = World::start(kube, gcs);
        world.pass(1.0).await;
        assert!(world.gcs.calls(method) > 0, "{method}");
        let took = time_to_end(world).await;
        assert!(took < Duration::from_millis(100), "{method}: {took:?}");
    }
}
