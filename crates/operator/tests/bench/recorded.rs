//! The RayClusters that a real KubeRay was recorded with.

use std::{fs, path::PathBuf};

use mobula_operator::config::Config;
use serde_json::{Value, json};

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/golden")
}

/// Names of all inputs.
pub fn inputs() -> Vec<String> {
    let entries = fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut inputs: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    inputs.sort();
    assert!(inputs.len() >= 60);
    inputs
}

/// `name@scheduler` was recorded with that batch scheduler.
pub fn config(input: &str) -> Config {
    let scheduler = match input.split_once('@').map(|(_, scheduler)| scheduler) {
        Some("kai") => Some("kai-scheduler"),
        other => other,
    };
    Config { batch_scheduler: scheduler.map(|name| name.parse().unwrap()), ..Config::default() }
}

/// The RayCluster of an input.
pub fn manifest(input: &str) -> Option<Value> {
    let text = fs::read_to_string(corpus().join(input).join("input.yaml")).unwrap();
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(&text, options).unwrap();
    let mut cluster = documents.into_iter().find(|document| document["kind"] == "RayCluster")?;
    cluster["metadata"]["namespace"] = json!("default");
    // What the definition of the kind fills in.
    for group in cluster["spec"]["workerGroupSpecs"].as_array_mut().into_iter().flatten() {
        let defaults = [("replicas", 0), ("minReplicas", 0), ("maxReplicas", 2_147_483_647), ("numOfHosts", 1)];
        for (name, value) in defaults {
            if group.get(name).is_none() {
                group[name] = json!(value);
            }
        }
    }
    Some(cluster)
}

/// What KubeRay did with an input, as it stands in the file.
pub fn recording(input: &str) -> String {
    fs::read_to_string(corpus().join(input).join("recorded.json")).unwrap()
}
