//! Defragmentation: which nodes could be drained because others have room for all that they run.
//!
//! Proposals, which nobody carries out: Ray moves no running work. Tasks that can be retried and actors that can be restarted
//! come up again elsewhere once somebody drains the node; what else there is of use here, only people know. So what runs on a
//! node is taken for one piece, which goes where it may run as far as can be seen: to one busy node of the same group and with the
//! same labels that has room for all of it. Nodes with bundles of placement groups or with work that is pinned to them stay, and
//! so do multi-host replicas, minima, and whatever the plan itself or `request_resources` needs.

use std::collections::{BTreeMap, BTreeSet};

use super::decide::Decision;
use super::pools::Map;
use super::shrink;
use crate::topology::{DomainId, GANG_LABEL_PREFIX};
use crate::{Amount, Labels, Move, Node, NodePhase, Plan, Reason, Resources, Verdict, words};

/// A label that every node has of its own.
const NODE_ID_LABEL: &str = "ray.io/node-id";
/// Most nodes that are named.
const MAX_MOVES: usize = 100;
/// Most times that it is looked whether one node has room for what another one runs.
const MAX_LOOKS: usize = 100_000;

/// A busy node that nothing is planned on.
struct Busy<'a> {
    at: usize,
    node: &'a Node,
    used: Resources,
    /// Greatest share of what it has that is in use, in millionths.
    share: i64,
    /// Whether all that runs on it can be elsewhere.
    may_move: bool,
}

/// Adds the proposals to a plan that is complete but for them.
pub(super) fn propose(decision: &Decision<'_>, plan: &mut Plan) {
    let snapshot = decision.snapshot;
    let map = Map::new(snapshot, decision.roster);
    let ends: BTreeSet<&str> = plan.terminate.iter().map(|end| end.instance_id.as_str()).collect();
    let needed = shrink::needed(&decision.board);
    let mut by_group: BTreeMap<usize, Vec<Busy<'_>>> = BTreeMap::new();
    for (at, row) in decision.roster.iter().enumerate() {
        let node = &snapshot.nodes[at];
        let is_busy = row.phase == NodePhase::Running && !row.is_idle && row.is_pod();
        if is_busy && needed[at] == 0 && !ends.contains(&*node.instance_id) {
            by_group.entry(row.group()).or_default().extend(busy(at, node));
        }
    }
    let (mut moves, mut looks) = (Vec::new(), 0);
    for (group, nodes) in by_group {
        let Some(spec) = snapshot.node_types.get(group) else { continue };
        let grows = decision.board.world.groups[group].launched > 0;
        if spec.is_head || spec.suspended || spec.num_of_hosts > 1 || grows {
            continue;
        }
        let stay = plan.groups.get(&spec.name).map_or(0, |group| group.desired);
        let spare = (stay.saturating_sub(spec.min_replicas) as usize).min(MAX_MOVES - moves.len());
        let prices = &decision.prices;
        let is_priced = prices.is_priced && !prices.unpriced.contains(&group);
        let saves_per_hour = is_priced.then(|| prices.per_hour[group]);
        let to_move = |(from, to): (&Busy<'_>, &Busy<'_>)| Move {
            group: spec.name.clone(),
            instance_id: from.node.instance_id.to_string(),
            ray_node_id: from.node.ray_node_id.clone(),
            to: to.node.instance_id.to_string(),
            resources: from.used.clone(),
            saves_per_hour,
        };
        moves.extend(pairs(&map, &nodes, spare, &mut looks).into_iter().map(to_move));
    }
    plan.explain.extend(moves.iter().map(reason));
    plan.moves = moves;
}

