//! What of a plan's removals may be carried out now, and how the plan looks without the rest.
//!
//! The unit is the replica: one pod, or all pods of a multi-host replica. It goes as a whole or stays as a whole.

use std::collections::{BTreeMap, BTreeSet};

use mobula_api::PodView;
use mobula_planner::{DrainKind, Plan, Reason, Terminate, Verdict};

/// All removals of one replica.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// Group name.
    pub group: String,
    /// Replica name, or the pod's where a replica is one pod.
    pub name: String,
    /// Its pods.
    pub members: Vec<Terminate>,
}

impl Unit {
    /// Whether Ray must be asked or told before the pods go.
    pub fn needs_drain(&self) -> bool {
        self.members.iter().any(|member| member.drain != DrainKind::NotNeeded)
    }

    /// Names of its pods.
    pub fn pods(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.instance_id.as_str())
    }
}

/// The plan's removals by replica, in the plan's order.
pub fn units(plan: &Plan) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let mut index: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for terminate in &plan.terminate {
        let name = terminate.replica.as_deref().unwrap_or(&terminate.instance_id);
        let at = *index.entry((&terminate.group, name)).or_insert_with(|| {
            units.push(Unit { group: terminate.group.clone(), name: name.to_owned(), members: Vec::new() });
            units.len() - 1
        });
        units[at].members.push(terminate.clone());
    }
    units
}

/// Pods of the unit's replica that the unit does not name: the replica is not wholly to go.
pub fn left_out<'a>(unit: &Unit, pods: &'a [PodView]) -> Vec<&'a str> {
    let named: BTreeSet<&str> = unit.pods().collect();
    pods.iter()
        .filter(|pod| !pod.terminating && pod.group == unit.group && pod.replica.as_deref() == Some(&unit.name))
        .map(|pod| pod.name.as_str())
        .filter(|name| !named.contains(name))
        .collect()
}

/// The plan without these removals: their replicas stay and are asked for as before. `why` says so to people.
pub fn keep(plan: &Plan, kept: &[(Unit, String)]) -> Plan {
    let mut plan = plan.clone();
    for (unit, why) in kept {
        let pods: BTreeSet<&str> = unit.pods().collect();
        plan.terminate.retain(|terminate| !pods.contains(terminate.instance_id.as_str()));
        if let Some(group) = plan.groups.get_mut(&unit.group) {
            group.desired = group.desired.saturating_add(1);
        }
        plan.explain.retain(|reason| {
            let is_of = |pod: &&str| reason.subject == format!("node {pod}");
            reason.verdict != Verdict::Terminate || !pods.iter().any(is_of)
        });
        plan.explain.push(Reason { subject: format!("node {}", unit.name), verdict: Verdict::Keep, text: why.clone() });
    }
    plan
}

#[cfg(test)]
mod tests {
    use mobula_planner::{GroupPlan, TerminateCause};

    use super::*;
    use crate::sidecar::testing::{replica_pod, worker_pod};

    fn terminate(pod: &str, replica: Option<&str>) -> Terminate {
        Terminate {
            group: "g".into(),
            instance_id: pod.into(),
            ray_node_id: None,
            replica: replica.map(str::to_owned),
            cause: TerminateCause::Idle,
            reason: "idle".into(),
            drain: DrainKind::IfIdle,
        }
    }

    fn plan(terminate: Vec<Terminate>) -> Plan {
        let group = GroupPlan { current: 3, requested: 3, desired: 1, min: 0, max: 5 };
        Plan { groups: BTreeMap::from([("g".into(), group)]), terminate, ..Plan::default() }
    }

    #[test]
    fn hosts_of_a_replica_are_one_unit() {
        let plan = plan(vec![terminate("a0", Some("a")), terminate("b", None), terminate("a1", Some("a"))]);
        let units = units(&plan);
        let names: Vec<(&str, usize)> = units.iter().map(|u| (u.name.as_str(), u.members.len())).collect();
        assert_eq!(names, [("a", 2), ("b", 1)]);
    }

    #[test]
    fn a_replica_of_which_one_host_is_not_named_is_found() {
        let unit = &units(&plan(vec![terminate("a0", Some("a"))]))[0];
        let pods = [replica_pod("a0", "g", "a"), replica_pod("a1", "g", "a"), worker_pod("c", "g", true)];
        assert_eq!(left_out(unit, &pods), ["a1"]);
    }

    #[test]
    fn a_kept_replica_is_asked_for_again_and_explained() {
        let before = plan(vec![terminate("a", None), terminate("b", None)]);
        let kept = vec![(units(&before)[0].clone(), "it is busy again".to_owned())];
        let after = keep(&before, &kept);
        assert_eq!(after.groups["g"].desired, 2);
        assert_eq!(after.terminate, [terminate("b", None)]);
        assert_eq!(after.explain[0].subject, "node a");
        assert_eq!(after.explain[0].verdict, Verdict::Keep);
    }
}
