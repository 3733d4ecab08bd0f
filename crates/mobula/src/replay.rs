//! `mobula replay`: every tick of a recording again, bit for bit, or through another policy.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use mobula_autoscaler::recorder::{Frame, Recording};
use mobula_planner::{Memory, Plan, Policy};
use serde::Serialize;

use crate::cli::EXIT_BAD_INPUT;

/// Arguments of `mobula replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --policy every tick is planned again by the policy and from the memory that were recorded.
With --policy the named policy keeps a memory of its own from tick to tick; what it would have done in another way is printed.
Exit status: 0 if all plans are the same (or --policy was given), 1 if one differs, 2 for a recording that can't be read.")]
pub struct Args {
    /// A recording: a file, or the directory given to `mobula sidecar --record`
    #[arg(value_name = "RECORDING")]
    recording: PathBuf,
    /// Plan with this policy instead of the recorded one
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
}

/// Runs it.
pub fn run(args: Args) -> ExitCode {
    match replay(&args) {
        Ok(report) => {
            let mut text = String::new();
            for line in &report.lines {
                text.push_str(line);
                text.push('\n');
            }
            text.push_str(&report.summary());
            // Whoever closed the pipe has seen enough.
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::from(u8::from(args.policy.is_none() && report.different > 0))
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(EXIT_BAD_INPUT)
        }
    }
}

#[derive(Debug, Default)]
struct Report {
    lines: Vec<String>,
    ticks: usize,
    different: usize,
    unreadable: usize,
}

impl Report {
    fn summary(&self) -> String {
        let Report { ticks, different, unreadable, .. } = self;
        let damage = if *unreadable > 0 { format!(", {unreadable} unreadable parts") } else { String::new() };
        format!("{ticks} ticks: {} with the same plan, {different} with another one{damage}", ticks - different)
    }
}

fn replay(args: &Args) -> anyhow::Result<Report> {
    let other = args.policy.as_deref().map(policy).transpose()?;
    let recording = Recording::read(&args.recording)?;
    let mut report = Report::default();
    let mut memory: Option<Memory> = None;
    for frame in recording.frames() {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                eprintln!("warning: {error}");
                report.unreadable += 1;
                continue;
            }
        };
        report.ticks += 1;
        let differences = match other {
            None => again(&frame)?,
            Some(other) => {
                let replayed = frame.replay(other, memory.as_ref().unwrap_or(&frame.memory))?;
                memory = Some(replayed.memory);
                decisions(&frame.plan, &replayed.plan)
            }
        };
        if !differences.is_empty() {
            report.different += 1;
            report.lines.push(format!("tick {} at {} ms:", frame.tick, frame.observation.now_ms));
            report.lines.extend(differences.into_iter().map(|line| format!("  {line}")));
        }
    }
    Ok(report)
}

fn policy(name: &str) -> anyhow::Result<&'static dyn Policy> {
    let known = mobula_planner::policy_names().join(", ");
    mobula_planner::policy(name).ok_or_else(|| anyhow::anyhow!("policy {name}: unknown: must be one of {known}"))
}

/// Plan and memory must come out as they were recorded, to the last byte.
fn again(frame: &Frame) -> anyhow::Result<Vec<String>> {
    let replayed = frame.replay(policy(&frame.policy)?, &frame.memory)?;
    let mut differences = Vec::new();
    if bytes(&replayed.plan)? != bytes(&frame.plan)? {
        differences = decisions(&frame.plan, &replayed.plan);
        if differences.is_empty() {
            differences.push("the reasons or their order differ".to_owned());
        }
    }
    if bytes(&replayed.memory)? != bytes(&frame.memory_after)? {
        differences.push("what is remembered differs".to_owned());
    }
    Ok(differences)
}

fn bytes(value: &impl Serialize) -> anyhow::Result<Vec<u8>> {
    Ok(serde_json::to_vec(value)?)
}

/// What two plans would do in different ways.
fn decisions(recorded: &Plan, replayed: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let names = recorded.groups.keys().chain(replayed.groups.keys().filter(|name| !recorded.groups.contains_key(*name)));
    for name in names {
        let desired = |plan: &Plan| plan.groups.get(name).map(|group| group.desired);
        let (was, is) = (desired(recorded), desired(replayed));
        if was != is {
            let text = |replicas: Option<u32>| replicas.map_or_else(|| "none".to_owned(), |count| count.to_string());
            lines.push(format!("group {name}: {} replicas were wanted, now {}", text(was), text(is)));
        }
    }
    let ends = |plan: &Plan| plan.terminate.iter().map(|end| end.instance_id.clone()).collect::<Vec<_>>();
    let (was, is) = (ends(recorded), ends(replayed));
    lines.extend(was.iter().filter(|pod| !is.contains(pod)).map(|pod| format!("pod {pod}: was to end, now stays")));
    lines.extend(is.iter().filter(|pod| !was.contains(pod)).map(|pod| format!("pod {pod}: was to stay, now ends")));
    let unmet = |plan: &Plan| plan.unmet.iter().map(|unmet| unmet.count).sum::<u64>();
    if unmet(recorded) != unmet(replayed) {
        lines.push(format!("unmet requests: {} before, now {}", unmet(recorded), unmet(replayed)));
    }
    if recorded.resize != replayed.resize {
        lines.push("other pods are resized, or in another way".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mobula_planner::GroupPlan;

    use super::*;

    fn plan(desired: u32) -> Plan {
        let group = GroupPlan { desired, ..GroupPlan::default() };
        Plan { groups: BTreeMap::from([("cpu".to_owned(), group)]), ..Plan::default() }
    }

    #[test]
    fn equal_plans_differ_in_nothing() {
        assert!(decisions(&plan(1), &plan(1)).is_empty());
    }

    #[test]
    fn another_number_of_replicas_is_named() {
        assert_eq!(decisions(&plan(1), &plan(3)), ["group cpu: 1 replicas were wanted, now 3"]);
        assert_eq!(decisions(&Plan::default(), &plan(3)), ["group cpu: none replicas were wanted, now 3"]);
    }
}