fn busy(at: usize, node: &Node) -> Option<Busy<'_>> {
    let of_node = |name: &str| name.starts_with("node:");
    let in_use = |(name, total): (&String, &Amount)| {
        let free = node.available.get(name).copied().unwrap_or(Amount::ZERO);
        let used = total.steps().saturating_sub(free.steps());
        (used > 0 && !of_node(name)).then(|| (name.clone(), Amount::from_steps(used)))
    };
    let used: Resources = node.total.iter().filter_map(in_use).collect();
    let share = |(name, used): (&String, &Amount)| {
        let total = node.total.get(name).map_or(1, |total| total.steps().max(1));
        (i128::from(used.steps()) * 1_000_000 / i128::from(total)) as i64
    };
    let share = used.iter().map(share).max()?;
    let has_bundles = node.dynamic_labels.keys().any(|label| label.starts_with(GANG_LABEL_PREFIX));
    let is_whole = |(name, total): (&String, &Amount)| node.available.get(name).is_some_and(|free| free >= total);
    let is_pinned = node.total.iter().any(|of| of_node(of.0) && !is_whole(of));
    Some(Busy { at, node, used, share, may_move: !has_bundles && !is_pinned && node.ray_node_id.is_some() })
}

/// At most `spare` nodes of one group, each with another one that takes all that it runs: those first with which a domain
/// becomes free sooner, then those that are used least; to those that are used most.
fn pairs<'b, 'a>(
    map: &Map<'_>,
    nodes: &'b [Busy<'a>],
    spare: usize,
    looks: &mut usize,
) -> Vec<(&'b Busy<'a>, &'b Busy<'a>)> {
    let innermost = map.topology.levels().len().checked_sub(1);
    let domain = |busy: &Busy<'_>| innermost.map(|level| map.topology.of_node(level, busy.at));
    let mut in_domain: BTreeMap<Option<DomainId>, usize> = BTreeMap::new();
    nodes.iter().for_each(|busy| *in_domain.entry(domain(busy)).or_default() += 1);
    let mut sources: Vec<&Busy<'a>> = nodes.iter().filter(|busy| busy.may_move).collect();
    sources.sort_by_key(|busy| (in_domain.get(&domain(busy)).copied(), busy.share, &busy.node.instance_id));
    let mut targets: Vec<(&Busy<'a>, Resources)> =
        nodes.iter().map(|busy| (busy, (*busy.node.available).clone())).collect();
    targets.retain(|(busy, _)| map.topology.is_target(busy.at));
    targets.sort_by_key(|(busy, _)| (-busy.share, busy.node.instance_id.clone()));
    let (mut moved, mut taken, mut pairs) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    // What is free only becomes less: what found no room finds none later.
    let mut homeless: BTreeSet<(&Resources, Labels)> = BTreeSet::new();
    for source in sources {
        if pairs.len() == spare || *looks > MAX_LOOKS {
            break;
        }
        let labels = labels(source.node);
        if taken.contains(&source.at) || homeless.contains(&(&source.used, labels.clone())) {
            continue;
        }
        let takes = |(target, free): &&mut (&Busy<'a>, Resources)| {
            *looks += 1;
            let is_other = target.at != source.at && !moved.contains(&target.at);
            is_other
                && source.used.iter().all(|(name, used)| free.get(name).is_some_and(|free| free >= used))
                && self::labels(target.node) == labels
        };
        let Some((target, free)) = targets.iter_mut().find(takes) else {
            homeless.insert((&source.used, labels));
            continue;
        };
        for (name, used) in &source.used {
            if let Some(free) = free.get_mut(name) {
                *free = Amount::from_steps(free.steps() - used.steps());
            }
        }
        moved.insert(source.at);
        taken.insert(target.at);
        pairs.push((source, *target));
    }
    pairs
}

/// What labels say of a node beside which it is.
fn labels(node: &Node) -> Labels {
    let mut labels = (*node.labels).clone();
    labels.remove(NODE_ID_LABEL);
    labels
}

fn reason(proposed: &Move) -> Reason {
    let amounts =
        proposed.resources.iter().map(|(name, used)| format!("{name}: {}", words::amount(name, used.as_f64())));
    let amounts: Vec<String> = amounts.collect();
    let saves = proposed.saves_per_hour.filter(|saves| *saves > 0.0);
    let saves = saves.map_or(String::new(), |saves| format!(", which would save {} an hour", words::money(saves)));
    Reason {
        subject: format!("node {}", proposed.instance_id),
        verdict: Verdict::Keep,
        text: format!(
            "could be drained: node {} has room for all that it runs ({}){saves}",
            proposed.to,
            amounts.join(", ")
        ),
    }
}
