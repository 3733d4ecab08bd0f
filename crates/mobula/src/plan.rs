//! `mobula plan`: one tick on files.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use mobula_api::PodView;
use mobula_autoscaler::document::{self, Document};
use mobula_autoscaler::hosts;
use mobula_autoscaler::quotas::Tenant;
use mobula_autoscaler::snapshot::{self, Observation, SnapshotOptions, Surroundings};
use mobula_autoscaler::topology::DescribedTopology;
use mobula_gcs::ClusterState;
use mobula_planner::{Memory, Plan, PolicyOptions, Snapshot};
use serde_json::Value;

use crate::cli::EXIT_BAD_INPUT;
use crate::input::{self, BadInput, STDIN};
use crate::policy;

/// What a demand that is read from a running GCS starts with.
const GCS_SCHEME: &str = "gcs://";

/// Arguments of `mobula plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Only the document goes to standard output. Nothing is read but the files named; for gcs:// also Ray's own \
environment (RAY_USE_TLS, RAY_TLS_*, RAY_AUTH_MODE, RAY_AUTH_TOKEN*) and the clock.
Exit status: 0 if a plan was made, whatever it says; 1 if the GCS did not answer; 2 for bad input.")]
pub struct Args {
    /// The RayCluster: YAML or JSON, alone or among other manifests; `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub raycluster: String,
    /// The demand: a GetClusterResourceStateReply, or the ClusterResourceState in it, as protobuf (.pb) or protobuf JSON
    /// (.json); `-` for standard input; or a running GCS
    #[arg(long, value_name = "FILE|gcs://HOST:PORT")]
    pub demand: String,
    /// The pods, as `kubectl get pods -o json` (or yaml) prints them; without them, live Ray nodes stand for pods
    #[arg(long, value_name = "FILE")]
    pub pods: Option<String>,
    /// The Kubernetes nodes, as `kubectl get nodes -o json` (or yaml) prints them: their labels, what is free of them, their
    /// troubles. Free is what the pods in --pods leave: give all pods (-A), or it is more than there really is
    #[arg(long, value_name = "FILE")]
    pub nodes: Option<String>,
    /// Quotas, as kubectl prints them: objects of the kinds ResourceQuota, ElasticQuota, ElasticQuotaTree and Kueue's
    /// Workload; those of other namespaces and owners are left out
    #[arg(long, value_name = "FILE")]
    pub quotas: Option<String>,
    /// What a pod of each group costs an hour, as YAML or JSON: `gpu: 3.2`, or `gpu: {price_per_hour: 3.2, capacity_type:
    /// reserved|on-demand|spot, zone: eu-1}`, or `gpu: {offerings: [several of these]}`
    #[arg(long, value_name = "FILE")]
    pub prices: Option<String>,
    /// Which labels say how near nodes are to each other: one of auto, none, topograph, topograph-v0.1, nvlink, gke, eks, oci,
    /// coreweave, kueue, volcano, gpustack; or a file with a list of levels from broad to narrow, each `{name: rack, keys:
    /// [label keys], fabric: true|false, max_hosts: N}`; or one with HyperNodes of Volcano (for which --nodes is needed),
    /// Topologies of Kueue or KAI, or ClusterTopologyBindings of Grove
    #[arg(long, value_name = "NAME|FILE", default_value = "auto")]
    pub topology: String,
    /// The policy that decides
    #[arg(long, value_name = "NAME", default_value = "mobula")]
    pub policy: String,
    /// Spend the work of about so many ms on making the plan cheaper; 0: show the plan of a tick
    #[arg(long, value_name = "MS", default_value_t = 100)]
    pub improve: u64,
    /// Never put requests without GPU on GPU nodes, not even if nothing else can take them
    #[arg(long)]
    pub keep_gpu_clean: bool,
    /// Name nodes that could be drained because others have room for all that they run; nobody drains them
    #[arg(long)]
    pub defragment: bool,
    /// Unix time in ms to plan at; default: the newest creation time among the pods, else 0; with gcs:// the clock
    #[arg(long, value_name = "MS", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(0..))]
    pub now: Option<i64>,
    /// Form of the document
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

/// Form of the document.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs: stable
    Json,
}

