//! The loop: collect → snapshot → plan → lint → apply → report, at its own pace, in batches.
//!
//! | module | does |
//! |---|---|
//! | `start` | waits for the GCS, reads the mode, asks for permissions, makes itself known |
//! | `collect` | one observation: GCS by call, pods by watch, RayCluster by watch or get |
//! | `guard` | says whether the GCS shows the whole picture; if not, nothing is deleted |
//! | `due` | what of a plan may be carried out now, before anybody is asked |
//! | `removal` | replicas as units of removal |
//! | `tick` | one turn: plan from the observation, check the plan, carry it out |
//! | `still` | one turn in which nothing has happened |
//! | `apply` | drains and the one JSON patch |
//! | `chores` | what is due now and then: job table, ages of gangs, resizes |
//! | `publish` | report to the GCS, metrics, events, `/explain`, the flight recorder |

mod apply;
mod chores;
mod collect;
mod due;
mod guard;
mod nodes;
mod publish;
mod removal;
mod sound_part;
mod start;
mod still;
#[cfg(test)]
pub(crate) mod testing;
mod tick;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use mobula_api::{FieldError, RayVersion};
use mobula_gcs as gcs;
use mobula_planner::{Cache, Memory, Policy, PolicyOptions, RayV2};
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::Instant};

use crate::{
    clock::Clock,
    events::EventLog,
    hosts::KubeNode,
    http::{self, Board},
    idle_termination::IdleMemory,
    kube_access::{KubeAccess, KubeError, KubeErrorKind},
    kube_events::Outbox,
    metrics::{Metrics, own, ray},
    pace::{Backoffs, Pace},
    prices::PriceFile,
    quotas::{Reading, Source},
    rbac::{Permission, Permissions},
    recorder::{Recorder, RecorderConfig, RecorderError},
    report::FailedInstance,
    snapshot::{Kept, SnapshotOptions},
    topology::DescribedTopology,
    watch::{
        ClusterCell, PodIndex,
        nodes::{NodeIndex, watch_nodes},
        watch_cluster, watch_pods,
    },
};

/// How long a plan that is being carried out may still take after the order to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// All settings of a sidecar.
#[derive(Clone)]
pub struct SidecarConfig {
    /// Name of the RayCluster.
    pub cluster: String,
    /// Its namespace.
    pub namespace: String,
    /// API version in `/apis/ray.io/<version>`.
    pub crd_version: String,
    /// Limit of every request to the API server.
    pub kube_timeout: Duration,
    /// How to decide.
    pub policy: Arc<dyn Policy>,
    /// The options that `policy` was made with, for recordings.
    pub policy_options: PolicyOptions,
    /// Settings of the snapshot that don't come from the RayCluster.
    pub snapshot: SnapshotOptions,
    /// HyperNodes of the topology that the user chose; none: those that the API server knows.
    pub hypernodes: Arc<DescribedTopology>,
    /// A file with prices, which is read again when it changes and then stands in for those in `snapshot`.
    pub prices: Option<PathBuf>,
    /// How often the GCS is asked.
    pub pace: Pace,
    /// Age at which the RayCluster is read again where it can't be watched.
    pub cluster_refresh: Duration,
    /// How long after a break running pods are waited for before anything is deleted.
    pub view_grace: Duration,
    /// Whether nodes that Ray calls idle but that still hold objects are kept.
    pub keep_object_holders: bool,
    /// Where to serve HTTP; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Host of our metrics endpoint, as others reach it.
    pub advertised_host: String,
    /// The flight recorder.
    pub recorder: RecorderConfig,
    /// Whether Ray's event file is written.
    pub ray_events: bool,
    /// Directory above Ray's sessions, if the GCS does not say it.
    pub temp_dir: PathBuf,
    /// Host name, as events show it.
    pub hostname: String,
    /// Process id, as events show it.
    pub process_id: u32,
}

impl SidecarConfig {
    /// The defaults for one RayCluster.
    pub fn new(namespace: impl Into<String>, cluster: impl Into<String>) -> Self {
        SidecarConfig {
            cluster: cluster.into(),
            namespace: namespace.into(),
            crd_version: "v1".into(),
            kube_timeout: Duration::from_secs(60),
            policy: Arc::new(RayV2),
            policy_options: PolicyOptions::default(),
            snapshot: SnapshotOptions::default(),
            hypernodes: Arc::default(),
            prices: None,
            pace: Pace::default(),
            cluster_refresh: Duration::from_secs(5),
            view_grace: Duration::from_secs(120),
            keep_object_holders: false,
            listen: None,
            advertised_host: "127.0.0.1".into(),
            recorder: RecorderConfig::default(),
            ray_events: true,
            temp_dir: PathBuf::from("/tmp/ray"),
            hostname: String::new(),
            process_id: 0,
        }
    }
}

/// Why a sidecar ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The head runs a Ray that is too old. Not retryable.
    #[error(
        "the head runs Ray {found}: Mobula scales Ray {} and newer; use Ray's own autoscaler image for this cluster",
        RayVersion::OLDEST_SUPPORTED
    )]
    RayTooOld {
        /// What the head says.
        found: String,
    },
    /// The flight recorder's directory can't be used. Not retryable.
    #[error("flight recorder: {0}")]
    Recorder(#[from] RecorderError),
}

