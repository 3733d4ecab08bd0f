//! What is tested: `mobula sidecar`, or, with MOBULA_TEST_AUTOSCALER=ray, Ray's own autoscaler in its place.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::apiserver::Namespace;
use crate::gcs::Env;
use crate::parts;
use crate::process::{Process, free_port};
use crate::ray::Ray;

/// Which program scales.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Autoscaler {
    /// Ours.
    Mobula,
    /// `ray kuberay-autoscaler`.
    Ray,
}

impl Autoscaler {
    /// What the environment says; ours if nothing.
    pub fn chosen() -> Result<Autoscaler> {
        match std::env::var("MOBULA_TEST_AUTOSCALER").as_deref() {
            Ok("ray") => Ok(Autoscaler::Ray),
            Ok("mobula") | Err(_) => Ok(Autoscaler::Mobula),
            Ok(other) => bail!("MOBULA_TEST_AUTOSCALER is `{other}`: must be `mobula` or `ray`"),
        }
    }
}

/// The running autoscaler.
pub struct Sidecar {
    /// The process.
    pub process: Process,
    metrics_port: u16,
}

impl Sidecar {
    /// Starts it for the RayCluster of the namespace's account, with that account's credentials.
    pub fn start(which: Autoscaler, ray: &Ray, namespace: &Namespace, env: &Env, directory: &Path) -> Result<Sidecar> {
        let metrics_port = free_port()?;
        let mut command = match which {
            Autoscaler::Mobula => {
                let mut command = Command::new(parts::mobula()?);
                command.arg("sidecar").envs(ray.env.iter().cloned());
                command
            }
            Autoscaler::Ray => {
                let mut command = ray.command("ray");
                command.arg("kuberay-autoscaler");
                command
            }
        };
        command
            .args(["--cluster-name", &namespace.account, "--cluster-namespace", &namespace.name])
            .args(["--gcs-address", &ray.gcs_address()])
            .envs(namespace.credentials.env())
            .env("AUTOSCALER_METRIC_PORT", metrics_port.to_string())
            .envs(env.iter().cloned());
        let process = Process::start("sidecar", &mut command, directory)?;
        Ok(Sidecar { process, metrics_port })
    }

    /// The text of its metrics endpoint.
    pub async fn metrics(&self) -> Result<String> {
        self.get("/metrics").await
    }

    /// The body of a page that it serves.
    pub async fn get(&self, path: &str) -> Result<String> {
        page(self.metrics_port, path).await
    }
}

/// The body of a page that is served at a port of this machine.
pub async fn page(port: u16, path: &str) -> Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(20), exchange).await.context("no answer within 20 s")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200"), "{path}: {status}: {body}");
    Ok(body.to_owned())
}
