//! The pure part of one tick of the sidecar: snapshot, plan, document.

use std::collections::BTreeMap;

use anyhow::Result;
use mobula_api::RayCluster;
use mobula_autoscaler::document::plan_document;
use mobula_autoscaler::snapshot::{self, Observation, SnapshotOptions};
use mobula_planner::{Memory, Plan, Policy, RayV2, Snapshot};
use serde_json::Value;

use crate::problem::{self, Size};

/// Unix time in ms of every made-up observation.
pub const NOW_MS: i64 = 1_767_225_600_000;

/// What a sidecar would have observed of a made-up cluster of that size.
pub fn observation(size: Size) -> Result<Observation> {
    observation_of(problem::cluster_state(size), problem::raycluster(size))
}

/// What a sidecar would have observed: a reply of the GCS and a RayCluster, no pods.
pub fn observation_of(state: mobula_gcs::ClusterState, raycluster: Value) -> Result<Observation> {
    Ok(Observation {
        now_ms: NOW_MS,
        state,
        cluster: RayCluster::from_value(raycluster)?.into(),
        pods: None,
        object_store_bytes: BTreeMap::new(),
        gang_created_ms: BTreeMap::new(),
        session_since_ms: None,
        surroundings: Default::default(),
    })
}

/// First step: from the words of Ray and Kubernetes to the planner's.
pub fn build(observation: &Observation) -> Result<Snapshot> {
    Ok(snapshot::build(observation, &SnapshotOptions::default())?.snapshot)
}

/// Second step: the decision.
pub fn plan(snapshot: &Snapshot) -> Plan {
    RayV2.plan(snapshot, &Memory::default()).0
}

/// All steps, to the document that people and programs read.
pub fn whole(observation: &Observation) -> Result<Value> {
    let snapshot = build(observation)?;
    let plan = plan(&snapshot);
    Ok(plan_document(&snapshot, &plan))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_cluster_is_understood_and_gets_what_it_asks_for() {
        let size = Size { pending: 1_000, nodes: 10 };
        let built = snapshot::build(&observation(size).unwrap(), &SnapshotOptions::default()).unwrap();
        // All that is odd is that one raylet alone could not have reported so many shapes.
        assert!(built.warnings.iter().all(|warning| warning.contains("200 shapes")), "{:?}", built.warnings);
        let document = plan_document(&built.snapshot, &plan(&built.snapshot));
        assert_eq!(document["infeasible"], serde_json::json!([]), "{document:#}");
        let launched: u64 = document["launch"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        assert!((10..1_000).contains(&launched), "{launched} launched");
    }
}
