//! Ray resources of a group, exactly as Ray 2.60's autoscaler derives them from a RayCluster.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    FieldError, Quantity, keys,
    shape::Group,
    template::{PodTemplate, quantity},
};

/// The most of one resource that a raylet accepts.
const MOST_OF_A_RESOURCE: i64 = 100_000_000_000_000;

/// Resources that have rules of their own; every other name in a group's `resources` is a custom resource.
const STANDARD: [&str; 4] = ["CPU", "GPU", "TPU", "memory"];

/// What Ray's autoscaler expects one pod of the group to bring.
pub(crate) fn ray_resources(
    group: &Group<'_>,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<String, f64>, FieldError> {
    let mut resources = BTreeMap::new();
    resources.insert("CPU".to_owned(), cpu(group)?);
    resources.extend(gpu(group)?.map(|n| ("GPU".to_owned(), n)));
    resources.extend(memory(group)?.map(|n| ("memory".to_owned(), n)));
    let custom = custom_resources(group)?;
    if let Some(tpu) = tpu(group, &custom)? {
        resources.insert("TPU".to_owned(), tpu);
        match tpu_slice(&group.template)? {
            TpuSlice::Known { pod_type, .. } => {
                resources.insert(format!("TPU-{pod_type}-head"), 1);
            }
            TpuSlice::UnknownAccelerator => {}
            TpuSlice::NoSelectors => warnings.push(no_tpu_selectors(group)),
        }
    }
    warnings.extend(overridden_params(group));
    // Last, as in Ray: what rayStartParams declare by hand overrides everything above.
    resources.extend(custom);
    Ok(resources.into_iter().map(|(name, units)| (name, units as f64)).collect())
}

fn cpu(group: &Group<'_>) -> Result<i64, FieldError> {
    let found = declared(group, "CPU", "num-cpus")?;
    let found = found.map_or_else(|| of_container(group, "cpu"), |units| Ok(Some(units)))?;
    found.ok_or_else(|| {
        let problem =
            format!("group {} has no CPU: set a CPU limit or request, or num-cpus in rayStartParams", group.name);
        FieldError::missing(format!("{}.limits.cpu", group.template.resources_path()), problem)
    })
}

fn memory(group: &Group<'_>) -> Result<Option<i64>, FieldError> {
    declared(group, "memory", "memory")?.map_or_else(|| of_container(group, "memory"), |units| Ok(Some(units)))
}

/// GPUs of any vendor: the first limit, else the first request, whose name ends in `gpu` and that is not 0.
fn gpu(group: &Group<'_>) -> Result<Option<i64>, FieldError> {
    if let Some(units) = declared(group, "GPU", "num-gpus")? {
        return Ok(Some(units));
    }
    for kind in ["limits", "requests"] {
        for (name, at) in group.template.resources(kind)? {
            if name.ends_with("gpu") {
                let units = ray_amount(&at.path(), quantity(&at)?)?;
                if units > 0 {
                    return Ok(Some(units));
                }
            }
        }
    }
    Ok(None)
}

fn tpu(group: &Group<'_>, custom: &BTreeMap<String, i64>) -> Result<Option<i64>, FieldError> {
    if let Some(text) = group.resources.get("TPU") {
        return declared_quantity(group, "TPU", text).map(Some);
    }
    if let Some(units) = custom.get("TPU") {
        return Ok(Some(*units));
    }
    for kind in ["limits", "requests"] {
        if let Some(at) = group.template.resources(kind)?.get(keys::GOOGLE_TPU) {
            let units = ray_amount(&at.path(), quantity(at)?)?;
            if units > 0 {
                return Ok(Some(units));
            }
        }
    }
    Ok(None)
}

/// Custom resources: from the group's `resources` if it has any, else from rayStartParams `resources`.
fn custom_resources(group: &Group<'_>) -> Result<BTreeMap<String, i64>, FieldError> {
    if !group.resources.is_empty() {
        let custom = group.resources.iter().filter(|(name, _)| !STANDARD.contains(&name.as_str()));
        return custom.map(|(name, text)| Ok((name.clone(), declared_quantity(group, name, text)?))).collect();
    }
    let Some(text) = group.params.get("resources") else { return Ok(BTreeMap::new()) };
    let error = |problem: &str| {
        let example = r#"write it like '"{\"Custom1\": 1, \"Custom2\": 5}"', or use the group's `resources`"#;
        FieldError::new(group.param_path("resources"), text, format!("{problem}: {example}"))
    };
    // The text is JSON within one more pair of quotes that the shell takes off, its own quotes escaped for that shell.
    let mut inner = text.chars();
    inner.next();
    inner.next_back();
    let json = inner.as_str().replace('\\', "");
    let object: Map<String, Value> =
        serde_json::from_str(&json).map_err(|_| error("must be a JSON object in quotes"))?;
    let units = |(name, value): (String, Value)| match value.as_i64() {
        Some(units @ 0..=MOST_OF_A_RESOURCE) => Ok((name, units)),
        _ => Err(error(&format!("{name} must be a whole number from 0 to {MOST_OF_A_RESOURCE}"))),
    };
    object.into_iter().map(units).collect()
}

/// What the group declares for Ray: in `resources`, else in rayStartParams.
fn declared(group: &Group<'_>, resource: &str, param: &str) -> Result<Option<i64>, FieldError> {
    if let Some(text) = group.resources.get(resource) {
        return declared_quantity(group, resource, text).map(Some);
    }
    let Some(text) = group.params.get(param) else { return Ok(None) };
    match text.trim().parse::<i64>() {
        Ok(units @ 0..=MOST_OF_A_RESOURCE) => Ok(Some(units)),
        _ => {
            let problem = format!("must be a whole number from 0 to {MOST_OF_A_RESOURCE}");
            Err(FieldError::new(group.param_path(param), text, problem))
        }
    }
}

