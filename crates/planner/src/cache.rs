//! What is kept of the last tick so that the next one is faster. It never changes a plan.

use std::sync::{Arc, OnceLock};

use crate::{Memory, NodePhase, Plan, Policy, Snapshot, Violation, lint};

/// The last tick of one policy: a value that belongs to whoever plans again and again. It is not a part of recordings.
///
/// A tick in which nothing happened gets the plan of the tick before. Nothing happened if everything that was observed is
/// equal, and if the plan would be the same at any time: nobody waits, and nothing is remembered.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    last: Option<Arc<Tick>>,
}

/// A tick, and what came of it.
#[derive(Debug)]
struct Tick {
    policy: &'static str,
    snapshot: Arc<Snapshot>,
    memory_before: Memory,
    memory_after: Memory,
    plan: Arc<Plan>,
    /// The plan would be the same at any time.
    is_timeless: bool,
    /// Found out when it is asked for.
    violations: OnceLock<Vec<Violation>>,
}

impl Cache {
    /// Shares with the last snapshot what is equal in both, so that [`Cache::plan`] need not look at it again.
    pub fn share(&self, snapshot: &mut Snapshot) {
        if let Some(last) = &self.last {
            snapshot.nodes.share(&last.snapshot.nodes);
        }
    }

    /// What [`Policy::plan`] says, and mostly sooner.
    pub fn plan(&mut self, policy: &dyn Policy, snapshot: &Arc<Snapshot>, memory: &Memory) -> (Arc<Plan>, Memory) {
        if let Some(last) = self.last.as_deref().filter(|last| last.is_again(policy, snapshot, memory)) {
            let plan = Plan { versions: snapshot.versions.clone(), ..Plan::clone(&last.plan) };
            return (Arc::new(plan), last.memory_after.clone());
        }
        let (plan, memory_after) = policy.plan(snapshot, memory);
        let plan = Arc::new(plan);
        self.last = Some(Arc::new(Tick {
            policy: policy.name(),
            snapshot: Arc::clone(snapshot),
            memory_before: memory.clone(),
            memory_after: memory_after.clone(),
            is_timeless: is_timeless(snapshot, memory, &memory_after, &plan),
            plan: Arc::clone(&plan),
            violations: OnceLock::new(),
        }));
        (plan, memory_after)
    }

    /// What [`lint()`] says of the last plan: of one that is the same again, it was said before.
    pub fn violations(&self) -> &[Violation] {
        match &self.last {
            Some(last) => last.violations.get_or_init(|| lint(&last.snapshot, &last.plan)),
            None => &[],
        }
    }
}

impl Tick {
    /// Whether another tick is this one again.
    fn is_again(&self, policy: &dyn Policy, snapshot: &Snapshot, memory: &Memory) -> bool {
        let is_now = self.snapshot.now_ms == snapshot.now_ms;
        let is_known = self.policy == policy.name() && (is_now || self.is_timeless) && self.memory_before == *memory;
        is_known && is_equal(&self.snapshot, snapshot)
    }
}

/// Whether a plan would be the same at any other time: nothing is on its way, nobody waits, nothing is remembered.
fn is_timeless(snapshot: &Snapshot, before: &Memory, after: &Memory, plan: &Plan) -> bool {
    let nothing = Memory::default();
    let comes = |phase| matches!(phase, NodePhase::Pending | NodePhase::Requested);
    let is_remembered = *before != nothing || *after != nothing;
    let waits = !plan.unmet.is_empty() || plan.gangs.iter().any(|gang| !gang.served);
    !is_remembered && !waits && !snapshot.nodes.iter().any(|node| comes(node.phase))
}

/// Whether two snapshots say the same, but for when and from which versions.
fn is_equal(a: &Snapshot, b: &Snapshot) -> bool {
    let Snapshot {
        now_ms: _,
        versions: _,
        settings,
        node_types,
        nodes,
        demand,
        gangs,
        constraints,
        topology,
        hosts,
        quotas,
    } = a;
    *nodes == b.nodes
        && *node_types == b.node_types
        && *demand == b.demand
        && *gangs == b.gangs
        && *settings == b.settings
        && *constraints == b.constraints
        && *topology == b.topology
        && *hosts == b.hosts
        && *quotas == b.quotas
}
