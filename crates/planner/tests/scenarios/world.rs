//! The snapshot that a script tells, and how it goes on from one plan to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use mobula_planner::{Amount, Labels, Node, NodePhase, NodeType, Plan, Resources, Snapshot, apply};

use super::script::{self, NodeLine, Script, State, Step};

/// Any time will do.
const START_MS: i64 = 1_760_000_000_000;

/// What is observed now.
pub struct World {
    pub snapshot: Snapshot,
    /// Names given so far, by group.
    named: BTreeMap<String, usize>,
}

impl World {
    /// The situation at the beginning.
    pub fn new(script: &Script) -> Result<World, String> {
        let mut snapshot = Snapshot { now_ms: START_MS, settings: script.settings.settings(), ..Snapshot::default() };
        snapshot.topology = script.topology.iter().map(script::LevelLine::level).collect();
        for line in &script.groups {
            snapshot.node_types.push(line.node_type()?);
        }
        let mut world = World { snapshot, named: BTreeMap::new() };
        for line in &script.nodes {
            world.add(line)?;
        }
        for group in &mut world.snapshot.node_types {
            let pods = world.snapshot.nodes.iter().filter(|node| is_live(node, &group.name)).count() as u32;
            group.requested_replicas = pods.div_ceil(group.num_of_hosts);
        }
        world.replace(
            Some(&script.hosts),
            Some(&script.quotas),
            Some(&script.tasks),
            Some(&script.gangs),
            Some(&script.request_resources),
        )?;
        Ok(world)
    }

    /// Seconds since the beginning.
    pub fn seconds(&self) -> i64 {
        (self.snapshot.now_ms - START_MS) / 1000
    }

    /// Carries a plan out, lets time pass, and what happens happen.
    pub fn go_on(&mut self, plan: &Plan, step: &Step) -> Result<(), String> {
        let before = self.snapshot.nodes.len();
        self.snapshot = apply(&self.snapshot, plan);
        self.name_launched(before.saturating_sub(plan.terminate.len()));
        self.snapshot.now_ms += step.after_s * 1000;
        for node in &mut self.snapshot.nodes {
            node.idle_ms = node.idle_ms.map(|idle_ms| idle_ms + step.after_s * 1000);
        }
        for line in &step.change {
            self.change(line)?;
        }
        for name in &step.lost {
            let at = self.snapshot.nodes.iter().position(|node| *node.instance_id == **name);
            self.snapshot.nodes.remove(at.ok_or_else(|| format!("no node {name} is there to be lost"))?);
        }
        self.ask_for_lost();
        let Step { hosts, quotas, tasks, gangs, request_resources, .. } = step;
        self.replace(hosts.as_ref(), quotas.as_ref(), tasks.as_ref(), gangs.as_ref(), request_resources.as_ref())
    }

