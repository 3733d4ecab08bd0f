//! Everything that speaks to Ray's GCS, and the only crate that knows protobuf.
//!
//! - [`Client`]: the calls an autoscaler makes, with deadlines, retries, TLS and tokens ([`Config`]).
//! - [`wire`]: messages as bytes or protobuf JSON, as captures and recordings hold them.
//! - [`server`]: the other side of the same calls, for tests and simulation.
//! - The words ([`ClusterState`], [`AutoscalingState`], …) are plain Rust.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = mobula_gcs::Config::from_env(vec!["10.0.0.1:6379".into()], &|_name| None)?;
//! let client = mobula_gcs::Client::new(config)?;
//! let observed = client.cluster_state().await?;
//! println!("{} nodes", observed.state.nodes.len());
//! # Ok(())
//! # }
//! ```

mod auth;
mod call;
mod client;
mod codec;
mod config;
mod connect;
mod convert;
mod error;
mod id;
mod method;
mod proto;
#[cfg(feature = "registrar")]
pub mod registrar;
pub mod server;
mod tls;
mod types;
pub mod wire;

pub use auth::{Auth, Secret};
pub use client::{Client, Observed};
pub use config::{Config, ConfigError, Deadlines};
pub use error::Error;
pub use tls::{TlsError, TlsFiles};
pub use types::*;
