//! Who is served by what.

use std::collections::BTreeMap;

use super::cluster::{Cluster, Fate, Node, Resizing, Wants};
use crate::words::{counted, list};
use crate::{NodePhase, Snapshot};

/// Where the requests of one demand class, gang or constraint go.
#[derive(Default)]
pub(super) struct Share {
    /// On nodes where Ray runs.
    there: u64,
    /// On nodes that were on their way before.
    coming: u64,
    /// On nodes that are resized for it.
    resized: u64,
    /// On new nodes of each group.
    launched: BTreeMap<u16, u64>,
    /// On nodes that can't be launched yet.
    pub later: BTreeMap<u16, u64>,
}

/// Shares by kind and position in the snapshot.
pub(super) type Shares = BTreeMap<(Wants, u32), Share>;

/// Collects the shares of everything that found a place.
pub(super) fn shares(cluster: &Cluster<'_>) -> Shares {
    let mut shares = Shares::new();
    for node in &cluster.nodes {
        for placement in &node.placements {
            for &(run, count) in &placement.fill.taken {
                let origin = placement.runs[run as usize].origin;
                shares.entry((placement.wants, origin)).or_default().add(node, count);
            }
        }
    }
    shares
}

impl Share {
    fn add(&mut self, node: &Node, count: u64) {
        let group = node.group.unwrap_or(u16::MAX);
        let place = match (node.fate, node.phase) {
            (Fate::Launch, _) => self.launched.entry(group).or_default(),
            (Fate::HoldBack, _) => self.later.entry(group).or_default(),
            _ if matches!(node.resizing, Resizing::Asked(..)) => &mut self.resized,
            (_, NodePhase::Running) => &mut self.there,
            _ => &mut self.coming,
        };
        *place = place.saturating_add(count);
    }

    /// Whether anything is launched for it.
    pub fn launches(&self) -> bool {
        !self.launched.is_empty()
    }

    /// Whether anything is resized for it.
    pub fn resizes(&self) -> bool {
        self.resized > 0
    }

    /// How many wait for a launch that is held back.
    pub fn waiting(&self) -> u64 {
        self.later.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// `3 fit on running nodes and 5 on new nodes of gpu`.
    pub fn text(&self, snapshot: &Snapshot) -> String {
        let mut parts = Vec::new();
        let mut part = |count: u64, place: String| {
            if count > 0 {
                let verb = match (parts.is_empty(), count) {
                    (true, 1) => " fits",
                    (true, _) => " fit",
                    _ => "",
                };
                parts.push(format!("{count}{verb} {place}"));
            }
        };
        part(self.there, "on running nodes".into());
        part(self.coming, "on nodes that are on their way".into());
        part(self.resized, "on nodes that grow in place".into());
        for (group, count) in &self.launched {
            part(*count, format!("on new nodes of {}", name(snapshot, *group)));
        }
        for (group, count) in &self.later {
            part(*count, format!("on nodes of {} that can't be launched yet", name(snapshot, *group)));
        }
        list(&parts)
    }
}

/// What the launches of each group are for: `12 tasks or actors and 1 gang`.
pub(super) fn purposes(shares: &Shares, floors: &[u32]) -> Vec<String> {
    let mut wants = vec![[0_u64; 3]; floors.len()];
    for ((kind, _), share) in shares {
        for (group, count) in &share.launched {
            if let Some(wants) = wants.get_mut(usize::from(*group)) {
                let wants = &mut wants[*kind as usize];
                *wants = wants.saturating_add(if *kind == Wants::Task { *count } else { 1 });
            }
        }
    }
    let texts = wants.into_iter().zip(floors).map(|(wants, floor)| {
        let [constraints, gangs, tasks] = wants;
        let mut parts = Vec::new();
        if *floor > 0 {
            parts.push(format!("the minimum of {}", counted(u64::from(*floor), "replica")));
        }
        if constraints > 0 {
            parts.push("request_resources".to_owned());
        }
        if gangs > 0 {
            parts.push(counted(gangs, "gang"));
        }
        if tasks > 0 {
            parts.push(if tasks == 1 { "1 task or actor".into() } else { format!("{tasks} tasks or actors") });
        }
        list(&parts)
    });
    texts.collect()
}

/// Name of a group by number.
pub(super) fn name(snapshot: &Snapshot, group: u16) -> &str {
    snapshot.node_types.get(usize::from(group)).map_or("no group", |group| &group.name)
}
