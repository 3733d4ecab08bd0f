//! From a text to a scenario. Every error names file, line and field.

use std::fmt;

use serde_json::Value;

use super::{At, Scenario, check, trace};

/// Files beside the scenario, by their name in it. The simulator itself opens none.
pub type Files<'a> = dyn Fn(&str) -> Result<Vec<u8>, String> + 'a;

/// Why a scenario can't be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BadScenario {
    /// File.
    pub file: String,
    /// Line; 0: the file as a whole.
    pub line: u64,
    /// Field; empty where the text is no YAML.
    pub field: String,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl fmt::Display for BadScenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// Where an error is.
pub(super) struct Place<'a> {
    pub file: &'a str,
}

impl Place<'_> {
    /// About the field of something that stands in the file.
    pub(super) fn bad<T>(&self, at: &At<T>, field: impl Into<String>, problem: impl fmt::Display) -> BadScenario {
        let (field, problem) = (field.into(), problem.to_string());
        BadScenario { file: self.file.to_owned(), line: at.referenced.line(), field, problem }
    }

    /// About a field without a place.
    pub(super) fn plain(&self, field: impl Into<String>, problem: impl fmt::Display) -> BadScenario {
        BadScenario { file: self.file.to_owned(), line: 0, field: field.into(), problem: problem.to_string() }
    }
}

impl Scenario {
    /// Reads the scenario in `text`, which stands in `file`, with all manifests that it names.
    ///
    /// # Errors
    /// Names the first thing that can't be used.
    pub fn read(file: &str, text: &str, files: &Files<'_>) -> Result<Scenario, BadScenario> {
        let options = serde_saphyr::options! { with_snippet: false, };
        let mut scenario: Scenario =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| not_yaml(file, &error))?;
        let place = Place { file };
        for name in std::mem::take(&mut scenario.manifests) {
            let bad = |problem: String| place.bad(&name, "manifests", format!("{}: {problem}", name.value));
            let text = files(&name.value).map_err(bad)?;
            let text = String::from_utf8(text).map_err(|_| bad("must be UTF-8".to_owned()))?;
            let options = serde_saphyr::options! { with_snippet: false, };
            let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(&text, options)
                .map_err(|error| bad(format!("not YAML: {error}")))?;
            let documents = documents.into_iter().filter(|document| !document.is_null());
            let located = |value: Value| At::new(value, name.referenced, name.defined);
            scenario.objects.extend(documents.map(located));
        }
        scenario.jobs = trace::read(&scenario, files, &place)?;
        check::check(&scenario, &place)?;
        Ok(scenario)
    }
}

fn not_yaml(file: &str, error: &serde_saphyr::Error) -> BadScenario {
    let line = error.location().map_or(0, |location| location.line());
    let text = error.to_string();
    // The place is said once, in front.
    let problem = text.split(" at line ").next().unwrap_or(&text).trim_end_matches(':').to_owned();
    let problem = problem.strip_prefix(&format!("line {line} column ")).map_or(problem.clone(), |rest| {
        rest.split_once(": ").map_or_else(|| rest.to_owned(), |(_, rest)| rest.to_owned())
    });
    let field = problem.split('`').nth(1).unwrap_or_default().to_owned();
    BadScenario { file: file.to_owned(), line, field, problem }
}
