//! The server as those have it who play the world around the code under test.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::admission::{Hook, Review};
use crate::connection::Connection;
use crate::delete::{Deleted, Options, Propagation};
use crate::identity::{Clock, Ids};
use crate::kind::Kind;
use crate::observe::Changed;
use crate::refusal::Refusal;
use crate::request::Verb;
use crate::state::{Shared, State, lock};
use crate::store::Place;
use crate::watch::End;

/// Namespaces that are there from the beginning.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// 2026-01-01T00:00:00Z: when the default clock starts.
const START_UNIX_MS: i64 = 1_767_225_600_000;

/// How a server is made.
#[derive(Clone)]
pub struct Settings {
    /// What it serves.
    pub kinds: Vec<Kind>,
    /// What objects are stamped with.
    pub clock: Clock,
    /// Where UIDs and generated names come from.
    pub ids: Ids,
    /// So many changes of each kind are remembered, and none for longer than ten minutes once newer ones come. A watch or a
    /// page that asks for older ones is told 410.
    pub history_limit: usize,
    /// How often a watch that wants bookmarks gets one.
    pub bookmark_every: Duration,
}

impl Default for Settings {
    /// All known kinds, a clock that starts with 2026 and follows `tokio::time`, ids of seed 0, 4,096 changes, a minute.
    fn default() -> Settings {
        Settings {
            kinds: Kind::built_in(),
            clock: Clock::starting_at(START_UNIX_MS),
            ids: Ids::seeded(0),
            history_limit: 4096,
            bookmark_every: Duration::from_secs(60),
        }
    }
}

/// An API server in memory. Clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    shared: Shared,
    connections: Arc<AtomicU64>,
}

impl Default for ApiServer {
    fn default() -> ApiServer {
        ApiServer::new(Settings::default())
    }
}

impl ApiServer {
    /// A server with the namespaces that every cluster has.
    pub fn new(settings: Settings) -> ApiServer {
        let Settings { kinds, clock, ids, history_limit, bookmark_every } = settings;
        let state = State::new(kinds, history_limit, clock, ids, bookmark_every);
        let server = ApiServer { shared: Arc::new(Mutex::new(state)), connections: Arc::default() };
        for name in NAMESPACES {
            // Refused only where namespaces are not served: then none are needed.
            let _ = server.create("namespaces", json!({"metadata": {"name": name}}));
        }
        server
    }

    /// A new way to the server, with counts and faults of its own.
    pub fn connect(&self) -> Connection {
        Connection::new(Arc::clone(&self.shared), self.connections.fetch_add(1, Ordering::Relaxed))
    }

    /// A client for which nothing goes wrong. Call it inside a tokio runtime.
    pub fn client(&self) -> kube::Client {
        self.connect().client("default")
    }

