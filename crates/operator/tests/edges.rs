//! What happens rarely, over an API server in paused time.
#![allow(clippy::unwrap_used, reason = "it is a test")]

mod bench;

use bench::{Process, START_MS, cluster, condition, edit, kubelet, pods, seconds, server, started};
use mobula_api::{Gate, Gates};
use mobula_apiserver::{ApiServer, Connection, Refusal, Rule, Verb};
use mobula_operator::{
    config::{Config, GangMode},
    frame::{
        decision::{Action, Decision, Step},
        executor::Executor,
        kind,
        outcome::Outcome,
        store::Key,
        time, turns,
    },
};
use serde_json::{Value, json};
use tokio::sync::watch;

fn messages(server: &ApiServer, reason: &str) -> Vec<String> {
    let events = server.list("events", "default");
    let of_reason = events.iter().filter(|event| event["reason"] == reason);
    of_reason.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

fn with(gate: Gate) -> Gates {
    let mut gates = Gates::default();
    gates.set(gate, true);
    gates
}

/// Does one step with a connection of its own, and says what came of it.
async fn done(server: &ApiServer, process: &Process, action: Action) -> Outcome {
    done_over(&server.connect(), process, action).await
}

async fn done_over(connection: &Connection, process: &Process, action: Action) -> Outcome {
    let (_keep, leads) = watch::channel(true);
    let client = connection.client("default");
    let clock = time::following_clock(START_MS);
    let (world, metrics) = (process.world.clone(), process.metrics.clone());
    let executor = Executor::new(client, world, metrics, clock, turns::Turns::new(1), None, leads);
    let decision = Decision { batches: vec![vec![Step::new("a", action)]], ..Decision::default() };
    executor.execute(&Key::new("default", "a"), &decision).await.remove(0)
}

#[tokio::test(start_paused = true)]
async fn what_was_meant_for_an_object_that_is_gone_does_nothing_to_another_of_its_name() {
    let (server, _, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 1, 1)).unwrap();
    seconds(5).await;
    let name = pods(&server, "worker").remove(0);
    let patch = json!({"metadata": {"uid": "another", "annotations": {"x": "y"}}});
    let patched = done(&server, &process, Action::Patch { kind: &kind::POD, name: name.clone(), patch }).await;
    let deletion = Action::Delete { kind: &kind::POD, name: name.clone(), uid: "another".into() };
    let deleted = done(&server, &process, deletion).await;
    assert_eq!((patched, deleted), (Outcome::AlreadySo, Outcome::AlreadySo), "the uid is another's");
    let pod = server.get("pods", "default", &name).unwrap();
    assert_eq!(
        (&pod["metadata"]["annotations"]["x"], &pod["metadata"]["deletionTimestamp"]),
        (&Value::Null, &Value::Null)
    );
    process.end().await;
}

