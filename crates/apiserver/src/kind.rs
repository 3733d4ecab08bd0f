//! The table of kinds: what the server serves, and how each kind behaves.

use std::time::Duration;

const NAMESPACED: u8 = 1;
const STATUS: u8 = 2;
const GENERATION: u8 = 4;
/// A delete is answered by the object.
const RETURNS: u8 = 8;
/// Belongs to a definition (CRD).
const CUSTOM: u8 = 16;
/// `--event-ttl` of a real server, unless it is set.
const EVENT_TTL: Duration = Duration::from_secs(3_600);
const CUSTOM_WITH_STATUS: u8 = NAMESPACED | STATUS | GENERATION | CUSTOM;

/// A kind of object, and how the server treats its objects.
///
/// ```
/// use mobula_apiserver::Kind;
/// let kind = Kind::custom("example.com", "v1", "Widget");
/// assert_eq!((kind.plural.as_str(), kind.qualified_plural()), ("widgets", "widgets.example.com".to_owned()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: String,
    /// Version within the group.
    pub version: String,
    /// Name of the kind, as in manifests.
    pub kind: String,
    /// Name of the resource, as in paths.
    pub plural: String,
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
    /// Whether it has a status subresource: then `status` changes only there, and everything else only elsewhere.
    pub has_status: bool,
    /// Whether its objects count the changes of what is wished in `metadata.generation`.
    pub has_generation: bool,
    /// Whether it belongs to a definition (CRD): updates must name a resourceVersion, and a write of the status changes no
    /// metadata.
    pub is_custom: bool,
    /// Whether a delete that is carried out at once is answered by the object instead of a Status.
    pub returns_deleted: bool,
    /// How long an object is kept once it was written; `None`: until it is deleted.
    pub(crate) lives_for: Option<Duration>,
    /// Whether dependents of a deleted object stay unless the deleter asks otherwise (Jobs).
    pub orphans_by_default: bool,
    /// Further subresources that may be written: `eviction`, `binding`, `resize`.
    pub subresources: Vec<String>,
    /// Paths that field selectors may name, beside `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Vec<String>,
}

impl Kind {
    /// A kind of a definition (CRD), namespaced, with a status subresource. The plural is the lower-case kind and an `s`.
    pub fn custom(group: &str, version: &str, kind: &str) -> Kind {
        let plural = format!("{}s", kind.to_lowercase());
        Kind::new(group, version, kind, &plural, CUSTOM_WITH_STATUS)
    }

    /// The same with another plural.
    pub fn with_plural(mut self, plural: &str) -> Kind {
        plural.clone_into(&mut self.plural);
        self
    }

    /// The same for objects that live in no namespace.
    pub fn cluster_scoped(mut self) -> Kind {
        self.namespaced = false;
        self
    }

    /// The same without a status subresource.
    pub fn without_status(mut self) -> Kind {
        self.has_status = false;
        self
    }

    /// The kinds that are served unless others are given: those of Kubernetes that Ray on Kubernetes touches, KubeRay's, and
    /// those of batch schedulers.
    pub fn built_in() -> Vec<Kind> {
        TABLE
            .iter()
            .map(|&(group, version, kind, plural, flags)| Kind::new(group, version, kind, plural, flags))
            .collect()
    }

    /// Those of them that a Kubernetes serves on which nothing but KubeRay is installed.
    pub fn without_add_ons() -> Vec<Kind> {
        let is_there =
            |kind: &Kind| if kind.is_custom { kind.group == "ray.io" } else { !kind.version.contains("alpha") };
        Kind::built_in().into_iter().filter(is_there).collect()
    }

