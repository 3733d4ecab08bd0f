//! What of a plan may be carried out now, before anybody is asked.
//!
//! Growth and removals have back-offs of their own: where the API server refuses one for what it asks, the other goes on.

use mobula_planner::{GroupPlan, Plan};

use super::{
    KubeAction, LoopState,
    collect::Collected,
    removal::{self, Unit},
    tick::Planned,
};
use crate::patch::Parts;

/// Most replicas that are drained in one tick, so that raylets that don't answer never keep growth waiting for long.
const DRAINS_A_TICK: usize = 64;

const GROWTH_REFUSED: &str = "the API server refused more replicas: waiting before the next try";
const REMOVAL_REFUSED: &str = "the API server refused the last removal: waiting before the next try";

/// See the module.
#[derive(Debug)]
pub(super) struct Due {
    /// What a patch may change.
    pub parts: Parts,
    /// Whether there is something to change, if nobody refuses.
    pub changes_something: bool,
    /// Why something is held back that is no single replica.
    pub held: Option<String>,
    /// Replicas that stay, and why.
    pub kept: Vec<(Unit, String)>,
    /// Replicas in which Ray does not run.
    pub free: Vec<Unit>,
    /// Replicas that Ray must let go first.
    pub to_drain: Vec<Unit>,
}

impl Due {
    pub(super) fn new(state: &LoopState, collected: &Collected, planned: &Planned) -> Due {
        let broken = planned.violations.join("; ");
        let Some(plan) = &planned.sound else {
            return Due::nothing(format!("the plan breaks an invariant and is not applied: {broken}"));
        };
        if is_blocked(state, KubeAction::Patch) {
            return Due::nothing("the API server refused the last patch: waiting before the next try".to_owned());
        }
        let unsound =
            (!broken.is_empty()).then(|| format!("the plan breaks an invariant, only growth goes on: {broken}"));
        let grows = plan.groups.values().any(GroupPlan::grows);
        // Fewer replicas without a removal: what was asked for and never came is not asked for any more.
        let takes_back = plan.terminate.is_empty() && plan.groups.values().any(GroupPlan::shrinks);
        let mut due = Due {
            parts: Parts {
                growth: !is_blocked(state, KubeAction::Grow),
                removals: !is_blocked(state, KubeAction::Remove) && unsound.is_none(),
            },
            changes_something: false,
            held: None,
            kept: Vec::new(),
            free: Vec::new(),
            to_drain: Vec::new(),
        };
        let growth_waits = (grows && !due.parts.growth).then(|| GROWTH_REFUSED.to_owned());
        let removals_wait = (!plan.terminate.is_empty() && !due.parts.removals).then(|| REMOVAL_REFUSED.to_owned());
        let held: Vec<String> = collected
            .hold
            .as_ref()
            .map(ToString::to_string)
            .into_iter()
            .chain(unsound)
            .chain(growth_waits)
            .chain(removals_wait)
            .collect();
        due.held = (!held.is_empty()).then(|| held.join("; "));
        // A patch of both would be refused for the sake of one.
        if grows && due.parts.growth && (is_failing(state, KubeAction::Grow) || is_failing(state, KubeAction::Remove)) {
            due.parts.removals = false;
        }
        due.sort(state, collected, plan);
        due.changes_something = grows && due.parts.growth
            || takes_back && due.parts.removals
            || !due.free.is_empty()
            || !due.to_drain.is_empty();
        due
    }

    fn nothing(why: String) -> Due {
        let parts = Parts { growth: false, removals: false };
        let (kept, free, to_drain) = (Vec::new(), Vec::new(), Vec::new());
        Due { parts, changes_something: false, held: Some(why), kept, free, to_drain }
    }

    /// Says of every removal what becomes of it.
    fn sort(&mut self, state: &LoopState, collected: &Collected, plan: &Plan) {
        let pods = collected.observation.pods.as_deref().unwrap_or_default();
        for unit in removal::units(plan) {
            let left_out = removal::left_out(&unit, pods);
            let refusal = state
                .refusals
                .get(&unit.name)
                .filter(|_| state.drain_backoffs.blocked(|name| *name == unit.name).is_some());
            let why = if let Some(hold) = &collected.hold {
                hold.to_string()
            } else if !left_out.is_empty() {
                format!("its replica stays as a whole: {} is still needed", left_out.join(", "))
            } else if is_blocked(state, KubeAction::Remove) {
                REMOVAL_REFUSED.to_owned()
            } else if self.parts.removals && !unit.needs_drain() {
                self.free.push(unit);
                continue;
            } else if let Some(why) = refusal {
                why.clone()
            } else if self.parts.growth && !plan.launch.is_empty() || !self.parts.removals {
                "new replicas come first: it is looked at again in the next tick".to_owned()
            } else {
                self.to_drain.push(unit);
                continue;
            };
            self.kept.push((unit, why));
        }
        self.limit_drains(state);
    }

    /// What is drained can't be had back: while the API server has not shown that it lets pods be named, those go first whose
    /// drain is done, and else one replica.
    fn limit_drains(&mut self, state: &LoopState) {
        let (limit, why) = if !removals_are_in_doubt(state) {
            (DRAINS_A_TICK, format!("{DRAINS_A_TICK} replicas are drained first: its turn comes with a next tick"))
        } else {
            let limit = usize::from(self.free.is_empty());
            (limit, "the API server refused the last removal: another replica goes first".to_owned())
        };
        let later = self.to_drain.split_off(limit.min(self.to_drain.len()));
        self.kept.extend(later.into_iter().map(|unit| (unit, why.clone())));
    }
}

fn is_blocked(state: &LoopState, action: KubeAction) -> bool {
    state.kube_backoffs.blocked(|(known, _)| *known == action).is_some()
}

fn is_failing(state: &LoopState, action: KubeAction) -> bool {
    state.kube_backoffs.is_failing(|(known, _)| *known == action)
}

/// Whether the last patch of its kind was refused, other than for being overtaken.
fn removals_are_in_doubt(state: &LoopState) -> bool {
    state
        .kube_backoffs
        .is_failing(|(action, kind)| matches!(action, KubeAction::Patch | KubeAction::Remove) && !kind.is_stale_plan())
}
