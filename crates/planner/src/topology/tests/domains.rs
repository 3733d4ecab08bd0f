use super::*;
use crate::topology::{DomainId, GroupDomain, Topology};

fn blocks_and_racks() -> Vec<TopologyLevel> {
    vec![level("block", &[BLOCK]), level("rack", &[RACK])]
}

fn name(topology: &Topology<'_>, domain: DomainId) -> String {
    topology.label_value(domain).unwrap_or_else(|| "leaf".to_owned())
}

#[test]
fn nodes_with_one_label_value_are_together_and_those_without_are_alone() {
    let nodes = vec![
        running("g", &[(RACK, "r1")], None),
        running("g", &[(RACK, "r1")], None),
        running("g", &[], None),
        running("g", &[], None),
        running("g", &[(RACK, "")], None),
    ];
    let snapshot = snapshot(vec![level("rack", &[RACK])], vec![group("g", &[])], nodes);
    let topology = Topology::new(&snapshot);
    let domains: Vec<DomainId> = (0..5).map(|node| topology.of_node(0, node)).collect();
    assert_eq!(domains[0], domains[1]);
    let distinct: std::collections::BTreeSet<DomainId> = domains.iter().copied().collect();
    assert_eq!(distinct.len(), 4, "an absent or empty label is never shared: {domains:?}");
    assert_eq!(name(&topology, domains[0]), "example.com/rack=r1");
    assert_eq!(topology.label_value(domains[2]), None);
    assert_eq!((topology.tally(domains[0]).hosts, topology.tally(domains[2]).hosts), (2, 1));
}

#[test]
fn rays_labels_come_before_those_of_the_kubernetes_node_and_those_before_the_selector() {
    let nodes = vec![
        running("g", &[(RACK, "ray")], Some("h1")),
        running("g", &[], Some("h1")),
        running("g", &[], Some("not-readable")),
        pending("g", None),
    ];
    let mut snapshot = snapshot(vec![level("rack", &[RACK])], vec![group("g", &[(RACK, "selector")])], nodes);
    snapshot.hosts = vec![host("h1", &[(RACK, "kubernetes")]), host("h2", &[(RACK, "ray")])].into();
    let topology = Topology::new(&snapshot);
    let names: Vec<String> = (0..4).map(|node| name(&topology, topology.of_node(0, node))).collect();
    // The first node tells that the rack `kubernetes` is called `ray` in Ray.
    let rack = |value: &str| format!("{RACK}={value}");
    assert_eq!(names, [rack("ray"), rack("ray"), rack("selector"), rack("selector")]);
}

#[test]
fn names_that_contradict_each_other_are_not_taken_for_one_domain() {
    let nodes = vec![
        running("g", &[(RACK, "left")], Some("h1")),
        running("g", &[(RACK, "right")], Some("h2")),
        running("g", &[], Some("h3")),
    ];
    let mut snapshot = snapshot(vec![level("rack", &[RACK])], vec![group("g", &[])], nodes);
    snapshot.hosts = ["h1", "h2", "h3"].map(|name| host(name, &[(RACK, "both")])).to_vec().into();
    let topology = Topology::new(&snapshot);
    let names: Vec<String> = (0..3).map(|node| name(&topology, topology.of_node(0, node))).collect();
    assert_eq!(names, ["example.com/rack=left", "example.com/rack=right", "example.com/rack=both"]);
}

#[test]
fn racks_of_one_name_in_two_blocks_are_two_racks() {
    let nodes = vec![
        running("g", &[(BLOCK, "a"), (RACK, "r1")], None),
        running("g", &[(BLOCK, "b"), (RACK, "r1")], None),
        running("g", &[(RACK, "r1")], None),
        running("g", &[(BLOCK, "a"), (RACK, "r1")], None),
        running("g", &[(BLOCK, "a"), (RACK, "r2")], None),
    ];
    let snapshot = snapshot(blocks_and_racks(), vec![group("g", &[])], nodes);
    let topology = Topology::new(&snapshot);
    let rack = |node| topology.of_node(1, node);
    assert_ne!(rack(0), rack(1));
    assert_eq!(rack(0), rack(3));
    assert!(!topology.is_labelled(rack(2)), "it could be in either");
    assert_eq!(topology.parent(rack(0)), Some(topology.of_node(0, 0)));
    assert_eq!(topology.parent(topology.of_node(0, 0)), None);
    assert_eq!(topology.children(Some(topology.of_node(0, 0))), [rack(0), rack(4)]);
    assert_eq!(topology.children(None), [topology.of_node(0, 0), topology.of_node(0, 1)]);
    assert_eq!(topology.domain_of_value(1, "r1"), None, "which of the two?");
    assert_eq!(topology.domain_of_value(1, "r2"), Some(rack(4)));
}

