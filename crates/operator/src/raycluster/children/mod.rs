//! The objects that belong to a RayCluster, as request bodies.

use mobula_api::RayCluster;

use crate::config::Config;

/// A RayCluster and what its children are made with.
#[derive(Clone, Copy, Debug)]
pub struct Children<'a> {
    /// The RayCluster as the API server has it.
    pub cluster: &'a RayCluster,
    /// What the operator is told.
    pub config: &'a Config,
}
