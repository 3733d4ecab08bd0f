//! One tick without its waiting: snapshot, plan and document, at each kept size.

// Criterion's macros make undocumented items; what goes wrong in a benchmark should end it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use mobula_autoscaler::document::plan_document;
use mobula_benches::{problem::SIZES, tick};

fn benchmark(criterion: &mut Criterion) {
    for size in SIZES {
        let observation = tick::observation(size).unwrap();
        let snapshot = tick::build(&observation).unwrap();
        let plan = tick::plan(&snapshot);
        let mut group = criterion.benchmark_group(size.to_string());
        group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(2));
        group.bench_function("snapshot", |bencher| bencher.iter(|| tick::build(&observation).unwrap()));
        group.bench_function("plan", |bencher| bencher.iter(|| tick::plan(&snapshot)));
        group.bench_function("document", |bencher| bencher.iter(|| plan_document(&snapshot, &plan)));
        group.finish();
    }
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
