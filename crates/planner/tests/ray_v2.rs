//! What `ray-v2` decides beyond what Ray's own scheduler does: whole replicas, rates, limits, failures, reasons.

mod given;

use std::sync::Arc;

use given::*;
use mobula_planner::{
    Constraint, DrainKind, GangStrategy, LabelConstraint, LabelOperator, LabelSelector, MAX_LAUNCHES, Memory, Node,
    NodePhase, NodeType, TerminateCause, UnmetCause, UpscalingMode,
};

fn slice() -> NodeType {
    NodeType { num_of_hosts: 4, ..group("tpu", &[("CPU", 8), ("TPU", 4)]) }
}

fn replica(group: &NodeType, name: &str, make: fn(&NodeType, &str) -> Node) -> Vec<Node> {
    (0..group.num_of_hosts).map(|host| of_replica(make(group, &format!("{name}-{host}")), name)).collect()
}

#[test]
fn forty_at_once() {
    let cpu = NodeType { max_replicas: 100, ..group("cpu", &[("CPU", 4)]) };
    let mut snapshot = cluster(&[&cpu], vec![]);
    snapshot.demand = vec![tasks(&[("CPU", 1)], 160)];
    let plan = plan(&snapshot);
    assert_eq!(launches(&plan), [("cpu", 40)]);
    assert_eq!(plan.groups["cpu"].desired, 40);
    assert_eq!(reasons(&plan, "group cpu"), ["40 more replicas, for 160 tasks or actors"]);
    assert_eq!(reasons(&plan, "demand {CPU: 1} x 160"), ["160 fit on new nodes of cpu"]);
}

#[test]
fn launches_whole_replicas() {
    let tpu = slice();
    let mut snapshot = cluster(&[&tpu], vec![]);
    snapshot.demand = vec![tasks(&[("TPU", 4)], 5)];
    assert_eq!(launches(&plan(&snapshot)), [("tpu", 2)]);
}

#[test]
fn the_rest_of_a_replica_is_used_before_another_group() {
    let tpu = slice();
    // Alone, the smaller node is the better place for a small task.
    let cpu = group("cpu", &[("CPU", 2)]);
    let mut snapshot = cluster(&[&tpu, &cpu], vec![]);
    snapshot.demand = vec![tasks(&[("TPU", 4)], 1), tasks(&[("CPU", 2)], 3)];
    assert_eq!(launches(&plan(&snapshot)), [("tpu", 1)]);
}

#[test]
fn no_more_whole_replicas_than_the_maximum() {
    let tpu = NodeType { max_replicas: 1, ..slice() };
    let mut snapshot = cluster(&[&tpu], vec![]);
    snapshot.demand = vec![tasks(&[("TPU", 4)], 9)];
    let plan = plan(&snapshot);
    assert_eq!(launches(&plan), [("tpu", 1)]);
    assert_eq!((only_unmet(&plan).count, only_unmet(&plan).cause), (5, UnmetCause::Limit));
}

#[test]
fn an_idle_replica_goes_as_a_whole() {
    let tpu = slice();
    let nodes = [replica(&tpu, "a", free), replica(&tpu, "b", free)].concat();
    let mut snapshot = cluster(&[&tpu], nodes.into_iter().map(|node| idle(node, 100)).collect());
    snapshot.nodes[5].idle_ms = None;
    let plan = plan(&snapshot);
    assert_eq!(ends(&plan), ["a-0", "a-1", "a-2", "a-3"]);
    assert!(plan.terminate.iter().all(|end| end.drain == DrainKind::IfIdle && end.replica.as_deref() == Some("a")));
    assert_eq!(plan.groups["tpu"].desired, 1);
    let why = "idle for 100 s, but stays: other pods of its replica are needed or not idle";
    assert_eq!(reasons(&plan, "node b-0"), [why]);
}

#[test]
fn a_replica_that_still_misses_pods_is_one_replica() {
    let tpu = slice();
    let mut nodes = replica(&tpu, "a", pending);
    nodes.truncate(2);
    nodes.extend([requested(&tpu, 0), requested(&tpu, 1)]);
    let snapshot = cluster(&[&tpu], nodes);
    let plan = plan(&snapshot);
    assert_eq!((plan.groups["tpu"].current, plan.groups["tpu"].desired), (1, 1));
    assert_eq!(launches(&plan), []);
}

