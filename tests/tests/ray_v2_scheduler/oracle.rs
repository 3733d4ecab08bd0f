//! Ray's scheduler in one Python process, asked over a pipe.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use mobula_planner::ray_v2::Outcome;
use mobula_planner::{Memory, Snapshot, TerminateCause};
use mobula_tests::parts;
use serde::Deserialize;

/// The running process; it ends when this is dropped.
pub struct Oracle {
    /// The version of Ray that answers.
    pub ray_version: String,
    process: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// What the process answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What Ray would do.
    Plan(RayPlan),
    /// Ray raised an exception.
    Error(String),
}

/// Ray's decision in the planner's words.
#[derive(Debug, Deserialize)]
pub struct RayPlan {
    launch: BTreeMap<String, u64>,
    /// The empty name stands for nodes that Ray had just decided to launch.
    pub terminate: BTreeMap<String, TerminateCause>,
    resize: BTreeMap<String, (f64, f64)>,
    tasks_left: BTreeMap<usize, u64>,
    gangs_left: Vec<usize>,
    constraints_left: Vec<usize>,
    pending_unneeded_since_ms: BTreeMap<String, Vec<i64>>,
}

impl From<RayPlan> for Outcome {
    fn from(plan: RayPlan) -> Self {
        Outcome {
            launch: plan.launch,
            terminate: plan.terminate,
            resize: plan.resize,
            tasks_left: plan.tasks_left,
            gangs_left: plan.gangs_left,
            constraints_left: plan.constraints_left,
            pending_unneeded_since_ms: plan.pending_unneeded_since_ms,
        }
    }
}

impl Oracle {
    pub fn start() -> Result<Self> {
        let python = python()?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/ray_v2_oracle.py");
        let mut process = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start {}", python.display()))?;
        let questions = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("no pipe from the oracle")?);
        let mut oracle = Oracle { ray_version: String::new(), process, questions, answers };
        oracle.ray_version = oracle.line()?.trim().to_owned();
        Ok(oracle)
    }

    pub fn ask(&mut self, snapshot: &Snapshot, memory: &Memory) -> Result<Answer> {
        let questions = self.questions.as_mut().context("the oracle has ended")?;
        writeln!(questions, "{}", question(snapshot, memory))?;
        questions.flush()?;
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("not an answer: {line}"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "the oracle ended without an answer");
        Ok(line)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.questions.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A problem as one line of JSON: what the oracle reads, and what a failure prints, so that it can be asked again.
pub fn question(snapshot: &Snapshot, memory: &Memory) -> String {
    serde_json::json!({"snapshot": snapshot, "memory": memory}).to_string()
}

/// The Python that has Ray.
fn python() -> Result<PathBuf> {
    match std::env::var_os("MOBULA_RAY_PYTHON") {
        Some(python) => Ok(python.into()),
        None => Ok(parts::ray(parts::RAY)?.bin.join("python")),
    }
}
