//! Snapshot in, plan out.
//!
//! [`Policy::plan`] is a plain function from a [`Snapshot`] (everything that was observed, in the planner's own words) and
//! a [`Memory`] (the little that must be remembered between ticks) to a [`Plan`] and the next memory. There is no clock, no
//! randomness, no input and no output in this crate: the same input gives the same plan on every machine.

pub mod admission;
mod amount;
mod cache;
mod census;
mod given_up;
mod hosts;
mod lint;
mod memory;
mod mobula;
mod nodes;
pub mod packing;
pub mod placement;
mod plan;
mod quick_hash;
pub mod ray_v2;
mod roster;
mod snapshot;
pub mod topology;
pub mod topology_presets;
mod words;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use amount::{Amount, Labels, Resources};
pub use cache::Cache;
pub use hosts::Hosts;
pub use lint::{Severity, Violation, apply, idempotence, lint, monotonicity};
pub use memory::{Blocked, Memory};
pub use mobula::Mobula;
pub use nodes::Nodes;
pub use plan::{
    Cost, DemandRef, DrainKind, GangPlan, GroupPlan, Launch, MAX_LAUNCHES, Move, Placement, Plan, Reason, Resize,
    Target, Terminate, TerminateCause, Unmet, UnmetCause, UnmetKind, Verdict,
};
pub use ray_v2::RayV2;
pub use snapshot::{
    Bundle, CapacityType, Constraint, DemandClass, FabricWish, Gang, GangStrategy, GroupFacts, Host, LabelConstraint,
    LabelOperator, LabelSelector, Locality, Nearness, Node, NodePhase, NodeResize, NodeType, Offering, Patience,
    PendingCause, PlacementConstraint, Quota, Request, ResizeSpec, Settings, Snapshot, TopologyLevel, UpscalingMode,
    Versions,
};

/// A way of deciding. Policies are values: stateless, shareable, compared in benchmarks by running one snapshot through each.
pub trait Policy: Send + Sync {
    /// The name by which a user selects the policy (`--policy NAME`).
    fn name(&self) -> &'static str;

    /// Decides what should change.
    ///
    /// Total: every snapshot has a plan. What can't be served is in [`Plan::unmet`], with its reason.
    fn plan(&self, snapshot: &Snapshot, memory: &Memory) -> (Plan, Memory);
}

/// What users choose about a policy beside its name. A policy takes what it knows and leaves the rest: `ray-v2` knows none.
///
/// Together with the name they say all about a policy, so a recording that holds both can be planned again.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyOptions {
    /// Most work that may be spent on making a plan cheaper once it is made, in units of work (never in time: the same
    /// number gives the same plan on every machine); 0: the plan is taken as it is made first.
    pub improve_work: u64,
    /// Requests without GPU never go to groups with GPUs, not even if nothing else can take them.
    pub keep_gpu_clean: bool,
    /// Nodes are named that could be drained because others have room for all that they run: see [`Plan::moves`].
    pub defragment: bool,
}

/// The policy that users select by `name`; `None` if there is none of that name.
pub fn policy(name: &str, options: &PolicyOptions) -> Option<Arc<dyn Policy>> {
    match name {
        "mobula" => Some(Arc::new(Mobula { options: *options })),
        "ray-v2" => Some(Arc::new(RayV2)),
        _ => None,
    }
}

/// The names that [`policy`] knows, the default first.
pub fn policy_names() -> &'static [&'static str] {
    &["mobula", "ray-v2"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_found_by_the_name_that_it_gives_itself() {
        for name in policy_names() {
            let policy = policy(name, &PolicyOptions::default());
            assert_eq!(policy.map(|policy| policy.name()), Some(*name));
        }
        assert!(policy("none", &PolicyOptions::default()).is_none());
    }
}
