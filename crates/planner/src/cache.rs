//! What is kept of the last tick so that the next one is faster. It never changes a plan.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use crate::{Memory, Node, NodePhase, Plan, Policy, Snapshot, Violation, lint};

/// The last tick of one policy value: of one with other options, another cache. It belongs to whoever plans again and again,
/// and is not a part of recordings.
///
/// A tick in which nothing happened gets the plan of the tick before. Nothing happened if everything that was observed is
/// equal, and if the plan would be the same at any time: nobody waits, and nothing is remembered. That a node has been idle
/// for longer is nothing as long as it is not idle for too long.
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
    // Found out when they are asked for.
    is_timeless: OnceLock<bool>,
    is_patient: OnceLock<bool>,
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
            plan: Arc::clone(&plan),
            is_timeless: OnceLock::new(),
            is_patient: OnceLock::new(),
            violations: OnceLock::new(),
        }));
        (plan, memory_after)
    }

    /// For how many ms from `snapshot` on, of which the last plan is, nodes that are idle may go on being idle before it would be
    /// another, if all else that was observed stays equal; none: it would be another at another time.
    pub fn patience_ms(&self, snapshot: &Snapshot) -> Option<i64> {
        self.last.as_deref().filter(|last| last.is_timeless() && last.is_patient())?;
        // The plan may be that of an earlier snapshot, whose nodes had not been idle for so long.
        patience_ms(snapshot).filter(|patience_ms| *patience_ms >= 0)
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
    /// Whether another tick is this one again. What differs is mostly a node, so that these are looked at before all else.
    fn is_again(&self, policy: &dyn Policy, snapshot: &Snapshot, memory: &Memory) -> bool {
        let is_now = self.snapshot.now_ms == snapshot.now_ms;
        self.policy == policy.name()
            && self.snapshot.nodes.is_equal_by(&snapshot.nodes, is_like)
            && self.memory_before == *memory
            && is_equal_but_for_nodes(&self.snapshot, snapshot)
            && (is_now || self.is_timeless())
            && (self.snapshot.nodes == snapshot.nodes || (self.is_patient() && nobody_is_idle_for_too_long(snapshot)))
    }

    /// Whether the plan would be the same at any other time: nothing is on its way, nobody waits, nothing is remembered.
    fn is_timeless(&self) -> bool {
        let Tick { snapshot, memory_before, memory_after, plan, .. } = self;
        *self.is_timeless.get_or_init(|| {
            let nothing = Memory::default();
            let comes = |phase| matches!(phase, NodePhase::Pending | NodePhase::Requested);
            let is_remembered = *memory_before != nothing || *memory_after != nothing;
            let waits = !plan.unmet.is_empty() || plan.gangs.iter().any(|gang| !gang.served);
            !is_remembered && !waits && !snapshot.nodes.iter().any(|node| comes(node.phase))
        })
    }

    /// Whether the plan would be the same if nodes were idle for longer or shorter, but not for too long.
    fn is_patient(&self) -> bool {
        let is_patient = || self.plan.terminate.is_empty() && nobody_is_idle_for_too_long(&self.snapshot);
        *self.is_patient.get_or_init(is_patient)
    }
}

/// Whether each worker that is idle may be so for longer.
fn nobody_is_idle_for_too_long(snapshot: &Snapshot) -> bool {
    patience_ms(snapshot).is_some_and(|patience_ms| patience_ms >= 0)
}

/// For how many ms each worker that is idle may be so yet; negative: one has been so for too long. None: of one it is not known.
fn patience_ms(snapshot: &Snapshot) -> Option<i64> {
    let workers = snapshot.node_types.iter().filter(|group| !group.is_head);
    let groups: BTreeMap<&str, Option<i64>> = workers
        .map(|group| (group.name.as_str(), group.idle_timeout_ms.or(snapshot.settings.idle_timeout_ms)))
        .collect();
    let idle = snapshot.nodes.iter().filter_map(|node| Some((node, node.idle_ms?)));
    let patience_ms = |(node, idle_ms): (&Node, i64)| match groups.get(&*node.group) {
        Some(Some(most_ms)) => Some(most_ms.saturating_sub(idle_ms)),
        Some(None) => Some(i64::MAX),
        // Of no group that is known: whatever becomes of it, nothing is said of it here.
        None => node.is_head.then_some(i64::MAX),
    };
    idle.map(patience_ms).try_fold(i64::MAX, |least, patience_ms| Some(least.min(patience_ms?)))
}

/// Whether nodes are equal, but for how long they have been idle.
fn is_like(a: &Node, b: &Node) -> bool {
    let Node {
        idle_ms,
        instance_id,
        ray_node_id,
        group,
        is_head,
        replica,
        phase,
        total,
        available,
        labels,
        dynamic_labels,
        pending_since_ms,
        resize,
        launch_config_hash,
        object_store_bytes,
        host,
        pending_cause,
    } = a;
    idle_ms.is_some() == b.idle_ms.is_some()
        && *phase == b.phase
        && *available == b.available
        && *instance_id == b.instance_id
        && *ray_node_id == b.ray_node_id
        && *group == b.group
        && *is_head == b.is_head
        && *replica == b.replica
        && *total == b.total
        && *labels == b.labels
        && *dynamic_labels == b.dynamic_labels
        && *pending_since_ms == b.pending_since_ms
        && *resize == b.resize
        && *launch_config_hash == b.launch_config_hash
        && *object_store_bytes == b.object_store_bytes
        && *host == b.host
        && *pending_cause == b.pending_cause
}

/// Whether two snapshots say the same, but for their nodes, when, and from which versions.
fn is_equal_but_for_nodes(a: &Snapshot, b: &Snapshot) -> bool {
    let Snapshot {
        now_ms: _,
        versions: _,
        nodes: _,
        settings,
        node_types,
        demand,
        gangs,
        constraints,
        topology,
        hosts,
        quotas,
    } = a;
    *node_types == b.node_types
        && *demand == b.demand
        && *gangs == b.gangs
        && *settings == b.settings
        && *constraints == b.constraints
        && *topology == b.topology
        && *hosts == b.hosts
        && *quotas == b.quotas
}
