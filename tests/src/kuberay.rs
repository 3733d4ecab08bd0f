//! A real KubeRay operator, and whoever is started as it is.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::process::{Process, free_port};
use crate::{parts, sidecar, wait};

/// KubeRay's operator, which speaks to the API server as this kubeconfig says.
///
/// # Errors
/// If the part is not there.
pub fn command(kubeconfig: &Path) -> Result<Command> {
    let mut command = Command::new(parts::kuberay_operator()?);
    command.env("KUBECONFIG", kubeconfig);
    Ok(command)
}

/// Starts an operator that takes KubeRay's flags, without an election and on ports of its own, and waits until it says that it is
/// ready. It logs in `directory` under `name`.
///
/// # Errors
/// If it can't be started, ends, or is not ready within `limit`.
pub async fn start(name: &str, command: &mut Command, directory: &Path, limit: Duration) -> Result<Process> {
    let (metrics, health) = (free_port()?, free_port()?);
    command
        .arg("--enable-leader-election=false")
        .arg(format!("--metrics-addr=127.0.0.1:{metrics}"))
        .arg(format!("--health-probe-bind-address=127.0.0.1:{health}"));
    let mut process = Process::start(name, command, directory)?;
    let ready = async || {
        process.must_run()?;
        Ok(sidecar::page(health, "/readyz").await.is_ok())
    };
    wait::until("the operator ready", limit, ready, |is_ready| *is_ready).await?;
    Ok(process)
}
