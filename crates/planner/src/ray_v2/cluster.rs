//! The cluster as Ray's scheduler sees it while it makes up its mind.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::availability::standings;
use super::budget::Budget;
use super::fill::{ScoreEntry, Standing};
use super::state::{Fill, Ledger, NodeSpec, StateId, States};
use super::tables::{Run, Tables};
use crate::{Memory, NodePhase, NodeType, Resources, Snapshot, TerminateCause};

/// Number of a node within the cluster.
pub(super) type NodeId = u32;

/// What the scheduler works on.
#[derive(Clone)]
pub(super) struct Input<'a> {
    pub snapshot: &'a Snapshot,
    pub memory: &'a Memory,
    /// Positions in `snapshot.nodes` that are given up already: neither capacity nor target.
    pub given_up: &'a [bool],
    /// Pods of each node type that are launched in any case.
    pub launch_anyway: Vec<u32>,
    /// Entry of the comparison to ignore.
    pub leave_out: Option<ScoreEntry>,
}

/// A node type with its numbers in pods.
pub(super) struct Group<'a> {
    pub spec: &'a NodeType,
    /// Pods in a replica.
    pub hosts: u32,
    /// Fewest pods.
    pub min: u64,
    /// Most pods.
    pub max: u64,
    pub standing: Standing,
    /// State of a pod that is on its way.
    pub fresh: StateId,
    /// State of a pod that is yet to be launched for somebody: as large as it can be resized.
    pub launched: StateId,
}

impl Group<'_> {
    /// Fewest replicas.
    pub fn floor(&self) -> u32 {
        (self.min / u64::from(self.hosts)) as u32
    }
}

/// What is to become of a node.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is there, or on its way, and stays.
    Stay,
    /// It is to be launched.
    Launch,
    /// It should be launched, but not yet.
    HoldBack,
    /// It is to end.
    End(TerminateCause),
}

/// Resizing of a node, as far as the scheduler looks at it.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) enum Resizing {
    No,
    /// It may grow to this CPU and memory.
    Possible(f64, f64),
    /// It is going to have this CPU and memory.
    UnderWay(f64, f64),
    /// This plan asks for this CPU and memory.
    Asked(f64, f64),
}

/// Who wants something of a node.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wants {
    Constraint = 0,
    Gang = 1,
    Task = 2,
}

/// What one choice placed on a node: runs and the answer that indexes them.
#[derive(Clone)]
pub(super) struct Placement {
    pub wants: Wants,
    pub runs: Rc<[Run]>,
    pub fill: Rc<Fill>,
}

/// A node.
#[derive(Clone)]
pub(super) struct Node {
    /// Position in the snapshot; `None`: to be launched.
    pub observed: Option<u32>,
    /// Its node type; `None`: nobody's, it is never touched.
    pub group: Option<u16>,
    pub phase: NodePhase,
    pub state: StateId,
    pub fate: Fate,
    /// The head, or a node that we don't manage.
    pub exempt: bool,
    pub idle_ms: i64,
    pub resizing: Resizing,
    pub placements: Vec<Placement>,
}

/// The cluster.
pub(super) struct Cluster<'a> {
    pub input: Input<'a>,
    pub states: States<'a>,
    pub groups: Vec<Group<'a>>,
    pub nodes: Vec<Node>,
    /// The nodes in the order that decides between equals.
    pub order: Vec<NodeId>,
    /// What may still be launched.
    pub budget: Budget,
    pub any_resize: bool,
}

impl<'a> Cluster<'a> {
    pub fn new(input: Input<'a>, tables: &'a Tables<'a>) -> Self {
        let snapshot = input.snapshot;
        let mut states = States::new(tables, snapshot.settings.conserve_gpu_nodes);
        let standings = standings(snapshot, input.memory);
        let groups: Vec<Group<'a>> = (0..)
            .zip(&snapshot.node_types)
            .map(|(at, spec)| group(&mut states, at, spec, standings.get(&spec.name)))
            .collect();
        let (nodes, order, budget) = (Vec::new(), Vec::new(), Budget::new(groups.len()));
        let mut cluster = Cluster { input, states, groups, nodes, order, budget, any_resize: false };
        let by_name: BTreeMap<&str, u16> =
            (0..).zip(&snapshot.node_types).map(|(at, spec)| (spec.name.as_str(), at)).collect();
        for (at, node) in (0_u32..).zip(&snapshot.nodes) {
            if cluster.input.given_up.get(at as usize) != Some(&true) {
                let group = by_name.get(&*node.group).copied();
                cluster.observe(at, node, group);
            }
        }
        cluster.order = (0..cluster.nodes.len() as NodeId).collect();
        cluster
    }

