//! A RayCluster that can't be read: what is known of it all the same.

use mobula_api::{FieldError, RayCluster};
use serde_json::{Value, json};

/// A RayCluster that can't be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable {
    /// Why not.
    pub problem: FieldError,
    /// Who manages it, if it says so.
    pub managed_by: Option<String>,
    /// Its metadata and status, as far as these can be read; its spec is empty.
    pub rest: RayCluster,
}

impl Unreadable {
    pub(super) fn new(problem: FieldError, value: &Value) -> Box<Self> {
        let spec = json!({"headGroupSpec": {"template": {}}});
        let whole = json!({"metadata": value["metadata"], "spec": spec, "status": value["status"]});
        let without_status = json!({"metadata": value["metadata"], "spec": spec});
        let read = RayCluster::read_value(&whole).or_else(|_| RayCluster::read_value(&without_status));
        let managed_by = value.pointer("/spec/managedBy").and_then(Value::as_str).map(str::to_owned);
        Box::new(Unreadable { problem, managed_by, rest: read.unwrap_or_default() })
    }
}
