//! One node after the other: which candidate takes the waiting requests best?
//!
//! Ray asks every candidate again after every choice. Here an answer stands until it is touched: what a candidate takes of a
//! class is bounded either by the node, which doesn't change, or by how many are waiting. So its answer is worked out again
//! only once fewer are waiting than it wanted.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};
use std::rc::Rc;

use super::state::{Fill, Ledger, Score, StateId, States};
use super::tables::Run;

/// What makes one group better than another, utilisation aside; larger is better.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Standing {
    /// 0 just after it failed to deliver, 1 once that is forgotten.
    pub recovery: f64,
    /// The user's.
    pub priority: i32,
    /// Lower the more recently it failed, compared with the others that failed.
    pub availability: f64,
}

impl Default for Standing {
    fn default() -> Self {
        Standing { recovery: 1.0, priority: 0, availability: 1.0 }
    }
}

/// Entries of the comparison of candidates, in order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ScoreEntry {
    /// How well the labels match.
    Labels,
    /// Work without GPU stays off GPU nodes.
    GpuConservation,
    /// Number of resource kinds used.
    ResourceKinds,
    /// The least used resource.
    LeastUtilisation,
    /// All resources on average.
    MeanUtilisation,
    /// [`Standing::recovery`].
    Recovery,
    /// [`Standing::priority`].
    Priority,
    /// [`Standing::availability`].
    Availability,
}

/// A candidate's place in the comparison.
#[derive(Copy, Clone, Debug)]
struct Rank {
    score: Score,
    standing: Standing,
    /// Among equals, the first in the list.
    position: Reverse<u32>,
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.score, &other.score);
        (a.labels, a.keeps_gpu_free, a.kinds)
            .cmp(&(b.labels, b.keeps_gpu_free, b.kinds))
            .then_with(|| a.least_utilisation.total_cmp(&b.least_utilisation))
            .then_with(|| a.mean_utilisation.total_cmp(&b.mean_utilisation))
            .then_with(|| self.standing.recovery.total_cmp(&other.standing.recovery))
            .then_with(|| self.standing.priority.cmp(&other.standing.priority))
            .then_with(|| self.standing.availability.total_cmp(&other.standing.availability))
            .then_with(|| self.position.cmp(&other.position))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rank {}

impl Rank {
    fn without(mut self, entry: Option<ScoreEntry>) -> Self {
        match entry {
            None => {}
            Some(ScoreEntry::Labels) => self.score.labels = 0,
            Some(ScoreEntry::GpuConservation) => self.score.keeps_gpu_free = true,
            Some(ScoreEntry::ResourceKinds) => self.score.kinds = 0,
            Some(ScoreEntry::LeastUtilisation) => self.score.least_utilisation = 0.0,
            Some(ScoreEntry::MeanUtilisation) => self.score.mean_utilisation = 0.0,
            Some(ScoreEntry::Recovery) => self.standing.recovery = 0.0,
            Some(ScoreEntry::Priority) => self.standing.priority = 0,
            Some(ScoreEntry::Availability) => self.standing.availability = 0.0,
        }
        self
    }
}

/// One candidate node.
#[derive(Copy, Clone, Debug)]
pub(super) struct Candidate {
    /// Given back when it is chosen.
    pub node: u32,
    pub state: StateId,
    pub standing: Standing,
}

/// A choice.
pub(super) struct Choice {
    pub node: u32,
    pub fill: Rc<Fill>,
}

/// Candidates that look the same to Ray: only the first of them is ever asked.
struct Alike {
    standing: Standing,
    /// In reverse order; the last one stands for all.
    members: Vec<(u32, u32, StateId)>,
    answer: Option<Rc<Fill>>,
    answered_for: Option<StateId>,
    /// Grows with every change, so that older entries in the queues are known to be stale.
    version: u32,
}

/// The candidates of one phase of packing, and the requests that wait.
pub(super) struct Filler<'p, 'a> {
    states: &'p mut States<'a>,
    ledger: Ledger,
    leave_out: Option<ScoreEntry>,
    runs: &'p mut [Run],
    /// All counts together, which may be more than 64 bits hold.
    waiting: u128,
    groups: Vec<Alike>,
    group_of: HashMap<u32, usize>,
    next_position: u32,
    /// Best first.
    ranked: BinaryHeap<(Rank, usize, u32)>,
    /// For each run, the groups that want most of it first.
    wanted: Vec<BinaryHeap<(u64, usize, u32)>>,
}

