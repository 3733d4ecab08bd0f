//! The story: an operator is installed, a RayCluster is applied, work comes and goes, and things are killed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mobula_tests::node::{Node, apply, condition, get};
use mobula_tests::parts;
use serde_json::{Value, json};

use crate::cluster::{Cluster, NAMESPACE, Waits, items, restarts};
use crate::{image, job};

/// Devices that the node says it has.
const DEVICES: [(&str, u32); 2] = [("nvidia.com/gpu", 2), ("rdma/hca", 2)];
/// How long pods may take to be there, or to be gone: on two busy cores a Ray node needs most of a minute.
const POD_LIMIT: Duration = Duration::from_secs(240);
/// How long a job may take, pods included.
const JOB_LIMIT: Duration = Duration::from_secs(300);
/// The operator's manifest names this image; users put theirs there.
const PLACEHOLDER: &str = "registry.example/mobula:0.1.0";
const OPERATOR_PODS: &str = "/api/v1/namespaces/mobula-system/pods";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/mobula-system/leases/ray-operator-leader";

/// Tells it, with a node of its own in this directory.
pub async fn tell(directory: &Path) -> Result<()> {
    let start = Instant::now();
    println!("Starting a Kubernetes node in namespaces of its own.");
    let mut node = Node::start(directory).await?;
    let said = |what: &str| println!("{:>6.1} s  {what}", start.elapsed().as_secs_f64());
    said(&format!("real part: kube-apiserver {} answers", parts::version_of("kube-apiserver")?));
    let image = |part: &str| anyhow::Ok(parts::directory(part)?.join("image.tar"));
    node.load_images(&[image("pause-image")?, image("ray-image")?, image::archive(directory)]).await?;
    said(&format!("real part: containerd has the images of Ray {} and of Mobula", parts::RAY));
    node.join().await?;
    node.pretend(&DEVICES).await?;
    said("real parts: kubelet, kube-proxy, CoreDNS, kube-scheduler, kube-controller-manager; the node is ready");
    said("pretended: the node has 2 nvidia.com/gpu and 2 rdma/hca");
    let cluster = Cluster::new(node, start);
    let mut waits = Waits::default();
    let played = play(&cluster, &mut waits).await;
    if played.is_err() {
        println!("{}", cluster.describe().await);
    }
    waits.print();
    played
}

async fn play(cluster: &Cluster, waits: &mut Waits) -> Result<()> {
    install(cluster, waits).await?;
    apply_raycluster(cluster, waits).await?;
    work(cluster, waits).await?;
    worker_deleted(cluster, waits).await?;
    operator_killed(cluster, waits).await?;
    head_deleted(cluster, waits).await?;
    raycluster_deleted(cluster, waits).await
}

/// As the manifests' comments say, in their order.
async fn install(cluster: &Cluster, waits: &mut Waits) -> Result<()> {
    cluster.note("kubectl apply: deploy/crd, deploy/rbac/operator.yaml, deploy/operator/operator.yaml");
    let applied = Instant::now();
    apply::apply(cluster.client(), &apply::read(&repository("deploy/crd"))?).await?;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/rayclusters.ray.io";
    let definition = async || get(cluster.client(), path).await;
    cluster.until("RayClusters are served", POD_LIMIT, definition, |crd| condition(crd, "Established")).await?;
    apply::apply(cluster.client(), &apply::read(&repository("deploy/rbac/operator.yaml"))?).await?;
    let path = repository("deploy/operator/operator.yaml");
    let manifest = std::fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    ensure!(manifest.matches(PLACEHOLDER).count() == 1, "{} does not name {PLACEHOLDER} once", path.display());
    apply::apply(cluster.client(), &apply::parse(&manifest.replace(PLACEHOLDER, image::REFERENCE))?).await?;
    until_operator_ready(cluster).await?;
    let leader = async || Ok(leader(cluster).await.unwrap_or_default());
    cluster.until("an operator leads", POD_LIMIT, leader, |name| !name.is_empty()).await?;
    waits.add("operator applied → both pods ready, one leads", applied.elapsed());
    Ok(())
}

async fn until_operator_ready(cluster: &Cluster) -> Result<()> {
    let look = async || {
        let list = get(cluster.client(), OPERATOR_PODS).await?;
        Ok(items(&list)
            .iter()
            .filter(|pod| condition(pod, "Ready") && pod["metadata"]["deletionTimestamp"].is_null())
            .count())
    };
    cluster.until("two pods of the operator are ready", POD_LIMIT, look, |ready| *ready == 2).await.map(drop)
}

async fn leader(cluster: &Cluster) -> Result<String> {
    let lease = get(cluster.client(), LEASE).await?;
    Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
}

async fn apply_raycluster(cluster: &Cluster, waits: &mut Waits) -> Result<()> {
    cluster.note("kubectl apply: a RayCluster with autoscaling; small: 1 to 3 replicas, gpu: 0 to 2");
    let applied = Instant::now();
    let driver =
        std::fs::read_to_string(repository("tests/python/e2e_driver.py")).context("could not read the driver")?;
    let driver = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "driver", "namespace": NAMESPACE},
        "data": {"driver.py": driver},
    });
    let mut objects = apply::read(&repository("tests/e2e/raycluster.yaml"))?;
    // After the namespace, before the head that mounts it.
    objects.insert(1, driver);
    apply::apply(cluster.client(), &objects).await?;
    until_head_ready(cluster, "").await?;
    waits.add("RayCluster applied → head and sidecar ready", applied.elapsed());
    cluster.until_ready([1, 0], POD_LIMIT).await?;
    waits.add("RayCluster applied → all ready", applied.elapsed());
    Ok(())
}