#[test]
fn what_is_requested_is_on_its_way() {
    let cpu = group("cpu", &[("CPU", 4)]);
    let mut snapshot = cluster(&[&cpu], vec![requested(&cpu, 0), requested(&cpu, 1)]);
    snapshot.demand = vec![tasks(&[("CPU", 4)], 3)];
    let plan = plan(&snapshot);
    assert_eq!(launches(&plan), [("cpu", 1)]);
    let counts = &plan.groups["cpu"];
    assert_eq!((counts.current, counts.requested, counts.desired), (0, 2, 3));
    let text = "2 fit on nodes that are on their way and 1 on new nodes of cpu";
    assert_eq!(reasons(&plan, "demand {CPU: 4} x 3"), [text]);
}

#[test]
fn conservative_grows_by_as_much_as_runs() {
    let cpu = NodeType { max_replicas: 20, ..group("cpu", &[("CPU", 4)]) };
    let launched = |nodes: Vec<Node>| {
        let mut snapshot = cluster(&[&cpu], nodes);
        snapshot.settings.upscaling_mode = UpscalingMode::Conservative;
        snapshot.demand = vec![tasks(&[("CPU", 4)], 8)];
        let plan = plan(&snapshot);
        assert!(plan.unmet.iter().all(|unmet| unmet.cause == UnmetCause::Waiting), "{:?}", plan.unmet);
        plan.groups["cpu"].desired
    };
    assert_eq!(launched(vec![]), 1);
    assert_eq!(launched(vec![pending(&cpu, "a")]), 1);
    assert_eq!(launched(vec![busy(&cpu, "a")]), 2);
    assert_eq!(launched((0..3).map(|at| busy(&cpu, &format!("{at}"))).collect()), 6);
    assert_eq!(launched(vec![busy(&cpu, "a"), busy(&cpu, "b"), pending(&cpu, "c")]), 4);
}

#[test]
fn so_many_in_flight() {
    let (cpu, tpu) = (group("cpu", &[("CPU", 16)]), slice());
    let mut snapshot = cluster(&[&cpu, &tpu], vec![pending(&cpu, "a")]);
    snapshot.settings.max_in_flight = Some(3);
    snapshot.demand = vec![tasks(&[("CPU", 16)], 5), tasks(&[("TPU", 4)], 1)];
    let first = plan(&snapshot);
    assert_eq!(launches(&first), [("cpu", 2)]);
    assert!(first.unmet.iter().all(|unmet| unmet.cause == UnmetCause::Waiting));
    assert_eq!(first.unmet.iter().map(|unmet| unmet.count).sum::<u64>(), 3);

    snapshot.nodes.clear();
    snapshot.node_types[0].requested_replicas = 0;
    snapshot.demand.remove(0);
    assert_eq!(launches(&plan(&snapshot)), [("tpu", 1)], "a replica above the limit comes alone");
}

#[test]
fn a_suspended_group_is_left_alone() {
    let gpu = NodeType { suspended: true, requested_replicas: 2, min_replicas: 1, ..group("gpu", &[("GPU", 8)]) };
    let mut snapshot = cluster(&[&gpu], vec![idle(free(&gpu, "a"), 1000), busy(&gpu, "b")]);
    snapshot.demand = vec![tasks(&[("GPU", 1)], 1)];
    let plan = plan(&snapshot);
    assert_eq!((launches(&plan), ends(&plan)), (vec![], vec![]));
    assert_eq!(plan.groups["gpu"].desired, 2);
    assert_eq!(only_unmet(&plan).cause, UnmetCause::Limit);
    assert_eq!(only_unmet(&plan).reason, "group gpu could hold it, but is suspended");
}

#[test]
fn a_leaving_node_is_no_capacity() {
    let cpu = group("cpu", &[("CPU", 4)]);
    let leaving = Node { phase: NodePhase::Leaving, ..idle(free(&cpu, "a"), 100) };
    let mut snapshot = cluster(&[&cpu], vec![leaving]);
    snapshot.demand = vec![tasks(&[("CPU", 4)], 1)];
    let plan = plan(&snapshot);
    assert_eq!((launches(&plan), ends(&plan)), (vec![("cpu", 1)], vec![]));
    assert_eq!((plan.groups["cpu"].current, plan.groups["cpu"].desired), (0, 1));
}

