//! Ray's own event file: JSON lines that drivers print and the dashboard lists.
//!
//! Facts of Ray 2.60: the file is `<temp_dir>/session_latest/logs/events/event_AUTOSCALER.log`. One line is one `Event`
//! message in protobuf's JSON form with original field names: `event_id` (36 hex digits), `source_type`, `source_hostname`,
//! `source_pid`, `severity`, `label`, `message`, `timestamp` (Unix seconds *as a string*) and `custom_fields`. The log
//! monitor of the head follows the file by inode and sends each line to the drivers, which print `(autoscaler) <message>`.
//!
//! [`messages`] says what is worth a line, [`EventLog`] writes it.

mod log;

use std::collections::BTreeMap;

use mobula_planner::{
    Amount, Constraint, Gang, NodePhase, Plan, Resources, Snapshot, TerminateCause, Unmet, UnmetCause, UnmetKind,
};

pub use log::{EventLog, EventLogConfig};

/// Most warnings of one plan; the rest are counted.
const MAX_WARNINGS: usize = 20;

/// How loud a line is. Drivers show [`Severity::Info`] and above.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something was done.
    Info,
    /// The user must act.
    Warning,
}

/// One thing to tell the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLine {
    /// How loud.
    pub severity: Severity,
    /// What, in the words that users of Ray know.
    pub message: String,
    /// What a warning is about: its message without counts, which change all the time.
    pub topic: String,
}

/// What Ray's drivers should be told of `plan`, which was made from `snapshot`: nodes that are added and removed, the size of
/// the cluster where it changes, and demand that no group could ever hold.
///
/// Lines of severity [`Severity::Info`] speak of what was done: write them once the plan has been applied. Warnings hold
/// whether it was applied or not; [`EventLog::write`] repeats one of the same topic only now and then.
pub fn messages(snapshot: &Snapshot, plan: &Plan) -> Vec<EventLine> {
    let mut done = added(snapshot, plan);
    done.extend(removed(plan));
    if !done.is_empty() {
        done.push(resized(snapshot, plan));
    }
    let info = done.into_iter().map(|message| EventLine { severity: Severity::Info, message, topic: String::new() });
    info.chain(warnings(plan)).collect()
}

fn added(snapshot: &Snapshot, plan: &Plan) -> Vec<String> {
    let mut pods: BTreeMap<&str, u64> = BTreeMap::new();
    for launch in &plan.launch {
        *pods.entry(&launch.group).or_default() += u64::from(launch.replicas) * hosts(snapshot, &launch.group);
    }
    pods.retain(|_, count| *count > 0);
    pods.iter().map(|(group, count)| format!("Adding {count} node(s) of type {group}.")).collect()
}

fn hosts(snapshot: &Snapshot, group: &str) -> u64 {
    let node_type = snapshot.node_types.iter().find(|node_type| node_type.name == group);
    node_type.map_or(1, |node_type| u64::from(node_type.num_of_hosts.max(1)))
}

fn removed(plan: &Plan) -> Vec<String> {
    let mut pods: BTreeMap<(TerminateCause, &str), u64> = BTreeMap::new();
    for terminate in &plan.terminate {
        *pods.entry((terminate.cause, &terminate.group)).or_default() += 1;
    }
    let line = |((cause, group), count): (&(TerminateCause, &str), &u64)| {
        format!("Removing {count} nodes of type {group} ({}).", cause_words(*cause))
    };
    pods.iter().map(line).collect()
}

fn cause_words(cause: TerminateCause) -> &'static str {
    match cause {
        TerminateCause::Idle => "idle",
        TerminateCause::Outdated => "outdated",
        TerminateCause::MaxNodes => "max number of worker nodes reached",
        TerminateCause::MaxPerGroup => "max number of worker nodes per type reached",
        TerminateCause::AllocationTimeout => "not started in time",
        TerminateCause::RayStopped => "Ray stopped in it",
    }
}

