//! Whatever the GCS and the pods say: a snapshot comes out, and it keeps its promises.

use std::collections::BTreeSet;

use mobula_planner::NodePhase;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn amount() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), 0.0..1e6, Just(-1.0), Just(f64::NAN), Just(f64::INFINITY), Just(1e300)]
}

fn resource_map() -> impl Strategy<Value = gcs::ResourceMap> {
    let name = select(vec!["CPU", "GPU", "node:10.0.0.1", "node:__internal_head__", "CPU_group_ab", ""]);
    vec((name, amount()), 0..4).prop_map(|entries| resources(&entries))
}

fn status() -> impl Strategy<Value = gcs::NodeStatus> {
    use gcs::NodeStatus::{Dead, Draining, Idle, Running, Unspecified};
    select(vec![Unspecified, Running, Dead, Idle, Draining])
}

fn ray_nodes() -> impl Strategy<Value = Vec<gcs::NodeState>> {
    let instance = select(vec!["", "a", "b", "c", "d", "e", "f"]);
    let group = select(vec!["", "one", "many", "headgroup", "unknown"]);
    let parts = (instance, group, status(), resource_map(), resource_map(), any::<i64>());
    let node = parts.prop_map(|(instance, group, status, total, available, idle_ms)| gcs::NodeState {
        status,
        total: total.into(),
        available: available.into(),
        idle_ms,
        ..ray_node(instance, group)
    });
    vec(node, 0..12).prop_map(|mut nodes| {
        // Ray's own ids are unique.
        nodes.iter_mut().enumerate().for_each(|(index, node)| node.node_id = format!("{index:02}"));
        nodes
    })
}

/// Group, being deleted, replica, failed; or no such pod.
type PodChoice = Option<(&'static str, bool, Option<&'static str>, bool)>;

fn pods() -> impl Strategy<Value = Option<Vec<PodView>>> {
    let group = select(vec!["", "one", "many", "unknown"]);
    let parts = (group, any::<bool>(), proptest::option::of(select(vec!["r1", "r2"])), any::<bool>());
    let all = vec(proptest::option::of(parts), 7).prop_map(|choices| {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let of = |(name, choice): (&str, PodChoice)| {
            let (group, terminating, replica, failed) = choice?;
            let mut view = pod(name, group, &json!({}));
            view.terminating = terminating;
            view.replica = replica.map(str::to_owned);
            view.phase = if failed { "Failed" } else { "Running" }.to_owned();
            Some(view)
        };
        names.into_iter().zip(choices).filter_map(of).collect()
    });
    proptest::option::of(all)
}

fn demand() -> impl Strategy<Value = (Vec<gcs::RequestByCount>, Vec<gcs::GangRequest>)> {
    let request = || resource_map().prop_map(|resources| gcs::ResourceRequest { resources, ..Default::default() });
    let counted = (request(), any::<i64>()).prop_map(|(request, count)| gcs::RequestByCount { request, count });
    let gang = (vec(request(), 0..3), vec(request(), 0..3), "[a-f0-9:|A-Z]{0,12}").prop_map(
        |(requests, selected, details)| gcs::GangRequest {
            requests,
            details,
            bundle_selectors: vec![gcs::BundleSelector { requests: selected, locality: None }],
        },
    );
    (vec(counted, 0..6), vec(gang, 0..4))
}

fn observations() -> impl Strategy<Value = Observation> {
    (ray_nodes(), pods(), demand(), 0..5_u32, vec(select(vec!["a", "b", "x"]), 0..3)).prop_map(
        |(nodes, pods, (pending, gangs), replicas, named)| {
            let strategy = json!({"workersToDelete": named});
            let one = group("one", &json!({"replicas": replicas, "scaleStrategy": strategy}));
            let many = group("many", &json!({"replicas": replicas, "numOfHosts": 2}));
            let state = gcs::ClusterState { nodes: nodes.into(), pending, gangs, ..Default::default() };
            observation(&[one, many], state, pods)
        },
    )
}

proptest! {
    #[test]
    fn every_observation_has_a_snapshot_that_keeps_its_promises(observation in observations()) {
        let snapshot = built(&observation).snapshot;
        let named: Vec<&str> = instances(&snapshot).into_iter().filter(|name| !name.is_empty()).collect();
        prop_assert_eq!(named.len(), named.iter().collect::<BTreeSet<_>>().len(), "instance ids are unique");
        for class in &snapshot.demand {
            prop_assert!(class.count > 0);
            prop_assert!(class.request.resources.values().all(|amount| amount.steps() >= 0));
        }
        prop_assert!(snapshot.gangs.iter().all(|gang| !gang.bundles.is_empty()));
        for group in &snapshot.node_types {
            let nodes: Vec<&Node> =
                snapshot.nodes.iter().filter(|n| *n.group == *group.name && !n.instance_id.is_empty()).collect();
            let requested = nodes.iter().filter(|node| node.phase == NodePhase::Requested).count();
            prop_assert!(requested <= (group.requested_replicas * group.num_of_hosts) as usize);
            prop_assert!(nodes.iter().all(|node| group.num_of_hosts == 1 || node.replica.is_some() || node.is_head));
        }
    }

    #[test]
    fn the_order_of_nodes_and_pods_does_not_matter(observation in observations()) {
        let mut reversed = observation.clone();
        reversed.state.nodes = reversed.state.nodes.iter().cloned().collect::<Vec<_>>().into_iter().rev().collect();
        reversed.pods = reversed.pods.map(|pods| pods.iter().rev().cloned().collect());
        // Two Ray nodes that are equally likely to be the live one of a pod are told apart by their order only.
        let live = observation.state.nodes.living().iter();
        let ids: Vec<&str> = live.map(|node| node.instance_id.as_str()).filter(|id| !id.is_empty()).collect();
        prop_assume!(ids.len() == ids.iter().collect::<BTreeSet<_>>().len());
        prop_assert_eq!(built(&observation).snapshot, built(&reversed).snapshot);
    }
}
