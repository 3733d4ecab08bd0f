use std::sync::Arc;

use mobula_planner::{Amount, NodePhase};

use super::*;

const NONE: Value = Value::Null;

fn one_group() -> Vec<Value> {
    vec![group("g", &json!({}))]
}

fn plain(name: &str) -> PodView {
    pod(name, "g", &json!({}))
}

fn with_status(name: &str, status: gcs::NodeStatus) -> gcs::NodeState {
    gcs::NodeState { status, ..ray_node(name, "g") }
}

fn phase(observation: &Observation, instance: &str) -> NodePhase {
    node(&built(observation).snapshot, instance).phase
}

#[test]
fn a_pod_without_a_ray_node_is_pending_since_its_creation() {
    let mut observation = of_nodes(&one_group(), vec![], Some(vec![plain("p")]));
    let snapshot = clean(&observation);
    let pending = node(&snapshot, "p");
    assert_eq!((pending.phase, pending.pending_since_ms), (NodePhase::Pending, Some(1_000_000)));
    assert_eq!(pending.total["CPU"], Amount::from_units(1));
    assert!(Arc::ptr_eq(&pending.total, &snapshot.node_types[1].resources));
    // It can't have been waiting for a head that was not there.
    observation.session_since_ms = Some(1_500_000);
    assert_eq!(node(&clean(&observation), "p").pending_since_ms, Some(1_500_000));
}

#[test]
fn a_pod_and_its_ray_node_are_one_node() {
    let live = gcs::NodeState {
        available: resources(&[("memory", 5.0)]).into(),
        total: resources(&[("CPU", 1.0), ("memory", 8.0)]).into(),
        ..ray_node("p", "g")
    };
    let snapshot = clean(&of_nodes(&one_group(), vec![live], Some(vec![plain("p")])));
    assert_eq!(instances(&snapshot), ["p"]);
    let running = node(&snapshot, "p");
    assert_eq!((running.phase, running.ray_node_id.as_deref()), (NodePhase::Running, Some("id-of-p")));
    // A resource that is used up is absent.
    assert_eq!(running.available.get("CPU"), None);
    assert_eq!(running.available["memory"], Amount::from_units(5));
}

#[test]
fn idle_time_is_known_of_idle_nodes_only() {
    let idle = gcs::NodeState { idle_ms: 1234, ..with_status("i", gcs::NodeStatus::Idle) };
    let busy = gcs::NodeState { idle_ms: 1234, ..ray_node("b", "g") };
    let mut observation = of_nodes(&one_group(), vec![idle, busy], None);
    observation.object_store_bytes.insert("id-of-i".to_owned(), 99);
    let snapshot = clean(&observation);
    assert_eq!(node(&snapshot, "i").idle_ms, Some(1234));
    assert_eq!(node(&snapshot, "i").object_store_bytes, Some(99));
    assert_eq!(node(&snapshot, "b").idle_ms, None);
    assert_eq!(node(&snapshot, "b").object_store_bytes, None);
}

#[test]
fn without_pods_live_ray_nodes_stand_for_them() {
    let nodes = vec![ray_node("p", "g"), with_status("q", gcs::NodeStatus::Dead)];
    let snapshot = clean(&of_nodes(&one_group(), nodes, None));
    assert_eq!(instances(&snapshot), ["p"]);
}

#[test]
fn a_pod_whose_ray_node_is_dead_is_stopped() {
    let dead = with_status("p", gcs::NodeStatus::Dead);
    let snapshot = clean(&of_nodes(&one_group(), vec![dead], Some(vec![plain("p")])));
    assert_eq!(node(&snapshot, "p").phase, NodePhase::Stopped);
    assert_eq!(node(&snapshot, "p").ray_node_id.as_deref(), Some("id-of-p"));
}

