//! From demand to patch: how long after a placement group is visible in the GCS the RayCluster has one more replica.
//!
//! The demand is a placement group of one bundle that needs a node of its own, made by RPC, so that it is visible at once. The
//! end is when a watch on the RayCluster delivers the new replicas. Pauses between rounds vary, so that they meet the pollers at
//! any point of their interval. No pods appear: what was asked for stays on its way.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mobula_benches::process;
use mobula_benches::stage::{Autoscaler, HEAD_POD, Peer, Stage};
use mobula_benches::statistics::Durations;
use mobula_gcs::server::{self, MemoryGcs};
use mobula_gcs::{
    BundleSelector, ClusterState, GangRequest, NodeInfo, NodeState, NodeStatus, RequestByCount, ResourceMap,
    ResourceRequest, registrar,
};
use mobula_tests::parts;
use mobula_tests::ray::{NodeSpec, Ray};
use mobula_tests::raycluster::Group;

const GROUP: &str = "gpu";
const GPUS: f64 = 8.0;
/// Longest wait for one patch.
const LIMIT: Duration = Duration::from_secs(60);

/// Ray has at most so many nodes on their way at once; then it waits for pods.
const MOST_ROUNDS_OF_RAY: u32 = 10;

/// Prints the table: so many rounds with Mobula in each scenario, so many with Ray's autoscaler.
pub async fn run(own: u32, ray: u32) -> Result<()> {
    println!("load at the start: {}\n", process::load()?);
    println!(
        "| autoscaler | demand | visible to patch, ms: median | p99 | most | rounds | reply to patch, ms: median | p99 |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    real_gcs(Peer::Mobula, own).await?;
    own_gcs(own).await?;
    if ray > 0 {
        real_gcs(Peer::Ray, ray.min(MOST_ROUNDS_OF_RAY)).await?;
    }
    Ok(())
}

fn groups() -> [Group; 1] {
    [Group::cpu(GROUP, 16, 10_000).with_gpu(GPUS as u32)]
}

fn bundle() -> ResourceMap {
    ResourceMap::from([("GPU".to_owned(), GPUS)])
}

/// 36 digits; the last 8 are the job.
fn group_id(round: u32) -> String {
    format!("{round:028x}01000000")
}

/// On the GCS of a real head.
async fn real_gcs(peer: Peer, rounds: u32) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let head = NodeSpec { instance_id: HEAD_POD.into(), group: "headgroup".into(), ..NodeSpec::default() };
    let ray = Ray::start(parts::ray(parts::RAY)?, head, Vec::new(), scratch.path()).await?;
    let name = format!("reaction-{}", if peer == Peer::Mobula { "mobula" } else { "ray" });
    let stage = Stage::new(&name, &groups(), ray.gcs_port()).await?;
    let gcs = ray.client()?;
    let ask = async |round: u32| -> Result<()> {
        let group = registrar::PlacementGroup { id: group_id(round), bundles: vec![bundle()], ..Default::default() };
        Ok(registrar::create_placement_group(&gcs, &group).await?)
    };
    let run = Run {
        peer,
        what: "placement group on a real head",
        stage,
        gcs_address: ray.gcs_address(),
        replicas_before: 0,
        rounds,
        directory: scratch.path(),
    };
    measure(run, ask).await
}

