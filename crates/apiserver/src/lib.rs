//! A Kubernetes API in memory: versioned, watchable, deterministic, under an unmodified `kube::Client`.
//!
//! The server is a `tower::Service`. Production code is given a [`kube::Client`] and can't tell it from a real one; what
//! tests and simulations play is the world around it: other writers, kubelets, the garbage collector, a bad network.
//!
//! ```
//! use k8s_openapi::api::core::v1::Pod;
//! use kube::api::{Api, PostParams};
//! use mobula_apiserver::{ApiServer, Refusal, Rule, Verb};
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = ApiServer::default();
//! // What the code under test is given. The first pod that it creates meets an error.
//! let connection = server.connect();
//! connection.fail(Rule::on(Verb::Create, "pods").refuse(Refusal::too_many_requests(1)));
//! let pods: Api<Pod> = Api::default_namespaced(connection.client("default"));
//! let pod = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}}))?;
//! assert!(pods.create(&PostParams::default(), &pod).await.is_err());
//! pods.create(&PostParams::default(), &pod).await?;
//! assert_eq!(connection.count(Verb::Create, "pods"), 2);
//!
//! // The world: a scheduler, a kubelet.
//! server.edit("pods", "default", "a", |pod| {
//!     pod["spec"]["nodeName"] = json!("node-1");
//!     pod["status"]["phase"] = json!("Running");
//! })?;
//! pods.delete("a", &Default::default()).await?;
//! assert!(pods.get("a").await?.metadata.deletion_timestamp.is_some());
//! server.finish_pod("default", "a")?;
//! assert_eq!(server.count("pods"), 0);
//! # Ok(())
//! # }
//! ```
//!
//! - **Nothing happens on its own.** No kubelet, no scheduler, no collector: [`ApiServer::collect_garbage`],
//!   [`ApiServer::end_namespaces`] and [`ApiServer::settle`] are steps that the caller takes. Only Kubernetes Events end by
//!   themselves, an hour after they were last written, as soon as anybody asks the server for anything.
//! - **Nothing is asked of the machine.** Time is `tokio::time`, which a simulation pauses; wall clock and ids are
//!   [`Settings`]; the same requests in the same order give the same bytes.
//! - **Memory is that of the living objects** and a bounded history. A watch holds a place in the history, no events.
//! - **Faults belong to a [`Connection`]**, so that two leaders can see two different networks: rules by verb, resource, name
//!   and number ([`Rule`]), or any [`Faults`]; latency, errors, lost answers, watches that lag or are cut.
//! - **Checks and defaults of a kind are the caller's**: [`ApiServer::admit`]. The server itself knows names, versions,
//!   metadata, statuses, generations, finalizers and what a pod may change.
//!
//! Not there: server-side apply and strategic merge patches (415), conversion between versions, managed fields, defaults of
//! built-in kinds. One suite of cases runs against this and against a real kube-apiserver
//! (`tests/tests/conformance`); where the two differ on purpose is listed in `tests/src/conformance/differences.rs`.

mod admission;
mod connection;
mod delete;
mod discovery;
mod faults;
mod garbage;
mod identity;
mod kind;
mod object;
mod observe;
mod patch;
mod read;
mod refusal;
mod request;
mod selector;
mod served;
mod server;
mod specifics;
mod state;
mod store;
mod validation;
mod watch;
mod write;

pub use admission::Review;
pub use connection::{Answer, Connection, Lost, Seen};
pub use faults::{Faults, Outcome, Rule, Verdict};
pub use identity::{Clock, Ids};
pub use kind::Kind;
pub use observe::Changed;
pub use refusal::Refusal;
pub use request::{Asked, Verb};
pub use server::{ApiServer, Settings};
pub use watch::End;
