//! With what is known from the last tick, and without it, the plans are the same.

// Helpers of tests may fail loudly.
#![allow(clippy::unwrap_used)]

mod given;

use std::collections::BTreeSet;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use given::{busy, cluster, free, group, idle, random};
use mobula_planner::{Cache, Memory, Plan, Policy, PolicyOptions, Snapshot, lint, policy, policy_names};
use proptest::prelude::*;

/// What happens from one tick to the next.
#[derive(Clone, Debug)]
enum Event {
    /// Nothing but that time goes by.
    Nothing,
    /// Time goes by for nodes that are idle, too.
    Idler,
    /// A node is the same as another one.
    Node(prop::sample::Index, prop::sample::Index),
    /// A node is idle for so long.
    Idle(prop::sample::Index, i64),
    /// A node is gone.
    Gone(prop::sample::Index),
    /// A node like another one has come, as the last of them.
    Come(prop::sample::Index),
    /// Nodes are observed in another order.
    Turned(prop::sample::Index),
    /// A group may have so many replicas.
    Most(prop::sample::Index, u32),
    /// There is more of a demand.
    More(prop::sample::Index),
    /// A gang was placed or given up.
    Fewer(prop::sample::Index),
}

fn event() -> impl Strategy<Value = Event> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        2 => Just(Event::Nothing),
        3 => Just(Event::Idler),
        1 => (at(), at()).prop_map(|(at, other)| Event::Node(at, other)),
        1 => (at(), 0..200_000_i64).prop_map(|(at, ms)| Event::Idle(at, ms)),
        1 => at().prop_map(Event::Gone),
        1 => at().prop_map(Event::Come),
        1 => at().prop_map(Event::Turned),
        1 => (at(), 0..20_u32).prop_map(|(at, most)| Event::Most(at, most)),
        1 => at().prop_map(Event::More),
        1 => at().prop_map(Event::Fewer),
    ]
}

/// The next snapshot, read anew: nothing is shared with the one before.
fn next(snapshot: &Snapshot, event: &Event, at: u64) -> Snapshot {
    let mut next = shared(snapshot, false);
    next.now_ms += 5_000;
    next.versions.cluster_state_version += at as i64 + 1;
    let nodes = next.nodes.len();
    match event {
        Event::Idler => {
            next.nodes.iter_mut().filter_map(|node| node.idle_ms.as_mut()).for_each(|idle_ms| *idle_ms += 5_000);
        }
        Event::Node(at, other) if nodes > 0 => {
            let other = next.nodes[other.index(nodes)].clone();
            let node = &mut next.nodes[at.index(nodes)];
            (node.available, node.idle_ms) = (other.available, other.idle_ms);
        }
        Event::Idle(at, ms) if nodes > 0 => next.nodes[at.index(nodes)].idle_ms = Some(*ms),
        Event::Gone(at) if nodes > 0 => next.nodes.remove(at.index(nodes)),
        Event::Come(at) if nodes > 0 => {
            let like = next.nodes[at.index(nodes)].clone();
            next.nodes
                .push(mobula_planner::Node { instance_id: format!("{}-{nodes}", like.instance_id).into(), ..like });
        }
        Event::Turned(at) if nodes > 0 => next.nodes.rotate_left(at.index(nodes)),
        Event::Most(at, most) if !next.node_types.is_empty() => {
            let at = at.index(next.node_types.len());
            next.node_types[at].max_replicas = *most;
        }
        Event::More(at) if !next.demand.is_empty() => {
            let at = at.index(next.demand.len());
            next.demand[at].count += 1;
        }
        Event::Fewer(at) if !next.gangs.is_empty() => {
            let at = at.index(next.gangs.len());
            next.gangs.remove(at);
        }
        _ => {}
    }
    next
}

/// The same at another time, when nodes have been idle for `patience_ms` more.
fn later(snapshot: &Snapshot, patience_ms: i64) -> Snapshot {
    let mut later = snapshot.clone();
    later.now_ms += 3_600_000;
    let idle = later.nodes.iter_mut().filter_map(|node| node.idle_ms.as_mut());
    idle.for_each(|idle_ms| *idle_ms += patience_ms.min(3_600_000));
    later
}

