//! A Kubernetes API server in memory, as much of it as the sidecar speaks to, with faults by script.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, with a message.
    Status(u16, &'static str),
    /// Never an answer.
    Hang,
    /// The answer comes later.
    Slow(Duration),
}

struct Script {
    method: Method,
    path_part: &'static str,
    times: usize,
    fault: Fault,
}

/// What an admission webhook says to a RayCluster that is to change from the first to the second: a status and a message
/// if it refuses.
type Admission = Box<dyn Fn(&Value, &Value) -> Option<(u16, &'static str)> + Send>;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub status: u16,
    pub body: Value,
}

struct Inner {
    version: u64,
    cluster: Value,
    pods: BTreeMap<String, Value>,
    watchers: Vec<(Kind, UnboundedSender<Result<Bytes, Infallible>>)>,
    scripts: Vec<Script>,
    seen: Vec<Seen>,
    granted: BTreeSet<String>,
    /// Said to be granted when asked, and refused when tried.
    refused: BTreeSet<String>,
    quotas: Value,
    /// Answers to gets of other paths.
    served: BTreeMap<String, Value>,
    nodes: Value,
    admission: Option<Admission>,
}

/// What is watched.
#[derive(Copy, Clone, PartialEq)]
enum Kind {
    Pod,
    Cluster,
    Node,
}

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct FakeKube {
    inner: Arc<Mutex<Inner>>,
}

