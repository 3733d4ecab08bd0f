//! A line for each change of what Kubernetes and Ray say, and what happens in between.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use mobula_api::keys;
use mobula_gcs::{ClusterState, NodeStatus};
use mobula_tests::wait;
use mobula_tests::world::{CLUSTER, World};
use serde_json::Value;
use tokio::task::JoinHandle;

/// How often is looked. Slower than the sidecar's own shortest interval would hide steps.
const PERIOD: Duration = Duration::from_millis(100);

/// The running timeline.
pub struct Timeline {
    start: Instant,
    gcs: mobula_gcs::Client,
    watch: JoinHandle<()>,
}

impl Drop for Timeline {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Timeline {
    /// Starts to print, with a header.
    pub fn start(world: &World, groups: Vec<&'static str>) -> Timeline {
        let start = Instant::now();
        println!("\n{}", header(&groups));
        let namespace = &world.namespace.name;
        let view = View {
            kube: world.namespace.admin.clone(),
            gcs: world.gcs.clone(),
            cluster_path: format!("/apis/ray.io/v1/namespaces/{namespace}/rayclusters/{CLUSTER}"),
            pods_path: format!("/api/v1/namespaces/{namespace}/pods"),
            groups: groups.into(),
        };
        Timeline { start, gcs: world.gcs.clone(), watch: tokio::spawn(view.watch(start)) }
    }

    /// Prints what happens now.
    pub fn note(&self, event: &str) {
        println!("{}  * {event}", stamp(self.start));
    }

    /// Prints what `ray status` says now of nodes and demand.
    pub async fn ray_status(&self, world: &World) -> Result<()> {
        let status = world.ray_status(&[]).await?;
        let mut text = format!("{}  * ray status (excerpt)\n", stamp(self.start));
        for line in excerpt(&status) {
            let _ = writeln!(text, "              | {line}");
        }
        print!("{text}");
        Ok(())
    }

    /// Waits until the living nodes together use at least these amounts.
    pub async fn until_in_use(&self, wanted: &[(&str, f64)], limit: Duration) -> Result<()> {
        let look = async || Ok(in_use(&self.gcs.cluster_state().await?.state));
        let right = |seen: &BTreeMap<String, f64>| {
            wanted.iter().all(|(name, amount)| seen.get(*name).is_some_and(|used| used >= amount))
        };
        wait::until(&format!("{wanted:?} in use"), limit, look, right).await.map(drop)
    }

