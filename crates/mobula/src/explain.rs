//! `mobula explain`: the reasons of the last decision, of a running sidecar or of a recording.

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use mobula_autoscaler::{
    http::Decision,
    recorder::{Frame, Recording},
    snapshot,
};

use serde_json::Value;

use crate::{cli::EXIT_BAD_INPUT, plan::Output};

/// Limit of the one request.
const LIMIT: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// Arguments of `mobula explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 if there is a decision to explain; 1 if the sidecar does not answer, or nothing is said of SUBJECT; 2 for a \
recording that can't be read.")]
pub struct Args {
    /// Only reasons about this: part of a pod's or group's name, of a placement group's id, of a resource
    #[arg(value_name = "SUBJECT")]
    subject: Option<String>,
    /// HTTP endpoint of a running sidecar (from outside: kubectl port-forward POD 44217)
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:44217", conflicts_with = "recording")]
    address: String,
    /// A recording instead: a file, or the directory given to `mobula sidecar --record`
    #[arg(long, value_name = "RECORDING")]
    recording: Option<PathBuf>,
    /// The decision that held at this Unix time in ms [default: the last one]
    #[arg(long, value_name = "MS", requires = "recording")]
    at: Option<i64>,
    /// Form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Output,
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    let (decision, on_error) = match &args.recording {
        Some(path) => (from_recording(path, args.at), EXIT_BAD_INPUT),
        None => (from_sidecar(&args.address), 1),
    };
    let answer = decision.map_err(|error| (error, on_error)).and_then(|decision| {
        match &args.subject {
            None => decision.whole(args.output),
            Some(subject) => decision.about(subject, args.output),
        }
        .map_err(|error| (error, 1))
    });
    match answer {
        Ok(text) => {
            // Whoever closed the pipe has seen enough.
            let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Err((error, code)) => {
            eprintln!("error: {error:#}");
            ExitCode::from(code)
        }
    }
}

/// A decision in both of its forms.
struct Explained {
    json: Value,
    table: String,
}

impl Explained {
    fn whole(self, output: Output) -> anyhow::Result<String> {
        Ok(match output {
            Output::Table => self.table,
            Output::Json => serde_json::to_string_pretty(&self.json)?,
        })
    }

    /// The reasons whose subject contains `subject`.
    fn about(mut self, subject: &str, output: Output) -> anyhow::Result<String> {
        let all = self.json.pointer_mut("/plan/explain").map(Value::take).unwrap_or_default();
        let text = |reason: &Value, key: &str| reason.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let all: Vec<Value> = serde_json::from_value(all).unwrap_or_default();
        let count = all.len();
        let told: Vec<Value> = all.into_iter().filter(|reason| text(reason, "subject").contains(subject)).collect();
        if told.is_empty() {
            bail!("nothing is said of {subject} ({count} reasons in all): leave SUBJECT out to see them");
        }
        Ok(match output {
            Output::Json => serde_json::to_string_pretty(&told)?,
            Output::Table => {
                let line = |reason: &Value| {
                    format!("{}: {}: {}", text(reason, "subject"), text(reason, "verdict"), text(reason, "text"))
                };
                told.iter().map(line).collect::<Vec<_>>().join("\n")
            }
        })
    }
}

fn from_recording(path: &Path, at_ms: Option<i64>) -> anyhow::Result<Explained> {
    let recording = Recording::read(path)?;
    let readable = recording.frames().filter_map(|frame| frame.inspect_err(|error| eprintln!("warning: {error}")).ok());
    let frame = readable
        .filter(|frame| at_ms.is_none_or(|at_ms| frame.observation.now_ms <= at_ms))
        .max_by_key(|frame| frame.observation.now_ms)
        .ok_or_else(|| anyhow!("{}: no tick in it that fits", path.display()))?;
    let decision = decision(&frame)?;
    Ok(Explained { json: decision.to_json(), table: decision.to_table() })
}

fn decision(frame: &Frame) -> anyhow::Result<Decision> {
    let built = snapshot::build(&frame.observation, &frame.options)?;
    Ok(Decision {
        snapshot: Arc::new(built.snapshot),
        plan: frame.plan.clone(),
        outcome: frame.outcome.clone(),
        warnings: built.warnings,
        confirmed_ms: frame.observation.now_ms,
    })
}

fn from_sidecar(address: &str) -> anyhow::Result<Explained> {
    let json = serde_json::from_str(&get(address, "/explain")?)
        .with_context(|| format!("{address} does not answer as a sidecar"))?;
    Ok(Explained { json, table: get(address, "/explain?output=table")? })
}

/// One GET by HTTP/1.0, whose answer ends with the connection.
fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let address = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    let no_answer = || format!("no sidecar at {address}");
    let socket = address.to_socket_addrs().with_context(no_answer)?.next().with_context(no_answer)?;
    let mut stream = TcpStream::connect_timeout(&socket, LIMIT).with_context(no_answer)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).with_context(no_answer)?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer).with_context(no_answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{address} does not speak HTTP"))?;
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        bail!("{address}{path}: HTTP status {status}: {}", body.trim_end());
    }
    Ok(body.to_owned())
}
