//! What is asked for, as the packer wants it: resources by number, requests in runs of identical ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{Gang, LabelSelector, PlacementConstraint, Request, Snapshot};

/// Names with this prefix are resources of which a node that does not list them has 1.
const IMPLICIT_PREFIX: &str = "node:__internal_implicit_resource_";

/// Number of a resource that some request names. Numbers are in name order.
pub(super) type ResourceId = u16;

/// Number of a class of identical requests.
pub(super) type ClassId = u32;

/// A set of resources.
pub(super) type Kinds = Vec<u64>;

/// What distinguishes one request from another.
pub(super) struct Class<'a> {
    /// Positive amounts in name order.
    pub needs: Vec<(ResourceId, f64)>,
    /// Resources of which a positive amount is asked.
    pub kinds: Kinds,
    /// GPU is named, be it with 0.
    pub names_gpu: bool,
    /// Alternatives in order of preference.
    pub selectors: &'a [LabelSelector],
    /// Labels that the node must not have before, and has afterwards.
    pub apart: Vec<(&'a str, &'a str)>,
    /// Greater goes first; equal ranks keep the order in which they came.
    pub rank: u32,
}

/// Identical requests that follow one another.
#[derive(Copy, Clone, Debug)]
pub(super) struct Run {
    pub class: ClassId,
    pub count: u64,
    /// Position in the snapshot: of the demand class, of the gang, or of the constraint.
    pub origin: u32,
}

/// All requests of a snapshot.
pub(super) struct Work<'a> {
    pub tables: Tables<'a>,
    /// One list of runs a constraint.
    pub constraints: Vec<Vec<Run>>,
    /// One list of runs a gang, in the snapshot's order.
    pub gangs: Vec<Vec<Run>>,
    /// Tasks and actors.
    pub tasks: Vec<Run>,
}

/// Everything that stays the same while packing.
pub(super) struct Tables<'a> {
    /// Resource names by number.
    pub resources: Vec<&'a str>,
    /// Request classes by number.
    pub classes: Vec<Class<'a>>,
    /// Resources that a node can have, or get, without listing them.
    pub everywhere: Vec<ResourceId>,
    /// Label keys that some request looks at: no other label matters.
    pub label_keys: BTreeSet<&'a str>,
}

impl<'a> Work<'a> {
    /// Collects the requests of `snapshot`, tasks in the order given by `task_order` (positions in `snapshot.demand`).
    pub fn new(snapshot: &'a Snapshot, task_order: &[usize]) -> Self {
        let resizable = snapshot.node_types.iter().any(|group| group.resize.is_some());
        let names_always: &[&str] = if resizable { &["CPU", "memory"] } else { &[] };
        let mut drafts = Vec::new();
        let constraints = (0_u32..)
            .zip(&snapshot.constraints)
            .map(|(origin, constraint)| {
                let requests = constraint.requests.iter();
                requests.map(|class| add(&mut drafts, Draft::of(&class.request), class.count, origin)).collect()
            })
            .collect();
        let gangs = (0_u32..)
            .zip(&snapshot.gangs)
            .map(|(origin, gang)| {
                combine(gang).into_iter().map(|(draft, count)| add(&mut drafts, draft, count, origin)).collect()
            })
            .collect();
        let tasks = task_order
            .iter()
            .filter_map(|&at| snapshot.demand.get(at).map(|class| (at, class)))
            .map(|(at, class)| add(&mut drafts, Draft::of(&class.request), class.count, at as u32))
            .collect();
        Work { tables: Tables::new(drafts, names_always), constraints, gangs, tasks }
    }
}

