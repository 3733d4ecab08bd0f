//! From nothing to the first tick.

use std::time::Duration;

use mobula_api::{GroupShape, RayVersion};
use mobula_gcs::{ClusterConfig, NodeGroupConfig};

use super::{Context, Error, LoopState, Mode, chores, guard::ViewGuard, publish::Published};
use crate::{
    events::{EventLog, EventLogConfig},
    idle_termination::IdleMemory,
    kube_events::Outbox,
    metrics::own,
    pace::{BackoffLimits, Backoffs},
    prices::PriceFile,
    rbac::Permissions,
};

const GCS_BACKOFF: BackoffLimits = BackoffLimits { first: Duration::from_millis(250), most: Duration::from_secs(5) };
/// Namespace and key by which a head says which autoscaler it was started for.
const V2_ENABLED: (&str, &str) = ("__autoscaler", "__autoscaler_v2_enabled");
/// Key (in the empty namespace) by which Ray's service discovery finds the metrics endpoint.
const METRICS_ADDRESS_KEY: &str = "AutoscalerMetricsAddress";

/// Waits for the GCS and finds out with whom we deal.
pub(super) async fn begin(context: &Context) -> Result<LoopState, Error> {
    let version = wait_for(context, || context.gcs.ray_version()).await;
    // Development builds have no number; they are newer than anything.
    if RayVersion::parse(&version).is_some_and(|known| !known.is_supported()) {
        return Err(Error::RayTooOld { found: version });
    }
    let mode = wait_for(context, || read_mode(context)).await;
    tracing::info!(ray = %version, ?mode, policy = context.config.policy.name(), "the GCS answers");
    say_mode(mode);
    let temp_dir = temp_dir(context).await;
    let mut state = LoopState {
        mode,
        permissions: Permissions::unknown(),
        memory: mobula_planner::Memory::default(),
        kept: Default::default(),
        cache: mobula_planner::Cache::default(),
        still: None,
        guard: ViewGuard::new(context.config.view_grace),
        session: None,
        drained: Default::default(),
        refusals: Default::default(),
        drain_backoffs: Backoffs::new(),
        kube_backoffs: Backoffs::new(),
        options: context.config.snapshot.clone(),
        prices: context.config.prices.clone().map(PriceFile::new),
        kube_nodes: Default::default(),
        nodes_made_of: None,
        quotas: Default::default(),
        topology: Default::default(),
        parsed: None,
        object_store_bytes: Default::default(),
        gang_created_ms: Default::default(),
        chores: chores::Schedule::default(),
        idle: IdleMemory::default(),
        failed: Vec::new(),
        published: Published::default(),
        events: EventLog::new(EventLogConfig {
            temp_dir,
            hostname: context.config.hostname.clone(),
            pid: context.config.process_id,
            limit_bytes: EVENT_FILE_BYTES,
        }),
        outbox: Outbox::default(),
        announced: false,
    };
    chores::read_prices(context, &mut state).await;
    chores::first_review(context, &mut state).await;
    Ok(state)
}

/// Size at which the event file is rotated.
const EVENT_FILE_BYTES: u64 = 64 << 20;

/// Asks until there is an answer.
async fn wait_for<T, A>(context: &Context, ask: impl Fn() -> A) -> T
where
    A: Future<Output = Result<T, mobula_gcs::Error>>,
{
    let mut backoffs = Backoffs::new();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                let wait = backoffs.fail("gcs", GCS_BACKOFF, None);
                context.metrics.add(&own::ERRORS, vec![("source", "gcs".into()), ("kind", error.kind().into())], 1);
                context.board.turn(Some(format!("waiting for the GCS: {error}")));
                tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "waiting for the GCS");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Which autoscaler the head was started for.
pub(super) async fn read_mode(context: &Context) -> Result<Mode, mobula_gcs::Error> {
    let value = context.gcs.kv_get(V2_ENABLED.0, V2_ENABLED.1).await?;
    Ok(if value.as_deref() == Some(b"1") { Mode::V2 } else { Mode::V1 })
}

/// A head may come back in the other mode. Says so once where it is v1.
pub(super) fn say_mode(mode: Mode) {
    if mode == Mode::V1 {
        tracing::warn!(
            "the head runs in v1 mode: set autoscalerOptions.version to v2 for label selectors, per-group idle time-outs and \
             the whole of `ray status`"
        );
    }
}

async fn temp_dir(context: &Context) -> std::path::PathBuf {
    match context.gcs.head().await {
        Ok(Some(head)) if !head.temp_dir.is_empty() => head.temp_dir.into(),
        _ => context.config.temp_dir.clone(),
    }
}

/// Makes the metrics endpoint and the limits of the cluster known. Done once for each life of the head.
///
/// # Errors
/// If the GCS can't be told; the next tick tries again.
pub(super) async fn announce(context: &Context, shapes: &[GroupShape]) -> Result<(), mobula_gcs::Error> {
    if let Some(listen) = context.config.listen {
        let address = format!("{}:{}", context.config.advertised_host, listen.port());
        context.gcs.kv_put("", METRICS_ADDRESS_KEY, address.as_bytes(), true).await?;
    }
    context.gcs.report_cluster_config(&cluster_config(shapes)).await
}

fn cluster_config(shapes: &[GroupShape]) -> ClusterConfig {
    let pods = |replicas: u32, shape: &GroupShape| replicas.saturating_mul(shape.num_of_hosts.max(1));
    let groups = shapes
        .iter()
        .filter(|shape| !shape.is_head)
        .map(|shape| NodeGroupConfig {
            name: shape.name.clone(),
            resources: shape.resources.iter().map(|(name, amount)| (name.clone(), amount.max(0.0) as u64)).collect(),
            min_count: pods(shape.min_replicas, shape),
            max_count: i32::try_from(pods(shape.max_replicas, shape)).unwrap_or(-1),
        })
        .collect();
    ClusterConfig { groups }
}