/// A proxy between us and the server, or a server that does not serve the path (yet), says nothing about the object.
#[tokio::test(start_paused = true)]
async fn a_404_that_names_no_object_buries_none() {
    let (server, _, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 1, 1)).unwrap();
    seconds(5).await;
    let name = pods(&server, "worker").remove(0);
    let uid = server.get("pods", "default", &name).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let plain = || Refusal::new(404, "NotFound", "the server could not find the requested resource");
    for refusal in [plain(), Refusal::new(404, "", "404 page not found")] {
        let patch = json!({"metadata": {"uid": uid, "annotations": {"x": "y"}}});
        for action in [
            Action::Patch { kind: &kind::POD, name: name.clone(), patch },
            Action::Delete { kind: &kind::POD, name: name.clone(), uid: uid.clone() },
            Action::LookUp { kind: &kind::POD, name: name.clone() },
        ] {
            let connection = server.connect();
            connection.fail(Rule::on_any("pods").refuse(refusal.clone()));
            let outcome = done_over(&connection, &process, action).await;
            assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
        }
    }
    seconds(5).await;
    assert_eq!(pods(&server, "worker"), [name], "nothing was made in its place");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_the_spec_has_left_is_kept_and_said() {
    let gates = with(Gate::GCSFaultToleranceEmbeddedStorage);
    let (server, _, process) = started(Config { gates, ..Config::default() });
    let mut stored = cluster("a", 0, 1);
    stored["spec"]["gcsFaultToleranceOptions"] = json!({"backend": "rocksdb", "storage": {"size": "1Gi"}});
    server.create("rayclusters", stored).unwrap();
    seconds(10).await;
    assert_eq!(condition(&server, "a", "ReplicaFailure"), None);
    edit(&server, |it| it["spec"]["gcsFaultToleranceOptions"]["storage"]["size"] = json!("2Gi"));
    seconds(10).await;
    let failure = condition(&server, "a", "ReplicaFailure").unwrap();
    assert_eq!((failure.0.as_str(), failure.1.as_str()), ("True", "FailedReconcileChild"));
    let said = "spec.gcsFaultToleranceOptions.storage.size: 2Gi: PersistentVolumeClaim a-gcs-pvc has 1Gi, and keeps it";
    assert!(failure.2.contains(said), "{failure:?}");
    let claim = server.get("persistentvolumeclaims", "default", "a-gcs-pvc").unwrap();
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "1Gi");
    assert_eq!(messages(&server, "FailedToCreatePVC").len(), 1);
    // 1024Mi are 1Gi.
    edit(&server, |it| it["spec"]["gcsFaultToleranceOptions"]["storage"]["size"] = json!("1024Mi"));
    seconds(10).await;
    assert_eq!(condition(&server, "a", "ReplicaFailure"), None);
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_missing_is_looked_for_until_it_is_there() {
    let (server, _, process) = started(Config::default());
    let mut scaled = cluster("a", 1, 1);
    scaled["spec"]["enableInTreeAutoscaling"] = json!(true);
    scaled["spec"]["headGroupSpec"]["template"]["spec"]["serviceAccountName"] = json!("own");
    server.create("rayclusters", scaled).unwrap();
    seconds(60).await;
    assert_eq!((server.count("pods"), messages(&server, "AutoscalerServiceAccountNotFound").len()), (0, 1));
    let looked = process.connection.count(Verb::Get, "serviceaccounts");
    assert!((10..=14).contains(&looked), "every five seconds: {looked}");
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "own", "namespace": "default"}});
    server.create("serviceaccounts", account).unwrap();
    seconds(10).await;
    assert_eq!(server.count("pods"), 2);
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_nobody_uses_is_suspended_and_comes_back() {
    let (server, _, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 2, 1)).unwrap();
    seconds(10).await;
    edit(&server, |it| it["spec"]["idleSuspend"] = json!(true));
    seconds(20).await;
    assert_eq!(server.count("pods"), 0);
    assert_eq!(condition(&server, "a", "RayClusterSuspended").unwrap().0, "True");
    assert_eq!(server.get("rayclusters", "default", "a").unwrap()["status"]["state"], "suspended");
    edit(&server, |it| it["spec"]["idleSuspend"] = json!(false));
    seconds(20).await;
    assert_eq!(server.count("pods"), 3);
    assert_eq!(server.get("rayclusters", "default", "a").unwrap()["status"]["state"], "ready");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn how_long_a_cluster_took_is_measured_once_and_forgotten_with_it() {
    let server = server(1);
    let nodes = kubelet(&server);
    nodes.lock().unwrap().paused = true;
    let process = Process::start(server.connect(), Config::default(), "a");
    let uid = server.create("rayclusters", cluster("a", 1, 1)).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let measured = || {
        let text = process.metrics.render(&process.world, true);
        let series =
            format!("kuberay_cluster_provisioned_duration_seconds{{name=\"a\",namespace=\"default\",uid=\"{uid}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)?.parse::<f64>().ok())
    };
    seconds(7).await;
    assert_eq!(measured(), None);
    nodes.lock().unwrap().paused = false;
    seconds(3).await;
    let first = measured().unwrap();
    assert!((7.0..9.0).contains(&first), "{first}");
    server.delete("pods", "default", &pods(&server, "worker")[0]).unwrap();
    seconds(30).await;
    assert_eq!(measured(), Some(first), "it has never ceased to be provisioned");
    server.delete("rayclusters", "default", "a").unwrap();
    seconds(5).await;
    assert_eq!(measured(), None);
    process.end().await;
}

/// The value of a series of metrics; 0 if there is none.
fn metric(process: &Process, series: &str) -> f64 {
    let text = process.metrics.render(&process.world, true);
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn the_first_event_after_a_quiet_time_has_not_waited_since_then() {
    let (server, _, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 1, 1)).unwrap();
    seconds(90).await;
    let name = "mobula_operator_queue_seconds";
    let queued = |what: &str| metric(&process, &format!("{name}_{what}{{controller=\"raycluster-controller\"}}"));
    let (count, sum) = (queued("count"), queued("sum"));
    edit(&server, |it| it["metadata"]["annotations"] = json!({"example.com/a": "1"}));
    seconds(1).await;
    let (count, sum) = (queued("count") - count, queued("sum") - sum);
    assert!(count >= 1.0 && sum <= 0.02 * count, "{count} waited {sum} s together");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn objects_that_are_due_are_counted_for_each_controller() {
    let (server, _, process) = started(Config::default());
    seconds(5).await;
    process.connection.fail(Rule::on(Verb::Create, "services").always().hang());
    for number in 0..40 {
        server.create("rayclusters", cluster(&format!("c{number}"), 1, 1)).unwrap();
    }
    seconds(1).await;
    let depth = |controller: &str| metric(&process, &format!("workqueue_depth{{name=\"{controller}\"}}"));
    let depths = (depth("raycluster-controller"), depth("gang-admission"));
    assert!(depths.0 >= 1.0 && depths.1 == 0.0, "{depths:?}");
    process.crash();
}

#[tokio::test(start_paused = true)]
async fn what_a_cluster_no_longer_notes_stays_on_its_ingress() {
    let config = Config { compat: mobula_api::Compat::V1_7, ..Config::default() };
    let (server, _, process) = started(config);
    let mut open = cluster("a", 0, 1);
    open["spec"]["headGroupSpec"]["enableIngress"] = json!(true);
    open["metadata"]["annotations"] = json!({"example.com/a": "1", "example.com/b": "1"});
    server.create("rayclusters", open).unwrap();
    seconds(5).await;
    edit(&server, |it| it["metadata"]["annotations"] = json!({"example.com/a": "2"}));
    seconds(5).await;
    let ingress = server.get("ingresses", "default", "a-head-ingress").unwrap();
    // Nothing says that it is not a note of somebody else.
    assert_eq!(ingress["metadata"]["annotations"], json!({"example.com/a": "2", "example.com/b": "1"}));
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_somebody_else_is_left_alone_and_said() {
    let server = server(1);
    kubelet(&server);
    let gates = with(Gate::RayClusterNetworkPolicy);
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                        "metadata": {"name": "a-head", "namespace": "default"}, "spec": {"podSelector": {}}});
    server.create("networkpolicies", policy).unwrap();
    let process = Process::start(server.connect(), Config { gates, ..Config::default() }, "a");
    let mut guarded = cluster("a", 1, 1);
    guarded["spec"]["networkPolicy"] = json!({"mode": "DenyAllIngress"});
    server.create("rayclusters", guarded).unwrap();
    seconds(10).await;
    let said = messages(&server, "NetworkPolicyNameCollision");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("default/a-head") && said[0].contains("belongs to something else"), "{said:?}");
    assert!(messages(&server, "FailedToCreateNetworkPolicy").is_empty());
    assert_eq!(condition(&server, "a", "ReplicaFailure").unwrap().1, "FailedReconcileChild");
    assert_eq!(server.get("networkpolicies", "default", "a-head").unwrap()["spec"], json!({"podSelector": {}}));
    assert!(server.get("networkpolicies", "default", "a-workers-w").is_some(), "no other part is held up");
    assert_eq!(server.count("pods"), 2);
    process.end().await;
}

