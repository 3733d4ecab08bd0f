//! How near to each other the hosts of a gang have to be, or should be, by what groups say of gangs on their nodes.
//!
//! A group speaks for every gang of which its nodes could hold a bundle; a group with accelerators for those only of which it
//! could hold a bundle that needs some. Where several groups speak, the narrowest level counts. A gang that fits on one node is
//! near enough to itself: nothing is said of gangs that pack, unless they are too large for that.

use std::collections::BTreeMap;

use super::fabric::{could_hold, has_accelerator};
use super::is_on_one_node;
use crate::{Gang, GangStrategy, NodeType, Request, Resources, Snapshot, TopologyLevel};

/// How near the hosts of one gang are wanted. Levels are those of the snapshot, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Near<'a> {
    /// All in one domain of this level, or the gang is not started.
    pub required: Option<Required<'a>>,
    /// All in one domain of this level, else of the next broader one and so on, where that costs nothing.
    pub preferred: Option<usize>,
}

/// A level that some group requires.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Required<'a> {
    /// `None`: the snapshot has no such level, so that no place is known to do.
    pub level: Option<usize>,
    /// The level's name, or what the group calls it where there is none.
    pub name: &'a str,
    /// The group.
    pub group: &'a str,
}

impl Near<'_> {
    /// How near the hosts of a gang are wanted.
    pub fn of<'a>(snapshot: &'a Snapshot, gang: &Gang) -> Near<'a> {
        Near::among(&Near::speakers(snapshot), snapshot, gang)
    }

    /// The groups that say anything of how near hosts have to be.
    pub(crate) fn speakers(snapshot: &Snapshot) -> Vec<&NodeType> {
        let speaks = |group: &&NodeType| {
            let nearness = &group.facts.nearness;
            !group.is_head && (nearness.required.is_some() || nearness.preferred.is_some())
        };
        snapshot.node_types.iter().filter(speaks).collect()
    }

    /// [`Near::of`], for many gangs: `speakers` are [`Near::speakers`].
    pub(crate) fn among<'a>(speakers: &[&'a NodeType], snapshot: &'a Snapshot, gang: &Gang) -> Near<'a> {
        let mut near = Near { preferred: preferred_by_gang(snapshot, gang), ..Near::default() };
        if speakers.is_empty() || !is_over_several_hosts(snapshot, gang) {
            return near;
        }
        let kinds: Vec<&Request> = kinds(gang).map(|(bundle, _)| bundle).collect();
        for group in speakers.iter().filter(|group| speaks_for(group, &kinds)) {
            if let Some(name) = group.facts.nearness.required.as_deref() {
                let level = level_named(&snapshot.topology, name);
                let known = level.and_then(|level| snapshot.topology.get(level));
                let name = known.map_or(name, |level| &level.name);
                let required = Required { level, name, group: &group.name };
                // What is not known is narrower than anything.
                let is_narrower = |other: Required<'_>| match (required.level, other.level) {
                    (Some(level), Some(other)) => level > other,
                    (level, other) => level.is_none() && other.is_some(),
                };
                if near.required.is_none_or(is_narrower) {
                    near.required = Some(required);
                }
            }
            let preferred =
                group.facts.nearness.preferred.as_deref().and_then(|name| level_named(&snapshot.topology, name));
            near.preferred = near.preferred.max(preferred);
        }
        let required = near.required.and_then(|required| required.level);
        near.preferred = near.preferred.filter(|preferred| required.is_none_or(|required| required < *preferred));
        near
    }
}

/// The level of this name, or of this label key.
pub fn level_named(levels: &[TopologyLevel], name: &str) -> Option<usize> {
    let mut levels = levels.iter();
    let named = levels.clone().position(|level| level.name == name);
    named.or_else(|| levels.position(|level| level.keys.iter().any(|key| key == name)))
}

/// Ray's own way to ask: a locality that packs without being strict.
fn preferred_by_gang(snapshot: &Snapshot, gang: &Gang) -> Option<usize> {
    let locality = gang.locality.as_ref().filter(|locality| locality.strategy == GangStrategy::Pack)?;
    let is_alone = is_on_one_node(gang) || (gang.bundles.len() < 2 && !gang.rescheduling);
    level_named(&snapshot.topology, &locality.label).filter(|_| !is_alone)
}

fn speaks_for(group: &NodeType, kinds: &[&Request]) -> bool {
    let is_scarce = has_accelerator(&group.resources);
    kinds.iter().any(|bundle| (!is_scarce || has_accelerator(&bundle.resources)) && could_hold(group, bundle))
}

/// Different bundles of a gang, each with how many of it follow each other.
pub(super) fn kinds(gang: &Gang) -> impl Iterator<Item = (&Request, usize)> {
    gang.bundles.chunk_by(Request::is_like).filter_map(|alike| Some((alike.first()?, alike.len())))
}

fn is_over_several_hosts(snapshot: &Snapshot, gang: &Gang) -> bool {
    // The others are where they were.
    if gang.rescheduling || is_on_one_node(gang) || gang.bundles.len() < 2 {
        return gang.rescheduling && !is_on_one_node(gang);
    }
    if matches!(gang.strategy, GangStrategy::Spread | GangStrategy::StrictSpread) {
        return true;
    }
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for (bundle, count) in kinds(gang) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        for (name, amount) in bundle.resources.iter() {
            let sum = sums.entry(name).or_default();
            *sum = sum.saturating_add(amount.steps().saturating_mul(count));
        }
    }
    let holds_all = |resources: &Resources| {
        sums.iter().all(|(name, sum)| resources.get(*name).map_or(0, |amount| amount.steps()) >= *sum)
    };
    !snapshot.node_types.iter().any(|group| holds_all(&group.resources))
}
