//! Cases that a real kube-apiserver and `mobula-apiserver` must answer alike.
//!
//! A case is a list of requests. What comes back is written down in the words that matter (codes, reasons, objects, events)
//! with ids, times and versions replaced, so that two transcripts can be compared. `differences` lists what differs on
//! purpose.

mod cases;
mod deleting;
mod differences;
mod normalise;
mod pods;
mod session;
mod watching;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::{Value, json};

pub use session::Session;

/// What a server answered, by case.
pub type Transcript = BTreeMap<String, Vec<Step>>;

/// A request and what came of it: a line with code and body, or lines of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Method, path and body.
    pub request: String,
    /// What came back, normalised.
    pub answer: String,
}

/// The group of the kind that the cases define for themselves.
pub const GROUP: &str = "conformance.mobula.example";

/// The definition of the kind `Widget`, which keeps whatever it is given.
pub fn widget_definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{GROUP}")},
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}

/// Runs all cases, each in a namespace of its own.
///
/// # Errors
/// If the server could not be spoken to.
pub async fn run(client: &kube::Client) -> Result<Transcript> {
    let mut transcript = Transcript::new();
    macro_rules! cases {
        ($($case:path),* $(,)?) => {$(
            let name = stringify!($case).replace("::", ": ").replace('_', " ");
            let mut session = Session::start(client.clone(), stringify!($case)).await?;
            $case(&mut session).await.with_context(|| format!("case `{name}`"))?;
            transcript.insert(name, session.finish());
        )*};
    }
    cases![
        cases::create_and_read,
        cases::what_is_refused,
        cases::update,
        cases::patches_for_another_of_the_name,
        cases::custom_objects,
        cases::json_patches,
        cases::merge_patches,
        cases::lists_and_selectors,
        cases::pages,
        cases::services_and_secrets,
        cases::events_have_two_names,
        cases::what_is_served,
        deleting::preconditions,
        deleting::finalizers,
        deleting::propagation,
        deleting::collections,
        deleting::dry_runs,
        deleting::namespaces,
        pods::life,
        pods::grace,
        pods::gates,
        pods::what_may_change,
        watching::changes,
        watching::selectors,
        watching::beginnings,
    ];
    Ok(transcript)
}

/// What differs between two transcripts, in lines for people. Empty if nothing does.
pub fn compare(real: &Transcript, ours: &Transcript) -> Vec<String> {
    let nothing = Vec::new();
    let mut found = Vec::new();
    for case in real.keys().chain(ours.keys().filter(|case| !real.contains_key(*case))) {
        let (real, ours) = (real.get(case).unwrap_or(&nothing), ours.get(case).unwrap_or(&nothing));
        for at in 0..real.len().max(ours.len()) {
            let absent = Step { request: "nothing".into(), answer: String::new() };
            let (real, ours) = (real.get(at).unwrap_or(&absent), ours.get(at).unwrap_or(&absent));
            if real.request != ours.request {
                found.push(format!("{case}: the real server is asked {}, ours {}", real.request, ours.request));
            } else if real.answer != ours.answer {
                let difference = normalise::difference(&real.answer, &ours.answer);
                found.push(format!("{case}: {}\n{difference}", real.request));
            }
        }
    }
    found
}

/// A transcript as a file.
pub fn to_text(transcript: &Transcript) -> String {
    let mut text = String::new();
    for (case, steps) in transcript {
        let _ = writeln!(text, "# {case}");
        for step in steps {
            let _ = writeln!(text, "> {}", step.request);
            step.answer.lines().for_each(|line| text.extend([line, "\n"]));
        }
    }
    text
}

/// A file as a transcript.
///
/// # Errors
/// If it has lines before the first case or request.
pub fn from_text(text: &str) -> Result<Transcript> {
    let mut transcript = Transcript::new();
    let mut case: Option<&mut Vec<Step>> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# ") {
            case = Some(transcript.entry(name.to_owned()).or_default());
            continue;
        }
        let steps = case.as_mut().with_context(|| format!("`{line}` belongs to no case"))?;
        if let Some(request) = line.strip_prefix("> ") {
            steps.push(Step { request: request.to_owned(), answer: String::new() });
            continue;
        }
        let step = steps.last_mut().with_context(|| format!("`{line}` belongs to no request"))?;
        if !step.answer.is_empty() {
            step.answer.push('\n');
        }
        step.answer.push_str(line);
    }
    Ok(transcript)
}
