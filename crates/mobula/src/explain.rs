//! `mobula explain`.

use std::process::ExitCode;

/// Arguments of `mobula explain`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
