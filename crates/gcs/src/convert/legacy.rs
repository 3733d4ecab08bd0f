//! The demand of a v1 head, brought into the form of v2.

use std::collections::BTreeMap;

use super::state::{id_bytes, label_selector, strategy, to_label_selector, to_strategy};
use crate::id::hex;
use crate::proto;
use crate::proto::placement_group_table_data::PlacementGroupState;
use crate::types::{
    BundleSelector, GangRequest, LabelConstraint, LabelOperator, LabelSelector, LegacyDemand, LocalityRequirement,
    PlacementConstraint, PlacementStrategy, RequestByCount, ResourceMap, ResourceRequest,
};

/// Label of Ray's that a topology strategy names for single nodes; every strict strategy implies it.
const NODE_ID_LABEL: &str = "ray.io/node-id";

pub fn legacy_demand(usage: proto::ResourceUsageBatchData) -> LegacyDemand {
    let shapes = usage.resource_load_by_shape.unwrap_or_default().resource_demands;
    let groups = usage.placement_group_load.unwrap_or_default().placement_group_data;
    LegacyDemand {
        pending: shapes.into_iter().map(shape).filter(|counted| counted.count > 0).collect(),
        gangs: groups.into_iter().filter_map(group).collect(),
        constraints: vec![],
    }
}

fn shape(demand: proto::ResourceDemand) -> RequestByCount {
    let queued = demand.num_ready_requests_queued.saturating_add(demand.num_infeasible_requests_queued);
    let queued = i64::try_from(queued).unwrap_or(i64::MAX);
    RequestByCount {
        request: ResourceRequest {
            resources: demand.shape,
            placement: vec![],
            selectors: demand.label_selectors.into_iter().map(label_selector).collect(),
        },
        count: queued.saturating_add(demand.backlog_size.max(0)),
    }
}

/// Only groups that wait are demand, and of a group that lost nodes only the bundles that lost theirs.
fn group(group: proto::PlacementGroupTableData) -> Option<GangRequest> {
    let (state, all) = match PlacementGroupState::try_from(group.state) {
        Ok(PlacementGroupState::Pending) => ("PENDING", true),
        Ok(PlacementGroupState::Rescheduling) => ("RESCHEDULING", false),
        _ => return None,
    };
    let id = hex(&group.placement_group_id);
    let strategy = strategy(group.strategy);
    let placement = own_group_constraint(strategy, &id);
    let bundles: Vec<proto::Bundle> =
        group.bundles.into_iter().filter(|bundle| all || bundle.node_id.is_empty()).collect();
    let request = |bundle: &proto::Bundle, selectors| ResourceRequest {
        resources: bundle.unit_resources.clone(),
        placement: placement.clone(),
        selectors,
    };
    Some(GangRequest {
        requests: bundles.iter().map(|bundle| request(bundle, vec![])).collect(),
        details: format!("{id}:{}|{state}", strategy_name(strategy)),
        bundle_selectors: vec![BundleSelector {
            requests: bundles.iter().map(|bundle| request(bundle, selectors(&bundle.label_selector))).collect(),
            locality: locality(&group.topology_strategy),
        }],
    })
}

fn own_group_constraint(strategy: PlacementStrategy, id: &str) -> Vec<PlacementConstraint> {
    let label = Some((format!("_PG_{id}"), String::new()));
    match strategy {
        PlacementStrategy::Pack | PlacementStrategy::Spread => vec![],
        PlacementStrategy::StrictPack => vec![PlacementConstraint { affinity: label, anti_affinity: None }],
        PlacementStrategy::StrictSpread => vec![PlacementConstraint { affinity: None, anti_affinity: label }],
    }
}

fn strategy_name(strategy: PlacementStrategy) -> &'static str {
    match strategy {
        PlacementStrategy::Pack => "PACK",
        PlacementStrategy::Spread => "SPREAD",
        PlacementStrategy::StrictPack => "STRICT_PACK",
        PlacementStrategy::StrictSpread => "STRICT_SPREAD",
    }
}

fn locality(topology: &BTreeMap<String, i32>) -> Option<LocalityRequirement> {
    let (label, value) = topology.iter().find(|(label, _)| *label != NODE_ID_LABEL)?;
    Some(LocalityRequirement { label: label.clone(), strategy: strategy(*value), selector: LabelSelector::default() })
}

/// `v`, `!v`, `in(a,b)`, `!in(a,b)`.
fn selectors(written: &BTreeMap<String, String>) -> Vec<LabelSelector> {
    let condition = |(key, text): (&String, &String)| {
        let (operator, rest) = match text.strip_prefix('!') {
            Some(rest) => (LabelOperator::NotIn, rest),
            None => (LabelOperator::In, text.as_str()),
        };
        let list = rest.strip_prefix("in(").and_then(|list| list.strip_suffix(')'));
        let values = match list {
            Some(list) => list.split(',').map(|value| value.trim().to_owned()).collect(),
            None => vec![rest.to_owned()],
        };
        LabelConstraint { key: key.clone(), operator, values }
    };
    if written.is_empty() {
        vec![]
    } else {
        vec![LabelSelector { constraints: written.iter().map(condition).collect() }]
    }
}

