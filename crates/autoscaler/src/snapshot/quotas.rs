//! What quotas leave.

use std::collections::BTreeMap;

use mobula_planner::{Node, NodePhase, NodeType, Quota};

use crate::pod_needs::take;
use crate::quotas::{applies, with_itself};

/// Quotas without what is asked for already: the quotas themselves count only pods that exist.
pub(super) fn translate(quotas: &[Quota], groups: &[NodeType], nodes: &[Node]) -> Vec<Quota> {
    let mut quotas = quotas.to_vec();
    if quotas.is_empty() {
        return quotas;
    }
    let mut requested: BTreeMap<&str, u64> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.phase == NodePhase::Requested) {
        *requested.entry(&node.group).or_default() += 1;
    }
    for group in groups {
        let Some(count) = requested.get(group.name.as_str()) else { continue };
        let needs = with_itself(group.facts.pod_requests.clone());
        for quota in quotas.iter_mut().filter(|quota| applies(quota, &group.name)) {
            take(&mut quota.free, &needs, *count);
        }
    }
    quotas
}
