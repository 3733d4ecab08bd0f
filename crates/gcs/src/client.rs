//! The calls an autoscaler makes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::call::{Answer, Caller, Repeat, check_status, required};
use crate::config::{Config, ConfigError};
use crate::convert;
use crate::error::Error;
use crate::id::{hex, parse_node};
use crate::method::{Method, short_name};
use crate::proto::autoscaler as pb;
use crate::proto::autoscaler::autoscaler_state_service as autoscaler;
use crate::proto::{
    self, health, internal_kv_gcs_service as kv, job_info_gcs_service as job_service,
    node_info_gcs_service as node_service, node_resource_info_gcs_service as usage_service,
    placement_group_info_gcs_service as group_service,
};
use crate::server::SharedGcs;
use crate::types::{
    AutoscalingState, ClusterConfig, ClusterState, DrainOutcome, DrainReason, JobInfo, LegacyDemand, NodeInfo,
    PlacementGroupInfo, RequestByCount, ResourceMap,
};

/// `GcsStatus` code of a key that is not there.
const KEY_NOT_FOUND: i32 = 17;
/// Where `request_resources` of a v1 head leaves its bundles (empty namespace).
const LEGACY_CONSTRAINT_KEY: &str = "autoscaler_resource_request";

/// One look at the cluster.
#[derive(Clone, Debug)]
pub struct Observed {
    /// What was seen.
    pub state: ClusterState,
    /// The reply as it was sent: what a recording keeps. None: it was not, for the GCS is in this process.
    pub wire: Option<Bytes>,
    /// How long the call took, retries included.
    pub took: Duration,
    /// [`Client::head_changes`] when the call began. A node of this observation must not be drained when the number is
    /// another one by then: the new head accepts a drain of any node that it does not know (yet).
    pub head_changes: u64,
}

/// A client of one GCS. Clones share connections, the cluster id and the token.
#[derive(Clone)]
pub struct Client {
    caller: Arc<Caller>,
}

impl Client {
    /// Checks the configuration; connects with the first call.
    pub fn new(config: Config) -> Result<Client, ConfigError> {
        Ok(Client::over(Caller::new(config)?))
    }

    /// Over a channel that somebody else has made: for servers in the same process. Without token.
    pub fn from_channel(channel: Channel) -> Client {
        Client::over(Caller::from_channel(channel))
    }

    /// Of a GCS in this process: no socket, no HTTP/2, and otherwise the same words; but what [`Client::cluster_state`] says is handed
    /// over as it is. Without token.
    pub fn within(gcs: SharedGcs) -> Client {
        Client::over(Caller::of_process(gcs))
    }

    fn over(caller: Caller) -> Client {
        Client { caller: Arc::new(caller) }
    }

    /// How often this client (and its clones) found that another head answers. Each time exactly one call failed with
    /// [`Error::HeadRestarted`]; who shares a client can compare this number instead.
    pub fn head_changes(&self) -> u64 {
        self.caller.head_changes()
    }

    /// Nodes and demand. Fails with [`Error::HeadRestarted`] once when the session is another one than before.
    pub async fn cluster_state(&self) -> Result<Observed, Error> {
        let head_changes = self.head_changes();
        let started = Instant::now();
        let (state, wire) = self.caller.cluster_state(self.caller.deadlines.state).await?;
        let took = started.elapsed();
        self.caller.check_session(&state.session_name).await?;
        Ok(Observed { state, wire, took, head_changes })
    }

    /// What `ray status` reads: the last report and the cluster.
    pub async fn cluster_status(&self) -> Result<(AutoscalingState, ClusterState), Error> {
        let limit = self.caller.deadlines.state;
        let request = pb::GetClusterStatusRequest {};
        let answer = self.caller.call(autoscaler::GET_CLUSTER_STATUS, &request, limit, Repeat::Safe).await?;
        let Answer { reply, endpoint, .. } = answer;
        let state = required(autoscaler::GET_CLUSTER_STATUS, reply.cluster_resource_state, endpoint)?;
        let state = convert::cluster_state(state);
        self.caller.check_session(&state.session_name).await?;
        Ok((convert::autoscaling_state(reply.autoscaling_state.unwrap_or_default()), state))
    }

    /// Tells the GCS what we are about, for `ray status` and the dashboard. A version below one that the GCS has seen is
    /// dropped silently.
    pub async fn report_autoscaling_state(&self, state: &AutoscalingState) -> Result<(), Error> {
        let autoscaling_state = Some(convert::to_autoscaling_state(state));
        let request = pb::ReportAutoscalingStateRequest { autoscaling_state };
        self.small(autoscaler::REPORT_AUTOSCALING_STATE, &request).await.map(drop)
    }

    /// Tells Ray's libraries how far the cluster can grow.
    pub async fn report_cluster_config(&self, config: &ClusterConfig) -> Result<(), Error> {
        let request = pb::ReportClusterConfigRequest { cluster_config: Some(convert::to_cluster_config(config)) };
        self.small(autoscaler::REPORT_CLUSTER_CONFIG, &request).await.map(drop)
    }

