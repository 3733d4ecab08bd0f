use std::sync::Arc;

use mobula_planner::{
    Amount, CapacityType, FabricWish, Host, Nearness, NodePhase, Offering, PendingCause, Quota, TopologyLevel,
};

use super::super::Surroundings;
use super::*;
use crate::{hosts, prices::Prices};

/// A group whose pods request 2 CPU and one GPU.
fn gpu_group(merge: &Value) -> Value {
    let template = json!({"spec": {"containers": [
        {"name": "ray", "resources": {"limits": {"cpu": "4", "nvidia.com/gpu": 1}, "requests": {"cpu": "2"}}}]}});
    let mut group = group("gpu", &json!({"template": template}));
    json_patch::merge(&mut group, merge);
    group
}

/// A pod with this spec and status.
fn pod_in(name: &str, group: &str, spec: &Value, status: &Value) -> PodView {
    let labels = json!({"ray.io/cluster": "a", "ray.io/group": group, "ray.io/node-type": "worker"});
    PodView::from_value(&json!({"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status})).unwrap()
}

fn bound(name: &str, node: &str, phase: &str) -> PodView {
    pod_in(name, "gpu", &json!({"nodeName": node, "containers": []}), &json!({"phase": phase}))
}

/// Kubernetes nodes of 8 CPU, 4 GPU and 10 pods, with these names and taints.
fn with_nodes(observation: Observation, nodes: &[(&str, Value)]) -> Observation {
    let node = |(name, taints): &(&str, Value)| {
        json!({"metadata": {"name": name, "labels": {"zone": "z"}}, "spec": {"taints": taints},
            "status": {"allocatable": {"cpu": "8", "nvidia.com/gpu": "4", "pods": "10"}}})
    };
    let list = json!({"items": nodes.iter().map(node).collect::<Vec<_>>()});
    let kube_nodes = hosts::read(&list, |_| true).into();
    Observation { surroundings: Surroundings { kube_nodes, ..Surroundings::default() }, ..observation }
}

fn free(host: &Host) -> Vec<(&str, f64)> {
    host.free.iter().map(|(name, amount)| (name.as_str(), amount.as_f64())).collect()
}

#[test]
fn of_a_kubernetes_node_is_free_what_the_pods_on_it_leave() {
    let pods = vec![bound("a", "n1", "Running"), bound("b", "n1", "Pending"), bound("c", "n1", "Failed")];
    let observation = of_nodes(&[gpu_group(&json!({}))], vec![ray_node("a", "gpu")], Some(pods));
    let snapshot = clean(&with_nodes(observation, &[("n1", json!([])), ("n2", json!([]))]));
    assert_eq!(free(&snapshot.hosts[0]), [("cpu", 4.0), ("nvidia.com/gpu", 2.0), ("pods", 8.0)]);
    assert_eq!(free(&snapshot.hosts[1]), [("cpu", 8.0), ("nvidia.com/gpu", 4.0), ("pods", 10.0)]);
    assert_eq!(snapshot.hosts[0].labels["zone"], "z");
    let hosts = ["a", "b"].map(|name| node(&snapshot, name).host.as_deref());
    assert_eq!(hosts, [Some("n1"), Some("n1")]);
}

#[test]
fn a_taint_that_no_group_tolerates_makes_a_node_unfit() {
    let taint = |key: &str| json!([{"key": key, "effect": "NoSchedule"}]);
    let nodes = [("gpu", taint("nvidia.com/gpu")), ("team", taint("team")), ("control", taint("control-plane"))];
    let tolerant = json!({"template": {"spec": {"tolerations": [{"key": "team", "operator": "Exists"}]}}});
    let snapshot = clean(&with_nodes(of_nodes(&[gpu_group(&tolerant)], vec![], None), &nodes));
    let unfit: Vec<(&str, Option<&str>)> =
        snapshot.hosts.iter().map(|host| (host.name.as_str(), host.unfit.as_deref())).collect();
    // Pods that ask for a device are let past the taint of its name.
    let why = Some("has taint control-plane:NoSchedule, which no group tolerates");
    assert_eq!(unfit, [("control", why), ("gpu", None), ("team", None)]);
}

#[test]
fn what_a_pod_requests_and_what_its_template_says_of_rdma_are_facts_of_its_group() {
    let annotated =
        |value: &str| gpu_group(&json!({"template": {"metadata": {"annotations": {"mobula.dev/fabric": value}}}}));
    let facts = |group: Value| built(&of_nodes(&[group], vec![], None)).snapshot.node_types[1].facts.clone();
    let requests = facts(annotated("required")).pod_requests;
    let expected = [("cpu".to_owned(), Amount::from_units(2)), ("nvidia.com/gpu".to_owned(), Amount::from_units(1))];
    assert_eq!(requests, expected.into());
    assert_eq!(facts(annotated("required")).fabric, Some(FabricWish::Required));
    assert_eq!(facts(annotated("preferred")).fabric, Some(FabricWish::Preferred));
    assert_eq!(facts(gpu_group(&json!({}))).fabric, None);
    let odd = built(&of_nodes(&[annotated("always")], vec![], None));
    assert_eq!(odd.snapshot.node_types[1].facts.fabric, None);
    assert_eq!(
        odd.warnings,
        ["group gpu: annotation mobula.dev/fabric: \"always\": must be required or preferred: ignored"]
    );
}

#[test]
fn how_near_gangs_have_to_be_is_read_from_annotations_of_mobula_kueue_and_kai() {
    let level = |name: &str, key: &str| TopologyLevel {
        name: name.to_owned(),
        keys: vec![key.to_owned()],
        ..TopologyLevel::default()
    };
    let topology = vec![level("block", "example.com/block"), level("rack", "example.com/rack")];
    let options = SnapshotOptions { topology, ..SnapshotOptions::default() };
    let read = |annotations: Value, options: &SnapshotOptions| {
        let group = gpu_group(&json!({"template": {"metadata": {"annotations": annotations}}}));
        let built = build(&of_nodes(&[group], vec![], None), options).unwrap();
        let Nearness { required, preferred } = built.snapshot.node_types[1].facts.nearness.clone();
        (required.unwrap_or_default(), preferred.unwrap_or_default(), built.warnings)
    };
    let clean = |required: &str, preferred: &str| (required.to_owned(), preferred.to_owned(), vec![]);
    let own = json!({"mobula.dev/topology-required": "block", "mobula.dev/topology-preferred": "rack",
        "kueue.x-k8s.io/podset-required-topology": "example.com/rack"});
    assert_eq!(read(own, &options), clean("block", "rack"));
    let kueue = json!({"kueue.x-k8s.io/podset-preferred-topology": "example.com/rack"});
    assert_eq!(read(kueue, &options), clean("", "example.com/rack"));
    let kai = json!({"kai.scheduler/topology-required-placement": "example.com/block"});
    assert_eq!(read(kai, &options), clean("example.com/block", ""));

    let (required, _, warnings) = read(json!({"mobula.dev/topology-required": "rakc"}), &options);
    assert_eq!(required, "rakc");
    assert_eq!(
        warnings,
        [
            "group gpu: annotation mobula.dev/topology-required: \"rakc\": must be a level of the topology, by its name or a \
            label key of it; its levels are block, rack: placement groups on its pods are held"
        ]
    );
    let (required, _, warnings) =
        read(json!({"kueue.x-k8s.io/podset-required-topology": 7}), &SnapshotOptions::default());
    assert_eq!(required, "");
    assert_eq!(
        warnings,
        [
            "group gpu: annotation kueue.x-k8s.io/podset-required-topology: 7: must be a level of the topology, which has \
            none: ignored"
        ]
    );
}

#[test]
fn every_pending_pod_says_what_it_waits_for() {
    let unscheduled = |message: &str| {
        json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]})
    };
    let mut nominated = unscheduled("0/3 nodes");
    nominated["nominatedNodeName"] = json!("n");
    let bound = json!({"nodeName": "n", "containers": [{"name": "ray"}]});
    let doing = |state: Value| json!({"phase": "Pending", "containerStatuses": [{"name": "ray", "state": state}]});
    let cases = [
        (json!({"schedulingGates": [{"name": "g"}]}), json!({}), PendingCause::Gated),
        (json!({}), json!({}), PendingCause::Provisioning),
        (json!({}), unscheduled("0/3 nodes are available"), PendingCause::Unschedulable),
        (json!({}), unscheduled("pod didn't trigger scale-up"), PendingCause::Unschedulable),
        (json!({}), unscheduled("pod triggered scale-up: [{g 1->2}]"), PendingCause::Provisioning),
        (json!({}), nominated, PendingCause::Provisioning),
        (bound.clone(), doing(json!({"waiting": {"reason": "ContainerCreating"}})), PendingCause::Pulling),
        (bound.clone(), doing(json!({"waiting": {"reason": "ImagePullBackOff"}})), PendingCause::Pulling),
        (bound.clone(), doing(json!({"running": {}})), PendingCause::Registering),
    ];
    for (spec, status, expected) in cases {
        let pods = vec![pod_in("p", "gpu", &spec, &status)];
        let snapshot = clean(&of_nodes(&[gpu_group(&json!({}))], vec![], Some(pods)));
        assert_eq!(node(&snapshot, "p").pending_cause, Some(expected), "{spec} {status}");
    }
}

