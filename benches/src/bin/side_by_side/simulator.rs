//! How fast the simulator is: CPU time and memory of `mobula simulate` as a process, for each kind of work.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context, Result, bail};
use mobula_benches::process;

/// How often memory and CPU time are read.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The day from which Philly's list has more than a thousand jobs a day.
const FIRST_FULL_DAY: u32 = 20;

const HEAD: &str = "resources: {limits: {cpu: \"1\", memory: 4Gi}, requests: {cpu: \"1\", memory: 4Gi}}";
const WORKER: &str = "resources: {limits: {cpu: \"4\", memory: 8Gi}, requests: {cpu: \"4\", memory: 8Gi}}";

/// A RayCluster with one group.
fn cluster(name: &str) -> String {
    let container = |name: &str, resources: &str| {
        format!("template: {{spec: {{containers: [{{name: {name}, image: \"rayproject/ray:2.60.0\", {resources}}}]}}}}")
    };
    format!(
        "  - apiVersion: ray.io/v1\n    kind: RayCluster\n    metadata: {{name: {name}, namespace: default}}\n    spec:\n\
         \x20     rayVersion: 2.60.0\n      enableInTreeAutoscaling: true\n\
         \x20     autoscalerOptions: {{version: v2, idleTimeoutSeconds: 60}}\n\
         \x20     headGroupSpec:\n        rayStartParams: {{num-cpus: \"0\"}}\n        {}\n\
         \x20     workerGroupSpecs:\n        - groupName: cpu\n          replicas: 0\n          minReplicas: 0\n\
         \x20         maxReplicas: 40\n          rayStartParams: {{}}\n          {}\n",
        container("ray-head", HEAD),
        container("ray-worker", WORKER)
    )
}

/// One cluster to which nothing happens, for a day.
fn idle() -> String {
    format!(
        "horizon: 1d\nsidecar: {{interval: 5s}}\nnodes:\n  - {{name: base, count: 1, capacity: {{cpu: 8, memory: 32Gi}}}}\nobjects:\n{}",
        cluster("idle")
    )
}

/// Clusters on nodes, with a task a minute for each cluster, for a day.
fn crowd(clusters: usize, nodes: usize) -> String {
    let mut text = format!(
        "horizon: 1d\nsidecar: {{interval: 5s}}\nnodes:\n  - {{name: base, count: {nodes}, capacity: {{cpu: 16, memory: 64Gi}}}}\nobjects:\n"
    );
    (0..clusters).for_each(|number| text += &cluster(&format!("c{number}")));
    text += "work:\n";
    for number in 0..clusters {
        let _ = writeln!(
            text,
            "  - {{cluster: c{number}, at: {number}s, every: {{exponential: 60s}}, tasks: {{needs: {{CPU: 1}}, duration: {{exponential: 5m}}}}}}"
        );
    }
    text
}

/// The whole trace of Philly on as many GPUs as that cluster had, roughly.
fn philly() -> String {
    "horizon: 1d\npolicies: [best-fit]\nnodes:\n  - {name: p100, count: 320, capacity: {cpu: 64, memory: 512Gi, nvidia.com/gpu: 8}}\n\
     trace: {file: philly_adaptdl.csv, form: philly}\n"
        .to_owned()
}

/// Days of Philly through the whole control plane: one RayCluster whose workers are nodes of eight GPUs, bought and given back. `days`: the
/// first and the one after the last; the list begins with twenty days of few jobs.
fn philly_days(days: (u32, u32)) -> String {
    let worker = "resources: {limits: {cpu: \"32\", memory: 256Gi, nvidia.com/gpu: \"8\"}, requests: {cpu: \"32\", memory: 256Gi, nvidia.com/gpu: \"8\"}}";
    let cluster = cluster("philly").replace(WORKER, worker).replace("maxReplicas: 40", "maxReplicas: 320");
    format!(
        "horizon: {}d\nsidecar: {{interval: 5s}}\nprovisioner: {{like: karpenter}}\nnodes:\n\
         \x20 - {{name: base, count: 1, capacity: {{cpu: 16, memory: 64Gi}}}}\n\
         \x20 - {{name: p100, most: 320, capacity: {{cpu: 64, memory: 512Gi, nvidia.com/gpu: 8}}}}\n\
         trace: {{file: philly_adaptdl.csv, form: philly, from: {}d, until: {}d}}\nobjects:\n{cluster}",
        days.1 - days.0,
        days.0,
        days.1,
    )
}

