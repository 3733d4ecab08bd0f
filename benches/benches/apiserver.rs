//! The API server in memory, under an unmodified client: what one request costs, client and all.

// Criterion's macros make undocumented items; what goes wrong in a benchmark should end it.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mobula_apiserver::ApiServer;
use serde_json::{Value, json};

/// So many pods are there.
const PODS: usize = 1_000;

fn pod(name: &str) -> Value {
    let container = json!({
        "name": "ray-worker", "image": "rayproject/ray:2.60.0", "args": ["ulimit -n 65536; ray start --block"],
        "command": ["/bin/bash", "-c", "--"], "resources": {"limits": {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "1"}},
        "env": (0..12).map(|n| json!({"name": format!("RAY_{n}"), "value": "some value"})).collect::<Vec<_>>(),
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"ray.io/cluster": "a", "ray.io/group": "gpu", "ray.io/node-type": "worker"}},
        "spec": {"containers": [container], "restartPolicy": "Never"},
    })
}

async fn send(client: &kube::Client, method: &str, path: &str, body: Option<(&str, &Value)>) -> Value {
    let mut request = http::Request::builder().method(method).uri(path);
    if let Some((content_type, _)) = body {
        request = request.header("content-type", content_type);
    }
    let body = body.map(|(_, body)| body.to_string().into_bytes()).unwrap_or_default();
    client.request(request.body(body).unwrap()).await.unwrap()
}

fn benchmark(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (server, client) = runtime.block_on(async {
        let server = ApiServer::default();
        let client = server.client();
        (server, client)
    });
    for number in 0..PODS {
        server.create("pods", pod(&format!("p-{number}"))).unwrap();
    }
    let path = "/api/v1/namespaces/default/pods";
    let mut group = criterion.benchmark_group("apiserver");
    group.throughput(Throughput::Elements(1));
    group.bench_function("get a pod", |bencher| {
        bencher.iter(|| runtime.block_on(send(&client, "GET", &format!("{path}/p-7"), None)));
    });
    let mut count = 0_u64;
    group.bench_function("patch a pod's status", |bencher| {
        bencher.iter(|| {
            count += 1;
            let patch = json!({"status": {"phase": "Running", "observedGeneration": count}});
            let body = Some(("application/merge-patch+json", &patch));
            runtime.block_on(send(&client, "PATCH", &format!("{path}/p-7/status"), body))
        });
    });
    let made = pod("made");
    group.bench_function("create and delete a pod", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                send(&client, "POST", path, Some(("application/json", &made))).await;
                send(&client, "DELETE", &format!("{path}/made"), None).await
            })
        });
    });
    group.throughput(Throughput::Elements(PODS as u64));
    group.sample_size(20);
    group.bench_function("list 1,000 pods", |bencher| {
        bencher.iter(|| runtime.block_on(send(&client, "GET", path, None)));
    });
    group.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
