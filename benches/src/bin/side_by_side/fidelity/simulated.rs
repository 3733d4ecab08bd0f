//! The same scenario in `mobula simulate`, once for each of its seeds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Seen, Series, gaps};

/// Runs it for each seed.
///
/// # Errors
/// If a run fails.
pub fn run(document: &Value, mobula: &Path) -> Result<Vec<Seen>> {
    let seeds = document["seeds"].as_array().context("seeds: must be a list")?;
    seeds.iter().map(|seed| once(document, &seed.to_string(), mobula)).collect()
}

fn once(document: &Value, seed: &str, mobula: &Path) -> Result<Seen> {
    let scratch = tempfile::tempdir()?;
    let (file, events, series) =
        (scratch.path().join("it.yaml"), scratch.path().join("events"), scratch.path().join("s"));
    fs::write(&file, document.to_string())?;
    let mut command = Command::new(mobula);
    command.arg("simulate").arg(&file).args(["--seed", seed, "--output", "json", "--series-every", "500ms"]);
    let output = command.arg("--events").arg(&events).arg("--series").arg(&series).output()?;
    if !output.status.success() {
        bail!("mobula simulate: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let summaries: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let summary = summaries.first().context("no summary")?;
    let horizon_s = summary["horizon_s"].as_f64().context("horizon_s")?;
    let events = fs::read_to_string(&events)?;
    let (pods, pod_hours) = workers(&events, horizon_s);
    let placing_s = gaps(&times_s(&events, "gang-placed", ""), &times_s(&events, "ray-joins", "-worker-"), 0.0);
    let rows = fs::read_dir(&series)?.next().context("no series")??;
    let kinds = |name: &str| serde_json::from_value(summary[name].clone()).with_context(|| name.to_owned());
    // The means are all that is compared.
    let waits = |name: &str| {
        vec![summary[name]["mean_s"].as_f64().unwrap_or_default(); usize::from(summary[name]["count"] != 0)]
    };
    Ok(Seen {
        task_waits_s: waits("task_wait"),
        gang_waits_s: waits("gang_wait"),
        placing_s,
        pod_hours,
        pods,
        sidecar_requests: kinds("sidecar_requests_by_kind")?,
        operator_requests: kinds("operator_requests_by_kind")?,
        replicas: replicas(&fs::read_to_string(rows.path())?)?,
    })
}

/// How many worker pods there were, and for how many hours together.
fn workers(events: &str, horizon_s: f64) -> (f64, f64) {
    let mut lives: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for line in events.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (pod, is_gone) = match words.as_slice() {
            [_, _, "pods", pod, _] => (*pod, false),
            [_, _, "pods", "gone", pod, _] => (*pod, true),
            _ => continue,
        };
        let at_s = words[0].parse::<f64>().unwrap_or_default() / 1e6;
        if pod.contains("-worker-") {
            let life = lives.entry(pod).or_insert((at_s, horizon_s));
            if is_gone {
                life.1 = at_s;
            }
        }
    }
    (lives.len() as f64, lives.values().map(|(from_s, to_s)| to_s - from_s).sum::<f64>() / 3_600.0)
}

/// When something of this kind happened to what has this in its name.
fn times_s(events: &str, kind: &str, of: &str) -> Vec<f64> {
    let lines = events.lines().filter(|line| line.contains(of) && line.split(' ').nth(2) == Some(kind));
    lines.filter_map(|line| line.split(' ').next()?.parse::<f64>().ok()).map(|us| us / 1e6).collect()
}

fn replicas(csv: &str) -> Result<Series> {
    let mut lines = csv.lines();
    let columns: Vec<&str> = lines.next().context("an empty series")?.split(',').collect();
    let place = |name: &str| columns.iter().position(|column| *column == name).with_context(|| format!("no {name}"));
    let (time, replicas) = (place("time_s")?, place("replicas")?);
    let mut series = Series::default();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        series.add(cells[time].parse()?, cells[replicas].parse()?);
    }
    Ok(series)
}
