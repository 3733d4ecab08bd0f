//! `mobula lint`: what is wrong with manifests, before they are applied.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use mobula_api::{Fault, FieldError, Kind, Rules};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{cli::EXIT_BAD_INPUT, input, manifest, operator_flags::ReleaseFlags, plan::Output};

/// Arguments of `mobula lint`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
One line a finding: FILE: KIND/NAME: FIELD: VALUE: MESSAGE. Objects that are not of ray.io are passed over.
Exit status: 0 if nothing was found; 1 if something was; 2 if a file can't be read.")]
pub struct Args {
    /// Manifests, YAML or JSON: files, directories (every .yaml, .yml and .json below), `-` for standard input
    #[arg(short, long = "file", value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<String>,
    #[command(flatten)]
    release: ReleaseFlags,
    /// Form of the findings
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Output,
}

/// Something to do about an object.
#[derive(Debug, Serialize)]
struct Found {
    file: String,
    kind: String,
    name: String,
    field: String,
    value: String,
    message: String,
    /// `error`: the API server or the operator refuses the object, or a part of it; `warning`: it will not work as written.
    severity: &'static str,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = FieldError::new(self.field.as_str(), &self.value, self.message.as_str());
        write!(f, "{}: {}/{}: {error}", self.file, self.kind, self.name)
    }
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    let rules = match args.release.rules() {
        Ok(rules) => rules,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(EXIT_BAD_INPUT);
        }
    };
    let (mut found, mut notes, mut is_bad) = (Vec::new(), Vec::new(), false);
    for file in &args.files {
        for file in input::files_below(file) {
            let objects = file.and_then(|file| Ok((input::objects(&file)?, file)));
            match objects {
                Ok((objects, file)) => objects.iter().for_each(|object| {
                    lint(&file, object, &rules, &mut found, &mut notes);
                }),
                Err(error) => {
                    eprintln!("error: {error}");
                    is_bad = true;
                }
            }
        }
    }
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    print(&found, args.output);
    match (is_bad, found.is_empty()) {
        (true, _) => ExitCode::from(EXIT_BAD_INPUT),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    }
}

fn print(found: &[Found], output: Output) {
    let text: String = match output {
        Output::Table => found.iter().map(|found| format!("{found}\n")).collect(),
        Output::Json => format!("{:#}\n", json!(found)),
    };
    // Whoever closed the pipe has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn lint(file: &str, object: &Value, rules: &Rules, found: &mut Vec<Found>, notes: &mut Vec<String>) {
    let shown = input::shown(file);
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (kind_name, api_version) = (text("/kind"), text("/apiVersion"));
    let name = match (text("/metadata/name"), text("/metadata/generateName")) {
        ("", prefix) => prefix,
        (name, _) => name,
    };
    let kind = Kind::named(kind_name).filter(|_| api_version.starts_with("ray.io/") || api_version.is_empty());
    let Some(kind) = kind else {
        if !object.is_null() {
            let what = if kind_name.is_empty() { "an object without kind" } else { kind_name };
            notes.push(format!("{shown}: {what}/{name}: passed over: not of ray.io"));
        }
        return;
    };
    let mut seen = BTreeSet::new();
    for Fault { error, is_fatal, .. } in faults(kind, object.clone(), rules) {
        // The definition and the operator may refuse the same thing.
        if seen.insert((error.field.clone(), error.value.clone())) {
            found.push(Found {
                file: shown.to_owned(),
                kind: kind_name.to_owned(),
                name: name.to_owned(),
                field: error.field,
                value: error.value,
                message: error.problem,
                severity: if is_fatal { "error" } else { "warning" },
            });
        }
    }
}

/// Everything to say of an object: first what its definition says, then the operator, then what would show at run time.
pub fn faults(kind: Kind, mut object: Value, rules: &Rules) -> Vec<Fault> {
    let mut faults = manifest::prepare(kind, &mut object);
    faults.extend(kind.faults(&object, rules));
    faults
}
