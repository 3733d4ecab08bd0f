//! Gangs that an outside scheduler knows: no pod comes before its PodGroup, which may be refused; in paused time.
#![allow(clippy::unwrap_used, reason = "it is a test")]

mod bench;

use bench::{Process, cluster, condition, edit, failing, in_phase, of_group, pods, said, scaled, seconds, started};
use mobula_apiserver::{Refusal, Review, Rule, Verb};
use mobula_operator::config::Config;
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn no_worker_comes_before_its_gang_is_as_large() {
    for (scheduler, resource, name) in [
        ("volcano", "podgroups.scheduling.volcano.sh", "ray-a-pg"),
        ("scheduler-plugins", "podgroups.scheduling.x-k8s.io", "a"),
    ] {
        let config = Config { batch_scheduler: scheduler.parse().ok(), ..Config::default() };
        let (server, _, process) = started(config);
        let mut gang = cluster("a", 2, 1);
        gang["metadata"]["labels"] = json!({"ray.io/gang-scheduling-enabled": "true"});
        server.create("rayclusters", gang).unwrap();
        let replicas =
            |replicas: u64| edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(replicas));
        let sizes = || {
            let group = server.get(resource, "default", name).unwrap();
            (pods(&server, "worker").len(), group["spec"]["minMember"].clone())
        };
        seconds(5).await;
        assert_eq!(sizes(), (2, json!(3)), "{scheduler}");
        let server_says = |code, says| Rule::on(Verb::Update, "podgroups").refuse(Refusal::of_code(code, says));
        process.connection.fail(server_says(409, "the object has been modified"));
        let before_its_gang = move |review: &mut Review<'_>| {
            let size = review.objects(resource, "default").next().and_then(|group| group["spec"]["minMember"].as_u64());
            let is_covered =
                review.asked.verb != Verb::Create || size > Some(review.siblings("default").count() as u64);
            if is_covered { Ok(()) } else { Err(Refusal::of_code(422, "comes before its gang")) }
        };
        server.admit("pods", before_its_gang).unwrap();
        replicas(4);
        seconds(5).await;
        assert_eq!(sizes(), (4, json!(5)), "{scheduler}");
        process.connection.fail(server_says(403, "no PodGroup is changed").always());
        replicas(8);
        seconds(60).await;
        assert_eq!(sizes(), (4, json!(5)), "{scheduler}: refused");
        assert!(condition(&server, "a", "ReplicaFailure").unwrap().2.contains("no PodGroup is changed"), "{scheduler}");
        replicas(1);
        seconds(60).await;
        assert_eq!(sizes(), (1, json!(5)), "{scheduler}: what goes waits for nothing");
        process.connection.recover();
        replicas(8);
        seconds(60).await;
        assert_eq!((sizes(), condition(&server, "a", "ReplicaFailure")), ((8, json!(9)), None), "{scheduler}");
        assert_eq!(said(&server, "FailedToCreateWorkerPod"), 0, "{scheduler}: came before its gang");
        process.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_gang_that_may_not_grow_stops_nothing_but_its_growth() {
    let forbidden = || Rule::on(Verb::Update, "podgroups").refuse(Refusal::of_code(403, "no PodGroup is changed"));
    let conflicts = || Rule::on(Verb::Update, "podgroups").refuse(Refusal::of_code(409, "has been modified"));
    for (scheduler, rule) in [("volcano", forbidden()), ("volcano", conflicts()), ("scheduler-plugins", forbidden())] {
        let config = Config { batch_scheduler: scheduler.parse().ok(), ..Config::default() };
        let (server, _, process) = started(config);
        let mut gang = cluster("a", 4, 1);
        gang["metadata"]["labels"] = json!({"ray.io/gang-scheduling-enabled": "true"});
        for (name, hosts) in [("other", 1), ("pairs", 2)] {
            let mut group = gang["spec"]["workerGroupSpecs"][0].clone();
            group["groupName"] = json!(name);
            group["replicas"] = json!(3);
            group["numOfHosts"] = json!(hosts);
            gang["spec"]["workerGroupSpecs"].as_array_mut().unwrap().push(group);
        }
        server.create("rayclusters", gang).unwrap();
        let of = |group: &str| of_group(&server, group);
        let sizes = || (pods(&server, "head").len(), of("w").len(), of("other").len(), of("pairs").len());
        seconds(5).await;
        assert_eq!(sizes(), (1, 4, 3, 6), "{scheduler}");
        process.connection.fail(rule.always());
        edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(8));
        edit(&server, |it| it["spec"]["workerGroupSpecs"][2]["replicas"] = json!(5));
        seconds(60).await;
        assert_eq!(sizes(), (1, 4, 3, 6), "{scheduler}: no pod beyond what the gang covers");
        let fail = |name: &str| {
            server.edit("pods", "default", name, |pod| pod["status"]["phase"] = json!("Failed")).unwrap();
        };
        fail(&of("w")[1]);
        seconds(5).await;
        assert_eq!((sizes(), in_phase(&server, "Failed")), ((1, 4, 3, 6), 0), "{scheduler}: a worker is replaced");
        fail(&of("pairs")[1]);
        seconds(5).await;
        assert_eq!((sizes(), in_phase(&server, "Failed")), ((1, 4, 3, 6), 0), "{scheduler}: a replica is replaced");
        let head = pods(&server, "head").remove(0);
        server.delete("pods", "default", &head).unwrap();
        seconds(5).await;
        assert_eq!((sizes(), in_phase(&server, "Running")), ((1, 4, 3, 6), 14), "{scheduler}: the head comes back");
        let named = of("other")[1].clone();
        edit(&server, |it| {
            let group = &mut it["spec"]["workerGroupSpecs"][1];
            group["replicas"] = json!(2);
            group["scaleStrategy"] = json!({"workersToDelete": [named]});
        });
        seconds(2).await;
        assert!(!of("other").contains(&named), "{scheduler}: what is named goes");
        assert_eq!(of("other").len(), 2, "{scheduler}");
        edit(&server, |it| it["spec"]["workerGroupSpecs"][1]["suspend"] = json!(true));
        seconds(2).await;
        assert_eq!(of("other").len(), 0, "{scheduler}: a group is suspended");
        seconds(60).await;
        assert!(pods(&server, "worker").len() <= 13, "{scheduler}: {:?}", sizes());
        process.connection.recover();
        seconds(60).await;
        assert_eq!(sizes(), (1, 8, 0, 10), "{scheduler}: it may grow");
        process.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn beside_a_gang_that_may_not_grow_losses_are_replaced_and_no_faster_than_elsewhere() {
    let volcano = || Config { batch_scheduler: "volcano".parse().ok(), ..Config::default() };
    let refuse = |process: &Process| {
        let rule = Rule::on(Verb::Update, "podgroups").refuse(Refusal::of_code(403, "no PodGroup is changed"));
        process.connection.fail(rule.always());
    };
    // Of what an autoscaler asks for beyond the least, the gang knows nothing.
    let (server, _, process) = started(volcano());
    let mut elastic = scaled("a");
    elastic["spec"]["workerGroupSpecs"][0]["minReplicas"] = json!(2);
    elastic["spec"]["workerGroupSpecs"][0]["replicas"] = json!(6);
    server.create("rayclusters", elastic).unwrap();
    seconds(5).await;
    assert_eq!(pods(&server, "worker").len(), 6);
    refuse(&process);
    edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["minReplicas"] = json!(4));
    seconds(5).await;
    let lost = pods(&server, "worker").remove(0);
    server.delete("pods", "default", &lost).unwrap();
    seconds(5).await;
    assert_eq!(pods(&server, "worker").len(), 6, "one was lost");
    edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(7));
    seconds(5).await;
    assert_eq!(pods(&server, "worker").len(), 7, "one more is asked for");
    process.end().await;

    let (server, _, process) = started(volcano());
    server.create("rayclusters", cluster("a", 4, 1)).unwrap();
    seconds(5).await;
    refuse(&process);
    edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(8));
    seconds(5).await;
    process.connection.reset_counts();
    let failing = failing(&server);
    for _ in 0..300 {
        seconds(1).await;
        assert!(pods(&server, "worker").len() <= 4);
    }
    failing.abort();
    let made = process.connection.count(Verb::Create, "pods");
    assert!((16..=28).contains(&made), "{made} were made");
    process.end().await;
}

