//! Creating, reading, changing.

use anyhow::Result;
use serde_json::{Value, json};

use super::{GROUP, Session};

const MAPS: &str = "/api/v1/namespaces/{ns}/configmaps";

fn map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": value}})
}

pub(super) fn widgets() -> String {
    format!("/apis/{GROUP}/v1/namespaces/{{ns}}/widgets")
}

pub(super) fn widget(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

pub(super) async fn create_and_read(s: &mut Session) -> Result<()> {
    let mut labelled = map("a", "1");
    labelled["metadata"]["labels"] = json!({"app": "x"});
    labelled["metadata"]["generation"] = json!(7);
    labelled["metadata"]["uid"] = json!("mine");
    s.post(MAPS, &labelled).await?;
    s.get(&format!("{MAPS}/a")).await?;
    s.post(MAPS, &map("a", "2")).await?;
    s.get(&format!("{MAPS}/b")).await?;
    let generated = s.post(MAPS, &json!({"metadata": {"generateName": "gen-"}})).await?;
    let name = generated.text("/metadata/name");
    s.note("a generated name has five letters more", name.len() == "gen-".len() + 5);
    s.delete(&format!("{MAPS}/a"), &Value::Null).await?;
    s.delete(&format!("{MAPS}/a"), &Value::Null).await?;
    s.get(&format!("{MAPS}/a")).await?;
    Ok(())
}

pub(super) async fn what_is_refused(s: &mut Session) -> Result<()> {
    for name in ["A", "a_b", "-a", ""] {
        s.post(MAPS, &map(name, "1")).await?;
    }
    s.post("/api/v1/namespaces/{ns}/services", &json!({"metadata": {"name": "a.b"}, "spec": {"ports": [{"port": 1}]}}))
        .await?;
    s.post(MAPS, &json!({"metadata": {"name": "a", "labels": {"k": "a b"}}})).await?;
    s.post(MAPS, &json!({"metadata": {"name": "a", "resourceVersion": "1"}})).await?;
    s.post(MAPS, &json!({"metadata": {"name": "a", "namespace": "other"}})).await?;
    s.post(MAPS, &json!({"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "a"}})).await?;
    s.post(MAPS, &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}})).await?;
    s.send("POST", MAPS, "application/json", "{").await?;
    s.post(MAPS, &json!({"metadata": {"name": "a", "ownerReferences": [{"uid": "1"}]}})).await?;
    let owner = |name: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": name, "controller": true});
    s.post(MAPS, &json!({"metadata": {"name": "a", "ownerReferences": [owner("x"), owner("y")]}})).await?;
    s.post("/api/v1/namespaces/not-there/configmaps", &map("a", "1")).await?;
    s.get("/api/v1/namespaces/{ns}/nothings").await?;
    s.get("/apis/nothing.example/v1/things").await?;
    s.put(MAPS, &map("a", "1")).await?;
    s.post(&format!("{MAPS}/a"), &map("a", "1")).await?;
    Ok(())
}

pub(super) async fn update(s: &mut Session) -> Result<()> {
    let made = s.post(MAPS, &map("a", "1")).await?;
    let path = format!("{MAPS}/a");
    s.put(&path, &map("a", "2")).await?;
    let mut stale = map("a", "3");
    stale["metadata"]["resourceVersion"] = json!(made.version());
    s.put(&path, &stale).await?;
    let mut other = map("a", "3");
    other["metadata"]["uid"] = json!("other");
    s.put(&path, &other).await?;
    s.put(&path, &map("b", "3")).await?;
    s.put(&path, &json!({"data": {}})).await?;
    let mut elsewhere = map("a", "3");
    elsewhere["metadata"]["namespace"] = json!("other");
    s.put(&path, &elsewhere).await?;
    s.put(&format!("{MAPS}/missing"), &map("missing", "1")).await?;
    let before = s.get(&path).await?;
    let after = s.put(&path, &map("a", "2")).await?;
    s.note("writing the same again changes no version", before.version() == after.version());
    let fresh = json!({"metadata": {"name": "a", "resourceVersion": after.version(), "creationTimestamp": "2001-01-01T00:00:00Z", "labels": {"x": "y"}}, "data": {}});
    let changed = s.put(&path, &fresh).await?;
    let kept = before.text("/metadata/creationTimestamp") == changed.text("/metadata/creationTimestamp");
    s.note("the time of creation stays", kept);
    Ok(())
}

pub(super) async fn patches_for_another_of_the_name(s: &mut Session) -> Result<()> {
    let widgets = widgets();
    for (list, object) in [(MAPS, map("a", "1")), (widgets.as_str(), widget("a", &json!({})))] {
        let made = s.post(list, &object).await?;
        let path = format!("{list}/a");
        let labelled = |metadata: Value| {
            let mut patch = json!({"metadata": metadata});
            patch["metadata"]["labels"] = json!({"x": "y"});
            patch
        };
        s.merge(&path, &labelled(json!({"uid": "other"}))).await?;
        s.merge(&path, &labelled(json!({"uid": "other", "resourceVersion": made.version()}))).await?;
        s.merge(&path, &labelled(json!({"uid": made.uid()}))).await?;
        s.merge(&path, &labelled(json!({"uid": "other", "resourceVersion": made.version()}))).await?;
        s.merge(&format!("{list}/missing"), &labelled(json!({"uid": made.uid()}))).await?;
    }
    let status = json!({"metadata": {"uid": "other"}, "status": {"state": "ready"}});
    s.merge(&format!("{widgets}/a/status"), &status).await?;
    Ok(())
}

pub(super) async fn custom_objects(s: &mut Session) -> Result<()> {
    let widgets = widgets();
    s.post(&widgets, &json!({"metadata": {"name": "a"}})).await?;
    let mut object = widget("a", &json!({"size": 1, "list": [1, 2], "nothing": null}));
    object["status"] = json!({"state": "made"});
    let made = s.post(&widgets, &object).await?;
    let path = format!("{widgets}/a");
    s.put(&path, &widget("a", &json!({"size": 2}))).await?;
    let mut current = widget("a", &json!({"size": 2}));
    current["metadata"]["resourceVersion"] = json!(made.version());
    current["status"] = json!({"state": "through the front"});
    let second = s.put(&path, &current).await?;
    s.put(&path, &current).await?;
    let mut status = widget("a", &json!({"size": 3}));
    status["metadata"]["resourceVersion"] = json!(second.version());
    status["metadata"]["labels"] = json!({"through": "status"});
    status["status"] = json!({"state": "ready"});
    s.put(&format!("{path}/status"), &status).await?;
    s.merge(&format!("{path}/status"), &json!({"spec": {"size": 4}, "status": {"more": true}})).await?;
    s.merge(&path, &json!({"metadata": {"labels": {"a": "b"}}, "status": {"state": "lost"}})).await?;
    s.merge(&path, &json!({"spec": {"size": 5}})).await?;
    let before = s.get(&path).await?;
    let after = s.merge(&path, &json!({"spec": {"size": 5}})).await?;
    s.note("a patch that changes nothing changes no version", before.version() == after.version());
    s.merge(&path, &json!({"metadata": {"resourceVersion": made.version()}, "spec": {"size": 6}})).await?;
    s.merge(&path, &json!({"metadata": {"generation": 99, "uid": null, "creationTimestamp": null}})).await?;
    s.get(&format!("{path}/status")).await?;
    s.get(&format!("{path}/scale")).await?;
    s.put(&format!("{widgets}/missing"), &widget("missing", &json!({}))).await?;
    Ok(())
}

pub(super) async fn json_patches(s: &mut Session) -> Result<()> {
    let widgets = widgets();
    let groups = json!({"groups": [{"name": "a", "replicas": 1}, {"name": "b", "replicas": 2}]});
    s.post(&widgets, &widget("a", &groups)).await?;
    let path = format!("{widgets}/a");
    let test = |value: &Value| json!({"op": "test", "path": "/spec/groups/0/name", "value": value});
    let replace = json!({"op": "replace", "path": "/spec/groups/0/replicas", "value": 5});
    s.json_patch(&path, &json!([test(&json!("a")), replace])).await?;
    s.json_patch(&path, &json!([test(&json!("b")), replace])).await?;
    s.json_patch(&path, &json!([test(&json!(null))])).await?;
    let absent = |value: &Value| json!([{"op": "test", "path": "/spec/groups/0/nothing", "value": value}]);
    s.json_patch(&path, &absent(&json!(null))).await?;
    s.json_patch(&path, &absent(&json!(1))).await?;
    s.json_patch(&path, &json!([{"op": "test", "path": "/spec/groups/7/name", "value": "a"}])).await?;
    s.json_patch(&path, &json!([{"op": "add", "path": "/spec/groups/-", "value": {"name": "c"}}])).await?;
    s.json_patch(&path, &json!([{"op": "add", "path": "/spec/nothing/deeper", "value": 1}])).await?;
    s.json_patch(&path, &json!([{"op": "remove", "path": "/spec/groups/0"}])).await?;
    s.json_patch(&path, &json!([{"op": "remove", "path": "/spec/nothing"}])).await?;
    s.json_patch(&path, &json!([{"op": "replace", "path": "/spec/nothing", "value": 1}])).await?;
    s.json_patch(&path, &json!([{"op": "add", "path": "/metadata/labels", "value": {"x~1": "y"}}])).await?;
    s.json_patch(&path, &json!([{"op": "add", "path": "/metadata/annotations", "value": {}}, {"op": "add", "path": "/metadata/annotations/a~1b", "value": "c"}])).await?;
    s.json_patch(&path, &json!([{"op": "replace", "path": "/metadata/name", "value": "other"}])).await?;
    s.json_patch(&path, &json!({"op": "remove"})).await?;
    s.json_patch(&path, &json!([{"op": "jump", "path": "/spec"}])).await?;
    s.json_patch(&format!("{widgets}/missing"), &json!([])).await?;
    s.json_patch(&format!("{path}/status"), &json!([{"op": "add", "path": "/status", "value": {"x": 1}}])).await?;
    Ok(())
}

pub(super) async fn merge_patches(s: &mut Session) -> Result<()> {
    s.post(MAPS, &json!({"metadata": {"name": "a", "labels": {"x": "1", "y": "2"}}, "data": {"k": "1", "l": "2"}}))
        .await?;
    let path = format!("{MAPS}/a");
    s.merge(&path, &json!({"metadata": {"labels": {"x": null}}, "data": {"k": null, "m": "3"}})).await?;
    s.merge(&path, &json!({"data": null})).await?;
    s.merge(&path, &json!({"metadata": {"name": "b"}})).await?;
    s.merge(&path, &json!({"metadata": {"namespace": "other"}})).await?;
    s.merge(&path, &json!({"metadata": {"labels": {"bad": "a b"}}})).await?;
    s.merge(&path, &json!({"metadata": {"labels": 5}})).await?;
    s.merge(&format!("{MAPS}/missing"), &json!({})).await?;
    s.send("PATCH", &path, "application/merge-patch+json", "{").await?;
    s.send("PATCH", &path, "application/unheard-of", "{}").await?;
    let widgets = widgets();
    s.post(&widgets, &widget("a", &json!({}))).await?;
    s.send("PATCH", &format!("{widgets}/a"), "application/strategic-merge-patch+json", "{}").await?;
    Ok(())
}

pub(super) async fn lists_and_selectors(s: &mut Session) -> Result<()> {
    for (name, labels) in [
        ("a", json!({"app": "x", "n": "1"})),
        ("b", json!({"app": "y", "n": "2"})),
        ("c", json!({"app": "x", "n": "3"})),
        ("d", json!({"other": ""})),
    ] {
        s.post(MAPS, &json!({"metadata": {"name": name, "labels": labels}})).await?;
    }
    for selector in [
        "app=x",
        "app==x",
        "app!=x",
        "app",
        "!app",
        "app%20in%20(x,y)",
        "app%20notin%20(x)",
        "n%3E1",
        "n%3C2",
        "other=",
        "app=x,n!=1",
        "app%20in%20(x",
        "app=x,",
        "%3D",
        "app%20x",
        "n%3Ea",
    ] {
        s.get(&format!("{MAPS}?labelSelector={selector}")).await?;
    }
    for selector in ["metadata.name=a", "metadata.name!=a", "metadata.namespace={ns}", "data.k=1", "metadata.name"] {
        s.get(&format!("{MAPS}?fieldSelector={selector}")).await?;
    }
    s.get("/api/v1/configmaps?labelSelector=n=1").await?;
    s.get(&format!("{MAPS}?resourceVersion=abc")).await?;
    s.get(&format!("{MAPS}?labelSelector=none&resourceVersion=0")).await?;
    let widgets = widgets();
    s.post(&widgets, &widget("a", &json!({"x": 1}))).await?;
    s.get(&widgets).await?;
    s.get(&format!("{widgets}?fieldSelector=spec.x=1")).await?;
    s.get(&format!("/apis/{GROUP}/v1/widgets?fieldSelector=metadata.namespace={{ns}}")).await?;
    Ok(())
}

pub(super) async fn pages(s: &mut Session) -> Result<()> {
    let widgets = widgets();
    for name in ["a", "b", "c", "d", "e"] {
        s.post(&widgets, &widget(name, &json!({}))).await?;
    }
    let names = |list: &super::session::Answer| -> Vec<String> {
        let items = list.body["items"].as_array().into_iter().flatten();
        items.filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned)).collect()
    };
    let first = s.get(&format!("{widgets}?limit=2")).await?;
    s.delete(&format!("{widgets}/c"), &Value::Null).await?;
    s.post(&widgets, &widget("f", &json!({}))).await?;
    let token = first.text("/metadata/continue");
    s.call(&token, "TOKEN");
    let second = s.get(&format!("{widgets}?limit=2&continue={token}")).await?;
    s.note("a page shows what was there", names(&second) == ["c", "d"]);
    let token = second.text("/metadata/continue");
    s.call(&token, "TOKEN");
    let third = s.get(&format!("{widgets}?limit=2&continue={token}")).await?;
    s.note("the last page has no more", names(&third) == ["e"]);
    s.note("all pages are of one version", first.version() == third.version());
    s.get(&format!("{widgets}?limit=2&continue=nonsense")).await?;
    let version = first.version();
    s.call(&version, "FIRST");
    let exact = s.get(&format!("{widgets}?resourceVersion={version}&resourceVersionMatch=Exact")).await?;
    s.note("an exact version shows what was there", names(&exact) == ["a", "b", "c", "d", "e"]);
    s.get(&format!("{widgets}?resourceVersion={version}&resourceVersionMatch=NotOlderThan")).await?;
    s.get(&format!("{widgets}?resourceVersionMatch=Exact")).await?;
    s.get(&format!("{widgets}?resourceVersion=0&resourceVersionMatch=Exact")).await?;
    Ok(())
}

