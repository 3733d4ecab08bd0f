//! What is to be done: steps, each once or again and again.

use std::collections::BTreeMap;

use mobula_planner::Amount;
use serde::Deserialize;

use super::Recurrence;
use crate::chance::Spread;
use crate::span::Span;

/// Work that comes at a time, or again and again.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Step {
    /// When it comes first.
    #[serde(default)]
    pub at: Span,
    /// It comes again after such a time; `{exponential: …}` makes a Poisson process.
    #[serde(default)]
    pub every: Option<Spread>,
    /// It no longer comes after this time.
    #[serde(default)]
    pub until: Option<Span>,
    /// It comes so often at most.
    #[serde(default)]
    pub times: Option<u64>,
    /// `NAME` or `NAMESPACE/NAME` of the RayCluster; needed where there are several.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Tasks.
    #[serde(default)]
    pub tasks: Option<Tasks>,
    /// Actors: as tasks, and without a duration they stay.
    #[serde(default)]
    pub actors: Option<Tasks>,
    /// A placement group with work in it.
    #[serde(default)]
    pub gang: Option<Gang>,
    /// `request_resources`; an empty list takes it back.
    #[serde(default)]
    pub request_resources: Option<Vec<Bundles>>,
}

/// What a step brings.
#[derive(Copy, Clone, Debug)]
pub enum What<'a> {
    /// Tasks.
    Tasks(&'a Tasks),
    /// Actors.
    Actors(&'a Tasks),
    /// A placement group.
    Gang(&'a Gang),
    /// `request_resources`.
    Request(&'a [Bundles]),
}

impl Step {
    /// When it comes.
    pub fn recurrence(&self) -> Recurrence {
        Recurrence { at: self.at, every: self.every, until: self.until, times: self.times }
    }

    /// What it brings; none where it is not exactly one thing.
    pub fn what(&self) -> Option<What<'_>> {
        let mut all = [
            self.tasks.as_ref().map(What::Tasks),
            self.actors.as_ref().map(What::Actors),
            self.gang.as_ref().map(What::Gang),
            self.request_resources.as_deref().map(What::Request),
        ]
        .into_iter()
        .flatten();
        let first = all.next();
        first.filter(|_| all.next().is_none())
    }
}

/// Tasks or actors that are alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tasks {
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// What one needs, in Ray's resources.
    pub needs: BTreeMap<String, Amount>,
    /// How long one runs; none: for ever.
    #[serde(default)]
    pub duration: Option<Spread>,
    /// How long the node holds objects of it afterwards.
    #[serde(default)]
    pub holds: Option<Spread>,
    /// Labels that its node must have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A placement group with work in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Gang {
    /// How its bundles are placed.
    #[serde(default)]
    pub strategy: Strategy,
    /// How many bundles.
    pub bundles: u32,
    /// What each needs, in Ray's resources.
    pub needs: BTreeMap<String, Amount>,
    /// How long the work in it takes once all bundles are placed; none: for ever.
    #[serde(default)]
    pub duration: Option<Spread>,
    /// All bundles on nodes with the same value of this label.
    #[serde(default)]
    pub locality: Option<String>,
    /// Labels that the nodes must have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Ray's placement strategies.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// On few nodes.
    #[default]
    Pack,
    /// On many nodes.
    Spread,
    /// On one node.
    StrictPack,
    /// Each bundle on a node of its own.
    StrictSpread,
}

/// Bundles that are alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bundles {
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// What each needs, in Ray's resources.
    pub needs: BTreeMap<String, Amount>,
    /// Labels that its node must have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}
