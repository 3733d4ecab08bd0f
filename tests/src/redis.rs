//! A real Redis.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::process::{Process, free_port};
use crate::{parts, wait};

/// The running server. It keeps nothing on disk.
pub struct Redis {
    /// Where it listens, on loopback.
    pub port: u16,
    password: String,
    part: PathBuf,
    process: Process,
}

impl Redis {
    /// Starts it; whoever speaks to it must know the password.
    pub async fn start(password: &str, directory: &Path) -> Result<Redis> {
        let (port, part) = (free_port()?, parts::directory("redis-server")?);
        let mut server = program(&part, "redis-server");
        server.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--requirepass", password]);
        server.args(["--save", "", "--appendonly", "no"]).arg("--dir").arg(directory);
        let process = Process::start("redis-server", &mut server, directory)?;
        let mut redis = Redis { port, password: password.to_owned(), part, process };
        let pong = async || {
            redis.process.must_run()?;
            Ok(redis.ask(&["PING"]).unwrap_or_else(|error| format!("{error:#}")))
        };
        wait::until("Redis answers", Duration::from_secs(30), pong, |said| said == "PONG").await?;
        Ok(redis)
    }

    /// What it answers to a command.
    pub fn ask(&self, words: &[&str]) -> Result<String> {
        let mut client = program(&self.part, "redis-cli");
        client.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(words).env("REDISCLI_AUTH", &self.password);
        let output = client.output().context("could not start redis-cli")?;
        let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        ensure!(output.status.success(), "Redis: {said}{}", String::from_utf8_lossy(&output.stderr));
        Ok(said)
    }

    /// All its keys.
    pub fn keys(&self) -> Result<Vec<String>> {
        Ok(self.ask(&["--scan"])?.lines().map(str::to_owned).collect())
    }
}

/// One of the part's programs, with the libraries that came with it.
fn program(part: &Path, name: &str) -> Command {
    let mut command = Command::new(part.join("usr/bin").join(name));
    command.env("LD_LIBRARY_PATH", part.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH)));
    command
}
