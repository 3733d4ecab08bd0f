//! What Kueue has granted to a RayCluster.

use mobula_api::RayCluster;
use mobula_planner::{Amount, Quota, Resources};
use serde_json::Value;

use super::{ELASTIC_JOB, PODS, Tenant};
use crate::surroundings::{list, text};

/// One quota for each group of the RayCluster. A workload that is elastic grows by asking for more, so what it was granted is
/// no limit to what may be asked for; one that was granted nothing yet says nothing.
pub(super) fn read(object: &Value, tenant: &Tenant) -> Vec<Quota> {
    let annotations = object.pointer("/metadata/annotations");
    let is_elastic = tenant.is_elastic || annotations.and_then(|a| a.get(ELASTIC_JOB)).is_some_and(|v| v == "true");
    let condition = |kind: &str| {
        let of_kind = |condition: &&Value| text(condition, "/type") == kind && text(condition, "/status") == "True";
        list(object, "/status/conditions").iter().any(|condition| of_kind(&condition))
    };
    if is_elastic || !tenant.is_beside(object) || !is_owned(object, tenant) || condition("Finished") {
        return Vec::new();
    }
    let granted = |assignment: &Value| {
        // Kueue writes names of groups in small letters.
        let name = text(assignment, "/name");
        let group = tenant.groups.iter().find(|group| group.name.eq_ignore_ascii_case(name))?;
        let count = assignment.get("count").and_then(Value::as_u64)?.saturating_sub(group.pods);
        let pods = Amount::from_units(i64::try_from(count).unwrap_or(i64::MAX));
        Some(Quota {
            source: format!("Kueue Workload {}", text(object, "/metadata/name")),
            groups: vec![group.name.clone()],
            free: Resources::from([(PODS.to_owned(), pods)]),
        })
    };
    list(object, "/status/admission/podSetAssignments").iter().filter_map(granted).collect()
}

/// The selector of the workloads of a RayCluster and of what owns it, as a part of a URL: Kueue labels each with the uid of its
/// job. `None`: no uid is known.
pub(crate) fn selector(cluster: &RayCluster) -> Option<String> {
    let owners = cluster.metadata.extra.get("ownerReferences").and_then(Value::as_array).into_iter().flatten();
    let uids = owners.map(|owner| text(owner, "/uid")).chain([cluster.metadata.uid.as_str()]);
    let is_uid = |uid: &&str| !uid.is_empty() && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let uids: Vec<&str> = uids.filter(is_uid).collect();
    (!uids.is_empty()).then(|| format!("kueue.x-k8s.io%2Fjob-uid%20in%20%28{}%29", uids.join("%2C")))
}

/// Counts that can't be read.
pub(super) fn doubts(object: &Value, name: &str) -> Vec<String> {
    let assignments = list(object, "/status/admission/podSetAssignments").iter();
    let unreadable = assignments.filter(|one| one.get("count").and_then(Value::as_u64).is_none());
    let doubt = |one: &Value| {
        let count = one.get("count").map_or_else(|| "nothing".to_owned(), Value::to_string);
        format!("{name}: count {count} of {} is no number: it is taken for no limit", text(one, "/name"))
    };
    unreadable.map(doubt).collect()
}

fn is_owned(object: &Value, tenant: &Tenant) -> bool {
    let is_own = |owner: &Value| {
        let (kind, name) = (text(owner, "/kind"), text(owner, "/name"));
        tenant.names.iter().any(|(own_kind, own_name)| own_kind == kind && own_name == name)
    };
    list(object, "/metadata/ownerReferences").iter().any(is_own)
}
