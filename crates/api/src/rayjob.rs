//! RayJob `ray.io/v1`: a job, and the cluster that it runs on.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use crate::{
    FieldError, ObjectMeta, RayClusterSpec, RayClusterStatus,
    object::{Field as _, object, read_object},
    raycluster::managed_by,
    schema::{Schema, int32, kube, list, one_of, time},
};

object! {
    /// A RayJob. Reading and writing it again gives the same JSON.
    pub struct RayJob {
        /// ray.io/v1.
        api_version: String = optional "apiVersion",
        /// RayJob.
        kind: String = optional "kind",
        /// Name, labels, annotations, versions.
        metadata: ObjectMeta = required "metadata",
        /// What is wanted.
        spec: RayJobSpec = required "spec",
        /// What the operator says there is.
        status: Option<RayJobStatus> = optional "status",
    }
}

object! {
    /// What a RayJob wants.
    pub struct RayJobSpec {
        /// Shell command that runs the job.
        entrypoint: Option<String> = optional "entrypoint",
        /// Runtime environment of the job, YAML.
        runtime_env_yaml: Option<String> = optional "runtimeEnvYAML",
        /// Submission id; default: one is made.
        job_id: Option<String> = optional "jobId",
        /// Metadata of the job in Ray.
        metadata: BTreeMap<String, String> = optional "metadata",
        /// CPUs of the entrypoint.
        entrypoint_num_cpus: Option<Number> = optional "entrypointNumCpus",
        /// GPUs of the entrypoint.
        entrypoint_num_gpus: Option<Number> = optional "entrypointNumGpus",
        /// Custom resources of the entrypoint, JSON.
        entrypoint_resources: Option<String> = optional "entrypointResources",
        /// The cluster that is made for the job.
        ray_cluster_spec: Option<RayClusterSpec> = optional "rayClusterSpec",
        /// An existing cluster instead: ray.io/cluster names it.
        cluster_selector: BTreeMap<String, String> = optional "clusterSelector",
        /// K8sJobMode, HTTPMode, InteractiveMode or SidecarMode.
        submission_mode: Option<String> = optional "submissionMode" as String::schema().default("K8sJobMode"),
        /// Pod template of the submitter. Container 0 submits.
        submitter_pod_template: Option<Value> = optional "submitterPodTemplate" as kube("core.v1.PodTemplateSpec"),
        /// Further settings of the submitter.
        submitter_config: Option<SubmitterConfig> = optional "submitterConfig",
        /// How often the job is tried again, each time on a new cluster.
        backoff_limit: Option<i64> = optional "backoffLimit" as int32().default(0),
        /// Longest time from the start of the job to its end, in seconds.
        active_deadline_seconds: Option<i64> = optional "activeDeadlineSeconds" as int32(),
        /// Longest time until the job runs, in seconds.
        pre_running_deadline_seconds: Option<i64> = optional "preRunningDeadlineSeconds" as int32().min(1),
        /// The cluster goes once the job has ended.
        shutdown_after_job_finishes: bool = optional "shutdownAfterJobFinishes",
        /// How long after the end it goes, in seconds.
        ttl_seconds_after_finished: Option<i64> = optional "ttlSecondsAfterFinished" as int32().default(0),
        /// What goes when, instead of shutdownAfterJobFinishes.
        deletion_strategy: Option<DeletionStrategy> = optional "deletionStrategy" as deletion_strategy(),
        /// The cluster is deleted and the job waits.
        suspend: bool = optional "suspend",
        /// Who reconciles it; anything but ray.io/kuberay-operator means: not KubeRay.
        managed_by: Option<String> = optional "managedBy" as managed_by(),
    }
}

object! {
    /// Settings of the submitter.
    pub struct SubmitterConfig {
        /// How often a failed submitter is started again; default 2.
        backoff_limit: Option<i64> = optional "backoffLimit" as int32(),
    }
}

object! {
    /// What is deleted after a job has ended: rules, or the two older fields.
    pub struct DeletionStrategy {
        /// Deprecated: what goes after success.
        on_success: Option<DeletionPolicy> = optional "onSuccess",
        /// Deprecated: what goes after failure.
        on_failure: Option<DeletionPolicy> = optional "onFailure",
        /// What goes when.
        deletion_rules: Vec<DeletionRule> = optional "deletionRules"
            as list(DeletionRule::schema()).min_items(1).atomic(),
    }
}

