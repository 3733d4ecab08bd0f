//! Names of labels, annotations and environment variables, as Ray, KubeRay and Kubernetes spell them.

/// Label: the RayCluster that a pod belongs to.
pub const CLUSTER: &str = "ray.io/cluster";
/// Label: the group of a pod (`headgroup` for the head).
pub const GROUP: &str = "ray.io/group";
/// Label: `head`, `worker` or something that is no Ray node (`redis-cleanup`).
pub const NODE_TYPE: &str = "ray.io/node-type";
/// Label: `yes` on every Ray pod.
pub const IS_RAY_NODE: &str = "ray.io/is-ray-node";
/// Label: the multi-host replica that a worker pod belongs to.
pub const REPLICA_NAME: &str = "ray.io/worker-group-replica-name";
/// Label: number of the replica within its group.
pub const REPLICA_INDEX: &str = "ray.io/worker-group-replica-index";
/// Label: number of the host within its replica.
pub const REPLICA_HOST_INDEX: &str = "ray.io/replica-host-index";

/// Label of what an operator made: its value is [`CREATED_BY_OPERATOR`], KubeRay's and ours.
pub const CREATED_BY: &str = "app.kubernetes.io/created-by";
/// Value of [`CREATED_BY`].
pub const CREATED_BY_OPERATOR: &str = "kuberay-operator";

/// Label of a RayCluster that an operator created: the kind that it was created for (`RayJob`, `RayService`).
pub const ORIGINATED_FROM_CRD: &str = "ray.io/originated-from-crd";

/// Annotation of a RayCluster that no RayService made: `true` gets it a Service for Serve all the same.
pub const ENABLE_SERVE_SERVICE: &str = "ray.io/enable-serve-service";
/// Annotation of a RayCluster, the old way to keep the GCS in Redis: `true`.
pub const FT_ENABLED: &str = "ray.io/ft-enabled";
/// Annotation of a RayCluster, the old way to name the prefix of keys in Redis.
pub const EXTERNAL_STORAGE_NAMESPACE: &str = "ray.io/external-storage-namespace";
/// Annotation of a RayCluster: in-place resize of its pods.
pub const IPPR: &str = "ray.io/ippr";
/// Annotation of a pod: where its in-place resize stands.
pub const IPPR_STATUS: &str = "ray.io/ippr-status";
/// Annotation of a RayCluster: reasons of the last plan, written by Mobula.
pub const EXPLAIN: &str = "mobula.dev/explain";
/// Annotation of a pod: the gang that it belongs to, within its RayCluster. Written by gang admission.
pub const GANG: &str = "mobula.dev/gang";
/// Annotation of a pod whose gate was lifted: which pods were admitted with it, as JSON. Written by gang admission.
pub const GANG_ADMITTED: &str = "mobula.dev/gang-admitted";
/// Annotation of a RayCluster: the gangs that the autoscaler's plan starts, as JSON: `{"29fd": {"gpu": 4}}` is a gang named
/// `29fd` of four pods of the worker group `gpu`. Written by Mobula's autoscaler, read by gang admission.
pub const GANGS: &str = "mobula.dev/gangs";
/// Annotation of a RayCluster: `ray` keeps Ray's own autoscaler where the operator has another image for all.
pub const AUTOSCALER: &str = "mobula.dev/autoscaler";
/// Annotation of a group's pod template: whether its pods must reach each other by RDMA.
pub const FABRIC: &str = "mobula.dev/fabric";
/// Annotation of a group's pod template: level of the topology of which a placement group on its pods must have one domain.
pub const TOPOLOGY_REQUIRED: &str = "mobula.dev/topology-required";
/// Annotation of a group's pod template: level of the topology of which a placement group on its pods should have one domain.
pub const TOPOLOGY_PREFERRED: &str = "mobula.dev/topology-preferred";
/// As [`TOPOLOGY_REQUIRED`], as Kueue says it: the label key of a level.
pub const KUEUE_TOPOLOGY_REQUIRED: &str = "kueue.x-k8s.io/podset-required-topology";
/// As [`TOPOLOGY_PREFERRED`], as Kueue says it.
pub const KUEUE_TOPOLOGY_PREFERRED: &str = "kueue.x-k8s.io/podset-preferred-topology";
/// As [`TOPOLOGY_REQUIRED`], as KAI says it.
pub const KAI_TOPOLOGY_REQUIRED: &str = "kai.scheduler/topology-required-placement";
/// As [`TOPOLOGY_PREFERRED`], as KAI says it.
pub const KAI_TOPOLOGY_PREFERRED: &str = "kai.scheduler/topology-preferred-placement";

/// Finalizer that the operator removes once an idle cluster is cleaned up.
pub const IDLE_TERMINATION_FINALIZER: &str = "ray.io/idle-termination-cleanup-finalizer";

/// Name of the head's group.
pub const HEAD_GROUP: &str = "headgroup";
/// Value of [`NODE_TYPE`] on the head pod.
pub const NODE_TYPE_HEAD: &str = "head";
/// Value of [`NODE_TYPE`] on worker pods.
pub const NODE_TYPE_WORKER: &str = "worker";

/// Ray node label: group name.
pub const RAY_NODE_GROUP: &str = "ray.io/node-group";
/// Ray node label: `spot` or `on-demand`.
pub const RAY_MARKET_TYPE: &str = "ray.io/market-type";
/// Ray node label: zone.
pub const RAY_ZONE: &str = "ray.io/availability-zone";
/// Ray node label: region.
pub const RAY_REGION: &str = "ray.io/availability-region";
/// Ray node label: accelerator type, for example `H200`.
pub const RAY_ACCELERATOR_TYPE: &str = "ray.io/accelerator-type";
/// Ray node label: physical topology of a TPU slice.
pub const RAY_TPU_TOPOLOGY: &str = "ray.io/tpu-topology";
/// Ray node label: type of a TPU slice, for example `v4-16`.
pub const RAY_TPU_POD_TYPE: &str = "ray.io/tpu-pod-type";

/// Environment of the Ray container: becomes [`RAY_MARKET_TYPE`].
pub const ENV_MARKET_TYPE: &str = "RAY_NODE_MARKET_TYPE";
/// Environment of the Ray container: becomes [`RAY_ZONE`].
pub const ENV_ZONE: &str = "RAY_NODE_ZONE";
/// Environment of the Ray container: becomes [`RAY_REGION`].
pub const ENV_REGION: &str = "RAY_NODE_REGION";
/// Environment of the Ray container: labels as a JSON object, stronger than all others.
pub const ENV_OVERRIDE_LABELS: &str = "RAY_OVERRIDE_LABELS";

/// Node selector: physical topology of a TPU slice on GKE, for example `2x2x2`.
pub const GKE_TPU_TOPOLOGY: &str = "cloud.google.com/gke-tpu-topology";
/// Node selector: kind of TPU on GKE, for example `tpu-v4-podslice`.
pub const GKE_TPU_ACCELERATOR: &str = "cloud.google.com/gke-tpu-accelerator";
/// Extended resource: TPU chips.
pub const GOOGLE_TPU: &str = "google.com/tpu";

/// Annotation of pods, read by Volcano: the PodGroup that they belong to.
pub const VOLCANO_POD_GROUP: &str = "scheduling.k8s.io/group-name";
/// Label of pods, read by scheduler-plugins: the PodGroup that they belong to.
pub const SCHEDULER_PLUGINS_POD_GROUP: &str = "scheduling.x-k8s.io/pod-group";