#[test]
fn an_unmanaged_node_is_capacity_and_stays() {
    let cpu = group("cpu", &[("CPU", 4)]);
    let stranger = Node { group: "by-hand".into(), ..idle(free(&cpu, ""), 1000) };
    let mut snapshot = cluster(&[&cpu], vec![stranger]);
    assert_eq!(ends(&plan(&snapshot)), Vec::<&str>::new());
    snapshot.demand = vec![tasks(&[("CPU", 1)], 4)];
    assert_eq!(launches(&plan(&snapshot)), []);
}

#[test]
fn the_head_stays() {
    let head = NodeType { is_head: true, ..group("headgroup", &[("CPU", 2)]) };
    let node = Node { is_head: true, ..idle(free(&head, "head"), 1000) };
    let mut snapshot = cluster(&[&head], vec![node]);
    snapshot.demand = vec![tasks(&[("CPU", 2)], 2)];
    let plan = plan(&snapshot);
    assert_eq!((launches(&plan), ends(&plan)), (vec![], vec![]));
    assert!(!plan.groups.contains_key("headgroup"));
    let unmet = only_unmet(&plan);
    assert_eq!((unmet.count, unmet.cause), (1, UnmetCause::Waiting));
}

#[test]
fn above_the_maximum() {
    let cpu = NodeType { max_replicas: 1, ..group("cpu", &[("CPU", 4)]) };
    let snapshot = cluster(&[&cpu], vec![busy(&cpu, "a"), idle(free(&cpu, "b"), 1), pending(&cpu, "c")]);
    let plan = plan(&snapshot);
    assert_eq!(ends(&plan), ["b", "c"]);
    assert_eq!(plan.terminate[0].drain, DrainKind::Stop);
    assert_eq!(plan.terminate[1].drain, DrainKind::NotNeeded);
    assert!(plan.terminate.iter().all(|end| end.cause == TerminateCause::MaxPerGroup));
    assert_eq!(plan.groups["cpu"].desired, 1);
}

#[test]
fn idle_nodes_that_stay_say_why() {
    let cpu = NodeType { min_replicas: 1, ..group("cpu", &[("CPU", 4)]) };
    let gpu = group("gpu", &[("CPU", 8), ("GPU", 8)]);
    let nodes = vec![idle(free(&cpu, "floor"), 90), idle(free(&gpu, "work"), 90), idle(free(&gpu, "wanted"), 90)];
    let mut snapshot = cluster(&[&cpu, &gpu], nodes);
    snapshot.demand = vec![tasks(&[("GPU", 8)], 1)];
    snapshot.constraints = vec![Constraint { requests: vec![tasks(&[("GPU", 8)], 2)] }];
    let plan = plan(&snapshot);
    assert_eq!(ends(&plan), Vec::<&str>::new());
    assert_eq!(reasons(&plan, "node floor"), ["idle for 90 s, but stays: its group keeps at least 1 replica"]);
    assert_eq!(reasons(&plan, "node work"), ["idle for 90 s, but stays: pending work fits on it"]);
    assert_eq!(reasons(&plan, "node wanted"), ["idle for 90 s, but stays: request_resources needs it"]);
}

#[test]
fn an_idle_node_stays_while_its_group_grows() {
    let gpu = group("gpu", &[("GPU", 8), ("memory", 64 << 30)]);
    // A started node offers less memory than its group promises: the task does not fit there.
    let smaller = Node { total: resources(&[("GPU", 8)]), ..idle(free(&gpu, "small"), 100) };
    let mut snapshot = cluster(&[&gpu], vec![Node { available: smaller.total.clone(), ..smaller }]);
    snapshot.demand = vec![tasks(&[("memory", 64 << 30)], 1)];
    let plan = plan(&snapshot);
    assert_eq!((launches(&plan), ends(&plan)), (vec![("gpu", 1)], vec![]));
    assert_eq!(plan.groups["gpu"].desired, 2);
    let why = "idle for 100 s, but stays: its group gets new nodes in the same plan";
    assert_eq!(reasons(&plan, "node small"), [why]);
}

