//! Decoding what the GCS sends: two captures of real replies, and a made-up reply of 10,000 nodes.

// Criterion's macros make undocumented items; what goes wrong in a benchmark should end it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mobula_benches::problem::{Size, cluster_state};
use mobula_gcs::wire::{decode_cluster_state, encode_cluster_state};

fn capture(name: &str) -> Vec<u8> {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/gcs/testdata/captures");
    fs::read(captures.join(name)).unwrap()
}

fn benchmark(criterion: &mut Criterion) {
    let large = cluster_state(Size { pending: 100_000, nodes: 10_000 });
    let replies = [
        ("5,000 tasks in 50 shapes, 200 placement groups", capture("large_5000_tasks_50_shapes_200_pgs.pb")),
        ("1,000 nodes", capture("simulated_1000_gpu_nodes.pb")),
        ("10,000 nodes, 200 shapes, 200 placement groups", encode_cluster_state(&large)),
    ];
    let mut group = criterion.benchmark_group("decode");
    group.sample_size(20);
    for (name, bytes) in replies {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| decode_cluster_state(&bytes).unwrap()));
    }
    group.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