pub(super) async fn services_and_secrets(s: &mut Session) -> Result<()> {
    let services = "/api/v1/namespaces/{ns}/services";
    let service = |ip: &Value| json!({"metadata": {"name": "a"}, "spec": {"clusterIP": ip, "ports": [{"port": 80}], "selector": {"a": "b"}}});
    s.post(services, &service(&Value::Null)).await?;
    s.put(&format!("{services}/a"), &service(&Value::Null)).await?;
    s.merge(&format!("{services}/a/status"), &json!({"status": {"conditions": []}, "spec": {"ports": []}})).await?;
    s.delete(&format!("{services}/a"), &Value::Null).await?;
    s.post(services, &service(&json!("None"))).await?;
    let secrets = "/api/v1/namespaces/{ns}/secrets";
    s.post(secrets, &json!({"metadata": {"name": "a"}, "stringData": {"t": "abc"}, "data": {"d": "eA=="}})).await?;
    s.merge(&format!("{secrets}/a"), &json!({"stringData": {"t": "def"}})).await?;
    s.delete(&format!("{secrets}/a"), &Value::Null).await?;
    let accounts = "/api/v1/namespaces/{ns}/serviceaccounts";
    s.post(accounts, &json!({"metadata": {"name": "a"}})).await?;
    s.delete(&format!("{accounts}/a"), &Value::Null).await?;
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/roles";
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    s.post(roles, &json!({"metadata": {"name": "a:B"}, "rules": rules})).await?;
    s.delete(&format!("{roles}/a:B"), &Value::Null).await?;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases";
    let lease = |holder: &str| json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": holder}});
    let made = s.post(leases, &lease("x")).await?;
    s.put(&format!("{leases}/a"), &lease("y")).await?;
    let mut stale = lease("z");
    stale["metadata"]["resourceVersion"] = json!(made.version());
    s.put(&format!("{leases}/a"), &stale).await?;
    s.delete(&format!("{leases}/a"), &Value::Null).await?;
    Ok(())
}

