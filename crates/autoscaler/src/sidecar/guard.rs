//! Whether what the GCS says is the whole picture. While it is not, nothing is deleted.
//!
//! After the head or its GCS has restarted, nodes come back one by one; a node that has not yet done so looks like a pod
//! without Ray, its tasks like no demand at all. So after every break the pods that were registered before it must register
//! again; until they have, or a grace time has passed, the picture counts as incomplete. The start of this process is a
//! break, too, because it shares its pod with the head: then every pod whose Ray container runs must register. A GCS that
//! shows no living head is just coming up, or loses what it knows: it counts as one that gives no answer.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use mobula_api::{PodView, keys};
use mobula_gcs::{ClusterState, NodeState};
use tokio::time::Instant;

/// Why nothing is deleted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Since a restart or an interruption of the GCS some running pods have not registered yet.
    Unregistered {
        /// What began it.
        after: Break,
        /// How many pods are missing.
        missing: usize,
    },
    /// The GCS shows no head that lives.
    NoHead,
}

/// Resource that only the head has.
const HEAD_RESOURCE: &str = "node:__internal_head__";

/// What makes the picture incomplete.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Break {
    /// This process started.
    Start,
    /// Another head, or another life of it, answers.
    HeadRestart,
    /// The GCS did not answer, or not sensibly.
    Interruption,
}

impl Break {
    /// Name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Break::Start => "start",
            Break::HeadRestart => "head_restart",
            Break::Interruption => "interruption",
        }
    }
}

impl Hold {
    /// Name in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Hold::Unregistered { after, .. } => after.as_str(),
            Hold::NoHead => "no_head",
        }
    }
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Hold::Unregistered { after, missing } = self else {
            return f.write_str("the GCS shows no head that lives: nothing is deleted until it does");
        };
        let after = match after {
            Break::Start => "the start of the autoscaler",
            Break::HeadRestart => "a restart of the head",
            Break::Interruption => "an interruption of the GCS",
        };
        write!(
            f,
            "{missing} running pods have not registered with Ray since {after}: nothing is deleted until they have"
        )
    }
}

/// Watches over the completeness of the GCS's picture.
#[derive(Debug)]
pub struct ViewGuard {
    grace: Duration,
    session_name: Option<String>,
    /// Nodes that were registered by the last good reply while nothing was broken.
    registered: Vec<Arc<NodeState>>,
    broken: Option<Broken>,
}

#[derive(Debug)]
struct Broken {
    by: Break,
    since: Instant,
    /// Pods that must register; at the start it takes the first list of pods to know them.
    expected: Option<BTreeSet<String>>,
}

impl ViewGuard {
    /// Incomplete at first. `grace`: how long pods are waited for after a break.
    pub fn new(grace: Duration) -> Self {
        let start = Broken { by: Break::Start, since: Instant::now(), expected: None };
        ViewGuard { grace, session_name: None, registered: Vec::new(), broken: Some(start) }
    }

    /// The GCS gave no usable answer. `head_restarted`: because another GCS answers now.
    pub fn failed(&mut self, head_restarted: bool) {
        match &mut self.broken {
            // The picture was not yet whole again: whoever was expected still is, and the time counts anew.
            Some(broken) => {
                broken.since = Instant::now();
                if head_restarted && broken.by != Break::Start {
                    broken.by = Break::HeadRestart;
                }
            }
            None if head_restarted => self.break_now(Break::HeadRestart),
            None => self.break_now(Break::Interruption),
        }
    }

    fn break_now(&mut self, by: Break) {
        let registered = std::mem::take(&mut self.registered);
        let expected = Some(pods_of(&registered).map(str::to_owned).collect());
        self.broken = Some(Broken { by, since: Instant::now(), expected });
    }

    /// A good reply. Returns why nothing may be deleted, if so.
    pub fn check(&mut self, state: &ClusterState, pods: &[PodView]) -> Option<Hold> {
        let is_new_session = self.session_name.as_ref().is_some_and(|known| *known != state.session_name);
        if is_new_session && self.broken.is_none() {
            self.break_now(Break::HeadRestart);
        }
        if self.session_name.as_ref() != Some(&state.session_name) {
            self.session_name = Some(state.session_name.clone());
        }
        if !shows_head(state) {
            self.failed(false);
            return Some(Hold::NoHead);
        }
        let living = state.nodes.living();
        if let Some(broken) = &mut self.broken {
            let existing: BTreeSet<&str> = running_workers(pods).collect();
            let registered: BTreeSet<&str> = pods_of(living).collect();
            let own = || existing.iter().map(|pod| (*pod).to_owned()).collect();
            let expected: &mut BTreeSet<String> = broken.expected.get_or_insert_with(own);
            expected.retain(|pod| existing.contains(pod.as_str()) && !registered.contains(pod.as_str()));
            if !expected.is_empty() && broken.since.elapsed() < self.grace {
                return Some(Hold::Unregistered { after: broken.by, missing: expected.len() });
            }
            self.broken = None;
        }
        living.clone_into(&mut self.registered);
        None
    }
}

