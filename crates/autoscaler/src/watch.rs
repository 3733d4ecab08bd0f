//! What the API server said last: pods by watch, and the RayCluster and Kubernetes nodes by watch where RBAC allows it.
//!
//! ```text
//! pods (label ray.io/cluster) ──watch──▶ PodIndex ──▶ collect
//! RayCluster (by name) ──watch or get──▶ ClusterCell ──▶ collect
//! ```
//! Each index is a plain struct that is fed with watch events; the tasks at the end of this file own the streams. Nodes are in [`nodes`].

pub mod nodes;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use kube::{
    Api,
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::watcher::{self, Event},
};
use mobula_api::PodView;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    kube_access::{KubeAccess, KubeError, KubeErrorKind},
    metrics::{Metrics, own},
    pace::Backoffs,
};

/// Longest back-off of a watch that nothing goes without.
const MOST_WAIT: Duration = Duration::from_secs(60);
/// A watch that is open for so long works, though it brings nothing.
const WATCH_WORKS: Duration = Duration::from_secs(30);

/// The pods of one RayCluster as the watch shows them.
#[derive(Debug, Default)]
pub struct PodIndex {
    state: Mutex<PodState>,
}

#[derive(Debug, Default)]
struct PodState {
    pods: BTreeMap<String, PodView>,
    /// `pods` as they were given out; none since they have changed.
    given: Option<Arc<[PodView]>>,
    /// A list that is being received; it replaces `pods` when it is complete.
    incoming: Option<BTreeMap<String, PodView>>,
    complete: bool,
    /// Since when no watch keeps `pods` up to date.
    interrupted: Option<Instant>,
    /// Pods that can't be read, with the reason.
    unreadable: BTreeMap<String, String>,
}

impl PodIndex {
    fn lock(&self) -> MutexGuard<'_, PodState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pods by name; `None` until the first list was complete.
    pub fn pods(&self) -> Option<Arc<[PodView]>> {
        let mut state = self.lock();
        let PodState { pods, given, complete, .. } = &mut *state;
        complete.then(|| Arc::clone(given.get_or_insert_with(|| pods.values().cloned().collect())))
    }

    /// Pods that can't be read, with the reason.
    pub fn unreadable(&self) -> Vec<String> {
        self.lock().unreadable.iter().map(|(name, problem)| format!("pod {name}: {problem}")).collect()
    }

    /// For how long the pods have not been kept up to date; `None`: they are.
    pub fn interrupted_for(&self) -> Option<Duration> {
        self.lock().interrupted.map(|since| since.elapsed())
    }

    /// Takes in one event of the watch; `None`: the watch is interrupted until it has listed anew. Pods that were there are safer
    /// than none, for a while.
    pub fn apply(&self, event: Option<Event<DynamicObject>>) {
        let mut state = self.lock();
        let Some(event) = event else {
            state.interrupted.get_or_insert_with(Instant::now);
            return;
        };
        state.given = None;
        match event {
            Event::Init => {
                state.incoming = Some(BTreeMap::new());
                // Those that still are will be found again.
                state.unreadable.clear();
            }
            Event::InitApply(pod) => {
                // A pod that can't be read any more stays as it was: it still takes its place.
                let known = || pod.metadata.name.as_ref().and_then(|name| state.pods.get_key_value(name));
                let known = known().map(|(name, view)| (name.clone(), view.clone()));
                if let Some((name, view)) = state.read(&pod).or(known) {
                    state.incoming.get_or_insert_default().insert(name, view);
                }
            }
            Event::InitDone => {
                state.pods = state.incoming.take().unwrap_or_default();
                (state.complete, state.interrupted) = (true, None);
            }
            Event::Apply(pod) => {
                if let Some((name, view)) = state.read(&pod) {
                    state.pods.insert(name, view);
                }
            }
            Event::Delete(pod) => {
                let name = pod.metadata.name.unwrap_or_default();
                state.pods.remove(&name);
                state.unreadable.remove(&name);
            }
        }
    }
}

