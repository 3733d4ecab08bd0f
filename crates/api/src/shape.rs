//! What one pod of a group brings, as Ray's autoscaler derives it, and what Kubernetes knows beyond that.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    FieldError, RayCluster, ResizeBounds, WorkerGroupSpec,
    at::member,
    counts::MOST_PODS,
    keys,
    labels::{bad_labels, expected_labels},
    resources::{extended_resources, ray_resources},
    settings::seconds_to_ms,
    template::PodTemplate,
};

/// A group: what one of its pods brings, and how many there may be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupShape {
    /// Group name; the head's is `headgroup`.
    pub name: String,
    /// Whether this is the head.
    pub is_head: bool,
    /// What Ray's autoscaler expects one pod to bring, in units: the vector that Ray's own scheduler plans with.
    pub resources: BTreeMap<String, f64>,
    /// Ray node labels that Ray's autoscaler expects: only those of the group's own `labels`.
    pub labels: BTreeMap<String, String>,
    /// Pods in a replica, at least 1.
    pub num_of_hosts: u32,
    /// Fewest replicas.
    pub min_replicas: u32,
    /// Most replicas.
    pub max_replicas: u32,
    /// Replicas that the operator aims at: `replicas` within minimum and maximum. Of a suspended group: what it aims at
    /// once the group is resumed.
    pub requested_replicas: u32,
    /// Idle time after which a worker goes, in ms; `None`: the cluster's.
    pub idle_timeout_ms: Option<i64>,
    /// Higher is preferred.
    pub priority: i32,
    /// The group has no pods for now.
    pub suspended: bool,
    /// Extended resources of the Ray container (`nvidia.com/gpu`, `rdma/hca`, …) in units, whether Ray is told or not.
    pub extended_resources: BTreeMap<String, f64>,
    /// `nodeSelector` of the pod template.
    pub node_selector: BTreeMap<String, String>,
    /// Labels that a started Ray node will have, as far as the template tells: `labels`, and what Ray adds by itself.
    pub expected_labels: BTreeMap<String, String>,
    /// How far its pods may be resized in place.
    pub resize: Option<ResizeBounds>,
    /// What the user probably did not mean, for logs and `explain`.
    pub warnings: Vec<String>,
}

/// A group of the spec with its place, head and workers alike.
pub(crate) struct Group<'a> {
    pub(crate) path: String,
    pub(crate) name: &'a str,
    pub(crate) params: &'a BTreeMap<String, String>,
    pub(crate) resources: &'a BTreeMap<String, String>,
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) template: PodTemplate<'a>,
}

impl Group<'_> {
    /// Path of an argument of `ray start`.
    pub(crate) fn param_path(&self, name: &str) -> String {
        member(&format!("{}.rayStartParams", self.path), name)
    }

    /// Path of a resource declared for Ray.
    pub(crate) fn resource_path(&self, name: &str) -> String {
        member(&format!("{}.resources", self.path), name)
    }
}

impl RayCluster {
    /// The shapes of all groups: the head first, then the worker groups in the order of the spec.
    ///
    /// # Errors
    /// Names the first field of the first group that can't be used: no CPU to be found, a quantity that is none or is
    /// negative, a minimum above its maximum, two groups of one name. Ray's own autoscaler stops at such an error too.
    pub fn group_shapes(&self) -> Result<Vec<GroupShape>, FieldError> {
        let mut resizes = self.resize_bounds()?;
        let mut shapes = vec![self.head_shape()?];
        let mut names = BTreeSet::from([keys::HEAD_GROUP]);
        for (i, group) in self.spec.worker_group_specs.iter().enumerate() {
            let field = format!("spec.workerGroupSpecs[{i}].groupName");
            if group.group_name.is_empty() {
                return Err(FieldError::missing(field, "is required"));
            }
            if !names.insert(&group.group_name) {
                let problem = "is the name of another group: every group needs a name of its own";
                return Err(FieldError::new(field, &group.group_name, problem));
            }
            shapes.push(worker_shape(i, group)?);
        }
        for shape in &mut shapes {
            shape.resize = resizes.remove(&shape.name);
        }
        Ok(shapes)
    }

    fn head_shape(&self) -> Result<GroupShape, FieldError> {
        let head = &self.spec.head_group_spec;
        let path = "spec.headGroupSpec".to_owned();
        let group = Group {
            name: keys::HEAD_GROUP,
            params: &head.ray_start_params,
            resources: &head.resources,
            labels: &head.labels,
            template: PodTemplate::of_group(&path, &head.template)?,
            path,
        };
        let shape = shape_of(&group)?;
        Ok(GroupShape {
            is_head: true,
            num_of_hosts: 1,
            min_replicas: 1,
            max_replicas: 1,
            requested_replicas: 1,
            ..shape
        })
    }
}

