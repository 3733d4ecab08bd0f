//! Why instances are not Ray nodes yet.

use std::collections::BTreeSet;

use mobula_api::{PendingClass, PodView, RayCluster};
use mobula_planner::{Node, NodePhase, PendingCause};
use serde_json::Value;

use crate::surroundings::{list, text};

/// Why a pod is not a Ray node yet.
pub(super) fn cause(pod: &PodView) -> PendingCause {
    match pod.pending_class {
        PendingClass::Gated => PendingCause::Gated,
        PendingClass::Unschedulable if !is_coming(pod) => PendingCause::Unschedulable,
        PendingClass::Unschedulable | PendingClass::Scheduling => PendingCause::Provisioning,
        PendingClass::Pulling | PendingClass::PullFailing => PendingCause::Pulling,
        PendingClass::Starting | PendingClass::Running | PendingClass::Failed => PendingCause::Registering,
    }
}

/// Whether somebody is known to bring a Kubernetes node for a pod, although the scheduler finds none: the scheduler makes
/// room for it on a node, or a node autoscaler says so where the scheduler's words are.
fn is_coming(pod: &PodView) -> bool {
    let said = pod.pending_message.to_ascii_lowercase();
    pod.nominated_node.is_some() || said.contains("triggeredscaleup") || said.contains("triggered scale-up")
}

/// Says of instances that are asked for and not there whether the API server refuses them.
pub(super) fn mark_requested(cluster: &RayCluster, nodes: &mut [Node]) {
    let requested = || nodes.iter().filter(|node| node.phase == NodePhase::Requested);
    let groups: BTreeSet<&str> = requested().map(|node| &*node.group).collect();
    if groups.is_empty() {
        return;
    }
    let refused: BTreeSet<String> = refused_groups(cluster, &groups).into_iter().map(str::to_owned).collect();
    for node in nodes.iter_mut().filter(|node| node.phase == NodePhase::Requested) {
        let is_refused = refused.contains(&*node.group);
        node.pending_cause = Some(if is_refused { PendingCause::QuotaRefused } else { PendingCause::Provisioning });
    }
}

/// Which of these groups the operator can't create pods of because the API server does not let it.
fn refused_groups<'a>(cluster: &RayCluster, groups: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    let Some(message) = refusal(&cluster.status) else { return BTreeSet::new() };
    // The message names the pod, whose name holds that of the group.
    let name = cluster.metadata.name.as_str();
    let is_named = |group: &&&str| message.contains(&format!("{name}-{group}-worker-"));
    let named: BTreeSet<&str> = groups.iter().filter(is_named).copied().collect();
    // Long names are cut: then it may be any of them.
    if named.is_empty() { groups.clone() } else { named }
}

/// The operator's words for a refusal by the API server: of a quota (403), or of an admission webhook.
fn refusal(status: &Value) -> Option<String> {
    let conditions = list(status, "/conditions").iter();
    let mut failures = conditions.filter(|c| text(c, "/type") == "ReplicaFailure" && text(c, "/status") == "True");
    let said = failures.next().map(|failure| format!("{}: {}", text(failure, "/reason"), text(failure, "/message")));
    // Operators before conditions wrote it here.
    let said = said.unwrap_or_else(|| text(status, "/reason").to_owned());
    let words = said.to_ascii_lowercase();
    ["exceeded quota", "forbidden", "denied the request"].iter().any(|sign| words.contains(sign)).then_some(said)
}