    /// Sets the constraint of the whole cluster, as `ray.autoscaler.sdk.request_resources` does.
    pub async fn request_resources(&self, requests: &[RequestByCount]) -> Result<(), Error> {
        let cluster_resource_constraint = Some(convert::to_constraint(requests));
        let request = pb::RequestClusterResourceConstraintRequest { cluster_resource_constraint };
        self.small(autoscaler::REQUEST_CLUSTER_RESOURCE_CONSTRAINT, &request).await.map(drop)
    }

    /// Asks a node to leave; with [`DrainReason::IdleTermination`] the raylet refuses unless it is idle. `deadline_ms` is
    /// Unix time and information only. A node that the GCS does not know counts as drained.
    pub async fn drain_node(
        &self,
        node_id: &str,
        reason: DrainReason,
        message: &str,
        deadline_ms: Option<u64>,
    ) -> Result<DrainOutcome, Error> {
        let reason = match reason {
            DrainReason::IdleTermination => pb::DrainNodeReason::IdleTermination,
            DrainReason::Preemption => pb::DrainNodeReason::Preemption,
        };
        let request = pb::DrainNodeRequest {
            node_id: parse_node(node_id)?,
            reason: reason.into(),
            reason_message: message.to_owned(),
            deadline_timestamp_ms: deadline_ms.map_or(0, |ms| i64::try_from(ms).unwrap_or(i64::MAX)),
        };
        let limit = self.caller.deadlines.node;
        let reply = self.caller.call(autoscaler::DRAIN_NODE, &request, limit, Repeat::Safe).await?.reply;
        Ok(if reply.is_accepted {
            DrainOutcome::Accepted
        } else {
            DrainOutcome::Rejected(reply.rejection_reason_message)
        })
    }

    /// Declares nodes dead, whatever they do: for nodes whose pod is gone or goes for a cause other than idleness.
    pub async fn stop_nodes(&self, node_ids: &[String]) -> Result<(), Error> {
        let data: Result<Vec<_>, Error> =
            node_ids.iter().map(|id| Ok(proto::DrainNodeData { node_id: parse_node(id)? })).collect();
        let request = proto::DrainNodeRequest { drain_node_data: data? };
        let limit = self.caller.deadlines.node;
        let reply = self.caller.call(node_service::DRAIN_NODE, &request, limit, Repeat::Safe).await?.reply;
        check_status(short_name(node_service::DRAIN_NODE.path()), reply.status)
    }

    /// Tells a raylet its new totals after its pod was resized in place; gives the totals that it has then.
    pub async fn resize_node(&self, node_id: &str, resources: &ResourceMap) -> Result<ResourceMap, Error> {
        let node_id = parse_node(node_id)?;
        let request = pb::ResizeRayletResourceInstancesRequest { node_id, resources: resources.clone() };
        let limit = self.caller.deadlines.node;
        let method = autoscaler::RESIZE_RAYLET_RESOURCE_INSTANCES;
        Ok(self.caller.call(method, &request, limit, Repeat::Safe).await?.reply.total_resources)
    }

    /// A value of the key-value store.
    pub async fn kv_get(&self, namespace: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let request = proto::InternalKvGetRequest { key: key.into(), namespace: namespace.into() };
        let reply = self.small(kv::INTERNAL_KV_GET, &request).await?;
        if reply.status.as_ref().is_some_and(|status| status.code == KEY_NOT_FOUND) {
            return Ok(None);
        }
        check_status(short_name(kv::INTERNAL_KV_GET.path()), reply.status)?;
        Ok(Some(reply.value))
    }

    /// Writes a value; tells whether the key is new. Without `overwrite` an existing value stays.
    pub async fn kv_put(&self, namespace: &str, key: &str, value: &[u8], overwrite: bool) -> Result<bool, Error> {
        let request = proto::InternalKvPutRequest {
            key: key.into(),
            value: value.into(),
            overwrite,
            namespace: namespace.into(),
        };
        // Sent twice, the answer of the second would say that the key was there before.
        let limit = self.caller.deadlines.small;
        let reply = self.caller.call(kv::INTERNAL_KV_PUT, &request, limit, Repeat::Unsafe).await?.reply;
        check_status(short_name(kv::INTERNAL_KV_PUT.path()), reply.status)?;
        Ok(reply.added)
    }

    /// Keys that begin with `prefix`. (An empty `namespace` lists the keys of all namespaces.)
    pub async fn kv_keys(&self, namespace: &str, prefix: &str) -> Result<Vec<String>, Error> {
        let request = proto::InternalKvKeysRequest { prefix: prefix.into(), namespace: namespace.into() };
        let reply = self.small(kv::INTERNAL_KV_KEYS, &request).await?;
        check_status(short_name(kv::INTERNAL_KV_KEYS.path()), reply.status)?;
        Ok(reply.results.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect())
    }

