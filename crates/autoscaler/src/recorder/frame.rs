//! One observation, the plan made from it, and what is needed to make that plan again.

use bytes::Bytes;
use mobula_planner::{Memory, Plan};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One tick as it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Frame {
    /// Unix time of the observation in ms.
    pub at_ms: i64,
    /// Name of the policy that made the plan.
    pub policy: String,
    /// The RayCluster as it was read.
    pub cluster: Value,
    /// What the policy remembered before.
    pub memory: Memory,
    /// The plan.
    pub plan: Plan,
    /// What came of it, for people.
    pub outcome: String,
    /// The reply of the GCS as it came over the wire.
    #[serde(skip)]
    pub wire: Bytes,
}
