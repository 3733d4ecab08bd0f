//! Runs side by side, each on a fresh thread, with somebody who looks on: for the progress, and so that nothing hangs for ever.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use mobula_sim::log::Sink;
use mobula_sim::run::{Failure, Order, Outcome, Progress, run};
use mobula_sim::scenario::Scenario;
use mobula_sim::span::Span;
use mobula_sim::world::Wishes;

use super::beneath;

/// One run.
#[derive(Clone, Debug)]
pub struct Job {
    pub policy: String,
    pub seed: u64,
}

/// What is asked of each run beside its numbers.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The file for everything that happens.
    pub events: Option<PathBuf>,
    /// The directory for series, and how often there is a row.
    pub series: Option<(PathBuf, Span)>,
    /// What sidecars thought then.
    pub explain_at: Option<Span>,
    /// Whether recordings are kept.
    pub record: bool,
    /// Whether invariants are looked at.
    pub is_soak: bool,
}

impl Asked {
    fn wishes(&self, job: &Job) -> anyhow::Result<Wishes> {
        let series = match &self.series {
            Some((directory, every)) => Some((*every, sink(&directory.join(format!("{}.csv", job.name())))?)),
            None => None,
        };
        Ok(Wishes { series, explain_at: self.explain_at, record: self.record })
    }
}

fn sink(path: &Path) -> anyhow::Result<Sink> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    Ok(Box::new(BufWriter::new(file)))
}

impl Job {
    /// Name of files that belong to it.
    pub fn name(&self) -> String {
        format!("{}-seed-{}", self.policy, self.seed)
    }
}

/// How often somebody looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A run whose virtual time stands still for so many looks, two minutes, is given up. Looks, so that a machine that slept does not count.
const PATIENCE: u32 = 240;

/// A run that goes on.
struct Running {
    job: Job,
    progress: Arc<Progress>,
    last_us: u64,
    /// Looks since its time has moved.
    stood: u32,
}

/// The outcomes in the order of the jobs, and how fast it went.
pub fn run_all(scenario: &Arc<Scenario>, jobs: &[Job], asked: &Asked) -> anyhow::Result<(Vec<Outcome>, String)> {
    let started = Instant::now();
    let mut waiting: VecDeque<(usize, Job)> = jobs.iter().cloned().enumerate().collect();
    let mut outcomes: Vec<Option<Outcome>> = vec![None; jobs.len()];
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(jobs.len()).max(1);
    let (tell, told) = mpsc::channel();
    let running: Mutex<Vec<Option<Running>>> = Mutex::new((0..jobs.len()).map(|_| None).collect());
    let busy = AtomicUsize::new(0);
    let show = std::io::stderr().is_terminal();
    while outcomes.iter().any(Option::is_none) {
        while busy.load(Ordering::Relaxed) < threads
            && let Some((index, job)) = waiting.pop_front()
        {
            busy.fetch_add(1, Ordering::Relaxed);
            let progress = start(scenario, &job, index, asked, tell.clone())?;
            let entry = Running { job, progress, last_us: 0, stood: 0 };
            running.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(entry);
        }
        match told.recv_timeout(LOOK_EVERY) {
            Ok((index, outcome)) => {
                busy.fetch_sub(1, Ordering::Relaxed);
                let ended = running.lock().unwrap_or_else(PoisonError::into_inner)[index].take();
                let Job { policy, seed } = ended.map_or_else(|| jobs[index].clone(), |ended| ended.job);
                let outcome: Result<Outcome, Failure> = outcome;
                outcomes[index] = Some(outcome.with_context(|| format!("policy {policy}, seed {seed}"))?);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                look(&mut running.lock().unwrap_or_else(PoisonError::into_inner), scenario, show)?;
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(anyhow!("a run ended without a word")),
        }
    }
    if show {
        eprint!("\r\x1b[K");
    }
    let simulated = Span::from_us(scenario.horizon.as_us().saturating_mul(jobs.len() as u64));
    let real_s = started.elapsed().as_secs_f64().max(1e-3);
    let speed = format!("{simulated} simulated in {real_s:.1} s: {:.0} times as fast", simulated.as_f64_s() / real_s);
    Ok((outcomes.into_iter().flatten().collect(), speed))
}

type Told = (usize, Result<Outcome, Failure>);

fn start(
    scenario: &Arc<Scenario>,
    job: &Job,
    index: usize,
    asked: &Asked,
    tell: mpsc::Sender<Told>,
) -> anyhow::Result<Arc<Progress>> {
    let events = asked.events.as_deref().map(sink).transpose()?;
    let progress = Arc::new(Progress::default());
    let order = Order {
        begins: beneath::follow,
        scenario: scenario.clone(),
        policy: job.policy.clone(),
        seed: job.seed,
        sink: events,
        progress: progress.clone(),
        wishes: asked.wishes(job)?,
        is_soak: asked.is_soak,
    };
    let work = move || {
        let _mark = beneath::mark(order.seed);
        // Nobody listens any more: another run has failed.
        let _ = tell.send((index, run(order)));
    };
    thread::Builder::new().name(format!("seed {}", job.seed)).spawn(work).context("no thread for a run")?;
    Ok(progress)
}

/// Shows how far it is, and gives up a run whose time stands still.
fn look(running: &mut [Option<Running>], scenario: &Scenario, show: bool) -> anyhow::Result<()> {
    let horizon_us = scenario.horizon.as_us().max(1);
    let mut shown = Vec::new();
    for entry in running.iter_mut().flatten() {
        let at_us = entry.progress.at_us.load(Ordering::Relaxed);
        entry.stood = if at_us == entry.last_us { entry.stood + 1 } else { 0 };
        entry.last_us = at_us;
        if entry.stood > PATIENCE {
            let (at, Job { policy, seed }) = (Span::from_us(at_us), &entry.job);
            let waited = (LOOK_EVERY * PATIENCE).as_secs();
            return Err(anyhow!("policy {policy}, seed {seed}: the virtual time stands still at {at} for {waited} s"));
        }
        shown.push(format!("seed {} {:>3} %", entry.job.seed, at_us.saturating_mul(100) / horizon_us));
    }
    if show {
        eprint!("\r\x1b[K{}", shown.join("  "));
        let _ = std::io::stderr().flush();
    }
    Ok(())
}
