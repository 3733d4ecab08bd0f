//! Changes as they happen, for those who play the world: without a watch, a client or a copy.

use std::sync::Arc;

use serde_json::Value;

use crate::kind::Kind;

/// A change that has just been written.
#[derive(Clone, Copy)]
pub struct Changed<'a> {
    /// Kind of the object.
    pub kind: &'a Kind,
    /// Its namespace; empty if it lives in none.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The version that the change was given.
    pub version: u64,
    /// What was there before; `None`: nothing.
    pub before: Option<&'a Value>,
    /// What is there now; `None`: nothing.
    pub after: Option<&'a Value>,
}

/// Is shown every change. It must not call the server, which is in the middle of a write.
pub(crate) type Observer = Arc<dyn Fn(&Changed<'_>) + Send + Sync>;
