//! From a gRPC request to a method of [`Gcs`] and back.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use prost::Message;
use tokio::sync::Notify;
use tonic::codegen::{Body as HttpBody, StdError};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::{Gcs, Refusal, SharedGcs, Verdict};
use crate::call::{AUTHORIZATION_KEY, CLUSTER_ID_KEY};
use crate::codec::Raw;
use crate::convert;
use crate::id::hex;
use crate::method::{Method, short_name};
use crate::proto::autoscaler::autoscaler_state_service as autoscaler;
use crate::proto::autoscaler::{self as pb, DrainNodeReason};
use crate::proto::{
    self, health, internal_kv_gcs_service as kv, job_info_gcs_service as job_service,
    node_info_gcs_service as node_service, node_resource_info_gcs_service as usage_service,
    placement_group_info_gcs_service as group_service,
};
use crate::types::{ClusterState, DrainOutcome, DrainReason};

/// `GcsStatus` code of a key that is not there, and the GCS's words for it.
const KEY_NOT_FOUND: (i32, &str) = (17, "Failed to find the key");

/// One connection's service.
#[derive(Clone)]
pub(crate) struct Front {
    pub gcs: SharedGcs,
    /// Told when the connection is to break.
    pub hang_up: Arc<Notify>,
}

/// An answer to a call from within the process.
pub(crate) enum Told {
    /// As it would be sent.
    Wire(Bytes),
    /// To `GetClusterResourceState`, the largest and most frequent: neither written nor read.
    State(Box<ClusterState>),
}

impl Front {
    /// The front of a GCS, for one connection.
    pub fn new(gcs: SharedGcs) -> Front {
        Front { gcs, hang_up: Arc::default() }
    }

    /// A call from within the process.
    pub async fn ask(&self, path: &str, request: Request<Bytes>) -> Result<Told, Status> {
        let (metadata, _, body) = request.into_parts();
        let answer = async {
            if let Some(bytes) = self.admit(path, &metadata).await? {
                return Ok(Told::Wire(bytes));
            }
            if path == autoscaler::GET_CLUSTER_RESOURCE_STATE.path() {
                return Ok(Told::State(Box::new(self.gcs.cluster_state().await?)));
            }
            dispatch(self.gcs.as_ref(), path, body).await.map(Told::Wire)
        };
        tokio::select! {
            biased;
            reply = answer => reply,
            () = self.hang_up.notified() => Err(Status::unavailable("the connection broke")),
        }
    }
}

impl<B> tower::Service<http::Request<B>> for Front
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
    B::Data: Send,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let front = self.clone();
        let path = request.uri().path().to_owned();
        let unary = move |request: Request<Bytes>| {
            let (front, path) = (front.clone(), path.clone());
            async move {
                let (metadata, _, body) = request.into_parts();
                front.answer(&path, &metadata, body).await.map(Response::new)
            }
        };
        async move {
            let mut grpc = tonic::server::Grpc::new(Raw)
                .max_decoding_message_size(crate::config::MAX_MESSAGE_BYTES)
                .max_encoding_message_size(crate::config::MAX_MESSAGE_BYTES);
            Ok(grpc.unary(tower::service_fn(unary), request).await)
        }
        .boxed()
    }
}

impl Front {
    async fn answer(&self, path: &str, metadata: &MetadataMap, body: Bytes) -> Result<Bytes, Status> {
        match self.admit(path, metadata).await? {
            Some(bytes) => Ok(bytes),
            None => dispatch(self.gcs.as_ref(), path, body).await,
        }
    }

    /// Lets a call come to the GCS when it is its turn. Bytes: they are answered instead.
    async fn admit(&self, path: &str, metadata: &MetadataMap) -> Result<Option<Bytes>, Status> {
        if path != health::health::CHECK.path() {
            self.authenticate(metadata)?;
        }
        match self.gcs.verdict(short_name(path)) {
            Verdict::Answer => Ok(None),
            Verdict::AnswerAfter(delay) => {
                tokio::time::sleep(delay).await;
                Ok(None)
            }
            Verdict::Refuse(refusal) => Err(refusal.into()),
            Verdict::Bytes(bytes) => Ok(Some(bytes)),
            Verdict::Hang => pending().await,
            Verdict::Disconnect => {
                self.hang_up.notify_one();
                pending().await
            }
        }
    }