/// Why one tick made no plan. Every kind is worth another tick after its back-off.
#[derive(Debug, thiserror::Error)]
enum TickError {
    #[error("gcs: {0}")]
    Gcs(#[from] gcs::Error),
    #[error("kubernetes: {0}")]
    Kube(#[from] KubeError),
    #[error("raycluster: {0}")]
    Cluster(#[from] FieldError),
    #[error("the raycluster can't be read; next try in {} s", .0.as_secs())]
    BackingOff(Duration),
    #[error("the list of pods has not arrived yet")]
    PodsUnknown,
    #[error("the watch of pods has been interrupted for {} s: nothing is decided on what was there before", .0.as_secs())]
    PodsStale(Duration),
    #[error("the raycluster is being deleted")]
    Deleting,
}

impl TickError {
    /// Source and kind in metrics.
    fn labels(&self) -> (&'static str, &'static str) {
        match self {
            TickError::Gcs(error) => ("gcs", error.kind()),
            TickError::Kube(error) => ("kube", error.kind.as_str()),
            TickError::Cluster(_) => ("raycluster", "bad_field"),
            TickError::BackingOff(_) => ("kube", "backing_off"),
            TickError::PodsUnknown => ("kube", "pods_unknown"),
            TickError::PodsStale(_) => ("kube", "pods_stale"),
            TickError::Deleting => ("raycluster", "deleting"),
        }
    }
}

/// Where the head keeps its demand.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Mode {
    V2,
    V1,
}

/// What all parts of the loop share and nobody changes.
struct Context {
    config: SidecarConfig,
    kube: KubeAccess,
    gcs: gcs::Client,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    recorder: Arc<Recorder>,
    board: Arc<Board>,
    pods: Arc<PodIndex>,
    cluster: Arc<ClusterCell>,
    nodes: Arc<NodeIndex>,
    /// Whether a plan is being carried out now.
    applying: watch::Sender<bool>,
}

/// What is remembered from tick to tick.
struct LoopState {
    mode: Mode,
    permissions: Permissions,
    memory: Memory,
    /// What was derived from the RayCluster, to make the next snapshot faster.
    kept: Kept,
    /// The last plan, to make the next one faster.
    cache: Cache,
    /// The last turn, while nothing happens.
    still: Option<still::Still>,
    guard: guard::ViewGuard,
    /// The present session and the unix time in ms since when it is seen.
    session: Option<(String, i64)>,
    /// Pods whose drain Ray accepted and that are not named for deletion yet.
    drained: BTreeMap<String, apply::Drained>,
    /// Replicas that were not let go when last asked, and why.
    refusals: BTreeMap<String, String>,
    drain_backoffs: Backoffs<String>,
    /// Back-offs of gets and patches of the RayCluster, by cause.
    kube_backoffs: Backoffs<(KubeAction, KubeErrorKind)>,
    /// Settings of the snapshot as they are now.
    options: SnapshotOptions,
    /// Kubernetes nodes, where they may be read.
    kube_nodes: Arc<Vec<KubeNode>>,
    /// What they were made of, where a watch tells what has changed.
    nodes_made_of: Option<nodes::NodesMadeOf>,
    /// Quotas, where they may be read.
    quotas: BTreeMap<Source, Reading>,
    /// Objects that describe the topology, where they may be read.
    topology: BTreeMap<Permission, Vec<Value>>,
    /// Where prices come from.
    prices: Option<PriceFile>,
    /// The RayCluster as it was parsed last.
    parsed: Option<collect::ParsedCluster>,
    /// Bytes held by nodes that were asked.
    object_store_bytes: BTreeMap<String, u64>,
    /// Creation times of gangs.
    gang_created_ms: BTreeMap<String, i64>,
    chores: chores::Schedule,
    idle: IdleMemory,
    failed: Vec<FailedInstance>,
    published: publish::Published,
    events: EventLog,
    /// Lines that are to become Kubernetes Events.
    outbox: Outbox,
    /// Whether the GCS has been told of us since the last restart of the head.
    announced: bool,
}

/// Requests with a back-off of their own.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum KubeAction {
    Get,
    /// Any patch: the server is away, or does not let us.
    Patch,
    /// A patch that asks for more replicas, refused for what it asks.
    Grow,
    /// A patch that asks for fewer replicas or names pods, refused for what it asks.
    Remove,
    /// A patch that only says which pods begin together, refused for what it says.
    Note,
}

/// The autoscaler of one RayCluster.
pub struct Sidecar {
    context: Context,
}

impl Sidecar {
    /// A sidecar over any Kubernetes client, GCS client and clock.
    ///
    /// # Errors
    /// If the recorder's directory can't be used.
    pub fn new(
        config: SidecarConfig,
        kube: kube::Client,
        gcs: gcs::Client,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let metrics = Arc::new(Metrics::new(clock.now_unix_ms()));
        let recorder = Arc::new(Recorder::new(config.recorder.clone())?);
        let kube = KubeAccess::new(kube, &config.namespace, &config.cluster, &config.crd_version, config.kube_timeout);
        let board = Arc::new(Board::new(metrics.clone(), recorder.clone()));
        let context = Context {
            config,
            kube,
            gcs,
            clock,
            metrics,
            recorder,
            board,
            pods: Arc::default(),
            cluster: Arc::default(),
            nodes: Arc::default(),
            applying: watch::Sender::new(false),
        };
        Ok(Sidecar { context })
    }

