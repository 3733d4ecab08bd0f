//! The init container of workers that waits until the GCS answers.

use serde_json::json;

use super::{
    Children,
    command::shell,
    draft::{ContainerDraft, PodDraft},
};

/// Its name.
pub(super) const WAIT_CONTAINER: &str = "wait-gcs-ready";
/// For so long Ray's complaints are kept silent, in seconds: until then they say only that the head is starting.
const SILENT_S: u32 = 120;

impl Children<'_> {
    /// Lets workers wait. To be called before anything is added to the Ray container: the user's environment and mounts may
    /// hold what a connection needs, what the operator adds does not.
    pub(super) fn add_wait(&self, pod: &mut PodDraft) {
        if !self.config.pods.wait_for_gcs {
            return;
        }
        let resources = json!({ "cpu": "200m", "memory": "256Mi" });
        let fields = json!({
            "name": WAIT_CONTAINER,
            "resources": { "limits": resources, "requests": resources },
        });
        let script = wait_script(&self.gcs_address());
        let container = ContainerDraft {
            command: shell(self.config),
            args: vec![script],
            env: pod.ray.env.clone(),
            volume_mounts: pod.ray.volume_mounts.clone(),
            ..ContainerDraft::new(fields)
        };
        let kept = ["image", "imagePullPolicy", "securityContext"];
        pod.init_containers.push(container.with_fields_of(&pod.ray, &kept));
    }
}

fn wait_script(address: &str) -> String {
    format!(
        r#"until ray health-check --address {address} > /tmp/mobula-wait.log 2>&1; do
  echo "the GCS at {address} does not answer, after ${{SECONDS}} s"
  if (( SECONDS > {SILENT_S} )); then cat /tmp/mobula-wait.log; fi
  sleep 5
done
echo "the GCS at {address} answers, after ${{SECONDS}} s""#
    )
}
