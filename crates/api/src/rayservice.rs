//! RayService `ray.io/v1`: Serve applications, and the clusters that they run on.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    Condition, FieldError, ObjectMeta, RayClusterSpec, RayClusterStatus,
    object::{Field as _, object, read_object},
    raycluster::managed_by,
    schema::{int32, kube, list, time},
};

object! {
    /// A RayService. Reading and writing it again gives the same JSON.
    pub struct RayService {
        /// ray.io/v1.
        api_version: String = optional "apiVersion",
        /// RayService.
        kind: String = optional "kind",
        /// Name, labels, annotations, versions.
        metadata: ObjectMeta = required "metadata",
        /// What is wanted.
        spec: RayServiceSpec = required "spec",
        /// What the operator says there is.
        status: Option<RayServiceStatus> = optional "status",
    }
}

object! {
    /// What a RayService wants.
    pub struct RayServiceSpec {
        /// The cluster that the applications run on.
        ray_cluster_config: RayClusterSpec = required "rayClusterConfig",
        /// Configuration of Serve, YAML.
        serve_config_v2: Option<String> = optional "serveConfigV2",
        /// A Service for Serve shaped by the user.
        serve_service: Option<Value> = optional "serveService" as kube("core.v1.Service"),
        /// How a changed cluster takes over.
        upgrade_strategy: Option<RayServiceUpgradeStrategy> = optional "upgradeStrategy",
        /// The head serves no requests.
        exclude_head_pod_from_serve_svc: bool = optional "excludeHeadPodFromServeSvc",
        /// How long a cluster that was taken over from stays, in seconds; default 60.
        ray_cluster_deletion_delay_seconds: Option<i64> = optional "rayClusterDeletionDelaySeconds" as int32().min(0),
        /// Everything is deleted and the service waits.
        suspend: Option<bool> = optional "suspend",
        /// Who reconciles it; anything but ray.io/kuberay-operator means: not KubeRay.
        managed_by: Option<String> = optional "managedBy" as managed_by(),
        /// Has no effect.
        service_unhealthy_second_threshold: Option<i64> = optional "serviceUnhealthySecondThreshold" as int32(),
        /// Has no effect.
        deployment_unhealthy_second_threshold: Option<i64> = optional "deploymentUnhealthySecondThreshold" as int32(),
    }
}

object! {
    /// How a changed cluster takes over.
    pub struct RayServiceUpgradeStrategy {
        /// NewCluster, None or NewClusterWithIncrementalUpgrade.
        strategy: Option<String> = optional "type",
        /// Pace of an incremental upgrade.
        cluster_upgrade_options: Option<ClusterUpgradeOptions> = optional "clusterUpgradeOptions",
    }
}

object! {
    /// Pace of an incremental upgrade.
    pub struct ClusterUpgradeOptions {
        /// Capacity above the wanted one, in percent.
        max_surge_percent: Option<i64> = optional "maxSurgePercent" as int32().default(100),
        /// Share of the traffic that moves in one step, in percent.
        step_size_percent: i64 = required "stepSizePercent" as int32(),
        /// Time between steps, in seconds.
        interval_seconds: i64 = required "intervalSeconds" as int32(),
        /// Class of the Gateway.
        gateway_class_name: String = required "gatewayClassName",
    }
}

object! {
    /// Status of a RayService.
    pub struct RayServiceStatus {
        /// Conditions by type.
        conditions: Vec<Condition> = optional "conditions" as list(Condition::schema()).keyed_by("type"),
        /// Running, or nothing; the conditions say more.
        service_status: Option<String> = optional "serviceStatus",
        /// Endpoints that serve.
        num_serve_endpoints: i64 = optional "numServeEndpoints" as int32(),
        /// The cluster that serves.
        active_service_status: Option<ServedCluster> = optional "activeServiceStatus",
        /// The cluster that is about to.
        pending_service_status: Option<ServedCluster> = optional "pendingServiceStatus",
        /// When the status was written.
        last_update_time: Option<String> = optional "lastUpdateTime" as time(),
        /// Generation of the spec that this is about.
        observed_generation: i64 = optional "observedGeneration",
    }
}

object! {
    /// One cluster of a RayService.
    pub struct ServedCluster {
        /// Its name.
        ray_cluster_name: Option<String> = optional "rayClusterName",
        /// Its status.
        ray_cluster_status: Option<RayClusterStatus> = optional "rayClusterStatus",
        /// Its Serve applications by name.
        application_statuses: BTreeMap<String, ApplicationStatus> = optional "applicationStatuses",
        /// Capacity it shall have, in percent.
        target_capacity: Option<i64> = optional "targetCapacity" as int32(),
        /// Traffic it gets, in percent.
        traffic_routed_percent: Option<i64> = optional "trafficRoutedPercent" as int32(),
        /// When traffic last moved.
        last_traffic_migrated_time: Option<String> = optional "lastTrafficMigratedTime" as time(),
    }
}

object! {
    /// What Serve says of an application.
    pub struct ApplicationStatus {
        /// Its state.
        status: Option<String> = optional "status",
        /// Why.
        message: Option<String> = optional "message",
        /// Its deployments by name.
        serve_deployment_statuses: BTreeMap<String, DeploymentStatus> = optional "serveDeploymentStatuses",
    }
}

object! {
    /// What Serve says of a deployment.
    pub struct DeploymentStatus {
        /// Its state.
        status: Option<String> = optional "status",
        /// Why.
        message: Option<String> = optional "message",
    }
}

impl RayService {
    /// Reads a RayService.
    ///
    /// # Errors
    /// Names the first field that is missing or of the wrong type.
    pub fn from_value(value: &Value) -> Result<RayService, FieldError> {
        read_object(value, "RayService")
    }

    /// The JSON it was read from, with the changes made since.
    pub fn to_value(&self) -> Value {
        self.write()
    }
}
