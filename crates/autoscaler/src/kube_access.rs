//! The few requests that the sidecar makes of a Kubernetes API server, and what their failures mean.
//!
//! Objects stay JSON values: nothing that a newer Kubernetes or KubeRay writes is lost or misread here.

use std::time::Duration;

use http::{Method, Request, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::pace::BackoffLimits;
use crate::rbac::OptionalKind;

/// Why a request to the API server failed, by what should be done about it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KubeErrorKind {
    /// 401: the token was not accepted (it may just be rotating).
    Unauthorized,
    /// 403: RBAC, a quota or an admission plugin does not allow it.
    Forbidden,
    /// 404: the object, or its kind, does not exist.
    NotFound,
    /// 409: somebody else wrote at the same time.
    Conflict,
    /// 422 that is not explained: a `test` operation of a JSON patch failed, so the object is not what was read.
    TestFailed,
    /// 400, or 422 that is explained: the server will not take this, whatever the state.
    Invalid,
    /// 410: a resource version is too old.
    Gone,
    /// 429: slow down.
    Throttled,
    /// 5xx.
    Server,
    /// No answer in time.
    Timeout,
    /// No connection, or it broke.
    Transport,
    /// An answer that is not what it should be.
    Garbage,
}

impl KubeErrorKind {
    /// Name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            KubeErrorKind::Unauthorized => "unauthorized",
            KubeErrorKind::Forbidden => "forbidden",
            KubeErrorKind::NotFound => "not_found",
            KubeErrorKind::Conflict => "conflict",
            KubeErrorKind::TestFailed => "test_failed",
            KubeErrorKind::Invalid => "invalid",
            KubeErrorKind::Gone => "gone",
            KubeErrorKind::Throttled => "throttled",
            KubeErrorKind::Server => "server",
            KubeErrorKind::Timeout => "timeout",
            KubeErrorKind::Transport => "transport",
            KubeErrorKind::Garbage => "garbage",
        }
    }

    /// Whether the state moved under a patch: the remedy is a new tick, not the same patch again.
    pub fn is_stale_plan(self) -> bool {
        matches!(self, KubeErrorKind::Conflict | KubeErrorKind::TestFailed)
    }

    /// How long to leave the API server alone after failures of this kind.
    pub fn backoff(self) -> BackoffLimits {
        let (first_ms, most_s) = match self {
            KubeErrorKind::Conflict | KubeErrorKind::TestFailed | KubeErrorKind::Gone => (50, 5),
            KubeErrorKind::Server | KubeErrorKind::Timeout | KubeErrorKind::Transport => (500, 30),
            KubeErrorKind::Throttled | KubeErrorKind::Unauthorized | KubeErrorKind::Garbage => (1_000, 60),
            KubeErrorKind::NotFound => (2_000, 60),
            KubeErrorKind::Invalid => (5_000, 300),
            KubeErrorKind::Forbidden => (60_000, 600),
        };
        BackoffLimits { first: Duration::from_millis(first_ms), most: Duration::from_secs(most_s) }
    }
}

/// A failed request to the API server. Every kind is worth another try after its back-off.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{action}: {} ({message})", .kind.as_str())]
pub struct KubeError {
    /// What was tried, for example `patch raycluster default/a`.
    pub action: String,
    /// What kind of failure it was.
    pub kind: KubeErrorKind,
    /// The server's or the transport's own words.
    pub message: String,
    /// How long the server asked to wait.
    pub retry_after: Option<Duration>,
}

impl KubeError {
    /// Translates an error of the client.
    pub fn from_kube(action: impl Into<String>, error: &kube::Error) -> KubeError {
        let mut retry_after = None;
        let kind = match error {
            kube::Error::Api(status) => {
                let details = status.details.as_ref();
                retry_after = details
                    .map(|d| d.retry_after_seconds)
                    .filter(|seconds| *seconds > 0)
                    .map(|seconds| Duration::from_secs(seconds.into()));
                let is_explained =
                    details.is_some_and(|d| !d.causes.is_empty()) || status.message.starts_with(WEBHOOK_PREFIX);
                classify(status.code, is_explained)
            }
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) | kube::Error::LinesCodecMaxLineLengthExceeded => {
                KubeErrorKind::Garbage
            }
            kube::Error::Auth(_) => KubeErrorKind::Unauthorized,
            _ => KubeErrorKind::Transport,
        };
        KubeError { action: action.into(), kind, message: words(error), retry_after }
    }

    /// Whether it was refused for what it asked (by an admission webhook, a policy, a quota, validation): another request of
    /// the same kind may fare better. A Role that does not allow the kind of request is none of these.
    pub fn is_about_content(&self) -> bool {
        // The API server's words for all authorizers: `User "u" cannot patch resource "r" in API group ...`.
        let is_by_role = self.message.contains(" cannot ") && self.message.contains(" resource \"");
        match self.kind {
            KubeErrorKind::Invalid => true,
            KubeErrorKind::Forbidden => !is_by_role,
            _ => false,
        }
    }

    fn timeout(action: String, limit: Duration) -> KubeError {
        let message = format!("no answer within {} s", limit.as_secs_f64());
        KubeError { action, kind: KubeErrorKind::Timeout, message, retry_after: None }
    }
}

