//! The numbers of a run, for people and programs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::measure::{Measures, Waits};
use crate::span::Span;

/// Waits of one kind of work, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WaitSummary {
    /// How many.
    pub count: u64,
    /// Mean.
    pub mean_s: f64,
    /// Median.
    pub p50_s: f64,
    /// 99th percentile.
    pub p99_s: f64,
}

impl WaitSummary {
    fn of(waits: &Waits) -> WaitSummary {
        WaitSummary {
            count: waits.count(),
            mean_s: rounded(waits.mean_s()),
            p50_s: waits.percentile_s(50.0),
            p99_s: waits.percentile_s(99.0),
        }
    }
}

/// The numbers of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Policy.
    pub policy: String,
    /// Seed.
    pub seed: u64,
    /// Simulated time in seconds.
    pub horizon_s: f64,
    /// Waits of tasks and actors.
    pub task_wait: WaitSummary,
    /// Waits of gangs.
    pub gang_wait: WaitSummary,
    /// Tasks and actors: submitted, ended, waiting at the end.
    pub tasks: [u64; 3],
    /// Gangs: submitted, ended, waiting at the end.
    pub gangs: [u64; 3],
    /// Hours of Kubernetes nodes.
    pub node_hours: f64,
    /// Hours of GPUs that were there.
    pub gpu_hours_bought: f64,
    /// Hours of GPUs that work had.
    pub gpu_hours_used: f64,
    /// Hours of GPUs that were free on nodes where no pod that asks for GPUs would have fitted.
    pub gpu_hours_stranded: f64,
    /// Hours of CPUs that work had.
    pub cpu_hours_used: f64,
    /// What nodes cost.
    pub cost: f64,
    /// Pods created.
    pub pods_made: u64,
    /// Kubernetes nodes that came.
    pub nodes_made: u64,
    /// Ray containers that failed.
    pub pods_failed: u64,
    /// Ray nodes that left because of a drain.
    pub drained: u64,
    /// Pods pushed out by others.
    pub preempted: u64,
    /// Orders of nodes that met no capacity.
    pub stock_outs: u64,
    /// Faults that befell somebody.
    pub faults: u64,
    /// Spot nodes taken away.
    pub reclaimed: u64,
    /// Running work that was lost.
    pub disruptions: u64,
    /// Patches of RayClusters by sidecars.
    pub patches: u64,
    /// Requests of sidecars to the API server.
    pub sidecar_requests: u64,
    /// Requests of operators to the API server.
    pub operator_requests: u64,
    /// Those of sidecars, and how often each was made: verb and resource, `get rayclusters`.
    pub sidecar_requests_by_kind: BTreeMap<String, u64>,
    /// Those of operators.
    pub operator_requests_by_kind: BTreeMap<String, u64>,
    /// Calls of GCSs.
    pub gcs_calls: u64,
    /// Lines of the log.
    pub events: u64,
    /// SHA-256 of the log.
    pub hash: String,
}

/// To a millionth: enough for everybody, and the same in text and back.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

impl Summary {
    /// The numbers of what was counted.
    pub fn of(measures: &Measures, policy: &str, seed: u64, horizon: Span, hash: &str, events: u64) -> Summary {
        let [sidecar_requests, operator_requests] =
            [&measures.sidecar_requests, &measures.operator_requests].map(|all| -> BTreeMap<String, u64> {
                all.iter().map(|((verb, resource), times)| (format!("{} {resource}", verb.as_str()), *times)).collect()
            });
        Summary {
            policy: policy.to_owned(),
            seed,
            horizon_s: horizon.as_f64_s(),
            task_wait: WaitSummary::of(&measures.task_waits),
            gang_wait: WaitSummary::of(&measures.gang_waits),
            tasks: [measures.tasks, measures.tasks_done, measures.tasks_unmet],
            gangs: [measures.gangs, measures.gangs_done, measures.gangs_unmet],
            node_hours: rounded(measures.node_hours),
            gpu_hours_bought: rounded(measures.gpu_hours_bought),
            gpu_hours_used: rounded(measures.gpu_hours_used),
            gpu_hours_stranded: rounded(measures.gpu_hours_stranded),
            cpu_hours_used: rounded(measures.cpu_hours_used),
            cost: rounded(measures.cost),
            pods_made: measures.pods_made,
            nodes_made: measures.nodes,
            pods_failed: measures.pods_failed,
            drained: measures.drained,
            preempted: measures.preempted,
            stock_outs: measures.stock_outs,
            faults: measures.faults,
            reclaimed: measures.reclaimed,
            disruptions: measures.disruptions,
            patches: sidecar_requests.get("patch rayclusters").copied().unwrap_or_default(),
            sidecar_requests: sidecar_requests.values().sum(),
            operator_requests: operator_requests.values().sum(),
            sidecar_requests_by_kind: sidecar_requests,
            operator_requests_by_kind: operator_requests,
            gcs_calls: measures.gcs_calls,
            events,
            hash: hash.to_owned(),
        }
    }
}
