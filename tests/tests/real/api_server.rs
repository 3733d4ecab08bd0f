//! The API server is what the other cases take it for.

use mobula_tests::apiserver::{ApiServer, post};
use mobula_tests::raycluster::{Group, Options, raycluster};
use serde_json::{Value, json};

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raycluster_is_kept_as_it_was_written() {
    let namespace = ApiServer::shared().await.unwrap().namespace("kept", "a").await.unwrap();
    let groups =
        [Group::cpu("small", 2, 5).with_min(1), Group::cpu("gpu", 4, 3).with_gpu(8).with_custom("rdma/hca", 8)];
    let options = Options { idle_timeout_s: 7, version: "v2", gcs_port: 6379 };
    let path = "/apis/ray.io/v1/namespaces/kept/rayclusters";
    post(&namespace.admin, path, &raycluster("a", &groups, &options)).await.unwrap();
    let get = http::Request::get(format!("{path}/a")).body(Vec::new()).unwrap();
    let kept: Value = namespace.admin.request(get).await.unwrap();
    assert_eq!(kept["spec"]["autoscalerOptions"]["idleTimeoutSeconds"], 7);

    let shapes = mobula_api::RayCluster::from_value(kept).unwrap().group_shapes().unwrap();
    let gpu = shapes.iter().find(|shape| shape.name == "gpu").unwrap();
    assert_eq!((gpu.resources["GPU"], gpu.resources["CPU"], gpu.resources["rdma/hca"]), (8.0, 4.0, 8.0));
    assert_eq!((gpu.max_replicas, gpu.num_of_hosts), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_refuses_pods() {
    let namespace = ApiServer::shared().await.unwrap().namespace("quota", "a").await.unwrap();
    namespace.set_pod_quota(1, 0).await.unwrap();
    post(&namespace.admin, "/api/v1/namespaces/quota/pods", &pod("first")).await.unwrap();
    let refused = post(&namespace.admin, "/api/v1/namespaces/quota/pods", &pod("second")).await.unwrap_err();
    assert!(format!("{refused:#}").contains("exceeded quota"), "{refused:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_role_allows_patching_clusters_and_nothing_about_events() {
    let namespace = ApiServer::shared().await.unwrap().namespace("role", "a").await.unwrap();
    let may = async |verb: &str, group: &str, resource: &str| {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": "system:serviceaccount:role:a",
                "resourceAttributes": {"namespace": "role", "verb": verb, "group": group, "resource": resource},
            },
        });
        let request = http::Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews")
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&review).unwrap())
            .unwrap();
        let answer: Value = namespace.admin.request(request).await.unwrap();
        answer["status"]["allowed"] == true
    };
    assert!(may("patch", "ray.io", "rayclusters").await);
    assert!(may("watch", "", "pods").await);
    assert!(!may("watch", "ray.io", "rayclusters").await);
    assert!(!may("delete", "", "pods").await);
    assert!(!may("create", "", "events").await);
}
