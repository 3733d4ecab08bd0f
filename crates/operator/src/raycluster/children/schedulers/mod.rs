//! Schedulers that place whole gangs: what they need on pods, and the objects that describe a gang to them.

mod kubernetes;
mod scheduler_plugins;
mod volcano;
mod yunikorn;

use std::collections::BTreeMap;

use mobula_api::FieldError;
use serde_json::Value;

use super::{
    Children,
    draft::PodDraft,
    group::Group,
    resources::{self, Amounts},
};
use crate::config::BatchScheduler;

/// Label of a RayCluster: its pods are to be placed together.
const GANG_ENABLED: &str = "ray.io/gang-scheduling-enabled";
/// Label of a RayCluster and its pods: queue of KAI.
const KAI_QUEUE: &str = "kai.scheduler/queue";

/// How many pods of each worker group belong to the gang; the head always does.
pub type GangMembers = BTreeMap<String, u32>;

impl Children<'_> {
    /// The gang that the spec asks for: with an autoscaler the least that there must be, else all of it. Groups in which the
    /// autoscaler's plan starts a gang belong to it as a whole: what is planned together is placed together. A group whose pods
    /// can't be counted gets none, which is said of it where they would be made.
    pub fn gang_members(&self) -> GangMembers {
        let mut members = GangMembers::new();
        for (index, group) in self.cluster.spec.worker_group_specs.iter().enumerate() {
            let mut group = group.clone();
            if self.is_autoscaled() && self.cluster.pods_in_planned_gangs(&group.group_name) == 0 {
                group.replicas = group.min_replicas;
            }
            if let Ok((replicas, hosts)) = self.replicas_and_hosts(index, &group) {
                members.insert(group.group_name, replicas * hosts);
            }
        }
        members
    }

    /// The objects that describe the gang to the scheduler, in the order in which they are to be made. None if there is
    /// nothing to describe.
    ///
    /// # Errors
    /// Names the field or label that can't be used.
    pub fn pod_groups(&self, members: &GangMembers) -> Result<Vec<Value>, FieldError> {
        match self.config.batch_scheduler {
            Some(BatchScheduler::Volcano) => Ok(volcano::pod_group(self, members)?.into_iter().collect()),
            Some(BatchScheduler::SchedulerPlugins) => {
                Ok(scheduler_plugins::pod_group(self, members)?.into_iter().collect())
            }
            Some(BatchScheduler::Kubernetes) => Ok(kubernetes::objects(self, members)),
            Some(BatchScheduler::YuniKorn | BatchScheduler::Kai) | None => Ok(Vec::new()),
        }
    }

    /// A label of the RayCluster that says something.
    fn label(&self, key: &str) -> Option<&str> {
        self.cluster.metadata.labels.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn wants_gang(&self) -> bool {
        self.cluster.metadata.labels.contains_key(GANG_ENABLED)
    }

    /// What the gang asks for.
    fn gang_resources(&self, members: &GangMembers) -> Result<Amounts, FieldError> {
        let head = Group::head(self.cluster);
        let mut total = resources::of_template(&head.template_path(), head.template)?;
        for group in &self.cluster.spec.worker_group_specs {
            let pods = members.get(&group.group_name).copied().unwrap_or_default();
            let path = Group::workers(self.cluster, group).template_path();
            let pod = resources::of_template(&path, &group.template)?;
            total = resources::sum(total, &resources::times(&pod, pods, &path)?, &path)?;
        }
        Ok(total)
    }
}

/// Pods of the gang, the head among them.
fn size(members: &GangMembers) -> u64 {
    1 + members.values().map(|pods| u64::from(*pods)).sum::<u64>()
}

/// Puts on a pod what the scheduler needs to know it by.
pub(super) fn mark(children: &Children<'_>, group: &Group<'_>, pod: &mut PodDraft) -> Result<(), FieldError> {
    match children.config.batch_scheduler {
        None => {}
        Some(BatchScheduler::Volcano) => volcano::mark(children, group, pod),
        Some(BatchScheduler::YuniKorn) => yunikorn::mark(children, group, pod)?,
        Some(BatchScheduler::Kai) => {
            pod.set_spec("schedulerName", "kai-scheduler");
            copy_label(children, KAI_QUEUE, KAI_QUEUE, pod);
        }
        Some(BatchScheduler::SchedulerPlugins) => scheduler_plugins::mark(children, pod),
        Some(BatchScheduler::Kubernetes) => kubernetes::mark(children, pod),
    }
    Ok(())
}

/// Copies a label of the RayCluster to a pod.
fn copy_label(children: &Children<'_>, from: &str, to: &str, pod: &mut PodDraft) {
    if let Some(value) = children.label(from) {
        pod.labels.insert(to.to_owned(), value.to_owned());
    }
}
