use mobula_api::{RayCluster, ResizeCondition, ResizeProgress};
use mobula_planner::Amount;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod executed;

const NOW_MS: i64 = 1_700_000_000_000;
const NOW_S: i64 = NOW_MS / 1_000;
const TIMEOUT_MS: i64 = 60_000;

/// A group whose pods have 2 of 1 CPU and 4Gi of memory, and may have 8 CPU and 16Gi.
fn groups() -> Vec<GroupShape> {
    let container = json!({"name": "ray-worker", "resources": {
        "requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}}});
    let ippr = json!({"groups": {"small": {"max-cpu": "8", "max-memory": "16Gi", "resize-timeout": 60}}});
    let cluster = json!({
        "metadata": {"name": "c", "annotations": {"ray.io/ippr": ippr.to_string()}},
        "spec": {
            "headGroupSpec": {"template": {"spec": {"containers": [{"name": "ray-head", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}}},
            "workerGroupSpecs": [{"groupName": "small", "template": {"spec": {"containers": [container]}}}],
        },
    });
    RayCluster::from_value(cluster).unwrap().group_shapes().unwrap()
}

/// Of the pod: what its spec asks for and what the kubelet says it has.
struct Pod {
    wanted: [&'static str; 2],
    actual: [&'static str; 2],
    condition: Option<(ResizeProgress, &'static str)>,
    status: Option<IpprStatus>,
}

impl Default for Pod {
    fn default() -> Self {
        Pod { wanted: ["2", "4Gi"], actual: ["2", "4Gi"], condition: None, status: None }
    }
}

impl Pod {
    fn view(&self) -> PodView {
        let resources = |[cpu, memory]: [&str; 2]| {
            // The CPU request is 1 below its limit; memory has no gap.
            let cpu_request = cpu.parse::<Quantity>().unwrap().checked_sub(Quantity::from_units(1)).unwrap();
            json!({
                "limits": {"cpu": cpu, "memory": memory},
                "requests": {"cpu": cpu_request.to_string(), "memory": memory},
            })
        };
        let mut annotations = serde_json::Map::new();
        if let Some(status) = &self.status {
            annotations.insert(keys::IPPR_STATUS.into(), status.to_annotation().into());
        }
        let pod = json!({
            "metadata": {
                "name": "p", "uid": "u", "annotations": annotations,
                "labels": {"ray.io/group": "small", "ray.io/node-type": "worker"},
            },
            "spec": {"nodeName": "n", "containers": [{"name": "ray-worker", "resources": resources(self.wanted)}]},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "ray-worker", "state": {"running": {}}, "resources": resources(self.actual)}]},
        });
        let mut view = PodView::from_value(&pod).unwrap();
        view.resize =
            self.condition.map(|(progress, message)| ResizeCondition { progress, message: message.to_owned() });
        view
    }

    fn decide(&self, plan: &[Resize]) -> Vec<Action> {
        decide(&groups(), &[self.view()], plan, NOW_MS)
    }

    fn node_resize(&self) -> NodeResize {
        node_resize(&self.view(), TIMEOUT_MS, NOW_MS).unwrap().unwrap()
    }
}

fn resizing(seconds_ago: i64) -> Option<IpprStatus> {
    let raylet_id = Some("ab".to_owned());
    Some(IpprStatus { raylet_id, resizing_at_s: Some(NOW_S - seconds_ago), ..IpprStatus::default() })
}

fn grow() -> Vec<Resize> {
    vec![Resize {
        instance_id: "p".into(),
        ray_node_id: Some("ab".into()),
        group: "small".into(),
        cpu: Amount::from_units(8),
        memory: Amount::from_units(16 << 30),
    }]
}

/// What each action does, in short.
fn told(actions: &[Action]) -> Vec<String> {
    let told = |action: &Action| match action {
        Action::Resize(resize) => {
            let status = &resize.status;
            format!("resize to {} {}, resizing-at {:?}", resize.to.cpu, resize.to.memory, status.resizing_at_s)
        }
        Action::Sync { size, status, .. } => {
            format!("sync {} {}, resizing-at {:?}", size.cpu, size.memory, status.resizing_at_s)
        }
        Action::Note { status, .. } => format!("note {:?}", status.last_failed_reason),
    };
    actions.iter().map(told).collect()
}

fn now() -> String {
    format!("{:?}", Some(NOW_S))
}

#[test]
fn a_settled_pod_is_left_alone_until_the_plan_wants_it_larger() {
    let pod = Pod::default();
    assert_eq!(pod.decide(&[]), []);
    assert_eq!(told(&pod.decide(&grow())), [format!("resize to 8 17179869184, resizing-at {}", now())]);
    let resize = pod.node_resize();
    assert_eq!((resize.current_cpu, resize.current_memory), (Amount::from_units(2), Amount::from_units(4 << 30)));
    assert!(!resize.in_progress && !resize.failed && resize.desired_cpu.is_none());
}

#[test]
fn a_pod_that_leaves_or_belongs_to_no_resized_group_is_left_alone() {
    let mut leaving = Pod::default().view();
    leaving.terminating = true;
    let mut other = Pod::default().view();
    other.group = "headgroup".into();
    assert_eq!(decide(&groups(), &[leaving, other], &grow(), NOW_MS), []);
}

#[test]
fn a_resize_under_way_is_waited_for_and_planned_with() {
    let pod = Pod { wanted: ["8", "16Gi"], status: resizing(10), ..Pod::default() };
    assert_eq!(pod.decide(&grow()), []);
    let resize = pod.node_resize();
    assert!(resize.in_progress);
    assert_eq!(resize.desired_cpu, Some(Amount::from_units(8)));
    assert_eq!(resize.current_cpu, Amount::from_units(2));
}

#[test]
fn once_kubernetes_is_done_the_raylet_is_told() {
    let pod = Pod { wanted: ["8", "16Gi"], actual: ["8", "16Gi"], status: resizing(10), ..Pod::default() };
    assert_eq!(told(&pod.decide(&[])), ["sync 8 16Gi, resizing-at None"]);
    let working = Pod { condition: Some((ResizeProgress::InProgress, "")), ..pod };
    assert_eq!(working.decide(&[]), []);
}

#[test]
fn a_pod_that_was_just_annotated_is_given_time_to_show_its_new_spec() {
    let early = Pod { status: resizing(1), ..Pod::default() };
    assert_eq!(early.decide(&[]), []);
    let clock_set_back = Pod { status: resizing(-3_600), ..Pod::default() };
    assert_eq!(told(&clock_set_back.decide(&[])), ["sync 2 4Gi, resizing-at None"]);
}

#[test]
fn what_the_kubelet_says_could_be_had_is_asked_for_instead() {
    let message = "Node didn't have enough resource: cpu, requested: 7000, used: 5000, capacity: 9000";
    let pod = Pod {
        wanted: ["8", "16Gi"],
        status: resizing(10),
        condition: Some((ResizeProgress::Deferred, message)),
        ..Pod::default()
    };
    // 9 - 5 = 4 may be requested, and the limit is 1 above the request.
    assert_eq!(told(&pod.decide(&[])), [format!("resize to 5 16Gi, resizing-at {}", now())]);
    let resize = pod.node_resize();
    assert_eq!(
        (resize.suggested_max_cpu, resize.desired_cpu),
        (Some(Amount::from_units(5)), Some(Amount::from_units(5)))
    );
    let asked = Pod { wanted: ["5", "16Gi"], ..pod };
    assert_eq!(asked.decide(&[]), []);
}

#[test]
fn a_suggestion_never_takes_away_what_the_pod_has() {
    let message = "Node didn't have enough capacity: memory, requested: 17179869184, capacity: 1073741824";
    let pod = Pod {
        wanted: ["2", "16Gi"],
        status: resizing(10),
        condition: Some((ResizeProgress::Infeasible, message)),
        ..Pod::default()
    };
    assert_eq!(told(&pod.decide(&[])), [format!("resize to 2 4Gi, resizing-at {}", now())]);
}

#[test]
fn an_error_is_taken_back_and_the_pod_never_resized_again() {
    let error = Some((ResizeProgress::Error, "cgroup said no"));
    let pod = Pod { wanted: ["8", "16Gi"], status: resizing(10), condition: error, ..Pod::default() };
    let actions = pod.decide(&grow());
    assert_eq!(told(&actions), [format!("resize to 2 4Gi, resizing-at {}", now())]);
    let Some(Action::Resize(back)) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(back.status.last_failed_reason.as_deref(), Some("cgroup said no"));
    assert_eq!(back.status.last_failed_at_s, Some(NOW_S));
    assert!(pod.node_resize().failed);
    let settled = Pod { status: Some(IpprStatus { resizing_at_s: None, ..back.status.clone() }), ..Pod::default() };
    assert_eq!(settled.decide(&grow()), []);
    assert!(settled.node_resize().failed);
}

#[test]
fn an_error_with_nothing_to_take_back_is_noted_once() {
    let error = Some((ResizeProgress::Error, ""));
    let pod = Pod { status: resizing(10), condition: error, ..Pod::default() };
    let actions = pod.decide(&[]);
    assert_eq!(told(&actions), ["note Some(\"the kubelet failed to resize the pod\")"]);
    let Some(Action::Note { status, .. }) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(Pod { status: Some(status.clone()), condition: error, ..Pod::default() }.decide(&[]), []);
}

#[test]
fn a_resize_that_takes_too_long_is_taken_back() {
    let in_time = Pod { wanted: ["8", "16Gi"], status: resizing(60), ..Pod::default() };
    assert_eq!(in_time.decide(&[]), []);
    let late = Pod { status: resizing(61), ..in_time };
    assert_eq!(told(&late.decide(&[])), [format!("resize to 2 4Gi, resizing-at {}", now())]);
}

#[test]
fn the_resize_of_somebody_else_is_waited_for_and_not_corrected() {
    for condition in [None, Some((ResizeProgress::Error, "x")), Some((ResizeProgress::Deferred, "x"))] {
        let pod = Pod { wanted: ["4", "4Gi"], condition, ..Pod::default() };
        assert_eq!(pod.decide(&grow()), []);
        let resize = pod.node_resize();
        assert!(resize.in_progress && !resize.failed && resize.desired_cpu.is_none());
    }
}

#[test]
fn an_annotation_that_is_none_is_an_error_and_the_pod_left_alone() {
    let mut pod = Pod::default().view();
    pod.annotations.insert(keys::IPPR_STATUS.into(), "{".into());
    assert!(node_resize(&pod, TIMEOUT_MS, NOW_MS).is_err());
    assert_eq!(decide(&groups(), &[pod], &grow(), NOW_MS), []);
}

fn applied(resources: &Value, view: &ContainerView, to: Size) -> Value {
    let mut pod = json!({
        "metadata": {"uid": "u"},
        "spec": {"containers": [{"name": "r", "resources": resources}]},
    });
    json_patch::patch(&mut pod, &resize_patch("u", view, to)).unwrap();
    pod["spec"]["containers"][0]["resources"].take()
}

#[test]
fn limits_and_requests_move_together_and_keep_their_distance() {
    let resources = json!({"limits": {"cpu": "2", "memory": "4Gi"}, "requests": {"cpu": "1500m", "memory": "4Gi"}});
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "r", "resources": resources}]},
    });
    let view = PodView::from_value(&pod).unwrap().ray_container;
    let to = Size { cpu: Quantity::from_units(8), memory: Quantity::from_units(16 << 30) };
    assert_eq!(
        applied(&resources, &view, to),
        json!({
            "limits": {"cpu": "8", "memory": "17179869184"},
            "requests": {"cpu": "7500m", "memory": "17179869184"},
        })
    );
}

