//! Pending tasks, placement groups and `request_resources`, from the GCS's words to the planner's.

use std::collections::{BTreeMap, BTreeSet};

use mobula_gcs as gcs;
use mobula_planner::{
    Amount, Constraint, DemandClass, Gang, GangStrategy, LabelConstraint, LabelOperator, LabelSelector, Locality,
    PlacementConstraint, Request, Resources,
};

use super::{Interner, Warnings};

/// A raylet reports at most so many distinct shapes, and says nothing of the rest.
const MAX_REPORTED_SHAPES: usize = 100;
/// The GCS reports at most so many placement groups, and says nothing of the rest.
const MAX_REPORTED_GANGS: usize = 1000;
/// Hex digits of a placement group id (18 bytes).
const GANG_ID_HEX_DIGITS: usize = 36;
/// The label by which bundles of one placement group attract or repel each other starts so.
const GANG_LABEL_PREFIX: &str = "_PG_";

/// All that is asked of the cluster.
#[derive(Debug, Default)]
pub(super) struct Demand {
    pub(super) tasks: Vec<DemandClass>,
    pub(super) gangs: Vec<Gang>,
    pub(super) constraints: Vec<Constraint>,
}

/// Translates all demand of one reply. What makes no sense is left out, with a warning.
pub(super) fn translate(
    state: &gcs::ClusterState,
    created_ms: &BTreeMap<String, i64>,
    warnings: &mut Warnings,
) -> Demand {
    warn_of_truncation(state, warnings);
    let mut requests = RequestReader { resources: Interner::default(), gang_ids: listed_gang_ids(state), warnings };
    let tasks = requests.classes(&state.pending, "pending request");
    let gangs = state.gangs.iter().filter_map(|gang| requests.gang(gang, created_ms)).collect();
    let constraints = state
        .constraints
        .iter()
        .map(|entry| Constraint { requests: requests.classes(entry, "request_resources entry") })
        // `request_resources(num_cpus=0)` leaves an entry without requests: nothing is asked for.
        .filter(|constraint| !constraint.requests.is_empty())
        .collect();
    Demand { tasks, gangs, constraints }
}

fn warn_of_truncation(state: &gcs::ClusterState, warnings: &mut Warnings) {
    if state.pending.len() >= MAX_REPORTED_SHAPES {
        warnings.push(format!(
            "{} shapes of tasks and actors are pending, possibly more: a raylet reports at most {MAX_REPORTED_SHAPES}",
            state.pending.len()
        ));
    }
    if state.gangs.len() >= MAX_REPORTED_GANGS {
        warnings.push(format!(
            "{} placement groups are pending, possibly more: the GCS reports at most {MAX_REPORTED_GANGS}",
            state.gangs.len()
        ));
    }
}

fn listed_gang_ids(state: &gcs::ClusterState) -> BTreeSet<String> {
    state.gangs.iter().map(|gang| GangDetails::parse(&gang.details).id).filter(|id| !id.is_empty()).collect()
}

/// Reads requests; equal resource vectors become one.
struct RequestReader<'a> {
    resources: Interner<Resources>,
    gang_ids: BTreeSet<String>,
    warnings: &'a mut Warnings,
}

