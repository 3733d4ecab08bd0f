//! Answers that say no: `Status` bodies as the real server writes them.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::kind::Kind;

/// A request was refused. It is answered by a `Status` with this code, reason and message.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// For programs: `NotFound`, `AlreadyExists`, `Conflict` …
    pub reason: String,
    /// For people.
    pub message: String,
    /// What the refusal is about: `name`, `group`, `kind`, `uid`, `causes`, `retryAfterSeconds`.
    pub details: Value,
}

impl Refusal {
    /// Any refusal.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Refusal {
        Refusal { code, reason: reason.to_owned(), message: message.into(), details: Value::Null }
    }

    /// With the reason that the real server gives to this code.
    pub fn of_code(code: u16, message: impl Into<String>) -> Refusal {
        let reason = match code {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            409 => "Conflict",
            410 => "Expired",
            413 => "RequestEntityTooLarge",
            415 => "UnsupportedMediaType",
            422 => "Invalid",
            429 => "TooManyRequests",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "InternalError",
        };
        Refusal::new(code, reason, message)
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Refusal {
        Refusal::of_code(400, message)
    }

    /// What admission or authorization answers: `pods "a" is forbidden: WHY`.
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Refusal {
        let message = format!("{} \"{name}\" is forbidden: {why}", kind.qualified_plural());
        Refusal::of_code(403, message).about(kind, name)
    }

    /// No such object.
    pub fn not_found(kind: &Kind, name: &str) -> Refusal {
        Refusal::of_code(404, format!("{} \"{name}\" not found", kind.qualified_plural())).about(kind, name)
    }

    /// An object of this name is there.
    pub fn already_exists(kind: &Kind, name: &str) -> Refusal {
        let message = format!("{} \"{name}\" already exists", kind.qualified_plural());
        Refusal::new(409, "AlreadyExists", message).about(kind, name)
    }

    /// The object is not as the request takes it for.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Refusal {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified_plural());
        Refusal::of_code(409, message).about(kind, name)
    }

    /// A field has a value that it must not have. `why` begins as Kubernetes has it: `Invalid value: …`, `Forbidden: …`,
    /// `Required value: …`.
    pub fn invalid(kind: &Kind, name: &str, field: &str, why: &str) -> Refusal {
        let message = format!("{} \"{name}\" is invalid: {field}: {why}", kind.qualified_kind());
        let about = [("name", name), ("group", kind.group.as_str()), ("kind", kind.kind.as_str())];
        Refusal::with_causes(message, &about, &[(field, why)])
    }

    /// An option of the request (`ListOptions`, `DeleteOptions`) is not as it must be.
    pub(crate) fn invalid_option(options: &str, field: &str, why: &str) -> Refusal {
        let message = format!("{options}.meta.k8s.io \"\" is invalid: {field}: {why}");
        Refusal::with_causes(message, &[("group", "meta.k8s.io"), ("kind", options)], &[(field, why)])
    }

    /// 422 with the causes, each a field and why.
    pub(crate) fn with_causes(message: String, about: &[(&str, &str)], causes: &[(&str, &str)]) -> Refusal {
        let causes: Vec<Value> = causes
            .iter()
            .map(|(field, why)| json!({"reason": cause_of(why), "message": why, "field": field}))
            .collect();
        let mut refusal = Refusal::of_code(422, message);
        refusal.details = json!({"causes": causes});
        for (field, text) in about.iter().filter(|(_, text)| !text.is_empty()) {
            refusal.details[*field] = json!(text);
        }
        refusal
    }

    /// As the real server fails where it did not foresee to.
    pub(crate) fn internal(message: impl Into<String>) -> Refusal {
        Refusal::new(500, "", message)
    }

    /// The path leads nowhere in a group that is served.
    pub(crate) fn no_such_resource() -> Refusal {
        Refusal::of_code(404, "the server could not find the requested resource")
    }

    /// The server is asked for too much: try again after so many seconds.
    pub fn too_many_requests(retry_after_s: u32) -> Refusal {
        let mut refusal =
            Refusal::of_code(429, "the server has received too many requests and has asked us to try again later");
        refusal.details = json!({"retryAfterSeconds": retry_after_s});
        refusal
    }

    /// The resource version is older than the history reaches.
    pub fn too_old(asked: u64, oldest: u64) -> Refusal {
        Refusal::of_code(410, format!("too old resource version: {asked} ({oldest})"))
    }

    pub(crate) fn method_not_allowed() -> Refusal {
        Refusal::of_code(405, "the server does not allow this method on the requested resource")
    }

    pub(crate) fn unsupported_patch(content_type: &str) -> Refusal {
        Refusal::of_code(
            415,
            format!(
                "the body of the request was in an unknown format ({content_type}) - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json"
            ),
        )
    }

    fn about(mut self, kind: &Kind, name: &str) -> Refusal {
        let mut details = json!({"name": name, "kind": kind.plural});
        if !kind.group.is_empty() {
            details["group"] = json!(kind.group);
        }
        self.details = details;
        self
    }

    /// The body.
    pub(crate) fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        Bytes::from(self.to_value().to_string())
    }

    /// What the answer's header says about when to try again.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        self.details.get("retryAfterSeconds").and_then(Value::as_u64)
    }
}

/// What programs are told about a cause, by how its words begin.
fn cause_of(why: &str) -> &'static str {
    match why.split(':').next() {
        Some("Required value") => "FieldValueRequired",
        Some("Forbidden") => "FieldValueForbidden",
        Some("Duplicate value") => "FieldValueDuplicate",
        Some("Unsupported value") => "FieldValueNotSupported",
        Some("Too long") => "FieldValueTooLong",
        _ => "FieldValueInvalid",
    }
}