object! {
    /// What goes.
    pub struct DeletionPolicy {
        /// What goes.
        policy: Option<String> = optional "policy" as deletion_policy(),
    }
}

object! {
    /// What goes, and when.
    pub struct DeletionRule {
        /// What goes.
        policy: String = required "policy" as deletion_policy(),
        /// When.
        condition: DeletionCondition = required "condition" as deletion_condition(),
    }
}

object! {
    /// When a rule holds: one of the two states, and for how long.
    pub struct DeletionCondition {
        /// State of the job.
        job_status: Option<String> = optional "jobStatus" as one_of(&["SUCCEEDED", "FAILED"]),
        /// State of the RayJob.
        job_deployment_status: Option<String> = optional "jobDeploymentStatus" as one_of(&["Failed"]),
        /// How long after that, in seconds.
        ttl_seconds: Option<i64> = optional "ttlSeconds" as int32().min(0).default(0),
    }
}

fn deletion_policy() -> Schema {
    one_of(&["DeleteCluster", "DeleteWorkers", "DeleteSelf", "DeleteNone"])
}

fn deletion_strategy() -> Schema {
    DeletionStrategy::schema()
        .rule(
            "!((has(self.onSuccess) || has(self.onFailure)) && has(self.deletionRules))",
            "legacy policies (onSuccess/onFailure) and deletionRules cannot be used together within the same \
             deletionStrategy",
        )
        .rule(
            "((has(self.onSuccess) && has(self.onFailure)) || has(self.deletionRules))",
            "deletionStrategy requires either BOTH onSuccess and onFailure, OR the deletionRules field (cannot be empty)",
        )
}

fn deletion_condition() -> Schema {
    DeletionCondition::schema()
        .rule(
            "!(has(self.jobStatus) && has(self.jobDeploymentStatus))",
            "JobStatus and JobDeploymentStatus cannot be used together within the same deletion condition.",
        )
        .rule(
            "has(self.jobStatus) || has(self.jobDeploymentStatus)",
            "the deletion condition requires either the JobStatus or the JobDeploymentStatus field.",
        )
}

object! {
    /// Status of a RayJob.
    pub struct RayJobStatus {
        /// Where the RayJob is on its way.
        job_deployment_status: Option<String> = optional "jobDeploymentStatus",
        /// What Ray says of the job.
        job_status: Option<String> = optional "jobStatus",
        /// Why it failed, in one word.
        reason: Option<String> = optional "reason",
        /// Why it failed, for people.
        message: Option<String> = optional "message",
        /// Submission id.
        job_id: Option<String> = optional "jobId",
        /// The cluster it runs on.
        ray_cluster_name: Option<String> = optional "rayClusterName",
        /// Where its dashboard is.
        dashboard_url: Option<String> = optional "dashboardURL",
        /// When it was first seen.
        start_time: Option<String> = optional "startTime" as time(),
        /// When it ended.
        end_time: Option<String> = optional "endTime" as time(),
        /// The times of the job itself.
        ray_job_info: Option<RayJobInfo> = optional "rayJobInfo",
        /// Attempts that succeeded.
        succeeded: Option<i64> = optional "succeeded" as int32().default(0),
        /// Attempts that failed.
        failed: Option<i64> = optional "failed" as int32().default(0),
        /// Status of the cluster.
        ray_cluster_status: Option<RayClusterStatus> = optional "rayClusterStatus",
        /// Since when the job can't be asked for.
        job_status_check_failure_start_time: Option<String> = optional "jobStatusCheckFailureStartTime" as time(),
        /// Generation of the spec that this is about.
        observed_generation: i64 = optional "observedGeneration",
    }
}

object! {
    /// The times of a job in Ray.
    pub struct RayJobInfo {
        /// When the job started.
        start_time: Option<String> = optional "startTime" as time(),
        /// When the job ended.
        end_time: Option<String> = optional "endTime" as time(),
    }
}

impl RayJob {
    /// Reads a RayJob.
    ///
    /// # Errors
    /// Names the first field that is missing or of the wrong type.
    pub fn from_value(value: &Value) -> Result<RayJob, FieldError> {
        read_object(value, "RayJob")
    }

    /// The JSON it was read from, with the changes made since.
    pub fn to_value(&self) -> Value {
        self.write()
    }
}
