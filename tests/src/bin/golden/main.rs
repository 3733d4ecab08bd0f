//! What `cargo xtask golden` does: a real KubeRay makes what the inputs of the golden corpus ask for, on a real API server, and
//! what it made is compared with what is recorded, or is recorded.
#![allow(clippy::disallowed_methods)] // it reads inputs and writes recordings

mod names;
#[path = "../../../../crates/operator/tests/golden/normal.rs"]
#[allow(clippy::unwrap_used, reason = "it is shared with a test")]
mod normal;
mod record;
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use record::Recording;

/// Folders with `input.yaml` and `recorded.json`.
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/operator/testdata/golden");
/// Says why a recording is not made anew.
const WRITE: &str = "--write";

#[tokio::main]
async fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("golden: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(words: &[String]) -> Result<()> {
    let writes = words.iter().any(|word| word == WRITE);
    let asked: Vec<&String> = words.iter().filter(|word| *word != WRITE).collect();
    let all = inputs()?;
    if let Some(unknown) = asked.iter().find(|name| !all.contains(name)) {
        bail!("there is no input {unknown} in {CORPUS}");
    }
    let mut of_scheduler: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for input in all.into_iter().filter(|input| asked.is_empty() || asked.contains(&input)) {
        let scheduler = input.split_once('@').map(|(_, name)| name.to_owned()).unwrap_or_default();
        of_scheduler.entry(scheduler).or_default().push(input);
    }
    let (mut same, mut differing) = (0, Vec::new());
    for (scheduler, inputs) in of_scheduler {
        for (input, recording) in server::record(&scheduler, &inputs, Path::new(CORPUS)).await? {
            let path = Path::new(CORPUS).join(&input).join("recorded.json");
            if writes {
                std::fs::write(&path, recording.to_text()).with_context(|| format!("{}", path.display()))?;
                println!("{input}: written");
                continue;
            }
            let known =
                std::fs::read_to_string(&path).with_context(|| format!("{} ({WRITE} makes it)", path.display()))?;
            let known = Recording::read(&known).with_context(|| format!("{}", path.display()))?;
            let differences = known.differences(&recording);
            same += usize::from(differences.is_empty());
            differing.extend(differences.iter().map(|difference| format!("{input}: {difference}")));
        }
    }
    differing.iter().for_each(|difference| println!("{difference}"));
    if !writes {
        println!("{same} inputs as they are recorded");
    }
    ensure!(differing.is_empty(), "{} differences; {WRITE} records anew", differing.len());
    Ok(())
}

fn inputs() -> Result<Vec<String>> {
    let entries = std::fs::read_dir(CORPUS).with_context(|| CORPUS.to_owned())?;
    let folders: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
    let mut names: Vec<String> = folders.iter().filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// The text of a JSON value that is one, else nothing.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
