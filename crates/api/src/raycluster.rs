//! RayCluster `ray.io/v1`: every field of the spec, and whatever else was written.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{
    FieldError,
    object::{Field as _, object, read_object},
    options::{
        AuthOptions, AutoscalerOptions, GcsFaultToleranceOptions, HistoryServerOptions, IdleTerminationOptions,
        IngressOptions, NetworkPolicy, TlsOptions, UpgradeStrategy,
    },
    schema::{Schema, int32, kube},
};

object! {
    /// A RayCluster. Reading and writing it again gives the same JSON.
    pub struct RayCluster {
        /// `ray.io/v1`.
        api_version: String = optional "apiVersion",
        /// `RayCluster`.
        kind: String = optional "kind",
        /// Name, labels, annotations, versions.
        metadata: ObjectMeta = required "metadata",
        /// What is wanted.
        spec: RayClusterSpec = required "spec",
        /// What the operator says there is.
        status: Value = optional "status",
    }
}

object! {
    /// Kubernetes object metadata, as far as it is used.
    pub struct ObjectMeta {
        /// Name.
        name: String = required "name",
        /// Namespace; empty if the manifest leaves it to the context.
        namespace: String = optional "namespace",
        /// Unique id; empty before the API server has seen the object.
        uid: String = optional "uid",
        /// Opaque version; changes with every write.
        resource_version: String = optional "resourceVersion",
        /// Counter of changes to the spec.
        generation: i64 = optional "generation",
        /// Set once deletion has been asked for, RFC 3339.
        deletion_timestamp: Option<String> = optional "deletionTimestamp",
        /// Finalizers.
        finalizers: Vec<String> = optional "finalizers",
        /// Labels.
        labels: BTreeMap<String, String> = optional "labels",
        /// Annotations.
        annotations: BTreeMap<String, String> = optional "annotations",
    }
}

object! {
    /// `spec` of a RayCluster.
    pub struct RayClusterSpec {
        /// The head.
        head_group_spec: HeadGroupSpec = required "headGroupSpec",
        /// The worker groups, in order: patches address them by index.
        worker_group_specs: Vec<WorkerGroupSpec> = optional "workerGroupSpecs",
        /// Version of Ray in the images.
        ray_version: Option<String> = optional "rayVersion",
        /// Whether replicas are decided by an autoscaler.
        enable_in_tree_autoscaling: Option<bool> = optional "enableInTreeAutoscaling",
        /// The autoscaler's container and behaviour.
        autoscaler_options: Option<AutoscalerOptions> = optional "autoscalerOptions",
        /// All pods are deleted and none is made.
        suspend: Option<bool> = optional "suspend",
        /// Set by the autoscaler when the cluster was idle for long enough.
        idle_suspend: Option<bool> = optional "idleSuspend",
        /// What happens to an idle cluster.
        idle_termination_options: Option<IdleTerminationOptions> = optional "idleTerminationOptions",
        /// Who reconciles it; anything but `ray.io/kuberay-operator` means: not KubeRay.
        managed_by: Option<String> = optional "managedBy" as managed_by(),
        /// Annotations of the head Service.
        head_service_annotations: BTreeMap<String, String> = optional "headServiceAnnotations",
        /// Where the GCS keeps its state.
        gcs_fault_tolerance_options: Option<GcsFaultToleranceOptions> = optional "gcsFaultToleranceOptions",
        /// Token authentication.
        auth_options: Option<AuthOptions> = optional "authOptions",
        /// What happens to pods when the spec changes.
        upgrade_strategy: Option<UpgradeStrategy> = optional "upgradeStrategy",
        /// Network policies around the pods.
        network_policy: Option<NetworkPolicy> = optional "networkPolicy",
        /// Mutual TLS between the pods.
        tls_options: Option<TlsOptions> = optional "tlsOptions",
        /// Collector side-car of the history server.
        history_server_options: Option<HistoryServerOptions> = optional "historyServerOptions",
    }
}

object! {
    /// `spec.headGroupSpec`.
    pub struct HeadGroupSpec {
        /// Pod template, as written. Container 0 runs Ray.
        template: Value = required "template" as kube("core.v1.PodTemplateSpec"),
        /// Arguments of `ray start`.
        ray_start_params: BTreeMap<String, String> = optional "rayStartParams",
        /// Type of the head Service.
        service_type: Option<String> = optional "serviceType",
        /// A head Service shaped by the user, as written.
        head_service: Option<Value> = optional "headService" as kube("core.v1.Service"),
        /// Ingress or Route for the dashboard.
        enable_ingress: Option<bool> = optional "enableIngress",
        /// Its shape.
        ingress_options: Option<IngressOptions> = optional "ingressOptions",
        /// Ray resources (name → quantity), instead of what `ray start` would find.
        resources: BTreeMap<String, String> = optional "resources",
        /// Ray node labels.
        labels: BTreeMap<String, String> = optional "labels",
    }
}

