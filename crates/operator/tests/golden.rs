//! Every recorded RayCluster: what we would create is what KubeRay created, field by field, except where
//! `testdata/golden/differences.yaml` says why not.
// A test reads the files beside it; helpers of tests may fail loudly.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "golden/compare.rs"]
mod compare;
#[path = "golden/normal.rs"]
mod normal;

use std::{collections::BTreeMap, fs, path::PathBuf};

use mobula_api::RayCluster;
use mobula_operator::{config::Config, render};
use serde_json::Value;

use compare::{Differences, Finding};

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/golden")
}

/// Names of all recorded inputs.
fn inputs() -> Vec<String> {
    let entries = fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// `name@scheduler` was recorded with that batch scheduler.
fn config(input: &str) -> Config {
    let scheduler = match input.split_once('@').map(|(_, scheduler)| scheduler) {
        Some("kai") => Some("kai-scheduler"),
        other => other,
    };
    Config { batch_scheduler: scheduler.map(|name| name.parse().unwrap()), ..Config::default() }
}

/// The RayCluster among the manifests of the input, in the namespace of the recording.
fn cluster(input: &str) -> RayCluster {
    let text = fs::read_to_string(corpus().join(input).join("input.yaml")).unwrap();
    // As kubectl reads: 0777 is octal.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(&text, options).unwrap();
    let cluster = documents.into_iter().find(|document| document["kind"] == "RayCluster").unwrap();
    let mut cluster = RayCluster::from_value(cluster).unwrap();
    "NAMESPACE".clone_into(&mut cluster.metadata.namespace);
    cluster
}

fn recorded_objects(input: &str) -> Vec<Value> {
    let text = fs::read_to_string(corpus().join(input).join("recorded.json")).unwrap();
    let mut recorded: Value = serde_json::from_str(&text).unwrap();
    recorded["objects"].as_array_mut().map(std::mem::take).unwrap()
}

/// Objects by kind and name, normalised.
fn by_name(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let entry = |object: Value| {
        let object = normal::normalised(object);
        let name = format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        (name, object)
    };
    let count = objects.len();
    let named: BTreeMap<String, Value> = objects.into_iter().map(entry).collect();
    assert_eq!(named.len(), count, "two objects of one kind and name");
    named
}

/// The sources of the operator's tests, and of the rules that it asks.
fn sources() -> Vec<String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("tests"), root.join("../api/src")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    sources
}

#[test]
fn what_is_created_is_what_kuberay_created() {
    let mut differences = Differences::read(&corpus().join("differences.yaml"));
    let mut report = String::new();
    let inputs = inputs();
    assert!(inputs.len() >= 60, "only {} inputs", inputs.len());
    for input in &inputs {
        let recorded = by_name(recorded_objects(input));
        let ours = match render::objects(&cluster(input), &config(input)) {
            Ok(objects) => by_name(objects),
            // KubeRay made nothing either.
            Err(_) if recorded.is_empty() => continue,
            Err(error) => {
                let finding = Finding::refused(&error.to_string());
                report += &differences.unexplained(input, vec![finding]);
                continue;
            }
        };
        let findings = compare::objects(&recorded, &ours);
        report += &differences.unexplained(input, findings);
    }
    report += &differences.unused();
    report += &differences.not_shown(&sources());
    assert!(report.is_empty(), "\n{report}");
}
