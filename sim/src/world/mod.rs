//! The world around the code under test: one value, one queue of events, one task. Whatever changes in the API server or in Ray
//! comes in as news; whatever is due is done; then time goes on.

mod affinity;
mod answers;
mod check;
mod faults;
mod kubelet;
mod node;
mod objects;
mod operator;
mod placing;
mod pod;
mod provisioner;
mod quota;
mod raynodes;
mod scheduler;
mod sidecar;
mod stranded;
mod terms;
mod work;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use mobula_apiserver::ApiServer;
use mobula_planner::Resources;
use mobula_traces::Seeded;

use crate::chance::stream;
use crate::clock::{VirtualClock, WallClock};
use crate::inbox::{Inbox, News};
use crate::log::EventLog;
use crate::measure::Measures;
use crate::network::Outage;
use crate::queue::Queue;
use crate::scenario::Scenario;
use crate::vigil::Vigil;

pub use answers::{Answers, Wishes};
pub use node::{KubeNode, capacity};
pub use objects::{Change, observe};
pub use pod::{Pod, Stage};
pub use sidecar::SidecarPlan;

use provisioner::PoolState;
use raynodes::Cluster;

/// Namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A process of the code under test, in one of its lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Process {
    /// The operator of this number.
    Operator(u64),
    /// The sidecar of this cluster and number.
    Sidecar(Key, u64),
}

/// What is to happen in the world.
#[derive(Debug)]
enum Event {
    /// The scheduler looks at pods that wait.
    Schedule,
    /// A pod goes on.
    Pod { key: Key, uid: String, step: Step },
    /// Work in a cluster ends.
    Ray(Key),
    /// A step of the workload comes.
    Work { index: usize, number: u64 },
    /// The job of this number comes.
    Job(usize),
    /// The provisioner looks around.
    Scan,
    /// A node that was ordered is there, or could not be had.
    Delivered { pool: usize, index: u32 },
    /// A spot node is taken away.
    Reclaimed { node: String, since_us: u64 },
    /// The garbage collector goes round.
    Collect,
    /// A row of the series is due.
    Sample,
    /// What sidecars think now is kept.
    Explain,
    /// A process is killed.
    Dies(Process),
    /// Something goes wrong.
    Fault { index: usize, number: u64 },
    /// Something is right again.
    FaultEnds(faults::Lasting),
}

/// Whether a run goes on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    GoOn,
    /// It has shown what there is to see.
    End,
}

/// How a pod goes on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Its images are there.
    Pulled,
    /// Its init containers have ended.
    Initialised,
    /// Its Ray node registers.
    Register,
    /// Its containers are started again.
    Restart,
    /// The health check has given up on its Ray node.
    Bury,
    /// The readiness probe has failed for long enough since its raylet has left.
    Unready,
    /// The liveness probe has.
    Kill,
    /// It has ended after its deletion.
    Finish,
}

/// Everything but the code under test.
pub struct World {
    /// What is simulated.
    pub scenario: Arc<Scenario>,
    /// Namespace and name of each RayCluster that it has.
    cluster_names: BTreeSet<(String, String)>,
    /// The API server.
    pub server: ApiServer,
    /// The time.
    pub clock: VirtualClock,
    /// What has happened.
    pub log: EventLog,
    /// What is counted.
    pub measures: Measures,
    /// News for the world.
    pub inbox: Inbox,
    /// Who looks on, in a soak.
    pub vigil: Vigil,
    seed: u64,
    sidecar_plan: SidecarPlan,
    queue: Queue<Event>,
    nodes: BTreeMap<String, KubeNode>,
    pods: BTreeMap<Key, Pod>,
    waiting: BTreeSet<(std::cmp::Reverse<i64>, u64, Key)>,
    clusters: BTreeMap<Key, Cluster>,
    pools: Vec<PoolState>,
    priorities: BTreeMap<String, (i64, bool)>,
    next_pod: u64,
    next_ip: u32,
    is_scheduling_planned: bool,
    is_scan_planned: bool,
    is_collection_planned: bool,
    steps_chance: Vec<Seeded>,
    operator: Option<operator::OperatorProcess>,
    operators: u64,
    sidecars: u64,
    outage: Outage,
    /// The clock of operator and sidecars.
    wall: WallClock,
    has_no_stock: bool,
    pulls_slowly: bool,
    /// What pods that ask for GPUs have asked for.
    gpu_shapes: BTreeSet<Resources>,
    wishes: Wishes,
    answers: Answers,
}

