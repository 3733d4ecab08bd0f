//! What is to be done about a RayCluster now.

use mobula_api::InvalidReason;

use super::{fault_tolerance, fixed, head, observed::Observed, pass::Pass, status, suspend, upgrade, workers};
use crate::{config::Config, frame::decision::Decision};

/// Who reconciles a RayCluster that says nothing, or this.
const OPERATOR: &str = "ray.io/kuberay-operator";

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
    match suspension {
        suspend::State::Suspending => suspend::delete_pods(&mut pass),
        suspend::State::Suspended | suspend::State::Asked => {}
        suspend::State::Off => {
            if !upgrade::recreate(&mut pass) {
                fixed::gangs(&mut pass);
                head::make(&mut pass);
                workers::make(&mut pass);
            }
        }
    }
    status::write(&mut pass, suspension);
    pass.decision
}

/// Whether `spec.managedBy` hands an object to another controller.
pub(crate) fn is_managed_elsewhere(managed_by: Option<&str>) -> bool {
    managed_by.is_some_and(|manager| manager != OPERATOR)
}

/// Says what is wrong with the RayCluster. Returns it if nothing may be done before it is mended.
fn validate(pass: &mut Pass<'_>) -> Option<(InvalidReason, String)> {
    let findings = pass.observed.cluster.validate(&pass.config.rules());
    let mut fatal = None;
    let mut said: Vec<InvalidReason> = Vec::new();
    for finding in &findings {
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
        pass.say_once(finding.reason.as_str(), "Validate", message);
    }
    for finding in findings.iter().filter(|finding| finding.is_fatal) {
        fatal.get_or_insert_with(|| (finding.reason, finding.to_string()));
    }
    fatal
}
