//! Scenarios: a situation in, the plan of the policy `mobula` and its reasons out.
//!
//! Each file in `scenarios/` is one: a script ([`script::Script`] says what it may hold) that ends with the plans that are
//! expected, one for the beginning and one for each step. `MOBULA_REWRITE_GOLDEN=1` writes the plans as they are now; read
//! the difference before you commit it.
#![allow(clippy::disallowed_methods)] // a test asks the environment whether to rewrite what it expects

#[path = "scenarios/print.rs"]
mod print;
#[path = "scenarios/script.rs"]
mod script;
#[path = "scenarios/world.rs"]
mod world;

use std::fs;
use std::path::{Path, PathBuf};

use mobula_planner::{Memory, Mobula, Policy, Severity, Snapshot, idempotence, lint};
use script::Script;
use world::World;

/// The line that the expected plans follow, and how far they are indented.
const MARK: &str = "\nplan: |\n";
const INDENT: &str = "  ";

#[test]
fn plans_are_what_the_scenarios_expect() {
    let rewrite = std::env::var_os("MOBULA_REWRITE_GOLDEN").is_some();
    let mut failures = Vec::new();
    let files = files();
    assert!(files.len() >= 30, "only {} scenarios are found", files.len());
    for file in files {
        if let Err(why) = check(&file, rewrite) {
            failures.push(format!("{}: {why}", file.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    files.sort();
    files
}

fn check(file: &Path, rewrite: bool) -> Result<(), String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let script: Script = serde_saphyr::from_str(&text).map_err(|error| error.to_string())?;
    let plans = run(&script)?;
    if rewrite {
        let given = text.split(MARK).next().unwrap_or_default().trim_end();
        let indent = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("{INDENT}{line}\n") };
        let written = format!("{given}\n{MARK}{}", plans.lines().map(indent).collect::<String>());
        return fs::write(file, written).map_err(|error| error.to_string());
    }
    if plans == script.plan {
        return Ok(());
    }
    Err(format!("the plans are others (MOBULA_REWRITE_GOLDEN=1 writes them):\n{}", difference(&script.plan, &plans)))
}

/// All plans of a scenario, one after the other.
fn run(script: &Script) -> Result<String, String> {
    let policy = Mobula { options: script.options };
    let mut world = World::new(script)?;
    let mut memory = Memory::default();
    let mut out = String::new();
    let mut steps = script.then.iter();
    let mut shows = script.shows.trim();
    loop {
        let snapshot = &world.snapshot;
        let (plan, next) = policy.plan(snapshot, &memory);
        out += &format!("--- after {} s: {shows}\n", world.seconds());
        out += &print::plan(snapshot, &plan);
        sound(&policy, snapshot, &memory, &plan).map_err(|why| format!("{why}\n{out}"))?;
        memory = next;
        let Some(step) = steps.next() else { return Ok(out) };
        world.go_on(&plan, step)?;
        shows = step.shows.trim();
    }
}

/// What holds of every plan, whatever the situation.
fn sound(policy: &Mobula, snapshot: &Snapshot, memory: &Memory, plan: &mobula_planner::Plan) -> Result<(), String> {
    let found = lint(snapshot, plan).into_iter().chain(idempotence(policy, snapshot, memory));
    let errors: Vec<String> =
        found.filter(|found| found.severity == Severity::Error).map(|error| error.to_string()).collect();
    if !errors.is_empty() {
        return Err(errors.join("\n"));
    }
    match print::unexplained(plan).as_slice() {
        [] => Ok(()),
        unexplained => Err(format!("not among the reasons: {}", unexplained.join("; "))),
    }
}

/// The lines that differ, in order.
fn difference(expected: &str, found: &str) -> String {
    let (expected, found): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let missing = expected.iter().filter(|line| !found.contains(line)).map(|line| format!("- {line}"));
    let new = found.iter().filter(|line| !expected.contains(line)).map(|line| format!("+ {line}"));
    missing.chain(new).collect::<Vec<_>>().join("\n")
}
