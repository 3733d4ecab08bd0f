//! The policy `ray-v2`: Ray's own v2 scheduler, re-implemented.

mod availability;
mod cluster;
mod ending;
mod fill;
mod outcome;
mod pass;
mod schedule;
mod state;
mod tables;

pub use fill::{ScoreEntry, Standing};
pub use outcome::{Outcome, schedule, schedule_without};

use crate::{Memory, Plan, Policy, Snapshot};

/// Ray 2.60's v2 scheduler, in whole replicas. See the module documentation for how it differs from Ray's.
#[derive(Copy, Clone, Debug, Default)]
pub struct RayV2;

impl Policy for RayV2 {
    fn name(&self) -> &'static str {
        "ray-v2"
    }

    fn plan(&self, snapshot: &Snapshot, memory: &Memory) -> (Plan, Memory) {
        let plan = Plan { policy: self.name().to_owned(), versions: snapshot.versions.clone(), ..Plan::default() };
        (plan, memory.clone())
    }
}
