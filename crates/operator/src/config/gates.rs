//! Feature gates.

use mobula_api::FieldError;

/// Which features are on. `default()` is as KubeRay has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gates {
    /// Conditions in the status of RayClusters.
    pub status_conditions: bool,
    /// Deletion policies of RayJobs, and the suspension of single groups.
    pub job_deletion_policy: bool,
    /// Worker pods are numbered, and replicas of several hosts are units.
    pub multi_host_indexing: bool,
    /// Upgrades of RayServices by steps.
    pub incremental_upgrade: bool,
    /// RayCronJobs.
    pub cron_job: bool,
    /// Submitters beside the head may restart.
    pub sidecar_submitter_restart: bool,
    /// Network policies around RayClusters.
    pub network_policy: bool,
    /// The GCS may keep its state in an embedded store.
    pub embedded_storage: bool,
    /// Mutual TLS inside RayClusters.
    pub mtls: bool,
    /// Collectors for the history server.
    pub history_server: bool,
    /// Gangs by `scheduling.k8s.io`.
    pub kubernetes_was: bool,
}

impl Default for Gates {
    fn default() -> Self {
        Gates {
            status_conditions: true,
            job_deletion_policy: true,
            multi_host_indexing: true,
            incremental_upgrade: true,
            cron_job: false,
            sidecar_submitter_restart: false,
            network_policy: false,
            embedded_storage: false,
            mtls: false,
            history_server: false,
            kubernetes_was: false,
        }
    }
}

impl Gates {
    /// Sets gates from `Name=true,Name=false`. `AllAlpha` and `AllBeta` are known; gates of the Kubernetes libraries, which
    /// KubeRay accepts too, have no meaning here and are refused.
    ///
    /// # Errors
    /// Names what is no gate or no boolean.
    pub fn set(&mut self, text: &str) -> Result<(), FieldError> {
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').map_or((pair, ""), |(name, value)| (name.trim(), value.trim()));
            let on = match value {
                "true" | "True" | "TRUE" | "t" | "T" | "1" => true,
                "false" | "False" | "FALSE" | "f" | "F" | "0" => false,
                _ => return Err(FieldError::new("--feature-gates", pair, "must be NAME=true or NAME=false")),
            };
            match name {
                "AllAlpha" => Self::ALPHA.iter().for_each(|gate| self.set_one(gate, on)),
                "AllBeta" => Self::BETA.iter().for_each(|gate| self.set_one(gate, on)),
                _ if Self::ALPHA.contains(&name) || Self::BETA.contains(&name) => self.set_one(name, on),
                _ => {
                    let known = [&Self::BETA[..], &Self::ALPHA[..]].concat().join(", ");
                    let problem = format!("no such gate: must be one of {known}");
                    return Err(FieldError::new("--feature-gates", name, problem));
                }
            }
        }
        Ok(())
    }

    const BETA: [&str; 4] =
        ["RayClusterStatusConditions", "RayJobDeletionPolicy", "RayMultiHostIndexing", "RayServiceIncrementalUpgrade"];

    const ALPHA: [&str; 7] = [
        "RayCronJob",
        "SidecarSubmitterRestart",
        "RayClusterNetworkPolicy",
        "GCSFaultToleranceEmbeddedStorage",
        "RayClusterMTLS",
        "RayClusterHistoryServer",
        "KubernetesWAS",
    ];

    fn set_one(&mut self, name: &str, on: bool) {
        let gate = match name {
            "RayClusterStatusConditions" => &mut self.status_conditions,
            "RayJobDeletionPolicy" => &mut self.job_deletion_policy,
            "RayMultiHostIndexing" => &mut self.multi_host_indexing,
            "RayServiceIncrementalUpgrade" => &mut self.incremental_upgrade,
            "RayCronJob" => &mut self.cron_job,
            "SidecarSubmitterRestart" => &mut self.sidecar_submitter_restart,
            "RayClusterNetworkPolicy" => &mut self.network_policy,
            "GCSFaultToleranceEmbeddedStorage" => &mut self.embedded_storage,
            "RayClusterMTLS" => &mut self.mtls,
            "RayClusterHistoryServer" => &mut self.history_server,
            "KubernetesWAS" => &mut self.kubernetes_was,
            _ => return,
        };
        *gate = on;
    }
}

#[cfg(test)]
mod tests {
    use super::Gates;

    #[test]
    fn gates_are_set_by_name_and_by_stage() {
        let mut gates = Gates::default();
        gates.set("RayCronJob=true, RayMultiHostIndexing=false").unwrap();
        assert!(gates.cron_job && !gates.multi_host_indexing);
        gates.set("AllAlpha=true").unwrap();
        assert!(gates.mtls && gates.kubernetes_was && gates.history_server);
        gates.set("").unwrap();
        for bad in ["RayCronJob", "RayCronJob=yes", "Ray=true"] {
            assert!(gates.set(bad).unwrap_err().to_string().starts_with("--feature-gates"), "{bad}");
        }
    }
}
