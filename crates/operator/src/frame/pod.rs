//! A pod, reduced to what reconcilers look at. Thousands of these are kept; the JSON they were read from is not.

use std::sync::Arc;

use mobula_api::{FieldError, PendingClass, PodRole, PodView, keys};
use serde_json::Value;

use super::{gang_pod::GangPod, time};

/// Annotation of worker pods that Mobula makes: `{replica}.{host}.{incarnation}`, what the name was derived from.
pub const SLOT: &str = "mobula.dev/slot";

/// The place of a worker pod in its group.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the replica in its group.
    pub replica: u32,
    /// Number of the host in its replica.
    pub host: u32,
    /// How many pods have had this place before.
    pub incarnation: u32,
}

impl Place {
    /// As it stands in the annotation.
    pub fn to_text(self) -> String {
        format!("{}.{}.{}", self.replica, self.host, self.incarnation)
    }

    fn parse(text: &str) -> Option<Place> {
        let mut parts = text.split('.').map(|part| part.parse::<u32>().ok());
        let place = Place { replica: parts.next()??, host: parts.next()??, incarnation: parts.next()?? };
        parts.next().is_none().then_some(place)
    }
}

/// The `Ready` condition of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Reason.
    pub reason: String,
    /// Message.
    pub message: String,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Unique id.
    pub uid: String,
    /// Opaque version.
    pub resource_version: String,
    /// Unique id of the controlling owner; empty if there is none.
    pub owner: String,
    /// The RayCluster that its label names.
    pub cluster: String,
    /// Its group.
    pub group: String,
    /// What it is for.
    pub role: PodRole,
    /// `status.phase`.
    pub phase: String,
    /// The `Ready` condition.
    pub ready: Option<Ready>,
    /// Reason and message of the first container that waits or has ended.
    pub first_not_running: Option<(String, String)>,
    /// The Ray container has ended and nothing will start it again.
    pub ray_has_ended: bool,
    /// Unix time in ms at which the Ray container has ended, if it has ended well: it was stopped, or drained.
    pub ended_well_ms: Option<i64>,
    /// Where it is on its way.
    pub pending: PendingClass,
    /// Why, in Kubernetes' words.
    pub pending_message: String,
    /// Address.
    pub ip: String,
    /// The Kubernetes node it is bound to; empty if there is none.
    pub node: String,
    /// Unix time in ms at which it was created.
    pub created_ms: i64,
    /// Unix time in ms by which it should be gone, if its deletion was asked for.
    pub deletion_ms: Option<i64>,
    /// Number of its replica.
    pub replica_index: Option<u32>,
    /// Name of its multi-host replica.
    pub replica_name: String,
    /// Number in its replica.
    pub host_index: Option<u32>,
    /// The place that Mobula gave it.
    pub place: Option<Place>,
    /// What gang admission looks at, if it belongs to a gang.
    pub gang: Option<Arc<GangPod>>,
    /// Spec hash that the pod was made from (head).
    pub spec_hash: String,
    /// Version of the operator that stamped the hash (head).
    pub operator_version: String,
}

/// Annotation of head pods: hash of the spec they were made from.
pub const SPEC_HASH: &str = "ray.io/upgrade-strategy-recreate-hash";
/// Annotation of head pods: version of the operator that made or stamped them.
pub const OPERATOR_VERSION: &str = "ray.io/kuberay-version";

impl Pod {
    /// Reads a pod as the API server sends it.
    ///
    /// # Errors
    /// Names the first field that can't be used.
    pub fn read(value: &Value) -> Result<Pod, FieldError> {
        let view = PodView::from_value(value)?;
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |key: &str| view.labels.get(key).and_then(|text| text.parse().ok());
        let annotation = |key: &str| view.annotations.get(key).cloned().unwrap_or_default();
        Ok(Pod {
            namespace: text("/metadata/namespace"),
            owner: controller(value).unwrap_or_default().to_owned(),
            ready: ready(value),
            first_not_running: first_not_running(value),
            ray_has_ended: ray_has_ended(value, &view.ray_container.name),
            ended_well_ms: ended_well_ms(value, &view.ray_container.name),
            created_ms: view.created_ms.unwrap_or_default(),
            deletion_ms: time::parse(&text("/metadata/deletionTimestamp")),
            replica_index: number(keys::REPLICA_INDEX),
            replica_name: view.replica.clone().unwrap_or_default(),
            host_index: number(keys::REPLICA_HOST_INDEX),
            place: view.annotations.get(SLOT).and_then(|text| Place::parse(text)),
            gang: GangPod::read(value).map(Arc::new),
            spec_hash: annotation(SPEC_HASH),
            operator_version: annotation(OPERATOR_VERSION),
            name: view.name,
            uid: view.uid,
            resource_version: view.resource_version,
            cluster: view.cluster,
            group: view.group,
            role: view.role,
            phase: view.phase,
            pending: view.pending_class,
            pending_message: view.pending_message,
            ip: view.ip.unwrap_or_default(),
            node: view.node_name.unwrap_or_default(),
        })
    }