impl World {
    /// A world in which nothing has happened yet. Call it inside the run's runtime.
    pub fn new(
        scenario: Arc<Scenario>,
        seed: u64,
        server: ApiServer,
        clock: VirtualClock,
        log: EventLog,
        sidecar_plan: SidecarPlan,
    ) -> World {
        let inbox = Inbox::default();
        observe(&server, &inbox, &log, clock);
        let steps_chance = (0..scenario.work.len()).map(|index| stream(seed, "work", &index.to_string())).collect();
        World {
            pools: vec![PoolState::default(); scenario.nodes.len()],
            cluster_names: scenario.clusters(),
            scenario,
            server,
            clock,
            log,
            measures: Measures::default(),
            inbox,
            vigil: Vigil::default(),
            seed,
            sidecar_plan,
            queue: Queue::default(),
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            waiting: BTreeSet::new(),
            clusters: BTreeMap::new(),
            priorities: BTreeMap::new(),
            next_pod: 0,
            next_ip: 0,
            is_scheduling_planned: false,
            is_scan_planned: false,
            is_collection_planned: false,
            steps_chance,
            operator: None,
            operators: 0,
            sidecars: 0,
            outage: Outage::default(),
            wall: WallClock::new(clock),
            has_no_stock: false,
            pulls_slowly: false,
            gpu_shapes: BTreeSet::new(),
            wishes: Wishes::default(),
            answers: Answers::default(),
        }
    }

    /// Sets everything up that is there from the beginning.
    ///
    /// # Errors
    /// If the API server refuses an object.
    pub fn begin(&mut self) -> Result<(), String> {
        self.start_operator();
        self.begin_nodes();
        self.begin_objects()?;
        self.begin_work();
        self.begin_faults();
        self.settle();
        Ok(())
    }

    /// Goes on until `until_us`, or until `look` says that it is enough.
    ///
    /// # Errors
    /// What `look` says.
    pub async fn run<E>(&mut self, until_us: u64, mut look: impl FnMut(&World) -> Result<Flow, E>) -> Result<(), E> {
        loop {
            self.settle();
            if look(self)? == Flow::End || self.clock.now_us() >= until_us {
                return Ok(());
            }
            let next_us = self.queue.next_us().unwrap_or(u64::MAX).min(until_us);
            tokio::select! {
                biased;
                () = self.inbox.ring() => {}
                () = tokio::time::sleep_until(self.clock.instant(next_us)) => {}
            }
        }
    }

    /// Does everything that is to be done now.
    fn settle(&mut self) {
        loop {
            for news in self.inbox.take() {
                self.hear(news);
            }
            let Some(event) = self.queue.pop_due(self.clock.now_us()) else {
                if self.inbox.is_empty() {
                    return;
                }
                continue;
            };
            self.act(event);
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Changed(change) => self.object_changed(change),
            News::Dies { process, after } => {
                self.queue.push(self.clock.now_us().saturating_add(after.as_us()), Event::Dies(process));
            }
            News::Left { cluster, pod } => self.ray_left(&cluster, &pod),
            News::RayChanged(cluster) => self.ray_changed(&cluster),
        }
    }

    fn act(&mut self, event: Event) {
        match event {
            Event::Schedule => self.schedule(),
            Event::Pod { key, uid, step } => {
                if self.pods.get(&key).is_some_and(|pod| pod.uid == uid) {
                    self.step(&key, step);
                }
            }
            Event::Ray(cluster) => self.ray_due(&cluster),
            Event::Work { index, number } => self.work_comes(index, number),
            Event::Job(number) => self.job_comes(number),
            Event::Scan => self.scan(),
            Event::Delivered { pool, index } => self.delivered(pool, index),
            Event::Reclaimed { node, since_us } => self.reclaimed(&node, since_us),
            Event::Collect => {
                self.is_collection_planned = false;
                self.vigil.by_world(|| self.server.settle());
            }
            Event::Sample => self.sample(),
            Event::Explain => self.explain(),
            Event::Dies(process) => self.kill(&process),
            Event::Fault { index, number } => self.fault_comes(index, number),
            Event::FaultEnds(lasting) => self.fault_ends(lasting),
        }
    }

    /// The generator for one thing of this run.
    fn chance(&self, purpose: &str, thing: &str) -> Seeded {
        stream(self.seed, purpose, thing)
    }
}
