//! Replies recorded from real heads: bytes, protobuf JSON in both styles, and our own encoding all say the same.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // test data is read from files

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mobula_gcs::{ClusterState, LabelOperator, NodeStatus, PlacementStrategy, wire};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/captures")
}

/// Names of all captures.
fn names() -> BTreeSet<String> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let names: BTreeSet<String> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(names.len() >= 25, "captures are missing: {names:?}");
    names
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(folder().join(format!("{name}.pb"))).unwrap()
}

fn json(name: &str) -> Option<String> {
    fs::read_to_string(folder().join(format!("{name}.json"))).ok()
}

fn state(name: &str) -> ClusterState {
    wire::decode_cluster_state(&bytes(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// `node_states` → `nodeStates`, in keys of messages only: resource and label names stay.
fn camel_case(value: serde_json::Value) -> serde_json::Value {
    const MAPS: [&str; 5] = ["resources_bundle", "available_resources", "total_resources", "dynamic_labels", "labels"];
    match value {
        serde_json::Value::Object(fields) => fields
            .into_iter()
            .map(|(key, field)| {
                let field = if MAPS.contains(&key.as_str()) { field } else { camel_case(field) };
                (camel(&key), field)
            })
            .collect(),
        serde_json::Value::Array(items) => items.into_iter().map(camel_case).collect(),
        other => other,
    }
}

fn camel(key: &str) -> String {
    let mut words = key.split('_');
    let first = words.next().unwrap().to_owned();
    words.fold(first, |mut out, word| {
        out.push_str(&word[..1].to_uppercase());
        out.push_str(&word[1..]);
        out
    })
}

#[test]
fn json_says_what_the_bytes_say() {
    let mut compared = 0;
    for name in names() {
        let Some(json) = json(&name) else { continue };
        assert_eq!(wire::decode_cluster_state_json(&json).unwrap(), state(&name), "{name}");
        let camel = camel_case(serde_json::from_str(&json).unwrap()).to_string();
        assert!(camel.contains("clusterResourceState") && !camel.contains("node_states"));
        assert_eq!(wire::decode_cluster_state_json(&camel).unwrap(), state(&name), "{name} in camel case");
        compared += 1;
    }
    assert!(compared >= 24);
}

#[test]
fn status_replies_decode_in_both_forms() {
    for name in names().iter().filter(|name| name.starts_with("cluster_status_")) {
        let (report, seen) = wire::decode_cluster_status(&bytes(name)).unwrap();
        assert_eq!(wire::decode_cluster_status_json(&json(name).unwrap()).unwrap(), (report.clone(), seen.clone()));
        assert_eq!(seen, state(name));
        let mut without_instance_types = report.clone();
        without_instance_types.version += 1;
        let again = wire::decode_autoscaling_state(&wire::encode_autoscaling_state(&report)).unwrap();
        assert_eq!(again, report, "{name}");
        assert_ne!(again, without_instance_types);
    }
}

#[test]
fn encoding_and_decoding_changes_nothing() {
    for name in names() {
        let state = state(&name);
        assert_eq!(wire::decode_cluster_state(&wire::encode_cluster_state(&state)).unwrap(), state, "{name}");
    }
}

#[test]
fn bare_state_is_taken_too() {
    for name in names().iter().filter(|name| !name.starts_with("cluster_status_")) {
        let reply = bytes(name);
        // Tag and length of the only field precede the bare message.
        let header = 1 + reply[1..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        assert_eq!(wire::decode_cluster_state(&reply[header..]).unwrap(), state(name), "{name}");
    }
    let json: serde_json::Value = serde_json::from_str(&json("pending_tasks_shapes").unwrap()).unwrap();
    let bare = json["cluster_resource_state"].to_string();
    assert_eq!(wire::decode_cluster_state_json(&bare).unwrap(), state("pending_tasks_shapes"));
}

#[test]
fn what_the_captures_are_known_to_hold() {
    assert_eq!(state("simulated_1000_gpu_nodes").nodes.iter().filter(|n| n.node_type == "gpu-group").count(), 1000);
    let large = state("large_5000_tasks_50_shapes_200_pgs");
    assert_eq!(large.pending.len(), 50);
    assert_eq!(large.pending.iter().map(|request| request.count).sum::<i64>(), 4988);
    assert_eq!(large.gangs.len(), 200);
    let idle = state("idle_three_nodes");
    assert_eq!(idle.nodes.len(), 3);
    assert!(idle.nodes.iter().all(|node| node.node_id.len() == 56 && node.labels["ray.io/node-id"] == node.node_id));
    assert!(state("node_draining").nodes.iter().any(|node| node.status == NodeStatus::Draining));
    assert!(state("pg_rescheduling_after_node_death").nodes.iter().any(|node| node.status == NodeStatus::Dead));
    assert_eq!(state("request_resources_zero").constraints, [vec![]]);
    let topology = state("pending_pg_topology_strategy");
    let locality = topology.gangs.iter().filter_map(|gang| gang.bundle_selectors[0].locality.as_ref());
    assert!(locality.clone().count() > 0 && locality.clone().all(|l| l.strategy == PlacementStrategy::StrictPack));
    let selectors = state("pending_actors_label_selectors");
    let operators = selectors.pending.iter().flat_map(|counted| &counted.request.selectors);
    assert!(operators.flat_map(|s| &s.constraints).any(|c| c.operator == LabelOperator::NotIn));
}

#[test]
fn newer_fields_and_values_are_skipped() {
    let json = r#"{"clusterResourceState": {"newField": {"x": [1]}, "nodeStates": [
        {"nodeId": "AAEC", "status": "HIBERNATING", "idleDurationMs": 7, "another": null},
        {"node_id": null, "status": 3, "total_resources": {"CPU": "2.5"}}]}}"#;
    let state = wire::decode_cluster_state_json(json).unwrap();
    assert_eq!(state.nodes.living()[0].node_id, "000102");
    assert_eq!((state.nodes.living()[0].status, state.nodes.living()[0].idle_ms), (NodeStatus::Unspecified, 7));
    assert_eq!((state.nodes.living()[1].status, state.nodes.living()[1].total["CPU"]), (NodeStatus::Idle, 2.5));
    // Field 200 (a string) and status 99, as bytes.
    let node = [0x0a, 0x01, 0x07, 0x40, 99, 0xc2, 0x0c, 0x02, b'h', b'i'];
    let state = [&[0x08, 0x05, 0x1a, 10][..], &node].concat();
    let state = wire::decode_cluster_state(&state).unwrap();
    assert_eq!((state.version, state.nodes.living()[0].node_id.as_str()), (5, "07"));
    assert_eq!(state.nodes.living()[0].status, NodeStatus::Unspecified);
}

#[test]
fn messages_without_a_state_are_refused() {
    for bytes in [&b""[..], &[0x60, 0x01]] {
        assert!(matches!(wire::decode_cluster_state(bytes), Err(wire::DecodeError::NoState)), "{bytes:?}");
    }
    for text in ["{}", "[]", "1", "null", r#"{"kind":"RayCluster"}"#, r#"{"cluster_resource_state":null}"#] {
        assert!(matches!(wire::decode_cluster_state_json(text), Err(wire::DecodeError::NoState)), "{text}");
    }
    for text in ["", "{", r#"{"node_states": 3}"#, r#"{"node_states": [{"node_id": "!"}]}"#] {
        assert!(matches!(wire::decode_cluster_state_json(text), Err(wire::DecodeError::Json(_))), "{text}");
    }
    let whole = bytes("idle_three_nodes");
    assert!(wire::decode_cluster_state(&whole[..whole.len() - 3]).is_err());
}