#[test]
fn a_rack_whose_block_only_some_nodes_tell_is_one_rack() {
    let nodes = vec![running("g", &[(RACK, "r1")], None), running("g", &[(BLOCK, "a"), (RACK, "r1")], None)];
    let snapshot = snapshot(blocks_and_racks(), vec![group("g", &[(RACK, "r1")])], nodes);
    let topology = Topology::new(&snapshot);
    assert_eq!(topology.of_node(1, 0), topology.of_node(1, 1));
    assert_eq!(topology.of_group(1, 0), &GroupDomain::Pinned(topology.of_node(1, 0)));
    assert_eq!(topology.parent(topology.of_node(1, 0)), Some(topology.of_node(0, 1)));
}

#[test]
fn networks_cross_places_and_split_no_names() {
    let levels = vec![
        level("zone", &["zone"]),
        fabric("leaf", &["switch"]),
        TopologyLevel { max_hosts: Some(18), ..level("accelerator", &[CLIQUE]) },
        level("rack", &[RACK]),
    ];
    let nodes = vec![
        running("g", &[("zone", "z"), ("switch", "s1"), (CLIQUE, "uuid.1"), (RACK, "r1")], None),
        running("g", &[("zone", "z"), ("switch", "s2"), (CLIQUE, "uuid.1"), (RACK, "r1")], None),
        running("g", &[("zone", "z"), ("switch", "s3"), (CLIQUE, "uuid.2"), (RACK, "r1")], None),
        running("g", &[("zone", "y"), ("switch", "s3"), (CLIQUE, "uuid.2"), (RACK, "r1")], None),
    ];
    let snapshot = snapshot(levels, vec![group("g", &[])], nodes);
    let topology = Topology::new(&snapshot);
    let [switch, clique, rack] = [1, 2, 3].map(|level| move |node| (level, node));
    let of = |(level, node)| topology.of_node(level, node);
    assert_eq!(of(clique(0)), of(clique(1)), "one NVLink domain at two switches");
    assert_eq!(topology.parent(of(clique(0))), Some(topology.of_node(0, 0)));
    assert_eq!(of(switch(2)), of(switch(3)), "a switch that reaches two zones");
    assert_eq!(topology.parent(of(switch(2))), None);
    assert_eq!(of(rack(0)), of(rack(2)), "one rack with two NVLink domains");
    assert_ne!(of(rack(2)), of(rack(3)), "another zone, another rack");
}

#[test]
fn the_nearest_common_domain_is_the_smallest_that_holds_all() {
    let nodes = vec![
        running("g", &[(BLOCK, "a"), (RACK, "r1")], None),
        running("g", &[(BLOCK, "a"), (RACK, "r2")], None),
        running("g", &[(BLOCK, "b"), (RACK, "r3")], None),
        running("g", &[(BLOCK, "a")], None),
        running("g", &[], None),
    ];
    let snapshot = snapshot(blocks_and_racks(), vec![group("g", &[])], nodes);
    let topology = Topology::new(&snapshot);
    let common = |nodes: &[usize]| topology.common(nodes.iter().map(|node| topology.of_node(1, *node)));
    let block_a = Some(topology.of_node(0, 0));
    assert_eq!(common(&[0, 0]), Some(topology.of_node(1, 0)));
    assert_eq!(common(&[0, 1]), block_a);
    assert_eq!(common(&[0, 3]), block_a, "a node without rack is in its block all the same");
    assert_eq!(common(&[4]), Some(topology.of_node(1, 4)));
    assert_eq!((common(&[0, 1, 2]), common(&[0, 4]), common(&[])), (None, None, None));
}

#[test]
fn the_first_key_of_a_level_that_is_there_counts() {
    let nodes = vec![
        running("g", &[(CLIQUE, "uuid.1")], None),
        running("g", &[("accelerator.topograph.run/domain", "uuid.1"), (CLIQUE, "uuid.2")], None),
    ];
    let keys = ["accelerator.topograph.run/domain", CLIQUE];
    let snapshot = snapshot(vec![level("accelerator", &keys)], vec![group("g", &[])], nodes);
    let topology = Topology::new(&snapshot);
    assert_eq!(topology.of_node(0, 0), topology.of_node(0, 1));
    assert_eq!((topology.level_of_label(CLIQUE), topology.level_of_label(RACK)), (Some(0), None));
}

