//! Metrics with the names that KubeRay and controller-runtime have, and a few of our own.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, PoisonError},
};

use hdrhistogram::Histogram;

use mobula_api::{ObjectMeta, keys};

use super::{condition, kind::Kind, world::World};

/// Counters and durations of this process.
#[derive(Default)]
pub struct Metrics {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Requests by verb, kind and HTTP status.
    requests: BTreeMap<(&'static str, &'static str, u16), u64>,
    /// Failed actions by class.
    failures: BTreeMap<&'static str, u64>,
    /// Reconciles by controller and result.
    reconciles: BTreeMap<(&'static str, &'static str), u64>,
    /// Reconcile latency in µs by controller: from taken to carried out.
    reconcile_us: BTreeMap<&'static str, Durations>,
    /// Time in the queue after being due, in µs.
    queue_us: BTreeMap<&'static str, Durations>,
    /// Keys that are due.
    depth: BTreeMap<&'static str, u64>,
    /// Events that were said, by reason.
    events: BTreeMap<&'static str, u64>,
    /// Seconds from creation until it became Provisioned last, by namespace, name, uid.
    provisioned_s: BTreeMap<(String, String, String), f64>,
    /// Gangs that wait, that were given back, and how long those waited that began.
    gangs_waiting: usize,
    gangs_given_back: u64,
    gang_wait: BTreeMap<&'static str, Durations>,
    is_leader: bool,
}

struct Durations {
    histogram: Histogram<u64>,
    sum_us: u64,
}

/// Longest duration that is told apart, in µs: an hour.
const LONGEST_US: u64 = 3_600_000_000;

impl Durations {
    fn new() -> Option<Self> {
        Histogram::new_with_bounds(1, LONGEST_US, 2).ok().map(|histogram| Durations { histogram, sum_us: 0 })
    }
}

impl Metrics {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A request was answered with `code` (0: not at all).
    pub fn request(&self, verb: &'static str, kind: &Kind, code: u16) {
        let plural = kind.plural;
        self.with(|state| *state.requests.entry((verb, plural, code)).or_default() += 1);
    }

    /// An action failed.
    pub fn failure(&self, class: &'static str) {
        self.with(|state| *state.failures.entry(class).or_default() += 1);
    }

    /// A reconcile ended.
    pub fn reconcile(&self, controller: &'static str, result: &'static str, took: std::time::Duration) {
        self.with(|state| {
            *state.reconciles.entry((controller, result)).or_default() += 1;
            observe(&mut state.reconcile_us, controller, took);
        });
    }

    /// A key was taken from the queue so long after it was due.
    pub fn waited(&self, controller: &'static str, waited: std::time::Duration) {
        self.with(|state| observe(&mut state.queue_us, controller, waited));
    }

    /// So many keys are due.
    pub fn depth(&self, controller: &'static str, depth: usize) {
        self.with(|state| state.depth.insert(controller, depth as u64));
    }

    /// An Event was said.
    pub fn event(&self, reason: &'static str) {
        self.with(|state| *state.events.entry(reason).or_default() += 1);
    }

    /// A RayCluster became provisioned, so long after it was created: for the first time, or again, as KubeRay counts.
    pub fn provisioned(&self, namespace: &str, name: &str, uid: &str, after_ms: i64) {
        let series = (namespace.to_owned(), name.to_owned(), uid.to_owned());
        self.with(|state| state.provisioned_s.insert(series, after_ms.max(0) as f64 / 1e3));
    }

    /// Gang admission has looked at all gangs: so many wait, these have begun after so many ms, and so many were given back.
    pub fn gangs(&self, waiting: usize, begun_after_ms: &[i64], given_back: u64) {
        self.with(|state| {
            state.gangs_waiting = waiting;
            state.gangs_given_back += given_back;
            for after_ms in begun_after_ms {
                let waited = std::time::Duration::from_millis(u64::try_from(*after_ms).unwrap_or(0));
                observe(&mut state.gang_wait, "gang-admission", waited);
            }
        });
    }

    /// A custom resource is gone: so are its series.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.with(|state| state.provisioned_s.retain(|(space, known, _), _| space != namespace || known != name));
    }

    /// Whether this process leads.
    pub fn leads(&self, is_leader: bool) {
        self.with(|state| state.is_leader = is_leader);
    }

    /// Requests so far: verb, plural, HTTP status, count.
    pub fn requests(&self) -> Vec<(&'static str, &'static str, u16, u64)> {
        self.with(|state| state.requests.iter().map(|(key, count)| (key.0, key.1, key.2, *count)).collect())
    }

    /// Everything, in Prometheus' text format. Series of custom resources only if `with_resources`.
    pub fn render(&self, world: &World, with_resources: bool) -> String {
        let mut out = String::with_capacity(8 * 1024);
        if with_resources {
            // Writing to a String can't fail.
            let _ = cluster_text(&mut out, world);
        }
        self.with(|state| {
            let _ = state_text(&mut out, state, with_resources);
        });
        out
    }
}

