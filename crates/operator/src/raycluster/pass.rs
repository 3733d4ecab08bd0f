//! One pass over a RayCluster: what is known, what was decided so far.

use std::sync::Arc;

use mobula_api::{FieldError, PodRole};

use super::{
    children::Children,
    classify::{self, Standing, standing},
    observed::Observed,
};
use crate::{
    config::Config,
    frame::{
        backoff,
        decision::{Decision, Notice, Step},
        outcome::{Class, Failure},
        pod::Pod,
    },
};

/// Parts of a RayCluster that failures and back-off are kept for.
pub(super) const HEAD: &str = "head";
pub(super) const ALL_PODS: &str = "pods";

/// How long a worker that has ended well waits to be named by its autoscaler before it is replaced, in ms.
const DRAINED_FOR_MS: i64 = 5_000;

/// The part of a worker group.
pub(super) fn group_part(group: &str) -> String {
    format!("group/{group}")
}

/// One pass.
pub(super) struct Pass<'a> {
    pub(super) observed: &'a Observed<'a>,
    pub(super) config: &'a Config,
    pub(super) children: Children<'a>,
    pub(super) now_ms: i64,
    pub(super) decision: Decision,
    /// Parts that can't be made because of what the spec says.
    pub(super) faults: Vec<(String, FieldError)>,
    /// Something that pods need is missing, and can't be made or waits for its back-off: then no pod is made.
    pub(super) lacks_needed: bool,
    /// Nothing is made in this pass in the place of what goes: what is broken stays as it is, for a part of it may be of use.
    pub(super) replaces_nothing: bool,
    /// The gang that an outside scheduler knows has to grow: then no worker is made that it does not cover.
    pub(super) gang_is_small: Option<Growth>,
}

/// How a gang that is there has to grow.
pub(super) struct Growth {
    /// Pods that it covers now, the head among them.
    pub(super) covers: usize,
    /// What lets it grow; `None`: it waits for its back-off. It is blocking.
    pub(super) step: Option<Step>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(observed: &'a Observed<'a>, config: &'a Config, now_ms: i64) -> Self {
        let children = Children { cluster: observed.cluster, config };
        Pass {
            observed,
            config,
            children,
            now_ms,
            decision: Decision::default(),
            faults: Vec::new(),
            lacks_needed: false,
            replaces_nothing: false,
            gang_is_small: None,
        }
    }