    /// The node table: living nodes, and dead ones as far as the GCS remembers them.
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, Error> {
        self.nodes_of(proto::GetAllNodeInfoRequest::default()).await
    }

    /// The living head.
    pub async fn head(&self) -> Result<Option<NodeInfo>, Error> {
        use proto::get_all_node_info_request::{NodeSelector, node_selector};
        let head = NodeSelector { node_selector: Some(node_selector::NodeSelector::IsHeadNode(true)) };
        let state_filter = Some(proto::gcs_node_info::GcsNodeState::Alive.into());
        let request = proto::GetAllNodeInfoRequest { limit: None, node_selectors: vec![head], state_filter };
        Ok(self.nodes_of(request).await?.into_iter().find(|node| node.is_head && node.alive))
    }

    async fn nodes_of(&self, request: proto::GetAllNodeInfoRequest) -> Result<Vec<NodeInfo>, Error> {
        let reply = self.table(node_service::GET_ALL_NODE_INFO, &request).await?;
        check_status(short_name(node_service::GET_ALL_NODE_INFO.path()), reply.status)?;
        Ok(reply.node_info_list.into_iter().map(convert::node_info).collect())
    }

    /// The job table.
    pub async fn jobs(&self) -> Result<Vec<JobInfo>, Error> {
        // Both skipped parts would make the GCS ask every driver.
        let request = proto::GetAllJobInfoRequest {
            skip_submission_job_info_field: Some(true),
            skip_is_running_tasks_field: Some(true),
            ..Default::default()
        };
        let reply = self.table(job_service::GET_ALL_JOB_INFO, &request).await?;
        check_status(short_name(job_service::GET_ALL_JOB_INFO.path()), reply.status)?;
        Ok(reply.job_info_list.into_iter().map(convert::job_info).collect())
    }

    /// The table of placement groups.
    pub async fn placement_groups(&self) -> Result<Vec<PlacementGroupInfo>, Error> {
        let request = proto::GetAllPlacementGroupRequest::default();
        let reply = self.table(group_service::GET_ALL_PLACEMENT_GROUP, &request).await?;
        check_status(short_name(group_service::GET_ALL_PLACEMENT_GROUP.path()), reply.status)?;
        Ok(reply.placement_group_table_data.into_iter().map(convert::placement_group_info).collect())
    }

    /// The demand as a v1 head gives it.
    pub async fn legacy_demand(&self) -> Result<LegacyDemand, Error> {
        let method = usage_service::GET_ALL_RESOURCE_USAGE;
        let reply = self.table(method, &proto::GetAllResourceUsageRequest {}).await?;
        check_status(short_name(method.path()), reply.status)?;
        let mut demand = convert::legacy_demand(reply.resource_usage_data.unwrap_or_default());
        if let Some(json) = self.kv_get("", LEGACY_CONSTRAINT_KEY).await? {
            let constraint = convert::legacy_constraint(&json).map_err(|problem| Error::Garbage {
                method: short_name(kv::INTERNAL_KV_GET.path()),
                endpoint: format!("key {LEGACY_CONSTRAINT_KEY}"),
                message: problem.to_string(),
            })?;
            demand.constraints.push(constraint);
        }
        Ok(demand)
    }

    /// The version of Ray that the head runs.
    pub async fn ray_version(&self) -> Result<String, Error> {
        let reply = self.small(node_service::CHECK_ALIVE, &proto::CheckAliveRequest::default()).await?;
        check_status(short_name(node_service::CHECK_ALIVE.path()), reply.status)?;
        Ok(reply.ray_version)
    }

    /// The id of the cluster, hex; fetched once and again after a restart of the head.
    pub async fn cluster_id(&self) -> Result<String, Error> {
        let id = self.caller.cluster_id(self.caller.deadlines.small).await?;
        Ok(hex(&id))
    }

    /// Whether the GCS says that it serves. Needs no token.
    pub async fn is_serving(&self) -> Result<bool, Error> {
        let request = health::HealthCheckRequest::default();
        let answer = self.caller.call_any(health::health::CHECK, &request, self.caller.deadlines.small).await?;
        Ok(answer.reply.status() == health::health_check_response::ServingStatus::Serving)
    }

    async fn small<Q: Message, R: Message + Default>(&self, method: Method<Q, R>, request: &Q) -> Result<R, Error> {
        Ok(self.caller.call(method, request, self.caller.deadlines.small, Repeat::Safe).await?.reply)
    }

    async fn table<Q: Message, R: Message + Default>(&self, method: Method<Q, R>, request: &Q) -> Result<R, Error> {
        Ok(self.caller.call(method, request, self.caller.deadlines.tables, Repeat::Safe).await?.reply)
    }

    #[cfg(feature = "registrar")]
    pub(crate) async fn register<Q: Message, R: Message + Default>(
        &self,
        method: Method<Q, R>,
        request: &Q,
    ) -> Result<R, Error> {
        self.small(method, request).await
    }
}
