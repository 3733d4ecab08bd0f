//! What a host costs: its price where prices are known, else how scarce it is.
//!
//! Scarcity is a price that any list of groups yields: accelerators weigh far more than processors and memory, so that work
//! without accelerators stays off hosts that have some; and a little more on large hosts than on small ones, so that small
//! work stays off whole large ones. With prices, price alone decides; scarcity only chooses between equal ones.

use crate::{CapacityType, NodeType, Offering, Resources, Snapshot};

/// Weights of scarcity, by unit.
const CPU: f64 = 1.0;
const MEMORY_GIB: f64 = 0.125;
const ACCELERATOR: f64 = 100.0;
/// Any other resource that is declared to Ray for a purpose, whatever its amount.
const CUSTOM: f64 = 10.0;
/// By how much scarcity tells groups of equal price apart, relative to the price.
const TIE: f64 = 1e-6;
/// A group without a price among groups with one counts as dear as the dearest, and this much dearer.
const UNPRICED: f64 = 2.0;

/// Resource names of accelerators that Ray knows.
const ACCELERATORS: [&str; 6] = ["GPU", "TPU", "HPU", "NPU", "neuron_cores", "RBLN"];

/// Costs of one host of each group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prices {
    /// By group: what decides.
    pub cost: Vec<f64>,
    /// By group: price an hour; 0 where no prices are known.
    pub per_hour: Vec<f64>,
    /// Whether prices are known.
    pub is_priced: bool,
    /// Groups that have no price although others have.
    pub unpriced: Vec<usize>,
}

impl Prices {
    /// Costs of the groups of a snapshot.
    pub fn new(snapshot: &Snapshot) -> Self {
        let scarcity: Vec<f64> = snapshot.node_types.iter().map(|group| scarcity(&group.resources)).collect();
        let prices: Vec<Option<f64>> = snapshot.node_types.iter().map(price).collect();
        let is_priced = prices.iter().any(Option::is_some);
        if !is_priced {
            return Prices { per_hour: vec![0.0; scarcity.len()], cost: scarcity, is_priced, unpriced: Vec::new() };
        }
        // What a unit of scarcity costs at most among those with a price, what is reserved included.
        let listed =
            snapshot.node_types.iter().map(|group| cheapest(group.offerings.iter().map(|it| it.price_per_hour)));
        let rates = listed.zip(&scarcity).filter_map(|(price, scarcity)| Some(price? / scarcity));
        let dearest = rates.fold(0.0, f64::max);
        let dearest = if dearest > 0.0 { dearest } else { 1.0 };
        let most = scarcity.iter().copied().fold(0.0, f64::max);
        let positive = prices.iter().flatten().copied().filter(|price| *price > 0.0);
        let least = positive.fold(f64::MAX, f64::min);
        let least = if least == f64::MAX { 1.0 } else { least };
        let mut costs = Prices { cost: Vec::new(), per_hour: Vec::new(), is_priced, unpriced: Vec::new() };
        for (at, (price, scarcity)) in prices.into_iter().zip(&scarcity).enumerate() {
            let group = &snapshot.node_types[at];
            if price.is_none() && !group.is_head && !group.suspended && group.max_replicas > 0 {
                costs.unpriced.push(at);
            }
            let price = price.unwrap_or(dearest * scarcity * UNPRICED);
            costs.per_hour.push(price);
            // What is free is told apart, too, by less than any price.
            let tie = if price > 0.0 { price * TIE } else { least * TIE * TIE };
            costs.cost.push(price + tie * scarcity / most);
        }
        costs
    }
}

/// What one more host of a group costs an hour, paid in the cheapest way; `None`: unknown. Which way it is, Kubernetes decides.
/// What is reserved is paid for whether it is used or not, so one more host of it costs nothing.
pub(super) fn price(group: &NodeType) -> Option<f64> {
    let price = |offering: &Offering| match offering.capacity_type {
        CapacityType::Reserved => 0.0,
        CapacityType::OnDemand | CapacityType::Spot => offering.price_per_hour,
    };
    cheapest(group.offerings.iter().map(price))
}

