//! How the dashboard is reached from outside: an Ingress, or an OpenShift Route.

use mobula_api::{Compat, FieldError, keys};
use serde_json::{Map, Value, json};

use super::{Children, draft::insert_unless_empty, services::DASHBOARD_PORT};
use crate::names::{check_label, check_name, check_route_name};

/// Annotation of a RayCluster: class of its Ingress.
const CLASS: &str = "kubernetes.io/ingress.class";

impl Children<'_> {
    /// The Ingress (or the Route) of the dashboard.
    ///
    /// # Errors
    /// Names the field of the head's template that can't be used.
    pub fn ingress(&self) -> Result<Option<Value>, FieldError> {
        if self.cluster.spec.head_group_spec.enable_ingress != Some(true) {
            return Ok(None);
        }
        let port = self.head_ports()?.get("dashboard").copied().unwrap_or(DASHBOARD_PORT);
        Ok(Some(if self.config.routes { self.route(port) } else { self.kubernetes_ingress(port) }))
    }

    fn kubernetes_ingress(&self, port: i64) -> Value {
        let name = &self.cluster.metadata.name;
        let options = self.cluster.spec.head_group_spec.ingress_options.clone().unwrap_or_default();
        // Before 1.7 the path was the cluster's own, and there was nothing to choose.
        let (default_path, default_type) = match self.config.compat {
            Compat::V1_6 => (format!("/{name}/(.*)"), "Exact"),
            Compat::V1_7 => ("/".to_owned(), "Prefix"),
        };
        let backend = json!({ "service": { "name": self.cluster.head_service_name(), "port": { "number": port } } });
        let path = json!({
            "path": options.path.unwrap_or(default_path),
            "pathType": options.path_type.as_deref().unwrap_or(default_type),
            "backend": backend,
        });
        let mut rule = Map::from_iter([("http".to_owned(), json!({ "paths": [path] }))]);
        insert_unless_empty(&mut rule, "host", json!(options.host));
        let mut spec = Map::from_iter([("rules".to_owned(), json!([rule]))]);
        insert_unless_empty(&mut spec, "tls", json!(options.tls));
        if let Some(class) = self.cluster.metadata.annotations.get(CLASS) {
            spec.insert("ingressClassName".to_owned(), json!(class));
        }
        let full_name = check_name(&format!("{name}-head-ingress"));
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": self.dashboard_metadata(&full_name, &[CLASS]),
            "spec": spec,
        })
    }

    fn route(&self, port: i64) -> Value {
        let name = check_route_name(&format!("{}-head-route", self.cluster.metadata.name), self.namespace());
        let service = self.cluster.head_service_name();
        json!({
            "apiVersion": "route.openshift.io/v1",
            "kind": "Route",
            "metadata": self.dashboard_metadata(&name, &[]),
            "spec": {
                "to": { "kind": "Service", "name": service, "weight": 100 },
                "port": { "targetPort": port },
                "wildcardPolicy": "None",
            },
        })
    }

    /// The cluster's annotations go along, except those named: that is how users tune what they get.
    fn dashboard_metadata(&self, name: &str, without: &[&str]) -> Value {
        let cluster = &self.cluster.metadata.name;
        let labels = json!({
            "ray.io/cluster": cluster,
            "ray.io/identifier": check_label(&format!("{cluster}-head")),
            "app.kubernetes.io/name": "kuberay",
            keys::CREATED_BY: keys::CREATED_BY_OPERATOR,
        });
        let mut annotations = self.cluster.metadata.annotations.clone();
        // What Mobula notes on a RayCluster changes with every plan, and is for nobody outside.
        annotations.retain(|key, _| !without.contains(&key.as_str()) && !key.starts_with("mobula.dev/"));
        let mut metadata = self.metadata(name, labels);
        if let Some(metadata) = metadata.as_object_mut() {
            insert_unless_empty(metadata, "annotations", json!(annotations));
        }
        metadata
    }
}