/// A scheduler would take the head and the first workers for a whole gang.
#[tokio::test(start_paused = true)]
async fn a_gang_that_comes_back_larger_has_grown_before_its_first_pod() {
    let config = Config { batch_scheduler: "volcano".parse().ok(), ..Config::default() };
    let (server, _, process) = started(config);
    let mut gang = cluster("a", 2, 1);
    gang["metadata"]["labels"] = json!({"ray.io/gang-scheduling-enabled": "true"});
    server.create("rayclusters", gang).unwrap();
    seconds(5).await;
    edit(&server, |it| it["spec"]["suspend"] = json!(true));
    seconds(60).await;
    assert!(pods(&server, "worker").is_empty());
    let whole = |review: &mut Review<'_>| {
        let group = review.objects("podgroups.scheduling.volcano.sh", "default").next();
        let is_whole = group.is_some_and(|group| group["spec"]["minMember"] == 9);
        if is_whole || review.asked.verb != Verb::Create { Ok(()) } else { Err(Refusal::of_code(422, "too early")) }
    };
    server.admit("pods", whole).unwrap();
    edit(&server, |it| {
        it["spec"]["suspend"] = json!(false);
        it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(8);
    });
    seconds(30).await;
    assert_eq!(pods(&server, "worker").len(), 8);
    assert_eq!((said(&server, "FailedToCreateWorkerPod"), said(&server, "FailedToCreateHeadPod")), (0, 0));
    process.end().await;
}