impl PodState {
    fn read(&mut self, pod: &DynamicObject) -> Option<(String, PodView)> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let parsed = serde_json::to_value(pod).map_err(|error| error.to_string());
        match parsed.and_then(|value| PodView::from_value(&value).map_err(|error| error.to_string())) {
            Ok(view) => {
                self.unreadable.remove(&name);
                Some((name, view))
            }
            Err(problem) => {
                self.unreadable.insert(name, problem);
                None
            }
        }
    }
}

/// The RayCluster as it was last seen, and when.
#[derive(Debug, Default)]
pub struct ClusterCell {
    seen: Mutex<Option<Seen>>,
    watched: AtomicBool,
    /// Whether the list that is being received has the object.
    listed: AtomicBool,
}

#[derive(Debug)]
struct Seen {
    object: Arc<Value>,
    at: Instant,
    outdated: bool,
}

impl ClusterCell {
    fn lock(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object as it was last seen.
    pub fn latest(&self) -> Option<Arc<Value>> {
        self.lock().as_ref().map(|seen| seen.object.clone())
    }

    /// The object, if it was seen less than `max_age` ago and is not known to have changed since.
    pub fn fresh(&self, max_age: Duration) -> Option<Arc<Value>> {
        let seen = self.lock();
        seen.as_ref().filter(|seen| !seen.outdated && seen.at.elapsed() < max_age).map(|seen| seen.object.clone())
    }

    /// The object, if it was seen less than `max_age` ago, outdated or not.
    pub fn usable(&self, max_age: Duration) -> Option<Arc<Value>> {
        self.lock().as_ref().filter(|seen| seen.at.elapsed() < max_age).map(|seen| seen.object.clone())
    }

    /// Takes in a newer object: from a watch, a get, or the answer to a patch. An older one is ignored.
    pub fn put(&self, value: Value) -> Arc<Value> {
        let mut state = self.lock();
        let object = match state.take() {
            Some(known) if !is_newer(&value, &known.object) => known.object,
            _ => Arc::new(value),
        };
        *state = Some(Seen { object: object.clone(), at: Instant::now(), outdated: false });
        object
    }

    /// The object is known to have changed: it must be read again before it is used.
    pub fn outdate(&self) {
        if let Some(seen) = self.lock().as_mut() {
            seen.outdated = true;
        }
    }

    /// Forgets the object (it was deleted).
    pub fn clear(&self) {
        *self.lock() = None;
    }

    /// Takes in one event of the watch; `None`: the watch is interrupted, so gets must take over until it has listed anew.
    fn apply(&self, event: Option<Event<DynamicObject>>) {
        match event {
            Some(Event::Init) => self.listed.store(false, Ordering::Relaxed),
            Some(Event::InitApply(object)) => {
                self.listed.store(true, Ordering::Relaxed);
                self.put_object(object);
            }
            Some(Event::InitDone) => {
                if !self.listed.load(Ordering::Relaxed) {
                    self.clear();
                }
                self.set_watched(true);
            }
            Some(Event::Apply(object)) => self.put_object(object),
            Some(Event::Delete(_)) => self.clear(),
            None => self.set_watched(false),
        }
    }

    fn put_object(&self, object: DynamicObject) {
        if let Ok(value) = serde_json::to_value(object) {
            self.put(value);
        }
    }

    /// Whether a watch keeps it up to date now.
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    fn set_watched(&self, watched: bool) {
        self.watched.store(watched, Ordering::Relaxed);
    }
}

/// Whether `value` is a later state than `known`. Resource versions of one object are comparable numbers; an object that
/// was made anew is always later.
fn is_newer(value: &Value, known: &Value) -> bool {
    let field = |object: &Value, name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    let version = |object: &Value| field(object, "resourceVersion").parse::<u64>().ok();
    match (version(value), version(known)) {
        (Some(new), Some(old)) if field(value, "uid") == field(known, "uid") => new > old,
        _ => true,
    }
}

/// Feeds the pod index until the future is dropped. Errors are counted and backed off by cause.
pub async fn watch_pods(kube: KubeAccess, index: Arc<PodIndex>, metrics: Arc<Metrics>) {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Pod"), "pods");
    let api = Api::<DynamicObject>::namespaced_with(kube.client(), &kube.namespace, &resource);
    let config = watcher::Config::default().labels(&format!("{}={}", mobula_api::keys::CLUSTER, kube.cluster));
    let watched = Watched { action: "watch pods", optional: false };
    follow(api, config, watched, &metrics, |event| index.apply(event)).await;
}

/// Feeds the RayCluster cell until the future is dropped or the API server says that it is not allowed.
pub async fn watch_cluster(kube: KubeAccess, cell: Arc<ClusterCell>, metrics: Arc<Metrics>) {
    let kind = GroupVersionKind::gvk("ray.io", &kube.crd_version, "RayCluster");
    let resource = ApiResource::from_gvk_with_plural(&kind, "rayclusters");
    let api = Api::<DynamicObject>::namespaced_with(kube.client(), &kube.namespace, &resource);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", kube.cluster));
    let watched = Watched { action: "watch raycluster", optional: true };
    follow(api, config, watched, &metrics, |event| cell.apply(event)).await;
    cell.set_watched(false);
}

/// What a stream is for.
struct Watched {
    action: &'static str,
    /// Whether we can do without it: then a 403 ends it.
    optional: bool,
}

/// Runs a watch with a back-off for each kind of error; after each it lists anew. `apply` gets each event, and `None` at each error.
async fn follow(
    api: Api<DynamicObject>,
    config: watcher::Config,
    watched: Watched,
    metrics: &Metrics,
    mut apply: impl FnMut(Option<Event<DynamicObject>>),
) {
    let mut backoffs: Backoffs<KubeErrorKind> = Backoffs::new();
    let mut stream = watcher::watcher(api.clone(), config.clone()).boxed();
    // When it had listed. That lists work says nothing of the watch after it.
    let mut listed: Option<Instant> = None;
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                match event {
                    Event::InitDone => listed = Some(Instant::now()),
                    Event::Apply(_) | Event::Delete(_) => backoffs = Backoffs::new(),
                    Event::Init | Event::InitApply(_) => {}
                }
                apply(Some(event));
            }
            Err(error) => {
                apply(None);
                if listed.take().is_some_and(|listed| listed.elapsed() >= WATCH_WORKS) {
                    backoffs = Backoffs::new();
                }
                let error = watch_error(watched.action, &error);
                metrics.add(&own::ERRORS, vec![("source", "kube".into()), ("kind", error.kind.as_str().into())], 1);
                if watched.optional && error.kind == KubeErrorKind::Forbidden {
                    tracing::warn!(%error, "watch not allowed: doing without it");
                    return;
                }
                let mut backoff = error.kind.backoff();
                if !watched.optional {
                    backoff.most = backoff.most.min(MOST_WAIT);
                }
                let wait = backoffs.fail(error.kind, backoff, error.retry_after);
                tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "watch interrupted");
                tokio::time::sleep(wait).await;
                // The stream itself might go on without a list: nothing would say that all is known again.
                stream = watcher::watcher(api.clone(), config.clone()).boxed();
            }
        }
    }
}

