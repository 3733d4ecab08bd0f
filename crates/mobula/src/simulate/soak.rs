//! `mobula simulate soak`: random scenarios with faults, one seed after another; the first that fails is made as small as it goes.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::anyhow;
use mobula_sim::run::Failure;
use mobula_sim::scenario::Scenario;
use mobula_sim::soak::Soak;

use super::runs::{self, Asked, Job};

/// Most runs that are spent on making a failure smaller.
const MOST_SMALLER: usize = 40;

/// Arguments of `mobula simulate soak`.
#[derive(Debug, clap::Args)]
pub struct SoakArgs {
    /// How many seeds
    #[arg(long, value_name = "N", default_value = "100")]
    count: u64,
    /// The first seed
    #[arg(long, value_name = "SEED", default_value = "1")]
    first: u64,
    /// Go on after a failure, and say at the end which seeds have failed
    #[arg(long)]
    all: bool,
    /// Print the scenario of the first seed, and run nothing
    #[arg(long, conflicts_with = "all")]
    print: bool,
}

pub fn run(args: &SoakArgs) -> anyhow::Result<String> {
    if args.print {
        return Ok(Soak::of(args.first).to_yaml());
    }
    let mut failed = run_seeds(args)?;
    let Some((seed, failure)) = failed.pop_first() else {
        return Ok(format!("{} seeds from {}: nothing was broken\n", args.count, args.first));
    };
    let again = |seed: u64| format!("again: mobula simulate soak --first {seed} --count 1");
    if args.all {
        let first = std::iter::once((seed, failure));
        let lines = first.chain(failed).map(|(seed, failure)| format!("seed {seed}: {failure}\n{}\n", again(seed)));
        return Err(anyhow!("{}", lines.collect::<String>()));
    }
    let (smallest, failure) = smallest(Soak::of(seed), failure)?;
    Err(anyhow!("seed {seed}: {failure}\n{}\nsmallest that fails:\n{}", again(seed), smallest.to_yaml()))
}

/// The seeds that fail: all of them, or those that were under way when the first did.
fn run_seeds(args: &SoakArgs) -> anyhow::Result<BTreeMap<u64, Failure>> {
    let last = args.first.saturating_add(args.count);
    let (next, stop) = (AtomicU64::new(args.first), AtomicBool::new(false));
    let failed: Mutex<BTreeMap<u64, Failure>> = Mutex::default();
    let work = || -> anyhow::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= last {
                break;
            }
            if let Some(failure) = fails(&Soak::of(seed))? {
                failed.lock().unwrap_or_else(PoisonError::into_inner).insert(seed, failure);
                stop.store(!args.all, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| -> anyhow::Result<()> {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(anyhow!("a worker has panicked"))))
    })?;
    Ok(failed.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn fails(soak: &Soak) -> anyhow::Result<Option<Failure>> {
    let scenario = Scenario::read("soak", &soak.to_yaml(), &|name| Err(format!("{name}: there are no files")))?;
    let policy = scenario.policies.first().map(|policy| policy.value.clone()).unwrap_or_default();
    let asked = Asked { is_soak: true, ..Asked::default() };
    match runs::run_all(&Arc::new(scenario), &[Job { policy, seed: soak.seed }], &asked) {
        Ok(_) => Ok(None),
        Err(error) => error.downcast::<Failure>().map(Some),
    }
}

fn smallest(mut soak: Soak, mut failure: Failure) -> anyhow::Result<(Soak, Failure)> {
    let mut tries = 0;
    'smaller: loop {
        for smaller in soak.smaller() {
            tries += 1;
            if tries > MOST_SMALLER {
                break 'smaller;
            }
            if let Some(found) = fails(&smaller)? {
                (soak, failure) = (smaller, found);
                continue 'smaller;
            }
        }
        break;
    }
    Ok((soak, failure))
}
