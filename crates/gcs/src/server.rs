//! The server side of the calls that [`crate::Client`] makes, in plain types: for tests, and for a simulated cluster.
//!
//! Implement [`Gcs`] (every method has a default answer) or use [`MemoryGcs`], and [`serve`] it on a socket,
//! [`serve_tls`] it, or [`serve_stream`] it on one side of an in-process pipe.

mod dispatch;
mod listen;
mod memory;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, ready};

pub(crate) use self::dispatch::{Front, Told};
pub use self::listen::{ServeError, duplex_channel, serve, serve_stream, serve_tls};
pub use self::memory::{Drain, Fault, MemoryGcs};
use crate::types::{
    AutoscalingState, ClusterConfig, ClusterState, DrainOutcome, DrainReason, JobInfo, LegacyDemand, NodeInfo,
    PlacementGroupInfo, RequestByCount, ResourceMap,
};

/// What a server answers.
pub type Reply<'a, T> = BoxFuture<'a, Result<T, Refusal>>;

/// An answer that is there already.
pub fn reply<'a, T: Send + 'a>(value: T) -> Reply<'a, T> {
    ready(Ok(value)).boxed()
}

/// A call that is refused with a gRPC status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `UNAUTHENTICATED`.
    Unauthenticated(String),
    /// `UNAVAILABLE`.
    Unavailable(String),
    /// `ABORTED`, as the GCS refuses a drain that it can't pass on.
    Aborted(String),
    /// `UNIMPLEMENTED`, as an older GCS says of a method that it has not.
    Unimplemented,
}

fn unimplemented<'a, T: Send + 'a>() -> Reply<'a, T> {
    ready(Err(Refusal::Unimplemented)).boxed()
}

/// How a call goes on after it has come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As usual.
    Answer,
    /// As usual, but so much later.
    AnswerAfter(Duration),
    /// With this status.
    Refuse(Refusal),
    /// With these bytes instead of a message.
    Bytes(Bytes),
    /// Never.
    Hang,
    /// The connection breaks.
    Disconnect,
}

/// A GCS. Where a method has nothing better to say, its default says what an empty GCS would.
pub trait Gcs: Send + Sync + 'static {
    /// Id of the cluster, hex. A call that carries another one is refused.
    fn cluster_id(&self) -> String;

    /// Token that every call but the health check must carry.
    fn token(&self) -> Option<String> {
        None
    }

    /// Asked for each call after authentication; `method` is `GetClusterResourceState` and the like.
    fn verdict(&self, _method: &str) -> Verdict {
        Verdict::Answer
    }

    /// `GetClusterResourceState`.
    fn cluster_state(&self) -> Reply<'_, ClusterState>;

    /// `ReportAutoscalingState`.
    fn report_autoscaling_state(&self, state: AutoscalingState) -> Reply<'_, ()>;

    /// The report that is valid now: part of `GetClusterStatus`.
    fn autoscaling_state(&self) -> Reply<'_, AutoscalingState> {
        reply(AutoscalingState::default())
    }

    /// `ReportClusterConfig`.
    fn report_cluster_config(&self, _config: ClusterConfig) -> Reply<'_, ()> {
        reply(())
    }

    /// `RequestClusterResourceConstraint`.
    fn request_resources(&self, _requests: Vec<RequestByCount>) -> Reply<'_, ()> {
        unimplemented()
    }

    /// `AutoscalerStateService.DrainNode`; the deadline is Unix ms.
    fn drain_node(
        &self,
        node_id: String,
        reason: DrainReason,
        message: String,
        deadline_ms: Option<u64>,
    ) -> Reply<'_, DrainOutcome>;

    /// `NodeInfoGcsService.DrainNode`.
    fn stop_nodes(&self, node_ids: Vec<String>) -> Reply<'_, ()>;

    /// `ResizeRayletResourceInstances`: the totals after it.
    fn resize_node(&self, _node_id: String, _resources: ResourceMap) -> Reply<'_, ResourceMap> {
        unimplemented()
    }

    /// `InternalKVGet`.
    fn kv_get(&self, _namespace: String, _key: String) -> Reply<'_, Option<Vec<u8>>> {
        reply(None)
    }

    /// `InternalKVPut`: whether the key is new.
    fn kv_put(&self, _namespace: String, _key: String, _value: Vec<u8>, _overwrite: bool) -> Reply<'_, bool> {
        reply(true)
    }

    /// `InternalKVKeys`.
    fn kv_keys(&self, _namespace: String, _prefix: String) -> Reply<'_, Vec<String>> {
        reply(vec![])
    }

    /// `GetAllNodeInfo`, unfiltered.
    fn nodes(&self) -> Reply<'_, Vec<NodeInfo>> {
        reply(vec![])
    }

    /// `GetAllJobInfo`.
    fn jobs(&self) -> Reply<'_, Vec<JobInfo>> {
        reply(vec![])
    }

    /// `GetAllPlacementGroup`.
    fn placement_groups(&self) -> Reply<'_, Vec<PlacementGroupInfo>> {
        reply(vec![])
    }

    /// `GetAllResourceUsage`; the constraints are read from the key-value store.
    fn legacy_demand(&self) -> Reply<'_, LegacyDemand> {
        reply(LegacyDemand::default())
    }

    /// `CheckAlive`.
    fn ray_version(&self) -> Reply<'_, String> {
        reply("2.60.0".into())
    }
}

/// A server that several connections share.
pub type SharedGcs = Arc<dyn Gcs>;
