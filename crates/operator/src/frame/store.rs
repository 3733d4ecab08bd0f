//! A store of watched objects with an index by owner.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// Namespace and name of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// A key.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Key { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a store holds.
pub trait Stored {
    /// Namespace and name.
    fn key(&self) -> Key;
    /// Unique id.
    fn uid(&self) -> &str;
    /// Opaque version.
    fn resource_version(&self) -> &str;
    /// What it belongs to: the key of the index.
    fn owner(&self) -> Key;
    /// Takes over what is known of the same object from elsewhere than its watch, and can't be taken back.
    fn keep(&mut self, _known: &Self) {}
}

/// Unique ids of objects that are gone. The latest are enough: what comes late comes soon.
#[derive(Debug, Default)]
struct Graves {
    uids: BTreeSet<String>,
    order: VecDeque<String>,
}

impl Graves {
    /// Most unique ids that are remembered.
    const MOST: usize = 4_096;

    fn contains(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }

    fn remove(&mut self, uid: &str) {
        if self.uids.remove(uid) {
            self.order.retain(|known| known != uid);
        }
    }

    fn insert(&mut self, uid: &str) {
        if self.uids.insert(uid.to_owned()) {
            self.order.push_back(uid.to_owned());
        }
        while self.order.len() > Self::MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.uids.remove(&oldest);
            }
        }
    }
}

/// Objects of one kind as far as watches, and the answers to our own writes, have told.
#[derive(Debug)]
pub struct Store<T> {
    objects: BTreeMap<Key, Arc<T>>,
    by_owner: BTreeMap<Key, BTreeSet<Key>>,
    /// Listings under way, by their source.
    listings: BTreeMap<usize, Listing<T>>,
    /// Objects that a watch or a listing says are gone: a late answer does not bring them back. A watch may.
    buried: Graves,
    /// Objects that are gone by the answer to a deletion of ours: no late watch brings them back. A listing that began later
    /// does: the server was set back to an earlier state.
    ended: Graves,
}

/// A listing under way.
#[derive(Debug)]
struct Listing<T> {
    /// What it has brought.
    objects: BTreeMap<Key, Arc<T>>,
    /// What answers to our writes brought, or ended, since it began: it may be older.
    learned: BTreeSet<Key>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Listing { objects: BTreeMap::new(), learned: BTreeSet::new() }
    }
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Store {
            objects: BTreeMap::new(),
            by_owner: BTreeMap::new(),
            listings: BTreeMap::new(),
            buried: Graves::default(),
            ended: Graves::default(),
        }
    }
}

/// Whether `one` is an older version of the object than `other`: versions of one object are numbers that grow.
fn is_older<T: Stored>(one: &T, other: &T) -> bool {
    let number = |object: &T| object.resource_version().parse::<u64>().ok();
    number(one).zip(number(other)).is_some_and(|(one, other)| one < other)
}

/// An object that changed: what it was, and what it is. Either may be nothing.
pub type Change<T> = (Option<Arc<T>>, Option<Arc<T>>);

impl<T: Stored + PartialEq> Store<T> {
    /// The object of a key.
    pub fn get(&self, key: &Key) -> Option<&Arc<T>> {
        self.objects.get(key)
    }

    /// Whether it has this very version of the object: whoever brings it again brings no news. (Unless the server was set back and
    /// has come to the same number again before the watch began anew: then the next version tells.)
    pub fn has_version(&self, key: &Key, uid: &str, resource_version: &str) -> bool {
        let is_it = |known: &Arc<T>| known.uid() == uid && known.resource_version() == resource_version;
        !resource_version.is_empty() && self.objects.get(key).is_some_and(is_it)
    }

    /// All objects, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<T>)> {
        self.objects.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The objects of an owner, by name.
    pub fn of(&self, owner: &Key) -> impl Iterator<Item = &Arc<T>> {
        self.by_owner.get(owner).into_iter().flatten().filter_map(|key| self.objects.get(key))
    }

    /// A watch says that there is `object`. Nothing is returned if that is known, or if more is: the answer to a write of
    /// ours may have come before the event of an older one.
    pub fn apply(&mut self, mut object: T) -> Option<Change<T>> {
        if self.ended.contains(object.uid()) {
            return None;
        }
        if let Some(known) = self.objects.get(&object.key()).filter(|known| known.uid() == object.uid()) {
            if is_older(&object, known.as_ref()) {
                return None;
            }
            object.keep(known);
        }
        self.put(object)
    }

    /// A listing says that there is `object`. Versions go back where the server was set back to an earlier state, from a
    /// backup: what is listed counts, whatever was known.
    fn apply_listed(&mut self, mut object: T) -> Option<Change<T>> {
        self.ended.remove(object.uid());
        if let Some(known) = self.objects.get(&object.key())
            && known.uid() == object.uid()
            && !is_older(&object, known.as_ref())
        {
            object.keep(known);
        }
        self.put(object)
    }

