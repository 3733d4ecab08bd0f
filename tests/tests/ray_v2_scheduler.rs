//! `ray-v2` against the scheduler of Ray 2.60.0 itself, on random problems.
//!
//! `MOBULA_DIFF_PROBLEMS` (2,000) sets how many, `MOBULA_DIFF_SEED` (1) which series, `MOBULA_RAY_PYTHON` another Python that has Ray. A difference is printed with its problem
//! as a line of JSON; `tests/python/ray_v2_oracle.py` answers it again.
// The number of problems and the place of Python come from the environment.
#![allow(clippy::disallowed_methods)]

#[path = "ray_v2_scheduler/coverage.rs"]
mod coverage;
#[path = "ray_v2_scheduler/oracle.rs"]
mod oracle;
#[path = "ray_v2_scheduler/problems.rs"]
mod problems;

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use coverage::Coverage;
use mobula_planner::ray_v2::{Outcome, RayV2, ScoreEntry, schedule, schedule_without};
use mobula_planner::{Memory, NodePhase, Policy, Snapshot, TerminateCause, lint};
use oracle::{Answer, Oracle, RayPlan, question};

const ENTRIES: [ScoreEntry; 8] = [
    ScoreEntry::Labels,
    ScoreEntry::GpuConservation,
    ScoreEntry::ResourceKinds,
    ScoreEntry::LeastUtilisation,
    ScoreEntry::MeanUtilisation,
    ScoreEntry::Recovery,
    ScoreEntry::Priority,
    ScoreEntry::Availability,
];

/// Differences that are looked for when an entry of the score is left out.
const NOTICED: u64 = 5;

/// Where Ray is wrong, and we are not meant to follow.
fn bug_of_ray(snapshot: &Snapshot, answer: &RayPlan) -> Option<&'static str> {
    // Nodes launched for a minimum are one Python object, repeated. When the cluster's maximum strikes one of them, it strikes
    // all: nothing is launched, and nodes without a name are "terminated".
    if answer.terminate.contains_key("") {
        return Some("a cluster maximum below the minima cancels every node of a group");
    }
    // The hash of a node that is on its way is lost when it is read, so it never equals that of its group.
    let up_to_date = |id: &String| {
        let node = snapshot.nodes.iter().find(|node| *node.instance_id == **id && node.phase != NodePhase::Running);
        node.is_some_and(|node| {
            let group = snapshot.node_types.iter().find(|group| *group.name == *node.group);
            group.is_some_and(|group| group.launch_config_hash == node.launch_config_hash)
        })
    };
    let mut outdated = answer.terminate.iter().filter(|(_, cause)| **cause == TerminateCause::Outdated);
    outdated.any(|(id, _)| up_to_date(id)).then_some("nodes on their way are outdated however new they are")
}

fn number(variable: &str, default: u64) -> Result<u64> {
    Ok(std::env::var(variable).map_or(Ok(default), |value| value.parse())?)
}

/// Identical requests can't be told apart: what is left of them counts for the first.
fn by_first_equal(snapshot: &Snapshot, mut outcome: Outcome) -> Outcome {
    let first = |at: usize| {
        let request = &snapshot.demand[at].request;
        snapshot.demand.iter().position(|class| class.request == *request).unwrap_or(at)
    };
    let mut left = BTreeMap::new();
    for (at, count) in outcome.tasks_left {
        *left.entry(first(at)).or_default() += count;
    }
    outcome.tasks_left = left;
    outcome
}

fn check_plan(snapshot: &Snapshot, memory: &Memory) -> Result<()> {
    let (plan, _) = RayV2.plan(snapshot, memory);
    let violations: Vec<String> = lint(snapshot, &plan).iter().map(ToString::to_string).collect();
    ensure!(violations.is_empty(), "the plan is not clean: {violations:#?}\n{}", question(snapshot, memory));
    Ok(())
}

#[test]
fn decides_as_rays_scheduler_does() -> Result<()> {
    let (count, seed) = (number("MOBULA_DIFF_PROBLEMS", 2_000)?, number("MOBULA_DIFF_SEED", 1)?);
    let mut oracle = Oracle::start()?;
    let mut coverage = Coverage::default();
    let mut bugs: BTreeMap<&str, u64> = BTreeMap::new();
    let mut noticed = ENTRIES.map(|entry| (entry, 0_u64));
    for number in 0..count {
        let (snapshot, memory) = problems::problem(seed, number);
        let expected = match oracle.ask(&snapshot, &memory)? {
            Answer::Error(error) => bail!("Ray raised {error}\n{}", question(&snapshot, &memory)),
            Answer::Plan(answer) => answer,
        };
        if let Some(bug) = bug_of_ray(&snapshot, &expected) {
            *bugs.entry(bug).or_default() += 1;
            continue;
        }
        let expected = Outcome::from(expected);
        let found = by_first_equal(&snapshot, schedule(&snapshot, &memory));
        ensure!(
            found == expected,
            "problem {number} of series {seed}: Ray decides\n{expected:#?}\nwe decide\n{found:#?}\n{}",
            question(&snapshot, &memory)
        );
        check_plan(&snapshot, &memory)?;
        coverage.count(&snapshot, &memory, &found);
        for (entry, differences) in noticed.iter_mut().filter(|(_, differences)| *differences < NOTICED) {
            let without = by_first_equal(&snapshot, schedule_without(Some(*entry), &snapshot, &memory));
            *differences += u64::from(without != expected);
        }
    }
    let version = &oracle.ray_version;
    println!(
        "{count} problems of series {seed}, answered by the scheduler of Ray {version} (real): no difference\n{coverage}"
    );
    println!("bugs of Ray, left out: {bugs:#?}");
    println!("problems that noticed when an entry of the score was left out, until {NOTICED} did: {noticed:?}");
    ensure!(coverage.missing().is_empty(), "no problem exercised {:?}", coverage.missing());
    let unnoticed: Vec<_> = noticed.iter().filter(|(_, differences)| *differences == 0).collect();
    ensure!(unnoticed.is_empty(), "nobody would notice if these were wrong: {unnoticed:?}");
    Ok(())
}
