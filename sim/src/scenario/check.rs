//! What a scenario must be beyond its form.

use std::collections::BTreeSet;

use mobula_api::{Quantity, RayCluster};
use mobula_autoscaler::prices::Prices;
use serde_json::Value;

use super::read::{BadScenario, Place};
use super::{At, NodePool, Scenario, Step, Tasks, What};

/// Kinds that are taken. Others have nobody here who acts on them.
const TAKEN: [&str; 9] = [
    "RayCluster",
    "Namespace",
    "ResourceQuota",
    "LimitRange",
    "PriorityClass",
    "ConfigMap",
    "Secret",
    "ServiceAccount",
    "PodDisruptionBudget",
];
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
        if !mobula_planner::policy_names().contains(&policy.value.as_str()) {
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
    for (index, step) in scenario.work.iter().enumerate() {
        check_step(&step.value, &clusters)
            .map_err(|(name, problem)| place.bad(step, format!("work[{index}].{name}"), problem))?;
    }
    for (index, fault) in scenario.faults.iter().enumerate() {
        if fault.value.every.is_some_and(|every| every.mean_s() <= 0.0) {
            return Err(place.bad(fault, format!("faults[{index}].every"), "must be above 0"));
        }
        if fault.value.kind.lasts() && fault.value.lasts.is_none() {
            return Err(place.bad(fault, format!("faults[{index}].lasts"), "is missing: this fault ends after a time"));
        }
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
    if clusters.is_empty() {
        return Err(
            place.plain("manifests", "there is no RayCluster: name a file with one, or write it under `objects`")
        );
    }
    Ok(clusters)
}

fn check_step(step: &Step, clusters: &BTreeSet<(String, String)>) -> Result<(), (&'static str, String)> {
    if find_cluster(step, clusters).is_none() {
        let known: Vec<String> = clusters.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
        let said = step.cluster.as_deref().unwrap_or("nothing");
        return Err(("cluster", format!("{said}: must be one of {}", known.join(", "))));
    }
    let Some(what) = step.what() else {
        return Err(("tasks", "give exactly one of tasks, actors, gang, request-resources".into()));
    };
    if step.every.is_some_and(|every| every.mean_s() <= 0.0) {
        return Err(("every", "must be above 0".into()));
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
        What::Request(_) => Ok(()),
    }
}

/// Which RayCluster a step is for.
pub(crate) fn find_cluster(step: &Step, clusters: &BTreeSet<(String, String)>) -> Option<(String, String)> {
    let Some(said) = &step.cluster else {
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

    /// Which RayCluster a step is for.
    pub fn cluster_of(&self, step: &Step) -> Option<(String, String)> {
        find_cluster(step, &self.clusters())
    }
}
