//! Generated from `proto/`: messages, their protobuf JSON, and method constants. Private to the crate.
#![allow(missing_docs, clippy::all, clippy::needless_pass_by_value, clippy::too_many_lines, dead_code)]

include!(concat!(env!("OUT_DIR"), "/ray.rpc.rs"));
include!(concat!(env!("OUT_DIR"), "/ray.rpc.serde.rs"));

pub mod autoscaler {
    include!(concat!(env!("OUT_DIR"), "/ray.rpc.autoscaler.rs"));
    include!(concat!(env!("OUT_DIR"), "/ray.rpc.autoscaler.serde.rs"));
}

pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}