/// Worker pods whose Ray container runs and which are to stay.
fn running_workers(pods: &[PodView]) -> impl Iterator<Item = &str> {
    pods.iter()
        .filter(|pod| pod.role == mobula_api::PodRole::Worker && !pod.terminating && pod.ray_container.running)
        .map(|pod| pod.name.as_str())
}

fn shows_head(state: &ClusterState) -> bool {
    let is_head = |node: &NodeState| node.total.contains_key(HEAD_RESOURCE) || node.node_type == keys::HEAD_GROUP;
    state.nodes.living().iter().any(|node| is_head(node))
}

fn pods_of(nodes: &[Arc<NodeState>]) -> impl Iterator<Item = &str> {
    nodes.iter().map(|node| node.instance_id.as_str()).filter(|pod| !pod.is_empty())
}

#[cfg(test)]
mod tests {
    use mobula_gcs::NodeStatus;

    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    fn pod(name: &str) -> PodView {
        crate::sidecar::testing::worker_pod(name, "cpu", true)
    }

    fn reply(session: &str, pods: &[&str]) -> ClusterState {
        let node =
            |pod: &&str| NodeState { instance_id: (*pod).to_owned(), status: NodeStatus::Idle, ..NodeState::default() };
        let head =
            NodeState { node_type: keys::HEAD_GROUP.into(), status: NodeStatus::Running, ..NodeState::default() };
        let nodes = pods.iter().map(node).chain([head]).collect();
        ClusterState { session_name: session.into(), nodes, ..ClusterState::default() }
    }

    fn settled(pods: &[&str]) -> ViewGuard {
        let mut guard = ViewGuard::new(GRACE);
        assert_eq!(guard.check(&reply("s1", pods), &pods.iter().map(|p| pod(p)).collect::<Vec<_>>()), None);
        guard
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_start_running_pods_must_register_first() {
        let mut guard = ViewGuard::new(GRACE);
        let pods = [pod("a"), pod("b")];
        let hold = guard.check(&reply("s1", &["a"]), &pods);
        assert_eq!(hold, Some(Hold::Unregistered { after: Break::Start, missing: 1 }));
        assert_eq!(guard.check(&reply("s1", &["a", "b"]), &pods), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_started_after_the_break_is_not_waited_for() {
        let mut guard = settled(&["a"]);
        assert_eq!(guard.check(&reply("s1", &["a"]), &[pod("a"), pod("new")]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_had_not_registered_before_an_interruption_is_not_waited_for() {
        let mut guard = settled(&["a"]);
        guard.failed(false);
        assert_eq!(guard.check(&reply("s1", &["a"]), &[pod("a"), pod("starting")]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_head_restart_everybody_must_come_back() {
        let mut guard = settled(&["a", "b"]);
        let pods = [pod("a"), pod("b")];
        let hold = guard.check(&reply("s2", &[]), &pods);
        assert_eq!(hold, Some(Hold::Unregistered { after: Break::HeadRestart, missing: 2 }));
        assert!(guard.check(&reply("s2", &["b"]), &pods).is_some());
        assert_eq!(guard.check(&reply("s2", &["a", "b"]), &pods), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gcs_that_was_silent_must_show_all_pods_again() {
        let mut guard = settled(&["a", "b"]);
        guard.failed(false);
        let pods = [pod("a"), pod("b")];
        let hold = guard.check(&reply("s1", &["a"]), &pods);
        assert_eq!(hold, Some(Hold::Unregistered { after: Break::Interruption, missing: 1 }));
        assert_eq!(guard.check(&reply("s1", &["a", "b"]), &pods), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gcs_without_a_living_head_must_show_all_pods_again() {
        let mut guard = settled(&["a"]);
        let mut headless = reply("s1", &["a"]);
        headless.nodes.change_all(|node| {
            if node.node_type == keys::HEAD_GROUP {
                node.status = NodeStatus::Dead;
            }
        });
        assert_eq!(guard.check(&headless, &[pod("a")]), Some(Hold::NoHead));
        headless.nodes = mobula_gcs::Nodes::default();
        tokio::time::advance(2 * GRACE).await;
        assert_eq!(guard.check(&headless, &[pod("a")]), Some(Hold::NoHead), "however long it takes");
        let hold = guard.check(&reply("s1", &[]), &[pod("a")]);
        assert_eq!(hold, Some(Hold::Unregistered { after: Break::Interruption, missing: 1 }));
        assert_eq!(guard.check(&reply("s1", &["a"]), &[pod("a")]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_went_away_is_not_waited_for() {
        let mut guard = settled(&["a", "b"]);
        guard.failed(true);
        assert!(guard.check(&reply("s2", &["a"]), &[pod("a"), pod("b")]).is_some());
        assert_eq!(guard.check(&reply("s2", &["a"]), &[pod("a")]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_never_registers_is_waited_for_only_so_long() {
        let mut guard = settled(&["a"]);
        guard.failed(true);
        assert!(guard.check(&reply("s2", &[]), &[pod("a")]).is_some());
        tokio::time::advance(GRACE).await;
        assert_eq!(guard.check(&reply("s2", &[]), &[pod("a")]), None);
    }
}
