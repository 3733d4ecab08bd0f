//! Objects and their history: what is there now, what changed lately, and who follows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;

use crate::kind::Kind;
use crate::object;
use crate::observe::{Changed, Observer};
use crate::refusal::Refusal;
use crate::watch::{End, Watcher};

/// A version of an object.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) value: Value,
    bare: OnceLock<Bytes>,
}

/// Which table.
pub(crate) type TableId = usize;

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) table: TableId,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// How long changes are remembered. A real server compacts every five minutes what is older than that: five to ten minutes.
const HISTORY_SPAN: Duration = Duration::from_secs(600);

/// A step of the history.
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) at: Instant,
    pub(crate) before: Option<Arc<Stored>>,
    /// What was written; of a deletion, what was deleted, with the version of the deletion.
    pub(crate) after: Arc<Stored>,
    pub(crate) is_deletion: bool,
}

impl Change {
    /// The value of a label after and before it.
    fn labels(&self, key: &str) -> [Option<&str>; 2] {
        let before = self.before.as_ref().and_then(|before| before.value["metadata"]["labels"][key].as_str());
        [self.after.value["metadata"]["labels"][key].as_str(), before]
    }
}

type Objects = BTreeMap<String, BTreeMap<String, Arc<Stored>>>;

/// All objects of a kind.
pub(crate) struct Table {
    pub(crate) kind: Arc<Kind>,
    objects: Objects,
    count: usize,
    history: VecDeque<Change>,
    /// Every change after this version is in the history.
    oldest: u64,
    /// By namespace; those that follow all namespaces under the empty one.
    watchers: BTreeMap<String, BTreeMap<u64, Watcher>>,
}

/// All tables.
pub(crate) struct Store {
    pub(crate) tables: Vec<Table>,
    pub(crate) version: u64,
    history_limit: usize,
    next_watch: u64,
    /// Where the object of a UID is.
    pub(crate) uids: BTreeMap<String, Place>,
    /// Which objects name this UID as an owner.
    pub(crate) dependents: BTreeMap<String, BTreeSet<Place>>,
    /// When which version of an object has lived for as long as its kind lets it, soonest first: all that end live equally long.
    ends: VecDeque<(Instant, Place, u64)>,
    /// Objects and owners that the garbage collector should look at.
    pub(crate) suspects: BTreeSet<String>,
    observers: Vec<Observer>,
}

impl Store {
    pub(crate) fn new(kinds: impl IntoIterator<Item = Arc<Kind>>, history_limit: usize) -> Store {
        Store {
            tables: kinds.into_iter().map(Table::new).collect(),
            version: 1,
            history_limit: history_limit.max(1),
            next_watch: 0,
            uids: BTreeMap::new(),
            dependents: BTreeMap::new(),
            ends: VecDeque::new(),
            suspects: BTreeSet::new(),
            observers: Vec::new(),
        }
    }

    /// Writes an object, new or not. Its metadata must be complete but for the version.
    pub(crate) fn put(&mut self, place: &Place, mut value: Value) -> Arc<Stored> {
        self.version += 1;
        object::set_version(&mut value, self.version);
        let after = Arc::new(Stored::new(place, value));
        let table = &mut self.tables[place.table];
        let in_namespace = table.objects.entry(place.namespace.clone()).or_default();
        let before = in_namespace.insert(place.name.clone(), Arc::clone(&after));
        table.count += usize::from(before.is_none());
        let now = Instant::now();
        if let Some(lives_for) = table.kind.lives_for {
            self.ends.push_back((now + lives_for, place.clone(), self.version));
        }
        self.index(place, before.as_deref(), Some(&after));
        let change = Change { version: self.version, at: now, before, after: Arc::clone(&after), is_deletion: false };
        self.record(place.table, change);
        after
    }

    /// Removes an object. What it was, with the version of the deletion.
    pub(crate) fn remove(&mut self, place: &Place) -> Option<Arc<Stored>> {
        let table = &mut self.tables[place.table];
        let in_namespace = table.objects.get_mut(&place.namespace)?;
        let before = in_namespace.remove(&place.name)?;
        if in_namespace.is_empty() {
            table.objects.remove(&place.namespace);
        }
        table.count -= 1;
        self.version += 1;
        self.index(place, Some(&before), None);
        let after = Arc::new(before.at_version(place, self.version));
        let change = Change {
            version: self.version,
            at: Instant::now(),
            before: Some(before),
            after: Arc::clone(&after),
            is_deletion: true,
        };
        self.record(place.table, change);
        Some(after)
    }