    fn put(&mut self, object: T) -> Option<Change<T>> {
        let (key, object) = (object.key(), Arc::new(object));
        let before = self.objects.insert(key.clone(), object.clone());
        if let Some(before) = &before {
            if before.owner() != object.owner() {
                self.unindex(&before.owner(), &key);
            }
            if before.uid() != object.uid() {
                self.buried.insert(before.uid());
            }
        }
        self.by_owner.entry(object.owner()).or_default().insert(key);
        if before.as_ref().is_some_and(|before| **before == *object) {
            return None;
        }
        Some((before, Some(object)))
    }

    /// A watch says that the object is gone.
    pub fn delete(&mut self, key: &Key, uid: &str) -> Option<Change<T>> {
        self.buried.insert(uid);
        let known = self.objects.get(key).filter(|known| known.uid() == uid)?.clone();
        self.objects.remove(key);
        self.unindex(&known.owner(), key);
        Some((Some(known), None))
    }

    /// The answer to a deletion of ours says that the object is gone.
    pub fn end(&mut self, key: &Key, uid: &str) -> Option<Change<T>> {
        self.ended.insert(uid);
        self.learned(key);
        self.delete(key, uid)
    }

    /// The answer to a write of ours says that there is `object`. It is newer than what is known if that is `base` (the
    /// version that the write was made for; empty: a creation) and a watch has not yet said that it is gone.
    pub fn learn(&mut self, base: &str, object: T) -> Option<Change<T>> {
        let known = self.objects.get(&object.key());
        let is_newer = match known {
            Some(known) => !base.is_empty() && known.uid() == object.uid() && known.resource_version() == base,
            None => base.is_empty() && !self.buried.contains(object.uid()),
        };
        if !is_newer {
            return None;
        }
        self.learned(&object.key());
        self.apply(object)
    }

    /// The answer to a write of ours that was made for whatever version there was. It counts if it is newer than what is
    /// known.
    pub fn learn_newer(&mut self, object: T) -> Option<Change<T>> {
        let known = self.objects.get(&object.key())?;
        let is_newer = known.uid() == object.uid() && is_older(known.as_ref(), &object);
        let base = known.resource_version().to_owned();
        if is_newer { self.learn(&base, object) } else { None }
    }

    fn learned(&mut self, key: &Key) {
        for listing in self.listings.values_mut() {
            listing.learned.insert(key.clone());
        }
    }

    /// A listing of `source` begins, perhaps anew.
    pub fn listing_begins(&mut self, source: usize) {
        self.listings.insert(source, Listing::default());
    }

    /// A listing has brought `object`.
    pub fn listed(&mut self, source: usize, object: T) {
        let object = Arc::new(object);
        self.listings.entry(source).or_default().objects.insert(object.key(), object);
    }

    /// The listing of `source` is whole: what it did not bring, of what `belongs` to it, is gone. Returns what changed.
    pub fn listing_ends(&mut self, source: usize, belongs: impl Fn(&Key) -> bool) -> Vec<Change<T>> {
        let Listing { objects: listed, learned } = self.listings.remove(&source).unwrap_or_default();
        let is_gone = |key: &Key| belongs(key) && !listed.contains_key(key) && !learned.contains(key);
        let gone = self.objects.iter().filter(|(key, _)| is_gone(key));
        let gone: Vec<(Key, String)> = gone.map(|(key, object)| (key.clone(), object.uid().to_owned())).collect();
        let mut changes: Vec<Change<T>> = gone.iter().filter_map(|(key, uid)| self.delete(key, uid)).collect();
        // It may be older than what was written meanwhile, or newer: no watch tells again what it has.
        changes.extend(listed.into_values().filter_map(Arc::into_inner).filter_map(|object| {
            let is_learned = learned.contains(&object.key());
            if is_learned { self.apply(object) } else { self.apply_listed(object) }
        }));
        changes
    }

    fn unindex(&mut self, owner: &Key, key: &Key) {
        if let Some(keys) = self.by_owner.get_mut(owner) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_owner.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Thing(&'static str, &'static str, &'static str, &'static str);

    impl Stored for Thing {
        fn key(&self) -> Key {
            Key::new("ns", self.0)
        }
        fn uid(&self) -> &str {
            self.1
        }
        fn resource_version(&self) -> &str {
            self.2
        }
        fn owner(&self) -> Key {
            Key::new("ns", self.3)
        }
    }

    fn names(store: &Store<Thing>, owner: &str) -> Vec<&'static str> {
        store.of(&Key::new("ns", owner)).map(|thing| thing.0).collect()
    }

