//! Whole runs: the production code in the simulated world. Each runs on a fresh thread, as the binary does it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mobula_sim::run::{Order, Outcome, Progress, run};
use mobula_sim::scenario::{Scenario, TEMPLATE};
use mobula_sim::world::Wishes;

fn read(text: &str) -> Scenario {
    Scenario::read("test.yaml", text, &|name| Err(format!("{name}: no files in tests"))).unwrap()
}

fn once(scenario: &Arc<Scenario>, policy: &str, seed: u64) -> Outcome {
    let order = Order {
        scenario: scenario.clone(),
        policy: policy.to_owned(),
        seed,
        sink: None,
        begins: |_| (),
        progress: Arc::new(Progress::default()),
        wishes: Wishes::default(),
        is_soak: false,
    };
    std::thread::spawn(move || run(order)).join().unwrap().unwrap()
}

#[test]
fn work_comes_nodes_are_bought_and_everything_idles_down_again() {
    let scenario = Arc::new(read(TEMPLATE));
    for policy in ["mobula", "ray-v2"] {
        let Outcome { summary, .. } = once(&scenario, policy, 1);
        assert_eq!((summary.tasks, summary.gangs), ([20, 20, 0], [1, 1, 0]), "{policy}");
        assert!(summary.task_wait.p50_s > 30.0 && summary.task_wait.p99_s < 300.0, "{policy}: {summary:?}");
        assert!(summary.drained >= 5 && summary.patches >= 3, "{policy}: {summary:?}");
        assert!(summary.cost > 0.0 && summary.node_hours > 40.0 / 60.0, "{policy}: {summary:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_history_and_another_is_another() {
    let scenario = Arc::new(read(TEMPLATE));
    let first = once(&scenario, "mobula", 7);
    assert_eq!(once(&scenario, "mobula", 7).hash, first.hash);
    assert_ne!(once(&scenario, "mobula", 8).hash, first.hash);
}

fn scenarios() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn the_scenarios_that_ship_can_be_read() {
    assert!(scenarios().len() >= 12);
    for file in scenarios() {
        let text = fs::read_to_string(&file).unwrap();
        let directory = file.parent().unwrap().to_path_buf();
        let files = |name: &str| fs::read(directory.join(name)).map_err(|error| error.to_string());
        Scenario::read(&file.to_string_lossy(), &text, &files).unwrap();
    }
}

#[test]
fn errors_name_file_line_and_field() {
    let error = |from: &str, to: &str| {
        let text = TEMPLATE.replace(from, to);
        assert_ne!(text, TEMPLATE, "{from}");
        let line = text.lines().position(|line| to.lines().next().is_some_and(|first| line.contains(first.trim())));
        let error = Scenario::read("s.yaml", &text, &|_| Err(String::new())).unwrap_err().to_string();
        (error, line.map_or(0, |line| line + 1))
    };
    let (unknown, line) = error("horizon: 40m", "horizon: 40m\nhorizont: 1m");
    assert!(unknown.contains("horizont") && unknown.starts_with(&format!("s.yaml:{}", line + 1)), "{unknown}");
    let (time, line) = error("at: 15m", "at: soon");
    assert!(time.contains("must be a time") && time.starts_with(&format!("s.yaml:{line}")), "{time}");
    let (kind, _) = error("kind: RayCluster", "kind: RayJob");
    assert!(kind.contains("objects[0].kind") && kind.contains("RayJob: is not simulated"), "{kind}");
    let (policy, line) = error("policies: [mobula]", "policies: [magic]");
    assert!(policy.starts_with(&format!("s.yaml:{line}: policies: magic: unknown")), "{policy}");
    let (nothing, _) =
        error("    gang: {strategy: strict-spread, bundles: 4, needs: {CPU: 4}, duration: 5m}\n", "    times: 3\n");
    assert!(nothing.contains("work[1]") && nothing.contains("exactly one of"), "{nothing}");
    let (pool, _) = error("    most: 20\n", "    most: 0\n");
    assert!(pool.contains("nodes[1].count"), "{pool}");
    let (fault, _) = error("work:\n", "faults:\n  - {at: 1m, kind: clock-step}\nwork:\n");
    assert!(fault.contains("clock-step") && fault.contains("node-lost"), "{fault}");
}
