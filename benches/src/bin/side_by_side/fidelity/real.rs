//! The scenario on real parts, by the clock on the wall: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, nodes that KWOK
//! pretends, `mobula operator`, `mobula sidecar`, a head of Ray and raylets that run the work.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use mobula_tests::apiserver::{Audited, Namespace};
use mobula_tests::control_plane::ControlPlane;
use mobula_tests::node::{apply, get};
use mobula_tests::process::{Process, free_port};
use mobula_tests::ray::Ray;
use mobula_tests::{sidecar, wait};
use serde_json::Value;
use tokio::sync::Mutex;

use super::kubelet::{self, Life, Machine, held};
use super::script::Script;
use super::{Kinds, Seen, Series, gaps};

/// How long something may take to be there on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// How late a node may be seen to have registered, in seconds.
const SEEN_WITHIN_S: f64 = 0.1;
/// How often replicas are looked at.
const PERIOD: Duration = Duration::from_millis(500);
/// The operator's place and account, as its manifests have them.
const OPERATOR: (&str, &str) = ("mobula-system", "mobula-operator");

/// What came of it.
pub struct Played {
    /// What is compared.
    pub seen: Seen,
    /// From started containers to a Ray node in the GCS, of each worker, in seconds.
    pub registering_s: Vec<f64>,
    /// From a Ray node in the GCS to the first task on it that waited for it, in seconds.
    pub first_tasks_s: Vec<f64>,
    /// From a pod to its node, in seconds.
    pub binding_s: Vec<f64>,
    /// Workers that were deleted, and how many of their `ray start --block` had ended before.
    pub drained: (usize, usize),
}

/// Plays it.
///
/// # Errors
/// If a part can't be started or ends, or work is not done by the horizon.
pub async fn play(script: Script, mobula: &Path) -> Result<Played> {
    let mut directory = tempfile::Builder::new().prefix("mobula-fid-").tempdir()?;
    directory.disable_cleanup(std::env::var_os("MOBULA_TEST_KEEP_LOGS").is_some());
    let kinds = ["rayclusters", "raycronjobs", "rayjobs", "rayservices"];
    let definitions = kinds.map(|kind| deploy(&format!("crd/ray.io_{kind}.yaml")));
    let definitions = definitions.each_ref().map(PathBuf::as_path);
    let plane = ControlPlane::start_without_kubelets(&definitions, &script.nodes).await?;
    let admin = plane.server.admin_client().await?;
    install(&admin, script.name()).await?;
    let operator = plane.server.account(OPERATOR.0, OPERATOR.1).await?;
    let mut process = start_operator(mobula, &operator, directory.path()).await?;
    let account = plane.server.account("default", script.name()).await?;
    let client = plane.server.stand_in_client().await?;
    let (horizon, cluster, work) = (script.horizon, script.cluster.clone(), script.work.clone());
    let path = format!("/apis/ray.io/v1/namespaces/default/rayclusters/{}", script.name());
    let (place, credentials) = (directory.path().to_owned(), account.credentials.clone());
    let machine = Arc::new(Machine::new(script, client.clone(), place, mobula.to_owned(), credentials));
    let kubelet = tokio::spawn(kubelet::run(machine.clone()));
    apply::apply(&client, &[cluster]).await?;
    let replicas = tokio::spawn(replicas(client, path, machine.began, horizon));
    let ray = head(&machine).await?;
    let mut player = start_player(&*ray.lock().await, &work, &machine, directory.path())?;
    while machine.began.elapsed() < horizon {
        plane.must_run()?;
        process.must_run()?;
        must_be_well(&machine)?;
        tokio::time::sleep(PERIOD).await;
    }
    let told = told(&mut player).await?;
    let lives = held(&machine.lives).clone();
    let is_head = |life: &&Life| life.group == mobula_api::keys::HEAD_GROUP;
    ensure!(!lives.values().filter(is_head).any(|life| life.has_ended), "the sidecar has ended");
    let requests = (account.audit()?, operator.audit()?);
    let replicas = replicas.await??;
    kubelet.abort();
    Ok(read(&told, &lives, replicas, &requests, horizon.as_secs_f64()))
}

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

/// What a cluster administrator applies: the operator's rights, and the sidecar's.
async fn install(admin: &kube::Client, cluster: &str) -> Result<()> {
    let account = async || Ok(get(admin, "/api/v1/namespaces/default/serviceaccounts/default").await.is_ok());
    wait::until("the default account", LIMIT, account, |is_there| *is_there).await?;
    apply::apply(admin, &apply::read(&deploy("rbac/operator.yaml"))?).await?;
    let extra = std::fs::read_to_string(deploy("rbac/sidecar-extra.yaml"))?;
    apply::apply(admin, &apply::parse(&extra.replace("name: raycluster-autoscaler", &format!("name: {cluster}")))?)
        .await
}

async fn start_operator(mobula: &Path, account: &Namespace, directory: &Path) -> Result<Process> {
    let port = free_port()?;
    let mut command = Command::new(mobula);
    command
        .args(["operator", "--health-probe-bind-address=0", &format!("--metrics-addr=127.0.0.1:{port}")])
        .args(["--log-stdout-encoder=console", "--enable-leader-election=false", "--autoscaler-image=mobula:fidelity"])
        .envs(account.credentials.env());
    let mut process = Process::start("operator", &mut command, directory)?;
    let ready = async || {
        process.must_run()?;
        Ok(sidecar::page(port, "/readyz").await.is_ok())
    };
    wait::until("the operator ready", LIMIT, ready, |is_ready| *is_ready).await?;
    Ok(process)
}