#[test]
fn a_dead_ray_node_of_an_earlier_pod_of_the_same_name_says_nothing() {
    let phase = |said: &str, ip: Option<&str>| {
        let dead = gcs::NodeState { ip: said.into(), ..with_status("p", gcs::NodeStatus::Dead) };
        let pod = PodView { ip: ip.map(str::to_owned), ..plain("p") };
        node(&clean(&of_nodes(&one_group(), vec![dead], Some(vec![pod]))), "p").phase
    };
    assert_eq!(phase("10.0.0.1", Some("10.0.0.1")), NodePhase::Stopped);
    assert_eq!(phase("10.0.0.1", Some("10.0.0.2")), NodePhase::Pending);
    assert_eq!(phase("10.0.0.1", None), NodePhase::Pending, "it has run nothing yet");
    assert_eq!(phase("10.0.0.1", Some("fd00::1")), NodePhase::Stopped, "two addresses of one pod");
    assert_eq!(phase("127.0.0.1", Some("10.0.0.2")), NodePhase::Stopped);
}

#[test]
fn of_the_dead_of_one_name_the_one_that_ran_in_the_pod_counts() {
    let at = |id: &str, ip: &str| {
        let dead = with_status("p", gcs::NodeStatus::Dead);
        gcs::NodeState { node_id: id.into(), ip: ip.into(), ..dead }
    };
    let (own, earlier, unsaid) = (at("own", "10.0.0.2"), at("earlier", "10.0.0.1"), at("unsaid", ""));
    for nodes in [vec![own.clone(), earlier.clone(), unsaid.clone()], vec![unsaid, earlier, own]] {
        let pod = PodView { ip: Some("10.0.0.2".into()), ..plain("p") };
        let snapshot = clean(&of_nodes(&one_group(), nodes, Some(vec![pod])));
        assert_eq!(node(&snapshot, "p").phase, NodePhase::Stopped);
        assert_eq!(node(&snapshot, "p").ray_node_id.as_deref(), Some("own"));
    }
}

#[test]
fn a_ray_node_that_was_started_again_in_its_pod_counts() {
    let dead = gcs::NodeState { node_id: "old".into(), ..with_status("p", gcs::NodeStatus::Dead) };
    for nodes in [vec![dead.clone(), ray_node("p", "g")], vec![ray_node("p", "g"), dead]] {
        let snapshot = clean(&of_nodes(&one_group(), nodes, Some(vec![plain("p")])));
        assert_eq!(node(&snapshot, "p").phase, NodePhase::Running);
        assert_eq!(node(&snapshot, "p").ray_node_id.as_deref(), Some("id-of-p"));
    }
}

#[test]
fn of_two_live_ray_nodes_in_a_pod_the_one_that_works_counts() {
    let ghost = gcs::NodeState { node_id: "ghost".into(), idle_ms: 9, ..with_status("p", gcs::NodeStatus::Idle) };
    for nodes in [vec![ghost.clone(), ray_node("p", "g")], vec![ray_node("p", "g"), ghost]] {
        let built = built(&of_nodes(&one_group(), nodes, None));
        assert_eq!(instances(&built.snapshot), ["p"]);
        assert_eq!(node(&built.snapshot, "p").ray_node_id.as_deref(), Some("id-of-p"));
        assert_eq!(built.warnings.len(), 1);
    }
}

#[test]
fn draining_nodes_and_named_pods_are_leaving() {
    let groups = [group("g", &json!({"scaleStrategy": {"workersToDelete": ["named", "gone"]}}))];
    let draining = with_status("draining", gcs::NodeStatus::Draining);
    let nodes = vec![draining, ray_node("named", "g")];
    let observation = of_nodes(&groups, nodes.clone(), Some(vec![plain("draining"), plain("named")]));
    assert_eq!(phase(&observation, "draining"), NodePhase::Leaving);
    assert_eq!(phase(&observation, "named"), NodePhase::Leaving);
    let without_pods = of_nodes(&groups, nodes, None);
    assert_eq!(phase(&without_pods, "draining"), NodePhase::Leaving);
    assert_eq!(phase(&without_pods, "named"), NodePhase::Leaving);
}

