//! Every invariant of what a plan says of places and gangs is noticed when it is broken.

mod given;

use std::sync::Arc;

use given::*;
use mobula_planner::{
    Amount, DemandRef, Gang, GangPlan, GangStrategy, GroupPlan, Host, LabelConstraint, LabelOperator, LabelSelector,
    Labels, Launch, Locality, Node, NodePhase, NodeResize, NodeType, Placement, Plan, Quota, Resources, Snapshot,
    Target, TopologyLevel, Unmet, UnmetCause, UnmetKind, lint,
};

const CPU: u32 = 0;
const GPU: u32 = 1;
const PAIR: u32 = 2;

fn labels(pairs: &[(&str, &str)]) -> Arc<Labels> {
    Arc::new(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

/// Three tasks, a gang for two GPU nodes, a gang for a pair of hosts; one CPU node and one GPU node are there.
fn observed() -> Snapshot {
    let cpu = group("cpu", &[("CPU", 4)]);
    let gpu = NodeType { labels: labels(&[("rack", "r1")]), ..group("gpu", &[("CPU", 32), ("GPU", 8)]) };
    let pair = NodeType { num_of_hosts: 2, ..group("pair", &[("TPU", 4)]) };
    let mut snapshot = cluster(&[&cpu, &gpu, &pair], vec![free(&cpu, "a"), free(&gpu, "g"), pending(&cpu, "p")]);
    snapshot.demand = vec![tasks(&[("CPU", 2)], 3)];
    snapshot.gangs = vec![
        gang("aa", GangStrategy::StrictSpread, &[("GPU", 8)], 2),
        gang("bb", GangStrategy::Pack, &[("TPU", 2)], 4),
    ];
    snapshot
}

fn at(demand: DemandRef, target: Target, count: u64) -> Placement {
    Placement { demand, target, count }
}

fn bundles(gang: u32, first_bundle: u32) -> DemandRef {
    DemandRef::Gang { gang, first_bundle }
}

fn new(group: u32, host: u32) -> Target {
    Target::New { group, replica: 0, host }
}

/// Launches of whole groups, and nothing said of demand.
fn launching(snapshot: &Snapshot, launches: &[(&str, u32)]) -> Plan {
    let mut plan = Plan::default();
    for group in &snapshot.node_types {
        let more = launches.iter().find(|(name, _)| *name == group.name).map_or(0, |(_, replicas)| *replicas);
        let requested = group.requested_replicas;
        let planned = GroupPlan {
            requested,
            desired: requested + more,
            min: group.min_replicas,
            max: group.max_replicas,
            ..GroupPlan::default()
        };
        plan.groups.insert(group.name.clone(), planned);
    }
    let launch = |(group, replicas): &(&str, u32)| Launch {
        group: (*group).to_owned(),
        replicas: *replicas,
        reason: "a test".to_owned(),
    };
    plan.launch = launches.iter().map(launch).collect();
    plan
}

fn served(id: &str, new: &[(&str, u32)], present_hosts: u32) -> GangPlan {
    let new_hosts = new.iter().map(|(group, hosts)| ((*group).to_owned(), *hosts)).collect();
    GangPlan { id: id.into(), served: true, new_hosts, present_hosts, ..GangPlan::default() }
}

/// A plan for [`observed`] that serves all.
fn all_served(snapshot: &Snapshot) -> Plan {
    let mut plan = launching(snapshot, &[("gpu", 1), ("pair", 1)]);
    plan.placements = vec![
        at(DemandRef::Class(0), Target::Node(0), 2),
        at(DemandRef::Class(0), Target::Node(2), 1),
        at(bundles(0, 0), Target::Node(1), 1),
        at(bundles(0, 1), new(GPU, 0), 1),
        at(bundles(1, 0), new(PAIR, 0), 2),
        at(bundles(1, 2), new(PAIR, 1), 2),
    ];
    plan.gangs = vec![served("aa", &[("gpu", 1)], 1), served("bb", &[("pair", 2)], 0)];
    plan
}

fn rules(snapshot: &Snapshot, plan: &Plan) -> Vec<&'static str> {
    lint(snapshot, plan).iter().map(|found| found.rule).collect()
}

/// The rules that a plan breaks after `spoil`; before, it breaks none.
fn broken(spoil: impl FnOnce(&mut Snapshot, &mut Plan)) -> Vec<&'static str> {
    let mut snapshot = observed();
    let mut plan = all_served(&snapshot);
    assert_eq!(lint(&snapshot, &plan), []);
    spoil(&mut snapshot, &mut plan);
    rules(&snapshot, &plan)
}

