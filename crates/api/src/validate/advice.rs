//! What is allowed and yet will not work, or not as written: KubeRay's users find it in the Events of pods, if at all.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Member, cluster::OPTIONS, is_autoscaled, list, objects};
use crate::{FieldError, RayCluster, WorkerGroupSpec, at::At, keys, template::quantity};

/// Longest part of `<cluster>-<group>` that goes into the names of pods.
const MOST_PREFIX_CHARS: usize = 50;
/// Longest value of a label.
const MOST_LABEL_CHARS: usize = 63;

impl RayCluster {
    /// What is not refused, and what the user would find out at run time.
    pub fn advice(&self) -> Vec<FieldError> {
        let mut advice = Vec::new();
        for member in std::iter::once(Member::head(self)).chain(Member::workers(self)) {
            advice.extend(pods(&member));
        }
        let head = &self.spec.head_group_spec.ray_start_params;
        let of_head = HEAD_PORTS.iter().chain(PORTS);
        advice.extend(of_head.filter_map(|known| self::port("spec.headGroupSpec", head, known)));
        for (i, group) in self.spec.worker_group_specs.iter().enumerate() {
            let path = format!("spec.workerGroupSpecs[{i}]");
            advice.extend(group_name(self, &path, group));
            advice.extend(replicas(self, &path, group));
            advice.extend(PORTS.iter().filter_map(|known| self::port(&path, &group.ray_start_params, known)));
        }
        advice.extend(objects::refused(self));
        advice.extend(autoscaler_mounts(self));
        advice.extend(ray_version(self));
        advice.extend(ignored_options(self));
        advice
    }
}

/// The group's name is a label of its pods and a part of their names.
fn group_name(cluster: &RayCluster, path: &str, group: &WorkerGroupSpec) -> Option<FieldError> {
    let name = group.group_name.as_str();
    let prefix = format!("{}-{name}", cluster.metadata.name).to_ascii_lowercase();
    let prefix: String = prefix.chars().take(MOST_PREFIX_CHARS).collect();
    let fits_names = prefix.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c));
    let fits_labels = name.len() <= MOST_LABEL_CHARS
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric());
    let problem = if name.is_empty() {
        return None;
    } else if name == keys::HEAD_GROUP {
        "is the name of the head's group: choose another"
    } else if !fits_names || !fits_labels {
        "no pod can be created: write at most 63 letters, digits, - and ., with a letter or digit at both ends"
    } else {
        return None;
    };
    Some(FieldError::new(format!("{path}.groupName"), name, problem))
}

/// Parameters of `ray start` that are ports, and who must know them.
const PORTS: &[(&str, &str)] = &[
    (
        "dashboard-agent-listen-port",
        "the probes of the pod ask port 0: from Ray 2.53 on the API server refuses the pod, before that it never is ready",
    ),
    ("metrics-export-port", "whoever scrapes metrics by the port of the container finds nothing"),
];
/// Those of the head alone.
const HEAD_PORTS: &[(&str, &str)] = &[
    ("port", "workers look for the head at port 0"),
    ("dashboard-port", "the head's Service does not reach the dashboard, and before Ray 2.53 its probes fail"),
    ("ray-client-server-port", "the head's Service does not reach the server of Ray clients"),
];

/// A port of which Ray is told to choose any.
fn port(path: &str, params: &BTreeMap<String, String>, (name, so): &(&str, &str)) -> Option<FieldError> {
    let said = params.get(*name).filter(|said| said.trim().parse::<u16>() == Ok(0))?;
    let problem = format!("Ray chooses a port that nobody else knows, and {so}: name a port, or remove it");
    Some(FieldError::new(format!("{path}.rayStartParams[{name:?}]"), said, problem))
}

fn replicas(cluster: &RayCluster, path: &str, group: &WorkerGroupSpec) -> Vec<FieldError> {
    let mut advice = Vec::new();
    let (min, max) = (group.min_replicas.unwrap_or(0), group.max_replicas.unwrap_or(i64::from(i32::MAX)));
    if let Some(replicas) = group.replicas
        && min <= max
        && !is_autoscaled(cluster)
        && !(min..=max).contains(&replicas)
    {
        let problem = format!("is outside of minReplicas and maxReplicas: the group gets {}", replicas.clamp(min, max));
        advice.push(FieldError::new(format!("{path}.replicas"), replicas.to_string(), problem));
    }
    if group.num_of_hosts == Some(0) {
        let problem = "a replica without pods: must be 1 or more";
        advice.push(FieldError::new(format!("{path}.numOfHosts"), "0", problem));
    }
    advice
}

fn ray_version(cluster: &RayCluster) -> Option<FieldError> {
    let said = cluster.spec.ray_version.as_deref().filter(|said| !said.is_empty())?;
    cluster.ray_version().is_none().then(|| {
        let problem = "is no version and counts as very old: write the Ray version of the images, as 2.60.0";
        FieldError::new("spec.rayVersion", said, problem)
    })
}

