//! Ray node labels of a group.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    FieldError,
    at::member,
    keys,
    resources::{TpuSlice, tpu_slice},
    shape::Group,
    template::{EnvValue, PodTemplate},
};

const MOST_NAME_CHARS: usize = 63;
const MOST_PREFIX_CHARS: usize = 253;

/// Labels that Kubernetes would refuse: the operator puts them on the pods as well.
pub(crate) fn bad_labels(path: &str, labels: &BTreeMap<String, String>) -> impl Iterator<Item = FieldError> {
    let bad = move |(key, value): (&String, &String)| {
        if let Some(error) = bad_key(path, key, "a label key") {
            return Some(error);
        }
        let problem = "is not a label value: write at most 63 letters, digits, -, _ and . with a letter or digit at \
                       both ends";
        (!value.is_empty() && !is_name(value)).then(|| FieldError::new(member(path, key), value, problem))
    };
    labels.iter().filter_map(bad)
}

/// The key of a label or an annotation that Kubernetes would refuse; `what` says which.
pub(crate) fn bad_key(path: &str, key: &str, what: &str) -> Option<FieldError> {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    (!is_name(name) || !prefix.is_none_or(is_subdomain)).then(|| {
        let problem = format!(
            "is not {what}: write [prefix/]name, the name of at most 63 letters, digits, -, _ and . with a letter or \
             digit at both ends, the prefix a DNS name in lower case"
        );
        FieldError::new(path, key, problem)
    })
}

fn is_name(text: &str) -> bool {
    let ends_well = |end: Option<char>| end.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= MOST_NAME_CHARS
        && ends_well(text.chars().next())
        && ends_well(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_subdomain(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= MOST_PREFIX_CHARS && text.split('.').all(is_part)
}

/// Labels that a started Ray node of the group will have, as far as the RayCluster tells. Later ones override earlier ones:
/// what Ray finds by itself, the arguments of `ray start`, the override in the environment.
pub(crate) fn expected_labels(group: &Group<'_>) -> Result<BTreeMap<String, String>, FieldError> {
    let mut labels = BTreeMap::from([(keys::RAY_NODE_GROUP.to_owned(), group.name.to_owned())]);
    let env = group.template.env()?;
    let found_by_env = [
        (keys::ENV_MARKET_TYPE, keys::RAY_MARKET_TYPE),
        (keys::ENV_ZONE, keys::RAY_ZONE),
        (keys::ENV_REGION, keys::RAY_REGION),
    ];
    for (name, label) in found_by_env {
        let value = match env.get(name) {
            Some(EnvValue::Literal(value)) => Some((*value).to_owned()),
            Some(EnvValue::FieldOfPod(path)) => field_of_pod(&group.template, path)?,
            None => None,
        };
        labels.extend(value.filter(|value| !value.is_empty()).map(|value| (label.to_owned(), value)));
    }
    if group.template.limit_or_request(keys::GOOGLE_TPU)?.is_some()
        && let TpuSlice::Known { pod_type, generation, topology } = tpu_slice(&group.template)?
    {
        labels.insert(keys::RAY_ACCELERATOR_TYPE.to_owned(), format!("TPU-{}", generation.to_uppercase()));
        labels.insert(keys::RAY_TPU_POD_TYPE.to_owned(), pod_type);
        labels.insert(keys::RAY_TPU_TOPOLOGY.to_owned(), topology);
    }
    // The operator turns the group's `labels` into the argument, so they replace what rayStartParams say.
    match group.params.get("labels") {
        Some(text) if group.labels.is_empty() => labels.extend(argument_labels(text)),
        _ => labels.extend(group.labels.clone()),
    }
    if let Some(EnvValue::Literal(text)) = env.get(keys::ENV_OVERRIDE_LABELS)
        && let Ok(overrides) = serde_json::from_str::<BTreeMap<String, Value>>(text)
    {
        let texts = overrides.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())));
        labels.extend(texts);
    }
    Ok(labels)
}

/// A label or annotation of the pod that the environment refers to. The API server copies topology labels of the Kubernetes
/// node to the pod, so a node selector tells them too.
fn field_of_pod(template: &PodTemplate<'_>, path: &str) -> Result<Option<String>, FieldError> {
    let Some((kind, key)) = path.strip_prefix("metadata.").and_then(|p| p.strip_suffix("']")?.split_once("['")) else {
        return Ok(None);
    };
    match kind {
        "labels" => {
            let own = template.metadata("labels")?.remove(key);
            Ok(own.or(template.node_selector()?.remove(key).filter(|_| key.starts_with("topology.kubernetes.io/"))))
        }
        "annotations" => Ok(template.metadata("annotations")?.remove(key)),
        _ => Ok(None),
    }
}

/// `--labels` of `ray start`: `key=value,key=value`. What does not look so is left out; Ray would not start with it.
fn argument_labels(text: &str) -> BTreeMap<String, String> {
    let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}
