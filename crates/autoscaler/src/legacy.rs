//! Heads in v1 mode: where their demand is, and the status that their `ray status` reads.

use std::collections::BTreeMap;

use mobula_gcs as gcs;
use mobula_planner::{Amount, DemandClass, NodePhase, Plan, Request, Resources, Snapshot};
use serde_json::{Map, Value, json};

use crate::document::{new_replicas, text};
use crate::report::{FailedInstance, PendingPod};

/// Key (in the empty namespace) of the JSON that `ray status` shows.
pub const STATUS_KEY: &str = "__autoscaling_status";

/// The cluster state with the demand of a v1 head in the place of its own.
pub fn cluster_state(state: gcs::ClusterState, demand: gcs::LegacyDemand) -> gcs::ClusterState {
    gcs::ClusterState { pending: demand.pending, gangs: demand.gangs, constraints: demand.constraints, ..state }
}

/// What the status says of this process.
#[derive(Copy, Clone, Debug, Default)]
pub struct Reporter {
    /// Unix time in ms.
    pub now_ms: i64,
    /// How long the GCS took to answer, in s.
    pub gcs_request_s: f64,
    /// Our process id.
    pub process_id: u32,
}

/// The JSON for [`STATUS_KEY`], in the shape that Ray's v1 `ray status` and dashboard parse.
pub fn status(
    snapshot: &Snapshot,
    plan: &Plan,
    reporter: Reporter,
    pending: &BTreeMap<String, PendingPod>,
    failed: &[FailedInstance],
) -> Value {
    json!({
        "time": seconds(reporter.now_ms),
        "monitor_pid": reporter.process_id,
        "gcs_request_time": reporter.gcs_request_s,
        "load_metrics_report": load_metrics(snapshot),
        "autoscaler_report": autoscaler_report(snapshot, plan, pending, failed),
    })
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn load_metrics(snapshot: &Snapshot) -> Value {
    let mut usage: BTreeMap<&str, (Amount, Amount)> = BTreeMap::new();
    let mut usage_by_node = Map::new();
    let mut node_types: BTreeMap<String, (Value, u64)> = BTreeMap::new();
    for node in snapshot.nodes.iter().filter(|node| node.phase == NodePhase::Running) {
        let mut of_node = Map::new();
        for (name, total) in node.total.iter() {
            let free = node.available.get(name).copied().unwrap_or_default();
            let used = Amount::from_steps(total.steps().saturating_sub(free.steps()).max(0));
            of_node.insert(name.clone(), json!([used.as_f64(), total.as_f64()]));
            let sum = usage.entry(name).or_default();
            sum.0 = Amount::from_steps(sum.0.steps().saturating_add(used.steps()));
            sum.1 = Amount::from_steps(sum.1.steps().saturating_add(total.steps()));
        }
        usage_by_node.insert(node.ray_node_id.clone().unwrap_or_default(), Value::Object(of_node));
        let shape = shape(&node.total);
        node_types.entry(shape.to_string()).or_insert((shape, 0)).1 += 1;
    }
    let usage: BTreeMap<&str, [f64; 2]> =
        usage.into_iter().map(|(name, (used, total))| (name, [used.as_f64(), total.as_f64()])).collect();
    let constraints = snapshot.constraints.iter().flat_map(|constraint| &constraint.requests);
    json!({
        "usage": usage,
        "usage_by_node": usage_by_node,
        "resource_demand": snapshot.demand.iter().map(counted).collect::<Vec<_>>(),
        "pg_demand": snapshot.gangs.iter().map(pending_group).collect::<Vec<_>>(),
        "request_demand": constraints.map(counted).collect::<Vec<_>>(),
        "node_types": node_types.into_values().map(|(shape, count)| json!([shape, count])).collect::<Vec<_>>(),
    })
}

fn counted(class: &DemandClass) -> Value {
    json!([shape(&class.request.resources), class.count])
}

fn pending_group(gang: &mobula_planner::Gang) -> Value {
    let mut bundles: Vec<(&Request, u64)> = Vec::new();
    for bundle in &gang.bundles {
        match bundles.iter_mut().find(|(same, _)| same.resources == bundle.resources) {
            Some((_, count)) => *count += 1,
            None => bundles.push((bundle, 1)),
        }
    }
    let bundles: Vec<Value> =
        bundles.into_iter().map(|(bundle, count)| json!([shape(&bundle.resources), count])).collect();
    json!([{"strategy": text::strategy(gang.strategy), "bundles": bundles}, 1])
}

/// Amounts as doubles: Ray prints them as they come.
fn shape(resources: &Resources) -> Value {
    resources.iter().map(|(name, amount)| (name.clone(), json!(amount.as_f64()))).collect::<Map<_, _>>().into()
}

fn autoscaler_report(
    snapshot: &Snapshot,
    plan: &Plan,
    pending: &BTreeMap<String, PendingPod>,
    failed: &[FailedInstance],
) -> Value {
    let mut active: BTreeMap<&str, u64> = BTreeMap::new();
    let mut idle: BTreeMap<&str, u64> = BTreeMap::new();
    let mut node_type_mapping = Map::new();
    let mut pending_nodes = Vec::new();
    for node in &snapshot.nodes {
        match node.phase {
            NodePhase::Running => {
                let counts = if node.idle_ms.is_some() { &mut idle } else { &mut active };
                *counts.entry(&node.group).or_default() += 1;
                node_type_mapping.insert(node.ray_node_id.clone().unwrap_or_default(), json!(node.group));
            }
            NodePhase::Pending => {
                let pod = pending.get(&*node.instance_id).cloned().unwrap_or_default();
                let name = if pod.ip.is_empty() { node.instance_id.to_string() } else { pod.ip };
                pending_nodes.push(json!([name, node.group, pod.details]));
            }
            NodePhase::Requested | NodePhase::Leaving | NodePhase::Stopped => {}
        }
    }
    json!({
        "active_nodes": active,
        "idle_nodes": idle,
        "pending_nodes": pending_nodes,
        "pending_launches": launching_pods(snapshot, plan),
        "failed_nodes": [],
        "node_availability_summary": {"node_availabilities": availabilities(failed)},
        "pending_resources": {},
        "node_type_mapping": node_type_mapping,
        "legacy": false,
    })
}

fn launching_pods(snapshot: &Snapshot, plan: &Plan) -> BTreeMap<String, u64> {
    let hosts = |group: &str| {
        let node_type = snapshot.node_types.iter().find(|node_type| node_type.name == group);
        u64::from(node_type.map_or(1, |node_type| node_type.num_of_hosts.max(1)))
    };
    let replicas = new_replicas(snapshot, plan);
    replicas.into_iter().map(|(group, replicas)| (group.clone(), u64::from(replicas) * hosts(&group))).collect()
}

/// The newest failure of each group.
fn availabilities(failed: &[FailedInstance]) -> Map<String, Value> {
    let mut newest: BTreeMap<&str, &FailedInstance> = BTreeMap::new();
    for failure in failed {
        let kept = newest.entry(&failure.group).or_insert(failure);
        if failure.failed_ms >= kept.failed_ms {
            *kept = failure;
        }
    }
    let record = |(group, failure): (&str, &FailedInstance)| {
        let record = json!({
            "node_type": group,
            "is_available": false,
            "last_checked_timestamp": seconds(failure.failed_ms),
            "unavailable_node_information": {"category": "LaunchFailed", "description": failure.reason},
        });
        (group.to_owned(), record)
    };
    newest.into_iter().map(record).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mobula_planner::{Gang, GangStrategy, GroupPlan, Node};

    use super::*;

    fn resources(entries: &[(&str, i64)]) -> Arc<Resources> {
        Arc::new(entries.iter().map(|(name, units)| ((*name).to_owned(), Amount::from_units(*units))).collect())
    }

    fn request(cpu: i64) -> Request {
        Request { resources: resources(&[("CPU", cpu)]), ..Request::default() }
    }

    fn node(pod: &str, phase: NodePhase, free: i64, idle_ms: Option<i64>) -> Node {
        Node {
            instance_id: pod.into(),
            ray_node_id: (phase == NodePhase::Running).then(|| format!("id-{pod}")),
            group: "g".into(),
            phase,
            total: resources(&[("CPU", 4)]),
            available: resources(&[("CPU", free)]),
            idle_ms,
            ..Node::default()
        }
    }

    #[test]
    fn the_demand_of_a_v1_head_replaces_the_state_s_own() {
        let counted = gcs::RequestByCount { count: 3, ..gcs::RequestByCount::default() };
        let demand = gcs::LegacyDemand {
            pending: vec![counted.clone()],
            gangs: vec![gcs::GangRequest::default()],
            constraints: vec![],
        };
        let state = gcs::ClusterState {
            session_name: "s".to_owned(),
            constraints: vec![vec![counted.clone()]],
            ..gcs::ClusterState::default()
        };
        let state = cluster_state(state, demand);
        assert_eq!((state.pending, state.gangs.len(), state.constraints), (vec![counted], 1, vec![]));
        assert_eq!(state.session_name, "s");
    }

    #[test]
    fn the_status_has_what_ray_status_shows() {
        let group = GroupPlan { current: 3, requested: 3, desired: 5, min: 0, max: 9 };
        let snapshot = Snapshot {
            nodes: vec![
                node("busy", NodePhase::Running, 1, None),
                node("idle", NodePhase::Running, 4, Some(5)),
                node("new", NodePhase::Pending, 4, None),
                node("gone", NodePhase::Stopped, 4, None),
            ]
            .into(),
            demand: vec![DemandClass { request: request(1), count: 7 }],
            gangs: vec![Gang {
                strategy: GangStrategy::StrictSpread,
                bundles: vec![request(2), request(2), request(1)],
                ..Gang::default()
            }],
            ..Snapshot::default()
        };
        let plan = Plan { groups: [("g".to_owned(), group)].into(), ..Plan::default() };
        let failed = FailedInstance { group: "h".into(), reason: "quota".into(), started_ms: 0, failed_ms: 3_000 };
        let pending = [("new".to_owned(), PendingPod { ip: String::new(), details: "Pulling".to_owned() })].into();
        let reporter = Reporter { now_ms: 2_500, gcs_request_s: 0.25, process_id: 42 };
        let status = status(&snapshot, &plan, reporter, &pending, &[failed]);
        assert_eq!((&status["time"], &status["monitor_pid"]), (&json!(2.5), &json!(42)));
        let metrics = &status["load_metrics_report"];
        assert_eq!(metrics["usage"], json!({"CPU": [3.0, 8.0]}));
        assert_eq!(metrics["usage_by_node"]["id-busy"], json!({"CPU": [3.0, 4.0]}));
        assert_eq!(metrics["resource_demand"], json!([[{"CPU": 1.0}, 7]]));
        let bundles = json!([[{"CPU": 2.0}, 2], [{"CPU": 1.0}, 1]]);
        assert_eq!(metrics["pg_demand"], json!([[{"strategy": "STRICT_SPREAD", "bundles": bundles}, 1]]));
        assert_eq!(metrics["node_types"], json!([[{"CPU": 4.0}, 2]]));
        let report = &status["autoscaler_report"];
        assert_eq!((&report["active_nodes"], &report["idle_nodes"]), (&json!({"g": 1}), &json!({"g": 1})));
        assert_eq!(report["pending_nodes"], json!([["new", "g", "Pulling"]]));
        assert_eq!(report["pending_launches"], json!({"g": 2}));
        let record = &report["node_availability_summary"]["node_availabilities"]["h"];
        assert_eq!(record["unavailable_node_information"]["description"], "quota");
    }
}
