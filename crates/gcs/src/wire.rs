//! Messages as bytes or as protobuf JSON, as captures, recordings and `--demand` files hold them.
//!
//! Whatever the input, these functions return; unknown fields and unknown enum values are skipped.

use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use serde_json::Value;

use crate::convert;
use crate::proto::autoscaler as pb;
use crate::types::{AutoscalingState, ClusterState};

/// Why something is not the message that it should be.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not protobuf, or cut off.
    #[error("not the protobuf message that was expected: {}", protobuf_problem(.0))]
    Protobuf(#[from] prost::DecodeError),
    /// Not JSON, or a field of the wrong type.
    #[error("not the protobuf JSON that was expected: {0}")]
    Json(#[from] serde_json::Error),
    /// A well-formed message without what it should hold.
    #[error(
        "holds no cluster state: expected a GetClusterResourceStateReply, a GetClusterStatusReply or a ClusterResourceState"
    )]
    NoState,
}

/// What is wrong, in words that need no knowledge of the decoder.
fn protobuf_problem(error: &prost::DecodeError) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&text);
    text.replace("buffer underflow", "the data ends before the message does")
}

/// The cluster state in a `GetClusterResourceStateReply`, a `GetClusterStatusReply`, or bare.
pub fn decode_cluster_state(bytes: &[u8]) -> Result<ClusterState, DecodeError> {
    let state = match shape(bytes)? {
        Shape::Reply => pb::GetClusterResourceStateReply::decode(bytes)?.cluster_resource_state,
        Shape::Status => pb::GetClusterStatusReply::decode(bytes)?.cluster_resource_state,
        Shape::State => Some(pb::ClusterResourceState::decode(bytes)?),
        Shape::Other => None,
    };
    state.map(convert::cluster_state).ok_or(DecodeError::NoState)
}

/// The same as protobuf JSON, with the field names of the `.proto` file or in camel case.
pub fn decode_cluster_state_json(text: &str) -> Result<ClusterState, DecodeError> {
    decode_cluster_state_json_strictly(text, &mut Vec::new())
}

/// The same; `unknown` gets the paths of all members that no field of the message is called by. They are skipped.
pub fn decode_cluster_state_json_strictly(text: &str, unknown: &mut Vec<String>) -> Result<ClusterState, DecodeError> {
    let mut value: Value = serde_json::from_str(text)?;
    drop_nulls(&mut value);
    let fields = value.as_object_mut().ok_or(DecodeError::NoState)?;
    let wrapper = ["cluster_resource_state", "clusterResourceState"]
        .into_iter()
        .find_map(|name| Some((format!("{name}."), fields.remove(name)?)));
    let (prefix, value) = match wrapper {
        Some(wrapped) => {
            let is_known = |name: &&String| ["autoscaling_state", "autoscalingState"].contains(&name.as_str());
            unknown.extend(fields.keys().filter(|name| !is_known(name)).cloned());
            wrapped
        }
        None if fields.keys().any(|name| is_state_field(name)) => (String::new(), value),
        None => return Err(DecodeError::NoState),
    };
    let note = |path: serde_ignored::Path<'_>| unknown.push(format!("{prefix}{}", place(&path)));
    let state: pb::ClusterResourceState = serde_ignored::deserialize(value, note)?;
    Ok(convert::cluster_state(state))
}

/// `nodes[3].labels`: the options in between, which protobuf JSON does not show, are left out.
fn place(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", place(parent)),
        Path::Map { parent, key } => match place(parent) {
            parent if parent.is_empty() => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => place(parent),
    }
}

/// As a `GetClusterResourceStateReply`.
pub fn encode_cluster_state(state: &ClusterState) -> Vec<u8> {
    let cluster_resource_state = Some(convert::to_cluster_state(state.clone()));
    pb::GetClusterResourceStateReply { cluster_resource_state }.encode_to_vec()
}

/// Both parts of a `GetClusterStatusReply`.
pub fn decode_cluster_status(bytes: &[u8]) -> Result<(AutoscalingState, ClusterState), DecodeError> {
    let reply = pb::GetClusterStatusReply::decode(bytes)?;
    let state = reply.cluster_resource_state.ok_or(DecodeError::NoState)?;
    Ok((convert::autoscaling_state(reply.autoscaling_state.unwrap_or_default()), convert::cluster_state(state)))
}

/// Both parts of a `GetClusterStatusReply` as protobuf JSON in either field-name style.
pub fn decode_cluster_status_json(text: &str) -> Result<(AutoscalingState, ClusterState), DecodeError> {
    let mut value: Value = serde_json::from_str(text)?;
    drop_nulls(&mut value);
    let reply: pb::GetClusterStatusReply = serde_json::from_value(value)?;
    let state = reply.cluster_resource_state.ok_or(DecodeError::NoState)?;
    Ok((convert::autoscaling_state(reply.autoscaling_state.unwrap_or_default()), convert::cluster_state(state)))
}

/// A bare `AutoscalingState`.
pub fn decode_autoscaling_state(bytes: &[u8]) -> Result<AutoscalingState, DecodeError> {
    Ok(convert::autoscaling_state(pb::AutoscalingState::decode(bytes)?))
}

/// A bare `AutoscalingState`.
pub fn encode_autoscaling_state(state: &AutoscalingState) -> Vec<u8> {
    convert::to_autoscaling_state(state).encode_to_vec()
}

/// The messages that hold a cluster state, told apart by the wire types of their first fields.
enum Shape {
    Reply,
    Status,
    State,
    Other,
}

fn shape(mut bytes: &[u8]) -> Result<Shape, prost::DecodeError> {
    let mut shape = Shape::Other;
    while !bytes.is_empty() {
        let (tag, wire_type) = decode_key(&mut bytes)?;
        match (tag, wire_type) {
            // Field 1 of a status is the autoscaler's state, which a status need not have.
            (1, WireType::LengthDelimited) => shape = Shape::Reply,
            (2, WireType::LengthDelimited) => return Ok(Shape::Status),
            (1 | 2, WireType::Varint) | (3..=7, WireType::LengthDelimited) => return Ok(Shape::State),
            _ => {}
        }
        match (skip_field(wire_type, tag, &mut bytes, DecodeContext::default()), &shape) {
            (Err(error), Shape::Other) => return Err(error),
            // The decoder says better what is wrong.
            (Err(_), _) => return Ok(shape),
            (Ok(()), _) => {}
        }
    }
    Ok(shape)
}

fn is_state_field(name: &str) -> bool {
    const FIELDS: [&str; 14] = [
        "cluster_resource_state_version",
        "clusterResourceStateVersion",
        "last_seen_autoscaler_state_version",
        "lastSeenAutoscalerStateVersion",
        "node_states",
        "nodeStates",
        "pending_resource_requests",
        "pendingResourceRequests",
        "pending_gang_resource_requests",
        "pendingGangResourceRequests",
        "cluster_resource_constraints",
        "clusterResourceConstraints",
        "cluster_session_name",
        "clusterSessionName",
    ];
    FIELDS.contains(&name)
}

/// In protobuf JSON `null` stands for an absent field.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