/// How the API server begins what an admission webhook says.
const WEBHOOK_PREFIX: &str = "admission webhook";

/// `is_explained`: the answer says what is wrong, in its causes or in the words of a webhook.
fn classify(code: u16, is_explained: bool) -> KubeErrorKind {
    match code {
        401 => KubeErrorKind::Unauthorized,
        403 => KubeErrorKind::Forbidden,
        404 => KubeErrorKind::NotFound,
        409 => KubeErrorKind::Conflict,
        410 => KubeErrorKind::Gone,
        422 if !is_explained => KubeErrorKind::TestFailed,
        429 => KubeErrorKind::Throttled,
        500..=599 => KubeErrorKind::Server,
        _ => KubeErrorKind::Invalid,
    }
}

/// The whole chain of an error in one line; the outermost layer of a transport error alone says nothing.
fn words(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status.message.clone();
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

/// The sidecar's RayCluster and its pods on an API server.
#[derive(Clone)]
pub struct KubeAccess {
    client: kube::Client,
    /// Namespace of the RayCluster.
    pub namespace: String,
    /// Name of the RayCluster.
    pub cluster: String,
    /// API version in `/apis/ray.io/<version>`.
    pub crd_version: String,
    timeout: Duration,
}

impl KubeAccess {
    /// Access to one RayCluster; every request ends after `timeout`.
    pub fn new(
        client: kube::Client,
        namespace: impl Into<String>,
        cluster: impl Into<String>,
        crd_version: impl Into<String>,
        timeout: Duration,
    ) -> Self {
        KubeAccess {
            client,
            namespace: namespace.into(),
            cluster: cluster.into(),
            crd_version: crd_version.into(),
            timeout,
        }
    }

    /// The same access, with every request ended after `limit` if not before.
    pub fn within(&self, limit: Duration) -> Self {
        KubeAccess { timeout: self.timeout.min(limit), ..self.clone() }
    }

    /// The client, for watches.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    fn cluster_path(&self) -> String {
        format!("/apis/ray.io/{}/namespaces/{}/rayclusters/{}", self.crd_version, self.namespace, self.cluster)
    }

    fn pod_path(&self, pod: &str, subresource: &str) -> String {
        format!("/api/v1/namespaces/{}/pods/{pod}{subresource}", self.namespace)
    }

    /// The RayCluster as it is now.
    pub async fn get_cluster(&self) -> Result<Value, KubeError> {
        self.send("get raycluster", Method::GET, &self.cluster_path(), None).await
    }

    /// Applies a JSON patch to the RayCluster and returns it as it is then.
    pub async fn patch_cluster(&self, patch: &json_patch::Patch) -> Result<Value, KubeError> {
        let body = Some(("application/json-patch+json", json!(patch)));
        self.send("patch raycluster", Method::PATCH, &self.cluster_path(), body).await
    }

    /// Applies a merge patch to the RayCluster and returns it as it is then.
    pub async fn merge_patch_cluster(&self, patch: Value) -> Result<Value, KubeError> {
        let body = Some(("application/merge-patch+json", patch));
        self.send("patch raycluster", Method::PATCH, &self.cluster_path(), body).await
    }

    /// One pod as it is now.
    pub async fn get_pod(&self, pod: &str) -> Result<Value, KubeError> {
        self.send("get pod", Method::GET, &self.pod_path(pod, ""), None).await
    }

    /// Applies a JSON patch to the `resize` subresource of a pod.
    pub async fn resize_pod(&self, pod: &str, patch: &json_patch::Patch) -> Result<Value, KubeError> {
        let body = Some(("application/json-patch+json", json!(patch)));
        self.send("resize pod", Method::PATCH, &self.pod_path(pod, "/resize"), body).await
    }

    /// Sets one annotation of a pod.
    pub async fn annotate_pod(&self, pod: &str, key: &str, value: &str) -> Result<Value, KubeError> {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        let body = Some(("application/strategic-merge-patch+json", patch));
        self.send("annotate pod", Method::PATCH, &self.pod_path(pod, ""), body).await
    }

    /// Creates a Kubernetes Event.
    pub async fn create_event(&self, event: Value) -> Result<Value, KubeError> {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", self.namespace);
        self.send("create event", Method::POST, &path, Some(("application/json", event))).await
    }

    /// The ResourceQuotas of the namespace, as a list.
    pub async fn list_quotas(&self) -> Result<Value, KubeError> {
        let path = format!("/api/v1/namespaces/{}/resourcequotas", self.namespace);
        self.send("list quotas", Method::GET, &path, None).await
    }

    /// The Kubernetes nodes, as a list.
    pub async fn list_nodes(&self) -> Result<Value, KubeError> {
        self.send("list nodes", Method::GET, "/api/v1/nodes", None).await
    }

    /// The versions in which the API server serves a group, the preferred one first; none: it does not know the group, or does
    /// not say.
    pub async fn served_versions(&self, group: &str) -> Result<Vec<String>, KubeError> {
        let found = match self.send("look for", Method::GET, &format!("/apis/{group}"), None).await {
            Err(error) if matches!(error.kind, KubeErrorKind::NotFound | KubeErrorKind::Forbidden) => {
                return Ok(Vec::new());
            }
            answer => answer?,
        };
        let preferred = found.pointer("/preferredVersion/version").and_then(Value::as_str);
        let listed = found.get("versions").and_then(Value::as_array).into_iter().flatten();
        let others = listed.filter_map(|one| one.get("version")?.as_str()).filter(|one| Some(*one) != preferred);
        Ok(preferred.into_iter().chain(others).map(str::to_owned).collect())
    }

    /// The objects of a kind, each with its version and kind; none where the API server does not know it. A group may serve a
    /// kind in another version than the one that it prefers. `selector`: only those whose labels it selects.
    pub async fn list_optional(&self, what: OptionalKind, selector: Option<&str>) -> Result<Vec<Value>, KubeError> {
        let within = if what.is_namespaced { format!("namespaces/{}/", self.namespace) } else { String::new() };
        for version in self.served_versions(what.group).await? {
            let query = selector.map_or_else(String::new, |selector| format!("?labelSelector={selector}"));
            let path = format!("/apis/{}/{version}/{within}{}{query}", what.group, what.resource);
            let mut list = match self.send("list", Method::GET, &path, None).await {
                Err(error) if error.kind == KubeErrorKind::NotFound => continue,
                answer => answer?,
            };
            let items = list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
            let named = items.into_iter().filter(Value::is_object).map(|mut item| {
                item["apiVersion"] = json!(format!("{}/{version}", what.group));
                item["kind"] = json!(what.kind);
                item
            });
            return Ok(named.collect());
        }
        Ok(Vec::new())
    }

    /// Asks whether this account may do `verb` on `resource` of `group` in the own namespace (`namespaced`) or everywhere.
    pub async fn may(&self, group: &str, resource: &str, verb: &str, namespaced: bool) -> Result<bool, KubeError> {
        let mut attributes = json!({"group": group, "resource": resource, "verb": verb});
        if namespaced {
            attributes["namespace"] = json!(self.namespace);
        }
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = self.send("review access", Method::POST, path, Some(("application/json", review))).await?;
        Ok(answer.pointer("/status/allowed").and_then(Value::as_bool).unwrap_or(false))
    }

    async fn send(
        &self,
        verb: &str,
        method: Method,
        path: &str,
        body: Option<(&str, Value)>,
    ) -> Result<Value, KubeError> {
        let action = format!("{verb} {path}");
        let mut request = Request::builder().method(method).uri(path);
        let bytes = match body {
            None => Vec::new(),
            Some((content_type, value)) => {
                request = request.header(CONTENT_TYPE, content_type);
                value.to_string().into_bytes()
            }
        };
        let request = match request.body(bytes) {
            Ok(request) => request,
            Err(error) => {
                let message = error.to_string();
                return Err(KubeError { action, kind: KubeErrorKind::Invalid, message, retry_after: None });
            }
        };
        match tokio::time::timeout(self.timeout, self.client.request(request)).await {
            Err(_) => Err(KubeError::timeout(action, self.timeout)),
            Ok(Err(error)) => Err(KubeError::from_kube(action, &error)),
            Ok(Ok(value)) => Ok(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_422_without_causes_is_a_failed_test_and_with_causes_is_invalid() {
        assert_eq!(classify(422, false), KubeErrorKind::TestFailed);
        assert_eq!(classify(422, true), KubeErrorKind::Invalid);
    }

    #[test]
    fn a_role_refuses_every_patch_and_a_webhook_what_it_asks() {
        let error = |kind, message: &str| KubeError {
            action: "patch raycluster".into(),
            kind,
            message: message.into(),
            retry_after: None,
        };
        let role = "rayclusters.ray.io \"a\" is forbidden: User \"system:serviceaccount:d:a\" cannot patch resource \
                    \"rayclusters\" in API group \"ray.io\" in the namespace \"d\"";
        let policy =
            "rayclusters.ray.io \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no";
        assert!(!error(KubeErrorKind::Forbidden, role).is_about_content());
        assert!(error(KubeErrorKind::Forbidden, policy).is_about_content());
        assert!(error(KubeErrorKind::Invalid, "spec: Invalid value").is_about_content());
        assert!(!error(KubeErrorKind::Server, "etcd is away").is_about_content());
    }

    #[test]
    fn each_status_has_its_kind() {
        let kinds: Vec<&str> =
            [400, 401, 403, 404, 409, 410, 429, 500, 503].iter().map(|code| classify(*code, false).as_str()).collect();
        assert_eq!(
            kinds,
            ["invalid", "unauthorized", "forbidden", "not_found", "conflict", "gone", "throttled", "server", "server"]
        );
    }

    #[test]
    fn only_a_moved_state_asks_for_a_new_plan_at_once() {
        assert!(KubeErrorKind::Conflict.is_stale_plan());
        assert!(KubeErrorKind::TestFailed.is_stale_plan());
        assert!(!KubeErrorKind::Forbidden.is_stale_plan());
    }
}
