//! What RBAC allows, what it does not, and chores that depend on it.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_the_stock_role_does_not_allow_is_asked_once_and_never_tried() {
    let world = empty();
    world.pass(120.0).await;
    let reviews = world.kube.seen().iter().filter(|seen| seen.path.contains("selfsubjectaccessreviews")).count();
    assert_eq!(reviews, 5);
    assert!(world.kube.seen().iter().all(|seen| seen.status != 403));
    assert_eq!(world.metric("mobula_missing_permissions{permission=\"watch rayclusters\"}"), 1.0);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn where_even_the_question_is_forbidden_it_is_asked_once() {
    let (kube, gcs) = World::parts(vec![]);
    kube.fail(Method::POST, "selfsubjectaccessreviews", usize::MAX, Fault::Status(403, "forbidden"));
    let world = World::start(kube, gcs);
    world.gcs.change_state(|state| state.pending = tasks(4.0, 1));
    world.until("scale-up", |w| w.kube.replicas(0) == 1).await;
    world.pass(60.0).await;
    assert_eq!(world.kube.seen().iter().filter(|seen| seen.status == 403).count(), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_question_that_was_not_answered_is_asked_again_but_not_in_a_loop() {
    for fault in [Fault::Status(503, "not now"), Fault::Status(429, "slow down"), Fault::Hang] {
        let (kube, gcs) = World::parts(vec![]);
        kube.grant("create events");
        kube.fail(Method::POST, "selfsubjectaccessreviews", 3, fault.clone());
        let world = World::start(kube, gcs);
        world.pass(40.0).await;
        assert_eq!(world.metric("mobula_missing_permissions{permission=\"create events\"}"), 0.0, "{fault:?}");
        assert_eq!(world.metric("mobula_missing_permissions{permission=\"list nodes\"}"), 1.0, "{fault:?}");
        world.gcs.change_state(|state| state.pending = tasks(4.0, 1));
        world.until("an Event", |w| w.kube.seen().iter().any(|s| s.path.ends_with("/events"))).await;
        world.end().await;
    }
    let (kube, gcs) = World::parts(vec![]);
    kube.fail(Method::POST, "selfsubjectaccessreviews", usize::MAX, Fault::Status(503, "not now"));
    let world = World::start(kube, gcs);
    world.pass(200.0).await;
    let asked = world.kube.seen().iter().filter(|seen| seen.path.contains("selfsubjectaccessreviews")).count();
    assert!((7..=9).contains(&asked), "{asked} in 200 s");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn chores_that_hang_do_not_keep_demand_waiting() {
    let (kube, gcs) = World::parts(vec![]);
    for permission in ["create events", "list nodes", "list resourcequotas"] {
        kube.grant(permission);
    }
    kube.fail(Method::POST, "/events", usize::MAX, Fault::Hang);
    kube.fail(Method::GET, "resourcequotas", usize::MAX, Fault::Hang);
    kube.fail(Method::GET, "/api/v1/nodes", usize::MAX, Fault::Hang);
    gcs.fail(Some("GetAllJobInfo"), usize::MAX, GcsFault::Hang);
    gcs.fail(Some("ReportClusterConfig"), usize::MAX, GcsFault::Hang);
    kube.change_cluster(|cluster| {
        cluster["spec"]["idleTerminationOptions"] = json!({"timeoutSeconds": 30, "policy": "Suspend"});
    });
    let world = World::start(kube, gcs);
    for count in 1..=4_u32 {
        let asked = tokio::time::Instant::now();
        world.gcs.change_state(|state| state.pending = tasks(4.0, i64::from(count)));
        let is_served = |w: &World| w.kube.replicas(0) + 2 * w.kube.replicas(1) >= i64::from(count);
        world.until("scale-up", is_served).await;
        assert!(asked.elapsed() < Duration::from_secs(12), "{:?}", asked.elapsed());
        world.pass(20.0).await;
    }
    assert!(world.metric("mobula_errors_total{kind=\"idle_termination\",source=\"chore\"}") >= 1.0);
    let ticks = world.gcs.calls("GetClusterResourceState");
    assert!(ticks > 200, "{ticks} ticks in 80 s");
    assert_ne!(world.kube.cluster()["spec"]["idleSuspend"], json!(true));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn with_the_extra_role_the_raycluster_is_watched_and_events_say_what_was_done() {
    let (kube, gcs) = World::parts(vec![]);
    kube.grant("watch rayclusters");
    kube.grant("create events");
    let world = World::start(kube, gcs);
    world.gcs.change_state(|state| state.pending = tasks(4.0, 1));
    world.until("scale-up", |w| w.kube.replicas(0) == 1).await;
    world.pass(60.0).await;
    let seen = world.kube.seen();
    let gets = seen.iter().filter(|s| s.method == Method::GET && s.path.ends_with("/rayclusters/a")).count();
    assert!(gets <= 2, "{gets} gets beside a watch");
    let notes: Vec<&str> =
        seen.iter().filter(|s| s.path.ends_with("/events")).filter_map(|s| s.body["note"].as_str()).collect();
    assert!(notes.contains(&"Adding 1 node(s) of type cpu."), "{notes:?}");
    world.kube.change_cluster(|cluster| cluster["spec"]["workerGroupSpecs"][0]["minReplicas"] = json!(3));
    world.until("a change that the watch brought", |w| w.metric("mobula_desired_replicas{group=\"cpu\"}") == 3.0).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_permission_that_does_not_hold_after_all_is_not_used_again() {
    let (kube, gcs) = World::parts(vec![]);
    kube.grant("create events");
    kube.fail(Method::POST, "/events", usize::MAX, Fault::Status(403, "forbidden"));
    let world = World::start(kube, gcs);
    for count in 1..=3 {
        world.gcs.change_state(|state| state.pending = tasks(4.0, count));
        world.pass(20.0).await;
    }
    let tried = world.kube.seen().iter().filter(|seen| seen.path.ends_with("/events")).count();
    assert_eq!(tried, 1);
    assert_eq!(world.metric("mobula_missing_permissions{permission=\"create events\"}"), 1.0);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_holds_a_group_back_is_named() {
    let (kube, gcs) = World::parts(vec![]);
    kube.grant("list resourcequotas");
    kube.set_quotas(json!({"items": [
        {"metadata": {"name": "q"}, "status": {"hard": {"limits.cpu": "3"}, "used": {"limits.cpu": "0"}}},
    ]}));
    let world = World::start(kube, gcs);
    world.gcs.change_state(|state| state.pending = tasks(4.0, 1));
    let named = |w: &World| {
        w.board
            .last_decision()
            .is_some_and(|decision| decision.warnings.iter().any(|note| note.contains("ResourceQuota q")))
    };
    world.until("the quota", named).await;
    world.end().await;
}
