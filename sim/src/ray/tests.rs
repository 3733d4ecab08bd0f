//! The runtime against what was seen of a real Ray.

use mobula_gcs::{DrainOutcome, DrainReason};
use mobula_planner::{Amount, Labels, Resources};

use super::*;
use crate::scenario::Strategy;

const S: u64 = 1_000_000;

fn amounts(items: &[(&str, i64)]) -> Resources {
    items.iter().map(|(name, units)| ((*name).to_owned(), Amount::from_units(*units))).collect()
}

fn needs(items: &[(&str, i64)]) -> Needs {
    Needs { resources: amounts(items), labels: Labels::new() }
}

fn node(pod: &str, items: &[(&str, i64)], labels: &[(&str, &str)]) -> Joining {
    Joining {
        id: format!("{pod:0<56}"),
        pod: pod.to_owned(),
        group: "g".to_owned(),
        ip: format!("ip-{pod}"),
        total: amounts(items),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        is_head: false,
        workers_from_us: 0,
    }
}

/// A head without resources, and workers `w0`, `w1`, … of so many CPUs each.
fn cluster(workers: usize, cpus: i64) -> Runtime {
    let mut ray = Runtime::new(S, 0);
    ray.join(0, Joining { is_head: true, ..node("head", &[], &[]) });
    for number in 0..workers {
        ray.join(0, node(&format!("w{number}"), &[("CPU", cpus)], &[]));
    }
    ray.take_notices();
    ray
}

fn tasks(count: usize, cpus: i64, duration_us: Option<u64>) -> TaskWork {
    TaskWork { needs: needs(&[("CPU", cpus)]), durations_us: vec![duration_us; count], holds_us: None }
}

fn gang(strategy: Strategy, bundles: u32, cpus: i64) -> GroupWork {
    GroupWork {
        id: "aa".into(),
        strategy,
        needs: needs(&[("CPU", cpus)]),
        bundles,
        locality: None,
        duration_us: Some(10 * S),
    }
}

fn used(ray: &Runtime) -> Vec<f64> {
    ray.nodes.values().filter(|node| !node.is_head).map(|node| node.used("CPU").as_f64()).collect()
}

#[test]
fn tasks_fill_the_first_node_to_half_then_the_least_used() {
    let mut ray = cluster(2, 4);
    ray.submit(0, tasks(2, 1, None));
    assert_eq!(used(&ray), [2.0, 0.0]);
    ray.submit(0, tasks(2, 1, None));
    assert_eq!(used(&ray), [2.0, 2.0]);
    ray.submit(0, tasks(9, 1, None));
    assert_eq!((used(&ray), ray.waiting_tasks()), (vec![4.0, 4.0], 5));
}

#[test]
fn work_that_waits_starts_when_there_is_room_and_says_how_long_it_waited() {
    let mut ray = cluster(1, 1);
    ray.submit(0, tasks(2, 1, Some(5 * S)));
    assert_eq!(ray.next_end(), Some(5 * S));
    ray.advance(5 * S);
    assert_eq!(
        ray.take_notices(),
        [Notice::TaskStarted { waited_us: 0 }, Notice::TaskDone, Notice::TaskStarted { waited_us: 5 * S },]
    );
    ray.advance(10 * S);
    assert_eq!(ray.nodes.values().filter_map(|node| node.idle_since_us).max(), Some(10 * S));
}

#[test]
fn requests_without_gpu_keep_off_gpu_nodes_where_they_can() {
    let mut ray = cluster(0, 0);
    ray.join(0, node("gpu", &[("CPU", 8), ("GPU", 8)], &[]));
    ray.join(0, node("cpu", &[("CPU", 1)], &[]));
    ray.submit(0, tasks(2, 1, None));
    assert_eq!(used(&ray), [1.0, 1.0]);
}