fn watch_error(action: &'static str, error: &watcher::Error) -> KubeError {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => KubeError::from_kube(action, error),
        watcher::Error::WatchError(status) => KubeError::from_kube(action, &kube::Error::Api(status.clone())),
        other => KubeError {
            action: action.to_owned(),
            kind: KubeErrorKind::Garbage,
            message: other.to_string(),
            retry_after: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"ray.io/group": "cpu", "ray.io/node-type": "worker"}},
            "spec": {"containers": [{"name": "ray-worker"}]},
            "status": {"phase": "Pending"},
        }))
        .unwrap()
    }

    fn names(index: &PodIndex) -> Option<Vec<String>> {
        index.pods().map(|pods| pods.iter().map(|pod| pod.name.clone()).collect())
    }

    #[test]
    fn nothing_is_known_before_the_first_list_is_complete() {
        let index = PodIndex::default();
        index.apply(Some(Event::Init));
        index.apply(Some(Event::InitApply(pod("a"))));
        assert_eq!(names(&index), None);
        index.apply(Some(Event::InitDone));
        assert_eq!(names(&index), Some(vec!["a".to_owned()]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_interrupted_watch_grows_older_until_it_has_listed_anew() {
        let index = PodIndex::default();
        for event in [Event::Init, Event::InitApply(pod("a")), Event::InitDone] {
            index.apply(Some(event));
        }
        assert_eq!(index.interrupted_for(), None);
        index.apply(None);
        tokio::time::advance(Duration::from_secs(7)).await;
        // It is tried again and fails again.
        for event in [None, Some(Event::Init), Some(Event::InitApply(pod("b")))] {
            index.apply(event);
        }
        assert_eq!(index.interrupted_for(), Some(Duration::from_secs(7)));
        assert_eq!(names(&index), Some(vec!["a".to_owned()]), "what was there stays");
        index.apply(Some(Event::InitDone));
        assert_eq!((index.interrupted_for(), names(&index)), (None, Some(vec!["b".to_owned()])));
    }

    #[test]
    fn a_new_list_replaces_the_old_one_only_when_it_is_complete() {
        let index = PodIndex::default();
        for event in [Event::Init, Event::InitApply(pod("a")), Event::InitDone, Event::Init, Event::InitApply(pod("b"))]
        {
            index.apply(Some(event));
        }
        assert_eq!(names(&index), Some(vec!["a".to_owned()]));
        index.apply(Some(Event::InitDone));
        assert_eq!(names(&index), Some(vec!["b".to_owned()]));
    }

    #[test]
    fn a_deleted_pod_is_gone() {
        let index = PodIndex::default();
        for event in [Event::Init, Event::InitDone, Event::Apply(pod("a")), Event::Delete(pod("a"))] {
            index.apply(Some(event));
        }
        assert_eq!(names(&index), Some(vec![]));
    }

    #[test]
    fn a_pod_that_can_not_be_read_any_more_stays_as_it_was() {
        let unreadable = || {
            let mut pod = pod("a");
            pod.data["spec"]["containers"] = json!(7);
            pod
        };
        for events in
            [vec![Event::Apply(unreadable())], vec![Event::Init, Event::InitApply(unreadable()), Event::InitDone]]
        {
            let index = PodIndex::default();
            for event in [Event::Init, Event::InitApply(pod("a")), Event::InitDone].into_iter().chain(events) {
                index.apply(Some(event));
            }
            assert_eq!(names(&index), Some(vec!["a".to_owned()]));
            assert_eq!(index.unreadable().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_cluster_counts_as_watched_from_a_list_to_the_next_error() {
        let cell = ClusterCell::default();
        let is_watched = |event| {
            cell.apply(event);
            cell.is_watched()
        };
        assert!(!is_watched(Some(Event::Init)));
        assert!(is_watched(Some(Event::InitDone)));
        assert!(!is_watched(None));
        assert!(!is_watched(Some(Event::Apply(pod("a")))));
        assert!(is_watched(Some(Event::InitDone)));
    }

    #[tokio::test]
    async fn a_cluster_that_a_new_list_does_not_have_is_gone() {
        let cell = ClusterCell::default();
        for event in [Event::Init, Event::InitApply(pod("a")), Event::InitDone] {
            cell.apply(Some(event));
        }
        assert!(cell.latest().is_some());
        for event in [Event::Init, Event::InitDone] {
            cell.apply(Some(event));
        }
        assert_eq!(cell.latest(), None);
    }

    #[tokio::test]
    async fn an_older_answer_does_not_replace_a_newer_object() {
        let cell = ClusterCell::default();
        let object = |version: &str| json!({"metadata": {"uid": "u", "resourceVersion": version}});
        cell.put(object("10"));
        cell.put(object("9"));
        assert_eq!(*cell.latest().unwrap(), object("10"));
        cell.put(object("11"));
        assert_eq!(*cell.latest().unwrap(), object("11"));
    }
}
