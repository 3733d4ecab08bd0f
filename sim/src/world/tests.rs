//! The models on their own: placing, affinity, preemption, labels of nodes.
#![allow(clippy::needless_pass_by_value, reason = "JSON is written where it is used")]

use std::collections::BTreeMap;

use mobula_apiserver::{ApiServer, Kind, Settings};
use mobula_planner::PolicyOptions;
use serde_json::{Value, json};

use super::affinity::Placed;
use super::pod::PodSpec;
use super::scheduler::{Victim, choose, misfit, preempt};
use super::*;
use crate::clock::VirtualClock;
use crate::inbox::News;
use crate::log::EventLog;
use crate::scenario::{NodePool, Scenario, Score, TEMPLATE};

fn pool(extra: Value) -> NodePool {
    let mut pool = json!({"name": "n", "count": 1, "capacity": {"cpu": 8, "memory": "32Gi"}});
    pool.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    serde_json::from_value(pool).unwrap()
}

fn node(index: u32, pool: &NodePool) -> KubeNode {
    KubeNode::new(0, pool, index, 0, true)
}

fn nodes(count: u32, extra: Value) -> BTreeMap<String, KubeNode> {
    let pool = pool(extra);
    (0..count).map(|index| node(index, &pool)).map(|node| (node.name.clone(), node)).collect()
}

fn spec(cpu: u32, extra: Value) -> PodSpec {
    let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}});
    let mut pod = json!({
        "metadata": {"namespace": "default", "labels": {"app": "a"}}, "spec": {"containers": [container]},
    });
    pod["spec"].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    PodSpec::read(&pod, &BTreeMap::new())
}

fn place(spec: &PodSpec, nodes: &BTreeMap<String, KubeNode>, placed: &[Placed<'_>]) -> Result<String, String> {
    choose("default", spec, nodes, &placed.iter().copied(), &BTreeMap::new(), Score::LeastAllocated).map(str::to_owned)
}

fn take(nodes: &mut BTreeMap<String, KubeNode>, name: &str, pod: &str, spec: &PodSpec) {
    nodes.get_mut(name).unwrap().take(Key { namespace: "default".into(), name: pod.into() }, &spec.requests);
}

#[test]
fn the_emptiest_node_that_fits_is_taken() {
    let mut nodes = nodes(2, json!({}));
    let pod = spec(3, json!({}));
    assert_eq!(place(&pod, &nodes, &[]).unwrap(), "n-0");
    take(&mut nodes, "n-0", "a", &pod);
    assert_eq!(place(&pod, &nodes, &[]).unwrap(), "n-1");
    let most = choose("default", &pod, &nodes, &[].into_iter(), &BTreeMap::new(), Score::MostAllocated);
    assert_eq!(most, Ok("n-0"));
    assert_eq!(place(&spec(9, json!({})), &nodes, &[]), Err("0/2 nodes are available: 2 Insufficient cpu.".into()));
}

#[test]
fn taints_selectors_and_affinity_hold() {
    let taint = json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}], "labels": {"zone": "a"}});
    let tainted = node(0, &pool(taint));
    let fits = |extra: Value| misfit(&spec(1, extra), &tainted, &tainted.free).is_none();
    assert!(!fits(json!({})));
    let toleration = json!([{"key": "gpu", "operator": "Exists"}]);
    assert!(fits(json!({"tolerations": toleration})));
    assert!(!fits(json!({"tolerations": [{"key": "gpu", "value": "no"}]})));
    assert!(fits(json!({"tolerations": [{"operator": "Exists"}], "nodeSelector": {"zone": "a"}})));
    assert!(!fits(json!({"tolerations": toleration, "nodeSelector": {"zone": "b"}})));
    let affinity = |zone: &str| {
        json!({"tolerations": toleration, "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}],
        }}}})
    };
    assert!(fits(affinity("a")) && !fits(affinity("b")));
}

#[test]
fn a_pod_keeps_away_from_its_like_and_others_keep_away_from_it() {
    let anti = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "kubernetes.io/hostname"},
    ]}}});
    let nodes = nodes(2, json!({}));
    let (shy, plain) = (spec(1, anti), spec(1, json!({})));
    let on_first = |spec| Placed { namespace: "default", spec, node: &nodes["n-0"] };
    assert_eq!(place(&shy, &nodes, &[on_first(&plain)]).unwrap(), "n-1");
    assert_eq!(place(&plain, &nodes, &[on_first(&shy)]).unwrap(), "n-1");
    let both = [on_first(&plain), Placed { namespace: "default", spec: &plain, node: &nodes["n-1"] }];
    assert!(place(&shy, &nodes, &both).unwrap_err().contains("2 didn't match pod anti-affinity rules"));
}