/// Plans, prints, and says on stderr what went wrong.
pub fn run(args: &Args) -> ExitCode {
    match plan(args) {
        Ok(text) => {
            // Whoever closed the pipe has seen enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<BadInput>() { EXIT_BAD_INPUT } else { 1 })
        }
    }
}

fn plan(args: &Args) -> anyhow::Result<String> {
    let policy_options = PolicyOptions {
        improve_work: policy::improve_work(args.improve),
        keep_gpu_clean: args.keep_gpu_clean,
        defragment: args.defragment,
    };
    let policy = policy::named(&args.policy, &policy_options)?;
    refuse_shared_stdin(args)?;
    let topology = input::topology(&args.topology)?;
    let options = SnapshotOptions {
        prices: args.prices.as_deref().map(input::prices).transpose()?.unwrap_or_default(),
        topology: topology.levels,
        ..SnapshotOptions::default()
    };
    let (observation, mut notes) = observe(args, &topology.hypernodes)?;
    let built = snapshot::build(&observation, &options).map_err(|error| BadInput::new(&args.raycluster, error))?;
    built.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    notes.extend(built.warnings);
    let (plan, _) = policy.plan(&built.snapshot, &Memory::default());
    for violation in mobula_planner::lint(&built.snapshot, &plan) {
        eprintln!("warning: the plan breaks an invariant: {violation}");
    }
    render(args.output, &built.snapshot, &plan, &notes)
}

/// What the files say, and what is odd about Kubernetes nodes.
fn observe(args: &Args, hypernodes: &DescribedTopology) -> anyhow::Result<(Observation, Vec<String>)> {
    let cluster = input::raycluster(&args.raycluster)?;
    let state = demand(&args.demand)?;
    let read = args.pods.as_deref().map(|file| input::pods(file, &cluster.metadata.name)).transpose()?;
    let (pods, others) = read.map_or((None, Vec::new()), |(own, others)| (Some(own), others));
    let known = pods.as_deref().unwrap_or_default();
    let nodes = args.nodes.as_deref().map(input::nodes).transpose()?.unwrap_or_default();
    let mut notes = node_notes(&nodes, known);
    let mut kube_nodes = hosts::read(&nodes, |_| true);
    notes.extend(hypernodes.label_nodes(&mut kube_nodes));
    hosts::take_others(&mut kube_nodes, &others);
    let (quotas, doubts) = match &args.quotas {
        Some(file) => input::quotas(file, &Tenant::of(&cluster, known))?,
        None => Default::default(),
    };
    doubts.iter().for_each(|doubt| eprintln!("warning: {doubt}"));
    notes.extend(doubts);
    let observation = Observation {
        now_ms: args.now.unwrap_or_else(|| default_now_ms(&args.demand, pods.as_deref())),
        state,
        cluster: cluster.into(),
        pods: pods.map(Into::into),
        object_store_bytes: BTreeMap::new(),
        gang_created_ms: BTreeMap::new(),
        session_since_ms: None,
        surroundings: Surroundings { kube_nodes: Arc::new(kube_nodes), quotas },
    };
    Ok((observation, notes))
}

fn refuse_shared_stdin(args: &Args) -> Result<(), BadInput> {
    let required = [&args.raycluster, &args.demand];
    let optional = [&args.pods, &args.nodes, &args.quotas, &args.prices];
    let files = required.into_iter().chain(optional.into_iter().flatten());
    if files.filter(|file| *file == STDIN).count() > 1 {
        return Err(BadInput::new(STDIN, "can be only one of the files"));
    }
    Ok(())
}

