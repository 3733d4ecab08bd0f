//! `mobula replay`: every tick of a recording again, bit for bit, or through another policy.

use std::{io::Write as _, path::PathBuf, process::ExitCode, sync::Arc};

use mobula_autoscaler::recorder::{Comparison, Recording};
use mobula_planner::{Memory, PolicyOptions};

use crate::{
    cli::EXIT_BAD_INPUT,
    input::{self, BadInput},
    plan::Output,
    policy,
};

/// Arguments of `mobula replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --policy every tick is planned again by the policy and from the memory that were recorded.
With --policy the named policy, with the options given here, keeps a memory of its own from tick to tick, and what it decides otherwise is printed; each \
tick still shows the cluster that the recorded plans led to.
Exit status: 0 if all plans are the same (or --policy was given), 1 if one differs or can't be planned again, 2 for a recording that can't be read.")]
pub struct Args {
    /// A recording: a file, or the directory given to `mobula sidecar --record`
    #[arg(value_name = "RECORDING")]
    recording: PathBuf,
    /// Plan with this policy instead of the recorded one
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Spend the work of about so many ms on making each plan cheaper
    #[arg(long, value_name = "MS", default_value_t = 0, requires = "policy")]
    improve: u64,
    /// Never put requests without GPU on GPU nodes, not even if nothing else can take them
    #[arg(long, requires = "policy")]
    keep_gpu_clean: bool,
    /// Name nodes that could be drained because others have room for all that they run
    #[arg(long, requires = "policy")]
    defragment: bool,
    /// Plan with these prices instead of the recorded ones: see `mobula plan --help`
    #[arg(long, value_name = "FILE", requires = "policy")]
    prices: Option<String>,
    /// Plan with this topology instead of the recorded one: see `mobula plan --help`
    #[arg(long, value_name = "NAME|FILE", requires = "policy")]
    topology: Option<String>,
    /// Form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Output,
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    match replay(args) {
        Ok((text, is_same)) => {
            // Whoever closed the pipe has seen enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::from(u8::from(!is_same))
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(EXIT_BAD_INPUT)
        }
    }
}

/// The answer, and whether all is as it was.
fn replay(args: &Args) -> anyhow::Result<(String, bool)> {
    let options = PolicyOptions {
        improve_work: policy::improve_work(args.improve),
        keep_gpu_clean: args.keep_gpu_clean,
        defragment: args.defragment,
    };
    let prices = args.prices.as_deref().map(input::prices).transpose()?;
    let topology = args.topology.as_deref().map(input::topology).transpose()?;
    let other = args.policy.as_deref().map(|name| policy::named(name, &options)).transpose()?;
    let recording = Recording::read(&args.recording)?;
    let mut comparison = Comparison::default();
    let mut memory: Option<Memory> = None;
    let mut all_planned = true;
    for frame in recording.frames() {
        let done = match (frame, &other) {
            (Err(damage), _) => Err(damage.to_string()),
            (Ok(frame), None) => comparison.verify(&frame).inspect_err(|_| all_planned = false),
            (Ok(mut frame), Some(other)) => {
                if let Some(prices) = &prices {
                    frame.options.prices.clone_from(prices);
                }
                if let Some(topology) = &topology {
                    frame.options.topology.clone_from(&topology.levels);
                    let nodes = Arc::make_mut(&mut frame.observation.surroundings.kube_nodes);
                    topology.hypernodes.label_nodes(nodes);
                }
                let before = memory.take().unwrap_or_else(|| frame.memory.clone());
                comparison.compare(&frame, other.as_ref(), &before).map(|after| memory = Some(after))
            }
        };
        if let Err(problem) = done {
            eprintln!("warning: {problem}");
            comparison.unreadable.push(problem);
        }
    }
    if comparison.ticks == 0 {
        return Err(BadInput::new(&args.recording.to_string_lossy(), "no tick in it can be planned again").into());
    }
    let is_same = other.is_some() || (all_planned && comparison.different.is_empty());
    let text = match args.output {
        Output::Table => comparison.to_table(),
        Output::Json => serde_json::to_string_pretty(&comparison)? + "\n",
    };
    Ok((text, is_same))
}