#[test]
fn what_can_never_fit_names_the_nearest_group() {
    let cpu = group("cpu", &[("CPU", 4)]);
    let gpu = NodeType { max_replicas: 0, ..group("gpu", &[("CPU", 8), ("GPU", 8)]) };
    let mut snapshot = cluster(&[&cpu, &gpu], vec![]);
    snapshot.demand = vec![tasks(&[("GPU", 16)], 3)];
    let unmet = only_unmet(&plan(&snapshot)).clone();
    assert_eq!((unmet.count, unmet.cause), (3, UnmetCause::NeverFits));
    assert_eq!(unmet.reason, "no group can ever hold it; the nearest is gpu, which has GPU 8 where 16 is asked for");

    snapshot.demand = vec![tasks(&[("GPU", 8)], 3)];
    let unmet = only_unmet(&plan(&snapshot)).clone();
    let reason = "group gpu could hold it, but not all of it within its maximum of 0 replicas";
    assert_eq!((unmet.cause, unmet.reason.as_str()), (UnmetCause::Limit, reason));
}

#[test]
fn a_label_that_no_group_has() {
    let cpu = group("cpu", &[("CPU", 4)]);
    let mut snapshot = cluster(&[&cpu], vec![]);
    let zone =
        LabelConstraint { key: "zone".into(), operator: LabelOperator::In, values: vec!["a".into(), "b".into()] };
    snapshot.demand = vec![tasks(&[("CPU", 1)], 1)];
    snapshot.demand[0].request.selectors = vec![LabelSelector { constraints: vec![zone] }];
    let plan = plan(&snapshot);
    assert_eq!(only_unmet(&plan).cause, UnmetCause::NeverFits);
    let reason = "no group can ever hold it; the nearest is cpu, which has no labels with zone in (a, b)";
    assert_eq!(only_unmet(&plan).reason, reason);
}

#[test]
fn gangs_are_all_or_nothing() {
    let gpu = NodeType { max_replicas: 3, ..group("gpu", &[("CPU", 8), ("GPU", 8)]) };
    let placed = |gangs| {
        let mut snapshot = cluster(&[&gpu], vec![]);
        snapshot.gangs = gangs;
        let plan = plan(&snapshot);
        let causes: Vec<UnmetCause> = plan.unmet.iter().map(|unmet| unmet.cause).collect();
        (plan.groups["gpu"].desired, causes)
    };
    let spread = |bundles| gang("s", GangStrategy::StrictSpread, &[("GPU", 8)], bundles);
    assert_eq!(placed(vec![spread(3)]), (3, vec![]));
    assert_eq!(placed(vec![spread(4)]), (0, vec![UnmetCause::Limit]));
    let pack = |each| gang("p", GangStrategy::StrictPack, &[("GPU", each)], 4);
    assert_eq!(placed(vec![pack(2)]), (1, vec![]));
    assert_eq!(placed(vec![pack(3)]), (0, vec![UnmetCause::NeverFits]));
    assert_eq!(placed(vec![gang("l", GangStrategy::Pack, &[("GPU", 3)], 4)]), (2, vec![]));
}

#[test]
fn a_pod_that_never_came_up_is_given_up() {
    let spot = group("spot", &[("GPU", 8)]);
    let sure = group("sure", &[("GPU", 8)]);
    let late = Node { pending_since_ms: Some(NOW_MS - 3_700_000), ..pending(&spot, "late") };
    let mut snapshot = cluster(&[&spot, &sure], vec![late]);
    snapshot.demand = vec![tasks(&[("GPU", 8)], 1)];
    let (first, memory) = plan_with(&snapshot, &Memory::default());
    assert_eq!(ends(&first), ["late"]);
    assert_eq!(
        (first.terminate[0].cause, first.terminate[0].drain),
        (TerminateCause::AllocationTimeout, DrainKind::NotNeeded)
    );
    assert_eq!(launches(&first), [("sure", 1)], "the group that failed comes second");
    assert_eq!((first.groups["spot"].desired, first.groups["sure"].desired), (0, 1));
    assert_eq!(memory.allocation_failed_ms["spot"], NOW_MS);

    // Once it delivers again, that is forgotten.
    let snapshot = cluster(&[&spot, &sure], vec![busy(&spot, "came-up")]);
    let (_, memory) = plan_with(&snapshot, &memory);
    assert!(memory.allocation_failed_ms.is_empty());
}

