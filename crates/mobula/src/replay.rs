//! `mobula replay`.

use std::process::ExitCode;

/// Arguments of `mobula replay`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