#[test]
fn pods_that_are_being_deleted_or_have_ended_are_ignored_with_their_ray_nodes() {
    let going = pod("going", "g", &json!({"deletionTimestamp": "1970-01-01T00:20:00Z"}));
    let mut evicted = plain("evicted");
    evicted.phase = "Failed".to_owned();
    let nodes = vec![ray_node("going", "g"), ray_node("evicted", "g")];
    let snapshot = clean(&of_nodes(&one_group(), nodes, Some(vec![going, evicted])));
    assert_eq!(instances(&snapshot), Vec::<&str>::new());
}

#[test]
fn a_ray_node_whose_pod_is_gone_is_no_capacity() {
    let built = built(&of_nodes(&one_group(), vec![ray_node("gone", "g")], Some(vec![])));
    assert_eq!(node(&built.snapshot, "gone").phase, NodePhase::Leaving);
    assert!(built.warnings[0].contains("its pod gone does not exist"), "{:?}", built.warnings);
}

#[test]
fn ray_nodes_that_nobody_manages_are_capacity_and_have_no_instance_id() {
    let by_hand = gcs::NodeState { instance_id: String::new(), ..ray_node("x", "g") };
    let mut unknown = ray_node("p", "other-group");
    unknown.node_type = String::new();
    Arc::make_mut(&mut unknown.labels).insert("ray.io/node-group".to_owned(), "other-group".to_owned());
    let pods = vec![pod("p", "other-group", &json!({})), pod("q", "other-group", &json!({}))];
    let built = built(&of_nodes(&one_group(), vec![by_hand, unknown], Some(pods)));
    let seen: Vec<_> = built
        .snapshot
        .nodes
        .iter()
        .map(|node| (&*node.instance_id, &*node.group, node.phase, node.ray_node_id.is_some()))
        .collect();
    let expected = [("", "other-group", NodePhase::Running, true), ("", "g", NodePhase::Running, true)];
    assert_eq!(seen, expected);
    assert_eq!(built.warnings.len(), 2, "{:?}", built.warnings);
    assert!(built.warnings[0].contains("no group \"other-group\""), "{:?}", built.warnings);
}

#[test]
fn the_head_is_known_by_its_resource_and_never_leaves() {
    let mut head = with_status("h", gcs::NodeStatus::Draining);
    head.node_type = "some-name".to_owned();
    Arc::make_mut(&mut head.total).insert("node:__internal_head__".to_owned(), 1.0);
    for pods in [None, Some(vec![])] {
        let snapshot = clean(&of_nodes(&one_group(), vec![head.clone()], pods));
        let head = node(&snapshot, "h");
        assert!(head.is_head);
        assert_eq!((head.phase, &*head.group), (NodePhase::Running, "headgroup"));
    }
}

#[test]
fn pods_that_are_no_ray_nodes_are_ignored() {
    let clean_up = pod("redis", "g", &json!({"labels": {"ray.io/node-type": "redis-cleanup"}}));
    assert_eq!(instances(&clean(&of_nodes(&one_group(), vec![], Some(vec![clean_up])))), Vec::<&str>::new());
}