/// Waits for a head that is ready and not the one of this name.
async fn until_head_ready(cluster: &Cluster, old: &str) -> Result<()> {
    let is_new =
        |head: &Option<crate::cluster::Pod>| head.as_ref().is_some_and(|head| head.is_ready && head.name != old);
    cluster.until("the head is ready", POD_LIMIT, async || cluster.head().await, is_new).await.map(drop)
}

async fn work(cluster: &Cluster, waits: &mut Waits) -> Result<()> {
    let submitted = Instant::now();
    let result = job::run(cluster, "first", "tasks,3,1 gang,2", JOB_LIMIT).await?;
    waits.add("job submitted → 4 tasks and a placement group of 2 done, pods included", submitted.elapsed());
    must_be(&result, "tasks", [4, 4, 1])?;
    must_be(&result, "gang", [2, 2, 2])?;
    let idle = Instant::now();
    cluster.until_replicas([1, 0], POD_LIMIT).await?;
    waits.add("work ended → replicas at the minimum (10 s of idleness included)", idle.elapsed());
    cluster.until_ready([1, 0], POD_LIMIT).await?;
    waits.add("work ended → pods at the minimum", idle.elapsed());
    cluster.note("back at the minimum");
    let pods = cluster.pods().await?;
    ensure!(restarts(&pods).is_empty(), "containers were started again: {:?}", restarts(&pods));
    Ok(())
}

/// Tasks, nodes, and tasks that had a GPU.
fn must_be(result: &Value, what: &str, wanted: [u64; 3]) -> Result<()> {
    let found = ["tasks", "nodes", "with_gpu"].map(|name| result[what][name].as_u64().unwrap_or_default());
    ensure!(found == wanted, "{what}: tasks, nodes, tasks with a GPU: wanted {wanted:?}, got {result}");
    Ok(())
}

async fn worker_deleted(cluster: &Cluster, waits: &mut Waits) -> Result<()> {
    let pods = cluster.pods().await?;
    let worker = pods.iter().find(|pod| pod.group == "small").context("no worker")?.name.clone();
    cluster.note(&format!("kubectl delete pod {worker}"));
    let deleted = Instant::now();
    cluster.delete(&format!("/api/v1/namespaces/{NAMESPACE}/pods/{worker}")).await?;
    let look = async || cluster.pods().await;
    let is_replaced = |pods: &Vec<crate::cluster::Pod>| {
        let mut group = pods.iter().filter(|pod| pod.group == "small");
        group.clone().count() == 1 && group.all(|pod| pod.is_ready && pod.name != worker)
    };
    cluster.until("another worker in its place", POD_LIMIT, look, is_replaced).await?;
    waits.add("worker deleted by hand → another one ready in its place", deleted.elapsed());
    Ok(())
}

async fn operator_killed(cluster: &Cluster, waits: &mut Waits) -> Result<()> {
    let old = leader(cluster).await?;
    // The holder is named after its pod.
    let list = get(cluster.client(), OPERATOR_PODS).await?;
    let names = items(&list).iter().filter_map(|pod| pod["metadata"]["name"].as_str());
    let pod = names.into_iter().find(|name| old.starts_with(name)).with_context(|| format!("no pod of {old}"))?;
    cluster.note(&format!("kubectl delete pod {pod} --grace-period=0 --force: the operator that leads; then work that needs another worker"));
    let killed = Instant::now();
    cluster.delete(&format!("{OPERATOR_PODS}/{pod}?gracePeriodSeconds=0")).await?;
    let result = job::run(cluster, "second", "tasks,2,0", JOB_LIMIT).await?;
    must_be(&result, "tasks", [2, 2, 0])?;
    let new = leader(cluster).await?;
    ensure!(new != old, "{old} still leads");
    waits.add("operator killed → another leads, 2 tasks done on 2 workers", killed.elapsed());
    until_operator_ready(cluster).await?;
    cluster.until_ready([1, 0], POD_LIMIT).await?;
    cluster.note("two operators again, back at the minimum");
    Ok(())
}

async fn head_deleted(cluster: &Cluster, waits: &mut Waits) -> Result<()> {
    let head = cluster.head().await?.context("no head")?.name;
    cluster.note(&format!("kubectl delete pod {head}: the head, and with it Ray's memory"));
    let deleted = Instant::now();
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{head}");
    let old = get(cluster.client(), &path).await?["metadata"]["uid"].clone();
    cluster.delete(&path).await?;
    let is_new = |pods: &Value| {
        items(pods).iter().any(|pod| {
            pod["metadata"]["labels"]["ray.io/node-type"] == "head"
                && pod["metadata"]["uid"] != old
                && condition(pod, "Ready")
        })
    };
    let pods = async || get(cluster.client(), &format!("/api/v1/namespaces/{NAMESPACE}/pods")).await;
    cluster.until("a new head is ready", POD_LIMIT, pods, is_new).await?;
    waits.add("head deleted → a new one ready", deleted.elapsed());
    let result = job::run(cluster, "third", "tasks,2,0", JOB_LIMIT).await?;
    must_be(&result, "tasks", [2, 2, 0])?;
    waits.add("head deleted → 2 tasks done on 2 workers", deleted.elapsed());
    cluster.until_ready([1, 0], POD_LIMIT).await?;
    cluster.note("back at the minimum");
    Ok(())
}

async fn raycluster_deleted(cluster: &Cluster, waits: &mut Waits) -> Result<()> {
    cluster.note("kubectl delete raycluster demo");
    let deleted = Instant::now();
    cluster.delete("/apis/ray.io/v1/namespaces/team/rayclusters/demo").await?;
    cluster.until("no pod is left", POD_LIMIT, async || cluster.pods().await, Vec::is_empty).await?;
    waits.add("RayCluster deleted → no pod left", deleted.elapsed());
    Ok(())
}

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
