//! Pods that do not come: how long that is borne, and which groups are left alone for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::roster::{Row, is_any_coming};
use crate::{Memory, Node, NodePhase, PendingCause, Snapshot, words};

/// First back-off of a group after a refusal, which may be over soon.
const REFUSED_BACKOFF_MS: i64 = 60_000;
/// First back-off of a group whose pods did not come up.
const BACKOFF_MS: i64 = 300_000;
/// For how long late pods that nothing can stand in for are waited for before that is asked again.
const BEAR_MS: i64 = 30_000;
/// Longest back-off.
const MOST_BACKOFF_MS: i64 = 3_600_000;

/// Pods of one group that have been pending for too long.
#[derive(Clone, Debug)]
pub(super) struct Late {
    /// Indices into the snapshot's nodes, whole replicas.
    pub nodes: Vec<usize>,
    /// What they wait for; `None`: nobody knows.
    pub cause: Option<PendingCause>,
    /// Why, for people.
    pub text: String,
}

impl Late {
    /// Its pods, in replicas.
    pub fn units(&self, snapshot: &Snapshot) -> Vec<Vec<usize>> {
        let mut units: BTreeMap<(Option<&str>, usize), Vec<usize>> = BTreeMap::new();
        for &at in &self.nodes {
            let replica = snapshot.nodes[at].replica.as_deref();
            let number = if replica.is_some() { 0 } else { at };
            units.entry((replica, number)).or_default().push(at);
        }
        units.into_values().collect()
    }
}

/// Finds what has been pending for too long, by group. Remembers since when pods are asked for that are not there.
pub(super) fn find<'a>(
    snapshot: &'a Snapshot,
    roster: &[Row],
    out: &[bool],
    memory: &mut Memory,
) -> BTreeMap<&'a str, Late> {
    if !is_any_coming(roster) {
        memory.requested_since_ms.clear();
        return BTreeMap::new();
    }
    note_requested(snapshot, roster, memory);
    let is_suspended = |row: &Row| snapshot.node_types.get(row.group()).is_some_and(|group| group.suspended);
    let mut late: BTreeMap<&str, Late> = BTreeMap::new();
    let mut replicas: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (at, row) in roster.iter().enumerate().filter(|(_, row)| row.is_pod() && row.is_coming()) {
        if out.get(at).copied().unwrap_or(false) || is_suspended(row) {
            continue;
        }
        let node = &snapshot.nodes[at];
        let Some((waited_ms, patience_ms)) = lateness(snapshot, node, memory) else { continue };
        let cause = node.pending_cause;
        let (waited, patience) = (words::seconds(waited_ms), words::seconds(patience_ms));
        let text = format!("it has been {} for {waited}, longer than the {patience} that is borne", cause_text(cause));
        late.entry(&node.group).or_insert(Late { nodes: Vec::new(), cause, text }).nodes.push(at);
        replicas.extend(node.replica.as_deref().map(|replica| (&*node.group, replica)));
    }
    whole_replicas(snapshot, &replicas, &mut late);
    late
}

/// For how long a pod on its way has been waited for, and for how long that is borne, in ms; `None`: it is not late.
fn lateness(snapshot: &Snapshot, node: &Node, memory: &Memory) -> Option<(i64, i64)> {
    let since_ms = match node.phase {
        NodePhase::Requested => memory.requested_since_ms.get(&*node.group).copied(),
        _ => node.pending_since_ms,
    };
    let patience_ms = match node.pending_cause {
        Some(cause) => snapshot.settings.patience.for_cause_ms(cause),
        None => snapshot.settings.most_pending_ms(),
    };
    let (patience_ms, waited_ms) = (patience_ms?, snapshot.now_ms.saturating_sub(since_ms?));
    (waited_ms > patience_ms).then_some((waited_ms, patience_ms))
}

/// How many pods of each group are late, those left aside that are `ending`: they may never come.
pub(super) fn late_pods(
    snapshot: &Snapshot,
    roster: &[Row],
    is_ending: impl Fn(usize) -> bool,
    memory: &Memory,
) -> Vec<u64> {
    let mut late = vec![0; snapshot.node_types.len()];
    for (at, row) in roster.iter().enumerate().filter(|(_, row)| row.is_pod() && row.is_coming()) {
        if let Some(late) = late.get_mut(row.group())
            && !is_ending(at)
            && lateness(snapshot, &snapshot.nodes[at], memory).is_some()
        {
            *late += 1;
        }
    }
    late
}

/// The other pods of a replica go with one that does not come, unless Ray runs in some of them.
fn whole_replicas(snapshot: &Snapshot, replicas: &BTreeSet<(&str, &str)>, late: &mut BTreeMap<&str, Late>) {
    let mut members: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (at, node) in snapshot.nodes.iter().enumerate() {
        if let Some(replica) = node.replica.as_deref()
            && replicas.contains(&(&*node.group, replica))
        {
            members.entry((&node.group, replica)).or_default().push(at);
        }
    }
    for ((group, _), pods) in members {
        let Some(late) = late.get_mut(group) else { continue };
        late.nodes.retain(|at| !pods.contains(at));
        let is_coming = |at: &usize| matches!(snapshot.nodes[*at].phase, NodePhase::Pending | NodePhase::Requested);
        if pods.iter().all(is_coming) {
            late.nodes.extend(pods);
        }
    }
    late.retain(|_, late| !late.nodes.is_empty());
}

