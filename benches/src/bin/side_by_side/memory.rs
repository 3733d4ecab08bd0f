//! Memory of one tick at each kept size: a child process reads the GCS's reply, decodes it, plans, and says how much
//! memory it had at most.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use mobula_benches::full_size::{self, FULL_SIZE};
use mobula_benches::problem::{SIZES, Size, cluster_state, raycluster};
use mobula_benches::{process, tick};
use mobula_gcs::wire::{decode_cluster_state, encode_cluster_state};
use mobula_planner::{Memory, Mobula, Policy};

/// Prints the table.
pub fn run() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    println!("| pending | nodes | reply kB | resident after the tick, MiB | peak MiB |\n|---|---|---|---|---|");
    for Size { pending, nodes } in SIZES {
        let size = Size { pending, nodes };
        let reply = encode_cluster_state(&cluster_state(size));
        let paths = ["reply.pb", "raycluster.json"].map(|name| scratch.path().join(name));
        fs::write(&paths[0], &reply)?;
        fs::write(&paths[1], raycluster(size).to_string())?;
        let output =
            Command::new(env::current_exe()?).arg("one-tick").args(&paths).output().context("starting the child")?;
        if !output.status.success() {
            bail!("{size}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let memory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        println!("| {pending} | {nodes} | {} | {memory} |", reply.len() / 1_000);
    }
    println!(
        "\n| full-size problem, policy mobula | resident before the plan, MiB | resident after it, MiB | peak MiB |"
    );
    println!("|---|---|---|---|");
    let output = Command::new(env::current_exe()?).arg("one-plan").output().context("starting the child")?;
    if !output.status.success() {
        bail!("full size: {}", String::from_utf8_lossy(&output.stderr));
    }
    println!("| snapshot and plan | {} |", String::from_utf8_lossy(&output.stdout).trim());
    Ok(())
}

/// In a child process: the full-size problem is made and planned; prints the memory that took.
pub fn one_plan() -> Result<()> {
    let snapshot = full_size::mix(FULL_SIZE, 1);
    let before = process::memory(std::process::id())?;
    let plan = Mobula::default().plan(&snapshot, &Memory::default());
    let after = process::memory(std::process::id())?;
    std::hint::black_box(plan);
    println!("{:.1} | {:.1} | {:.1}", mib(before.resident_bytes), mib(after.resident_bytes), mib(after.peak_bytes));
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// In a child process: one tick from these files; prints the memory it took.
pub fn one_tick(reply: &Path, cluster: &Path) -> Result<()> {
    let reply = fs::read(reply)?;
    let state = decode_cluster_state(&reply)?;
    let observation = tick::observation_of(state, serde_json::from_slice(&fs::read(cluster)?)?)?;
    let document = tick::whole(&observation)?;
    let memory = process::memory(std::process::id())?;
    std::hint::black_box(document);
    println!("{:.1} | {:.1}", mib(memory.resident_bytes), mib(memory.peak_bytes));
    Ok(())
}
