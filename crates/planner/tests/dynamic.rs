//! What follows from a plan that is carried out, and from more demand.

mod given;

use given::*;
use mobula_planner::{
    Amount, Cost, GangPlan, GangStrategy, GroupPlan, Launch, Memory, NodePhase, NodeType, Plan, Policy, Quota, RayV2,
    Resources, Snapshot, TerminateCause, Unmet, UnmetCause, UnmetKind, apply, idempotence, monotonicity,
};

/// Says what it is told to, by the tasks that are asked for.
struct Scripted<F: Fn(&Snapshot) -> Plan + Send + Sync>(F);

impl<F: Fn(&Snapshot) -> Plan + Send + Sync> Policy for Scripted<F> {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn plan(&self, snapshot: &Snapshot, memory: &Memory) -> (Plan, Memory) {
        ((self.0)(snapshot), memory.clone())
    }
}

fn rules(violations: &[mobula_planner::Violation]) -> Vec<&'static str> {
    violations.iter().map(|found| found.rule).collect()
}

#[test]
fn a_plan_that_is_carried_out() {
    let cpu = group("cpu", &[("CPU", 4)]);
    let mut pair = NodeType { num_of_hosts: 2, ..group("pair", &[("TPU", 4)]) };
    pair.facts.expected_labels.insert("ray.io/node-group".into(), "pair".into());
    let mut snapshot = cluster(&[&cpu, &pair], vec![idle(free(&cpu, "old"), 100), busy(&cpu, "works")]);
    snapshot.demand = vec![tasks(&[("TPU", 4)], 3)];
    let free = Resources::from([("pods".to_owned(), Amount::from_units(5))]);
    snapshot.quotas = vec![Quota { source: "file".into(), groups: vec![], free }];
    let plan = plan(&snapshot);
    assert_eq!((launches(&plan), ends(&plan)), (vec![("pair", 2)], vec!["old"]));

    let next = apply(&snapshot, &plan);
    let names: Vec<&str> = next.nodes.iter().map(|node| &*node.instance_id).collect();
    let launched = ["pair/launched-1-0", "pair/launched-1-1", "pair/launched-2-0", "pair/launched-2-1"];
    assert_eq!(names, [&["works"], &launched[..]].concat());
    assert_eq!(next.node_types.iter().map(|group| group.requested_replicas).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(next.quotas[0].free["pods"], Amount::from_units(1));
    let pod = &next.nodes[1];
    assert_eq!((pod.phase, pod.replica.as_deref()), (NodePhase::Pending, Some("pair/launched-1")));
    assert_eq!((&pod.available, pod.labels["ray.io/node-group"].as_str()), (&pair.resources, "pair"));
    assert_eq!(given::plan(&next).launch, []);
}

#[test]
fn pods_that_are_not_wanted_any_more_are_not_made() {
    let cpu = group("cpu", &[("CPU", 4)]);
    let snapshot = cluster(&[&cpu], vec![busy(&cpu, "a"), requested(&cpu, 0), requested(&cpu, 1)]);
    let mut plan = plan(&snapshot);
    plan.groups.entry("cpu".into()).or_default().desired = 2;
    let next = apply(&snapshot, &plan);
    let names: Vec<&str> = next.nodes.iter().map(|node| &*node.instance_id).collect();
    assert_eq!(names, ["a", "cpu/requested-0"]);
}

#[test]
fn ray_v2_is_content_with_what_it_launched() {
    let cpu = group("cpu", &[("CPU", 4)]);
    let mut snapshot = cluster(&[&cpu], vec![]);
    snapshot.demand = vec![tasks(&[("CPU", 1)], 7)];
    assert_eq!(idempotence(&RayV2, &snapshot, &Memory::default()), []);
}

/// One more of the only group, whatever is there.
fn one_more(snapshot: &Snapshot) -> Plan {
    let group = &snapshot.node_types[0];
    let requested = group.requested_replicas;
    let planned = GroupPlan { requested, desired: requested + 1, ..GroupPlan::default() };
    Plan {
        groups: [(group.name.clone(), planned)].into(),
        launch: vec![Launch { group: group.name.clone(), replicas: 1, reason: "a test".into() }],
        ..Plan::default()
    }
}

#[test]
fn a_policy_that_is_never_content() {
    let cpu = group("cpu", &[("CPU", 4)]);
    let mut snapshot = cluster(&[&cpu], vec![]);
    assert_eq!(rules(&idempotence(&Scripted(one_more), &snapshot, &Memory::default())), ["idempotence"]);
    // A limit on pods on their way is a reason to launch later.
    snapshot.settings.max_in_flight = Some(1);
    assert_eq!(idempotence(&Scripted(one_more), &snapshot, &Memory::default()), []);
}

#[test]
fn a_policy_that_ends_what_it_launched() {
    let cpu = group("cpu", &[("CPU", 4)]);
    let fickle = Scripted(|snapshot| match snapshot.nodes.first() {
        None => one_more(snapshot),
        Some(node) => {
            let idle = NodeType { idle_timeout_ms: Some(1), ..group("cpu", &[("CPU", 4)]) };
            let mut plan = plan(&cluster(&[&idle], vec![given::idle(free(&idle, "x"), 100)]));
            plan.terminate[0].instance_id = node.instance_id.to_string();
            assert_eq!(plan.terminate[0].cause, TerminateCause::Idle);
            plan
        }
    });
    assert_eq!(rules(&idempotence(&fickle, &cluster(&[&cpu], vec![]), &Memory::default())), ["idempotence"]);
}

fn grown(small: Plan, large: Plan) -> Vec<&'static str> {
    let mut snapshot = cluster(&[&group("cpu", &[("CPU", 4)])], vec![]);
    snapshot.demand = vec![tasks(&[("CPU", 1)], 1)];
    snapshot.gangs = vec![gang("aa", GangStrategy::Pack, &[("CPU", 1)], 2)];
    let policy = Scripted(move |snapshot| if snapshot.demand.len() == 1 { small.clone() } else { large.clone() });
    rules(&monotonicity(&policy, &snapshot, &Memory::default(), &[tasks(&[("CPU", 2)], 1)]))
}

