//! Rows of the GCS's tables.

use super::state::id_bytes;
use crate::id::hex;
use crate::proto;
use crate::proto::gcs_node_info::GcsNodeState;
use crate::types::{JobInfo, NodeInfo, PlacementGroupInfo};

pub fn node_info(node: proto::GcsNodeInfo) -> NodeInfo {
    NodeInfo {
        node_id: hex(&node.node_id),
        // A state that this version does not know is no proof of life.
        alive: GcsNodeState::try_from(node.state) == Ok(GcsNodeState::Alive),
        address: node.node_manager_address,
        metrics_export_port: node.metrics_export_port,
        is_head: node.is_head_node,
        instance_id: node.instance_id,
        node_type: node.node_type_name,
        resources_total: node.resources_total,
        labels: node.labels,
        session_dir: node.session_dir,
        temp_dir: node.temp_dir,
    }
}

pub fn to_node_info(node: &NodeInfo) -> proto::GcsNodeInfo {
    proto::GcsNodeInfo {
        node_id: id_bytes(&node.node_id),
        state: if node.alive { GcsNodeState::Alive } else { GcsNodeState::Dead }.into(),
        node_manager_address: node.address.clone(),
        metrics_export_port: node.metrics_export_port,
        is_head_node: node.is_head,
        instance_id: node.instance_id.clone(),
        node_type_name: node.node_type.clone(),
        resources_total: node.resources_total.clone(),
        labels: node.labels.clone(),
        session_dir: node.session_dir.clone(),
        temp_dir: node.temp_dir.clone(),
        ..Default::default()
    }
}

pub fn job_info(job: proto::JobTableData) -> JobInfo {
    JobInfo {
        job_id: hex(&job.job_id),
        is_dead: job.is_dead,
        namespace: job.config.unwrap_or_default().ray_namespace,
        end_time_ms: job.end_time,
    }
}

pub fn to_job_info(job: &JobInfo) -> proto::JobTableData {
    proto::JobTableData {
        job_id: id_bytes(&job.job_id),
        is_dead: job.is_dead,
        config: Some(proto::JobConfig { ray_namespace: job.namespace.clone() }),
        end_time: job.end_time_ms,
        ..Default::default()
    }
}

pub fn placement_group_info(group: proto::PlacementGroupTableData) -> PlacementGroupInfo {
    PlacementGroupInfo {
        id: hex(&group.placement_group_id),
        name: group.name,
        job_id: hex(&group.creator_job_id),
        created_ms: group.placement_group_creation_timestamp_ms,
        topology_assignments: group.topology_assignments,
    }
}

pub fn to_placement_group_info(group: &PlacementGroupInfo) -> proto::PlacementGroupTableData {
    proto::PlacementGroupTableData {
        placement_group_id: id_bytes(&group.id),
        name: group.name.clone(),
        creator_job_id: id_bytes(&group.job_id),
        placement_group_creation_timestamp_ms: group.created_ms,
        topology_assignments: group.topology_assignments.clone(),
        ..Default::default()
    }
}