const NONE: [&str; 0] = [];

fn unmet(kind: UnmetKind, count: u64) -> Unmet {
    Unmet { kind, count, cause: UnmetCause::Limit, reason: "a test".into() }
}

#[test]
fn places_that_do_not_exist() {
    assert_eq!(broken(|_, plan| plan.placements[0].target = Target::Node(9)), ["placement-target", "served-or-unmet"]);
    assert_eq!(broken(|_, plan| plan.placements[0].target = new(CPU, 0)), ["placement-target", "served-or-unmet"]);
    assert_eq!(broken(|_, plan| plan.placements[0].target = new(7, 0)), ["placement-target", "served-or-unmet"]);
    let third_host = broken(|_, plan| plan.placements[5].target = new(PAIR, 2));
    assert_eq!(third_host, ["placement-target", "gang-whole", "gang-agreement"]);
}

#[test]
fn demand_that_does_not_exist() {
    assert_eq!(
        broken(|_, plan| plan.placements[0].demand = DemandRef::Class(1)),
        ["placement-demand", "served-or-unmet"]
    );
    assert_eq!(broken(|_, plan| plan.placements[0].count = 0), ["placement-demand", "served-or-unmet"]);
    assert_eq!(broken(|_, plan| plan.placements.push(at(bundles(1, 3), new(PAIR, 1), u64::MAX))), ["placement-demand"]);
    let unequal = broken(|snapshot, _| snapshot.gangs[1].bundles[1] = request(&[("TPU", 1)]));
    assert_eq!(unequal, ["placement-demand", "gang-whole", "gang-agreement"]);
}

#[test]
fn nodes_that_take_nothing() {
    for phase in [NodePhase::Leaving, NodePhase::Stopped] {
        let rules = broken(|snapshot, _| snapshot.nodes[2].phase = phase);
        assert_eq!(rules, ["placement-target", "served-or-unmet"]);
    }
    let suspended = broken(|snapshot, plan| {
        snapshot.node_types[0].suspended = true;
        snapshot.demand[0].count = 0;
        plan.placements.drain(..1);
    });
    assert_eq!(suspended, ["placement-target"]);
}

#[test]
fn a_node_that_the_plan_ends() {
    let mut snapshot = observed();
    snapshot.nodes[0].idle_ms = Some(100_000);
    let mut plan = all_served(&snapshot);
    plan.terminate = given::plan(&cluster(&[&group("cpu", &[("CPU", 4)])], vec![snapshot.nodes[0].clone()])).terminate;
    assert_eq!(ends(&plan), ["a"]);
    assert_eq!(rules(&snapshot, &plan), ["placement-target", "served-or-unmet"]);
}

#[test]
fn more_than_a_node_has() {
    let too_much = |target| {
        broken(|snapshot, plan| {
            snapshot.demand[0].count = 20;
            plan.placements[0].count = 3;
            plan.placements[1] = at(DemandRef::Class(0), target, 17);
        })
    };
    assert_eq!(too_much(Target::Node(1)), ["placement-capacity", "placement-capacity"]);
    assert_eq!(too_much(new(GPU, 0)), ["placement-capacity", "placement-capacity"]);
    let used = broken(|snapshot, _| snapshot.nodes[0].available = resources(&[("CPU", 3)]));
    assert_eq!(used, ["placement-capacity"]);
}