/// A worker that was drained has ended well, as its kubelet says.
fn ends_well(server: &ApiServer, name: &str, at_ms: i64) {
    let change = |pod: &mut Value| {
        pod["status"]["phase"] = json!("Succeeded");
        pod["status"]["containerStatuses"][0]["state"] =
            json!({"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": time::rfc3339(at_ms)}});
    };
    server.edit("pods", "default", name, change).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drained_worker_is_not_replaced_before_its_autoscaler_can_say_that_it_goes() {
    let server = server(1);
    kubelet(&server);
    let clock = time::following_clock(START_MS + 1);
    let process = Process::start(server.connect(), Config::default(), "a");
    let mut scaled = cluster("a", 3, 1);
    scaled["spec"]["enableInTreeAutoscaling"] = json!(true);
    server.create("rayclusters", scaled).unwrap();
    seconds(5).await;
    let drained = pods(&server, "worker").remove(0);
    process.connection.reset_counts();
    ends_well(&server, &drained, clock());
    seconds(3).await;
    edit(&server, |it| {
        it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(2);
        it["spec"]["workerGroupSpecs"][0]["scaleStrategy"] = json!({"workersToDelete": [drained]});
    });
    seconds(30).await;
    let left = pods(&server, "worker");
    assert_eq!((left.len(), left.contains(&drained)), (2, false));
    assert_eq!(process.connection.count(Verb::Create, "pods"), 0, "nothing was made in its place");
    // One that nobody names is replaced after a while.
    ends_well(&server, &left[0], clock());
    seconds(10).await;
    let replaced = pods(&server, "worker");
    assert_eq!((replaced.len(), replaced.contains(&left[0])), (2, false));
    // Nor is it waited for longer where the clock of its node is ahead.
    ends_well(&server, &replaced[0], clock() + 3_600_000);
    seconds(10).await;
    let last = pods(&server, "worker");
    assert_eq!((last.len(), last.contains(&replaced[0])), (2, false));
    process.end().await;
}

