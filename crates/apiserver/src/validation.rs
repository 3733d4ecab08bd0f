//! What no object may be, whatever its kind: names, owners, finalizers. What a kind forbids beyond that is a caller's
//! [`Hook`](crate::admission::Hook).

use serde_json::Value;

use crate::kind::Kind;
use crate::object;
use crate::refusal::Refusal;

/// The longest name; of what becomes a host name, the longest label.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Refuses names that the kind must not have.
pub(crate) fn check_name(kind: &Kind, name: &str) -> Result<(), Refusal> {
    let is_rbac = kind.group == "rbac.authorization.k8s.io";
    let is_label = kind.is_core("services") || kind.is_core("namespaces");
    let fault = if is_rbac {
        (name == "." || name == ".." || name.contains(['/', '%']))
            .then_some("may not be '.', '..' or contain '/' or '%'")
    } else if is_label {
        (!is_dns_label(name) || kind.is_core("services") && name.starts_with(|first: char| first.is_ascii_digit()))
            .then_some("a DNS label must consist of lower case alphanumeric characters or '-', and be at most 63 long")
    } else {
        let is_subdomain = name.len() <= MAX_NAME && name.split('.').all(is_dns_part);
        (!is_subdomain).then_some(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
        )
    };
    match fault {
        Some(fault) => {
            Err(Refusal::invalid(kind, name, "metadata.name", &format!("Invalid value: \"{name}\": {fault}")))
        }
        None => Ok(()),
    }
}

fn is_dns_label(name: &str) -> bool {
    name.len() <= MAX_LABEL && is_dns_part(name)
}

fn is_dns_part(part: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    bytes.iter().all(|&byte| is_alphanumeric(byte) || byte == b'-')
        && bytes.first().is_some_and(|&first| is_alphanumeric(first))
        && bytes.last().is_some_and(|&last| is_alphanumeric(last))
}

/// Refuses metadata that no object may have.
pub(crate) fn check_metadata(kind: &Kind, name: &str, new: &Value, old: Option<&Value>) -> Result<(), Refusal> {
    let mut controllers = 0;
    for (index, owner) in object::owner_references(new).enumerate() {
        const PARTS: [(&str, &str); 4] = [
            ("apiVersion", "metadata.ownerReferences.apiVersion"),
            ("kind", "metadata.ownerReferences.kind"),
            ("name", "metadata.ownerReferences.name"),
            ("uid", "metadata.ownerReferences.uid"),
        ];
        let empty = PARTS.iter().filter(|(part, _)| owner[*part].as_str().is_none_or(str::is_empty));
        let causes: Vec<_> = empty.map(|(_, field)| (*field, "Invalid value: \"\": must not be empty")).collect();
        if !causes.is_empty() {
            let message = format!("{} \"{name}\" is invalid: owner {index} is incomplete", kind.qualified_kind());
            let about = [("name", name), ("group", kind.group.as_str()), ("kind", kind.kind.as_str())];
            return Err(Refusal::with_causes(message, &about, &causes));
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        let why = "Invalid value: null: Only one reference can have Controller set to true";
        return Err(Refusal::invalid(kind, name, "metadata.ownerReferences", why));
    }
    for (field, is_strict) in [("labels", true), ("annotations", false)] {
        check_texts(kind, name, field, is_strict, &new["metadata"][field])?;
    }
    let Some(old) = old.filter(|old| object::is_deleting(old)) else { return Ok(()) };
    let mut added = object::finalizers(new).filter(|finalizer| object::finalizers(old).all(|kept| kept != *finalizer));
    match added.next() {
        Some(_) => {
            let why = "Forbidden: no new finalizers can be added if the object is being deleted";
            Err(Refusal::invalid(kind, name, "metadata.finalizers", why))
        }
        None => Ok(()),
    }
}

/// Labels and annotations map names to texts; those of labels are short and plain.
fn check_texts(kind: &Kind, name: &str, field: &str, is_strict: bool, texts: &Value) -> Result<(), Refusal> {
    let texts = match texts {
        Value::Null => return Ok(()),
        Value::Object(texts) => texts,
        _ => return Err(Refusal::bad_request(format!("metadata.{field} of \"{name}\" must map names to texts"))),
    };
    for (key, value) in texts {
        let Some(value) = value.as_str() else {
            return Err(Refusal::bad_request(format!("metadata.{field}[{key}] of \"{name}\" must be a text")));
        };
        let plain = key.rsplit('/').next().unwrap_or_default();
        let fault = if !is_qualified(plain) || plain.is_empty() {
            Some(key.as_str())
        } else {
            (is_strict && !is_qualified(value)).then_some(value)
        };
        if let Some(fault) = fault {
            let why =
                format!("Invalid value: \"{fault}\": must be at most 63 alphanumeric characters, '-', '_' or '.'");
            return Err(Refusal::invalid(kind, name, &format!("metadata.{field}"), &why));
        }
    }
    Ok(())
}

fn is_qualified(text: &str) -> bool {
    let is_inner = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let is_outer = |letter: char| letter.is_ascii_alphanumeric();
    text.is_empty()
        || text.len() <= MAX_LABEL
            && text.chars().all(is_inner)
            && text.starts_with(is_outer)
            && text.ends_with(is_outer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(plural: &str) -> Kind {
        Kind::built_in().into_iter().find(|kind| kind.plural == plural).unwrap()
    }

    #[test]
    fn names() {
        for (plural, name) in [("pods", "a.b-1"), ("services", "a-1"), ("roles", "system:A"), ("rayclusters", "1a")] {
            assert_eq!(check_name(&kind(plural), name), Ok(()));
        }
        for (plural, name) in [
            ("pods", "A"),
            ("pods", "a-"),
            ("pods", "a..b"),
            ("pods", ""),
            ("services", "1a"),
            ("namespaces", "a.b"),
            ("roles", "a/b"),
        ] {
            assert_eq!(check_name(&kind(plural), name).unwrap_err().code, 422, "{plural} {name}");
        }
        assert!(check_name(&kind("services"), &"a".repeat(64)).is_err());
    }

    #[test]
    fn metadata() {
        let pods = kind("pods");
        let check = |metadata: Value, old: Option<Value>| {
            check_metadata(&pods, "p", &json!({"metadata": metadata}), old.as_ref()).map_err(|refusal| refusal.code)
        };
        let owner = |controller: bool| json!({"apiVersion": "v1", "kind": "Pod", "name": "o", "uid": "u", "controller": controller});
        assert_eq!(check(json!({"ownerReferences": [owner(true), owner(false)]}), None), Ok(()));
        assert_eq!(check(json!({"ownerReferences": [owner(true), owner(true)]}), None), Err(422));
        assert_eq!(check(json!({"ownerReferences": [{"uid": "u"}]}), None), Err(422));
        assert_eq!(check(json!({"labels": {"ray.io/group": "a_b"}}), None), Ok(()));
        assert_eq!(check(json!({"labels": {"a": "b c"}}), None), Err(422));
        assert_eq!(check(json!({"labels": {"a": 1}}), None), Err(400));
        assert_eq!(check(json!({"annotations": {"a": "b c"}}), None), Ok(()));
        let deleting = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]}});
        assert_eq!(check(json!({"finalizers": ["a/b"]}), Some(deleting.clone())), Ok(()));
        assert_eq!(check(json!({"finalizers": ["a/b", "c/d"]}), Some(deleting)), Err(422));
    }
}
