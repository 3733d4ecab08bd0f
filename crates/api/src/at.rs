//! A JSON value together with its place in the document, so that every complaint names the exact field.

use std::{collections::BTreeMap, rc::Rc};

use serde_json::{Map, Value};

use crate::FieldError;

/// A value and its JSON path. The path is written only for a complaint.
#[derive(Clone, Debug)]
pub(crate) struct At<'a> {
    /// `None`: the whole document.
    place: Option<Rc<Step<'a>>>,
    value: &'a Value,
}

/// The last step of a path, and those before it.
#[derive(Debug)]
struct Step<'a> {
    before: Option<Rc<Step<'a>>>,
    to: To<'a>,
}

#[derive(Debug)]
enum To<'a> {
    /// A path that was known.
    Known(String),
    Member(&'a str),
    Item(usize),
}

impl<'a> At<'a> {
    /// The whole document.
    pub(crate) fn root(value: &'a Value) -> Self {
        At { place: None, value }
    }

    /// A value whose place is already known.
    pub(crate) fn new(path: impl Into<String>, value: &'a Value) -> Self {
        At { place: Some(Rc::new(Step { before: None, to: To::Known(path.into()) })), value }
    }

    pub(crate) fn path(&self) -> String {
        let steps = std::iter::successors(self.place.as_deref(), |step| step.before.as_deref());
        let steps: Vec<&Step<'_>> = steps.collect();
        steps.iter().rev().fold(String::new(), |path, step| match &step.to {
            To::Known(known) => known.clone(),
            To::Member(key) => member(&path, key),
            To::Item(index) => format!("{path}[{index}]"),
        })
    }

    /// The member `key`, which is `value`.
    pub(crate) fn member(&self, key: &'a str, value: &'a Value) -> At<'a> {
        self.inner(To::Member(key), value)
    }

    /// The element `index` of a list, which is `value`.
    pub(crate) fn item(&self, index: usize, value: &'a Value) -> At<'a> {
        self.inner(To::Item(index), value)
    }

    fn inner(&self, to: To<'a>, value: &'a Value) -> At<'a> {
        At { place: Some(Rc::new(Step { before: self.place.clone(), to })), value }
    }

    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    pub(crate) fn error(&self, problem: impl Into<String>) -> FieldError {
        FieldError::of_value(self.path(), self.value, problem)
    }

    /// An error about an object that is better known by `name` than by all that it holds.
    pub(crate) fn error_of(&self, name: &str, problem: &str) -> FieldError {
        FieldError::new(self.path(), name, problem)
    }

    pub(crate) fn object(&self) -> Result<&'a Map<String, Value>, FieldError> {
        self.value.as_object().ok_or_else(|| self.error("must be an object"))
    }

    /// The member `key`; `None` if it is absent or null.
    pub(crate) fn get(&self, key: &str) -> Result<Option<At<'a>>, FieldError> {
        Ok(match self.object()?.get_key_value(key) {
            None | Some((_, Value::Null)) => None,
            Some((key, value)) => Some(self.member(key, value)),
        })
    }

    /// The value several members down; `None` as soon as one is absent or null.
    pub(crate) fn get_in(&self, keys: &[&str]) -> Result<Option<At<'a>>, FieldError> {
        let mut at = self.clone();
        for key in keys {
            match at.get(key)? {
                Some(inner) => at = inner,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// The member `key`, which must be there.
    pub(crate) fn require(&self, key: &str) -> Result<At<'a>, FieldError> {
        self.get(key)?.ok_or_else(|| FieldError::missing(member(&self.path(), key), "is required"))
    }

    /// The members in the order of their keys, those that are null left out. The API server sends keys in this order too.
    pub(crate) fn entries(&self) -> Result<BTreeMap<&'a str, At<'a>>, FieldError> {
        let present = self.object()?.iter().filter(|(_, value)| !value.is_null());
        Ok(present.map(|(key, value)| (key.as_str(), self.member(key, value))).collect())
    }

    /// The elements of a list.
    pub(crate) fn items(&self) -> Result<Vec<At<'a>>, FieldError> {
        let list = self.value.as_array().ok_or_else(|| self.error("must be a list"))?;
        Ok(list.iter().enumerate().map(|(i, value)| self.item(i, value)).collect())
    }

    pub(crate) fn str(&self) -> Result<&'a str, FieldError> {
        self.value.as_str().ok_or_else(|| {
            let hint = if self.value.is_number() || self.value.is_boolean() { ": put it in quotes" } else { "" };
            self.error(format!("must be a string{hint}"))
        })
    }

    pub(crate) fn int(&self) -> Result<i64, FieldError> {
        self.value.as_i64().ok_or_else(|| self.error("must be an integer"))
    }

    pub(crate) fn bool(&self) -> Result<bool, FieldError> {
        self.value.as_bool().ok_or_else(|| self.error("must be true or false"))
    }

    /// The string member `key`, empty if it is absent.
    pub(crate) fn text(&self, key: &str) -> Result<String, FieldError> {
        match self.object()?.get(key) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => self.require(key)?.str().map(str::to_owned),
        }
    }

    /// The member `key` as a map of strings, empty if it is absent.
    pub(crate) fn text_map(&self, key: &str) -> Result<BTreeMap<String, String>, FieldError> {
        let Some(map) = self.get(key)? else { return Ok(BTreeMap::new()) };
        let text = |key: &'a String, value: &'a Value| match value {
            Value::String(text) => Ok(text.clone()),
            other => map.member(key, other).str().map(str::to_owned),
        };
        let present = map.object()?.iter().filter(|(_, value)| !value.is_null());
        present.map(|(key, value)| Ok((key.clone(), text(key, value)?))).collect()
    }
}

/// The path of a member: `.name`, or `["odd/name"]` where the name is not a plain word.
pub(crate) fn member(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match (plain, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{path}.{key}"),
        (false, _) => format!("{path}[{key:?}]"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::At;

    #[test]
    fn paths_name_members_elements_and_odd_keys() {
        let value = json!({"spec": {"list": [{"limits": {"nvidia.com/gpu": 1}}]}});
        let limits = At::root(&value).require("spec").unwrap().require("list").unwrap().items().unwrap()[0].clone();
        let gpu = limits.get_in(&["limits", "nvidia.com/gpu"]).unwrap().unwrap();
        assert_eq!(gpu.path(), "spec.list[0].limits[\"nvidia.com/gpu\"]");
    }

    #[test]
    fn null_counts_as_absent() {
        let value = json!({"a": null});
        assert!(At::root(&value).get("a").unwrap().is_none());
        assert_eq!(At::root(&value).require("a").unwrap_err().to_string(), "a: is required");
    }

    #[test]
    fn an_unquoted_number_gets_the_hint_to_quote_it() {
        let value = json!({"num-cpus": 4});
        let error = At::root(&value).text("num-cpus").unwrap_err();
        assert_eq!(error.to_string(), "[\"num-cpus\"]: 4: must be a string: put it in quotes");
    }
}
