//! Policies in the same worlds: differences seed by seed, with intervals.

use serde::Serialize;

use crate::summary::Summary;

/// One policy against the first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The policy.
    pub policy: String,
    /// The first one.
    pub against: String,
    /// How many seeds both have.
    pub seeds: usize,
    /// What differs.
    pub measures: Vec<Measure>,
}

/// One number of the summaries, over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measure {
    /// Name.
    pub name: &'static str,
    /// Mean with the first policy.
    pub before: f64,
    /// Mean with the other.
    pub after: f64,
    /// Mean of the differences.
    pub difference: f64,
    /// Half of the 95 % interval of the mean difference; none for one seed.
    pub half_width: Option<f64>,
}

impl Measure {
    /// Whether the interval does not hold 0.
    pub fn is_clear(&self) -> bool {
        self.half_width.is_some_and(|half| self.difference.abs() > half)
    }
}

/// A number of one policy over all its seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Name.
    pub name: &'static str,
    /// Mean over the seeds.
    pub mean: f64,
    /// Half of the 95 % interval of the mean.
    pub half_width: f64,
}

type Number = (&'static str, fn(&Summary) -> f64);

const NUMBERS: [Number; 13] = [
    ("task wait mean s", |s| s.task_wait.mean_s),
    ("task wait p99 s", |s| s.task_wait.p99_s),
    ("gang wait mean s", |s| s.gang_wait.mean_s),
    ("gang wait p99 s", |s| s.gang_wait.p99_s),
    ("unmet", |s| (s.tasks[2] + s.gangs[2]) as f64),
    ("node-hours", |s| s.node_hours),
    ("GPU-h bought", |s| s.gpu_hours_bought),
    ("GPU-h used", |s| s.gpu_hours_used),
    ("GPU-h stranded", |s| s.gpu_hours_stranded),
    ("cost", |s| s.cost),
    ("pods made", |s| s.pods_made as f64),
    ("work lost", |s| s.disruptions as f64),
    ("patches", |s| s.patches as f64),
];

/// The numbers of each policy that ran with two seeds or more, with their intervals.
pub fn estimates(summaries: &[Summary]) -> Vec<(String, usize, Vec<Estimate>)> {
    let estimate = |policy: &str| {
        let of: Vec<&Summary> = summaries.iter().filter(|summary| summary.policy == policy).collect();
        let numbers = NUMBERS.iter().filter_map(|(name, number)| {
            let values: Vec<f64> = of.iter().map(|summary| number(summary)).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            Some(Estimate { name, mean, half_width: half_width(&values)? })
        });
        (policy.to_owned(), of.len(), numbers.collect())
    };
    let all = policies(summaries).into_iter().map(estimate);
    all.filter(|(_, seeds, _)| *seeds > 1).collect()
}

/// The policies in the order in which they come.
fn policies(summaries: &[Summary]) -> Vec<&str> {
    let mut policies: Vec<&str> = Vec::new();
    for summary in summaries {
        if !policies.contains(&summary.policy.as_str()) {
            policies.push(&summary.policy);
        }
    }
    policies
}

/// Each policy against the first one that there is a summary of.
pub fn compare(summaries: &[Summary]) -> Vec<Comparison> {
    let policies = policies(summaries);
    let Some((first, others)) = policies.split_first() else { return Vec::new() };
    others.iter().map(|policy| against(summaries, first, policy)).collect()
}

fn against(summaries: &[Summary], first: &str, policy: &str) -> Comparison {
    let of = |name: &str, seed: u64| summaries.iter().find(|s| s.policy == name && s.seed == seed);
    let firsts = summaries.iter().filter(|summary| summary.policy == first);
    let pairs: Vec<(&Summary, &Summary)> = firsts.filter_map(|one| Some((one, of(policy, one.seed)?))).collect();
    let measure = |(name, number): &Number| {
        let differences: Vec<f64> = pairs.iter().map(|(one, other)| number(other) - number(one)).collect();
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / pairs.len().max(1) as f64;
        Measure {
            name,
            before: mean(&mut pairs.iter().map(|(one, _)| number(one))),
            after: mean(&mut pairs.iter().map(|(_, other)| number(other))),
            difference: mean(&mut differences.iter().copied()),
            half_width: half_width(&differences),
        }
    };
    Comparison {
        policy: policy.to_owned(),
        against: first.to_owned(),
        seeds: pairs.len(),
        measures: NUMBERS.iter().map(measure).collect(),
    }
}

/// Half of the 95 % interval of the mean, by Student's t.
fn half_width(values: &[f64]) -> Option<f64> {
    let count = values.len();
    if count < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / count as f64;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
    Some(student_t_975(count - 1) * (variance / count as f64).sqrt())
}

/// The 97.5 % point of Student's distribution: a table up to 30, then Cornish and Fisher's expansion.
fn student_t_975(degrees: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    const NORMAL: f64 = 1.959_963_985;
    let of_normal = || NORMAL + (NORMAL.powi(3) + NORMAL) / (4.0 * degrees as f64);
    TABLE.get(degrees.wrapping_sub(1)).copied().unwrap_or_else(of_normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_students() {
        let half = half_width(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert!((half - 1.963).abs() < 1e-3, "{half}");
        assert_eq!(half_width(&[1.0]), None);
        assert!((student_t_975(60) - 2.000).abs() < 2e-3);
    }
}
