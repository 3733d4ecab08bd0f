//! The RayCluster as one sees it with kubectl, and what is told of it: a line for each change.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mobula_api::keys;
use mobula_tests::node::{Node, condition, get};
use mobula_tests::wait;
use serde_json::Value;
use tokio::task::JoinHandle;

/// Where it is.
pub const NAMESPACE: &str = "team";
/// Its groups.
pub const GROUPS: [&str; 2] = ["small", "gpu"];
const RAYCLUSTER: &str = "/apis/ray.io/v1/namespaces/team/rayclusters/demo";
/// How often is looked.
const PERIOD: Duration = Duration::from_millis(200);

/// What is known of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Name.
    pub name: String,
    /// Group; `headgroup` for the head.
    pub group: String,
    /// All its containers are ready, and it is not on its way out.
    pub is_ready: bool,
    /// How often its containers were started again.
    pub restarts: i64,
}

/// Replicas that the RayCluster asks for, pods, and ready pods.
type Counts = [usize; 3];

/// The RayCluster, its node, and the clock of the story.
pub struct Cluster {
    node: Arc<Mutex<Node>>,
    client: kube::Client,
    start: Instant,
    watch: JoinHandle<()>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Cluster {
    /// Begins to tell.
    pub fn new(node: Node, start: Instant) -> Cluster {
        let client = node.client.clone();
        println!("\n{}", header());
        Cluster { node: Arc::new(Mutex::new(node)), watch: tokio::spawn(watch(client.clone(), start)), client, start }
    }

    /// May do anything.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// Tells what happens now.
    pub fn note(&self, event: &str) {
        println!("{}  * {event}", stamp(self.start));
    }

    /// Fails if a part of the node has ended.
    pub fn must_run(&self) -> Result<()> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).must_run()
    }

    /// Sends a request.
    pub async fn ask(&self, request: http::Request<Vec<u8>>) -> Result<Value> {
        Ok(self.client.request(request).await?)
    }

    /// Deletes an object, pods at once.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let request = http::Request::delete(path).body(Vec::new())?;
        self.ask(request).await.map(drop).with_context(|| format!("could not delete {path}"))
    }

    /// Waits until it becomes so, while all parts of the node run.
    pub async fn until<T: std::fmt::Debug>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl AsyncFnMut() -> Result<T>,
        is_right: impl FnMut(&T) -> bool,
    ) -> Result<Duration> {
        let look = async || {
            self.must_run()?;
            look().await
        };
        wait::until(what, limit, look, is_right).await
    }

    /// The pods of the RayCluster.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        pods(&self.client).await
    }

    /// The head's pod.
    pub async fn head(&self) -> Result<Option<Pod>> {
        Ok(self.pods().await?.into_iter().find(|pod| pod.group == keys::HEAD_GROUP))
    }

    /// Waits until the groups have exactly so many replicas, pods and ready pods.
    pub async fn until_ready(&self, wanted: [usize; 2], limit: Duration) -> Result<Duration> {
        let wanted = wanted.map(|n| [n; 3]);
        let what = format!("replicas, pods and ready pods of {GROUPS:?}: {wanted:?}");
        self.until(&what, limit, async || counts(&self.client).await, |seen| *seen == wanted).await
    }

    /// Waits until the RayCluster asks for so many replicas of the groups.
    pub async fn until_replicas(&self, wanted: [usize; 2], limit: Duration) -> Result<Duration> {
        let look = async || Ok(counts(&self.client).await?.map(|counts| counts[0]));
        self.until(&format!("replicas of {GROUPS:?}: {wanted:?}"), limit, look, |seen| *seen == wanted).await
    }

    /// What each pod and the RayCluster say of themselves, and the end of the logs, for whoever must find a fault.
    pub async fn describe(&self) -> String {
        let mut text = String::new();
        if let Ok(cluster) = get(&self.client, RAYCLUSTER).await {
            let _ = writeln!(text, "--- RayCluster: {}", cluster["status"]);
        }
        if let Ok(events) = get(&self.client, &format!("/api/v1/namespaces/{NAMESPACE}/events")).await {
            for event in items(&events) {
                let (about, reason) = (&event["involvedObject"]["name"], &event["reason"]);
                let _ = writeln!(text, "--- Event about {about}, {reason}: {}", event["message"]);
            }
        }
        for namespace in ["mobula-system", NAMESPACE] {
            let path = format!("/api/v1/namespaces/{namespace}/pods");
            let Ok(list) = get(&self.client, &path).await else { continue };
            for pod in items(&list) {
                let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                let _ = writeln!(text, "--- pod {namespace}/{name}: {}", pod["status"]);
                for container in items(&pod["spec"]["containers"]) {
                    let container = container["name"].as_str().unwrap_or_default();
                    let log = format!("{path}/{name}/log?container={container}&tailLines=25");
                    let log = self.client.request_text(http::Request::get(log).body(Vec::new()).unwrap_or_default());
                    let log = log.await.unwrap_or_else(|error| error.to_string());
                    let _ = writeln!(text, "--- the end of the log of {name}, {container}:\n{log}");
                }
            }
        }
        text
    }
}

