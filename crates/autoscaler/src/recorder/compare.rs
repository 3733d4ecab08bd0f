//! A recording, planned again: what comes out the same, and what does not.

use std::{collections::BTreeMap, fmt::Write as _};

use mobula_api::FieldError;
use mobula_planner::{Memory, Plan, Policy};
use serde::Serialize;

use super::Frame;

/// One thing that the recorded plan and the new one do in different ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What it is about: `replicas of cpu`, `launch of cpu`, `end of <pod>`, `resize of <pod>`, `unmet requests`, `reasons`,
    /// `memory`.
    pub subject: String,
    /// In the recording.
    pub recorded: String,
    /// Now.
    pub replayed: String,
}

/// All differences of one tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TickDifferences {
    /// Number of the tick.
    pub tick: u64,
    /// Unix time of the tick in ms.
    pub at_ms: i64,
    /// What differs; not empty.
    pub differences: Vec<Difference>,
}

/// Wanted replicas of a group from a time on.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Unix time in ms.
    pub at_ms: i64,
    /// In the recording; `None`: the plan has no such group.
    pub recorded: Option<u32>,
    /// Now.
    pub replayed: Option<u32>,
}

/// What came of planning a recording again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The policy that planned now; `None`: each tick's own.
    pub policy: Option<String>,
    /// Ticks that were planned again.
    pub ticks: usize,
    /// Ticks that came out the same.
    pub same: usize,
    /// Parts of the recording that can't be read, and why.
    pub unreadable: Vec<String>,
    /// Ticks that came out otherwise.
    pub different: Vec<TickDifferences>,
    /// Group → wanted replicas over time: one entry wherever either changes.
    pub replicas: BTreeMap<String, Vec<Step>>,
}

impl Comparison {
    /// Plans a tick again by its own policy and from its own memory. Plan and memory must come out to the last byte.
    ///
    /// # Errors
    /// If the tick can't be planned again, for people.
    pub fn verify(&mut self, frame: &Frame) -> Result<(), String> {
        let policy = mobula_planner::policy(&frame.policy, &frame.policy_options).ok_or_else(|| {
            format!("tick {}: recorded with policy {:?}, which this version has not", frame.tick, frame.policy)
        })?;
        let again = frame.replay(policy.as_ref(), &frame.memory).map_err(|error| cant_plan(frame, &error))?;
        let mut differences = decisions(&frame.plan, &again.plan);
        if differences.is_empty() && json(&frame.plan) != json(&again.plan) {
            differences.push(difference("reasons", &"as recorded", &"others, or in another order"));
        }
        if json(&frame.memory_after) != json(&again.memory) {
            differences.push(difference("memory", &json(&frame.memory_after), &json(&again.memory)));
        }
        self.add(frame, &again.plan, differences);
        Ok(())
    }

    /// Plans a tick by another policy, which remembers `memory`; returns what it remembers afterwards. What the cluster would
    /// have done in answer is not known: the next tick still shows what the recorded plans led to.
    ///
    /// # Errors
    /// As [`Comparison::verify`].
    pub fn compare(&mut self, frame: &Frame, policy: &dyn Policy, memory: &Memory) -> Result<Memory, String> {
        self.policy = Some(policy.name().to_owned());
        let again = frame.replay(policy, memory).map_err(|error| cant_plan(frame, &error))?;
        self.add(frame, &again.plan, decisions(&frame.plan, &again.plan));
        Ok(again.memory)
    }

    fn add(&mut self, frame: &Frame, replayed: &Plan, differences: Vec<Difference>) {
        let at_ms = frame.observation.now_ms;
        self.ticks += 1;
        for (group, (recorded, replayed)) in by_group(&frame.plan, replayed) {
            let steps = self.replicas.entry(group.to_owned()).or_default();
            if steps.last().is_none_or(|last| (last.recorded, last.replayed) != (recorded, replayed)) {
                steps.push(Step { at_ms, recorded, replayed });
            }
        }
        if differences.is_empty() {
            self.same += 1;
        } else {
            self.different.push(TickDifferences { tick: frame.tick, at_ms, differences });
        }
    }

