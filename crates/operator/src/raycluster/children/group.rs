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

/// Most pods of a group: more than a Kubernetes cluster can hold is a slip of the pen.
const MOST_PODS: u64 = 150_000;

impl Children<'_> {
    /// How many replicas the worker group (the one at `index`) is to have, within its bounds, and hosts in each.
    ///
    /// # Errors
    /// Names a count that is none, or too many pods.
    pub fn replicas_and_hosts(&self, index: usize, group: &WorkerGroupSpec) -> Result<(u32, u32), FieldError> {
        let count = |name: &str, value: i64| {
            let field = format!("spec.workerGroupSpecs[{index}].{name}");
            let valid = i32::try_from(value).ok().and_then(|value| u32::try_from(value).ok());
            valid.ok_or_else(|| FieldError::new(field, value.to_string(), format!("must be from 0 to {}", i32::MAX)))
        };
        let hosts = count("numOfHosts", group.num_of_hosts.unwrap_or(1))?.max(1);
        if u64::from(hosts) > MOST_PODS {
            let field = format!("spec.workerGroupSpecs[{index}].numOfHosts");
            let problem = format!("asks for more than {MOST_PODS} pods to a replica: lower it");
            return Err(FieldError::new(field, hosts.to_string(), problem));
        }
        if group.suspend == Some(true) {
            return Ok((0, hosts));
        }
        let min = count("minReplicas", group.min_replicas.unwrap_or(0))?;
        let max = count("maxReplicas", group.max_replicas.unwrap_or(i32::MAX.into()))?;
        let replicas = count("replicas", group.replicas.unwrap_or(0))?.min(max).max(min);
        if u64::from(replicas) * u64::from(hosts) > MOST_PODS {
            let field = format!("spec.workerGroupSpecs[{index}].replicas");
            let problem = format!("asks for more than {MOST_PODS} pods ({hosts} to a replica): lower it");
            return Err(FieldError::new(field, replicas.to_string(), problem));
        }
        Ok((replicas, hosts))
    }

    /// How many of the `hosts` of a replica come and go together: without the feature gate pods do not say which replica they
    /// belong to. Then each counts for itself, as KubeRay has it.
    pub fn hosts_of_a_unit(&self, hosts: u32) -> u32 {
        if self.config.gates.has(Gate::RayMultiHostIndexing) { hosts } else { 1 }
    }
}
