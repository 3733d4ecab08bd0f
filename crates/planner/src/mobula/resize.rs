//! Growing pods in place, where their group allows it.

use std::collections::BTreeMap;

use super::Rules;
use super::board::{Board, Put};
use super::demand::Class;
use super::world::{Column, HostId, World, need};
use crate::{Amount, DemandRef, Node, NodePhase, NodeType, Resize, Resources};

/// By how much a host could grow, by column.
pub(super) type Headroom = BTreeMap<HostId, Vec<(Column, i64)>>;

/// What a pod can be resized to: CPU, and memory in bytes; `None`: not now.
fn largest(spec: &NodeType, node: &Node) -> Option<(Amount, Amount)> {
    let (bounds, pod) = (spec.resize?, node.resize.as_ref()?);
    let cpu = pod.suggested_max_cpu.unwrap_or(bounds.max_cpu).max(pod.current_cpu);
    let memory = pod.suggested_max_memory.unwrap_or(bounds.max_memory).max(pod.current_memory);
    let is_possible = node.phase == NodePhase::Running && !pod.failed && !pod.in_progress;
    (is_possible && (cpu > pod.current_cpu || memory > pod.current_memory)).then_some((cpu, memory))
}

/// By how much more CPU and memory than it shows a node may be planned with: what a resize under way brings; and for a pod on
/// its way, what it can be resized to once it runs.
fn expected(spec: &NodeType, node: &Node) -> Option<(Amount, Amount)> {
    let bounds = spec.resize?;
    let more = |to: Amount, from: Amount| Amount::from_steps(to.steps().saturating_sub(from.steps()).max(0));
    if node.phase != NodePhase::Running {
        let total = |name: &str| node.total.get(name).copied().unwrap_or_default();
        return Some((more(bounds.max_cpu, total("CPU")), more(bounds.max_memory, total("memory"))));
    }
    let pod = node.resize.as_ref().filter(|pod| pod.in_progress)?;
    let cpu = pod.desired_cpu.map_or(Amount::ZERO, |to| more(to, pod.current_cpu));
    Some((cpu, pod.desired_memory.map_or(Amount::ZERO, |to| more(to, pod.current_memory))))
}

/// By how much a node could grow; CPU, and memory in bytes.
fn possible(spec: &NodeType, node: &Node) -> Option<(Amount, Amount)> {
    let (cpu, memory) = largest(spec, node)?;
    let pod = node.resize.as_ref()?;
    let more = |to: Amount, from: Amount| Amount::from_steps(to.steps().saturating_sub(from.steps()));
    Some((more(cpu, pod.current_cpu), more(memory, pod.current_memory)))
}

impl World<'_> {
    /// Notes by how much a host grows or could grow in place, of which so much is free.
    pub(super) fn note_growth(&mut self, host: HostId, spec: &NodeType, node: &Node, free: &Resources) {
        if let Some((cpu, memory)) = expected(spec, node) {
            let growth = self.growth(free, cpu, memory);
            self.hosts.add(host, &growth);
        }
        if let Some((cpu, memory)) = possible(spec, node) {
            self.headroom.insert(host, self.growth(free, cpu, memory));
        }
    }

    /// Notes it again of a host that was made empty; what is to grow already, does.
    pub(super) fn grow_again(&mut self, host: HostId) {
        let group = self.hosts.group.get(host as usize).and_then(|group| self.groups.get(*group as usize));
        let spec = group.map(|group| group.spec).filter(|spec| spec.resize.is_some());
        let (Some(spec), Some(node)) = (spec, self.node(host)) else { return };
        let is_to_grow = self.grown.contains_key(&host);
        self.note_growth(host, spec, node, &node.total);
        if let Some(columns) = self.headroom.get(&host).filter(|_| is_to_grow).cloned() {
            self.headroom.remove(&host);
            self.hosts.add(host, &columns);
            self.grown.insert(host, columns);
        }
    }

    /// How many more steps of CPU and memory are free of a node if so much comes to what is free now.
    fn growth(&self, free: &Resources, cpu: Amount, memory: Amount) -> Vec<(Column, i64)> {
        let mut growth = self.columns(cpu, memory);
        for (column, amount) in &mut growth {
            let (name, step) = (self.resources[usize::from(*column)], self.steps[usize::from(*column)]);
            let free = free.get(name).map_or(0, |free| free.steps().max(0));
            let more = if name == "CPU" { cpu } else { memory };
            *amount = free.saturating_add(more.steps().max(0)) / step - free / step;
        }
        growth
    }

    /// CPU and memory as columns, where somebody asks for them.
    pub(super) fn columns(&self, cpu: Amount, memory: Amount) -> Vec<(Column, i64)> {
        let named = [("CPU", cpu), ("memory", memory)].into_iter().filter_map(|(name, amount)| {
            let column = self.resources.binary_search(&name).ok()?;
            Some((column as Column, amount.steps().max(0) / self.steps[column]))
        });
        named.collect()
    }
}

/// Puts tasks and actors on hosts that can grow in place: that is faster than a new pod, and costs no more.
pub(super) fn grow(board: &mut Board<'_>, rules: &Rules<'_>, classes: &mut [Class]) {
    let headroom = std::mem::take(&mut board.world.headroom);
    for (host, columns) in headroom {
        let at = host as usize;
        board.world.hosts.add(host, &columns);
        let traits = board.world.hosts.traits(host);
        let mut is_used = false;
        for class in classes.iter_mut().filter(|class| class.count > 0) {
            let world = &board.world;
            let shape = &world.shapes[class.shape as usize];
            let slots = world.hosts.slots(shape, host).max(0) as u64;
            let is_misuse = traits.is_scarce && !shape.is_scarce && rules.keep_gpu_clean;
            let count = class.count.min(slots);
            if count == 0 || is_misuse || world.rank(shape, traits.kind).is_none() {
                continue;
            }
            class.count -= count;
            let demand = DemandRef::Class(class.at);
            board.put(Put { demand, host, hosts: 1, count, shape: class.shape, taken: count as i64 });
            board.world.hosts.needed[at] |= need::TASKS;
            is_used = true;
        }
        if is_used {
            board.world.grown.insert(host, columns);
        } else {
            let back: Vec<(Column, i64)> = columns.iter().map(|(column, amount)| (*column, -amount)).collect();
            board.world.hosts.add(host, &back);
            board.world.headroom.insert(host, columns);
        }
    }
}

/// Resizes of the hosts that are used beyond what they have.
pub(super) fn resizes(world: &World<'_>) -> Vec<Resize> {
    let mut resizes = Vec::new();
    for (host, columns) in &world.grown {
        let at = *host as usize;
        let is_used = |(column, amount): &(Column, i64)| world.hosts.free(*host, *column) < *amount;
        // What request_resources is promised is used by nobody yet.
        let is_promised = world.hosts.needed[at] & need::CONSTRAINT != 0;
        let Some(node) = world.node(*host).filter(|_| is_promised || columns.iter().any(is_used)) else { continue };
        let spec = world.groups.get(world.hosts.group[at] as usize).map(|group| group.spec);
        if let Some((cpu, memory)) = spec.and_then(|spec| largest(spec, node)) {
            resizes.push(Resize {
                instance_id: node.instance_id.to_string(),
                ray_node_id: node.ray_node_id.clone(),
                group: node.group.to_string(),
                cpu,
                memory,
            });
        }
    }
    resizes
}