/// A leader that no longer reaches the Lease stops; what it has sent before may arrive after the other one leads.
#[tokio::test(start_paused = true)]
async fn a_late_request_of_the_leader_before_admits_no_second_gang() {
    let server = server(1);
    let node = json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n", "labels": {"kubernetes.io/hostname": "n"}},
        "status": {"allocatable": {"cpu": "8", "memory": "64Gi", "pods": "110", "gpu": "2"},
                   "conditions": [{"type": "Ready", "status": "True"}]}});
    server.create("nodes", node).unwrap();
    let mut config = Config::default();
    config.gangs.mode = GangMode::All;
    let first = Process::start(server.connect(), config.clone(), "first");
    // Lifts of the first leader never get an answer: they are under way when it ends.
    first.connection.fail(Rule::on(Verb::Patch, "pods").always().hang());
    for name in ["a", "b"] {
        let mut gang = cluster(name, 2, 1);
        gang["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"]["limits"]["gpu"] =
            json!(1);
        server.create("rayclusters", gang).unwrap();
    }
    seconds(1).await;
    for head in pods(&server, "head") {
        server.edit("pods", "default", &head, |pod| pod["spec"]["nodeName"] = json!("n")).unwrap();
    }
    seconds(4).await;
    let before: Vec<Value> = server.list("pods", "default");
    let late: Vec<&Value> =
        before.iter().filter(|pod| pod["metadata"]["labels"]["ray.io/cluster"] == "a" && is_gated(pod)).collect();
    assert_eq!(late.len(), 2, "nothing was lifted");
    first.crash();
    let second = Process::start(server.connect(), config, "second");
    seconds(60).await;
    let lifted = |name: &str| {
        let pods = server.list("pods", "default");
        let of = pods.iter().filter(|pod| pod["metadata"]["labels"]["ray.io/cluster"] == name && !is_gated(pod));
        of.filter(|pod| pod["metadata"]["labels"]["ray.io/node-type"] == "worker").count()
    };
    assert_eq!((lifted("a") + lifted("b"), lifted("a") * lifted("b")), (2, 0), "one of two");
    // Now the requests of the first leader arrive: they name versions that are no more.
    let connection = server.connect();
    let client = connection.client("default");
    for pod in before.iter().filter(|pod| is_gated(pod)) {
        let patch = json!({"metadata": {"uid": pod["metadata"]["uid"], "resourceVersion": pod["metadata"]["resourceVersion"]},
                           "spec": {"schedulingGates": null, "nodeSelector": {"kubernetes.io/hostname": "n"}}});
        let path = format!("/api/v1/namespaces/default/pods/{}", pod["metadata"]["name"].as_str().unwrap());
        let request = http::Request::patch(path).header("content-type", "application/merge-patch+json");
        let answer = client.request::<Value>(request.body(patch.to_string().into_bytes()).unwrap()).await;
        let refused = matches!(&answer, Err(kube::Error::Api(status)) if status.code == 409);
        assert!(refused, "{answer:?}");
    }
    assert_eq!(lifted("a") + lifted("b"), 2);
    second.crash();
}

