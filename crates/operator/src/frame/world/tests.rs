//! What watches and answers make of the world.

use serde_json::json;

use super::*;

const CLUSTERS: usize = 0;
const PODS: usize = 1;

fn world() -> Arc<World> {
    World::new(RAY_CLUSTER_SOURCES, &[]).0
}

fn cluster(uid: &str) -> Value {
    let template = json!({"spec": {"containers": [{"name": "ray"}]}});
    json!({"apiVersion": "ray.io/v1", "kind": "RayCluster",
           "metadata": {"name": "a", "namespace": "ns", "uid": uid, "resourceVersion": "1"},
           "spec": {"headGroupSpec": {"template": template}}})
}

fn pod(uid: &str, version: &str, deletion: Option<&str>) -> Value {
    let owner = json!({"kind": "RayCluster", "name": "a", "uid": "c", "controller": true});
    let mut pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": uid, "resourceVersion": version,
                         "labels": {"ray.io/cluster": "a", "ray.io/node-type": "worker", "ray.io/group": "g"},
                         "annotations": {"mobula.dev/slot": "0.0.0"}, "ownerReferences": [owner]},
           "spec": {"containers": [{"name": "ray"}]}});
    if let Some(at) = deletion {
        pod["metadata"]["deletionTimestamp"] = json!(at);
    }
    pod
}

fn seen(world: &World) -> Vec<Arc<Pod>> {
    world.cluster(&Key::new("ns", "a")).map(|view| view.pods).unwrap_or_default()
}

#[test]
fn a_late_event_does_not_take_a_deletion_back() {
    let world = world();
    let key = Key::new("ns", "p");
    world.apply(CLUSTERS, cluster("c"));
    world.apply(PODS, pod("1", "1", None));
    world.deletion_accepted(&key, "1", 1_000);
    world.apply(PODS, pod("1", "2", None));
    assert_eq!(seen(&world)[0].deletion_ms, Some(1_000 + ASSUMED_GRACE_MS), "the event is older than our request");
    world.apply(PODS, pod("1", "3", Some("1970-01-01T00:00:09Z")));
    assert_eq!(seen(&world)[0].deletion_ms, Some(9_000), "what the server says goes");
    world.is_gone(&kind::POD, &key, "1");
    world.apply(PODS, pod("1", "2", None));
    assert!(seen(&world).is_empty());
    world.apply(PODS, pod("2", "4", None));
    assert_eq!(seen(&world)[0].deletion_ms, None, "another pod of that name");
}

#[test]
fn nothing_is_kept_of_clusters_that_are_gone() {
    let world = world();
    world.apply(CLUSTERS, cluster("c"));
    world.apply(PODS, pod("1", "1", None));
    world.delete(PODS, pod("1", "1", None));
    assert_eq!(world.lock().incarnations.len(), 1);
    world.apply(PODS, pod("2", "2", None));
    world.delete(CLUSTERS, cluster("c"));
    world.delete(PODS, pod("2", "2", None));
    assert!(world.lock().incarnations.is_empty(), "pods go after their cluster");
    world.apply(CLUSTERS, cluster("another"));
    world.name_is_taken(&Key::new("ns", "a"), "c", "g", Place::default());
    assert!(world.lock().incarnations.is_empty(), "of another uid");
}

#[test]
fn an_answer_goes_to_the_source_that_selects_it() {
    let selected = |labels: Value| {
        let value = json!({"metadata": {"labels": labels}});
        let of_services = RAY_CLUSTER_SOURCES.iter().filter(|source| source.kind == &kind::SERVICE);
        of_services.filter(|source| source.admits(&value)).map(|source| source.selector).collect::<Vec<_>>()
    };
    assert_eq!(selected(json!({"ray.io/cluster": "a"})), ["ray.io/cluster"]);
    assert_eq!(selected(json!({"ray.io/headless-worker-svc": "a"})), ["ray.io/headless-worker-svc,!ray.io/cluster"]);
    assert_eq!(selected(json!({"ray.io/originated-from-crd": "RayCluster"})).len(), 1);
    assert!(selected(json!({"ray.io/originated-from-crd": "RayService"})).is_empty());
}

#[test]
fn nothing_is_kept_of_gangs_of_other_people() {
    static SOURCES: &[Source] =
        &[Source { kind: &kind::RAY_CLUSTER, selector: "" }, Source { kind: &kind::VOLCANO_POD_GROUP, selector: "" }];
    let world = World::new(SOURCES, &[]).0;
    world.apply(0, cluster("c"));
    let group = |name: &str, owner: &str, kind: &str| {
        let owner = json!({"apiVersion": owner, "kind": kind, "name": "a", "uid": "c", "controller": true});
        json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1",
                            "ownerReferences": [owner]}})
    };
    world.apply(1, group("ours", "ray.io/v1", "RayCluster"));
    world.apply(1, group("theirs", "batch.volcano.sh/v1alpha1", "Job"));
    world.listing_begins(1, 0);
    world.listed(1, 0, group("ours", "ray.io/v1", "RayCluster"));
    world.listed(1, 0, group("others", "batch.volcano.sh/v1alpha1", "Job"));
    world.listing_ends(1, 0);
    assert_eq!(world.lock().children[&1].len(), 1);
    assert_eq!(world.cluster(&Key::new("ns", "a")).unwrap().children.len(), 1);
}

#[test]
fn gangs_are_looked_at_again_when_a_raycluster_says_something_else_of_them() {
    let sources = [RAY_CLUSTER_SOURCES, CAPACITY_SOURCES].concat();
    let (world, mut changes) = World::new(&sources, &[]);
    let mut wakes = |version: &str, generation: i64, note: &str| {
        let mut cluster = cluster("c");
        cluster["metadata"]["resourceVersion"] = json!(version);
        cluster["metadata"]["generation"] = json!(generation);
        cluster["metadata"]["annotations"] = json!({"mobula.dev/gangs": note});
        world.apply(CLUSTERS, cluster);
        let woken: Vec<Target> = std::iter::from_fn(|| changes.try_recv().ok()).collect();
        woken.contains(&admission_target())
    };
    assert!(wakes("1", 1, "{}"), "it is new");
    assert!(!wakes("2", 1, "{}"), "only its status is another");
    assert!(wakes("3", 1, "[]"), "the sidecar names other gangs");
    assert!(wakes("4", 2, "[]"), "replicas are others");
}

#[test]
fn a_version_that_an_answer_has_told_is_no_news() {
    let (world, mut changes) = World::new(RAY_CLUSTER_SOURCES, &[]);
    let mut told = || std::iter::from_fn(|| changes.try_recv().ok()).count();
    world.apply(CLUSTERS, cluster("c"));
    world.pod_answered(&pod("1", "5", None), true);
    assert_eq!(told(), 2);
    world.apply(CLUSTERS, cluster("c"));
    world.apply(PODS, pod("1", "5", None));
    assert_eq!(told(), 0);
    world.apply(PODS, pod("1", "6", None));
    assert_eq!(told(), 1, "a newer version");
    world.apply(PODS, pod("2", "6", None));
    assert_eq!(told(), 1, "another pod of that name");
    world.apply(CLUSTERS, cluster("d"));
    assert_eq!(told(), 1, "another cluster of that name");
}
