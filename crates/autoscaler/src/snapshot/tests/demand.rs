use mobula_planner::{GangStrategy, LabelOperator, PlacementConstraint};

use super::*;

const ID: &str = "de850f0000000000000000000000000000ab";

fn request(entries: &[(&str, f64)]) -> gcs::ResourceRequest {
    gcs::ResourceRequest { resources: resources(entries), ..gcs::ResourceRequest::default() }
}

fn counted(request: gcs::ResourceRequest, count: i64) -> gcs::RequestByCount {
    gcs::RequestByCount { request, count }
}

fn with_selectors(selectors: &[&[(&str, gcs::LabelOperator, &[&str])]]) -> gcs::ResourceRequest {
    let constraint = |(key, operator, values): &(&str, gcs::LabelOperator, &[&str])| gcs::LabelConstraint {
        key: (*key).to_owned(),
        operator: *operator,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let selectors =
        selectors.iter().map(|all| gcs::LabelSelector { constraints: all.iter().map(constraint).collect() });
    gcs::ResourceRequest { selectors: selectors.collect(), ..request(&[("CPU", 1.0)]) }
}

fn of_pending(pending: Vec<gcs::RequestByCount>) -> Built {
    built(&observation(&[], gcs::ClusterState { pending, ..gcs::ClusterState::default() }, None))
}

fn of_gangs(gangs: Vec<gcs::GangRequest>) -> Built {
    built(&observation(&[], gcs::ClusterState { gangs, ..gcs::ClusterState::default() }, None))
}

fn gang(details: &str, bundles: Vec<gcs::ResourceRequest>) -> gcs::GangRequest {
    gcs::GangRequest {
        requests: bundles.clone(),
        details: details.to_owned(),
        bundle_selectors: vec![gcs::BundleSelector { requests: bundles, locality: None }],
    }
}

#[test]
fn requests_that_differ_only_in_the_order_of_values_are_one_class() {
    use gcs::LabelOperator::{In, NotIn};
    let one = with_selectors(&[&[("market", NotIn, &["spot", "preempt"]), ("rack", In, &["r1"])]]);
    let other = with_selectors(&[&[("rack", In, &["r1", "r1"]), ("market", NotIn, &["preempt", "spot"])]]);
    let snapshot = of_pending(vec![counted(one, 2), counted(other, 3)]).snapshot;
    assert_eq!(snapshot.demand.len(), 1);
    assert_eq!(snapshot.demand[0].count, 5);
    let constraints = &snapshot.demand[0].request.selectors[0].constraints;
    assert_eq!(constraints[0].values, ["preempt", "spot"]);
    assert_eq!((constraints[1].key.as_str(), constraints[1].operator), ("rack", LabelOperator::In));
}

#[test]
fn fall_backs_keep_their_order() {
    use gcs::LabelOperator::In;
    let request = with_selectors(&[&[("rack", In, &["r2"])], &[("rack", In, &["r1"])], &[]]);
    let snapshot = of_pending(vec![counted(request, 1)]).snapshot;
    let selectors = &snapshot.demand[0].request.selectors;
    assert_eq!(selectors[0].constraints[0].values, ["r2"]);
    assert_eq!(selectors[1].constraints[0].values, ["r1"]);
    assert!(selectors[2].constraints.is_empty());
}

#[test]
fn an_operator_of_a_newer_ray_is_never_satisfied() {
    let snapshot =
        of_pending(vec![counted(with_selectors(&[&[("rack", gcs::LabelOperator::Unspecified, &["r"])]]), 1)]).snapshot;
    assert_eq!(snapshot.demand[0].request.selectors[0].constraints[0].operator, LabelOperator::Unknown);
}

#[test]
fn requests_inside_a_pending_placement_group_are_not_demand() {
    let inside = [
        format!("CPU_group_{ID}"),
        format!("GPU_group_0_{ID}"),
        "bundle_group_0_whatever".to_owned(),
        // Known by the gang's own id, although it is too short for one.
        "CPU_group_ab12".to_owned(),
    ];
    let mut pending: Vec<_> = inside.iter().map(|name| counted(request(&[("CPU", 1.0), (name, 1.0)]), 1)).collect();
    pending.push(counted(request(&[("my_group_a", 1.0)]), 1));
    let gangs = vec![gang("ab12:PACK|PENDING", vec![request(&[("CPU", 1.0)])])];
    let built = built(&observation(&[], gcs::ClusterState { pending, gangs, ..gcs::ClusterState::default() }, None));
    assert_eq!(built.warnings, Vec::<String>::new());
    assert_eq!(built.snapshot.demand.len(), 1);
    assert!(built.snapshot.demand[0].request.resources.contains_key("my_group_a"));
}

#[test]
fn counts_and_amounts_without_sense_are_left_out_and_named() {
    let built = of_pending(vec![
        counted(request(&[("CPU", 1.0)]), 0),
        counted(request(&[("CPU", 2.0)]), -5),
        counted(request(&[("GPU", f64::NAN)]), 1),
        counted(request(&[("GPU", -1.0)]), 1),
        counted(request(&[("memory", 1e300)]), 1),
        counted(request(&[("CPU", 3.0)]), 1),
    ]);
    assert_eq!(built.snapshot.demand.len(), 1);
    assert_eq!(built.warnings.len(), 5);
    assert_eq!(built.warnings[1], "pending request {CPU: 2}: count -5 is not positive: left out");
    assert_eq!(
        built.warnings[2],
        "pending request {GPU: NaN}: GPU: NaN is not an amount that can be planned: left out"
    );
}

#[test]
fn a_flood_of_bad_entries_gives_a_bounded_number_of_warnings() {
    let built = of_pending((0..5000).map(|_| counted(request(&[("CPU", -1.0)]), 1)).collect());
    assert_eq!(built.warnings.len(), 101);
    assert_eq!(built.warnings[100], "4901 more warnings");
}

#[test]
fn as_many_shapes_or_gangs_as_ray_reports_at_most_may_be_more() {
    let shapes = (1..=100).map(|n| counted(request(&[("CPU", f64::from(n))]), 1)).collect();
    assert!(of_pending(shapes).warnings[0].starts_with("100 shapes of tasks and actors are pending, possibly more"));
    let gangs = (0..1000).map(|_| gang("", vec![request(&[("CPU", 1.0)])])).collect();
    assert!(of_gangs(gangs).warnings[0].starts_with("1000 placement groups are pending, possibly more"));
}

#[test]
fn an_empty_gang_is_skipped() {
    let built = of_gangs(vec![gcs::GangRequest::default(), gang("", vec![])]);
    assert_eq!((built.snapshot.gangs, built.warnings), (vec![], vec![]));
}

#[test]
fn a_gang_with_only_one_of_its_two_lists_is_planned_from_that() {
    let legacy = gcs::GangRequest { requests: vec![request(&[("CPU", 1.0)])], ..gcs::GangRequest::default() };
    let newer = gcs::GangRequest { requests: vec![], ..gang("", vec![request(&[("CPU", 2.0)])]) };
    let built = of_gangs(vec![legacy, newer]);
    assert_eq!(built.warnings, Vec::<String>::new());
    let sizes: Vec<usize> = built.snapshot.gangs.iter().map(|gang| gang.bundles.len()).collect();
    assert_eq!(sizes, [1, 1]);
}

#[test]
fn bundles_come_from_the_list_that_has_label_selectors() {
    let selected = with_selectors(&[&[("rack", gcs::LabelOperator::In, &["r1"])]]);
    let half =
        gcs::GangRequest { requests: vec![request(&[("CPU", 1.0)])], ..gang("", vec![selected.clone(), selected]) };
    let built = of_gangs(vec![half]);
    assert_eq!(built.snapshot.gangs[0].bundles.len(), 2);
    assert_eq!(built.snapshot.gangs[0].bundles[0].selectors[0].constraints[0].key, "rack");
    assert_eq!(built.warnings.len(), 1, "{:?}", built.warnings);
}

#[test]
fn a_gang_with_one_bundle_that_makes_no_sense_is_left_out_as_a_whole() {
    let built = of_gangs(vec![gang("", vec![request(&[("CPU", 1.0)]), request(&[("GPU", f64::INFINITY)])])]);
    assert_eq!(built.snapshot.gangs, vec![]);
    assert!(built.warnings[0].contains("GPU: inf"), "{:?}", built.warnings);
}

#[test]
fn strategy_state_and_id_come_from_the_details() {
    let bundles = || vec![request(&[("CPU", 1.0)])];
    let built = of_gangs(vec![
        gang(&format!("{ID}:SPREAD|RESCHEDULING"), bundles()),
        gang(&format!("{ID}:STRICT_PACK|PENDING"), bundles()),
        gang("garbage", bundles()),
    ]);
    let seen: Vec<_> = built.snapshot.gangs.iter().map(|g| (g.id.as_str(), g.strategy, g.rescheduling)).collect();
    assert_eq!(
        seen,
        [(ID, GangStrategy::Spread, true), (ID, GangStrategy::StrictPack, false), ("", GangStrategy::Pack, false),]
    );
}

#[test]
fn without_details_the_strategy_and_id_come_from_the_placement_constraints() {
    let label = Some((format!("_PG_{ID}"), String::new()));
    let together = gcs::PlacementConstraint { affinity: label.clone(), anti_affinity: None };
    let apart = gcs::PlacementConstraint { affinity: None, anti_affinity: label };
    let bundle = |placement| gcs::ResourceRequest { placement: vec![placement], ..request(&[("CPU", 1.0)]) };
    let gangs = of_gangs(vec![gang("", vec![bundle(together)]), gang("", vec![bundle(apart)])]).snapshot.gangs;
    assert_eq!((gangs[0].strategy, gangs[0].id.as_str()), (GangStrategy::StrictPack, ID));
    assert_eq!((gangs[1].strategy, gangs[1].id.as_str()), (GangStrategy::StrictSpread, ID));
    assert!(matches!(gangs[1].bundles[0].placement[..], [PlacementConstraint::AntiAffinity { .. }]));
}

#[test]
fn the_age_of_a_gang_is_known_where_the_gcs_told_it() {
    let gangs = vec![gang(&format!("{ID}:PACK|PENDING"), vec![request(&[("CPU", 1.0)])])];
    let mut observation = observation(&[], gcs::ClusterState { gangs, ..gcs::ClusterState::default() }, None);
    observation.gang_created_ms.insert(ID.to_owned(), 77);
    assert_eq!(built(&observation).snapshot.gangs[0].created_ms, Some(77));
}

#[test]
fn request_resources_of_nothing_asks_for_nothing() {
    let constraints = vec![vec![], vec![counted(request(&[("CPU", 1.0)]), 2), counted(request(&[("CPU", 1.0)]), 3)]];
    let snapshot = clean(&observation(&[], gcs::ClusterState { constraints, ..gcs::ClusterState::default() }, None));
    assert_eq!(snapshot.constraints.len(), 1);
    assert_eq!(snapshot.constraints[0].requests.len(), 1);
    assert_eq!(snapshot.constraints[0].requests[0].count, 5);
}
