//! Lenses into a pod template, which stays the JSON that the user wrote.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{FieldError, Quantity, at::At};

/// A group's pod template. KubeRay runs Ray in the first container.
pub(crate) struct PodTemplate<'a> {
    template: At<'a>,
    spec: At<'a>,
    container: At<'a>,
}

/// A value of a container's environment.
pub(crate) enum EnvValue<'a> {
    /// As written.
    Literal(&'a str),
    /// Path of a field of the pod (`valueFrom.fieldRef.fieldPath`).
    FieldOfPod(&'a str),
}

impl<'a> PodTemplate<'a> {
    /// The template of the group at `group_path`.
    pub(crate) fn of_group(group_path: &str, template: &'a Value) -> Result<Self, FieldError> {
        let template = At::new(format!("{group_path}.template"), template);
        let spec = template.require("spec")?;
        let containers = spec.require("containers")?;
        let container = containers.items()?.into_iter().next();
        let container = container.ok_or_else(|| containers.error("must hold the Ray container"))?;
        container.object()?;
        Ok(PodTemplate { template, spec, container })
    }

    /// Path of the Ray container's resources.
    pub(crate) fn resources_path(&self) -> String {
        format!("{}.resources", self.container.path())
    }

    /// `limits` or `requests` of the Ray container, in the order of their keys.
    pub(crate) fn resources(&self, kind: &str) -> Result<BTreeMap<&'a str, At<'a>>, FieldError> {
        let resources = self.container.get_in(&["resources", kind])?;
        resources.map(|at| at.entries()).transpose().map(Option::unwrap_or_default)
    }

    /// One resource of the Ray container: its limit, else its request.
    pub(crate) fn limit_or_request(&self, name: &str) -> Result<Option<At<'a>>, FieldError> {
        for kind in ["limits", "requests"] {
            if let Some(at) = self.resources(kind)?.remove(name) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The pod's node selector.
    pub(crate) fn node_selector(&self) -> Result<BTreeMap<String, String>, FieldError> {
        self.spec.text_map("nodeSelector")
    }

    /// Path of one entry of the node selector.
    pub(crate) fn node_selector_path(&self, key: &str) -> String {
        crate::at::member(&format!("{}.nodeSelector", self.spec.path()), key)
    }

    /// The pod's own labels or annotations.
    pub(crate) fn metadata(&self, kind: &str) -> Result<BTreeMap<String, String>, FieldError> {
        let metadata = self.template.get("metadata")?;
        metadata.map(|at| at.text_map(kind)).transpose().map(Option::unwrap_or_default)
    }

    /// The Ray container's environment, as far as it is literal or refers to the pod. The last entry of a name counts.
    pub(crate) fn env(&self) -> Result<BTreeMap<&'a str, EnvValue<'a>>, FieldError> {
        let mut env = BTreeMap::new();
        for (entry, value) in self.env_list()? {
            let name = entry.require("name")?.str()?;
            env.extend(value.map(|value| (name, value)));
        }
        Ok(env)
    }

    /// Every entry of the Ray container's environment, and its value where it is literal or refers to the pod.
    pub(crate) fn env_list(&self) -> Result<Vec<(At<'a>, Option<EnvValue<'a>>)>, FieldError> {
        let Some(list) = self.container.get("env")? else { return Ok(Vec::new()) };
        let mut env = Vec::new();
        for entry in list.items()? {
            entry.require("name")?.str()?;
            let value = match (entry.get("value")?, entry.get_in(&["valueFrom", "fieldRef", "fieldPath"])?) {
                (Some(value), _) => Some(EnvValue::Literal(value.str()?)),
                (None, Some(path)) => Some(EnvValue::FieldOfPod(path.str()?)),
                (None, None) => None,
            };
            env.push((entry, value));
        }
        Ok(env)
    }

    /// What kubelet does once a container has ended.
    pub(crate) fn restart_policy(&self) -> Result<Option<At<'a>>, FieldError> {
        self.spec.get("restartPolicy")
    }

    /// The Ray container.
    pub(crate) fn container(&self) -> &At<'a> {
        &self.container
    }

    /// The pod's spec.
    pub(crate) fn spec(&self) -> &At<'a> {
        &self.spec
    }

    /// The restart policies of in-place resize by resource (`resizePolicy`).
    pub(crate) fn resize_policies(&self) -> Result<Vec<(At<'a>, &'a str)>, FieldError> {
        let Some(list) = self.container.get("resizePolicy")? else { return Ok(Vec::new()) };
        let mut policies = Vec::new();
        for entry in list.items()? {
            if let (Some(resource), Some(policy)) = (entry.get("resourceName")?, entry.get("restartPolicy")?) {
                policies.push((policy, resource.str()?));
            }
        }
        Ok(policies)
    }
}

/// A quantity of 0 or more.
pub(crate) fn quantity(at: &At<'_>) -> Result<Quantity, FieldError> {
    let quantity = Quantity::from_json(at.value()).map_err(|e| at.error(e.to_string()))?;
    if quantity.is_negative() { Err(at.error("must be 0 or more")) } else { Ok(quantity) }
}
