//! A group of the spec, head and workers alike.

use std::collections::BTreeMap;

use mobula_api::{FieldError, Gate, RayCluster, WorkerGroupSpec, keys};
use serde_json::Value;

use super::{Children, draft::PodDraft};

/// A group of the spec, head and workers alike.
#[derive(Clone, Debug)]
pub(super) struct Group<'a> {
    pub(super) is_head: bool,
    pub(super) name: &'a str,
    /// Where it is in the spec, for complaints.
    pub(super) path: String,
    pub(super) template: &'a Value,
    pub(super) params: &'a BTreeMap<String, String>,
    pub(super) resources: &'a BTreeMap<String, String>,
    pub(super) labels: &'a BTreeMap<String, String>,
}

impl<'a> Group<'a> {
    /// The head.
    pub(super) fn head(cluster: &'a RayCluster) -> Self {
        let head = &cluster.spec.head_group_spec;
        Group {
            is_head: true,
            name: keys::HEAD_GROUP,
            path: "spec.headGroupSpec".to_owned(),
            template: &head.template,
            params: &head.ray_start_params,
            resources: &head.resources,
            labels: &head.labels,
        }
    }

    /// A worker group.
    pub(super) fn workers(cluster: &RayCluster, group: &'a WorkerGroupSpec) -> Self {
        let index = cluster.spec.worker_group_specs.iter().position(|other| other.group_name == group.group_name);
        Group {
            is_head: false,
            name: &group.group_name,
            path: format!("spec.workerGroupSpecs[{}]", index.unwrap_or_default()),
            template: &group.template,
            params: &group.ray_start_params,
            resources: &group.resources,
            labels: &group.labels,
        }
    }

    /// Where its pod template is.
    pub(super) fn template_path(&self) -> String {
        format!("{}.template", self.path)
    }

    /// A copy of its pod template.
    pub(super) fn draft(&self) -> Result<PodDraft, FieldError> {
        PodDraft::from_template(&self.template_path(), self.template)
    }

    /// Where its Ray container is.
    pub(super) fn ray_path(&self) -> String {
        format!("{}.template.spec.containers[0]", self.path)
    }
}

impl Children<'_> {
    /// How many replicas the worker group (the one at `index`) is to have, within its bounds, and hosts in each.
    ///
    /// # Errors
    /// Names a count that is none, or too many pods.
    pub fn replicas_and_hosts(&self, index: usize, group: &WorkerGroupSpec) -> Result<(u32, u32), FieldError> {
        group.replicas_and_hosts(&format!("spec.workerGroupSpecs[{index}]"))
    }

    /// How many of the `hosts` of a replica come and go together: without the feature gate pods do not say which replica they
    /// belong to. Then each counts for itself, as KubeRay has it.
    pub fn hosts_of_a_unit(&self, hosts: u32) -> u32 {
        if self.config.gates.has(Gate::RayMultiHostIndexing) { hosts } else { 1 }
    }
}