impl RequestReader<'_> {
    /// Counted requests: canonical, equal ones merged, in the order in which they first came.
    fn classes(&mut self, entries: &[gcs::RequestByCount], what: &str) -> Vec<DemandClass> {
        let mut index_of: BTreeMap<Request, usize> = BTreeMap::new();
        let mut classes: Vec<DemandClass> = Vec::new();
        for entry in entries {
            if entry.request.resources.keys().any(|name| is_gang_resource(name, &self.gang_ids)) {
                continue;
            }
            let Ok(count @ 1..) = u64::try_from(entry.count) else {
                self.warnings.push(format!(
                    "{what} {}: count {} is not positive: left out",
                    shape_text(&entry.request.resources),
                    entry.count
                ));
                continue;
            };
            let Some(request) = self.request(&entry.request, what) else { continue };
            match index_of.get(&request) {
                Some(&index) => classes[index].count = classes[index].count.saturating_add(count),
                None => {
                    index_of.insert(request.clone(), classes.len());
                    classes.push(DemandClass { request, count });
                }
            }
        }
        classes
    }

    fn request(&mut self, wire: &gcs::ResourceRequest, what: &str) -> Option<Request> {
        match amounts(&wire.resources) {
            Ok(resources) => Some(Request {
                resources: self.resources.intern(resources),
                selectors: wire.selectors.iter().map(selector).collect(),
                placement: wire.placement.iter().flat_map(placement).collect(),
            }),
            Err((name, amount)) => {
                self.warnings.push(format!(
                    "{what} {}: {name}: {} is not an amount that can be planned: left out",
                    shape_text(&wire.resources),
                    units_text(amount)
                ));
                None
            }
        }
    }

    /// A placement group; `None` if it asks for nothing (a group in transition) or for what can't be planned.
    fn gang(&mut self, wire: &gcs::GangRequest, created_ms: &BTreeMap<String, i64>) -> Option<Gang> {
        let selected = wire.bundle_selectors.iter().find(|option| !option.requests.is_empty());
        // Label selectors exist only in the newer list; the legacy one stands in where it alone is filled.
        let wire_bundles = selected.map_or(wire.requests.as_slice(), |option| option.requests.as_slice());
        if wire_bundles.is_empty() {
            return None;
        }
        let details = GangDetails::parse(&wire.details);
        let what = format!("placement group {}", wire.details);
        if selected.is_some() && !wire.requests.is_empty() && wire.requests.len() != wire_bundles.len() {
            self.warnings.push(format!(
                "{what}: {} bundles in one list and {} in the other: the list with label selectors counts",
                wire.requests.len(),
                wire_bundles.len()
            ));
        }
        let bundles = self.bundles(wire_bundles, &what)?;
        let id = if details.id.is_empty() { id_from_placement(&bundles).unwrap_or_default() } else { details.id };
        let strategy = details.strategy.unwrap_or_else(|| strategy_from_placement(&bundles));
        Some(Gang {
            created_ms: created_ms.get(&id).copied(),
            id,
            details: wire.details.clone(),
            strategy,
            rescheduling: details.rescheduling,
            bundles,
            // Ray has no priorities of placement groups.
            priority: 0,
            locality: selected.and_then(|option| option.locality.as_ref()).map(locality),
        })
    }

    /// Bundles of one gang: all of them or, if one can't be planned, none.
    fn bundles(&mut self, wire: &[gcs::ResourceRequest], what: &str) -> Option<Vec<Request>> {
        let mut bundles: Vec<Request> = Vec::with_capacity(wire.len());
        for (index, bundle) in wire.iter().enumerate() {
            // Most bundles of a gang are alike.
            if index > 0 && wire[index - 1] == *bundle {
                bundles.push(bundles[index - 1].clone());
            } else {
                bundles.push(self.request(bundle, what)?);
            }
        }
        Some(bundles)
    }
}

/// What `details` says: `<placement group id>:<STRATEGY>|<STATE>`.
#[derive(Debug, Default, PartialEq)]
struct GangDetails {
    id: String,
    strategy: Option<GangStrategy>,
    rescheduling: bool,
}

impl GangDetails {
    fn parse(details: &str) -> Self {
        let (id, rest) = details.split_once(':').unwrap_or((details, ""));
        let (strategy, state) = rest.split_once('|').unwrap_or((rest, ""));
        let is_hex = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        GangDetails {
            id: if is_hex { id.to_ascii_lowercase() } else { String::new() },
            strategy: match strategy {
                "PACK" => Some(GangStrategy::Pack),
                "SPREAD" => Some(GangStrategy::Spread),
                "STRICT_PACK" => Some(GangStrategy::StrictPack),
                "STRICT_SPREAD" => Some(GangStrategy::StrictSpread),
                _ => None,
            },
            rescheduling: state == "RESCHEDULING",
        }
    }
}

/// Strict strategies show in the constraints of the bundles; `PACK` and `SPREAD` can't be told apart there.
fn strategy_from_placement(bundles: &[Request]) -> GangStrategy {
    let mut placements = bundles.iter().flat_map(|bundle| &bundle.placement);
    match placements.next() {
        Some(PlacementConstraint::Affinity { .. }) => GangStrategy::StrictPack,
        Some(PlacementConstraint::AntiAffinity { .. }) => GangStrategy::StrictSpread,
        None => GangStrategy::Pack,
    }
}

fn id_from_placement(bundles: &[Request]) -> Option<String> {
    bundles.iter().flat_map(|bundle| &bundle.placement).find_map(|placement| {
        let (PlacementConstraint::Affinity { label, .. } | PlacementConstraint::AntiAffinity { label, .. }) = placement;
        label.strip_prefix(GANG_LABEL_PREFIX).map(str::to_owned)
    })
}

