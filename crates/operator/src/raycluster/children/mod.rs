//! The objects that belong to a RayCluster, as request bodies. Pure functions: one concern, one file.

mod auth;
mod autoscaler;
mod collector;
mod command;
mod draft;
mod env;
mod fault_tolerance;
mod group;
mod ingress;
mod network_policy;
mod pods;
mod probes;
mod rbac;
mod redis_cleanup;
mod resources;
mod schedulers;
mod services;
mod spec_hash;
mod volumes;
mod wait;

use mobula_api::{FieldError, RayCluster, WorkerGroupSpec};
use serde_json::{Value, json};

use crate::{config::Config, names};

pub(super) use resources::is_gpu;
pub use schedulers::GangMembers;

/// A RayCluster and what its children are made with.
#[derive(Clone, Copy, Debug)]
pub struct Children<'a> {
    /// The RayCluster as the API server has it.
    pub cluster: &'a RayCluster,
    /// What the operator is told.
    pub config: &'a Config,
}

/// Which pod of its group a worker is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// Number of the replica in the group.
    pub replica: u32,
    /// Name of the replica, where replicas have several hosts: see [`names::replica_name`].
    pub replica_name: Option<String>,
    /// Number of the host in the replica.
    pub host: u32,
}

impl Children<'_> {
    /// All children but pods and gangs, in the order in which KubeRay makes them. `token`: 32 random bytes.
    ///
    /// # Errors
    /// Names the field of the spec that can't be used.
    pub fn fixed(&self, token: &[u8; 32]) -> Result<Vec<Value>, FieldError> {
        let children = [
            self.service_account()?,
            self.role()?,
            self.role_binding()?,
            self.ingress()?,
            self.auth_secret(token),
            self.head_service()?,
            self.headless_service()?,
            self.serve_service()?,
            self.gcs_pvc(),
        ];
        Ok(children.into_iter().flatten().chain(self.network_policies()).collect())
    }

    /// What names of head pods start with.
    pub fn head_pod_prefix(&self) -> String {
        names::head_pod_prefix(&self.cluster.metadata.name)
    }

    /// What names of worker pods of the group start with.
    pub fn worker_pod_prefix(&self, group: &WorkerGroupSpec) -> String {
        names::worker_pod_prefix(&self.cluster.metadata.name, &group.group_name)
    }

    /// Namespace of the cluster and of all that belongs to it.
    pub(crate) fn namespace(&self) -> &str {
        let namespace = self.cluster.metadata.namespace.as_str();
        if namespace.is_empty() { "default" } else { namespace }
    }

    /// Where the head is found: the full name of its Service.
    pub(super) fn head_host(&self) -> String {
        format!("{}.{}.svc.{}", self.cluster.head_service_name(), self.namespace(), self.config.cluster_domain)
    }

    /// Port of the GCS, as the head's arguments have it.
    pub(super) fn gcs_port(&self) -> &str {
        let port = self.cluster.spec.head_group_spec.ray_start_params.get("port");
        port.map_or("6379", String::as_str)
    }

    /// Where workers find the GCS.
    pub(super) fn gcs_address(&self) -> String {
        format!("{}:{}", self.head_host(), self.gcs_port())
    }

    /// Metadata of a child: the cluster owns it.
    pub(super) fn metadata(&self, name: &str, labels: Value) -> Value {
        let owner = json!({
            "apiVersion": "ray.io/v1",
            "kind": "RayCluster",
            "name": self.cluster.metadata.name,
            "uid": self.cluster.metadata.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        });
        let mut metadata = json!({ "name": name, "namespace": self.namespace(), "ownerReferences": [owner] });
        if let Some(metadata) = metadata.as_object_mut() {
            draft::insert_unless_empty(metadata, "labels", labels);
        }
        metadata
    }
}