#[test]
fn a_gang_of_each_strategy_is_placed_whole_or_not_at_all() {
    for (strategy, bundles, expected) in [
        (Strategy::StrictPack, 3, vec![3.0, 0.0]),
        (Strategy::StrictPack, 5, vec![0.0, 0.0]),
        (Strategy::StrictSpread, 2, vec![1.0, 1.0]),
        (Strategy::StrictSpread, 3, vec![0.0, 0.0]),
        (Strategy::Pack, 5, vec![4.0, 1.0]),
        (Strategy::Spread, 4, vec![2.0, 2.0]),
        (Strategy::Pack, 9, vec![0.0, 0.0]),
    ] {
        let mut ray = cluster(2, 4);
        ray.submit_group(0, gang(strategy, bundles, 1));
        assert_eq!(used(&ray), expected, "{strategy:?} {bundles}");
        assert_eq!(ray.waiting_groups(), usize::from(expected == [0.0, 0.0]));
    }
}

#[test]
fn a_gang_with_a_locality_is_in_one_domain() {
    let mut ray = cluster(0, 0);
    for (pod, rack) in [("a", "r1"), ("b", "r2"), ("c", "r2")] {
        ray.join(0, node(pod, &[("CPU", 1)], &[("rack", rack)]));
    }
    ray.submit_group(0, GroupWork { locality: Some("rack".into()), ..gang(Strategy::StrictSpread, 2, 1) });
    assert_eq!(used(&ray), [0.0, 1.0, 1.0]);
    ray.submit_group(0, GroupWork { locality: Some("rack".into()), ..gang(Strategy::StrictSpread, 2, 1) });
    assert_eq!(ray.waiting_groups(), 1);
}

#[test]
fn bundles_of_a_lost_node_wait_alone_and_the_work_starts_again() {
    let mut ray = cluster(2, 1);
    ray.submit_group(0, gang(Strategy::StrictSpread, 2, 1));
    ray.take_notices();
    ray.lose(3 * S, "w1", true);
    assert_eq!((ray.take_notices(), ray.next_end()), (vec![Notice::Disrupted], None));
    assert_eq!(ray.groups.values().map(Group::missing).sum::<usize>(), 1);
    ray.join(4 * S, node("w2", &[("CPU", 1)], &[]));
    assert_eq!(ray.next_end(), Some(14 * S));
    ray.advance(14 * S);
    assert_eq!(ray.take_notices(), [Notice::GangDone]);
    assert_eq!(used(&ray), [0.0, 0.0]);
}

#[test]
fn a_drain_for_idleness_is_refused_by_a_node_with_work() {
    let mut ray = cluster(2, 1);
    ray.submit(0, tasks(1, 1, Some(5 * S)));
    let (busy, idle) = (format!("{:0<56}", "w0"), format!("{:0<56}", "w1"));
    let (outcome, left) = ray.drain(S, &busy, DrainReason::IdleTermination);
    assert!(matches!(outcome, DrainOutcome::Rejected(_)) && left.is_none());
    let (outcome, left) = ray.drain(S, &idle, DrainReason::IdleTermination);
    assert_eq!((outcome, left), (DrainOutcome::Accepted, Some(Left { pod: "w1".into() })));
    assert_eq!(ray.drain(S, "unknown", DrainReason::IdleTermination).0, DrainOutcome::Accepted);
    // A preemption is always accepted; the node leaves when it is done.
    assert_eq!(ray.drain(S, &busy, DrainReason::Preemption), (DrainOutcome::Accepted, None));
    ray.submit(S, tasks(1, 1, None));
    ray.advance(5 * S);
    assert_eq!((ray.take_left(), ray.waiting_tasks()), (vec![Left { pod: "w0".into() }], 1));
}

#[test]
fn work_on_a_fresh_node_begins_when_its_first_workers_are_there() {
    let mut ray = cluster(0, 0);
    ray.submit(0, tasks(1, 1, Some(5 * S)));
    ray.join(3 * S, Joining { workers_from_us: 5 * S, ..node("w0", &[("CPU", 2)], &[]) });
    assert_eq!(ray.take_notices(), [Notice::TaskStarted { waited_us: 5 * S }]);
    assert_eq!(ray.next_end(), Some(10 * S));
    ray.submit(7 * S, tasks(1, 1, Some(S)));
    assert_eq!(ray.take_notices(), [Notice::TaskStarted { waited_us: 0 }]);
}