    /// Token first, then cluster, with the words of a real GCS.
    fn authenticate(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let given = |key: &str| metadata.get(key).map(|value| value.to_str().unwrap_or_default());
        if let Some(token) = self.gcs.token()
            && given(AUTHORIZATION_KEY) != Some(&format!("Bearer {token}"))
        {
            let words = "InvalidAuthToken: Authentication token is missing or incorrect";
            return Err(Status::unauthenticated(words));
        }
        match given(CLUSTER_ID_KEY) {
            Some(id) if id != self.gcs.cluster_id() => Err(Status::unauthenticated(
                "WrongClusterID: Perhaps the client is accessing GCS after it has restarted.",
            )),
            _ => Ok(()),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        match refusal {
            Refusal::Unauthenticated(message) => Status::unauthenticated(message),
            Refusal::Unavailable(message) => Status::unavailable(message),
            Refusal::Aborted(message) => Status::aborted(message),
            Refusal::Unimplemented => Status::unimplemented(""),
        }
    }
}

/// Reads the request that belongs to `method`; the method is there for its types.
fn read<Q: Message + Default, R>(_method: Method<Q, R>, body: Bytes) -> Result<Q, Status> {
    Q::decode(body).map_err(|error| Status::internal(format!("failed to parse the request: {error}")))
}

/// Writes the reply that belongs to `method`.
fn write<Q, R: Message>(_method: Method<Q, R>, reply: &R) -> Result<Bytes, Status> {
    Ok(reply.encode_to_vec().into())
}

async fn dispatch(gcs: &dyn Gcs, path: &str, body: Bytes) -> Result<Bytes, Status> {
    let service = path.rsplit_once('/').map_or("", |(service, _)| service);
    match service {
        "/ray.rpc.autoscaler.AutoscalerStateService" => autoscaler_service(gcs, path, body).await,
        "/ray.rpc.InternalKVGcsService" => kv_service(gcs, path, body).await,
        _ => tables(gcs, path, body).await,
    }
}

async fn autoscaler_service(gcs: &dyn Gcs, path: &str, body: Bytes) -> Result<Bytes, Status> {
    if path == autoscaler::GET_CLUSTER_RESOURCE_STATE.path() {
        let method = autoscaler::GET_CLUSTER_RESOURCE_STATE;
        read(method, body)?;
        let cluster_resource_state = Some(convert::to_cluster_state(gcs.cluster_state().await?));
        write(method, &pb::GetClusterResourceStateReply { cluster_resource_state })
    } else if path == autoscaler::GET_CLUSTER_STATUS.path() {
        let autoscaling_state = Some(convert::to_autoscaling_state(&gcs.autoscaling_state().await?));
        let cluster_resource_state = Some(convert::to_cluster_state(gcs.cluster_state().await?));
        let reply = pb::GetClusterStatusReply { autoscaling_state, cluster_resource_state };
        write(autoscaler::GET_CLUSTER_STATUS, &reply)
    } else if path == autoscaler::REPORT_AUTOSCALING_STATE.path() {
        let method = autoscaler::REPORT_AUTOSCALING_STATE;
        let state = read(method, body)?.autoscaling_state.unwrap_or_default();
        gcs.report_autoscaling_state(convert::autoscaling_state(state)).await?;
        write(method, &pb::ReportAutoscalingStateReply {})
    } else if path == autoscaler::REPORT_CLUSTER_CONFIG.path() {
        let method = autoscaler::REPORT_CLUSTER_CONFIG;
        let config = read(method, body)?.cluster_config.unwrap_or_default();
        gcs.report_cluster_config(convert::cluster_config(config)).await?;
        write(method, &pb::ReportClusterConfigReply {})
    } else if path == autoscaler::REQUEST_CLUSTER_RESOURCE_CONSTRAINT.path() {
        let method = autoscaler::REQUEST_CLUSTER_RESOURCE_CONSTRAINT;
        let constraint = read(method, body)?.cluster_resource_constraint.unwrap_or_default();
        gcs.request_resources(convert::constraint(constraint)).await?;
        write(method, &pb::RequestClusterResourceConstraintReply {})
    } else if path == autoscaler::DRAIN_NODE.path() {
        drain_node(gcs, read(autoscaler::DRAIN_NODE, body)?).await
    } else if path == autoscaler::RESIZE_RAYLET_RESOURCE_INSTANCES.path() {
        let method = autoscaler::RESIZE_RAYLET_RESOURCE_INSTANCES;
        let request = read(method, body)?;
        let total_resources = gcs.resize_node(hex(&request.node_id), request.resources).await?;
        write(method, &pb::ResizeRayletResourceInstancesReply { total_resources })
    } else {
        Err(Refusal::Unimplemented.into())
    }
}

async fn drain_node(gcs: &dyn Gcs, request: pb::DrainNodeRequest) -> Result<Bytes, Status> {
    let reason = match request.reason() {
        DrainNodeReason::IdleTermination => DrainReason::IdleTermination,
        DrainNodeReason::Preemption => DrainReason::Preemption,
        // A raylet dies of it.
        DrainNodeReason::Unspecified => return Err(Status::aborted("Disconnected")),
    };
    let deadline_ms = u64::try_from(request.deadline_timestamp_ms).map_err(|_| Status::aborted("Invalid"))?;
    let deadline_ms = (deadline_ms > 0).then_some(deadline_ms);
    let outcome = gcs.drain_node(hex(&request.node_id), reason, request.reason_message, deadline_ms).await?;
    let (is_accepted, rejection_reason_message) = match outcome {
        DrainOutcome::Accepted => (true, String::new()),
        DrainOutcome::Rejected(words) => (false, words),
    };
    write(autoscaler::DRAIN_NODE, &pb::DrainNodeReply { is_accepted, rejection_reason_message })
}

async fn kv_service(gcs: &dyn Gcs, path: &str, body: Bytes) -> Result<Bytes, Status> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if path == kv::INTERNAL_KV_GET.path() {
        let request = read(kv::INTERNAL_KV_GET, body)?;
        let value = gcs.kv_get(text(request.namespace), text(request.key)).await?;
        let (code, message) = if value.is_some() { (0, "") } else { KEY_NOT_FOUND };
        let status = Some(proto::GcsStatus { code, message: message.into() });
        write(kv::INTERNAL_KV_GET, &proto::InternalKvGetReply { status, value: value.unwrap_or_default() })
    } else if path == kv::INTERNAL_KV_PUT.path() {
        let request = read(kv::INTERNAL_KV_PUT, body)?;
        let (namespace, key) = (text(request.namespace), text(request.key));
        let added = gcs.kv_put(namespace, key, request.value, request.overwrite).await?;
        write(kv::INTERNAL_KV_PUT, &proto::InternalKvPutReply { status: ok(), added })
    } else if path == kv::INTERNAL_KV_KEYS.path() {
        let request = read(kv::INTERNAL_KV_KEYS, body)?;
        let keys = gcs.kv_keys(text(request.namespace), text(request.prefix)).await?;
        let results = keys.into_iter().map(String::into_bytes).collect();
        write(kv::INTERNAL_KV_KEYS, &proto::InternalKvKeysReply { status: ok(), results })
    } else {
        Err(Refusal::Unimplemented.into())
    }
}