#[test]
fn all_of_a_node_on_its_way_will_be_free() {
    assert_eq!(broken(|snapshot, _| snapshot.nodes[2].available = Arc::default()), NONE);
}

#[test]
fn a_ten_thousandth_too_much() {
    let rules = |steps| {
        broken(|snapshot, _| {
            let has = Resources::from([("CPU".to_owned(), Amount::from_steps(steps))]);
            snapshot.nodes[0].available = Arc::new(has);
        })
    };
    assert_eq!((rules(40_000), rules(39_999)), (vec![], vec!["placement-capacity"]));
}

#[test]
fn every_node_has_one_of_an_implicit_resource() {
    let name = "node:__internal_implicit_resource_x";
    let rules = |count| {
        broken(|snapshot, plan| {
            snapshot.demand.push(tasks(&[(name, 1)], count));
            plan.placements.push(at(DemandRef::Class(1), Target::Node(0), count));
        })
    };
    assert_eq!((rules(1), rules(2)), (vec![], vec!["placement-capacity"]));
}

#[test]
fn a_node_that_grows_in_place() {
    let rules = |in_progress| {
        broken(|snapshot, plan| {
            let cpu = |units| Amount::from_units(units);
            let pod =
                NodeResize { current_cpu: cpu(4), desired_cpu: Some(cpu(6)), in_progress, ..NodeResize::default() };
            snapshot.nodes[0].resize = Some(pod);
            plan.placements[0].count = 3;
            plan.placements.remove(1);
        })
    };
    assert_eq!((rules(true), rules(false)), (vec![], vec!["placement-capacity"]));
}

#[test]
fn labels_that_are_asked_for() {
    let asks = |operator, value: &str| LabelSelector {
        constraints: vec![LabelConstraint { key: "rack".into(), operator, values: vec![value.into()] }],
    };
    let rules = |selectors: Vec<LabelSelector>, target| {
        broken(|snapshot, plan| {
            snapshot.demand[0].request.selectors = selectors;
            plan.placements[0].target = target;
            plan.placements[1].target = target;
        })
    };
    let (present, coming) = (Target::Node(1), new(GPU, 0));
    assert_eq!(rules(vec![asks(LabelOperator::In, "r1")], present), NONE);
    assert_eq!(rules(vec![asks(LabelOperator::In, "r1")], coming), NONE);
    assert_eq!(rules(vec![asks(LabelOperator::In, "r2")], present), ["placement-labels"; 2]);
    assert_eq!(rules(vec![asks(LabelOperator::In, "r2")], coming), ["placement-labels"; 2]);
    assert_eq!(rules(vec![asks(LabelOperator::In, "r2"), asks(LabelOperator::NotIn, "r2")], coming), NONE);
    assert_eq!(rules(vec![asks(LabelOperator::Unknown, "r1")], present), ["placement-labels"; 2]);
}

#[test]
fn labels_that_a_started_node_will_have() {
    let rules = |labelled: bool| {
        broken(|snapshot, plan| {
            let key = "ray.io/node-group".to_owned();
            let constraint =
                LabelConstraint { key: key.clone(), operator: LabelOperator::In, values: vec!["cpu".into()] };
            if labelled {
                snapshot.node_types[0].facts.expected_labels = Labels::from([(key, "cpu".into())]);
            }
            snapshot.demand[0].request.selectors = vec![LabelSelector { constraints: vec![constraint] }];
            // The node that runs has no such label: Ray has said so.
            plan.placements[0].target = Target::Node(2);
            snapshot.demand[0].count = 2;
            plan.placements.remove(1);
        })
    };
    assert_eq!((rules(true), rules(false)), (vec![], vec!["placement-labels"]));
}