pub(super) async fn events_have_two_names(s: &mut Session) -> Result<()> {
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "{ns}"}, "reason": "Made", "note": "made it", "type": "Normal",
        "action": "Make", "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "c", "reportingInstance": "i",
    });
    s.post("/apis/events.k8s.io/v1/namespaces/{ns}/events", &event).await?;
    s.get("/api/v1/namespaces/{ns}/events/a").await?;
    s.get("/api/v1/namespaces/{ns}/events?fieldSelector=involvedObject.name=p,type!=Warning").await?;
    s.get("/api/v1/namespaces/{ns}/events?fieldSelector=reason=Other").await?;
    s.merge(
        "/apis/events.k8s.io/v1/namespaces/{ns}/events/a",
        &json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}}),
    )
    .await?;
    s.get("/apis/events.k8s.io/v1/namespaces/{ns}/events").await?;
    Ok(())
}

pub(super) async fn what_is_served(s: &mut Session) -> Result<()> {
    let group = s.client_json(&format!("/apis/{GROUP}/v1")).await?;
    for resource in group["resources"].as_array().into_iter().flatten() {
        let mut verbs: Vec<&str> =
            resource["verbs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        verbs.sort_unstable();
        let what = format!("{} {} {} {}", resource["name"], resource["kind"], resource["namespaced"], verbs.join(","));
        s.note(&what, true);
    }
    let core = s.client_json("/api/v1").await?;
    for name in ["pods", "pods/status", "pods/eviction", "pods/binding", "pods/resize", "configmaps", "nodes"] {
        let resources = core["resources"].as_array().into_iter().flatten();
        let found = resources.into_iter().find(|resource| resource["name"] == name);
        let kind = found.map_or(Value::Null, |found| json!([found["kind"], found["namespaced"]]));
        s.note(&format!("{name} {kind}"), true);
    }
    s.get("/healthz/nothing").await?;
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let answer = s.client_post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await?;
    s.note(&format!("allowed: {}", answer["status"]["allowed"]), true);
    Ok(())
}
