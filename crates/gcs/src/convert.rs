//! Between protobuf and [`crate::types`]. Reading tolerates whatever decodes: ids of any length, unknown enum values.

mod legacy;
mod report;
mod state;
mod tables;

pub(crate) use legacy::{legacy_constraint, legacy_demand, to_legacy_usage};
pub(crate) use report::{autoscaling_state, cluster_config, to_autoscaling_state, to_cluster_config};
#[cfg(feature = "registrar")]
pub(crate) use state::to_strategy;
pub(crate) use state::{cluster_state, constraint, id_bytes, to_cluster_state, to_constraint};
pub(crate) use tables::{
    job_info, node_info, placement_group_info, to_job_info, to_node_info, to_placement_group_info,
};
