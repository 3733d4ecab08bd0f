//! Domains of nodes, and which of them a gang fits in best.

use std::collections::BTreeMap;

use super::{Place, PodGang, fit, fit::Room};
use crate::TopologyLevel;

/// The nodes of every domain of every level.
pub(super) struct Domains<'a> {
    levels: &'a [TopologyLevel],
    /// By level: value of the label → nodes. A node without the label is a domain of its own, without a value.
    labelled: Vec<BTreeMap<&'a str, Vec<usize>>>,
    /// By level: nodes without the label.
    alone: Vec<Vec<usize>>,
    all: Vec<usize>,
}

/// The node of each pod by class, and the domain that holds them: level and value.
pub(super) type Found = (Vec<Vec<usize>>, Option<(usize, String)>);

/// The value of a node's label at a level: that of the first key that it has.
fn value<'a>(place: &'a Place, level: &TopologyLevel) -> Option<&'a str> {
    level.keys.iter().find_map(|key| place.labels.get(key)).map(String::as_str)
}

impl<'a> Domains<'a> {
    pub(super) fn new(places: &'a [Place], levels: &'a [TopologyLevel]) -> Self {
        let mut all: Vec<usize> = (0..places.len()).collect();
        all.sort_by_key(|&node| &places[node].name);
        let mut labelled = vec![BTreeMap::<&str, Vec<usize>>::new(); levels.len()];
        let mut alone = vec![Vec::new(); levels.len()];
        for (at, level) in levels.iter().enumerate() {
            for &node in &all {
                match value(&places[node], level) {
                    Some(value) => labelled[at].entry(value).or_default().push(node),
                    None => alone[at].push(node),
                }
            }
        }
        Domains { levels, labelled, alone, all }
    }

    pub(super) fn name(&self, level: usize) -> &str {
        self.levels.get(level).map_or("domain", |level| level.name.as_str())
    }

    /// The domains of a level: value (none: a node alone) and nodes.
    fn of(&self, level: usize) -> impl Iterator<Item = (Option<&'a str>, &[usize])> {
        let labelled = self.labelled.get(level).into_iter().flatten().map(|(value, nodes)| (Some(*value), &nodes[..]));
        labelled.chain(self.alone.get(level).into_iter().flatten().map(|node| (None, std::slice::from_ref(node))))
    }

    /// Where the gang goes: beside the rest of it, else in the domain in which least is left, of the narrowest level that
    /// has one; else, unless it must be in one domain, anywhere.
    pub(super) fn best(&self, gang: &PodGang, room: &Room<'_>) -> Option<Found> {
        if let Some(beside) = gang.beside {
            let found = self.levels_of(gang).find_map(|level| self.beside(gang, room, level, beside));
            if found.is_some() || gang.level.is_some() {
                return found;
            }
        }
        if let Some(found) = self.levels_of(gang).find_map(|level| self.in_level(gang, room, level)) {
            return Some(found);
        }
        if gang.level.is_some() {
            return None;
        }
        fit::pack(&gang.classes, &self.all, room).map(|nodes| (nodes, None))
    }

    /// Levels that may hold the gang, from narrow to broad.
    fn levels_of(&self, gang: &PodGang) -> impl Iterator<Item = usize> + use<'_, 'a> {
        let only = gang.level;
        (0..self.levels.len()).rev().filter(move |level| only.is_none_or(|only| only == *level))
    }

    fn beside(&self, gang: &PodGang, room: &Room<'_>, level: usize, beside: usize) -> Option<Found> {
        let (value, nodes) = self.of(level).find(|(_, nodes)| nodes.contains(&beside))?;
        let found = fit::pack(&gang.classes, nodes, room)?;
        Some((found, value.map(|value| (level, value.to_owned()))))
    }

    fn in_level(&self, gang: &PodGang, room: &Room<'_>, level: usize) -> Option<Found> {
        let mut fitting: Vec<(u64, Option<&str>, &[usize])> = self
            .of(level)
            .filter(|(_, nodes)| fit::may_fit(&gang.classes, nodes, room))
            .map(|(value, nodes)| (capacity(gang, nodes, room), value, nodes))
            .collect();
        fitting.sort_by_key(|(capacity, value, nodes)| (*capacity, *value, nodes.first().copied()));
        fitting.into_iter().find_map(|(_, value, nodes)| {
            let found = fit::pack(&gang.classes, nodes, room)?;
            Some((found, value.map(|value| (level, value.to_owned()))))
        })
    }

    /// The sets of nodes of which it must be in one.
    fn sets(&self, gang: &PodGang) -> Vec<&[usize]> {
        let Some(level) = gang.level else { return vec![&self.all] };
        let sets = self.of(level).map(|(_, nodes)| nodes);
        sets.filter(|nodes| gang.beside.is_none_or(|beside| nodes.contains(&beside))).collect()
    }

    /// The most pods of the gang that fit where it may be, counting each class alone: for people.
    pub(super) fn most(&self, gang: &PodGang, room: &Room<'_>) -> u64 {
        self.sets(gang).into_iter().map(|nodes| fitting(gang, nodes, room)).max().unwrap_or(0)
    }

    /// Nodes that would hold the gang if they were empty, and no more than it takes: those first on which most of it fits now.
    pub(super) fn would_hold(&self, gang: &PodGang, now: &Room<'_>, empty: &Room<'_>) -> Option<Vec<Vec<usize>>> {
        let mut sets = self.sets(gang);
        sets.sort_by_key(|nodes| std::cmp::Reverse(fitting(gang, nodes, now)));
        sets.into_iter().find_map(|nodes| fit::pack_few(&gang.classes, nodes, now, empty))
    }
}

/// How many of its pods fit, counting each class alone.
fn fitting(gang: &PodGang, nodes: &[usize], room: &Room<'_>) -> u64 {
    gang.classes.iter().map(|class| fit::capacity(class, nodes, room).min(u64::from(class.count))).sum()
}

/// How many of its pods a domain would hold: how large a hole the gang would tear.
fn capacity(gang: &PodGang, nodes: &[usize], room: &Room<'_>) -> u64 {
    gang.classes.iter().map(|class| fit::capacity(class, nodes, room)).fold(0, u64::saturating_add)
}