#[test]
fn tasks_without_place_and_reason() {
    assert_eq!(broken(|snapshot, _| snapshot.demand[0].count = 4), ["served-or-unmet"]);
    assert_eq!(broken(|snapshot, _| snapshot.demand[0].count = 2), ["served-or-unmet"]);
    let said = broken(|snapshot, plan| {
        snapshot.demand[0].count = 4;
        plan.unmet.push(unmet(UnmetKind::Task(snapshot.demand[0].request.clone()), 1));
    });
    assert_eq!(said, NONE);
}

#[test]
fn half_a_gang() {
    let half = broken(|_, plan| {
        plan.placements.remove(3);
    });
    assert_eq!(half, ["gang-whole", "gang-agreement"]);
    assert_eq!(
        broken(|_, plan| plan.placements[5].demand = bundles(1, 1)),
        ["bundle-once", "gang-whole", "gang-agreement"]
    );
}

#[test]
fn a_gang_without_place() {
    let unserved = |plan: &mut Plan, snapshot: &Snapshot, tell: bool| {
        plan.placements.truncate(4);
        plan.gangs[1] = GangPlan { id: "bb".into(), reason: "a test".into(), ..GangPlan::default() };
        plan.unmet.extend(tell.then(|| unmet(UnmetKind::Gang(snapshot.gangs[1].clone()), 1)));
    };
    assert_eq!(broken(|snapshot, plan| unserved(plan, snapshot, true)), NONE);
    assert_eq!(broken(|snapshot, plan| unserved(plan, snapshot, false)), ["gang-agreement"]);
    let without_reason = broken(|snapshot, plan| {
        unserved(plan, snapshot, true);
        plan.gangs[1].reason.clear();
    });
    assert_eq!(without_reason, ["gang-reason"]);
    let both = broken(|snapshot, plan| plan.unmet.push(unmet(UnmetKind::Gang(snapshot.gangs[0].clone()), 1)));
    assert_eq!(both, ["gang-agreement"]);
}

#[test]
fn equal_gangs_without_ids_are_told_apart_by_what_is_said_of_them() {
    let rules = broken(|snapshot, plan| {
        snapshot.gangs[0].id.clear();
        let twin = snapshot.gangs[0].clone();
        snapshot.gangs.push(twin.clone());
        plan.gangs[0].id.clear();
        plan.gangs.push(GangPlan { reason: "a test".into(), ..GangPlan::default() });
        plan.unmet.push(unmet(UnmetKind::Gang(twin), 1));
    });
    assert_eq!(rules, NONE);
}

#[test]
fn gangs_of_which_nothing_or_something_else_is_said() {
    assert_eq!(broken(|_, plan| plan.gangs.truncate(1)), ["gangs-planned"]);
    assert_eq!(broken(|_, plan| plan.gangs[0].id = "cc".into()), ["gangs-planned"]);
    assert_eq!(broken(|_, plan| plan.gangs[0].present_hosts = 2), ["gang-hosts"]);
    assert_eq!(broken(|_, plan| plan.gangs[1].new_hosts.clear()), ["gang-hosts"]);
}

#[test]
fn gangs_for_one_host_and_for_many() {
    assert_eq!(broken(|snapshot, _| snapshot.gangs[1].strategy = GangStrategy::StrictPack), ["strict-pack"]);
    assert_eq!(broken(|snapshot, _| snapshot.gangs[1].strategy = GangStrategy::StrictSpread), ["strict-spread"]);
    let taken = broken(|snapshot, _| snapshot.nodes[1].dynamic_labels = labels(&[("_PG_aa", "")]));
    assert_eq!(taken, ["placement-spread"]);
}

fn in_one(label: &str) -> Option<Locality> {
    Some(Locality { label: label.into(), strategy: GangStrategy::StrictPack, selector: LabelSelector::default() })
}

