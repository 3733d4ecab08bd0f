//! Patches that the API server refuses for what they ask: the rest of the plan goes on.

use mobula_autoscaler::clock::FollowingClock;
use serde_json::Value;

use super::*;

const DENIED: &str = "admission webhook \"limits.example\" denied the request: no more of that";
const FORBIDDEN_BY_ROLE: &str = "rayclusters.ray.io \"a\" is forbidden: User \"system:serviceaccount:default:a\" \
                                 cannot patch resource \"rayclusters\" in API group \"ray.io\" in the namespace \"default\"";

/// A value for each worker group.
fn by_group<T>(cluster: &Value, value: impl Fn(&Value) -> T) -> Vec<T> {
    cluster["spec"]["workerGroupSpecs"].as_array().into_iter().flatten().map(value).collect()
}

fn grows(before: &Value, after: &Value) -> bool {
    let replicas = |cluster: &Value| by_group(cluster, |group| group["replicas"].as_i64().unwrap_or(0));
    replicas(before).iter().zip(replicas(after)).any(|(before, after)| after > *before)
}

fn names_pods(before: &Value, after: &Value) -> bool {
    let names = |cluster: &Value| by_group(cluster, |group| group["scaleStrategy"]["workersToDelete"].clone());
    names(before) != names(after)
}

/// Gives the nodes of `slice` a resource that only they have.
pub(super) fn with_chips(kube: &FakeKube) {
    kube.change_cluster(|cluster| {
        let resources = json!(json!({"chip": 4}).to_string()).to_string();
        cluster["spec"]["workerGroupSpecs"][1]["rayStartParams"] = json!({"resources": resources});
    });
}

/// Work for `count` nodes of `slice`, which has two nodes a replica.
pub(super) fn chip_tasks(count: i64) -> Vec<mobula_gcs::RequestByCount> {
    let mut tasks = tasks(1.0, count);
    tasks[0].request.resources.insert("chip".into(), 4.0);
    tasks
}

