use super::*;
use crate::topology::{DomainRoom, GroupDomain, Topology};

const POOL: (&str, &str) = ("pool", "gpu");

fn racks() -> Snapshot {
    let mut snapshot = snapshot(
        vec![level("rack", &[RACK])],
        vec![group("g", &[POOL])],
        vec![running("g", &[], Some("h2")), pending("g", Some("h5"))],
    );
    snapshot.hosts = vec![
        host("h1", &[POOL, (RACK, "r1")]),
        host("h2", &[POOL, (RACK, "r1")]),
        host("h3", &[POOL, (RACK, "r2")]),
        host("other pool", &[(RACK, "r1")]),
        host("h5", &[POOL]),
        host("h6", &[POOL]),
    ]
    .into();
    snapshot
}

#[test]
fn a_group_that_is_not_pinned_is_wherever_kubernetes_nodes_have_room() {
    let mut snapshot = racks();
    snapshot.hosts[0].free = Arc::new(amounts(&[("cpu", 250), ("nvidia.com/gpu", 24)]));
    snapshot.hosts[4].free = Arc::new(amounts(&[("cpu", 250), ("nvidia.com/gpu", 7)]));
    let topology = Topology::new(&snapshot);
    let GroupDomain::OneOf(rooms) = topology.of_group(0, 0) else { panic!("{:?}", topology.of_group(0, 0)) };
    let said: Vec<(Option<String>, u32, u32)> =
        rooms.iter().map(|r| (topology.label_value(r.domain), r.room, r.whole_free_hosts)).collect();
    let rack = |name: &str| Some(format!("{RACK}={name}"));
    assert_eq!(said, [(rack("r1"), 4, 1), (rack("r2"), 1, 1), (None, 1, 1)]);
    assert_eq!(rooms[0].domain, topology.of_node(0, 0), "the same rack as that of the node there");
}

#[test]
fn an_unlabelled_machine_with_room_is_the_leaf_of_the_pods_on_it() {
    let snapshot = racks();
    let topology = Topology::new(&snapshot);
    let leaf = topology.of_node(0, 1);
    assert!(topology.rooms(0, 0).contains(&DomainRoom { domain: leaf, room: 1, whole_free_hosts: 0 }));
}

#[test]
fn unfit_machines_are_no_room_and_their_nodes_no_targets() {
    let mut snapshot = racks();
    snapshot.hosts[0].unfit = Some("cordoned".to_owned());
    snapshot.hosts[1].unfit = Some("tainted as unhealthy".to_owned());
    let topology = Topology::new(&snapshot);
    assert_eq!((topology.is_target(0), topology.is_target(1)), (false, true));
    let rooms = topology.rooms(0, 0);
    assert_eq!(rooms.iter().map(|r| topology.label_value(r.domain)).collect::<Vec<_>>()[0], Some(format!("{RACK}=r2")));
    assert_eq!(rooms.iter().map(|room| room.room).sum::<u32>(), 3);
    assert!(topology.is_target(99), "of what is not known, nothing bad is known");
}

#[test]
fn where_no_machine_has_room_new_pods_come_up_who_knows_where() {
    let mut snapshot = racks();
    for host in snapshot.hosts.iter_mut() {
        host.free = Arc::new(amounts(&[("cpu", 59), ("nvidia.com/gpu", 8)]));
    }
    assert_eq!(Topology::new(&snapshot).of_group(0, 0), &GroupDomain::Own);
    let mut snapshot = racks();
    snapshot.node_types[0].facts.pod_requests = Resources::new();
    assert_eq!(Topology::new(&snapshot).of_group(0, 0), &GroupDomain::Own, "what its pods need is not known");
}

#[test]
fn the_number_of_pods_that_a_machine_may_hold_counts() {
    let mut snapshot = racks();
    snapshot.node_types[0].facts.pod_requests = amounts(&[("cpu", 1), ("ephemeral-storage", 0)]);
    snapshot.hosts.truncate(1);
    snapshot.hosts[0].free = Arc::new(amounts(&[("cpu", 50), ("pods", 3)]));
    assert_eq!(Topology::new(&snapshot).rooms(0, 0)[0].room, 3);
}

#[test]
fn it_is_settled_where_a_node_is_once_it_runs_or_has_a_machine() {
    let mut snapshot = racks();
    snapshot.nodes.push(pending("g", None));
    let topology = Topology::new(&snapshot);
    assert_eq!([0, 1, 2].map(|node| topology.is_placed(node)), [true, true, false]);
}