/// The shapes of all groups of a RayCluster given as JSON: [`RayCluster::from_value`] and [`RayCluster::group_shapes`] in one.
///
/// # Errors
/// As these two.
pub fn group_shapes_from_value(cluster: Value) -> Result<Vec<GroupShape>, FieldError> {
    RayCluster::from_value(cluster)?.group_shapes()
}

/// Most pods of a replica. The largest slices that are sold have some thousand hosts.
const MOST_HOSTS: u32 = 10_000;

fn worker_shape(index: usize, spec: &WorkerGroupSpec) -> Result<GroupShape, FieldError> {
    let path = format!("spec.workerGroupSpecs[{index}]");
    let count = |name: &str, value: Option<i64>, least: i64, default: u32| {
        value.map_or(Ok(default), |value| count_field(&format!("{path}.{name}"), value, least))
    };
    let num_of_hosts = count("numOfHosts", spec.num_of_hosts, 1, 1)?;
    if num_of_hosts > MOST_HOSTS {
        let problem = format!("must be {MOST_HOSTS} or less");
        return Err(FieldError::new(format!("{path}.numOfHosts"), num_of_hosts.to_string(), problem));
    }
    let min_replicas = count("minReplicas", spec.min_replicas, 0, 0)?;
    let max_replicas = count("maxReplicas", spec.max_replicas, 0, i32::MAX.unsigned_abs())?;
    if min_replicas > max_replicas {
        let problem = format!("must not be more than maxReplicas, which is {max_replicas}");
        return Err(FieldError::new(format!("{path}.minReplicas"), min_replicas.to_string(), problem));
    }
    let replicas = count("replicas", spec.replicas.map(|replicas| replicas.max(0)), 0, min_replicas)?;
    let requested_replicas = replicas.clamp(min_replicas, max_replicas);
    if u64::from(requested_replicas) * u64::from(num_of_hosts) > MOST_PODS {
        let field = if replicas > min_replicas { "replicas" } else { "minReplicas" };
        let problem = format!("asks for more than {MOST_PODS} pods ({num_of_hosts} to a replica): lower it");
        return Err(FieldError::new(format!("{path}.{field}"), requested_replicas.to_string(), problem));
    }
    let idle_timeout_ms =
        spec.idle_timeout_seconds.map(|s| seconds_to_ms(&format!("{path}.idleTimeoutSeconds"), s)).transpose()?;
    let priority = spec.priority.unwrap_or(0);
    let priority = i32::try_from(priority).map_err(|_| {
        FieldError::new(format!("{path}.priority"), priority.to_string(), "must be an integer of 32 bits")
    })?;
    let group = Group {
        name: &spec.group_name,
        params: &spec.ray_start_params,
        resources: &spec.resources,
        labels: &spec.labels,
        template: PodTemplate::of_group(&path, &spec.template)?,
        path,
    };
    Ok(GroupShape {
        num_of_hosts,
        min_replicas,
        max_replicas,
        requested_replicas,
        idle_timeout_ms,
        priority,
        suspended: spec.suspend == Some(true),
        ..shape_of(&group)?
    })
}

/// A count of a 32-bit field.
fn count_field(field: &str, value: i64, least: i64) -> Result<u32, FieldError> {
    if value < least {
        return Err(FieldError::new(field, value.to_string(), format!("must be {least} or more")));
    }
    i32::try_from(value)
        .map(i32::unsigned_abs)
        .map_err(|_| FieldError::new(field, value.to_string(), format!("must be at most {}", i32::MAX)))
}

/// What head and workers have in common.
fn shape_of(group: &Group<'_>) -> Result<GroupShape, FieldError> {
    let mut warnings = Vec::new();
    let resources = ray_resources(group, &mut warnings)?;
    if let Some(error) = bad_labels(&format!("{}.labels", group.path), group.labels).next() {
        return Err(error);
    }
    if let Some(labels) = group.params.get("labels").filter(|labels| !labels.is_empty()) {
        let problem = "is not seen by the autoscaler: write the labels to the group's `labels`";
        warnings.push(FieldError::new(group.param_path("labels"), labels, problem).to_string());
    }
    Ok(GroupShape {
        name: group.name.to_owned(),
        resources,
        labels: group.labels.clone(),
        extended_resources: extended_resources(&group.template)?,
        node_selector: group.template.node_selector()?,
        expected_labels: expected_labels(group)?,
        warnings,
        ..GroupShape::default()
    })
}