async fn watch(client: kube::Client, start: Instant) {
    let mut last = None;
    loop {
        // Before the RayCluster is there, and after it has gone, there is nothing to tell.
        let seen = counts(&client).await.ok();
        if let Some(counts) = seen
            && last != seen
        {
            println!("{}  {}", stamp(start), line(&counts));
        }
        last = seen.or(last);
        tokio::time::sleep(PERIOD).await;
    }
}

async fn counts(client: &kube::Client) -> Result<[Counts; 2]> {
    let cluster = get(client, RAYCLUSTER).await?;
    let pods = pods(client).await?;
    Ok(GROUPS.map(|group| {
        let spec = items(&cluster["spec"]["workerGroupSpecs"]).iter().find(|spec| spec["groupName"] == group);
        let replicas = spec.and_then(|spec| spec["replicas"].as_u64()).and_then(|n| usize::try_from(n).ok());
        let of_group = pods.iter().filter(|pod| pod.group == group);
        [replicas.unwrap_or_default(), of_group.clone().count(), of_group.filter(|pod| pod.is_ready).count()]
    }))
}

async fn pods(client: &kube::Client) -> Result<Vec<Pod>> {
    let list = get(client, &format!("/api/v1/namespaces/{NAMESPACE}/pods")).await?;
    Ok(items(&list).iter().map(pod).collect())
}

fn pod(object: &Value) -> Pod {
    let metadata = &object["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Pod {
        name: text(&metadata["name"]),
        group: text(&metadata["labels"][keys::GROUP]),
        is_ready: condition(object, "Ready") && metadata["deletionTimestamp"].is_null(),
        restarts: items(&object["status"]["containerStatuses"]).iter().filter_map(|c| c["restartCount"].as_i64()).sum(),
    }
}

/// The elements of a list, or of the list in an object's `items`.
pub fn items(value: &Value) -> &[Value] {
    value.as_array().or_else(|| value["items"].as_array()).map_or(&[], Vec::as_slice)
}

fn stamp(start: Instant) -> String {
    format!("{:>6.1} s", start.elapsed().as_secs_f64())
}

fn header() -> String {
    let mut names = String::from("        ");
    let mut columns = names.clone();
    for group in GROUPS {
        let _ = write!(names, "  {group:<19}");
        columns.push_str("  replicas pods ready");
    }
    format!("{}\n{columns}", names.trim_end())
}

fn line(counts: &[Counts; 2]) -> String {
    let column = |[replicas, pods, ready]: &Counts| format!("{replicas:>8} {pods:>4} {ready:>5}");
    counts.iter().map(column).collect::<Vec<_>>().join("  ")
}

/// Measured waits, in the order in which they ended.
#[derive(Default)]
pub struct Waits(Vec<(String, Duration)>);

impl Waits {
    /// Adds one.
    pub fn add(&mut self, what: impl Into<String>, took: Duration) {
        self.0.push((what.into(), took));
    }

    /// Prints them.
    pub fn print(&self) {
        println!("\nMeasured:");
        for (what, took) in &self.0 {
            println!("  {:>6.1} s  {what}", took.as_secs_f64());
        }
    }
}

/// Restarts of each pod.
pub fn restarts(pods: &[Pod]) -> BTreeMap<&str, i64> {
    pods.iter().filter(|pod| pod.restarts > 0).map(|pod| (pod.name.as_str(), pod.restarts)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_stands_below_its_header() {
        let header = header();
        let line = format!("{:8}  {}", "", line(&[[1, 2, 3], [4, 5, 6]]));
        let columns = header.lines().last().unwrap();
        assert_eq!(columns.find("replicas").map(|at| at + "replicas".len()), line.find('1').map(|at| at + 1));
        assert_eq!(columns.len(), line.len());
    }
}
