//! What is remembered from tick to tick: small, explicit, serialisable. It goes in and comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The little that a plan needs to know of the past.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Group → unix time in ms at which a pod of it last failed to come up within the allocation time-out. Removed once
    /// another node of the group runs.
    pub allocation_failed_ms: BTreeMap<String, i64>,
    /// Group → instances of it that ran already when it failed: they don't show that it delivers again.
    pub running_at_failure: BTreeMap<String, BTreeSet<Arc<str>>>,
    /// Group → unix times in ms, oldest first: the n-th is since when at least n pending pods of the group have not been
    /// needed. Counted, not tied to pods, because pending pods of a group can stand for each other.
    pub pending_unneeded_since_ms: BTreeMap<String, Vec<i64>>,
    /// Group → why and until when nothing is launched of it, because what was launched did not come (policy `mobula`).
    pub blocked: BTreeMap<String, Blocked>,
    /// Group → unix time in ms until which late pods of it are waited for, because nothing could stand in for them (policy
    /// `mobula`).
    pub borne_until_ms: BTreeMap<String, i64>,
    /// Group → unix time in ms since when the RayCluster has been asking for pods of it that do not exist (policy `mobula`).
    pub requested_since_ms: BTreeMap<String, i64>,
    /// Instance → unix time in ms at which demand last needed it, of those that are idle or nearly so (policy `mobula`).
    pub needed_at_ms: Arc<BTreeMap<Arc<str>, i64>>,
}

/// A group whose pods did not come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Blocked {
    /// Why the pods did not come.
    pub cause: Option<crate::PendingCause>,
    /// Unix time in ms until when nothing is launched.
    pub until_ms: i64,
    /// How often in a row it was blocked: each time for twice as long.
    pub times: u32,
    /// Pods of it in which Ray ran when it was left alone last, or since, whichever are fewer: more of them show that it delivers
    /// again. `None`: not counted yet.
    pub running: Option<u64>,
}
