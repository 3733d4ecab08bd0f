//! What flags, environment and the configuration file say, as one value.

mod file;

use std::{collections::BTreeMap, str::FromStr};

use mobula_api::{Compat, FieldError, Gate, Gates, Rules};
use mobula_planner::{TopologyLevel, topology_presets};
use serde_json::Value;

/// What the operator is told. Read once at the start, by the binary.
///
/// `default()` is what KubeRay 1.6.2 does without any flag.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Whose behaviour is reproduced, where KubeRay's releases differ.
    pub compat: Compat,
    /// Features that are on.
    pub gates: Gates,
    /// Which scheduler pods are handed to; none: whichever the pod template names.
    pub batch_scheduler: Option<BatchScheduler>,
    /// Gangs that wait to be whole.
    pub gangs: GangConfig,
    /// The autoscaler container.
    pub autoscaler: AutoscalerConfig,
    /// What goes into every pod.
    pub pods: PodConfig,
    /// Last part of the names of Services inside the Kubernetes cluster.
    pub cluster_domain: String,
    /// The head Service gets an address of its own instead of the head pod's.
    pub head_service_has_cluster_ip: bool,
    /// Dashboards are reached by an OpenShift Route instead of an Ingress: see [`Config::found_groups`].
    pub routes: bool,
    /// Dashboards are reached by an Ingress on OpenShift too.
    pub ingress_on_openshift: bool,
    /// The namespace is freed in Redis before a RayCluster goes.
    pub redis_cleanup: bool,
    /// Pods may be deleted without the autoscaler having chosen them although it is on.
    pub random_pod_delete: bool,
    /// The namespaces that are looked at; empty: all.
    pub watch_namespaces: Vec<String>,
    /// The process.
    pub process: ProcessConfig,
}

/// Whose gangs wait to be whole.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum GangMode {
    /// Nobody's. Nodes and foreign pods are not watched.
    #[default]
    Off,
    /// Those of RayClusters whose annotation `mobula.dev/gang-admission` is `true`.
    Annotated,
    /// Those of all RayClusters whose annotation does not say `false`.
    All,
}

impl FromStr for GangMode {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        match text {
            "off" => Ok(GangMode::Off),
            "annotated" => Ok(GangMode::Annotated),
            "all" => Ok(GangMode::All),
            _ => Err(FieldError::new("--gang-admission", text, "must be off, annotated or all")),
        }
    }
}

/// Gang admission.
#[derive(Clone, Debug, PartialEq)]
pub struct GangConfig {
    /// Whose gangs.
    pub mode: GangMode,
    /// Levels of the topology, from broad to narrow.
    pub levels: Vec<TopologyLevel>,
    /// How long a gang that does not fit may be overtaken by others, in ms.
    pub backfill_ms: i64,
    /// How long the scheduler may take to bind a gang before it is given back, in ms.
    pub bind_within_ms: i64,
}

impl Default for GangConfig {
    fn default() -> Self {
        let levels = topology_presets::preset("auto").unwrap_or_default();
        GangConfig { mode: GangMode::Off, levels, backfill_ms: 300_000, bind_within_ms: 60_000 }
    }
}

/// The autoscaler container of head pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AutoscalerConfig {
    /// Image where the RayCluster names none; `None`: the head's, whose autoscaler is Ray's.
    pub image: Option<String>,
    /// The Role allows what Mobula's sidecar can use beyond what Ray's autoscaler needs.
    pub wide_role: bool,
}

/// What goes into every pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodConfig {
    /// Workers wait in an init container until the GCS answers.
    pub wait_for_gcs: bool,
    /// The Ray container gets probes.
    pub probes: bool,
    /// The shell that starts Ray is a login shell.
    pub login_shell: bool,
    /// The head pod is called `{cluster}-head`, without a suffix.
    pub plain_head_name: bool,
    /// Further containers of head pods, as written.
    pub head_sidecars: Vec<Value>,
    /// Further containers of worker pods, as written.
    pub worker_sidecars: Vec<Value>,
    /// Environment of the Ray container where it has none of that name, as written.
    pub default_env: Vec<Value>,
    /// Annotations where the pod has none of that name.
    pub default_annotations: BTreeMap<String, String>,
    /// Labels where the pod has none of that name.
    pub default_labels: BTreeMap<String, String>,
}

