//! One run of the experiment of "Beware of Fragmentation" with each policy, and with all: on the trace `default` in the directory
//! `MOBULA_TRACES`, or on a made-up one of a tenth of its size.

// Criterion's macros make undocumented items; what goes wrong in a benchmark should end it. Asks the environment for the traces.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

use std::path::PathBuf;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use mobula_planner::placement::NodeChoice;
use mobula_tests::openb as synthetic;
use mobula_traces::fgd::{Experiment, FIRST_SEED, Ties};
use mobula_traces::openb;

fn experiment() -> (&'static str, Experiment) {
    let (name, nodes, pods) = match std::env::var_os("MOBULA_TRACES").map(PathBuf::from) {
        Some(directory) => {
            let read = |file: &str| std::fs::read_to_string(directory.join(file)).unwrap();
            ("default", read(openb::NODES_FILE), read(&format!("{}default.csv", openb::PODS_PREFIX)))
        }
        None => {
            eprintln!("placement: MOBULA_TRACES is not set: a made-up trace is run");
            ("made up", synthetic::nodes(), synthetic::pods(1))
        }
    };
    let nodes = openb::nodes(nodes.as_bytes()).unwrap();
    (name, Experiment::new(nodes, openb::pods(pods.as_bytes()).unwrap()).unwrap())
}

fn benchmark(criterion: &mut Criterion) {
    let (trace, experiment) = experiment();
    let run = |choice: NodeChoice| experiment.run(choice, Ties::Shuffled, FIRST_SEED).unwrap();
    let mut group = criterion.benchmark_group(format!("placement, {trace}"));
    group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(2));
    for choice in NodeChoice::ALL {
        group.bench_function(choice.name(), |bencher| bencher.iter(|| run(choice)));
    }
    group.bench_function("all six", |bencher| bencher.iter(|| NodeChoice::ALL.map(run)));
    group.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
