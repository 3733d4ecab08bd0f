//! From what tonic says to what it means.

use std::error::Error as StdError;

use tonic::{Code, Status};

use crate::connect::ConnectError;
use crate::error::Error;
use crate::method::short_name;

/// One attempt that failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing was sent.
    NotConnected(String),
    /// It may have been done.
    Broken(String),
    Garbage(String),
    OtherCluster,
    Unauthenticated(String),
    Refused {
        code: Code,
        message: String,
    },
}

impl Failure {
    pub fn into_error(self, path: &'static str, endpoint: &str) -> Error {
        let (method, endpoint) = (short_name(path), endpoint.to_owned());
        match self {
            Failure::NotConnected(message) | Failure::Broken(message) => {
                Error::Unavailable { method, message: format!("{endpoint}: {message}") }
            }
            Failure::Garbage(message) => Error::Garbage { method, endpoint, message },
            Failure::OtherCluster => Error::HeadRestarted,
            Failure::Unauthenticated(message) => Error::Unauthenticated { method, message },
            Failure::Refused { code, message } => Error::Status { method, code: name(code).into(), message },
        }
    }
}

/// The channel itself failed.
pub(super) fn transport(error: &tonic::transport::Error) -> Failure {
    match connect_error(error) {
        Some(cause) => Failure::NotConnected(cause.to_string()),
        None => Failure::Broken(chain(error)),
    }
}

/// The GCS answered with a status, or tonic made one up.
pub(super) fn status(status: &Status) -> Failure {
    let made_up = status.source();
    if let Some(cause) = made_up.and_then(connect_error) {
        return Failure::NotConnected(cause.to_string());
    }
    let message = made_up.map_or_else(|| status.message().to_owned(), chain);
    match status.code() {
        Code::Unauthenticated if message.contains("WrongClusterID") => Failure::OtherCluster,
        Code::Unauthenticated => Failure::Unauthenticated(message),
        // gRPC's own code for a broken protocol; a GCS never says it.
        Code::Internal => Failure::Garbage(message),
        // tonic: the answer is HTTP, but not gRPC.
        _ if message.starts_with("grpc-status header missing") => Failure::Garbage(message),
        Code::Unavailable => Failure::Broken(message),
        _ if made_up.is_some() => Failure::Broken(message),
        code => Failure::Refused { code, message },
    }
}

fn connect_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a ConnectError> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

/// All causes in one line, without repetitions.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut out = String::new();
    for cause in causes(error) {
        let text = cause.to_string();
        if !out.contains(&text) {
            if !out.is_empty() {
                out.push_str(": ");
            }
            out.push_str(&text);
        }
    }
    out
}

/// gRPC's name of a code.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_cluster_is_not_a_wrong_token() {
        let wrong =
            Status::unauthenticated("WrongClusterID: Perhaps the client is accessing GCS after it has restarted.");
        assert_eq!(status(&wrong), Failure::OtherCluster);
        assert!(matches!(status(&Status::unauthenticated("InvalidAuthToken: …")), Failure::Unauthenticated(_)));
    }

    #[test]
    fn refusal_keeps_code_and_words() {
        let error = status(&Status::aborted("Invalid")).into_error("/p.S/DrainNode", "h:1");
        assert_eq!(error.to_string(), "DrainNode: ABORTED: Invalid");
    }
}