/// The process of the operator.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessConfig {
    /// Where metrics are served.
    pub metrics_address: String,
    /// Where `/healthz` and `/readyz` are served.
    pub probe_address: String,
    /// Only one of several operators acts.
    pub leader_election: bool,
    /// Namespace of the Lease; empty: the operator's own.
    pub leader_election_namespace: String,
    /// Objects of a kind that are worked on at once.
    pub concurrency: u32,
    /// Whether metrics of the custom resources are served.
    pub metrics: bool,
    /// Requests a second to the API server; 0: no limit of our own.
    pub qps: f64,
    /// Requests that may come at once.
    pub burst: u32,
    /// Dashboards are reached through the API server.
    pub kubernetes_proxy: bool,
    /// A second place for the log.
    pub log_file: String,
}

/// A scheduler that places whole gangs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum BatchScheduler {
    /// Volcano.
    Volcano,
    /// Apache YuniKorn.
    YuniKorn,
    /// KAI.
    Kai,
    /// The coscheduling plugin of kube-scheduler.
    SchedulerPlugins,
    /// kube-scheduler itself, by `scheduling.k8s.io` (feature gate `KubernetesWAS`).
    Kubernetes,
}

impl FromStr for BatchScheduler {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        match text {
            "volcano" => Ok(BatchScheduler::Volcano),
            "yunikorn" => Ok(BatchScheduler::YuniKorn),
            "kai-scheduler" => Ok(BatchScheduler::Kai),
            "scheduler-plugins" => Ok(BatchScheduler::SchedulerPlugins),
            _ => {
                let problem = "must be volcano, yunikorn, kai-scheduler or scheduler-plugins";
                Err(FieldError::new("--batch-scheduler", text, problem))
            }
        }
    }
}

impl Config {
    /// Reads the configuration file (`kind: Configuration`) over what is there.
    ///
    /// # Errors
    /// Names the first field that can't be used.
    pub fn read_file(&mut self, text: &str) -> Result<(), FieldError> {
        file::read(self, text)
    }

    /// Takes the operator's environment variables over what is there. `env`: the value of a variable.
    pub fn read_env(&mut self, env: impl Fn(&str) -> Option<String>) {
        let is = |name: &str, word: &str| env(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
        self.pods.wait_for_gcs &= !is("ENABLE_INIT_CONTAINER_INJECTION", "false");
        self.pods.probes &= !is("ENABLE_PROBES_INJECTION", "false");
        self.pods.login_shell |= is("ENABLE_LOGIN_SHELL", "true");
        self.pods.plain_head_name |= is("ENABLE_DETERMINISTIC_HEAD_POD_NAME", "true");
        self.head_service_has_cluster_ip |= is("ENABLE_RAY_HEAD_CLUSTER_IP_SERVICE", "true");
        self.ingress_on_openshift |= is("USE_INGRESS_ON_OPENSHIFT", "true");
        self.redis_cleanup &= !is("ENABLE_GCS_FT_REDIS_CLEANUP", "false");
        self.random_pod_delete |= is("ENABLE_RANDOM_POD_DELETE", "true");
        if let Some(domain) = env("CLUSTER_DOMAIN").filter(|domain| !domain.is_empty()) {
            self.cluster_domain = domain;
        }
    }

    /// Takes in which API groups the server has: one of OpenShift's own has Routes.
    pub fn found_groups<'a>(&mut self, groups: impl IntoIterator<Item = &'a str>) {
        let own = ["route.openshift.io", "security.openshift.io", "config.openshift.io"];
        self.routes = !self.ingress_on_openshift && groups.into_iter().any(|group| own.contains(&group));
    }

    /// What the rules for RayClusters depend on.
    pub fn rules(&self) -> Rules {
        Rules { compat: self.compat, gates: self.gates.clone() }
    }

