//! The cluster as an autoscaler sees it.

use std::sync::Arc;

use crate::id::{hex, parse};
use crate::proto::autoscaler as pb;
use crate::proto::{self, LabelSelectorOperator};
use crate::types::{
    BundleSelector, ClusterState, GangRequest, LabelConstraint, LabelOperator, LabelSelector, LocalityRequirement,
    NodeState, NodeStatus, PlacementConstraint, PlacementStrategy, RequestByCount, ResourceRequest,
};

pub fn cluster_state(state: pb::ClusterResourceState) -> ClusterState {
    ClusterState {
        version: state.cluster_resource_state_version,
        session_name: state.cluster_session_name,
        nodes: state.node_states.into_iter().map(node_state).collect(),
        pending: each(state.pending_resource_requests, request_by_count),
        gangs: each(state.pending_gang_resource_requests, gang),
        constraints: each(state.cluster_resource_constraints, constraint),
    }
}

pub fn to_cluster_state(state: ClusterState) -> pb::ClusterResourceState {
    pb::ClusterResourceState {
        cluster_resource_state_version: state.version,
        last_seen_autoscaler_state_version: 0,
        node_states: state.nodes.into_iter().map(Arc::unwrap_or_clone).map(to_node_state).collect(),
        pending_resource_requests: each_ref(&state.pending, to_request_by_count),
        pending_gang_resource_requests: each_ref(&state.gangs, to_gang),
        cluster_resource_constraints: state.constraints.iter().map(|requests| to_constraint(requests)).collect(),
        cluster_session_name: state.session_name,
    }
}

fn node_state(node: pb::NodeState) -> NodeState {
    NodeState {
        node_id: hex(&node.node_id),
        status: match pb::NodeStatus::try_from(node.status) {
            Ok(pb::NodeStatus::Running) => NodeStatus::Running,
            Ok(pb::NodeStatus::Dead) => NodeStatus::Dead,
            Ok(pb::NodeStatus::Idle) => NodeStatus::Idle,
            Ok(pb::NodeStatus::Draining) => NodeStatus::Draining,
            Ok(pb::NodeStatus::Unspecified) | Err(_) => NodeStatus::Unspecified,
        },
        instance_id: node.instance_id,
        node_type: node.ray_node_type_name,
        available: node.available_resources.into(),
        total: node.total_resources.into(),
        dynamic_labels: node.dynamic_labels,
        labels: node.labels.into(),
        idle_ms: node.idle_duration_ms,
        ip: node.node_ip_address,
        instance_type: node.instance_type_name,
        activity: node.node_activity,
    }
}

fn to_node_state(node: NodeState) -> pb::NodeState {
    let status = match node.status {
        NodeStatus::Unspecified => pb::NodeStatus::Unspecified,
        NodeStatus::Running => pb::NodeStatus::Running,
        NodeStatus::Dead => pb::NodeStatus::Dead,
        NodeStatus::Idle => pb::NodeStatus::Idle,
        NodeStatus::Draining => pb::NodeStatus::Draining,
    };
    pb::NodeState {
        node_id: id_bytes(&node.node_id),
        instance_id: node.instance_id,
        ray_node_type_name: node.node_type,
        available_resources: Arc::unwrap_or_clone(node.available),
        total_resources: Arc::unwrap_or_clone(node.total),
        dynamic_labels: node.dynamic_labels,
        node_state_version: 0,
        status: status.into(),
        idle_duration_ms: node.idle_ms,
        node_ip_address: node.ip,
        instance_type_name: node.instance_type,
        node_activity: node.activity,
        labels: Arc::unwrap_or_clone(node.labels),
    }
}

/// The bytes of an id that our own server sends, of any length; one that is no hex is sent as its characters.
pub fn id_bytes(text: &str) -> Vec<u8> {
    parse("id", text, text.len() / 2).unwrap_or_else(|_| text.as_bytes().to_vec())
}

fn request_by_count(counted: pb::ResourceRequestByCount) -> RequestByCount {
    RequestByCount { request: request(counted.request.unwrap_or_default()), count: counted.count }
}

fn to_request_by_count(counted: &RequestByCount) -> pb::ResourceRequestByCount {
    pb::ResourceRequestByCount { request: Some(to_request(&counted.request)), count: counted.count }
}

pub fn request(request: pb::ResourceRequest) -> ResourceRequest {
    ResourceRequest {
        resources: request.resources_bundle,
        placement: each(request.placement_constraints, placement),
        selectors: each(request.label_selectors, label_selector),
    }
}

pub fn to_request(request: &ResourceRequest) -> pb::ResourceRequest {
    pb::ResourceRequest {
        resources_bundle: request.resources.clone(),
        placement_constraints: each_ref(&request.placement, to_placement),
        label_selectors: each_ref(&request.selectors, to_label_selector),
    }
}

fn placement(constraint: pb::PlacementConstraint) -> PlacementConstraint {
    PlacementConstraint {
        anti_affinity: constraint.anti_affinity.map(|label| (label.label_name, label.label_value)),
        affinity: constraint.affinity.map(|label| (label.label_name, label.label_value)),
    }
}

