//! Rules of what KubeRay 1.7 brought. Each field needs its feature gate, under every `--compat`: without it nothing would act
//! on the field, and nobody shall believe to be protected by it. What is not done here even with its gate is refused.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Member, Rules, cluster::OPTIONS, is_dns_1123_label, list};
use crate::{CollectorOptions, FieldError, Gate, GcsFaultToleranceOptions, RayCluster, at::At};

const COLLECTOR: &str = "spec.historyServerOptions.collectorOptions";
/// Name of the collector's container.
const COLLECTOR_CONTAINER: &str = "ray-history-collector";
/// What the operator tells the collector.
const COLLECTOR_VARIABLES: [&str; 8] = [
    "POD_IP",
    "FQ_RAY_IP",
    "RAY_CLUSTER_NAME",
    "RAY_CLUSTER_NAMESPACE",
    "RAY_ROLE",
    "OWNER_KIND",
    "OWNER_NAME",
    "EVENTS_PORT",
];
/// The operator's volume for the state of the GCS, and where it is mounted.
const STORAGE_VOLUME: &str = "gcs-storage";
const STORAGE_DIRECTORY: &str = "/data/gcs";

pub(super) fn refused(cluster: &RayCluster, rules: &Rules) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(cluster.spec.gcs_fault_tolerance_options.iter().flat_map(|options| backend(cluster, options, rules)));
    errors.extend(history_server(cluster, rules));
    errors.extend(network_policy(cluster, rules));
    if cluster.spec.tls_options.as_ref().is_some_and(|tls| tls.enabled == Some(true)) {
        let problem = "is not supported: remove it, and mount certificates and set RAY_USE_TLS in the pod templates";
        errors.push(FieldError::new("spec.tlsOptions.enabled", "true", problem));
    }
    errors
}

/// That the gate of a field is off, if it is.
fn gate_is_off(rules: &Rules, gate: Gate, field: &str, value: &str) -> Option<FieldError> {
    let name = gate.as_str();
    let problem =
        format!("needs the feature gate {name}: start the operator with --feature-gates {name}=true, or remove it");
    (!rules.gates.has(gate)).then(|| FieldError::new(field, value, problem))
}

/// Where the GCS keeps its state.
fn backend(cluster: &RayCluster, options: &GcsFaultToleranceOptions, rules: &Rules) -> Vec<FieldError> {
    let field = |name: &str| format!("{OPTIONS}.{name}");
    let mut errors = Vec::new();
    match options.backend.as_deref() {
        None | Some("" | "redis") => {
            if options.storage.is_some() {
                let problem = format!("has no effect with Redis: remove it, or set {OPTIONS}.backend to rocksdb");
                errors.push(FieldError::new(field("storage"), "{…}", problem));
            }
            return errors;
        }
        Some("rocksdb") => {}
        Some(other) => return vec![FieldError::new(field("backend"), other, "must be redis or rocksdb")],
    }
    if let Some(error) = gate_is_off(rules, Gate::GCSFaultToleranceEmbeddedStorage, &field("backend"), "rocksdb") {
        return vec![error];
    }
    let not_beside = |name: &str, value: &str| {
        FieldError::new(field(name), value, format!("can't be beside {OPTIONS}.backend rocksdb: remove it"))
    };
    let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    errors.extend(said(&options.redis_address).map(|value| not_beside("redisAddress", &value)));
    errors.extend(options.redis_username.is_some().then(|| not_beside("redisUsername", "{…}")));
    errors.extend(options.redis_password.is_some().then(|| not_beside("redisPassword", "{…}")));
    let namespace = said(&options.external_storage_namespace);
    errors.extend(namespace.map(|value| not_beside("externalStorageNamespace", &value)));
    if let Some(storage) = &options.storage
        && let Some(claim) = said(&storage.claim_name)
        && (storage.size.is_some() || storage.storage_class_name.is_some() || !storage.access_modes.is_empty())
    {
        let problem = "names an existing claim: remove size, storageClassName and accessModes";
        errors.push(FieldError::new(field("storage.claimName"), claim, problem));
    }
    errors.extend(storage_in_template(&Member::head(cluster)));
    errors
}

/// What a head's template has where the operator puts the volume of the GCS.
fn storage_in_template(head: &Member<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let taken = "is set by the operator for the backend rocksdb: remove it";
    for name in ["RAY_gcs_storage", "RAY_gcs_storage_path"] {
        errors.extend(head.env(name).map(|(at, _)| at.error_of(name, taken)));
    }
    let Ok(template) = &head.template else { return errors };
    let mounts = list(template.container(), "volumeMounts");
    let named = |at: &At<'_>, key: &str, value: &str| at.text(key).is_ok_and(|found| found == value);
    let takes = |at: &&At<'_>| named(at, "name", STORAGE_VOLUME) || named(at, "mountPath", STORAGE_DIRECTORY);
    errors.extend(mounts.iter().filter(takes).map(|at| at.error_of(STORAGE_VOLUME, taken)));
    let volumes = list(template.spec(), "volumes");
    errors.extend(
        volumes.iter().filter(|at| named(at, "name", STORAGE_VOLUME)).map(|at| at.error_of(STORAGE_VOLUME, taken)),
    );
    errors
}