    /// Removes what has lived for as long as its kind lets it.
    pub(crate) fn expire(&mut self) {
        while self.ends.front().is_some_and(|(at, _, _)| *at <= Instant::now())
            && let Some((_, place, version)) = self.ends.pop_front()
        {
            let stored = self.tables[place.table].get(&place.namespace, &place.name);
            // What was written since then lives longer.
            if stored.is_some_and(|stored| object::version(&stored.value) == Some(version)) {
                self.remove(&place);
            }
        }
    }

    /// From now on `observer` is shown every change.
    pub(crate) fn observe(&mut self, observer: Observer) {
        self.observers.push(observer);
    }

    fn record(&mut self, table: TableId, change: Change) {
        if !self.observers.is_empty() {
            let changed = Changed {
                kind: &self.tables[table].kind,
                namespace: &change.after.namespace,
                name: &change.after.name,
                version: change.version,
                before: change.before.as_ref().map(|before| &before.value),
                after: (!change.is_deletion).then_some(&change.after.value),
            };
            self.observers.iter().for_each(|observer| observer(&changed));
        }
        self.tables[table].record(change, self.history_limit);
    }

    /// Keeps `uids`, `dependents` and `suspects` true.
    fn index(&mut self, place: &Place, before: Option<&Stored>, after: Option<&Stored>) {
        let uid = |stored: &Stored| object::uid(&stored.value).to_owned();
        match (before, after) {
            (None, Some(after)) => {
                self.uids.insert(uid(after), place.clone());
            }
            (Some(before), None) => {
                let uid = uid(before);
                self.uids.remove(&uid);
                if self.dependents.contains_key(&uid) {
                    self.suspects.insert(uid);
                }
            }
            _ => {}
        }
        if after.is_some_and(|after| object::is_deleting(&after.value) && object::has_finalizers(&after.value)) {
            self.suspects.extend(after.map(uid));
        }
        let owners = |stored: Option<&Stored>| -> BTreeSet<String> {
            stored.map(|stored| object::owner_uids(&stored.value).map(str::to_owned).collect()).unwrap_or_default()
        };
        let (old, new) = (owners(before), owners(after));
        for gone in old.difference(&new) {
            if let Some(places) = self.dependents.get_mut(gone) {
                places.remove(place);
                if places.is_empty() {
                    self.dependents.remove(gone);
                }
            }
            // An owner may wait for its dependents to go.
            if self.uids.get(gone).is_some_and(|owner| self.is_waiting(owner)) {
                self.suspects.insert(gone.clone());
            }
        }
        for owner in new.difference(&old) {
            self.dependents.entry(owner.clone()).or_default().insert(place.clone());
        }
        for owner in after.into_iter().flat_map(|after| object::owner_references(&after.value)) {
            if !self.has_owner(owner, &place.namespace) {
                self.suspects.extend(owner["uid"].as_str().map(str::to_owned));
            }
        }
    }

    fn is_waiting(&self, owner: &Place) -> bool {
        let stored = self.tables[owner.table].get(&owner.namespace, &owner.name);
        stored.is_some_and(|owner| object::is_deleting(&owner.value) && object::has_finalizers(&owner.value))
    }

    /// Whether the object that a reference names as owner is there, for a dependent in this namespace.
    pub(crate) fn has_owner(&self, reference: &Value, namespace: &str) -> bool {
        let owner = reference["uid"].as_str().and_then(|uid| self.uids.get(uid));
        owner.is_some_and(|owner| {
            (owner.namespace.is_empty() || owner.namespace == namespace) && reference["name"] == owner.name.as_str()
        })
    }

    /// Starts to follow changes after `since`. The number of the watch.
    pub(crate) fn follow(&mut self, table: TableId, since: u64, mut watcher: Watcher) -> Result<u64, Refusal> {
        let table = &mut self.tables[table];
        table.must_reach(since)?;
        let missed = table.since(since).find(|change| watcher.event_of(change).is_some());
        watcher.behind = missed.map(|change| change.version);
        let id = self.next_watch;
        self.next_watch += 1;
        table.watchers.entry(watcher.namespace.clone()).or_default().insert(id, watcher);
        Ok(id)
    }

    /// Every change so far is forgotten, as after a compaction: older versions are gone.
    pub(crate) fn forget_history(&mut self) {
        for table in &mut self.tables {
            table.history.clear();
            table.oldest = self.version;
        }
    }
}

