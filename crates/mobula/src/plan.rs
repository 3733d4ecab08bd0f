//! `mobula plan`: one tick on files.

use std::process::ExitCode;

/// Arguments of `mobula plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The RayCluster, YAML or JSON; `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub raycluster: String,
    /// The demand: a GetClusterResourceState reply as protobuf (.pb) or JSON (.json), or gcs://HOST:PORT
    #[arg(long, value_name = "FILE|gcs://HOST:PORT")]
    pub demand: String,
}

/// Runs it.
pub fn run(_args: &Args) -> ExitCode {
    ExitCode::FAILURE
}
