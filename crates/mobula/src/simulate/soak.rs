//! `mobula simulate soak`: random scenarios with faults, one seed after another; the first that fails is made as small as it goes.

use std::sync::Arc;

use anyhow::anyhow;
use mobula_sim::run::Failure;
use mobula_sim::scenario::Scenario;
use mobula_sim::soak::Soak;

use super::runs::{self, Job};

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
}

pub fn run(args: &SoakArgs) -> anyhow::Result<String> {
    let last = args.first.saturating_add(args.count);
    for seed in args.first..last {
        let soak = Soak::of(seed);
        if let Some(failure) = fails(&soak)? {
            let (smallest, failure) = smallest(soak, failure)?;
            return Err(anyhow!(
                "seed {seed}: {failure}\nagain: mobula simulate soak --first {seed} --count 1\nsmallest that fails:\n{}",
                smallest.to_yaml()
            ));
        }
    }
    Ok(format!("{} seeds from {}: nothing was broken\n", args.count, args.first))
}

fn fails(soak: &Soak) -> anyhow::Result<Option<Failure>> {
    let scenario = Scenario::read("soak", &soak.to_yaml(), &|name| Err(format!("{name}: there are no files")))?;
    let policy = scenario.policies.first().map(|policy| policy.value.clone()).unwrap_or_default();
    match runs::run_soak(&Arc::new(scenario), &Job { policy, seed: soak.seed }) {
        Ok(()) => Ok(None),
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
