//! The patch of the `resize` subresource.

use json_patch::{Patch, PatchOperation, ReplaceOperation, TestOperation, jsonptr::PointerBuf};
use mobula_api::{ContainerView, Quantity};
use serde_json::Value;

use super::Size;

/// Brings the Ray container (the first one) to `to`, provided the pod is still the one of this `uid`.
///
/// Where there is a limit, limit and request move together and keep their distance, so that the pod's quality of service
/// stays; else only the request moves.
pub fn resize_patch(uid: &str, container: &ContainerView, to: Size) -> Patch {
    let (wanted, actual) = (&container.wanted, &container.actual);
    let mut operations = Vec::new();
    if !uid.is_empty() {
        let (path, value) = (pointer(&["metadata", "uid"]), Value::from(uid));
        operations.push(PatchOperation::Test(TestOperation { path, value }));
    }
    let cpu = [(wanted.cpu_limit, wanted.cpu_request, actual.cpu_gap(), to.cpu)].map(|r| ("cpu", r));
    let memory = [(wanted.memory_limit, wanted.memory_request, actual.memory_gap(), to.memory)].map(|r| ("memory", r));
    for (name, (limit, request, gap, to)) in cpu.into_iter().chain(memory) {
        if limit.is_some() {
            operations.push(replace("limits", name, to));
        }
        if request.is_some() {
            let gap = gap.filter(|_| limit.is_some()).unwrap_or(Quantity::ZERO);
            let request = to.checked_sub(gap).filter(|request| !request.is_negative()).unwrap_or(Quantity::ZERO);
            operations.push(replace("requests", name, request));
        }
    }
    Patch(operations)
}

fn replace(kind: &str, name: &str, quantity: Quantity) -> PatchOperation {
    let path = pointer(&["spec", "containers", "0", "resources", kind, name]);
    PatchOperation::Replace(ReplaceOperation { path, value: Value::from(quantity.to_string()) })
}

fn pointer(tokens: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(tokens.iter().copied())
}