#[test]
fn where_there_is_no_limit_the_request_moves_alone() {
    let resources = json!({"requests": {"cpu": "1", "memory": "4Gi"}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "r", "resources": resources}]}});
    let view = PodView::from_value(&pod).unwrap().ray_container;
    let to = Size { cpu: Quantity::from_millis(2_500), memory: Quantity::from_units(5) };
    assert_eq!(applied(&resources, &view, to), json!({"requests": {"cpu": "2500m", "memory": "5"}}));
}

#[test]
fn another_pod_of_the_same_name_is_not_resized() {
    let view = Pod::default().view().ray_container;
    let to = Size { cpu: Quantity::from_units(8), memory: Quantity::from_units(8) };
    let mut other = json!({"metadata": {"uid": "other"}});
    assert!(json_patch::patch(&mut other, &resize_patch("u", &view, to)).is_err());
}

proptest! {
    /// Whatever a pod says, a step either leaves it alone or goes towards rest: what is asked for has an id to sync with,
    /// and is annotated as being under way now.
    #[test]
    fn whatever_a_pod_says_a_resize_can_be_synced_later(
        annotation in prop_oneof![
            Just(None), ".{0,30}".prop_map(Some),
            any::<(Option<i64>, Option<i64>, Option<f64>)>().prop_map(|(at, failed, cpu)| Some(IpprStatus {
                raylet_id: Some("ab".into()), resizing_at_s: at, last_failed_at_s: failed, suggested_max_cpu: cpu,
                ..IpprStatus::default()
            }.to_annotation())),
        ],
        message in prop_oneof![
            ".{0,40}",
            any::<(u64, u64)>().prop_map(|(used, capacity)| format!(
                "Node didn't have enough resource: cpu, requested: 1, used: {used}, capacity: {capacity}")),
        ],
        progress in prop::sample::select(vec![
            ResizeProgress::InProgress, ResizeProgress::Deferred, ResizeProgress::Infeasible, ResizeProgress::Error,
        ]),
        now_ms in any::<i64>(),
        planned in any::<bool>(),
    ) {
        let mut pod = Pod { wanted: ["8", "16Gi"], ..Pod::default() }.view();
        pod.annotations.extend(annotation.map(|text| (keys::IPPR_STATUS.to_owned(), text)));
        pod.resize = Some(ResizeCondition { progress, message });
        let _ = node_resize(&pod, TIMEOUT_MS, now_ms);
        let plan = if planned { grow() } else { Vec::new() };
        for action in decide(&groups(), &[pod], &plan, now_ms) {
            if let Action::Resize(resize) = action {
                prop_assert_eq!(resize.status.resizing_at_s, Some(now_ms.div_euclid(1_000)));
                prop_assert!(resize.to.cpu >= resize.from.cpu && resize.to.memory >= resize.from.memory);
            }
        }
    }
}
