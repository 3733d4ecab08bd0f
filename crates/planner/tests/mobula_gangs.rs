//! Gangs with bundles of several kinds, and what is said of those that find no place.

mod given;

use given::random::steady_snapshots;
use mobula_planner::{Memory, Mobula, Plan, Policy, Severity, Snapshot, UnmetKind, lint};
use proptest::prelude::*;

fn plan_of(snapshot: &Snapshot) -> Plan {
    let (plan, _) = Mobula::default().plan(snapshot, &Memory::default());
    let errors: Vec<_> = lint(snapshot, &plan).into_iter().filter(|found| found.severity == Severity::Error).collect();
    assert_eq!(errors, [], "{plan:#?}");
    plan
}

/// `…; it takes 2 more replicas of a, 1 of b and 3 of c, or …`: groups and replicas.
fn advice(reason: &str) -> Vec<(String, u32)> {
    let Some((_, after)) = reason.split_once("; it takes ") else { return Vec::new() };
    let all = after.split(';').next().unwrap_or_default().split(", or ").next().unwrap_or_default();
    let pair = |part: &str| {
        let (count, group) = part.split_once(" of ")?;
        Some((group.to_owned(), count.split(' ').next()?.parse().ok()?))
    };
    all.split(", ").flat_map(|part| part.split(" and ")).filter_map(pair).collect()
}

/// Of each gang for which it is advised to have more replicas: the cluster with it alone and the advice followed.
fn followed(snapshot: &Snapshot, plan: &Plan) -> Vec<(String, Snapshot)> {
    let mut all = Vec::new();
    for unmet in &plan.unmet {
        let UnmetKind::Gang(gang) = &unmet.kind else { continue };
        let advice = advice(&unmet.reason);
        let is_suspended = |name: &str| snapshot.node_types.iter().any(|group| group.name == name && group.suspended);
        if advice.is_empty() || advice.iter().any(|(group, _)| is_suspended(group)) {
            continue;
        }
        let mut alone = snapshot.clone();
        alone.demand.clear();
        alone.gangs = vec![gang.clone()];
        for (name, more) in advice {
            let group = alone.node_types.iter_mut().find(|group| group.name == name);
            group.into_iter().for_each(|group| group.max_replicas += more);
        }
        all.push((unmet.reason.clone(), alone));
    }
    all
}

#[test]
fn advice_is_read_as_it_is_said() {
    let reason = "3 of 9 bundles find no place: …; it takes 2 more replicas of a, 1 of b and 30 of c, or that work which runs \
                  now has ended; nothing is started for a part of it";
    let pairs = [("a", 2), ("b", 1), ("c", 30)].map(|(group, more)| (group.to_owned(), more));
    assert_eq!(advice(reason), pairs);
    assert_eq!(advice("…; nothing is started for a part of it"), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_gang_for_which_the_advice_is_followed_is_served(snapshot in steady_snapshots()) {
        let mut snapshot = snapshot;
        // A higher maximum is no room in a quota.
        snapshot.quotas.clear();
        for group in &mut snapshot.node_types {
            let pods = snapshot.nodes.iter().filter(|node| *node.group == *group.name).count() as u32;
            group.max_replicas = group.max_replicas.max(pods.div_ceil(group.num_of_hosts));
        }
        let plan = plan_of(&snapshot);
        for (reason, alone) in followed(&snapshot, &plan) {
            let unmet = plan_of(&alone).unmet;
            prop_assert!(unmet.is_empty(), "{reason}\nbut then {unmet:#?}");
        }
    }
}
