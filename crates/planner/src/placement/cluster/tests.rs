use super::super::tests::{cpu, node, share, whole};
use super::*;
use crate::placement::GpuRequest;

/// Places each pod in turn; the node and the devices of each.
fn fill(choice: NodeChoice, ties: TieBreak, nodes: &[GpuNode], pods: &[GpuRequest]) -> Vec<Option<(usize, u16)>> {
    let workload = Workload::new(pods).unwrap();
    let mut cluster = Cluster::new(choice, ties, nodes, &workload).unwrap();
    let placed = workload.pods().iter().map(|pod| cluster.place(*pod, 0));
    placed.map(|placed| placed.map(|placed| (placed.node, placed.devices))).collect()
}

#[test]
fn a_pod_that_fits_nowhere_is_dropped_and_the_next_is_placed() {
    let nodes = [node(10, 2, "G2")];
    let pods = [whole(1, 4), cpu(11), share(1, 700), share(1, 700), share(1, 700), whole(1, 1), cpu(1)];
    for choice in NodeChoice::ALL {
        let placed = fill(choice, TieBreak::First, &nodes, &pods);
        let is_placed: Vec<bool> = placed.iter().map(Option::is_some).collect();
        assert_eq!(is_placed, [false, false, true, true, false, false, true], "{choice:?}");
    }
}

#[test]
fn the_model_of_gpus_is_obeyed() {
    let mut asks = whole(1, 1);
    asks.models = ["T4".to_owned(), "A10".to_owned()].into();
    let nodes = [node(10, 1, ""), node(10, 1, "G2"), node(10, 1, "T4")];
    for choice in NodeChoice::ALL {
        let placed = fill(choice, TieBreak::First, &nodes, &[asks.clone(), asks.clone()]);
        assert_eq!(placed, [Some((2, 1)), None], "{choice:?}");
    }
}

#[test]
fn of_equal_nodes_the_first_or_the_drawn_one_is_taken() {
    let nodes = [node(10, 1, ""), node(10, 2, ""), node(10, 2, ""), node(10, 2, "")];
    let workload = Workload::new(&[whole(1, 2)]).unwrap();
    let [pod] = workload.pods()[..] else { panic!("{workload:?}") };
    let first_node =
        |choice, ties, draw| Cluster::new(choice, ties, &nodes, &workload).unwrap().place(pod, draw).unwrap().node;
    assert_eq!(first_node(NodeChoice::BestFit, TieBreak::First, u64::MAX), 1);
    for ties in [TieBreak::First, TieBreak::Drawn] {
        assert_eq!([0, u64::MAX / 2, u64::MAX].map(|draw| first_node(NodeChoice::Random, ties, draw)), [1, 2, 3]);
    }
    assert_eq!(first_node(NodeChoice::BestFit, TieBreak::Drawn, u64::MAX), 3);
}

#[test]
fn what_is_in_use_and_what_is_fragmented_is_counted() {
    let workload = Workload::new(&[share(5, 600), whole(5, 1)]).unwrap();
    let [share, whole] = workload.pods()[..] else { panic!("{workload:?}") };
    let mut cluster = Cluster::new(NodeChoice::Fgd, TieBreak::First, &[node(15, 2, "")], &workload).unwrap();
    assert_eq!((cluster.allocated_gpu_milli(), cluster.fragmented_gpu_milli()), (0, 0));
    cluster.place(share, 0).unwrap();
    assert_eq!((cluster.allocated_gpu_milli(), cluster.fragmented_gpu_milli()), (600, 400));
    cluster.place(whole, 0).unwrap();
    assert_eq!((cluster.allocated_gpu_milli(), cluster.fragmented_gpu_milli()), (1_600, 400));
}

#[test]
fn a_shape_of_another_workload_is_not_placed() {
    let (small, large) = (Workload::new(&[cpu(1)]).unwrap(), Workload::new(&[cpu(1), cpu(2)]).unwrap());
    let mut cluster = Cluster::new(NodeChoice::Fgd, TieBreak::First, &[node(9, 1, "")], &small).unwrap();
    assert_eq!(cluster.place(large.pods()[1], 0), None);
    assert!(cluster.place(small.pods()[0], 0).is_some());
}

#[test]
fn too_many_models_are_refused() {
    let nodes: Vec<GpuNode> = (0..257).map(|model| node(1, 1, &model.to_string())).collect();
    let workload = Workload::new(&[cpu(1)]).unwrap();
    let built = |nodes: &[GpuNode]| Cluster::new(NodeChoice::Fgd, TieBreak::First, nodes, &workload).map(|_| ());
    assert!(built(&nodes[1..]).is_ok());
    assert_eq!(built(&nodes).unwrap_err().to_string(), "there may be at most 256 models of GPUs");
}

/// What is kept from placement to placement must give the same answers as computing everything anew.
#[test]
fn kept_scores_are_the_same_as_fresh_ones() {
    let nodes: Vec<GpuNode> =
        (0..12).map(|n| node(8 + 8 * (n % 3), 1 << (n % 4), ["G2", "T4"][n as usize % 2])).collect();
    let mut only_t4 = whole(3, 1);
    only_t4.models.insert("T4".to_owned());
    let shapes = [cpu(1), cpu(5), share(1, 200), share(2, 700), share(4, 510), whole(2, 1), whole(4, 2), only_t4];
    let pods: Vec<GpuRequest> = (0..120_usize).map(|n| shapes[n * n % 7 + n % 2].clone()).collect();
    let workload = Workload::new(&pods).unwrap();
    for choice in NodeChoice::ALL {
        for ties in [TieBreak::First, TieBreak::Drawn] {
            let mut cluster = Cluster::new(choice, ties, &nodes, &workload).unwrap();
            let mut dropped = 0;
            for (pod, draw) in workload.pods().iter().zip((0_u64..).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15))) {
                let mut fresh = cluster.clone();
                fresh.columns.fill(Column::default());
                let placed = cluster.place(*pod, draw);
                assert_eq!(placed, fresh.place(*pod, draw), "{choice:?} {ties:?}");
                dropped += usize::from(placed.is_none());
            }
            assert!((1..100).contains(&dropped), "{choice:?} {ties:?}: {dropped} dropped");
        }
    }
}

#[test]
fn after_all_have_gone_everything_is_as_it_was() {
    let workload = Workload::new(&[share(5, 600), whole(5, 1), cpu(2)]).unwrap();
    let nodes = [node(15, 2, ""), node(20, 4, "")];
    for choice in NodeChoice::ALL {
        let empty = Cluster::new(choice, TieBreak::First, &nodes, &workload).unwrap();
        let mut cluster = empty.clone();
        let order = |cluster: &mut Cluster<'_>| -> Vec<Option<Placed>> {
            workload.pods().iter().cycle().take(12).map(|pod| cluster.place(*pod, 7)).collect()
        };
        let first = order(&mut cluster);
        for (pod, placed) in workload.pods().iter().cycle().zip(&first) {
            placed.iter().for_each(|placed| cluster.take_away(*pod, *placed));
        }
        assert_eq!((cluster.allocated_gpu_milli(), cluster.fragmented_gpu_milli()), (0, empty.fragmented_gpu_milli()));
        assert_eq!(order(&mut cluster), first, "{choice:?}");
    }
}