async fn tables(gcs: &dyn Gcs, path: &str, body: Bytes) -> Result<Bytes, Status> {
    if path == node_service::GET_CLUSTER_ID.path() {
        let cluster_id = convert::id_bytes(&gcs.cluster_id());
        write(node_service::GET_CLUSTER_ID, &proto::GetClusterIdReply { status: ok(), cluster_id })
    } else if path == node_service::CHECK_ALIVE.path() {
        let ray_version = gcs.ray_version().await?;
        write(node_service::CHECK_ALIVE, &proto::CheckAliveReply { status: ok(), ray_version, ..Default::default() })
    } else if path == node_service::GET_ALL_NODE_INFO.path() {
        all_nodes(gcs, &read(node_service::GET_ALL_NODE_INFO, body)?).await
    } else if path == node_service::DRAIN_NODE.path() {
        let data = read(node_service::DRAIN_NODE, body)?.drain_node_data;
        gcs.stop_nodes(data.iter().map(|data| hex(&data.node_id)).collect()).await?;
        let echo = data.into_iter().map(|data| proto::DrainNodeStatus { node_id: data.node_id }).collect();
        write(node_service::DRAIN_NODE, &proto::DrainNodeReply { status: ok(), drain_node_status: echo })
    } else if path == job_service::GET_ALL_JOB_INFO.path() {
        let job_info_list = gcs.jobs().await?.iter().map(convert::to_job_info).collect();
        write(job_service::GET_ALL_JOB_INFO, &proto::GetAllJobInfoReply { status: ok(), job_info_list })
    } else if path == group_service::GET_ALL_PLACEMENT_GROUP.path() {
        let groups: Vec<_> = gcs.placement_groups().await?.iter().map(convert::to_placement_group_info).collect();
        let total = i64::try_from(groups.len()).unwrap_or(i64::MAX);
        let reply = proto::GetAllPlacementGroupReply { status: ok(), placement_group_table_data: groups, total };
        write(group_service::GET_ALL_PLACEMENT_GROUP, &reply)
    } else if path == usage_service::GET_ALL_RESOURCE_USAGE.path() {
        let usage = convert::to_legacy_usage(&gcs.legacy_demand().await?);
        let reply = proto::GetAllResourceUsageReply { status: ok(), resource_usage_data: Some(usage) };
        write(usage_service::GET_ALL_RESOURCE_USAGE, &reply)
    } else if path == health::health::CHECK.path() {
        health_check(&read(health::health::CHECK, body)?)
    } else {
        Err(Refusal::Unimplemented.into())
    }
}

