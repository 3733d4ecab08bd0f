//! The experiment of Weng et al., "Beware of Fragmentation" (USENIX ATC 2023).
//!
//! One run has one seed. The pods of a trace, sorted by name and shuffled, arrive one by one, and after them pods drawn from the
//! trace, until the next would bring the GPUs asked for above 130 % of the cluster's. They never leave; one that fits nowhere is
//! dropped. The result is the share of the cluster's GPUs that is allocated in the end. The shuffles are our own, so that a seed
//! here is not the run of the same seed there; the published numbers are means over ten.

use std::fmt;

use mobula_planner::placement::{Cluster, GPU_MILLI, GpuNode, NodeChoice, ShapeId, TieBreak, TooVaried, Workload};

use crate::Seeded;
use crate::openb::Pod;

/// Seed of the first run, as in the authors' scripts.
pub const FIRST_SEED: u64 = 42;

/// Pods arrive until they ask for so many percent of the cluster's GPUs.
const ARRIVALS_PERCENT: u64 = 130;

/// Most pods that may arrive in one run.
const MAX_ARRIVALS: usize = 10_000_000;

/// Which of the nodes with the best score is taken.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// The first in an order that is shuffled once a run, as in the authors' simulator.
    #[default]
    Shuffled,
    /// The first in the list of nodes.
    Listed,
    /// One that is drawn anew for each pod.
    Drawn,
}

/// A cluster and the pods that may come.
#[derive(Clone, Debug)]
pub struct Experiment {
    nodes: Vec<GpuNode>,
    workload: Workload,
    gpu_milli: u64,
}

/// Nodes or pods with which there is nothing to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadExperiment {
    /// The list of nodes is at fault.
    Nodes(String),
    /// The list of pods is at fault.
    Pods(String),
}

impl fmt::Display for BadExperiment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (BadExperiment::Nodes(problem) | BadExperiment::Pods(problem)) = self;
        f.write_str(problem)
    }
}

impl std::error::Error for BadExperiment {}

impl From<TooVaried> for BadExperiment {
    fn from(error: TooVaried) -> Self {
        BadExperiment::Pods(error.to_string())
    }
}

impl Experiment {
    /// The experiment with these nodes and pods.
    pub fn new(nodes: Vec<GpuNode>, mut pods: Vec<Pod>) -> Result<Self, BadExperiment> {
        let gpus: u64 = nodes.iter().map(|node| u64::from(node.gpus())).sum();
        if gpus == 0 {
            return Err(BadExperiment::Nodes("gpu: 0: at least one node must have a GPU".to_owned()));
        }
        if pods.iter().all(|pod| pod.request.total_gpu_milli() == 0) {
            return Err(BadExperiment::Pods("num_gpu: 0: at least one pod must ask for a GPU".to_owned()));
        }
        pods.sort();
        let requests: Vec<_> = pods.into_iter().map(|pod| pod.request).collect();
        Ok(Experiment { nodes, workload: Workload::new(&requests)?, gpu_milli: gpus * u64::from(GPU_MILLI) })
    }

    /// GPUs of the cluster.
    pub fn gpus(&self) -> u64 {
        self.gpu_milli / u64::from(GPU_MILLI)
    }

    /// Pods of the trace.
    pub fn pods(&self) -> usize {
        self.workload.pods().len()
    }

    /// One run: allocated GPUs in percent of the cluster's.
    pub fn run(&self, choice: NodeChoice, ties: Ties, seed: u64) -> Result<f64, BadExperiment> {
        let seeded = Seeded::new(seed);
        let [mut order, mut arrivals, mut draws] = [1, 2, 3].map(|purpose| seeded.child(purpose));
        let mut nodes = self.nodes.clone();
        if ties == Ties::Shuffled {
            order.shuffle(&mut nodes);
        }
        let tie_break = if ties == Ties::Drawn { TieBreak::Drawn } else { TieBreak::First };
        let mut cluster = Cluster::new(choice, tie_break, &nodes, &self.workload)?;
        for pod in self.arrivals(&mut arrivals)? {
            cluster.place(pod, draws.draw());
        }
        Ok(100.0 * cluster.allocated_gpu_milli() as f64 / self.gpu_milli as f64)
    }

