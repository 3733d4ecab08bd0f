//! One pass of packing: existing nodes first, then nodes that can grow, then new nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::budget::Budget;
use super::cluster::{Cluster, NodeId, Placement, Resizing, Wants};
use super::fill::{Candidate, Choice, Filler};
use super::state::{Ledger, StateId};
use super::tables::Run;

/// What a pass would change; nothing is changed until it is applied.
pub(super) struct Pass {
    order: Vec<NodeId>,
    /// New states of nodes in the order, and what to note about them.
    changes: Vec<Change>,
    /// Group of each new node. Their numbers follow those of the existing ones.
    launched: Vec<(u16, StateId)>,
    /// What may be launched after that.
    budget: Budget,
    /// Groups that would have been launched, but for the budget.
    pub cut: BTreeSet<u16>,
    /// What found no place.
    pub left: Vec<Run>,
    runs: Rc<[Run]>,
    wants: Wants,
}

struct Change {
    node: NodeId,
    state: StateId,
    resizing: Option<Resizing>,
    choice: Option<Choice>,
}

impl Pass {
    /// Looks for places for `runs`.
    pub fn find(cluster: &mut Cluster<'_>, runs: &[Run], wants: Wants) -> Pass {
        let ledger = if wants == Wants::Constraint { Ledger::Constraint } else { Ledger::Demand };
        let mut sorted: Vec<Run> = runs.iter().copied().filter(|run| run.count > 0).collect();
        let classes = &cluster.states.tables().classes;
        sorted.sort_by_key(|run| std::cmp::Reverse(classes[run.class as usize].rank));
        let mut pass = Pass {
            order: Vec::with_capacity(cluster.order.len()),
            changes: Vec::new(),
            launched: Vec::new(),
            budget: cluster.budget.clone(),
            cut: BTreeSet::new(),
            runs: Rc::from(sorted.as_slice()),
            left: sorted,
            wants,
        };
        let mut states: Vec<StateId> = cluster.nodes.iter().map(|node| node.state).collect();
        pass.grow_under_way(cluster, &mut states);
        pass.fill_existing(cluster, &states, ledger);
        if cluster.any_resize {
            pass.fill_by_resizing(cluster, &mut states, ledger);
        }
        pass.fill_new(cluster, ledger);
        pass
    }

    /// Makes the changes.
    pub fn apply(self, cluster: &mut Cluster<'_>) {
        for (group, state) in self.launched {
            cluster.launch(group, state);
        }
        for change in self.changes {
            let node = &mut cluster.nodes[change.node as usize];
            node.state = change.state;
            node.resizing = change.resizing.unwrap_or(node.resizing);
            if let Some(Choice { fill, .. }) = change.choice {
                node.placements.push(Placement { wants: self.wants, runs: self.runs.clone(), fill });
            }
        }
        cluster.order = self.order;
        cluster.budget = self.budget;
    }

    /// A resize that is under way, or asked for by this plan, counts as done.
    fn grow_under_way(&mut self, cluster: &mut Cluster<'_>, states: &mut [StateId]) {
        if !cluster.any_resize {
            return;
        }
        for &id in &cluster.order {
            let node = &cluster.nodes[id as usize];
            let (cpu, memory) = match node.resizing {
                Resizing::UnderWay(cpu, memory) => (cpu, memory),
                Resizing::Asked(cpu, memory) if cluster.states.is_running(node.state) => (cpu, memory),
                _ => continue,
            };
            let state = cluster.states.resized(node.state, cpu, memory);
            states[id as usize] = state;
            self.changes.push(Change { node: id, state, resizing: None, choice: None });
        }
    }

    fn fill_existing(&mut self, cluster: &mut Cluster<'_>, states: &[StateId], ledger: Ledger) {
        if self.left.is_empty() {
            self.order.extend(&cluster.order);
            return;
        }
        // Ray skips the nodes that run Ray and have no room for anything, and lists them last from then on.
        let mut room: Vec<Option<bool>> = vec![None; cluster.states.len()];
        let (open, full): (Vec<NodeId>, Vec<NodeId>) = cluster.order.iter().partition(|id| {
            let state = states[**id as usize];
            let room = &mut room[state as usize];
            *room.get_or_insert_with(|| {
                !cluster.states.is_running(state) || cluster.states.has_room_for_any(state, ledger, &self.left)
            })
        });
        let chosen = self.fill(cluster, &open, states, ledger, &BTreeMap::new());
        self.order.extend(open.iter().filter(|id| !chosen.contains(id)));
        self.order.extend(full);
    }

