//! The collector of the history server, beside Ray in every pod (feature gate `RayClusterHistoryServer`).

use mobula_api::{CollectorOptions, Gate};
use serde_json::{Value, json};

use super::{
    Children,
    draft::{ContainerDraft, PodDraft},
    group::Group,
};

/// Its name.
pub(super) const COLLECTOR_CONTAINER: &str = "ray-history-collector";
/// Where it takes Ray's events.
const EVENTS_PORT: u16 = 8084;
/// Events that Ray hands out.
const EVENT_TYPES: &str = "TASK_DEFINITION_EVENT,TASK_LIFECYCLE_EVENT,ACTOR_TASK_DEFINITION_EVENT,TASK_PROFILE_EVENT,\
                           DRIVER_JOB_DEFINITION_EVENT,DRIVER_JOB_LIFECYCLE_EVENT,ACTOR_DEFINITION_EVENT,\
                           ACTOR_LIFECYCLE_EVENT,NODE_DEFINITION_EVENT,NODE_LIFECYCLE_EVENT";

impl Children<'_> {
    /// What the collector is to be like, if there is to be one.
    pub(super) fn collector(&self) -> Option<&CollectorOptions> {
        let options = self
            .cluster
            .spec
            .history_server_options
            .as_ref()
            .filter(|_| self.config.gates.has(Gate::RayClusterHistoryServer))?;
        options.collector_options.as_ref()
    }

    /// Adds the collector, if there is to be one.
    pub(super) fn add_collector(&self, group: &Group<'_>, pod: &mut PodDraft) {
        let Some(options) = self.collector() else { return };
        let default_resources = json!({
            "requests": { "cpu": "50m", "memory": "64Mi" },
            "limits": { "cpu": "200m", "memory": "256Mi" },
        });
        let mut container = ContainerDraft::new(json!({
            "name": COLLECTOR_CONTAINER,
            "image": options.image.as_deref().unwrap_or_default(),
            "imagePullPolicy": options.image_pull_policy.as_deref().unwrap_or("IfNotPresent"),
            "resources": options.resources.clone().unwrap_or(default_resources),
        }));
        container.push_field_env("POD_IP", "status.podIP");
        container.push_env("RAY_CLUSTER_NAME", &self.cluster.metadata.name);
        container.push_env("RAY_CLUSTER_NAMESPACE", self.namespace());
        container.push_env("RAY_ROLE", if group.is_head { "Head" } else { "Worker" });
        container.push_env("EVENTS_PORT", EVENTS_PORT.to_string());
        container.push_env("FQ_RAY_IP", self.head_host());
        let labels = &self.cluster.metadata.labels;
        let owner = [("OWNER_KIND", "ray.io/originated-from-crd"), ("OWNER_NAME", "ray.io/originated-from-cr-name")];
        for (variable, label) in owner {
            if let Some(value) = labels.get(label).filter(|value| !value.is_empty()) {
                container.push_env(variable, value);
            }
        }
        let named =
            |name: &str| options.env.iter().any(|entry| entry.get("name").and_then(Value::as_str) == Some(name));
        if group.is_head && !named("RAY_DASHBOARD_ADDRESS") {
            container.push_env("RAY_DASHBOARD_ADDRESS", "http://localhost:8265");
        }
        container.env.extend(options.env.iter().cloned());
        self.set_container_auth(&mut container);
        pod.others.push(container);
    }

    /// Lets Ray hand its events to the collector, if there is one.
    pub(super) fn set_collector_env(&self, pod: &mut PodDraft) {
        if self.collector().is_none() {
            return;
        }
        let address = format!("http://localhost:{EVENTS_PORT}/v1/events");
        let variables = [
            ("RAY_enable_ray_event", "true"),
            ("RAY_enable_core_worker_ray_event_to_aggregator", "true"),
            ("RAY_DASHBOARD_AGGREGATOR_AGENT_EVENTS_EXPORT_ADDR", &address),
            ("RAY_DASHBOARD_AGGREGATOR_AGENT_EXPOSABLE_EVENT_TYPES", EVENT_TYPES),
            ("RAY_DASHBOARD_AGGREGATOR_AGENT_PUBLISHER_HTTP_ENDPOINT_EXPOSABLE_EVENT_TYPES", EVENT_TYPES),
        ];
        for (name, value) in variables {
            pod.ray.add_env(name, value);
        }
    }
}
