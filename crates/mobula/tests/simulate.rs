//! `mobula simulate` as it is used: goldens of all scenarios that ship, the same bytes in two processes, a soak.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test asks the environment whether to rewrite")]

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const REWRITE: &str = "MOBULA_REWRITE_GOLDEN";

fn mobula(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mobula")).args(arguments).output().unwrap()
}

/// What it prints; it must succeed.
fn said(arguments: &[&str]) -> String {
    let output = mobula(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sim/scenarios")
}

fn scenarios() -> Vec<PathBuf> {
    let entries = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    files.sort();
    files
}

/// The summaries of a scenario, without what changes with every dependency.
fn summaries(file: &Path) -> String {
    let printed = said(&["simulate", &file.to_string_lossy(), "-o", "json"]);
    let mut summaries: serde_json::Value = serde_json::from_str(&printed).unwrap();
    for summary in summaries.as_array_mut().unwrap() {
        let fields = summary.as_object_mut().unwrap();
        assert!(fields.remove("hash").is_some() && fields.remove("events").is_some());
    }
    serde_json::to_string_pretty(&summaries).unwrap() + "\n"
}

/// A scenario for each core at a time: most are one run, which takes one.
fn all_summaries(files: &[PathBuf]) -> Vec<(&PathBuf, String)> {
    let next = AtomicUsize::new(0);
    let work = || {
        let files = std::iter::from_fn(|| files.get(next.fetch_add(1, Ordering::Relaxed)));
        files.map(|file| (file, summaries(file))).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

/// Each scenario's summaries stand beside it. `MOBULA_REWRITE_GOLDEN=1` writes them anew: read the difference before it is
/// committed. Hash and number of events are left out: they change with every dependency.
#[test]
fn the_scenarios_that_ship_come_out_as_they_did() {
    let mut wrong = Vec::new();
    for (file, text) in all_summaries(&scenarios()) {
        let golden = file.with_extension("golden.json");
        if std::env::var_os(REWRITE).is_some() {
            fs::write(&golden, text).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != text {
            wrong.push(format!("{}:\n{text}", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Two runs in one process, and the same in another one: the hash of everything that happened.
#[test]
fn the_same_seed_is_the_same_history_in_two_processes() {
    let file = directory().join("api-server-away.yaml");
    let file = file.to_string_lossy();
    let once = || said(&["simulate", &file, "--seed", "3", "--check-determinism", "-o", "json"]);
    let (one, other) = (once(), once());
    assert!(one.contains("\"hash\""), "{one}");
    assert_eq!(one, other);
}

#[test]
fn a_soak_finds_nothing() {
    // Two halves side by side: a run takes one core.
    thread::scope(|scope| {
        for first in ["1", "101"] {
            scope.spawn(move || said(&["simulate", "soak", "--first", first, "--count", "100"]));
        }
    });
}
