//! Which rules the problems reached.

use std::collections::BTreeMap;

use mobula_planner::ray_v2::Outcome;
use mobula_planner::{GangStrategy, LabelOperator, Memory, NodePhase, Request, Snapshot, TerminateCause};

/// Number of problems that exercised each feature.
#[derive(Default)]
pub struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    /// Counts the features of a problem and of its answer.
    pub fn count(&mut self, snapshot: &Snapshot, memory: &Memory, outcome: &Outcome) {
        for (feature, present) in outcome_features(snapshot, outcome)
            .into_iter()
            .chain(demand_features(snapshot, outcome))
            .chain(cluster_features(snapshot, memory, outcome))
        {
            *self.0.entry(feature).or_default() += u64::from(present);
        }
    }

    /// Features that no problem exercised.
    pub fn missing(&self) -> Vec<&'static str> {
        self.0.iter().filter(|(_, count)| **count == 0).map(|(feature, _)| *feature).collect()
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "problems  feature")?;
        self.0.iter().try_for_each(|(feature, count)| writeln!(f, "{count:>8}  {feature}"))
    }
}

type Feature = (&'static str, bool);

fn outcome_features(snapshot: &Snapshot, outcome: &Outcome) -> Vec<Feature> {
    let ended = |cause: TerminateCause, phase: NodePhase| {
        let ended = |id: &str| snapshot.nodes.iter().any(|node| *node.instance_id == *id && node.phase == phase);
        outcome.terminate.iter().any(|(id, other)| *other == cause && ended(id))
    };
    let ended_at_all = |cause: TerminateCause| outcome.terminate.values().any(|other| *other == cause);
    vec![
        ("launch: one group", outcome.launch.len() == 1),
        ("launch: several groups", outcome.launch.len() > 1),
        ("launch: 20 pods or more", outcome.launch.values().sum::<u64>() >= 20),
        ("end: idle, running", ended(TerminateCause::Idle, NodePhase::Running)),
        ("end: idle, pending", ended(TerminateCause::Idle, NodePhase::Pending)),
        ("end: outdated", ended_at_all(TerminateCause::Outdated)),
        ("end: above the group's maximum, busy or idle", ended(TerminateCause::MaxPerGroup, NodePhase::Running)),
        ("end: above the group's maximum, on its way", ended(TerminateCause::MaxPerGroup, NodePhase::Requested)),
        ("end: above the cluster's maximum", ended_at_all(TerminateCause::MaxNodes)),
        ("resize in place", !outcome.resize.is_empty()),
        ("remember unneeded pending nodes", !outcome.pending_unneeded_since_ms.is_empty()),
    ]
}

fn demand_features(snapshot: &Snapshot, outcome: &Outcome) -> Vec<Feature> {
    let bundles = snapshot.gangs.iter().flat_map(|gang| &gang.bundles);
    let requests: Vec<&Request> = snapshot.demand.iter().map(|class| &class.request).chain(bundles).collect();
    let conditions: Vec<_> =
        requests.iter().flat_map(|request| &request.selectors).flat_map(|selector| &selector.constraints).collect();
    let operator = |operator: LabelOperator| conditions.iter().any(|condition| condition.operator == operator);
    let names = |prefix: &str| requests.iter().any(|r| r.resources.keys().any(|name| name.starts_with(prefix)));
    let placed = |strategy: GangStrategy, placed: bool| {
        let gangs = snapshot.gangs.iter().enumerate().filter(|(_, gang)| gang.strategy == strategy);
        gangs.into_iter().any(|(at, gang)| gang.bundles.len() > 1 && outcome.gangs_left.contains(&at) != placed)
    };
    vec![
        ("tasks: all placed", !snapshot.demand.is_empty() && outcome.tasks_left.is_empty()),
        ("tasks: some left", !outcome.tasks_left.is_empty()),
        ("tasks: a class of 150 or more", snapshot.demand.iter().any(|class| class.count >= 150)),
        ("gang PACK placed", placed(GangStrategy::Pack, true)),
        ("gang PACK left", placed(GangStrategy::Pack, false)),
        ("gang SPREAD placed", placed(GangStrategy::Spread, true)),
        ("gang SPREAD left", placed(GangStrategy::Spread, false)),
        ("gang STRICT_PACK placed", placed(GangStrategy::StrictPack, true)),
        ("gang STRICT_PACK left", placed(GangStrategy::StrictPack, false)),
        ("gang STRICT_SPREAD placed", placed(GangStrategy::StrictSpread, true)),
        ("gang STRICT_SPREAD left", placed(GangStrategy::StrictSpread, false)),
        ("constraint met", !snapshot.constraints.is_empty() && outcome.constraints_left.is_empty()),
        ("constraint left", !outcome.constraints_left.is_empty()),
        ("label IN", operator(LabelOperator::In)),
        ("label NOT_IN", operator(LabelOperator::NotIn)),
        ("label operator unknown", operator(LabelOperator::Unknown)),
        ("label fall-back", requests.iter().any(|request| request.selectors.len() > 1)),
        ("request: implicit resource", names("node:__internal_implicit_resource_")),
        ("request: 1/1000 tag", names("accelerator_type:")),
        ("request: GPU", names("GPU")),
        ("request: nothing", requests.iter().any(|request| request.resources.is_empty())),
        ("request: amount of 0", requests.iter().any(|r| r.resources.values().any(|amount| amount.steps() == 0))),
    ]
}

fn cluster_features(snapshot: &Snapshot, memory: &Memory, outcome: &Outcome) -> Vec<Feature> {
    let groups: Vec<_> = snapshot.node_types.iter().filter(|group| !group.is_head).collect();
    let live = |name: &str| {
        let nodes = snapshot.nodes.iter().filter(|node| *node.group == *name);
        nodes.filter(|node| !matches!(node.phase, NodePhase::Leaving | NodePhase::Stopped)).count()
    };
    let launched = |name: &String| outcome.launch.contains_key(name);
    let twins = groups.windows(2).filter(|pair| pair[0].resources == pair[1].resources);
    let wanted_twins = twins.filter(|pair| pair.iter().any(|group| launched(&group.name)));
    let wanted_twins: Vec<_> = wanted_twins.collect();
    let failed = |name: &String| memory.allocation_failed_ms.contains_key(name);
    let idle_kept = snapshot.nodes.iter().any(|node| {
        node.idle_ms.is_some_and(|ms| ms >= 200_000) && !outcome.terminate.contains_key(&*node.instance_id)
    });
    vec![
        ("minimum not reached", groups.iter().any(|group| live(&group.name) < group.min_replicas as usize)),
        ("maximum reached", groups.iter().any(|group| live(&group.name) >= group.max_replicas as usize)),
        ("cluster maximum", snapshot.settings.max_nodes.is_some()),
        ("twin groups: one is chosen", !wanted_twins.is_empty()),
        ("twin groups: priorities differ", wanted_twins.iter().any(|pair| pair[0].priority != pair[1].priority)),
        ("twin groups: one failed", wanted_twins.iter().any(|p| failed(&p[0].name) != failed(&p[1].name))),
        ("twin groups: both failed", wanted_twins.iter().any(|p| failed(&p[0].name) && failed(&p[1].name))),
        ("idle beyond its time, but kept", idle_kept),
        ("idle time-out of a group", groups.iter().any(|group| group.idle_timeout_ms.is_some())),
        ("idle time-out: none", snapshot.settings.idle_timeout_ms.is_none()),
        ("pending idle time-out", snapshot.settings.pending_idle_timeout_ms.is_some()),
        ("GPU nodes not conserved", !snapshot.settings.conserve_gpu_nodes),
        ("resize under way", snapshot.nodes.iter().any(|node| node.resize.as_ref().is_some_and(|r| r.in_progress))),
        ("resize failed", snapshot.nodes.iter().any(|node| node.resize.as_ref().is_some_and(|r| r.failed))),
        ("no head", !snapshot.nodes.iter().any(|node| node.is_head)),
        ("a gang that is rescheduled", snapshot.nodes.iter().any(|node| !node.dynamic_labels.is_empty())),
    ]
}