impl<'a> Tables<'a> {
    fn new(drafts: Vec<Draft<'a>>, names_always: &[&'a str]) -> Self {
        let mut names: BTreeSet<&str> = names_always.iter().copied().collect();
        let mut label_keys = BTreeSet::new();
        for draft in &drafts {
            names.extend(draft.amounts.iter().map(|(name, _)| *name));
            label_keys.extend(draft.apart.iter().map(|(key, _)| *key));
            let constraints = draft.selectors.iter().flat_map(|selector| &selector.constraints);
            label_keys.extend(constraints.map(|constraint| constraint.key.as_str()));
        }
        // A request for more than 65,535 distinct resources can't be: names beyond that are held by no node.
        let resources: Vec<&str> = names.into_iter().take(usize::from(ResourceId::MAX)).collect();
        let ranks = ranks(&drafts);
        let classes = drafts.into_iter().zip(ranks).map(|(draft, rank)| draft.finish(&resources, rank)).collect();
        let everywhere = (0..)
            .zip(&resources)
            .filter(|(_, name)| is_implicit(name) || names_always.contains(name))
            .map(|(id, _)| id)
            .collect();
        Tables { resources, classes, everywhere, label_keys }
    }

    /// The number of `name`, if some request names it.
    pub fn resource(&self, name: &str) -> Option<ResourceId> {
        self.resources.binary_search(&name).ok().map(|id| id as ResourceId)
    }

    /// How much of a resource a node has that does not list it.
    pub fn unlisted(&self, resource: ResourceId) -> f64 {
        let implicit = self.resources.get(usize::from(resource)).is_some_and(|name| is_implicit(name));
        if implicit { 1.0 } else { 0.0 }
    }

    /// No resource.
    pub fn no_kinds(&self) -> Kinds {
        vec![0; self.resources.len().div_ceil(64)]
    }
}

fn is_implicit(name: &str) -> bool {
    name.starts_with(IMPLICIT_PREFIX)
}

/// Marks `resource` in `kinds`.
fn mark(kinds: &mut Kinds, resource: ResourceId) {
    if let Some(word) = kinds.get_mut(usize::from(resource) / 64) {
        *word |= 1 << (resource % 64);
    }
}

/// Whether `kinds` has `resource`.
pub(super) fn has_kind(kinds: &Kinds, resource: ResourceId) -> bool {
    kinds.get(usize::from(resource) / 64).is_some_and(|word| word >> (resource % 64) & 1 == 1)
}

/// A class before resources have numbers.
struct Draft<'a> {
    /// In name order, amounts of 0 included: they count when requests are sorted.
    amounts: Vec<(&'a str, f64)>,
    selectors: &'a [LabelSelector],
    placements: usize,
    apart: Vec<(&'a str, &'a str)>,
}

impl<'a> Draft<'a> {
    fn of(request: &'a Request) -> Self {
        let apart = request.placement.iter().filter_map(|constraint| match constraint {
            PlacementConstraint::AntiAffinity { label, value } => Some((label.as_str(), value.as_str())),
            PlacementConstraint::Affinity { .. } => None,
        });
        Draft {
            amounts: request.resources.iter().map(|(name, amount)| (name.as_str(), amount.as_f64())).collect(),
            selectors: &request.selectors,
            placements: request.placement.len(),
            apart: apart.collect(),
        }
    }

