//! Nodes of a few GPUs, a scheduler that binds one pod after another, and kubelets that pull images.

use std::{collections::BTreeMap, time::Duration};

use mobula_apiserver::ApiServer;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::bench::{cluster, run};

pub fn node(server: &ApiServer, name: &str, rack: &str, gpus: i64) {
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": rack}},
        "status": {"allocatable": {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": gpus},
                   "conditions": [{"type": "Ready", "status": "True"}]},
    });
    server.create("nodes", node).unwrap();
}

pub fn gpu_cluster(server: &ApiServer, name: &str, replicas: i64) {
    gpu_cluster_with(server, name, replicas, |_| {});
}

pub fn gpu_cluster_with(server: &ApiServer, name: &str, replicas: i64, change: impl Fn(&mut Value)) {
    let mut object = cluster(name, replicas, 1);
    object["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] =
        json!(8);
    change(&mut object);
    server.create("rayclusters", object).unwrap();
}

pub fn is_gated(pod: &Value) -> bool {
    pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty())
}

/// kube-scheduler binds no pod that is being deleted.
pub fn is_leaving(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string()
}

pub fn gpus(pod: &Value) -> i64 {
    let limits = &pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"];
    limits.as_i64().or_else(|| limits.as_str().and_then(|text| text.parse().ok())).unwrap_or(0)
}

/// Whether a pod must not be on the node of another one.
pub fn are_apart(pod: &Value, other: &Value) -> bool {
    let terms = &pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let is_like = |labels: &Value| {
        labels.as_object().unwrap().iter().all(|(key, value)| other["metadata"]["labels"][key] == *value)
    };
    terms.as_array().into_iter().flatten().any(|term| is_like(&term["labelSelector"]["matchLabels"]))
}

/// How long the image of a pod is pulled, in s.
pub fn pulls_for(pod: &Value) -> Option<u64> {
    pod["metadata"]["annotations"]["test/pulls-for"].as_str()?.parse().ok()
}

/// Starts what was pulled. `since`: when the pulling began.
pub fn start_pulled(server: &ApiServer, since: &mut BTreeMap<String, tokio::time::Instant>) {
    let mut pulled = Vec::new();
    server.each("pods", "", |pod| {
        let is_pulling = pod["spec"]["nodeName"].is_string() && pod["status"]["phase"] != "Running";
        let Some(seconds) = pulls_for(pod).filter(|_| is_pulling && !is_leaving(pod)) else { return };
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let since = since.entry(pod["metadata"]["uid"].as_str().unwrap().to_owned());
        if since.or_insert_with(tokio::time::Instant::now).elapsed() >= Duration::from_secs(seconds) {
            pulled.push((name, pod["spec"]["nodeName"].clone()));
        }
    });
    for (name, node) in pulled {
        let start = |pod: &mut Value| {
            run(pod);
            pod["spec"]["nodeName"] = node.clone();
        };
        server.edit("pods", "default", &name, start).unwrap();
    }
}

/// Lets the images of the workers of a RayCluster be pulled for so long.
pub fn pull_for(object: &mut Value, seconds: u64) {
    for group in object["spec"]["workerGroupSpecs"].as_array_mut().unwrap() {
        group["template"]["metadata"]["annotations"]["test/pulls-for"] = json!(seconds.to_string());
    }
}

/// Binds one pod: the first that is not gated, whose turn it is, and that fits. What is pinned goes nowhere else.
pub fn schedule(server: &ApiServer, nodes: &[(&str, i64)], has_turn: impl Fn(&Value) -> bool) {
    let mut used: BTreeMap<String, i64> = BTreeMap::new();
    let mut bound = Vec::new();
    let mut pending = Vec::new();
    server.each("pods", "", |pod| match pod["spec"]["nodeName"].as_str() {
        Some(node) => {
            *used.entry(node.to_owned()).or_default() += gpus(pod);
            bound.push(pod.clone());
        }
        None if !is_gated(pod) && !is_leaving(pod) && has_turn(pod) => pending.push(pod.clone()),
        None => {}
    });
    for pod in pending {
        let pinned = pod["spec"]["nodeSelector"]["kubernetes.io/hostname"].as_str();
        let fits = |(name, most): &&(&str, i64)| {
            let is_free = used.get(*name).copied().unwrap_or(0) + gpus(&pod) <= *most;
            let is_alone = !bound.iter().any(|other| other["spec"]["nodeName"] == **name && are_apart(&pod, other));
            pinned.is_none_or(|pinned| pinned == *name) && is_free && is_alone
        };
        if let Some((node, _)) = nodes.iter().find(fits) {
            let name = pod["metadata"]["name"].as_str().unwrap();
            server
                .edit("pods", "default", name, |pod| {
                    if pulls_for(pod).is_none() {
                        run(pod);
                    }
                    pod["spec"]["nodeName"] = json!(node);
                })
                .unwrap();
            return;
        }
    }
}

pub fn kubelet(server: &ApiServer, nodes: &'static [(&'static str, i64)]) {
    kubelet_with(server, nodes, |_| true);
}

pub fn kubelet_with(
    server: &ApiServer,
    nodes: &'static [(&'static str, i64)],
    has_turn: impl Fn(&Value) -> bool + Send + 'static,
) {
    let server = server.clone();
    tokio::spawn(async move {
        let mut since = BTreeMap::new();
        loop {
            let mut ending = Vec::new();
            server.each("pods", "", |pod| {
                if pod.pointer("/metadata/deletionTimestamp").is_some() {
                    ending.push(pod["metadata"]["name"].as_str().unwrap().to_owned());
                }
            });
            for name in ending {
                server.finish_pod("default", &name).unwrap();
            }
            schedule(&server, nodes, &has_turn);
            start_pulled(&server, &mut since);
            sleep(Duration::from_millis(100)).await;
        }
    });
}
