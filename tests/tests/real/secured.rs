//! A Ray with TLS, and one with a token.

use mobula_tests::certificates::{self, Authority};
use mobula_tests::gcs::{self, Env};
use mobula_tests::ray::Reserved;
use mobula_tests::raycluster::Group;
use mobula_tests::world::{NODE_LIMIT, Setup, World};
use serde_json::json;

use crate::REACTION;

async fn scales(setup: Setup) {
    let mut world = World::start(setup).await.unwrap();
    // Without the credentials the GCS can't be spoken to: they are really asked for.
    let address = world.ray.lock().await.gcs_address();
    assert!(gcs::client(&address, &Env::new()).unwrap().cluster_state().await.is_err());
    let mut driver = world.driver().await.unwrap();
    driver.tasks("work", 1, json!({"CPU": 1})).await.unwrap();
    world.until_replicas(&[("small", 1)], REACTION).await.unwrap();
    driver.finish("work", NODE_LIMIT).await.unwrap();
    world.until_replicas(&[("small", 0)], REACTION).await.unwrap();
    world.until_pods(0, REACTION).await.unwrap();
    world.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_on() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ray-ca").unwrap();
    let ca = certificates::write(directory.path(), "ca.crt", &authority.pem()).unwrap();
    let network = Reserved::new();
    let files = authority.server("ray", &network.names()).unwrap().write(directory.path(), "ray").unwrap();
    let variable = |name: &str, path: &std::path::Path| (name.to_owned(), path.display().to_string());
    let env = vec![
        ("RAY_USE_TLS".to_owned(), "1".to_owned()),
        variable("RAY_TLS_SERVER_CERT", &files.certificate),
        variable("RAY_TLS_SERVER_KEY", &files.key),
        variable("RAY_TLS_CA_CERT", &ca),
    ];
    scales(Setup { env, network: Some(network), ..Setup::new("tls", vec![Group::cpu("small", 1, 2)]) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token() {
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let env = vec![variable("RAY_AUTH_MODE", "token"), variable("RAY_AUTH_TOKEN", "0123456789abcdef0123456789abcdef")];
    scales(Setup { env, ..Setup::new("token", vec![Group::cpu("small", 1, 2)]) }).await;
}