    /// For people.
    pub fn to_table(&self) -> String {
        let mut text = String::new();
        for tick in &self.different {
            let _ = writeln!(text, "tick {} at {} ms:", tick.tick, tick.at_ms);
            for Difference { subject, recorded, replayed } in &tick.differences {
                let _ = writeln!(text, "  {subject}: {recorded} in the recording, {replayed} now");
            }
        }
        if self.policy.is_some() && !self.replicas.is_empty() {
            text.push_str("wanted replicas over time (in the recording / now):\n");
            for (group, steps) in &self.replicas {
                let shown: Vec<String> = steps
                    .iter()
                    .map(|step| format!("{}: {}/{}", step.at_ms, count(step.recorded), count(step.replayed)))
                    .collect();
                let _ = writeln!(text, "  {group}: {}", shown.join(", "));
            }
        }
        let Comparison { ticks, same, .. } = self;
        let _ = match &self.policy {
            None if ticks == same => write!(text, "{ticks} ticks: all planned again bit for bit"),
            None => write!(text, "{ticks} ticks: {same} planned again bit for bit, {} otherwise", ticks - same),
            Some(policy) => {
                write!(text, "{ticks} ticks: {policy} decides {same} as recorded, {} otherwise", ticks - same)
            }
        };
        if !self.unreadable.is_empty() {
            let _ = write!(text, "; {} parts can't be read", self.unreadable.len());
        }
        text.push('\n');
        text
    }
}

fn cant_plan(frame: &Frame, error: &FieldError) -> String {
    format!("tick {}: the RayCluster can't be read any more: {error}", frame.tick)
}

/// Plans and memories are numbers, texts and lists: there is always a JSON form.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn count(replicas: Option<u32>) -> String {
    replicas.map_or_else(|| "none".to_owned(), |replicas| replicas.to_string())
}

fn difference(subject: impl Into<String>, recorded: &dyn ToString, replayed: &dyn ToString) -> Difference {
    Difference { subject: subject.into(), recorded: recorded.to_string(), replayed: replayed.to_string() }
}

type Pair<T> = (T, T);

fn by_group<'a>(recorded: &'a Plan, replayed: &'a Plan) -> BTreeMap<&'a str, Pair<Option<u32>>> {
    let mut pairs: BTreeMap<&str, Pair<Option<u32>>> = BTreeMap::new();
    for (name, group) in &recorded.groups {
        pairs.entry(name).or_default().0 = Some(group.desired);
    }
    for (name, group) in &replayed.groups {
        pairs.entry(name).or_default().1 = Some(group.desired);
    }
    pairs
}

/// What the two plans would do in different ways; texts do not count.
fn decisions(recorded: &Plan, replayed: &Plan) -> Vec<Difference> {
    let mut found = Vec::new();
    for (group, (was, is)) in by_group(recorded, replayed) {
        if was != is {
            found.push(difference(format!("replicas of {group}"), &count(was), &count(is)));
        }
    }
    let launches = |plan: &Plan| -> BTreeMap<String, u32> {
        plan.launch.iter().map(|launch| (launch.group.clone(), launch.replicas)).collect()
    };
    changed(&mut found, "launch of", &launches(recorded), &launches(replayed), "none");
    let ends = |plan: &Plan| -> BTreeMap<String, String> {
        plan.terminate.iter().map(|end| (end.instance_id.clone(), format!("{:?}", end.cause))).collect()
    };
    changed(&mut found, "end of", &ends(recorded), &ends(replayed), "stays");
    let resizes = |plan: &Plan| -> BTreeMap<String, String> {
        let size =
            |resize: &mobula_planner::Resize| format!("{} CPU, {} bytes", resize.cpu.as_f64(), resize.memory.as_f64());
        plan.resize.iter().map(|resize| (resize.instance_id.clone(), size(resize))).collect()
    };
    changed(&mut found, "resize of", &resizes(recorded), &resizes(replayed), "stays");
    let unmet = |plan: &Plan| plan.unmet.iter().fold(0u64, |sum, unmet| sum.saturating_add(unmet.count));
    if unmet(recorded) != unmet(replayed) {
        found.push(difference("unmet requests", &unmet(recorded), &unmet(replayed)));
    }
    found
}

