//! What a scenario must be beyond its form.

use std::collections::BTreeSet;

use mobula_api::{Quantity, RayCluster};
use mobula_autoscaler::prices::Prices;
use mobula_planner::placement::NodeChoice;
use serde_json::Value;

use super::read::{BadScenario, Place};
use super::refuse::refuse;
use super::{At, Fault, NodePool, Scenario, Step, Tasks, What};
use crate::span::Span;

/// Kinds that are taken. Others have nobody here who acts on them.
const TAKEN: [&str; 7] =
    ["RayCluster", "Namespace", "ResourceQuota", "PriorityClass", "ConfigMap", "Secret", "ServiceAccount"];
const MOST_NODES: u64 = 100_000;

pub(super) fn check(scenario: &Scenario, place: &Place<'_>) -> Result<(), BadScenario> {
    if scenario.horizon.is_zero() {
        return Err(place.plain("horizon", "must be above 0"));
    }
    if scenario.seeds.is_empty() {
        return Err(place.plain("seeds", "is empty: give at least one seed"));
    }
    if scenario.policies.is_empty() {
        return Err(place.plain("policies", "is empty: give at least one policy"));
    }
    for policy in &scenario.policies {
        let is_choice = scenario.trace.is_some() && NodeChoice::by_name(&policy.value).is_some();
        if !is_choice && !mobula_planner::policy_names().contains(&policy.value.as_str()) {
            let known = mobula_planner::policy_names().join(", ");
            return Err(place.bad(policy, "policies", format!("{}: unknown: must be one of {known}", policy.value)));
        }
    }
    let mut pools = BTreeSet::new();
    for (index, pool) in scenario.nodes.iter().enumerate() {
        let field = |name: &str| format!("nodes[{index}].{name}");
        check_pool(&pool.value).map_err(|(name, problem)| place.bad(pool, field(name), problem))?;
        if !pools.insert(pool.value.name.as_str()) {
            let problem = format!("{}: is the name of another pool", pool.value.name);
            return Err(place.bad(pool, field("name"), problem));
        }
    }
    let probabilities = [
        ("pods.fail", scenario.pods.fail),
        ("network.errors", scenario.network.errors),
        ("network.losses", scenario.network.losses),
    ];
    for (field, value) in probabilities {
        if !(0.0..=1.0).contains(&value) {
            return Err(place.plain(field, format!("{value}: must be a probability, from 0 to 1")));
        }
    }
    if scenario.ray.poll.is_zero() {
        return Err(place.plain("ray.poll", "must be above 0"));
    }
    if let Some(prices) = &scenario.sidecar.prices {
        Prices::from_value(&prices.value).map_err(|error| place.bad(prices, "sidecar.prices", error))?;
    }
    if let Some(name) = &scenario.sidecar.topology
        && mobula_planner::topology_presets::preset(&name.value).is_none()
    {
        return Err(place.bad(name, "sidecar.topology", format!("{}: no such preset", name.value)));
    }
    let clusters = check_objects(scenario, place)?;
    if let Some(trace) = scenario.trace.as_ref().filter(|_| !clusters.is_empty())
        && let Err((name, problem)) = known_cluster(trace.value.cluster.as_deref(), &clusters)
    {
        return Err(place.bad(trace, format!("trace.{name}"), problem));
    }
    for (index, step) in scenario.work.iter().enumerate() {
        check_step(&step.value, &clusters)
            .map_err(|(name, problem)| place.bad(step, format!("work[{index}].{name}"), problem))?;
    }
    for (index, fault) in scenario.faults.iter().enumerate() {
        check_fault(&fault.value)
            .map_err(|(name, problem)| place.bad(fault, format!("faults[{index}].{name}"), problem))?;
    }
    Ok(())
}

