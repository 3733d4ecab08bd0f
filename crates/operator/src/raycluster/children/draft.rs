//! A pod that is being made from a template: the parts that the operator adds to are typed, everything else stays the JSON
//! that the user wrote.

use std::{collections::BTreeMap, fmt::Display};

use mobula_api::FieldError;
use serde_json::{Map, Value, json};

/// A pod being made.
#[derive(Clone, Debug, Default)]
pub(super) struct PodDraft {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    /// The container that runs Ray: the template's first.
    pub(super) ray: ContainerDraft,
    /// The other containers, in order.
    pub(super) others: Vec<ContainerDraft>,
    pub(super) init_containers: Vec<ContainerDraft>,
    pub(super) volumes: Vec<Value>,
    /// Other fields of the pod's spec.
    pub(super) spec: Map<String, Value>,
    /// Other fields of the pod's metadata.
    metadata: Map<String, Value>,
}

/// A container being made.
#[derive(Clone, Debug, Default)]
pub(super) struct ContainerDraft {
    pub(super) command: Vec<String>,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<Value>,
    pub(super) ports: Vec<Value>,
    pub(super) volume_mounts: Vec<Value>,
    /// Every other field.
    pub(super) rest: Map<String, Value>,
}

/// Fields of the template's metadata that are not the pod's: it has a name and namespace of its own.
const NOT_INHERITED: [&str; 6] = ["name", "generateName", "namespace", "creationTimestamp", "uid", "resourceVersion"];

impl PodDraft {
    /// A copy of the template at `path`.
    pub(super) fn from_template(path: &str, template: &Value) -> Result<Self, FieldError> {
        let mut template = object(path, template)?;
        let mut metadata = take_object(format_args!("{path}.metadata"), template.remove("metadata"))?;
        metadata.retain(|key, _| !NOT_INHERITED.contains(&key.as_str()));
        let mut map = |key: &str| take_text_map(format_args!("{path}.metadata.{key}"), metadata.remove(key));
        let (labels, annotations) = (map("labels")?, map("annotations")?);

        let mut spec = take_object(format_args!("{path}.spec"), template.remove("spec"))?;
        let mut list = |key: &str| containers(format_args!("{path}.spec.{key}"), spec.remove(key));
        let mut containers = list("containers")?.into_iter();
        let ray = containers
            .next()
            .ok_or_else(|| FieldError::missing(format!("{path}.spec.containers"), "must hold the Ray container"))?;
        let init_containers = list("initContainers")?;
        let volumes = take_objects(format_args!("{path}.spec.volumes"), spec.remove("volumes"))?;
        Ok(PodDraft {
            labels,
            annotations,
            ray,
            others: containers.collect(),
            init_containers,
            volumes,
            spec,
            metadata,
        })
    }

    /// A text field of the spec; empty if it is absent.
    pub(super) fn spec_text(&self, key: &str) -> &str {
        self.spec.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// Sets a field of the spec.
    pub(super) fn set_spec(&mut self, key: &str, value: impl Into<Value>) {
        self.spec.insert(key.to_owned(), value.into());
    }

    /// A container by its name, the Ray container not among them.
    pub(super) fn other(&mut self, name: &str) -> Option<&mut ContainerDraft> {
        self.others.iter_mut().find(|container| container.name() == name)
    }

    /// Adds a volume unless there is one of its name.
    pub(super) fn add_volume(&mut self, volume: Value) {
        if !self.volumes.iter().any(|known| known.get("name") == volume.get("name")) {
            self.volumes.push(volume);
        }
    }

    /// `metadata` (without name, namespace and owner) and `spec`: a pod template.
    pub(super) fn into_template(self) -> Map<String, Value> {
        let PodDraft { labels, annotations, ray, others, init_containers, volumes, mut spec, mut metadata } = self;
        insert_unless_empty(&mut metadata, "labels", json!(labels));
        insert_unless_empty(&mut metadata, "annotations", json!(annotations));
        let list = |containers: Vec<ContainerDraft>| {
            Value::Array(containers.into_iter().map(ContainerDraft::into_value).collect())
        };
        let containers = std::iter::once(ray).chain(others).collect();
        spec.insert("containers".to_owned(), list(containers));
        insert_unless_empty(&mut spec, "initContainers", list(init_containers));
        insert_unless_empty(&mut spec, "volumes", Value::Array(volumes));
        Map::from_iter([("metadata".to_owned(), Value::Object(metadata)), ("spec".to_owned(), Value::Object(spec))])
    }
}

impl ContainerDraft {
    /// A container of the operator's own: `fields` is an object.
    pub(super) fn new(fields: Value) -> Self {
        match fields {
            Value::Object(rest) => ContainerDraft { rest, ..ContainerDraft::default() },
            _ => ContainerDraft::default(),
        }
    }

