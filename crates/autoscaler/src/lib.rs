//! The sidecar: observe → snapshot → plan → lint → apply → report.
//!
//! Every decision is a plain function of what was observed; only the modules of the shell own a socket. Production, tests
//! and simulation differ in what they pass in: the Kubernetes client, the GCS client and the clock.

// The decisions: no input, no output, no clock.
pub mod document;
pub mod explain;
pub mod hosts;
pub mod legacy;
pub mod patch;
pub mod pod_needs;
pub mod prices;
pub mod quotas;
pub mod report;
pub mod snapshot;
pub mod surroundings;
pub mod topology;
pub mod topology_levels;
mod yaml;

// The shell.
pub mod clock;
pub mod events;
pub mod http;
pub mod idle_termination;
pub mod kube_access;
pub mod kube_events;
pub mod metrics;
pub mod object_store;
pub mod pace;
pub mod rbac;
pub mod recorder;
pub mod resize;
pub mod sidecar;
pub mod watch;
