//! The sidecar beside each head: production's own, started and stopped by the kubelet of the head pod.

use std::sync::Arc;

use mobula_apiserver::{Asked, Connection, Kind, Verb};
use mobula_autoscaler::http::Board;
use mobula_autoscaler::pace::Pace;
use mobula_autoscaler::prices::Prices;
use mobula_autoscaler::recorder::RecorderConfig;
use mobula_autoscaler::sidecar::{Sidecar, SidecarConfig};
use mobula_autoscaler::snapshot::SnapshotOptions;
use mobula_gcs::server::SharedGcs;
use mobula_planner::{Policy, PolicyOptions, topology_presets};
use tokio::task::JoinHandle;

use super::{Key, Process, World};
use crate::measure;
use crate::network::{self, Death};
use crate::ray::Head;
use crate::scenario::SidecarSettings;

/// How sidecars are made.
#[derive(Clone)]
pub struct SidecarPlan {
    /// How they decide.
    pub policy: Arc<dyn Policy>,
    /// What the policy was made with.
    pub options: PolicyOptions,
}

/// A sidecar that runs.
pub(super) struct SidecarProcess {
    /// How many there were before it, of all clusters.
    pub number: u64,
    /// How it can be made to die.
    pub death: Death,
    /// What it shows.
    pub board: Arc<Board>,
    connection: Connection,
    pub task: JoinHandle<()>,
}

/// Most bytes of one sidecar's recording; of more, the oldest are lost.
const RECORDING_BYTES: u64 = 64 << 20;

/// What KubeRay's stock Role gives, beside access reviews.
fn stock_role(asked: &Asked) -> bool {
    match (asked.resource.as_str(), asked.subresource.as_str()) {
        ("pods", "") => matches!(asked.verb, Verb::Get | Verb::List | Verb::Watch | Verb::Patch),
        ("pods", "resize") => asked.verb == Verb::Patch,
        ("rayclusters", "") => matches!(asked.verb, Verb::Get | Verb::Patch),
        ("selfsubjectaccessreviews", _) => true,
        _ => false,
    }
}

/// Settings of a sidecar, as the scenario says.
fn config(settings: &SidecarSettings, plan: &SidecarPlan, cluster: &Key, is_recorded: bool) -> SidecarConfig {
    let prices = settings.prices.as_ref().and_then(|prices| Prices::from_value(&prices.value).ok());
    let topology = settings.topology.as_ref().and_then(|name| topology_presets::preset(&name.value));
    SidecarConfig {
        policy: plan.policy.clone(),
        policy_options: plan.options,
        snapshot: SnapshotOptions {
            max_in_flight: settings.max_in_flight,
            prices: prices.unwrap_or_default(),
            topology: topology.unwrap_or_default(),
            ..SnapshotOptions::default()
        },
        pace: Pace { min_interval: settings.interval.to_duration(), ..Pace::default() },
        recorder: RecorderConfig {
            limit_bytes: if is_recorded { RECORDING_BYTES } else { 0 },
            ..RecorderConfig::default()
        },
        listen: None,
        // Ray's event file would be a real file.
        ray_events: false,
        ..SidecarConfig::new(&cluster.namespace, &cluster.name)
    }
}

impl World {
    pub(super) fn start_sidecar(&mut self, cluster: &Key, gcs: &Arc<Head>, life: u64) -> Option<SidecarProcess> {
        let number = self.sidecars;
        self.sidecars += 1;
        let chance = self.chance("network", &format!("sidecar {cluster}/{life}/{number}"));
        let death = Death::of(Process::Sidecar(cluster.clone(), number), self.inbox.clone());
        let faults = network::faults(&self.scenario.network, self.outage.clone(), death.clone(), chance);
        let is_wide = self.scenario.sidecar.wide_role;
        let served: Vec<String> = Kind::without_add_ons().into_iter().map(|kind| kind.plural).collect();
        let access = move |asked: &Asked| stock_role(asked) || (is_wide && served.contains(&asked.resource));
        let connection = self.server.connect().with_access("sidecar", access).with_faults(faults);
        let client = connection.client(&cluster.namespace);
        let shared: SharedGcs = gcs.clone();
        let gcs = mobula_gcs::Client::within(shared);
        let config = config(&self.scenario.sidecar, &self.sidecar_plan, cluster, self.wishes.record);
        self.log.note(self.clock.now_us(), "sidecar-starts", &cluster.to_string(), None);
        let clock = Arc::new(self.wall.clone());
        // Refused only for a recorder's directory, and there is none.
        let sidecar = Sidecar::new(config, client, gcs, clock).ok()?;
        let board = sidecar.board();
        let task = tokio::spawn(async move {
            if let Err(error) = Box::pin(sidecar.run(std::future::pending())).await {
                tracing::error!(%error, "the sidecar has ended");
            }
        });
        Some(SidecarProcess { number, death, board, connection, task })
    }

    /// The sidecar of a cluster, if there is one.
    pub(super) fn sidecar(&self, cluster: &Key) -> Option<&SidecarProcess> {
        self.clusters.get(cluster)?.head.as_ref()?.sidecar.as_ref()
    }

    /// The sidecar of a head is killed, and the kubelet starts it again.
    pub(super) fn restart_sidecar(&mut self, cluster: &Key) {
        let Some(head) = self.clusters.get_mut(cluster).and_then(|cluster| cluster.head.as_mut()) else { return };
        let Some(before) = head.sidecar.take() else { return };
        let gcs = head.gcs.clone();
        self.count_sidecar(cluster, Some(before));
        self.log.note(self.clock.now_us(), "sidecar-dies", &cluster.to_string(), None);
        let sidecar = self.start_sidecar(cluster, &gcs, self.sidecars);
        if let Some(head) = self.clusters.get_mut(cluster).and_then(|cluster| cluster.head.as_mut()) {
            head.sidecar = sidecar;
        }
    }

    /// A sidecar is ended, and what it has asked for is counted.
    pub(super) fn count_sidecar(&mut self, cluster: &Key, sidecar: Option<SidecarProcess>) {
        let Some(SidecarProcess { connection, task, board, .. }) = sidecar else { return };
        self.keep_recording(cluster, &board);
        task.abort();
        measure::add(&mut self.measures.sidecar_requests, &connection.counts());
    }
}
