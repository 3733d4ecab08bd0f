//! The whole operator: watches, election, controller and Events, wired to one client.

use std::sync::Arc;

use kube::Client;
use tokio::{runtime::Handle, sync::watch};

use mobula_api::Compat;

use crate::{
    config::{Config, GangMode},
    frame::{
        controller::Controller,
        executor::{Executor, MOST_OF_ALL},
        lease::Election,
        metrics::Metrics,
        notices::{self, Dialect},
        pace::Pace,
        time::Clock,
        turns::Turns,
        watch as feed,
        world::{CAPACITY_SOURCES, World},
    },
    gangs::GangAdmission,
    raycluster::{self, RayClusters},
};

/// Objects that are worked on at once at least. KubeRay's `--reconcile-concurrency` bounds blocked goroutines; here nothing
/// blocks, and a bound keeps memory in check, and what has begun in front.
const LEAST_CONCURRENCY: u32 = 32;

/// How long Events that wait may take to be sent when it ends.
const POST_LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

/// What the operator is given of the outside world.
pub struct Surroundings {
    /// The way to the API server.
    pub client: Client,
    /// Where the Lease is renewed; `None`: where everything else is done.
    pub lease: Option<Beside>,
    /// The time.
    pub clock: Clock,
    /// Random bytes for tokens.
    pub random: Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
    /// Who we are, in the Lease: different for every process.
    pub identity: String,
    /// Namespace of the Lease; empty: the operator's own, which the caller must know.
    pub lease_namespace: String,
    /// The pod that we run in; empty if there is none.
    pub instance: String,
}

/// A runtime on another thread: however long a pass computes, what is done there is done in time.
pub struct Beside {
    /// The runtime.
    pub runtime: Handle,
    /// A way to the API server of its own: a client works on the runtime that it was made in.
    pub client: Client,
}

/// The operator, ready to be run.
pub struct Operator {
    /// Metrics of this process.
    pub metrics: Arc<Metrics>,
    /// What is watched.
    pub world: Arc<World>,
    config: Arc<Config>,
    surroundings: Surroundings,
    changes: tokio::sync::mpsc::UnboundedReceiver<crate::frame::world::Target>,
}

/// Why the operator has ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// Another one leads, or the Lease could not be renewed. What was begun has ended.
    LeadershipLost,
}

impl Operator {
    /// An operator that has done nothing yet.
    pub fn new(config: Config, surroundings: Surroundings) -> Self {
        let mut sources = raycluster::sources(&config);
        if config.gangs.mode != GangMode::Off {
            sources.extend(CAPACITY_SOURCES);
        }
        let (world, changes) = World::new(&sources, &config.watch_namespaces);
        Operator { metrics: Arc::default(), world, config: Arc::new(config), surroundings, changes }
    }

    /// Runs until `stop` is true or the leadership is lost. On `stop`, what is under way is ended, Events are sent, and the
    /// Lease is given up, in this order: whoever follows finds nothing half done.
    pub async fn run(self, stop: watch::Receiver<bool>) -> Ended {
        let Operator { metrics, world, config, surroundings, changes } = self;
        let Surroundings { client, lease, clock, random, identity, lease_namespace, instance } = surroundings;
        let feeds = Task(tokio::spawn(feed::run(client.clone(), world.clone())));
        let (give_up, given_up) = watch::channel(false);
        let (leads, mut election) = if config.process.leader_election {
            let beside = lease.unwrap_or_else(|| Beside { runtime: Handle::current(), client: client.clone() });
            let (election, leads) =
                Election::new(beside.client, clock.clone(), metrics.clone(), lease_namespace, identity);
            (leads, Task(beside.runtime.spawn(election.run(given_up))))
        } else {
            metrics.leads(true);
            let (keep, leads) = watch::channel(true);
            // Nobody ever takes it away.
            (leads, Task(tokio::spawn(async move { keep.closed().await })))
        };
        let dialect = if config.compat >= Compat::V1_7 { Dialect::Events } else { Dialect::Core };
        let turns = Turns::new(MOST_OF_ALL);
        let (outbox, postman) =
            notices::outbox(client.clone(), clock.clone(), dialect, instance, metrics.clone(), turns.clone());
        let mut post = Task(tokio::spawn(postman.run()));
        let pace = Pace::new(config.process.qps, config.process.burst);
        let executor = Executor::new(client, world.clone(), metrics.clone(), clock.clone(), turns, pace, leads.clone());
        let reconcilers: Vec<Arc<dyn crate::frame::controller::Reconciler>> = vec![
            Arc::new(RayClusters::new(config.clone(), random)),
            Arc::new(GangAdmission::new(config.clone(), metrics.clone())),
        ];
        let concurrency = config.process.concurrency.max(LEAST_CONCURRENCY) as usize;
        let controller = Controller::new(world, changes, executor, reconcilers, clock, metrics, outbox, concurrency);
        controller.run(leads.clone(), stop.clone()).await;
        if tokio::time::timeout(POST_LIMIT, &mut post.0).await.is_err() {
            tracing::warn!("stopped with Events that were not sent");
        }
        drop(feeds);
        let was_told = *stop.borrow();
        drop(leads);
        let _ = give_up.send(true);
        let _ = tokio::time::timeout(std::time::Duration::from_secs(5), &mut election.0).await;
        if was_told { Ended::Stopped } else { Ended::LeadershipLost }
    }
}

/// A task that ends with whoever has started it.
struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
