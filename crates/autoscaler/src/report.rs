//! What the GCS is told, so that `ray status` and the dashboard show pending, launching and failed instances.

use std::collections::BTreeMap;

use mobula_gcs as gcs;
use mobula_planner::{
    Constraint, DemandClass, Gang, GangStrategy, LabelOperator, LabelSelector, NodePhase, PlacementConstraint, Plan,
    Request, Snapshot, UnmetCause, UnmetKind,
};

use crate::document::{new_replicas, text};

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
/// One entry an instance, because `ray status` counts entries. Only what no group could ever hold is called infeasible:
/// the GCS may cancel such tasks.
pub fn autoscaling_state(
    snapshot: &Snapshot,
    plan: &Plan,
    version: i64,
    pending: &BTreeMap<String, PendingPod>,
    failed: &[FailedInstance],
) -> gcs::AutoscalingState {
    let mut state = gcs::AutoscalingState {
        last_seen_cluster_state_version: snapshot.versions.cluster_state_version,
        version,
        pending_instance_requests: launching(snapshot, plan),
        pending_instances: pending_instances(snapshot, pending),
        failed_instance_requests: failed.iter().map(failed_request).collect(),
        ..gcs::AutoscalingState::default()
    };
    for unmet in plan.unmet.iter().filter(|unmet| unmet.cause == UnmetCause::NeverFits) {
        match &unmet.kind {
            UnmetKind::Task(request) => state.infeasible_requests.push(wire_request(request)),
            UnmetKind::Gang(gang) => state.infeasible_gangs.push(wire_gang(gang)),
            UnmetKind::Constraint(constraint) => state.infeasible_constraints.push(wire_constraint(constraint)),
        }
    }
    state
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
        requests.extend((0..pods).map(|_| request.clone()));
    }
    requests
}

fn pending_instances(snapshot: &Snapshot, pending: &BTreeMap<String, PendingPod>) -> Vec<gcs::PendingInstance> {
    let waiting = snapshot.nodes.iter().filter(|node| node.phase == NodePhase::Pending && !node.instance_id.is_empty());
    waiting
        .map(|node| {
            let pod = pending.get(&node.instance_id).cloned().unwrap_or_default();
            gcs::PendingInstance {
                node_type: node.group.clone(),
                instance_id: node.instance_id.clone(),
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

/// A one-line summary of what can never be served, for logs and events: one line an unmet demand.
pub fn infeasible_lines(plan: &Plan) -> Vec<String> {
    let never = plan.unmet.iter().filter(|unmet| unmet.cause == UnmetCause::NeverFits);
    never
        .map(|unmet| match &unmet.kind {
            UnmetKind::Task(request) => format!("{} x {}: {}", unmet.count, text::request(request), unmet.reason),
            UnmetKind::Gang(gang) => format!("placement group {} ({}): {}", gang.id, text::gang(gang), unmet.reason),
            UnmetKind::Constraint(_) => format!("request_resources: {}", unmet.reason),
        })
        .collect()
}
