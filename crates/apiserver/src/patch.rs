//! Patches as the real server applies them.

use json_patch::PatchOperation;
use serde_json::Value;

use crate::refusal::Refusal;

/// The object after a patch of this content type.
pub(crate) fn patched(mut object: Value, content_type: &str, body: &[u8]) -> Result<Value, Refusal> {
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/json-patch+json" => json_patched(object, body),
        "application/merge-patch+json" => {
            let patch: Value = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
            if !patch.is_object() {
                return Err(Refusal::bad_request("a merge patch must be an object"));
            }
            json_patch::merge(&mut object, &patch);
            Ok(object)
        }
        other => Err(Refusal::unsupported_patch(other)),
    }
}

fn json_patched(mut changed: Value, body: &[u8]) -> Result<Value, Refusal> {
    let operations: Vec<Value> = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    let rejected = || Refusal::of_code(422, "the server rejected our request due to an error in our request");
    let patch: Result<Vec<PatchOperation>, _> = operations.into_iter().map(serde_json::from_value).collect();
    let patch = patch.map_err(|_| rejected())?;
    for operation in &patch {
        // And that what is absent from an object can be replaced.
        if let PatchOperation::Replace(replace) = operation
            && changed.pointer(replace.path.as_str()).is_none()
            && let Some(last) = replace.path.back()
            && let Some(parent) = replace.path.parent().and_then(|parent| changed.pointer_mut(parent.as_str()))
            && let Some(members) = parent.as_object_mut()
        {
            members.insert(last.decoded().into_owned(), replace.value.clone());
            continue;
        }
        // The real server has it that what is absent equals null.
        if let PatchOperation::Test(test) = operation
            && test.value.is_null()
            && changed.pointer(test.path.as_str()).is_none()
        {
            continue;
        }
        if json_patch::patch(&mut changed, std::slice::from_ref(operation)).is_err() {
            return Err(rejected());
        }
    }
    Ok(changed)
}

fn unreadable(error: &serde_json::Error) -> Refusal {
    Refusal::bad_request(format!("error decoding patch: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const JSON: &str = "application/json-patch+json";
    const MERGE: &str = "application/merge-patch+json";

    fn apply(content_type: &str, patch: &Value) -> Result<Value, u16> {
        let object = json!({"spec": {"groups": [{"name": "a", "replicas": 1}]}});
        patched(object, content_type, patch.to_string().as_bytes()).map_err(|refusal| refusal.code)
    }

    #[test]
    fn json_patches() {
        let test = json!({"op": "test", "path": "/spec/groups/0/name", "value": "a"});
        let replace = json!({"op": "replace", "path": "/spec/groups/0/replicas", "value": 2});
        let changed = apply(JSON, &json!([test, replace])).unwrap();
        assert_eq!(changed["spec"]["groups"][0]["replicas"], 2);
        let wrong = json!({"op": "test", "path": "/spec/groups/0/name", "value": "b"});
        assert_eq!(apply(JSON, &json!([wrong, replace])), Err(422));
        assert_eq!(apply(JSON, &json!([{"op": "remove", "path": "/spec/nothing"}])), Err(422));
        assert_eq!(apply(JSON, &json!({"op": "remove"})), Err(400));
        assert!(apply(JSON, &json!([{"op": "test", "path": "/spec/nothing", "value": null}])).is_ok());
    }

    #[test]
    fn merge_patches() {
        let changed = apply(MERGE, &json!({"spec": {"groups": null, "suspend": true}})).unwrap();
        assert_eq!(changed, json!({"spec": {"suspend": true}}));
        assert_eq!(apply(MERGE, &json!([1])), Err(400));
    }

    #[test]
    fn other_patches_are_refused() {
        assert_eq!(apply("application/apply-patch+yaml", &json!({})), Err(415));
        assert_eq!(apply("application/strategic-merge-patch+json", &json!({})), Err(415));
    }
}