/// The size of the cluster once the plan is carried out: what runs, what is on its way, what is added, without what goes.
fn resized(snapshot: &Snapshot, plan: &Plan) -> String {
    let mut total: BTreeMap<&str, i64> = ["CPU", "GPU", "TPU"].map(|name| (name, 0)).into();
    let mut known: BTreeMap<&str, bool> = BTreeMap::new();
    let mut add = |resources: &Resources, count: u64| {
        for (name, sum) in &mut total {
            let amount = resources.get(*name).copied().unwrap_or(Amount::ZERO);
            *sum = sum.saturating_add(amount.steps().saturating_mul(i64::try_from(count).unwrap_or(i64::MAX)));
            *known.entry(name).or_default() |= resources.contains_key(*name);
        }
    };
    let goes = |id: &str| plan.terminate.iter().any(|terminate| terminate.instance_id == id);
    for node in &snapshot.nodes {
        if !matches!(node.phase, NodePhase::Leaving | NodePhase::Stopped) && !goes(&node.instance_id) {
            add(&node.total, 1);
        }
    }
    for launch in &plan.launch {
        if let Some(node_type) = snapshot.node_types.iter().find(|node_type| node_type.name == launch.group) {
            add(&node_type.resources, u64::from(launch.replicas) * u64::from(node_type.num_of_hosts.max(1)));
        }
    }
    let units = |name: &str| total.get(name).copied().unwrap_or_default() / Amount::STEPS_PER_UNIT;
    let mut message = format!("Resized to {} CPUs", units("CPU"));
    for name in ["GPU", "TPU"] {
        if known.get(name) == Some(&true) {
            message.push_str(&format!(", {} {name}s", units(name)));
        }
    }
    message.push('.');
    message
}

fn warnings(plan: &Plan) -> Vec<EventLine> {
    let never: Vec<&Unmet> = plan.unmet.iter().filter(|unmet| unmet.cause == UnmetCause::NeverFits).collect();
    let mut lines: Vec<EventLine> = never.iter().take(MAX_WARNINGS).map(|unmet| warning(unmet)).collect();
    if let Some(more) = never.len().checked_sub(MAX_WARNINGS + 1) {
        let topic = "No available node types can fulfill more requests".to_owned();
        lines.push(EventLine { severity: Severity::Warning, message: format!("{topic} ({}).", more + 1), topic });
    }
    lines
}

fn warning(unmet: &Unmet) -> EventLine {
    let (what, shape) = match &unmet.kind {
        UnmetKind::Task(request) => ("resource requests".to_owned(), shape_words(&request.resources)),
        UnmetKind::Gang(gang) => (format!("placement group requests (detail={})", gang.details), gang_words(gang)),
        UnmetKind::Constraint(constraint) => ("cluster constraint".to_owned(), constraint_words(constraint)),
    };
    let start = format!("No available node types can fulfill {what} {shape}");
    let count = if matches!(unmet.kind, UnmetKind::Task(_)) { format!("*{}", unmet.count) } else { String::new() };
    let message = format!("{start}{count}: {}", unmet.reason);
    EventLine { severity: Severity::Warning, message, topic: start }
}

/// As Ray's users know it from Python: `{'CPU': 1.0, 'GPU': 0.5}`.
fn shape_words(resources: &Resources) -> String {
    let entries: Vec<String> =
        resources.iter().map(|(name, units)| format!("'{name}': {:?}", units.as_f64())).collect();
    format!("{{{}}}", entries.join(", "))
}

fn gang_words(gang: &Gang) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for bundle in &gang.bundles {
        *counts.entry(shape_words(&bundle.resources)).or_default() += 1;
    }
    counted(counts.iter().map(|(shape, count)| (shape.clone(), *count)))
}

fn constraint_words(constraint: &Constraint) -> String {
    counted(constraint.requests.iter().map(|class| (shape_words(&class.request.resources), class.count)))
}

fn counted(shapes: impl Iterator<Item = (String, u64)>) -> String {
    shapes.map(|(shape, count)| format!("{shape}*{count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
