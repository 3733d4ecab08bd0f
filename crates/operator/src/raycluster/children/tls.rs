//! Mutual TLS inside a RayCluster (feature gate `RayClusterMTLS`): what pods need. Certificates come from cert-manager.

use mobula_api::Gate;
use serde_json::json;

use super::{
    Children,
    draft::{ContainerDraft, PodDraft},
    group::Group,
    wait::WAIT_CONTAINER,
};

/// The init container that waits until the certificate is of this pod.
pub(super) const TLS_WAIT_CONTAINER: &str = "wait-for-tls-ip-san";
/// Volume with the certificate, and where it is mounted.
const VOLUME: &str = "ray-tls";
const DIRECTORY: &str = "/etc/ray/tls";

impl Children<'_> {
    fn uses_tls(&self) -> bool {
        let options = self.cluster.spec.tls_options.as_ref();
        self.config.gates.has(Gate::RayClusterMTLS) && options.is_some_and(|options| options.enabled == Some(true))
    }

    /// Lets Ray, and the container that waits for the GCS, speak TLS.
    pub(super) fn set_tls(&self, group: &Group<'_>, pod: &mut PodDraft) {
        if !self.uses_tls() {
            return;
        }
        let node_type = if group.is_head { "head" } else { "worker" };
        let secret = format!("ray-{node_type}-secret-{}", self.cluster.metadata.name);
        pod.add_volume(json!({ "name": VOLUME, "secret": { "secretName": secret } }));
        self.set_container_tls(&mut pod.ray);
        let waiting = pod.init_containers.iter_mut().filter(|container| container.name() == WAIT_CONTAINER);
        waiting.for_each(|container| self.set_container_tls(container));
        if !pod.init_containers.iter().any(|container| container.name() == TLS_WAIT_CONTAINER) {
            pod.init_containers.insert(0, wait_for_certificate(&pod.ray));
        }
    }

    /// Lets one container speak TLS, if containers do.
    pub(super) fn set_container_tls(&self, container: &mut ContainerDraft) {
        if !self.uses_tls() {
            return;
        }
        container.add_env("RAY_USE_TLS", "1");
        container.add_env("RAY_TLS_SERVER_CERT", format!("{DIRECTORY}/tls.crt"));
        container.add_env("RAY_TLS_SERVER_KEY", format!("{DIRECTORY}/tls.key"));
        container.add_env("RAY_TLS_CA_CERT", format!("{DIRECTORY}/ca.crt"));
        if !container.mounts(VOLUME) && !container.mounts_at(DIRECTORY) {
            container.volume_mounts.push(mount());
        }
    }
}

fn mount() -> serde_json::Value {
    json!({ "name": VOLUME, "mountPath": DIRECTORY, "readOnly": true })
}

/// The certificate lists the addresses of all pods; one that has just started is added a little later.
fn wait_for_certificate(ray: &ContainerDraft) -> ContainerDraft {
    let resources = json!({ "cpu": "50m", "memory": "64Mi" });
    let fields = json!({
        "name": TLS_WAIT_CONTAINER,
        "resources": { "limits": resources, "requests": resources },
    });
    let script = format!(
        r#"command -v openssl > /dev/null || {{ echo "no openssl in this image: the certificate can't be read" >&2; exit 1; }}
until openssl x509 -in {DIRECTORY}/tls.crt -noout -text | grep -qwF "IP Address:$POD_IP"; do
  echo "the certificate does not list $POD_IP yet"
  sleep 5
done"#
    );
    let mut container =
        ContainerDraft::new(fields).with_fields_of(ray, &["image", "imagePullPolicy", "securityContext"]);
    container.command = vec!["sh".to_owned(), "-c".to_owned()];
    container.args = vec![script];
    container.push_field_env("POD_IP", "status.podIP");
    container.volume_mounts.push(mount());
    container
}
