//! Ray as the autoscaler sees it: one runtime a RayCluster. Nodes, tasks, actors, placement groups, and the picture of them
//! that the GCS gives.
//!
//! Assumptions:
//! - Drivers live outside of the head. While there is no head, work waits; what ran when the head was lost is run again.
//! - A task takes its resources from when it starts until it ends; Ray's own overhead a task is not modelled.
//! - Work waits in order of arrival within its class (equal needs and labels); classes do not wait for each other.
//! - The names that a placed group adds to the resources of its nodes (`CPU_group_…`) are left out: nobody plans with them.
//! - The object store is not modelled; a node can be told to hold objects for a time (`holds`), which keeps it from idling.

mod drain;
mod gcs;
mod groups;
mod nodes;
mod retry;
mod shown;
mod tasks;
mod view;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mobula_gcs::NodeState;
use mobula_planner::{Labels, Resources};

pub use drain::Left;
pub use gcs::{GcsFault, Head, HeadIdentity};
pub use groups::{Group, GroupWork};
pub use nodes::{Joining, RayNode};
pub use tasks::{Task, TaskWork};

use retry::{Ticks, Trigger};
use shown::Shown;
use view::View;

/// Number of a class of tasks.
type ClassId = usize;
/// Number of a node, in order of joining.
pub type NodeNumber = u64;

/// What makes tasks one class.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needs {
    /// Resources.
    pub resources: Resources,
    /// Labels that the node must have.
    pub labels: Labels,
}

/// Something that began or ended, for those who count.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A task or actor started.
    TaskStarted {
        /// After so long, in µs.
        waited_us: u64,
    },
    /// All bundles of a group are placed.
    GangPlaced {
        /// After so long, in µs.
        waited_us: u64,
    },
    /// A task ended as planned.
    TaskDone,
    /// The work of a group ended as planned.
    GangDone,
    /// Running work was lost and waits again.
    Disrupted,
}

/// The Ray of one RayCluster.
pub struct Runtime {
    nodes: BTreeMap<NodeNumber, RayNode>,
    /// The last that have died, as the GCS shows them.
    dead: Arc<Vec<Arc<NodeState>>>,
    /// The living, as the GCS has shown them last.
    shown: BTreeMap<NodeNumber, Shown>,
    by_pod: BTreeMap<String, NodeNumber>,
    next_node: NodeNumber,
    classes: Vec<Needs>,
    class_ids: BTreeMap<Needs, ClassId>,
    waiting: BTreeMap<ClassId, VecDeque<Task>>,
    running: BTreeMap<u64, tasks::Running>,
    ends: BTreeSet<(u64, u64)>,
    groups: BTreeMap<u64, Group>,
    /// Groups that are not (wholly) placed.
    unplaced: BTreeSet<u64>,
    group_ends: BTreeSet<(u64, u64)>,
    /// When the GCS goes through groups that are not placed, and which it then tries.
    ticks: Ticks,
    group_tries: BTreeSet<(u64, u64)>,
    holds: BTreeSet<(u64, NodeNumber)>,
    next_work: u64,
    /// `request_resources`.
    constraint: Option<Vec<(Needs, i64)>>,
    view: View,
    /// Whether anything may have changed since the GCS's picture was made.
    has_changed: bool,
    notices: Vec<Notice>,
    left: Vec<Left>,
    has_head: bool,
}

impl Runtime {
    /// Nothing runs yet. The GCS polls raylets every `poll_us`, first at `phase_us`.
    pub fn new(poll_us: u64, phase_us: u64) -> Runtime {
        Runtime {
            nodes: BTreeMap::new(),
            dead: Arc::default(),
            shown: BTreeMap::new(),
            by_pod: BTreeMap::new(),
            next_node: 0,
            classes: Vec::new(),
            class_ids: BTreeMap::new(),
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            ends: BTreeSet::new(),
            groups: BTreeMap::new(),
            unplaced: BTreeSet::new(),
            group_ends: BTreeSet::new(),
            ticks: Ticks::since(0),
            group_tries: BTreeSet::new(),
            holds: BTreeSet::new(),
            next_work: 0,
            constraint: None,
            view: View::new(poll_us, phase_us),
            has_changed: true,
            notices: Vec::new(),
            left: Vec::new(),
            has_head: false,
        }
    }

