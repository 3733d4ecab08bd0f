//! Growing pods in place, where their group allows it.

use std::collections::BTreeMap;

use super::Rules;
use super::board::{Board, Put};
use super::demand::Class;
use super::world::{Column, HostId, World, need};
use crate::{Amount, DemandRef, Node, NodePhase, NodeType, Resize};

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
pub(super) fn expected(spec: &NodeType, node: &Node) -> Option<(Amount, Amount)> {
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
pub(super) fn possible(spec: &NodeType, node: &Node) -> Option<(Amount, Amount)> {
    let (cpu, memory) = largest(spec, node)?;
    let pod = node.resize.as_ref()?;
    let more = |to: Amount, from: Amount| Amount::from_steps(to.steps().saturating_sub(from.steps()));
    Some((more(cpu, pod.current_cpu), more(memory, pod.current_memory)))
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
                instance_id: node.instance_id.clone(),
                ray_node_id: node.ray_node_id.clone(),
                group: node.group.clone(),
                cpu,
                memory,
            });
        }
    }
    resizes
}
