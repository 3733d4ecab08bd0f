//! `mobula simulate`: a scenario in virtual time, once for each policy and seed.

mod beneath;
mod placement;
mod runs;
mod show;
mod soak;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::Subcommand;
use mobula_sim::run::Outcome;
use mobula_sim::scenario::Scenario;
use mobula_sim::span::Span;
use mobula_sim::{compare, scenario};
use serde_json::Value;

use crate::cli::EXIT_BAD_INPUT;
use crate::input::{self, BadInput};
use crate::plan::Output;

use runs::{Asked, Job};

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
    /// With the control plane, or only jobs of a trace on nodes
    #[arg(long, value_name = "MODE", default_value = "control-plane")]
    mode: Mode,
    /// Directory of traces; without it, or if a file is not there, traces are beside the scenario
    #[arg(long, value_name = "DIRECTORY")]
    traces: Option<PathBuf>,
    /// Run everything twice and compare the histories
    #[arg(long)]
    check_determinism: bool,
    /// Write everything that happens to this file; takes one policy and one seed
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Write a series over time into this directory: one CSV file for each policy and seed
    #[arg(long, value_name = "DIRECTORY")]
    series: Option<PathBuf>,
    /// How often the series has a row
    #[arg(long, value_name = "TIME", default_value = "1m", requires = "series", value_parser = span)]
    series_every: Span,
    /// Print what each sidecar had decided, and why, when so much time had passed (30m); takes one policy and one seed
    #[arg(long, value_name = "TIME", value_parser = span)]
    explain_at: Option<Span>,
    /// Write the flight recording of each RayCluster into this directory, for `mobula replay` and `mobula explain`
    #[arg(long, value_name = "DIRECTORY")]
    record: Option<PathBuf>,
    /// Form of the document
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Output,
}

fn span(text: &str) -> Result<Span, String> {
    Span::read(&Value::String(text.to_owned()))
}

/// What is simulated.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Operator, sidecars, planner, scheduler, kubelets, provisioner, Ray
    ControlPlane,
    /// The jobs of a trace on the nodes, by policies that choose a node for a pod: FGD and those it was compared with
    Placement,
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    match &args.what {
        Some(What::Init) => finish(Ok(scenario::TEMPLATE.to_owned())),
        Some(What::Soak(soak)) => finish(soak::run(soak)),
        None if args.run.mode == Mode::Placement => finish(placement::run(&args.run)),
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

fn read_scenario(args: &RunArgs) -> anyhow::Result<Scenario> {
    let file = args.scenario.as_deref().unwrap_or(input::STDIN);
    let text = input::text(file)?;
    let beside = Path::new(file).parent().unwrap_or(Path::new("")).to_path_buf();
    let files = |name: &str| {
        let of_traces = args.traces.as_ref().map(|directory| directory.join(name)).filter(|path| path.is_file());
        let path = of_traces.unwrap_or_else(|| beside.join(name));
        std::fs::read(path).map_err(|error| error.to_string())
    };
    Ok(Scenario::read(input::shown(file), &text, &files)?)
}

fn seeds(args: &RunArgs, scenario: &Scenario) -> Vec<u64> {
    match (args.seed, args.seeds) {
        (Some(seed), _) => vec![seed],
        (None, Some(count)) => (1..=count).collect(),
        (None, None) => scenario.seeds.clone(),
    }
}

fn read(args: &RunArgs) -> anyhow::Result<(Scenario, Vec<Job>)> {
    let scenario = read_scenario(args)?;
    if scenario.clusters().is_empty() {
        return Err(BadInput::new("--mode", "the scenario has no RayCluster: give --mode placement, or add one").into());
    }
    let own = scenario.policies.iter().map(|policy| policy.value.clone());
    let policies: Vec<String> = if args.policy.is_empty() { own.collect() } else { args.policy.clone() };
    for policy in &policies {
        crate::policy::named(policy, &mobula_planner::PolicyOptions::default())?;
    }
    let seeds = seeds(args, &scenario);
    let job = |(policy, seed): (&String, &u64)| Job { policy: policy.clone(), seed: *seed };
    let jobs = policies.iter().flat_map(|policy| seeds.iter().map(move |seed| (policy, seed))).map(job).collect();
    Ok((scenario, jobs))
}

fn simulate(args: &RunArgs) -> anyhow::Result<String> {
    let (scenario, jobs) = read(args)?;
    let for_one = [("--events", args.events.is_some()), ("--explain-at", args.explain_at.is_some())];
    if let Some((flag, _)) = for_one.iter().find(|(_, is_given)| *is_given && jobs.len() > 1) {
        return Err(BadInput::new(flag, "takes one policy and one seed: give --policy and --seed").into());
    }
    if args.explain_at.is_some_and(|at| at > scenario.horizon) {
        return Err(BadInput::new("--explain-at", "is after the horizon of the scenario").into());
    }
    for directory in [&args.series, &args.record].into_iter().flatten() {
        std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    let scenario = Arc::new(scenario);
    let asked = Asked {
        events: args.events.clone(),
        series: args.series.clone().map(|directory| (directory, args.series_every)),
        explain_at: args.explain_at,
        record: args.record.is_some(),
        is_soak: false,
    };
    let (mut outcomes, speed) = runs::run_all(&scenario, &jobs, &asked)?;
    if args.check_determinism {
        let (again, _) = runs::run_all(&scenario, &jobs, &Asked::default())?;
        for (one, other) in outcomes.iter().zip(&again) {
            if one.hash != other.hash {
                let Job { policy, seed } = Job { policy: one.summary.policy.clone(), seed: one.summary.seed };
                return Err(anyhow!("policy {policy}, seed {seed}: two runs differ: {} and {}", one.hash, other.hash));
            }
        }
        eprintln!("{} runs, each twice: the same to the last event", outcomes.len());
    }
    if let Some(directory) = &args.record {
        write_recordings(directory, &jobs, &outcomes)?;
    }
    if args.explain_at.is_some() {
        let answers = outcomes.pop().map(|outcome| outcome.answers).unwrap_or_default();
        let told = answers.explanations.into_iter().map(|(cluster, table)| format!("{cluster}\n{table}"));
        return Ok(told.collect::<Vec<_>>().join("\n"));
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

/// One file for each run and RayCluster.
fn write_recordings(directory: &Path, jobs: &[Job], outcomes: &[Outcome]) -> anyhow::Result<()> {
    for (job, outcome) in jobs.iter().zip(outcomes) {
        for (cluster, bytes) in &outcome.answers.recordings {
            let file = directory.join(format!("{}-{}-{}.mobula", job.name(), cluster.namespace, cluster.name));
            std::fs::write(&file, bytes).with_context(|| file.display().to_string())?;
        }
    }
    Ok(())
}

fn compare_policies(args: &RunArgs) -> anyhow::Result<String> {
    if args.mode == Mode::Placement {
        return Err(
            BadInput::new("--mode", "compare is for control-plane: give mobula simulate several policies").into()
        );
    }
    let (scenario, jobs) = read(args)?;
    let policies: std::collections::BTreeSet<&str> = jobs.iter().map(|job| job.policy.as_str()).collect();
    if policies.len() < 2 {
        return Err(BadInput::new("--policy", "name two policies or more, with commas between").into());
    }
    let (outcomes, speed) = runs::run_all(&Arc::new(scenario), &jobs, &Asked::default())?;
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
