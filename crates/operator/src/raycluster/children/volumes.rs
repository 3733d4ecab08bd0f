//! Volumes that Ray needs: shared memory for objects, and logs that containers share.

use mobula_api::FieldError;
use serde_json::{Value, json};

use super::{
    draft::{ContainerDraft, PodDraft},
    resources,
};

/// Where the object store is.
const SHARED_MEMORY: (&str, &str) = ("shared-mem", "/dev/shm");
/// Where Ray writes logs and events.
const LOGS: (&str, &str) = ("ray-logs", "/tmp/ray");

/// Gives the object store memory of its own, as much as the Ray container has, unless the user has mounted something there.
pub(super) fn add_shared_memory(pod: &mut PodDraft, ray_path: &str) -> Result<(), FieldError> {
    let (name, path) = SHARED_MEMORY;
    let memory = |kind: &str| Ok(resources::of(ray_path, &pod.ray, kind)?.remove("memory"));
    let limit = match memory("limits")? {
        Some(limit) => Some(limit),
        None => memory("requests")?,
    };
    if mount(&mut pod.ray, name, path) {
        let mut volume = json!({ "medium": "Memory" });
        if let (Some(limit), Some(fields)) = (limit, volume.as_object_mut()) {
            fields.insert("sizeLimit".to_owned(), Value::from(limit.to_string()));
        }
        pod.add_volume(json!({ "name": name, "emptyDir": volume }));
    }
    Ok(())
}

/// Lets the Ray container and `other` share what Ray logs.
pub(super) fn share_logs(pod: &mut PodDraft, other: &str) {
    let (name, path) = LOGS;
    let mut mounted = mount(&mut pod.ray, name, path);
    mounted |= pod.other(other).is_some_and(|container| mount(container, name, path));
    if mounted {
        pod.add_volume(json!({ "name": name, "emptyDir": {} }));
    }
}

/// Mounts the volume unless something is mounted there. Whether it was.
fn mount(container: &mut ContainerDraft, name: &str, path: &str) -> bool {
    let free = !container.mounts_at(path);
    if free {
        container.volume_mounts.push(json!({ "name": name, "mountPath": path }));
    }
    free
}