    /// Whether it runs and is ready.
    pub fn is_ready(&self) -> bool {
        self.is_running() && self.ready.as_ref().is_some_and(|ready| ready.status == "True")
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.phase == "Running"
    }

    /// Its replica, as far as labels and Mobula's own annotation say.
    pub fn replica(&self) -> Option<u32> {
        self.place.map(|place| place.replica).or(self.replica_index)
    }
}

/// Whether an operator has made it and nobody owns it: its RayCluster was deleted and left it behind. A template may have another
/// text in any one label.
pub fn is_left_over(value: &Value) -> bool {
    let metadata = &value["metadata"];
    let is_made_by_operator = metadata["labels"][keys::CREATED_BY] == keys::CREATED_BY_OPERATOR
        || metadata["labels"]["ray.io/is-ray-node"] == "yes"
        || [SLOT, SPEC_HASH].iter().any(|note| metadata["annotations"].get(note).is_some());
    is_made_by_operator && metadata["ownerReferences"].as_array().is_none_or(Vec::is_empty)
}

/// Unique id of the controlling owner of an object.
pub fn controller(value: &Value) -> Option<&str> {
    let owners = value.pointer("/metadata/ownerReferences")?.as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)?.get("uid")?.as_str()
}

fn array<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn words(value: &Value) -> (String, String) {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

fn ready(pod: &Value) -> Option<Ready> {
    let condition = array(pod, "/status/conditions").iter().find(|condition| condition["type"] == "Ready")?;
    let (reason, message) = words(condition);
    Some(Ready { status: condition["status"].as_str().unwrap_or_default().to_owned(), reason, message })
}

fn first_not_running(pod: &Value) -> Option<(String, String)> {
    let states = array(pod, "/status/containerStatuses").iter().map(|status| &status["state"]);
    states
        .filter_map(|state| state.get("waiting").or_else(|| state.get("terminated")))
        .find(|s| !s.is_null())
        .map(words)
}

fn ray_has_ended(pod: &Value, ray: &str) -> bool {
    let never = pod.pointer("/spec/restartPolicy").and_then(Value::as_str) == Some("Never");
    let has_ended = |status: &Value| status["name"] == ray && status["state"]["terminated"].is_object();
    never && array(pod, "/status/containerStatuses").iter().any(has_ended)
}

fn ended_well_ms(pod: &Value, ray: &str) -> Option<i64> {
    let ray = array(pod, "/status/containerStatuses").iter().find(|status| status["name"] == ray)?;
    let end = &ray["state"]["terminated"];
    time::parse(end["finishedAt"].as_str()?).filter(|_| end["exitCode"] == 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_read_as_far_as_reconcilers_look() {
        let pod = Pod::read(&json!({
            "metadata": {
                "name": "a-g-worker-x", "namespace": "ns", "uid": "u1", "deletionTimestamp": "1970-01-01T00:00:30Z",
                "labels": {"ray.io/cluster": "a", "ray.io/group": "g", "ray.io/node-type": "worker",
                           "ray.io/worker-group-replica-index": "3"},
                "annotations": {"mobula.dev/slot": "3.0.2"},
                "ownerReferences": [{"uid": "other"}, {"uid": "owner", "controller": true}]},
            "spec": {"restartPolicy": "Never", "nodeName": "n", "containers": [{"name": "ray-worker"}]},
            "status": {"phase": "Running",
                "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m"}],
                "containerStatuses": [{"name": "ray-worker", "state": {"terminated": {
                    "reason": "Error", "exitCode": 0, "finishedAt": "1970-01-01T00:00:20Z"}}}]}
        }))
        .unwrap();
        assert_eq!(pod.ended_well_ms, Some(20_000));
        assert_eq!((pod.owner.as_str(), pod.deletion_ms, pod.ray_has_ended), ("owner", Some(30_000), true));
        assert_eq!(pod.place, Some(Place { replica: 3, host: 0, incarnation: 2 }));
        assert_eq!(pod.first_not_running, Some(("Error".to_owned(), String::new())));
        assert!(!pod.is_ready());
    }

    #[test]
    fn places_are_written_and_read() {
        let place = Place { replica: 7, host: 1, incarnation: 2 };
        assert_eq!(Place::parse(&place.to_text()), Some(place));
        for other in ["", "1", "1.2", "1.2.3.4", "a.b.c", "-1.0.0"] {
            assert_eq!(Place::parse(other), None, "{other}");
        }
    }
}
