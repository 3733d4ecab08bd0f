//! Situations, each with real parts: Ray heads and raylets, gcs_servers, etcd and kube-apiserver. One program, so that one
//! API server serves all; run serially (`--test-threads=1`), because each case brings up servers of its own.
//!
//! With `MOBULA_TEST_AUTOSCALER=ray` the same situations run with Ray's own autoscaler in Mobula's place.
#![allow(clippy::disallowed_methods)] // tests measure time

mod api_server;
mod gcs_calls;
mod scale_up_and_idle;
