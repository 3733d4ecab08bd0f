//! How `mobula` grows pods in place.

mod given;

use std::sync::Arc;

use given::*;
use mobula_planner::{
    Amount, Constraint, GangStrategy, LabelConstraint, LabelOperator, LabelSelector, Labels, Memory, Mobula, Node,
    NodeResize, NodeType, Plan, Policy, ResizeSpec, Severity, Snapshot, lint,
};

fn resizable() -> NodeType {
    let (max_cpu, max_memory) = (Amount::from_units(8), Amount::from_units(32));
    let (min_cpu, min_memory) = (Amount::from_units(4), Amount::from_units(16));
    let resize = Some(ResizeSpec { max_cpu, max_memory, min_cpu, min_memory, timeout_ms: 60_000 });
    NodeType { resize, ..group("cpu", &[("CPU", 4), ("memory", 16)]) }
}

fn resized_by(node: Node, resize: NodeResize) -> Node {
    Node { resize: Some(resize), ..node }
}

fn as_started() -> NodeResize {
    NodeResize { current_cpu: Amount::from_units(4), current_memory: Amount::from_units(16), ..NodeResize::default() }
}

fn plan_of(snapshot: &Snapshot) -> Plan {
    let plan = Mobula::default().plan(snapshot, &Memory::default()).0;
    let errors: Vec<_> = lint(snapshot, &plan).into_iter().filter(|v| v.severity == Severity::Error).collect();
    assert_eq!(errors, [], "{plan:#?}");
    plan
}

#[test]
fn a_running_pod_grows_before_another_is_launched() {
    let cpu = resizable();
    let mut snapshot = cluster(&[&cpu], vec![resized_by(busy(&cpu, "a"), as_started())]);
    snapshot.demand = vec![tasks(&[("CPU", 2)], 2)];
    let plan = plan_of(&snapshot);
    let sizes: Vec<_> = plan.resize.iter().map(|to| (to.instance_id.as_str(), to.cpu, to.memory)).collect();
    assert_eq!(sizes, [("a", Amount::from_units(8), Amount::from_units(32))]);
    assert_eq!((launches(&plan), plan.unmet.len()), (vec![], 0));
}

#[test]
fn what_is_beyond_the_growth_is_launched() {
    let cpu = resizable();
    let mut snapshot = cluster(&[&cpu], vec![resized_by(busy(&cpu, "a"), as_started())]);
    snapshot.demand = vec![tasks(&[("CPU", 2)], 3)];
    let plan = plan_of(&snapshot);
    assert_eq!((plan.resize.len(), launches(&plan)), (1, vec![("cpu", 1)]));
}

#[test]
fn a_gang_makes_pods_grow_before_another_is_launched() {
    let cpu = resizable();
    let pods = ["a", "b"].map(|name| resized_by(busy(&cpu, name), as_started()));
    let mut snapshot = cluster(&[&cpu], pods.into());
    let gangs = |bundles| vec![gang("aa", GangStrategy::StrictSpread, &[("CPU", 2)], bundles)];
    snapshot.gangs = gangs(2);
    let plan = plan_of(&snapshot);
    assert_eq!((plan.resize.len(), launches(&plan), plan.gangs[0].present_hosts), (2, vec![], 2));

    snapshot.gangs = gangs(3);
    let plan = plan_of(&snapshot);
    assert_eq!((plan.resize.len(), launches(&plan), plan.gangs[0].present_hosts), (2, vec![("cpu", 1)], 2));

    // A gang that can't be whole makes nothing grow.
    snapshot.node_types[0].max_replicas = 2;
    let plan = plan_of(&snapshot);
    assert_eq!((plan.resize.len(), launches(&plan), plan.unmet.len()), (0, vec![], 1));
}

