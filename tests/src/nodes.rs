//! Stands in for scheduler and kubelets, for every pod of some namespaces: a pod gets a node, runs and is ready; a pod that
//! is to go goes. A pod whose scheduling is gated waits.
//!
//! It is told of pods by one watch and lists nothing, so that it can look after thousands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, pin_mut};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::apiserver::post;

/// Pods that are served at once.
const AT_ONCE: usize = 24;
/// How often something is tried.
const TRIES: u32 = 5;

/// Namespace and group.
type Group = (String, String);
/// Namespace, RayCluster and group.
type Member = (String, String, String);

/// The running stand-in; it ends when dropped.
pub struct Nodes {
    tally: Arc<Mutex<Tally>>,
    task: JoinHandle<()>,
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Nodes {
    /// Starts it for these namespaces; for all if there are none.
    pub fn start(client: Client, namespaces: &[&str]) -> Nodes {
        Nodes::spawn(client, namespaces, true)
    }

    /// Only counts pods, and leaves them to others.
    pub fn count(client: Client, namespaces: &[&str]) -> Nodes {
        Nodes::spawn(client, namespaces, false)
    }

    fn spawn(client: Client, namespaces: &[&str], serves: bool) -> Nodes {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let namespaces = namespaces.iter().map(|&name| name.to_owned()).collect();
        let task = tokio::spawn(run(client, namespaces, serves, tally.clone()));
        Nodes { tally, task }
    }

    /// Most pods of a group that were there at once, those on their way out included.
    pub fn most(&self, namespace: &str, group: &str) -> usize {
        self.tally().most.get(&(namespace.to_owned(), group.to_owned())).copied().unwrap_or_default()
    }

    /// Pods of a group that are there now, those on their way out included.
    pub fn now(&self, namespace: &str, group: &str) -> usize {
        self.tally().now.get(&(namespace.to_owned(), group.to_owned())).copied().unwrap_or_default()
    }

    /// Most pods of a group that one RayCluster had at once.
    pub fn most_of_one(&self, namespace: &str, group: &str) -> usize {
        let tally = self.tally();
        let of_group = tally.most_of_one.iter().filter(|((name, _, it), _)| name == namespace && it == group);
        of_group.map(|(_, most)| *most).max().unwrap_or_default()
    }

    /// Names of all pods of a namespace that were ever deleted, or are about to go.
    pub fn deleted(&self, namespace: &str) -> BTreeSet<String> {
        self.tally().deleted.iter().filter(|(name, _)| name == namespace).map(|(_, pod)| pod.clone()).collect()
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pods by group, as the watch has told.
#[derive(Default)]
struct Tally {
    pods: BTreeMap<String, (Group, Member)>,
    now: BTreeMap<Group, usize>,
    most: BTreeMap<Group, usize>,
    now_of_one: BTreeMap<Member, usize>,
    most_of_one: BTreeMap<Member, usize>,
    deleted: BTreeSet<(String, String)>,
}

impl Tally {
    fn came(&mut self, uid: &str, (namespace, cluster, group): Member) {
        if self.pods.contains_key(uid) {
            return;
        }
        let (of_all, of_one) = ((namespace.clone(), group.clone()), (namespace, cluster, group));
        self.pods.insert(uid.to_owned(), (of_all.clone(), of_one.clone()));
        one_more(&mut self.now, &mut self.most, of_all);
        one_more(&mut self.now_of_one, &mut self.most_of_one, of_one);
    }

    fn went(&mut self, uid: &str) {
        let Some((of_all, of_one)) = self.pods.remove(uid) else { return };
        if let Some(now) = self.now.get_mut(&of_all) {
            *now -= 1;
        }
        if let Some(now) = self.now_of_one.get_mut(&of_one) {
            *now -= 1;
        }
    }
}

fn one_more<K: Ord + Clone>(now: &mut BTreeMap<K, usize>, most: &mut BTreeMap<K, usize>, key: K) {
    let now = now.entry(key.clone()).or_default();
    *now += 1;
    let most = most.entry(key).or_default();
    *most = (*most).max(*now);
}

/// What is done for a pod, once each.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Duty {
    Bind,
    Run,
    End,
}

async fn run(client: Client, namespaces: BTreeSet<String>, serves: bool, tally: Arc<Mutex<Tally>>) {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Pod"), "pods");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let events = watcher(api, watcher::Config::default()).default_backoff();
    pin_mut!(events);
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let (mut begun, mut tasks) = (BTreeSet::new(), JoinSet::new());
    while let Some(event) = events.next().await {
        while tasks.try_join_next().is_some() {}
        let (pod, is_there) = match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => (pod, true),
            Ok(watcher::Event::Delete(pod)) => (pod, false),
            Ok(watcher::Event::Init | watcher::Event::InitDone) => continue,
            Err(error) => {
                eprintln!("the stand-in for the kubelets: {error}");
                continue;
            }
        };
        let (Some(namespace), Some(uid)) = (pod.namespace(), pod.uid()) else { continue };
        if !namespaces.is_empty() && !namespaces.contains(&namespace) {
            continue;
        }
        let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_there || pod.metadata.deletion_timestamp.is_some() {
            tally.deleted.insert((namespace.clone(), pod.name_any()));
        }
        if is_there {
            tally.came(&uid, (namespace, label("ray.io/cluster"), label("ray.io/group")));
        } else {
            tally.went(&uid);
        }
        drop(tally);
        if let Some(duty) = duty(&pod).filter(|_| is_there && serves)
            && begun.insert((uid, duty))
        {
            tasks.spawn(serve(client.clone(), pod, duty, permits.clone()));
        }
    }
}

fn duty(pod: &DynamicObject) -> Option<Duty> {
    let is_gated = pod.data["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
    let is_bound = !pod.data["spec"]["nodeName"].is_null();
    if pod.metadata.deletion_timestamp.is_some() {
        Some(Duty::End)
    } else if is_gated || pod.data["status"]["phase"] == "Running" {
        None
    } else {
        // A kubelet is told by its watch that a pod is its own.
        Some(if is_bound { Duty::Run } else { Duty::Bind })
    }
}

async fn serve(client: Client, pod: DynamicObject, duty: Duty, permits: Arc<Semaphore>) {
    let Ok(_permit) = permits.acquire_owned().await else { return };
    let path = format!("/api/v1/namespaces/{}/pods", pod.namespace().unwrap_or_default());
    for attempt in 1..=TRIES {
        let done = match duty {
            Duty::Bind => bind(&client, &path, &pod).await,
            Duty::Run => start(&client, &path, &pod).await,
            Duty::End => end(&client, &path, &pod).await,
        };
        // It may be gone, or on its way out, or bound, by now. That somebody else changed its status is no reason to give up.
        let is_over = |code: u16| code == 404 || (code == 409 && duty != Duty::Run);
        match done {
            Ok(()) => return,
            Err(error) => match error.downcast_ref::<kube::Error>() {
                Some(kube::Error::Api(status)) if is_over(status.code) => return,
                _ => eprintln!("the stand-in for the kubelets: {}: {error:#}", pod.name_any()),
            },
        }
        tokio::time::sleep(Duration::from_millis(100) * attempt).await;
    }
}

async fn end(client: &Client, path: &str, pod: &DynamicObject) -> Result<()> {
    let path = format!("{path}/{}?gracePeriodSeconds=0", pod.name_any());
    let _: Value = client.request(http::Request::delete(path).body(Vec::new())?).await?;
    Ok(())
}

async fn bind(client: &Client, path: &str, pod: &DynamicObject) -> Result<()> {
    let name = pod.name_any();
    let target = json!({"apiVersion": "v1", "kind": "Node", "name": "node"});
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target});
    post(client, &format!("{path}/{name}/binding"), &binding).await
}