fn history_server(cluster: &RayCluster, rules: &Rules) -> Vec<FieldError> {
    let Some(options) = &cluster.spec.history_server_options else { return Vec::new() };
    if let Some(error) = gate_is_off(rules, Gate::RayClusterHistoryServer, "spec.historyServerOptions", "{…}") {
        return vec![error];
    }
    let Some(collector) = &options.collector_options else {
        return vec![FieldError::missing(COLLECTOR, "is required: set it, or remove spec.historyServerOptions")];
    };
    let mut errors = Vec::new();
    if collector.image.as_deref().unwrap_or_default().is_empty() {
        errors.push(FieldError::missing(format!("{COLLECTOR}.image"), "is required: name an image"));
    }
    errors.extend(collector_variables(collector));
    for member in std::iter::once(Member::head(cluster)).chain(Member::workers(cluster)) {
        let Ok(template) = &member.template else { continue };
        for container in list(template.spec(), "containers") {
            if container.text("name").is_ok_and(|name| name == COLLECTOR_CONTAINER) {
                let problem = "is the name of the operator's collector: choose another";
                errors.push(FieldError::new(format!("{}.name", container.path()), COLLECTOR_CONTAINER, problem));
            }
        }
    }
    errors
}

/// What the collector must be told of its store, and what it must not be told.
fn collector_variables(collector: &CollectorOptions) -> Vec<FieldError> {
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut errors = Vec::new();
    let mut literals = BTreeMap::new();
    let mut set = Vec::new();
    for (i, entry) in collector.env.iter().enumerate() {
        let (name, value) = (text(entry, "name"), text(entry, "value"));
        if COLLECTOR_VARIABLES.contains(&name.as_str()) {
            errors.push(FieldError::new(format!("{COLLECTOR}.env[{i}]"), &name, "is set by the operator: remove it"));
        }
        if !value.is_empty() || entry.get("valueFrom").is_some_and(|from| !from.is_null()) {
            set.push(name.clone());
        }
        literals.insert(name, value);
    }
    let literal = |name: &str| literals.get(name).map(String::as_str).unwrap_or_default();
    let missing = |names: &str, because: &str| {
        FieldError::missing(format!("{COLLECTOR}.env"), format!("must have {names}, for {because}"))
    };
    let store = literal("STORAGE_BACKEND").to_ascii_uppercase();
    let mode = literal("AZURE_STORAGE_AUTH_MODE").trim().to_ascii_lowercase();
    // Any one of each list will do.
    let needed: &[&[&str]] = match (store.as_str(), mode.as_str()) {
        ("", _) => {
            errors.push(missing("STORAGE_BACKEND as a literal", "it says where the events go"));
            &[]
        }
        ("GCS", _) => &[&["GCS_BUCKET"]],
        ("S3", _) => &[&["S3_REGION"]],
        ("AZUREBLOB", "connection_string") => &[&["AZURE_STORAGE_CONNECTION_STRING"]],
        ("AZUREBLOB", "workload_identity" | "default") => &[&["AZURE_STORAGE_ACCOUNT_URL"]],
        ("AZUREBLOB", _) => &[&["AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_URL"]],
        ("ALIYUNOSS", _) => &[&["OSS_BUCKET"], &["OSS_ENDPOINT"], &["OSS_REGION"]],
        _ => &[],
    };
    for names in needed {
        if !names.iter().any(|name| set.iter().any(|found| found == name)) {
            errors.push(missing(&names.join(" or "), &format!("STORAGE_BACKEND is {store}")));
        }
    }
    errors
}

fn network_policy(cluster: &RayCluster, rules: &Rules) -> Vec<FieldError> {
    let Some(policy) = &cluster.spec.network_policy else { return Vec::new() };
    let path = "spec.networkPolicy";
    if let Some(error) = gate_is_off(rules, Gate::RayClusterNetworkPolicy, path, "{…}") {
        return vec![error];
    }
    let mut errors = Vec::new();
    let mode = policy.mode.as_deref().unwrap_or("DenyAll");
    if !matches!(mode, "DenyAll" | "DenyAllIngress" | "DenyAllEgress") {
        let problem = "must be DenyAll, DenyAllIngress or DenyAllEgress";
        errors.push(FieldError::new(format!("{path}.mode"), mode, problem));
    }
    let mut rules_of = |place: String, ingress: usize, egress: usize| {
        let idle = [("ingressRules", ingress, "DenyAllEgress"), ("egressRules", egress, "DenyAllIngress")];
        for (field, _, only) in idle.into_iter().filter(|(_, count, only)| *count > 0 && *only == mode) {
            let problem = format!("has no effect with {path}.mode {only}: remove it");
            errors.push(FieldError::new(format!("{place}.{field}"), "[…]", problem));
        }
    };
    for (place, rules) in [("head", &policy.head), ("worker", &policy.worker)] {
        if let Some(rules) = rules {
            rules_of(format!("{path}.{place}"), rules.ingress_rules.len(), rules.egress_rules.len());
        }
    }
    for (i, group) in policy.worker_groups.iter().enumerate() {
        rules_of(format!("{path}.workerGroups[{i}]"), group.ingress_rules.len(), group.egress_rules.len());
    }
    let groups = &cluster.spec.worker_group_specs;
    for (i, group) in policy.worker_groups.iter().enumerate() {
        if !groups.iter().any(|known| known.group_name == group.group_name) {
            let problem = "no such group in spec.workerGroupSpecs: name one of them, or remove the entry";
            errors.push(FieldError::new(format!("{path}.workerGroups[{i}].groupName"), &group.group_name, problem));
        }
    }
    for (i, group) in groups.iter().enumerate().filter(|(_, group)| !is_dns_1123_label(&group.group_name)) {
        let problem = "is part of the name of a NetworkPolicy: must have at most 63 lower-case letters, digits and -, \
                       with a letter or digit at both ends";
        errors.push(FieldError::new(format!("spec.workerGroupSpecs[{i}].groupName"), &group.group_name, problem));
    }
    errors
}
