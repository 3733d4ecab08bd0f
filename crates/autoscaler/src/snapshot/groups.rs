//! Worker groups and the head, from the RayCluster's words to the planner's.

use std::collections::BTreeMap;
use std::sync::Arc;

use mobula_api::{FieldError, GroupShape, RayCluster, ResizeBounds, keys};
use mobula_planner::{Amount, FabricWish, GroupFacts, NodeType, ResizeSpec, Resources, TopologyLevel};
use serde::Deserialize;
use serde_json::Value;

use super::{Warnings, nearness};
use crate::pod_needs::{amounts, requests};
use crate::prices::Prices;

/// Head first, then the worker groups in their order. `suspended`: the whole cluster is.
pub(super) fn translate(
    cluster: &RayCluster,
    suspended: bool,
    (prices, topology): (&Prices, &[TopologyLevel]),
    warnings: &mut Warnings,
) -> Result<Vec<NodeType>, FieldError> {
    let shapes = cluster.group_shapes()?;
    for name in prices.0.keys().filter(|name| shapes.iter().all(|shape| shape.name != **name)) {
        warnings.push(format!("prices: {name}: the RayCluster has no such group: ignored"));
    }
    for shape in &shapes {
        shape.warnings.iter().for_each(|text| warnings.push(format!("group {}: {text}", shape.name)));
    }
    let spec = &cluster.spec;
    let workers = spec.worker_group_specs.iter().map(|group| &group.template);
    let templates: Vec<&Value> = std::iter::once(&spec.head_group_spec.template).chain(workers).collect();
    let offerings = |group: &str| prices.0.get(group).cloned().unwrap_or_default();
    let mut node_types = Vec::with_capacity(shapes.len());
    for (shape, template) in shapes.into_iter().zip(templates) {
        let offerings = offerings(&shape.name);
        let fabric = fabric(&shape.name, template, warnings);
        let nearness = nearness::read(&shape.name, template, topology, warnings);
        let mut group = node_type(shape, suspended)?;
        group.facts.pod_requests = amounts(&requests(template));
        (group.facts.fabric, group.facts.nearness) = (fabric, nearness);
        node_types.push(NodeType { offerings, ..group });
    }
    Ok(node_types)
}

/// What the template says about RDMA.
fn fabric(group: &str, template: &Value, warnings: &mut Warnings) -> Option<FabricWish> {
    let value = template.pointer("/metadata/annotations")?.get(keys::FABRIC)?;
    let wish = FabricWish::deserialize(value).ok();
    if wish.is_none() {
        let problem = "must be required or preferred: ignored";
        warnings.push(format!("group {group}: annotation {}: {value}: {problem}", keys::FABRIC));
    }
    wish
}

fn node_type(shape: GroupShape, cluster_suspended: bool) -> Result<NodeType, FieldError> {
    let resources = resources(&shape.name, &shape.resources)?;
    let facts = GroupFacts {
        extended_resources: self::resources(&shape.name, &shape.extended_resources)?,
        node_selector: shape.node_selector,
        expected_labels: shape.expected_labels,
        ..GroupFacts::default()
    };
    Ok(NodeType {
        resize: shape.resize.as_ref().map(|bounds| resize_spec(&shape.name, bounds)).transpose()?,
        name: shape.name,
        is_head: shape.is_head,
        resources: Arc::new(resources),
        labels: Arc::new(shape.labels),
        num_of_hosts: shape.num_of_hosts.max(1),
        min_replicas: shape.min_replicas,
        max_replicas: shape.max_replicas,
        requested_replicas: shape.requested_replicas,
        idle_timeout_ms: shape.idle_timeout_ms,
        priority: shape.priority,
        suspended: shape.suspended || cluster_suspended,
        // KubeRay recreates pods whose template changed; Ray's own check is off there.
        launch_config_hash: None,
        facts,
        offerings: Vec::new(),
    })
}

fn resources(group: &str, units: &BTreeMap<String, f64>) -> Result<Resources, FieldError> {
    units.iter().map(|(name, &units)| Ok((name.clone(), amount(group, name, units)?))).collect()
}

fn resize_spec(group: &str, bounds: &ResizeBounds) -> Result<ResizeSpec, FieldError> {
    Ok(ResizeSpec {
        max_cpu: amount(group, "CPU", bounds.max_cpu)?,
        max_memory: amount(group, "memory", bounds.max_memory)?,
        min_cpu: amount(group, "CPU", bounds.min_cpu)?,
        min_memory: amount(group, "memory", bounds.min_memory)?,
        timeout_ms: bounds.timeout_ms,
    })
}

fn amount(group: &str, name: &str, units: f64) -> Result<Amount, FieldError> {
    Amount::from_f64(units).filter(|amount| *amount >= Amount::ZERO).ok_or_else(|| {
        let problem = "must be an amount from 0 to 900 trillion";
        FieldError::new(format!("resource {name} of group {group}"), units.to_string(), problem)
    })
}