    fn arrivals(&self, seeded: &mut Seeded) -> Result<Vec<ShapeId>, BadExperiment> {
        let all = self.workload.pods();
        let most = u128::from(self.gpu_milli) * u128::from(ARRIVALS_PERCENT) / 100;
        let mut arrivals = all.to_vec();
        seeded.shuffle(&mut arrivals);
        let mut asked = 0_u128;
        for index in 0..MAX_ARRIVALS {
            if index == arrivals.len() {
                arrivals.extend(all.get(seeded.below(all.len())));
            }
            let request = arrivals.get(index).and_then(|pod| self.workload.request(*pod));
            asked += request.map_or(0, |request| u128::from(request.total_gpu_milli()));
            if asked > most {
                arrivals.truncate(index);
                return Ok(arrivals);
            }
        }
        let problem = format!("num_gpu: more than {MAX_ARRIVALS} pods would have to arrive to ask for all GPUs");
        Err(BadExperiment::Pods(problem))
    }
}

/// Mean and standard deviation (of a sample; 0 for one run) of the results of several runs.
pub fn mean_and_sd(results: &[f64]) -> (f64, f64) {
    let count = results.len() as f64;
    let mean = results.iter().sum::<f64>() / count.max(1.0);
    let squares: f64 = results.iter().map(|result| (result - mean) * (result - mean)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}

/// What was published for a trace and a policy: the mean of ten runs, in percent, computed from the authors' result of each run.
pub fn published(trace: &str, choice: NodeChoice) -> Option<f64> {
    let (_, means) = PUBLISHED.iter().find(|(name, _)| *name == trace)?;
    NodeChoice::ALL.iter().zip(means).find(|(of, _)| **of == choice).map(|(_, mean)| *mean)
}

/// In the order of [`NodeChoice::ALL`].
const PUBLISHED: [(&str, [f64; 6]); 17] = [
    ("default", [87.47, 90.85, 91.88, 92.00, 93.08, 95.39]),
    ("cpu050", [91.24, 93.27, 93.79, 93.72, 93.79, 95.21]),
    ("cpu100", [89.11, 91.96, 92.64, 92.72, 93.44, 95.35]),
    ("cpu200", [83.77, 87.70, 89.92, 90.23, 92.40, 95.05]),
    ("cpu250", [80.42, 83.81, 87.99, 88.28, 91.45, 93.41]),
    ("gpushare40", [86.00, 89.56, 90.02, 90.03, 91.69, 94.15]),
    ("gpushare60", [83.65, 87.12, 87.20, 87.45, 89.36, 91.40]),
    ("gpushare80", [81.22, 84.49, 84.85, 85.00, 87.01, 89.31]),
    ("gpushare100", [79.44, 82.42, 82.65, 82.57, 85.01, 86.90]),
    ("gpuspec10", [87.43, 90.39, 92.18, 92.46, 93.31, 94.95]),
    ("gpuspec20", [87.24, 89.97, 92.25, 92.94, 93.30, 94.84]),
    ("gpuspec25", [86.94, 89.63, 92.08, 92.98, 93.23, 94.74]),
    ("gpuspec33", [86.46, 89.14, 92.12, 93.22, 93.09, 94.55]),
    ("multigpu20", [88.69, 92.06, 93.56, 93.71, 93.93, 95.65]),
    ("multigpu30", [89.27, 93.28, 94.72, 94.87, 94.72, 96.46]),
    ("multigpu40", [90.09, 94.19, 95.50, 95.74, 95.24, 96.99]),
    ("multigpu50", [90.28, 94.85, 95.81, 96.18, 95.74, 97.18]),
];

#[cfg(test)]
mod tests;
