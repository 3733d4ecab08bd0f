//! A real GCS alone, without any raylet: starts in under a second. Nodes and placement groups are registered by RPC.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mobula_gcs::{Client, Config};
use serde_json::json;

use crate::parts::RayPart;
use crate::process::{Process, free_port};
use crate::wait;

/// Environment variables of a process.
pub type Env = Vec<(String, String)>;

/// The running server.
pub struct GcsServer {
    /// `127.0.0.1:port`.
    pub address: String,
    env: Env,
    process: Process,
}

impl GcsServer {
    /// Starts it with an environment (tokens, TLS); ready when this returns.
    pub async fn start(ray: &RayPart, directory: &Path, env: Env) -> Result<GcsServer> {
        GcsServer::start_at(ray, directory, env, free_port()?).await
    }

    /// Starts it at this port.
    pub async fn start_at(ray: &RayPart, directory: &Path, env: Env, port: u16) -> Result<GcsServer> {
        let session = format!("session_2026-01-01_00-00-00_{port}_{}", std::process::id());
        // Registered nodes have no raylet to answer health checks: the first would come after 5 s.
        let config = BASE64.encode(json!({"health_check_initial_delay_ms": 3_600_000}).to_string());
        let mut command = Command::new(&ray.gcs_server);
        command
            .arg(format!("--gcs_server_port={port}"))
            .args([
                "--node-ip-address=127.0.0.1",
                &format!("--session-name={session}"),
                &format!("--config_list={config}"),
            ])
            .arg(format!("--log_dir={}", directory.display()))
            .arg(format!("--session-dir={}", directory.display()))
            .env("RAY_enable_autoscaler_v2", "1")
            .envs(env.clone());
        let process = Process::start("gcs_server", &mut command, directory)?;
        let mut server = GcsServer { address: format!("127.0.0.1:{port}"), env, process };
        let client = server.client()?;
        let process = &mut server.process;
        let serving = async || {
            process.must_run()?;
            Ok(client.is_serving().await.unwrap_or(false))
        };
        wait::until("gcs_server serving", Duration::from_secs(60), serving, |serving| *serving).await?;
        eprintln!("real part: gcs_server of Ray {}", ray.version);
        Ok(server)
    }

    /// A client with the credentials of the server's environment.
    pub fn client(&self) -> Result<Client> {
        client(&self.address, &self.env)
    }
}

/// A client for the GCS at an address, configured by environment variables as the sidecar is.
pub fn client(address: &str, env: &Env) -> Result<Client> {
    let lookup = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    Ok(Client::new(Config::from_env(vec![address.to_owned()], &lookup)?)?)
}