#[test]
fn equal_labels_are_shared_and_the_node_id_is_kept_where_it_is_selected() {
    let labelled = |pod: &str| {
        let labels = [("rack", "r1"), ("ray.io/node-id", pod)];
        gcs::NodeState {
            labels: Arc::new(labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
            ..ray_node(pod, "g")
        }
    };
    let mut observation = of_nodes(&one_group(), vec![labelled("p"), labelled("q")], None);
    let snapshot = clean(&observation);
    assert!(Arc::ptr_eq(&node(&snapshot, "p").labels, &node(&snapshot, "q").labels));
    assert!(Arc::ptr_eq(&node(&snapshot, "p").total, &node(&snapshot, "p").available));
    let constraint = gcs::LabelConstraint {
        key: "ray.io/node-id".to_owned(),
        operator: gcs::LabelOperator::In,
        values: vec!["p".to_owned()],
    };
    let request = gcs::ResourceRequest {
        selectors: vec![gcs::LabelSelector { constraints: vec![constraint] }],
        ..gcs::ResourceRequest::default()
    };
    observation.state.pending.push(gcs::RequestByCount { request, count: 1 });
    assert_eq!(node(&clean(&observation), "p").labels["ray.io/node-id"], "p");
}

#[test]
fn absurd_amounts_of_a_node_are_left_out_and_negative_ones_used_up() {
    let odd = gcs::NodeState {
        total: resources(&[("CPU", 4.0), ("x", f64::NAN)]).into(),
        available: resources(&[("CPU", -1.0)]).into(),
        ..ray_node("p", "g")
    };
    let built = built(&of_nodes(&one_group(), vec![odd], None));
    let node = node(&built.snapshot, "p");
    assert_eq!(node.total.keys().collect::<Vec<_>>(), ["CPU"]);
    assert_eq!(node.available["CPU"], Amount::ZERO);
    assert_eq!(
        built.warnings,
        ["Ray node id-of-p: total_resources: x: NaN is not an amount that can be planned: left out"]
    );
}

#[test]
fn a_pod_that_may_be_resized_says_how_big_it_is() {
    let bounds = json!({"groups": {"g": {"max-cpu": "4", "max-memory": "8Gi", "resize-timeout": 60}}});
    let limits = json!({"cpu": "1", "memory": "1Gi"});
    let container = json!({"name": "ray", "resources": {"limits": limits, "requests": limits}});
    let mut observation = of_nodes(
        &[group("g", &json!({"template": {"spec": {"containers": [container]}}}))],
        vec![ray_node("p", "g")],
        None,
    );
    Arc::make_mut(&mut observation.cluster).metadata.annotations.insert("ray.io/ippr".to_owned(), bounds.to_string());
    let sized = |annotation: Value| {
        let mut metadata = json!({"name": "p", "labels": {"ray.io/group": "g", "ray.io/node-type": "worker"}});
        if annotation != NONE {
            metadata["annotations"] = json!({"ray.io/ippr-status": annotation});
        }
        let value = json!({"metadata": metadata, "spec": {"containers": [container]}, "status": {}});
        PodView::from_value(&value).unwrap()
    };
    observation.pods = Some([sized(NONE)].into());
    let resize = node(&clean(&observation), "p").resize.clone().unwrap();
    assert_eq!((resize.current_cpu, resize.current_memory), (Amount::from_units(1), Amount::from_units(1 << 30)));
    assert_eq!((resize.in_progress, resize.failed), (false, false));
    observation.pods = Some([sized(json!("{\"resizing-at\": 5, \"suggested-max-cpu\": 2.5}"))].into());
    let resize = node(&clean(&observation), "p").resize.clone().unwrap();
    assert_eq!((resize.in_progress, resize.suggested_max_cpu), (true, Amount::from_f64(2.5)));
    observation.pods = Some([sized(json!("not json"))].into());
    let built = built(&observation);
    assert!(node(&built.snapshot, "p").resize.clone().unwrap().failed);
    assert_eq!(built.warnings.len(), 1);
}

#[test]
fn nodes_that_differ_only_in_their_address_share_their_resources_unless_somebody_asks_for_one() {
    let at = |pod: &str, address: &str| gcs::NodeState {
        total: resources(&[("CPU", 1.0), (address, 1.0), ("node:__internal_head__x", 1.0)]).into(),
        ..ray_node(pod, "g")
    };
    let mut observation = of_nodes(&one_group(), vec![at("p", "node:10.0.0.1"), at("q", "node:10.0.0.2")], None);
    let snapshot = clean(&observation);
    assert!(Arc::ptr_eq(&node(&snapshot, "p").total, &node(&snapshot, "q").total));
    let names: Vec<&str> = node(&snapshot, "p").total.keys().map(String::as_str).collect();
    assert_eq!(names, ["CPU", "node:<ip>", "node:__internal_head__x"]);
    let request = gcs::ResourceRequest { resources: resources(&[("node:10.0.0.2", 0.01)]), ..Default::default() };
    observation.state.pending.push(gcs::RequestByCount { request, count: 1 });
    let snapshot = clean(&observation);
    assert!(node(&snapshot, "q").total.contains_key("node:10.0.0.2"));
    assert!(!node(&snapshot, "p").total.contains_key("node:10.0.0.2"));
}
