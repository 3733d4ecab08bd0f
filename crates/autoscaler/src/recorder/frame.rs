//! One observation, the plan made from it, and what is needed to make that plan again.

use std::collections::BTreeMap;

use bytes::Bytes;
use mobula_api::{FieldError, PodView, RayCluster};
use mobula_planner::{Memory, Plan, Policy, Snapshot, Versions};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::snapshot::{self, Built, Observation, SnapshotOptions};

/// One tick as it was.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Number of the tick in its process; set by the recorder.
    pub tick: u64,
    /// Name of the policy that made the plan.
    pub policy: String,
    /// Settings of the snapshot that don't come from the RayCluster.
    pub options: SnapshotOptions,
    /// What was observed.
    pub observation: Observation,
    /// What the policy remembered before.
    pub memory: Memory,
    /// The plan.
    pub plan: Plan,
    /// What came of it, for people.
    pub outcome: String,
    /// The GCS's state as bytes of a `GetClusterResourceStateReply`.
    pub wire: Bytes,
}

/// What a frame comes to when it is planned again.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The plan.
    pub plan: Plan,
}

impl Frame {
    /// The plan that `policy` makes from this observation.
    ///
    /// # Errors
    /// If the RayCluster can't be used.
    pub fn replay(&self, policy: &dyn Policy) -> Result<Replayed, FieldError> {
        let Built { snapshot, .. } = snapshot::build(&self.observation, &self.options)?;
        let (plan, _) = policy.plan(&snapshot, &self.memory);
        Ok(Replayed { snapshot, plan })
    }

    /// Whether this tick planned and brought what `last` did.
    pub(super) fn repeats(&self, last: &Frame) -> bool {
        let essence = |frame: &Frame| Plan { versions: Versions::default(), ..frame.plan.clone() };
        self.outcome == last.outcome && self.policy == last.policy && essence(self) == essence(last)
    }
}

/// A frame as it is written, but for the GCS's state.
#[derive(Serialize, Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct StoredFrame {
    tick: u64,
    at_ms: i64,
    policy: String,
    options: SnapshotOptions,
    cluster: Value,
    pods: Option<Vec<PodView>>,
    object_store_bytes: BTreeMap<String, u64>,
    gang_created_ms: BTreeMap<String, i64>,
    session_since_ms: Option<i64>,
    memory: Memory,
    plan: Plan,
    outcome: String,
}

impl StoredFrame {
    pub(super) fn of(frame: &Frame) -> Self {
        let observation = &frame.observation;
        StoredFrame {
            tick: frame.tick,
            at_ms: observation.now_ms,
            policy: frame.policy.clone(),
            options: frame.options.clone(),
            cluster: observation.cluster.to_value(),
            pods: observation.pods.clone(),
            object_store_bytes: observation.object_store_bytes.clone(),
            gang_created_ms: observation.gang_created_ms.clone(),
            session_since_ms: observation.session_since_ms,
            memory: frame.memory.clone(),
            plan: frame.plan.clone(),
            outcome: frame.outcome.clone(),
        }
    }

    /// The error is for people.
    pub(super) fn into_frame(self, wire: Bytes) -> Result<Frame, String> {
        let state = mobula_gcs::wire::decode_cluster_state(&wire).map_err(|error| error.to_string())?;
        let cluster = RayCluster::from_value(self.cluster).map_err(|error| error.to_string())?;
        let observation = Observation {
            now_ms: self.at_ms,
            state,
            cluster,
            pods: self.pods,
            object_store_bytes: self.object_store_bytes,
            gang_created_ms: self.gang_created_ms,
            session_since_ms: self.session_since_ms,
        };
        Ok(Frame {
            tick: self.tick,
            policy: self.policy,
            options: self.options,
            observation,
            memory: self.memory,
            plan: self.plan,
            outcome: self.outcome,
            wire,
        })
    }
}
