//! The metrics of Ray's Python autoscaler, by its names. Those it never sets with its v2 scheduler stay at zero here too.

use super::{Descriptor, Kind};

const fn counter(name: &'static str, help: &'static str) -> Descriptor {
    Descriptor { name, help, kind: Kind::Counter { created: true } }
}

const fn gauge(name: &'static str, help: &'static str) -> Descriptor {
    Descriptor { name, help, kind: Kind::Gauge }
}

const fn histogram(name: &'static str, help: &'static str, bounds_s: &'static [f64]) -> Descriptor {
    Descriptor { name, help, kind: Kind::Histogram { bounds_s } }
}

const MINUTES: &[f64] = &[
    5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 720.0, 900.0, 1200.0,
    1500.0, 1800.0,
];

/// By group: pods that are asked for or exist, and do not run Ray yet.
pub static PENDING_NODES: Descriptor = gauge("autoscaler_pending_nodes", "Nodes on their way, by group.");
/// By group: Ray nodes.
pub static ACTIVE_NODES: Descriptor = gauge("autoscaler_active_nodes", "Ray nodes, by group.");
/// By group: pods that are being removed (what Ray's v2 shows under this name).
pub static RECENTLY_FAILED_NODES: Descriptor =
    gauge("autoscaler_recently_failed_nodes", "Nodes that are being terminated, by group.");
/// By resource: what the active nodes have.
pub static CLUSTER_RESOURCES: Descriptor =
    gauge("autoscaler_cluster_resources", "Total logical resources of the cluster.");
/// By resource: what the pending nodes will have.
pub static PENDING_RESOURCES: Descriptor =
    gauge("autoscaler_pending_resources", "Logical resources that are on their way.");
/// Pods whose removal the API server accepted.
pub static STOPPED_NODES: Descriptor = counter("autoscaler_stopped_nodes", "Nodes stopped.");
/// Pods that were asked for.
pub static STARTED_NODES: Descriptor = counter("autoscaler_started_nodes", "Nodes started.");
/// Ticks that ended with an error.
pub static UPDATE_LOOP_EXCEPTIONS: Descriptor =
    counter("autoscaler_update_loop_exceptions", "Iterations of the loop that failed.");
/// Launches that the API server did not accept.
pub static NODE_LAUNCH_EXCEPTIONS: Descriptor = counter("autoscaler_node_launch_exceptions", "Launches that failed.");
/// Drains that ended with an error.
pub static DRAIN_NODE_EXCEPTIONS: Descriptor =
    counter("autoscaler_drain_node_exceptions", "Drain requests that failed.");
/// RayClusters that could not be read.
pub static CONFIG_VALIDATION_EXCEPTIONS: Descriptor =
    counter("autoscaler_config_validation_exceptions", "Configurations that were not valid.");
/// Replicas that the operator could not create.
pub static FAILED_CREATE_NODES: Descriptor =
    counter("autoscaler_failed_create_nodes", "Nodes that could not be created.");

static FAILED_UPDATES: Descriptor = counter("autoscaler_failed_updates", "Not used by this autoscaler.");
static SUCCESSFUL_UPDATES: Descriptor = counter("autoscaler_successful_updates", "Not used by this autoscaler.");
static FAILED_RECOVERIES: Descriptor = counter("autoscaler_failed_recoveries", "Not used by this autoscaler.");
static SUCCESSFUL_RECOVERIES: Descriptor = counter("autoscaler_successful_recoveries", "Not used by this autoscaler.");
static RESET_EXCEPTIONS: Descriptor = counter("autoscaler_reset_exceptions", "Not used by this autoscaler.");
static UPDATING_NODES: Descriptor = gauge("autoscaler_updating_nodes", "Not used by this autoscaler.");
static RECOVERING_NODES: Descriptor = gauge("autoscaler_recovering_nodes", "Not used by this autoscaler.");
static RUNNING_WORKERS_NODES: Descriptor = gauge("autoscaler_running_workers_nodes", "Not used by this autoscaler.");
static CREATE_NODE_TIME: Descriptor =
    histogram("autoscaler_worker_create_node_time_seconds", "Not used by this autoscaler.", MINUTES);
static UPDATE_NODE_TIME: Descriptor =
    histogram("autoscaler_worker_update_time_seconds", "Not used by this autoscaler.", MINUTES);
static UPDATE_TIME: Descriptor = histogram(
    "autoscaler_update_time_seconds",
    "Not used by this autoscaler: see mobula_tick_phase_seconds.",
    &[0.01, 0.1, 1.0, 10.0, 100.0, 1000.0],
);

/// All of them.
pub(super) static ALL: &[&Descriptor] = &[
    &PENDING_NODES,
    &ACTIVE_NODES,
    &RECENTLY_FAILED_NODES,
    &CLUSTER_RESOURCES,
    &PENDING_RESOURCES,
    &STOPPED_NODES,
    &STARTED_NODES,
    &UPDATE_LOOP_EXCEPTIONS,
    &NODE_LAUNCH_EXCEPTIONS,
    &DRAIN_NODE_EXCEPTIONS,
    &CONFIG_VALIDATION_EXCEPTIONS,
    &FAILED_CREATE_NODES,
    &FAILED_UPDATES,
    &SUCCESSFUL_UPDATES,
    &FAILED_RECOVERIES,
    &SUCCESSFUL_RECOVERIES,
    &RESET_EXCEPTIONS,
    &UPDATING_NODES,
    &RECOVERING_NODES,
    &RUNNING_WORKERS_NODES,
    &CREATE_NODE_TIME,
    &UPDATE_NODE_TIME,
    &UPDATE_TIME,
];

const LABELLED: [&str; 5] = [
    "autoscaler_pending_nodes",
    "autoscaler_active_nodes",
    "autoscaler_recently_failed_nodes",
    "autoscaler_cluster_resources",
    "autoscaler_pending_resources",
];

/// Whether the metric has one series without further labels, shown as 0 until something happens.
pub(super) fn shown_from_the_start(descriptor: &Descriptor) -> bool {
    !matches!(descriptor.kind, Kind::Histogram { .. }) && !LABELLED.contains(&descriptor.name)
}

/// Whether the metric carries Ray's `SessionName` label.
pub(super) fn is_ray(descriptor: &Descriptor) -> bool {
    descriptor.name.starts_with("autoscaler_")
}
