//! What holds of every plan of `ray-v2`, on random snapshots.

mod given;

use given::random::{demand, groups, snapshots};
use given::*;
use mobula_planner::{DemandClass, Memory, NodeType, Policy, RayV2, lint};
use proptest::prelude::*;

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