#[test]
fn a_pod_goes_to_those_that_it_wants_to_be_near() {
    let near = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "zone"},
    ]}}});
    let nodes = nodes(2, json!({"spread-labels": {"zone": ["a", "b"]}}));
    let pod = spec(1, near);
    assert_eq!(place(&pod, &nodes, &[]).unwrap(), "n-0", "the first of its kind may go anywhere");
    let there = Placed { namespace: "default", spec: &pod, node: &nodes["n-1"] };
    assert_eq!(place(&pod, &nodes, &[there]).unwrap(), "n-1");
}

#[test]
fn topology_spread_bounds_the_skew() {
    let spread = json!({"topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "a"}}},
    ]});
    let mut nodes = nodes(2, json!({"spread-labels": {"zone": ["a", "b"]}}));
    let pod = spec(1, spread);
    take(&mut nodes, "n-1", "big", &spec(6, json!({})));
    let there = Placed { namespace: "default", spec: &pod, node: &nodes["n-0"] };
    assert_eq!(place(&pod, &nodes, &[there]).unwrap(), "n-1", "although it is fuller");
}

#[test]
fn the_least_important_pods_are_pushed_out() {
    let mut nodes = nodes(2, json!({}));
    let of = |priority: i64| spec(4, json!({"priority": priority}));
    let pods: Vec<(Key, PodSpec, &str)> = [("a", 5, "n-0"), ("b", 1, "n-0"), ("c", 5, "n-1"), ("d", 7, "n-1")]
        .into_iter()
        .map(|(name, priority, node)| (Key { namespace: "default".into(), name: name.into() }, of(priority), node))
        .collect();
    for (key, spec, node) in &pods {
        take(&mut nodes, node, &key.name, spec);
    }
    let on_node = |node: &KubeNode| {
        let there = pods.iter().enumerate().filter(|(_, (.., name))| *name == node.name);
        there.map(|(number, (key, spec, _))| Victim { key, spec, number: number as u64, is_leaving: false }).collect()
    };
    let (node, victims) = preempt(&of(6), &nodes, &BTreeMap::new(), on_node).unwrap();
    assert_eq!((node, victims[0].name.as_str(), victims.len()), ("n-0", "b", 1));
    // The place of the first victim is that of the first preemptor: the second one needs another.
    let leaving = |node: &KubeNode| {
        let mut there = on_node(node);
        there.iter_mut().for_each(|victim| victim.is_leaving = victim.key.name == "b");
        there
    };
    assert_eq!(preempt(&of(6), &nodes, &BTreeMap::new(), leaving).unwrap(), ("n-0", vec![]));
    let reserved = BTreeMap::from([("n-0".to_owned(), of(6).requests)]);
    let (node, victims) = preempt(&of(6), &nodes, &reserved, leaving).unwrap();
    assert_eq!((node, victims[0].name.as_str()), ("n-1", "c"), "of equals the younger");
    assert!(preempt(&of(1), &nodes, &BTreeMap::new(), on_node).is_none());
    let polite = spec(4, json!({"priority": 9, "preemptionPolicy": "Never"}));
    assert!(preempt(&polite, &nodes, &BTreeMap::new(), on_node).is_none());
}

#[test]
fn labels_of_nodes_differ_as_the_pool_says() {
    let pool = pool(json!({"spread-labels": {"zone": ["a", "b"]}, "block-labels": {"rack": 2}}));
    let labels: Vec<String> = (0..4)
        .map(|index| node(index, &pool))
        .map(|node| format!("{} {}", node.labels["zone"], node.labels["rack"]))
        .collect();
    assert_eq!(labels, ["a n-0", "b n-0", "a n-1", "b n-1"]);
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn a_pod_whose_gate_is_lifted_goes_to_the_node_that_it_names_by_then() {
    let scenario = Scenario::read("test.yaml", TEMPLATE, &|_| Err(String::new())).unwrap();
    let server = ApiServer::new(Settings { kinds: Kind::without_add_ons(), ..Settings::default() });
    let log = EventLog::new(None);
    let options = PolicyOptions::default();
    let plan = SidecarPlan { policy: mobula_planner::policy("mobula", &options).unwrap(), options };
    let mut world = World::new(scenario.into(), 1, server.clone(), VirtualClock::start(), log, plan);
    world.nodes = nodes(2, json!({}));
    let pod = json!({
        "metadata": {"namespace": "default", "name": "p"},
        "spec": {"schedulingGates": [{"name": "g"}], "containers": [{"name": "c"}]},
    });
    server.create("pods", pod).unwrap();
    let lift = |pod: &mut Value| {
        pod["spec"]["schedulingGates"] = json!([]);
        pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "n-1"});
    };
    server.edit("pods", "default", "p", lift).unwrap();
    for news in world.inbox.take() {
        if let News::Changed(change) = news {
            world.object_changed(change);
        }
    }
    world.schedule();
    let key = Key { namespace: "default".into(), name: "p".into() };
    assert_eq!(world.pods[&key].node.as_deref(), Some("n-1"));
}
