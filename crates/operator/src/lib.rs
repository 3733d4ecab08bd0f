//! The operator: reconciles RayCluster, a drop-in for KubeRay.
//!
//! * [`config`]: what flags, environment and the configuration file say, as one value.
//! * [`raycluster`]: pure functions: which children a RayCluster has, what is to be done now, what its status is.
//! * [`frame`]: what all reconcilers share: decisions as values, the executor, stores, leader election.

pub mod config;
pub mod frame;
pub mod raycluster;