impl<'p, 'a> Filler<'p, 'a> {
    /// Candidates in order: of equally good ones, the first is chosen.
    pub fn new(
        states: &'p mut States<'a>,
        ledger: Ledger,
        leave_out: Option<ScoreEntry>,
        runs: &'p mut [Run],
        candidates: impl DoubleEndedIterator<Item = Candidate> + ExactSizeIterator,
    ) -> Self {
        let wanted = runs.iter().map(|_| BinaryHeap::new()).collect();
        let next_position = candidates.len() as u32;
        let waiting = runs.iter().map(|run| u128::from(run.count)).sum();
        let (groups, group_of, ranked) = (Vec::new(), HashMap::new(), BinaryHeap::new());
        let mut filler =
            Filler { states, ledger, leave_out, runs, waiting, groups, group_of, next_position, ranked, wanted };
        for (position, candidate) in (0..next_position).zip(candidates).rev() {
            filler.join(position, candidate);
        }
        for group in 0..filler.groups.len() {
            filler.ask(group);
        }
        filler
    }

    /// One more candidate, behind all others. Its kind must have no other member now.
    pub fn push(&mut self, candidate: Candidate) {
        let position = self.next_position;
        self.next_position += 1;
        let group = self.join(position, candidate);
        self.ask(group);
    }

    /// The best candidate that `may` be had, and what it takes; neither it nor those that may not be had are candidates any
    /// more. `None`: no candidate can take anything.
    pub fn choose(&mut self, mut may: impl FnMut(u32) -> bool) -> Option<Choice> {
        loop {
            let (_, group, version) = self.ranked.pop()?;
            let chosen = &mut self.groups[group];
            if chosen.version != version {
                continue;
            }
            let ((_, node, _), fill) = (chosen.members.pop()?, chosen.answer.clone()?);
            if !may(node) {
                self.ask(group);
                continue;
            }
            for &(run, count) in &fill.taken {
                self.runs[run as usize].count -= count;
                self.waiting -= u128::from(count);
            }
            self.ask(group);
            for &(run, _) in &fill.taken {
                self.ask_who_wanted_more(run as usize);
            }
            return Some(Choice { node, fill });
        }
    }

    /// Whether no request waits any more.
    pub fn is_done(&self) -> bool {
        self.waiting == 0
    }

    fn join(&mut self, position: u32, candidate: Candidate) -> usize {
        let visible = self.states.visible(candidate.state, self.ledger);
        let group = *self.group_of.entry(visible).or_insert_with(|| {
            let standing = candidate.standing;
            self.groups.push(Alike { standing, members: Vec::new(), answer: None, answered_for: None, version: 0 });
            self.groups.len() - 1
        });
        self.groups[group].members.push((position, candidate.node, candidate.state));
        group
    }

    /// Brings the answer of a group up to date and queues it.
    fn ask(&mut self, group: usize) {
        let alike = &mut self.groups[group];
        alike.version += 1;
        let version = alike.version;
        let Some(&(position, _, state)) = alike.members.last() else {
            return;
        };
        let runs = &*self.runs;
        let enough = |fill: &Fill| fill.taken.iter().all(|&(run, count)| runs[run as usize].count >= count);
        if alike.answered_for != Some(state) || !alike.answer.as_deref().is_some_and(enough) {
            alike.answer = self.states.fill(state, self.ledger, self.runs).map(Rc::new);
            alike.answered_for = Some(state);
        }
        let Some(fill) = alike.answer.clone() else {
            // Whoever takes nothing now never will: what waits only gets less.
            alike.members.clear();
            return;
        };
        let rank = Rank { score: fill.score, standing: alike.standing, position: Reverse(position) };
        self.ranked.push((rank.without(self.leave_out), group, version));
        for &(run, count) in &fill.taken {
            self.wanted[run as usize].push((count, group, version));
        }
    }

    fn ask_who_wanted_more(&mut self, run: usize) {
        while let Some(&(count, group, version)) = self.wanted[run].peek() {
            if self.groups[group].version == version && count <= self.runs[run].count {
                return;
            }
            self.wanted[run].pop();
            if self.groups[group].version == version {
                self.ask(group);
            }
        }
    }
}