fn changed<T: PartialEq + ToString>(
    found: &mut Vec<Difference>,
    subject: &str,
    recorded: &BTreeMap<String, T>,
    replayed: &BTreeMap<String, T>,
    absent: &str,
) {
    let names = recorded.keys().chain(replayed.keys().filter(|name| !recorded.contains_key(*name)));
    for name in names {
        let (was, is) = (recorded.get(name), replayed.get(name));
        if was != is {
            let text = |value: Option<&T>| value.map_or_else(|| absent.to_owned(), ToString::to_string);
            found.push(difference(format!("{subject} {name}"), &text(was), &text(is)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::tests::tick;

    const REPLY: &[u8] = include_bytes!("../../../gcs/testdata/captures/pending_tasks_shapes.pb");

    fn frame() -> Frame {
        tick(7, REPLY, &Memory::default())
    }

    /// Decides as `ray-v2` but for one replica more of each group.
    struct Generous;

    impl Policy for Generous {
        fn name(&self) -> &'static str {
            "generous"
        }

        fn plan(&self, snapshot: &mobula_planner::Snapshot, memory: &Memory) -> (Plan, Memory) {
            let (mut plan, memory) = mobula_planner::RayV2.plan(snapshot, memory);
            plan.groups.values_mut().for_each(|group| group.desired += 1);
            (plan, memory)
        }
    }

    #[test]
    fn what_was_recorded_by_this_version_is_planned_again_bit_for_bit() {
        let mut comparison = Comparison::default();
        comparison.verify(&frame()).unwrap();
        assert_eq!((comparison.ticks, comparison.same), (1, 1), "{}", comparison.to_table());
        assert_eq!(comparison.to_table(), "1 ticks: all planned again bit for bit\n");
    }

    #[test]
    fn a_changed_reason_or_memory_is_a_difference() {
        let mut reason = frame();
        reason.plan.explain.reverse();
        reason.plan.explain.pop();
        let mut memory = frame();
        memory.memory_after.allocation_failed_ms = [("g".to_owned(), 1)].into();
        let mut comparison = Comparison::default();
        comparison.verify(&reason).unwrap();
        comparison.verify(&memory).unwrap();
        let subjects: Vec<&str> =
            comparison.different.iter().flat_map(|tick| &tick.differences).map(|d| d.subject.as_str()).collect();
        assert_eq!(subjects, ["reasons", "memory"]);
    }

    #[test]
    fn another_policy_is_compared_by_what_it_decides() {
        let mut comparison = Comparison::default();
        comparison.compare(&frame(), &Generous, &Memory::default()).unwrap();
        let desired = frame().plan.groups["cpu-group"].desired;
        assert_eq!(
            comparison.different[0].differences[0],
            difference("replicas of cpu-group", &desired, &(desired + 1))
        );
        let step = Step { at_ms: 7, recorded: Some(desired), replayed: Some(desired + 1) };
        assert_eq!(comparison.replicas["cpu-group"], [step]);
        assert!(
            comparison.to_table().contains("generous decides 0 as recorded, 1 otherwise"),
            "{}",
            comparison.to_table()
        );
    }

    #[test]
    fn a_policy_that_is_gone_is_an_error() {
        let gone = Frame { policy: "old".into(), ..frame() };
        let error = Comparison::default().verify(&gone).unwrap_err();
        assert_eq!(error, "tick 0: recorded with policy \"old\", which this version has not");
    }
}