    fn new(group: &str, version: &str, kind: &str, plural: &str, flags: u8) -> Kind {
        let has = |flag: u8| flags & flag != 0;
        let (subresources, selectable_fields): (&[&str], &[&str]) = match (group, plural) {
            ("", "pods") => (&["binding", "eviction", "resize"], &POD_FIELDS),
            ("", "events") => (&[], &EVENT_FIELDS),
            ("", "namespaces") => (&["finalize"], &["status.phase"]),
            ("", "nodes") => (&[], &["spec.unschedulable"]),
            ("", "secrets") => (&[], &["type"]),
            ("batch", "jobs") => (&[], &["status.successful"]),
            _ => (&[], &[]),
        };
        Kind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            namespaced: has(NAMESPACED),
            has_status: has(STATUS),
            has_generation: has(GENERATION),
            is_custom: has(CUSTOM),
            returns_deleted: has(RETURNS),
            lives_for: ((group, plural) == ("", "events")).then_some(EVENT_TTL),
            orphans_by_default: (group, plural) == ("batch", "jobs"),
            subresources: subresources.iter().map(|&name| name.to_owned()).collect(),
            selectable_fields: selectable_fields.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    /// `v1`, or `GROUP/VERSION`: what objects say in `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The resource with its group, as messages have it: `pods`, `rayclusters.ray.io`.
    pub fn qualified_plural(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The kind with its group, as messages have it: `Pod`, `RayCluster.ray.io`.
    pub(crate) fn qualified_kind(&self) -> String {
        if self.group.is_empty() { self.kind.clone() } else { format!("{}.{}", self.kind, self.group) }
    }

    pub(crate) fn is_core(&self, plural: &str) -> bool {
        self.group.is_empty() && self.plural == plural
    }
}

const POD_FIELDS: [&str; 9] = [
    "spec.hostNetwork",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.nominatedNodeName",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];

const EVENT_FIELDS: [&str; 11] = [
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.resourceVersion",
    "involvedObject.uid",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

type Row = (&'static str, &'static str, &'static str, &'static str, u8);

/// Group, version, kind, plural, flags.
const TABLE: [Row; 43] = [
    ("", "v1", "ConfigMap", "configmaps", NAMESPACED),
    ("", "v1", "Endpoints", "endpoints", NAMESPACED),
    ("", "v1", "Event", "events", NAMESPACED),
    ("", "v1", "LimitRange", "limitranges", NAMESPACED),
    ("", "v1", "Namespace", "namespaces", STATUS),
    ("", "v1", "Node", "nodes", STATUS),
    ("", "v1", "PersistentVolume", "persistentvolumes", STATUS | RETURNS),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", NAMESPACED | STATUS | RETURNS),
    ("", "v1", "Pod", "pods", NAMESPACED | STATUS | GENERATION | RETURNS),
    ("", "v1", "ResourceQuota", "resourcequotas", NAMESPACED | STATUS | RETURNS),
    ("", "v1", "Secret", "secrets", NAMESPACED),
    ("", "v1", "Service", "services", NAMESPACED | STATUS | RETURNS),
    ("", "v1", "ServiceAccount", "serviceaccounts", NAMESPACED | RETURNS),
    ("apps", "v1", "DaemonSet", "daemonsets", NAMESPACED | STATUS | GENERATION),
    ("apps", "v1", "Deployment", "deployments", NAMESPACED | STATUS | GENERATION),
    ("apps", "v1", "ReplicaSet", "replicasets", NAMESPACED | STATUS | GENERATION),
    ("apps", "v1", "StatefulSet", "statefulsets", NAMESPACED | STATUS | GENERATION),
    ("batch", "v1", "CronJob", "cronjobs", NAMESPACED | STATUS | GENERATION),
    ("batch", "v1", "Job", "jobs", NAMESPACED | STATUS | GENERATION),
    ("coordination.k8s.io", "v1", "Lease", "leases", NAMESPACED),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", NAMESPACED | GENERATION),
    ("networking.k8s.io", "v1", "Ingress", "ingresses", NAMESPACED | STATUS | GENERATION),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", NAMESPACED | GENERATION),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", NAMESPACED | STATUS | GENERATION),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", 0),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", 0),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles", NAMESPACED),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", NAMESPACED),
    ("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", GENERATION),
    ("storage.k8s.io", "v1", "StorageClass", "storageclasses", 0),
    ("ray.io", "v1", "RayCluster", "rayclusters", CUSTOM_WITH_STATUS),
    ("ray.io", "v1", "RayCronJob", "raycronjobs", CUSTOM_WITH_STATUS),
    ("ray.io", "v1", "RayJob", "rayjobs", CUSTOM_WITH_STATUS),
    ("ray.io", "v1", "RayService", "rayservices", CUSTOM_WITH_STATUS),
    ("gateway.networking.k8s.io", "v1", "Gateway", "gateways", CUSTOM_WITH_STATUS),
    ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes", CUSTOM_WITH_STATUS),
    ("kueue.x-k8s.io", "v1beta1", "Workload", "workloads", CUSTOM_WITH_STATUS),
    ("route.openshift.io", "v1", "Route", "routes", CUSTOM_WITH_STATUS),
    ("scheduling.k8s.io", "v1alpha2", "PodGroup", "podgroups", NAMESPACED | STATUS | GENERATION),
    ("scheduling.run.ai", "v2alpha2", "PodGroup", "podgroups", CUSTOM_WITH_STATUS),
    ("scheduling.volcano.sh", "v1beta1", "PodGroup", "podgroups", CUSTOM_WITH_STATUS),
    ("scheduling.volcano.sh", "v1beta1", "Queue", "queues", STATUS | GENERATION | CUSTOM),
    ("scheduling.x-k8s.io", "v1alpha1", "PodGroup", "podgroups", CUSTOM_WITH_STATUS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kind_is_served_twice() {
        let mut served: Vec<(String, String)> =
            Kind::built_in().into_iter().map(|kind| (kind.api_version(), kind.plural)).collect();
        let rows = served.len();
        served.sort();
        served.dedup();
        assert_eq!(served.len(), rows);
    }

    #[test]
    fn names_carry_the_group() {
        let kinds = Kind::built_in();
        let named = |plural: &str| kinds.iter().find(|kind| kind.plural == plural).unwrap();
        let (pod, cluster) = (named("pods"), named("rayclusters"));
        assert_eq!((pod.api_version().as_str(), pod.qualified_plural().as_str()), ("v1", "pods"));
        assert_eq!(
            (cluster.api_version(), cluster.qualified_plural()),
            ("ray.io/v1".to_owned(), "rayclusters.ray.io".to_owned())
        );
    }
}