/// Options without what they belong to.
fn ignored_options(cluster: &RayCluster) -> Vec<FieldError> {
    let head = &cluster.spec.head_group_spec;
    let mut advice = Vec::new();
    if let Some(options) = &cluster.spec.gcs_fault_tolerance_options
        && options.backend.as_deref().is_none_or(|backend| backend == "redis")
        && options.redis_address.as_deref().unwrap_or_default().is_empty()
    {
        let problem =
            "says nothing: the GCS keeps its state in memory, and loses it with the head: set it to redis:PORT";
        advice.push(FieldError::missing(format!("{OPTIONS}.redisAddress"), problem));
    }
    if cluster.spec.autoscaler_options.is_some() && !is_autoscaled(cluster) {
        let problem = "has no effect: set spec.enableInTreeAutoscaling to true, or remove it";
        advice.push(FieldError::missing("spec.autoscalerOptions", problem));
    }
    if head.ingress_options.is_some() && head.enable_ingress != Some(true) {
        let problem = "has no effect: set spec.headGroupSpec.enableIngress to true, or remove it";
        advice.push(FieldError::missing("spec.headGroupSpec.ingressOptions", problem));
    }
    advice
}

/// What the API server will say of the pods.
fn pods(member: &Member<'_>) -> Vec<FieldError> {
    let Ok(template) = &member.template else { return Vec::new() };
    let spec = template.spec();
    let volumes = names(spec, "volumes");
    let mut advice = Vec::new();
    let mut taken = BTreeMap::new();
    for kind in ["initContainers", "containers"] {
        for container in list(spec, kind) {
            if let Some(name) = name_of(&container) {
                match taken.get(name) {
                    Some(other) => {
                        let problem = format!("is the name of {other} too: give every container a name of its own");
                        advice.push(FieldError::new(format!("{}.name", container.path()), name, problem));
                    }
                    None => {
                        taken.insert(name, container.path().to_owned());
                    }
                }
            }
            advice.extend(image(&container));
            advice.extend(mounts(list(&container, "volumeMounts"), &volumes));
            advice.extend(requests(&container));
        }
    }
    advice
}

fn image(container: &At<'_>) -> Option<FieldError> {
    let image = container.text("image").ok()?;
    image.is_empty().then(|| FieldError::missing(format!("{}.image", container.path()), "is required: name an image"))
}

/// What the autoscaler's container mounts must be a volume of the head.
fn autoscaler_mounts(cluster: &RayCluster) -> Vec<FieldError> {
    let head = Member::head(cluster);
    let Some(options) = cluster.spec.autoscaler_options.as_ref().filter(|_| is_autoscaled(cluster)) else {
        return Vec::new();
    };
    let Ok(template) = &head.template else { return Vec::new() };
    let path = |i: usize| format!("spec.autoscalerOptions.volumeMounts[{i}]");
    let own = options.volume_mounts.iter().enumerate().map(|(i, mount)| At::new(path(i), mount));
    mounts(own, &names(template.spec(), "volumes"))
}

fn mounts<'a>(mounts: impl IntoIterator<Item = At<'a>>, volumes: &BTreeSet<&str>) -> Vec<FieldError> {
    let mut advice = Vec::new();
    for mount in mounts {
        // The operator brings these.
        let known = |name: &str| volumes.contains(name) || name == "shared-mem" || name == "ray-logs";
        if let Some(name) = name_of(&mount).filter(|name| !known(name)) {
            let problem = "no such volume: add it to the volumes of the pod template";
            advice.push(FieldError::new(format!("{}.name", mount.path()), name, problem));
        }
    }
    advice
}

/// Requests above limits, and quantities that are none.
fn requests(container: &At<'_>) -> Vec<FieldError> {
    let mut advice = Vec::new();
    let mut read = |kind: &str| {
        let mut quantities = BTreeMap::new();
        let entries = container.get_in(&["resources", kind]).ok().flatten().and_then(|at| at.entries().ok());
        for (name, at) in entries.into_iter().flatten() {
            match quantity(&at) {
                Ok(quantity) => {
                    quantities.insert(name, (at, quantity));
                }
                Err(error) => advice.push(error),
            }
        }
        quantities
    };
    let (limits, requests) = (read("limits"), read("requests"));
    for (name, (at, request)) in &requests {
        if let Some((limit_at, limit)) = limits.get(name)
            && request > limit
        {
            advice.push(at.error(format!("must be at most the limit: lower it, or raise {}", limit_at.path())));
        }
    }
    advice
}

fn name_of<'a>(at: &At<'a>) -> Option<&'a str> {
    at.value().get("name").and_then(Value::as_str)
}

fn names<'a>(at: &At<'a>, key: &str) -> BTreeSet<&'a str> {
    list(at, key).iter().filter_map(name_of).collect()
}