#[test]
fn a_gang_in_one_domain() {
    let rules = |label: &str, rack: &str| {
        broken(|snapshot, _| {
            snapshot.gangs[0].locality = in_one(label);
            snapshot.nodes[1].labels = labels(&[("rack", rack)]);
        })
    };
    assert_eq!(rules("rack", "r1"), NONE);
    assert_eq!(rules("rack", "r2"), ["one-domain"]);
    // Without the label every host is a domain of its own.
    assert_eq!(rules("block", "r1"), ["one-domain"]);
    let single = broken(|snapshot, plan| {
        snapshot.gangs[1].locality = in_one("block");
        snapshot.gangs[1].bundles.truncate(2);
        plan.placements.truncate(5);
        plan.gangs[1] = served("bb", &[("pair", 1)], 0);
    });
    assert_eq!(single, NONE);
}

#[test]
fn a_gang_in_one_domain_of_a_level_that_a_group_requires() {
    let rules = |required: &str, said: Option<&str>, rack: &[(&str, &str)], strategy: GangStrategy| {
        broken(|snapshot, plan| {
            let keys = vec!["rack".to_owned()];
            snapshot.topology = vec![TopologyLevel { name: "row".into(), keys, ..TopologyLevel::default() }];
            snapshot.node_types[GPU as usize].facts.nearness.required = Some(required.to_owned());
            snapshot.nodes[1].labels = labels(rack);
            snapshot.gangs[0].strategy = strategy;
            plan.gangs[0].domain = said.map(str::to_owned);
        })
    };
    let (r1, r2, apart) = ([("rack", "r1")], [("rack", "r2")], GangStrategy::StrictSpread);
    assert_eq!(rules("row", Some("rack=r1"), &r1, apart), NONE);
    assert_eq!(rules("rack", Some("rack=r1"), &r1, apart), NONE);
    assert_eq!(rules("row", Some("rack=r1"), &r2, apart), ["one-domain"; 2], "neither true nor one domain");
    assert_eq!(rules("row", Some("rack=r2"), &r1, apart), ["one-domain"], "what is said is not true");
    assert_eq!(rules("row", None, &r1, apart), ["one-domain"], "nothing is said");
    assert_eq!(
        rules("row", Some("rack=r1"), &[], apart),
        ["one-domain"],
        "without the label it is a domain of its own"
    );
    assert_eq!(rules("aisle", Some("rack=r1"), &r1, apart), ["one-domain"], "no such level");
    // Sixteen GPUs are too many for one node, packed or not.
    assert_eq!(rules("row", None, &r1, GangStrategy::Pack), ["one-domain"]);
}

#[test]
fn nodes_to_come_without_the_label_are_where_the_plan_says() {
    let rules = |said: Option<&str>| {
        broken(|snapshot, plan| {
            snapshot.gangs[0].locality = in_one("rack");
            snapshot.node_types[GPU as usize].labels = Arc::default();
            plan.gangs[0].domain = said.map(str::to_owned);
        })
    };
    assert_eq!(rules(Some("rack=r1")), NONE);
    assert_eq!(rules(None), ["one-domain"]);
    assert_eq!(rules(Some("rack=r2")), ["one-domain"]);
}

#[test]
fn a_kubernetes_node_that_is_no_target() {
    let rules = |unfit: Option<&str>| {
        broken(|snapshot, _| {
            snapshot.hosts = vec![Host { name: "h".into(), unfit: unfit.map(str::to_owned), ..Host::default() }].into();
            snapshot.nodes[0].host = Some("h".into());
        })
    };
    assert_eq!((rules(None), rules(Some("cordoned"))), (vec![], vec!["placement-target", "served-or-unmet"]));
}

#[test]
fn a_gang_bound_to_a_domain() {
    let rules = |rack: &str| {
        broken(|snapshot, _| {
            let constraint =
                LabelConstraint { key: "rack".into(), operator: LabelOperator::In, values: vec![rack.into()] };
            let selector = LabelSelector { constraints: vec![constraint] };
            snapshot.gangs[0].locality = in_one("rack").map(|locality| Locality { selector, ..locality });
        })
    };
    assert_eq!((rules("r1"), rules("r2")), (vec![], vec!["one-domain"]));
}

