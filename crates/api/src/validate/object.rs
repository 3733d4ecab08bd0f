//! What is wrong with an object of any kind of `ray.io`, the cluster that it brings included.

use serde_json::{Value, json};

use super::{Extent, MOST_NAME_CHARS, Rules, name};
use crate::{FieldError, Kind, RayCluster, RayCronJob, RayJob, RayService};

/// Something wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, what it holds, and what to do.
    pub error: FieldError,
    /// Whether the operator refuses the object, or a part of it; otherwise it will not work as written.
    pub is_fatal: bool,
    /// Whether all that is refused is a part of the object.
    pub is_of_part: bool,
}

impl Fault {
    /// Something that is refused.
    pub fn fatal(error: FieldError) -> Self {
        Fault { error, is_fatal: true, is_of_part: false }
    }

    /// Something that is allowed and will not work.
    pub fn advice(error: FieldError) -> Self {
        Fault { error, is_fatal: false, is_of_part: false }
    }
}

impl Kind {
    /// Everything wrong with an object that is as its definition says ([`Kind::misfits`] tells): first what can't be read,
    /// then what the operator refuses, then what would show at run time only.
    pub fn faults(self, object: &Value, rules: &Rules) -> Vec<Fault> {
        let (read, cluster, most_name_chars) = match self {
            Kind::RayCluster => return cluster_faults(object, "", rules),
            // Names of clusters, jobs and services are derived from these: KubeRay's limits.
            Kind::RayJob => (RayJob::from_value(object).map(|_| ()), "/spec/rayClusterSpec", 47),
            Kind::RayService => (RayService::from_value(object).map(|_| ()), "/spec/rayClusterConfig", 47),
            Kind::RayCronJob => (RayCronJob::from_value(object).map(|_| ()), "/spec/jobTemplate/rayClusterSpec", 36),
        };
        debug_assert!(most_name_chars < MOST_NAME_CHARS);
        let named = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let mut faults: Vec<Fault> = read.err().map(Fault::fatal).into_iter().collect();
        faults.extend(name("metadata.name", named, most_name_chars).map(Fault::fatal));
        faults.extend(cluster_faults(object, cluster, rules));
        faults
    }
}

/// What is wrong with the cluster that an object is or brings; `pointer`: where its spec is, empty if it is one.
fn cluster_faults(object: &Value, pointer: &str, rules: &Rules) -> Vec<Fault> {
    let is_cluster = pointer.is_empty();
    let document = if is_cluster {
        object.clone()
    } else {
        let Some(spec) = object.pointer(pointer).filter(|spec| !spec.is_null()) else { return Vec::new() };
        // Its metadata will be the operator's; of the owner's only annotations matter.
        let annotations = object.pointer("/metadata/annotations").cloned().unwrap_or_default();
        json!({"metadata": {"name": "owned", "annotations": annotations}, "spec": spec})
    };
    let moved = |mut error: FieldError| {
        if let Some(rest) = error.field.strip_prefix("spec").filter(|_| !is_cluster) {
            error.field = format!("{}{rest}", pointer.trim_start_matches('/').replace('/', "."));
        }
        error
    };
    let cluster = match RayCluster::from_value(document) {
        Ok(cluster) => cluster,
        Err(error) => return vec![Fault::fatal(moved(error))],
    };
    let mut faults: Vec<Fault> = cluster
        .validate(rules)
        .into_iter()
        .map(|finding| Fault {
            error: moved(finding.error),
            is_fatal: finding.refused != Extent::None,
            is_of_part: finding.refused == Extent::Part,
        })
        .chain(cluster.advice().into_iter().map(|error| Fault::advice(moved(error))))
        .collect();
    if cluster.spec.enable_in_tree_autoscaling == Some(true) {
        faults.extend(cluster.group_shapes().err().map(|error| Fault::advice(moved(error))));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fatal(kind: Kind, object: &Value) -> Vec<String> {
        let faults = kind.faults(object, &Rules::default());
        faults.into_iter().filter(|fault| fault.is_fatal).map(|fault| fault.error.to_string()).collect()
    }

    #[test]
    fn names_leave_room_for_what_is_derived_from_them() {
        let job =
            |length: usize| json!({"metadata": {"name": "j".repeat(length)}, "spec": {"clusterSelector": {"a": "b"}}});
        assert_eq!(fatal(Kind::RayJob, &job(47)), Vec::<String>::new());
        let refused = fatal(Kind::RayJob, &job(48)).join("; ");
        assert!(refused.contains("metadata.name") && refused.contains("at most 47"), "{refused}");
    }

    #[test]
    fn the_cluster_of_a_service_is_looked_at_in_its_place() {
        let group = json!({"groupName": "w", "template": {"spec": {"containers": [{"name": "ray"}]}}, "minReplicas": 0, "maxReplicas": 1});
        let spec = json!({
            "headGroupSpec": {"template": {"spec": {"containers": [{"name": "ray"}]}}},
            "workerGroupSpecs": [group.clone(), group],
        });
        let service = json!({"metadata": {"name": "s"}, "spec": {"rayClusterConfig": spec}});
        let refused = fatal(Kind::RayService, &service);
        assert!(
            refused.iter().any(|fault| fault.starts_with("spec.rayClusterConfig.workerGroupSpecs[1].groupName")),
            "{refused:?}"
        );
    }
}