fn declared_quantity(group: &Group<'_>, name: &str, text: &str) -> Result<i64, FieldError> {
    let path = group.resource_path(name);
    let quantity = text.parse::<Quantity>().map_err(|e| FieldError::new(&path, text, e.to_string()))?;
    ray_amount(&path, quantity)
}

fn of_container(group: &Group<'_>, name: &str) -> Result<Option<i64>, FieldError> {
    let found = group.template.limit_or_request(name)?;
    found.map(|at| ray_amount(&at.path(), quantity(&at)?)).transpose()
}

/// Whole units for Ray: rounded up.
fn ray_amount(path: &str, quantity: Quantity) -> Result<i64, FieldError> {
    match quantity.ceil_units() {
        _ if quantity.is_negative() => Err(FieldError::new(path, quantity.to_string(), "must be 0 or more")),
        units @ 0..=MOST_OF_A_RESOURCE => Ok(units),
        _ => {
            let problem = format!("is more than a Ray node can have ({MOST_OF_A_RESOURCE})");
            Err(FieldError::new(path, quantity.to_string(), problem))
        }
    }
}

/// What the node selectors of GKE say of a TPU slice.
pub(crate) enum TpuSlice {
    /// For example `v4-16` with topology `2x2x2`.
    Known {
        /// Generation and number of cores.
        pod_type: String,
        /// Generation.
        generation: &'static str,
        /// Chips along each axis.
        topology: String,
    },
    /// Both selectors are there, but Ray does not know the accelerator.
    UnknownAccelerator,
    /// One of the two selectors is not there.
    NoSelectors,
}

/// Generation and TensorCores per chip, by the name of the accelerator on GKE.
fn tpu_generation(accelerator: &str) -> Option<(&'static str, u64)> {
    match accelerator {
        "tpu-v4-podslice" => Some(("v4", 2)),
        "tpu-v5-lite-device" | "tpu-v5-lite-podslice" => Some(("v5litepod", 1)),
        "tpu-v5p-slice" => Some(("v5p", 2)),
        "tpu-v6e-slice" => Some(("v6e", 1)),
        "tpu7x" => Some(("v7x", 2)),
        _ => None,
    }
}

pub(crate) fn tpu_slice(template: &PodTemplate<'_>) -> Result<TpuSlice, FieldError> {
    let selector = template.node_selector()?;
    let (Some(topology), Some(accelerator)) =
        (selector.get(keys::GKE_TPU_TOPOLOGY), selector.get(keys::GKE_TPU_ACCELERATOR))
    else {
        return Ok(TpuSlice::NoSelectors);
    };
    let Some((generation, cores_per_chip)) = tpu_generation(accelerator).filter(|_| !topology.is_empty()) else {
        return Ok(TpuSlice::UnknownAccelerator);
    };
    let topology = topology.trim().to_lowercase();
    let mut axes = topology.split('x').map(|axis| axis.trim().parse::<u64>().ok());
    let cores = axes.try_fold(cores_per_chip, |cores, axis| cores.checked_mul(axis?));
    let cores = cores.ok_or_else(|| {
        let path = template.node_selector_path(keys::GKE_TPU_TOPOLOGY);
        FieldError::new(path, &topology, "must be numbers of chips with x between them, like 2x2x2")
    })?;
    Ok(TpuSlice::Known { pod_type: format!("{generation}-{cores}"), generation, topology })
}

fn no_tpu_selectors(group: &Group<'_>) -> String {
    format!(
        "group {} has TPUs but not both node selectors {} and {}: it gets no TPU head resource",
        group.name,
        keys::GKE_TPU_TOPOLOGY,
        keys::GKE_TPU_ACCELERATOR
    )
}

/// Arguments of `ray start` that the group's `resources` override, and names there that Ray does not read as meant.
fn overridden_params(group: &Group<'_>) -> Vec<String> {
    let pairs = [("CPU", "num-cpus"), ("GPU", "num-gpus"), ("memory", "memory")];
    let overridden = pairs.into_iter().filter(|(resource, _)| group.resources.contains_key(*resource));
    let mut params: Vec<&str> = overridden.map(|(_, param)| param).collect();
    if !group.resources.is_empty() {
        params.push("resources");
    }
    let mut warnings: Vec<String> = params
        .into_iter()
        .filter_map(|param| group.params.get(param).map(|value| (param, value)))
        .map(|(param, value)| {
            let problem = "is overridden by the group's `resources`: remove one of the two";
            FieldError::new(group.param_path(param), value, problem).to_string()
        })
        .collect();
    for (name, value) in group.resources {
        let meant = STANDARD.iter().find(|s| s.eq_ignore_ascii_case(name) && *s != name);
        warnings.extend(meant.map(|meant| {
            let problem = format!("is a custom resource for Ray's scheduler: write {meant} if you mean that");
            FieldError::new(group.resource_path(name), value, problem).to_string()
        }));
    }
    warnings
}

/// Extended resources of the Ray container in units: limits, and requests where there is no limit.
pub(crate) fn extended_resources(template: &PodTemplate<'_>) -> Result<BTreeMap<String, f64>, FieldError> {
    let mut extended = BTreeMap::new();
    for kind in ["requests", "limits"] {
        for (name, at) in template.resources(kind)? {
            let units = quantity(&at)?.as_f64();
            if name.contains('/') && !name.starts_with("kubernetes.io/") {
                extended.insert(name.to_owned(), units);
            }
        }
    }
    Ok(extended)
}
