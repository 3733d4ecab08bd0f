//! What is told to the GCS.

use std::collections::BTreeMap;

use super::state::{constraint, each, each_ref, gang, request, to_constraint, to_gang, to_request};
use crate::proto::autoscaler as pb;
use crate::types::{
    AutoscalingState, ClusterConfig, FailedInstanceRequest, NodeGroupConfig, PendingInstance, PendingInstanceRequest,
};

pub fn autoscaling_state(state: pb::AutoscalingState) -> AutoscalingState {
    AutoscalingState {
        last_seen_cluster_state_version: state.last_seen_cluster_resource_state_version,
        version: state.autoscaler_state_version,
        pending_instance_requests: each(state.pending_instance_requests, |pending| PendingInstanceRequest {
            node_type: pending.ray_node_type_name,
            count: pending.count,
            request_ts_s: pending.request_ts,
        }),
        infeasible_requests: each(state.infeasible_resource_requests, request),
        infeasible_gangs: each(state.infeasible_gang_resource_requests, gang),
        infeasible_constraints: each(state.infeasible_cluster_resource_constraints, constraint),
        pending_instances: each(state.pending_instances, |pending| PendingInstance {
            node_type: pending.ray_node_type_name,
            instance_id: pending.instance_id,
            ip: pending.ip_address,
            details: pending.details,
        }),
        failed_instance_requests: each(state.failed_instance_requests, |failed| FailedInstanceRequest {
            node_type: failed.ray_node_type_name,
            count: failed.count,
            reason: failed.reason,
            start_ts_s: failed.start_ts,
            failed_ts_s: failed.failed_ts,
        }),
    }
}

/// `instance_type_name` stays empty, as with every provider that has groups instead of machine types.
pub fn to_autoscaling_state(state: &AutoscalingState) -> pb::AutoscalingState {
    pb::AutoscalingState {
        last_seen_cluster_resource_state_version: state.last_seen_cluster_state_version,
        autoscaler_state_version: state.version,
        pending_instance_requests: each_ref(&state.pending_instance_requests, |pending| pb::PendingInstanceRequest {
            instance_type_name: String::new(),
            ray_node_type_name: pending.node_type.clone(),
            count: pending.count,
            request_ts: pending.request_ts_s,
        }),
        infeasible_resource_requests: each_ref(&state.infeasible_requests, to_request),
        infeasible_gang_resource_requests: each_ref(&state.infeasible_gangs, to_gang),
        infeasible_cluster_resource_constraints: each_ref(&state.infeasible_constraints, |requests| {
            to_constraint(requests)
        }),
        pending_instances: each_ref(&state.pending_instances, |pending| pb::PendingInstance {
            instance_type_name: String::new(),
            ray_node_type_name: pending.node_type.clone(),
            instance_id: pending.instance_id.clone(),
            ip_address: pending.ip.clone(),
            details: pending.details.clone(),
        }),
        failed_instance_requests: each_ref(&state.failed_instance_requests, |failed| pb::FailedInstanceRequest {
            instance_type_name: String::new(),
            ray_node_type_name: failed.node_type.clone(),
            count: failed.count,
            reason: failed.reason.clone(),
            start_ts: failed.start_ts_s,
            failed_ts: failed.failed_ts_s,
        }),
    }
}

pub fn cluster_config(config: pb::ClusterConfig) -> ClusterConfig {
    let group = |group: pb::NodeGroupConfig| NodeGroupConfig {
        name: group.name,
        resources: group.resources,
        min_count: group.min_count,
        max_count: group.max_count,
    };
    ClusterConfig { groups: each(config.node_group_configs, group) }
}

pub fn to_cluster_config(config: &ClusterConfig) -> pb::ClusterConfig {
    let group = |group: &NodeGroupConfig| pb::NodeGroupConfig {
        resources: group.resources.clone(),
        min_count: group.min_count,
        max_count: group.max_count,
        name: group.name.clone(),
    };
    pb::ClusterConfig {
        min_resources: BTreeMap::new(),
        max_resources: BTreeMap::new(),
        node_group_configs: each_ref(&config.groups, group),
    }
}
