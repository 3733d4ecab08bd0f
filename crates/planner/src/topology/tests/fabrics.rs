use super::*;
use crate::FabricWish;
use crate::topology::{Fabrics, Topology};

const TIER: &str = "fabric.topograph.run/tier-1";
const LEAF_SWITCH: &str = "fabric.topograph.run/tier-0";

fn tiers() -> Vec<TopologyLevel> {
    vec![fabric("spine", &[TIER]), fabric("leaf", &[LEAF_SWITCH])]
}

fn wish(snapshot: &Snapshot, gang: &Gang) -> Option<FabricWish> {
    let topology = Topology::new(snapshot);
    Fabrics::new(snapshot, &topology).wish(snapshot, &topology, gang, gang.bundles.iter())
}

#[test]
fn without_labels_a_group_with_rdma_is_one_fabric_with_its_nodes() {
    let types = vec![rdma_group("a", &[]), rdma_group("b", &[]), group("no rdma", &[])];
    let nodes =
        vec![running("a", &[], None), pending("a", None), running("b", &[], None), running("no rdma", &[], None)];
    for levels in [vec![], tiers()] {
        let snapshot = snapshot(levels, types.clone(), nodes.clone());
        let topology = Topology::new(&snapshot);
        let fabrics = Fabrics::new(&snapshot, &topology);
        let a = fabrics.group(0).unwrap();
        assert_eq!((fabrics.node(0), fabrics.node(1)), (Some(a), Some(a)));
        assert_eq!(fabrics.name(a), "group a");
        assert!(fabrics.is_certain(0));
        assert_eq!(fabrics.node(2), fabrics.group(1));
        assert_ne!(fabrics.group(0), fabrics.group(1));
        assert_eq!((fabrics.group(2), fabrics.node(3)), (None, None), "GPUs alone are no RDMA");
        assert_eq!(fabrics.of_nodes(&[0, 1]), Some(a));
        assert_eq!((fabrics.of_nodes(&[0, 2]), fabrics.of_nodes(&[0, 3]), fabrics.of_nodes(&[])), (None, None, None));
    }
}

#[test]
fn groups_pinned_to_one_fabric_are_in_it_together() {
    let types =
        vec![rdma_group("a", &[(TIER, "s1")]), rdma_group("b", &[(TIER, "s1")]), rdma_group("c", &[(TIER, "s2")])];
    let nodes = vec![
        running("a", &[], None),
        running("c", &[(TIER, "s2"), (LEAF_SWITCH, "l7")], None),
        running("c", &[(TIER, "s2"), (LEAF_SWITCH, "l8")], None),
    ];
    let snapshot = snapshot(tiers(), types, nodes);
    let topology = Topology::new(&snapshot);
    let fabrics = Fabrics::new(&snapshot, &topology);
    assert_eq!(fabrics.group(0), fabrics.group(1));
    assert_ne!(fabrics.group(0), fabrics.group(2));
    assert_eq!(fabrics.node(0), fabrics.group(0));
    assert_eq!(fabrics.of_nodes(&[1, 2]), fabrics.group(2), "the broadest level that is a fabric counts");
    assert_eq!(fabrics.name(fabrics.group(2).unwrap()), "fabric.topograph.run/tier-1=s2");
}

#[test]
fn a_free_group_grows_in_the_fabric_of_its_nodes_unless_they_are_in_several() {
    let in_tier = |tier: &str| running("a", &[(TIER, tier)], None);
    let one = snapshot(tiers(), vec![rdma_group("a", &[])], vec![in_tier("s1"), in_tier("s1"), pending("a", None)]);
    let topology = Topology::new(&one);
    let fabrics = Fabrics::new(&one, &topology);
    assert_eq!((fabrics.group(0), fabrics.is_certain(0)), (fabrics.node(0), true));
    assert_eq!(fabrics.node(2), fabrics.node(0));

    let two = snapshot(tiers(), vec![rdma_group("a", &[])], vec![in_tier("s1"), in_tier("s2"), pending("a", None)]);
    let topology = Topology::new(&two);
    let fabrics = Fabrics::new(&two, &topology);
    assert!(!fabrics.is_certain(0));
    assert_eq!(fabrics.group(0), fabrics.node(2), "a node to come is where new pods are");
    assert_eq!([0, 1].map(|node| fabrics.node(node) == fabrics.group(0)), [false, false]);
}

#[test]
fn among_labelled_nodes_one_without_the_label_is_alone() {
    let nodes = vec![running("a", &[(TIER, "s1")], None), running("a", &[], None), running("a", &[], None)];
    let snapshot = snapshot(tiers(), vec![rdma_group("a", &[])], nodes);
    let topology = Topology::new(&snapshot);
    let fabrics = Fabrics::new(&snapshot, &topology);
    assert_ne!(fabrics.node(0), fabrics.node(1));
    assert_ne!(fabrics.node(1), fabrics.node(2));
    assert!(!fabrics.is_certain(0));
    assert_eq!(fabrics.name(fabrics.node(1).unwrap()), "a node without fabric label");
}

