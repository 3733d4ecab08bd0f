//! Differences between two sets of objects, and which of them are meant.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;
use serde_json::Value;

/// One place where the two differ.
#[derive(Debug)]
pub struct Finding {
    /// `Kind/name`, empty for the whole input.
    object: String,
    /// JSON path in the object; empty for the whole object.
    path: String,
    kuberay: Option<Value>,
    ours: Option<Value>,
}

impl Finding {
    /// We refuse what was recorded.
    pub fn refused(error: &str) -> Self {
        Finding { object: String::new(), path: "refused".to_owned(), kuberay: None, ours: Some(error.into()) }
    }
}

/// All places where the objects differ, by `Kind/name`.
pub fn objects(kuberay: &BTreeMap<String, Value>, ours: &BTreeMap<String, Value>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let names: std::collections::BTreeSet<&String> = kuberay.keys().chain(ours.keys()).collect();
    for name in names {
        values(name, "", kuberay.get(name), ours.get(name), &mut findings);
    }
    findings
}

fn values(object: &str, path: &str, kuberay: Option<&Value>, ours: Option<&Value>, findings: &mut Vec<Finding>) {
    match (kuberay, ours) {
        (Some(Value::Object(left)), Some(Value::Object(right))) => {
            let keys: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for key in keys {
                let plain = key.bytes().all(|b| b.is_ascii_alphanumeric());
                let inner = if plain { format!("{path}.{key}") } else { format!("{path}[{key}]") };
                values(object, inner.trim_start_matches('.'), left.get(key), right.get(key), findings);
            }
        }
        (Some(Value::Array(left)), Some(Value::Array(right))) => {
            for index in 0..left.len().max(right.len()) {
                let label = element_name(left.get(index)).unwrap_or_else(|| index.to_string());
                values(object, &format!("{path}[{label}]"), left.get(index), right.get(index), findings);
            }
        }
        (left, right) if left == right => {}
        (left, right) => findings.push(Finding {
            object: object.to_owned(),
            path: path.to_owned(),
            kuberay: left.cloned(),
            ours: right.cloned(),
        }),
    }
}

/// Elements with a name are shown by it.
fn element_name(element: Option<&Value>) -> Option<String> {
    Some(element?.get("name")?.as_str()?.to_owned())
}

/// What the file holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    objects: Vec<Entry>,
    behaviours: Vec<Behaviour>,
}

/// What the operator does otherwise, and can't be seen in what was recorded.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Behaviour {
    kuberay: String,
    mobula: String,
    /// Why.
    reason: String,
    /// Names of tests that show it.
    tests: Vec<String>,
}

/// A difference that is meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Inputs that it may occur in; none: all.
    #[serde(default)]
    inputs: Vec<String>,
    /// Kind of object; empty: the whole input.
    #[serde(default)]
    kind: String,
    /// Path in the object: the whole path, or its beginning. `[*]` is any element.
    path: String,
    /// Why.
    reason: String,
    #[serde(skip)]
    used: bool,
}

impl Entry {
    fn covers(&self, path: &str) -> bool {
        let mut rest = path;
        self.path.split("[*]").enumerate().all(|(index, part)| {
            if index > 0 {
                rest = rest.split_once(']').map_or("", |(_, rest)| rest);
            }
            let found = rest.strip_prefix(part);
            rest = found.unwrap_or_default();
            found.is_some()
        })
    }
}

/// All differences that are meant.
pub struct Differences {
    objects: Vec<Entry>,
    shown_by: Vec<String>,
}

impl Differences {
    /// Reads them.
    pub fn read(file: &Path) -> Self {
        let File { objects, behaviours } = serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        assert!(objects.iter().all(|entry| entry.reason.len() > 20), "every difference has a reason");
        for Behaviour { kuberay, mobula, reason, tests } in &behaviours {
            assert!(
                [kuberay, mobula, reason].iter().all(|text| text.len() > 20),
                "{mobula} says both sides and a reason"
            );
            assert!(!tests.is_empty(), "{mobula}: is shown by no test");
        }
        Differences { objects, shown_by: behaviours.into_iter().flat_map(|behaviour| behaviour.tests).collect() }
    }

    /// Findings that no entry explains, as lines.
    pub fn unexplained(&mut self, input: &str, findings: Vec<Finding>) -> String {
        let show = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
        let mut lines = String::new();
        for finding in findings {
            let explains = |entry: &Entry| {
                let kind = finding.object.split('/').next().unwrap_or_default();
                (entry.inputs.is_empty() || entry.inputs.iter().any(|named| named == input))
                    && entry.kind == kind
                    && entry.covers(&finding.path)
            };
            match self.objects.iter_mut().find(|entry| explains(entry)) {
                Some(entry) => entry.used = true,
                None => {
                    let Finding { object, path, kuberay, ours } = &finding;
                    let (kuberay, ours) = (show(kuberay), show(ours));
                    lines += &format!("{input}: {object}: {path}\n  KubeRay: {kuberay}\n  ours:    {ours}\n");
                }
            }
        }
        lines
    }

    /// Tests that are to show how the operator behaves, and that none of these sources has, as lines.
    pub fn not_shown(&self, sources: &[String]) -> String {
        let is_there = |test: &str| sources.iter().any(|source| source.contains(&format!("fn {test}()")));
        let missing = self.shown_by.iter().filter(|test| !is_there(test));
        missing.map(|test| format!("differences.yaml: {test}: there is no such test\n")).collect()
    }

    /// Entries that explain nothing, as lines.
    pub fn unused(&self) -> String {
        let unused = self.objects.iter().filter(|entry| !entry.used);
        unused
            .map(|entry| format!("differences.yaml: {} {}: explains nothing any more\n", entry.kind, entry.path))
            .collect()
    }
}
