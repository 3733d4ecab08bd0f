//! Field by field: type, default, words, bounds, what is required, rules, how lists merge, columns.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use mobula_api::Kind;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::kuberay;

const DIFFERENCES: &str = include_str!("differences.yaml");

/// Differences that are meant.
#[derive(Debug, Deserialize)]
struct Meant {
    /// Kinds, all if empty.
    #[serde(default)]
    kinds: Vec<String>,
    /// Where: `*` at the start or end of a path stands for anything.
    paths: Vec<String>,
    /// Which part of it, any if empty.
    #[serde(default)]
    key: String,
    reason: String,
}

impl Meant {
    /// The path of ours that a difference is at.
    fn explains(&self, kind: Kind, path: &str, key: &str) -> Option<&str> {
        let is_of_kind = self.kinds.is_empty() || self.kinds.iter().any(|name| name == kind.as_str());
        let is_of_key = self.key.is_empty() || self.key == key;
        self.paths.iter().map(String::as_str).find(|own| is_of_kind && is_of_key && is_at(path, own))
    }
}

fn is_at(path: &str, pattern: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(rest), Some(_)) => path.contains(rest.trim_end_matches('*')),
        (Some(end), None) => path.ends_with(end),
        (None, Some(start)) => path.starts_with(start),
        (None, None) => path == pattern,
    }
}

pub fn run() -> Result<()> {
    let meant: Vec<Meant> = serde_saphyr::from_str(DIFFERENCES).context("differences.yaml")?;
    ensure!(meant.iter().all(|meant| !meant.reason.trim().is_empty()), "a difference without a reason");
    let mut used = BTreeSet::new();
    let mut unexplained = Vec::new();
    for kind in Kind::ALL {
        let (theirs, ours) = (flat(&kuberay(kind)?), flat(&kind.definition()));
        ensure!(theirs.len() > 1_000, "{kind:?}: KubeRay's definition has only {} fields", theirs.len());
        let none = Map::new();
        for path in theirs.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
            let (their, our) = (theirs.get(path).unwrap_or(&none), ours.get(path).unwrap_or(&none));
            for key in their.keys().chain(our.keys()).collect::<BTreeSet<_>>() {
                let (their, our) = (their.get(key), our.get(key));
                if their == our {
                    continue;
                }
                match meant.iter().enumerate().find_map(|(i, meant)| Some((i, meant.explains(kind, path, key)?))) {
                    Some(explained) => drop(used.insert(explained)),
                    None => unexplained.push(format!("{kind:?} {path} {key}: {} -> {}", shown(their), shown(our))),
                }
            }
        }
    }
    let count = unexplained.len();
    unexplained.truncate(40);
    ensure!(count == 0, "{count} differences that nobody has explained:\n{}", unexplained.join("\n"));
    let all = meant.iter().enumerate().flat_map(|(i, meant)| meant.paths.iter().map(move |path| (i, path.as_str())));
    let idle: Vec<&str> = all.filter(|explained| !used.contains(explained)).map(|(_, path)| path).collect();
    ensure!(idle.is_empty(), "explains no difference: {idle:?}");
    Ok(())
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), ToString::to_string)
}

/// Path → everything that a definition says there. Descriptions are for people.
fn flat(definition: &Value) -> BTreeMap<String, Map<String, Value>> {
    let mut all = BTreeMap::new();
    let spec = &definition["spec"];
    let mut names = spec.as_object().cloned().unwrap_or_default();
    names.remove("versions");
    all.insert("definition".to_owned(), names);
    for version in spec["versions"].as_array().into_iter().flatten() {
        let name = version["name"].as_str().unwrap_or_default();
        let mut rest = version.as_object().cloned().unwrap_or_default();
        rest.remove("schema");
        for column in rest.remove("additionalPrinterColumns").iter().filter_map(Value::as_array).flatten() {
            let path = format!("{name} column {}", column["name"].as_str().unwrap_or_default());
            all.insert(path, column.as_object().cloned().unwrap_or_default());
        }
        all.insert(name.to_owned(), rest);
        schema(&mut all, name, &version["schema"]["openAPIV3Schema"]);
    }
    all
}

fn schema(all: &mut BTreeMap<String, Map<String, Value>>, path: &str, node: &Value) {
    let mut here = node.as_object().cloned().unwrap_or_default();
    here.remove("description");
    for (name, field) in here.remove("properties").iter().filter_map(Value::as_object).flatten() {
        schema(all, &format!("{path}.{name}"), field);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(inner) = here.get(key).filter(|inner| inner.is_object()) {
            schema(all, &format!("{path}{mark}"), inner);
            here.remove(key);
        }
    }
    if let Some(Value::Array(names)) = here.get_mut("required") {
        names.sort_by_key(ToString::to_string);
    }
    if let Some(Value::Array(rules)) = here.get_mut("x-kubernetes-validations") {
        rules.iter_mut().for_each(|rule| *rule = json!([rule["rule"], rule["message"]]));
    }
    all.entry(path.to_owned()).or_default().extend(here);
}
