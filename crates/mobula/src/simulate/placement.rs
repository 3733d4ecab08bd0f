//! `mobula simulate --mode placement`: the jobs of a trace on nodes, without a control plane.

use mobula_planner::placement::NodeChoice;
use mobula_sim::placement::{self, PlacementSummary};
use mobula_sim::span::Span;

use super::{RunArgs, read_scenario, seeds};
use crate::input::BadInput;
use crate::plan::Output;

/// Where neither the command line nor the scenario names a policy that places pods.
const DEFAULT: &str = "fgd";

/// Runs it.
pub fn run(args: &RunArgs) -> anyhow::Result<String> {
    let control_plane = [
        ("--events", args.events.is_some()),
        ("--series", args.series.is_some()),
        ("--explain-at", args.explain_at.is_some()),
        ("--record", args.record.is_some()),
    ];
    if let Some((flag, _)) = control_plane.iter().find(|(_, is_given)| *is_given) {
        return Err(BadInput::new(flag, "there is no control plane in placement mode: leave it out").into());
    }
    let scenario = read_scenario(args)?;
    let mut said = args.policy.clone();
    if said.is_empty() {
        // Those of the scenario that place pods; planners don't.
        let own = scenario.policies.iter().map(|policy| policy.value.clone());
        said.extend(own.filter(|name| NodeChoice::by_name(name).is_some()));
    }
    if said.is_empty() {
        said.push(DEFAULT.to_owned());
    }
    let mut summaries = Vec::new();
    for name in &said {
        let choice = NodeChoice::by_name(name).ok_or_else(|| {
            let known = NodeChoice::ALL.map(NodeChoice::name).join(", ");
            BadInput::new("--policy", format!("{name}: places no pods on nodes: must be one of {known}"))
        })?;
        for seed in seeds(args, &scenario) {
            let summary = placement::run(&scenario, choice, seed);
            let summary = summary.map_err(|error| BadInput::new(args.scenario.as_deref().unwrap_or("-"), error))?;
            if args.check_determinism && placement::run(&scenario, choice, seed) != Ok(summary.clone()) {
                anyhow::bail!("policy {name}, seed {seed}: two runs differ");
            }
            summaries.push(summary);
        }
    }
    match args.output {
        Output::Json => Ok(serde_json::to_string_pretty(&summaries)? + "\n"),
        Output::Table => Ok(table(&scenario.about, &summaries)),
    }
}

fn table(about: &str, summaries: &[PlacementSummary]) -> String {
    let mut text = if about.is_empty() { String::new() } else { format!("{}\n\n", about.trim()) };
    let time = |s: f64| Span::from_f64_s(s).to_string();
    for summary in summaries {
        let [jobs, gangs, unfit] = summary.jobs;
        let waits = [summary.wait_mean_s, summary.wait_p50_s, summary.wait_p99_s].map(time);
        text += &format!(
            "policy {}, seed {}: {jobs} jobs ({gangs} gangs, {unfit} never fit) on {} GPUs in {}\n\
             \x20 wait        mean {}, p50 {}, p99 {}\n\
             \x20 GPU-hours   {:.1} used; at most {:.1} GPUs at once\n\
             \x20 until the last arrival {:.1} % of the GPUs in use, {:.1} % free and of no use\n",
            summary.policy,
            summary.seed,
            summary.gpus,
            time(summary.hours * 3_600.0),
            waits[0],
            waits[1],
            waits[2],
            summary.gpu_hours_used,
            summary.most_gpus,
            100.0 * summary.used_share,
            100.0 * summary.fragmented_share,
        );
    }
    text
}
