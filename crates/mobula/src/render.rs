//! `mobula render`: every object that the operator would create, without a cluster.

use std::io::Write as _;
use std::process::ExitCode;

use mobula_api::{Fault, Kind, RayCluster};
use mobula_operator::{config::Config, render};
use serde_json::{Value, json};

use crate::{
    cli::EXIT_BAD_INPUT,
    crd::Form,
    input::{self, BadInput},
    manifest,
    operator_flags::OperatorFlags,
};

/// Arguments of `mobula render`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Objects are printed as the operator would send them, before the API server fills anything in, in the order of the manifests and of creation.
What only a cluster knows is RAND-000, RAND-001, … (ends of names, counted in each group), xxxxx (the end of a generateName), UID, and RANDOM (the token). Objects that are not of ray.io \
are passed over.
Exit status: 0; 2 if a manifest can't be read or is refused (nothing is printed then): `mobula lint` says all that is wrong with it.")]
pub struct Args {
    /// Manifests, YAML or JSON: files, directories (every .yaml, .yml and .json below), `-` for standard input
    #[arg(short, long = "file", value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<String>,
    /// Namespace of manifests that name none
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// Environment variables of the operator, as NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    #[command(flatten)]
    operator: OperatorFlags,
    /// Form of the objects
    #[arg(short, long, value_name = "FORM", default_value = "yaml")]
    output: Form,
}

/// Kinds whose reconciler is still to come.
const TO_COME: [&str; 3] = ["RayJob", "RayService", "RayCronJob"];

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    let text = rendered(args);
    match text {
        Ok(text) => {
            // Whoever closed the pipe has seen enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(errors) => {
            errors.iter().for_each(|error| eprintln!("error: {error}"));
            ExitCode::from(EXIT_BAD_INPUT)
        }
    }
}

fn rendered(args: &Args) -> Result<String, Vec<BadInput>> {
    let env = |name: &str| {
        let mut pairs = args.env.iter().filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let config = args.operator.config(env).map_err(|error| vec![error])?;
    let (mut objects, mut errors) = (Vec::new(), Vec::new());
    for file in args.files.iter().flat_map(|file| input::files_below(file)) {
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        match input::objects(&file) {
            Ok(manifests) => {
                for manifest in manifests {
                    match children(&file, manifest, &args.namespace, &config) {
                        Ok(children) => objects.extend(children),
                        Err(error) => errors.push(error),
                    }
                }
            }
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    match args.output {
        Form::Json => Ok(format!("{:#}\n", json!({ "apiVersion": "v1", "kind": "List", "items": objects }))),
        Form::Yaml => objects.iter().map(yaml).collect::<Result<String, BadInput>>().map_err(|error| vec![error]),
    }
}

/// What the operator would create for one manifest.
pub fn children(file: &str, mut manifest: Value, namespace: &str, config: &Config) -> Result<Vec<Value>, BadInput> {
    let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    let of_ray = text("/apiVersion").starts_with("ray.io/");
    match kind {
        "RayCluster" if of_ray => {}
        _ if of_ray && TO_COME.contains(&kind) => {
            let problem = format!("kind: {kind}: {name} can't be rendered: so far the operator reconciles RayCluster");
            return Err(BadInput::new(file, problem));
        }
        _ => {
            if !manifest.is_null() {
                let kind = if kind.is_empty() { "an object without kind" } else { kind };
                eprintln!("note: {}: {kind}/{name}: passed over: not of ray.io", input::shown(file));
            }
            return Ok(Vec::new());
        }
    }
    let named = format!("{file}: RayCluster/{}", if name.is_empty() { text("/metadata/generateName") } else { name });
    let refused = manifest::prepare(Kind::RayCluster, &mut manifest).into_iter().find(|fault| fault.is_fatal);
    if let Some(Fault { error, .. }) = refused {
        return Err(BadInput::new(&named, error));
    }
    let mut cluster = RayCluster::from_value(manifest).map_err(|error| BadInput::new(&named, error))?;
    if cluster.metadata.namespace.is_empty() {
        namespace.clone_into(&mut cluster.metadata.namespace);
    }
    let objects = render::objects(&cluster, config).map_err(|error| BadInput::new(&named, error))?;
    if objects.is_empty() {
        eprintln!("note: {named}: nothing is created: spec.managedBy names another controller");
    }
    Ok(objects)
}

/// One YAML document, which kubectl reads as what it is: strings that YAML 1.1 would take for something else are quoted.
fn yaml(object: &Value) -> Result<String, BadInput> {
    // No folding: a command stays on its line.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    let text = serde_saphyr::to_string_with_options(object, options).map_err(|error| BadInput::new("output", error))?;
    Ok(format!("---\n{}\n", text.trim_end()))
}
