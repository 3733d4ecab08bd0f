//! The option blocks of a RayCluster's spec.

use serde_json::Value;

use crate::{
    object::object,
    schema::{int32, kube, list, one_of, quantity},
};

object! {
    /// `spec.autoscalerOptions`.
    pub struct AutoscalerOptions {
        /// Image of the autoscaler container; default: the head's.
        image: Option<String> = optional "image",
        /// Pull policy of that image.
        image_pull_policy: Option<String> = optional "imagePullPolicy",
        /// Resources of that container, as written.
        resources: Option<Value> = optional "resources" as kube("core.v1.ResourceRequirements"),
        /// Security context of that container, as written.
        security_context: Option<Value> = optional "securityContext" as kube("core.v1.SecurityContext"),
        /// Further environment, as written.
        env: Vec<Value> = optional "env" as list(kube("core.v1.EnvVar")),
        /// Further environment sources, as written.
        env_from: Vec<Value> = optional "envFrom" as list(kube("core.v1.EnvFromSource")),
        /// Further mounts, as written.
        volume_mounts: Vec<Value> = optional "volumeMounts" as list(kube("core.v1.VolumeMount")),
        /// Command instead of the shell.
        command: Vec<String> = optional "command",
        /// Arguments instead of `ray kuberay-autoscaler …`.
        args: Vec<String> = optional "args",
        /// `v1` or `v2`.
        version: Option<String> = optional "version" as one_of(&["v1", "v2"]),
        /// Idle time after which a worker goes, in seconds; default 60.
        idle_timeout_seconds: Option<i64> = optional "idleTimeoutSeconds" as int32(),
        /// `Default`, `Aggressive` or `Conservative`.
        upscaling_mode: Option<String> = optional "upscalingMode" as one_of(&["Default", "Aggressive", "Conservative"]),
    }
}

object! {
    /// `spec.idleTerminationOptions`.
    pub struct IdleTerminationOptions {
        /// Time without any driver after which the policy acts, in seconds; unset: never.
        timeout_seconds: Option<i64> = optional "timeoutSeconds" as int32().min(0),
        /// `Suspend` (default) or `Delete`.
        policy: Option<String> = optional "policy" as one_of(&["Suspend", "Delete"]),
    }
}

object! {
    /// `spec.headGroupSpec.ingressOptions`.
    pub struct IngressOptions {
        /// Host name.
        host: Option<String> = optional "host",
        /// Path; default `/`.
        path: Option<String> = optional "path",
        /// `Exact`, `Prefix` (default) or `ImplementationSpecific`.
        path_type: Option<String> = optional "pathType" as one_of(&["Exact", "Prefix", "ImplementationSpecific"]),
        /// TLS blocks, as written.
        tls: Vec<Value> = optional "tls" as list(kube("networking.v1.IngressTLS")),
    }
}

object! {
    /// `spec.gcsFaultToleranceOptions`.
    pub struct GcsFaultToleranceOptions {
        /// `redis` (default) or `rocksdb`.
        backend: Option<String> = optional "backend" as one_of(&["redis", "rocksdb"])
            .rule("self == oldSelf", "gcsFaultToleranceOptions.backend is immutable"),
        /// Address of Redis.
        redis_address: Option<String> = optional "redisAddress",
        /// User name for Redis.
        redis_username: Option<Credential> = optional "redisUsername",
        /// Password for Redis.
        redis_password: Option<Credential> = optional "redisPassword",
        /// Key prefix in Redis.
        external_storage_namespace: Option<String> = optional "externalStorageNamespace",
        /// Volume of the embedded store.
        storage: Option<GcsStorage> = optional "storage",
    }
}

object! {
    /// A value given literally or by reference.
    pub struct Credential {
        /// Literal.
        value: Option<String> = optional "value",
        /// Reference, as written.
        value_from: Option<Value> = optional "valueFrom" as kube("core.v1.EnvVarSource"),
    }
}

