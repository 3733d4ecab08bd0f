use std::sync::Arc;

use mobula_planner::{Amount, Offering, Resources, TopologyLevel};

use super::*;
use crate::hosts::{KubeNode, Taint};
use crate::snapshot::Surroundings;

/// What is kept never shows: each snapshot is the one that is built from nothing.
#[test]
fn a_snapshot_after_another_is_the_same_as_one_by_itself() {
    let of = |replicas: i64, warned: &str| {
        let labels = json!({"metadata": {"annotations": {"mobula.dev/fabric": warned}}});
        let mut group = group("cpu", &json!({"replicas": replicas}));
        group["template"]["metadata"] = labels["metadata"].clone();
        observation(&[group], gcs::ClusterState::default(), Some(vec![pod("p", "cpu", &json!({}))]))
    };
    let plain = SnapshotOptions::default();
    let mut priced = plain.clone();
    priced.prices.0.insert("cpu".to_owned(), vec![Offering::default()]);
    let mut levels = priced.clone();
    levels.topology.push(TopologyLevel { name: "zone".to_owned(), ..TopologyLevel::default() });
    let (one, other) = (of(1, "sometimes"), of(2, "required"));
    // The same content in another place is another cluster; the same place is the same.
    let copy = Observation { cluster: Arc::new(RayCluster::clone(&one.cluster)), ..one.clone() };
    let later = Observation { now_ms: one.now_ms + 5_000, pods: Some([].into()), ..one.clone() };
    let mut kept = Kept::default();
    for (observation, options) in
        [(&one, &plain), (&later, &plain), (&one, &priced), (&one, &levels), (&other, &levels), (&copy, &plain)]
    {
        assert_eq!(kept.build(observation, options), build(observation, options));
    }
    assert_eq!(kept.build(&later, &plain).unwrap().warnings.len(), 1, "warnings are said each time");
}

#[test]
fn a_cluster_that_can_not_be_used_is_an_error_each_time_and_leaves_nothing_behind() {
    let bad = observation(&[group("cpu", &json!({"minReplicas": 7, "maxReplicas": 2}))], Default::default(), None);
    let good = observation(&[group("cpu", &json!({}))], Default::default(), None);
    let options = SnapshotOptions::default();
    let mut kept = Kept::default();
    for observation in [&good, &bad, &bad, &good] {
        assert_eq!(kept.build(observation, &options), build(observation, &options));
    }
    assert!(kept.build(&bad, &options).is_err());
}

fn kube_node(name: &str, cpus: i64, taints: &[&str]) -> KubeNode {
    let offered: Resources = [("cpu", cpus), ("pods", 110)]
        .map(|(resource, units)| (resource.to_owned(), Amount::from_units(units)))
        .into_iter()
        .collect();
    let taint = |key: &&str| Taint { key: (*key).to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
    KubeNode {
        name: name.to_owned(),
        offered: offered.into(),
        taints: taints.iter().map(taint).collect(),
        ..KubeNode::default()
    }
}

/// Hosts are kept as long as nodes, groups and the pods on each node are the same. Every way to differ in one of these comes after every other.
#[test]
fn hosts_after_others_are_the_same_as_by_themselves() {
    let on = |name: &str, group: &str, node: &str, phase: &str| PodView {
        node_name: Some(node.to_owned()),
        phase: phase.to_owned(),
        ..pod(name, group, &json!({}))
    };
    let tolerant = json!({"template": {"spec": {
        "containers": [{"name": "ray", "resources": {"limits": {"cpu": "1"}}}],
        "tolerations": [{"key": "team", "operator": "Exists"}],
    }}});
    let of = |groups: &[Value], nodes: &[KubeNode], pods: Vec<PodView>| Observation {
        surroundings: Surroundings { kube_nodes: Arc::new(nodes.to_vec()), ..Surroundings::default() },
        ..observation(groups, gcs::ClusterState::default(), Some(pods))
    };
    let plain = [group("cpu", &json!({})), group("other", &json!({}))];
    let nodes = [kube_node("a", 4, &[]), kube_node("b", 4, &["team"])];
    let base = of(&plain, &nodes, vec![on("p", "cpu", "a", "Running")]);
    let with_pods = |pods: Vec<PodView>| Observation { pods: Some(pods.into()), ..base.clone() };
    let with_nodes = |nodes: Vec<KubeNode>| Observation {
        surroundings: Surroundings { kube_nodes: Arc::new(nodes), ..Surroundings::default() },
        ..base.clone()
    };
    let all = [
        base.clone(),
        with_pods(vec![on("p", "cpu", "b", "Running")]),
        with_pods(vec![on("p", "cpu", "a", "Succeeded")]),
        with_pods(vec![on("p", "other", "a", "Running")]),
        with_pods(vec![on("p", "cpu", "a", "Running"), on("q", "cpu", "a", "Pending")]),
        with_pods(vec![on("r", "cpu", "a", "Running")]),
        Observation { pods: None, ..base.clone() },
        with_nodes(nodes.to_vec()),
        with_nodes(vec![kube_node("a", 8, &[]), kube_node("b", 4, &["team"])]),
        with_nodes(vec![kube_node("a", 4, &[])]),
        with_nodes(Vec::new()),
        of(&[group("cpu", &tolerant)], &nodes, vec![on("p", "cpu", "a", "Running")]),
    ];
    let options = SnapshotOptions::default();
    let by_itself: Vec<_> = all.iter().map(|observation| build(observation, &options)).collect();
    let hosts = |number: usize| by_itself[number].as_ref().unwrap().snapshot.hosts.clone();
    assert!([1, 2, 4, 8, 9, 10, 11].iter().all(|number| hosts(*number) != hosts(0)), "what differs shows");
    for (first, one) in all.iter().enumerate() {
        for (second, other) in all.iter().enumerate() {
            let mut kept = Kept::default();
            assert_eq!(kept.build(one, &options), by_itself[first]);
            assert_eq!(kept.build(other, &options), by_itself[second], "{second} after {first}");
            assert_eq!(kept.build(one, &options), by_itself[first], "{first} again after {second}");
        }
    }
}
