//! Jobs of a trace on nodes that are there, without a control plane: how long do they wait, and how much is in use?
//!
//! Assumptions: a job starts at once when all its bundles fit, each bundle on the node that the policy chooses, one after the other; it
//! runs for as long as the trace says. The queue goes by priority, then arrival. With [`Queue::Backfill`] jobs overtake those that
//! do not fit; with [`Queue::Fifo`] nobody overtakes. Strategies and locality of gangs are not looked at.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use mobula_planner::placement::{
    BadShape, Cluster, GpuNode, GpuRequest, NodeChoice, Placed, ShapeId, TieBreak, TooVaried, Workload,
};

use crate::Seeded;
use crate::jobs::Job;

/// Who goes first.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Queue {
    /// Whoever fits, in order of priority and arrival.
    #[default]
    Backfill,
    /// In order of priority and arrival; if the first does not fit, all wait.
    Fifo,
}

/// How a trace is run.
#[derive(Copy, Clone, Debug)]
pub struct Setting {
    /// Which node takes a bundle.
    pub choice: NodeChoice,
    /// Who goes first.
    pub queue: Queue,
    /// For policies that draw.
    pub seed: u64,
}

/// What came of it. Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Jobs in the trace.
    pub jobs: u64,
    /// Jobs that would not fit even if nothing else ran: they are left out.
    pub unfit: u64,
    /// Jobs of more than one bundle.
    pub gangs: u64,
    /// How long each job that started had waited, shortest first.
    pub waits_s: Vec<f64>,
    /// From the first arrival to the last end, in hours.
    pub hours: f64,
    /// GPUs of all nodes.
    pub gpus: f64,
    /// Hours of GPUs that jobs had.
    pub gpu_hours_used: f64,
    /// Mean share of GPUs in use until the last arrival.
    pub used_share: f64,
    /// Mean share of GPUs that were free and of no use to typical jobs until the last arrival.
    pub fragmented_share: f64,
    /// Most GPUs in use at once.
    pub most_gpus: f64,
}

impl Usage {
    /// The wait that so many of 100 jobs do not exceed.
    pub fn percentile_s(&self, percent: f64) -> f64 {
        let last = self.waits_s.len().saturating_sub(1);
        let index = (percent / 100.0 * last as f64).ceil() as usize;
        self.waits_s.get(index.min(last)).copied().unwrap_or(0.0)
    }

    /// The mean wait.
    pub fn mean_wait_s(&self) -> f64 {
        self.waits_s.iter().sum::<f64>() / (self.waits_s.len() as f64).max(1.0)
    }
}

/// A trace that can't be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadTrace {
    /// A job asks for what no node can be asked for; its number counts from 1, in order of arrival.
    Job(usize, BadShape),
    /// Too many kinds of jobs or nodes.
    Varied(TooVaried),
}

impl fmt::Display for BadTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadTrace::Job(number, bad) => write!(f, "job {number} by arrival: {bad}"),
            BadTrace::Varied(varied) => varied.fmt(f),
        }
    }
}

impl std::error::Error for BadTrace {}

impl From<TooVaried> for BadTrace {
    fn from(varied: TooVaried) -> Self {
        BadTrace::Varied(varied)
    }
}

const MIB: f64 = (1_u64 << 20) as f64;

/// What one bundle of a job asks of a node.
fn request(job: &Job) -> Result<GpuRequest, BadShape> {
    let need = |name: &str| job.needs.get(name).copied().unwrap_or(0.0);
    let (gpus, cpu_milli, memory_mib) = (need("GPU"), need("CPU") * 1e3, need("memory") / MIB);
    let whole = |amount: f64| amount.ceil().min(f64::from(u32::MAX)) as u32;
    let (count, milli) = match gpus {
        share if share > 0.0 && share < 1.0 => (1, whole((share * 1e3).round())),
        whole_gpus => (whole(whole_gpus), 1_000),
    };
    let milli = if count == 0 { 0 } else { milli };
    GpuRequest::new(whole(cpu_milli.round()), whole(memory_mib), count, milli, BTreeSet::new())
}

/// Jobs that ask for the same, and wait.
struct Class {
    shape: ShapeId,
    count: u32,
    priority: i64,
    waiting: VecDeque<usize>,
}

struct Run<'a> {
    jobs: &'a [Job],
    cluster: Cluster<'a>,
    classes: Vec<Class>,
    /// Class of each job; none: it never fits.
    class_of: Vec<Option<usize>>,
    /// Classes whose first job may fit: priority, arrival, class.
    ready: BTreeSet<(Reverse<i64>, usize, usize)>,
    blocked: Vec<usize>,
    ends: BTreeMap<(u64, usize), Vec<Placed>>,
    draws: Seeded,
    queue: Queue,
    usage: Usage,
    /// Since when, and how many thousandths of GPUs were in use and fragmented.
    since: (u64, u64, u64),
    areas: (f64, f64),
    last_arrival_ms: u64,
}