#[test]
fn a_node_on_which_ray_runs_waits_for_nothing() {
    let pods = Some(vec![bound("p", "n", "Running")]);
    let snapshot = clean(&of_nodes(&[gpu_group(&json!({}))], vec![ray_node("p", "gpu")], pods));
    assert_eq!((node(&snapshot, "p").phase, node(&snapshot, "p").pending_cause), (NodePhase::Running, None));
}

/// Groups whose instances are asked for, not there, and refused, with this status of the RayCluster.
fn refused(status: Value) -> Vec<String> {
    let asked = |name: &str| group(name, &json!({"replicas": 1}));
    let mut observation = of_nodes(&[asked("one"), asked("two")], vec![], Some(vec![]));
    Arc::make_mut(&mut observation.cluster).status = status;
    let snapshot = clean(&observation);
    let of = |cause| snapshot.nodes.iter().filter(move |node| node.pending_cause == Some(cause));
    assert_eq!(of(PendingCause::QuotaRefused).count() + of(PendingCause::Provisioning).count(), 2);
    of(PendingCause::QuotaRefused).map(|node| node.group.to_string()).collect()
}

#[test]
fn what_is_asked_for_and_refused_by_a_quota_is_told_from_what_is_on_its_way() {
    let failure = |status: &str, message: &str| {
        json!({"conditions": [{"type": "ReplicaFailure", "status": status, "reason": "FailedCreateWorkerPod",
            "message": message}]})
    };
    let quota =
        "pods \"a-two-worker-x7k2p\" is forbidden: exceeded quota: q, requested: cpu=1, used: cpu=8, limited: cpu=8";
    assert_eq!(refused(failure("True", quota)), ["two"]);
    assert_eq!(refused(failure("False", quota)), [""; 0]);
    assert_eq!(refused(failure("True", "connection refused")), [""; 0]);
    // Where the name of the pod does not tell the group, it may be any.
    assert_eq!(refused(failure("True", "admission webhook \"w\" denied the request: no")), ["one", "two"]);
    assert_eq!(refused(json!({"reason": quota})), ["two"]);
    assert_eq!(refused(json!({"conditions": 3})), [""; 0]);
}