#[test]
fn more_tasks_push_out_a_gang() {
    let with_gang = |served| Plan { gangs: vec![GangPlan { served, ..GangPlan::default() }], ..Plan::default() };
    assert_eq!(grown(with_gang(true), with_gang(false)), ["monotonicity"]);
    assert_eq!(grown(with_gang(true), with_gang(true)), Vec::<&str>::new());
    assert_eq!(grown(with_gang(false), with_gang(false)), Vec::<&str>::new());
}

#[test]
fn more_tasks_make_others_impossible() {
    let with_unmet = |cpu| {
        let kind = UnmetKind::Task(request(&[("CPU", cpu)]));
        let unmet = Unmet { kind, count: 1, cause: UnmetCause::NeverFits, reason: "a test".into() };
        Plan { unmet: vec![unmet], ..Plan::default() }
    };
    assert_eq!(grown(Plan::default(), with_unmet(1)), ["monotonicity"]);
    assert_eq!(grown(with_unmet(1), with_unmet(1)), Vec::<&str>::new());
    assert_eq!(grown(Plan::default(), with_unmet(2)), Vec::<&str>::new());
}

#[test]
fn more_for_less_than_was_proven() {
    let costs = |launched_per_hour, bound, is_proven| {
        let lower_bound_per_hour = Some(bound);
        let cost = Cost { is_priced: true, launched_per_hour, lower_bound_per_hour, is_proven, ..Cost::default() };
        Plan { cost: Some(cost), ..Plan::default() }
    };
    assert_eq!(grown(costs(10.0, 10.0, true), costs(9.0, 9.0, true)), ["monotonicity"]);
    assert_eq!(grown(costs(12.0, 9.0, true), costs(9.0, 9.0, true)), Vec::<&str>::new());
    assert_eq!(grown(costs(10.0, 10.0, false), costs(9.0, 9.0, true)), Vec::<&str>::new());
}
