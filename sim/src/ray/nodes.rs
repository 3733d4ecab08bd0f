//! Ray nodes.
//!
//! Assumptions: a node is idle from when nothing runs on it, no bundle is on it and it holds no object. One that says goodbye is
//! dead at once; one that does not is called dead after the health check (`ray.death-after`), and till then nothing new
//! starts on it.

use std::sync::Arc;

use mobula_planner::{Amount, Labels, Resources};

use super::retry::{Retry, Ticks, Trigger};
use super::shown::dead_state;
use super::{NodeNumber, Notice, Runtime};

/// Resource that only the head has.
pub(super) const HEAD_RESOURCE: &str = "node:__internal_head__";
/// Dead nodes that the GCS goes on showing.
const MOST_DEAD: usize = 1000;

/// A node that is alive, draining or unreachable.
#[derive(Clone, Debug)]
pub struct RayNode {
    /// 56 hex digits.
    pub id: String,
    /// Pod name.
    pub pod: String,
    /// Group name.
    pub group: String,
    /// Address.
    pub ip: String,
    /// Everything it has.
    pub total: Arc<Resources>,
    /// What of it is free: another value after each change.
    pub free: Arc<Resources>,
    /// Labels.
    pub labels: Labels,
    /// Whether it is the head.
    pub is_head: bool,
    /// It has accepted a drain and takes nothing new.
    pub draining: bool,
    /// It no longer answers, and the GCS does not know yet.
    pub unreachable: bool,
    /// Since when nothing has used it, in µs.
    pub idle_since_us: Option<u64>,
    /// Its first worker processes run from then on, in µs.
    pub workers_from_us: u64,
    pub(super) uses: u32,
}

/// A node that registers.
#[derive(Clone, Debug, Default)]
pub struct Joining {
    /// 56 hex digits.
    pub id: String,
    /// Pod name.
    pub pod: String,
    /// Group name.
    pub group: String,
    /// Address.
    pub ip: String,
    /// What it has.
    pub total: Resources,
    /// Labels.
    pub labels: Labels,
    /// Whether it is the head.
    pub is_head: bool,
    /// Its first worker processes run from then on, in µs.
    pub workers_from_us: u64,
}

impl RayNode {
    /// Whether this fits into what is free, labels and all.
    pub(super) fn takes(&self, needs: &Resources, labels: &Labels) -> bool {
        !self.draining
            && !self.unreachable
            && fits(&self.free, needs)
            && labels.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }

    pub(super) fn used(&self, resource: &str) -> Amount {
        let of = |resources: &Resources| resources.get(resource).map_or(0, |amount| amount.steps());
        Amount::from_steps(of(&self.total) - of(&self.free))
    }

    pub(super) fn has_gpu(&self) -> bool {
        self.total.get("GPU").is_some_and(|amount| amount.steps() > 0)
    }

    /// The largest used share of CPU and memory, as Ray's hybrid policy looks at it.
    pub(super) fn critical_use(&self) -> f64 {
        let share = |name: &str| match self.total.get(name) {
            Some(total) if total.steps() > 0 => self.used(name).as_f64() / total.as_f64(),
            _ => 0.0,
        };
        share("CPU").max(share("memory"))
    }

    pub(super) fn take(&mut self, needs: &Resources) {
        for (name, amount) in needs {
            if let Some(free) = Arc::make_mut(&mut self.free).get_mut(name) {
                *free = Amount::from_steps(free.steps() - amount.steps());
            }
        }
        self.uses += 1;
        self.idle_since_us = None;
    }

    pub(super) fn give_back(&mut self, needs: &Resources, at_us: u64) {
        for (name, amount) in needs {
            if let Some(free) = Arc::make_mut(&mut self.free).get_mut(name) {
                *free = Amount::from_steps(free.steps() + amount.steps());
            }
        }
        self.end_use(at_us);
    }

    pub(super) fn end_use(&mut self, at_us: u64) {
        self.uses = self.uses.saturating_sub(1);
        if self.uses == 0 {
            self.idle_since_us = Some(at_us);
        }
    }
}

/// Whether so much is free.
pub(super) fn fits(free: &Resources, needs: &Resources) -> bool {
    needs.iter().all(|(name, amount)| free.get(name).is_some_and(|free| free >= amount))
}

