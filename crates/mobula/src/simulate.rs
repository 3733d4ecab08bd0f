//! `mobula simulate`: a scenario in virtual time, once for each policy and seed.

mod runs;
mod show;
mod soak;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::anyhow;
use clap::Subcommand;
use mobula_sim::scenario::Scenario;
use mobula_sim::{compare, scenario};

use crate::cli::EXIT_BAD_INPUT;
use crate::input::{self, BadInput};
use crate::plan::Output;

use runs::Job;

/// Arguments of `mobula simulate`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
The operator, the sidecars and the planner are those of production; the API server, Ray and the machines are simulated, and time is virtual. \
The same binary, scenario, policy and seed give the same history: its fingerprint is the hash.
With -o json: one document a run, in a list.
Exit status: 0 if all was run; 1 if a run failed or two runs differed; 2 for a scenario that can't be used."
)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    run: RunArgs,
}

/// What else than a run.
#[derive(Debug, Subcommand)]
enum What {
    /// Print a commented scenario to start from
    Init,
    /// Run random scenarios with faults, and look at the invariants in every turn
    Soak(soak::SoakArgs),
}

/// A scenario, and how it is run.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The scenario, YAML
    #[arg(value_name = "SCENARIO", required = true)]
    scenario: Option<String>,
    /// Policies, instead of the scenario's
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    policy: Vec<String>,
    /// So many seeds, 1, 2, …, instead of the scenario's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seeds: Option<u64>,
    /// Only this seed
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run everything twice and compare the histories
    #[arg(long)]
    check_determinism: bool,
    /// Write everything that happens to this file; takes one policy and one seed
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Form of the document
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Output,
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    match &args.what {
        Some(What::Init) => finish(Ok(scenario::TEMPLATE.to_owned())),
        Some(What::Soak(soak)) => finish(soak::run(soak)),
        None => finish(simulate(&args.run)),
    }
}

/// Arguments of `mobula compare`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every policy meets the same worlds: the same work, latencies and faults for the same seed. Differences are from the first policy, seed by seed, \
with their 95 % intervals (Student's t).
Exit status: 0 if all was run; 1 if a run failed; 2 for a scenario that can't be used.")]
pub struct CompareArgs {
    #[command(flatten)]
    run: RunArgs,
}

/// Runs `mobula compare`.
pub fn run_compare(args: &CompareArgs) -> ExitCode {
    finish(compare_policies(&args.run))
}

fn finish(said: anyhow::Result<String>) -> ExitCode {
    match said {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<BadInput>() || error.is::<scenario::BadScenario>() {
                EXIT_BAD_INPUT
            } else {
                1
            })
        }
    }
}

fn print(text: &str) {
    // Whoever closed the pipe has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn read(args: &RunArgs) -> anyhow::Result<(Scenario, Vec<Job>)> {
    let file = args.scenario.as_deref().unwrap_or(input::STDIN);
    let text = input::text(file)?;
    let directory = Path::new(file).parent().unwrap_or(Path::new("")).to_path_buf();
    let files = |name: &str| std::fs::read_to_string(directory.join(name)).map_err(|error| error.to_string());
    let scenario = Scenario::read(input::shown(file), &text, &files)?;
    let own = scenario.policies.iter().map(|policy| policy.value.clone());
    let policies: Vec<String> = if args.policy.is_empty() { own.collect() } else { args.policy.clone() };
    for policy in &policies {
        crate::policy::named(policy, &mobula_planner::PolicyOptions::default())?;
    }
    let seeds: Vec<u64> = match (args.seed, args.seeds) {
        (Some(seed), _) => vec![seed],
        (None, Some(count)) => (1..=count).collect(),
        (None, None) => scenario.seeds.clone(),
    };
    let job = |(policy, seed): (&String, &u64)| Job { policy: policy.clone(), seed: *seed };
    let jobs = policies.iter().flat_map(|policy| seeds.iter().map(move |seed| (policy, seed))).map(job).collect();
    Ok((scenario, jobs))
}

fn simulate(args: &RunArgs) -> anyhow::Result<String> {
    let (scenario, jobs) = read(args)?;
    if args.events.is_some() && jobs.len() > 1 {
        return Err(BadInput::new("--events", "takes one policy and one seed: give --policy and --seed").into());
    }
    let scenario = Arc::new(scenario);
    let (outcomes, speed) = runs::run_all(&scenario, &jobs, args.events.as_deref())?;
    if args.check_determinism {
        let (again, _) = runs::run_all(&scenario, &jobs, None)?;
        for (one, other) in outcomes.iter().zip(&again) {
            if one.hash != other.hash {
                let Job { policy, seed } = Job { policy: one.summary.policy.clone(), seed: one.summary.seed };
                return Err(anyhow!("policy {policy}, seed {seed}: two runs differ: {} and {}", one.hash, other.hash));
            }
        }
        eprintln!("{} runs, each twice: the same to the last event", outcomes.len());
    }
    let summaries: Vec<_> = outcomes.into_iter().map(|outcome| outcome.summary).collect();
    match args.output {
        Output::Json => Ok(serde_json::to_string_pretty(&summaries)? + "\n"),
        Output::Table => {
            eprintln!("{speed}");
            Ok(show::summaries(&scenario, &summaries))
        }
    }
}

fn compare_policies(args: &RunArgs) -> anyhow::Result<String> {
    let (scenario, jobs) = read(args)?;
    let policies: std::collections::BTreeSet<&str> = jobs.iter().map(|job| job.policy.as_str()).collect();
    if policies.len() < 2 {
        return Err(BadInput::new("--policy", "name two policies or more, with commas between").into());
    }
    let (outcomes, speed) = runs::run_all(&Arc::new(scenario), &jobs, None)?;
    let summaries: Vec<_> = outcomes.into_iter().map(|outcome| outcome.summary).collect();
    let compared = compare::compare(&summaries);
    match args.output {
        Output::Json => Ok(serde_json::to_string_pretty(&compared)? + "\n"),
        Output::Table => {
            eprintln!("{speed}");
            Ok(show::comparison(&compared))
        }
    }
}
