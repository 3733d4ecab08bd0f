//! Writing answers in words that two runs have in common.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::differences::{ABSENT_IN_MEMORY, SAME_THING};

/// What stands for what.
pub(super) struct Names {
    names: Vec<(String, String)>,
    uids: usize,
}

impl Names {
    pub(super) fn of(namespace: &str) -> Names {
        Names { names: vec![(namespace.to_owned(), "{ns}".to_owned())], uids: 0 }
    }

    pub(super) fn call(&mut self, text: &str, name: &str) {
        if !text.is_empty() {
            self.names.push((text.to_owned(), name.to_owned()));
        }
    }

    pub(super) fn replace(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    pub(super) fn normalised(&mut self, body: &Value) -> Value {
        let mut body = body.clone();
        if body["type"].is_string() && body["object"].is_object() {
            let object = self.normalised(&body["object"]);
            body["object"] = object;
            return body;
        }
        let kind = body["kind"].as_str().unwrap_or_default().to_owned();
        if kind == "Status" {
            forget_words(&mut body);
        }
        if let Some(items) = body.get_mut("items").and_then(Value::as_array_mut) {
            let of = kind.strip_suffix("List").unwrap_or_default();
            items.iter_mut().for_each(|item| forget_defaults(of, item));
        }
        forget_defaults(&kind, &mut body);
        if body["metadata"]["generateName"].is_string() {
            body["metadata"]["name"] = Value::String("GENERATED".into());
        }
        self.rename(&mut body, "");
        body
    }

    /// A request's body in the same words.
    pub(super) fn request(&mut self, body: &str) -> String {
        match serde_json::from_str::<Value>(body) {
            Ok(mut body) => {
                self.rename(&mut body, "");
                body.to_string()
            }
            Err(_) => self.replace(body),
        }
    }

    fn rename(&mut self, value: &mut Value, field: &str) {
        match value {
            Value::Object(members) => {
                for (name, value) in members.iter_mut() {
                    self.rename(value, name);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.rename(item, field)),
            Value::String(text) => *text = self.renamed(text, field),
            _ => {}
        }
    }

    fn renamed(&mut self, text: &str, field: &str) -> String {
        match field {
            "resourceVersion" if !text.is_empty() => "VERSION".into(),
            "continue" if !text.is_empty() => "TOKEN".into(),
            "clusterIP" | "clusterIPs" if text.starts_with("10.96.") => "ADDRESS".into(),
            "uid" if !text.is_empty() && self.names.iter().all(|(known, _)| known != text) => {
                self.uids += 1;
                let name = format!("UID-{}", self.uids);
                self.call(text, &name);
                name
            }
            _ if is_time(text) => "TIME".into(),
            _ => self.replace(text),
        }
    }
}

fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 20 && bytes[4] == b'-' && bytes[10] == b'T' && bytes.last() == Some(&b'Z')
}

/// Of a refusal count code, reason and what it is about; the words are for people.
fn forget_words(status: &mut Value) {
    let Some(status) = status.as_object_mut() else { return };
    status.remove("message");
    let causes = status.get_mut("details").and_then(|details| details.get_mut("causes"));
    if let Some(causes) = causes.and_then(Value::as_array_mut) {
        for cause in causes.iter_mut().filter_map(Value::as_object_mut) {
            cause.remove("message");
        }
        // The same thing said in other words.
        causes.dedup();
    }
}

fn forget_defaults(kind: &str, object: &mut Value) {
    for (of, path, _) in ABSENT_IN_MEMORY {
        if *of == kind || of.is_empty() {
            remove(object, &path.split('/').skip(1).collect::<Vec<_>>(), None);
        }
    }
    for (path, same) in SAME_THING {
        remove(object, &path.split('/').skip(1).collect::<Vec<_>>(), Some(same));
    }
}

/// Removes a path, if it has that value; `*` stands for every element.
fn remove(value: &mut Value, path: &[&str], only: Option<&str>) {
    let has_it =
        |value: &Value| only.is_none_or(|only| serde_json::from_str(only).is_ok_and(|only: Value| only == *value));
    match (path, value) {
        ([last], Value::Object(members)) if members.get(*last).is_some_and(has_it) => {
            members.remove(*last);
        }
        (["*", rest @ ..], Value::Array(items)) => items.iter_mut().for_each(|item| remove(item, rest, only)),
        ([first, rest @ ..], Value::Object(members)) => {
            if let Some(value) = members.get_mut(*first) {
                remove(value, rest, only);
            }
        }
        _ => {}
    }
}

/// The fields in which two answers differ, a line each.
pub(super) fn difference(real: &str, ours: &str) -> String {
    let (real, ours) = (flat(real), flat(ours));
    let mut lines = Vec::new();
    for key in real.keys().chain(ours.keys().filter(|key| !real.contains_key(*key))) {
        let text = |of: &BTreeMap<String, String>| of.get(key).cloned().unwrap_or_else(|| "(absent)".into());
        if real.get(key) != ours.get(key) {
            lines.push(format!("    {key}: real {}, ours {}", text(&real), text(&ours)));
        }
    }
    lines.join("\n")
}

/// Every leaf of an answer by its path; `CODE BODY` and events a line each.
fn flat(answer: &str) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    for (index, line) in answer.lines().enumerate() {
        let (code, body) = match line.split_once(' ') {
            Some((code, body)) if code.parse::<u16>().is_ok() => (code, body),
            _ => ("", line),
        };
        if !code.is_empty() {
            leaves.insert(format!("{index} code"), code.to_owned());
        }
        match serde_json::from_str::<Value>(body) {
            Ok(body) => flatten(&format!("{index} "), &body, &mut leaves),
            Err(_) => {
                leaves.insert(format!("{index} text"), body.to_owned());
            }
        }
    }
    leaves
}

fn flatten(path: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
    let is_leaf = value.as_object().is_none_or(Map::is_empty) && value.as_array().is_none_or(Vec::is_empty);
    if is_leaf {
        leaves.insert(path.to_owned(), value.to_string());
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        flatten(&format!("{path}/{name}"), value, leaves);
    }
    for (index, value) in value.as_array().into_iter().flatten().enumerate() {
        flatten(&format!("{path}/{index}"), value, leaves);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_replaced() {
        let mut names = Names::of("conformance-x");
        let object = json!({"kind": "Widget", "metadata": {
            "name": "a", "namespace": "conformance-x", "uid": "1-2", "resourceVersion": "77",
            "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [1],
        }});
        let expected = json!({"kind": "Widget", "metadata": {
            "name": "a", "namespace": "{ns}", "uid": "UID-1", "resourceVersion": "VERSION", "creationTimestamp": "TIME",
        }});
        assert_eq!(names.normalised(&object), expected);
        assert_eq!(names.normalised(&object), expected);
    }

    #[test]
    fn a_difference_names_the_field() {
        let found = difference("200 {\"a\":{\"b\":1}}", "201 {\"a\":{\"b\":2}}");
        assert_eq!(found, "    0 /a/b: real 1, ours 2\n    0 code: real 200, ours 201");
    }
}
