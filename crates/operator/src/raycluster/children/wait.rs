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

/// Writes no file: the root of the user's container may be read-only. Nor is there a `$(…)`, which Kubernetes would look at.
fn wait_script(address: &str) -> String {
    format!(
        r#"check() {{
  ray health-check --address {address}
}}
until if (( SECONDS > {SILENT_S} )); then check; else check > /dev/null 2>&1; fi; do
  echo "the GCS at {address} does not answer, after ${{SECONDS}} s"
  sleep 5
done
echo "the GCS at {address} answers, after ${{SECONDS}} s""#
    )
}

#[cfg(test)]
mod tests {
    // The script is run as a kubelet would run it.
    #![allow(clippy::disallowed_methods)]

    use std::process::Command;

    use super::wait_script;

    /// No file takes a byte here.
    const NOWHERE: &str = "ulimit -f 0; trap '' XFSZ";
    /// Ray answers from the third try on, of which each takes 100 s; it needs its words to be taken. A tenth try is too many.
    const RAY: &str = "ray() { (( SECONDS += 100, ++tries < 10 )) || exit 9; echo \"asked $*\" && (( tries > 2 )); }";

    #[test]
    fn waits_until_ray_answers_and_writes_no_file() {
        let script = format!("{NOWHERE}\n{RAY}\nsleep() {{ :; }}\n{}", wait_script("h:6379"));
        let ran = Command::new("/bin/bash").args(["-c", "--", &script]).output().unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        let expected = [
            "the GCS at h:6379 does not answer, after 100 s",
            // From now on Ray's words are let through.
            "the GCS at h:6379 does not answer, after 200 s",
            "asked health-check --address h:6379",
            "the GCS at h:6379 answers, after 300 s",
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), expected);
        assert!(ran.status.success());
    }
}
