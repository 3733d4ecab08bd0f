//! The operator: reconciles RayCluster, a drop-in for KubeRay.
//!
//! * [`config`]: what flags, environment and the configuration file say, as one value.
//! * [`names`]: names of children, as KubeRay makes them.
//! * [`raycluster`]: pure functions: which children a RayCluster has, what is to be done now, what its status is.
//! * [`render`]: what would be created for a RayCluster, without a cluster.
//! * [`webhook`]: refuses by the same rules what is about to be written.
//! * [`operator`]: the whole of it, wired to one client.
//! * [`gangs`]: pods of a gang begin together or not at all.
//! * [`frame`]: what all reconcilers share: decisions as values, the executor, stores, leader election.

pub mod config;
pub mod frame;
pub mod gangs;
pub mod names;
pub mod operator;
pub mod raycluster;
pub mod render;
pub mod webhook;
