//! A plan in plain text, in the order in which people ask: what changes, what waits, where it all goes, what it costs, why.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mobula_planner::{Amount, DemandRef, GangPlan, Plan, Resources, Severity, Snapshot, Target, UnmetKind, Verdict};
use serde::Serialize;

/// Most places that are listed by name.
const MOST_PLACES: usize = 6;

/// Everything that a scenario expects of a plan.
pub fn plan(snapshot: &Snapshot, plan: &Plan) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out += &text;
        out.push('\n');
    };
    for launch in &plan.launch {
        line(format!("launch {} {}", launch.replicas, launch.group));
    }
    for end in &plan.terminate {
        line(format!("end {} ({})", end.instance_id, word(&end.cause)));
    }
    for (name, group) in &plan.groups {
        let launched = plan.launch.iter().find(|launch| launch.group == *name).map_or(0, |launch| launch.replicas);
        if group.desired != group.requested + launched {
            line(format!("replicas of {name}: {} instead of {}", group.desired, group.requested));
        }
    }
    for unmet in &plan.unmet {
        let what = match &unmet.kind {
            UnmetKind::Task(request) => shape(&request.resources),
            UnmetKind::Gang(gang) => format!("gang {}", gang.id),
            UnmetKind::Constraint(_) => "request_resources".to_owned(),
        };
        line(format!("unmet {} x {what} ({})", unmet.count, word(&unmet.cause)));
    }
    for gang in &plan.gangs {
        line(gang_text(gang));
    }
    for (demand, places) in places(snapshot, plan) {
        line(format!("{demand} on {places}"));
    }
    if let Some(cost) = plan.cost.filter(|cost| cost.is_priced && cost.launched_per_hour > 0.0) {
        let bound = cost.lower_bound_per_hour.filter(|_| cost.is_proven);
        let bound = bound.map_or("no bound proven".to_owned(), |bound| format!("at least {bound:.2} proven"));
        line(format!("costs {:.2} an hour, {bound}", cost.launched_per_hour));
    }
    for reason in &plan.explain {
        line(format!("  {}: {}: {}", reason.subject, word(&reason.verdict), reason.text));
    }
    for found in mobula_planner::lint(snapshot, plan) {
        let severity = if found.severity == Severity::Error { "ERROR" } else { "warning" };
        line(format!("{severity} {found}"));
    }
    out
}

/// Every entry has its reason among the reasons.
pub fn unexplained(plan: &Plan) -> Vec<String> {
    let is_said = |verdict: Verdict, text: &str| {
        plan.explain.iter().any(|reason| reason.verdict == verdict && reason.text.contains(text))
    };
    let ends = plan.terminate.iter().filter(|end| !is_said(Verdict::Terminate, &end.reason));
    let launches = plan.launch.iter().filter(|launch| !is_said(Verdict::Launch, &launch.reason));
    let unmet = plan.unmet.iter().filter(|unmet| !is_said(Verdict::Unmet, &unmet.reason));
    ends.map(|end| end.reason.clone())
        .chain(launches.map(|launch| launch.reason.clone()))
        .chain(unmet.map(|unmet| unmet.reason.clone()))
        .collect()
}

fn gang_text(gang: &GangPlan) -> String {
    let mut text = format!("gang {} {}", gang.id, if gang.served { "is served" } else { "waits" });
    if gang.served {
        let new = gang.new_hosts.iter().map(|(group, hosts)| format!("{hosts} new {group}"));
        let present = (gang.present_hosts > 0).then(|| format!("{} present", gang.present_hosts));
        let hosts: Vec<String> = present.into_iter().chain(new).collect();
        let _ = write!(text, " by {}", hosts.join(", "));
    }
    for (what, value) in [("domain", &gang.domain), ("fabric", &gang.fabric)] {
        if let Some(value) = value {
            let _ = write!(text, ", {what} {value}");
        }
    }
    if gang.served && !gang.reason.is_empty() {
        let _ = write!(text, ": {}", gang.reason);
    }
    text
}

/// What is placed, and where, in the order of the plan's placements.
fn places(snapshot: &Snapshot, plan: &Plan) -> Vec<(String, String)> {
    let mut nodes: BTreeMap<DemandRef, BTreeMap<u32, u64>> = BTreeMap::new();
    let mut new: BTreeMap<DemandRef, BTreeMap<u32, (u64, u64)>> = BTreeMap::new();
    let mut counts: BTreeMap<DemandRef, u64> = BTreeMap::new();
    for placement in &plan.placements {
        let demand = match placement.demand {
            DemandRef::Gang { gang, .. } => DemandRef::Gang { gang, first_bundle: 0 },
            class @ DemandRef::Class(_) => class,
        };
        *counts.entry(demand).or_default() += placement.count;
        match placement.target {
            Target::Node(at) => *nodes.entry(demand).or_default().entry(at).or_default() += placement.count,
            Target::New { group, .. } => {
                let (count, _) = new.entry(demand).or_default().entry(group).or_default();
                *count += placement.count;
            }
        }
    }
    for (demand, groups) in &mut new {
        for (group, (_, hosts)) in groups {
            let is_there = |target: Target| matches!(target, Target::New { group: other, .. } if other == *group);
            let is_of = |other: DemandRef| match (demand, other) {
                (DemandRef::Gang { gang, .. }, DemandRef::Gang { gang: other, .. }) => *gang == other,
                (demand, other) => *demand == other,
            };
            let targets = plan.placements.iter().filter(|place| is_of(place.demand) && is_there(place.target));
            *hosts = targets.map(|place| place.target).collect::<std::collections::BTreeSet<_>>().len() as u64;
        }
    }
    let text = |(demand, count): (&DemandRef, &u64)| {
        let what = match demand {
            DemandRef::Class(at) => {
                let class = snapshot.demand.get(*at as usize);
                class.map_or_else(String::new, |class| shape(&class.request.resources))
            }
            DemandRef::Gang { gang, .. } => {
                let gang = snapshot.gangs.get(*gang as usize);
                format!("gang {}", gang.map_or("", |gang| &gang.id))
            }
        };
        let name = |at: u32| snapshot.nodes.get(at as usize).map_or("?", |node| &node.instance_id);
        let present = nodes.get(demand).into_iter().flatten().map(|(at, count)| format!("{} ({count})", name(*at)));
        let group = |at: u32| snapshot.node_types.get(at as usize).map_or("?", |group| &group.name);
        let new = new.get(demand).into_iter().flatten();
        let new = new.map(|(at, (count, hosts))| format!("{hosts} new {} ({count})", group(*at)));
        let mut present: Vec<String> = present.collect();
        let more = present.len().saturating_sub(MOST_PLACES);
        present.truncate(MOST_PLACES);
        present.extend((more > 0).then(|| format!("{more} more nodes")));
        present.extend(new);
        (format!("place {count} x {what}"), present.join(", "))
    };
    counts.iter().map(text).collect()
}

/// `{CPU: 1, memory: 4 GiB}`.
fn shape(resources: &Resources) -> String {
    let amount = |(name, amount): (&String, &Amount)| match amount.as_f64() / f64::from(1 << 30) {
        gib if name == "memory" => format!("memory: {gib} GiB"),
        _ => format!("{name}: {}", amount.as_f64()),
    };
    format!("{{{}}}", resources.iter().map(amount).collect::<Vec<_>>().join(", "))
}

/// The word by which a value is known in JSON.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "?".to_owned(),
    }
}