/// Runs a trace: `jobs` in order of arrival.
///
/// # Errors
/// If a job can't be asked of any node, or there are too many kinds of them.
pub fn run(nodes: &[GpuNode], jobs: &[Job], setting: Setting) -> Result<Usage, BadTrace> {
    let asked = jobs.iter().enumerate().map(|(index, job)| request(job).map_err(|bad| BadTrace::Job(index + 1, bad)));
    let workload = Workload::new(&asked.collect::<Result<Vec<_>, _>>()?)?;
    let empty = Cluster::new(setting.choice, TieBreak::First, nodes, &workload)?;
    let (classes, class_of) = classes(jobs, &workload, &empty);
    let gpus: u64 = nodes.iter().map(|node| u64::from(node.gpus())).sum();
    let usage = Usage {
        jobs: jobs.len() as u64,
        gangs: jobs.iter().filter(|job| job.count > 1).count() as u64,
        unfit: class_of.iter().filter(|class| class.is_none()).count() as u64,
        gpus: gpus as f64,
        ..Usage::default()
    };
    let mut run = Run {
        jobs,
        cluster: empty,
        classes,
        class_of,
        ready: BTreeSet::new(),
        blocked: Vec::new(),
        ends: BTreeMap::new(),
        draws: Seeded::new(setting.seed),
        queue: setting.queue,
        usage,
        since: (jobs.first().map_or(0, |job| job.arrival_ms), 0, 0),
        areas: (0.0, 0.0),
        last_arrival_ms: jobs.last().map_or(0, |job| job.arrival_ms),
    };
    run.go();
    Ok(run.usage)
}

/// Jobs that ask for the same are one class; those that fit nowhere have none.
fn classes(jobs: &[Job], workload: &Workload, empty: &Cluster<'_>) -> (Vec<Class>, Vec<Option<usize>>) {
    let mut numbers: BTreeMap<(ShapeId, u32, i64), Option<usize>> = BTreeMap::new();
    let mut classes = Vec::new();
    let class_of = jobs.iter().zip(workload.pods()).map(|(job, shape)| {
        *numbers.entry((*shape, job.count, job.priority)).or_insert_with(|| {
            let mut cluster = empty.clone();
            let fits = (0..job.count).all(|_| cluster.place(*shape, 0).is_some());
            fits.then(|| {
                classes.push(Class {
                    shape: *shape,
                    count: job.count,
                    priority: job.priority,
                    waiting: VecDeque::new(),
                });
                classes.len() - 1
            })
        })
    });
    let class_of = class_of.collect();
    (classes, class_of)
}