fn check_pool(pool: &NodePool) -> Result<(), (&'static str, String)> {
    if pool.name.is_empty() {
        return Err(("name", "must not be empty".into()));
    }
    if pool.count == 0 && pool.most == 0 {
        return Err(("count", "0: give `count` (nodes that are there) or `most` (nodes that may be bought)".into()));
    }
    if u64::from(pool.count) + u64::from(pool.most) > MOST_NODES {
        return Err(("most", format!("{}: more than {MOST_NODES} nodes", pool.most)));
    }
    for (name, amount) in &pool.capacity {
        let is_amount = Quantity::from_json(amount).is_ok_and(|amount| !amount.is_negative());
        if !is_amount {
            return Err(("capacity", format!("{name}: {amount}: must be an amount such as 8 or 64Gi")));
        }
    }
    if let Some(missing) = ["cpu", "memory"].into_iter().find(|name| !pool.capacity.contains_key(*name)) {
        return Err(("capacity", format!("{missing}: is missing")));
    }
    if !(pool.price_per_hour.is_finite() && pool.price_per_hour >= 0.0) {
        return Err(("price-per-hour", format!("{}: must be 0 or more", pool.price_per_hour)));
    }
    if !(0.0..=1.0).contains(&pool.stock_out) {
        return Err(("stock-out", format!("{}: must be a probability, from 0 to 1", pool.stock_out)));
    }
    if let Some((label, _)) = pool.spread_labels.iter().find(|(_, values)| values.is_empty()) {
        return Err(("spread-labels", format!("{label}: has no value")));
    }
    if let Some((label, _)) = pool.block_labels.iter().find(|(_, size)| **size == 0) {
        return Err(("block-labels", format!("{label}: 0: must be 1 or more")));
    }
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    match pool.taints.iter().find(|taint| !effects.contains(&taint.effect.as_str())) {
        Some(taint) => {
            Err(("taints", format!("{}: {}: must be one of {}", taint.key, taint.effect, effects.join(", "))))
        }
        None => Ok(()),
    }
}

/// Namespace and name of each RayCluster.
fn check_objects(scenario: &Scenario, place: &Place<'_>) -> Result<BTreeSet<(String, String)>, BadScenario> {
    let mut clusters = BTreeSet::new();
    for (index, object) in scenario.objects.iter().enumerate() {
        let bad = |name: &str, problem: String| place.bad(object, format!("objects[{index}].{name}"), problem);
        let kind = object.value["kind"].as_str().unwrap_or_default();
        if ["RayJob", "RayService", "RayCronJob"].contains(&kind) {
            let problem =
                format!("{kind}: is not simulated: its reconciler does not exist yet; use a RayCluster and `work`");
            return Err(bad("kind", problem));
        }
        if !TAKEN.contains(&kind) {
            return Err(bad("kind", format!("{kind}: is not simulated: must be one of {}", TAKEN.join(", "))));
        }
        if let Some((field, problem)) = refuse(&object.value) {
            return Err(bad(&field, problem));
        }
        if kind != "RayCluster" {
            continue;
        }
        let cluster =
            RayCluster::from_value(object.value.clone()).map_err(|error| bad("RayCluster", error.to_string()))?;
        cluster.group_shapes().map_err(|error| bad("RayCluster", error.to_string()))?;
        let namespace = if cluster.metadata.namespace.is_empty() { "default" } else { &cluster.metadata.namespace };
        if !clusters.insert((namespace.to_owned(), cluster.metadata.name.clone())) {
            return Err(bad("metadata.name", format!("{}: is there twice", cluster.metadata.name)));
        }
    }
    if clusters.is_empty() && (scenario.trace.is_none() || !scenario.work.is_empty()) {
        return Err(
            place.plain("manifests", "there is no RayCluster: name a file with one, or write it under `objects`")
        );
    }
    Ok(clusters)
}

fn known_cluster(said: Option<&str>, clusters: &BTreeSet<(String, String)>) -> Result<(), (&'static str, String)> {
    if find_cluster(said, clusters).is_some() {
        return Ok(());
    }
    let known: Vec<String> = clusters.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
    Err(("cluster", format!("{}: must be one of {}", said.unwrap_or("nothing"), known.join(", "))))
}

