//! What the GCS is told, so that `ray status` and the dashboard show pending, launching and failed instances.

use std::collections::{BTreeMap, BTreeSet};

use mobula_gcs as gcs;
use mobula_planner::{
    Amount, Constraint, DemandClass, Gang, GangStrategy, LabelOperator, LabelSelector, NodePhase, PlacementConstraint,
    Plan, Request, Resources, Snapshot, UnmetCause, UnmetKind,
};

use crate::document::new_replicas;

/// Most instances that are listed as launching.
pub const MOST_ENTRIES: usize = 10_000;
/// A node that does not list such a resource has 1 of it.
const IMPLICIT_RESOURCE_PREFIX: &str = "node:__internal_implicit_resource_";

/// What is known of a pod that does not run Ray yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingPod {
    /// Its address, once it has one.
    pub ip: String,
    /// What it waits for, for people.
    pub details: String,
}

/// An instance that could not be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailedInstance {
    /// Group name.
    pub group: String,
    /// Why, for people.
    pub reason: String,
    /// Unix time in ms at which it was asked for.
    pub started_ms: i64,
    /// Unix time in ms at which it failed.
    pub failed_ms: i64,
}

/// A version for the next report: it grows with the time, so that the reports of a restarted process are not ignored, and
/// by at least one, whatever the clock does.
pub fn next_version(previous: i64, now_ms: i64) -> i64 {
    now_ms.max(previous.saturating_add(1))
}

/// The state to report. `pending` describes pods by name; `failed` is shown as recent failures.
///
/// One entry an instance, because `ray status` counts entries; at most [`MOST_ENTRIES`]. Only what no group could ever hold
/// is called infeasible: the GCS may cancel such tasks. It knows them by their resources alone, so tasks that fail by their
/// labels only are not named, lest it cancel others of the same shape; and nothing is while the picture is incomplete
/// (`is_whole`), lest it cancel what a node that is just coming back could hold.
pub fn autoscaling_state(
    snapshot: &Snapshot,
    plan: &Plan,
    version: i64,
    pending: &BTreeMap<String, PendingPod>,
    failed: &[FailedInstance],
    is_whole: bool,
) -> gcs::AutoscalingState {
    let mut state = gcs::AutoscalingState {
        last_seen_cluster_state_version: snapshot.versions.cluster_state_version,
        version,
        pending_instance_requests: launching(snapshot, plan),
        pending_instances: pending_instances(snapshot, pending),
        failed_instance_requests: failed.iter().map(failed_request).collect(),
        ..gcs::AutoscalingState::default()
    };
    let capacities = capacities(snapshot);
    for unmet in plan.unmet.iter().filter(|unmet| is_whole && unmet.cause == UnmetCause::NeverFits) {
        match &unmet.kind {
            UnmetKind::Task(request) if capacities.iter().any(|has| holds(has, &request.resources)) => {}
            UnmetKind::Task(request) => state.infeasible_requests.push(wire_request(request)),
            UnmetKind::Gang(gang) => state.infeasible_gangs.push(wire_gang(gang)),
            UnmetKind::Constraint(constraint) => state.infeasible_constraints.push(wire_constraint(constraint)),
        }
    }
    state
}

/// What one node of any kind has, or would have.
fn capacities(snapshot: &Snapshot) -> BTreeSet<&Resources> {
    let groups = snapshot.node_types.iter().map(|group| &*group.resources);
    groups.chain(snapshot.nodes.iter().map(|node| &*node.total)).collect()
}

/// Whether a node that has `capacity` could hold a request, its labels aside.
fn holds(capacity: &Resources, request: &Resources) -> bool {
    let has = |name: &String| match capacity.get(name) {
        Some(amount) => *amount,
        None if name.starts_with(IMPLICIT_RESOURCE_PREFIX) => Amount::from_units(1),
        None => Amount::ZERO,
    };
    request.iter().all(|(name, amount)| has(name) >= *amount)
}

/// Pods that are asked for and don't exist yet.
fn launching(snapshot: &Snapshot, plan: &Plan) -> Vec<gcs::PendingInstanceRequest> {
    let hosts: BTreeMap<&str, u32> =
        snapshot.node_types.iter().map(|group| (group.name.as_str(), group.num_of_hosts.max(1))).collect();
    let request_ts_s = snapshot.now_ms.div_euclid(1000);
    let mut requests = Vec::new();
    for (group, replicas) in new_replicas(snapshot, plan) {
        let pods = u64::from(replicas) * u64::from(hosts.get(group.as_str()).copied().unwrap_or(1));
        // `ray status` counts entries and ignores `count`.
        let request = gcs::PendingInstanceRequest { node_type: group, count: 1, request_ts_s };
        let room = MOST_ENTRIES.saturating_sub(requests.len());
        requests.extend(std::iter::repeat_n(request, usize::try_from(pods).unwrap_or(room).min(room)));
    }
    requests
}

