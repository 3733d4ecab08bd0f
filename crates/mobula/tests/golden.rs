//! Runs `mobula` as a user does and compares everything it says with a golden file.
//!
//! A golden file starts with the command line, as typed in the root of the repository; what follows is standard output, then
//! standard error and the exit status. A new case is a file that holds only the command line. `MOBULA_REWRITE_GOLDEN=1`
//! writes the files anew: read the difference before committing it.
// A test asks the environment whether to rewrite; helpers of tests may fail loudly.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const REWRITE: &str = "MOBULA_REWRITE_GOLDEN";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs a command line; `< FILE` at its end is standard input.
fn run(line: &str) -> String {
    let (line, stdin) = match line.split_once(" < ") {
        Some((line, file)) => (line, Stdio::from(fs::File::open(root().join(file)).unwrap())),
        None => (line, Stdio::null()),
    };
    let mut words = line.split_whitespace();
    assert_eq!((words.next(), words.next()), (Some("$"), Some("mobula")), "{line}");
    let output = Command::new(env!("CARGO_BIN_EXE_mobula"))
        .args(words)
        .current_dir(root())
        .env_clear()
        .stdin(stdin)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    let mut said = stdout;
    if !stderr.is_empty() {
        said += &format!("--- standard error\n{stderr}");
    }
    said + &format!("--- exit status {}\n", output.status.code().unwrap())
}

#[test]
fn says_what_the_golden_files_say() {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("crates/mobula/tests/golden"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = Vec::new();
    for file in files {
        let expected = fs::read_to_string(&file).unwrap();
        let line = expected.lines().next().unwrap();
        let said = format!("{line}\n{}", run(line));
        if said == expected {
            continue;
        }
        if std::env::var_os(REWRITE).is_some() {
            fs::write(&file, said).unwrap();
        } else {
            wrong.push(format!("{}:\n{}", file.display(), difference(&expected, &said)));
        }
    }
    assert!(wrong.is_empty(), "{}\n(set {REWRITE}=1 to write them anew)", wrong.join("\n"));
}

/// The first lines that differ.
fn difference(expected: &str, said: &str) -> String {
    let mut lines = expected.lines().zip(said.lines());
    match lines.find(|(expected, said)| expected != said) {
        Some((expected, said)) => format!("- {expected}\n+ {said}"),
        None => format!("{} lines expected, {} said", expected.lines().count(), said.lines().count()),
    }
}

#[test]
fn both_forms_of_demand_and_both_styles_of_names_give_the_same_plan() {
    let plan = |demand: &str| {
        run(&format!("$ mobula plan --raycluster deploy/examples/raycluster-a.yaml --demand {demand} -o json"))
    };
    let bytes = plan("deploy/examples/demand/pending_pg_each_strategy.pb");
    assert!(bytes.ends_with("--- exit status 0\n"), "{bytes}");
    assert_eq!(bytes, plan("deploy/examples/demand/pending_pg_each_strategy.json"));
    let snake = fs::read_to_string(root().join("deploy/examples/demand/pending_pg_each_strategy.json")).unwrap();
    let camel = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    fs::write(camel.path(), camel_case_keys(&snake)).unwrap();
    assert_eq!(bytes, plan(camel.path().to_str().unwrap()));
}

/// `"some_key":` becomes `"someKey":`, except names of resources and labels.
fn camel_case_keys(json: &str) -> String {
    fn camel(value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value::{Array, Object};
        match value {
            Array(items) => Array(items.into_iter().map(camel).collect()),
            Object(members) => {
                let renamed = members.into_iter().map(|(key, value)| {
                    let is_map = key.ends_with("_resources") || key.ends_with("labels") || key == "resources_bundle";
                    let mut words = key.split('_');
                    let first = words.next().unwrap_or_default().to_owned();
                    let name = words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..]);
                    (name, if is_map { value } else { camel(value) })
                });
                Object(renamed.collect())
            }
            plain => plain,
        }
    }
    camel(serde_json::from_str(json).unwrap()).to_string()
}