#[test]
fn a_label_that_only_a_gang_names_is_a_level_beside_the_others() {
    let nodes = vec![
        running("g", &[(BLOCK, "a"), (GPU_DOMAIN, "d1")], None),
        running("g", &[(BLOCK, "b"), (GPU_DOMAIN, "d1")], None),
    ];
    let mut snapshot = snapshot(blocks_and_racks(), vec![group("g", &[])], nodes);
    snapshot.gangs = vec![local_gang(GPU_DOMAIN, &[]), local_gang(GPU_DOMAIN, &[])];
    let topology = Topology::new(&snapshot);
    assert_eq!(topology.levels().len(), 3);
    assert_eq!(topology.level_of_label(GPU_DOMAIN), Some(2));
    assert_eq!(topology.of_node(2, 0), topology.of_node(2, 1), "Ray compares the value, wherever the nodes are");
    assert_eq!(topology.parent(topology.of_node(2, 0)), None);
}

#[test]
fn where_ray_compares_a_label_a_running_node_without_it_is_alone() {
    let levels = || vec![level("accelerator", &[GPU_DOMAIN, CLIQUE])];
    let nodes = || {
        vec![
            running("g", &[(GPU_DOMAIN, "d1")], Some("h1")),
            running("g", &[], Some("h2")),
            running("g", &[], Some("h2")),
            pending("g", Some("h3")),
        ]
    };
    let hosts = || ["h1", "h2", "h3"].map(|name| host(name, &[(CLIQUE, "uuid.1")])).to_vec().into();
    let asked = Snapshot {
        gangs: vec![local_gang(GPU_DOMAIN, &[])],
        hosts: hosts(),
        ..snapshot(levels(), vec![group("g", &[])], nodes())
    };
    let topology = Topology::new(&asked);
    assert!(!topology.is_labelled(topology.of_node(0, 1)));
    assert_ne!(topology.of_node(0, 1), topology.of_node(0, 2), "one machine is no domain for Ray");
    assert_eq!(topology.of_node(0, 0), topology.of_node(0, 3), "d1 is what Ray calls uuid.1");
    let not_asked = Snapshot { hosts: hosts(), ..snapshot(levels(), vec![group("g", &[])], nodes()) };
    let topology = Topology::new(&not_asked);
    assert_eq!(
        topology.of_node(0, 0),
        topology.of_node(0, 1),
        "nobody compares the label: what Kubernetes says will do"
    );
}

#[test]
fn a_group_whose_running_nodes_lack_the_label_that_ray_compares_brings_no_domain() {
    let mut snapshot = snapshot(
        vec![level("accelerator", &[GPU_DOMAIN, CLIQUE])],
        vec![group("without", &[(CLIQUE, "uuid.1")]), group("unseen", &[(CLIQUE, "uuid.1")])],
        vec![running("without", &[], None)],
    );
    snapshot.gangs = vec![local_gang(GPU_DOMAIN, &[])];
    let topology = Topology::new(&snapshot);
    assert_eq!(topology.of_group(0, 0), &GroupDomain::Own);
    assert!(matches!(topology.of_group(0, 1), GroupDomain::Pinned(_)), "nothing speaks against it");
}

#[test]
fn a_group_is_pinned_by_its_labels_by_what_ray_will_find_or_by_its_selector() {
    let mut declared = group("declared", &[]);
    declared.labels = Arc::new(labels(&[(RACK, "r1")]));
    let mut expected = group("expected", &[]);
    expected.facts.expected_labels = labels(&[(RACK, "r1")]);
    let types = vec![declared, expected, group("selected", &[(RACK, "r1")]), group("free", &[])];
    let snapshot = snapshot(vec![level("rack", &[RACK])], types, vec![running("free", &[(RACK, "r1")], None)]);
    let topology = Topology::new(&snapshot);
    let rack = topology.of_node(0, 0);
    for group in 0..3 {
        assert_eq!(topology.of_group(0, group), &GroupDomain::Pinned(rack));
    }
    assert_eq!(topology.of_group(0, 3), &GroupDomain::Own);
    assert_eq!((topology.of_group(0, 99), topology.of_group(7, 0)), (&GroupDomain::Own, &GroupDomain::Own));
}

