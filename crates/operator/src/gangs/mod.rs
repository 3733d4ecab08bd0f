//! Gang admission: pods of a gang are made with a scheduling gate, and the gates of all of them are lifted together once
//! the whole gang fits, each pod pinned to the node that was found for it.
//!
//! ```text
//! nodes, pods of all ─► what is free ─┐
//! gated pods ─► gangs ────────────────┴─► planner::admission ─► patches that lift gates ─► kube-scheduler binds
//! ```
//!
//! A gang is a worker group; where the autoscaler's plan names gangs ([`mobula_api::keys::GANGS`]), it is what the plan says, and
//! what no gang needs begins alone.
//!
//! One target looks at all gangs at once, so that no two of them are given the same place. What is under way is written on
//! the pods: whoever finds a gang half lifted lifts the rest of it, or gives it back. That a gang was whole is written on its
//! RayCluster (`whole`).

mod decide;
mod divide;
mod lacks;
mod observe;
#[cfg(test)]
mod tests;
mod whole;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use mobula_api::RayCluster;
use whole::Whole;

use crate::{
    config::{Config, GangMode},
    frame::{
        controller::{Reconciled, Reconciler},
        kind::{self, Kind},
        metrics::Metrics,
        outcome::Memory,
        world::{Target, World},
    },
};

/// Annotation of a RayCluster: `true` or `false`, whether its gangs wait to be whole.
pub const ANNOTATION: &str = "mobula.dev/gang-admission";
/// Annotation of a RayCluster: each gang must be in one domain of this level; its name, or a label of it.
pub const DOMAIN: &str = "mobula.dev/gang-domain";
/// Label of an object that Kueue admits.
const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// Whether gangs of this RayCluster wait to be whole. Not where another one sees to it.
pub fn admits(cluster: &RayCluster, config: &Config) -> bool {
    let said = cluster.metadata.annotations.get(ANNOTATION).map(String::as_str);
    let is_on = match config.gangs.mode {
        GangMode::Off => false,
        GangMode::Annotated => said == Some("true"),
        GangMode::All => said != Some("false"),
    };
    let has_queue = cluster.metadata.labels.get(KUEUE_QUEUE).is_some_and(|queue| !queue.is_empty());
    is_on && config.batch_scheduler.is_none() && !has_queue
}

/// Admits gangs.
pub struct GangAdmission {
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    /// Gangs that this process has seen whole, by unique id of their RayCluster.
    known: Mutex<BTreeMap<String, Whole>>,
}

impl GangAdmission {
    /// Gang admission. What becomes of gangs is counted in `metrics`.
    pub fn new(config: Arc<Config>, metrics: Arc<Metrics>) -> Self {
        GangAdmission { config, metrics, known: Mutex::default() }
    }
}

impl Reconciler for GangAdmission {
    fn kind(&self) -> &'static Kind {
        &kind::NODE
    }

    fn name(&self) -> &'static str {
        "gang-admission"
    }

    fn reconcile(&self, world: &World, _: &Target, memory: &Memory, now_ms: i64) -> Option<Reconciled> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let sight = observe::sight(world, &self.config, &known, now_ms);
        let decided = decide::decide(&sight, &self.config.gangs, memory, now_ms);
        let waiting = decided.waits.values().map(Vec::len).sum();
        self.metrics.gangs(waiting, &decided.begun_after_ms, decided.given_back);
        world.gangs_wait(decided.waits);
        *known = decided.known;
        Some(Reconciled { uid: String::new(), generation: 0, decision: decided.decision })
    }
}

/// What is to be done about all gangs.
#[derive(Debug, Default)]
struct Decided {
    decision: crate::frame::decision::Decision,
    /// Gangs that wait, by RayCluster.
    waits: BTreeMap<crate::frame::store::Key, Vec<crate::frame::world::GangWait>>,
    /// Gangs that were whole, of which pods are there, by unique id of their RayCluster.
    known: BTreeMap<String, Whole>,
    /// How long gangs have waited that begin now, in ms.
    begun_after_ms: Vec<i64>,
    /// Gangs that are given back now.
    given_back: u64,
}
