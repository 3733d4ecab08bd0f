//! Worker groups, requests and placement groups in few words, for made-up problems of the planner.

use std::sync::Arc;

use mobula_planner::{
    Amount, CapacityType, Gang, GangStrategy, LabelConstraint, LabelOperator, LabelSelector, Labels, Node, NodeType,
    Offering, PlacementConstraint, Request, Resources,
};

/// Unix time in ms of every made-up snapshot.
pub const NOW_MS: i64 = 1_767_225_600_000;

/// Amounts in whole units.
pub fn resources(amounts: &[(&str, i64)]) -> Arc<Resources> {
    let listed = amounts.iter().filter(|(_, units)| *units > 0);
    Arc::new(listed.map(|(name, units)| ((*name).to_owned(), Amount::from_units(*units))).collect())
}

/// A group of one-host replicas without maximum, at a price in thousandths an hour and host.
pub fn group(name: &str, thousandths_per_hour: u64, amounts: &[(&str, i64)]) -> NodeType {
    let offering = Offering {
        price_per_hour: thousandths_per_hour as f64 / 1000.0,
        capacity_type: CapacityType::OnDemand,
        zone: None,
    };
    NodeType {
        name: name.to_owned(),
        resources: resources(amounts),
        num_of_hosts: 1,
        max_replicas: 100_000,
        offerings: vec![offering],
        ..NodeType::default()
    }
}

/// The same group with one Ray label.
pub fn labelled(group: NodeType, key: &str, value: &str) -> NodeType {
    NodeType { labels: Arc::new(Labels::from([(key.to_owned(), value.to_owned())])), ..group }
}

/// A request without conditions.
pub fn request(amounts: &[(&str, i64)]) -> Request {
    Request { resources: resources(amounts), selectors: vec![LabelSelector::default()], placement: Vec::new() }
}

/// The same request with so many tenths of a CPU.
pub fn with_cpu(request: Request, tenths: i64) -> Request {
    let mut resources = Resources::clone(&request.resources);
    resources.insert("CPU".to_owned(), Amount::from_steps(tenths * Amount::STEPS_PER_UNIT / 10));
    Request { resources: Arc::new(resources), ..request }
}

/// The same request for nodes with one value of a label only.
pub fn pinned(request: Request, key: &str, value: &str) -> Request {
    let constraint =
        LabelConstraint { key: key.to_owned(), operator: LabelOperator::In, values: vec![value.to_owned()] };
    Request { selectors: vec![LabelSelector { constraints: vec![constraint] }], ..request }
}

/// A pending placement group; `number` becomes its id. The bundles get the constraints that Ray's GCS would send.
pub fn gang(number: usize, strategy: GangStrategy, bundles: impl IntoIterator<Item = (Request, usize)>) -> Gang {
    let id = format!("{number:036x}");
    let (label, value) = (format!("_PG_{id}"), String::new());
    let (placement, word) = match strategy {
        GangStrategy::Pack => (vec![], "PACK"),
        GangStrategy::Spread => (vec![], "SPREAD"),
        GangStrategy::StrictPack => (vec![PlacementConstraint::Affinity { label, value }], "STRICT_PACK"),
        GangStrategy::StrictSpread => (vec![PlacementConstraint::AntiAffinity { label, value }], "STRICT_SPREAD"),
    };
    let placed = |(request, count)| std::iter::repeat_n(Request { placement: placement.clone(), ..request }, count);
    let bundles = bundles.into_iter().flat_map(placed).collect();
    // Ages in the order of the numbers, a second apart.
    let created_ms = Some(NOW_MS - 3_600_000 + number as i64 * 1000);
    Gang { details: format!("{id}:{word}|PENDING"), id, strategy, bundles, created_ms, ..Gang::default() }
}

/// A Ray node of the group of which so many tenths are in use.
pub fn node(group: &NodeType, number: usize, tenths_used: u64) -> Node {
    let left =
        |amount: &Amount| Amount::from_units(amount.steps() / Amount::STEPS_PER_UNIT * (10 - tenths_used as i64) / 10);
    let available = group.resources.iter().map(|(name, amount)| (name.clone(), left(amount)));
    Node {
        instance_id: format!("{}-{number:05}", group.name).into(),
        ray_node_id: Some(format!("{number:056x}")),
        group: group.name.as_str().into(),
        total: Arc::clone(&group.resources),
        available: Arc::new(available.filter(|(_, amount)| amount.steps() > 0).collect()),
        labels: Arc::clone(&group.labels),
        idle_ms: (tenths_used == 0).then_some(1_000),
        ..Node::default()
    }
}
