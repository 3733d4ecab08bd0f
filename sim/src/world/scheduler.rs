//! kube-scheduler: which node takes a pod.
//!
//! Assumptions: pods are looked at in order of priority, then age, one pass a change of the world, after `scheduler.latency`; what
//! can't be placed is looked at again with the next change (no back-off). Of the nodes that fit, the emptiest (or fullest)
//! by the mean of CPU and memory is taken, preferred node affinity first; of equals the first by name (kube-scheduler draws
//! one). Scheduling gates hold pods back; a pod that names another scheduler waits for ever.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use mobula_planner::{Labels, Resources};

use super::Key;
use super::affinity::{Neighbours, Placed};
use super::node::KubeNode;
use super::pod::PodSpec;
use crate::scenario::Score;

/// Why a node is no place, in kube-scheduler's words.
pub fn misfit(spec: &PodSpec, node: &KubeNode, free: &Resources) -> Option<String> {
    let tolerated = |key: &str, value: &str, effect: &str| {
        effect == "PreferNoSchedule" || spec.tolerations.iter().any(|toleration| toleration.covers(key, value, effect))
    };
    if let Some(taint) = node.taints.iter().find(|taint| !tolerated(&taint.key, &taint.value, &taint.effect)) {
        return Some(format!("had untolerated taint {{{}: {}}}", taint.key, taint.value));
    }
    if !matches_labels(spec, &node.name, &node.labels) {
        return Some("didn't match Pod's node affinity/selector".to_owned());
    }
    let short = spec
        .requests
        .iter()
        .find(|(name, amount)| amount.steps() > 0 && free.get(*name).is_none_or(|free| free < amount));
    short.map(|(name, _)| if name == "pods" { "Too many pods".to_owned() } else { format!("Insufficient {name}") })
}

/// Whether node selector and required node affinity hold.
pub fn matches_labels(spec: &PodSpec, name: &str, labels: &Labels) -> bool {
    spec.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        && (spec.node_terms.is_empty() || spec.node_terms.iter().any(|term| term.holds(name, labels)))
}

/// Whether two pods would be answered alike.
pub fn ask_alike(one: &PodSpec, other: &PodSpec) -> bool {
    let is_alone = |spec: &PodSpec| spec.affinity.is_empty() && spec.spread.is_empty();
    is_alone(one)
        && is_alone(other)
        && one.requests == other.requests
        && one.node_selector == other.node_selector
        && one.node_terms == other.node_terms
        && one.tolerations == other.tolerations
        && one.priority == other.priority
        && one.scheduler == other.scheduler
}

/// The node for a pod, or why there is none, in kube-scheduler's words.
///
/// # Errors
/// If no node fits.
pub fn choose<'a>(
    namespace: &str,
    spec: &PodSpec,
    nodes: &'a BTreeMap<String, KubeNode>,
    placed: &(impl Iterator<Item = Placed<'a>> + Clone),
    reserved: &BTreeMap<String, Resources>,
    score: Score,
) -> Result<&'a str, String> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut fitting: Vec<&KubeNode> = Vec::new();
    for node in nodes.values() {
        let left = reserved.get(&node.name).map(|reserved| {
            let mut left = node.free.clone();
            super::node::change(&mut left, reserved, -1);
            left
        });
        match misfit(spec, node, left.as_ref().unwrap_or(&node.free)) {
            Some(reason) => *reasons.entry(reason).or_default() += 1,
            None => fitting.push(node),
        }
    }
    // An anti-affinity of those that are there holds for whoever comes.
    let has_anti = || placed.clone().any(|other| other.spec.affinity.iter().any(|term| term.is_anti));
    if !fitting.is_empty() && (!spec.affinity.is_empty() || !spec.spread.is_empty() || has_anti()) {
        let eligible: Vec<&KubeNode> =
            nodes.values().filter(|node| matches_labels(spec, &node.name, &node.labels)).collect();
        let neighbours = Neighbours::of(namespace, spec, placed, &eligible);
        fitting.retain(|node| match neighbours.refuses(node) {
            Some(reason) => {
                *reasons.entry(reason.to_owned()).or_default() += 1;
                false
            }
            None => true,
        });
    }
    let mut best: Option<((i64, i64), &KubeNode)> = None;
    for node in fitting {
        let rank = rank(spec, node, score);
        if best.is_none_or(|(most, _)| rank > most) {
            best = Some((rank, node));
        }
    }
    match best {
        Some((_, node)) => Ok(&node.name),
        None => {
            let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            Err(format!("0/{} nodes are available: {}.", nodes.len(), reasons.join(", ")))
        }
    }
}