    /// Everything that is due by `now_us` ends, and what can start does.
    pub fn advance(&mut self, now_us: u64) {
        if self.next_end().is_none_or(|end_us| end_us > now_us) {
            return;
        }
        self.before_change(now_us);
        let mut trigger = None;
        while let Some(&(end_us, id)) = self.ends.first().filter(|(end_us, _)| *end_us <= now_us) {
            self.ends.remove(&(end_us, id));
            self.end_task(id, end_us);
            trigger = Some(Trigger::Tick);
        }
        while let Some(&(end_us, number)) = self.holds.first().filter(|(end_us, _)| *end_us <= now_us) {
            self.holds.remove(&(end_us, number));
            self.release(number, end_us);
            trigger = Some(Trigger::Tick);
        }
        while let Some(&(end_us, id)) = self.group_ends.first().filter(|(end_us, _)| *end_us <= now_us) {
            self.group_ends.remove(&(end_us, id));
            self.end_group(id, end_us);
            trigger = Some(Trigger::Event);
        }
        self.tick(now_us);
        if let Some(trigger) = trigger {
            self.schedule(now_us, trigger);
        }
    }

    /// When something ends next, or is tried, in µs.
    pub fn next_end(&self) -> Option<u64> {
        let firsts = [self.ends.first(), self.group_ends.first(), self.group_tries.first(), self.holds.first()];
        firsts.into_iter().flatten().map(|(end_us, _)| *end_us).min()
    }

    /// What can start does.
    fn schedule(&mut self, now_us: u64, trigger: Trigger) {
        if !self.has_head {
            return;
        }
        self.before_change(now_us);
        self.place_groups(now_us, trigger);
        self.start_tasks(now_us);
    }

    /// Sets what `request_resources` asks for.
    pub fn request_resources(&mut self, requests: Vec<(Needs, i64)>) {
        self.constraint = Some(requests);
    }

    /// What has begun and ended since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Tasks and actors that wait.
    pub fn waiting_tasks(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// Groups that are not (wholly) placed.
    pub fn waiting_groups(&self) -> usize {
        self.unplaced.len()
    }

    /// When the work that waits arrived, in µs: tasks, then groups.
    pub fn waiting_since_us(&self) -> (Vec<u64>, Vec<u64>) {
        let tasks = self.waiting.values().flatten().map(|task| task.arrived_us).collect();
        let groups = self.unplaced.iter().filter_map(|id| Some(self.groups.get(id)?.arrived_us)).collect();
        (tasks, groups)
    }

    /// How much of a resource is in use.
    pub fn used(&self, resource: &str) -> f64 {
        let used = self.nodes.values().map(|node| node.used(resource).as_f64());
        used.sum()
    }

    fn class(&mut self, needs: &Needs) -> ClassId {
        if let Some(id) = self.class_ids.get(needs) {
            return *id;
        }
        let id = self.classes.len();
        self.classes.push(needs.clone());
        self.class_ids.insert(needs.clone(), id);
        id
    }

    /// Must be called before anything changes: what the GCS saw at its last poll is what was there until now.
    fn before_change(&mut self, now_us: u64) {
        self.see(now_us);
        self.has_changed = true;
    }

    /// The GCS's picture, as it is now.
    fn see(&mut self, now_us: u64) {
        if !self.view.is_due(now_us) {
            return;
        }
        if std::mem::take(&mut self.has_changed) {
            self.view.refresh(now_us, &self.waiting, &self.nodes);
        } else {
            self.view.stays(now_us);
        }
    }
}
