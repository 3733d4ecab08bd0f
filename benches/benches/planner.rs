//! The planner alone, without letting go of what it returns: the problem at full size, those of public complaints, nothing to
//! do, and growth in requests, shapes and groups.

// Criterion's macros make undocumented items; what goes wrong in a benchmark should end it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use mobula_benches::full_size::{self, FULL_SIZE, Mix};
use mobula_planner::{Cache, Memory, PolicyOptions, Snapshot, lint, policy, policy_names};

// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn problems() -> Vec<(String, Snapshot)> {
    let mut problems = vec![
        ("full size".to_owned(), full_size::mix(FULL_SIZE, 1)),
        ("10,000 bundles in one state".to_owned(), full_size::ten_thousand_bundles()),
        ("1,337 nodes, 13,315 tasks".to_owned(), full_size::many_tasks_on_many_nodes()),
        ("nothing to do, 10,000 nodes".to_owned(), full_size::nothing_to_do()),
        ("100 gangs in racks, 1,000 nodes".to_owned(), full_size::racks(100, 1_000)),
    ];
    for requests in [1_000, 10_000, 1_000_000] {
        problems.push((format!("full size, {requests} requests"), full_size::mix(Mix { requests, ..FULL_SIZE }, 1)));
    }
    for (shapes, groups) in [(50, 50), (320, 50), (200, 13), (200, 200)] {
        let title = format!("full size, {shapes} shapes, {groups} groups");
        problems.push((title, full_size::mix(Mix { shapes, groups, ..FULL_SIZE }, 1)));
    }
    for requests in [1_000, 10_000, 100_000, 1_000_000] {
        let mix = Mix { requests, nodes: 1_000, gangs: 0, ..FULL_SIZE };
        problems.push((format!("{requests} requests, 1,000 nodes"), full_size::mix(mix, 1)));
    }
    problems
}

fn plan(criterion: &mut Criterion) {
    let default = policy_names().first().unwrap();
    let policy = policy(default, &PolicyOptions::default()).unwrap();
    for (title, snapshot) in problems() {
        let mut group = criterion.benchmark_group(title);
        group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(2));
        group.bench_function("cold", |bencher| {
            bencher.iter_with_large_drop(|| policy.plan(&snapshot, &Memory::default()));
        });
        let (plan, _) = policy.plan(&snapshot, &Memory::default());
        group.bench_function("lint", |bencher| bencher.iter(|| lint(&snapshot, &plan)));
        group.finish();
    }
}

/// The next tick through what the sidecar keeps from one to the next: one node in a hundred is another; nothing has happened.
fn next_tick(criterion: &mut Criterion) {
    let default = policy_names().first().unwrap();
    let policy = policy(default, &PolicyOptions::default()).unwrap();
    let full_size = full_size::mix(FULL_SIZE, 1);
    let changed = full_size::one_percent_changed(&full_size);
    let rest = full_size::nothing_to_do();
    let later = |ms| Snapshot { now_ms: rest.now_ms + ms, ..rest.clone() };
    for (title, name, earlier, last) in [
        ("full size", "1 % changed", vec![full_size], changed),
        // That a plan says the same at another time is found out once.
        ("nothing to do, 10,000 nodes", "nothing changed", vec![later(0), later(1_000)], later(2_000)),
    ] {
        // Each tick lets go of the one before, as far as it shares nothing with it.
        let earlier_ticks = || {
            let (mut cache, mut memory) = (Cache::default(), Memory::default());
            for snapshot in &earlier {
                let mut read = full_size::read_anew(snapshot);
                cache.share(&mut read);
                memory = cache.plan(&*policy, &Arc::new(read), &memory).1;
            }
            (cache, memory, full_size::read_anew(&last))
        };
        let mut group = criterion.benchmark_group(title);
        group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(2));
        group.bench_function(name, |bencher| {
            let shared = || {
                let (cache, memory, mut next) = earlier_ticks();
                cache.share(&mut next);
                (cache, memory, Arc::new(next))
            };
            let tick = |(mut cache, memory, next): (Cache, Memory, Arc<Snapshot>)| {
                let plan = cache.plan(&*policy, &next, &memory);
                (plan, cache, memory, next)
            };
            bencher.iter_batched(shared, tick, BatchSize::LargeInput);
        });
        group.bench_function(format!("{name}, shared by the sidecar"), |bencher| {
            let share = |(cache, _, mut next): (Cache, Memory, Snapshot)| {
                cache.share(&mut next);
                (cache, next)
            };
            bencher.iter_batched(earlier_ticks, share, BatchSize::LargeInput);
        });
        group.finish();
    }
}

criterion_group!(benches, plan, next_tick);
criterion_main!(benches);
