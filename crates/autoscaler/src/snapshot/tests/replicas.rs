use std::sync::Arc;

use mobula_planner::NodePhase;

use super::*;

fn multi_host(replicas: u32) -> Vec<Value> {
    vec![group("g", &json!({"numOfHosts": 2, "replicas": replicas}))]
}

fn host(name: &str, replica: &str) -> PodView {
    pod(name, "g", &json!({"labels": {"ray.io/worker-group-replica-name": replica}}))
}

fn requested(snapshot: &Snapshot) -> Vec<(&str, Option<&str>)> {
    let phantoms = snapshot.nodes.iter().filter(|node| node.phase == NodePhase::Requested);
    phantoms.map(|node| (&*node.instance_id, node.replica.as_deref())).collect()
}

#[test]
fn replicas_without_a_pod_are_requested() {
    let groups = [group("g", &json!({"replicas": 3}))];
    let snapshot = clean(&of_nodes(&groups, vec![], Some(vec![pod("p", "g", &json!({}))])));
    assert_eq!(requested(&snapshot), [("g/requested-0", None), ("g/requested-1", None)]);
    let phantom = node(&snapshot, "g/requested-0");
    assert_eq!(phantom.total, snapshot.node_types[1].resources);
    assert_eq!(&*phantom.group, "g");
}

#[test]
fn the_minimum_is_requested_although_nobody_wrote_it() {
    let groups = [group("g", &json!({"minReplicas": 2}))];
    assert_eq!(requested(&clean(&of_nodes(&groups, vec![], None))).len(), 2);
}

#[test]
fn a_suspended_group_or_cluster_requests_nothing() {
    let groups = [group("g", &json!({"replicas": 3, "suspend": true}))];
    assert_eq!(requested(&clean(&of_nodes(&groups, vec![], None))), []);
    let mut observation = of_nodes(&[group("g", &json!({"replicas": 3}))], vec![], None);
    Arc::make_mut(&mut observation.cluster).spec.suspend = Some(true);
    let snapshot = clean(&observation);
    assert_eq!(requested(&snapshot), []);
    assert!(snapshot.node_types.iter().all(|group| group.suspended));
}

#[test]
fn a_named_pod_is_replaced_and_a_draining_one_is_not() {
    let groups = [group("g", &json!({"replicas": 2, "scaleStrategy": {"workersToDelete": ["named"]}}))];
    let draining = gcs::NodeState { status: gcs::NodeStatus::Draining, ..ray_node("draining", "g") };
    let pods = vec![pod("named", "g", &json!({})), pod("draining", "g", &json!({}))];
    let snapshot = clean(&of_nodes(&groups, vec![draining], Some(pods)));
    // The operator counts the draining pod until somebody names it.
    assert_eq!(requested(&snapshot), [("g/requested-0", None)]);
}

#[test]
fn hosts_are_grouped_by_their_label() {
    let pods = vec![host("c", "r2"), host("a", "r1"), host("d", "r1"), host("b", "r2")];
    let snapshot = clean(&of_nodes(&multi_host(2), vec![], Some(pods)));
    assert_eq!(instances(&snapshot), ["a", "d", "b", "c"]);
    assert_eq!(node(&snapshot, "d").replica.as_deref(), Some("r1"));
}

#[test]
fn hosts_that_are_missing_in_a_replica_are_requested_for_it() {
    let snapshot = clean(&of_nodes(&multi_host(2), vec![], Some(vec![host("a", "r1")])));
    assert_eq!(
        requested(&snapshot),
        [
            ("g/requested-0", Some("r1")),
            ("g/requested-1", Some("g/requested-replica-0")),
            ("g/requested-2", Some("g/requested-replica-0")),
        ]
    );
}

#[test]
fn a_replica_with_a_stopped_host_is_not_completed() {
    let dead = gcs::NodeState { status: gcs::NodeStatus::Dead, ..ray_node("a", "g") };
    let snapshot = clean(&of_nodes(&multi_host(1), vec![dead], Some(vec![host("a", "r1")])));
    assert_eq!(requested(&snapshot), []);
}

#[test]
fn without_labels_the_oldest_hosts_are_put_together() {
    let at =
        |name: &str, minute: u8| pod(name, "g", &json!({"creationTimestamp": format!("1970-01-01T00:{minute}:00Z")}));
    let pods = vec![at("young", 30), at("old", 10), at("middle", 20)];
    let snapshot = clean(&of_nodes(&multi_host(2), vec![], Some(pods)));
    assert_eq!(node(&snapshot, "old").replica, node(&snapshot, "middle").replica);
    assert_ne!(node(&snapshot, "old").replica, node(&snapshot, "young").replica);
    assert_eq!(requested(&snapshot), [("g/requested-0", Some("g/replica-1"))]);
}

#[test]
fn without_labels_hosts_that_are_leaving_are_put_together() {
    let groups =
        [group("g", &json!({"numOfHosts": 2, "replicas": 1, "scaleStrategy": {"workersToDelete": ["a", "c"]}}))];
    let pods = ["a", "b", "c", "d"].map(|name| pod(name, "g", &json!({}))).to_vec();
    let snapshot = clean(&of_nodes(&groups, vec![], Some(pods)));
    assert_eq!(node(&snapshot, "a").replica, node(&snapshot, "c").replica);
    assert_eq!(node(&snapshot, "b").replica, node(&snapshot, "d").replica);
    assert_eq!(requested(&snapshot), []);
}

#[test]
fn without_pods_hosts_of_a_tpu_slice_are_a_replica() {
    let slice = |pod: &str, slice: &str| gcs::NodeState {
        labels: gcs::LabelMap::from([("ray.io/tpu-slice-name".to_owned(), slice.to_owned())]).into(),
        ..ray_node(pod, "g")
    };
    let nodes = vec![slice("a", "s1"), slice("b", "s2"), slice("c", "s1"), slice("d", "s2")];
    let snapshot = clean(&of_nodes(&multi_host(2), nodes, None));
    assert_eq!(node(&snapshot, "c").replica.as_deref(), Some("s1"));
    assert_eq!(node(&snapshot, "d").replica.as_deref(), Some("s2"));
}
