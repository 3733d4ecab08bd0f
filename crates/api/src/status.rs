//! What an operator says of a RayCluster.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    FieldError,
    at::At,
    object::{Field as _, object},
    schema::{Schema, int32, int64, list, map, one_of, quantity, time},
};

object! {
    /// Status of a RayCluster.
    pub struct RayClusterStatus {
        /// ready, suspended or nothing; the conditions say more.
        state: Option<String> = optional "state",
        /// Why the state is what it is.
        reason: Option<String> = optional "reason",
        /// Conditions by type.
        conditions: Vec<Condition> = optional "conditions" as list(Condition::schema()).keyed_by("type"),
        /// Worker pods that are wanted.
        desired_worker_replicas: i64 = optional "desiredWorkerReplicas" as int32(),
        /// Fewest worker pods.
        min_worker_replicas: i64 = optional "minWorkerReplicas" as int32(),
        /// Most worker pods.
        max_worker_replicas: i64 = optional "maxWorkerReplicas" as int32(),
        /// Worker pods that are running and ready.
        ready_worker_replicas: i64 = optional "readyWorkerReplicas" as int32(),
        /// Worker pods that are running.
        available_worker_replicas: i64 = optional "availableWorkerReplicas" as int32(),
        /// CPU of all pods that are wanted.
        desired_cpu: Option<Value> = optional "desiredCPU" as quantity(),
        /// Memory of all pods that are wanted.
        desired_memory: Option<Value> = optional "desiredMemory" as quantity(),
        /// GPUs of all pods that are wanted.
        desired_gpu: Option<Value> = optional "desiredGPU" as quantity(),
        /// TPU chips of all pods that are wanted.
        desired_tpu: Option<Value> = optional "desiredTPU" as quantity(),
        /// What each worker group has. Not of KubeRay.
        worker_groups: Vec<WorkerGroupStatus> = optional "workerGroups"
            as list(WorkerGroupStatus::schema()).keyed_by("groupName"),
        /// Where the head is.
        head: Option<HeadInfo> = optional "head",
        /// Ports of the head Service by name: the node port, else the target port.
        endpoints: BTreeMap<String, String> = optional "endpoints",
        /// When the status was written.
        last_update_time: Option<String> = optional "lastUpdateTime" as time().nullable(),
        /// When each state was reached.
        state_transition_times: BTreeMap<String, String> = optional "stateTransitionTimes" as map(time()),
        /// Generation of the spec that this is about.
        observed_generation: i64 = optional "observedGeneration",
    }
}

object! {
    /// What a worker group has, and why what it lacks is not there.
    pub struct WorkerGroupStatus {
        /// The group.
        group_name: String = required "groupName",
        /// Pods that are ready.
        ready: i64 = optional "ready" as int32(),
        /// Pods that are not, by where they are on their way: Gated, Scheduling, Unschedulable, Pulling and so on; Refused,
        /// Invalid and so on, where they can't be made.
        pending: BTreeMap<String, i64> = optional "pending" as map(int32()),
        /// What is said of one of those, by Kubernetes or by the operator.
        message: Option<String> = optional "message",
    }
}

object! {
    /// Where the head is.
    pub struct HeadInfo {
        /// Address of the head pod.
        pod_ip: Option<String> = optional "podIP",
        /// Name of the head pod.
        pod_name: Option<String> = optional "podName",
        /// Address of the head Service.
        service_ip: Option<String> = optional "serviceIP",
        /// Name of the head Service.
        service_name: Option<String> = optional "serviceName",
    }
}

object! {
    /// One aspect of an object, as Kubernetes tells them everywhere.
    pub struct Condition {
        /// What it is about.
        kind: String = required "type" as Schema::of_type("string").max_chars(316).pattern(CONDITION_TYPE),
        /// True, False or Unknown.
        status: String = required "status" as one_of(&["True", "False", "Unknown"]),
        /// Generation of the spec that this is about.
        observed_generation: i64 = optional "observedGeneration" as int64().min(0),
        /// When the status last changed.
        last_transition_time: String = required "lastTransitionTime" as time(),
        /// Why, in one word.
        reason: String = required "reason"
            as Schema::of_type("string").min_chars(1).max_chars(1024).pattern("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"),
        /// Why, for people.
        message: String = required "message" as Schema::of_type("string").max_chars(32768),
    }
}

/// A label key: what Kubernetes allows as the type of a condition.
const CONDITION_TYPE: &str =
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";

impl RayClusterStatus {
    /// Reads the status of a RayCluster; `null` is an empty one.
    ///
    /// # Errors
    /// Names the first field of the wrong type.
    pub fn from_value(status: &Value) -> Result<RayClusterStatus, FieldError> {
        if status.is_null() {
            Ok(RayClusterStatus::default())
        } else {
            RayClusterStatus::read(&At::new("status", status))
        }
    }

    /// The JSON it was read from, with the changes made since.
    pub fn to_value(&self) -> Value {
        self.write()
    }
}
