//! One observation, the plan made from it, and what is needed to make that plan again.

use std::collections::BTreeMap;

use bytes::Bytes;
use mobula_api::{FieldError, PodView, RayCluster};
use mobula_planner::{Memory, Plan, Policy, Snapshot};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::snapshot::{self, Built, Observation, SnapshotOptions};

/// One tick as it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Frame {
    /// Unix time of the observation in ms.
    pub at_ms: i64,
    /// Name of the policy that made the plan.
    pub policy: String,
    /// Settings of the snapshot that don't come from the RayCluster.
    pub options: SnapshotOptions,
    /// The RayCluster as it was read.
    pub cluster: Value,
    /// Its pods.
    pub pods: Option<Vec<PodView>>,
    /// Bytes held by nodes that were asked.
    pub object_store_bytes: BTreeMap<String, u64>,
    /// Creation times of placement groups.
    pub gang_created_ms: BTreeMap<String, i64>,
    /// Unix time in ms since when the head of this session was seen.
    pub session_since_ms: Option<i64>,
    /// What the policy remembered before.
    pub memory: Memory,
    /// The plan.
    pub plan: Plan,
    /// What came of it, for people.
    pub outcome: String,
    /// The reply of the GCS as bytes (of a `GetClusterResourceStateReply`).
    #[serde(skip)]
    pub wire: Bytes,
}

/// Why a frame can't be planned again. Not retryable.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The reply of the GCS can't be read.
    #[error("the reply of the GCS: {0}")]
    Wire(String),
    /// The RayCluster can't be read.
    #[error("the RayCluster: {0}")]
    Cluster(#[from] FieldError),
}

impl Frame {
    /// What was observed.
    ///
    /// # Errors
    /// If the GCS's reply or the RayCluster can't be read.
    pub fn observation(&self) -> Result<Observation, ReplayError> {
        let state = mobula_gcs::wire::decode_cluster_state(&self.wire)
            .map_err(|error| ReplayError::Wire(error.to_string()))?;
        Ok(Observation {
            now_ms: self.at_ms,
            state,
            cluster: RayCluster::from_value(self.cluster.clone())?,
            pods: self.pods.clone(),
            object_store_bytes: self.object_store_bytes.clone(),
            gang_created_ms: self.gang_created_ms.clone(),
            session_since_ms: self.session_since_ms,
        })
    }

    /// The plan that `policy` makes from this observation, and the snapshot it is made from.
    ///
    /// # Errors
    /// If the frame can't be read.
    pub fn plan_again(&self, policy: &dyn Policy) -> Result<(Snapshot, Plan), ReplayError> {
        let Built { snapshot, .. } = snapshot::build(&self.observation()?, &self.options)?;
        let (plan, _) = policy.plan(&snapshot, &self.memory);
        Ok((snapshot, plan))
    }
}
