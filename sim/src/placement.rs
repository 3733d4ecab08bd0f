//! Placement mode: the jobs of a scenario's trace on its nodes, without a control plane. All nodes of all pools are there from the
//! beginning, `most` included; nothing fails.

use mobula_planner::placement::{GpuNode, NodeChoice};
use mobula_traces::capacity::{self, Queue, Setting, Usage};
use serde::Serialize;

use crate::scenario::{QueueOrder, Scenario};
use crate::world;

/// The numbers of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlacementSummary {
    /// Which node takes a job.
    pub policy: &'static str,
    /// Seed.
    pub seed: u64,
    /// Jobs: in the trace, those of more than one bundle, those that never fit.
    pub jobs: [u64; 3],
    /// Mean wait.
    pub wait_mean_s: f64,
    /// Median wait.
    pub wait_p50_s: f64,
    /// Wait that 99 of 100 do not exceed.
    pub wait_p99_s: f64,
    /// From the first arrival to the last end.
    pub hours: f64,
    /// GPUs of all nodes.
    pub gpus: f64,
    /// Most GPUs in use at once.
    pub most_gpus: f64,
    /// Hours of GPUs that jobs had.
    pub gpu_hours_used: f64,
    /// Mean share of GPUs in use until the last arrival.
    pub used_share: f64,
    /// Mean share of GPUs that were free and of no use to typical jobs until the last arrival.
    pub fragmented_share: f64,
}

/// What a scenario can't be placed for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlacement {
    /// It has no trace.
    #[error("trace: is missing: placement mode runs the jobs of a trace")]
    Trace,
    /// A pool can't be used.
    #[error("nodes: {pool}: {problem}")]
    Pool {
        /// Name.
        pool: String,
        /// Why.
        problem: String,
    },
    /// The trace can't be used.
    #[error("trace: {0}")]
    Jobs(String),
}

/// All nodes of a scenario. The model of their GPUs is the label `nvidia.com/gpu.product`.
fn nodes(scenario: &Scenario) -> Result<Vec<GpuNode>, NoPlacement> {
    let mut nodes = Vec::new();
    for pool in scenario.nodes.iter().map(|pool| &pool.value) {
        let capacity = world::capacity(pool);
        let amount = |name: &str| capacity.get(name).map_or(0.0, |amount| amount.as_f64());
        let whole = |amount: f64| amount.round().clamp(0.0, f64::from(u32::MAX)) as u32;
        let gpus = whole(amount("nvidia.com/gpu") + amount("amd.com/gpu"));
        let memory_mib = amount("memory") / f64::from(1_u32 << 20);
        let model = pool.labels.get("nvidia.com/gpu.product").map_or("", String::as_str);
        let node = GpuNode::new(whole(amount("cpu") * 1e3), whole(memory_mib), gpus, model)
            .map_err(|bad| NoPlacement::Pool { pool: pool.name.clone(), problem: bad.to_string() })?;
        nodes.extend(std::iter::repeat_n(node, pool.count as usize + pool.most as usize));
    }
    Ok(nodes)
}

/// Runs the trace of a scenario.
///
/// # Errors
/// If it has none, or pools or jobs can't be used.
pub fn run(scenario: &Scenario, choice: NodeChoice, seed: u64) -> Result<PlacementSummary, NoPlacement> {
    let Some(trace) = &scenario.trace else { return Err(NoPlacement::Trace) };
    let queue = match trace.value.queue {
        QueueOrder::Backfill => Queue::Backfill,
        QueueOrder::Fifo => Queue::Fifo,
    };
    let usage = capacity::run(&nodes(scenario)?, &scenario.jobs, Setting { choice, queue, seed });
    let usage: Usage = usage.map_err(|bad| NoPlacement::Jobs(bad.to_string()))?;
    Ok(PlacementSummary {
        policy: choice.name(),
        seed,
        jobs: [usage.jobs, usage.gangs, usage.unfit],
        wait_mean_s: usage.mean_wait_s(),
        wait_p50_s: usage.percentile_s(50.0),
        wait_p99_s: usage.percentile_s(99.0),
        hours: usage.hours,
        gpus: usage.gpus,
        most_gpus: usage.most_gpus,
        gpu_hours_used: usage.gpu_hours_used,
        used_share: usage.used_share,
        fragmented_share: usage.fragmented_share,
    })
}
