//! Reading: get, list and watch.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::refusal::Refusal;
use crate::request::{Call, Query};
use crate::selector::Selector;
use crate::served::Served;
use crate::state::{Asker, Reply, Shared, State};
use crate::store::Stored;
use crate::watch::{Pace, WatchBody, Watcher, bookmark, error_line, write_line};

impl State {
    pub(crate) fn get(&self, served: &Served, namespace: &str, name: &str) -> Result<Reply, Refusal> {
        let stored = self.store.tables[served.table].get(namespace, name);
        let stored = stored.ok_or_else(|| Refusal::not_found(&served.kind, name))?;
        Ok(Reply::Whole(200, served.bytes(stored)))
    }

    pub(crate) fn list(&self, served: &Served, namespace: &str, query: &Query) -> Result<Reply, Refusal> {
        let selector = Selector::parse(&served.kind, &query.label_selector, &query.field_selector)?;
        let start = Start::of(query, self.store.version)?;
        let table = &self.store.tables[served.table];
        let then: Vec<Arc<Stored>>;
        let objects: Box<dyn Iterator<Item = &Arc<Stored>>> = if start.is_now(self.store.version) {
            Box::new(table.iter(namespace))
        } else {
            then = table.at(namespace, start.version)?;
            Box::new(then.iter())
        };
        let after = start.after.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str()));
        let mut page = objects
            .skip_while(|stored| after.is_some_and(|after| (stored.namespace.as_str(), stored.name.as_str()) <= after))
            .filter(|stored| selector.matches(&stored.value));
        let limit = query.limit.unwrap_or(usize::MAX);
        let mut items = Vec::new();
        let mut last = None;
        for (index, stored) in page.by_ref().take(limit).enumerate() {
            if index > 0 {
                items.push(b',');
            }
            served.write_item(&mut items, stored);
            last = Some(stored);
        }
        let left = if query.limit.is_some() { page.count() } else { 0 };
        let mut metadata = json!({"resourceVersion": start.version.to_string()});
        if let (Some(last), true) = (last, left > 0) {
            metadata["continue"] = json!(continue_token(start.version, last));
            if selector.is_everything() {
                metadata["remainingItemCount"] = json!(left);
            }
        }
        Ok(Reply::Whole(200, list_body(served, &metadata, &items)))
    }

    pub(crate) fn watch(
        &mut self,
        shared: &Shared,
        call: &Call,
        asker: &Asker<'_>,
        served: &Arc<Served>,
    ) -> Result<Reply, Refusal> {
        let (query, namespace) = (&call.query, call.asked.namespace.as_str());
        let selector = Selector::parse(&served.kind, &query.label_selector, &query.field_selector)?;
        let streams_list = check_initial_events(query)?;
        let asked_version =
            read_version(&query.resource_version).map_err(|refusal| Refusal::internal(refusal.message))?;
        let begins_with_list = streams_list.unwrap_or(asked_version == 0);
        let since = if begins_with_list { self.store.version } else { asked_version };
        let mut first = Vec::new();
        if begins_with_list {
            let objects = self.store.tables[served.table].iter(namespace);
            for stored in objects.filter(|stored| selector.matches(&stored.value)) {
                write_line(&mut first, "ADDED", served, stored);
            }
        }
        if streams_list == Some(true) && query.has_bookmarks {
            first.extend_from_slice(&bookmark(served, self.store.version, true));
        }
        let watcher = Watcher::new(namespace, selector, asker.connection);
        let id = match self.store.follow(served.table, since, watcher) {
            Ok(id) => id,
            // Said in the stream, not by the status of the answer.
            Err(refusal) => return Ok(Reply::Whole(200, error_line(&refusal))),
        };
        let pace = Pace {
            lag: asker.lag,
            ends_at: State::ends_at(query.timeout_s),
            bookmark_every: query.has_bookmarks.then_some(self.bookmark_every),
        };
        let body = WatchBody::new(Arc::clone(shared), Arc::clone(served), namespace, id, Bytes::from(first), pace);
        Ok(Reply::Watch(body))
    }
}

/// Whether a watch says that it wants the objects first; refuses what the real server refuses of it.
fn check_initial_events(query: &Query) -> Result<Option<bool>, Refusal> {
    let is_not_older = query.resource_version_match == "NotOlderThan";
    let why = match query.sends_initial_events {
        Some(_) if !is_not_older => {
            "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        }
        None if !query.resource_version_match.is_empty() => {
            "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        }
        sends => return Ok(sends),
    };
    Err(Refusal::invalid_option("ListOptions", "resourceVersionMatch", why))
}

/// From where and as of when a list is read.
struct Start {
    version: u64,
    after: Option<(String, String)>,
    is_exact: bool,
}

impl Start {
    fn of(query: &Query, now: u64) -> Result<Start, Refusal> {
        let asked = read_version(&query.resource_version)?;
        if !query.continue_token.is_empty() {
            let is_plain = asked == 0 && query.resource_version_match.is_empty();
            let token = read_token(&query.continue_token).filter(|_| is_plain);
            let (version, namespace, name) = token
                .ok_or_else(|| Refusal::bad_request("continue key is not valid, or comes with a resourceVersion"))?;
            return Ok(Start { version, after: Some((namespace, name)), is_exact: true });
        }
        let is_exact = match query.resource_version_match.as_str() {
            "Exact" if asked > 0 => true,
            "" | "NotOlderThan" => false,
            _ => {
                let why = "Forbidden: it does not fit the resourceVersion";
                return Err(Refusal::invalid_option("ListOptions", "resourceVersionMatch", why));
            }
        };
        if asked > now {
            let why = format!("Too large resource version: {asked}, current: {now}");
            return Err(Refusal::of_code(504, why));
        }
        // A page that names a version is of that version.
        let is_exact = is_exact || asked > 0 && query.limit.is_some() && query.resource_version_match.is_empty();
        Ok(Start { version: if is_exact { asked } else { now }, after: None, is_exact })
    }

    fn is_now(&self, now: u64) -> bool {
        !self.is_exact || self.version == now
    }
}

fn read_version(text: &str) -> Result<u64, Refusal> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse()
        .map_err(|_| Refusal::bad_request(format!("resourceVersion: Invalid value: \"{text}\": must be a number")))
}

fn continue_token(version: u64, last: &Stored) -> String {
    BASE64.encode(json!({"v": version, "namespace": last.namespace, "name": last.name}).to_string())
}

fn read_token(token: &str) -> Option<(u64, String, String)> {
    let token: Value = serde_json::from_slice(&BASE64.decode(token).ok()?).ok()?;
    let text = |field: &str| token[field].as_str().map(str::to_owned);
    Some((token["v"].as_u64()?, text("namespace")?, text("name")?))
}

pub(crate) fn list_body(served: &Served, metadata: &Value, items: &[u8]) -> Bytes {
    let mut body = Vec::with_capacity(items.len() + 256);
    let head = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
        served.kind.kind,
        served.kind.api_version()
    );
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(items);
    body.extend_from_slice(b"]}");
    Bytes::from(body)
}
