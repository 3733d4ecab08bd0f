//! A plan as a table for people.

use std::fmt::Write as _;

use mobula_planner::{Move, Plan, Snapshot, Unmet, UnmetKind};

use super::{CostEntry, Document, ExplainEntry, new_replicas, text};

/// Longest list that is shown in full; the JSON document holds everything.
const MAX_LINES: usize = 20;
/// A group without its own limit has at least this many as its most.
const UNLIMITED: u32 = i32::MAX as u32;

/// What would be done and why, for people: groups, launches, ends, resizes, what stays unserved, reasons, and `notes` on the
/// input.
pub fn table(snapshot: &Snapshot, plan: &Plan, notes: &[String]) -> String {
    let mut document = Document::new(snapshot, plan);
    notes.iter().for_each(|note| document.note(note));
    let mut out = summary(snapshot, plan);
    out.push('\n');
    out.push_str(&groups(&document));
    let mut shown: Vec<String> = Vec::new();
    let ends =
        document.terminate.iter().map(|end| vec![end.group.clone(), end.instance_id.clone(), end.reason.clone()]);
    let costs = document.cost.filter(|cost| cost.launched_per_hour > 0.0 || cost.unpriced_hosts > 0);
    let costs: Vec<Vec<String>> = costs.map(|entry| cost(entry, has_preferences(snapshot))).into_iter().collect();
    for (title, rows) in [
        ("Would launch", launches(snapshot, plan)),
        ("Would end", ends.collect()),
        ("Would resize", resizes(plan)),
        ("Could be drained", document.moves.iter().map(drained).collect()),
        ("Would stay unserved", plan.unmet.iter().map(unserved).collect()),
    ] {
        shown.extend(rows.iter().filter_map(|row| row.last().cloned()));
        section(&mut out, title, rows);
        if title == "Would launch" {
            section(&mut out, "At a cost of", costs.clone());
        }
    }
    // What stands above is not said twice.
    let is_new = |entry: &&ExplainEntry| !shown.iter().any(|text| entry.text.contains(text));
    section(&mut out, "Why", document.explain.iter().filter(is_new).map(reason).collect());
    out
}

fn summary(snapshot: &Snapshot, plan: &Plan) -> String {
    let tasks: u64 = snapshot.demand.iter().map(|class| class.count).sum();
    let constraint_requests: u64 =
        snapshot.constraints.iter().flat_map(|constraint| &constraint.requests).map(|class| class.count).sum();
    let mut asked = vec![
        format!("{tasks} pending tasks and actors in {}", counted(snapshot.demand.len() as u64, "shape")),
        format!("{} pending", counted(snapshot.gangs.len() as u64, "placement group")),
    ];
    if constraint_requests > 0 {
        asked.push(format!("request_resources for {}", counted(constraint_requests, "bundle")));
    }
    format!("Policy {}; {}\n", plan.policy, asked.join(", "))
}

/// Whether some labels or groups come before others that would do as well, whatever they cost.
fn has_preferences(snapshot: &Snapshot) -> bool {
    let bundles = snapshot.gangs.iter().flat_map(|gang| &gang.bundles);
    let has_fallbacks =
        snapshot.demand.iter().map(|class| &class.request).chain(bundles).any(|it| it.selectors.len() > 1);
    let workers = || snapshot.node_types.iter().filter(|group| !group.is_head);
    has_fallbacks || workers().zip(workers().skip(1)).any(|(one, next)| one.priority != next.priority)
}

