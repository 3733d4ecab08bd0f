//! In-place resize of pods: what the user allows, where a pod stands, and what the kubelet says could be had.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    FieldError, PodView, Quantity, RayCluster,
    at::{At, member},
    keys,
    settings::seconds_to_ms,
    template::{PodTemplate, quantity},
};

/// How far the pods of a group may be resized in place.
#[derive(Copy, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResizeBounds {
    /// Largest CPU.
    pub max_cpu: f64,
    /// Largest memory in bytes.
    pub max_memory: f64,
    /// Smallest CPU: what the template says.
    pub min_cpu: f64,
    /// Smallest memory in bytes: what the template says.
    pub min_memory: f64,
    /// Time after which a resize counts as failed, in ms.
    pub timeout_ms: i64,
}

/// Where a resize stands, by the pod's conditions.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResizeProgress {
    /// The kubelet has accepted it and works on it.
    InProgress,
    /// It does not fit on the node now, and may later.
    Deferred,
    /// It can never fit on the node.
    Infeasible,
    /// The kubelet tried and failed.
    Error,
    /// It waits for a reason that this version does not know.
    Pending,
}

/// A resize that is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeCondition {
    /// Where it stands.
    pub progress: ResizeProgress,
    /// The kubelet's words.
    pub message: String,
}

/// A resource that can be resized in place.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ResizeResource {
    /// CPU.
    Cpu,
    /// Memory.
    Memory,
}

/// What the kubelet's refusal says could be had.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeSuggestion {
    /// Of which resource.
    pub resource: ResizeResource,
    /// The largest limit (or request, where there is no limit) that would fit on the node. Negative if not even nothing would.
    pub max: Quantity,
}

/// The annotation `ray.io/ippr-status` of a pod: what must be known of its resize across restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct IpprStatus {
    /// Ray node id in hex.
    #[serde(default)]
    pub raylet_id: Option<String>,
    /// Unix time in s at which a resize was asked for that is not finished.
    #[serde(default, rename = "resizing-at")]
    pub resizing_at_s: Option<i64>,
    /// Largest CPU that its Kubernetes node has for it.
    #[serde(default)]
    pub suggested_max_cpu: Option<f64>,
    /// Largest memory in bytes that its Kubernetes node has for it.
    #[serde(default)]
    pub suggested_max_memory: Option<i64>,
    /// Unix time in s at which a resize failed for good; the pod is left as it is from then on.
    #[serde(default, rename = "last-failed-at")]
    pub last_failed_at_s: Option<i64>,
    /// Why.
    #[serde(default)]
    pub last_failed_reason: Option<String>,
}

impl IpprStatus {
    /// Reads the annotation.
    ///
    /// # Errors
    /// What is not such a JSON object.
    pub fn parse(annotation: &str) -> Result<IpprStatus, FieldError> {
        let field = || member("metadata.annotations", keys::IPPR_STATUS);
        let problem = |e: serde_json::Error| format!("is not a resize status ({e}): remove the annotation");
        serde_json::from_str(annotation).map_err(|e| FieldError::new(field(), annotation, problem(e)))
    }

    /// The annotation's text, as Ray reads it: every key is there, unknown ones are null.
    pub fn to_annotation(&self) -> String {
        serde_json::json!({
            "raylet-id": self.raylet_id,
            "resizing-at": self.resizing_at_s,
            "suggested-max-cpu": self.suggested_max_cpu,
            "suggested-max-memory": self.suggested_max_memory,
            "last-failed-at": self.last_failed_at_s,
            "last-failed-reason": self.last_failed_reason,
        })
        .to_string()
    }
}

impl PodView {
    /// The pod's resize status; `None` if it has none.
    ///
    /// # Errors
    /// An annotation that is no resize status.
    pub fn ippr_status(&self) -> Result<Option<IpprStatus>, FieldError> {
        let annotation = self.annotations.get(keys::IPPR_STATUS).filter(|text| !text.is_empty());
        annotation.map(|text| IpprStatus::parse(text)).transpose()
    }

    /// What the kubelet's words to the pending resize say could be had; `None` if it says nothing of that kind.
    ///
    /// The largest limit is what the node has free, less what the pod's other containers request, plus what the Ray
    /// container's limit exceeds its request by.
    pub fn resize_suggestion(&self) -> Option<ResizeSuggestion> {
        let condition = self.resize.as_ref()?;
        let (resource, free) = match condition.progress {
            ResizeProgress::Deferred => {
                let words = "Node didn't have enough resource: ";
                let (resource, [_, used, capacity]) =
                    first_report(&condition.message, words, ["requested", "used", "capacity"])?;
                (resource, capacity.checked_sub(used)?)
            }
            ResizeProgress::Infeasible => {
                let words = "Node didn't have enough capacity: ";
                let (resource, [_, capacity]) = first_report(&condition.message, words, ["requested", "capacity"])?;
                (resource, capacity)
            }
            _ => return None,
        };
        let actual = &self.ray_container.actual;
        let (free, gap, others) = match resource {
            ResizeResource::Cpu => (Quantity::from_millis(free), actual.cpu_gap()?, self.other_cpu_requests),
            ResizeResource::Memory => (Quantity::from_units(free), actual.memory_gap()?, self.other_memory_requests),
        };
        let max = free.checked_add(gap)?.checked_sub(others)?;
        Some(ResizeSuggestion { resource, max })
    }
}

