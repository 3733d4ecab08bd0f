//! Plans the problem at full size once, for a tool that counts instructions or allocations.
//!
//! ```text
//! CARGO_PROFILE_RELEASE_STRIP=false cargo build --release -p mobula-benches --example plan_once
//! valgrind --tool=callgrind --toggle-collect='*Mobula*Policy*plan*' target/release/examples/plan_once cold
//! ```
//!
//! `cold`: full size. `changed`: the next tick, in which one node in a hundred is another; what is counted is both ticks.
//! `bundles`, `tasks`: the public complaints. A number: so many requests on 1,000 nodes. `nothing`: no plan is made.
// What goes wrong in a measurement should end it, and the clock is looked at.
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use mobula_benches::full_size::{self, FULL_SIZE, Mix};
use mobula_planner::{Cache, Memory, PolicyOptions, policy};

fn main() -> anyhow::Result<()> {
    let what = std::env::args().nth(1).context("what is to be planned?")?;
    let policy = policy("mobula", &PolicyOptions::default()).context("there is no such policy")?;
    let full_size = full_size::mix(FULL_SIZE, 1);
    let ticks = match what.as_str() {
        "nothing" => vec![],
        "cold" => vec![full_size],
        "changed" => vec![full_size.clone(), full_size::one_percent_changed(&full_size)],
        "bundles" => vec![full_size::ten_thousand_bundles()],
        "tasks" => vec![full_size::many_tasks_on_many_nodes()],
        number => {
            let requests = number.parse().with_context(|| format!("{number} is no number"))?;
            vec![full_size::mix(Mix { requests, nodes: 1_000, gangs: 0, ..FULL_SIZE }, 1)]
        }
    };
    let (mut cache, mut memory) = (Cache::default(), Memory::default());
    for snapshot in ticks.into_iter().map(Arc::new) {
        let start = Instant::now();
        let (plan, next) = cache.plan(&*policy, &snapshot, &memory);
        let took = start.elapsed();
        println!("{what}: {took:.2?}, {} places", plan.placements.len());
        memory = next;
    }
    Ok(())
}
