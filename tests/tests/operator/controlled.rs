//! Under a whole control plane: the real scheduler and all real controllers, with nodes that KWOK pretends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mobula_tests::{dice::Dice, wait};
use serde_json::{Value, json};

use crate::{
    ALONE,
    case::{Case, GROUP, LIMIT, Operator, is_ready, raycluster},
};

/// What a RayCluster leaves to the garbage collector.
const CHILDREN: [&str; 5] = [
    "/api/v1/{}/pods",
    "/api/v1/{}/services",
    "/api/v1/{}/secrets",
    "/apis/rbac.authorization.k8s.io/v1/{}/roles",
    "/apis/rbac.authorization.k8s.io/v1/{}/rolebindings",
];

/// Waits until all that belonged to the RayClusters of a case is gone.
async fn until_nothing_left(case: &Case) -> Result<Duration> {
    let namespace = format!("namespaces/{}", case.namespace);
    let left = async || {
        let mut left = BTreeMap::new();
        for kind in CHILDREN {
            left.insert(kind, case.list(&kind.replace("{}", &namespace)).await?.len());
        }
        Ok(left)
    };
    wait::until("nothing left", LIMIT, left, |left| left.values().all(|n| *n == 0)).await
}

async fn a_whole_life() -> Result<()> {
    const MANY: u32 = 500;
    let (case, _) = Case::start_controlled("life").await?;
    let _operator = case.operator("life", &[ALONE]).await?;
    case.create("life", &raycluster("a", 0, MANY, false)).await?;
    let born = case.until_status("a", "ready", is_ready).await?;
    case.scale("a", MANY).await?;
    let up = case.until_status("a", "500 ready", |status| status["readyWorkerReplicas"] == 500).await?;

    let mut expected = case.pods("life", "worker").await?;
    ensure!(expected.len() == 500, "{} workers", expected.len());
    let chosen: BTreeSet<String> = expected.iter().step_by(25).cloned().collect();
    let named = json!([
        {"op": "replace", "path": "/spec/workerGroupSpecs/0/replicas", "value": MANY as usize - chosen.len()},
        {"op": "add", "path": "/spec/workerGroupSpecs/0/scaleStrategy", "value": {"workersToDelete": chosen}},
    ]);
    case.patch("a", &named).await?;
    case.until_status("a", "480 ready", |status| status["readyWorkerReplicas"] == 480).await?;
    expected = expected.difference(&chosen).cloned().collect();
    ensure!(case.pods("life", "worker").await? == expected, "other pods went than those chosen");
    ensure!(case.nodes.deleted("life") == chosen, "{:?} were deleted", case.nodes.deleted("life"));
    case.scale("a", 10).await?;
    let down = case.until_status("a", "10 ready", |status| status["readyWorkerReplicas"] == 10).await?;
    case.until_workers(10).await?;
    ensure!(case.pods("life", "worker").await?.is_subset(&expected), "new pods came while others went");
    ensure!((case.nodes.most("life", GROUP), case.nodes.most("life", "headgroup")) == (500, 1), "too many pods");
    eprintln!(
        "ready after {:.2} s; 0→500: {:.2} s; 480→10: {:.2} s",
        born.as_secs_f64(),
        up.as_secs_f64(),
        down.as_secs_f64()
    );
    suspended_and_resumed(&case).await?;
    recreated(&case).await?;
    deleted_with_a_finalizer(&case).await?;
    case.finish()
}

async fn suspended_and_resumed(case: &Case) -> Result<()> {
    let suspend = |value: bool| json!([{"op": "add", "path": "/spec/suspend", "value": value}]);
    case.patch("a", &suspend(true)).await?;
    let down = case.until_status("a", "suspended", |status| status["state"] == "suspended").await?;
    for node_type in ["head", "worker"] {
        let pods = case.pods(&case.namespace, node_type).await?;
        ensure!(pods.is_empty(), "still there: {pods:?}");
    }
    case.patch("a", &suspend(false)).await?;
    let up = case.until_status("a", "ready again", is_ready).await?;
    case.until_workers(10).await?;
    eprintln!("suspended after {:.2} s, ready again after {:.2} s", down.as_secs_f64(), up.as_secs_f64());
    Ok(())
}

