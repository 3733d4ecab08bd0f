use std::sync::Arc;

use mobula_planner::{Offering, TopologyLevel};

use super::*;

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
    let later = Observation { now_ms: one.now_ms + 5_000, pods: Some(Vec::new()), ..one.clone() };
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
