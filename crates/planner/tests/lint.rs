//! Every invariant is noticed when it is broken.

mod given;

use given::*;
use mobula_planner::{
    Amount, DrainKind, Launch, MAX_LAUNCHES, Node, NodePhase, NodeResize, NodeType, Plan, Policy, RayV2, Resize,
    ResizeSpec, Severity, Snapshot, Terminate, TerminateCause, Unmet, UnmetCause, UnmetKind, lint,
};

/// One idle node that goes, one that works, one pending replica of two hosts, and a task for a new node.
fn observed() -> Snapshot {
    let cpu = NodeType { min_replicas: 1, max_replicas: 3, ..group("cpu", &[("CPU", 4)]) };
    let gpu = group("gpu", &[("GPU", 8)]);
    let pair = NodeType { num_of_hosts: 2, ..group("pair", &[("TPU", 4)]) };
    let head = NodeType { is_head: true, ..group("headgroup", &[("CPU", 1)]) };
    let mut snapshot = cluster(
        &[&head, &cpu, &gpu, &pair],
        vec![
            Node { is_head: true, ..busy(&head, "head") },
            idle(free(&cpu, "idle"), 100),
            busy(&cpu, "works"),
            of_replica(pending(&pair, "pair-0"), "pair"),
            of_replica(pending(&pair, "pair-1"), "pair"),
            Node { phase: NodePhase::Leaving, ..busy(&cpu, "leaving") },
        ],
    );
    snapshot.demand = vec![tasks(&[("GPU", 8)], 1)];
    snapshot
}

/// The rules that a plan breaks after `spoil`; before, it breaks none.
fn broken(spoil: impl FnOnce(&mut Plan)) -> Vec<&'static str> {
    let snapshot = observed();
    let (mut plan, _) = RayV2.plan(&snapshot, &Default::default());
    assert_eq!((launches(&plan), ends(&plan)), (vec![("gpu", 1)], vec!["idle"]));
    assert_eq!(lint(&snapshot, &plan), []);
    spoil(&mut plan);
    let violations = lint(&snapshot, &plan);
    violations.iter().filter(|found| found.severity == Severity::Error).map(|found| found.rule).collect()
}

fn desired(plan: &mut Plan, group: &str, replicas: u32) {
    plan.groups.entry(group.into()).or_default().desired = replicas;
}

fn end(instance: &str, group: &str, cause: TerminateCause, drain: DrainKind) -> Terminate {
    let ran = drain != DrainKind::NotNeeded;
    Terminate {
        group: group.into(),
        instance_id: instance.into(),
        ray_node_id: ran.then(|| format!("ray-{instance}")),
        replica: (group == "pair").then(|| "pair".into()),
        cause,
        reason: "a test".into(),
        drain,
    }
}

#[test]
fn counts_of_groups() {
    assert_eq!(broken(|plan| desired(plan, "cpu", 0)), ["desired-covers-kept", "minimum"]);
    assert_eq!(broken(|plan| desired(plan, "cpu", 4)), ["maximum"]);
    assert_eq!(broken(|plan| desired(plan, "gpu", 0)), ["launch-arithmetic"]);
    assert_eq!(broken(|plan| plan.groups.entry("cpu".into()).or_default().max = 9), ["group-as-observed"]);
    assert_eq!(broken(|plan| plan.groups.retain(|group, _| group != "cpu")), ["group-planned"]);
    assert_eq!(broken(|plan| desired(plan, "new", 1)), ["group-exists"]);
}

#[test]
fn launches_of_groups() {
    let more = |group: &str| Launch { group: group.into(), replicas: 1, reason: "a test".into() };
    assert_eq!(broken(|plan| plan.launch.push(more("gpu"))), ["launch-once"]);
    assert_eq!(broken(|plan| plan.launch.push(more("nowhere"))), ["launch-group-exists"]);
    let both = broken(|plan| {
        desired(plan, "cpu", 3);
        plan.launch.push(more("cpu"));
    });
    assert_eq!(both, ["launch-or-end"]);
}

#[test]
fn more_launches_than_a_plan_may_hold() {
    let most = MAX_LAUNCHES as u32;
    let with = |replicas| {
        broken(|plan| {
            plan.groups.entry("gpu".into()).or_default().desired = replicas;
            plan.launch[0].replicas = replicas;
        })
    };
    // The maximum of the group is broken in any case.
    assert_eq!(with(most), ["maximum"]);
    assert_eq!(with(most + 1), ["maximum", "launch-limit"]);
}

#[test]
fn a_minimum_that_no_plan_reaches() {
    let rules = |min| {
        let cpu = NodeType { min_replicas: min, max_replicas: u32::MAX, ..group("cpu", &[("CPU", 4)]) };
        let mut snapshot = cluster(&[&cpu], vec![]);
        let (mut plan, _) = RayV2.plan(&snapshot, &Default::default());
        snapshot.node_types[0].requested_replicas = 0;
        plan.groups.entry("cpu".into()).or_default().requested = 0;
        desired(&mut plan, "cpu", 19_000);
        lint(&snapshot, &plan).iter().map(|found| found.rule).collect::<Vec<_>>()
    };
    assert_eq!(rules(20_000), ["minimum"]);
    assert_eq!(rules(20_001), Vec::<&str>::new());
}

