//! Replicas beyond a maximum that was lowered. Those that do no work go, and nothing is planned for them; the others stay
//! until their work is done.

use std::collections::BTreeMap;

use crate::census::census;
use crate::given_up::GivenUp;
use crate::roster::Row;
use crate::{Node, NodePhase, Snapshot, TerminateCause, words};

/// Gives up what is beyond the maxima.
pub(super) fn find(snapshot: &Snapshot, roster: &[Row], given_up: &mut GivenUp<'_>) {
    // Whatever the sizes of replicas are, no group has more of them than pods.
    let mut pods = vec![0_u32; snapshot.node_types.len() + 1];
    roster.iter().filter(|row| row.is_pod()).for_each(|row| pods[row.group()] += 1);
    if pods.iter().zip(&snapshot.node_types).all(|(pods, spec)| *pods <= spec.max_replicas) {
        return;
    }
    let census = census(snapshot, roster, |at| given_up.nodes.get(at).copied().unwrap_or(false));
    for (number, spec) in snapshot.node_types.iter().enumerate() {
        let kept = census.get(number).map_or(0, |census| census.kept.replicas(spec));
        let excess = kept.saturating_sub(spec.max_replicas) as usize;
        if excess == 0 || spec.is_head || spec.suspended {
            continue;
        }
        let mut units = units(snapshot, roster, number, given_up);
        units.retain(|nodes| nodes.iter().all(|at| does_nothing(&snapshot.nodes[*at])));
        let runs = |node: &Node| (node.phase == NodePhase::Running, node.phase != NodePhase::Requested);
        units.sort_by_key(|nodes| {
            let states = nodes.iter().map(|at| runs(&snapshot.nodes[*at])).max();
            let idle_ms = nodes.iter().map(|at| snapshot.nodes[*at].idle_ms.unwrap_or(0)).min();
            (states, idle_ms.map(|ms| -ms), nodes.clone())
        });
        let most = words::counted(u64::from(spec.max_replicas), "replica");
        let text = format!("its group has more than its maximum of {most}");
        for at in units.into_iter().take(excess).flatten() {
            given_up.nodes[at] = true;
            given_up.ends.push((at, TerminateCause::MaxPerGroup, text.clone()));
        }
    }
}

fn does_nothing(node: &Node) -> bool {
    node.phase != NodePhase::Running || node.idle_ms.is_some()
}

/// The pods of a group that are not given up yet, by replica.
fn units(snapshot: &Snapshot, roster: &[Row], group: usize, given_up: &GivenUp<'_>) -> Vec<Vec<usize>> {
    let hosts = snapshot.node_types[group].num_of_hosts.max(1) as usize;
    let mut named: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut unnamed = Vec::new();
    for (at, _) in roster.iter().enumerate().filter(|(_, row)| row.group() == group && row.is_pod()) {
        if given_up.nodes.get(at).copied().unwrap_or(false) {
            continue;
        }
        match snapshot.nodes[at].replica.as_deref() {
            Some(replica) if hosts > 1 => named.entry(replica).or_default().push(at),
            _ => unnamed.push(at),
        }
    }
    // Pods that do not say which replica they are of make up replicas in their order.
    unnamed.chunks_exact(hosts).map(<[usize]>::to_vec).chain(named.into_values()).collect()
}