#[test]
fn an_nvl72_rack_counts_its_hosts_once_and_only_those_that_stay() {
    let mut nodes: Vec<Node> = (0..17).map(|at| running("g", &[(CLIQUE, "uuid.1")], Some(&format!("h{at}")))).collect();
    nodes.push(running("g", &[(CLIQUE, "uuid.1")], Some("h16")));
    nodes.push(node("g", NodePhase::Leaving, &[(CLIQUE, "uuid.1")], Some("h17")));
    nodes.push(node("g", NodePhase::Requested, &[(CLIQUE, "uuid.1")], None));
    nodes.push(running("g", &[(CLIQUE, "uuid.2")], None));
    let nvl72 = TopologyLevel { max_hosts: Some(18), ..level("accelerator", &[CLIQUE]) };
    let snapshot = snapshot(vec![nvl72], vec![group("g", &[])], nodes);
    let topology = Topology::new(&snapshot);
    assert_eq!(topology.levels()[0].max_hosts, Some(18));
    assert_eq!(topology.tally(topology.of_node(0, 0)).hosts, 18);
    assert_eq!(topology.tally(topology.of_node(0, 20)).hosts, 1);
}

#[test]
fn a_gang_that_lost_nodes_is_bound_to_where_the_others_are() {
    let mut nodes = vec![
        running("g", &[(GPU_DOMAIN, "d1")], None),
        running("g", &[(GPU_DOMAIN, "d2")], None),
        running("g", &[(GPU_DOMAIN, "d2")], None),
        node("g", NodePhase::Stopped, &[(GPU_DOMAIN, "d1")], None),
    ];
    for at in [1, 2, 3] {
        nodes[at].dynamic_labels = Arc::new(labels(&[("_PG_a1", "")]));
    }
    let mut snapshot = snapshot(vec![], vec![group("g", &[])], nodes);
    snapshot.gangs = vec![Gang { rescheduling: true, ..local_gang(GPU_DOMAIN, &[]) }];
    let topology = Topology::new(&snapshot);
    assert_eq!(topology.holders(&snapshot.gangs[0]), [1, 2]);
    assert_eq!(topology.bound_domain(0, &snapshot.gangs[0]), Some(topology.of_node(0, 1)));
    let other = Gang { id: "b2".to_owned(), ..local_gang(GPU_DOMAIN, &[]) };
    assert_eq!(topology.bound_domain(0, &other), None, "a new one is free");
}

#[test]
fn a_domain_that_the_gcs_has_chosen_binds_even_if_nothing_is_there() {
    let mut snapshot = snapshot(vec![], vec![group("g", &[])], vec![running("g", &[(GPU_DOMAIN, "d1")], None)]);
    snapshot.gangs = vec![local_gang(GPU_DOMAIN, &["d1"]), local_gang(GPU_DOMAIN, &["gone"])];
    let topology = Topology::new(&snapshot);
    assert_eq!(topology.bound_domain(0, &snapshot.gangs[0]), Some(topology.of_node(0, 0)));
    let gone = topology.bound_domain(0, &snapshot.gangs[1]).unwrap();
    assert_eq!((name(&topology, gone).as_str(), topology.tally(gone).hosts), ("ray.io/gpu-domain=gone", 0));
}

#[test]
fn pods_on_one_machine_are_together_at_the_level_of_hosts() {
    let nodes = vec![
        running("g", &[], Some("h1")),
        running("g", &[], Some("h1")),
        running("g", &[], Some("unlisted")),
        running("g", &[], Some("unlisted")),
        running("g", &[], None),
    ];
    let mut snapshot = snapshot(
        vec![level("rack", &[RACK]), level("host", &["kubernetes.io/hostname"])],
        vec![group("g", &[])],
        nodes,
    );
    snapshot.hosts = vec![host("h1", &[(RACK, "r1"), ("kubernetes.io/hostname", "h1.example.com")])].into();
    let topology = Topology::new(&snapshot);
    let of_host = |node| topology.of_node(1, node);
    assert_eq!(name(&topology, of_host(0)), "kubernetes.io/hostname=h1.example.com");
    assert_eq!(name(&topology, of_host(2)), "kubernetes.io/hostname=unlisted");
    assert_eq!((of_host(0), of_host(2)), (of_host(1), of_host(3)));
    assert_eq!(topology.of_node(0, 2), topology.of_node(0, 3), "an unlabelled machine is one leaf");
    assert!(!topology.is_labelled(of_host(4)));
}

#[test]
fn nothing_known_is_no_topology() {
    let snapshot = snapshot(vec![], vec![group("g", &[])], vec![running("g", &[(RACK, "r1")], None)]);
    let topology = Topology::new(&snapshot);
    assert!(topology.levels().is_empty());
    assert_eq!(topology.of_group(0, 0), &GroupDomain::Own);
    assert!(!topology.is_labelled(topology.of_node(0, 0)));
    assert_eq!(topology.tally(topology.of_node(0, 0)).hosts, 1);
    assert_eq!(topology.common([0, 0].map(|node| topology.of_node(0, node)).into_iter()), Some(topology.of_node(0, 0)));
    assert_eq!(topology.parent(topology.of_node(0, 0)), None);
}