/// Since when each group has been asked for pods that are not there: since it was asked for the first of them.
fn note_requested(snapshot: &Snapshot, roster: &[Row], memory: &mut Memory) {
    let requested = roster.iter().enumerate().filter(|(_, row)| row.phase == NodePhase::Requested);
    let requested: BTreeSet<&str> = requested.map(|(at, _)| &*snapshot.nodes[at].group).collect();
    memory.requested_since_ms.retain(|group, _| requested.contains(group.as_str()));
    for group in requested {
        memory.requested_since_ms.entry(group.to_owned()).or_insert(snapshot.now_ms);
    }
}

/// Leaves a group alone for a while: each time in a row for twice as long. As long as it is left alone, nothing new of it can have
/// failed, however often its late pods are seen: only what they wait for is noted.
pub(super) fn block(memory: &mut Memory, group: &str, cause: Option<PendingCause>, now_ms: i64) {
    let blocked = memory.blocked.entry(group.to_owned()).or_default();
    blocked.cause = cause;
    if blocked.until_ms > now_ms {
        return;
    }
    let first_ms = if cause == Some(PendingCause::QuotaRefused) { REFUSED_BACKOFF_MS } else { BACKOFF_MS };
    blocked.until_ms = now_ms.saturating_add(backoff_ms(first_ms, blocked.times));
    (blocked.times, blocked.running) = (blocked.times.saturating_add(1), None);
}

/// How long the back-off is after so many others.
fn backoff_ms(first_ms: i64, times: u32) -> i64 {
    first_ms.saturating_mul(1 << times.min(10)).min(MOST_BACKOFF_MS)
}

/// Whether late pods of a group are waited for without asking anew who could stand in.
pub(super) fn is_borne(memory: &Memory, group: &str, now_ms: i64) -> bool {
    memory.borne_until_ms.get(group).is_some_and(|until_ms| *until_ms > now_ms)
}

/// Waits for late pods of a group, because nothing can stand in for them: it costs several plans to find that out. Where more
/// of the group is launched, these get their time as well, and do not stand in for the ones that are late.
pub(super) fn bear(memory: &mut Memory, group: &str, launches: bool, now_ms: i64) {
    let bear_ms = if launches { BACKOFF_MS } else { BEAR_MS };
    memory.borne_until_ms.insert(group.to_owned(), now_ms.saturating_add(bear_ms));
}

/// Forgets what is long past, and groups that are gone: a group that was given another chance and took it starts anew.
pub(super) fn forget(snapshot: &Snapshot, roster: &[Row], memory: &mut Memory) {
    let numbers: BTreeMap<&str, usize> =
        (0..).zip(&snapshot.node_types).map(|(at, group)| (&*group.name, at)).collect();
    let past_ms = snapshot.now_ms.saturating_sub(MOST_BACKOFF_MS);
    let mut running = vec![0_u64; if memory.blocked.is_empty() { 0 } else { numbers.len() }];
    for row in roster.iter().filter(|row| row.is_pod() && row.phase == NodePhase::Running) {
        running.get_mut(row.group()).into_iter().for_each(|running| *running += 1);
    }
    memory.blocked.retain(|group, blocked| {
        let Some(number) = numbers.get(group.as_str()) else { return false };
        let (running, is_left_alone) = (running[*number], blocked.until_ms > snapshot.now_ms);
        // What comes up while a group is left alone was launched before.
        let before = blocked.running.filter(|_| !is_left_alone).unwrap_or(running);
        let has_delivered = running > before;
        blocked.running = Some(running.min(before));
        !has_delivered && blocked.until_ms > past_ms
    });
    memory.requested_since_ms.retain(|group, _| numbers.contains_key(group.as_str()));
    let now_ms = snapshot.now_ms;
    memory.borne_until_ms.retain(|group, until_ms| numbers.contains_key(group.as_str()) && *until_ms >= now_ms);
}

/// Corrects what was remembered by a clock that was set back since: nothing has happened later than now, and nothing is waited
/// for any longer than if it began now.
pub(super) fn correct_times(memory: &mut Memory, now_ms: i64) {
    let unneeded = memory.pending_unneeded_since_ms.values_mut().flatten();
    unneeded.chain(memory.requested_since_ms.values_mut()).for_each(|since_ms| *since_ms = now_ms.min(*since_ms));
    for blocked in memory.blocked.values_mut() {
        let most_ms = backoff_ms(BACKOFF_MS, blocked.times.saturating_sub(1));
        blocked.until_ms = blocked.until_ms.min(now_ms.saturating_add(most_ms));
    }
    for until_ms in memory.borne_until_ms.values_mut() {
        *until_ms = now_ms.saturating_add(BACKOFF_MS).min(*until_ms);
    }
}

/// That a group is left alone, and why, after "is".
pub(super) fn left_alone_text(until_ms: i64, cause: Option<PendingCause>, now_ms: i64) -> String {
    let wait = words::seconds(until_ms.saturating_sub(now_ms));
    format!("left alone for another {wait}, because pods of it were {} for too long", cause_text(cause))
}

/// What a pod waits for, after "it has been".
pub(super) fn cause_text(cause: Option<PendingCause>) -> &'static str {
    match cause {
        None => "pending",
        Some(PendingCause::QuotaRefused) => "refused by a quota or by admission",
        Some(PendingCause::Gated) => "held by scheduling gates",
        Some(PendingCause::Unschedulable) => "unschedulable",
        Some(PendingCause::Provisioning) => "waiting for a Kubernetes node",
        Some(PendingCause::Pulling) => "pulling images",
        Some(PendingCause::Registering) => "starting Ray",
    }
}
