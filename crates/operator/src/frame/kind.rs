//! The kinds of object that the operator reads and writes, as the API server spells them.

/// A kind of namespaced object.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// As it stands in paths.
    pub plural: &'static str,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $group:literal, $version:literal, $kind:literal, $plural:literal;)*) => {
        $($(#[$doc])* pub static $name: Kind = Kind { group: $group, version: $version, kind: $kind, plural: $plural };)*
        /// All of them.
        pub static ALL: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    /// A Ray cluster.
    RAY_CLUSTER = "ray.io", "v1", "RayCluster", "rayclusters";
    /// A pod.
    POD = "", "v1", "Pod", "pods";
    /// A node. It has no namespace.
    NODE = "", "v1", "Node", "nodes";
    /// A Service.
    SERVICE = "", "v1", "Service", "services";
    /// A Secret.
    SECRET = "", "v1", "Secret", "secrets";
    /// An account of pods.
    SERVICE_ACCOUNT = "", "v1", "ServiceAccount", "serviceaccounts";
    /// What may be done.
    ROLE = "rbac.authorization.k8s.io", "v1", "Role", "roles";
    /// Who may do it.
    ROLE_BINDING = "rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings";
    /// The way in from outside.
    INGRESS = "networking.k8s.io", "v1", "Ingress", "ingresses";
    /// The way in from outside, on OpenShift.
    ROUTE = "route.openshift.io", "v1", "Route", "routes";
    /// A Job.
    JOB = "batch", "v1", "Job", "jobs";
    /// A claim of storage.
    PERSISTENT_VOLUME_CLAIM = "", "v1", "PersistentVolumeClaim", "persistentvolumeclaims";
    /// Who may speak to whom.
    NETWORK_POLICY = "networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies";
    /// Work, as Kubernetes' own gang scheduling has it.
    WORKLOAD = "scheduling.k8s.io", "v1beta1", "Workload", "workloads";
    /// A gang, as Kubernetes' own gang scheduling has it.
    POD_GROUP = "scheduling.k8s.io", "v1beta1", "PodGroup", "podgroups";
    /// A gang, as Volcano has it.
    VOLCANO_POD_GROUP = "scheduling.volcano.sh", "v1beta1", "PodGroup", "podgroups";
    /// A gang, as the scheduler-plugins have it.
    PLUGINS_POD_GROUP = "scheduling.x-k8s.io", "v1alpha1", "PodGroup", "podgroups";
    /// An Event, as KubeRay 1.6 writes it.
    CORE_EVENT = "", "v1", "Event", "events";
    /// An Event, as KubeRay 1.7 writes it.
    EVENT = "events.k8s.io", "v1", "Event", "events";
    /// Who leads.
    LEASE = "coordination.k8s.io", "v1", "Lease", "leases";
}

impl Kind {
    /// `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The path of its objects in `namespace`.
    pub fn path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis/" };
        let separator = if self.group.is_empty() { "/" } else { "" };
        let group = if self.group.is_empty() { String::new() } else { format!("{}/", self.group) };
        format!("{root}{separator}{group}{}/namespaces/{namespace}/{}", self.version, self.plural)
    }

    /// The kind of an object, if the operator knows it.
    pub fn of(api_version: &str, kind: &str) -> Option<&'static Kind> {
        ALL.iter().copied().find(|known| known.kind == kind && known.api_version() == api_version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_kubernetes_own() {
        assert_eq!(POD.path("a"), "/api/v1/namespaces/a/pods");
        assert_eq!(ROLE.path("a"), "/apis/rbac.authorization.k8s.io/v1/namespaces/a/roles");
        assert_eq!(RAY_CLUSTER.api_version(), "ray.io/v1");
        assert_eq!(Kind::of("v1", "Service"), Some(&SERVICE));
        assert_eq!(Kind::of("v1", "Route"), None);
    }
}
