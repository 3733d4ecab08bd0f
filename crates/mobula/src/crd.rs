//! `mobula crd`: the custom resource definitions.

use std::io::Write as _;
use std::process::ExitCode;

use clap::ValueEnum;
use mobula_api::Kind;
use serde_json::{Map, Value, json};

/// Arguments of `mobula crd`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the definitions of these kinds [default: all]
    #[arg(value_name = "KIND", value_parser = kind)]
    kinds: Vec<Kind>,
    /// Form of the definitions
    #[arg(short, long, value_name = "FORM", default_value = "yaml")]
    output: Form,
}

/// Form of objects.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One document each
    Yaml,
    /// A List
    Json,
}

fn kind(name: &str) -> Result<Kind, String> {
    let is_named =
        |kind: &Kind| [kind.as_str().to_ascii_lowercase(), kind.plural()].contains(&name.to_ascii_lowercase());
    let known = || Kind::ALL.map(Kind::as_str).join(", ");
    Kind::ALL.into_iter().find(is_named).ok_or_else(|| format!("must be one of {}", known()))
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    let kinds = if args.kinds.is_empty() { &Kind::ALL[..] } else { &args.kinds };
    let definitions: Vec<Value> = kinds.iter().map(|kind| kind.definition()).collect();
    let text = match args.output {
        Form::Json => format!("{:#}\n", json!({"apiVersion": "v1", "kind": "List", "items": definitions})),
        Form::Yaml => {
            let origin = format!("# Made by `mobula crd` {}.\n", env!("CARGO_PKG_VERSION"));
            definitions.iter().map(|definition| format!("---\n{origin}{}", yaml(definition))).collect()
        }
    };
    // Whoever closed the pipe has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// What stays on one line if it is no longer than this.
const SHORT_CHARS: usize = 100;

/// A definition as YAML: a line a field of ours, and each type of Kubernetes on one line, for nobody reads those and
/// indentation would make up most of the file.
fn yaml(definition: &Value) -> String {
    let mut text = String::new();
    write(&mut text, definition, 0);
    text
}

fn write(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                text.push_str(&indent);
                write_member(text, key, value, depth);
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::Object(members) if !is_flow(item) => {
                        let mut lead = format!("{indent}- ");
                        for (key, value) in members {
                            text.push_str(&lead);
                            write_member(text, key, value, depth + 1);
                            lead = "  ".repeat(depth + 1);
                        }
                    }
                    item => text.push_str(&format!("{indent}- {item}\n")),
                }
            }
        }
        scalar => text.push_str(&format!("{indent}{scalar}\n")),
    }
}

fn write_member(text: &mut String, key: &str, value: &Value, depth: usize) {
    if is_flow(value) {
        text.push_str(&format!("{key}: {value}\n"));
    } else {
        text.push_str(&format!("{key}:\n"));
        write(text, value, depth + 1);
    }
}

/// Whether a value is written as JSON, which is YAML too.
fn is_flow(value: &Value) -> bool {
    let is_kubernetes = |members: &Map<String, Value>| {
        members.contains_key("properties") && members.contains_key("x-kubernetes-preserve-unknown-fields")
    };
    match value {
        Value::Object(members) => is_kubernetes(members) || value.to_string().len() <= SHORT_CHARS,
        Value::Array(_) => value.to_string().len() <= SHORT_CHARS,
        _ => true,
    }
}