object! {
    /// `spec.gcsFaultToleranceOptions.storage`.
    pub struct GcsStorage {
        /// An existing claim.
        claim_name: Option<String> = optional "claimName",
        /// Size of the claim (quantity, string or integer); default 1Gi.
        size: Option<Value> = optional "size" as quantity(),
        /// Storage class.
        storage_class_name: Option<String> = optional "storageClassName",
        /// Access modes; default `ReadWriteOnce`.
        access_modes: Vec<String> = optional "accessModes",
        /// Directory in the volume.
        sub_path: Option<String> = optional "subPath",
        /// `DeleteWithCluster` (default) or `Retain`.
        deletion_policy: Option<String> = optional "deletionPolicy" as one_of(&["DeleteWithCluster", "Retain"]),
    }
}

object! {
    /// `spec.authOptions`.
    pub struct AuthOptions {
        /// `disabled` or `token`.
        mode: Option<String> = optional "mode" as one_of(&["disabled", "token"]),
        /// Secret with the token.
        secret_name: Option<String> = optional "secretName",
        /// Kubernetes service-account tokens instead of one shared token.
        enable_k8s_token_auth: Option<bool> = optional "enableK8sTokenAuth",
    }
}

object! {
    /// `spec.upgradeStrategy`.
    pub struct UpgradeStrategy {
        /// `Recreate` or `None`.
        strategy: Option<String> = optional "type" as one_of(&["Recreate", "None"]),
    }
}

object! {
    /// `spec.networkPolicy`.
    pub struct NetworkPolicy {
        /// `DenyAll` (default), `DenyAllIngress` or `DenyAllEgress`.
        mode: Option<String> = optional "mode" as one_of(&["DenyAll", "DenyAllIngress", "DenyAllEgress"]).default("DenyAll"),
        /// Exceptions for the head.
        head: Option<NetworkPolicyRules> = optional "head",
        /// Exceptions for every worker group without an entry of its own.
        worker: Option<NetworkPolicyRules> = optional "worker",
        /// Exceptions for single worker groups.
        worker_groups: Vec<NetworkPolicyGroup> = optional "workerGroups"
            as list(NetworkPolicyGroup::schema()).keyed_by("groupName"),
    }
}

object! {
    /// Exceptions from a network policy.
    pub struct NetworkPolicyRules {
        /// Rules of networking.k8s.io/v1, as written.
        ingress_rules: Vec<Value> = optional "ingressRules" as list(kube("networking.v1.NetworkPolicyIngressRule")),
        /// Rules of networking.k8s.io/v1, as written.
        egress_rules: Vec<Value> = optional "egressRules" as list(kube("networking.v1.NetworkPolicyEgressRule")),
    }
}

object! {
    /// Exceptions for one worker group.
    pub struct NetworkPolicyGroup {
        /// The group.
        group_name: String = required "groupName",
        /// Rules of networking.k8s.io/v1, as written.
        ingress_rules: Vec<Value> = optional "ingressRules" as list(kube("networking.v1.NetworkPolicyIngressRule")),
        /// Rules of networking.k8s.io/v1, as written.
        egress_rules: Vec<Value> = optional "egressRules" as list(kube("networking.v1.NetworkPolicyEgressRule")),
    }
}

object! {
    /// `spec.tlsOptions`.
    pub struct TlsOptions {
        /// Whether the pods speak mutual TLS; default no.
        enabled: Option<bool> = optional "enabled",
    }
}

object! {
    /// `spec.historyServerOptions`.
    pub struct HistoryServerOptions {
        /// The collector side-car.
        collector_options: Option<CollectorOptions> = optional "collectorOptions",
    }
}

object! {
    /// `spec.historyServerOptions.collectorOptions`.
    pub struct CollectorOptions {
        /// Image.
        image: Option<String> = optional "image",
        /// Pull policy.
        image_pull_policy: Option<String> = optional "imagePullPolicy",
        /// Resources, as written.
        resources: Option<Value> = optional "resources" as kube("core.v1.ResourceRequirements"),
        /// Environment, as written.
        env: Vec<Value> = optional "env" as list(kube("core.v1.EnvVar")),
    }
}
