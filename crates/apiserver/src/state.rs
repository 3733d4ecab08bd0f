//! The server's state, and how a request finds what answers it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::admission::Hook;
use crate::discovery;
use crate::identity::{Clock, Ids};
use crate::kind::Kind;
use crate::refusal::Refusal;
use crate::request::{Asked, Call, Verb};
use crate::served::Served;
use crate::store::{Place, Store, TableId};
use crate::watch::WatchBody;

/// The state behind its lock.
pub(crate) type Shared = Arc<Mutex<State>>;

/// Says whether a request is allowed.
pub(crate) type Access = Arc<dyn Fn(&Asked) -> bool + Send + Sync>;

/// The state without what has lived for long enough.
pub(crate) fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    // No code that holds the lock leaves anything half done that the next holder would trip over.
    let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
    state.store.expire();
    state
}

/// See the module.
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) served: Vec<Arc<Served>>,
    /// By `apiVersion`, then by plural.
    paths: BTreeMap<String, BTreeMap<String, usize>>,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) bookmark_every: Duration,
    hooks: Vec<(Option<TableId>, Hook)>,
    addresses: u32,
}

/// Who asks, as far as it matters to the answer.
pub(crate) struct Asker<'a> {
    pub(crate) connection: u64,
    pub(crate) user: &'a str,
    pub(crate) access: Option<&'a Access>,
    /// How long its watches lag behind.
    pub(crate) lag: Duration,
}

/// An answer.
pub(crate) enum Reply {
    Whole(u16, Bytes),
    /// Nothing is served there.
    NothingThere,
    Watch(WatchBody),
}

impl State {
    pub(crate) fn new(
        kinds: Vec<Kind>,
        history_limit: usize,
        clock: Clock,
        ids: Ids,
        bookmark_every: Duration,
    ) -> State {
        let kinds: Vec<Arc<Kind>> = kinds.into_iter().map(Arc::new).collect();
        let mut served: Vec<Served> =
            kinds.iter().enumerate().map(|(table, kind)| Served::new(table, Arc::clone(kind))).collect();
        if let Some(table) = kinds.iter().position(|kind| kind.is_core("events")) {
            served.push(Served::newer_events(table, &kinds[table]));
        }
        let mut paths: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for (index, served) in served.iter().enumerate() {
            let of_version = paths.entry(served.kind.api_version()).or_default();
            of_version.entry(served.kind.plural.clone()).or_insert(index);
        }
        State {
            store: Store::new(kinds, history_limit),
            served: served.into_iter().map(Arc::new).collect(),
            paths,
            clock,
            ids,
            bookmark_every,
            hooks: Vec::new(),
            addresses: 0,
        }
    }

    /// What serves this resource: `pods`, or with its group where two have the same plural.
    pub(crate) fn serves(&self, resource: &str) -> Option<&Arc<Served>> {
        let fits = |served: &&Arc<Served>| {
            served.kind.plural == resource || served.kind.qualified_plural() == resource || served.kind.kind == resource
        };
        self.served.iter().find(fits)
    }

    fn serves_path(&self, asked: &Asked) -> Option<Arc<Served>> {
        let of_version = if asked.group.is_empty() {
            self.paths.get(&asked.version)
        } else {
            self.paths.get(&asked.group_version())
        };
        let served = &self.served[*of_version?.get(&asked.resource)?];
        (served.kind.namespaced || asked.namespace.is_empty()).then(|| Arc::clone(served))
    }

    pub(crate) fn add_hook(&mut self, table: Option<TableId>, hook: Hook) {
        self.hooks.push((table, hook));
    }

    pub(crate) fn clear_hooks(&mut self) {
        self.hooks.clear();
    }

    pub(crate) fn hooks(&self, table: TableId) -> Vec<Hook> {
        let meant = self.hooks.iter().filter(|(of, _)| of.is_none_or(|of| of == table));
        meant.map(|(_, hook)| Arc::clone(hook)).collect()
    }

