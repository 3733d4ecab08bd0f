//! Gangs of one RayCluster beside another one whose requests get no answer: a webhook of its namespace that hangs.

use std::time::Duration;

use mobula_apiserver::{ApiServer, Rule, Verb};
use serde_json::Value;
use tokio::time::sleep;

use crate::{gpu_cluster, in_virtual_time, started, until, workers};

const NODES: &[(&str, i64)] = &[("a", 8), ("b", 8), ("c", 8), ("d", 8)];

/// Each pass of gang admission waited half a minute for the slowest answer, and the next one again.
#[test]
fn a_mark_that_gets_no_answer_holds_up_no_other_gang() {
    in_virtual_time(async {
        let (server, process) = started(NODES);
        process.connection.fail(Rule::on(Verb::Patch, "rayclusters").named("y").always().hang());
        gpu_cluster(&server, "y", 2);
        assert!(until(|| workers(&server, "y") == (0, 2), 30).await, "{:?}", workers(&server, "y"));
        sleep(Duration::from_secs(2)).await;
        gpu_cluster(&server, "x", 2);
        assert!(until(|| workers(&server, "x") == (0, 2), 10).await, "{:?}", workers(&server, "x"));
        sleep(Duration::from_secs(600)).await;
        let tries = process.connection.count(Verb::Patch, "rayclusters");
        assert!(tries < 60, "{tries}: it is tried ever more slowly");
        process.connection.recover();
        let mark = |name: &str| {
            let cluster = server.get("rayclusters", "default", name).unwrap();
            cluster["metadata"]["annotations"]["mobula.dev/gangs-whole"].is_string()
        };
        assert!(until(|| mark("x") && mark("y"), 60).await);
        process.crash();
    });
}

/// The nodes that gated pods were to be given, by requests that are under way.
fn nodes_of(server: &ApiServer, name: &str) -> Vec<Value> {
    let mut nodes = Vec::new();
    server.each("pods", "", |pod| {
        let labels = &pod["metadata"]["labels"];
        if labels["ray.io/cluster"] == name && labels["ray.io/node-type"] == "worker" {
            nodes.push(pod["spec"]["nodeName"].clone());
        }
    });
    nodes
}

/// What is lifted late has its place all the same, and nobody else is given it meanwhile.
#[test]
fn a_gang_that_is_lifted_slowly_keeps_its_places_and_holds_up_no_other() {
    in_virtual_time(async {
        let (server, process) = started(NODES);
        gpu_cluster(&server, "y", 2);
        sleep(Duration::from_millis(100)).await;
        for name in crate::bench::pods(&server, "worker") {
            let slow = Rule::on(Verb::Patch, "pods").named(&name).delay_answer(Duration::from_secs(9));
            process.connection.fail(slow.always());
        }
        sleep(Duration::from_secs(2)).await;
        gpu_cluster(&server, "x", 3);
        assert!(until(|| workers(&server, "y") == (0, 2), 30).await, "{:?}", workers(&server, "y"));
        sleep(Duration::from_secs(60)).await;
        assert_eq!(workers(&server, "x"), (3, 0), "there are two nodes for it");
        let mut nodes = nodes_of(&server, "y");
        nodes.dedup();
        assert_eq!(nodes.len(), 2);
        process.crash();
    });
}
