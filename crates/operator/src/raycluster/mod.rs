//! RayCluster: which children it has, what is to be done now, what its status is. Pure functions.

pub mod children;
