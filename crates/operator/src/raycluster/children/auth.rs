//! Token authentication: the Secret with the cluster's token, and what containers need to use it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    Children,
    draft::{ContainerDraft, PodDraft},
    wait::WAIT_CONTAINER,
};
use crate::names::check_name;

/// Key of the token in the Secret.
const TOKEN_KEY: &str = "auth_token";
/// Volume with the pod's own token, and where it is mounted.
const TOKEN_VOLUME: &str = "ray-token";
const TOKEN_DIRECTORY: &str = "/var/run/secrets/ray.io/serviceaccount";

impl Children<'_> {
    /// The Secret with the cluster's token, `token` being 32 random bytes. Made once and never changed.
    pub fn auth_secret(&self, token: &[u8; 32]) -> Option<Value> {
        let options = self.cluster.spec.auth_options.as_ref()?;
        let named = options.secret_name.as_deref().is_some_and(|name| !name.is_empty());
        if options.mode.as_deref() == Some("disabled") || named || options.enable_k8s_token_auth == Some(true) {
            return None;
        }
        // Once because the token is text, once because it is in a Secret.
        let data = STANDARD.encode(STANDARD.encode(token));
        let labels = json!({ "ray.io/cluster": self.cluster.metadata.name });
        let metadata = self.metadata(&self.auth_secret_name(), labels);
        Some(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": "Opaque",
            "data": { TOKEN_KEY: data },
        }))
    }

    /// Name of the Secret with the cluster's token.
    pub fn auth_secret_name(&self) -> String {
        check_name(&self.cluster.metadata.name)
    }

    /// Whether containers are told to authenticate.
    pub(super) fn uses_tokens(&self) -> bool {
        self.cluster.spec.auth_options.as_ref().is_some_and(|options| options.mode.as_deref() == Some("token"))
    }

    fn uses_kubernetes_tokens(&self) -> bool {
        self.cluster.spec.auth_options.as_ref().is_some_and(|options| options.enable_k8s_token_auth == Some(true))
    }

    /// Lets the Ray container, and the one that waits for the GCS, authenticate.
    pub(super) fn set_auth(&self, pod: &mut PodDraft) {
        if !self.uses_tokens() {
            return;
        }
        self.set_container_auth(&mut pod.ray);
        let waiting = pod.init_containers.iter_mut().filter(|container| container.name() == WAIT_CONTAINER);
        waiting.for_each(|container| self.set_container_auth(container));
        if self.uses_kubernetes_tokens() {
            let source = json!({ "serviceAccountToken": { "path": "token" } });
            pod.add_volume(json!({ "name": TOKEN_VOLUME, "projected": { "sources": [source] } }));
        }
    }

    /// Lets one container authenticate, if containers do.
    pub(super) fn set_container_auth(&self, container: &mut ContainerDraft) {
        if !self.uses_tokens() {
            return;
        }
        container.add_env("RAY_AUTH_MODE", "token");
        if self.uses_kubernetes_tokens() {
            container.add_env("RAY_ENABLE_K8S_TOKEN_AUTH", "true");
            if !container.mounts(TOKEN_VOLUME) {
                let mount = json!({ "name": TOKEN_VOLUME, "mountPath": TOKEN_DIRECTORY, "readOnly": true });
                container.volume_mounts.push(mount);
            }
        } else if !container.has_env("RAY_AUTH_TOKEN") {
            let own = self.cluster.spec.auth_options.as_ref().and_then(|options| options.secret_name.clone());
            let secret = own.filter(|name| !name.is_empty()).unwrap_or_else(|| self.auth_secret_name());
            let source = json!({ "secretKeyRef": { "name": secret, "key": TOKEN_KEY } });
            container.env.push(json!({ "name": "RAY_AUTH_TOKEN", "valueFrom": source }));
        }
    }
}
