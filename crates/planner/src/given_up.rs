//! Pods that are given up before anything is planned: Ray in them has stopped, or never came up.

use std::collections::{BTreeMap, BTreeSet};

use crate::roster::Row;
use crate::words;
use crate::{Node, NodePhase, Reason, Snapshot, TerminateCause, Verdict};

/// What is given up.
#[derive(Default)]
pub(crate) struct GivenUp<'a> {
    /// For each node of the snapshot, whether it is given up.
    pub nodes: Vec<bool>,
    /// Position in the snapshot, why, and why in words.
    pub ends: Vec<(usize, TerminateCause, String)>,
    /// Groups of which a pod did not come up in time.
    pub failed_groups: BTreeSet<&'a str>,
    /// Pods that should go but can't.
    pub kept: Vec<Reason>,
}

/// Finds what is to be given up, whole replicas only. Pods that have been pending for longer than `most_pending_ms` count as
/// failed; `None`: none does.
pub(crate) fn find<'a>(snapshot: &'a Snapshot, roster: &[Row], most_pending_ms: Option<i64>) -> GivenUp<'a> {
    let mut given_up = GivenUp { nodes: vec![false; snapshot.nodes.len()], ..GivenUp::default() };
    let mut replicas: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (at, row) in roster.iter().enumerate() {
        // A pod that runs may go with others of its replica, and for no reason of its own.
        if !row.is_pod() || (row.phase == NodePhase::Running && !row.is_named) {
            continue;
        }
        let group = snapshot.node_types.get(row.group());
        let Some(group) = group.filter(|group| !group.is_head && !group.suspended) else {
            continue;
        };
        let node = &snapshot.nodes[at];
        let named = node.replica.as_deref().filter(|_| group.num_of_hosts > 1);
        if let Some(replica) = named {
            replicas.entry((&group.name, replica)).or_default().push(at);
        } else if let Some((cause, text)) = failure(snapshot, node, most_pending_ms) {
            given_up.end(snapshot, at, cause, text);
        }
    }
    for ((_, replica), pods) in replicas {
        given_up.end_replica(snapshot, replica, &pods, most_pending_ms);
    }
    given_up
}

impl<'a> GivenUp<'a> {
    fn end(&mut self, snapshot: &'a Snapshot, at: usize, cause: TerminateCause, text: String) {
        self.nodes[at] = true;
        if cause == TerminateCause::AllocationTimeout {
            self.failed_groups.insert(&snapshot.nodes[at].group);
        }
        self.ends.push((at, cause, text));
    }

    /// A replica is no good without any of its pods; it goes as soon as none of them does any work.
    fn end_replica(&mut self, snapshot: &'a Snapshot, replica: &str, pods: &[usize], most_pending_ms: Option<i64>) {
        let failed = pods.iter().find_map(|at| Some((*at, failure(snapshot, &snapshot.nodes[*at], most_pending_ms)?)));
        let Some((first, (cause, text))) = failed else {
            return;
        };
        let busy = pods.iter().find(|at| {
            let node = &snapshot.nodes[**at];
            node.phase == NodePhase::Running && node.idle_ms.is_none()
        });
        if let Some(&busy) = busy {
            let text =
                format!("{text}; its replica {replica} stays because {} works", snapshot.nodes[busy].instance_id);
            let subject = format!("node {}", snapshot.nodes[first].instance_id);
            self.kept.push(Reason { subject, verdict: Verdict::Keep, text });
            return;
        }
        for &at in pods {
            let others = format!("goes with {} of replica {replica}: {text}", snapshot.nodes[first].instance_id);
            let text = if at == first { text.clone() } else { others };
            self.end(snapshot, at, cause, text);
        }
    }
}

fn failure(snapshot: &Snapshot, node: &Node, most_pending_ms: Option<i64>) -> Option<(TerminateCause, String)> {
    match node.phase {
        NodePhase::Stopped => Some((TerminateCause::RayStopped, "Ray in it has stopped".to_owned())),
        NodePhase::Pending | NodePhase::Requested => {
            let waited_ms = snapshot.now_ms.saturating_sub(node.pending_since_ms?);
            let most_ms = most_pending_ms?;
            (waited_ms > most_ms).then(|| {
                let (waited, most) = (words::seconds(waited_ms), words::seconds(most_ms));
                let text = format!("it has not become a Ray node within {waited}, longer than the {most} it may take");
                (TerminateCause::AllocationTimeout, text)
            })
        }
        NodePhase::Running | NodePhase::Leaving => None,
    }
}