fn to_placement(constraint: &PlacementConstraint) -> pb::PlacementConstraint {
    let anti_affinity = constraint.anti_affinity.clone();
    let affinity = constraint.affinity.clone();
    pb::PlacementConstraint {
        anti_affinity: anti_affinity
            .map(|(label_name, label_value)| pb::AntiAffinityConstraint { label_name, label_value }),
        affinity: affinity.map(|(label_name, label_value)| pb::AffinityConstraint { label_name, label_value }),
    }
}

pub fn label_selector(selector: proto::LabelSelector) -> LabelSelector {
    let condition = |condition: proto::LabelSelectorConstraint| LabelConstraint {
        operator: match LabelSelectorOperator::try_from(condition.operator) {
            Ok(LabelSelectorOperator::LabelOperatorIn) => LabelOperator::In,
            Ok(LabelSelectorOperator::LabelOperatorNotIn) => LabelOperator::NotIn,
            Ok(LabelSelectorOperator::LabelOperatorUnspecified) | Err(_) => LabelOperator::Unspecified,
        },
        key: condition.label_key,
        values: condition.label_values,
    };
    LabelSelector { constraints: each(selector.label_constraints, condition) }
}

pub fn to_label_selector(selector: &LabelSelector) -> proto::LabelSelector {
    let condition = |condition: &LabelConstraint| proto::LabelSelectorConstraint {
        label_key: condition.key.clone(),
        operator: match condition.operator {
            LabelOperator::In => LabelSelectorOperator::LabelOperatorIn,
            LabelOperator::NotIn => LabelSelectorOperator::LabelOperatorNotIn,
            LabelOperator::Unspecified => LabelSelectorOperator::LabelOperatorUnspecified,
        }
        .into(),
        label_values: condition.values.clone(),
    };
    proto::LabelSelector { label_constraints: each_ref(&selector.constraints, condition) }
}

/// A strategy that this version does not know reads as `Pack`, the one that promises least.
pub fn strategy(value: i32) -> PlacementStrategy {
    match proto::PlacementStrategy::try_from(value) {
        Ok(proto::PlacementStrategy::Spread) => PlacementStrategy::Spread,
        Ok(proto::PlacementStrategy::StrictPack) => PlacementStrategy::StrictPack,
        Ok(proto::PlacementStrategy::StrictSpread) => PlacementStrategy::StrictSpread,
        Ok(proto::PlacementStrategy::Pack) | Err(_) => PlacementStrategy::Pack,
    }
}

pub fn to_strategy(strategy: PlacementStrategy) -> proto::PlacementStrategy {
    match strategy {
        PlacementStrategy::Pack => proto::PlacementStrategy::Pack,
        PlacementStrategy::Spread => proto::PlacementStrategy::Spread,
        PlacementStrategy::StrictPack => proto::PlacementStrategy::StrictPack,
        PlacementStrategy::StrictSpread => proto::PlacementStrategy::StrictSpread,
    }
}

pub fn gang(gang: pb::GangResourceRequest) -> GangRequest {
    let selector = |selector: pb::BundleSelector| BundleSelector {
        requests: each(selector.resource_requests, request),
        locality: selector.locality_requirement.map(locality),
    };
    GangRequest {
        requests: each(gang.requests, request),
        details: gang.details,
        bundle_selectors: each(gang.bundle_selectors, selector),
    }
}

pub fn to_gang(gang: &GangRequest) -> pb::GangResourceRequest {
    let selector = |selector: &BundleSelector| pb::BundleSelector {
        resource_requests: each_ref(&selector.requests, to_request),
        locality_requirement: selector.locality.as_ref().map(to_locality),
    };
    pb::GangResourceRequest {
        requests: each_ref(&gang.requests, to_request),
        details: gang.details.clone(),
        bundle_selectors: each_ref(&gang.bundle_selectors, selector),
    }
}

fn locality(requirement: pb::LocalityRequirement) -> LocalityRequirement {
    let constraint = requirement.locality_constraint.unwrap_or_default();
    LocalityRequirement {
        label: constraint.label_name,
        strategy: strategy(constraint.placement_strategy),
        selector: label_selector(requirement.label_selector.unwrap_or_default()),
    }
}

fn to_locality(requirement: &LocalityRequirement) -> pb::LocalityRequirement {
    pb::LocalityRequirement {
        locality_constraint: Some(pb::LocalityConstraint {
            label_name: requirement.label.clone(),
            placement_strategy: to_strategy(requirement.strategy).into(),
        }),
        label_selector: Some(to_label_selector(&requirement.selector)),
    }
}

pub fn constraint(constraint: pb::ClusterResourceConstraint) -> Vec<RequestByCount> {
    each(constraint.resource_requests, request_by_count)
}

pub fn to_constraint(requests: &[RequestByCount]) -> pb::ClusterResourceConstraint {
    pb::ClusterResourceConstraint { resource_requests: each_ref(requests, to_request_by_count) }
}

pub fn each<A, B>(items: Vec<A>, convert: impl Fn(A) -> B) -> Vec<B> {
    items.into_iter().map(convert).collect()
}

pub fn each_ref<A, B>(items: &[A], convert: impl Fn(&A) -> B) -> Vec<B> {
    items.iter().map(convert).collect()
}