/// The first `<words><cpu|memory>, <name>: <number>, …` in a message.
fn first_report<const N: usize>(message: &str, words: &str, names: [&str; N]) -> Option<(ResizeResource, [i64; N])> {
    message.match_indices(words).find_map(|(start, _)| report_at(message.get(start + words.len()..)?, names))
}

fn report_at<const N: usize>(text: &str, names: [&str; N]) -> Option<(ResizeResource, [i64; N])> {
    let (resource, mut rest) = if let Some(rest) = text.strip_prefix("cpu") {
        (ResizeResource::Cpu, rest)
    } else {
        (ResizeResource::Memory, text.strip_prefix("memory")?)
    };
    let mut numbers = [0; N];
    for (number, name) in numbers.iter_mut().zip(names) {
        rest = rest.strip_prefix(", ")?.strip_prefix(name)?.strip_prefix(": ")?;
        let (digits, after) = rest.split_at(rest.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len()));
        *number = digits.parse().ok()?;
        rest = after;
    }
    Some((resource, numbers))
}

/// What the annotation says of one group.
struct Wish<'a> {
    path: String,
    max_cpu: Quantity,
    max_memory: Quantity,
    timeout_s: i64,
    group: &'a str,
}

impl RayCluster {
    /// The groups whose pods may be resized in place (annotation `ray.io/ippr`), `headgroup` among them. Groups that the
    /// RayCluster does not have are ignored.
    ///
    /// # Errors
    /// Names what is wrong with the annotation, or with the template of a group that it names.
    pub fn resize_bounds(&self) -> Result<BTreeMap<String, ResizeBounds>, FieldError> {
        let Some(text) = self.metadata.annotations.get(keys::IPPR).filter(|text| !text.is_empty()) else {
            return Ok(BTreeMap::new());
        };
        let path = member("metadata.annotations", keys::IPPR);
        let json: Value = serde_json::from_str(text)
            .map_err(|e| FieldError::new(&path, text, format!("must be JSON ({e}): see `ray.io/ippr`")))?;
        let at = At::new(path, &json);
        let Some(groups) = at.get("groups")? else { return Ok(BTreeMap::new()) };
        let mut bounds = BTreeMap::new();
        for (name, at) in groups.entries()? {
            let wish = Wish::read(name, &at)?;
            if let Some(of_group) = self.bounds_of(&wish)? {
                bounds.insert(name.to_owned(), of_group);
            }
        }
        Ok(bounds)
    }

    fn bounds_of(&self, wish: &Wish<'_>) -> Result<Option<ResizeBounds>, FieldError> {
        if wish.group == keys::HEAD_GROUP {
            let head = &self.spec.head_group_spec;
            return bounds("spec.headGroupSpec", &head.ray_start_params, &head.template, wish).map(Some);
        }
        let groups = self.spec.worker_group_specs.iter().enumerate();
        let Some((i, group)) = groups.into_iter().find(|(_, group)| group.group_name == wish.group) else {
            return Ok(None);
        };
        bounds(&format!("spec.workerGroupSpecs[{i}]"), &group.ray_start_params, &group.template, wish).map(Some)
    }
}

impl<'a> Wish<'a> {
    fn read(group: &'a str, at: &At<'_>) -> Result<Self, FieldError> {
        let timeout = at.require("resize-timeout")?;
        let timeout_s = timeout.int()?;
        Ok(Wish {
            path: at.path(),
            max_cpu: quantity(&at.require("max-cpu")?)?,
            max_memory: quantity(&at.require("max-memory")?)?,
            timeout_s: seconds_to_ms(&timeout.path(), timeout_s).map(|_| timeout_s)?,
            group,
        })
    }
}

fn bounds(
    group_path: &str,
    ray_start_params: &BTreeMap<String, String>,
    template: &Value,
    wish: &Wish<'_>,
) -> Result<ResizeBounds, FieldError> {
    for param in ["num-cpus", "memory"] {
        if let Some(value) = ray_start_params.get(param) {
            let field = member(&format!("{group_path}.rayStartParams"), param);
            return Err(FieldError::new(field, value, "can't be set for a group that is resized in place: remove it"));
        }
    }
    let template = PodTemplate::of_group(group_path, template)?;
    let requests = template.resources("requests")?;
    for name in ["cpu", "memory"] {
        if !requests.contains_key(name) {
            let field = format!("{}.requests.{name}", template.resources_path());
            return Err(FieldError::missing(field, "is required for a group that is resized in place"));
        }
    }
    for (policy, resource) in template.resize_policies()? {
        if ["cpu", "memory"].contains(&resource) && policy.str()? != "NotRequired" {
            return Err(policy.error("must be NotRequired for a group that is resized in place"));
        }
    }
    let smallest = |name: &str| template.limit_or_request(name)?.map_or(Ok(Quantity::ZERO), |at| quantity(&at));
    let (min_cpu, min_memory) = (smallest("cpu")?, smallest("memory")?);
    for (name, max, min) in [("max-cpu", wish.max_cpu, min_cpu), ("max-memory", wish.max_memory, min_memory)] {
        if max < min {
            let problem = format!("must be at least what the pod template of {} has ({min})", wish.group);
            return Err(FieldError::new(member(&wish.path, name), max.to_string(), problem));
        }
    }
    Ok(ResizeBounds {
        max_cpu: wish.max_cpu.as_f64(),
        max_memory: wish.max_memory.trunc_units() as f64,
        min_cpu: min_cpu.as_f64(),
        min_memory: min_memory.trunc_units() as f64,
        timeout_ms: wish.timeout_s * 1_000,
    })
}
