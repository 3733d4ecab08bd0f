//! Which resources and labels requests name: nothing else of a node matters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::quick_hash::Index;
use crate::{Amount, Request, Resources, Snapshot};

/// Most distinct resources that requests may name; requests for others are never served.
const MAX_COLUMNS: usize = 512;

/// What requests name.
pub(super) struct Asked<'a> {
    /// Resources, in name order.
    pub resources: Vec<&'a str>,
    /// By resource: the step of its column.
    pub steps: Vec<i64>,
    /// Label keys, sorted.
    pub keys: Vec<&'a str>,
    /// The bundles of all gangs: those that are alike and follow one another together.
    alike: Vec<&'a [Request]>,
    /// By gang: where its bundles end in that list.
    ends: Vec<usize>,
}

impl<'a> Asked<'a> {
    /// Looks at every request.
    pub fn of(snapshot: &'a Snapshot) -> Self {
        let mut seen: Index<*const Resources, ()> = Index::default();
        let (mut alike, mut ends) = (Vec::new(), Vec::with_capacity(snapshot.gangs.len()));
        for gang in &snapshot.gangs {
            alike.extend(gang.bundles.chunk_by(Request::is_like));
            ends.push(alike.len());
        }
        let mut steps: BTreeMap<&str, i64> = BTreeMap::new();
        let mut keys: BTreeSet<&str> = BTreeSet::new();
        let constraints = snapshot.constraints.iter().flat_map(|constraint| &constraint.requests);
        let classes = snapshot.demand.iter().chain(constraints).map(|class| &class.request);
        for request in classes.chain(alike.iter().map(|alike| &alike[0])) {
            for selector in &request.selectors {
                keys.extend(selector.constraints.iter().map(|condition| condition.key.as_str()));
            }
            if seen.insert(Arc::as_ptr(&request.resources), ()).is_some() {
                continue;
            }
            for (name, amount) in request.resources.iter().filter(|(_, amount)| **amount > Amount::ZERO) {
                let step = steps.entry(name).or_insert(0);
                *step = gcd(*step, amount.steps());
            }
        }
        // Whatever has so many distinct resources is held by no node.
        let (resources, steps) = steps.into_iter().take(MAX_COLUMNS).unzip();
        Asked { resources, steps, keys: keys.into_iter().collect(), alike, ends }
    }

    /// The bundles of a gang: those that are alike and follow one another together.
    pub fn bundles(&self, gang: usize) -> &[&'a [Request]] {
        let start = if gang == 0 { 0 } else { self.ends[gang - 1] };
        &self.alike[start..self.ends[gang]]
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
