//! The environment of the Ray container and of init containers.

use mobula_api::keys;
use serde_json::Value;

use super::{
    Children,
    draft::{ContainerDraft, PodDraft},
    group::Group,
};

/// Where the label is that holds the cluster's name, as the downward API spells it.
pub(super) const CLUSTER_FIELD: &str = "metadata.labels['ray.io/cluster']";
/// Where the label is that holds the group's name.
const GROUP_FIELD: &str = "metadata.labels['ray.io/group']";

impl Children<'_> {
    /// Adds what Ray and the programs in the container rely on. `ray_start`: the command that was generated.
    pub(super) fn set_env(&self, group: &Group<'_>, ray: &mut ContainerDraft, ray_start: &str) {
        for entry in &self.config.pods.default_env {
            let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
            if !ray.has_env(name) {
                ray.env.push(entry.clone());
            }
        }
        let host = self.head_host();
        if !group.is_head {
            push_head_address(ray, &host);
        }
        ray.push_field_env("RAY_CLUSTER_NAME", CLUSTER_FIELD);
        ray.push_field_env("RAY_CLUSTER_NAMESPACE", "metadata.namespace");
        ray.push_field_env("RAY_CLOUD_INSTANCE_ID", "metadata.name");
        ray.push_field_env("RAY_NODE_TYPE_NAME", GROUP_FIELD);
        ray.push_env("KUBERAY_GEN_RAY_START_CMD", ray_start);
        let port = self.gcs_port();
        ray.add_env("RAY_PORT", port);
        if self.origin() == Origin::Service {
            ray.add_env("RAY_timeout_ms_task_wait_for_death_info", "0");
            ray.add_env("RAY_gcs_server_request_timeout_seconds", "5");
            ray.add_env("RAY_SERVE_KV_TIMEOUT_S", "5");
        }
        let host = if group.is_head { "127.0.0.1" } else { host.as_str() };
        ray.add_env("RAY_ADDRESS", format!("{host}:{port}"));
        ray.add_env("RAY_USAGE_STATS_KUBERAY_IN_USE", "1");
        if group.is_head {
            let tags = format!("kuberay_version={};kuberay_crd={}", self.config.version(), self.origin().kind());
            ray.push_env("RAY_USAGE_STATS_EXTRA_TAGS", tags);
        }
        ray.add_env("RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE", "1");
    }

    /// Tells every init container where the head is.
    pub(super) fn set_init_env(&self, pod: &mut PodDraft) {
        let host = self.head_host();
        for container in &mut pod.init_containers {
            push_head_address(container, &host);
        }
    }

    /// Who made the RayCluster.
    pub(super) fn origin(&self) -> Origin {
        match self.cluster.metadata.labels.get(keys::ORIGINATED_FROM_CRD).map(String::as_str) {
            Some("RayJob") => Origin::Job,
            Some("RayService") => Origin::Service,
            _ => Origin::User,
        }
    }
}

/// Who made a RayCluster.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A user.
    User,
    /// A RayJob.
    Job,
    /// A RayService.
    Service,
}

impl Origin {
    /// The kind of object that stands for the whole.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Origin::User => "RayCluster",
            Origin::Job => "RayJob",
            Origin::Service => "RayService",
        }
    }
}

fn push_head_address(container: &mut ContainerDraft, host: &str) {
    container.push_env("FQ_RAY_IP", host);
    // The old way to say it: only the name of the Service.
    container.push_env("RAY_IP", host.split('.').next().unwrap_or_default());
}
