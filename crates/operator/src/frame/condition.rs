//! Conditions, as Kubernetes has them in a status.

use serde_json::Value;

/// The conditions of a status.
pub fn all(status: &Value) -> &[Value] {
    status.get("conditions").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether one of `conditions` is called `name` and true.
pub fn is_true(conditions: &[Value], name: &str) -> bool {
    conditions.iter().any(|condition| condition["type"] == name && condition["status"] == "True")
}