#[test]
fn a_node_that_says_no_goodbye_is_shown_until_the_health_check_gives_up() {
    let mut ray = cluster(1, 1);
    ray.submit(0, tasks(1, 1, Some(60 * S)));
    ray.lose(S, "w0", false);
    assert_eq!((ray.waiting_tasks(), ray.nodes.len(), ray.living()), (1, 2, 1));
    ray.bury_pod(13 * S, "w0");
    assert_eq!((ray.nodes.len(), ray.dead.len()), (1, 1));
}

#[test]
fn objects_keep_a_node_from_being_idle() {
    let mut ray = cluster(1, 1);
    ray.submit(0, TaskWork { holds_us: Some(30 * S), ..tasks(1, 1, Some(S)) });
    ray.advance(2 * S);
    assert!(ray.nodes.values().any(|node| !node.is_head && node.idle_since_us.is_none()));
    ray.advance(31 * S);
    assert!(ray.nodes.values().all(|node| node.is_head || node.idle_since_us == Some(31 * S)));
}

#[test]
fn demand_is_seen_with_the_next_poll() {
    let mut ray = cluster(0, 0);
    ray.before_change(S);
    ray.submit(S + 1, tasks(3, 1, None));
    ray.before_change(2 * S - 1);
    assert!(ray.view.waiting.is_empty());
    ray.before_change(2 * S);
    assert_eq!(ray.view.waiting, [(0, 3)]);
    // What is submitted between two polls is not there for the earlier one, whenever somebody asks.
    ray.submit(3 * S + 1, tasks(1, 1, None));
    ray.before_change(3 * S + 2);
    assert_eq!(ray.view.waiting, [(0, 3)]);
}

#[test]
fn without_a_head_work_waits() {
    let mut ray = cluster(1, 1);
    ray.submit(0, tasks(1, 1, Some(60 * S)));
    ray.lose_head_at(S);
    assert_eq!((ray.waiting_tasks(), ray.living()), (1, 0));
    ray.join(2 * S, node("w0", &[("CPU", 1)], &[]));
    assert_eq!(ray.waiting_tasks(), 1);
    ray.join(3 * S, Joining { is_head: true, ..node("head", &[], &[]) });
    assert_eq!(ray.waiting_tasks(), 0);
}

#[test]
fn the_gcs_tries_a_group_that_a_task_kept_out_at_its_next_tick_and_not_when_the_task_ends() {
    let mut ray = cluster(1, 1);
    ray.submit(0, tasks(1, 1, Some(5 * S + S / 2)));
    ray.submit_group(0, gang(Strategy::Pack, 1, 1));
    ray.advance(5 * S + S / 2);
    assert_eq!((ray.waiting_groups(), ray.next_end()), (1, Some(6 * S)));
    ray.advance(6 * S);
    assert!(ray.take_notices().contains(&Notice::GangPlaced { waited_us: 6 * S }));
}

#[test]
fn a_group_that_is_too_large_for_all_nodes_is_tried_when_one_registers_and_at_the_tick_if_one_more_comes_too_soon() {
    let mut ray = cluster(0, 0);
    ray.submit_group(0, gang(Strategy::StrictSpread, 2, 1));
    assert_eq!(ray.next_end(), None, "head alone: nothing but a node helps");
    ray.join(5 * S + S / 4, node("w0", &[("CPU", 1)], &[]));
    ray.join(5 * S + S / 3, node("w1", &[("CPU", 1)], &[]));
    assert_eq!((ray.waiting_groups(), ray.next_end()), (1, Some(6 * S)), "within the back-off of 100 ms");
    ray.advance(6 * S);
    assert_eq!(ray.waiting_groups(), 0);
}

