//! A pod of a RayCluster, and where it is on its way to being a Ray node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    FieldError, Quantity, ResizeCondition, ResizeProgress, at::At, keys, template::quantity, time::parse_rfc3339_ms,
};

/// What a pod is for.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodRole {
    /// Runs the head.
    Head,
    /// Runs a worker.
    Worker,
    /// Is no Ray node (clean-up of Redis, say).
    #[default]
    Other,
}

/// Where a pod is on its way to running Ray.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PendingClass {
    /// Held back by scheduling gates: somebody else (a queue, a gang) decides when it may start.
    Gated,
    /// The scheduler has not yet said anything.
    #[default]
    Scheduling,
    /// The scheduler finds no Kubernetes node for it.
    Unschedulable,
    /// It has a Kubernetes node; images are being pulled and volumes mounted.
    Pulling,
    /// An image can't be pulled; the kubelet tries again.
    PullFailing,
    /// Its init containers run, or its containers are about to.
    Starting,
    /// The Ray container runs.
    Running,
    /// It ended, or its containers fail again and again.
    Failed,
}

/// CPU and memory of a container; `None`: not said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerResources {
    /// Limit of CPU.
    pub cpu_limit: Option<Quantity>,
    /// Request of CPU.
    pub cpu_request: Option<Quantity>,
    /// Limit of memory in bytes.
    pub memory_limit: Option<Quantity>,
    /// Request of memory in bytes.
    pub memory_request: Option<Quantity>,
}

impl ContainerResources {
    /// CPU limit, else request.
    pub fn cpu(&self) -> Option<Quantity> {
        self.cpu_limit.or(self.cpu_request)
    }

    /// Memory limit in bytes, else request.
    pub fn memory(&self) -> Option<Quantity> {
        self.memory_limit.or(self.memory_request)
    }

    /// What the CPU limit exceeds the request by; `None` without a request.
    pub fn cpu_gap(&self) -> Option<Quantity> {
        self.cpu()?.checked_sub(self.cpu_request?)
    }

    /// What the memory limit exceeds the request by, in bytes; `None` without a request.
    pub fn memory_gap(&self) -> Option<Quantity> {
        self.memory()?.checked_sub(self.memory_request?)
    }
}

/// The Ray container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerView {
    /// Name.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
    /// What the pod's spec asks for.
    pub wanted: ContainerResources,
    /// What the kubelet says it has; as `wanted` where the kubelet says nothing.
    pub actual: ContainerResources,
}

/// A pod, as far as scaling looks at it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PodView {
    /// Name; also Ray's cloud instance id.
    pub name: String,
    /// Unique id.
    pub uid: String,
    /// Opaque version.
    pub resource_version: String,
    /// The RayCluster it belongs to.
    pub cluster: String,
    /// Its group; `headgroup` for the head.
    pub group: String,
    /// What it is for.
    pub role: PodRole,
    /// Its deletion was asked for.
    pub terminating: bool,
    /// `status.phase`.
    pub phase: String,
    /// Unix time in ms at which it was created.
    pub created_ms: Option<i64>,
    /// The multi-host replica it belongs to.
    pub replica: Option<String>,
    /// Address.
    pub ip: Option<String>,
    /// The Kubernetes node it is bound to.
    pub node_name: Option<String>,
    /// The Kubernetes node on which the scheduler makes room for it.
    pub nominated_node: Option<String>,
    /// The container that runs Ray.
    pub ray_container: ContainerView,
    /// CPU requests of its other containers, by the kubelet.
    pub other_cpu_requests: Quantity,
    /// Memory requests of its other containers in bytes, by the kubelet.
    pub other_memory_requests: Quantity,
    /// Where it is on its way.
    pub pending_class: PendingClass,
    /// Why, in Kubernetes' words; empty if nothing was said.
    pub pending_message: String,
    /// An in-place resize that is not done.
    pub resize: Option<ResizeCondition>,
    /// Kubernetes' own PodGroup that it begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduling_group: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

impl PodView {
    /// Reads a pod as the API server sends it.
    ///
    /// # Errors
    /// Names the first field that is missing or of the wrong type.
    pub fn from_value(value: &Value) -> Result<PodView, FieldError> {
        PodView::read(&At::root(value))
    }

    /// Reads pods as `kubectl get pods -o json` prints them: a list, one pod, or a bare array.
    ///
    /// # Errors
    /// Names the first field of the first pod that is missing or of the wrong type.
    pub fn list_from_value(value: &Value) -> Result<Vec<PodView>, FieldError> {
        let at = At::root(value);
        let items = match value {
            Value::Array(_) => at.items()?,
            _ => match at.get("items")? {
                Some(items) => items.items()?,
                // An empty list as Go writes it.
                None if at.text("kind")?.ends_with("List") => Vec::new(),
                None => vec![at],
            },
        };
        items.iter().map(PodView::read).collect()
    }

