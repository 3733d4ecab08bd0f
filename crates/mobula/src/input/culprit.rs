//! Which part of a JSON document a decoder does not accept. Decoders of protobuf JSON say what they did not expect, not where.

use mobula_api::FieldError;
use serde_json::{Map, Value};

/// Names the smallest part of `document` that makes `refusal` give a reason. `None` if no part does so by itself.
pub(super) fn find(document: &Value, refusal: impl Fn(&Value) -> Option<String>) -> Option<FieldError> {
    let mut path: Vec<Step> = Vec::new();
    let mut part = document;
    let mut reason = refusal(document)?;
    loop {
        let children: Vec<(Step, &Value)> = match part {
            Value::Array(items) => items.iter().enumerate().map(|(index, item)| (Step::Index(index), item)).collect(),
            Value::Object(members) => members.iter().map(|(key, value)| (Step::Key(key.clone()), value)).collect(),
            _ => Vec::new(),
        };
        // A document that holds nothing but the path to one child is refused only because of that child.
        let culprit = children.into_iter().find_map(|(step, child)| {
            path.push(step);
            let refused = refusal(&alone(&path, child));
            let step = path.pop()?;
            Some((step, child, refused?))
        });
        let Some((step, child, why)) = culprit else { break };
        path.push(step);
        part = child;
        reason = why;
    }
    let value = match part {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    (!path.is_empty()).then(|| FieldError::new(display(&path), value, reason))
}

enum Step {
    Key(String),
    Index(usize),
}

fn alone(path: &[Step], part: &Value) -> Value {
    path.iter().rev().fold(part.clone(), |inner, step| match step {
        Step::Key(key) => Value::Object(Map::from_iter([(key.clone(), inner)])),
        Step::Index(_) => Value::Array(vec![inner]),
    })
}

fn display(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text = format!("{text}.{key}"),
            Step::Index(index) => text = format!("{text}[{index}]"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Refuses documents with a string anywhere.
    fn no_strings(value: &Value) -> Option<String> {
        match value {
            Value::String(_) => Some("a string".to_owned()),
            Value::Array(items) => items.iter().find_map(no_strings),
            Value::Object(members) => members.values().find_map(no_strings),
            _ => None,
        }
    }

    #[test]
    fn the_smallest_part_is_named() {
        let document = json!({"a": [1, {"b": 2, "c": "odd"}], "d": 3});
        assert_eq!(find(&document, no_strings).unwrap().to_string(), "a[1].c: odd: a string");
    }

    #[test]
    fn a_document_that_is_accepted_or_refused_as_a_whole_has_no_culprit() {
        assert_eq!(find(&json!({"a": 1}), no_strings), None);
        assert_eq!(find(&json!("odd"), no_strings), None);
    }
}
