//! The configuration file: `apiVersion: config.ray.io/v1alpha1`, `kind: Configuration`.

use std::collections::BTreeMap;

use mobula_api::FieldError;
use serde::Deserialize;
use serde_json::Value;

use super::{BatchScheduler, Config};

/// The fields of the file. What Go does not know it refuses; so do we.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    api_version: Option<String>,
    kind: Option<String>,
    /// Kept so that a file with it is still read.
    #[serde(rename = "metadata")]
    _metadata: Option<Value>,
    metrics_addr: Option<String>,
    probe_addr: Option<String>,
    enable_leader_election: Option<bool>,
    leader_election_namespace: Option<String>,
    reconcile_concurrency: Option<u32>,
    watch_namespace: Option<String>,
    log_file: Option<String>,
    /// KubeRay reads these two and goes by its flags; so do we.
    #[serde(rename = "logFileEncoder")]
    _log_file_encoder: Option<String>,
    #[serde(rename = "logStdoutEncoder")]
    _log_stdout_encoder: Option<String>,
    batch_scheduler: Option<String>,
    enable_batch_scheduler: Option<bool>,
    head_sidecar_containers: Option<Vec<Value>>,
    worker_sidecar_containers: Option<Vec<Value>>,
    default_container_envs: Option<Vec<Value>>,
    default_pod_annotations: Option<BTreeMap<String, String>>,
    default_pod_labels: Option<BTreeMap<String, String>>,
    use_kubernetes_proxy: Option<bool>,
    /// Without effect in KubeRay too.
    #[serde(rename = "deleteRayJobAfterJobFinishes")]
    _delete_ray_job: Option<bool>,
    enable_metrics: Option<bool>,
    qps: Option<f64>,
    burst: Option<u32>,
}

/// Reads the file over what is there.
pub(super) fn read(config: &mut Config, text: &str) -> Result<(), FieldError> {
    let file: Configuration =
        serde_saphyr::from_str(text).map_err(|error| FieldError::missing("--config", error.to_string()))?;
    let is = |name: &str, found: Option<&str>, expected: &str| match found {
        Some(found) if found != expected => Err(FieldError::new(name, found, format!("must be {expected}"))),
        _ => Ok(()),
    };
    is("kind", file.kind.as_deref(), "Configuration")?;
    is("apiVersion", file.api_version.as_deref(), "config.ray.io/v1alpha1")?;
    config.batch_scheduler = batch_scheduler(&file)?;
    named("headSidecarContainers", file.head_sidecar_containers.as_deref())?;
    named("workerSidecarContainers", file.worker_sidecar_containers.as_deref())?;
    named("defaultContainerEnvs", file.default_container_envs.as_deref())?;

    let process = &mut config.process;
    set(&mut process.metrics_address, file.metrics_addr);
    set(&mut process.probe_address, file.probe_addr);
    set(&mut process.leader_election, file.enable_leader_election);
    set(&mut process.leader_election_namespace, file.leader_election_namespace);
    set(&mut process.concurrency, file.reconcile_concurrency);
    set(&mut process.log_file, file.log_file);
    set(&mut process.kubernetes_proxy, file.use_kubernetes_proxy);
    set(&mut process.metrics, file.enable_metrics);
    set(&mut process.qps, file.qps);
    set(&mut process.burst, file.burst);
    let namespaces = |text: String| text.split(',').map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect();
    set(&mut config.watch_namespaces, file.watch_namespace.map(namespaces));

    let pods = &mut config.pods;
    set(&mut pods.head_sidecars, file.head_sidecar_containers);
    set(&mut pods.worker_sidecars, file.worker_sidecar_containers);
    set(&mut pods.default_env, file.default_container_envs);
    set(&mut pods.default_annotations, file.default_pod_annotations);
    set(&mut pods.default_labels, file.default_pod_labels);
    Ok(())
}

fn batch_scheduler(file: &Configuration) -> Result<Option<BatchScheduler>, FieldError> {
    let by_name = file.batch_scheduler.as_deref().filter(|name| !name.is_empty());
    match (by_name, file.enable_batch_scheduler.unwrap_or_default()) {
        (Some(name), true) => Err(FieldError::new(
            "batchScheduler",
            name,
            "excludes enableBatchScheduler, which is the old way to say volcano: remove enableBatchScheduler",
        )),
        (Some(name), false) => {
            let scheduler = name.parse::<BatchScheduler>();
            scheduler.map(Some).map_err(|error| FieldError::new("batchScheduler", name, error.problem))
        }
        (None, true) => Ok(Some(BatchScheduler::Volcano)),
        (None, false) => Ok(None),
    }
}

/// Containers and variables have names.
fn named(field: &str, list: Option<&[Value]>) -> Result<(), FieldError> {
    let has_name = |value: &Value| value.get("name").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    match list.into_iter().flatten().position(|value| !has_name(value)) {
        Some(index) => Err(FieldError::missing(format!("{field}[{index}].name"), "is required")),
        None => Ok(()),
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{BatchScheduler, Config};

    #[test]
    fn a_file_of_the_helm_chart_is_read() {
        let mut config = Config::default();
        let text = "apiVersion: config.ray.io/v1alpha1\nkind: Configuration\nmetricsAddr: \":9090\"\n\
                    batchScheduler: yunikorn\nwatchNamespace: a, b\nreconcileConcurrency: 7\n\
                    headSidecarContainers:\n- name: logs\n  image: fluent\n\
                    defaultContainerEnvs:\n- name: A\n  value: \"1\"\ndefaultPodLabels:\n  team: x\n";
        config.read_file(text).unwrap();
        assert_eq!(config.process.metrics_address, ":9090");
        assert_eq!(config.process.concurrency, 7);
        assert_eq!(config.process.probe_address, ":8082");
        assert_eq!(config.batch_scheduler, Some(BatchScheduler::YuniKorn));
        assert_eq!(config.watch_namespaces, ["a", "b"]);
        assert_eq!(config.pods.head_sidecars[0]["image"], "fluent");
        assert_eq!(config.pods.default_labels["team"], "x");
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        let wrong = [
            ("kind: Deployment", "kind: Deployment: must be Configuration"),
            ("batchScheduler: slurm", "batchScheduler: slurm: must be volcano"),
            ("batchScheduler: volcano\nenableBatchScheduler: true", "batchScheduler: volcano: excludes"),
            ("metricAddr: x", "metricAddr"),
            ("qps: many", "--config"),
            ("defaultContainerEnvs: [x]", "defaultContainerEnvs[0].name: is required"),
        ];
        for (text, expected) in wrong {
            let error = Config::default().read_file(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