    fn read(at: &At<'_>) -> Result<PodView, FieldError> {
        let kind = at.text("kind")?;
        if !kind.is_empty() && kind != "Pod" {
            return Err(at.require("kind")?.error("must be Pod"));
        }
        let metadata = at.require("metadata")?;
        let name = metadata.require("name")?.str()?.to_owned();
        let empty = Value::Object(serde_json::Map::new());
        let spec = at.get("spec")?.unwrap_or_else(|| At::new("spec", &empty));
        let status = at.get("status")?.unwrap_or_else(|| At::new("status", &empty));
        let labels = metadata.text_map("labels")?;
        let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
        let containers = Containers::read(&spec, &status)?;
        let (pending_class, pending_message) = classify(&spec, &status, &containers)?;
        let scheduling_group = spec.get("schedulingGroup")?.map(|at| at.text("podGroupName")).transpose()?;
        let created_ms = metadata
            .get("creationTimestamp")?
            .map(|at| parse_rfc3339_ms(at.str()?).ok_or_else(|| at.error("must be a time like 2026-01-31T12:00:00Z")));
        Ok(PodView {
            name,
            uid: metadata.text("uid")?,
            resource_version: metadata.text("resourceVersion")?,
            cluster: label(keys::CLUSTER),
            group: label(keys::GROUP),
            role: match labels.get(keys::NODE_TYPE).map(String::as_str) {
                Some(keys::NODE_TYPE_HEAD) => PodRole::Head,
                Some(keys::NODE_TYPE_WORKER) => PodRole::Worker,
                _ => PodRole::Other,
            },
            terminating: metadata.get("deletionTimestamp")?.is_some(),
            phase: status.text("phase")?,
            created_ms: created_ms.transpose()?,
            replica: labels.get(keys::REPLICA_NAME).cloned(),
            ip: Some(status.text("podIP")?).filter(|ip| !ip.is_empty()),
            node_name: Some(spec.text("nodeName")?).filter(|name| !name.is_empty()),
            nominated_node: Some(status.text("nominatedNodeName")?).filter(|name| !name.is_empty()),
            ray_container: containers.ray,
            other_cpu_requests: containers.other_cpu_requests,
            other_memory_requests: containers.other_memory_requests,
            pending_class,
            pending_message,
            resize: resize_condition(&status)?,
            scheduling_group: scheduling_group.filter(|name| !name.is_empty()),
            annotations: metadata.text_map("annotations")?,
            labels,
        })
    }
}

/// The containers of a pod: the Ray container, the others' requests, and what each is doing.
#[derive(Default)]
struct Containers {
    ray: ContainerView,
    other_cpu_requests: Quantity,
    other_memory_requests: Quantity,
    states: Vec<ContainerState>,
}

#[derive(Default)]
struct ContainerState {
    is_ray: bool,
    is_init: bool,
    waiting: Option<(String, String)>,
    is_running: bool,
    terminated: Option<(String, String)>,
}

impl Containers {
    fn read(spec: &At<'_>, status: &At<'_>) -> Result<Self, FieldError> {
        let mut containers = Containers::default();
        let ray = spec.get("containers")?.map(|at| at.items()).transpose()?.and_then(|items| items.into_iter().next());
        if let Some(ray) = ray {
            containers.ray.name = ray.text("name")?;
            containers.ray.wanted = container_resources(&ray, &ContainerResources::default())?;
        }
        containers.ray.actual = containers.ray.wanted.clone();
        for at in statuses(status, "initContainerStatuses")? {
            containers.states.push(ContainerState { is_init: true, ..ContainerState::read(&at)? });
        }
        for at in statuses(status, "containerStatuses")? {
            let is_ray = at.text("name")? == containers.ray.name;
            let state = ContainerState { is_ray, ..ContainerState::read(&at)? };
            if is_ray {
                containers.ray.running = state.is_running;
                containers.ray.actual = container_resources(&at, &containers.ray.wanted)?;
            } else {
                let resources = container_resources(&at, &ContainerResources::default())?;
                let sum = |sum: Quantity, more: Option<Quantity>| sum.checked_add(more.unwrap_or_default());
                let too_much = || at.error("requests more than any node has");
                containers.other_cpu_requests =
                    sum(containers.other_cpu_requests, resources.cpu_request).ok_or_else(too_much)?;
                containers.other_memory_requests =
                    sum(containers.other_memory_requests, resources.memory_request).ok_or_else(too_much)?;
            }
            containers.states.push(state);
        }
        Ok(containers)
    }
}

impl ContainerState {
    fn read(status: &At<'_>) -> Result<Self, FieldError> {
        let Some(state) = status.get("state")? else { return Ok(ContainerState::default()) };
        let words = |at: At<'_>| Ok((at.text("reason")?, at.text("message")?));
        Ok(ContainerState {
            waiting: state.get("waiting")?.map(words).transpose()?,
            is_running: state.get("running")?.is_some(),
            terminated: state.get("terminated")?.map(words).transpose()?,
            ..ContainerState::default()
        })
    }
}

fn statuses<'a>(status: &At<'a>, key: &str) -> Result<Vec<At<'a>>, FieldError> {
    status.get(key)?.map_or(Ok(Vec::new()), |at| at.items())
}

