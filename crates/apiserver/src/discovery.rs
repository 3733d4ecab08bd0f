//! Saying what is served: `/api`, `/apis`, `/apis/G/V`, `/version` and the health paths.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::served::Served;
use crate::state::{Reply, State};

/// The version that the server says it is.
const VERSION: (&str, &str) = ("1", "36");

pub(crate) fn answer(state: &State, path: &str, accept: &str) -> Reply {
    let is_aggregated = accept.contains("as=APIGroupDiscoveryList");
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let document = match parts.as_slice() {
        ["healthz" | "livez" | "readyz"] => return Reply::Whole(200, Bytes::from_static(b"ok")),
        ["version"] => Some(json!({
            "major": VERSION.0, "minor": VERSION.1, "gitVersion": format!("v{}.{}.0", VERSION.0, VERSION.1),
            "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "",
            "compiler": "", "platform": "",
        })),
        ["api"] if is_aggregated => Some(aggregated(state, |group| group.is_empty())),
        ["apis"] if is_aggregated => Some(aggregated(state, |group| !group.is_empty())),
        ["api"] => Some(json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:443"}],
        })),
        ["apis"] => Some(groups(state)),
        ["api", version] => resources(state, "", version),
        ["apis", group] => group_of(state, group),
        ["apis", group, version] => resources(state, group, version),
        _ => None,
    };
    document.map_or(Reply::NothingThere, |document| Reply::Whole(200, Bytes::from(document.to_string())))
}

/// Versions by group, in the order of the table.
fn versions(state: &State) -> BTreeMap<&str, Vec<&str>> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for served in &state.served {
        let of_group = versions.entry(served.kind.group.as_str()).or_default();
        if !of_group.contains(&served.kind.version.as_str()) {
            of_group.push(&served.kind.version);
        }
    }
    versions
}

fn group_value(group: &str, versions: &[&str]) -> Value {
    let version = |version: &&str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    json!({
        "name": group,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

fn groups(state: &State) -> Value {
    let versions = versions(state);
    let groups = versions.iter().filter(|(group, _)| !group.is_empty()).map(|(group, of)| group_value(group, of));
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups.collect::<Vec<_>>()})
}

fn group_of(state: &State, group: &str) -> Option<Value> {
    let mut value = group_value(group, versions(state).get(group)?);
    value["kind"] = json!("APIGroup");
    value["apiVersion"] = json!("v1");
    Some(value)
}

fn served_in<'a>(state: &'a State, group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Arc<Served>> {
    state.served.iter().filter(move |served| served.kind.group == group && served.kind.version == version)
}

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// A subresource's name, what it is, and what may be done with it.
fn subresources(kind: &Kind) -> Vec<(&str, Value, Vec<&'static str>)> {
    let own = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let status = kind.has_status.then(|| ("status", own.clone(), vec!["get", "patch", "update"]));
    let others = kind.subresources.iter().map(|name| match name.as_str() {
        "binding" => (name.as_str(), json!({"group": "", "version": "v1", "kind": "Binding"}), vec!["create"]),
        "eviction" => (name.as_str(), json!({"group": "policy", "version": "v1", "kind": "Eviction"}), vec!["create"]),
        "resize" => (name.as_str(), own.clone(), vec!["get", "patch", "update"]),
        _ => (name.as_str(), own.clone(), vec!["update"]),
    });
    status.into_iter().chain(others).collect()
}

fn resources(state: &State, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for served in served_in(state, group, version) {
        let kind = &served.kind;
        resources.push(json!({
            "name": kind.plural, "singularName": kind.kind.to_lowercase(), "namespaced": kind.namespaced,
            "kind": kind.kind, "verbs": VERBS,
        }));
        for (name, what, verbs) in subresources(kind) {
            let mut resource = json!({
                "name": format!("{}/{name}", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": what["kind"], "verbs": verbs,
            });
            if what["group"] != kind.group.as_str() || what["version"] != kind.version.as_str() {
                resource["group"] = what["group"].clone();
                resource["version"] = what["version"].clone();
            }
            resources.push(resource);
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!resources.is_empty()).then(
        || json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}),
    )
}

fn aggregated(state: &State, is_meant: impl Fn(&str) -> bool) -> Value {
    let items = versions(state).into_iter().filter(|(group, _)| is_meant(group)).map(|(group, versions)| {
        let versions = versions.into_iter().map(|version| {
            let resources: Vec<Value> =
                served_in(state, group, version).map(|served| aggregated_kind(served)).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        });
        json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions.collect::<Vec<_>>()})
    });
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": items.collect::<Vec<_>>(),
    })
}

fn aggregated_kind(served: &Served) -> Value {
    let kind = &served.kind;
    let subresources = subresources(kind)
        .into_iter()
        .map(|(name, what, verbs)| json!({"subresource": name, "responseKind": what, "verbs": verbs}));
    json!({
        "resource": kind.plural, "singularResource": kind.kind.to_lowercase(), "verbs": VERBS,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "subresources": subresources.collect::<Vec<_>>(),
    })
}
