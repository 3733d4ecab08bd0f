//! The autoscaler's container in the head pod.

use mobula_api::{Compat, FieldError, keys};
use serde_json::{Value, json};

use super::{
    Children,
    command::shell,
    draft::{ContainerDraft, take_objects},
    env::CLUSTER_FIELD,
};

/// Its name.
pub(super) const AUTOSCALER_CONTAINER: &str = "autoscaler";
/// What the shell runs. The operator's image stands in for `ray` here.
const START: &str =
    "ray kuberay-autoscaler --cluster-name $(RAY_CLUSTER_NAME) --cluster-namespace $(RAY_CLUSTER_NAMESPACE)";

impl Children<'_> {
    /// Whether an autoscaler decides about replicas.
    pub fn is_autoscaled(&self) -> bool {
        self.cluster.spec.enable_in_tree_autoscaling == Some(true)
    }

    /// Version of the autoscaler that the user asks for: `v1`, `v2`, or nothing.
    pub(super) fn autoscaler_version(&self) -> Option<&str> {
        self.cluster.spec.autoscaler_options.as_ref()?.version.as_deref()
    }

    /// The operator's own image for the autoscaler, where neither the user names an image nor asks for Ray's autoscaler.
    pub(super) fn own_autoscaler_image(&self) -> Option<&str> {
        let options = self.cluster.spec.autoscaler_options.as_ref();
        let named = options.is_some_and(|options| options.image.is_some());
        let rays = self.cluster.metadata.annotations.get(keys::AUTOSCALER).is_some_and(|choice| choice == "ray");
        // Version 1 has no counterpart: who asks for it gets Ray's.
        let old = self.autoscaler_version() == Some("v1");
        self.config.autoscaler.image.as_deref().filter(|_| !named && !rays && !old)
    }

    /// The autoscaler's container. `ray`: the head's Ray container.
    pub(super) fn autoscaler_container(&self, ray: &ContainerDraft) -> Result<ContainerDraft, FieldError> {
        let resources = json!({ "cpu": "500m", "memory": "512Mi" });
        let fields = json!({
            "name": AUTOSCALER_CONTAINER,
            "imagePullPolicy": "IfNotPresent",
            "resources": { "limits": resources, "requests": resources },
        });
        let mut container = ContainerDraft::new(fields).with_fields_of(ray, &["image"]);
        if let Some(image) = self.own_autoscaler_image() {
            container.set("image", image);
        }
        container.command = shell(self.config);
        container.args = vec![START.to_owned()];
        container.push_field_env("RAY_CLUSTER_NAME", CLUSTER_FIELD);
        container.push_field_env("RAY_CLUSTER_NAMESPACE", "metadata.namespace");
        container.push_field_env("RAY_HEAD_POD_NAME", "metadata.name");
        container.push_env("KUBERAY_CRD_VER", "v1");
        if self.config.compat >= Compat::V1_7 {
            container.push_env("KUBERAY_GEN_AUTOSCALER_START_CMD", START);
        }
        self.set_container_auth(&mut container);
        self.override_autoscaler(&mut container)?;
        Ok(container)
    }

    /// Puts `autoscalerOptions` over the container.
    fn override_autoscaler(&self, container: &mut ContainerDraft) -> Result<(), FieldError> {
        let Some(options) = &self.cluster.spec.autoscaler_options else { return Ok(()) };
        let texts = [("image", &options.image), ("imagePullPolicy", &options.image_pull_policy)];
        for (key, text) in texts {
            if let Some(text) = text {
                container.set(key, text.as_str());
            }
        }
        let values = [("resources", &options.resources), ("securityContext", &options.security_context)];
        for (key, value) in values {
            if let Some(value) = value {
                container.set(key, value.clone());
            }
        }
        let list = |key: &str, list: &Vec<Value>| {
            take_objects(format_args!("spec.autoscalerOptions.{key}"), Some(Value::Array(list.clone())))
        };
        container.env.extend(list("env", &options.env)?);
        container.volume_mounts.extend(list("volumeMounts", &options.volume_mounts)?);
        if !options.env_from.is_empty() {
            container.set("envFrom", list("envFrom", &options.env_from)?);
        }
        // 1.6.2 does not know these two fields; a cluster that has them was written for 1.7.
        if !options.command.is_empty() {
            container.command.clone_from(&options.command);
        }
        if !options.args.is_empty() {
            container.args.clone_from(&options.args);
        }
        Ok(())
    }
}
