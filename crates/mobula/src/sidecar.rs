//! `mobula sidecar`.

use std::process::ExitCode;

/// Arguments of `mobula sidecar`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the RayCluster
    #[arg(long)]
    pub cluster_name: String,
    /// Its namespace
    #[arg(long)]
    pub cluster_namespace: String,
    /// Address of the GCS
    #[arg(long, value_name = "HOST:PORT")]
    pub gcs_address: Option<String>,
}

/// Runs it.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