impl Run<'_> {
    fn go(&mut self) {
        let first_ms = self.since.0;
        let mut next = 0;
        loop {
            let arrival_ms = self.jobs.get(next).map(|job| job.arrival_ms);
            let end_ms = self.ends.first_key_value().map(|((end_ms, _), _)| *end_ms);
            let Some(now_ms) = arrival_ms.into_iter().chain(end_ms).min() else { break };
            self.account(now_ms);
            while let Some(entry) = self.ends.first_entry().filter(|entry| entry.key().0 <= now_ms) {
                let ((_, job), places) = entry.remove_entry();
                self.end(job, &places);
            }
            while self.jobs.get(next).is_some_and(|job| job.arrival_ms <= now_ms) {
                self.arrive(next);
                next += 1;
            }
            self.start(now_ms);
            self.since = (now_ms, self.cluster.allocated_gpu_milli(), self.cluster.fragmented_gpu_milli());
            self.usage.most_gpus = self.usage.most_gpus.max(self.since.1 as f64 / 1e3);
        }
        self.usage.hours = (self.since.0 - first_ms) as f64 / 3.6e6;
        let until_last = self.usage.gpus * (self.last_arrival_ms - first_ms) as f64;
        if until_last > 0.0 {
            (self.usage.used_share, self.usage.fragmented_share) =
                (self.areas.0 / until_last, self.areas.1 / until_last);
        }
        self.usage.waits_s.sort_by(f64::total_cmp);
    }

    fn account(&mut self, now_ms: u64) {
        let (since_ms, used, fragmented) = self.since;
        let (used, fragmented) = (used as f64 / 1e3, fragmented as f64 / 1e3);
        self.usage.gpu_hours_used += used * (now_ms - since_ms) as f64 / 3.6e6;
        let counted_ms = now_ms.min(self.last_arrival_ms).saturating_sub(since_ms) as f64;
        self.areas.0 += used * counted_ms;
        self.areas.1 += fragmented * counted_ms;
    }

    fn end(&mut self, job: usize, places: &[Placed]) {
        let Some(class) = self.class_of[job].and_then(|class| self.classes.get(class)) else { return };
        places.iter().for_each(|place| self.cluster.take_away(class.shape, *place));
        for class in std::mem::take(&mut self.blocked) {
            self.is_ready(class);
        }
    }

    fn arrive(&mut self, job: usize) {
        let Some(class) = self.class_of[job] else { return };
        self.classes[class].waiting.push_back(job);
        if self.classes[class].waiting.len() == 1 {
            self.is_ready(class);
        }
    }

    fn is_ready(&mut self, class: usize) {
        if let Some(first) = self.classes[class].waiting.front() {
            self.ready.insert((Reverse(self.classes[class].priority), *first, class));
        }
    }

    /// Starts what fits.
    fn start(&mut self, now_ms: u64) {
        if self.queue == Queue::Fifo && !self.blocked.is_empty() {
            return;
        }
        while let Some((_, job, class)) = self.ready.pop_first() {
            let Some(places) = self.place(class) else {
                self.blocked.push(class);
                if self.queue == Queue::Fifo {
                    return;
                }
                continue;
            };
            self.classes[class].waiting.pop_front();
            self.is_ready(class);
            let Job { arrival_ms, duration_ms, .. } = &self.jobs[job];
            self.usage.waits_s.push(now_ms.saturating_sub(*arrival_ms) as f64 / 1e3);
            self.ends.insert((now_ms.saturating_add((*duration_ms).max(1)), job), places);
        }
    }

    /// Places for all bundles of a job of this class, or none.
    fn place(&mut self, class: usize) -> Option<Vec<Placed>> {
        let Class { shape, count, .. } = self.classes[class];
        let mut places = Vec::with_capacity(count as usize);
        for _ in 0..count {
            match self.cluster.place(shape, self.draws.draw()) {
                Some(place) => places.push(place),
                None => {
                    places.iter().for_each(|place| self.cluster.take_away(shape, *place));
                    return None;
                }
            }
        }
        Some(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(arrival_s: u64, duration_s: u64, count: u32, gpus: f64) -> Job {
        let needs = BTreeMap::from([("GPU".to_owned(), gpus), ("CPU".to_owned(), 1.0)]);
        Job { arrival_ms: arrival_s * 1_000, duration_ms: duration_s * 1_000, count, needs, ..Job::default() }
    }

    fn used(jobs: &[Job], queue: Queue) -> Usage {
        let nodes = vec![GpuNode::new(64_000, 1_000, 8, "").unwrap(); 2];
        run(&nodes, jobs, Setting { choice: NodeChoice::BestFit, queue, seed: 1 }).unwrap()
    }

    #[test]
    fn a_gang_starts_whole_and_others_overtake_it_only_by_backfill() {
        // One node is taken, a gang of two nodes waits, a small job comes behind it.
        let jobs = [job(0, 100, 1, 8.0), job(10, 50, 2, 8.0), job(20, 30, 1, 1.0)];
        assert_eq!(used(&jobs, Queue::Backfill).waits_s, [0.0, 0.0, 90.0]);
        assert_eq!(used(&jobs, Queue::Fifo).waits_s, [0.0, 90.0, 130.0]);
        let Usage { gangs, unfit, hours, gpu_hours_used, most_gpus, .. } = used(&jobs, Queue::Backfill);
        assert_eq!((gangs, unfit, most_gpus), (1, 0, 16.0));
        assert!(
            (hours - 150.0 / 3_600.0).abs() < 1e-9 && (gpu_hours_used - (800.0 + 800.0 + 30.0) / 3_600.0).abs() < 1e-9
        );
    }

    #[test]
    fn what_never_fits_is_left_out_and_shares_share() {
        let usage = used(&[job(0, 10, 3, 8.0), job(0, 10, 40, 0.4), job(1, 10, 1, 0.4)], Queue::Backfill);
        assert_eq!((usage.unfit, usage.waits_s), (2, vec![0.0]));
    }

    #[test]
    fn priority_goes_before_arrival() {
        let mut jobs = [job(0, 100, 2, 8.0), job(1, 10, 2, 8.0), job(2, 10, 2, 8.0)];
        jobs[2].priority = 1;
        let usage = used(&jobs, Queue::Fifo);
        assert_eq!(usage.waits_s, [0.0, 98.0, 109.0]);
    }
}
