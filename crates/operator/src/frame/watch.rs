//! Feeds the world from watches.

use std::{borrow::Cow, sync::Arc, time::Duration};

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Client, Resource,
    core::DynamicResourceScope,
    runtime::{WatchStreamExt as _, utils::Backoff, watcher},
};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{
    kind::Kind,
    read::Json,
    world::{Source, World},
};

/// An object of any kind: its JSON, and the little of its metadata that a watch must know.
#[derive(Clone, Debug)]
struct Raw {
    metadata: ObjectMeta,
    value: Value,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Json(value) = Json::deserialize(deserializer)?;
        let text = |key: &str| value["metadata"][key].as_str().map(str::to_owned);
        let metadata = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
            annotations: initial_events_end(&value),
            ..ObjectMeta::default()
        };
        Ok(Raw { metadata, value })
    }
}

/// The one annotation that a watch looks at: it ends a streamed listing.
fn initial_events_end(value: &Value) -> Option<std::collections::BTreeMap<String, String>> {
    const KEY: &str = "k8s.io/initial-events-end";
    let end = value["metadata"]["annotations"].get(KEY)?.as_str()?.to_owned();
    Some([(KEY.to_owned(), end)].into())
}

impl Resource for Raw {
    type DynamicType = &'static Kind;
    type Scope = DynamicResourceScope;

    fn kind(kind: &&'static Kind) -> Cow<'static, str> {
        kind.kind.into()
    }
    fn group(kind: &&'static Kind) -> Cow<'static, str> {
        kind.group.into()
    }
    fn version(kind: &&'static Kind) -> Cow<'static, str> {
        kind.version.into()
    }
    fn plural(kind: &&'static Kind) -> Cow<'static, str> {
        kind.plural.into()
    }
    fn api_version(kind: &&'static Kind) -> Cow<'static, str> {
        kind.api_version().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Watches everything that the world wants to see, until it is dropped.
pub async fn run(client: Client, world: Arc<World>) {
    let watches = world.watches().into_iter().map(|(source, place, what, namespace)| {
        let api: Api<Raw> = if namespace.is_empty() {
            Api::all_with(client.clone(), &what.kind)
        } else {
            Api::namespaced_with(client.clone(), &namespace, &what.kind)
        };
        one(api, what, source, place, world.clone())
    });
    futures::future::join_all(watches).await;
}

async fn one(api: Api<Raw>, what: Source, source: usize, place: usize, world: Arc<World>) {
    let selector = what.selector;
    let config =
        if selector.is_empty() { watcher::Config::default() } else { watcher::Config::default().labels(selector) };
    let events = watcher(api, config).backoff(Retry { attempts: 0, source });
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(object)) => world.apply(source, object.value),
            Ok(watcher::Event::Delete(object)) => world.delete(source, object.value),
            Ok(watcher::Event::Init) => world.listing_begins(source, place),
            Ok(watcher::Event::InitApply(object)) => world.listed(source, place, object.value),
            Ok(watcher::Event::InitDone) => world.listing_ends(source, place),
            Err(error) => {
                tracing::warn!(%error, selector, "watching is interrupted");
                if what.is_optional() && is_not_served(&error) {
                    world.listing_begins(source, place);
                    world.listing_ends(source, place);
                }
            }
        }
    }
}

/// Whether the server does not serve the kind (any more): what there was of it is gone with its definition. Only where a list
/// was asked for: then the next one brings what comes back.
fn is_not_served(error: &watcher::Error) -> bool {
    let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error else { return false };
    status.code == 404
}

/// Delays between tries of a watch: doubled up to half a minute, and each watch a little longer than the one before it, so
/// that they do not come back together. No randomness: a simulation repeats them.
struct Retry {
    attempts: u32,
    source: usize,
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay_ms = (250_u64 << self.attempts.min(7)).min(30_000);
        self.attempts = self.attempts.saturating_add(1);
        Some(Duration::from_millis(delay_ms + delay_ms / 20 * (self.source as u64 % 8)))
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.attempts = 0;
    }
}
