//! Head and worker pods.

use std::collections::BTreeMap;

use mobula_api::{Compat, FieldError, Gate, WorkerGroupSpec, keys};
use serde_json::{Map, Value, json};

use super::{
    Children, Slot,
    autoscaler::AUTOSCALER_CONTAINER,
    collector::COLLECTOR_CONTAINER,
    command,
    draft::{ContainerDraft, PodDraft},
    env::Origin,
    group::Group,
    schedulers, volumes,
};
use crate::{
    frame::{
        gang_pod::{GANG, GATE},
        pod::{OPERATOR_VERSION, SPEC_HASH},
    },
    gangs,
    names::{self, check_label, check_name},
};

/// Annotation: the command of the Ray container is left as the user wrote it.
const OVERWRITE_COMMAND: &str = "ray.io/overwrite-container-cmd";
/// Lets a pod wait for the rest of its gang.
fn gate(pod: &mut Value, gang: &str) {
    pod["metadata"]["annotations"][GANG] = json!(gang);
    match pod["spec"]["schedulingGates"].as_array_mut() {
        Some(gates) => gates.push(json!({"name": GATE})),
        None => pod["spec"]["schedulingGates"] = json!([{"name": GATE}]),
    }
}

/// Labels that a template can't change: the operator finds pods by them.
const FIXED_LABELS: [&str; 3] = [keys::NODE_TYPE, keys::GROUP, keys::CLUSTER];