fn locality(wire: &gcs::LocalityRequirement) -> Locality {
    Locality {
        label: wire.label.clone(),
        strategy: match wire.strategy {
            gcs::PlacementStrategy::Pack => GangStrategy::Pack,
            gcs::PlacementStrategy::Spread => GangStrategy::Spread,
            gcs::PlacementStrategy::StrictPack => GangStrategy::StrictPack,
            gcs::PlacementStrategy::StrictSpread => GangStrategy::StrictSpread,
        },
        selector: selector(&wire.selector),
    }
}

fn placement(wire: &gcs::PlacementConstraint) -> impl Iterator<Item = PlacementConstraint> {
    let affinity = wire.affinity.clone().map(|(label, value)| PlacementConstraint::Affinity { label, value });
    let anti = wire.anti_affinity.clone().map(|(label, value)| PlacementConstraint::AntiAffinity { label, value });
    affinity.into_iter().chain(anti)
}

/// The GCS gives conditions and values in no particular order; sorted, equal selectors are equal.
fn selector(wire: &gcs::LabelSelector) -> LabelSelector {
    let constraints: BTreeSet<LabelConstraint> = wire
        .constraints
        .iter()
        .map(|constraint| LabelConstraint {
            key: constraint.key.clone(),
            operator: match constraint.operator {
                gcs::LabelOperator::In => LabelOperator::In,
                gcs::LabelOperator::NotIn => LabelOperator::NotIn,
                gcs::LabelOperator::Unspecified => LabelOperator::Unknown,
            },
            values: constraint.values.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
        })
        .collect();
    LabelSelector { constraints: constraints.into_iter().collect() }
}

/// Amounts of a request, or the first that can't be planned: not a number, negative, or beyond 64 bits of 1/10,000.
fn amounts(wire: &gcs::ResourceMap) -> Result<Resources, (&str, f64)> {
    wire.iter()
        .map(|(name, &units)| match Amount::from_f64(units) {
            Some(amount) if amount >= Amount::ZERO => Ok((name.clone(), amount)),
            _ => Err((name.as_str(), units)),
        })
        .collect()
}

/// Whether only a node of an already placed placement group can have this resource (`CPU_group_<id>`,
/// `CPU_group_0_<id>`, `bundle_group_…`): requests for it wait inside their group, and no new node helps them.
fn is_gang_resource(name: &str, gang_ids: &BTreeSet<String>) -> bool {
    // A user may call a resource `my_group_a`: only what looks like an id, or is one, counts.
    is_of_placed_gang(name) || gang_in_name(name).is_some_and(|id| gang_ids.contains(id))
}

/// The same by the name alone: of each placement group there are such names of its own.
pub(crate) fn is_of_placed_gang(name: &str) -> bool {
    let is_id = |id: &str| id.len() == GANG_ID_HEX_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.starts_with("bundle_group_") || gang_in_name(name).is_some_and(is_id)
}

/// What stands where such a name has the id of its placement group.
fn gang_in_name(name: &str) -> Option<&str> {
    let (_, tail) = name.rsplit_once("_group_")?;
    match tail.split_once('_') {
        Some((index, id)) if index.bytes().all(|byte| byte.is_ascii_digit()) => Some(id),
        _ => Some(tail),
    }
}

fn shape_text(resources: &gcs::ResourceMap) -> String {
    let entries: Vec<String> =
        resources.iter().map(|(name, units)| format!("{name}: {}", units_text(*units))).collect();
    format!("{{{}}}", entries.join(", "))
}

/// Absurd amounts have hundreds of digits.
fn units_text(units: f64) -> String {
    if units.abs() < 1e18 { units.to_string() } else { format!("{units:e}") }
}

impl Demand {
    /// Every request: of tasks, bundles of gangs and constraints.
    fn requests(&self) -> impl Iterator<Item = &Request> {
        let constraints = self.constraints.iter().flat_map(|constraint| &constraint.requests);
        let classes = self.tasks.iter().chain(constraints).map(|class| &class.request);
        classes.chain(self.gangs.iter().flat_map(|gang| &gang.bundles))
    }

    /// Whether any request selects nodes by this label.
    pub(super) fn selects_by(&self, label: &str) -> bool {
        let localities = || self.gangs.iter().filter_map(|gang| gang.locality.as_ref());
        let selectors = self.requests().flat_map(|request| &request.selectors);
        let mut constraints = selectors.chain(localities().map(|l| &l.selector)).flat_map(|s| &s.constraints);
        constraints.any(|constraint| constraint.key == label) || localities().any(|locality| locality.label == label)
    }

    /// Whether any request is for a resource whose name starts so.
    pub(super) fn asks_for(&self, prefix: &str) -> bool {
        self.requests().any(|request| request.resources.keys().any(|name| name.starts_with(prefix)))
    }
}