    /// From now on each write of this resource (of all if it is empty) is shown to `hook` first, which may change or refuse
    /// it. So validation, defaults, quotas and webhooks are played.
    ///
    /// # Errors
    /// If the resource is not served.
    pub fn admit(
        &self,
        resource: &str,
        hook: impl Fn(&mut Review<'_>) -> Result<(), Refusal> + Send + Sync + 'static,
    ) -> Result<(), Refusal> {
        let mut state = lock(&self.shared);
        let table = if resource.is_empty() { None } else { Some(place(&state, resource, "", "")?.table) };
        let hook: Hook = Arc::new(hook);
        state.add_hook(table, hook);
        Ok(())
    }

    /// Takes all hooks away.
    pub fn admit_all(&self) {
        lock(&self.shared).clear_hooks();
    }

    /// From now on `observer` is shown every change as it is written, in order. It must not call the server.
    pub fn observe(&self, observer: impl Fn(&Changed<'_>) + Send + Sync + 'static) {
        lock(&self.shared).store.observe(Arc::new(observer));
    }

    /// Creates an object as a client would. Its namespace is in its metadata, or `default`.
    ///
    /// # Errors
    /// As a client would get them.
    pub fn create(&self, resource: &str, object: Value) -> Result<Value, Refusal> {
        let mut state = lock(&self.shared);
        let served = served(&state, resource)?;
        let kind = Arc::clone(&state.store.tables[served.table].kind);
        let said = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let place = Place { table: served.table, namespace: said, name: String::new() };
        let asked = state.asked(Verb::Create, &place);
        let object = served.as_kept(object, &kind);
        let stored = state.create_object(&kind, &asked, served.table, object, false)?;
        Ok(stored.value.clone())
    }

    /// An object as it is.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let state = lock(&self.shared);
        let place = place(&state, resource, namespace, name).ok()?;
        Some(state.must_get(&place).ok()?.value.clone())
    }

    /// All objects of a resource in a namespace (in all if it is empty), in order of their names.
    pub fn list(&self, resource: &str, namespace: &str) -> Vec<Value> {
        let mut objects = Vec::new();
        self.each(resource, namespace, |object| objects.push(object.clone()));
        objects
    }

    /// Shows all objects of a resource in a namespace (in all if it is empty) without copying them.
    pub fn each(&self, resource: &str, namespace: &str, mut see: impl FnMut(&Value)) {
        let state = lock(&self.shared);
        if let Ok(place) = place(&state, resource, namespace, "") {
            state.store.tables[place.table].iter(namespace).for_each(|stored| see(&stored.value));
        }
    }

    /// How many objects of a resource there are.
    pub fn count(&self, resource: &str) -> usize {
        let state = lock(&self.shared);
        place(&state, resource, "", "").map_or(0, |place| state.store.tables[place.table].len())
    }

    /// Somebody else changes an object, status and all. No hook is asked, and a pod's spec may change as nowhere else.
    ///
    /// # Errors
    /// If it is not there.
    pub fn edit(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<Value, Refusal> {
        let mut state = lock(&self.shared);
        let place = place(&state, resource, namespace, name)?;
        let old = state.must_get(&place)?;
        let mut new = old.value.clone();
        change(&mut new);
        Ok(state.write_freely(&place, &old, new).value.clone())
    }

    /// Deletes an object as a client would that asks for nothing special: finalizers and the grace of running pods hold.
    ///
    /// # Errors
    /// If it is not there, or a hook refuses.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> Result<(), Refusal> {
        self.delete_with(resource, namespace, name, &Options::default())
    }

    /// Deletes it with its dependents first, as `kubectl delete --cascade=foreground`.
    ///
    /// # Errors
    /// If it is not there, or a hook refuses.
    pub fn delete_in_foreground(&self, resource: &str, namespace: &str, name: &str) -> Result<(), Refusal> {
        let options = Options::propagating(Propagation::Foreground);
        self.delete_with(resource, namespace, name, &options)
    }

    /// A kubelet says that a pod has ended: it goes, unless a finalizer holds it.
    ///
    /// # Errors
    /// If it is not there, or a hook refuses.
    pub fn finish_pod(&self, namespace: &str, name: &str) -> Result<(), Refusal> {
        self.delete_with("pods", namespace, name, &Options::now())
    }

    fn delete_with(&self, resource: &str, namespace: &str, name: &str, options: &Options) -> Result<(), Refusal> {
        let mut state = lock(&self.shared);
        let place = place(&state, resource, namespace, name)?;
        let asked = state.asked(Verb::Delete, &place);
        state.remove_object(&asked, &place, options).map(|_: Deleted| ())
    }

    /// One step of the garbage collector. How many objects it changed or deleted.
    pub fn collect_garbage(&self) -> usize {
        lock(&self.shared).collect_garbage()
    }

    /// One step of the namespace controller: namespaces that are being deleted are emptied, and empty ones go. How many
    /// objects it changed or deleted.
    pub fn end_namespaces(&self) -> usize {
        lock(&self.shared).end_namespaces()
    }

    /// Steps of both until nothing is left to do for them. How many objects they changed or deleted.
    pub fn settle(&self) -> usize {
        let mut changed = 0;
        loop {
            let step = self.collect_garbage() + self.end_namespaces();
            if step == 0 {
                return changed;
            }
            changed += step;
        }
    }

    /// Ends all watches of a resource (of everything if it is empty). How many.
    pub fn cut_watches(&self, resource: &str, end: End) -> usize {
        let mut state = lock(&self.shared);
        let tables = state.store.tables.iter_mut();
        let meant = tables.filter(|table| resource.is_empty() || table.kind.plural == resource);
        meant.map(|table| table.cut(end, &|_| true)).sum()
    }

    /// How many watches are open.
    pub fn watches(&self) -> usize {
        lock(&self.shared).store.tables.iter().map(|table| table.watches()).sum()
    }

    /// Forgets every change so far, as after a compaction: whoever goes on from an older version is told 410.
    pub fn forget_history(&self) {
        lock(&self.shared).store.forget_history();
    }

    /// The version of the last change.
    pub fn resource_version(&self) -> u64 {
        lock(&self.shared).store.version
    }
}

fn served(state: &State, resource: &str) -> Result<Arc<crate::served::Served>, Refusal> {
    let served = state.serves(resource).map(Arc::clone);
    served.ok_or_else(|| Refusal::of_code(404, format!("the server serves no resource `{resource}`")))
}

fn place(state: &State, resource: &str, namespace: &str, name: &str) -> Result<Place, Refusal> {
    let served = served(state, resource)?;
    let namespace = if served.kind.namespaced { namespace.to_owned() } else { String::new() };
    Ok(Place { table: served.table, namespace, name: name.to_owned() })
}