fn pending_instances(snapshot: &Snapshot, pending: &BTreeMap<String, PendingPod>) -> Vec<gcs::PendingInstance> {
    let waiting = snapshot.nodes.iter().filter(|node| node.phase == NodePhase::Pending && !node.instance_id.is_empty());
    waiting
        .map(|node| {
            let pod = pending.get(&*node.instance_id).cloned().unwrap_or_default();
            gcs::PendingInstance {
                node_type: node.group.to_string(),
                instance_id: node.instance_id.to_string(),
                ip: pod.ip,
                details: pod.details,
            }
        })
        .collect()
}

fn failed_request(failed: &FailedInstance) -> gcs::FailedInstanceRequest {
    gcs::FailedInstanceRequest {
        node_type: failed.group.clone(),
        count: 1,
        reason: failed.reason.clone(),
        start_ts_s: failed.started_ms.div_euclid(1000),
        failed_ts_s: failed.failed_ms.div_euclid(1000),
    }
}

fn wire_request(request: &Request) -> gcs::ResourceRequest {
    gcs::ResourceRequest {
        resources: request.resources.iter().map(|(name, amount)| (name.clone(), amount.as_f64())).collect(),
        placement: request.placement.iter().map(wire_placement).collect(),
        selectors: request.selectors.iter().map(wire_selector).collect(),
    }
}

fn wire_placement(placement: &PlacementConstraint) -> gcs::PlacementConstraint {
    match placement.clone() {
        PlacementConstraint::Affinity { label, value } => {
            gcs::PlacementConstraint { affinity: Some((label, value)), anti_affinity: None }
        }
        PlacementConstraint::AntiAffinity { label, value } => {
            gcs::PlacementConstraint { affinity: None, anti_affinity: Some((label, value)) }
        }
    }
}

fn wire_selector(selector: &LabelSelector) -> gcs::LabelSelector {
    let constraints = selector.constraints.iter().map(|constraint| gcs::LabelConstraint {
        key: constraint.key.clone(),
        operator: match constraint.operator {
            LabelOperator::In => gcs::LabelOperator::In,
            LabelOperator::NotIn => gcs::LabelOperator::NotIn,
            LabelOperator::Unknown => gcs::LabelOperator::Unspecified,
        },
        values: constraint.values.clone(),
    });
    gcs::LabelSelector { constraints: constraints.collect() }
}

fn wire_gang(gang: &Gang) -> gcs::GangRequest {
    let bundles: Vec<gcs::ResourceRequest> = gang.bundles.iter().map(wire_request).collect();
    let locality = gang.locality.as_ref().map(|locality| gcs::LocalityRequirement {
        label: locality.label.clone(),
        strategy: match locality.strategy {
            GangStrategy::Pack => gcs::PlacementStrategy::Pack,
            GangStrategy::Spread => gcs::PlacementStrategy::Spread,
            GangStrategy::StrictPack => gcs::PlacementStrategy::StrictPack,
            GangStrategy::StrictSpread => gcs::PlacementStrategy::StrictSpread,
        },
        selector: wire_selector(&locality.selector),
    });
    gcs::GangRequest {
        requests: bundles
            .iter()
            .map(|bundle| gcs::ResourceRequest { selectors: Vec::new(), ..bundle.clone() })
            .collect(),
        details: gang.details.clone(),
        bundle_selectors: vec![gcs::BundleSelector { requests: bundles, locality }],
    }
}

