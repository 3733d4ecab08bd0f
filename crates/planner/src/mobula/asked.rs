//! Which resources and labels requests name: nothing else of a node matters.

use std::collections::{BTreeMap, BTreeSet};
use std::ptr;
use std::sync::Arc;

use crate::quick_hash::Index;
use crate::{Amount, Resources, Snapshot};

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
}

impl<'a> Asked<'a> {
    /// Looks at every request.
    pub fn of(snapshot: &'a Snapshot) -> Self {
        let mut seen: Index<*const Resources, ()> = Index::default();
        let mut last = ptr::null();
        let mut steps: BTreeMap<&str, i64> = BTreeMap::new();
        let mut keys: BTreeSet<&str> = BTreeSet::new();
        let constraints = snapshot.constraints.iter().flat_map(|constraint| &constraint.requests);
        let classes = snapshot.demand.iter().chain(constraints).map(|class| &class.request);
        for request in classes.chain(snapshot.gangs.iter().flat_map(|gang| &gang.bundles)) {
            for selector in &request.selectors {
                keys.extend(selector.constraints.iter().map(|condition| condition.key.as_str()));
            }
            // Bundles of a gang follow one another.
            let this = Arc::as_ptr(&request.resources);
            if std::mem::replace(&mut last, this) == this || seen.insert(this, ()).is_some() {
                continue;
            }
            for (name, amount) in request.resources.iter().filter(|(_, amount)| **amount > Amount::ZERO) {
                let step = steps.entry(name).or_insert(0);
                *step = gcd(*step, amount.steps());
            }
        }
        // Whatever has so many distinct resources is held by no node.
        let (resources, steps) = steps.into_iter().take(MAX_COLUMNS).unzip();
        Asked { resources, steps, keys: keys.into_iter().collect() }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
