//! RayCluster: which children it has, what is to be done now, what its status is. Pure functions.
//!
//! [`decide()`] reads an [`Observed`] and says everything that is to be done: it is the whole reconciler. [`RayClusters`] is
//! the thin rest that the frame asks for.

pub mod children;
mod classify;
mod conditions;
mod decide;
mod fault_tolerance;
mod fixed;
mod head;
mod observed;
mod pass;
mod status;
mod suspend;
#[cfg(test)]
mod tests;
mod totals;
mod upgrade;
mod workers;

use std::sync::Arc;

use crate::{
    config::Config,
    frame::{
        controller::{Reconciled, Reconciler},
        decision::Decision,
        kind::{self, Kind},
        outcome::Memory,
        world::{Target, World},
    },
};

pub use classify::{Standing, standing};
pub use decide::decide;
pub(crate) use decide::is_managed_elsewhere;
pub use observed::Observed;

/// Reconciles RayClusters.
pub struct RayClusters {
    config: Arc<Config>,
    random: Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
}

impl RayClusters {
    /// `random` is asked for the tokens of clusters.
    pub fn new(config: Arc<Config>, random: Arc<dyn Fn() -> [u8; 32] + Send + Sync>) -> Self {
        RayClusters { config, random }
    }
}

impl Reconciler for RayClusters {
    fn kind(&self) -> &'static Kind {
        &kind::RAY_CLUSTER
    }

    fn name(&self) -> &'static str {
        "raycluster-controller"
    }

    fn reconcile(&self, world: &World, target: &Target, memory: &Memory, now_ms: i64) -> Option<Reconciled> {
        let view = world.cluster(&target.key)?;
        let uid = view.cluster.uid.clone();
        let generation = view.cluster.object.as_ref().map_or(0, |object| object.metadata.generation);
        let token = if view.wants_token() { (self.random)() } else { [0; 32] };
        let decision = match Observed::new(&view, memory, token) {
            Ok(observed) => decide(&observed, &self.config, now_ms),
            Err(problem) => {
                let mut decision = Decision::default();
                let message = format!("The RayCluster can't be read {}: {problem}", target.key);
                pass::say_once(&mut decision, memory, "InvalidRayClusterSpec", "Validate", message);
                decision
            }
        };
        Some(Reconciled { uid, generation, decision })
    }
}