fn cheapest(prices: impl Iterator<Item = f64>) -> Option<f64> {
    prices.filter(|price| price.is_finite() && *price >= 0.0).min_by(f64::total_cmp)
}

/// How scarce a host with these resources is; always positive.
fn scarcity(resources: &Resources) -> f64 {
    let (mut sum, mut accelerators) = (1.0 / 1024.0, 0.0);
    for (name, amount) in resources {
        let units = amount.as_f64().max(0.0);
        match name.as_str() {
            "CPU" => sum += CPU * units,
            "memory" => sum += MEMORY_GIB * units / f64::from(1 << 30),
            "object_store_memory" => {}
            name if ACCELERATORS.contains(&name) => accelerators += units,
            name if name.starts_with("node:") => {}
            _ if units > 0.0 => sum += CUSTOM,
            _ => {}
        }
    }
    sum + ACCELERATOR * accelerators * (1.0 + accelerators / (accelerators + 8.0) / 50.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Amount;

    fn group(name: &str, cpus: i64, gpus: i64, price: Option<f64>) -> NodeType {
        let amounts = [("CPU", cpus), ("GPU", gpus)].map(|(name, units)| (name.to_owned(), Amount::from_units(units)));
        let offering = |price_per_hour| Offering { price_per_hour, ..Offering::default() };
        NodeType {
            name: name.to_owned(),
            max_replicas: 10,
            resources: Arc::new(amounts.into()),
            offerings: price.map(offering).into_iter().collect(),
            ..NodeType::default()
        }
    }

    fn prices(groups: Vec<NodeType>) -> Prices {
        Prices::new(&Snapshot { node_types: groups, ..Snapshot::default() })
    }

    #[test]
    fn without_prices_accelerators_are_dearer_than_any_number_of_processors_and_small_hosts_come_first() {
        let costs = prices(vec![group("cpu", 64, 0, None), group("one", 4, 1, None), group("eight", 32, 8, None)]);
        assert!(!costs.is_priced);
        assert!(costs.cost[0] < costs.cost[1]);
        assert!(8.0 * costs.cost[1] < costs.cost[2], "{:?}", costs.cost);
    }

    #[test]
    fn what_is_reserved_is_paid_for_already() {
        let offering = |price_per_hour, capacity_type| Offering { price_per_hour, capacity_type, zone: None };
        let reserved = vec![offering(9.0, CapacityType::OnDemand), offering(5.0, CapacityType::Reserved)];
        let cheap = vec![offering(3.0, CapacityType::Spot), offering(9.0, CapacityType::OnDemand)];
        let with = |offerings| NodeType { offerings, ..group("g", 8, 1, None) };
        let costs = prices(vec![with(reserved), with(cheap)]);
        assert_eq!(costs.per_hour, [0.0, 3.0]);
        assert!(costs.cost[0] < costs.cost[1]);
        // What nobody knows the price of is dear, even if all that is known is reserved.
        let reserved = vec![offering(5.0, CapacityType::Reserved)];
        let costs = prices(vec![NodeType { offerings: reserved, ..group("g", 64, 8, None) }, group("u", 32, 8, None)]);
        assert!(costs.cost[0] < costs.cost[1] && costs.cost[1] > 1.0, "{:?}", costs.cost);
        assert_eq!(costs.unpriced, [1]);
    }

    #[test]
    fn with_prices_the_price_decides_and_scarcity_only_between_equal_ones() {
        let costs = prices(vec![
            group("gpu", 8, 1, Some(1.0)),
            group("cpu", 8, 0, Some(1.0)),
            group("dear", 4, 0, Some(1.001)),
            group("unknown", 4, 0, None),
        ]);
        assert!(costs.cost[1] < costs.cost[0] && costs.cost[0] < costs.cost[2]);
        assert!(costs.cost[3] > costs.cost[2]);
        assert_eq!((costs.per_hour[0], costs.unpriced), (1.0, vec![3]));
    }
}