#[test]
fn what_a_gang_lost_is_replaced_where_the_rest_is() {
    let rules = |rack: &str| {
        broken(|snapshot, _| {
            let gpu = snapshot.node_types[GPU as usize].clone();
            let rest = Node {
                labels: labels(&[("rack", rack)]),
                dynamic_labels: labels(&[("_PG_aa", "")]),
                ..busy(&gpu, "rest")
            };
            snapshot.nodes.push(rest);
            snapshot.gangs[0].rescheduling = true;
            snapshot.gangs[0].locality = in_one("rack");
        })
        .into_iter()
        .filter(|rule| *rule == "one-domain")
        .collect::<Vec<_>>()
    };
    assert_eq!((rules("r1"), rules("r2")), (vec![], vec!["one-domain"]));
}

#[test]
fn a_gang_in_one_fabric() {
    let rules = |said: Option<&str>, rail: &str, device: i64| {
        broken(|snapshot, plan| {
            snapshot.topology = vec![TopologyLevel {
                name: "rail".into(),
                keys: vec!["rail".to_owned()],
                is_fabric: true,
                max_hosts: None,
            }];
            let gpu = &mut snapshot.node_types[GPU as usize];
            gpu.facts.extended_resources = Resources::from([("rdma/hca".to_owned(), Amount::from_units(device))]);
            snapshot.nodes[1].labels = labels(&[("rail", rail)]);
            plan.gangs[0].fabric = said.map(str::to_owned);
        })
    };
    // The new host has no label yet: it is where the plan says.
    assert_eq!(rules(Some("rail=a"), "a", 8), NONE);
    assert_eq!(rules(Some("rail=a"), "b", 8), ["one-fabric"]);
    assert_eq!(rules(Some("rail=a"), "a", 0), ["one-fabric"; 2]);
    assert_eq!(rules(Some("group gpu"), "a", 8), NONE);
    assert_eq!(rules(Some("group cpu"), "a", 8), ["one-fabric"; 2]);
    assert_eq!(rules(None, "a", 8), NONE);
}

#[test]
fn a_gang_that_asks_for_rdma_by_name_is_said_to_be_in_one_fabric() {
    let rules = |said: Option<&str>| {
        broken(|snapshot, plan| {
            let needs = resources(&[("GPU", 8), ("rdma/hca", 1)]);
            snapshot.gangs[0].bundles.iter_mut().for_each(|bundle| bundle.resources = needs.clone());
            let gpu = resources(&[("CPU", 32), ("GPU", 8), ("rdma/hca", 8)]);
            snapshot.node_types[GPU as usize].resources = gpu.clone();
            (snapshot.nodes[1].total, snapshot.nodes[1].available) = (gpu.clone(), gpu);
            plan.gangs[0].fabric = said.map(str::to_owned);
        })
    };
    assert_eq!((rules(Some("group gpu")), rules(None)), (vec![], vec!["one-fabric"]));
}

#[test]
fn more_hosts_than_a_rack_has() {
    let rules = |domain: Option<&str>, max_hosts| {
        broken(|snapshot, plan| {
            plan.gangs[0].domain = domain.map(str::to_owned);
            let keys = vec!["topology/rack".to_owned(), "rack".to_owned()];
            snapshot.topology = vec![TopologyLevel { name: "rack".into(), keys, is_fabric: false, max_hosts }];
        })
    };
    let r1 = Some("rack=r1");
    assert_eq!((rules(r1, None), rules(r1, Some(2)), rules(r1, Some(1))), (vec![], vec![], vec!["domain-size"]));
    // A gang that is not kept in one rack may have hosts where it likes.
    assert_eq!(rules(None, Some(1)), NONE);
}