/// Higher is better: preferred affinity less taints to avoid, then how full the node would be, 0 to 1000.
fn rank(spec: &PodSpec, node: &KubeNode, score: Score) -> (i64, i64) {
    let wished = spec.preferred.iter().filter(|(_, term)| term.holds(&node.name, &node.labels));
    let wished: i64 = wished.map(|(weight, _)| weight).sum();
    let to_avoid = node.taints.iter().filter(|taint| {
        let is_tolerated = spec.tolerations.iter().any(|t| t.covers(&taint.key, &taint.value, &taint.effect));
        taint.effect == "PreferNoSchedule" && !is_tolerated
    });
    let avoided = i64::try_from(to_avoid.count()).unwrap_or(i64::MAX);
    let share_free = |name: &str| {
        let steps = |of: &Resources| of.get(name).map_or(0, |amount| i128::from(amount.steps()));
        let (capacity, left) = (steps(&node.capacity), steps(&node.free) - steps(&spec.requests));
        if capacity > 0 { i64::try_from(left * 1_000 / capacity).unwrap_or(0) } else { 0 }
    };
    let free = i64::midpoint(share_free("cpu"), share_free("memory"));
    let packing = match score {
        Score::LeastAllocated => free,
        Score::MostAllocated => 1_000 - free,
    };
    (wished.saturating_sub(avoided.saturating_mul(100)), packing)
}

/// A pod that may have to go for one of higher priority.
#[derive(Copy, Clone, Debug)]
pub struct Victim<'a> {
    /// Who.
    pub key: &'a Key,
    /// What it takes.
    pub spec: &'a PodSpec,
    /// Later is younger.
    pub number: u64,
    /// It goes anyway, and what it has will be free.
    pub is_leaving: bool,
}

/// What a preemption costs: the most important that goes, how many go, and those that came last rather than others.
type Cost = (i64, usize, Reverse<u64>);

/// The node on which the fewest and least important pods must go to make room, and which.
pub fn preempt<'a>(
    spec: &PodSpec,
    nodes: &'a BTreeMap<String, KubeNode>,
    reserved: &BTreeMap<String, Resources>,
    on_node: impl Fn(&KubeNode) -> Vec<Victim<'a>>,
) -> Option<(&'a str, Vec<Key>)> {
    if !spec.may_preempt {
        return None;
    }
    let mut best: Option<(Cost, &str, Vec<Key>)> = None;
    for node in nodes.values() {
        let (leaving, mut victims): (Vec<Victim<'_>>, Vec<Victim<'_>>) =
            on_node(node).into_iter().partition(|victim| victim.is_leaving);
        victims.retain(|victim| victim.spec.priority < spec.priority);
        victims.sort_by_key(|victim| (victim.spec.priority, Reverse(victim.number)));
        let mut free = node.free.clone();
        leaving.iter().for_each(|victim| super::node::change(&mut free, &victim.spec.requests, 1));
        if let Some(reserved) = reserved.get(&node.name) {
            super::node::change(&mut free, reserved, -1);
        }
        let mut gone: Vec<&Victim<'_>> = Vec::new();
        for victim in &victims {
            if misfit(spec, node, &free).is_none() {
                break;
            }
            super::node::change(&mut free, &victim.spec.requests, 1);
            gone.push(victim);
        }
        if (gone.is_empty() && leaving.is_empty()) || misfit(spec, node, &free).is_some() {
            continue;
        }
        // Those that need not go after all stay, the most important first.
        let mut needed = gone.clone();
        for victim in gone.iter().rev() {
            let mut without = free.clone();
            super::node::change(&mut without, &victim.spec.requests, -1);
            if misfit(spec, node, &without).is_none() {
                free = without;
                needed.retain(|kept| kept.number != victim.number);
            }
        }
        let worst = needed.iter().map(|victim| victim.spec.priority).max().unwrap_or(i64::MIN);
        // Of equals, those that came last go, as they have the least to lose.
        let oldest = needed.iter().map(|victim| victim.number).min().unwrap_or(u64::MAX);
        let cost = (worst, needed.len(), Reverse(oldest));
        if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
            best = Some((cost, &node.name, needed.iter().map(|victim| victim.key.clone()).collect()));
        }
    }
    best.map(|(_, name, victims)| (name, victims))
}
