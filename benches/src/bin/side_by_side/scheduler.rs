//! CPU time of `ray-v2` against that of Ray's own scheduler, on the same problems in the same run. Both must decide alike.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use mobula_benches::problem::Size;
use mobula_benches::{process, tick};
use mobula_planner::{Memory, Snapshot, ray_v2};
use mobula_tests::parts;
use serde_json::{Value, json};

/// What Ray can do within minutes: it takes about (nodes + launches) x requests steps in Python.
const SIZES: [Size; 6] = [
    Size { pending: 10, nodes: 10 },
    Size { pending: 10, nodes: 1_000 },
    Size { pending: 1_000, nodes: 10 },
    Size { pending: 1_000, nodes: 100 },
    Size { pending: 1_000, nodes: 1_000 },
    Size { pending: 5_000, nodes: 100 },
];
/// Ours is repeated until it has used so much CPU time, for the kernel counts in steps of 10 ms.
const OWN_CPU_S: f64 = 1.0;

/// Prints the table.
pub fn run() -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/ray_v2_cpu_seconds.py");
    let mut ray = Command::new(parts::ray(parts::RAY)?.bin.join("python"))
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting Python")?;
    let mut problems = ray.stdin.take().context("no pipe to Python")?;
    let mut answers = BufReader::new(ray.stdout.take().context("no pipe from Python")?).lines();

    println!("load at the start: {}\n", process::load()?);
    println!("| pending | nodes | Ray, CPU s | ray-v2, CPU s | ratio | launches |\n|---|---|---|---|---|---|");
    for size in SIZES {
        let snapshot = tick::build(&tick::observation(size)?)?;
        writeln!(problems, "{}", json!({"snapshot": snapshot, "memory": Memory::default()}))?;
        let answer = answers.next().context("Python has ended")??;
        let answer: Value = serde_json::from_str(&answer).with_context(|| format!("not an answer: {answer}"))?;
        let ray_s = answer["cpu_s"].as_f64().context("no cpu_s in the answer")?;
        let launches = same_launches(size, &snapshot, &answer["launch"])?;
        let own_s = own_cpu_seconds(&snapshot)?;
        let Size { pending, nodes } = size;
        println!("| {pending} | {nodes} | {ray_s:.3} | {own_s:.6} | {:.0} | {launches} |", ray_s / own_s);
    }
    drop(problems);
    ensure!(ray.wait()?.success(), "Python failed");
    Ok(())
}

/// How many nodes both launch; an error if they do not decide alike.
fn same_launches(size: Size, snapshot: &Snapshot, ray: &Value) -> Result<u64> {
    let ray: BTreeMap<String, u64> = serde_json::from_value(ray.clone())?;
    let own = ray_v2::schedule(snapshot, &Memory::default()).launch;
    ensure!(own == ray, "{size}: Ray launches {ray:?}, ray-v2 {own:?}");
    Ok(own.values().sum())
}

/// CPU seconds of one plan, with its reasons, on average.
fn own_cpu_seconds(snapshot: &Snapshot) -> Result<f64> {
    let own = std::process::id();
    let start_s = process::cpu_seconds(own)?;
    for plans in 1_u32.. {
        std::hint::black_box(tick::plan(snapshot));
        let used_s = process::cpu_seconds(own)? - start_s;
        if used_s >= OWN_CPU_S {
            return Ok(used_s / f64::from(plans));
        }
    }
    Ok(f64::NAN)
}