/// For our own server. The strategy comes back out of `details`; a gang without an id has none there.
pub fn to_legacy_usage(demand: &LegacyDemand) -> proto::ResourceUsageBatchData {
    let shape = |counted: &RequestByCount| proto::ResourceDemand {
        shape: counted.request.resources.clone(),
        num_ready_requests_queued: u64::try_from(counted.count).unwrap_or_default(),
        label_selectors: counted.request.selectors.iter().map(to_label_selector).collect(),
        ..Default::default()
    };
    proto::ResourceUsageBatchData {
        resource_load_by_shape: Some(proto::ResourceLoad {
            resource_demands: demand.pending.iter().map(shape).collect(),
        }),
        placement_group_load: Some(proto::PlacementGroupLoad {
            placement_group_data: demand.gangs.iter().map(to_group).collect(),
        }),
    }
}

fn to_group(gang: &GangRequest) -> proto::PlacementGroupTableData {
    let (id, rest) = gang.details.split_once(':').unwrap_or_default();
    let (strategy, state) = rest.split_once('|').unwrap_or_default();
    let state = PlacementGroupState::from_str_name(state).unwrap_or(PlacementGroupState::Pending);
    let bundle = |request: &ResourceRequest| proto::Bundle {
        unit_resources: request.resources.clone(),
        label_selector: request.selectors.first().map(written).unwrap_or_default(),
        ..Default::default()
    };
    let selector = gang.bundle_selectors.first();
    let locality = selector.and_then(|selector| selector.locality.as_ref());
    proto::PlacementGroupTableData {
        placement_group_id: id_bytes(id),
        strategy: proto::PlacementStrategy::from_str_name(strategy).unwrap_or_default().into(),
        state: state.into(),
        bundles: selector.map_or(&gang.requests, |selector| &selector.requests).iter().map(bundle).collect(),
        topology_strategy: locality
            .map(|locality| (locality.label.clone(), to_strategy(locality.strategy).into()))
            .into_iter()
            .collect(),
        ..Default::default()
    }
}

/// The form in which a user writes a selector.
fn written(selector: &LabelSelector) -> BTreeMap<String, String> {
    let text = |condition: &LabelConstraint| {
        let not = if condition.operator == LabelOperator::NotIn { "!" } else { "" };
        (condition.key.clone(), format!("{not}in({})", condition.values.join(",")))
    };
    selector.constraints.iter().map(text).collect()
}

/// The JSON list of bundles that `request_resources` writes on a v1 head.
pub fn legacy_constraint(json: &[u8]) -> Result<Vec<RequestByCount>, serde_json::Error> {
    let bundles: Vec<ResourceMap> = serde_json::from_slice(json)?;
    let mut counted: Vec<RequestByCount> = vec![];
    for resources in bundles {
        if let Some(known) = counted.iter_mut().find(|known| known.request.resources == resources) {
            known.count += 1;
        } else {
            counted.push(RequestByCount { request: ResourceRequest { resources, ..Default::default() }, count: 1 });
        }
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(items: &[(&str, f64)]) -> ResourceMap {
        items.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect()
    }

    fn bundle(node_id: &[u8], selector: &[(&str, &str)]) -> proto::Bundle {
        proto::Bundle {
            unit_resources: map(&[("GPU", 8.0)]),
            node_id: node_id.into(),
            label_selector: selector.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_shape_counts_ready_infeasible_and_backlog() {
        let demand = proto::ResourceDemand {
            shape: map(&[("CPU", 1.0)]),
            num_ready_requests_queued: 2,
            num_infeasible_requests_queued: 3,
            backlog_size: 5,
            ..Default::default()
        };
        assert_eq!(shape(demand).count, 10);
        let absurd =
            proto::ResourceDemand { num_ready_requests_queued: u64::MAX, backlog_size: 9, ..Default::default() };
        assert_eq!(shape(absurd).count, i64::MAX);
    }

    #[test]
    fn a_waiting_group_reads_as_in_v2() {
        let table = proto::PlacementGroupTableData {
            placement_group_id: vec![0xab, 1],
            strategy: proto::PlacementStrategy::StrictSpread.into(),
            bundles: vec![bundle(&[], &[("rack", "!in(r1, r2)"), ("zone", "z1")])],
            topology_strategy: BTreeMap::from([(NODE_ID_LABEL.into(), 2), ("rack".into(), 2)]),
            ..Default::default()
        };
        let gang = group(table).unwrap();
        assert_eq!(gang.details, "ab01:STRICT_SPREAD|PENDING");
        let first = &gang.bundle_selectors[0];
        assert_eq!(first.requests[0].placement[0].anti_affinity, Some(("_PG_ab01".into(), String::new())));
        let conditions = &first.requests[0].selectors[0].constraints;
        assert_eq!((conditions[0].operator, conditions[0].values.len()), (LabelOperator::NotIn, 2));
        assert_eq!((conditions[1].operator, conditions[1].values[0].as_str()), (LabelOperator::In, "z1"));
        assert_eq!(first.locality.as_ref().unwrap().label, "rack");
    }

    #[test]
    fn a_group_that_lost_a_node_asks_for_that_bundle_only() {
        let mut table = proto::PlacementGroupTableData {
            state: PlacementGroupState::Rescheduling.into(),
            bundles: vec![bundle(&[1; 28], &[]), bundle(&[], &[])],
            ..Default::default()
        };
        assert_eq!(group(table.clone()).unwrap().requests.len(), 1);
        table.state = PlacementGroupState::Created.into();
        assert_eq!(group(table.clone()), None);
        table.state = 77;
        assert_eq!(group(table), None);
    }

    #[test]
    fn equal_bundles_are_counted() {
        let counted = legacy_constraint(br#"[{"CPU":1},{"GPU":8},{"CPU":1}]"#).unwrap();
        assert_eq!(counted.iter().map(|c| c.count).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(legacy_constraint(b"[]").unwrap(), []);
        assert!(legacy_constraint(b"{}").is_err());
    }
}
