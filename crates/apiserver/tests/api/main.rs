//! The server under an unmodified client, in paused time.
#![allow(clippy::unwrap_used)] // what the cases share fails them as they fail themselves

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use mobula_apiserver::{ApiServer, End, Refusal, Rule, Settings, Verb};
use serde_json::json;

fn ray_clusters(client: kube::Client) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("ray.io", "v1", "RayCluster"));
    Api::default_namespaced_with(client, &kind)
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"v": value}}, "data": {"v": value}})).unwrap()
}

#[tokio::test(start_paused = true)]
async fn spec_and_status_are_written_apart() {
    let server = ApiServer::default();
    let api = ray_clusters(server.client());
    let object = json!({"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "a"}, "spec": {"x": 1}, "status": {"state": "ready"}});
    let made = api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    assert_eq!((made.data.get("status"), made.metadata.generation), (None, Some(1)));

    let both = json!({"spec": {"x": 2}, "status": {"state": "failed"}});
    let spec = api.patch("a", &PatchParams::default(), &Patch::Merge(&both)).await.unwrap();
    assert_eq!(
        (&spec.data["spec"]["x"], spec.data.get("status"), spec.metadata.generation),
        (&json!(2), None, Some(2))
    );
    let both = json!({"spec": {"x": 3}, "status": {"state": "failed"}});
    let status = api.patch_status("a", &PatchParams::default(), &Patch::Merge(&both)).await.unwrap();
    assert_eq!((&status.data["spec"]["x"], &status.data["status"]["state"]), (&json!(2), &json!("failed")));
    assert_eq!(status.metadata.generation, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_reflector_follows_through_cuts_and_compactions() {
    let server = ApiServer::default();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    let (reader, writer) = reflector::store();
    let stream = reflector::reflector(writer, watcher(api.clone(), watcher::Config::default().labels("v!=hidden")));
    let following = tokio::spawn(stream.touched_objects().for_each(|_| std::future::ready(())));
    reader.wait_until_ready().await.unwrap();

    let names = || {
        let mut names: Vec<String> = reader.state().iter().map(|map| map.metadata.name.clone().unwrap()).collect();
        names.sort();
        names
    };
    let later = || tokio::time::sleep(Duration::from_secs(30));
    for name in ["a", "b", "c"] {
        api.create(&PostParams::default(), &config_map(name, "1")).await.unwrap();
    }
    later().await;
    assert_eq!(names(), ["a", "b", "c"]);
    assert_eq!(server.cut_watches("configmaps", End::Closed), 1);
    api.delete("a", &Default::default()).await.unwrap();
    later().await;
    assert_eq!(names(), ["b", "c"]);
    server.edit("configmaps", "default", "b", |map| map["metadata"]["labels"]["v"] = json!("hidden")).unwrap();
    later().await;
    assert_eq!(names(), ["c"]);
    server.cut_watches("", End::Expired);
    server.forget_history();
    api.create(&PostParams::default(), &config_map("d", "1")).await.unwrap();
    later().await;
    assert_eq!(names(), ["c", "d"]);
    following.abort();
}

/// Each watch hears of what its selector fits, before a change or after it, whatever others select by.
#[tokio::test(start_paused = true)]
async fn every_selector_is_told_of_what_comes_and_goes() {
    let server = ApiServer::default();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    let selectors = ["v=x", "w=1", "v=x,w=1", "v in (x,y)", "v=y", "v", "v!=y", "", "w=1,v notin (z)"];
    let heard = selectors.map(|_| Arc::new(Mutex::new(String::new())));
    let everywhere: Api<ConfigMap> = Api::all(server.client());
    let apis = [&api, &everywhere].into_iter().cycle();
    for ((selector, heard), api) in selectors.into_iter().zip(heard.clone()).zip(apis) {
        let (api, params) = (api.clone(), WatchParams::default().labels(selector));
        tokio::spawn(async move {
            let mut events = api.watch(&params, "0").await.unwrap().boxed();
            while let Some(event) = events.next().await {
                heard.lock().unwrap().push(match event.unwrap() {
                    WatchEvent::Added(_) => '+',
                    WatchEvent::Modified(_) => '~',
                    WatchEvent::Deleted(_) => '-',
                    WatchEvent::Bookmark(_) | WatchEvent::Error(_) => '?',
                });
            }
        });
    }
    let later = || tokio::time::sleep(Duration::from_secs(1));
    later().await;
    api.create(&PostParams::default(), &config_map("a", "x")).await.unwrap();
    for labels in [json!({"v": "y"}), json!({"v": "x", "w": "1"}), json!({"w": "1"}), json!({"v": "x"})] {
        later().await;
        server.edit("configmaps", "default", "a", |map| map["metadata"]["labels"] = labels).unwrap();
    }
    later().await;
    api.delete("a", &Default::default()).await.unwrap();
    later().await;
    let heard = heard.map(|heard| heard.lock().unwrap().clone());
    assert_eq!(heard, ["+-+-+-", "+~-", "+-", "+~~-+-", "+-", "+~~-+-", "+-+~~-", "+~~~~-", "+~-"]);
}

#[tokio::test(start_paused = true)]
async fn streamed_lists_are_understood() {
    let server = ApiServer::default();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    api.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let stream = watcher(api.clone(), watcher::Config::default().streaming_lists());
    let seen: Vec<watcher::Event<ConfigMap>> = stream.take(3).map(Result::unwrap).collect().await;
    assert!(matches!(&seen[..], [watcher::Event::Init, watcher::Event::InitApply(_), watcher::Event::InitDone]));
}

#[tokio::test(start_paused = true)]
async fn pages_show_one_version() {
    let server = ApiServer::new(Settings { history_limit: 8, ..Settings::default() });
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    for name in ["a", "b", "c", "d"] {
        api.create(&PostParams::default(), &config_map(name, "1")).await.unwrap();
    }
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (2, Some(2)));
    api.delete("c", &Default::default()).await.unwrap();
    api.create(&PostParams::default(), &config_map("e", "1")).await.unwrap();
    let token = first.metadata.continue_.unwrap();
    let second = api.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    let names: Vec<_> = second.items.iter().map(|map| map.metadata.name.as_deref().unwrap()).collect();
    assert_eq!((names, second.metadata.continue_), (vec!["c", "d"], None));
    for value in 0..10 {
        let patch = json!({"data": {"v": value.to_string()}});
        api.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }
    let late = api.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap_err();
    assert!(matches!(late, kube::Error::Api(status) if status.code == 410));
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_ten_minutes_is_forgotten() {
    let server = ApiServer::default();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    let mut versions = Vec::new();
    for name in ["a", "b", "c"] {
        let made = api.create(&PostParams::default(), &config_map(name, "1")).await.unwrap();
        versions.push(made.metadata.resource_version.unwrap());
        tokio::time::sleep(std::time::Duration::from_secs(400)).await;
    }
    let first = async |version: &str| {
        let watch = api.watch(&WatchParams::default(), version).await.unwrap();
        Box::pin(watch).next().await.unwrap().unwrap()
    };
    assert!(matches!(first("1").await, WatchEvent::Error(status) if status.code == 410));
    let next = first(&versions[1]).await;
    assert!(matches!(next, WatchEvent::Added(map) if map.metadata.name.as_deref() == Some("c")));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_leaves_the_object() {
    let server = ApiServer::default();
    let connection = server.connect();
    let api: Api<ConfigMap> = Api::default_namespaced(connection.client("default"));
    connection.fail(Rule::on(Verb::Create, "configmaps").lose_answer());
    connection.fail(Rule::on(Verb::Create, "configmaps").refuse(Refusal::too_many_requests(3)));
    assert!(matches!(api.create(&PostParams::default(), &config_map("a", "1")).await, Err(kube::Error::Service(_))));
    let refused = api.create(&PostParams::default(), &config_map("a", "1")).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 429));
    let known = api.create(&PostParams::default(), &config_map("a", "1")).await.unwrap_err();
    assert!(matches!(known, kube::Error::Api(status) if status.reason == "AlreadyExists"));
    assert_eq!(connection.count(Verb::Create, "configmaps"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_cascade_runs_step_by_step() {
    let server = ApiServer::default();
    let owner = server.create("configmaps", json!({"metadata": {"name": "owner"}})).unwrap();
    let reference = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true}]);
    let pod = json!({"metadata": {"name": "p", "ownerReferences": reference}, "spec": {"nodeName": "n"}});
    server.create("pods", pod).unwrap();
    assert_eq!(server.settle(), 0);
    server.delete_in_foreground("configmaps", "default", "owner").unwrap();
    assert!(server.settle() > 0);
    // The pod runs: its kubelet takes its time, and the owner waits for it.
    assert_eq!((server.count("pods"), server.get("configmaps", "default", "owner").is_some()), (1, true));
    server.finish_pod("default", "p").unwrap();
    assert!(server.settle() > 0);
    assert_eq!((server.count("pods"), server.get("configmaps", "default", "owner")), (0, None));

    let orphan = json!({"metadata": {"name": "q", "ownerReferences": reference}, "spec": {}});
    server.create("pods", orphan).unwrap();
    assert_eq!(server.settle(), 1);
    assert_eq!(server.count("pods"), 0);
}

#[tokio::test(start_paused = true)]
async fn two_servers_with_one_seed_write_the_same_bytes() {
    let mut written = Vec::new();
    for _ in 0..2 {
        let server = ApiServer::default();
        let api: Api<Pod> = Api::default_namespaced(server.client());
        let pod = json!({"metadata": {"generateName": "p-"}, "spec": {"containers": [{"name": "c"}]}});
        for _ in 0..3 {
            api.create(&PostParams::default(), &serde_json::from_value(pod.clone()).unwrap()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        written.push(server.list("pods", ""));
    }
    assert_eq!(written[0], written[1]);
    assert_eq!(written[0].len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_event_lives_for_an_hour_after_it_was_last_written() {
    let server = ApiServer::default();
    let api: Api<DynamicObject> = Api::default_namespaced_with(
        server.client(),
        &ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Event")),
    );
    let event = |name: &str| {
        let regarding = json!({"kind": "Pod", "namespace": "default", "name": "p"});
        let event =
            json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "involvedObject": regarding});
        serde_json::from_value(event).unwrap()
    };
    for name in ["seen-once", "seen-again"] {
        api.create(&PostParams::default(), &event(name)).await.unwrap();
    }
    let config_maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    config_maps.create(&PostParams::default(), &config_map("stays", "1")).await.unwrap();
    tokio::time::sleep(Duration::from_mins(40)).await;
    let again = json!({"count": 2});
    api.patch("seen-again", &PatchParams::default(), &Patch::Merge(&again)).await.unwrap();

    tokio::time::sleep(Duration::from_mins(19)).await;
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 2);
    let since = server.resource_version().to_string();
    let events = api.watch(&WatchParams::default(), &since).await.unwrap();
    tokio::time::sleep(Duration::from_mins(1)).await;
    let names = |list: Vec<DynamicObject>| list.into_iter().filter_map(|it| it.metadata.name).collect::<Vec<_>>();
    assert_eq!(names(api.list(&ListParams::default()).await.unwrap().items), ["seen-again"]);
    let told: Vec<_> = events.take(1).collect().await;
    let is_end =
        matches!(&told[..], [Ok(WatchEvent::Deleted(once))] if once.metadata.name.as_deref() == Some("seen-once"));
    assert!(is_end, "{told:?}");
    tokio::time::sleep(Duration::from_mins(40)).await;
    assert!(api.list(&ListParams::default()).await.unwrap().items.is_empty());
    assert!(config_maps.get_opt("stays").await.unwrap().is_some(), "only Events end by themselves");
}

#[tokio::test(start_paused = true)]
async fn without_add_ons_only_what_kubernetes_and_kuberay_have_is_served() {
    let kinds = mobula_apiserver::Kind::without_add_ons();
    let server = ApiServer::new(Settings { kinds, ..Settings::default() });
    let apis = server.client().list_api_groups().await.unwrap();
    let groups: Vec<String> = apis.groups.into_iter().map(|group| group.name).collect();
    assert!(groups.contains(&"ray.io".to_owned()) && groups.contains(&"batch".to_owned()), "{groups:?}");
    for of_others in ["kueue.x-k8s.io", "scheduling.volcano.sh", "scheduling.x-k8s.io"] {
        assert!(!groups.contains(&of_others.to_owned()), "{groups:?}");
        let all = ApiServer::default().client().list_api_groups().await.unwrap();
        assert!(all.groups.iter().any(|group| group.name == of_others), "{of_others} is an add-on that is known");
    }
}
