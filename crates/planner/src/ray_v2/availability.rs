//! Which groups delivered lately, and which did not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::fill::Standing;
use crate::{Memory, NodePhase, Snapshot};

/// A group that failed is left alone for this long, or for a tenth of the recovery time if that is shorter.
const LEAVE_ALONE_S: f64 = 10.0;

/// The standing of the groups that failed lately; the user's priority is not filled in.
pub(super) fn standings<'a>(snapshot: &Snapshot, memory: &'a Memory) -> BTreeMap<&'a String, Standing> {
    // In seconds and in floating point, because Ray compares such numbers.
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let newest = memory.allocation_failed_ms.values().copied().max().map_or(1.0, seconds);
    let recovery_s = seconds(snapshot.settings.availability_recovery_ms);
    let leave_alone_s = LEAVE_ALONE_S.min(recovery_s * 0.1);
    let standing = |failed_ms: i64| {
        let since_s = seconds(snapshot.now_ms) - seconds(failed_ms);
        let recovery = if since_s < leave_alone_s { 0.0 } else { (since_s / recovery_s).min(1.0) };
        Standing { recovery, priority: 0, availability: 1.0 - seconds(failed_ms) / newest }
    };
    memory.allocation_failed_ms.iter().map(|(group, failed_ms)| (group, standing(*failed_ms))).collect()
}

/// Forgets the failures of groups that have delivered since, then notes those of this tick.
pub(super) fn remember(snapshot: &Snapshot, failed_groups: &BTreeSet<&str>, memory: &mut Memory) {
    let running = |group: &str| -> BTreeSet<Arc<str>> {
        let nodes = snapshot.nodes.iter().filter(|node| node.phase == NodePhase::Running && *node.group == *group);
        nodes.map(|node| Arc::clone(&node.instance_id)).collect()
    };
    let before = std::mem::take(&mut memory.running_at_failure);
    memory.allocation_failed_ms.retain(|group, _| {
        let known = before.get(group).cloned().unwrap_or_default();
        running(group).is_subset(&known)
    });
    for group in failed_groups {
        memory.allocation_failed_ms.insert((*group).to_owned(), snapshot.now_ms);
    }
    // Pods that go away don't come back: what ran at the failure and doesn't now need not be remembered.
    memory.running_at_failure =
        memory.allocation_failed_ms.keys().map(|group| (group.clone(), running(group))).collect();
}
