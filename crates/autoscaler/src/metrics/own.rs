//! Our own metrics.

use super::{Descriptor, Kind};

const fn counter(name: &'static str, help: &'static str) -> Descriptor {
    Descriptor { name, help, kind: Kind::Counter { created: false } }
}

const fn gauge(name: &'static str, help: &'static str) -> Descriptor {
    Descriptor { name, help, kind: Kind::Gauge }
}

const fn summary(name: &'static str, help: &'static str) -> Descriptor {
    Descriptor { name, help, kind: Kind::Summary }
}

/// By `phase`: collect, snapshot, plan, lint, apply, report.
pub static TICK_PHASE_SECONDS: Descriptor = summary("mobula_tick_phase_seconds", "Time of each phase of a tick.");
/// Ticks, by `result`: idle, changed, held, failed.
pub static TICKS: Descriptor = counter("mobula_ticks", "Ticks by their result.");
/// By `call`: time of the answered GCS requests.
pub static GCS_SECONDS: Descriptor = summary("mobula_gcs_request_seconds", "Time of requests to the GCS.");
/// By `call`: time of the answered API server requests.
pub static KUBE_SECONDS: Descriptor = summary("mobula_kube_request_seconds", "Time of requests to the API server.");
/// From the end of the GCS reply that a patch was made from to its acceptance.
pub static REACTION_SECONDS: Descriptor =
    summary("mobula_reaction_seconds", "Time from the end of a GCS reply to the acceptance of the patch made from it.");
/// By `kind` (task, gang, constraint): requests in the last reply.
pub static DEMAND: Descriptor = gauge("mobula_demand_requests", "Pending requests in the last GCS reply.");
/// By `kind` and `cause`: requests that the last plan does not serve.
pub static UNMET: Descriptor = gauge("mobula_unmet_requests", "Requests that the last plan does not serve, by cause.");
/// By `group`: replicas that exist.
pub static CURRENT_REPLICAS: Descriptor = gauge("mobula_current_replicas", "Replicas that exist, by group.");
/// By `group`: replicas that the last plan wants.
pub static DESIRED_REPLICAS: Descriptor =
    gauge("mobula_desired_replicas", "Replicas that the last plan wants, by group.");
/// By `result`: accepted, stale, failed.
pub static PATCHES: Descriptor = counter("mobula_patches", "Patches of the RayCluster by their result.");
/// By `result`: accepted, refused, failed.
pub static DRAINS: Descriptor = counter("mobula_drains", "Drains of Ray nodes by their result.");
/// By `result`: accepted, failed.
pub static RESIZES: Descriptor = counter("mobula_resizes", "In-place resizes of pods by their result.");
/// By `source` and `kind`: everything that went wrong.
pub static ERRORS: Descriptor = counter("mobula_errors", "Errors by source and kind.");
/// By `permission`: 1 where RBAC does not allow it.
pub static MISSING_PERMISSIONS: Descriptor =
    gauge("mobula_missing_permissions", "Optional permissions that this account does not have.");
/// 1 while the price file as it is now can't be used.
pub static PRICES_REFUSED: Descriptor =
    gauge("mobula_prices_refused", "1 while the price file can't be used and older prices stand in for it.");
/// By `reason`: 1 while nothing may be deleted.
pub static DELETIONS_HELD: Descriptor =
    gauge("mobula_deletions_held", "1 while nothing is deleted because the view of the cluster is not complete.");
/// Invariants that a plan broke; such a plan is not applied.
pub static PLAN_VIOLATIONS: Descriptor = counter("mobula_plan_violations", "Invariants broken by plans, by check.");
/// Bytes held by the flight recorder.
pub static RECORDER_BYTES: Descriptor = gauge("mobula_recorder_bytes", "Bytes held by the flight recorder.");
