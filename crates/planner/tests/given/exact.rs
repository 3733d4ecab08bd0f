//! The optimum of small problems: dynamic programming over the subsets of what is asked for, exact in integers.
//!
//! It shares no code with any policy. `benches` includes this file too.

use std::collections::BTreeMap;

use mobula_planner::{
    Gang, GangStrategy, LabelConstraint, LabelOperator, Labels, NodePhase, NodeType, PlacementConstraint, Request,
    Resources, Snapshot,
};

/// Most items: the time grows threefold with each.
pub const MOST_ITEMS: usize = 13;

/// What can only be placed as one.
struct Item<'a> {
    /// All of them on the same host.
    requests: Vec<&'a Request>,
    /// Items with the same number go to different hosts.
    apart: Option<usize>,
}

/// Subsets of the items, as bits.
type Set = usize;

/// What all items of each subset need together, and which subsets may share a host.
struct Table<'a> {
    items: Vec<Item<'a>>,
    names: Vec<&'a str>,
    /// By subset, then by name.
    needs: Vec<Vec<i128>>,
    may_share: Vec<bool>,
}

/// The least price an hour of launches that serve everything, with whatever is free already; `None`: it can't all be served,
/// there are too many items, or a group has no price.
pub fn least_cost(snapshot: &Snapshot) -> Option<f64> {
    let table = Table::new(items(snapshot)?);
    let sets = table.needs.len();
    let mut least = vec![f64::INFINITY; sets];
    least[0] = 0.0;
    for node in &snapshot.nodes {
        let free = match node.phase {
            NodePhase::Running => &node.available,
            NodePhase::Pending | NodePhase::Requested => &node.total,
            NodePhase::Leaving | NodePhase::Stopped => continue,
        };
        let mut labels = Labels::clone(&node.labels);
        labels.extend(node.dynamic_labels.iter().map(|(key, value)| (key.clone(), value.clone())));
        let fits = table.fits(free, &labels);
        least = join(&least, |set| if fits[set] { 0.0 } else { f64::INFINITY });
    }
    for group in snapshot.node_types.iter().filter(|group| !group.is_head && !group.suspended) {
        let costs = group_costs(&table, group)?;
        least = join(&least, |set| costs[set]);
    }
    least.last().copied().filter(|cost| cost.is_finite())
}

/// For every subset: the least cost when one more holder takes some part of it.
fn join(before: &[f64], cost: impl Fn(Set) -> f64) -> Vec<f64> {
    let best = |set: Set| {
        let mut least = before[set];
        let mut part = set;
        while part > 0 {
            least = least.min(before[set & !part] + cost(part));
            part = (part - 1) & set;
        }
        least
    };
    (0..before.len()).map(best).collect()
}

/// What it costs to serve each subset by hosts of this group alone, in whole replicas within its maximum.
fn group_costs(table: &Table<'_>, group: &NodeType) -> Option<Vec<f64>> {
    let price = group.offerings.iter().map(|offering| offering.price_per_hour).min_by(f64::total_cmp)?;
    let mut labels = group.facts.expected_labels.clone();
    labels.extend(group.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    let fits = table.fits(&group.resources, &labels);
    // Fewest hosts: the one that takes the first item of the subset takes some of the others too.
    let mut hosts: Vec<Option<u32>> = vec![None; fits.len()];
    hosts[0] = Some(0);
    for set in 1..fits.len() {
        let first = set & set.wrapping_neg();
        let mut others = set & !first;
        loop {
            if fits[others | first]
                && let Some(rest) = hosts[set & !(others | first)]
            {
                hosts[set] = Some(hosts[set].map_or(rest + 1, |known| known.min(rest + 1)));
            }
            if others == 0 {
                break;
            }
            others = (others - 1) & (set & !first);
        }
    }
    let per_replica = group.num_of_hosts.max(1);
    let most = group.max_replicas.saturating_sub(group.requested_replicas);
    let cost = |hosts: Option<u32>| {
        let replicas = hosts.map(|hosts| hosts.div_ceil(per_replica)).filter(|replicas| *replicas <= most);
        replicas.map_or(f64::INFINITY, |replicas| f64::from(replicas) * f64::from(per_replica) * price)
    };
    Some(hosts.into_iter().map(cost).collect())
}

fn items(snapshot: &Snapshot) -> Option<Vec<Item<'_>>> {
    let mut items = Vec::new();
    for class in &snapshot.demand {
        let count = usize::try_from(class.count).ok().filter(|count| *count <= MOST_ITEMS)?;
        items.extend((0..count).map(|_| Item { requests: vec![&class.request], apart: None }));
    }
    for (number, gang) in snapshot.gangs.iter().enumerate() {
        items.extend(bundles(number, gang));
    }
    (items.len() <= MOST_ITEMS).then_some(items)
}