async fn start(client: &Client, path: &str, pod: &DynamicObject) -> Result<()> {
    let name = pod.name_any();
    let containers = pod.data["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let statuses: Vec<Value> = containers.iter().map(running).collect();
    let ready = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"status": {
        "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": statuses,
        "conditions": [ready("PodScheduled"), ready("Initialized"), ready("ContainersReady"), ready("Ready")],
    }});
    let request = http::Request::patch(format!("{path}/{name}/status"))
        .header("content-type", "application/merge-patch+json")
        .body(serde_json::to_vec(&status)?)?;
    let _: Value = client.request(request).await.context("could not say that it runs")?;
    Ok(())
}

fn running(container: &Value) -> Value {
    json!({
        "name": container["name"], "image": container["image"], "imageID": "", "ready": true, "started": true,
        "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_pods_at_once_are_kept() {
        let mut tally = Tally::default();
        let group = || ("ns".to_owned(), "small".to_owned());
        let of = |cluster: &str| ("ns".to_owned(), cluster.to_owned(), "small".to_owned());
        for (uid, cluster) in [("a", "x"), ("b", "y"), ("a", "x")] {
            tally.came(uid, of(cluster));
        }
        tally.went("a");
        tally.came("c", of("y"));
        tally.went("never-seen");
        assert_eq!((tally.now[&group()], tally.most[&group()]), (2, 2));
        assert_eq!((tally.most_of_one[&of("x")], tally.most_of_one[&of("y")]), (1, 2));
    }
}
