//! Runs side by side with Ray's own scheduler and autoscaler, and with KubeRay's operator; each prints a table for `benches/RESULTS.md`.
//!
//! `cargo build --release && cargo run --release -p mobula-benches -- scheduler|memory|reaction|footprint|cost|operators|simulator|fidelity`

// Measures real time, and starts itself again.
#![allow(clippy::disallowed_methods)]

mod cost;
mod fidelity;
mod footprint;
mod memory;
mod operators;
mod reaction;
mod scheduler;
mod simulator;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use mobula_benches::classes::Size;

/// As in `mobula`: parts of it are measured in this program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Runs side by side with Ray's own scheduler and autoscaler, and with KubeRay's operator.
#[derive(Parser)]
enum Run {
    /// CPU time of ray-v2 against that of Ray's own scheduler.
    Scheduler,
    /// Memory of one tick at each kept size.
    Memory,
    /// From demand to patch.
    Reaction {
        /// Rounds with Mobula in each scenario.
        #[arg(long, default_value_t = 200)]
        rounds: u32,
        /// Rounds with Ray's autoscaler, at most 10.
        #[arg(long, default_value_t = 10)]
        ray_rounds: u32,
    },
    /// Memory, CPU time and requests to the API server.
    Footprint {
        /// Seconds over which each line is measured.
        #[arg(long, default_value_t = 60)]
        span_s: u64,
    },
    /// What launches cost over the least that they could, in sixteen classes of problems.
    Cost {
        /// Sizes of the problems.
        #[arg(long, value_delimiter = ',', default_value = "small,medium,large")]
        sizes: Vec<Size>,
        /// Problems of each class and size.
        #[arg(long, default_value_t = 5)]
        seeds: u64,
        /// Work that is spent within a tick beyond what small problems get.
        #[arg(long, default_value_t = 0)]
        tick_work: u64,
        /// Work that takes about 100 ms.
        #[arg(long, default_value_t = 1_000_000)]
        improve_work: u64,
    },
    /// `mobula operator` beside KubeRay's.
    Operators(operators::Options),
    /// CPU time and memory of `mobula simulate`.
    Simulator {
        /// Clusters of the crowd.
        #[arg(long, default_value_t = 100)]
        clusters: usize,
        /// Nodes of the crowd.
        #[arg(long, default_value_t = 1_000)]
        nodes: usize,
        /// Days of Philly that run through the whole control plane.
        #[arg(long, default_value_t = 14)]
        days: u32,
        /// Directory with philly_adaptdl.csv.
        #[arg(long)]
        traces: Option<PathBuf>,
    },
    /// `mobula simulate` beside real parts.
    Fidelity {
        /// The scenarios; times in them are numbers of seconds.
        #[arg(default_values_os_t = fidelity::scenarios())]
        scenarios: Vec<PathBuf>,
        /// Mobula's binary; without it, the one beside this program.
        #[arg(long)]
        mobula: Option<PathBuf>,
    },
    /// What `memory` runs in a child process, too.
    #[command(hide = true)]
    OnePlan,
    /// What `memory` runs in child processes.
    #[command(hide = true)]
    OneTick {
        /// What the GCS says.
        reply: PathBuf,
        /// The RayCluster as JSON.
        cluster: PathBuf,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Run::parse() {
        Run::Scheduler => scheduler::run(),
        Run::Memory => memory::run(),
        Run::Reaction { rounds, ray_rounds } => reaction::run(rounds, ray_rounds).await,
        Run::Footprint { span_s } => footprint::run(Duration::from_secs(span_s)).await,
        Run::Cost { sizes, seeds, tick_work, improve_work } => cost::run(&sizes, seeds, tick_work, improve_work),
        Run::Operators(options) => operators::run(&options).await,
        Run::Simulator { clusters, nodes, days, traces } => {
            simulator::run(clusters, nodes, days, traces.as_deref()).await
        }
        Run::Fidelity { scenarios, mobula } => fidelity::run(&scenarios, mobula.as_deref()).await,
        Run::OnePlan => memory::one_plan(),
        Run::OneTick { reply, cluster } => memory::one_tick(&reply, &cluster),
    }
}