/// On our own server side, which says that 1,000 shapes are pending, each of which fits on the 100 nodes that are there.
async fn own_gcs(rounds: u32) -> Result<()> {
    const NODES: u32 = 100;
    let scratch = tempfile::tempdir()?;
    let gcs = MemoryGcs::new(busy_cluster(NODES, 1_000));
    gcs.set_nodes(vec![NodeInfo { instance_id: HEAD_POD.into(), alive: true, is_head: true, ..NodeInfo::default() }]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(server::serve(listener, std::sync::Arc::new(gcs.clone()), std::future::pending()));
    let groups = [Group::cpu(GROUP, 16, 10_000).with_gpu(GPUS as u32).with_min(NODES)];
    let stage = Stage::new("reaction-shapes", &groups, address.port()).await?;
    stage.create_pods(GROUP, (0..NODES).map(pod_name)).await?;
    let ask = async |round: u32| -> Result<()> {
        let requests = vec![ResourceRequest { resources: bundle(), ..ResourceRequest::default() }];
        let gang = GangRequest {
            details: format!("{}:PACK|PENDING", group_id(round)),
            bundle_selectors: vec![BundleSelector { requests: requests.clone(), locality: None }],
            requests,
        };
        gcs.change_state(|state| state.gangs.push(gang));
        Ok(())
    };
    let run = Run {
        peer: Peer::Mobula,
        what: "placement group beside 1,000 shapes on 100 nodes, own server side",
        stage,
        gcs_address: address.to_string(),
        replicas_before: NODES,
        rounds,
        directory: scratch.path(),
    };
    measure(run, ask).await
}

fn pod_name(index: u32) -> String {
    format!("bench-{GROUP}-worker-{index:05}")
}

/// Nodes whose CPUs are free and whose GPUs are not, and as many shapes of one task each as given.
fn busy_cluster(nodes: u32, shapes: u32) -> ClusterState {
    let total = |cpu: f64, gpu: f64| {
        BTreeMap::from([("CPU".to_owned(), cpu), ("GPU".to_owned(), gpu), ("memory".to_owned(), 2e9)])
    };
    let node = |index: u32| NodeState {
        node_id: format!("{index:056x}"),
        instance_id: pod_name(index),
        node_type: GROUP.into(),
        total: total(16.0, GPUS).into(),
        available: BTreeMap::from([("CPU".to_owned(), 16.0), ("memory".to_owned(), 2e9)]).into(),
        status: NodeStatus::Running,
        ..NodeState::default()
    };
    let head = NodeState {
        node_id: format!("{:056x}", u64::MAX),
        instance_id: HEAD_POD.into(),
        node_type: "headgroup".into(),
        total: BTreeMap::from([("memory".to_owned(), 2e9), ("node:__internal_head__".to_owned(), 1.0)]).into(),
        status: NodeStatus::Running,
        ..NodeState::default()
    };
    let pending = (0..shapes).map(|index| {
        let resources = ResourceMap::from([("CPU".to_owned(), 0.5 + f64::from(index) * 0.001)]);
        RequestByCount { request: ResourceRequest { resources, ..ResourceRequest::default() }, count: 1 }
    });
    ClusterState {
        nodes: std::iter::once(head).chain((0..nodes).map(node)).collect(),
        pending: pending.collect(),
        ..ClusterState::default()
    }
}

/// One line of the table.
struct Run<'a> {
    peer: Peer,
    what: &'a str,
    stage: Stage,
    gcs_address: String,
    replicas_before: u32,
    rounds: u32,
    directory: &'a Path,
}

/// Asks for one more node in each round, and prints the line.
async fn measure(run: Run<'_>, ask: impl AsyncFn(u32) -> Result<()>) -> Result<()> {
    let Run { peer, what, mut stage, gcs_address, replicas_before, rounds, directory } = run;
    let autoscaler = Autoscaler::start(peer, &stage, &gcs_address, directory).await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    // Spread over more than the peer's own interval: 200 ms, and 5 s.
    let (step_ms, spread_ms) = if peer == Peer::Mobula { (137, 500) } else { (1_370, 5_500) };
    let mut durations = Vec::new();
    for round in 1..=rounds {
        tokio::time::sleep(Duration::from_millis(300 + u64::from(round) * step_ms % spread_ms)).await;
        ask(round).await?;
        let visible = Instant::now();
        let patched = stage.until_replicas(i64::from(replicas_before + round), LIMIT).await;
        let patched = patched.with_context(|| format!("round {round}; log:\n{}", autoscaler.process.tail(30)))?;
        durations.push(patched.saturating_duration_since(visible));
    }
    let durations: Durations = durations.into_iter().collect();
    let own = match peer {
        Peer::Mobula => {
            let ms = async |quantile: &str| -> Result<f64> {
                Ok(autoscaler.metric(&format!("mobula_reaction_seconds{{quantile=\"{quantile}\"")).await? * 1e3)
            };
            format!("{:.1} | {:.1}", ms("0.5").await?, ms("0.99").await?)
        }
        Peer::Ray => "– | –".to_owned(),
    };
    println!("| {peer} | {what} | {durations} | {own} |");
    Ok(())
}
