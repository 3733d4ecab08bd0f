//! ResourceQuotas: the API server refuses pods that would take more than is left.
//!
//! Assumptions: only `hard` without scopes is looked at; pods that have ended take nothing; `status.used` is not kept up.

use mobula_apiserver::{Refusal, Review, Verb};
use mobula_autoscaler::pod_needs;
use mobula_planner::{Amount, Resources};
use serde_json::Value;

use super::World;

impl World {
    pub(super) fn begin_quotas(&self) -> Result<(), String> {
        self.server.admit("pods", admit).map_err(|refusal| refusal.to_string())
    }
}

fn admit(review: &mut Review<'_>) -> Result<(), Refusal> {
    if review.asked.verb != Verb::Create {
        return Ok(());
    }
    let namespace = review.object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    let mut quotas = review.objects("resourcequotas", &namespace).peekable();
    if quotas.peek().is_none() {
        return Ok(());
    }
    let asked = takes(review.object);
    let mut used = Resources::new();
    for pod in review.siblings(&namespace) {
        let has_ended = ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase);
        if !has_ended {
            add(&mut used, &takes(pod));
        }
    }
    for quota in quotas {
        let hard = pod_needs::amounts(&pod_needs::quantities(quota.pointer("/spec/hard")));
        let over = hard.iter().find(|(name, hard)| {
            let of = |resources: &Resources| resources.get(*name).map_or(0, |amount| amount.steps());
            of(&asked) > 0 && of(&used).saturating_add(of(&asked)) > hard.steps()
        });
        if let Some((resource, limit)) = over {
            let of = |resources: &Resources| resources.get(resource).map_or(0.0, |amount| amount.as_f64());
            let pod = review.object["metadata"]["name"].as_str().unwrap_or_default();
            let quota = quota["metadata"]["name"].as_str().unwrap_or_default();
            let message = format!(
                "pods \"{pod}\" is forbidden: exceeded quota: {quota}, requested: {resource}={}, used: {resource}={}, limited: {resource}={}",
                of(&asked),
                of(&used),
                limit.as_f64()
            );
            return Err(Refusal::of_code(403, message));
        }
    }
    Ok(())
}

/// What a pod takes, by all the names that a quota may have for it.
fn takes(pod: &Value) -> Resources {
    let mut sums =
        Resources::from([("pods".to_owned(), Amount::from_units(1)), ("count/pods".to_owned(), Amount::from_units(1))]);
    for (name, amount) in pod_needs::amounts(&pod_needs::requests(pod)) {
        sums.insert(format!("requests.{name}"), amount);
        sums.insert(name, amount);
    }
    for (name, amount) in pod_needs::amounts(&pod_needs::limits(pod)) {
        sums.insert(format!("limits.{name}"), amount);
    }
    sums
}

fn add(sums: &mut Resources, more: &Resources) {
    for (name, amount) in more {
        let sum = sums.entry(name.clone()).or_default();
        *sum = Amount::from_steps(sum.steps().saturating_add(amount.steps()));
    }
}