fn demand(source: &str) -> anyhow::Result<ClusterState> {
    let Some(endpoint) = source.strip_prefix(GCS_SCHEME) else {
        let (state, warning) = input::demand(source)?;
        warning.iter().for_each(|warning| eprintln!("warning: {warning}"));
        return Ok(state);
    };
    let env = |name: &str| std::env::var(name).ok();
    let config =
        mobula_gcs::Config::from_env(vec![endpoint.to_owned()], &env).map_err(|error| BadInput::new(source, error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let observed = runtime.block_on(async {
        let client = mobula_gcs::Client::new(config).map_err(|error| BadInput::new(source, error))?;
        client.cluster_state().await.map_err(|error| anyhow::Error::new(error).context(source.to_owned()))
    })?;
    Ok(observed.state)
}

/// Files give the same plan whenever they are read: the time is theirs.
fn default_now_ms(demand: &str, pods: Option<&[PodView]>) -> i64 {
    if demand.starts_with(GCS_SCHEME) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        return i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
    }
    pods.unwrap_or_default().iter().filter_map(|pod| pod.created_ms).max().unwrap_or(0)
}

fn node_notes(nodes: &Value, pods: &[PodView]) -> Vec<String> {
    let note = |(node, troubles): (String, Vec<String>)| {
        let on_it = pods.iter().filter(|pod| pod.node_name.as_ref() == Some(&node)).map(|pod| pod.name.as_str());
        let on_it: Vec<&str> = on_it.collect();
        let whose = if on_it.is_empty() { "no pod of this RayCluster".to_owned() } else { on_it.join(", ") };
        format!("Kubernetes node {node} ({whose}) {}", troubles.join(", "))
    };
    input::node_troubles(nodes).into_iter().map(note).collect()
}

fn render(form: Output, snapshot: &Snapshot, plan: &Plan, notes: &[String]) -> anyhow::Result<String> {
    match form {
        Output::Table => Ok(document::table(snapshot, plan, notes)),
        Output::Json => {
            let mut document = Document::new(snapshot, plan);
            notes.iter().for_each(|note| document.note(note));
            Ok(serde_json::to_string_pretty(&document)? + "\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn nodes_quotas_and_pods_of_others_are_part_of_what_is_planned_from() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, value: Value| {
            let path = dir.path().join(name);
            std::fs::write(&path, value.to_string()).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let spec = json!({"containers": [{"name": "ray", "resources": {"limits": {"cpu": "2"}}}]});
        let group = json!({"groupName": "g", "replicas": 2, "template": {"spec": spec}});
        let cluster = json!({"kind": "RayCluster", "metadata": {"name": "a", "namespace": "team"},
            "spec": {"headGroupSpec": {"template": {"spec": spec}}, "workerGroupSpecs": [group]}});
        let node = json!({"kind": "Node", "metadata": {"name": "n", "labels": {"rack": "r"}},
            "status": {"allocatable": {"cpu": "16"}}});
        let on_n = |name: &str, labels: Value| {
            let mut spec = spec.clone();
            spec["nodeName"] = json!("n");
            json!({"kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})
        };
        let labels = json!({"ray.io/cluster": "a", "ray.io/group": "g", "ray.io/node-type": "worker"});
        let pods = json!({"items": [on_n("own", labels), on_n("other", json!({})), on_n("another", json!({}))]});
        let quota = |namespace: &str| {
            json!({"kind": "ResourceQuota", "metadata": {"name": "q", "namespace": namespace},
                "status": {"hard": {"cpu": "20"}, "used": {"cpu": "5"}}})
        };
        let quotas = json!({"items": [quota("team"), quota("elsewhere")]});
        let words = [
            "plan".to_owned(),
            format!("--raycluster={}", file("cluster.json", cluster)),
            format!("--demand={}", file("demand.json", json!({"clusterResourceState": {"clusterSessionName": "s"}}))),
            format!("--pods={}", file("pods.json", pods)),
            format!("--nodes={}", file("nodes.json", node)),
            format!("--quotas={}", file("quotas.json", quotas)),
        ];
        let args = Cli::parse_from(words).args;
        let (observation, notes) = observe(&args, &DescribedTopology::default()).unwrap();
        assert_eq!(notes, [""; 0]);
        let snapshot = snapshot::build(&observation, &SnapshotOptions::default()).unwrap().snapshot;
        // Of 16 CPU two pods of others and one own pod take 2 each.
        assert_eq!(snapshot.hosts[0].free["cpu"].as_f64(), 10.0);
        assert_eq!(snapshot.hosts[0].labels["rack"], "r");
        // Of 15 CPU that the quota leaves the second replica is asked for.
        assert_eq!(snapshot.quotas.len(), 1);
        assert_eq!(snapshot.quotas[0].free["cpu"].as_f64(), 13.0);
        assert_eq!(snapshot.nodes.iter().find(|node| *node.instance_id == *"own").unwrap().host.as_deref(), Some("n"));
    }
}
