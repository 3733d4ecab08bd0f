//! Everything that is watched, in stores with indices. A reconcile reads one coherent snapshot from here and lists nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mobula_api::{RayCluster, keys};
use serde_json::Value;

use super::{
    capacity::Capacity,
    kind::{self, Kind},
    pod::{self, Place, Pod},
    store::{Change, Key, Store, Stored},
};

mod gangs;
mod left_behind;
mod sources;
#[cfg(test)]
mod tests;
mod unreadable;

pub use gangs::{ANYWHERE, CAPACITY_SOURCES, CapacityView, GangMember, GangWait, admission_target};
use gangs::{Certainty, changed_capacity};
use left_behind::LeftBehind;
pub use sources::{RAY_CLUSTER_SOURCES, Source};
pub use unreadable::Unreadable;

/// A custom resource that may have to be reconciled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Namespace and name. First, because it tells more than the kind when two are compared.
    pub key: Key,
    /// Kind.
    pub kind: &'static Kind,
}

/// A RayCluster as the API server has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Namespace and name.
    pub key: Key,
    /// Unique id.
    pub uid: String,
    /// Opaque version.
    pub resource_version: String,
    /// The object, or what can be read of it.
    pub object: Result<RayCluster, Box<Unreadable>>,
}

impl Cluster {
    fn read(value: &Value) -> Cluster {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Cluster {
            key: Key::new(text("/metadata/namespace"), text("/metadata/name")),
            uid: text("/metadata/uid"),
            resource_version: text("/metadata/resourceVersion"),
            object: RayCluster::read_value(value).map_err(|problem| Unreadable::new(problem, value)),
        }
    }
}

/// An object that belongs to a custom resource and is no pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Kind.
    pub kind: &'static Kind,
    /// Namespace and name.
    pub key: Key,
    /// Unique id.
    pub uid: String,
    /// Opaque version.
    pub resource_version: String,
    /// Unique id of the owner: the one that controls it, else a RayCluster; empty if there is none.
    pub owner: String,
    owner_key: Key,
    /// The object, without its managed fields; of a Secret only the metadata.
    pub body: Value,
}

impl Child {
    fn read(kind: &'static Kind, mut value: Value) -> Child {
        if kind == &kind::SECRET
            && let Some(object) = value.as_object_mut()
        {
            object.retain(|key, _| key == "metadata");
        }
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Child {
            kind,
            key: Key::new(text("/metadata/namespace"), text("/metadata/name")),
            uid: text("/metadata/uid"),
            resource_version: text("/metadata/resourceVersion"),
            owner: owner(&value).and_then(|owner| owner["uid"].as_str()).unwrap_or_default().to_owned(),
            owner_key: owner_key(&value),
            body: value,
        }
    }

    /// Whether it belongs to the RayCluster of that unique id, or outlives it: a claim that is retained has no owner. A head
    /// Service or an Ingress that nobody owns leads to the cluster that its labels name, whoever made it.
    fn is_of(&self, uid: &str) -> bool {
        let is_shared = [&kind::PERSISTENT_VOLUME_CLAIM, &kind::INGRESS, &kind::ROUTE].contains(&self.kind)
            || self.is_head_service();
        self.owner == uid || (self.owner.is_empty() && is_shared)
    }

    /// Whether it is a Service that leads to a head.
    pub fn is_head_service(&self) -> bool {
        self.kind == &kind::SERVICE && self.body["metadata"]["labels"][keys::NODE_TYPE] == "head"
    }
}

/// The owner that controls an object, else a RayCluster: KubeRay's gangs of scheduler-plugins have an owner that does not
/// control them.
fn owner(value: &Value) -> Option<&Value> {
    let owners = value.pointer("/metadata/ownerReferences")?.as_array()?;
    let controller = owners.iter().find(|owner| owner["controller"] == true);
    controller.or_else(|| owners.iter().find(|owner| owner["kind"] == kind::RAY_CLUSTER.kind))
}

/// The key of the index: namespace, and kind and name of the owner. Of a claim without one, the cluster that it names.
fn owner_key(value: &Value) -> Key {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let namespace = value.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
    let named = || value.pointer("/metadata/labels").and_then(|labels| labels.get(keys::CLUSTER)?.as_str());
    let name = match owner(value) {
        Some(owner) => format!("{}/{}", text(owner, "kind"), text(owner, "name")),
        None => named().map_or(String::new(), |name| format!("{}/{name}", kind::RAY_CLUSTER.kind)),
    };
    Key::new(namespace, name)
}

