//! What holds of every plan of `ray-v2`, on random snapshots.

mod given;

use given::*;
use mobula_planner::{
    DemandClass, Gang, GangStrategy, LabelConstraint, LabelOperator, LabelSelector, Labels, Memory, Node, NodePhase,
    NodeType, Policy, RayV2, Snapshot, UpscalingMode, lint,
};
use proptest::prelude::*;

fn a_group(at: usize) -> impl Strategy<Value = NodeType> {
    let sizes = (1..=16_i64, 0..=64_i64, prop::sample::select(vec![0_i64, 0, 1, 8]));
    let limits = (0..3_u32, 0..8_u32, prop::sample::select(vec![1_u32, 1, 2, 4]));
    (sizes, limits, any::<bool>(), prop::bool::weighted(0.1)).prop_map(move |(sizes, limits, zone_a, suspended)| {
        let (cpu, memory, gpu) = sizes;
        let (min, more, hosts) = limits;
        NodeType {
            labels: std::sync::Arc::new(Labels::from([("zone".into(), if zone_a { "a" } else { "b" }.into())])),
            min_replicas: min,
            max_replicas: min + more,
            num_of_hosts: hosts,
            suspended,
            ..group(&format!("group-{at}"), &[("CPU", cpu), ("memory", memory), ("GPU", gpu)])
        }
    })
}

fn a_request() -> impl Strategy<Value = mobula_planner::Request> {
    let sizes = (0..=8_i64, 0..=32_i64, prop::sample::select(vec![0_i64, 0, 1, 8]));
    (sizes, prop::option::weighted(0.3, prop::sample::select(vec!["a", "b", "c"]))).prop_map(
        |((cpu, memory, gpu), zone)| {
            let mut asked = request(&[("CPU", cpu), ("memory", memory), ("GPU", gpu)]);
            let constraints = zone.map(|zone| LabelConstraint {
                key: "zone".into(),
                operator: LabelOperator::In,
                values: vec![zone.into()],
            });
            asked.selectors = vec![LabelSelector { constraints: constraints.into_iter().collect() }];
            asked
        },
    )
}

fn demand() -> impl Strategy<Value = Vec<DemandClass>> {
    prop::collection::vec((a_request(), 1..40_u64).prop_map(|(request, count)| DemandClass { request, count }), 0..6)
}

fn gangs() -> impl Strategy<Value = Vec<Gang>> {
    let strategies =
        vec![GangStrategy::Pack, GangStrategy::Spread, GangStrategy::StrictPack, GangStrategy::StrictSpread];
    let one = (prop::sample::select(strategies), 0..=4_i64, 1..6_usize);
    prop::collection::vec(one, 0..4).prop_map(|gangs| {
        let gangs = gangs.into_iter().enumerate();
        gangs
            .map(|(at, (strategy, cpu, bundles))| gang(&format!("{at:02x}"), strategy, &[("CPU", cpu)], bundles))
            .collect()
    })
}

/// Replicas of the groups in every phase; those of multi-host groups are named.
fn nodes(groups: Vec<NodeType>) -> impl Strategy<Value = (Vec<NodeType>, Vec<Node>)> {
    let phases = vec![
        NodePhase::Running,
        NodePhase::Running,
        NodePhase::Pending,
        NodePhase::Requested,
        NodePhase::Leaving,
        NodePhase::Stopped,
    ];
    let one = (0..groups.len(), prop::sample::select(phases), 0..3_i64, 0..7200_i64);
    prop::collection::vec(one, 0..8).prop_map(move |replicas| {
        let mut nodes = Vec::new();
        for (at, (which, phase, use_, seconds)) in replicas.into_iter().enumerate() {
            let group = &groups[which];
            for host in 0..group.num_of_hosts {
                let id = format!("pod-{at}-{host}");
                let node = match (phase, use_) {
                    (NodePhase::Running, 0) => busy(group, &id),
                    (NodePhase::Running, 1) => idle(free(group, &id), seconds),
                    (NodePhase::Running, _) => free(group, &id),
                    _ => Node { phase, pending_since_ms: Some(NOW_MS - seconds * 1000), ..pending(group, &id) },
                };
                let several = group.num_of_hosts > 1 && phase != NodePhase::Requested;
                nodes.push(if several { of_replica(node, &format!("replica-{at}")) } else { node });
            }
        }
        (groups.clone(), nodes)
    })
}

