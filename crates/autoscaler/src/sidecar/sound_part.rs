//! What of a plan that breaks an invariant may be carried out all the same.
//!
//! Such a plan is a fault of ours, and mostly for the sake of one gang or one removal. Nothing is deleted, moved or resized by
//! it. Growth goes on where the rest of the plan is sound, and if it is not, where a plan for everything but the gangs is.

use mobula_planner::{Memory, Plan, Policy, Reason, Severity, Snapshot, Unmet, UnmetCause, UnmetKind, Verdict, lint};

use super::removal;

const KEPT: &str = "the plan breaks an invariant: nothing is removed";
const GANG_WAITS: &str = "the plan that would serve it breaks an invariant: it waits until another plan does not";

/// The sound part of `plan`, which `policy` made of `snapshot` and the memory `before`, and what is to be remembered with it: that
/// groups have failed must be noted all the same. `None`: there is none.
pub(super) fn sound_part(
    policy: &dyn Policy,
    snapshot: &Snapshot,
    (before, after): (&Memory, &Memory),
    plan: &Plan,
) -> Option<(Plan, Memory)> {
    let growth = without_removals(plan);
    if is_sound(snapshot, &growth) {
        return Some((growth, after.clone()));
    }
    let without_gangs = Snapshot { gangs: Vec::new(), ..snapshot.clone() };
    let (plan, after) = policy.plan(&without_gangs, before);
    let mut growth = without_removals(&plan);
    if snapshot.gangs.is_empty() || !is_sound(&without_gangs, &growth) {
        return None;
    }
    for gang in &snapshot.gangs {
        let (cause, reason) = (UnmetCause::Waiting, GANG_WAITS.to_owned());
        growth.unmet.push(Unmet { kind: UnmetKind::Gang(gang.clone()), count: 1, cause, reason: reason.clone() });
        growth.explain.push(Reason { subject: format!("gang {}", gang.id), verdict: Verdict::Unmet, text: reason });
    }
    Some((growth, after))
}

fn without_removals(plan: &Plan) -> Plan {
    let kept: Vec<_> = removal::units(plan).into_iter().map(|unit| (unit, KEPT.to_owned())).collect();
    Plan { resize: Vec::new(), moves: Vec::new(), ..removal::keep(plan, &kept) }
}

fn is_sound(snapshot: &Snapshot, plan: &Plan) -> bool {
    lint(snapshot, plan).iter().all(|violation| violation.severity != Severity::Error)
}
