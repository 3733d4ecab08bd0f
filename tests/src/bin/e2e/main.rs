//! What `cargo xtask e2e` runs: the operator and the sidecar as containers of a real Kubernetes node, scaling a real Ray.
//!
//! `e2e run` makes namespaces and starts itself in them; the story takes place inside. Whatever happens, the namespaces end
//! with the run, and with them everything that was started.
#![allow(clippy::disallowed_methods)] // it measures time

mod cluster;
mod image;
mod job;
mod story;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use mobula_tests::node::isolation::{self, Room};
use tokio::signal::unix::{SignalKind, signal};

/// With this in the environment, the directory with all logs is kept.
const KEEP_LOGS: &str = "MOBULA_TEST_KEEP_LOGS";
/// Exit code of `check` on a machine that can't; `cargo xtask test` knows it.
const CANNOT: u8 = 3;
/// Exit code of a program that was interrupted.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match words.as_slice() {
        ["check"] => Ok(check()),
        ["run"] => run(),
        ["inside", directory] => inside(Path::new(directory)).map(|()| ExitCode::SUCCESS),
        _ => Err(anyhow::anyhow!("usage: e2e check | run")),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("e2e: {error:#}");
        ExitCode::FAILURE
    })
}

fn check() -> ExitCode {
    match isolation::check() {
        Ok(()) => {
            println!("This machine can run a Kubernetes node.");
            ExitCode::SUCCESS
        }
        Err(lack) => {
            eprintln!("This machine can't run a Kubernetes node: {lack:#}");
            ExitCode::from(CANNOT)
        }
    }
}

/// Outside: the namespaces, and their end. One thread: the processes inside are killed when the one that started them ends.
fn run() -> Result<ExitCode> {
    isolation::check()?;
    let image = image::build()?;
    let mut room = Room::new()?;
    let keeps_logs = std::env::var_os(KEEP_LOGS).is_some();
    if !keeps_logs {
        room.keep_nothing()?;
    }
    image.write(room.directory())?;
    let start = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(run_inside(&room));
    if keeps_logs {
        println!("The logs are in {}", room.keep().display());
    }
    drop(room);
    let (verdict, code) = match ended {
        Ok(Some(true)) => ("done", ExitCode::SUCCESS),
        Ok(Some(false)) => ("failed", ExitCode::FAILURE),
        Ok(None) => ("interrupted", ExitCode::from(INTERRUPTED)),
        Err(error) => bail!(error),
    };
    println!("\ne2e: {verdict}; everything stopped after {:.0} s", start.elapsed().as_secs_f64());
    Ok(code)
}

/// Whether it went well; nothing if it was interrupted.
async fn run_inside(room: &Room) -> Result<Option<bool>> {
    let program = std::env::current_exe().context("where this program lies is not known")?;
    let mut command = tokio::process::Command::from(room.command(&program));
    command.arg("inside").arg(room.directory()).kill_on_drop(true);
    // A group of its own: an interrupt from the terminal is for us, who kill it.
    let mut child = command.process_group(0).spawn().context("could not start setpriv")?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        ended = child.wait() => return Ok(Some(ended?.success())),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    child.kill().await.context("could not end the node")?;
    Ok(None)
}

fn inside(directory: &Path) -> Result<()> {
    ensure!(std::process::id() < 100, "`e2e inside` is for `e2e run` only");
    isolation::furnish(directory)?;
    tokio::runtime::Runtime::new()?.block_on(story::tell(directory))
}
