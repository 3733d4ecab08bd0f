//! A turn in which nothing has happened: what the last one came to holds on, and is not worked out again.
//!
//! That is so where everything that was observed is equal but for the time, the last turn had nothing to do and is waiting for
//! nothing, and its plan is one for any time ([`mobula_planner::Cache::patience_ms`]). Any doubt makes it an ordinary turn.

use std::collections::BTreeSet;

use mobula_gcs::ClusterState;

use super::{
    KubeAction, LoopState, Mode,
    collect::Collected,
    tick::{Done, Planned},
};
use crate::snapshot::Observation;

/// What the last turn saw and came to.
pub(super) struct Still {
    observation: Observation,
    pub(super) planned: Planned,
    /// For how long nodes may go on being idle, in ms, before the plan is another.
    patience_ms: i64,
}

impl Still {
    /// What a turn came to, if the next one may be the same again.
    pub(super) fn after(state: &LoopState, done: Done) -> Option<Still> {
        let Done { collected, planned, result, patience_ms, .. } = done;
        let is_settled = result == "idle"
            && state.mode == Mode::V2
            && collected.hold.is_none()
            && state.cache.violations().is_empty()
            && are_all_in_pods_of_their_own(&collected.observation.state)
            && state.drained.is_empty()
            && state.failed.is_empty()
            && state.published.has_reported()
            // What was held back is due when its back-off is over. That reads failed says nothing of what is to be changed.
            && !state.kube_backoffs.is_failing(|(action, _)| *action != KubeAction::Get)
            // Whether a resize takes too long, time tells.
            && planned.snapshot.node_types.iter().all(|group| group.resize.is_none());
        let patience_ms = patience_ms.filter(|_| is_settled)?;
        Some(Still { observation: collected.observation, planned, patience_ms })
    }

    /// What of the patience is left if nothing but time has passed; else `None`.
    pub(super) fn patience_left_ms(&self, state: &LoopState, collected: &Collected) -> Option<i64> {
        let is_again = collected.hold.is_none()
            && state.drained.is_empty()
            && self.planned.options == state.options
            && self.observation.is_like(&collected.observation);
        let left_ms =
            self.patience_ms.saturating_sub(idle_longer_ms(&self.observation.state, &collected.observation.state));
        (is_again && left_ms >= 0).then_some(left_ms)
    }
}

/// Whether no pod has two living nodes: which of them counts, their idle times may say.
fn are_all_in_pods_of_their_own(state: &ClusterState) -> bool {
    let mut pods = BTreeSet::new();
    let mut living = state.nodes.living().iter().filter(|node| !node.instance_id.is_empty());
    living.all(|node| pods.insert(node.instance_id.as_str()))
}

/// For how much longer nodes have been idle, of two states that are equal otherwise.
fn idle_longer_ms(before: &ClusterState, now: &ClusterState) -> i64 {
    let pairs = before.nodes.living().iter().zip(now.nodes.living());
    pairs.map(|(before, now)| now.idle_ms.saturating_sub(before.idle_ms)).fold(0, i64::max)
}
