//! Workers that fail, once and again and again, over an API server in paused time.
#![allow(clippy::unwrap_used, reason = "it is a test")]

mod bench;

use bench::{cluster, edit, failing, in_phase, pods, seconds, started};
use mobula_apiserver::Verb;
use mobula_operator::config::Config;
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn workers_that_fail_again_and_again_are_made_ever_more_slowly() {
    for (replicas, hosts) in [(1, 1), (4, 1), (2, 2)] {
        let (server, _, process) = started(Config::default());
        server.create("rayclusters", cluster("a", replicas, hosts)).unwrap();
        seconds(5).await;
        process.connection.reset_counts();
        let failing = failing(&server);
        let mut most_failed = 0;
        for _ in 0..300 {
            seconds(1).await;
            most_failed = most_failed.max(in_phase(&server, "Failed"));
        }
        let (wanted, made) = ((replicas * hosts) as usize, process.connection.count(Verb::Create, "pods"));
        assert!(most_failed <= wanted, "{replicas} of {hosts}: {most_failed} that failed at once");
        // At once, at once, after 10 s, 20 s, 40 s, 80 s, 160 s.
        assert!((4..=7).contains(&(made as usize / wanted)), "{replicas} of {hosts}: {made} made");
        failing.abort();
        // What was the last delay is over.
        seconds(320).await;
        assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (wanted + 1, 0));
        process.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_has_lasted_is_replaced_at_once_however_many_failed_before() {
    let (server, _, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 20, 1)).unwrap();
    seconds(605).await;
    // A node after the other is reclaimed.
    for name in pods(&server, "worker") {
        seconds(30).await;
        server.edit("pods", "default", &name, |pod| pod["status"]["phase"] = json!("Failed")).unwrap();
        seconds(1).await;
        assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (21, 0), "after {name}");
    }
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_fails_again_and_again_holds_up_no_other() {
    let (server, _, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 1, 1)).unwrap();
    seconds(5).await;
    let failing = failing(&server);
    seconds(60).await;
    failing.abort();
    assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (1, 1), "it waits");
    edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(3));
    seconds(1).await;
    assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (3, 1), "two are new");
    edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(2));
    seconds(1).await;
    assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (3, 0), "nobody waits for it any more");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_other_hosts_of_a_replica_that_waits_go_at_once() {
    let (server, _, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 1, 4)).unwrap();
    seconds(5).await;
    let fail_one = || {
        let name = pods(&server, "worker")[0].clone();
        server.edit("pods", "default", &name, |pod| pod["status"]["phase"] = json!("Failed")).unwrap();
    };
    for _ in 0..2 {
        fail_one();
        seconds(1).await;
        assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (5, 0));
    }
    fail_one();
    seconds(1).await;
    assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (1, 1));
    seconds(10).await;
    assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (5, 0));
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_in_a_crash_loop_is_no_reason_for_others_to_wait() {
    for hosts in [1, 2] {
        let (server, _, process) = started(Config::default());
        server.create("rayclusters", cluster("a", 5, hosts)).unwrap();
        seconds(5).await;
        process.connection.reset_counts();
        let fail = |replica: u32| {
            let mut names = Vec::new();
            server.each("pods", "", |pod| {
                let slot = pod["metadata"]["annotations"]["mobula.dev/slot"].as_str().unwrap_or_default();
                let is_there = slot.starts_with(&format!("{replica}.0."));
                let is_worker = pod["metadata"]["labels"]["ray.io/group"] == "w";
                if is_there && is_worker && pod["status"]["phase"] == "Running" {
                    names.push(pod["metadata"]["name"].as_str().unwrap().to_owned());
                }
            });
            for name in &names {
                server.edit("pods", "default", name, |pod| pod["status"]["phase"] = json!("Failed")).unwrap();
            }
        };
        for second in 0..300 {
            fail(1);
            if second == 120 {
                assert_eq!(in_phase(&server, "Failed"), 1, "one waits");
                let before: Vec<String> = pods(&server, "worker");
                fail(3);
                assert_eq!(in_phase(&server, "Failed"), 2);
                seconds(1).await;
                assert_eq!(in_phase(&server, "Failed"), 1, "{hosts} hosts: the other one is replaced at once");
                assert_eq!(in_phase(&server, "Running") as i64, 1 + 4 * hosts, "{hosts} hosts: {before:?}");
            }
            seconds(1).await;
        }
        let made = process.connection.count(Verb::Create, "pods");
        assert!(made <= 8 * hosts as u64, "{hosts} hosts: {made} were made");
        process.end().await;
    }
}
