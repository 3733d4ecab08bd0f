//! Within the stock Role, and with more.

use std::collections::BTreeMap;
use std::time::Duration;

use mobula_tests::raycluster::Group;
use mobula_tests::wait;
use mobula_tests::world::{Setup, World};
use serde_json::{Value, json};

use crate::{REACTION, is_mobula};

/// What each request of the account was answered, as `verb resource` → codes.
fn answers(world: &World) -> BTreeMap<String, BTreeMap<i64, usize>> {
    let mut answers: BTreeMap<String, BTreeMap<i64, usize>> = BTreeMap::new();
    for (request, times) in world.namespace.audit().unwrap() {
        let key = format!("{} {}", request.verb, request.resource);
        *answers.entry(key).or_default().entry(request.code).or_default() += times;
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stock_role_lacks_is_asked_about_and_not_tried() {
    let mut world = World::start(Setup::new("stock-role", vec![Group::cpu("small", 1, 3).with_min(1)])).await.unwrap();
    world.until_pods(1, REACTION).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    if is_mobula() {
        let answers = answers(&world);
        eprintln!("requests in 20 s: {answers:?}");
        let reviews = answers.get("create selfsubjectaccessreviews").and_then(|codes| codes.get(&201));
        assert!(reviews.is_some_and(|times| *times <= 8), "{answers:?}");
        let refused: Vec<_> = answers.iter().filter(|(_, codes)| codes.contains_key(&403)).collect();
        assert_eq!(refused.len(), 0, "{refused:?}");
        let total: usize = answers.values().flat_map(BTreeMap::values).sum();
        assert!(total < 60, "{total} requests in some 20 s");
        let metrics = world.sidecar().unwrap().metrics().await.unwrap();
        let permission = metrics
            .lines()
            .find(|line| line.starts_with("mobula_missing_permissions{") && line.contains("watch rayclusters"));
        assert!(permission.is_some_and(|line| line.ends_with(" 1")), "{permission:?}");
    }
    world.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_extra_role_turns_on_the_watch_and_events() {
    let manifest = include_str!("../../../deploy/rbac/sidecar-extra.yaml");
    let rules = documents(manifest).into_iter().find(|document| document["kind"] == "Role").unwrap()["rules"].clone();
    let mut world = World::start(Setup::new("extra-role", vec![Group::cpu("small", 1, 3)])).await.unwrap();
    world.namespace.grant("extra", &rules).await.unwrap();
    // What it may do is asked at its start.
    world.start_sidecar().await.unwrap();
    let mut driver = world.driver().await.unwrap();
    driver.tasks("work", 1, json!({"CPU": 1})).await.unwrap();
    world.until_replicas(&[("small", 1)], REACTION).await.unwrap();
    if is_mobula() {
        let events = async || {
            let path = "/apis/events.k8s.io/v1/namespaces/extra-role/events";
            let list: Value = world.namespace.admin.request(http::Request::get(path).body(Vec::new())?).await?;
            Ok(list["items"].as_array().map_or(0, Vec::len))
        };
        wait::until("an Event", REACTION, events, |n| *n > 0).await.unwrap();
        let watched = async || Ok(answers(&world));
        let is_watched = |answers: &BTreeMap<_, _>| answers.contains_key("watch rayclusters");
        wait::until("the watch", REACTION, watched, is_watched).await.unwrap();
    }
    world.finish().await.unwrap();
}

/// The documents of a YAML stream.
fn documents(text: &str) -> Vec<Value> {
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}