fn index_key(target: &Target) -> Key {
    Key::new(target.key.namespace.clone(), format!("{}/{}", target.kind.kind, target.key.name))
}

impl Stored for Cluster {
    fn key(&self) -> Key {
        self.key.clone()
    }
    fn uid(&self) -> &str {
        &self.uid
    }
    fn resource_version(&self) -> &str {
        &self.resource_version
    }
    fn owner(&self) -> Key {
        Key::default()
    }
}

impl Stored for Child {
    fn key(&self) -> Key {
        self.key.clone()
    }
    fn uid(&self) -> &str {
        &self.uid
    }
    fn resource_version(&self) -> &str {
        &self.resource_version
    }
    fn owner(&self) -> Key {
        self.owner_key.clone()
    }
}

/// A pod with the key that it is indexed by.
#[derive(Clone, Debug, PartialEq)]
struct Indexed {
    pod: Arc<Pod>,
    owner_key: Key,
    /// An operator has made it and nobody owns it: then it is indexed by the RayCluster that its label names.
    is_orphan: bool,
}

impl Stored for Indexed {
    fn key(&self) -> Key {
        Key::new(self.pod.namespace.clone(), self.pod.name.clone())
    }
    fn uid(&self) -> &str {
        &self.pod.uid
    }
    fn resource_version(&self) -> &str {
        &self.pod.resource_version
    }
    fn owner(&self) -> Key {
        self.owner_key.clone()
    }
    fn keep(&mut self, known: &Self) {
        // A deletion is never taken back: an event without it is older than our request.
        if self.pod.deletion_ms.is_none() && known.pod.deletion_ms.is_some() {
            let pod = Pod { deletion_ms: known.pod.deletion_ms, ..(*self.pod).clone() };
            self.pod = Arc::new(pod);
        }
    }
}

/// Incarnation that the next pod of a place has: group and replica.
pub type Incarnations = BTreeMap<(String, u32), u32>;

/// Stores, indices, and who is to be told what has changed.
pub struct World {
    inner: Mutex<Inner>,
    sources: Vec<Source>,
    namespaces: Vec<String>,
    changed: tokio::sync::mpsc::UnboundedSender<Target>,
}

#[derive(Default)]
struct Inner {
    clusters: Store<Cluster>,
    pods: Store<Indexed>,
    children: BTreeMap<usize, Store<Child>>,
    incarnations: BTreeMap<String, Incarnations>,
    capacity: Capacity,
    waits: BTreeMap<Key, Vec<GangWait>>,
    certainty: Certainty,
    synced: BTreeSet<(usize, usize)>,
    /// Whether gang admission sees what it needs.
    admits: bool,
}

/// What the world holds of one RayCluster.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// The RayCluster.
    pub cluster: Arc<Cluster>,
    /// Its pods, by name. Only those that it controls.
    pub pods: Vec<Arc<Pod>>,
    /// Pods that an operator has made for one of its name and that nobody owns.
    pub orphans: Vec<Arc<Pod>>,
    /// Pods stay that an earlier RayCluster of its name owns: the garbage collector will take their owner out, or them.
    pub predecessor_stays: bool,
    /// What else it controls, by kind and name.
    pub children: Vec<Arc<Child>>,
    /// Incarnations of places that were used before.
    pub incarnations: Incarnations,
    /// Its gangs that wait.
    pub waits: Vec<GangWait>,
}

impl World {
    /// An empty world that will watch `sources` in `namespaces` (empty: in all), and whoever is told what has changed.
    pub fn new(
        sources: &[Source],
        namespaces: &[String],
    ) -> (Arc<World>, tokio::sync::mpsc::UnboundedReceiver<Target>) {
        let (changed, changes) = tokio::sync::mpsc::unbounded_channel();
        let namespaces = if namespaces.is_empty() { vec![String::new()] } else { namespaces.to_vec() };
        let inner = Inner { admits: sources.iter().any(Source::is_capacity), ..Inner::default() };
        let world = World { inner: Mutex::new(inner), sources: sources.to_vec(), namespaces, changed };
        (Arc::new(world), changes)
    }