    /// What `ray.io/kuberay-version` says. It differs from every release of KubeRay, so that either operator that takes a
    /// cluster over from the other stamps its own hash instead of making the pods again.
    pub fn version(&self) -> String {
        let kuberay = match self.compat {
            Compat::V1_6 => "v1.6.2",
            Compat::V1_7 => "v1.7.0",
        };
        format!("{kuberay}-mobula.{}", env!("CARGO_PKG_VERSION"))
    }

    /// Checks what single settings can't tell, and settles what follows from them. Called once everything is read.
    ///
    /// # Errors
    /// Two settings that exclude each other.
    pub fn settle(mut self) -> Result<Self, FieldError> {
        if self.gates.has(Gate::KubernetesWAS) {
            if self.batch_scheduler.is_some_and(|scheduler| scheduler != BatchScheduler::Kubernetes) {
                let problem = "excludes --batch-scheduler: remove one of the two";
                return Err(FieldError::new("--feature-gates", "KubernetesWAS=true", problem));
            }
            self.batch_scheduler = Some(BatchScheduler::Kubernetes);
        }
        Ok(self)
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            compat: Compat::default(),
            gates: Gates::default(),
            batch_scheduler: None,
            gangs: GangConfig::default(),
            autoscaler: AutoscalerConfig::default(),
            pods: PodConfig::default(),
            cluster_domain: "cluster.local".to_owned(),
            head_service_has_cluster_ip: false,
            routes: false,
            ingress_on_openshift: false,
            redis_cleanup: true,
            random_pod_delete: false,
            watch_namespaces: Vec::new(),
            process: ProcessConfig::default(),
        }
    }
}

impl Default for PodConfig {
    fn default() -> Self {
        PodConfig {
            wait_for_gcs: true,
            probes: true,
            login_shell: false,
            plain_head_name: false,
            head_sidecars: Vec::new(),
            worker_sidecars: Vec::new(),
            default_env: Vec::new(),
            default_annotations: BTreeMap::new(),
            default_labels: BTreeMap::new(),
        }
    }
}

impl Default for ProcessConfig {
    fn default() -> Self {
        ProcessConfig {
            metrics_address: ":8080".to_owned(),
            probe_address: ":8082".to_owned(),
            leader_election: true,
            leader_election_namespace: String::new(),
            concurrency: 1,
            metrics: false,
            qps: 0.0,
            burst: 200,
            kubernetes_proxy: false,
            log_file: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use mobula_api::{Gate, Gates};

    use super::{BatchScheduler, Config};

    #[test]
    fn variables_are_compared_in_lower_case_and_change_only_what_they_name() {
        let mut config = Config::default();
        let env =
            [("ENABLE_PROBES_INJECTION", "False"), ("ENABLE_LOGIN_SHELL", "TRUE"), ("CLUSTER_DOMAIN", "k8s.example")];
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        config.read_env(env);
        assert!(!config.pods.probes && config.pods.login_shell && config.pods.wait_for_gcs);
        assert_eq!(config.cluster_domain, "k8s.example");
    }

    #[test]
    fn dashboards_of_openshift_have_routes_unless_an_ingress_is_asked_for() {
        let mut config = Config::default();
        config.found_groups(["apps", "batch"]);
        assert!(!config.routes);
        config.found_groups(["apps", "config.openshift.io"]);
        assert!(config.routes);
        config.ingress_on_openshift = true;
        config.found_groups(["config.openshift.io"]);
        assert!(!config.routes);
    }

    #[test]
    fn schedulers_are_read_by_their_names() {
        assert_eq!("kai-scheduler".parse(), Ok(BatchScheduler::Kai));
        assert!("kai".parse::<BatchScheduler>().is_err());
    }

    #[test]
    fn workload_aware_scheduling_is_a_batch_scheduler_of_its_own() {
        let mut gates = Gates::default();
        gates.set(Gate::KubernetesWAS, true);
        let mut config = Config { gates, ..Config::default() };
        assert_eq!(config.clone().settle().unwrap().batch_scheduler, Some(BatchScheduler::Kubernetes));
        config.batch_scheduler = Some(BatchScheduler::Volcano);
        assert!(config.settle().is_err());
    }
}
