//! What is to be done about a RayCluster now.

use mobula_api::{Extent, FieldError, InvalidReason};

use super::{
    fault_tolerance, fixed, head,
    observed::Observed,
    orphans,
    pass::Pass,
    status, suspend,
    upgrade::{self, Makes},
    workers,
};
use crate::{
    config::Config,
    frame::{
        decision::{Action, Decision, Step},
        kind,
    },
};

/// Who reconciles a RayCluster that says nothing, or this.
const OPERATOR: &str = "ray.io/kuberay-operator";

/// Whether `managed_by` names another controller.
pub(crate) fn is_managed_elsewhere(managed_by: Option<&str>) -> bool {
    managed_by.is_some_and(|manager| manager != OPERATOR)
}

/// What is to be done about a RayCluster that can't be read: it says so, and can go.
pub fn decide_unreadable(observed: &Observed<'_>, problem: &FieldError, config: &Config, now_ms: i64) -> Decision {
    let mut pass = Pass::new(observed, config, now_ms);
    if observed.cluster.metadata.deletion_timestamp.is_some() {
        // What its spec says of Redis can't be told: nothing is won by waiting.
        fault_tolerance::end(&mut pass);
        return pass.decision;
    }
    let message = format!("The RayCluster can't be read {}: {problem}", pass.name());
    pass.say_state("InvalidRayClusterSpec", "Validate", message);
    status::of_invalid(&mut pass, &(InvalidReason::Spec, problem.to_string()));
    pass.decision
}

/// Decides. Pure: the same observation at the same time gives the same decision.
pub fn decide(observed: &Observed<'_>, config: &Config, now_ms: i64) -> Decision {
    if is_managed_elsewhere(observed.cluster.spec.managed_by.as_deref()) {
        return Decision::default();
    }
    let mut pass = Pass::new(observed, config, now_ms);
    if observed.cluster.metadata.deletion_timestamp.is_some() {
        // Also one that is invalid must be able to go.
        fault_tolerance::end(&mut pass);
        return pass.decision;
    }
    if let Some(invalid) = validate(&mut pass) {
        status::of_invalid(&mut pass, &invalid);
        return pass.decision;
    }
    let suspension = suspend::state(&pass);
    if !fixed::has_account(&mut pass) {
        status::write(&mut pass, suspension);
        return pass.decision;
    }
    fault_tolerance::hold(&mut pass);
    fixed::make(&mut pass);
    if orphans::adopt_pods(&mut pass) {
        pass.only(|_| false, make_all);
        status::write(&mut pass, suspension);
        return pass.decision;
    }
    match suspension {
        suspend::State::Suspending => suspend::delete_pods(&mut pass),
        suspend::State::Suspended | suspend::State::Asked => suspend::say(&mut pass),
        suspend::State::Off => make_pods(&mut pass),
    }
    status::write(&mut pass, suspension);
    pass.decision
}

/// Brings the pods to what the spec says. Where something that they need is missing and can't be made now, none is made, but
/// surplus ones go. A gang that is there and has to grow holds up only the workers that it does not cover.
///
/// What is wrong with pods is said in every pass, also in one that makes none: else it would be said again and again, by turns
/// with what holds them up.
fn make_pods(pass: &mut Pass<'_>) {
    let makes = if pass.lacks_needed { Makes::All } else { upgrade::recreate(pass) };
    if makes == Makes::Nothing {
        return pass.only(|_| false, make_all);
    }
    fixed::gangs(pass);
    if pass.lacks_needed {
        return pass.only(|step| !makes_pod(step), make_heads_and_workers);
    }
    // Where there is no pod yet, a scheduler would take the first that come for a whole gang.
    if pass.observed.pods.iter().all(|pod| pod.deletion_ms.is_some())
        && let Some(step) = pass.gang_is_small.take_if(|growth| growth.step.is_some()).and_then(|growth| growth.step)
    {
        pass.decision.then(vec![step]);
    }
    head::make(pass);
    match makes {
        Makes::All => workers::make(pass),
        _ => pass.only(|_| false, workers::make),
    }
}

fn make_all(pass: &mut Pass<'_>) {
    fixed::gangs(pass);
    make_heads_and_workers(pass);
}

fn make_heads_and_workers(pass: &mut Pass<'_>) {
    head::make(pass);
    workers::make(pass);
}

/// Whether it makes a pod, or room for one that is to be made anew.
fn makes_pod(step: &Step) -> bool {
    step.replaces_broken || (matches!(step.action, Action::Create { .. }) && step.action.kind() == &kind::POD)
}

/// Says what is wrong with the RayCluster. Returns it if nothing may be done before it is mended.
fn validate(pass: &mut Pass<'_>) -> Option<(InvalidReason, String)> {
    let findings = pass.observed.cluster.validate(&pass.config.rules());
    let mut fatal = None;
    let mut said: Vec<InvalidReason> = Vec::new();
    // What only a part can't be made of is said where that part is to be made.
    for finding in findings.iter().filter(|finding| finding.refused != Extent::Part) {
        // One Event a reason: the first finding names what to mend first.
        if said.contains(&finding.reason) {
            continue;
        }
        said.push(finding.reason);
        let what = match finding.reason {
            InvalidReason::Metadata => "metadata",
            InvalidReason::Spec => "spec",
            InvalidReason::Status => "status",
        };
        let message = format!("The RayCluster {what} is invalid {}: {finding}", pass.name());
        pass.say_state(finding.reason.as_str(), "Validate", message);
    }
    for finding in findings.iter().filter(|finding| finding.refused == Extent::Whole) {
        fatal.get_or_insert_with(|| (finding.reason, finding.to_string()));
    }
    fatal
}
