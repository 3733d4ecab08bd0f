//! Services: of the head, of workers that talk to each other, of Serve.

use std::collections::BTreeMap;

use mobula_api::{FieldError, keys};
use serde_json::{Map, Value, json};

use super::{
    Children,
    draft::{PodDraft, insert_unless_empty, take_objects, take_text_map},
    group::Group,
};
use crate::names::check_label;

/// Ports where the Ray container names none.
const DEFAULT_PORTS: [(&str, i64); 5] =
    [("client", 10001), ("gcs-server", 6379), ("dashboard", 8265), ("metrics", 8080), ("serve", 8000)];
/// Port of the dashboard.
pub(super) const DASHBOARD_PORT: i64 = 8265;

impl Children<'_> {
    /// The Service of the head.
    ///
    /// # Errors
    /// Names the field of the template or of the user's own Service that can't be used.
    pub fn head_service(&self) -> Result<Option<Value>, FieldError> {
        let head = &self.cluster.spec.head_group_spec;
        let draft = Group::head(self.cluster).draft()?;
        let selector = json!(self.head_selector(&draft));
        let port = |(name, port)| json!({ "name": name, "port": port, "appProtocol": "tcp" });
        let ports: Vec<Value> = self.ports_of(&draft)?.into_iter().map(port).collect();
        let annotations = json!(self.cluster.spec.head_service_annotations);
        if let Some(own) = &head.head_service {
            return self.own_head_service(&draft, own, selector, ports).map(Some);
        }
        let service_type = head.service_type.as_deref().unwrap_or_default();
        let mut spec = Map::from_iter([("selector".to_owned(), selector.clone()), ("ports".to_owned(), json!(ports))]);
        insert_unless_empty(&mut spec, "type", json!(service_type));
        if !self.config.head_service_has_cluster_ip && ["", "ClusterIP"].contains(&service_type) {
            // One head pod: its address is the Service's. Workers must find it before it is ready.
            spec.insert("clusterIP".to_owned(), json!("None"));
            spec.insert("publishNotReadyAddresses".to_owned(), json!(true));
        }
        let mut metadata = self.metadata(&self.cluster.head_service_name(), selector);
        if let Some(metadata) = metadata.as_object_mut() {
            insert_unless_empty(metadata, "annotations", annotations);
        }
        Ok(Some(service(&metadata, &Value::Object(spec))))
    }

    /// The head Service as the user shaped it, with what the operator needs of it.
    fn own_head_service(
        &self,
        draft: &PodDraft,
        own: &Value,
        selector: Value,
        ports: Vec<Value>,
    ) -> Result<Value, FieldError> {
        let path = "spec.headGroupSpec.headService";
        let object = |key: &str| match own.get(key) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(object)) => Ok(object.clone()),
            Some(other) => Err(FieldError::new(format!("{path}.{key}"), other.to_string(), "must be an object")),
        };
        let (mut own_metadata, mut spec) = (object("metadata")?, object("spec")?);
        let mut map = |key: &str| take_text_map(format_args!("{path}.metadata.{key}"), own_metadata.remove(key));
        let (mut labels, mut annotations) = (map("labels")?, map("annotations")?);
        labels.extend(self.head_selector(draft));
        annotations.extend(self.cluster.spec.head_service_annotations.clone());

        let mut all_ports = take_objects(format_args!("{path}.spec.ports"), spec.remove("ports"))?;
        all_ports.extend(ports);
        spec.insert("ports".to_owned(), json!(all_ports));
        spec.insert("selector".to_owned(), selector);
        if spec.get("type").and_then(Value::as_str).unwrap_or_default().is_empty() {
            spec.remove("type");
            let default = self.cluster.spec.head_group_spec.service_type.as_deref();
            insert_unless_empty(&mut spec, "type", json!(default));
        }
        own_metadata.retain(|key, _| !["creationTimestamp", "uid", "resourceVersion"].contains(&key.as_str()));
        if let Value::Object(metadata) = self.metadata(&self.cluster.head_service_name(), json!(labels)) {
            own_metadata.extend(metadata);
        }
        insert_unless_empty(&mut own_metadata, "annotations", json!(annotations));
        Ok(service(&Value::Object(own_metadata), &Value::Object(spec)))
    }

    /// The Service by which workers of one replica find each other, where a group has replicas of several hosts.
    ///
    /// # Errors
    /// Never so far.
    pub fn headless_service(&self) -> Result<Option<Value>, FieldError> {
        if !self.cluster.spec.worker_group_specs.iter().any(|group| group.num_of_hosts.unwrap_or(1) > 1) {
            return Ok(None);
        }
        let cluster = &self.cluster.metadata.name;
        let metadata = self.metadata(&format!("{cluster}-headless"), json!({ "ray.io/headless-worker-svc": cluster }));
        let spec = json!({
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": { keys::CLUSTER: cluster, keys::NODE_TYPE: keys::NODE_TYPE_WORKER },
        });
        Ok(Some(service(&metadata, &spec)))
    }

    /// The Service of Serve, where the RayCluster asks for one by annotation.
    ///
    /// # Errors
    /// The Ray container has no port for it.
    pub fn serve_service(&self) -> Result<Option<Value>, FieldError> {
        if self.cluster.metadata.annotations.get(keys::ENABLE_SERVE_SERVICE).map(String::as_str) != Some("true") {
            return Ok(None);
        }
        let ports = self.head_ports()?.into_iter().filter(|(name, _)| name == "serve" || name.starts_with("serve-"));
        let ports: Vec<Value> = ports.map(|(name, port)| json!({ "name": name, "port": port })).collect();
        if ports.is_empty() {
            let problem = "must hold a port called serve, or serve-…, for the Service of Serve that is asked for by the \
                           annotation ray.io/enable-serve-service";
            let field = format!("{}.ports", Group::head(self.cluster).ray_path());
            return Err(FieldError::missing(field, problem));
        }
        let cluster = &self.cluster.metadata.name;
        let labels = json!({
            "ray.io/originated-from-cr-name": cluster,
            keys::ORIGINATED_FROM_CRD: "RayCluster",
            "ray.io/serve": format!("{cluster}-serve"),
        });
        let metadata = self.metadata(&format!("{cluster}-serve-svc"), labels);
        let mut spec = Map::from_iter([
            ("selector".to_owned(), json!({ keys::CLUSTER: cluster })),
            ("ports".to_owned(), json!(ports)),
        ]);
        let service_type = self.cluster.spec.head_group_spec.service_type.as_deref();
        insert_unless_empty(&mut spec, "type", json!(service_type));
        Ok(Some(service(&metadata, &Value::Object(spec))))
    }

    /// Labels that the head pod is found by. Its template may change one of them.
    fn head_selector(&self, head: &PodDraft) -> BTreeMap<String, String> {
        let cluster = &self.cluster.metadata.name;
        let name_key = "app.kubernetes.io/name";
        let labels = [
            (keys::CLUSTER, cluster.clone()),
            (keys::NODE_TYPE, keys::NODE_TYPE_HEAD.to_owned()),
            ("ray.io/identifier", check_label(&format!("{cluster}-head"))),
            (name_key, head.labels.get(name_key).cloned().unwrap_or_else(|| "kuberay".to_owned())),
            (keys::CREATED_BY, keys::CREATED_BY_OPERATOR.to_owned()),
        ];
        labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// Ports of the head by name: those of the Ray container, else Ray's own; one of the name `metrics` always.
    pub(super) fn head_ports(&self) -> Result<BTreeMap<String, i64>, FieldError> {
        self.ports_of(&Group::head(self.cluster).draft()?)
    }

    fn ports_of(&self, head: &PodDraft) -> Result<BTreeMap<String, i64>, FieldError> {
        let group = Group::head(self.cluster);
        let mut ports = BTreeMap::new();
        for (index, port) in head.ray.ports.iter().enumerate() {
            let number = port.get("containerPort").and_then(Value::as_i64).ok_or_else(|| {
                let field = format!("{}.ports[{index}].containerPort", group.ray_path());
                FieldError::missing(field, "must be the number of a port")
            })?;
            let name = port.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
            ports.insert(name.map_or_else(|| format!("{number}-port"), str::to_owned), number);
        }
        if ports.is_empty() {
            ports = DEFAULT_PORTS.map(|(name, port)| (name.to_owned(), port)).into();
        }
        ports.entry("metrics".to_owned()).or_insert(8080);
        Ok(ports)
    }
}

fn service(metadata: &Value, spec: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec })
}