fn bundles(number: usize, gang: &Gang) -> Vec<Item<'_>> {
    let apart = (gang.strategy == GangStrategy::StrictSpread).then_some(number);
    match gang.strategy {
        GangStrategy::StrictPack => vec![Item { requests: gang.bundles.iter().collect(), apart }],
        _ => gang.bundles.iter().map(|bundle| Item { requests: vec![bundle], apart }).collect(),
    }
}

impl<'a> Table<'a> {
    fn new(items: Vec<Item<'a>>) -> Self {
        let requests = || items.iter().flat_map(|item| &item.requests);
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        for name in requests().flat_map(|request| request.resources.keys()) {
            let next = numbers.len();
            numbers.entry(name).or_insert(next);
        }
        let mut names = vec![""; numbers.len()];
        for (name, number) in numbers {
            names[number] = name;
        }
        let sets = 1 << items.len();
        let (mut needs, mut may_share) = (vec![vec![0; names.len()]; sets], vec![true; sets]);
        for set in 1..sets {
            let (first, rest) = (set.trailing_zeros() as usize, set & (set - 1));
            for (at, name) in names.iter().enumerate() {
                let of_item = items[first].requests.iter().filter_map(|request| request.resources.get(*name));
                needs[set][at] = needs[rest][at] + of_item.map(|amount| i128::from(amount.steps())).sum::<i128>();
            }
            let is_other = |other: usize| rest & (1 << other) != 0 && items[other].apart == items[first].apart;
            may_share[set] = may_share[rest] && (items[first].apart.is_none() || !(0..items.len()).any(is_other));
        }
        Table { items, names, needs, may_share }
    }

    /// Which subsets one host with so much room and these labels can hold.
    fn fits(&self, room: &Resources, labels: &Labels) -> Vec<bool> {
        let room: Vec<i128> =
            self.names.iter().map(|name| room.get(*name).map_or(0, |amount| i128::from(amount.steps()))).collect();
        let allowed = self.items.iter().enumerate().filter(|(_, item)| item.requests.iter().all(|r| goes(r, labels)));
        let allowed = allowed.fold(0, |set, (at, _)| set | (1 << at));
        let holds = |set: Set| {
            let enough = || self.needs[set].iter().zip(&room).all(|(need, room)| need <= room);
            set & !allowed == 0 && self.may_share[set] && enough()
        };
        (0..self.needs.len()).map(holds).collect()
    }
}

/// Whether a host with these labels may take the request.
fn goes(request: &Request, labels: &Labels) -> bool {
    let holds = |constraint: &LabelConstraint| {
        let listed = labels.get(&constraint.key).is_some_and(|value| constraint.values.contains(value));
        match constraint.operator {
            LabelOperator::In => listed,
            LabelOperator::NotIn => !listed,
            LabelOperator::Unknown => false,
        }
    };
    let spread = |placement: &PlacementConstraint| match placement {
        PlacementConstraint::AntiAffinity { label, value } => labels.get(label) != Some(value),
        PlacementConstraint::Affinity { .. } => true,
    };
    let any = |request: &Request| request.selectors.iter().any(|selector| selector.constraints.iter().all(holds));
    (request.selectors.is_empty() || any(request)) && request.placement.iter().all(spread)
}