#[test]
fn ends_of_nodes() {
    use DrainKind::{IfIdle, NotNeeded, Stop};
    use TerminateCause::{AllocationTimeout, Idle, MaxPerGroup};
    let rules = |instance, group, cause, drain| {
        broken(|plan| {
            desired(plan, "cpu", 1);
            plan.terminate.push(end(instance, group, cause, drain));
        })
    };
    assert_eq!(rules("idle", "cpu", Idle, IfIdle), ["end-once"]);
    assert_eq!(rules("works", "cpu", Idle, IfIdle), ["end-idle"]);
    assert_eq!(rules("works", "cpu", Idle, Stop), ["end-drain", "end-idle"]);
    assert_eq!(rules("works", "cpu", MaxPerGroup, Stop), Vec::<&str>::new());
    assert_eq!(rules("head", "headgroup", MaxPerGroup, Stop), ["end-no-head"]);
    assert_eq!(rules("nobody", "cpu", MaxPerGroup, Stop), ["end-exists"]);
    assert_eq!(rules("leaving", "cpu", MaxPerGroup, IfIdle), ["end-exists", "end-drain"]);
    assert_eq!(rules("works", "gpu", MaxPerGroup, Stop), ["launch-or-end", "end-as-observed"]);
    assert_eq!(rules("pair-0", "pair", AllocationTimeout, NotNeeded), ["whole-replicas"]);
}

#[test]
fn a_resize_of_what_can_t_be_resized() {
    let resize = Resize {
        instance_id: "works".into(),
        ray_node_id: None,
        group: "cpu".into(),
        cpu: Default::default(),
        memory: Default::default(),
    };
    assert_eq!(broken(|plan| plan.resize.push(resize)), ["resize-exists"]);
}

#[test]
fn a_resize_beyond_what_is_possible_now() {
    let rules = |cpu: i64, in_progress: bool| {
        let bounds = ResizeSpec { max_cpu: Amount::from_units(8), ..ResizeSpec::default() };
        let cpu_group = NodeType { resize: Some(bounds), ..group("cpu", &[("CPU", 4)]) };
        let resize = NodeResize { current_cpu: Amount::from_units(4), in_progress, ..NodeResize::default() };
        let snapshot = cluster(&[&cpu_group], vec![Node { resize: Some(resize), ..busy(&cpu_group, "works") }]);
        let (mut plan, _) = RayV2.plan(&snapshot, &Default::default());
        plan.resize.push(Resize {
            instance_id: "works".into(),
            ray_node_id: None,
            group: "cpu".into(),
            cpu: Amount::from_units(cpu),
            memory: Amount::ZERO,
        });
        lint(&snapshot, &plan).iter().map(|found| found.rule).collect::<Vec<_>>()
    };
    assert_eq!(
        (rules(8, false), rules(9, false), rules(8, true)),
        (vec![], vec!["resize-possible"], vec!["resize-possible"])
    );
}

#[test]
fn a_suspended_group_is_left_as_it_is() {
    let mut snapshot = observed();
    let (plan, _) = RayV2.plan(&snapshot, &Default::default());
    for group in snapshot.node_types.iter_mut().filter(|group| group.name == "gpu") {
        group.suspended = true;
    }
    let rules: Vec<_> = lint(&snapshot, &plan).iter().map(|found| found.rule).collect();
    assert_eq!(rules, ["suspended", "suspended"]);
}

#[test]
fn what_is_unmet_has_a_reason() {
    let snapshot = observed();
    let (mut plan, _) = RayV2.plan(&snapshot, &Default::default());
    let kind = UnmetKind::Task(request(&[("GPU", 8)]));
    plan.unmet.push(Unmet { kind, count: 1, cause: UnmetCause::Limit, reason: String::new() });
    let found = lint(&snapshot, &plan);
    assert_eq!(
        found.iter().map(|found| (found.rule, found.severity)).collect::<Vec<_>>(),
        [("unmet-reason", Severity::Warning)]
    );
}

#[test]
fn unmet_demand_that_nobody_asked_for() {
    let unmet = |request, count| Unmet {
        kind: UnmetKind::Task(request),
        count,
        cause: UnmetCause::Limit,
        reason: "a test".into(),
    };
    assert_eq!(broken(|plan| plan.unmet.push(unmet(request(&[("GPU", 8)]), 1))), Vec::<&str>::new());
    assert_eq!(broken(|plan| plan.unmet.push(unmet(request(&[("GPU", 8)]), 2))), ["unmet-asked"]);
    assert_eq!(broken(|plan| plan.unmet.push(unmet(request(&[("GPU", 4)]), 1))), ["unmet-asked"]);
}

#[test]
fn more_than_the_cluster_may_have() {
    let mut snapshot = observed();
    let (plan, _) = RayV2.plan(&snapshot, &Default::default());
    snapshot.settings.max_nodes = Some(4);
    let rules: Vec<_> = lint(&snapshot, &plan).iter().map(|found| found.rule).collect();
    assert_eq!(rules, ["cluster-maximum"]);
}