    /// The failure of a part, unless the spec has changed since: then it is worth a try at once.
    pub(super) fn failure(&self, part: &str) -> Option<&'a Failure> {
        let failure = self.observed.memory.failures.get(part)?;
        let is_of_old_spec = matches!(failure.problem.class, Class::Invalid | Class::Refused | Class::Taken)
            && failure.generation != self.observed.cluster.metadata.generation;
        (!is_of_old_spec).then_some(failure)
    }

    /// Whether `part` may be tried now. If it waits for its back-off, that is noted.
    pub(super) fn may_try(&mut self, part: &str) -> bool {
        let Some(at_ms) = self.failure(part).map(|failure| failure.next_try_ms) else { return true };
        if self.now_ms >= at_ms {
            return true;
        }
        self.decision.held.insert(part.to_owned());
        self.decision.wake_at(at_ms);
        false
    }

    /// Whether a pod of the cluster runs that is there to stay: whatever had to be there before the first one was.
    pub(super) fn runs(&self) -> bool {
        let is_there = |pod: &&Arc<Pod>| standing(pod, self.now_ms) == Standing::Active;
        self.observed.pods.iter().filter(is_there).any(|pod| pod.is_running())
    }

    /// Whether `part`, which pods need, may be tried now. If not, they wait, too.
    pub(super) fn may_try_needed(&mut self, part: &str) -> bool {
        let may = self.may_try(part);
        self.lacks_needed |= !may;
        may
    }

    /// Whether `what` broke may be replaced now.
    pub(super) fn may_replace(&mut self, what: &str) -> bool {
        let next_try_ms = self.observed.memory.breakages.get(what).map(|breakage| breakage.next_try_ms);
        next_try_ms.is_none_or(|at_ms| self.is_past(at_ms))
    }

    /// Whether `pod` at `place`, which broke, may be replaced now. How often others broke there is nothing to one that was there
    /// for longer than they have to wait.
    pub(super) fn may_replace_pod(&mut self, place: &str, pod: &Pod) -> bool {
        let Some(breakage) = self.observed.memory.breakages.get(place) else { return true };
        let is_old_at_ms = pod.created_ms.saturating_add(backoff::old_ms(breakage.count));
        self.is_past(breakage.next_try_ms.min(is_old_at_ms))
    }

    /// Whether a pod that broke was there for so long that this says nothing about the one in its place.
    pub(super) fn has_lasted(&self, pod: &Pod) -> bool {
        self.now_ms.saturating_sub(pod.created_ms) > backoff::BREAKAGE_FORGOTTEN_MS
    }

    /// Whether it is `at_ms` already. If not, that is when to look again.
    fn is_past(&mut self, at_ms: i64) -> bool {
        let is_past = self.now_ms >= at_ms;
        if !is_past {
            self.decision.wake_at(at_ms);
        }
        is_past
    }

    /// Decides as `make` does where nothing is replaced, and of its steps keeps only those that it may. What is so is said all the same, and the parts of
    /// the others keep their failures: they are put off, not given up.
    pub(super) fn only(&mut self, may: impl Fn(&Step) -> bool, make: impl FnOnce(&mut Self)) {
        let before = self.decision.batches.len();
        self.replaces_nothing = true;
        make(self);
        for batch in self.decision.batches.split_off(before) {
            let (kept, put_off): (Vec<Step>, Vec<Step>) = batch.into_iter().partition(&may);
            self.decision.held.extend(put_off.into_iter().map(|step| step.part));
            self.decision.then(kept);
        }
    }

    /// What a pod counts as. One that is on its way out is looked at again when it counts as lost. One that has ended well is
    /// not replaced at once where an autoscaler drains: the patch that names it may be on its way.
    pub(super) fn standing(&mut self, pod: &Pod) -> Standing {
        let standing = standing(pod, self.now_ms);
        let is_worker = pod.role == PodRole::Worker;
        let ended_ms = pod.ended_well_ms.filter(|_| is_worker && self.children.is_autoscaled());
        if let (Standing::Failed, Some(ended_ms)) = (standing, ended_ms) {
            let until_ms = self.since_ms(pod, ended_ms).saturating_add(DRAINED_FOR_MS);
            if self.now_ms < until_ms {
                self.decision.wake_at(until_ms);
                return Standing::Active;
            }
        }
        if let (Standing::Leaving, Some(gone_by_ms)) = (standing, pod.deletion_ms) {
            self.decision.wake_at(classify::lost_at_ms(gone_by_ms));
        }
        standing
    }

    /// Since when a pod has ended, by our own clock where its node's is ahead.
    fn since_ms(&mut self, pod: &Pod, ended_ms: i64) -> i64 {
        let seen_ms = self.observed.memory.ended.get(&pod.uid).copied().unwrap_or(self.now_ms);
        self.decision.ended.insert(pod.uid.clone(), seen_ms);
        ended_ms.min(seen_ms)
    }

    /// The head pods with what they count as.
    pub(super) fn heads(&mut self) -> Vec<(Arc<Pod>, Standing)> {
        let heads: Vec<_> = self.observed.pods.iter().filter(|pod| pod.role == PodRole::Head).cloned().collect();
        heads.into_iter().map(|pod| (pod.clone(), self.standing(&pod))).collect()
    }

    /// The worker pods of a group with what they count as.
    pub(super) fn workers(&mut self, group: &str) -> Vec<(Arc<Pod>, Standing)> {
        let is_of_group = |pod: &&Arc<Pod>| pod.role == PodRole::Worker && pod.group == group;
        let workers: Vec<_> = self.observed.pods.iter().filter(is_of_group).cloned().collect();
        workers.into_iter().map(|pod| (pod.clone(), self.standing(&pod))).collect()
    }

    /// Warns of a state: once, when it begins.
    pub(super) fn say_state(&mut self, reason: &'static str, action: &'static str, message: String) {
        self.decision.states.insert(Notice { is_warning: true, reason, action, message });
    }

    /// A part can't be made because of what the spec says: `text` says which, and `reason` is that of the Event.
    pub(super) fn fault(&mut self, part: &str, reason: &'static str, text: &str, error: FieldError) {
        self.say_state(reason, "Create", format!("{text} of RayCluster {}, {error}", self.name()));
        self.faults.push((part.to_owned(), error));
    }

    /// The cluster as events name it.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.observed.cluster.metadata.namespace, self.observed.cluster.metadata.name)
    }
}
