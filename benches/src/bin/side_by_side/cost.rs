//! What policies pay for the same demand, over the least that can be paid: sixteen classes of problems, small to large.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use mobula_benches::classes::{Class, Size, problem};
use mobula_planner::{Memory, Plan, Policy, PolicyOptions, Severity, Snapshot, lint, policy};

#[path = "../../../../crates/planner/tests/given/exact.rs"]
mod exact;

/// A policy as it is compared.
struct Rival {
    title: &'static str,
    policy: std::sync::Arc<dyn Policy>,
}

/// What one problem may cost at least.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Bound {
    /// The optimum, or a bound that some plan has proven.
    Proven(f64),
    /// Nothing better is known than the cheapest plan.
    Cheapest(f64),
}

/// Ratios of one policy.
#[derive(Clone, Debug, Default)]
struct Ratios(Vec<f64>);

impl Ratios {
    fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    fn worst(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }
}

impl std::fmt::Display for Ratios {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            write!(out, "– | –")
        } else {
            write!(out, "{:.3} | {:.3}", self.mean(), self.worst())
        }
    }
}

/// Problems of one class, or all.
#[derive(Clone, Debug, Default)]
struct Row {
    problems: u32,
    proven: u32,
    /// Problems that some policy did not serve wholly; they are in no ratio.
    unserved: u32,
    /// Over proven bounds, by policy.
    over_bound: Vec<Ratios>,
    /// Over the cheapest plan, where no bound is proven.
    over_cheapest: Vec<Ratios>,
}

/// Prints the table.
///
/// # Errors
/// If a plan is not sound.
pub fn run(sizes: &[Size], seeds: u64, tick_work: u64, improve_work: u64) -> Result<()> {
    let rivals = rivals(tick_work, improve_work)?;
    let titles = rivals.iter().map(|rival| format!("{}: mean | worst", rival.title)).collect::<Vec<_>>().join(" | ");
    println!("| class | size | problems, proven | {titles} |\n|---|---|---|{}", "---|---|".repeat(rivals.len()));
    let (mut total, mut unproven) = (Row::new(rivals.len()), Vec::new());
    for class in Class::value_variants() {
        for size in sizes {
            let mut row = Row::new(rivals.len());
            for seed in 0..seeds {
                row.add(&problem(*class, *size, seed), &rivals).with_context(|| format!("{class} {size} {seed}"))?;
            }
            println!("| {class} | {size} | {}{} |", row.counts(), cells(&row.over_bound));
            if row.over_cheapest.iter().any(|ratios| !ratios.0.is_empty()) {
                unproven.push((*class, *size, row.clone()));
            }
            total.join(row);
        }
    }
    println!("| **all** | | {}{} |", total.counts(), cells(&total.over_bound));
    if !unproven.is_empty() {
        println!("\nWithout a proven bound, over the cheapest of these plans:\n");
        println!("| class | size | problems | {titles} |\n|---|---|---|{}", "---|---|".repeat(rivals.len()));
        for (class, size, row) in unproven {
            let problems = row.problems - row.proven - row.unserved;
            println!("| {class} | {size} | {problems}{} |", cells(&row.over_cheapest));
        }
        println!("| **all** | | {}{} |", total.problems - total.proven - total.unserved, cells(&total.over_cheapest));
    }
    Ok(())
}

fn rivals(tick_work: u64, improve_work: u64) -> Result<Vec<Rival>> {
    let named = |title, name, improve_work| {
        let options = PolicyOptions { improve_work, ..PolicyOptions::default() };
        let policy = policy(name, &options).with_context(|| format!("there is no policy {name}"))?;
        Ok(Rival { title, policy })
    };
    let rivals = [
        named("mobula, tick", "mobula", tick_work),
        named("mobula, improved", "mobula", improve_work),
        named("ray-v2", "ray-v2", 0),
    ];
    rivals.into_iter().collect()
}

impl Row {
    fn new(rivals: usize) -> Self {
        Row {
            over_bound: vec![Ratios::default(); rivals],
            over_cheapest: vec![Ratios::default(); rivals],
            ..Row::default()
        }
    }

    fn add(&mut self, snapshot: &Snapshot, rivals: &[Rival]) -> Result<()> {
        self.problems += 1;
        let (mut costs, mut proven, mut is_served) = (Vec::new(), exact::least_cost(snapshot), true);
        let is_optimum = proven.is_some();
        for rival in rivals {
            let (plan, _) = rival.policy.plan(snapshot, &Memory::default());
            let broken = lint(snapshot, &plan).into_iter().find(|found| found.severity == Severity::Error);
            if let Some(broken) = broken {
                bail!("{}: {broken}", rival.title);
            }
            is_served &= plan.unmet.is_empty();
            costs.push(launch_cost(snapshot, &plan)?);
            let bound = plan.cost.filter(|cost| cost.is_priced && cost.is_proven && !is_optimum);
            if let Some(bound) = bound.and_then(|cost| cost.lower_bound_per_hour) {
                proven = Some(proven.map_or(bound, |known| known.max(bound)));
            }
        }
        if !is_served {
            self.unserved += 1;
            return Ok(());
        }
        let cheapest = costs.iter().copied().fold(f64::INFINITY, f64::min);
        let (ratios, bound) = match proven.map_or(Bound::Cheapest(cheapest), Bound::Proven) {
            Bound::Proven(bound) => {
                ensure!(cheapest >= bound * (1.0 - 1e-6), "a plan costs {cheapest}, less than the bound of {bound}");
                self.proven += 1;
                (&mut self.over_bound, bound)
            }
            Bound::Cheapest(cheapest) => (&mut self.over_cheapest, cheapest),
        };
        for (ratios, cost) in ratios.iter_mut().zip(costs) {
            // Where nothing needs to be bought, buying nothing is the optimum.
            let ratio = if bound > 0.0 {
                cost / bound
            } else if cost > 0.0 {
                f64::INFINITY
            } else {
                1.0
            };
            ratios.0.push(ratio);
        }
        Ok(())
    }

    fn join(&mut self, other: Row) {
        self.problems += other.problems;
        self.proven += other.proven;
        self.unserved += other.unserved;
        for (own, others) in self.over_bound.iter_mut().zip(other.over_bound) {
            own.0.extend(others.0);
        }
        for (own, others) in self.over_cheapest.iter_mut().zip(other.over_cheapest) {
            own.0.extend(others.0);
        }
    }

    fn counts(&self) -> String {
        let unserved = if self.unserved > 0 { format!(", {} not served", self.unserved) } else { String::new() };
        format!("{}, {}{unserved}", self.problems, self.proven)
    }
}

fn cells(ratios: &[Ratios]) -> String {
    ratios.iter().map(|ratios| format!(" | {ratios}")).collect()
}

/// What the launches of a plan cost an hour, at the best price of each group.
fn launch_cost(snapshot: &Snapshot, plan: &Plan) -> Result<f64> {
    let groups: BTreeMap<&str, _> = snapshot.node_types.iter().map(|group| (group.name.as_str(), group)).collect();
    let mut cost = 0.0;
    for launch in &plan.launch {
        let group = groups.get(launch.group.as_str()).context("an unknown group is launched")?;
        let price = group.offerings.iter().map(|offering| offering.price_per_hour).min_by(f64::total_cmp);
        let price = price.with_context(|| format!("{} has no price", group.name))?;
        cost += price * f64::from(launch.replicas) * f64::from(group.num_of_hosts.max(1));
    }
    Ok(cost)
}