async fn head(machine: &Machine) -> Result<Arc<Mutex<Ray>>> {
    let mut ray = machine.ray.subscribe();
    let mut look = async || {
        must_be_well(machine)?;
        Ok(ray.borrow_and_update().is_some())
    };
    wait::until("the head", LIMIT, &mut look, |is_up| *is_up).await?;
    machine.ray.borrow().clone().context("no head")
}

fn must_be_well(machine: &Machine) -> Result<()> {
    match held(&machine.error).take() {
        Some(error) => bail!("{error}"),
        None => Ok(()),
    }
}

fn start_player(ray: &Ray, work: &Value, machine: &Machine, directory: &Path) -> Result<Process> {
    let steps = directory.join("work.json");
    std::fs::write(&steps, work.to_string())?;
    let began = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() - machine.now_s();
    let mut command = ray.command("python");
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/fidelity_player.py"))
        .args([ray.gcs_address(), ray.head_ip()])
        .arg(steps)
        .args([began.to_string(), machine.script.horizon.as_secs_f64().to_string()]);
    Process::start("player", &mut command, directory)
}

async fn told(player: &mut Process) -> Result<Value> {
    let start = Instant::now();
    loop {
        if let Some(told) = player.log().lines().find_map(|line| line.strip_prefix("@told ")) {
            let told: Value = serde_json::from_str(told)?;
            ensure!(told["unfinished"] == 0, "{} steps of the work were not done by the horizon", told["unfinished"]);
            return Ok(told);
        }
        ensure!(start.elapsed() < LIMIT, "the player says nothing; its log:\n{}", player.tail(20));
        if let Some(status) = player.ended().filter(|_| !player.log().contains("@told")) {
            bail!("the player ended ({status}); its log:\n{}", player.tail(20));
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// The sum of all groups' replicas, whenever it changes.
async fn replicas(client: kube::Client, path: String, began: Instant, horizon: Duration) -> Result<Series> {
    let mut series = Series::default();
    while began.elapsed() < horizon {
        let cluster = get(&client, &path).await?;
        let groups = cluster["spec"]["workerGroupSpecs"].as_array().into_iter().flatten();
        series.add(began.elapsed().as_secs_f64(), groups.filter_map(|group| group["replicas"].as_i64()).sum());
        tokio::time::sleep(PERIOD).await;
    }
    Ok(series)
}

type Requests = BTreeMap<Audited, usize>;

fn read(
    told: &Value,
    lives: &BTreeMap<String, Life>,
    replicas: Series,
    (sidecar, operator): &(Requests, Requests),
    horizon_s: f64,
) -> Played {
    let numbers = |list: &str, field: &str| -> Vec<f64> {
        told[list].as_array().into_iter().flatten().filter_map(|it| it[field].as_f64()).collect()
    };
    let began_unix_s = told["began"].as_f64().unwrap_or_default();
    let placed_s: Vec<f64> = numbers("gangs", "placed").iter().map(|at_s| at_s - began_unix_s).collect();
    let workers: Vec<&Life> = lives.values().filter(|life| life.group != mobula_api::keys::HEAD_GROUP).collect();
    let registered_s: Vec<f64> = workers.iter().filter_map(|life| life.registered_s).collect();
    let since = |from: Option<f64>, to: Option<f64>| Some(to? - from?);
    let first_task = |life: &&Life| {
        let registered_s = life.registered_s?;
        let of_node = told["tasks"].as_array()?.iter().filter(|task| task["node"] == life.node_id.as_str());
        let began_s = |task: &Value| Some((task["began"].as_f64()? - began_unix_s, task["wait_s"].as_f64()?));
        let (began_s, wait_s) = of_node.filter_map(began_s).min_by(|one, other| one.0.total_cmp(&other.0))?;
        // One that came later has waited for nothing of the node's.
        (began_s - wait_s < registered_s).then_some(began_s - registered_s)
    };
    let deleted = workers.iter().filter(|life| life.deleted_s.is_some());
    Played {
        seen: Seen {
            task_waits_s: numbers("tasks", "wait_s"),
            gang_waits_s: numbers("gangs", "wait_s"),
            placing_s: gaps(&placed_s, &registered_s, SEEN_WITHIN_S),
            pod_hours: workers.iter().map(|life| life.gone_s.unwrap_or(horizon_s) - life.made_s).sum::<f64>() / 3_600.0,
            pods: workers.len() as f64,
            sidecar_requests: kinds(sidecar),
            operator_requests: kinds(operator),
            replicas,
        },
        registering_s: workers.iter().filter_map(|life| since(life.started_s, life.registered_s)).collect(),
        first_tasks_s: workers.iter().filter_map(first_task).collect(),
        binding_s: workers.iter().filter_map(|life| since(Some(life.made_s), life.bound_s)).collect(),
        drained: (deleted.clone().count(), deleted.filter(|life| life.has_ended).count()),
    }
}

fn kinds(requests: &Requests) -> Kinds {
    let mut kinds = Kinds::new();
    for (it, times) in requests {
        *kinds.entry(format!("{} {}", it.verb, it.resource)).or_default() += *times as f64;
    }
    kinds
}