impl Children<'_> {
    /// The name of every head pod of the cluster, where that is not made up: by configuration, or by the head's template, whose
    /// name counts where that of a worker's does not.
    pub fn head_pod_name(&self) -> Option<String> {
        let cluster = self.cluster;
        if self.config.pods.plain_head_name {
            return Some(names::plain_head_pod_name(&cluster.metadata.name));
        }
        let name = cluster.spec.head_group_spec.template.pointer("/metadata/name").and_then(Value::as_str);
        name.filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// The head pod.
    ///
    /// # Errors
    /// Names the field of the template that can't be used.
    pub fn head_pod(&self, name: &str) -> Result<Value, FieldError> {
        let mut pod = self.head_draft()?;
        pod.annotations.insert(SPEC_HASH.to_owned(), self.spec_hash());
        pod.annotations.insert(OPERATOR_VERSION.to_owned(), self.config.version());
        schedulers::mark(self, &Group::head(self.cluster), &mut pod)?;
        Ok(self.pod(name, pod.into_template()))
    }

    /// A worker pod of the group.
    ///
    /// # Errors
    /// Names the field of the template that can't be used.
    pub fn worker_pod(&self, group: &WorkerGroupSpec, slot: &Slot, name: &str) -> Result<Value, FieldError> {
        let group_of_spec = Group::workers(self.cluster, group);
        let mut pod = group_of_spec.draft()?;
        self.add_wait(&mut pod);
        let mut params = command::start_params(&group_of_spec, &self.gcs_address());
        self.set_labels(&group_of_spec, &mut pod);
        self.set_slot(group, slot, &mut pod);
        self.copy_overwrite(&mut pod);
        self.set_worker_fault_tolerance(&mut pod);
        add_metrics_port(&mut pod.ray);
        if self.is_autoscaled() && self.autoscaler_version() == Some("v2") {
            pod.set_spec("restartPolicy", "Never");
        }
        self.set_auth(&mut pod);
        self.add_collector(&group_of_spec, &mut pod);
        self.finish(&group_of_spec, &mut pod, &mut params)?;
        schedulers::mark(self, &group_of_spec, &mut pod)?;
        let mut pod = self.pod(name, pod.into_template());
        if gangs::admits(self.cluster, self.config) {
            gate(&mut pod, &group.group_name);
        }
        Ok(pod)
    }

    /// The head pod before it has a name, and before it is told from other head pods.
    pub(super) fn head_draft(&self) -> Result<PodDraft, FieldError> {
        let group = Group::head(self.cluster);
        let mut pod = group.draft()?;
        let mut params = command::start_params(&group, "");
        self.set_labels(&group, &mut pod);
        self.copy_overwrite(&mut pod);
        if self.is_autoscaled() {
            params.insert("no-monitor".to_owned(), "true".to_owned());
            let account = check_name(&self.service_account_name());
            pod.set_spec("serviceAccountName", account);
            let autoscaler = self.autoscaler_container(&pod.ray)?;
            pod.others.push(autoscaler);
            self.set_autoscaler_version(&mut pod);
        }
        self.set_head_fault_tolerance(&mut pod, &mut params);
        add_metrics_port(&mut pod.ray);
        self.set_auth(&mut pod);
        self.add_collector(&group, &mut pod);
        self.finish(&group, &mut pod, &mut params)?;
        Ok(pod)
    }

    /// What head and workers have in common, once their containers are there.
    fn finish(
        &self,
        group: &Group<'_>,
        pod: &mut PodDraft,
        params: &mut BTreeMap<String, String>,
    ) -> Result<(), FieldError> {
        self.add_configured(group, pod)?;
        if self.origin() == Origin::Service {
            let serves = if group.is_head { "false" } else { "true" };
            pod.labels.insert("ray.io/serve".to_owned(), serves.to_owned());
        }
        if !params.contains_key("plasma-directory") {
            volumes::add_shared_memory(pod, &group.ray_path())?;
        }
        if group.is_head && self.is_autoscaled() {
            volumes::share_logs(pod, AUTOSCALER_CONTAINER);
        }
        if self.collector().is_some() {
            volumes::share_logs(pod, COLLECTOR_CONTAINER);
        }
        command::add_container_resources(params, &group.ray_path(), &pod.ray)?;
        let ray_start = command::ray_start(self.config, group.is_head, params);
        let left_alone = pod.annotations.get(OVERWRITE_COMMAND).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        command::set_command(self.config, &mut pod.ray, &ray_start, left_alone);
        self.set_init_env(pod);
        self.set_env(group, &mut pod.ray, &ray_start);
        self.set_collector_env(pod);
        self.set_probes(group, &mut pod.ray, params);
        Ok(())
    }

    /// Adds containers, annotations and labels of the operator's configuration.
    fn add_configured(&self, group: &Group<'_>, pod: &mut PodDraft) -> Result<(), FieldError> {
        let config = &self.config.pods;
        let (field, sidecars) = match group.is_head {
            true => ("headSidecarContainers", &config.head_sidecars),
            false => ("workerSidecarContainers", &config.worker_sidecars),
        };
        for (index, sidecar) in sidecars.iter().enumerate() {
            pod.others.push(ContainerDraft::from_value(format_args!("{field}[{index}]"), sidecar)?);
        }
        for (key, value) in &config.default_annotations {
            pod.annotations.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for (key, value) in &config.default_labels {
            pod.labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Ok(())
    }

    /// The operator's labels, then the template's, then the group's; three are the operator's alone.
    fn set_labels(&self, group: &Group<'_>, pod: &mut PodDraft) {
        let cluster = &self.cluster.metadata.name;
        let node_type = if group.is_head { keys::NODE_TYPE_HEAD } else { keys::NODE_TYPE_WORKER };
        let identifier = check_label(&format!("{cluster}-{node_type}"));
        let own = [
            (keys::IS_RAY_NODE, "yes"),
            (keys::CLUSTER, cluster),
            (keys::NODE_TYPE, node_type),
            (keys::GROUP, group.name),
            ("ray.io/identifier", &identifier),
            ("app.kubernetes.io/name", "kuberay"),
            (keys::CREATED_BY, keys::CREATED_BY_OPERATOR),
        ];
        let mut labels: BTreeMap<String, String> =
            own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let overrides = std::mem::take(&mut pod.labels).into_iter().chain(group.labels.clone());
        labels.extend(overrides.filter(|(key, _)| !FIXED_LABELS.contains(&key.as_str())));
        pod.labels = labels;
    }

    fn set_slot(&self, group: &WorkerGroupSpec, slot: &Slot, pod: &mut PodDraft) {
        if !self.config.gates.has(Gate::RayMultiHostIndexing) {
            return;
        }
        let mut label = |key: &str, value: String| pod.labels.insert(key.to_owned(), value);
        label(keys::REPLICA_INDEX, slot.replica.to_string());
        if group.num_of_hosts.unwrap_or(1) > 1 {
            label(keys::REPLICA_NAME, slot.replica_name.clone().unwrap_or_default());
            label(keys::REPLICA_HOST_INDEX, slot.host.to_string());
        }
    }

    fn copy_overwrite(&self, pod: &mut PodDraft) {
        let annotation = self.cluster.metadata.annotations.get(OVERWRITE_COMMAND);
        if annotation.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            pod.annotations.insert(OVERWRITE_COMMAND.to_owned(), "true".to_owned());
        }
    }

    fn set_autoscaler_version(&self, pod: &mut PodDraft) {
        let variable = "RAY_enable_autoscaler_v2";
        match self.autoscaler_version() {
            Some("v2") => {
                pod.ray.push_env(variable, "true");
                // A node that starts again under its old identity would confuse the autoscaler.
                pod.set_spec("restartPolicy", "Never");
            }
            Some("v1") if self.config.compat >= Compat::V1_7 => pod.ray.push_env(variable, "false"),
            _ => {}
        }
    }

    fn pod(&self, name: &str, template: Map<String, Value>) -> Value {
        let mut pod = template;
        let metadata = self.metadata(name, Value::Null);
        if let (Some(Value::Object(own)), Value::Object(metadata)) = (pod.get_mut("metadata"), metadata) {
            own.extend(metadata);
        }
        pod.insert("apiVersion".to_owned(), json!("v1"));
        pod.insert("kind".to_owned(), json!("Pod"));
        Value::Object(pod)
    }
}

/// Prometheus finds the port by its name.
fn add_metrics_port(ray: &mut ContainerDraft) {
    if ray.port("metrics").is_none() {
        ray.ports.push(json!({ "name": "metrics", "containerPort": 8080 }));
    }
}