fn groups() -> impl Strategy<Value = Vec<NodeType>> {
    (a_group(0), a_group(1), a_group(2)).prop_map(|(a, b, c)| vec![a, b, c])
}

fn snapshots() -> impl Strategy<Value = Snapshot> {
    let settings =
        (any::<bool>(), prop::option::weighted(0.2, 1..10_u32), prop::option::weighted(0.3, Just(60_000_i64)));
    (groups().prop_flat_map(nodes), demand(), gangs(), settings).prop_map(
        |((groups, nodes), demand, gangs, settings)| {
            let mut snapshot = cluster(&groups.iter().collect::<Vec<_>>(), nodes);
            (snapshot.demand, snapshot.gangs) = (demand, gangs);
            let (conservative, in_flight, pending_idle) = settings;
            if conservative {
                snapshot.settings.upscaling_mode = UpscalingMode::Conservative;
            }
            (snapshot.settings.max_in_flight, snapshot.settings.pending_idle_timeout_ms) = (in_flight, pending_idle);
            snapshot
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_is_clean(snapshot in snapshots()) {
        let (plan, _) = RayV2.plan(&snapshot, &Memory::default());
        prop_assert_eq!(lint(&snapshot, &plan), []);
    }

    #[test]
    fn the_same_input_gives_the_same_plan(snapshot in snapshots()) {
        prop_assert_eq!(RayV2.plan(&snapshot, &Memory::default()), RayV2.plan(&snapshot, &Memory::default()));
    }

    #[test]
    fn the_order_of_tasks_does_not_matter(snapshot in snapshots(), turn in 0..6_usize) {
        let mut turned = snapshot.clone();
        let len = turned.demand.len().max(1);
        turned.demand.rotate_left(turn % len);
        let (plan, _) = RayV2.plan(&snapshot, &Memory::default());
        let (other, _) = RayV2.plan(&turned, &Memory::default());
        prop_assert_eq!((&plan.groups, &plan.terminate), (&other.groups, &other.terminate));
    }

    /// What was launched for some demand holds it: once it is there, nothing more is wanted. (Of tasks from nothing, that is:
    /// like Ray's, the packing of gangs and of nodes that are there already may turn out another way the second time.)
    #[test]
    fn a_plan_that_was_applied_is_enough(groups in groups(), demand in demand()) {
        let groups: Vec<_> = groups.into_iter().map(|group| NodeType { min_replicas: 0, num_of_hosts: 1, ..group }).collect();
        let mut snapshot = cluster(&groups.iter().collect::<Vec<_>>(), vec![]);
        snapshot.demand = demand;
        let (plan, memory) = RayV2.plan(&snapshot, &Memory::default());
        for group in &mut snapshot.node_types {
            group.requested_replicas = plan.groups[&group.name].desired;
            let pods = if group.suspended { 0 } else { group.requested_replicas * group.num_of_hosts };
            snapshot.nodes.extend((0..pods).map(|at| pending(group, &format!("{}-{at}", group.name))));
        }
        let (again, _) = RayV2.plan(&snapshot, &memory);
        prop_assert_eq!((launches(&again), ends(&again)), (vec![], vec![]));
    }

    /// No node is given more than it has, whatever is placed where.
    #[test]
    fn launches_hold_what_they_are_for(groups in groups(), demand in demand()) {
        let mut snapshot = cluster(&groups.iter().collect::<Vec<_>>(), vec![]);
        snapshot.demand = demand;
        let (plan, _) = RayV2.plan(&snapshot, &Memory::default());
        for name in ["CPU", "memory", "GPU"] {
            let bought: i64 = groups.iter().filter(|group| !group.suspended).map(|group| {
                let pods = plan.groups[&group.name].desired * group.num_of_hosts;
                group.resources.get(name).map_or(0, |amount| amount.steps()) * i64::from(pods)
            }).sum();
            let asked = |class: &DemandClass, count: u64| {
                class.request.resources.get(name).map_or(0, |amount| amount.steps()) * count as i64
            };
            let all: i64 = snapshot.demand.iter().map(|class| asked(class, class.count)).sum();
            let unmet: i64 = plan.unmet.iter().map(|unmet| match &unmet.kind {
                mobula_planner::UnmetKind::Task(request) => {
                    asked(&DemandClass { request: request.clone(), count: 0 }, unmet.count)
                }
                _ => 0,
            }).sum();
            prop_assert!(all - unmet <= bought, "{name}: {all} - {unmet} on {bought}");
        }
    }
}