fn wire_constraint(constraint: &Constraint) -> Vec<gcs::RequestByCount> {
    let counted = |class: &DemandClass| gcs::RequestByCount {
        request: wire_request(&class.request),
        count: i64::try_from(class.count).unwrap_or(i64::MAX),
    };
    constraint.requests.iter().map(counted).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mobula_planner::{GroupPlan, Node, NodeType, Unmet};

    use super::*;

    fn snapshot(nodes: Vec<Node>) -> Snapshot {
        let group = NodeType { name: "g".to_owned(), num_of_hosts: 2, max_replicas: 9, ..NodeType::default() };
        Snapshot { now_ms: 5_000, node_types: vec![group], nodes: nodes.into(), ..Snapshot::default() }
    }

    fn node(pod: &str, phase: NodePhase) -> Node {
        let replica = Some(format!("replica of {pod}"));
        Node { instance_id: pod.into(), group: "g".into(), phase, replica, ..Node::default() }
    }

    fn plan(desired: u32) -> Plan {
        let group = GroupPlan { current: 1, requested: 1, desired, min: 0, max: 9 };
        Plan { groups: [("g".to_owned(), group)].into(), ..Plan::default() }
    }

    fn state(snapshot: &Snapshot, plan: &Plan) -> gcs::AutoscalingState {
        autoscaling_state(snapshot, plan, 1, &BTreeMap::new(), &[], true)
    }

    #[test]
    fn every_pod_that_is_launched_is_an_entry_of_its_own() {
        let state = state(&snapshot(vec![node("p", NodePhase::Running)]), &plan(3));
        let expected = gcs::PendingInstanceRequest { node_type: "g".to_owned(), count: 1, request_ts_s: 5 };
        assert_eq!(state.pending_instance_requests, vec![expected; 4]);
    }

    #[test]
    fn pending_pods_are_listed_with_what_they_wait_for() {
        let unmanaged = Node { instance_id: Arc::default(), ..node("", NodePhase::Pending) };
        let snapshot = snapshot(vec![node("p", NodePhase::Pending), unmanaged, node("q", NodePhase::Requested)]);
        let details = PendingPod { ip: "10.0.0.1".to_owned(), details: "Unschedulable: no GPU".to_owned() };
        let state = autoscaling_state(&snapshot, &plan(1), 1, &[("p".to_owned(), details)].into(), &[], true);
        let expected = gcs::PendingInstance {
            node_type: "g".to_owned(),
            instance_id: "p".to_owned(),
            ip: "10.0.0.1".to_owned(),
            details: "Unschedulable: no GPU".to_owned(),
        };
        assert_eq!(state.pending_instances, [expected]);
    }

    #[test]
    fn only_what_never_fits_is_infeasible() {
        let unmet = |cpu: i64, cause| Unmet {
            kind: UnmetKind::Task(Request {
                resources: Arc::new([("CPU".to_owned(), Amount::from_units(cpu))].into()),
                ..Request::default()
            }),
            count: 7,
            cause,
            reason: String::new(),
        };
        let gang = Unmet { kind: UnmetKind::Gang(Gang::default()), ..unmet(0, UnmetCause::NeverFits) };
        let constraint = Unmet { kind: UnmetKind::Constraint(Constraint::default()), ..unmet(0, UnmetCause::Limit) };
        let unmet = vec![
            unmet(1, UnmetCause::Limit),
            unmet(2, UnmetCause::Waiting),
            unmet(3, UnmetCause::NeverFits),
            gang,
            constraint,
        ];
        let state = state(&snapshot(vec![]), &Plan { unmet, ..plan(0) });
        assert_eq!(state.infeasible_requests.len(), 1);
        assert_eq!(state.infeasible_requests[0].resources["CPU"], 3.0);
        assert_eq!((state.infeasible_gangs.len(), state.infeasible_constraints.len()), (1, 0));
    }

    #[test]
    fn a_task_that_fails_by_its_labels_only_is_not_named_because_the_gcs_would_cancel_its_twins() {
        let group =
            NodeType { resources: Arc::new([("CPU".to_owned(), Amount::from_units(4))].into()), ..NodeType::default() };
        let snapshot = Snapshot { node_types: vec![group], ..snapshot(vec![]) };
        let never = |cpu: i64| Unmet {
            kind: UnmetKind::Task(Request {
                resources: Arc::new([("CPU".to_owned(), Amount::from_units(cpu))].into()),
                ..Request::default()
            }),
            count: 1,
            cause: UnmetCause::NeverFits,
            reason: String::new(),
        };
        let plan = Plan { unmet: vec![never(4), never(5)], ..plan(0) };
        let told = state(&snapshot, &plan);
        assert_eq!(told.infeasible_requests.len(), 1);
        assert_eq!(told.infeasible_requests[0].resources["CPU"], 5.0);
        let told = autoscaling_state(&snapshot, &plan, 1, &BTreeMap::new(), &[], false);
        assert_eq!(told.infeasible_requests, [], "the picture is incomplete");
    }

    #[test]
    fn a_flood_of_launches_is_cut() {
        let state = state(&snapshot(vec![]), &plan(2_000_000_000));
        assert_eq!(state.pending_instance_requests.len(), MOST_ENTRIES);
    }

    #[test]
    fn failures_carry_their_reason_and_seconds() {
        let failed = FailedInstance {
            group: "g".to_owned(),
            reason: "exceeded quota".to_owned(),
            started_ms: 1_999,
            failed_ms: 3_000,
        };
        let state = autoscaling_state(&snapshot(vec![]), &plan(0), 1, &BTreeMap::new(), &[failed], true);
        let request = &state.failed_instance_requests[0];
        assert_eq!((request.count, request.reason.as_str()), (1, "exceeded quota"));
        assert_eq!((request.start_ts_s, request.failed_ts_s), (1, 3));
    }

    #[test]
    fn versions_grow_with_the_time_and_when_the_clock_stands_or_jumps_back() {
        assert_eq!(next_version(0, 1_700_000_000_000), 1_700_000_000_000);
        assert_eq!(next_version(1_700_000_000_000, 1_700_000_000_000), 1_700_000_000_001);
        assert_eq!(next_version(1_700_000_000_000, 5), 1_700_000_000_001);
    }
}