#[test]
fn hosts_that_are_there_already_are_no_fault_of_the_plan() {
    let rules = |rack: &str, domain: Option<&str>| {
        broken(|snapshot, plan| {
            let keys = vec!["rack".to_owned()];
            snapshot.topology = vec![TopologyLevel { name: "rack".into(), keys, is_fabric: false, max_hosts: Some(1) }];
            snapshot.hosts = vec![
                Host { name: "h1".into(), labels: labels(&[("rack", "r1")]), ..Host::default() },
                Host { name: "h2".into(), labels: labels(&[("rack", rack)]), ..Host::default() },
            ]
            .into();
            let gpu = NodeType { labels: Arc::default(), ..snapshot.node_types[GPU as usize].clone() };
            snapshot.nodes[1] = Node { host: Some("h1".into()), ..free(&gpu, "g") };
            snapshot.nodes.push(Node { host: Some("h2".into()), ..free(&gpu, "h") });
            *plan = Plan {
                placements: plan.placements.clone(),
                gangs: plan.gangs.clone(),
                ..launching(snapshot, &[("pair", 1)])
            };
            snapshot.node_types[GPU as usize].requested_replicas = 2;
            let planned = plan.groups.entry("gpu".into()).or_default();
            (planned.requested, planned.desired) = (2, 2);
            plan.placements[3].target = Target::Node(3);
            plan.gangs[0] = GangPlan { domain: domain.map(str::to_owned), ..served("aa", &[], 2) };
        })
    };
    assert_eq!((rules("r2", None), rules("r1", Some("rack=r1"))), (vec![], vec![]));
    // The rack of a Kubernetes node counts as well as that of a Ray node.
    assert_eq!(rules("r2", Some("rack=r1")), ["one-domain"]);
}

#[test]
fn more_than_a_quota_leaves() {
    let quota = |name: &str, units, groups: &[&str]| Quota {
        source: "ResourceQuota team-a".into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        free: Resources::from([(name.to_owned(), Amount::from_units(units))]),
    };
    let rules = |quota: Quota| {
        broken(|snapshot, _| {
            let requests = Resources::from([("requests.nvidia.com/gpu".to_owned(), Amount::from_units(8))]);
            snapshot.node_types[GPU as usize].facts.pod_requests = requests;
            snapshot.quotas = vec![quota];
        })
    };
    assert_eq!(rules(quota("pods", 3, &[])), NONE);
    assert_eq!(rules(quota("pods", 2, &[])), ["quota"]);
    assert_eq!(rules(quota("pods", 1, &["gpu"])), NONE);
    assert_eq!(rules(quota("requests.nvidia.com/gpu", 8, &[])), NONE);
    assert_eq!(rules(quota("requests.nvidia.com/gpu", 7, &[])), ["quota"]);
}

#[test]
fn a_quota_comes_before_a_minimum() {
    let broken_rules = |pods: Option<i64>| {
        let pair = NodeType { num_of_hosts: 2, min_replicas: 1, ..group("pair", &[("TPU", 4)]) };
        let mut snapshot = cluster(&[&pair], vec![]);
        snapshot.node_types[0].requested_replicas = 0;
        let free = |pods| Resources::from([("pods".to_owned(), Amount::from_units(pods))]);
        snapshot.quotas.extend(pods.map(|pods| Quota { source: "file".into(), groups: vec![], free: free(pods) }));
        rules(&snapshot, &launching(&snapshot, &[]))
    };
    assert_eq!((broken_rules(None), broken_rules(Some(1))), (vec!["minimum"], vec![]));
}

#[test]
fn a_plan_that_is_wrong_all_over_is_told_briefly() {
    let rules = broken(|_, plan| plan.placements.extend(vec![at(DemandRef::Class(0), Target::Node(9), 1); 1000]));
    assert_eq!(rules, ["placement-target"; 20]);
}

#[test]
fn a_plan_that_says_nothing_of_places_is_not_checked_for_them() {
    let snapshot = Snapshot { gangs: vec![Gang::default()], ..observed() };
    let plan = launching(&snapshot, &[("gpu", 1)]);
    assert_eq!(lint(&snapshot, &plan), []);
}
