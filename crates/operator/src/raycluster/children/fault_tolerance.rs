//! Fault tolerance of the GCS: where the head keeps its state, and how long workers wait for a head that is gone.

use std::collections::BTreeMap;

use mobula_api::{Credential, GcsFaultToleranceOptions, keys};
use serde_json::{Value, json};

use super::{
    Children,
    draft::{ContainerDraft, PodDraft},
};

/// Volume of the embedded store, and where it is mounted.
const STORAGE_VOLUME: &str = "gcs-storage";
const STORAGE_DIRECTORY: &str = "/data/gcs";

impl Children<'_> {
    /// Whether the GCS survives its pod.
    pub fn is_fault_tolerant(&self) -> bool {
        let by_annotation = self.cluster.metadata.annotations.get(keys::FT_ENABLED);
        self.fault_tolerance().is_some() || by_annotation.is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Whether the GCS keeps its state in Redis, where it is to be freed when the cluster goes.
    pub fn keeps_state_in_redis(&self) -> bool {
        self.is_fault_tolerant() && !self.has_embedded_storage()
    }

    /// Whether the GCS keeps its state in a volume.
    pub(super) fn has_embedded_storage(&self) -> bool {
        self.fault_tolerance().is_some_and(|options| options.backend.as_deref() == Some("rocksdb"))
    }

    fn fault_tolerance(&self) -> Option<&GcsFaultToleranceOptions> {
        self.cluster.spec.gcs_fault_tolerance_options.as_ref()
    }

    /// Workers wait ten minutes for the GCS instead of one: a new head needs about two.
    pub(super) fn set_worker_fault_tolerance(&self, pod: &mut PodDraft) {
        if self.is_fault_tolerant() {
            pod.ray.add_env("RAY_gcs_rpc_server_reconnect_timeout_s", "600");
        }
    }

    /// Tells the head where its state is. `params`: the arguments of `ray start`.
    pub(super) fn set_head_fault_tolerance(&self, pod: &mut PodDraft, params: &mut BTreeMap<String, String>) {
        let enabled = self.is_fault_tolerant();
        pod.annotations.insert(keys::FT_ENABLED.to_owned(), enabled.to_string());
        if self.has_embedded_storage() {
            self.set_embedded_storage(pod);
        } else if enabled {
            self.set_redis(pod, params);
        }
    }

    fn set_redis(&self, pod: &mut PodDraft, params: &mut BTreeMap<String, String>) {
        let metadata = &self.cluster.metadata;
        let by_option = self.fault_tolerance().and_then(|options| options.external_storage_namespace.as_ref());
        let by_annotation = metadata.annotations.get(keys::EXTERNAL_STORAGE_NAMESPACE);
        let namespace = by_option.filter(|name| !name.is_empty()).or(by_annotation).unwrap_or(&metadata.uid).clone();
        pod.ray.add_env("RAY_external_storage_namespace", &namespace);
        pod.annotations.insert(keys::EXTERNAL_STORAGE_NAMESPACE.to_owned(), namespace);
        let Some(options) = self.fault_tolerance() else {
            // The clean-up Job reads the password from the environment.
            if let Some(password) = params.get("redis-password") {
                pod.ray.add_env("REDIS_PASSWORD", password);
            }
            return;
        };
        pod.ray.push_env("RAY_REDIS_ADDRESS", options.redis_address.as_deref().unwrap_or_default());
        let mut credential = |param: &str, variable: &str, credential: Option<&Credential>| {
            if let Some(credential) = credential {
                params.insert(param.to_owned(), format!("${variable}"));
                push_credential(&mut pod.ray, variable, credential);
            }
        };
        credential("redis-username", "REDIS_USERNAME", options.redis_username.as_ref());
        credential("redis-password", "REDIS_PASSWORD", options.redis_password.as_ref());
    }

    fn set_embedded_storage(&self, pod: &mut PodDraft) {
        let storage = self.fault_tolerance().and_then(|options| options.storage.as_ref());
        pod.ray.add_env("RAY_gcs_storage", "rocksdb");
        pod.ray.add_env("RAY_gcs_storage_path", STORAGE_DIRECTORY);
        let mut mount = json!({ "name": STORAGE_VOLUME, "mountPath": STORAGE_DIRECTORY });
        let directory = storage.and_then(|storage| storage.sub_path.as_deref()).filter(|path| !path.is_empty());
        if let (Some(directory), Some(mount)) = (directory, mount.as_object_mut()) {
            mount.insert("subPath".to_owned(), Value::from(directory));
        }
        pod.ray.volume_mounts.push(mount);
        let claim = json!({ "claimName": self.gcs_pvc_name() });
        pod.volumes.push(json!({ "name": STORAGE_VOLUME, "persistentVolumeClaim": claim }));
    }

    /// Name of the claim that holds the GCS's state: the user's, or `{cluster}-gcs-pvc`.
    pub fn gcs_pvc_name(&self) -> String {
        let storage = self.fault_tolerance().and_then(|options| options.storage.as_ref());
        let own = storage.and_then(|storage| storage.claim_name.clone()).filter(|name| !name.is_empty());
        own.unwrap_or_else(|| format!("{}-gcs-pvc", self.cluster.metadata.name))
    }

    /// The claim that holds the GCS's state, unless the user brings one. It outlives the cluster if it is to be retained.
    pub fn gcs_pvc(&self) -> Option<Value> {
        let options = self.fault_tolerance().filter(|_| self.has_embedded_storage())?;
        let storage = options.storage.clone().unwrap_or_default();
        if storage.claim_name.is_some_and(|name| !name.is_empty()) {
            return None;
        }
        let modes = Some(storage.access_modes).filter(|modes| !modes.is_empty());
        let size = storage.size.unwrap_or_else(|| Value::from("1Gi"));
        let mut spec = json!({
            "accessModes": modes.unwrap_or_else(|| vec!["ReadWriteOnce".to_owned()]),
            "resources": { "requests": { "storage": size } },
        });
        if let (Some(class), Some(spec)) = (storage.storage_class_name, spec.as_object_mut()) {
            spec.insert("storageClassName".to_owned(), Value::from(class));
        }
        let labels = json!({ "ray.io/cluster": self.cluster.metadata.name });
        let mut metadata = self.metadata(&self.gcs_pvc_name(), labels);
        if let (Some("Retain"), Some(metadata)) = (storage.deletion_policy.as_deref(), metadata.as_object_mut()) {
            metadata.remove("ownerReferences");
        }
        Some(json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec }))
    }
}

fn push_credential(ray: &mut ContainerDraft, variable: &str, credential: &Credential) {
    let mut entry = json!({ "name": variable });
    if let Some(entry) = entry.as_object_mut() {
        if let Some(value) = credential.value.as_ref().filter(|value| !value.is_empty()) {
            entry.insert("value".to_owned(), Value::from(value.as_str()));
        }
        if let Some(source) = &credential.value_from {
            entry.insert("valueFrom".to_owned(), source.clone());
        }
    }
    ray.env.push(entry);
}