    /// What is watched: number, source, namespace (empty: all).
    pub fn watches(&self) -> Vec<(usize, usize, Source, String)> {
        let mut watches = Vec::new();
        for (number, source) in self.sources.iter().enumerate() {
            let all = [String::new()];
            let namespaces = if source.is_capacity() { &all[..] } else { &self.namespaces };
            for (place, namespace) in namespaces.iter().enumerate() {
                watches.push((number, place, *source, namespace.clone()));
            }
        }
        watches
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether every watch has brought its first listing.
    pub fn is_synced(&self) -> bool {
        let inner = self.lock();
        let mut needed = self.watches().into_iter().filter(|(_, _, source, _)| !source.is_optional());
        needed.all(|(source, place, _, _)| inner.synced.contains(&(source, place)))
    }

    /// Gang admission, and every RayCluster that is known.
    pub fn targets(&self) -> Vec<Target> {
        let inner = self.lock();
        let clusters = inner.clusters.iter().map(|(key, _)| target(key.clone()));
        inner.admits.then(admission_target).into_iter().chain(clusters).collect()
    }

    /// Every RayCluster that is known, as it is.
    pub fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.lock().clusters.iter().map(|(_, cluster)| cluster.clone()).collect()
    }

    /// One RayCluster with what it controls; `None`: there is none.
    pub fn cluster(&self, key: &Key) -> Option<ClusterView> {
        let inner = self.lock();
        let cluster = inner.clusters.get(key)?.clone();
        let index = index_key(&target(key.clone()));
        let pods = inner.pods.of(&index).map(|indexed| indexed.pod.clone()).filter(|pod| pod.owner == cluster.uid);
        let LeftBehind { orphans, predecessor_stays } = inner.left_behind(&index, &cluster.uid);
        let children = inner.children.values().flat_map(|store| store.of(&index)).cloned();
        Some(ClusterView {
            pods: pods.collect(),
            orphans,
            predecessor_stays,
            children: children.filter(|child| child.is_of(&cluster.uid)).collect(),
            incarnations: inner.incarnations.get(&cluster.uid).cloned().unwrap_or_default(),
            waits: inner.waits.get(key).cloned().unwrap_or_default(),
            cluster,
        })
    }

    /// A watch says that there is `value`.
    pub fn apply(&self, source: usize, value: Value) {
        let Some(kind) = self.kind(source) else { return };
        if self.is_capacity(source) {
            return self.with(|inner| changed_capacity(inner.capacity.apply(kind, &value)));
        }
        if self.is_others(source, &value) {
            return self.with(|inner| inner.delete(source, kind, value));
        }
        self.with(|inner| inner.apply(source, kind, value));
    }

    /// A watch says that `value` is gone.
    pub fn delete(&self, source: usize, value: Value) {
        let Some(kind) = self.kind(source) else { return };
        if self.is_capacity(source) {
            return self.with(|inner| changed_capacity(inner.capacity.delete(kind, &value)));
        }
        self.with(|inner| inner.delete(source, kind, value));
    }

    /// A listing begins.
    pub fn listing_begins(&self, source: usize, place: usize) {
        let mut inner = self.lock();
        match self.kind(source) {
            Some(kind) if self.is_capacity(source) => inner.capacity.listing_begins(kind),
            Some(kind) if kind == &kind::RAY_CLUSTER => inner.clusters.listing_begins(place),
            Some(kind) if kind == &kind::POD => inner.pods.listing_begins(place),
            _ => inner.children.entry(source).or_default().listing_begins(place),
        }
    }

    /// A listing has brought `value`.
    pub fn listed(&self, source: usize, place: usize, value: Value) {
        let Some(kind) = self.kind(source) else { return };
        let mut inner = self.lock();
        if self.is_capacity(source) {
            inner.capacity.listed(kind, &value);
        } else if kind == &kind::RAY_CLUSTER {
            inner.clusters.listed(place, Cluster::read(&value));
        } else if kind == &kind::POD {
            if let Some(pod) = indexed(&value) {
                inner.pods.listed(place, pod);
            }
        } else if !self.is_others(source, &value) {
            inner.children.entry(source).or_default().listed(place, Child::read(kind, value));
        }
    }

    /// The listing is whole.
    pub fn listing_ends(&self, source: usize, place: usize) {
        let Some(kind) = self.kind(source) else { return };
        let namespace = self.namespaces.get(place).cloned().unwrap_or_default();
        let belongs = |key: &Key| namespace.is_empty() || key.namespace == namespace;
        self.with(|inner| {
            inner.synced.insert((source, place));
            if self.is_capacity(source) {
                inner.capacity.listing_ends(kind);
                changed_capacity(true)
            } else if kind == &kind::RAY_CLUSTER {
                let changes = inner.clusters.listing_ends(place, belongs);
                changes.iter().flat_map(|change| inner.cluster_changed(change)).collect()
            } else if kind == &kind::POD {
                let changes = inner.pods.listing_ends(place, belongs);
                changes.iter().flat_map(|change| inner.pod_changed(change)).collect()
            } else {
                let changes = inner.children.entry(source).or_default().listing_ends(place, belongs);
                changes.iter().flat_map(changed_owners).collect()
            }
        });
    }

