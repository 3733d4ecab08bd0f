//! Snapshot in, plan out.
//!
//! [`Policy::plan`] is a plain function from a [`Snapshot`] (everything that was observed, in the planner's own words) and
//! a [`Memory`] (the little that must be remembered between ticks) to a [`Plan`] and the next memory. There is no clock, no
//! randomness, no input and no output in this crate: the same input gives the same plan on every machine.

mod amount;
mod census;
mod given_up;
mod lint;
mod memory;
mod plan;
pub mod ray_v2;
mod snapshot;
mod words;

pub use amount::{Amount, Labels, Resources};
pub use lint::{Severity, Violation, lint};
pub use memory::{Blocked, Memory};
pub use plan::{
    Cost, DemandRef, DrainKind, GangPlan, GroupPlan, Launch, MAX_LAUNCHES, Placement, Plan, Reason, Resize, Target,
    Terminate, TerminateCause, Unmet, UnmetCause, UnmetKind, Verdict,
};
pub use ray_v2::RayV2;
pub use snapshot::{
    Bundle, CapacityType, Constraint, DemandClass, FabricWish, Gang, GangStrategy, GroupFacts, Host, LabelConstraint,
    LabelOperator, LabelSelector, Locality, Node, NodePhase, NodeResize, NodeType, Offering, Patience, PendingCause,
    PlacementConstraint, Quota, Request, ResizeSpec, Settings, Snapshot, TopologyLevel, UpscalingMode, Versions,
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

/// The policy that users select by `name`; `None` if there is none of that name.
pub fn policy(name: &str) -> Option<&'static dyn Policy> {
    const POLICIES: [&dyn Policy; 1] = [&RayV2];
    POLICIES.into_iter().find(|policy| policy.name() == name)
}

/// The names that [`policy`] knows, the default first.
pub fn policy_names() -> &'static [&'static str] {
    &["ray-v2"]
}
