//! Kubernetes nodes and quotas, where they may be read.

use mobula_autoscaler::recorder::Frame;
use mobula_planner::Amount;
use serde_json::json;

use super::*;

fn nodes() -> serde_json::Value {
    json!({"items": [{
        "metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z", "noise": "1"}},
        "status": {"allocatable": {"cpu": "16", "memory": "64Gi", "pods": "110"}},
    }]})
}

fn quotas(used: &str) -> serde_json::Value {
    json!({"items": [{"metadata": {"name": "q"}, "status": {"hard": {"cpu": "40"}, "used": {"cpu": used}}}]})
}

fn frames(world: &World) -> Vec<Frame> {
    let recording = Recording::of_bytes("test", world.board.recorder.bytes().unwrap()).unwrap();
    recording.frames().map(Result::unwrap).collect()
}

/// A world in which nodes and quotas may be read, with one pod on node `n`.
fn open_world() -> World {
    let (kube, gcs) = World::parts(vec![busy_node("w0", "cpu")]);
    kube.grant("list nodes");
    kube.grant("list resourcequotas");
    kube.set_nodes(nodes());
    kube.set_quotas(quotas("10"));
    World::start_with(kube, gcs, Arc::new(JumpingClock(AtomicI64::new(START_MS))), |config| {
        config.snapshot.topology = mobula_planner::topology_presets::preset("auto").unwrap();
    })
}

#[tokio::test(start_paused = true)]
async fn the_first_plan_knows_nodes_and_quotas_already() {
    let world = open_world();
    world.pass(5.0).await;
    let frames = frames(&world);
    let built = frames[0].replay(&RayV2, &frames[0].memory).unwrap().built.snapshot;
    assert_eq!(built.hosts.len(), 1);
    let host = &built.hosts[0];
    // Pod `w0` takes 4 CPU of it; labels that nobody asks for are not kept.
    assert_eq!((host.free["cpu"], host.free["pods"]), (Amount::from_units(12), Amount::from_units(109)));
    assert_eq!(host.labels.keys().collect::<Vec<_>>(), ["topology.kubernetes.io/zone"]);
    assert_eq!(built.quotas.len(), 1);
    assert_eq!(built.quotas[0].free["cpu"], Amount::from_units(30));
    world.end().await;
}

/// Requests for nodes.
fn asked_for_nodes(world: &World) -> usize {
    world.kube.seen().iter().filter(|seen| seen.path == "/api/v1/nodes").count()
}

#[tokio::test(start_paused = true)]
async fn nodes_are_watched_where_that_is_allowed_and_listed_no_more() {
    let (kube, gcs) = World::parts(vec![busy_node("w0", "cpu")]);
    kube.grant("list nodes");
    kube.grant("watch nodes");
    kube.set_nodes(nodes());
    let world = World::start(kube, gcs);
    world.pass(200.0).await;
    // Before the first plan, for the watch, and the watch, which lasts for some five minutes.
    assert_eq!(asked_for_nodes(&world), 3);
    let seen = |world: &World| frames(world).pop().unwrap().observation.surroundings.kube_nodes;
    assert_eq!((seen(&world).len(), &seen(&world)[0].unfit), (1, &None));
    world.kube.change_node(|node| node["spec"] = json!({"unschedulable": true}));
    world.pass(40.0).await;
    assert_eq!(seen(&world)[0].unfit.as_deref(), Some("is cordoned"));
    let notes = world.board.last_decision().unwrap().warnings.clone();
    assert!(notes.iter().any(|note| note.contains("Kubernetes node n is cordoned: w0")), "{notes:?}");
    assert_eq!(asked_for_nodes(&world), 3);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn nodes_are_listed_where_a_watch_is_refused() {
    let (kube, gcs) = World::parts(vec![busy_node("w0", "cpu")]);
    kube.grant("list nodes");
    kube.refuse("watch nodes");
    kube.set_nodes(nodes());
    let world = World::start(kube, gcs);
    world.pass(100.0).await;
    world.kube.change_node(|node| node["spec"] = json!({"unschedulable": true}));
    world.pass(40.0).await;
    let refused = world.kube.seen().iter().filter(|seen| seen.status == 403).count();
    assert_eq!(refused, 1);
    let last = frames(&world).pop().unwrap();
    assert_eq!(last.observation.surroundings.kube_nodes[0].unfit.as_deref(), Some("is cordoned"));
    // At the start, for the watch, the watch, and every 30 s.
    assert!((6..=7).contains(&asked_for_nodes(&world)), "{}", asked_for_nodes(&world));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn kinds_that_need_not_be_installed_are_read_where_they_are() {
    let (kube, gcs) = World::parts(vec![busy_node("w0", "cpu")]);
    kube.grant("list nodes");
    kube.set_nodes(nodes());
    let member = json!([{"type": "Node", "selector": {"labelMatch": {"matchLabels": {"noise": "1"}}}}]);
    let hypernode = json!([{"metadata": {"name": "s0"}, "spec": {"tier": 1, "tierName": "leaf", "members": member}}]);
    kube.serve("topology.volcano.sh", "hypernodes", "", &hypernode);
    let quota = json!([{"metadata": {"name": "q"}, "spec": {"max": {"cpu": "40", "memory": "much"}}, "status": {"used": {"cpu": "10"}}}]);
    kube.serve("scheduling.x-k8s.io", "elasticquotas", "namespaces/default/", &quota);
    let world = World::start_with(kube, gcs, Arc::new(JumpingClock(AtomicI64::new(START_MS))), |config| {
        config.snapshot.topology = mobula_planner::topology_presets::preset("auto").unwrap();
    });
    world.pass(5.0).await;
    let frames = frames(&world);
    let built = frames[0].replay(&RayV2, &frames[0].memory).unwrap().built.snapshot;
    let leaf = built.topology.iter().find(|level| level.name == "leaf").unwrap();
    assert_eq!(built.hosts[0].labels[&leaf.keys[0]], "s0");
    assert_eq!(
        (built.quotas[0].source.as_str(), built.quotas[0].free["cpu"]),
        ("ElasticQuota q", Amount::from_units(30))
    );
    let doubts = world.board.last_decision().unwrap().warnings.clone();
    assert!(doubts.iter().any(|doubt| doubt.contains("memory \"much\" is no amount")), "{doubts:?}");
    // What is not installed is nothing that a Role lacks.
    assert_eq!(world.metric("mobula_missing_permissions{permission=\"list workloads\"}"), 0.0);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_recorded_with_surroundings_plans_the_same_again() {
    let world = open_world();
    world.gcs.change_state(|state| state.pending = tasks(4.0, 2));
    world.until("scale-up", |w| w.kube.replicas(0) + 2 * w.kube.replicas(1) == 3).await;
    world.pass(20.0).await;
    let last = world.frames_that_replay(&RayV2).pop().unwrap();
    // What is asked for and not there is taken off the quota before the quota itself counts it.
    let built = last.replay(&RayV2, &last.memory).unwrap().built.snapshot;
    assert_eq!(built.quotas[0].free["cpu"], Amount::from_units(22));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_the_permissions_nothing_is_known_and_scaling_goes_on() {
    let world = empty();
    world.gcs.change_state(|state| state.pending = tasks(4.0, 1));
    world.until("scale-up", |w| w.kube.replicas(0) == 1).await;
    let last = frames(&world).pop().unwrap();
    assert_eq!(last.observation.surroundings, Default::default());
    world.end().await;
}