    fn fill_by_resizing(&mut self, cluster: &mut Cluster<'_>, states: &mut [StateId], ledger: Ledger) {
        for change in &self.changes {
            states[change.node as usize] = change.state;
        }
        let order = std::mem::take(&mut self.order);
        let can_grow = |id: &NodeId| matches!(cluster.nodes[*id as usize].resizing, Resizing::Possible(..));
        let (candidates, others): (Vec<NodeId>, Vec<NodeId>) = order.into_iter().partition(can_grow);
        self.order = others;
        if self.is_complete() {
            self.order.extend(candidates);
            return;
        }
        let mut asks = BTreeMap::new();
        for &id in &candidates {
            if let Resizing::Possible(cpu, memory) = cluster.nodes[id as usize].resizing {
                states[id as usize] = cluster.states.resized(states[id as usize], cpu, memory);
                asks.insert(id, Resizing::Asked(cpu, memory));
            }
        }
        let chosen = self.fill(cluster, &candidates, states, ledger, &asks);
        self.order.extend(candidates.iter().filter(|id| !chosen.contains(id)));
    }

    /// Fills `candidates` until none can take more. Appends the chosen ones to the order and returns them.
    fn fill(
        &mut self,
        cluster: &mut Cluster<'_>,
        candidates: &[NodeId],
        states: &[StateId],
        ledger: Ledger,
        asks: &BTreeMap<NodeId, Resizing>,
    ) -> BTreeSet<NodeId> {
        let with_standing: Vec<Candidate> = candidates
            .iter()
            .map(|&node| Candidate { node, state: states[node as usize], standing: cluster.standing(node) })
            .collect();
        let leave_out = cluster.input.leave_out;
        let mut filler = Filler::new(&mut cluster.states, ledger, leave_out, &mut self.left, with_standing.into_iter());
        let mut chosen = BTreeSet::new();
        while !filler.is_done()
            && let Some(choice) = filler.choose(|_| true)
        {
            let node = choice.node;
            self.order.push(node);
            chosen.insert(node);
            let state = choice.fill.after;
            self.changes.push(Change { node, state, resizing: asks.get(&node).copied(), choice: Some(choice) });
        }
        chosen
    }

    fn fill_new(&mut self, cluster: &mut Cluster<'_>, ledger: Ledger) {
        let mut available: Vec<u64> = cluster
            .groups
            .iter()
            .zip(cluster.count(true))
            .map(|(group, used)| group.max.saturating_sub(used))
            .collect();
        let candidate = |cluster: &Cluster<'_>, group: u16| {
            let spec = &cluster.groups[usize::from(group)];
            Candidate { node: u32::from(group), state: spec.launched, standing: spec.standing }
        };
        let candidates: Vec<Candidate> = (0..)
            .zip(&available)
            .filter(|(_, available)| **available > 0)
            .map(|(group, _)| candidate(cluster, group))
            .collect();
        let fresh: Vec<Candidate> = (0..cluster.groups.len() as u16).map(|group| candidate(cluster, group)).collect();
        let most = cluster.input.snapshot.settings.max_nodes.map_or(usize::MAX, |most| most as usize);
        let hosts: Vec<u32> = cluster.groups.iter().map(|group| group.hosts).collect();
        let (budget, cut) = (&mut self.budget, &mut self.cut);
        let mut may_launch = |group: u32| {
            let may = budget.take(group as u16, hosts[group as usize]);
            if !may {
                cut.insert(group as u16);
            }
            may
        };
        let first = cluster.nodes.len() as NodeId;
        let leave_out = cluster.input.leave_out;
        let mut filler = Filler::new(&mut cluster.states, ledger, leave_out, &mut self.left, candidates.into_iter());
        while self.order.len() < most
            && !filler.is_done()
            && let Some(mut choice) = filler.choose(&mut may_launch)
        {
            let group = choice.node as u16;
            let node = first + self.launched.len() as NodeId;
            choice.node = node;
            self.order.push(node);
            let state = choice.fill.after;
            self.launched.push((group, state));
            self.changes.push(Change { node, state, resizing: None, choice: Some(choice) });
            available[usize::from(group)] -= 1;
            if available[usize::from(group)] > 0 {
                filler.push(fresh[usize::from(group)]);
            }
        }
    }

    /// Whether everything found a place.
    pub fn is_complete(&self) -> bool {
        self.left.iter().all(|run| run.count == 0)
    }
}