impl Table {
    fn new(kind: Arc<Kind>) -> Table {
        Table {
            kind,
            objects: BTreeMap::new(),
            count: 0,
            history: VecDeque::new(),
            oldest: 0,
            watchers: BTreeMap::new(),
        }
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<Stored>> {
        self.objects.get(namespace)?.get(name)
    }

    /// The objects of a namespace, or all if it is empty, in order of namespace and name.
    pub(crate) fn iter<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Stored>> {
        let is_one = self.kind.namespaced && !namespace.is_empty();
        let range = if is_one {
            self.objects.range::<str, _>((Bound::Included(namespace), Bound::Included(namespace)))
        } else {
            self.objects.range::<str, _>((Bound::Unbounded, Bound::Unbounded))
        };
        range.flat_map(|(_, objects)| objects.values())
    }

    /// The same as they were at `version`.
    pub(crate) fn at(&self, namespace: &str, version: u64) -> Result<Vec<Arc<Stored>>, Refusal> {
        self.must_reach(version)?;
        let mut then: BTreeMap<(&str, &str), Option<&Arc<Stored>>> = BTreeMap::new();
        // The first change since then knows what was there.
        for change in self.since(version) {
            then.entry((&change.after.namespace, &change.after.name)).or_insert(change.before.as_ref());
        }
        let mut objects: BTreeMap<(&str, &str), &Arc<Stored>> =
            self.iter(namespace).map(|stored| ((stored.namespace.as_str(), stored.name.as_str()), stored)).collect();
        for (key, stored) in then.into_iter().filter(|((of, _), _)| namespace.is_empty() || *of == namespace) {
            match stored {
                Some(stored) => objects.insert(key, stored),
                None => objects.remove(&key),
            };
        }
        Ok(objects.into_values().cloned().collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Changes after this version that are still known, oldest first.
    pub(crate) fn since(&self, version: u64) -> impl Iterator<Item = &Change> {
        let start = self.history.partition_point(|change| change.version <= version);
        self.history.range(start..)
    }

    fn must_reach(&self, version: u64) -> Result<(), Refusal> {
        if version < self.oldest { Err(Refusal::too_old(version, self.oldest)) } else { Ok(()) }
    }

    /// Whether the history reaches back to just before this change.
    pub(crate) fn knows(&self, version: u64) -> bool {
        version > self.oldest
    }

    fn record(&mut self, change: Change, limit: usize) {
        let namespace = change.after.namespace.as_str();
        let scopes: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        // Many watch by one value each of the same label: it is looked up once.
        let (mut label, mut values) = (String::new(), [None; 2]);
        for scope in scopes {
            for watcher in self.watchers.get_mut(*scope).into_iter().flat_map(BTreeMap::values_mut) {
                if let Some((key, value)) = watcher.selector.pinned_label() {
                    if label != key {
                        (label, values) = (key.to_owned(), change.labels(key));
                    }
                    if !values.contains(&Some(value)) {
                        continue;
                    }
                }
                watcher.hear(&change);
            }
        }
        let now = change.at;
        self.history.push_back(change);
        let is_over = |oldest: &Change, known: usize| known > limit || now.duration_since(oldest.at) > HISTORY_SPAN;
        while self.history.front().is_some_and(|oldest| is_over(oldest, self.history.len())) {
            self.oldest = self.history.pop_front().map_or(self.oldest, |change| change.version);
        }
    }

    pub(crate) fn watcher(&mut self, namespace: &str, id: u64) -> Option<&mut Watcher> {
        self.watchers.get_mut(namespace)?.get_mut(&id)
    }

    pub(crate) fn stop_following(&mut self, namespace: &str, id: u64) {
        if let Some(watchers) = self.watchers.get_mut(namespace) {
            watchers.remove(&id);
            if watchers.is_empty() {
                self.watchers.remove(namespace);
            }
        }
    }

    /// Ends the watches that `is_meant` by their connection. How many.
    pub(crate) fn cut(&mut self, end: End, is_meant: &dyn Fn(u64) -> bool) -> usize {
        let watchers = self.watchers.values_mut().flat_map(BTreeMap::values_mut);
        watchers.filter(|watcher| is_meant(watcher.connection)).map(|watcher| watcher.end_with(end)).count()
    }

    pub(crate) fn watches(&self) -> usize {
        self.watchers.values().map(BTreeMap::len).sum()
    }
}

impl Stored {
    pub(crate) fn new(place: &Place, value: Value) -> Stored {
        Stored { namespace: place.namespace.clone(), name: place.name.clone(), value, bare: OnceLock::new() }
    }

    /// The JSON without `apiVersion` and `kind`: written when it is first sent, and once however often it is.
    pub(crate) fn bare(&self) -> &Bytes {
        self.bare.get_or_init(|| object::bare_bytes(&self.value))
    }

    /// The same object as a change at another version shows it.
    pub(crate) fn at_version(&self, place: &Place, version: u64) -> Stored {
        let mut value = self.value.clone();
        object::set_version(&mut value, version);
        Stored::new(place, value)
    }
}
