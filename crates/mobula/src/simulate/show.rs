//! Outcomes as tables.

use mobula_sim::compare::{self, Comparison, Estimate};
use mobula_sim::scenario::Scenario;
use mobula_sim::span::Span;
use mobula_sim::summary::{Summary, WaitSummary};

fn seconds(s: f64) -> String {
    Span::from_f64_s(s).to_string()
}

fn wait(wait: &WaitSummary) -> String {
    if wait.count == 0 {
        return "-".to_owned();
    }
    let WaitSummary { mean_s, p50_s, p99_s, .. } = *wait;
    format!("mean {}, p50 {}, p99 {}", seconds(mean_s), seconds(p50_s), seconds(p99_s))
}

/// One block a run.
pub fn summaries(scenario: &Scenario, summaries: &[Summary]) -> String {
    let mut text = String::new();
    if !scenario.about.is_empty() {
        text += &format!("{}\n\n", scenario.about.trim());
    }
    let blocks: Vec<String> = summaries.iter().map(block).collect();
    text += &blocks.join("\n");
    for (policy, seeds, numbers) in compare::estimates(summaries) {
        text += &format!("\npolicy {policy}, {seeds} seeds: means with 95 % intervals\n");
        for Estimate { name, mean, half_width } in numbers {
            text += &format!("  {name:<16} {mean:>12.2} \u{b1} {half_width:.2}\n");
        }
    }
    text
}

fn block(summary: &Summary) -> String {
    let [tasks, done, unmet] = summary.tasks;
    let [gangs, gangs_done, gangs_unmet] = summary.gangs;
    let share = if summary.gpu_hours_bought > 0.0 {
        format!(" ({:.0} %)", 100.0 * summary.gpu_hours_used / summary.gpu_hours_bought)
    } else {
        String::new()
    };
    let rows = [
        ("tasks", format!("{tasks} came, {done} done, {unmet} wait")),
        ("task wait", wait(&summary.task_wait)),
        ("gangs", format!("{gangs} came, {gangs_done} done, {gangs_unmet} wait")),
        ("gang wait", wait(&summary.gang_wait)),
        ("node-hours", format!("{:.2}", summary.node_hours)),
        (
            "GPU-hours",
            format!(
                "{:.2} bought, {:.2} used{share}, {:.2} stranded",
                summary.gpu_hours_bought, summary.gpu_hours_used, summary.gpu_hours_stranded
            ),
        ),
        ("CPU-hours", format!("{:.2} used", summary.cpu_hours_used)),
        ("cost", format!("{:.2}", summary.cost)),
        ("churn", format!("{} pods, {} nodes, {} drained", summary.pods_made, summary.nodes_made, summary.drained)),
        (
            "trouble",
            format!(
                "{} work lost, {} pods failed, {} preempted, {} stock-outs, {} spot nodes reclaimed",
                summary.disruptions, summary.pods_failed, summary.preempted, summary.stock_outs, summary.reclaimed
            ),
        ),
        (
            "requests",
            format!(
                "{} patches; sidecars {}, operator {}; GCS {}",
                summary.patches, summary.sidecar_requests, summary.operator_requests, summary.gcs_calls
            ),
        ),
        ("events", format!("{}, hash {}", summary.events, &summary.hash[..16.min(summary.hash.len())])),
    ];
    let mut text = format!("policy {}, seed {}, {}\n", summary.policy, summary.seed, seconds(summary.horizon_s));
    for (name, value) in rows {
        text += &format!("  {name:<11} {value}\n");
    }
    text
}

/// One table of measures, a column pair a policy.
pub fn comparison(compared: &[Comparison]) -> String {
    let mut text = String::new();
    for Comparison { policy, against, seeds, measures } in compared {
        text += &format!("{policy} against {against}, {seeds} seeds\n");
        text += &format!("  {:<16} {:>12} {:>12} {:>12}  95 % interval\n", "", against, policy, "difference");
        for measure in measures {
            let interval = match measure.half_width {
                Some(half) => format!("{:>10.2} to {:.2}", measure.difference - half, measure.difference + half),
                None => "one seed: none".to_owned(),
            };
            let mark = if measure.is_clear() { " *" } else { "" };
            text += &format!(
                "  {:<16} {:>12.2} {:>12.2} {:>+12.2}  {interval}{mark}\n",
                measure.name, measure.before, measure.after, measure.difference
            );
        }
    }
    text + "* the interval does not hold 0\n"
}