fn cost(cost: CostEntry, has_preferences: bool) -> Vec<String> {
    let bound = match (cost.lower_bound_per_hour, cost.proven) {
        (Some(least), true) if least > 0.0 && has_preferences => {
            format!("with the labels and groups that are preferred it can't be less than {least}: proven")
        }
        (Some(least), true) if least > 0.0 => format!("it can't be less than {least}: proven"),
        (Some(least), false) if least > 0.0 && least < cost.launched_per_hour => {
            format!("it may be possible for less, {least} at the least: not proven")
        }
        (Some(_), _) => "not compared with every other way".to_owned(),
        (None, _) => String::new(),
    };
    let unpriced = match cost.unpriced_hosts {
        0 => String::new(),
        hosts => format!(", and {} at an unknown price", counted(hosts, "host")),
    };
    vec![format!("{} an hour{unpriced}", cost.launched_per_hour), bound]
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn groups(document: &Document) -> String {
    let mut rows = vec![["GROUP", "CURRENT", "DESIRED", "NEW", "MIN", "MAX"].map(str::to_owned).to_vec()];
    for (name, group) in &document.groups {
        let new = document.launch.get(name).map_or_else(|| "-".to_owned(), |replicas| format!("+{replicas}"));
        let max = if group.max >= UNLIMITED { "none".to_owned() } else { group.max.to_string() };
        rows.push(vec![
            name.clone(),
            group.current.to_string(),
            group.desired.to_string(),
            new,
            group.min.to_string(),
            max,
        ]);
    }
    aligned(&rows, "")
}

fn launches(snapshot: &Snapshot, plan: &Plan) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (group, new) in new_replicas(snapshot, plan) {
        let planned = plan.launch.iter().filter(|launch| launch.group == group && launch.replicas > 0);
        let mut left = new;
        for launch in planned {
            left = left.saturating_sub(launch.replicas);
            rows.push(vec![format!("+{}", launch.replicas), group.clone(), launch.reason.clone()]);
        }
        if left > 0 {
            let reason = "the RayCluster asks for it already, and nothing shows it yet".to_owned();
            rows.push(vec![format!("+{left}"), group, reason]);
        }
    }
    rows
}

fn resizes(plan: &Plan) -> Vec<Vec<String>> {
    let row = |resize: &mobula_planner::Resize| {
        let limits = format!("to {} CPU, {} memory", resize.cpu.as_f64(), text::amount("memory", resize.memory));
        vec![resize.group.clone(), resize.instance_id.clone(), limits]
    };
    plan.resize.iter().map(row).collect()
}

fn drained(proposed: &Move) -> Vec<String> {
    let saves = proposed.saves_per_hour.filter(|saves| *saves > 0.0);
    let saves = saves.map_or(String::new(), |saves| format!(", which would save {saves} an hour"));
    let amounts = proposed.resources.iter().map(|(name, used)| format!("{name}: {}", text::amount(name, *used)));
    let amounts = amounts.collect::<Vec<_>>().join(", ");
    let text = format!("{} has room for all that it runs ({amounts}){saves}", proposed.to);
    vec![proposed.group.clone(), proposed.instance_id.clone(), text]
}

fn unserved(unmet: &Unmet) -> Vec<String> {
    let what = match &unmet.kind {
        UnmetKind::Task(request) => format!("task {}", text::request(request)),
        UnmetKind::Gang(gang) => format!("placement group {}", text::gang(gang)),
        UnmetKind::Constraint(constraint) => {
            let requests: Vec<String> = constraint
                .requests
                .iter()
                .map(|class| format!("{} x {}", class.count, text::request(&class.request)))
                .collect();
            format!("request_resources {}", requests.join(", "))
        }
    };
    vec![format!("{} x", unmet.count), what, unmet.reason.clone()]
}

fn reason(entry: &ExplainEntry) -> Vec<String> {
    vec![entry.verdict.to_owned(), entry.subject.clone(), entry.text.clone()]
}

fn section(out: &mut String, title: &str, mut rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let more = rows.len().saturating_sub(MAX_LINES);
    rows.truncate(MAX_LINES);
    // Writing to a string can't fail.
    let _ = writeln!(out, "\n{title}");
    out.push_str(&aligned(&rows, "  "));
    if more > 0 {
        let _ = writeln!(out, "  … and {more} more (`-o json` shows all)");
    }
}

/// Columns padded to the widest cell of at most 76 characters; the last column is as it is.
fn aligned(rows: &[Vec<String>], indent: &str) -> String {
    const MAX_WIDTH: usize = 76;
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).filter(|width| *width <= MAX_WIDTH).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = indent.to_owned();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