impl Runtime {
    /// A node registers.
    pub fn join(&mut self, now_us: u64, joining: Joining) {
        self.before_change(now_us);
        if let Some(old) = self.by_pod.get(&joining.pod).copied() {
            self.bury(now_us, old);
        }
        let Joining { id, pod, group, ip, mut total, labels, is_head, workers_from_us } = joining;
        total.insert(format!("node:{ip}"), Amount::from_units(1));
        if is_head {
            total.insert(HEAD_RESOURCE.to_owned(), Amount::from_units(1));
            self.has_head = true;
            self.ticks = Ticks::since(now_us);
        }
        let number = self.next_node;
        self.next_node += 1;
        self.by_pod.insert(pod.clone(), number);
        let total = Arc::new(total);
        let node = RayNode {
            id,
            pod,
            group,
            ip,
            free: Arc::clone(&total),
            total,
            labels,
            is_head,
            draining: false,
            unreachable: false,
            idle_since_us: Some(now_us),
            workers_from_us,
            uses: 0,
        };
        self.nodes.insert(number, node);
        for group in self.groups.values_mut() {
            // A new head knows nothing of tries before it.
            if is_head { group.retry = Retry::fresh(now_us) } else { group.retry.node_has_come(now_us) }
        }
        self.schedule(now_us, Trigger::Event);
    }

    /// The raylet in this pod has ended. `says_goodbye`: the GCS knows at once; else somebody must call [`Runtime::bury_pod`]
    /// when the health check has given up. What ran there is lost in either case.
    pub fn lose(&mut self, now_us: u64, pod: &str, says_goodbye: bool) {
        let Some(number) = self.by_pod.get(pod).copied() else { return };
        self.before_change(now_us);
        if says_goodbye {
            self.bury(now_us, number);
        } else {
            if let Some(node) = self.nodes.get_mut(&number) {
                node.unreachable = true;
            }
            self.disrupt(now_us, number);
        }
        self.schedule(now_us, Trigger::Tick);
    }

    /// The health check has given up on the raylet in this pod, if it is still the one that was lost.
    pub fn bury_pod(&mut self, now_us: u64, pod: &str) {
        let Some(number) = self.by_pod.get(pod).copied() else { return };
        if self.nodes.get(&number).is_some_and(|node| node.unreachable) {
            self.before_change(now_us);
            self.bury(now_us, number);
            self.schedule(now_us, Trigger::Tick);
        }
    }

    /// The head is gone, and all nodes with it: everything that ran waits again.
    pub fn lose_head_at(&mut self, now_us: u64) {
        self.before_change(now_us);
        let numbers: Vec<NodeNumber> = self.nodes.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.bury(now_us, number));
        self.dead = Arc::default();
        self.has_head = false;
        self.constraint = None;
    }

    /// The head is gone, and what it knows is kept elsewhere: the other nodes go on with what they run.
    pub fn lose_head_only(&mut self, now_us: u64, pod: &str) {
        self.before_change(now_us);
        if let Some(number) = self.by_pod.get(pod).copied() {
            self.bury(now_us, number);
        }
        self.has_head = false;
        self.constraint = None;
    }

    /// Whether the pod runs a node.
    pub fn has_node(&self, pod: &str) -> bool {
        self.by_pod.get(pod).and_then(|number| self.nodes.get(number)).is_some_and(|node| !node.unreachable)
    }

    /// How many nodes are alive.
    pub fn living(&self) -> usize {
        self.nodes.values().filter(|node| !node.unreachable).count()
    }

    /// The node is dead to the GCS.
    pub(super) fn bury(&mut self, now_us: u64, number: NodeNumber) {
        self.disrupt(now_us, number);
        let Some(node) = self.nodes.remove(&number) else { return };
        self.holds.retain(|(_, of)| *of != number);
        if self.by_pod.get(&node.pod) == Some(&number) {
            self.by_pod.remove(&node.pod);
        }
        self.shown.remove(&number);
        let dead = Arc::make_mut(&mut self.dead);
        if dead.len() == MOST_DEAD {
            dead.remove(0);
        }
        dead.push(Arc::new(dead_state(node)));
    }

    /// What ran on the node waits again.
    fn disrupt(&mut self, now_us: u64, number: NodeNumber) {
        let lost: Vec<u64> =
            self.running.iter().filter(|(_, running)| running.node == number).map(|(id, _)| *id).collect();
        for id in lost {
            self.requeue(id);
            self.notices.push(Notice::Disrupted);
        }
        self.lose_bundles(now_us, number);
        if let Some(node) = self.nodes.get_mut(&number) {
            node.uses = 0;
            node.free = Arc::clone(&node.total);
        }
    }

    /// The node holds no objects any more.
    pub(super) fn release(&mut self, number: NodeNumber, at_us: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.end_use(at_us);
        }
        self.leave_if_drained(number, at_us);
    }
}