#[test]
fn a_request_above_the_template_gets_one_pod_which_grows_once_it_runs() {
    let cpu = resizable();
    let mut snapshot = cluster(&[&cpu], vec![]);
    snapshot.demand = vec![tasks(&[("CPU", 7)], 1)];
    assert_eq!(launches(&plan_of(&snapshot)), [("cpu", 1)]);

    snapshot = cluster(&[&cpu], vec![resized_by(pending(&cpu, "a"), as_started())]);
    snapshot.demand = vec![tasks(&[("CPU", 7)], 1)];
    let waiting = plan_of(&snapshot);
    assert_eq!((launches(&waiting), waiting.resize.len()), (vec![], 0), "the pod on its way is enough");

    snapshot.nodes = vec![resized_by(free(&cpu, "a"), as_started())].into();
    assert_eq!(plan_of(&snapshot).resize.len(), 1);
}

#[test]
fn a_resize_under_way_is_not_asked_for_again_and_one_that_failed_is_not_tried_again() {
    let cpu = resizable();
    let (desired_cpu, desired_memory) = (Some(Amount::from_units(8)), Some(Amount::from_units(32)));
    let under_way = NodeResize { in_progress: true, desired_cpu, desired_memory, ..as_started() };
    let mut snapshot = cluster(&[&cpu], vec![resized_by(busy(&cpu, "a"), under_way)]);
    snapshot.demand = vec![tasks(&[("CPU", 4)], 1)];
    let plan = plan_of(&snapshot);
    assert_eq!((launches(&plan), plan.resize.len()), (vec![], 0));

    snapshot.nodes = vec![resized_by(busy(&cpu, "a"), NodeResize { failed: true, ..as_started() })].into();
    let plan = plan_of(&snapshot);
    assert_eq!((launches(&plan), plan.resize.len()), (vec![("cpu", 1)], 0));
}

/// `request_resources` is measured by the empty cluster: what pods grow by, or will grow by, is part of that.
#[test]
fn what_pods_grow_by_counts_for_request_resources_at_every_step() {
    let cpu = resizable();
    let asked = |calls: i64| (0..calls).map(|_| Constraint { requests: vec![tasks(&[("CPU", 7)], 1)] }).collect();
    let under_way = NodeResize { in_progress: true, desired_cpu: Some(Amount::from_units(8)), ..as_started() };
    let eight = NodeType { resources: resources(&[("CPU", 8), ("memory", 16)]), ..cpu.clone() };
    let steps = [
        (resized_by(pending(&cpu, "a"), as_started()), 0),
        (resized_by(free(&cpu, "a"), as_started()), 1),
        (resized_by(busy(&cpu, "a"), as_started()), 1),
        (resized_by(free(&cpu, "a"), under_way.clone()), 0),
        (resized_by(busy(&cpu, "a"), under_way), 0),
        (resized_by(free(&eight, "a"), NodeResize { current_cpu: Amount::from_units(8), ..as_started() }), 0),
    ];
    for (number, (pod, resizes)) in steps.into_iter().enumerate() {
        let mut snapshot = cluster(&[&cpu], vec![pod]);
        for calls in 1..3 {
            // Each call is for the whole cluster: two of them ask for no more than one.
            snapshot.constraints = asked(calls);
            let plan = plan_of(&snapshot);
            assert_eq!((launches(&plan), plan.resize.len()), (vec![], resizes), "step {number}, {calls} calls");
        }
    }
}

#[test]
fn of_pods_that_could_grow_those_that_labels_prefer_come_first() {
    let cpu = resizable();
    let zoned = |name: &str, zone: &str| {
        let labels = Arc::new(Labels::from([("zone".to_owned(), zone.to_owned())]));
        Node { labels, ..resized_by(busy(&cpu, name), as_started()) }
    };
    let mut snapshot = cluster(&[&cpu], vec![zoned("a", "second"), zoned("b", "first"), zoned("c", "third")]);
    snapshot.gangs = vec![gang("aa", GangStrategy::Pack, &[("CPU", 4)], 1)];
    let zone = |zone: &str| LabelSelector {
        constraints: vec![LabelConstraint {
            key: "zone".into(),
            operator: LabelOperator::In,
            values: vec![zone.into()],
        }],
    };
    snapshot.gangs[0].bundles[0].selectors = vec![zone("first"), zone("second")];
    let plan = plan_of(&snapshot);
    let grown: Vec<&str> = plan.resize.iter().map(|to| to.instance_id.as_str()).collect();
    assert_eq!((grown, launches(&plan)), (vec!["b"], vec![]));
}