fn observe(durations: &mut BTreeMap<&'static str, Durations>, controller: &'static str, took: std::time::Duration) {
    if !durations.contains_key(controller)
        && let Some(new) = Durations::new()
    {
        durations.insert(controller, new);
    }
    if let Some(known) = durations.get_mut(controller) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        known.histogram.saturating_record(us);
        known.sum_us = known.sum_us.saturating_add(us);
    }
}

fn header(out: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn cluster_text(out: &mut String, world: &World) -> std::fmt::Result {
    let clusters = world.clusters();
    let readable = || clusters.iter().filter_map(|cluster| Some((cluster, cluster.object.as_ref().ok()?)));
    let name = "kuberay_cluster_info";
    header(out, name, "gauge", "Metadata information about RayCluster custom resources")?;
    for (cluster, object) in readable() {
        let owner = owner_kind(&object.metadata);
        let labels = series(&cluster.key.namespace, &cluster.key.name, &cluster.uid);
        writeln!(out, "{name}{{{labels},owner_kind=\"{owner}\"}} 1")?;
    }
    let name = "kuberay_cluster_condition_provisioned";
    header(out, name, "gauge", "Indicates whether the RayCluster is provisioned")?;
    for (cluster, object) in readable() {
        let is_true = condition::is_true(condition::all(&object.status), "RayClusterProvisioned");
        let labels = series(&cluster.key.namespace, &cluster.key.name, &cluster.uid);
        writeln!(out, "{name}{{{labels},condition=\"{is_true}\"}} 1")?;
    }
    Ok(())
}

/// What the RayCluster was made for. The label says it also where there is no owner: in a copy, or one that was restored.
fn owner_kind(metadata: &ObjectMeta) -> &str {
    let label = metadata.labels.get(keys::ORIGINATED_FROM_CRD).map(String::as_str);
    label.filter(|kind| ["RayJob", "RayService"].contains(kind)).unwrap_or("None")
}

fn series(namespace: &str, name: &str, uid: &str) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("name=\"{}\",namespace=\"{}\",uid=\"{}\"", escaped(name), escaped(namespace), escaped(uid))
}

fn state_text(out: &mut String, state: &State, with_resources: bool) -> std::fmt::Result {
    if with_resources {
        let name = "kuberay_cluster_provisioned_duration_seconds";
        header(out, name, "gauge", "Time from creation until the RayCluster became provisioned")?;
        for ((namespace, cluster, uid), seconds) in &state.provisioned_s {
            writeln!(out, "{name}{{{}}} {seconds}", series(namespace, cluster, uid))?;
        }
    }
    header(out, "controller_runtime_reconcile_total", "counter", "Reconciles by controller and result")?;
    for ((controller, result), count) in &state.reconciles {
        writeln!(out, "controller_runtime_reconcile_total{{controller=\"{controller}\",result=\"{result}\"}} {count}")?;
    }
    header(out, "controller_runtime_reconcile_errors_total", "counter", "Reconciles that failed, by controller")?;
    for controller in state.reconcile_us.keys() {
        let errors = state.reconciles.get(&(controller, "error")).copied().unwrap_or_default();
        writeln!(out, "controller_runtime_reconcile_errors_total{{controller=\"{controller}\"}} {errors}")?;
    }
    let help = "Length of time per reconciliation per controller";
    let name = "controller_runtime_reconcile_time_seconds";
    histogram_text(out, name, help, ("controller", &RECONCILE_BUCKETS), &state.reconcile_us)?;
    let help = "How long in seconds an item stays in workqueue before being requested";
    histogram_text(out, "workqueue_queue_duration_seconds", help, ("name", &QUEUE_BUCKETS), &state.queue_us)?;
    let help = "Time from taking a custom resource up until its decision was carried out";
    durations_text(out, "mobula_operator_reconcile_seconds", help, &state.reconcile_us)?;
    let help = "Time that a custom resource was due before it was taken up";
    durations_text(out, "mobula_operator_queue_seconds", help, &state.queue_us)?;
    header(out, "workqueue_depth", "gauge", "Custom resources that are due")?;
    for (controller, depth) in &state.depth {
        writeln!(out, "workqueue_depth{{name=\"{controller}\"}} {depth}")?;
    }
    header(out, "mobula_operator_requests_total", "counter", "Requests to the API server; code 0: no answer")?;
    for ((verb, resource, code), count) in &state.requests {
        let labels = format!("verb=\"{verb}\",resource=\"{resource}\",code=\"{code}\"");
        writeln!(out, "mobula_operator_requests_total{{{labels}}} {count}")?;
    }
    header(out, "mobula_operator_failures_total", "counter", "Actions that failed, by class")?;
    for (class, count) in &state.failures {
        writeln!(out, "mobula_operator_failures_total{{class=\"{class}\"}} {count}")?;
    }
    header(out, "mobula_operator_events_total", "counter", "Events, by reason")?;
    for (reason, count) in &state.events {
        writeln!(out, "mobula_operator_events_total{{reason=\"{reason}\"}} {count}")?;
    }
    if !state.gang_wait.is_empty() || state.gangs_waiting > 0 {
        let help = "Time from the creation of a gang's oldest pod until its gates were lifted";
        durations_text(out, "mobula_operator_gang_wait_seconds", help, &state.gang_wait)?;
        header(out, "mobula_operator_gangs_waiting", "gauge", "Gangs that wait until they fit as a whole")?;
        writeln!(out, "mobula_operator_gangs_waiting {}", state.gangs_waiting)?;
        header(out, "mobula_operator_gangs_given_back_total", "counter", "Gangs that were not bound in time")?;
        writeln!(out, "mobula_operator_gangs_given_back_total {}", state.gangs_given_back)?;
    }
    header(out, "leader_election_master_status", "gauge", "Whether this process leads")?;
    let leads = u8::from(state.is_leader);
    writeln!(out, "leader_election_master_status{{name=\"{}\"}} {leads}", super::lease::NAME)
}

