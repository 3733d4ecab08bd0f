//! The simulator beside reality: a scenario on real parts by the clock on the wall, then the same file in `mobula simulate` with the latencies that
//! this machine had, side by side.
//!
//! The same in both: the scenario, Mobula's binary (operator, sidecar), pulls, init containers and stops of pods. Real on the one side and modelled on
//! the other: API server, scheduler, controllers, the GCS, raylets, tasks and placement groups. Measured on the one side and given to the
//! other, for they are the machine's and not the model's: how long a raylet takes to register, how long its first workers take to start
//! (`ray.workers`), and how long kube-scheduler takes to bind a pod. No autoscaler of Kubernetes nodes is there: nodes are those of the scenario.

mod kubelet;
mod real;
mod script;
mod simulated;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use mobula_benches::process;
use serde_json::{Value, json};

use real::Played;
use script::Script;

/// What is compared.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    task_waits_s: Vec<f64>,
    gang_waits_s: Vec<f64>,
    /// From the last node that registered before to each placed group.
    placing_s: Vec<f64>,
    pod_hours: f64,
    pods: f64,
    /// By verb and resource, as `patch rayclusters`.
    sidecar_requests: Kinds,
    operator_requests: Kinds,
    replicas: Series,
}

type Kinds = BTreeMap<String, f64>;

/// A number over time: when it became what.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<(f64, i64)>);

impl Series {
    fn add(&mut self, at_s: f64, value: i64) {
        if self.0.last().is_none_or(|(_, last)| *last != value) {
            self.0.push((at_s, value));
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.0.iter().map(|(at_s, value)| format!("{value} at {at_s:.1} s"));
        out.write_str(&steps.collect::<Vec<_>>().join(", "))
    }
}

/// The scenarios that are played where none is named.
pub fn scenarios() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fidelity");
    ["placement-groups-and-idle-down.yaml", "bursts-over-two-groups.yaml"].map(|name| directory.join(name)).into()
}

/// Plays each scenario on real parts and in simulation, and prints a table for each.
///
/// # Errors
/// If a scenario can't be played, or its work is not done by its horizon.
pub async fn run(files: &[PathBuf], mobula: Option<&Path>) -> Result<()> {
    let mobula = mobula.map_or_else(mobula_benches::stage::mobula, |mobula| Ok(mobula.to_owned()))?;
    for file in files {
        let script = Script::read(file)?;
        println!("## {}\n{}\nload at the start: {}", file.display(), script.about, process::load()?);
        let played = real::play(Script::read(file)?, &mobula).await?;
        let measured = measured(&played);
        let simulated = simulated::run(&script.with(&measured), &mobula)?;
        print(&played, &simulated, &measured);
    }
    Ok(())
}

/// From the last of `before` that is not later than each of `after`, but for `seen_within_s` that it may have been seen too late.
fn gaps(after: &[f64], before: &[f64], seen_within_s: f64) -> Vec<f64> {
    let last = |at: f64| before.iter().copied().filter(|before| *before <= at + seen_within_s).reduce(f64::max);
    after.iter().filter_map(|at| Some((at - last(*at)?).max(0.0))).collect()
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// A distribution of the simulator with this mean and this deviation.
fn spread(values: &[f64]) -> Value {
    let mean = mean(values);
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len().max(1) as f64;
    let half = (3.0 * variance).sqrt().min(mean);
    let rounded = |value: f64| (value * 1e3).round() / 1e3;
    json!({"uniform": [rounded(mean - half), rounded(mean + half)]})
}

/// What was measured and is given to the simulation.
fn measured(played: &Played) -> Vec<(&'static str, &'static str, Value)> {
    let mut measured = vec![("pods", "register", spread(&played.registering_s))];
    if !played.first_tasks_s.is_empty() {
        measured.push(("ray", "workers", spread(&played.first_tasks_s)));
    }
    measured.push(("scheduler", "latency", json!((mean(&played.binding_s) * 1e3).round() / 1e3)));
    measured
}

fn print(played: &Played, simulated: &[Seen], measured: &[(&str, &str, Value)]) {
    println!("\nmeasured here and given to the simulation:");
    measured.iter().for_each(|(part, name, value)| println!("  {part}.{name}: {value}"));
    let (deleted, ended) = played.drained;
    println!(
        "workers that were drained and deleted: {deleted}; whose `ray start --block` had ended by itself before: {ended}\n"
    );
    println!(
        "| | real | simulated, mean of {} seeds | least and most | difference |\n|---|---|---|---|---|",
        simulated.len()
    );
    let row = |name: &str, of: &dyn Fn(&Seen) -> f64| {
        let (real, all) = (of(&played.seen), simulated.iter().map(of).collect::<Vec<_>>());
        let (least, most) = all.iter().fold((f64::MAX, f64::MIN), |(least, most), it| (least.min(*it), most.max(*it)));
        if real != 0.0 || most > 0.0 {
            let difference = 100.0 * (mean(&all) / real - 1.0);
            println!("| {name} | {real:.3} | {:.3} | {least:.3}–{most:.3} | {difference:+.1} % |", mean(&all));
        }
    };
    row("mean wait of tasks, s", &|seen| mean(&seen.task_waits_s));
    row("mean wait of placement groups, s", &|seen| mean(&seen.gang_waits_s));
    row("of it from the last node to the placed group, s", &|seen| mean(&seen.placing_s));
    row("hours of worker pods", &|seen| seen.pod_hours);
    row("worker pods", &|seen| seen.pods);
    let of = |kinds: &Kinds, kind: &str| kinds.get(kind).copied().unwrap_or_default();
    row("patches of the RayCluster by the sidecar", &|seen| of(&seen.sidecar_requests, "patch rayclusters"));
    row("requests of the sidecar", &|seen| seen.sidecar_requests.values().sum());
    row("requests of the operator", &|seen| seen.operator_requests.values().sum());
    println!("\nrequests by kind, real and simulated (mean):");
    type Of = fn(&Seen) -> &Kinds;
    let both: [(&str, Of); 2] =
        [("sidecar", |seen| &seen.sidecar_requests), ("operator", |seen| &seen.operator_requests)];
    for (who, kinds) in both {
        let names: BTreeSet<&String> =
            simulated.iter().chain([&played.seen]).flat_map(|seen| kinds(seen).keys()).collect();
        for name in names {
            let simulated = mean(&simulated.iter().map(|seen| of(kinds(seen), name)).collect::<Vec<_>>());
            println!("  {who}: {name} {} {simulated:.1}", of(kinds(&played.seen), name));
        }
    }
    println!("\nreplicas, real: {}", played.seen.replicas);
    if let Some(first) = simulated.first() {
        println!("replicas, simulated (first seed): {}\n", first.replicas);
    }
    println!("waits, real: tasks {:.1?}, placement groups {:.1?}", played.seen.task_waits_s, played.seen.gang_waits_s);
}
