//! Plans the problem at full size once, for a tool that counts instructions or allocations.
//!
//! ```text
//! CARGO_PROFILE_RELEASE_STRIP=false cargo build --release -p mobula-benches --example plan_once
//! valgrind --tool=callgrind --toggle-collect='plan_once::last_tick' target/release/examples/plan_once cold
//! ```
//!
//! `cold`: full size. `changed`: the next tick, in which one node in a hundred has changed; the tick before is not counted.
//! `bundles`, `tasks`: the public complaints. A number: so many requests on 1,000 nodes. `nothing`: no plan is made.
// What goes wrong in a measurement should end it, and the clock is looked at.
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use mobula_benches::full_size::{self, FULL_SIZE, Mix};
use mobula_planner::{Cache, Memory, Plan, Policy, PolicyOptions, Snapshot, policy};

fn main() -> anyhow::Result<()> {
    let what = std::env::args().nth(1).context("what is to be planned?")?;
    let policy = policy("mobula", &PolicyOptions::default()).context("there is no such policy")?;
    let full_size = full_size::mix(FULL_SIZE, 1);
    let (before, last) = match what.as_str() {
        "nothing" => return Ok(()),
        "cold" => (None, full_size),
        "changed" => {
            let changed = full_size::one_percent_changed(&full_size);
            (Some(full_size), changed)
        }
        "bundles" => (None, full_size::ten_thousand_bundles()),
        "tasks" => (None, full_size::many_tasks_on_many_nodes()),
        number => {
            let requests = number.parse().with_context(|| format!("{number} is no number"))?;
            (None, full_size::mix(Mix { requests, nodes: 1_000, gangs: 0, ..FULL_SIZE }, 1))
        }
    };
    let (mut cache, mut memory) = (Cache::default(), Memory::default());
    if let Some(before) = before.map(Arc::new) {
        memory = cache.plan(&*policy, &before, &memory).1;
    }
    let last = Arc::new(last);
    let start = Instant::now();
    let plan = last_tick(&mut cache, &*policy, &last, &memory);
    println!("{what}: {:.2?}, {} places", start.elapsed(), plan.placements.len());
    Ok(())
}

/// What is counted.
#[inline(never)]
fn last_tick(cache: &mut Cache, policy: &dyn Policy, snapshot: &Arc<Snapshot>, memory: &Memory) -> Arc<Plan> {
    cache.plan(policy, snapshot, memory).0
}
