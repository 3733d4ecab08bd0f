//! Replies of a real GCS, with the RayCluster that they were taken from.

use mobula_planner::{GangStrategy, NodePhase};

use super::*;

fn capture(bytes: &[u8]) -> Observation {
    observation(
        &[
            group("cpu-group", &json!({"labels": {"rack": "r1"}})),
            group("gpu-group", &json!({"labels": {"rack": "r1"}, "resources": {"GPU": "8", "rdma/hca": "8"}})),
        ],
        gcs::wire::decode_cluster_state(bytes).unwrap(),
        None,
    )
}

macro_rules! capture {
    ($name:literal) => {
        capture(include_bytes!(concat!("../../../../../deploy/examples/demand/", $name, ".pb")))
    };
}

fn phases(snapshot: &Snapshot, group: &str) -> Vec<NodePhase> {
    snapshot.nodes.iter().filter(|node| *node.group == *group).map(|node| node.phase).collect()
}

#[test]
fn tasks_keep_their_shapes_and_counts() {
    let snapshot = clean(&capture!("pending_tasks_shapes"));
    assert_eq!(snapshot.demand.len(), 8);
    assert_eq!(snapshot.demand.iter().map(|class| class.count).sum::<u64>(), 53);
    assert_eq!(snapshot.versions.session_name.split('_').next(), Some("session"));
    assert_eq!(phases(&snapshot, "cpu-group"), [NodePhase::Running]);
    assert_eq!(phases(&snapshot, "headgroup"), [NodePhase::Running]);
}

#[test]
fn selectors_that_came_in_two_orders_are_one_class() {
    let observation = capture!("pending_tasks_and_actors_label_selectors");
    let snapshot = clean(&observation);
    // `!in(spot, preempt)` came once as [spot, preempt] and once as [preempt, spot].
    assert_eq!(snapshot.demand.len(), observation.state.pending.len() - 1);
    assert!(snapshot.demand.iter().any(|class| class.request.selectors.len() == 3));
}

#[test]
fn each_strategy_is_told_apart() {
    let snapshot = clean(&capture!("pending_pg_each_strategy"));
    let mut strategies: Vec<GangStrategy> = snapshot.gangs.iter().map(|gang| gang.strategy).collect();
    strategies.sort_unstable();
    use GangStrategy::{Pack, Spread, StrictPack, StrictSpread};
    assert_eq!(strategies, [Pack, Spread, StrictPack, StrictSpread]);
    assert!(snapshot.gangs.iter().all(|gang| gang.bundles.len() == 3 && gang.id.len() == 36));
}

#[test]
fn a_topology_strategy_is_a_locality() {
    let snapshot = clean(&capture!("pending_pg_topology_strategy"));
    let mut labels: Vec<&str> =
        snapshot.gangs.iter().map(|gang| gang.locality.as_ref().unwrap().label.as_str()).collect();
    labels.sort_unstable();
    assert_eq!(labels, ["rack", "ray.io/gpu-domain", "zone"]);
}

#[test]
fn tasks_inside_a_placement_group_wait_for_it() {
    let observation = capture!("pending_pg_with_tasks_inside");
    assert_eq!(observation.state.pending.len(), 2);
    let snapshot = clean(&observation);
    assert_eq!((snapshot.demand.len(), snapshot.gangs.len()), (0, 1));
}

#[test]
fn a_rescheduled_gang_lists_what_it_lost_and_its_nodes_know_it() {
    let snapshot = clean(&capture!("pg_rescheduling_after_node_death"));
    let gang = &snapshot.gangs[0];
    assert!(gang.rescheduling);
    assert_eq!((gang.strategy, gang.bundles.len()), (GangStrategy::StrictSpread, 1));
    let holder = snapshot.nodes.iter().find(|node| node.dynamic_labels.contains_key(&format!("_PG_{}", gang.id)));
    assert_eq!(&*holder.unwrap().group, "gpu-group");
    // Dead nodes without a pod are gone, draining ones are leaving.
    assert_eq!(phases(&snapshot, "cpu-group"), [NodePhase::Leaving]);
    assert_eq!(phases(&snapshot, "gpu-group"), [NodePhase::Running]);
}

#[test]
fn idle_nodes_say_for_how_long() {
    let snapshot = clean(&capture!("idle_three_nodes"));
    assert_eq!(node(&snapshot, "raycluster-a-cpu-group-worker-aaaaa").idle_ms, Some(26_965));
    assert!(node(&snapshot, "raycluster-a-head-abcde").is_head);
}

#[test]
fn request_resources_is_one_constraint() {
    let snapshot = clean(&capture!("request_resources"));
    assert_eq!(snapshot.constraints.len(), 1);
    assert_eq!(snapshot.constraints[0].requests.iter().map(|class| class.count).sum::<u64>(), 27);
}
