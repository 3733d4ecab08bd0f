//! What can go wrong with a call, classified by what the caller should do.

use std::time::Duration;

use crate::id::IdError;

/// A call that failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another GCS answers under this address: everything known about the old one is void. Retryable: the next call
    /// speaks to the new one.
    #[error("the head restarted: another GCS answers now")]
    HeadRestarted,
    /// The token is missing, wrong, or unreadable. Not retryable: somebody has to give another token.
    #[error("{method}: not authenticated: {message}; check RAY_AUTH_MODE, RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH")]
    Unauthenticated {
        /// Method.
        method: &'static str,
        /// The server's words, or why there is no token.
        message: String,
    },
    /// No answer in time. Retryable.
    #[error("{method}: no answer from {endpoint} within {after:?}")]
    Deadline {
        /// Method.
        method: &'static str,
        /// Who did not answer.
        endpoint: String,
        /// The deadline of this call.
        after: Duration,
    },
    /// No connection, or it broke. Retryable.
    #[error("{method}: {message}")]
    Unavailable {
        /// Method.
        method: &'static str,
        /// Each endpoint that was tried, and all causes.
        message: String,
    },
    /// What came back is not what a GCS says. Not retryable.
    #[error("{method}: {endpoint} does not answer as a GCS: {message}")]
    Garbage {
        /// Method.
        method: &'static str,
        /// Who answered.
        endpoint: String,
        /// What is wrong with it.
        message: String,
    },
    /// The GCS refused the call. Not retryable.
    #[error("{method}: {code}: {message}")]
    Status {
        /// Method.
        method: &'static str,
        /// gRPC's name of the code (`ABORTED`), or `GcsStatus <number>` for a status inside the reply.
        code: String,
        /// The server's words.
        message: String,
    },
    /// What was to be sent can't be sent. Not retryable.
    #[error(transparent)]
    Id(#[from] IdError),
}

impl Error {
    /// Whether the same call may succeed soon without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::HeadRestarted | Error::Deadline { .. } | Error::Unavailable { .. } => true,
            Error::Unauthenticated { .. } | Error::Garbage { .. } | Error::Status { .. } | Error::Id(_) => false,
        }
    }

    /// A short stable name, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::HeadRestarted => "head_restarted",
            Error::Unauthenticated { .. } => "unauthenticated",
            Error::Deadline { .. } => "deadline",
            Error::Unavailable { .. } => "unavailable",
            Error::Garbage { .. } => "garbage",
            Error::Status { .. } => "status",
            Error::Id(_) => "bad_id",
        }
    }
}