fn check_fault(fault: &Fault) -> Result<(), (&'static str, &'static str)> {
    let kind = fault.kind;
    match fault {
        _ if fault.recurrence().problem().is_some() => fault.recurrence().problem().map_or(Ok(()), Err),
        Fault { lasts: None, .. } if kind.lasts() => Err(("lasts", "is missing: this fault ends after a time")),
        Fault { lasts: Some(_), .. } if !kind.may_last() => {
            Err(("lasts", "means nothing for this fault: it is over at once"))
        }
        Fault { of: Some(_), .. } if !kind.has_target() => Err(("of", "means nothing for this fault: it befalls all")),
        Fault { by: None | Some(Span::ZERO), .. } if kind.steps_clocks() => {
            Err(("by", "is missing: by how much clocks step"))
        }
        Fault { by: Some(_), .. } if !kind.steps_clocks() => {
            Err(("by", "means nothing for this fault: only clocks step"))
        }
        Fault { after_writes: Some(0), .. } => Err(("after-writes", "0: must be 1 or more")),
        Fault { after_writes: Some(_), .. } if !kind.kills() => {
            Err(("after-writes", "means nothing for this fault: only operators and sidecars write"))
        }
        _ => Ok(()),
    }
}

fn check_step(step: &Step, clusters: &BTreeSet<(String, String)>) -> Result<(), (&'static str, String)> {
    known_cluster(step.cluster.as_deref(), clusters)?;
    let Some(what) = step.what() else {
        return Err(("tasks", "give exactly one of tasks, actors, gang, request-resources".into()));
    };
    if let Some((name, problem)) = step.recurrence().problem() {
        return Err((name, problem.into()));
    }
    let is_amount = |amount: &mobula_planner::Amount| amount.steps() > 0;
    let check_tasks =
        |name: &'static str, tasks: &Tasks| match tasks.needs.iter().find(|(_, amount)| !is_amount(amount)) {
            Some((resource, amount)) => Err((name, format!("needs.{resource}: {}: must be above 0", amount.as_f64()))),
            None => Ok(()),
        };
    match what {
        What::Tasks(tasks) if tasks.duration.is_none() => Err(("tasks", "duration: is missing".into())),
        What::Tasks(tasks) => check_tasks("tasks", tasks),
        What::Actors(tasks) => check_tasks("actors", tasks),
        What::Gang(gang) if gang.bundles == 0 || gang.bundles > 100_000 => {
            Err(("gang", format!("bundles: {}: must be from 1 to 100000", gang.bundles)))
        }
        What::Gang(gang) => match gang.needs.iter().find(|(_, amount)| !is_amount(amount)) {
            Some((resource, amount)) => {
                Err(("gang", format!("needs.{resource}: {}: must be above 0", amount.as_f64())))
            }
            None if gang.needs.is_empty() => Err(("gang", "needs: is empty".into())),
            None => Ok(()),
        },
        What::Request(bundles) => {
            let mut all = bundles.iter().flat_map(|bundle| &bundle.needs);
            match all.find(|(_, amount)| !is_amount(amount)) {
                Some((resource, amount)) => {
                    Err(("request-resources", format!("needs.{resource}: {}: must be above 0", amount.as_f64())))
                }
                None => Ok(()),
            }
        }
    }
}

/// Which RayCluster of these is meant; the only one if nothing is said.
pub fn find_cluster(said: Option<&str>, clusters: &BTreeSet<(String, String)>) -> Option<(String, String)> {
    let Some(said) = said else {
        let mut all = clusters.iter();
        return all.next().filter(|_| all.next().is_none()).cloned();
    };
    let mut fitting = clusters.iter().filter(|(namespace, name)| match said.split_once('/') {
        Some(parts) => parts == (namespace.as_str(), name.as_str()),
        None => name == said,
    });
    fitting.next().filter(|_| fitting.next().is_none()).cloned()
}

impl Scenario {
    /// Namespace and name of each RayCluster.
    pub fn clusters(&self) -> BTreeSet<(String, String)> {
        let is_cluster = |object: &&At<Value>| object.value["kind"] == "RayCluster";
        let name = |object: &At<Value>| {
            let text = |key: &str| object.value["metadata"][key].as_str().map(str::to_owned);
            (text("namespace").unwrap_or_else(|| "default".to_owned()), text("name").unwrap_or_default())
        };
        self.objects.iter().filter(is_cluster).map(name).collect()
    }
}