    /// A container as written.
    pub(super) fn from_value(path: impl Display, value: &Value) -> Result<Self, FieldError> {
        let mut rest = object(&path, value)?;
        let mut list = |key: &str| take_objects(format_args!("{path}.{key}"), rest.remove(key));
        let (env, ports, volume_mounts) = (list("env")?, list("ports")?, list("volumeMounts")?);
        let mut texts = |key: &str| take_texts(format_args!("{path}.{key}"), rest.remove(key));
        let (command, args) = (texts("command")?, texts("args")?);
        Ok(ContainerDraft { command, args, env, ports, volume_mounts, rest })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.rest.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    /// Copies fields of another container, those that it has.
    pub(super) fn with_fields_of(mut self, other: &ContainerDraft, keys: &[&str]) -> Self {
        for key in keys {
            if let Some(value) = other.rest.get(*key) {
                self.rest.insert((*key).to_owned(), value.clone());
            }
        }
        self
    }

    /// Sets a field.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.rest.insert(key.to_owned(), value.into());
    }

    /// Whether the environment has a variable of that name.
    pub(super) fn has_env(&self, name: &str) -> bool {
        self.env.iter().any(|entry| entry.get("name").and_then(Value::as_str) == Some(name))
    }

    /// Adds a variable, also if there is one of its name.
    pub(super) fn push_env(&mut self, name: &str, value: impl AsRef<str>) {
        self.env.push(json!({ "name": name, "value": value.as_ref() }));
    }

    /// Adds a variable unless there is one of its name.
    pub(super) fn add_env(&mut self, name: &str, value: impl AsRef<str>) {
        if !self.has_env(name) {
            self.push_env(name, value);
        }
    }

    /// Adds a variable that refers to a field of the pod.
    pub(super) fn push_field_env(&mut self, name: &str, field: &str) {
        self.env.push(json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": field } } }));
    }

    /// The number of the port of that name.
    pub(super) fn port(&self, name: &str) -> Option<i64> {
        let port = self.ports.iter().find(|port| port.get("name").and_then(Value::as_str) == Some(name));
        port?.get("containerPort")?.as_i64()
    }

    /// Whether something is mounted at the path.
    pub(super) fn mounts_at(&self, path: &str) -> bool {
        self.volume_mounts.iter().any(|mount| mount.get("mountPath").and_then(Value::as_str) == Some(path))
    }

    /// Whether the volume is mounted.
    pub(super) fn mounts(&self, volume: &str) -> bool {
        self.volume_mounts.iter().any(|mount| mount.get("name").and_then(Value::as_str) == Some(volume))
    }

    fn into_value(self) -> Value {
        let ContainerDraft { command, args, env, ports, volume_mounts, rest: mut container } = self;
        insert_unless_empty(&mut container, "command", json!(command));
        insert_unless_empty(&mut container, "args", json!(args));
        insert_unless_empty(&mut container, "env", Value::Array(env));
        insert_unless_empty(&mut container, "ports", Value::Array(ports));
        insert_unless_empty(&mut container, "volumeMounts", Value::Array(volume_mounts));
        Value::Object(container)
    }
}

/// An empty list or map says nothing.
pub(super) fn insert_unless_empty(object: &mut Map<String, Value>, key: &str, value: Value) {
    let empty = match &value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        other => other.is_null(),
    };
    if !empty {
        object.insert(key.to_owned(), value);
    }
}

fn containers(path: impl Display, list: Option<Value>) -> Result<Vec<ContainerDraft>, FieldError> {
    let containers = take_list(&path, list)?;
    let read = |(index, value): (usize, &Value)| ContainerDraft::from_value(format_args!("{path}[{index}]"), value);
    containers.iter().enumerate().map(read).collect()
}

fn wrong(path: impl Display, value: &Value, problem: &str) -> FieldError {
    let shown = match value {
        Value::String(text) => text.clone(),
        Value::Array(_) => "[…]".to_owned(),
        Value::Object(_) => "{…}".to_owned(),
        scalar => scalar.to_string(),
    };
    FieldError::new(path.to_string(), shown, problem)
}

fn object(path: impl Display, value: &Value) -> Result<Map<String, Value>, FieldError> {
    value.as_object().cloned().ok_or_else(|| wrong(path, value, "must be an object"))
}

fn take_object(path: impl Display, value: Option<Value>) -> Result<Map<String, Value>, FieldError> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map),
        Some(other) => Err(wrong(path, &other, "must be an object")),
    }
}

