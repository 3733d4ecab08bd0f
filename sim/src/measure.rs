//! What is counted during a run. Its size does not grow with time.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use mobula_apiserver::Verb;

use crate::ray::Notice;
use crate::span::Span;
use crate::world::Key;

/// Waits are kept to three digits, from 1 ms to a month.
const MOST_MS: u64 = 31 * 86_400_000;

/// Waits of one kind of work.
#[derive(Clone, Debug)]
pub struct Waits {
    histogram: Option<Histogram<u64>>,
}

impl Default for Waits {
    fn default() -> Self {
        // Refused only for bounds and digits that there are not; then nothing is kept.
        Waits { histogram: Histogram::new_with_bounds(1, MOST_MS, 3).ok() }
    }
}

impl Waits {
    fn add(&mut self, wait_us: u64) {
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record((wait_us / 1_000).max(1));
        }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// The wait that so many percent do not exceed, in seconds.
    pub fn percentile_s(&self, percent: f64) -> f64 {
        let some = self.histogram.as_ref().filter(|histogram| !histogram.is_empty());
        some.map_or(0.0, |histogram| histogram.value_at_percentile(percent) as f64 / 1e3)
    }

    /// The mean, in seconds.
    pub fn mean_s(&self) -> f64 {
        self.histogram.as_ref().map_or(0.0, |histogram| histogram.mean() / 1e3)
    }
}

/// How much of a resource was in use over time.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    since_us: u64,
    now: (f64, f64),
}

/// Everything that is counted.
#[derive(Clone, Debug, Default)]
pub struct Measures {
    /// Waits of tasks and actors, those that still wait included.
    pub task_waits: Waits,
    /// Waits of gangs, those that still wait included.
    pub gang_waits: Waits,
    /// Tasks and actors submitted.
    pub tasks: u64,
    /// Gangs submitted.
    pub gangs: u64,
    /// Tasks and actors that ended.
    pub tasks_done: u64,
    /// Gangs that ended.
    pub gangs_done: u64,
    /// Tasks and actors that wait at the end.
    pub tasks_unmet: u64,
    /// Gangs that wait at the end.
    pub gangs_unmet: u64,
    /// Running work that was lost.
    pub disruptions: u64,
    /// Pods created.
    pub pods_made: u64,
    /// Ray containers that failed.
    pub pods_failed: u64,
    /// Pods pushed out by others.
    pub preempted: u64,
    /// Ray nodes that left because of a drain.
    pub drained: u64,
    /// Orders that met no capacity.
    pub stock_outs: u64,
    /// Faults that befell somebody.
    pub faults: u64,
    /// Spot nodes taken away.
    pub reclaimed: u64,
    /// Kubernetes nodes that came.
    pub nodes: u64,
    /// Hours of Kubernetes nodes.
    pub node_hours: f64,
    /// Hours of their GPUs.
    pub gpu_hours_bought: f64,
    /// Hours of GPUs that work had.
    pub gpu_hours_used: f64,
    /// Hours of CPUs that work had.
    pub cpu_hours_used: f64,
    /// What nodes cost.
    pub cost: f64,
    /// Calls of GCSs.
    pub gcs_calls: u64,
    /// Requests of sidecars to the API server.
    pub sidecar_requests: BTreeMap<(Verb, String), u64>,
    /// Requests of operators to the API server.
    pub operator_requests: BTreeMap<(Verb, String), u64>,
    /// Hours of GPUs that were free and of no use.
    pub gpu_hours_stranded: f64,
    stranded: (u64, f64),
    uses: BTreeMap<Key, Use>,
}

impl Measures {
    /// Something began or ended.
    pub fn hear(&mut self, notice: &Notice) {
        match notice {
            Notice::TaskStarted { waited_us } => self.task_waits.add(*waited_us),
            Notice::GangPlaced { waited_us } => self.gang_waits.add(*waited_us),
            Notice::TaskDone => self.tasks_done += 1,
            Notice::GangDone => self.gangs_done += 1,
            Notice::Disrupted => self.disruptions += 1,
        }
    }

    /// So many CPUs and GPUs of a cluster are in use from now on.
    pub fn uses(&mut self, cluster: &Key, now_us: u64, now: (f64, f64)) {
        let (hours, before) = match self.uses.get_mut(cluster) {
            Some(known) => {
                let hours = Span::from_us(now_us.saturating_sub(known.since_us)).as_f64_s() / 3_600.0;
                let before = std::mem::replace(known, Use { since_us: now_us, now }).now;
                (hours, before)
            }
            None => {
                self.uses.insert(cluster.clone(), Use { since_us: now_us, now });
                return;
            }
        };
        self.cpu_hours_used += hours * before.0;
        self.gpu_hours_used += hours * before.1;
    }

    /// So many GPUs are free and of no use from now on.
    pub fn strands(&mut self, now_us: u64, gpus: f64) {
        let (since_us, before) = std::mem::replace(&mut self.stranded, (now_us, gpus));
        self.gpu_hours_stranded += Span::from_us(now_us.saturating_sub(since_us)).as_f64_s() / 3_600.0 * before;
    }

    /// A Kubernetes node has come.
    pub fn node_comes(&mut self) {
        self.nodes += 1;
    }

    /// A Kubernetes node was there for so long.
    pub fn node_used(&mut self, hours: f64, gpus: f64, price_per_hour: f64) {
        self.node_hours += hours;
        self.gpu_hours_bought += hours * gpus;
        self.cost += hours * price_per_hour;
    }

    /// Work that still waits at the end counts as having waited until now.
    pub fn unmet(&mut self, now_us: u64, tasks_since_us: &[u64], gangs_since_us: &[u64]) {
        self.tasks_unmet += tasks_since_us.len() as u64;
        self.gangs_unmet += gangs_since_us.len() as u64;
        tasks_since_us.iter().for_each(|since_us| self.task_waits.add(now_us.saturating_sub(*since_us)));
        gangs_since_us.iter().for_each(|since_us| self.gang_waits.add(now_us.saturating_sub(*since_us)));
    }
}

/// Adds what one client has asked for.
pub fn add(requests: &mut BTreeMap<(Verb, String), u64>, counts: &BTreeMap<(Verb, String), u64>) {
    for (what, times) in counts {
        *requests.entry(what.clone()).or_default() += times;
    }
}
