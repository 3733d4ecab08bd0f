//! What is missing of pods that were admitted together.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{observe::Member, whole::admitted};
use crate::frame::gang_pod::Admission;

/// What is missing of these pods of one gang, by worker group, of the admissions that `count`, by their gang's name then. What
/// began later began in the stead of what was lost before: it is there, and what of that is missing is missing once.
pub(super) fn lacks(members: &[Member], counts: impl Fn(&str, &Admission) -> bool) -> BTreeMap<String, u32> {
    let admitted = admitted(members);
    let times_ms: BTreeSet<Reverse<i64>> = admitted.keys().map(|(_, admission)| Reverse(admission.at_ms)).collect();
    let mut later: BTreeMap<String, u32> = BTreeMap::new();
    let mut lacks: BTreeMap<String, u32> = BTreeMap::new();
    for Reverse(at_ms) in times_ms {
        // Those that began at one time began in the stead of none of each other.
        let mut of_time: BTreeMap<String, u32> = BTreeMap::new();
        for ((name, admission), pods) in admitted.iter().filter(|((_, admission), _)| admission.at_ms == at_ms) {
            let groups = || pods.iter().map(|member| member.group.as_str());
            if counts(name, admission) {
                for (group, lack) in admission.lacks(groups()) {
                    let lack = lack.saturating_sub(later.get(&group).copied().unwrap_or(0));
                    add(&mut lacks, &group, lack);
                    add(&mut of_time, &group, lack);
                }
            }
            groups().for_each(|group| add(&mut of_time, group, 1));
        }
        of_time.iter().for_each(|(group, pods)| add(&mut later, group, *pods));
    }
    lacks
}

fn add(counts: &mut BTreeMap<String, u32>, group: &str, pods: u32) {
    let count = counts.entry(group.to_owned()).or_default();
    *count = count.saturating_add(pods);
}
