//! A Python program on the head that asks Ray for work (tests/python/driver.py).

use std::io::Write as _;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::process::Process;
use crate::ray::Ray;

/// How long the program may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(90);
/// How long an answer may take beyond the limit that the command itself has.
const ANSWER_SLACK: Duration = Duration::from_secs(60);

/// The running program.
pub struct Driver {
    process: Process,
    input: ChildStdin,
    asked: u32,
}

impl Driver {
    /// Starts it and connects it to the head.
    pub async fn start(ray: &Ray, name: &str, directory: &Path) -> Result<Driver> {
        let mut command = ray.command("python");
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/driver.py"))
            .args([ray.gcs_address(), ray.head_ip()])
            .arg(directory)
            .stdin(Stdio::piped());
        let mut process = Process::start(name, &mut command, directory)?;
        let input = process.stdin().context("the driver has no standard input")?;
        let mut driver = Driver { process, input, asked: 0 };
        driver.answer(CONNECT_LIMIT).await.context("the driver has not connected")?;
        Ok(driver)
    }

    /// Submits tasks that hold `need` (CPU, GPU, resources, label_selector, …) until they are released.
    pub async fn tasks(&mut self, name: &str, count: usize, need: Value) -> Result<()> {
        self.ask(json!({"do": "tasks", "name": name, "count": count, "need": need})).await.map(drop)
    }

    /// Lets the tasks of this name end, and says on which nodes they ran, once all have.
    pub async fn finish(&mut self, name: &str, limit: Duration) -> Result<Vec<String>> {
        self.ask(json!({"do": "release", "name": name})).await?;
        self.ask_within(json!({"do": "results", "name": name, "limit_s": limit.as_secs()}), limit)
            .await
            .and_then(strings)
    }

    /// Asks for a placement group; `more` are further arguments (`bundle_label_selector`, …).
    pub async fn group(&mut self, name: &str, bundles: &[Value], strategy: &str, more: Value) -> Result<()> {
        let mut command = json!({"do": "group", "name": name, "bundles": bundles, "strategy": strategy});
        if let (Some(command), Some(more)) = (command.as_object_mut(), more.as_object()) {
            command.extend(more.clone());
        }
        self.ask(command).await.map(drop)
    }

    /// The nodes on which the bundles of a group were placed.
    pub async fn group_nodes(&mut self, name: &str, limit: Duration) -> Result<Vec<String>> {
        self.ask_within(json!({"do": "group_nodes", "name": name, "limit_s": limit.as_secs()}), limit)
            .await
            .and_then(strings)
    }

    /// Sends a command that is answered at once.
    pub async fn ask(&mut self, command: Value) -> Result<Value> {
        self.ask_within(command, Duration::ZERO).await
    }

    /// Sends a command that may take so long, and returns its answer.
    pub async fn ask_within(&mut self, command: Value, limit: Duration) -> Result<Value> {
        self.asked += 1;
        writeln!(self.input, "{command}")
            .with_context(|| format!("the driver does not listen; {}", self.process.tail(20)))?;
        let answer = self.answer(limit + ANSWER_SLACK).await.with_context(|| format!("driver: {command}"))?;
        if let Some(error) = answer.get("error") {
            bail!("driver: {command}: {error}");
        }
        Ok(answer["ok"].clone())
    }

    async fn answer(&mut self, limit: Duration) -> Result<Value> {
        let mark = format!("@answer {} ", self.asked);
        let start = Instant::now();
        loop {
            // Only whole lines: the last may be half written.
            let log = self.process.log();
            let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
            if let Some(answer) = whole.lines().find_map(|line| line.strip_prefix(&mark)) {
                return serde_json::from_str(answer).context("the driver's answer is no JSON");
            }
            self.process.must_run()?;
            ensure!(start.elapsed() < limit, "no answer; the end of the driver's log:\n{}", self.process.tail(20));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn strings(list: Value) -> Result<Vec<String>> {
    serde_json::from_value(list).context("the driver's answer is no list of strings")
}
