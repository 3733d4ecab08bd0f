//! What is proposed to be drained.

use std::collections::{BTreeMap, BTreeSet};

use super::Check;
use crate::{Amount, Node, NodePhase, Placement, Resources, Target};

impl Check<'_> {
    /// Each node that could be drained runs, stays otherwise, holds no bundle of a placement group, nothing is planned on it, and all
    /// that it runs is named; the one that could take it stays as well, and has room for all that it is to take; enough are left of each group.
    pub(super) fn moves(&mut self) {
        let (snapshot, plan) = (self.snapshot, self.plan);
        if plan.moves.is_empty() {
            return;
        }
        let nodes: BTreeMap<&str, &Node> = snapshot.nodes.iter().map(|node| (&*node.instance_id, node)).collect();
        let placed = |place: &Placement| match place.target {
            Target::Node(at) => snapshot.nodes.get(at as usize).map(|node| &*node.instance_id),
            Target::New { .. } => None,
        };
        let placed: BTreeSet<&str> = plan.placements.iter().filter_map(placed).collect();
        let moved: BTreeSet<&str> = plan.moves.iter().map(|proposed| proposed.instance_id.as_str()).collect();
        let mut free: BTreeMap<&str, Resources> = BTreeMap::new();
        let mut going: BTreeMap<&str, u32> = BTreeMap::new();
        for proposed in &plan.moves {
            let node = |pod: &str| nodes.get(pod).copied();
            let (Some(from), Some(to)) = (node(&proposed.instance_id), node(&proposed.to)) else {
                self.error("moves", format!("{} or {} is no node", proposed.instance_id, proposed.to));
                continue;
            };
            let runs = from.phase == NodePhase::Running && to.phase == NodePhase::Running;
            let is_of_gang = from.dynamic_labels.keys().any(|label| label.starts_with("_PG_"));
            let goes = moved.contains(proposed.to.as_str());
            let ends = [&from.instance_id, &to.instance_id].iter().any(|pod| self.ended.contains(&***pod));
            let is_of_group = *from.group == *proposed.group && from.group == to.group;
            let is_otherwise = |(name, total): (&String, &Amount)| {
                let free = from.available.get(name).copied().unwrap_or(Amount::ZERO);
                let used = total.steps().saturating_sub(free.steps()).max(0);
                proposed.resources.get(name).map_or(0, |said| said.steps()) != used
            };
            let is_other = from.total.iter().any(is_otherwise);
            let is_placed = placed.contains(proposed.instance_id.as_str());
            let is_several = self.groups.get(proposed.group.as_str()).is_some_and(|group| group.num_of_hosts > 1);
            if !runs || is_of_gang || goes || ends || !is_of_group || is_other || is_placed || is_several {
                self.error("moves", format!("{} can't be moved to {}", proposed.instance_id, proposed.to));
            }
            let free = free.entry(&proposed.to).or_insert_with(|| (*to.available).clone());
            for (name, used) in &proposed.resources {
                let left = free.entry(name.clone()).or_insert(Amount::ZERO);
                *left = Amount::from_steps(left.steps().saturating_sub(used.steps()));
                if *left < Amount::ZERO {
                    self.error("moves", format!("{} has too little {name} for {}", proposed.to, proposed.instance_id));
                }
            }
            *going.entry(&proposed.group).or_default() += 1;
        }
        for (group, going) in going {
            let least = self.groups.get(group).map_or(0, |group| group.min_replicas);
            let stay = plan.groups.get(group).map_or(0, |group| group.desired);
            if stay.saturating_sub(going) < least {
                self.error("moves", format!("{going} of group {group} could go, which leaves fewer than {least}"));
            }
        }
    }
}