/// With the strategy Recreate, a changed spec means new pods.
async fn recreated(case: &Case) -> Result<()> {
    let uids = async || {
        let pods = case.list("/api/v1/namespaces/life/pods").await?;
        Ok(pods.iter().filter_map(|pod| pod["metadata"]["uid"].as_str().map(str::to_owned)).collect::<BTreeSet<_>>())
    };
    let strategy = json!([{"op": "add", "path": "/spec/upgradeStrategy", "value": {"type": "Recreate"}}]);
    case.patch("a", &strategy).await?;
    let before = uids().await?;
    wait::throughout("a strategy alone changes no pod", Duration::from_secs(1), uids, |now| *now == before).await?;
    let image = |group: &str| format!("/spec/{group}/template/spec/containers/0/image");
    let images = ["headGroupSpec", "workerGroupSpecs/0"]
        .map(|group| json!({"op": "replace", "path": image(group), "value": "rayproject/ray:2.52.0"}));
    case.patch("a", &json!(images)).await?;
    let is_new = |now: &BTreeSet<String>| now.len() == before.len() && now.is_disjoint(&before);
    let took = wait::until("all pods new", LIMIT, uids, is_new).await?;
    case.until_status("a", "ready with new pods", is_ready).await?;
    eprintln!("all pods made anew after {:.2} s", took.as_secs_f64());
    Ok(())
}

/// A RayCluster that somebody else holds is left as it is; then the garbage collector ends it.
async fn deleted_with_a_finalizer(case: &Case) -> Result<()> {
    let hold = |names: &[&str]| json!([{"op": "add", "path": "/metadata/finalizers", "value": names}]);
    case.patch("a", &hold(&["example.com/held"])).await?;
    let path = format!("/apis/ray.io/v1/namespaces/{}/rayclusters/a", case.namespace);
    case.delete(&path).await?;
    let workers = case.pods(&case.namespace, "worker").await?;
    let victim = workers.first().context("no worker")?;
    case.delete(&format!("/api/v1/namespaces/{}/pods/{victim}", case.namespace)).await?;
    case.until_workers(workers.len() - 1).await?;
    let look = async || Ok(case.pods(&case.namespace, "worker").await?.len());
    let what = "no new pod for a RayCluster on its way out";
    wait::throughout(what, Duration::from_secs(1), look, |n| *n == workers.len() - 1).await?;
    case.patch("a", &hold(&[])).await?;
    let gone = until_nothing_left(case).await?;
    ensure!(case.get(&path).await.is_err(), "the RayCluster is still there");
    eprintln!("all gone {:.2} s after the finalizer", gone.as_secs_f64());
    Ok(())
}

/// RayClusters of the crowd, workers of each, and how often the operator is killed meanwhile.
const CROWD: usize = 200;
const WORKERS: u32 = 2;
const KILLS: u64 = 6;

async fn a_crowd() -> Result<()> {
    let (case, _) = Case::start_controlled("crowd").await?;
    let name = |n: usize| format!("c{n:03}");
    let start = Instant::now();
    let chosen = tokio::try_join!(killed_again_and_again(&case), async {
        let create =
            async |n: usize| case.create("crowd", &raycluster(&name(n), WORKERS, WORKERS, n.is_multiple_of(2))).await;
        stream::iter((0..CROWD).map(create)).buffer_unordered(16).try_collect::<()>().await?;
        // Every fifth gives a worker back as soon as it has one, in the midst of it all.
        let shrink = async |n: usize| give_back(&case, &name(n)).await;
        stream::iter((0..CROWD).step_by(5).map(shrink)).buffer_unordered(4).try_collect::<BTreeSet<String>>().await
    });
    let (_operator, chosen) = chosen?;
    let wanted = CROWD * WORKERS as usize - chosen.len();
    let clusters = async || case.list("/apis/ray.io/v1/namespaces/crowd/rayclusters").await;
    let ready = async || Ok(clusters().await?.iter().filter(|it| is_ready(&it["status"])).count());
    wait::until("all ready", LIMIT * 2, ready, |n| *n == CROWD).await?;
    let took = start.elapsed();
    must_be_whole(&case, wanted, &chosen).await?;
    ensure!(ready().await? == CROWD, "ready no longer");
    let deleted = Instant::now();
    let request = http::Request::delete("/apis/ray.io/v1/namespaces/crowd/rayclusters").body(Vec::new())?;
    let _: Value = case.admin.request(request).await?;
    until_nothing_left(&case).await?;
    eprintln!(
        "{CROWD} RayClusters ready after {:.1} s and {KILLS} kills; all gone {:.1} s after their deletion",
        took.as_secs_f64(),
        deleted.elapsed().as_secs_f64()
    );
    case.finish()
}

/// Kills the operator at random moments and starts it again at once. Returns the last one.
async fn killed_again_and_again(case: &Case) -> Result<Operator> {
    let mut dice = Dice::new(5, 200);
    for n in 0..KILLS {
        let operator = case.operator(&format!("crowd-{n}"), &[ALONE]).await?;
        tokio::time::sleep(Duration::from_millis(dice.between(100, 2_500))).await;
        drop(operator);
    }
    case.operator("crowd-last", &[ALONE]).await
}