    #[test]
    fn the_index_follows() {
        let mut store = Store::default();
        assert!(store.apply(Thing("a", "1", "1", "x")).is_some());
        assert!(store.apply(Thing("a", "1", "1", "x")).is_none(), "known");
        store.apply(Thing("b", "2", "1", "x"));
        store.apply(Thing("a", "1", "2", "y"));
        assert_eq!((names(&store, "x"), names(&store, "y")), (vec!["b"], vec!["a"]));
        store.delete(&Key::new("ns", "b"), "2");
        assert_eq!(names(&store, "x"), Vec::<&str>::new());
    }

    #[test]
    fn an_event_that_is_older_than_an_answer_takes_nothing_back() {
        let mut store = Store::default();
        store.apply(Thing("a", "1", "9", "x"));
        store.learn("9", Thing("a", "1", "12", "y"));
        assert!(store.apply(Thing("a", "1", "10", "x")).is_none());
        assert_eq!(names(&store, "y"), ["a"]);
        assert!(store.apply(Thing("a", "2", "11", "x")).is_some(), "another object of that name");
    }

    #[test]
    fn an_answer_never_brings_back_what_is_gone_nor_overwrites_what_is_newer() {
        let mut store = Store::default();
        assert!(store.learn("", Thing("a", "1", "1", "x")).is_some());
        store.apply(Thing("a", "1", "5", "x"));
        assert!(store.learn("1", Thing("a", "1", "2", "x")).is_none());
        assert!(store.learn("5", Thing("a", "1", "6", "x")).is_some());
        store.delete(&Key::new("ns", "a"), "1");
        assert!(store.learn("", Thing("a", "1", "1", "x")).is_none(), "late answer");
        assert!(store.learn("", Thing("a", "2", "9", "x")).is_some(), "another object of that name");
    }

    #[test]
    fn what_our_deletion_has_ended_no_late_watch_brings_back() {
        let mut store = Store::default();
        let key = Key::new("ns", "a");
        store.apply(Thing("a", "1", "1", "x"));
        assert!(store.end(&key, "1").is_some());
        assert!(store.apply(Thing("a", "1", "2", "x")).is_none(), "a late event");
        store.apply(Thing("b", "5", "1", "x"));
        store.listing_begins(0);
        assert!(store.end(&Key::new("ns", "b"), "5").is_some());
        store.listed(0, Thing("b", "5", "1", "x"));
        assert!(store.listing_ends(0, |_| true).is_empty(), "a listing that may be older");
        assert!(store.apply(Thing("a", "2", "3", "x")).is_some(), "another object of that name");
        // What only a watch has said to be gone, a watch may bring back.
        store.delete(&key, "2");
        assert!(store.apply(Thing("a", "2", "3", "x")).is_some());
    }

    #[test]
    fn a_listing_says_what_is_gone() {
        let mut store = Store::default();
        store.apply(Thing("a", "1", "1", "x"));
        store.apply(Thing("b", "2", "1", "x"));
        store.listing_begins(0);
        store.listed(0, Thing("b", "2", "3", "x"));
        store.listed(0, Thing("c", "3", "3", "x"));
        let changes = store.listing_ends(0, |_| true);
        assert_eq!(changes.len(), 3);
        assert_eq!(names(&store, "x"), ["b", "c"]);
    }

    #[test]
    fn a_listing_counts_where_the_server_was_set_back() {
        let mut store = Store::default();
        store.apply(Thing("a", "1", "90", "y"));
        store.apply(Thing("b", "2", "91", "x"));
        store.end(&Key::new("ns", "b"), "2");
        store.listing_begins(0);
        store.listed(0, Thing("a", "1", "7", "x"));
        store.listed(0, Thing("b", "2", "8", "x"));
        assert_eq!(store.listing_ends(0, |_| true).len(), 2);
        assert_eq!(names(&store, "x"), ["a", "b"]);
        assert!(store.apply(Thing("a", "1", "9", "z")).is_some(), "its watch goes on from there");
    }

    #[test]
    fn a_listing_does_not_take_back_what_was_written_meanwhile() {
        let mut store = Store::default();
        store.listing_begins(0);
        assert!(store.learn("", Thing("a", "1", "5", "x")).is_some());
        assert!(store.listing_ends(0, |_| true).is_empty());
        assert_eq!(names(&store, "x"), ["a"]);
        // What became of it since then only the listing says.
        store.listing_begins(0);
        assert!(store.learn("", Thing("n", "7", "6", "x")).is_some());
        store.listed(0, Thing("a", "1", "5", "x"));
        store.listed(0, Thing("n", "7", "8", "y"));
        assert_eq!(store.listing_ends(0, |_| true).len(), 1);
        assert_eq!(names(&store, "y"), ["n"]);
        store.end(&Key::new("ns", "n"), "7");
        // One that was begun anew since then is younger than what was written.
        store.listing_begins(0);
        assert!(store.learn("", Thing("b", "2", "6", "x")).is_some());
        store.listing_begins(0);
        assert_eq!(store.listing_ends(0, |_| true).len(), 2);
        assert!(store.is_empty());
    }
}