    fn observe(&mut self, at: u32, node: &'a crate::Node, group: Option<u16>) {
        let snapshot = self.input.snapshot;
        let spec = group.and_then(|group| self.groups.get(usize::from(group)));
        if matches!(node.phase, NodePhase::Leaving | NodePhase::Stopped) || spec.is_some_and(|g| g.spec.suspended) {
            return;
        }
        let running = node.phase == NodePhase::Running;
        let managed = !node.instance_id.is_empty() || !running;
        let outdated = managed && !node.is_head && snapshot.settings.terminate_outdated && spec.is_none();
        let state = match spec {
            Some(spec) if !running => spec.fresh,
            None if !running && !outdated => return,
            _ => {
                let group = group.filter(|_| managed);
                let nothing = Resources::new();
                let (total, free) = if running { (&*node.total, &*node.available) } else { (&nothing, &nothing) };
                let spec = NodeSpec { group, head: node.is_head, running, total, free };
                let labels = node.labels.iter().chain(node.dynamic_labels.iter()).filter(|_| running);
                self.states.add(&spec, labels.map(as_strs))
            }
        };
        let resizing = self.resizing(node, group);
        self.any_resize |= resizing != Resizing::No;
        self.nodes.push(Node {
            observed: Some(at),
            group: group.filter(|_| managed),
            phase: node.phase,
            state,
            fate: Fate::Stay,
            exempt: node.is_head || !managed || (group.is_none() && !outdated),
            idle_ms: if running { node.idle_ms.unwrap_or(0) } else { 0 },
            resizing,
            placements: Vec::new(),
        });
    }

    fn resizing(&self, node: &crate::Node, group: Option<u16>) -> Resizing {
        let bounds = group.and_then(|group| self.groups.get(usize::from(group))).and_then(|group| group.spec.resize);
        let (Some(bounds), Some(pod)) = (bounds, &node.resize) else {
            return Resizing::No;
        };
        if pod.in_progress {
            return match (pod.desired_cpu, pod.desired_memory) {
                (None, None) => Resizing::No,
                (cpu, memory) => Resizing::UnderWay(
                    cpu.unwrap_or(pod.current_cpu).as_f64(),
                    memory.unwrap_or(pod.current_memory).as_f64(),
                ),
            };
        }
        let cpu = pod.suggested_max_cpu.unwrap_or(bounds.max_cpu);
        let memory = pod.suggested_max_memory.unwrap_or(bounds.max_memory);
        if pod.failed || (pod.current_cpu >= cpu && pod.current_memory >= memory) {
            return Resizing::No;
        }
        Resizing::Possible(cpu.as_f64(), memory.as_f64())
    }

    /// The node type of a node.
    pub fn group_of(&self, node: NodeId) -> Option<&Group<'a>> {
        self.groups.get(usize::from(self.nodes[node as usize].group?))
    }

    /// What makes a node's group preferable.
    pub fn standing(&self, node: NodeId) -> Standing {
        self.group_of(node).map(|group| group.standing).unwrap_or_default()
    }

    /// A node that is to be launched, at the end of the nodes but nowhere in the order yet.
    pub fn launch(&mut self, group: u16, state: StateId) -> NodeId {
        self.nodes.push(Node {
            observed: None,
            group: Some(group),
            phase: NodePhase::Requested,
            state,
            fate: Fate::Launch,
            exempt: false,
            idle_ms: 0,
            resizing: Resizing::No,
            placements: Vec::new(),
        });
        self.nodes.len() as NodeId - 1
    }

    /// Pods of each group; with those that end in this plan, as Ray counts what may still be launched, or without.
    pub fn count(&self, with_ending: bool) -> Vec<u64> {
        let mut counts = vec![0; self.groups.len()];
        for node in self.order.iter().map(|&id| &self.nodes[id as usize]) {
            if let Some(group) = node.group
                && (with_ending || !matches!(node.fate, Fate::End(_)))
            {
                counts[usize::from(group)] += 1;
            }
        }
        counts
    }

    /// Whether anything was placed on the node in this plan.
    pub fn is_needed(&self, node: NodeId) -> bool {
        let state = self.nodes[node as usize].state;
        self.states.is_needed(state, Ledger::Demand) || self.states.is_needed(state, Ledger::Constraint)
    }
}

fn as_strs<'s>((key, value): (&'s String, &'s String)) -> (&'s str, &'s str) {
    (key, value)
}

fn group<'a>(states: &mut States<'a>, at: u16, spec: &'a NodeType, standing: Option<&Standing>) -> Group<'a> {
    let hosts = spec.num_of_hosts.max(1);
    let limits = if spec.is_head || spec.suspended { (0, 0) } else { (spec.min_replicas, spec.max_replicas) };
    let (total, free) = (&*spec.resources, &*spec.resources);
    let node = NodeSpec { group: Some(at), head: spec.is_head, running: false, total, free };
    let fresh = states.add(&node, spec.labels.iter().map(as_strs));
    let launched = spec.resize.map_or(fresh, |bounds| {
        let amount = |name: &str| spec.resources.get(name).copied().unwrap_or_default();
        let (cpu, memory) = (bounds.max_cpu.max(amount("CPU")), bounds.max_memory.max(amount("memory")));
        states.resized(fresh, cpu.as_f64(), memory.as_f64())
    });
    Group {
        spec,
        hosts,
        min: u64::from(limits.0) * u64::from(hosts),
        max: u64::from(limits.1) * u64::from(hosts),
        standing: Standing { priority: spec.priority, ..standing.copied().unwrap_or_default() },
        fresh,
        launched,
    }
}
