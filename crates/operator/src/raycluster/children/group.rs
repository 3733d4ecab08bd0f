//! A group of the spec, head and workers alike.

use std::collections::BTreeMap;

use mobula_api::{RayCluster, WorkerGroupSpec, keys};
use serde_json::Value;

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

    /// Where its Ray container is.
    pub(super) fn ray_path(&self) -> String {
        format!("{}.template.spec.containers[0]", self.path)
    }
}
