//! One coherent snapshot of a RayCluster and everything that belongs to it.

use std::sync::Arc;

use mobula_api::RayCluster;

use crate::frame::{
    outcome::Memory,
    pod::Pod,
    world::{Child, ClusterView, GangWait, Incarnations},
};

/// What [`super::decide()`] sees.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The RayCluster, as the API server has it.
    pub cluster: &'a RayCluster,
    /// The pods that it controls, by name.
    pub pods: &'a [Arc<Pod>],
    /// Pods that an operator has made for one of its name and that nobody owns.
    pub orphans: &'a [Arc<Pod>],
    /// Pods stay that an earlier RayCluster of its name owns.
    pub predecessor_stays: bool,
    /// What else it controls.
    pub children: &'a [Arc<Child>],
    /// Incarnations of places that were used before, by group and replica.
    pub incarnations: &'a Incarnations,
    /// Its gangs that wait, as gang admission has found.
    pub waits: &'a [GangWait],
    /// What came of earlier steps.
    pub memory: &'a Memory,
    /// 32 random bytes for a token, should one be needed.
    pub token: [u8; 32],
}

impl<'a> Observed<'a> {
    /// What `view` has of `cluster`.
    pub fn new(cluster: &'a RayCluster, view: &'a ClusterView, memory: &'a Memory, token: [u8; 32]) -> Self {
        let ClusterView { pods, orphans, predecessor_stays, children, incarnations, waits, .. } = view;
        let predecessor_stays = *predecessor_stays;
        Observed { cluster, pods, orphans, predecessor_stays, children, incarnations, waits, memory, token }
    }
}

#[cfg(test)]
impl<'a> Observed<'a> {
    /// A RayCluster of which nothing is there yet.
    pub(super) fn alone(cluster: &'a RayCluster, memory: &'a Memory) -> Self {
        static NONE: Incarnations = Incarnations::new();
        Observed {
            cluster,
            pods: &[],
            orphans: &[],
            predecessor_stays: false,
            children: &[],
            incarnations: &NONE,
            waits: &[],
            memory,
            token: [0; 32],
        }
    }
}

impl ClusterView {
    /// Whether a token may be needed.
    pub(super) fn wants_token(&self) -> bool {
        self.cluster.object.as_ref().is_ok_and(|cluster| cluster.spec.auth_options.is_some())
    }
}
