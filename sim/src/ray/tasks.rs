//! Tasks and actors, placed as Ray's hybrid policy does.
//!
//! Assumptions: among nodes with room, those whose CPU and memory are used to less than half count as equal and the first that
//! joined is taken (Ray draws one of the best few); beyond that the least used. Requests without GPU avoid nodes with GPUs
//! where they can. An actor is a task that may never end. A node starts a worker process for each of its CPUs when it joins: what is placed on it
//! before these are there begins when they are. Beyond that the start of a process takes no time.

use super::retry::Trigger;
use super::{ClassId, Needs, NodeNumber, Notice, RayNode, Runtime};

/// Use below which nodes count as equal (Ray's `scheduler_spread_threshold`).
const SPREAD_THRESHOLD: f64 = 0.5;

/// Tasks that are submitted together.
#[derive(Clone, Debug)]
pub struct TaskWork {
    /// What each needs.
    pub needs: Needs,
    /// How long each runs, in µs; `None`: for ever.
    pub durations_us: Vec<Option<u64>>,
    /// How long the node holds objects afterwards, in µs.
    pub holds_us: Option<u64>,
}

/// A task that waits.
#[derive(Clone, Debug)]
pub struct Task {
    /// When it was submitted, in µs.
    pub arrived_us: u64,
    pub(super) id: u64,
    pub(super) duration_us: Option<u64>,
    pub(super) holds_us: Option<u64>,
    /// It has run before and was lost.
    pub(super) was_lost: bool,
}

/// A task that runs.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub task: Task,
    pub class: ClassId,
    pub node: NodeNumber,
    pub end_us: Option<u64>,
}

impl Runtime {
    /// Tasks are submitted.
    pub fn submit(&mut self, now_us: u64, work: TaskWork) {
        self.before_change(now_us);
        let class = self.class(&work.needs);
        let queue = self.waiting.entry(class).or_default();
        for duration_us in work.durations_us {
            let id = self.next_work;
            self.next_work += 1;
            queue.push_back(Task { arrived_us: now_us, id, duration_us, holds_us: work.holds_us, was_lost: false });
        }
        self.schedule(now_us, Trigger::Tick);
    }

    pub(super) fn start_tasks(&mut self, now_us: u64) {
        let classes: Vec<ClassId> =
            self.waiting.iter().filter(|(_, queue)| !queue.is_empty()).map(|(class, _)| *class).collect();
        for class in classes {
            let needs = self.classes[class].clone();
            while let Some(number) = self.node_for(&needs) {
                let Some(task) = self.waiting.get_mut(&class).and_then(std::collections::VecDeque::pop_front) else {
                    break;
                };
                self.start(now_us, class, &needs, number, task);
            }
        }
    }

    fn start(&mut self, now_us: u64, class: ClassId, needs: &Needs, number: NodeNumber, task: Task) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        node.take(&needs.resources);
        let begins_us = now_us.max(node.workers_from_us);
        if !task.was_lost {
            self.notices.push(Notice::TaskStarted { waited_us: begins_us.saturating_sub(task.arrived_us) });
        }
        let end_us = task.duration_us.map(|duration_us| begins_us.saturating_add(duration_us.max(1)));
        let id = task.id;
        if let Some(end_us) = end_us {
            self.ends.insert((end_us, id));
        }
        self.running.insert(id, Running { task, class, node: number, end_us });
    }

    /// Where one more of these may start.
    fn node_for(&self, needs: &Needs) -> Option<NodeNumber> {
        let asks_gpu = needs.resources.contains_key("GPU");
        let best = |with_gpu: bool| {
            let mut best: Option<(f64, NodeNumber)> = None;
            let candidates = self.nodes.iter().filter(|(_, node)| {
                (asks_gpu || node.has_gpu() == with_gpu) && node.takes(&needs.resources, &needs.labels)
            });
            for (number, node) in candidates {
                let score = score(node);
                if score <= 0.0 {
                    return Some(*number);
                }
                if best.is_none_or(|(least, _)| score < least) {
                    best = Some((score, *number));
                }
            }
            best.map(|(_, number)| number)
        };
        best(false).or_else(|| if asks_gpu { None } else { best(true) })
    }

    pub(super) fn end_task(&mut self, id: u64, at_us: u64) {
        let Some(running) = self.running.remove(&id) else { return };
        self.notices.push(Notice::TaskDone);
        let Some(node) = self.nodes.get_mut(&running.node) else { return };
        if let Some(holds_us) = running.task.holds_us.filter(|holds_us| *holds_us > 0) {
            node.uses += 1;
            self.holds.insert((at_us.saturating_add(holds_us), running.node));
        }
        node.give_back(&self.classes[running.class].resources, at_us);
        self.leave_if_drained(running.node, at_us);
    }

    /// A running task was lost: it waits again, before those that came later.
    pub(super) fn requeue(&mut self, id: u64) {
        let Some(running) = self.running.remove(&id) else { return };
        if let Some(end_us) = running.end_us {
            self.ends.remove(&(end_us, id));
        }
        let queue = self.waiting.entry(running.class).or_default();
        let place = queue.partition_point(|waiting| waiting.id < id);
        queue.insert(place, Task { was_lost: true, ..running.task });
    }
}

fn score(node: &RayNode) -> f64 {
    let used = node.critical_use();
    if used < SPREAD_THRESHOLD { 0.0 } else { used }
}