#[test]
fn who_has_lost_bundles_goes_first_and_a_new_head_knows_no_back_off() {
    let mut ray = cluster(2, 1);
    ray.submit_group(0, gang(Strategy::Pack, 2, 1));
    ray.submit_group(0, gang(Strategy::Pack, 1, 1));
    ray.lose(S / 2, "w1", true);
    ray.join(S, node("w2", &[("CPU", 1)], &[]));
    assert_eq!(ray.groups.values().map(Group::missing).collect::<Vec<_>>(), [0, 1]);
    ray.lose_head_only(S + S / 10, "head");
    ray.join(S + S / 5, node("w3", &[("CPU", 1)], &[]));
    assert_eq!(ray.waiting_groups(), 1, "nobody is there to place it");
    ray.join(S + S / 4, Joining { is_head: true, ..node("head", &[], &[]) });
    assert_eq!(ray.waiting_groups(), 0);
}

/// What a run of random work looks like: who was placed or began when, and the GCS's picture after each step. `is_naive`: groups are tried at
/// each tick whatever has changed, and the picture is made at each poll.
fn history(seed: u64, is_naive: bool) -> Vec<String> {
    let mut chance = mobula_traces::Seeded::new(seed);
    let mut below = |end: u64| chance.draw() % end;
    let mut ray = cluster(1, 2);
    let (mut now_us, mut history) = (0_u64, Vec::new());
    for step in 0..60 {
        let until_us = now_us + below(if step % 4 == 0 { 9 * S } else { S / 2 });
        loop {
            let tick_us = (now_us / S + 1) * S;
            let next_us = if is_naive { Some(tick_us) } else { None };
            let next_us = next_us.into_iter().chain(ray.next_end()).min().filter(|next_us| *next_us <= until_us);
            now_us = next_us.unwrap_or(until_us);
            ray.advance(now_us);
            if is_naive && now_us % S == 0 {
                let all: Vec<u64> = ray.unplaced.iter().copied().filter(|id| !ray.groups[id].was_placed).collect();
                ray.group_tries.extend(all.into_iter().map(|id| (now_us, id)));
                ray.tick(now_us);
            }
            history.extend(ray.take_notices().iter().map(|notice| format!("{now_us} {notice:?}")));
            if next_us.is_none() {
                break;
            }
        }
        let strategy = [Strategy::Pack, Strategy::Spread, Strategy::StrictPack, Strategy::StrictSpread];
        match below(6) {
            0 => ray.join(now_us, node(&format!("n{step}"), &[("CPU", 1 + below(3) as i64)], &[])),
            1 => ray.lose(now_us, &format!("n{}", below(60)), true),
            2 => ray.submit(now_us, tasks(1 + below(3) as usize, 1, Some(1 + below(6 * S)))),
            3 => {
                let id = ray.nodes.values().nth(below(3) as usize).map_or(String::new(), |node| node.id.clone());
                ray.drain(now_us, &id, DrainReason::IdleTermination);
            }
            _ => {
                let strategy = strategy[below(4) as usize];
                let bundles = 1 + below(3) as u32;
                let duration_us = Some(1 + below(8 * S));
                ray.submit_group(now_us, GroupWork { duration_us, ..gang(strategy, bundles, 1) });
            }
        }
        history.extend(ray.take_notices().iter().map(|notice| format!("{now_us} {notice:?}")));
        ray.has_changed |= is_naive;
        ray.see(now_us);
        history.push(format!("{now_us} {:?} {:?} {:?}", ray.view.waiting, ray.view.nodes, ray.unplaced));
    }
    history
}

#[test]
fn leaving_out_what_can_change_nothing_changes_nothing() {
    let placed = |history: &[String]| history.iter().filter(|line| line.contains("GangPlaced")).count();
    let mut all = 0;
    for seed in 0..300 {
        let (lazy, naive) = (history(seed, false), history(seed, true));
        all += placed(&lazy);
        assert!(lazy == naive, "seed {seed}: {:?}", lazy.iter().zip(&naive).find(|(lazy, naive)| lazy != naive));
    }
    assert!(all > 1_000, "{all}");
}