#[tokio::test(start_paused = true)]
async fn idle_replicas_go_while_growth_is_refused() {
    for code in [400, 403, 422] {
        let (kube, gcs) = World::parts(vec![idle_node("w0", "cpu", LONG_IDLE_MS), busy_node("w1", "cpu")]);
        with_chips(&kube);
        kube.admit(move |before, after| grows(before, after).then_some((code, DENIED)));
        gcs.change_state(|state| state.pending = chip_tasks(2));
        let world = World::start(kube, gcs);
        world.until("scale-down", |w| w.kube.workers_to_delete(0) == ["w0"]).await;
        assert_eq!((world.kube.replicas(0), world.kube.replicas(1)), (1, 0), "{code}");
        assert_eq!(world.metric("autoscaler_started_nodes_total{SessionName=\"session_1\"}"), 0.0, "{code}");
        // A second one while the first try is long over.
        let rest = vec![idle_node("w1", "cpu", LONG_IDLE_MS)];
        world.gcs.change_state(|old| old.nodes = state(rest).nodes);
        world.kube.remove_pod("w0");
        world.until("another scale-down", |w| w.kube.replicas(0) == 0).await;
        world.pass(30.0).await;
        let refused = world.kube.tried_patches() - world.kube.patches().len();
        assert!((1..=6).contains(&refused), "{code}: growth was tried {refused} times");
        assert!(world.gcs.reports().last().is_some_and(|r| !r.failed_instance_requests.is_empty()), "{code}");
        world.kube.recover();
        world.until("growth", |w| w.kube.replicas(1) == 1).await;
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn growth_goes_on_while_removals_are_refused_and_what_is_drained_for_them_has_a_limit() {
    let nodes = (0..3).map(|n| idle_node(&format!("w{n}"), "cpu", LONG_IDLE_MS)).collect();
    let (kube, gcs) = World::parts(nodes);
    with_chips(&kube);
    kube.admit(|before, after| names_pods(before, after).then_some((400, DENIED)));
    let clock = Arc::new(FollowingClock::starting_at(START_MS));
    let world = World::start_with(kube, gcs, clock, |config| config.pace.min_interval = Duration::from_secs(1));
    world.until("a refusal", |w| w.metric("mobula_patches_total{result=\"failed\"}") == 1.0).await;
    let drained = world.gcs.drains().len();
    world.gcs.change_state(|state| state.pending = chip_tasks(2));
    world.until("growth", |w| w.kube.replicas(1) == 1).await;
    world.kube.change_cluster(|cluster| cluster["spec"]["workerGroupSpecs"][0]["replicas"] = json!(4));
    world.kube.put_pod(pod("w3", "cpu", None));
    world.gcs.change_state(|state| {
        state.nodes.push(idle_node("w3", "cpu", LONG_IDLE_MS));
        state.pending = chip_tasks(4);
    });
    world.until("more growth", |w| w.kube.replicas(1) == 2).await;
    world.pass(30.0).await;
    assert_eq!(world.gcs.drains().len(), drained, "what is drained goes first");
    // Those go by somebody else's hand: whether removals are taken now is tried with one of the others.
    world.kube.change_cluster(|cluster| cluster["spec"]["workerGroupSpecs"][0]["replicas"] = json!(3));
    for number in 0..4 {
        world.kube.remove_pod(&format!("w{number}"));
    }
    for number in 4..7 {
        world.kube.put_pod(pod(&format!("w{number}"), "cpu", None));
    }
    let others = (4..7).map(|n| idle_node(&format!("w{n}"), "cpu", LONG_IDLE_MS)).collect();
    world.gcs.change_state(|old| old.nodes = state(others).nodes);
    world.pass(100.0).await;
    assert_eq!(world.gcs.drains().len(), drained + 1, "what can't be had back is risked for one");
    world.kube.recover();
    world.pass(320.0).await;
    assert_eq!((world.kube.replicas(0), world.gcs.drains().len()), (0, drained + 3));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_pod_is_named_although_the_growth_in_the_same_patch_is_refused() {
    let (kube, gcs) = World::parts(vec![idle_node("w0", "cpu", LONG_IDLE_MS)]);
    with_chips(&kube);
    kube.fail(Method::PATCH, "rayclusters", 1, Fault::Status(500, "etcd is away"));
    kube.admit(|before, after| grows(before, after).then_some((403, DENIED)));
    let world = World::start(kube, gcs);
    world.until("the drain", |w| w.gcs.drains().len() == 1).await;
    world.gcs.change_state(|state| state.pending = chip_tasks(2));
    world.until("the pod is named", |w| w.kube.workers_to_delete(0) == ["w0"]).await;
    assert_eq!((world.kube.replicas(0), world.kube.replicas(1)), (0, 0));
    // The server was away, then refused both together, then took the one.
    assert_eq!(world.kube.tried_patches(), 3);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_role_does_not_allow_is_not_tried_by_halves() {
    let (kube, gcs) = World::parts(vec![idle_node("w0", "cpu", LONG_IDLE_MS)]);
    with_chips(&kube);
    kube.fail(Method::PATCH, "rayclusters", usize::MAX, Fault::Status(403, FORBIDDEN_BY_ROLE));
    gcs.change_state(|state| state.pending = chip_tasks(2));
    let world = World::start(kube, gcs);
    world.pass(50.0).await;
    assert_eq!(world.kube.tried_patches(), 1);
    assert_eq!(world.gcs.drains(), [], "nothing is drained whose removal can't be patched");
    world.kube.recover();
    world.until("both", |w| w.kube.replicas(1) == 1 && w.kube.replicas(0) == 0).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_goes_while_the_growth_of_its_own_group_is_refused() {
    let (kube, gcs) = World::parts(vec![idle_node("w0", "cpu", LONG_IDLE_MS), busy_node("w1", "cpu")]);
    kube.fail(Method::PATCH, "rayclusters", 1, Fault::Status(500, "etcd is away"));
    kube.admit(|before, after| grows(before, after).then_some((400, DENIED)));
    let world = World::start(kube, gcs);
    world.until("the drain", |w| w.gcs.drains().len() == 1).await;
    // Demand comes too late for the drained node: the group must grow by more than it loses.
    world.gcs.change_state(|state| state.pending = tasks(4.0, 3));
    world.until("the pod is named", |w| w.kube.workers_to_delete(0) == ["w0"]).await;
    assert_eq!(world.kube.replicas(0), 2, "as it was written: the operator replaces the pod");
    world.kube.recover();
    world.until("growth", |w| w.kube.replicas(0) + 2 * w.kube.replicas(1) >= 4).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_multi_host_replica_starts_at_once_and_a_small_idle_node_goes_right_after() {
    let (kube, gcs) = World::parts(vec![idle_node("w0", "cpu", LONG_IDLE_MS)]);
    with_chips(&kube);
    gcs.change_state(|state| state.pending = chip_tasks(2));
    let world = World::start(kube, gcs);
    let began = tokio::time::Instant::now();
    world.until("a whole replica", |w| w.kube.replicas(1) == 1).await;
    assert_eq!(world.gcs.drains(), [], "growth does not wait for drains");
    assert_eq!(world.kube.replicas(0), 1);
    world.until("scale-down", |w| w.kube.workers_to_delete(0) == ["w0"]).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!((world.kube.replicas(0), world.kube.replicas(1)), (0, 1));
    assert_eq!(world.kube.patches().len(), 2);
    world.end().await;
}