/// No pod comes before the gang of a cluster that has none yet, as under KubeRay; unlike there it is said at once. A cluster
/// that runs loses nothing with its gang.
#[tokio::test(start_paused = true)]
async fn a_gang_that_may_not_be_made_is_said_at_once_and_stops_nothing_that_runs() {
    let forbidden = || Refusal::of_code(403, "podgroups is forbidden");
    let not_installed = || Refusal::new(404, "", "404 page not found");
    let denied = || Refusal::of_code(400, "admission webhook denied the request");
    for (scheduler, resource, refusal, says) in [
        ("volcano", "podgroups.scheduling.volcano.sh", forbidden(), "podgroups is forbidden"),
        ("volcano", "podgroups.scheduling.volcano.sh", denied(), "webhook denied"),
        (
            "scheduler-plugins",
            "podgroups.scheduling.x-k8s.io",
            not_installed(),
            "the server has no PodGroup of scheduling.x-k8s.io/v1alpha1: 404 page not found",
        ),
    ] {
        let config = Config { batch_scheduler: scheduler.parse().ok(), ..Config::default() };
        let (server, _, process) = started(config);
        let refuse = || process.connection.fail(Rule::on(Verb::Create, "podgroups").refuse(refusal.clone()).always());
        refuse();
        let mut gang = cluster("a", 3, 1);
        gang["metadata"]["labels"] = json!({"ray.io/gang-scheduling-enabled": "true"});
        server.create("rayclusters", gang).unwrap();
        seconds(2).await;
        let told = || condition(&server, "a", "ReplicaFailure").unwrap_or_default();
        assert_eq!((told().0.as_str(), told().1.as_str()), ("True", "FailedReconcileChild"), "{scheduler}: {says}");
        assert!(told().2.contains(says), "{:?}", told());
        seconds(120).await;
        assert!(server.count("pods") == 0 && told().2.contains(says), "{:?}", told());
        let events = server.list("events", "default");
        let of_gang = events.iter().find(|event| event["reason"] == "FailedToCreatePodGroup").unwrap();
        assert!(of_gang["message"].as_str().unwrap().contains(says), "{of_gang}");
        process.connection.recover();
        seconds(60).await;
        assert_eq!((in_phase(&server, "Running"), told()), (4, Default::default()), "{scheduler}: {says}");

        refuse();
        let group = server.list(resource, "default").remove(0);
        server.delete(resource, "default", group["metadata"]["name"].as_str().unwrap()).unwrap();
        seconds(2).await;
        assert!(told().2.contains(says), "{:?}", told());
        for role in ["worker", "head"] {
            let broken = pods(&server, role).remove(0);
            server.edit("pods", "default", &broken, |pod| pod["status"]["phase"] = json!("Failed")).unwrap();
            seconds(5).await;
            assert_eq!((in_phase(&server, "Running"), in_phase(&server, "Failed")), (4, 0), "{scheduler}: a {role}");
        }
        let gone = pods(&server, "worker").remove(0);
        server.delete("pods", "default", &gone).unwrap();
        seconds(5).await;
        assert_eq!(in_phase(&server, "Running"), 4, "{scheduler}: one was lost");
        // What comes back from nothing is as new.
        edit(&server, |it| it["spec"]["suspend"] = json!(true));
        seconds(60).await;
        edit(&server, |it| it["spec"]["suspend"] = json!(false));
        seconds(60).await;
        assert_eq!(server.count("pods"), 0, "{scheduler}: {says}");
        process.connection.recover();
        seconds(60).await;
        assert_eq!((in_phase(&server, "Running"), told()), (4, Default::default()), "{scheduler}: {says}");
        process.end().await;
    }
}
