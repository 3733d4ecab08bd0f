//! What came of the steps, and what is remembered of it: failures as data.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use super::{backoff, decision::Notice};

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Done.
    Done,
    /// It was so already.
    AlreadySo,
    /// What was looked up.
    Found(bool),
    /// Not tried, because another step of the same part had failed or the leadership has ended.
    Skipped,
    /// It failed.
    Failed(Problem),
    /// Its answer was not waited for: it may yet be done, or fail.
    Late(Problem),
}

impl Outcome {
    /// Whether what was wanted is so.
    pub fn is_done(&self) -> bool {
        !matches!(self, Outcome::Failed(_) | Outcome::Late(_) | Outcome::Skipped)
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind of failure it is.
    pub class: Class,
    /// The server's words.
    pub message: String,
    /// What the server asks to wait, in ms.
    pub retry_after_ms: Option<i64>,
}

/// Kinds of failure; each has its own pace of retries.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The object has changed since it was read: look again.
    Conflict,
    /// The server asks for patience.
    Throttled,
    /// The server, or the way to it, is down.
    Unavailable,
    /// A quota, a webhook or RBAC does not allow it. That may change without our being told.
    Refused,
    /// An object of the name is there and belongs to somebody else.
    Taken,
    /// The request can't be carried out as it stands: the custom resource must change.
    Invalid,
}

impl Class {
    /// As it stands in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Conflict => "conflict",
            Class::Throttled => "throttled",
            Class::Unavailable => "unavailable",
            Class::Refused => "refused",
            Class::Taken => "taken",
            Class::Invalid => "invalid",
        }
    }
}

/// The failure of a part of a custom resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What failed last.
    pub problem: Problem,
    /// What was tried: the verb.
    pub verb: &'static str,
    /// Failures in a row.
    pub attempts: u32,
    /// Unix time in ms before which it is not tried again.
    pub next_try_ms: i64,
    /// Generation of the custom resource that was tried.
    pub generation: i64,
}

/// How often what serves a part, or one of its places, had to be replaced because it broke.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breakage {
    /// In a row.
    pub count: u32,
    /// Unix time in ms of the last one.
    pub last_ms: i64,
    /// Unix time in ms before which nothing is replaced.
    pub next_try_ms: i64,
}

impl Breakage {
    /// Whether the next one is the first again.
    pub fn is_forgotten(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.last_ms) > backoff::BREAKAGE_FORGOTTEN_MS
    }
}

/// What is remembered about one custom resource between reconciles. All of it can be lost without harm: retries begin
/// anew, events are said again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Unique id of the custom resource: what another one of its name did is nothing to it.
    pub uid: String,
    /// Parts that failed.
    pub failures: BTreeMap<String, Failure>,
    /// Parts, or less than those, whose pods break.
    pub breakages: BTreeMap<String, Breakage>,
    /// Pods that have ended, by unique id: when that was first seen (Unix ms, by our clock).
    pub ended: BTreeMap<String, i64>,
    /// Objects that were looked up, by kind and name: whether they exist, and since when that is known (Unix ms).
    pub look_ups: BTreeMap<(&'static str, String), (bool, i64)>,
    /// Unix time in ms of the last status that was written.
    pub status_written_ms: Option<i64>,
    /// The server drops what Mobula adds to the status: its definition of the kind is KubeRay's.
    pub status_is_pruned: bool,
    /// States that were said and have not ended since.
    pub said: BTreeSet<Notice>,
    /// Unix time in ms at which this process first acted on it.
    pub since_ms: Option<i64>,
}

impl Memory {
    /// What is remembered of the custom resource `uid`: nothing, if it is of another one.
    pub fn of(&self, uid: &str) -> Cow<'_, Memory> {
        if self.uid == uid {
            Cow::Borrowed(self)
        } else {
            Cow::Owned(Memory { uid: uid.to_owned(), ..Memory::default() })
        }
    }

    /// Takes in the failure of a step for `part`.
    pub fn failed(&mut self, part: &str, verb: &'static str, problem: Problem, generation: i64, now_ms: i64) {
        let attempts = self.failures.get(part).map_or(0, |failure| failure.attempts).saturating_add(1);
        let delay_ms = backoff::delay_ms(problem.class, attempts, part).max(problem.retry_after_ms.unwrap_or(0));
        let next_try_ms = now_ms.saturating_add(delay_ms);
        self.failures.insert(part.to_owned(), Failure { problem, verb, attempts, next_try_ms, generation });
    }

    /// Takes in that something of `what`, a part or one of its places, broke and is replaced.
    pub fn broke(&mut self, what: &str, now_ms: i64) {
        let breakage = self.breakages.entry(what.to_owned()).or_default();
        if breakage.is_forgotten(now_ms) {
            *breakage = Breakage::default();
        }
        // Several at once count once, also of the first, for which nobody waits: a node that fails takes many pods with it. What
        // was replaced before its time, because it was old, makes nobody wait longer.
        let is_of_one_batch = breakage.count > 0 && now_ms == breakage.last_ms;
        if !is_of_one_batch && now_ms >= breakage.next_try_ms {
            breakage.count = breakage.count.saturating_add(1);
            breakage.next_try_ms = now_ms.saturating_add(backoff::breakage_delay_ms(breakage.count));
        }
        breakage.last_ms = now_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_before_its_time_makes_nobody_wait_longer() {
        let mut memory = Memory::default();
        let mut broke = |now_ms| {
            memory.broke("group/w", now_ms);
            let breakage = &memory.breakages["group/w"];
            (breakage.count, breakage.next_try_ms)
        };
        assert_eq!([broke(1_000), broke(2_000)], [(1, 1_000), (2, 12_000)]);
        assert_eq!([broke(5_000), broke(11_999)], [(2, 12_000); 2], "old ones");
        assert_eq!([broke(12_000), broke(12_000)], [(3, 32_000); 2], "two at once");
        assert_eq!([broke(700_000), broke(700_000)], [(1, 700_000); 2], "long after, and two at once");
    }
}