#[test]
fn nodes_that_ran_before_a_failure_don_t_make_up_for_it() {
    let spot = group("spot", &[("GPU", 8)]);
    let late = Node { pending_since_ms: Some(NOW_MS - 3_700_000), ..pending(&spot, "late") };
    let (_, memory) = plan_with(&cluster(&[&spot], vec![busy(&spot, "old"), late]), &Memory::default());
    let (_, memory) = plan_with(&cluster(&[&spot], vec![busy(&spot, "old")]), &memory);
    assert!(memory.allocation_failed_ms.contains_key("spot"));
    let (_, memory) = plan_with(&cluster(&[&spot], vec![busy(&spot, "old"), busy(&spot, "new")]), &memory);
    assert!(memory.allocation_failed_ms.is_empty());
}

#[test]
fn a_pod_whose_ray_stopped_goes() {
    let cpu = group("cpu", &[("CPU", 4)]);
    let stopped = Node { phase: NodePhase::Stopped, ..pending(&cpu, "a") };
    let plan = plan(&cluster(&[&cpu], vec![stopped]));
    assert_eq!(ends(&plan), ["a"]);
    assert_eq!((plan.terminate[0].cause, plan.terminate[0].drain), (TerminateCause::RayStopped, DrainKind::NotNeeded));
    assert_eq!(plan.groups["cpu"].desired, 0);
}

#[test]
fn a_broken_replica_goes_once_nothing_works_in_it() {
    let tpu = slice();
    let mut nodes = replica(&tpu, "a", free);
    nodes[2].phase = NodePhase::Stopped;
    let working = plan(&cluster(&[&tpu], nodes.clone()));
    assert_eq!(ends(&working), Vec::<&str>::new());
    assert_eq!(reasons(&working, "node a-2"), ["Ray in it has stopped; its replica a stays because a-0 works"]);

    let nodes = nodes.into_iter().map(|node| idle(node, 5)).collect();
    let done = plan(&cluster(&[&tpu], nodes));
    assert_eq!(ends(&done), ["a-0", "a-1", "a-2", "a-3"]);
}

#[test]
fn a_pending_pod_that_nothing_needs_goes_after_its_time() {
    let cpu = group("cpu", &[("CPU", 4)]);
    let mut snapshot = cluster(&[&cpu], vec![pending(&cpu, "a"), pending(&cpu, "b")]);
    snapshot.settings.pending_idle_timeout_ms = Some(30_000);
    let (first, memory) = plan_with(&snapshot, &Memory::default());
    assert_eq!(ends(&first), Vec::<&str>::new());
    snapshot.now_ms += 31_000;
    snapshot.demand = vec![tasks(&[("CPU", 4)], 1)];
    let (second, _) = plan_with(&snapshot, &memory);
    assert_eq!(ends(&second), ["b"]);
    assert_eq!(second.groups["cpu"].desired, 1);
}

#[test]
fn a_pod_grows_before_a_new_one_comes() {
    let bounds = mobula_planner::ResizeSpec {
        max_cpu: mobula_planner::Amount::from_units(8),
        max_memory: mobula_planner::Amount::from_units(16 << 30),
        min_cpu: mobula_planner::Amount::from_units(4),
        min_memory: mobula_planner::Amount::from_units(8 << 30),
        timeout_ms: 60_000,
    };
    let cpu = NodeType { resize: Some(bounds), ..group("cpu", &[("CPU", 4), ("memory", 8 << 30)]) };
    let resize = mobula_planner::NodeResize {
        current_cpu: bounds.min_cpu,
        current_memory: bounds.min_memory,
        ..Default::default()
    };
    let node = Node { resize: Some(resize), ..busy(&cpu, "a") };
    let mut snapshot = cluster(&[&cpu], vec![node]);
    snapshot.demand = vec![tasks(&[("CPU", 2)], 2)];
    let plan = plan(&snapshot);
    assert_eq!(launches(&plan), []);
    assert_eq!((plan.resize[0].instance_id.as_str(), plan.resize[0].cpu), ("a", bounds.max_cpu));
    assert_eq!(reasons(&plan, "demand {CPU: 2} x 2"), ["2 fit on nodes that grow in place"]);
}