/// Upper bounds in seconds, as controller-runtime has them: what is drawn from these names expects them.
const RECONCILE_BUCKETS: [f64; 40] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5,
    1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0,
];
const QUEUE_BUCKETS: [f64; 12] = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0];

/// `label` is what the controller is called in, with the upper bounds of the buckets in seconds.
fn histogram_text(
    out: &mut String,
    name: &str,
    help: &str,
    (label, bounds): (&str, &[f64]),
    durations: &BTreeMap<&'static str, Durations>,
) -> std::fmt::Result {
    header(out, name, "histogram", help)?;
    for (controller, durations) in durations {
        let label = format!("{label}=\"{controller}\"");
        let count = durations.histogram.len();
        for bound in bounds {
            let within = durations.histogram.count_between(0, (bound * 1e6) as u64);
            writeln!(out, "{name}_bucket{{{label},le=\"{bound}\"}} {within}")?;
        }
        writeln!(out, "{name}_bucket{{{label},le=\"+Inf\"}} {count}")?;
        writeln!(out, "{name}_sum{{{label}}} {}", durations.sum_us as f64 / 1e6)?;
        writeln!(out, "{name}_count{{{label}}} {count}")?;
    }
    Ok(())
}

fn durations_text(
    out: &mut String,
    name: &str,
    help: &str,
    durations: &BTreeMap<&'static str, Durations>,
) -> std::fmt::Result {
    header(out, name, "summary", help)?;
    for (controller, durations) in durations {
        let label = format!("controller=\"{controller}\"");
        for quantile in [0.5, 0.9, 0.99] {
            let seconds = durations.histogram.value_at_quantile(quantile) as f64 / 1e6;
            writeln!(out, "{name}{{{label},quantile=\"{quantile}\"}} {seconds}")?;
        }
        writeln!(out, "{name}_sum{{{label}}} {}", durations.sum_us as f64 / 1e6)?;
        writeln!(out, "{name}_count{{{label}}} {}", durations.histogram.len())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn series_are_rendered_under_kuberays_names() {
        let metrics = Metrics::default();
        metrics.request("create", &crate::frame::kind::POD, 201);
        metrics.reconcile("raycluster-controller", "success", Duration::from_millis(5));
        metrics.reconcile("raycluster-controller", "error", Duration::from_millis(7));
        metrics.waited("raycluster-controller", Duration::from_micros(50));
        metrics.provisioned("ns", "a", "u", 1_000);
        metrics.provisioned("ns", "a", "u", 12_500);
        let (world, _changes) = World::new(&[], &[]);
        let text = metrics.render(&world, true);
        for line in [
            "mobula_operator_requests_total{verb=\"create\",resource=\"pods\",code=\"201\"} 1",
            "controller_runtime_reconcile_total{controller=\"raycluster-controller\",result=\"success\"} 1",
            "kuberay_cluster_provisioned_duration_seconds{name=\"a\",namespace=\"ns\",uid=\"u\"} 12.5",
            "controller_runtime_reconcile_errors_total{controller=\"raycluster-controller\"} 1",
            "controller_runtime_reconcile_time_seconds_bucket{controller=\"raycluster-controller\",le=\"0.005\"} 1",
            "controller_runtime_reconcile_time_seconds_bucket{controller=\"raycluster-controller\",le=\"0.01\"} 2",
            "workqueue_queue_duration_seconds_bucket{name=\"raycluster-controller\",le=\"0.0001\"} 1",
            "mobula_operator_reconcile_seconds_count{controller=\"raycluster-controller\"} 2",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(!metrics.render(&world, false).contains("kuberay_"));
    }
}