    /// Prints no more.
    pub fn stop(&self) {
        self.watch.abort();
    }
}

fn stamp(start: Instant) -> String {
    format!("{:>6.1} s", start.elapsed().as_secs_f64())
}

/// What is looked at.
struct View {
    kube: kube::Client,
    gcs: mobula_gcs::Client,
    cluster_path: String,
    pods_path: String,
    groups: Arc<[&'static str]>,
}

/// What is printed when it changes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sample {
    /// Of each group: replicas in the RayCluster, pods, living Ray nodes.
    groups: Vec<[usize; 3]>,
    /// Tasks and actors, and placement groups that wait.
    waiting: (i64, usize),
    /// Workers that are idle.
    idle: usize,
}

impl View {
    async fn watch(self, start: Instant) {
        let mut last = None;
        loop {
            // A server that does not answer once is asked again; that it is gone is said by who needs it.
            if let Ok(sample) = self.sample().await
                && last.as_ref() != Some(&sample)
            {
                println!("{}  {}", stamp(start), line(&sample));
                last = Some(sample);
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn sample(&self) -> Result<Sample> {
        let (cluster, pods) = tokio::try_join!(self.get(&self.cluster_path), self.get(&self.pods_path))?;
        let state = self.gcs.cluster_state().await?.state;
        let of_group = |group: &&'static str| {
            let pods = list(&pods["items"]).iter().filter(|pod| pod["metadata"]["labels"][keys::GROUP] == **group);
            let nodes = state.nodes.living().iter().filter(|node| node.node_type == **group);
            [replicas(&cluster, group), pods.count(), nodes.count()]
        };
        let is_idle = |node: &&Arc<mobula_gcs::NodeState>| {
            node.status == NodeStatus::Idle && self.groups.contains(&node.node_type.as_str())
        };
        Ok(Sample {
            groups: self.groups.iter().map(of_group).collect(),
            waiting: (state.pending.iter().map(|request| request.count).sum(), state.gangs.len()),
            idle: state.nodes.living().iter().filter(is_idle).count(),
        })
    }

    async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.kube.request(http::Request::get(path).body(Vec::new())?).await?)
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn replicas(cluster: &Value, group: &str) -> usize {
    let specs = list(&cluster["spec"]["workerGroupSpecs"]);
    let spec = specs.iter().find(|spec| spec["groupName"] == group);
    spec.and_then(|spec| spec["replicas"].as_u64()).and_then(|n| usize::try_from(n).ok()).unwrap_or_default()
}

/// The lists of nodes and of demand, without rules, blank lines, and the use of memory.
fn excerpt(status: &str) -> impl Iterator<Item = &str> {
    const WANTED: [&str; 5] = ["Active:", "Idle:", "Pending:", "Recent failures:", "Pending Demands:"];
    let mut is_wanted = false;
    status.lines().filter(move |line| {
        if !line.starts_with(' ') {
            is_wanted = WANTED.contains(line);
        }
        is_wanted && !line.trim().is_empty()
    })
}

/// Of each resource, how much of it is taken.
fn in_use(state: &ClusterState) -> BTreeMap<String, f64> {
    let mut used = BTreeMap::new();
    for node in state.nodes.living() {
        for (name, total) in node.total.iter() {
            let free = node.available.get(name).copied().unwrap_or_default();
            *used.entry(name.clone()).or_default() += total - free;
        }
    }
    used
}

fn header(groups: &[&str]) -> String {
    let mut names = String::from("        ");
    let mut columns = names.clone();
    for group in groups {
        let _ = write!(names, "  {group:<19}");
        columns.push_str("  replicas pods nodes");
    }
    format!("{}\n{columns}  waiting, idle", names.trim_end())
}

fn line(sample: &Sample) -> String {
    let mut text = String::new();
    for [replicas, pods, nodes] in &sample.groups {
        let _ = write!(text, "{replicas:>8} {pods:>4} {nodes:>5}  ");
    }
    let mut notes = Vec::new();
    let mut say = |count: usize, what: &str| {
        if count > 0 {
            notes.push(format!("{count} {what}{}", if count == 1 { "" } else { "s" }));
        }
    };
    say(usize::try_from(sample.waiting.0).unwrap_or_default(), "task");
    say(sample.waiting.1, "placement group");
    if !notes.is_empty() {
        notes = vec![format!("waiting: {}", notes.join(" and "))];
    }
    if sample.idle > 0 {
        notes.push(format!("idle: {}", sample.idle));
    }
    text.push_str(&notes.join("; "));
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_stands_below_its_header() {
        let header = header(&["small", "gpu"]);
        let groups = vec![[1, 2, 3], [4, 5, 6]];
        let line = format!("{:8}  {}", "", line(&Sample { groups, waiting: (2, 1), idle: 1 }));
        let columns = header.lines().last().unwrap();
        assert_eq!(columns.find("replicas").map(|at| at + "replicas".len()), line.find('1').map(|at| at + 1));
        assert_eq!(columns.rfind("nodes").map(|at| at + "nodes".len()), line.find('6').map(|at| at + 1));
        assert!(line.ends_with("waiting: 2 tasks and 1 placement group; idle: 1"), "{line}");
    }

    #[test]
    fn a_line_without_news_has_no_end_of_blanks() {
        assert_eq!(line(&Sample { groups: vec![[1, 1, 1]], ..Sample::default() }), "       1    1     1");
    }

    #[test]
    fn excerpt_has_nodes_and_demand_only() {
        let status = "===== Autoscaler status =====\nNode status\n-----\nActive:\n 2 small\nIdle:\n (no idle nodes)\n\n\
                      Resources\n-----\nTotal Usage:\n 1.0/4.0 CPU\n\nPending Demands:\n {'CPU': 1.0}: 1+ pending tasks";
        let lines: Vec<&str> = excerpt(status).collect();
        let wanted =
            ["Active:", " 2 small", "Idle:", " (no idle nodes)", "Pending Demands:", " {'CPU': 1.0}: 1+ pending tasks"];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn what_is_not_free_is_in_use() {
        let amounts = |n: f64| BTreeMap::from([("CPU".to_owned(), n)]);
        let node = |free: f64, status| mobula_gcs::NodeState {
            total: amounts(4.0).into(),
            available: amounts(free).into(),
            status,
            ..mobula_gcs::NodeState::default()
        };
        let nodes = vec![node(1.0, NodeStatus::Running), node(0.0, NodeStatus::Dead)];
        assert_eq!(in_use(&ClusterState { nodes: nodes.into(), ..ClusterState::default() })["CPU"], 3.0);
    }
}