fn is_same(policy: &dyn Policy, first: Snapshot, events: &[Event]) -> Result<(), TestCaseError> {
    let (mut cache, mut memory) = (Cache::default(), Memory::default());
    let mut snapshot = first;
    for (at, event) in (0..).zip(events) {
        let mut shared = snapshot.clone();
        cache.share(&mut shared);
        prop_assert_eq!(&shared, &snapshot);
        let (cold, after) = policy.plan(&snapshot, &memory);
        let (warm, warm_after) = cache.plan(policy, &Arc::new(shared), &memory);
        prop_assert_eq!(&*warm, &cold);
        prop_assert_eq!(serde_json::to_string(&*warm).unwrap(), serde_json::to_string(&cold).unwrap());
        prop_assert_eq!(&warm_after, &after);
        prop_assert_eq!(cache.violations(), &lint(&snapshot, &cold)[..]);
        if let Some(patience_ms) = cache.patience_ms(&snapshot) {
            let (later, later_after) = policy.plan(&later(&snapshot, patience_ms), &memory);
            prop_assert_eq!((&later, &later_after), (&cold, &after));
        }
        memory = after;
        snapshot = next(&snapshot, event, at);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_warm_plan_is_a_cold_plan(snapshot in random::rich_snapshots(), events in prop::collection::vec(event(), 2..12)) {
        for name in policy_names() {
            let policy = policy(name, &PolicyOptions::default()).unwrap();
            is_same(&*policy, snapshot.clone(), &events)?;
        }
    }

    #[test]
    fn where_all_is_at_rest_too(snapshot in random::snapshots(), idle in any::<bool>(), events in prop::collection::vec(event(), 2..6)) {
        let mut snapshot = snapshot;
        snapshot.demand.clear();
        snapshot.gangs.clear();
        snapshot.constraints.clear();
        for node in &mut snapshot.nodes {
            let idle_ms = node.idle_ms.filter(|_| idle);
            (node.phase, node.idle_ms) = (mobula_planner::NodePhase::Running, idle_ms);
        }
        for name in policy_names() {
            let policy = policy(name, &PolicyOptions::default()).unwrap();
            is_same(&*policy, snapshot.clone(), &events)?;
        }
    }
}

/// The same snapshot, of which equal nodes share what they have (as the sidecar reads them), or none shares anything.
fn shared(snapshot: &Snapshot, is_shared: bool) -> Snapshot {
    fn read<T: Clone + Ord>(known: &mut Option<BTreeSet<Arc<T>>>, value: &mut Arc<T>) {
        *value = Arc::new(T::clone(value));
        if let Some(known) = known {
            known.insert(Arc::clone(value));
            *value = Arc::clone(known.get(value).unwrap());
        }
    }
    let mut snapshot = snapshot.clone();
    let mut names: Vec<Arc<str>> = Vec::new();
    let (mut amounts, mut labels) = (is_shared.then(BTreeSet::new), is_shared.then(BTreeSet::new));
    for node in &mut snapshot.nodes {
        node.instance_id = (*node.instance_id).into();
        read(&mut amounts, &mut node.total);
        read(&mut amounts, &mut node.available);
        read(&mut labels, &mut node.labels);
        read(&mut labels, &mut node.dynamic_labels);
        let name = names.iter().find(|name| is_shared && **name == node.group).cloned();
        node.group = name.unwrap_or_else(|| (*node.group).into());
        names.push(Arc::clone(&node.group));
    }
    snapshot
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_nodes_share_changes_nothing(snapshot in random::rich_snapshots()) {
        for name in policy_names() {
            let policy = policy(name, &PolicyOptions::default()).unwrap();
            let plan = |is_shared| policy.plan(&shared(&snapshot, is_shared), &Memory::default());
            prop_assert_eq!(plan(true), plan(false));
        }
    }
}

/// Counts how often it is asked.
struct Counting(AtomicUsize);

impl Policy for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn plan(&self, snapshot: &Snapshot, memory: &Memory) -> (Plan, Memory) {
        self.0.fetch_add(1, Ordering::Relaxed);
        policy("mobula", &PolicyOptions::default()).unwrap().plan(snapshot, memory)
    }
}

#[test]
fn that_nodes_are_idle_for_longer_is_nothing_new_until_it_is_too_long() {
    let gpu = group("gpu", &[("GPU", 8)]);
    let mut snapshot = cluster(&[&gpu], vec![idle(free(&gpu, "a"), 1), busy(&gpu, "b")]);
    snapshot.settings.idle_timeout_ms = Some(60_000);
    let (policy, mut cache) = (Counting(AtomicUsize::new(0)), Cache::default());
    let mut asked = Vec::new();
    for idle_ms in [5_000, 59_000, 60_000, 60_001, 65_001] {
        snapshot.now_ms += 5_000;
        snapshot.nodes.iter_mut().filter(|node| node.idle_ms.is_some()).for_each(|node| node.idle_ms = Some(idle_ms));
        let (plan, _) = cache.plan(&policy, &Arc::new(snapshot.clone()), &Memory::default());
        assert_eq!(plan.terminate.is_empty(), idle_ms <= 60_000, "{idle_ms}");
        asked.push(policy.0.load(Ordering::Relaxed));
    }
    assert_eq!(asked, [1, 1, 1, 2, 3]);
}