    fn finish(self, resources: &[&'a str], rank: u32) -> Class<'a> {
        let names_gpu = self.amounts.iter().any(|(name, _)| *name == "GPU");
        let mut kinds: Kinds = vec![0; resources.len().div_ceil(64)];
        let mut needs = Vec::with_capacity(self.amounts.len());
        for (name, amount) in self.amounts.into_iter().filter(|(_, amount)| *amount > 0.0) {
            // A name beyond the table gets a number that no node has.
            let id = resources.binary_search(&name).map_or(ResourceId::MAX, |id| id as ResourceId);
            mark(&mut kinds, id);
            needs.push((id, amount));
        }
        Class { needs, kinds, names_gpu, selectors: self.selectors, apart: self.apart, rank }
    }

    /// What requests are sorted by, the greatest first.
    fn sort_key(&self) -> (usize, usize, usize, f64) {
        let conditions = self.selectors.first().map_or(0, |selector| selector.constraints.len());
        (self.placements, conditions, self.amounts.len(), self.amounts.iter().map(|(_, amount)| amount).sum())
    }

    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let (placements, conditions, kinds, sum) = self.sort_key();
        let (other_placements, other_conditions, other_kinds, other_sum) = other.sort_key();
        (placements, conditions, kinds)
            .cmp(&(other_placements, other_conditions, other_kinds))
            .then_with(|| sum.total_cmp(&other_sum))
            // The numbers of kinds are equal by now: no list is a prefix of the other.
            .then_with(|| {
                let pairs = self.amounts.iter().zip(&other.amounts);
                let orders = pairs.map(|(a, b)| a.0.cmp(b.0).then_with(|| a.1.total_cmp(&b.1)));
                orders.into_iter().find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
            })
    }
}

fn add<'a>(drafts: &mut Vec<Draft<'a>>, draft: Draft<'a>, count: u64, origin: u32) -> Run {
    drafts.push(draft);
    Run { class: drafts.len() as ClassId - 1, count, origin }
}

/// The rank of every draft; drafts that compare equal share one.
fn ranks(drafts: &[Draft<'_>]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..drafts.len()).collect();
    order.sort_by(|&a, &b| drafts[a].cmp(&drafts[b]));
    let mut ranks = vec![0; drafts.len()];
    for pair in order.windows(2) {
        let step = u32::from(drafts[pair[0]].cmp(&drafts[pair[1]]).is_ne());
        ranks[pair[1]] = ranks[pair[0]] + step;
    }
    ranks
}

/// The requests of a gang as they are packed: bundles that must share a node are added up into one request (so that no node
/// ever holds a part of them), the others are run-length encoded.
fn combine(gang: &Gang) -> Vec<(Draft<'_>, u64)> {
    let mut drafts: Vec<(Draft<'_>, u64)> = Vec::new();
    let mut merged: Vec<(Together<'_>, BTreeMap<&str, f64>)> = Vec::new();
    let mut last: Option<&Request> = None;
    for bundle in &gang.bundles {
        if let Some(together) = Together::of(bundle) {
            let at = merged.iter().position(|(known, _)| *known == together).unwrap_or_else(|| {
                merged.push((together, BTreeMap::new()));
                merged.len() - 1
            });
            let sums = &mut merged[at].1;
            for (name, amount) in bundle.resources.iter() {
                *sums.entry(name.as_str()).or_insert(0.0) += amount.as_f64();
            }
        } else if let (Some(last), Some((_, count))) = (last, drafts.last_mut())
            && same(last, bundle)
        {
            *count += 1;
        } else {
            drafts.push((Draft::of(bundle), 1));
            last = Some(bundle);
        }
    }
    drafts.extend(merged.into_iter().map(|(together, sums)| {
        let amounts = sums.into_iter().collect();
        (Draft { amounts, selectors: together.selectors, placements: 1, apart: Vec::new() }, 1)
    }));
    drafts
}

/// Whether two bundles are equal; bundles read from one message usually share their resources.
fn same(a: &Request, b: &Request) -> bool {
    let resources = Arc::ptr_eq(&a.resources, &b.resources) || a.resources == b.resources;
    resources && a.selectors == b.selectors && a.placement == b.placement
}

/// What bundles that must share a node have in common.
#[derive(PartialEq)]
struct Together<'a> {
    label: &'a str,
    value: &'a str,
    selectors: &'a [LabelSelector],
}

impl<'a> Together<'a> {
    fn of(bundle: &'a Request) -> Option<Self> {
        bundle.placement.iter().find_map(|constraint| match constraint {
            PlacementConstraint::Affinity { label, value } => {
                Some(Together { label, value, selectors: &bundle.selectors })
            }
            PlacementConstraint::AntiAffinity { .. } => None,
        })
    }
}