#[test]
fn replicas_below_the_pods_that_exist() {
    let cpu = group("cpu", &[("CPU", 4)]);
    let mut snapshot = cluster(&[&cpu], vec![busy(&cpu, "a"), busy(&cpu, "b"), busy(&cpu, "c")]);
    snapshot.node_types[0].requested_replicas = 1;
    snapshot.demand = vec![tasks(&[("CPU", 4)], 1)];
    let plan = plan(&snapshot);
    assert_eq!((launches(&plan), plan.groups["cpu"].desired), (vec![("cpu", 1)], 4));
}

#[test]
fn nothing_is_a_plan_too() {
    let plan = plan(&cluster(&[], vec![]));
    assert_eq!((plan.policy.as_str(), plan.launch.len(), plan.unmet.len()), ("ray-v2", 0, 0));
    let group = NodeType { num_of_hosts: 0, labels: Arc::default(), ..group("odd", &[]) };
    let mut snapshot = cluster(&[], vec![]);
    snapshot.node_types = vec![group];
    snapshot.demand = vec![tasks(&[], 3)];
    assert_eq!(launches(&given::plan(&snapshot)), [("odd", 1)]);
}

/// A number of tasks that nobody means.
const ABSURD: u64 = i64::MAX as u64;

fn endless(name: &str, amounts: &[(&str, i64)]) -> NodeType {
    NodeType { max_replicas: i32::MAX as u32, ..group(name, amounts) }
}

const MOST: u32 = MAX_LAUNCHES as u32;

#[test]
fn absurdly_many_tasks_get_as_much_as_may_be_launched_at_once() {
    let (cpu, tpu) = (endless("cpu", &[("CPU", 4)]), NodeType { max_replicas: i32::MAX as u32, ..slice() });
    let mut snapshot = cluster(&[&cpu, &tpu], vec![]);
    snapshot.demand =
        vec![tasks(&[("CPU", 1)], ABSURD), tasks(&[("CPU", 2)], u64::MAX), tasks(&[("CPU", 3)], u64::MAX)];
    let plan = plan(&snapshot);
    let pods: u32 = plan.launch.iter().map(|launch| launch.replicas * if launch.group == "tpu" { 4 } else { 1 }).sum();
    assert_eq!(pods, MOST);
    assert_eq!(plan.unmet.len(), 3);
    let reason =
        "group cpu could hold it, and more of it may be launched later: at most 20000 pods are launched at once";
    for unmet in &plan.unmet {
        assert_eq!((unmet.cause, unmet.reason.as_str()), (UnmetCause::Waiting, reason));
    }
    let held_back = "more replicas are wanted than may be launched now (at most 20000 pods are launched at once)";
    assert!(reasons(&plan, "group cpu").contains(&held_back));
}

#[test]
fn what_is_beyond_a_plan_comes_with_the_next() {
    let cpu = endless("cpu", &[("CPU", 1)]);
    let mut snapshot = cluster(&[&cpu], vec![]);
    snapshot.demand = vec![tasks(&[("CPU", 1)], MAX_LAUNCHES + 5)];
    let first = plan(&snapshot);
    assert_eq!((launches(&first), only_unmet(&first).count), (vec![("cpu", MOST)], 5));
    snapshot.nodes = (0..MOST).map(|at| requested(&cpu, at)).collect();
    snapshot.node_types[0].requested_replicas = MOST;
    let second = plan(&snapshot);
    assert_eq!((launches(&second), second.unmet.len()), (vec![("cpu", 5)], 0));
}

#[test]
fn as_many_replicas_as_fit_into_a_plan() {
    let trio = NodeType { num_of_hosts: 3, ..endless("trio", &[("TPU", 4)]) };
    let mut snapshot = cluster(&[&trio], vec![]);
    snapshot.demand = vec![tasks(&[("TPU", 4)], ABSURD)];
    assert_eq!(launches(&plan(&snapshot)), [("trio", MOST / 3)]);
}

#[test]
fn a_replica_that_no_plan_may_launch() {
    let crowd = NodeType { num_of_hosts: u32::MAX, ..endless("crowd", &[("CPU", 4)]) };
    let mut snapshot = cluster(&[&crowd], vec![]);
    snapshot.demand = vec![tasks(&[("CPU", 1)], 1)];
    let plan = plan(&snapshot);
    assert_eq!((launches(&plan), only_unmet(&plan).cause), (vec![], UnmetCause::Limit));
    let reason = "group crowd could hold it, but a replica of it is 4294967295 pods, and at most 20000 pods are launched at once";
    assert_eq!(only_unmet(&plan).reason, reason);
}

