//! Nodes and placement groups that exist only in the tables of a real GCS: for tests and benchmarks.
//!
//! A node registered so has no raylet: the GCS lists it as running until its health check gives up on it, after some 15
//! seconds, and can't pass on a drain or a resize.

use crate::client::Client;
use crate::convert;
use crate::error::Error;
use crate::id::{hex, parse, parse_node};
use crate::method::short_name;
use crate::proto::{
    self, job_info_gcs_service as job_service, node_info_gcs_service as node_service,
    placement_group_info_gcs_service as group_service,
};
use crate::types::{LabelMap, NodeInfo, PlacementStrategy, ResourceMap};

/// Lengths that the GCS asserts.
const PLACEMENT_GROUP_ID_BYTES: usize = 18;
const JOB_ID_BYTES: usize = 4;

/// A placement group to create.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlacementGroup {
    /// 36 hex digits; the last 8 are the id of the job.
    pub id: String,
    /// Name.
    pub name: String,
    /// Strategy.
    pub strategy: PlacementStrategy,
    /// Resources of each bundle.
    pub bundles: Vec<ResourceMap>,
    /// The selector of every bundle, as a user writes it: `v`, `!v`, `in(a,b)`, `!in(a,b)`.
    pub label_selector: LabelMap,
    /// Label → strategy, for groups that want one domain.
    pub topology: Option<(String, PlacementStrategy)>,
}

/// Adds a node to the node table, as its raylet would.
pub async fn register_node(client: &Client, node: &NodeInfo) -> Result<(), Error> {
    parse_node(&node.node_id)?;
    let request = proto::RegisterNodeRequest { node_info: Some(convert::to_node_info(node)) };
    let reply = client.register(node_service::REGISTER_NODE, &request).await?;
    crate::call::check_status(short_name(node_service::REGISTER_NODE.path()), reply.status)
}

/// Removes a node from the node table, as its raylet does when it ends orderly.
pub async fn unregister_node(client: &Client, node_id: &str) -> Result<(), Error> {
    let node_death_info = Some(proto::NodeDeathInfo {
        reason: proto::node_death_info::Reason::ExpectedTermination.into(),
        reason_message: "unregistered".into(),
    });
    let request = proto::UnregisterNodeRequest { node_id: parse_node(node_id)?, node_death_info };
    let reply = client.register(node_service::UNREGISTER_NODE, &request).await?;
    crate::call::check_status(short_name(node_service::UNREGISTER_NODE.path()), reply.status)
}

/// Adds a job to the job table, as its driver would.
pub async fn add_job(client: &Client, job_id: &str, namespace: &str) -> Result<(), Error> {
    let data = proto::JobTableData {
        job_id: parse("job id", job_id, JOB_ID_BYTES)?,
        config: Some(proto::JobConfig { ray_namespace: namespace.to_owned() }),
        ..Default::default()
    };
    let reply = client.register(job_service::ADD_JOB, &proto::AddJobRequest { data: Some(data) }).await?;
    crate::call::check_status(short_name(job_service::ADD_JOB.path()), reply.status)
}

/// Creates a placement group; it waits until there are nodes for it. A job that the GCS does not know is added first: it
/// would abort otherwise.
pub async fn create_placement_group(client: &Client, group: &PlacementGroup) -> Result<(), Error> {
    let id = parse("placement group id", &group.id, PLACEMENT_GROUP_ID_BYTES)?;
    let job_id = id.get(PLACEMENT_GROUP_ID_BYTES - JOB_ID_BYTES..).unwrap_or_default().to_vec();
    if client.jobs().await?.iter().all(|job| job.job_id != hex(&job_id)) {
        add_job(client, &hex(&job_id), "").await?;
    }
    let bundle = |(index, resources): (i32, &ResourceMap)| proto::Bundle {
        bundle_id: Some(proto::bundle::BundleIdentifier { placement_group_id: id.clone(), bundle_index: index }),
        unit_resources: resources.clone(),
        node_id: vec![],
        label_selector: group.label_selector.clone(),
    };
    let topology =
        group.topology.iter().map(|(label, strategy)| (label.clone(), convert::to_strategy(*strategy).into()));
    let spec = proto::PlacementGroupSpec {
        name: group.name.clone(),
        bundles: (0..).zip(&group.bundles).map(bundle).collect(),
        strategy: convert::to_strategy(group.strategy).into(),
        creator_job_id: job_id,
        is_detached: true,
        topology_strategy: topology.collect(),
        placement_group_id: id,
        ..Default::default()
    };
    let request = proto::CreatePlacementGroupRequest { placement_group_spec: Some(spec) };
    let reply = client.register(group_service::CREATE_PLACEMENT_GROUP, &request).await?;
    crate::call::check_status(short_name(group_service::CREATE_PLACEMENT_GROUP.path()), reply.status)
}

/// Removes a placement group.
pub async fn remove_placement_group(client: &Client, id: &str) -> Result<(), Error> {
    let placement_group_id = parse("placement group id", id, PLACEMENT_GROUP_ID_BYTES)?;
    let request = proto::RemovePlacementGroupRequest { placement_group_id };
    let reply = client.register(group_service::REMOVE_PLACEMENT_GROUP, &request).await?;
    crate::call::check_status(short_name(group_service::REMOVE_PLACEMENT_GROUP.path()), reply.status)
}
