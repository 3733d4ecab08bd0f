use std::collections::BTreeSet;

use mobula_planner::placement::GpuRequest;
use mobula_tests::openb as synthetic;

use super::*;
use crate::openb;

fn made_up(seed: u64) -> Experiment {
    let nodes = openb::nodes(synthetic::nodes().as_bytes()).unwrap();
    Experiment::new(nodes, openb::pods(synthetic::pods(seed).as_bytes()).unwrap()).unwrap()
}

fn pod(name: &str, gpu_milli: u32) -> Pod {
    let request = GpuRequest::new(1, 1, u32::from(gpu_milli > 0), gpu_milli, Default::default()).unwrap();
    Pod { name: name.to_owned(), request }
}

fn node(gpus: u32) -> GpuNode {
    GpuNode::new(1_000, 1_000, gpus, "").unwrap()
}

#[test]
fn pods_arrive_until_the_next_would_ask_for_more_than_130_percent() {
    let experiment = Experiment::new(vec![node(10)], vec![pod("a", 700), pod("b", 0), pod("c", 500)]).unwrap();
    for seed in 0..50 {
        let arrivals = experiment.arrivals(&mut Seeded::new(seed)).unwrap();
        let asked = |pod: &ShapeId| experiment.workload.request(*pod).unwrap().total_gpu_milli();
        let total: u64 = arrivals.iter().map(asked).sum();
        assert!((12_301..=13_000).contains(&total), "{total}");
        // All pods of the trace come before any comes again.
        let first: BTreeSet<&ShapeId> = arrivals.iter().take(3).collect();
        assert_eq!(first.len(), 3);
    }
}

#[test]
fn a_trace_that_asks_for_more_than_130_percent_loses_pods() {
    let pods = (0..40).map(|n| pod(&n.to_string(), 500)).collect();
    let experiment = Experiment::new(vec![node(10)], pods).unwrap();
    assert_eq!(experiment.arrivals(&mut Seeded::new(1)).unwrap().len(), 26);
    assert_eq!(experiment.run(NodeChoice::Fgd, Ties::Shuffled, 1), Ok(100.0));
}

#[test]
fn a_run_is_the_same_again_whatever_the_order_of_the_list() {
    let nodes = openb::nodes(synthetic::nodes().as_bytes()).unwrap();
    let mut pods = openb::pods(synthetic::pods(1).as_bytes()).unwrap();
    pods.reverse();
    let reversed = Experiment::new(nodes, pods).unwrap();
    let experiment = made_up(1);
    for choice in NodeChoice::ALL {
        let run = experiment.run(choice, Ties::Shuffled, 7).unwrap();
        assert_eq!(run, reversed.run(choice, Ties::Shuffled, 7).unwrap(), "{choice:?}");
        assert_ne!(run, experiment.run(choice, Ties::Shuffled, 8).unwrap(), "{choice:?}");
    }
}

#[test]
fn every_way_to_break_ties_is_another_run() {
    let experiment = made_up(1);
    let ways = [Ties::Shuffled, Ties::Listed, Ties::Drawn];
    let [shuffled, listed, drawn] = ways.map(|ties| experiment.run(NodeChoice::Packing, ties, 7).unwrap());
    assert!(shuffled != listed && listed != drawn && drawn != shuffled, "{shuffled} {listed} {drawn}");
}

#[test]
fn experiments_without_gpus_are_refused() {
    let refused = |nodes, pods| Experiment::new(nodes, pods).unwrap_err();
    assert!(matches!(refused(vec![node(0)], vec![pod("a", 1)]), BadExperiment::Nodes(_)));
    assert!(matches!(refused(vec![node(1)], vec![pod("a", 0)]), BadExperiment::Pods(_)));
    assert!(matches!(refused(vec![node(1)], vec![]), BadExperiment::Pods(_)));
}

#[test]
fn mean_and_standard_deviation_of_a_sample() {
    assert_eq!(mean_and_sd(&[2.0, 4.0, 6.0]), (4.0, 2.0));
    assert_eq!(mean_and_sd(&[3.0]), (3.0, 0.0));
    assert_eq!(mean_and_sd(&[]), (0.0, 0.0));
}

#[test]
fn in_what_was_published_fgd_is_best_on_every_trace() {
    for (trace, _) in PUBLISHED {
        let of = |choice| published(trace, choice).unwrap();
        let others = NodeChoice::ALL.into_iter().filter(|choice| *choice != NodeChoice::Fgd);
        assert!(others.into_iter().all(|choice| of(choice) < of(NodeChoice::Fgd)), "{trace}");
    }
    assert_eq!(published("default", NodeChoice::BestFit), Some(93.08));
    assert_eq!(published("cpu037", NodeChoice::Fgd), None);
}
