//! The binary: argument parsing and wiring only. Everything it decides is in the libraries.
// The one production place that asks the operating system for the time and the environment.
#![allow(clippy::disallowed_methods)]

mod cli;
mod crd;
mod explain;
mod input;
mod lint;
mod manifest;
mod operator;
mod operator_flags;
mod plan;
mod policy;
mod render;
mod replay;
mod reproduce;
mod sidecar;
mod simulate;

use std::process::ExitCode;

/// Ticks, reconciles and simulations are many small allocations. Measured in `benches/RESULTS.md`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(refusal) => return refusal.print(),
    };
    match command {
        cli::Command::Plan(args) => plan::run(&args),
        cli::Command::Sidecar(args) => sidecar::run(&args),
        cli::Command::Explain(args) => explain::run(&args),
        cli::Command::Replay(args) => replay::run(&args),
        cli::Command::Operator(args) => operator::run(&args),
        cli::Command::Render(args) => render::run(&args),
        cli::Command::Lint(args) => lint::run(&args),
        cli::Command::Crd(args) => crd::run(&args),
        cli::Command::Reproduce(args) => reproduce::run(&args),
        cli::Command::Simulate(args) => simulate::run(&args),
        cli::Command::Compare(args) => simulate::run_compare(&args),
    }
}
