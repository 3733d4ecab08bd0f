//! Situations, each with real parts: Ray heads and raylets, gcs_servers, etcd and kube-apiserver. One program, so that one
//! API server serves all; run serially (`--test-threads=1`), because each case brings up servers of its own.
//!
//! With `MOBULA_TEST_AUTOSCALER=ray` the same situations run with Ray's own autoscaler in Mobula's place. With
//! `MOBULA_TEST_KEEP_LOGS=1` the logs of every process are kept.
#![allow(clippy::disallowed_methods)] // tests measure time
#![allow(clippy::unwrap_used)] // what the cases share fails them as they fail themselves

use std::time::Duration;

use mobula_tests::world::IDLE_TIMEOUT_S;

mod api_server;
mod conformance;
mod demand;
mod gangs_and_labels;
mod gcs_calls;
mod outages;
mod permissions;
mod resize;
mod scale_up_and_idle;
mod secured;

/// From demand to patch, and from idle to patch: far above what it takes, also on a small machine that is busy with other
/// things. Ray's own needs three rounds of 5 s for the latter.
const REACTION: Duration = Duration::from_secs(60);

/// Longer than what is idle is kept.
const PAST_IDLE: Duration = Duration::from_secs(IDLE_TIMEOUT_S as u64 + 4);

/// Whether it is Mobula that is tested: some things are promised of Mobula only.
fn is_mobula() -> bool {
    use mobula_tests::sidecar::Autoscaler;
    Autoscaler::chosen().unwrap() == Autoscaler::Mobula
}
