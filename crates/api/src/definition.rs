//! The custom resource definitions of `ray.io`, made from the types of this crate.
//!
//! A superset of KubeRay's: the fields of 1.7 exist, and those by which an idle cluster ends. `tests/` compares them with
//! KubeRay's field by field.

use serde_json::{Value, json};

use crate::{
    RayClusterSpec, RayClusterStatus, object::Field as _, raycronjob::RayCronJobSpec, raycronjob::RayCronJobStatus,
    rayjob::RayJobSpec, rayjob::RayJobStatus, rayservice::RayServiceSpec, rayservice::RayServiceStatus, schema::open,
};

/// A kind of `ray.io`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A cluster.
    RayCluster,
    /// A job and its cluster.
    RayJob,
    /// Serve applications and their cluster.
    RayService,
    /// A job at every tick of a schedule.
    RayCronJob,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 4] = [Kind::RayCluster, Kind::RayJob, Kind::RayService, Kind::RayCronJob];

    /// As in `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::RayCluster => "RayCluster",
            Kind::RayJob => "RayJob",
            Kind::RayService => "RayService",
            Kind::RayCronJob => "RayCronJob",
        }
    }

    /// As in paths of the API: `rayclusters`.
    pub fn plural(self) -> String {
        format!("{}s", self.singular())
    }

    fn singular(self) -> String {
        self.as_str().to_ascii_lowercase()
    }

    /// The schema of `v1`.
    pub fn schema(self) -> Value {
        let (spec, status) = match self {
            Kind::RayCluster => (RayClusterSpec::schema(), RayClusterStatus::schema()),
            Kind::RayJob => (RayJobSpec::schema(), RayJobStatus::schema()),
            Kind::RayService => (RayServiceSpec::schema(), RayServiceStatus::schema()),
            Kind::RayCronJob => (RayCronJobSpec::schema(), RayCronJobStatus::schema()),
        };
        root(self.described(), &spec.into_value(), &status.into_value())
    }

    fn described(self) -> &'static str {
        match self {
            Kind::RayCluster => "A Ray cluster: a head and groups of workers.",
            Kind::RayJob => "A Ray job, and the cluster that it runs on.",
            Kind::RayService => "Serve applications, and the clusters that they run on.",
            Kind::RayCronJob => "A RayJob at every tick of a schedule.",
        }
    }

    /// The definition, as it is applied to a cluster.
    pub fn definition(self) -> Value {
        let mut versions = vec![json!({
            "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
            "additionalPrinterColumns": self.columns(),
            "schema": {"openAPIV3Schema": self.schema()},
        })];
        if self != Kind::RayCronJob {
            versions.push(self.v1alpha1());
        }
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{}.ray.io", self.plural())},
            "spec": {
                "group": "ray.io",
                "scope": "Namespaced",
                "names": {
                    "kind": self.as_str(), "listKind": format!("{}List", self.as_str()),
                    "plural": self.plural(), "singular": self.singular(), "categories": ["all"],
                },
                "versions": versions,
            },
        })
    }

    /// The old version. It has no conversion, so what is written through it is read as v1: everything is let through, and
    /// what v1 does not know is dropped there. A schema of its own would double the size and lose the fields of v1.
    fn v1alpha1(self) -> Value {
        let mut version = json!({
            "name": "v1alpha1", "served": true, "storage": false, "subresources": {"status": {}},
            "deprecated": true,
            "deprecationWarning": format!("ray.io/v1alpha1 {kind} is deprecated: use ray.io/v1 {kind}", kind = self.as_str()),
            "schema": {"openAPIV3Schema": root(self.described(), &open().into_value(), &open().into_value())},
        });
        if self == Kind::RayCluster {
            version["additionalPrinterColumns"] = self.columns();
        }
        version
    }

    /// What `kubectl get` shows.
    fn columns(self) -> Value {
        let column = |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path});
        let wide = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path, "priority": 1});
        let age = || column("age", "date", ".metadata.creationTimestamp");
        match self {
            Kind::RayCluster => json!([
                column("desired workers", "integer", ".status.desiredWorkerReplicas"),
                column("available workers", "integer", ".status.availableWorkerReplicas"),
                column("cpus", "string", ".status.desiredCPU"),
                column("memory", "string", ".status.desiredMemory"),
                column("gpus", "string", ".status.desiredGPU"),
                wide("tpus", ".status.desiredTPU"),
                column("status", "string", ".status.state"),
                age(),
                wide("head pod IP", ".status.head.podIP"),
                wide("head service IP", ".status.head.serviceIP"),
            ]),
            Kind::RayJob => json!([
                column("job status", "string", ".status.jobStatus"),
                column("deployment status", "string", ".status.jobDeploymentStatus"),
                column("ray cluster name", "string", ".status.rayClusterName"),
                column("start time", "string", ".status.startTime"),
                column("end time", "string", ".status.endTime"),
                age(),
            ]),
            Kind::RayService => json!([
                column("service status", "string", ".status.serviceStatus"),
                column("num serve endpoints", "string", ".status.numServeEndpoints"),
            ]),
            Kind::RayCronJob => json!([
                column("schedule", "string", ".spec.schedule"),
                column("timezone", "string", ".spec.timeZone"),
                column("last schedule", "date", ".status.lastScheduleTime"),
                age(),
                column("suspend", "boolean", ".spec.suspend"),
            ]),
        }
    }
}

fn root(description: &str, spec: &Value, status: &Value) -> Value {
    json!({
        "description": description,
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
            "spec": spec, "status": status,
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::Kind;
    use crate::schema::unresolved;

    #[test]
    fn every_type_of_kubernetes_is_known() {
        assert_eq!(unresolved(), [""; 0]);
        // A name that nothing explains would be an object without fields: only v1alpha1 has such.
        for kind in Kind::ALL {
            assert_eq!(open_objects(&kind.schema()), 0, "{kind:?}");
        }
    }

    fn open_objects(schema: &Value) -> usize {
        let Some(members) = schema.as_object() else { return 0 };
        let keeps = members.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        usize::from(keeps && !members.contains_key("properties")) + members.values().map(open_objects).sum::<usize>()
    }

    /// `kubectl apply` keeps the definition in an annotation, of which there may be 256 KiB.
    #[test]
    fn every_definition_is_small_enough_to_be_applied() {
        for kind in Kind::ALL {
            let bytes = kind.definition().to_string().len();
            assert!(bytes < 256 * 1024, "{kind:?}: {bytes} bytes");
        }
    }
}