    /// The answer to a write of ours. `base`: the version that the write was made for; empty for a creation.
    pub fn learn(&self, kind: &'static Kind, base: &str, value: Value) {
        self.with(|inner| {
            if kind == &kind::RAY_CLUSTER {
                inner.clusters.learn(base, Cluster::read(&value));
                // Whoever wrote it looks again by itself.
                return Vec::new();
            }
            if kind == &kind::POD {
                let change = indexed(&value).and_then(|pod| inner.pods.learn(base, pod));
                return change.map(|change| inner.pod_changed(&change)).unwrap_or_default();
            }
            let source = self.sources.iter().position(|source| source.kind == kind && source.admits(&value));
            let Some(source) = source else { return Vec::new() };
            let change = inner.children.entry(source).or_default().learn(base, Child::read(kind, value));
            change.iter().flat_map(changed_owners).collect()
        });
    }

    /// The deletion of a pod was accepted: it is on its way out even if no watch has said so yet.
    pub fn deletion_accepted(&self, key: &Key, uid: &str, now_ms: i64) {
        self.with(|inner| {
            let Some(known) = inner.pods.get(key).filter(|known| known.pod.uid == uid) else { return Vec::new() };
            if known.pod.deletion_ms.is_some() {
                return Vec::new();
            }
            let pod = Pod { deletion_ms: Some(now_ms.saturating_add(ASSUMED_GRACE_MS)), ..(*known.pod).clone() };
            let indexed = Indexed { pod: Arc::new(pod), ..Indexed::clone(known) };
            let change = inner.pods.apply(indexed);
            change.map(|change| inner.pod_changed(&change)).unwrap_or_default()
        });
    }

    /// The object is gone, as the answer to a deletion says.
    pub fn is_gone(&self, kind: &'static Kind, key: &Key, uid: &str) {
        self.with(|inner| {
            if kind == &kind::POD {
                let change = inner.pods.end(key, uid);
                return change.map(|change| inner.pod_changed(&change)).unwrap_or_default();
            }
            let of_kind = self.sources.iter().enumerate().filter(|(_, source)| source.kind == kind);
            let changes: Vec<_> =
                of_kind.filter_map(|(source, _)| inner.children.entry(source).or_default().end(key, uid)).collect();
            changes.iter().flat_map(changed_owners).collect()
        });
    }

    /// The name of a place of `cluster` is taken by another of its pods: the next incarnation has another one.
    pub fn name_is_taken(&self, cluster: &Key, owner: &str, group: &str, place: Place) {
        self.lock().retire(cluster, owner, group, place);
    }

    /// Whether objects of the kind are watched: what there is of them is in the stores.
    pub fn is_watched(&self, kind: &Kind) -> bool {
        self.sources.iter().any(|source| source.kind == kind)
    }

    fn is_capacity(&self, source: usize) -> bool {
        self.sources.get(source).is_some_and(Source::is_capacity)
    }

    fn is_others(&self, source: usize, value: &Value) -> bool {
        self.sources.get(source).is_some_and(|source| source.is_others(value))
    }

    fn kind(&self, source: usize) -> Option<&'static Kind> {
        self.sources.get(source).map(|source| source.kind)
    }

    fn with(&self, change: impl FnOnce(&mut Inner) -> Vec<Target>) {
        let targets = change(&mut self.lock());
        for target in targets {
            // Nobody listens any more: we are being stopped.
            let _ = self.changed.send(target);
        }
    }
}

/// How long a pod is given to end where its own grace period is not known yet, in ms: Kubernetes' default.
const ASSUMED_GRACE_MS: i64 = 30_000;

fn target(key: Key) -> Target {
    Target { kind: &kind::RAY_CLUSTER, key }
}

fn indexed(value: &Value) -> Option<Indexed> {
    match Pod::read(value) {
        Ok(pod) => {
            let (owner_key, is_orphan) = (owner_key(value), pod::is_left_over(value));
            Some(Indexed { pod: Arc::new(pod), owner_key, is_orphan })
        }
        Err(error) => {
            tracing::warn!(%error, "a pod that can't be read is left out");
            None
        }
    }
}

/// Which custom resources a changed child belongs to.
fn owner_of(key: &Key) -> Option<Target> {
    let (kind, name) = key.name.split_once('/')?;
    (kind == kind::RAY_CLUSTER.kind).then(|| target(Key::new(key.namespace.clone(), name)))
}