#[test]
fn what_is_asked_for_already_is_taken_off_quotas() {
    let quota = |groups: &[&str], free: &[(&str, i64)]| Quota {
        source: "q".to_owned(),
        groups: groups.iter().map(|name| (*name).to_owned()).collect(),
        free: free.iter().map(|(name, units)| ((*name).to_owned(), Amount::from_units(*units))).collect(),
    };
    let groups = [gpu_group(&json!({"replicas": 3})), group("other", &json!({}))];
    let mut observation = of_nodes(&groups, vec![], Some(vec![bound("p", "n", "Running")]));
    observation.surroundings.quotas = vec![
        quota(&[], &[("cpu", 10), ("pods", 7), ("memory", 5)]),
        quota(&["other"], &[("cpu", 10)]),
        quota(&["gpu"], &[("nvidia.com/gpu", 1)]),
    ];
    // One of the three pods is there; two are asked for.
    let expected = [
        quota(&[], &[("cpu", 6), ("pods", 5), ("memory", 5)]),
        quota(&["other"], &[("cpu", 10)]),
        quota(&["gpu"], &[("nvidia.com/gpu", 0)]),
    ];
    assert_eq!(clean(&observation).quotas, expected);
}

#[test]
fn prices_and_topology_come_from_the_options() {
    let offering = Offering { price_per_hour: 3.2, capacity_type: CapacityType::Spot, zone: None };
    let level = TopologyLevel { name: "rack".to_owned(), ..TopologyLevel::default() };
    let options = SnapshotOptions {
        prices: Prices([("gpu", vec![offering.clone()]), ("none", vec![])].map(|(n, o)| (n.to_owned(), o)).into()),
        topology: vec![level.clone()],
        ..SnapshotOptions::default()
    };
    let built = build(&of_nodes(&[gpu_group(&json!({}))], vec![], None), &options).unwrap();
    assert_eq!(built.snapshot.node_types[1].offerings, [offering]);
    assert_eq!(built.snapshot.topology, [level]);
    assert_eq!(built.warnings, ["prices: none: the RayCluster has no such group: ignored"]);
}