#[test]
fn absurd_request_resources_is_unmet_as_a_whole() {
    let cpu = endless("cpu", &[("CPU", 1)]);
    let mut snapshot = cluster(&[&cpu], vec![]);
    let ask =
        |count| Constraint { requests: vec![tasks(&[("CPU", 1)], count), tasks(&[], u64::MAX), tasks(&[], u64::MAX)] };
    snapshot.constraints = vec![ask(ABSURD)];
    let too_much = plan(&snapshot);
    assert_eq!((launches(&too_much), only_unmet(&too_much).cause), (vec![], UnmetCause::Limit));
    let reason = "group cpu could hold it, but not all of it: at most 20000 pods are launched at once";
    assert_eq!(only_unmet(&too_much).reason, reason);

    snapshot.constraints = vec![ask(5), ask(MAX_LAUNCHES)];
    let not_yet = plan(&snapshot);
    assert_eq!((launches(&not_yet), only_unmet(&not_yet).cause), (vec![("cpu", 5)], UnmetCause::Waiting));

    snapshot.constraints = vec![ask(MAX_LAUNCHES)];
    assert_eq!(launches(&plan(&snapshot)), [("cpu", MOST)]);
}

#[test]
fn an_absurd_minimum_is_come_near_step_by_step() {
    let floor = NodeType { min_replicas: 2_000_000_000, requested_replicas: 0, ..endless("floor", &[("CPU", 4)]) };
    let gpu = endless("gpu", &[("GPU", 8)]);
    let mut snapshot = cluster(&[&floor, &gpu], vec![]);
    snapshot.node_types[0].requested_replicas = 0;
    snapshot.demand = vec![tasks(&[("GPU", 8)], 1)];
    let plan = plan(&snapshot);
    assert_eq!(launches(&plan), [("floor", MOST)]);
    assert_eq!(only_unmet(&plan).cause, UnmetCause::Waiting);
    let held_back = "more replicas are wanted than may be launched now (at most 20000 pods are launched at once)";
    assert!(reasons(&plan, "group floor").contains(&held_back));
}

#[test]
fn a_node_that_comes_or_goes_could_hold_what_it_held() {
    let gone = group("gone", &[("special", 1)]);
    let cpu = group("cpu", &[("CPU", 4)]);
    let why = |phase, is_head| {
        let node = Node { phase, is_head, ..free(&gone, "special-1") };
        let mut snapshot = cluster(&[&cpu], vec![node]);
        snapshot.demand = vec![tasks(&[("special", 1)], 2)];
        let plan = plan(&snapshot);
        let unmet = plan.unmet[0].clone();
        (unmet.cause, unmet.reason)
    };
    let waits = |state: &str| {
        let text =
            format!("only nodes like special-1 could hold it, and they {state}; no group can be launched for it");
        (UnmetCause::Waiting, text)
    };
    assert_eq!(why(NodePhase::Running, false), waits("are in use"));
    assert_eq!(why(NodePhase::Pending, false), waits("are on their way"));
    assert_eq!(why(NodePhase::Requested, false), waits("are on their way"));
    assert_eq!(why(NodePhase::Leaving, false), waits("are leaving"));
    assert_eq!(why(NodePhase::Leaving, true), waits("are leaving"));
    assert_eq!(why(NodePhase::Stopped, false).0, UnmetCause::NeverFits);
}

#[test]
fn a_head_that_restarts_could_hold_what_only_it_can() {
    let head = NodeType { is_head: true, ..group("headgroup", &[("head_marker", 1)]) };
    let cpu = group("cpu", &[("CPU", 4)]);
    let mut snapshot = cluster(&[&head, &cpu], vec![]);
    snapshot.demand = vec![tasks(&[("head_marker", 1)], 1), tasks(&[("head_marker", 2)], 1)];
    let plan = plan(&snapshot);
    let causes: Vec<UnmetCause> = plan.unmet.iter().map(|unmet| unmet.cause).collect();
    assert_eq!(causes, [UnmetCause::NeverFits, UnmetCause::Waiting]);
    assert_eq!(plan.unmet[1].reason, "only the head of this RayCluster could hold it, and there is none like it now");
}
