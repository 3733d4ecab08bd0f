//! Levels: what the snapshot lists, and what gangs name.

use crate::Snapshot;

/// One level of the topology.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// What people call it; the label itself where only a gang names it.
    pub name: String,
    /// Label keys that name the domain, the first that is there counts.
    pub keys: Vec<String>,
    /// Nodes of one domain reach each other by RDMA, other nodes do not.
    pub is_fabric: bool,
    /// Most hosts of one gang in one domain.
    pub max_hosts: Option<u32>,
    /// The Ray node label by which gangs ask for one domain of this level: there Ray compares this label and nothing else.
    pub ray_label: Option<String>,
    /// Whether it is one of the snapshot's, which lie within each other from broad to narrow; others stand beside them.
    pub is_nested: bool,
}

impl Level {
    /// Whether a value names one domain wherever it is met: Ray compares it, or it comes from a network (a switch, an NVLink
    /// domain) and not from where things stand. Otherwise it names one domain within each domain of a broader such level.
    pub(super) fn names_globally(&self) -> bool {
        self.ray_label.is_some() || self.is_fabric || self.max_hosts.is_some()
    }
}

/// The snapshot's levels in their order, then one for each label that a gang's locality names and that they don't have.
pub(super) fn levels(snapshot: &Snapshot) -> Vec<Level> {
    let configured = snapshot.topology.iter().map(|level| Level {
        name: level.name.clone(),
        keys: level.keys.clone(),
        is_fabric: level.is_fabric,
        max_hosts: level.max_hosts,
        ray_label: None,
        is_nested: true,
    });
    let mut levels: Vec<Level> = configured.collect();
    for locality in snapshot.gangs.iter().filter_map(|gang| gang.locality.as_ref()) {
        let label = locality.label.as_str();
        if label.is_empty() || levels.iter().any(|level| level.ray_label.as_deref() == Some(label)) {
            continue;
        }
        let free = |level: &&mut Level| level.ray_label.is_none() && level.keys.iter().any(|key| key == label);
        match levels.iter_mut().find(free) {
            Some(level) => level.ray_label = Some(label.to_owned()),
            None => levels.push(Level {
                name: label.to_owned(),
                keys: vec![label.to_owned()],
                ray_label: Some(label.to_owned()),
                ..Level::default()
            }),
        }
    }
    levels
}
