//! The option blocks of a RayCluster's spec.

use serde_json::Value;

use crate::object::object;

object! {
    /// `spec.autoscalerOptions`.
    pub struct AutoscalerOptions {
        /// Image of the autoscaler container; default: the head's.
        image: Option<String> = optional "image",
        /// Pull policy of that image.
        image_pull_policy: Option<String> = optional "imagePullPolicy",
        /// Resources of that container, as written.
        resources: Option<Value> = optional "resources",
        /// Security context of that container, as written.
        security_context: Option<Value> = optional "securityContext",
        /// Further environment, as written.
        env: Vec<Value> = optional "env",
        /// Further environment sources, as written.
        env_from: Vec<Value> = optional "envFrom",
        /// Further mounts, as written.
        volume_mounts: Vec<Value> = optional "volumeMounts",
        /// Command instead of the shell.
        command: Vec<String> = optional "command",
        /// Arguments instead of `ray kuberay-autoscaler …`.
        args: Vec<String> = optional "args",
        /// `v1` or `v2`.
        version: Option<String> = optional "version",
        /// Idle time after which a worker goes, in seconds; default 60.
        idle_timeout_seconds: Option<i64> = optional "idleTimeoutSeconds",
        /// `Default`, `Aggressive` or `Conservative`.
        upscaling_mode: Option<String> = optional "upscalingMode",
    }
}

object! {
    /// `spec.idleTerminationOptions`.
    pub struct IdleTerminationOptions {
        /// Time without any driver after which the policy acts, in seconds; unset: never.
        timeout_seconds: Option<i64> = optional "timeoutSeconds",
        /// `Suspend` (default) or `Delete`.
        policy: Option<String> = optional "policy",
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
        path_type: Option<String> = optional "pathType",
        /// TLS blocks, as written.
        tls: Vec<Value> = optional "tls",
    }
}

object! {
    /// `spec.gcsFaultToleranceOptions`.
    pub struct GcsFaultToleranceOptions {
        /// `redis` (default) or `rocksdb`.
        backend: Option<String> = optional "backend",
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
        value_from: Option<Value> = optional "valueFrom",
    }
}

object! {
    /// `spec.gcsFaultToleranceOptions.storage`.
    pub struct GcsStorage {
        /// An existing claim.
        claim_name: Option<String> = optional "claimName",
        /// Size of the claim (quantity, string or integer); default 1Gi.
        size: Option<Value> = optional "size",
        /// Storage class.
        storage_class_name: Option<String> = optional "storageClassName",
        /// Access modes; default `ReadWriteOnce`.
        access_modes: Vec<String> = optional "accessModes",
        /// Directory in the volume.
        sub_path: Option<String> = optional "subPath",
        /// `DeleteWithCluster` (default) or `Retain`.
        deletion_policy: Option<String> = optional "deletionPolicy",
    }
}

object! {
    /// `spec.authOptions`.
    pub struct AuthOptions {
        /// `disabled` or `token`.
        mode: Option<String> = optional "mode",
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
        strategy: Option<String> = optional "type",
    }
}

object! {
    /// `spec.networkPolicy`.
    pub struct NetworkPolicy {
        /// `DenyAll` (default), `DenyAllIngress` or `DenyAllEgress`.
        mode: Option<String> = optional "mode",
        /// Exceptions for the head.
        head: Option<NetworkPolicyRules> = optional "head",
        /// Exceptions for every worker group without an entry of its own.
        worker: Option<NetworkPolicyRules> = optional "worker",
        /// Exceptions for single worker groups.
        worker_groups: Vec<NetworkPolicyGroup> = optional "workerGroups",
    }
}

object! {
    /// Exceptions from a network policy.
    pub struct NetworkPolicyRules {
        /// Rules of networking.k8s.io/v1, as written.
        ingress_rules: Vec<Value> = optional "ingressRules",
        /// Rules of networking.k8s.io/v1, as written.
        egress_rules: Vec<Value> = optional "egressRules",
    }
}

object! {
    /// Exceptions for one worker group.
    pub struct NetworkPolicyGroup {
        /// The group.
        group_name: String = required "groupName",
        /// Rules of networking.k8s.io/v1, as written.
        ingress_rules: Vec<Value> = optional "ingressRules",
        /// Rules of networking.k8s.io/v1, as written.
        egress_rules: Vec<Value> = optional "egressRules",
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
        resources: Option<Value> = optional "resources",
        /// Environment, as written.
        env: Vec<Value> = optional "env",
    }
}