#[test]
fn kubernetes_nodes_with_room_tell_the_fabric_of_new_pods() {
    let mut snapshot = snapshot(tiers(), vec![rdma_group("a", &[])], vec![running("a", &[], Some("h1"))]);
    snapshot.hosts = vec![host("h1", &[(TIER, "s1")]), host("h2", &[(TIER, "s2")])].into();
    snapshot.hosts[0].free = Arc::default();
    let topology = Topology::new(&snapshot);
    let fabrics = Fabrics::new(&snapshot, &topology);
    assert_eq!(fabrics.name(fabrics.group(0).unwrap()), "fabric.topograph.run/tier-1=s2");
    assert_ne!(fabrics.group(0), fabrics.node(0));
    assert!(fabrics.is_certain(0));
    snapshot.hosts[0].free = Arc::clone(&snapshot.hosts[1].free);
    let topology = Topology::new(&snapshot);
    let fabrics = Fabrics::new(&snapshot, &topology);
    assert!(!fabrics.is_certain(0), "two fabrics have room");
}

#[test]
fn a_node_of_no_group_has_rdma_if_ray_counts_it() {
    let mut stray = running("gone", &[], None);
    stray.total = Arc::new(amounts(&[("CPU", 8), ("rdma", 1)]));
    let plain = running("gone", &[], None);
    let snapshot = snapshot(tiers(), vec![], vec![stray, plain]);
    let topology = Topology::new(&snapshot);
    let fabrics = Fabrics::new(&snapshot, &topology);
    assert!(fabrics.node(0).is_some());
    assert_eq!((fabrics.node(1), fabrics.node(99), fabrics.group(99)), (None, None, None));
}

#[test]
fn a_gang_over_several_gpu_hosts_prefers_one_fabric() {
    let snapshot = snapshot(vec![], vec![rdma_group("a", &[])], vec![]);
    assert_eq!(wish(&snapshot, &gang(2, &[("GPU", 8)])), Some(FabricWish::Preferred));
    assert_eq!(wish(&snapshot, &gang(9, &[("GPU", 1)])), Some(FabricWish::Preferred));
    assert_eq!(wish(&snapshot, &gang(8, &[("GPU", 1)])), None, "one host will do");
    assert_eq!(wish(&snapshot, &gang(100, &[("CPU", 60)])), None, "no accelerator");
    let packed = Gang { strategy: GangStrategy::StrictPack, ..gang(9, &[("GPU", 1)]) };
    assert_eq!(wish(&snapshot, &packed), None, "all on one host");
    let spread = Gang { strategy: GangStrategy::StrictSpread, ..gang(2, &[("GPU", 1)]) };
    assert_eq!(wish(&snapshot, &spread), Some(FabricWish::Preferred));
    let rest = Gang { rescheduling: true, ..gang(1, &[("GPU", 1)]) };
    assert_eq!(wish(&snapshot, &rest), Some(FabricWish::Preferred), "the other bundles are on other hosts");
}

#[test]
fn a_gang_requires_a_fabric_if_it_or_a_group_that_could_hold_it_says_so() {
    let mut strict = rdma_group("strict", &[]);
    strict.facts.fabric = Some(FabricWish::Required);
    strict.labels = Arc::new(labels(&[("accelerator", "h100")]));
    let mut cpu = group("cpu", &[]);
    cpu.resources = Arc::new(amounts(&[("CPU", 64)]));
    cpu.facts.fabric = Some(FabricWish::Required);
    let snapshot = snapshot(tiers(), vec![strict, cpu, group("plain", &[])], vec![]);
    assert_eq!(wish(&snapshot, &gang(2, &[("GPU", 8)])), Some(FabricWish::Required));
    assert_eq!(wish(&snapshot, &gang(2, &[("CPU", 60)])), None);
    assert_eq!(wish(&snapshot, &gang(2, &[("CPU", 1), ("rdma/hca", 1)])), Some(FabricWish::Required));

    let selecting = |key: &str, value: &str| {
        let mut gang = gang(2, &[("GPU", 8)]);
        let values = vec![value.to_owned()];
        let constraint = LabelConstraint { key: key.to_owned(), operator: LabelOperator::In, values };
        for bundle in &mut gang.bundles {
            bundle.selectors = vec![LabelSelector { constraints: vec![constraint.clone()] }];
        }
        gang
    };
    assert_eq!(wish(&snapshot, &selecting(TIER, "s1")), Some(FabricWish::Required));
    assert_eq!(wish(&snapshot, &selecting("accelerator", "l4")), Some(FabricWish::Preferred), "not on that group");
}