object! {
    /// One of `spec.workerGroupSpecs`.
    pub struct WorkerGroupSpec {
        /// Unique name.
        group_name: String = required "groupName",
        /// Pod template, as written. Container 0 runs Ray.
        template: Value = required "template" as kube("core.v1.PodTemplateSpec"),
        /// Wanted replicas; written by the autoscaler.
        replicas: Option<i64> = optional "replicas" as int32().default(0),
        /// Fewest replicas; the API server fills in 0.
        min_replicas: Option<i64> = optional "minReplicas" as int32().default(0).required(),
        /// Most replicas; the API server fills in 2147483647.
        max_replicas: Option<i64> = optional "maxReplicas" as int32().default(i32::MAX).required(),
        /// Pods in a replica, default 1.
        num_of_hosts: Option<i64> = optional "numOfHosts" as int32().default(1),
        /// Arguments of `ray start`.
        ray_start_params: BTreeMap<String, String> = optional "rayStartParams",
        /// Which pods shall go; written by the autoscaler.
        scale_strategy: Option<ScaleStrategy> = optional "scaleStrategy",
        /// Idle time after which a worker goes, in seconds; else the cluster's.
        idle_timeout_seconds: Option<i64> = optional "idleTimeoutSeconds" as int32(),
        /// Higher is preferred; default 0, which is not filled in: clusters that never heard of it stay as they are.
        priority: Option<i64> = optional "priority" as int32(),
        /// Ray resources (name → quantity), instead of what `ray start` would find.
        resources: BTreeMap<String, String> = optional "resources",
        /// Ray node labels.
        labels: BTreeMap<String, String> = optional "labels",
        /// The group has no pods for now.
        suspend: Option<bool> = optional "suspend",
    }
}

object! {
    /// `scaleStrategy` of a worker group.
    pub struct ScaleStrategy {
        /// Names of pods to delete.
        workers_to_delete: Vec<String> = optional "workersToDelete",
    }
}

/// Who reconciles an object, which can't change.
pub(crate) fn managed_by() -> Schema {
    let known = "self in ['ray.io/kuberay-operator', 'kueue.x-k8s.io/multikueue']";
    let message = "the managedBy field value must be either 'ray.io/kuberay-operator' or 'kueue.x-k8s.io/multikueue'";
    Schema::of_type("string").rule("self == oldSelf", "the managedBy field is immutable").rule(known, message)
}

/// GCS port where the head says nothing.
pub const DEFAULT_GCS_PORT: u16 = 6379;

impl RayCluster {
    /// Reads a RayCluster.
    ///
    /// # Errors
    /// Names the first field that is missing or of the wrong type. What the fields *mean* is checked by
    /// [`RayCluster::group_shapes`] and [`RayCluster::settings`].
    // By value: this is the shape that every caller has in hand, and an owned value leaves room to move instead of copy.
    #[allow(clippy::needless_pass_by_value)]
    pub fn from_value(value: Value) -> Result<RayCluster, FieldError> {
        RayCluster::read_value(&value)
    }

    /// As [`from_value`](RayCluster::from_value), and leaves the document to the caller.
    ///
    /// # Errors
    /// Names the first field that can't be used.
    pub fn read_value(value: &Value) -> Result<RayCluster, FieldError> {
        read_object(value, "RayCluster")
    }

    /// The JSON it was read from, with the changes made since.
    pub fn to_value(&self) -> Value {
        self.write()
    }

    /// Port of the GCS: `port` of the head's `rayStartParams`, or 6379 if that is absent or no port.
    pub fn gcs_port(&self) -> u16 {
        let port = self.spec.head_group_spec.ray_start_params.get("port");
        port.and_then(|text| text.trim().parse().ok()).filter(|port| *port != 0).unwrap_or(DEFAULT_GCS_PORT)
    }

    /// Name of the head Service: the user's own, or `<cluster>-head-svc`.
    pub fn head_service_name(&self) -> String {
        let own = self.spec.head_group_spec.head_service.as_ref().and_then(|s| s.pointer("/metadata/name")?.as_str());
        match own {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => format!("{}-head-svc", self.metadata.name),
        }
    }

    /// `host:port` of the GCS from inside the same Kubernetes cluster: `<head service>.<namespace>.svc:<port>`.
    pub fn gcs_endpoint(&self) -> String {
        let namespace = if self.metadata.namespace.is_empty() { "default" } else { self.metadata.namespace.as_str() };
        format!("{}.{namespace}.svc:{}", self.head_service_name(), self.gcs_port())
    }
}

impl Serialize for RayCluster {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RayCluster {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RayCluster::from_value(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