impl FakeKube {
    pub fn new(mut cluster: Value) -> Self {
        cluster["metadata"]["resourceVersion"] = json!("1");
        cluster["metadata"]["uid"] = json!("uid-1");
        cluster["metadata"]["generation"] = json!(1);
        let inner = Inner {
            version: 1,
            cluster,
            pods: BTreeMap::new(),
            watchers: Vec::new(),
            scripts: Vec::new(),
            seen: Vec::new(),
            granted: BTreeSet::new(),
            refused: BTreeSet::new(),
            quotas: json!({"items": []}),
            served: BTreeMap::new(),
            nodes: json!({"items": []}),
            admission: None,
        };
        FakeKube { inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// A client of this server.
    pub fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// The next `times` requests of this method whose path or query contains `path_part` go wrong.
    pub fn fail(&self, method: Method, path_part: &'static str, times: usize, fault: Fault) {
        self.lock().scripts.push(Script { method, path_part, times, fault });
    }

    /// From now on patches of the RayCluster are admitted only as this says.
    pub fn admit(&self, admission: impl Fn(&Value, &Value) -> Option<(u16, &'static str)> + Send + 'static) {
        self.lock().admission = Some(Box::new(admission));
    }

    /// Nothing goes wrong any more, and everything is admitted.
    pub fn recover(&self) {
        let mut inner = self.lock();
        inner.scripts.clear();
        inner.admission = None;
    }

    /// Lets access reviews of `<verb> <resource>` succeed.
    pub fn grant(&self, permission: &str) {
        self.lock().granted.insert(permission.to_owned());
    }

    /// Serves objects of a kind that need not be known to the API server, and lets them be read. Their group prefers a
    /// version in which it does not serve them.
    pub fn serve(&self, group: &str, resource: &str, within: &str, objects: &Value) {
        self.grant(&format!("list {resource}"));
        let mut inner = self.lock();
        inner.served.insert(
            format!("/apis/{group}"),
            json!({
                "preferredVersion": {"version": "v2"},
                "versions": [{"version": "v2"}, {"version": "v1"}],
            }),
        );
        inner.served.insert(format!("/apis/{group}/v1/{within}{resource}"), json!({"items": objects}));
    }

    /// Sets the quotas of the namespace.
    pub fn set_quotas(&self, quotas: Value) {
        self.lock().quotas = quotas;
    }

    /// What a list of Kubernetes nodes says.
    pub fn set_nodes(&self, nodes: Value) {
        self.lock().nodes = nodes;
    }

    /// The first node changes, and watches are told.
    pub fn change_node(&self, change: impl FnOnce(&mut Value)) {
        let mut inner = self.lock();
        change(&mut inner.nodes["items"][0]);
        inner.version += 1;
        inner.nodes["items"][0]["metadata"]["resourceVersion"] = json!(inner.version.to_string());
        let node = inner.nodes["items"][0].clone();
        inner.tell(Kind::Node, "MODIFIED", &node);
    }

    /// Access reviews grant it, and it is refused when it is tried.
    pub fn refuse(&self, permission: &str) {
        let mut inner = self.lock();
        inner.granted.insert(permission.to_owned());
        inner.refused.insert(permission.to_owned());
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// Accepted patches of the RayCluster.
    pub fn patches(&self) -> Vec<Value> {
        let is_patch =
            |seen: &Seen| seen.method == Method::PATCH && seen.path.contains("rayclusters") && seen.status == 200;
        self.seen().into_iter().filter(is_patch).map(|seen| seen.body).collect()
    }

    /// Patches of the RayCluster, accepted or not.
    pub fn tried_patches(&self) -> usize {
        self.seen().iter().filter(|seen| seen.method == Method::PATCH && seen.path.contains("rayclusters")).count()
    }

    /// `replicas` of the group at this index.
    pub fn replicas(&self, group: usize) -> i64 {
        self.lock().cluster["spec"]["workerGroupSpecs"][group]["replicas"].as_i64().unwrap_or(0)
    }

    /// Names to delete of the group at this index.
    pub fn workers_to_delete(&self, group: usize) -> Vec<String> {
        let inner = self.lock();
        let names = &inner.cluster["spec"]["workerGroupSpecs"][group]["scaleStrategy"]["workersToDelete"];
        names.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }

    /// The RayCluster as it is.
    pub fn cluster(&self) -> Value {
        self.lock().cluster.clone()
    }

    /// Somebody else changes the RayCluster.
    pub fn change_cluster(&self, change: impl FnOnce(&mut Value)) {
        let mut inner = self.lock();
        change(&mut inner.cluster);
        inner.touch_cluster();
    }

    /// A pod appears or changes.
    pub fn put_pod(&self, mut pod: Value) {
        let mut inner = self.lock();
        inner.version += 1;
        pod["metadata"]["resourceVersion"] = json!(inner.version.to_string());
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let event = if inner.pods.contains_key(&name) { "MODIFIED" } else { "ADDED" };
        inner.pods.insert(name, pod.clone());
        inner.tell(Kind::Pod, event, &pod);
    }

    /// A pod is gone.
    pub fn remove_pod(&self, name: &str) {
        let mut inner = self.lock();
        if let Some(pod) = inner.pods.remove(name) {
            inner.version += 1;
            inner.tell(Kind::Pod, "DELETED", &pod);
        }
    }

    /// All watches end.
    pub fn cut_watches(&self) {
        self.lock().watchers.clear();
    }

    /// All watches end with 410.
    pub fn expire_watches(&self) {
        let mut inner = self.lock();
        inner.tell(Kind::Pod, "ERROR", &status_body(410, "too old resource version"));
        inner.watchers.clear();
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let bytes = body.collect_bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let fault = {
            let mut inner = self.lock();
            let whole = format!("{path}?{query}");
            let fits = |s: &&mut Script| s.times > 0 && s.method == parts.method && whole.contains(s.path_part);
            inner.scripts.iter_mut().find(fits).map(|script| {
                script.times -= 1;
                script.fault.clone()
            })
        };
        let response = match fault {
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Status(code, message)) => json_response(code, &status_body(code, message)),
            Some(Fault::Slow(delay)) => {
                tokio::time::sleep(delay).await;
                self.lock().route(&parts.method, &path, &query, &body)
            }
            None => self.lock().route(&parts.method, &path, &query, &body),
        };
        let status = response.status().as_u16();
        self.lock().seen.push(Seen { method: parts.method, path, status, body });
        response
    }
}

impl Inner {
    fn touch_cluster(&mut self) {
        self.version += 1;
        self.cluster["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let generation = self.cluster["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        self.cluster["metadata"]["generation"] = json!(generation);
        let cluster = self.cluster.clone();
        self.tell(Kind::Cluster, "MODIFIED", &cluster);
    }

    fn tell(&mut self, about: Kind, event: &str, object: &Value) {
        let line = Bytes::from(format!("{}\n", json!({"type": event, "object": object})));
        self.watchers.retain(|(kind, watcher)| *kind != about || watcher.unbounded_send(Ok(line.clone())).is_ok());
    }

    fn route(&mut self, method: &Method, path: &str, query: &str, body: &Value) -> Response<Body> {
        let is_cluster = path.starts_with("/apis/ray.io/v1/namespaces/default/rayclusters/a");
        match (method, path) {
            (&Method::GET, _) if is_cluster => json_response(200, &self.cluster),
            (&Method::PATCH, _) if is_cluster => self.patch(body),
            (&Method::GET, "/api/v1/namespaces/default/pods") if query.contains("watch=true") => self.watch(Kind::Pod),
            (&Method::GET, "/api/v1/namespaces/default/pods") => {
                let items: Vec<&Value> = self.pods.values().collect();
                let version = self.version.to_string();
                let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items});
                json_response(200, &list)
            }
            (&Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews") => {
                let asked = &body["spec"]["resourceAttributes"];
                let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
                let allowed = self.granted.contains(&format!("{} {}", text("verb"), text("resource")));
                json_response(201, &json!({"status": {"allowed": allowed}}))
            }
            (&Method::GET, "/apis/ray.io/v1/namespaces/default/rayclusters")
                if self.granted.contains("watch rayclusters") =>
            {
                if query.contains("watch=true") {
                    return self.watch(Kind::Cluster);
                }
                let metadata = json!({"resourceVersion": self.version.to_string()});
                json_response(200, &json!({"kind": "RayClusterList", "metadata": metadata, "items": [self.cluster]}))
            }
            (&Method::POST, "/apis/events.k8s.io/v1/namespaces/default/events")
                if self.granted.contains("create events") =>
            {
                json_response(201, body)
            }
            (&Method::GET, "/api/v1/namespaces/default/resourcequotas")
                if self.granted.contains("list resourcequotas") =>
            {
                json_response(200, &self.quotas)
            }
            (&Method::GET, "/api/v1/nodes") if query.contains("watch=true") => {
                if self.granted.contains("watch nodes") && !self.refused.contains("watch nodes") {
                    return self.watch(Kind::Node);
                }
                json_response(403, &status_body(403, "forbidden"))
            }
            (&Method::GET, "/api/v1/nodes") if self.granted.contains("list nodes") => {
                let mut list = self.nodes.clone();
                list["metadata"] = json!({"resourceVersion": self.version.to_string()});
                json_response(200, &list)
            }
            (&Method::GET, path) => match self.served.get(path) {
                Some(answer) => json_response(200, answer),
                // Whoever may ask at all may ask which groups there are; and rights are to resources, not to versions.
                None if path.strip_prefix("/apis/").is_some_and(|group| !group.contains('/'))
                    || self.served.contains_key(&path.replace("/v2/", "/v1/")) =>
                {
                    json_response(404, &status_body(404, "not found"))
                }
                None => json_response(403, &status_body(403, "forbidden")),
            },
            _ => json_response(403, &status_body(403, "forbidden")),
        }
    }

    fn patch(&mut self, body: &Value) -> Response<Body> {
        let mut changed = self.cluster.clone();
        if body.is_array() {
            let mut patch: json_patch::Patch = serde_json::from_value(body.clone()).unwrap();
            // As the API server has it: a test for null passes where the member is absent.
            patch.0.retain(|operation| match operation {
                json_patch::PatchOperation::Test(test) if test.value.is_null() => {
                    changed.pointer(test.path.as_str()).is_some()
                }
                _ => true,
            });
            if json_patch::patch(&mut changed, &patch).is_err() {
                return json_response(
                    422,
                    &status_body(422, "the server rejected our request due to an error in our request"),
                );
            }
        } else {
            json_patch::merge(&mut changed, body);
        }
        let refusal = self.admission.as_ref().and_then(|admission| admission(&self.cluster, &changed));
        if let Some((code, message)) = refusal {
            return json_response(code, &status_body(code, message));
        }
        self.cluster = changed;
        self.touch_cluster();
        json_response(200, &self.cluster)
    }

    fn watch(&mut self, kind: Kind) -> Response<Body> {
        let (sender, receiver) = unbounded();
        self.watchers.push((kind, sender));
        Response::new(Body::from_stream(receiver))
    }
}

fn status_body(code: u16, message: &str) -> Value {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        _ => "InternalError",
    };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
}

fn json_response(code: u16, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
