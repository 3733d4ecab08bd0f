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
mod orphans;
mod pass;
mod status;
pub(crate) mod suspend;
#[cfg(test)]
mod tests;
mod totals;
mod upgrade;
mod workers;

use std::sync::Arc;

use mobula_api::{Gate, keys};

use crate::{
    config::{BatchScheduler, Config},
    frame::{
        controller::{Reconciled, Reconciler},
        decision::Decision,
        kind::{self, Kind},
        outcome::Memory,
        world::{RAY_CLUSTER_SOURCES, Source, Target, World},
    },
};

pub use classify::{Standing, standing};
pub(crate) use decide::is_managed_elsewhere;
pub use decide::{decide, decide_unreadable};
pub use observed::Observed;

/// What is to be watched for RayClusters: kinds that only some installations serve, or allow, only where they are used.
pub fn sources(config: &Config) -> Vec<Source> {
    let of_clusters = |kind| Source { kind, selector: keys::CLUSTER };
    // Gangs have no label of ours where KubeRay has made them.
    let all = |kind| Source { kind, selector: "" };
    let uses = |scheduler| config.batch_scheduler == Some(scheduler);
    let optional = [
        (uses(BatchScheduler::Volcano), all(&kind::VOLCANO_POD_GROUP)),
        (uses(BatchScheduler::SchedulerPlugins), all(&kind::PLUGINS_POD_GROUP)),
        (uses(BatchScheduler::Kubernetes), of_clusters(&kind::POD_GROUP)),
        (uses(BatchScheduler::Kubernetes), of_clusters(&kind::WORKLOAD)),
        (config.gates.has(Gate::RayClusterNetworkPolicy), of_clusters(&kind::NETWORK_POLICY)),
        (config.gates.has(Gate::GCSFaultToleranceEmbeddedStorage), of_clusters(&kind::PERSISTENT_VOLUME_CLAIM)),
        (config.routes, of_clusters(&kind::ROUTE)),
    ];
    let used = optional.into_iter().filter(|(is_used, _)| *is_used).map(|(_, source)| source);
    RAY_CLUSTER_SOURCES.iter().copied().chain(used).collect()
}

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
        let token = if view.wants_token() { (self.random)() } else { [0; 32] };
        let memory = memory.of(&uid);
        let observed = |cluster| Observed::new(cluster, &view, &memory, token);
        let (generation, decision) = match &view.cluster.object {
            Ok(cluster) => (cluster.metadata.generation, decide(&observed(cluster), &self.config, now_ms)),
            Err(it) if is_managed_elsewhere(it.managed_by.as_deref()) => (0, Decision::default()),
            Err(it) => {
                let decision = decide_unreadable(&observed(&it.rest), &it.problem, &self.config, now_ms);
                (it.rest.metadata.generation, decision)
            }
        };
        Some(Reconciled { uid, generation, decision })
    }
}
