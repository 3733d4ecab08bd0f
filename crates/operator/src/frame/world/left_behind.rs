//! Pods that bear the name of a RayCluster which does not own them: an earlier one of the name has left them behind.

use std::sync::Arc;

use mobula_api::PodRole;

use super::{Indexed, Inner};
use crate::frame::{pod::Pod, store::Key};

/// See the module.
pub(super) struct LeftBehind {
    /// Those that an operator has made and that nobody owns.
    pub(super) orphans: Vec<Arc<Pod>>,
    /// Others still have the owner that is gone, and stay for now: the garbage collector will take it out, or them.
    pub(super) predecessor_stays: bool,
}

impl Inner {
    /// What is indexed by the RayCluster of the unique id `uid`, and is not its own.
    pub(super) fn left_behind(&self, index: &Key, uid: &str) -> LeftBehind {
        let is_of_ray = |indexed: &&Arc<Indexed>| matches!(indexed.pod.role, PodRole::Head | PodRole::Worker);
        let pods = || self.pods.of(index).filter(is_of_ray);
        let is_others = |pod: &Pod| !pod.owner.is_empty() && pod.owner != uid && pod.deletion_ms.is_none();
        LeftBehind {
            orphans: pods().filter(|indexed| indexed.is_orphan).map(|indexed| indexed.pod.clone()).collect(),
            predecessor_stays: pods().any(|indexed| is_others(&indexed.pod)),
        }
    }
}