async fn all_nodes(gcs: &dyn Gcs, request: &proto::GetAllNodeInfoRequest) -> Result<Bytes, Status> {
    use proto::get_all_node_info_request::node_selector::NodeSelector;
    let alive_only = request.state_filter.map(|state| state == i32::from(proto::gcs_node_info::GcsNodeState::Alive));
    let head_only = request
        .node_selectors
        .iter()
        .any(|selector| matches!(selector.node_selector, Some(NodeSelector::IsHeadNode(true))));
    let nodes = gcs.nodes().await?;
    let total = nodes.len();
    let wanted = nodes.iter().filter(|node| alive_only.is_none_or(|alive| node.alive == alive));
    let node_info_list: Vec<_> = wanted.filter(|node| !head_only || node.is_head).map(convert::to_node_info).collect();
    let reply = proto::GetAllNodeInfoReply {
        status: ok(),
        num_filtered: i64::try_from(total - node_info_list.len()).unwrap_or(i64::MAX),
        total: i64::try_from(total).unwrap_or(i64::MAX),
        node_info_list,
    };
    write(node_service::GET_ALL_NODE_INFO, &reply)
}

/// Like the GCS, only the server as a whole has a health.
fn health_check(request: &health::HealthCheckRequest) -> Result<Bytes, Status> {
    if !request.service.is_empty() {
        return Err(Status::not_found(""));
    }
    let status = health::health_check_response::ServingStatus::Serving.into();
    write(health::health::CHECK, &health::HealthCheckResponse { status })
}

fn ok() -> Option<proto::GcsStatus> {
    Some(proto::GcsStatus::default())
}