fn is_gated(pod: &Value) -> bool {
    pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty())
}

#[tokio::test(start_paused = true)]
async fn a_conflict_of_versions_is_not_taken_for_an_object_that_is_gone() {
    let (server, _, process) = started(Config::default());
    server.create("rayclusters", cluster("a", 1, 1)).unwrap();
    seconds(5).await;
    let name = pods(&server, "worker").remove(0);
    let pod = server.get("pods", "default", &name).unwrap();
    let patch = json!({"metadata": {"uid": pod["metadata"]["uid"], "resourceVersion": "1", "annotations": {"x": "y"}}});
    let outcome = done(&server, &process, Action::Patch { kind: &kind::POD, name: name.clone(), patch }).await;
    assert!(matches!(&outcome, Outcome::Failed(problem) if problem.class.as_str() == "conflict"), "{outcome:?}");
    seconds(5).await;
    assert_eq!(pods(&server, "worker"), [name], "it was not made again");
    process
        .connection
        .fail(Rule::on(Verb::Delete, "pods").times(1).refuse(Refusal::of_code(409, "the object has been modified")));
    edit(&server, |it| it["spec"]["workerGroupSpecs"][0]["replicas"] = json!(0));
    seconds(5).await;
    assert_eq!(pods(&server, "worker"), [""; 0]);
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_service_of_serve_needs_no_port_once_it_is_there() {
    let (server, _, process) = started(Config::default());
    let mut with_port = cluster("a", 1, 1);
    with_port["metadata"]["annotations"] = json!({"ray.io/enable-serve-service": "true"});
    let container = &mut with_port["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0];
    container["ports"] = json!([{"name": "serve", "containerPort": 8000}]);
    server.create("rayclusters", with_port).unwrap();
    seconds(5).await;
    assert!(server.get("services", "default", "a-serve-svc").is_some());
    let pointer = "/spec/headGroupSpec/template/spec/containers/0/ports/0/name";
    edit(&server, |it| *it.pointer_mut(pointer).unwrap() = json!("http"));
    seconds(30).await;
    assert!(server.get("services", "default", "a-serve-svc").is_some());
    assert_eq!(
        condition(&server, "a", "ReplicaFailure"),
        None,
        "KubeRay looks at the ports of a Service to be made only"
    );
    process.end().await;
}