    pub(crate) fn has_hooks(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// The next address of the services' range, 10.96.0.0/16.
    pub(crate) fn next_address(&mut self) -> String {
        self.addresses += 1;
        format!("10.96.{}.{}", (self.addresses >> 8) & 0xff, self.addresses & 0xff)
    }

    /// Answers a request.
    pub(crate) fn answer(&mut self, shared: &Shared, call: &Call, asker: &Asker<'_>) -> Result<Reply, Refusal> {
        let asked = &call.asked;
        if !asked.is_resource() {
            return Ok(discovery::answer(self, &asked.resource, &call.accept));
        }
        if let Some(reply) = review_of_access(call, asker)? {
            return Ok(reply);
        }
        let Some(served) = self.serves_path(asked) else {
            let is_group_there = self.paths.contains_key(&asked.group_version());
            return if is_group_there { Err(Refusal::no_such_resource()) } else { Ok(Reply::NothingThere) };
        };
        if asker.access.is_some_and(|access| !access(asked)) {
            return Err(not_allowed(asked, asker.user));
        }
        let kind = &served.kind;
        let needs_namespace = kind.namespaced && matches!(asked.verb, Verb::Create | Verb::DeleteCollection);
        if needs_namespace && asked.namespace.is_empty() {
            return Err(Refusal::method_not_allowed());
        }
        let is_known = match asked.subresource.as_str() {
            "" => true,
            "status" => kind.has_status && asked.verb != Verb::Delete,
            other => kind.subresources.iter().any(|known| known == other),
        };
        if !is_known {
            return Err(Refusal {
                message: Refusal::no_such_resource().message,
                ..Refusal::not_found(kind, &asked.name)
            });
        }
        self.dispatch(shared, call, asker, &served)
    }

    fn dispatch(
        &mut self,
        shared: &Shared,
        call: &Call,
        asker: &Asker<'_>,
        served: &Arc<Served>,
    ) -> Result<Reply, Refusal> {
        let asked = &call.asked;
        let place = || Place { table: served.table, namespace: asked.namespace.clone(), name: asked.name.clone() };
        match (asked.verb, asked.subresource.as_str()) {
            (Verb::Get, "" | "status") => self.get(served, &asked.namespace, &asked.name),
            (Verb::List, "") => self.list(served, &asked.namespace, &call.query),
            (Verb::Watch, "") => self.watch(shared, call, asker, served),
            (Verb::Create, "") if asked.name.is_empty() => self.create(served, call),
            (Verb::Create, "binding") => self.bind(&place(), call),
            (Verb::Create, "eviction") => self.evict(&place(), call),
            (Verb::Update, "" | "status" | "resize" | "finalize") => self.update(served, &place(), call),
            (Verb::Patch, "" | "status" | "resize") => self.patch(served, &place(), call),
            (Verb::Delete, "") => self.delete_one(served, &place(), call),
            (Verb::DeleteCollection, "") => self.delete_many(served, call),
            _ => Err(Refusal::method_not_allowed()),
        }
    }

    /// When a watch ends that asks for so many seconds.
    pub(crate) fn ends_at(timeout_s: Option<u64>) -> Option<Instant> {
        timeout_s.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)))
    }
}

fn not_allowed(asked: &Asked, user: &str) -> Refusal {
    let name = if asked.name.is_empty() { String::new() } else { format!(" \"{}\"", asked.name) };
    let scope = if asked.namespace.is_empty() {
        " at the cluster scope".to_owned()
    } else {
        format!(" in the namespace \"{}\"", asked.namespace)
    };
    let qualified =
        if asked.group.is_empty() { asked.resource.clone() } else { format!("{}.{}", asked.resource, asked.group) };
    let what = format!("resource \"{}\" in API group \"{}\"{scope}", asked.resource_path(), asked.group);
    let mut refusal =
        Refusal::of_code(403, format!("{qualified}{name} is forbidden: User \"{user}\" cannot {} {what}", asked.verb));
    refusal.details = json!({"name": asked.name, "group": asked.group, "kind": asked.resource});
    refusal
}

/// Answers SelfSubjectAccessReviews, which are kept nowhere.
fn review_of_access(call: &Call, asker: &Asker<'_>) -> Result<Option<Reply>, Refusal> {
    let asked = &call.asked;
    let is_review = asked.group == "authorization.k8s.io" && asked.resource == "selfsubjectaccessreviews";
    if !is_review || asked.verb != Verb::Create {
        return Ok(None);
    }
    let mut review: Value = serde_json::from_slice(&call.body)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| Refusal::bad_request("the body is no SelfSubjectAccessReview"))?;
    let wanted = &review["spec"]["resourceAttributes"];
    let text = |field: &str| wanted[field].as_str().unwrap_or_default().to_owned();
    let about = |verb: Verb| Asked {
        verb,
        group: text("group"),
        version: text("version"),
        resource: text("resource"),
        subresource: text("subresource"),
        namespace: text("namespace"),
        name: text("name"),
    };
    let all = [
        Verb::Get,
        Verb::List,
        Verb::Watch,
        Verb::Create,
        Verb::Update,
        Verb::Patch,
        Verb::Delete,
        Verb::DeleteCollection,
    ];
    let verb = text("verb");
    let mut meant = all.into_iter().filter(|known| verb == "*" || verb == known.as_str()).peekable();
    let is_allowed = match asker.access {
        None => true,
        Some(access) => meant.peek().is_some() && meant.all(|verb| access(&about(verb))),
    };
    review["status"] = json!({"allowed": is_allowed});
    review["apiVersion"] = json!(format!("{}/{}", asked.group, asked.version));
    review["kind"] = json!("SelfSubjectAccessReview");
    Ok(Some(Reply::Whole(201, Bytes::from(review.to_string()))))
}
