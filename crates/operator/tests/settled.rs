//! Every recorded RayCluster, run until it has settled: status and events are what KubeRay's were, except where this file
//! says why not.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test reads the files beside it")]

mod bench;

use std::{collections::BTreeSet, time::Duration};

use bench::{
    Process, kubelet,
    recorded::{config, inputs, manifest, recording},
    server,
};
use mobula_operator::config::Config;
use serde_json::{Value, json};
use tokio::time::sleep;

/// Inputs whose status or events differ on purpose, and why. Everything else is equal.
const DIFFERENCES: [(&str, &str); 7] = [
    ("x-autoscaler-sa", "KubeRay says in an Event only that the account is missing; here the status says it, too"),
    ("x-bad-dupgroup", "two groups of one name share their pods: refused"),
    ("x-bad-ftannot-false", INVALID),
    ("x-bad-gcsft-conflict", INVALID),
    ("x-bad-minmax", INVALID),
    ("x-bad-name", INVALID),
    ("x-bad-noimage", INVALID),
];
const INVALID: &str = "KubeRay says in an Event only what is wrong; here a condition says it, too";

/// Times, addresses and the ends of names say nothing.
fn normalised(status: &Value) -> Value {
    let mut status = status.clone();
    if let Some(object) = status.as_object_mut() {
        object.remove("workerGroups");
        object.remove("observedGeneration");
        if let Some(conditions) = object.get_mut("conditions").and_then(Value::as_array_mut) {
            conditions.sort_by_key(|condition| condition["type"].as_str().map(str::to_owned));
            for condition in conditions.iter_mut() {
                condition["lastTransitionTime"] = json!("TIME");
            }
        }
        object.entry("lastUpdateTime").and_modify(|time| *time = json!("TIME"));
        for (_, port) in object.get_mut("endpoints").and_then(Value::as_object_mut).into_iter().flatten() {
            if port.as_str().and_then(|port| port.parse::<u16>().ok()).is_some_and(|port| port >= 30_000) {
                *port = json!("NODE_PORT");
            }
        }
        for (_, time) in object.get_mut("stateTransitionTimes").and_then(Value::as_object_mut).into_iter().flatten() {
            *time = json!("TIME");
        }
        if let Some(head) = object.get_mut("head").and_then(Value::as_object_mut) {
            for name in ["podIP", "serviceIP"] {
                if head.contains_key(name) {
                    head.insert(name.to_owned(), json!("POD_IP"));
                }
            }
            if let Some(name) = head.get("podName").and_then(Value::as_str).map(str::to_owned) {
                let stem = name.rsplit_once('-').map_or(name.as_str(), |(stem, _)| stem);
                head.insert("podName".to_owned(), json!(format!("{stem}-RAND")));
            }
        }
    }
    status
}

fn events(events: &[Value], on: &str) -> BTreeSet<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_cluster = events.iter().filter(|event| event.pointer(on).is_some_and(|kind| kind == "RayCluster"));
    of_cluster.map(|event| format!("{} {}", text(&event["type"]), text(&event["reason"]))).collect()
}

async fn settled(input: &str, config: Config) -> (Value, BTreeSet<String>) {
    let server = server(1);
    // The server gives an address, and ports of nodes, to a Service that has none.
    server
        .admit("services", |review| {
            let spec = &mut review.object["spec"];
            if spec.get("clusterIP").is_none() {
                spec["clusterIP"] = json!("10.1.0.1");
            }
            if spec["type"] == "NodePort" || spec["type"] == "LoadBalancer" {
                for port in spec["ports"].as_array_mut().into_iter().flatten() {
                    if port.get("nodePort").is_none() {
                        port["nodePort"] = json!(30_000);
                    }
                }
            }
            Ok(())
        })
        .unwrap();
    kubelet(&server);
    let process = Process::start(server.connect(), config, "a");
    let name = match manifest(input).map(|cluster| server.create("rayclusters", cluster)) {
        Some(Ok(cluster)) => cluster["metadata"]["name"].as_str().unwrap().to_owned(),
        _ => String::new(),
    };
    sleep(Duration::from_secs(20)).await;
    let status = server.get("rayclusters", "default", &name).map(|it| it["status"].clone()).unwrap_or_default();
    let said = events(&server.list("events", "default"), "/involvedObject/kind");
    process.end().await;
    (normalised(&status), said)
}

#[test]
fn status_and_events_are_kuberays() {
    let mut report = String::new();
    for input in &inputs() {
        let recorded: Value = serde_json::from_str(&recording(input)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (status, said) = runtime.block_on(settled(input, config(input)));
        let expected = normalised(&recorded["status"]);
        let expected = if expected == json!({}) { Value::Null } else { expected };
        let expected_said = events(recorded["events"].as_array().map_or(&[], Vec::as_slice), "/on");
        let is_meant = DIFFERENCES.iter().any(|(name, _)| name == input);
        if is_meant && said == expected_said && status == expected {
            report += &format!("{input}: is listed as different, and is not\n");
        }
        if said != expected_said && !is_meant {
            report += &format!("{input}: events {said:?}, recorded {expected_said:?}\n");
        }
        if status != expected && !is_meant {
            report += &format!("{input}: {}\n", differing(&expected, &status, ""));
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

fn differing(expected: &Value, found: &Value, path: &str) -> String {
    match (expected, found) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let nothing = Value::Null;
            keys.into_iter()
                .filter(|key| a.get(*key) != b.get(*key))
                .map(|key| {
                    let pair = (a.get(key).unwrap_or(&nothing), b.get(key).unwrap_or(&nothing));
                    differing(pair.0, pair.1, &format!("{path}/{key}"))
                })
                .collect::<Vec<_>>()
                .join("; ")
        }
        _ => format!("{path}: recorded {expected}, found {found}"),
    }
}
