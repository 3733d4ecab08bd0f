//! What holds of every plan of every policy, and what only `mobula` promises, on random snapshots.

mod given;

use std::sync::Arc;

use given::launches;
use given::random::{a_request, mixed_snapshots, near_snapshots, rich_snapshots, small_snapshots, steady_snapshots};
use mobula_planner::{
    DemandClass, DemandRef, Memory, NodePhase, Placement, Plan, Policy, PolicyOptions, Severity, Snapshot, Target,
    Unmet, UnmetKind, Violation, apply, idempotence, lint, monotonicity, policy, policy_names,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

/// Every policy that is found by name, as it decides within a tick and with work to improve.
fn policies() -> Vec<Arc<dyn Policy>> {
    let both = |name: &&str| [0, 3_000].map(|improve_work| named(name, improve_work));
    policy_names().iter().flat_map(both).collect()
}

fn mobula(improve_work: u64) -> Arc<dyn Policy> {
    named("mobula", improve_work)
}

#[allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
fn named(name: &str, improve_work: u64) -> Arc<dyn Policy> {
    policy(name, &PolicyOptions { improve_work, defragment: improve_work > 0, ..PolicyOptions::default() }).expect(name)
}

fn plan(policy: &dyn Policy, snapshot: &Snapshot) -> Plan {
    policy.plan(snapshot, &Memory::default()).0
}

/// What the linter finds, apart from replicas beyond a maximum that was lowered, which stay while they work, minima of groups
/// whose pods do not come, and domains in which minima launch more hosts than there can be.
fn violations(snapshot: &Snapshot, plan: &Plan) -> Vec<Violation> {
    let is_told = |found: &Violation| {
        found.severity == Severity::Warning && matches!(found.rule, "maximum" | "minimum" | "domain-size")
    };
    lint(snapshot, plan).into_iter().filter(|found| !is_told(found)).collect()
}

/// What is not served, whoever says so and why.
fn unmet(plan: &Plan) -> Vec<(String, u64)> {
    let name = |unmet: &Unmet| match &unmet.kind {
        UnmetKind::Task(request) => format!("{request:?}"),
        UnmetKind::Gang(gang) => gang.id.clone(),
        UnmetKind::Constraint(constraint) => format!("{constraint:?}"),
    };
    let mut names: Vec<_> = plan.unmet.iter().map(|unmet| (name(unmet), unmet.count)).collect();
    names.sort();
    names
}

/// What is placed on nodes that are there, by name.
fn places(snapshot: &Snapshot, plan: &Plan) -> Vec<(DemandRef, Arc<str>, u64)> {
    let on_node = |place: &Placement| match place.target {
        Target::Node(at) => Some((place.demand, snapshot.nodes[at as usize].instance_id.clone(), place.count)),
        Target::New { .. } => None,
    };
    let mut places: Vec<_> = plan.placements.iter().filter_map(on_node).collect();
    places.sort();
    places
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_plan_is_clean(snapshot in mixed_snapshots()) {
        for policy in policies() {
            let plan = plan(&*policy, &snapshot);
            prop_assert_eq!(violations(&snapshot, &plan), [], "{}", policy.name());
        }
    }

    #[test]
    fn the_same_input_gives_the_same_plan(snapshot in mixed_snapshots()) {
        for policy in policies() {
            let twice = [(); 2].map(|()| policy.plan(&snapshot, &Memory::default()));
            prop_assert_eq!(&twice[0], &twice[1], "{}", policy.name());
        }
    }

    #[test]
    fn mobula_says_of_every_gang_what_becomes_of_it(snapshot in mixed_snapshots()) {
        let plan = plan(&*mobula(0), &snapshot);
        let ids = |gangs: &[mobula_planner::Gang]| gangs.iter().map(|gang| gang.id.clone()).collect::<Vec<_>>();
        prop_assert_eq!(plan.gangs.iter().map(|gang| gang.id.clone()).collect::<Vec<_>>(), ids(&snapshot.gangs));
        // Whole or not at all is what the linter holds of gangs that are spoken of.
        prop_assert_eq!(violations(&snapshot, &plan), []);
    }

    /// That hosts are as near as groups require is what the linter holds of every gang that is served.
    #[test]
    fn mobula_keeps_gangs_as_near_as_groups_require(snapshot in near_snapshots()) {
        for policy in [mobula(0), mobula(3_000)] {
            prop_assert_eq!(violations(&snapshot, &plan(&*policy, &snapshot)), []);
        }
    }

    #[test]
    fn mobula_does_not_mind_the_order_of_tasks(snapshot in steady_snapshots(), turn in 0..9_usize) {
        let mut turned = snapshot.clone();
        let classes = turned.demand.len().max(1);
        turned.demand.rotate_left(turn % classes);
        for policy in [mobula(0), mobula(3_000)] {
            let (plan, other) = (plan(&*policy, &snapshot), plan(&*policy, &turned));
            prop_assert_eq!(launches(&plan), launches(&other));
            prop_assert_eq!(unmet(&plan), unmet(&other));
        }
    }

    #[test]
    fn mobula_does_not_mind_the_order_of_nodes(snapshot in steady_snapshots(), turn in 1..9_usize) {
        let mut turned = snapshot.clone();
        let nodes = turned.nodes.len().max(1);
        turned.nodes.rotate_left(turn % nodes);
        let (plan, other) = (plan(&*mobula(0), &snapshot), plan(&*mobula(0), &turned));
        prop_assert_eq!(launches(&plan), launches(&other));
        prop_assert_eq!(unmet(&plan), unmet(&other));
        prop_assert_eq!(places(&snapshot, &plan), places(&turned, &other));
    }

    #[test]
    fn mobula_does_not_take_from_some_to_give_to_others(
        snapshot in steady_snapshots(),
        request in a_request(),
        count in 1..20_u64,
    ) {
        let more = [DemandClass { request, count }];
        prop_assert_eq!(monotonicity(&*mobula(0), &snapshot, &Memory::default(), &more), []);
    }
}

/// The same random snapshots in every run.
fn drawn(seed: u64) -> Snapshot {
    drawn_from(&rich_snapshots(), seed)
}

#[allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
fn drawn_from(snapshots: &impl Strategy<Value = Snapshot>, seed: u64) -> Snapshot {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    snapshots.new_tree(&mut runner).expect("snapshots can be drawn").current()
}

/// A gang once took more than a quota left to two groups together.
#[test]
fn plans_that_were_once_wrong_are_clean() {
    let snapshot = drawn(2211);
    for policy in policies() {
        assert_eq!(violations(&snapshot, &plan(&*policy, &snapshot)), [], "{}", policy.name());
    }
}

/// Seeds with which plans were once not content. In the order of their numbers: CPU work of a gang took hosts with GPUs in one
/// zone though it could have hosts without in another; a gang fitted, the second time, on hosts that were launched for others,
/// and what it had before held tasks for which the maxima had left no place (2020); late pods were given up for the very pods
/// that were launched because nothing else could stand in for them (2323 and 2745); what was served in the second place was
/// not packed with the rest; a gang that has to be in one zone took, the second time, hosts of another zone, which had been
/// launched for tasks (3547).
const ONCE_RESTLESS: [u64; 6] = [1439, 2020, 2323, 2745, 3217, 3547];

/// Planning again, once a plan is carried out, changes nothing. Of the first 12,000 such snapshots, which are far more crowded
/// than clusters are, it still does on two (7653 and 9887): gangs without accelerators
/// take, at no cost, hosts with GPUs that are on their way, and the next tick takes others. To keep them off such hosts
/// altogether serves less there.
#[test]
fn mobula_is_content_with_what_it_launched() {
    let policy = mobula(0);
    let found = |seed: u64| (seed, idempotence(&*policy, &drawn(seed), &Memory::default()));
    let restless: Vec<_> = (0..600).chain(ONCE_RESTLESS).map(found).filter(|(_, found)| !found.is_empty()).collect();
    assert!(restless.is_empty(), "not content with seeds {restless:#?}");
}

/// The plan is carried out, and what it launches is in this phase then.
fn carried_out(snapshot: &Snapshot, plan: &Plan, phase: NodePhase) -> Snapshot {
    let mut next = apply(snapshot, plan);
    for node in next.nodes.iter_mut().skip(snapshot.nodes.len()) {
        node.phase = phase;
        node.ray_node_id = (phase == NodePhase::Running).then(|| format!("ray-{}", node.instance_id));
    }
    next
}

/// The same without prices, where GPU nodes are kept from work that needs none, and however far the nodes have come that were
/// launched: asked for only, on their way, or running.
#[test]
fn mobula_is_content_without_prices_whatever_has_come() {
    let (policy, snapshots) = (mobula(0), small_snapshots());
    for seed in 0..400 {
        let snapshot = drawn_from(&snapshots, seed);
        let (before, memory) = policy.plan(&snapshot, &Memory::default());
        for phase in [NodePhase::Requested, NodePhase::Pending, NodePhase::Running] {
            let (after, _) = policy.plan(&carried_out(&snapshot, &before, phase), &memory);
            assert_eq!(launches(&after), [], "seed {seed}, {phase:?}: {:?} was launched", launches(&before));
            assert_eq!(unmet(&after), unmet(&before), "seed {seed}, {phase:?}");
        }
    }
}
