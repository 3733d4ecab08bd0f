//! The policy `ray-v2`: Ray 2.60's own v2 scheduler, re-implemented.
//!
//! It decides as `ray.autoscaler.v2.scheduler` does, so that Mobula can take the Python autoscaler's place without surprises,
//! and so that other policies have something to be compared with. The order of business is Ray's: outdated nodes, minima,
//! maxima, `request_resources`, gangs, tasks and actors, idle nodes ([`schedule()`] answers in pods, as Ray's scheduler does).
//! It is fast because nodes in the same state and requests of the same class are handled once, whatever their number.
//!
//! [`RayV2`] turns that answer into a plan, and differs from the whole of Ray's autoscaler on purpose:
//! - It launches and ends whole replicas of multi-host groups. Ray counts pods and drops what is not a whole replica.
//! - It launches all at once, up to [`MAX_LAUNCHES`](crate::MAX_LAUNCHES) pods, unless the settings limit the rate. Ray
//!   launches ten pods a round.
//! - Pods that nobody manages are capacity, and pods of suspended groups are not.
//! - It says whether unmet demand waits, meets a limit, or can never be met. Ray calls all of it infeasible.
//! - It does not launch and end nodes of one group at once.
//! - The order in which the GCS lists tasks does not matter.

mod availability;
mod budget;
mod cluster;
mod ending;
mod fill;
mod fits;
mod outcome;
mod pass;
mod replicas;
mod report;
mod schedule;
mod served;
mod state;
mod tables;

pub use fill::{ScoreEntry, Standing};
pub use outcome::{Outcome, schedule, schedule_without};

use crate::roster::roster;
use crate::{Memory, Plan, Policy, Snapshot, given_up};

/// Ray 2.60's v2 scheduler, in whole replicas.
#[derive(Copy, Clone, Debug, Default)]
pub struct RayV2;

impl Policy for RayV2 {
    fn name(&self) -> &'static str {
        "ray-v2"
    }

    fn plan(&self, snapshot: &Snapshot, memory: &Memory) -> (Plan, Memory) {
        let given_up = given_up::find(snapshot, &roster(snapshot), snapshot.settings.most_pending_ms());
        let mut memory = memory.clone();
        availability::remember(snapshot, &given_up.failed_groups, &mut memory);
        let mut task_order: Vec<usize> = (0..snapshot.demand.len()).collect();
        task_order.sort_by(|&a, &b| snapshot.demand[a].request.cmp(&snapshot.demand[b].request));
        let work = tables::Work::new(snapshot, &task_order);
        let mut decision = replicas::decide_in_replicas(snapshot, &memory, &given_up.nodes, &work);
        let mut held_back = replicas::hold_back(&mut decision);
        replicas::note_cut(&decision, &mut held_back);
        replicas::keep_idle_where_launching(&mut decision);
        let next_memory = decision.memory.clone();
        let replicas = replicas::count(&decision);
        let (work, decision, given_up) = (&work, &mut decision, &given_up);
        let report = report::Report { snapshot, work, decision, given_up, replicas, held_back };
        (report.plan(self.name()), next_memory)
    }
}
