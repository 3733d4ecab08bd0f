//! `mobula plan` on a running GCS: our own server side, on a loopback port.
// Helpers of tests may fail loudly.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use mobula_gcs::server::{MemoryGcs, serve};
use mobula_gcs::wire::decode_cluster_state;
use tokio::net::TcpListener;

const CAPTURE: &str = "deploy/examples/demand/pending_pg_each_strategy.pb";

async fn plan(demand: String) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mobula"));
    command.args(["plan", "--raycluster", "deploy/examples/raycluster-a.yaml", "-o", "json", "--now", "0", "--demand"]);
    command.arg(demand).current_dir(root).env_clear();
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_gcs_gives_the_plan_that_its_recorded_reply_gives() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let recorded = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(CAPTURE)).unwrap();
    let gcs = MemoryGcs::new(decode_cluster_state(&recorded).unwrap());
    let server = tokio::spawn(serve(listener, Arc::new(gcs), std::future::pending()));
    let live = plan(format!("gcs://{address}")).await;
    server.abort();
    assert_eq!(String::from_utf8_lossy(&live.stderr), "");
    assert_eq!(live.stdout, plan(CAPTURE.to_owned()).await.stdout);
    assert!(!live.stdout.is_empty());
}

#[tokio::test]
async fn a_gcs_that_does_not_answer_is_no_bad_input() {
    // Bound and dropped: nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let output = plan(format!("gcs://{address}")).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&address.to_string()));
    assert!(output.stdout.is_empty());
}
