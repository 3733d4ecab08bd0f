//! Rules of single groups.

use std::collections::BTreeMap;

use super::{ENV_AUTOSCALER_V2, Member, Rules, is_autoscaled, is_autoscaler_v2};
use crate::{FieldError, Gate, RayCluster, RayVersion, WorkerGroupSpec, at::member, labels::bad_labels};

/// Arguments of `ray start` that `resources` of a group replace.
const RESOURCE_PARAMS: [&str; 4] = ["num-cpus", "num-gpus", "memory", "resources"];

/// The first Ray that knows priorities of groups.
const PRIORITY_SINCE: RayVersion = RayVersion::new(2, 56, 0);

pub(super) fn refused(cluster: &RayCluster, rules: &Rules) -> Vec<FieldError> {
    let head = &cluster.spec.head_group_spec;
    let mut errors = of_any_group(&Member::head(cluster), &head.ray_start_params, &head.resources, &head.labels);
    let groups = &cluster.spec.worker_group_specs;
    for (i, (member, group)) in Member::workers(cluster).zip(groups).enumerate() {
        errors.extend(name(&member.path, group, groups.get(..i).unwrap_or_default()));
        errors.extend(of_any_group(&member, &group.ray_start_params, &group.resources, &group.labels));
        errors.extend(bounds(cluster, &member.path, group));
        errors.extend(idle_timeout(cluster, &member.path, group));
        errors.extend(priority(cluster, &member.path, group));
        errors.extend(suspended(cluster, rules, &member.path, group));
    }
    errors
}

fn of_any_group(
    member: &Member<'_>,
    params: &BTreeMap<String, String>,
    resources: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match &member.template {
        // Read once, so that a variable that can't be read is named rather than overlooked.
        Ok(template) => errors.extend(template.env_list().err()),
        Err(error) => errors.push(error.clone()),
    }
    let param_path = |name: &str| crate::at::member(&format!("{}.rayStartParams", member.path), name);
    let declared = RESOURCE_PARAMS.iter().filter_map(|name| Some((*name, params.get(*name)?)));
    for (name, value) in declared.filter(|(_, value)| !value.is_empty() && !resources.is_empty()) {
        let problem = format!("can't be beside {}.resources: say it there and remove it here", member.path);
        errors.push(FieldError::new(param_path(name), value, problem));
    }
    if let Some(value) = params.get("labels") {
        let problem = format!("is not supported: move the labels to {}.labels", member.path);
        errors.push(FieldError::new(param_path("labels"), value, problem));
    }
    errors.extend(bad_labels(&format!("{}.labels", member.path), labels));
    errors
}

/// KubeRay's reconciler accepts two groups of one name and lets them fight for one set of pods.
fn name(path: &str, group: &WorkerGroupSpec, before: &[WorkerGroupSpec]) -> Option<FieldError> {
    let field = format!("{path}.groupName");
    if group.group_name.is_empty() {
        return Some(FieldError::missing(field, "is required"));
    }
    let other = before.iter().position(|other| other.group_name == group.group_name)?;
    let problem = format!("is the name of spec.workerGroupSpecs[{other}] too: give every group a name of its own");
    Some(FieldError::new(field, &group.group_name, problem))
}

fn bounds(cluster: &RayCluster, path: &str, group: &WorkerGroupSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (field, value) in [("minReplicas", group.min_replicas), ("maxReplicas", group.max_replicas)] {
        let field = format!("{path}.{field}");
        match value {
            None if !is_autoscaled(cluster) => {
                let problem = "is required where enableInTreeAutoscaling is off: set it";
                errors.push(FieldError::missing(field, problem));
            }
            Some(value) if value < 0 => {
                errors.push(FieldError::new(field, value.to_string(), "must be 0 or more"));
            }
            _ => {}
        }
    }
    if let (Some(min), Some(max)) = (group.min_replicas, group.max_replicas)
        && min > max
    {
        let problem = format!("must be at most maxReplicas, which is {max}");
        errors.push(FieldError::new(format!("{path}.minReplicas"), min.to_string(), problem));
    }
    errors
}

/// Groups whose pods can't be counted, or are too many.
pub(super) fn uncountable(cluster: &RayCluster) -> Vec<FieldError> {
    let groups = cluster.spec.worker_group_specs.iter().enumerate();
    groups.filter_map(|(i, group)| group.replicas_and_hosts(&format!("spec.workerGroupSpecs[{i}]")).err()).collect()
}

fn idle_timeout(cluster: &RayCluster, path: &str, group: &WorkerGroupSpec) -> Option<FieldError> {
    let seconds = group.idle_timeout_seconds?;
    let error = |problem: &str| FieldError::new(format!("{path}.idleTimeoutSeconds"), seconds.to_string(), problem);
    if seconds < 0 {
        return Some(error("must be 0 or more"));
    }
    let needs = "needs autoscaler v2: set spec.autoscalerOptions.version to v2, or remove it and use \
                 spec.autoscalerOptions.idleTimeoutSeconds";
    (!is_autoscaler_v2(cluster)).then(|| error(needs))
}

fn priority(cluster: &RayCluster, path: &str, group: &WorkerGroupSpec) -> Vec<FieldError> {
    let Some(priority) = group.priority.filter(|priority| *priority != 0) else { return Vec::new() };
    let error = |problem: String| FieldError::new(format!("{path}.priority"), priority.to_string(), problem);
    let mut errors = Vec::new();
    if cluster.ray_version().is_none_or(|version| version < PRIORITY_SINCE) {
        let said = cluster.spec.ray_version.as_deref().unwrap_or_default();
        let said = if said.is_empty() { "not set".to_owned() } else { said.to_owned() };
        errors.push(error(format!("needs Ray {PRIORITY_SINCE} or later: set spec.rayVersion, which is {said}")));
    }
    if !is_autoscaler_v2(cluster) {
        errors.push(error("needs autoscaler v2: set spec.autoscalerOptions.version to v2".to_owned()));
    }
    errors
}

fn suspended(cluster: &RayCluster, rules: &Rules, path: &str, group: &WorkerGroupSpec) -> Option<FieldError> {
    if group.suspend != Some(true) {
        return None;
    }
    let problem = if is_autoscaled(cluster) {
        "can't be where enableInTreeAutoscaling is on: turn one of the two off".to_owned()
    } else if !rules.gates.has(Gate::RayJobDeletionPolicy) {
        let gate = Gate::RayJobDeletionPolicy.as_str();
        format!("needs the feature gate {gate}: start the operator with --feature-gates {gate}=true")
    } else {
        return None;
    };
    Some(FieldError::new(member(path, "suspend"), "true", problem))
}

/// What the variable of the head says where no autoscaler runs, and where the option says it too.
pub(super) fn autoscaler_variable(cluster: &RayCluster) -> Option<FieldError> {
    let (at, value) = Member::head(cluster).env(ENV_AUTOSCALER_V2)?;
    let says_version = !super::autoscaler_version(cluster).is_empty();
    let problem = match is_autoscaled(cluster) {
        true if says_version => "can't be beside spec.autoscalerOptions.version: remove the variable",
        false if super::turns_autoscaler_v2_on(value) => {
            "needs an autoscaler: set spec.enableInTreeAutoscaling to true, or remove the variable"
        }
        _ => return None,
    };
    Some(at.error_of(ENV_AUTOSCALER_V2, problem))
}