    /// What the sidecar shows over HTTP, for who runs it in the same process.
    pub fn board(&self) -> Arc<Board> {
        self.context.board.clone()
    }

    /// Runs until `shutdown` is done. A plan that is being carried out then gets 5 s to be finished, so that drains are
    /// followed by their patch; everything else is left at once.
    ///
    /// # Errors
    /// Only what no waiting can mend: see [`Error`].
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let context = &self.context;
        let (stop, stopped) = watch::channel(());
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_pods(context.kube.clone(), context.pods.clone(), context.metrics.clone()));
        if let Some(address) = context.config.listen {
            serve_http(&mut tasks, address, context.board.clone(), stopped).await;
        }
        tokio::pin!(shutdown);
        let begun = tokio::select! {
            biased;
            begun = start::begin(context) => begun,
            () = &mut shutdown => return Ok(()),
        };
        let mut state = begun?;
        let (mut is_watching, mut is_watching_nodes) = (false, false);
        loop {
            if !is_watching && state.permissions.has(Permission::WatchCluster) {
                tasks.spawn(watch_cluster(context.kube.clone(), context.cluster.clone(), context.metrics.clone()));
                is_watching = true;
            }
            if !is_watching_nodes
                && [Permission::ListNodes, Permission::WatchNodes].iter().all(|it| state.permissions.has(*it))
            {
                tasks.spawn(watch_nodes(context.kube.clone(), context.nodes.clone(), context.metrics.clone()));
                is_watching_nodes = true;
            }
            let Some(wait) = turn_unless(context, &mut state, shutdown.as_mut()).await else { break };
            tokio::select! {
                biased;
                () = tokio::time::sleep(wait) => {}
                () = &mut shutdown => break,
            }
        }
        drop(stop);
        tasks.shutdown().await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// One turn; `None`: `shutdown` came first, and what had to be finished is.
async fn turn_unless(
    context: &Context,
    state: &mut LoopState,
    shutdown: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> Option<Duration> {
    let mut applying = context.applying.subscribe();
    let turn = turn(context, state);
    tokio::pin!(turn);
    tokio::select! {
        biased;
        wait = &mut turn => return Some(wait),
        () = shutdown => {}
    }
    let finish = async {
        tokio::select! {
            biased;
            _ = applying.wait_for(|applying| !applying) => {}
            _ = &mut turn => {}
        }
    };
    if tokio::time::timeout(SHUTDOWN_GRACE, finish).await.is_err() {
        tracing::warn!("stopped in the middle of a patch: whether it was accepted is not known");
    }
    None
}

async fn serve_http(tasks: &mut JoinSet<()>, address: SocketAddr, board: Arc<Board>, mut stopped: watch::Receiver<()>) {
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%address, %error, "no HTTP endpoint: scaling goes on without metrics");
            board.metrics.add(&own::ERRORS, vec![("source", "http".into()), ("kind", "bind".into())], 1);
            return;
        }
    };
    tasks.spawn(async move {
        let until_stopped = async move {
            // An error is the sender's end: that is the signal.
            while stopped.changed().await.is_ok() {}
        };
        if let Err(error) = http::serve(listener, board, until_stopped).await {
            tracing::error!(%error, "the HTTP endpoint failed");
        }
    });
}

/// One turn of the loop. Returns how long to wait before the next.
async fn turn(context: &Context, state: &mut LoopState) -> Duration {
    match tick::tick(context, state).await {
        Ok(done) => {
            context.metrics.add(&own::TICKS, vec![("result", done.result.into())], 1);
            context.board.turn(None);
            chores::after_tick(context, state, &done).await;
            let next_poll = done.next_poll;
            state.still = still::Still::after(state, done);
            next_poll.saturating_duration_since(Instant::now())
        }
        Err(error) => {
            let (source, kind) = error.labels();
            context.metrics.add(&own::TICKS, vec![("result", "failed".into())], 1);
            context.metrics.add(&own::ERRORS, vec![("source", source.into()), ("kind", kind.into())], 1);
            context.metrics.add(&ray::UPDATE_LOOP_EXCEPTIONS, Vec::new(), 1);
            if matches!(error, TickError::Cluster(_)) {
                context.metrics.add(&ray::CONFIG_VALIDATION_EXCEPTIONS, Vec::new(), 1);
            }
            context.board.turn(Some(error.to_string()));
            // Nobody has looked whether the cluster is in use, or whether anything has happened.
            state.idle.start_over();
            state.still = None;
            // Not the pace of polls: how long a failure took (connecting, retries, the deadline) is no cost of the GCS.
            state.chores.failed(source, kind, &error)
        }
    }
}
