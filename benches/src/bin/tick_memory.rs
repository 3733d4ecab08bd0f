//! Memory of one tick at each kept size: a child process reads the GCS's reply, decodes it, plans, and says how much
//! memory it had at most.
//!
//! `cargo run --release -p mobula-benches --bin tick_memory`

// A child process is told its problem by arguments.
#![allow(clippy::disallowed_methods)]

use std::env;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use mobula_benches::problem::{SIZES, Size, cluster_state, raycluster};
use mobula_benches::{process, tick};
use mobula_gcs::wire::{decode_cluster_state, encode_cluster_state};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => parent(),
        [reply, cluster] => child(reply, cluster),
        _ => bail!("no arguments are needed"),
    }
}

fn parent() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    println!("| pending | nodes | reply kB | resident after the tick, MiB | peak MiB |\n|---|---|---|---|---|");
    for Size { pending, nodes } in SIZES {
        let size = Size { pending, nodes };
        let reply = encode_cluster_state(&cluster_state(size));
        let paths = ["reply.pb", "raycluster.json"].map(|name| scratch.path().join(name));
        fs::write(&paths[0], &reply)?;
        fs::write(&paths[1], raycluster(size).to_string())?;
        let output = Command::new(env::current_exe()?).args(&paths).output().context("starting the child")?;
        if !output.status.success() {
            bail!("{size}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let memory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        println!("| {pending} | {nodes} | {} | {memory} |", reply.len() / 1_000);
    }
    Ok(())
}

fn child(reply: &str, cluster: &str) -> Result<()> {
    let reply = fs::read(reply)?;
    let state = decode_cluster_state(&reply)?;
    let observation = tick::observation_of(state, serde_json::from_slice(&fs::read(cluster)?)?)?;
    let document = tick::whole(&observation)?;
    let memory = process::memory(std::process::id())?;
    std::hint::black_box(document);
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    println!("{:.1} | {:.1}", mib(memory.resident_bytes), mib(memory.peak_bytes));
    Ok(())
}
