//! One tick as it was: what was seen, what was planned, and all that it takes to plan it again.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use mobula_api::{FieldError, PodView, RayCluster};
use mobula_gcs::wire;
use mobula_planner::{Memory, Plan, Policy, PolicyOptions};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::snapshot::{self, Built, Observation, SnapshotOptions, Surroundings};

/// One tick.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Number of the tick, from 0, since the recorder started. The recorder sets it, and leaves ticks out that saw and
    /// planned nothing new: a gap means that nothing changed.
    pub tick: u64,
    /// What was observed; `observation.now_ms` is the time of the tick.
    pub observation: Observation,
    /// The reply of the GCS as it came over the wire. Where `observation.state` is not just this reply decoded (a head in v1
    /// mode, whose demand comes from elsewhere): `mobula_gcs::wire::encode_cluster_state(&observation.state)`.
    pub wire: Bytes,
    /// How the observation was translated.
    pub options: SnapshotOptions,
    /// Name of the policy.
    pub policy: String,
    /// The options it was made with.
    pub policy_options: PolicyOptions,
    /// What the policy remembered before.
    pub memory: Memory,
    /// The plan, as the policy made it.
    pub plan: Plan,
    /// What the policy remembered afterwards.
    pub memory_after: Memory,
    /// What came of the plan, for people. Must not hold the time or other things that differ in every tick.
    pub outcome: String,
}

/// A frame, planned again.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// What the observation was translated into.
    pub built: Built,
    /// The plan.
    pub plan: Plan,
    /// What the policy remembers afterwards.
    pub memory: Memory,
}

impl Frame {
    /// Plans the tick again with `policy`, which remembers `memory`.
    ///
    /// # Errors
    /// Names the field of the RayCluster that can't be used: this version reads it in another way than the one that recorded.
    pub fn replay(&self, policy: &dyn Policy, memory: &Memory) -> Result<Replayed, FieldError> {
        let built = snapshot::build(&self.observation, &self.options)?;
        let (plan, memory) = policy.plan(&built.snapshot, memory);
        Ok(Replayed { built, plan, memory })
    }

    /// Whether this tick saw and planned what `earlier` did: only clocks and counters went on.
    pub(super) fn repeats(&self, earlier: &Frame) -> bool {
        self.policy == earlier.policy
            && self.policy_options == earlier.policy_options
            && self.outcome == earlier.outcome
            && self.options == earlier.options
            && self.memory == earlier.memory
            && self.memory_after == earlier.memory_after
            && same_decision(&self.plan, &earlier.plan)
            && self.observation.is_like(&earlier.observation)
    }
}

/// Equal but for texts (they may tell times) and counters.
fn same_decision(a: &Plan, b: &Plan) -> bool {
    a.groups == b.groups
        && a.resize == b.resize
        && a.launch.iter().map(|l| (&l.group, l.replicas)).eq(b.launch.iter().map(|l| (&l.group, l.replicas)))
        && a.terminate
            .iter()
            .map(|t| (&t.instance_id, t.cause))
            .eq(b.terminate.iter().map(|t| (&t.instance_id, t.cause)))
        && a.unmet.iter().map(|u| (&u.kind, u.count, u.cause)).eq(b.unmet.iter().map(|u| (&u.kind, u.count, u.cause)))
}

/// A frame as JSON, without the reply of the GCS. Field names are those of the format: never rename one.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredFrame {
    tick: u64,
    now_ms: i64,
    policy: String,
    /// Older recordings have none: the policies of their time had no options.
    #[serde(default)]
    policy_options: PolicyOptions,
    outcome: String,
    options: SnapshotOptions,
    memory: Memory,
    memory_after: Memory,
    plan: Plan,
    object_store_bytes: BTreeMap<String, u64>,
    gang_created_ms: BTreeMap<String, i64>,
    session_since_ms: Option<i64>,
    #[serde(default)]
    surroundings: Surroundings,
    pods: Option<Arc<[PodView]>>,
    cluster: Value,
}

impl StoredFrame {
    pub(super) fn of(frame: &Frame) -> Self {
        let Observation {
            now_ms,
            state: _,
            cluster,
            pods,
            object_store_bytes,
            gang_created_ms,
            session_since_ms,
            surroundings,
        } = &frame.observation;
        StoredFrame {
            tick: frame.tick,
            now_ms: *now_ms,
            policy: frame.policy.clone(),
            policy_options: frame.policy_options,
            outcome: frame.outcome.clone(),
            options: frame.options.clone(),
            memory: frame.memory.clone(),
            memory_after: frame.memory_after.clone(),
            plan: frame.plan.clone(),
            object_store_bytes: object_store_bytes.clone(),
            gang_created_ms: gang_created_ms.clone(),
            session_since_ms: *session_since_ms,
            surroundings: surroundings.clone(),
            pods: pods.clone(),
            cluster: cluster.to_value(),
        }
    }

    /// The frame again; the error is for people.
    pub(super) fn into_frame(self, wire: Bytes) -> Result<Frame, String> {
        let state = wire::decode_cluster_state(&wire).map_err(|error| format!("reply of the GCS: {error}"))?;
        let cluster = RayCluster::from_value(self.cluster).map_err(|error| format!("RayCluster: {error}"))?;
        let observation = Observation {
            now_ms: self.now_ms,
            state,
            cluster: cluster.into(),
            pods: self.pods,
            object_store_bytes: self.object_store_bytes,
            gang_created_ms: self.gang_created_ms,
            session_since_ms: self.session_since_ms,
            surroundings: self.surroundings,
        };
        Ok(Frame {
            tick: self.tick,
            observation,
            wire,
            options: self.options,
            policy: self.policy,
            policy_options: self.policy_options,
            memory: self.memory,
            plan: self.plan,
            memory_after: self.memory_after,
            outcome: self.outcome,
        })
    }
}

#[cfg(test)]
mod tests {
    use mobula_planner::Memory;

    use super::*;
    use crate::recorder::tests::tick;

    #[test]
    fn a_frame_from_before_there_were_policy_options_has_the_default_ones() {
        let wire = include_bytes!("../../../gcs/testdata/captures/idle_three_nodes.pb");
        let frame = tick(1, wire, &Memory::default());
        let mut stored = serde_json::to_value(StoredFrame::of(&frame)).unwrap();
        stored.as_object_mut().unwrap().remove("policy_options").unwrap();
        let read: StoredFrame = serde_json::from_value(stored).unwrap();
        let read = read.into_frame(frame.wire.clone()).unwrap();
        assert_eq!(read, Frame { policy_options: PolicyOptions::default(), ..frame });
    }
}
