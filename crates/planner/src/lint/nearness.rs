//! How near the hosts of a gang are to each other: as groups require it, and as it is said of the gang.

use std::collections::BTreeMap;

use super::Check;
use crate::topology::{Near, Required};
use crate::{Gang, Target, TopologyLevel};

impl<'a> Check<'a> {
    /// What is said of a gang's domain is true of its hosts, as far as that is known before they are there; and where a group
    /// requires one domain of a level, something is said, and no two hosts are in different domains of it. Where what is left
    /// of a gang runs was decided by Ray, which knows no such levels: that is no fault of the plan.
    pub(super) fn nearness(
        &mut self,
        gang: &Gang,
        said: Option<&str>,
        hosts: &[Target],
        members: &BTreeMap<&str, Vec<u32>>,
    ) {
        let snapshot = self.snapshot;
        let said = said.and_then(|said| said.split_once('='));
        let is_checked = |key: &str| gang.locality.as_ref().is_some_and(|locality| locality.label == key);
        if let Some((key, value)) = said.filter(|(key, _)| !is_checked(key)) {
            // The domain is called by one of the level's labels; other hosts may have another of them.
            let level = snapshot.topology.iter().find(|level| level.keys.iter().any(|it| it == key));
            let of_host = |host: Target| match level {
                Some(level) => self.domain(host, level),
                None => self.place_label(host, key),
            };
            let is_outside = |host: &&Target| of_host(**host).is_some_and(|other| other != value);
            if let Some(host) = hosts.iter().find(is_outside) {
                let text = format!("{} is not in {key}={value}, where gang {} is", self.target_name(*host), gang.id);
                self.error("one-domain", text);
            }
        }
        let Some(Required { level, name, group }) = Near::of(snapshot, gang).required else { return };
        let Some(level) = level.and_then(|level| snapshot.topology.get(level)) else {
            let text = format!("gang {} is served, group {group} requires one {name} for it: no such level", gang.id);
            return self.error("one-domain", text);
        };
        let label = format!("_PG_{}", gang.id);
        let left = members.get(label.as_str()).into_iter().flatten().map(|at| Target::Node(*at));
        let left: Vec<Target> = left.collect();
        if self.is_apart(level, left.iter().copied()) {
            return;
        }
        let all = hosts.iter().copied().chain(left);
        if self.is_apart(level, all) || (hosts.len() > 1 && said.is_none()) {
            let text = format!("gang {} is to be in one {name}, as group {group} requires, but is not", gang.id);
            self.error("one-domain", text);
        }
    }

    /// Whether some of these hosts are surely in different domains: they have different values of one label, or one that is
    /// there has none.
    fn is_apart(&self, level: &'a TopologyLevel, hosts: impl Iterator<Item = Target>) -> bool {
        let mut values: BTreeMap<&str, &str> = BTreeMap::new();
        let (mut count, mut is_apart, mut is_unlabelled) = (0, false, false);
        for host in hosts {
            count += 1;
            let found = level.keys.iter().find_map(|key| Some((key.as_str(), self.place_label(host, key)?)));
            match found {
                Some((key, value)) => is_apart |= *values.entry(key).or_insert(value) != value,
                None => is_unlabelled |= !self.is_coming(host),
            }
        }
        is_apart || (is_unlabelled && count > 1)
    }
}
