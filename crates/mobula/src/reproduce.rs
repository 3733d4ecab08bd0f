//! `mobula reproduce`: experiments of papers again, beside what was published.

use std::io::Write as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::anyhow;
use clap::{Subcommand, ValueEnum};
use mobula_planner::placement::NodeChoice;
use mobula_traces::fgd::{BadExperiment, Experiment, FIRST_SEED, Ties, mean_and_sd, published};
use mobula_traces::openb;
use serde::Serialize;

use crate::cli::EXIT_BAD_INPUT;
use crate::input::BadInput;
use crate::plan::Output;

/// Arguments of `mobula reproduce`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    paper: Paper,
}

/// Papers whose experiments can be run.
#[derive(Debug, Subcommand)]
enum Paper {
    /// "Beware of Fragmentation" (USENIX ATC 2023): six ways to choose the node of a pod that uses GPUs or shares of them
    Fgd(FgdArgs),
}

/// Arguments of `mobula reproduce fgd`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The directory holds openb_node_list_gpu_node.csv and, for each trace, openb_pod_list_<trace>.csv, as in \
github.com/hkust-adsl/kubernetes-scheduler-simulator. Pods arrive in random order until they ask for 130 % of the GPUs; \
the numbers are GPUs allocated in the end, in % of all. The published means are over ten seeds; shuffles are Mobula's own.
With -o json: [{\"trace\", \"policy\", \"seeds\", \"mean\", \"sd\", \"published\"}]; published is null where nothing was.
Exit status: 0 if all was run; 2 for bad input.")]
struct FgdArgs {
    /// Directory of the traces
    #[arg(long, value_name = "DIR")]
    traces: PathBuf,
    /// How many runs of each policy, with the seeds 42, 43, …
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    seeds: u32,
    /// Which of equally good nodes is taken
    #[arg(long, value_name = "WAY", default_value = "shuffled")]
    ties: TiesArg,
    /// Form of the document
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Output,
}

/// [`Ties`] on the command line.
#[derive(Copy, Clone, Debug, ValueEnum)]
enum TiesArg {
    /// The first in an order that is shuffled once a run, as the paper's authors did
    Shuffled,
    /// The first in the list of nodes
    Listed,
    /// One drawn anew for each pod
    Drawn,
}

/// One line of the document.
#[derive(Debug, Serialize)]
struct Entry {
    trace: String,
    policy: &'static str,
    seeds: u32,
    /// In %.
    mean: f64,
    /// In percentage points; 0 for one seed.
    sd: f64,
    /// In %.
    published: Option<f64>,
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    let Paper::Fgd(args) = &args.paper;
    match fgd(args) {
        Ok(text) => {
            // Whoever closed the pipe has seen enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<BadInput>() { EXIT_BAD_INPUT } else { 1 })
        }
    }
}

fn fgd(args: &FgdArgs) -> anyhow::Result<String> {
    let ties = match args.ties {
        TiesArg::Shuffled => Ties::Shuffled,
        TiesArg::Listed => Ties::Listed,
        TiesArg::Drawn => Ties::Drawn,
    };
    let traces = traces(&args.traces)?;
    let mut entries = Vec::new();
    for trace in &traces {
        eprintln!("{}: {} pods for {} GPUs", trace.name, trace.experiment.pods(), trace.experiment.gpus());
        let results = runs(trace, ties, args.seeds)?;
        for (choice, results) in NodeChoice::ALL.iter().zip(results) {
            let (mean, sd) = mean_and_sd(&results);
            let [mean, sd] = [mean, sd].map(|value| (value * 100.0).round() / 100.0);
            let published = published(&trace.name, *choice);
            entries.push(Entry {
                trace: trace.name.clone(),
                policy: choice.name(),
                seeds: args.seeds,
                mean,
                sd,
                published,
            });
        }
    }
    match args.output {
        Output::Table => Ok(table(&entries)),
        Output::Json => Ok(serde_json::to_string_pretty(&entries)? + "\n"),
    }
}

/// A trace that was found.
struct Trace {
    name: String,
    file: String,
    experiment: Experiment,
}

/// All traces in a directory, by name.
fn traces(directory: &Path) -> Result<Vec<Trace>, BadInput> {
    let shown = directory.display().to_string();
    let entries = std::fs::read_dir(directory).map_err(|error| BadInput::new(&shown, error))?;
    let mut names = Vec::new();
    for entry in entries {
        let file = entry.map_err(|error| BadInput::new(&shown, error))?.file_name();
        let name = file.to_str().and_then(|file| file.strip_prefix(openb::PODS_PREFIX)?.strip_suffix(".csv"));
        names.extend(name.map(str::to_owned));
    }
    names.sort();
    let nodes_file = directory.join(openb::NODES_FILE).display().to_string();
    let nodes = read(&nodes_file).and_then(|csv| openb::nodes(&csv).map_err(|bad| BadInput::new(&nodes_file, bad)))?;
    if names.is_empty() {
        let problem = format!("holds no {}<trace>.csv", openb::PODS_PREFIX);
        return Err(BadInput::new(&shown, problem));
    }
    let read_trace = |name: String| {
        let file = directory.join(format!("{}{name}.csv", openb::PODS_PREFIX)).display().to_string();
        let pods = openb::pods(&read(&file)?).map_err(|bad| BadInput::new(&file, bad))?;
        let experiment = Experiment::new(nodes.clone(), pods).map_err(|bad| match &bad {
            BadExperiment::Nodes(_) => BadInput::new(&nodes_file, bad),
            BadExperiment::Pods(_) => BadInput::new(&file, bad),
        })?;
        Ok(Trace { name, file, experiment })
    };
    names.into_iter().map(read_trace).collect()
}

fn read(file: &str) -> Result<Vec<u8>, BadInput> {
    std::fs::read(file).map_err(|error| BadInput::new(file, error))
}

/// The results of each policy, in order of seed. Runs are spread over the processors.
fn runs(trace: &Trace, ties: Ties, seeds: u32) -> anyhow::Result<[Vec<f64>; NodeChoice::ALL.len()]> {
    let jobs: Vec<(NodeChoice, u64)> = NodeChoice::ALL
        .into_iter()
        .flat_map(|choice| (0..u64::from(seeds)).map(move |seed| (choice, FIRST_SEED + seed)))
        .collect();
    let next = AtomicUsize::new(0);
    let take = || {
        let index = next.fetch_add(1, Ordering::Relaxed);
        jobs.get(index).map(|(choice, seed)| (index, *choice, *seed))
    };
    let work = || {
        let mut done = Vec::new();
        while let Some((index, choice, seed)) = take() {
            done.push((index, trace.experiment.run(choice, ties, seed)));
        }
        done
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(jobs.len());
    let mut done = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let done = workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow!("a run ended in a panic")));
        done.collect::<Result<Vec<_>, _>>()
    })?
    .concat();
    done.sort_by_key(|(index, _)| *index);
    let results = done.into_iter().map(|(_, result)| result).collect::<Result<Vec<f64>, _>>();
    let results = results.map_err(|bad| BadInput::new(&trace.file, bad))?;
    let mut chunks = results.chunks(seeds as usize);
    Ok(NodeChoice::ALL.map(|_| chunks.next().unwrap_or_default().to_vec()))
}

fn table(entries: &[Entry]) -> String {
    let header = ["TRACE", "POLICY", "SEEDS", "PUBLISHED", "REPRODUCED", "SD", "DIFFERENCE"].map(str::to_owned);
    let row = |entry: &Entry| {
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        [
            entry.trace.clone(),
            entry.policy.to_owned(),
            entry.seeds.to_string(),
            or_dash(entry.published.map(|published| format!("{published:.2}"))),
            format!("{:.2}", entry.mean),
            or_dash((entry.seeds > 1).then(|| format!("{:.2}", entry.sd))),
            or_dash(entry.published.map(|published| format!("{:+.2}", entry.mean - published))),
        ]
    };
    let rows: Vec<[String; 7]> = std::iter::once(header).chain(entries.iter().map(row)).collect();
    let mut text = String::from("Allocated GPUs in % of all, after pods that ask for 130 % have arrived\n\n");
    for cells in &rows {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let width = rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
            // Names to the left, numbers to the right.
            line += &if column < 2 { format!("{cell:<width$}  ") } else { format!("{cell:>width$}  ") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}