    fn replace(
        &mut self,
        hosts: Option<&Vec<script::HostLine>>,
        quotas: Option<&Vec<script::QuotaLine>>,
        tasks: Option<&Vec<script::TaskLine>>,
        gangs: Option<&Vec<script::GangLine>>,
        constraints: Option<&Vec<Vec<script::TaskLine>>>,
    ) -> Result<(), String> {
        let snapshot = &mut self.snapshot;
        if let Some(hosts) = hosts {
            let hosts: Result<Vec<_>, _> = hosts.iter().map(script::HostLine::hosts).collect();
            snapshot.hosts = hosts?.into_iter().flatten().collect();
        }
        if let Some(quotas) = quotas {
            snapshot.quotas = quotas.iter().map(script::QuotaLine::quota).collect::<Result<_, _>>()?;
        }
        if let Some(tasks) = tasks {
            snapshot.demand = tasks.iter().map(script::TaskLine::class).collect::<Result<_, _>>()?;
        }
        if let Some(gangs) = gangs {
            snapshot.gangs = gangs.iter().map(|gang| gang.gang(snapshot.now_ms)).collect::<Result<_, _>>()?;
        }
        if let Some(constraints) = constraints {
            let constraints = constraints.iter().map(|lines| script::constraint(lines));
            snapshot.constraints = constraints.collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    fn group(&self, name: &str) -> Result<NodeType, String> {
        let group = self.snapshot.node_types.iter().find(|group| group.name == name);
        group.cloned().ok_or_else(|| format!("there is no group {name}"))
    }

    /// `gpu-1`, `gpu-2`, …
    fn name(&mut self, group: &str) -> (String, usize) {
        let number = self.named.entry(group.to_owned()).or_default();
        *number += 1;
        (format!("{group}-{number}"), *number)
    }

    fn add(&mut self, line: &NodeLine) -> Result<(), String> {
        let group = self.group(&line.group)?;
        for at in 0..line.count.unwrap_or(1) {
            let (instance_id, number) = self.name(&group.name);
            let mut node =
                Node { instance_id: instance_id.into(), group: group.name.as_str().into(), ..Node::default() };
            node.replica = replica(&group, number);
            node.labels = Arc::new(labels(&group, &line.labels));
            become_so(&mut node, &group, line, at, self.snapshot.now_ms)?;
            self.snapshot.nodes.push(node);
        }
        Ok(())
    }

    fn change(&mut self, line: &NodeLine) -> Result<(), String> {
        let group = self.group(&line.group)?;
        let is_meant = |node: &Node| {
            let is_named = line.names.as_ref().is_none_or(|names| names.iter().any(|name| **name == *node.instance_id));
            *node.group == *group.name && is_named && line.was.is_none_or(|was| is_so(node, was))
        };
        let meant = (0..self.snapshot.nodes.len()).filter(|at| is_meant(&self.snapshot.nodes[*at]));
        let meant: Vec<usize> = meant.take(line.count.unwrap_or(usize::MAX)).collect();
        if meant.len() < line.count.unwrap_or(1) {
            return Err(format!("there are not so many nodes of {} to be changed", group.name));
        }
        for (number, at) in meant.into_iter().enumerate() {
            if self.snapshot.nodes[at].phase == NodePhase::Requested && line.is != State::Requested {
                let (instance_id, pod) = self.name(&group.name);
                self.snapshot.nodes[at].instance_id = instance_id.into();
                self.snapshot.nodes[at].replica = replica(&group, pod);
            }
            let node = &mut self.snapshot.nodes[at];
            if !line.labels.is_empty() {
                node.labels = Arc::new(labels(&group, &line.labels));
            }
            become_so(node, &group, line, number, self.snapshot.now_ms)?;
        }
        Ok(())
    }

    /// Gives what was launched names that go on from those that are there.
    fn name_launched(&mut self, first: usize) {
        for at in first..self.snapshot.nodes.len() {
            let name = self.snapshot.nodes[at].group.clone();
            let (instance_id, number) = self.name(&name);
            let group = self.snapshot.node_types.iter().find(|group| *group.name == *name);
            self.snapshot.nodes[at].replica = group.and_then(|group| replica(group, number));
            self.snapshot.nodes[at].instance_id = instance_id.into();
        }
    }

    /// Pods that the RayCluster asks for, and that are not there.
    fn ask_for_lost(&mut self) {
        for group in &self.snapshot.node_types {
            let live = self.snapshot.nodes.iter().filter(|node| is_live(node, &group.name)).count();
            let wanted = (group.requested_replicas * group.num_of_hosts) as usize;
            for number in live..wanted {
                self.snapshot.nodes.push(Node {
                    instance_id: format!("{}/requested-{number}", group.name).into(),
                    group: group.name.as_str().into(),
                    phase: NodePhase::Requested,
                    total: group.resources.clone(),
                    available: group.resources.clone(),
                    labels: Arc::new(labels(group, &Labels::new())),
                    ..Node::default()
                });
            }
        }
    }
}

fn is_live(node: &Node, group: &str) -> bool {
    *node.group == *group && node.phase != NodePhase::Leaving
}

fn replica(group: &NodeType, number: usize) -> Option<String> {
    let hosts = group.num_of_hosts as usize;
    (hosts > 1).then(|| format!("{}-r{}", group.name, (number - 1) / hosts + 1))
}

fn labels(group: &NodeType, own: &Labels) -> Labels {
    let mut labels = group.facts.expected_labels.clone();
    labels.extend(group.labels.iter().chain(own).map(|(key, value)| (key.clone(), value.clone())));
    labels
}

fn is_so(node: &Node, state: State) -> bool {
    match state {
        State::Free => node.phase == NodePhase::Running && !node.available.is_empty(),
        State::Busy => node.phase == NodePhase::Running && node.available.is_empty(),
        State::Pending => node.phase == NodePhase::Pending,
        State::Requested => node.phase == NodePhase::Requested,
        State::Leaving => node.phase == NodePhase::Leaving,
        State::Stopped => node.phase == NodePhase::Stopped,
    }
}

/// Makes a node what a line says of it; it is the line's node number `at`.
fn become_so(node: &mut Node, group: &NodeType, line: &NodeLine, at: usize, now_ms: i64) -> Result<(), String> {
    let is_running = matches!(line.is, State::Free | State::Busy);
    node.phase = match line.is {
        State::Free | State::Busy => NodePhase::Running,
        State::Pending => NodePhase::Pending,
        State::Requested => NodePhase::Requested,
        State::Leaving => NodePhase::Leaving,
        State::Stopped => NodePhase::Stopped,
    };
    let used = script::resources(&line.used)?;
    node.ray_node_id = is_running.then(|| format!("ray-{}", node.instance_id));
    node.total = group.resources.clone();
    node.available = Arc::new(match line.is {
        State::Busy => Resources::new(),
        _ => without(&group.resources, &used),
    });
    let is_untouched = line.is == State::Free && used.is_empty() && line.gangs.is_empty();
    node.idle_ms = line.idle_s.or(is_untouched.then_some(0)).filter(|_| is_running).map(|seconds| seconds * 1000);
    node.pending_since_ms = (line.is == State::Pending).then(|| now_ms - line.pending_s * 1000);
    node.pending_cause = line.cause;
    node.dynamic_labels = Arc::new(line.gangs.iter().map(|id| (format!("_PG_{id}"), String::new())).collect());
    node.host = line.on.get(at).cloned().or(node.host.take());
    Ok(())
}

fn without(total: &Resources, used: &Resources) -> Resources {
    let left = |name: &String, amount: Amount| {
        let used = used.get(name).copied().unwrap_or_default();
        Amount::from_steps(amount.steps() - used.steps())
    };
    total.iter().map(|(name, amount)| (name.clone(), left(name, *amount))).collect()
}