fn take_list(path: impl Display, value: Option<Value>) -> Result<Vec<Value>, FieldError> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list),
        Some(other) => Err(wrong(path, &other, "must be a list")),
    }
}

/// A list of objects.
pub(super) fn take_objects(path: impl Display, value: Option<Value>) -> Result<Vec<Value>, FieldError> {
    let list = take_list(&path, value)?;
    match list.iter().enumerate().find(|(_, element)| !element.is_object()) {
        Some((index, element)) => Err(wrong(format_args!("{path}[{index}]"), element, "must be an object")),
        None => Ok(list),
    }
}

fn take_texts(path: impl Display, value: Option<Value>) -> Result<Vec<String>, FieldError> {
    let text = |(index, element): (usize, &Value)| {
        let text = element.as_str().map(str::to_owned);
        text.ok_or_else(|| wrong(format_args!("{path}[{index}]"), element, "must be a string: put it in quotes"))
    };
    take_list(&path, value)?.iter().enumerate().map(text).collect()
}

/// A map of strings.
pub(super) fn take_text_map(path: impl Display, value: Option<Value>) -> Result<BTreeMap<String, String>, FieldError> {
    let text = |(key, value): (String, Value)| match value {
        Value::String(text) => Ok((key, text)),
        // As Go reads it.
        Value::Null => Ok((key, String::new())),
        other => Err(wrong(format_args!("{path}[{key:?}]"), &other, "must be a string: put it in quotes")),
    };
    take_object(&path, value)?.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::PodDraft;

    #[test]
    fn what_the_operator_does_not_know_comes_out_as_it_went_in() {
        let template = json!({
            "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["x"]},
            "spec": {
                "hostUsers": false,
                "containers": [
                    {"name": "ray", "command": ["a"], "args": ["b"], "env": [{"name": "E", "value": "1"}], "novel": {"x": 1}},
                    {"name": "side", "ports": [{"containerPort": 1}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
                ],
                "initContainers": [{"name": "i"}],
                "volumes": [{"name": "v"}]
            }
        });
        let draft = PodDraft::from_template("spec.headGroupSpec.template", &template).unwrap();
        assert_eq!(Value::Object(draft.into_template()), template);
    }

    #[test]
    fn a_template_that_cannot_be_used_is_named_to_the_field() {
        let wrong = [
            (json!([]), "t: […]: must be an object"),
            (json!({}), "t.spec.containers: must hold the Ray container"),
            (json!({"spec": {"containers": [7]}}), "t.spec.containers[0]: 7: must be an object"),
            (json!({"spec": {"containers": [{"args": [1]}]}}), "t.spec.containers[0].args[0]: 1: must be a string"),
            (json!({"spec": {"containers": [{"env": ["x"]}]}}), "t.spec.containers[0].env[0]: x: must be an object"),
            (json!({"metadata": {"labels": {"a": 1}}}), "t.metadata.labels[\"a\"]: 1: must be a string"),
            (json!({"spec": {"containers": [{}], "volumes": {}}}), "t.spec.volumes: {…}: must be a list"),
        ];
        for (template, expected) in wrong {
            let error = PodDraft::from_template("t", &template).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
