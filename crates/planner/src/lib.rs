//! Snapshot in, plan out.
//!
//! [`Policy::plan`] is a plain function from a [`Snapshot`] (everything that was observed, in the planner's own words) and
//! a [`Memory`] (the little that must be remembered between ticks) to a [`Plan`] and the next memory. There is no clock, no
//! randomness, no input and no output in this crate: the same input gives the same plan on every machine.

mod amount;
mod memory;
mod plan;
mod snapshot;

pub use amount::{Amount, Labels, Resources};
pub use memory::Memory;
pub use plan::{
    DrainKind, GroupPlan, Launch, Plan, Reason, Resize, Terminate, TerminateCause, Unmet, UnmetCause, UnmetKind, Verdict,
};
pub use snapshot::{
    Bundle, Constraint, DemandClass, Gang, GangStrategy, GroupFacts, LabelConstraint, LabelOperator, LabelSelector,
    Locality, Node, NodePhase, NodeResize, NodeType, PlacementConstraint, Request, ResizeSpec, Settings, Snapshot,
    UpscalingMode, Versions,
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