fn changed_owners<T: Stored>(change: &Change<T>) -> Vec<Target> {
    let both = [&change.0, &change.1];
    let owners: BTreeSet<Key> = both.into_iter().flatten().map(|object| object.owner()).collect();
    owners.iter().filter_map(owner_of).collect()
}

impl Inner {
    fn apply(&mut self, source: usize, kind: &'static Kind, value: Value) -> Vec<Target> {
        if self.has_version(source, kind, &value) {
            return Vec::new();
        }
        if kind == &kind::RAY_CLUSTER {
            let change = self.clusters.apply(Cluster::read(&value));
            change.map(|change| self.cluster_changed(&change)).unwrap_or_default()
        } else if kind == &kind::POD {
            let change = indexed(&value).and_then(|pod| self.pods.apply(pod));
            change.map(|change| self.pod_changed(&change)).unwrap_or_default()
        } else {
            let change = self.children.entry(source).or_default().apply(Child::read(kind, value));
            change.iter().flat_map(changed_owners).collect()
        }
    }

    /// Whether this version is known already, by the answer to a write of ours: then it is not read again.
    fn has_version(&self, source: usize, kind: &'static Kind, value: &Value) -> bool {
        let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default();
        let (key, uid, version) = (Key::new(text("namespace"), text("name")), text("uid"), text("resourceVersion"));
        if kind == &kind::RAY_CLUSTER {
            self.clusters.has_version(&key, uid, version)
        } else if kind == &kind::POD {
            self.pods.has_version(&key, uid, version)
        } else {
            self.children.get(&source).is_some_and(|store| store.has_version(&key, uid, version))
        }
    }

    fn delete(&mut self, source: usize, kind: &'static Kind, value: Value) -> Vec<Target> {
        let child = Child::read(kind, value);
        if kind == &kind::RAY_CLUSTER {
            let change = self.clusters.delete(&child.key, &child.uid);
            change.map(|change| self.cluster_changed(&change)).unwrap_or_default()
        } else if kind == &kind::POD {
            let change = self.pods.delete(&child.key, &child.uid);
            change.map(|change| self.pod_changed(&change)).unwrap_or_default()
        } else {
            let change = self.children.entry(source).or_default().delete(&child.key, &child.uid);
            change.iter().flat_map(changed_owners).collect()
        }
    }

    fn cluster_changed(&mut self, (before, after): &Change<Cluster>) -> Vec<Target> {
        let uid = after.as_ref().map(|after| after.uid.as_str());
        if let Some(before) = before
            && uid != Some(before.uid.as_str())
        {
            self.incarnations.remove(&before.uid);
        }
        let admission = (self.admits && means_other_gangs(before.as_deref(), after.as_deref())).then(admission_target);
        let both = [before, after].into_iter().flatten().take(1);
        both.map(|cluster| target(cluster.key.clone())).chain(admission).collect()
    }

    fn pod_changed(&mut self, change: &Change<Indexed>) -> Vec<Target> {
        if let Some(before) = &change.0
            && change.1.as_ref().is_none_or(|after| after.pod.uid != before.pod.uid)
            && let Some(place) = before.pod.place
            && let Some(cluster) = owner_of(&before.owner_key)
        {
            self.retire(&cluster.key, &before.pod.owner, &before.pod.group, place);
        }
        self.certainty.changed(change);
        let is_of_gang = |indexed: &Arc<Indexed>| indexed.pod.gang.is_some();
        let concerns_gangs = [&change.0, &change.1].into_iter().flatten().any(is_of_gang);
        let admission = concerns_gangs.then(admission_target);
        changed_owners(change).into_iter().chain(admission).collect()
    }

    /// Nothing is kept of a cluster that is gone: its pods go after it.
    fn retire(&mut self, cluster: &Key, owner: &str, group: &str, place: Place) {
        if self.clusters.get(cluster).is_none_or(|cluster| cluster.uid != owner) {
            return;
        }
        let incarnations = self.incarnations.entry(owner.to_owned()).or_default();
        let next = incarnations.entry((group.to_owned(), place.replica)).or_default();
        *next = (*next).max(place.incarnation.saturating_add(1));
    }
}

/// Whether a change of a RayCluster may be one of its gangs: how many pods a gang has, and where it may be, is in its spec and
/// its annotations.
fn means_other_gangs(before: Option<&Cluster>, after: Option<&Cluster>) -> bool {
    fn asks(cluster: &Cluster) -> (i64, &BTreeMap<String, String>) {
        let object = cluster.object.as_ref().unwrap_or_else(|unreadable| &unreadable.rest);
        (object.metadata.generation, &object.metadata.annotations)
    }
    before.map(asks) != after.map(asks)
}
