//! Execution against an API server and a GCS that note what they are told.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::client::Body;
use mobula_gcs::{
    ClusterState, NodeState,
    server::{Fault, MemoryGcs, duplex_channel},
};

use super::*;

/// What was asked, in order: requests to the API server as `<path> <body>`.
type Told = Arc<Mutex<Vec<String>>>;

/// An API server that takes everything whose path does not contain `refused`.
fn kube_access(told: &Told, refused: &'static str) -> KubeAccess {
    let told = told.clone();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let told = told.clone();
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect_bytes().await.unwrap();
            told.lock().unwrap().push(format!("{path} {}", String::from_utf8_lossy(&body)));
            let status = if !refused.is_empty() && path.ends_with(refused) { 403 } else { 200 };
            let failure = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","reason":"Forbidden","code":403}"#;
            let answer = if status == 200 { "{}" } else { failure };
            Ok::<_, std::convert::Infallible>(
                http::Response::builder().status(status).body(Body::from(answer.as_bytes().to_vec())).unwrap(),
            )
        }
    });
    KubeAccess::new(kube::Client::new(service, "ns"), "ns", "c", "v1", Duration::from_secs(5))
}

fn gcs_with_raylet() -> (MemoryGcs, gcs::Client) {
    let node_id = raylet();
    let total = mobula_gcs::ResourceMap::from([("CPU".to_owned(), 2.0), ("memory".to_owned(), 4294967296.0)]).into();
    let node = NodeState { node_id, total, ..NodeState::default() };
    let memory = MemoryGcs::new(ClusterState { nodes: vec![node].into(), ..ClusterState::default() });
    let client = gcs::Client::from_channel(duplex_channel(Arc::new(memory.clone())));
    (memory, client)
}

fn raylet() -> String {
    "ab".repeat(28)
}

fn size(cpu: &str, memory: &str) -> Size {
    Size { cpu: cpu.parse().unwrap(), memory: memory.parse().unwrap() }
}

fn resize(from: Size, to: Size) -> Action {
    Action::Resize(Box::new(PodResize {
        pod: "p".into(),
        uid: "u".into(),
        ray_node_id: raylet(),
        container: Pod::default().view().ray_container,
        from,
        to,
        status: IpprStatus { resizing_at_s: Some(NOW_S), ..IpprStatus::default() },
    }))
}

fn paths(told: &Told) -> Vec<String> {
    told.lock().unwrap().iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

const POD: &str = "/api/v1/namespaces/ns/pods/p";
const RESIZE: &str = "/api/v1/namespaces/ns/pods/p/resize";

#[tokio::test]
async fn growth_is_annotated_then_asked_for_and_the_raylet_hears_of_it_later() {
    let (memory, gcs) = gcs_with_raylet();
    let told = Told::default();
    execute(&resize(size("2", "4Gi"), size("8", "16Gi")), &kube_access(&told, ""), &gcs).await.unwrap();
    assert_eq!(paths(&told), [POD, RESIZE]);
    assert!(told.lock().unwrap()[0].contains(r#"\"resizing-at\":1700000000"#), "{told:?}");
    assert!(
        told.lock().unwrap()[1].contains(r#""path":"/spec/containers/0/resources/limits/cpu","value":"8""#),
        "{told:?}"
    );
    assert_eq!(memory.calls("ResizeRayletResourceInstances"), 0);
}

#[tokio::test]
async fn a_raylet_gives_up_what_its_pod_loses_first() {
    let (memory, gcs) = gcs_with_raylet();
    let told = Told::default();
    execute(&resize(size("2", "4Gi"), size("1500m", "8Gi")), &kube_access(&told, ""), &gcs).await.unwrap();
    let total = memory.state().nodes.living()[0].total.clone();
    assert_eq!(*total, [("CPU".to_owned(), 1.5), ("memory".to_owned(), 4294967296.0)].into());
    assert!(told.lock().unwrap()[1].contains(r#"limits/memory","value":"8Gi""#), "{told:?}");
}

#[tokio::test]
async fn a_raylet_that_does_not_shrink_keeps_its_pod_as_it_is() {
    let (memory, gcs) = gcs_with_raylet();
    memory.fail(Some("ResizeRayletResourceInstances"), 1, Fault::Unauthenticated);
    let told = Told::default();
    let result = execute(&resize(size("2", "4Gi"), size("1", "4Gi")), &kube_access(&told, ""), &gcs).await;
    assert!(matches!(result, Err(ResizeError::Gcs { .. })), "{result:?}");
    assert_eq!(paths(&told), [""; 0]);
}

#[tokio::test]
async fn after_a_sync_the_raylet_has_what_its_pod_has() {
    let (memory, gcs) = gcs_with_raylet();
    let told = Told::default();
    let sync =
        Action::Sync { pod: "p".into(), ray_node_id: raylet(), size: size("8", "16Gi"), status: IpprStatus::default() };
    execute(&sync, &kube_access(&told, ""), &gcs).await.unwrap();
    assert_eq!(memory.state().nodes.living()[0].total["CPU"], 8.0);
    assert_eq!(paths(&told), [POD]);
    assert!(told.lock().unwrap()[0].contains(r#"\"resizing-at\":null"#), "{told:?}");
}

#[tokio::test]
async fn a_refused_resize_is_an_error_of_the_api_server() {
    let (_, gcs) = gcs_with_raylet();
    let told = Told::default();
    let result = execute(&resize(size("2", "4Gi"), size("8", "16Gi")), &kube_access(&told, "/resize"), &gcs).await;
    assert!(matches!(&result, Err(ResizeError::Kube(error)) if error.message == "no"), "{result:?}");
}