/// Names one worker that is to go; returns its name.
async fn give_back(case: &Case, cluster: &str) -> Result<String> {
    let path =
        format!("/api/v1/namespaces/crowd/pods?labelSelector=ray.io%2Fcluster%3D{cluster},ray.io%2Fgroup%3D{GROUP}");
    let workers = async || case.list(&path).await;
    let mut found = Vec::new();
    wait::until("a worker", LIMIT, workers, |pods| {
        found = pods.clone();
        !pods.is_empty()
    })
    .await?;
    let worker = found.first().and_then(|pod| pod["metadata"]["name"].as_str()).context("a pod without a name")?;
    let named = json!([
        {"op": "replace", "path": "/spec/workerGroupSpecs/0/replicas", "value": WORKERS - 1},
        {"op": "add", "path": "/spec/workerGroupSpecs/0/scaleStrategy", "value": {"workersToDelete": [worker]}},
    ]);
    case.patch(cluster, &named).await?;
    Ok(worker.to_owned())
}

/// Every pod belongs to a RayCluster that is there, none has two heads or too many workers, and only what was chosen went.
async fn must_be_whole(case: &Case, workers: usize, chosen: &BTreeSet<String>) -> Result<()> {
    let count = async || {
        let (heads, workers) = tokio::try_join!(case.pods("crowd", "head"), case.pods("crowd", "worker"))?;
        Ok((heads.len(), workers.len()))
    };
    wait::until("as many pods as wanted", LIMIT, count, |seen| *seen == (CROWD, workers)).await?;
    wait::throughout("as many pods as wanted", Duration::from_secs(1), count, |seen| *seen == (CROWD, workers)).await?;
    let clusters = case.list("/apis/ray.io/v1/namespaces/crowd/rayclusters").await?;
    let uids: BTreeSet<&str> = clusters.iter().filter_map(|it| it["metadata"]["uid"].as_str()).collect();
    for pod in case.list("/api/v1/namespaces/crowd/pods").await? {
        let owner = pod["metadata"]["ownerReferences"][0]["uid"].as_str().unwrap_or_default();
        ensure!(uids.contains(owner), "{} is an orphan", pod["metadata"]["name"]);
    }
    let most = (case.nodes.most_of_one("crowd", "headgroup"), case.nodes.most_of_one("crowd", GROUP));
    ensure!(most == (1, WORKERS as usize), "most heads and workers of one RayCluster at once: {most:?}");
    let deleted = case.nodes.deleted("crowd");
    ensure!(deleted == *chosen, "deleted: {deleted:?}, chosen: {chosen:?}");
    Ok(())
}

/// The longest that a standby may take to lead once the leader was killed: the Lease must run out first (15 s), and a look at
/// it may take as long as a slow server takes to answer.
const TAKE_OVER: Duration = Duration::from_secs(45);

async fn a_killed_leader() -> Result<()> {
    let (case, _) = Case::start_controlled("leaders").await?;
    let first = case.operator("leaders-first", &["--qps=40", "--burst=1"]).await?;
    wait::until("the first leads", LIMIT, async || first.leads().await, |leads| *leads).await?;
    let second = case.operator("leaders-second", &[]).await?;
    case.create("leaders", &raycluster("a", 60, 60, false)).await?;
    let workers = async || Ok(case.pods("leaders", "worker").await?.len());
    wait::until("some workers", LIMIT, workers, |n| *n >= 10).await?;
    ensure!(second.verbs().await?.is_empty(), "the one that does not lead has made requests");
    drop(first);
    let killed = Instant::now();
    wait::until("the second leads", LIMIT, async || second.leads().await, |leads| *leads).await?;
    let took = killed.elapsed();
    case.until_status("a", "ready", is_ready).await?;
    let most = (case.nodes.most_of_one("leaders", "headgroup"), case.nodes.most("leaders", GROUP));
    eprintln!(
        "the other led {:.1} s after the leader was killed; most heads and workers: {most:?}",
        took.as_secs_f64()
    );
    ensure!(took < TAKE_OVER && most == (1, 60), "{took:?}, {most:?}");
    ensure!(case.nodes.deleted("leaders").is_empty(), "pods were deleted");
    case.delete("/apis/ray.io/v1/namespaces/leaders/rayclusters/a").await?;
    until_nothing_left(&case).await?;
    case.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_lives_a_whole_life() {
    a_whole_life().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clusters_outlive_operators_that_are_killed() {
    a_crowd().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_followed_by_the_other() {
    a_killed_leader().await.unwrap();
}