/// Operations of the API server in memory in one CPU second, an unmodified client's share included: pods are made, read, changed
/// and deleted. On one thread of its own, as in a simulation.
fn operations_per_cpu_s() -> Result<f64> {
    let measure = || tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(operate());
    thread::spawn(measure).join().unwrap_or_else(|_| bail!("the API server in memory panicked"))
}

async fn operate() -> Result<f64> {
    const ROUNDS: usize = 20_000;
    let client = mobula_apiserver::ApiServer::default().client();
    let path = "/api/v1/namespaces/default/pods";
    let spec = serde_json::json!({"containers": [{"name": "ray", "image": "rayproject/ray:2.60.0"}], "restartPolicy": "Never"});
    let pod =
        serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}).to_string();
    let began = process::cpu_seconds(std::process::id())?;
    for _ in 0..ROUNDS {
        let requests = [
            http::Request::post(path).header("content-type", "application/json").body(pod.clone().into_bytes()),
            http::Request::get(format!("{path}/p")).body(Vec::new()),
            http::Request::patch(format!("{path}/p/status"))
                .header("content-type", "application/merge-patch+json")
                .body(br#"{"status":{"phase":"Running"}}"#.to_vec()),
            http::Request::delete(format!("{path}/p?gracePeriodSeconds=0")).body(Vec::new()),
        ];
        for request in requests {
            let _: serde_json::Value = client.request(request?).await?;
        }
    }
    Ok((4 * ROUNDS) as f64 / (process::cpu_seconds(std::process::id())? - began))
}

struct Took {
    cpu_s: f64,
    wall_s: f64,
    peak_mib: f64,
}

fn measure(program: &Path, arguments: &[&str]) -> Result<Took> {
    let began = Instant::now();
    let mut child = Command::new(program).args(arguments).stdout(Stdio::null()).spawn().context("starting mobula")?;
    let (mut cpu_s, mut peak_bytes) = (0.0, 0);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // Between its end and our looking there is nothing to be read.
        cpu_s = process::cpu_seconds(child.id()).unwrap_or(cpu_s);
        peak_bytes = process::memory(child.id()).map_or(peak_bytes, |memory| memory.peak_bytes);
        thread::sleep(LOOK_EVERY);
    };
    if !status.success() {
        bail!("mobula {}: {status}", arguments.join(" "));
    }
    Ok(Took { cpu_s, wall_s: began.elapsed().as_secs_f64(), peak_mib: peak_bytes as f64 / 1_048_576.0 })
}

/// Prints the table.
pub async fn run(clusters: usize, nodes: usize, days: u32, traces: Option<&Path>) -> Result<()> {
    println!("load at the start: {}", process::load()?);
    println!("API server in memory: {:.0} operations a CPU-second\n", operations_per_cpu_s()?);
    let program = env::current_exe()?.with_file_name("mobula");
    let scratch = tempfile::tempdir()?;
    println!("| simulated | CPU s | wall s | peak MiB |\n|---|---|---|---|");
    let row = |name: &str, text: &str, more: &[&str]| -> Result<()> {
        let file = scratch.path().join("scenario.yaml");
        fs::write(&file, text)?;
        let file = file.to_string_lossy();
        let arguments = [&["simulate", &file, "-o", "json"], more].concat();
        let Took { cpu_s, wall_s, peak_mib } = measure(&program, &arguments)?;
        println!("| {name} | {cpu_s:.1} | {wall_s:.1} | {peak_mib:.0} |");
        Ok(())
    };
    row("one idle cluster, a day, a look every 5 s", &idle(), &[])?;
    row(
        &format!("{clusters} clusters on {nodes} nodes, a day, a look every 5 s, a task a minute each"),
        &crowd(clusters, nodes),
        &[],
    )?;
    match traces {
        Some(traces) => {
            let traces = traces.to_string_lossy();
            row("all jobs of Philly, placement mode", &philly(), &["--mode", "placement", "--traces", &traces])?;
            for first in [0, FIRST_FULL_DAY] {
                for policy in ["mobula", "ray-v2"] {
                    let days = (first, first + days);
                    let name = format!("days {} to {} of Philly, {policy}", days.0, days.1);
                    row(&name, &philly_days(days), &["--policy", policy, "--traces", &traces])?;
                }
            }
        }
        None => println!("| all jobs of Philly: give --traces | | | |"),
    }
    Ok(())
}
