//! `mobula reproduce fgd` on the real traces, if `MOBULA_TRACES` names their directory, and on made-up ones.
// A test asks the environment where the traces are; helpers of tests may fail loudly.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mobula_tests::openb;
use serde_json::Value;

const POLICIES: [&str; 6] = ["random", "dot-product", "clustering", "packing", "best-fit", "fgd"];

/// Runs `mobula reproduce fgd` with these seeds; what it says as JSON.
fn reproduce(traces: &Path, seeds: u32) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_mobula"))
        .args(["reproduce", "fgd", "--traces", traces.to_str().unwrap(), "--seeds", &seeds.to_string(), "-o", "json"])
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let entries: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let policies: Vec<&str> = entries.iter().map(|entry| entry["policy"].as_str().unwrap()).collect();
    assert_eq!(policies, POLICIES.repeat(entries.len() / POLICIES.len()));
    assert!(entries.iter().all(|entry| entry["seeds"] == seeds), "{entries:?}");
    entries
}

fn means(entries: &[Value]) -> BTreeMap<&str, f64> {
    entries.iter().map(|entry| (entry["policy"].as_str().unwrap(), entry["mean"].as_f64().unwrap())).collect()
}

fn assert_best(best: &str, means: &BTreeMap<&str, f64>) {
    let mut others = means.iter().filter(|(policy, _)| **policy != best);
    assert!(others.all(|(_, mean)| *mean < means[best]), "{means:?}");
}

/// A directory with the nodes and one list of pods.
fn directory(nodes: &str, trace: &str, pods: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("openb_node_list_gpu_node.csv"), nodes).unwrap();
    fs::write(directory.path().join(format!("openb_pod_list_{trace}.csv")), pods).unwrap();
    directory
}

#[test]
fn fgd_is_best_on_the_real_trace_or_else_on_a_made_up_one() {
    match std::env::var_os("MOBULA_TRACES") {
        Some(traces) => the_published_numbers_are_reproduced(&PathBuf::from(traces)),
        None => {
            eprintln!("MOBULA_TRACES is not set: a made-up trace is run, and the published numbers are not compared");
            on_a_made_up_trace_fgd_is_best(2);
        }
    }
}

#[test]
fn fgd_is_best_on_a_made_up_trace() {
    on_a_made_up_trace_fgd_is_best(1);
}

fn the_published_numbers_are_reproduced(traces: &Path) {
    // Only one of the traces that are there.
    let read = |file: &str| fs::read_to_string(traces.join(file)).unwrap();
    let alone = directory(&read("openb_node_list_gpu_node.csv"), "default", &read("openb_pod_list_default.csv"));
    let entries = reproduce(alone.path(), 3);
    assert_eq!(entries.len(), POLICIES.len());
    for entry in &entries {
        let [mean, published] = ["mean", "published"].map(|field| entry[field].as_f64().unwrap());
        assert!((mean - published).abs() <= 0.5, "{entry}");
        assert!(entry["sd"].as_f64().unwrap() < 1.0, "{entry}");
    }
    assert_best("fgd", &means(&entries));
}

fn on_a_made_up_trace_fgd_is_best(seed: u64) {
    let made_up = directory(&openb::nodes(), "made_up", &openb::pods(seed));
    let entries = reproduce(made_up.path(), 3);
    assert!(entries.iter().all(|entry| entry["trace"] == "made_up" && entry["published"].is_null()), "{entries:?}");
    let means = means(&entries);
    assert_best("fgd", &means);
    assert!(POLICIES[1..].iter().all(|policy| means[policy] > means["random"]), "{means:?}");
    assert!(means.values().all(|mean| (70.0..100.0).contains(mean)), "{means:?}");
}

#[test]
fn every_trace_in_the_directory_is_run_by_name() {
    let traces = directory(&openb::nodes(), "b", &openb::pods(1));
    fs::write(traces.path().join("openb_pod_list_a.csv"), openb::pods(2)).unwrap();
    fs::write(traces.path().join("openb_node_list_all_node.csv"), "not read").unwrap();
    let entries = reproduce(traces.path(), 1);
    let names: Vec<&str> = entries.iter().map(|entry| entry["trace"].as_str().unwrap()).collect();
    assert_eq!(names, [["a"; 6], ["b"; 6]].concat());
    assert!(entries.iter().all(|entry| entry["sd"] == 0.0), "{entries:?}");
}
