//! Harness for tests with real parts: a real Ray, a real kube-apiserver, and stand-ins for what is between them.
//!
//! - [`parts`] finds the binaries, [`process`] starts and always stops them, [`wait`] waits for what they do.
//! - [`apiserver`]: etcd and kube-apiserver with KubeRay's RayCluster definition, one for each test program; a namespace,
//!   an account and the stock Role for each case.
//! - [`control_plane`]: the same with scheduler and controllers, and nodes that KWOK pretends.
//! - [`gcs`] is a GCS alone, [`ray`] a whole head with raylets; [`driver`] a Python program that asks for work.
//! - [`operator`] stands in for KubeRay's operator and the kubelet; [`sidecar`] runs what is tested, or Ray's own.
//! - [`kuberay`]: the real operator of KubeRay.
//! - [`redis`]: where a GCS may keep its state.
//! - [`nodes`] stands in for scheduler and kubelets where the operator is the real one.
//! - [`node`]: a whole Kubernetes cluster of one real node, for `cargo xtask e2e`.
//! - [`dice`]: random problems from a seed; [`openb`]: a made-up data centre with GPUs that pods share.
//! - [`conformance`]: cases that a real kube-apiserver and the one in memory must answer alike.
//! - [`world`] puts all of it together for one case.
#![allow(clippy::disallowed_methods)] // tests measure time, wait, and read the environment

pub mod apiserver;
pub mod certificates;
pub mod conformance;
pub mod control_plane;
pub mod dice;
pub mod driver;
pub mod gcs;
pub mod kubelet;
pub mod kuberay;
pub mod node;
pub mod nodes;
pub mod openb;
pub mod operator;
pub mod parts;
pub mod process;
pub mod ray;
pub mod raycluster;
pub mod redis;
pub mod sidecar;
pub mod wait;
pub mod world;