/// `resources` of a container or of its status, where a missing `limits` or `requests` is as in `otherwise`.
fn container_resources(at: &At<'_>, otherwise: &ContainerResources) -> Result<ContainerResources, FieldError> {
    let read = |kind: &str, name: &str, otherwise: Option<Quantity>| match at.get_in(&["resources", kind])? {
        Some(all) => all.get(name)?.map(|at| quantity(&at)).transpose(),
        None => Ok(otherwise),
    };
    Ok(ContainerResources {
        cpu_limit: read("limits", "cpu", otherwise.cpu_limit)?,
        cpu_request: read("requests", "cpu", otherwise.cpu_request)?,
        memory_limit: read("limits", "memory", otherwise.memory_limit)?,
        memory_request: read("requests", "memory", otherwise.memory_request)?,
    })
}

/// Reasons of a waiting container whose image can't be had.
const PULL_FAILURES: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

/// Reasons of a waiting container that fails again and again.
const START_FAILURES: [&str; 7] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "PreStartHookError",
    "PostStartHookError",
    "StartError",
];

fn classify(spec: &At<'_>, status: &At<'_>, containers: &Containers) -> Result<(PendingClass, String), FieldError> {
    let phase = status.text("phase")?;
    let said = |class: PendingClass, reason: &str, message: &str| (class, joined(reason, message));
    if phase == "Failed" || phase == "Succeeded" {
        let (reason, message) = (status.text("reason")?, status.text("message")?);
        let ended = containers.states.iter().filter(|s| s.is_ray).find_map(|s| s.terminated.as_ref());
        return Ok(match ended {
            Some((why, words)) if reason.is_empty() => said(PendingClass::Failed, why, words),
            _ => said(PendingClass::Failed, &reason, &message),
        });
    }
    if containers.ray.running {
        return Ok((PendingClass::Running, String::new()));
    }
    if spec.text("nodeName")?.is_empty() {
        return classify_unbound(spec, status);
    }
    for state in &containers.states {
        if let Some((reason, message)) = &state.waiting {
            if PULL_FAILURES.contains(&reason.as_str()) {
                return Ok(said(PendingClass::PullFailing, reason, message));
            }
            if START_FAILURES.contains(&reason.as_str()) && (state.is_ray || state.is_init) {
                return Ok(said(PendingClass::Failed, reason, message));
            }
        }
        if let Some((reason, message)) = state.terminated.as_ref().filter(|_| state.is_ray) {
            return Ok(said(PendingClass::Failed, reason, message));
        }
    }
    let class = if containers.states.iter().any(|s| s.is_running || s.terminated.is_some()) {
        PendingClass::Starting
    } else {
        PendingClass::Pulling
    };
    let waiting = containers.states.iter().find_map(|s| s.waiting.as_ref());
    Ok(waiting.map_or((class, String::new()), |(reason, message)| said(class, reason, message)))
}

/// A pod without a Kubernetes node.
fn classify_unbound(spec: &At<'_>, status: &At<'_>) -> Result<(PendingClass, String), FieldError> {
    let gates = spec.get("schedulingGates")?.map_or(Ok(Vec::new()), |at| at.items())?;
    if !gates.is_empty() {
        let names = gates.iter().map(|gate| gate.text("name")).collect::<Result<Vec<_>, _>>()?;
        return Ok((PendingClass::Gated, format!("scheduling gates: {}", names.join(", "))));
    }
    for condition in statuses(status, "conditions")? {
        if condition.text("type")? == "PodScheduled" && condition.text("status")? == "False" {
            let (reason, message) = (condition.text("reason")?, condition.text("message")?);
            let class = match reason.as_str() {
                "Unschedulable" => PendingClass::Unschedulable,
                "SchedulingGated" => PendingClass::Gated,
                _ => PendingClass::Scheduling,
            };
            return Ok((class, joined(&reason, &message)));
        }
    }
    Ok((PendingClass::Scheduling, String::new()))
}

fn joined(reason: &str, message: &str) -> String {
    match (reason.is_empty(), message.is_empty()) {
        (false, false) => format!("{reason}: {message}"),
        _ => format!("{reason}{message}"),
    }
}

/// The first resize condition that is true.
fn resize_condition(status: &At<'_>) -> Result<Option<ResizeCondition>, FieldError> {
    for condition in statuses(status, "conditions")? {
        if condition.text("status")? != "True" {
            continue;
        }
        let reason = condition.text("reason")?;
        let progress = match (condition.text("type")?.as_str(), reason.to_lowercase().as_str()) {
            ("PodResizePending", "deferred") => ResizeProgress::Deferred,
            ("PodResizePending", "infeasible") => ResizeProgress::Infeasible,
            ("PodResizePending", _) => ResizeProgress::Pending,
            ("PodResizeInProgress", "error") => ResizeProgress::Error,
            ("PodResizeInProgress", _) => ResizeProgress::InProgress,
            _ => continue,
        };
        return Ok(Some(ResizeCondition { progress, message: condition.text("message")? }));
    }
    Ok(None)
}
